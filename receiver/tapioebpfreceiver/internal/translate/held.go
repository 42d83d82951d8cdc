// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// heldSpan is a span that is told when its place in a trace is known, with those below it and the log
// records of them. It implements correlate.Holder.
type heldSpan struct {
	translator *Translator
	family     event.Family
	events     uint64

	spans    ptrace.SpanSlice // has only this one, which need not be copied then
	span     ptrace.Span
	resource *identity.Resource
	below    []spanBelow
	logs     []heldLog
}

// maxFreeHeld spans' holders wait to be used again.
const maxFreeHeld = 1024

// newHeld begins one.
func (t *Translator) newHeld(family event.Family, events uint64, r *identity.Resource) *heldSpan {
	h := t.takeHeld()
	h.family, h.events, h.resource, h.span = family, events, r, h.spans.AppendEmpty()
	return h
}

func (t *Translator) takeHeld() *heldSpan {
	last := len(t.freeHeld) - 1
	if last < 0 {
		return &heldSpan{translator: t, spans: ptrace.NewSpanSlice()}
	}
	h := t.freeHeld[last]
	t.freeHeld = t.freeHeld[:last]
	return h
}

// free lets go of what was held.
func (h *heldSpan) free() {
	t := h.translator
	clear(h.below)
	clear(h.logs)
	*h = heldSpan{translator: t, spans: h.spans, below: h.below[:0], logs: h.logs[:0]}
	if len(t.freeHeld) < maxFreeHeld {
		t.freeHeld = append(t.freeHeld, h)
	}
}

type spanBelow struct {
	span     ptrace.Span
	resource *identity.Resource
}

type heldLog struct {
	record   plog.LogRecord
	resource *identity.Resource
}

// Placed implements correlate.Holder.
func (h *heldSpan) Placed(place *correlate.Place) {
	t := h.translator
	setPlace(h.span, place)
	h.spans.MoveAndAppendTo(t.builder.spansOf(h.resource))
	for _, below := range h.below {
		setTrace(below.span, place)
		below.span.MoveTo(t.builder.span(below.resource))
	}
	for _, log := range h.logs {
		log.record.SetTraceID(place.TraceID)
		log.record.MoveTo(t.builder.record(log.resource))
	}
	t.releaseHeld(h.family, h.events)
	h.free()
	t.waiting.released()
}

func (t *Translator) releaseHeld(family event.Family, events uint64) {
	if family == event.FamilyDNS {
		t.lookups.release(events, carried)
		return
	}
	t.held -= events
	t.account(family, events, carried)
}

// attempt is what a client tried: it has a span and, if it failed, a log record, too.
type attempt interface {
	owner() *identity.Resource
	failed() bool
	fillSpan(t *Translator, span ptrace.Span)
	fillFailure(t *Translator, log plog.LogRecord, span [8]byte)
}

// tellAttempt whose place is known; with a unit, both wait for it.
func (t *Translator) tellAttempt(a attempt, place correlate.Place, unit *correlate.Unit) outcome {
	logged := t.signals.Logs && a.failed()
	if unit == nil {
		span := t.builder.span(a.owner())
		a.fillSpan(t, span)
		setPlace(span, &place)
		if logged {
			log := t.builder.record(a.owner())
			a.fillFailure(t, log, place.SpanID)
			log.SetTraceID(place.TraceID)
		}
		return carried
	}
	t.held++
	holder := t.newHeld(event.FamilyNetwork, 1, a.owner())
	a.fillSpan(t, holder.span)
	if logged {
		log := plog.NewLogRecord()
		a.fillFailure(t, log, unit.SpanID())
		holder.logs = append(holder.logs, heldLog{log, a.owner()})
	}
	unit.HoldBy(holder)
	return held
}

func setPlace(span ptrace.Span, place *correlate.Place) {
	setTrace(span, place)
	span.SetSpanID(place.SpanID)
	span.SetParentSpanID(place.ParentID)
	if place.Link == 0 {
		return
	}
	span.Attributes().PutStr(attrLink, place.Link.String())
	if place.Linked {
		link := span.Links().AppendEmpty()
		link.SetTraceID(place.Link.TraceID())
		link.SetSpanID(place.Link.ServerID())
	}
}

func setTrace(span ptrace.Span, place *correlate.Place) {
	span.SetTraceID(place.TraceID)
	span.SetFlags(place.Flags)
	if place.State != "" {
		span.TraceState().FromRaw(place.State)
	}
}

// fillSpan says what all spans say.
func fillSpan(span ptrace.Span, name string, kind ptrace.SpanKind, start, end pcommon.Timestamp) {
	span.SetName(name)
	span.SetKind(kind)
	span.SetStartTimestamp(start)
	span.SetEndTimestamp(max(start, end))
}

func causeOf(c *bpf.WireCause) correlate.Cause {
	if c.Flags&(event.CauseThread|event.CauseSole) == 0 {
		return correlate.Cause{}
	}
	return correlate.Cause{Link: correlate.LinkOf(c.Sequence, c.Acknowledged), ByThread: c.Flags&event.CauseThread != 0}
}

// programOf a process that did something; nil if it is not known. What the kernel says of the process is
// noted: a server's doings are not those of its start.
func programOf(p *identity.Process, c *bpf.WireCause) *identity.Program {
	if p == nil || p.Program == nil {
		return nil
	}
	if c.Flags&event.CauseServer != 0 {
		p.Program.Serves = true
	}
	return p.Program
}

func noteServer(p *identity.Process) {
	if p != nil && p.Program != nil {
		p.Program.Serves = true
	}
}
