// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

const noisy = "4bc8bd0c4d7c3f4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5" // a container

// throttlingRecord is of cgroup 7, from 9 s after boot to 10 s.
func throttlingRecord(family event.Family, kind event.SecurityKind, flags uint32, events, total uint64) []byte {
	return eventtest.Record(bpf.WireThrottling{
		Header: bpf.WireEventHeader{Time: 10 * second, CgroupId: 7, Type: uint16(event.TypeThrottling)},
		Began:  9 * second, Events: events, Total: total, Limit: 50, Family: uint16(family), Kind: uint16(kind), Flags: flags,
	})
}

// TestThrottling: its start and its stop are told, and each event that is not told in between is counted for its container.
func TestThrottling(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		made(7, "/docker/"+noisy),
		throttlingRecord(event.FamilyHTTP, 0, event.ThrottlingBegan, 100, 100),
		throttlingRecord(event.FamilyHTTP, 0, 0, 30, 130),
		throttlingRecord(event.FamilyHTTP, 0, event.ThrottlingEnded, 0, 130),
		throttlingRecord(event.FamilySecurity, event.SecurityMount, event.ThrottlingBegan|event.ThrottlingEnded, 7, 7),
	)
	out := w.take(t)
	require.Len(t, out.logs, 4)
	assert.EqualValues(t, 3, out.counts[event.FamilyThrottle], "one is only counted")
	w.requireClosed(t)
	http := attributes{"tapio.throttle.family": "http", "tapio.throttle.limit": int64(50), "tapio.cgroup.id": "7"}
	security := attributes{"tapio.throttle.family": "security", "security_rule.name": "mount", "tapio.throttle.limit": int64(50), "tapio.cgroup.id": "7"}
	for i, want := range []struct {
		name     string
		at       uint64
		severity plog.SeverityNumber
		of       attributes
		count    any
	}{
		{"tapio.throttle.start", 9 * second, plog.SeverityNumberWarn, http, nil},
		{"tapio.throttle.stop", 10 * second, plog.SeverityNumberInfo, http, int64(130)},
		{"tapio.throttle.start", 9 * second, plog.SeverityNumberWarn, security, nil},
		{"tapio.throttle.stop", 10 * second, plog.SeverityNumberInfo, security, int64(7)},
	} {
		log := out.logs[i]
		assert.Equal(t, want.name, log.Name)
		assert.Equal(t, wallTime(want.at), log.Time)
		assert.Equal(t, want.severity, log.Severity)
		assert.Equal(t, want.count, log.Attributes["tapio.throttle.count"])
		delete(log.Attributes, "tapio.throttle.count")
		assert.Equal(t, want.of, attributes(log.Attributes))
		assert.Equal(t, noisy, log.Resource["container.id"])
	}
	got := w.collect(t, 20*second)
	points := map[string]int64{}
	for key, point := range got.points {
		if strings.Contains(key, "throttle") {
			points[key] = point.value
		}
	}
	assert.Equal(t, map[string]int64{
		`- tapio.throttle.events {"tapio.throttle.family":"http"}`:                                  130,
		`- tapio.throttle.events {"security_rule.name":"mount","tapio.throttle.family":"security"}`: 7,
	}, points)
}

// TestThrottlingWithoutLogs is counted all the same, and filtered where nobody counts.
func TestThrottlingWithoutLogs(t *testing.T) {
	for _, tt := range []struct {
		signals Signals
		counted bool
	}{{Signals{Metrics: true}, true}, {Signals{Traces: true}, false}} {
		w := newWorld(tt.signals, 100)
		w.handle(throttlingRecord(event.FamilyDNS, 0, event.ThrottlingBegan, 5, 5))
		assert.Empty(t, w.take(t).logs)
		w.requireClosed(t)
		_, isCounted := w.collect(t, 20*second).metrics["tapio.throttle.events"]
		assert.Equal(t, tt.counted, isCounted)
	}
}

func TestThrottleSeriesLimit(t *testing.T) {
	w := newWorld(allSignals, 1)
	w.handle(
		throttlingRecord(event.FamilyDNS, 0, 0, 5, 5),
		throttlingRecord(event.FamilyHTTP, 0, 0, 6, 6), throttlingRecord(event.FamilyNetwork, 0, 0, 7, 7),
	)
	got := w.collect(t, 20*second)
	assert.EqualValues(t, 13, got.points[`- tapio.throttle.events {"otel.metric.overflow":true}`].value)
}
