// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

//go:embed testdata/nginx.conf
var nginxConfig string

// bigFile has more bytes than any socket's buffer.
const bigFile = 8<<20 + 123

// nginxDir is where an nginx of a test has its files.
func nginxDir(t *testing.T, port, upstream int) string {
	t.Helper()
	dir := publicDir(t)
	for _, name := range []string{"www/up", "www/zip", "www/narrow"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	files := map[string]string{
		"nginx.conf": strings.NewReplacer("@DIR@", dir, "@PORT@", strconv.Itoa(port), "@UPSTREAM@", strconv.Itoa(upstream)).Replace(nginxConfig),
		"access.log": "", "www/small.txt": "small", "www/empty.txt": "", "www/big.bin": strings.Repeat("b", bigFile),
		"www/zip/page.txt": strings.Repeat("what is said again and again is short. ", 10000),
	}
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return dir
}

// noUpstream is for an nginx that is no proxy.
const noUpstream = 9

func (g cgroup) startNginx(t *testing.T, upstream int) *server {
	t.Helper()
	_, s := g.nginx(t, upstream)
	return startServer(t, s)
}

// nginx that is not started yet.
func (g cgroup) nginx(t *testing.T, upstream int) (*exec.Cmd, *server) {
	t.Helper()
	port := porttest.Free(t)
	dir := nginxDir(t, port, upstream)
	command := g.command(t, "nginx", "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	command.SysProcAttr.Pdeathsig = syscall.SIGTERM // its workers would live on if it was killed
	return command, newServer(command, filepath.Join(dir, "access.log"), port)
}

// startGoServer starts the one of this binary.
func (g cgroup) startGoServer(t *testing.T, network string) *server {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	require.NoError(t, os.WriteFile(log, nil, 0o644))
	p := g.start(t, "serveHTTP", network, log)
	address := p.line()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	return &server{command: p.command, log: log, address: address, port: int(number(port))}
}

// TestHTTPNginx compares the spans of nginx with its access log, those of curl with what it says,
// and those of nginx as a proxy with the log of the server behind it.
func TestHTTPNginx(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	upstream := scope.startGoServer(t, "tcp4")
	nginx := scope.startNginx(t, upstream.port)
	c := startCollector(t, scope, "receivers::tapioebpf::families::http::query: true")
	asked, passedOn := curlNginx(t, scope, nginx)
	asked = append(asked, scope.start(t, "pipeline", nginx.address, 7).calls()...)

	logged := nginx.calls(t, len(asked))
	proxied := upstream.calls(t, passedOn)
	c.awaitExchanges(len(logged)+len(proxied), len(asked)+len(proxied))
	c.stopWithoutLoss()
	checkWorkers(t, nginx, logged)
	fixLogged(t, logged, asked)
	forgetWorkers(c.output.spans, nginx)
	checkExchanges(t, &c.output, append(logged, proxied...), append(asked, calledBy(nginx.pid(), proxied)...))
}

// curlNginx has nginx do what it can, and returns how many calls it passed on.
func curlNginx(t *testing.T, scope cgroup, nginx *server) (asked []call, passedOn int) {
	t.Helper()
	body := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(body, []byte(strings.Repeat("u", 3<<20)), 0o644))
	big := "@" + body
	url, v6 := nginx.url, func(target string) string { return fmt.Sprintf("http://[::1]:%d%s", nginx.port, target) }
	for _, args := range [][]string{
		{url("/small.txt"), url("/empty.txt"), url("/big.bin"), url("/none"), url("/small.txt?a=b&c=%20d")}, // keep-alive
		{"-I", url("/big.bin"), url("/small.txt")},
		{"--http1.0", url("/small.txt")},
		{"-H", "Connection: close", url("/big.bin")},
		{"-r", "100-4000000", url("/big.bin")},
		{"-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT", url("/small.txt"), url("/big.bin")}, // 304
		{url("/status/204"), url("/status/500"), url("/n/a"), url("/n/" + strings.Repeat("long/", 250))},
		{"-X", "OPTIONS", url("/small.txt")},
		{"-X", "BREW", url("/n/pot"), url("/small.txt")},
		{"-d", "a=b", url("/small.txt"), url("/n/form")},
		{"-H", "Accept-Encoding: gzip", url("/zip/page.txt"), url("/small.txt"), url("/zip/page.txt")},
		{"-T", body, url("/up/expected")}, // with Expect: 100-continue
		{"-T", body, "-H", "Expect:", url("/up/unexpected")},
		{"-T", body, "-H", "Transfer-Encoding: chunked", url("/up/chunked")},
		{"-X", "DELETE", url("/up/expected"), url("/up/none")},
		{"--data-binary", big, "-H", "Expect: 100-continue", url("/narrow/413")}, // nothing is sent of it
		{v6("/small.txt"), v6("/big.bin"), v6("/none")},
		{"-d", "x", v6("/n/v6")},
	} {
		for _, c := range scope.curl(t, args...) {
			asked = append(asked, c.call)
		}
	}
	for _, args := range [][]string{
		{url("/app/size/0"), url("/app/size/100000"), url("/app/chunked/300000"), url("/app/status/404"), url("/app/status/503")},
		{"-d", "a=b", v6("/app/size/7")},
		{"-I", url("/app/size/100")},
		{"-T", body, url("/app/put")},
	} {
		for _, c := range scope.curl(t, args...) {
			asked = append(asked, c.call)
			passedOn++
		}
	}
	fixAsked(asked)
	return asked, passedOn
}

// fixAsked: what curl uploads in chunks it counts with their frames.
func fixAsked(asked []call) {
	for i := range asked {
		if asked[i].Target == "/up/chunked" {
			asked[i].RequestBody = 3 << 20
		}
	}
}

// interim is what nginx says to who expects it, and counts as a part of the body.
const interim = "HTTP/1.1 100 Continue\r\n\r\n"

// fixLogged: nginx counts the frames of chunks, too, interim responses, and announced bodies that did
// not come. There curl knows better.
func fixLogged(t *testing.T, logged, asked []call) {
	t.Helper()
	for i := range logged {
		l := &logged[i]
		same := slices.IndexFunc(asked, func(c call) bool {
			return c.ClientPort == l.ClientPort && c.Target == l.Target
		})
		require.GreaterOrEqual(t, same, 0, "%+v", l)
		switch a := asked[same]; {
		case l.Target == "/up/expected" && l.Method == "PUT", l.Target == "/up/chunked", l.Target == "/app/put":
			l.ResponseBody -= int64(len(interim))
		case strings.HasPrefix(l.Target, "/zip/"), strings.HasPrefix(l.Target, "/app/chunked/"):
			assert.NotEqual(t, a.ResponseBody, l.ResponseBody, "%+v: chunks have frames", l)
			l.ResponseBody = a.ResponseBody
		case l.Target == "/narrow/413":
			l.RequestBody = a.RequestBody
		}
	}
}

// checkWorkers: who accepts and serves is not who was started.
func checkWorkers(t *testing.T, nginx *server, logged []call) {
	t.Helper()
	workers := nginx.children(t)
	assert.Len(t, workers, 2)
	for _, c := range logged {
		assert.Contains(t, workers, c.PID)
	}
}

func (s *server) children(t *testing.T) []int64 {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid(), s.pid()))
	require.NoError(t, err)
	var children []int64
	for _, pid := range strings.Fields(string(content)) {
		children = append(children, number(pid))
	}
	return children
}

// forgetWorkers: which worker passed a call on is in no log.
func forgetWorkers(spans []item, nginx *server) {
	for _, span := range spans {
		if span.kind == ptrace.SpanKindClient && span.resource["process.executable.name"] == "nginx" {
			span.attributes["process.pid"] = nginx.pid()
		}
	}
}

// calledBy a process, which is what a server cannot log.
func calledBy(pid int64, calls []call) []call {
	calls = slices.Clone(calls)
	for i := range calls {
		calls[i].PID = pid
	}
	return calls
}

// durations in nginx's log, in seconds, by target.
func (s *server) durations(t *testing.T) map[string]float64 {
	t.Helper()
	content, err := os.ReadFile(s.log)
	require.NoError(t, err)
	seconds := map[string]float64{}
	for line := range strings.Lines(string(content)) {
		var logged struct {
			Target  string
			Seconds float64
		}
		require.NoError(t, json.Unmarshal([]byte(line), &logged))
		seconds[logged.Target] = logged.Seconds
	}
	return seconds
}
