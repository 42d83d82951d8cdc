// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/tapio-io/otelcol-tapio/internal/links"
	"github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor/internal/metadatatest"
)

// randomStory has programs and requests that nothing has caused, with what they led to on other nodes.
func randomStory(seed uint64) *story {
	s := newStory(seed)
	for range 1 + s.random.IntN(5) {
		from := s.program()
		if s.random.IntN(2) == 0 {
			from = s.orphan()
		}
		s.branch(from, s.random.IntN(5))
	}
	return s
}

// TestAnyOrder: whatever comes first, and in whatever batches, the traces are the same.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, nil), randomStory(seed)
			for _, batch := range s.batches() {
				g.take(batch...)
			}
			s.requireWhole(t, g.passed())
			assert.Zero(t, g.heldItems())
		})
	}
}

// TestAtTheSameTime has all batches come at once.
func TestAtTheSameTime(t *testing.T) {
	for seed := range uint64(50) {
		g, s := newGateway(t, nil), randomStory(seed)
		var all sync.WaitGroup
		for _, batch := range s.batches() {
			all.Go(func() { g.take(batch...) })
		}
		all.Wait()
		s.requireWhole(t, g.passed())
	}
}

// TestChain is one over many nodes, told from its end or from its beginning.
func TestChain(t *testing.T) {
	for _, fromEnd := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, nil), newStory(1)
			at := s.program()
			for range maxHops {
				at = s.below(s.request(at))
			}
			for i := range s.told {
				if fromEnd {
					i = len(s.told) - 1 - i
				}
				g.take(s.told[i])
			}
			s.requireWhole(t, g.passed())
		})
	}
}

// TestChainThatIsTooLong: what is beyond is a trace of its own, so that none grows without bound.
func TestChainThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		first := s.program()
		at := first
		for range maxHops {
			at = s.request(at)
		}
		beyond := s.request(at)
		inside := s.below(beyond)
		g.take(s.told...)
		passed := g.passed()
		assert.Equal(t, first.traceID, passed[at.name].traceID)
		assert.Equal(t, beyond.traceID, passed[beyond.name].traceID)
		assert.Equal(t, beyond.traceID, passed[inside.name].traceID)
	})
}

// TestWhatPassesAtOnce: only a trace that may be a part of another waits, and that only until it is known.
func TestWhatPassesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		program := s.program()
		s.below(s.below(program))
		own := s.orphan()
		s.below(own)
		g.take(s.told...)
		s.requireWhole(t, g.passed())

		known := len(s.told)
		server := s.request(program)
		client := s.told[len(s.told)-2]
		below := s.below(server)
		g.take(server)
		g.take(s.told[len(s.told)-2:]...)
		assert.Len(t, g.passed(), known, "the client's span has not come")
		assert.Equal(t, 3, g.heldItems())
		g.take(client)
		assert.Zero(t, g.heldItems())
		s.requireWhole(t, g.passed())
		g.take(s.below(below))
		g.take(s.told[len(s.told)-1])
		s.requireWhole(t, g.passed())
	})
}

// TestClientIsNotSeen: no agent is where the client is, so the trace stays as it is, after a while.
func TestClientIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		server := s.request(s.program())
		client := s.told[1]
		below := s.below(server)
		record := s.told[len(s.told)-1]
		g.take(server, below, record)
		time.Sleep(g.config.MaxWait - time.Millisecond)
		assert.Empty(t, g.passed())
		time.Sleep(time.Second + time.Millisecond)
		for _, was := range []told{server, below} {
			assert.Equal(t, was, g.passed()[was.name])
		}
		assert.Len(t, g.passed(), 3)
		// what comes later finds the rest of its trace, and the client's span leads there
		g.take(client)
		late := s.below(below)
		g.take(late)
		assert.Equal(t, server.traceID, g.passed()[late.name].traceID)
		assert.Equal(t, client, g.passed()[client.name])
	})
}

// TestChainThatExpires: what waits for a trace that waits itself is a part of that all the same.
func TestChainThatExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		middle := s.request(s.program())
		last := s.request(middle)
		g.take(last)
		time.Sleep(g.config.MaxWait / 2)
		g.take(s.told[3]) // its client's span, in the trace of the middle one
		time.Sleep(g.config.MaxWait * 3 / 4)
		assert.Empty(t, g.passed(), "the middle one's client may come")
		time.Sleep(g.config.MaxWait / 2)
		assert.Len(t, g.passed(), 2)
		g.take(middle)
		for _, name := range []string{"3", middle.name, last.name} {
			assert.Equal(t, middle.traceID, g.passed()[name].traceID)
		}
		assert.Zero(t, g.passed()["3"].linkTo, "the server's span is in its trace")
	})
}

// TestServerThatKnowsNoClient: its agent takes the client for one without an agent. If that one is seen first,
// it is the parent; else the trace is the server's own. Never a part of it alone.
func TestServerThatKnowsNoClient(t *testing.T) {
	for _, clientFirst := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, nil), newStory(1)
			server := s.request(s.program())
			client := s.told[1]
			server.parent, server.flags = pcommon.SpanID{}, ownFlags
			below := s.below(server)
			want := server
			if clientFirst {
				g.take(client)
				want.traceID, want.parent, want.flags = client.traceID, client.span, ownFlags|flagIsRemote
				client.linkTo = 0
			}
			g.take(server)
			g.take(below)
			if !clientFirst {
				g.take(client)
			}
			passed := g.passed()
			assert.Equal(t, want, passed[server.name])
			assert.Equal(t, want.traceID, passed[below.name].traceID)
			assert.Equal(t, client, passed[client.name])
		})
	}
}

// TestOtherLinks: those of applications, and those that are not of this span and that trace, join nothing.
func TestOtherLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		link := links.Link(77)
		server := s.serve(link, "a", link.TraceID())
		forged := func(span pcommon.SpanID, trace pcommon.TraceID, to pcommon.SpanID) {
			td := ptrace.NewTraces()
			of := td.ResourceSpans().AppendEmpty()
			of.SetSchemaUrl("resource schema")
			of.Resource().Attributes().PutStr("host.name", "x")
			scope := of.ScopeSpans().AppendEmpty()
			scope.Scope().SetName("scope of x")
			scope.SetSchemaUrl("schema")
			forgery := scope.Spans().AppendEmpty()
			(&told{name: span.String() + trace.String() + to.String(), traceID: s.traceID(), span: span}).fill(forgery)
			linked := forgery.Links().AppendEmpty()
			linked.SetTraceID(trace)
			linked.SetSpanID(to)
			require.NoError(t, g.traces.ConsumeTraces(t.Context(), td))
			assert.Equal(t, 1, forgery.Links().Len())
		}
		g.take(server)
		forged(s.spanID(), link.TraceID(), link.ServerID())
		forged(link.ClientID(), link.TraceID(), s.spanID())
		forged(link.ClientID(), s.traceID(), link.ServerID())
		forged(link.ClientID(), links.Link(78).TraceID(), links.Link(78).ServerID())
		assert.Len(t, g.passed(), 4)
		assert.Equal(t, 1, g.heldItems())
		g.giveUp()
		assert.Equal(t, server, g.passed()[server.name])
	})
}

// TestCircle: links that lead back, which no agent tells of, are not followed for ever.
func TestCircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		a, b := links.Link(1), links.Link(2)
		client := func(link, in links.Link) told {
			return s.tell(told{node: "a", traceID: in.TraceID(), span: link.ClientID(), parent: s.spanID(), linkTo: link}, pcommon.TraceID{})
		}
		g.take(client(a, b), client(b, a))
		g.giveUp()
		assert.Len(t, g.passed(), 2)
		assert.Zero(t, g.heldItems())
	})
}

// TestContextOfTheTrace: flags and tracestate are those of the trace, but for a tracestate that a sampler on
// the node has made.
func TestContextOfTheTrace(t *testing.T) {
	for _, held := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, nil), newStory(1)
			program := s.program()
			program.state = "a=b"
			middle := s.request(program)
			client := s.told[1]
			client.flags = flagHas // not sampled, and nothing is said of how random it is
			last := s.request(middle)
			sampled := s.below(last)
			sampled.state = "ot=th:c"
			sequence := []told{client, middle, s.told[3], last, sampled}
			if held {
				sequence = []told{sampled, last, s.told[3], middle, client}
			}
			for _, item := range sequence {
				g.take(item)
			}
			passed := g.passed()
			assert.Equal(t, uint32(flagHas), passed[client.name].flags)
			for _, item := range []told{middle, last} {
				assert.Equal(t, "a=b", passed[item.name].state)
				assert.Equal(t, uint32(flagHas|flagIsRemote), passed[item.name].flags)
			}
			assert.Equal(t, "ot=th:c", passed[sampled.name].state)
			assert.Equal(t, program.traceID, passed[sampled.name].traceID)
		})
	}
}

// TestNoRoom: where more would wait than may, a trace goes on as it is, and all of it.
func TestNoRoom(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, func(c *Config) { c.MaxHeld = 1 + int(seed%7) }), randomStory(seed)
			for _, batch := range s.batches() {
				g.take(batch...)
				assert.LessOrEqual(t, g.heldItems(), g.config.MaxHeld)
			}
			g.giveUp()
			s.requireTogether(t, g.passed())
		})
	}
}

// TestNoRoomForALeader: a trace that goes on as it is for want of room takes with it what is a part of it.
func TestNoRoomForALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, func(c *Config) { c.MaxHeld = 1 }), newStory(1)
		program := s.program()
		g.take(s.request(program)) // takes the room
		middle := s.request(program)
		last := s.request(middle)
		client := s.told[len(s.told)-2]
		g.take(client)
		g.take(last)
		passed := g.passed()
		assert.Equal(t, middle.traceID, passed[client.name].traceID)
		assert.Equal(t, middle.traceID, passed[last.name].traceID)
		assert.Zero(t, passed[client.name].linkTo)
	})
}

// TestRoomForWhatIsRefused: traces that wait are no more than may wait, also if nothing of them does.
func TestRoomForWhatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, func(c *Config) { c.MaxHeld = 3 }), newStory(1)
		g.refuse = errors.New("the queue is full")
		at := s.program()
		for range 10 {
			at = s.request(at)
		}
		require.ErrorIs(t, g.traces.ConsumeTraces(t.Context(), spansOf(append(s.told[3:], s.told[0]))), g.refuse)
		assert.LessOrEqual(t, len(g.traces.(*tracesProcessor).joiner.open), g.config.MaxHeld)
	})
}

// TestTwoClientsOfOneLink: there is no such thing, and the one that came first counts.
func TestTwoClientsOfOneLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		program := s.program()
		one, two := s.request(program), s.request(program)
		server := s.request(one)
		first := s.told[len(s.told)-2]
		second := first
		second.name, second.traceID = "second", two.traceID
		g.take(server)
		g.take(first)
		g.take(second)
		g.take(s.told[3]) // the client of two, which is placed now
		assert.NotContains(t, g.passed(), server.name)
		g.take(s.told[1])
		assert.Equal(t, program.traceID, g.passed()[server.name].traceID)
	})
}

// requireTogether wants all that was in one trace to be in one trace still, and nothing to be where it does
// not belong.
func (s *story) requireTogether(t *testing.T, passed map[string]told) {
	t.Helper()
	require.Len(t, passed, len(s.told))
	became, truth := map[pcommon.TraceID]pcommon.TraceID{}, map[pcommon.TraceID]pcommon.TraceID{}
	for _, was := range s.told {
		is := passed[was.name]
		if before, ok := became[was.traceID]; ok {
			require.Equal(t, before, is.traceID, "a trace is in two")
		}
		if before, ok := truth[is.traceID]; ok {
			require.Equal(t, before, s.truth[was.name], "two traces are one")
		}
		became[was.traceID], truth[is.traceID] = is.traceID, s.truth[was.name]
	}
	for _, was := range s.told {
		if was.linkTo != 0 && passed[was.name].linkTo != 0 {
			require.Equal(t, pcommon.TraceID(was.linkTo.TraceID()), became[was.linkTo.TraceID()], "a link leads to no trace")
		}
	}
}

// TestShutdownKeepsNothing: what waits goes on as it is.
func TestShutdownKeepsNothing(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, nil), randomStory(seed)
			batches := s.batches()
			some := rand.New(rand.NewPCG(seed, 1)).IntN(len(batches))
			count := 0
			for _, batch := range batches[:some] {
				g.take(batch...)
				count += len(batch)
			}
			g.stop()
			assert.Len(t, g.passed(), count)
		})
	}
}

// TestForgets: memory is bounded, and given back.
func TestForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, func(c *Config) { c.MaxRemembered = 100 }), newStory(1)
		for range 1000 {
			g.take(s.orphan())
			g.take(s.told[len(s.told)-2])
		}
		j := g.traces.(*tracesProcessor).joiner
		assert.Equal(t, 100, j.fates.Len())
		g.take(s.below(s.told[len(s.told)-1])) // of the last one
		time.Sleep(g.config.Remember - 2*time.Second)
		g.take(s.below(s.told[len(s.told)-1]))
		time.Sleep(4 * time.Second)
		assert.Equal(t, 1, j.remembered(), "what was used")
		time.Sleep(g.config.Remember)
		assert.Zero(t, j.remembered())
	})
}

// TestRefused: what the next component does not take at once is told to the sender, who sends all of it again.
// What had waited is counted.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		program := s.program()
		server := s.request(program)
		client := s.told[1]
		other := s.request(program)
		g.take(other)
		g.refuse = errors.New("the queue is full")
		batch := []told{program, server, s.told[3]} // 3 is the other's client
		err := g.traces.ConsumeTraces(t.Context(), spansOf(batch))
		require.ErrorIs(t, err, g.refuse)
		assert.Zero(t, g.heldItems(), "what is sent again does not wait")
		g.expectRefused(1)
		g.refuse = nil
		g.take(batch...)
		g.take(client)
		s.told = append(s.told[:4:4], s.told[5:]...) // the other's server's span is lost
		s.requireWhole(t, g.passed())
	})
}

// TestEmptyBatches go on, too.
func TestEmptyBatches(t *testing.T) {
	g := newGateway(t, nil)
	require.NoError(t, g.traces.ConsumeTraces(t.Context(), ptrace.NewTraces()))
	empty := ptrace.NewTraces()
	empty.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	require.NoError(t, g.traces.ConsumeTraces(t.Context(), empty))
	assert.Len(t, g.spans.AllTraces(), 2)
	assert.Equal(t, 1, g.spans.AllTraces()[1].ResourceSpans().Len())
}

func TestTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, func(c *Config) { c.MaxHeld = 4 }), newStory(1)
		g.take(s.orphan())
		g.take(s.told[0]) // alone
		program := s.program()
		joined := s.request(program)
		s.below(joined)
		g.take(s.told[len(s.told)-3:]...) // the server's span, one below, and its record
		g.take(s.told[3])                 // the client's
		g.take(s.request(program))
		g.giveUp() // expired
		s.below(s.below(s.request(program)))
		g.take(s.told[len(s.told)-5:]...) // five: overflow
		g.take(s.request(program))
		point := func(value int64, pairs ...string) metricdata.DataPoint[int64] {
			var attributes []attribute.KeyValue
			for i := 0; i < len(pairs); i += 2 {
				attributes = append(attributes, attribute.String(pairs[i], pairs[i+1]))
			}
			return metricdata.DataPoint[int64]{Value: value, Attributes: attribute.NewSet(attributes...)}
		}
		ignore := metricdatatest.IgnoreTimestamp()
		metadatatest.AssertEqualProcessorTapioJoinTraces(t, g.tel, []metricdata.DataPoint[int64]{
			point(1, "outcome", "joined"), point(1, "outcome", "alone"), point(1, "outcome", "expired"),
			point(1, "outcome", "overflow"), point(0, "outcome", "shutdown"),
		}, ignore)
		metadatatest.AssertEqualProcessorTapioJoinWaited(t, g.tel, []metricdata.DataPoint[int64]{
			point(2, "signal", "traces", "outcome", "joined"), point(1, "signal", "traces", "outcome", "alone"),
			point(1, "signal", "traces", "outcome", "expired"), point(3, "signal", "traces", "outcome", "overflow"),
			point(0, "signal", "traces", "outcome", "shutdown"),
			point(1, "signal", "logs", "outcome", "joined"), point(0, "signal", "logs", "outcome", "alone"),
			point(0, "signal", "logs", "outcome", "expired"), point(1, "signal", "logs", "outcome", "overflow"),
			point(0, "signal", "logs", "outcome", "shutdown"),
		}, ignore)
		metadatatest.AssertEqualProcessorTapioJoinHeld(t, g.tel, []metricdata.DataPoint[int64]{
			point(1, "signal", "traces"), point(0, "signal", "logs"),
		}, ignore)
		metadatatest.AssertEqualProcessorTapioJoinRewritten(t, g.tel, []metricdata.DataPoint[int64]{
			point(2, "signal", "traces"), point(1, "signal", "logs"),
		}, ignore)
		g.expectRefused(0)
	})
}

func (g *gateway) expectRefused(spans int64) {
	g.t.Helper()
	metadatatest.AssertEqualProcessorTapioJoinRefused(g.t, g.tel, []metricdata.DataPoint[int64]{
		{Value: spans, Attributes: attribute.NewSet(attribute.String("signal", "traces"))},
		{Value: 0, Attributes: attribute.NewSet(attribute.String("signal", "logs"))},
	}, metricdatatest.IgnoreTimestamp())
}

func (g *gateway) heldItems() int {
	j := g.traces.(*tracesProcessor).joiner
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.held
}

func (j *joiner) remembered() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.fates.Len()
}

// TestEndsWithoutStart: the collector ends what it could not start, and may do so twice.
func TestEndsWithoutStart(t *testing.T) {
	factory := NewFactory()
	set, cfg := processortest.NewNopSettings(factory.Type()), factory.CreateDefaultConfig()
	traces, err := factory.CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	logs, err := factory.CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	for _, p := range []component.Component{traces, traces, logs} {
		require.NoError(t, p.Shutdown(t.Context()))
	}
}

// FuzzJoin has bytes say what is told, in which order and batches, and how much may wait.
func FuzzJoin(f *testing.F) {
	f.Add(uint64(1), uint8(3))
	f.Add(uint64(2), uint8(255))
	f.Fuzz(func(t *testing.T, seed uint64, room uint8) {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGateway(t, func(c *Config) { c.MaxHeld = 1 + int(room) }), randomStory(seed)
			for _, batch := range s.batches() {
				g.take(batch...)
				time.Sleep(time.Duration(s.random.Int64N(int64(time.Second))))
			}
			g.giveUp()
			s.requireTogether(t, g.passed())
		})
	})
}
