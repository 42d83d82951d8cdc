// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package lives knows processes by records that are not handed out, since nobody asked for their family. A source
// that has no /proc answers from it.
package lives // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/lives"

import (
	"strings"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	nsPerTick = 10_000_000 // USER_HZ

	// retention is how long a process is remembered after its end, as identity does it: what it left may end
	// later; ns.
	retention = 90e9
)

// Lives are processes by their pids.
type Lives struct {
	known map[uint32]*life
	ended []*life // the oldest end first
}

type life struct {
	source.Process
	ended uint64 // CLOCK_BOOTTIME, ns; 0: it has not
}

// New knows the processes that are older than the source.
func New(older []source.Process) *Lives {
	l := &Lives{known: map[uint32]*life{}}
	for _, p := range older {
		l.known[p.PID] = &life{Process: p}
	}
	return l
}

// Learn from a record of the family process. One that cannot be read says nothing.
func (l *Lives) Learn(record []byte) {
	header, err := event.DecodeHeader(record)
	if err != nil {
		return
	}
	switch event.Type(header.Type) {
	case event.TypeProcessFork:
		if e, err := event.DecodeProcessFork(record); err == nil {
			l.begin(&e.Header, &e.Process, l.executableOf(e.Process.ParentPid))
		}
	case event.TypeProcessExec:
		if e, err := event.DecodeProcessExec(record); err == nil {
			path := e.Exe.Append(nil, e.Flags&event.ExecExeTruncated != 0)
			l.begin(&e.Header, &e.Process, strings.ToValidUTF8(string(path), "\uFFFD"))
		}
	case event.TypeProcessExit:
		l.end(header)
	}
	l.forget(header.Time)
}

func (l *Lives) executableOf(pid uint32) string {
	if p := l.known[pid]; p != nil {
		return p.Executable
	}
	return ""
}

func (l *Lives) begin(header *bpf.WireEventHeader, who *bpf.WireProcessIdentity, executable string) {
	l.known[header.Pid] = &life{Process: source.Process{
		PID: header.Pid, ParentPID: who.ParentPid, VPID: who.Vpid, StartTicks: header.StartTime / nsPerTick,
		UID: who.Uid, EUID: who.Euid, Executable: executable, CgroupID: header.CgroupId,
	}}
}

func (l *Lives) end(header *bpf.WireEventHeader) {
	if p := l.known[header.Pid]; p != nil && p.ended == 0 && p.StartTicks == header.StartTime/nsPerTick {
		p.ended = max(header.Time, 1)
		l.ended = append(l.ended, p)
	}
}

// forget those that ended long ago. Their pids may be others' by now.
func (l *Lives) forget(now uint64) {
	for len(l.ended) > 0 && l.ended[0].ended+retention < now {
		if p := l.ended[0]; l.known[p.PID] == p {
			delete(l.known, p.PID)
		}
		l.ended = l.ended[1:]
	}
}

// Process is what is known of the one that has a pid, or had it last.
func (l *Lives) Process(pid uint32) (source.Process, bool) {
	if p := l.known[pid]; p != nil {
		return p.Process, true
	}
	return source.Process{}, false
}

// Gone says of a process that its end was seen, or that a later one has its pid.
func (l *Lives) Gone(pid uint32, startTicks uint64) bool {
	p := l.known[pid]
	return p != nil && (p.StartTicks > startTicks || p.StartTicks == startTicks && p.ended != 0)
}
