// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// questions of many kinds, to a server that understands /size, /chunked and /status.
var questions = []question{
	{Method: "GET", Target: "/size/0"},
	{Method: "GET", Target: "/size/5000000"},
	{Method: "GET", Target: "/chunked/3000000"},
	{Method: "HEAD", Target: "/size/1000"},
	{Method: "POST", Target: "/size/10", Body: 4_000_001},
	{Method: "POST", Target: "/chunked/10", Body: 1_000_001, Chunked: true},
	{Method: "PUT", Target: "/status/204", Body: 7},
	{Method: "DELETE", Target: "/status/404"},
	{Method: "PATCH", Target: "/status/500", Body: 1, Chunked: true},
	{Method: "OPTIONS", Target: "/size/0"},
	{Method: "GET", Target: "/status/304", Close: true},
	{Method: "GET", Target: "/size/1", Close: true},
	{Method: "GET", Target: "/size/2"},
}

func (g cgroup) ask(t *testing.T, address string, questions []question) *process {
	t.Helper()
	encoded, err := json.Marshal(questions)
	require.NoError(t, err)
	return g.start(t, "askHTTP", address, string(encoded))
}

// askWith a program, which prints a call a line.
func (g cgroup) askWith(t *testing.T, name string, args ...string) []call {
	t.Helper()
	command := g.command(t, name, args...)
	file := filepath.Join(t.TempDir(), "calls")
	out, err := os.Create(file)
	require.NoError(t, err)
	defer out.Close()
	command.Stdout = out
	require.NoError(t, command.Run())
	return readCalls(t, file)
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	require.NoError(t, err)
	return path
}

func (g cgroup) startNode(t *testing.T) *server {
	t.Helper()
	port, log := porttest.Free(t), filepath.Join(t.TempDir(), "calls")
	require.NoError(t, os.WriteFile(log, nil, 0o644))
	return startServer(t, newServer(g.command(t, "node", testdata(t, "server.js"), strconv.Itoa(port), log), log, port))
}

// TestHTTPServers compares what servers and clients of several languages log with their spans.
func TestHTTPServers(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	goV4, goV6, node := scope.startGoServer(t, "tcp4"), scope.startGoServer(t, "tcp6"), scope.startNode(t)
	var asked []call
	for _, server := range []*server{goV4, goV6, node} {
		asked = append(asked, scope.ask(t, server.address, questions).calls()...)
	}
	for _, server := range []*server{goV4, node} {
		asked = append(asked, scope.askWith(t, "python3", testdata(t, "client.py"), strconv.Itoa(server.port))...)
	}
	asked = append(asked, scope.ask(t, goV4.address, []question{{Method: "BREW", Target: "/size/1"}}).calls()...)
	served := append(append(goV4.calls(t, 1), goV6.calls(t, 1)...), node.calls(t, 1)...)
	require.Len(t, served, len(asked))
	c.awaitExchanges(len(asked), len(asked))
	c.stopWithoutLoss()
	checkExchanges(t, &c.output, served, asked)
}

// TestHTTPForkingServer: one process accepts, others serve, each a connection. The server listens on
// an address of IPv6 that stands for one of IPv4.
func TestHTTPForkingServer(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	port, log := porttest.Free(t), filepath.Join(t.TempDir(), "calls")
	require.NoError(t, os.WriteFile(log, nil, 0o644))
	command := scope.command(t, "python3", testdata(t, "server.py"), "::ffff:127.0.0.1", strconv.Itoa(port), log)
	server := startServer(t, newServer(command, log, port))
	var asked []call
	for range 5 {
		for _, said := range scope.curl(t, server.url("/1"), server.url("/200000"), server.url("/0")) {
			asked = append(asked, said.call)
		}
	}
	asked = append(asked, scope.ask(t, server.address, []question{{Method: "HEAD", Target: "/9"}, {Method: "PUT", Target: "/3", Body: 2_000_000}}).calls()...)
	served := server.calls(t, len(asked))
	c.awaitExchanges(len(served), len(asked))
	server.stop() // before the collector, which would tell nothing more
	c.stopWithoutLoss()
	pids := map[int64]bool{}
	for _, s := range served {
		pids[s.PID] = true
	}
	assert.Len(t, pids, 6, "a process a connection")
	assert.NotContains(t, pids, server.pid())
	checkExchanges(t, &c.output, served, asked)
	for _, span := range c.output.exchanges(ptrace.SpanKindServer) {
		assert.Equal(t, "127.0.0.1", span.text("client.address"))
	}
}

// pythonLine is of the log of "python3 -m http.server".
var pythonLine = regexp.MustCompile(`(?m)^\S+ - - \[[^]]*\] "(\S+) (\S+) (\S+)" (\d+) -$`)

// TestHTTPPythonModule compares the server that comes with Python with what it writes to stderr,
// which has neither sizes nor user agents: these are the client's.
func TestHTTPPythonModule(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	var served, asked []call
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1"} {
		s, a := askPython(t, scope, version)
		served, asked = append(served, s...), append(asked, a...)
	}
	c.awaitExchanges(len(served), len(asked))
	c.stopWithoutLoss()
	checkExchanges(t, &c.output, served, asked)
}

func askPython(t *testing.T, scope cgroup, version string) (served, asked []call) {
	t.Helper()
	dir, port := t.TempDir(), porttest.Free(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 3_000_000), 0o644))
	command := scope.command(t, "python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--protocol", version, "-d", dir, strconv.Itoa(port))
	log := &syncBuffer{}
	command.Stderr = log
	server := startServer(t, newServer(command, "", port))
	defer server.stop()
	for _, args := range [][]string{
		{server.url("/file"), server.url("/"), server.url("/none")},
		{"-I", server.url("/file")},
		{"-X", "BREW", server.url("/file")},
	} {
		for _, said := range scope.curl(t, args...) {
			asked = append(asked, said.call)
		}
	}
	require.Eventually(t, func() bool { return len(pythonLine.FindAllString(log.String(), -1)) == len(asked) }, patience, pollInterval, "%s", log)
	for i, match := range pythonLine.FindAllStringSubmatch(log.String(), -1) {
		logged := asked[i] // the calls were made one after the other
		logged.PID, logged.Method, logged.Target, logged.Version, logged.Status = server.pid(), match[1], match[2], match[3], number(match[4])
		served = append(served, logged)
	}
	return served, asked
}

// TestHTTPOlderConnection: of a connection that is older than the collector, all that comes after it
// is told.
func TestHTTPOlderConnection(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	servers := []*server{scope.startGoServer(t, "tcp4"), scope.startNginx(t, noUpstream)}
	var asking []*process
	for _, server := range servers {
		p := scope.ask(t, server.address, []question{
			{Method: "GET", Target: "/n/before"}, {Method: "GET", Target: "/n/1", Wait: true},
			{Method: "POST", Target: "/n/2", Body: 100_000}, {Method: "GET", Target: "/n/3"},
		})
		p.line()
		asking = append(asking, p)
	}
	c := startCollector(t, scope)
	var served, asked []call
	for i, p := range asking {
		p.proceed()
		asked = append(asked, p.calls()...)
		served = append(served, servers[i].calls(t, 4)[1:]...)
	}
	c.awaitExchanges(len(served), len(asked))
	c.stopWithoutLoss()
	checkExchanges(t, &c.output, served, asked)
}

// TestHTTPUpgrade: what is spoken after an upgrade is not HTTP, even if it looks like it.
func TestHTTPUpgrade(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	server := scope.startGoServer(t, "tcp4")
	asked := scope.start(t, "upgrade", server.address).calls()
	served := server.calls(t, 1)
	c.awaitExchanges(1, 1)
	c.stopWithoutLoss()
	checkExchanges(t, &c.output, served, asked)
}

// TestHTTPCut: exchanges that do not come to their end.
func TestHTTPCut(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	server := scope.startGoServer(t, "tcp4")
	var asked []call
	serverErrors := map[string]string{}
	for _, test := range []struct {
		target, clientError, serverError string
		args                             []string
	}{
		{"/cut/300", "connection_closed", "connection_closed", nil},
		{"/cut/3000000", "connection_closed", "connection_closed", nil},
		{"/reset/300", "connection_reset", "connection_reset", nil},
		{"/slow/4000", "canceled", "", []string{"--max-time", "1"}}, // the server does not notice
		{"/early/0", "413", "", []string{"--data-binary", "@" + self(t), "-H", "Expect: 100-continue"}},
	} {
		said := scope.curl(t, append(test.args, server.url(test.target))...)
		require.Len(t, said, 1)
		said[0].Error = test.clientError
		asked = append(asked, said[0].call)
		serverErrors[test.target] = test.serverError
	}
	served := server.calls(t, len(asked))
	for i := range served {
		served[i].Error = serverErrors[served[i].Target]
	}
	c.awaitExchanges(len(served), len(asked))
	c.stopWithoutLoss()
	checkExchanges(t, &c.output, served, asked)
}

// TestHTTPEarlyResponse: the server refuses a body of which it has seen the first byte, and closes. How much of it each
// end saw is not in any log, but both know the answer.
func TestHTTPEarlyResponse(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	server := scope.startGoServer(t, "tcp4")
	said := scope.curl(t, "--data-binary", "@"+self(t), "-H", "Expect:", server.url("/early/1"))
	require.Equal(t, "413", said[0].Code)
	c.awaitExchanges(1, 1)
	c.stopWithoutLoss()
	for _, span := range filter(c.output.spans, isExchange) {
		assert.Positive(t, span.number("http.request.body.size"))
		assert.LessOrEqual(t, span.number("http.request.body.size"), said[0].RequestBody)
		span.attributes["http.request.body.size"] = int64(0)
	}
	said[0].RequestBody = 0
	checkExchanges(t, &c.output, server.calls(t, 1), []call{said[0].call})
}

// TestHTTPClientGivesUp: a proxy notices, lets go of its own request and answers nothing, which nginx
// logs as 499.
func TestHTTPClientGivesUp(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	upstream := scope.startGoServer(t, "tcp4")
	nginx := scope.startNginx(t, upstream.port)
	c := startCollector(t, scope)
	said := scope.curl(t, "--max-time", "1", nginx.url("/app/slow/4000"))
	require.Len(t, said, 1)
	asked := said[0].call
	asked.Error = "canceled"
	logged := nginx.calls(t, 1)[0]
	require.EqualValues(t, 499, logged.Status)
	logged.Status, logged.Error = 0, "connection_closed"
	proxied := upstream.calls(t, 1)
	byProxy := calledBy(nginx.pid(), proxied)[0]
	byProxy.Status, byProxy.ResponseBody, byProxy.Error = 0, 0, "canceled"
	c.awaitExchanges(2, 2)
	c.stopWithoutLoss()
	forgetWorkers(c.output.spans, nginx)
	checkExchanges(t, &c.output, append(proxied, logged), []call{asked, byProxy})
}
