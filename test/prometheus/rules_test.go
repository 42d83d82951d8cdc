// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// root of the project.
const root = "../.."

// rule that is recorded, or alerts.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func (r rule) name() string { return r.Record + r.Alert }

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, filepath.Join("prometheus", "rules.yaml"), &file)
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	require.NotEmpty(t, rules)
	return rules
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "deploy", path))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(content, into), path)
}

// nameLabel has a series' metric.
const nameLabel = "__name__"

// selection of series in an expression.
type selection struct {
	metric string   // empty: of any
	labels []string // that it chooses by, or that are kept or left out of its sums
}

// selectionsOf an expression, whose syntax is checked.
func selectionsOf(t *testing.T, expression string) (found []selection) {
	t.Helper()
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	require.NoError(t, err, expression)
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		if selector, isSelector := node.(*parser.VectorSelector); isSelector {
			found = append(found, selected(selector, path))
		}
		return nil
	})
	return found
}

func selected(selector *parser.VectorSelector, path []parser.Node) selection {
	s := selection{metric: selector.Name}
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name != nameLabel {
			s.labels = append(s.labels, matcher.Name)
		}
	}
	for _, above := range path {
		if aggregate, isAggregate := above.(*parser.AggregateExpr); isAggregate {
			s.labels = append(s.labels, aggregate.Grouping...)
		}
	}
	return s
}

// documented are the names of all metrics that the receiver's documentation has, as Prometheus has them.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	receiver := filepath.Join(root, "receiver", "tapioebpfreceiver")
	own, err := os.ReadFile(filepath.Join(receiver, "documentation.md"))
	require.NoError(t, err)
	for _, heading := range regexp.MustCompile(`(?m)^### (otelcol_\w+)$`).FindAllStringSubmatch(string(own), -1) {
		names[heading[1]] = true
	}
	readme, err := os.ReadFile(filepath.Join(receiver, "README.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n### Metrics\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	row := regexp.MustCompile("(?m)^\\| (`.+`) +\\| (Counter|UpDownCounter|Histogram) +\\| `(.+?)` +\\|")
	for _, cells := range row.FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(cells[1], ", ") {
			addMetric(t, names, strings.Trim(name, "`"), cells[2], cells[3])
		}
	}
	require.Greater(t, len(names), 30)
	return names
}

func addMetric(t *testing.T, names map[string]bool, name, kind, unit string) {
	t.Helper()
	types := map[string]otlptranslator.MetricType{
		"Counter": otlptranslator.MetricTypeMonotonicCounter, "UpDownCounter": otlptranslator.MetricTypeNonMonotonicCounter, "Histogram": otlptranslator.MetricTypeHistogram,
	}
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	translated, err := namer.Build(otlptranslator.Metric{Name: name, Unit: unit, Type: types[kind]})
	require.NoError(t, err)
	if kind != "Histogram" {
		names[translated] = true
		return
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		names[translated+suffix] = true
	}
}

// isOfOthers says that a metric is not the receiver's: of the Collector and of Prometheus themselves. Whether these are
// there is seen with the collector that was built.
func isOfOthers(metric string) bool {
	isOurs := strings.HasPrefix(metric, "otelcol_receiver_tapioebpf_")
	return strings.HasPrefix(metric, "otelcol_") && !isOurs || slices.Contains([]string{"up", "ALERTS", "target_info"}, metric)
}

// TestMetricsAreDocumented: rules and dashboard ask for no metric that the documentation has not.
func TestMetricsAreDocumented(t *testing.T) {
	names := documented(t)
	rules := readRules(t)
	for _, rule := range rules {
		if rule.Record != "" {
			names[rule.Record] = true
		}
	}
	check := func(of, expression string) {
		for _, s := range selectionsOf(t, expression) {
			if s.metric == "" { // of a table that is full
				assert.Contains(t, s.labels, "otel_metric_overflow", of)
				continue
			}
			assert.True(t, names[s.metric] || isOfOthers(s.metric), "%s: %s", of, s.metric)
		}
	}
	for _, rule := range rules {
		check(rule.name(), rule.Expr)
	}
	for _, query := range queriesOf(t, readDashboard(t)) {
		check(query.title, query.filled(everything()))
	}
}

// TestPromotedAttributes: metrics that come by OTLP have the labels that rules and dashboard ask for, and by which two
// workloads are told apart.
func TestPromotedAttributes(t *testing.T) {
	var file struct {
		OTLP struct {
			Promoted []string `yaml:"promote_resource_attributes"`
		}
	}
	readYAML(t, filepath.Join("prometheus", "otlp.yaml"), &file)
	promoted := labelsOf(t, file.OTLP.Promoted)
	assert.Subset(t, promoted, labelsOf(t, []string{"host.name", "container.id", "tapio.systemd.unit", "process.executable.path"}), "there is one resource for each")
	ofResource := append(labelsOf(t, resourceAttributes(t)), "k8s_cluster_name") // which others add
	assert.Subset(t, ofResource, promoted)
	check := func(of, expression string) {
		for _, s := range selectionsOf(t, expression) {
			if isOfOthers(s.metric) || strings.HasPrefix(s.metric, "otelcol_") {
				continue // it is asked for, or has all attributes
			}
			for _, label := range s.labels {
				assert.True(t, slices.Contains(promoted, label) || !slices.Contains(ofResource, label), "%s: %s", of, label)
			}
		}
	}
	for _, rule := range readRules(t) {
		check(rule.name(), rule.Expr)
	}
	read := readDashboard(t)
	for _, query := range queriesOf(t, read) {
		check(query.title, query.filled(everything()))
	}
	for name, query := range variableQueries(t, read) {
		check(name, "sum by ("+query[1]+") ("+inPlace(query[0], everything())+")")
	}
}

// resourceAttributes are those that the receiver's documentation has.
func resourceAttributes(t *testing.T) (names []string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "receiver", "tapioebpfreceiver", "README.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n### Resource\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	for _, row := range regexp.MustCompile("(?m)^\\| (`.+?) +\\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([a-z][a-z0-9_.]+)`").FindAllStringSubmatch(row[1], -1) {
			names = append(names, name[1])
		}
	}
	require.Contains(t, names, "service.name")
	return names
}

// labelsOf attributes, as Prometheus has them.
func labelsOf(t *testing.T, attributes []string) (labels []string) {
	t.Helper()
	namer := otlptranslator.LabelNamer{}
	for _, attribute := range attributes {
		label, err := namer.Build(attribute)
		require.NoError(t, err)
		labels = append(labels, label)
	}
	return labels
}

// TestAlerts: who is woken is told what it is about, how urgent it is, and what to do.
func TestAlerts(t *testing.T) {
	kept := map[string][]string{}
	for _, rule := range readRules(t) {
		if rule.Record != "" {
			kept[rule.Record] = outcomeOf(t, rule.Expr, kept)
			continue
		}
		assert.True(t, strings.HasPrefix(rule.Alert, "Tapio"), rule.Alert)
		assert.Contains(t, []string{"critical", "warning", "info"}, rule.Labels["severity"], rule.Alert)
		assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		assert.Greater(t, len(rule.Annotations["description"]), 100, rule.Alert)
		requireKept(t, rule, outcomeOf(t, rule.Expr, kept))
	}
}

// outcomeOf an expression are the labels that its outermost sum keeps; nil: those of its series.
func outcomeOf(t *testing.T, expression string, kept map[string][]string) (outcome []string) {
	t.Helper()
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	require.NoError(t, err, expression)
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if outcome != nil {
			return nil
		}
		switch node := node.(type) {
		case *parser.AggregateExpr:
			if !node.Without {
				outcome = node.Grouping
			}
		case *parser.VectorSelector:
			outcome = kept[node.Name]
		}
		return nil
	})
	return outcome
}

// requireKept: no label that its texts have is gone from the alert.
func requireKept(t *testing.T, alert rule, kept []string) {
	t.Helper()
	if kept == nil {
		return
	}
	for _, text := range alert.Annotations {
		for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
			assert.Contains(t, kept, label[1], alert.Alert)
		}
	}
}
