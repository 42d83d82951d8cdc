// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPrometheus: what rules and dashboard ask for is there, as two real collectors tell it, one of simulated events and
// one of this machine.
func TestPrometheus(t *testing.T) {
	requirePrometheus(t)
	s := startPrometheus(t, startSimulated(t), startNode(t))
	t.Run("queries", func(t *testing.T) { testQueries(t, s) })
	t.Run("choices", func(t *testing.T) { testChoices(t, s) })
	t.Run("rules", func(t *testing.T) { testRules(t, s) })
	t.Run("labels", func(t *testing.T) { testLabels(t, s) })
	t.Run("alerts", func(t *testing.T) { testAlerts(t, s) })
}

// emptyHere are metrics whose queries find nothing, and why.
var emptyHere = map[string]string{
	"tapio_etcd_write_duration_seconds_count": "it is asked for writes that failed, and no disk fails",
	"tapio_dns_unmatched_answers_total":       "simulated servers answer once, and what is asked",
}

// testQueries: each query of the dashboard finds something.
func testQueries(t *testing.T, s server) {
	missing := map[string]string{} // by expression
	for _, query := range queriesOf(t, readDashboard(t)) {
		missing[query.filled(everything())] = query.title
	}
	eventually(func() bool {
		for expression, title := range missing {
			samples, err := s.query(t.Context(), expression)
			require.NoError(t, err, title)
			if slices.ContainsFunc(samples, sample.isNumber) {
				delete(missing, expression)
			}
		}
		return len(missing) <= len(emptyHere)
	})
	for expression, title := range missing {
		assert.True(t, isEmptyHere(t, expression), "%s: nothing is found by %s", title, expression)
	}
}

func isEmptyHere(t *testing.T, expression string) bool {
	return slices.ContainsFunc(selectionsOf(t, expression), func(s selection) bool { return emptyHere[s.metric] != "" })
}

// testChoices: each variable has values to choose from, and with one of each every query still holds.
func testChoices(t *testing.T, s server) {
	read := readDashboard(t)
	chosen := everything()
	for variable, value := range map[string]string{"job": "otelcol-tapio", "node": "node-1", "namespace": "shop", "service": "frontend"} {
		query := variableQueries(t, read)[variable]
		values, err := s.labelValues(t.Context(), inPlace(query[0], everything()), query[1])
		require.NoError(t, err)
		assert.Contains(t, values, value)
		chosen[variable] = value
	}
	found := 0
	for _, query := range queriesOf(t, read) {
		samples, err := s.query(t.Context(), query.filled(chosen))
		require.NoError(t, err, query.title)
		requireChosen(t, query, samples, chosen)
		found += len(samples)
	}
	assert.Greater(t, found, 50)
}

// requireChosen: nothing is shown of others.
func requireChosen(t *testing.T, of query, samples []sample, chosen map[string]string) {
	t.Helper()
	for _, sample := range samples {
		for label, variable := range map[string]string{"host_name": "node", "k8s_namespace_name": "namespace", "service_name": "service"} {
			if value, has := sample.Metric[label]; has && sample.Metric["alertname"] == "" {
				assert.Equal(t, chosen[variable], value, of.title)
			}
		}
	}
}

func testRules(t *testing.T, s server) {
	for _, rule := range readRules(t) {
		_, err := s.query(t.Context(), rule.Expr)
		require.NoError(t, err, rule.name())
		if rule.Record != "" {
			assert.True(t, eventually(func() bool {
				samples, err := s.query(t.Context(), rule.Record)
				require.NoError(t, err)
				return len(samples) > 0
			}), "%s has no series", rule.Record)
		}
	}
	var evaluations []evaluation
	eventually(func() bool {
		var err error
		evaluations, err = s.evaluations(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(evaluations, func(e evaluation) bool { return e.Health == "unknown" }) // not done yet
	})
	assert.Len(t, evaluations, len(readRules(t)))
	for _, rule := range evaluations {
		assert.Equal(t, "ok", rule.Health, "%s: %s", rule.Name, rule.LastError)
	}
}

// absentHere are labels, of all metrics or one, and metrics, that no series has here, and why.
var absentHere = map[string]string{
	"k8s_cluster_name": "the processor resource_detection or the cluster's Prometheus adds it",
	"tapio_etcd_sync_duration_seconds_count error_type":  "no disk fails",
	"tapio_etcd_write_duration_seconds_count error_type": "no disk fails",
	"tapio_dns_unmatched_answers_total":                  "there is none, see above",

	"tapio_throttle_events_total k8s_namespace_name": "what is throttled here is in no pod, no container and no unit",
	"tapio_throttle_events_total k8s_pod_name":       "likewise",
	"tapio_throttle_events_total container_id":       "likewise",
	"tapio_throttle_events_total tapio_systemd_unit": "likewise",
}

// testLabels: series are chosen and summed by labels that they have.
func testLabels(t *testing.T, s server) {
	asked := map[string]map[string]bool{} // labels by metric
	add := func(expression string) {
		for _, selection := range selectionsOf(t, expression) {
			if asked[selection.metric] == nil {
				asked[selection.metric] = map[string]bool{}
			}
			for _, label := range selection.labels {
				asked[selection.metric][label] = true
			}
		}
	}
	for _, rule := range readRules(t) {
		add(rule.Expr)
	}
	for _, query := range queriesOf(t, readDashboard(t)) {
		add(query.filled(everything()))
	}
	delete(asked, "") // of any metric
	for metric, wanted := range asked {
		if absentHere[metric] != "" {
			continue
		}
		names, err := s.labels(t.Context(), metric)
		require.NoError(t, err)
		assert.NotEmpty(t, names, "there is no %s", metric)
		for label := range wanted {
			isAbsent := absentHere[label] != "" || absentHere[metric+" "+label] != ""
			assert.True(t, slices.Contains(names, label) || isAbsent, "%s has no label %s: it has %v", metric, label, names)
		}
	}
}

// testAlerts: what goes wrong in these collectors is told, in whole sentences.
func testAlerts(t *testing.T, s server) {
	wanted := map[string]bool{
		"TapioEventsLost": true, "TapioEventsLostHeavily": true, "TapioExporterFails": true, "TapioExporterQueueFull": true,
		"TapioExporterQueueFilling": true, "TapioSeriesOverflow": true, "TapioSecuritySevere": true, "TapioHTTPServerErrors": true,
		"TapioHTTPClientErrors": true, "TapioConnectFailures": true, "TapioPodNetworkFailures": true, "TapioEtcdPeersFail": true,
		"TapioTracesDroppedEarly": true,
	}
	told := map[string]alert{}
	assert.True(t, eventually(func() bool {
		alerts, err := s.alerts(t.Context())
		require.NoError(t, err)
		for _, alert := range alerts {
			told[alert.Labels["alertname"]] = alert
			delete(wanted, alert.Labels["alertname"])
		}
		return len(wanted) == 0
	}), "not told: %v", slices.Sorted(maps.Keys(wanted)))
	for name, alert := range told {
		for _, text := range alert.Annotations {
			assert.NotContains(t, text, "<", "%s: %s", name, text) // "<no value>", "<error expanding template"
			assert.NotContains(t, text, "  ", "%s: %s", name, text)
		}
	}
	assert.NotContains(t, told, "TapioAgentDown")
	assert.NotContains(t, told, "TapioAgentsMissing")
	assert.NotContains(t, told, "TapioFamilyNotObserved")
}

// TestPromtool: Prometheus's own tool takes the rules, their tests and the configuration.
func TestPromtool(t *testing.T) {
	requirePrometheus(t)
	folder := filepath.Join(root, "deploy", "prometheus")
	promtool(t, "check", "rules", filepath.Join(folder, "rules.yaml"))
	promtool(t, "test", "rules", filepath.Join(folder, "rules_test.yaml"))
	promtool(t, "check", "config", filepath.Join(folder, "prometheus.yaml"))
}

func promtool(t *testing.T, arguments ...string) []byte {
	t.Helper()
	var answer, log bytes.Buffer
	command := exec.Command("promtool", arguments...)
	command.Stdout, command.Stderr = &answer, &log
	require.NoError(t, command.Run(), "promtool %s: %s%s", strings.Join(arguments, " "), &answer, &log)
	return answer.Bytes()
}

// TestKubernetesTargets: of a cluster's pods, agents are asked, also those that do not run yet, and have their node's name; at
// the second port just those that have it. And the gateway's are. Debian's Prometheus is built without Kubernetes, so the pods come from a file, as Kubernetes would tell of them.
func TestKubernetesTargets(t *testing.T) {
	requirePrometheus(t)
	folder := t.TempDir()
	const agent = "otelcol-tapio-agent"
	content, err := json.Marshal(slices.Concat(
		podTargets(agent, "Running", "node-1", "10.0.0.1", "stats", "metrics", "workloads"),
		podTargets(agent, "Pending", "node-2", "10.0.0.2", "stats", "metrics"),
		podTargets(agent, "Failed", "node-3", "10.0.0.3", "stats", "metrics", "workloads"),
		podTargets("gateway-router", "Running", "node-1", "10.0.0.4", "otlp", "metrics", "health"),
		podTargets("gateway-sampler", "Pending", "node-2", "10.0.0.5", "otlp", "metrics", "health"),
		podTargets("web", "Running", "node-1", "10.0.0.6", "metrics", "workloads"),
	))
	require.NoError(t, err)
	file := filepath.Join(folder, "pods.json")
	require.NoError(t, os.WriteFile(file, content, 0o644))
	writeChanged(t, "prometheus-kubernetes.yaml", folder,
		"kubernetes_sd_configs:\n      - role: pod", "file_sd_configs:\n      - files: ["+file+"]")
	writeChanged(t, "rules.yaml", folder)
	config := filepath.Join(folder, "prometheus-kubernetes.yaml")
	promtool(t, "check", "config", config)
	for job, want := range map[string][]map[string]string{
		"otelcol-tapio": {
			{"__address__": "10.0.0.1:8888", "instance": "node-1", "host_name": "node-1", "job": "otelcol-tapio"},
			{"__address__": "10.0.0.2:8888", "instance": "node-2", "host_name": "node-2", "job": "otelcol-tapio"},
		},
		"otelcol-tapio-data": {{"__address__": "10.0.0.1:8889", "instance": "node-1", "job": "otelcol-tapio-data"}},
		"otelcol-tapio-gateway": {
			{"__address__": "10.0.0.4:8888", "instance": "gateway-router-node-1", "job": "otelcol-tapio-gateway"},
			{"__address__": "10.0.0.5:8888", "instance": "gateway-sampler-node-2", "job": "otelcol-tapio-gateway"},
		},
	} {
		assert.ElementsMatch(t, want, targets(t, config, job), job)
	}
}

// targetGroup as a file has it.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// podTargets are those of a pod, as Kubernetes would tell them: one for each port that a container has.
func podTargets(app, phase, node, ip string, ports ...string) (groups []targetGroup) {
	const meta = "__meta_kubernetes_pod_"
	for number, port := range ports {
		groups = append(groups, targetGroup{[]string{fmt.Sprintf("%s:%d", ip, number+1)}, map[string]string{
			meta + "label_app_kubernetes_io_name": app, meta + "phase": phase, meta + "node_name": node, meta + "ip": ip,
			meta + "name": app + "-" + node, meta + "container_port_name": port,
		}})
	}
	return groups
}

// targets of a job, with the labels that make a difference. Prometheus asks just one of those that are alike.
func targets(t *testing.T, config, job string) (found []map[string]string) {
	t.Helper()
	var discovered []struct {
		Labels map[string]string `json:"labels"`
	}
	require.NoError(t, json.Unmarshal(promtool(t, "check", "service-discovery", "--timeout=3s", config, job), &discovered))
	for _, target := range discovered {
		maps.DeleteFunc(target.Labels, func(name, _ string) bool {
			return name != "__address__" && strings.HasPrefix(name, "__")
		})
		isSame := func(other map[string]string) bool { return maps.Equal(other, target.Labels) }
		if len(target.Labels) > 0 && !slices.ContainsFunc(found, isSame) {
			found = append(found, target.Labels)
		}
	}
	return found
}
