// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	values := []float64{9, 1, 5}
	assert.InDelta(t, 5, median(values), 0)
	assert.Equal(t, []float64{9, 1, 5}, values, "rounds stay in their order, which pairs them")
	assert.InDelta(t, 3, median([]float64{4, 100, 1, 2}), 0, "the mean of the two in the middle")
	assert.InDelta(t, 7, median([]float64{7}), 0)
}

func TestRatios(t *testing.T) {
	// The median of the ratios is another than the ratio of the medians: what all of a round shares is not in it.
	with, without := []float64{50, 900, 80}, []float64{100, 1000, 100}
	assert.InDeltaSlice(t, []float64{0.5, 0.9, 0.8}, ratios(with, without), 1e-9)
	assert.Panics(t, func() { ratios(with, without[1:]) })
}

func TestDigits(t *testing.T) {
	for want, value := range map[string]float64{
		"0": 0, "0.001": 0.0012, "0.920": 0.92, "1.50": 1.5, "42.0": 42, "120": 120, "1,000": 999.7, "300,000": 3e5, "1,234,568": 1234567.8, "-1,000": -1000, "-100": -100,
	} {
		assert.Equal(t, want, digits(value))
	}
}

func TestGoals(t *testing.T) {
	for _, test := range []struct {
		goal   goal
		values []float64
		text   string
		met    string
	}{
		{goal{}, []float64{1}, "", ""},
		{atLeast(0.92), []float64{0.92}, "at least 0.920", "yes"},
		{atLeast(0.92), []float64{0.91, 0.919, 2}, "at least 0.920", "no"},
		{atMost(120), []float64{120}, "at most 120", "yes"},
		{atMost(120), []float64{121}, "at most 120", "no"},
		{atMost(120), nil, "at most 120", "not measured"},
	} {
		text, met := test.goal.tell(figure{values: test.values})
		assert.Equal(t, test.text, text)
		assert.Equal(t, test.met, met, "%v of %v", test.goal, test.values)
	}
}

func TestCostTable(t *testing.T) {
	const want = `
|               | median           |    | from, to       | goal           | met          |
| ------------- | ---------------- | -- | -------------- | -------------- | ------------ |
| HTTP          | 0.800            |    | 0.500 to 0.900 | at least 0.920 | no           |
| a request     | 1.25             | µs |                | at most 1.50   | yes          |
| Redis         | not there: redis |    |                |                |              |
| bulk transfer | not there: wrk   |    |                | at least 0.980 | not measured |
`
	assert.Equal(t, want[1:], costTable([]figure{
		{what: "HTTP", values: []float64{0.5, 0.9, 0.8}, goal: atLeast(0.92)},
		{what: "a request", unit: "µs", values: []float64{1.25}, goal: atMost(1.5)},
		{what: "Redis", instead: "not there: redis"},
		{what: "bulk transfer", instead: "not there: wrk", goal: atLeast(0.98)},
	}))
}

func TestCostOfARound(t *testing.T) {
	before := reading{
		seen: 100, lost: 1, exchanges: 50, spanless: 10, user: time.Second, system: time.Second,
		programs: map[string]programRuns{"tcp_read": {time: 1000, runs: 10}, "idle": {time: 5, runs: 1}},
	}
	after := reading{
		seen: 300, lost: 3, exchanges: 150, spanless: 35, user: 3 * time.Second, system: 2 * time.Second,
		programs: map[string]programRuns{"tcp_read": {time: 4000, runs: 20}, "idle": {time: 5, runs: 1}, "late": {time: 7, runs: 2}},
	}
	r := costRound{units: 1000, took: 2 * time.Second, reading: after.since(before)}
	assert.Equal(t, reading{
		seen: 200, lost: 2, exchanges: 100, spanless: 25, user: 2 * time.Second, system: time.Second,
		programs: map[string]programRuns{"tcp_read": {time: 3000, runs: 10}, "late": {time: 7, runs: 2}},
	}, r.reading)
	assert.InDelta(t, 500, r.rate(), 0)
	assert.InDelta(t, 100, r.eventRate(), 0)
	assert.InDelta(t, 1, r.lostPercent(), 0)
	assert.InDelta(t, 25, r.spanlessPercent(), 0)
	assert.InDelta(t, 10000, r.userAnEvent(), 1e-9, "µs")
	assert.InDelta(t, 5000, r.systemAnEvent(), 1e-9, "µs")
	assert.InDelta(t, 3.007, r.bpfAUnit(), 1e-9, "ns")
	assert.InDelta(t, 15.035, r.bpfAnEvent(), 1e-9, "ns")
}

func TestTheCostWithLimitsIsThatOfAgents(t *testing.T) {
	manifest, err := os.ReadFile("../../deploy/kubernetes/base/agent.yaml")
	require.NoError(t, err)
	assert.Contains(t, string(manifest), limitsOfAgents)
}
