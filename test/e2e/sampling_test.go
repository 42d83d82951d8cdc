// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

const (
	jaegerConfig = "../../otelcol-jaeger.yaml"
	headSampling = "../../deploy/head-sampling.yaml"
	tailSampling = "../../deploy/gateway/config/sampler.yaml"
	oneGateway   = "../../deploy/gateway/config/one.yaml"

	headShare, tailShare = 0.25, 0.10 // what these say
)

// agentConfigs are files of an agent in Kubernetes.
const agentConfigs = "../../deploy/kubernetes/"

// gatewayConfigs are files of a gateway.
const gatewayConfigs = "../../deploy/gateway/config/"

// TestConfigsAreValid has them together as their comments say.
func TestConfigsAreValid(t *testing.T) {
	requireBinary(t)
	const names, kafka, kafkaAgent = gatewayConfigs + "names.yaml", gatewayConfigs + "kafka.yaml", gatewayConfigs + "kafka-agent/kafka-agent.yaml"
	unseen := map[string]bool{headSampling: true}
	for _, pattern := range []string{"*.yaml", "*/*.yaml"} {
		files, err := filepath.Glob(gatewayConfigs + pattern)
		require.NoError(t, err)
		for _, file := range files {
			if filepath.Base(file) != "kustomization.yaml" { // that is kubectl's
				unseen[file] = true
			}
		}
	}
	for _, files := range [][]string{
		{defaultConfig, jaegerConfig},
		{defaultConfig, headSampling},
		{defaultConfig, jaegerConfig, headSampling},
		{agentConfigs + "base/agent.yaml"},
		{agentConfigs + "base/agent.yaml", agentConfigs + "jaeger/jaeger.yaml"},
		{agentConfigs + "base/agent.yaml", kafkaAgent, agentConfigs + "kafka/kafka.yaml"},
		{agentConfigs + "base/agent.yaml", agentConfigs + "jaeger/jaeger.yaml", agentConfigs + "simulator/simulator.yaml"},
		{defaultConfig, gatewayConfigs + "agent.yaml"},
		{defaultConfig, gatewayConfigs + "agent.yaml", headSampling},
		{defaultConfig, kafkaAgent},
		{routerConfig},
		{routerConfig, joinConfig},
		{routerConfig, kafka},
		{routerConfig, joinConfig, kafka},
		{tailSampling},
		{tailSampling, names},
		{tailSampling, kafka},
		{tailSampling, names, kafka},
		{tailSampling, oneGateway},
	} {
		out, err := validate(t, []string{"TAPIO_OTLP_ENDPOINT=collector.example:4317", "K8S_NODE_NAME=node-1", "TAPIO_MEMORY_MIB=256"}, files...)
		assert.NoError(t, err, "%s: %s", files, out)
		for _, file := range files {
			delete(unseen, filepath.Clean(file))
		}
	}
	assert.Empty(t, unseen, "no file is left out")
}

// TestConfigsSayWhatIsWrong where a variable is.
func TestConfigsSayWhatIsWrong(t *testing.T) {
	requireBinary(t)
	for _, c := range []struct {
		variable, want string
		files          []string
	}{
		{"TAPIO_OTLP_ENDPOINT=", `exporters::otlp_grpc: requires a non-empty "endpoint"`, []string{tailSampling}},
		{"TAPIO_OTLP_ENDPOINT=", `exporters::otlp_grpc: requires a non-empty "endpoint"`, []string{defaultConfig, gatewayConfigs + "agent.yaml"}},
		{"TAPIO_MAX_WAIT=soon", "'decision_wait' time: invalid duration", []string{tailSampling}},
		{"TAPIO_MEMORY_MIB=2GiB", "'limit_mib' expected type 'uint32'", []string{routerConfig}},
		{"TAPIO_MEMORY_MIB=", "'limit_mib' or 'limit_percentage' must be greater than zero", []string{agentConfigs + "base/agent.yaml"}},
		{"TAPIO_KAFKA_PLAINTEXT=maybe", "'tls.insecure' expected type 'bool'", []string{routerConfig, gatewayConfigs + "kafka.yaml"}},
	} {
		out, err := validate(t, []string{c.variable}, c.files...)
		assert.Error(t, err, c.variable)
		assert.Contains(t, out, c.want, c.variable)
	}
}

func validate(t *testing.T, environment []string, files ...string) (output string, err error) {
	t.Helper()
	command := exec.Command(binary(t), "validate")
	for _, file := range files {
		command.Args = append(command.Args, "--config", file)
	}
	command.Env = append(os.Environ(), environment...)
	out, err := command.CombinedOutput()
	return string(out), err
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}

func requireBinary(t *testing.T) {
	t.Helper()
	err := checkBinary(t)
	if err == nil {
		return
	}
	if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
		require.NoError(t, err, "TAPIO_REQUIRE_BPF=1")
	}
	t.Skip(err)
}

// TestHeadSampling: of each trace one collector gets the client's span and another one the server's, and
// both keep or both drop it.
func TestHeadSampling(t *testing.T) {
	requireBinary(t)
	clients, servers := startSampler(t), startSampler(t)
	random := rand.New(rand.NewPCG(1, 2))
	clientSpans, serverSpans := ptrace.NewTraces(), ptrace.NewTraces()
	const count = 4000
	sampledBefore := 0
	for i := range count {
		id := traceIDOf(random)
		addSpan(clientSpans, id, "client half")
		half := addSpan(serverSpans, id, "server half")
		// the randomness is in the last 56 bits, and below the threshold a trace is dropped
		if i%2 == 0 && id[9] >= 0x80 {
			half.TraceState().FromRaw("ot=th:8") // an SDK has kept every second one
			sampledBefore++
		}
	}
	require.Greater(t, sampledBefore, count/5)
	clients.send(t, clientSpans)
	servers.send(t, serverSpans)
	clientIDs, serverIDs := clients.kept("client half"), servers.kept("server half")
	assert.Equal(t, clientIDs, serverIDs, "halves of the same traces")
	assert.InDelta(t, count*headShare, len(clientIDs), count*headShare/5)
}

// TestHeadSamplingOfRequests: one collector sees the clients of requests, another one the servers. They know
// nothing of each other, and keep both halves of the same traces.
func TestHeadSamplingOfRequests(t *testing.T) {
	requireBPF(t)
	overlay, err := os.ReadFile(headSampling)
	require.NoError(t, err)
	clients, servers := newCgroup(t), newCgroup(t)
	server := servers.startGoServer(t, "tcp4")
	const count = 600
	questions := make([]question, count)
	for i := range questions {
		questions[i] = question{Method: "GET", Target: fmt.Sprintf("/n/%d", i)}
	}
	questions[0].Wait = true // a process that is older than its collector is not the requests' parent
	asking := clients.ask(t, server.address, questions)
	var collectors [2]*collector
	for i, scope := range []cgroup{clients, servers} {
		collectors[i] = startCollector(t, scope, string(overlay), "processors::memory_limiter: {check_interval: 1s, limit_mib: 512}")
	}
	asking.proceed()
	require.Len(t, asking.calls(), count)
	var kept [2]map[pcommon.TraceID]string
	for i, c := range collectors {
		require.Eventually(t, func() bool { return c.stats().Ledger["http"].Exported == count }, patience, pollInterval)
		c.stop().requireNothingLost(t)
		kept[i] = pathsOf(c.output.spans)
	}
	assert.Equal(t, kept[0], kept[1])
	assert.InDelta(t, count*headShare, len(kept[0]), count*headShare/2)
}

// pathsOf requests, by their traces.
func pathsOf(spans []item) map[pcommon.TraceID]string {
	paths := map[pcommon.TraceID]string{}
	for _, span := range named(spans, "GET") {
		paths[span.traceID] = span.text("url.path")
	}
	return paths
}

// sampler is a collector that gets spans by OTLP.
type sampler struct {
	*collector
	endpoint string // for OTLP/HTTP
}

// startSampler has the default pipeline, with head sampling, and spans of the test's making.
func startSampler(t *testing.T) *sampler {
	t.Helper()
	overlay, err := os.ReadFile(headSampling)
	require.NoError(t, err)
	content, err := os.ReadFile(defaultConfig)
	require.NoError(t, err)
	return startReceiving(t, string(content), string(overlay),
		"receivers::tapioebpf: {source: simulator, simulator: {rate: 0.001}}",
		"extensions::tapio::endpoint: 127.0.0.1:0",
		"exporters::prometheus::endpoint: 127.0.0.1:0",
		"service::telemetry::metrics: {level: none, readers: []}")
}

// noPorts but that for OTLP, of a gateway's configuration.
const noPorts = "{extensions: {health_check: {endpoint: '127.0.0.1:0'}}, service: {telemetry: {metrics: {level: none, readers: []}}}}"

// startReceiving takes any ports but the one that it is sent to.
func startReceiving(t *testing.T, config string, overrides ...string) *sampler {
	t.Helper()
	address := "127.0.0.1:" + strconv.Itoa(porttest.Free(t))
	c := launchConfig(t, binary(t), nil, "", config, 0, 0, append(overrides,
		"receivers::otlp::protocols: {grpc: {endpoint: 127.0.0.1:0}, http: {endpoint: "+address+"}}",
		"service::pipelines::traces::receivers: [otlp]",
		"exporters::file::path: ${env:TAPIO_DATA}/data.jsonl")...)
	s := &sampler{collector: c, endpoint: "http://" + address + "/v1/traces"}
	require.Eventually(t, func() bool {
		_, _, err := get(s.endpoint)
		return err == nil || c.hasExited()
	}, patience, pollInterval, "the collector does not listen")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	return s
}

// lastName is of a span in a trace that every share keeps.
const lastName = "last"

// send also waits until all went through.
func (s *sampler) send(t *testing.T, spans ptrace.Traces) {
	t.Helper()
	s.post(t, spans)
	last := ptrace.NewTraces()
	addSpan(last, pcommon.TraceID{0: 1, 9: 0xff, 10: 0xff, 11: 0xff}, lastName)
	s.post(t, last)
	s.await("the last span", func(o *output) bool { return len(named(o.spans, lastName)) == 1 })
}

func (s *sampler) post(t *testing.T, spans ptrace.Traces) {
	t.Helper()
	body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(spans)
	require.NoError(t, err)
	response, err := http.Post(s.endpoint, "application/x-protobuf", bytes.NewReader(body))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// kept are the traces that have such a span in the output.
func (s *sampler) kept(name string) map[pcommon.TraceID]bool {
	ids := map[pcommon.TraceID]bool{}
	for _, span := range named(s.output.spans, name) {
		ids[span.traceID] = true
	}
	return ids
}

func traceIDOf(random *rand.Rand) (id pcommon.TraceID) {
	for i := range id {
		id[i] = byte(random.Uint32())
	}
	return id
}

func addSpan(to ptrace.Traces, id pcommon.TraceID, name string) ptrace.Span {
	if to.ResourceSpans().Len() == 0 {
		to.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	}
	span := to.ResourceSpans().At(0).ScopeSpans().At(0).Spans().AppendEmpty()
	span.SetTraceID(id)
	span.SetSpanID(pcommon.SpanID(id[:8]))
	span.SetName(name)
	now := time.Now()
	span.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Millisecond)))
	span.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
	return span
}

// TestTailSampling: traces with an error, with a slow request and with an action that matters for security are kept
// whole, and a share of the others, also what comes after the decision.
func TestTailSampling(t *testing.T) {
	requireBinary(t)
	t.Setenv("TAPIO_OTLP_ENDPOINT", "127.0.0.1:9") // is not used
	t.Setenv("TAPIO_STATE", t.TempDir())
	gateway := startReceiving(t, readFile(t, tailSampling), readFile(t, oneGateway), noPorts,
		"processors::tail_sampling::decision_wait: 1s",
		"service::pipelines::traces::exporters: [file]")
	random := rand.New(rand.NewPCG(3, 4))
	failed, slow, suspicious := traceIDOf(random), traceIDOf(random), traceIDOf(random)
	spans := ptrace.NewTraces()
	addSpan(spans, failed, "of a failure").Status().SetCode(ptrace.StatusCodeError)
	addSpan(spans, failed, "beside a failure")
	request := addSpan(spans, slow, "of a slow request")
	request.Attributes().PutStr("http.request.method", "GET")
	lengthen(request)
	addSpan(spans, slow, "beside a slow request")
	addSpan(spans, suspicious, "security.ptrace") // and it was allowed
	addSpan(spans, suspicious, "beside an action")
	const count = 2000
	for range count {
		lengthen(addSpan(spans, traceIDOf(random), "of a program")) // that is no request
		id := traceIDOf(random)
		addSpan(spans, id, "first half")
		addSpan(spans, id, "second half")
	}
	gateway.post(t, spans)
	gateway.await("what must be kept", func(o *output) bool {
		for _, name := range []string{"of a failure", "beside a failure", "of a slow request", "beside a slow request", "security.ptrace", "beside an action"} {
			if len(named(o.spans, name)) != 1 {
				return false
			}
		}
		return true
	})
	// a decision takes all that was there, so what is not in the file now never will be
	late := ptrace.NewTraces()
	addSpan(late, failed, "late")
	gateway.post(t, late)
	gateway.await("a late span", func(o *output) bool { return len(named(o.spans, "late")) == 1 })
	first, second := gateway.kept("first half"), gateway.kept("second half")
	assert.Equal(t, first, second)
	assert.InDelta(t, count*tailShare, len(first), count*tailShare/3)
	assert.InDelta(t, count*tailShare, len(gateway.kept("of a program")), count*tailShare/3)
}

// TestGatewayWaitsForAgents: whoever decides about a trace has what its nodes hold back, as they do by default.
func TestGatewayWaitsForAgents(t *testing.T) {
	held := tapioebpfreceiver.NewFactory().CreateDefaultConfig().(*tapioebpfreceiver.Config).Correlation.MaxWait
	for _, file := range []string{tailSampling, joinConfig, oneGateway} {
		unset := regexp.MustCompile(`(?m)^ +(?:decision_wait|max_wait): \$\{env:TAPIO_MAX_WAIT:-(\w+)\}$`).FindStringSubmatch(readFile(t, file))
		require.NotNil(t, unset, file)
		wait, err := time.ParseDuration(unset[1])
		require.NoError(t, err, file)
		assert.Greater(t, wait, held, file)
	}
}

func lengthen(span ptrace.Span) {
	span.SetStartTimestamp(span.EndTimestamp() - pcommon.Timestamp(2*time.Second))
}
