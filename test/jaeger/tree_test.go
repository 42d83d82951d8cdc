// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answer has spans in no order, one that began before its parent, a parent that is missing, and a link that is no parent.
const answer = `{"data": [{"traceID": "t", "processes": {"p1": {"serviceName": "curl"}, "p2": {"serviceName": "a&b"}}, "spans": [
	{"spanID": "3", "operationName": "GET", "startTime": 2500, "duration": 1000, "processID": "p2",
	 "references": [{"refType": "FOLLOWS_FROM", "traceID": "u", "spanID": "1"}, {"refType": "CHILD_OF", "traceID": "t", "spanID": "2"}],
	 "tags": [{"key": "span.kind", "value": "server"}, {"key": "url.path", "value": "/x"}, {"key": "http.response.status_code", "value": 500},
	          {"key": "error.type", "value": "500"}, {"key": "error", "value": true}]},
	{"spanID": "2", "operationName": "GET", "startTime": 2000, "duration": 2000, "processID": "p1",
	 "references": [{"refType": "CHILD_OF", "traceID": "t", "spanID": "1"}],
	 "tags": [{"key": "span.kind", "value": "client"}, {"key": "url.full", "value": "http://b/x"}, {"key": "http.response.status_code", "value": 500}]},
	{"spanID": "4", "operationName": "tcp.connect", "startTime": 500, "duration": 10, "processID": "p1",
	 "references": [{"refType": "CHILD_OF", "traceID": "t", "spanID": "1"}],
	 "tags": [{"key": "network.peer.address", "value": "10.0.0.1"}, {"key": "network.peer.port", "value": 80}, {"key": "error.type", "value": "timed_out"}]},
	{"spanID": "1", "operationName": "process.exec", "startTime": 1000, "duration": 9000, "processID": "p1",
	 "references": [{"refType": "CHILD_OF", "traceID": "t", "spanID": "gone"}],
	 "tags": [{"key": "process.command_args", "value": "[\"curl\",\"http://b/x\"]"}]}]}]}`

const answerText = `  0.50 ms   9.00 ms  curl process.exec curl http://b/x
  0.00 ms   0.01 ms    curl tcp.connect 10.0.0.1:80 timed_out
  1.50 ms   2.00 ms    curl GET (client) http://b/x 500
  2.00 ms   1.00 ms      ! a&b GET (server) /x 500
`

func readAnswer(t *testing.T) Trace {
	t.Helper()
	var read struct{ Data []Trace }
	require.NoError(t, json.Unmarshal([]byte(answer), &read))
	return read.Data[0]
}

func TestText(t *testing.T) {
	trace := readAnswer(t)
	assert.Equal(t, answerText, trace.Text())
}

// TestSVG reads what was drawn: it must be XML, with all spans' lines in their order.
func TestSVG(t *testing.T) {
	trace := readAnswer(t)
	var drawn bytes.Buffer
	require.NoError(t, trace.WriteSVG(&drawn))
	var texts []string
	for decoder := xml.NewDecoder(&drawn); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts = append(texts, string(text))
		}
	}
	assert.Equal(t, []string{
		"0.00 ms", "2.37 ms", "4.75 ms", "7.12 ms", "9.50 ms",
		"curl process.exec curl http://b/x", "9.00 ms",
		"curl tcp.connect 10.0.0.1:80 timed_out", "0.01 ms",
		"curl GET (client) http://b/x 500", "2.00 ms",
		"a&b GET (server) /x 500", "1.00 ms",
	}, texts)
}

func TestSVGOfNothing(t *testing.T) {
	assert.EqualError(t, (&Trace{ID: "t"}).WriteSVG(io.Discard), "draw trace t: it has no spans")
}

func TestQuery(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		if strings.Contains(asked, "missing") {
			http.Error(w, "trace not found", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	jaeger := Server(server.URL)
	traces, err := jaeger.Traces(t.Context(), Search{Service: "curl", Operation: "GET", Tags: map[string]string{"error": "true"}, MinDuration: 1e6})
	require.NoError(t, err)
	assert.Len(t, traces, 1)
	assert.Equal(t, `/api/traces?limit=1000&minDuration=1ms&operation=GET&service=curl&tags=%7B%22error%22%3A%22true%22%7D`, asked)
	trace, err := jaeger.Trace(t.Context(), "t")
	require.NoError(t, err)
	assert.Equal(t, "t", trace.ID)
	_, err = jaeger.Trace(t.Context(), "missing")
	assert.ErrorContains(t, err, "404 Not Found: trace not found")
}
