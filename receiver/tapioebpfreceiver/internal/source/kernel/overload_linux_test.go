// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["flood"] = floodWorkload
	workloads["udp-spray"] = udpSprayWorkload
	workloads["read-file"] = func(args []string) error {
		_, err := os.ReadFile(args[0])
		return err
	}
}

// floodWorkload connects args[1] times to where nobody listens.
func floodWorkload(args []string) error {
	for range number(args[1]) {
		if _, err := net.Dial("tcp4", args[0]); !errors.Is(err, unix.ECONNREFUSED) {
			return errors.Join(errors.New("the connection was not refused"), err)
		}
	}
	return nil
}

// udpSprayWorkload sends a packet of one byte to each of args[0] addresses, where nobody is, by one socket, and goes on
// until its input ends.
func udpSprayWorkload(args []string) error {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer socket.Close()
	for i := range number(args[0]) {
		to := netip.AddrFrom4([4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)})
		if _, err := socket.WriteToUDPAddrPort([]byte{1}, netip.AddrPortFrom(to, 9)); err != nil {
			return err
		}
	}
	fmt.Println(socket.LocalAddr())
	return untilEndOfInput()
}

// TestMoreUDPFlowsThanThereIsRoomFor: each packet is told once, also of those flows that cannot be followed.
func TestMoreUDPFlowsThanThereIsRoomFor(t *testing.T) {
	const room, flows = 65536, 70000 // see bpf/network.bpf.c
	w := newOwnWorld(t, func(o *Options) {
		o.Families, o.RingSize, o.ReportInterval = []string{familyNetwork}, 32<<20, 2*time.Second
	})
	spray := startTalker(t, w.workload("udp-spray", strconv.Itoa(flows)))
	from := spray.hear()
	for _, n := range []uint64{flows - room, flows} { // the others when they have fallen silent
		require.Eventually(t, func() bool { return w.counters()[uint8(event.FamilyNetwork)].Seen >= n }, time.Minute, 50*time.Millisecond)
	}
	spray.end()
	w.finish()

	packets, peers := uint64(0), map[string]bool{}
	for _, e := range decodeStats(t, w.ofType(event.TypeConnectionClose)) {
		require.Equal(t, from, local(&e.Ends))
		packets += e.SentPackets
		peers[peer(&e.Ends)] = true
	}
	counters := w.counters()[uint8(event.FamilyNetwork)]
	t.Logf("%d packets of %d flows are told: %+v", packets, len(peers), counters)
	assert.EqualValues(t, flows, packets)
	assert.Len(t, peers, flows)
	reports := len(w.ofType(event.TypeConnectionReport)) // of some the interval was over before their silence was
	assert.EqualValues(t, counters.Seen, flows+reports)
	assert.Zero(t, counters.RingFull)
}

// TestTrafficDoesNotPushOutTheRest: nobody reads while connections come that are several times what their ring has room
// for. Of them the ledger says how many are missing; of processes and of what matters for security none is.
func TestTrafficDoesNotPushOutTheRest(t *testing.T) {
	const connects, programs = 4000, 20
	sensitive := filepath.Join(t.TempDir(), "sensitive")
	require.NoError(t, os.WriteFile(sensitive, nil, 0o600))
	w := newUnreadWorld(t, func(o *Options) {
		o.Families, o.RingSize = []string{familyProcess, familyNetwork, familySecurity}, 128<<10
		o.Security = securityOptions(sensitive)
	})
	flood := func() {
		require.NoError(t, w.workload("flood", porttest.Closed(t, "tcp4"), strconv.Itoa(connects)).Run())
	}
	flood()
	for range programs {
		require.NoError(t, w.workload("read-file", sensitive).Run())
	}
	flood()
	close(w.done) // nobody read meanwhile
	w.finish()

	counters, missed := w.counters(), w.missedRuns()
	network := counters[uint8(event.FamilyNetwork)]
	read := len(w.ofType(event.TypeConnectionConnect)) + len(w.ofType(event.TypeConnectionClose))
	t.Logf("of %d connects %d were read; beside them %+v of processes and %+v of security", network.Seen, read, counters[uint8(event.FamilyProcess)], counters[uint8(event.FamilySecurity)])
	assert.EqualValues(t, network.Seen, uint64(read)+network.RingFull)
	assert.InDelta(t, 2*connects, network.Seen, float64(missed["tp_btf/inet_sock_set_state"]))
	assert.Greater(t, network.RingFull, network.Seen/2)

	assert.Zero(t, counters[uint8(event.FamilyProcess)].RingFull)
	assert.Zero(t, counters[uint8(event.FamilySecurity)].RingFull)
	for hook, kind := range map[string]event.Type{
		"tp_btf/sched_process_exec": event.TypeProcessExec,
		"tp_btf/sched_process_exit": event.TypeProcessExit,
	} {
		assert.InDelta(t, programs+2, len(w.ofType(kind)), float64(missed[hook]), hook)
	}
	assert.Len(t, accesses(t, w.ofType(event.TypeSecurityAction)), programs)
}

// accesses to sensitive files, of all actions.
func accesses(t *testing.T, records [][]byte) (found []event.SecurityAction) {
	t.Helper()
	for _, record := range records {
		action, err := event.DecodeSecurityAction(record)
		require.NoError(t, err)
		if action.Is(event.SecurityFileAccess) {
			found = append(found, action)
		}
	}
	return found
}
