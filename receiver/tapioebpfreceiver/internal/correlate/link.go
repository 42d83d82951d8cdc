// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	"encoding/binary"
	"encoding/hex"
)

// Link names a request by what both ends of its connection see of it, whatever is between them: the TCP
// sequence and acknowledgment number of its first byte. Both begin at random (RFC 9293, 3.4.1), and
// address translation leaves them alone. 0: there is none.
//
// Agents that do not know of each other make the same ids of it, so that how it is done is part of what
// they have in common: docs/correlation.md, and it stays as it is.
type Link uint64

// LinkOf a request's first byte.
func LinkOf(sequence, acknowledged uint32) Link {
	return Link(mix(uint64(sequence)<<32 | uint64(acknowledged)))
}

// String is how the link is shown: 16 hexadecimal digits.
func (l Link) String() string {
	var bytes [8]byte
	binary.BigEndian.PutUint64(bytes[:], uint64(l))
	return hex.EncodeToString(bytes[:])
}

// What is added to a link, so that each id that is made of it is another.
const (
	saltTraceHigh = 0x9e3779b97f4a7c15
	saltTraceLow  = 0xd1b54a32d192ed03
	saltClient    = 0x8cb92ba72f3d8dd7
	saltServer    = 0xaf251af3b0f025b5
)

// TraceID of a request that nothing is known to have caused.
func (l Link) TraceID() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], l.derive(saltTraceHigh))
	binary.BigEndian.PutUint64(id[8:], l.derive(saltTraceLow))
	return id
}

// ClientID is the id of the span of the side that sends the request.
func (l Link) ClientID() [8]byte { return l.spanID(saltClient) }

// ServerID is the id of the span of the side that receives it.
func (l Link) ServerID() [8]byte { return l.spanID(saltServer) }

func (l Link) spanID(salt uint64) (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], l.derive(salt))
	return id
}

// derive is never 0, which is no id.
func (l Link) derive(salt uint64) uint64 {
	return max(mix(uint64(l)+salt), 1)
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
// 2014): each bit of the result depends on all bits of x, and no two have the same.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
