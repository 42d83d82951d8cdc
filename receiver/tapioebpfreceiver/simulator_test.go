// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
)

// simulatorPatience is for what takes seconds where the race detector has a CPU to itself.
const simulatorPatience = 2 * time.Minute

// TestSimulator takes all that it can make, in all three signals.
func TestSimulator(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Simulator.Rate = "simulator", 0
	cfg.Metrics.Interval = 100 * time.Millisecond
	traces, logs, metrics := &consumertest.TracesSink{}, &consumertest.LogsSink{}, &consumertest.MetricsSink{}
	set, factory := receivertest.NewNopSettings(metadata.Type), NewFactory()
	created, err := factory.CreateTraces(t.Context(), set, cfg, traces)
	require.NoError(t, err)
	_, err = factory.CreateLogs(t.Context(), set, cfg, logs)
	require.NoError(t, err)
	_, err = factory.CreateMetrics(t.Context(), set, cfg, metrics)
	require.NoError(t, err)
	require.NoError(t, created.Start(t.Context(), componenttest.NewNopHost()))
	r := created.(*tapioReceiver)
	require.Eventually(t, func() bool { return r.stats().TotalEvents > 50_000 && len(metrics.AllMetrics()) > 2 }, simulatorPatience, 10*time.Millisecond)
	assert.Equal(t, "simulator", r.stats().Source)
	require.NoError(t, created.Shutdown(context.Background()))

	rows, err := r.ledger.Rows(r.source.Counters)
	require.NoError(t, err)
	require.Len(t, rows, 6, "the families, and the cgroups of containers that are restarted")
	for family, row := range rows {
		for reason, n := range row.Lost {
			assert.Equal(t, "dns shutdown", family.String()+" "+reason)
			assert.Less(t, n, uint64(1000), "what waits for an answer: %v", family)
		}
	}
	names, pods, restarted := map[string]int{}, map[string]bool{}, map[string]bool{}
	connected, named := 0, 0
	for _, batch := range traces.AllTraces() {
		for _, of := range batch.ResourceSpans().All() {
			require.Equal(t, "simulator", textOf(of.Resource().Attributes(), "tapio.source"))
			require.Equal(t, "node-1", textOf(of.Resource().Attributes(), "host.name"))
			require.Equal(t, "node-1", textOf(of.Resource().Attributes(), "k8s.node.name"), "also outside of pods")
			if resource := of.Resource().Attributes(); textOf(resource, "container.id") != "" {
				for _, key := range []string{"k8s.pod.uid", "k8s.pod.name", "k8s.namespace.name", "k8s.node.name", "k8s.container.name", "container.image.name", "service.namespace"} {
					require.NotEmpty(t, textOf(resource, key), key)
				}
				require.NotEqual(t, textOf(resource, "k8s.replicaset.uid") == "", textOf(resource, "k8s.statefulset.uid") == "", "one of them")
				require.True(t, strings.HasPrefix(textOf(resource, "k8s.pod.name"), textOf(resource, "service.name")+"-"), "%v", resource.AsRaw())
				pods[textOf(resource, "k8s.pod.name")] = true
				if textOf(resource, "k8s.container.name") == "exporter" {
					restarted[textOf(resource, "container.id")] = true
				}
			}
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				names[span.Name()]++
				require.NotEmpty(t, textOf(span.Attributes(), "process.executable.name"), "%s: all processes are known", span.Name())
				if service := textOf(span.Attributes(), "tapio.peer.k8s.service.name"); span.Name() == "tcp.connect" && service != "" {
					connected++
					name := service + "." + textOf(span.Attributes(), "tapio.peer.k8s.namespace.name")
					switch server := textOf(span.Attributes(), "server.address"); server {
					case service, name, name + ".svc.cluster.local": // with a search list that has the namespace twice it is one of the first two
						named++
					default: // two threads have looked it up by two names, so that neither is certain
						require.Equal(t, textOf(span.Attributes(), "network.peer.address"), server)
					}
				}
			}
		}
	}
	assert.Len(t, pods, cfg.Simulator.Pods, "all of them do something")
	assert.Greater(t, connected, 100)
	assert.Greater(t, named, connected*9/10, "servers have the names that were looked up")
	assert.Greater(t, len(restarted), 10, "each restart is a container of its own")
	for _, name := range []string{"process.exec", "tcp.connect", "dns.query", "dns.lookup", "GET", "POST"} {
		assert.Positive(t, names[name], name)
	}
	for _, batch := range logs.AllLogs() {
		for _, of := range batch.ResourceLogs().All() {
			require.Equal(t, "simulator", textOf(of.Resource().Attributes(), "tapio.source"))
		}
	}
}

// TestSimulatedProcessesAreKnownWithoutTheirFamily: also those of which no record is handed out, and that live shortly.
func TestSimulatedProcessesAreKnownWithoutTheirFamily(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Simulator.Rate = "simulator", 0
	cfg.Families.Process = configoptional.None[ProcessConfig]()
	traces := &consumertest.TracesSink{}
	created, err := NewFactory().CreateTraces(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, traces)
	require.NoError(t, err)
	require.NoError(t, created.Start(t.Context(), componenttest.NewNopHost()))
	r := created.(*tapioReceiver)
	require.Eventually(t, func() bool { return r.stats().TotalEvents > 100_000 }, simulatorPatience, 10*time.Millisecond)
	require.NoError(t, created.Shutdown(t.Context()))

	executables := map[string]int{}
	for _, batch := range traces.AllTraces() {
		for _, of := range batch.ResourceSpans().All() {
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				name := textOf(span.Attributes(), "process.executable.name")
				require.NotEmpty(t, name, span.Name())
				executables[name]++
			}
		}
	}
	assert.NotZero(t, executables["ping"], "it came and went: %v", executables)
	assert.Less(t, r.reader.index.Active(), 5000, "those that have ended are not among the living")
	rows, err := r.ledger.Rows(r.source.Counters)
	require.NoError(t, err)
	assert.NotContains(t, rows, event.FamilyProcess, "what identity alone is told of is no event")
}

// TestASimulatorThatCannotKeepUpStopsInTime: there is always something due that has not been made.
func TestASimulatorThatCannotKeepUpStopsInTime(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Simulator.Rate = "simulator", 10_000_000
	created, err := NewFactory().CreateTraces(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, created.Start(t.Context(), componenttest.NewNopHost()))
	time.Sleep(time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, created.Shutdown(ctx))
	require.NoError(t, ctx.Err())
}

// TestTheSimulatedAttack is one trace: whoever looks at one of its programs finds the others, and what they looked up
// and connected to.
func TestTheSimulatedAttack(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Simulator.Rate, cfg.Simulator.Scenarios.Attack = "simulator", 0, 0.05
	sink := &consumertest.TracesSink{}
	set := receivertest.NewNopSettings(metadata.Type)
	created, err := NewFactory().CreateTraces(t.Context(), set, cfg, sink)
	require.NoError(t, err)
	require.NoError(t, created.Start(t.Context(), componenttest.NewNopHost()))
	r := created.(*tapioReceiver)
	require.Eventually(t, func() bool { return r.stats().TotalEvents > 30_000 }, simulatorPatience, 10*time.Millisecond)
	require.NoError(t, created.Shutdown(context.Background()))

	traces := map[pcommon.TraceID][]ptrace.Span{}
	for _, batch := range sink.AllTraces() {
		for _, of := range batch.ResourceSpans().All() {
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				traces[span.TraceID()] = append(traces[span.TraceID()], span)
			}
		}
	}
	attacks, cut := 0, 0
	for _, spans := range traces {
		programs, names := map[string]int{}, map[string]int{}
		for _, span := range spans {
			names[span.Name()]++
			if span.Name() == "process.exec" {
				programs[textOf(span.Attributes(), "process.executable.name")]++
			}
		}
		if programs["memfd:agent"] == 0 || programs["wget"] == 0 {
			continue // another trace, or one that was not over
		}
		if !hasAllParents(spans) {
			cut++ // the shell, which is told when it ends, was still there at the end
			continue
		}
		attacks++
		assert.Equal(t, map[string]int{
			"bash": 2, "id": 1, "cat": 3, "memfd:agent": 1, "perl": 1, "sudo": 1, "chmod": 1, "python3.12": 3, "escape": 2, "wget": 1,
		}, programs)
		assert.Equal(t, 2, names["dns.query"], "for both families of addresses")
		assert.Equal(t, 2, names["tcp.connect"], "the shell's way out, and the way that data goes out")
	}
	assert.Greater(t, attacks, 2)
	assert.LessOrEqual(t, cut, 1, "only the last one can be")
}

// hasAllParents says whether the spans of a trace are a tree.
func hasAllParents(spans []ptrace.Span) bool {
	ids := map[pcommon.SpanID]bool{{}: true}
	for _, span := range spans {
		ids[span.SpanID()] = true
	}
	return !slices.ContainsFunc(spans, func(span ptrace.Span) bool { return !ids[span.ParentSpanID()] })
}
