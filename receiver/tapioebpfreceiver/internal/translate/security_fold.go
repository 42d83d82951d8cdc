// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"encoding/binary"
	"hash/maphash"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// maxFolds actions are compared with at a time. One takes about 150 bytes, with repeats as much as what is
// told of them, some KiB.
const maxFolds = 1024

// folds are actions that were told, and their repeats since: these are told as one when the interval is over.
type folds struct {
	interval uint64 // ns
	seed     maphash.Seed
	byKey    map[foldKey]*fold
	queue    []*fold // the oldest first
	held     uint64  // events
}

// foldKey is the same for an action and its repeats: who, what, to what, and how it went.
type foldKey struct {
	process         identity.Key
	object          uint64 // a hash, seeded at the start: nobody can make two the same
	kind, operation uint16
	error           int32
}

type fold struct {
	key         foldKey
	ends        uint64 // CLOCK_BOOTTIME, ns
	repeats     uint64
	first, last uint64 // of the repeats, CLOCK_BOOTTIME, ns
	size        uint64 // bytes written by the repeats to another's memory
	told        telling
	resource    *identity.Resource
}

func newFolds(interval uint64) folds {
	return folds{interval: interval, seed: maphash.MakeSeed(), byKey: map[foldKey]*fold{}}
}

// fold says whether an action repeats one that was told. If so, it is kept here.
func (s *security) fold(a *action) bool {
	if s.folds.interval == 0 {
		return false
	}
	key := s.foldKeyOf(a)
	f := s.folds.byKey[key]
	if f != nil && a.Header.Time >= f.ends {
		s.endFoldsUntil(f)
		f = nil
	}
	if f == nil {
		s.beginFold(key, a.Header.Time)
		return false
	}
	s.repeat(f, a)
	return true
}

func (s *security) beginFold(key foldKey, now uint64) {
	if len(s.folds.queue) >= maxFolds {
		s.endFoldsUntil(s.folds.queue[0])
	}
	f := &fold{key: key, ends: now + s.folds.interval}
	s.folds.byKey[key] = f
	s.folds.queue = append(s.folds.queue, f)
}

func (s *security) repeat(f *fold, a *action) {
	s.folds.held++
	f.repeats++
	f.size += memoryWritten(&a.SecurityAction)
	if f.repeats > 1 {
		f.first, f.last = min(f.first, a.Header.Time), max(f.last, a.Header.Time)
		return
	}
	f.first, f.last, f.resource = a.Header.Time, a.Header.Time, a.resource
	if s.signals.Logs {
		f.told.log = plog.NewLogRecord()
	}
	if s.signals.Traces {
		f.told.span = ptrace.NewSpan()
	}
	s.fill(&f.told, a)
}

// endFoldsUntil ends the oldest, up to this one. They began one after the other, but for what CPUs differ by.
func (s *security) endFoldsUntil(last *fold) {
	for {
		f := s.folds.queue[0]
		s.folds.queue[0] = nil // let go of it
		s.folds.queue = s.folds.queue[1:]
		s.endFold(f)
		if f == last {
			return
		}
	}
}

// tick ends the folds whose interval is over: all older records were handled.
func (s *security) tick(now uint64) {
	for len(s.folds.queue) > 0 && s.folds.queue[0].ends <= now {
		s.endFoldsUntil(s.folds.queue[0])
	}
	if len(s.folds.queue) == 0 {
		s.folds.queue = nil // let go of the array
	}
}

func (s *security) flush() {
	for len(s.folds.queue) > 0 {
		s.endFoldsUntil(s.folds.queue[0])
	}
}

// endFold tells the repeats, if there were any.
func (s *security) endFold(f *fold) {
	delete(s.folds.byKey, f.key)
	if f.repeats == 0 {
		return
	}
	last := s.wall(f.last)
	if s.signals.Logs {
		s.describeFold(f.told.log.Attributes(), f)
		f.told.log.SetTimestamp(last)
		f.told.log.SetObservedTimestamp(last)
		f.told.log.MoveTo(s.builder.record(f.resource))
	}
	if s.signals.Traces {
		s.describeFold(f.told.span.Attributes(), f)
		f.told.span.SetStartTimestamp(last)
		f.told.span.SetEndTimestamp(last)
		f.told.span.MoveTo(s.builder.span(f.resource))
	}
	s.folds.held -= f.repeats
	s.account(event.FamilySecurity, f.repeats, carried)
	s.waiting.released()
}

func (s *security) foldKeyOf(a *action) foldKey {
	return foldKey{
		process:   identity.KeyOf(a.Header.Pid, a.Header.StartTime),
		object:    s.objectOf(a),
		kind:      a.Kind,
		operation: a.Operation,
		error:     a.Error,
	}
}

// objectOf an action is all that it was done to, or with. Of the bytes that are written to another's memory,
// each time as many as there are, only the sum is told.
func (s *security) objectOf(a *action) uint64 {
	b := s.scratch[:0]
	for i, value := range a.Values {
		if i == 0 && memoryWritten(&a.SecurityAction) > 0 {
			value = 0
		}
		b = binary.LittleEndian.AppendUint64(b, value)
	}
	b = binary.LittleEndian.AppendUint64(b, a.TargetStartTime)
	b = binary.LittleEndian.AppendUint32(b, a.TargetPid)
	b = binary.LittleEndian.AppendUint32(b, a.Flags)
	b = binary.LittleEndian.AppendUint16(b, a.PathSize)
	b = binary.LittleEndian.AppendUint16(b, a.BaseSize)
	b = appendCredentials(b, &a.Before)
	b = appendCredentials(b, &a.After)
	s.scratch = a.AppendObject(b)
	return maphash.Bytes(s.folds.seed, s.scratch)
}

func appendCredentials(b []byte, c *bpf.WireCredentials) []byte {
	for _, id := range [...]uint32{c.Uid, c.Euid, c.Suid, c.Fsuid, c.Gid, c.Egid, c.Sgid, c.Fsgid, c.Groups} {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	for _, set := range [...]uint64{c.Permitted, c.Effective, c.Inheritable} {
		b = binary.LittleEndian.AppendUint64(b, set)
	}
	return b
}

// memoryWritten is how many bytes were written to another's memory; 0 for what is none.
func memoryWritten(e *event.SecurityAction) uint64 {
	if e.Is(event.SecurityMemoryWrite) && event.SecurityOperation(e.Operation) == event.OperationProcessVMWritev {
		return e.Values[0]
	}
	return 0
}
