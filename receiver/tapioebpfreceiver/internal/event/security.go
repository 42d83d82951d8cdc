// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

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

// SecurityKindCount is room for all kinds; the first number stands for none.
const SecurityKindCount = SecurityKind(bpf.WireSecurityKindSECURITY_KEXEC) + 1

// securityNames are those of the rules, and with a prefix those of spans and events.
var securityNames = [SecurityKindCount]string{
	SecurityFileAccess:    "file.sensitive_access",
	SecuritySetuidBit:     "file.setuid_bit",
	SecurityCredentials:   "process.credentials_changed",
	SecurityCapability:    "process.capability_used",
	SecurityPtrace:        "process.ptrace",
	SecurityMemoryWrite:   "process.memory_write",
	SecurityFilelessExec:  "process.fileless_exec",
	SecurityShellOnSocket: "process.shell_on_socket",
	SecuritySetuidExec:    "process.setuid_exec",
	SecurityNamespace:     "namespace.changed",
	SecurityMount:         "mount",
	SecurityModuleLoad:    "kernel.module_load",
	SecurityBPF:           "kernel.bpf",
	SecurityRawSocket:     "network.raw_socket",
	SecurityKernelLog:     "kernel.log_read",
	SecurityKexec:         "kernel.kexec",
}

// String is the name of the kind's rule; empty for a number that is no kind.
func (k SecurityKind) String() string {
	if k >= SecurityKindCount {
		return ""
	}
	return securityNames[k]
}

// SecurityKinds are all, in the order of their numbers.
func SecurityKinds() []SecurityKind {
	kinds := make([]SecurityKind, 0, SecurityKindCount)
	for kind := SecurityFileAccess; kind < SecurityKindCount; kind++ {
		kinds = append(kinds, kind)
	}
	return kinds
}

// SecurityOperation is what was called.
type SecurityOperation uint16

// Operations that a kind's values depend on.
const (
	OperationNone            = SecurityOperation(bpf.WireSecurityOperationOPERATION_NONE)
	OperationOpen            = SecurityOperation(bpf.WireSecurityOperationOPERATION_OPEN)
	OperationChmod           = SecurityOperation(bpf.WireSecurityOperationOPERATION_CHMOD)
	OperationSetuid          = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETUID)
	OperationSetreuid        = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETREUID)
	OperationSetresuid       = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETRESUID)
	OperationSetfsuid        = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETFSUID)
	OperationSetgid          = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETGID)
	OperationSetregid        = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETREGID)
	OperationSetresgid       = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETRESGID)
	OperationSetfsgid        = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETFSGID)
	OperationSetgroups       = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETGROUPS)
	OperationCapset          = SecurityOperation(bpf.WireSecurityOperationOPERATION_CAPSET)
	OperationPtrace          = SecurityOperation(bpf.WireSecurityOperationOPERATION_PTRACE)
	OperationProcessVMWritev = SecurityOperation(bpf.WireSecurityOperationOPERATION_PROCESS_VM_WRITEV)
	OperationUnshare         = SecurityOperation(bpf.WireSecurityOperationOPERATION_UNSHARE)
	OperationSetns           = SecurityOperation(bpf.WireSecurityOperationOPERATION_SETNS)
	OperationClone           = SecurityOperation(bpf.WireSecurityOperationOPERATION_CLONE)
	OperationMount           = SecurityOperation(bpf.WireSecurityOperationOPERATION_MOUNT)
	OperationMoveMount       = SecurityOperation(bpf.WireSecurityOperationOPERATION_MOVE_MOUNT)
	OperationInitModule      = SecurityOperation(bpf.WireSecurityOperationOPERATION_INIT_MODULE)
	OperationFinitModule     = SecurityOperation(bpf.WireSecurityOperationOPERATION_FINIT_MODULE)
	OperationBPF             = SecurityOperation(bpf.WireSecurityOperationOPERATION_BPF)
	OperationSocket          = SecurityOperation(bpf.WireSecurityOperationOPERATION_SOCKET)
	OperationSyslog          = SecurityOperation(bpf.WireSecurityOperationOPERATION_SYSLOG)
	OperationKexecLoad       = SecurityOperation(bpf.WireSecurityOperationOPERATION_KEXEC_LOAD)
	OperationKexecFileLoad   = SecurityOperation(bpf.WireSecurityOperationOPERATION_KEXEC_FILE_LOAD)
	operationCount           = SecurityOperation(bpf.WireSecurityOperationOPERATION_COUNT)
)

var operationNames = [operationCount]string{
	OperationOpen:            "open",
	OperationChmod:           "chmod",
	OperationSetuid:          "setuid",
	OperationSetreuid:        "setreuid",
	OperationSetresuid:       "setresuid",
	OperationSetfsuid:        "setfsuid",
	OperationSetgid:          "setgid",
	OperationSetregid:        "setregid",
	OperationSetresgid:       "setresgid",
	OperationSetfsgid:        "setfsgid",
	OperationSetgroups:       "setgroups",
	OperationCapset:          "capset",
	OperationPtrace:          "ptrace",
	OperationProcessVMWritev: "process_vm_writev",
	OperationUnshare:         "unshare",
	OperationSetns:           "setns",
	OperationClone:           "clone",
	OperationMount:           "mount",
	OperationMoveMount:       "move_mount",
	OperationInitModule:      "init_module",
	OperationFinitModule:     "finit_module",
	OperationBPF:             "bpf",
	OperationSocket:          "socket",
	OperationSyslog:          "syslog",
	OperationKexecLoad:       "kexec_load",
	OperationKexecFileLoad:   "kexec_file_load",
}

// String is the call's name; empty where there was no call of its own.
func (o SecurityOperation) String() string {
	if o >= operationCount {
		return ""
	}
	return operationNames[o]
}

// What a security_action says of its own parts.
const (
	SecurityPathResolved   = uint32(bpf.WireSecurityFlagsSECURITY_PATH_RESOLVED)
	SecurityPathTruncated  = uint32(bpf.WireSecurityFlagsSECURITY_PATH_TRUNCATED)
	SecurityBaseTruncated  = uint32(bpf.WireSecurityFlagsSECURITY_BASE_TRUNCATED)
	SecurityTextTruncated  = uint32(bpf.WireSecurityFlagsSECURITY_TEXT_TRUNCATED)
	SecurityUnlinked       = uint32(bpf.WireSecurityFlagsSECURITY_UNLINKED)
	SecurityHasCredentials = uint32(bpf.WireSecurityFlagsSECURITY_HAS_CREDENTIALS)
	SecurityHasAfter       = uint32(bpf.WireSecurityFlagsSECURITY_HAS_AFTER)
	SecurityHasTarget      = uint32(bpf.WireSecurityFlagsSECURITY_HAS_TARGET)
	SecurityPathUnreadable = uint32(bpf.WireSecurityFlagsSECURITY_PATH_UNREADABLE)
	SecurityHardLink       = uint32(bpf.WireSecurityFlagsSECURITY_HARD_LINK)
)

// SecurityAction is an action that was done, or refused.
type SecurityAction struct {
	*bpf.WireSecurityAction
	path []byte
	base ReversePath
	// Text by kind, with its NULs: see bpf/event.h.
	Text []byte
}

// DecodeSecurityAction views a record as a SecurityAction.
func DecodeSecurityAction(record []byte) (SecurityAction, error) {
	fixed, err := view[bpf.WireSecurityAction](record, false)
	if err != nil {
		return SecurityAction{}, err
	}
	if SecurityKind(fixed.Kind).String() == "" {
		return SecurityAction{}, fmt.Errorf("%w: a security_action of kind %d", ErrUndecodable, fixed.Kind)
	}
	tail := record[unsafe.Sizeof(*fixed):]
	path, base, text := int(fixed.PathSize), int(fixed.BaseSize), int(fixed.TextSize)
	if path+base+text != len(tail) {
		return SecurityAction{}, fmt.Errorf("%w: parts of %d, %d and %d bytes in a security_action tail of %d", ErrUndecodable, path, base, text, len(tail))
	}
	return SecurityAction{
		WireSecurityAction: fixed,
		path:               tail[:path],
		base:               tail[path : path+base],
		Text:               tail[path+base:],
	}, nil
}

// Is says that the action is of a kind.
func (a *SecurityAction) Is(kind SecurityKind) bool { return SecurityKind(a.Kind) == kind }

// Has says that all of the flags are set.
func (a *SecurityAction) Has(flags uint32) bool { return a.Flags&flags == flags }

// Denied says that the kernel refused it.
func (a *SecurityAction) Denied() bool { return a.Error != 0 }

// HasPath says that there is a path to show.
func (a *SecurityAction) HasPath() bool {
	return len(a.path) > 0 || a.Has(SecurityPathResolved) && !a.Has(SecurityPathTruncated)
}

// AppendPath adds the path in its usual form to dst. One that is not resolved is as the caller gave it, behind
// the directory that it starts at, if that is known. A directory that was cut off lacks its beginning and the
// leading slash.
func (a *SecurityAction) AppendPath(dst []byte) []byte {
	if a.Has(SecurityPathResolved) {
		return ReversePath(a.path).Append(dst, a.Has(SecurityPathTruncated))
	}
	given, _, _ := bytes.Cut(a.path, []byte{0})
	if len(a.base) > 0 || a.Has(SecurityBaseTruncated) {
		dst = a.base.Append(dst, a.Has(SecurityBaseTruncated))
		if len(given) > 0 {
			dst = append(dst, '/')
		}
	} else if len(given) > 0 && given[0] != '/' {
		dst = append(dst, '/') // the root has no components
	}
	return append(dst, given...)
}

// AppendObject adds all that says what the action was done to, but for the values, so that it can be compared.
func (a *SecurityAction) AppendObject(dst []byte) []byte {
	dst = append(append(dst, a.path...), a.base...)
	return append(dst, a.Text...)
}

// Strings of the text, of which each ends with NUL: the first two.
func (a *SecurityAction) Strings() (first, second []byte) {
	first, rest, _ := bytes.Cut(a.Text, []byte{0})
	second, _, _ = bytes.Cut(rest, []byte{0})
	return first, second
}

// Peer is the text of a shell on a socket.
func (a *SecurityAction) Peer() (address [16]byte, ok bool) {
	if len(a.Text) != len(address) {
		return address, false
	}
	copy(address[:], a.Text)
	return address, true
}
