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
	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["ask-numbered"] = askNumberedWorkload
	workloads["ask-streams"] = askStreamsWorkload
	workloads["flood-dns"] = floodDNSWorkload
	workloads["hold"] = holdWorkload
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

// floodDNSWorkload sends args[2] questions of the same id to a server that does not answer, or has a server send so many
// answers that nobody asked for.
func floodDNSWorkload(args []string) error {
	server, err := net.ListenPacket("udp", args[1])
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := net.Dial("udp", args[1])
	if err != nil {
		return err
	}
	defer client.Close()
	send := func() error {
		_, err := client.Write([]byte("\x00\x07a message"))
		return err
	}
	if args[0] == "unasked" {
		send = func() error {
			_, err := server.WriteTo([]byte("\x00\x07a message"), client.LocalAddr())
			return err
		}
	}
	for range number(args[2]) {
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

// holdWorkload has args[0] connections to itself, and carries a byte over each, until its input ends.
func holdWorkload(args []string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serveEchoes(listener)
	for range number(args[0]) {
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		defer client.Close()
		_, writeErr := client.Write([]byte{1})
		_, readErr := io.ReadFull(client, make([]byte, 1))
		if err := errors.Join(writeErr, readErr); err != nil {
			return err
		}
	}
	fmt.Println("held")
	return untilEndOfInput()
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

// beyondLimit is how many events of a family the programs have not told, as they have accounted for them.
func (w *world) beyondLimit(family event.Family) uint64 {
	w.t.Helper()
	events := w.counters()[uint8(family)].Throttled
	switch family {
	case event.FamilyNetwork:
		for _, record := range w.ofType(event.TypeConnectionSum) {
			e, err := event.DecodeConnectionSum(record)
			require.NoError(w.t, err)
			events += e.Sums.Events
		}
	case event.FamilyProcess:
		for _, record := range w.ofType(event.TypeProcessSum) {
			e, err := event.DecodeProcessSum(record)
			require.NoError(w.t, err)
			events += e.Sums.Events
		}
	default:
	}
	return events
}

// toldOf a family are its events so far that were told one by one.
func (w *world) toldOf(family event.Family) (events uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, record := range w.records {
		header, err := event.DecodeHeader(record)
		require.NoError(w.t, err)
		if event.Type(header.Type).Family() == family {
			events++
		}
	}
	return events
}

// awaitThrottled waits until all that was throttled of the family, which is the cgroup's, is told, and until it is over. It
// returns how many events that were.
func (w *world) awaitThrottled(cgroup string, family event.Family, limit uint64) (events uint64) {
	w.t.Helper()
	var told []event.Throttling
	isOver := func() bool {
		told = w.throttlings(cgroup, family)
		var sum uint64
		isActive := true
		for _, e := range told {
			sum += e.Events
			if e.Flags != 0 {
				isActive = e.Flags&event.ThrottlingEnded == 0
			}
		}
		counters := w.counters()[uint8(family)]
		return !isActive && sum == w.beyondLimit(family) && counters.Seen == w.toldOf(family)+sum+counters.RingFull
	}
	require.Eventually(w.t, isOver, time.Minute, 50*time.Millisecond, "throttling does not end: %v", told)
	var total uint64
	isActive := false
	for _, e := range told {
		events += e.Events
		assert.Equal(w.t, limit, e.Limit)
		assert.LessOrEqual(w.t, e.Began, e.Header.Time)
		assert.Zero(w.t, e.Header.Pid)
		if e.Flags == 0 && !isActive {
			continue // what belongs to what was not told before
		}
		assert.Equal(w.t, !isActive, e.Flags&event.ThrottlingBegan != 0)
		if !isActive {
			total = 0
		}
		total += e.Events
		assert.Equal(w.t, total, e.Total)
		isActive = e.Flags&event.ThrottlingEnded == 0
	}
	assert.NotZero(w.t, told[0].Events)
	return events
}

// TestALimitIsOfOneCgroup: what one makes beyond its limit is counted, and another one has all of its own told.
func TestALimitIsOfOneCgroup(t *testing.T) {
	const connects, quiet, limit = 1000, 10, 20
	w := newWorld(t, withLimits(t))
	noisyCgroup, quietCgroup := newCgroup(t, w.cgroup), newCgroup(t, w.cgroup)
	address := porttest.Closed(t, "tcp4")
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
	assert.EqualValues(t, counters.Seen, uint64(told["noisy"]+told["quiet"])+throttled+counters.RingFull)
	assert.Zero(t, counters.Throttled, "they are summed up")
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
	const programs = 200
	w := newWorld(t, withLimits(t))
	script := `[ "$1" -gt 0 ] || exit 0; exec /bin/sh -c "$0" "$0" $(($1-1))`
	require.NoError(t, w.command("/bin/sh", "-c", script, script, strconv.Itoa(programs)).Run())
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
			for id, times := range asked {
				assert.LessOrEqual(t, times, 1+btoi(id%3 == 0), id)
				assert.NotZero(t, answered[id], id)
			}
			for id := range answered {
				assert.NotZero(t, asked[id], id)
			}
			assert.EqualValues(t, 2*(questions+questions/3), counters.Seen)
			assert.GreaterOrEqual(t, len(asked), 5)
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
	assert.NotEmpty(t, told)
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

// TestTheSameQuestionAgainIsLimited: neither an id that is used again and again nor answers that nobody asked for are a way
// around the limit, and when they are over, all is told again.
func TestTheSameQuestionAgainIsLimited(t *testing.T) {
	const messages, limit = 400, 10
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(portOfDNS)))
	for _, mode := range []string{"one id", "unasked"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, withLimits(t))
			address = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(portOfDNS)))
			require.NoError(t, w.workload("flood-dns", mode, address, strconv.Itoa(messages)).Run())
			throttled := w.awaitThrottled(w.cgroup, event.FamilyDNS, limit)
			told := len(w.ofType(event.TypeDNSMessage))
			t.Logf("%d messages are told, %d are throttled", told, throttled)
			assert.Greater(t, throttled, uint64(messages/2))

			// afterwards: nothing is beyond the limit, whatever the ids are
			require.NoError(t, w.workload("ask-numbered", "udp", address, "2").Run())
			w.finish()
			assert.InDelta(t, told+6, len(w.ofType(event.TypeDNSMessage)), 1, "a second answer may be one to a question that was not told")
		})
	}
}

// TestProgramsInARowKeepTheirName: a process that is told runs one program after the other, and is known by the last.
func TestProgramsInARowKeepTheirName(t *testing.T) {
	w := newWorld(t, withLimits(t))
	script := "i=0; while [ $i -lt 30 ]; do /bin/sh -c 'exec /bin/sh -c \"exec /bin/sh -c \\\"exec /bin/true\\\"\"' & i=$((i+1)); done; wait"
	require.NoError(t, w.command("/bin/sh", "-c", script).Run())
	w.awaitThrottled(w.cgroup, event.FamilyProcess, 2)
	w.finish()
	execs, exits := map[uint32]int{}, map[uint32]int{}
	for _, record := range w.ofType(event.TypeProcessExec) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		execs[header.Pid]++
	}
	for _, record := range w.ofType(event.TypeProcessExit) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		exits[header.Pid]++
	}
	t.Logf("programs by process: %v", execs)
	assert.GreaterOrEqual(t, len(execs), 2)
	assert.Less(t, len(execs), 30)
	for pid, n := range execs {
		assert.Contains(t, []int{1, 4}, n, pid) // the shell that starts them, and they
		assert.Equal(t, 1, exits[pid], pid)
	}
}

// TestAProcessThatAnotherCgroupMakesHasItsOwnLimit: who makes it may be beyond the limit, as a container runtime may.
func TestAProcessThatAnotherCgroupMakesHasItsOwnLimit(t *testing.T) {
	w := newWorld(t, withLimits(t))
	noisy, quiet := newCgroup(t, w.cgroup), newCgroup(t, w.cgroup)
	script := fmt.Sprintf("i=0; while [ $i -lt 30 ]; do /bin/true; i=$((i+1)); done; (echo 0 > %s/cgroup.procs; exec /bin/true) & wait", quiet)
	require.NoError(t, commandIn(t, noisy, "/bin/sh", "-c", script).Run())
	w.awaitThrottled(noisy, event.FamilyProcess, 2)
	w.finish()
	id, _ := cgroupID(quiet)
	told := map[event.Type]int{}
	for _, kind := range []event.Type{event.TypeProcessFork, event.TypeProcessExec, event.TypeProcessExit} {
		for _, record := range w.ofType(kind) {
			if header, err := event.DecodeHeader(record); assert.NoError(t, err) && header.CgroupId == id {
				told[kind]++
			}
		}
	}
	assert.Equal(t, map[event.Type]int{event.TypeProcessExec: 1, event.TypeProcessExit: 1}, told)
	assert.Empty(t, w.throttlings(quiet, event.FamilyProcess))
}

// TestLateEndsAreNoNewStart: processes that are not told end when nothing is beyond the limit any more.
func TestLateEndsAreNoNewStart(t *testing.T) {
	const processes = 20
	w := newWorld(t, withLimits(t))
	shell := startTalker(t, w.command("/bin/sh", "-c",
		fmt.Sprintf("exec 3<&0; i=0; while [ $i -lt %d ]; do cat <&3 & i=$((i+1)); done; echo made; wait", processes)))
	require.Equal(t, "made", shell.hear())
	made := w.source.Boot()
	w.awaitThrottled(w.cgroup, event.FamilyProcess, 2)
	seen := func() uint64 { return w.counters()[uint8(event.FamilyProcess)].Seen }
	before := seen()
	shell.end()
	assert.Greater(t, seen(), before, "their ends")
	time.Sleep(time.Duration(limitsInterval)) // then what is throttled is read again
	w.finish()
	for _, e := range w.throttlings(w.cgroup, event.FamilyProcess) {
		if e.Flags&event.ThrottlingBegan != 0 {
			assert.Less(t, e.Began, made, "while they were made")
		}
	}
}

// TestReportsAreNotLimited: they are as many as there are connections, and of one that is throttled nothing is known.
func TestReportsAreNotLimited(t *testing.T) {
	const connections = 40
	w := newOwnWorld(t, func(o *Options) {
		o.Families, o.RateLimits, o.ReportInterval = []string{familyNetwork}, map[string]uint64{familyNetwork: 5}, time.Second
	})
	talk := startTalker(t, w.workload("hold", strconv.Itoa(connections)))
	talk.hear()
	w.await(event.TypeConnectionReport, 2*connections)
	talk.end()
	w.finish()
	counters := w.counters()[uint8(event.FamilyNetwork)]
	reports := len(w.ofType(event.TypeConnectionReport))
	summed := w.beyondLimit(event.FamilyNetwork)
	assert.LessOrEqual(t, summed, uint64(3*connections), "connects and closes of both ends: %+v", counters)
	assert.Equal(t, counters.Seen, summed+uint64(reports+len(w.ofType(event.TypeConnectionConnect))+len(w.ofType(event.TypeConnectionClose))))
}

// TestLimitsOfFamiliesThatAreOff ask nothing of anybody.
func TestLimitsOfFamiliesThatAreOff(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) {
		o.Families, o.CNI.PluginDirs, o.RateLimits = []string{familyCNI}, []string{"/opt/cni/bin"}, map[string]uint64{familyProcess: 10}
	})
	close(w.done)
	require.NoError(t, w.source.Read(func([]byte) {}))
}

// TestACgroupThatIsSilentIsForgotten, so that there is room for others.
func TestACgroupThatIsSilentIsForgotten(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) {
		o.Families, o.RateLimits = []string{familyNetwork}, map[string]uint64{familyNetwork: 5}
	})
	close(w.done)
	limits := w.source.limits
	flood := func() {
		require.NoError(t, w.workload("flood", porttest.Closed(t, "tcp4"), "200").Run())
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
	// lastThrottled is when the cgroup was beyond its limit: how long ago that is by the clock is the machine's affair.
	lastThrottled := func() (last uint64) {
		var key bpf.WireLimitKey
		var state bpf.WireLimitState
		for it := w.source.loader.shared["limits"].Iterate(); it.Next(&key, &state); {
			last = state.Last
		}
		return last
	}
	flood()
	require.Equal(t, 1, count())
	last := lastThrottled()
	read(last + 1)
	require.Len(t, told, 1)
	assert.Equal(t, event.ThrottlingBegan, told[0].Flags)
	read(last + limitsInterval/2)
	assert.Len(t, told, 1, "it is not time")
	read(last + 2*limitsInterval)
	require.Len(t, told, 2)
	assert.Equal(t, event.ThrottlingEnded, told[1].Flags)
	assert.Zero(t, told[1].Events)
	assert.Equal(t, told[0].Total, told[1].Total)
	read(last + 4*limitsInterval)
	assert.Len(t, told, 2, "there is nothing new")
	assert.Equal(t, 1, count())
	read(last + 2*forgetLimitAfter)
	assert.Zero(t, count())
	assert.Empty(t, limits.throttled)

	flood()
	read(lastThrottled() + 3*forgetLimitAfter)
	require.Len(t, told, 3, "it began and ended since")
	assert.Equal(t, event.ThrottlingBegan|event.ThrottlingEnded, told[2].Flags)
	require.NoError(t, w.source.summing.read(2*limitsInterval, true, w.keep))
	assert.Equal(t, w.beyondLimit(event.FamilyNetwork), told[0].Events+told[2].Events)
}

// TestWithoutRoomThereIsNoLimit: of cgroups for which there is no place all is told, and that is said.
func TestWithoutRoomThereIsNoLimit(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) {
		o.Families, o.RateLimits = []string{familyNetwork}, map[string]uint64{familyNetwork: 10}
	})
	for i := range maxLimited {
		require.NoError(t, w.source.loader.shared["limits"].Put(bpf.WireLimitKey{CgroupId: 1 << 40, Kind: uint32(i)}, bpf.WireLimitState{Due: w.source.Boot()}))
	}
	require.NoError(t, w.workload("flood", porttest.Closed(t, "tcp4"), "100").Run())
	w.finish()
	assert.InDelta(t, 100, len(w.ofType(event.TypeConnectionConnect)), float64(w.missedRuns()["tp_btf/inet_sock_set_state"]))
	assert.Zero(t, w.counters()[uint8(event.FamilyNetwork)].Throttled)
}
