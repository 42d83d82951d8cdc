// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/tapio-io/otelcol-tapio/internal/links"
)

func newBenchmark(b *testing.B) *tracesProcessor {
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig().(*Config)
	cfg.MaxHeld, cfg.MaxRemembered = 1<<20, 1<<20
	p, err := factory.CreateTraces(b.Context(), processortest.NewNopSettings(factory.Type()), cfg, consumertest.NewNop())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.Shutdown(context.Background())) })
	return p.(*tracesProcessor)
}

// batchSize is how many spans come at a time.
const batchSize = 1000

// BenchmarkPass is what a span costs that is not of a link.
func BenchmarkPass(b *testing.B) {
	p, s := newBenchmark(b), newStory(1)
	for range batchSize {
		s.program()
	}
	td := spansOf(s.told)
	b.ReportAllocs()
	for n := 0; n < b.N; n += batchSize {
		_ = p.ConsumeTraces(b.Context(), td) // which leaves it as it is
	}
}

// BenchmarkJoin is what a span costs that is of a link: half of them the clients', half of them the servers'.
func BenchmarkJoin(b *testing.B) {
	for _, c := range []struct {
		name string
		tell func(s *story)
	}{
		{"alone", func(s *story) { s.orphan() }},
		{"joined", func(s *story) { s.request(told{}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, s := newBenchmark(b), newStory(1)
			batches := make([]ptrace.Traces, b.N/batchSize+1)
			for i := range batches {
				s.told = s.told[:0]
				for len(s.told) < batchSize {
					c.tell(s)
				}
				batches[i] = spansOf(s.told)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, td := range batches {
				_ = p.ConsumeTraces(b.Context(), td)
			}
		})
	}
}

// BenchmarkHeld also says how much memory a span takes that waits, with the 18 attributes of a request.
func BenchmarkHeld(b *testing.B) {
	p, s := newBenchmark(b), newStory(1)
	server := s.request(s.program())
	before := heap()
	td := ptrace.NewTraces()
	for range b.N {
		link := links.Link(s.random.Uint64())
		server.traceID, server.span, server.parent = link.TraceID(), link.ServerID(), link.ClientID()
		one := spansOf([]told{server})
		attributes := one.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes()
		for i := range 18 {
			attributes.PutStr(fmt.Sprintf("the.key.of.attribute.%d", i), fmt.Sprintf("a value of it: %d", i))
		}
		one.ResourceSpans().MoveAndAppendTo(td.ResourceSpans())
	}
	b.ReportAllocs()
	b.ResetTimer()
	_ = p.ConsumeTraces(b.Context(), td)
	b.StopTimer()
	require.Equal(b, b.N, p.joiner.held)
	b.ReportMetric(float64(heap()-before)/float64(b.N), "heap-B/span")
	runtime.KeepAlive(p)
}

// BenchmarkRemembered also says how much memory a trace takes of which it is known where it belongs.
func BenchmarkRemembered(b *testing.B) {
	p := newBenchmark(b)
	before := heap()
	p.joiner.now = time.Now()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p.joiner.alone(links.Link(i))
	}
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "heap-B/trace")
	runtime.KeepAlive(p)
}

// heap is in bytes, without garbage.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
