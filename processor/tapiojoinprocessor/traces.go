// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"

	"github.com/tapio-io/otelcol-tapio/internal/links"
)

// tracesProcessor is the processor in a pipeline of traces.
type tracesProcessor struct {
	part
	next     consumer.Traces
	released map[senderKey]*spansByOrigin // joiner.mu guards it
}

var (
	_ processor.Traces = (*tracesProcessor)(nil)
	_ pipeline         = (*tracesProcessor)(nil)
	_ item             = (*heldSpan)(nil)
)

func newTracesProcessor(j *joiner, next consumer.Traces) *tracesProcessor {
	return &tracesProcessor{part: part{joiner: j}, next: next, released: map[senderKey]*spansByOrigin{}}
}

// ConsumeTraces implements consumer.Traces.
func (p *tracesProcessor) ConsumeTraces(ctx context.Context, td ptrace.Traces) error {
	from := senderOf(ctx)
	sort := func() []waiter {
		p.learn(td)
		return p.sort(from, td)
	}
	wasEmpty := td.ResourceSpans().Len() == 0
	return p.joiner.consume(sort, func() error {
		if td.ResourceSpans().Len() == 0 && !wasEmpty {
			return nil // all of it waits
		}
		return p.next.ConsumeTraces(ctx, td)
	})
}

// --- what spans tell -----------------------------------------------------------------------------

// learn of all spans before any is sorted: those of one batch come in no order.
func (p *tracesProcessor) learn(td ptrace.Traces) {
	for _, of := range td.ResourceSpans().All() {
		for _, scope := range of.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				p.learnOf(span)
			}
		}
	}
}

func (p *tracesProcessor) learnOf(span ptrace.Span) {
	if link, ok := links.OfTrace(span.TraceID()); ok && isFirst(span, link) {
		p.joiner.alone(link)
	}
	if link, ok := linkOfClient(span); ok {
		p.joiner.connect(link, contextOf(span))
	}
}

// isFirst says that a span is the first one of its link's trace, which is then nobody's but its own: the
// client's, or the server's where its agent knows of no client.
func isFirst(span ptrace.Span, link links.Link) bool {
	switch span.SpanID() {
	case link.ClientID():
		return true
	case link.ServerID():
		return span.ParentSpanID() != link.ClientID()
	default:
		return false
	}
}

// linkOfClient is the link of a request that is a child itself, and whose server's span may be in the trace
// of the link. Its span's own id and its span link, to that trace and the server's span in it, are made of
// the same link, or it is none.
func linkOfClient(span ptrace.Span) (links.Link, bool) {
	if span.Links().Len() == 0 {
		return 0, false
	}
	link := links.OfClient(span.SpanID())
	for _, to := range span.Links().All() {
		if leadsToServer(to, link) {
			return link, true
		}
	}
	return 0, false
}

func leadsToServer(to ptrace.SpanLink, link links.Link) bool {
	return to.SpanID() == link.ServerID() && to.TraceID() == link.TraceID()
}

// The bits of a span's flags (opentelemetry/proto/trace/v1/trace.proto).
const (
	flagsW3C     = 0xff   // W3C Trace Context
	flagHas      = 1 << 8 // the next one is valid
	flagIsRemote = 1 << 9 // the parent is another process's
)

func contextOf(span ptrace.Span) traceContext {
	return traceContext{traceID: span.TraceID(), flags: span.Flags() & flagsW3C, state: span.TraceState().AsRaw()}
}

// --- sorting -------------------------------------------------------------------------------------

// sort moves spans to the traces that theirs are parts of, and takes those out that wait.
func (p *tracesProcessor) sort(sender *sender, td ptrace.Traces) (waiters []waiter) {
	td.ResourceSpans().RemoveIf(func(of ptrace.ResourceSpans) bool {
		before := len(waiters)
		of.ScopeSpans().RemoveIf(func(scope ptrace.ScopeSpans) bool {
			before := len(waiters)
			waiters = p.sortScope(sender, waiters, of, scope)
			return len(waiters) > before && scope.Spans().Len() == 0
		})
		return len(waiters) > before && of.ScopeSpans().Len() == 0
	})
	return waiters
}

func (p *tracesProcessor) sortScope(sender *sender, waiters []waiter, of ptrace.ResourceSpans, scope ptrace.ScopeSpans) []waiter {
	var from *origin
	scope.Spans().RemoveIf(func(span ptrace.Span) bool {
		link, ok := links.OfTrace(span.TraceID())
		if !ok {
			p.joiner.unlink(span)
			return false
		}
		if f := p.joiner.fateOf(link); f != nil {
			p.joiner.move(span, link, f)
			return false
		}
		if from == nil {
			from = newOrigin(sender, of, scope)
		}
		held := &heldSpan{processor: p, origin: from, span: ptrace.NewSpan()}
		span.MoveTo(held.span)
		waiters = append(waiters, waiter{link, held})
		return true
	})
	return waiters
}

// move a span to the trace that its own, of the link, is a part of.
func (j *joiner) move(span ptrace.Span, link links.Link, f *fate) {
	j.unlink(span)
	if !f.isJoined {
		return
	}
	to := contextOf(span).in(f.traceContext)
	span.SetTraceID(to.traceID)
	span.SetFlags(span.Flags()&^flagsW3C | to.flags)
	span.TraceState().FromRaw(to.state)
	if span.SpanID() == link.ServerID() && span.ParentSpanID().IsEmpty() {
		// its agent knew of no client, but there is one
		span.SetParentSpanID(link.ClientID())
		span.SetFlags(span.Flags() | flagHas | flagIsRemote)
	}
	j.counts.rewritten[signalTraces]++
}

// unlink a client's span from the trace of its link, where that is now a part of the span's own.
func (j *joiner) unlink(span ptrace.Span) {
	link, ok := linkOfClient(span)
	if !ok {
		return
	}
	if f := j.fateOf(link); f != nil && f.isJoined {
		span.Links().RemoveIf(func(to ptrace.SpanLink) bool { return leadsToServer(to, link) })
	}
}

// --- waiting -------------------------------------------------------------------------------------

// heldSpan is a span that waits.
type heldSpan struct {
	processor *tracesProcessor
	origin    *origin
	span      ptrace.Span
}

func (h *heldSpan) of() signal { return signalTraces }

func (h *heldSpan) release(f *fate) {
	link, _ := links.OfTrace(h.span.TraceID())
	h.processor.joiner.move(h.span, link, f)
	all, from := h.processor.released, h.origin.sender
	if all[from.key] == nil {
		all[from.key] = newSpansByOrigin(from)
	}
	all[from.key].add(h)
}

// spansByOrigin are a sender's spans that wait no longer.
type spansByOrigin struct {
	sender *sender
	traces ptrace.Traces
	spans  map[*origin]ptrace.SpanSlice
}

func newSpansByOrigin(sender *sender) *spansByOrigin {
	return &spansByOrigin{sender: sender, traces: ptrace.NewTraces(), spans: map[*origin]ptrace.SpanSlice{}}
}

func (s *spansByOrigin) add(h *heldSpan) {
	spans, ok := s.spans[h.origin]
	if !ok {
		of := s.traces.ResourceSpans().AppendEmpty()
		scope := of.ScopeSpans().AppendEmpty()
		h.origin.copyTo(of, scope)
		spans = scope.Spans()
		s.spans[h.origin] = spans
	}
	h.span.MoveTo(spans.AppendEmpty())
}

func (p *tracesProcessor) takeReleased() func() {
	released := p.released
	if len(released) == 0 {
		return nil
	}
	p.released = map[senderKey]*spansByOrigin{}
	p.sending.Add(1)
	return func() {
		defer p.sending.Done()
		for _, of := range released {
			count := of.traces.SpanCount()
			if err := p.next.ConsumeTraces(of.sender.context(), of.traces); err != nil {
				p.joiner.refused(signalTraces, count, err)
			}
		}
	}
}
