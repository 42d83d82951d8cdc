// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func withProcessLimit(o *Options) {
	o.Families, o.RateLimits = []string{familyProcess}, map[string]uint64{familyProcess: 1}
}

// endsAndStarts of a world: its processes by status, and how many programs were started: what was told, and what was summed up.
func (w *world) endsAndStarts() (ends map[uint32]uint64, starts, summed uint64) {
	w.t.Helper()
	ends = map[uint32]uint64{}
	for _, record := range w.ofType(event.TypeProcessExit) {
		e, err := event.DecodeProcessExit(record)
		require.NoError(w.t, err)
		ends[e.Status]++
	}
	starts = uint64(len(w.ofType(event.TypeProcessExec)))
	for _, record := range w.ofType(event.TypeProcessSum) {
		e, err := event.DecodeProcessSum(record)
		require.NoError(w.t, err)
		assert.Zero(w.t, e.Header.Pid)
		summed += e.Sums.Events
		if event.Type(e.Key.Type) == event.TypeProcessExec {
			assert.Zero(w.t, e.Key.Status)
			starts += e.Sums.Events
		} else {
			ends[e.Key.Status] += e.Sums.Events
		}
	}
	return ends, starts, summed
}

// TestProcessesBeyondTheLimitAreSummedUp: with those that are told they are all, by how they ended.
func TestProcessesBeyondTheLimitAreSummedUp(t *testing.T) {
	const each = 20
	w := newOwnWorld(t, withProcessLimit)
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do /bin/true; /bin/false; sh -c 'exit 7'; sh -c 'kill -9 $$'; (exit 5); i=$((i+1)); done; exit 0`, each)
	command := w.command("/bin/sh", "-c", script)
	command.Stderr = io.Discard // the shell says who was killed
	require.NoError(t, command.Run())
	w.finish()
	ends, starts, summed := w.endsAndStarts()
	counters, missed := w.counters()[uint8(event.FamilyProcess)], w.missedRuns()
	t.Logf("%d events are summed up of %d; %d forks are throttled", summed, counters.Seen, counters.Throttled)
	left := float64(missed["tp_btf/sched_process_exec"] + missed["tp_btf/sched_process_exit"])
	assert.InDelta(t, 4*each+1, starts, left)
	for status, want := range map[uint32]float64{0: each + 1, 1 << 8: each, 7 << 8: each, 9: each, 5 << 8: each} {
		assert.InDelta(t, want, ends[status], left, "status %#x", status)
	}
	assert.Len(t, ends, 5)
	assert.Positive(t, summed)
	told := len(w.ofType(event.TypeProcessFork)) + len(w.ofType(event.TypeProcessExec)) + len(w.ofType(event.TypeProcessExit))
	assert.EqualValues(t, counters.Seen, uint64(told)+summed+counters.Throttled)
	assert.LessOrEqual(t, counters.Throttled, uint64(5*each), "forks: in no metric is how many there are")
}

// TestWithoutRoomForSumsProcessesAreThrottled, and that is counted.
func TestWithoutRoomForSumsProcessesAreThrottled(t *testing.T) {
	const programs = 30
	w := newUnreadWorld(t, withProcessLimit)
	close(w.done)
	fill[bpf.WireProcessSumKey, bpf.WireProcessSums](t, w, "process_sums", 0, func(n uint32) bpf.WireProcessSumKey {
		return bpf.WireProcessSumKey{CgroupId: 1 << 40, Status: n, Type: uint16(event.TypeProcessExit)}
	})
	script := `[ "$1" -gt 0 ] || exit 0; exec /bin/sh -c "$0" "$0" $(($1-1))`
	require.NoError(t, w.command("/bin/sh", "-c", script, script, strconv.Itoa(programs)).Run())
	w.finish()
	counters, told := w.counters()[uint8(event.FamilyProcess)], len(w.ofType(event.TypeProcessExec))
	forks, exits := len(w.ofType(event.TypeProcessFork)), len(w.ofType(event.TypeProcessExit))
	assert.EqualValues(t, counters.Seen, uint64(told+forks+exits)+counters.Throttled)
	assert.InDelta(t, programs+1+1+1, counters.Seen, float64(w.missedRuns()["tp_btf/sched_process_exec"]))
	assert.Positive(t, counters.Throttled)
	_, _, summed := w.endsAndStarts()
	assert.Zero(t, summed)
}
