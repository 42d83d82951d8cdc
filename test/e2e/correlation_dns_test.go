// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

const shopDomain = "shop.test"

// within runs the command in a network.
func (n *network) within(command *exec.Cmd) *exec.Cmd {
	command.Args = append(n.by(), append([]string{command.Path}, command.Args[1:]...)...)
	command.Path = command.Args[0]
	return command
}

// startShop has a network in which all names of the shop are its loopback, and a server there.
func startShop(t *testing.T, scope cgroup) (shop *network, port string) {
	t.Helper()
	shop = newNetwork(t)
	shop.resolve(map[string]string{shopDomain: "127.0.0.1"})
	address := scope.startBy(t, shop.by(), "answer", "tcp4", loopback("tcp4")).line()
	return shop, address[strings.LastIndex(address, ":")+1:]
}

// waited are what a request waited for, below its parent: lookups, a connection.
type waited struct{ lookups, connects, requests []item }

// waitedFor sorts the children of a span. A query that is a part of a lookup counts with it.
func waitedFor(spans []item, parent item) (w waited) {
	for _, child := range children(spans, parent) {
		switch {
		case strings.HasPrefix(child.name, "dns."):
			w.lookups = append(w.lookups, child)
		case child.name == "tcp.connect":
			w.connects = append(w.connects, child)
		case isExchange(child) && child.kind == ptrace.SpanKindClient:
			w.requests = append(w.requests, child)
		}
	}
	return w
}

// fault says what is wrong if it is not one request to a host, and what it needed, in their order.
func (w waited) fault(host string) string {
	if len(w.lookups) == 0 || len(w.connects) != 1 || len(w.requests) != 1 {
		return fmt.Sprintf("%d lookups, %d connects, %d requests", len(w.lookups), len(w.connects), len(w.requests))
	}
	request := w.requests[0]
	for _, lookup := range w.lookups {
		if lookup.text("dns.question.name") != host || lookup.end > request.time {
			return fmt.Sprintf("lookup of %s, until %s", lookup.text("dns.question.name"), lookup.end)
		}
	}
	for _, name := range []string{w.connects[0].text("server.address"), request.text("server.address")} {
		if name != host {
			return "connection or request to " + name
		}
	}
	if w.connects[0].time > request.time {
		return "connection after the request"
	}
	return ""
}

// TestCommandsLookupAndRequest: the lookup, the connection and the request of a command are its children.
func TestCommandsLookupAndRequest(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, showTruth)
	shop, port := startShop(t, scope)
	const host = "basket." + shopDomain
	command := shop.within(scope.command(t, "curl", "-q", "-s", "--noproxy", "*", "-H", truthHeader+": basket", "http://"+host+":"+port+"/"))
	require.NoError(t, command.Run())
	pid := int64(command.Process.Pid)
	c.awaitExchanges(1, 1)
	c.await("its end", func(o *output) bool { return len(byPID(named(o.spans, "process.exec"))[pid]) == 2 })
	stopDNS(c)

	started := byPID(named(c.output.spans, "process.exec"))[pid]
	curl := started[1]
	require.Equal(t, "curl", curl.text("process.executable.name"))
	w := waitedFor(c.output.spans, curl)
	require.Empty(t, w.fault(host))
	servers := byTruth(t, c.output.exchanges(ptrace.SpanKindServer), "basket")
	require.Len(t, servers, 1)
	checkChild(t, w.requests[0], servers["basket"])
	for _, span := range c.output.spans {
		assert.True(t, span.pid() != pid || span.traceID == curl.traceID, "%s is in another trace", span.name)
	}
}

// TestHandlersLookupAndRequest: those of a thread that serves a request are the children of the server's span,
// and of no other. Each request has a name of its own looked up. It is asked until the server's own job has asked
// enough meanwhile: how long a round takes depends on the machine.
func TestHandlersLookupAndRequest(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	shop, backend := startShop(t, scope)
	asking := scope.startBy(t, shop.by(), "load")
	require.Equal(t, "ready", asking.line())
	c := startCollector(t, scope, showTruth)
	port := porttest.Free(t)
	command := shop.within(scope.command(t, "python3", testdata(t, "threaded.py"), strconv.Itoa(port), backend, "{}."+shopDomain, "job"))
	server := startServer(t, newServer(command, "", port))
	l, asked := level{8, 15, 0}, 0
	for n := 0; len(unasked(c.output.spans, server.pid())) <= 10; n++ {
		require.Less(t, n, 50, "the server's job does not ask")
		asking.do(round{Network: "tcp4", Address: server.address, Connections: l.connections, Requests: l.requests, Truth: fmt.Sprintf("handled-%d", n), Depth: 1})
		asked += l.total()
		c.awaitExchanges(2*asked, 2*asked)
	}
	asking.end()
	stopDNS(c)

	served := byTruth(t, byPID(c.output.exchanges(ptrace.SpanKindServer))[server.pid()], "handled")
	require.Len(t, served, asked)
	faults := map[string]int{}
	for truth, span := range served {
		faults[waitedFor(c.output.spans, span).fault(truth+"."+shopDomain)]++
	}
	assert.Equal(t, map[string]int{"": asked}, faults, "what was done for a request")
	checkUnasked(t, c.output.spans, server.pid())
}

// checkUnasked wants nothing of the background job to be for a request.
func checkUnasked(t *testing.T, spans []item, pid int64) {
	t.Helper()
	byID, jobs := bySpanID(spans), unasked(spans, pid)
	assert.Greater(t, len(jobs), 10)
	checkEach(t, jobs, "for no request", func(_ string, span item) bool {
		parent, ok := byID[span.parentID]
		return !ok || parent.kind != ptrace.SpanKindServer
	})
}

// unasked are the spans of a server's background job.
func unasked(spans []item, pid int64) map[string]item {
	jobs := map[string]item{}
	for n, span := range spans {
		if span.pid() != pid {
			continue
		}
		about := span.text("dns.question.name") + span.text("server.address")
		if strings.HasPrefix(about, "job-") {
			jobs[fmt.Sprintf("%s %s %d", span.name, about, n)] = span
		}
	}
	return jobs
}
