// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// Programs that see, better, what calls would show.
const (
	programFileOpen  = "file_open_done"
	programMount     = "mount_done"
	programRawSocket = "raw_socket_created"
)

// newNames are those that functions have in newer kernels, with the same arguments.
var newNames = map[string]string{"do_filp_open": "do_file_open"} // fs/namei.c, Linux 7

var securityCalls = &callPrograms{
	entered: "security_call_entered", left: "security_call_left",
	anyEntered: "security_any_call_entered", anyLeft: "security_any_call_left",
	calls:       callsOfSecurity,
	mayWatchAll: func(options Options) bool { return options.Security.SyscallTracepoints },
	key:         "families::security::syscall_tracepoints",
}

// kindsOfProgram are those of the kinds of actions that a program reports.
var kindsOfProgram = map[string][]event.SecurityKind{
	programFileOpen:    {event.SecurityFileAccess, event.SecuritySetuidBit, event.SecurityMemoryWrite},
	programMount:       {event.SecurityMount},
	programRawSocket:   {event.SecurityRawSocket},
	"capability_asked": {event.SecurityCapability},
	"process_cloned":   {event.SecurityNamespace},
	"module_loaded":    {event.SecurityModuleLoad},
	"program_started":  {event.SecuritySetuidExec, event.SecurityFilelessExec, event.SecurityShellOnSocket},
}

// reports says whether one of the kinds is wanted.
func (o *SecurityOptions) reports(kinds ...event.SecurityKind) bool {
	return slices.ContainsFunc(kinds, func(kind event.SecurityKind) bool { return slices.Contains(o.Kinds, kind) })
}

// wantsSecurityProgram says whether a program, but for those of calls, has something to do.
func wantsSecurityProgram(name string, options Options, features kernelFeatures) bool {
	security := options.Security
	switch name {
	case programFileOpen, programMount:
		if !features.functions {
			return false
		}
	case programRawSocket:
		if features.functions || security.SyscallTracepoints {
			return false
		}
	case "capability_asked":
		if len(security.Capabilities) == 0 {
			return false
		}
	}
	return security.reports(kindsOfProgram[name]...)
}

const (
	doesOpen        = uint16(bpf.WireSecurityOperationOPERATION_OPEN)
	doesChmod       = uint16(bpf.WireSecurityOperationOPERATION_CHMOD)
	sysFchmodat2    = 452 // include/uapi/asm-generic/unistd.h, as all since 424
	sysOpenByHandle = unix.SYS_OPEN_BY_HANDLE_AT
)

func callsOfSecurity(options Options, elsewhere func(program string) bool) []call {
	wanted := func(kind event.SecurityKind) bool { return options.Security.reports(kind) }
	var calls []call
	add := func(on bool, more ...call) {
		if on {
			calls = append(calls, more...)
		}
	}
	opens := options.Security.reports(kindsOfProgram[programFileOpen]...)
	add(opens && !elsewhere(programFileOpen), oldOpens...)
	add(opens && !elsewhere(programFileOpen),
		call{name: "openat", number: unix.SYS_OPENAT, does: doesOpen, form: formAt, buffered: true},
		call{name: "openat2", number: unix.SYS_OPENAT2, does: doesOpen, form: formHow, buffered: true})
	add(opens, call{name: "open_by_handle_at", number: sysOpenByHandle, does: doesOpen, form: formFD, buffered: true})
	add(wanted(event.SecuritySetuidBit), oldChmods...)
	add(wanted(event.SecuritySetuidBit),
		call{name: "fchmod", number: unix.SYS_FCHMOD, does: doesChmod, form: formFD, buffered: true},
		call{name: "fchmodat", number: unix.SYS_FCHMODAT, does: doesChmod, form: formAt, buffered: true},
		call{name: "fchmodat2", number: sysFchmodat2, does: doesChmod, form: formAt, buffered: true})
	add(wanted(event.SecurityCredentials), callsOfCredentials...)
	add(wanted(event.SecurityPtrace), call{name: "ptrace", number: unix.SYS_PTRACE, does: uint16(bpf.WireSecurityOperationOPERATION_PTRACE)})
	add(wanted(event.SecurityMemoryWrite), call{name: "process_vm_writev", number: unix.SYS_PROCESS_VM_WRITEV, does: uint16(bpf.WireSecurityOperationOPERATION_PROCESS_VM_WRITEV)})
	add(wanted(event.SecurityNamespace),
		call{name: "unshare", number: unix.SYS_UNSHARE, does: uint16(bpf.WireSecurityOperationOPERATION_UNSHARE)},
		call{name: "setns", number: unix.SYS_SETNS, does: uint16(bpf.WireSecurityOperationOPERATION_SETNS)})
	add(wanted(event.SecurityMount) && !elsewhere(programMount), call{name: "mount", number: unix.SYS_MOUNT, does: uint16(bpf.WireSecurityOperationOPERATION_MOUNT), buffered: true})
	add(wanted(event.SecurityMount), call{name: "move_mount", number: unix.SYS_MOVE_MOUNT, does: uint16(bpf.WireSecurityOperationOPERATION_MOVE_MOUNT), buffered: true})
	add(wanted(event.SecurityModuleLoad),
		call{name: "init_module", number: unix.SYS_INIT_MODULE, does: uint16(bpf.WireSecurityOperationOPERATION_INIT_MODULE), buffered: true},
		call{name: "finit_module", number: unix.SYS_FINIT_MODULE, does: uint16(bpf.WireSecurityOperationOPERATION_FINIT_MODULE), buffered: true})
	add(wanted(event.SecurityBPF), call{name: "bpf", number: unix.SYS_BPF, does: uint16(bpf.WireSecurityOperationOPERATION_BPF)})
	add(wanted(event.SecurityRawSocket), call{name: "socket", number: unix.SYS_SOCKET, does: uint16(bpf.WireSecurityOperationOPERATION_SOCKET)})
	add(wanted(event.SecurityKernelLog), call{name: "syslog", number: unix.SYS_SYSLOG, does: uint16(bpf.WireSecurityOperationOPERATION_SYSLOG)})
	add(wanted(event.SecurityKexec),
		call{name: "kexec_load", number: unix.SYS_KEXEC_LOAD, does: uint16(bpf.WireSecurityOperationOPERATION_KEXEC_LOAD), buffered: true},
		call{name: "kexec_file_load", number: unix.SYS_KEXEC_FILE_LOAD, does: uint16(bpf.WireSecurityOperationOPERATION_KEXEC_FILE_LOAD), buffered: true})
	return calls
}

var callsOfCredentials = []call{
	{name: "setuid", number: unix.SYS_SETUID, does: uint16(bpf.WireSecurityOperationOPERATION_SETUID), before: true},
	{name: "setreuid", number: unix.SYS_SETREUID, does: uint16(bpf.WireSecurityOperationOPERATION_SETREUID), before: true},
	{name: "setresuid", number: unix.SYS_SETRESUID, does: uint16(bpf.WireSecurityOperationOPERATION_SETRESUID), before: true},
	{name: "setfsuid", number: unix.SYS_SETFSUID, does: uint16(bpf.WireSecurityOperationOPERATION_SETFSUID), before: true},
	{name: "setgid", number: unix.SYS_SETGID, does: uint16(bpf.WireSecurityOperationOPERATION_SETGID), before: true},
	{name: "setregid", number: unix.SYS_SETREGID, does: uint16(bpf.WireSecurityOperationOPERATION_SETREGID), before: true},
	{name: "setresgid", number: unix.SYS_SETRESGID, does: uint16(bpf.WireSecurityOperationOPERATION_SETRESGID), before: true},
	{name: "setfsgid", number: unix.SYS_SETFSGID, does: uint16(bpf.WireSecurityOperationOPERATION_SETFSGID), before: true},
	{name: "setgroups", number: unix.SYS_SETGROUPS, does: uint16(bpf.WireSecurityOperationOPERATION_SETGROUPS), before: true},
	{name: "capset", number: unix.SYS_CAPSET, does: uint16(bpf.WireSecurityOperationOPERATION_CAPSET), before: true},
}

// --- sensitive paths ---

const (
	bloomWords        = 256                // BLOOM_WORDS, bpf/security.h, as all here
	endsWords         = 64                 // ENDS_WORDS
	chainFromRoot     = 0x2f2f2f2f2f2f2f2f // CHAIN_FROM_ROOT
	chainFromAnywhere = 0x2a2a2a2a2a2a2a2a // CHAIN_FROM_ANYWHERE
	chainBelow        = 0x6c6c6c6c6c6c6c6c // CHAIN_BELOW
	chainFactor       = 0x9e3779b97f4a7c15 // CHAIN_FACTOR
)

func chain(hash, word uint64) uint64 {
	hash = (hash ^ word) * chainFactor
	return hash ^ hash>>32
}

// hashComponent is that of a name, by words of eight bytes in the kernel's order of bytes.
func hashComponent(name string) (hash uint64) {
	for padded := append([]byte(name), make([]byte, 8-len(name)%8)...); len(padded) >= 8; padded = padded[8:] {
		if word := binary.NativeEndian.Uint64(padded); word != 0 {
			hash = chain(hash, word)
		}
	}
	return hash
}

func (p SensitivePath) hash() uint64 {
	hash := uint64(chainFromRoot)
	if p.AnyDepth {
		hash = chainFromAnywhere
	}
	for _, name := range p.Components {
		hash = chain(hash, hashComponent(name))
	}
	if p.Below {
		hash = chain(hash, chainBelow)
	}
	return hash
}

// sensitiveSet is what the programs are told of the sensitive paths.
type sensitiveSet struct {
	numbers     map[uint64]uint32
	filter      [bloomWords]uint64
	lengths     [(maxNameBytes + 1) / 64]uint64
	ends        [endsWords]uint64
	tailDepths  uint32
	belowDepths uint32
}

func newSensitiveSet(paths []string) (sensitiveSet, error) {
	set := sensitiveSet{numbers: map[uint64]uint32{}}
	for number, pattern := range paths {
		path, err := ParseSensitivePath(pattern)
		if err != nil {
			return sensitiveSet{}, err
		}
		hash := path.hash()
		if _, twice := set.numbers[hash]; twice {
			continue
		}
		set.numbers[hash] = uint32(number)
		set.filter[hash>>56&(bloomWords-1)] |= 1 << (hash >> 50 & 63)
		set.note(path)
	}
	return set, nil
}

// note what its components are told by.
func (s *sensitiveSet) note(path SensitivePath) {
	var end uint64
	for _, name := range path.Components {
		s.lengths[len(name)>>6] |= 1 << (len(name) & 63)
		end = hashComponent(name)
	}
	s.ends[end>>58] |= 1 << (end >> 52 & 63)
	switch {
	case path.AnyDepth && path.Below:
		s.belowDepths |= 1 << len(path.Components)
	case path.AnyDepth:
		s.tailDepths |= 1 << len(path.Components)
	}
}

func (s *sensitiveSet) fill(m *ebpf.Map) error {
	for hash, number := range s.numbers {
		if err := m.Put(hash, number); err != nil {
			return fmt.Errorf("fill map sensitive_paths: %w", err)
		}
	}
	return nil
}

func bitsOf[T ~uint8 | ~uint16](numbers []T) (set uint64) {
	for _, number := range numbers {
		set |= 1 << number
	}
	return set
}
