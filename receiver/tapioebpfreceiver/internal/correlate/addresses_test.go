// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

func TestNamesOfAddresses(t *testing.T) {
	a, process := NewAddresses(), identity.Key{PID: 10}
	six := netip.MustParseAddr("2001:db8::1")
	assert.Empty(t, a.Name(process, peer, 0))
	a.Answered(process, "web", []string{"alias.example", peer.String(), six.String()}, 60, second)
	assert.Equal(t, "web", a.Name(process, peer, 61*second))
	assert.Equal(t, "web", a.Name(process, six, 61*second))
	assert.Empty(t, a.Name(process, peer, 61*second+1), "its time is over")
	assert.Empty(t, a.Name(identity.Key{PID: 11}, peer, second), "another process's")
	assert.Empty(t, a.Name(process, public, second))
	a.Answered(process, "www", []string{peer.String()}, 0, 2*second)
	assert.Equal(t, "www", a.Name(process, peer, 2*second+minTTL), "the last name counts, and that for a moment")
	assert.Empty(t, a.Name(process, peer, 2*second+minTTL+1))
	a.Answered(process, "old", []string{peer.String()}, 1<<31, 0)
	assert.Empty(t, a.Name(process, peer, maxTTL+1))
}

func TestNamesOfAddressesAreBounded(t *testing.T) {
	a := NewAddresses()
	for i := range uint32(maxAddresses + 1) {
		a.Answered(identity.Key{PID: i}, "web", []string{peer.String()}, 60, 0)
	}
	assert.LessOrEqual(t, len(a.named), maxAddresses)
}
