// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"cmp"
	"slices"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// lastingConnection is one to a database that is reported until it is closed.
func (s *story) lastingConnection(now uint64) uint64 {
	p := s.anyPodOfAll().server
	to, now, ok := s.find(p, s.services["postgres"], now)
	if !ok {
		return now
	}
	c := s.connect(p, to, &now)
	for range 1 + s.random.IntN(3) {
		now += s.interval
		c.sent, c.received = c.sent+s.between(0, 40_000), c.received+s.between(0, 2_000_000)
		s.report(c, event.RoleServer, now)
	}
	return s.close(c, now+s.between(millisecond, s.interval))
}

// lastingFlow is a resolver that keeps its socket.
func (s *story) lastingFlow(now uint64) uint64 {
	p := s.anyPodOfAll()
	of := s.notCalled(p)
	c, ok := s.openFlow(p.server, s.way(s.services["coredns"]), now)
	if !ok {
		return now
	}
	for range 1 + s.random.IntN(3) {
		for range 3 { // never silent for as long as would end it
			s.askOver(c, now, of.host()+".svc.cluster.local", dnsmessage.RCodeSuccess, of.clusterAddress)
			now += s.interval / 3
		}
		s.report(c, event.RoleUnknown, now)
	}
	s.endFlow(c, now)
	return now
}

// report what a connection or flow has carried so far, by those of its sides that are on this node.
func (s *story) report(c *connection, server uint8, now uint64) {
	s.tell(event.FamilyNetwork, now, statsRecord(event.TypeConnectionReport, c, c.client, event.RoleClient, now))
	if c.server != nil {
		s.tell(event.FamilyNetwork, now, statsRecord(event.TypeConnectionReport, c, c.server, server, now))
	}
	c.told = &told{c.sent, c.received}
}

// endFlow is the end of a client's socket. At the server, whose socket has others, too, and is older than the source,
// a flow is over when nothing came for long, and has ended with its last packet. What the client's port is used for
// before would go on with it.
func (s *story) endFlow(c *connection, now uint64) {
	s.tell(event.FamilyNetwork, now, closeRecord(c, c.client, event.RoleClient, now))
	silent := now + s.interval
	if c.server != nil {
		latest := s.latest
		s.tell(event.FamilyNetwork, silent, closeRecord(c, c.server, event.RoleUnknown, now))
		s.latest = latest // nobody does anything for it
	}
	c.network.udp.release(uint32(c.from.port), silent)
}

// --- connections that are older than the source ------------------------------------------------

// keptKey is who has connections to which service.
type keptKey struct {
	process *process
	service *service
}

type keptConnection struct {
	*connection
	free uint64 // when it is used no more; CLOCK_BOOTTIME, ns
}

// mostKept are in a program's pool for a service. With its ports it has them since before the source began.
const mostKept = 32

// kept is a request over a connection that was there before and stays.
func (s *story) kept(now uint64) uint64 {
	to := s.services[entrances[s.random.IntN(len(entrances))]]
	return s.overKept(s.anyPodOfAll().server, to, now, func(c *connection, to *service, now uint64) uint64 {
		return s.exchange(c, to, now, nil)
	})
}

// overKept has a process use one of the connections that it keeps.
func (s *story) overKept(p *process, to *service, now uint64, request func(c *connection, to *service, now uint64) uint64) uint64 {
	c := s.keptBy(p, to, &now)
	c.free, c.cause = notYet, s.cause(p, now)
	end := request(c.connection, to, now)
	c.free = end
	return end
}

// keptBy is a connection that is free. Where all are in use, one waits for the first that is.
func (s *story) keptBy(p *process, to *service, now *uint64) *keptConnection {
	key := keptKey{p, to}
	pool := s.world.kept[key]
	for _, c := range pool {
		if c.free < *now {
			return c
		}
	}
	if len(pool) < mostKept {
		c := &keptConnection{connection: s.older(p, s.way(to))}
		s.world.kept[key] = append(pool, c)
		return c
	}
	first := slices.MinFunc(pool, func(a, b *keptConnection) int { return cmp.Compare(a.free, b.free) })
	*now = max(*now, first.free+1)
	return first
}

// older is a connection that was established before the source began.
func (s *story) older(p *process, to way) *connection {
	own := s.networkOf(p)
	own.olderPort--
	return &connection{
		client: p, server: to.server, network: own, protocol: event.ProtocolTCP, agent: p.comm() + "/1.0",
		from: own.endpoint(own.olderPort), to: to.to, at: to.at, sequence: s.random.Uint32(), acknowledged: s.random.Uint32(),
	}
}

// --- others --------------------------------------------------------------------------------------

// visitFromOutside is a request from another node, or from outside of the cluster.
func (s *story) visitFromOutside(now uint64) uint64 {
	c, to := s.arrival(&now)
	now = s.request(c, to, now)
	return s.close(c, now+s.between(100*microsecond, 10*millisecond))
}

// callers and whom they call with HTTP.
var callers = [][2]string{{"frontend", "catalog"}, {"frontend", "cart"}, {"frontend", "checkout"}, {"checkout", "payment"}}

// arrival is a connection of which only the server is on this node: from a browser, or from a pod that the service
// has led here.
func (s *story) arrival(now *uint64) (*connection, *service) {
	to, agent, from := s.services["frontend"], "Mozilla/5.0 (X11; Linux x86_64)", &s.internet
	address := ipv4(198, 51, 100, byte(2+s.random.IntN(250)))
	if s.chance(0.7) {
		pair := callers[s.random.IntN(len(callers))]
		caller := s.services[pair[0]]
		client := caller.elsewhere[s.random.IntN(len(caller.elsewhere))]
		to, agent, from, address = s.services[pair[1]], comm(caller.exe)+"/1.0", &client.network, client.network.address
	}
	server := s.anyPod(to)
	port := from.tcp.await(now)
	at := server.endpoint(to.port)
	return &connection{
		server: server.server, network: from, protocol: event.ProtocolTCP, opened: *now, established: *now, agent: agent,
		from: endpoint{address: address, port: uint16(port)}, to: at, at: at,
		sequence: s.random.Uint32(), acknowledged: s.random.Uint32(), rtt: uint32(s.between(200, 900)),
	}, to
}

// askInVain is a question that gets no answer, also not when it is asked again.
func (s *story) askInVain(p *process, now uint64) uint64 {
	c, ok := s.openFlow(p, wayTo(endpoint{address: ipv4(192, 0, 2, 53), port: 53}), now)
	if !ok {
		return now
	}
	query := packDNS(uint16(s.random.Uint32()), "files.example.net", dnsmessage.TypeA, false, 0)
	socket := s.random.Uint64() >> 1
	for range 2 {
		s.tell(event.FamilyDNS, now, dnsRecord(c, socket, now, true, query))
		c.sent, c.questions = c.sent+uint64(len(query)), c.questions+1
		now += s.between(300*millisecond, 500*millisecond)
	}
	s.endFlow(c, now)
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
		now, _ = s.ask(p, now, "reports.example.net", dnsmessage.RCodeNameError)
		return now
	default:
		return now + s.between(10*millisecond, 100*millisecond)
	}
}
