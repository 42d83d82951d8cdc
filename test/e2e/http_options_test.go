// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// TestHTTPOptions: what is shown only if the configuration says so.
func TestHTTPOptions(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	upstream := scope.startGoServer(t, "tcp4")
	nginx := scope.startNginx(t, upstream.port)
	plain := tellOptions(t, scope, nginx)
	for _, span := range plain {
		assert.Equal(t, "POST", span.name)
		for _, key := range []string{"http.route", "url.query", "http.request.header.x-request-id", "http.response.header.content-length"} {
			assert.False(t, span.has(key), key)
		}
		assert.NotEqual(t, "192.0.2.7", span.text("client.address"))
		assert.NotContains(t, span.text("url.full"), "?")
	}
	full := tellOptions(t, scope, nginx,
		`receivers::tapioebpf::families::http: {query: true, forwarded_for: true, routes: ["/app/{kind}/{size}"]}`,
		`receivers::tapioebpf::families::http::headers: {request: [X-Request-Id, Authorization], response: [Content-Length]}`)
	for _, span := range full {
		checkOptions(t, span)
	}
}

// tellOptions returns the spans of a request through a proxy: of the client, of the proxy's two
// sides and of the server behind it.
func tellOptions(t *testing.T, scope cgroup, nginx *server, overrides ...string) []item {
	t.Helper()
	c := startCollector(t, scope, overrides...)
	said := scope.curl(t, "-d", "x", "-H", "X-Forwarded-For: 192.0.2.7", "-H", "X-Request-ID: 17", "-H", "authorization: Bearer abc",
		nginx.url("/app/size/12?a=b&token=abc"))
	require.Equal(t, "200", said[0].Code)
	c.awaitExchanges(2, 2)
	c.stopWithoutLoss()
	spans := filter(c.output.spans, isExchange)
	require.Len(t, spans, 4)
	return spans
}

func checkOptions(t *testing.T, span item) {
	t.Helper()
	assert.Equal(t, []any{"17"}, span.attributes["http.request.header.x-request-id"])
	assert.Equal(t, []any{"REDACTED"}, span.attributes["http.request.header.authorization"])
	assert.Equal(t, []any{"12"}, span.attributes["http.response.header.content-length"])
	if span.kind == ptrace.SpanKindClient {
		assert.Equal(t, "POST", span.name)
		assert.Contains(t, span.text("url.full"), "/app/size/12?a=b&token=REDACTED")
		return
	}
	assert.Equal(t, "POST /app/{kind}/{size}", span.name)
	assert.Equal(t, "/app/{kind}/{size}", span.text("http.route"))
	assert.Equal(t, "a=b&token=REDACTED", span.text("url.query"))
	assert.Equal(t, "192.0.2.7", span.text("client.address"))
	assert.False(t, span.has("client.port"), "it is not the one of that address")
}

// TestHTTPTimes: a slow response takes as long as the server and the client say. They read their clocks a moment earlier or
// later than the kernel, and on a machine that does something else just then that is long: so it is the best of some.
func TestHTTPTimes(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	upstream := scope.startGoServer(t, "tcp4")
	nginx := scope.startNginx(t, upstream.port)
	// nginx counts whole milliseconds of a clock that it reads once an event
	const most = 0.025
	off := timesOff(t, scope, nginx)
	for n := 1; n < 5 && off > most; n++ {
		off = timesOff(t, scope, nginx)
	}
	assert.LessOrEqual(t, off, most)
}

// timesOff is by how much, in seconds, spans differ at the most from what nginx and curl say of the same requests.
func timesOff(t *testing.T, scope cgroup, nginx *server) (most float64) {
	t.Helper()
	c := startCollector(t, scope)
	targets := []string{"/app/slow/400", "/app/slow/100", "/small.txt"}
	asked := map[string]float64{}
	for _, target := range targets {
		asked[target] = scope.curl(t, nginx.url(target))[0].Seconds
	}
	c.awaitExchanges(len(targets)+2, len(targets)+2)
	c.stopWithoutLoss()
	logged := nginx.durations(t)
	for _, span := range filter(c.output.spans, isExchange) {
		want := logged[span.text("url.path")]
		if span.kind == ptrace.SpanKindClient && span.resource["process.executable.name"] == "curl" {
			want = asked[span.text("url.path")]
		}
		firstByte, ok := span.attributes["tapio.http.time_to_first_byte"].(float64)
		require.True(t, ok, "%v", span.attributes)
		off := max(math.Abs(want-span.end.AsTime().Sub(span.time.AsTime()).Seconds()), math.Abs(want-firstByte))
		t.Logf("%s %s is off by %.3f s", span.kind, span.text("url.path"), off)
		most = max(most, off)
	}
	return most
}
