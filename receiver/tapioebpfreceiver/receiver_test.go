// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadatatest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

const fakeBootTime = 1_700_000_000e9

// patience is how long anything that must come about may take, on a machine with other work.
const patience = 30 * time.Second

// fakeSource hands out the records that a test gives it, and counts them as a kernel would.
type fakeSource struct {
	mu       sync.Mutex
	waiting  [][]byte
	seen     uint64
	ringFull uint64
	cgroups  uint64
	actions  uint64 // of the family security
	readErr  error
	closed   bool
	stopped  bool
	patient  bool
	clockSet atomic.Int64 // by so much, in ns
	measured atomic.Int64 // how often the clock was asked
}

func (f *fakeSource) Name() string              { return "ebpf" }
func (f *fakeSource) HostName() (string, error) { return "node-1", nil }
func (f *fakeSource) Patient() bool             { return f.patient }
func (f *fakeSource) Behind() bool              { return false }
func (f *fakeSource) Wall() time.Time           { return time.Now().Add(time.Duration(f.clockSet.Load())) }
func (f *fakeSource) BootTime() (int64, error) {
	defer f.measured.Add(1)
	return fakeBootTime + f.clockSet.Load(), nil
}
func (f *fakeSource) Boot() uint64 { return uint64(time.Now().UnixNano() - fakeBootTime) }
func (f *fakeSource) Processes() []source.Process {
	return []source.Process{{PID: 1, Executable: "/sbin/init"}}
}
func (f *fakeSource) Process(uint32) (source.Process, bool) { return source.Process{}, false }
func (f *fakeSource) Gone(uint32, uint64) bool              { return false }
func (f *fakeSource) Capabilities() []source.Capability {
	return []source.Capability{
		{Family: "process", Hook: "tp_btf/sched_process_exec", State: source.Attached, MissedRuns: 7},
		{Family: "security", Hook: "fexit/path_mount", State: source.Unsupported, Reason: "no fentry"},
		{Family: "security", Hook: "fexit/path_mount", State: source.Unsupported, Reason: "no fexit either"},
	}
}

func (f *fakeSource) Cgroups() []source.Cgroup {
	return []source.Cgroup{{ID: podCgroup, Path: podPath}}
}
func (f *fakeSource) Cgroup(uint64, uint32) (string, bool) { return "", false }

func (f *fakeSource) Stop(func(record []byte)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	return nil
}

func (f *fakeSource) wasStopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

func (f *fakeSource) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *fakeSource) Counters() (map[uint8]source.Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counters := map[uint8]source.Counters{1: {Seen: f.seen, RingFull: f.ringFull}}
	if f.cgroups > 0 {
		counters[uint8(event.FamilyCgroup)] = source.Counters{Seen: f.cgroups}
	}
	if f.actions > 0 {
		counters[uint8(event.FamilySecurity)] = source.Counters{Seen: f.actions}
	}
	return counters, nil
}

func (f *fakeSource) Read(handle func([]byte)) error {
	f.mu.Lock()
	records, err := f.waiting, f.readErr
	f.waiting = nil
	f.mu.Unlock()
	for _, record := range records {
		handle(record)
	}
	if len(records) == 0 {
		time.Sleep(time.Millisecond) // the flush interval
	}
	return err
}

// give makes n executions happen, and returns the last one's pid.
func (f *fakeSource) give(n int) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.seen++
		f.waiting = append(f.waiting, execRecord(uint32(f.seen)+1))
	}
	return uint32(f.seen) + 1
}

// giveLife makes a process start and end, and returns its pid.
func (f *fakeSource) giveLife() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen += 2
	pid := uint32(f.seen)
	exit := bpf.WireProcessExit{Header: bpf.WireEventHeader{
		Time: uint64(pid)*1e9 + 1, StartTime: uint64(pid) * 1e9, Pid: pid, Type: uint16(bpf.WireEventTypePROCESS_EXIT),
	}}
	f.waiting = append(f.waiting, execRecord(pid), slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&exit)), unsafe.Sizeof(exit))))
	return pid
}

func execRecord(pid uint32) []byte {
	tail := "sh\x00bin\x00" + "tmp\x00" + "sh\x00"
	exec := bpf.WireProcessExec{ExeSize: 7, CwdSize: 4, ArgsSize: 3}
	exec.Header = bpf.WireEventHeader{Time: uint64(pid) * 1e9, StartTime: uint64(pid) * 1e9, Pid: pid, Type: uint16(bpf.WireEventTypePROCESS_EXEC)}
	fixed := unsafe.Slice((*byte)(unsafe.Pointer(&exec)), unsafe.Sizeof(exec))
	return append(slices.Clone(fixed), tail...)
}

type setup struct {
	source   *fakeSource
	receiver *tapioReceiver
	host     *statusHost
}

// newSetup connects a receiver to the given consumer of logs.
func newSetup(t *testing.T, next consumer.Logs, change func(*Config)) *setup {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Batch.Timeout = time.Millisecond
	if change != nil {
		change(cfg)
	}
	r, err := NewFactory().CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, next)
	require.NoError(t, err)
	s := &setup{source: &fakeSource{}, receiver: r.(*tapioReceiver), host: &statusHost{}}
	s.receiver.status.grace = 0
	s.receiver.openSource = func(*Config, receiver.Settings) (source.Source, error) { return s.source, nil }
	require.NoError(t, r.Start(t.Context(), s.host))
	t.Cleanup(func() { require.NoError(t, r.Shutdown(context.Background())) })
	return s
}

func (s *setup) row(t *testing.T) LedgerRow {
	t.Helper()
	row := s.receiver.stats().Ledger["process"]
	sum := row.Exported + row.Aggregated + row.Filtered + row.InFlight
	for _, n := range row.Lost {
		sum += n
	}
	require.Equal(t, row.Seen, sum, "the ledger is closed")
	return row
}

func (s *setup) awaitRow(t *testing.T, condition func(LedgerRow) bool) LedgerRow {
	t.Helper()
	require.Eventually(t, func() bool { return condition(s.row(t)) }, patience, time.Millisecond)
	return s.row(t)
}

// statusHost remembers what components reported, and may have extensions.
type statusHost struct {
	mu         sync.Mutex
	events     []*componentstatus.Event
	extensions map[component.ID]component.Component
}

func (h *statusHost) GetExtensions() map[component.ID]component.Component { return h.extensions }

func (h *statusHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *statusHost) statuses() (found []componentstatus.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, event := range h.events {
		found = append(found, event.Status())
	}
	return found
}

func TestOneReceiverForAllSignals(t *testing.T) {
	factory, cfg, set := NewFactory(), createDefaultConfig(), receivertest.NewNopSettings(metadata.Type)
	logs, err := factory.CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	traces, err := factory.CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	metrics, err := factory.CreateMetrics(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.Same(t, logs, traces)
	assert.Same(t, logs, metrics)

	require.NoError(t, logs.Shutdown(t.Context()))
	again, err := factory.CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.NotSame(t, logs, again, "a receiver that was shut down is not used again")
	require.NoError(t, again.Shutdown(t.Context()))
}

func TestStartOnceForAllSignals(t *testing.T) {
	opened := 0
	s := newSetup(t, consumertest.NewNop(), nil)
	s.receiver.openSource = func(*Config, receiver.Settings) (source.Source, error) {
		opened++
		return s.source, nil
	}
	require.NoError(t, s.receiver.Start(t.Context(), s.host))
	assert.Zero(t, opened)
}

// The collector makes the components anew from the same configuration when it is told to reload it.
func TestReceiversOfOneConfigurationOneAfterTheOther(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	set := receivertest.NewNopSettings(metadata.Type)
	var before component.Component
	for range 2 {
		traces, err := NewFactory().CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
		require.NoError(t, err)
		metrics, err := NewFactory().CreateMetrics(t.Context(), set, cfg, consumertest.NewNop())
		require.NoError(t, err)
		logs, err := NewFactory().CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
		require.NoError(t, err)
		assert.Same(t, traces, metrics)
		assert.Same(t, traces, logs)
		assert.False(t, before == component.Component(traces), "a new one")
		before = traces
		events := &fakeSource{}
		traces.(*tapioReceiver).openSource = func(*Config, receiver.Settings) (source.Source, error) { return events, nil }
		for _, signal := range []component.Component{traces, metrics, logs} {
			require.NoError(t, signal.Start(t.Context(), componenttest.NewNopHost()))
		}
		events.give(3)
		require.Eventually(t, func() bool { return traces.(*tapioReceiver).stats().Ledger["process"].Exported == 3 }, patience, time.Millisecond)
		for _, signal := range []component.Component{traces, metrics, logs} {
			require.NoError(t, signal.Shutdown(t.Context()))
		}
		assert.True(t, events.closed)
	}
}

func TestStartErrorReachesEverySignal(t *testing.T) {
	r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config))
	require.NoError(t, err)
	want := errors.New("no eBPF here")
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return nil, want }
	require.ErrorIs(t, r.Start(t.Context(), componenttest.NewNopHost()), want)
	require.ErrorIs(t, r.Start(t.Context(), componenttest.NewNopHost()), want)
	require.NoError(t, r.Shutdown(t.Context()))
}

// brittleSource is of no use when it is closed, as the kernel's maps are.
type brittleSource struct{ fakeSource }

func (b *brittleSource) Counters() (map[uint8]source.Counters, error) {
	if b.wasClosed() {
		panic("a source that is closed was asked")
	}
	return b.fakeSource.Counters()
}

func (b *brittleSource) Capabilities() []source.Capability {
	if b.wasClosed() {
		panic("a source that is closed was asked")
	}
	return b.fakeSource.Capabilities()
}

func (f *fakeSource) wasClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// The collector reads its own metrics for the last time after a start that failed.
func TestMetricsAfterAFailedStart(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	cfg := createDefaultConfig().(*Config)
	withKubernetes(filepath.Join(t.TempDir(), "none"))(cfg)
	r, err := newReceiver(metadatatest.NewSettings(telemetry), cfg)
	require.NoError(t, err)
	events := &brittleSource{}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return events, nil }
	require.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "kubernetes: ")
	assert.True(t, events.wasClosed())
	var all metricdata.ResourceMetrics
	require.NotPanics(t, func() { require.NoError(t, telemetry.Reader.Collect(t.Context(), &all)) })
	assert.Empty(t, all.ScopeMetrics)
	require.NoError(t, r.Shutdown(t.Context()))
}

// Who gives up waiting for the start must not be left with programs in the kernel.
func TestStartIsCancelled(t *testing.T) {
	for _, during := range []bool{false, true} {
		t.Run(fmt.Sprint("during ", during), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config))
			require.NoError(t, err)
			events, opened := &fakeSource{}, false
			r.openSource = func(*Config, receiver.Settings) (source.Source, error) {
				opened = true
				cancel()
				return events, nil
			}
			if !during {
				cancel()
			}
			require.ErrorIs(t, r.Start(ctx, componenttest.NewNopHost()), context.Canceled)
			assert.Equal(t, during, opened)
			assert.Equal(t, during, events.wasClosed())
			require.NoError(t, r.Shutdown(t.Context()))
		})
	}
}

// What was shut down must not seem to run again.
func TestNoStartAfterShutdown(t *testing.T) {
	for _, started := range []bool{false, true} {
		t.Run(fmt.Sprint("started ", started), func(t *testing.T) {
			r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config))
			require.NoError(t, err)
			opened := 0
			r.openSource = func(*Config, receiver.Settings) (source.Source, error) {
				opened++
				return &fakeSource{}, nil
			}
			if started {
				require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
			}
			require.NoError(t, r.Shutdown(t.Context()))
			before := opened
			require.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "was shut down")
			assert.Equal(t, before, opened, "nothing is opened that nobody would close")
			require.NoError(t, r.Shutdown(t.Context()))
		})
	}
}

// A Go program that makes two receivers of one configuration is told so: all data would go to the second one's consumer.
func TestOneConsumerForEachSignal(t *testing.T) {
	factory, cfg, set := NewFactory(), createDefaultConfig().(*Config), receivertest.NewNopSettings(metadata.Type)
	logs, err := factory.CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	_, err = factory.CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	_, err = NewFactory().CreateLogs(t.Context(), set, cfg, &consumertest.LogsSink{})
	require.ErrorContains(t, err, "has a consumer of this signal already")
	require.ErrorContains(t, err, "by CreateDefaultConfig")
	_, err = factory.CreateTraces(t.Context(), set, cfg, &consumertest.TracesSink{})
	require.Error(t, err)

	logs.(*tapioReceiver).openSource = func(*Config, receiver.Settings) (source.Source, error) { return &fakeSource{}, nil }
	require.NoError(t, logs.Start(t.Context(), componenttest.NewNopHost()))
	_, err = factory.CreateMetrics(t.Context(), set, cfg, consumertest.NewNop())
	require.ErrorContains(t, err, "runs already")
	require.NoError(t, logs.Shutdown(t.Context()))

	again, err := factory.CreateMetrics(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, again.Shutdown(t.Context()))
}

// Each has its own events, though they are in one process.
func TestTwoReceivers(t *testing.T) {
	first, second := &consumertest.LogsSink{}, &consumertest.LogsSink{}
	one, two := newSetup(t, first, nil), newSetup(t, second, nil)
	one.source.give(3)
	two.source.give(5)
	one.awaitRow(t, func(r LedgerRow) bool { return r.Exported == 3 })
	two.awaitRow(t, func(r LedgerRow) bool { return r.Exported == 5 })
	assert.Equal(t, 3, first.LogRecordCount())
	assert.Equal(t, 5, second.LogRecordCount())
	require.NoError(t, one.receiver.Shutdown(t.Context()))
	two.source.give(1)
	two.awaitRow(t, func(r LedgerRow) bool { return r.Exported == 6 })
}

func TestEveryEventIsExported(t *testing.T) {
	sink := &consumertest.LogsSink{}
	s := newSetup(t, sink, func(c *Config) { c.Batch.MaxEvents = 7 })
	s.source.give(100)
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.Exported == 100 })
	assert.Equal(t, LedgerRow{Seen: 100, Exported: 100, Lost: map[string]uint64{}}, row)
	assert.Equal(t, 100, sink.LogRecordCount())
	for _, batch := range sink.AllLogs() {
		assert.LessOrEqual(t, batch.LogRecordCount(), 7)
	}
}

func TestRingFullIsInTheLedger(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), nil)
	s.source.mu.Lock()
	s.source.seen, s.source.ringFull = 5, 5
	s.source.mu.Unlock()
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == 5 })
	assert.Equal(t, map[string]uint64{"ring_full": 5}, row.Lost)
}

func TestUndecodableIsInTheLedger(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), nil)
	s.source.mu.Lock() // until they are cut off, as the reader is waiting for them
	for range 3 {
		s.source.seen++
		s.source.waiting = append(s.source.waiting, execRecord(uint32(s.source.seen) + 1)[:50])
	}
	s.source.mu.Unlock()
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == 3 && r.InFlight == 0 })
	assert.Equal(t, map[string]uint64{"undecodable": 3}, row.Lost)
}

func TestRefusedIsInTheLedgerAndInTheStatus(t *testing.T) {
	refuse := true
	var mu sync.Mutex
	next, err := consumer.NewLogs(func(context.Context, plog.Logs) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse {
			return consumererror.NewPermanent(errors.New("not this"))
		}
		return nil
	})
	require.NoError(t, err)
	s := newSetup(t, next, nil)
	s.source.give(4)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Lost["refused"] == 4 })
	mu.Lock()
	refuse = false
	mu.Unlock()
	s.source.give(2)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Exported == 2 })
	assert.Eventually(t, func() bool {
		return slices.Equal(s.host.statuses(), []componentstatus.Status{componentstatus.StatusOK, componentstatus.StatusRecoverableError, componentstatus.StatusOK})
	}, patience, time.Millisecond)
}

// TestWhatIsNotOfferedIsNotTaken: a batch without log records says nothing of whether these are refused still.
func TestWhatIsNotOfferedIsNotTaken(t *testing.T) {
	s := newSetup(t, consumertest.NewErr(consumererror.NewPermanent(errors.New("not this"))), nil)
	s.source.give(1)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Lost["refused"] == 1 })
	want := []componentstatus.Status{componentstatus.StatusOK, componentstatus.StatusRecoverableError}
	require.Eventually(t, func() bool { return slices.Equal(s.host.statuses(), want) }, patience, time.Millisecond)
	s.receiver.sender.deliver(&parcel{batch: &translate.Batch{Traces: ptrace.NewTraces(), Logs: plog.NewLogs()}})
	assert.Equal(t, want, s.host.statuses())
}

func TestTemporaryRefusalIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		patience time.Duration
		want     LedgerRow
	}{
		{time.Minute, LedgerRow{Seen: 4, Exported: 4, Lost: map[string]uint64{}}},
		{0, LedgerRow{Seen: 4, Lost: map[string]uint64{"refused": 4}}},
	} {
		var calls atomic.Int64
		next, err := consumer.NewLogs(func(context.Context, plog.Logs) error {
			if calls.Add(1) <= 2 {
				return errors.New("no room now")
			}
			return nil
		})
		require.NoError(t, err)
		s := newSetup(t, next, func(c2 *Config) { c2.Batch.RetryTimeout = c.patience })
		s.source.give(4)
		assert.Equal(t, c.want, s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == 4 && r.InFlight == 0 }))
	}
}

// mutatingConsumer changes what it is given, and refuses it a few times first.
type mutatingConsumer struct {
	consumertest.LogsSink
	refusals int
}

func (*mutatingConsumer) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

func (c *mutatingConsumer) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	for _, record := range allRecords(logs) {
		record.SetEventName(record.EventName() + "+")
	}
	if c.refusals--; c.refusals >= 0 {
		return errors.New("no room now")
	}
	return c.LogsSink.ConsumeLogs(ctx, logs)
}

func TestWhatIsOfferedAgainIsUnchanged(t *testing.T) {
	next := &mutatingConsumer{refusals: 3}
	s := newSetup(t, next, func(c *Config) { c.Batch.RetryTimeout = time.Minute })
	s.source.give(2)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Exported == 2 })
	for _, record := range allRecords(next.AllLogs()[0]) {
		assert.Equal(t, "tapio.process.exec+", record.EventName())
	}
}

func TestMetricsDoNotWaitForLogs(t *testing.T) {
	logs := &blockingConsumer{Consumer: consumertest.NewNop(), release: make(chan struct{})}
	metrics := &consumertest.MetricsSink{}
	cfg := createDefaultConfig().(*Config)
	cfg.Batch.MaxEvents, cfg.Metrics.Interval = 1, 100*time.Millisecond
	r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	r.next = consumers{logs: logs, metrics: metrics}
	fake := &fakeSource{}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	fake.give(20)
	assert.Eventually(t, func() bool { return len(metrics.AllMetrics()) >= 3 }, patience, time.Millisecond)
	close(logs.release)
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestRetryEndsWhenTheQueueFills(t *testing.T) {
	next, err := consumer.NewLogs(func(context.Context, plog.Logs) error { return errors.New("never") })
	require.NoError(t, err)
	s := newSetup(t, next, func(c *Config) { c.Batch.MaxEvents, c.Batch.QueueSize, c.Batch.RetryTimeout = 1, 4, 10*time.Minute })
	s.source.give(20)
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.InFlight <= 3 })
	assert.Positive(t, row.Lost["refused"])
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.NoError(t, s.receiver.Shutdown(ctx))
}

// contractFactory gives each log record and span the id that the contract's checker looks for: the
// pid.
func contractFactory(fake *fakeSource) receiver.Factory {
	open := func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
	return receiver.NewFactory(metadata.Type, createDefaultConfig,
		receiver.WithLogs(func(ctx context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			named, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
				for _, record := range allRecords(logs) {
					nameByPID(record.Attributes())
				}
				return next.ConsumeLogs(ctx, logs)
			})
			if err != nil {
				return nil, err
			}
			r, err := createLogs(ctx, set, cfg, named)
			r.(*tapioReceiver).openSource = open
			return r, err
		}, metadata.LogsStability),
		receiver.WithTraces(func(ctx context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
			named, err := consumer.NewTraces(func(ctx context.Context, traces ptrace.Traces) error {
				for _, r := range traces.ResourceSpans().All() {
					for _, span := range r.ScopeSpans().At(0).Spans().All() {
						nameByPID(span.Attributes())
					}
				}
				return next.ConsumeTraces(ctx, traces)
			})
			if err != nil {
				return nil, err
			}
			r, err := createTraces(ctx, set, cfg, named)
			r.(*tapioReceiver).openSource = open
			return r, err
		}, metadata.TracesStability))
}

func nameByPID(attributes pcommon.Map) {
	pid, _ := attributes.Get("process.pid")
	attributes.PutStr(receivertest.UniqueIDAttrName, strconv.FormatInt(pid.Int(), 10))
}

func allRecords(logs plog.Logs) (all []plog.LogRecord) {
	for _, r := range logs.ResourceLogs().All() {
		for _, s := range r.ScopeLogs().All() {
			for _, record := range s.LogRecords().All() {
				all = append(all, record)
			}
		}
	}
	return all
}

// generator makes a process a call.
type generator struct{ give func() (pid uint32) }

func (generator) Start() {}
func (generator) Stop()  {}
func (g generator) Generate() []receivertest.UniqueIDAttrVal {
	return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(strconv.Itoa(int(g.give())))}
}

func TestConsumeContract(t *testing.T) {
	for _, c := range []struct {
		signal pipeline.Signal
		give   func(*fakeSource) uint32
	}{
		{pipeline.SignalLogs, func(f *fakeSource) uint32 { return f.give(1) }},
		{pipeline.SignalTraces, (*fakeSource).giveLife},
	} {
		t.Run(c.signal.String(), func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			cfg.Batch.Timeout, cfg.Batch.RetryTimeout = time.Millisecond, time.Minute
			fake := &fakeSource{}
			receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
				T: t, Factory: contractFactory(fake), Signal: c.signal, Config: cfg, GenerateCount: 100,
				Generator: generator{func() uint32 { return c.give(fake) }},
			})
		})
	}
}

// blockingConsumer holds every batch until it is let go, or its context ends.
type blockingConsumer struct {
	consumertest.Consumer
	release chan struct{}
	heedful bool
}

func (c *blockingConsumer) ConsumeLogs(ctx context.Context, _ plog.Logs) error {
	if !c.heedful {
		<-c.release
		return nil
	}
	select {
	case <-c.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestSlowConsumerFillsTheQueue(t *testing.T) {
	next := &blockingConsumer{Consumer: consumertest.NewNop(), release: make(chan struct{})}
	s := newSetup(t, next, func(c *Config) { c.Batch.QueueSize, c.Batch.MaxEvents = 2, 1 })
	s.source.give(10)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Lost["queue_full"] >= 7 && r.InFlight <= 3 })
	close(next.release)
	row := s.awaitRow(t, func(r LedgerRow) bool { return r.InFlight == 0 })
	assert.EqualValues(t, 10, row.Exported+row.Lost["queue_full"])
}

func TestShutdownHandsOverWhatIsThere(t *testing.T) {
	sink := &consumertest.LogsSink{}
	s := newSetup(t, sink, func(c *Config) { c.Batch.Timeout = time.Hour; c.Batch.MaxEvents = 1 << 20 })
	s.source.give(1000)
	require.NoError(t, s.receiver.Shutdown(t.Context()))
	assert.Equal(t, 1000, sink.LogRecordCount())
	assert.True(t, s.source.closed)
	require.NoError(t, s.receiver.Shutdown(t.Context()), "twice does no harm")
}

func TestShutdownDoesNotWaitForever(t *testing.T) {
	for _, heedful := range []bool{true, false} {
		next := &blockingConsumer{Consumer: consumertest.NewNop(), release: make(chan struct{}), heedful: heedful}
		s := newSetup(t, next, func(c *Config) { c.Batch.MaxEvents = 1 })
		s.source.give(5)
		s.awaitRow(t, func(r LedgerRow) bool { return r.InFlight == 5 })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.NoError(t, s.receiver.Shutdown(ctx))
		rows, err := s.receiver.ledger.Rows(s.source.Counters)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, rows[1].Lost["shutdown"], uint64(4))
		assert.EqualValues(t, 5, rows[1].Lost["shutdown"]+rows[1].InFlight)
		close(next.release)
	}
}

func TestReadErrorIsFatal(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), nil)
	s.source.failReading()
	require.Eventually(t, func() bool { return slices.Contains(s.host.statuses(), componentstatus.StatusFatalError) }, patience, time.Millisecond)
	stats := s.receiver.stats()
	assert.False(t, stats.Ready)
	assert.Contains(t, stats.Reason, "ring is gone")
	assert.True(t, s.source.wasStopped(), "nothing more is made")
	assert.ErrorContains(t, s.receiver.Shutdown(t.Context()), "ring is gone", "the collector's exit code is that of its shutdown")
	assert.NoError(t, s.receiver.Shutdown(t.Context()), "it is said once")
}

// collectorStatus is how the collector takes statuses: one at a time, and whoever tells a fatal error waits until it takes that.
type collectorStatus struct {
	mu    sync.Mutex
	fatal chan error
}

// instanceHost is that of one signal's instance.
type instanceHost struct {
	statusHost
	collector *collectorStatus
}

func (h *instanceHost) Report(event *componentstatus.Event) {
	h.collector.mu.Lock()
	defer h.collector.mu.Unlock()
	h.statusHost.Report(event)
	if event.Status() == componentstatus.StatusFatalError {
		h.collector.fatal <- event.Err()
	}
}

// startThree instances of one receiver.
func startThree(t *testing.T, grace time.Duration) (r *tapioReceiver, from *fakeSource, hosts [3]*instanceHost) {
	t.Helper()
	r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config))
	require.NoError(t, err)
	r.next = consumers{traces: consumertest.NewNop(), metrics: consumertest.NewNop(), logs: consumertest.NewNop()}
	r.status.grace = grace
	from = &fakeSource{}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return from, nil }
	collector := &collectorStatus{fatal: make(chan error)}
	for i := range hosts {
		hosts[i] = &instanceHost{collector: collector}
		require.NoError(t, r.Start(t.Context(), hosts[i]))
	}
	return r, from, hosts
}

func (f *fakeSource) failReading() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readErr = errors.New("ring is gone")
}

// TestACollectorCanEndForAFailure: it takes one fatal error, and then needs the statuses itself.
func TestACollectorCanEndForAFailure(t *testing.T) {
	r, from, hosts := startThree(t, 0)
	from.failReading()
	select {
	case err := <-hosts[0].collector.fatal:
		assert.ErrorContains(t, err, "ring is gone")
	case <-time.After(patience):
		t.Fatal("the collector was not told")
	}
	ended := make(chan error)
	go func() {
		for _, host := range hosts {
			host.Report(componentstatus.NewEvent(componentstatus.StatusStopping))
		}
		ended <- r.Shutdown(context.Background())
	}()
	select {
	case err := <-ended:
		assert.ErrorContains(t, err, "ring is gone")
	case <-time.After(patience):
		t.Fatal("the collector cannot end")
	}
	assert.Contains(t, hosts[0].statuses(), componentstatus.StatusFatalError)
	for _, host := range hosts[1:] {
		assert.Contains(t, host.statuses(), componentstatus.StatusPermanentError)
		assert.NotContains(t, host.statuses(), componentstatus.StatusFatalError)
	}
}

// TestNothingIsFatalWhileOthersStart, nor at the end: the collector would not take it. Then the shutdown has the error.
func TestNothingIsFatalWhileOthersStart(t *testing.T) {
	r, from, hosts := startThree(t, time.Hour)
	from.failReading()
	require.Eventually(t, func() bool { return slices.Contains(hosts[1].statuses(), componentstatus.StatusPermanentError) }, patience, time.Millisecond)
	assert.ErrorContains(t, r.Shutdown(t.Context()), "ring is gone")
	assert.NotContains(t, hosts[0].statuses(), componentstatus.StatusFatalError)
}

func TestAFailureAtTheEndIsOfTheShutdown(t *testing.T) {
	r, from, hosts := startThree(t, 0)
	from.mu.Lock()
	r.ended.Store(true)
	r.status.end()
	from.readErr = errors.New("ring is gone")
	from.mu.Unlock()
	assert.ErrorContains(t, r.Shutdown(t.Context()), "ring is gone")
	assert.NotContains(t, hosts[0].statuses(), componentstatus.StatusFatalError)
}

func TestAFailureLeavesNothingInFlight(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), func(c *Config) { c.Batch.Timeout = time.Hour })
	s.source.failReading()
	s.source.give(5)
	s.awaitRow(t, func(r LedgerRow) bool { return r.Seen == 5 })
	require.Eventually(t, func() bool { return slices.Contains(s.host.statuses(), componentstatus.StatusFatalError) }, patience, time.Millisecond)
	require.Error(t, s.receiver.Shutdown(t.Context()))
	row := ledgerOf(t, s)
	assert.Zero(t, row.InFlight)
	assert.EqualValues(t, 5, row.Exported+row.Lost["shutdown"])
}

// TestAFailureSendsTheLastMetrics: what was counted since the interval before is in them.
func TestAFailureSendsTheLastMetrics(t *testing.T) {
	metrics := &consumertest.MetricsSink{}
	cfg := createDefaultConfig().(*Config)
	cfg.Metrics.Interval = time.Hour
	r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	r.next, r.status.grace = consumers{metrics: metrics}, 0
	fake, host := &fakeSource{}, &statusHost{}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
	require.NoError(t, r.Start(t.Context(), host))
	fake.mu.Lock()
	for pid := range uint32(5) {
		record := execRecord(pid + 1)
		binary.LittleEndian.PutUint64(record[unsafe.Offsetof(bpf.WireEventHeader{}.Time):], fake.Boot()) // no series is old
		fake.waiting = append(fake.waiting, record)
	}
	fake.seen, fake.readErr = 5, errors.New("ring is gone")
	fake.mu.Unlock()
	require.Eventually(t, func() bool { return slices.Contains(host.statuses(), componentstatus.StatusFatalError) }, patience, time.Millisecond)
	require.Error(t, r.Shutdown(t.Context()))
	assert.EqualValues(t, 5, sumOf(metrics, "tapio.process.executions"))
}

// sumOf the points of a metric in the newest round.
func sumOf(metrics *consumertest.MetricsSink, name string) (sum int64) {
	rounds := metrics.AllMetrics()
	if len(rounds) == 0 {
		return 0
	}
	for _, resource := range rounds[len(rounds)-1].ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() != name {
					continue
				}
				for _, point := range metric.Sum().DataPoints().All() {
					sum += point.IntValue()
				}
			}
		}
	}
	return sum
}

func ledgerOf(t *testing.T, s *setup) ledger.Row {
	t.Helper()
	rows, err := s.receiver.ledger.Rows(s.source.Counters)
	require.NoError(t, err)
	return rows[1]
}

func TestEverySignalsInstanceHearsTheStatus(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), nil)
	other := &statusHost{}
	require.NoError(t, s.receiver.Start(t.Context(), other))
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusOK}, other.statuses())
}

func TestStatusOfSeveralSignals(t *testing.T) {
	host := &statusHost{}
	var s status
	s.add(host)
	refusal := errors.New("no")
	s.consumed(pipeline.SignalLogs, refusal)
	s.consumed(pipeline.SignalMetrics, nil)
	s.consumed(pipeline.SignalLogs, refusal)
	s.consumed(pipeline.SignalLogs, nil)
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}, host.statuses())
}

func TestOptionsOfTheKernel(t *testing.T) {
	security := defaultSecurity()
	all := kernel.Options{
		Security: security.kernelOptions(),
		Families: []string{"process", "network", "dns", "http", "security"}, RingSize: 8 << 20, FlushInterval: 50 * time.Millisecond,
		MaxArgumentBytes: 1024, ReportInterval: time.Minute, RateLimits: map[string]uint64{}, TLSHandshakes: true, DNSPorts: []uint16{53}, DNSTimeout: 5 * time.Second, MaxInFlight: 4096, Causes: true,
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   func(*kernel.Options)
	}{
		{"default", func(*Config) {}, func(*kernel.Options) {}},
		{"scope", func(c *Config) { c.Scope.Cgroups = []string{"/a"} }, func(o *kernel.Options) { o.Cgroups = []string{"/a"} }},
		{"no arguments", func(c *Config) { c.Families.Process.Get().Arguments = false }, func(o *kernel.Options) { o.MaxArgumentBytes = 0 }},
		{"few arguments", func(c *Config) { c.Families.Process.Get().MaxArgumentBytes = 5 }, func(o *kernel.Options) { o.MaxArgumentBytes = 5 }},
		{"no causes", func(c *Config) { c.Correlation.InProcess = false }, func(o *kernel.Options) { o.Causes = false }},
		{"interval", func(c *Config) { c.Families.Network.Get().ReportInterval = time.Hour }, func(o *kernel.Options) { o.ReportInterval = time.Hour }},
		{"no handshakes", func(c *Config) { c.Families.Network.Get().TLSHandshakes = false }, func(o *kernel.Options) { o.TLSHandshakes = false }},
		{"no process", func(c *Config) { c.Families.Process = configoptional.None[ProcessConfig]() }, func(o *kernel.Options) {
			o.Families, o.MaxArgumentBytes = []string{"network", "dns", "http", "security"}, 0
		}},
		{"no network", func(c *Config) { c.Families.Network = configoptional.None[NetworkConfig]() }, func(o *kernel.Options) {
			o.Families = []string{"process", "dns", "http", "security"} // sockets are visited all the same
			o.TLSHandshakes = false
		}},
		{"no dns", func(c *Config) { c.Families.DNS = configoptional.None[DNSConfig]() }, func(o *kernel.Options) {
			o.Families, o.DNSPorts, o.DNSTimeout = []string{"process", "network", "http", "security"}, nil, 0
		}},
		{"dns ports", func(c *Config) { c.Families.DNS.Get().Ports = []int{53, 5353} }, func(o *kernel.Options) { o.DNSPorts = []uint16{53, 5353} }},
		{"no http", func(c *Config) { c.Families.HTTP = configoptional.None[HTTPConfig]() }, func(o *kernel.Options) {
			o.Families, o.MaxInFlight = []string{"process", "network", "dns", "security"}, 0
			o.Causes = false
		}},
		{"no security", func(c *Config) { c.Families.Security = configoptional.None[SecurityConfig]() }, func(o *kernel.Options) {
			o.Families, o.Security = []string{"process", "network", "dns", "http"}, kernel.SecurityOptions{}
		}},
		{"DNS timeout", func(c *Config) { c.Families.DNS.Get().Timeout = time.Second }, func(o *kernel.Options) { o.DNSTimeout = time.Second }},
		{"rate limits", func(c *Config) {
			c.RateLimits = RateLimitsConfig{Process: 1, Network: 2, DNS: 3, HTTP: 4, Security: 5, Etcd: 6}
		}, func(o *kernel.Options) {
			o.RateLimits = map[string]uint64{"process": 1, "network": 2, "dns": 3, "http": 4, "security": 5, "etcd": 6}
		}},
		{"one rate limit", func(c *Config) { c.RateLimits.HTTP = 1000 }, func(o *kernel.Options) { o.RateLimits = map[string]uint64{"http": 1000} }},
		{"exchanges", func(c *Config) { c.Families.HTTP.Get().MaxInFlight = 64 }, func(o *kernel.Options) { o.MaxInFlight = 64 }},
		{"request headers are always there", func(c *Config) { c.Families.HTTP.Get().Headers.Request = []string{"a"} }, func(*kernel.Options) {}},
		{"response headers", func(c *Config) { c.Families.HTTP.Get().Headers.Response = []string{"a"} }, func(o *kernel.Options) { o.ResponseHeads = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, want := createDefaultConfig().(*Config), all
			c.change(cfg)
			c.want(&want)
			assert.Equal(t, want, optionsOf(cfg))
		})
	}
}

type fakeRegistry struct {
	component.StartFunc
	component.ShutdownFunc
	stats        func() Stats
	unregistered bool
}

func (f *fakeRegistry) RegisterStats(_ component.ID, stats func() Stats) func() {
	f.stats = stats
	return func() { f.unregistered = true }
}

func TestStatsReachTheExtension(t *testing.T) {
	registry := &fakeRegistry{}
	r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config))
	require.NoError(t, err)
	r.next.logs = consumertest.NewNop()
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return &fakeSource{}, nil }
	another := &fakeRegistry{} // such as one for probes
	host := &statusHost{extensions: map[component.ID]component.Component{
		component.MustNewID("tapio"): registry, component.MustNewIDWithName("tapio", "probes"): another,
	}}
	require.NoError(t, r.Start(t.Context(), host))
	assert.True(t, another.stats().Ready)
	stats := registry.stats()
	assert.Equal(t, "ebpf", stats.Source)
	assert.True(t, stats.Ready)
	assert.Equal(t, []Capability{
		{Family: "process", Hook: "tp_btf/sched_process_exec", State: "attached", MissedRuns: 7},
		{Family: "security", Hook: "fexit/path_mount", State: "unsupported", Reason: "no fentry"},
		{Family: "security", Hook: "fexit/path_mount", State: "unsupported", Reason: "no fexit either"},
	}, stats.Capabilities)
	require.NoError(t, r.Shutdown(t.Context()))
	assert.True(t, registry.unregistered && another.unregistered)
}

func TestEventsMetric(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	set := metadatatest.NewSettings(telemetry)
	r, err := newReceiver(set, createDefaultConfig().(*Config))
	require.NoError(t, err)
	r.next.logs = consumertest.NewNop()
	fake := &fakeSource{}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	fake.give(3)
	require.Eventually(t, func() bool { return r.stats().Ledger["process"].Exported == 3 }, patience, time.Millisecond)
	point := func(fate string, n int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Value: n, Attributes: attribute.NewSet(attribute.String("family", "process"), attribute.String("fate", fate))}
	}
	metadatatest.AssertEqualReceiverTapioebpfEvents(t, telemetry,
		[]metricdata.DataPoint[int64]{point("exported", 3), point("aggregated", 0), point("filtered", 0)},
		metricdatatest.IgnoreTimestamp())
	metadatatest.AssertEqualReceiverTapioebpfMissedRuns(t, telemetry, []metricdata.DataPoint[int64]{{
		Value: 7, Attributes: attribute.NewSet(attribute.String("family", "process"), attribute.String("hook", "tp_btf/sched_process_exec")),
	}}, metricdatatest.IgnoreTimestamp())
	hooks := func(n int64, family, hook, state string) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Value: n, Attributes: attribute.NewSet(
			attribute.String("family", family), attribute.String("hook", hook), attribute.String("state", state))}
	}
	metadatatest.AssertEqualReceiverTapioebpfHooks(t, telemetry, []metricdata.DataPoint[int64]{
		hooks(1, "process", "tp_btf/sched_process_exec", "attached"), hooks(2, "security", "fexit/path_mount", "unsupported"),
	}, metricdatatest.IgnoreTimestamp())
	require.NoError(t, r.Shutdown(t.Context()))
}

// A cgroup of a pod's container, older than the source.
const (
	podCgroup = 7
	podPath   = "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/3f4e5d6c7b8a99a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778a"
)

// lateNames know the pod from some time on.
type lateNames struct {
	version atomic.Uint64
}

func (*lateNames) Pod(string) *kube.Pod { return nil }
func (n *lateNames) Container(id string) (*kube.Pod, *kube.Container) {
	if n.version.Load() == 0 {
		return nil, nil
	}
	pod := &kube.Pod{Name: "web-1", Containers: []kube.Container{{ID: id, Name: "nginx"}}}
	return pod, &pod.Containers[0]
}
func (*lateNames) Peer(netip.Addr) kube.Peer { return kube.Peer{} }
func (n *lateNames) Version() uint64         { return n.version.Load() }
func (*lateNames) Changes(func(string)) bool { return true }

// giveInPod makes n executions happen in the pod.
func (f *fakeSource) giveInPod(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.seen++
		record := execRecord(uint32(f.seen) + 1)
		(*bpf.WireEventHeader)(unsafe.Pointer(&record[0])).CgroupId = podCgroup
		f.waiting = append(f.waiting, record)
	}
}

func TestEventsWaitForTheirPod(t *testing.T) {
	for _, tt := range []struct {
		name           string
		end            func(*tapioReceiver, *lateNames)
		named, unnamed int64
	}{
		{"which becomes known", func(_ *tapioReceiver, names *lateNames) { names.version.Add(1) }, 3, 0},
		{"until the end", func(r *tapioReceiver, _ *lateNames) { require.NoError(t, r.Shutdown(context.Background())) }, 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			telemetry := componenttest.NewTelemetry()
			t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
			cfg := createDefaultConfig().(*Config)
			cfg.Identity.PodTimeout = time.Minute
			r, err := newReceiver(metadatatest.NewSettings(telemetry), cfg)
			require.NoError(t, err)
			sink, fake, names := &consumertest.LogsSink{}, &fakeSource{}, &lateNames{}
			r.next.logs, r.otherNames = sink, names
			r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
			require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
			t.Cleanup(func() { require.NoError(t, r.Shutdown(context.Background())) })
			fake.giveInPod(3)
			fake.give(1)
			require.Eventually(t, func() bool { return sink.LogRecordCount() == 1 }, patience, time.Millisecond, "what is in no pod")
			require.Eventually(t, func() bool { return r.stats().Ledger["process"].InFlight == 3 }, patience, time.Millisecond)

			tt.end(r, names)
			require.Eventually(t, func() bool { return sink.LogRecordCount() == 4 }, patience, time.Millisecond)
			require.Eventually(t, func() bool { return r.stats().Ledger["process"].Exported == 4 }, patience, time.Millisecond)
			assert.EqualValues(t, tt.named, r.naming.WaitedNamed.Load())
			assert.EqualValues(t, tt.unnamed, r.naming.WaitedUnnamed.Load())
			if tt.named == 0 {
				return // the telemetry has ended, too
			}
			point := func(outcome string, n int64) metricdata.DataPoint[int64] {
				return metricdata.DataPoint[int64]{Value: n, Attributes: attribute.NewSet(attribute.String("outcome", outcome))}
			}
			none := func(missing string) metricdata.DataPoint[int64] {
				return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(attribute.String("missing", missing))}
			}
			metadatatest.AssertEqualReceiverTapioebpfIdentityUnnamed(t, telemetry,
				[]metricdata.DataPoint[int64]{none("container"), none("pod")}, metricdatatest.IgnoreTimestamp())
			metadatatest.AssertEqualReceiverTapioebpfIdentityWaited(t, telemetry,
				[]metricdata.DataPoint[int64]{point("named", tt.named), point("pod_named", 0), point("unnamed", tt.unnamed)}, metricdatatest.IgnoreTimestamp())
		})
	}
}

func TestWhatCorrelationGaveUpIsMeasured(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	r, err := newReceiver(metadatatest.NewSettings(telemetry), createDefaultConfig().(*Config))
	require.NoError(t, err)
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return &fakeSource{}, nil }
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, r.Shutdown(context.Background())) })
	var want []metricdata.DataPoint[int64]
	for i, of := range []struct {
		limit string
		count *atomic.Uint64
	}{
		{"max_wait", &r.givenUp.MaxWait},
		{"max_held", &r.givenUp.MaxHeld},
		{"max_requests", &r.givenUp.MaxRequests},
		{"max_depth", &r.givenUp.MaxDepth},
		{"max_children", &r.givenUp.MaxChildren},
	} {
		of.count.Store(uint64(i + 1))
		want = append(want, metricdata.DataPoint[int64]{Value: int64(i + 1), Attributes: attribute.NewSet(attribute.String("limit", of.limit))})
	}
	metadatatest.AssertEqualReceiverTapioebpfCorrelationGivenUp(t, telemetry, want, metricdatatest.IgnoreTimestamp())
}

// What the kernel says of cgroups is in the ledger, and no event.
func TestCgroupsAreNoEvents(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), nil)
	s.source.mu.Lock()
	s.source.cgroups = 1
	s.source.waiting = append(s.source.waiting, eventtest.CgroupChange(event.TypeCgroupMade, bpf.WireCgroupChange{Header: bpf.WireEventHeader{CgroupId: 9}}, "/a", true))
	s.source.mu.Unlock()
	s.source.give(2)
	s.awaitRow(t, func(row LedgerRow) bool { return row.Exported == 2 })
	stats := s.receiver.stats()
	assert.Equal(t, LedgerRow{Seen: 1, Aggregated: 1, Lost: map[string]uint64{}}, stats.Ledger["cgroup"])
	assert.NotContains(t, stats.EventCounts, "cgroup")
	assert.EqualValues(t, 2, stats.TotalEvents)
}

func TestReadinessOfFamilies(t *testing.T) {
	for _, c := range []struct {
		name         string
		capabilities []Capability
		want         string
	}{
		{"all attached", []Capability{{Family: "process", Hook: "a", State: "attached"}}, ""},
		{"one denied, the family lives", []Capability{{Family: "process", Hook: "a", State: "attached"}, {Family: "process", Hook: "b", State: "denied"}}, ""},
		{"unsupported is reported, and that is all", []Capability{{Family: "process", Hook: "a", State: "unsupported"}}, ""},
		{"a family denied", []Capability{{Family: "process", Hook: "a", State: "attached"}, {Family: "network", Hook: "b", State: "denied", Reason: "no"}}, "family network has no hook: b is denied: no"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, deniedFamily(c.capabilities)) })
	}
}
