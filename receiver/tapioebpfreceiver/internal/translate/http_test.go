// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"
)

const (
	getHead = "GET /a/b?c=d HTTP/1.1\r\nHost: example.test:8080\r\nUser-Agent: curl/8\r\n\r\n"
	okHead  = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
)

// exchangeRecord is one of process 10, a client whose request took the fourth second after boot, 0.25
// s of it until the response began; change makes another of it.
func exchangeRecord(request, response string, change func(*bpf.WireHttpExchange)) []byte {
	e := bpf.WireHttpExchange{
		Header: headerOf(event.TypeHTTPExchange, 10, second, 5*second), Ends: tcpEnds(event.RoleClient),
		RequestStart: 4 * second, RequestEnd: 4*second + 1, ResponseStart: 4*second + second/4, ResponseEnd: 5 * second,
		RequestBodySize: 7, ResponseBodySize: 1234, Status: 200,
		Flags:           event.HTTPRequestComplete | event.HTTPResponseComplete,
		RequestHeadSize: uint16(len(request)), ResponseHeadSize: uint16(len(response)),
	}
	change(&e)
	return eventtest.Record(e, []byte(request), []byte(response))
}

func unchangedExchange(*bpf.WireHttpExchange) {}

func ofServer(e *bpf.WireHttpExchange) {
	e.Ends.Role, e.Ends.LocalPort, e.Ends.PeerPort = event.RoleServer, 8080, 40000
}

func withStatus(status uint16) func(*bpf.WireHttpExchange) {
	return func(e *bpf.WireHttpExchange) { e.Status = status }
}

func both(changes ...func(*bpf.WireHttpExchange)) func(*bpf.WireHttpExchange) {
	return func(e *bpf.WireHttpExchange) {
		for _, change := range changes {
			change(e)
		}
	}
}

// cutOff has no response; the exchange ended with the event.
func cutOff(e *bpf.WireHttpExchange) {
	e.Status, e.ResponseStart, e.ResponseEnd, e.ResponseBodySize = 0, 0, 0, 0
	e.Flags = event.HTTPRequestComplete
}

var (
	httpClientSpan = attributes{
		"process.pid": int64(10), "process.executable.name": "curl",
		"http.request.method": "GET", "url.full": "http://example.test:8080/a/b", "url.path": "/a/b",
		"server.address": "example.test", "server.port": int64(8080),
		"network.peer.address": "10.0.0.2", "network.peer.port": int64(443),
		"network.protocol.name": "http", "network.protocol.version": "1.1", "user_agent.original": "curl/8",
		"http.request.body.size": int64(7), "http.response.body.size": int64(1234),
		"http.response.status_code": int64(200), "tapio.http.time_to_first_byte": 0.25,
	}
	httpServerSpan = merge(without(httpClientSpan, "url.full"), attributes{
		"url.scheme": "http", "client.address": "10.0.0.2", "client.port": int64(40000), "network.peer.port": int64(40000),
	})
	responseAttributes = []string{"http.response.status_code", "http.response.body.size", "tapio.http.time_to_first_byte"}
)

func exchangeSpan(name string, kind ptrace.SpanKind, attributes attributes, status ptrace.StatusCode) []gotSpan {
	return []gotSpan{{Resource: curlResource, Attributes: attributes, Name: name, Kind: kind, Start: wallTime(4 * second), End: wallTime(5 * second), Status: status}}
}

// httpTranslations are with the default options.
func httpTranslations() []translation {
	const (
		clientKind, serverKind = ptrace.SpanKindClient, ptrace.SpanKindServer
		unset, isError         = ptrace.StatusCodeUnset, ptrace.StatusCodeError
	)
	request := func(line, fields string) string { return line + " HTTP/1.1\r\n" + fields + "\r\n" }
	host := "Host: example.test:8080\r\nUser-Agent: curl/8\r\n"
	cases := []struct {
		name    string
		head    string
		change  func(*bpf.WireHttpExchange)
		span    string
		kind    ptrace.SpanKind
		want    attributes
		outcome ptrace.StatusCode
	}{
		{"client", getHead, unchangedExchange, "GET", clientKind, httpClientSpan, unset},
		{"server", getHead, ofServer, "GET", serverKind, httpServerSpan, unset},
		{"a method that is not in the list", request("get /a/b", host), unchangedExchange, "HTTP", clientKind,
			merge(httpClientSpan, attributes{"http.request.method": "_OTHER", "http.request.method_original": "get"}), unset},
		{"HTTP/1.0 without a host", "GET /a/b HTTP/1.0\r\nUser-Agent: curl/8\r\n\r\n", unchangedExchange, "GET", clientKind,
			merge(httpClientSpan, attributes{
				"network.protocol.version": "1.0", "url.full": "http://10.0.0.2:443/a/b", "server.address": "10.0.0.2", "server.port": int64(443),
			}), unset},
		{"a server's HTTP/1.0 without a host, over IPv6", "GET /a/b HTTP/1.0\r\nUser-Agent: curl/8\r\n\r\n",
			both(ofServer, func(e *bpf.WireHttpExchange) {
				e.Ends.LocalAddress, e.Ends.PeerAddress = eventtest.Address("2001:db8::1"), eventtest.Address("2001:db8::2")
			}), "GET", serverKind,
			merge(httpServerSpan, attributes{
				"network.protocol.version": "1.0", "server.address": "2001:db8::1", "server.port": int64(8080),
				"client.address": "2001:db8::2", "network.peer.address": "2001:db8::2",
			}), unset},
		{"a host without a port", request("GET /a/b", "Host: example.test\r\nUser-Agent: curl/8\r\n"), unchangedExchange, "GET", clientKind,
			merge(httpClientSpan, attributes{"url.full": "http://example.test/a/b", "server.port": int64(80)}), unset},
		{"a server's host without a port", request("GET /a/b", "Host: example.test\r\nUser-Agent: curl/8\r\n"), ofServer, "GET", serverKind,
			without(httpServerSpan, "server.port"), unset},
		{"to a proxy, with credentials", request("GET https://user:secret@example.test/a/b?c", host), unchangedExchange, "GET", clientKind,
			merge(httpClientSpan, attributes{"url.full": "https://example.test/a/b", "server.port": int64(443)}), unset},
		{"CONNECT", request("CONNECT example.test:8080", "User-Agent: curl/8\r\n"), unchangedExchange, "CONNECT", clientKind,
			merge(without(httpClientSpan, "url.full", "url.path"), attributes{"http.request.method": "CONNECT"}), unset},
		{"OPTIONS for the server", request("OPTIONS *", host), unchangedExchange, "OPTIONS", clientKind,
			merge(httpClientSpan, attributes{"http.request.method": "OPTIONS", "url.path": "*", "url.full": "http://example.test:8080"}), unset},
		{"a target of no known form", request("GET user:secret@other/a/b", host), unchangedExchange, "GET", clientKind,
			merge(without(httpClientSpan, "url.full"), attributes{"url.path": "other/a/b"}), unset},
		{"credentials in Host", request("GET /a/b", "Host: user:secret@example.test:8080\r\nUser-Agent: curl/8\r\n"), unchangedExchange, "GET", clientKind,
			httpClientSpan, unset},
		{"a target that was cut off", "GET /a/b", ofServer, "GET", serverKind,
			merge(without(httpServerSpan, "network.protocol.name", "network.protocol.version", "user_agent.original"), attributes{
				"tapio.http.request.target.truncated": true, "server.address": "10.0.0.1", "server.port": int64(8080),
			}), unset},
		{"text that is none", request("GET /\xff", "Host: \xfe\r\nUser-Agent: \xfd\r\n"), ofServer, "GET", serverKind,
			merge(without(httpServerSpan, "server.port"), attributes{"url.path": "/\uFFFD", "server.address": "\uFFFD", "user_agent.original": "\uFFFD"}), unset},
		{"a client's 4xx", getHead, withStatus(404), "GET", clientKind,
			merge(httpClientSpan, attributes{"http.response.status_code": int64(404), "error.type": "404"}), isError},
		{"a server's 4xx", getHead, both(ofServer, withStatus(404)), "GET", serverKind,
			merge(httpServerSpan, attributes{"http.response.status_code": int64(404)}), unset},
		{"a server's 5xx", getHead, both(ofServer, withStatus(503)), "GET", serverKind,
			merge(httpServerSpan, attributes{"http.response.status_code": int64(503), "error.type": "503"}), isError},
		{"no response", getHead, cutOff, "GET", clientKind,
			merge(without(httpClientSpan, responseAttributes...), attributes{"error.type": "connection_closed"}), isError},
		{"a response that was cut off", getHead, func(e *bpf.WireHttpExchange) {
			e.Flags, e.Error = event.HTTPRequestComplete, 104
			e.ResponseEnd = 4*second + second/2 // and then nothing came until the reset
		}, "GET", clientKind, merge(httpClientSpan, attributes{"error.type": "connection_reset"}), isError},
	}
	var all []translation
	for _, c := range cases {
		all = append(all, translation{
			name: "http: " + c.name, before: [][]byte{curl(2 * second)}, family: event.FamilyHTTP,
			record: func() []byte { return exchangeRecord(c.head, "", c.change) },
			spans:  exchangeSpan(c.span, c.kind, c.want, c.outcome),
		})
	}
	return all
}

// spanWith is the one span of an exchange, under the given options.
func spanWith(t *testing.T, options HTTPOptions, request, response string, change func(*bpf.WireHttpExchange)) gotSpan {
	t.Helper()
	w := newWorldWith(allSignals, 100, options)
	w.handle(curl(2*second), exchangeRecord(request, response, change))
	spans := w.take(t).spans
	require.Len(t, spans, 1)
	return spans[0]
}

func TestQueryStrings(t *testing.T) {
	shown := HTTPOptions{Query: true}
	head := func(query string) string {
		return "GET /a" + query + " HTTP/1.1\r\nHost: h\r\n\r\n"
	}
	for query, want := range map[string]string{
		"?":                                    "",
		"?a=b&c":                               "a=b&c",
		"?a=b&api_key=secret&c=d":              "a=b&api_key=REDACTED&c=d",
		"?sig=x&X-Amz-Signature=y":             "sig=REDACTED&X-Amz-Signature=REDACTED",
		"?password=&signal=5":                  "password=&signal=5",
		"?to=http://u:p@h/":                    "to=http://REDACTED:REDACTED@h/",
		"?\xff":                                "\uFFFD",
		"?next=/cb?token=s&b=c":                "next=/cb?token=REDACTED&b=c",
		"?a=1;token=s;b=c":                     "a=1;token=REDACTED",
		"?password=a;b=c&d=e":                  "password=REDACTED&d=e",
		"?http%3A%2F%2Fu%3Ap%40h":              "http%3A%2F%2FREDACTED%3AREDACTED%40h",
		"?%2Fcb%3Ftoken%3Ds":                   "%2Fcb%3Ftoken%3DREDACTED",
		"?a=cb%23access_token%3Ds":             "a=cb%23access_token%3DREDACTED",
		"?a=http%253A%252F%252Fu%253Ap%2540h":  "a=http%253A%252F%252FREDACTED%253AREDACTED%2540h",
		"?%74oken%zz=s":                        "%74oken%zz=REDACTED",
		"?a=%2F%3Ftoken%3Ds%zz":                "a=%2F%3Ftoken%3DREDACTED",
		"?%74oken=s&b=%zz":                     "%74oken=REDACTED&b=%zz",
		"?to=http%3A%2F%2Fu%3Ap%40h&b=a+b%20c": "to=http%3A%2F%2FREDACTED%3AREDACTED%40h&b=a+b%20c",
		"?next=%2Fcb%3Ftoken%3Ds%26a%3Db":      "next=%2Fcb%3Ftoken%3DREDACTED%26a%3Db",
		"?a=/?b=%2F%3Fc%3D%252F%253Fsig%253Ds": "a=%2F%3Fb%3D%252F%253Fc%253D%252F%253Fsig%253DREDACTED",
	} {
		span := spanWith(t, shown, head(query), "", ofServer)
		assert.Equal(t, want, span.Attributes["url.query"], query)
		span = spanWith(t, shown, head(query), "", unchangedExchange)
		assert.Equal(t, "http://h/a?"+want, span.Attributes["url.full"], query)
		assert.NotContains(t, span.Attributes, "url.query")
		span = spanWith(t, HTTPOptions{}, head(query), "", unchangedExchange)
		assert.Equal(t, "http://h/a", span.Attributes["url.full"], query)
	}
	assert.NotContains(t, spanWith(t, shown, head(""), "", ofServer).Attributes, "url.query")
	assert.NotContains(t, spanWith(t, HTTPOptions{}, head("?a"), "", ofServer).Attributes, "url.query")
}

func TestAQueryThatIsCutOff(t *testing.T) {
	for query, want := range map[string]string{
		"?a=b&to=http://u:p":       "a=b&to=http://REDACTED",
		"?a=b&to=http%3A%2F%2Fu%3": "a=b&to=http%3A%2F%2Fu%3",
		"?to=http%3A%2F%2Fu%3Ap":   "to=http%3A%2F%2FREDACTED",
		"?to=http%3A%2F%2Fu%3Ap%4": "to=http%3A%2F%2FREDACTED",
		"?a=%2Fb%3Ftoken%3Ds%2":    "a=%2Fb%3Ftoken%3DREDACTED",
		"?http://u:p":              "http://REDACTED",
	} {
		assert.Equal(t, want, spanWith(t, HTTPOptions{Query: true}, "GET /a"+query, "", ofServer).Attributes["url.query"])
	}
}

// TestRequestsThatServersRefuse: scanners send such lines, and are answered.
func TestRequestsThatServersRefuse(t *testing.T) {
	for line, want := range map[string]attributes{
		"GET HTTP/1.1":           {"http.request.method": "GET", "url.path": nil, "http.request.method_original": nil},
		" /x HTTP/1.1":           {"http.request.method": "_OTHER", "url.path": "/x", "http.request.method_original": nil},
		"G\x01\xffT /x HTTP/1.1": {"http.request.method": "_OTHER", "url.path": "/x", "http.request.method_original": nil},
		"/x?token=s HTTP/1.1":    {"http.request.method": "_OTHER", "url.path": nil, "http.request.method_original": nil},
		"M-SEARCH * HTTP/1.1":    {"http.request.method": "_OTHER", "url.path": "*", "http.request.method_original": "M-SEARCH"},
	} {
		span := spanWith(t, HTTPOptions{}, line+"\r\nHost: h\r\n\r\n", "", func(e *bpf.WireHttpExchange) {
			ofServer(e)
			withStatus(400)(e)
		})
		for key, value := range want {
			assert.Equal(t, value, span.Attributes[key], "%q: %s", line, key)
		}
		assert.EqualValues(t, 400, span.Attributes["http.response.status_code"], line)
	}
}

func TestHeaders(t *testing.T) {
	options := HTTPOptions{
		RequestHeaders:  []string{"accept", "authorization", "referer", "x-absent", "host"},
		ResponseHeaders: []string{"content-type", "set-cookie", "accept"},
	}
	request := "GET / HTTP/1.1\r\nHost: h\r\nACCEPT: a/b\r\nAuthorization: Bearer secret\r\nAccept: c/d\r\nReferer: http://u:p@r/?token=x\r\nX-Other: y\r\n\r\n"
	response := "HTTP/1.1 200 OK\r\nContent-Type: text/\xff\r\nSet-Cookie: secret\r\nSet-Cookie: secret\r\n\r\n"
	got := attributes{}
	for key, value := range spanWith(t, options, request, response, unchangedExchange).Attributes {
		if strings.Contains(key, ".header.") {
			got[key] = value
		}
	}
	assert.Equal(t, attributes{
		"http.request.header.accept":        []any{"a/b", "c/d"},
		"http.request.header.authorization": []any{"REDACTED"},
		"http.request.header.host":          []any{"h"},
		"http.request.header.referer":       []any{"http://REDACTED:REDACTED@r/?token=REDACTED"},
		"http.response.header.content-type": []any{"text/\uFFFD"},
		"http.response.header.set-cookie":   []any{"REDACTED", "REDACTED"},
	}, got)
}

func TestForwardedFor(t *testing.T) {
	asked := HTTPOptions{ForwardedFor: true}
	head := func(list string) string {
		return "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + list + "\r\n\r\n"
	}
	for list, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1",
		" 192.0.2.1 , 10.9.9.9": "192.0.2.1",
		"2001:db8::1":           "2001:db8::1",
		"::ffff:192.0.2.1":      "192.0.2.1",
		"unknown":               "10.0.0.2",
		"192.0.2.1:80":          "192.0.2.1",
		"[2001:db8::1]:443, x":  "2001:db8::1",
		"[2001:db8::1]":         "2001:db8::1",
		"[2001:db8::1":          "2001:db8::1",
		"[192.0.2.1]:x":         "10.0.0.2",
		"":                      "10.0.0.2",
	} {
		got := spanWith(t, asked, head(list), "", ofServer).Attributes
		assert.Equal(t, want, got["client.address"], list)
		assert.Equal(t, want == "10.0.0.2", got["client.port"] != nil, "the port is the peer's: %q", list)
		assert.Equal(t, "10.0.0.2", got["network.peer.address"])
		assert.Equal(t, "10.0.0.2", spanWith(t, HTTPOptions{}, head(list), "", ofServer).Attributes["client.address"])
		assert.NotContains(t, spanWith(t, asked, head(list), "", unchangedExchange).Attributes, "client.address")
	}
}

func TestRoutesAreOfServers(t *testing.T) {
	routes, err := http1.NewRoutes([]string{"/users/{id}"})
	require.NoError(t, err)
	options := HTTPOptions{Routes: routes}
	head := func(line string) string { return line + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	span := spanWith(t, options, head("GET /users/42?a"), "", ofServer)
	assert.Equal(t, "GET /users/{id}", span.Name)
	assert.Equal(t, "/users/{id}", span.Attributes["http.route"])
	assert.Equal(t, "HTTP /users/{id}", spanWith(t, options, head("LOCK /users/42"), "", ofServer).Name)
	assert.Equal(t, "GET /users/{id}", spanWith(t, options, "GET /users/42?cut+o", "", ofServer).Name, "cut off behind the path")
	for _, span := range []gotSpan{
		spanWith(t, options, head("GET /other"), "", ofServer),
		spanWith(t, options, head("GET /users/42"), "", unchangedExchange),
		spanWith(t, options, "GET /users/42", "", ofServer), // cut off: it may go on
	} {
		assert.Equal(t, "GET", span.Name)
		assert.NotContains(t, span.Attributes, "http.route")
	}
}

func TestTextsAreBounded(t *testing.T) {
	known := texts{}
	for i := range maxTexts + 2 {
		text := fmt.Sprint(i)
		assert.Equal(t, text, known.of([]byte(text)))
		assert.Equal(t, text, known.of([]byte(text)))
	}
	assert.Len(t, known, 2)
	long := strings.Repeat("l", maxTextSize+1)
	assert.Equal(t, long, known.of([]byte(long)))
	assert.Len(t, known, 2)
}

func TestHostsAreBounded(t *testing.T) {
	h := newHTTPReader(HTTPOptions{})
	for i := range maxHosts + 2 {
		assert.Equal(t, hostPort{address: fmt.Sprint("h", i), port: 8080}, h.splitHost(fmt.Sprintf("h%d:8080", i)))
	}
	assert.Len(t, h.hosts, 2)
}

func TestHTTPMetrics(t *testing.T) {
	const (
		client = `{"http.request.method":"GET","http.response.status_code":200,"network.protocol.version":"1.1","server.address":"example.test","server.port":8080}`
		failed = `{"error.type":"404","http.request.method":"GET","http.response.status_code":404,"network.protocol.version":"1.1","server.address":"example.test","server.port":8080}`
		cut    = `{"error.type":"connection_closed","http.request.method":"GET","network.protocol.version":"1.1","server.address":"example.test","server.port":8080}`
		server = `{"http.request.method":"GET","http.response.status_code":200,"http.route":"/a/{b}","network.protocol.version":"1.1","url.scheme":"http"}`
	)
	routes, err := http1.NewRoutes([]string{"/a/{b}"})
	require.NoError(t, err)
	for _, signals := range []Signals{{Metrics: true}, allSignals} {
		w := newWorldWith(signals, 100, HTTPOptions{Routes: routes})
		w.handle(curl(2*second), exchangeRecord(getHead, "", unchangedExchange), exchangeRecord(getHead, "", func(e *bpf.WireHttpExchange) {
			e.ResponseEnd, e.ResponseBodySize, e.RequestBodySize = 4*second+second/2, 256, 0
		}))
		w.handle(exchangeRecord(getHead, "", withStatus(404)), exchangeRecord(getHead, "", cutOff), exchangeRecord(getHead, "", ofServer))
		points := map[string]point{}
		for key, p := range w.collect(t, 10*second).points {
			if strings.Contains(key, " http.") {
				points[strings.TrimPrefix(key, "/usr/bin/curl ")] = p
			}
		}
		took := func(count uint64, sum, bound float64) point {
			return point{count: count, sum: sum, buckets: map[float64]uint64{bound: count}}
		}
		assert.Equal(t, map[string]point{
			"http.client.request.duration " + client:   {count: 2, sum: 1.5, buckets: map[float64]uint64{0.5: 1, 1: 1}},
			"http.client.request.body.size " + client:  {count: 2, sum: 7, buckets: map[float64]uint64{0: 1, 256: 1}},
			"http.client.response.body.size " + client: {count: 2, sum: 1490, buckets: map[float64]uint64{256: 1, 4096: 1}},
			"http.client.request.duration " + failed:   took(1, 1, 1),
			"http.client.request.body.size " + failed:  took(1, 7, 256),
			"http.client.response.body.size " + failed: took(1, 1234, 4096),
			"http.client.request.duration " + cut:      took(1, 1, 1),
			"http.client.request.body.size " + cut:     took(1, 7, 256),
			"http.server.request.duration " + server:   took(1, 1, 1),
			"http.server.request.body.size " + server:  took(1, 7, 256),
			"http.server.response.body.size " + server: took(1, 1234, 4096),
		}, points)
	}
}

// TestSchemesOfClientsMakeNoSeries: a client may send any, and another one each time.
func TestSchemesOfClientsMakeNoSeries(t *testing.T) {
	w := newWorldWith(Signals{Metrics: true}, 100, HTTPOptions{})
	for _, target := range []string{"/", "http://h/", "a1://h/", "a2://h/", "https://h/", "HTTPS://h/"} {
		w.handle(exchangeRecord("GET "+target+" HTTP/1.1\r\nHost: h\r\n\r\n", "", ofServer))
	}
	counts := map[string]uint64{}
	for key, p := range w.collect(t, 10*second).points {
		if _, series, ok := strings.Cut(key, "http.server.request.duration "); ok {
			counts[series] = p.count
		}
	}
	assert.Equal(t, map[string]uint64{
		`{"http.request.method":"GET","http.response.status_code":200,"network.protocol.version":"1.1","url.scheme":"http"}`:  4,
		`{"http.request.method":"GET","http.response.status_code":200,"network.protocol.version":"1.1","url.scheme":"https"}`: 2,
	}, counts)
}

// TestHTTPInAHurry: exchanges have no spans then, and metrics have them all the same. Without metrics they are told.
func TestHTTPInAHurry(t *testing.T) {
	for _, test := range []struct {
		signals          Signals
		told, aggregated int
	}{
		{allSignals, 2, 2},
		{Signals{Traces: true}, 4, 0},
	} {
		w := newWorld(test.signals, 100)
		for _, hurry := range []bool{false, true, true, false} {
			w.Hurry(hurry)
			w.handle(exchangeRecord(getHead, "", ofServer))
		}
		assert.Len(t, w.take(t).spans, test.told)
		assert.EqualValues(t, test.aggregated, w.ended(t).Aggregated)
		if test.signals.Metrics {
			counted := uint64(0)
			for key, p := range w.collect(t, 10*second).points {
				if strings.Contains(key, " http.server.request.duration ") {
					counted += p.count
				}
			}
			assert.EqualValues(t, 4, counted)
		}
	}
}

func TestHTTPMetricsOverflowOnTheirSide(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 1)
	for _, status := range []uint16{200, 201, 202} {
		w.handle(exchangeRecord(getHead, "", withStatus(status)), exchangeRecord(getHead, "", both(ofServer, withStatus(status))))
	}
	points := w.collect(t, 10*second).points
	for _, side := range []string{"client", "server"} {
		assert.EqualValues(t, 2, points["- http."+side+".request.duration "+overflow].count)
		assert.EqualValues(t, 2, points["- http."+side+".response.body.size "+overflow].count)
	}
}

func TestHTTPMetricsGoStale(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(exchangeRecord(getHead, "", unchangedExchange), exchangeRecord(getHead, "", ofServer))
	assert.NotEmpty(t, w.collect(t, 905*second).metrics["http.server.request.duration"])
	metrics := w.collect(t, 906*second).metrics
	assert.NotContains(t, metrics, "http.server.request.duration")
	assert.NotContains(t, metrics, "http.client.request.duration")
}
