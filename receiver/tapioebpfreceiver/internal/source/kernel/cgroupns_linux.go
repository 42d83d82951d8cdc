// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// namespaceRoot is where this process's cgroup namespace begins. Containers mostly have one of their
// own, and then paths in /proc begin there, with "/.." for each level above, while the mount that they
// were given has the whole hierarchy. Empty where it is not to be found.
func namespaceRoot(mount string) string {
	own, err := ownCgroupPath()
	if err != nil {
		return ""
	}
	if holdsThisProcess(filepath.Join(mount, own)) {
		return "/"
	}
	found := ""
	_ = filepath.WalkDir(mount, func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // it was removed meanwhile
		case entry.IsDir() && holdsThisProcess(dir):
			found = filepath.Join("/", strings.TrimPrefix(dir, mount))
			return fs.SkipAll
		default:
			return nil
		}
	})
	root, ok := strings.CutSuffix(found, strings.TrimSuffix(own, "/"))
	if found == "" || !ok {
		return ""
	}
	return filepath.Join("/", root)
}

// ownCgroupPath is this process's, as its namespace has it.
func ownCgroupPath() (string, error) {
	self, err := procfs.NewProc(os.Getpid())
	if err != nil {
		return "", err
	}
	cgroups, err := self.Cgroups()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(cgroups, func(c procfs.Cgroup) bool { return c.HierarchyID == 0 })
	if i < 0 {
		return "", os.ErrNotExist
	}
	return cgroups[i].Path, nil
}

func holdsThisProcess(dir string) bool {
	content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err == nil && slices.Contains(strings.Fields(string(content)), strconv.Itoa(os.Getpid()))
}

// path below the mount of one that /proc has; false where it cannot be told.
func (s scope) path(ofProc string) (string, bool) {
	if s.namespace == "" {
		return ofProc, !strings.HasPrefix(ofProc, "/..")
	}
	return filepath.Join(s.namespace, ofProc), true // ".." leads up, and no further than to the root
}
