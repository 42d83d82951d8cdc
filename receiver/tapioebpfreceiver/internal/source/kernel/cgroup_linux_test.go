// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func idOf(t *testing.T, dir string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(dir, &stat))
	return stat.Ino
}

// pathOf a cgroup below the mount.
func pathOf(t *testing.T, dir string) string {
	t.Helper()
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	return strings.TrimPrefix(dir, mount)
}

func changes(t *testing.T, records [][]byte) (decoded []event.CgroupChange) {
	t.Helper()
	for _, record := range records {
		e, err := event.DecodeCgroupChange(record)
		require.NoError(t, err)
		decoded = append(decoded, e)
	}
	return decoded
}

func TestCgroupMadeAndRemoved(t *testing.T) {
	w := newWorld(t, nil)
	dir := filepath.Join(w.cgroup, "kubepods-burstable.slice")
	require.NoError(t, os.Mkdir(dir, 0o755))
	id := idOf(t, dir)
	made := changes(t, w.await(event.TypeCgroupMade, 1))
	require.Len(t, made, 1)
	assert.Equal(t, id, made[0].Header.CgroupId)
	assert.Equal(t, pathOf(t, dir), string(made[0].Path))
	assert.Zero(t, made[0].Header.Pid)
	assert.Zero(t, made[0].Hierarchy)
	assert.NotZero(t, made[0].Header.Time)

	require.NoError(t, syscall.Rmdir(dir))
	removed := changes(t, w.await(event.TypeCgroupRemoved, 1))
	require.Len(t, removed, 1)
	assert.Equal(t, id, removed[0].Header.CgroupId)
}

func TestCgroupsOutOfScopeAreNotReported(t *testing.T) {
	w := newWorld(t, nil)
	newCgroup(t, "") // beside the one in scope
	inside := newCgroup(t, w.cgroup)
	made := changes(t, w.await(event.TypeCgroupMade, 1))
	w.finish()
	require.Len(t, w.ofType(event.TypeCgroupMade), 1)
	assert.Equal(t, idOf(t, inside), made[0].Header.CgroupId)
}

// The longest path that the kernel can tell, and one that it cannot.
func TestCgroupWithALongPath(t *testing.T) {
	w := newWorld(t, nil)
	room := 1023 - len(pathOf(t, w.cgroup))
	var dirs []string
	dir := w.cgroup
	for length := 0; length < room; {
		name := strings.Repeat("x", min(200, room-length-1))
		dir = filepath.Join(dir, name)
		length += len(name) + 1
		dirs = append(dirs, dir)
	}
	dirs[len(dirs)-1] = strings.TrimSuffix(dirs[len(dirs)-1], "x")
	dirs = append(dirs, filepath.Join(dirs[len(dirs)-1], "yy"))
	for _, dir := range dirs {
		require.NoError(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() { require.NoError(t, syscall.Rmdir(dir)) })
	}
	made := changes(t, w.await(event.TypeCgroupMade, len(dirs)))
	for i, dir := range dirs[:len(dirs)-1] {
		assert.Equal(t, pathOf(t, dir), string(made[i].Path))
	}
	last := made[len(dirs)-1]
	assert.Empty(t, last.Path, "it was cut off")
	assert.Equal(t, idOf(t, dirs[len(dirs)-1]), last.Header.CgroupId)
}

func TestCgroupJoined(t *testing.T) {
	w := newWorld(t, nil)
	command := w.command("sleep", "60")
	require.NoError(t, command.Start())
	inside := newCgroup(t, w.cgroup)
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	join(t, inside, command.Process.Pid)
	joined := changes(t, w.await(event.TypeCgroupJoined, 1))
	require.Len(t, joined, 1)
	assert.Equal(t, pathOf(t, inside), string(joined[0].Path))
	assert.EqualValues(t, command.Process.Pid, joined[0].Header.Pid)
	assert.NotZero(t, joined[0].Header.StartTime)
	assert.Equal(t, idOf(t, inside), joined[0].Header.CgroupId)
	assert.Zero(t, joined[0].Hierarchy)
}

// Where cgroup v1 is in use, containers may be in its hierarchies only.
func TestCgroupJoinedOfV1(t *testing.T) {
	const v1 = "/sys/fs/cgroup/pids"
	if _, err := os.Stat(v1 + "/cgroup.procs"); err != nil {
		t.Skip("there is no cgroup v1 here")
	}
	w := newWorld(t, nil)
	command := w.command("sleep", "60")
	require.NoError(t, command.Start())
	inside := newCgroup(t, v1)
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	join(t, inside, command.Process.Pid)
	joined := changes(t, w.await(event.TypeCgroupJoined, 1))
	require.Len(t, joined, 1)
	assert.Equal(t, strings.TrimPrefix(inside, v1), string(joined[0].Path))
	assert.EqualValues(t, command.Process.Pid, joined[0].Header.Pid)
	assert.Equal(t, idOf(t, w.cgroup), joined[0].Header.CgroupId, "that of v2, which has not changed")
	assert.NotZero(t, joined[0].Hierarchy)
	assert.Empty(t, w.ofType(event.TypeCgroupMade), "ids of v1 say nothing")
}

func join(t *testing.T, dir string, pid int) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
}

// Those that were there before the source, and none that it does not look at.
func TestCgroupsOlderThanTheSource(t *testing.T) {
	var older []string
	w := newOwnWorld(t, func(o *Options) {
		o.Families = []string{familyProcess}
		mount, err := cgroup2Mount()
		require.NoError(t, err)
		scope := filepath.Join(mount, o.Cgroups[0])
		older = []string{scope, newCgroup(t, scope)}
		older = append(older, newCgroup(t, older[1]))
	})
	w.finish()
	got := w.source.Cgroups()
	var want []source.Cgroup
	for _, dir := range older {
		want = append(want, source.Cgroup{ID: idOf(t, dir), Path: pathOf(t, dir)})
	}
	assert.ElementsMatch(t, want, got)
	assert.Empty(t, w.ofType(event.TypeCgroupMade))
}

// A record of a cgroup may be lost: then a process that is in it knows the path.
func TestCgroupOfAProcess(t *testing.T) {
	w := newWorld(t, nil)
	inside := newCgroup(t, w.cgroup)
	command := commandIn(t, inside, "sleep", "60")
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	pid := uint32(command.Process.Pid)
	w.finish()

	path, ok := w.source.Cgroup(idOf(t, inside), pid)
	assert.True(t, ok)
	assert.Equal(t, pathOf(t, inside), path)
	_, ok = w.source.Cgroup(idOf(t, w.cgroup), pid)
	assert.False(t, ok, "the process is in another one")
	_, ok = w.source.Cgroup(idOf(t, inside), 0)
	assert.False(t, ok, "nobody to ask")

	process, ok := w.source.Process(pid)
	require.True(t, ok)
	assert.Equal(t, idOf(t, inside), process.CgroupID)
	assert.Equal(t, pathOf(t, inside), process.Cgroups[0])
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(process.Cgroups))), len(process.Cgroups), "each once")
}

// Each change of a cgroup is counted: what identity does not hear of, the ledger has.
func TestCgroupsForWhichTheRingHasNoRoom(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) { o.Families, o.RingSize = []string{familyProcess}, minLifecycleRing })
	for range 2000 {
		dir := filepath.Join(w.cgroup, "short")
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, syscall.Rmdir(dir))
	}
	go w.read()
	w.finish()
	counters, err := w.source.Counters()
	require.NoError(t, err)
	of := counters[uint8(event.FamilyCgroup)]
	assert.EqualValues(t, 4000, of.Seen)
	assert.NotZero(t, of.RingFull)
	read := len(w.ofType(event.TypeCgroupMade)) + len(w.ofType(event.TypeCgroupRemoved))
	assert.EqualValues(t, of.Seen-of.RingFull, read)
}
