// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// server is a Prometheus of the test's own, by the URL of its API.
type server string

// startPrometheus with deploy/prometheus/prometheus.yaml, in which just the targets and the intervals are others.
func startPrometheus(t *testing.T, collectors ...collector) server {
	t.Helper()
	folder := t.TempDir()
	var own, data []string
	for _, c := range collectors {
		own, data = append(own, c.own), append(data, c.data)
	}
	writeChanged(t, "prometheus.yaml", folder,
		"localhost:8888", strings.Join(own, ", "), "localhost:8889", strings.Join(data, ", "),
		"_interval: 15s", "_interval: 5s")
	writeChanged(t, "rules.yaml", folder)
	address := "127.0.0.1:" + freePort(t)
	hasEnded := start(t, exec.Command("prometheus", "--config.file", filepath.Join(folder, "prometheus.yaml"),
		"--storage.tsdb.path", filepath.Join(folder, "data"), "--web.listen-address", address))
	s := server("http://" + address)
	require.True(t, eventually(func() bool {
		var ignored json.RawMessage
		return s.get(t.Context(), "query", url.Values{"query": {"1"}}, &ignored) == nil || hasEnded()
	}), "Prometheus cannot be asked")
	require.False(t, hasEnded(), "Prometheus has ended")
	return s
}

// writeChanged has a copy of a file in deploy/prometheus, with each text of the pairs in the place of the one before it.
func writeChanged(t *testing.T, name, folder string, pairs ...string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", name))
	require.NoError(t, err)
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, string(content), pairs[i], name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(strings.NewReplacer(pairs...).Replace(string(content))), 0o644))
}

// get what the API answers with.
func (s server) get(ctx context.Context, path string, values url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, string(s)+"/api/v1/"+path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Data  any
		Error string
	}{Data: into}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("ask for %s: %s", path, answer.Error)
	}
	return nil
}

// sample of a vector.
type sample struct {
	Metric map[string]string
	Value  [2]any // time, and the value as text
}

// isNumber is false of quantiles of nothing, and of shares of nothing.
func (s sample) isNumber() bool { return s.Value[1] != "NaN" }

func (s server) query(ctx context.Context, expression string) ([]sample, error) {
	var answer struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := s.get(ctx, "query", url.Values{"query": {expression}}, &answer); err != nil {
		return nil, err
	}
	if answer.ResultType != "vector" {
		return nil, fmt.Errorf("%s is a %s", expression, answer.ResultType)
	}
	var samples []sample
	return samples, json.Unmarshal(answer.Result, &samples)
}

// labelValues of the series that are chosen.
func (s server) labelValues(ctx context.Context, selector, label string) (values []string, err error) {
	return values, s.get(ctx, "label/"+label+"/values", url.Values{"match[]": {selector}}, &values)
}

// labels of the series that are chosen.
func (s server) labels(ctx context.Context, selector string) (names []string, err error) {
	return names, s.get(ctx, "labels", url.Values{"match[]": {selector}}, &names)
}

// evaluation of a rule, the last one.
type evaluation struct{ Name, Health, LastError string }

func (s server) evaluations(ctx context.Context) (all []evaluation, err error) {
	var answer struct {
		Groups []struct{ Rules []evaluation }
	}
	err = s.get(ctx, "rules", nil, &answer)
	for _, group := range answer.Groups {
		all = append(all, group.Rules...)
	}
	return all, err
}

// alert that is pending or fires.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

func (s server) alerts(ctx context.Context) ([]alert, error) {
	var answer struct{ Alerts []alert }
	err := s.get(ctx, "alerts", nil, &answer)
	return answer.Alerts, err
}
