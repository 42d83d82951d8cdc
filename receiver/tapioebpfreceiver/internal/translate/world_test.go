// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	second   = uint64(1e9)
	bootTime = int64(1_700_000_000e9) // 2023-11-14T22:13:20Z
)

var allSignals = Signals{Traces: true, Metrics: true, Logs: true}

// world is a translator and what it works with. Process 1 is older than the source.
type world struct {
	*Translator
	index   *identity.Index
	account *ledger.Ledger
	naming  Naming
	handled int
	taken   int // events, in batches
}

func newWorld(signals Signals, seriesLimit int) *world {
	return newWorldWith(signals, seriesLimit, HTTPOptions{})
}

func newWorldWith(signals Signals, seriesLimit int, http HTTPOptions) *world {
	w := &world{account: &ledger.Ledger{}}
	w.index = identity.NewIndex(identity.Options{Resolver: nobodyKnown{}})
	w.index.Load([]source.Process{{PID: 1, UID: 0, Executable: "/sbin/init"}})
	describe := Describe{Source: "ebpf", HostName: "node", ScopeName: "scope", ScopeVersion: "1.2.3"}
	w.Translator = New(Options{
		Signals: signals, Describe: describe, Start: wallTime(0), SeriesLimit: seriesLimit, Processes: true, HTTP: http,
		DNSTimeout: 5 * time.Second,
	}, w.index, correlate.NewIDs(), w.account)
	w.SetBootTime(bootTime)
	return w
}

// nobodyKnown is a source that knows nothing.
type nobodyKnown struct{}

func (nobodyKnown) Process(uint32) (source.Process, bool) { return source.Process{}, false }
func (nobodyKnown) Cgroup(uint64, uint32) (string, bool)  { return "", false }

// wallTime is the time since 1970 of one since boot.
func wallTime(boot uint64) pcommon.Timestamp { return pcommon.Timestamp(bootTime + int64(boot)) }

func (w *world) handle(records ...[]byte) {
	for _, record := range records {
		view := eventtest.Aligned(record)
		_, summed, _ := event.SummedIn(view)
		w.handled += 1 + int(summed)
		w.Handle(view)
		clear(view) // it is valid only during the call
	}
}

// ended is how many events have come to their end, by fate.
func (w *world) ended(t testing.TB) ledger.Row {
	rows, err := w.account.Rows(func() (map[uint8]source.Counters, error) { return map[uint8]source.Counters{}, nil })
	require.NoError(t, err)
	sum := ledger.Row{Lost: map[string]uint64{}}
	for _, row := range rows {
		sum.Exported += row.Exported
		sum.Aggregated += row.Aggregated
		sum.Filtered += row.Filtered
		for reason, n := range row.Lost {
			sum.Lost[reason] += n
		}
	}
	return sum
}

// requireClosed says that every record is in the account, in the batch or held, and in one of these only.
func (w *world) requireClosed(t testing.TB) {
	t.Helper()
	sum := w.ended(t)
	total := sum.Exported + sum.Aggregated + sum.Filtered + uint64(w.Events()+w.Held()+w.taken)
	for _, n := range sum.Lost {
		total += n
	}
	require.EqualValues(t, w.handled, total)
}

// gotSpan is a span without its random ids.
type gotSpan struct {
	Resource, Attributes map[string]any
	Name                 string
	Kind                 ptrace.SpanKind
	Start, End           pcommon.Timestamp
	Status               ptrace.StatusCode
}

// gotLog is a log record without its random ids.
type gotLog struct {
	Resource, Attributes map[string]any
	Name                 string
	Time, Observed       pcommon.Timestamp
	Severity             plog.SeverityNumber
	SeverityText         string
	InTrace              bool // it has a trace context
}

type ids struct {
	trace pcommon.TraceID
	span  pcommon.SpanID
}

type output struct {
	spans           []gotSpan
	logs            []gotLog
	spanIDs, logIDs []ids
	parents         []pcommon.SpanID // of the spans
	counts          ledger.Counts
}

func (w *world) take(t testing.TB) output {
	batch := w.Take()
	if batch == nil {
		return output{}
	}
	w.taken += batch.Events
	out := output{counts: batch.Counts}
	for _, of := range batch.Traces.ResourceSpans().All() {
		requireScope(t, of.SchemaUrl(), of.ScopeSpans().At(0).SchemaUrl(), of.ScopeSpans().At(0).Scope())
		require.Equal(t, 1, of.ScopeSpans().Len())
		for _, span := range of.ScopeSpans().At(0).Spans().All() {
			out.spans = append(out.spans, gotSpan{
				Resource: of.Resource().Attributes().AsRaw(), Attributes: rawOf(t, span.Attributes()), Name: span.Name(),
				Kind: span.Kind(), Start: span.StartTimestamp(), End: span.EndTimestamp(), Status: span.Status().Code(),
			})
			out.spanIDs = append(out.spanIDs, ids{span.TraceID(), span.SpanID()})
			require.False(t, span.TraceID().IsEmpty())
			require.False(t, span.SpanID().IsEmpty())
			out.parents = append(out.parents, span.ParentSpanID())
		}
	}
	for _, of := range batch.Logs.ResourceLogs().All() {
		requireScope(t, of.SchemaUrl(), of.ScopeLogs().At(0).SchemaUrl(), of.ScopeLogs().At(0).Scope())
		require.Equal(t, 1, of.ScopeLogs().Len())
		for _, log := range of.ScopeLogs().At(0).LogRecords().All() {
			out.logs = append(out.logs, gotLog{
				Resource: of.Resource().Attributes().AsRaw(), Attributes: rawOf(t, log.Attributes()), Name: log.EventName(),
				Time: log.Timestamp(), Observed: log.ObservedTimestamp(), Severity: log.SeverityNumber(), SeverityText: log.SeverityText(),
				InTrace: !log.TraceID().IsEmpty(),
			})
			out.logIDs = append(out.logIDs, ids{log.TraceID(), log.SpanID()})
			require.Equal(t, log.TraceID().IsEmpty(), log.SpanID().IsEmpty())
		}
	}
	return out
}

// rawOf attributes, of which none may be there twice.
func rawOf(t testing.TB, attributes pcommon.Map) map[string]any {
	raw := attributes.AsRaw()
	require.Len(t, raw, attributes.Len())
	return raw
}

func requireScope(t testing.TB, schema, scopeSchema string, scope pcommon.InstrumentationScope) {
	require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", schema)
	require.Equal(t, schema, scopeSchema)
	require.Equal(t, "scope", scope.Name())
	require.Equal(t, "1.2.3", scope.Version())
}

// Records of process 10, which began a second after boot.

func headerOf(kind event.Type, pid uint32, since, at uint64) bpf.WireEventHeader {
	return bpf.WireEventHeader{Time: at, StartTime: since, CgroupId: 7, Pid: pid, Type: uint16(kind)}
}

func forkRecord(pid uint32, since uint64, parent uint32, parentSince uint64) []byte {
	return eventtest.Record(bpf.WireProcessFork{
		Header: headerOf(event.TypeProcessFork, pid, since, since),
		Process: bpf.WireProcessIdentity{
			ParentPid: parent, ParentStartTime: parentSince, Vpid: 5, Uid: 1000, Euid: 70000,
		},
	})
}

func execRecord(pid uint32, since, at uint64, flags uint16, exe, cwd string, arguments ...string) []byte {
	return eventtest.Exec(bpf.WireProcessExec{
		Header:  headerOf(event.TypeProcessExec, pid, since, at),
		Process: bpf.WireProcessIdentity{ParentPid: 1, Vpid: 5, Uid: 1000, Euid: 70000},
		Flags:   flags,
	}, exe, cwd, arguments...)
}

func curl(at uint64) []byte {
	return execRecord(10, second, at, 0, "/usr/bin/curl", "/srv", "curl", "https://u:p@h/")
}

func exitRecord(pid uint32, since, at uint64, status uint32) []byte {
	return eventtest.Record(bpf.WireProcessExit{
		Header: headerOf(event.TypeProcessExit, pid, since, at), Status: status,
		CpuTime: 1_500_000_000, PeakMemory: 4096, ReadBytes: 100, WrittenBytes: 200,
		Flags: event.ExitHasUsage | event.ExitHasIO,
	})
}

func oomKillRecord(pid uint32, since, at uint64) []byte {
	return eventtest.Record(bpf.WireProcessOomKill{Header: headerOf(event.TypeProcessOOMKill, pid, since, at)})
}

func tcpEnds(role uint8) bpf.WireConnectionEnds {
	return bpf.WireConnectionEnds{
		LocalAddress: eventtest.Address("10.0.0.1"), PeerAddress: eventtest.Address("10.0.0.2"),
		LocalPort: 40000, PeerPort: 443, Protocol: event.ProtocolTCP, Role: role, Netns: 9,
	}
}

func connectRecord(pid uint32, opened, at uint64, errno int32) []byte {
	return eventtest.Record(bpf.WireConnectionConnect{
		Header: headerOf(event.TypeConnectionConnect, pid, second, at), Ends: tcpEnds(event.RoleClient), Opened: opened, Error: errno,
	})
}

// statsRecord is one of process 10 with a TCP connection's numbers; change makes another of it.
func statsRecord(kind event.Type, at uint64, change func(*bpf.WireConnectionStats)) []byte {
	e := bpf.WireConnectionStats{
		Header: headerOf(kind, 10, second, at), Ends: tcpEnds(event.RoleClient), Opened: at - second,
		SentBytes: 1000, ReceivedBytes: 2000, SentPackets: 11, ReceivedPackets: 12, SentBytesDelta: 10, ReceivedBytesDelta: 20,
		Retransmits: 3, RetransmitsDelta: 1, Rtt: 250, Flags: event.ConnectionHasRTT,
	}
	change(&e)
	return eventtest.Record(e)
}
