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
	a, by := NewAddresses(), Asker{Process: identity.Key{PID: 10}, Thread: 10}
	six := netip.MustParseAddr("2001:db8::1")
	assert.Empty(t, a.Name(by, peer, 0))
	a.Answered(by, "web", []string{"alias.example", peer.String(), six.String()}, 60, second)
	assert.Empty(t, a.Name(by, peer, second-1), "it was not asked for yet")
	assert.Equal(t, "web", a.Name(by, peer, 61*second))
	assert.Equal(t, "web", a.Name(by, six, 61*second))
	assert.Empty(t, a.Name(by, peer, 61*second+1), "its time is over")
	assert.Empty(t, a.Name(Asker{Process: identity.Key{PID: 11}}, peer, second), "another process's")
	assert.Empty(t, a.Name(by, public, second))
	a.Answered(by, "www", []string{peer.String()}, 0, 2*second)
	assert.Equal(t, "www", a.Name(by, peer, 2*second+minTTL), "the last name counts, and that for a moment")
	assert.Empty(t, a.Name(by, peer, 2*second+minTTL+1))
	a.Answered(by, "old", []string{peer.String()}, 1<<31, 0)
	assert.Empty(t, a.Name(by, peer, maxTTL+1))
}

// Which name of an address is meant takes to know who asked for it.
func TestNamesOfOneAddress(t *testing.T) {
	asker := func(pid, thread uint32) Asker { return Asker{Process: identity.Key{PID: pid}, Thread: thread} }
	serving := func(thread uint32) Asker {
		return Asker{Process: identity.Key{PID: 1}, Thread: thread, Dedicated: true}
	}
	type answer struct {
		by   Asker
		name string
		at   uint64 // s
	}
	for _, tt := range []struct {
		about   string
		answers []answer
		by      Asker
		opened  uint64 // s
		want    string
	}{
		{"nobody has asked", nil, asker(1, 10), 1, ""},
		{"another process has", []answer{{asker(2, 20), "a", 1}}, asker(1, 10), 2, ""},
		{"any thread of the process", []answer{{asker(1, 10), "a", 1}}, asker(1, 11), 2, "a"},
		{"the thread is not known", []answer{{asker(1, 10), "a", 1}}, asker(1, 0), 2, "a"},
		{"before the answer came", []answer{{asker(1, 10), "a", 3}}, asker(1, 10), 2, ""},
		{"as long as a short answer counts", []answer{{asker(1, 10), "a", 1}}, asker(1, 10), 11, "a"},
		{"no longer", []answer{{asker(1, 10), "a", 1}}, asker(1, 10), 12, ""},
		{"asked again after it was opened", []answer{{asker(1, 10), "a", 1}, {asker(1, 11), "a", 5}}, asker(1, 0), 2, "a"},
		{"one name after the other", []answer{{asker(1, 10), "a", 1}, {asker(1, 10), "b", 2}}, asker(1, 10), 3, "b"},
		{"two names, by which thread is not known", []answer{{asker(1, 10), "a", 1}, {asker(1, 10), "b", 2}}, asker(1, 0), 3, ""},
		{"two names, another thread", []answer{{asker(1, 10), "a", 1}, {asker(1, 10), "b", 2}}, asker(1, 11), 3, ""},
		{"two threads, two names", []answer{{asker(1, 10), "a", 1}, {asker(1, 11), "b", 2}}, asker(1, 11), 3, ""},
		{"the last name once more", []answer{{asker(1, 10), "a", 1}, {asker(1, 11), "b", 2}, {asker(1, 11), "b", 3}}, asker(1, 11), 4, ""},
		{"the other name has expired", []answer{{asker(1, 10), "a", 1}, {asker(1, 11), "b", 12}}, asker(1, 12), 13, "b"},
		{"threads that serve", []answer{{serving(10), "a", 1}, {serving(11), "b", 2}}, serving(10), 3, "a"},
		{"a thread that serves, by another's lookup", []answer{{asker(1, 10), "a", 1}}, serving(11), 2, "a"},
		{"a thread that serves, too early", []answer{{serving(10), "a", 3}}, serving(10), 2, ""},
	} {
		addresses := NewAddresses()
		for _, a := range tt.answers {
			addresses.Answered(a.by, a.name, []string{"alias", "192.0.2.1"}, 5, a.at*second)
		}
		assert.Equal(t, tt.want, addresses.Name(tt.by, netip.MustParseAddr("192.0.2.1"), tt.opened*second), tt.about)
		assert.Empty(t, addresses.Name(tt.by, netip.MustParseAddr("192.0.2.2"), tt.opened*second), tt.about)
	}
}

func TestNamesOfAddressesAreBounded(t *testing.T) {
	a := NewAddresses()
	for i := range uint32(maxAddresses + 1) {
		a.Answered(Asker{Process: identity.Key{PID: i}, Thread: 1, Dedicated: i%2 == 0}, "web", []string{peer.String()}, 60, 0)
	}
	assert.LessOrEqual(t, len(a.named), maxAddresses)
}
