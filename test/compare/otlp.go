// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Signals as in the report.
const (
	signalTraces  = "traces"
	signalLogs    = "logs"
	signalMetrics = "metrics"
)

// newRecord of a group whose variant is told by its attributes, and by what else is told of it.
func newRecord(signal, name string, attributes pcommon.Map, words ...string) *record {
	r := &record{
		group:    Group{Family: FamilyOf(name), Signal: signal, Name: name, Variant: strings.Join(append(words, variantOf(attributes)...), " ")},
		features: map[string]string{},
	}
	r.attributes(attributes)
	return r
}

func (r *record) scope(scope pcommon.InstrumentationScope, schemaURL string) {
	r.has("scope", strings.TrimSpace(scope.Name()+" "+scope.Version()))
	r.has("scope schema", schemaURL)
}

// AddTraces adds what there is of them to the shape.
func (s Shape) AddTraces(traces ptrace.Traces) {
	for _, of := range traces.ResourceSpans().All() {
		for _, scope := range of.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				r := spanRecord(span)
				r.scope(scope.Scope(), scope.SchemaUrl())
				s.add(r)
				s.resource(r.group.Family, signalTraces, of.Resource(), of.SchemaUrl())
			}
		}
	}
}

func spanRecord(span ptrace.Span) *record {
	r := newRecord(signalTraces, span.Name(), span.Attributes())
	if method, ok := span.Attributes().Get("http.request.method"); ok {
		r = httpRecord(span, method.Str())
	}
	r.has("kind", span.Kind().String())
	r.has("status", span.Status().Code().String())
	r.hasIf(!span.TraceID().IsEmpty(), "trace id")
	r.hasIf(!span.SpanID().IsEmpty(), "span id")
	r.hasIf(!span.ParentSpanID().IsEmpty(), "parent")
	r.hasIf(span.Links().Len() > 0, "link")
	r.hasIf(span.Events().Len() > 0, "event")
	r.hasIf(span.TraceState().AsRaw() != "", "trace state")
	r.hasIf(span.Status().Message() != "", "status message")
	r.hasIf(span.StartTimestamp() > 0, "start")
	r.hasIf(span.EndTimestamp() > span.StartTimestamp(), "length")
	return r
}

// httpRecord has the kind of the span as the variant: a server's attributes are others than a client's.
func httpRecord(span ptrace.Span, method string) *record {
	name := strings.Replace(span.Name(), method, "{method}", 1)
	if route, ok := span.Attributes().Get("http.route"); ok {
		name = strings.Replace(name, route.Str(), "{http.route}", 1)
	}
	r := newRecord(signalTraces, name, span.Attributes(), strings.ToLower(span.Kind().String()))
	r.group.Family = "http"
	return r
}

// AddLogs adds what there is of them to the shape.
func (s Shape) AddLogs(logs plog.Logs) {
	for _, of := range logs.ResourceLogs().All() {
		for _, scope := range of.ScopeLogs().All() {
			for _, log := range scope.LogRecords().All() {
				r := logRecord(log)
				r.scope(scope.Scope(), scope.SchemaUrl())
				s.add(r)
				s.resource(r.group.Family, signalLogs, of.Resource(), of.SchemaUrl())
			}
		}
	}
}

func logRecord(log plog.LogRecord) *record {
	r := newRecord(signalLogs, log.EventName(), log.Attributes())
	r.has("severity", strings.TrimSpace(log.SeverityNumber().String()+" "+log.SeverityText()))
	r.has("body", log.Body().Type().String())
	r.hasIf(log.Timestamp() > 0, "time")
	r.hasIf(log.ObservedTimestamp() > 0, "observed time")
	r.hasIf(!log.TraceID().IsEmpty(), "trace id")
	r.hasIf(!log.SpanID().IsEmpty(), "span id")
	return r
}

// AddMetrics adds what there is of them to the shape. Each data point is a record.
func (s Shape) AddMetrics(metrics pmetric.Metrics) {
	for _, of := range metrics.ResourceMetrics().All() {
		for _, scope := range of.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, r := range pointRecords(metric) {
					r.scope(scope.Scope(), scope.SchemaUrl())
					s.add(r)
				}
				s.resource(FamilyOf(metric.Name()), signalMetrics, of.Resource(), of.SchemaUrl())
			}
		}
	}
}

func pointRecords(metric pmetric.Metric) (records []*record) {
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		for _, point := range metric.Sum().DataPoints().All() {
			r := numberRecord(metric, point)
			r.has("temporality", metric.Sum().AggregationTemporality().String())
			r.has("monotonic", fmt.Sprint(metric.Sum().IsMonotonic()))
			records = append(records, r)
		}
	case pmetric.MetricTypeGauge:
		for _, point := range metric.Gauge().DataPoints().All() {
			records = append(records, numberRecord(metric, point))
		}
	case pmetric.MetricTypeHistogram:
		for _, point := range metric.Histogram().DataPoints().All() {
			records = append(records, histogramRecord(metric, point))
		}
	default:
		records = append(records, pointRecord(metric, pcommon.NewMap()))
	}
	return records
}

func pointRecord(metric pmetric.Metric, attributes pcommon.Map) *record {
	r := newRecord(signalMetrics, metric.Name(), attributes)
	r.has("type", metric.Type().String())
	r.has("unit", metric.Unit())
	r.has("description", metric.Description())
	return r
}

func numberRecord(metric pmetric.Metric, point pmetric.NumberDataPoint) *record {
	r := pointRecord(metric, point.Attributes())
	r.has("value", point.ValueType().String())
	r.hasIf(point.StartTimestamp() > 0, "start")
	r.hasIf(point.Exemplars().Len() > 0, "exemplar")
	return r
}

func histogramRecord(metric pmetric.Metric, point pmetric.HistogramDataPoint) *record {
	r := pointRecord(metric, point.Attributes())
	r.has("temporality", metric.Histogram().AggregationTemporality().String())
	r.has("bounds", fmt.Sprint(point.ExplicitBounds().AsRaw()))
	r.hasIf(point.HasSum(), "sum")
	r.hasIf(point.HasMin() && point.HasMax(), "least and most")
	r.hasIf(point.StartTimestamp() > 0, "start")
	r.hasIf(point.Exemplars().Len() > 0, "exemplar")
	return r
}

// AddJSON adds what the file exporter wrote: a message a line.
func (s Shape) AddJSON(from io.Reader) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if err := s.addLine(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read OTLP JSON: %w", err)
		}
	}
}

func (s Shape) addLine(line []byte) error {
	switch start := string(line[:min(len(line), 20)]); {
	case strings.HasPrefix(start, `{"resourceSpans"`):
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		if err != nil {
			return fmt.Errorf("read traces: %w", err)
		}
		s.AddTraces(traces)
	case strings.HasPrefix(start, `{"resourceLogs"`):
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(line)
		if err != nil {
			return fmt.Errorf("read logs: %w", err)
		}
		s.AddLogs(logs)
	case strings.HasPrefix(start, `{"resourceMetrics"`):
		metrics, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics(line)
		if err != nil {
			return fmt.Errorf("read metrics: %w", err)
		}
		s.AddMetrics(metrics)
	default:
		return fmt.Errorf("no OTLP JSON: %s…", start)
	}
	return nil
}
