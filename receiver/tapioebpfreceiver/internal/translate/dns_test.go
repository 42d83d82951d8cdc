// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
)

const ms = uint64(1e6)

// question asks for the IPv4 addresses of a name.
func question(id uint16, name string) dnsmessage.Message {
	return dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}},
	}
}

// reply to a question, with addresses.
func reply(id uint16, name string, code dnsmessage.RCode, addresses ...string) dnsmessage.Message {
	m := question(id, name)
	m.Response, m.RCode = true, code
	for _, text := range addresses {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(text).As4()},
		})
	}
	return m
}

func packed(m dnsmessage.Message) []byte {
	bytes, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return bytes
}

func dnsWire(kind event.Type, pid uint32, at uint64, sent bool, size int) bpf.WireDnsMessage {
	e := bpf.WireDnsMessage{Header: headerOf(kind, pid, second, at), Ends: tcpEnds(event.RoleClient), Socket: 77, Size: uint32(size), Captured: uint32(size)}
	e.Ends.PeerPort = 53
	if kind == event.TypeDNSMessage {
		e.Ends.Protocol = event.ProtocolUDP
	}
	if sent {
		e.Flags = event.DNSSent
	}
	return e
}

// datagramRecord is a message over UDP of process 10; what is no response was sent.
func datagramRecord(at uint64, m dnsmessage.Message) []byte {
	return datagramOf(10, at, m)
}

func datagramOf(pid uint32, at uint64, m dnsmessage.Message) []byte {
	bytes := packed(m)
	return eventtest.Record(dnsWire(event.TypeDNSMessage, pid, at, !m.Response, len(bytes)), bytes, make([]byte, 40))
}

// segmentRecord is a part of a TCP connection of process 10.
func segmentRecord(at uint64, sent bool, sequence uint32, bytes []byte) []byte {
	e := dnsWire(event.TypeDNSSegment, 10, at, sent, len(bytes))
	e.Sequence = sequence
	return eventtest.Record(e, bytes)
}

func framed(messages ...dnsmessage.Message) (stream []byte) {
	for _, m := range messages {
		bytes := packed(m)
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(bytes))), bytes...)
	}
	return stream
}

var (
	queried = attributes{
		"process.pid": int64(10), "process.executable.name": "curl",
		"dns.question.name": "www.Example.com", "tapio.dns.question.type": "A",
		"network.transport": "udp", "network.type": "ipv4", "network.peer.address": "10.0.0.2", "network.peer.port": int64(53),
		"server.address": "10.0.0.2", "server.port": int64(53),
	}
	resolved    = merge(queried, attributes{"tapio.dns.response_code": "NOERROR", "dns.answers": []any{"192.0.2.1", "192.0.2.2"}})
	nonexistent = merge(queried, attributes{"tapio.dns.response_code": "NXDOMAIN", "error.type": "NXDOMAIN"})
)

func querySpan(resource, attributes attributes, start, end uint64, status ptrace.StatusCode) gotSpan {
	return gotSpan{Resource: resource, Attributes: attributes, Name: "dns.query", Kind: ptrace.SpanKindClient, Start: wallTime(start), End: wallTime(end), Status: status}
}

func failureLog(resource, attributes attributes, at uint64, inTrace bool) gotLog {
	return logOf("tapio.dns.failure", resource, attributes, at, plog.SeverityNumberWarn, inTrace)
}

// conversation is what some records lead to.
type conversation struct {
	name     string
	records  [][]byte
	after    uint64 // the time then; 0: long after
	spans    []gotSpan
	logs     []gotLog
	events   uint64 // that end with spans or logs
	absorbed uint64
	filtered uint64
	lost     uint64
	held     int
}

func conversations() []conversation {
	const unset, failed = ptrace.StatusCodeUnset, ptrace.StatusCodeError
	const name = "www.Example.com"
	query, found := question(1, name), reply(1, name, 0, "192.0.2.1", "192.0.2.2")
	cut := reply(1, name, 0)
	cut.Truncated = true
	update := question(1, name)
	update.OpCode, update.Questions[0].Type = 5, dnsmessage.TypeSOA
	refused := update
	refused.Response, refused.RCode = true, 5
	stateful, bare := question(1, name), question(1, name)
	stateful.OpCode, bare.Questions = 6, nil
	notify := question(1, name)
	notified := notify
	notified.Response = true
	garbage := eventtest.Record(dnsWire(event.TypeDNSMessage, 10, 3*second, true, 5), []byte("hello"))
	mirrored := func(m dnsmessage.Message) []byte { // sent what clients receive, and the reverse
		bytes := packed(m)
		return eventtest.Record(dnsWire(event.TypeDNSMessage, 10, 3*second, m.Response, len(bytes)), bytes)
	}
	ipv6 := func(record []byte) []byte {
		e, err := event.DecodeDNSMessage(record)
		if err != nil {
			panic(err)
		}
		e.Ends.PeerAddress = eventtest.Address("2001:db8::53")
		return record
	}
	byTCP := merge(resolved, attributes{"network.transport": "tcp"})
	return []conversation{
		{
			name:    "found",
			records: [][]byte{datagramRecord(3*second, query), datagramRecord(4*second, found)},
			spans:   []gotSpan{querySpan(curlResource, resolved, 3*second, 4*second, unset)},
			events:  2,
		},
		{
			name:    "over IPv6",
			records: [][]byte{ipv6(datagramRecord(3*second, query)), ipv6(datagramRecord(4*second, found))},
			spans: []gotSpan{querySpan(curlResource, merge(resolved, attributes{
				"network.type": "ipv6", "network.peer.address": "2001:db8::53", "server.address": "2001:db8::53",
			}), 3*second, 4*second, unset)},
			events: 2,
		},
		{
			name:    "no record of the type",
			records: [][]byte{datagramRecord(3*second, query), datagramRecord(4*second, reply(1, name, 0))},
			spans:   []gotSpan{querySpan(curlResource, without(resolved, "dns.answers"), 3*second, 4*second, unset)},
			events:  2,
		},
		{
			name:    "no such name",
			records: [][]byte{datagramRecord(3*second, query), datagramRecord(4*second, reply(1, name, 3))},
			spans:   []gotSpan{querySpan(curlResource, nonexistent, 3*second, 4*second, failed)},
			logs:    []gotLog{failureLog(curlResource, nonexistent, 4*second, true)},
			events:  2,
		},
		{
			name:    "no answer",
			records: [][]byte{datagramRecord(3*second, query)},
			spans:   []gotSpan{querySpan(curlResource, merge(queried, attributes{"error.type": "timeout"}), 3*second, 8*second, failed)},
			logs:    []gotLog{failureLog(curlResource, merge(queried, attributes{"error.type": "timeout"}), 8*second, true)},
			events:  1,
		},
		{
			name:    "no answer yet",
			records: [][]byte{datagramRecord(3*second, query)},
			after:   7 * second,
			held:    1,
		},
		{
			name:     "an answer too late",
			records:  [][]byte{datagramRecord(3*second, query), datagramRecord(8*second+1, found)},
			spans:    []gotSpan{querySpan(curlResource, merge(queried, attributes{"error.type": "timeout"}), 3*second, 8*second, failed)},
			logs:     []gotLog{failureLog(curlResource, merge(queried, attributes{"error.type": "timeout"}), 8*second, true)},
			events:   1,
			absorbed: 1,
		},
		{
			name:     "an answer twice",
			records:  [][]byte{datagramRecord(3*second, query), datagramRecord(4*second, found), datagramRecord(5*second, found)},
			spans:    []gotSpan{querySpan(curlResource, resolved, 3*second, 4*second, unset)},
			events:   2,
			absorbed: 1,
		},
		{
			name:    "sent again",
			records: [][]byte{datagramRecord(3*second, query), datagramRecord(4*second, query), datagramRecord(5*second, query), datagramRecord(6*second, found)},
			spans:   []gotSpan{querySpan(curlResource, merge(resolved, attributes{"tapio.dns.retries": int64(2)}), 3*second, 6*second, unset)},
			events:  4,
		},
		{
			name: "sent again after the timeout, while another process asks",
			records: [][]byte{
				datagramRecord(3*second, query), datagramOf(99, 8*second+2*ms, question(2, "other.example.com")),
				datagramRecord(8*second+4*ms, query), datagramRecord(8*second+5*ms, found),
			},
			after:  9 * second,
			spans:  []gotSpan{querySpan(curlResource, merge(resolved, attributes{"tapio.dns.retries": int64(1)}), 3*second, 8*second+5*ms, unset)},
			events: 3,
			held:   1,
		},
		{
			name: "given up, as the process asks for something else",
			records: [][]byte{
				datagramRecord(3*second, query), datagramRecord(8*second+2*ms, question(2, "other.example.com")), datagramRecord(8*second+5*ms, found),
			},
			after:    9 * second,
			spans:    []gotSpan{querySpan(curlResource, merge(queried, attributes{"error.type": "timeout"}), 3*second, 8*second, failed)},
			logs:     []gotLog{failureLog(curlResource, merge(queried, attributes{"error.type": "timeout"}), 8*second, true)},
			events:   1,
			absorbed: 1,
			held:     1,
		},
		{
			name: "cut off, and asked again by TCP",
			records: [][]byte{
				datagramRecord(3*second, query), datagramRecord(3*second+ms, cut),
				segmentRecord(3*second+2*ms, true, 100, framed(query)), segmentRecord(3*second+3*ms, false, 900, framed(found)),
			},
			spans: []gotSpan{
				querySpan(curlResource, merge(without(resolved, "dns.answers"), attributes{"tapio.dns.truncated": true}), 3*second, 3*second+ms, unset),
				querySpan(curlResource, byTCP, 3*second+2*ms, 3*second+3*ms, unset),
			},
			events: 4,
		},
		{
			name: "in pieces, some of them twice",
			records: [][]byte{
				segmentRecord(3*second, true, 100, framed(query)[:1]), segmentRecord(4*second, true, 101, framed(query)[1:]),
				segmentRecord(5*second, true, 100, framed(query)), segmentRecord(6*second, false, 900, framed(found)),
			},
			spans:    []gotSpan{querySpan(curlResource, byTCP, 3*second, 6*second, unset)},
			events:   3,
			absorbed: 1,
		},
		{
			name: "two in a segment",
			records: [][]byte{
				segmentRecord(3*second, true, 100, framed(query, question(2, "b"))), segmentRecord(4*second, false, 900, framed(reply(2, "b", 0, "192.0.2.3"), found)),
			},
			spans: []gotSpan{
				querySpan(curlResource, merge(byTCP, attributes{"dns.question.name": "b", "dns.answers": []any{"192.0.2.3"}}), 3*second, 4*second, unset),
				querySpan(curlResource, byTCP, 3*second, 4*second, unset),
			},
			events: 2,
		},
		{
			name:    "a stream that is no DNS",
			records: [][]byte{segmentRecord(3*second, true, 100, []byte("GET / HTTP/1.1\r\n\r\n"))},
			lost:    1,
		},
		{
			name:    "a message that is no DNS",
			records: [][]byte{garbage},
			lost:    1,
		},
		{
			name:     "an answer that nobody asked for",
			records:  [][]byte{datagramRecord(3*second, found)},
			absorbed: 1,
		},
		{
			name:    "an update",
			records: [][]byte{datagramRecord(3*second, update), datagramRecord(4*second, refused)},
			spans: []gotSpan{querySpan(curlResource, merge(queried, attributes{
				"tapio.dns.opcode": "UPDATE", "tapio.dns.question.type": "SOA", "tapio.dns.response_code": "REFUSED", "error.type": "REFUSED",
			}), 3*second, 4*second, failed)},
			logs: []gotLog{failureLog(curlResource, merge(queried, attributes{
				"tapio.dns.opcode": "UPDATE", "tapio.dns.question.type": "SOA", "tapio.dns.response_code": "REFUSED", "error.type": "REFUSED",
			}), 4*second, true)},
			events: 2,
		},
		{
			name:     "what asks for nothing",
			records:  [][]byte{datagramRecord(3*second, stateful), datagramRecord(3*second, bare)},
			filtered: 2,
		},
		{
			name:     "a server's",
			records:  [][]byte{mirrored(notify), mirrored(notified)},
			filtered: 2,
		},
		{
			name:    "of a process that is not known",
			records: [][]byte{datagramOf(99, 3*second, query), datagramOf(99, 4*second, found)},
			spans:   []gotSpan{querySpan(nodeResource, merge(without(resolved, "process.executable.name"), attributes{"process.pid": int64(99)}), 3*second, 4*second, unset)},
			events:  2,
		},
		{
			name:    "of nobody",
			records: [][]byte{datagramOf(0, 3*second, query), datagramOf(0, 4*second, found)},
			spans:   []gotSpan{querySpan(nodeResource, without(resolved, "process.executable.name", "process.pid"), 3*second, 4*second, unset)},
			events:  2,
		},
	}
}

// TestConversations checks each conversation with each combination of wired signals.
func TestConversations(t *testing.T) {
	for combination := range 8 {
		signals := Signals{Traces: combination&1 != 0, Metrics: combination&2 != 0, Logs: combination&4 != 0}
		for _, tt := range conversations() {
			t.Run(fmt.Sprintf("%s/%+v", tt.name, signals), func(t *testing.T) {
				w := newWorld(signals, 100)
				w.handle(curl(2 * second))
				w.Take()
				before := w.ended(t)
				w.handle(tt.records...)
				if tt.after == 0 {
					tt.after = 60 * second
				}
				w.Tick(tt.after)
				w.Tick(tt.after + second)
				assert.Equal(t, tt.held, w.Held())
				tt.check(t, w, signals, before)
			})
		}
	}
}

func (x conversation) check(t *testing.T, w *world, signals Signals, before ledger.Row) {
	after, events, isEmpty := w.ended(t), w.Events(), w.Empty()
	out := w.take(t)
	if !signals.Traces {
		x.spans = nil
	}
	if !signals.Logs {
		x.logs = nil
	}
	for i := range x.logs {
		x.logs[i].InTrace = signals.Traces
	}
	assert.ElementsMatch(t, x.spans, out.spans)
	assert.ElementsMatch(t, x.logs, out.logs)
	if len(x.spans)+len(x.logs) == 0 {
		x.absorbed, x.events = x.absorbed+x.events, 0
	}
	if !signals.Metrics {
		x.filtered, x.absorbed = x.filtered+x.absorbed, 0
	}
	assert.EqualValues(t, x.events, out.counts[event.FamilyDNS])
	assert.EqualValues(t, x.events, events)
	assert.Equal(t, len(x.spans)+len(x.logs) == 0, isEmpty)
	assert.Equal(t, x.absorbed, after.Aggregated-before.Aggregated, "aggregated")
	assert.Equal(t, x.filtered, after.Filtered-before.Filtered, "filtered")
	assert.Equal(t, x.lost, after.Lost["undecodable"], "lost")
}

func TestAFailureIsOfItsSpansTrace(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(datagramRecord(3*second, question(1, "a")), datagramRecord(4*second, reply(1, "a", 3)))
	w.Tick(5 * second)
	out := w.take(t)
	require.Len(t, out.spans, 1)
	assert.Equal(t, out.spanIDs, out.logIDs)
	assert.True(t, out.parents[0].IsEmpty())
}

func TestManyQuestionsOfOneSocket(t *testing.T) {
	const questions = 500
	w := newWorld(allSignals, 1000)
	for id := range uint16(questions) {
		w.handle(datagramRecord(3*second, question(id, fmt.Sprintf("n%d", id))))
	}
	assert.Equal(t, questions, w.Held())
	for id := uint16(questions); id > 0; id-- {
		w.handle(datagramRecord(4*second, reply(id-1, fmt.Sprintf("n%d", id-1), 0, "192.0.2.1")))
	}
	out := w.take(t)
	assert.Len(t, out.spans, questions)
	names := map[any]bool{}
	for _, span := range out.spans {
		names[span.Attributes["dns.question.name"]] = true
		assert.Equal(t, "NOERROR", span.Attributes["tapio.dns.response_code"])
	}
	assert.Len(t, names, questions)
	assert.EqualValues(t, 2*questions, out.counts[event.FamilyDNS])
	assert.Zero(t, w.Held())
}

// search has a program try the names of a search list: all but the last one do not exist.
func search(pid uint32, at uint64, names ...string) (records [][]byte) {
	for i, name := range names {
		id, code, addresses := uint16(pid)<<8|uint16(2*i), dnsmessage.RCode(3), []string(nil)
		if i == len(names)-1 {
			code, addresses = 0, []string{"192.0.2.1"}
		}
		forIPv6, noIPv6 := question(id+1, name), reply(id+1, name, code)
		forIPv6.Questions[0].Type, noIPv6.Questions[0].Type = dnsmessage.TypeAAAA, dnsmessage.TypeAAAA
		records = append(records,
			datagramOf(pid, at, question(id, name)), datagramOf(pid, at+ms, forIPv6),
			datagramOf(pid, at+2*ms, reply(id, name, code, addresses...)), datagramOf(pid, at+3*ms, noIPv6))
		at += 4 * ms
	}
	return records
}

var clusterNames = []string{"web.ns.svc.cluster.local", "web.svc.cluster.local", "web.cluster.local", "web"}

func TestASearchIsOneLookup(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2 * second))
	w.Take()
	w.handle(search(10, 3*second, clusterNames...)...)
	out := w.take(t)
	require.Len(t, out.spans, 9)
	assert.Equal(t, gotSpan{
		Resource: curlResource, Name: "dns.lookup", Kind: ptrace.SpanKindInternal,
		Start: wallTime(3 * second), End: wallTime(3*second + 15*ms), Status: ptrace.StatusCodeUnset,
		Attributes: merge(owner10, attributes{
			"dns.question.name": "web", "dns.answers": []any{"192.0.2.1"},
			"tapio.dns.lookup.attempts": int64(4), "tapio.dns.lookup.wasted_queries": int64(6),
		}),
	}, out.spans[0])
	lookup := out.spanIDs[0]
	assert.Equal(t, pcommon.SpanID(w.index.FindByPID(10).Program.SpanID), out.parents[0])
	seen := map[pcommon.SpanID]bool{lookup.span: true}
	for i, id := range out.spanIDs[1:] {
		assert.Equal(t, lookup.trace, id.trace)
		assert.Equal(t, lookup.span, out.parents[i+1])
		assert.False(t, seen[id.span])
		seen[id.span] = true
	}
	for i, span := range out.spans[1:] {
		assert.Equal(t, "dns.query", span.Name)
		assert.Equal(t, clusterNames[i/2], span.Attributes["dns.question.name"])
		assert.Equal(t, i < 6, span.Status == ptrace.StatusCodeError, "an attempt that failed is a failure")
	}
	assert.Len(t, out.logs, 6)
	for i, id := range out.logIDs {
		assert.Equal(t, out.spanIDs[i+1], id)
	}
	assert.EqualValues(t, 16, out.counts[event.FamilyDNS])
}

func TestASearchThatFindsNothing(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2 * second))
	w.Take()
	records := search(10, 3*second, clusterNames...)
	for i, name := range clusterNames[3:] {
		records[len(records)-2+i] = datagramRecord(4*second, reply(10<<8|6, name, 2))
	}
	w.handle(records...)
	w.Tick(5 * second)
	span := w.take(t).spans[0]
	assert.Equal(t, "dns.lookup", span.Name)
	assert.Equal(t, ptrace.StatusCodeError, span.Status)
	assert.Equal(t, "SERVFAIL", span.Attributes["error.type"])
	assert.Equal(t, int64(8), span.Attributes["tapio.dns.lookup.wasted_queries"])
	assert.NotContains(t, span.Attributes, "dns.answers")
}

func TestSearchesOfTwoProcessesAreTwo(t *testing.T) {
	w := newWorld(allSignals, 100)
	one, two := search(10, 3*second, clusterNames...), search(11, 3*second, clusterNames...)
	for i := range one {
		w.handle(one[i], two[i])
	}
	out := w.take(t)
	traces := map[[16]byte]int64{}
	for i, span := range out.spans {
		pid := span.Attributes["process.pid"].(int64)
		if of, known := traces[out.spanIDs[i].trace]; known {
			assert.Equal(t, of, pid)
		}
		traces[out.spanIDs[i].trace] = pid
	}
	assert.Len(t, traces, 2)
}

func TestWhatIsHeldAtTheEnd(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(datagramRecord(3*second, question(1, "a")), datagramRecord(3*second+ms, reply(1, "a", 3))) // nothing may follow
	w.handle(datagramRecord(3*second, question(2, "b")))                                                // not answered
	w.handle(segmentRecord(3*second, true, 100, []byte{0, 50, 1}))                                      // not complete
	assert.Equal(t, 4, w.Held())
	w.Flush()
	assert.Equal(t, 2, w.Held(), "that has not timed out, and there may be more of it")
	out := w.take(t)
	assert.Len(t, out.spans, 1)
	assert.EqualValues(t, 2, out.counts[event.FamilyDNS])
	assert.Empty(t, w.ended(t).Lost)
}

func TestTooManyPendingQueries(t *testing.T) {
	const limit, more = 32768, 10
	w := newWorld(allSignals, 100)
	record := datagramRecord(3*second, question(1, "a"))
	for i := range limit + more {
		e, err := event.DecodeDNSMessage(record)
		require.NoError(t, err)
		e.Socket = uint64(i)
		w.handle(record)
	}
	assert.Equal(t, ledger.Row{Lost: map[string]uint64{"table_full": more}}, w.ended(t))
	assert.Equal(t, limit, w.Held())
	w.Tick(20 * second)
	assert.Zero(t, w.Held())
	w.requireClosed(t)
	assert.Len(t, w.take(t).spans, limit)
}

const nameA = `"dns.question.name":"a"`

func TestDNSMetrics(t *testing.T) {
	for _, signals := range []Signals{{Metrics: true}, allSignals} {
		w := newWorld(signals, 100)
		w.handle(curl(2 * second))
		w.handle(datagramRecord(3*second, question(1, "A")), datagramRecord(3*second+5*ms, reply(1, "A", 0, "192.0.2.1"))) // a bound
		w.handle(datagramRecord(3*second, question(2, "a")), datagramRecord(3*second+6*ms, reply(2, "a", 3)))
		w.handle(datagramRecord(3*second, question(3, "a")), datagramRecord(4*second, question(3, "a")))
		w.handle(datagramRecord(4*second, reply(9, "a", 0)), datagramRecord(4*second, reply(9, "a", 0)))
		w.Tick(20 * second)
		w.handle(search(10, 20*second, "web.a.example", "web.example")...)
		points := w.collect(t, 30*second).points
		for key := range points {
			if key == `/usr/bin/curl tapio.process.executions {}` || key == `/usr/bin/curl tapio.process.active {}` || key == `/sbin/init tapio.process.active {}` {
				delete(points, key)
			}
		}
		two := func(sum float64) point { return point{count: 2, sum: sum, buckets: map[float64]uint64{0.005: 2}} }
		assert.Equal(t, map[string]point{
			`/usr/bin/curl dns.lookup.duration {` + nameA + `}`:                                               {count: 1, sum: 0.005, buckets: map[float64]uint64{0.005: 1}},
			`/usr/bin/curl dns.lookup.duration {` + nameA + `,"error.type":"NXDOMAIN"}`:                       {count: 1, sum: 0.006, buckets: map[float64]uint64{0.01: 1}},
			`/usr/bin/curl dns.lookup.duration {` + nameA + `,"error.type":"timeout"}`:                        {count: 1, sum: 6, buckets: map[float64]uint64{7.5: 1}},
			`/usr/bin/curl dns.lookup.duration {"dns.question.name":"web.a.example","error.type":"NXDOMAIN"}`: two(0.004),
			`/usr/bin/curl dns.lookup.duration {"dns.question.name":"web.example"}`:                           two(0.004),
			`/usr/bin/curl tapio.dns.retries {}`:                                                              {value: 1},
			`/usr/bin/curl tapio.dns.unmatched_answers {}`:                                                    {value: 2},
			`/usr/bin/curl tapio.dns.wasted_queries {}`:                                                       {value: 2},
		}, points)
	}
}

func TestDNSSeriesAboveTheLimitAreCountedInOne(t *testing.T) {
	const limit, programs = 3, 10
	w := newWorld(allSignals, limit)
	for i := range uint32(programs) {
		pid, name := 100+i, fmt.Sprintf("n%d", i)
		w.handle(execRecord(pid, second, 2*second, 0, fmt.Sprintf("/bin/%d", i), "/"))
		w.handle(datagramOf(pid, 3*second, question(1, name)), datagramOf(pid, 3*second, question(1, name)))
		w.handle(datagramOf(pid, 4*second, reply(1, name, 0, "192.0.2.1")), datagramOf(pid, 4*second, reply(1, name, 0)))
	}
	out := w.collect(t, 10*second)
	for _, name := range []string{"dns.lookup.duration", "tapio.dns.retries", "tapio.dns.unmatched_answers"} {
		series, total := totals(out, name)
		assert.Equal(t, limit+1, series, name)
		assert.EqualValues(t, programs, total, name)
		rest := out.points["- "+name+" "+overflow]
		assert.EqualValues(t, programs-limit, rest.value+int64(rest.count), name)
	}
}

func TestStaleDNSSeriesAreDropped(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(datagramRecord(3*second, question(1, "a")), datagramRecord(4*second, reply(1, "a", 0, "192.0.2.1")), datagramRecord(4*second, reply(1, "a", 0)))
	assert.Contains(t, w.collect(t, 10*second).points, `- dns.lookup.duration {`+nameA+`}`)
	points := w.collect(t, 10*second+uint64(staleAfter)).points
	assert.NotContains(t, points, `- dns.lookup.duration {`+nameA+`}`)
	assert.NotContains(t, points, `- tapio.dns.unmatched_answers {}`)
}

// TestWhatIsCountedIsToldOnce at least, however long ago it was: a flow's end comes when it was silent for long, and the
// machine may have been suspended.
func TestWhatIsCountedIsToldOnce(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(datagramRecord(3*second, question(1, "a")), datagramRecord(4*second, reply(1, "a", 0, "192.0.2.1")))
	later := 10*second + uint64(staleAfter)
	assert.Contains(t, w.collect(t, later).points, `- dns.lookup.duration {`+nameA+`}`)
	assert.NotContains(t, w.collect(t, later).points, `- dns.lookup.duration {`+nameA+`}`)
}

func TestUndecodableDNSRecordsAreLost(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		eventtest.Record(headerOf(event.TypeDNSMessage, 10, second, 2*second)),
		eventtest.Record(bpf.WireDnsMessage{Header: headerOf(event.TypeDNSSegment, 10, second, 2*second), Size: 9, Captured: 9}),
		eventtest.Record(bpf.WireDnsMessage{Header: headerOf(event.TypeDNSMessage, 10, second, 2*second), Size: math.MaxUint32, Captured: math.MaxUint32}),
	)
	assert.Equal(t, ledger.Row{Lost: map[string]uint64{"undecodable": 3}}, w.ended(t))
	assert.Zero(t, w.Held())
}
