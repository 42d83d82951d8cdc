// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package prometheus asks a real Prometheus, with the rules and the dashboard in deploy, what it has of real collectors.
package prometheus

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// patience is how long anything that must come about may take, on a machine with other work.
	patience = 60 * time.Second
	// pollInterval is how often it is looked for.
	pollInterval = 100 * time.Millisecond
)

// requirePrometheus skips unless these tests are asked for.
func requirePrometheus(t *testing.T) {
	t.Helper()
	if os.Getenv("TAPIO_PROMETHEUS") != "1" {
		t.Skip("set TAPIO_PROMETHEUS=1 to run; it needs root, prometheus, etcd-server and the built collector")
	}
}

// eventually says whether the condition is met in time.
func eventually(met func() bool) bool {
	for deadline := time.Now().Add(patience); !met(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// freePort is one that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

// start a process that runs until the test ends, and shows the end of what it has said if the test fails. If the
// test is killed, so is the process.
func start(t *testing.T, command *exec.Cmd) (hasEnded func() bool) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, command.Start(), "start %s", command)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // what the test wants of it, it says itself
	}()
	t.Cleanup(func() {
		end(command, ended)
		tell(t, command, log)
	})
	return func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
}

// end asks a process to, and kills it if it does not.
func end(command *exec.Cmd, ended chan struct{}) {
	_ = command.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(patience):
		_ = command.Process.Kill()
		<-ended
	}
}

func tell(t *testing.T, command *exec.Cmd, log *os.File) {
	defer log.Close()
	if !t.Failed() {
		return
	}
	content, err := os.ReadFile(log.Name())
	if err != nil {
		t.Log(err)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	t.Logf("%s said at last:\n%s", command, strings.Join(lines[max(0, len(lines)-20):], "\n"))
}
