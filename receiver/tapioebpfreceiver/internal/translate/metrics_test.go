// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// point is what a data point says, but for its times.
type point struct {
	value   int64
	count   uint64
	sum     float64
	buckets map[float64]uint64 // by upper bound, those that are not empty
}

// times of a data point.
type times struct{ start, end pcommon.Timestamp }

// collected is one round of metrics. Points are found by "executable metric {attributes}"; the executable
// is "-" where there is none.
type collected struct {
	points    map[string]point
	times     map[string]times
	resources []attributes
	metrics   map[string]pmetric.Metric
}

func (w *world) collect(t testing.TB, at uint64) collected {
	out := collected{points: map[string]point{}, times: map[string]times{}, metrics: map[string]pmetric.Metric{}}
	metrics, ok := w.Metrics(wallTime(at))
	require.Equal(t, ok, metrics.DataPointCount() > 0)
	for _, of := range metrics.ResourceMetrics().All() {
		requireScope(t, of.SchemaUrl(), of.ScopeMetrics().At(0).SchemaUrl(), of.ScopeMetrics().At(0).Scope())
		out.resources = append(out.resources, of.Resource().Attributes().AsRaw())
		executable := "-"
		if path, found := of.Resource().Attributes().Get("process.executable.path"); found {
			executable = path.Str()
		}
		for _, metric := range of.ScopeMetrics().At(0).Metrics().All() {
			out.metrics[metric.Name()] = metric
			out.add(t, executable+" "+metric.Name(), metric)
		}
	}
	return out
}

func (c *collected) add(t testing.TB, name string, metric pmetric.Metric) {
	put := func(attributes pcommon.Map, start, end pcommon.Timestamp, p point) {
		text, err := json.Marshal(attributes.AsRaw())
		require.NoError(t, err)
		key := name + " " + string(text)
		require.NotContains(t, c.points, key, "the same series twice")
		c.points[key], c.times[key] = p, times{start, end}
	}
	if metric.Type() == pmetric.MetricTypeSum {
		for _, p := range metric.Sum().DataPoints().All() {
			put(p.Attributes(), p.StartTimestamp(), p.Timestamp(), point{value: p.IntValue()})
		}
		return
	}
	for _, p := range metric.Histogram().DataPoints().All() {
		require.Equal(t, p.ExplicitBounds().Len()+1, p.BucketCounts().Len())
		put(p.Attributes(), p.StartTimestamp(), p.Timestamp(), point{count: p.Count(), sum: math.Round(p.Sum()*1e9) / 1e9, buckets: bucketsOf(t, p)})
	}
}

const beyond = -1 // the bucket above all bounds

func bucketsOf(t testing.TB, p pmetric.HistogramDataPoint) map[float64]uint64 {
	buckets := map[float64]uint64{}
	total := uint64(0)
	for i, n := range p.BucketCounts().All() {
		total += n
		if n == 0 {
			continue
		}
		bound := float64(beyond)
		if i < p.ExplicitBounds().Len() {
			bound = p.ExplicitBounds().At(i)
		}
		buckets[bound] = n
	}
	require.Equal(t, p.Count(), total)
	return buckets
}

const (
	tcpClient     = `{"network.transport":"tcp","network.type":"ipv4","tapio.network.role":"client"}`
	tcpServer     = `{"network.transport":"tcp","network.type":"ipv4","tapio.network.role":"server"}`
	received      = `{"network.io.direction":"receive","network.transport":"tcp","network.type":"ipv4","tapio.network.role":"client"}`
	transmitted   = `{"network.io.direction":"transmit","network.transport":"tcp","network.type":"ipv4","tapio.network.role":"client"}`
	clientRefused = `{"error.type":"connection_refused","network.transport":"tcp","network.type":"ipv4","tapio.network.role":"client"}`
	clientReset   = `{"error.type":"connection_reset","network.transport":"tcp","network.type":"ipv4","tapio.network.role":"client"}`
	overflow      = `{"otel.metric.overflow":true}`
)

func unchanged(*bpf.WireConnectionStats) {}

func TestProcessMetrics(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		curl(2*second), exitRecord(10, second, 3*second, 0), // seen from start to end
		execRecord(11, second, 2*second, 0, "/usr/bin/curl", "/"), // lives
		execRecord(12, second, 2*second, 0, "/usr/bin/curl", "/"), exitRecord(12, second, 3*second, 1<<8),
		execRecord(13, second, 2*second, 0, "/usr/bin/curl", "/"), exitRecord(13, second, 3*second, 9),
		forkRecord(14, second, 1, 0),
		exitRecord(99, second, 3*second, 9), // nobody knows it
	)
	assert.Equal(t, map[string]point{
		`/usr/bin/curl tapio.process.executions {}`:                  {value: 4},
		`/usr/bin/curl tapio.process.exits {}`:                       {value: 1},
		`/usr/bin/curl tapio.process.exits {"error.type":"exit_1"}`:  {value: 1},
		`/usr/bin/curl tapio.process.exits {"error.type":"SIGKILL"}`: {value: 1},
		`/usr/bin/curl tapio.process.active {}`:                      {value: 1},
		`/sbin/init tapio.process.active {}`:                         {value: 2},
		`- tapio.process.exits {"error.type":"SIGKILL"}`:             {value: 1},
	}, w.collect(t, 10*second).points)
}

func TestConnectionMetrics(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(
		curl(2*second),
		connectRecord(10, 3*second, 3*second+300_000, 0), // 0.3 ms
		connectRecord(10, 3*second, 3*second+500_000, 0), // 0.5 ms, a bound
		connectRecord(10, 3*second, 4*second, 111),
		statsRecord(event.TypeConnectionReport, 5*second, unchanged),
		statsRecord(event.TypeConnectionClose, 6*second, unchanged), // open for 1 s, a bound
		statsRecord(event.TypeConnectionClose, 7*second, func(e *bpf.WireConnectionStats) {
			e.Flags, e.Opened, e.Error = 0, 0, 104
		}),
		statsRecord(event.TypeConnectionClose, 7*second, func(e *bpf.WireConnectionStats) {
			e.Opened, e.Flags, e.Rtt = 0, e.Flags|event.ConnectionAborted, 20_000_000
		}),
	)
	points := w.collect(t, 10*second).points
	delete(points, `/usr/bin/curl tapio.process.executions {}`)
	delete(points, `/usr/bin/curl tapio.process.active {}`)
	delete(points, `/sbin/init tapio.process.active {}`)
	assert.Equal(t, map[string]point{
		`/usr/bin/curl tapio.network.io ` + transmitted:               {value: 40},
		`/usr/bin/curl tapio.network.io ` + received:                  {value: 80},
		`/usr/bin/curl tapio.tcp.retransmits ` + tcpClient:            {value: 4},
		`/usr/bin/curl tapio.tcp.rtt ` + tcpClient:                    {count: 3, sum: 20.0005, buckets: map[float64]uint64{0.00025: 2, beyond: 1}},
		`/usr/bin/curl tapio.tcp.connections ` + tcpClient:            {value: 2},
		`/usr/bin/curl tapio.tcp.connections ` + clientRefused:        {value: 1},
		`/usr/bin/curl tapio.tcp.handshake.duration ` + tcpClient:     {count: 2, sum: 0.0008, buckets: map[float64]uint64{0.0005: 2}},
		`/usr/bin/curl tapio.tcp.handshake.duration ` + clientRefused: {count: 1, sum: 1, buckets: map[float64]uint64{1: 1}},
		`/usr/bin/curl tapio.tcp.connection.duration ` + tcpClient:    {count: 1, sum: 1, buckets: map[float64]uint64{1: 1}},
	}, points)
}

func TestConnectionLifetimeHasTheErrorThatEndedIt(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), statsRecord(event.TypeConnectionClose, 7*second, func(e *bpf.WireConnectionStats) { e.Error = 104 }))
	points := w.collect(t, 10*second).points
	assert.Equal(t, point{count: 1, sum: 1, buckets: map[float64]uint64{1: 1}}, points[`/usr/bin/curl tapio.tcp.connection.duration `+clientReset])
	assert.NotContains(t, points, `/usr/bin/curl tapio.tcp.connections `+clientReset, "it was counted when it was opened")
}

func TestAServersConnectionIsCountedOnce(t *testing.T) {
	w := newWorld(allSignals, 100)
	asServer := func(flags uint32) func(*bpf.WireConnectionStats) {
		return func(e *bpf.WireConnectionStats) { e.Ends.Role, e.Flags = event.RoleServer, flags }
	}
	w.handle(
		curl(2*second),
		statsRecord(event.TypeConnectionReport, 5*second, asServer(event.ConnectionFirstRecord)),
		statsRecord(event.TypeConnectionReport, 6*second, asServer(0)),
		statsRecord(event.TypeConnectionClose, 7*second, asServer(0)),
		statsRecord(event.TypeConnectionClose, 7*second, asServer(event.ConnectionFirstRecord)),
		statsRecord(event.TypeConnectionClose, 7*second, func(e *bpf.WireConnectionStats) { e.Flags = event.ConnectionFirstRecord }), // a client's
	)
	points := w.collect(t, 10*second).points
	assert.Equal(t, point{value: 2}, points[`/usr/bin/curl tapio.tcp.connections `+tcpServer])
	assert.NotContains(t, points, `/usr/bin/curl tapio.tcp.connections `+tcpClient)
}

func TestUDPHasTrafficOnly(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(statsRecord(event.TypeConnectionClose, 5*second, func(e *bpf.WireConnectionStats) {
		e.Ends.Protocol, e.Ends.Role = event.ProtocolUDP, event.RoleUnknown
		e.Flags |= event.ConnectionFirstRecord
	}))
	points := w.collect(t, 10*second).points
	delete(points, `/sbin/init tapio.process.active {}`)
	assert.Equal(t, map[string]point{
		`- tapio.network.io {"network.io.direction":"receive","network.transport":"udp","network.type":"ipv4"}`:  {value: 20},
		`- tapio.network.io {"network.io.direction":"transmit","network.transport":"udp","network.type":"ipv4"}`: {value: 10},
	}, points)
}

// TestInstruments: a change of any of these is one for dashboards.
func TestInstruments(t *testing.T) {
	roundTrips := []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	durations := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	bodies := []float64{0, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 268435456, 1073741824}
	lifetimes := []float64{0.005, 0.025, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600}
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), connectRecord(10, 3*second, 4*second, 0), statsRecord(event.TypeConnectionClose, 5*second, unchanged), exitRecord(10, second, 6*second, 0))
	w.handle(exchangeRecord(getHead, "", unchangedExchange), exchangeRecord(getHead, "", ofServer))
	metrics := w.collect(t, 10*second).metrics
	for _, tt := range []struct {
		name, unit string
		monotonic  bool
		bounds     []float64
	}{
		{"tapio.process.executions", "{execution}", true, nil},
		{"tapio.process.exits", "{process}", true, nil},
		{"tapio.process.active", "{process}", false, nil},
		{"tapio.network.io", "By", true, nil},
		{"tapio.tcp.connections", "{connection}", true, nil},
		{"tapio.tcp.retransmits", "{segment}", true, nil},
		{"tapio.tcp.rtt", "s", false, roundTrips},
		{"tapio.tcp.handshake.duration", "s", false, roundTrips},
		{"tapio.tcp.connection.duration", "s", false, lifetimes},
		{"http.server.request.duration", "s", false, durations},
		{"http.client.request.duration", "s", false, durations},
		{"http.server.request.body.size", "By", false, bodies},
		{"http.server.response.body.size", "By", false, bodies},
		{"http.client.request.body.size", "By", false, bodies},
		{"http.client.response.body.size", "By", false, bodies},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Contains(t, metrics, tt.name)
			metric := metrics[tt.name]
			delete(metrics, tt.name)
			assert.Equal(t, tt.unit, metric.Unit())
			assert.NotEmpty(t, metric.Description())
			if tt.bounds != nil {
				assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Histogram().AggregationTemporality())
				assert.Equal(t, tt.bounds, metric.Histogram().DataPoints().At(0).ExplicitBounds().AsRaw())
				return
			}
			assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Sum().AggregationTemporality())
			assert.Equal(t, tt.monotonic, metric.Sum().IsMonotonic())
		})
	}
	assert.Empty(t, metrics, "instruments that are not named here")
}

func TestMetricsHaveTheResourcesOfTheirEvents(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), exitRecord(99, second, 3*second, 0))
	assert.ElementsMatch(t, []attributes{curlResource, initResource, nodeResource}, w.collect(t, 10*second).resources)
}

func TestNoMetricsOfNothing(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(exitRecord(1, 0, second, 0))
	w.collect(t, second)
	_, ok := w.Metrics(wallTime(24 * 3600 * second)) // long stale
	assert.False(t, ok)
}

func TestSeriesAreCumulative(t *testing.T) {
	const executions, active = `/usr/bin/curl tapio.process.executions {}`, `/usr/bin/curl tapio.process.active {}`
	w := newWorld(allSignals, 100)
	w.handle(curl(2 * second))
	first := w.collect(t, 10*second)
	w.handle(curl(11 * second))
	second1 := w.collect(t, 20*second)
	third := w.collect(t, 30*second)

	assert.Equal(t, []int64{1, 2, 2}, []int64{first.points[executions].value, second1.points[executions].value, third.points[executions].value})
	for _, key := range []string{executions, active} {
		assert.Equal(t, times{wallTime(0), wallTime(10 * second)}, first.times[key])
		assert.Equal(t, times{wallTime(0), wallTime(20 * second)}, second1.times[key])
		assert.Equal(t, times{wallTime(0), wallTime(30 * second)}, third.times[key])
	}
}

func TestASeriesThatIsNewBeginsAtTheLastCollection(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.collect(t, 10*second)
	w.handle(curl(12 * second))
	for _, at := range []uint64{20 * second, 30 * second} {
		assert.Equal(t, times{wallTime(10 * second), wallTime(at)}, w.collect(t, at).times[`/usr/bin/curl tapio.process.executions {}`])
	}
}

func TestAStaleSeriesBeginsAnewAfterItsLastPoint(t *testing.T) {
	const minute = 60 * second
	for key, record := range map[string]func(at uint64) []byte{
		`/usr/bin/curl tapio.process.executions {}`:        curl,
		`/usr/bin/curl tapio.tcp.retransmits ` + tcpClient: func(at uint64) []byte { return statsRecord(event.TypeConnectionReport, at, unchanged) },
		`/usr/bin/curl tapio.tcp.connections ` + tcpClient: func(at uint64) []byte { return connectRecord(10, at, at, 0) },
	} {
		t.Run(key, func(t *testing.T) {
			w := newWorld(allSignals, 100)
			w.handle(curl(minute), record(2*minute))
			before := w.collect(t, 17*minute)
			require.Contains(t, before.points, key, "15 minutes are not over")
			assert.NotContains(t, w.collect(t, 17*minute+1).points, key)
			w.handle(record(18*minute), record(18*minute))
			again := w.collect(t, 19*minute)
			require.Contains(t, again.points, key)
			assert.EqualValues(t, 2, again.points[key].value)
			assert.Greater(t, again.times[key].start, before.times[key].end)
			assert.Less(t, again.times[key].start, again.times[key].end)
		})
	}
}

// TestMetricsOfAClockThatIsSetBack: no series begins in the future, and all go stale in time.
func TestMetricsOfAClockThatIsSetBack(t *testing.T) {
	const minute = 60 * second
	const curls, shells, active = `/usr/bin/curl tapio.process.executions {}`, `/bin/sh tapio.process.executions {}`, `/usr/bin/curl tapio.process.active {}`
	w := newWorld(allSignals, 100)
	w.handle(curl(61 * minute))
	w.collect(t, 62*minute)
	w.handle(execRecord(11, 61*minute, 62*minute, 0, "/bin/sh", "/"))
	w.SetBootTime(bootTime - int64(120*minute))
	at := func(after uint64) collected { return w.collect(t, 62*minute+after-120*minute) }
	set := at(0)
	for _, key := range []string{curls, shells, active} {
		require.Contains(t, set.points, key)
		assert.LessOrEqual(t, set.times[key].start, set.times[key].end, key)
		assert.Equal(t, set.times[key].start, at(minute).times[key].start, "%s: it does not begin anew at each collection", key)
	}
	assert.EqualValues(t, 1, set.points[curls].value)
	assert.NotContains(t, at(16*minute).points, curls)
}

func TestActiveIsTheProcessesThatLive(t *testing.T) {
	const active = `/usr/bin/curl tapio.process.active {}`
	w := newWorld(allSignals, 100)
	at := func(now uint64) int64 { return w.collect(t, now).points[active].value }
	w.handle(curl(2*second), forkRecord(11, 3*second, 10, second), forkRecord(12, 3*second, 11, 3*second))
	assert.EqualValues(t, 3, at(10*second))
	w.handle(execRecord(12, 3*second, 4*second, 0, "/bin/sh", "/"))
	assert.EqualValues(t, 2, at(20*second))
	w.handle(exitRecord(10, second, 5*second, 0), exitRecord(10, second, 5*second, 0))
	assert.EqualValues(t, 1, at(30*second))
}

func TestSeriesAboveTheLimitAreCountedInOne(t *testing.T) {
	const limit, programs = 3, 10
	w := newWorld(allSignals, limit)
	for i := range uint32(programs) {
		pid := 100 + i
		owned := func(e *bpf.WireConnectionStats) { e.Header.Pid = pid }
		w.handle(
			execRecord(pid, second, 2*second, 0, fmt.Sprintf("/bin/%d", i), "/"),
			connectRecord(pid, 3*second, 4*second, 0),
			statsRecord(event.TypeConnectionClose, 5*second, owned),
			exitRecord(pid, second, 6*second, 0),
		)
	}
	out := w.collect(t, 10*second)
	for _, name := range []string{
		"tapio.process.executions", "tapio.process.exits", "tapio.tcp.connections", "tapio.tcp.retransmits",
		"tapio.tcp.handshake.duration", "tapio.tcp.connection.duration", "tapio.tcp.rtt",
	} {
		series, total := totals(out, name)
		assert.Equal(t, limit+1, series, name)
		assert.EqualValues(t, programs, total, name)
		rest := out.points["- "+name+" "+overflow]
		assert.EqualValues(t, programs-limit, rest.value+int64(rest.count), name)
	}
	for _, direction := range []string{"receive", "transmit"} {
		key := `- tapio.network.io {"network.io.direction":"` + direction + `","otel.metric.overflow":true}`
		assert.Contains(t, out.points, key)
	}
	_, sum := totals(out, "tapio.network.io")
	assert.EqualValues(t, programs*(10+20), sum)
}

// totals of all series of a metric: sums' values and histograms' counts.
func totals(c collected, name string) (series int, total int64) {
	for key, p := range c.points {
		var executable, metric, rest string
		if n, _ := fmt.Sscanf(key, "%s %s %s", &executable, &metric, &rest); n == 3 && metric == name {
			series++
			total += p.value + int64(p.count)
		}
	}
	return series, total
}

func TestActiveAboveTheLimitKeepsTheTotal(t *testing.T) {
	const limit, programs = 3, 10
	w := newWorld(allSignals, limit)
	for pid := uint32(100); pid < 100+programs; pid++ {
		w.handle(execRecord(pid, second, 2*second, 0, fmt.Sprintf("/bin/%d", pid), "/"))
	}
	series, total := totals(w.collect(t, 10*second), "tapio.process.active")
	assert.Equal(t, limit+1, series)
	assert.EqualValues(t, w.index.Active(), total)
}

func TestASeriesBelowTheLimitStaysItsOwn(t *testing.T) {
	w := newWorld(allSignals, 1)
	w.handle(curl(2*second), execRecord(11, second, 2*second, 0, "/bin/sh", "/"), curl(3*second))
	points := w.collect(t, 10*second).points
	assert.EqualValues(t, 2, points[`/usr/bin/curl tapio.process.executions {}`].value)
	assert.EqualValues(t, 1, points[`- tapio.process.executions `+overflow].value)
}

func TestMetricsAreCountedWhateverElseIsWired(t *testing.T) {
	records := [][]byte{
		curl(2 * second), connectRecord(10, 3*second, 4*second, 0), statsRecord(event.TypeConnectionClose, 5*second, unchanged), exitRecord(10, second, 6*second, 0),
	}
	all := newWorld(allSignals, 100)
	all.handle(records...)
	alone := newWorld(Signals{Metrics: true}, 100)
	alone.handle(records...)
	assert.Equal(t, all.collect(t, 10*second).points, alone.collect(t, 10*second).points)
	assert.Nil(t, alone.Take())
}

func TestActiveIsZeroWhenTheLastOneEnded(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), exitRecord(10, second, 3*second, 0))
	assert.Equal(t, point{}, w.collect(t, 10*second).points[`/usr/bin/curl tapio.process.active {}`])
	assert.Contains(t, w.collect(t, 20*second).points, `/usr/bin/curl tapio.process.active {}`)
}
