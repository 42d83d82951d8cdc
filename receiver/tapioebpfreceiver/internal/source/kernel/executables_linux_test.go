// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// TestExecutablesWithoutPtrace: what /proc refuses to one without CAP_SYS_PTRACE is known all the same.
func TestExecutablesWithoutPtrace(t *testing.T) {
	w := newWorld(t, nil)
	deep := filepath.Join(t.TempDir(), "a folder", strings.Repeat("long", 50))
	require.NoError(t, os.MkdirAll(deep, 0o755))
	for name, program := range map[string]string{
		"usual":   "/bin/sleep",
		"deep":    copyOf(t, "/bin/sleep", filepath.Join(deep, "sleep")),
		"deleted": copyOf(t, "/bin/sleep", filepath.Join(t.TempDir(), "sleep")),
	} {
		t.Run(name, func(t *testing.T) {
			path, err := filepath.EvalSymlinks(program)
			require.NoError(t, err)
			c := w.command(program, "100")
			require.NoError(t, c.Start())
			t.Cleanup(func() { c.Process.Kill(); c.Wait() })
			awaitExecutable(t, c, path)
			if name == "deleted" {
				require.NoError(t, os.Remove(program))
			}
			known := processWithoutPtrace(t, w.source, c.Process.Pid)
			assert.Equal(t, path, known.Executable)
			assert.Contains(t, w.source.Processes(), known, "as one with the capability sees it")
		})
	}
}

// copyOf a program. A shell that is many programs by their names stays that.
func copyOf(t *testing.T, program, to string) string {
	content, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o755))
	return to
}

// awaitExecutable waits until the process is the program: exec.Cmd returns when it has begun to be.
func awaitExecutable(t *testing.T, c *exec.Cmd, path string) {
	require.Eventually(t, func() bool {
		running, err := os.Readlink(exeOf(c.Process.Pid))
		return err == nil && running == path
	}, patience, 10*time.Millisecond)
}

// processWithoutPtrace asks on a thread that gives the capability up, and ends with it.
func processWithoutPtrace(t *testing.T, s *Source, pid int) (known source.Process) {
	t.Helper()
	done := make(chan struct{})
	var dropped, read error
	var ok bool
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if dropped = dropPtrace(); dropped != nil {
			return
		}
		_, read = os.Readlink(exeOf(pid))
		time.Sleep(executablesAge) // of what was asked for before
		known, ok = s.Process(uint32(pid))
	}()
	<-done
	require.NoError(t, dropped)
	require.ErrorIs(t, read, fs.ErrPermission, "the kernel lets /proc tell it")
	require.True(t, ok)
	return known
}

func dropPtrace() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
	return unix.Capset(&header, &data[0])
}

// TestExecutableThatChanges: a process is what it is now, not what it was when somebody asked last.
func TestExecutableThatChanges(t *testing.T) {
	w := newWorld(t, nil)
	path, err := filepath.EvalSymlinks(copyOf(t, "/bin/sleep", filepath.Join(t.TempDir(), "sleep")))
	require.NoError(t, err)
	gate := filepath.Join(t.TempDir(), "gate")
	c := w.command("/bin/sh", "-c", `until [ -e "$0" ]; do :; done; exec "$1" 100`, gate, path)
	require.NoError(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	awaitExecutable(t, c, shell)
	assert.Equal(t, shell, processWithoutPtrace(t, w.source, c.Process.Pid).Executable)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	awaitExecutable(t, c, path)
	assert.Equal(t, path, processWithoutPtrace(t, w.source, c.Process.Pid).Executable)
}

func TestExecutablesIn(t *testing.T) {
	assert.Empty(t, executablesIn(nil))
	assert.Empty(t, executablesIn(make([]byte, 15)), "half a record")
	assert.Equal(t, map[runningKey]string{{}: "/"}, executablesIn(make([]byte, 16)))
	cut := append(make([]byte, 16), "sh\x00bin\x00"...)
	cut[12] = byte(len(cut)) // longer than what is there
	assert.Empty(t, executablesIn(cut))
}

func exeOf(pid int) string { return fmt.Sprintf("/proc/%d/exe", pid) }
