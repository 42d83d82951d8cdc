// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["ask-numbered"] = askNumberedWorkload
	workloads["ask-streams"] = askStreamsWorkload
	workloads["exec-again"] = execAgainWorkload
	workloads["read-then-unshare"] = readThenUnshareWorkload
}

// askNumberedWorkload asks args[2] questions with ids of their own of a server that answers each with itself, and every
// third one a second time before it is answered.
func askNumberedWorkload(args []string) error {
	client, server, err := connectedPair(args[0], args[1])
	if err != nil {
		return err
	}
	defer client.Close()
	go echo(server)
	for id := range number(args[2]) {
		question := binary.BigEndian.AppendUint16(nil, uint16(id))
		question = append(question, "a question"...)
		times := 1
		if id%3 == 0 {
			times = 2
		}
		for range times {
			if _, err := client.Write(question); err != nil {
				return err
			}
		}
		for range times {
			if _, err := io.ReadFull(client, question); err != nil {
				return err
			}
		}
	}
	return nil
}

// askStreamsWorkload has args[1] connections, one after the other, of which each carries messages of 30 and of 700 bytes
// both ways.
func askStreamsWorkload(args []string) error {
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	go serveEchoes(listener)
	for range number(args[1]) {
		client, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		for _, size := range []int{30, 700} {
			message := numbered(size)
			_, writeErr := client.Write(message)
			_, readErr := io.ReadFull(client, message)
			if err := errors.Join(writeErr, readErr); err != nil {
				return err
			}
		}
		if err := client.Close(); err != nil {
			return err
		}
	}
	return nil
}

// execAgainWorkload starts itself anew, args[0] times.
func execAgainWorkload(args []string) error {
	left := number(args[0])
	if left == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, []string{self, strconv.Itoa(left - 1)}, os.Environ())
}

// readThenUnshareWorkload reads a file again and again, and then takes a namespace of its own.
func readThenUnshareWorkload(args []string) error {
	for range number(args[1]) {
		if _, err := os.ReadFile(args[0]); err != nil {
			return err
		}
	}
	return unix.Unshare(unix.CLONE_NEWUTS)
}

// withLimits has the same limits in all tests, so that they share a source. An emulated machine starts but a few programs
// a second.
func withLimits(t *testing.T) func(*Options) {
	t.Helper()
	withDNS(t)
	sensitive := sensitiveForLimits(t)
	return func(o *Options) {
		o.Families = []string{familyProcess, familyNetwork, familyDNS, familySecurity}
		o.Security = securityOptions(sensitive)
		o.Security.Kinds = []event.SecurityKind{event.SecurityFileAccess, event.SecurityNamespace}
		o.DNSPorts, o.DNSTimeout = []uint16{portOfDNS}, 5*time.Second
		o.RateLimits = map[string]uint64{familyProcess: 2, familyNetwork: 20, familyDNS: 10, familySecurity: 50}
	}
}

// sensitiveForLimits is a path that is the same in all tests.
func sensitiveForLimits(t *testing.T) string {
	t.Helper()
	return filepath.Join(os.TempDir(), fmt.Sprintf("tapio-test-limits-%d", os.Getpid()))
}

// throttlings are the records of a cgroup's family so far.
func (w *world) throttlings(cgroup string, family event.Family) (found []event.Throttling) {
	w.t.Helper()
	id, ok := cgroupID(cgroup)
	require.True(w.t, ok)
	for _, record := range w.ofType(event.TypeThrottling) {
		e, err := event.DecodeThrottling(record)
		require.NoError(w.t, err)
		if e.Header.CgroupId == id && e.Limited() == family {
			found = append(found, e)
		}
	}
	return found
}

// awaitThrottled waits until all that was throttled of the family, which is the cgroup's, is told, and until it is over. It
// returns how many events that were.
func (w *world) awaitThrottled(cgroup string, family event.Family, limit uint64) (events uint64) {
	w.t.Helper()
	var told []event.Throttling
	isOver := func() bool {
		told = w.throttlings(cgroup, family)
		var sum uint64
		for _, e := range told {
			sum += e.Events
		}
		return len(told) > 0 && told[len(told)-1].Flags&event.ThrottlingEnded != 0 && sum == w.counters()[uint8(family)].Throttled
	}
	require.Eventually(w.t, isOver, time.Minute, 50*time.Millisecond, "throttling does not end: %v", told)
	var total uint64
	began := true // since the last one ended
	for _, e := range told {
		assert.Equal(w.t, began, e.Flags&event.ThrottlingBegan != 0)
		if began {
			total = 0
		}
		events += e.Events
		total += e.Events
		assert.Equal(w.t, total, e.Total)
		assert.Equal(w.t, limit, e.Limit)
		assert.LessOrEqual(w.t, e.Began, e.Header.Time)
		assert.Zero(w.t, e.Header.Pid)
		began = e.Flags&event.ThrottlingEnded != 0
	}
	assert.NotZero(w.t, told[0].Events)
	return events
}

// TestALimitIsOfOneCgroup: what one makes beyond its limit is counted, and another one has all of its own told.
func TestALimitIsOfOneCgroup(t *testing.T) {
	const connects, quiet, limit = 1000, 10, 20
	w := newWorld(t, withLimits(t))
	noisyCgroup, quietCgroup := newCgroup(t, w.cgroup), newCgroup(t, w.cgroup)
	address := closedAddress(t)
	began := time.Now()
	noisy := workloadIn(t, noisyCgroup, "flood", address, strconv.Itoa(connects))
	require.NoError(t, noisy.Start())
	require.NoError(t, workloadIn(t, quietCgroup, "flood", address, strconv.Itoa(quiet)).Run())
	require.NoError(t, noisy.Wait())
	took := time.Since(began)
	throttled := w.awaitThrottled(noisyCgroup, event.FamilyNetwork, limit)
	w.finish()

	told := map[string]int{}
	noisyID, _ := cgroupID(noisyCgroup)
	quietID, _ := cgroupID(quietCgroup)
	for _, record := range w.ofType(event.TypeConnectionConnect) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		told[map[uint64]string{noisyID: "noisy", quietID: "quiet"}[header.CgroupId]]++
	}
	counters := w.counters()[uint8(event.FamilyNetwork)]
	t.Logf("in %s %v are told and %d are throttled: %+v", took, told, throttled, counters)
	assert.EqualValues(t, counters.Seen, uint64(told["noisy"]+told["quiet"])+counters.Throttled+counters.RingFull)
	assert.Zero(t, counters.RingFull)
	missed := float64(w.missedRuns()["tp_btf/inet_sock_set_state"])
	assert.InDelta(t, quiet, told["quiet"], missed)
	assert.InDelta(t, connects, uint64(told["noisy"])+throttled, missed)
	assert.GreaterOrEqual(t, told["noisy"], limit, "what a second brings may come at once")
	assert.LessOrEqual(t, float64(told["noisy"]), limit*(took.Seconds()+1)+16, "some more where CPUs meet")
	assert.Empty(t, w.throttlings(quietCgroup, event.FamilyNetwork))
	assert.Zero(t, told[""])
}

// TestAProcessIsToldFromItsForkToItsEnd also where there is a limit, or not at all.
func TestAProcessIsToldFromItsForkToItsEnd(t *testing.T) {
	const processes = 100
	w := newWorld(t, withLimits(t))
	require.NoError(t, w.command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done", processes)).Run())
	throttled := w.awaitThrottled(w.cgroup, event.FamilyProcess, 2)
	w.finish()

	type process struct {
		pid   uint32
		start uint64
	}
	told := map[process]map[event.Type]int{}
	events := 0
	for _, kind := range []event.Type{event.TypeProcessFork, event.TypeProcessExec, event.TypeProcessExit} {
		for _, record := range w.ofType(kind) {
			header, err := event.DecodeHeader(record)
			require.NoError(t, err)
			p := process{header.Pid, header.StartTime}
			if told[p] == nil {
				told[p] = map[event.Type]int{}
			}
			told[p][kind]++
			events++
		}
	}
	counters, missed := w.counters()[uint8(event.FamilyProcess)], w.missedRuns()
	t.Logf("%d processes are told, %d events throttled: %+v", len(told), throttled, counters)
	assert.EqualValues(t, counters.Seen, uint64(events)+throttled)
	left := float64(missed["tp_btf/sched_process_fork"] + missed["tp_btf/sched_process_exec"] + missed["tp_btf/sched_process_exit"])
	assert.InDelta(t, 3*(processes+1), counters.Seen, left)
	assert.GreaterOrEqual(t, len(told), 2)
	assert.Less(t, len(told), processes)
	if left == 0 {
		for p, kinds := range told {
			assert.Equal(t, map[event.Type]int{event.TypeProcessFork: 1, event.TypeProcessExec: 1, event.TypeProcessExit: 1}, kinds, p)
		}
	}
}

// TestOneProgramAfterTheOtherIsLimited, although no process is made.
func TestOneProgramAfterTheOtherIsLimited(t *testing.T) {
	const programs = 40
	w := newWorld(t, withLimits(t))
	require.NoError(t, w.workload("exec-again", strconv.Itoa(programs)).Run())
	throttled := w.awaitThrottled(w.cgroup, event.FamilyProcess, 2)
	w.finish()
	counters := w.counters()[uint8(event.FamilyProcess)]
	execs := uint64(len(w.ofType(event.TypeProcessExec)))
	exits := uint64(len(w.ofType(event.TypeProcessExit)))
	t.Logf("%d programs are told, %d events throttled: %+v", execs, throttled, counters)
	assert.Len(t, w.ofType(event.TypeProcessFork), 1)
	assert.Zero(t, exits, "of a process whose name is not known any more nothing is told")
	assert.GreaterOrEqual(t, execs, uint64(4), "those of two seconds, less the fork")
	assert.InDelta(t, programs+1+1, execs+throttled, float64(w.missedRuns()["tp_btf/sched_process_exec"]))
}

// TestAnAnswerHasTheFateOfItsQuestion, also where there is a limit: none seems unanswered, or not asked for.
func TestAnAnswerHasTheFateOfItsQuestion(t *testing.T) {
	const questions = 300
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			w := newWorld(t, withLimits(t))
			require.NoError(t, w.workload("ask-numbered", "udp", net.JoinHostPort(host, strconv.Itoa(int(portOfDNS))), strconv.Itoa(questions)).Run())
			throttled := w.awaitThrottled(w.cgroup, event.FamilyDNS, 10)
			w.finish()
			asked, answered := map[uint16]int{}, map[uint16]int{}
			for _, record := range w.ofType(event.TypeDNSMessage) {
				e, payload := decodeDNS(t, record)
				id := binary.BigEndian.Uint16(payload)
				if e.Flags&uint32(bpf.WireDnsFlagsDNS_SENT) != 0 {
					asked[id]++
				} else {
					answered[id]++
				}
			}
			counters := w.counters()[uint8(event.FamilyDNS)]
			t.Logf("%d questions are told, %d messages throttled: %+v", len(asked), throttled, counters)
			assert.Equal(t, asked, answered)
			for id, times := range asked {
				assert.Equal(t, 1+btoi(id%3 == 0), times, id)
			}
			assert.EqualValues(t, 2*(questions+questions/3), counters.Seen)
			assert.GreaterOrEqual(t, len(asked), 10)
			assert.Less(t, len(asked), questions)
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestAStreamOfDNSIsToldWholeOrNotAtAll where there is a limit: of one with gaps not even where messages begin is known.
func TestAStreamOfDNSIsToldWholeOrNotAtAll(t *testing.T) {
	const streams = 120
	w := newWorld(t, withLimits(t))
	require.NoError(t, w.workload("ask-streams", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(portOfDNS))), strconv.Itoa(streams)).Run())
	throttled := w.awaitThrottled(w.cgroup, event.FamilyDNS, 10)
	w.finish()
	told := map[uint64]map[bool][]byte{}
	for _, record := range w.ofType(event.TypeDNSSegment) {
		e, payload := decodeDNS(t, record)
		if told[e.Socket] == nil {
			told[e.Socket] = map[bool][]byte{}
		}
		sent := e.Flags&uint32(bpf.WireDnsFlagsDNS_SENT) != 0
		told[e.Socket][sent] = append(told[e.Socket][sent], payload...)
	}
	whole := append(numbered(30), numbered(700)...)
	for socket, stream := range told {
		assert.True(t, bytes.Equal(whole, stream[true]) && bytes.Equal(whole, stream[false]), socket)
	}
	t.Logf("%d streams are told, %d segments throttled", len(told), throttled)
	assert.Less(t, len(told), streams)
	assert.GreaterOrEqual(t, len(told), 10)
}

// TestOneKindOfActionDoesNotHideAnother: each has the whole limit for itself.
func TestOneKindOfActionDoesNotHideAnother(t *testing.T) {
	const reads = 400
	w := newWorld(t, withLimits(t))
	sensitive := sensitiveForLimits(t)
	require.NoError(t, os.WriteFile(sensitive, nil, 0o600))
	t.Cleanup(func() { require.NoError(t, os.Remove(sensitive)) })
	require.NoError(t, w.workload("read-then-unshare", sensitive, strconv.Itoa(reads)).Run())
	throttled := w.awaitThrottled(w.cgroup, event.FamilySecurity, 50)
	w.finish()
	told := map[event.SecurityKind]int{}
	for _, record := range w.ofType(event.TypeSecurityAction) {
		action, err := event.DecodeSecurityAction(record)
		require.NoError(t, err)
		told[event.SecurityKind(action.Kind)]++
	}
	t.Logf("%v are told, %d are throttled", told, throttled)
	assert.EqualValues(t, reads, uint64(told[event.SecurityFileAccess])+throttled)
	assert.Equal(t, 1, told[event.SecurityNamespace])
	for _, e := range w.throttlings(w.cgroup, event.FamilySecurity) {
		assert.Equal(t, event.SecurityFileAccess, e.SecurityKind())
	}
}

// TestACgroupThatIsSilentIsForgotten, so that there is room for others.
func TestACgroupThatIsSilentIsForgotten(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) {
		o.Families, o.RateLimits = []string{familyNetwork}, map[string]uint64{familyNetwork: 5}
	})
	close(w.done)
	limits := w.source.limits
	flood := func() {
		require.NoError(t, w.workload("flood", closedAddress(t), "200").Run())
	}
	var told []bpf.WireThrottling
	read := func(now uint64) {
		require.NoError(t, limits.read(now, false, func(record []byte) {
			e, err := event.DecodeThrottling(record)
			require.NoError(t, err)
			told = append(told, *e.WireThrottling)
		}))
	}
	count := func() (n int) {
		var key bpf.WireLimitKey
		var state bpf.WireLimitState
		for it := w.source.loader.shared["limits"].Iterate(); it.Next(&key, &state); {
			n++
		}
		return n
	}
	flood()
	require.Equal(t, 1, count())
	read(w.source.Boot())
	require.Len(t, told, 1)
	read(w.source.Boot() + limitsInterval/2)
	assert.Len(t, told, 1, "it is not time")
	read(w.source.Boot() + 2*limitsInterval)
	require.Len(t, told, 2)
	assert.Equal(t, event.ThrottlingEnded, told[1].Flags)
	assert.Zero(t, told[1].Events)
	assert.Equal(t, told[0].Total, told[1].Total)
	read(w.source.Boot() + 4*limitsInterval)
	assert.Len(t, told, 2, "there is nothing new")
	assert.Equal(t, 1, count())
	read(w.source.Boot() + 2*forgetLimitAfter)
	assert.Zero(t, count())
	assert.Empty(t, limits.throttled)

	flood()
	read(w.source.Boot() + 3*forgetLimitAfter)
	require.Len(t, told, 3, "it began and ended since")
	assert.Equal(t, event.ThrottlingBegan|event.ThrottlingEnded, told[2].Flags)
	assert.Equal(t, w.counters()[uint8(event.FamilyNetwork)].Throttled, told[0].Events+told[2].Events)
}

// TestWithoutRoomThereIsNoLimit: of cgroups for which there is no place all is told, and that is said.
func TestWithoutRoomThereIsNoLimit(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) {
		o.Families, o.RateLimits = []string{familyNetwork}, map[string]uint64{familyNetwork: 10}
	})
	for i := range maxLimited {
		require.NoError(t, w.source.loader.shared["limits"].Put(bpf.WireLimitKey{CgroupId: 1 << 40, Kind: uint32(i)}, bpf.WireLimitState{Due: w.source.Boot()}))
	}
	require.NoError(t, w.workload("flood", closedAddress(t), "100").Run())
	w.finish()
	assert.InDelta(t, 100, len(w.ofType(event.TypeConnectionConnect)), float64(w.missedRuns()["tp_btf/inet_sock_set_state"]))
	assert.Zero(t, w.counters()[uint8(event.FamilyNetwork)].Throttled)
}
