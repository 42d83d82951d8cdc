// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import "sync/atomic"

// maxChanges are far more than a node's pods can have between two looks, unless nobody looks any more.
const maxChanges = 16384

// changes are the ids whose names may have changed, until they are taken. Any goroutine may add, one at a
// time takes; neither waits for the other.
type changes struct {
	latest atomic.Pointer[change]
}

type change struct {
	id     string
	before *change
	n      int // with those before
	any    bool
}

// add notes an id, or that it may be any where there are too many.
func (c *changes) add(id string) {
	for {
		latest := c.latest.Load()
		added := &change{id: id, before: latest, n: 1}
		switch {
		case latest != nil && latest.any:
			return
		case latest != nil && latest.n >= maxChanges:
			added = &change{any: true}
		case latest != nil:
			added.n = latest.n + 1
		}
		if c.latest.CompareAndSwap(latest, added) {
			return
		}
	}
}

// take visits what was added since it was called last. It returns true, and visits nothing, where it may
// be any.
func (c *changes) take(visit func(id string)) (isAny bool) {
	latest := c.latest.Swap(nil)
	if latest != nil && latest.any {
		return true
	}
	for ; latest != nil; latest = latest.before {
		visit(latest.id)
	}
	return false
}
