// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Cgroups implements source.Source: one walk over the mount. The hooks are attached before it, so that
// a cgroup is either there or comes as a record.
func (s *Source) Cgroups() []source.Cgroup {
	var found []source.Cgroup
	for _, group := range s.scope.cgroups {
		err := filepath.WalkDir(group.dir, func(dir string, entry fs.DirEntry, err error) error {
			if err != nil {
				return fs.SkipDir // it was removed meanwhile
			}
			if !entry.IsDir() {
				return nil
			}
			if id, ok := cgroupID(dir); ok {
				found = append(found, source.Cgroup{ID: id, Path: filepath.Join("/", strings.TrimPrefix(dir, s.scope.mount))})
			}
			return nil
		})
		if err != nil {
			s.logger.Warn("Cgroups that are older than this collector are not all known", zap.String("cgroup", group.path), zap.Error(err))
		}
	}
	return found
}

// cgroupID is what the kernel has in records: the number of the directory's inode.
func cgroupID(dir string) (uint64, bool) {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return 0, false
	}
	return stat.Ino, true
}

// Cgroup implements source.Source. The process may have moved, or be another one by now: what counts is
// that the path's id is the one that is asked for.
func (s *Source) Cgroup(id uint64, pid uint32) (string, bool) {
	if s.foreignPIDs || pid == 0 {
		return "", false
	}
	proc, err := procfs.NewProc(int(pid))
	if err != nil {
		return "", false
	}
	found, paths := s.cgroupsOf(proc)
	if found == 0 || found != id {
		return "", false
	}
	return paths[0], true
}

// cgroupsOf a process, the one of the v2 hierarchy first; its id is 0 where that is not known.
func (s *Source) cgroupsOf(proc procfs.Proc) (id uint64, paths []string) {
	cgroups, err := proc.Cgroups()
	if err != nil {
		return 0, nil
	}
	for _, c := range cgroups {
		if c.HierarchyID == 0 {
			path, known := s.scope.path(c.Path)
			if known {
				id, _ = cgroupID(filepath.Join(s.scope.mount, path))
			}
			isSame := func(other string) bool { return other == path }
			paths = slices.Insert(slices.DeleteFunc(paths, isSame), 0, path)
		} else if !slices.Contains(paths, c.Path) {
			paths = append(paths, c.Path)
		}
	}
	return id, paths
}
