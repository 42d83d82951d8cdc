// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

var allSecurityKinds = []event.SecurityKind{
	event.SecurityFileAccess, event.SecuritySetuidBit, event.SecurityCredentials, event.SecurityPtrace, event.SecurityMemoryWrite,
	event.SecurityFilelessExec, event.SecurityShellOnSocket, event.SecuritySetuidExec, event.SecurityNamespace, event.SecurityMount,
	event.SecurityModuleLoad, event.SecurityBPF, event.SecurityRawSocket, event.SecurityKernelLog, event.SecurityKexec,
}

func newSecurityWorld(t *testing.T, paths ...string) *world {
	return newWorld(t, func(o *Options) {
		o.Families = []string{familySecurity}
		o.Security = SecurityOptions{Kinds: allSecurityKinds, Paths: paths, SyscallTracepoints: true}
	})
}

func TestSecurityLoads(t *testing.T) {
	w := newSecurityWorld(t, "/etc/shadow")
	for _, c := range w.source.Capabilities() {
		t.Log(c.Hook, c.State, c.Reason)
		if strings.Contains(c.Hook, "sys_exit") || strings.Contains(c.Hook, "exec") {
			require.Equal(t, "attached", c.State, c.Reason)
		}
	}
}
