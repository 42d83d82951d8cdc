// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

func url(e *tapioExtension, path string) string {
	return "http://" + e.listener.Addr().String() + path
}

func request(t *testing.T, e *tapioExtension, method, path string) (*http.Response, string) {
	req, err := http.NewRequestWithContext(t.Context(), method, url(e, path), http.NoBody)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func register(e *tapioExtension, id string, stats tapioebpfreceiver.Stats) (unregister func()) {
	var parsed component.ID
	if err := parsed.UnmarshalText([]byte(id)); err != nil {
		panic(err)
	}
	return e.RegisterStats(parsed, func() tapioebpfreceiver.Stats { return stats })
}

func exampleStats() tapioebpfreceiver.Stats {
	return tapioebpfreceiver.Stats{
		Source:          "ebpf",
		StartTime:       1754950213.2,
		UptimeSeconds:   642,
		EventCounts:     map[string]uint64{"process": 314},
		TotalEvents:     1865,
		ActiveProcesses: 118,
		Ledger: map[string]tapioebpfreceiver.LedgerRow{
			"process": {Seen: 320, Exported: 314, Filtered: 4, Lost: map[string]uint64{"ring_full": 2}},
		},
		Capabilities: []tapioebpfreceiver.Capability{
			{Family: "network", Hook: "tp_btf/inet_sock_set_state", State: "attached"},
		},
		Ready: true,
	}
}

const exampleJSON = `{"source":"ebpf","start_time":1754950213.2,"uptime_seconds":642,` +
	`"event_counts":{"process":314},"total_events":1865,"active_processes":118,` +
	`"ledger":{"process":{"seen":320,"exported":314,"aggregated":0,"filtered":4,"in_flight":0,"lost":{"ring_full":2}}},` +
	`"capabilities":[{"family":"network","hook":"tp_btf/inet_sock_set_state","state":"attached"}]}` + "\n"

const emptyJSON = `{"source":"ebpf","start_time":0,"uptime_seconds":0,` +
	`"event_counts":{},"total_events":0,"active_processes":0,"ledger":{},"capabilities":[]}` + "\n"

func TestHealthz(t *testing.T) {
	e := startExtension(t)
	for _, change := range []func() error{func() error { return nil }, e.Ready, e.NotReady} {
		require.NoError(t, change())
		resp, body := request(t, e, http.MethodGet, "/healthz")
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		assert.Equal(t, "{\"status\":\"ok\"}\n", body)
	}
}

func TestReadyz(t *testing.T) {
	ready := func(e *tapioExtension) { _ = e.Ready() }
	for _, tt := range []struct {
		name  string
		state func(*tapioExtension)
		code  int
		want  string
	}{
		{
			name:  "not started",
			state: func(*tapioExtension) {},
			code:  http.StatusServiceUnavailable,
			want:  `{"status":"not ready","reasons":["the pipelines have not started yet"]}`,
		},
		{
			name:  "without a receiver, as on a gateway",
			state: ready,
			code:  http.StatusOK,
			want:  `{"status":"ready"}`,
		},
		{
			name: "receiver ready",
			state: func(e *tapioExtension) {
				register(e, "tapioebpf", exampleStats())
				ready(e)
			},
			code: http.StatusOK,
			want: `{"status":"ready"}`,
		},
		{
			name: "receivers not ready",
			state: func(e *tapioExtension) {
				register(e, "tapioebpf/b", tapioebpfreceiver.Stats{})
				register(e, "tapioebpf", tapioebpfreceiver.Stats{Reason: "network needs a kernel >= 5.8"})
				register(e, "tapioebpf/a", exampleStats())
				ready(e)
			},
			code: http.StatusServiceUnavailable,
			want: `{"status":"not ready","reasons":["tapioebpf: network needs a kernel >= 5.8","tapioebpf/b: not ready"]}`,
		},
		{
			name: "receiver gone",
			state: func(e *tapioExtension) {
				register(e, "tapioebpf", tapioebpfreceiver.Stats{Reason: "gone"})()
				ready(e)
			},
			code: http.StatusOK,
			want: `{"status":"ready"}`,
		},
		{
			name: "shutting down",
			state: func(e *tapioExtension) {
				register(e, "tapioebpf", tapioebpfreceiver.Stats{Reason: "stopped"})
				ready(e)
				_ = e.NotReady()
			},
			code: http.StatusServiceUnavailable,
			want: `{"status":"not ready","reasons":["the pipelines are shutting down","tapioebpf: stopped"]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := startExtension(t)
			tt.state(e)
			resp, body := request(t, e, http.MethodGet, "/readyz")
			assert.Equal(t, tt.code, resp.StatusCode)
			assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			assert.Equal(t, tt.want+"\n", body)
		})
	}
}

func TestStats(t *testing.T) {
	empty := tapioebpfreceiver.Stats{Source: "ebpf"}
	for _, tt := range []struct {
		name      string
		receivers map[string]tapioebpfreceiver.Stats
		query     string
		code      int
		want      string
	}{
		{
			name: "no receiver",
			code: http.StatusNotFound,
			want: `{"error":"no tapioebpf receiver is running in this collector"}` + "\n",
		},
		{
			name:  "no receiver, one asked for",
			query: "?receiver=tapioebpf",
			code:  http.StatusNotFound,
			want:  `{"error":"no tapioebpf receiver is running in this collector"}` + "\n",
		},
		{
			name:      "one receiver",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf": exampleStats()},
			code:      http.StatusOK,
			want:      exampleJSON,
		},
		{
			name:      "one receiver, asked for",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf": exampleStats()},
			query:     "?receiver=tapioebpf",
			code:      http.StatusOK,
			want:      exampleJSON,
		},
		{
			name:      "one receiver, another asked for",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf": exampleStats()},
			query:     "?receiver=tapioebpf/a",
			code:      http.StatusNotFound,
			want:      `{"error":"receiver \"tapioebpf/a\" is not running","receivers":["tapioebpf"]}` + "\n",
		},
		{
			name:      "nothing seen yet",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf": empty},
			code:      http.StatusOK,
			want:      emptyJSON,
		},
		{
			name:      "several receivers",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf/a": exampleStats(), "tapioebpf": empty},
			code:      http.StatusBadRequest,
			want:      `{"error":"several receivers are running, choose one with ?receiver=","receivers":["tapioebpf","tapioebpf/a"]}` + "\n",
		},
		{
			name:      "several receivers, one asked for",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf/a": exampleStats(), "tapioebpf": empty},
			query:     "?receiver=tapioebpf/a",
			code:      http.StatusOK,
			want:      exampleJSON,
		},
		{
			name:      "several receivers, an unknown one asked for",
			receivers: map[string]tapioebpfreceiver.Stats{"tapioebpf/a": exampleStats(), "tapioebpf": empty},
			query:     "?receiver=b",
			code:      http.StatusNotFound,
			want:      `{"error":"receiver \"b\" is not running","receivers":["tapioebpf","tapioebpf/a"]}` + "\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := startExtension(t)
			for id, stats := range tt.receivers {
				register(e, id, stats)
			}
			resp, body := request(t, e, http.MethodGet, "/stats"+tt.query)
			assert.Equal(t, tt.code, resp.StatusCode)
			assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			assert.Equal(t, tt.want, body)
		})
	}
}

func TestStatsPretty(t *testing.T) {
	e := startExtension(t)
	register(e, "tapioebpf", exampleStats())
	_, body := request(t, e, http.MethodGet, "/stats?pretty")
	assert.Contains(t, body, "{\n  \"source\": \"ebpf\",\n  \"start_time\": 1754950213.2,\n")
	assert.JSONEq(t, exampleJSON, body)
}

func TestStatsHasNoNulls(t *testing.T) {
	held := tapioebpfreceiver.Stats{Ledger: map[string]tapioebpfreceiver.LedgerRow{"process": {Seen: 1, Exported: 1}}}
	e := startExtension(t)
	register(e, "tapioebpf", held)
	_, body := request(t, e, http.MethodGet, "/stats")
	assert.Contains(t, body, `"exported":1,"aggregated":0,"filtered":0,"in_flight":0,"lost":{}}`)
	assert.NotContains(t, body, "null")
	assert.Nil(t, held.Ledger["process"].Lost, "the receiver's map was changed")
}

func TestStatsThatJSONCannotHave(t *testing.T) {
	e := startExtension(t)
	register(e, "tapioebpf", tapioebpfreceiver.Stats{StartTime: math.NaN()})
	resp, body := request(t, e, http.MethodGet, "/stats")
	assert.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	assert.Equal(t, "cannot encode the response\n", body)
}

func TestNotFound(t *testing.T) {
	e := startExtension(t)
	for _, path := range []string{"/", "/stats/", "/healthz/live", "/metrics?pretty=1"} {
		t.Run(path, func(t *testing.T) {
			resp, body := request(t, e, http.MethodGet, path)
			assert.Equal(t, http.StatusNotFound, resp.StatusCode)
			assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			var refused refusal
			require.NoError(t, json.Unmarshal([]byte(body), &refused))
			assert.Contains(t, refused.Error, "nothing is served at ")
			assert.Equal(t, []string{"/healthz", "/readyz", "/stats"}, refused.Endpoints)
		})
	}
}

func TestMethods(t *testing.T) {
	e := startExtension(t)
	require.NoError(t, e.Ready())
	register(e, "tapioebpf", exampleStats())
	for _, path := range []string{"/healthz", "/readyz", "/stats", "/"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "BREW"} {
			t.Run(method+" "+path, func(t *testing.T) {
				resp, _ := request(t, e, method, path)
				assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
				assert.Equal(t, "GET, HEAD", resp.Header.Get("Allow"))
			})
		}
		t.Run("HEAD "+path, func(t *testing.T) {
			got, gotBody := request(t, e, http.MethodGet, path)
			head, headBody := request(t, e, http.MethodHead, path)
			assert.Equal(t, got.StatusCode, head.StatusCode)
			assert.Equal(t, int64(len(gotBody)), head.ContentLength)
			assert.Empty(t, headBody)
		})
	}
}

func TestRegisterWhileServing(t *testing.T) {
	const workers, rounds = 4, 25
	e := startExtension(t)
	require.NoError(t, e.Ready())
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for range rounds {
				register(e, fmt.Sprintf("tapioebpf/%d", worker), exampleStats())()
			}
		})
		wg.Go(func() {
			for range rounds {
				for _, path := range []string{"/readyz", "/stats", "/stats?receiver=tapioebpf/1"} {
					code := <-getInBackground(e, path)
					assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest, http.StatusNotFound}, code, path)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				assert.NoError(t, e.Ready())
			}
		})
	}
	wg.Wait()
	resp, _ := request(t, e, http.MethodGet, "/readyz")
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}
