// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// 10,000 opens in a second are two records, and 10,000 events in the account.
func TestSecurityRepeatsAreFolded(t *testing.T) {
	const opens = 10_000
	w := newSecurityWorld(allSignals, everyRule(), nil)
	w.handle(curl(2 * second))
	w.take(t)
	for i := range uint64(opens) {
		w.handle(shadow(3*second + i*second/opens))
	}
	first := w.take(t)
	require.Len(t, first.logs, 1, "the first is told at once")
	require.Len(t, first.spans, 1)
	assert.NotContains(t, first.logs[0].Attributes, "tapio.security.count")
	assert.EqualValues(t, 1, first.counts[event.FamilySecurity])
	assert.Equal(t, opens-1, w.Held())
	w.requireClosed(t)

	w.Tick(13*second - 1)
	assert.Equal(t, opens-1, w.Held())
	w.Tick(13 * second)
	assert.Zero(t, w.Held())
	out := w.take(t)
	w.requireClosed(t)
	assert.EqualValues(t, opens-1, out.counts[event.FamilySecurity])
	require.Len(t, out.logs, 1)
	require.Len(t, out.spans, 1)
	last := 3*second + (opens-1)*second/opens
	assert.Equal(t, merge(first.logs[0].Attributes, attributes{
		"tapio.security.count": int64(opens - 1), "tapio.security.first_time": "2023-11-14T22:13:23.0001Z", "tapio.security.last_time": "2023-11-14T22:13:23.9999Z",
	}), attributes(out.logs[0].Attributes))
	assert.Equal(t, wallTime(last), out.logs[0].Time)
	assert.Equal(t, out.logs[0].Attributes, out.spans[0].Attributes)
	assert.Equal(t, wallTime(last), out.spans[0].Start)
	assert.Equal(t, wallTime(last), out.spans[0].End)
	assert.Equal(t, out.spanIDs, out.logIDs)
	assert.Equal(t, first.parents, out.parents)
	assert.NotEqual(t, first.spanIDs, out.spanIDs)
	assert.Equal(t, first.logs[0].Resource, out.logs[0].Resource)
	assert.EqualValues(t, opens, w.collect(t, 14*second).points[`/usr/bin/curl tapio.security.events {"security_rule.name":"file.sensitive_access","tapio.security.outcome":"allowed","tapio.security.severity":"warn"}`].value)
}

func TestSecurityFoldsEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w *world)
	}{
		{"at the flush", func(w *world) { w.Flush() }},
		{"by a repeat that comes after the interval", func(w *world) { w.handle(shadow(13 * second)) }},
		{"where there are too many", func(w *world) {
			for i := range maxFolds {
				e := acting(event.SecurityMount, event.OperationMount, 4*second)
				w.handle(eventtest.Security(e, fmt.Sprintf("/mnt/%d", i), "", ""))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newSecurityWorld(Signals{Logs: true}, everyRule(), nil)
			w.handle(shadow(3*second), shadow(4*second), shadow(4*second-1))
			require.Equal(t, 1, w.Events())
			require.Equal(t, 2, w.Held())
			w.take(t)
			tt.end(w)
			assert.Zero(t, w.Held())
			out := w.take(t)
			at := slices.IndexFunc(out.logs, func(log gotLog) bool { return log.Attributes["tapio.security.count"] != nil })
			require.GreaterOrEqual(t, at, 0)
			folded := out.logs[at].Attributes
			assert.EqualValues(t, 2, folded["tapio.security.count"])
			assert.Equal(t, "2023-11-14T22:13:23.999999999Z", folded["tapio.security.first_time"])
			assert.Equal(t, "2023-11-14T22:13:24Z", folded["tapio.security.last_time"])
			w.requireClosed(t)
			assert.LessOrEqual(t, len(w.security.folds.byKey), maxFolds)
			assert.Len(t, w.security.folds.byKey, len(w.security.folds.queue))
		})
	}
}

func TestSecurityRepeatsAreOfTheSame(t *testing.T) {
	of := func(change func(*bpf.WireSecurityAction)) []byte {
		e := acting(event.SecurityMemoryWrite, event.OperationProcessVMWritev, 3*second)
		e.Values[0], e.Flags, e.TargetPid = 10, event.SecurityHasTarget, 1
		change(&e)
		return eventtest.Security(e, "", "", "")
	}
	first := of(func(*bpf.WireSecurityAction) {})
	for _, tt := range []struct {
		name   string
		second []byte
		folded bool
	}{
		{"the same", first, true},
		{"another size", of(func(e *bpf.WireSecurityAction) { e.Values[0] = 32 }), true},
		{"another thread", of(func(e *bpf.WireSecurityAction) { e.Thread = 32 }), true},
		{"another outcome", of(func(e *bpf.WireSecurityAction) { e.Error = 1 }), false},
		{"another process", of(func(e *bpf.WireSecurityAction) { e.Header.Pid = 11 }), false},
		{"another start", of(func(e *bpf.WireSecurityAction) { e.Header.StartTime *= 2 }), false},
		{"another target", of(func(e *bpf.WireSecurityAction) { e.TargetPid = 2 }), false},
		{"another operation", of(func(e *bpf.WireSecurityAction) { e.Operation = uint16(event.OperationOpen) }), false},
		{"another rule", of(func(e *bpf.WireSecurityAction) { e.Kind = uint16(event.SecurityPtrace) }), false},
		{"other credentials", of(func(e *bpf.WireSecurityAction) { e.After.Euid = 1 }), false},
		{"another path", eventtest.Security(acting(event.SecurityMemoryWrite, event.OperationProcessVMWritev, 3*second), "/a", "", ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newSecurityWorld(Signals{Logs: true}, everyRule(), nil)
			w.handle(first, tt.second)
			assert.Equal(t, tt.folded, w.Held() == 1)
			assert.Equal(t, !tt.folded, w.Events() == 2)
		})
	}
	w := newSecurityWorld(Signals{Logs: true}, everyRule(), nil)
	w.handle(first, first, of(func(e *bpf.WireSecurityAction) { e.Values[0] = 32 }))
	w.Flush()
	assert.EqualValues(t, 42, w.take(t).logs[1].Attributes["tapio.security.memory.size"], "the sum of both repeats")
}

func TestNoFolding(t *testing.T) {
	options := everyRule()
	options.FoldInterval = 0
	w := newSecurityWorld(Signals{Logs: true}, options, nil)
	w.handle(shadow(3*second), shadow(3*second))
	assert.Equal(t, 2, w.Events())
	assert.Zero(t, w.Held())
}

// Of a program with very many actions, the trace does not grow without end.
func TestManyActionsOfAProgram(t *testing.T) {
	w := newSecurityWorld(Signals{Traces: true}, everyRule(), nil)
	w.handle(curl(2 * second))
	for i := range 1001 {
		e := acting(event.SecurityMount, event.OperationMount, 3*second)
		w.handle(eventtest.Security(e, fmt.Sprintf("/mnt/%d", i), "", ""))
	}
	out := w.take(t)
	require.Len(t, out.spans, 1001)
	assert.False(t, out.parents[999].IsEmpty())
	assert.True(t, out.parents[1000].IsEmpty())
}

func TestARepeatAllocatesNothing(t *testing.T) {
	w := newSecurityWorld(allSignals, everyRule(), nil)
	record := shadow(3 * second)
	w.Handle(curl(2 * second))
	for range 2 {
		w.Handle(record)
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { w.Handle(record) }))
}

// BenchmarkSecurityRepeat is the way of an action that repeats another, from the ring's bytes to the fold.
func BenchmarkSecurityRepeat(b *testing.B) {
	w := newSecurityWorld(allSignals, everyRule(), nil)
	record := shadow(3 * second)
	w.Handle(curl(2 * second))
	b.ReportAllocs()
	for b.Loop() {
		w.Handle(record)
	}
}

// BenchmarkSecurityAction is the way of an action to log record, span and metric.
func BenchmarkSecurityAction(b *testing.B) {
	options := everyRule()
	options.FoldInterval = 0
	w := newSecurityWorld(allSignals, options, nil)
	record := shadow(3 * second)
	w.Handle(curl(2 * second))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		w.Handle(record)
		if n%1000 == 999 {
			w.Take()
		}
	}
}
