// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/links"
)

const (
	routerConfig = "../../deploy/gateway/config/router.yaml"
	joinConfig   = "../../deploy/gateway/config/join.yaml"
)

// startGateway has the configuration of a router that joins, and writes spans to a file.
func startGateway(t *testing.T, overrides ...string) *sampler {
	t.Helper()
	return startReceiving(t, readFile(t, routerConfig), append([]string{
		readFile(t, joinConfig), noPorts, "processors::tapio_join::max_wait: 10s", // what waits in vain does so for less long
		"exporters::file::flush_interval: 50ms", "exporters::nop: {}", "service::telemetry::logs: {encoding: json}",
		"service::pipelines::traces::exporters: [file]", "service::pipelines::logs::exporters: [nop]", "service::pipelines::metrics::exporters: [nop]",
	}, overrides...)...)
}

// sendTo has a node's collector send all to the gateway, and write it as well.
func sendTo(gateway *sampler) []string {
	return []string{
		"exporters::otlp_http: {endpoint: '" + strings.TrimSuffix(gateway.endpoint, "/v1/traces") + "', sending_queue: {batch: {flush_timeout: 100ms}}}",
		"service::pipelines::traces::exporters: [file, otlp_http]",
		"service::pipelines::logs::exporters: [file, otlp_http]",
		showTruth,
	}
}

// startRelayIn has a server in the network, with a thread for each connection, that asks another one.
func (n *network) startRelayIn(t *testing.T, in cgroup, address, backend string) {
	t.Helper()
	host, port, _ := strings.Cut(backend, ":")
	command := n.within(in.command(t, "python3", testdata(t, "threaded.py"), address, port, host, "quiet"))
	_, own, _ := strings.Cut(address, ":")
	startServer(t, newServer(command, "", int(number(own))))
}

// Two ways from a front end on node a to node b: to a back end that asks one on node a, and to one whose own back end
// cannot be reached. The router between puts its own address and port in the place of the client's.
const (
	servingFront, serving, last      = "10.77.1.2:8081", "10.77.2.2:8081", "10.77.1.2:8083"
	failingFront, failing, unreached = "10.77.1.2:8082", "10.77.2.2:8082", "10.77.2.2:9"

	servingJob, failingJob, loneTruth = "serve", "fail", "lone"
	jobs                              = 5 // of each kind
)

// TestJoinedTraces: a cron job on one node, the front end that it asks there, the back end that this asks on another
// node, and the one that that asks on the first node again, are one trace behind the gateway. Each collector of
// the two nodes knows a part of it.
func TestJoinedTraces(t *testing.T) {
	requireBPF(t)
	gateway := startGateway(t, "service::pipelines::logs::exporters: [file]")
	two := startAgents(t, true, sendTo(gateway)...)
	a, b := two.groups[0], two.groups[1]
	a.startBy(t, two.a.by(), "answer", "tcp4", last).line()
	two.b.startRelayIn(t, b, serving, last)
	two.b.startRelayIn(t, b, failing, unreached)
	two.a.startRelayIn(t, a, servingFront, serving)
	two.a.startRelayIn(t, a, failingFront, failing)

	alone := round{Network: "tcp4", Address: serviceV4, Connections: 4, Requests: 10, Truth: loneTruth, Depth: 1}
	two.client.do(alone)
	a.startBy(t, two.a.by(), "spawn", anyOf(scripts())...).wait()
	two.client.end()
	exchanges := int(alone.Connections * alone.Requests)
	gateway.await("all that the jobs led to", func(o *output) bool {
		return len(o.exchanges(ptrace.SpanKindServer)) == exchanges+jobs*(3+2) &&
			len(o.exchanges(ptrace.SpanKindClient)) == exchanges+jobs*(3+2) &&
			len(filter(named(o.spans, "process.exec"), isJobOrCurl)) == 2*2*jobs &&
			len(filter(o.logs, isRefusal)) == jobs
	})
	for _, agent := range two.agents {
		agent.stop()
	}
	checkJoined(t, &gateway.output)
	checkAloneStill(t, &gateway.output)
	assert.NotEmpty(t, linked(two.agents[0].output.spans), "node a's collector tells of links")
	assert.Empty(t, linked(gateway.output.spans))
}

// scripts of the jobs, each with a shell that waits for curl.
func scripts() (scripts []string) {
	for job := range jobs {
		for truth, address := range map[string]string{servingJob: servingFront, failingJob: failingFront} {
			scripts = append(scripts, fmt.Sprintf("curl -s -o /dev/null -H '%s: %s-%d' http://%s/orders/%d; :", truthHeader, truth, job, address, job))
		}
	}
	return scripts
}

func isJobOrCurl(i item) bool {
	return i.text("process.executable.name") == "curl" || strings.HasPrefix(commandName(i), "sh curl")
}

// isRefusal is the record of the back end's connection that was refused.
func isRefusal(i item) bool {
	return i.name == "tapio.network.connection.close" && i.text("error.type") == "connection_refused" && i.number("network.peer.port") == 9
}

func linked(spans []item) []item {
	return filter(spans, func(i item) bool { return len(i.links) > 0 })
}

// checkJoined wants each job's spans and records to be one tree.
func checkJoined(t *testing.T, o *output) {
	t.Helper()
	byTrace := map[pcommon.TraceID][]item{}
	for _, span := range o.spans {
		byTrace[span.traceID] = append(byTrace[span.traceID], span)
	}
	for job := range jobs {
		for truth, want := range map[string][]string{servingJob: servedPath, failingJob: failedPath} {
			truth = truth + "-" + strconv.Itoa(job)
			exchanges := filter(o.spans, func(i item) bool { return truthOf(i) == truth })
			require.Len(t, traces(exchanges), 1, "%s is one trace", truth)
			whole := byTrace[exchanges[0].traceID]
			assert.ElementsMatch(t, want, paths(whole), truth)
			for _, span := range whole {
				assert.Contains(t, []string{truth, ""}, truthOf(span), "of another job")
			}
		}
	}
	for _, record := range filter(o.logs, isRefusal) {
		span := bySpanID(o.spans)[record.spanID]
		assert.Equal(t, "tcp.connect", span.name)
		assert.Equal(t, span.traceID, record.traceID, "the record is in its span's trace")
	}
}

// What a job leads to, as paths from the root. The first letter says what it is: a program, a client's or a
// server's side of a request, or a connection.
var (
	servedPath = []string{
		"p", "p>p", "p>p>t", "p>p>c", "p>p>c>s", "p>p>c>s>t", "p>p>c>s>c", "p>p>c>s>c>s", "p>p>c>s>c>s>t",
		"p>p>c>s>c>s>c", "p>p>c>s>c>s>c>s",
	}
	failedPath = []string{
		"p", "p>p", "p>p>t", "p>p>c", "p>p>c>s", "p>p>c>s>t", "p>p>c>s>c", "p>p>c>s>c>s", "p>p>c>s>c>s>t",
	}
)

// paths from the root to each of a trace's spans. One whose parent is missing has a "?" before it.
func paths(spans []item) (paths []string) {
	byID := bySpanID(spans)
	for _, span := range spans {
		path := []string{letterOf(span)}
		for !span.parentID.IsEmpty() {
			parent, ok := byID[span.parentID]
			if !ok {
				path = append(path, "?")
				break
			}
			path = append(path, letterOf(parent))
			span = parent
		}
		slices.Reverse(path)
		paths = append(paths, strings.Join(path, ">"))
	}
	return paths
}

func letterOf(span item) string {
	switch {
	case span.name == "process.exec":
		return "p"
	case span.name == "tcp.connect":
		return "t"
	case span.kind == ptrace.SpanKindClient:
		return "c"
	default:
		return "s"
	}
}

// checkAloneStill wants requests that nothing has caused to be as they are without the gateway.
func checkAloneStill(t *testing.T, o *output) {
	t.Helper()
	clients := byTruth(t, o.exchanges(ptrace.SpanKindClient), loneTruth)
	servers := byTruth(t, o.exchanges(ptrace.SpanKindServer), loneTruth)
	checkPairs(t, clients, servers, 40)
	checkAlone(t, clients)
}

// TestGatewaySendsAllOn: other data passes, and what waits for a client that is not seen goes on when the gateway
// ends.
func TestGatewaySendsAllOn(t *testing.T) {
	requireBinary(t)
	gateway := startGateway(t)
	const link = links.Link(7)
	spans := ptrace.NewTraces()
	server := addSpan(spans, link.TraceID(), "of a server")
	server.SetSpanID(link.ServerID())
	server.SetParentSpanID(link.ClientID())
	addSpan(spans, pcommon.TraceID{1}, "of an application")
	gateway.post(t, spans)
	gateway.await("the application's span", func(o *output) bool { return len(named(o.spans, "of an application")) == 1 })
	assert.Empty(t, named(gateway.output.spans, "of a server"))
	gateway.stop()
	assert.Len(t, named(gateway.output.spans, "of a server"), 1)
}
