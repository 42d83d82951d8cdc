// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package ledger keeps account of what became of every event. Each that a program decided to
// report ends in exactly one row; what has not ended yet is in flight.
package ledger // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"

import (
	"sync/atomic"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Fate is what became of an event.
type Fate uint8

// Fates.
const (
	Exported        Fate = iota // every consumer that it was for accepted it
	Aggregated                  // it is in metrics, or in the span of a later event
	Filtered                    // a rule of the config, or scope, left it out
	LostQueueFull               // the consumers were slower than the events for too long
	LostRefused                 // a consumer refused it
	LostUndecodable             // the record made no sense
	LostTableFull               // it could not be followed: too many at a time
	LostUnreadable              // it was begun but could not be followed to its end
	LostThrottled               // it was beyond the limit of its cgroup, and no metric is there for it
	LostShutdown                // the collector stopped before the consumers took it
	fateCount
)

// Reasons that the source counts, all but the first also the receiver.
const (
	ReasonRingFull   = "ring_full"
	ReasonThrottled  = "throttled"
	ReasonTableFull  = "table_full"
	ReasonUnreadable = "unreadable"
)

// String is the fate without a reason, as the events metric has it.
func (f Fate) String() string {
	switch f {
	case Exported:
		return "exported"
	case Aggregated:
		return "aggregated"
	case Filtered:
		return "filtered"
	default:
		return "lost"
	}
}

// Reason of a loss; empty where nothing is lost.
func (f Fate) Reason() string {
	switch f {
	case LostQueueFull:
		return "queue_full"
	case LostRefused:
		return "refused"
	case LostUndecodable:
		return "undecodable"
	case LostTableFull:
		return ReasonTableFull
	case LostUnreadable:
		return ReasonUnreadable
	case LostThrottled:
		return ReasonThrottled
	case LostShutdown:
		return "shutdown"
	default:
		return ""
	}
}

// Counts are numbers of events by family.
type Counts [event.FamilyCount]uint64

// Ledger may be used from any goroutine.
type Ledger struct {
	fates [event.FamilyCount][fateCount]atomic.Uint64
	// strays are records that no source counted, since not even their family could be told.
	strays atomic.Uint64
}

// Add notes n events of a family.
func (l *Ledger) Add(family event.Family, fate Fate, n uint64) {
	l.fates[family][fate].Add(n)
	if family == event.FamilyOther {
		l.strays.Add(n)
	}
}

// AddCounts notes the events of all families.
func (l *Ledger) AddCounts(counts *Counts, fate Fate) {
	for family, n := range counts {
		if n > 0 {
			l.Add(event.Family(family), fate, n)
		}
	}
}

// Row is one family's account. Seen is the sum of all others.
type Row struct {
	Seen, Exported, Aggregated, Filtered, InFlight uint64
	Lost                                           map[string]uint64 // by reason; only what is not 0
}

// Rows reads the account. seen asks the source for its counters; it is called after the fates were
// read, so that an event that ends meanwhile is not missed among those seen.
func (l *Ledger) Rows(seen func() (map[uint8]source.Counters, error)) (map[event.Family]Row, error) {
	rows := map[event.Family]Row{}
	for family := range event.FamilyCount {
		if row, counted := l.row(family); counted {
			rows[family] = row
		}
	}
	strays := l.strays.Load()
	counters, err := seen()
	if err != nil {
		return nil, err
	}
	counters = withStrays(counters, strays)
	for number, c := range counters {
		family := event.Family(number)
		rows[family] = rows[family].close(c)
	}
	return rows, nil
}

func withStrays(counters map[uint8]source.Counters, strays uint64) map[uint8]source.Counters {
	if strays > 0 {
		counters[uint8(event.FamilyOther)] = source.Counters{Seen: strays}
	}
	return counters
}

// row has what user space counted of a family; counted is false if that is nothing.
func (l *Ledger) row(family event.Family) (row Row, counted bool) {
	row.Lost = map[string]uint64{}
	for fate := range fateCount {
		n := l.fates[family][fate].Load()
		if n == 0 {
			continue
		}
		counted = true
		switch fate {
		case Exported:
			row.Exported = n
		case Aggregated:
			row.Aggregated = n
		case Filtered:
			row.Filtered = n
		default:
			row.Lost[fate.Reason()] = n
		}
	}
	return row, counted
}

// close adds what the source counted; what is in no other column is in flight.
func (r Row) close(c source.Counters) Row {
	if r.Lost == nil {
		r.Lost = map[string]uint64{}
	}
	if c.RingFull > 0 {
		r.Lost[ReasonRingFull] = c.RingFull
	}
	if c.Throttled > 0 {
		r.Lost[ReasonThrottled] += c.Throttled
	}
	if c.TableFull > 0 {
		r.Lost[ReasonTableFull] += c.TableFull
	}
	if c.Unreadable > 0 {
		r.Lost[ReasonUnreadable] += c.Unreadable
	}
	if c.QueueFull > 0 {
		r.Lost[LostQueueFull.Reason()] += c.QueueFull
	}
	r.Seen = c.Seen
	r.InFlight = c.Seen - min(c.Seen, r.ended())
	return r
}

func (r Row) ended() uint64 {
	sum := r.Exported + r.Aggregated + r.Filtered
	for _, n := range r.Lost {
		sum += n
	}
	return sum
}
