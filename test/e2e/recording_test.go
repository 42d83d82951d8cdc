// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// TestAReplayTellsTheSame has some of everything recorded, and compares what is said of it then and
// when it is played. TAPIO_KEEP_RECORDING names a file to record to, which stays.
func TestAReplayTellsTheSame(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	host := fmt.Sprintf("127.77.%d.%d", rand.N(250), rand.N(250)+1)
	startNameServer(t, host, 53)
	nginx := scope.startNginx(t, noUpstream)
	file := filepath.Join(t.TempDir(), "tapio.recording")
	if keep := os.Getenv("TAPIO_KEEP_RECORDING"); keep != "" {
		file = keep
	}
	secret, sensitive := secretFile(t)
	live := startCollector(t, scope, "receivers::tapioebpf::recording::file: "+file, sensitive)
	getent(t, scope, host, "web.found.test")
	getent(t, scope, host, "missing.test")
	scope.curl(t, nginx.url("/small.txt"), nginx.url("/none"))
	require.NoError(t, runScoped(scope, exec.Command("/bin/cat", secret)))
	live.await("two lookups, two requests and an open", func(o *output) bool {
		return len(named(o.spans, "dns.lookup")) == 2 && o.events()["http"] >= 4 && len(named(o.logs, "tapio.security.file.sensitive_access")) == 1
	})
	want := live.stop()
	want.requireNothingLost(t)
	require.Equal(t, []string{"dns", "http", "network", "process", "security"}, slices.Sorted(maps.Keys(want)))

	played := startCollector(t, scope, "receivers::tapioebpf::source: replay", fmt.Sprintf("receivers::tapioebpf::replay: {file: %s, speed: 0}", file), sensitive)
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, played.stats().Ledger) }, patience, pollInterval, "the ledger")
	assert.Equal(t, "replay", played.stats().Source)
	played.stop()
	assert.Equal(t, said(t, &live.output, live.output.spans), said(t, &played.output, played.output.spans))
	assert.Equal(t, said(t, &live.output, live.output.logs), said(t, &played.output, played.output.logs))
	for _, name := range []string{"http.server.request.duration", "dns.lookup.duration", "tapio.dns.wasted_queries", "tapio.process.executions", "tapio.tcp.connections"} {
		assert.Equal(t, total(live.output.points(name)), total(played.output.points(name)), name)
		assert.Positive(t, total(played.output.points(name)), name)
	}
}

// said is all of some items but their ids and where it is from. Of a parent there is its name.
func said(t *testing.T, of *output, items []item) (lines []string) {
	t.Helper()
	names := map[pcommon.SpanID]string{}
	for _, span := range of.spans {
		names[span.spanID] = span.name
	}
	for _, i := range items {
		resource := maps.Clone(i.resource)
		assert.Contains(t, []any{"ebpf", "replay"}, resource["tapio.source"])
		delete(resource, "tapio.source")
		if recorded, played := resource["tapio.replay.source"]; played {
			assert.Equal(t, "ebpf", recorded)
		}
		delete(resource, "tapio.replay.source")
		line, err := json.Marshal([]any{i.name, i.kind, i.time, i.end, i.severity, i.status, names[i.parentID], names[i.spanID], i.attributes, resource})
		require.NoError(t, err)
		lines = append(lines, string(line))
	}
	slices.Sort(lines)
	return lines
}

// TestARecordingThatIsNone is refused at the start.
func TestARecordingThatIsNone(t *testing.T) {
	requireBPF(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("all is well\n"), 0o600))
	c := launch(t, binary(t), nil, "", "receivers::tapioebpf::source: replay", "receivers::tapioebpf::replay::file: "+file)
	require.Eventually(t, c.hasExited, patience, pollInterval)
	assert.False(t, c.command.ProcessState.Success())
	assert.Contains(t, c.stderr.String(), "recording "+file+": not a recording of tapioebpf: it does not begin with TAPIOREC")
}

// TestARecordingThatIsCutOffEndsTheCollector while it is played: reading fails, of which a collector with all signals is told
// by each.
func TestARecordingThatIsCutOffEndsTheCollector(t *testing.T) {
	requireBPF(t)
	const readAtOnce = 1 << 20 // bytes; what is cut off must not have been read yet
	file := filepath.Join(t.TempDir(), "recording")
	recorded := launch(t, binary(t), nil, "", "receivers::tapioebpf::source: simulator", "receivers::tapioebpf::simulator::rate: 10000", "receivers::tapioebpf::recording::file: "+file)
	require.Eventually(t, func() bool { return sizeOf(file) > 4*readAtOnce }, patience, pollInterval)
	recorded.terminate()
	c := launch(t, binary(t), nil, "", "receivers::tapioebpf::source: replay", fmt.Sprintf("receivers::tapioebpf::replay: {file: %s, speed: 0.5}", file))
	require.Eventually(t, c.isReady, patience, pollInterval)
	require.NoError(t, os.Truncate(file, 2*readAtOnce))
	require.Eventually(t, c.hasExited, patience, pollInterval, "it goes on, or hangs")
	assert.False(t, c.command.ProcessState.Success())
	assert.Contains(t, c.stderr.String(), "read events: recording "+file)
}

func sizeOf(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
