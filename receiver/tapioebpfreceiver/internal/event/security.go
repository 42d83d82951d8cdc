// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import "github.com/tapio-io/otelcol-tapio/bpf"

// SecurityKind is what was done, or tried.
type SecurityKind uint16

// Kinds, as bpf/event.h has them.
const (
	SecurityFileAccess    = SecurityKind(bpf.WireSecurityKindSECURITY_FILE_ACCESS)
	SecuritySetuidBit     = SecurityKind(bpf.WireSecurityKindSECURITY_SETUID_BIT)
	SecurityCredentials   = SecurityKind(bpf.WireSecurityKindSECURITY_CREDENTIALS)
	SecurityCapability    = SecurityKind(bpf.WireSecurityKindSECURITY_CAPABILITY)
	SecurityPtrace        = SecurityKind(bpf.WireSecurityKindSECURITY_PTRACE)
	SecurityMemoryWrite   = SecurityKind(bpf.WireSecurityKindSECURITY_MEMORY_WRITE)
	SecurityFilelessExec  = SecurityKind(bpf.WireSecurityKindSECURITY_FILELESS_EXEC)
	SecurityShellOnSocket = SecurityKind(bpf.WireSecurityKindSECURITY_SHELL_ON_SOCKET)
	SecuritySetuidExec    = SecurityKind(bpf.WireSecurityKindSECURITY_SETUID_EXEC)
	SecurityNamespace     = SecurityKind(bpf.WireSecurityKindSECURITY_NAMESPACE)
	SecurityMount         = SecurityKind(bpf.WireSecurityKindSECURITY_MOUNT)
	SecurityModuleLoad    = SecurityKind(bpf.WireSecurityKindSECURITY_MODULE_LOAD)
	SecurityBPF           = SecurityKind(bpf.WireSecurityKindSECURITY_BPF)
	SecurityRawSocket     = SecurityKind(bpf.WireSecurityKindSECURITY_RAW_SOCKET)
	SecurityKernelLog     = SecurityKind(bpf.WireSecurityKindSECURITY_KERNEL_LOG)
	SecurityKexec         = SecurityKind(bpf.WireSecurityKindSECURITY_KEXEC)
)
