// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// longPatience is for what takes long by itself.
const longPatience = 90 * time.Second

// unbounded is a configuration that holds whatever these tests do.
var unbounded = []string{
	"receivers::tapioebpf::ring::size: 256MiB",
	"receivers::tapioebpf::batch: {max_events: 32768, queue_size: 4096}",
}

// tally counts the calls of many spans, by their kind.
type tally map[ptrace.SpanKind]map[call]int

func (c *collector) tally() tally {
	counts := tally{ptrace.SpanKindServer: {}, ptrace.SpanKindClient: {}}
	c.output.take = func(span item) {
		if isExchange(span) {
			counts[span.kind][callOf(span)]++
		}
	}
	return counts
}

// TestHTTPVolume makes 102400 requests, each for a target of its own, on 64 connections at once. With
// rings and queues that hold them, nothing is lost: nginx's log and the spans are the same.
func TestHTTPVolume(t *testing.T) {
	requireBPF(t)
	const connections, requests = 64, 1600
	scope := newCgroup(t)
	nginx := scope.startNginx(t, noUpstream)
	c := startCollector(t, scope, unbounded...)
	counts := c.tally()
	hammer := scope.start(t, "hammer", nginx.address, connections, requests, 0)
	hammer.waitFor(longPatience)
	c.awaitTold(2 * connections * requests)
	c.stop().requireNothingLost(t)

	logged := nginx.calls(t, connections*requests)
	require.Len(t, logged, connections*requests)
	checkSame(t, "servers", countCalls(logged), counts[ptrace.SpanKindServer])
	checkSame(t, "clients", countCalls(allHammered(hammer.pid(), connections, requests, 0)), counts[ptrace.SpanKindClient])
	rows := c.finalLedger()
	assert.Equal(t, row{Seen: 2 * connections * requests, Exported: 2 * connections * requests, Lost: map[string]uint64{}}, rows["http"])
	for _, metric := range []string{"http.server.request.duration", "http.client.request.duration"} {
		assert.EqualValues(t, len(logged), total(c.output.points(metric), "http.response.status_code", int64(200), "error.type", nil), metric)
		assert.EqualValues(t, len(logged), total(c.output.points(metric)), metric)
	}
}

// TestHTTPWrk: wrk counts what was answered. It ends with requests that were not, of which the server
// logs those that it answered all the same.
func TestHTTPWrk(t *testing.T) {
	requireBPF(t)
	const connections = 64
	scope := newCgroup(t)
	nginx := scope.startNginx(t, noUpstream)
	c := startCollector(t, scope, unbounded...)
	counts := c.tally()
	answered := scope.wrk(t, "-t2", "-c"+strconv.Itoa(connections), "-d1s", nginx.url("/small.txt"))
	nginx.stop() // before the collector, which would not tell what is answered after it
	c.quiet()
	c.stop().requireNothingLost(t)
	cut := forgetCut(counts)
	all := readCalls(t, nginx.log)
	// At its end wrk closes connections on which it waits for a response. nginx logs one that it could
	// not send any more with its status, but without a byte of the body.
	logged := slices.DeleteFunc(slices.Clone(all), func(c call) bool { return c.ResponseBody == 0 })
	assert.LessOrEqual(t, len(all)-len(logged), cut)
	checkSame(t, "servers", countCalls(logged), counts[ptrace.SpanKindServer])
	assert.LessOrEqual(t, cut, 2*connections)
	total := 0
	for _, n := range counts[ptrace.SpanKindClient] {
		total += n
	}
	assert.LessOrEqual(t, answered, total)
	assert.LessOrEqual(t, total, answered+connections)
	assert.LessOrEqual(t, total, len(logged))
}

// forgetCut leaves those that came to their end.
func forgetCut(counts tally) (cut int) {
	for _, calls := range counts {
		for c, n := range calls {
			if c.Error != "" {
				cut += n
				delete(calls, c)
			}
		}
	}
	return cut
}

// wrk returns how many requests were answered.
func (g cgroup) wrk(t *testing.T, args ...string) int {
	t.Helper()
	command := g.command(t, "wrk", args...)
	out, err := command.Output()
	require.NoError(t, err)
	match := regexp.MustCompile(`(\d+) requests in`).FindSubmatch(out)
	require.NotNil(t, match, "%s", out)
	return int(number(string(match[1])))
}

// TestHTTPVolumeBeyondTheRing has a ring that is too small: the ledger says exactly how many of the
// exchanges are not told.
func TestHTTPVolumeBeyondTheRing(t *testing.T) {
	requireBPF(t)
	const connections, requests = 64, 300
	scope := newCgroup(t)
	nginx := scope.startNginx(t, noUpstream)
	c := startCollector(t, scope, "receivers::tapioebpf::ring: {size: 64KiB, flush_interval: 1s}")
	counts := c.tally()
	hammer := scope.start(t, "hammer", nginx.address, connections, requests, 0)
	hammer.waitFor(longPatience)
	require.Eventually(t, func() bool { return c.stats().Ledger["http"].Seen == 2*connections*requests }, patience, pollInterval)
	rows := c.stop()
	logged := nginx.calls(t, connections*requests)
	told := 0
	for kind, want := range map[ptrace.SpanKind][]call{
		ptrace.SpanKindServer: logged, ptrace.SpanKindClient: allHammered(hammer.pid(), connections, requests, 0),
	} {
		known := countCalls(want)
		for c, n := range counts[kind] {
			assert.LessOrEqual(t, n, known[c], "%+v", c)
			told += n
		}
	}
	assert.Equal(t, 2*connections*requests, told+int(rows["http"].Aggregated)+lostOf(rows["http"]))
	assert.Positive(t, rows["http"].Lost["ring_full"], "%+v", rows["http"])
	assert.Positive(t, rows["http"].Aggregated, "of a ring that was full, the first quarter has no spans")
	counted := 0
	for _, metric := range []string{"http.server.request.duration", "http.client.request.duration"} {
		counted += int(total(c.output.points(metric)))
	}
	assert.Equal(t, told+int(rows["http"].Aggregated), counted)
}

func lostOf(r row) int {
	lost := uint64(0)
	for _, n := range r.Lost {
		lost += n
	}
	return int(lost)
}

// awaitTold reads until the ledger has as many as exported, and these are in the file.
func (c *collector) awaitTold(exchanges uint64) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		require.NoError(c.t, c.output.read())
		return c.stats().Ledger["http"].Exported >= exchanges
	}, longPatience, pollInterval, "%d exchanges: %+v", exchanges, c.stats().Ledger["http"])
}

func allHammered(pid, connections, requests, maxBody int64) []call {
	var all []call
	for connection := range connections {
		for request := range requests {
			c := hammered(connection, request, maxBody)
			c.PID = pid
			all = append(all, c)
		}
	}
	return all
}

// lossy runs a program in a network of its own, whose packets are small and of which each twentieth
// does not arrive. It has to be sent again, and those behind it come before it.
const lossy = `
ip link set lo mtu 1500 gso_max_segs 1 up &&
nft add table inet lossy &&
nft add chain inet lossy input '{ type filter hook input priority 0; }' &&
nft add rule inet lossy input meta l4proto tcp numgen random mod 20 0 drop &&
exec "$@"`

// startLossyNginx has a network namespace of its own, which goes with it.
func (g cgroup) startLossyNginx(t *testing.T) *server {
	t.Helper()
	tool(t, "ip")
	tool(t, "nft")
	command, s := g.nginx(t, noUpstream)
	command.Args = append([]string{"sh", "-c", lossy, "sh"}, command.Args...)
	command.Path = tool(t, "sh")
	command.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	return startServer(t, s)
}

// TestHTTPLossyNetwork: what is lost, or comes twice or out of order, is told as what arrived in the
// end.
func TestHTTPLossyNetwork(t *testing.T) {
	requireBPF(t)
	const connections, requests, maxBody = 64, 30, 40000
	scope := newCgroup(t)
	nginx := scope.startLossyNginx(t)
	c := startCollector(t, scope)
	nsenter := []string{tool(t, "nsenter"), fmt.Sprintf("--net=/proc/%d/ns/net", nginx.pid())}
	hammer := scope.startBy(t, nsenter, "hammer", nginx.address, connections, requests, maxBody)
	hammer.waitFor(longPatience)
	logged := nginx.calls(t, connections*requests)
	c.await("both ends of each connection", func(o *output) bool { return len(o.closes()) >= 2*connections })
	c.stopWithoutLoss()
	checkExchanges(t, &c.output, logged, allHammered(hammer.pid(), connections, requests, maxBody))
	retransmitted := int64(0)
	for _, record := range c.output.closes() {
		retransmitted += record.number("tapio.tcp.retransmits")
	}
	assert.Positive(t, retransmitted)
	t.Logf("%d segments were sent again", retransmitted)
}
