// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	// loadTime is twice what a trace waits for its decision (maxWait): then as many come as are decided.
	loadTime    = 20 * time.Second
	loadSenders = 2
	// loadRate of all senders, in spans a second: what two CPUs can give beside what is measured.
	loadRate      = 10_000
	loadTraces    = 100 // of a batch
	spansOfATrace = 6
)

func requireBench(t *testing.T) {
	t.Helper()
	if os.Getenv("TAPIO_BENCH") != "1" {
		t.Skip("set TAPIO_BENCH=1 to run it, or: make bench-gateway")
	}
}

// TestGatewayLoad shows what a span costs each tier, in CPU time and memory: make bench-gateway.
func TestGatewayLoad(t *testing.T) {
	requireBench(t)
	hosts, port := filepath.Join(t.TempDir(), "hosts"), freePort(t)
	writeHosts(t, hosts, samplerA)
	sampler := startPart(t, []string{"sampler.yaml"}, samplerA, port, "", []string{"TAPIO_OTLP_ENDPOINT=127.0.0.1:9", "TAPIO_STATE=" + t.TempDir()},
		"service::pipelines::traces::exporters: [nop]")
	for _, more := range [][]string{nil, {"join.yaml"}} {
		router := startRouter(t, hosts, port, nil, more...)
		routerCPU, samplerCPU, began := router.cpuTime(t), sampler.cpuTime(t), time.Now()
		spans := sendLoad(t, router.endpoint, loadRate)
		rate := float64(spans) / time.Since(began).Seconds()
		perSpan := func(total time.Duration) float64 { return float64(total.Microseconds()) / float64(spans) }
		fmt.Printf("router %s: %.0f spans/s, %.1f µs of CPU time a span, %d MiB; the sampler %.1f µs, %d MiB\n", more, rate,
			perSpan(router.cpuTime(t)-routerCPU), router.mostMemory(t), perSpan(sampler.cpuTime(t)-samplerCPU), sampler.mostMemory(t))
		router.end()
	}
}

// TestJaegerLoad shows what a Jaeger that keeps its traces can take, and how large they are on the disk.
func TestJaegerLoad(t *testing.T) {
	requireBench(t)
	folder, otlp, query := t.TempDir(), freePort(t), freePort(t)
	jaeger := startJaegerWith(t, "badger.yaml", "JAEGER_DATA="+folder, "JAEGER_OTLP_PORT="+otlp, "JAEGER_QUERY_PORT="+query, "JAEGER_HEALTH_PORT="+freePort(t))
	cpu, began := jaeger.cpuTime(t), time.Now()
	const asFastAsItCan = 1_000_000
	spans := sendLoad(t, jaeger.endpoint, asFastAsItCan)
	rate := float64(spans) / time.Since(began).Seconds()
	perSpan := float64((jaeger.cpuTime(t) - cpu).Microseconds()) / float64(spans)
	memory := jaeger.mostMemory(t)
	jaeger.end() // it writes all to the disk
	fmt.Printf("Jaeger: %.0f spans/s, %.0f µs of CPU time and %.0f bytes on the disk a span, %d MiB\n", rate, perSpan, float64(sizeOf(t, folder))/float64(spans), memory)
}

// sizeOf the files on the disk, in bytes: those of Badger have holes.
func sizeOf(t *testing.T, folder string) (size int64) {
	t.Helper()
	const block = 512
	require.NoError(t, filepath.Walk(folder, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			size += info.Sys().(*syscall.Stat_t).Blocks * block
		}
		return err
	}))
	return size
}

// sendLoad of so many spans a second, and says how many were taken.
func sendLoad(t *testing.T, endpoint string, perSecond int) (spans int) {
	t.Helper()
	const batch = loadTraces * spansOfATrace
	var sent sync.WaitGroup
	counts := make([]int, loadSenders)
	for sender := range loadSenders {
		sent.Go(func() {
			tick := time.NewTicker(time.Second * batch * loadSenders / time.Duration(perSecond))
			defer tick.Stop()
			for end := time.Now().Add(loadTime); time.Now().Before(end); <-tick.C {
				if err := sendSpans(t, endpoint, requestsOf(loadTraces)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				counts[sender] += batch
			}
		})
	}
	sent.Wait()
	for _, count := range counts {
		spans += count
	}
	require.NotZero(t, spans)
	return spans
}

// requestsOf as many traces, each of some spans as of HTTP.
func requestsOf(count int) ptrace.Traces {
	traces := ptrace.NewTraces()
	of := traces.ResourceSpans().AppendEmpty()
	for key, value := range map[string]string{
		"service.name": "checkout", "service.namespace": "shop", "host.name": "node-17", "container.id": strings.Repeat("a1", 32),
		"k8s.pod.name": "checkout-5d9f7c6b9-x2x7p", "k8s.namespace.name": "shop", "k8s.node.name": "node-17", "tapio.source": "ebpf",
	} {
		of.Resource().Attributes().PutStr(key, value)
	}
	spans := of.ScopeSpans().AppendEmpty().Spans()
	for range count {
		id := randomBytes()
		for range spansOfATrace {
			addRequest(spans.AppendEmpty(), id)
		}
	}
	return traces
}

func randomBytes() (id [16]byte) {
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return id
}

func addRequest(span ptrace.Span, trace pcommon.TraceID) {
	id := randomBytes()
	span.SetTraceID(trace)
	span.SetSpanID(pcommon.SpanID(id[:8]))
	span.SetParentSpanID(pcommon.SpanID(id[8:]))
	span.SetName("GET /orders/{id}")
	span.SetKind(ptrace.SpanKindServer)
	now := time.Now()
	span.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-5 * time.Millisecond)))
	span.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
	for key, value := range map[string]string{
		"http.request.method": "GET", "url.path": "/orders/1234567", "url.scheme": "http", "http.route": "/orders/{id}",
		"server.address": "checkout.shop", "client.address": "10.1.17.4", "network.peer.address": "10.1.17.4", "network.protocol.name": "http",
		"network.protocol.version": "1.1", "user_agent.original": "Go-http-client/1.1", "process.executable.name": "checkout",
	} {
		span.Attributes().PutStr(key, value)
	}
	for key, value := range map[string]int64{
		"http.response.status_code": 200, "server.port": 8080, "client.port": 43122, "network.peer.port": 43122,
		"process.pid": 41233, "http.response.body.size": 812,
	} {
		span.Attributes().PutInt(key, value)
	}
}

// cpuTime that the process has used.
func (p *process) cpuTime(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	require.NoError(t, err)
	const user, system, tick = 11, 12, 10 * time.Millisecond // fields behind the name, and their unit
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	sum := time.Duration(0)
	for _, field := range []int{user, system} {
		ticks, err := strconv.Atoi(fields[field])
		require.NoError(t, err)
		sum += time.Duration(ticks) * tick
	}
	return sum
}

// mostMemory that has been resident, in MiB.
func (p *process) mostMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(t, found)
	kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return kilobytes >> 10
}
