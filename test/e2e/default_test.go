// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// defaultConfig is what "make run" runs.
const defaultConfig = "../../otelcol-config.yaml"

// rest is how long the collector has nothing to do before it is weighed.
const rest = 10 * time.Second

// TestDefaultConfig runs it as it is, but for the ports: something else may listen there.
func TestDefaultConfig(t *testing.T) {
	requireBPF(t)
	prometheus := strconv.Itoa(porttest.Free(t))
	scope := newCgroup(t)
	forgetBinary(t)
	c := startDefault(t, scope, "exporters::prometheus::endpoint: 127.0.0.1:"+prometheus, "receivers::tapioebpf::metrics::interval: 1s")
	assert.Never(t, c.hasExited, rest, time.Second)
	memory, own := c.residentMemory(), c.statusBytes("RssAnon")
	t.Logf("at rest with %.1f MiB resident, %.1f of them its own", mebibytes(memory), mebibytes(own))
	assert.Less(t, memory, int64(maxIdleMemory))
	assert.Less(t, own, int64(maxOwnIdleMemory))

	require.NoError(t, (&execution{programs: []program{{executable: "/bin/true", args: []string{"true"}}}}).run(scope))
	require.Eventually(t, func() bool { return c.output.read() == nil }, patience, pollInterval, "the file")
	c.await("the program's span", func(o *output) bool { return len(named(o.spans, "process.exec")) == 1 })
	require.Eventually(t, func() bool {
		code, body, err := get("http://127.0.0.1:" + prometheus + "/metrics")
		return err == nil && code == http.StatusOK && strings.Contains(body, "tapio_process_executions_total")
	}, patience, pollInterval, "the program in the Prometheus endpoint")
	code, body, err := get(c.telemetryURL)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, "otelcol_receiver_tapioebpf_events")
	c.stop()
}

// TestDefaultConfigWithOTLP takes the comment signs away, as the README says.
func TestDefaultConfigWithOTLP(t *testing.T) {
	if err := checkBinary(t); err != nil {
		if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
			require.NoError(t, err)
		}
		t.Skip(err)
	}
	content, err := os.ReadFile(defaultConfig)
	require.NoError(t, err)
	var lines []string
	inExporter := false
	for line := range strings.Lines(string(content)) {
		bare := strings.TrimSpace(line)
		inExporter = strings.HasPrefix(bare, "# otlp_grpc:") || inExporter && strings.HasPrefix(bare, "#   ")
		if inExporter || bare == "# - otlp_grpc" {
			line = strings.Replace(line, "# ", "", 1)
		}
		lines = append(lines, line)
	}
	changed := strings.Join(lines, "")
	require.Equal(t, 3, strings.Count(changed, "\n        - otlp_grpc\n"))
	require.Contains(t, changed, "\n  otlp_grpc:\n    endpoint: ${env:TAPIO_OTLP_ENDPOINT}\n")
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	command := exec.Command(binary(t), "validate", "--config", file)
	command.Env = append(os.Environ(), "TAPIO_OTLP_ENDPOINT=collector.example:4317")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestDemo is what "make demo" runs, as somebody who may do nothing.
func TestDemo(t *testing.T) {
	if err := checkBinary(t); err != nil {
		if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
			require.NoError(t, err)
		}
		t.Skip(err)
	}
	var nobody *syscall.Credential
	if os.Geteuid() == 0 {
		nobody = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	c := launchDefaultAs(t, publicBinary(t), nobody, cgroup{}, "exporters::prometheus::endpoint: 127.0.0.1:"+strconv.Itoa(porttest.Free(t)),
		"receivers::tapioebpf::source: simulator", "receivers::tapioebpf::simulator::rate: 300")
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	require.Eventually(t, func() bool { return c.output.read() == nil }, patience, pollInterval, "the file")
	c.await("some of each", func(o *output) bool {
		return len(named(o.spans, "process.exec")) > 0 && len(named(o.spans, "dns.query")) > 0 && len(named(o.spans, "GET")) > 0 &&
			len(o.closes()) > 0 && len(named(o.logs, "tapio.process.exec")) > 0 && hasMetrics(o, demoMetrics...)
	})
	assert.Equal(t, "simulator", c.stats().Source)
	c.stop()
	for _, i := range slices.Concat(c.output.spans, c.output.logs) {
		require.Equal(t, "simulator", i.resource["tapio.source"], i.name)
	}
	for _, metrics := range c.output.metrics {
		for _, of := range metrics.ResourceMetrics().All() {
			source, _ := of.Resource().Attributes().Get("tapio.source")
			require.Equal(t, "simulator", source.Str())
		}
	}
}

// demoMetrics are one of each family.
var demoMetrics = []string{"tapio.process.executions", "tapio.network.io", "dns.lookup.duration", "http.server.request.duration", "http.client.request.duration"}

func hasMetrics(o *output, names ...string) bool {
	found := map[string]bool{}
	for _, metrics := range o.metrics {
		for _, of := range metrics.ResourceMetrics().All() {
			for _, scope := range of.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					found[metric.Name()] = true
				}
			}
		}
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !found[name] })
}

// startDefault starts the default configuration, and returns when it is ready.
func startDefault(t *testing.T, scope cgroup, overrides ...string) *collector {
	t.Helper()
	c := launchDefault(t, scope, overrides...)
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	return c
}

// launchDefault only starts it, on ports of its own.
func launchDefault(t *testing.T, scope cgroup, overrides ...string) *collector {
	t.Helper()
	return launchDefaultAs(t, binary(t), nil, scope, overrides...)
}

func launchDefaultAs(t *testing.T, path string, as *syscall.Credential, scope cgroup, overrides ...string) *collector {
	t.Helper()
	content, err := os.ReadFile(defaultConfig)
	require.NoError(t, err)
	stats, telemetry := porttest.Free(t), porttest.Free(t)
	c := launchConfig(t, path, as, scope.path, string(content), stats, telemetry, append([]string{
		"extensions::tapio::endpoint: 127.0.0.1:" + strconv.Itoa(stats),
		"service::telemetry: {logs: {encoding: json}, metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: " + strconv.Itoa(telemetry) + "}}}}]}}",
	}, overrides...)...)
	c.output.path = filepath.Join(filepath.Dir(c.output.path), "tapio-data.jsonl")
	return c
}
