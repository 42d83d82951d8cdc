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
	// maxHTTPSums are kept apart. What comes when there is no room for one more is counted only, as throttled.
	maxHTTPSums = 2048
	// httpSumsMemory bounds them where there are many CPUs, each of which has its own; bytes.
	httpSumsMemory = 32 << 20

	httpSumSize = int(unsafe.Sizeof(bpf.WireHttpSumKey{}) + unsafe.Sizeof(bpf.WireHttpSums{}))

	// forgetSumAfter is for how long nothing must have been added to one until its place is another one's.
	forgetSumAfter = uint64(time.Minute)
)

// httpSumRoom is for how many sums there is room on a number of CPUs.
func httpSumRoom(cpus int) uint32 {
	return uint32(min(maxHTTPSums, httpSumsMemory/(cpus*httpSumSize)))
}

// sumBounds are what bpf/http_sums.h wants: the bounds in the unit of what is counted. No value is beyond those that are
// not used.
func sumBounds(bounds []float64, unit float64) (padded [event.HTTPSumBuckets]uint64) {
	for i := range padded {
		padded[i] = math.MaxUint64
	}
	for i, bound := range bounds {
		padded[i] = uint64(math.Round(bound * unit))
	}
	return padded
}

// httpSums turns what the programs have summed up into records.
type httpSums struct {
	told     map[bpf.WireHttpSumKey]*toldSums
	lastRead uint64
	made     atomic.Uint64 // records
	rests    []bpf.WireHttpSumKey
	record   bpf.WireHttpSum
}

// toldSums is how much of a sum was told, and when something was added to it.
type toldSums struct {
	sums bpf.WireHttpSums
	last uint64
}

func newHTTPSums() *httpSums { return &httpSums{told: map[bpf.WireHttpSumKey]*toldSums{}} }

// read hands out what was added since it was called last, at the interval of limits, and what is left when the programs
// are detached. m is nil where there is no family that has any.
func (h *httpSums) read(m *ebpf.Map, now uint64, isLast bool, handle func(record []byte)) error {
	if m == nil || !isLast && now-h.lastRead < limitsInterval {
		return nil
	}
	h.lastRead = now
	h.rests = h.rests[:0]
	var key bpf.WireHttpSumKey
	var perCPU []bpf.WireHttpSums
	entries := m.Iterate()
	for entries.Next(&key, &perCPU) {
		h.visit(key, perCPU, now, handle)
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) { // the rest is read in the next round
		return fmt.Errorf("read sums of HTTP exchanges: %w", err)
	}
	return h.forget(m)
}

func (h *httpSums) visit(key bpf.WireHttpSumKey, perCPU []bpf.WireHttpSums, now uint64, handle func(record []byte)) {
	t := h.told[key]
	if t == nil {
		t = &toldSums{last: now}
		h.told[key] = t
	}
	total := totalOf(perCPU)
	if total == t.sums {
		if t.last+forgetSumAfter < now {
			h.rests = append(h.rests, key)
		}
		return
	}
	h.record = bpf.WireHttpSum{
		Header: bpf.WireEventHeader{Time: now, CgroupId: key.CgroupId, Type: uint16(event.TypeHTTPSum)},
		Key:    key, Sums: total,
	}
	combine(&h.record.Sums, &t.sums, func(all, told uint64) uint64 { return all - told })
	t.sums, t.last = total, now
	h.made.Add(1)
	handle(unsafe.Slice((*byte)(unsafe.Pointer(&h.record)), unsafe.Sizeof(h.record)))
}

// forget those that nothing was added to for long, and still is not.
func (h *httpSums) forget(m *ebpf.Map) error {
	var perCPU []bpf.WireHttpSums
	for _, key := range h.rests {
		err := m.Lookup(key, &perCPU)
		if err == nil && totalOf(perCPU) == h.told[key].sums {
			err = m.Delete(key)
			delete(h.told, key)
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget sums of HTTP exchanges: %w", err)
		}
	}
	return nil
}

func totalOf(perCPU []bpf.WireHttpSums) (total bpf.WireHttpSums) {
	for i := range perCPU {
		combine(&total, &perCPU[i], func(a, b uint64) uint64 { return a + b })
	}
	return total
}

// combine puts into each of a's numbers what is made of it and b's.
func combine(a, b *bpf.WireHttpSums, of func(a, b uint64) uint64) {
	a.Duration = of(a.Duration, b.Duration)
	a.RequestBytes = of(a.RequestBytes, b.RequestBytes)
	a.ResponseBytes = of(a.ResponseBytes, b.ResponseBytes)
	for i := range event.HTTPSumBuckets {
		a.Durations[i] = of(a.Durations[i], b.Durations[i])
		a.RequestSizes[i] = of(a.RequestSizes[i], b.RequestSizes[i])
		a.ResponseSizes[i] = of(a.ResponseSizes[i], b.ResponseSizes[i])
	}
}
