// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package etcdwatch adds to the records of a source those of keys that change in an etcd: which, and how, but
// never what is in them.
package etcdwatch // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/etcdwatch"

import (
	"strings"
	"sync"
	"unsafe"

	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Source is another source, and the changes in an etcd. Of its methods only Status may be called from any
// goroutine beside those of source.Source that may.
type Source struct {
	source.Source
	watcher   *watcher
	endpoints []byte
	bootTime  int64
	record    []uint64 // used again and again

	stop func() // ends the watching
}

var _ source.Source = (*Source)(nil)

// New adds changes to a source, from Start on.
func New(from source.Source, options Options, logger *zap.Logger) *Source {
	return &Source{
		Source:    from,
		watcher:   newWatcher(options, logger),
		endpoints: []byte(strings.Join(options.Endpoints, ",")),
		stop:      func() {},
	}
}

// Start begins to watch, without waiting for an answer: what the kernel says must not be lost because an etcd is
// away. onStatus is told when etcd cannot be watched (why), and when it can again (nil), from any goroutine.
func (s *Source) Start(onStatus func(error)) {
	s.watcher.onStatus = onStatus
	s.stop = sync.OnceFunc(s.watcher.start())
}

// Status says how the watch does. It may be called from any goroutine.
func (s *Source) Status() Status { return s.watcher.status() }

// BootTime implements source.Source.
func (s *Source) BootTime() (int64, error) {
	bootTime, err := s.Source.BootTime()
	if err == nil {
		s.bootTime = bootTime
	}
	return bootTime, err
}

// Read implements source.Source: changes come after the records of the kernel, which waits for nobody.
func (s *Source) Read(handle func(record []byte)) error {
	if err := s.Source.Read(handle); err != nil {
		return err
	}
	for range len(s.watcher.queue) {
		c := <-s.watcher.queue
		handle(s.encode(&c))
	}
	return nil
}

// encode a change as bpf/event.h has it. The record is valid until the next one is made.
func (s *Source) encode(c *change) []byte {
	fixed := bpf.WireEtcdChange{
		Header:   bpf.WireEventHeader{Time: uint64(c.time.UnixNano() - s.bootTime), Type: uint16(event.TypeEtcdChange)},
		Revision: uint64(c.revision), LastRevision: uint64(c.lastRevision), ClusterId: c.cluster,
		Kind: uint16(c.kind), KeySize: uint16(len(c.key)), EndpointsSize: uint16(len(s.endpoints)),
	}
	if c.isTruncated {
		fixed.Flags = event.EtcdKeyTruncated
	}
	head := unsafe.Slice((*byte)(unsafe.Pointer(&fixed)), unsafe.Sizeof(fixed))
	size := len(head) + len(c.key) + len(s.endpoints)
	if words := (size + 7) / 8; words > len(s.record) {
		s.record = make([]uint64, words) // a record begins where a uint64 may
	}
	record := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s.record))), size)
	at := copy(record, head)
	at += copy(record[at:], c.key)
	copy(record[at:], s.endpoints)
	return record
}

// Counters implements source.Source.
func (s *Source) Counters() (map[uint8]source.Counters, error) {
	counters, err := s.Source.Counters()
	if err != nil {
		return nil, err
	}
	full := s.watcher.queueFull.Load() // before what was seen, of which it is a part
	if seen := s.watcher.seen.Load(); seen > 0 {
		c := counters[uint8(event.FamilyEtcd)]
		c.Seen += seen
		c.QueueFull += full
		counters[uint8(event.FamilyEtcd)] = c
	}
	return counters, nil
}

// Stop implements source.Source.
func (s *Source) Stop(handle func(record []byte)) error {
	s.stop()
	return s.Source.Stop(handle)
}

// Close implements source.Source.
func (s *Source) Close() error {
	s.stop()
	return s.Source.Close()
}
