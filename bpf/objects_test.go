// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kind is what the kernel is told of where a program belongs.
type kind struct {
	program ebpf.ProgramType
	attach  ebpf.AttachType
}

// kinds are all that there are. None is a kprobe, kretprobe, uprobe or tracepoint of perf (BPF_PROG_TYPE_KPROBE,
// BPF_PROG_TYPE_TRACEPOINT), nor an LSM program, which kernels may be built without or may refuse.
var kinds = map[kind]bool{
	{ebpf.Tracing, ebpf.AttachTraceRawTp}:               true,
	{ebpf.Tracing, ebpf.AttachTraceFEntry}:              true,
	{ebpf.Tracing, ebpf.AttachTraceFExit}:               true,
	{ebpf.Tracing, ebpf.AttachTraceIter}:                true,
	{ebpf.RawTracepoint, ebpf.AttachNone}:               true,
	{ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress}:      true,
	{ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress}:       true,
	{ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate}:  true,
	{ebpf.CGroupSock, ebpf.AttachCgroupInetSockRelease}: true,
}

// TestNoProgramIsAProbe: of every object that is committed, for either order of bytes.
func TestNoProgramIsAProbe(t *testing.T) {
	objects, err := filepath.Glob("*_bpfe[bl].o")
	require.NoError(t, err)
	require.NotEmpty(t, objects)
	found := map[kind]bool{}
	for _, object := range objects {
		spec, err := ebpf.LoadCollectionSpec(object)
		require.NoError(t, err, object)
		require.NotEmpty(t, spec.Programs, object)
		for name, program := range spec.Programs {
			is := kind{program.Type, program.AttachType}
			found[is] = true
			assert.True(t, kinds[is], "%s of %s is a %s to attach by %s", name, object, program.Type, program.AttachType)
		}
	}
	assert.Equal(t, kinds, found)
}
