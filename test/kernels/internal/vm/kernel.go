// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package vm runs Go test binaries in QEMU guests on Debian's kernels.
package vm

import (
	"fmt"
	"path/filepath"
	"runtime"
)

// Kernel is a Debian kernel package at one pinned version.
type Kernel struct {
	// Name is how people ask for it.
	Name string
	// Arch is the architecture in Go's spelling, which is Debian's too.
	Arch string

	suite    string
	version  string
	packages []string
	pinnedAt string // file:line of the pin, for the error that asks to move it
}

// Kernels are those that we test on: the oldest that we support, the two that most machines run
// and the newest that Debian has.
//
// Debian serves a version for some weeks only. When one is gone, Fetch fails with the line to
// change and what the suite has now. The packages named *-unsigned hold the same kernel without a
// signature, and Debian drops them earlier.
var Kernels = []Kernel{
	pin("5.10", "amd64", "bullseye-security", "5.10.262-1", "linux-image-5.10.0-46-cloud-amd64"),
	pin("7.3", "amd64", "trixie-backports", "7.3.4-1~bpo13+1", "linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"),
	pin("6.1", "amd64", "bookworm-security", "6.1.192-2", "linux-image-6.1.0-56-cloud-amd64"),
	pin("6.12", "amd64", "trixie-security", "6.12.117-1", "linux-image-6.12.117+deb13-cloud-amd64"),
	pin("6.12-arm64", "arm64", "trixie-security", "6.12.117-1", "linux-image-6.12.117+deb13-cloud-arm64"),
}

// pin must be called on one line for each kernel: that line goes into the error.
func pin(name, arch, suite, version string, packages ...string) Kernel {
	_, file, line, _ := runtime.Caller(1)
	return Kernel{
		Name:     name,
		Arch:     arch,
		suite:    suite,
		version:  version,
		packages: packages,
		pinnedAt: fmt.Sprintf("test/kernels/internal/vm/%s:%d", filepath.Base(file), line),
	}
}

// Lookup finds a kernel by its name.
func Lookup(name string) (Kernel, error) {
	var names []string
	for _, k := range Kernels {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kernel{}, fmt.Errorf("no kernel %q; there are %q", name, names)
}
