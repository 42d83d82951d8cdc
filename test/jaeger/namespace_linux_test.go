// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// world is where the shop runs: a network and mounts of its own, and the cgroup that is the collector's
// scope. The namespaces belong to a thread, and are gone with it and what was started from it.
type world struct {
	scope  string // the cgroup's path below the mount
	cgroup *os.File
	calls  chan func()
}

// nameServer is the address in the world's resolv.conf.
const nameServer = "127.0.0.53"

// newWorld has a name server in resolv.conf, and a search list.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{calls: make(chan func())}
	w.makeCgroup(t)
	folder := t.TempDir()
	files := map[string]string{
		"resolv.conf":   "nameserver " + nameServer + "\nsearch prod.shop.test shop.test\n",
		"nsswitch.conf": "hosts: files dns\n",
	}
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644))
	}
	go w.live()
	t.Cleanup(func() { close(w.calls) })
	require.NoError(t, w.do(func() error { return leave(folder, files) }), "make a network and mounts")
	return w
}

// live is the thread's life. It ends with the goroutine, as that does not give it back.
func (w *world) live() {
	runtime.LockOSThread()
	for call := range w.calls {
		call()
	}
}

// do runs the function in the world. What it starts is there as well.
func (w *world) do(run func() error) error {
	result := make(chan error)
	w.calls <- func() { result <- run() }
	return <-result
}

// leave takes the thread into namespaces of its own, with loopback, and has these files in /etc.
func leave(folder string, files map[string]string) error {
	// a thread shares its root and folder with the others, and a mount namespace needs its own
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for name := range files {
		if err := unix.Mount(filepath.Join(folder, name), filepath.Join("/etc", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /etc/%s: %w", name, err)
		}
	}
	return ip("link set lo up")
}

// connect two worlds by a cable, with an address at each end.
func connect(t *testing.T, a, b *world, addressA, addressB string) {
	t.Helper()
	var thread int
	require.NoError(t, b.do(func() error {
		thread = unix.Gettid()
		return nil
	}))
	require.NoError(t, a.do(func() error {
		return ip(fmt.Sprintf("link add cable type veth peer name cable netns %d", thread))
	}))
	for address, w := range map[string]*world{addressA: a, addressB: b} {
		require.NoError(t, w.do(func() error {
			return errors.Join(ip("addr add "+address+"/24 dev cable"), ip("link set cable up"))
		}))
	}
}

func ip(arguments string) error {
	if output, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", arguments, err, output)
	}
	return nil
}

func (w *world) makeCgroup(t *testing.T) {
	t.Helper()
	mount := cgroup2Mount(t)
	folder, err := os.MkdirTemp(mount, "tapio-jaeger-")
	require.NoError(t, err)
	t.Cleanup(func() {
		// what the shop's programs have left
		_ = os.WriteFile(filepath.Join(folder, "cgroup.kill"), []byte("1"), 0)
		require.Eventually(t, func() bool { return unix.Rmdir(folder) == nil }, patience, pollInterval, "remove %s", folder)
	})
	w.scope = strings.TrimPrefix(folder, mount)
	w.cgroup, err = os.Open(folder)
	require.NoError(t, err)
	t.Cleanup(func() { w.cgroup.Close() })
}

func cgroup2Mount(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	require.Fail(t, "no cgroup v2 is mounted")
	return ""
}
