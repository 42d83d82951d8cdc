// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingFromOutsideTheScope has the same done at the same time within the scope, beside it and
// in no cgroup of the tests: only what is within may be told.
func TestNothingFromOutsideTheScope(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	within, beside, nowhere := scope.child(t), scope.sibling(t), cgroup{}
	c := startCollector(t, scope)
	var groups sync.WaitGroup
	var done [3]activity
	for i, group := range []cgroup{within, beside, nowhere} {
		groups.Go(func() { done[i] = beActive(t, group) })
	}
	groups.Wait()
	require.False(t, t.Failed())
	crossing := crossScope(t, within, nowhere)

	sides := append(done[0].sides, crossing)
	c.await("all that was done within", func(o *output) bool {
		return len(o.closes()) >= len(sides) && len(named(o.logs, "tapio.process.exit")) >= len(done[0].executions)+5
	})
	c.stopWithoutLoss()
	checkSides(t, c.output.closes(), sides)
	checkConnects(t, &c.output, sides)
	checkOnly(t, &c.output, done[0].pids(crossing.pid))
	assert.Equal(t, int64(len(done[0].executions)+5), total(c.output.points("tapio.process.executions")))
}

// activity is what was done, and by whom.
type activity struct {
	executions []*execution
	sides      []side
}

// beActive starts programs and has a pair of TCP and one of UDP processes talk.
func beActive(t *testing.T, group cgroup) activity {
	var done activity
	for range 50 {
		e := &execution{dir: "/", programs: []program{{executable: "/bin/true", args: []string{"true"}}}}
		assert.NoError(t, e.run(group))
		done.executions = append(done.executions, e)
	}
	const up, down = 70000, 3
	done.sides = startPair(t, group, "tcp4", up, down).wait(t, up, down)
	server := group.start(t, "serveUDP", "udp4", 10)
	client := group.start(t, "fetchUDP", "udp4", server.line(), 10)
	done.sides = append(done.sides,
		side{transfer: client.transfer(), pid: client.pid(), transport: "udp", role: "client"},
		side{transfer: server.transfer(), pid: server.pid(), transport: "udp", role: "server"})
	client.wait()
	server.wait()
	return done
}

// crossScope has a client within the scope talk to a server without, of which just the first is told.
func crossScope(t *testing.T, within, without cgroup) side {
	t.Helper()
	server := without.start(t, "serve", "tcp4", 1, 2000, "eager")
	client := within.start(t, "fetch", "tcp4", server.line(), 1, 1000)
	told := side{transfer: client.transfer(), pid: client.pid(), transport: "tcp", role: "client"}
	client.wait()
	server.wait()
	return told
}

// pids of those that were active, and more.
func (a activity) pids(more ...int64) map[int64]bool {
	pids := map[int64]bool{}
	for _, e := range a.executions {
		pids[e.pid] = true
	}
	for _, s := range a.sides {
		pids[s.pid] = true
	}
	for _, pid := range more {
		pids[pid] = true
	}
	return pids
}

func checkOnly(t *testing.T, o *output, pids map[int64]bool) {
	t.Helper()
	for _, i := range append(o.logs, o.spans...) {
		assert.True(t, pids[i.pid()], "%s of process %d, which is not in scope: %v", i.name, i.pid(), i.attributes)
	}
}
