// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// SecurityOptions say which actions the family security reports.
type SecurityOptions struct {
	// Kinds of actions; the others are not looked at.
	Kinds []event.SecurityKind
	// Paths that are sensitive, as ParseSensitivePath has them; MaxSensitivePaths at the most.
	Paths []string
	// Capabilities, by number, whose use is reported with event.SecurityCapability.
	Capabilities []uint8
	// SyscallTracepoints says whether all system calls of the node may be looked at where this kernel has
	// no way to see just the ones that matter.
	SyscallTracepoints bool
}

const (
	// MaxSensitivePaths is how many there may be.
	MaxSensitivePaths = 1024
	// MaxSensitiveDepth is how many components one may have.
	MaxSensitiveDepth = 32
	// maxTailDepth is how many components a path may have that is looked for at any depth.
	maxTailDepth = 4
	maxNameBytes = 255 // NAME_MAX
)

// SensitivePath is what a path is compared with.
type SensitivePath struct {
	Components []string // from the root, or where AnyDepth from anywhere
	AnyDepth   bool     // **/.ssh/id_rsa
	Below      bool     // everything below: /etc/kubernetes/pki/
}

// ParseSensitivePath understands absolute paths, also with a slash at the end for all that is below, and
// both with **/ before them for any depth: "/etc/shadow", "/root/.ssh/", "**/.aws/credentials", "**/.ssh/".
func ParseSensitivePath(pattern string) (SensitivePath, error) {
	rest, anyDepth := strings.CutPrefix(pattern, "**/")
	if !anyDepth {
		var absolute bool
		if rest, absolute = strings.CutPrefix(pattern, "/"); !absolute {
			return SensitivePath{}, fmt.Errorf("path %q must begin with / or **/", pattern)
		}
	}
	rest, below := strings.CutSuffix(rest, "/")
	parsed := SensitivePath{Components: strings.Split(rest, "/"), AnyDepth: anyDepth, Below: below}
	if err := parsed.check(rest); err != nil {
		return SensitivePath{}, fmt.Errorf("path %q: %w", pattern, err)
	}
	return parsed, nil
}

func (p SensitivePath) check(rest string) error {
	depth := MaxSensitiveDepth
	if p.AnyDepth {
		depth = maxTailDepth
	}
	switch {
	case rest == "":
		return errors.New("names no file")
	case path.Clean("/"+rest) != "/"+rest:
		return errors.New(`has a component that is empty, "." or ".."`)
	case strings.ContainsRune(rest, 0):
		return errors.New("has a NUL")
	case strings.ContainsAny(rest, "*?["):
		return errors.New("has a wildcard: only **/ at the beginning is known")
	case len(p.Components) > depth:
		return fmt.Errorf("has %d components, the most are %d", len(p.Components), depth)
	}
	for _, name := range p.Components {
		if len(name) > maxNameBytes {
			return fmt.Errorf("component %.20q (cut) has %d bytes, the most are %d", name, len(name), maxNameBytes)
		}
	}
	return nil
}
