// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// maxSums of HTTP, of connections and of processes are kept apart in a second. What comes when there is no room for one more is
// counted only, as throttled.
const maxSums = 2048

// fillSumBounds puts the bounds in the unit of what is counted where the programs look for them. No value is beyond
// those that are not used.
func fillSumBounds(room []uint64, bounds []float64, unit float64) {
	for i := range room {
		room[i] = math.MaxUint64
	}
	for i, bound := range bounds {
		room[i] = uint64(math.Round(bound * unit))
	}
}

func httpSumBounds(bounds []float64, unit float64) (padded [event.HTTPSumBuckets]uint64) {
	fillSumBounds(padded[:], bounds, unit)
	return padded
}

func connectionSumBounds(bounds []float64, unit float64) (padded [event.ConnectionSumBuckets]uint64) {
	fillSumBounds(padded[:], bounds, unit)
	return padded
}

// sums are what the programs have summed up of one kind, and become records. K and V are as the maps have them.
type sums[K, V any] struct {
	family string // whose limit it is that they are beyond
	maps   [2]string
	record func(key K, sum V, now uint64) []byte
	made   atomic.Uint64 // records
	keys   []K
	values []V
}

// summed is what is alike for sums of all kinds.
type summed interface {
	limitedFamily() string
	drain(l *loader, turn uint32, now uint64, handle func(record []byte)) error
	recordsMade() uint64
}

func newSums[K, V any](family, name string, record func(key K, sum V, now uint64) []byte) *sums[K, V] {
	return &sums[K, V]{
		family: family, maps: [2]string{name + "_0", name + "_1"}, record: record,
		keys: make([]K, sumsBatch), values: make([]V, sumsBatch),
	}
}

// sumsBatch are read by one call to the kernel: more than are in one bucket.
const sumsBatch = 256

func newHTTPSums() summed {
	var record bpf.WireHttpSum
	return newSums(familyHTTP, "http_sums", func(key bpf.WireHttpSumKey, sum bpf.WireHttpSums, now uint64) []byte {
		record = bpf.WireHttpSum{
			Header: bpf.WireEventHeader{Time: now, StartTime: key.StartTime, CgroupId: key.CgroupId, Pid: key.Pid, Type: uint16(event.TypeHTTPSum)},
			Key:    key, Sums: sum,
		}
		return unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	})
}

func newConnectionSums() summed {
	var record bpf.WireConnectionSum
	return newSums(familyNetwork, "connection_sums", func(key bpf.WireConnectionSumKey, sum bpf.WireConnectionSums, now uint64) []byte {
		record = bpf.WireConnectionSum{
			Header: bpf.WireEventHeader{Time: now, StartTime: key.StartTime, CgroupId: key.CgroupId, Pid: key.Pid, Type: uint16(event.TypeConnectionSum)},
			Key:    key, Sums: sum,
		}
		return unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	})
}

func newProcessSums() summed {
	var record bpf.WireProcessSum
	return newSums(familyProcess, "process_sums", func(key bpf.WireProcessSumKey, sum bpf.WireProcessSums, now uint64) []byte {
		record = bpf.WireProcessSum{
			Header: bpf.WireEventHeader{Time: now, CgroupId: key.CgroupId, Type: uint16(event.TypeProcessSum)},
			Key:    key, Sums: sum,
		}
		return unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	})
}

func (s *sums[K, V]) limitedFamily() string { return s.family }

func (s *sums[K, V]) recordsMade() uint64 { return s.made.Load() }

// drain the map whose turn it is not, to which nothing is added; now is when it is told, CLOCK_BOOTTIME, ns.
func (s *sums[K, V]) drain(l *loader, turn uint32, now uint64, handle func(record []byte)) error {
	m := l.shared[s.maps[turn]]
	if m == nil {
		return nil // the kernel has refused all programs that fill it
	}
	var cursor ebpf.MapBatchCursor
	for done := false; !done; {
		n, err := m.BatchLookupAndDelete(&cursor, s.keys, s.values, nil)
		if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
			return fmt.Errorf("read %s: %w", s.maps[turn], err)
		}
		for i := range n {
			s.made.Add(1)
			handle(s.record(s.keys[i], s.values[i], now))
		}
	}
	return nil
}

// summing has the sums take turns, at the interval of limits.
type summing struct {
	source   *Source
	kinds    []summed // whose families are limited
	turn     uint32   // of those that are filled
	lastRead uint64
}

func newSumming(s *Source) *summing {
	u := &summing{source: s}
	for _, kind := range []summed{newHTTPSums(), newConnectionSums(), newProcessSums()} {
		if s.options.RateLimits[kind.limitedFamily()] > 0 {
			u.kinds = append(u.kinds, kind)
		}
	}
	return u
}

// read hands out what was summed up until the last turn: what a program was adding then has long been added. When the programs are
// detached, it is all that there is.
func (u *summing) read(now uint64, isLast bool, handle func(record []byte)) error {
	if len(u.kinds) == 0 || !isLast && now-u.lastRead < limitsInterval {
		return nil
	}
	u.lastRead = now
	before := 1 - u.turn
	if err := u.drain(before, now, handle); err != nil {
		return err
	}
	if isLast {
		return u.drain(u.turn, now, handle)
	}
	return u.take(before)
}

func (u *summing) drain(turn uint32, now uint64, handle func(record []byte)) error {
	for _, kind := range u.kinds {
		if err := kind.drain(u.source.loader, turn, now, handle); err != nil {
			return err
		}
	}
	return nil
}

func (u *summing) take(turn uint32) error {
	m := u.source.loader.shared["sums_turn"]
	if m == nil {
		return nil
	}
	if err := m.Put(uint32(0), turn); err != nil {
		return fmt.Errorf("take turns in summing up: %w", err)
	}
	u.turn = turn
	return nil
}

func (u *summing) made() (records uint64) {
	for _, kind := range u.kinds {
		records += kind.recordsMade()
	}
	return records
}
