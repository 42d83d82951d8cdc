// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
)

// CNIConfig of the family cni. An entry "default" in its list stands for what is there by default.
type CNIConfig struct {
	// PluginDirs are the directories whose programs are plugins, as the container runtime names them.
	PluginDirs []string `mapstructure:"plugin_dirs"`
	// SyscallTracepoints says whether all system calls of the node may be looked at where the kernel has no way
	// to see just those that matter.
	SyscallTracepoints bool `mapstructure:"syscall_tracepoints"`

	_ struct{}
}

// defaultPluginDirs are those of container runtimes and of distributions.
var defaultPluginDirs = []string{
	"/opt/cni/bin",       // containerd, CRI-O, Kubernetes
	"/usr/lib/cni",       // Debian
	"/usr/libexec/cni",   // Fedora, CRI-O, podman
	"/usr/local/lib/cni", // podman
	"/usr/local/libexec/cni",
	"/var/lib/cni/bin",     // OpenShift
	"/home/kubernetes/bin", // GKE
	"/var/lib/rancher/k3s/data/cni",
}

func defaultCNI() CNIConfig {
	return CNIConfig{PluginDirs: []string{keyDefault}, SyscallTracepoints: true}
}

func (c *CNIConfig) pluginDirs() []string { return expand(c.PluginDirs, defaultPluginDirs) }

func (c *CNIConfig) validate() error {
	const key = "families::cni::plugin_dirs"
	if n := len(c.pluginDirs()); n == 0 || n > kernel.MaxPluginDirs {
		return fmt.Errorf("%s: there must be 1 to %d with the defaults, not %d", key, kernel.MaxPluginDirs, n)
	}
	var errs []error
	for i, dir := range c.PluginDirs {
		if dir == keyDefault {
			continue
		}
		if err := kernel.CheckPluginDir(dir); err != nil {
			errs = append(errs, fmt.Errorf("%s::%d: %w", key, i, err))
		}
	}
	return errors.Join(errs...)
}

func (c *CNIConfig) kernelOptions() kernel.CNIOptions {
	return kernel.CNIOptions{PluginDirs: c.pluginDirs(), SyscallTracepoints: c.SyscallTracepoints}
}
