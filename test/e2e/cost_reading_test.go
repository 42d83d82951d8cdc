// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

// reading is what a collector has seen so far, and what it has cost.
type reading struct {
	seen, lost          uint64 // events
	exchanges, spanless uint64 // HTTP exchanges, and those of which only metrics tell
	user, system        time.Duration
	programs            map[string]programRuns // where the kernel counts them
}

type programRuns struct {
	time time.Duration
	runs uint64
}

// costRound is what a workload did, and what the collector read meanwhile.
type costRound struct {
	units float64
	took  time.Duration
	reading
}

func (c *collector) reading(countPrograms bool) reading {
	c.t.Helper()
	var r reading
	r.user, r.system = c.cpuTime()
	rows := c.stats().Ledger
	for _, row := range rows {
		r.seen += row.Seen
		r.lost += uint64(lostOf(row))
	}
	r.exchanges, r.spanless = rows["http"].Seen, rows["http"].Aggregated
	if countPrograms {
		r.programs = c.programs()
	}
	return r
}

// since an earlier one. Programs that have not run are not in it.
func (r reading) since(before reading) reading {
	r.seen -= before.seen
	r.lost -= before.lost
	r.exchanges -= before.exchanges
	r.spanless -= before.spanless
	r.user -= before.user
	r.system -= before.system
	if r.programs == nil {
		return r
	}
	programs := map[string]programRuns{}
	for name, p := range r.programs {
		p.time -= before.programs[name].time
		p.runs -= before.programs[name].runs
		if p.runs > 0 {
			programs[name] = p
		}
	}
	r.programs = programs
	return r
}

// rate is in units a second.
func (r costRound) rate() float64      { return r.units / r.took.Seconds() }
func (r costRound) eventRate() float64 { return float64(r.seen) / r.took.Seconds() }

func (r costRound) lostPercent() float64     { return 100 * float64(r.lost) / float64(r.seen) }
func (r costRound) spanlessPercent() float64 { return 100 * float64(r.spanless) / float64(r.exchanges) }

// userAnEvent is in µs.
func (r costRound) userAnEvent() float64   { return r.user.Seconds() * 1e6 / float64(r.seen) }
func (r costRound) systemAnEvent() float64 { return r.system.Seconds() * 1e6 / float64(r.seen) }

// bpfAUnit is in ns, of all programs.
func (r costRound) bpfAUnit() float64   { return r.bpf() / r.units }
func (r costRound) bpfAnEvent() float64 { return r.bpf() / float64(r.seen) }

func (r costRound) bpf() (ns float64) {
	for _, p := range r.programs {
		ns += float64(p.time.Nanoseconds())
	}
	return ns
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
