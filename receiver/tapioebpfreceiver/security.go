// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// SecurityConfig of the family security. An entry "default" in one of its lists stands for what is there by
// default.
type SecurityConfig struct {
	// SensitivePaths whose opening is told: absolute, with a slash at the end for all below, with **/ before
	// them for any depth.
	SensitivePaths []string `mapstructure:"sensitive_paths"`
	// SyscallTracepoints says whether all system calls of the node may be looked at where the kernel has no way
	// to see just those that matter.
	SyscallTracepoints bool `mapstructure:"syscall_tracepoints"`
	// Capabilities whose use is told, by name.
	Capabilities []string `mapstructure:"capabilities"`
	// Shells that are told with a socket as standard input: names of programs, or paths.
	Shells []string `mapstructure:"shells"`
	// EveryCredentialChange says whether changes that give a process nothing more are told, too.
	EveryCredentialChange bool `mapstructure:"every_credential_change"`
	// FoldInterval is how long repeats are folded; 0: each is told.
	FoldInterval time.Duration       `mapstructure:"fold_interval"`
	Rules        SecurityRulesConfig `mapstructure:"rules"`

	_ struct{}
}

// SecurityRulesConfig has one section a rule.
type SecurityRulesConfig struct {
	FileSensitiveAccess       SecurityRuleConfig `mapstructure:"file.sensitive_access"`
	FileSetuidBit             SecurityRuleConfig `mapstructure:"file.setuid_bit"`
	ProcessCredentialsChanged SecurityRuleConfig `mapstructure:"process.credentials_changed"`
	ProcessCapabilityUsed     SecurityRuleConfig `mapstructure:"process.capability_used"`
	ProcessPtrace             SecurityRuleConfig `mapstructure:"process.ptrace"`
	ProcessMemoryWrite        SecurityRuleConfig `mapstructure:"process.memory_write"`
	ProcessFilelessExec       SecurityRuleConfig `mapstructure:"process.fileless_exec"`
	ProcessShellOnSocket      SecurityRuleConfig `mapstructure:"process.shell_on_socket"`
	ProcessSetuidExec         SecurityRuleConfig `mapstructure:"process.setuid_exec"`
	NamespaceChanged          SecurityRuleConfig `mapstructure:"namespace.changed"`
	Mount                     SecurityRuleConfig `mapstructure:"mount"`
	KernelModuleLoad          SecurityRuleConfig `mapstructure:"kernel.module_load"`
	KernelBPF                 SecurityRuleConfig `mapstructure:"kernel.bpf"`
	NetworkRawSocket          SecurityRuleConfig `mapstructure:"network.raw_socket"`
	KernelLogRead             SecurityRuleConfig `mapstructure:"kernel.log_read"`
	KernelKexec               SecurityRuleConfig `mapstructure:"kernel.kexec"`

	_ struct{}
}

// SecurityRuleConfig of one rule.
type SecurityRuleConfig struct {
	// Enabled is false where the kernel is not even asked.
	Enabled bool `mapstructure:"enabled"`
	// Severity of the log record: trace, debug, info, warn, error or fatal.
	Severity string              `mapstructure:"severity"`
	Allow    SecurityAllowConfig `mapstructure:"allow"`

	_ struct{}
}

// SecurityAllowConfig says whose actions a rule leaves out. One of them is enough.
type SecurityAllowConfig struct {
	// Executables as in SensitivePaths. Those of "default" are allowed outside of containers only.
	Executables []string `mapstructure:"executables"`
	// Users are real user ids, as the host has them: at most 4294967295.
	Users []uint64 `mapstructure:"users"`
	// Containers are names in Kubernetes, or ids, of which the first 12 digits are enough.
	Containers []string `mapstructure:"containers"`
	// Namespaces of Kubernetes.
	Namespaces []string `mapstructure:"namespaces"`

	_ struct{}
}

const (
	keyDefault = "default" // in a list: what is there by default

	maxAllowed      = 1024 // each is compared with every action that comes
	maxShells       = 256
	maxFoldInterval = time.Hour
)

var severities = []struct {
	name   string
	number plog.SeverityNumber
}{
	{"trace", plog.SeverityNumberTrace},
	{"debug", plog.SeverityNumberDebug},
	{"info", plog.SeverityNumberInfo},
	{"warn", plog.SeverityNumberWarn},
	{"error", plog.SeverityNumberError},
	{"fatal", plog.SeverityNumberFatal},
}

func defaultSecurity() SecurityConfig {
	rule := func(severity string) SecurityRuleConfig {
		return SecurityRuleConfig{Enabled: true, Severity: severity, Allow: SecurityAllowConfig{Executables: []string{keyDefault}}}
	}
	return SecurityConfig{
		SensitivePaths:     []string{keyDefault},
		SyscallTracepoints: true,
		Capabilities:       []string{},
		Shells:             []string{keyDefault},
		FoldInterval:       10 * time.Second,
		Rules: SecurityRulesConfig{
			FileSensitiveAccess:       rule("warn"),
			FileSetuidBit:             rule("warn"),
			ProcessCredentialsChanged: rule("warn"),
			ProcessCapabilityUsed:     rule("info"),
			ProcessPtrace:             rule("warn"),
			ProcessMemoryWrite:        rule("error"),
			ProcessFilelessExec:       rule("error"),
			ProcessShellOnSocket:      rule("error"),
			ProcessSetuidExec:         rule("info"),
			NamespaceChanged:          rule("info"),
			Mount:                     rule("info"),
			KernelModuleLoad:          rule("warn"),
			KernelBPF:                 rule("warn"),
			NetworkRawSocket:          rule("warn"),
			KernelLogRead:             rule("info"),
			KernelKexec:               rule("error"),
		},
	}
}

// byKind are the rules by what they are of.
func (c *SecurityRulesConfig) byKind() [event.SecurityKindCount]*SecurityRuleConfig {
	return [event.SecurityKindCount]*SecurityRuleConfig{
		event.SecurityFileAccess:    &c.FileSensitiveAccess,
		event.SecuritySetuidBit:     &c.FileSetuidBit,
		event.SecurityCredentials:   &c.ProcessCredentialsChanged,
		event.SecurityCapability:    &c.ProcessCapabilityUsed,
		event.SecurityPtrace:        &c.ProcessPtrace,
		event.SecurityMemoryWrite:   &c.ProcessMemoryWrite,
		event.SecurityFilelessExec:  &c.ProcessFilelessExec,
		event.SecurityShellOnSocket: &c.ProcessShellOnSocket,
		event.SecuritySetuidExec:    &c.ProcessSetuidExec,
		event.SecurityNamespace:     &c.NamespaceChanged,
		event.SecurityMount:         &c.Mount,
		event.SecurityModuleLoad:    &c.KernelModuleLoad,
		event.SecurityBPF:           &c.KernelBPF,
		event.SecurityRawSocket:     &c.NetworkRawSocket,
		event.SecurityKernelLog:     &c.KernelLogRead,
		event.SecurityKexec:         &c.KernelKexec,
	}
}

// kinds that the kernel is asked for.
func (c *SecurityConfig) kinds() (kinds []event.SecurityKind) {
	rules := c.Rules.byKind()
	for _, kind := range event.SecurityKinds() {
		isAboutNothing := kind == event.SecurityFileAccess && len(c.SensitivePaths) == 0 ||
			kind == event.SecurityCapability && len(c.Capabilities) == 0 ||
			kind == event.SecurityShellOnSocket && len(c.Shells) == 0
		if rules[kind].Enabled && !isAboutNothing {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// --- checks ----------------------------------------------------------------------------------------

func (c *SecurityConfig) validate() error {
	const key = "families::security::"
	errs := []error{
		within(key+"fold_interval", c.FoldInterval, 0, maxFoldInterval),
		c.validatePaths(key + "sensitive_paths"),
		c.validateCapabilities(key + "capabilities"),
		c.validateShells(key + "shells"),
	}
	rules := c.Rules.byKind()
	for _, kind := range event.SecurityKinds() {
		errs = append(errs, rules[kind].validate(key+"rules::"+kind.String()))
	}
	if len(c.kinds()) == 0 {
		errs = append(errs, errors.New(key+"rules: all are off, or about nothing: set families::security::enabled: false"))
	}
	return errors.Join(errs...)
}

func (c *SecurityConfig) validatePaths(key string) error {
	if n := len(c.sensitivePaths()); n > kernel.MaxSensitivePaths {
		return fmt.Errorf("%s: %d are too many, the most are %d", key, n, kernel.MaxSensitivePaths)
	}
	return validatePatterns(key, c.SensitivePaths)
}

// validatePatterns of paths, or "default".
func validatePatterns(key string, patterns []string) error {
	var errs []error
	for i, pattern := range patterns {
		if pattern == keyDefault {
			continue
		}
		if _, err := kernel.ParseSensitivePath(pattern); err != nil {
			errs = append(errs, fmt.Errorf("%s::%d: %w", key, i, err))
		}
	}
	return errors.Join(errs...)
}

func (c *SecurityConfig) validateCapabilities(key string) error {
	var errs []error
	for i, name := range c.Capabilities {
		if _, ok := event.CapabilityNumber(name); !ok {
			errs = append(errs, fmt.Errorf("%s::%d: %q is not the name of a capability, such as CAP_SYS_MODULE", key, i, name))
		}
	}
	return errors.Join(errs...)
}

func (c *SecurityConfig) validateShells(key string) error {
	if n := len(c.Shells); n > maxShells {
		return fmt.Errorf("%s: %d are too many, the most are %d", key, n, maxShells)
	}
	var errs []error
	for i, shell := range c.Shells {
		if shell == "" {
			errs = append(errs, fmt.Errorf("%s::%d: is empty, it must be a name such as bash, or a path", key, i))
		} else if strings.Contains(shell, "/") {
			errs = append(errs, validatePatterns(fmt.Sprintf("%s::%d", key, i), []string{shell}))
		}
	}
	return errors.Join(errs...)
}

func (c *SecurityRuleConfig) validate(key string) error {
	errs := []error{c.Allow.validate(key + "::allow::")}
	if severityOf(c.Severity) == plog.SeverityNumberUnspecified {
		errs = append(errs, fmt.Errorf("%s::severity: %q must be trace, debug, info, warn, error or fatal", key, c.Severity))
	}
	return errors.Join(errs...)
}

func severityOf(name string) plog.SeverityNumber {
	for _, severity := range severities {
		if severity.name == name {
			return severity.number
		}
	}
	return plog.SeverityNumberUnspecified
}

func (c *SecurityAllowConfig) validate(key string) error {
	var errs []error
	for _, list := range []struct {
		name string
		size int
	}{
		{"executables", len(c.Executables)},
		{"users", len(c.Users)},
		{"containers", len(c.Containers)},
		{"namespaces", len(c.Namespaces)},
	} {
		if list.size > maxAllowed {
			errs = append(errs, fmt.Errorf("%s%s: %d are too many, the most are %d", key, list.name, list.size, maxAllowed))
		}
	}
	for i, user := range c.Users {
		errs = append(errs, within(fmt.Sprintf("%susers::%d", key, i), user, 0, math.MaxUint32))
	}
	return errors.Join(append(errs,
		validatePatterns(key+"executables", c.Executables),
		validateNames(key+"containers", c.Containers),
		validateNames(key+"namespaces", c.Namespaces),
	)...)
}

func validateNames(key string, names []string) error {
	if i := slices.Index(names, ""); i >= 0 {
		return fmt.Errorf("%s::%d: is empty", key, i)
	}
	return nil
}

// --- what it means ---------------------------------------------------------------------------------

// expand a list: "default" stands for what is there by default. What is named twice is there once.
func expand(list, defaults []string) (expanded []string) {
	for _, entry := range list {
		entries := []string{entry}
		if entry == keyDefault {
			entries = defaults
		}
		for _, entry := range entries {
			if !slices.Contains(expanded, entry) {
				expanded = append(expanded, entry)
			}
		}
	}
	return expanded
}

// sensitivePaths in the order in which the kernel side has them.
func (c *SecurityConfig) sensitivePaths() []string {
	var defaults []string
	for _, group := range sensitiveDefaults {
		defaults = append(defaults, group.paths...)
	}
	return expand(c.SensitivePaths, defaults)
}

// kernelOptions of the family.
func (c *SecurityConfig) kernelOptions() kernel.SecurityOptions {
	options := kernel.SecurityOptions{Kinds: c.kinds(), Paths: c.sensitivePaths(), SyscallTracepoints: c.SyscallTracepoints}
	for _, name := range c.Capabilities {
		if number, ok := event.CapabilityNumber(name); ok && !slices.Contains(options.Capabilities, number) {
			options.Capabilities = append(options.Capabilities, number)
		}
	}
	return options
}

// securityOptions are those of log records, spans and metrics.
func (c *Config) securityOptions() translate.SecurityOptions {
	security := c.Families.Security.Get()
	if security == nil {
		return translate.SecurityOptions{}
	}
	options := translate.SecurityOptions{
		Shells:                expand(security.Shells, defaultShells),
		EveryCredentialChange: security.EveryCredentialChange,
		FoldInterval:          security.FoldInterval,
	}
	for _, pattern := range security.sensitivePaths() {
		options.Paths = append(options.Paths, sensitivePath(pattern))
	}
	for kind, rule := range security.Rules.byKind() {
		if rule != nil {
			options.Rules[kind] = rule.options(event.SecurityKind(kind))
		}
	}
	return options
}

// sensitivePath is what is known of a path; of one that is no default, nothing.
func sensitivePath(pattern string) translate.SensitivePath {
	for i := range sensitiveDefaults {
		group := &sensitiveDefaults[i]
		if slices.Contains(group.paths, pattern) {
			return translate.SensitivePath{
				Pattern: translate.PathPattern(pattern), Technique: group.technique, OnWrite: group.onWrite,
				Readers: patternsOf(group.readers), FirstProgram: group.firstProgram,
			}
		}
	}
	return translate.SensitivePath{Pattern: translate.PathPattern(pattern)}
}

func (c *SecurityRuleConfig) options(kind event.SecurityKind) translate.SecurityRule {
	allow := translate.SecurityAllow{Containers: c.Allow.Containers, Namespaces: c.Allow.Namespaces}
	for _, user := range c.Allow.Users {
		allow.Users = append(allow.Users, uint32(user))
	}
	for _, pattern := range c.Allow.Executables {
		if pattern != keyDefault {
			allow.Executables = append(allow.Executables, translate.PathPattern(pattern))
			continue
		}
		allow.Readers = true
		allow.HostExecutables = patternsOf(allowedDefaults[kind].executables)
		allow.HostParents = patternsOf(allowedDefaults[kind].parents)
	}
	return translate.SecurityRule{Enabled: c.Enabled, Severity: severityOf(c.Severity), Allow: allow}
}

func patternsOf(paths []string) []translate.PathPattern {
	patterns := make([]translate.PathPattern, 0, len(paths))
	for _, path := range paths {
		patterns = append(patterns, translate.PathPattern(path))
	}
	return patterns
}

// inDirectories are the paths that programs of these names may have.
func inDirectories(names ...string) (paths []string) {
	for _, directory := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"} {
		for _, name := range names {
			paths = append(paths, path.Join(directory, name))
		}
	}
	return paths
}
