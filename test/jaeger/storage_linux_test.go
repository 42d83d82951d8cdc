// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStorage: a Jaeger that keeps its traces has them after its end, however it came. What comes while it is away
// waits in the gateway, also over the gateway's own end.
func TestStorage(t *testing.T) {
	requireJaeger(t)
	folder, otlp, query, health := t.TempDir(), freePort(t), freePort(t), freePort(t)
	keep := func(retention string) *backend {
		return startJaegerWith(t, "badger.yaml", "JAEGER_DATA="+folder, "JAEGER_OTLP_PORT="+otlp, "JAEGER_QUERY_PORT="+query,
			"JAEGER_HEALTH_PORT="+health, "JAEGER_RETENTION="+retention)
	}
	const week = "168h"
	jaeger := keep(week)
	assert.True(t, eventually(func() bool { return answers("http://localhost:" + health + "/status") }), "it is healthy")
	state, port := t.TempDir(), freePort(t)
	startGateway := func() *part {
		return startPart(t, []string{"sampler.yaml", "one.yaml"}, "127.0.0.1", port, "",
			[]string{"TAPIO_OTLP_ENDPOINT=" + jaeger.endpoint, "TAPIO_STATE=" + state}, "processors::tail_sampling::decision_wait: 3s")
	}
	gateway := startGateway()

	const count = 100
	send := func() []string {
		traces := failures(count)
		require.NoError(t, sendSpans(t, gateway.endpoint, traces))
		return idsOf(traces)
	}
	before := send()
	requireStored(t, jaeger, before)
	require.NoError(t, jaeger.command.Process.Signal(syscall.SIGKILL))
	<-jaeger.ended

	meanwhile := send()
	awaitDecided(t, []*part{gateway}, 2*count)
	require.True(t, eventually(func() bool { return gateway.metric(t, "otelcol_exporter_queue_size", "otlp_grpc") > 0 }), "it waits in the queue")
	require.NoError(t, gateway.command.Process.Signal(syscall.SIGKILL))
	<-gateway.ended
	gateway = startGateway()
	jaeger = keep(week)
	requireStored(t, jaeger, append(before, meanwhile...))
	traces, err := jaeger.Traces(t.Context(), Search{Service: "test", Operation: "of a test"})
	require.NoError(t, err)
	assert.Len(t, traces, 2*count, "by a search")

	undecided := send()
	gateway.end() // decides, and leaves what it keeps in the queue
	gateway = startGateway()
	requireStored(t, jaeger, undecided)

	jaeger.end()
	jaeger = keep("10s") // more than it takes until they are found
	short := send()
	requireStored(t, jaeger, short[:1])
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(short, func(id string) bool { return jaeger.stored(t, id) != nil })
	}, patience, time.Second, "they have had their time")
	requireStored(t, jaeger, slices.Concat(before, meanwhile, undecided))
}

func requireStored(t *testing.T, jaeger *backend, ids []string) {
	t.Helper()
	require.True(t, eventually(func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return jaeger.stored(t, id) == nil })
	}), "all traces are in Jaeger")
}
