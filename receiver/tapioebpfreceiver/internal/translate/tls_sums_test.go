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

// tlsSumRecord is of three handshakes of TLS 1.2 of a client in cgroup 7, of 7 ms, 60 ms and 20 s.
func tlsSumRecord(change func(*bpf.WireTlsSum)) []byte {
	e := bpf.WireTlsSum{
		Header: bpf.WireEventHeader{Time: 10 * second, CgroupId: 7, Type: uint16(event.TypeTLSSum)},
		Key:    bpf.WireTlsSumKey{CgroupId: 7, Flags: event.TLSEstablished, Version: 0x0303, Role: event.RoleClient},
	}
	e.Sums.Duration = 20*second + 67_000_000
	e.Sums.Durations[1], e.Sums.Durations[4], e.Sums.Durations[14] = 1, 1, 1
	change(&e)
	return eventtest.Record(e)
}

func unchangedTLSSum(*bpf.WireTlsSum) {}

// TestTLSSums are in the metric of handshakes, for their container.
func TestTLSSums(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(
		made(7, "/docker/"+noisy), tlsSumRecord(unchangedTLSSum), tlsSumRecord(unchangedTLSSum),
		tlsSumRecord(func(e *bpf.WireTlsSum) { e.Key.Role, e.Key.Version = event.RoleServer, 0x0304 }),
		tlsSumRecord(func(e *bpf.WireTlsSum) { e.Key.Flags, e.Key.Alert, e.Key.Version = event.TLSAlert, 48, 0 }),
	)
	w.requireClosed(t)
	assert.EqualValues(t, 4*3+4+1, w.ended(t).Aggregated, "the handshakes, the records, the cgroup")
	counts := map[string]uint64{}
	for key, p := range w.collect(t, 20*second).points {
		if attributes, ok := strings.CutPrefix(key, "- tapio.tls.handshake.duration "); ok {
			counts[attributes] = p.count
			times := p.count / 3
			assert.InDelta(t, 20.067*float64(times), p.sum, 1e-9)
			assert.Equal(t, map[float64]uint64{0.01: times, 0.075: times, beyond: times}, p.buckets)
		}
	}
	assert.Equal(t, map[string]uint64{
		`{"tapio.network.role":"client","tls.protocol.name":"tls","tls.protocol.version":"1.2"}`: 6,
		`{"tapio.network.role":"server","tls.protocol.name":"tls","tls.protocol.version":"1.3"}`: 3,
		`{"error.type":"unknown_ca","tapio.network.role":"client"}`:                              3,
	}, counts)
}

// TestTLSSumsWithoutMetrics: what is nowhere is lost, as throttled.
func TestTLSSumsWithoutMetrics(t *testing.T) {
	w := newWorld(Signals{Traces: true, Logs: true}, 100)
	w.handle(tlsSumRecord(unchangedTLSSum))
	w.requireClosed(t)
	assert.Equal(t, map[string]uint64{"throttled": 3}, w.ended(t).Lost)
}

// TestSummedHandshakesAreAsTold: the same handshakes lead to the same metrics of the same resource, one by one and summed up.
func TestSummedHandshakesAreAsTold(t *testing.T) {
	points := func(record []byte) map[string]point {
		w := newWorld(Signals{Metrics: true}, 100)
		w.handle(curl(2*second), record)
		return w.collect(t, 20*second).points
	}
	summed := func(change func(*bpf.WireTlsSum)) []byte {
		return tlsSumRecord(func(e *bpf.WireTlsSum) {
			e.Header.Pid, e.Header.StartTime = 10, second
			e.Sums = bpf.WireTlsSums{Duration: second}
			e.Sums.Durations[9] = 1
			change(e)
		})
	}
	told := points(handshakeRecord(clientHello, serverHello, func(*bpf.WireTlsHandshake) {}))
	assert.Contains(t, told, `/usr/bin/curl tapio.tls.handshake.duration {"tapio.network.role":"client","tls.protocol.name":"tls","tls.protocol.version":"1.2"}`)
	assert.Equal(t, told, points(summed(unchangedTLSSum)))
	assert.Equal(t, points(handshakeRecord(clientHello, "", refusedCertificate)), points(summed(func(e *bpf.WireTlsSum) {
		e.Key.Flags, e.Key.Alert, e.Key.Version = event.TLSAlert, 48, 0
	})))
}
