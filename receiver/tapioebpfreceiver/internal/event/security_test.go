// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

var action = bpf.WireSecurityAction{
	Header: header, Process: identity, Thread: 91, Kind: uint16(event.SecurityFileAccess), Operation: uint16(event.OperationOpen), Error: -92,
	Values: [4]uint64{93, 94, 95, math.MaxUint64}, TargetStartTime: 96, TargetPid: 97,
	Before: bpf.WireCredentials{Uid: 101, Euid: 102, Suid: 103, Fsuid: 104, Gid: 105, Egid: 106, Sgid: 107, Fsgid: 108, Permitted: 109, Effective: 110, Inheritable: 111, Groups: 112},
	After:  bpf.WireCredentials{Uid: 121, Euid: 122, Suid: 123, Fsuid: 124, Gid: 125, Egid: 126, Sgid: 127, Fsgid: 128, Permitted: 129, Effective: 130, Inheritable: math.MaxUint64, Groups: 132},
}

func TestDecodeSecurityAction(t *testing.T) {
	const resolved, pathCut, baseCut = event.SecurityPathResolved, event.SecurityPathTruncated, event.SecurityBaseTruncated
	for _, tt := range []struct {
		name             string
		flags            uint32
		path, base, text string
		want             string
		none             bool
	}{
		{name: "resolved", flags: resolved, path: "/etc/shadow", want: "/etc/shadow"},
		{name: "resolved to the root", flags: resolved, want: "/"},
		{name: "resolved, without its beginning", flags: resolved | pathCut, path: "/b/c", want: "b/c"},
		{name: "resolved, nothing of it", flags: resolved | pathCut, want: "", none: true},
		{name: "not UTF-8", flags: resolved, path: "/caf\xe9", want: "/caf\xe9"},
		{name: "absolute", path: "/proc/../etc/shadow", want: "/proc/../etc/shadow"},
		{name: "absolute, without its end", flags: pathCut, path: "/etc/sh", want: "/etc/sh"},
		{name: "relative", path: "../shadow", base: "/etc/ssh", want: "/etc/ssh/../shadow"},
		{name: "relative to something far down", flags: baseCut, path: "x", base: "/b", want: "b/x"},
		{name: "relative to the root", path: "shadow", want: "/shadow"},
		{name: "with a text", path: "/mnt", text: "proc\x00proc\x00", want: "/mnt"},
		{name: "no file", none: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fixed := action
			fixed.Flags = tt.flags
			record := eventtest.Security(fixed, tt.path, tt.base, tt.text)
			got, err := event.DecodeSecurityAction(record)
			require.NoError(t, err)
			assert.Equal(t, tt.want, string(got.AppendPath(nil)))
			assert.Equal(t, !tt.none, got.HasPath())
			assert.Equal(t, tt.text, string(got.Text))
			fixed.Header.Type = uint16(event.TypeSecurityAction)
			fixed.PathSize, fixed.BaseSize, fixed.TextSize = got.PathSize, got.BaseSize, got.TextSize
			assert.Equal(t, fixed, *got.WireSecurityAction)
			assert.True(t, got.Is(event.SecurityFileAccess))
			assert.True(t, got.Denied())

			allocations := testing.AllocsPerRun(10, func() { _, _ = event.DecodeSecurityAction(record) })
			assert.Zero(t, allocations)
		})
	}
}

func TestDecodeSecurityActionRefuses(t *testing.T) {
	mount := uint16(event.SecurityMount)
	for _, tt := range []struct {
		name  string
		fixed bpf.WireSecurityAction
		tail  string
		want  string
	}{
		{"no kind", bpf.WireSecurityAction{}, "", "a security_action of kind 0"},
		{"a kind to come", bpf.WireSecurityAction{Kind: uint16(event.SecurityKindCount)}, "", "a security_action of kind 17"},
		{"more than there is", bpf.WireSecurityAction{Kind: mount, PathSize: 2, BaseSize: 1, TextSize: 1}, "abc", "parts of 2, 1 and 1 bytes in a security_action tail of 3"},
		{"less than there is", bpf.WireSecurityAction{Kind: mount, PathSize: 2}, "abc", "parts of 2, 0 and 0 bytes in a security_action tail of 3"},
		{"the most", bpf.WireSecurityAction{Kind: mount, PathSize: math.MaxUint16, BaseSize: math.MaxUint16, TextSize: math.MaxUint16}, "abc", "bytes in a security_action tail of 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := event.DecodeSecurityAction(eventtest.Record(tt.fixed, []byte(tt.tail)))
			assert.ErrorIs(t, err, event.ErrUndecodable)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestSecurityText(t *testing.T) {
	for _, tt := range []struct{ text, first, second string }{
		{"", "", ""},
		{"/dev/sda\x00ext4\x00", "/dev/sda", "ext4"},
		{"\x00tmpfs\x00", "", "tmpfs"},
		{"cut off", "cut off", ""},
	} {
		got, err := event.DecodeSecurityAction(eventtest.Security(action, "", "", tt.text))
		require.NoError(t, err)
		first, second := got.Strings()
		assert.Equal(t, tt.first, string(first))
		assert.Equal(t, tt.second, string(second))
		_, isPeer := got.Peer()
		assert.False(t, isPeer)
	}
	address := eventtest.Address("192.0.2.1")
	got, err := event.DecodeSecurityAction(eventtest.Security(action, "", "", string(address[:])))
	require.NoError(t, err)
	peer, isPeer := got.Peer()
	assert.True(t, isPeer)
	assert.Equal(t, address, peer)
}

// The names are those of the contract with users.
func TestSecurityNames(t *testing.T) {
	var names []string
	for _, kind := range event.SecurityKinds() {
		names = append(names, kind.String())
	}
	assert.Equal(t, []string{
		"file.sensitive_access", "file.setuid_bit", "process.credentials_changed", "process.capability_used", "process.ptrace",
		"process.memory_write", "process.fileless_exec", "process.shell_on_socket", "process.setuid_exec", "namespace.changed", "mount",
		"kernel.module_load", "kernel.bpf", "network.raw_socket", "kernel.log_read", "kernel.kexec",
	}, names)
	assert.Empty(t, event.SecurityKind(math.MaxUint16).String())
	assert.Empty(t, event.SecurityOperation(math.MaxUint16).String())
	assert.Empty(t, event.OperationNone.String())
	for operation := event.OperationOpen; operation <= event.OperationKexecFileLoad; operation++ {
		assert.NotEmpty(t, operation.String(), "%d", operation)
	}
}

func TestKernelNames(t *testing.T) {
	assert.Equal(t, "CAP_SYS_ADMIN", event.CapabilityName(21))
	assert.Equal(t, "63", event.CapabilityName(63))
	assert.Equal(t, []string{"CAP_CHOWN", "CAP_SYS_MODULE", "63"}, event.CapabilityNames(1|1<<16|1<<63))
	for name, want := range map[string]uint8{"CAP_SYS_MODULE": 16, "sys_module": 16, "cap_Chown": 0, "checkpoint_restore": 40} {
		number, ok := event.CapabilityNumber(name)
		assert.True(t, ok, name)
		assert.Equal(t, want, number, name)
	}
	for _, name := range []string{"", "cap_", "16", "SYS_MODULES"} {
		_, ok := event.CapabilityNumber(name)
		assert.False(t, ok, name)
	}
	assert.Equal(t, "BPF_PROG_LOAD", event.BPFCommand(event.BPFProgramLoad))
	assert.Equal(t, "9999", event.BPFCommand(9999))
	assert.Equal(t, "BPF_PROG_TYPE_LSM", event.BPFProgramType(29))
	assert.Equal(t, "read_all", event.SyslogAction(3))
	assert.Equal(t, "PTRACE_ATTACH", event.PtraceRequest(16))
	assert.Equal(t, "17408", event.PtraceRequest(17408))
	assert.Equal(t, []string{"mnt", "pid", "user"}, event.Namespaces(0x20000000|0x00020000|0x10000000|0x100))
	assert.Equal(t, []string{"ro", "bind", "rec"}, event.MountFlags(1|1<<12|1<<14))
	assert.Equal(t, "inet6", event.SocketFamily(10))
	assert.Equal(t, "16", event.SocketFamily(16))
	assert.Equal(t, "raw", event.SocketType(3))
	assert.Equal(t, "0", event.SocketType(0))
	assert.Equal(t, "EACCES", event.ErrnoName(13))
	assert.Empty(t, event.ErrnoName(0))
	assert.Equal(t, "_OTHER", event.ErrnoName(-1))
	assert.Equal(t, "512", event.ErrnoName(512))
	for flags, want := range map[uint64]string{0: "read", 1: "write", 2: "read_write", 3: "ioctl", 0x8000: "read", 0x241: "write", 0x200000: "path", 0x200001: "path"} {
		assert.Equal(t, want, event.OpenAccess(flags), "%#x", flags)
		assert.Equal(t, want == "write" || want == "read_write", event.OpensToWrite(flags), "%#x", flags)
	}
}
