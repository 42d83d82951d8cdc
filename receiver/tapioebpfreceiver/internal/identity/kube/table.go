// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"hash/maphash"
	"maps"
	"sync/atomic"
)

// table is a hash table whose readers take no lock and are never in the way of the writer. A change
// copies just its bucket, so that hundreds of changes a second cost next to nothing, and it is seen
// at once.
//
// Any goroutine may call get. The other methods belong to one goroutine at a time.
type table[K comparable, V any] struct {
	seed    maphash.Seed
	buckets []atomic.Pointer[map[K]V]
	size    atomic.Int64
}

// newTable makes one that is fast with up to some dozens of entries a bucket.
func newTable[K comparable, V any](buckets int) *table[K, V] {
	return &table[K, V]{seed: maphash.MakeSeed(), buckets: make([]atomic.Pointer[map[K]V], buckets)}
}

func (t *table[K, V]) bucket(key K) *atomic.Pointer[map[K]V] {
	return &t.buckets[maphash.Comparable(t.seed, key)%uint64(len(t.buckets))]
}

// get returns the zero value for a key that is not there.
func (t *table[K, V]) get(key K) V {
	if entries := t.bucket(key).Load(); entries != nil {
		return (*entries)[key]
	}
	var none V
	return none
}

func (t *table[K, V]) set(key K, value V) {
	t.change(key, func(entries map[K]V) { entries[key] = value })
}

func (t *table[K, V]) remove(key K) {
	t.change(key, func(entries map[K]V) { delete(entries, key) })
}

func (t *table[K, V]) change(key K, apply func(map[K]V)) {
	bucket := t.bucket(key)
	changed := map[K]V{}
	if entries := bucket.Load(); entries != nil {
		changed = maps.Clone(*entries)
	}
	before := len(changed)
	apply(changed)
	t.size.Add(int64(len(changed) - before))
	bucket.Store(&changed)
}
