// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"os"
	"slices"

	"github.com/prometheus/procfs"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Processes implements source.Source: what /proc has of the processes in scope.
func (s *Source) Processes() []source.Process {
	if s.foreignPIDs {
		s.logger.Warn("This collector runs in a pid namespace of its own: processes that are older than it stay without a name (hostPID: true in Kubernetes; on nodes that are containers, as those of kind, it does not help)")
		return nil
	}
	all, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	var found []source.Process
	for _, proc := range all {
		if process, ok := s.describe(proc); ok {
			found = append(found, process)
		}
	}
	return found
}

// Process implements source.Source.
func (s *Source) Process(pid uint32) (source.Process, bool) {
	if s.foreignPIDs {
		return source.Process{}, false
	}
	proc, err := procfs.NewProc(int(pid))
	if err != nil {
		return source.Process{}, false
	}
	return s.describe(proc)
}

// Gone implements source.Source.
func (s *Source) Gone(pid uint32, startTicks uint64) bool {
	if s.foreignPIDs {
		return false // /proc has other processes under the same numbers
	}
	proc, err := procfs.NewProc(int(pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	stat, err := proc.Stat()
	if err != nil {
		return false
	}
	// a first thread that left before the others is a zombie, too
	isDead := stat.State == "Z" && stat.NumThreads <= 1
	return stat.Starttime != startTicks || isDead || s.procLeftScope(proc)
}

// describe reads nothing of a process before its cgroup has shown that it is in scope. Each read
// may find the process gone or without what was asked, as kernel threads have no executable; then
// just that stays unknown.
func (s *Source) describe(proc procfs.Proc) (source.Process, bool) {
	if proc.PID == os.Getpid() || !s.procInScope(proc) {
		return source.Process{}, false
	}
	stat, err := proc.Stat()
	if err != nil || stat.Flags&kernelThread != 0 {
		return source.Process{}, false
	}
	status, err := proc.NewStatus()
	if err != nil {
		return source.Process{}, false
	}
	process := source.Process{
		PID:        uint32(proc.PID),
		ParentPID:  uint32(stat.PPID),
		StartTicks: stat.Starttime,
		UID:        uint32(status.UIDs[0]),
		EUID:       uint32(status.UIDs[1]),
	}
	if n := len(status.NSpids); n > 0 {
		process.VPID = uint32(status.NSpids[n-1])
	}
	process.Executable = s.executable(proc, stat.Starttime)
	process.CgroupID, process.Cgroups = s.cgroupsOf(proc)
	return process, true
}

const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h

// procLeftScope is not the opposite of procInScope: what cannot be read is not certain.
func (s *Source) procLeftScope(proc procfs.Proc) bool {
	cgroups, err := proc.Cgroups()
	if err != nil {
		return false
	}
	for _, c := range cgroups {
		if _, known := s.scope.path(c.Path); c.HierarchyID == 0 && !known {
			return false
		}
	}
	return !s.procInScope(proc)
}

func (s *Source) procInScope(proc procfs.Proc) bool {
	if s.scope.wholeNode {
		return true
	}
	cgroups, err := proc.Cgroups()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(cgroups, func(c procfs.Cgroup) bool {
		path, known := s.scope.path(c.Path)
		return c.HierarchyID == 0 && known && s.scope.contains(path)
	})
}

func (s scope) contains(path string) bool {
	return slices.ContainsFunc(s.cgroups, func(c cgroup) bool { return c.contains(path) })
}
