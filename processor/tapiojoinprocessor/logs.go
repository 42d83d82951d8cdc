// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor"

	"github.com/tapio-io/otelcol-tapio/internal/links"
)

// logsProcessor is the processor in a pipeline of logs. It tells the joiner nothing: where a trace belongs is
// known by its spans.
type logsProcessor struct {
	part
	next     consumer.Logs
	released map[senderKey]*recordsByOrigin // joiner.mu guards it
}

var (
	_ processor.Logs = (*logsProcessor)(nil)
	_ pipeline       = (*logsProcessor)(nil)
	_ item           = (*heldRecord)(nil)
)

func newLogsProcessor(j *joiner, next consumer.Logs) *logsProcessor {
	return &logsProcessor{part: part{joiner: j}, next: next, released: map[senderKey]*recordsByOrigin{}}
}

// ConsumeLogs implements consumer.Logs.
func (p *logsProcessor) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	wasEmpty := ld.ResourceLogs().Len() == 0
	from := senderOf(ctx)
	return p.joiner.consume(func() []waiter { return p.sort(from, ld) }, func() error {
		if ld.ResourceLogs().Len() == 0 && !wasEmpty {
			return nil // all of it waits
		}
		return p.next.ConsumeLogs(ctx, ld)
	})
}

// sort moves records to the traces that theirs are parts of, and takes those out that wait.
func (p *logsProcessor) sort(sender *sender, ld plog.Logs) (waiters []waiter) {
	ld.ResourceLogs().RemoveIf(func(of plog.ResourceLogs) bool {
		before := len(waiters)
		of.ScopeLogs().RemoveIf(func(scope plog.ScopeLogs) bool {
			before := len(waiters)
			waiters = p.sortScope(sender, waiters, of, scope)
			return len(waiters) > before && scope.LogRecords().Len() == 0
		})
		return len(waiters) > before && of.ScopeLogs().Len() == 0
	})
	return waiters
}

func (p *logsProcessor) sortScope(sender *sender, waiters []waiter, of plog.ResourceLogs, scope plog.ScopeLogs) []waiter {
	var from *origin
	scope.LogRecords().RemoveIf(func(record plog.LogRecord) bool {
		link, ok := links.OfTrace(record.TraceID())
		if !ok {
			return false
		}
		if f := p.joiner.fateOf(link); f != nil {
			p.joiner.moveRecord(record, f)
			return false
		}
		if from == nil {
			from = newOrigin(sender, of, scope)
		}
		held := &heldRecord{processor: p, origin: from, record: plog.NewLogRecord()}
		record.MoveTo(held.record)
		waiters = append(waiters, waiter{link, held})
		return true
	})
	return waiters
}

// moveRecord to the trace that its own is a part of.
func (j *joiner) moveRecord(record plog.LogRecord, f *fate) {
	if !f.isJoined {
		return
	}
	record.SetTraceID(f.traceID)
	j.counts.rewritten[signalLogs]++
}

// heldRecord is a log record that waits.
type heldRecord struct {
	processor *logsProcessor
	origin    *origin
	record    plog.LogRecord
}

func (h *heldRecord) of() signal { return signalLogs }

func (h *heldRecord) release(f *fate) {
	h.processor.joiner.moveRecord(h.record, f)
	all, from := h.processor.released, h.origin.sender
	if all[from.key] == nil {
		all[from.key] = newRecordsByOrigin(from)
	}
	all[from.key].add(h)
}

// recordsByOrigin are a sender's records that wait no longer.
type recordsByOrigin struct {
	sender  *sender
	logs    plog.Logs
	records map[*origin]plog.LogRecordSlice
}

func newRecordsByOrigin(sender *sender) *recordsByOrigin {
	return &recordsByOrigin{sender: sender, logs: plog.NewLogs(), records: map[*origin]plog.LogRecordSlice{}}
}

func (r *recordsByOrigin) add(h *heldRecord) {
	records, ok := r.records[h.origin]
	if !ok {
		of := r.logs.ResourceLogs().AppendEmpty()
		scope := of.ScopeLogs().AppendEmpty()
		h.origin.copyTo(of, scope)
		records = scope.LogRecords()
		r.records[h.origin] = records
	}
	h.record.MoveTo(records.AppendEmpty())
}

func (p *logsProcessor) takeReleased() func() {
	released := p.released
	if len(released) == 0 {
		return nil
	}
	p.released = map[senderKey]*recordsByOrigin{}
	p.sending.Add(1)
	return func() {
		defer p.sending.Done()
		for _, of := range released {
			count := of.logs.LogRecordCount()
			if err := p.next.ConsumeLogs(of.sender.context(), of.logs); err != nil {
				p.joiner.refused(signalLogs, count, err)
			}
		}
	}
}
