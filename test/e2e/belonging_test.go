// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// belonging finds out whether what is said of processes, containers, pods and addresses belongs together.
type belonging struct {
	known map[string]string // what was said first, of what
	wrong map[string]bool
	// ownNetwork says that each pod has addresses of its own.
	ownNetwork bool
}

// whatDoesNotBelong is all that contradicts itself in what a collector has written.
func whatDoesNotBelong(o *output, ownNetwork bool) []string {
	b := belonging{known: map[string]string{}, wrong: map[string]bool{}, ownNetwork: ownNetwork}
	for _, i := range slices.Concat(o.spans, o.logs) {
		b.checkResource(i)
		b.checkProcess(i)
		b.checkAddresses(i)
	}
	spans := map[pcommon.SpanID]item{}
	for _, span := range o.spans {
		if before, twice := spans[span.spanID]; twice {
			b.note("span %v is both %s and %s", span.spanID, before.name, span.name)
		}
		spans[span.spanID] = span
	}
	for _, span := range o.spans {
		if parent, ok := spans[span.parentID]; ok {
			b.checkParent(parent, span)
		}
	}
	var wrong []string
	for line := range b.wrong {
		wrong = append(wrong, line)
	}
	slices.Sort(wrong)
	return wrong
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
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
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
}

// checkProcess: one process is in one container, of one parent, and of one executable between two execs.
func (b *belonging) checkProcess(i item) {
	if !i.has("process.creation.time") || i.pid() == 0 {
		return
	}
	process := fmt.Sprintf("process %d of %s", i.pid(), i.text("process.creation.time"))
	b.one("container.id", process, i.resource["container.id"])
	b.one("k8s.pod.uid", process, i.resource["k8s.pod.uid"])
	b.one("process.vpid", process, i.attributes["process.vpid"])
}

// checkAddresses: an address that is a pod's own is nobody else's, and its peers call it by the pod's name.
func (b *belonging) checkAddresses(i item) {
	local, peer := i.text("network.local.address"), i.text("network.peer.address")
	if pod := i.resource["k8s.pod.uid"]; b.ownNetwork && isOfAPod(local) && pod != nil {
		b.one("k8s.pod.uid", "address "+local, pod)
		b.one("k8s.pod.name", "address "+local, i.resource["k8s.pod.name"])
	}
	if isOfAPod(peer) {
		b.one("k8s.pod.name", "address "+peer, i.attributes["tapio.peer.k8s.pod.name"])
	}
}

func isOfAPod(address string) bool {
	parsed, err := netip.ParseAddr(address)
	return err == nil && !parsed.IsLoopback()
}

// slack is how much earlier than its cause something may seem to be: clocks of the kernel are not all one.
const slack = 5 * time.Millisecond

func (b *belonging) checkParent(parent, child item) {
	between := parent.name + " and below it " + child.name
	if parent.traceID != child.traceID {
		b.note("%s are of two traces", between)
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

// checkEnds: both ends of a request say the same of it.
func (b *belonging) checkEnds(client, server item) {
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
				"process.pid": int64(7), "process.creation.time": "t", "process.vpid": int64(1), "url.path": "/a",
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
		"container.id of process 7 of t is c and d": another(func(i *item) { i.resource["container.id"] = "d" }),
		"process.vpid of process 7 of t is 1 and 2": another(func(i *item) { i.attributes["process.vpid"] = int64(2) }),
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
		got := whatDoesNotBelong(&output{spans: []item{span(nil), span(change)}}, true)
		if wrong == "k8s.pod.name of address 10.0.0.2 is q and p" {
			assert.Contains(t, got, wrong)
			continue
		}
		assert.Equal(t, expected, got)
	}
}
