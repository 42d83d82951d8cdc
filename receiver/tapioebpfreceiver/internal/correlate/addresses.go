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

// Addresses are the names under which processes have looked them up.
type Addresses struct {
	named map[lookedUp]named
}

type lookedUp struct {
	process identity.Key
	address netip.Addr
}

type named struct {
	name  string
	until uint64 // CLOCK_BOOTTIME, ns
}

// NewAddresses returns Addresses without names.
func NewAddresses() *Addresses { return &Addresses{named: map[lookedUp]named{}} }

// Answered notes the addresses among a lookup's answers; ttl is in seconds, now CLOCK_BOOTTIME in ns.
func (a *Addresses) Answered(process identity.Key, name string, answers []string, ttl uint32, now uint64) {
	until := now + min(max(uint64(ttl)*1e9, minTTL), maxTTL)
	for _, answer := range answers {
		address, err := netip.ParseAddr(answer)
		if err != nil {
			continue // a name that the one asked for stands for
		}
		if len(a.named) >= maxAddresses {
			clear(a.named)
		}
		a.named[lookedUp{process, address}] = named{name, until}
	}
}

// Name under which a process has looked an address up; empty if it has not, or long ago.
func (a *Addresses) Name(process identity.Key, address netip.Addr, now uint64) string {
	if len(a.named) == 0 {
		return ""
	}
	found := a.named[lookedUp{process, address}]
	if now > found.until {
		return ""
	}
	return found.name
}
