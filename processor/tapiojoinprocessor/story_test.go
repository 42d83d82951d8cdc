// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/tapio-io/otelcol-tapio/internal/links"
)

// told is a span, or a log record of one, as an agent tells it. name is of no other.
type told struct {
	name, node   string
	traceID      pcommon.TraceID
	span, parent pcommon.SpanID
	flags        uint32
	state        string
	linkTo       links.Link // of a client's span; 0: none
	isRecord     bool
}

const ownFlags = flagHas | 3 // sampled, and random

// story is what agents tell, and which trace it is for one who knows all.
type story struct {
	random *rand.Rand
	told   []told
	truth  map[string]pcommon.TraceID // by name
	roots  int                        // spans without a parent
	links  int                        // traces that are to be joined
}

func newStory(seed uint64) *story {
	return &story{random: rand.New(rand.NewPCG(seed, 7)), truth: map[string]pcommon.TraceID{}}
}

func (s *story) spanID() (id pcommon.SpanID) {
	binary.NativeEndian.PutUint64(id[:], s.random.Uint64())
	return id
}

func (s *story) traceID() (id pcommon.TraceID) {
	binary.NativeEndian.PutUint64(id[:8], s.random.Uint64())
	binary.NativeEndian.PutUint64(id[8:], s.random.Uint64())
	return id
}

func (s *story) tell(t told, truth pcommon.TraceID) told {
	t.name = fmt.Sprint(len(s.told))
	t.flags |= ownFlags
	s.told = append(s.told, t)
	s.truth[t.name] = truth
	return t
}

// program begins a trace whose id is of no link.
func (s *story) program() told {
	s.roots++
	id := s.traceID()
	return s.tell(told{node: "a", traceID: id, span: s.spanID()}, id)
}

// below a span: another one, and a log record of that.
func (s *story) below(parent told) told {
	child := s.tell(told{node: parent.node, traceID: parent.traceID, span: s.spanID(), parent: parent.span, state: parent.state}, s.truth[parent.name])
	s.tell(told{node: parent.node, traceID: child.traceID, span: child.span, isRecord: true}, s.truth[parent.name])
	return child
}

// request to another node, sent by what a span is of, which is in the same trace. It returns the server's span.
func (s *story) request(parent told) told {
	s.links++
	link, truth := links.Link(s.random.Uint64()), s.truth[parent.name]
	s.tell(told{node: parent.node, traceID: parent.traceID, span: link.ClientID(), parent: parent.span, linkTo: link, state: parent.state}, truth)
	return s.serve(link, parent.node, truth)
}

// orphan is a request that nothing is known to have caused: its trace is that of the link.
func (s *story) orphan() told {
	s.roots++
	link := links.Link(s.random.Uint64())
	s.tell(told{node: "a", traceID: link.TraceID(), span: link.ClientID()}, link.TraceID())
	return s.serve(link, "a", link.TraceID())
}

func (s *story) serve(link links.Link, from string, truth pcommon.TraceID) told {
	return s.tell(told{node: from + "'", traceID: link.TraceID(), span: link.ServerID(), parent: link.ClientID(), flags: flagIsRemote}, truth)
}

// branch of requests and other spans below one, up to the depth.
func (s *story) branch(from told, depth int) {
	for range 1 + s.random.IntN(3) {
		if depth == 0 || s.random.IntN(3) == 0 {
			s.below(from)
			continue
		}
		s.branch(s.request(from), depth-1)
	}
}

// batches of what is told, in any order, each of one signal.
func (s *story) batches() [][]told {
	s.random.Shuffle(len(s.told), func(i, k int) { s.told[i], s.told[k] = s.told[k], s.told[i] })
	var batches [][]told
	for rest := s.told; len(rest) > 0; {
		n := 1 + s.random.IntN(min(len(rest), 12))
		batches = append(batches, rest[:n])
		rest = rest[n:]
	}
	return batches
}

func spansOf(batch []told) ptrace.Traces {
	td := ptrace.NewTraces()
	nodes := map[string]ptrace.SpanSlice{}
	for _, t := range batch {
		if t.isRecord {
			continue
		}
		if _, ok := nodes[t.node]; !ok {
			of := td.ResourceSpans().AppendEmpty()
			of.Resource().Attributes().PutStr("host.name", t.node)
			of.SetSchemaUrl("resource schema")
			scope := of.ScopeSpans().AppendEmpty()
			scope.Scope().SetName("scope of " + t.node)
			scope.SetSchemaUrl("schema")
			nodes[t.node] = scope.Spans()
		}
		t.fill(nodes[t.node].AppendEmpty())
	}
	return td
}

func (t *told) fill(span ptrace.Span) {
	span.SetName(t.name)
	span.SetTraceID(t.traceID)
	span.SetSpanID(t.span)
	span.SetParentSpanID(t.parent)
	span.SetFlags(t.flags)
	span.TraceState().FromRaw(t.state)
	if t.linkTo != 0 {
		span.Attributes().PutStr("tapio.link", t.linkTo.String())
		to := span.Links().AppendEmpty()
		to.SetTraceID(t.linkTo.TraceID())
		to.SetSpanID(t.linkTo.ServerID())
	}
}

func recordsOf(batch []told) plog.Logs {
	ld := plog.NewLogs()
	nodes := map[string]plog.LogRecordSlice{}
	for _, t := range batch {
		if !t.isRecord {
			continue
		}
		if _, ok := nodes[t.node]; !ok {
			of := ld.ResourceLogs().AppendEmpty()
			of.Resource().Attributes().PutStr("host.name", t.node)
			of.SetSchemaUrl("resource schema")
			scope := of.ScopeLogs().AppendEmpty()
			scope.Scope().SetName("scope of " + t.node)
			scope.SetSchemaUrl("schema")
			nodes[t.node] = scope.LogRecords()
		}
		record := nodes[t.node].AppendEmpty()
		record.SetEventName(t.name)
		record.SetTraceID(t.traceID)
		record.SetSpanID(t.span)
	}
	return ld
}

// gateway is the processor in a pipeline of traces and one of logs.
type gateway struct {
	t        *testing.T
	config   *Config
	tel      *componenttest.Telemetry
	traces   processor.Traces
	logs     processor.Logs
	spans    consumertest.TracesSink
	record   consumertest.LogsSink
	stopOnce sync.Once
	refuse   error         // what the next component of the traces' pipeline says; nil: it takes them
	slow     time.Duration // how long that takes
}

func newGateway(t *testing.T, change func(*Config)) *gateway {
	t.Helper()
	g := &gateway{t: t, config: createDefaultConfig().(*Config), tel: componenttest.NewTelemetry()}
	if change != nil {
		change(g.config)
	}
	set := processortest.NewNopSettings(NewFactory().Type())
	set.TelemetrySettings = g.tel.NewTelemetrySettings()
	next, err := consumer.NewTraces(func(ctx context.Context, td ptrace.Traces) error {
		if g.refuse != nil {
			return g.refuse
		}
		time.Sleep(g.slow)
		return g.spans.ConsumeTraces(ctx, td)
	})
	require.NoError(t, err)
	g.traces, err = NewFactory().CreateTraces(t.Context(), set, g.config, next)
	require.NoError(t, err)
	g.logs, err = NewFactory().CreateLogs(t.Context(), set, g.config, &g.record)
	require.NoError(t, err)
	require.NoError(t, g.traces.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, g.logs.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(g.stop)
	return g
}

// stop is called at the end, too.
func (g *gateway) stop() {
	g.stopOnce.Do(func() {
		assert.NoError(g.t, g.traces.Shutdown(context.Background()))
		assert.NoError(g.t, g.logs.Shutdown(context.Background()))
		assert.NoError(g.t, g.tel.Shutdown(context.Background()))
	})
}

func (g *gateway) take(batch ...told) {
	if td := spansOf(batch); td.SpanCount() > 0 {
		assert.NoError(g.t, g.traces.ConsumeTraces(context.Background(), td))
	}
	if ld := recordsOf(batch); ld.LogRecordCount() > 0 {
		assert.NoError(g.t, g.logs.ConsumeLogs(context.Background(), ld))
	}
}

// giveUp waits until nothing is waited for any more.
func (g *gateway) giveUp() { time.Sleep(2 * g.config.MaxWait) }

// passed are the spans and records that went on, by name. It looks at what they are below.
func (g *gateway) passed() map[string]told {
	passed := map[string]told{}
	for _, td := range g.spans.AllTraces() {
		for _, of := range td.ResourceSpans().All() {
			for _, scope := range of.ScopeSpans().All() {
				node := g.nodeOf(of.Resource(), of.SchemaUrl(), scope.Scope(), scope.SchemaUrl())
				for _, span := range scope.Spans().All() {
					g.pass(passed, told{
						name: span.Name(), node: node, traceID: span.TraceID(), span: span.SpanID(), parent: span.ParentSpanID(),
						flags: span.Flags(), state: span.TraceState().AsRaw(), linkTo: linkShown(span),
					})
				}
			}
		}
	}
	for _, ld := range g.record.AllLogs() {
		for _, of := range ld.ResourceLogs().All() {
			for _, scope := range of.ScopeLogs().All() {
				node := g.nodeOf(of.Resource(), of.SchemaUrl(), scope.Scope(), scope.SchemaUrl())
				for _, record := range scope.LogRecords().All() {
					g.pass(passed, told{name: record.EventName(), node: node, traceID: record.TraceID(), span: record.SpanID(), isRecord: true})
				}
			}
		}
	}
	return passed
}

func linkShown(span ptrace.Span) links.Link {
	link, ok := linkOfClient(span)
	if !ok {
		return 0
	}
	return link
}

func (g *gateway) nodeOf(resource pcommon.Resource, resourceSchema string, scope pcommon.InstrumentationScope, schema string) string {
	node, _ := resource.Attributes().Get("host.name")
	assert.Equal(g.t, "scope of "+node.Str(), scope.Name())
	assert.Equal(g.t, "resource schema", resourceSchema)
	assert.Equal(g.t, "schema", schema)
	return node.Str()
}

func (g *gateway) pass(passed map[string]told, item told) {
	g.t.Helper()
	assert.NotContains(g.t, passed, item.name, "it went on twice")
	passed[item.name] = item
}

// requireWhole wants the passed to be what was told, all in the traces that they belong to.
func (s *story) requireWhole(t *testing.T, passed map[string]told) {
	t.Helper()
	require.Len(t, passed, len(s.told))
	parents := map[pcommon.SpanID]told{}
	for _, is := range passed {
		if !is.isRecord {
			parents[is.span] = is
		}
	}
	roots := 0
	for _, was := range s.told {
		is := passed[was.name]
		want := was
		want.traceID, want.linkTo = s.truth[was.name], 0
		if was.isRecord {
			want.flags, want.state = 0, ""
		}
		require.Equal(t, want, is)
		if is.isRecord {
			continue
		}
		if is.parent.IsEmpty() {
			roots++
			continue
		}
		require.Equal(t, parents[is.parent].traceID, is.traceID, "the parent is in another trace")
	}
	require.Equal(t, s.roots, roots)
}
