// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	podUID  = "2c48913c-b29f-11e7-9350-020968147796"
	podUnit = "2c48913c_b29f_11e7_9350_020968147796"
)

// container is one that runc starts.
type container struct {
	t      *testing.T
	bundle string
	id     string // of the test's, for runc
	path   string // of its cgroup, below the one in scope
	script string
	// what its processes' resources must have
	containerID, runtime, podUID string
}

// hexID is an id as runtimes give them out.
func hexID(n int) string { return fmt.Sprintf("%064x", 0xfeed0000+n) }

// kindsOfContainer are cgroups as Kubernetes and the runtimes make them.
func kindsOfContainer() []*container {
	return []*container{
		{path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podUnit + ".slice/cri-containerd-" + hexID(1) + ".scope", containerID: hexID(1), runtime: "containerd", podUID: podUID},
		{path: "/kubepods.slice/kubepods-pod" + podUnit + ".slice/crio-" + hexID(2) + ".scope", containerID: hexID(2), runtime: "cri-o", podUID: podUID},
		{path: "/kubepods/besteffort/pod" + podUID + "/" + hexID(3), containerID: hexID(3), podUID: podUID},
		{path: "/system.slice/docker-" + hexID(4) + ".scope", containerID: hexID(4), runtime: "docker"},
		{path: "/docker/" + hexID(5), containerID: hexID(5), runtime: "docker"},
		{path: "/machine.slice/libpod-" + hexID(6) + ".scope/container", containerID: hexID(6), runtime: "podman"},
	}
}

// runtimeOrSkip is what containers are started by.
func runtimeOrSkip(t *testing.T) {
	t.Helper()
	for _, name := range []string{"runc", "busybox"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
				require.NoError(t, err, "TAPIO_REQUIRE_BPF=1 (apt-get install runc busybox-static)")
			}
			t.Skip(err)
		}
	}
}

// prepare writes the bundle: busybox as the only program, and a cgroup below the one in scope. Its removal
// takes what runc made of that in every hierarchy, v1 and v2.
func (c *container) prepare(t *testing.T, scope cgroup, n int) {
	t.Helper()
	c.t, c.id = t, fmt.Sprintf("tapio-e2e-%d-%d", os.Getpid(), n)
	c.bundle = t.TempDir()
	bin := filepath.Join(c.bundle, "rootfs", "bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	busybox, err := exec.LookPath("busybox")
	require.NoError(t, err)
	program, err := os.ReadFile(busybox)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "busybox"), program, 0o755))
	require.NoError(t, exec.Command("runc", "spec", "--bundle", c.bundle).Run())
	c.configure(func(spec map[string]any) {
		process := spec["process"].(map[string]any)
		process["args"], process["terminal"] = []string{"/bin/busybox", "sh", "-c", c.script}, false
		linux := spec["linux"].(map[string]any)
		linux["cgroupsPath"] = scope.path + c.path
		// nothing here is to be isolated from the tests' network and cgroups
		linux["namespaces"] = []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}
	})
	t.Cleanup(func() { removeBelow(t, scope) })
}

func (c *container) configure(change func(map[string]any)) {
	file := filepath.Join(c.bundle, "config.json")
	content, err := os.ReadFile(file)
	require.NoError(c.t, err)
	var spec map[string]any
	require.NoError(c.t, json.Unmarshal(content, &spec))
	change(spec)
	content, err = json.Marshal(spec)
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(file, content, 0o644))
}

// runc is a command for the container. Without pivot_root, which an initramfs does not know.
func (c *container) runc() *exec.Cmd {
	return exec.Command("runc", "--root", filepath.Join(c.bundle, "state"), "run", "--no-pivot", "--bundle", c.bundle, c.id)
}

// run is a whole life, well under a second.
func (c *container) run() {
	c.t.Helper()
	out, err := c.runc().CombinedOutput()
	require.NoError(c.t, err, "%s", out)
}

// removeBelow removes what is left of cgroups below one, in all hierarchies, and in v1 hierarchies itself.
func removeBelow(t *testing.T, scope cgroup) {
	t.Helper()
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	roots := []string{mount}
	if hierarchies, err := os.ReadDir(filepath.Dir(mount)); err == nil && filepath.Base(mount) == "unified" {
		for _, hierarchy := range hierarchies {
			roots = append(roots, filepath.Join(filepath.Dir(mount), hierarchy.Name()))
		}
	}
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(root+scope.path, func(dir string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && dir != mount+scope.path {
				dirs = append(dirs, dir)
			}
			return nil
		})
		require.NoError(t, err)
		for _, dir := range slices.Backward(dirs) {
			require.Eventually(t, func() bool {
				err := syscall.Rmdir(dir)
				return err == nil || errors.Is(err, fs.ErrNotExist)
			}, patience, pollInterval, "remove %s", dir)
		}
	}
}

// check that the items are the container's, and of nothing else.
func (c *container) check(t *testing.T, items ...item) {
	t.Helper()
	for _, i := range items {
		want := map[string]any{"container.id": c.containerID, "container.runtime.name": c.runtime, "k8s.pod.uid": c.podUID}
		for key, value := range want {
			if value == "" {
				assert.NotContains(t, i.resource, key, "%s in %s", i.name, c.path)
			} else {
				assert.Equal(t, value, i.resource[key], "%s of %s in %s", key, i.name, c.path)
			}
		}
		assert.NotContains(t, i.resource, "tapio.systemd.unit")
		assert.Equal(t, "linux", i.resource["os.type"])
	}
}

// commandContains finds the items of a program by a word of its command line.
func commandContains(items []item, word string) []item {
	return filter(items, func(i item) bool {
		args, _ := i.attributes["process.command_args"].([]any)
		return slices.ContainsFunc(args, func(arg any) bool {
			text, _ := arg.(string)
			return strings.Contains(text, word)
		})
	})
}

// TestContainers starts real containers, all of which are gone within some 100 ms: whatever their
// processes did carries their ids. TAPIO_KEEP_RECORDING names a file to record to, which stays.
func TestContainers(t *testing.T) {
	requireBPF(t)
	runtimeOrSkip(t)
	scope := newCgroup(t)
	containers := kindsOfContainer()
	for n, c := range containers {
		c.script = fmt.Sprintf("echo start-%d; busybox echo program-%d-a | busybox cat; busybox sh -c 'exec busybox echo program-%d-b'", n, n, n)
		c.prepare(t, scope, n)
	}
	var overrides []string
	if keep := os.Getenv("TAPIO_KEEP_RECORDING"); keep != "" {
		overrides = append(overrides, "receivers::tapioebpf::recording::file: "+keep)
	}
	c := startCollector(t, scope, overrides...)
	for _, each := range containers {
		each.run()
	}
	var execs []item
	c.await("all programs", func(o *output) bool {
		execs = named(o.logs, "tapio.process.exec")
		for n := range containers {
			if len(commandContains(execs, fmt.Sprintf("program-%d-", n))) < 4 {
				return false
			}
		}
		return len(named(o.logs, "tapio.process.exit")) >= len(containers)*4
	})
	c.stopWithoutLoss()
	for n, each := range containers {
		programs := commandContains(execs, fmt.Sprintf("program-%d-", n))
		require.Len(t, programs, 4, "init, echo, sh, echo")
		each.check(t, programs...)
		assert.Empty(t, commandContains(execs, fmt.Sprintf("start-%d;", n))[1:], "one start")
		// the end of each process, too, and its span
		for _, program := range programs {
			isIts := func(i item) bool { return i.pid() == program.pid() }
			ends := filter(named(c.output.logs, "tapio.process.exit"), isIts)
			assert.Len(t, ends, 1)
			each.check(t, ends...)
			each.check(t, filter(named(c.output.spans, "process.exec"), isIts)...)
		}
		points := filter(resourcesOfPoints(&c.output, "tapio.process.executions"), func(i item) bool { return i.resource["container.id"] == each.containerID })
		assert.NotEmpty(t, points, "the metrics have it")
		each.check(t, points...)
	}
}

// resourcesOfPoints are a metric's data points as they were last, each as an item.
func resourcesOfPoints(o *output, name string) (items []item) {
	for _, of := range o.metrics[len(o.metrics)-1].ResourceMetrics().All() {
		for _, scope := range of.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() == name {
					items = append(items, item{name: name, resource: of.Resource().Attributes().AsRaw()})
				}
			}
		}
	}
	return items
}

// TestContainerOlderThanTheCollector has one that was there before: its processes are known by then, and
// those that it starts later.
func TestContainerOlderThanTheCollector(t *testing.T) {
	requireBPF(t)
	runtimeOrSkip(t)
	scope := newCgroup(t)
	older := kindsOfContainer()[0]
	older.script = "echo ready; read line; busybox echo program-late; true"
	older.prepare(t, scope, 20)
	command := older.runc()
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	ready := make([]byte, len("ready\n"))
	_, err = io.ReadFull(out, ready)
	require.NoError(t, err)

	c := startCollector(t, scope)
	_, err = io.WriteString(in, "go\n")
	require.NoError(t, err)
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Equal(t, "program-late\n", string(rest))
	require.NoError(t, command.Wait())
	c.await("both ends", func(o *output) bool { return len(named(o.logs, "tapio.process.exit")) >= 2 })
	c.stopWithoutLoss()
	assert.Len(t, commandContains(named(c.output.logs, "tapio.process.exec"), "program-late"), 1)
	older.check(t, named(c.output.logs, "tapio.process.exec")...)
	older.check(t, named(c.output.logs, "tapio.process.exit")...)
	for _, exit := range named(c.output.logs, "tapio.process.exit") {
		assert.Equal(t, "busybox", exit.resource["process.executable.name"])
	}
}

// TestUnits has processes in the cgroups of services.
func TestUnits(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	t.Cleanup(func() { removeBelow(t, scope) })
	older := filepath.Join(scope.dir.Name(), "system.slice", "older.service")
	require.NoError(t, os.MkdirAll(older, 0o755))
	c := startCollector(t, scope)
	newer := filepath.Join(scope.dir.Name(), "system.slice", "newer.service", "worker")
	require.NoError(t, os.MkdirAll(newer, 0o755))
	runIn(t, older, "true")
	runIn(t, newer, "true", "newer")
	runIn(t, scope.dir.Name(), "true", "nowhere")
	c.await("three ends", func(o *output) bool { return len(named(o.logs, "tapio.process.exit")) >= 3 })
	c.stopWithoutLoss()
	execs := named(c.output.logs, "tapio.process.exec")
	require.Len(t, execs, 3)
	units := map[any]int{}
	for _, i := range execs {
		units[i.resource["tapio.systemd.unit"]]++
		assert.Equal(t, i.resource["process.executable.name"], i.resource["service.name"], "a unit says how a program is run, not what it is")
		assert.NotContains(t, i.resource, "container.id")
	}
	assert.Equal(t, map[any]int{"older.service": 1, "newer.service": 1, nil: 1}, units)
}

func runIn(t *testing.T, cgroup, name string, args ...string) {
	t.Helper()
	dir, err := os.Open(cgroup)
	require.NoError(t, err)
	defer dir.Close()
	command := exec.Command(name, args...)
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	require.NoError(t, command.Run())
}

// TestContainerOfCgroupV1 has a process join a container's cgroup in a v1 hierarchy only, as with Docker on
// hosts whose v2 hierarchy is systemd's alone; what it starts belongs to the container, too.
func TestContainerOfCgroupV1(t *testing.T) {
	const hierarchy = "/sys/fs/cgroup/pids"
	if _, err := os.Stat(hierarchy + "/cgroup.procs"); err != nil {
		t.Skip("there is no cgroup v1 here")
	}
	requireBPF(t)
	scope := newCgroup(t)
	t.Cleanup(func() { removeBelow(t, scope) })
	inside := filepath.Join(hierarchy, scope.path, "docker", hexID(7))
	require.NoError(t, os.MkdirAll(inside, 0o755))
	c := startCollector(t, scope)
	runIn(t, scope.dir.Name(), "sh", "-c", "echo $$ >"+inside+"/cgroup.procs; exec sh -c 'true; /bin/echo program-v1; true'")
	c.await("the ends", func(o *output) bool { return len(named(o.logs, "tapio.process.exit")) >= 2 })
	c.stopWithoutLoss()
	joined := &container{path: inside, containerID: hexID(7), runtime: "docker"}
	programs := commandContains(named(c.output.logs, "tapio.process.exec"), "program-v1")
	require.Len(t, programs, 3, "sh, sh, echo")
	joined.check(t, programs[1:]...)
	assert.NotContains(t, programs[0].resource, "container.id", "it had not joined yet")
	joined.check(t, named(c.output.logs, "tapio.process.exit")...)
}
