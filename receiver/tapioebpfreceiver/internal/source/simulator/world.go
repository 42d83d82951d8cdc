// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	nsPerTick = 10_000_000 // USER_HZ
	hostName  = "node-1"

	firstPID  = 4000
	lastPID   = 4_194_303 // the kernel's largest pid_max
	userShop  = 1000
	userCheck = 995 // whom a cron job of the node runs as
	hostNetns = 4026531840
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
	pod         *pod // nil: outside of any
}

// pod of the simulated cluster. All of them are on this node.
type pod struct {
	namespace, name, uid string
	container            string // its id
	token                string // path of its service account's, symbolic links resolved
	service              *service
	address              [16]byte
	netns                uint32
	server               *process
	worker               *process // that the server started long ago; nil: none
	restarts             int
}

func (p *pod) endpoint(port uint16) endpoint { return endpoint{p.address, port, p.netns} }

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
	clusterAddress        [16]byte
	pods                  []*pod
}

func (s *service) host() string { return s.name + "." + s.namespace }

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

// world is the node and who runs on it. It is made from a seed, and the same one always from the same.
type world struct {
	random   *rand.Rand
	services map[string]*service
	pods     []*pod
	older    []*process // that ran before all began
	init     *process
	kubelet  *process
	cron     *process
	shims    map[*pod]*process
	nextPID  uint32
	nextPort uint16
}

func newWorld(seed uint64, pods int, now uint64) *world {
	w := &world{
		random:   rand.New(rand.NewPCG(seed, 0x7461_7069_6f)),
		services: map[string]*service{},
		shims:    map[*pod]*process{},
		nextPID:  firstPID,
		nextPort: 32768,
	}
	root := rootWith(allCapabilities)
	w.init = w.age(&process{pid: 1, vpid: 1, exe: "/usr/lib/systemd/systemd", cwd: "/", cgroup: initCgroup, credentials: root}, now)
	w.init.parent = w.init
	w.kubelet = w.age(&process{exe: "/usr/bin/kubelet", cwd: "/", parent: w.init, cgroup: kubeletCgroup, credentials: root}, now)
	w.cron = w.age(&process{exe: "/usr/sbin/cron", cwd: "/", parent: w.init, cgroup: cronCgroup, detaches: true, credentials: root}, now)
	containerd := w.age(&process{exe: "/usr/bin/containerd", cwd: "/", parent: w.init, cgroup: containerdCgroup, credentials: root}, now)
	for i := range template {
		s := template[i]
		s.clusterAddress = ipv4(10, 96, 0, byte(10+i))
		w.services[s.name] = &s
	}
	for i := range max(pods, len(template)) {
		w.addPod(w.services[template[i%len(template)].name], i, containerd, now)
	}
	return w
}

func ipv4(a, b, c, d byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a, 13: b, 14: c, 15: d}
}

// age makes a process that has run for some minutes.
func (w *world) age(p *process, now uint64) *process {
	if p.pid == 0 {
		p.pid = w.newPID()
		p.vpid = p.pid
	}
	p.session = p.pid
	p.start = (now - uint64(60+w.random.IntN(3600))*1e9) / nsPerTick * nsPerTick
	w.older = append(w.older, p)
	return p
}

func (w *world) addPod(s *service, number int, containerd *process, now uint64) {
	p := &pod{
		namespace: s.namespace, service: s,
		uid:       w.newUID(),
		container: w.hex(64),
		token:     "/run/secrets/kubernetes.io/serviceaccount/..2026_01_15_08_30_00." + w.letters("123456789", 9) + "/token",
		address:   ipv4(10, 244, byte(1+number/250), byte(2+number%250)),
		netns:     hostNetns + 200 + uint32(number),
	}
	if s.hash == "" {
		s.hash = w.suffix(9)
	}
	p.name = fmt.Sprintf("%s-%s-%s", s.name, s.hash, w.suffix(5))
	if s.kind == "StatefulSet" {
		p.name = fmt.Sprintf("%s-%d", s.name, len(s.pods))
	}
	shim := w.age(&process{
		exe: "/usr/bin/containerd-shim-runc-v2", cwd: "/run", parent: containerd, cgroup: containerdCgroup, credentials: containerd.credentials,
	}, now)
	p.server = w.age(&process{
		exe: s.exe, cwd: "/", parent: shim, credentials: userWith(userShop), cgroup: firstPodCgroup + uint64(number), pod: p,
	}, now)
	p.server.vpid = 1
	if s.forks {
		worker := *p.server
		worker.pid, worker.parent = 0, p.server
		p.worker = w.age(&worker, now)
		p.worker.session, p.worker.vpid = p.server.pid, 7
		p.worker.start = max(p.worker.start, p.server.start)
	}
	s.pods, w.pods = append(s.pods, p), append(w.pods, p)
	w.shims[p] = shim
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

func (w *world) newPID() uint32 {
	w.nextPID++
	if w.nextPID > lastPID {
		w.nextPID = firstPID
	}
	return w.nextPID
}

// port of a client; they come again after some ten thousand.
func (w *world) port() uint16 {
	w.nextPort++
	if w.nextPort < 32768 || w.nextPort > 60999 {
		w.nextPort = 32768
	}
	return w.nextPort
}

// start makes a new process in the world of its parent.
func (w *world) start(parent *process, exe string, now uint64) *process {
	p := *parent
	p.pid = w.newPID()
	p.vpid = p.pid%32768 + 2
	p.start, p.parent, p.exe, p.detaches = now, parent, exe, false
	return &p
}

func (w *world) anyPod(s *service) *pod { return s.pods[w.random.IntN(len(s.pods))] }

func (w *world) anyPodOfAll() *pod { return w.pods[w.random.IntN(len(w.pods))] }

// between two durations, more often near the shorter one; ns.
func (w *world) between(least, most uint64) uint64 {
	r := w.random.Float64()
	return least + uint64(r*r*r*float64(most-least))
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

// cgroups are where the processes are: units, and containers of pods by containerd with the driver systemd.
func (w *world) cgroups() []source.Cgroup {
	found := []source.Cgroup{
		{ID: initCgroup, Path: "/init.scope"},
		{ID: kubeletCgroup, Path: "/system.slice/kubelet.service"},
		{ID: cronCgroup, Path: "/system.slice/cron.service"},
		{ID: containerdCgroup, Path: "/system.slice/containerd.service"},
	}
	for _, p := range w.pods {
		found = append(found, source.Cgroup{ID: p.server.cgroup, Path: fmt.Sprintf(
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod%s.slice/cri-containerd-%s.scope",
			strings.ReplaceAll(p.uid, "-", "_"), p.container)})
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
