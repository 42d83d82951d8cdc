// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
)

// Batch is what one hand-over to the consumers consists of.
type Batch struct {
	Traces ptrace.Traces
	Logs   plog.Logs
	// Counts are the events that end with this batch.
	Counts ledger.Counts
	Events int
}

// Describe says what every resource and scope carries.
type Describe struct {
	Source       string // tapio.source
	ReplaySource string // tapio.replay.source; empty: the events are not played
	HostName     string
	NodeName     string // k8s.node.name; empty: not a node of Kubernetes, or not known
	ScopeName    string
	ScopeVersion string
}

func (d Describe) scope(to pcommon.InstrumentationScope) {
	to.SetName(d.ScopeName)
	to.SetVersion(d.ScopeVersion)
}

// builder fills a batch. Where a resource's spans and logs are is found by the resource itself.
type builder struct {
	describe Describe
	batch    *Batch
	spans    map[*identity.Resource]ptrace.SpanSlice
	records  map[*identity.Resource]plog.LogRecordSlice
}

func newBuilder(describe Describe) builder {
	return builder{
		describe: describe,
		spans:    map[*identity.Resource]ptrace.SpanSlice{},
		records:  map[*identity.Resource]plog.LogRecordSlice{},
	}
}

func (b *builder) current() *Batch {
	if b.batch == nil {
		b.batch = &Batch{Traces: ptrace.NewTraces(), Logs: plog.NewLogs()}
	}
	return b.batch
}

func (b *builder) take() *Batch {
	batch := b.batch
	b.batch = nil
	clear(b.spans)
	clear(b.records)
	return batch
}

func (b *builder) span(r *identity.Resource) ptrace.Span { return b.spansOf(r).AppendEmpty() }

func (b *builder) spansOf(r *identity.Resource) ptrace.SpanSlice {
	spans, ok := b.spans[r]
	if !ok {
		of := b.current().Traces.ResourceSpans().AppendEmpty()
		of.SetSchemaUrl(SchemaURL)
		b.describe.resource(of.Resource(), r)
		scope := of.ScopeSpans().AppendEmpty()
		scope.SetSchemaUrl(SchemaURL)
		b.describe.scope(scope.Scope())
		spans = scope.Spans()
		b.spans[r] = spans
	}
	return spans
}

func (b *builder) record(r *identity.Resource) plog.LogRecord {
	records, ok := b.records[r]
	if !ok {
		of := b.current().Logs.ResourceLogs().AppendEmpty()
		of.SetSchemaUrl(SchemaURL)
		b.describe.resource(of.Resource(), r)
		scope := of.ScopeLogs().AppendEmpty()
		scope.SetSchemaUrl(SchemaURL)
		b.describe.scope(scope.Scope())
		records = scope.LogRecords()
		b.records[r] = records
	}
	return records.AppendEmpty()
}
