// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	workloads["cgroup-namespace"] = cgroupNamespaceWorkload
}

func TestPathsOfACgroupNamespace(t *testing.T) {
	for _, tt := range []struct {
		namespace, ofProc, want string
		known                   bool
	}{
		{"/", "/system.slice/a.service", "/system.slice/a.service", true},
		{"/kubepods/pod1/c1", "/", "/kubepods/pod1/c1", true},
		{"/kubepods/pod1/c1", "/nested", "/kubepods/pod1/c1/nested", true},
		{"/kubepods/pod1/c1", "/../c2", "/kubepods/pod1/c2", true},
		{"/kubepods/pod1/c1", "/../../../system.slice/a.service", "/system.slice/a.service", true},
		{"/kubepods/pod1/c1", "/../../..", "/", true},
		{"", "/system.slice", "/system.slice", true},
		{"", "/../../kubepods/pod1/c2", "/../../kubepods/pod1/c2", false},
	} {
		path, known := scope{namespace: tt.namespace}.path(tt.ofProc)
		assert.Equal(t, tt.want, path, tt)
		assert.Equal(t, tt.known, known, tt)
	}
}

// cgroupNamespaceWorkload has a cgroup namespace of its own, as in a container, and says whose cgroup it
// takes another process's for, and whether it finds that in a scope.
func cgroupNamespaceWorkload(args []string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	other, err := procfs.NewProc(pid)
	if err != nil {
		return err
	}
	resolved, err := resolveScope(args[1:2])
	if err != nil {
		return err
	}
	s := &Source{scope: resolved}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/cgroup", os.Getpid(), unix.Gettid()))
	if err != nil {
		return err
	}
	id, paths := s.cgroupsOf(other)
	fmt.Println(strings.Contains(string(own), "0::/\n"), s.scope.namespace, id, paths[0], s.procInScope(other), s.procLeftScope(other))
	return nil
}

func TestInACgroupNamespace(t *testing.T) {
	requireBPF(t)
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	parent := newCgroup(t, "")
	inside, beside := newCgroup(t, parent), newCgroup(t, parent)
	older := commandIn(t, beside, "/bin/sleep", "100")
	require.NoError(t, older.Start())
	t.Cleanup(func() { older.Process.Kill(); older.Wait() })
	below := func(dir string) string { return filepath.Join("/", strings.TrimPrefix(dir, mount)) }
	command := workloadIn(t, inside, "cgroup-namespace", strconv.Itoa(older.Process.Pid), below(beside))
	out, err := command.Output()
	require.NoError(t, err)
	id, ok := cgroupID(beside)
	require.True(t, ok)
	assert.Equal(t, fmt.Sprintln(true, below(inside), id, below(beside), true, false), string(out))
}
