// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package correlate says which event caused which. So far it hands out ids, and finds the DNS queries
// that are one lookup; all else is a trace of its own. A link that is not certain is not drawn.
package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
)

// IDs makes trace and span ids. It belongs to one goroutine.
type IDs struct {
	random *rand.ChaCha8
}

// NewIDs returns a source of ids that no other shares.
func NewIDs() *IDs {
	var seed [32]byte
	cryptorand.Read(seed[:]) // never fails (crypto/rand)
	return &IDs{random: rand.NewChaCha8(seed)}
}

// TraceID is random in all its bits, as W3C Trace Context Level 2 asks for, and not zero.
func (ids *IDs) TraceID() (id [16]byte) {
	binary.NativeEndian.PutUint64(id[:8], ids.random.Uint64())
	binary.NativeEndian.PutUint64(id[8:], ids.nonZero())
	return id
}

// SpanID is random and not zero.
func (ids *IDs) SpanID() (id [8]byte) {
	binary.NativeEndian.PutUint64(id[:], ids.nonZero())
	return id
}

func (ids *IDs) nonZero() uint64 {
	for {
		if n := ids.random.Uint64(); n != 0 {
			return n
		}
	}
}
