// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	maxIdleMemory    = 80 << 20
	maxOwnIdleMemory = 32 << 20 // heap and stacks; the rest is the program's file and the rings
)

// forgetBinary has the page cache read the collector's file anew, as after a start of the machine, before its memory is
// weighed. One that was just linked may be there in pages of 2 MiB, all of which count as resident when one byte is used:
// up to 100 MiB then, of which nothing is the collector's own. What a process runs, is not forgotten.
func forgetBinary(t *testing.T) {
	t.Helper()
	file, err := os.Open(binary(t))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Sync()) // what is not on the disk yet stays
	require.NoError(t, unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// TestReadyAndStats: what the collector says of itself, and what it weighs with nothing to do.
func TestReadyAndStats(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	forgetBinary(t)
	began := time.Now()
	c := startCollector(t, scope)
	memory := c.residentMemory()
	t.Logf("ready after %s with %.1f MiB resident", time.Since(began).Round(time.Millisecond), float64(memory)/(1<<20))
	assert.Less(t, memory, int64(maxIdleMemory))

	requireJSON(t, c.statsURL+"/healthz", `{"status":"ok"}`)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	require.NoError(t, (&execution{programs: []program{{executable: "/bin/true", args: []string{"true"}}}}).run(scope))
	require.Eventually(t, func() bool { return c.stats().EventCounts["process"] == 3 }, patience, pollInterval, "fork, exec, exit")
	s := c.stats()
	assert.Equal(t, "ebpf", s.Source)
	assert.WithinRange(t, time.Unix(0, int64(s.StartTime*1e9)), began, time.Now())
	assert.Equal(t, uint64(3), s.TotalEvents)
	assert.Equal(t, row{Seen: 3, Exported: 3, Lost: map[string]uint64{}}, s.Ledger["process"])
	requireCapabilities(t, s)
	requireOwnMetric(t, c, "process", 3)
	c.stopWithoutLoss()
}

func requireJSON(t *testing.T, url, want string) {
	t.Helper()
	code, body, err := get(url)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, code)
	assert.JSONEq(t, want, body)
}

// requireCapabilities: a hook that this kernel lacks is told with a reason; none may be denied to
// this test.
func requireCapabilities(t *testing.T, s stats) {
	t.Helper()
	families := map[string]int{}
	for _, c := range s.Capabilities {
		families[c.Family]++
		switch c.State {
		case "attached":
			assert.Empty(t, c.Reason, c.Hook)
		case "unsupported":
			assert.NotEmpty(t, c.Reason, c.Hook)
			t.Logf("%s: %s", c.Hook, c.Reason)
		default:
			assert.Fail(t, "a hook is "+c.State, "%s: %s", c.Hook, c.Reason)
		}
	}
	assert.Positive(t, families["process"])
	assert.Positive(t, families["network"])
}

// requireOwnMetric: the collector's own metrics have the ledger, too.
func requireOwnMetric(t *testing.T, c *collector, family string, exported int) {
	t.Helper()
	_, body, err := get(c.telemetryURL)
	require.NoError(t, err)
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "otelcol_receiver_tapioebpf_events") &&
			strings.Contains(line, `family="`+family+`"`) && strings.Contains(line, `fate="exported"`) {
			assert.Equal(t, strconv.Itoa(exported), strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]))
			return
		}
	}
	assert.Fail(t, "otelcol_receiver_tapioebpf_events is not in the collector's own metrics")
}

// TestStartErrors: whoever reads the error knows what to do.
func TestStartErrors(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, test := range map[string]struct {
		overrides []string
		message   []string
	}{
		"unknown cgroup": {
			overrides: []string{`receivers::tapioebpf::scope::cgroups: ["/tapio-e2e-none"]`},
			message:   []string{"scope::cgroups", "/tapio-e2e-none", "no such file"},
		},
		"second cgroup unknown": {
			overrides: []string{`receivers::tapioebpf::scope::cgroups: ["` + scope.path + `", "/a-tapio-e2e-none"]`},
			message:   []string{"scope::cgroups", "/a-tapio-e2e-none"},
		},
		"unknown key": {
			overrides: []string{`receivers::tapioebpf::families::network::report_intervall: 1s`},
			message:   []string{"tapioebpf", "families", "network", "report_intervall"},
		},
		"wrong value": {
			overrides: []string{`receivers::tapioebpf::ring::size: 3MiB`},
			message:   []string{"receivers::tapioebpf", "ring", "size: 3MiB must be a power of two"},
		},
		"no family": {
			overrides: []string{`receivers::tapioebpf::families: {process: {enabled: false}, network: {enabled: false}, dns: {enabled: false}, http: {enabled: false}, security: {enabled: false}}`},
			message:   []string{"receivers::tapioebpf", "families: all are off"},
		},
		"no kubeconfig": { // with metrics that are read a last time when the start has failed
			overrides: []string{
				`receivers::tapioebpf::kubernetes: {auth_type: kubeConfig, kubeconfig: /tapio-e2e-none, node_name: node-1}`,
				`service::telemetry::metrics::readers: [{periodic: {exporter: {console: {}}}}]`,
			},
			message: []string{`failed to start "tapioebpf" receiver: kubernetes: auth_type kubeConfig: read kubeconfig "/tapio-e2e-none"`},
		},
		"port in use": {
			overrides: []string{`extensions::tapio::endpoint: ` + taken.Addr().String()},
			message:   []string{taken.Addr().String(), "address already in use"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			requireFailure(t, launch(t, binary(t), nil, scope.path, test.overrides...), test.message...)
		})
	}
	t.Run("no privileges", func(t *testing.T) {
		nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
		requireFailure(t, launch(t, publicBinary(t), nobody, ""), "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "run it as root")
	})
}

// publicBinary is a copy of the collector that every user may run.
func publicBinary(t *testing.T) string {
	t.Helper()
	from, err := os.Open(binary(t))
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(publicDir(t), "otelcol-tapio"), os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	return to.Name()
}

// requireFailure wants the collector to end by itself, and its last words to have all parts.
func requireFailure(t *testing.T, c *collector, parts ...string) {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(patience):
		require.Fail(t, "the collector runs")
	}
	assert.Positive(t, c.command.ProcessState.ExitCode(), "exit code")
	assert.NotContains(t, c.stderr.String(), "goroutine ", "a panic")
	words := lastWords(c)
	t.Log(words)
	for _, part := range parts {
		assert.Contains(t, words, part)
	}
}

// lastWords are what is on stderr and is no log line.
func lastWords(c *collector) string {
	var words strings.Builder
	for line := range strings.Lines(c.stderr.String()) {
		if !json.Valid([]byte(line)) {
			words.WriteString(line)
		}
	}
	return words.String()
}
