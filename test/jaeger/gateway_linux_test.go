// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// gatewayFile is a configuration of a gateway's part.
func gatewayFile(name string) string { return filepath.Join(root, "deploy", "gateway", "config", name) }

// Addresses of two samplers on loopback. They have the same port, as behind a name.
const samplerA, samplerB = "127.0.0.41", "127.0.0.42"

// samplersName is what a router asks for.
const samplersName = "samplers"

// maxWait of traces is a third of what it is by default, so that tests need not wait for more.
const maxWait = "TAPIO_MAX_WAIT=10s"

// keepAll in the place of the policies, where a test is not about these.
const keepAll = "processors::tail_sampling::policies: [{name: all, type: always_sample}]"

// part of a gateway: a collector with the files that it has anywhere, and addresses of this test.
type part struct {
	*process
	endpoint  string // for OTLP/gRPC
	telemetry string // URL of its own metrics
	seen      string // file with the spans that came, if it is a sampler
}

// startPart of files in deploy/gateway. With hosts, this is its /etc/hosts.
func startPart(t *testing.T, files []string, address, port, hosts string, environment []string, overrides ...string) *part {
	t.Helper()
	telemetry, health := freePort(t), freePort(t)
	args := []string{builtCollector(t)}
	for _, file := range files {
		args = append(args, "--config", gatewayFile(file))
	}
	for _, override := range append(overrides,
		fmt.Sprintf("receivers::otlp::protocols::grpc::endpoint: %s:%s", address, port),
		"extensions::health_check::endpoint: 127.0.0.1:"+health,
		"service::telemetry::metrics::readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "+telemetry+"}}}}]") {
		args = append(args, "--config", "yaml:"+override)
	}
	if hosts != "" {
		args = append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts}, args...)
	}
	command := exec.Command(args[0], args[1:]...)
	command.Env = append(append(os.Environ(), maxWait), environment...)
	p := &part{process: start(t, command, here), endpoint: address + ":" + port, telemetry: "http://127.0.0.1:" + telemetry + "/metrics"}
	require.Eventually(t, func() bool { return answers("http://127.0.0.1:"+health) || p.hasEnded() }, patience, pollInterval, "%s are not ready", files)
	require.False(t, p.hasEnded(), "%s have ended", files)
	return p
}

func answers(url string) bool {
	response, err := http.Get(url)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// startSampler also has a file of all spans that came to it.
func startSampler(t *testing.T, jaeger *backend, address, port string, environment []string, overrides ...string) *part {
	t.Helper()
	seen := filepath.Join(t.TempDir(), "seen.jsonl")
	p := startPart(t, []string{"sampler.yaml"}, address, port, "",
		append([]string{"TAPIO_OTLP_ENDPOINT=" + jaeger.endpoint, "TAPIO_STATE=" + t.TempDir()}, environment...),
		append(overrides,
			"exporters::file/seen: {path: "+seen+", flush_interval: 50ms}",
			"service::pipelines::traces/seen: {receivers: [otlp], exporters: [file/seen]}")...)
	p.seen = seen
	return p
}

// startRouter that finds the samplers in a file of hosts.
func startRouter(t *testing.T, hosts, port string, environment []string, more ...string) *part {
	t.Helper()
	return startPart(t, append([]string{"router.yaml"}, more...), "127.0.0.1", freePort(t), hosts,
		append([]string{"TAPIO_SAMPLERS=" + samplersName}, environment...),
		`exporters::load_balancing/traces::resolver::dns::port: "`+port+`"`,
		`exporters::load_balancing/resources::resolver::dns::port: "`+port+`"`)
}

// writeHosts says where the samplers are, in place: the file is mounted elsewhere.
func writeHosts(t *testing.T, file string, addresses ...string) {
	t.Helper()
	lines := []string{"127.0.0.1 localhost"}
	for _, address := range addresses {
		lines = append(lines, address+" "+samplersName)
	}
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// startJoining is a gateway of a router that joins, and two samplers that keep all.
func startJoining(t *testing.T, jaeger *backend) *part {
	t.Helper()
	hosts, port := filepath.Join(t.TempDir(), "hosts"), freePort(t)
	writeHosts(t, hosts, samplerA, samplerB)
	startSampler(t, jaeger, samplerA, port, nil, keepAll)
	startSampler(t, jaeger, samplerB, port, nil, keepAll)
	return startRouter(t, hosts, port, nil, "join.yaml")
}

// metric is the sum of its series that have the label.
func (p *part) metric(t *testing.T, name, label string) (sum float64) {
	t.Helper()
	response, err := http.Get(p.telemetry)
	require.NoError(t, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name) || !strings.Contains(line, label) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		require.NoError(t, err, line)
		sum += value
	}
	return sum
}

// spansByTrace are the ids of spans.
type spansByTrace map[string]map[string]bool

// readSpans of files with OTLP as JSON. A line that is not finished is left out, and so is a file that is not there yet.
func readSpans(t *testing.T, files ...string) spansByTrace {
	t.Helper()
	found := spansByTrace{}
	eachLine(t, files, func(line []byte) {
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		require.NoError(t, err)
		eachSpan(traces, func(span ptrace.Span) { found.add(span.TraceID().String(), span.SpanID().String()) })
	})
	return found
}

func eachLine(t *testing.T, files []string, visit func(line []byte)) {
	t.Helper()
	for _, file := range files {
		content, err := os.Open(file)
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		for lines := bufio.NewReader(content); ; {
			line, err := lines.ReadBytes('\n')
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			visit(line)
		}
		require.NoError(t, content.Close())
	}
}

func eachSpan(traces ptrace.Traces, visit func(ptrace.Span)) {
	for _, of := range traces.ResourceSpans().All() {
		for _, scope := range of.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				visit(span)
			}
		}
	}
}

func (s spansByTrace) add(trace, span string) {
	if s[trace] == nil {
		s[trace] = map[string]bool{}
	}
	s[trace][span] = true
}

func (s spansByTrace) spans() (n int) {
	for _, spans := range s {
		n += len(spans)
	}
	return n
}

// sendSpans to a gateway, as one batch.
func sendSpans(t *testing.T, endpoint string, traces ptrace.Traces) error {
	t.Helper()
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = ptraceotlp.NewGRPCClient(connection).Export(ctx, ptraceotlp.NewExportRequestFromTraces(traces))
	return err
}

// stored are the ids of the trace's spans in Jaeger; nil: it has no such trace.
func (b *backend) stored(t *testing.T, id string) map[string]bool {
	t.Helper()
	trace, err := b.Trace(t.Context(), id)
	if err != nil {
		require.ErrorContains(t, err, "404 ")
		return nil
	}
	spans := map[string]bool{}
	for _, span := range trace.Spans {
		require.False(t, spans[span.ID], "span %s of trace %s is shown twice", span.ID, id)
		spans[span.ID] = true
	}
	return spans
}
