// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import "math"

const (
	// notYet is the time when a number will be free of which that is not known so far.
	notYet = math.MaxUint64
	// leastSweep numbers are remembered before those that are free are forgotten.
	leastSweep = 256
)

// numbers are handed out in turn, as pids and ports are. One that is in use is left out.
//
// Stories are told one after the other, but happen at the same time. So of a number that was taken it is known when
// it will be free, while that is still to come.
type numbers struct {
	first, last, next uint32
	used              map[uint32]uint64 // when it is free; CLOCK_BOOTTIME, ns
	full              uint64            // none is free up to then
	sweepAt           int               // how many may be in used until those that are free are looked for
}

func newNumbers(first, last uint32) *numbers {
	return &numbers{first: first, last: last, next: first, used: map[uint32]uint64{}, sweepAt: leastSweep}
}

// take the next number that is free.
func (n *numbers) take(now uint64) (number uint32, ok bool) {
	if now <= n.full {
		return 0, false
	}
	for range n.last - n.first + 1 {
		number = n.next
		if n.next++; n.next > n.last {
			n.next = n.first
		}
		if free, isUsed := n.used[number]; !isUsed || free < now {
			n.used[number] = notYet
			return number, true
		}
	}
	n.full = n.used[n.earliest()]
	return 0, false
}

// await the next number that is free: where none is, time goes on.
func (n *numbers) await(now *uint64) uint32 {
	number, ok := n.take(*now)
	if !ok {
		number = n.earliest()
		*now = max(*now, n.used[number]) + 1
		n.used[number] = notYet
	}
	return number
}

// earliest is the number that is free before all others.
func (n *numbers) earliest() (number uint32) {
	number = n.first
	for other, free := range n.used {
		if free < n.used[number] || free == n.used[number] && other < number {
			number = other
		}
	}
	return number
}

// release a number: after that time it is not in use any more.
func (n *numbers) release(number uint32, at uint64) {
	n.used[number] = at
	n.full = min(n.full, at)
}

// forget those that are free. Nothing may be told any more of what was before that time.
func (n *numbers) forget(before uint64) {
	if len(n.used) < n.sweepAt {
		return
	}
	for number, free := range n.used {
		if free < before {
			delete(n.used, number)
		}
	}
	n.sweepAt = max(leastSweep, 2*len(n.used))
}
