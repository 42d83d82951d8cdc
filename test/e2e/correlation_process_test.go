// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// commandName is what a test knows a program by: its name, and the last of its arguments.
func commandName(i item) string {
	args, _ := i.attributes["process.command_args"].([]any)
	if len(args) == 0 {
		return ""
	}
	return filepath.Base(args[0].(string)) + " " + args[len(args)-1].(string)
}

// tree of programs, each with its parent; "" has none.
type tree map[string]string

// awaitTree waits for the spans of all programs.
func (c *collector) awaitTree(want tree) {
	c.t.Helper()
	c.await(fmt.Sprintf("the programs %q", slices.Collect(maps.Keys(want))), func(o *output) bool {
		var names []string
		for _, span := range named(o.spans, "process.exec") {
			names = append(names, commandName(span))
		}
		for name := range want {
			if !slices.Contains(names, name) {
				return false
			}
		}
		return true
	})
}

// checkTree wants each program's span to have the right parent, in the same trace, and returns the traces
// that they are in.
func checkTree(t *testing.T, o *output, want tree) []string {
	t.Helper()
	spans := named(o.spans, "process.exec")
	byID, got := bySpanID(spans), tree{}
	var all []item
	for _, span := range spans {
		name := commandName(span)
		if _, ok := want[name]; !ok {
			continue
		}
		require.NotContains(t, got, name, "two spans of one program")
		all = append(all, span)
		got[name] = ""
		if !span.parentID.IsEmpty() {
			parent := byID[span.parentID]
			assert.Equal(t, parent.traceID, span.traceID, name)
			got[name] = commandName(parent)
		}
	}
	assert.Equal(t, want, got)
	return traces(all)
}

// checkProcessLogs wants the events of processes to be in the context of their program's span. What is forked
// and runs no program of its own has none.
func checkProcessLogs(t *testing.T, o *output) {
	t.Helper()
	spans := named(o.spans, "process.exec")
	byID, programs := bySpanID(spans), byPID(spans)
	for _, record := range append(named(o.logs, "tapio.process.exec"), named(o.logs, "tapio.process.exit")...) {
		if programs[record.pid()] == nil {
			continue
		}
		span := byID[record.spanID]
		assert.Equal(t, [2]any{span.traceID, record.pid()}, [2]any{record.traceID, span.pid()}, "%s of %d", record.name, record.pid())
		if record.name == "tapio.process.exec" {
			assert.Equal(t, commandName(span), commandName(record))
		}
	}
}

const script = `
/bin/true tag-plain
/bin/echo tag-left | /bin/grep -c tag-right
(/bin/true tag-sub-1; /bin/true tag-sub-2; :)
written=$(/bin/echo tag-substituted; :)
/bin/sh -c '/bin/true tag-inner; :' tag-shell
/usr/bin/env /bin/true tag-replaced
/bin/true tag-background &
wait
(/bin/sleep 0.2; /bin/true tag-orphan; :) &
`

// TestTreeOfScript: a shell script with pipes, subshells and what it leaves behind is one trace.
func TestTreeOfScript(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	file := filepath.Join(publicDir(t), "script")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o644))
	c := startCollector(t, scope)
	require.NoError(t, scope.command(t, "sh", file, "tag-script").Run())
	const top = "sh tag-script"
	want := tree{
		top: "", "true tag-plain": top, "echo tag-left": top, "grep tag-right": top, "true tag-sub-1": top, "true tag-sub-2": top,
		"echo tag-substituted": top, "sh tag-shell": top, "true tag-inner": "sh tag-shell", "env tag-replaced": top,
		"true tag-replaced": "env tag-replaced", "true tag-background": top, "sleep 0.2": top, "true tag-orphan": top,
	}
	c.awaitTree(want)
	c.stopWithoutLoss()
	assert.Len(t, checkTree(t, &c.output, want), 1, "traces")
	assert.Len(t, named(c.output.spans, "process.exec"), len(want))
	checkProcessLogs(t, &c.output)
}

// TestTreeOfMake: a job of CI, with a make that starts another one.
func TestTreeOfMake(t *testing.T) {
	requireBPF(t)
	tool(t, "make")
	scope := newCgroup(t)
	dir := publicDir(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	for name, content := range map[string]string{
		"Makefile":     "tag-all: first second\nfirst:\n\t@/bin/true tag-first\n\t@/bin/true tag-one; /bin/true tag-two; :\nsecond:\n\t@$(MAKE) -C sub tag-sub\n",
		"sub/Makefile": "tag-sub:\n\t@/bin/true tag-inner\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	c := startCollector(t, scope)
	require.NoError(t, scope.command(t, "sh", "-c", "make -s -C "+dir+" tag-all && /bin/true tag-deploy; :", "tag-ci").Run())
	const top, lines = "sh tag-ci", "sh /bin/true tag-one; /bin/true tag-two; :"
	want := tree{
		top: "", "make tag-all": top, "true tag-first": "make tag-all", lines: "make tag-all", "true tag-one": lines, "true tag-two": lines,
		"make tag-sub": "make tag-all", "true tag-inner": "make tag-sub", "true tag-deploy": top,
	}
	c.awaitTree(want)
	c.stopWithoutLoss()
	assert.Len(t, checkTree(t, &c.output, want), 1, "traces")
	checkProcessLogs(t, &c.output)
}

// TestTreeOfCron: each job of a daemon is a trace of its own, since it has a session of its own.
func TestTreeOfCron(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	jobs := []string{"/bin/true tag-job-1; /bin/echo tag-1 | /bin/grep -q tag-1; :", "/bin/sh -c '/bin/true tag-job-2; :' tag-2; :"}
	scope.start(t, "spawn", jobs[0], jobs[1]).wait()
	cron := filepath.Base(self(t)) + " " + jobs[1]
	want := []tree{
		{"sh " + jobs[0]: "", "true tag-job-1": "sh " + jobs[0], "echo tag-1": "sh " + jobs[0], "grep tag-1": "sh " + jobs[0]},
		{"sh " + jobs[1]: "", "sh tag-2": "sh " + jobs[1], "true tag-job-2": "sh tag-2"},
		{cron: ""},
	}
	for _, each := range want {
		c.awaitTree(each)
	}
	c.stopWithoutLoss()
	seen := map[string]bool{}
	for _, each := range want {
		ids := checkTree(t, &c.output, each)
		require.Len(t, ids, 1, "traces")
		assert.False(t, seen[ids[0]], "two jobs have one trace")
		seen[ids[0]] = true
	}
	checkProcessLogs(t, &c.output)
}

// TestTreeOfContainerExec: what is run in a container that is there, as kubectl exec does it, is a trace of its
// own.
func TestTreeOfContainerExec(t *testing.T) {
	requireBPF(t)
	runtimeOrSkip(t)
	scope := newCgroup(t)
	pod := kindsOfContainer()[0]
	pod.script = "busybox true tag-start; echo ready; read line; busybox true tag-end; :"
	pod.prepare(t, scope, 30)
	c := startCollector(t, scope)
	running := pod.runc()
	in, err := running.StdinPipe()
	require.NoError(t, err)
	out := &syncBuffer{}
	running.Stdout = out
	require.NoError(t, running.Start())
	require.Eventually(t, func() bool { return out.String() == "ready\n" }, patience, pollInterval)
	inside := "busybox true tag-one; busybox sh -c 'busybox true tag-inner; :' tag-shell; :"
	said, err := exec.Command("runc", "--root", filepath.Join(pod.bundle, "state"), "exec", pod.id, "/bin/busybox", "sh", "-c", inside, "tag-exec").CombinedOutput()
	require.NoError(t, err, "%s", said)
	_, err = in.Write([]byte("\n"))
	require.NoError(t, err)
	require.NoError(t, running.Wait())
	const top = "busybox tag-exec"
	want := tree{top: "", "busybox tag-one": top, "busybox tag-shell": top, "busybox tag-inner": "busybox tag-shell"}
	initial := "busybox " + pod.script
	own := tree{initial: "", "busybox tag-start": initial, "busybox tag-end": initial}
	c.awaitTree(want)
	c.awaitTree(own)
	c.stopWithoutLoss()
	command, container := checkTree(t, &c.output, want), checkTree(t, &c.output, own)
	require.Len(t, command, 1, "traces")
	require.Len(t, container, 1, "traces")
	assert.NotEqual(t, command, container)
	pod.check(t, named(c.output.spans, "process.exec")...)
}

// TestServerLeavesItsStart: until it listens, a program does what it was started for, and its requests are its
// span's children; later, they are not.
func TestServerLeavesItsStart(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, showTruth)
	backend := scope.start(t, "answer", "tcp4", loopback("tcp4")).line()
	p := scope.startBy(t, []string{tool(t, "sh"), "-c", `exec "$0" "$@"`}, "relay", backend, "job")
	address := p.line()
	isOwn := func(i item) bool { return i.pid() == p.pid() && i.kind == ptrace.SpanKindClient && isExchange(i) }
	c.await("requests of its own", func(o *output) bool { return len(filter(o.spans, isOwn)) >= 3+5 })
	require.Equal(t, "200", scope.curl(t, "-H", truthHeader+": served", "http://"+address+"/")[0].Code)
	before := len(filter(c.output.spans, isOwn))
	c.await("more of them", func(o *output) bool { return len(filter(o.spans, isOwn)) >= before+5 })
	p.end()
	c.await("its end", func(o *output) bool { return len(byPID(named(o.spans, "process.exec"))[p.pid()]) == 2 })
	c.stopWithoutLoss()

	started := byPID(named(c.output.spans, "process.exec"))[p.pid()]
	checkChild(t, started[0], started[1], "the shell that it has replaced")
	own := filter(c.output.spans, isOwn)
	checkChildren(t, started[1], byTruth(t, own, "start-"))
	checkAlone(t, byTruth(t, own, "job-"))
	assert.Len(t, byTruth(t, own, "start-"), 3)
}
