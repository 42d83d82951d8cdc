// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

//go:embed testdata/config.yaml
var config string

// collector is the collector under test, as a process.
type collector struct {
	t       *testing.T
	command *exec.Cmd
	stderr  *syncBuffer
	exited  chan struct{}

	statsURL, telemetryURL string
	output                 output
}

// row of the ledger, as /stats and the log have it.
type row struct {
	Seen, Exported, Aggregated, Filtered uint64
	InFlight                             uint64 `json:"in_flight"`
	Lost                                 map[string]uint64
}

type ledger map[string]row

type stats struct {
	Source          string
	StartTime       float64           `json:"start_time"`
	UptimeSeconds   int64             `json:"uptime_seconds"`
	EventCounts     map[string]uint64 `json:"event_counts"`
	TotalEvents     uint64            `json:"total_events"`
	ActiveProcesses int               `json:"active_processes"`
	Ledger          ledger
	Capabilities    []struct {
		Family, Hook, State, Reason string
		MissedRuns                  uint64 `json:"missed_runs"`
	}
	Etcd *struct {
		Revision int64
		Error    string
	}
}

// startCollector starts it with the cgroup in scope, and returns when it is ready. What the config
// says otherwise than testdata/config.yaml is given in the form "receivers::tapioebpf::key: value".
func startCollector(t *testing.T, scope cgroup, overrides ...string) *collector {
	t.Helper()
	c := launch(t, binary(t), nil, scope.path, overrides...)
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	return c
}

// launch only starts it.
func launch(t *testing.T, path string, as *syscall.Credential, scope string, overrides ...string) *collector {
	t.Helper()
	return launchConfig(t, path, as, scope, config, porttest.Free(t), porttest.Free(t), overrides...)
}

// launchConfig starts it with another configuration.
func launchConfig(t *testing.T, path string, as *syscall.Credential, scope, config string, statsPort, telemetryPort int, overrides ...string) *collector {
	t.Helper()
	data := publicDir(t)
	require.NoError(t, os.Chmod(data, 0o777))
	configFile := filepath.Join(data, "config.yaml")
	require.NoError(t, os.WriteFile(configFile, []byte(config), 0o644))
	c := &collector{
		t:            t,
		command:      exec.Command(path, "--config", configFile),
		stderr:       &syncBuffer{},
		exited:       make(chan struct{}),
		statsURL:     fmt.Sprintf("http://127.0.0.1:%d", statsPort),
		telemetryURL: fmt.Sprintf("http://127.0.0.1:%d/metrics", telemetryPort),
		output:       output{path: filepath.Join(data, "data.jsonl")},
	}
	for _, override := range overrides {
		c.command.Args = append(c.command.Args, "--config", "yaml:"+override)
	}
	c.command.Env = append(os.Environ(), "TAPIO_SCOPE="+scope, "TAPIO_DATA="+data,
		"TAPIO_STATS_PORT="+strconv.Itoa(statsPort), "TAPIO_TELEMETRY_PORT="+strconv.Itoa(telemetryPort))
	c.command.Dir = data
	c.command.Stderr = c.stderr
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: as}
	require.NoError(t, c.command.Start())
	go func() {
		defer close(c.exited)
		_ = c.command.Wait()
	}()
	t.Cleanup(c.end)
	return c
}

// end is for a collector that a test did not stop, most likely since it failed.
func (c *collector) end() {
	_ = c.command.Process.Kill()
	<-c.exited
	if c.t.Failed() {
		c.t.Logf("the collector's log:\n%s", c.stderr)
	}
}

func (c *collector) hasExited() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

func (c *collector) isReady() bool {
	code, _, err := get(c.statsURL + "/readyz")
	return err == nil && code == http.StatusOK
}

func (c *collector) stats() stats {
	c.t.Helper()
	code, body, err := get(c.statsURL + "/stats")
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, code, body)
	var s stats
	require.NoError(c.t, json.Unmarshal([]byte(body), &s))
	return s
}

// await waits until what the collector wrote meets the condition.
func (c *collector) await(what string, met func(*output) bool) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		require.NoError(c.t, c.output.read())
		if met(&c.output) {
			return
		}
		if time.Now().After(deadline) {
			require.Fail(c.t, "not in the output: "+what, "events there: %v\nstats: %+v", c.output.events(), c.stats())
		}
		time.Sleep(pollInterval)
	}
}

// quiet waits until nothing is on its way any more, and returns the ledger, which is closed.
func (c *collector) quiet() ledger {
	c.t.Helper()
	var rows ledger
	require.Eventually(c.t, func() bool {
		rows = c.stats().Ledger
		for _, r := range rows {
			if r.InFlight > 0 {
				return false
			}
		}
		return true
	}, patience, pollInterval)
	rows.requireClosed(c.t)
	return rows
}

// stop ends the collector as a service manager does. What it says to have exported must be what it
// wrote; the rest of its final ledger is returned for the test to judge.
func (c *collector) stop() ledger {
	c.t.Helper()
	rows := c.terminate()
	require.NoError(c.t, c.output.read())
	return rows
}

// terminate is for one that writes nothing.
func (c *collector) terminate() ledger {
	c.t.Helper()
	require.NoError(c.t, c.command.Process.Signal(syscall.SIGTERM))
	select {
	case <-c.exited:
	case <-time.After(patience):
		require.Fail(c.t, "the collector does not end")
	}
	require.True(c.t, c.command.ProcessState.Success(), "the collector ended with %s", c.command.ProcessState)
	rows := c.finalLedger()
	rows.requireClosed(c.t)
	for family, r := range rows {
		assert.Zero(c.t, r.InFlight, family)
	}
	return rows
}

// stopWithoutLoss also wants every event to be in the file.
func (c *collector) stopWithoutLoss() {
	c.t.Helper()
	rows := c.stop()
	rows.requireNothingLost(c.t)
	assert.Equal(c.t, c.output.events(), rows.exported(), "exported, by the file and by the ledger")
}

func (l ledger) exported() map[string]uint64 {
	counts := map[string]uint64{}
	for family, r := range l {
		if r.Exported > 0 {
			counts[family] = r.Exported
		}
	}
	return counts
}

func (l ledger) requireClosed(t *testing.T) {
	t.Helper()
	for family, r := range l {
		sum := r.Exported + r.Aggregated + r.Filtered + r.InFlight
		for _, n := range r.Lost {
			sum += n
		}
		require.Equal(t, r.Seen, sum, "the ledger of %s is not closed: %+v", family, r)
	}
}

func (l ledger) requireNothingLost(t *testing.T) {
	t.Helper()
	for family, r := range l {
		require.Empty(t, r.Lost, family)
	}
}

// finalLedger is the one that the collector logs at its end.
func (c *collector) finalLedger() ledger {
	c.t.Helper()
	rows := ledger{}
	for line := range strings.Lines(c.stderr.String()) {
		var entry struct {
			Msg, Family string
			Row         row
		}
		require.NoError(c.t, json.Unmarshal([]byte(line), &entry), line)
		if entry.Msg == "Final ledger" {
			rows[entry.Family] = entry.Row
		}
	}
	return rows
}

// residentMemory is in bytes.
func (c *collector) residentMemory() int64 {
	c.t.Helper()
	return c.statusBytes("VmRSS")
}

// statusBytes is what the kernel says of the process's memory, in bytes.
func (c *collector) statusBytes(key string) int64 {
	c.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.command.Process.Pid))
	require.NoError(c.t, err)
	_, rest, found := strings.Cut(string(status), key+":")
	require.True(c.t, found)
	return number(strings.Fields(rest)[0]) << 10
}

func get(url string) (code int, body string, err error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// syncBuffer may be written and read at the same time.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
