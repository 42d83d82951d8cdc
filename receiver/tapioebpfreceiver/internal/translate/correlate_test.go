// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// newWaitingWorld is one whose spans wait for each other.
func newWaitingWorld(signals Signals) *world {
	w := newWorld(signals, 100)
	w.traces = correlate.NewTraces(correlate.Options{MaxWait: 30 * time.Second, MaxHeld: 100}, correlate.NewIDs())
	return w
}

// cause of what the request with these numbers was served for.
func causedBy(sequence uint32) bpf.WireCause {
	return bpf.WireCause{Sequence: sequence, Acknowledged: 1, Flags: event.CauseServer | event.CauseSole}
}

func numberedAs(sequence uint32) func(*bpf.WireHttpExchange) {
	return func(e *bpf.WireHttpExchange) { e.RequestSequence, e.RequestAcknowledged = sequence, 1 }
}

func causedAs(sequence uint32) func(*bpf.WireHttpExchange) {
	return func(e *bpf.WireHttpExchange) { e.Cause = causedBy(sequence) }
}

func onLoopback(e *bpf.WireHttpExchange) {
	e.Ends.LocalAddress, e.Ends.PeerAddress = eventtest.Address("127.0.0.1"), eventtest.Address("127.0.0.1")
}

func byName(out output) map[string]int {
	index := map[string]int{}
	for i, span := range out.spans {
		name := span.Name
		if span.Kind == ptrace.SpanKindServer {
			name += " server"
		}
		index[name] = i
	}
	return index
}

// What a server did for a request goes out with it, in the order in which places become known.
func TestSpansWaitForTheRequestThatTheyWereFor(t *testing.T) {
	w := newWaitingWorld(allSignals)
	connect := eventtest.Record(bpf.WireConnectionConnect{
		Header: headerOf(event.TypeConnectionConnect, 10, second, 4*second), Ends: tcpEnds(event.RoleClient), Opened: 3 * second,
		Error: 111, Cause: causedBy(100),
	})
	w.handle(connect, exchangeRecord(getHead, "", both(numberedAs(200), causedAs(100))))
	w.requireClosed(t)
	assert.Equal(t, 2, w.Held())
	assert.Zero(t, w.Events(), "nothing is in the batch before all of an event can be")
	w.handle(exchangeRecord(getHead, "", both(ofServer, numberedAs(100))))
	w.requireClosed(t)
	assert.Zero(t, w.Held())

	out := w.take(t)
	require.Len(t, out.spans, 3)
	require.Len(t, out.logs, 1)
	at := byName(out)
	server := out.spanIDs[at["GET server"]]
	for _, name := range []string{"GET", "tcp.connect"} {
		assert.Equal(t, server.span, out.parents[at[name]], name)
		assert.Equal(t, server.trace, out.spanIDs[at[name]].trace, name)
	}
	assert.Equal(t, out.spanIDs[at["tcp.connect"]], out.logIDs[0])
	assert.EqualValues(t, 2, out.counts[event.FamilyHTTP])
	assert.EqualValues(t, 1, out.counts[event.FamilyNetwork])
	link := correlate.LinkOf(200, 1)
	assert.Equal(t, link.String(), out.spans[at["GET"]].Attributes["tapio.link"])
}

// TestNothingWaitsForWhatIsUntold: what a server did for a request, and the server for its client, go out as soon as that has
// come in a hurry, without a place in its trace. What it says of its process and its addresses is known all the same.
func TestNothingWaitsForWhatIsUntold(t *testing.T) {
	w := newWaitingWorld(allSignals)
	w.handle(exchangeRecord(getHead, "", both(numberedAs(200), causedAs(100))), exchangeRecord(getHead, "", both(ofServer, onLoopback, numberedAs(7))))
	assert.Equal(t, 2, w.Held())
	w.Hurry(true)
	w.handle(exchangeRecord(getHead, "", both(ofServer, numberedAs(100))), exchangeRecord(getHead, "", both(onLoopback, numberedAs(7))))
	assert.Zero(t, w.Held())
	w.requireClosed(t)
	out := w.take(t)
	require.Len(t, out.spans, 2)
	for i := range out.spans {
		assert.True(t, out.parents[i].IsEmpty())
	}
	assert.EqualValues(t, 2, w.ended(t).Aggregated)

	w.Hurry(false)
	w.handle(exchangeRecord(getHead, "", both(ofServer, numberedAs(300), func(e *bpf.WireHttpExchange) {
		e.Ends.PeerAddress = eventtest.Address("10.9.9.9")
	})))
	assert.Zero(t, w.Held(), "nobody here has that address")
	w.Hurry(true)
	w.handle(exchangeRecord(getHead, "", func(e *bpf.WireHttpExchange) { e.Ends.LocalAddress = eventtest.Address("10.9.9.9") }))
	w.Hurry(false)
	w.handle(exchangeRecord(getHead, "", both(ofServer, numberedAs(400), func(e *bpf.WireHttpExchange) {
		e.Ends.PeerAddress = eventtest.Address("10.9.9.9")
	})))
	assert.Equal(t, 1, w.Held(), "somebody has it, and may tell of the request")
}

func TestBothEndsOfARequestAreOneTrace(t *testing.T) {
	w := newWaitingWorld(allSignals)
	w.handle(exchangeRecord(getHead, "", both(ofServer, onLoopback, numberedAs(7))))
	assert.Equal(t, 1, w.Held())
	w.handle(exchangeRecord(getHead, "", both(onLoopback, numberedAs(7))))
	w.requireClosed(t)
	out := w.take(t)
	at := byName(out)
	server, client := at["GET server"], at["GET"]
	assert.Equal(t, out.spanIDs[client].span, out.parents[server])
	assert.Equal(t, out.spanIDs[client].trace, out.spanIDs[server].trace)
	trace := correlate.LinkOf(7, 1).TraceID()
	assert.EqualValues(t, trace, out.spanIDs[client].trace)
}

func TestHeadersNameTheParent(t *testing.T) {
	const head = "GET / HTTP/1.1\r\nHost: a\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n" +
		"tracestate: a=1\r\nTraceState: b=2\r\n\r\n"
	w := newWaitingWorld(allSignals)
	w.handle(exchangeRecord(head, "", both(ofServer, onLoopback)), exchangeRecord(head, "", onLoopback))
	batch := w.Take()
	require.Equal(t, 2, batch.Traces.SpanCount())
	for _, of := range batch.Traces.ResourceSpans().All() {
		for _, span := range of.ScopeSpans().At(0).Spans().All() {
			trace, parent := span.TraceID(), span.ParentSpanID()
			assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", hex.EncodeToString(trace[:]))
			assert.Equal(t, "00f067aa0ba902b7", hex.EncodeToString(parent[:]))
			assert.Equal(t, "a=1,b=2", span.TraceState().AsRaw())
			assert.EqualValues(t, 1, span.Flags()&0xff)
		}
	}
}

func TestWaitingEnds(t *testing.T) {
	for name, end := range map[string]func(*world){
		"in time":    func(w *world) { w.Tick(36 * second) },
		"at the end": func(w *world) { w.Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWaitingWorld(allSignals)
			w.handle(exchangeRecord(getHead, "", causedAs(1)))
			w.Tick(34 * second)
			assert.Equal(t, 1, w.Held())
			end(w)
			w.requireClosed(t)
			assert.Zero(t, w.Held())
			assert.Len(t, w.take(t).spans, 1)
		})
	}
}

func TestNothingWaitsWithoutTraces(t *testing.T) {
	w := newWaitingWorld(Signals{Metrics: true, Logs: true})
	w.handle(exchangeRecord(getHead, "", causedAs(1)), connectRecord(10, 3*second, 4*second, 111))
	assert.Zero(t, w.Held())
	w.requireClosed(t)
	out := w.take(t)
	assert.Empty(t, out.spans)
	require.Len(t, out.logs, 1)
	assert.False(t, out.logs[0].InTrace)
}

// A lookup, its connection and its request have one parent, and the connection the name that was looked up.
func TestALookupNamesItsConnection(t *testing.T) {
	w := newWaitingWorld(allSignals)
	w.handle(datagramRecord(3*second, question(1, "web.example")), datagramRecord(3*second+ms, reply(1, "web.example", 0, "10.0.0.2")))
	assert.Equal(t, 2, w.Held())
	w.handle(eventtest.Record(bpf.WireConnectionConnect{
		Header: headerOf(event.TypeConnectionConnect, 10, second, 4*second), Ends: tcpEnds(event.RoleClient), Opened: 3*second + 2*ms,
		Sequence: 7, Acknowledged: 1,
	}))
	w.handle(exchangeRecord(getHead, "", numberedAs(7)))
	w.requireClosed(t)
	out := w.take(t)
	at := byName(out)
	require.Len(t, out.spans, 3)
	request := out.spanIDs[at["GET"]]
	assert.Equal(t, "web.example", out.spans[at["tcp.connect"]].Attributes["server.address"])
	assert.Equal(t, "10.0.0.2", out.spans[at["tcp.connect"]].Attributes["network.peer.address"])
	for _, name := range []string{"dns.query", "tcp.connect"} {
		assert.Equal(t, request.trace, out.spanIDs[at[name]].trace, name)
		assert.Equal(t, request.span, out.parents[at[name]], name)
	}
}
