// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"fmt"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

const (
	microsecond = uint64(1e3)
	millisecond = uint64(1e6)

	connectionRefused = 111 // ECONNREFUSED
	connectionReset   = 104 // ECONNRESET

	// as wait(2) has it
	failure = 1 << 8 // exit code 1
	killed  = 9      // SIGKILL

	wire = 40 * microsecond // one way
)

// story is something that happens in the world, with its causes before its effects. Each of its
// methods goes on at a time, and says when it is over.
type story struct {
	*world
	scenarios Scenarios
	tell      func(family event.Family, time uint64, bytes []byte)
	serving   *exchange // what is done now is for this; nil: for nothing
	watched   watched
	interval  uint64 // between reports of what lasts, and how long a flow is silent before it has ended; ns
}

// --- processes ---------------------------------------------------------------------------------

// program is what somebody runs.
type program struct {
	exe      string
	args     []string
	status   uint32 // as wait(2) has it
	unlinked bool   // it is in memory only
	setuid   bool   // it is root's, and has the set-user-ID bit
	// capabilities that its file gives to who runs it; 0: none.
	capabilities uint64
	stdin        *endpoint // of the other end, where that is a socket; nil: it is none
	// before is what its process does before it is started, and does what it does then; nil: nothing.
	before, does func(p *process, now uint64) uint64
}

// run has a process start a program in another, and wait for its end.
func (s *story) run(parent *process, now uint64, of *program) uint64 {
	p := s.start(parent, parent.exe, now)
	s.tell(event.FamilyProcess, now, forkRecord(p, now))
	if parent.detaches {
		p.session = p.pid
	}
	now += s.between(200*microsecond, 2*millisecond)
	if of.before != nil {
		now = of.before(p, now)
	}
	began := now
	now = s.exec(p, now, of) + s.between(millisecond, 30*millisecond)
	if of.does != nil {
		now = of.does(p, now)
	}
	now += s.between(100*microsecond, 5*millisecond)
	s.tell(event.FamilyProcess, now, exitRecord(p, now, of.status, (now-began)/3+1, 1<<20+s.between(0, 30<<20)))
	return now
}

// exec is the start of a program, and what is remarkable about that.
func (s *story) exec(p *process, now uint64, of *program) uint64 {
	p.exe, p.unlinked = of.exe, of.unlinked
	if of.setuid {
		p.becomeRoot()
	}
	p.credentials.Permitted |= of.capabilities
	p.credentials.Effective |= of.capabilities
	s.tell(event.FamilyProcess, now, execRecord(p, now, of.args...))
	for _, a := range actionsAtExec(p, of) {
		now += microsecond
		s.act(p, now, a)
	}
	return now
}

// command is a program that somebody runs and that does something while it runs.
func (s *story) command(parent *process, now uint64, exe string, args []string, status uint32, does func(p *process, now uint64) uint64) uint64 {
	return s.run(parent, now, &program{exe: exe, args: args, status: status, does: does})
}

// probe is what a kubelet has a container run to see that it lives.
func (s *story) probe(now uint64) uint64 {
	p := s.anyPodOfAll()
	status := uint32(0)
	if s.chance(s.scenarios.Errors) {
		status = failure
	}
	return s.command(s.shims[p].into(p), now, "/bin/busybox", []string{"sh", "-c", "test -f /tmp/ready"}, status, nil)
}

// into is the process as one that is about to enter a container.
func (p *process) into(in *pod) *process {
	inside := *p
	inside.cgroup, inside.credentials, inside.pod, inside.cwd, inside.detaches = in.server.cgroup, in.server.credentials, in, "/", true
	return &inside
}

// job is a cron job outside of any container: a shell, and what it runs. Whether its account is still good says
// /etc/shadow, which is why cron opens it for every job.
func (s *story) job(now uint64) uint64 {
	return s.run(s.cron, now, &program{
		exe: "/bin/dash", args: []string{"/bin/sh", "-c", "/usr/local/bin/backup --keep 7"},
		before: func(p *process, now uint64) uint64 { return s.open(p, now, shadow) },
		does: func(shell *process, now uint64) uint64 {
			return s.command(shell, now, "/usr/bin/curl", []string{"curl", "-sf", "http://" + s.services["frontend"].host() + ":8080/"}, 0, func(curl *process, now uint64) uint64 {
				return s.visit(curl, s.services["frontend"], now)
			})
		},
	})
}

// crashLoop is a container that does not come up: its program fails, or takes more memory than it may.
func (s *story) crashLoop(now uint64) uint64 {
	p := s.anyPodOfAll()
	parent := s.shims[p].into(p)
	for range 3 {
		p.restarts++
		now = s.createContainer(p, now)
		if s.chance(0.3) {
			now = s.command(parent, now, p.server.exe, []string{p.server.comm(), "--serve"}, killed, func(victim *process, now uint64) uint64 {
				s.tell(event.FamilyProcess, now, oomRecord(victim, now))
				return now
			})
		} else {
			now = s.command(parent, now, p.server.exe, []string{p.server.comm(), "--serve"}, failure, nil)
		}
		now += s.between(10*millisecond, 40*millisecond)
	}
	return now
}

// --- names -------------------------------------------------------------------------------------

// lookup of a service. A resolver that tries its search list first asks for three names in vain.
func (s *story) lookup(p *process, of *service, now uint64) uint64 {
	full := of.host() + ".svc.cluster.local"
	if p.pod != nil && s.chance(s.scenarios.SearchLists) {
		for _, suffix := range []string{p.pod.namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"} {
			if suffix == "svc.cluster.local" {
				return s.ask(p, now, full, dnsmessage.RCodeSuccess, of.clusterAddress)
			}
			now = s.ask(p, now, of.host()+"."+suffix, dnsmessage.RCodeNameError)
		}
	}
	return s.ask(p, now, full, dnsmessage.RCodeSuccess, of.clusterAddress)
}

// nxdomainStorm is a program that asks for a name that does not exist, again and again.
func (s *story) nxdomainStorm(now uint64) uint64 {
	p := s.anyPodOfAll().server
	name := "gone-" + s.suffix(5) + "." + p.pod.namespace
	for range 4 {
		now = s.searchInVain(p, now, name) + s.between(300*millisecond, 500*millisecond)
	}
	return now
}

// searchInVain is a resolver in a pod that goes through all of its search list.
func (s *story) searchInVain(p *process, now uint64, name string) uint64 {
	for _, suffix := range []string{p.pod.namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"} {
		now = s.ask(p, now, name+"."+suffix, dnsmessage.RCodeNameError)
	}
	return s.ask(p, now, name, dnsmessage.RCodeNameError)
}

// ask is a query for addresses of each kind, as the C library sends them over a socket of its own, and the end
// of that.
func (s *story) ask(p *process, now uint64, name string, code dnsmessage.RCode, answers ...[16]byte) uint64 {
	c := s.openFlow(p, s.anyPod(s.services["coredns"]), now)
	now = s.askOver(c, now, name, code, answers...) + s.between(10*microsecond, 100*microsecond)
	s.tell(event.FamilyNetwork, now, closeRecord(c, p, event.RoleClient, now))
	s.fallSilent(c, now)
	return now
}

// openFlow is the socket of who asks a name server; nothing was sent so far.
func (s *story) openFlow(p *process, server *pod, now uint64) *connection {
	return &connection{client: p, server: server.server, protocol: event.ProtocolUDP, opened: now, established: now,
		from: s.local(p), to: server.endpoint(53), cause: s.cause(p)}
}

// askOver a socket that is there.
func (s *story) askOver(c *connection, now uint64, name string, code dnsmessage.RCode, answers ...[16]byte) uint64 {
	const between = 20 * microsecond // the two queries, and the two answers
	id, socket, wait := uint16(s.random.Uint32()), s.random.Uint64()>>1, s.between(150*microsecond, 4*millisecond)
	for i, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		query, answer := packDNS(id+uint16(i), name, kind, false, 0), packDNS(id+uint16(i), name, kind, true, code, answers...)
		sent := now + uint64(i)*between
		s.tell(event.FamilyDNS, sent, dnsRecord(c, socket, sent, true, query))
		s.tell(event.FamilyDNS, sent+wait, dnsRecord(c, socket, sent+wait, false, answer))
		c.sent, c.received = c.sent+uint64(len(query)), c.received+uint64(len(answer))
		c.questions, c.answers = c.questions+1, c.answers+1
	}
	return now + between + wait
}

func (s *story) local(p *process) endpoint {
	if p.pod != nil {
		return p.pod.endpoint(s.port())
	}
	return endpoint{address: ipv4(192, 0, 2, 10), port: s.port(), netns: hostNetns}
}

// --- connections -------------------------------------------------------------------------------

// connect a process to a server, nil if that is not on this node.
func (s *story) connect(p, server *process, to endpoint, now *uint64) *connection {
	c := &connection{client: p, server: server, protocol: event.ProtocolTCP, opened: *now, from: s.local(p), to: to,
		sequence: s.random.Uint32(), acknowledged: s.random.Uint32(), rtt: uint32(s.between(40, 900)), cause: s.cause(p)}
	*now += uint64(c.rtt) * microsecond
	c.established = *now
	s.tell(event.FamilyNetwork, *now, connectRecord(c, *now, 0))
	return c
}

// cause of what a process sends now, as the kernel would know it: at this rate a server serves one request
// at a time.
func (s *story) cause(p *process) bpf.WireCause {
	cause := bpf.WireCause{Thread: p.pid}
	if p.pod != nil && p == p.pod.server {
		cause.Flags = event.CauseServer
	}
	if s.serving != nil {
		cause.Flags |= event.CauseSole
		cause.Sequence, cause.Acknowledged = s.serving.sequence, s.serving.acknowledged
	}
	return cause
}

func (s *story) close(c *connection, now uint64) uint64 {
	if c.client != nil {
		s.tell(event.FamilyNetwork, now, closeRecord(c, c.client, event.RoleClient, now))
	}
	now += uint64(c.rtt) * microsecond
	if c.server != nil {
		s.tell(event.FamilyNetwork, now, closeRecord(c, c.server, event.RoleServer, now))
	}
	return now
}

// work is a connection of which only the bytes are seen, as a database's.
func (s *story) work(p *process, with *service, now uint64) uint64 {
	server := s.anyPod(with)
	c := s.connect(p, server.server, server.endpoint(with.port), &now)
	c.sent, c.received = 40+s.between(0, 4000), 20+s.between(0, 200_000)
	return s.close(c, now+s.between(millisecond, 20*millisecond))
}

// refused is a connection to where nobody listens.
func (s *story) refused(p *process, now uint64) uint64 {
	to := s.anyPodOfAll()
	c := &connection{client: p, protocol: event.ProtocolTCP, opened: now, from: s.local(p), to: to.endpoint(8443), cause: s.cause(p)}
	now += s.between(30*microsecond, 300*microsecond)
	s.tell(event.FamilyNetwork, now, connectRecord(c, now, connectionRefused))
	return now
}

// noisyNeighbor is one pod that connects without end.
func (s *story) noisyNeighbor(now uint64) uint64 {
	p := s.anyPod(s.services["catalog"]).server
	for range 40 {
		now = s.work(p, s.services["redis"], now)
	}
	return now
}

// --- requests ----------------------------------------------------------------------------------

// visit is a request from the beginning: the name, the connection, the exchange, the end.
func (s *story) visit(p *process, to *service, now uint64) uint64 {
	now = s.lookup(p, to, now)
	server := s.anyPod(to)
	c := s.connect(p, server.server, server.endpoint(to.port), &now)
	now = s.request(c, to, now)
	return s.close(c, now+s.between(100*microsecond, 10*millisecond))
}

// kept is a request over a connection that was there before and stays.
func (s *story) kept(now uint64) uint64 {
	to := s.services[entrances[s.random.IntN(len(entrances))]]
	return s.exchange(s.keptBy(s.anyPodOfAll().server, to), to, now, nil)
}

// keptBy is a connection that a process has had before.
func (s *story) keptBy(p *process, to *service) *connection {
	server := s.anyPod(to)
	return &connection{client: p, server: server.server, protocol: event.ProtocolTCP, from: s.local(p), to: server.endpoint(to.port),
		sequence: s.random.Uint32(), acknowledged: s.random.Uint32(), cause: s.cause(p)}
}

// entrances are the services that speak HTTP.
var entrances = []string{"frontend", "catalog", "cart", "checkout", "payment"}

// request that the server answers with the help of others.
func (s *story) request(c *connection, to *service, now uint64) uint64 {
	return s.exchange(c, to, now, func(now uint64) uint64 {
		for _, name := range to.calls {
			if !s.chance(0.5) {
				continue
			}
			switch called := s.services[name]; {
			case !called.http:
				now = s.work(c.server, called, now)
			case s.chance(0.1):
				now = s.visitElsewhere(c.server, called, now)
			case s.chance(0.5):
				now = s.request(s.keptBy(c.server, called), called, now)
			default:
				now = s.visit(c.server, called, now)
			}
		}
		return now
	})
}

// exchange is a request and its response; serve is what the server does meanwhile.
func (s *story) exchange(c *connection, to *service, now uint64, serve func(now uint64) uint64) uint64 {
	x := &exchange{
		method: "GET", host: fmt.Sprintf("%s:%d", to.host(), to.port), agent: c.agent(),
		target: s.target(to), start: now, status: 200, responseBody: s.between(100, 60_000),
		sequence: c.sequence, acknowledged: c.acknowledged,
	}
	if s.chance(0.2) {
		x.method, x.status, x.requestBody, x.responseBody = "POST", 201, s.between(20, 4000), s.between(2, 300)
	}
	now += wire + s.between(200*microsecond, 8*millisecond)
	if serve != nil {
		before := s.serving
		s.serving = x
		now = serve(now)
		s.serving = before
	}
	failed := s.chance(s.scenarios.Errors)
	if failed {
		s.fail(x, c)
	}
	x.first = now + wire
	x.end = x.first + s.between(10*microsecond, millisecond)
	if c.server != nil {
		s.tell(event.FamilyHTTP, x.end-wire, exchangeRecord(c, x, c.server, event.RoleServer, wire))
	}
	if c.client != nil {
		s.tell(event.FamilyHTTP, x.end, exchangeRecord(c, x, c.client, event.RoleClient, 0))
	}
	c.sent += uint64(len(x.head())) + x.requestBody
	c.received += 160 + x.responseBody
	c.sequence += uint32(len(x.head())) + uint32(x.requestBody)
	c.acknowledged += 160 + uint32(x.responseBody)
	if failed && x.status >= 500 && x.method == "GET" {
		return s.exchange(c, to, x.end+s.between(millisecond, 50*millisecond), nil) // once more, and maybe again
	}
	return x.end
}

// fail is what can go wrong. A connection that was there before is never reset, since it stays.
func (s *story) fail(x *exchange, c *connection) {
	x.responseBody = 0
	switch kind := s.random.IntN(4); {
	case kind == 0:
		x.status, x.responseBody = 404, 19
	case kind == 1:
		x.status = 503
	case kind == 2 || c.established == 0:
		x.status = 500
	default:
		x.status, x.errno = 0, connectionReset
		c.reset = true
	}
}

// agent is what the client says that it is.
func (c *connection) agent() string {
	if c.client == nil {
		return "Mozilla/5.0 (X11; Linux x86_64)"
	}
	return c.client.comm() + "/1.0"
}

func (s *story) target(of *service) string {
	route := of.routes[s.random.IntN(len(of.routes))]
	if strings.Contains(route, "%d") {
		return fmt.Sprintf(route, 1+s.random.IntN(500))
	}
	return route
}
