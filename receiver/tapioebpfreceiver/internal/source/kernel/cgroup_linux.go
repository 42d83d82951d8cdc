// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// scope is the part of the node that is observed.
type scope struct {
	mount     string
	namespace string // where this process's cgroup namespace begins, below the mount; "": not known
	wholeNode bool
	cgroups   []cgroup // of the whole node: the root
}

type cgroup struct {
	path string // below the mount, "/" the root
	dir  string // in the file system
	id   uint64
}

// resolveScope finds the named cgroups, or the root where none is named.
func resolveScope(paths []string) (scope, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return scope{}, err
	}
	if len(paths) == 0 {
		root, err := findCgroup(mount, "/")
		return scope{mount: mount, namespace: namespaceRoot(mount), wholeNode: true, cgroups: []cgroup{root}}, err
	}
	var found []cgroup
	for _, path := range paths {
		group, err := findCgroup(mount, filepath.Join("/", path))
		if err != nil {
			return scope{}, fmt.Errorf("scope::cgroups: %w", err)
		}
		found = append(found, group)
	}
	return scope{mount: mount, namespace: namespaceRoot(mount), cgroups: withoutNested(found)}, nil
}

// withoutNested leaves out a cgroup that is named twice or whose ancestor is named too: a packet
// would be counted twice.
func withoutNested(groups []cgroup) []cgroup {
	var kept []cgroup
	for i, group := range groups {
		isCovered := func(other cgroup) bool { return other.path != group.path && other.contains(group.path) }
		isSame := func(other cgroup) bool { return other.path == group.path }
		if !slices.ContainsFunc(groups, isCovered) && !slices.ContainsFunc(groups[:i], isSame) {
			kept = append(kept, group)
		}
	}
	return kept
}

// contains says whether the path is the cgroup's or below it.
func (c cgroup) contains(path string) bool {
	return path == c.path || strings.HasPrefix(path, strings.TrimSuffix(c.path, "/")+"/")
}

func findCgroup(mount, path string) (cgroup, error) {
	dir := filepath.Join(mount, path)
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return cgroup{}, fmt.Errorf("cgroup %q: %w (paths are those below the cgroup v2 mount %s)",
			path, &os.PathError{Op: "stat", Path: dir, Err: err}, mount)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return cgroup{}, fmt.Errorf("cgroup %q: %s is not a cgroup", path, dir)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK, unix.AT_EACCESS); err != nil {
		return cgroup{}, fmt.Errorf("cgroup %q: %w (programs for packets are attached by opening it: let the collector's user read it)",
			path, &os.PathError{Op: "open", Path: dir, Err: err})
	}
	return cgroup{path: path, dir: dir, id: stat.Ino}, nil
}

// cgroup2Mount is where the cgroup v2 hierarchy is mounted: on its own, or beside v1 (hybrid).
func cgroup2Mount() (string, error) {
	mounts, err := procfs.GetMounts()
	if err != nil {
		return "", fmt.Errorf("look for the cgroup v2 mount: %w", err)
	}
	for _, mount := range mounts {
		if mount.FSType == "cgroup2" {
			return mount.MountPoint, nil
		}
	}
	return "", errors.New("look for the cgroup v2 mount: there is none in /proc/self/mountinfo (mount -t cgroup2 none /sys/fs/cgroup)")
}
