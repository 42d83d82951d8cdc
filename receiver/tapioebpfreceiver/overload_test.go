// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// erratic takes what it is given, or refuses it for now or for ever, at once or after a while. It knows what it took.
type erratic struct {
	mu       sync.Mutex
	chance   *rand.Rand
	accepted map[int64]int // how often, by pid
	refusals map[bool]int  // by whether they were permanent
}

func newErratic() *erratic {
	return &erratic{chance: rand.New(rand.NewPCG(1, 2)), accepted: map[int64]int{}, refusals: map[bool]int{}}
}

func (*erratic) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (e *erratic) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.chance.IntN(10) {
	case 0:
		e.refusals[true]++
		return consumererror.NewPermanent(errors.New("never this"))
	case 1, 2, 3:
		e.refusals[false]++
		return errors.New("not now")
	case 4:
		time.Sleep(time.Duration(e.chance.IntN(20)) * time.Millisecond)
	}
	for _, record := range allRecords(logs) {
		pid, _ := record.Attributes().Get("process.pid")
		e.accepted[pid.Int()]++
	}
	return nil
}

// TestErraticConsumer has more to come than is taken: each event is with the consumer once, or lost once. It goes on
// without a pause until there was no room: how slow the machine's pauses are is its own affair.
func TestErraticConsumer(t *testing.T) {
	const waves, most, each = 200, 20_000, 100
	next := newErratic()
	s := newSetup(t, next, func(c *Config) {
		c.Batch.MaxEvents, c.Batch.QueueSize, c.Batch.RetryTimeout = 50, 8, 100*time.Millisecond
	})
	given := uint64(0)
	for n := 0; n < waves || s.row(t).Lost["queue_full"] == 0; n++ {
		require.Less(t, n, most, "there is always room")
		s.source.give(each)
		given += each
		assert.LessOrEqual(t, s.receiver.sender.waiting(), (8+2)*50, "those of the queue, of one under way and of one that is turned away")
		if n < waves {
			time.Sleep(2 * time.Millisecond)
		}
	}
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == given && r.InFlight == 0 })
	next.mu.Lock()
	defer next.mu.Unlock()
	t.Logf("%+v; refused for now %d times, for ever %d times", row, next.refusals[false], next.refusals[true])
	assert.EqualValues(t, len(next.accepted), row.Exported)
	for pid, times := range next.accepted {
		require.Equal(t, 1, times, "process %d", pid)
	}
	assert.Positive(t, next.refusals[true])
	assert.Positive(t, next.refusals[false])
	assert.Positive(t, row.Lost["refused"])
	assert.Positive(t, row.Lost["queue_full"])
	stats := s.receiver.stats()
	assert.True(t, stats.Ready, "what is refused does not end the observing: %s", stats.Reason)
}

// TestABlockedConsumerCostsBoundedMemory: what finds no room is counted and let go.
func TestABlockedConsumerCostsBoundedMemory(t *testing.T) {
	const waves, each, bound = 40, 1000, 6 << 20
	next := &blockingConsumer{Consumer: consumertest.NewNop(), release: make(chan struct{})}
	s := newSetup(t, next, func(c *Config) { c.Batch.MaxEvents, c.Batch.QueueSize = 100, 16 })
	before := heapInUse()
	for wave := range waves {
		s.source.giveAgain(each)
		s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == uint64(wave+1)*each && r.InFlight <= 18*100 })
	}
	grown := int64(heapInUse()) - int64(before)
	t.Logf("the heap has grown by %.1f MiB", float64(grown)/(1<<20))
	assert.Less(t, grown, int64(bound), "all together would take some 15 MiB")
	assert.True(t, s.receiver.stats().Ready)
	close(next.release)
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.InFlight == 0 })
	assert.EqualValues(t, waves*each, row.Exported+row.Lost["queue_full"])
	s.source.give(1)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Exported == row.Exported+1 })
}

// giveAgain makes one process execute n programs.
func (f *fakeSource) giveAgain(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen += uint64(n)
	for range n {
		f.waiting = append(f.waiting, execRecord(2))
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestOneOfTwoConsumersRefuses: an event is exported only where each has taken it, and both have been offered it.
func TestOneOfTwoConsumersRefuses(t *testing.T) {
	set, cfg := receivertest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config)
	cfg.Batch.Timeout = time.Millisecond
	refusing := consumertest.NewErr(consumererror.NewPermanent(errors.New("no logs here")))
	traces := &consumertest.TracesSink{}
	r, err := newReceiver(set, cfg)
	require.NoError(t, err)
	fake, host := &fakeSource{}, &statusHost{}
	r.next = consumers{traces: traces, logs: refusing}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
	require.NoError(t, r.Start(t.Context(), host))
	s := &setup{source: fake, receiver: r, host: host}
	for range 10 {
		fake.giveLife()
	}
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == 20 && r.InFlight == 0 })
	assert.Equal(t, map[string]uint64{"refused": 20}, row.Lost)
	assert.Equal(t, 10, traces.SpanCount())
	require.Eventually(t, func() bool { // it is told a moment after the account is closed
		return slices.Equal(host.statuses(), []componentstatus.Status{componentstatus.StatusOK, componentstatus.StatusRecoverableError})
	}, patience, time.Millisecond)
	require.NoError(t, r.Shutdown(t.Context()))
}
