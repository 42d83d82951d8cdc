// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// TestTheTimeOfDayIsSet while a process runs, forward and back: what is told of it goes by a clock that nobody can set,
// and the difference between the two is measured anew.
func TestTheTimeOfDayIsSet(t *testing.T) {
	if os.Getenv("TAPIO_GUEST") != "1" {
		t.Skip("others use this machine: only guests' clocks are set (make test-kernels)")
	}
	w := newWorld(t, nil)
	for i, step := range []time.Duration{time.Hour, -time.Hour, 20 * 365 * 24 * time.Hour} {
		process := w.command("/bin/sleep", "0.2")
		before, err := w.source.BootTime()
		require.NoError(t, err)
		require.NoError(t, process.Start())
		setTimeOfDay(t, step)
		t.Cleanup(func() { setTimeOfDay(t, -step) })
		require.NoError(t, process.Wait())
		after, err := w.source.BootTime()
		require.NoError(t, err)
		assert.InDelta(t, step, after-before, float64(100*time.Millisecond))
		pid := uint32(process.Process.Pid)
		w.await(event.TypeProcessExit, i+1)
		exit := decodeExits(t, w.ofType(event.TypeProcessExit))[pid]
		require.NotNil(t, exit)
		lasted := time.Duration(exit.Header.Time - exit.Header.StartTime)
		assert.Greater(t, lasted, 200*time.Millisecond)
		assert.Less(t, lasted, time.Minute)
	}
}

// setTimeOfDay of the machine, so much later.
func setTimeOfDay(t *testing.T, by time.Duration) {
	t.Helper()
	now, err := clock(unix.CLOCK_REALTIME)
	require.NoError(t, err)
	later := unix.NsecToTimespec(now + int64(by))
	require.NoError(t, unix.ClockSettime(unix.CLOCK_REALTIME, &later))
}
