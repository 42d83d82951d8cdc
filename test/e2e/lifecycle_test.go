// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	reloads = 6
	// maxKept is what a reload may leave in the heap. One zap logger that somebody keeps has 460 KiB.
	maxKept = 128 << 10
	// terminations are how often the start is broken off, at any moment of it.
	terminations = 20
)

// TestReload: a SIGHUP has the collector end all components and make them anew. No file, program, map, link or memory of
// those before stays, and what happens afterwards is seen. (Without the file exporter, which keeps its logger each time.)
func TestReload(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, withNop...)
	c.awaitStarts(1)
	c.seesOneProgram(scope) // by then, signals are handled: the collector begins to do so after it says to be ready
	before, objects := c.settledFiles(), c.kernelObjects()
	var heap float64
	for n := range reloads {
		require.NoError(t, c.command.Process.Signal(syscall.SIGHUP))
		c.awaitStarts(n + 2)
		if n == 0 {
			heap = c.heap() // with what the first reload makes once
		}
	}
	assert.Equal(t, before, c.settledFiles())
	kept := (c.heap() - heap) / (reloads - 1)
	t.Logf("the heap has grown by %.0f bytes with each of %d reloads", kept, reloads-1)
	assert.Less(t, kept, float64(maxKept))
	assert.Zero(t, countExisting(t, objects), "of %d objects before the first reload", len(objects))

	c.seesOneProgram(scope)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	c.terminate()
}

// seesOneProgram, the first since its start.
func (c *collector) seesOneProgram(scope cgroup) {
	c.t.Helper()
	runTrue(c.t, scope, 1)
	require.Eventually(c.t, func() bool { return c.stats().EventCounts["process"] == 3 }, patience, pollInterval, "fork, exec, exit")
}

// awaitStarts until all components have been started so many times.
func (c *collector) awaitStarts(n int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		return c.hasExited() || strings.Count(c.stderr.String(), "Everything is ready") == n
	}, patience, pollInterval, "start %d", n)
	require.False(c.t, c.hasExited(), "the collector ended with %s", c.command.ProcessState)
}

var numbersInBrackets = regexp.MustCompile(`\[\d+\]`)

// settledFiles are those that are open for longer than a moment.
func (c *collector) settledFiles() (files map[string]int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		before := files
		files = c.openFiles()
		return maps.Equal(before, files)
	}, patience, pollInterval)
	return files
}

// openFiles are how many of each kind are open, but for the connections of those who ask.
func (c *collector) openFiles() map[string]int {
	c.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.command.Process.Pid))
	require.NoError(c.t, err)
	kinds := map[string]int{}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && !strings.HasPrefix(target, "socket:") { // an error: closed meanwhile
			kinds[numbersInBrackets.ReplaceAllString(target, "")]++
		}
	}
	require.Greater(c.t, kinds["anon_inode:bpf-prog"], 10)
	return kinds
}

// heap is what is in use, in bytes: the least of some times, since garbage comes and goes.
func (c *collector) heap() float64 {
	c.t.Helper()
	least := 0.0
	for range 5 {
		_, body, err := get(c.telemetryURL)
		require.NoError(c.t, err)
		if used := metricOf(c.t, body, "otelcol_process_runtime_heap_alloc_bytes"); least == 0 || used < least {
			least = used
		}
	}
	return least
}

func metricOf(t *testing.T, body, name string) float64 {
	t.Helper()
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			require.NoError(t, err)
			return value
		}
	}
	require.Fail(t, name+" is not among the collector's own metrics")
	return 0
}

// TestTerminateAtAnyMomentOfTheStart: until it has started, a collector has no handler for SIGTERM, which ends it as any
// other program; then it ends by itself. It takes its programs, links and maps along in both cases.
func TestTerminateAtAnyMomentOfTheStart(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	began := time.Now()
	c := startCollector(t, scope, withNop...)
	took := time.Since(began)
	c.end()
	var killed, ended, held int
	for range terminations {
		after := rand.N(took * 3 / 2)
		c := launch(t, binary(t), nil, scope.path, withNop...)
		time.Sleep(after)
		objects := c.kernelObjectsSoFar()
		held += min(len(objects), 1)
		require.NoError(t, c.command.Process.Signal(syscall.SIGTERM))
		if after%2 == 0 { // the second one may find it gone
			_ = c.command.Process.Signal(syscall.SIGTERM)
		}
		select {
		case <-c.exited:
		case <-time.After(patience):
			require.Fail(t, "the collector does not end", "SIGTERM came after %s", after)
		}
		status := c.command.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case status.Signaled():
			killed++
			require.Equal(t, syscall.SIGTERM, status.Signal(), "after %s", after)
		default:
			ended++
			require.Zero(t, status.ExitStatus(), "after %s:\n%s", after, c.stderr)
		}
		require.NotContains(t, c.stderr.String(), "goroutine ", "a panic, after %s", after)
		require.Eventually(t, func() bool { return countExisting(t, objects) == 0 }, patience, pollInterval,
			"some of %d objects are left, after %s", len(objects), after)
	}
	t.Logf("of a start that takes %s: %d were ended by the signal, %d by themselves; %d had objects in the kernel", took, killed, ended, held)
}
