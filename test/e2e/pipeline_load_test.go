// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	pipelineEvents = 1_000_000
	pipelineRounds = 3
)

// TestPipelineLoad shows what all behind the kernel can take, on one CPU: a recording of simulated
// events, read as fast as it can be, to an exporter that does nothing, and as OTLP to another collector
// on another CPU. It takes minutes of a machine without other work: make bench-pipeline.
func TestPipelineLoad(t *testing.T) {
	if os.Getenv("TAPIO_BENCH") != "1" {
		t.Skip("set TAPIO_BENCH=1 to run it, or: make bench-pipeline")
	}
	file := filepath.Join(t.TempDir(), "simulated")
	recordSimulated(t, file)
	port := freePort(t)
	sink := launch(t, binary(t), nil, "", "receivers::otlp::protocols::grpc::endpoint: 127.0.0.1:"+strconv.Itoa(port), "exporters::nop: {}",
		"service::pipelines: {traces: {receivers: [otlp], exporters: [nop]}, metrics: {receivers: [otlp], exporters: [nop]}, logs: {receivers: [otlp], exporters: [nop]}}")
	sink.pinTo(1)
	otlp := func(compression string) []string {
		return []string{
			fmt.Sprintf("exporters::otlp_grpc: {endpoint: 127.0.0.1:%d, compression: %s, tls: {insecure: true}, sending_queue: {sizer: items, queue_size: 200000, block_on_overflow: true}}", port, compression),
			"service::pipelines: {traces: {exporters: [otlp_grpc]}, metrics: {exporters: [otlp_grpc]}, logs: {exporters: [otlp_grpc]}}",
		}
	}
	for _, to := range []struct {
		name      string
		overrides []string
	}{
		{"nop", withNop},
		{"OTLP, gzip as by default", otlp("gzip")},
		{"OTLP, zstd", otlp("zstd")},
		{"OTLP, not compressed", otlp("none")},
	} {
		var rates, spans, cpu []float64
		for range pipelineRounds {
			r := playAll(t, file, to.overrides)
			rates, spans, cpu = append(rates, r.events), append(spans, r.spans), append(cpu, r.cpu)
		}
		fmt.Printf("to %-26s %7.0f events/s, %7.0f spans/s, %.2f µs of CPU time an event (medians of %d)\n", to.name, median(rates), median(spans), median(cpu), pipelineRounds)
	}
}

func recordSimulated(t *testing.T, file string) {
	t.Helper()
	c := startCollectorAnywhere(t, append([]string{
		"receivers::tapioebpf::source: simulator", "receivers::tapioebpf::simulator::rate: 0",
		fmt.Sprintf("receivers::tapioebpf::recording: {file: %s, max_size: 4GiB}", file),
	}, withNop...)...)
	require.Eventually(t, func() bool { return c.stats().TotalEvents >= pipelineEvents }, time.Minute, 10*time.Millisecond)
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

// playAll plays a recording on CPU 0. What is counted begins when it is all read once, and checked.
func playAll(t *testing.T, file string, overrides []string) playing {
	t.Helper()
	c := launch(t, binary(t), nil, "", append([]string{
		"receivers::tapioebpf::source: replay", fmt.Sprintf("receivers::tapioebpf::replay: {file: %s, speed: 0}", file),
	}, overrides...)...)
	c.pinTo(0)
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, time.Millisecond, "the collector is not ready")
	began, before := time.Now(), c.stats().TotalEvents
	spansBefore := c.acceptedSpans()
	user, system := c.cpuTime()
	last := before
	for unchanged := 0; unchanged < 10; time.Sleep(50 * time.Millisecond) {
		if now := c.stats().TotalEvents; now != last {
			last, unchanged = now, 0
			continue
		}
		unchanged++
	}
	elapsed := time.Since(began) - 10*50*time.Millisecond
	userNow, systemNow := c.cpuTime()
	events := float64(last - before)
	spans := c.acceptedSpans() - spansBefore
	rows := c.terminate()
	rows.requireNothingLost(t)
	return playing{
		events: events / elapsed.Seconds(), spans: spans / elapsed.Seconds(),
		cpu: float64((userNow + systemNow - user - system).Nanoseconds()) / 1e3 / events,
	}
}
