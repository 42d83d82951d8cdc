// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package e2e runs the built collector on real eBPF and compares what it writes with what the tests
// themselves know: they start the processes, and these say what they sent and received.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	// patience is how long anything that must come about may take, on a machine with other work.
	patience = 20 * time.Second
	// pollInterval is how often it is looked for.
	pollInterval = 20 * time.Millisecond
)

// TestMain is also the beginning of every workload: this binary, started once more.
func TestMain(m *testing.M) {
	if name := os.Getenv(workloadEnv); name != "" {
		if err := workloads[name](os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "workload %s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := leaveAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// leaveAtOnce is for the workloads: with the race detector in it, a program would wait for a second before it ends.
func leaveAtOnce() error {
	return os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
}

// requireBPF skips where the collector cannot run, or fails where it must.
func requireBPF(t *testing.T) {
	t.Helper()
	err := errors.Join(checkCapabilities(), checkFiles(), checkNamespace(), checkBinary(t))
	if err == nil {
		return
	}
	if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
		require.NoError(t, err, "TAPIO_REQUIRE_BPF=1")
	}
	t.Skip(err)
}

func checkCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	effective := uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	has := func(bit int) bool { return effective>>bit&1 == 1 }
	switch {
	case !has(unix.CAP_SETUID):
		return errors.New("the workloads need root")
	case !has(unix.CAP_NET_ADMIN):
		return errors.New("eBPF needs CAP_NET_ADMIN")
	case !has(unix.CAP_SYS_ADMIN) && (!has(unix.CAP_BPF) || !has(unix.CAP_PERFMON)):
		return errors.New("eBPF needs CAP_BPF and CAP_PERFMON")
	}
	return nil
}

func checkFiles() error {
	if _, err := cgroup2Mount(); err != nil {
		return err
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return fmt.Errorf("eBPF needs a kernel with BTF: %w", err)
	}
	return nil
}

func checkBinary(t *testing.T) error {
	if _, err := os.Stat(binary(t)); err != nil {
		return fmt.Errorf("run make build first: %w", err)
	}
	return nil
}

// checkNamespace: records have the host's pids, and a test in a pid namespace knows its own only.
func checkNamespace() error {
	const initial = "pid:[4026531836]" // PROC_PID_INIT_INO, include/linux/proc_ns.h
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err == nil && namespace != initial {
		err = errors.New("the tests need the host's pid namespace")
	}
	return err
}

// binary is the collector under test.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TAPIO_BINARY")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "otelcol-tapio")
	}
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	return path
}

// publicDir is a temporary directory that every user can look into.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	dir, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return dir
}
