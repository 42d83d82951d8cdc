// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func init() {
	workloads["etcd"] = etcdWorkload
}

// etcdWorkload does what each line asks for, with files in the folder that is its argument.
func etcdWorkload(args []string) error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := etcdAction(args[0], lines.Text()); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

func etcdAction(dir, action string) error {
	if action == "write to a pipe" {
		return writeToPipe()
	}
	name, call, _ := strings.Cut(action, " ")
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return etcdCall(int(file.Fd()), call)
}

func etcdCall(fd int, call string) error {
	var n int
	var err error
	switch call {
	case "fsync":
		return unix.Fsync(fd)
	case "fdatasync":
		return unix.Fdatasync(fd)
	case "write":
		n, err = unix.Write(fd, make([]byte, 100))
	case "pwrite":
		n, err = unix.Pwrite(fd, make([]byte, 200), 4096)
	case "writev":
		n, err = unix.Writev(fd, [][]byte{make([]byte, 100), make([]byte, 200)})
	case "pwritev":
		n, err = unix.Pwritev(fd, [][]byte{make([]byte, 100), make([]byte, 300)}, 8192)
	case "refused":
		if _, err = unix.Pwrite(fd, []byte{1}, -1); err == unix.EINVAL {
			return nil
		}
		return fmt.Errorf("a write at -1 gave %w", err)
	case "read":
		_, err = unix.Read(fd, make([]byte, 100))
		return err
	default:
		return fmt.Errorf("no call %q", call)
	}
	if err == nil && n == 0 {
		err = io.ErrShortWrite
	}
	return err
}

func writeToPipe() error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	defer writer.Close()
	_, err = writer.Write([]byte("no file"))
	return err
}

func newEtcdWorld(t *testing.T) *world {
	return newWorld(t, func(o *Options) {
		o.Families = []string{familyEtcd}
		o.Etcd = etcdOptions()
	})
}

func etcdOptions() EtcdOptions {
	return EtcdOptions{Executables: []string{"etcd", "etcd-other"}, SyscallTracepoints: true}
}

// named is this binary as an executable of another name.
func named(t testing.TB, name string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	if os.Link(self, path) == nil {
		return path
	}
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o755))
	return path
}

// etcdIn is the workload as an executable of a name.
func etcdIn(t testing.TB, cgroup, name, dir string) *exec.Cmd {
	t.Helper()
	command := commandIn(t, cgroup, named(t, name), dir)
	command.Env = append(os.Environ(), workloadEnv+"=etcd")
	return command
}

// etcdFolder is one as etcd has it.
func etcdFolder(t *testing.T) string {
	t.Helper()
	dir := publicFolder(t)
	for _, name := range []string{"wal", "snap"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	return dir
}

const (
	walFile = "wal/0000000000000000-0000000000000000.wal"
	longer  = "a-name-that-is-longer-than-those-of-etcd-itself-so-that-it-is-cut-off-somewhere"
)

// Each call gives one event, and what is none of them none.
var etcdTests = []struct {
	action    string
	operation event.EtcdOperation
	file      event.EtcdFile
	bytes     uint64
	errno     unix.Errno
}{
	{walFile + " write", event.EtcdWrite, event.EtcdFileWAL, 100, 0},
	{walFile + " fdatasync", event.EtcdFdatasync, event.EtcdFileWAL, 0, 0},
	{"wal/0.tmp fsync", event.EtcdFsync, event.EtcdFileWAL, 0, 0},
	{"snap/0000000000000001-0000000000000001.snap writev", event.EtcdWritev, event.EtcdFileSnapshot, 300, 0},
	{"snap/0000000000000001.snap.db fsync", event.EtcdFsync, event.EtcdFileSnapshot, 0, 0},
	{"snap/db pwrite", event.EtcdPwrite, event.EtcdFileBackend, 200, 0},
	{"snap/db fdatasync", event.EtcdFdatasync, event.EtcdFileBackend, 0, 0},
	{"snap/db pwritev", event.EtcdPwritev, event.EtcdFileBackend, 400, 0},
	{"snap/db refused", event.EtcdPwrite, event.EtcdFileBackend, 0, unix.EINVAL},
	{longer + " write", event.EtcdWrite, event.EtcdFileOther, 100, 0},
	{"snap/\xff\xfe fsync", event.EtcdFsync, event.EtcdFileOther, 0, 0},
	{"snap/db read", 0, 0, 0, 0},
	{"write to a pipe", 0, 0, 0, 0},
}

func TestEtcdCalls(t *testing.T) {
	w := newEtcdWorld(t)
	dir := etcdFolder(t)
	k := startTalker(t, etcdIn(t, w.cgroup, "etcd", dir))
	for _, test := range etcdTests {
		t.Run(test.action, func(t *testing.T) {
			before := len(w.ofType(event.TypeEtcdCall))
			require.Equal(t, "done", k.say(test.action))
			require.Equal(t, "done", k.say("marker fsync")) // what comes later than the rest would
			calls := etcdCallsOf(t, w, before, "marker")
			if test.operation == 0 {
				require.Empty(t, calls)
				return
			}
			require.Len(t, calls, 1)
			compareEtcdCall(t, calls[0], k.pid(), filepath.Join(dir, strings.Split(test.action, " ")[0]))
			assert.Equal(t, test.operation.String(), event.EtcdOperation(calls[0].Operation).String())
			assert.Equal(t, test.file.String(), calls[0].File().String())
			assert.Equal(t, test.bytes, calls[0].Bytes)
			assert.Equal(t, test.errno, unix.Errno(calls[0].Error))
		})
	}
	k.end()
	w.finish()
	assert.Zero(t, w.counters()[uint8(event.FamilyEtcd)].RingFull)
	assert.EqualValues(t, len(w.ofType(event.TypeEtcdCall)), w.counters()[uint8(event.FamilyEtcd)].Seen)
}

// etcdCallsOf are those that came after the first ones, and before the marker.
func etcdCallsOf(t *testing.T, w *world, first int, marker string) (calls []event.EtcdCall) {
	t.Helper()
	for n := first + 1; ; n++ {
		call, err := event.DecodeEtcdCall(w.await(event.TypeEtcdCall, n)[n-1])
		require.NoError(t, err)
		if string(call.Name) == marker {
			return calls
		}
		calls = append(calls, call)
	}
}

func compareEtcdCall(t *testing.T, call event.EtcdCall, pid uint32, path string) {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(path, &stat))
	name := filepath.Base(path)
	assert.Equal(t, name[:min(len(name), 63)], string(call.Name))
	directory := filepath.Base(filepath.Dir(path))
	assert.Equal(t, directory[:min(len(directory), 31)], string(call.Directory))
	assert.Equal(t, stat.Ino, call.Inode)
	assert.Equal(t, unix.Major(stat.Dev), call.Device>>20)
	assert.Equal(t, unix.Minor(stat.Dev), call.Device&(1<<20-1))
	assert.Equal(t, pid, call.Header.Pid)
	assert.NotZero(t, call.Header.StartTime)
	assert.NotZero(t, call.Header.CgroupId)
	assert.NotZero(t, call.Thread)
	assert.Less(t, call.Began, call.Header.Time)
}

// TestNotEtcd: who has another name, or is out of scope, gives none.
func TestNotEtcd(t *testing.T) {
	w := newEtcdWorld(t)
	dir := etcdFolder(t)
	long := strings.Repeat("e", 100)
	outside := etcdIn(t, w.cgroup, "etcd", dir)
	outside.SysProcAttr = nil
	for _, other := range []*exec.Cmd{etcdIn(t, w.cgroup, "etcd2", dir), etcdIn(t, w.cgroup, "etc", dir), etcdIn(t, w.cgroup, long, dir), outside} {
		k := startTalker(t, other)
		require.Equal(t, "done", k.say(walFile+" write"))
		require.Equal(t, "done", k.say(walFile+" fdatasync"))
		k.end()
	}
	etcd := startTalker(t, etcdIn(t, w.cgroup, "etcd-other", dir)) // the second name
	require.Equal(t, "done", etcd.say("marker fsync"))
	assert.Empty(t, etcdCallsOf(t, w, 0, "marker"))
	etcd.end()
	w.finish()
	assert.EqualValues(t, 1, w.counters()[uint8(event.FamilyEtcd)].Seen)
	assert.Zero(t, etcdsKnown(t, w), "those that have ended are forgotten")
}

func etcdsKnown(t *testing.T, w *world) (count int64) {
	t.Helper()
	for _, opened := range w.source.loader.opened {
		if m, ok := opened.(*ebpf.Map); ok && strings.Contains(m.String(), "etcd_count") {
			require.NoError(t, m.Lookup(uint32(0), &count))
			return count
		}
	}
	require.Fail(t, "there is no map etcd_count")
	return 0
}

// TestEtcdThatIsOlder: one that runs already is found at the start.
func TestEtcdThatIsOlder(t *testing.T) {
	requireBPF(t)
	cgroup, dir := newCgroup(t, ""), etcdFolder(t)
	older, twin := startTalker(t, etcdIn(t, cgroup, "etcd", dir)), startTalker(t, etcdIn(t, cgroup, "not-etcd", dir))
	require.Equal(t, "done", older.say(walFile+" write"))
	require.Equal(t, "done", twin.say(walFile+" write"))
	options := defaultOptions()
	options.Cgroups, options.Families, options.Etcd = []string{scopeOf(t, cgroup)}, []string{familyEtcd}, etcdOptions()
	w := openWorld(t, cgroup, options)
	go w.read()
	require.Equal(t, "done", twin.say(walFile+" fsync"))
	require.Equal(t, "done", older.say(walFile+" fdatasync"))
	call, err := event.DecodeEtcdCall(w.await(event.TypeEtcdCall, 1)[0])
	require.NoError(t, err)
	compareEtcdCall(t, call, older.pid(), filepath.Join(dir, walFile))
	older.end()
	twin.end()
	w.finish()
	assert.Len(t, w.ofType(event.TypeEtcdCall), 1)
}

// TestEtcdHooks: where only all calls could be looked at, the config may refuse it; and who cannot see
// connections says so.
func TestEtcdHooks(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) {
		o.Families = []string{familyProcess, familyEtcd}
		o.Etcd = EtcdOptions{Executables: []string{"etcd"}}
	})
	hooks := map[string]source.Capability{}
	for _, c := range w.source.Capabilities() {
		if c.Family == familyEtcd {
			hooks[c.Hook] = c
		}
	}
	assert.Contains(t, hooks["connections"].Reason, "families::network")
	assert.Equal(t, source.Unsupported, hooks["connections"].State)
	if w.source.features.functions {
		assert.Equal(t, source.Attached, hooks["fexit/"+callPrefix+"fdatasync"].State)
		assert.NotContains(t, hooks, "tp_btf/sys_exit")
		return
	}
	assert.Equal(t, source.Unsupported, hooks["tp_btf/sys_exit"].State)
	assert.Contains(t, hooks["tp_btf/sys_exit"].Reason, "families::etcd::syscall_tracepoints")
}
