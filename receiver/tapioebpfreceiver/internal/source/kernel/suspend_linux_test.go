// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// asleep is how long the machine is suspended, at least: longer than a connection may go without being visited before
// what is under way on it is given up.
const asleep = 5 * time.Second

// TestSuspend suspends the machine while a request waits for its response: for all that is told, that time has passed,
// and nothing is lost by it.
func TestSuspend(t *testing.T) {
	requireSuspend(t)
	w := newUnreadWorld(t, func(o *Options) {
		withHTTP(o)
		o.Families, o.ReportInterval = []string{familyProcess, familyNetwork, familyHTTP}, time.Second
	})
	slots := w.source.mapNamed("http_slots")
	go w.read()
	steps, err := json.Marshal(script{Address: "127.0.0.1:0", Steps: []step{
		client(get), server(ok + "hello"), client(get), {By: "server", Send: noBody, After: 5 * time.Second}, client(get), server(noBody),
	}})
	require.NoError(t, err)
	command := w.workload("script", string(steps))
	require.NoError(t, command.Start())
	w.await(event.TypeHTTPExchange, 2)
	require.Eventually(t, func() bool { return len(w.slotsInUse(slots, 0)) == 2 }, patience, 10*time.Millisecond, "the next request, at both ends")
	require.NoError(t, command.Process.Signal(unix.SIGSTOP)) // no response before it has slept
	slept := suspend(t)
	require.NoError(t, command.Process.Signal(unix.SIGCONT))
	require.NoError(t, command.Wait())
	w.finish()

	wires, found := w.exchangesOf(uint32(command.Process.Pid))
	assert.ElementsMatch(t, both(
		exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5},
		exchange{Request: get, Response: noBody, Status: 204}, exchange{Request: get, Response: noBody, Status: 204}), found)
	long := 0
	for _, wire := range wires {
		if took := time.Duration(wire.ResponseStart - wire.RequestStart); took >= slept {
			assert.Less(t, took, slept+5*time.Minute)
			long++
		}
	}
	assert.Equal(t, 2, long, "both ends of the one that waited")
	assert.Equal(t, source.Counters{Seen: 6}, w.httpCounters())
	for _, stats := range decodeStats(t, w.await(event.TypeConnectionClose, 2)) {
		assert.GreaterOrEqual(t, time.Duration(stats.Header.Time-stats.Opened), slept)
	}
	exit := decodeExits(t, w.ofType(event.TypeProcessExit))[uint32(command.Process.Pid)]
	require.NotNil(t, exit)
	assert.GreaterOrEqual(t, time.Duration(exit.Header.Time-exit.Header.StartTime), slept)
	assertSlotsAreFree(t, w)
}

// requireSuspend lets only guests be suspended.
func requireSuspend(t *testing.T) {
	t.Helper()
	if os.Getenv("TAPIO_GUEST") != "1" {
		t.Skip("others use this machine: only guests are suspended (make test-kernels)")
	}
	states, err := os.ReadFile("/sys/power/state")
	require.NoError(t, err)
	if runtime.GOARCH == "amd64" {
		require.Contains(t, string(states), "mem")
	} else if !strings.Contains(string(states), "mem") {
		t.Skipf("this machine cannot be suspended to memory: it has the states %q", states)
	}
}

// suspend the machine, to memory, until its clock rings; slept is by how much more time has passed than it has run. Going
// to sleep takes an emulated machine seconds: if it was rung for before it slept long enough, it sleeps again, longer.
func suspend(t *testing.T) (slept time.Duration) {
	t.Helper()
	before := timeNotRun(t)
	for seconds := 15; slept < asleep && seconds < 200; seconds *= 2 {
		require.NoError(t, os.WriteFile("/sys/class/rtc/rtc0/wakealarm", []byte("0"), 0))
		require.NoError(t, os.WriteFile("/sys/class/rtc/rtc0/wakealarm", []byte("+"+strconv.Itoa(seconds)), 0))
		if err := os.WriteFile("/sys/power/state", []byte("mem"), 0); !errors.Is(err, unix.EBUSY) {
			require.NoError(t, err)
		}
		slept = timeNotRun(t) - before
	}
	require.GreaterOrEqual(t, slept, asleep)
	return slept
}

// timeNotRun is how long the machine was suspended since it was booted.
func timeNotRun(t *testing.T) time.Duration {
	t.Helper()
	var passed, run unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &run))
	require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &passed))
	return time.Duration(passed.Nano() - run.Nano())
}
