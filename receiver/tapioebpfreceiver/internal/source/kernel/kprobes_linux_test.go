// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// TestHooksWithoutKprobes: where the kernel has no kprobes, or they were turned off, every hook is had, and runs.
func TestHooksWithoutKprobes(t *testing.T) {
	requireBPF(t)
	turnKprobesOff(t)
	dir := publicFolder(t)
	require.NoError(t, securityFolder(dir))
	w := newOwnWorld(t, func(o *Options) {
		*o = confinedOptions(o.Cgroups[0])
		o.Security = SecurityOptions{Kinds: event.SecurityKinds(), Paths: []string{dir + "/secret"}, SyscallTracepoints: true}
	})
	for _, c := range w.source.Capabilities() {
		if !w.source.features.functions && slices.Contains([]string{familySecurity, familyCNI, familyEtcd}, c.Family) {
			continue // a kernel without fentry lacks some of these
		}
		assert.Equal(t, source.Attached, c.State, "%s: %s", c.Hook, c.Reason)
	}
	assert.Equal(t, w.source.features.functions, hasHook(w, "fexit/path_mount"), "fentry and fexit do not need kprobes")
	command := w.workload("security", "open", dir)
	require.NoError(t, command.Run())
	compareActions(t, w, uint32(command.Process.Pid), dir, []did{{kind: event.SecurityFileAccess, call: "open", path: "secret"}})
	w.await(event.TypeProcessExit, 1)
}

// turnKprobesOff does so until the test ends, if the kernel has any. That is a setting of the whole machine, so it must
// be a guest.
func turnKprobesOff(t *testing.T) {
	t.Helper()
	runs, err := kprobeRuns(t)
	if err != nil {
		t.Logf("this kernel has no kprobes to turn off: %v", err)
		return
	}
	require.EqualValues(t, 1, runs, "kprobes are on")
	if os.Getenv("TAPIO_GUEST") != "1" {
		t.Skip("kprobes are on here, and others may use them: they are turned off in guests only (make test-kernels)")
	}
	const enabled = "/sys/kernel/debug/kprobes/enabled"
	require.NoError(t, os.WriteFile(enabled, []byte("0"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(enabled, []byte("1"), 0)) })
	runs, err = kprobeRuns(t)
	require.NoError(t, err)
	require.Zero(t, runs, "kprobes are off")
}

// kprobeRuns says how often a program of the kind that we have none of runs at one call.
func kprobeRuns(t *testing.T) (runs uint64, err error) {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	require.NoError(t, err)
	defer counts.Close()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R1, counts.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		return 0, err
	}
	defer program.Close()
	probe, err := link.Kprobe(callPrefix+"getpgid", program, nil)
	if err != nil {
		return 0, err
	}
	defer probe.Close()
	_, err = unix.Getpgid(0)
	require.NoError(t, err)
	return runs, counts.Lookup(uint32(0), &runs)
}
