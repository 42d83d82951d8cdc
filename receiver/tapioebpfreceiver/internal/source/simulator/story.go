// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"fmt"
	"slices"
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
	threads   map[*process]*thread // that do what is told now
	latest    uint64               // that was told now
	// hasRoomForNames says that there may be lookups that nobody needs to wait for.
	hasRoomForNames func() bool
	interval        uint64 // between reports of what lasts, and how long a flow is silent before it has ended; ns
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
	p := s.start(parent, parent.exe, &now)
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
	s.reap(p, now)
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
	inside.cgroup, inside.credentials, inside.pod, inside.vpids = in.server.cgroup, in.server.credentials, in, in.vpids
	inside.cwd, inside.detaches = "/", true
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

// --- names -------------------------------------------------------------------------------------

// way to a server.
type way struct {
	name   string   // under which the cluster knows it; empty: it does not
	to     endpoint // as a client's socket has it
	at     endpoint // the server's own
	server *process // nil: not on this node
}

// wayTo somebody who is not in the cluster.
func wayTo(to endpoint) way { return way{to: to, at: to} }

// way to one of a service's pods. The address of a Service stays that of the client's socket: which pod it stands for
// the node decides behind it, as kube-proxy has told it. Pods of a headless one have names, and are told by their own
// addresses.
func (w *world) way(of *service) way {
	to := w.anyPod(of)
	if w.chance(farAway) {
		to = of.elsewhere[w.random.IntN(len(of.elsewhere))]
	}
	found := way{name: of.host(), to: to.endpoint(of.port), at: to.endpoint(of.port), server: to.server}
	if of.isHeadless() {
		found.name = to.name + "." + found.name
	} else {
		found.to = endpoint{address: of.clusterAddress, port: of.port}
	}
	return found
}

// find the way to a service, whose name is looked up for it. There is none for one who cannot ask.
func (s *story) find(p *process, of *service, now uint64) (found way, end uint64, ok bool) {
	found = s.way(of)
	end, ok = s.lookup(p, found.name, found.to.address, now)
	return found, end, ok
}

// lookup of a name of the cluster. A resolver that tries its search list first asks for other names in vain.
func (s *story) lookup(p *process, name string, address [16]byte, now uint64) (end uint64, ok bool) {
	full := name + ".svc.cluster.local"
	if s.searches(p) {
		if now, ok = s.ask(p, now, name+"."+p.pod.namespace+".svc.cluster.local", dnsmessage.RCodeNameError); !ok {
			return now, false
		}
	}
	return s.ask(p, now, full, dnsmessage.RCodeSuccess, address)
}

// searches says whether the resolver of a process tries a search list.
func (s *story) searches(p *process) bool {
	return p.pod != nil && p.pod.ndots < s.scenarios.SearchLists
}

// nxdomainStorm is a program that asks for a name that does not exist, again and again.
func (s *story) nxdomainStorm(now uint64) uint64 {
	p := s.anyPodOfAll().server
	name := "gone-" + s.suffix(5) + "." + p.pod.namespace
	for range 4 {
		now = s.resolveInVain(p, now, name) + s.between(300*millisecond, 500*millisecond)
	}
	return now
}

// resolveInVain is a lookup of a name that does not exist, by the resolver of a process.
func (s *story) resolveInVain(p *process, now uint64, name string) uint64 {
	if s.searches(p) {
		return s.searchInVain(p, now, name)
	}
	now, _ = s.ask(p, now, name+".svc.cluster.local", dnsmessage.RCodeNameError)
	return now
}

// searchInVain is a resolver in a pod that goes through all of its search list.
func (s *story) searchInVain(p *process, now uint64, name string) uint64 {
	for _, suffix := range []string{p.pod.namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"} {
		now, _ = s.ask(p, now, name+"."+suffix, dnsmessage.RCodeNameError)
	}
	now, _ = s.ask(p, now, name, dnsmessage.RCodeNameError)
	return now
}

// ask is a query for addresses of each kind, as the C library sends them over a socket of its own, and the end
// of that. Who has no port left cannot ask.
func (s *story) ask(p *process, now uint64, name string, code dnsmessage.RCode, answers ...[16]byte) (end uint64, ok bool) {
	c, ok := s.openFlow(p, s.way(s.services["coredns"]), now)
	if !ok {
		return now, false
	}
	now = s.askOver(c, now, name, code, answers...) + s.between(10*microsecond, 100*microsecond)
	s.endFlow(c, now)
	return now, true
}

// openFlow is the socket of who asks a name server; nothing was sent so far.
func (s *story) openFlow(p *process, to way, now uint64) (c *connection, ok bool) {
	own := s.networkOf(p)
	port, ok := own.udp.take(now)
	return &connection{
		client: p, server: to.server, network: own, protocol: event.ProtocolUDP, opened: now, established: now,
		from: own.endpoint(uint16(port)), to: to.to, at: to.at, cause: s.cause(p, now),
	}, ok
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

// --- connections -------------------------------------------------------------------------------

// begin a connection of a process.
func (s *story) begin(p *process, to way, now *uint64) *connection {
	own := s.networkOf(p)
	port := own.tcp.await(now)
	return &connection{
		client: p, server: to.server, network: own, protocol: event.ProtocolTCP, opened: *now, agent: p.comm() + "/1.0",
		from: own.endpoint(uint16(port)), to: to.to, at: to.at, cause: s.cause(p, *now),
		sequence: s.random.Uint32(), acknowledged: s.random.Uint32(), rtt: uint32(s.between(40, 900)),
	}
}

// connect a process to a server.
func (s *story) connect(p *process, to way, now *uint64) *connection {
	c := s.begin(p, to, now)
	*now += uint64(c.rtt) * microsecond
	c.established = *now
	s.tell(event.FamilyNetwork, *now, connectRecord(c, *now, 0))
	return c
}

// thread of a process that does what is told now: a server has others for what else there is to do.
func (s *story) thread(p *process, now uint64) uint32 {
	if p.pod == nil || p != p.pod.server {
		return p.pid
	}
	if s.threads[p] == nil {
		s.threads[p] = s.idleThread(p, now)
	}
	return s.threads[p].id
}

// end what was told: its threads have nothing to do any more.
func (s *story) end() {
	for _, t := range s.threads {
		t.free = s.latest
	}
	clear(s.threads)
	s.latest = 0
}

// cause of what a process sends now, as the kernel would know it: a thread serves one request at a time.
func (s *story) cause(p *process, now uint64) bpf.WireCause {
	cause := bpf.WireCause{Thread: s.thread(p, now)}
	if p.pod != nil && p == p.pod.server {
		cause.Flags = event.CauseServer
	}
	if s.serving != nil {
		cause.Flags |= event.CauseThread
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
	c.network.tcp.release(uint32(c.from.port), now)
	return now
}

// work is a connection of which only the bytes are seen, as a database's. Its address is looked up for it, or the
// program has kept it, as pools of connections do.
func (s *story) work(p *process, with *service, now uint64) uint64 {
	to := s.way(with)
	if s.hasRoomForNames() && s.chance(0.1) {
		var ok bool
		if now, ok = s.lookup(p, to.name, to.to.address, now); !ok {
			return now
		}
	}
	c := s.connect(p, to, &now)
	c.sent, c.received = 40+s.between(0, 4000), 20+s.between(0, 200_000)
	return s.close(c, now+s.between(millisecond, 20*millisecond))
}

// refused is a connection to where nobody listens.
func (s *story) refused(p *process, now uint64) uint64 {
	to := s.anyPodOfAll()
	c := s.begin(p, wayTo(to.endpoint(8443)), &now)
	now += s.between(30*microsecond, 300*microsecond)
	s.tell(event.FamilyNetwork, now, connectRecord(c, now, connectionRefused))
	c.network.tcp.release(uint32(c.from.port), now)
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
	found, now, ok := s.find(p, to, now)
	if !ok {
		return now
	}
	c := s.connect(p, found, &now)
	now = s.request(c, to, now)
	return s.close(c, now+s.between(100*microsecond, 10*millisecond))
}

// entrances are the services that speak HTTP.
var entrances = []string{"frontend", "catalog", "cart", "checkout", "payment"}

// notCalled is a service that a pod asks nothing of to answer a request: a lookup of its name is for nothing else.
func (w *world) notCalled(p *pod) *service {
	for {
		if name := entrances[w.random.IntN(len(entrances))]; !slices.Contains(p.service.calls, name) {
			return w.services[name]
		}
	}
}

// request that the server answers with the help of others. What one on another node does for it is not seen here.
func (s *story) request(c *connection, to *service, now uint64) uint64 {
	if c.server == nil {
		return s.exchange(c, to, now, nil)
	}
	return s.exchange(c, to, now, func(now uint64) uint64 {
		for _, name := range to.calls {
			if !s.chance(0.5) {
				continue
			}
			switch called := s.services[name]; {
			case !called.http:
				now = s.work(c.server, called, now)
			case s.chance(0.5):
				now = s.overKept(c.server, called, now, s.request)
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
		method: "GET", host: fmt.Sprintf("%s:%d", to.host(), to.port), agent: c.agent,
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
		s.tell(event.FamilyHTTP, x.end-wire, exchangeRecord(c, x, c.server, event.RoleServer, wire, s.thread(c.server, x.start)))
	}
	if c.client != nil {
		s.tell(event.FamilyHTTP, x.end, exchangeRecord(c, x, c.client, event.RoleClient, 0, 0))
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

func (s *story) target(of *service) string {
	route := of.routes[s.random.IntN(len(of.routes))]
	if strings.Contains(route, "%d") {
		return fmt.Sprintf(route, 1+s.random.IntN(500))
	}
	return route
}
