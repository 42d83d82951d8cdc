// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDiedOfEmulation(t *testing.T) {
	for console, want := range map[string]bool{
		"": false,
		"[    1.210267] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI\n[    1.210320] RIP: 0010:sched_clock_cpu+0x9/0x1d0\n":                true,
		"@@READY kernel=5.10\n[   12.100000] int3: 0000 [#1] SMP NOPTI\n":                                                             true,
		"[    9.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n[    9.1] Oops: 0000 [#1] PREEMPT SMP NOPTI": false,
		"@@READY kernel=5.10\n--- FAIL: TestInt3 (0.00s)\n":                                                                           false,
	} {
		assert.Equal(t, want, diedOfEmulation(console), console)
	}
}

func TestWasStuck(t *testing.T) {
	const stuck = "[ 1064.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 52s! [tests:386]\n[ 1064.100000] Kernel panic - not syncing: softlockup: hung tasks\n"
	for console, want := range map[string]bool{
		"":    false,
		stuck: true,
		stuck + "[ 1064.2]  native_queued_spin_lock_slowpath+0x1d0/0x200\n":     true,
		stuck + "[ 1064.2]  bpf_prog_6deef7357e7b4530_packet_sent+0x60/0x100\n": false,
		stuck + "[ 1064.2]  __htab_percpu_map_update_elem+0x60/0x100\n":         false,
		"[   11.0]  bpf_prog_load+0x1\n" + stuck:                                true,
		"[   12.000000] Kernel panic - not syncing: Fatal exception\n":          false,
	} {
		assert.Equal(t, want, wasStuck(console), console)
	}
}
