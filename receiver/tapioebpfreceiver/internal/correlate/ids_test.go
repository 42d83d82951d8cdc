// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
)

const draws = 10_000

func TestIDsAreNeverTheSame(t *testing.T) {
	traces, spans := map[[16]byte]bool{}, map[[8]byte]bool{}
	for _, ids := range []*IDs{NewIDs(), NewIDs()} {
		for range draws {
			traces[ids.TraceID()] = true
			spans[ids.SpanID()] = true
		}
	}
	assert.Len(t, traces, 2*draws)
	assert.Len(t, spans, 2*draws)
}

func TestIDsAreNeverZero(t *testing.T) {
	ids := NewIDs()
	for range draws {
		assert.NotZero(t, ids.TraceID())
		assert.NotZero(t, ids.SpanID())
	}
}

// Every bit is set in about half of all ids: a sampler may look at any of them. The bounds are ten
// standard deviations away.
func TestIDsAreRandomInAllTheirBits(t *testing.T) {
	ids := NewIDs()
	var traceBits [128]int
	var spanBits [64]int
	for range draws {
		trace, span := ids.TraceID(), ids.SpanID()
		count(traceBits[:], trace[:])
		count(spanBits[:], span[:])
	}
	for _, n := range append(traceBits[:], spanBits[:]...) {
		assert.InDelta(t, draws/2, n, 500)
	}
}

func count(counts []int, id []byte) {
	for i, b := range id {
		for ; b != 0; b &= b - 1 {
			counts[8*i+bits.TrailingZeros8(b)]++
		}
	}
}
