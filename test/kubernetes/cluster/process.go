// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	patience     = 2 * time.Minute // two cores that others use as well
	pollInterval = 50 * time.Millisecond
	stopPatience = 10 * time.Second
)

// process is a component that runs, with its output in a file.
type process struct {
	command *exec.Cmd
	log     string
	ended   chan struct{}
}

// start runs a component until the test ends, or until it is stopped. If the test is killed, so is
// the component.
func start(t testing.TB, folder string, command *exec.Cmd) *process {
	t.Helper()
	p := &process{command: command, log: filepath.Join(folder, filepath.Base(command.Args[0])+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	require.NoError(t, command.Start())
	go func() {
		defer close(p.ended)
		_ = command.Wait() // killed, most often
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the end of %s:\n%s", p.log, p.tail())
		}
	})
	return p
}

// stop asks the process to end, and kills one that does not.
func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.ended
}

func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-30):], []byte("\n")))
}
