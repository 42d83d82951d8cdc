// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"

import "encoding/binary"

// Types of records that are read.
const (
	typeA     = uint16(1)
	typeNS    = uint16(2)
	typeCNAME = uint16(5)
	typePTR   = uint16(12)
	typeMX    = uint16(15)
	typeAAAA  = uint16(28)
	typeSRV   = uint16(33)
	typeOPT   = uint16(41)
)

const (
	// pointerBits are those of a label's size that say that the rest of the name stands elsewhere.
	pointerBits = 0xc0
	// recordHead is what follows a record's name: type, class, TTL and the size of its data.
	recordHead = 10
)

// records walks through what follows a message's header. Not by dnsmessage, which refuses names with a dot in a
// label, as DNS-SD has, and with that all that stands behind them.
type records struct {
	message []byte
	at      int // where the next one begins
	whole   [maxName]byte
}

// record of which data and end are where its data are in the message.
type record struct {
	kind      uint16
	ttl       uint32
	data, end int
}

func (r *records) skipQuestions(count uint16) bool {
	for range count {
		end, ok := r.nameEnd(r.at)
		if !ok || end+4 > len(r.message) {
			return false
		}
		r.at = end + 4
	}
	return true
}

// skip records; false if there are not as many.
func (r *records) skip(count uint16) bool {
	for range count {
		if _, ok := r.next(); !ok {
			return false
		}
	}
	return true
}

func (r *records) next() (record, bool) {
	head, ok := r.nameEnd(r.at)
	if !ok || head+recordHead > len(r.message) {
		return record{}, false
	}
	fields := r.message[head:]
	found := record{kind: binary.BigEndian.Uint16(fields), ttl: binary.BigEndian.Uint32(fields[4:]), data: head + recordHead}
	found.end = found.data + int(binary.BigEndian.Uint16(fields[8:]))
	r.at = found.end
	return found, found.end <= len(r.message)
}

// nameEnd is where a name ends that begins there: with its last label, or with a pointer.
func (r *records) nameEnd(at int) (end int, ok bool) {
	for at < len(r.message) {
		switch size := int(r.message[at]); {
		case size == 0:
			return at + 1, true
		case size&pointerBits == pointerBits:
			return at + 2, at+2 <= len(r.message)
		case size > maxLabel:
			return 0, false
		default:
			at += 1 + size
		}
	}
	return 0, false
}

// name that begins there, without pointers; it is valid until the next one is read. Each pointer leads to what stands
// before (RFC 1035, 4.1.4), so that they come to an end.
func (r *records) name(at int) (wire []byte, end int, ok bool) {
	if end, ok = r.nameEnd(at); !ok {
		return nil, 0, false
	}
	wire = r.whole[:0]
	for begin := at; at < len(r.message); {
		size := int(r.message[at])
		switch {
		case size&pointerBits == pointerBits:
			if at+2 > len(r.message) {
				return nil, 0, false
			}
			at = int(binary.BigEndian.Uint16(r.message[at:])) &^ (pointerBits << 8)
			if at >= begin {
				return nil, 0, false
			}
			begin = at
			continue
		case size > maxLabel || at+1+size > len(r.message) || len(wire)+1+size > maxName:
			return nil, 0, false
		}
		if wire = append(wire, r.message[at:at+1+size]...); size == 0 {
			return wire, end, true
		}
		at += 1 + size
	}
	return nil, 0, false
}
