// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// callPrefix is that of the functions for system calls: arch/x86/include/asm/syscall_wrapper.h.
const callPrefix = "__x64_sys_"

// oldOpens and oldChmods are calls that newer architectures do not have.
var (
	oldOpens = []call{
		{name: "open", number: unix.SYS_OPEN, does: uint16(bpf.WireSecurityOperationOPERATION_OPEN), buffered: true},
		{name: "creat", number: unix.SYS_CREAT, does: uint16(bpf.WireSecurityOperationOPERATION_OPEN), form: formMade, buffered: true},
	}
	oldChmods = []call{
		{name: "chmod", number: unix.SYS_CHMOD, does: uint16(bpf.WireSecurityOperationOPERATION_CHMOD), buffered: true},
	}
)
