// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

const (
	// maxSums of HTTP, of connections and of processes are kept apart. What comes when there is no room for one more is
	// counted only, as throttled.
	maxSums = 2048
	// sumsMemory bounds each of them where there are many CPUs, each of which has its own; bytes.
	sumsMemory = 32 << 20

	httpSumSize       = int(unsafe.Sizeof(bpf.WireHttpSumKey{}) + unsafe.Sizeof(bpf.WireHttpSums{}))
	connectionSumSize = int(unsafe.Sizeof(bpf.WireConnectionSumKey{}) + unsafe.Sizeof(bpf.WireConnectionSums{}))
	processSumSize    = int(unsafe.Sizeof(bpf.WireProcessSumKey{}) + unsafe.Sizeof(bpf.WireProcessSums{}))

	// forgetSumAfter is for how long nothing must have been added to one until its place is another one's.
	forgetSumAfter = uint64(time.Minute)
)

// sumRoom is for how many sums of a size there is room on a number of CPUs.
func sumRoom(size, cpus int) uint32 {
	return uint32(min(maxSums, sumsMemory/(cpus*size)))
}

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

// sums turns what the programs have summed up into records. V has nothing but words, each of which only grows.
type sums[K comparable, V comparable] struct {
	name     string // of the map
	record   func(key K, more V, now uint64) []byte
	told     map[K]*toldSum[V]
	lastRead uint64
	made     atomic.Uint64 // records
	rests    []K
}

// toldSum is how much of a sum was told, and when something was added to it.
type toldSum[V any] struct {
	all  V
	last uint64
}

func newSums[K, V comparable](name string, record func(key K, more V, now uint64) []byte) *sums[K, V] {
	return &sums[K, V]{name: name, record: record, told: map[K]*toldSum[V]{}}
}

func newHTTPSums() *sums[bpf.WireHttpSumKey, bpf.WireHttpSums] {
	var record bpf.WireHttpSum
	return newSums("http_sums", func(key bpf.WireHttpSumKey, more bpf.WireHttpSums, now uint64) []byte {
		record = bpf.WireHttpSum{Header: sumHeader(event.TypeHTTPSum, key.CgroupId, now), Key: key, Sums: more}
		return unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	})
}

func newConnectionSums() *sums[bpf.WireConnectionSumKey, bpf.WireConnectionSums] {
	var record bpf.WireConnectionSum
	return newSums("connection_sums", func(key bpf.WireConnectionSumKey, more bpf.WireConnectionSums, now uint64) []byte {
		record = bpf.WireConnectionSum{Header: sumHeader(event.TypeConnectionSum, key.CgroupId, now), Key: key, Sums: more}
		return unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	})
}

func newProcessSums() *sums[bpf.WireProcessSumKey, bpf.WireProcessSums] {
	var record bpf.WireProcessSum
	return newSums("process_sums", func(key bpf.WireProcessSumKey, more bpf.WireProcessSums, now uint64) []byte {
		record = bpf.WireProcessSum{Header: sumHeader(event.TypeProcessSum, key.CgroupId, now), Key: key, Sums: more}
		return unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	})
}

func sumHeader(kind event.Type, cgroupID, now uint64) bpf.WireEventHeader {
	return bpf.WireEventHeader{Time: now, CgroupId: cgroupID, Type: uint16(kind)}
}

// readSums hands out what was added since it was called last, at the interval of limits, and what is left when the programs
// are detached.
func (s *Source) readSums(now uint64, handle func(record []byte)) error {
	return errors.Join(
		s.httpSums.read(s.loader.shared[s.httpSums.name], now, s.stopped, handle),
		s.connectionSums.read(s.loader.shared[s.connectionSums.name], now, s.stopped, handle),
		s.processSums.read(s.loader.shared[s.processSums.name], now, s.stopped, handle),
	)
}

func (s *Source) sumsMade() uint64 {
	return s.httpSums.made.Load() + s.connectionSums.made.Load() + s.processSums.made.Load()
}

// read is not asked for anything where no family is on that has any: m is nil then.
func (s *sums[K, V]) read(m *ebpf.Map, now uint64, isLast bool, handle func(record []byte)) error {
	if m == nil || !isLast && now-s.lastRead < limitsInterval {
		return nil
	}
	s.lastRead = now
	s.rests = s.rests[:0]
	var key K
	var perCPU []V
	entries := m.Iterate()
	for entries.Next(&key, &perCPU) {
		s.visit(key, perCPU, now, handle)
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) { // the rest is read in the next round
		return fmt.Errorf("read %s: %w", s.name, err)
	}
	return s.forget(m)
}

func (s *sums[K, V]) visit(key K, perCPU []V, now uint64, handle func(record []byte)) {
	t := s.told[key]
	if t == nil {
		t = &toldSum[V]{last: now}
		s.told[key] = t
	}
	all := totalOf(perCPU)
	if all == t.all {
		if t.last+forgetSumAfter < now {
			s.rests = append(s.rests, key)
		}
		return
	}
	more := all
	combine(&more, &t.all, func(all, told uint64) uint64 { return all - told })
	t.all, t.last = all, now
	s.made.Add(1)
	handle(s.record(key, more, now))
}

// forget those that nothing was added to for long, and still is not.
func (s *sums[K, V]) forget(m *ebpf.Map) error {
	var perCPU []V
	for _, key := range s.rests {
		err := m.Lookup(key, &perCPU)
		if err == nil && totalOf(perCPU) == s.told[key].all {
			err = m.Delete(key)
			delete(s.told, key)
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget what rests in %s: %w", s.name, err)
		}
	}
	return nil
}

func totalOf[V any](perCPU []V) (total V) {
	for i := range perCPU {
		combine(&total, &perCPU[i], func(a, b uint64) uint64 { return a + b })
	}
	return total
}

// combine puts into each of a's words what is made of it and b's.
func combine[V any](a, b *V, of func(a, b uint64) uint64) {
	as, bs := wordsOf(a), wordsOf(b)
	for i := range as {
		as[i] = of(as[i], bs[i])
	}
}

func wordsOf[V any](v *V) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(v)), unsafe.Sizeof(*v)/unsafe.Sizeof(uint64(0)))
}
