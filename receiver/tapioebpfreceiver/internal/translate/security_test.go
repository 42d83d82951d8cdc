// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// noSensitivePath is what an open that was refused has for a number of the list.
const noSensitivePath = 1<<32 - 1

const foldInterval = 10 * time.Second

// everyRule is on, as a warning, and allows nobody.
func everyRule() SecurityOptions {
	options := SecurityOptions{
		FoldInterval: foldInterval, Shells: []string{"bash", "**/custom/shell"},
		Paths: []SensitivePath{
			{Pattern: "/etc/shadow", Technique: "T1003.008", Readers: []PathPattern{"/usr/bin/sudo"}},
			{Pattern: "**/.ssh/authorized_keys", Technique: "T1098.004", OnWrite: true},
			{Pattern: "/run/secrets/", Technique: "T1528", FirstProgram: true},
		},
	}
	for _, kind := range event.SecurityKinds() {
		options.Rules[kind] = SecurityRule{Enabled: true, Severity: plog.SeverityNumberWarn}
	}
	return options
}

func newSecurityWorld(signals Signals, options SecurityOptions, names identity.Names) *world {
	w := &world{account: &ledger.Ledger{}}
	w.index = identity.NewIndex(identity.Options{Resolver: nobodyKnown{}, Names: names})
	w.index.Load([]source.Process{{PID: 1, UID: 0, Executable: "/sbin/init"}})
	describe := Describe{Source: "ebpf", HostName: "node", ScopeName: "scope", ScopeVersion: "1.2.3"}
	w.Translator = New(Options{
		Signals: signals, Describe: describe, Start: wallTime(0), SeriesLimit: 100, Processes: true,
		DNSTimeout: 5 * time.Second, MaxWaiting: 8, Security: options,
	}, w.index, correlate.NewIDs(), w.account)
	w.SetBootTime(bootTime)
	return w
}

// acting is process 10, which curl() started, in its own words.
func acting(kind event.SecurityKind, operation event.SecurityOperation, at uint64) bpf.WireSecurityAction {
	return bpf.WireSecurityAction{
		Header:  headerOf(event.TypeSecurityAction, 10, second, at),
		Process: bpf.WireProcessIdentity{ParentPid: 1, Vpid: 5, Uid: 1000, Euid: 1001, Comm: [16]byte{'c', 'u', 'r', 'l'}},
		Kind:    uint16(kind), Operation: uint16(operation),
	}
}

func shadow(at uint64) []byte {
	e := acting(event.SecurityFileAccess, event.OperationOpen, at)
	e.Values, e.Flags = [4]uint64{0, 77, 0o100640, 0}, event.SecurityPathResolved
	return eventtest.Security(e, "/etc/shadow", "", "")
}

// actor is what all actions of process 10 say of it.
var actor = attributes{
	"process.pid": int64(10), "process.executable.name": "curl", "process.executable.path": "/usr/bin/curl", "tapio.security.process.comm": "curl",
	"process.parent_pid": int64(1), "process.vpid": int64(5), "process.user.id": int64(1001), "process.real_user.id": int64(1000),
	"process.creation.time": "2023-11-14T22:13:21Z", "process.working_directory": "/srv", "process.command": "curl",
	"process.command_args": []any{"curl", "https://REDACTED:REDACTED@h/"}, "tapio.security.ancestors": []any{"1:/sbin/init"},
}

var root, user = bpf.WireCredentials{Permitted: 0x1ffffffffff}, bpf.WireCredentials{Uid: 1000, Euid: 1000, Suid: 1000, Fsuid: 1000, Gid: 5, Egid: 5}

type securityCase struct {
	name             string
	kind             event.SecurityKind
	operation        event.SecurityOperation
	change           func(*bpf.WireSecurityAction)
	path, base, text string
	want             attributes
}

var securityCases = []securityCase{
	{
		name: "file", kind: event.SecurityFileAccess, operation: event.OperationOpen, path: "/etc/shadow",
		change: func(e *bpf.WireSecurityAction) {
			e.Values, e.Flags = [4]uint64{2, 77, 0o100640, 0}, event.SecurityPathResolved
		},
		want: attributes{
			"security_rule.category": "credential_access", "tapio.security.technique": "T1003.008", "file.path": "/etc/shadow", "file.inode": "77", "file.mode": "0640",
			"tapio.security.file.access": "read_write", "tapio.security.file.pattern": "/etc/shadow",
		},
	},
	{
		name: "file refused, by a name that is not UTF-8 and cut off", kind: event.SecurityFileAccess, operation: event.OperationOpen, path: "../secrets/caf\xe9", base: "/run/x",
		change: func(e *bpf.WireSecurityAction) {
			e.Values, e.Flags, e.Error = [4]uint64{0, 0, 0, noSensitivePath}, event.SecurityPathTruncated, 13
		},
		want: attributes{
			"security_rule.category": "credential_access", "tapio.security.technique": "T1528", "file.path": "/run/x/../secrets/caf\uFFFD", "tapio.security.file.access": "read", "tapio.security.file.pattern": "/run/secrets/",
			"tapio.security.file.unresolved": true, "tapio.security.truncated": true, "tapio.security.outcome": "denied", "error.type": "EACCES",
		},
	},
	{
		name: "file by another name", kind: event.SecurityFileAccess, operation: event.OperationOpen, path: "/tmp/x",
		change: func(e *bpf.WireSecurityAction) {
			e.Values, e.Flags = [4]uint64{0, 77, 0o100640, 0}, event.SecurityPathResolved|event.SecurityHardLink
		},
		want: attributes{
			"security_rule.category": "credential_access", "tapio.security.technique": "T1003.008", "file.path": "/tmp/x", "file.inode": "77", "file.mode": "0640",
			"tapio.security.file.access": "read", "tapio.security.file.pattern": "/etc/shadow", "tapio.security.file.hard_link": true,
		},
	},
	{
		name: "file changed", kind: event.SecurityFileAccess, operation: event.OperationOpen, path: "/root/.ssh/authorized_keys",
		change: func(e *bpf.WireSecurityAction) {
			e.Values, e.Flags = [4]uint64{1, 78, 0o100600, 1}, event.SecurityPathResolved|event.SecurityUnlinked
		},
		want: attributes{
			"security_rule.category": "credential_access", "tapio.security.technique": "T1098.004", "file.path": "/root/.ssh/authorized_keys", "file.inode": "78", "file.mode": "0600",
			"tapio.security.file.access": "write", "tapio.security.file.pattern": "**/.ssh/authorized_keys", "tapio.security.file.unlinked": true,
		},
	},
	{
		name: "set-user-ID bit", kind: event.SecuritySetuidBit, operation: event.OperationChmod, path: "/tmp/sh",
		change: func(e *bpf.WireSecurityAction) { e.Values[0], e.Flags = 0o4755, event.SecurityPathResolved },
		want: attributes{
			"security_rule.category": "privilege_escalation", "tapio.security.technique": "T1548.001", "file.path": "/tmp/sh", "file.mode": "4755",
		},
	},
	{
		name: "credentials", kind: event.SecurityCredentials, operation: event.OperationSetuid,
		change: func(e *bpf.WireSecurityAction) {
			e.Before, e.After, e.Flags = user, bpf.WireCredentials{Gid: 5, Egid: 5, Permitted: 1<<21 | 1}, event.SecurityHasCredentials
		},
		want: attributes{
			"security_rule.category":                  "privilege_escalation",
			"tapio.security.credentials.before.uid":   int64(1000),
			"tapio.security.credentials.before.euid":  int64(1000),
			"tapio.security.credentials.before.suid":  int64(1000),
			"tapio.security.credentials.before.fsuid": int64(1000),
			"tapio.security.credentials.after.uid":    int64(0),
			"tapio.security.credentials.after.euid":   int64(0),
			"tapio.security.credentials.after.suid":   int64(0),
			"tapio.security.credentials.after.fsuid":  int64(0),
			"tapio.security.capabilities.gained":      []any{"CAP_CHOWN", "CAP_SYS_ADMIN"},
		},
	},
	{
		name: "credentials refused", kind: event.SecurityCredentials, operation: event.OperationSetgroups,
		change: func(e *bpf.WireSecurityAction) { e.Error = 1 },
		want:   attributes{"security_rule.category": "privilege_escalation", "tapio.security.outcome": "denied", "error.type": "EPERM"},
	},
	{
		name: "capability", kind: event.SecurityCapability,
		change: func(e *bpf.WireSecurityAction) { e.Values[0] = 16 },
		want:   attributes{"security_rule.category": "privilege_escalation", "tapio.security.capability": "CAP_SYS_MODULE"},
	},
	{
		name: "ptrace", kind: event.SecurityPtrace, operation: event.OperationPtrace,
		change: func(e *bpf.WireSecurityAction) {
			e.Values[0], e.Flags, e.TargetPid = 16, event.SecurityHasTarget, 1
		},
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.technique": "T1055.008", "tapio.security.ptrace.request": "PTRACE_ATTACH",
			"tapio.security.target.process.pid": int64(1), "tapio.security.target.process.executable.name": "init", "tapio.security.target.process.executable.path": "/sbin/init",
		},
	},
	{
		name: "memory by a call", kind: event.SecurityMemoryWrite, operation: event.OperationProcessVMWritev,
		change: func(e *bpf.WireSecurityAction) { e.Values[0], e.Flags, e.TargetPid = 4096, event.SecurityHasTarget, 99 },
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.technique": "T1055", "tapio.security.memory.size": int64(4096), "tapio.security.target.process.pid": int64(99),
		},
	},
	{
		name: "memory by a call that was refused", kind: event.SecurityMemoryWrite, operation: event.OperationProcessVMWritev,
		change: func(e *bpf.WireSecurityAction) { e.Values[1], e.Error = 7, 1 },
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.technique": "T1055", "tapio.security.target.process.vpid": int64(7),
			"tapio.security.outcome": "denied", "error.type": "EPERM",
		},
	},
	{
		name: "memory by a file", kind: event.SecurityMemoryWrite, operation: event.OperationOpen, path: "/proc/1/mem",
		change: func(e *bpf.WireSecurityAction) { e.Values[0], e.Flags = 1, event.SecurityPathResolved },
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.technique": "T1055.009", "file.path": "/proc/1/mem", "tapio.security.file.access": "write",
		},
	},
	{
		name: "memory by a file of a process that is known", kind: event.SecurityMemoryWrite, operation: event.OperationOpen,
		change: func(e *bpf.WireSecurityAction) {
			e.Values[0], e.Flags, e.TargetPid = 2, event.SecurityHasTarget, 10
		},
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.technique": "T1055.009", "tapio.security.file.access": "read_write", "tapio.security.target.process.pid": int64(10),
			"tapio.security.target.process.executable.name": "curl", "tapio.security.target.process.executable.path": "/usr/bin/curl",
		},
	},
	{
		name: "program in memory", kind: event.SecurityFilelessExec, path: "/memfd:x",
		change: func(e *bpf.WireSecurityAction) {
			e.Values, e.Flags = [4]uint64{5, 0o100777}, event.SecurityPathResolved|event.SecurityUnlinked
		},
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.technique": "T1620", "file.path": "/memfd:x", "file.inode": "5", "file.mode": "0777",
			"tapio.security.file.unlinked": true,
		},
	},
	{
		name: "deleted program", kind: event.SecurityFilelessExec, path: "/tmp/x",
		change: func(e *bpf.WireSecurityAction) { e.Flags = event.SecurityPathResolved | event.SecurityUnlinked },
		want:   attributes{"security_rule.category": "defense_evasion", "file.path": "/tmp/x", "tapio.security.file.unlinked": true},
	},
	{
		name: "shell", kind: event.SecurityShellOnSocket, path: "/usr/bin/bash", text: string(addressBytes("192.0.2.7")),
		change: func(e *bpf.WireSecurityAction) { e.Values, e.Flags = [4]uint64{4444, 2}, event.SecurityPathResolved },
		want: attributes{
			"security_rule.category": "execution", "tapio.security.technique": "T1059.004", "file.path": "/usr/bin/bash", "network.type": "ipv4",
			"network.peer.address": "192.0.2.7", "network.peer.port": int64(4444),
		},
	},
	{
		name: "set-user-ID program", kind: event.SecuritySetuidExec, path: "/usr/bin/su",
		change: func(e *bpf.WireSecurityAction) {
			e.Values, e.Flags = [4]uint64{6, 0o104755, 0, 50}, event.SecurityPathResolved|event.SecurityHasAfter
			e.After = root
		},
		want: attributes{
			"security_rule.category": "privilege_escalation", "tapio.security.technique": "T1548.001", "file.path": "/usr/bin/su", "file.inode": "6", "file.mode": "4755",
			"file.owner.id": "0", "file.group.id": "50", "tapio.security.credentials.after.uid": int64(0), "tapio.security.credentials.after.euid": int64(0),
			"tapio.security.credentials.after.suid": int64(0), "tapio.security.credentials.after.fsuid": int64(0), "tapio.security.credentials.after.gid": int64(0),
			"tapio.security.credentials.after.egid": int64(0), "tapio.security.credentials.after.sgid": int64(0), "tapio.security.credentials.after.fsgid": int64(0),
			"tapio.security.credentials.after.groups": int64(0),
		},
	},
	{
		name: "namespaces", kind: event.SecurityNamespace, operation: event.OperationUnshare,
		change: func(e *bpf.WireSecurityAction) { e.Values[0] = 0x10000000 | 0x00020000 },
		want:   attributes{"security_rule.category": "privilege_escalation", "tapio.security.namespaces": []any{"mnt", "user"}},
	},
	{
		name: "namespaces of any kind", kind: event.SecurityNamespace, operation: event.OperationSetns,
		want: attributes{"security_rule.category": "privilege_escalation"},
	},
	{
		name: "mount", kind: event.SecurityMount, operation: event.OperationMount, path: "/mnt", text: "/dev/sda1\x00ext4\x00",
		change: func(e *bpf.WireSecurityAction) { e.Values[0], e.Flags = 1|1<<12, event.SecurityPathResolved },
		want: attributes{
			"security_rule.category": "privilege_escalation", "tapio.security.mount.source": "/dev/sda1", "tapio.security.mount.target": "/mnt",
			"tapio.security.mount.type": "ext4", "tapio.security.mount.flags": []any{"ro", "bind"},
		},
	},
	{
		name: "mount of nothing, cut off", kind: event.SecurityMount, operation: event.OperationMoveMount, text: "\x00tmp",
		change: func(e *bpf.WireSecurityAction) { e.Flags = event.SecurityTextTruncated },
		want:   attributes{"security_rule.category": "privilege_escalation", "tapio.security.mount.type": "tmp", "tapio.security.truncated": true},
	},
	{
		name: "moved mount", kind: event.SecurityMount, operation: event.OperationMoveMount, path: "/mnt", text: "\x00\x00",
		change: func(e *bpf.WireSecurityAction) { e.Values[0], e.Flags = 4, event.SecurityPathResolved }, // MOVE_MOUNT_F_EMPTY_PATH, and no nodev
		want:   attributes{"security_rule.category": "privilege_escalation", "tapio.security.mount.target": "/mnt"},
	},
	{
		name: "module", kind: event.SecurityModuleLoad, operation: event.OperationFinitModule, path: "/lib/modules/x.ko", text: "x\x00",
		change: func(e *bpf.WireSecurityAction) { e.Values[0], e.Flags = 2, event.SecurityPathResolved },
		want: attributes{
			"security_rule.category": "persistence", "tapio.security.technique": "T1547.006", "file.path": "/lib/modules/x.ko", "tapio.security.module.name": "x",
			"tapio.security.flags": int64(2),
		},
	},
	{
		name: "bpf program", kind: event.SecurityBPF, operation: event.OperationBPF,
		change: func(e *bpf.WireSecurityAction) { e.Values = [4]uint64{5, 2} },
		want: attributes{
			"security_rule.category": "defense_evasion", "tapio.security.bpf.command": "BPF_PROG_LOAD", "tapio.security.bpf.program_type": "BPF_PROG_TYPE_KPROBE",
		},
	},
	{
		name: "bpf map", kind: event.SecurityBPF, operation: event.OperationBPF,
		want: attributes{"security_rule.category": "defense_evasion", "tapio.security.bpf.command": "BPF_MAP_CREATE"},
	},
	{
		name: "raw socket", kind: event.SecurityRawSocket, operation: event.OperationSocket,
		change: func(e *bpf.WireSecurityAction) { e.Values = [4]uint64{2, 3, 1} },
		want: attributes{
			"security_rule.category": "discovery", "tapio.security.technique": "T1095", "tapio.security.socket.family": "inet", "tapio.security.socket.type": "raw",
			"tapio.security.socket.protocol": int64(1),
		},
	},
	{
		name: "packet socket", kind: event.SecurityRawSocket, operation: event.OperationSocket,
		change: func(e *bpf.WireSecurityAction) { e.Values = [4]uint64{17, 3, 0x0300} },
		want: attributes{
			"security_rule.category": "discovery", "tapio.security.technique": "T1040", "tapio.security.socket.family": "packet", "tapio.security.socket.type": "raw",
			"tapio.security.socket.protocol": int64(3),
		},
	},
	{
		name: "kernel log", kind: event.SecurityKernelLog, operation: event.OperationSyslog,
		change: func(e *bpf.WireSecurityAction) { e.Values[0] = 3 },
		want:   attributes{"security_rule.category": "discovery", "tapio.security.syslog.action": "read_all"},
	},
	{
		name: "kexec refused", kind: event.SecurityKexec, operation: event.OperationKexecFileLoad,
		change: func(e *bpf.WireSecurityAction) { e.Error = 1 },
		want: attributes{
			"security_rule.category": "impact", "tapio.security.flags": int64(0), "tapio.security.outcome": "denied", "error.type": "EPERM",
		},
	},
}

func addressBytes(text string) []byte {
	address := eventtest.Address(text)
	return address[:]
}

func TestSecurityActions(t *testing.T) {
	seen := map[event.SecurityKind]bool{}
	for _, tt := range securityCases {
		seen[tt.kind] = true
		t.Run(tt.name, func(t *testing.T) {
			e := acting(tt.kind, tt.operation, 3*second)
			if tt.change != nil {
				tt.change(&e)
			}
			w := newSecurityWorld(allSignals, everyRule(), nil)
			w.handle(curl(2*second), eventtest.Security(e, tt.path, tt.base, tt.text), exitRecord(10, second, 4*second, 0))
			out := w.take(t)
			w.requireClosed(t)
			assert.EqualValues(t, 1, out.counts[event.FamilySecurity])
			require.Len(t, out.logs, 3)
			require.Len(t, out.spans, 2)
			action, program, log := out.spans[0], out.spans[1], out.logs[1]

			want := merge(actor, attributes{"security_rule.name": tt.kind.String(), "tapio.security.outcome": "allowed"}, tt.want)
			if name := tt.operation.String(); name != "" {
				want["tapio.security.operation"] = name
			}
			status := ptrace.StatusCodeUnset
			if want["error.type"] != nil {
				status = ptrace.StatusCodeError
			}
			assert.Equal(t, gotLog{
				Resource: log.Resource, Attributes: want, Name: "tapio.security." + tt.kind.String(), Time: wallTime(3 * second), Observed: wallTime(3 * second),
				Severity: plog.SeverityNumberWarn, SeverityText: "Warn", InTrace: true,
			}, log)
			assert.Equal(t, gotSpan{
				Resource: log.Resource, Attributes: want, Name: "security." + tt.kind.String(), Kind: ptrace.SpanKindInternal,
				Start: wallTime(3 * second), End: wallTime(3 * second), Status: status,
			}, action)
			assert.Equal(t, out.spanIDs[0], out.logIDs[1], "log and span agree")
			assert.Equal(t, "process.exec", program.Name)
			assert.Equal(t, out.spanIDs[1].trace, out.spanIDs[0].trace)
			assert.Equal(t, out.spanIDs[1].span, out.parents[0])
			assert.Equal(t, program.Resource, log.Resource)
		})
	}
	assert.Len(t, seen, len(event.SecurityKinds()), "each kind has a case")
}

// A process that nothing is known of is told by what is in the record.
func TestSecurityActionOfAStranger(t *testing.T) {
	w := newSecurityWorld(allSignals, everyRule(), nil)
	w.handle(shadow(3 * second))
	out := w.take(t)
	require.Len(t, out.logs, 1)
	for key, want := range map[string]any{
		"process.pid": int64(10), "tapio.security.process.comm": "curl", "process.user.id": int64(1001), "tapio.security.ancestors": []any{"1:/sbin/init"},
		"process.executable.name": nil, "process.command": nil,
	} {
		assert.Equal(t, want, out.logs[0].Attributes[key], key)
	}
	assert.Equal(t, out.spanIDs[0], out.logIDs[0])
	assert.Equal(t, []pcommon.SpanID{{}}, out.parents)
}

func TestSecuritySignals(t *testing.T) {
	for _, tt := range []struct {
		signals                         Signals
		spans, logs                     int
		carried, aggregated, filteredBy uint64
	}{
		{signals: Signals{Traces: true}, spans: 1, carried: 1},
		{signals: Signals{Logs: true}, logs: 1, carried: 1},
		{signals: Signals{Metrics: true}, aggregated: 1},
		{signals: Signals{}, filteredBy: 1},
	} {
		t.Run(fmt.Sprint(tt.signals), func(t *testing.T) {
			w := newSecurityWorld(tt.signals, everyRule(), nil)
			w.handle(shadow(3 * second))
			out := w.take(t)
			assert.Len(t, out.spans, tt.spans)
			assert.Len(t, out.logs, tt.logs)
			assert.Equal(t, tt.carried, out.counts[event.FamilySecurity])
			assert.Equal(t, tt.aggregated, w.ended(t).Aggregated)
			assert.Equal(t, tt.filteredBy, w.ended(t).Filtered)
			w.requireClosed(t)
		})
	}
}

func TestSecurityRules(t *testing.T) {
	pod := webPod()
	names := &fakeNames{pod: pod}
	inContainer := made(7, inPod)
	file := func(change func(*SecurityRule)) SecurityOptions {
		options := everyRule()
		change(&options.Rules[event.SecurityFileAccess])
		return options
	}
	allow := func(allow SecurityAllow) SecurityOptions {
		return file(func(rule *SecurityRule) { rule.Allow = allow })
	}
	sudo := execRecord(10, second, 2*second, 0, "/usr/bin/sudo", "/", "sudo")
	for _, tt := range []struct {
		name      string
		options   SecurityOptions
		container bool
		runs      []byte // nil: curl
		told      bool
	}{
		{name: "nothing allowed", options: everyRule(), told: true},
		{name: "off", options: file(func(rule *SecurityRule) { rule.Enabled = false })},
		{name: "executable", options: allow(SecurityAllow{Executables: []PathPattern{"/usr/bin/curl"}})},
		{name: "executable in a container", options: allow(SecurityAllow{Executables: []PathPattern{"/usr/bin/"}}), container: true},
		{name: "another executable", options: allow(SecurityAllow{Executables: []PathPattern{"/usr/bin/cur"}}), told: true},
		{name: "host's executable", options: allow(SecurityAllow{HostExecutables: []PathPattern{"**/curl"}})},
		{name: "host's path in a container", options: allow(SecurityAllow{HostExecutables: []PathPattern{"**/curl"}}), container: true, told: true},
		{name: "host's parent", options: allow(SecurityAllow{HostParents: []PathPattern{"/sbin/init"}})},
		{name: "host's parent of a container's", options: allow(SecurityAllow{HostParents: []PathPattern{"/sbin/init"}}), container: true, told: true},
		{name: "user", options: allow(SecurityAllow{Users: []uint32{5, 1000}})},
		{name: "another user", options: allow(SecurityAllow{Users: []uint32{1001}}), told: true},
		{name: "container's name", options: allow(SecurityAllow{Containers: []string{"nginx"}}), container: true},
		{name: "container's id", options: allow(SecurityAllow{Containers: []string{containerID[:12]}}), container: true},
		{name: "too little of an id", options: allow(SecurityAllow{Containers: []string{containerID[:11]}}), container: true, told: true},
		{name: "not in the container", options: allow(SecurityAllow{Containers: []string{"nginx"}}), told: true},
		{name: "namespace", options: allow(SecurityAllow{Namespaces: []string{"shop"}}), container: true},
		{name: "another namespace", options: allow(SecurityAllow{Namespaces: []string{"sho"}}), container: true, told: true},
		{name: "no reader", options: allow(SecurityAllow{Readers: true}), told: true},
		{name: "reader", options: allow(SecurityAllow{Readers: true}), runs: sudo},
		{name: "readers not allowed", options: allow(SecurityAllow{}), runs: sudo, told: true},
		{name: "reader in a container", options: allow(SecurityAllow{Readers: true}), container: true, runs: sudo, told: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newSecurityWorld(allSignals, tt.options, names)
			if tt.container {
				w.handle(inContainer)
			}
			if tt.runs == nil {
				tt.runs = curl(2 * second)
			}
			w.handle(tt.runs)
			filtered := w.ended(t).Filtered
			w.handle(shadow(3 * second))
			out := w.take(t)
			assert.Equal(t, tt.told, out.counts[event.FamilySecurity] == 1)
			assert.Equal(t, !tt.told, w.ended(t).Filtered == filtered+1)
			_, isCounted := w.collect(t, 4*second).metrics["tapio.security.events"]
			assert.Equal(t, tt.told, isCounted)
			w.requireClosed(t)
		})
	}
}

// What a container was started for may read what was mounted for it; a shell in it may not.
func TestFirstProgramOfAContainer(t *testing.T) {
	options := everyRule()
	options.Rules[event.SecurityFileAccess].Allow.Readers = true
	token := func(pid uint32, vpid uint32) []byte {
		e := acting(event.SecurityFileAccess, event.OperationOpen, 4*second)
		e.Header.Pid, e.Process.Vpid = pid, vpid
		e.Values, e.Flags = [4]uint64{0, 77, 0o100640, 2}, event.SecurityPathResolved
		return eventtest.Security(e, "/run/secrets/kubernetes.io/serviceaccount/..1/token", "", "")
	}
	exec := func(pid, vpid uint32, executable string) []byte {
		return eventtest.Exec(bpf.WireProcessExec{
			Header: headerOf(event.TypeProcessExec, pid, second, 2*second), Process: bpf.WireProcessIdentity{ParentPid: 1, Vpid: vpid},
		}, executable, "/")
	}
	w := newSecurityWorld(allSignals, options, &fakeNames{pod: webPod()})
	w.handle(made(7, inPod), exec(10, 1, "/app"), exec(11, 2, "/bin/cat"))
	w.take(t)
	w.handle(token(10, 1))
	assert.EqualValues(t, 1, w.ended(t).Filtered)
	w.handle(token(11, 2))
	out := w.take(t)
	require.Len(t, out.logs, 1)
	assert.EqualValues(t, 11, out.logs[0].Attributes["process.pid"])
	assert.Equal(t, "T1528", out.logs[0].Attributes["tapio.security.technique"])
	assert.Equal(t, "shop", out.logs[0].Resource["k8s.namespace.name"])
	w.requireClosed(t)
}

// A runtime that has entered a container's cgroup is the host's until it starts a program there; what comes then
// is not, whatever its path says.
func TestRuntimeOnItsWayIntoAContainer(t *testing.T) {
	options := everyRule()
	options.Rules[event.SecurityNamespace].Allow.HostExecutables = []PathPattern{"/usr/bin/runc"}
	unshare := func(cgroup uint64) []byte {
		e := acting(event.SecurityNamespace, event.OperationUnshare, 3*second)
		e.Header.CgroupId = cgroup
		return eventtest.Security(e, "", "", "")
	}
	runc := func(cgroup uint64) []byte {
		return eventtest.Exec(bpf.WireProcessExec{
			Header:  bpf.WireEventHeader{Time: 2 * second, StartTime: second, CgroupId: cgroup, Pid: 10},
			Process: bpf.WireProcessIdentity{ParentPid: 1},
		}, "/usr/bin/runc", "/")
	}
	w := newSecurityWorld(allSignals, options, nil)
	w.handle(made(7, inPod), made(8, "/system.slice/containerd.service"), runc(8), unshare(8), unshare(7))
	assert.EqualValues(t, 2, w.ended(t).Filtered)
	w.take(t)
	w.handle(runc(7), unshare(7))
	out := w.take(t)
	require.EqualValues(t, 1, out.counts[event.FamilySecurity])
	require.Len(t, out.logs, 2)
	assert.Equal(t, "T1611", out.logs[1].Attributes["tapio.security.technique"])
	w.requireClosed(t)
}

func TestWhatTheKernelReportsBeyondTheRule(t *testing.T) {
	credentials := func(before, after bpf.WireCredentials, flags uint32) func(*bpf.WireSecurityAction) {
		return func(e *bpf.WireSecurityAction) { e.Before, e.After, e.Flags = before, after, flags }
	}
	refused := func(e *bpf.WireSecurityAction) { e.Values[3], e.Error = noSensitivePath, 13 }
	const both = event.SecurityHasCredentials
	keptAside := bpf.WireCredentials{Uid: 1000, Euid: 1000, Fsuid: 1000}
	capable := user
	capable.Permitted = 1
	for _, tt := range []struct {
		name   string
		kind   event.SecurityKind
		change func(*bpf.WireSecurityAction)
		path   string
		every  bool
		told   bool
	}{
		{name: "to root", kind: event.SecurityCredentials, change: credentials(user, root, both), told: true},
		{name: "from root", kind: event.SecurityCredentials, change: credentials(root, user, both)},
		{name: "from root, all are told", kind: event.SecurityCredentials, change: credentials(root, user, both), every: true, told: true},
		{name: "back to root", kind: event.SecurityCredentials, change: credentials(keptAside, bpf.WireCredentials{}, both)},
		{name: "a capability more", kind: event.SecurityCredentials, change: credentials(user, capable, both), told: true},
		{name: "a capability less", kind: event.SecurityCredentials, change: credentials(capable, user, both)},
		{name: "now root", kind: event.SecurityCredentials, change: credentials(user, root, event.SecurityHasAfter), told: true},
		{name: "now nobody", kind: event.SecurityCredentials, change: credentials(root, user, event.SecurityHasAfter)},
		{name: "refused", kind: event.SecurityCredentials, change: func(e *bpf.WireSecurityAction) { e.Error = 1 }, told: true},
		{name: "not known", kind: event.SecurityCredentials, told: true},
		{name: "refused, of the list", kind: event.SecurityFileAccess, change: refused, path: "/etc/ssh/../shadow", told: true},
		{name: "refused, of no list", kind: event.SecurityFileAccess, change: refused, path: "/etc/motd"},
		{name: "refused, its name not readable", kind: event.SecurityFileAccess, change: refused},
		{name: "shell", kind: event.SecurityShellOnSocket, path: "/bin/bash", told: true},
		{name: "shell by its path", kind: event.SecurityShellOnSocket, path: "/opt/custom/shell", told: true},
		{name: "server of inetd", kind: event.SecurityShellOnSocket, path: "/usr/sbin/in.ftpd"},
		{name: "no path", kind: event.SecurityShellOnSocket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := everyRule()
			options.EveryCredentialChange = tt.every
			w := newSecurityWorld(Signals{Logs: true}, options, nil)
			e := acting(tt.kind, event.OperationNone, 3*second)
			if tt.change != nil {
				tt.change(&e)
			}
			w.handle(eventtest.Security(e, tt.path, "", ""))
			assert.Equal(t, tt.told, w.Events() == 1)
			assert.Equal(t, !tt.told, w.ended(t).Filtered == 1)
		})
	}
}

func TestPathPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern PathPattern
		path    string
		want    bool
	}{
		{"/etc/shadow", "/etc/shadow", true},
		{"/etc/shadow", "/etc/shadow-", false},
		{"/etc/ssl/", "/etc/ssl/a/b", true},
		{"/etc/ssl/", "/etc/ssl", false},
		{"**/.ssh/id_rsa", "/home/a/.ssh/id_rsa", true},
		{"**/.ssh/id_rsa", "/home/a/x.ssh/id_rsa", false},
		{"**/.ssh/id_rsa", "/.ssh/id_rsa", true},
		{"**/.azure/", "/root/.azure/a", true},
		{"**/.azure/", "/root/.azure", false},
	} {
		assert.Equal(t, tt.want, tt.pattern.Matches(tt.path), "%s %s", tt.pattern, tt.path)
	}
}
