// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// sumRecord is of three exchanges of a client in cgroup 7, of 7 ms, 60 ms and 20 s.
func sumRecord(change func(*bpf.WireHttpSum)) []byte {
	e := bpf.WireHttpSum{
		Header: bpf.WireEventHeader{Time: 10 * second, CgroupId: 7, Type: uint16(event.TypeHTTPSum)},
		Key: bpf.WireHttpSumKey{
			CgroupId: 7, PeerAddress: eventtest.Address("192.0.2.1"), PeerPort: 8080, Status: 200, Flags: event.HTTPResponseComplete,
			Role: event.RoleClient, Method: uint8(bpf.WireHttpMethodNumberHTTP_METHOD_GET),
		},
	}
	e.Sums.Duration = 20*second + 67_000_000
	e.Sums.Durations[1], e.Sums.Durations[4], e.Sums.Durations[14] = 1, 1, 1
	e.Sums.RequestBytes, e.Sums.RequestSizes[0], e.Sums.RequestSizes[1] = 256, 2, 1
	e.Sums.ResponseBytes, e.Sums.ResponseSizes[13] = 3<<31, 3
	change(&e)
	return eventtest.Record(e)
}

func unchangedSum(*bpf.WireHttpSum) {}

func ofServersSum(e *bpf.WireHttpSum) {
	e.Key.Role, e.Key.PeerAddress, e.Key.PeerPort = event.RoleServer, [16]byte{}, 0
}

// without a response
func cutSum(e *bpf.WireHttpSum) {
	e.Key.Status, e.Key.Flags = 0, 0
	e.Sums.ResponseBytes, e.Sums.ResponseSizes = 0, [event.HTTPSumBuckets]uint64{}
}

// TestHTTPSums are in the metrics of requests, as far as they are known, for their container.
func TestHTTPSums(t *testing.T) {
	const (
		client  = `{"http.request.method":"GET","http.response.status_code":200,"server.address":"192.0.2.1","server.port":8080}`
		failed  = `{"error.type":"404","http.request.method":"GET","http.response.status_code":404,"server.address":"192.0.2.1","server.port":8080}`
		cut     = `{"error.type":"connection_closed","http.request.method":"GET","server.address":"192.0.2.1","server.port":8080}`
		server  = `{"http.request.method":"GET","http.response.status_code":404,"url.scheme":"http"}`
		unknown = `{"error.type":"500","http.request.method":"_OTHER","http.response.status_code":500,"url.scheme":"http"}`
	)
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(
		made(7, "/docker/"+noisy), sumRecord(unchangedSum), sumRecord(unchangedSum),
		sumRecord(func(e *bpf.WireHttpSum) { e.Key.Status = 404 }), sumRecord(cutSum),
		sumRecord(func(e *bpf.WireHttpSum) { ofServersSum(e); e.Key.Status = 404 }),
		sumRecord(func(e *bpf.WireHttpSum) { ofServersSum(e); e.Key.Status, e.Key.Method = 500, 0 }),
	)
	w.requireClosed(t)
	assert.EqualValues(t, 6*3+6+1, w.ended(t).Aggregated, "the exchanges, the records, the cgroup")
	collected := w.collect(t, 20*second)
	points := map[string]point{}
	for key, p := range collected.points {
		if strings.Contains(key, " http.") {
			points[strings.TrimPrefix(key, "- ")] = p
		}
	}
	const took = 20.067
	for _, tt := range []struct {
		side, attributes string
		times            uint64
		hasResponse      bool
	}{
		{"client", client, 2, true}, {"client", failed, 1, true}, {"client", cut, 1, false}, {"server", server, 1, true}, {"server", unknown, 1, true},
	} {
		name := "http." + tt.side
		p := points[name+".request.duration "+tt.attributes]
		assert.Equal(t, 3*tt.times, p.count, tt.attributes)
		assert.InDelta(t, took*float64(tt.times), p.sum, 1e-9)
		assert.Equal(t, tt.times, p.buckets[0.01])
		assert.Equal(t, tt.times, p.buckets[0.075])
		p = points[name+".request.body.size "+tt.attributes]
		assert.Equal(t, 3*tt.times, p.count)
		assert.Equal(t, 256*float64(tt.times), p.sum)
		assert.Equal(t, map[float64]uint64{0: 2 * tt.times, 256: tt.times}, p.buckets)
		p, hasResponse := points[name+".response.body.size "+tt.attributes]
		assert.Equal(t, tt.hasResponse, hasResponse)
		if hasResponse {
			assert.Equal(t, 3*tt.times, p.count)
			assert.Equal(t, float64(3<<31)*float64(tt.times), p.sum)
		}
	}
	assert.Len(t, points, 5+5+4)
}

// TestHTTPSumsOfNoProcessAndPeer are their container's, with all that is known of them, and with no server: nothing is made up.
func TestHTTPSumsOfNoProcessAndPeer(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(curl(2*second), sumRecord(ofCurl), sumRecord(func(e *bpf.WireHttpSum) {
		ofCurl(e)
		e.Header.Pid, e.Header.StartTime = 0, 0
		e.Key.PeerAddress, e.Key.PeerPort, e.Key.Status = [16]byte{}, 0, 404
	}))
	w.requireClosed(t)
	points := map[string]point{}
	for key, p := range w.collect(t, 20*second).points {
		if strings.Contains(key, "http.client.request.duration") {
			points[key] = p
		}
	}
	buckets := map[float64]uint64{0.01: 1, 0.075: 1, beyond: 1}
	assert.Equal(t, map[string]point{
		`/usr/bin/curl http.client.request.duration {"http.request.method":"GET","http.response.status_code":200,"server.address":"10.0.0.2","server.port":443}`: {count: 3, sum: 20.067, buckets: buckets},
		`- http.client.request.duration {"error.type":"404","http.request.method":"GET","http.response.status_code":404}`:                                        {count: 3, sum: 20.067, buckets: buckets},
	}, points)
}

// TestHTTPSumsWithoutMetrics: what is nowhere is lost, as throttled.
func TestHTTPSumsWithoutMetrics(t *testing.T) {
	w := newWorld(Signals{Traces: true, Logs: true}, 100)
	w.handle(sumRecord(unchangedSum))
	w.requireClosed(t)
	ended := w.ended(t)
	assert.Equal(t, map[string]uint64{"throttled": 3}, ended.Lost)
	assert.EqualValues(t, 1, ended.Filtered, "the record")
}

// TestHTTPSumsOfAPodWait for its name: a series has the resource that it began with.
func TestHTTPSumsOfAPodWait(t *testing.T) {
	w, names := newNamedWorld(10)
	w.Refresh(second)
	w.handle(made(7, inPod), sumRecord(unchangedSum))
	assert.Equal(t, 1+3, w.Held(), "the record, and the exchanges")
	names.set(webPod())
	w.Refresh(2 * second)
	assert.Zero(t, w.Held())
	w.requireClosed(t)
	assert.EqualValues(t, 3, w.ended(t).Aggregated-2)
	var pods []any
	for _, resource := range w.collect(t, 20*second).resources {
		pods = append(pods, resource["k8s.pod.name"])
	}
	assert.ElementsMatch(t, []any{webPod().Name, nil}, pods, "init's is the other one")
}

// ofCurl has the sums be of the process that curl runs, whose requests exchangeRecord has.
func ofCurl(e *bpf.WireHttpSum) {
	told, err := event.DecodeHTTPExchange(exchangeRecord(getHead, "", unchangedExchange))
	if err != nil {
		panic(err)
	}
	e.Header.Pid, e.Header.StartTime, e.Header.CgroupId = told.Header.Pid, told.Header.StartTime, told.Header.CgroupId
	e.Key.PeerAddress, e.Key.PeerPort = told.Ends.PeerAddress, told.Ends.PeerPort
}

// TestHTTPSumsOfAProcess have its resource, and the server that its requests have named, if all have named the same.
func TestHTTPSumsOfAProcess(t *testing.T) {
	const (
		told    = `{"http.request.method":"GET","http.response.status_code":200,"network.protocol.version":"1.1","server.address":"example.test","server.port":8080}`
		named   = `{"http.request.method":"GET","http.response.status_code":200,"server.address":"example.test","server.port":8080}`
		unnamed = `{"http.request.method":"GET","http.response.status_code":200,"server.address":"192.0.2.1","server.port":8080}`
	)
	w := newWorld(Signals{Metrics: true}, 100)
	durations := func() map[string]uint64 {
		counts := map[string]uint64{}
		for key, p := range w.collect(t, 20*second).points {
			if attributes, ok := strings.CutPrefix(key, "/usr/bin/curl http.client.request.duration "); ok {
				counts[attributes] = p.count
			}
		}
		return counts
	}
	w.handle(curl(2*second), exchangeRecord(getHead, "", unchangedExchange), sumRecord(ofCurl), sumRecord(ofCurl))
	assert.Equal(t, map[string]uint64{told: 1, named: 6}, durations())

	elsewhere := sumRecord(func(e *bpf.WireHttpSum) {
		ofCurl(e)
		e.Key.PeerAddress = eventtest.Address("192.0.2.1")
		e.Key.PeerPort = 8080
	})
	w.handle(elsewhere)
	assert.Equal(t, map[string]uint64{told: 1, named: 6, unnamed: 3}, durations())

	for range 2 { // also if the name of before comes again
		w.handle(exchangeRecord(strings.Replace(getHead, "example.test", "other.test", 1), "", unchangedExchange), exchangeRecord(getHead, "", unchangedExchange))
	}
	w.handle(sumRecord(ofCurl))
	counts := durations()
	assert.EqualValues(t, 6, counts[named], "nobody can tell which of them it was")
	var others uint64
	for attributes, count := range counts {
		if !strings.Contains(attributes, "network.protocol.version") {
			others += count
		}
	}
	assert.EqualValues(t, 6+3+3, others)
	assert.Len(t, w.collect(t, 20*second).resources, 2, "curl's and init's")
}

// TestServersAreThoseOfClients: who asks a server is not what a client asks.
func TestServersAreThoseOfClients(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(curl(2*second), exchangeRecord(getHead, "", ofServer))
	assert.Empty(t, w.servers.named)
	w.handle(exchangeRecord(getHead, "", unchangedExchange))
	assert.Len(t, w.servers.named, 1)
}

func TestServersAreBounded(t *testing.T) {
	s := newServers()
	x := exchange{resource: noResource, address: "a"}
	for port := range uint16(maxServers + 2) {
		x.HTTPExchange = event.HTTPExchange{WireHttpExchange: &bpf.WireHttpExchange{Ends: bpf.WireConnectionEnds{PeerPort: port}}}
		s.note(&x)
		named, ok := s.of(noResource, [16]byte{}, port)
		assert.True(t, ok)
		assert.Equal(t, "a", named.address)
	}
	assert.Len(t, s.named, 2)
}

// TestHTTPSumsThatFailed: what is an error depends on the side.
func TestHTTPSumsThatFailed(t *testing.T) {
	for status, want := range map[uint16][2]string{399: {"", ""}, 400: {"400", ""}, 499: {"499", ""}, 500: {"500", "500"}} {
		assert.Equal(t, want, [2]string{errorOf("", status, false), errorOf("", status, true)}, status)
		assert.Equal(t, [2]string{"timeout", "timeout"}, [2]string{errorOf("timeout", status, false), errorOf("timeout", status, true)})
	}
}
