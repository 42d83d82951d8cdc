// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Programs that see where network namespaces are made.
const (
	programNamespaceMade   = "namespace_made"
	programNamespaceCloned = "namespace_cloned"
)

// What calls do, as bpf/cni.bpf.c numbers it.
const (
	cniWrite   = 1
	cniWritev  = 2
	cniSetns   = 3
	cniUnshare = 4
)

var cniCalls = &callPrograms{
	left: "cni_call_left", anyLeft: "cni_any_call_left",
	calls:       callsOfCNI,
	mayWatchAll: func(options Options) bool { return options.CNI.SyscallTracepoints },
	key:         "families::cni::syscall_tracepoints",
}

// wantsCNIProgram says whether a program, but for those of calls, has something to do.
func wantsCNIProgram(name string, _ Options, features kernelFeatures) bool {
	switch name {
	case programNamespaceMade:
		return features.functions
	case programNamespaceCloned:
		return !features.functions
	default:
		return true
	}
}

func callsOfCNI(_ Options, elsewhere func(program string) bool) []call {
	calls := []call{
		{name: "write", number: unix.SYS_WRITE, does: cniWrite},
		{name: "writev", number: unix.SYS_WRITEV, does: cniWritev},
		{name: "setns", number: unix.SYS_SETNS, does: cniSetns},
	}
	if !elsewhere(programNamespaceMade) {
		calls = append(calls, call{name: "unshare", number: unix.SYS_UNSHARE, does: cniUnshare})
	}
	return calls
}

// fillPluginDirs has the directories as the programs compare them: without a slash at the end, filled up with NUL.
func fillPluginDirs(dirs *ebpf.Map, options CNIOptions) error {
	for _, dir := range options.PluginDirs {
		key := make([]byte, dirs.KeySize())
		copy(key, strings.TrimSuffix(dir, "/"))
		if err := dirs.Put(key, uint8(1)); err != nil {
			return fmt.Errorf("put directory of plugins %s: %w", dir, err)
		}
	}
	return nil
}
