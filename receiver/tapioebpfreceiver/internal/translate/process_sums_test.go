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

func processSumRecord(kind event.Type, status uint32, events uint64) []byte {
	return eventtest.Record(bpf.WireProcessSum{
		Header: bpf.WireEventHeader{Time: 10 * second, CgroupId: 7, Type: uint16(event.TypeProcessSum)},
		Key:    bpf.WireProcessSumKey{CgroupId: 7, Type: uint16(kind), Status: status},
		Sums:   bpf.WireProcessSums{Events: events},
	})
}

// TestProcessSums are in the metrics of processes, for their container.
func TestProcessSums(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(
		made(7, "/docker/"+noisy), processSumRecord(event.TypeProcessExec, 0, 5), processSumRecord(event.TypeProcessExec, 0, 6),
		processSumRecord(event.TypeProcessExit, 0, 3), processSumRecord(event.TypeProcessExit, 2<<8, 4), processSumRecord(event.TypeProcessExit, 9, 2),
	)
	w.requireClosed(t)
	assert.EqualValues(t, 5+6+3+4+2+5+1, w.ended(t).Aggregated, "the events, the records, the cgroup")
	points := map[string]int64{}
	for key, p := range w.collect(t, 20*second).points {
		if strings.HasPrefix(key, "- tapio.process.ex") {
			points[strings.TrimPrefix(key, "- tapio.process.")] = p.value
		}
	}
	assert.Equal(t, map[string]int64{
		`executions {}`:                  11,
		`exits {}`:                       3,
		`exits {"error.type":"exit_2"}`:  4,
		`exits {"error.type":"SIGKILL"}`: 2,
	}, points)
}

// TestProcessSumsWithoutMetrics: what is nowhere is lost, as throttled.
func TestProcessSumsWithoutMetrics(t *testing.T) {
	w := newWorld(Signals{Traces: true, Logs: true}, 100)
	w.handle(processSumRecord(event.TypeProcessExec, 0, 5))
	w.requireClosed(t)
	assert.Equal(t, map[string]uint64{"throttled": 5}, w.ended(t).Lost)
}
