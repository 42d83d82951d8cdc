// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	"net/netip"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

const (
	// maxAddresses have names; then they are learned anew.
	maxAddresses = 16384
	// minTTL and maxTTL are for how long an answer names its addresses: a program that was told not to
	// keep it connects a moment later all the same.
	minTTL = 10e9   // ns
	maxTTL = 3600e9 // ns
)

// Addresses are the names under which processes have looked them up. Several names may have one address:
// then it takes to know who asked for which.
type Addresses struct {
	named map[lookedUp]named
}

// Asker looks names up, or connects.
type Asker struct {
	Process identity.Key
	Thread  uint32 // 0: not known
	// Dedicated says that the thread does one thing after the other, for the request that it serves.
	Dedicated bool
}

type lookedUp struct {
	process identity.Key
	thread  uint32 // 0: any of the process
	address netip.Addr
}

type named struct {
	name         string // the last one
	since, until uint64 // CLOCK_BOOTTIME, ns
	others       uint64 // until then the address has other names, too
	thread       uint32 // that has asked for all of them; 0: not one alone, or not known
}

// NewAddresses returns Addresses without names.
func NewAddresses() *Addresses { return &Addresses{named: map[lookedUp]named{}} }

// Answered notes the addresses among a lookup's answers; ttl is in seconds, now CLOCK_BOOTTIME in ns.
func (a *Addresses) Answered(by Asker, name string, answers []string, ttl uint32, now uint64) {
	until := now + min(max(uint64(ttl)*1e9, minTTL), maxTTL)
	for _, answer := range answers {
		address, err := netip.ParseAddr(answer)
		if err != nil {
			continue // a name that the one asked for stands for
		}
		if len(a.named)+2 > maxAddresses {
			clear(a.named)
		}
		found := named{name: name, since: now, until: until, thread: by.Thread}
		if by.Dedicated {
			a.named[lookedUp{by.Process, by.Thread, address}] = found
		}
		anyone := lookedUp{by.Process, 0, address}
		a.named[anyone] = found.after(a.named[anyone])
	}
}

// after what was known before.
func (n named) after(before named) named {
	if before.name == n.name && before.until >= n.since {
		n.since = before.since
	}
	n.others = before.others
	if before.name != n.name {
		n.others = max(n.others, before.until)
	}
	if n.others >= n.since && before.thread != n.thread {
		n.thread = 0
	}
	return n
}

// Name under which one who connects has looked an address up; empty if it has not, or long ago, or if it
// cannot be told from another name of that address.
func (a *Addresses) Name(by Asker, address netip.Addr, opened uint64) string {
	if len(a.named) == 0 {
		return ""
	}
	if by.Dedicated {
		if found := a.named[lookedUp{by.Process, by.Thread, address}]; found.isValid(opened) {
			return found.name
		}
	}
	found := a.named[lookedUp{by.Process, 0, address}]
	if !found.isValid(opened) || !found.isMeantBy(by.Thread, opened) {
		return ""
	}
	return found.name
}

func (n named) isValid(opened uint64) bool { return n.since <= opened && opened <= n.until }

// isMeantBy says that the name is the only one, or the last that this thread has asked for and no other has
// asked for any.
func (n named) isMeantBy(thread uint32, opened uint64) bool {
	return n.others < opened || thread != 0 && thread == n.thread
}
