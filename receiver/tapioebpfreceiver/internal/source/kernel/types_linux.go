// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf/btf"
)

// kernelBTF is where the running kernel describes its own types.
const kernelBTF = "/sys/kernel/btf/vmlinux"

// checkTypes returns an error that says why the kernel's description of its types cannot be had. It is
// asked for by its path, since btf.Cache would look for a vmlinux in /boot and elsewhere instead: that may be
// of another build, so that what is read there is something else, and a kernel without BTF takes no
// tracing program whatever a file says.
func checkTypes() error {
	file, err := os.Open(kernelBTF)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("this kernel does not describe its types (BTF), which programs need to be attached and to find their way in it: %w; it must have been built with CONFIG_DEBUG_INFO_BTF=y, as those of all larger distributions are, and a vmlinux file elsewhere does not help; check with: ls %s; grep CONFIG_DEBUG_INFO_BTF /boot/config-$(uname -r); in a container, /sys must be mounted; %s", err, kernelBTF, tryWithout)
	case err != nil:
		return fmt.Errorf("this kernel's description of its types (BTF) may not be read: %w; the kernel lets everybody read it, so something hides it: a mount over it, or a policy of SELinux or AppArmor; check with: ls -l %s; grep btf /proc/self/mountinfo; %s", err, kernelBTF, tryWithout)
	}
	return file.Close()
}

// readTypes returns what checkTypes has found, decoded once for all programs.
func readTypes() (*btf.Cache, error) {
	types := btf.NewCache()
	if _, err := types.Kernel(); err != nil {
		return nil, fmt.Errorf("decode this kernel's description of its types (BTF), %s: %w; the kernel makes it, and it is always whole, so something else lies over it, or it is of a newer form than is known here; check with: grep btf /proc/self/mountinfo; bpftool btf dump file %s; %s", kernelBTF, err, kernelBTF, tryWithout)
	}
	return types, nil
}
