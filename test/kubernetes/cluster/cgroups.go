// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// cgroups are a node's, with the same name in every hierarchy that is mounted.
type cgroups struct {
	folders []string
	// runtime is for containerd, in cgroup v2: beside the pods', as a cgroup has either processes or
	// cgroups that are limited.
	runtime *os.File
	v2      string
}

func newCgroups(t testing.TB, name string) *cgroups {
	t.Helper()
	g := &cgroups{}
	v1, v2 := hierarchies(t)
	require.NotEmpty(t, v2, "cgroup v2 must be mounted")
	g.v2 = filepath.Join(v2, name)
	t.Cleanup(func() { g.remove(t) })
	for _, hierarchy := range append(v1, v2) {
		folder := filepath.Join(hierarchy, name)
		require.NoError(t, os.Mkdir(folder, 0o755))
		g.folders = append(g.folders, folder)
	}
	runtime := filepath.Join(g.v2, "runtime")
	require.NoError(t, os.Mkdir(runtime, 0o755))
	var err error
	g.runtime, err = os.Open(runtime)
	require.NoError(t, err)
	return g
}

// hierarchies are the mounts of cgroup v1, and that of v2.
func hierarchies(t testing.TB) (v1 []string, v2 string) {
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	for line := range strings.Lines(string(mounts)) {
		switch fields := strings.Fields(line); fields[2] {
		case "cgroup":
			v1 = append(v1, fields[1])
		case "cgroup2":
			v2 = fields[1]
		}
	}
	return v1, v2
}

func (g *cgroups) place(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.runtime.Fd())}
}

// remove ends whatever runs in the cgroups, and removes them with all below.
func (g *cgroups) remove(t testing.TB) {
	if g.runtime != nil {
		_ = g.runtime.Close()
	}
	require.Eventually(t, func() bool {
		g.kill()
		left := false
		for _, folder := range g.folders {
			left = removeAll(folder) != nil || left
		}
		return !left
	}, patience, pollInterval, "cgroups are left: %s", g.folders)
}

// kill ends every process of the node's containers. Containers that had no time to leave the scope
// are in it in cgroup v2, wherever they are in v1.
func (g *cgroups) kill() {
	_ = os.WriteFile(filepath.Join(g.v2, "cgroup.kill"), []byte("1"), 0)
}

// removeAll removes cgroups from the bottom up; what is in them is the kernel's.
func removeAll(folder string) error {
	var found []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			found = append(found, path)
		}
		return nil // one that goes meanwhile needs no removing
	})
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(found) {
		if err := syscall.Rmdir(path); err != nil && err != syscall.ENOENT {
			return err
		}
	}
	return nil
}

// podFolder is where the pods' cgroups are: in v2, or in any of v1 if that is there, too.
func (g *cgroups) podFolder() string { return filepath.Join(g.folders[0], "kubepods") }
