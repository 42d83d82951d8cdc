// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import "hash/maphash"

// index finds the slots of requests by their keys: open addressing with linear probing. The two sides of a request are
// beside each other, and one is asked for when the other was just put: what a map would have to fetch from memory for
// each is in the cache.
type index struct {
	seed    maphash.Seed // nobody can make links that all have the same place
	entries []indexEntry // a power of two of them, at most half of them used
	bits    int          // of the number of entries
	used    int
}

// indexEntry is used if its slot is not 0.
type indexEntry struct {
	tag  uint32 // of the key
	slot uint32 // the slot's number and 1
}

const minIndexBits = 10

func newIndex() index {
	return index{seed: maphash.MakeSeed(), entries: make([]indexEntry, 1<<minIndexBits), bits: minIndexBits}
}

// tagOf a key is of its link, but for the last bit, which is the side.
func (x *index) tagOf(key requestKey) uint32 {
	tag := uint32(maphash.Comparable(x.seed, key.link)) &^ 1
	if key.server {
		tag |= 1
	}
	return tag
}

// home is where a key is, unless others are there.
func (x *index) home(tag uint32) int {
	return int(tag>>(32-(x.bits-1))<<1 | tag&1)
}

func (x *index) next(at int) int { return (at + 1) & (len(x.entries) - 1) }

// find calls is for the slots that the key may have, until it is one.
func (x *index) find(tag uint32, is func(slot uint32) bool) (at int, ok bool) {
	for at = x.home(tag); x.entries[at].slot != 0; at = x.next(at) {
		if e := &x.entries[at]; e.tag == tag && is(e.slot-1) {
			return at, true
		}
	}
	return at, false
}

// add a key that is not there.
func (x *index) add(tag, slot uint32) {
	if 2*(x.used+1) > len(x.entries) {
		x.grow()
	}
	x.put(indexEntry{tag, slot + 1})
	x.used++
}

func (x *index) put(e indexEntry) {
	at := x.home(e.tag)
	for x.entries[at].slot != 0 {
		at = x.next(at)
	}
	x.entries[at] = e
}

func (x *index) grow() {
	before := x.entries
	x.bits++
	x.entries = make([]indexEntry, 1<<x.bits)
	for _, e := range before {
		if e.slot != 0 {
			x.put(e)
		}
	}
}

// remove what is at a place; what was put behind it for want of room moves up.
func (x *index) remove(at int) {
	x.used--
	for next := x.next(at); x.entries[next].slot != 0; next = x.next(next) {
		if x.distance(x.home(x.entries[next].tag), next) >= x.distance(at, next) {
			x.entries[at] = x.entries[next]
			at = next
		}
	}
	x.entries[at] = indexEntry{}
}

// distance from one place to another behind it.
func (x *index) distance(from, to int) int { return (to - from) & (len(x.entries) - 1) }
