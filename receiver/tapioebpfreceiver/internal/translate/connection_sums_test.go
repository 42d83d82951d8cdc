// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// connectionSumRecord is of three closes of TCP connections over IPv4 in cgroup 7, of which two have a round-trip time.
func connectionSumRecord(change func(*bpf.WireConnectionSum)) []byte {
	e := bpf.WireConnectionSum{
		Header: bpf.WireEventHeader{Time: 10 * second, CgroupId: 7, Type: uint16(event.TypeConnectionSum)},
		Key: bpf.WireConnectionSumKey{
			CgroupId: 7, Type: uint16(event.TypeConnectionClose), Protocol: event.ProtocolTCP, Role: event.RoleServer, IsIpv4: 1,
		},
	}
	e.Sums.Events, e.Sums.SentBytes, e.Sums.ReceivedBytes, e.Sums.Retransmits, e.Sums.FirstRecords = 3, 100, 200, 4, 2
	e.Sums.Rtt, e.Sums.Rtts[0], e.Sums.Rtts[15] = 10_000_050, 1, 1
	e.Sums.Duration, e.Sums.Durations[2], e.Sums.Durations[12] = 4000*second, 2, 1
	change(&e)
	return eventtest.Record(e)
}

func ofConnectSum(e *bpf.WireConnectionSum) {
	e.Key.Type, e.Key.Role, e.Key.Error, e.Key.IsIpv4 = uint16(event.TypeConnectionConnect), event.RoleClient, 111, 0
	e.Sums = bpf.WireConnectionSums{Events: 5, Duration: second}
	e.Sums.Durations[16] = 5
}

func ofFlowSum(e *bpf.WireConnectionSum) {
	e.Key.Protocol, e.Key.Role = event.ProtocolUDP, event.RoleClient
	e.Sums = bpf.WireConnectionSums{Events: 9, SentBytes: 7, ReceivedBytes: 8}
}

// TestConnectionSums are in the metrics of connections and traffic, for their container.
func TestConnectionSums(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(
		made(7, "/docker/"+noisy), connectionSumRecord(func(*bpf.WireConnectionSum) {}), connectionSumRecord(func(*bpf.WireConnectionSum) {}),
		connectionSumRecord(func(e *bpf.WireConnectionSum) { e.Key.Flags, e.Sums.FirstRecords = uint16(event.ConnectionAborted), 1 }),
		connectionSumRecord(ofConnectSum), connectionSumRecord(ofFlowSum),
	)
	w.requireClosed(t)
	assert.EqualValues(t, 3*3+5+9+5+1, w.ended(t).Aggregated, "the events, the records, the cgroup")
	points := map[string]point{}
	for key, p := range w.collect(t, 20*second).points {
		if strings.Contains(key, "tapio.network.") || strings.Contains(key, "tapio.tcp.") {
			points[strings.TrimPrefix(key, "- ")] = p
		}
	}
	const (
		server  = `"network.transport":"tcp","network.type":"ipv4","tapio.network.role":"server"}`
		client  = `"network.transport":"tcp","network.type":"ipv6","tapio.network.role":"client"}`
		flow    = `"network.transport":"udp","network.type":"ipv4","tapio.network.role":"client"}`
		reset   = `{"error.type":"connection_reset",`
		refused = `{"error.type":"connection_refused",`
	)
	assert.Equal(t, map[string]point{
		`tapio.network.io {"network.io.direction":"transmit",` + server: {value: 300},
		`tapio.network.io {"network.io.direction":"receive",` + server:  {value: 600},
		`tapio.network.io {"network.io.direction":"transmit",` + flow:   {value: 7},
		`tapio.network.io {"network.io.direction":"receive",` + flow:    {value: 8},
		`tapio.tcp.retransmits {` + server:                              {value: 12},
		`tapio.tcp.rtt {` + server:                                      {count: 6, sum: 3 * 10.00005, buckets: map[float64]uint64{0.0001: 3, 10: 3}},
		`tapio.tcp.connections {` + server:                              {value: 2 + 2 + 1},
		`tapio.tcp.connection.duration {` + server:                      {count: 6, sum: 8000, buckets: map[float64]uint64{0.1: 4, beyond: 2}},
		`tapio.tcp.connection.duration ` + reset + server:               {count: 3, sum: 4000, buckets: map[float64]uint64{0.1: 2, beyond: 1}},
		`tapio.tcp.connections ` + refused + client:                     {value: 5},
		`tapio.tcp.handshake.duration ` + refused + client:              {count: 5, sum: 1, buckets: map[float64]uint64{beyond: 5}},
	}, points)
}

// TestConnectionSumsWithoutMetrics: what is nowhere is lost, as throttled.
func TestConnectionSumsWithoutMetrics(t *testing.T) {
	w := newWorld(Signals{Traces: true, Logs: true}, 100)
	w.handle(connectionSumRecord(ofFlowSum))
	w.requireClosed(t)
	assert.Equal(t, map[string]uint64{"throttled": 9}, w.ended(t).Lost)
}

// TestSummedConnectionsAreAsTold: the same events lead to the same metrics of the same resource, one by one and summed up.
func TestSummedConnectionsAreAsTold(t *testing.T) {
	opened := func(role uint8) func(*bpf.WireConnectionStats) {
		return func(e *bpf.WireConnectionStats) {
			e.Ends.Role, e.Flags = role, event.ConnectionFirstRecord|event.ConnectionHasRTT
			e.SentBytesDelta, e.ReceivedBytesDelta, e.RetransmitsDelta, e.Rtt = 11, 22, 3, 70_000
			e.Opened = 5*second - second/2
		}
	}
	summed := func(role uint8) []byte {
		return connectionSumRecord(func(e *bpf.WireConnectionSum) {
			e.Header.Pid, e.Header.StartTime, e.Key.Role = 10, second, role
			e.Sums = bpf.WireConnectionSums{
				Events: 1, SentBytes: 11, ReceivedBytes: 22, Retransmits: 3, FirstRecords: 1, Rtt: 70_000, Duration: second / 2,
			}
			e.Sums.Rtts[9], e.Sums.Durations[3] = 1, 1
		})
	}
	points := func(records ...[]byte) map[string]point {
		w := newWorld(Signals{Metrics: true}, 100)
		w.handle(append([][]byte{curl(2 * second)}, records...)...)
		return w.collect(t, 20*second).points
	}
	for _, role := range []uint8{event.RoleClient, event.RoleServer} {
		told := points(statsRecord(event.TypeConnectionClose, 5*second, opened(role)))
		assert.Equal(t, told, points(summed(role)))
		assert.Len(t, slices.DeleteFunc(slices.Collect(maps.Keys(told)), func(key string) bool { return !strings.HasPrefix(key, "/usr/bin/curl tapio.tcp.") }), 3+int(role-1), "a server's close tells that it was opened")
	}
	told := points(connectRecord(10, 3*second, 4*second, 111))
	assert.Equal(t, told, points(connectionSumRecord(func(e *bpf.WireConnectionSum) {
		ofConnectSum(e)
		e.Header.Pid, e.Header.StartTime, e.Key.IsIpv4 = 10, second, 1
		e.Sums = bpf.WireConnectionSums{Events: 1, Duration: second}
		e.Sums.Durations[12] = 1
	})))
}
