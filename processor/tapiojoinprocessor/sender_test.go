// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
)

// TestWhatWaitsIsItsSenders: what comes behind it may look at who that was.
func TestWhatWaitsIsItsSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		program := s.program()
		port := 4000
		from := func(tenant string, host byte) context.Context {
			port++ // each time another connection
			info := client.Info{Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, host), Port: port}}
			if tenant != "" {
				info.Metadata = client.NewMetadata(map[string][]string{"X-Tenant": {tenant}})
			}
			return client.NewContext(t.Context(), info)
		}
		senders := []context.Context{from("a", 1), from("b", 1), from("a", 1), from("", 2), from("", 2), from("", 3), t.Context()}
		want := map[string][]string{}
		for _, sender := range senders {
			server := s.request(program)
			records := recordsOf([]told{{name: "log " + server.name, node: server.node, traceID: server.traceID, span: server.span, isRecord: true}})
			require.NoError(t, g.traces.ConsumeTraces(sender, spansOf([]told{server})))
			require.NoError(t, g.logs.ConsumeLogs(sender, records))
			who := describe(sender)
			want[who] = append(want[who], server.name, "log "+server.name)
		}
		require.Equal(t, 2*len(senders), g.heldItems())
		g.giveUp()

		got := map[string][]string{}
		for i, td := range g.spans.AllTraces() {
			who := describe(g.spans.Contexts()[i])
			for _, of := range td.ResourceSpans().All() {
				for _, span := range of.ScopeSpans().At(0).Spans().All() {
					got[who] = append(got[who], span.Name())
				}
			}
		}
		for i, ld := range g.record.AllLogs() {
			who := describe(g.record.Contexts()[i])
			for _, of := range ld.ResourceLogs().All() {
				for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
					got[who] = append(got[who], record.EventName())
				}
			}
		}
		for who := range want {
			assert.ElementsMatch(t, want[who], got[who], who)
		}
		assert.Len(t, got, len(want))
		assert.Len(t, g.spans.AllTraces(), len(want), "what may go on together does")
	})
}

func describe(ctx context.Context) string {
	info := client.FromContext(ctx)
	who := ""
	if info.Addr != nil {
		who, _, _ = net.SplitHostPort(info.Addr.String())
	}
	for _, tenant := range info.Metadata.Get("x-tenant") {
		who += " " + tenant
	}
	return who
}

// TestShutdownWaitsForWhatIsOnItsWay: the next component may be shut down after it.
func TestShutdownWaitsForWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGateway(t, nil), newStory(1)
		g.slow = g.config.MaxWait + leaveTimeout/2
		g.take(s.request(s.program()))
		g.giveUp() // it is on its way now
		require.Zero(t, g.heldItems())
		ended := make(chan error)
		go func() { ended <- g.traces.Shutdown(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatal("it has not waited", err)
		default:
		}
		require.NoError(t, <-ended)
		assert.Equal(t, 1, g.spans.SpanCount())
	})
}

// TestShutdownDoesNotWaitForEver for a next component that takes nothing.
func TestShutdownDoesNotWaitForEver(t *testing.T) {
	for name, before := range map[string]func(*gateway){
		"on its way":        (*gateway).giveUp,
		"what waited until": func(*gateway) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, s := newGateway(t, nil), newStory(1)
				g.slow = time.Hour
				g.take(s.request(s.program()))
				before(g)
				began := time.Now()
				require.ErrorIs(t, g.traces.Shutdown(t.Context()), context.DeadlineExceeded) // the collector sets no limit
				assert.Equal(t, leaveTimeout, time.Since(began))
				time.Sleep(2 * g.slow)
			})
		})
	}
}
