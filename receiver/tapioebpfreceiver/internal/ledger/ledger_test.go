// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func counted(counters map[uint8]source.Counters) func() (map[uint8]source.Counters, error) {
	return func() (map[uint8]source.Counters, error) { return counters, nil }
}

// requireClosed says that each row's seen is the sum of all others.
func requireClosed(t testing.TB, rows map[event.Family]Row) {
	t.Helper()
	for family, row := range rows {
		sum := row.Exported + row.Aggregated + row.Filtered + row.InFlight
		for _, n := range row.Lost {
			sum += n
		}
		require.Equal(t, row.Seen, sum, "%v: %+v", family, row)
	}
}

func TestEveryFateHasItsColumn(t *testing.T) {
	var l Ledger
	for i, fate := range []Fate{Exported, Aggregated, Filtered, LostQueueFull, LostRefused, LostUndecodable, LostShutdown, LostTableFull, LostThrottled} {
		l.Add(event.FamilyProcess, fate, 1<<i)
	}
	rows, err := l.Rows(counted(map[uint8]source.Counters{1: {Seen: 2000, RingFull: 256, TableFull: 3, Throttled: 512}}))
	require.NoError(t, err)
	assert.Equal(t, map[event.Family]Row{event.FamilyProcess: {
		Seen: 2000, Exported: 1, Aggregated: 2, Filtered: 4, InFlight: 718,
		Lost: map[string]uint64{
			"queue_full": 8, "refused": 16, "undecodable": 32, "shutdown": 64, "ring_full": 256,
			"table_full": 128 + 3, "throttled": 256 + 512, // some told by the source
		},
	}}, rows)
	requireClosed(t, rows)
}

func TestFatesHaveNames(t *testing.T) {
	for fate, want := range map[Fate][2]string{
		Exported:        {"exported", ""},
		Aggregated:      {"aggregated", ""},
		Filtered:        {"filtered", ""},
		LostQueueFull:   {"lost", "queue_full"},
		LostRefused:     {"lost", "refused"},
		LostUndecodable: {"lost", "undecodable"},
		LostTableFull:   {"lost", "table_full"},
		LostThrottled:   {"lost", "throttled"},
		LostShutdown:    {"lost", "shutdown"},
	} {
		assert.Equal(t, want, [2]string{fate.String(), fate.Reason()})
	}
}

func TestFamiliesAreKeptApart(t *testing.T) {
	var l Ledger
	l.Add(event.FamilyProcess, Exported, 3)
	l.Add(event.FamilyNetwork, Aggregated, 4)
	rows, err := l.Rows(counted(map[uint8]source.Counters{1: {Seen: 3}, 2: {Seen: 5}}))
	require.NoError(t, err)
	assert.Equal(t, map[event.Family]Row{
		event.FamilyProcess: {Seen: 3, Exported: 3, Lost: map[string]uint64{}},
		event.FamilyNetwork: {Seen: 5, Aggregated: 4, InFlight: 1, Lost: map[string]uint64{}},
	}, rows)
	requireClosed(t, rows)
}

func TestWhatWasOnlySeenIsInFlight(t *testing.T) {
	var l Ledger
	rows, err := l.Rows(counted(map[uint8]source.Counters{2: {Seen: 7, RingFull: 2}}))
	require.NoError(t, err)
	assert.Equal(t, map[event.Family]Row{
		event.FamilyNetwork: {Seen: 7, InFlight: 5, Lost: map[string]uint64{"ring_full": 2}},
	}, rows)
}

func TestNothingSeenHasNoRow(t *testing.T) {
	var l Ledger
	rows, err := l.Rows(counted(map[uint8]source.Counters{}))
	require.NoError(t, err)
	assert.Empty(t, rows)
}

func TestStraysAreSeenWithoutTheSource(t *testing.T) {
	var l Ledger
	l.Add(event.FamilyOther, LostUndecodable, 2)
	rows, err := l.Rows(counted(map[uint8]source.Counters{1: {Seen: 1}}))
	require.NoError(t, err)
	assert.Equal(t, map[event.Family]Row{
		event.FamilyOther:   {Seen: 2, Lost: map[string]uint64{"undecodable": 2}},
		event.FamilyProcess: {Seen: 1, InFlight: 1, Lost: map[string]uint64{}},
	}, rows)
	requireClosed(t, rows)
}

func TestAddCounts(t *testing.T) {
	var l Ledger
	l.AddCounts(&Counts{event.FamilyProcess: 3, event.FamilyNetwork: 4}, LostRefused)
	rows, err := l.Rows(counted(map[uint8]source.Counters{1: {Seen: 3}, 2: {Seen: 4}}))
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{"refused": 3}, rows[event.FamilyProcess].Lost)
	assert.Equal(t, map[string]uint64{"refused": 4}, rows[event.FamilyNetwork].Lost)
	requireClosed(t, rows)
}

func TestTheSourcesErrorIsReturned(t *testing.T) {
	var l Ledger
	broken := errors.New("broken")
	rows, err := l.Rows(func() (map[uint8]source.Counters, error) { return nil, broken })
	assert.ErrorIs(t, err, broken)
	assert.Nil(t, rows)
}

// The source's counter goes up before an event's fate is known. Rows are closed at any moment.
func TestRowsCloseWhileEventsCome(t *testing.T) {
	const (
		workers = 4
		events  = 2000
	)
	var l Ledger
	var kernel sync.Mutex
	var seen uint64
	counters := func() (map[uint8]source.Counters, error) {
		kernel.Lock()
		defer kernel.Unlock()
		return map[uint8]source.Counters{uint8(event.FamilyProcess): {Seen: seen}}, nil
	}
	var working sync.WaitGroup
	for worker := range workers {
		working.Go(func() {
			for i := range events {
				kernel.Lock()
				seen++
				kernel.Unlock()
				l.Add(event.FamilyProcess, Fate((worker+i)%int(fateCount)), 1)
			}
		})
	}
	for range 500 {
		rows, err := l.Rows(counters)
		require.NoError(t, err)
		requireClosed(t, rows)
	}
	working.Wait()
	rows, err := l.Rows(counters)
	require.NoError(t, err)
	requireClosed(t, rows)
	assert.Equal(t, uint64(workers*events), rows[event.FamilyProcess].Seen)
	assert.Zero(t, rows[event.FamilyProcess].InFlight)
}
