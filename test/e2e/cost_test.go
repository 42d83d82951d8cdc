// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	costRounds = 5
	// countedEvents is how many of a workload in a round are enough to say what one costs.
	countedEvents = 500
	starts        = 5
	// memoryGoal is for memoryGoalRate events a second, MiB resident.
	memoryGoal     = 120
	memoryGoalRate = 10_000
	// steady is how long a collector runs before it is weighed, and then weighed again each second.
	steady, weighed = 5 * time.Second, 10
	// playedEvents is how large the recording is that shows what one CPU can take.
	playedEvents, playedRounds = 300_000, 3
)

// phase is what observes the workloads of a round.
type phase int

const (
	alone phase = iota
	withCollector
	withLimits   // the same, with the limits that deploy/ has
	withCounting // as withCollector, while the kernel counts the programs' time, which costs time itself
	withBPFTrace
	phases
)

// withNop has the collector make everything and write nothing. What it would write to is not what is
// measured.
var withNop = []string{
	"exporters::nop: {}",
	"service::pipelines: {traces: {exporters: [nop]}, metrics: {exporters: [nop]}, logs: {exporters: [nop]}}",
	"receivers::tapioebpf::metrics::interval: 10s",
}

// deployedLimits are those of the agents in deploy/.
const (
	limitsOfAgents = "rate_limits: {process: 1000, network: 5000, dns: 5000, http: 10000, security: 500}"
	deployedLimits = "receivers::tapioebpf::" + limitsOfAgents
)

// costs are what is measured, in the order of the rounds.
type costs struct {
	t         *testing.T
	scope     cgroup
	workloads []*costWorkload
	measured  map[string][phases][]costRound // by workload
	peaks     []float64                      // of the collector beside the workloads, MiB
	without   string                         // why there is no bpftrace
}

// TestCost prints a table of what the collector costs those that it observes, and itself. Goals are in the table; the test
// fails only if it cannot measure. It takes minutes of a machine without other work: make bench.
func TestCost(t *testing.T) {
	if os.Getenv("TAPIO_BENCH") != "1" {
		t.Skip("set TAPIO_BENCH=1 to run it, or: make bench")
	}
	requireBPF(t)
	before := loadAverage(t)
	scope := newCgroup(t)
	c := &costs{t: t, scope: scope, workloads: costWorkloads(t, scope), measured: map[string][phases][]costRound{}}
	rounds := benchRounds(t)
	c.workAlone() // warm
	c.measured = map[string][phases][]costRound{}
	for round := range rounds {
		fmt.Printf("%s round %d of %d\n", time.Now().Format(time.TimeOnly), round+1, rounds)
		c.round(round)
	}
	fmt.Println(time.Now().Format(time.TimeOnly), "the collector by itself")
	figures := slices.Concat(c.throughput(), c.events(), c.programs(), memory(t, c.peaks), startup(t, scope), oneCPU(t, min(rounds, playedRounds)), size(t))
	fmt.Printf("Load of the machine before: %sand after: %sInterleaved rounds, of which medians are shown: %d.\n\n%s\n", before, loadAverage(t), rounds, costTable(figures))
}

func benchRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TAPIO_BENCH_ROUNDS")
	if text == "" {
		return costRounds
	}
	rounds, err := strconv.Atoi(text)
	require.NoError(t, err, "TAPIO_BENCH_ROUNDS")
	require.Positive(t, rounds, "TAPIO_BENCH_ROUNDS")
	return rounds
}

// round has all phases, each time another one first.
func (c *costs) round(n int) {
	c.t.Helper()
	run := [phases]func(){
		alone:         c.workAlone,
		withCollector: func() { c.workObserved(withCollector) },
		withLimits:    func() { c.workObserved(withLimits, deployedLimits) },
		withCounting:  func() { c.workObserved(withCounting) },
		withBPFTrace:  c.workTraced,
	}
	for i := range run {
		run[(n+i)%len(run)]()
	}
}

func (c *costs) workAlone() {
	c.t.Helper()
	c.work(alone, func(w *costWorkload) (r costRound) {
		r.units, r.took = w.run()
		return r
	})
}

// workObserved by a collector that starts before and ends after.
func (c *costs) workObserved(as phase, overrides ...string) {
	c.t.Helper()
	observer, counting := startDefault(c.t, c.scope, slices.Concat(withNop, overrides)...), as == withCounting
	if counting {
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		require.NoError(c.t, err)
		defer stats.Close()
	}
	c.work(as, func(w *costWorkload) (r costRound) {
		before := observer.reading(counting)
		r.units, r.took = w.run()
		observer.quiet()
		r.reading = observer.reading(counting).since(before)
		return r
	})
	if as == withCollector {
		c.peaks = append(c.peaks, mebibytes(observer.statusBytes("VmHWM")))
	}
	observer.terminate()
}

// workTraced is beside bpftrace, for as long as that has run in this test.
func (c *costs) workTraced() {
	c.t.Helper()
	if c.without != "" {
		return
	}
	tracer, err := startBPFTrace(c.t, c.scope)
	if err != nil {
		c.without = err.Error()
		return
	}
	c.work(withBPFTrace, func(w *costWorkload) (r costRound) {
		r.units, r.took = w.run()
		return r
	})
	require.Contains(c.t, tracer.stop(c.t), "@fork[", "bpftrace has seen the workloads start")
}

func (c *costs) work(as phase, measure func(*costWorkload) costRound) {
	c.t.Helper()
	for _, w := range c.workloads {
		if w.missing == "" {
			m := c.measured[w.name]
			m[as] = append(m[as], measure(w))
			c.measured[w.name] = m
		}
	}
}

// eachRound of a workload says something.
func eachRound(rounds []costRound, say func(costRound) float64) []float64 {
	var values []float64
	for _, r := range rounds {
		values = append(values, say(r))
	}
	return values
}

// throughput of the applications.
func (c *costs) throughput() (figures []figure) {
	for _, w := range c.workloads {
		m := c.measured[w.name]
		rate := func(p phase) []float64 { return eachRound(m[p], costRound.rate) }
		ratio := figure{what: w.name + ": throughput with the collector / without", values: ratios(rate(withCollector), rate(alone)), goal: w.goal, instead: w.missing}
		if w.missing != "" {
			figures = append(figures, ratio)
			continue
		}
		traced := figure{what: w.name + ": with bpftrace, processes and connections / without", instead: c.without}
		if c.without == "" {
			traced.values = ratios(rate(withBPFTrace), rate(alone))
		}
		limited := figure{what: w.name + ": with the collector and rate limits / without", values: ratios(rate(withLimits), rate(alone))}
		figures = append(figures, figure{what: w.name + ": without", unit: w.rateUnit, values: rate(alone)}, ratio, limited, traced)
	}
	return figures
}

// events of each workload, and what one costs.
func (c *costs) events() (figures []figure) {
	for _, w := range c.workloads {
		if w.missing != "" {
			continue
		}
		m := c.measured[w.name]
		add := func(what, unit string, from phase, say func(costRound) float64, g goal) {
			figures = append(figures, figure{what: w.name + ": " + what, unit: unit, values: eachRound(m[from], say), goal: g})
		}
		add("events", "events/s", withCollector, costRound.eventRate, goal{})
		add("eBPF, all programs, a "+w.unit, "ns", withCounting, costRound.bpfAUnit, w.bpfGoal)
		if m[withCollector][0].seen < countedEvents {
			continue
		}
		add("eBPF, all programs, an event", "ns", withCounting, costRound.bpfAnEvent, goal{})
		add("events lost", "%", withCollector, costRound.lostPercent, goal{})
		if m[withCollector][0].exchanges > countedEvents {
			add("exchanges of which only metrics tell", "%", withCollector, costRound.spanlessPercent, goal{})
		}
		add("collector's CPU time an event, in user space", "µs", withCollector, costRound.userAnEvent, goal{})
		add("collector's CPU time an event, in the kernel", "µs", withCollector, costRound.systemAnEvent, goal{})
		add("with rate limits: events", "events/s", withLimits, costRound.eventRate, goal{})
		add("with rate limits: collector's CPU time an event, in user space", "µs", withLimits, costRound.userAnEvent, goal{})
	}
	return figures
}

// programs over all workloads.
func (c *costs) programs() (figures []figure) {
	var sums []map[string]programRuns // by round
	for _, m := range c.measured {
		for i, r := range m[withCounting] {
			if i == len(sums) {
				sums = append(sums, map[string]programRuns{})
			}
			for name, p := range r.programs {
				sums[i][name] = programRuns{time: sums[i][name].time + p.time, runs: sums[i][name].runs + p.runs}
			}
		}
	}
	aRun := map[string][]float64{}
	for _, sum := range sums {
		for name, p := range sum {
			aRun[name] = append(aRun[name], float64(p.time.Nanoseconds())/float64(p.runs))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(aRun)) {
		figures = append(figures, figure{what: "eBPF: a run of " + name, unit: "ns", values: aRun[name]})
	}
	return figures
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// memory at several rates. Nothing makes real events at a given rate, so that they are the simulator's, which has no rings.
func memory(t *testing.T, peaks []float64) []figure {
	t.Helper()
	figures := []figure{{what: "resident, at most beside the workloads", unit: "MiB", values: peaks}}
	forgetBinary(t)
	atRest := startDefault(t, newCgroup(t), withNop...)
	weight, _ := atRest.weigh()
	atRest.terminate()
	figures = append(figures, figure{what: "resident, 0 events/s, eBPF", unit: "MiB", values: weight})
	for _, rate := range []int{1000, 10_000, 50_000} {
		c := startDefault(t, cgroup{}, append([]string{
			"receivers::tapioebpf::source: simulator", "receivers::tapioebpf::simulator::rate: " + strconv.Itoa(rate),
		}, withNop...)...)
		weight, reached := c.weigh()
		what := fmt.Sprintf("resident, %s events/s asked of the simulator, %s made", digits(float64(rate)), digits(reached))
		f := figure{what: what, unit: "MiB", values: weight}
		if rate == memoryGoalRate {
			f.goal = atMost(memoryGoal)
		}
		figures = append(figures, f, figure{what: what + ": at most", unit: "MiB", values: []float64{mebibytes(c.statusBytes("VmHWM"))}})
		c.terminate()
	}
	return figures
}

// weigh a collector that has come to run steadily, in MiB, and say how many events came in a second meanwhile.
func (c *collector) weigh() (weights []float64, eventRate float64) {
	c.t.Helper()
	time.Sleep(steady)
	before, began := c.stats().TotalEvents, time.Now()
	for range weighed {
		time.Sleep(time.Second)
		weights = append(weights, mebibytes(c.residentMemory()))
	}
	return weights, float64(c.stats().TotalEvents-before) / time.Since(began).Seconds()
}

// startup is from the start of the program until it says to be ready, with all hooks attached.
func startup(t *testing.T, scope cgroup) []figure {
	t.Helper()
	var took, cpu []float64
	for range starts {
		began := time.Now()
		c := launchDefault(t, scope, withNop...)
		require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, 5*time.Millisecond, "the collector is not ready")
		took = append(took, time.Since(began).Seconds())
		user, system := c.cpuTime()
		cpu = append(cpu, (user + system).Seconds())
		c.end() // not by SIGTERM, which a collector that has just become ready does not handle yet
	}
	return []figure{{what: "start, until it is ready", unit: "s", values: took}, {what: "start: CPU time", unit: "s", values: cpu}}
}

// oneCPU takes what it can, from decoding to an exporter that does nothing.
func oneCPU(t *testing.T, rounds int) []figure {
	t.Helper()
	file := filepath.Join(t.TempDir(), "simulated")
	recordSimulated(t, file, playedEvents)
	var rates []float64
	for range rounds {
		rates = append(rates, playAll(t, file, nil, withNop).events)
	}
	return []figure{{what: "one CPU: events from a recording to pdata", unit: "events/s", values: rates, goal: atLeast(eventsGoal)}}
}

func size(t *testing.T) []figure {
	t.Helper()
	info, err := os.Stat(binary(t))
	require.NoError(t, err)
	return []figure{{what: "binary", unit: "MB", values: []float64{float64(info.Size()) / 1e6}}}
}
