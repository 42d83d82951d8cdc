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

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// executablesAge is how old a list of executables may be. To make one is to visit all threads of the node.
const executablesAge = 100 * time.Millisecond

// tick is the unit of start times in /proc (1 / USER_HZ).
const tick = 10 * time.Millisecond

// executables are those of running processes, as a program in the kernel sees them: /proc does not tell them to
// one without CAP_SYS_PTRACE. The reader's, like all that it asks.
type executables struct {
	iter   *link.Iter // nil: the kernel does not take the program
	list   map[runningKey]string
	made   time.Time
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
		s.refreshExecutables()
		return s.executables.list[runningKey{uint32(proc.PID), startTicks}]
	}
	return strings.TrimSuffix(path, " (deleted)")
}

// refreshExecutables makes the list anew where it is old: a process may have become another program since.
func (s *Source) refreshExecutables() {
	e := &s.executables
	if e.iter == nil || time.Since(e.made) < executablesAge {
		return
	}
	var output bytes.Buffer
	if err := read(e.iter, &output); err != nil && !e.failed {
		e.failed = true
		s.logger.Warn("The executables of some processes that are older than this collector stay unknown", zap.Error(err))
	}
	e.list, e.made = executablesIn(output.Bytes()), time.Now()
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
