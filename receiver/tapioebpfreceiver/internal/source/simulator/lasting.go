// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// lastingConnection is one to a database that is reported until it is closed.
func (s *story) lastingConnection(now uint64) uint64 {
	with := s.services["postgres"]
	server := s.anyPod(with)
	c := s.connect(s.anyPodOfAll().server, server.server, server.endpoint(with.port), &now)
	for range 1 + s.random.IntN(3) {
		now += s.interval
		c.sent, c.received = c.sent+s.between(0, 40_000), c.received+s.between(0, 2_000_000)
		s.report(c, event.RoleServer, now)
	}
	return s.close(c, now+s.between(millisecond, s.interval))
}

// lastingFlow is a resolver that keeps its socket.
func (s *story) lastingFlow(now uint64) uint64 {
	p, of := s.anyPodOfAll().server, s.services[entrances[s.random.IntN(len(entrances))]]
	c := s.openFlow(p, s.anyPod(s.services["coredns"]), now)
	for range 1 + s.random.IntN(3) {
		for range 3 { // never silent for as long as would end it
			s.askOver(c, now, of.host()+".svc.cluster.local", dnsmessage.RCodeSuccess, of.clusterAddress)
			now += s.interval / 3
		}
		s.report(c, event.RoleUnknown, now)
	}
	s.tell(event.FamilyNetwork, now, closeRecord(c, p, event.RoleClient, now))
	s.fallSilent(c, now)
	return now
}

// report what a connection or flow has carried so far, by both of its sides.
func (s *story) report(c *connection, server uint8, now uint64) {
	s.tell(event.FamilyNetwork, now, statsRecord(event.TypeConnectionReport, c, c.client, event.RoleClient, now))
	s.tell(event.FamilyNetwork, now, statsRecord(event.TypeConnectionReport, c, c.server, server, now))
	c.told = &told{c.sent, c.received}
}

// fallSilent is the end of a flow at a server, whose socket has others, too: it is told when nothing came for long,
// and has ended with its last packet. The socket is older than the source.
func (s *story) fallSilent(c *connection, now uint64) {
	s.tell(event.FamilyNetwork, now+s.interval, closeRecord(c, c.server, event.RoleUnknown, now))
}

// elsewhere is a pod's address on another node.
func (s *story) elsewhere() [16]byte { return ipv4(10, 244, 250, byte(2+s.random.IntN(250))) }

// visitElsewhere is a request to a service's pod on another node.
func (s *story) visitElsewhere(p *process, to *service, now uint64) uint64 {
	now = s.lookup(p, to, now)
	c := s.connect(p, nil, endpoint{address: s.elsewhere(), port: to.port}, &now)
	now = s.exchange(c, to, now, nil)
	return s.close(c, now+s.between(100*microsecond, 10*millisecond))
}

// visitFromOutside is a request from another node, or from outside of the cluster.
func (s *story) visitFromOutside(now uint64) uint64 {
	to := s.services["frontend"]
	server := s.anyPod(to)
	from := s.elsewhere()
	if s.chance(0.3) {
		from = ipv4(198, 51, 100, byte(2+s.random.IntN(250)))
	}
	c := &connection{
		server: server.server, protocol: event.ProtocolTCP, opened: now, established: now,
		from: endpoint{address: from, port: s.port()}, to: server.endpoint(to.port),
		sequence: s.random.Uint32(), acknowledged: s.random.Uint32(), rtt: uint32(s.between(200, 900)),
	}
	now = s.request(c, to, now)
	return s.close(c, now+s.between(100*microsecond, 10*millisecond))
}

// askInVain is a question that gets no answer, also not when it is asked again.
func (s *story) askInVain(p *process, now uint64) uint64 {
	c := &connection{client: p, protocol: event.ProtocolUDP, opened: now, established: now, from: s.local(p),
		to: endpoint{address: ipv4(192, 0, 2, 53), port: 53}, cause: s.cause(p)}
	query := packDNS(uint16(s.random.Uint32()), "files.example.net", dnsmessage.TypeA, false, 0)
	socket := s.random.Uint64() >> 1
	for range 2 {
		s.tell(event.FamilyDNS, now, dnsRecord(c, socket, now, true, query))
		c.sent, c.questions = c.sent+uint64(len(query)), c.questions+1
		now += s.between(300*millisecond, 500*millisecond)
	}
	s.tell(event.FamilyNetwork, now, closeRecord(c, p, event.RoleClient, now))
	return now
}

// As wait(2) has the ends of scripts: by curl's exit codes, and by how a shell tells of a child that was killed.
const (
	noName      = 6 << 8
	notReached  = 7 << 8
	childKilled = (128 + killed) << 8
)

// errand is a script that comes to nothing: what it needs has no name, or does not listen, or takes too long. Cron
// starts it, or somebody in a container.
func (s *story) errand(now uint64) uint64 {
	parent := s.cron
	if in := s.anyPodOfAll(); s.chance(0.5) {
		parent = s.shims[in].into(in)
	}
	outcome := []uint32{noName, notReached, killed}[s.random.IntN(3)]
	does := func(p *process, now uint64) uint64 { return s.comeToNothing(p, now, outcome) }
	if s.chance(0.5) {
		return s.command(parent, now, "/bin/dash", []string{"/bin/sh", "-c", "exec report --daily"}, outcome, does)
	}
	status := outcome
	if outcome == killed {
		status = childKilled
	}
	return s.command(parent, now, "/bin/dash", []string{"/bin/sh", "-c", "env -i report --daily"}, status, func(shell *process, now uint64) uint64 {
		return s.command(shell, now, "/usr/bin/env", []string{"env", "-i", "report", "--daily"}, outcome, does)
	})
}

// comeToNothing is a process that becomes the program that it is to run, which then fails.
func (s *story) comeToNothing(p *process, now uint64, outcome uint32) uint64 {
	p.exe = "/usr/local/bin/report"
	s.tell(event.FamilyProcess, now, execRecord(p, now, "report", "--daily"))
	now += s.between(millisecond, 30*millisecond)
	switch {
	case outcome == notReached:
		return s.refused(p, now)
	case outcome == noName && s.chance(0.3):
		return s.askInVain(p, now)
	case outcome == noName && p.pod != nil:
		return s.searchInVain(p, now, "reports."+p.pod.namespace)
	case outcome == noName:
		return s.ask(p, now, "reports.example.net", dnsmessage.RCodeNameError)
	default:
		return now + s.between(10*millisecond, 100*millisecond)
	}
}
