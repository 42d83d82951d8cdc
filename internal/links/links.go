// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package links has the ids that agents which do not know of each other make of one request, and finds out
// which request an id was made of.
package links // import "github.com/tapio-io/otelcol-tapio/internal/links"

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

// Of a request's first byte.
func Of(sequence, acknowledged uint32) Link {
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

// OfTrace is the link that a trace id is made of; false if it is made of none. Both of its halves lead to the
// same link, which those of one id in 2^64 do by chance.
func OfTrace(id [16]byte) (Link, bool) {
	l := Link(unmix(binary.BigEndian.Uint64(id[:8])) - saltTraceHigh)
	return l, l.derive(saltTraceLow) == binary.BigEndian.Uint64(id[8:])
}

// OfClient is the link of the request whose client's span would have the id. There is one for every id: it
// takes more to know that the span is such a one.
func OfClient(id [8]byte) Link {
	return Link(unmix(binary.BigEndian.Uint64(id[:])) - saltClient)
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

// unmix is the inverse of mix: x of mix(x). The factors are the inverses of those there, modulo 2^64.
func unmix(x uint64) uint64 {
	x ^= x>>31 ^ x>>62
	x *= 0x319642b2d24d8ec3
	x ^= x>>27 ^ x>>54
	x *= 0x96de1b173f119089
	return x ^ x>>30 ^ x>>60
}
