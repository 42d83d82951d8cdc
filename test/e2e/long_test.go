// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLongConnection: a connection that lasts is told of meanwhile, and nothing is counted twice.
func TestLongConnection(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, "receivers::tapioebpf::families::network::report_interval: 1s")
	const size, pieces, answer = 100_000, 8, 12_345
	server := scope.start(t, "serve", "tcp4", 1, answer, "polite")
	client := scope.start(t, "drip", "tcp4", server.line(), size, pieces, "500ms")
	sides := awaitDrip(t, client, server, pieces, "client", "server")

	c.await("a close on each side", func(o *output) bool { return len(o.closes()) >= len(sides) })
	c.stopWithoutLoss()
	checkSides(t, c.output.closes(), sides)
	checkConnects(t, &c.output, sides)
	for _, s := range sides {
		checkReports(t, &c.output, s)
	}
	traffic := c.output.points("tapio.network.io")
	for i, role := range []string{"client", "server"} {
		assert.Equal(t, sides[i].Sent, total(traffic, "network.io.direction", "transmit", "tapio.network.role", role))
		assert.Equal(t, sides[i].Received, total(traffic, "network.io.direction", "receive", "tapio.network.role", role))
	}
	assert.Equal(t, int64(2*(size*pieces+answer)), total(traffic), "sent and received by both")
}

// awaitDrip returns what both sides know when all pieces are sent.
func awaitDrip(t *testing.T, client, server *process, pieces int, clientRole, serverRole string) []side {
	t.Helper()
	for range pieces {
		client.line()
	}
	sides := []side{
		{transfer: client.transfer(), pid: client.pid(), transport: "tcp", role: clientRole},
		{transfer: server.transfer(), pid: server.pid(), transport: "tcp", role: serverRole},
	}
	client.wait()
	server.wait()
	return sides
}

// checkReports wants one about every second, each with at least what the one before had.
func checkReports(t *testing.T, o *output, s side) {
	t.Helper()
	reports := filter(named(o.logs, "tapio.network.connection.report"), func(i item) bool { return endsOf(i) == s.ends() })
	closed := filter(o.closes(), func(i item) bool { return endsOf(i) == s.ends() })
	require.Len(t, closed, 1)
	duration, _ := closed[0].attributes["tapio.network.duration"].(float64)
	require.GreaterOrEqual(t, len(reports), 2)
	assert.LessOrEqual(t, float64(len(reports)), duration+1)
	var before item
	for _, report := range reports {
		s.checkWho(t, report)
		sent, received := report.number("tapio.network.sent_bytes"), report.number("tapio.network.received_bytes")
		assert.Greater(t, sent+received, before.number("tapio.network.sent_bytes")+before.number("tapio.network.received_bytes"))
		assert.True(t, sent <= s.Sent && received <= s.Received)
		if before.time > 0 {
			assert.Greater(t, report.time.AsTime().Sub(before.time.AsTime()), 900*time.Millisecond)
		}
		before = report
	}
}

// TestOlderConnection: of what began before the collector, the totals are known, and who it is; how
// long it lasted and who began it is not.
func TestOlderConnection(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	const size, answer = 50_000, 1000
	// "eager": closed on the server's side when the collector starts; "polite": open on both
	servers, clients := map[string]*process{}, map[string]*process{}
	for _, when := range []string{"eager", "polite"} {
		servers[when] = scope.start(t, "serve", "tcp4", 1, answer, when)
		clients[when] = scope.start(t, "drip", "tcp4", servers[when].line(), size, 2, "0")
		clients[when].line()
	}
	c := startCollector(t, scope)
	require.Eventually(t, func() bool { return c.stats().ActiveProcesses == 4 }, patience, pollInterval, "the processes in scope")
	var sides []side
	for when, client := range clients {
		client.proceed()
		sides = append(sides, awaitDrip(t, client, servers[when], 1, "", "")...)
	}
	c.await("the ends of 2 connections and 4 processes", func(o *output) bool {
		return len(o.closes()) >= len(sides) && len(named(o.logs, "tapio.process.exit")) >= 4
	})
	c.stopWithoutLoss()
	checkSides(t, c.output.closes(), sides)
	checkOlderProcesses(t, &c.output, sides)
	traffic := c.output.points("tapio.network.io")
	assert.Equal(t, int64(2*size), total(traffic, "network.io.direction", "transmit", "tapio.network.role", nil), "since the collector's start")
	assert.Equal(t, int64(2*size), total(traffic, "network.io.direction", "receive", "tapio.network.role", nil), "since the collector's start")
	assert.Equal(t, int64(4*size), total(traffic))
}

// checkOlderProcesses: they are known by /proc, but no span can tell of their start.
func checkOlderProcesses(t *testing.T, o *output, sides []side) {
	t.Helper()
	assert.Empty(t, o.spans)
	exits := byPID(named(o.logs, "tapio.process.exit"))
	for _, s := range sides {
		if !assert.Len(t, exits[s.pid], 1) {
			continue
		}
		exit := exits[s.pid][0]
		assert.Equal(t, filepath.Base(self(t)), exit.text("process.executable.name"))
		assert.Equal(t, self(t), exit.resource["process.executable.path"])
		assert.True(t, exit.has("process.exit.code"))
		assert.True(t, exit.traceID.IsEmpty())
	}
}
