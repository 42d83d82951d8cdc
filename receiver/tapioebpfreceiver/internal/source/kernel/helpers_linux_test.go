// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readers are the kernel's helpers that programs may call: they read, or write to what is the programs' own (maps, rings, what
// is kept with a socket, the output of an iterator). None changes a packet, a socket or a process, or sends a signal.
var readers = map[asm.BuiltinFunc]bool{
	asm.FnGetCurrentCgroupId: true, asm.FnGetCurrentPidTgid: true, asm.FnGetCurrentTask: true, asm.FnGetSmpProcessorId: true, asm.FnGetSocketCookie: true, asm.FnKtimeGetBootNs: true,
	asm.FnProbeReadKernel: true, asm.FnProbeReadKernelStr: true, asm.FnProbeReadUser: true, asm.FnProbeReadUserStr: true, asm.FnSkFullsock: true, asm.FnSkbLoadBytes: true, asm.FnSockFromFile: true,
	asm.FnForEachMapElem: true, asm.FnMapDeleteElem: true, asm.FnMapLookupElem: true, asm.FnMapPopElem: true, asm.FnMapPushElem: true, asm.FnMapUpdateElem: true,
	asm.FnRingbufOutput: true, asm.FnRingbufQuery: true, asm.FnRingbufReserve: true, asm.FnRingbufSubmit: true, asm.FnSeqWrite: true, asm.FnSkStorageGet: true,
}

// TestProgramsOnlyRead: whoever adds a helper here says that it only reads.
func TestProgramsOnlyRead(t *testing.T) {
	called := map[asm.BuiltinFunc]bool{}
	for _, o := range objects {
		spec, err := o.load()
		require.NoError(t, err)
		require.NotEmpty(t, spec.Programs, o.name)
		for name, program := range spec.Programs {
			for _, instruction := range program.Instructions {
				if !instruction.IsBuiltinCall() {
					continue
				}
				helper := asm.BuiltinFunc(instruction.Constant)
				called[helper] = true
				assert.True(t, readers[helper], "%s of %s calls %s", name, o.name, helper)
			}
		}
	}
	for helper := range readers {
		assert.True(t, called[helper], "nothing calls %s", helper)
	}
}
