// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	execRounds  = 40
	execWorkers = 8
	// clockError is what the wall clock of a record may be off.
	clockError = 50 * time.Millisecond
	// maxArgumentBytes is the default of the config.
	maxArgumentBytes = 1024
)

// program is one execution within a process.
type program struct {
	executable string
	args       []string
	truncated  bool
}

// execution is a process to start, and what the collector has to tell of it.
type execution struct {
	env      []string
	uid      int
	dir      string
	programs []program // the first is started by the test, the others by the one before
	code     int
	signal   syscall.Signal // instead of a code

	pid           int64
	before, after time.Time
}

// TestExecs starts hundreds of processes of many kinds at once, and wants each told exactly.
func TestExecs(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	executions := manyExecutions(t)
	runAll(t, scope, executions)

	c.await("an exit a process", func(o *output) bool {
		return len(named(o.logs, "tapio.process.exit")) >= len(executions)
	})
	rows, alive := c.quiet(), c.stats().ActiveProcesses
	c.stopWithoutLoss()
	checkExecutions(t, &c.output, executions)
	assert.Equal(t, c.output.events(), rows.exported())
	assert.Zero(t, alive, "processes that are thought to live")
}

func manyExecutions(t *testing.T) []*execution {
	t.Helper()
	dir := filepath.Join(publicDir(t), "directory with spaces", "Verzeichnis für Prüfungen")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	script := filepath.Join(dir, "script.sh")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexit $1\n"), 0o755))
	var all []*execution
	for round := range execRounds {
		all = append(all, kindsOfExecution(t, dir, script, round)...)
	}
	return all
}

// kindsOfExecution has one of every kind.
func kindsOfExecution(t *testing.T, dir, script string, round int) []*execution {
	t.Helper()
	sh, env, truth := realPath(t, "/bin/sh"), realPath(t, "/usr/bin/env"), realPath(t, "/bin/true")
	code := round%255 + 1
	tag := strconv.Itoa(round)
	odd := []string{"", "a b", "grüße-日本", strings.Repeat("x", 300), "", tag, "\t\n'\"$", "--"}
	long := strings.Repeat("y", 2000)
	exit := fmt.Sprintf("exit %d", code)
	return []*execution{
		{dir: dir, programs: []program{{executable: sh, args: []string{"/bin/sh", "-c", exit, tag}}}, code: code},
		{dir: "/", programs: []program{{executable: sh, args: []string{"sh", "-c", exit}}}, code: code},
		{dir: dir, programs: []program{{executable: truth, args: append([]string{"true"}, odd...)}}},
		{dir: dir, programs: []program{{executable: truth, args: []string{"a name of its own"}}}},
		{dir: dir, uid: 65534, programs: []program{{executable: sh, args: []string{"sh", "-c", exit}}}, code: code},
		{dir: dir, uid: 4000000000, programs: []program{{executable: truth, args: []string{"true", tag}}}},
		{dir: dir, programs: []program{
			{executable: env, args: append([]string{"env", "A=b", "/bin/true"}, odd...)},
			{executable: truth, args: append([]string{"/bin/true"}, odd...)},
		}},
		{dir: dir, programs: []program{
			{executable: sh, args: []string{"sh", "-c", `exec env /bin/sh -c "exit $1"`, "sh", strconv.Itoa(code)}},
			{executable: env, args: []string{"env", "/bin/sh", "-c", exit}},
			{executable: sh, args: []string{"/bin/sh", "-c", exit}},
		}, code: code},
		{dir: dir, programs: []program{{executable: sh, args: []string{"/bin/sh", script, strconv.Itoa(code)}}}, code: code},
		{dir: dir, env: []string{workloadEnv + "=exit"}, programs: []program{
			{executable: self(t), args: []string{"a Go program", strconv.Itoa(code), "-flag", ""}},
		}, code: code},
		{dir: dir, env: []string{workloadEnv + "=become"}, programs: []program{
			{executable: self(t), args: []string{"a thread", sh, "sh", "-c", exit}},
			{executable: sh, args: []string{"sh", "-c", exit}},
		}, code: code},
		{dir: dir, programs: []program{{executable: sh, args: []string{"sh", "-c", "kill -9 $$"}}}, signal: syscall.SIGKILL},
		{dir: dir, programs: []program{{executable: sh, args: []string{"sh", "-c", "kill -TERM $$"}}}, signal: syscall.SIGTERM},
		{dir: dir, programs: []program{{executable: sh, args: []string{"sh", "-c", "ulimit -c 0; kill -SEGV $$"}}}, signal: syscall.SIGSEGV},
		{dir: dir, programs: []program{
			{executable: truth, args: []string{"true", long[:maxArgumentBytes-len("true\x00")]}, truncated: true},
		}},
	}
}

func realPath(t *testing.T, name string) string {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(name)
	require.NoError(t, err)
	return resolved
}

func runAll(t *testing.T, scope cgroup, executions []*execution) {
	t.Helper()
	queue := make(chan *execution)
	var workers sync.WaitGroup
	for range execWorkers {
		workers.Go(func() {
			for e := range queue {
				assert.NoError(t, e.run(scope))
			}
		})
	}
	for _, e := range executions {
		queue <- e
	}
	close(queue)
	workers.Wait()
	require.False(t, t.Failed(), "the processes did not do what they should")
}

// run starts the process in the cgroup and checks that it ends as it should.
func (e *execution) run(scope cgroup) error {
	command := e.command()
	scope.place(command)
	e.before = time.Now()
	if err := command.Start(); err != nil {
		return err
	}
	e.pid = int64(command.Process.Pid)
	_ = command.Wait() // its status is looked at here
	e.after = time.Now()
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	if e.signal != 0 && status.Signal() != e.signal || e.signal == 0 && status.ExitStatus() != e.code {
		return fmt.Errorf("%q ended with %s", command.Args, command.ProcessState)
	}
	return nil
}

func (e *execution) command() *exec.Cmd {
	first := e.programs[0]
	command := &exec.Cmd{Path: first.executable, Args: first.args, Dir: e.dir, Env: append(os.Environ(), e.env...)}
	if script := first.args[min(1, len(first.args)-1)]; strings.HasSuffix(script, ".sh") {
		command.Path, command.Args = script, first.args[1:] // the kernel adds the interpreter
	}
	if first.truncated {
		last := len(first.args) - 1
		command.Args = append(first.args[:last:last], first.args[last]+"more than is read")
	}
	if e.uid != 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(e.uid), Gid: 65534}}
	}
	return command
}

// checkExecutions wants exactly what was started, and nothing else.
func checkExecutions(t *testing.T, o *output, executions []*execution) {
	t.Helper()
	forks, execs := byPID(named(o.logs, "tapio.process.fork")), byPID(named(o.logs, "tapio.process.exec"))
	exits, spans := byPID(named(o.logs, "tapio.process.exit")), byPID(named(o.spans, "process.exec"))
	for _, items := range []map[int64][]item{forks, execs, exits, spans} {
		assert.Len(t, items, len(executions), "processes")
	}
	for _, e := range executions {
		if !e.check(t, forks[e.pid], execs[e.pid], exits[e.pid], spans[e.pid]) {
			t.Logf("of %+v", *e)
			return // the others will have the same
		}
	}
}

func (e *execution) check(t *testing.T, forks, execs, exits, spans []item) bool {
	t.Helper()
	if !assert.Len(t, forks, 1, "forks") || !assert.Len(t, exits, 1, "exits") ||
		!assert.Len(t, execs, len(e.programs), "execs") || !assert.Len(t, spans, len(e.programs), "spans") {
		return false
	}
	e.checkIdentity(t, forks[0])
	for i, p := range e.programs {
		e.checkProgram(t, p, execs[i])
		e.checkProgram(t, p, spans[i])
		e.checkSpan(t, execs[i], spans[i])
	}
	last := len(e.programs) - 1
	for i := range last {
		assert.Equal(t, execs[i+1].time, spans[i].end, "a program ends where the next begins")
		assert.False(t, spans[i].has("process.exit.code") || spans[i].has("tapio.process.exit.signal"))
		assert.Equal(t, ptrace.StatusCodeUnset, spans[i].status)
	}
	e.checkEnd(t, execs[last], exits[0], spans[last])
	return !t.Failed()
}

func (e *execution) checkIdentity(t *testing.T, i item) {
	t.Helper()
	assert.Equal(t, e.pid, i.pid())
	assert.Equal(t, int64(os.Getpid()), i.number("process.parent_pid"))
	assert.Equal(t, "ebpf", i.resource["tapio.source"])
	at := i.time.AsTime()
	assert.True(t, at.After(e.before.Add(-clockError)) && at.Before(e.after.Add(clockError)),
		"%s: %s is not between %s and %s", i.name, at, e.before, e.after)
}

func (e *execution) checkProgram(t *testing.T, p program, i item) {
	t.Helper()
	e.checkIdentity(t, i)
	args, _ := i.attributes["process.command_args"].([]any)
	assert.Equal(t, anys(p.args), args)
	assert.Equal(t, p.args[0], i.text("process.command"))
	assert.Equal(t, p.truncated, i.has("tapio.process.command_args.truncated"))
	assert.Equal(t, e.dir, i.text("process.working_directory"))
	assert.Equal(t, p.executable, i.text("process.executable.path"))
	assert.Equal(t, path.Base(p.executable), i.text("process.executable.name"))
	assert.Equal(t, p.executable, i.resource["process.executable.path"])
	assert.Equal(t, path.Base(p.executable), i.resource["service.name"])
	assert.EqualValues(t, e.uid, i.number("process.user.id"))
	assert.EqualValues(t, e.uid, i.number("process.real_user.id"))
}

func (e *execution) checkSpan(t *testing.T, started, span item) {
	t.Helper()
	assert.Equal(t, started.time, span.time)
	assert.Equal(t, ptrace.SpanKindInternal, span.kind)
	assert.False(t, span.traceID.IsEmpty() || span.spanID.IsEmpty())
	assert.Equal(t, started.traceID, span.traceID)
	assert.Equal(t, started.spanID, span.spanID)
}

func (e *execution) checkEnd(t *testing.T, started, exited, span item) {
	t.Helper()
	e.checkIdentity(t, exited)
	assert.Equal(t, started.traceID, exited.traceID)
	assert.Equal(t, started.spanID, exited.spanID)
	assert.Equal(t, exited.time, span.end)
	assert.Equal(t, exited.time.AsTime().Format(time.RFC3339Nano), exited.text("process.exit.time"))
	for _, i := range []item{exited, span} {
		e.checkStatus(t, i)
	}
	wantStatus, wantSeverity := ptrace.StatusCodeUnset, plog.SeverityNumberInfo
	if e.errorType() != "" {
		wantStatus = ptrace.StatusCodeError
	}
	if e.signal != 0 {
		wantSeverity = plog.SeverityNumberWarn
	}
	assert.Equal(t, wantStatus, span.status)
	assert.Equal(t, wantSeverity, exited.severity)
}

func (e *execution) checkStatus(t *testing.T, i item) {
	t.Helper()
	assert.Equal(t, e.errorType(), i.text("error.type"))
	if e.signal != 0 {
		assert.Equal(t, e.errorType(), i.text("tapio.process.exit.signal"))
		assert.False(t, i.has("process.exit.code"))
		return
	}
	assert.True(t, i.has("process.exit.code"))
	assert.Equal(t, int64(e.code), i.number("process.exit.code"))
	assert.False(t, i.has("tapio.process.exit.signal"))
}

// errorType is how the process ended; empty if all was well.
func (e *execution) errorType() string {
	names := map[syscall.Signal]string{syscall.SIGKILL: "SIGKILL", syscall.SIGTERM: "SIGTERM", syscall.SIGSEGV: "SIGSEGV"}
	switch {
	case e.signal != 0:
		return names[e.signal]
	case e.code != 0:
		return "exit_" + strconv.Itoa(e.code)
	default:
		return ""
	}
}

func anys(texts []string) []any {
	var values []any
	for _, text := range texts {
		values = append(values, text)
	}
	return values
}
