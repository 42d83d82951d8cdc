// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

const (
	// MaxPluginDirs are as many as there may be (plugin_dirs, bpf/cni.h).
	MaxPluginDirs = 16

	maxPluginDirBytes = 255 // so that a name of NAME_MAX has room in MAX_PLUGIN_PATH, bpf/cni.h
)

// CNIOptions say what the family cni reports.
type CNIOptions struct {
	// PluginDirs are the directories whose programs are plugins.
	PluginDirs []string
	// SyscallTracepoints says whether all system calls of the node may be looked at where the kernel has no way
	// to see just those that matter.
	SyscallTracepoints bool
}

// CheckPluginDir says what is wrong with a directory, which is compared as a runner names it: by its text.
func CheckPluginDir(dir string) error {
	switch {
	case !strings.HasPrefix(dir, "/"):
		return fmt.Errorf("path %q must begin with /", dir)
	case strings.ContainsRune(dir, 0):
		return fmt.Errorf("path %q has a NUL", dir)
	case dir == "/":
		return errors.New("path / is no directory of plugins")
	case path.Clean(dir) != strings.TrimSuffix(dir, "/"):
		return fmt.Errorf(`path %q has a component that is empty, "." or ".."`, dir)
	case len(dir) > maxPluginDirBytes:
		return fmt.Errorf("path %.20q (cut) has %d bytes, the most are %d", dir, len(dir), maxPluginDirBytes)
	default:
		return nil
	}
}
