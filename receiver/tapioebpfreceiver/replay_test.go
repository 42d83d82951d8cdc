// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
)

// record has a source hand out n executions, and end, while it is recorded.
func record(t *testing.T, n int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recording")
	events := &fakeSource{}
	r, err := recording.Record(events, recording.Options{File: file, MaxSize: 1 << 30, Families: []string{"process"}}, zap.NewNop())
	require.NoError(t, err)
	_, err = r.BootTime()
	require.NoError(t, err)
	r.Processes()
	for range n / 100 {
		events.give(100)
		require.NoError(t, r.Read(func([]byte) {}))
	}
	require.NoError(t, r.Close())
	return file
}

func startReplay(t *testing.T, file string, next consumer.Logs, change func(*Config)) *tapioReceiver {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Replay.File, cfg.Replay.Speed = "replay", file, 0
	cfg.Batch.Timeout = time.Millisecond
	change(cfg)
	r, err := NewFactory().CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, next)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, r.Shutdown(context.Background())) })
	return r.(*tapioReceiver)
}

func TestAReplayIsLabelled(t *testing.T) {
	sink := &consumertest.LogsSink{}
	r := startReplay(t, record(t, 100), sink, func(*Config) {})
	require.Eventually(t, func() bool { return sink.LogRecordCount() == 100 }, time.Minute, time.Millisecond)
	for _, logs := range sink.AllLogs() {
		for _, of := range logs.ResourceLogs().All() {
			assert.Equal(t, "replay", textOf(of.Resource().Attributes(), "tapio.source"))
			assert.Equal(t, "ebpf", textOf(of.Resource().Attributes(), "tapio.replay.source"))
			assert.Equal(t, "node-1", textOf(of.Resource().Attributes(), "host.name"))
		}
	}
	require.Eventually(t, func() bool { return r.stats().Ledger["process"].Exported == 100 }, time.Minute, time.Millisecond)
	stats := r.stats()
	assert.Equal(t, "replay", stats.Source)
	assert.True(t, stats.Ready)
	assert.Equal(t, LedgerRow{Seen: 100, Exported: 100, Lost: map[string]uint64{}}, stats.Ledger["process"])
}

func textOf(attributes pcommon.Map, key string) string {
	value, _ := attributes.Get(key)
	return value.Str()
}

// slowLogs takes a batch only when it is let.
type slowLogs struct {
	consumertest.LogsSink
	let chan struct{}
}

func (s *slowLogs) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	select {
	case <-s.let:
		return s.LogsSink.ConsumeLogs(ctx, logs)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A live source would have lost most of it: the queue has room for two batches.
func TestAReplayWaitsForASlowConsumer(t *testing.T) {
	const events = 20_000
	slow := &slowLogs{let: make(chan struct{})}
	r := startReplay(t, record(t, events), slow, func(cfg *Config) {
		cfg.Batch.MaxEvents, cfg.Batch.QueueSize = 100, 2
	})
	for range events/100 - 10 {
		slow.let <- struct{}{}
	}
	close(slow.let)
	require.Eventually(t, func() bool { return r.stats().Ledger["process"].Exported == events }, time.Minute, time.Millisecond)
	assert.Equal(t, LedgerRow{Seen: events, Exported: events, Lost: map[string]uint64{}}, r.stats().Ledger["process"])
	assert.Equal(t, events, slow.LogRecordCount())
}

// What waits is bounded by events, too, since it takes memory.
func TestAReplayWaitsWhereTooManyEventsAreUnderWay(t *testing.T) {
	const events = 100_000
	slow := &slowLogs{let: make(chan struct{})}
	r := startReplay(t, record(t, events), slow, func(cfg *Config) {
		cfg.Batch.MaxEvents, cfg.Batch.QueueSize = 1000, 1000
	})
	var most atomic.Int64
	for range events / 1000 {
		most.Store(max(most.Load(), int64(r.sender.waiting())))
		slow.let <- struct{}{}
	}
	close(slow.let)
	require.Eventually(t, func() bool { return r.stats().Ledger["process"].Exported == events }, time.Minute, time.Millisecond)
	assert.LessOrEqual(t, most.Load(), int64(r.sender.limit()))
}

func TestAReplayThatWaitsCanBeEnded(t *testing.T) {
	const events = 10_000
	stuck := &slowLogs{let: make(chan struct{})}
	r := startReplay(t, record(t, events), stuck, func(cfg *Config) {
		cfg.Batch.MaxEvents, cfg.Batch.QueueSize = 100, 1
	})
	require.Eventually(t, func() bool { return r.sender.waiting() >= 300 }, time.Minute, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, r.Shutdown(ctx))
	rows, err := r.ledger.Rows(r.source.Counters)
	require.NoError(t, err)
	row := ledgerRow(rows[1])
	assert.Zero(t, row.Exported)
	assert.Zero(t, row.InFlight)
	assert.Equal(t, row.Seen, row.Lost["shutdown"]+row.Lost["queue_full"])
}

func TestARecordingIsMadeOfWhatIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	cfg := createDefaultConfig().(*Config)
	cfg.Recording.File = filepath.Join(t.TempDir(), "no", "such", "folder")
	_, err := openRecording(&fakeSource{}, cfg, receivertest.NewNopSettings(metadata.Type))
	require.ErrorContains(t, err, "recording::file: create the recording: open ")

	cfg.Recording.File = file
	events := &fakeSource{}
	from, err := openRecording(events, cfg, receivertest.NewNopSettings(metadata.Type))
	require.NoError(t, err)
	events.give(3)
	require.NoError(t, from.Read(func([]byte) {}))
	require.NoError(t, from.Close())
	sink := &consumertest.LogsSink{}
	startReplay(t, file, sink, func(*Config) {})
	require.Eventually(t, func() bool { return sink.LogRecordCount() == 3 }, time.Minute, time.Millisecond)

	again := &fakeSource{}
	_, err = openRecording(again, cfg, receivertest.NewNopSettings(metadata.Type))
	require.ErrorContains(t, err, "file exists: none is overwritten, name another file or move this one away")
	assert.True(t, again.wasClosed())
}

func TestARecordingThatIsNotThere(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Replay.File = "replay", filepath.Join(t.TempDir(), "none")
	from, err := openSource(cfg, receivertest.NewNopSettings(metadata.Type))
	require.ErrorContains(t, err, "replay::file: recording "+cfg.Replay.File+": open ")
	assert.Nil(t, from)
}
