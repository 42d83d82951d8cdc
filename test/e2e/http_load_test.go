// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	loadRounds     = 7
	loadStatRounds = 3
	loadDuration   = "4s"
)

// withNop has the collector make everything and write nothing. What it would write to is not what is
// measured.
var withNop = []string{
	"exporters::nop: {}",
	"service::pipelines: {traces: {exporters: [nop]}, metrics: {exporters: [nop]}, logs: {exporters: [nop]}}",
	"receivers::tapioebpf::metrics::interval: 10s",
}

// loadRound is what was measured while wrk ran.
type loadRound struct {
	requests     int
	rate         float64 // requests a second
	user, system time.Duration
	memory, peak int64
	http         row
	programs     map[string]programRuns // where the kernel counted them
}

type programRuns struct {
	time time.Duration
	runs uint64
}

// TestHTTPLoad shows what the collector costs nginx and wrk, which both are in its scope. It takes
// minutes of a machine without other work: make bench-http.
func TestHTTPLoad(t *testing.T) {
	if os.Getenv("TAPIO_BENCH") != "1" {
		t.Skip("set TAPIO_BENCH=1 to run it, or: make bench-http")
	}
	requireBPF(t)
	scope := newCgroup(t)
	nginx := scope.startNginx(t, noUpstream)
	_ = scope.load(t, nginx) // warm
	var pairs []float64
	var without, with []loadRound
	for i := range loadRounds {
		pair := [2]loadRound{}
		for j := range 2 {
			if observed := (i + j) % 2; observed == 1 {
				pair[1] = scope.observedLoad(t, nginx, false)
			} else {
				pair[0] = scope.load(t, nginx)
			}
		}
		without, with = append(without, pair[0]), append(with, pair[1])
		pairs = append(pairs, pair[1].rate/pair[0].rate)
	}
	var counted []loadRound
	for range loadStatRounds {
		counted = append(counted, scope.observedLoad(t, nginx, true))
	}
	reportLoad(pairs, without, with)
	reportPrograms(counted)
}

func (g cgroup) load(t *testing.T, nginx *server) loadRound {
	t.Helper()
	began := time.Now()
	requests := g.wrk(t, "-t2", "-c64", "-d"+loadDuration, nginx.url("/load"))
	return loadRound{requests: requests, rate: float64(requests) / time.Since(began).Seconds()}
}

// observedLoad is the same with the collector, on the same CPUs. What the kernel counts costs time
// itself.
func (g cgroup) observedLoad(t *testing.T, nginx *server, countPrograms bool) loadRound {
	t.Helper()
	c := startCollector(t, g, withNop...)
	if countPrograms {
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		require.NoError(t, err)
		defer stats.Close()
	}
	user, system := c.cpuTime()
	round := g.load(t, nginx)
	c.quiet()
	userNow, systemNow := c.cpuTime()
	round.user, round.system = userNow-user, systemNow-system
	round.memory, round.peak = c.statusBytes("VmRSS"), c.statusBytes("VmHWM")
	if countPrograms {
		round.programs = c.programs()
	}
	round.http = c.terminate()["http"]
	return round
}

// cpuTime of the collector so far, in user space and in the kernel.
func (c *collector) cpuTime() (user, system time.Duration) {
	c.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.command.Process.Pid))
	require.NoError(c.t, err)
	_, rest, found := strings.Cut(string(stat), ") ")
	require.True(c.t, found)
	const tick = time.Second / 100 // USER_HZ, the same on all of our platforms
	fields := strings.Fields(rest)
	return time.Duration(number(fields[11])) * tick, time.Duration(number(fields[12])) * tick
}

// programs of the collector that have run, by name.
func (c *collector) programs() map[string]programRuns {
	c.t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", c.command.Process.Pid))
	require.NoError(c.t, err)
	ids := map[int64]bool{}
	for _, path := range paths {
		info, _ := os.ReadFile(path) // one that is closed meanwhile is no program
		if _, rest, found := strings.Cut(string(info), "\nprog_id:"); found {
			ids[number(strings.Fields(rest)[0])] = true
		}
	}
	found := map[string]programRuns{}
	for id := range ids {
		c.addProgram(found, ebpf.ProgramID(id))
	}
	return found
}

func (c *collector) addProgram(found map[string]programRuns, id ebpf.ProgramID) {
	c.t.Helper()
	program, err := ebpf.NewProgramFromID(id)
	require.NoError(c.t, err)
	defer program.Close()
	info, err := program.Info()
	require.NoError(c.t, err)
	stats, err := program.Stats()
	require.NoError(c.t, err)
	if stats.RunCount > 0 {
		found[info.Name] = programRuns{time: found[info.Name].time + stats.Runtime, runs: found[info.Name].runs + stats.RunCount}
	}
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// medianOf what each round says.
func medianOf(rounds []loadRound, say func(loadRound) float64) float64 {
	var values []float64
	for _, r := range rounds {
		values = append(values, say(r))
	}
	return median(values)
}

func reportLoad(pairs []float64, without, with []loadRound) {
	rate := func(r loadRound) float64 { return r.rate }
	perSpan := func(d time.Duration, r loadRound) float64 {
		return float64(d.Nanoseconds()) / 1e3 / float64(r.http.Exported)
	}
	fmt.Printf("throughput, with/without:        %.3f (median of %d pairs: %.3f)\n", median(pairs), len(pairs), slices.Sorted(slices.Values(pairs)))
	fmt.Printf("requests a second:               %.0f without, %.0f with\n", medianOf(without, rate), medianOf(with, rate))
	fmt.Printf("collector's CPU time a span:     %.2f µs in user space, %.2f µs in the kernel\n",
		medianOf(with, func(r loadRound) float64 { return perSpan(r.user, r) }), medianOf(with, func(r loadRound) float64 { return perSpan(r.system, r) }))
	fmt.Printf("resident memory:                 %.0f MiB, %.0f MiB at most\n",
		medianOf(with, func(r loadRound) float64 { return float64(r.memory) / (1 << 20) }), medianOf(with, func(r loadRound) float64 { return float64(r.peak) / (1 << 20) }))
	fmt.Printf("exchanges lost, by the ledger:   %.3f %% (median), in all %s\n",
		medianOf(with, func(r loadRound) float64 { return 100 * float64(lostOf(r.http)) / float64(r.http.Seen) }), sumOfLost(with))
}

func sumOfLost(rounds []loadRound) string {
	lost, seen := map[string]uint64{}, uint64(0)
	for _, r := range rounds {
		seen += r.http.Seen
		for reason, n := range r.http.Lost {
			lost[reason] += n
		}
	}
	return fmt.Sprintf("%v of %d", lost, seen)
}

func reportPrograms(rounds []loadRound) {
	perRequest := func(r loadRound) float64 {
		sum := time.Duration(0)
		for _, p := range r.programs {
			sum += p.time
		}
		return float64(sum.Nanoseconds()) / float64(r.requests)
	}
	fmt.Printf("eBPF, both ends of a request:    %.0f ns (median of %d rounds, in which the kernel counts)\n", medianOf(rounds, perRequest), len(rounds))
	slices.SortFunc(rounds, func(a, b loadRound) int { return cmp.Compare(perRequest(a), perRequest(b)) })
	middle := rounds[len(rounds)/2]
	for _, name := range slices.Sorted(maps.Keys(middle.programs)) {
		p := middle.programs[name]
		fmt.Printf("  %-18s %7.0f ns a request  %6.2f runs a request  %6.0f ns a run\n", name,
			float64(p.time.Nanoseconds())/float64(middle.requests), float64(p.runs)/float64(middle.requests), float64(p.time.Nanoseconds())/float64(p.runs))
	}
}
