// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// simulating makes so many events a second, each of which can be told from what arrives, and sends them to an endpoint by
// a queue that is given. No kernel is needed for what is behind it.
func simulating(rate int, address, queue string) []string {
	return []string{
		"receivers::tapioebpf::source: simulator",
		"receivers::tapioebpf::families::dns::enabled: false", // an answer and its query are one span
		"receivers::tapioebpf::simulator::rate: " + strconv.Itoa(rate),
		"exporters::otlp_http: " + queuedExporter(address, queue),
		"service::pipelines::traces::exporters: [otlp_http]",
		"service::pipelines::logs::exporters: [otlp_http]",
	}
}

// queuedExporter does not give up, and tries again soon.
func queuedExporter(address, queue string) string {
	return fmt.Sprintf("{endpoint: http://%s, encoding: json, compression: none, sending_queue: %s, "+
		"retry_on_failure: {initial_interval: 50ms, max_interval: 200ms, max_elapsed_time: 0s}}", address, queue)
}

func absentEndpoint(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(porttest.Free(t)))
}

// requireArrived wants just what the ledger says to be exported, once each.
func requireArrived(t *testing.T, arrived func() *output, want map[string]uint64) {
	t.Helper()
	awaitArrived(t, arrived, want)
	time.Sleep(200 * time.Millisecond)
	assert.Equal(t, want, arrived().events(), "nothing comes twice")
}

// TestEndpointIsAway: a queue keeps what it has room for, and what it has no room for is in the ledger.
func TestEndpointIsAway(t *testing.T) {
	requireBinary(t)
	t.Parallel() // nothing in the kernel is shared
	for _, tt := range []struct {
		name, queue string
		lost        []string // reasons
	}{
		{"the queue has room", "{sizer: items, queue_size: 1000000}", nil},
		{"the queue is full", "{sizer: items, queue_size: 2000}", []string{"refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := absentEndpoint(t)
			c := startCollectorAnywhere(t, append(simulating(3000, address, tt.queue), "receivers::tapioebpf::batch::retry_timeout: 20ms")...)
			require.Eventually(t, func() bool {
				seen, lost := uint64(0), 0
				for _, r := range c.stats().Ledger {
					seen += r.Seen
					lost += len(r.Lost)
				}
				return seen >= 4000 && (tt.lost == nil || lost > 0)
			}, patience, pollInterval)
			requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
			arrived := receiveOTLP(t, address)
			require.Eventually(t, func() bool { return len(arrived().logs) > 0 && len(arrived().spans) > 0 }, patience, pollInterval)
			time.Sleep(time.Second) // what an exporter is about to offer again when it is ended, it drops
			rows := c.terminate()
			t.Logf("%+v", rows)
			awaitArrived(t, arrived, rows.exported())
			if tt.lost == nil {
				requireArrived(t, arrived, rows.exported())
			} // else of some that are lost the spans have arrived, or the log records
			reasons := map[string]bool{}
			for _, r := range rows {
				for reason := range r.Lost {
					reasons[reason] = true
				}
			}
			for _, reason := range tt.lost {
				assert.Contains(t, reasons, reason)
				delete(reasons, reason)
			}
			assert.Empty(t, reasons, "lost otherwise")
		})
	}
}

// onDisk is a queue that survives the collector.
func onDisk(dir string) []string {
	return []string{
		"extensions::file_storage: {directory: " + dir + "}",
		"service::extensions: [tapio, file_storage]",
	}
}

const diskQueue = "{sizer: items, queue_size: 1000000, storage: file_storage}"

// TestQueueOnDisk: what was exported arrives, although the endpoint comes back only when the collector that saw it has
// ended, or was killed.
func TestQueueOnDisk(t *testing.T) {
	requireBinary(t)
	t.Parallel() // nothing in the kernel is shared
	for _, tt := range []struct {
		name string
		end  func(*collector) (exported map[string]uint64)
		// exact: nothing was exported after that was read
		exact bool
	}{
		{"SIGTERM", func(c *collector) map[string]uint64 { return c.terminate().exported() }, true},
		{"SIGKILL", func(c *collector) map[string]uint64 {
			before := c.stats().Ledger.exported()
			c.kill()
			return before
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, dir := absentEndpoint(t), t.TempDir()
			c := startCollectorAnywhere(t, append(simulating(heavy(3000, 1000), address, diskQueue), onDisk(dir)...)...)
			events := uint64(heavy(5000, 120_000)) // of two seconds, or of two minutes
			require.Eventually(t, func() bool { return c.stats().TotalEvents >= events }, 10*time.Minute, pollInterval)
			memory := c.statusBytes("RssAnon") // pages of the queue's file are the kernel's to take back
			exported := tt.end(c)
			arrived := receiveOTLP(t, address)
			next := launch(t, binary(t), nil, "", append(onDisk(dir),
				"exporters::otlp_http: "+queuedExporter(address, diskQueue),
				fmt.Sprintf("receivers::otlp::protocols::http::endpoint: 127.0.0.1:%d", porttest.Free(t)),
				"service::pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}, metrics: {receivers: [otlp], exporters: [file]}, logs: {receivers: [otlp], exporters: [otlp_http]}}",
			)...)
			if tt.exact {
				requireArrived(t, arrived, exported)
			} else {
				awaitArrived(t, arrived, exported)
			}
			next.terminate()
			t.Logf("%.0f MiB resident, but for files, while the endpoint was away; arrived: %v", float64(memory)/(1<<20), arrived().events())
			assert.Less(t, memory, int64(maxBusyMemory))
		})
	}
}

// awaitArrived waits for what the ledger says to be exported.
func awaitArrived(t *testing.T, arrived func() *output, want map[string]uint64) {
	t.Helper()
	pause := time.Duration(heavy(20, 1000)) * time.Millisecond // to count what arrived takes long where it is much
	for deadline := time.Now().Add(longPatience); !hasAll(arrived().events(), want); time.Sleep(pause) {
		require.True(t, time.Now().Before(deadline), "exported: %v, arrived: %v", want, arrived().events())
	}
}

func hasAll(got, want map[string]uint64) bool {
	for family, n := range want {
		if got[family] < n {
			return false
		}
	}
	return true
}

// TestQueueIsLostWithTheCollector: what is in a queue in memory when the collector ends was exported for the ledger. The
// exporter says how much of it is dropped: all that another exporter has written meanwhile.
func TestQueueIsLostWithTheCollector(t *testing.T) {
	requireBinary(t)
	t.Parallel() // nothing in the kernel is shared
	c := startCollectorAnywhere(t, append(simulating(1000, absentEndpoint(t), "{sizer: items, queue_size: 1000000}"),
		"service::pipelines::traces::exporters: [otlp_http, file]",
		"service::pipelines::logs::exporters: [otlp_http, file]",
		"service::telemetry::logs::sampling::enabled: false", // each line counts
	)...)
	require.Eventually(t, func() bool { return c.stats().TotalEvents >= 2000 }, patience, pollInterval)
	rows := c.stop()
	dropped := 0
	for line := range strings.Lines(c.stderr.String()) {
		dropped += droppedItems(line)
	}
	t.Logf("exported %v, dropped %d spans and log records", rows.exported(), dropped)
	assert.Equal(t, c.output.events(), rows.exported())
	assert.Equal(t, len(c.output.spans)+len(c.output.logs), dropped)
}

// TestMemoryLimiter refuses while the exporter's queue has taken the memory: what is refused is in the ledger, the
// memory stays below a bound, and all goes on when the endpoint is back.
func TestMemoryLimiter(t *testing.T) {
	requireBinary(t)
	t.Parallel()                       // nothing in the kernel is shared
	const limit, bound = 96, 400 << 20 // MiB of heap; bytes resident
	address := absentEndpoint(t)
	c := startCollectorAnywhere(t, append(simulating(10000, address, "{sizer: items, queue_size: 10000000}"),
		"receivers::tapioebpf::batch::retry_timeout: 200ms",
		fmt.Sprintf("processors::memory_limiter: {check_interval: 100ms, limit_mib: %d, spike_limit_mib: 16}", limit),
		"service::pipelines::traces::processors: [memory_limiter]",
		"service::pipelines::logs::processors: [memory_limiter]",
	)...)
	require.Eventually(t, func() bool { return c.refused() > 10000 }, longPatience, pollInterval)
	requireJSON(t, c.statsURL+"/healthz", `{"status":"ok"}`)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	acceptOTLP(t, address)
	require.Eventually(t, func() bool {
		refused, exported := c.refused(), c.stats().TotalEvents
		time.Sleep(500 * time.Millisecond)
		return c.refused() == refused && c.stats().TotalEvents > exported
	}, longPatience, pollInterval, "it recovers")
	peak := c.statusBytes("VmHWM")
	t.Logf("at most %.0f MiB resident; %+v", float64(peak)/(1<<20), c.terminate())
	assert.Less(t, peak, int64(bound))
}

func (c *collector) refused() (events uint64) {
	c.t.Helper()
	for _, r := range c.stats().Ledger {
		events += r.Lost["refused"]
	}
	return events
}

// acceptOTLP takes what comes, and forgets it.
func acceptOTLP(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
}

// droppedItems that an exporter tells of.
func droppedItems(line string) int {
	var entry struct {
		DroppedItems int `json:"dropped_items"`
	}
	if json.Unmarshal([]byte(line), &entry) != nil {
		return 0 // no log line
	}
	return entry.DroppedItems
}
