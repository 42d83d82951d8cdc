// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// call is an HTTP request and its response, as one end of it knows them. A server's log has one a
// line, as JSON.
type call struct {
	PID        int64
	ClientPort int64 // servers only: clients' spans do not have their own port
	Method     string
	Target     string
	Version    string // as in HTTP/1.1
	Status     int64
	// RequestBody and ResponseBody are sizes, without what frames them.
	RequestBody, ResponseBody int64
	Agent                     string
	Error                     string // error.type
}

// callOf a span.
func callOf(span item) call {
	c := call{
		PID:          span.pid(),
		ClientPort:   span.number("client.port"),
		Method:       methodOf(span),
		Target:       targetOf(span),
		Version:      "HTTP/" + span.text("network.protocol.version"),
		Status:       span.number("http.response.status_code"),
		RequestBody:  span.number("http.request.body.size"),
		ResponseBody: span.number("http.response.body.size"),
		Agent:        span.text("user_agent.original"),
		Error:        span.text("error.type"),
	}
	return c
}

func methodOf(span item) string {
	if span.has("http.request.method_original") {
		return span.text("http.request.method_original")
	}
	return span.text("http.request.method")
}

// targetOf a span, as it was in the request's first line if queries are shown.
func targetOf(span item) string {
	target := span.text("url.path")
	if span.has("url.query") {
		return target + "?" + span.text("url.query")
	}
	if full, err := url.Parse(span.text("url.full")); err == nil && full.RawQuery != "" {
		return target + "?" + full.RawQuery
	}
	return target
}

// exchanges are the spans of HTTP requests of a kind.
func (o *output) exchanges(kind ptrace.SpanKind) []item {
	return filter(o.spans, func(i item) bool { return isExchange(i) && i.kind == kind })
}

func isExchange(i item) bool { return i.has("http.request.method") }

// awaitExchanges waits for as many spans of servers and of clients.
func (c *collector) awaitExchanges(servers, clients int) {
	c.t.Helper()
	c.await(fmt.Sprintf("%d spans of servers, %d of clients", servers, clients), func(o *output) bool {
		return len(o.exchanges(ptrace.SpanKindServer)) >= servers && len(o.exchanges(ptrace.SpanKindClient)) >= clients
	})
}

// checkExchanges wants the spans to be what servers and clients did, one by one, and no others.
func checkExchanges(t *testing.T, o *output, served, asked []call) {
	t.Helper()
	checkCalls(t, "servers", o.exchanges(ptrace.SpanKindServer), asServer(served))
	checkCalls(t, "clients", o.exchanges(ptrace.SpanKindClient), asClient(asked))
}

func checkCalls(t *testing.T, who string, spans []item, want []call) {
	t.Helper()
	var got []call
	for _, span := range spans {
		got = append(got, callOf(span))
		checkExchange(t, span)
	}
	checkSame(t, who, countCalls(want), countCalls(got))
}

func countCalls(calls []call) map[call]int {
	counts := map[call]int{}
	for _, c := range calls {
		counts[c]++
	}
	return counts
}

// checkSame compares multisets. It tells some of the differences.
func checkSame(t *testing.T, who string, want, got map[call]int) {
	t.Helper()
	var differences []string
	for c, n := range want {
		if got[c] < n {
			differences = append(differences, fmt.Sprintf("missing %d: %+v", n-got[c], c))
		}
	}
	for c, n := range got {
		if want[c] < n {
			differences = append(differences, fmt.Sprintf("extra   %d: %+v", n-want[c], c))
		}
	}
	slices.SortFunc(differences, func(a, b string) int { return strings.Compare(a[8:], b[8:]) })
	assert.Empty(t, differences, "%s: %d kinds of calls expected, %d differ:\n%s", who, len(want), len(differences),
		strings.Join(differences[:min(len(differences), 20)], "\n"))
}

// asServer says what a server's span has as error.type, unless the test knows better.
func asServer(calls []call) []call {
	calls = slices.Clone(calls)
	for i := range calls {
		if c := &calls[i]; c.Error == "" && c.Status >= 500 {
			c.Error = strconv.FormatInt(c.Status, 10)
		}
	}
	return calls
}

// asClient is the same for a client, whose span does not have its port.
func asClient(calls []call) []call {
	calls = slices.Clone(calls)
	for i := range calls {
		c := &calls[i]
		c.ClientPort = 0
		if c.Error == "" && c.Status >= 400 {
			c.Error = strconv.FormatInt(c.Status, 10)
		}
	}
	return calls
}

// conventional are the methods that the conventions list.
var conventional = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"}

// checkExchange is what holds for each span.
func checkExchange(t *testing.T, span item) {
	t.Helper()
	_, hasOriginal := span.attributes["http.request.method_original"]
	assert.Equal(t, slices.Contains(conventional, methodOf(span)), !hasOriginal)
	assert.Equal(t, hasOriginal, span.text("http.request.method") == "_OTHER")
	name := strings.Replace(span.text("http.request.method"), "_OTHER", "HTTP", 1)
	if span.has("http.route") {
		name += " " + span.text("http.route")
	}
	assert.Equal(t, name, span.name)
	assert.Equal(t, "http", span.text("network.protocol.name"))
	assert.Equal(t, span.has("error.type"), span.status == ptrace.StatusCodeError)
	assert.False(t, span.traceID.IsEmpty() || span.spanID.IsEmpty())
	assert.NotEmpty(t, span.resource["process.executable.path"], "pid %d", span.pid())
	assert.LessOrEqual(t, span.time, span.end)
	firstByte, _ := span.attributes["tapio.http.time_to_first_byte"].(float64)
	assert.LessOrEqual(t, firstByte, span.end.AsTime().Sub(span.time.AsTime()).Seconds()+1e-6)
	assert.Equal(t, span.kind == ptrace.SpanKindServer, span.has("client.address"))
	assert.Equal(t, span.kind == ptrace.SpanKindClient, span.has("url.full"))
	if span.kind == ptrace.SpanKindClient {
		assert.Equal(t, span.number("server.port"), span.number("network.peer.port"))
	}
}

// readCalls reads a server's log.
func readCalls(t *testing.T, path string) []call {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var calls []call
	for line := range strings.Lines(string(content)) {
		var c call
		require.NoError(t, json.Unmarshal([]byte(line), &c), line)
		calls = append(calls, c)
	}
	return calls
}

// tool is the path of a program that is not a part of this project. What is installed goes before
// what the path has, where version managers put scripts of their own.
func tool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
		require.NoError(t, err, "TAPIO_REQUIRE_BPF=1")
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// command to be run in the cgroup.
func (g cgroup) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(tool(t, name), args...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.Stderr = os.Stderr
	g.place(command)
	return command
}

// server is a program that was started to be asked.
type server struct {
	command *exec.Cmd
	log     string // path
	address string // host:port
	port    int
}

func newServer(command *exec.Cmd, log string, port int) *server {
	return &server{command: command, log: log, address: fmt.Sprintf("127.0.0.1:%d", port), port: port}
}

// startServer returns when it listens, without a connection that would be told.
func startServer(t *testing.T, s *server) *server {
	t.Helper()
	require.NoError(t, s.command.Start())
	t.Cleanup(s.stop)
	require.Eventually(t, s.listens, patience, pollInterval, "%s does not listen", s.command)
	return s
}

// listens looks for a TCP socket that listens on the port of an address, in the server's network.
func (s *server) listens() bool {
	suffix := fmt.Sprintf(":%04X", s.port)
	for _, name := range []string{"tcp", "tcp6"} {
		content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", s.pid(), name))
		for line := range strings.Lines(string(content)) {
			const listening = "0A"
			fields := strings.Fields(line)
			if len(fields) > 3 && strings.HasSuffix(fields[1], suffix) && fields[3] == listening {
				return true
			}
		}
	}
	return false
}

func (s *server) pid() int64 { return int64(s.command.Process.Pid) }

func (s *server) stop() {
	if s.command.ProcessState == nil {
		_ = s.command.Process.Signal(syscall.SIGTERM)
		_ = s.command.Wait()
	}
}

func (s *server) url(target string) string { return fmt.Sprintf("http://%s%s", s.address, target) }

// calls waits until the log has as many. A server writes its log after the response.
func (s *server) calls(t *testing.T, count int) []call {
	t.Helper()
	var calls []call
	require.Eventually(t, func() bool {
		calls = readCalls(t, s.log)
		return len(calls) >= count
	}, patience, pollInterval, "%d calls in the log", count)
	return calls
}

const curlFormat = `%{stderr}{"ClientPort":%{local_port},"Method":"%{method}","URL":"%{url_effective}","Code":"%{http_code}",` +
	`"RequestBody":%{size_upload},"ResponseBody":%{size_download},"Seconds":%{time_total}}\n`

// curled is what curl says of a call.
type curled struct {
	call
	URL, Code string
	Seconds   float64
}

// curl makes requests, one for each URL among the arguments, and returns what it says of them,
// whether they went well or not.
func (g cgroup) curl(t *testing.T, args ...string) []curled {
	t.Helper()
	agent := "curl of " + t.Name()
	command := g.command(t, "curl", append([]string{"-q", "-s", "--noproxy", "*", "-A", agent, "-w", curlFormat}, args...)...)
	var said bytes.Buffer
	command.Stdout, command.Stderr = io.Discard, &said
	if err := command.Run(); command.ProcessState == nil {
		require.NoError(t, err)
	}
	var all []curled
	for line := range strings.Lines(said.String()) {
		var c curled
		require.NoError(t, json.Unmarshal([]byte(line), &c), line)
		where, err := url.Parse(c.URL)
		require.NoError(t, err)
		c.Status, err = strconv.ParseInt(c.Code, 10, 64)
		require.NoError(t, err)
		c.PID, c.Target, c.Version, c.Agent = int64(command.Process.Pid), where.RequestURI(), "HTTP/1.1", agent
		if slices.Contains(args, "--http1.0") {
			c.Version = "HTTP/1.0"
		}
		all = append(all, c)
	}
	return all
}
