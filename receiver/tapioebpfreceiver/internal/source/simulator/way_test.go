// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

// traveller follows who asks for which names, and where they go then.
type traveller struct {
	t        *testing.T
	answers  map[key][]netip.Addr
	services map[netip.Addr]bool // addresses that Services have
	pods     map[netip.Addr]bool // of this node
	headless map[netip.Addr]bool // addresses of pods that have names
	others   map[netip.Addr]bool // of pods on other nodes
	opened   map[bpf.WireConnectionEnds]bool
	served   map[[2]uint32]netip.Addr // server's own address, by what both ends know
	// how often what was seen
	toAnswers, asked, fromElsewhere, joined int
}

func newTraveller(t *testing.T, s *Source) *traveller {
	f := &traveller{
		t: t, answers: map[key][]netip.Addr{}, services: map[netip.Addr]bool{}, pods: map[netip.Addr]bool{}, headless: map[netip.Addr]bool{},
		others: map[netip.Addr]bool{}, opened: map[bpf.WireConnectionEnds]bool{}, served: map[[2]uint32]netip.Addr{},
	}
	for _, of := range s.Services() {
		f.services[of.Address] = true
	}
	for _, of := range s.world.services {
		for _, p := range slices.Concat(of.pods, of.elsewhere) {
			address := event.Address(p.network.address)
			f.pods[address], f.others[address] = p.server != nil, p.server == nil
			f.headless[address] = of.isHeadless()
		}
	}
	return f
}

func (f *traveller) see(record []byte) {
	header, err := event.DecodeHeader(record)
	require.NoError(f.t, err)
	who := key{header.Pid, header.StartTime}
	switch event.Type(header.Type) {
	case event.TypeDNSMessage:
		e, err := event.DecodeDNSMessage(record)
		require.NoError(f.t, err)
		f.learn(who, e.Payload)
	case event.TypeConnectionConnect:
		e, err := event.DecodeConnectionConnect(record)
		require.NoError(f.t, err)
		if e.Error == 0 {
			f.connects(who, e.Ends)
		}
	case event.TypeConnectionClose:
		e, err := event.DecodeConnectionStats(record)
		require.NoError(f.t, err)
		if e.Ends.Role == event.RoleClient {
			delete(f.opened, e.Ends)
		}
	case event.TypeHTTPExchange:
		e, err := event.DecodeHTTPExchange(record)
		require.NoError(f.t, err)
		f.asks(who, e.WireHttpExchange)
	}
}

func (f *traveller) learn(who key, payload []byte) {
	var message dns.Message
	require.NoError(f.t, dns.NewDecoder().Decode(payload, &message))
	for _, answer := range message.Answers {
		address, err := netip.ParseAddr(answer)
		require.NoError(f.t, err)
		f.answers[who] = append(f.answers[who], address)
	}
}

// connects to an answer, or to where a pool has known of: never to a pod behind a Service.
func (f *traveller) connects(who key, ends bpf.WireConnectionEnds) {
	to := event.Address(ends.PeerAddress)
	isAnswer := slices.Contains(f.answers[who], to)
	if isAnswer {
		f.toAnswers++
	}
	if to != event.Address(outside) { // the attacker's shell has it as an address
		require.True(f.t, f.services[to] || f.headless[to], "%v", to)
	}
	_, isInUse := f.opened[ends]
	require.False(f.t, isInUse, "a port that is in use")
	f.opened[ends] = isAnswer
}

func (f *traveller) asks(who key, x *bpf.WireHttpExchange) {
	local, peer := event.Address(x.Ends.LocalAddress), event.Address(x.Ends.PeerAddress)
	both := [2]uint32{x.RequestSequence, x.RequestAcknowledged}
	if x.Ends.Role == event.RoleServer {
		require.True(f.t, f.pods[local], "a server's address is its pod's")
		f.served[both] = local
		if f.others[peer] {
			f.fromElsewhere++
		}
		return
	}
	require.True(f.t, f.services[peer], "a client's peer is the Service")
	if server, ok := f.served[both]; ok {
		f.joined++
		require.NotEqual(f.t, peer, server)
		delete(f.served, both)
	}
	if isAnswer, ok := f.opened[x.Ends]; ok {
		f.asked++
		require.True(f.t, isAnswer, "who opens a connection for a request has looked the name up: %v to %v", who, peer)
	}
}

// TestWhereConnectionsLead: clients connect to what their lookups had as answers, which are the addresses of Services,
// as kube-proxy has it; the pods behind those see their own.
func TestWhereConnectionsLead(t *testing.T) {
	s := newSource(t, options(3))
	f := newTraveller(t, s)
	for range 20 {
		require.NoError(t, s.Read(f.see))
	}
	assert.Greater(t, f.toAnswers, 1000)
	assert.Greater(t, f.asked, 300)
	assert.Greater(t, f.joined, 300, "both ends of a request have the same numbers")
	assert.Greater(t, f.fromElsewhere, 100)
	assert.Len(t, f.others, 3*20, "pods of three nodes")
}

// TestPortsInUse: with many connections and lookups at a time, and few ports, none has another's port; nor has a
// process another's pid.
func TestPortsInUse(t *testing.T) {
	type socket struct {
		address  [16]byte
		port     uint16
		protocol uint8
	}
	o := options(6)
	o.Rate, o.Pods, o.ReportInterval = 20_000, 1, time.Second
	s := newSource(t, o)
	for _, p := range s.world.pods {
		p.network.tcp, p.network.udp = newNumbers(40_000, 40_099), newNumbers(40_000, 40_099)
	}
	s.world.pids.last = s.world.pids.next + 500
	c := newChecker(t, s)
	inUse, most := map[socket]uint64{}, 0
	see := func(record []byte) {
		c.check(record)
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		switch event.Type(header.Type) {
		case event.TypeConnectionConnect:
			e, err := event.DecodeConnectionConnect(record)
			require.NoError(t, err)
			at := socket{e.Ends.LocalAddress, e.Ends.LocalPort, e.Ends.Protocol}
			require.Zero(t, inUse[at])
			if e.Error == 0 {
				inUse[at] = header.Time
				most = max(most, len(inUse))
			}
		case event.TypeConnectionClose:
			e, err := event.DecodeConnectionStats(record)
			require.NoError(t, err)
			if e.Ends.Role == event.RoleClient {
				delete(inUse, socket{e.Ends.LocalAddress, e.Ends.LocalPort, e.Ends.Protocol})
			}
		}
	}
	readUntil(s, firstBoot+5e9, see)
	assert.Greater(t, most, 100)
	assert.Positive(t, s.world.pods[0].network.udp.full, "there were times without a free port")
	assert.Less(t, s.world.pids.next, s.world.pids.last, "pids were used again")
}

// readUntil reads what there is up to a time, without waiting for it.
func readUntil(s *Source, end uint64, handle func(record []byte)) {
	for s.now.Load() < end {
		s.handOutUntil(end, handle)
	}
}

func TestNumbers(t *testing.T) {
	n := newNumbers(10, 12)
	take := func(now uint64) uint32 {
		number, ok := n.take(now)
		require.True(t, ok)
		return number
	}
	assert.Equal(t, []uint32{10, 11, 12}, []uint32{take(1), take(1), take(1)})
	_, ok := n.take(2)
	assert.False(t, ok)
	n.release(11, 20)
	n.release(12, 15)
	n.release(10, 30)
	now := uint64(5)
	assert.EqualValues(t, 12, n.await(&now), "the first that is free")
	assert.EqualValues(t, 16, now, "is waited for")
	_, ok = n.take(20)
	assert.False(t, ok, "at that time it is in use")
	assert.EqualValues(t, 11, take(21))
	assert.EqualValues(t, 10, take(31))

	n = newNumbers(1, 1<<20)
	for now := range uint64(10 * leastSweep) {
		n.release(take(now+1), now+10)
		n.forget(now)
	}
	assert.LessOrEqual(t, len(n.used), leastSweep, "those that are free are forgotten")
	assert.Equal(t, uint64(notYet), n.used[take(1e6)])
}
