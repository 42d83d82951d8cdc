// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	benchLives = 1600 // processes in a round; each leaves recordsPerLife records
	benchStart = 1_000_000_000_000
	benchBoot  = 1_700_000_000_000_000_000
	benchPID   = 1 // of a process that is older than the source
)

func bytesOf[T any](value *T, tail ...byte) []byte {
	fixed := unsafe.Slice((*byte)(unsafe.Pointer(value)), unsafe.Sizeof(*value))
	return append(append(make([]byte, 0, len(fixed)+len(tail)), fixed...), tail...)
}

// life is what a short command leaves that makes one request: fork, exec, connect, close, exit.
func life(pid uint32, start uint64, argument string) [][]byte {
	header := func(kind bpf.WireEventType, after uint64) bpf.WireEventHeader {
		return bpf.WireEventHeader{Time: start + after, StartTime: start, CgroupId: 7, Pid: pid, Type: uint16(kind)}
	}
	who := bpf.WireProcessIdentity{ParentPid: 1, ParentStartTime: 1, Vpid: pid, Uid: 1000, Euid: 1000}
	ends := bpf.WireConnectionEnds{
		LocalAddress: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}, PeerAddress: [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 2},
		LocalPort: uint16(pid), PeerPort: 443, Protocol: event.ProtocolTCP, Role: event.RoleClient,
	}
	exe, cwd, args := "curl\x00bin\x00usr\x00", "app\x00srv\x00", "/usr/bin/curl\x00-s\x00--max-time\x0010\x00https://example.com/"+argument+"\x00"
	return [][]byte{
		bytesOf(&bpf.WireProcessFork{Header: header(bpf.WireEventTypePROCESS_FORK, 0), Process: who}),
		bytesOf(&bpf.WireProcessExec{Header: header(bpf.WireEventTypePROCESS_EXEC, 1e6), Process: who, ExeSize: uint16(len(exe)), CwdSize: uint16(len(cwd)), ArgsSize: uint16(len(args))}, []byte(exe+cwd+args)...),
		bytesOf(&bpf.WireConnectionConnect{Header: header(bpf.WireEventTypeCONNECTION_CONNECT, 3e6), Ends: ends, Opened: start + 2e6}),
		bytesOf(&bpf.WireConnectionStats{Header: header(bpf.WireEventTypeCONNECTION_CLOSE, 9e6), Ends: ends, Opened: start + 3e6, SentBytes: 500, ReceivedBytes: 20000, SentBytesDelta: 500, ReceivedBytesDelta: 20000, Rtt: 800, Flags: event.ConnectionHasRTT | event.ConnectionFirstRecord}),
		bytesOf(&bpf.WireProcessExit{Header: header(bpf.WireEventTypePROCESS_EXIT, 10e6), CpuTime: 5e6, PeakMemory: 12 << 20, Flags: event.ExitHasUsage | event.ExitHasIO}),
	}
}

func benchTranslator(signals Signals) (*Translator, *identity.Index) {
	return benchCorrelating(signals, correlate.Options{}) // what waits for others is told at once
}

func benchCorrelating(signals Signals, correlation correlate.Options) (*Translator, *identity.Index) {
	index := identity.NewIndex(identity.Options{Resolver: nobodyKnown{}})
	index.Load([]source.Process{{PID: benchPID, Executable: "/usr/bin/init", StartTicks: 0}})
	t := New(Options{Signals: signals, Describe: Describe{Source: "ebpf", HostName: "node", ScopeName: "scope"}, SeriesLimit: 4096, Processes: true, DNSTimeout: 5 * time.Second,
		Correlation: correlation},
		index, correlate.NewIDs(), &ledger.Ledger{})
	t.SetBootTime(benchBoot)
	return t, index
}

func benchRecords(lives uint32, argument func(pid uint32) string) [][]byte {
	var records [][]byte
	for pid := range lives {
		records = append(records, life(pid+2, benchStart+uint64(pid)*1e7, argument(pid))...)
	}
	return records
}

func always(argument string) func(uint32) string { return func(uint32) string { return argument } }

// BenchmarkRecordToPdata is a record's way from the ring's bytes to all three signals: decode,
// identity, ledger, metrics, choice of attributes, and the building of the pdata itself.
// BenchmarkPdataAlone, in the same run, is what pdata takes of it for the very same data.
func BenchmarkRecordToPdata(b *testing.B) {
	benchAllSignals(b, benchRecords(benchLives, always("path")))
}

// BenchmarkRecordToPdataNewCommandLines has no two command lines alike: each is taken apart, searched
// for credentials, and kept.
func BenchmarkRecordToPdataNewCommandLines(b *testing.B) {
	benchAllSignals(b, benchRecords(4*benchLives, func(pid uint32) string { return strconv.Itoa(int(pid)) }))
}

func benchAllSignals(b *testing.B, records [][]byte) {
	t, index := benchTranslator(Signals{Traces: true, Metrics: true, Logs: true})
	benchHandle(b, t, index, records)
}

func benchHandle(b *testing.B, t *Translator, index *identity.Index, records [][]byte) {
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n == len(records) {
			n = 0
			t.Take()
			index.Expire(1 << 62) // as time would: the pids come again
		}
		t.Handle(records[n])
	}
}

// BenchmarkRecordToMetrics has only metrics wired: no span and no log record is built.
func BenchmarkRecordToMetrics(b *testing.B) {
	t, index := benchTranslator(Signals{Metrics: true})
	records := benchRecords(benchLives, always("path"))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n == len(records) {
			n = 0
			index.Expire(1 << 62)
		}
		t.Handle(records[n])
	}
}

// exchangeRecords are a query and its answer each, by as many processes.
func exchangeRecords(exchanges uint32) (records [][]byte) {
	message := func(pid uint32, after uint64, flags uint32, bytes []byte) []byte {
		e := dnsWire(event.TypeDNSMessage, pid, benchStart+uint64(pid)*1e6+after, flags != 0, len(bytes))
		e.Header.StartTime, e.Socket = benchStart, uint64(pid)
		return bytesOf(&e, bytes...)
	}
	for pid := uint32(2); pid < 2+exchanges; pid++ {
		name := fmt.Sprintf("service-%d.example.com", pid%100)
		records = append(records,
			message(pid, 0, event.DNSSent, packed(question(uint16(pid), name))),
			message(pid, 1e6, 0, packed(reply(uint16(pid), name, 0, "192.0.2.1", "192.0.2.2"))))
	}
	return records
}

// BenchmarkQueryToPdata is the way of a query and its answer to a span and the metrics, for each of
// the two records.
func BenchmarkQueryToPdata(b *testing.B) {
	benchAllSignals(b, exchangeRecords(benchLives))
}

// BenchmarkQueryPdataAlone is what pdata takes of it, for each of the two records.
func BenchmarkQueryPdataAlone(b *testing.B) {
	benchPdataAlone(b, exchangeRecords(benchLives))
}

// BenchmarkQueryToMetrics has only metrics wired.
func BenchmarkQueryToMetrics(b *testing.B) {
	t, _ := benchTranslator(Signals{Metrics: true})
	records := exchangeRecords(benchLives)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		t.Handle(records[n%len(records)])
	}
}

func BenchmarkPdataAlone(b *testing.B) {
	benchPdataAlone(b, benchRecords(benchLives, always("path")))
}

func benchPdataAlone(b *testing.B, records [][]byte) {
	t, _ := benchTranslator(Signals{Traces: true, Logs: true})
	for _, record := range records {
		t.Handle(record)
	}
	batch := t.Take()
	spans, logs := copySpans(batch.Traces), copyLogs(batch.Logs)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += len(records) {
		share := min(1, float64(b.N-done)/float64(len(records)))
		buildSpans(spans[:int(float64(len(spans))*share)])
		buildLogs(logs[:int(float64(len(logs))*share)])
	}
}

// plain is an attribute outside of pdata.
type plain struct {
	key    string
	kind   pcommon.ValueType
	text   string
	number int64
	double float64
	list   []string
}

type plainSpan struct {
	name       string
	kind       ptrace.SpanKind
	start, end pcommon.Timestamp
	trace      pcommon.TraceID
	id         pcommon.SpanID
	attributes []plain
}

type plainLog struct {
	name       string
	time       pcommon.Timestamp
	trace      pcommon.TraceID
	id         pcommon.SpanID
	attributes []plain
}

func copyAttributes(from pcommon.Map) (out []plain) {
	for key, value := range from.All() {
		p := plain{key: key, kind: value.Type()}
		switch value.Type() {
		case pcommon.ValueTypeStr:
			p.text = value.Str()
		case pcommon.ValueTypeInt:
			p.number = value.Int()
		case pcommon.ValueTypeDouble:
			p.double = value.Double()
		case pcommon.ValueTypeSlice:
			for _, element := range value.Slice().All() {
				p.list = append(p.list, element.Str())
			}
		}
		out = append(out, p)
	}
	return out
}

func putAttributes(to pcommon.Map, attributes []plain) {
	to.EnsureCapacity(len(attributes))
	for i := range attributes {
		switch a := &attributes[i]; a.kind {
		case pcommon.ValueTypeStr:
			to.PutStr(a.key, a.text)
		case pcommon.ValueTypeInt:
			to.PutInt(a.key, a.number)
		case pcommon.ValueTypeDouble:
			to.PutDouble(a.key, a.double)
		case pcommon.ValueTypeSlice:
			putStrings(to, a.key, a.list)
		}
	}
}

func copySpans(traces ptrace.Traces) (out []plainSpan) {
	for _, r := range traces.ResourceSpans().All() {
		for _, s := range r.ScopeSpans().At(0).Spans().All() {
			out = append(out, plainSpan{s.Name(), s.Kind(), s.StartTimestamp(), s.EndTimestamp(), s.TraceID(), s.SpanID(), copyAttributes(s.Attributes())})
		}
	}
	return out
}

func buildSpans(spans []plainSpan) {
	out := ptrace.NewTraces().ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for i := range spans {
		from, span := &spans[i], out.AppendEmpty()
		span.SetName(from.name)
		span.SetKind(from.kind)
		span.SetStartTimestamp(from.start)
		span.SetEndTimestamp(from.end)
		span.SetTraceID(from.trace)
		span.SetSpanID(from.id)
		putAttributes(span.Attributes(), from.attributes)
	}
}

func copyLogs(logs plog.Logs) (out []plainLog) {
	for _, r := range logs.ResourceLogs().All() {
		for _, l := range r.ScopeLogs().At(0).LogRecords().All() {
			out = append(out, plainLog{l.EventName(), l.Timestamp(), l.TraceID(), l.SpanID(), copyAttributes(l.Attributes())})
		}
	}
	return out
}

func buildLogs(logs []plainLog) {
	out := plog.NewLogs().ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for i := range logs {
		from, log := &logs[i], out.AppendEmpty()
		log.SetEventName(from.name)
		log.SetTimestamp(from.time)
		log.SetObservedTimestamp(from.time)
		log.SetSeverityNumber(plog.SeverityNumberInfo)
		log.SetSeverityText("Info")
		log.SetTraceID(from.trace)
		log.SetSpanID(from.id)
		putAttributes(log.Attributes(), from.attributes)
	}
}

// BenchmarkHTTPExchange is what an exchange costs a side: its record's way to a span and to metrics.
func BenchmarkHTTPExchange(b *testing.B) {
	benchExchanges(b, Signals{Traces: true, Metrics: true, Logs: true})
}

// BenchmarkHTTPExchangeToMetrics builds no span.
func BenchmarkHTTPExchangeToMetrics(b *testing.B) {
	benchExchanges(b, Signals{Metrics: true})
}

// BenchmarkHTTPPdataAlone is what pdata takes of BenchmarkHTTPExchange.
func BenchmarkHTTPPdataAlone(b *testing.B) {
	benchPdataAlone(b, httpRecords())
}

// httpRecords are a batch of both sides' exchanges, of one process that is known.
func httpRecords() [][]byte {
	const head = "GET /api/v1/users/42 HTTP/1.1\r\nHost: users.example:8080\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n"
	records := make([][]byte, 8192)
	for i := range records {
		records[i] = exchangeRecord(head, "", func(e *bpf.WireHttpExchange) {
			e.Header.Pid, e.Header.StartTime = benchPID, 0
			if i%2 == 0 {
				ofServer(e)
			}
		})
	}
	return records
}

func benchExchanges(b *testing.B, signals Signals) {
	t, _ := benchTranslator(signals)
	records := httpRecords()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n == len(records) {
			n = 0
			t.Take()
		}
		t.Handle(records[n])
	}
}

// benchBatch is the default of batch::max_events.
const benchBatch = 8192

// BenchmarkHTTPBothEnds has both ends of each exchange on this node, each of a request of its own, as many at a time
// as there are connections: the server's end comes first and waits for the client's.
func BenchmarkHTTPBothEnds(b *testing.B) {
	const connections, gap = 64, 10_000 // ns
	t, _ := benchCorrelating(Signals{Traces: true, Metrics: true, Logs: true}, correlate.Options{MaxWait: 30 * time.Second, MaxHeld: 16384})
	servers, clients := loopbackRecords(connections)
	b.ReportAllocs()
	b.ResetTimer()
	for n, now := 0, uint64(0); n < b.N; n++ {
		side, connection := servers, n%connections
		if n/connections%2 == 1 {
			side = clients
		}
		now += gap
		moveExchange(side[connection], uint32(n/(2*connections)), now)
		t.Handle(side[connection])
		if connection == 0 {
			t.Tick(now)
		}
		if t.Events() >= benchBatch {
			t.Take()
		}
	}
}

// loopbackRecords are both sides' of an exchange on each of so many connections.
func loopbackRecords(connections int) (servers, clients [][]byte) {
	const head = "GET / HTTP/1.1\r\nHost: 127.0.0.1:18099\r\n\r\n"
	loopback := [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
	for i := range connections {
		on := func(e *bpf.WireHttpExchange) {
			e.Header.Pid, e.Header.StartTime = benchPID, 0
			e.Ends.LocalAddress, e.Ends.PeerAddress = loopback, loopback
			e.RequestSequence = uint32(i)
		}
		clients = append(clients, exchangeRecord(head, "", on))
		servers = append(servers, exchangeRecord(head, "", both(on, ofServer)))
	}
	return servers, clients
}

// moveExchange makes it the next one on its connection.
func moveExchange(record []byte, number uint32, now uint64) {
	e := (*bpf.WireHttpExchange)(unsafe.Pointer(unsafe.SliceData(record)))
	later := benchStart + now - e.Header.Time
	e.Header.Time += later
	e.RequestStart, e.RequestEnd = e.RequestStart+later, e.RequestEnd+later
	e.ResponseStart, e.ResponseEnd = e.ResponseStart+later, e.ResponseEnd+later
	e.RequestAcknowledged = number
}
