// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRequestsAreFoundAsInAMap: what is added, found and forgotten, in any order of the two sides, is what a map has.
func TestRequestsAreFoundAsInAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r, want := newRequests(), map[requestKey]*request{}
	for range 200_000 {
		key := requestKey{Link(random.IntN(6000)), random.IntN(2) == 0}
		switch found := r.find(key); {
		case random.IntN(4) == 0 && r.known() > 0:
			delete(want, r.oldest().key)
			r.forgetOldest()
		case want[key] != nil:
			require.Same(t, want[key], found)
		default:
			require.Nil(t, found)
			if random.IntN(2) == 0 {
				want[key] = r.add(key, 1)
			}
		}
		require.Equal(t, len(want), r.known())
	}
	require.Greater(t, len(want), 1000)
	for key, of := range want {
		require.Same(t, of, r.find(key))
		require.Equal(t, key, of.key)
	}
	for r.known() > 0 {
		r.forgetOldest()
	}
	assert.Zero(t, r.index.used)
	assert.Empty(t, r.chunks, "what so many have needed is let go of")
}

// TestIndexKeepsOrderWhereItWraps: what has no room at the end of the table is at its beginning.
func TestIndexKeepsOrderWhereItWraps(t *testing.T) {
	x := newIndex()
	last := ^uint32(0)
	for slot := range uint32(4) {
		x.add(last, slot)
	}
	for _, removed := range []uint32{1, 0, 3} {
		at, ok := x.find(last, func(slot uint32) bool { return slot == removed })
		require.True(t, ok)
		x.remove(at)
		_, ok = x.find(last, func(slot uint32) bool { return slot == removed })
		require.False(t, ok)
		_, ok = x.find(last, func(slot uint32) bool { return slot == 2 })
		require.True(t, ok)
	}
}

// A request that is forgotten while a unit refers to it keeps what the unit needs, and another one of its key does not
// take its place.
func TestForgottenRequestsStayForTheirUnits(t *testing.T) {
	r := newRequests()
	key := requestKey{1, true}
	before := r.add(key, 1)
	r.use(before)
	r.setPlace(before, &Place{SpanID: [8]byte{1}, State: "a=1"})
	r.forgetOldest()
	assert.Nil(t, r.find(key))
	again := r.add(key, 2)
	assert.NotSame(t, before, again)
	assert.Equal(t, "a=1", r.placeOf(before).State)
	r.release(before)
	assert.Same(t, again, r.find(key))
	assert.Empty(t, r.rare)
	third := r.add(requestKey{2, true}, 3)
	assert.Same(t, before, third, "its slot is used again")
	assert.Empty(t, r.placeOf(third).State)
}

// A link that comes again, as ports and numbers do, has nothing of what it was first.
func TestALinkThatComesAgainHasNothingOfItsFirstPlace(t *testing.T) {
	s := newScene(t)
	first := Context{TraceID: [16]byte{1}, SpanID: [8]byte{1}, State: "a=1"}
	second := Context{TraceID: [16]byte{2}, SpanID: [8]byte{2}}
	s.client("first", Request{Link: 1, Peer: local, Header: first, Now: 1})
	s.client("second", Request{Link: 1, Peer: local, Header: second, Now: 2})
	s.server("server", Request{Link: 1, Peer: local, Now: 3})
	assert.Equal(t, "a=1", s.places["first"].State)
	assert.Empty(t, s.places["second"].State)
	assert.Empty(t, s.places["server"].State)
	s.requireChild("server", "second")
}

// requireOwned says that each slot, list and unit is either in use or free once, and that nobody waits for a slot that is free.
func (s *scene) requireOwned() {
	s.t.Helper()
	r := &s.requests
	free := map[uint32]bool{}
	for _, slot := range r.free {
		require.False(s.t, free[slot], "slot %d is free twice", slot)
		free[slot] = true
	}
	unused := map[uint32]bool{}
	for _, list := range r.unused {
		require.False(s.t, unused[list], "list %d is unused twice", list)
		unused[list] = true
	}
	lists, pinned := 1, 0
	for slot := range uint32(len(r.chunks) * slotsOfChunk) {
		of := r.at(slot)
		if free[slot] {
			continue
		}
		require.True(s.t, of.known || of.users > 0, "slot %d is of nobody", slot)
		if of.users > 0 {
			pinned++
		}
		if of.waiters == 0 {
			continue
		}
		require.False(s.t, unused[of.waiters], "list %d is used and unused", of.waiters)
		lists++
		for _, unit := range r.waitersOf(of) {
			require.False(s.t, slices.Contains(s.free, unit), "a unit that is listed is no other's")
			if !unit.placed {
				require.Same(s.t, of, unit.waitsOn)
			}
		}
	}
	require.Len(s.t, r.waiters, lists+len(unused), "a list is of nobody")
	if s.Held() == 0 {
		require.Zero(s.t, pinned, "nobody waits, so nobody refers to a request")
	}
}

// What is used again is used by one at a time, whatever order things come in, and all of it comes back.
func TestWhatIsUsedAgainIsOfOne(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := newScene(t)
		now := uint64(0)
		for i := range 600 {
			now += random.Uint64N(second / 10)
			link := Link(1 + random.Uint64N(80))
			cause := Cause{Link: Link(random.Uint64N(300)), ByThread: random.Uint64N(2) == 0} // most never come: more wait than may
			name := fmt.Sprint(i)
			switch random.Uint64N(5) {
			case 0, 1:
				s.client(name, Request{Link: link, Peer: local, Cause: cause, Now: now})
			case 2, 3:
				s.server(name, Request{Link: link, Peer: local, Now: now})
			default:
				s.connection(name, Connection{Link: link, Cause: cause, Peer: "10.0.0.2", Opened: now, Now: now})
			}
			if random.Uint64N(20) == 0 {
				s.Tick(now)
				s.requireOwned()
			}
		}
		now += 60 * second
		s.Tick(now)
		require.Zero(t, s.Held())
		require.Len(t, s.places, 600)
		s.requireOwned()
		s.Tick(now + 1000*second)
		s.requireOwned()
		require.Zero(t, s.requests.known())
	}
}
