// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

// Files of the gateway's second tier.
const (
	gatewayFolder = "../../deploy/gateway/"
	samplerConfig = gatewayFolder + "config/sampler.yaml"
	namesConfig   = gatewayFolder + "config/names.yaml"
	gatewayRole   = gatewayFolder + "base/role.yaml"
	samplerPod    = gatewayFolder + "base/sampler.yaml"
)

// TestGateway: with no more rights than it says it needs, the gateway names pods that an agent has sent with
// their UID alone, and peers on all nodes. It watches the cluster's pods twice, however many pipelines ask for names.
func TestGateway(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	plane := cluster.StartControlPlane(t)
	plane.Bind(t, cluster.Agent, readFile(t, gatewayRole))
	front := makePod(t, plane, "front", "node-1", "10.1.0.1")
	makePod(t, plane, "back", "node-2", "10.1.0.2")
	watched := podWatches(t, plane)
	gateway, port := startGateway(t, plane)

	send := spansOf(front)
	require.Eventually(t, func() bool {
		sendSpans(t, port, send)
		back := gateway.spans(t)["to back"]
		return back.resource["k8s.pod.name"] != nil && back.attributes["tapio.peer.k8s.pod.name"] != nil
	}, patience, time.Second, "it does not know the pods")
	require.Eventually(t, func() bool { return podWatches(t, plane) >= watched+2 }, patience, pollInterval)
	assert.Equal(t, watched+2, podWatches(t, plane), "for whose it is, and for peers")
	spans := gateway.spans(t)
	require.Len(t, spans, 6)
	for name, span := range spans {
		if strings.HasPrefix(name, "of an SDK") {
			assert.Equal(t, map[string]any{"service.name": "sdk", "k8s.pod.ip": "10.1.0.1"}, span.resource, name)
			continue
		}
		if name == "of a host" {
			assert.Equal(t, map[string]any{"service.name": "sshd"}, span.resource)
			continue
		}
		assert.Equal(t, map[string]any{
			"service.name": "front", "k8s.pod.uid": front, "k8s.pod.name": "front", "k8s.namespace.name": "default", "k8s.node.name": "node-1",
		}, span.resource, name)
	}
	assert.Equal(t, map[string]any{
		"network.peer.address": "10.1.0.2", "tapio.peer.k8s.pod.name": "back", "tapio.peer.k8s.namespace.name": "default",
	}, spans["to back"].attributes)
	assert.Equal(t, map[string]any{"network.peer.address": "192.0.2.1"}, spans["to the world"].attributes)
	assert.Equal(t, map[string]any{"network.peer.address": "192.0.2.1"}, spans["of an SDK"].attributes)
	assert.Equal(t, spans["to back"].attributes, spans["of an SDK to back"].attributes)
	assert.Equal(t, map[string]any{"network.peer.address": "10.1.0.2", "tapio.peer.k8s.service.name": "cart"}, spans["to a service"].attributes, "an agent knew")
	assert.Equal(t, map[string]any{
		"network.peer.address": "10.1.0.1", "tapio.peer.k8s.pod.name": "front", "tapio.peer.k8s.namespace.name": "default",
	}, spans["of a host"].attributes)
}

// podWatches that the API server serves.
func podWatches(t *testing.T, plane *cluster.ControlPlane) (sum int) {
	t.Helper()
	series := regexp.MustCompile(`(?m)^apiserver_longrunning_requests\{.*resource="pods".*verb="WATCH".*\} (\d+)$`)
	for _, found := range series.FindAllSubmatch(plane.Do(t, http.MethodGet, "/metrics", ""), -1) {
		watches, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		sum += watches
	}
	return sum
}

func makePod(t *testing.T, plane *cluster.ControlPlane, name, node, address string) (uid string) {
	t.Helper()
	uid, err := plane.CreatePod(name, node)
	require.NoError(t, err)
	require.NoError(t, plane.Try(http.MethodPatch, podsPath+"/"+name+"/status",
		`{"status": {"phase": "Running", "podIP": "`+address+`", "podIPs": [{"ip": "`+address+`"}]}}`))
	return uid
}

// spansOf a pod that its agent knows by UID, and of a host.
func spansOf(uid string) ptrace.Traces {
	traces := ptrace.NewTraces()
	pod := traces.ResourceSpans().AppendEmpty()
	pod.Resource().Attributes().PutStr("service.name", "front")
	pod.Resource().Attributes().PutStr("k8s.pod.uid", uid)
	spans := pod.ScopeSpans().AppendEmpty().Spans()
	addSpan(spans, "to back", "10.1.0.2")
	addSpan(spans, "to the world", "192.0.2.1")
	addSpan(spans, "to a service", "10.1.0.2").PutStr("tapio.peer.k8s.service.name", "cart")
	sdk := traces.ResourceSpans().AppendEmpty() // of a pod that knows its address
	sdk.Resource().Attributes().PutStr("service.name", "sdk")
	sdk.Resource().Attributes().PutStr("k8s.pod.ip", "10.1.0.1")
	sdkSpans := sdk.ScopeSpans().AppendEmpty().Spans()
	addSpan(sdkSpans, "of an SDK", "192.0.2.1")
	addSpan(sdkSpans, "of an SDK to back", "10.1.0.2")
	host := traces.ResourceSpans().AppendEmpty()
	host.Resource().Attributes().PutStr("service.name", "sshd")
	addSpan(host.ScopeSpans().AppendEmpty().Spans(), "of a host", "10.1.0.1")
	return traces
}

func addSpan(spans ptrace.SpanSlice, name, peer string) pcommon.Map {
	span := spans.AppendEmpty()
	span.SetName(name)
	span.SetTraceID(pcommon.TraceID{1})
	span.SetSpanID(pcommon.SpanID{byte(spans.Len())})
	span.Attributes().PutStr("network.peer.address", peer)
	return span.Attributes()
}

func sendSpans(t *testing.T, port int, traces ptrace.Traces) {
	connection, err := grpc.NewClient("127.0.0.1:"+strconv.Itoa(port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = ptraceotlp.NewGRPCClient(connection).Export(ctx, ptraceotlp.NewExportRequestFromTraces(traces), grpc.WaitForReady(true))
	require.NoError(t, err)
}

// startGateway with a file in the place of a backend.
func startGateway(t *testing.T, plane *cluster.ControlPlane) (gateway *agent, port int) {
	t.Helper()
	port = freePort(t)
	gates := regexp.MustCompile(`--feature-gates=\S+`).FindString(readFile(t, samplerPod))
	require.NotEmpty(t, gates)
	gateway = startWith(t, readFile(t, samplerConfig),
		[]string{"KUBECONFIG=" + plane.Kubeconfig(t, cluster.Agent), "TAPIO_OTLP_ENDPOINT=127.0.0.1:1", "TAPIO_STATE=" + t.TempDir()},
		gates, readFile(t, namesConfig),
		"processors::tail_sampling: {decision_wait: 100ms, policies: [{name: all, type: always_sample}]}",
		"extensions::health_check::endpoint: 127.0.0.1:0", "service::telemetry::metrics: {level: none, readers: []}",
		"processors::k8s_attributes::auth_type: kubeConfig", "processors::k8s_attributes/peer::auth_type: kubeConfig",
		"receivers::otlp::protocols::grpc::endpoint: 127.0.0.1:"+strconv.Itoa(port),
		"exporters::file: {path: '${env:TAPIO_DATA}/data.jsonl', flush_interval: 100ms}",
		"service::pipelines::traces::exporters: [file]",
	)
	return gateway, port
}

type sentSpan struct{ resource, attributes map[string]any }

// spans that the gateway has handed on last, by name.
func (a *agent) spans(t *testing.T) map[string]sentSpan {
	t.Helper()
	output, err := os.ReadFile(a.output)
	if err != nil {
		return nil // it is not there yet
	}
	found := map[string]sentSpan{}
	for line := range bytes.Lines(output) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		require.NoError(t, err)
		for _, of := range traces.ResourceSpans().All() {
			for _, scope := range of.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					found[span.Name()] = sentSpan{of.Resource().Attributes().AsRaw(), span.Attributes().AsRaw()}
				}
			}
		}
	}
	return found
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.FromSlash(name))
	require.NoError(t, err)
	return string(content)
}
