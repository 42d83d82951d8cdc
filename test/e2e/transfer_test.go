// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// connectionsAtOnce that each pair of client and server has.
const connectionsAtOnce = 3

// side is one end of a connection as the workload knows it, and whose it is.
type side struct {
	transfer
	pid       int64
	transport string
	role      string // empty: it cannot be known
}

// pair is a client and a server, each a process of its own.
type pair struct {
	network        string
	client, server *process
}

// startPair has the client send "up" bytes and the server "down" bytes on each connection.
func startPair(t *testing.T, scope cgroup, network string, up, down int) pair {
	t.Helper()
	server := scope.start(t, "serve", network, connectionsAtOnce, down, "eager")
	client := scope.start(t, "fetch", network, server.line(), connectionsAtOnce, up)
	return pair{network: network, client: client, server: server}
}

// wait returns what each side knows of each connection, the client's first.
func (p pair) wait(t *testing.T, up, down int) []side {
	t.Helper()
	var sides []side
	for range connectionsAtOnce {
		client := side{transfer: p.client.transfer(), pid: p.client.pid(), transport: "tcp", role: "client"}
		server := side{transfer: p.server.transfer(), pid: p.server.pid(), transport: "tcp", role: "server"}
		assert.Equal(t, []int64{int64(up), int64(down)}, []int64{client.Sent, client.Received})
		assert.Equal(t, []int64{int64(down), int64(up)}, []int64{server.Sent, server.Received})
		sides = append(sides, client, server)
	}
	p.client.wait()
	p.server.wait()
	return sides
}

// TestTransfers: every connection is told once by each side, with exactly what it carried.
func TestTransfers(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	var sides []side
	for _, network := range []string{"tcp4", "tcp6"} {
		sides = append(sides, transferAll(t, scope, network)...)
	}
	c.await("a close on each side", func(o *output) bool { return len(o.closes()) >= len(sides) })
	c.stopWithoutLoss()
	checkSides(t, c.output.closes(), sides)
	checkConnects(t, &c.output, sides)
}

func transferAll(t *testing.T, scope cgroup, network string) []side {
	t.Helper()
	sizes := []struct{ up, down int }{{0, 0}, {1, 1}, {100, 0}, {0, 65536}, {1 << 20, 100}, {20 << 20, 20 << 20}}
	var pairs []pair
	for _, size := range sizes {
		pairs = append(pairs, startPair(t, scope, network, size.up, size.down))
	}
	var sides []side
	for i, p := range pairs {
		sides = append(sides, p.wait(t, sizes[i].up, sizes[i].down)...)
	}
	return sides
}

// checkSides wants one close a side, and no other.
func checkSides(t *testing.T, closes []item, sides []side) {
	t.Helper()
	assert.Len(t, closes, len(sides))
	byEnds := map[string][]item{}
	for _, record := range closes {
		byEnds[endsOf(record)] = append(byEnds[endsOf(record)], record)
	}
	for _, s := range sides {
		if records := byEnds[s.ends()]; assert.Len(t, records, 1, "closes of %s (%s)", s.ends(), s.role) {
			s.check(t, records[0])
		}
	}
}

func (s side) ends() string { return fmt.Sprintf("%s %s %s", s.transport, s.Local, s.Peer) }

func endsOf(i item) string {
	return fmt.Sprintf("%s %s %s", i.text("network.transport"), address(i, "network.local"), address(i, "network.peer"))
}

// address of attributes such as server.address and server.port.
func address(i item, prefix string) string {
	return net.JoinHostPort(i.text(prefix+".address"), fmt.Sprint(i.number(prefix+".port")))
}

func (s side) check(t *testing.T, record item) {
	t.Helper()
	s.checkWho(t, record)
	assert.Equal(t, s.Sent, record.number("tapio.network.sent_bytes"), "sent by %s", s.ends())
	assert.Equal(t, s.Received, record.number("tapio.network.received_bytes"), "received by %s", s.ends())
	assert.Equal(t, plog.SeverityNumberInfo, record.severity)
	assert.False(t, record.has("error.type"), record.text("error.type"))
	if s.transport == "udp" {
		assert.Equal(t, s.SentPackets, record.number("tapio.network.sent_packets"), "sent by %s", s.ends())
		assert.Equal(t, s.ReceivedPackets, record.number("tapio.network.received_packets"), "received by %s", s.ends())
	}
	duration, known := record.attributes["tapio.network.duration"].(float64)
	assert.Equal(t, s.role != "", known, "whether the duration is known")
	assert.True(t, duration >= 0 && duration < patience.Seconds(), "%f s", duration)
}

// checkWho looks at what a side's records have in common.
func (s side) checkWho(t *testing.T, i item) {
	t.Helper()
	assert.Equal(t, s.pid, i.pid(), "owner of %s", s.ends())
	assert.Equal(t, self(t), i.resource["process.executable.path"])
	assert.Equal(t, s.role, i.text("tapio.network.role"))
	assert.Equal(t, networkType(s.Local), i.text("network.type"))
	switch s.role {
	case "client":
		assert.Equal(t, s.Peer.String(), address(i, "server"))
		assert.False(t, i.has("client.address") || i.has("client.port"))
	case "server":
		assert.Equal(t, s.Peer.String(), address(i, "client"))
		assert.Equal(t, s.Local.String(), address(i, "server"))
	default:
		assert.False(t, i.has("client.address") || i.has("server.address") || i.has("client.port") || i.has("server.port"))
	}
}

func networkType(address netip.AddrPort) string {
	if address.Addr().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// checkConnects wants one span for every connection that was opened, and no other.
func checkConnects(t *testing.T, o *output, sides []side) {
	t.Helper()
	spans := map[string][]item{}
	for _, span := range named(o.spans, "tcp.connect") {
		spans[endsOf(span)] = append(spans[endsOf(span)], span)
	}
	closes := map[string]item{}
	for _, record := range o.closes() {
		closes[endsOf(record)] = record
	}
	clients := 0
	for _, s := range sides {
		if s.transport != "tcp" || s.role != "client" {
			continue
		}
		clients++
		if assert.Len(t, spans[s.ends()], 1, "spans of %s", s.ends()) {
			s.checkConnect(t, spans[s.ends()][0], closes[s.ends()])
		}
	}
	assert.Len(t, spans, clients)
}

func (s side) checkConnect(t *testing.T, span, closed item) {
	t.Helper()
	s.checkWho(t, span)
	assert.Equal(t, ptrace.SpanKindClient, span.kind)
	assert.Equal(t, ptrace.StatusCodeUnset, span.status)
	assert.False(t, span.has("error.type"))
	assert.False(t, span.traceID.IsEmpty() || span.spanID.IsEmpty())
	assert.Less(t, span.time, span.end, "the handshake takes time")
	assert.LessOrEqual(t, span.end, closed.time)
	duration, _ := closed.attributes["tapio.network.duration"].(float64)
	assert.InDelta(t, closed.time.AsTime().Sub(span.end.AsTime()).Seconds(), duration, 0.001, "from established to closed")
}

// TestPackets: two clients of one UDP server; each flow is told by both ends.
func TestPackets(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	// of a server's flows, all but the last are over when they have been silent for this long
	c := startCollector(t, scope, "receivers::tapioebpf::families::network::report_interval: 1s")
	var sides []side
	for _, network := range []string{"udp4", "udp6"} {
		sides = append(sides, exchangePackets(t, scope, network)...)
	}
	c.await("a close on each side", func(o *output) bool { return len(o.closes()) >= len(sides) })
	c.stopWithoutLoss()
	checkSides(t, c.output.closes(), sides)
	assert.Empty(t, named(c.output.spans, "tcp.connect"))
}

func exchangePackets(t *testing.T, scope cgroup, network string) []side {
	t.Helper()
	const clients, packets = 2, 40
	server := scope.start(t, "serveUDP", network, clients*packets)
	serverAddress := server.line()
	var running []*process
	for range clients {
		running = append(running, scope.start(t, "fetchUDP", network, serverAddress, packets))
	}
	var sides []side
	for _, client := range running {
		sides = append(sides,
			side{transfer: client.transfer(), pid: client.pid(), transport: "udp", role: "client"},
			side{transfer: server.transfer(), pid: server.pid(), transport: "udp", role: "server"})
		client.wait()
	}
	server.wait()
	return sides
}

// TestRefusedAndReset: what goes wrong has a name.
func TestRefusedAndReset(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	for _, network := range []string{"tcp4", "tcp6"} {
		closed := porttest.Closed(t, network)
		client := scope.start(t, "refused", network, closed, 5)
		client.wait()
		sides := slamOnce(t, scope, network)
		c.await("5 refusals and 2 closes", func(o *output) bool {
			return len(refusals(o.logs, closed)) >= 5 && len(refusals(o.spans, closed)) >= 5 &&
				len(closesOf(o, sides[0])) > 0 && len(closesOf(o, sides[1])) > 0
		})
		checkRefusals(t, &c.output, closed, client.pid())
		checkReset(t, &c.output, sides)
	}
	c.stopWithoutLoss()
	assert.Len(t, c.output.closes(), 4)
	assert.Len(t, named(c.output.logs, "tapio.network.connection.close"), 14)
	assert.Len(t, named(c.output.spans, "tcp.connect"), 12)
}

func refusals(items []item, closed string) []item {
	return filter(items, func(i item) bool { return i.has("network.peer.port") && address(i, "network.peer") == closed })
}

func checkRefusals(t *testing.T, o *output, closed string, pid int64) {
	t.Helper()
	records, spans := refusals(o.logs, closed), refusals(o.spans, closed)
	assert.Len(t, records, 5)
	assert.Len(t, spans, 5)
	for _, i := range append(records, spans...) {
		assert.Equal(t, "connection_refused", i.text("error.type"))
		assert.Equal(t, pid, i.pid())
		assert.Equal(t, "client", i.text("tapio.network.role"))
		assert.Equal(t, closed, address(i, "server"))
		assert.Positive(t, i.number("network.local.port"))
	}
	for _, span := range spans {
		assert.Equal(t, ptrace.StatusCodeError, span.status)
	}
	for _, record := range records {
		assert.Equal(t, plog.SeverityNumberWarn, record.severity)
	}
}

// slamOnce has the server reset a connection. The client comes first.
func slamOnce(t *testing.T, scope cgroup, network string) []side {
	t.Helper()
	server := scope.start(t, "slam", network)
	client := scope.start(t, "slammed", network, server.line())
	sides := []side{
		{transfer: client.transfer(), pid: client.pid(), transport: "tcp", role: "client"},
		{transfer: server.transfer(), pid: server.pid(), transport: "tcp", role: "server"},
	}
	client.wait()
	server.wait()
	return sides
}

func closesOf(o *output, s side) []item {
	return filter(o.closes(), func(record item) bool { return endsOf(record) == s.ends() })
}

func checkReset(t *testing.T, o *output, sides []side) {
	t.Helper()
	for i, reset := range []string{"received", "sent"} {
		s := sides[i]
		records := closesOf(o, s)
		require.Len(t, records, 1, "closes of %s", s.ends())
		s.checkWho(t, records[0])
		assert.Equal(t, s.Sent, records[0].number("tapio.network.sent_bytes"))
		assert.Equal(t, s.Received, records[0].number("tapio.network.received_bytes"))
		assert.Equal(t, "connection_reset", records[0].text("error.type"))
		assert.Equal(t, reset, records[0].text("tapio.tcp.reset"))
		assert.Equal(t, plog.SeverityNumberWarn, records[0].severity)
	}
}
