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

	"github.com/tapio-io/otelcol-tapio/bpf"
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
	began := time.Now()
	for _, c := range cases {
		w.play(script{Steps: c.steps})
		want = append(want, c.want...)
	}
	took := time.Since(began)
	told, sums := w.awaitExchanges(len(want))
	w.finish()

	got := tallyOf(told)
	for _, e := range sums {
		key := tallyKey{method: e.Method(), cut: e.CutBy(), status: int(e.Key.Status), role: "client"}
		if e.IsServer() {
			key.role = "server"
		}
		addTo(got, key, tally{
			e.Events(), e.Sums.RequestBytes, e.Sums.ResponseBytes, e.Sums.RequestSizes, e.Sums.ResponseSizes,
		})
		checkSum(t, e)
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

// checkSum wants a client's to name its server, and a server's to name nobody.
func checkSum(t *testing.T, e event.HTTPSum) {
	t.Helper()
	assert.Zero(t, e.Header.Pid)
	assert.Equal(t, e.Header.CgroupId, e.Key.CgroupId)
	if e.IsServer() {
		assert.Zero(t, e.Key.PeerPort)
		assert.True(t, event.Address(e.Key.PeerAddress).IsUnspecified())
		return
	}
	assert.NotZero(t, e.Key.PeerPort)
	assert.Equal(t, "127.0.0.1", event.Address(e.Key.PeerAddress).String())
}

// TestDurationsOfSums are in the buckets that they belong to.
func TestDurationsOfSums(t *testing.T) {
	w := newWorld(t, withHTTPLimit)
	pauses := []time.Duration{0, 0, 6 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond, 300 * time.Millisecond, 2600 * time.Millisecond}
	used := map[int]bool{}
	var sums []event.HTTPSum
	for n := 0; len(used) < 3; n++ { // a slow machine makes pauses alike, and has more told one by one
		require.Less(t, n, 10, "buckets: %v", used)
		for i, pause := range pauses { // each has a status, and so sums, of its own
			response := fmt.Sprintf("HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n", 200+n*len(pauses)+i)
			w.play(script{Steps: []step{client(get), {By: "server", Send: response, After: pause}}})
		}
		_, sums = w.awaitExchanges(2 * (n + 1) * len(pauses))
		for _, e := range sums {
			used[bucketOf(event.DurationBounds, time.Duration(e.Sums.Duration).Seconds())] = true
		}
	}
	w.finish()
	for _, e := range sums {
		require.EqualValues(t, 1, e.Events())
		pause := pauses[(int(e.Key.Status)-200)%len(pauses)]
		assert.GreaterOrEqual(t, time.Duration(e.Sums.Duration), pause)
		bucket := bucketOf(event.DurationBounds, time.Duration(e.Sums.Duration).Seconds())
		assert.EqualValues(t, 1, e.Sums.Durations[bucket], "%s: %v", time.Duration(e.Sums.Duration), e.Sums.Durations)
	}
}

// TestWithoutRoomForSumsExchangesAreThrottled, and that is counted.
func TestWithoutRoomForSumsExchangesAreThrottled(t *testing.T) {
	w := newOwnWorld(t, withHTTPLimit)
	m := w.source.loader.shared["http_sums"]
	none := make([]bpf.WireHttpSums, cpusOf(t, w))
	for i := range m.MaxEntries() {
		require.NoError(t, m.Put(bpf.WireHttpSumKey{CgroupId: 1 << 40, Error: int32(i), Role: event.RoleServer}, none))
	}
	const exchanges = 20
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

// TestSumsThatRestAreForgotten, so that there is room for others.
func TestSumsThatRestAreForgotten(t *testing.T) {
	w := newUnreadWorld(t, withHTTPLimit)
	close(w.done)
	m, sums := w.source.loader.shared["http_sums"], w.source.httpSums
	var told uint64
	read := func(now uint64) {
		require.NoError(t, sums.read(m, now, false, func(record []byte) {
			e, err := event.DecodeHTTPSum(record)
			require.NoError(t, err)
			told += e.Events()
		}))
	}
	count := func() (n int) {
		var key bpf.WireHttpSumKey
		var perCPU []bpf.WireHttpSums
		for it := m.Iterate(); it.Next(&key, &perCPU); {
			n++
		}
		return n
	}
	steps := []step{}
	for range 10 {
		steps = append(steps, client(get), server(noBody))
	}
	ask := func() { w.play(script{Steps: steps, Address: "127.0.0.1:0"}) }
	ask()
	require.Equal(t, 2, count(), "a client's and a server's")
	now := limitsInterval
	read(now)
	first := told
	assert.Positive(t, first)
	read(now + limitsInterval/2)
	read(now + 2*limitsInterval)
	assert.Equal(t, first, told, "there is nothing new")
	read(now + forgetSumAfter)
	assert.Equal(t, 2, count())
	read(now + forgetSumAfter + 2*limitsInterval)
	assert.Zero(t, count())
	assert.Empty(t, sums.told)

	ask()
	read(now + 2*forgetSumAfter)
	assert.Greater(t, told, first, "it begins anew")
}

func cpusOf(t *testing.T, w *world) int {
	t.Helper()
	var perCPU []bpf.WireEventCounters
	require.NoError(t, w.source.loader.shared["event_counts"].Lookup(uint32(0), &perCPU))
	return len(perCPU)
}

func TestRoomForHTTPSums(t *testing.T) {
	assert.EqualValues(t, maxHTTPSums, httpSumRoom(2))
	assert.LessOrEqual(t, int(httpSumRoom(256))*256*httpSumSize, httpSumsMemory)
	assert.Greater(t, httpSumRoom(256), uint32(200))
}

func TestSumBounds(t *testing.T) {
	bounds := sumBounds([]float64{0.005, 10}, float64(time.Second))
	assert.Equal(t, []uint64{5_000_000, 10_000_000_000, math.MaxUint64}, bounds[:3])
	assert.True(t, slices.IsSorted(bounds[:]))
	assert.Less(t, max(len(event.DurationBounds), len(event.BodyBounds)), event.HTTPSumBuckets)
}
