// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// belonging finds out whether what is said of processes, containers, pods and addresses belongs together.
type belonging struct {
	truth truth
	known map[string]string // what was said first, of what
	wrong map[string]bool
	// checked is how often something was compared with something else, by what that is.
	checked map[string]int

	lives   map[int64][]*life           // by pid
	owners  map[endpoint]map[int64]bool // pids of clients that had the address and port
	clients map[endpoint][]item         // ends of connections at clients, by their own address and port
	servers map[[2]endpoint]bool        // ends at servers: their own, the client's
	answers map[int64][]toldName        // by pid
}

// truth is what is known of the workload by who has started it.
type truth struct {
	// ownNetwork says that each pod has addresses of its own.
	ownNetwork bool
	pods       map[string]podTruth // by the container's id
	servers    map[endpoint]string // who listens there: the container's id
	processes  map[int64]string    // of pids that last: the container's id
}

type podTruth struct{ uid, name, namespace string }

type endpoint struct {
	address string
	port    int64
}

// life of a process, as the events of the family process have it.
type life struct {
	began       pcommon.Timestamp
	container   string
	executables map[string]bool
}

type toldName struct {
	name      string // that was asked for
	addresses []any
}

func localOf(i item) endpoint {
	return endpoint{i.text("network.local.address"), i.number("network.local.port")}
}

func peerOf(i item) endpoint {
	return endpoint{i.text("network.peer.address"), i.number("network.peer.port")}
}

// belongingOf is all that contradicts itself, or the truth, in what a collector has written.
func belongingOf(o *output, known truth) *belonging {
	b := &belonging{
		truth: known, known: map[string]string{}, wrong: map[string]bool{}, checked: map[string]int{}, lives: map[int64][]*life{},
		owners: map[endpoint]map[int64]bool{}, clients: map[endpoint][]item{}, servers: map[[2]endpoint]bool{}, answers: map[int64][]toldName{},
	}
	items := slices.Concat(o.spans, o.logs)
	for _, i := range items {
		b.learn(i)
	}
	for _, i := range items {
		b.checkResource(i)
		b.checkProcess(i)
		b.checkOwner(i)
		b.checkAddresses(i)
		b.checkConnection(i)
		b.checkName(i)
	}
	b.checkSpans(o.spans)
	return b
}

func (b *belonging) checkSpans(all []item) {
	spans := map[pcommon.SpanID]item{}
	for _, span := range all {
		if before, twice := spans[span.spanID]; twice {
			b.note("span %v is both %s and %s", span.spanID, before.name, span.name)
		}
		spans[span.spanID] = span
	}
	for _, span := range all {
		if parent, ok := spans[span.parentID]; ok {
			b.checkParent(parent, span)
		}
	}
}

// contradictions in the order of the alphabet.
func (b *belonging) contradictions() []string {
	var wrong []string
	for line := range b.wrong {
		wrong = append(wrong, line)
	}
	slices.Sort(wrong)
	return wrong
}

// learn what other items are compared with.
func (b *belonging) learn(i item) {
	switch {
	case i.has("process.creation.time"):
		b.learnLife(i)
	case i.name == "dns.query" || i.name == "dns.lookup":
		addresses, _ := i.attributes["dns.answers"].([]any)
		b.answers[i.pid()] = append(b.answers[i.pid()], toldName{i.text("dns.question.name"), addresses})
	}
	if !isEnd(i) {
		return
	}
	switch i.text("tapio.network.role") {
	case "client":
		b.clients[localOf(i)] = append(b.clients[localOf(i)], i)
		if b.owners[localOf(i)] == nil {
			b.owners[localOf(i)] = map[int64]bool{}
		}
		b.owners[localOf(i)][i.pid()] = true
	case "server":
		b.servers[[2]endpoint{localOf(i), peerOf(i)}] = true
	}
}

// isEnd of a TCP connection that was established, or a report of one.
func isEnd(i item) bool {
	return (i.name == "tapio.network.connection.close" || i.name == "tapio.network.connection.report") &&
		i.text("network.transport") == "tcp" && i.has("tapio.network.sent_bytes")
}

func (b *belonging) learnLife(i item) {
	began, err := time.Parse(time.RFC3339Nano, i.text("process.creation.time"))
	if err != nil {
		b.note("process.creation.time is %q", i.text("process.creation.time"))
		return
	}
	found := b.lifeSince(i.pid(), pcommon.NewTimestampFromTime(began))
	if executable := i.text("process.executable.name"); executable != "" {
		found.executables[executable] = true
	}
	if container := textOf(i.resource["container.id"]); container != "" {
		found.container = container
	}
}

func (b *belonging) lifeSince(pid int64, began pcommon.Timestamp) *life {
	for _, known := range b.lives[pid] {
		if known.began == began {
			return known
		}
	}
	found := &life{began: began, executables: map[string]bool{}}
	b.lives[pid] = append(b.lives[pid], found)
	return found
}

func (b *belonging) note(format string, args ...any) { b.wrong[fmt.Sprintf(format, args...)] = true }

// one says that of each of what there is only one value. What is not known contradicts nothing.
func (b *belonging) one(what string, key, value any) {
	k, v := textOf(key), textOf(value)
	if k == "" || v == "" {
		return
	}
	at := what + " of " + k
	if before, ok := b.known[at]; ok && before != v {
		b.note("%s is %s and %s", at, before, v)
		return
	}
	b.known[at] = v
}

func textOf(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v // nearly all are, and they are many
	default:
		return fmt.Sprint(v)
	}
}

func (b *belonging) checkResource(i item) {
	pod, container := i.resource["k8s.pod.uid"], i.resource["container.id"]
	b.one("k8s.pod.uid", container, pod)
	b.one("k8s.container.name", container, i.resource["k8s.container.name"])
	for _, key := range []string{"k8s.pod.name", "k8s.namespace.name", "k8s.node.name", "k8s.deployment.name", "k8s.replicaset.uid", "service.namespace"} {
		b.one(key, pod, i.resource[key])
	}
	if name := textOf(i.resource["k8s.pod.name"]); name != "" {
		b.one("k8s.pod.uid", textOf(i.resource["k8s.namespace.name"])+"/"+name, pod)
	}
	if known, ok := b.truth.pods[textOf(container)]; ok {
		b.is("k8s.pod.uid of "+textOf(container), pod, known.uid)
		b.is("k8s.pod.name of "+textOf(container), i.resource["k8s.pod.name"], known.name)
		b.is("k8s.namespace.name of "+textOf(container), i.resource["k8s.namespace.name"], known.namespace)
	}
	b.checked["pods"]++
}

// is what is known. What was not said contradicts nothing.
func (b *belonging) is(what string, said any, known string) {
	if text := textOf(said); text != "" && text != known {
		b.note("%s is %s, and should be %s", what, text, known)
	}
}

// checkProcess: one process is in one container, of one parent, and has one number in it.
func (b *belonging) checkProcess(i item) {
	if !i.has("process.creation.time") || i.pid() == 0 {
		return
	}
	process := fmt.Sprintf("process %d of %s", i.pid(), i.text("process.creation.time"))
	container := textOf(i.resource["container.id"])
	b.one("container.id", process, container)
	b.one("k8s.pod.uid", process, i.resource["k8s.pod.uid"])
	b.one("process.vpid", process, i.attributes["process.vpid"])
	if i.has("process.vpid") {
		b.one("process.pid", fmt.Sprintf("process %d in %q of %s", i.number("process.vpid"), container, i.text("process.creation.time")), i.pid())
	}
	b.checked["processes"]++
}

// checkOwner: what a process does is done in its container, by one of the programs that it has been. Of
// one that is older than the collector all is the same for ever.
func (b *belonging) checkOwner(i item) {
	if i.pid() == 0 {
		return
	}
	container, executable := textOf(i.resource["container.id"]), i.text("process.executable.name")
	if known, ok := b.truth.processes[i.pid()]; ok {
		b.is(fmt.Sprintf("container.id of process %d", i.pid()), container, known)
	}
	if i.has("process.creation.time") {
		return
	}
	b.checked["owners"]++
	found := b.lifeAt(i.pid(), i.time)
	if found == nil && len(b.lives[i.pid()]) > 0 {
		b.note("%s of process %d is earlier than that", i.name, i.pid())
		return
	}
	if found == nil {
		process := fmt.Sprintf("process %d, which is older,", i.pid())
		b.one("container.id", process, cmp.Or(container, "none"))
		b.one("process.executable.name", process, executable)
		return
	}
	if container != found.container {
		b.note("%s of process %d is in %q, and the process in %q", i.name, i.pid(), container, found.container)
	}
	if executable != "" && len(found.executables) > 0 && !found.executables[executable] {
		b.note("%s of process %d is by %s, which that never was", i.name, i.pid(), executable)
	}
}

// lifeAt is that of the last process that had a pid at a time. What it has begun may end later than itself, as
// connections do, and queries without an answer.
func (b *belonging) lifeAt(pid int64, at pcommon.Timestamp) (found *life) {
	for _, known := range b.lives[pid] {
		if known.began <= at+pcommon.Timestamp(slack) && (found == nil || known.began > found.began) {
			found = known
		}
	}
	return found
}

// checkAddresses: an address that is a pod's own is nobody else's, and its peers call it by the pod's name. Who listens
// somewhere is who was started there.
func (b *belonging) checkAddresses(i item) {
	local, peer := i.text("network.local.address"), i.text("network.peer.address")
	if pod := i.resource["k8s.pod.uid"]; b.truth.ownNetwork && isOfAPod(local) && pod != nil {
		b.one("k8s.pod.uid", "address "+local, pod)
		b.one("k8s.pod.name", "address "+local, i.resource["k8s.pod.name"])
		b.one("address", "pod "+textOf(pod), local)
		b.checked["addresses"]++
	}
	if isOfAPod(peer) {
		b.one("k8s.pod.name", "address "+peer, i.attributes["tapio.peer.k8s.pod.name"])
		b.one("service.name", "peer "+peer, i.attributes["service.peer.name"])
	}
	if known, ok := b.truth.servers[localOf(i)]; ok {
		b.is(fmt.Sprintf("container.id of who listens at %v", localOf(i)), i.resource["container.id"], known)
		b.checked["servers"]++
	}
	switch i.text("tapio.network.role") {
	case "client":
		b.same(i, "server.port", "network.peer.port")
	case "server":
		b.same(i, "server.port", "network.local.port")
		b.same(i, "server.address", "network.local.address")
		b.same(i, "client.address", "network.peer.address")
		b.same(i, "client.port", "network.peer.port")
	}
}

// same value of two attributes.
func (b *belonging) same(i item, one, other string) {
	if !i.has(one) || !i.has(other) {
		return
	}
	if a, z := textOf(i.attributes[one]), textOf(i.attributes[other]); a != z {
		b.note("%s: %s is %s, and %s is %s", i.name, one, a, other, z)
	}
}

// checkConnection: both ends say the same of who they are. A client may have the address of a Service instead of the
// server's own, but not another port.
func (b *belonging) checkConnection(i item) {
	if !isEnd(i) {
		return
	}
	switch i.text("tapio.network.role") {
	case "client":
		_, isKnown := b.truth.servers[peerOf(i)]
		if isKnown && !b.servers[[2]endpoint{peerOf(i), localOf(i)}] {
			b.note("%v has connected to %v, which knows nothing of it", localOf(i), peerOf(i))
		}
		if isKnown {
			b.checked["connections"]++
		}
	case "server":
		if client := i.text("tapio.peer.k8s.pod.name"); client != "" {
			b.checkClient(i, client)
		}
	}
}

// checkClient of a server: a pod of this node.
func (b *belonging) checkClient(server item, pod string) {
	b.checked["connections"]++
	for _, client := range b.clients[peerOf(server)] {
		isHere := client.resource["k8s.pod.name"] == pod && peerOf(client).port == localOf(server).port
		isService := client.has("tapio.peer.k8s.service.name") && client.attributes["tapio.peer.k8s.service.name"] == server.resource["k8s.deployment.name"]
		if isHere && (isService || peerOf(client) == localOf(server)) {
			return
		}
	}
	b.note("%v of %v says that pod %s has connected from %v, which knows nothing of it", localOf(server), server.resource["k8s.pod.name"], pod, peerOf(server))
}

// checkName: who connects to a name was told its address.
func (b *belonging) checkName(i item) {
	name, peer := i.text("server.address"), i.text("network.peer.address")
	if i.name != "tcp.connect" || name == peer {
		return
	}
	b.checked["names"]++
	isIt := func(a toldName) bool {
		return (a.name == name || strings.HasPrefix(a.name, name+".")) && slices.Contains(a.addresses, any(peer))
	}
	if !slices.ContainsFunc(b.answers[i.pid()], isIt) {
		b.note("process %d has connected to %s as %s, and was not told so", i.pid(), peer, name)
	}
}

func isOfAPod(address string) bool {
	parsed, err := netip.ParseAddr(address)
	return err == nil && !parsed.IsLoopback()
}

func isOpening(i item) bool {
	return i.name == "dns.query" || i.name == "dns.lookup" || i.name == "tcp.connect"
}

// slack is how much earlier than its cause something may seem to be: clocks of the kernel are not all one.
const slack = 5 * time.Millisecond

func (b *belonging) checkParent(parent, child item) {
	between := parent.name + " and below it " + child.name
	if parent.traceID != child.traceID {
		b.note("%s are of two traces", between)
	}
	if parent.kind == ptrace.SpanKindClient && isOpening(child) {
		return // what a request is made ready by, where nothing has caused it
	}
	if child.time.AsTime().Add(slack).Before(parent.time.AsTime()) {
		b.note("%s: the child is earlier by %v", between, parent.time.AsTime().Sub(child.time.AsTime()))
	}
	switch {
	case parent.kind == ptrace.SpanKindClient && child.kind == ptrace.SpanKindServer:
		b.checkEnds(parent, child)
	case parent.name == "process.exec" && child.name == "process.exec" && parent.pid() != child.pid():
		if child.number("process.parent_pid") != parent.pid() {
			b.note("%s: the parent of process %d is %d, not %d", between, child.pid(), child.number("process.parent_pid"), parent.pid())
		}
	}
}

// checkEnds: both ends of a request say the same of it, and the server's client is the process that has sent it.
func (b *belonging) checkEnds(client, server item) {
	b.checked["requests"]++
	if owners := b.owners[peerOf(server)]; owners != nil && !owners[client.pid()] {
		b.note("%s is of process %d, and its connection is not", client.name, client.pid())
	}
	if name := server.text("tapio.peer.k8s.pod.name"); name != "" {
		b.is("k8s.pod.name of the client of "+server.name, client.resource["k8s.pod.name"], name)
	}
	if port := client.number("network.peer.port"); server.has("network.local.port") && port != server.number("network.local.port") {
		b.note("%s went to port %d and came to %d", client.name, port, server.number("network.local.port"))
	}
	if service := client.text("tapio.peer.k8s.service.name"); service != "" {
		b.is("k8s.deployment.name of the server of "+client.name, server.resource["k8s.deployment.name"], service)
	}
	for _, key := range []string{"http.request.method", "url.path", "http.response.status_code", "http.request.body.size", "tapio.link"} {
		ours, theirs := textOf(client.attributes[key]), textOf(server.attributes[key])
		if ours != "" && theirs != "" && ours != theirs {
			b.note("%s is %s for the client of %s, and %s for the server", key, ours, client.name, theirs)
		}
	}
}

// TestWhatDoesNotBelong finds each contradiction.
func TestWhatDoesNotBelong(t *testing.T) {
	span := func(change func(*item)) item {
		i := item{
			name: "GET", kind: ptrace.SpanKindClient, time: 2e9, traceID: pcommon.TraceID{1}, spanID: pcommon.SpanID{1},
			resource: map[string]any{"container.id": "c", "k8s.pod.uid": "u", "k8s.pod.name": "p", "k8s.namespace.name": "n"},
			attributes: map[string]any{
				"process.pid": int64(7), "process.creation.time": "2026-01-02T03:04:05Z", "process.vpid": int64(1), "url.path": "/a",
				"network.local.address": "10.0.0.1", "network.peer.address": "10.0.0.2", "tapio.peer.k8s.pod.name": "q",
			},
		}
		if change != nil {
			change(&i)
		}
		return i
	}
	below := func(change func(*item)) func(*item) {
		return func(i *item) {
			i.spanID, i.parentID, i.kind = pcommon.SpanID{2}, pcommon.SpanID{1}, ptrace.SpanKindServer
			delete(i.attributes, "tapio.peer.k8s.pod.name")
			change(i)
		}
	}
	another := func(change func(*item)) func(*item) {
		return func(i *item) {
			i.spanID = pcommon.SpanID{2}
			change(i)
		}
	}
	for wrong, change := range map[string]func(*item){
		"": another(func(*item) {}),
		"span 0100000000000000 is both GET and GET": func(*item) {},
		"k8s.pod.uid of c is u and v": another(func(i *item) {
			i.resource["k8s.pod.uid"], i.resource["k8s.pod.name"] = "v", "w"
			delete(i.attributes, "process.pid")
			delete(i.attributes, "network.local.address")
		}),
		"k8s.pod.name of u is p and w": another(func(i *item) { i.resource["k8s.pod.name"] = "w"; delete(i.attributes, "network.local.address") }),
		"k8s.pod.uid of n/p is u and v": another(func(i *item) {
			i.resource = map[string]any{"k8s.pod.uid": "v", "k8s.pod.name": "p", "k8s.namespace.name": "n"}
			i.attributes = nil
		}),
		"container.id of process 7 of 2026-01-02T03:04:05Z is c and d": another(func(i *item) { i.resource["container.id"] = "d" }),
		"process.vpid of process 7 of 2026-01-02T03:04:05Z is 1 and 2": another(func(i *item) { i.attributes["process.vpid"] = int64(2) }),
		"k8s.pod.name of address 10.0.0.2 is q and p": another(func(i *item) {
			i.attributes["network.local.address"] = "10.0.0.2"
			delete(i.attributes, "tapio.peer.k8s.pod.name")
		}),
		"GET and below it GET are of two traces":                      below(func(i *item) { i.traceID = pcommon.TraceID{2} }),
		"GET and below it GET: the child is earlier by 1s":            below(func(i *item) { i.time = 1e9 }),
		"url.path is /a for the client of GET, and /b for the server": below(func(i *item) { i.attributes["url.path"] = "/b" }),
	} {
		var expected []string
		if wrong != "" {
			expected = []string{wrong}
		}
		got := belongingOf(&output{spans: []item{span(nil), span(change)}}, truth{ownNetwork: true}).contradictions()
		if wrong == "k8s.pod.name of address 10.0.0.2 is q and p" {
			assert.Contains(t, got, wrong)
			continue
		}
		assert.Equal(t, expected, got)
	}
}
