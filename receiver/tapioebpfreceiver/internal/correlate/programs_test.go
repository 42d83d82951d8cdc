// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// start a program in a process of the session, at a time.
func start(pid, session uint32, at uint64, before *identity.Program) *identity.Program {
	p := &identity.Process{Key: identity.Key{PID: pid}, ParentPID: 2, VPID: pid, Exec: identity.Exec{Time: at}}
	Start(p, before, NewIDs(), session)
	return p.Program
}

func isChild(child, parent *identity.Program) bool {
	return child.TraceID == parent.TraceID && child.ParentID == parent.SpanID
}

func TestProgramsOfASessionAreOneTree(t *testing.T) {
	shell := start(10, 10, second, nil)
	assert.Zero(t, shell.ParentID)
	command := start(11, 10, 2*second, shell)
	assert.True(t, isChild(command, shell))
	assert.NotEqual(t, shell.SpanID, command.SpanID)
	assert.True(t, isChild(start(11, 10, 3*second, command), command), "in the place of another")
	assert.True(t, isChild(start(10, 10, 3*second, shell), shell), "in the place of the session's leader")
}

func TestASessionBeginsATrace(t *testing.T) {
	cron := start(10, 10, second, nil)
	job := start(11, 11, 2*second, cron)
	assert.NotEqual(t, cron.TraceID, job.TraceID)
	assert.Zero(t, job.ParentID)
	runtime := start(12, 10, 2*second, cron)
	assert.True(t, isChild(runtime, cron))
	container := start(12, 12, 3*second, runtime)
	assert.Zero(t, container.ParentID, "a session of the same process's, too")
}

func TestLimitsOfATree(t *testing.T) {
	fresh := func(change func(*identity.Program)) *identity.Program {
		shell := start(10, 10, second, nil)
		change(shell)
		return shell
	}
	for name, shell := range map[string]*identity.Program{
		"deep":     fresh(func(p *identity.Program) { p.Depth = maxDepth - 1 }),
		"large":    fresh(func(p *identity.Program) { p.Spans = maxProgramSpans }),
		"a server": fresh(func(p *identity.Program) { p.Serves = true }),
	} {
		assert.False(t, isChild(start(11, 10, 2*second, shell), shell), name)
	}
	shell := fresh(func(*identity.Program) {})
	assert.True(t, isChild(start(11, 10, second+maxProgramAge, shell), shell))
	assert.False(t, isChild(start(11, 10, second+maxProgramAge+1, shell), shell))
	assert.Equal(t, 1, shell.Spans, "only children are counted")
	daemon := fresh(func(p *identity.Program) { p.LooksLikeDaemon = true })
	assert.True(t, isChild(start(11, 10, second+maxDaemonAge, daemon), daemon))
	assert.False(t, isChild(start(11, 10, second+maxDaemonAge+1, daemon), daemon))
}

func TestWhatLooksLikeADaemon(t *testing.T) {
	for _, tt := range []struct {
		parent, vpid uint32
		want         bool
	}{{1, 10, true}, {0, 10, true}, {2, 1, true}, {2, 10, false}} {
		p := &identity.Process{Key: identity.Key{PID: 10}, ParentPID: tt.parent, VPID: tt.vpid}
		Start(p, nil, NewIDs(), 10)
		assert.Equal(t, tt.want, p.Program.LooksLikeDaemon)
		child := start(11, 9, second, p.Program)
		assert.Equal(t, tt.vpid == 1, child.LooksLikeDaemon, "started by the first process of a container")
	}
}
