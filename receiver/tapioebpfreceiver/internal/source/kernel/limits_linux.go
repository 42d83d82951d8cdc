// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

const (
	// maxLimited is of how many cgroups and families, together, it is known how much they have made of late.
	// Those for which there is no room have no limit.
	maxLimited = 16384

	// limitsInterval is how often it is told what was throttled. A cgroup that has made nothing for so long
	// that was beyond its limit is throttled no longer.
	limitsInterval = uint64(time.Second)

	// forgetLimitAfter is for how long a cgroup must have made nothing until its place is another one's; much
	// longer than it takes until all that it made is paid for.
	forgetLimitAfter = uint64(time.Minute)

	limitsBatch = 1024 // read by one call to the kernel: more than are in one bucket
)

// untoldProcesses are followed to their end where processes are limited, dnsFates is how many questions are where
// DNS is. Of more, the oldest are forgotten.
const (
	untoldProcesses = 16384
	dnsFates        = 16384
)

// limitIntervals are what bpf/limit.h wants: by family, the time that one event takes, ns.
func limitIntervals(limits map[string]uint64) (intervals [bpf.WireEventFamilyFAMILY_COUNT]uint64) {
	for family := range event.FamilyCount {
		if limit := limits[family.String()]; limit > 0 {
			intervals[family] = uint64(time.Second) / limit
		}
	}
	return intervals
}

// limits turns what the programs have not told into records.
type limits struct {
	source    *Source
	throttled map[bpf.WireLimitKey]*throttled
	lastRead  uint64
	isFull    bool
	made      atomic.Uint64 // records

	keys   []bpf.WireLimitKey
	states []bpf.WireLimitState
	idle   []bpf.WireLimitKey
	record bpf.WireThrottling
}

// throttled is what is known of a cgroup and family that was beyond its limit once.
type throttled struct {
	counted uint64 // of all that the programs have counted, what was told
	total   uint64 // of these, those since it began
	last    uint64 // when it was beyond its limit, as far as was told
	active  bool
}

func newLimits(s *Source) *limits {
	return &limits{
		source:    s,
		throttled: map[bpf.WireLimitKey]*throttled{},
		keys:      make([]bpf.WireLimitKey, limitsBatch),
		states:    make([]bpf.WireLimitState, limitsBatch),
	}
}

// read hands out what was throttled since it was called last, at its interval, and what is left when the programs
// are detached.
func (l *limits) read(now uint64, isLast bool, handle func(record []byte)) error {
	m := l.source.loader.shared["limits"] // nil: no family is on that can have any
	if m == nil || len(l.source.options.RateLimits) == 0 || !isLast && now-l.lastRead < limitsInterval {
		return nil
	}
	l.lastRead = now
	l.idle = l.idle[:0]
	var cursor ebpf.MapBatchCursor
	count := 0
	for done := false; !done; {
		n, err := m.BatchLookup(&cursor, l.keys, l.states, nil)
		if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
			return fmt.Errorf("read what was throttled: %w", err)
		}
		for i := range n {
			l.visit(l.keys[i], &l.states[i], now, isLast, handle)
		}
		count += n
	}
	l.noteFull(count >= maxLimited)
	return l.forgetIdle(m, now)
}

func (l *limits) noteFull(isFull bool) {
	if isFull && !l.isFull {
		l.source.logger.Warn("There are too many cgroups: those that come now have no rate limit", zap.Int("cgroups and families", maxLimited))
	}
	l.isFull = isFull
}

func (l *limits) visit(key bpf.WireLimitKey, state *bpf.WireLimitState, now uint64, isLast bool, handle func(record []byte)) {
	if state.Throttled > 0 {
		l.account(key, state, now, isLast, handle)
	}
	if isIdle(state, now) {
		l.idle = append(l.idle, key)
	}
}

func isIdle(state *bpf.WireLimitState, now uint64) bool {
	return max(state.Due, state.Last)+forgetLimitAfter < now
}

func (l *limits) account(key bpf.WireLimitKey, state *bpf.WireLimitState, now uint64, isLast bool, handle func(record []byte)) {
	t := l.throttled[key]
	if t == nil {
		t = &throttled{}
		l.throttled[key] = t
	}
	events, flags := t.advance(state, isLast || state.Last+limitsInterval <= now)
	if events == 0 && flags == 0 {
		return
	}
	at := now
	if t.active || flags != 0 {
		at = state.Last
	}
	l.record = bpf.WireThrottling{
		Header: bpf.WireEventHeader{Time: at, CgroupId: key.CgroupId, Type: uint16(event.TypeThrottling)},
		Began:  state.Began, Events: events, Total: t.total, Flags: flags,
		Limit:  l.source.options.RateLimits[event.Family(key.Family).String()],
		Family: uint16(key.Family), Kind: uint16(key.Kind),
	}
	l.made.Add(1)
	handle(unsafe.Slice((*byte)(unsafe.Pointer(&l.record)), unsafe.Sizeof(l.record)))
}

// advance to what the programs have counted by now: how many events are new, and whether with them it began, or is over. What belongs
// to what was not told, as the end of a process, may come when nothing is beyond the limit any more: then it is neither.
func (t *throttled) advance(state *bpf.WireLimitState, isOver bool) (events uint64, flags uint32) {
	events = state.Throttled - t.counted
	if !t.active && state.Last > t.last {
		t.active, t.total = true, 0
		flags = event.ThrottlingBegan
	}
	if t.active && isOver {
		t.active = false
		flags |= event.ThrottlingEnded
	}
	t.counted, t.last = state.Throttled, state.Last
	t.total += events
	return events, flags
}

// forgetIdle looks again at what was silent: if it is no more, it stays.
func (l *limits) forgetIdle(m *ebpf.Map, now uint64) error {
	slices.SortFunc(l.idle, compareLimitKeys) // a batch that was read while others were made may have one twice
	for _, key := range slices.Compact(l.idle) {
		var state bpf.WireLimitState
		err := m.Lookup(key, &state)
		if err == nil && isIdle(&state, now) && state.Throttled == l.countedOf(key) {
			err = m.Delete(key)
			delete(l.throttled, key)
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a cgroup that is silent: %w", err)
		}
	}
	return nil
}

func (l *limits) countedOf(key bpf.WireLimitKey) uint64 {
	if t := l.throttled[key]; t != nil {
		return t.counted
	}
	return 0
}

func compareLimitKeys(a, b bpf.WireLimitKey) int {
	return cmp.Or(cmp.Compare(a.CgroupId, b.CgroupId), cmp.Compare(a.Family, b.Family), cmp.Compare(a.Kind, b.Kind))
}
