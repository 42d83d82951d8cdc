// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
)

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
	require.Eventually(t, func() bool { return r.stats().TotalEvents > 50_000 && len(metrics.AllMetrics()) > 2 }, 30*time.Second, 10*time.Millisecond)
	assert.Equal(t, "simulator", r.stats().Source)
	require.NoError(t, created.Shutdown(context.Background()))

	rows, err := r.ledger.Rows(r.source.Counters)
	require.NoError(t, err)
	require.Len(t, rows, 4)
	for family, row := range rows {
		for reason, n := range row.Lost {
			assert.Equal(t, "shutdown", reason, family)
			assert.Less(t, n, uint64(1000), "what waits for an answer: %v", family)
		}
	}
	names, pods := map[string]int{}, map[string]bool{}
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
			}
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				names[span.Name()]++
				require.NotEmpty(t, textOf(span.Attributes(), "process.executable.name"), "%s: all processes are known", span.Name())
			}
		}
	}
	assert.Len(t, pods, cfg.Simulator.Pods, "all of them do something")
	for _, name := range []string{"process.exec", "tcp.connect", "dns.query", "dns.lookup", "GET", "POST"} {
		assert.Positive(t, names[name], name)
	}
	for _, batch := range logs.AllLogs() {
		for _, of := range batch.ResourceLogs().All() {
			require.Equal(t, "simulator", textOf(of.Resource().Attributes(), "tapio.source"))
		}
	}
}
