// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"net/netip"
	"testing"
	"time"
)

type unread struct{}

func (unread) Placed(*Place) {}

// BenchmarkPlace is what it takes to find the place of a span, each of a request of its own.
func BenchmarkPlace(b *testing.B) {
	for _, c := range []struct {
		name string
		peer netip.Addr
		both bool
	}{{"from another node", peer, false}, {"both ends on this node", local, true}} {
		b.Run(c.name, func(b *testing.B) {
			t := NewTraces(Options{MaxWait: 30 * time.Second, MaxHeld: 16384}, NewIDs())
			t.Local(local)
			b.ReportAllocs()
			for i := range b.N {
				r := Request{Link: LinkOf(uint32(i), 7), Peer: c.peer, Now: uint64(i) * 50_000, Answered: true}
				if _, unit := t.Server(&r); unit != nil {
					unit.HoldBy(unread{})
				}
				if c.both {
					t.Client(&r)
				}
				if i%1000 == 0 {
					t.Tick(r.Now)
				}
			}
		})
	}
}
