// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

// lookups are the DNS messages on their way to a span: messages are found in segments, queries wait
// for their answers, and failed ones for what follows. All that time their events are held.
type lookups struct {
	*Translator
	decoder  *dns.Decoder
	message  dns.Message // scratch
	segment  dns.Segment // scratch
	streams  *dns.Streams
	pairs    *dns.Pairs
	searches *correlate.Lookups
	held     uint64 // events
}

func newLookups(t *Translator, options Options) *lookups {
	l := &lookups{Translator: t, decoder: dns.NewDecoder(), pairs: dns.NewPairs(uint64(options.DNSTimeout))}
	l.streams = dns.NewStreams(l)
	l.searches = correlate.NewLookups(l)
	return l
}

// dnsMessage takes a message or segment.
func (t *Translator) dnsMessage(kind event.Type, record []byte) (outcome, error) {
	e, err := event.DecodeDNSMessage(record)
	if err != nil {
		return absorbed, err
	}
	l := t.lookups
	l.held++
	s := &l.segment
	s.Header, s.Ends, s.Cause, s.Socket, s.Sent = e.Header, e.Ends, e.Cause, e.Socket, e.Flags&event.DNSSent != 0
	s.Sequence, s.Size, s.Payload = e.Sequence, e.Size, e.Payload
	if kind == event.TypeDNSSegment {
		l.streams.Add(s)
	} else {
		l.Framed(dns.Framed{Origin: &s.Origin, Bytes: s.Payload, Began: e.Header.Time, Ended: e.Header.Time, Events: 1})
	}
	s.Payload = nil // it is valid only during the call
	return held, nil
}

// Framed implements dns.StreamEvents.
func (l *lookups) Framed(framed dns.Framed) {
	m := &l.message
	if err := l.decoder.Decode(framed.Bytes, m); err != nil {
		l.Lost(framed.Events)
		return
	}
	switch {
	case !isClients(m, framed.Sent):
		l.release(framed.Events, excluded)
	case m.Response:
		l.answered(m, &framed)
	default:
		l.asked(m, &framed)
	}
}

// isClients says that a message is a client's query or its answer. A server may send from its port,
// too, as primaries do to notify; and some messages ask for nothing.
func isClients(m *dns.Message, sent bool) bool {
	return m.Response != sent && m.Opcode != dns.OpcodeStateful && (m.Asked || m.Response)
}

// Repeated implements dns.StreamEvents.
func (l *lookups) Repeated(events uint64) { l.release(events, l.outcomeIf(false)) }

// Lost implements dns.StreamEvents.
func (l *lookups) Lost(events uint64) { l.lose(events, ledger.LostUndecodable) }

func (l *lookups) lose(events uint64, fate ledger.Fate) {
	l.held -= events
	l.ledger.Add(event.FamilyDNS, fate, events)
}

// release ends events that were held.
func (l *lookups) release(events uint64, result outcome) {
	l.held -= events
	l.account(event.FamilyDNS, events, result)
}

func (l *lookups) asked(m *dns.Message, framed *dns.Framed) {
	l.expire(framed.Began)
	x, isNew := l.pairs.Sent(m, framed)
	if !isNew {
		l.metrics.retried(l.resourceOf(x), l.wall(framed.Ended))
		return
	}
	for given := l.pairs.Abandoned(framed); given != nil; given = l.pairs.Abandoned(framed) {
		l.end(given)
	}
	l.searches.Begin(x)
	if x = l.pairs.Excess(); x != nil {
		l.searches.Drop(x)
		l.lose(x.Events, ledger.LostTableFull)
		l.pairs.Release(x)
	}
}

func (l *lookups) answered(m *dns.Message, framed *dns.Framed) {
	x := l.pairs.Received(m, framed)
	if x == nil {
		p := l.index.Find(framed.Header.Pid, framed.Header.StartTime)
		l.metrics.unmatchedAnswer(l.index.ResourceOf(&framed.Header, p), l.wall(framed.Ended))
		l.release(framed.Events, l.outcomeIf(false))
		return
	}
	l.end(x)
}

// expire ends the queries that nobody has answered in time, nor sent again since.
func (l *lookups) expire(now uint64) {
	for x := l.pairs.Overdue(now); x != nil; x = l.pairs.Overdue(now) {
		l.end(x)
	}
}

func (l *lookups) end(x *dns.Exchange) {
	if x.IsLookup() {
		l.metrics.lookedUp(l.resourceOf(x), x, l.wall(x.End))
	}
	l.searches.End(x)
}

func (l *lookups) ownerOf(x *dns.Exchange) *identity.Process {
	return l.index.Find(x.Header.Pid, x.Header.StartTime)
}

func (l *lookups) resourceOf(x *dns.Exchange) *identity.Resource {
	return l.index.ResourceOf(&x.Header, l.ownerOf(x))
}

// tick is done when all records older than now (CLOCK_BOOTTIME, ns) were handled.
func (l *lookups) tick(now uint64) {
	l.streams.Tick(now)
	l.expire(now)
	l.searches.Tick(now)
}

// Alone implements correlate.LookupEvents.
func (l *lookups) Alone(x *dns.Exchange) {
	l.noteNames(x, x.Question.Name.Text, x.Answers)
	if !l.signals.Traces {
		l.release(x.Events, l.outcomeIf(l.tellFailure(x)))
		l.pairs.Release(x)
		return
	}
	place, unit := l.placeOf(x, x.Question.Name.Folded, x.Question.Type, x.Answers, x.End)
	told := l.newHeld(event.FamilyDNS, x.Events, l.resourceOf(x))
	l.fillQuery(told.span, x)
	told.logFailure(l, x, spanIDOf(&place, unit))
	told.finish(&place, unit)
	l.pairs.Release(x)
}

// Searched implements correlate.LookupEvents.
func (l *lookups) Searched(search *correlate.Lookup) {
	first := search.Queries[0]
	l.metrics.searched(l.resourceOf(first), search.Wasted, l.wall(search.End))
	l.noteNames(search.Queries[len(search.Queries)-1], search.Name, search.Answers)
	if !l.signals.Traces {
		for _, x := range search.Queries {
			l.release(x.Events, l.outcomeIf(l.tellFailure(x)))
			l.pairs.Release(x)
		}
		return
	}
	l.tellSearch(search, first)
}

func (l *lookups) tellSearch(search *correlate.Lookup, first *dns.Exchange) {
	place, unit := l.placeOf(first, search.Name, 0, search.Answers, search.End)
	told := l.newHeld(event.FamilyDNS, 0, l.resourceOf(first))
	l.fillSearch(told.span, search, first)
	for _, x := range search.Queries {
		told.events += x.Events
		query := told.addBelow(l, x, spanIDOf(&place, unit))
		told.logFailure(l, x, query)
		l.pairs.Release(x)
	}
	told.finish(&place, unit)
}

// noteNames of the addresses that were answered.
func (l *lookups) noteNames(x *dns.Exchange, name string, answers []string) {
	if len(answers) > 0 && x.Header.Pid != 0 {
		l.names.Answered(askerOf(&x.Header, &x.Cause), name, answers, x.TTL, x.End)
	}
}

// placeOf a lookup that began with this query.
func (l *lookups) placeOf(x *dns.Exchange, name string, kind uint16, answers []string, end uint64) (correlate.Place, *correlate.Unit) {
	return l.traces.Lookup(&correlate.NameLookup{
		Cause:   causeOf(&x.Cause),
		Program: programOf(l.ownerOf(x), &x.Cause),
		Process: identity.KeyOf(x.Header.Pid, x.Header.StartTime),
		Thread:  x.Cause.Thread,
		Name:    name,
		Type:    kind,
		Answers: answers,
		Start:   x.Start,
		End:     end,
	})
}

func spanIDOf(place *correlate.Place, unit *correlate.Unit) [8]byte {
	if unit != nil {
		return unit.SpanID()
	}
	return place.SpanID
}

// finish what is told of a lookup. All of it is held together, and goes to the batch at once if its place is
// known.
func (h *heldSpan) finish(place *correlate.Place, unit *correlate.Unit) {
	if unit != nil {
		unit.HoldBy(h)
		return
	}
	h.Placed(place)
}

// addBelow adds the span of a query of a search, and returns its id.
func (h *heldSpan) addBelow(l *lookups, x *dns.Exchange, parent [8]byte) [8]byte {
	span, id := ptrace.NewSpan(), l.ids.SpanID()
	l.fillQuery(span, x)
	span.SetSpanID(id)
	span.SetParentSpanID(parent)
	h.below = append(h.below, spanBelow{span, l.resourceOf(x)})
	return id
}

func (h *heldSpan) logFailure(l *lookups, x *dns.Exchange, span [8]byte) {
	if !l.signals.Logs || !x.Failed() {
		return
	}
	log := plog.NewLogRecord()
	l.fillFailure(log, x)
	log.SetSpanID(span)
	h.logs = append(h.logs, heldLog{log, l.resourceOf(x)})
}

// tellFailure where there are no traces; false if there is none to tell of.
func (l *lookups) tellFailure(x *dns.Exchange) bool {
	if !l.signals.Logs || !x.Failed() {
		return false
	}
	l.fillFailure(l.builder.record(l.resourceOf(x)), x)
	return true
}

func (l *lookups) fillFailure(log plog.LogRecord, x *dns.Exchange) {
	fillLog(log, eventDNSFailure, l.wall(x.End), plog.SeverityNumberWarn)
	l.describeQuery(&l.list, x, l.ownerOf(x))
	l.list.moveTo(log.Attributes())
}

func (l *lookups) fillQuery(span ptrace.Span, x *dns.Exchange) {
	fillSpan(span, spanDNSQuery, ptrace.SpanKindClient, l.wall(x.Start), l.wall(x.End))
	l.describeQuery(&l.list, x, l.ownerOf(x))
	l.list.moveTo(span.Attributes())
	if x.Failed() {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}

func (l *lookups) fillSearch(span ptrace.Span, search *correlate.Lookup, first *dns.Exchange) {
	fillSpan(span, spanDNSLookup, ptrace.SpanKindInternal, l.wall(search.Start), l.wall(search.End))
	l.describeSearch(&l.list, search, first.Header.Pid, l.ownerOf(first))
	l.list.moveTo(span.Attributes())
	if search.ErrorType != "" {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}

// queryAttributes is how many there are as a rule.
const queryAttributes = 12

func (l *lookups) describeQuery(attributes *attributeList, x *dns.Exchange, p *identity.Process) {
	attributes.EnsureCapacity(queryAttributes + l.peers.attributes(x.Ends.PeerAddress))
	l.putOwner(attributes, x.Header.Pid, p)
	attributes.PutStr(attrDNSQuestionName, x.Question.Name.Text)
	attributes.PutStr(attrDNSQuestionType, dns.TypeName(x.Question.Type))
	if !x.IsLookup() {
		attributes.PutStr(attrDNSOpcode, dns.OpcodeName(x.Opcode))
	}
	l.putServer(attributes, x)
	if x.Retries > 0 {
		attributes.PutInt(attrDNSRetries, int64(x.Retries))
	}
	if !x.TimedOut {
		putAnswer(attributes, x)
	}
	if errorType := x.ErrorType(); errorType != "" {
		attributes.PutStr(attrErrorType, errorType)
	}
}

func (l *lookups) putServer(attributes *attributeList, x *dns.Exchange) {
	server, port := l.addresses.of(x.Ends.PeerAddress), int64(x.Ends.PeerPort)
	attributes.PutStr(attrNetworkTransport, transportOf(&x.Ends))
	attributes.PutStr(attrNetworkType, typeOf(&x.Ends))
	attributes.PutStr(attrNetworkPeerAddress, server)
	attributes.PutInt(attrNetworkPeerPort, port)
	l.peers.put(attributes, x.Ends.PeerAddress, x.Ends.PeerPort)
	attributes.PutStr(attrServerAddress, server)
	attributes.PutInt(attrServerPort, port)
}

func putAnswer(attributes *attributeList, x *dns.Exchange) {
	attributes.PutStr(attrDNSResponseCode, dns.ResponseCodeName(x.Code))
	if x.Truncated {
		attributes.PutBool(attrDNSTruncated, true)
	}
	if len(x.Answers) > 0 {
		attributes.putStrings(attrDNSAnswers, x.Answers)
	}
}

func (l *lookups) describeSearch(attributes *attributeList, search *correlate.Lookup, pid uint32, p *identity.Process) {
	attributes.EnsureCapacity(ownerAttributes + 4)
	l.putOwner(attributes, pid, p)
	attributes.PutStr(attrDNSQuestionName, search.Name)
	attributes.PutInt(attrDNSLookupAttempts, int64(search.Attempts))
	attributes.PutInt(attrDNSLookupWasted, int64(search.Wasted))
	if len(search.Answers) > 0 {
		attributes.putStrings(attrDNSAnswers, search.Answers)
	}
	if search.ErrorType != "" {
		attributes.PutStr(attrErrorType, search.ErrorType)
	}
}
