// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// about is what is said of all actions of a kind.
type about struct {
	span, event string
	category    string // a tactic of MITRE ATT&CK, in words
	technique   string // of MITRE ATT&CK; empty: none fits all of them
}

// abouts by kind.
var abouts = func() (all [event.SecurityKindCount]about) {
	const (
		credentialAccess = "credential_access"
		defenseEvasion   = "defense_evasion"
		discovery        = "discovery"
		escalation       = "privilege_escalation"
		execution        = "execution"
		impact           = "impact"
		persistence      = "persistence"
	)
	all = [event.SecurityKindCount]about{
		event.SecurityFileAccess:    {category: credentialAccess},
		event.SecuritySetuidBit:     {category: escalation, technique: "T1548.001"}, // Setuid and Setgid
		event.SecurityCredentials:   {category: escalation},
		event.SecurityCapability:    {category: escalation},
		event.SecurityPtrace:        {category: defenseEvasion, technique: "T1055.008"}, // Ptrace System Calls
		event.SecurityMemoryWrite:   {category: defenseEvasion, technique: "T1055"},     // Process Injection
		event.SecurityFilelessExec:  {category: defenseEvasion},
		event.SecurityShellOnSocket: {category: execution, technique: "T1059.004"},  // Unix Shell
		event.SecuritySetuidExec:    {category: escalation, technique: "T1548.001"}, // Setuid and Setgid
		event.SecurityNamespace:     {category: escalation},
		event.SecurityMount:         {category: escalation},
		event.SecurityModuleLoad:    {category: persistence, technique: "T1547.006"}, // Kernel Modules and Extensions
		event.SecurityBPF:           {category: defenseEvasion},
		event.SecurityRawSocket:     {category: discovery},
		event.SecurityKernelLog:     {category: discovery},
		event.SecurityKexec:         {category: impact},
	}
	for kind := range all {
		name := event.SecurityKind(kind).String()
		all[kind].span, all[kind].event = spanSecurityPrefix+name, eventSecurityPrefix+name
	}
	return all
}()

// techniqueOf an action; empty where none fits.
func techniqueOf(a *action) string {
	switch a.kind {
	case event.SecurityFileAccess:
		if a.at == nil || a.at.OnWrite && !event.OpensToWrite(a.Values[0]) {
			return ""
		}
		return a.at.Technique
	case event.SecurityMemoryWrite:
		if event.SecurityOperation(a.Operation) == event.OperationOpen {
			return "T1055.009" // Proc Memory
		}
	case event.SecurityFilelessExec:
		if isMemory(a.path) {
			return "T1620" // Reflective Code Loading
		}
	case event.SecurityNamespace, event.SecurityMount:
		if !a.resource.IsHost() {
			return "T1611" // Escape to Host
		}
	case event.SecurityRawSocket:
		if a.Values[0] == event.FamilyPacket {
			return "T1040" // Network Sniffing
		}
		return "T1095" // Non-Application Layer Protocol
	}
	return abouts[a.kind].technique
}

// isMemory says that it is no file of a file system: memfd_create(2).
func isMemory(path string) bool { return strings.HasPrefix(strings.TrimPrefix(path, "/"), "memfd:") }

// actionAttributes is how many there are as a rule.
const actionAttributes = 24

func (s *security) describeAction(attributes *attributeList, a *action) {
	attributes.EnsureCapacity(actionAttributes)
	attributes.PutStr(attrSecurityRuleName, a.kind.String())
	attributes.PutStr(attrSecurityRuleCategory, abouts[a.kind].category)
	attributes.putKnown(attrSecurityTechnique, techniqueOf(a))
	attributes.putKnown(attrSecurityOperation, event.SecurityOperation(a.Operation).String())
	attributes.PutStr(attrSecurityOutcome, a.outcome())
	attributes.putKnown(attrErrorType, event.ErrnoName(a.Error))
	s.describeActor(attributes, a)
	s.describeObject(attributes, a)
	describeLimits(attributes, &a.SecurityAction)
}

// describeActor says who did it. What the record has is of just then; the rest is of the program's start.
func (s *security) describeActor(attributes *attributeList, a *action) {
	attributes.PutInt(attrProcessPID, int64(a.Header.Pid))
	attributes.putKnown(attrProcessExecutableName, a.resource.Name)
	attributes.putKnown(attrProcessExecutablePath, a.resource.Path)
	comm, _, _ := bytes.Cut(a.Process.Comm[:], []byte{0})
	attributes.putKnown(attrSecurityComm, s.texts.of(comm))
	if a.Process.ParentPid != 0 {
		attributes.PutInt(attrProcessParentPID, int64(a.Process.ParentPid))
	}
	if a.Process.Vpid != 0 {
		attributes.PutInt(attrProcessVPID, int64(a.Process.Vpid))
	}
	attributes.PutInt(attrProcessUserID, int64(a.Process.Euid))
	attributes.PutInt(attrProcessRealUserID, int64(a.Process.Uid))
	attributes.PutStr(attrProcessCreationTime, s.times.format(s.wall(a.Header.StartTime)))
	if p := a.process; p != nil {
		describeCommand(attributes, p)
	}
	if ancestors := s.ancestors(a); len(ancestors) > 0 {
		attributes.putStrings(attrSecurityAncestors, ancestors)
	}
}

// maxAncestors are told; a process is rarely farther from init.
const maxAncestors = 16

// ancestors of a process, its parent first, each as its pid and, where it is known, its executable.
func (s *security) ancestors(a *action) (list []string) {
	var p *identity.Process
	if a.process != nil {
		p = s.index.Parent(a.process)
	} else {
		p = s.index.Find(a.Process.ParentPid, a.Process.ParentStartTime)
	}
	for ; p != nil && len(list) < maxAncestors; p = s.index.Parent(p) {
		ancestor := strconv.FormatUint(uint64(p.PID), 10)
		if p.Resource.Path != "" {
			ancestor += ":" + p.Resource.Path
		}
		list = append(list, ancestor)
	}
	return list
}

// describeObject says to what it was done, and how.
func (s *security) describeObject(attributes *attributeList, a *action) {
	switch a.kind {
	case event.SecurityFileAccess:
		putFileAccess(attributes, a)
	case event.SecuritySetuidBit:
		attributes.putKnown(attrFilePath, a.path)
		attributes.PutStr(attrFileMode, modeText(a.Values[0]))
	case event.SecurityCapability:
		attributes.PutStr(attrCapability, event.CapabilityName(a.Values[0]))
	case event.SecurityPtrace:
		attributes.PutStr(attrPtraceRequest, event.PtraceRequest(a.Values[0]))
		putTargetNumber(attributes, a)
	case event.SecurityMemoryWrite:
		putMemoryWrite(attributes, a)
	case event.SecurityFilelessExec, event.SecuritySetuidExec:
		putProgram(attributes, a)
	case event.SecurityShellOnSocket:
		s.putPeer(attributes, a)
	case event.SecurityNamespace:
		if names := event.Namespaces(a.Values[0]); len(names) > 0 {
			attributes.putStrings(attrNamespaces, names)
		}
	case event.SecurityMount:
		s.putMount(attributes, a)
	case event.SecurityModuleLoad, event.SecurityKexec:
		s.putKernelCode(attributes, a)
	case event.SecurityBPF:
		putBPF(attributes, a)
	case event.SecurityRawSocket:
		putSocket(attributes, a)
	case event.SecurityKernelLog:
		attributes.PutStr(attrSyslogAction, event.SyslogAction(a.Values[0]))
	case event.SecurityCredentials: // below: others may have them, too
	}
	putCredentials(attributes, &a.SecurityAction)
	if a.Has(event.SecurityHasTarget) {
		s.putTarget(attributes, a)
	}
}

// putFileAccess: a file that was not opened has no inode and no mode.
func putFileAccess(attributes *attributeList, a *action) {
	attributes.putKnown(attrFilePath, a.path)
	attributes.PutStr(attrFileAccess, event.OpenAccess(a.Values[0]))
	if a.Values[1] != 0 {
		attributes.PutStr(attrFileInode, strconv.FormatUint(a.Values[1], 10))
		attributes.PutStr(attrFileMode, modeText(a.Values[2]))
	}
	if a.at != nil {
		attributes.PutStr(attrFilePattern, string(a.at.Pattern))
	}
	if a.Has(event.SecurityHardLink) {
		attributes.PutBool(attrFileHardLink, true)
	}
}

// modeText has the permissions as chmod(1) takes them: "4755", "0640".
func modeText(mode uint64) string { return fmt.Sprintf("%04o", mode&0o7777) }

func putMemoryWrite(attributes *attributeList, a *action) {
	if event.SecurityOperation(a.Operation) == event.OperationProcessVMWritev {
		if !a.Denied() {
			attributes.PutInt(attrMemorySize, int64(a.Values[0]))
		}
		putTargetNumber(attributes, a)
		return
	}
	attributes.putKnown(attrFilePath, a.path)
	attributes.PutStr(attrFileAccess, event.OpenAccess(a.Values[0]))
}

func putProgram(attributes *attributeList, a *action) {
	attributes.putKnown(attrFilePath, a.path)
	if a.Values[0] != 0 {
		attributes.PutStr(attrFileInode, strconv.FormatUint(a.Values[0], 10))
		attributes.PutStr(attrFileMode, modeText(a.Values[1]))
	}
	if a.Is(event.SecuritySetuidExec) {
		attributes.PutStr(attrFileOwnerID, strconv.FormatUint(a.Values[2], 10))
		attributes.PutStr(attrFileGroupID, strconv.FormatUint(a.Values[3], 10))
	}
}

func (s *security) putPeer(attributes *attributeList, a *action) {
	attributes.putKnown(attrFilePath, a.path)
	address, ok := a.Peer()
	if !ok {
		return
	}
	kind := "ipv6"
	if event.Address(address).Is4() {
		kind = "ipv4"
	}
	attributes.PutStr(attrNetworkType, kind)
	attributes.PutStr(attrNetworkPeerAddress, s.addresses.of(address))
	attributes.PutInt(attrNetworkPeerPort, int64(a.Values[0]))
	s.peers.put(attributes, address, uint16(a.Values[0]))
}

func (s *security) putMount(attributes *attributeList, a *action) {
	source, kind := a.Strings()
	attributes.putKnown(attrMountSource, s.texts.of(source))
	attributes.putKnown(attrMountTarget, a.path)
	attributes.putKnown(attrMountType, s.texts.of(kind))
	if event.SecurityOperation(a.Operation) != event.OperationMount {
		return // move_mount(2) has flags of its own, with the same numbers
	}
	if flags := event.MountFlags(a.Values[0]); len(flags) > 0 {
		attributes.putStrings(attrMountFlags, flags)
	}
}

func (s *security) putKernelCode(attributes *attributeList, a *action) {
	attributes.putKnown(attrFilePath, a.path)
	if a.Is(event.SecurityModuleLoad) {
		name, _ := a.Strings()
		attributes.putKnown(attrModuleName, s.texts.of(name))
	}
	attributes.PutInt(attrSecurityFlags, int64(a.Values[0]))
}

func putBPF(attributes *attributeList, a *action) {
	attributes.PutStr(attrBPFCommand, event.BPFCommand(a.Values[0]))
	if a.Values[0] == event.BPFProgramLoad {
		attributes.PutStr(attrBPFProgramType, event.BPFProgramType(a.Values[1]))
	}
}

// putSocket: the protocol of a packet socket is an Ethernet type, which socket(2) takes in network byte order.
func putSocket(attributes *attributeList, a *action) {
	attributes.PutStr(attrSocketFamily, event.SocketFamily(a.Values[0]))
	attributes.PutStr(attrSocketType, event.SocketType(a.Values[1]))
	protocol := a.Values[2]
	if a.Values[0] == event.FamilyPacket {
		protocol = uint64(bits.ReverseBytes16(uint16(protocol)))
	}
	attributes.PutInt(attrSocketProtocol, int64(protocol))
}

func (s *security) putTarget(attributes *attributeList, a *action) {
	attributes.PutInt(attrTargetPID, int64(a.TargetPid))
	target := s.target(a)
	if target == nil {
		return
	}
	attributes.putKnown(attrTargetExecutableName, target.Resource.Name)
	attributes.putKnown(attrTargetExecutablePath, target.Resource.Path)
	attributes.putKnown(attrTargetContainerID, target.Resource.ContainerID)
}

// putTargetNumber tells how the caller numbers the other process, which is all that is known of one where it was
// refused.
func putTargetNumber(attributes *attributeList, a *action) {
	if a.Values[1] != 0 {
		attributes.PutInt(attrTargetVPID, int64(a.Values[1]))
	}
}

// target of an action; where it is found by its file in /proc, its start is not told.
func (s *security) target(a *action) *identity.Process {
	if a.TargetStartTime == 0 {
		return s.index.FindByPID(a.TargetPid)
	}
	return s.index.Find(a.TargetPid, a.TargetStartTime)
}

// putCredentials tells what changed, and the user ids in any case.
func putCredentials(attributes *attributeList, e *event.SecurityAction) {
	switch {
	case e.Has(event.SecurityHasCredentials):
		putIDs(attributes, attrCredentialsBefore, &e.Before, &e.After)
		putIDs(attributes, attrCredentialsAfter, &e.After, &e.Before)
		if gained := e.After.Permitted &^ e.Before.Permitted; gained != 0 {
			attributes.putStrings(attrCapabilitiesGained, event.CapabilityNames(gained))
		}
	case e.Has(event.SecurityHasAfter):
		putIDs(attributes, attrCredentialsAfter, &e.After, nil)
	}
}

// putIDs of credentials, but for those that the other ones have as well.
func putIDs(attributes *attributeList, prefix string, c, other *bpf.WireCredentials) {
	attributes.PutInt(prefix+"uid", int64(c.Uid))
	attributes.PutInt(prefix+"euid", int64(c.Euid))
	for _, id := range [...]struct {
		name string
		of   func(*bpf.WireCredentials) uint32
	}{
		{"suid", func(c *bpf.WireCredentials) uint32 { return c.Suid }},
		{"fsuid", func(c *bpf.WireCredentials) uint32 { return c.Fsuid }},
		{"gid", func(c *bpf.WireCredentials) uint32 { return c.Gid }},
		{"egid", func(c *bpf.WireCredentials) uint32 { return c.Egid }},
		{"sgid", func(c *bpf.WireCredentials) uint32 { return c.Sgid }},
		{"fsgid", func(c *bpf.WireCredentials) uint32 { return c.Fsgid }},
		{"groups", func(c *bpf.WireCredentials) uint32 { return c.Groups }},
	} {
		if other == nil || id.of(c) != id.of(other) {
			attributes.PutInt(prefix+id.name, int64(id.of(c)))
		}
	}
}

// describeLimits says what is not as one would expect of the names.
func describeLimits(attributes *attributeList, e *event.SecurityAction) {
	if e.Flags&(event.SecurityPathTruncated|event.SecurityBaseTruncated|event.SecurityTextTruncated) != 0 {
		attributes.PutBool(attrSecurityTruncated, true)
	}
	if e.Has(event.SecurityPathUnreadable) {
		attributes.PutBool(attrFileUnreadable, true)
	}
	if e.HasPath() && !e.Has(event.SecurityPathResolved) {
		attributes.PutBool(attrFileUnresolved, true)
	}
	if e.Has(event.SecurityUnlinked) {
		attributes.PutBool(attrFileUnlinked, true)
	}
}

// describeFold says that it is for several.
func (s *security) describeFold(attributes pcommon.Map, f *fold) {
	attributes.PutInt(attrSecurityCount, int64(f.repeats))
	attributes.PutStr(attrSecurityFirstTime, s.times.format(s.wall(f.first)))
	attributes.PutStr(attrSecurityLastTime, s.times.format(s.wall(f.last)))
	if f.size > 0 {
		attributes.PutInt(attrMemorySize, int64(f.size))
	}
}
