// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kernelObject is one of eBPF. The kernel gives an id again only when it has used all others.
type kernelObject struct {
	kind string // as in /proc/PID/fdinfo
	id   uint32
}

// exists says whether anything holds it: a descriptor of any process, a hook, a pin.
func (o kernelObject) exists(t *testing.T) bool {
	t.Helper()
	var object interface{ Close() error }
	var err error
	switch o.kind {
	case "prog_id":
		object, err = ebpf.NewProgramFromID(ebpf.ProgramID(o.id))
	case "map_id":
		object, err = ebpf.NewMapFromID(ebpf.MapID(o.id))
	case "link_id":
		object, err = bpflink.NewFromID(bpflink.ID(o.id))
	}
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	require.NoError(t, err)
	require.NoError(t, object.Close())
	return true
}

// kernelObjects are those that the collector holds, and that these hold.
func (c *collector) kernelObjects() map[kernelObject]bool {
	c.t.Helper()
	found := c.kernelObjectsSoFar()
	require.Greater(c.t, len(found), 50, "programs, links and maps")
	return found
}

// kernelObjectsSoFar are those of a collector that is starting, and may end at any time.
func (c *collector) kernelObjectsSoFar() (found map[kernelObject]bool) {
	c.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", c.command.Process.Pid))
	require.NoError(c.t, err)
	found = map[kernelObject]bool{}
	for _, file := range files {
		info, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // closed meanwhile
		}
		require.NoError(c.t, err)
		for line := range strings.Lines(string(info)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch key {
			case "prog_id", "map_id", "link_id":
				found[kernelObject{key, uint32(number(value))}] = true
			}
		}
	}
	return found
}

// kill ends the collector as the OOM killer does.
func (c *collector) kill() {
	c.t.Helper()
	require.NoError(c.t, c.command.Process.Kill())
	<-c.exited
}

// TestNothingStaysInTheKernel ends the collector in the middle of its work, twice: programs, links and maps go with it,
// and the next one finds nothing in its way.
func TestNothingStaysInTheKernel(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	scope.start(t, "storm").line()
	before := map[kernelObject]bool{}
	for _, by := range []struct {
		name string
		end  func(*collector)
	}{
		{"SIGKILL", (*collector).kill},
		{"SIGTERM", func(c *collector) { c.stop() }},
	} {
		c := startCollector(t, scope)
		runTrue(t, scope, 10)
		require.Eventually(t, func() bool {
			rows := c.stats().Ledger
			return rows["process"].Exported >= 30 && rows["network"].Exported >= 300
		}, patience, pollInterval, "events of processes and of connections")
		objects := c.kernelObjects()
		by.end(c)
		require.Eventually(t, func() bool { return countExisting(t, objects) == 0 }, patience, pollInterval, "%s leaves some of %d objects", by.name, len(objects))
		for object := range objects {
			require.NotContains(t, before, object, "an id that was given again proves nothing")
		}
		t.Logf("%s: %d objects are gone", by.name, len(objects))
		before = objects
	}
}

func countExisting(t *testing.T, objects map[kernelObject]bool) (n int) {
	for object := range objects {
		if object.exists(t) {
			n++
		}
	}
	return n
}

// TestWhatIsObservedIsRemoved: network namespaces go with the connections that are open in them, and then the cgroup in
// scope goes. The collector has nothing more to see, and lives on. A cgroup that is made anew with the same path is
// another one.
func TestWhatIsObservedIsRemoved(t *testing.T) {
	requireBPF(t)
	parent := newCgroup(t)
	path := filepath.Join(parent.dir.Name(), "service")
	scope := remake(t, path)
	c := startCollector(t, scope)
	for round := range 3 {
		connectAndDie(t, c, scope, round)
	}
	remove(t, path)
	before := c.quiet()
	again := remake(t, path)
	runTrue(t, again, 5)
	remove(t, path)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	rows := c.quiet()
	c.stopWithoutLoss()
	assert.Equal(t, before["process"], rows["process"])
	assert.Equal(t, before["network"], rows["network"])
}

// connectAndDie in a network namespace that ends with it.
func connectAndDie(t *testing.T, c *collector, scope cgroup, round int) {
	t.Helper()
	storm := scope.startBy(t, inOwnNetwork(t), "storm")
	storm.line()
	before := c.stats().Ledger["network"].Seen
	require.Eventually(t, func() bool { return c.stats().Ledger["network"].Seen > before+100 }, patience, pollInterval, "round %d", round)
	storm.end()
}

// inOwnNetwork is what starts a workload in a network namespace of its own.
func inOwnNetwork(t *testing.T) []string {
	t.Helper()
	return []string{tool(t, "unshare"), "--net", tool(t, "sh"), "-c", `ip link set lo up && exec "$@"`, "sh"}
}

// remake a cgroup that the test itself removes.
func remake(t *testing.T, path string) cgroup {
	t.Helper()
	require.NoError(t, os.Mkdir(path, 0o755))
	dir, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() {
		dir.Close()
		_ = syscall.Rmdir(path) // of a test that failed
	})
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	return cgroup{dir: dir, path: strings.TrimPrefix(path, mount)}
}

func remove(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool { return syscall.Rmdir(path) == nil }, patience, pollInterval)
}
