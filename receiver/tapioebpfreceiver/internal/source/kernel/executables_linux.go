// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/prometheus/procfs"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// How old a list of executables may be: to make one is to visit all threads of the node.
const (
	executablesAge = 100 * time.Millisecond // a process may have become another program since
	runningAge     = 5 * time.Second        // for whether it has ended
)

// tick is the unit of start times in /proc (1 / USER_HZ).
const tick = 10 * time.Millisecond

// executables are those of running processes, as a program in the kernel sees them: /proc does not tell them to
// one without CAP_SYS_PTRACE, and in a pid namespace of one's own it has other processes. The reader's, like all that it asks.
type executables struct {
	iter   *link.Iter // nil: the kernel does not take the program
	list   map[runningKey]string
	made   time.Time
	since  uint64 // when it was begun, ticks of CLOCK_BOOTTIME; 0: it is not whole
	failed bool
}

type runningKey struct {
	pid        uint32
	startTicks uint64
}

// executable of a process; "" where it has none, or where it is not known.
func (s *Source) executable(proc procfs.Proc, startTicks uint64) string {
	path, err := proc.Executable()
	if errors.Is(err, fs.ErrPermission) {
		s.refreshExecutables(executablesAge)
		return s.executables.list[runningKey{uint32(proc.PID), startTicks}]
	}
	return strings.TrimSuffix(path, " (deleted)")
}

// hasEnded says so of a process that is older than a list of all that run, and not in it.
func (s *Source) hasEnded(process runningKey) bool {
	s.refreshExecutables(runningAge)
	_, runs := s.executables.list[process]
	return process.startTicks < s.executables.since && !runs
}

// refreshExecutables makes the list anew where it is old.
func (s *Source) refreshExecutables(maxAge time.Duration) {
	e := &s.executables
	if e.iter == nil || time.Since(e.made) < maxAge {
		return
	}
	began, err := clock(unix.CLOCK_BOOTTIME)
	var output bytes.Buffer
	if err == nil {
		err = read(e.iter, &output)
	}
	e.list, e.made, e.since = executablesIn(output.Bytes()), time.Now(), uint64(began)/uint64(tick)
	if err == nil {
		return
	}
	e.since = 0
	if !e.failed {
		e.failed = true
		s.logger.Warn("What runs already cannot be listed: the executables of some processes that are older than this collector stay unknown", zap.Error(err))
	}
}

// executablesIn the output of the iterator: records as in bpf/event.h.
func executablesIn(output []byte) map[runningKey]string {
	found := map[runningKey]string{}
	for {
		var record bpf.WireRunningExecutable
		n, err := binary.Decode(output, binary.NativeEndian, &record)
		if err != nil || len(output) < n+int(record.ExeSize) {
			return found
		}
		rest := output[n:]
		path := event.ReversePath(rest[:record.ExeSize])
		key := runningKey{record.Pid, record.StartTime / uint64(tick)}
		found[key] = string(path.Append(nil, record.Flags&uint16(bpf.WireProcessExecFlagsEXEC_EXE_TRUNCATED) != 0))
		output = rest[record.ExeSize:]
	}
}

func (e *executables) close() error {
	if e.iter == nil {
		return nil
	}
	return e.iter.Close()
}
