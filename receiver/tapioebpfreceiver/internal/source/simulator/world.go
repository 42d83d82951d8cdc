// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	nsPerTick = 10_000_000 // USER_HZ

	firstPID  = 4000
	lastPID   = 4_194_303 // the kernel's largest pid_max
	userShop  = 1000
	userCheck = 995 // whom a cron job of the node runs as
	hostNetns = 4026531840

	// ports that clients are given, of net.ipv4.ip_local_port_range
	firstPort = 32768
	lastPort  = 59999
	// olderPorts are the rest of that range, from its end: they have been in use since before the source began
	olderPorts = 60999 + 1

	// nodes of the cluster. The first one is observed.
	nodes = 3
	// farAway is how often a Service leads to a pod of another node, though this one has some of its pods: the
	// traffic of the shop is kept near (trafficDistribution: PreferSameNode).
	farAway = 0.1
)

// process of the world. Its parent is never nil but for the first one.
type process struct {
	pid, vpid   uint32
	session     uint32 // pid of its leader
	detaches    bool   // what it starts begins a session
	start       uint64 // CLOCK_BOOTTIME, ns
	parent      *process
	exe, cwd    string
	unlinked    bool // exe has no name any more
	credentials bpf.WireCredentials
	cgroup      uint64
	pod         *pod      // nil: outside of any
	vpids       *numbers  // of its container; nil: outside of any
	threads     []*thread // of a server, beside its first
}

// thread of a server, which does one thing after the other.
type thread struct {
	id   uint32
	free uint64 // when it has nothing to do; CLOCK_BOOTTIME, ns
}

// idleThread of a server, which starts one more where all have something to do.
func (w *world) idleThread(p *process, now uint64) *thread {
	for _, t := range p.threads {
		if t.free < now {
			t.free = notYet
			return t
		}
	}
	t := &thread{id: w.pids.await(&now), free: notYet}
	p.threads = append(p.threads, t)
	return t
}

// node of the cluster. Of those that are not observed, others see the addresses.
type node struct {
	name    string
	number  byte // from 1 on
	network network
}

func newNode(number byte) *node {
	return &node{
		name: fmt.Sprintf("node-%d", number), number: number,
		network: newNetwork(ipv4(192, 0, 2, 9+number), hostNetns),
	}
}

// address of the pod that has a number on the node.
func (n *node) addressOf(pod int) [16]byte {
	return ipv4(10, 244, (n.number-1)*16+byte(1+pod/250), byte(2+pod%250))
}

// network is a namespace with an address of its own.
type network struct {
	address   [16]byte
	netns     uint32
	tcp, udp  *numbers // ports of clients
	olderPort uint16   // the last one that was found to be that of an older connection
}

func newNetwork(address [16]byte, netns uint32) network {
	return network{address, netns, newNumbers(firstPort, lastPort), newNumbers(firstPort, lastPort), olderPorts}
}

func (n *network) endpoint(port uint16) endpoint { return endpoint{n.address, port, n.netns} }

// pod of the simulated cluster.
type pod struct {
	namespace, name, uid string
	container            string // its id
	token                string // path of its service account's, symbolic links resolved
	service              *service
	network              network
	// server is its first process, worker one that the server started long ago. nil: there is none, or it is on
	// another node.
	server, worker *process
	vpids          *numbers
	sidecar        sidecar
	// ndots is from 0 to 1, evenly over the pods: those below the scenario's share have resolvers with a search list.
	ndots float64
}

func (p *pod) endpoint(port uint16) endpoint { return p.network.endpoint(port) }

// service is a workload and the name under which the others find it.
type service struct {
	namespace, name, kind string
	exe                   string
	port                  uint16
	http                  bool
	routes                []string
	calls                 []string // what it asks of others to answer a request
	forks                 bool     // its server has a process that does some of the work
	secrets               []string // files that it reads again from time to time; podToken: its pod's
	hash                  string   // of a Deployment's template
	clusterAddress        [16]byte // of a service that is not headless
	pods                  []*pod   // on this node
	elsewhere             []*pod
}

func (s *service) host() string { return s.name + "." + s.namespace }

// isHeadless: its pods are found by names of their own.
func (s *service) isHeadless() bool { return s.kind == "StatefulSet" }

// podToken stands for the token of the service account, which is another file in each pod.
const podToken = "token"

// template of the shop. Who calls whom has no circle.
var template = []service{
	{namespace: "shop", name: "frontend", kind: "Deployment", exe: "/usr/bin/node", port: 8080, http: true,
		routes: []string{"/", "/products/%d", "/cart", "/checkout"}, calls: []string{"catalog", "cart", "checkout"},
		secrets: []string{"/etc/ssl/private/shop.key"}},
	{namespace: "shop", name: "catalog", kind: "Deployment", exe: "/app/catalog", port: 8080, http: true,
		routes: []string{"/api/products", "/api/products/%d"}, calls: []string{"postgres"}},
	{namespace: "shop", name: "cart", kind: "Deployment", exe: "/usr/bin/python3.12", port: 8000, http: true,
		routes: []string{"/api/carts/%d", "/api/carts/%d/items"}, calls: []string{"redis"}, forks: true, secrets: []string{podToken}},
	{namespace: "shop", name: "checkout", kind: "Deployment", exe: "/usr/lib/jvm/java-21/bin/java", port: 8080, http: true,
		routes: []string{"/api/orders", "/api/orders/%d"}, calls: []string{"payment", "postgres"}, secrets: []string{podToken}},
	{namespace: "payments", name: "payment", kind: "Deployment", exe: "/app/payment", port: 9000, http: true,
		routes: []string{"/charge", "/refund/%d"}, secrets: []string{podToken, "/etc/ssl/private/payment.key"}},
	{namespace: "data", name: "redis", kind: "StatefulSet", exe: "/usr/local/bin/redis-server", port: 6379},
	{namespace: "data", name: "postgres", kind: "StatefulSet", exe: "/usr/lib/postgresql/17/bin/postgres", port: 5432,
		forks: true, secrets: []string{"/etc/ssl/private/postgres.key"}},
	{namespace: "kube-system", name: "coredns", kind: "Deployment", exe: "/coredns", port: 53, secrets: []string{podToken}},
}

// world is the cluster, and who runs on the node. It is made from a seed, and the same one always from the same.
type world struct {
	random   *rand.Rand
	node     *node
	services map[string]*service
	pods     []*pod     // on the node
	older    []*process // that ran before all began
	init     *process
	kubelet  *process
	cron     *process
	shims    map[*pod]*process
	pids     *numbers
	internet network // whoever is not in the cluster; only the ports are its own
	kept     map[keptKey][]*keptConnection
	crashed  crashed
}

func newWorld(seed uint64, pods int, now uint64) *world {
	w := &world{
		random:   rand.New(rand.NewPCG(seed, 0x7461_7069_6f)),
		node:     newNode(1),
		services: map[string]*service{},
		shims:    map[*pod]*process{},
		pids:     newNumbers(firstPID, lastPID),
		internet: newNetwork([16]byte{}, 0),
		kept:     map[keptKey][]*keptConnection{},
		crashed:  crashed{nextCgroup: firstPodCgroup + uint64(max(pods, len(template))), byID: map[string]*container{}},
	}
	root := rootWith(allCapabilities)
	w.init = w.age(&process{pid: 1, vpid: 1, exe: "/usr/lib/systemd/systemd", cwd: "/", cgroup: initCgroup, credentials: root}, now)
	w.init.parent = w.init
	w.kubelet = w.age(&process{exe: "/usr/bin/kubelet", cwd: "/", parent: w.init, cgroup: kubeletCgroup, credentials: root}, now)
	w.cron = w.age(&process{exe: "/usr/sbin/cron", cwd: "/", parent: w.init, cgroup: cronCgroup, detaches: true, credentials: root}, now)
	containerd := w.age(&process{exe: "/usr/bin/containerd", cwd: "/", parent: w.init, cgroup: containerdCgroup, credentials: root}, now)
	for i := range template {
		s := template[i]
		if !s.isHeadless() {
			s.clusterAddress = ipv4(10, 96, 0, byte(10+i))
		}
		w.services[s.name] = &s
	}
	for i := range max(pods, len(template)) {
		w.addPod(w.services[template[i%len(template)].name], i, containerd, now)
	}
	for number := byte(2); number <= nodes; number++ {
		w.addPodsOf(newNode(number), len(w.pods))
	}
	return w
}

// addPodsOf another node: of them there is what others see.
func (w *world) addPodsOf(other *node, count int) {
	for i := range count {
		s := w.services[template[i%len(template)].name]
		s.elsewhere = append(s.elsewhere, &pod{
			namespace: s.namespace, name: w.podName(s), service: s, network: newNetwork(other.addressOf(i), 0),
		})
	}
}

func ipv4(a, b, c, d byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a, 13: b, 14: c, 15: d}
}

// age makes a process that has run for some minutes.
func (w *world) age(p *process, now uint64) *process {
	if p.pid == 0 {
		w.number(p, &now)
	}
	p.session = p.pid
	p.start = (now - uint64(60+w.random.IntN(3600))*1e9) / nsPerTick * nsPerTick
	w.older = append(w.older, p)
	return p
}

// number gives a process its pid, and the one that it has in its container.
func (w *world) number(p *process, now *uint64) {
	p.pid = w.pids.await(now)
	p.vpid = p.pid
	if p.vpids != nil {
		p.vpid = p.vpids.await(now)
	}
}

// reap a process that has ended: another may have its numbers.
func (w *world) reap(p *process, now uint64) {
	w.pids.release(p.pid, now)
	if p.vpids != nil {
		p.vpids.release(p.vpid, now)
	}
}

func (w *world) addPod(s *service, number int, containerd *process, now uint64) {
	p := &pod{
		namespace: s.namespace, service: s,
		uid:       w.newUID(),
		container: w.hex(64),
		token:     "/run/secrets/kubernetes.io/serviceaccount/..2026_01_15_08_30_00." + w.letters("123456789", 9) + "/token",
		network:   newNetwork(w.node.addressOf(number), hostNetns+200+uint32(number)),
		vpids:     newNumbers(1, lastPID),
	}
	p.name = w.podName(s)
	_, p.ndots = math.Modf(float64(float64(number+1) * math.Phi)) // rounded, so that it is not fused with what is taken from it
	shim := w.age(&process{
		exe: "/usr/bin/containerd-shim-runc-v2", cwd: "/run", parent: containerd, cgroup: containerdCgroup, credentials: containerd.credentials,
	}, now)
	p.server = w.age(&process{
		exe: s.exe, cwd: "/", parent: shim, credentials: userWith(userShop), cgroup: firstPodCgroup + uint64(number), pod: p, vpids: p.vpids,
	}, now)
	if s.forks {
		worker := *p.server
		worker.pid, worker.parent = 0, p.server
		p.worker = w.age(&worker, now)
		p.worker.session = p.server.pid
		p.worker.start = max(p.worker.start, p.server.start)
	}
	s.pods, w.pods = append(s.pods, p), append(w.pods, p)
	w.shims[p] = shim
}

// podName is that of a service's next pod.
func (w *world) podName(s *service) string {
	if s.isHeadless() {
		return fmt.Sprintf("%s-%d", s.name, len(s.pods)+len(s.elsewhere))
	}
	if s.hash == "" {
		s.hash = w.suffix(9)
	}
	return fmt.Sprintf("%s-%s-%s", s.name, s.hash, w.suffix(5))
}

// suffixes are of the letters that Kubernetes takes for names that it makes.
const suffixes = "bcdfghjklmnpqrstvwxz2456789"

func (w *world) suffix(n int) string { return w.letters(suffixes, n) }

func (w *world) hex(n int) string { return w.letters("0123456789abcdef", n) }

func (w *world) letters(from string, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = from[w.random.IntN(len(from))]
	}
	return string(text)
}

func (w *world) newUID() string {
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", w.hex(8), w.hex(4), w.hex(3), w.hex(3), w.hex(12))
}

// start makes a new process in the world of its parent.
func (w *world) start(parent *process, exe string, now *uint64) *process {
	p := *parent
	w.number(&p, now)
	p.start, p.parent, p.exe, p.detaches, p.threads = *now, parent, exe, false, nil
	return &p
}

// networkOf a process: its pod's, or the node's.
func (w *world) networkOf(p *process) *network {
	if p.pod != nil {
		return &p.pod.network
	}
	return &w.node.network
}

// forget which numbers were in use before. Nothing is told any more of that time.
func (w *world) forget(before uint64) {
	w.pids.forget(before)
	w.internet.forget(before)
	w.node.network.forget(before)
	for _, s := range w.services {
		for _, p := range s.pods {
			p.network.forget(before)
			p.vpids.forget(before)
		}
		for _, p := range s.elsewhere {
			p.network.forget(before)
		}
	}
}

func (n *network) forget(before uint64) {
	n.tcp.forget(before)
	n.udp.forget(before)
}

func (w *world) anyPod(s *service) *pod { return s.pods[w.random.IntN(len(s.pods))] }

func (w *world) anyPodOfAll() *pod { return w.pods[w.random.IntN(len(w.pods))] }

// between two durations, more often near the shorter one; ns.
func (w *world) between(least, most uint64) uint64 {
	r := w.random.Float64()
	return least + uint64(r*r*r*float64(max(most, least)-least))
}

func (w *world) chance(p float64) bool { return w.random.Float64() < p }

// Ids of cgroups.
const (
	initCgroup       = 1
	kubeletCgroup    = 20
	cronCgroup       = 21
	containerdCgroup = 22
	firstPodCgroup   = 1000
)

// cgroups are where the processes are: units, and containers of pods.
func (w *world) cgroups() []source.Cgroup {
	found := []source.Cgroup{
		{ID: initCgroup, Path: "/init.scope"},
		{ID: kubeletCgroup, Path: "/system.slice/kubelet.service"},
		{ID: cronCgroup, Path: "/system.slice/cron.service"},
		{ID: containerdCgroup, Path: "/system.slice/containerd.service"},
	}
	for _, p := range w.pods {
		found = append(found, source.Cgroup{ID: p.server.cgroup, Path: cgroupPath(p, p.container)})
	}
	return found
}

// processes are those that are older than the source.
func (w *world) processes() (found []source.Process) {
	for _, p := range w.older {
		known := source.Process{
			PID: p.pid, VPID: p.vpid, StartTicks: p.start / nsPerTick, UID: p.credentials.Uid, EUID: p.credentials.Euid, Executable: p.exe,
			CgroupID: p.cgroup,
		}
		if p.parent != p {
			known.ParentPID = p.parent.pid
		}
		found = append(found, known)
	}
	return found
}
