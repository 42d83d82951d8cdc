// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// TestMetricsHaveWhatIsBeyondTheLimits of processes and connections: as many as there were, although hardly any is told.
func TestMetricsHaveWhatIsBeyondTheLimits(t *testing.T) {
	requireBPF(t)
	const times = 40
	scope := newCgroup(t)
	server := scope.container(t, strings.Repeat("c3", 32)).startNginx(t, noUpstream)
	busyID := strings.Repeat("d4", 32)
	busy := scope.container(t, busyID)
	c := startCollector(t, scope, "receivers::tapioebpf::rate_limits: {process: 3, network: 3, http: 3}")
	script := `i=0; while [ $i -lt ` + strconv.Itoa(times) + ` ]; do "$1" -q -s -o /dev/null --noproxy "*" "http://$2/"; "$3" 7; i=$((i+1)); done; exit 0`
	exit := filepath.Join(t.TempDir(), "exit.sh")
	require.NoError(t, os.WriteFile(exit, []byte("#!"+tool(t, "sh")+"\nexit $1\n"), 0o700))
	require.NoError(t, busy.command(t, "sh", "-c", script, "sh", tool(t, "curl"), server.address, exit).Run())
	c.quietFor("network", 3*time.Second)
	rows := c.stop()
	for _, family := range []string{"network", "http"} {
		assert.Empty(t, rows[family].Lost, family)
		assert.Positive(t, rows[family].Aggregated, family)
	}
	assert.LessOrEqual(t, rows["process"].Lost["throttled"], uint64(2*times), "forks are in no metric")
	assert.Equal(t, rows["process"].Lost["throttled"], sumOfLost(rows["process"]))

	own := func(name string) []point {
		return filterPoints(c.output.points(name), func(p point) bool { return p.container == busyID })
	}
	assert.EqualValues(t, 2*times+1, total(own("tapio.process.executions")))
	assert.EqualValues(t, times, total(own("tapio.process.exits"), "error.type", "exit_7"))
	assert.EqualValues(t, 2*times+1, total(own("tapio.process.exits")))
	assert.EqualValues(t, times, total(own("tapio.tcp.connections"), "tapio.network.role", "client"))
	assert.EqualValues(t, times, total(own("tapio.tcp.connection.duration"), "tapio.network.role", "client"))
	assert.EqualValues(t, times, total(own("http.client.request.duration")))
	assert.EqualValues(t, times, total(c.output.points("tapio.tcp.connections"), "tapio.network.role", "server"))
	sent, received := total(c.output.points("tapio.network.io"), "network.io.direction", "transmit"), total(c.output.points("tapio.network.io"), "network.io.direction", "receive")
	assert.Positive(t, sent)
	assert.Equal(t, sent, received, "each byte that one end sends the other one receives")
}

func sumOfLost(r row) (sum uint64) {
	for _, n := range r.Lost {
		sum += n
	}
	return sum
}

func filterPoints(points []point, isWanted func(point) bool) []point {
	return slices.DeleteFunc(slices.Clone(points), func(p point) bool { return !isWanted(p) })
}
