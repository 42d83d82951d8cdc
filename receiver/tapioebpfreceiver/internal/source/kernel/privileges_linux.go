// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// need is a capability and what it is needed for. CAP_SYS_ADMIN, where a process has it anyway,
// stands for those that were once part of it (capabilities(7)).
type need struct {
	name    string
	bit     int
	ofAdmin bool
	why     string
}

// tryWithout is what can be done where eBPF cannot be had.
const tryWithout = "to try the receiver without, set source: simulator"

var needs = []need{
	{"CAP_BPF", unix.CAP_BPF, true, "to load eBPF programs"},
	{"CAP_PERFMON", unix.CAP_PERFMON, true, "to attach them to kernel tracepoints"},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, false, "to attach them to the traffic of cgroups"},
}

// checkPrivileges returns an error that names every capability that is missing, or what the kernel
// lacks.
func checkPrivileges() error {
	effective, err := effectiveCapabilities()
	if err != nil {
		return err
	}
	if missing := missingCapabilities(effective); len(missing) > 0 {
		return fmt.Errorf("eBPF needs capabilities that this process does not have: %s; run it as root, or give it these (setcap, or securityContext.capabilities.add in Kubernetes); %s",
			strings.Join(missing, ", "), tryWithout)
	}
	return checkTypes()
}

func missingCapabilities(effective uint64) []string {
	has := func(bit int) bool { return effective>>bit&1 == 1 }
	var missing []string
	for _, n := range needs {
		if has(n.bit) || n.ofAdmin && has(unix.CAP_SYS_ADMIN) {
			continue
		}
		missing = append(missing, fmt.Sprintf("%s (%s)", n.name, n.why))
	}
	return missing
}

func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("ask for this process's capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// isDenied tells a kernel that refuses from one that does not know.
func isDenied(err error) bool {
	return errors.Is(err, unix.EPERM)
}
