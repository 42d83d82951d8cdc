// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension // import "github.com/tapio-io/otelcol-tapio/extension/tapioextension"

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

const (
	healthzPath = "/healthz"
	readyzPath  = "/readyz"
	statsPath   = "/stats"
)

// health answers /healthz and /readyz.
type health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

// refusal says why a request has no answer, and what could be asked for instead.
type refusal struct {
	Error     string   `json:"error"`
	Receivers []string `json:"receivers,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`

	code int
}

// handler answers GET, which includes HEAD. All else is refused by the mux with 405.
func (e *tapioExtension) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+healthzPath, e.serveHealthz)
	mux.HandleFunc("GET "+readyzPath, e.serveReadyz)
	mux.HandleFunc("GET "+statsPath, e.serveStats)
	mux.HandleFunc("GET /", e.serveNotFound)
	return mux
}

func (e *tapioExtension) serveHealthz(w http.ResponseWriter, r *http.Request) {
	e.write(w, r, http.StatusOK, health{Status: "ok"})
}

func (e *tapioExtension) serveReadyz(w http.ResponseWriter, r *http.Request) {
	if reasons := e.notReady(); len(reasons) > 0 {
		e.write(w, r, http.StatusServiceUnavailable, health{Status: "not ready", Reasons: reasons})
		return
	}
	e.write(w, r, http.StatusOK, health{Status: "ready"})
}

func (e *tapioExtension) serveNotFound(w http.ResponseWriter, r *http.Request) {
	e.write(w, r, http.StatusNotFound, refusal{
		Error:     fmt.Sprintf("nothing is served at %q", r.URL.Path),
		Endpoints: []string{healthzPath, readyzPath, statsPath},
	})
}

func (e *tapioExtension) serveStats(w http.ResponseWriter, r *http.Request) {
	stats, refused := e.chooseStats(r.URL.Query().Get("receiver"))
	if refused != nil {
		e.write(w, r, refused.code, refused)
		return
	}
	e.write(w, r, http.StatusOK, withoutNulls(stats))
}

// notReady says why the Collector is not ready. A Collector without a tapioebpf receiver is ready
// as soon as its pipelines are: the receivers have registered by then, if there are any.
func (e *tapioExtension) notReady() []string {
	var reasons []string
	if reason := e.pipelines.Load().(string); reason != "" {
		reasons = append(reasons, reason)
	}
	for _, id := range e.ids() {
		if stats, ok := e.stats(id); ok && !stats.Ready {
			reasons = append(reasons, id+": "+cmp.Or(stats.Reason, "not ready"))
		}
	}
	return reasons
}

// chooseStats asks the receiver with the id, or the only one if the id is empty.
func (e *tapioExtension) chooseStats(id string) (tapioebpfreceiver.Stats, *refusal) {
	ids := e.ids()
	if id == "" && len(ids) == 1 {
		id = ids[0]
	}
	stats, ok := e.stats(id)
	if !ok {
		return stats, refuse(id, ids)
	}
	return stats, nil
}

func refuse(id string, ids []string) *refusal {
	refused := &refusal{code: http.StatusNotFound, Receivers: ids}
	switch {
	case len(ids) == 0:
		refused.Error = "no tapioebpf receiver is running in this collector"
	case id == "":
		refused.code = http.StatusBadRequest
		refused.Error = "several receivers are running, choose one with ?receiver="
	default:
		refused.Error = fmt.Sprintf("receiver %q is not running", id)
	}
	return refused
}

// withoutNulls makes what is empty {} and [] in JSON. It does not change what the receiver holds.
func withoutNulls(stats tapioebpfreceiver.Stats) tapioebpfreceiver.Stats {
	ledger := make(map[string]tapioebpfreceiver.LedgerRow, len(stats.Ledger))
	for family, row := range stats.Ledger {
		row.Lost = notNil(row.Lost)
		ledger[family] = row
	}
	stats.Ledger = ledger
	stats.EventCounts = notNil(stats.EventCounts)
	if stats.Capabilities == nil {
		stats.Capabilities = []tapioebpfreceiver.Capability{}
	}
	return stats
}

func notNil(counts map[string]uint64) map[string]uint64 {
	if counts == nil {
		return map[string]uint64{}
	}
	return counts
}

// write sends the body as JSON, indented if the request has ?pretty.
func (e *tapioExtension) write(w http.ResponseWriter, r *http.Request, code int, body any) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if r.URL.Query().Has("pretty") {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(body); err != nil {
		e.telemetry.Logger.Error("Cannot encode a response", zap.String("path", r.URL.Path), zap.Error(err))
		http.Error(w, "cannot encode the response", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	if _, err := w.Write(buffer.Bytes()); err != nil {
		e.telemetry.Logger.Debug("Cannot send a response", zap.String("path", r.URL.Path), zap.Error(err))
	}
}
