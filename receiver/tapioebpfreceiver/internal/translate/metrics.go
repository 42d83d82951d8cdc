// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// staleAfter is how long a series is told on without an event. One that comes back begins anew,
// with a start time after its last point.
const staleAfter = 15 * time.Minute

// metrics are made from every event, whatever is done to spans and logs later. All are cumulative.
type metrics struct {
	describe   Describe
	wired      bool              // else nothing is counted
	counting   bool              // living processes
	start      pcommon.Timestamp // when counting began
	since      pcommon.Timestamp // start time of series that are new
	processes  table[processKey, processSeries]
	traffic    table[trafficKey, trafficSeries]
	outcomes   table[outcomeKey, outcomeSeries]
	lookups    table[lookupKey, lookupSeries]
	handshakes table[handshakeKey, handshakeSeries]
	resolvers  table[resolverKey, resolverSeries]
	actions    table[actionKey, actionSeries]
	plugins    table[pluginKey, pluginSeries]
	networks   table[networkKey, networkSeries]
	netns      table[netnsKey, netnsSeries]
	// HTTP exchanges
	httpServers, httpClients table[httpKey, httpSeries]
	// etcd's files, connections and keys
	etcdSyncs, etcdWrites table[etcdCallKey, etcdCallSeries]
	etcdConnections       table[etcdConnectionKey, etcdConnectionSeries]
	etcdChanges           table[etcdChangeKey, etcdChangeSeries]
	throttles             table[throttleKey, throttleSeries]
}

func newMetrics(options Options) metrics {
	return metrics{
		describe:   options.Describe,
		wired:      options.Signals.Metrics,
		counting:   options.Processes,
		start:      options.Start,
		since:      options.Start,
		processes:  newTable[processKey, processSeries](options.SeriesLimit),
		traffic:    newTable[trafficKey, trafficSeries](options.SeriesLimit),
		outcomes:   newTable[outcomeKey, outcomeSeries](options.SeriesLimit),
		lookups:    newTable[lookupKey, lookupSeries](options.SeriesLimit),
		handshakes: newTable[handshakeKey, handshakeSeries](options.SeriesLimit),
		resolvers:  newTable[resolverKey, resolverSeries](options.SeriesLimit),
		actions:    newTable[actionKey, actionSeries](options.SeriesLimit),
		plugins:    newTable[pluginKey, pluginSeries](options.SeriesLimit),
		networks:   newTable[networkKey, networkSeries](options.SeriesLimit),
		netns:      newTable[netnsKey, netnsSeries](options.SeriesLimit),

		httpServers: newTable[httpKey, httpSeries](options.SeriesLimit),
		httpClients: newTable[httpKey, httpSeries](options.SeriesLimit),

		etcdSyncs:       newTable[etcdCallKey, etcdCallSeries](options.SeriesLimit),
		etcdWrites:      newTable[etcdCallKey, etcdCallSeries](options.SeriesLimit),
		etcdConnections: newTable[etcdConnectionKey, etcdConnectionSeries](options.SeriesLimit),
		etcdChanges:     newTable[etcdChangeKey, etcdChangeSeries](options.SeriesLimit),
		throttles:       newTable[throttleKey, throttleSeries](options.SeriesLimit),
	}
}

// owner is whom a series belongs to: the resource's key, which stays the same when the resource is
// forgotten and made anew. The zero owner is that of the overflow series.
type owner struct {
	key   identity.ResourceKey
	valid bool
}

func ownerOf(r *identity.Resource) owner { return owner{key: r.Key, valid: true} }

// series is one set of attributes of one resource, and all that is counted for it.
type series[V any] struct {
	start, last pcommon.Timestamp
	grown       bool // since it was written down last
	resource    *identity.Resource
	value       V
}

// noResource is that of the overflow series: it belongs to the node alone.
var noResource = &identity.Resource{}

// table has the series of a family's events. What comes when it is full is counted in one series
// for all, the one of the zero key, as the cardinality limits of OpenTelemetry's SDKs have it.
type table[K comparable, V any] struct {
	limit  int
	series map[K]*series[V]
	// The series that was asked for last: often it is asked for again.
	lastKey K
	last    *series[V] // nil: there is none
}

func newTable[K comparable, V any](limit int) table[K, V] {
	return table[K, V]{limit: limit, series: map[K]*series[V]{}}
}

// at returns the value to count in, for an event at the given time.
func (t *table[K, V]) at(key K, r *identity.Resource, since, now pcommon.Timestamp) *V {
	if t.last == nil || t.lastKey != key {
		t.last, t.lastKey = t.find(key, r, since), key
	}
	t.last.last, t.last.grown = max(t.last.last, now), true
	return &t.last.value
}

func (t *table[K, V]) find(key K, r *identity.Resource, since pcommon.Timestamp) *series[V] {
	s, ok := t.series[key]
	if !ok {
		if len(t.series) >= t.limit {
			var overflow K
			key, r = overflow, noResource
			s, ok = t.series[key]
		}
		if !ok {
			s = &series[V]{start: since, resource: r}
			t.series[key] = s
		}
	}
	return s
}

// dropStale is done before each round. What has grown since the one before is in this one, however long ago that was by
// the events' own times. It also has nothing begin in the future, where the clock was set back.
func (t *table[K, V]) dropStale(now pcommon.Timestamp) {
	t.last = nil // it may be dropped, or have room in place of the overflow series
	for key, s := range t.series {
		s.start, s.last = min(s.start, now), min(s.last, now)
		if !s.grown && s.last+pcommon.Timestamp(staleAfter) < now {
			delete(t.series, key)
		}
		s.grown = false
	}
}

// histogram counts values in buckets.
type histogram struct {
	buckets []uint64
	count   uint64
	sum     float64
}

// add counts a value; bounds are the same at every call.
func (h *histogram) add(bounds []float64, value float64) {
	if h.buckets == nil {
		h.buckets = make([]uint64, len(bounds)+1)
	}
	at, _ := slices.BinarySearch(bounds, value)
	h.buckets[at]++
	h.count++
	h.sum += value
}

// merge adds what was counted elsewhere in the buckets of the same bounds; those behind them are empty.
func (h *histogram) merge(bounds []float64, buckets []uint64, sum float64) {
	if h.buckets == nil {
		h.buckets = make([]uint64, len(bounds)+1)
	}
	for at := range h.buckets {
		h.buckets[at] += buckets[at]
		h.count += buckets[at]
	}
	h.sum += sum
}

// instrument names a metric.
type instrument struct {
	name, description, unit string
	bounds                  []float64 // of a histogram
	gauge                   bool      // of a sum: it can go down
}

// collection is one round of metrics under construction.
type collection struct {
	describe  Describe
	now       pcommon.Timestamp
	out       pmetric.Metrics
	resources map[identity.ResourceKey]*resourceMetrics
}

type resourceMetrics struct {
	metrics pmetric.MetricSlice
	byName  map[string]pmetric.Metric
}

func (c *collection) metric(r *identity.Resource, i *instrument) (metric pmetric.Metric, isNew bool) {
	of, ok := c.resources[r.Key]
	if !ok {
		resource := c.out.ResourceMetrics().AppendEmpty()
		resource.SetSchemaUrl(SchemaURL)
		c.describe.resource(resource.Resource(), r)
		scope := resource.ScopeMetrics().AppendEmpty()
		scope.SetSchemaUrl(SchemaURL)
		c.describe.scope(scope.Scope())
		of = &resourceMetrics{metrics: scope.Metrics(), byName: map[string]pmetric.Metric{}}
		c.resources[r.Key] = of
	}
	if metric, ok = of.byName[i.name]; ok {
		return metric, false
	}
	metric = of.metrics.AppendEmpty()
	metric.SetName(i.name)
	metric.SetDescription(i.description)
	metric.SetUnit(i.unit)
	of.byName[i.name] = metric
	return metric, true
}

// sum adds a point and returns its attributes.
func (c *collection) sum(r *identity.Resource, i *instrument, start pcommon.Timestamp, value uint64) pcommon.Map {
	metric, isNew := c.metric(r, i)
	if isNew {
		sum := metric.SetEmptySum()
		sum.SetIsMonotonic(!i.gauge)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	}
	point := metric.Sum().DataPoints().AppendEmpty()
	point.SetStartTimestamp(start)
	point.SetTimestamp(c.now)
	point.SetIntValue(int64(value))
	return point.Attributes()
}

// histogram adds a point and returns its attributes.
func (c *collection) histogram(r *identity.Resource, i *instrument, start pcommon.Timestamp, h *histogram) pcommon.Map {
	metric, isNew := c.metric(r, i)
	if isNew {
		metric.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	}
	point := metric.Histogram().DataPoints().AppendEmpty()
	point.SetStartTimestamp(start)
	point.SetTimestamp(c.now)
	point.SetCount(h.count)
	point.SetSum(h.sum)
	point.ExplicitBounds().FromRaw(i.bounds)
	point.BucketCounts().FromRaw(h.buckets)
	return point.Attributes()
}

// collect writes down what all series are now; false if there are none.
func (m *metrics) collect(now pcommon.Timestamp, index *identity.Index) (pmetric.Metrics, bool) {
	c := &collection{
		describe:  m.describe,
		now:       now,
		out:       pmetric.NewMetrics(),
		resources: map[identity.ResourceKey]*resourceMetrics{},
	}
	m.start = min(m.start, now)
	m.processes.dropStale(now)
	m.traffic.dropStale(now)
	m.outcomes.dropStale(now)
	m.handshakes.dropStale(now)
	m.httpServers.dropStale(now)
	m.httpClients.dropStale(now)
	m.lookups.dropStale(now)
	m.resolvers.dropStale(now)
	m.actions.dropStale(now)
	m.plugins.dropStale(now)
	m.networks.dropStale(now)
	m.netns.dropStale(now)
	m.etcdSyncs.dropStale(now)
	m.etcdWrites.dropStale(now)
	m.etcdConnections.dropStale(now)
	m.etcdChanges.dropStale(now)
	m.throttles.dropStale(now)
	m.collectProcesses(c, index)
	m.collectConnections(c)
	m.collectHandshakes(c)
	m.collectExchanges(c)
	m.collectLookups(c)
	m.collectActions(c)
	m.collectCNI(c)
	m.collectEtcd(c)
	m.collectThrottles(c)
	m.since = now
	return c.out, c.out.DataPointCount() > 0
}

func markOverflow(attributes pcommon.Map) {
	attributes.PutBool(attrMetricOverflow, true)
}
