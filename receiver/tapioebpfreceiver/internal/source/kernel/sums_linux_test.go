// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// withHTTPLimit has hardly anything told one by one.
func withHTTPLimit(o *Options) {
	withHTTP(o)
	o.RateLimits = map[string]uint64{familyHTTP: 1}
}

// tallyKey is what exchanges have in common whose sums are one, as metrics have it.
type tallyKey struct {
	role, method, cut string
	status            int
}

// tally is what is known of the sizes of many exchanges.
type tally struct {
	events                      uint64
	requestBytes, responseBytes uint64
	requestSizes, responseSizes [event.HTTPSumBuckets]uint64
}

var listedMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "QUERY"}

func keyOf(e exchange) tallyKey {
	method, _, _ := strings.Cut(e.Request, " ")
	if !slices.Contains(listedMethods, method) {
		method = ""
	}
	role := event.RoleServer
	if e.Role == "client" {
		role = event.RoleClient
	}
	cut := event.HTTPExchange{WireHttpExchange: &bpf.WireHttpExchange{
		Flags: uint16(e.Flags), Error: e.Error, Ends: bpf.WireConnectionEnds{Role: role},
	}}.CutBy()
	return tallyKey{role: e.Role, method: method, cut: cut, status: e.Status}
}

// tallyOf exchanges that were told, or should have been.
func tallyOf(exchanges []exchange) map[tallyKey]tally {
	tallies := map[tallyKey]tally{}
	for _, e := range exchanges {
		sum := tallies[keyOf(e)]
		sum.events++
		sum.requestBytes += uint64(e.RequestBody)
		sum.requestSizes[bucketOf(event.BodyBounds, float64(e.RequestBody))]++
		if e.Status != 0 {
			sum.responseBytes += uint64(e.ResponseBody)
			sum.responseSizes[bucketOf(event.BodyBounds, float64(e.ResponseBody))]++
		}
		tallies[keyOf(e)] = sum
	}
	return tallies
}

func bucketOf(bounds []float64, value float64) int {
	at, _ := slices.BinarySearch(bounds, value)
	return at
}

func addTo(tallies map[tallyKey]tally, key tallyKey, more tally) {
	sum := tallies[key]
	sum.events += more.events
	sum.requestBytes += more.requestBytes
	sum.responseBytes += more.responseBytes
	for i := range event.HTTPSumBuckets {
		sum.requestSizes[i] += more.requestSizes[i]
		sum.responseSizes[i] += more.responseSizes[i]
	}
	tallies[key] = sum
}

func addSum(tallies map[tallyKey]tally, e event.HTTPSum) {
	key := tallyKey{method: e.Method(), cut: e.CutBy(), status: int(e.Key.Status), role: "client"}
	if e.IsServer() {
		key.role = "server"
	}
	addTo(tallies, key, tally{e.Events(), e.Sums.RequestBytes, e.Sums.ResponseBytes, e.Sums.RequestSizes, e.Sums.ResponseSizes})
}

// httpSums are the records of the world's cgroup so far.
func (w *world) httpSums() (found []event.HTTPSum) {
	w.t.Helper()
	id, ok := cgroupID(w.cgroup)
	require.True(w.t, ok)
	for _, record := range w.ofType(event.TypeHTTPSum) {
		e, err := event.DecodeHTTPSum(record)
		require.NoError(w.t, err)
		if e.Header.CgroupId == id {
			found = append(found, e)
		}
	}
	return found
}

// awaitExchanges that are told or summed up.
func (w *world) awaitExchanges(count int) (told []exchange, sums []event.HTTPSum) {
	w.t.Helper()
	ended := func() bool {
		told, sums = nil, w.httpSums()
		for _, record := range w.ofType(event.TypeHTTPExchange) {
			_, e := decodeExchange(w.t, record)
			told = append(told, e)
		}
		all := uint64(len(told))
		for _, e := range sums {
			all += e.Events()
		}
		return all >= uint64(count)
	}
	require.Eventually(w.t, ended, time.Minute, 50*time.Millisecond, "%d of %d exchanges", len(told), count)
	return told, sums
}

// TestHTTPExchangesBeyondTheLimitAreSummedUp: with those that are told they are all, whatever they are like.
func TestHTTPExchangesBeyondTheLimitAreSummedUp(t *testing.T) {
	w := newWorld(t, withHTTPLimit)
	cases := slices.Concat(httpCases(), cutHTTPCases())
	for _, method := range listedMethods {
		if method != "CONNECT" && method != "HEAD" {
			request := method + " /m HTTP/1.1\r\n\r\n"
			cases = append(cases, httpCase{method, []step{client(request), server(ok + "hello")},
				both(exchange{Request: request, Response: ok, Status: 200, ResponseBody: 5})})
		}
	}
	for _, method := range []string{"GETS", "get", "GE", "OPTIONSS", "PUTT"} {
		request := method + " /m HTTP/1.1\r\n\r\n"
		cases = append(cases, httpCase{method, []step{client(request), server(noBody)},
			both(exchange{Request: request, Response: noBody, Status: 204})})
	}
	var want []exchange
	processes := map[uint32]bool{}
	began := time.Now()
	for _, c := range cases {
		processes[w.play(script{Steps: c.steps})] = true
		want = append(want, c.want...)
	}
	took := time.Since(began)
	told, sums := w.awaitExchanges(len(want))
	w.finish()

	got := tallyOf(told)
	for _, e := range sums {
		addSum(got, e)
		assert.Equal(t, e.Header.CgroupId, e.Key.CgroupId)
		assert.True(t, processes[e.Header.Pid], "process %d", e.Header.Pid)
		assert.NotZero(t, e.Header.StartTime)
	}
	t.Logf("in %s, %d of %d exchanges are told, the others in %d records", took, len(told), len(want), len(sums))
	assert.Equal(t, tallyOf(want), got)
	assert.LessOrEqual(t, float64(len(told)), took.Seconds()+1+16, "some more where CPUs meet")
	assert.NotEmpty(t, sums)
	counters := w.httpCounters()
	assert.EqualValues(t, len(want), counters.Seen)
	assert.Zero(t, counters.Throttled, "they are not lost")
	assertSlotsAreFree(t, w)
}

// TestEndsOfSums: a client's names its server, and a server's names nobody, so that many clients are one sum. Nor do exchanges have
// sums of their own for what has no name in the metrics.
func TestEndsOfSums(t *testing.T) {
	w := newWorld(t, withHTTPLimit)
	long := "GET /" + strings.Repeat("l", 3000) + " HTTP/1.1\r\n\r\n"
	for address, host := range map[string]string{"127.0.0.1": "127.0.0.1", "[::1]": "::1"} {
		port := porttest.Free(t)
		steps := []step{}
		for range 6 {
			steps = append(steps, client(get), server(noBody), client(long), server(noBody))
		}
		w.play(script{Steps: steps, Address: fmt.Sprintf("%s:%d", address, port)})
		found := func() (ends map[string]int) {
			ends = map[string]int{}
			for _, e := range w.httpSums() {
				switch peer := event.Address(e.Key.PeerAddress); {
				case e.IsServer() && peer.IsUnspecified() && e.Key.PeerPort == 0:
					ends["server"]++
				case !e.IsServer() && peer.String() == host && int(e.Key.PeerPort) == port:
					ends["client"]++
				}
			}
			return ends
		}
		require.Eventually(t, func() bool { return found()["client"] > 0 && found()["server"] > 0 }, time.Minute, 50*time.Millisecond, "%s: %v", address, found())
	}
	w.finish()
	sums := w.httpSums()
	turns := map[uint64]int{}
	for _, e := range sums {
		turns[e.Header.Time]++
	}
	for at, n := range turns {
		assert.LessOrEqual(t, n, 4, "sums of two ends, of two addresses, at %d", at)
	}
}

// timedSum is an exchange of a status of its own.
type timedSum struct {
	status uint16
	steps  []step
	check  func(took, duration time.Duration)
	took   time.Duration // the script, at most
	ends   map[bool]bool // that are summed up, by whether it is a server's
}

// TestDurationsOfSums are in the buckets that they belong to, from a request's first byte to its response's last.
func TestDurationsOfSums(t *testing.T) {
	w := newWorld(t, withHTTPLimit)
	const pause = 150 * time.Millisecond
	post := "POST /p HTTP/1.1\r\nContent-Length: 7\r\n\r\n"
	answer := func(status uint16) string { return fmt.Sprintf("HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n", status) }
	timed := []*timedSum{
		{status: 300, steps: []step{client(get[:9]), {By: "client", Send: get[9:], After: pause}, server(answer(300))}, check: func(_, duration time.Duration) {
			assert.GreaterOrEqual(t, duration, pause, "it begins with the request")
		}},
		{status: 301, steps: []step{client(post), server(answer(301)), {By: "client", Send: "1234567", After: pause}}, check: func(took, duration time.Duration) {
			assert.LessOrEqual(t, duration, took-pause, "the response ended before the request did")
		}},
	}
	for i, pause := range []time.Duration{0, 6, 30, 60, 120, 300} {
		status := uint16(210 + i)
		timed = append(timed, &timedSum{status: status, steps: []step{client(get), {By: "server", Send: answer(status), After: pause * time.Millisecond}}, check: func(_, duration time.Duration) {
			assert.GreaterOrEqual(t, duration, pause*time.Millisecond)
		}})
	}
	sums := w.playTimed(timed)
	w.finish()
	used := map[int]bool{}
	for _, e := range sums {
		for _, x := range timed {
			if x.status == e.Key.Status {
				require.EqualValues(t, 1, e.Events())
				duration := time.Duration(e.Sums.Duration)
				x.check(x.took, duration)
				bucket := bucketOf(event.DurationBounds, duration.Seconds())
				assert.EqualValues(t, 1, e.Sums.Durations[bucket], "%s: %v", duration, e.Sums.Durations)
				used[bucket] = true
			}
		}
	}
	assert.GreaterOrEqual(t, len(used), 2)
}

// playTimed plays all until both ends of each are summed up. What is told of a second is used up before, on the same connection,
// but a second may pass meanwhile, and as sums are read each second, too, it would do so at the same place again: each
// round begins at another time of a second.
func (w *world) playTimed(all []*timedSum) (sums []event.HTTPSum) {
	w.t.Helper()
	const before = 4
	exchanges := 0
	for rounds, pending := 0, all; len(pending) > 0; rounds++ {
		require.Less(w.t, rounds, 10, "some are never summed up")
		time.Sleep(time.Duration(rounds) * 170 * time.Millisecond)
		for _, x := range pending {
			var steps []step
			for range before {
				steps = append(steps, client(get), server(noBody))
			}
			began := time.Now()
			w.play(script{Steps: append(steps, x.steps...)})
			x.took = max(x.took, time.Since(began))
			exchanges += 2 * (before + 1)
		}
		_, sums = w.awaitExchanges(exchanges)
		pending = slices.DeleteFunc(slices.Clone(pending), func(x *timedSum) bool {
			x.ends = map[bool]bool{}
			for _, e := range sums {
				if e.Key.Status == x.status {
					x.ends[e.IsServer()] = true
				}
			}
			return len(x.ends) == 2
		})
	}
	return sums
}

// fill both of the maps of a name, but for some keys, so that there is no more room.
func fill[K, V any](t testing.TB, w *world, name string, left uint32, key func(n uint32) K) {
	t.Helper()
	for _, turn := range []string{"_0", "_1"} {
		m := w.source.loader.shared[name+turn]
		var none V
		for n := range m.MaxEntries() - left {
			require.NoError(t, m.Put(key(n), none))
		}
	}
}

func (w *world) fillHTTPSums(name string, left uint32) {
	fill[bpf.WireHttpSumKey, bpf.WireHttpSums](w.t, w, name, left, func(n uint32) bpf.WireHttpSumKey {
		return bpf.WireHttpSumKey{CgroupId: 1 << 40, Pid: n, Role: event.RoleServer}
	})
}

// TestWithoutRoomForSumsExchangesAreThoseOfTheirCgroup: more processes and peers than are kept apart. Which of them it was is not
// known any more of those that come last; all else is, of all.
func TestWithoutRoomForSumsExchangesAreThoseOfTheirCgroup(t *testing.T) {
	const processes = 4
	w := newUnreadWorld(t, withHTTPLimit) // reading makes room
	close(w.done)
	w.fillHTTPSums("http_sums", 2)
	head, missing := "HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n"
	cut := cutHTTPCases()[0]
	var want []exchange
	for range processes {
		w.play(script{Steps: append([]step{client(get), server(ok + "hello"), client(head), server(missing), client(get), server(missing + "hello")}, cut.steps...)})
		want = append(want, slices.Concat(
			both(exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5}), both(exchange{Request: head, Response: missing, Status: 404}),
			both(exchange{Request: get, Response: missing, Status: 404, ResponseBody: 5}), cut.want,
		)...)
	}
	w.finish()
	var told []exchange
	for _, record := range w.ofType(event.TypeHTTPExchange) {
		_, e := decodeExchange(t, record)
		told = append(told, e)
	}
	got, precise := tallyOf(told), 0
	for _, e := range w.httpSums() {
		addSum(got, e)
		assert.Equal(t, e.Header.Pid, e.Key.Pid)
		if e.Key.Pid != 0 {
			precise++
			continue
		}
		assert.Zero(t, e.Header.StartTime)
		assert.Zero(t, e.Key.PeerPort)
		assert.True(t, event.Address(e.Key.PeerAddress).IsUnspecified())
	}
	assert.Equal(t, 2, precise, "as many as there was room for")
	assert.Equal(t, tallyOf(want), got)
	counters := w.httpCounters()
	assert.EqualValues(t, len(want), counters.Seen)
	assert.Zero(t, counters.Throttled, "they are not lost")
}

// TestWithoutRoomForSumsExchangesAreThrottled, and that is counted.
func TestWithoutRoomForSumsExchangesAreThrottled(t *testing.T) {
	const exchanges = 20
	w := newUnreadWorld(t, withHTTPLimit) // reading makes room
	close(w.done)
	w.fillHTTPSums("http_sums", 0)
	w.fillHTTPSums("http_cgroup_sums", 0)
	steps := []step{}
	for range exchanges {
		steps = append(steps, client(get), server(noBody))
	}
	w.play(script{Steps: steps})
	w.finish()
	counters, told := w.httpCounters(), len(w.ofType(event.TypeHTTPExchange))
	assert.EqualValues(t, 2*exchanges, counters.Seen)
	assert.EqualValues(t, 2*exchanges, uint64(told)+counters.Throttled)
	assert.Positive(t, counters.Throttled)
	assert.Empty(t, w.httpSums())
}

// TestSumsTakeTurns: what was filled is read, once, while the other one is filled; and what is left at the end.
func TestSumsTakeTurns(t *testing.T) {
	w := newUnreadWorld(t, withHTTPLimit)
	close(w.done)
	var told uint64
	read := func(now uint64, isLast bool) (records int) {
		require.NoError(t, w.source.summing.read(now, isLast, func(record []byte) {
			e, err := event.DecodeHTTPSum(record)
			require.NoError(t, err)
			assert.Equal(t, now, e.Header.Time)
			told += e.Events()
			records++
		}))
		return records
	}
	steps := []step{}
	for range 10 {
		steps = append(steps, client(get), server(noBody))
	}
	ask := func() { w.play(script{Steps: steps}) }
	now, records := limitsInterval, 0
	for round := range 3 { // by one and the other
		ask()
		assert.Zero(t, read(now-limitsInterval/2, false), "it is not time")
		found := read(now, false)
		assert.Positive(t, found, "round %d", round)
		assert.LessOrEqual(t, found, 2, "a client's and a server's")
		records += found
		now += limitsInterval
		assert.Zero(t, read(now, false), "there is nothing new")
		now += limitsInterval
	}
	ask()
	records += read(now-1, true)
	assert.Zero(t, read(now-1, true))
	require.NoError(t, w.source.drain(w.source.traffic, w.source.traffic.AvailableBytes(), w.keep))
	assert.Equal(t, w.httpCounters().Seen-uint64(len(w.ofType(event.TypeHTTPExchange))), told)
	assert.EqualValues(t, records, w.source.summing.made())
}

// TestSumsAreReadAlthoughRingsFail: they are on another way, and nobody would ask for them later.
func TestSumsAreReadAlthoughRingsFail(t *testing.T) {
	const exchanges = 20
	w := newUnreadWorld(t, withHTTPLimit)
	close(w.done)
	require.NoError(t, w.source.Read(w.keep)) // a second passes before the next time
	steps := []step{}
	for range exchanges {
		steps = append(steps, client(get), server(noBody))
	}
	w.play(script{Steps: steps})
	require.NoError(t, unix.Close(w.source.poll))
	w.source.poll = noPoll
	require.ErrorIs(t, w.source.Read(w.keep), unix.EBADF)
	w.play(script{Steps: steps})
	var summed, throttled uint64
	for _, e := range w.httpSums() {
		summed += e.Events()
	}
	for _, record := range w.ofType(event.TypeThrottling) {
		e, err := event.DecodeThrottling(record)
		require.NoError(t, err)
		throttled += e.Events
	}
	assert.Positive(t, summed)
	assert.Equal(t, summed, throttled)
	assert.EqualValues(t, 2*exchanges, w.httpCounters().Seen, "nothing more is made")
	require.NoError(t, w.source.Read(w.keep), "without waiting")
	assert.EqualValues(t, 2*exchanges, uint64(len(w.ofType(event.TypeHTTPExchange)))+summed)
}

// TestWhoseSumsTheyAreIsToldBefore: also of who has come since the rings were read.
func TestWhoseSumsTheyAreIsToldBefore(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) {
		withHTTPLimit(o)
		o.Families = append(o.Families, familyProcess)
	})
	close(w.done)
	steps := []step{}
	for range 5 {
		steps = append(steps, client(get), server(noBody))
	}
	pid := w.play(script{Steps: steps})
	require.NoError(t, w.source.summing.read(w.source.Boot(), false, w.keep))
	var order []event.Type
	for _, record := range w.records {
		if header, err := event.DecodeHeader(record); err == nil && header.Pid == pid {
			order = append(order, event.Type(header.Type))
		}
	}
	started, summed := slices.Index(order, event.TypeProcessExec), slices.Index(order, event.TypeHTTPSum)
	require.NotEqual(t, -1, started, "%v", order)
	assert.Less(t, started, summed, "%v", order)
}

func TestSumBounds(t *testing.T) {
	bounds := httpSumBounds([]float64{0.005, 10}, float64(time.Second))
	assert.Equal(t, []uint64{5_000_000, 10_000_000_000, math.MaxUint64}, bounds[:3])
	assert.True(t, slices.IsSorted(bounds[:]))
	assert.Less(t, max(len(event.DurationBounds), len(event.BodyBounds)), event.HTTPSumBuckets)
	assert.Less(t, max(len(event.RoundTripBounds), len(event.LifetimeBounds)), event.ConnectionSumBuckets)
}
