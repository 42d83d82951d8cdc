// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

// Package lockdown tests the kernel as a source where it is locked down (kernel_lockdown(7)). A kernel stays so until it is
// booted again, which is why that has a test binary of its own: guests run it after all others.
package lockdown

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
)

const securityfs = "/sys/kernel/security"

// TestLockdown: in its mode integrity nothing is lost. In its mode confidentiality nothing could be seen, and that is said at the
// start.
func TestLockdown(t *testing.T) {
	if os.Getenv("TAPIO_GUEST") != "1" {
		t.Skip("a kernel stays locked down until it is booted again, so that is done in guests only (make test-kernels)")
	}
	require.NoError(t, unix.Mount("securityfs", securityfs, "securityfs", 0, ""))
	dir, err := os.MkdirTemp("/sys/fs/cgroup", "tapio-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
	options := kernel.Options{
		Families: []string{"process", "network"}, Cgroups: []string{filepath.Base(dir)},
		RingSize: 1 << 20, FlushInterval: 5 * time.Millisecond, ReportInterval: time.Minute,
	}

	lockDown(t, "integrity")
	opened, err := kernel.New(options, zap.NewNop())
	require.NoError(t, err)
	for _, c := range opened.Capabilities() {
		assert.Equal(t, source.Attached, c.State, "%s: %s", c.Hook, c.Reason)
	}
	require.NoError(t, opened.Close())

	lockDown(t, "confidentiality")
	_, err = kernel.New(options, zap.NewNop())
	require.Error(t, err)
	t.Log(err)
	for _, part := range []string{"bpf_probe_read_kernel", "lockdown=confidentiality", securityfs + "/lockdown", "set source: simulator"} {
		assert.ErrorContains(t, err, part)
	}
}

func lockDown(t *testing.T, level string) {
	t.Helper()
	const file = securityfs + "/lockdown"
	require.NoError(t, os.WriteFile(file, []byte(level), 0))
	levels, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(levels), "["+level+"]")
}
