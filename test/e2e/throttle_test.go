// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// container makes a cgroup as Docker names those of its containers.
func (g cgroup) container(t *testing.T, id string) cgroup {
	t.Helper()
	return makeCgroup(t, filepath.Join(g.dir.Name(), "docker-"+id+".scope"))
}

// TestANoisyContainerDoesNotBlindTheNode: what it does beyond its limit is in metrics, each request, and nothing of what another
// one does is missing, although the ring has no room for a tenth of it all.
func TestANoisyContainerDoesNotBlindTheNode(t *testing.T) {
	requireBPF(t)
	const connections, requests, quietRequests, limit = 16, 500, 50, 200
	noisyID, quietID := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	scope := newCgroup(t)
	noisy, quiet := scope.container(t, noisyID), scope.container(t, quietID)
	noisyServer, quietServer := noisy.startNginx(t, noUpstream), quiet.startNginx(t, noUpstream)
	c := startCollector(t, scope, "receivers::tapioebpf::rate_limits::http: 200", "receivers::tapioebpf::ring: {size: 512KiB, flush_interval: 20ms}")
	began := time.Now()
	hammer := noisy.start(t, "hammer", noisyServer.address, connections, requests, 0)
	quiet.start(t, "hammer", quietServer.address, 1, quietRequests, 0).waitFor(longPatience)
	hammer.waitFor(longPatience)
	took := time.Since(began)
	c.await("the end of it", func(o *output) bool { return len(named(o.logs, "tapio.throttle.stop")) > 0 })
	c.quietFor("http", 2*time.Second)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	rows := c.stop()

	throttled := rows["http"].Aggregated
	told := map[any]map[ptrace.SpanKind]int{noisyID: {}, quietID: {}}
	for _, span := range filter(c.output.spans, isExchange) {
		told[span.resource["container.id"]][span.kind]++
	}
	t.Logf("in %s: %v of %d and %d requests, and %d events are throttled", took, told, connections*requests, quietRequests, throttled)
	assert.Equal(t, map[ptrace.SpanKind]int{ptrace.SpanKindServer: quietRequests, ptrace.SpanKindClient: quietRequests}, told[quietID])
	noisyCalls, quietCalls := noisyServer.calls(t, connections*requests), quietServer.calls(t, quietRequests)
	assert.Len(t, noisyCalls, connections*requests)
	var bodies float64
	for _, call := range slices.Concat(noisyCalls, quietCalls) {
		bodies += float64(call.ResponseBody)
	}
	toldOfNoisy := told[noisyID][ptrace.SpanKindServer] + told[noisyID][ptrace.SpanKindClient]
	assert.EqualValues(t, 2*connections*requests, uint64(toldOfNoisy)+throttled)
	assert.GreaterOrEqual(t, toldOfNoisy, limit)
	assert.LessOrEqual(t, float64(toldOfNoisy), limit*(took.Seconds()+1)+16, "some more where CPUs meet")
	assert.Equal(t, row{
		Seen: 2 * (connections*requests + quietRequests), Exported: uint64(toldOfNoisy + 2*quietRequests), Aggregated: throttled,
		Lost: map[string]uint64{},
	}, rows["http"])
	for _, metric := range []string{"http.server.request.duration", "http.client.request.duration", "http.server.response.body.size", "http.client.request.body.size"} {
		points := c.output.points(metric)
		assert.EqualValues(t, connections*requests+quietRequests, total(points, "http.request.method", "GET", "http.response.status_code", int64(200)), metric)
		assert.Equal(t, total(points), total(points, "http.request.method", "GET", "http.response.status_code", int64(200)), metric)
		for _, p := range points {
			assert.EqualValues(t, p.value, p.buckets, metric)
		}
	}
	assert.InDelta(t, bodies, sumOf(c.output.points("http.server.response.body.size")), 0.1)
	assert.InDelta(t, bodies, sumOf(c.output.points("http.client.response.body.size")), 0.1)
	assert.Equal(t, int64(throttled), total(c.output.points("tapio.throttle.events"), "tapio.throttle.family", "http"))
	assert.Equal(t, int64(throttled), total(c.output.points("tapio.throttle.events")))
	checkThrottling(t, c, noisyID, limit, throttled)
}

func sumOf(points []point) (sum float64) {
	for _, p := range points {
		sum += p.sum
	}
	return sum
}

// checkThrottling: each start has its stop, and together they say how many events are missing.
func checkThrottling(t *testing.T, c *collector, container string, limit int64, throttled uint64) {
	t.Helper()
	starts, stops := named(c.output.logs, "tapio.throttle.start"), named(c.output.logs, "tapio.throttle.stop")
	require.Len(t, stops, len(starts))
	var sum int64
	for i, start := range starts {
		for _, log := range []item{start, stops[i]} {
			assert.Equal(t, container, log.resource["container.id"])
			assert.Equal(t, "http", log.text("tapio.throttle.family"))
			assert.Equal(t, limit, log.number("tapio.throttle.limit"))
			assert.NotEmpty(t, log.text("tapio.cgroup.id"))
		}
		assert.Equal(t, plog.SeverityNumberWarn, start.severity)
		assert.Equal(t, plog.SeverityNumberInfo, stops[i].severity)
		assert.LessOrEqual(t, start.time, stops[i].time)
		sum += stops[i].number("tapio.throttle.count")
	}
	assert.EqualValues(t, throttled, sum)
}
