// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

func securityDefaults(change func(*SecurityConfig)) SecurityConfig {
	rule := func(severity string) SecurityRuleConfig {
		return SecurityRuleConfig{Enabled: true, Severity: severity, Allow: SecurityAllowConfig{Executables: []string{"default"}}}
	}
	security := SecurityConfig{
		SensitivePaths: []string{"default"}, SyscallTracepoints: true, Capabilities: []string{}, Shells: []string{"default"}, FoldInterval: 10 * time.Second,
		Rules: SecurityRulesConfig{
			FileSensitiveAccess: rule("warn"), FileSetuidBit: rule("warn"), ProcessCredentialsChanged: rule("warn"), ProcessCapabilityUsed: rule("info"),
			ProcessPtrace: rule("warn"), ProcessMemoryWrite: rule("error"), ProcessFilelessExec: rule("error"), ProcessShellOnSocket: rule("error"),
			ProcessSetuidExec: rule("info"), NamespaceChanged: rule("info"), Mount: rule("info"), KernelModuleLoad: rule("warn"), KernelBPF: rule("warn"),
			NetworkRawSocket: rule("warn"), KernelLogRead: rule("info"), KernelKexec: rule("error"),
		},
	}
	change(&security)
	return security
}

// everySecurityKey is what testdata/every_key.yaml says.
func everySecurityKey() SecurityConfig {
	security := SecurityConfig{
		SensitivePaths: []string{"/etc/shadow", "**/.ssh/"}, Capabilities: []string{"CAP_SYS_MODULE", "sys_rawio"}, Shells: []string{"sh", "/opt/shell"},
		EveryCredentialChange: true, FoldInterval: time.Hour,
	}
	for kind, rule := range security.Rules.byKind() {
		if rule == nil {
			continue
		}
		*rule = SecurityRuleConfig{Enabled: kind == int(event.SecurityFileAccess), Severity: "debug", Allow: SecurityAllowConfig{
			Executables: []string{"/opt/" + event.SecurityKind(kind).String()}, Users: []uint64{0, 4294967295},
			Containers: []string{"agent"}, Namespaces: []string{"kube-system"},
		}}
	}
	return security
}

// Each rule has the section of its own name.
func TestSecurityRulesByKind(t *testing.T) {
	security := everySecurityKey()
	for kind, rule := range security.Rules.byKind() {
		if kind == 0 {
			assert.Nil(t, rule)
			continue
		}
		require.NotNil(t, rule, event.SecurityKind(kind))
	}
}

func TestSecurityListsThatAreTooLong(t *testing.T) {
	many := func(n int, format string) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(format, i))
		}
		return list
	}
	for _, tt := range []struct {
		change func(*SecurityConfig)
		want   string
	}{
		{func(c *SecurityConfig) { c.SensitivePaths = many(5000, "/srv/%d") }, "families::security::sensitive_paths: 5000 are too many, the most are 1024"},
		{func(c *SecurityConfig) { c.Shells = many(257, "sh%d") }, "families::security::shells: 257 are too many, the most are 256"},
		{func(c *SecurityConfig) { c.Rules.Mount.Allow.Executables = many(5000, "/bin/%d") }, "families::security::rules::mount::allow::executables: 5000 are too many, the most are 1024"},
		{func(c *SecurityConfig) { c.Rules.Mount.Allow.Users = make([]uint64, 1025) }, "families::security::rules::mount::allow::users: 1025 are too many, the most are 1024"},
		{func(c *SecurityConfig) { c.Rules.Mount.Allow.Users = []uint64{1, 1 << 32} }, "families::security::rules::mount::allow::users::1: 4294967296 must be from 0 to 4294967295"},
		{func(c *SecurityConfig) { c.Rules.KernelBPF.Allow.Containers = many(1025, "c%d") }, "families::security::rules::kernel.bpf::allow::containers: 1025 are too many, the most are 1024"},
		{func(c *SecurityConfig) { c.Rules.KernelBPF.Allow.Namespaces = many(1025, "n%d") }, "families::security::rules::kernel.bpf::allow::namespaces: 1025 are too many, the most are 1024"},
	} {
		security := securityDefaults(tt.change)
		assert.EqualError(t, security.validate(), tt.want)
	}
}

// What is there by default must itself be what one could configure, and leave room for more.
func TestSecurityDefaultsAreValid(t *testing.T) {
	security := securityDefaults(func(*SecurityConfig) {})
	paths := security.sensitivePaths()
	assert.Less(t, len(paths), kernel.MaxSensitivePaths/2)
	require.NoError(t, validatePatterns("paths", paths))
	for _, path := range []string{"/etc/shadow", "/etc/sudoers.d/", "/run/secrets/kubernetes.io/serviceaccount/", "**/.aws/credentials", "/dev/mem"} {
		assert.Contains(t, paths, path)
	}
	for _, group := range sensitiveDefaults {
		assert.NoError(t, validatePatterns("readers", group.readers))
	}
	for _, allowed := range allowedDefaults {
		assert.NoError(t, validatePatterns("executables", allowed.executables))
		assert.NoError(t, validatePatterns("parents", allowed.parents))
	}
	for _, shell := range defaultShells {
		assert.False(t, strings.Contains(shell, "/"))
	}
}

func TestSecurityKernelOptions(t *testing.T) {
	kinds := func(without ...event.SecurityKind) (kinds []event.SecurityKind) {
		for _, kind := range event.SecurityKinds() {
			if !slices.Contains(without, kind) {
				kinds = append(kinds, kind)
			}
		}
		return kinds
	}
	security := securityDefaults(func(*SecurityConfig) {})
	options := security.kernelOptions()
	assert.Equal(t, kinds(event.SecurityCapability), options.Kinds, "no capability is named")
	assert.True(t, options.SyscallTracepoints)
	assert.Empty(t, options.Capabilities)

	security = securityDefaults(func(c *SecurityConfig) {
		c.SensitivePaths = []string{"/srv/key", "default", "/etc/shadow"}
		c.Capabilities = []string{"sys_module", "CAP_SYS_MODULE", "chown"}
		c.SyscallTracepoints = false
		c.Rules.Mount.Enabled = false
	})
	options = security.kernelOptions()
	assert.Equal(t, kinds(event.SecurityMount), options.Kinds)
	assert.Equal(t, []uint8{16, 0}, options.Capabilities)
	assert.False(t, options.SyscallTracepoints)
	assert.Equal(t, []string{"/srv/key", "/etc/shadow"}, options.Paths[:2])
	assert.Len(t, options.Paths, 1+len(securityDefaultPaths()), "none is there twice")

	security = securityDefaults(func(c *SecurityConfig) { c.SensitivePaths, c.Shells = nil, nil })
	assert.Equal(t, kinds(event.SecurityCapability, event.SecurityFileAccess, event.SecurityShellOnSocket), security.kernelOptions().Kinds)
}

func securityDefaultPaths() []string {
	security := securityDefaults(func(*SecurityConfig) {})
	return security.sensitivePaths()
}

func TestSecurityOptions(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	security := cfg.Families.Security.Get()
	security.SensitivePaths = []string{"default", "/srv/key"}
	security.Rules.Mount.Allow.Executables = []string{"/opt/tool"}
	security.Rules.KernelBPF.Allow.Executables = []string{"default", "/opt/tool"}
	options := cfg.securityOptions()

	require.Len(t, options.Paths, len(security.kernelOptions().Paths), "the kernel side tells of paths by their number")
	for i, path := range security.kernelOptions().Paths {
		require.EqualValues(t, path, options.Paths[i].Pattern)
	}
	assert.Equal(t, "T1003.008", options.Paths[0].Technique)
	assert.Contains(t, options.Paths[0].Readers, translate.PathPattern("/usr/bin/sudo"))
	assert.Equal(t, translate.SensitivePath{Pattern: "/srv/key"}, options.Paths[len(options.Paths)-1])
	assert.Contains(t, options.Shells, "bash")
	assert.Equal(t, 10*time.Second, options.FoldInterval)

	mount, bpf := options.Rules[event.SecurityMount], options.Rules[event.SecurityBPF]
	assert.Equal(t, translate.SecurityRule{Enabled: true, Severity: plog.SeverityNumberInfo, Allow: translate.SecurityAllow{
		Executables: []translate.PathPattern{"/opt/tool"},
	}}, mount)
	assert.Equal(t, []translate.PathPattern{"/opt/tool"}, bpf.Allow.Executables)
	assert.Contains(t, bpf.Allow.HostExecutables, translate.PathPattern("/usr/bin/runc"))
	assert.Contains(t, bpf.Allow.HostParents, translate.PathPattern("/usr/bin/kubelet"))
	assert.NotContains(t, bpf.Allow.HostParents, translate.PathPattern("/usr/lib/systemd/"), "it is the parent of all services")
}

// giveOpens has process 2 open /etc/shadow n times, now.
func (f *fakeSource) giveOpens(n int, executable string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	boot, err := f.BootTime()
	now := uint64(time.Now().UnixNano() - boot)
	if err != nil {
		panic(err)
	}
	f.seen++
	f.waiting = append(f.waiting, eventtest.Exec(bpf.WireProcessExec{
		Header: bpf.WireEventHeader{Time: now, StartTime: 1e9, Pid: 2}, Process: bpf.WireProcessIdentity{ParentPid: 1},
	}, executable, "/"))
	for range n {
		f.actions++
		f.waiting = append(f.waiting, eventtest.Security(bpf.WireSecurityAction{
			Header: bpf.WireEventHeader{Time: now, StartTime: 1e9, Pid: 2}, Process: bpf.WireProcessIdentity{ParentPid: 1, Uid: 1000},
			Kind: uint16(event.SecurityFileAccess), Operation: uint16(event.OperationOpen), Flags: event.SecurityPathResolved, Values: [4]uint64{1: 5},
		}, "/etc/shadow", "", ""))
	}
}

func (s *setup) securityRow(t *testing.T) LedgerRow {
	t.Helper()
	row := s.receiver.stats().Ledger["security"]
	sum := row.Exported + row.Aggregated + row.Filtered + row.InFlight
	for _, n := range row.Lost {
		sum += n
	}
	require.Equal(t, row.Seen, sum, "the ledger is closed")
	return row
}

func counted(sink *consumertest.LogsSink) (records int, actions int64) {
	for _, batch := range sink.AllLogs() {
		for _, record := range allRecords(batch) {
			if record.EventName() != "tapio.security.file.sensitive_access" {
				continue
			}
			records++
			if count, ok := record.Attributes().Get("tapio.security.count"); ok {
				actions += count.Int()
			} else {
				actions++
			}
		}
	}
	return records, actions
}

// Ten thousand opens become few records, and are ten thousand in the account and in the counts.
func TestManySensitiveOpensAreExported(t *testing.T) {
	const opens = 10_000
	for _, tt := range []struct {
		name     string
		interval time.Duration
		ends     func(*setup) error
	}{
		{"the interval ends", 100 * time.Millisecond, func(*setup) error { return nil }},
		{"the receiver ends", time.Hour, func(s *setup) error { return s.receiver.Shutdown(context.Background()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := &consumertest.LogsSink{}
			s := newSetup(t, sink, func(c *Config) {
				c.Families.Security.Get().FoldInterval = tt.interval
				c.Batch.MaxEvents = 100
			})
			s.source.giveOpens(opens, "/usr/bin/cat")
			require.Eventually(t, func() bool { return s.securityRow(t).Exported > 0 }, patience, time.Millisecond)
			require.NoError(t, tt.ends(s))
			require.Eventually(t, func() bool { return s.securityRow(t).Exported == opens }, patience, time.Millisecond)
			assert.Equal(t, LedgerRow{Seen: opens, Exported: opens, Lost: map[string]uint64{}}, s.securityRow(t))
			records, actions := counted(sink)
			assert.EqualValues(t, opens, actions)
			assert.Equal(t, 2, records)
		})
	}
}

// By default, who reads the file as a matter of course is left out.
func TestExpectedReadersAreFiltered(t *testing.T) {
	sink := &consumertest.LogsSink{}
	s := newSetup(t, sink, nil)
	s.source.giveOpens(3, "/usr/sbin/sshd")
	require.Eventually(t, func() bool { return s.securityRow(t).Filtered == 3 }, patience, time.Millisecond)
	records, _ := counted(sink)
	assert.Zero(t, records)
}
