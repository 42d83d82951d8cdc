// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// data is some of each signal, to be changed.
type data struct {
	traces  ptrace.Traces
	logs    plog.Logs
	metrics pmetric.Metrics
}

func (d data) span() ptrace.Span {
	return d.traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
}

func (d data) resource() pcommon.Map { return d.traces.ResourceSpans().At(0).Resource().Attributes() }

func (d data) log() plog.LogRecord {
	return d.logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func (d data) metric(n int) pmetric.Metric {
	return d.metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(n)
}

const histogram, sum = 0, 1

func someData() data {
	d := data{ptrace.NewTraces(), plog.NewLogs(), pmetric.NewMetrics()}
	spans := d.traces.ResourceSpans().AppendEmpty()
	spans.Resource().Attributes().PutStr("tapio.source", "ebpf")
	spans.Resource().Attributes().PutStr("container.id", "cafe")
	span := spans.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	span.SetName("dns.query")
	span.SetKind(ptrace.SpanKindClient)
	span.SetTraceID([16]byte{1})
	span.SetSpanID([8]byte{1})
	span.SetStartTimestamp(1)
	span.SetEndTimestamp(2)
	span.Attributes().PutStr("dns.question.name", "web")
	span.Attributes().PutInt("process.pid", 7)
	span.Attributes().PutEmptySlice("dns.answers").AppendEmpty().SetStr("192.0.2.7")

	log := d.logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	log.SetEventName("tapio.process.exit")
	log.SetSeverityNumber(plog.SeverityNumberInfo)
	log.SetTimestamp(1)
	log.Attributes().PutInt("process.pid", 7)

	metrics := d.metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	duration := metrics.AppendEmpty()
	duration.SetName("tapio.tcp.rtt")
	duration.SetUnit("s")
	duration.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	point := duration.Histogram().DataPoints().AppendEmpty()
	point.ExplicitBounds().FromRaw([]float64{0.1, 1})
	point.SetSum(1)
	point.Attributes().PutStr("network.transport", "tcp")
	count := metrics.AppendEmpty()
	count.SetName("tapio.process.exits")
	count.SetEmptySum().SetIsMonotonic(true)
	count.Sum().DataPoints().AppendEmpty().SetIntValue(1)
	return d
}

func sideOf(name string, of ...data) *Side {
	s := NewSide(name)
	for _, d := range of {
		s.Shape.AddTraces(d.traces)
		s.Shape.AddLogs(d.logs)
		s.Shape.AddMetrics(d.metrics)
	}
	return s
}

func TestTheSameDoesNotDiffer(t *testing.T) {
	assert.Empty(t, Compare(sideOf("a", someData()), sideOf("b", someData(), someData()), nil), "how often is no difference")
}

// TestEachDifferenceIsFound changes one thing at a time.
func TestEachDifferenceIsFound(t *testing.T) {
	tests := map[string]struct {
		change func(data)
		want   []string
	}{
		"an attribute is missing": {
			func(d data) { d.span().Attributes().Remove("process.pid") },
			[]string{"dns, traces: dns.query: attribute process.pid is only in a"},
		},
		"an attribute is new": {
			func(d data) { d.log().Attributes().PutBool("new", true) },
			[]string{"process, logs: tapio.process.exit: attribute new is only in b"},
		},
		"an attribute has another type": {
			func(d data) { d.log().Attributes().PutStr("process.pid", "7") },
			[]string{"process, logs: tapio.process.exit: attribute process.pid is Int in a, and Str in b"},
		},
		"a list has other elements": {
			func(d data) { d.span().Attributes().PutEmptySlice("dns.answers").AppendEmpty().SetInt(7) },
			[]string{"dns, traces: dns.query: attribute dns.answers is list of Str in a, and list of Int in b"},
		},
		"a resource has an attribute more": {
			func(d data) { d.resource().PutStr("k8s.pod.name", "web-0") },
			[]string{"dns, traces: resource [container]: attribute k8s.pod.name is only in b"},
		},
		"a resource is of another kind": {
			func(d data) { d.resource().Remove("container.id") },
			[]string{"dns, traces: resource is only in b", "dns, traces: resource [container] is only in a"},
		},
		"a source": {
			func(d data) { d.resource().PutStr("tapio.source", "simulator") },
			[]string{"dns, traces: resource [container]: source is ebpf in a, and simulator in b"},
		},
		"a scope": {
			func(d data) { d.logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope().SetName("other") },
			[]string{"process, logs: tapio.process.exit: scope is (empty) in a, and other in b"},
		},
		"a schema": {
			func(d data) { d.traces.ResourceSpans().At(0).SetSchemaUrl("https://example") },
			[]string{"dns, traces: resource [container]: schema is (empty) in a, and https://example in b"},
		},
		"a span has another name": {
			func(d data) { d.span().SetName("dns.question") },
			[]string{"dns, traces: dns.query is only in a", "dns, traces: dns.question is only in b"},
		},
		"a span is of another kind": {
			func(d data) { d.span().SetKind(ptrace.SpanKindServer) },
			[]string{"dns, traces: dns.query: kind is Client in a, and Server in b"},
		},
		"a span has another status": {
			func(d data) { d.span().Status().SetCode(ptrace.StatusCodeError) },
			[]string{"dns, traces: dns.query: status is Unset in a, and Error in b"},
		},
		"a span has a parent": {
			func(d data) { d.span().SetParentSpanID([8]byte{2}) },
			[]string{"dns, traces: dns.query: parent is only in b"},
		},
		"a span has a link": {
			func(d data) { d.span().Links().AppendEmpty() },
			[]string{"dns, traces: dns.query: link is only in b"},
		},
		"a span has no length": {
			func(d data) { d.span().SetEndTimestamp(1) },
			[]string{"dns, traces: dns.query: length is only in a"},
		},
		"a record has another severity": {
			func(d data) { d.log().SetSeverityNumber(plog.SeverityNumberWarn) },
			[]string{"process, logs: tapio.process.exit: severity is Info in a, and Warn in b"},
		},
		"a record has a body": {
			func(d data) { d.log().Body().SetStr("hello") },
			[]string{"process, logs: tapio.process.exit: body is Empty in a, and Str in b"},
		},
		"a record is of a span": {
			func(d data) { d.log().SetSpanID([8]byte{1}) },
			[]string{"process, logs: tapio.process.exit: span id is only in b"},
		},
		"a metric has another unit": {
			func(d data) { d.metric(histogram).SetUnit("ms") },
			[]string{"network, metrics: tapio.tcp.rtt [tcp]: unit is s in a, and ms in b"},
		},
		"a metric has another temporality": {
			func(d data) {
				d.metric(histogram).Histogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			},
			[]string{"network, metrics: tapio.tcp.rtt [tcp]: temporality is Cumulative in a, and Delta in b"},
		},
		"a histogram has other bounds": {
			func(d data) {
				d.metric(histogram).Histogram().DataPoints().At(0).ExplicitBounds().FromRaw([]float64{1})
			},
			[]string{"network, metrics: tapio.tcp.rtt [tcp]: bounds is [0.1 1] in a, and [1] in b"},
		},
		"a sum goes up and down": {
			func(d data) { d.metric(sum).Sum().SetIsMonotonic(false) },
			[]string{"process, metrics: tapio.process.exits: monotonic is true in a, and false in b"},
		},
		"a sum has other values": {
			func(d data) { d.metric(sum).Sum().DataPoints().At(0).SetDoubleValue(1) },
			[]string{"process, metrics: tapio.process.exits: value is Int in a, and Double in b"},
		},
		"a metric is of another type": {
			func(d data) { d.metric(sum).SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(1) },
			[]string{
				"process, metrics: tapio.process.exits: monotonic is only in a",
				"process, metrics: tapio.process.exits: temporality is only in a",
				"process, metrics: tapio.process.exits: type is Sum in a, and Gauge in b",
			},
		},
		"a point is of another variant": {
			func(d data) {
				d.metric(histogram).Histogram().DataPoints().At(0).Attributes().PutStr("error.type", "timed_out")
			},
			[]string{"network, metrics: tapio.tcp.rtt [tcp failed] is only in b", "network, metrics: tapio.tcp.rtt [tcp] is only in a"},
		},
		"a family is missing": {
			func(d data) { d.metric(histogram).SetName("tapio.process.rtt") },
			[]string{"network is only in a", "process, metrics: tapio.process.rtt [tcp] is only in b"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			changed := someData()
			test.change(changed)
			var got []string
			for _, f := range Compare(sideOf("a", someData()), sideOf("b", changed), nil) {
				got = append(got, f.String())
			}
			assert.Equal(t, test.want, got)
		})
	}
}

// TestSometimes: what some records have and others have not differs from what all have, and not from what some of
// the other's have.
func TestSometimes(t *testing.T) {
	without := someData()
	without.span().Attributes().Remove("process.pid")
	both := sideOf("b", someData(), without)
	found := Compare(sideOf("a", someData()), both, nil)
	require.Len(t, found, 1)
	assert.Equal(t, "dns, traces: dns.query: attribute process.pid is always in a, and sometimes in b", found[0].String())
	assert.Equal(t, FeatureRarer, found[0].Kind)
	assert.Equal(t, "a", found[0].More)
	assert.Empty(t, Compare(sideOf("a", someData(), without), both, nil))
}

func TestAllowances(t *testing.T) {
	without := someData()
	without.span().Attributes().Remove("process.pid")
	always, sometimes, never := sideOf("a", someData()), sideOf("b", someData(), without), sideOf("b", without)
	tests := map[string]struct {
		allowed                Allowance
		rarer, missing, turned bool // whether it covers these
	}{
		"what is rarer":         {Allowance{Kind: FeatureRarer, Feature: "attribute process.pid"}, true, false, true},
		"what is missing, too":  {Allowance{Kind: FeatureMissing, Feature: "attribute process.pid"}, true, true, true},
		"of one source":         {Allowance{Kind: FeatureMissing, Feature: "attribute process.*", More: "a"}, true, true, false},
		"of another source":     {Allowance{Kind: FeatureMissing, Feature: "attribute process.*", More: "b"}, false, false, true},
		"of the family":         {Allowance{Kind: FeatureMissing, Family: "dns", Signal: "traces", Name: "dns.query"}, true, true, true},
		"of another family":     {Allowance{Kind: FeatureMissing, Family: "http"}, false, false, false},
		"of another signal":     {Allowance{Kind: FeatureMissing, Signal: "logs"}, false, false, false},
		"of another name":       {Allowance{Kind: FeatureMissing, Name: "dns.lookup"}, false, false, false},
		"of a variant":          {Allowance{Kind: FeatureMissing, Variant: "failed"}, false, false, false},
		"another attribute":     {Allowance{Kind: FeatureMissing, Feature: "attribute process.pi"}, false, false, false},
		"other values, no more": {Allowance{Kind: ValuesDiffer, Feature: "attribute process.pid"}, false, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.allowed.Reason = "because"
			allowed := []Allowance{test.allowed}
			assert.Equal(t, test.rarer, len(Failures(Compare(always, sometimes, allowed))) == 0)
			assert.Equal(t, test.missing, len(Failures(Compare(always, never, allowed))) == 0)
			assert.Equal(t, test.turned, len(Failures(Compare(sideOf("a", someData(), without), sideOf("b", someData()), allowed))) == 0)
		})
	}
}

// TestAllowed: each difference that may be says why, and no family or group may be missing.
func TestAllowed(t *testing.T) {
	for _, allowed := range Allowed {
		assert.NotEmpty(t, allowed.Reason, "%+v", allowed)
		assert.NotEqual(t, Allowance{Kind: allowed.Kind, Reason: allowed.Reason}, allowed, "that is all there is")
		assert.NotContains(t, []Kind{GroupMissing, FamilyMissing}, allowed.Kind, "%+v", allowed)
	}
}

// TestNotBuilt: what a kernel cannot do may be the simulator's alone, but nothing else of the family.
func TestNotBuilt(t *testing.T) {
	allowed := NotBuilt("kernel.kexec")
	missing := func(name, more string) *Finding {
		return &Finding{Kind: GroupMissing, Group: Group{Family: "security", Name: name, Variant: "failed"}, More: more}
	}
	assert.Equal(t, reasonNotBuilt, reasonFor(missing("security.kernel.kexec", Simulator), allowed))
	assert.Equal(t, reasonNotBuilt, reasonFor(missing("tapio.security.kernel.kexec", Simulator), allowed))
	assert.Empty(t, reasonFor(missing("security.kernel.kexec", Kernel), allowed))
	assert.Empty(t, reasonFor(missing("security.kernel.module_load", Simulator), allowed))
	assert.Empty(t, NotBuilt())
}

func TestFamilyOf(t *testing.T) {
	for name, want := range map[string]string{
		"process.exec": "process", "tapio.process.exit": "process", "tcp.connect": "network", "tapio.tcp.rtt": "network",
		"tapio.network.io": "network", "dns.lookup.duration": "dns", "http.server.request.duration": "http",
		"security.mount": "security", "tapio.etcd.fsync": "etcd", "tapio": "tapio",
	} {
		assert.Equal(t, want, FamilyOf(name), name)
	}
}

// TestHTTP: spans of requests are of one name, whatever method and route they have, and of two kinds.
func TestHTTP(t *testing.T) {
	s := Shape{}
	for name, kind := range map[string]ptrace.SpanKind{"GET": ptrace.SpanKindClient, "POST": ptrace.SpanKindClient, "PUT /a/{id}": ptrace.SpanKindServer} {
		d := someData()
		d.span().SetName(name)
		d.span().SetKind(kind)
		method, route, hasRoute := strings.Cut(name, " ")
		d.span().Attributes().PutStr("http.request.method", method)
		if hasRoute {
			d.span().Attributes().PutStr("http.route", route)
		}
		s.AddTraces(d.traces)
	}
	client, server := Group{"http", "traces", "{method}", "client"}, Group{"http", "traces", "{method} {http.route}", "server"}
	require.Contains(t, s, client)
	require.Contains(t, s, server)
	assert.Equal(t, 2, s[client].Count)
}

func TestOTLPJSON(t *testing.T) {
	d := someData()
	traces, err := (&ptrace.JSONMarshaler{}).MarshalTraces(d.traces)
	require.NoError(t, err)
	logs, err := (&plog.JSONMarshaler{}).MarshalLogs(d.logs)
	require.NoError(t, err)
	metrics, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(d.metrics)
	require.NoError(t, err)
	read := NewSide("b")
	require.NoError(t, read.Shape.AddJSON(bytes.NewReader(bytes.Join([][]byte{traces, logs, metrics}, []byte("\n")))))
	assert.Empty(t, Compare(sideOf("a", d), read, nil))
	assert.Equal(t, []string{"ebpf"}, read.Shape.Sources())
	assert.ErrorContains(t, read.Shape.AddJSON(strings.NewReader("hello\n")), "no OTLP JSON: hello")
	assert.ErrorContains(t, read.Shape.AddJSON(strings.NewReader(`{"resourceSpans":[`)), "read traces: ")
}

const (
	stats = `{"source": "ebpf", "ledger": {"dns": {"seen": 3, "lost": {}}, "http": {"seen": 4, "lost": {"ring_full": 4}}}, "capabilities": [{"hook": "x"}]}`
	other = `{"source": "simulator", "ledger": {"dns": {"seen": "3", "lost": {"shutdown": 1}}}, "capabilities": []}`
)

func TestEndpoints(t *testing.T) {
	a, b := NewSide("a"), NewSide("b")
	require.NoError(t, a.AddEndpoint("/stats", 200, []byte(stats)))
	require.NoError(t, b.AddEndpoint("/stats", 503, []byte(other)))
	var got []string
	for _, f := range Compare(a, b, nil) {
		got = append(got, f.String())
	}
	assert.Equal(t, []string{
		"endpoints, http: /stats: key .capabilities[].hook is only in a",
		"endpoints, http: /stats: key .ledger.*.seen is float64 in a, and string in b",
		"endpoints, http: /stats: status is 200 in a, and 503 in b",
	}, got)
	assert.ErrorContains(t, a.AddEndpoint("/healthz", 404, []byte("404 page not found")), "/healthz is no JSON: ")
}

func TestReport(t *testing.T) {
	changed := someData()
	changed.span().Attributes().Remove("process.pid")
	changed.log().SetSeverityNumber(plog.SeverityNumberWarn)
	a, b := sideOf("ebpf", someData()), sideOf("simulator", changed)
	require.NoError(t, a.AddEndpoint("/stats", 200, []byte(stats)))
	require.NoError(t, b.AddEndpoint("/stats", 200, []byte(stats)))
	a.Ledger = map[string]Row{"dns": {Seen: 3, Exported: 3}, "http": {Seen: 9, Exported: 7, Lost: map[string]uint64{"ring_full": 2}}, "cgroup": {Seen: 5, Aggregated: 5}}
	b.Ledger = map[string]Row{"dns": {Seen: 3, Exported: 2}}
	b.RSS = 3 << 20
	found := Compare(a, b, []Allowance{{Kind: FeatureMissing, Feature: "attribute process.pid", Reason: "Nobody needs it."}})
	report := Report(a, b, found)
	for _, line := range []string{
		"| memory (RSS) | 0.0 MiB | 3.0 MiB |",
		"| /stats | 200 | 200 |",
		"| /readyz | not asked | not asked |",
		"| dns | 3 | 25.0 % | 0 | closes | 3 | 100.0 % | 0 | OPEN |",
		"| http | 9 | 75.0 % | 2 | closes | - | - | - | - |",
		"| cgroup | 5 | - | 0 | closes | - | - | - | - |",
		"| traces | dns.query | 1 | 1 | differs with a reason (1) |",
		"| logs | tapio.process.exit | 1 | 1 | **differs** (1) |",
		"| metrics | tapio.tcp.rtt [tcp] | 1 | 1 | same |",
		"## Differences: 1",
		"- process, logs: tapio.process.exit: severity is Info in ebpf, and Warn in simulator",
		"## Differences with a reason: 1",
		"- Nobody needs it.",
		"  - attribute process.pid is only in ebpf (1 groups)",
	} {
		assert.Contains(t, report, line+"\n")
	}
}
