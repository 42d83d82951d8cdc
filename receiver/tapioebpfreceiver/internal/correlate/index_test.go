// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"math/rand/v2"
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
