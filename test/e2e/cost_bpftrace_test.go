// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

//go:embed testdata/cost.bt
var bpftraceScript string

// bpftrace counts by cgroup what the script says, and no cgroup but those that it is given.
type bpftrace struct {
	command *exec.Cmd
	out     *syncBuffer
	exited  chan error
}

// startBPFTrace returns when it is attached, or why it does not run. It wants tracefs, which it has in a mount namespace
// of its own.
func startBPFTrace(t *testing.T, scope cgroup) (*bpftrace, error) {
	t.Helper()
	if missing := missingTools([]string{"bpftrace"}); missing != "" {
		return nil, fmt.Errorf("%s", missing)
	}
	b := &bpftrace{out: &syncBuffer{}, exited: make(chan error, 1)}
	b.command = exec.Command("sh", "-c", `mount -t tracefs tracefs /sys/kernel/tracing && exec "$@"`, "sh", tool(t, "bpftrace"), "-e", scriptFor(t, scope))
	b.command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	b.command.Stdout, b.command.Stderr = b.out, b.out
	require.NoError(t, b.command.Start())
	go func() { b.exited <- b.command.Wait() }()
	for deadline := time.Now().Add(patience); !strings.Contains(b.out.String(), "attached"); time.Sleep(pollInterval) {
		select {
		case err := <-b.exited:
			return nil, fmt.Errorf("bpftrace: %w: %s", err, strings.Join(strings.Fields(b.out.String()), " "))
		default:
			require.True(t, time.Now().Before(deadline), "bpftrace does not attach: %s", b.out)
		}
	}
	t.Cleanup(func() { _ = b.command.Process.Kill() })
	return b, nil
}

// scriptFor the cgroups of the workloads, which are below the scope.
func scriptFor(t *testing.T, scope cgroup) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(scope.dir.Name(), "*", "cgroup.procs"))
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	var in strings.Builder
	for _, dir := range dirs {
		fmt.Fprintf(&in, "@in[cgroupid(%q)] = 1; ", filepath.Dir(dir))
	}
	return strings.Replace(bpftraceScript, "SCOPE", in.String(), 1)
}

// stop returns what it has counted.
func (b *bpftrace) stop(t *testing.T) string {
	t.Helper()
	require.NoError(t, b.command.Process.Signal(syscall.SIGINT))
	select {
	case err := <-b.exited:
		require.NoError(t, err, "%s", b.out)
	case <-time.After(patience):
		require.Fail(t, "bpftrace does not end")
	}
	return b.out.String()
}
