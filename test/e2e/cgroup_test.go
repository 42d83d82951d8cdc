// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// cgroup is where processes are started; the zero value leaves them where the test is.
type cgroup struct {
	dir  *os.File
	path string // below the mount, as the collector's config wants it
}

// newCgroup makes a cgroup below the mount, with a name of its own.
func newCgroup(t *testing.T) cgroup {
	t.Helper()
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	dir, err := os.MkdirTemp(mount, "tapio-e2e-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) // as others are
	return openCgroup(t, dir)
}

// sibling has a name that begins with that of g.
func (g cgroup) sibling(t *testing.T) cgroup {
	t.Helper()
	return makeCgroup(t, g.dir.Name()+"x")
}

func (g cgroup) child(t *testing.T) cgroup {
	t.Helper()
	return makeCgroup(t, filepath.Join(g.dir.Name(), "child"))
}

func makeCgroup(t *testing.T, dir string) cgroup {
	t.Helper()
	require.NoError(t, os.Mkdir(dir, 0o755))
	return openCgroup(t, dir)
}

// openCgroup also has the cgroup removed when the test ends. Its last process may still be on its
// way out then.
func openCgroup(t *testing.T, path string) cgroup {
	t.Helper()
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return syscall.Rmdir(path) == nil }, patience, pollInterval, "remove %s", path)
	})
	dir, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	return cgroup{dir: dir, path: strings.TrimPrefix(path, mount)}
}

// place has the process begin its life in the cgroup.
func (g cgroup) place(command *exec.Cmd) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	if g.dir != nil {
		command.SysProcAttr.UseCgroupFD = true
		command.SysProcAttr.CgroupFD = int(g.dir.Fd())
	}
}

// cgroup2Mount is where the cgroup v2 hierarchy is mounted: on its own, or beside v1 (hybrid).
func cgroup2Mount() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		mount, fileSystem, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); len(fields) > 4 && strings.HasPrefix(fileSystem, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted")
}
