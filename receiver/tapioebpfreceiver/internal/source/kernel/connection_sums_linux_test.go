// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() { workloads["reset-streams"] = resetStreamsWorkload }

// resetStreamsWorkload has args[1] connections, one after the other, that are reset by the client when the server has greeted.
func resetStreamsWorkload(args []string) error {
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	for range number(args[1]) {
		if err := resetStream(listener); err != nil {
			return err
		}
	}
	return listener.Close()
}

func resetStream(listener net.Listener) error {
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	greeting := []byte("hello")
	_, writeErr := server.Write(greeting)
	_, readErr := io.ReadFull(client, greeting)
	resetErr := errors.Join(client.(*net.TCPConn).SetLinger(0), client.Close())
	_, endErr := server.Read(greeting)
	if endErr == nil || errors.Is(endErr, io.EOF) {
		return errors.New("the connection was not reset")
	}
	return errors.Join(writeErr, readErr, resetErr)
}

// carriedTally is what is the same each time that connections do the same.
type carriedTally struct {
	events, sent, received, first, durations, rtts uint64
}

func (c *carriedTally) add(more carriedTally) {
	c.events += more.events
	c.sent += more.sent
	c.received += more.received
	c.first += more.first
	c.durations += more.durations
	c.rtts += more.rtts
}

type carried map[bpf.WireConnectionSumKey]*carriedTally

func (c carried) add(key bpf.WireConnectionSumKey, more carriedTally) {
	if c[key] == nil {
		c[key] = &carriedTally{}
	}
	c[key].add(more)
}

// sumKeyOf an event, but for its cgroup.
func sumKeyOf(kind event.Type, ends *bpf.WireConnectionEnds, flags uint32, errno int32) bpf.WireConnectionSumKey {
	key := bpf.WireConnectionSumKey{
		Error: errno, Flags: uint16(flags & event.ConnectionAborted), Type: uint16(kind), Protocol: ends.Protocol, Role: ends.Role,
	}
	if event.Address(ends.PeerAddress).Is4() {
		key.IsIpv4 = 1
	}
	return key
}

func oneIf(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

// carried in a world, by what was told, and by what was summed up.
func (w *world) carried() (all carried, told, summed uint64) {
	w.t.Helper()
	all = carried{}
	for _, e := range decodeConnects(w.t, w.ofType(event.TypeConnectionConnect)) {
		all.add(sumKeyOf(event.TypeConnectionConnect, &e.Ends, 0, e.Error), carriedTally{events: 1, durations: 1})
		told++
	}
	for _, e := range decodeStats(w.t, w.ofType(event.TypeConnectionClose)) {
		isTCP := e.Ends.Protocol == event.ProtocolTCP
		all.add(sumKeyOf(event.TypeConnectionClose, &e.Ends, e.Flags, e.Error), carriedTally{
			events: 1, sent: e.SentBytesDelta, received: e.ReceivedBytesDelta,
			first: oneIf(isTCP && e.Flags&event.ConnectionFirstRecord != 0), durations: oneIf(isTCP && e.Opened != 0),
			rtts: oneIf(e.Flags&event.ConnectionHasRTT != 0),
		})
		told++
	}
	for _, e := range w.connectionSums() {
		assert.Equal(w.t, e.Key.Pid, e.Header.Pid)
		assert.Equal(w.t, e.Key.StartTime, e.Header.StartTime)
		assert.Zero(w.t, e.Sums.Zero)
		key := e.Key
		key.CgroupId, key.Pid, key.StartTime = 0, 0, 0
		all.add(key, carriedTally{e.Sums.Events, e.Sums.SentBytes, e.Sums.ReceivedBytes, e.Sums.FirstRecords, totalCount(e.Sums.Durations[:]), totalCount(e.Sums.Rtts[:])})
		summed += e.Sums.Events
	}
	return all, told, summed
}

// connectionSums are the records of the world's cgroup so far.
func (w *world) connectionSums() (found []event.ConnectionSum) {
	w.t.Helper()
	id, ok := cgroupID(w.cgroup)
	require.True(w.t, ok)
	for _, record := range w.ofType(event.TypeConnectionSum) {
		e, err := event.DecodeConnectionSum(record)
		require.NoError(w.t, err)
		if e.Header.CgroupId == id {
			found = append(found, e)
		}
	}
	return found
}

func totalCount(buckets []uint64) (count uint64) {
	for _, n := range buckets {
		count += n
	}
	return count
}

// TestConnectionsBeyondTheLimitAreSummedUp: with those that are told they are what they are without a limit.
func TestConnectionsBeyondTheLimitAreSummedUp(t *testing.T) {
	const limit = 2
	want, _, none := carriedOf(t, newOwnWorld, nil)
	assert.Zero(t, none)
	began := time.Now()
	got, told, summed := carriedOf(t, newOwnWorld, map[string]uint64{familyNetwork: limit})
	took := time.Since(began)
	t.Logf("in %s, %d events are told, %d summed up by %d keys", took, told, summed, len(got))
	assert.Equal(t, want, got)
	assert.LessOrEqual(t, float64(told), limit*(took.Seconds()+1)+16, "some more where CPUs meet")
	assert.Positive(t, summed)
	assert.Len(t, got, 2*(1+2+2+2)+1, "of each address: connects; closes, resets and flows of both ends; and what is refused")
}

// TestWithoutRoomForSumsConnectionsAreThoseOfTheirCgroup: which process it was is not known any more; all else is.
func TestWithoutRoomForSumsConnectionsAreThoseOfTheirCgroup(t *testing.T) {
	want, _, _ := carriedOf(t, newOwnWorld, nil)
	var full *world
	got, _, summed := carriedOf(t, func(t testing.TB, change func(*Options)) *world {
		full = newUnreadWorld(t, change) // reading makes room
		close(full.done)
		full.fillConnectionSums("connection_sums", 1)
		return full
	}, map[string]uint64{familyNetwork: 1})
	assert.Equal(t, want, got)
	precise, others := uint64(0), uint64(0)
	for _, e := range full.connectionSums() {
		if e.Header.Pid != 0 {
			precise++
			continue
		}
		others += e.Sums.Events
	}
	assert.EqualValues(t, 1, precise, "as many as there was room for")
	assert.Positive(t, others)
	assert.Less(t, others, summed)
}

// carriedOf connections and flows of every kind, where the kernel has left out no run: what happens then nobody can know.
func carriedOf(t *testing.T, open func(testing.TB, func(*Options)) *world, limits map[string]uint64) (all carried, told, summed uint64) {
	t.Helper()
	for range 10 {
		w := open(t, func(o *Options) { o.Families, o.RateLimits = []string{familyNetwork}, limits })
		for _, host := range []string{"127.0.0.1", "::1"} {
			at := func() string { return net.JoinHostPort(host, strconv.Itoa(porttest.Free(t))) }
			require.NoError(t, w.workload("ask-streams", at(), "20").Run())
			require.NoError(t, w.workload("reset-streams", at(), "10").Run())
			require.NoError(t, w.workload("flood-dns", "unanswered", at(), "7").Run())
		}
		require.NoError(t, w.workload("flood", porttest.Closed(t, "tcp4"), "30").Run())
		w.finish()
		counters := w.counters()[uint8(event.FamilyNetwork)]
		assert.Zero(t, counters.Throttled)
		all, told, summed = w.carried()
		assert.Equal(t, counters.Seen, told+summed)
		if w.missedRuns()["tp_btf/inet_sock_set_state"] == 0 {
			return all, told, summed
		}
	}
	require.Fail(t, "the kernel leaves out runs each time")
	return nil, 0, 0
}

// TestDurationsOfSummedConnections, and their round-trip times, are in the buckets that they belong to.
func TestDurationsOfSummedConnections(t *testing.T) {
	const pause = 600 * time.Millisecond
	w := newOwnWorld(t, func(o *Options) {
		o.Families, o.RateLimits = []string{familyNetwork}, map[string]uint64{familyNetwork: 1}
	})
	closed := map[bool]bool{}
	useUp := func() { // what a second brings
		require.NoError(t, w.workload("flood", porttest.Closed(t, "tcp4"), "5").Run())
	}
	for tries := 0; len(closed) < 2; tries++ { // where a second is over just then, a close is told
		require.Less(t, tries, 10, "a client's and a server's close are never summed up")
		time.Sleep(time.Duration(tries) * 170 * time.Millisecond) // at another time of a second
		useUp()
		talk := startTalker(t, w.workload("hold", "1"))
		talk.hear()
		time.Sleep(pause)
		useUp()
		talk.end()
		require.Eventually(t, func() bool {
			_, told, summed := w.carried()
			return told+summed == w.counters()[uint8(event.FamilyNetwork)].Seen
		}, time.Minute, 50*time.Millisecond)
		for _, e := range w.singleSums() {
			if !e.IsConnect() {
				closed[e.Key.Role == event.RoleServer] = true
			}
		}
	}
	w.finish()
	for _, e := range w.singleSums() {
		bucket := bucketOf(e.DurationBounds(), time.Duration(e.Sums.Duration).Seconds())
		assert.EqualValues(t, 1, e.Sums.Durations[bucket], "%s: %v", time.Duration(e.Sums.Duration), e.Sums.Durations)
		if e.IsConnect() {
			assert.Zero(t, e.Sums.Rtt)
			continue
		}
		assert.GreaterOrEqual(t, time.Duration(e.Sums.Duration), pause)
		bucket = bucketOf(event.RoundTripBounds, float64(e.Sums.Rtt)/1e6)
		assert.EqualValues(t, 1, e.Sums.Rtts[bucket], "%d µs: %v", e.Sums.Rtt, e.Sums.Rtts)
	}
}

// singleSums are of one event.
func (w *world) singleSums() []event.ConnectionSum {
	w.t.Helper()
	return slices.DeleteFunc(w.connectionSums(), func(e event.ConnectionSum) bool { return e.Sums.Events != 1 })
}

func (w *world) fillConnectionSums(name string, left uint32) {
	fill[bpf.WireConnectionSumKey, bpf.WireConnectionSums](w.t, w, name, left, func(n uint32) bpf.WireConnectionSumKey {
		return bpf.WireConnectionSumKey{CgroupId: 1 << 40, Pid: n, Type: uint16(event.TypeConnectionConnect)}
	})
}

// TestWithoutRoomForSumsConnectionsAreThrottled, and that is counted.
func TestWithoutRoomForSumsConnectionsAreThrottled(t *testing.T) {
	const connects = 50
	w := newUnreadWorld(t, func(o *Options) {
		o.Families, o.RateLimits = []string{familyNetwork}, map[string]uint64{familyNetwork: 1}
	})
	close(w.done)
	w.fillConnectionSums("connection_sums", 0)
	w.fillConnectionSums("connection_cgroup_sums", 0)
	require.NoError(t, w.workload("flood", porttest.Closed(t, "tcp4"), strconv.Itoa(connects)).Run())
	w.finish()
	counters, told := w.counters()[uint8(event.FamilyNetwork)], len(w.ofType(event.TypeConnectionConnect))
	assert.InDelta(t, connects, counters.Seen, float64(w.missedRuns()["tp_btf/inet_sock_set_state"]))
	assert.Equal(t, counters.Seen, uint64(told)+counters.Throttled)
	assert.Positive(t, counters.Throttled)
	_, _, summed := w.carried()
	assert.Zero(t, summed)
}
