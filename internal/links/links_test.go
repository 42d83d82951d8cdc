// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package links

import (
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Agents of other versions must find the same: these values stay.
func TestIDsOfALinkStay(t *testing.T) {
	link := Of(0x01234567, 0x89abcdef)
	trace, client, server := link.TraceID(), link.ClientID(), link.ServerID()
	assert.Equal(t, "b2c058e4ebb5112c", link.String())
	assert.Equal(t, "df8c00a5f8850a313b81d05e32023dd2", hex.EncodeToString(trace[:]))
	assert.Equal(t, "79ab19efeb1c3631", hex.EncodeToString(client[:]))
	assert.Equal(t, "2d02f8c87c9b2449", hex.EncodeToString(server[:]))
}

func TestEveryLinkHasOtherIDs(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint32(10_000) {
		for _, link := range []Link{Of(n, 7), Of(7, n+100_000)} {
			trace, client, server := link.TraceID(), link.ClientID(), link.ServerID()
			for _, id := range [][]byte{trace[:], trace[:8], trace[8:], client[:], server[:]} {
				assert.False(t, seen[string(id)])
				seen[string(id)] = true
			}
		}
	}
}

// Samplers take the last 56 bits of a trace id for random: each must be set in about a half.
func TestTraceIDsAreRandom(t *testing.T) {
	const n = 20_000
	var set [128]int
	for i := range uint32(n) {
		id := Of(i, i*3).TraceID()
		for bit := range set {
			set[bit] += int(id[bit/8] >> (7 - bit%8) & 1)
		}
	}
	for bit, count := range set {
		assert.InDelta(t, n/2, count, 5*70.7, "bit %d", bit) // five standard deviations
	}
}

func TestMixLosesNothing(t *testing.T) {
	for bit := range 64 {
		changed := bits.OnesCount64(mix(0x1234) ^ mix(0x1234^1<<bit))
		assert.InDelta(t, 32, changed, 20)
	}
	assert.Equal(t, "0000000000000000", Of(0, 0).String())
}

func TestLinksOfIDs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		want := Link(random.Uint64())
		got, ok := OfTrace(want.TraceID())
		assert.True(t, ok)
		assert.Equal(t, want, got)
		assert.Equal(t, want, OfClient(want.ClientID()))
		assert.NotEqual(t, want, OfClient(want.ServerID()))
		other := want.TraceID()
		bit := random.IntN(128)
		other[bit/8] ^= 1 << (bit % 8)
		_, ok = OfTrace(other)
		assert.False(t, ok, "bit %d is another", bit)
	}
	_, ok := OfTrace([16]byte{})
	assert.False(t, ok)
}

func FuzzOfTrace(f *testing.F) {
	of := Link(7).TraceID()
	f.Add(of[:])
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var id [16]byte
		copy(id[:], bytes)
		if l, ok := OfTrace(id); ok {
			assert.Equal(t, id, l.TraceID())
		}
	})
}

func BenchmarkOfTrace(b *testing.B) {
	id := Link(7).TraceID()
	for b.Loop() {
		if _, ok := OfTrace(id); !ok {
			b.Fatal("it is one")
		}
	}
}
