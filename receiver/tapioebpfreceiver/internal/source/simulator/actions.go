// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
)

// Numbers of Linux that actions have; the names are the kernel's. (The package unix has them on Linux only.)
const (
	errorPermission = 1  // EPERM
	errorAccess     = 13 // EACCES

	openFlags = 0o2100000 // O_RDONLY, O_CLOEXEC and O_LARGEFILE

	// noSensitivePath: which file it is, and whether that is one of the list, is not known where it was not opened.
	noSensitivePath = 0xffffffff

	modeRegular = 0o100000 // S_IFREG
	modeSetuid  = 0o4000   // S_ISUID

	namespaceMount  = 0x0002_0000 // CLONE_NEWNS
	namespaceCgroup = 0x0200_0000 // CLONE_NEWCGROUP
	namespaceUTS    = 0x0400_0000 // CLONE_NEWUTS
	namespaceIPC    = 0x0800_0000 // CLONE_NEWIPC
	namespaceUser   = 0x1000_0000 // CLONE_NEWUSER
	namespacePID    = 0x2000_0000 // CLONE_NEWPID
	namespaceNet    = 0x4000_0000 // CLONE_NEWNET

	mountReadOnly = 0x1      // MS_RDONLY
	mountNoSuid   = 0x2      // MS_NOSUID
	mountNoDev    = 0x4      // MS_NODEV
	mountNoExec   = 0x8      // MS_NOEXEC
	mountBind     = 0x1000   // MS_BIND
	mountRec      = 0x4000   // MS_REC
	mountPrivate  = 0x4_0000 // MS_PRIVATE
	mountSlave    = 0x8_0000 // MS_SLAVE

	ptraceAttach = 16 // PTRACE_ATTACH

	bpfProgramLoad         = 5  // BPF_PROG_LOAD
	bpfProgramKprobe       = 2  // BPF_PROG_TYPE_KPROBE
	bpfProgramCgroupDevice = 15 // BPF_PROG_TYPE_CGROUP_DEVICE

	familyInet   = 2      // AF_INET
	familyPacket = 17     // AF_PACKET
	socketRaw    = 3      // SOCK_RAW
	protocolICMP = 1      // IPPROTO_ICMP
	protocolAll  = 0x0300 // ETH_P_ALL, in network byte order

	logReadAll = 3 // SYSLOG_ACTION_READ_ALL
)

// Capabilities, bit by number.
const (
	capabilitySetuid = 1 << 7
	allCapabilities  = 1<<41 - 1 // up to CAP_CHECKPOINT_RESTORE, since Linux 5.9
	// containerCapabilities are those that containerd leaves to a container's root.
	containerCapabilities = 0xa804_25fb
)

func rootWith(capabilities uint64) bpf.WireCredentials {
	return bpf.WireCredentials{Permitted: capabilities, Effective: capabilities}
}

func userWith(id uint32) bpf.WireCredentials {
	return bpf.WireCredentials{Uid: id, Euid: id, Suid: id, Fsuid: id, Gid: id, Egid: id, Sgid: id, Fsgid: id}
}

// becomeRoot is what a set-user-ID program of root does to who runs it: all but the real user id is root's.
func (p *process) becomeRoot() {
	capabilities := uint64(allCapabilities)
	if p.pod != nil {
		capabilities = containerCapabilities
	}
	p.credentials.Euid, p.credentials.Suid, p.credentials.Fsuid = 0, 0, 0
	p.credentials.Permitted, p.credentials.Effective = capabilities, capabilities
}

// action that matters for security: what struct security_action has of it.
type action struct {
	kind          event.SecurityKind
	operation     bpf.WireSecurityOperation
	errno         int32
	flags         bpf.WireSecurityFlags
	values        [4]uint64
	target        *process
	file          string // absolute; empty: none
	isAsked       bool   // file is as the caller named it, and not what was found
	text          []byte
	before, after *bpf.WireCredentials
}

func securityRecord(p *process, time uint64, a *action) []byte {
	record := bpf.WireSecurityAction{
		Header: p.header(event.TypeSecurityAction, time), Process: p.identity(), Thread: p.pid,
		Kind: uint16(a.kind), Operation: uint16(a.operation), Error: a.errno, Values: a.values,
	}
	flags := a.flags
	var path []byte
	switch {
	case a.file == "":
	case a.isAsked:
		path = append([]byte(a.file), 0)
	default:
		path, flags = reversePath(a.file), flags|bpf.WireSecurityFlagsSECURITY_PATH_RESOLVED
	}
	if a.target != nil {
		record.TargetPid, record.TargetStartTime = a.target.pid, a.target.start
		flags |= bpf.WireSecurityFlagsSECURITY_HAS_TARGET
	}
	if a.after != nil {
		record.After = *a.after
		flags |= bpf.WireSecurityFlagsSECURITY_HAS_AFTER
	}
	if a.before != nil {
		record.Before = *a.before
		flags = flags&^bpf.WireSecurityFlagsSECURITY_HAS_AFTER | bpf.WireSecurityFlagsSECURITY_HAS_CREDENTIALS
	}
	record.Flags, record.PathSize, record.TextSize = uint32(flags), uint16(len(path)), uint16(len(a.text))
	return encode(&record, path, a.text)
}

// watched is what the kernel would be asked to report.
type watched struct {
	kinds []event.SecurityKind
	paths []kernel.SensitivePath
}

func watch(options kernel.SecurityOptions) (watched, error) {
	w := watched{kinds: options.Kinds}
	for _, pattern := range options.Paths {
		parsed, err := kernel.ParseSensitivePath(pattern)
		if err != nil {
			return watched{}, err
		}
		w.paths = append(w.paths, parsed)
	}
	return w, nil
}

// number of the first configured path that a file fits.
func (w *watched) number(file string) (number int, found bool) {
	components := strings.Split(file[1:], "/")
	number = slices.IndexFunc(w.paths, func(p kernel.SensitivePath) bool { return fits(p, components) })
	return number, number >= 0
}

func fits(pattern kernel.SensitivePath, components []string) bool {
	n := len(pattern.Components)
	first, last := 0, len(components)-n // where it may begin
	if pattern.Below {
		last-- // there is something below
	} else {
		first = last // it ends where the path does
	}
	if !pattern.AnyDepth {
		last = min(last, 0)
	}
	for at := max(first, 0); at <= last; at++ {
		if slices.Equal(components[at:at+n], pattern.Components) {
			return true
		}
	}
	return false
}

// act has a process do something, or try to.
func (s *story) act(p *process, now uint64, a *action) {
	if slices.Contains(s.watched.kinds, a.kind) {
		s.tell(event.FamilySecurity, now, securityRecord(p, now, a))
	}
}

// --- what processes do --------------------------------------------------------------------------
//
// Each of these takes a short time, and says when it is over.

func (s *story) shortly(now uint64) uint64 { return now + s.between(20*microsecond, 400*microsecond) }

// open a file for reading.
func (s *story) open(p *process, now uint64, file string) uint64 {
	if number, found := s.watched.number(file); found {
		s.act(p, now, &action{
			kind: event.SecurityFileAccess, operation: bpf.WireSecurityOperationOPERATION_OPEN, file: file,
			values: [4]uint64{openFlags, inode(p, file), modeOf(file), uint64(number)},
		})
	}
	return s.shortly(now)
}

// openInVain is a file that a process may not read. All of these are reported: whether it is a sensitive one says
// only its name.
func (s *story) openInVain(p *process, now uint64, file string) uint64 {
	s.act(p, now, &action{
		kind: event.SecurityFileAccess, operation: bpf.WireSecurityOperationOPERATION_OPEN, file: file, isAsked: true, errno: errorAccess,
		values: [4]uint64{openFlags, 0, 0, noSensitivePath},
	})
	return s.shortly(now)
}

// try is an action without an object, which is refused where there is an errno.
func (s *story) try(p *process, now uint64, kind event.SecurityKind, operation bpf.WireSecurityOperation, errno int32, values ...uint64) uint64 {
	a := action{kind: kind, operation: operation, errno: errno}
	copy(a.values[:], values)
	s.act(p, now, &a)
	return s.shortly(now)
}

// attach a process to another one of its container, which it knows by the number that it has there.
func (s *story) attach(p, target *process, now uint64) uint64 {
	s.act(p, now, &action{
		kind: event.SecurityPtrace, operation: bpf.WireSecurityOperationOPERATION_PTRACE, target: target,
		values: [4]uint64{ptraceAttach, uint64(target.vpid)},
	})
	return s.shortly(now)
}

// writeMemory of another process of its container. The kernel side knows only the number that it has there.
func (s *story) writeMemory(p, target *process, now, bytes uint64) uint64 {
	return s.try(p, now, event.SecurityMemoryWrite, bpf.WireSecurityOperationOPERATION_PROCESS_VM_WRITEV, 0, bytes, uint64(target.vpid))
}

// mounted is a file system and where it goes.
type mounted struct {
	source, target, kind string
	flags                uint64
}

func (s *story) mount(p *process, now uint64, errno int32, of mounted) uint64 {
	s.act(p, now, &action{
		kind: event.SecurityMount, operation: bpf.WireSecurityOperationOPERATION_MOUNT, errno: errno, file: of.target,
		text: []byte(of.source + "\x00" + of.kind + "\x00"), values: [4]uint64{of.flags},
	})
	return s.shortly(now)
}

// clonedInto is what is seen of a process, before it does anything, whose parent had it begin in namespaces of its own.
func (s *story) clonedInto(namespaces uint64) func(child *process, now uint64) uint64 {
	return func(child *process, now uint64) uint64 {
		s.act(child.parent, now, &action{
			kind: event.SecurityNamespace, operation: bpf.WireSecurityOperationOPERATION_CLONE, target: child, values: [4]uint64{namespaces},
		})
		return s.shortly(now)
	}
}

// become has a process take other credentials.
func (s *story) become(p *process, now uint64, operation bpf.WireSecurityOperation, change func(*bpf.WireCredentials)) uint64 {
	before := p.credentials
	change(&p.credentials)
	s.act(p, now, &action{kind: event.SecurityCredentials, operation: operation, before: &before, after: &p.credentials})
	return s.shortly(now)
}

// setuid is what setuid(2) does where the effective user is root: all ids change, and those who are root in none
// have no capabilities any more.
func (s *story) setuid(p *process, now uint64, id uint32) uint64 {
	return s.become(p, now, bpf.WireSecurityOperationOPERATION_SETUID, func(c *bpf.WireCredentials) {
		c.Uid, c.Euid, c.Suid, c.Fsuid = id, id, id, id
		if id != 0 {
			c.Permitted, c.Effective = 0, 0
		}
	})
}

// becomeInVain is a user who has no right to be another one.
func (s *story) becomeInVain(p *process, now uint64) uint64 {
	same := p.credentials
	s.act(p, now, &action{
		kind: event.SecurityCredentials, operation: bpf.WireSecurityOperationOPERATION_SETUID, errno: errorPermission, before: &same, after: &same,
	})
	return s.shortly(now)
}

func (s *story) setgid(p *process, now uint64, id uint32) uint64 {
	return s.become(p, now, bpf.WireSecurityOperationOPERATION_SETGID, func(c *bpf.WireCredentials) {
		c.Gid, c.Egid, c.Sgid, c.Fsgid = id, id, id, id
	})
}

// actionsAtExec are what can be seen when a program is started.
func actionsAtExec(p *process, of *program) (found []*action) {
	if of.setuid {
		found = append(found, &action{
			kind: event.SecuritySetuidExec, file: p.exe, after: &p.credentials,
			values: [4]uint64{inode(p, p.exe), modeRegular | modeSetuid | 0o755, 0, 0},
		})
	}
	if of.unlinked {
		found = append(found, &action{
			kind: event.SecurityFilelessExec, file: p.exe, flags: bpf.WireSecurityFlagsSECURITY_UNLINKED, after: &p.credentials,
			values: [4]uint64{inode(p, p.exe), modeRegular | 0o777},
		})
	}
	if of.stdin != nil {
		found = append(found, &action{
			kind: event.SecurityShellOnSocket, file: p.exe, text: of.stdin.address[:], after: &p.credentials,
			values: [4]uint64{uint64(of.stdin.port), familyInet},
		})
	}
	return found
}

// inode number of a file: the same whenever it is opened, and another one in each container.
func inode(p *process, file string) uint64 {
	hash := fnv.New64a()
	hash.Write(binary.LittleEndian.AppendUint64(nil, p.cgroup))
	hash.Write([]byte(file))
	return hash.Sum64()>>40 + 1<<17
}

// modeOf a file that is watched: keys are their owners' alone.
func modeOf(file string) uint64 {
	switch {
	case file == shadow:
		return modeRegular | 0o640
	case file == sudoers:
		return modeRegular | 0o440
	case strings.HasSuffix(file, "/token"):
		return modeRegular | 0o644
	default:
		return modeRegular | 0o600
	}
}
