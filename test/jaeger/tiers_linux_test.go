// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// tailShare of the traces without an error or a slow request is kept, as sampler.yaml says.
const tailShare = 0.10

// TestTiers: two nodes send to a router, this to two samplers, and these to Jaeger, all with the files in
// deploy/gateway. Then one sampler is killed.
func TestTiers(t *testing.T) {
	requireJaeger(t)
	jaeger := startKeeping(t)
	sinks := [2]*sink{startSink(t), startSink(t)}
	hosts, port := filepath.Join(t.TempDir(), "hosts"), freePort(t)
	writeHosts(t, hosts, samplerA, samplerB)
	samplers := [2]*part{
		startSampler(t, jaeger, samplerA, port, sinks[0].environment()),
		startSampler(t, jaeger, samplerB, port, sinks[1].environment()),
	}
	router := startRouter(t, hosts, port, nil)
	truth := runNodes(t, []string{gatewayFile("agent.yaml")}, []string{"TAPIO_OTLP_ENDPOINT=" + router.endpoint}, 600, nothing)

	t.Run("each trace goes one way", func(t *testing.T) {
		testWays(t, samplers, truth)
		assert.EqualValues(t, truth.spans.spans(), samplers[0].accepted(t)+samplers[1].accepted(t), "each span comes once")
	})
	t.Run("traces are kept whole, or not at all", func(t *testing.T) { testKept(t, jaeger, samplers, truth) })
	t.Run("metrics and logs", func(t *testing.T) { testOthers(t, sinks, truth) })
	t.Run("a sampler is killed", func(t *testing.T) { testKill(t, jaeger, router, samplers, hosts) })
}

// nodesTruth is what the nodes have told.
type nodesTruth struct {
	spans  spansByTrace
	mustBe map[string]bool // traces that every sampler keeps
	logs   int
}

func nothing() {}

// runNodes has two nodes tell of simulated events, until there are so many traces. They do something in the middle of it.
// Nothing may be lost on them.
func runNodes(t *testing.T, files, environment []string, traces int, inTheMiddle func(), overrides ...string) *nodesTruth {
	t.Helper()
	var nodes []*collector
	var spans, logs []string
	for seed := range 2 {
		node := startNode(t, files, environment, append(overrides,
			fmt.Sprintf("receivers::tapioebpf: {source: simulator, simulator: {rate: 40, seed: %d}}", seed+1),
			// of each signal by itself: the exporter ends with the first of several pipelines that have it
			"exporters::file/spans: {path: '${env:TAPIO_DATA}/spans.jsonl', flush_interval: 50ms}",
			"exporters::file/logs: {path: '${env:TAPIO_DATA}/logs.jsonl', flush_interval: 50ms}",
			"service::pipelines::traces/truth: {receivers: [tapioebpf], exporters: [file/spans]}",
			"service::pipelines::logs/truth: {receivers: [tapioebpf], exporters: [file/logs]}")...)
		nodes = append(nodes, node)
		spans = append(spans, filepath.Join(node.data, "spans.jsonl"))
		logs = append(logs, filepath.Join(node.data, "logs.jsonl"))
	}
	awaitTold(t, traces/2, spans)
	inTheMiddle()
	awaitTold(t, traces, spans)
	for _, node := range nodes {
		node.requireNothingLost(t)
		node.end()
		require.True(t, node.command.ProcessState.Success(), node.command.ProcessState)
		node.requireNothingDropped(t)
	}
	truth := &nodesTruth{spans: readSpans(t, spans...), mustBe: map[string]bool{}}
	eachLine(t, spans, func(line []byte) {
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		require.NoError(t, err)
		eachSpan(traces, func(span ptrace.Span) {
			if mustBeKept(span) {
				truth.mustBe[span.TraceID().String()] = true
			}
		})
	})
	eachLine(t, logs, func(line []byte) {
		records, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(line)
		require.NoError(t, err)
		truth.logs += records.LogRecordCount()
	})
	t.Logf("%d traces of %d spans, %d log records", len(truth.spans), truth.spans.spans(), truth.logs)
	return truth
}

// requireNothingDropped looks into the log: what an exporter drops is not in the ledger.
func (c *collector) requireNothingDropped(t *testing.T) {
	t.Helper()
	log, err := os.ReadFile(c.log)
	require.NoError(t, err)
	require.NotContains(t, string(log), "Dropping data")
}

func awaitTold(t *testing.T, traces int, files []string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(readSpans(t, files...)) >= traces }, 2*patience, time.Second, "the nodes tell too little")
}

// mustBeKept says that its trace is: for an error, a slow request, or an action that matters for security.
func mustBeKept(span ptrace.Span) bool {
	_, isRequest := span.Attributes().Get("http.request.method")
	return span.Status().Code() == ptrace.StatusCodeError || strings.HasPrefix(span.Name(), "security.") ||
		isRequest && span.EndTimestamp()-span.StartTimestamp() > pcommon.Timestamp(time.Second)
}

// testWays: all spans have come, and those of a trace to one sampler.
func testWays(t *testing.T, samplers [2]*part, truth *nodesTruth) {
	var seen [2]spansByTrace
	require.True(t, within(readersPatience, func() bool {
		for i, sampler := range samplers {
			seen[i] = readSpans(t, sampler.seen)
		}
		return seen[0].spans()+seen[1].spans() >= truth.spans.spans()
	}), "%d and %d spans came, of %d", seen[0].spans(), seen[1].spans(), truth.spans.spans())
	for trace := range seen[0] {
		require.Empty(t, seen[1][trace], "trace %s is parted", trace)
	}
	all := maps.Clone(seen[0])
	maps.Copy(all, seen[1])
	require.Equal(t, truth.spans, all)
	for i := range samplers {
		assert.InDelta(t, len(truth.spans)/2, len(seen[i]), float64(len(truth.spans))/4, "a half goes to each")
	}
}

// accepted spans, by a sampler's own metric.
func (p *part) accepted(t *testing.T) float64 {
	return p.metric(t, "otelcol_receiver_accepted_spans", `receiver="otlp"`)
}

// testKept holds what Jaeger has against what the nodes have told.
func testKept(t *testing.T, jaeger *backend, samplers [2]*part, truth *nodesTruth) {
	awaitDecided(t, samplers[:], len(truth.spans))
	sampled := samplers[0].metric(t, decisions, `sampled="true"`) + samplers[1].metric(t, decisions, `sampled="true"`)
	var kept spansByTrace
	require.True(t, eventually(func() bool {
		kept = spansByTrace{}
		for trace, spans := range truth.spans {
			switch stored := jaeger.stored(t, trace); {
			case stored == nil:
			case len(stored) < len(spans):
				return false // it may be on its way
			default:
				require.Equal(t, spans, stored)
				kept[trace] = stored
			}
		}
		return len(kept) == int(sampled)
	}), "Jaeger has %d whole traces of %v", len(kept), sampled)
	others := len(truth.spans) - len(truth.mustBe)
	for trace := range truth.mustBe {
		assert.Contains(t, kept, trace, "it has an error, took long, or matters for security")
	}
	t.Logf("%d traces kept: %d for what is in them, %d of %d others", len(kept), len(truth.mustBe), len(kept)-len(truth.mustBe), others)
	assert.InDelta(t, float64(others)*tailShare, len(kept)-len(truth.mustBe), float64(others)*tailShare*0.8)
}

// decisions is a sampler's own metric: of each trace one.
const decisions = "otelcol_processor_tail_sampling_global_count_traces_sampled"

func awaitDecided(t *testing.T, samplers []*part, traces int) {
	t.Helper()
	var decided float64
	require.True(t, eventually(func() bool {
		decided = 0
		for _, sampler := range samplers {
			decided += sampler.metric(t, decisions, "")
		}
		return decided == float64(traces)
	}), "%v traces of %d are decided", decided, traces)
}

// testOthers: all log records have come, and what is of one resource by one way.
func testOthers(t *testing.T, sinks [2]*sink, truth *nodesTruth) {
	require.True(t, eventually(func() bool { return sinks[0].logs()+sinks[1].logs() >= truth.logs }))
	assert.Equal(t, truth.logs, sinks[0].logs()+sinks[1].logs())
	a, b := sinks[0].resources(), sinks[1].resources()
	assert.NotEmpty(t, a)
	assert.NotEmpty(t, b)
	for resource := range a {
		assert.NotContains(t, b, resource)
	}
}

// testKill: what comes after the end of one sampler goes to the other one, and what is lost is what only it had.
func testKill(t *testing.T, jaeger *backend, router *part, samplers [2]*part, hosts string) {
	const count = 200
	before := failures(count)
	idsBefore := idsOf(before)
	require.NoError(t, sendSpans(t, router.endpoint, before))
	var lost, left []string
	require.True(t, eventually(func() bool {
		lost, left = common(idsBefore, readSpans(t, samplers[1].seen)), common(idsBefore, readSpans(t, samplers[0].seen))
		return len(lost)+len(left) == count
	}))
	require.NotEmpty(t, lost)
	require.NoError(t, samplers[1].command.Process.Signal(syscall.SIGKILL)) // nothing of these is decided yet
	<-samplers[1].ended

	after := failures(count)
	require.Error(t, sendSpans(t, router.endpoint, after), "nobody has accepted it")
	writeHosts(t, hosts, samplerA)
	require.True(t, eventually(func() bool { return sendSpans(t, router.endpoint, after) == nil }), "the router does not see that a sampler is gone")
	idsAfter := idsOf(after)
	require.True(t, eventually(func() bool {
		return !slices.ContainsFunc(append(idsAfter, left...), func(id string) bool { return jaeger.stored(t, id) == nil })
	}), "what a sampler has is in Jaeger")
	for _, id := range lost {
		assert.Nil(t, jaeger.stored(t, id), "only the killed one has had it")
	}
	t.Logf("of %d traces before, %d are lost; of %d after, none", count, len(lost), count)
}

// failures are traces that are kept, of one span each.
func failures(count int) ptrace.Traces {
	traces := ptrace.NewTraces()
	of := traces.ResourceSpans().AppendEmpty()
	of.Resource().Attributes().PutStr("service.name", "test")
	spans := of.ScopeSpans().AppendEmpty().Spans()
	now := time.Now()
	for range count {
		span := spans.AppendEmpty()
		id := randomBytes()
		span.SetTraceID(id)
		span.SetSpanID(pcommon.SpanID(id[:8]))
		span.SetName("of a test")
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Millisecond)))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
		span.Status().SetCode(ptrace.StatusCodeError)
	}
	return traces
}

func idsOf(traces ptrace.Traces) (ids []string) {
	eachSpan(traces, func(span ptrace.Span) { ids = append(ids, span.TraceID().String()) })
	return ids
}

// common ids of those and of the traces.
func common(ids []string, traces spansByTrace) (both []string) {
	for _, id := range ids {
		if traces[id] != nil {
			both = append(both, id)
		}
	}
	return both
}

// sink takes a sampler's metrics and logs, in the place of Prometheus and Loki.
type sink struct {
	url string

	mu      sync.Mutex
	records int
	of      map[string]bool // resources of metrics
}

func startSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{of: map[string]bool{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// environment of a sampler that sends here.
func (s *sink) environment() []string {
	return []string{"TAPIO_METRICS_ENDPOINT=" + s.url, "TAPIO_LOGS_ENDPOINT=" + s.url}
}

// ServeHTTP takes OTLP, as protobuf and compressed.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.take(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (s *sink) take(r *http.Request) error {
	uncompressed, err := gzip.NewReader(r.Body)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(uncompressed)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.URL.Path {
	case "/v1/logs":
		request := plogotlp.NewExportRequest()
		err = request.UnmarshalProto(body)
		s.records += request.Logs().LogRecordCount()
	case "/v1/metrics":
		request := pmetricotlp.NewExportRequest()
		err = request.UnmarshalProto(body)
		for _, of := range request.Metrics().ResourceMetrics().All() {
			s.of[fmt.Sprint(of.Resource().Attributes().AsRaw())] = true
		}
	default:
		err = fmt.Errorf("nothing is taken at %s", r.URL.Path)
	}
	return err
}

func (s *sink) logs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records
}

func (s *sink) resources() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.of)
}
