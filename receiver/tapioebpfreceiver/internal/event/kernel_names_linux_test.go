// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func TestErrnoNamesAreLinux(t *testing.T) {
	for number := int32(1); number < 134; number++ {
		want := unix.ErrnoName(unix.Errno(number))
		switch want {
		case "EFSCORRUPTED": // the name that file systems use
			want = "EUCLEAN"
		case "ENOTSUP": // POSIX has two names, the kernel only this one
			want = "EOPNOTSUPP"
		}
		if want != "" {
			assert.Equal(t, want, event.ErrnoName(number), "%d", number)
		}
	}
}

func TestKernelNamesAreLinux(t *testing.T) {
	for number, want := range map[uint64]string{
		unix.CAP_CHOWN: "CAP_CHOWN", unix.CAP_SYS_MODULE: "CAP_SYS_MODULE", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", unix.CAP_SETFCAP: "CAP_SETFCAP",
		unix.CAP_SYSLOG: "CAP_SYSLOG", unix.CAP_AUDIT_READ: "CAP_AUDIT_READ", unix.CAP_PERFMON: "CAP_PERFMON", unix.CAP_LAST_CAP: "CAP_CHECKPOINT_RESTORE",
	} {
		assert.Equal(t, want, event.CapabilityName(number))
	}
	for number, want := range map[uint64]string{
		unix.BPF_PROG_LOAD: "BPF_PROG_LOAD", unix.BPF_BTF_LOAD: "BPF_BTF_LOAD", unix.BPF_MAP_FREEZE: "BPF_MAP_FREEZE", unix.BPF_LINK_CREATE: "BPF_LINK_CREATE",
		unix.BPF_LINK_DETACH: "BPF_LINK_DETACH", unix.BPF_PROG_BIND_MAP: "BPF_PROG_BIND_MAP",
	} {
		assert.Equal(t, want, event.BPFCommand(number))
	}
	for number, want := range map[uint64]string{
		unix.BPF_PROG_TYPE_KPROBE: "BPF_PROG_TYPE_KPROBE", unix.BPF_PROG_TYPE_CGROUP_SKB: "BPF_PROG_TYPE_CGROUP_SKB", unix.BPF_PROG_TYPE_TRACING: "BPF_PROG_TYPE_TRACING",
		unix.BPF_PROG_TYPE_LSM: "BPF_PROG_TYPE_LSM", unix.BPF_PROG_TYPE_NETFILTER: "BPF_PROG_TYPE_NETFILTER",
	} {
		assert.Equal(t, want, event.BPFProgramType(number))
	}
	for number, want := range map[uint64]string{
		unix.PTRACE_TRACEME: "PTRACE_TRACEME", unix.PTRACE_POKEDATA: "PTRACE_POKEDATA", unix.PTRACE_ATTACH: "PTRACE_ATTACH", unix.PTRACE_SEIZE: "PTRACE_SEIZE",
		unix.PTRACE_SETREGSET: "PTRACE_SETREGSET", unix.PTRACE_SECCOMP_GET_METADATA: "PTRACE_SECCOMP_GET_METADATA",
	} {
		assert.Equal(t, want, event.PtraceRequest(number))
	}
	for flag, want := range map[uint64]string{
		unix.CLONE_NEWCGROUP: "cgroup", unix.CLONE_NEWIPC: "ipc", unix.CLONE_NEWNS: "mnt", unix.CLONE_NEWNET: "net",
		unix.CLONE_NEWPID: "pid", unix.CLONE_NEWTIME: "time", unix.CLONE_NEWUSER: "user", unix.CLONE_NEWUTS: "uts",
	} {
		assert.Equal(t, []string{want}, event.Namespaces(flag))
	}
	for flag, want := range map[uint64]string{
		unix.MS_RDONLY: "ro", unix.MS_REMOUNT: "remount", unix.MS_BIND: "bind", unix.MS_MOVE: "move", unix.MS_REC: "rec",
		unix.MS_PRIVATE: "private", unix.MS_SHARED: "shared", unix.MS_STRICTATIME: "strictatime", unix.MS_LAZYTIME: "lazytime",
	} {
		assert.Equal(t, []string{want}, event.MountFlags(flag))
	}
	const magic = 0xC0ED0000
	assert.Empty(t, event.MountFlags(magic))
	assert.Equal(t, []string{"ro", "bind"}, event.MountFlags(magic|unix.MS_RDONLY|unix.MS_BIND))
	assert.Equal(t, []string{"private", "slave"}, event.MountFlags(unix.MS_PRIVATE|unix.MS_SLAVE), "half of the magic is none")
	assert.Equal(t, "packet", event.SocketFamily(unix.AF_PACKET))
	assert.Equal(t, "inet6", event.SocketFamily(unix.AF_INET6))
	assert.Equal(t, "packet", event.SocketType(unix.SOCK_PACKET))
	assert.Equal(t, "path", event.OpenAccess(unix.O_PATH|unix.O_CLOEXEC))
	assert.True(t, event.OpensToWrite(unix.O_WRONLY|unix.O_CREAT))
}
