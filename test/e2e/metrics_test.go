// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// TestMetrics: the metrics count what was done, and are well-formed.
func TestMetrics(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	sh := realPath(t, "/bin/sh")
	runAll(t, scope, []*execution{
		{programs: []program{{executable: sh, args: []string{"sh", "-c", ":"}}}},
		{programs: []program{{executable: sh, args: []string{"sh", "-c", ":"}}}},
		{programs: []program{{executable: sh, args: []string{"sh", "-c", "exit 3"}}}, code: 3},
		{programs: []program{{executable: sh, args: []string{"sh", "-c", "kill -9 $$"}}}, signal: syscall.SIGKILL},
		{programs: []program{{executable: sh, args: []string{"sh", "-c", "exec true"}}}},
	})
	scope.start(t, "refused", "tcp4", porttest.Closed(t, "tcp4"), 4).wait()
	const up, down = 5000, 600
	startPair(t, scope, "tcp6", up, down).wait(t, up, down)
	c.stopWithoutLoss()

	checkProcessMetrics(t, &c.output, sh)
	checkConnectionMetrics(t, &c.output, up, down)
	for _, metrics := range c.output.metrics {
		checkShape(t, metrics)
	}
}

func checkProcessMetrics(t *testing.T, o *output, sh string) {
	t.Helper()
	executions, exits := o.points("tapio.process.executions"), o.points("tapio.process.exits")
	assert.Equal(t, int64(9), total(executions), "6 by the shell, 3 of this binary")
	assert.Equal(t, int64(5), total(of(executions, sh)))
	assert.Equal(t, int64(1), total(of(executions, realPath(t, "/bin/true"))))
	assert.Equal(t, int64(3), total(of(executions, self(t))))
	assert.Equal(t, int64(8), total(exits))
	assert.Equal(t, int64(2), total(of(exits, sh), "error.type", nil))
	assert.Equal(t, int64(1), total(of(exits, sh), "error.type", "exit_3"))
	assert.Equal(t, int64(1), total(of(exits, sh), "error.type", "SIGKILL"))
	assert.Equal(t, int64(1), total(of(exits, realPath(t, "/bin/true")), "error.type", nil))
	assert.Equal(t, int64(3), total(of(exits, self(t)), "error.type", nil))
	assert.Zero(t, total(o.points("tapio.process.active")), "all have ended")
}

func checkConnectionMetrics(t *testing.T, o *output, up, down int64) {
	t.Helper()
	connections, handshakes := o.points("tapio.tcp.connections"), o.points("tapio.tcp.handshake.duration")
	for _, points := range [][]point{connections, handshakes} {
		assert.Equal(t, int64(4), total(points, "error.type", "connection_refused", "network.type", "ipv4", "tapio.network.role", "client"))
		assert.Equal(t, int64(connectionsAtOnce), total(points, "error.type", nil, "network.type", "ipv6", "tapio.network.role", "client"))
	}
	assert.Equal(t, int64(connectionsAtOnce), total(connections, "error.type", nil, "network.type", "ipv6", "tapio.network.role", "server"))
	assert.Equal(t, int64(4+2*connectionsAtOnce), total(connections))
	assert.Equal(t, int64(4+connectionsAtOnce), total(handshakes), "those that were opened by this side")
	assert.Equal(t, int64(2*connectionsAtOnce), total(o.points("tapio.tcp.connection.duration")))
	traffic := o.points("tapio.network.io")
	assert.Equal(t, connectionsAtOnce*up, total(traffic, "network.io.direction", "transmit", "tapio.network.role", "client"))
	assert.Equal(t, connectionsAtOnce*down, total(traffic, "network.io.direction", "receive", "tapio.network.role", "client"))
	assert.Equal(t, connectionsAtOnce*down, total(traffic, "network.io.direction", "transmit", "tapio.network.role", "server"))
	assert.Equal(t, connectionsAtOnce*up, total(traffic, "network.io.direction", "receive", "tapio.network.role", "server"))
}

// of one executable.
func of(points []point, executable string) []point {
	var found []point
	for _, p := range points {
		if p.executable == executable {
			found = append(found, p)
		}
	}
	return found
}

// checkShape: cumulative, each series once, times in order, histograms' buckets add up.
func checkShape(t *testing.T, metrics pmetric.Metrics) {
	t.Helper()
	for _, of := range metrics.ResourceMetrics().All() {
		for _, scope := range of.ScopeMetrics().All() {
			names := map[string]bool{}
			for _, metric := range scope.Metrics().All() {
				assert.False(t, names[metric.Name()], "%s is there twice", metric.Name())
				names[metric.Name()] = true
				assert.NotEmpty(t, metric.Unit(), metric.Name())
				checkPoints(t, metric)
			}
		}
	}
}

func checkPoints(t *testing.T, metric pmetric.Metric) {
	t.Helper()
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Sum().AggregationTemporality(), metric.Name())
		assert.Equal(t, metric.Name() != "tapio.process.active", metric.Sum().IsMonotonic(), metric.Name())
	case pmetric.MetricTypeHistogram:
		assert.Equal(t, pmetric.AggregationTemporalityCumulative, metric.Histogram().AggregationTemporality(), metric.Name())
	default:
		require.Fail(t, "unexpected", "%s is a %s", metric.Name(), metric.Type())
	}
	points := pointsOf(metric, "")
	for i, p := range points {
		assert.Positive(t, p.start, metric.Name())
		assert.LessOrEqual(t, p.start, p.time, metric.Name())
		for _, other := range points[:i] {
			assert.NotEqual(t, other.attributes, p.attributes, "%s: a series is there twice", metric.Name())
		}
		if metric.Type() == pmetric.MetricTypeHistogram {
			assert.Equal(t, uint64(p.value), p.buckets, metric.Name())
			assert.Positive(t, p.sum, metric.Name())
		}
	}
}
