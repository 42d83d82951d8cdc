// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

const (
	pipelineEvents = 1_000_000
	pipelineRounds = 3

	// what one CPU should be able to take, a second
	eventsGoal = 300_000 // to pdata
	spansGoal  = 150_000 // as OTLP

	// profiledFor so many seconds of a run of its own.
	profiledFor = 3
)

// TestPipelineLoad shows what all behind the kernel can take, on one CPU: a recording of simulated
// events, read as fast as it can be, to an exporter that does nothing, and as OTLP to another collector
// on another CPU, until that has all of it. It takes minutes of a machine without other work: make bench-pipeline.
func TestPipelineLoad(t *testing.T) {
	if os.Getenv("TAPIO_BENCH") != "1" {
		t.Skip("set TAPIO_BENCH=1 to run it, or: make bench-pipeline")
	}
	file := filepath.Join(t.TempDir(), "simulated")
	recordSimulated(t, file, pipelineEvents)
	port := porttest.Free(t)
	sink := launch(t, binary(t), nil, "", "receivers::otlp::protocols::grpc::endpoint: 127.0.0.1:"+strconv.Itoa(port), "exporters::nop: {}",
		"service::pipelines: {traces: {receivers: [otlp], exporters: [nop]}, metrics: {receivers: [otlp], exporters: [nop]}, logs: {receivers: [otlp], exporters: [nop]}}")
	sink.pinTo(1)
	require.Eventually(t, func() bool { _, _, err := get(sink.telemetryURL); return err == nil }, patience, pollInterval, "the other collector")
	otlp := func(compression string) []string {
		return []string{
			fmt.Sprintf("exporters::otlp_grpc: {endpoint: 127.0.0.1:%d, compression: %s, tls: {insecure: true}, sending_queue: {sizer: items, queue_size: 200000, block_on_overflow: true}}", port, compression),
			"service::pipelines: {traces: {exporters: [otlp_grpc]}, metrics: {exporters: [otlp_grpc]}, logs: {exporters: [otlp_grpc]}}",
		}
	}
	fmt.Printf("goals: %d events/s to pdata, %d spans/s as OTLP; load of the machine: %s", eventsGoal, spansGoal, loadAverage(t))
	for _, to := range []struct {
		name      string
		overrides []string
		sink      *collector // nil: nobody takes it
	}{
		{"nop", withNop, nil},
		{"otlp-gzip", otlp("gzip"), sink},
		{"otlp-zstd", otlp("zstd"), sink},
		{"otlp-none", otlp("none"), sink},
	} {
		var rates, spans, cpu []float64
		for range pipelineRounds {
			r := playAll(t, file, to.sink, to.overrides)
			rates, spans, cpu = append(rates, r.events), append(spans, r.spans), append(cpu, r.cpu)
		}
		fmt.Printf("to %-9s %7.0f events/s, %7.0f spans/s, %.2f µs of CPU time an event (medians of %d)\n", to.name, median(rates), median(spans), median(cpu), pipelineRounds)
		profile(t, to.name, file, to.overrides)
	}
}

func loadAverage(t *testing.T) string {
	t.Helper()
	load, err := os.ReadFile("/proc/loadavg")
	require.NoError(t, err)
	return string(load)
}

func recordSimulated(t *testing.T, file string, events uint64) {
	t.Helper()
	c := startCollectorAnywhere(t, append([]string{
		"receivers::tapioebpf::source: simulator", "receivers::tapioebpf::simulator::rate: 0",
		fmt.Sprintf("receivers::tapioebpf::recording: {file: %s, max_size: 4GiB}", file),
	}, withNop...)...)
	require.Eventually(t, func() bool { return c.stats().TotalEvents >= events }, 5*time.Minute, 10*time.Millisecond)
	c.terminate()
}

// startCollectorAnywhere is for one that has no use for a scope.
func startCollectorAnywhere(t *testing.T, overrides ...string) *collector {
	t.Helper()
	c := launch(t, binary(t), nil, "", overrides...)
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	return c
}

func (c *collector) pinTo(cpu int) {
	c.t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", c.command.Process.Pid))
	require.NoError(c.t, err)
	for _, task := range tasks {
		_ = unix.SchedSetaffinity(int(number(filepath.Base(task))), &set) // one that has ended meanwhile
	}
}

var acceptedSpans = regexp.MustCompile(`(?m)^otelcol_receiver_accepted_spans\S*\{.*\} (\S+)$`)

// acceptedSpans by the next component, by the collector's own metrics.
func (c *collector) acceptedSpans() float64 {
	c.t.Helper()
	_, body, err := get(c.telemetryURL)
	require.NoError(c.t, err)
	match := acceptedSpans.FindStringSubmatch(body)
	if match == nil {
		return 0 // there were none so far
	}
	n, err := strconv.ParseFloat(match[1], 64)
	require.NoError(c.t, err)
	return n
}

type playing struct{ events, spans, cpu float64 }

// progress is what has arrived so far, and what of the machine it has cost.
type progress struct {
	at            time.Time
	events, spans float64
	cpu           time.Duration
}

// progressOf a collector. What is in its exporter's queue has not arrived: spans are those that the sink has taken.
func progressOf(c, sink *collector) progress {
	user, system := c.cpuTime()
	p := progress{at: time.Now(), events: float64(c.stats().TotalEvents), cpu: user + system}
	if sink != nil {
		p.spans = sink.acceptedSpans()
	} else {
		p.spans = c.acceptedSpans()
	}
	return p
}

func startPlaying(t *testing.T, file string, overrides []string) *collector {
	t.Helper()
	c := launch(t, binary(t), nil, "", append([]string{
		"receivers::tapioebpf::source: replay", fmt.Sprintf("receivers::tapioebpf::replay: {file: %s, speed: 0}", file),
	}, overrides...)...)
	c.pinTo(0)
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, time.Millisecond, "the collector is not ready")
	return c
}

// playAll plays a recording on CPU 0. What is counted begins when it is all read once, and checked, and ends when the
// sink has it all.
func playAll(t *testing.T, file string, sink *collector, overrides []string) playing {
	t.Helper()
	before := 0.0
	if sink != nil {
		before = sink.acceptedSpans()
	}
	c := startPlaying(t, file, overrides)
	began := progressOf(c, sink)
	last := began
	for unchanged := 0; unchanged < 10; time.Sleep(50 * time.Millisecond) {
		now := progressOf(c, sink)
		if now.events == last.events && now.spans == last.spans {
			if sink == nil || now.spans-before == c.acceptedSpans() {
				unchanged++
			}
			require.Less(t, time.Since(last.at), time.Minute, "spans do not arrive")
			continue
		}
		last, unchanged = now, 0
	}
	if sink != nil {
		require.InDelta(t, c.acceptedSpans(), last.spans-before, 100, "all spans have arrived, but for what was held and comes just now")
	}
	for family, r := range c.terminate() {
		if family == "dns" {
			delete(r.Lost, "shutdown") // queries whose answers are not in the recording
		}
		require.Empty(t, r.Lost, family)
	}
	events, elapsed := last.events-began.events, last.at.Sub(began.at).Seconds()
	return playing{
		events: events / elapsed, spans: (last.spans - began.spans) / elapsed,
		cpu: float64((last.cpu - began.cpu).Nanoseconds()) / 1e3 / events,
	}
}

// profile plays the recording once more, and says what the CPU's time went to. The profile stays beside the binary.
func profile(t *testing.T, name, file string, overrides []string) {
	t.Helper()
	port := porttest.Free(t)
	c := startPlaying(t, file, append(slices.Clone(overrides), fmt.Sprintf("extensions::pprof: {endpoint: 127.0.0.1:%d}", port), "service::extensions: [tapio, pprof]"))
	_, body, err := get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%d", port, profiledFor))
	require.NoError(t, err)
	c.terminate()
	kept := filepath.Join(filepath.Dir(binary(t)), "pipeline-"+name+".pprof")
	require.NoError(t, os.WriteFile(kept, []byte(body), 0o600))
	for _, order := range []string{"-flat", "-cum"} {
		top, err := exec.Command("go", "tool", "pprof", "-top", order, "-nodecount=25", kept).Output()
		require.NoError(t, err)
		fmt.Printf("%s, %s:\n%s\n", kept, order, top)
	}
}
