// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// showTruth has the header with the truth on the spans.
const showTruth = "receivers::tapioebpf::families::http::headers::request: [" + truthHeader + "]"

func truthOf(span item) string {
	values, _ := span.attributes["http.request.header.x-truth"].([]any)
	if len(values) != 1 {
		return ""
	}
	return values[0].(string)
}

// byTruth are the spans of a kind by what they are about. There may be just one for each.
func byTruth(t *testing.T, spans []item, prefix string) map[string]item {
	t.Helper()
	found := map[string]item{}
	for _, span := range spans {
		if truth := truthOf(span); strings.HasPrefix(truth, prefix) {
			require.NotContains(t, found, truth, "two spans of one request")
			found[truth] = span
		}
	}
	return found
}

func bySpanID(spans []item) map[pcommon.SpanID]item {
	found := map[pcommon.SpanID]item{}
	for _, span := range spans {
		found[span.spanID] = span
	}
	return found
}

func children(spans []item, parent item) []item {
	return filter(spans, func(i item) bool { return i.parentID == parent.spanID && i.traceID == parent.traceID })
}

// checkChild wants the first to be the parent of the second.
func checkChild(t *testing.T, parent, child item, message ...any) bool {
	t.Helper()
	return assert.Equal(t, [2]string{parent.traceID.String(), parent.spanID.String()},
		[2]string{child.traceID.String(), child.parentID.String()}, message...)
}

// checkChildren is for many that should have one parent.
func checkChildren(t *testing.T, parent item, spans map[string]item) {
	t.Helper()
	checkEach(t, spans, "child of "+parent.name, func(_ string, span item) bool {
		return span.traceID == parent.traceID && span.parentID == parent.spanID
	})
}

// checkEach wants something of many spans, and shows some of those of which it does not hold.
func checkEach(t *testing.T, spans map[string]item, what string, holds func(truth string, span item) bool) {
	t.Helper()
	var failed []string
	for truth, span := range spans {
		if !holds(truth, span) {
			failed = append(failed, fmt.Sprintf("%s: %s %s of %d in trace %s, parent %s, links %v", truth, span.kind, span.spanID, span.pid(), span.traceID, span.parentID, span.links))
		}
	}
	slices.Sort(failed)
	assert.Zero(t, len(failed), "of %d are not: %s, such as\n%s", len(spans), what, strings.Join(failed[:min(len(failed), 3)], "\n"))
}

// checkPairs wants each server's span to be the child of the client's for the same request.
func checkPairs(t *testing.T, clients, servers map[string]item, count int) {
	t.Helper()
	require.Len(t, clients, count, "clients")
	require.Len(t, servers, count, "servers")
	checkEach(t, servers, "child of the client's span for the same request", func(truth string, server item) bool {
		return server.traceID == clients[truth].traceID && server.parentID == clients[truth].spanID
	})
}

// checkAlone wants each span to be the root of a trace that no other one is in.
func checkAlone(t *testing.T, spans map[string]item) {
	t.Helper()
	inTrace := map[pcommon.TraceID]int{}
	for _, span := range spans {
		inTrace[span.traceID]++
	}
	checkEach(t, spans, "a trace of its own", func(_ string, span item) bool {
		return span.parentID.IsEmpty() && inTrace[span.traceID] == 1
	})
}

// restsFor is how long nothing must have come for all to be there.
const restsFor = 5 * time.Second

// awaitSeenOrRest waits until as many ends of HTTP exchanges were seen, or no more come, and it is known what became of them.
func (c *collector) awaitSeenOrRest(ends int) {
	c.t.Helper()
	seen, since := uint64(0), time.Now()
	require.Eventually(c.t, func() bool {
		row := c.stats().Ledger["http"]
		if row.Seen != seen {
			seen, since = row.Seen, time.Now()
		}
		return row.InFlight == 0 && (seen >= uint64(ends) || time.Since(since) > restsFor)
	}, longPatience, pollInterval, "%d ends of HTTP exchanges: %+v", ends, c.stats().Ledger["http"])
}

// stopWithLittleLoss is for tests with many packets at a time: where a CPU is taken away from a small machine
// while it reads one, the exchange may be lost, and those behind it on its connection may not be seen until the next turn of the
// two sides (see the receiver's known limits). Up to 3 % may be.
func (c *collector) stopWithLittleLoss(ends int) {
	c.t.Helper()
	c.awaitSeenOrRest(ends)
	row := c.stop()["http"]
	missing := max(lostOf(row), ends-int(row.Seen)+lostOf(row))
	assert.LessOrEqual(c.t, missing, ends*3/100, "lost ends of HTTP exchanges")
	if missing > 0 {
		c.t.Logf("%d of %d ends of HTTP exchanges were lost, or not seen", missing, ends)
	}
}

// both are the spans of requests of which both ends were told.
func both(clients, servers map[string]item) (map[string]item, map[string]item) {
	for truth := range clients {
		if _, ok := servers[truth]; !ok {
			delete(clients, truth)
		}
	}
	for truth := range servers {
		if _, ok := clients[truth]; !ok {
			delete(servers, truth)
		}
	}
	return clients, servers
}

// TestRequestOnOneNode: one agent sees both ends of each request.
func TestRequestOnOneNode(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	older := scope.start(t, "load")
	require.Equal(t, "ready", older.line())
	c := startCollector(t, scope, showTruth)
	younger := scope.start(t, "load")
	require.Equal(t, "ready", younger.line())
	count := 0
	for i, network := range []string{"tcp4", "tcp6"} {
		server := scope.start(t, "answer", network, loopback(network)).line()
		for _, r := range kindsOfRound(network, server) {
			for who, by := range map[string]*process{"old": older, "new": younger} {
				r.Truth = fmt.Sprintf("%s-%d%s", who, i, r.Truth)
				by.do(r)
				r.Truth = r.Truth[len(who)+2:]
				count += int(r.Connections * r.Requests)
			}
		}
	}
	older.end()
	younger.end()
	c.awaitExchanges(count, count)
	c.await("the end of the younger", func(o *output) bool { return len(named(o.spans, "process.exec")) > 0 })
	c.stopWithoutLoss()

	clients, servers := c.output.exchanges(ptrace.SpanKindClient), c.output.exchanges(ptrace.SpanKindServer)
	require.Len(t, clients, count)
	checkPairs(t, byTruth(t, clients, "old"), byTruth(t, servers, "old"), count/2)
	checkPairs(t, byTruth(t, clients, "new"), byTruth(t, servers, "new"), count/2)
	checkAlone(t, byTruth(t, clients, "old"))
	started := named(c.output.spans, "process.exec")
	require.Len(t, started, 1)
	checkChildren(t, started[0], byTruth(t, clients, "new"))
	for _, span := range append(clients, servers...) {
		assert.Empty(t, span.links, "both ends are here")
	}
}

// kindsOfRound are connections that are used again, pipelined, and used once.
func kindsOfRound(network, address string) []round {
	return []round{
		{Network: network, Address: address, Connections: 4, Requests: 12, Truth: "keep", Depth: 1, MaxBody: 9000},
		{Network: network, Address: address, Connections: 4, Requests: 12, Truth: "pipe", Depth: 6, MaxBody: 3000},
		{Network: network, Address: address, Connections: 4, Requests: 3, Truth: "once", MaxBody: 20000},
	}
}

// TestRequestFromOutsideTheScope: nobody sees the client, which is on this node, so the server's span has
// no parent that would never come.
func TestRequestFromOutsideTheScope(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, showTruth)
	server := scope.start(t, "answer", "tcp4", loopback("tcp4")).line()
	client := cgroup{}.start(t, "load")
	require.Equal(t, "ready", client.line())
	client.do(round{Network: "tcp4", Address: server, Connections: 4, Requests: 8, Truth: "alone", Depth: 1})
	c.awaitExchanges(32, 0)
	c.stopWithoutLoss()
	servers := byTruth(t, c.output.exchanges(ptrace.SpanKindServer), "alone")
	require.Len(t, servers, 32)
	checkAlone(t, servers)
	for _, span := range servers {
		assert.Empty(t, span.links)
	}
}

const (
	w3cTrace, w3cSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	w3cFlags          = 0xff // the low bits of a span's flags
)

// TestTraceparent: a request's own context wins if it is valid, at both ends.
func TestTraceparent(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, showTruth)
	server := scope.start(t, "answer", "tcp4", loopback("tcp4")).line()
	kinds := []struct {
		truth, state string
		headers      []string
		valid        bool
		flags        uint32
	}{
		{truth: "sampled", headers: []string{"traceparent: 00-" + w3cTrace + "-" + w3cSpan + "-01", "tracestate: a=b,c=d"}, valid: true, flags: 1, state: "a=b,c=d"},
		{truth: "unsampled", headers: []string{"Traceparent: 00-" + w3cTrace + "-" + w3cSpan + "-00"}, valid: true},
		{truth: "later version", headers: []string{"traceparent: 01-" + w3cTrace + "-" + w3cSpan + "-01-more"}, valid: true, flags: 1},
		{truth: "upper case", headers: []string{"traceparent: 00-" + strings.ToUpper(w3cTrace) + "-" + w3cSpan + "-01", "tracestate: a=b"}},
		{truth: "no trace", headers: []string{"traceparent: 00-" + strings.Repeat("0", 32) + "-" + w3cSpan + "-01"}},
		{truth: "no span", headers: []string{"traceparent: 00-" + w3cTrace + "-" + strings.Repeat("0", 16) + "-01"}},
		{truth: "version ff", headers: []string{"traceparent: ff-" + w3cTrace + "-" + w3cSpan + "-01"}},
		{truth: "more in version 00", headers: []string{"traceparent: 00-" + w3cTrace + "-" + w3cSpan + "-01-more"}},
		{truth: "short", headers: []string{"traceparent: 00-" + w3cTrace + "-" + w3cSpan}},
		{truth: "twice", headers: []string{"traceparent: 00-" + w3cTrace + "-" + w3cSpan + "-01", "traceparent: 00-" + w3cTrace + "-" + w3cSpan + "-01"}},
		{truth: "state alone", headers: []string{"tracestate: a=b"}},
	}
	for _, kind := range kinds {
		args := []string{"-H", truthHeader + ": " + kind.truth, "http://" + server + "/"}
		for _, header := range kind.headers {
			args = append(args, "-H", header)
		}
		require.Equal(t, "200", scope.curl(t, args...)[0].Code)
	}
	c.awaitExchanges(len(kinds), len(kinds))
	c.stopWithoutLoss()
	clients := byTruth(t, c.output.exchanges(ptrace.SpanKindClient), "")
	servers := byTruth(t, c.output.exchanges(ptrace.SpanKindServer), "")
	for _, kind := range kinds {
		client, server := clients[kind.truth], servers[kind.truth]
		if !kind.valid {
			assert.NotEqual(t, w3cTrace, client.traceID.String(), kind.truth)
			assert.Empty(t, client.traceState+server.traceState, kind.truth)
			checkChild(t, client, server, kind.truth)
			continue
		}
		for _, span := range []item{client, server} {
			assert.Equal(t, [2]string{w3cTrace, w3cSpan}, [2]string{span.traceID.String(), span.parentID.String()}, "%s, %s", kind.truth, span.kind)
			assert.Equal(t, kind.state, span.traceState, kind.truth)
			assert.Equal(t, kind.flags, span.flags&w3cFlags, "%s: the flags of the request, and no others", kind.truth)
		}
		assert.NotEqual(t, client.spanID, server.spanID)
	}
}

// traces are the names of the traces that spans are in.
func traces(spans []item) (ids []string) {
	for _, span := range spans {
		ids = append(ids, span.traceID.String())
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
