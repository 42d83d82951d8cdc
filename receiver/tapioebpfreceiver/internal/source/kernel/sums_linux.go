// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"math"
	"structs"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

const (
	// maxSums of HTTP, of connections, of TLS handshakes and of processes are kept apart in a second.
	maxSums = 2048
	// maxCgroupSums of HTTP, of connections and of TLS handshakes are for what comes when there is no room for one more of these: they are of cgroups,
	// as those of processes always are. What has no room there either is counted only, as throttled.
	maxCgroupSums = 512
)

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
	kind   event.Type
	maps   [2][]string // by turn
	owner  func(key *K) sumOwner
	made   atomic.Uint64 // records
	keys   []K
	values []V
	record sumRecord[K, V]
}

// sumRecord is as struct http_sum and the others, bpf/event.h.
type sumRecord[K, V any] struct {
	_      structs.HostLayout
	Header bpf.WireEventHeader
	Key    K
	Sums   V
}

// sumOwner is whose events these are; the process is 0 where it is not known.
type sumOwner struct {
	cgroupID, startTime uint64
	pid                 uint32
}

// summed is what is alike for sums of all kinds.
type summed interface {
	limitedFamily() string
	drain(l *loader, turn uint32, now uint64, handle func(record []byte)) error
	recordsMade() uint64
}

func newSums[K, V any](family string, kind event.Type, owner func(key *K) sumOwner, names ...string) *sums[K, V] {
	s := &sums[K, V]{family: family, kind: kind, owner: owner, keys: make([]K, sumsBatch), values: make([]V, sumsBatch)}
	for _, name := range names {
		s.maps[0], s.maps[1] = append(s.maps[0], name+"_0"), append(s.maps[1], name+"_1")
	}
	return s
}

// sumsBatch are read by one call to the kernel: more than are in one bucket.
const sumsBatch = 256

func newHTTPSums() summed {
	return newSums[bpf.WireHttpSumKey, bpf.WireHttpSums](familyHTTP, event.TypeHTTPSum, func(key *bpf.WireHttpSumKey) sumOwner {
		return sumOwner{key.CgroupId, key.StartTime, key.Pid}
	}, "http_sums", "http_cgroup_sums")
}

func newConnectionSums() summed {
	return newSums[bpf.WireConnectionSumKey, bpf.WireConnectionSums](familyNetwork, event.TypeConnectionSum, func(key *bpf.WireConnectionSumKey) sumOwner {
		return sumOwner{key.CgroupId, key.StartTime, key.Pid}
	}, "connection_sums", "connection_cgroup_sums")
}

func newTLSSums() summed {
	return newSums[bpf.WireTlsSumKey, bpf.WireTlsSums](familyNetwork, event.TypeTLSSum, func(key *bpf.WireTlsSumKey) sumOwner {
		return sumOwner{key.CgroupId, key.StartTime, key.Pid}
	}, "tls_sums", "tls_cgroup_sums")
}

func newProcessSums() summed {
	return newSums[bpf.WireProcessSumKey, bpf.WireProcessSums](familyProcess, event.TypeProcessSum, func(key *bpf.WireProcessSumKey) sumOwner {
		return sumOwner{cgroupID: key.CgroupId}
	}, "process_sums")
}

func (s *sums[K, V]) limitedFamily() string { return s.family }

func (s *sums[K, V]) recordsMade() uint64 { return s.made.Load() }

// drain the maps that were filled, to which nothing is added any more; now is when it is told, CLOCK_BOOTTIME, ns.
func (s *sums[K, V]) drain(l *loader, turn uint32, now uint64, handle func(record []byte)) error {
	for _, name := range s.maps[turn] {
		if err := s.drainMap(l.shared[name], now, handle); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	return nil
}

func (s *sums[K, V]) drainMap(m *ebpf.Map, now uint64, handle func(record []byte)) error {
	if m == nil {
		return nil // the kernel has refused all programs that fill it
	}
	var cursor ebpf.MapBatchCursor
	for done := false; !done; {
		n, err := m.BatchLookupAndDelete(&cursor, s.keys, s.values, nil)
		if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
			return err
		}
		for i := range n {
			s.made.Add(1)
			handle(s.tell(&s.keys[i], &s.values[i], now))
		}
	}
	return nil
}

// tell returns what is valid until the next call.
func (s *sums[K, V]) tell(key *K, sum *V, now uint64) (record []byte) {
	owner := s.owner(key)
	s.record = sumRecord[K, V]{
		Header: bpf.WireEventHeader{Time: now, StartTime: owner.startTime, CgroupId: owner.cgroupID, Pid: owner.pid, Type: uint16(s.kind)},
		Key:    *key, Sums: *sum,
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s.record)), unsafe.Sizeof(s.record))
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
	kinds := []summed{newHTTPSums(), newConnectionSums(), newProcessSums()}
	if s.options.followsHandshakes() {
		kinds = append(kinds, newTLSSums())
	}
	for _, kind := range kinds {
		if s.options.RateLimits[kind.limitedFamily()] > 0 {
			u.kinds = append(u.kinds, kind)
		}
	}
	return u
}

// read hands out what was summed up since it was called last, at its interval, and what is left when the programs are detached.
func (u *summing) read(now uint64, isLast bool, handle func(record []byte)) error {
	if len(u.kinds) == 0 || u.source.loader.shared["sums_turn"] == nil || !isLast && now-u.lastRead < limitsInterval {
		return nil
	}
	u.lastRead = now
	filled := u.turn
	u.turn = 1 - filled
	if err := u.source.loader.shared["sums_turn"].Put(uint32(0), u.turn); err != nil {
		return fmt.Errorf("take turns in summing up: %w", err)
	}
	if err := u.source.loader.awaitPrograms(); err != nil {
		return err
	}
	// Whose they are is told before. How far behind the reader is says the traffic, which may be much although this is little.
	behind := u.source.behind
	errs := []error{u.source.drainLifecycle(handle)}
	u.source.behind = behind
	for _, kind := range u.kinds {
		errs = append(errs, kind.drain(u.source.loader, filled, now, handle))
	}
	return errors.Join(errs...)
}

// awaitPrograms returns when no program runs any more that ran when it was called. This is what the kernel does before it says that
// a map within a map was replaced (maybe_wait_bpf_programs, kernel/bpf/syscall.c, since Linux 4.18): here one by itself.
func (l *loader) awaitPrograms() error {
	if l.barrier == nil {
		inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
		outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
		if err != nil {
			return fmt.Errorf("create a map of maps: %w", err)
		}
		l.opened = append(l.opened, outer)
		within, err := ebpf.NewMap(inner)
		if err != nil {
			return fmt.Errorf("create a map for a map of maps: %w", err)
		}
		l.opened = append(l.opened, within)
		l.barrier, l.within = outer, within
	}
	if err := l.barrier.Put(uint32(0), l.within); err != nil {
		return fmt.Errorf("wait for the programs that run: %w", err)
	}
	return nil
}

func (u *summing) made() (records uint64) {
	for _, kind := range u.kinds {
		records += kind.recordsMade()
	}
	return records
}
