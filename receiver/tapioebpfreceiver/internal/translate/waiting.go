// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"sync/atomic"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// maxWaitingBytes bounds the memory of the records that wait, whatever their number: the largest, of a
// program's start, has about 20 KiB.
const maxWaitingBytes = 32 << 20

// waiting are records of pods whose names are not known yet, as they came, the oldest first. Nearly
// always there are none.
type waiting struct {
	limit    int
	released func()
	records  [][]byte
	summed   uint64 // events that these stand for besides
	bytes    int
	// processes that have a record here, and how many: a later one must not overtake
	processes map[uint32]int
}

// Naming counts records of pods by what was known of their pod. It may be used from any goroutine.
type Naming struct {
	// Of those that have waited, by what was known at last: all names, the pod's but not the container's, none.
	WaitedNamed, WaitedPodNamed, WaitedUnnamed atomic.Uint64
	// Of all, whether they have waited or not: those without a name of the container, and those without any.
	NoContainer, NoPod atomic.Uint64
}

func (n *Naming) waited(known identity.Knowledge) {
	switch known {
	case identity.Named:
		n.WaitedNamed.Add(1)
	case identity.PodNamed:
		n.WaitedPodNamed.Add(1)
	case identity.Unnamed:
		n.WaitedUnnamed.Add(1)
	case identity.NoPod: // its cgroup was taken for another
	}
}

func (n *Naming) handled(known identity.Knowledge) {
	switch known {
	case identity.PodNamed:
		n.NoContainer.Add(1)
	case identity.Unnamed:
		n.NoPod.Add(1)
	case identity.Named, identity.NoPod:
	}
}

func newWaiting(options Options) *waiting {
	w := &waiting{limit: options.MaxWaiting, released: options.Released, processes: map[uint32]int{}}
	if w.released == nil {
		w.released = func() {}
	}
	return w
}

func (w *waiting) isFull() bool { return len(w.records) >= w.limit || w.bytes >= maxWaitingBytes }

// add copies the record, aligned as in a ring.
func (w *waiting) add(header *event.Header, record []byte) {
	words := make([]uint64, (len(record)+7)/8)
	kept := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(record))
	copy(kept, record)
	w.keep(header, kept)
}

func (w *waiting) keep(header *event.Header, kept []byte) {
	w.records = append(w.records, kept)
	w.bytes += len(kept)
	_, summed, _ := event.SummedIn(kept)
	w.summed += summed
	if header.Pid != 0 {
		w.processes[header.Pid]++
	}
}

// keptHeader of a record that was decoded before.
func keptHeader(record []byte) *event.Header {
	return (*event.Header)(unsafe.Pointer(unsafe.SliceData(record)))
}

// waits says whether a record is to wait for the names of its pod.
func (t *Translator) waits(header *event.Header, record []byte) bool {
	if len(t.waiting.records) == 0 && !t.index.Awaiting() {
		return false
	}
	if event.Type(header.Type).Family() == event.FamilyCgroup {
		return false // it may be what is waited for
	}
	return t.waiting.isBehind(header, record) || t.index.Awaits(header)
}

// isBehind says whether a record must wait for one that waits: of its process, or of the one that forked
// it and may be about to tell what both run.
func (w *waiting) isBehind(header *event.Header, record []byte) bool {
	if w.processes[header.Pid] > 0 {
		return true
	}
	if event.Type(header.Type) != event.TypeProcessFork {
		return false
	}
	fork, err := event.DecodeProcessFork(record)
	return err == nil && w.processes[fork.Process.ParentPid] > 0
}

// makeRoom for a record: the pod of the oldest has been waited for long enough.
func (t *Translator) makeRoom() {
	t.index.GiveUp(keptHeader(t.waiting.records[0]))
	t.release()
}

// Refresh takes over what has become known of pods, and lets the records go that waited for it, or have
// waited long enough now, ns since boot.
func (t *Translator) Refresh(now uint64) {
	if t.index.Refresh(now) && len(t.waiting.records) > 0 {
		t.release()
	}
}

// release translates the records that need not wait any more, in their order.
func (t *Translator) release() {
	t.releaseIf(func(header *event.Header) bool { return !t.index.Awaits(header) })
}

func (t *Translator) releaseIf(isFree func(*event.Header) bool) {
	before := t.waiting.records
	t.waiting.records, t.waiting.bytes, t.waiting.summed = nil, 0, 0
	clear(t.waiting.processes)
	for _, record := range before {
		header := keptHeader(record)
		if t.waiting.isBehind(header, record) || !isFree(header) {
			t.waiting.keep(header, record)
			continue
		}
		t.naming.waited(t.index.KnowledgeOf(header))
		t.handle(header, record)
		t.waiting.released()
	}
}

// oldest is when the record was made that has waited longest; false if none waits.
func (w *waiting) oldest() (boot uint64, ok bool) {
	if len(w.records) == 0 {
		return 0, false
	}
	return keptHeader(w.records[0]).Time, true
}
