// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a workload that runs.
type process struct {
	t       *testing.T
	command *exec.Cmd
	in      io.WriteCloser
	lines   chan string
}

// self is the path of this test's binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	path, err = filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return path
}

// start starts a workload in the cgroup.
func (g cgroup) start(t *testing.T, name string, args ...any) *process {
	t.Helper()
	return g.startBy(t, nil, name, args...)
}

// startBy has another program run it in its place, given with its arguments.
func (g cgroup) startBy(t *testing.T, by []string, name string, args ...any) *process {
	t.Helper()
	line := append(slices.Clone(by), self(t))
	for _, arg := range args {
		line = append(line, fmt.Sprint(arg))
	}
	command := exec.Command(line[0], line[1:]...)
	command.Env = append(os.Environ(), workloadEnv+"="+name)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	g.place(command)
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	p := &process{t: t, command: command, in: in, lines: make(chan string, 1024)}
	go p.read(out)
	t.Cleanup(p.end)
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.lines)
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		p.lines <- scanner.Text()
	}
}

func (p *process) pid() int64 { return int64(p.command.Process.Pid) }

// line waits for the next line that the workload prints.
func (p *process) line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		require.True(p.t, ok, "the workload ended without a word")
		return line
	case <-time.After(longPatience):
		require.Fail(p.t, "the workload prints nothing")
		return ""
	}
}

// proceed gives the workload the line that it waits for.
func (p *process) proceed() {
	p.t.Helper()
	_, err := io.WriteString(p.in, "\n")
	require.NoError(p.t, err)
}

// transfer is the next thing that the workload tells of its traffic.
func (p *process) transfer() transfer {
	p.t.Helper()
	var told transfer
	require.NoError(p.t, json.Unmarshal([]byte(p.line()), &told))
	return told
}

// wait returns when the workload has done all that it should.
func (p *process) wait() {
	p.t.Helper()
	p.waitFor(patience)
}

func (p *process) waitFor(patience time.Duration) {
	p.t.Helper()
	stop := time.AfterFunc(patience, func() { _ = p.command.Process.Kill() })
	defer stop.Stop()
	for range p.lines { // Wait may not close the pipe before it was read
	}
	require.NoError(p.t, p.command.Wait())
}

// end is for a workload that would go on, or that a test left behind.
func (p *process) end() {
	if p.command.ProcessState != nil {
		return
	}
	_ = p.command.Process.Kill()
	for range p.lines {
	}
	_ = p.command.Wait()
}
