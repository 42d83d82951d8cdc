// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"encoding/hex"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Agents of other versions must find the same: these values stay.
func TestIDsOfALinkStay(t *testing.T) {
	link := LinkOf(0x01234567, 0x89abcdef)
	trace, client, server := link.TraceID(), link.ClientID(), link.ServerID()
	assert.Equal(t, "b2c058e4ebb5112c", link.String())
	assert.Equal(t, "df8c00a5f8850a313b81d05e32023dd2", hex.EncodeToString(trace[:]))
	assert.Equal(t, "79ab19efeb1c3631", hex.EncodeToString(client[:]))
	assert.Equal(t, "2d02f8c87c9b2449", hex.EncodeToString(server[:]))
}

func TestEveryLinkHasOtherIDs(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint32(10_000) {
		for _, link := range []Link{LinkOf(n, 7), LinkOf(7, n+100_000)} {
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
		id := LinkOf(i, i*3).TraceID()
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
	assert.Equal(t, "0000000000000000", LinkOf(0, 0).String())
}
