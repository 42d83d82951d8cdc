// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["confine"] = confine
	workloads["hooks"] = tellHooks
}

// enough are the capabilities that are enough.
var enough = []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN}

// confine lifts the memory limit where there is one, as who starts a collector there must, gives up all that is not enough, for
// good, and becomes the workload that tells its hooks.
func confine(args []string) error {
	runtime.LockOSThread() // what a thread gives up is its own, and so the program's that it becomes
	for _, step := range []func() error{rlimit.RemoveMemlock, dropFromBounds, becomeNobody, keepEnough, gainNothing} {
		if err := step(); err != nil {
			return err
		}
	}
	// by its path, this binary may be where only root can look
	return syscall.Exec("/proc/self/exe", append(os.Args[:1], args...), []string{workloadEnv + "=hooks"})
}

func dropFromBounds() error {
	for capability := uintptr(0); capability < 64; capability++ {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if err != nil {
			return nil // there are no more
		}
		if slices.Contains(enough, capability) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	return nil
}

func becomeNobody() error {
	const nobody = 65534
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody)); err != nil {
		return fmt.Errorf("become nobody's group: %w", err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("become nobody: %w", err)
	}
	return nil
}

func keepEnough() error {
	var set uint64
	for _, capability := range enough {
		set |= 1 << capability
	}
	low, high := uint32(set), uint32(set>>32)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: low, Permitted: low, Inheritable: low}, {Effective: high, Permitted: high, Inheritable: high}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	for _, capability := range enough {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, capability, 0, 0); err != nil {
			return fmt.Errorf("keep capability %d: %w", capability, err)
		}
	}
	return nil
}

func gainNothing() error {
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// told is what a source says of its hooks, and what its process may do.
type told struct {
	Effective uint64
	User      int
	Hooks     []string
}

// tellHooks loads families for a cgroup and prints what became of their hooks.
func tellHooks(args []string) error {
	effective, err := effectiveCapabilities()
	if err != nil {
		return err
	}
	opened, err := New(confinedOptions(args[0]), zap.NewNop())
	if err != nil {
		return err
	}
	t := told{Effective: effective, User: os.Getuid()}
	for _, c := range opened.Capabilities() {
		t.Hooks = append(t.Hooks, fmt.Sprintf("%s %s: %v %s", c.Family, c.Hook, c.State, c.Reason))
	}
	slices.Sort(t.Hooks)
	return errors.Join(json.NewEncoder(os.Stdout).Encode(t), opened.Close())
}

// confinedOptions have all families but http: that has the hooks of network, and takes an emulated machine minutes.
func confinedOptions(cgroup string) Options {
	options := defaultOptions()
	options.Families = []string{familyProcess, familyNetwork, familyDNS, familySecurity, familyCNI, familyEtcd}
	options.Cgroups, options.DNSPorts = []string{cgroup}, []uint16{53}
	options.Security = SecurityOptions{Kinds: event.SecurityKinds(), Paths: []string{"/etc/shadow"}, SyscallTracepoints: true}
	options.CNI = CNIOptions{PluginDirs: []string{"/opt/cni/bin"}, SyscallTracepoints: true}
	options.Etcd = etcdOptions()
	return options
}

// TestHooksOfThreeCapabilities: a user who owns nothing, with three capabilities, has every hook that root has.
func TestHooksOfThreeCapabilities(t *testing.T) {
	requireBPF(t)
	cgroup := newCgroup(t, "")
	require.NoError(t, os.Chmod(cgroup, 0o755)) // as others are
	root, confined := hooksOf(t, "hooks", cgroup), hooksOf(t, "confine", cgroup)
	var three uint64
	for _, capability := range enough {
		three |= 1 << capability
	}
	assert.Equal(t, three, confined.Effective)
	assert.Equal(t, 65534, confined.User)
	assert.NotEmpty(t, root.Hooks)
	assert.Equal(t, root.Hooks, confined.Hooks)
}

// hooksOf runs the workload beside the cgroup: a collector is in no scope of its own.
func hooksOf(t *testing.T, workload, scope string) (said told) {
	t.Helper()
	own := newCgroup(t, "")
	command := workloadIn(t, own, workload, scopeOf(t, scope))
	start := time.Now()
	out, err := command.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &said), "%s", out)
	t.Logf("%s: %d hooks in %s", workload, len(said.Hooks), time.Since(start).Round(time.Millisecond))
	return said
}
