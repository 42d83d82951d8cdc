// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func newSecurityWorld(t testing.TB, paths ...string) *world {
	return newWorld(t, func(o *Options) {
		o.Families = []string{familySecurity}
		o.Security = securityOptions(paths...)
	})
}

func securityOptions(paths ...string) SecurityOptions {
	return SecurityOptions{Kinds: event.SecurityKinds(), Paths: paths, Capabilities: []uint8{unix.CAP_SYS_PACCT}, SyscallTracepoints: true}
}

// did is what is expected of an action.
type did struct {
	kind  event.SecurityKind
	call  string
	errno unix.Errno
	// path below the folder, or absolute; empty: not looked at.
	path  string
	check func(t *testing.T, a event.SecurityAction)
}

func value(n int, want uint64) func(*testing.T, event.SecurityAction) {
	return func(t *testing.T, a event.SecurityAction) { assert.Equal(t, want, a.Values[n]) }
}

// asked for flags; the kernel may add its own.
func asked(flags uint64) func(*testing.T, event.SecurityAction) {
	return func(t *testing.T, a event.SecurityAction) {
		assert.Equal(t, flags, a.Values[0]&(unix.O_ACCMODE|unix.O_APPEND))
	}
}

// hardLinkOf a file that has the path of this number.
func hardLinkOf(n uint64) func(*testing.T, event.SecurityAction) {
	return func(t *testing.T, a event.SecurityAction) {
		assert.True(t, a.Has(event.SecurityHardLink))
		assert.Equal(t, n, a.Values[3])
	}
}

func onChild(t *testing.T, a event.SecurityAction) {
	assert.True(t, a.Has(event.SecurityHasTarget))
	assert.NotZero(t, a.TargetPid)
	assert.NotEqual(t, a.Header.Pid, a.TargetPid)
}

func ids(before, after uint32) func(*testing.T, event.SecurityAction) {
	return func(t *testing.T, a event.SecurityAction) {
		assert.True(t, a.Has(event.SecurityHasCredentials))
		assert.Equal(t, before, a.Before.Euid)
		assert.Equal(t, after, a.After.Euid)
		assert.Equal(t, before == 0, a.Before.Effective != 0)
		assert.Equal(t, after == 0, a.After.Effective != 0)
	}
}

// Each action gives one event, and its harmless twin none.
var securityTests = []struct {
	action string
	did    []did
}{
	{"use capability", []did{{kind: event.SecurityCapability, check: value(0, unix.CAP_SYS_PACCT)}}},
	{"use capability denied", []did{{kind: event.SecurityCapability, errno: unix.EPERM, check: value(0, unix.CAP_SYS_PACCT)}}},
	{"open", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret", check: func(t *testing.T, a event.SecurityAction) {
		assert.Zero(t, a.Values[3])
		assert.False(t, a.Has(event.SecurityHardLink))
	}}}},
	{"open to write", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, unix.O_WRONLY, a.Values[0]&unix.O_ACCMODE)
		assert.EqualValues(t, unix.S_IFREG|0o600, a.Values[2])
		assert.NotZero(t, a.Values[1])
	}}}},
	{"open symlink", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}}},
	{"open below", []did{{kind: event.SecurityFileAccess, call: "open", path: "keys/a/b", check: value(3, 1)}}},
	{"open any depth", []did{{kind: event.SecurityFileAccess, call: "open", path: "home/.tapio/id", check: value(3, 2)}}},
	{"open below any depth", []did{{kind: event.SecurityFileAccess, call: "open", path: "home/deep/er/a/b", check: value(3, 4)}}},
	{"open beside", nil},
	{"open dotdot", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}}},
	{"open relative", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}}},
	{"openat", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}}},
	{"openat2", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}}},
	{"open denied", []did{{kind: event.SecurityFileAccess, call: "open", errno: unix.EACCES, path: "secret", check: value(3, noSensitivePath)}}},
	{"open denied relative", []did{{kind: event.SecurityFileAccess, call: "open", errno: unix.EACCES, path: "secret"}}},
	{"openat2 denied", []did{{kind: event.SecurityFileAccess, call: "open", errno: unix.EACCES, path: "secret", check: asked(unix.O_WRONLY | unix.O_APPEND)}}},
	{"openat denied", []did{{kind: event.SecurityFileAccess, call: "open", errno: unix.EACCES, path: "secret", check: asked(unix.O_RDWR)}}},
	{"open by io_uring", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret", check: value(3, 0)}}},
	{"open odd name", []did{{kind: event.SecurityFileAccess, call: "open", path: "keys/\xff\xfe\n"}}},
	{"open long path", []did{{kind: event.SecurityFileAccess, call: "open", check: func(t *testing.T, a event.SecurityAction) {
		assert.True(t, a.Has(event.SecurityPathResolved))
		assert.True(t, strings.HasSuffix(string(a.AppendPath(nil)), longName+"/"+longName+"/end"))
	}}}},
	{"open by handle", []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}}},
	{"open hard link", []did{{kind: event.SecurityFileAccess, call: "open", path: "hard", check: hardLinkOf(3)}}},
	{"open hard link below", []did{{kind: event.SecurityFileAccess, call: "open", path: "hardkey", check: hardLinkOf(1)}}},
	{"open another hard link", nil},
	{"open another denied", []did{{kind: event.SecurityFileAccess, call: "open", errno: unix.EACCES, path: "secret2", check: value(3, noSensitivePath)}}},
	{"run denied", nil},
	{"open another", nil},
	{"open directory", nil},
	{"open path", nil},
	{"open path denied", nil},
	{"open missing", nil},

	{"chmod", []did{{kind: event.SecuritySetuidBit, call: "chmod", path: "program", check: value(0, 0o4755)}}},
	{"fchmod", []did{{kind: event.SecuritySetuidBit, call: "chmod", path: "program", check: value(0, 0o2755)}}},
	{"fchmodat", []did{{kind: event.SecuritySetuidBit, call: "chmod", path: "program", check: value(0, 0o4700)}}},
	{"chmod denied", []did{{kind: event.SecuritySetuidBit, call: "chmod", errno: unix.EPERM, path: "program"}}},
	{"chmod plain", nil},
	{"setuid made", []did{{kind: event.SecuritySetuidBit, call: "open", path: "made", check: value(0, 0o4755)}}},
	{"plain made", nil},
	{"setgid made", []did{{kind: event.SecuritySetuidBit, call: "open", path: "group", check: value(0, 0o2755)}}},
	{"setgid made for locks", nil},
	{"fchmod directory", nil},

	{"setuid", []did{{kind: event.SecurityCredentials, call: "setuid", check: ids(0, nobody)}}},
	{"setgid", []did{{kind: event.SecurityCredentials, call: "setgid", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, 0, a.Before.Gid)
		assert.EqualValues(t, nobody, a.After.Gid)
	}}}},
	{"setuid denied", []did{
		{kind: event.SecurityCredentials, call: "setuid", check: ids(0, nobody)},
		{kind: event.SecurityCredentials, call: "setuid", errno: unix.EPERM, check: ids(nobody, nobody)},
	}},
	{"setuid same", nil},
	{"setreuid", []did{{kind: event.SecurityCredentials, call: "setreuid", check: ids(0, nobody)}}},
	{"setresuid", []did{{kind: event.SecurityCredentials, call: "setresuid", check: ids(0, nobody)}}},
	{"setfsuid", []did{{kind: event.SecurityCredentials, call: "setfsuid", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, 0, a.After.Euid)
		assert.EqualValues(t, nobody, a.After.Fsuid)
	}}}},
	{"setregid", []did{{kind: event.SecurityCredentials, call: "setregid", check: func(t *testing.T, a event.SecurityAction) {
		assert.Equal(t, [2]uint32{nobody, nobody}, [2]uint32{a.After.Gid, a.After.Egid})
	}}}},
	{"setresgid", []did{{kind: event.SecurityCredentials, call: "setresgid", check: func(t *testing.T, a event.SecurityAction) {
		assert.Equal(t, [3]uint32{nobody, nobody, nobody}, [3]uint32{a.After.Gid, a.After.Egid, a.After.Sgid})
	}}}},
	{"setfsgid", []did{{kind: event.SecurityCredentials, call: "setfsgid", check: func(t *testing.T, a event.SecurityAction) {
		assert.Equal(t, [2]uint32{0, nobody}, [2]uint32{a.After.Egid, a.After.Fsgid})
	}}}},
	{"setgroups", []did{{kind: event.SecurityCredentials, call: "setgroups", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, 2, a.After.Groups)
	}}}},
	{"capset", []did{{kind: event.SecurityCredentials, call: "capset", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, 1<<unix.CAP_NET_RAW, a.Before.Effective&^a.After.Effective)
		assert.Equal(t, a.Before.Permitted, a.After.Permitted)
	}}}},

	{"ptrace", []did{{kind: event.SecurityPtrace, call: "ptrace", check: func(t *testing.T, a event.SecurityAction) {
		onChild(t, a)
		assert.EqualValues(t, unix.PTRACE_ATTACH, a.Values[0])
		assert.EqualValues(t, a.TargetPid, a.Values[1])
		assert.NotZero(t, a.TargetStartTime)
	}}}},
	{"ptrace denied", []did{{kind: event.SecurityPtrace, call: "ptrace", errno: unix.EPERM, check: onChild}}},
	{"ptrace none", nil},
	{"write memory", []did{{kind: event.SecurityMemoryWrite, call: "process_vm_writev", check: func(t *testing.T, a event.SecurityAction) {
		onChild(t, a)
		assert.EqualValues(t, len(memoryToWrite), a.Values[0])
	}}}},
	{"write own memory", nil},
	{"open memory", []did{{kind: event.SecurityMemoryWrite, call: "open", check: onChild}}},
	{"open thread's memory", []did{{kind: event.SecurityMemoryWrite, call: "open", check: func(t *testing.T, a event.SecurityAction) {
		onChild(t, a)
		assert.NotContains(t, string(a.AppendPath(nil)), fmt.Sprintf("task/%d/", a.TargetPid))
	}}}},
	{"read memory", nil},
	{"open own memory", nil},
	{"open own thread's memory", nil},
	{"write own thread's memory", nil},

	{"memfd", []did{{kind: event.SecurityFilelessExec, check: func(t *testing.T, a event.SecurityAction) {
		assert.True(t, a.Has(event.SecurityUnlinked|event.SecurityHasAfter))
		assert.Contains(t, string(a.AppendPath(nil)), "memfd:hidden")
	}}}},
	{"setuid program", []did{{kind: event.SecuritySetuidExec, path: "setuid", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, nobody, a.After.Uid)
		assert.EqualValues(t, 0, a.After.Euid)
		assert.EqualValues(t, 0, a.Values[2])
	}}}},
	{"capable program", []did{{kind: event.SecuritySetuidExec, path: "capable", check: func(t *testing.T, a event.SecurityAction) {
		assert.EqualValues(t, nobody, a.After.Euid)
		assert.EqualValues(t, 1<<unix.CAP_NET_RAW, a.After.Effective)
	}}}},
	{"plain program", nil},
	{"shell on socket", []did{{kind: event.SecurityShellOnSocket, check: func(t *testing.T, a event.SecurityAction) {
		peer, ok := a.Peer()
		assert.True(t, ok)
		assert.Equal(t, [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}, peer)
		assert.NotZero(t, a.Values[0])
	}}}},
	{"shell on pair", nil},

	{"unshare", []did{{kind: event.SecurityNamespace, call: "unshare", check: value(0, unix.CLONE_NEWUTS|unix.CLONE_NEWIPC)}}},
	{"unshare denied", []did{{kind: event.SecurityNamespace, call: "unshare", errno: unix.EPERM, check: value(0, unix.CLONE_NEWUTS)}}},
	{"unshare files", nil},
	{"setns", []did{{kind: event.SecurityNamespace, call: "setns", check: value(0, unix.CLONE_NEWUTS)}}},
	{"clone", []did{{kind: event.SecurityNamespace, call: "clone", check: func(t *testing.T, a event.SecurityAction) {
		onChild(t, a)
		assert.EqualValues(t, unix.CLONE_NEWNET|unix.CLONE_NEWUTS, a.Values[0])
	}}}},
	{"mount", []did{
		{kind: event.SecurityNamespace, call: "unshare", check: value(0, unix.CLONE_NEWNS)},
		{kind: event.SecurityMount, call: "mount"}, // what makes mounts private
		{kind: event.SecurityMount, call: "mount", path: "keys", check: func(t *testing.T, a event.SecurityAction) {
			source, kind := a.Strings()
			assert.Equal(t, "tapio tmpfs", fmt.Sprintf("%s %s", source, kind))
			assert.NotZero(t, a.Values[0]&unix.MS_NOSUID)
		}},
	}},
	{"move mount", []did{
		{kind: event.SecurityNamespace, call: "unshare", check: value(0, unix.CLONE_NEWNS)},
		{kind: event.SecurityMount, call: "mount"},
		{kind: event.SecurityMount, call: "mount", path: "keys"},
		{kind: event.SecurityMount, call: "move_mount", path: "home"},
	}},
	{"mount denied", []did{{kind: event.SecurityMount, call: "mount", errno: unix.EPERM, path: "keys"}}},
	{"mount missing", nil},

	{"load program", []did{{kind: event.SecurityBPF, call: "bpf", check: value(1, unix.BPF_PROG_TYPE_TRACEPOINT)}}},
	{"load program denied", []did{{kind: event.SecurityBPF, call: "bpf", errno: unix.EPERM, check: value(1, unix.BPF_PROG_TYPE_TRACEPOINT)}}},
	{"load program high bits", []did{{kind: event.SecurityBPF, call: "bpf"}}},
	{"kernel log high bits", []did{{kind: event.SecurityKernelLog, call: "syslog", check: value(0, unix.SYSLOG_ACTION_READ_ALL)}}},
	{"make map", nil},
	{"load module", []did{{kind: event.SecurityModuleLoad, check: func(t *testing.T, a event.SecurityAction) {
		name, _ := a.Strings()
		assert.Equal(t, "dummy", string(name))
	}}}},
	{"load module denied", []did{{kind: event.SecurityModuleLoad, call: "finit_module", errno: unix.EPERM, path: "ordinary"}}},
	{"kexec", []did{{kind: event.SecurityKexec, call: "kexec_load"}}},
	{"kexec unload", nil},
	{"kexec denied", []did{{kind: event.SecurityKexec, call: "kexec_load", errno: unix.EPERM}}},
	{"raw socket", []did{{kind: event.SecurityRawSocket, call: "socket", check: func(t *testing.T, a event.SecurityAction) {
		assert.Equal(t, []uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, a.Values[:3])
	}}}},
	{"raw socket 6", []did{{kind: event.SecurityRawSocket, call: "socket", check: value(0, unix.AF_INET6)}}},
	{"packet socket", []did{{kind: event.SecurityRawSocket, call: "socket", check: value(0, unix.AF_PACKET)}}},
	{"raw socket denied", []did{{kind: event.SecurityRawSocket, call: "socket", errno: unix.EPERM}}},
	{"netlink socket", nil},
	{"plain socket", nil},
	{"kernel log", []did{{kind: event.SecurityKernelLog, call: "syslog", check: value(0, unix.SYSLOG_ACTION_READ_ALL)}}},
	{"kernel log size", nil},
}

func sensitivePaths(dir string) []string {
	return []string{dir + "/secret", dir + "/keys/", "**/.tapio/id", dir + "/shared", "**/deep/er/"}
}

func TestSecurityActions(t *testing.T) {
	dir := publicFolder(t)
	require.NoError(t, securityFolder(dir))
	w := newSecurityWorld(t, sensitivePaths(dir)...)
	for _, test := range securityTests {
		t.Run(test.action, func(t *testing.T) {
			if test.action == "open by io_uring" && !hasHook(w, "fexit/do_filp_open") && !hasHook(w, "fexit/do_file_open") {
				t.Skip("this kernel has no hook where io_uring comes by")
			}
			if test.action == "kexec" && runtime.GOARCH == "arm64" {
				t.Skip("an emulated machine's kernel may not survive the copy of its page tables (trans_pgd_create_copy of 6.12)")
			}
			if strings.HasPrefix(test.action, "use capability") && !hasTracepoint(t, "cap_capable") {
				require.False(t, hasHook(w, "tp_btf/cap_capable"))
				t.Skip("this kernel does not tell of the use of capabilities")
			}
			command := w.workload("security", test.action, dir)
			var complaint bytes.Buffer
			command.Stderr = &complaint
			err := command.Run()
			if strings.Contains(complaint.String(), unix.ENOSYS.Error()) {
				require.NoFileExists(t, "/init", "a guest's kernel can: %s", complaint.String())
				t.Skip("this kernel cannot do that: " + complaint.String())
			}
			if test.action == "memfd" {
				require.EqualError(t, err, "exit status 3", complaint.String())
			} else {
				require.NoError(t, err, complaint.String())
			}
			compareActions(t, w, uint32(command.Process.Pid), dir, test.did)
		})
	}
}

// TestPathsInParts: where dentries are not laid out as we know them, names are found all the same.
func TestPathsInParts(t *testing.T) {
	at := objectOf(familySecurity)
	known := objects[at].load
	t.Cleanup(func() { objects[at].load = known })
	objects[at].load = func() (*ebpf.CollectionSpec, error) {
		spec, err := known()
		if err != nil {
			return nil, err
		}
		return spec, spec.Variables["entries_at_once"].Set(false)
	}
	dir := publicFolder(t)
	require.NoError(t, securityFolder(dir))
	w := newOwnWorld(t, func(o *Options) {
		o.Families = []string{familySecurity}
		o.Security = securityOptions(sensitivePaths(dir)...)
	})
	for _, test := range securityTests {
		if strings.HasPrefix(test.action, "open ") && len(test.did) == 1 && test.did[0].errno == 0 && test.did[0].kind == event.SecurityFileAccess && test.action != "open by io_uring" {
			command := w.workload("security", test.action, dir)
			require.NoError(t, command.Run(), test.action)
			compareActions(t, w, uint32(command.Process.Pid), dir, test.did)
		}
	}
}

// TestRefusedOpensAreBounded: who is refused files all the time has a share of the ring, and the rest is accounted.
func TestRefusedOpensAreBounded(t *testing.T) {
	dir := publicFolder(t)
	require.NoError(t, securityFolder(dir))
	w := newOwnWorld(t, func(o *Options) {
		o.Families = []string{familySecurity}
		o.Security = securityOptions(dir + "/secret")
	})
	require.NoError(t, w.workload("security", "open denied often", dir).Run())
	w.finish()
	counters, err := w.source.Counters()
	require.NoError(t, err)
	got := counters[uint8(event.FamilySecurity)]
	records := uint64(len(w.ofType(event.TypeSecurityAction)))
	assert.GreaterOrEqual(t, got.Seen, uint64(manyRefusals))
	assert.Equal(t, got.Seen, records+got.TableFull+got.RingFull)
	assert.Zero(t, got.RingFull)
	assert.Less(t, records, uint64(manyRefusals/2))
}

// publicFolder is one that all users may look into.
func publicFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tapio-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return resolved(t, dir)
}

// hasTracepoint says whether this kernel has it, as attaching to it finds out.
func hasTracepoint(t *testing.T, name string) bool {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	var hook *btf.Typedef
	err = kernel.TypeByName("btf_trace_"+name, &hook)
	if errors.Is(err, btf.ErrNotFound) {
		return false
	}
	require.NoError(t, err)
	return true
}

func hasHook(w *world, hook string) bool {
	return slices.ContainsFunc(w.source.Capabilities(), func(c source.Capability) bool {
		return c.Hook == hook && c.State == source.Attached
	})
}

// compareActions waits for what comes later than the rest would.
func compareActions(t *testing.T, w *world, pid uint32, dir string, expected []did) {
	t.Helper()
	marker := w.workload("security", "kernel log", dir)
	require.NoError(t, marker.Run())
	require.Eventually(t, func() bool { return len(actionsOf(t, w, uint32(marker.Process.Pid))) > 0 }, patience, time.Millisecond)
	var got []event.SecurityAction
	dropping := expectsNoCredentials(expected)
	for _, a := range actionsOf(t, w, pid) {
		aside := a.Is(event.SecurityFileAccess) && !strings.HasPrefix(string(a.AppendPath(nil)), dir) // of Go's own runtime
		if !aside && (!dropping || !a.Is(event.SecurityCredentials)) {
			got = append(got, a)
		}
	}
	require.Len(t, got, len(expected), "%s", describe(got))
	for i, want := range expected {
		a := got[i]
		assert.Equal(t, want.kind.String(), event.SecurityKind(a.Kind).String())
		assert.Equal(t, want.call, event.SecurityOperation(a.Operation).String())
		assert.Equal(t, want.errno, unix.Errno(a.Error))
		assert.NotZero(t, a.Header.StartTime)
		assert.NotZero(t, a.Header.CgroupId)
		assert.EqualValues(t, os.Getpid(), a.Process.ParentPid)
		if want.path != "" {
			assert.Equal(t, dir+"/"+want.path, string(a.AppendPath(nil)))
		}
		if want.check != nil {
			want.check(t, a)
		}
	}
}

// expectsNoCredentials says that rights are given up only on the way.
func expectsNoCredentials(expected []did) bool {
	for _, e := range expected {
		if e.kind == event.SecurityCredentials {
			return false
		}
	}
	return true
}

func actionsOf(t *testing.T, w *world, pid uint32) (actions []event.SecurityAction) {
	for _, record := range w.ofType(event.TypeSecurityAction) {
		a, err := event.DecodeSecurityAction(record)
		require.NoError(t, err)
		if a.Header.Pid == pid {
			actions = append(actions, a)
		}
	}
	return actions
}

func describe(actions []event.SecurityAction) string {
	var text strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&text, "%v %v %v %v %q\n", event.SecurityKind(a.Kind), event.SecurityOperation(a.Operation), a.Error, a.Values, a.AppendPath(nil))
	}
	return text.String()
}

// noSensitivePath is NO_SENSITIVE_PATH.
const noSensitivePath = 0xffffffff
