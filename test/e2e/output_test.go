// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// output is what the collector has written so far.
type output struct {
	path    string
	offset  int64
	logs    []item
	spans   []item
	metrics []pmetric.Metrics // each has all series, as they are cumulative

	take func(item) // gets the spans, where there are too many to keep; nil: they are kept
}

// item is a log record or a span.
type item struct {
	name       string
	resource   map[string]any
	attributes map[string]any
	time, end  pcommon.Timestamp // end: of a span
	traceID    pcommon.TraceID
	spanID     pcommon.SpanID
	parentID   pcommon.SpanID
	flags      uint32 // of a span
	traceState string
	links      []link
	severity   plog.SeverityNumber
	status     ptrace.StatusCode
	kind       ptrace.SpanKind
}

// link of a span to another one, which may be in another trace.
type link struct {
	traceID pcommon.TraceID
	spanID  pcommon.SpanID
}

func linksOf(span ptrace.Span) (links []link) {
	for _, l := range span.Links().All() {
		links = append(links, link{l.TraceID(), l.SpanID()})
	}
	return links
}

func (i item) text(key string) string {
	value, _ := i.attributes[key].(string)
	return value
}

func (i item) number(key string) int64 {
	value, _ := i.attributes[key].(int64)
	return value
}

func (i item) has(key string) bool {
	_, ok := i.attributes[key]
	return ok
}

func (i item) pid() int64 { return i.number("process.pid") }

// read adds what was written since the last time. A line that is not finished is left for the next.
func (o *output) read() error {
	file, err := os.Open(o.path)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	// not what is written meanwhile: that may go on for ever
	for lines := bufio.NewReader(io.NewSectionReader(file, o.offset, stat.Size()-o.offset)); ; {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.add([]byte(line)); err != nil {
			return err
		}
		o.offset += int64(len(line))
	}
}

func (o *output) add(line []byte) error {
	switch start := string(line[:min(len(line), 20)]); {
	case strings.HasPrefix(start, `{"resourceSpans"`):
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		o.addTraces(traces)
		return err
	case strings.HasPrefix(start, `{"resourceLogs"`):
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(line)
		o.addLogs(logs)
		return err
	default:
		metrics, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics(line)
		o.metrics = append(o.metrics, metrics)
		return err
	}
}

func (o *output) addTraces(traces ptrace.Traces) {
	for _, of := range traces.ResourceSpans().All() {
		resource := of.Resource().Attributes().AsRaw()
		for _, scope := range of.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				o.addSpan(item{
					name:       span.Name(),
					resource:   resource,
					attributes: span.Attributes().AsRaw(),
					time:       span.StartTimestamp(),
					end:        span.EndTimestamp(),
					traceID:    span.TraceID(),
					spanID:     span.SpanID(),
					parentID:   span.ParentSpanID(),
					flags:      span.Flags(),
					traceState: span.TraceState().AsRaw(),
					links:      linksOf(span),
					status:     span.Status().Code(),
					kind:       span.Kind(),
				})
			}
		}
	}
}

func (o *output) addSpan(span item) {
	if o.take != nil {
		o.take(span)
		return
	}
	o.spans = append(o.spans, span)
}

func (o *output) addLogs(logs plog.Logs) {
	for _, of := range logs.ResourceLogs().All() {
		resource := of.Resource().Attributes().AsRaw()
		for _, scope := range of.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				o.logs = append(o.logs, item{
					name:       record.EventName(),
					resource:   resource,
					attributes: record.Attributes().AsRaw(),
					time:       record.Timestamp(),
					traceID:    record.TraceID(),
					spanID:     record.SpanID(),
					severity:   record.SeverityNumber(),
				})
			}
		}
	}
}

// named are the items of a name.
func named(items []item, name string) []item {
	return filter(items, func(i item) bool { return i.name == name })
}

func filter(items []item, keep func(item) bool) []item {
	var kept []item
	for _, i := range items {
		if keep(i) {
			kept = append(kept, i)
		}
	}
	return kept
}

// byPID groups items by their process, each group in the order of time.
func byPID(items []item) map[int64][]item {
	groups := map[int64][]item{}
	for _, i := range items {
		groups[i.pid()] = append(groups[i.pid()], i)
	}
	for _, group := range groups {
		slices.SortFunc(group, func(a, b item) int { return cmp.Compare(a.time, b.time) })
	}
	return groups
}

// closes are the ends of connections that had been established, and of flows. A handshake that
// failed is told by a record of the same name, but carried nothing.
func (o *output) closes() []item {
	return filter(named(o.logs, "tapio.network.connection.close"), func(i item) bool { return i.has("tapio.network.sent_bytes") })
}

// actions that a record of the family security stands for.
func actions(record item) uint64 {
	if record.has("tapio.security.count") {
		return uint64(record.number("tapio.security.count"))
	}
	return 1
}

// events counts what the ledger should have as exported, by family. Every event of a process has a
// log record; a handshake has a span, and a log record besides if it failed; an end of an HTTP
// exchange has a span.
func (o *output) events() map[string]uint64 {
	counts := map[string]uint64{}
	for _, record := range o.logs {
		switch {
		case strings.HasPrefix(record.name, "tapio.process."):
			counts["process"]++
		case strings.HasPrefix(record.name, "tapio.security."):
			counts["security"] += actions(record)
		case strings.HasPrefix(record.name, "tapio.etcd."):
			counts["etcd"]++
		}
	}
	network := len(o.closes()) + len(named(o.logs, "tapio.network.connection.report")) + len(named(o.spans, "tcp.connect")) + o.handshakes()
	if network > 0 {
		counts["network"] = uint64(network)
	}
	if exchanges := len(filter(o.spans, isExchange)); exchanges > 0 {
		counts["http"] = uint64(exchanges)
	}
	if changes := o.cniEvents(); changes > 0 {
		counts["cni"] = uint64(changes)
	}
	return counts
}

// handshakes of TLS that are told: a client's has a span, and a server's that failed only a log record.
func (o *output) handshakes() int {
	failed := filter(named(o.logs, "tapio.tls.failure"), func(i item) bool { return i.text("tapio.network.role") == "server" })
	return len(named(o.spans, "tls.handshake")) + len(failed)
}

// cniEvents: a plugin's start and its end are two.
func (o *output) cniEvents() int {
	return 2*len(named(o.spans, "cni.plugin")) + len(named(o.spans, "cni.netns.create")) + len(named(o.spans, "cni.netns.delete"))
}

// points are a metric's data points as they were last.
func (o *output) points(name string) []point {
	if len(o.metrics) == 0 {
		return nil
	}
	var points []point
	for _, of := range o.metrics[len(o.metrics)-1].ResourceMetrics().All() {
		executable, _ := of.Resource().Attributes().AsRaw()["process.executable.path"].(string)
		container, _ := of.Resource().Attributes().AsRaw()["container.id"].(string)
		for _, scope := range of.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() == name {
					for _, p := range pointsOf(metric, executable) {
						p.container = container
						points = append(points, p)
					}
				}
			}
		}
	}
	return points
}

// point of a sum, or of a histogram, whose value is its count.
type point struct {
	executable string
	container  string // its id
	attributes map[string]any
	value      int64
	sum        float64
	buckets    uint64 // all together
	start      pcommon.Timestamp
	time       pcommon.Timestamp
}

func pointsOf(metric pmetric.Metric, executable string) []point {
	var points []point
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		for _, p := range metric.Sum().DataPoints().All() {
			points = append(points, point{
				executable: executable, attributes: p.Attributes().AsRaw(),
				value: p.IntValue(), start: p.StartTimestamp(), time: p.Timestamp(),
			})
		}
	case pmetric.MetricTypeHistogram:
		for _, p := range metric.Histogram().DataPoints().All() {
			var buckets uint64
			for _, n := range p.BucketCounts().All() {
				buckets += n
			}
			points = append(points, point{
				executable: executable, attributes: p.Attributes().AsRaw(),
				value: int64(p.Count()), sum: p.Sum(), buckets: buckets, start: p.StartTimestamp(), time: p.Timestamp(),
			})
		}
	}
	return points
}

// total of the points that have all the attributes, given as key and value in turn. An attribute
// with the value nil must be absent.
func total(points []point, attributes ...any) int64 {
	var sum int64
	for _, p := range points {
		if p.matches(attributes) {
			sum += p.value
		}
	}
	return sum
}

func (p point) matches(attributes []any) bool {
	for i := 0; i < len(attributes); i += 2 {
		if p.attributes[attributes[i].(string)] != attributes[i+1] {
			return false
		}
	}
	return true
}
