// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// TestTerminateUnderLoad ends the collector while processes start and connect as fast as they can:
// every event that the kernel reported is in the file, or its loss is in the ledger.
func TestTerminateUnderLoad(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	scope.start(t, "storm").line()
	defer execStorm(t, scope)()
	require.Eventually(t, func() bool {
		rows := c.stats().Ledger
		return rows["process"].Exported >= 1000 && rows["network"].Exported >= 1000
	}, patience, pollInterval, "1000 events of processes and of connections")
	began := time.Now()
	rows := c.stop()
	assert.Less(t, time.Since(began), 10*time.Second)
	t.Logf("the final ledger: %+v", rows)
	assert.Equal(t, c.output.events(), rows.exported(), "exported, by the file and by the ledger")
	assert.Positive(t, rows.exported()["network"])
	for family, r := range rows {
		assert.NotContains(t, r.Lost, "undecodable", family)
		assert.NotContains(t, r.Lost, "refused", family)
	}
}

// execStorm starts programs until it is told to stop.
func execStorm(t *testing.T, scope cgroup) (stop func()) {
	done := make(chan struct{})
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					e := execution{programs: []program{{executable: "/bin/true", args: []string{"true"}}}}
					assert.NoError(t, e.run(scope))
				}
			}
		})
	}
	return func() {
		close(done)
		workers.Wait()
	}
}

// withRefusing has logs and traces go to an address where nobody listens.
func withRefusing(address, retryTimeout string) []string {
	const exporter = "{endpoint: http://%s, encoding: json, compression: none, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}"
	return []string{
		"receivers::tapioebpf::batch::retry_timeout: " + retryTimeout,
		"exporters::otlp_http: " + fmt.Sprintf(exporter, address),
		"service::pipelines::logs::exporters: [otlp_http]",
		"service::pipelines::traces::exporters: [otlp_http]",
	}
}

// runTrue starts n programs, one after the other; each makes three events: fork, exec, exit.
func runTrue(t *testing.T, scope cgroup, n int) {
	t.Helper()
	for range n {
		e := execution{programs: []program{{executable: "/bin/true", args: []string{"true"}}}}
		require.NoError(t, e.run(scope))
	}
}

// TestRefusingConsumer: what an exporter does not take is lost, and the ledger says so. The
// collector lives on, and the metrics, which another one takes, have it all.
func TestRefusingConsumer(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, withRefusing(porttest.Closed(t, "tcp4"), "0s")...)
	runTrue(t, scope, 20)
	require.Eventually(t, func() bool { return c.stats().Ledger["process"].Lost["refused"] == 60 }, patience, pollInterval)
	want := row{Seen: 60, Lost: map[string]uint64{"refused": 60}}
	assert.Equal(t, want, c.quiet()["process"])
	requireJSON(t, c.statsURL+"/healthz", `{"status":"ok"}`)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	assert.Equal(t, ledger{"process": want}, c.stop())
	assert.Empty(t, c.output.events())
	assert.Equal(t, int64(20), total(c.output.points("tapio.process.executions")))
}

// TestTerminateWhileRefused: what waits for a consumer that is away does not keep the collector from
// ending: it is lost, and said to be.
func TestTerminateWhileRefused(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, append(withRefusing(porttest.Closed(t, "tcp4"), "1m"), "receivers::tapioebpf::batch::max_events: 1")...)
	runTrue(t, scope, 10)
	require.Eventually(t, func() bool { return c.stats().Ledger["process"].InFlight == 30 }, patience, pollInterval)
	rows := c.stop()
	assert.Equal(t, map[string]uint64{"shutdown": 30}, rows["process"].Lost)
}

// TestConsumerComesBack: what was refused for a while is delivered, once.
func TestConsumerComesBack(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(porttest.Free(t)))
	c := startCollector(t, scope, withRefusing(address, "1m")...)
	runTrue(t, scope, 20)
	require.Eventually(t, func() bool { return c.stats().Ledger["process"].InFlight == 60 }, patience, pollInterval)
	arrived := receiveOTLP(t, address)
	require.Eventually(t, func() bool { return c.stats().Ledger["process"].Exported == 60 }, patience, pollInterval)
	c.stop().requireNothingLost(t)
	got := arrived()
	assert.Len(t, named(got.logs, "tapio.process.exec"), 20)
	assert.Len(t, named(got.logs, "tapio.process.exit"), 20)
	assert.Len(t, named(got.spans, "process.exec"), 20)
}

// receiveOTLP returns what has arrived there so far, when it is asked.
func receiveOTLP(t *testing.T, address string) (arrived func() *output) {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	require.NoError(t, err)
	var mu sync.Mutex
	received := &output{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		assert.NoError(t, errors.Join(err, received.add(body)))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return func() *output {
		mu.Lock()
		defer mu.Unlock()
		soFar := *received
		return &soFar
	}
}
