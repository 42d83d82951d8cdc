// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafana "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// board is of the schema that every Grafana takes. Only new ones know the one that is to come after it.
type board = dashboard.Dashboard //nolint:staticcheck // deprecated for that one

// query of a panel.
type query struct {
	title, expression string
}

// readDashboard fails where it is not what Grafana's own schema says, of all parts that the schema knows.
func readDashboard(t *testing.T) *board {
	t.Helper()
	plugins.RegisterDefaultPlugins()
	content, err := os.ReadFile(filepath.Join(root, "deploy", "grafana", "otelcol-tapio.json"))
	require.NoError(t, err)
	var mistakes cog.BuildErrors // where there are none, what is returned is an empty list and not nil
	if err := (&board{}).UnmarshalJSONStrict(content); !errors.As(err, &mistakes) || len(mistakes) > 0 {
		require.NoError(t, err)
	}
	read := &board{} // the strict one has no rows for the same reason
	require.NoError(t, json.Unmarshal(content, read))
	return read
}

// panelsOf the dashboard, those in rows that are closed, too.
func panelsOf(of *board) (panels []dashboard.Panel, rows []string) {
	for _, item := range of.Panels {
		if row := item.RowPanel; row != nil {
			rows = append(rows, *row.Title)
			panels = append(panels, row.Panels...)
			continue
		}
		panels = append(panels, *item.Panel)
	}
	return panels, rows
}

func queriesOf(t *testing.T, of *board) (queries []query) {
	t.Helper()
	panels, _ := panelsOf(of)
	for _, panel := range panels {
		for _, target := range panel.Targets {
			asked, isPrometheus := target.(*grafana.Dataquery)
			require.True(t, isPrometheus, "%s: %T", *panel.Title, target)
			queries = append(queries, query{title: *panel.Title, expression: asked.Expr})
		}
	}
	require.NotEmpty(t, queries)
	return queries
}

// variableQueries are label_values(selector, label) by the variable's name.
func variableQueries(t *testing.T, of *board) map[string][2]string {
	t.Helper()
	found := map[string][2]string{}
	for _, variable := range of.Templating.List {
		if variable.Type != dashboard.VariableTypeQuery {
			continue
		}
		text, isText := variable.Query.Map["query"].(string)
		require.True(t, isText, variable.Name)
		arguments, isCall := strings.CutPrefix(strings.TrimSuffix(text, ")"), "label_values(")
		require.True(t, isCall, text)
		at := strings.LastIndex(arguments, ", ")
		require.Positive(t, at, text)
		found[variable.Name] = [2]string{arguments[:at], arguments[at+len(", "):]}
	}
	return found
}

func TestDashboard(t *testing.T) {
	read := readDashboard(t)
	assert.Equal(t, "otelcol-tapio", *read.Uid)
	assert.Nil(t, read.Id, "it is another one in each Grafana")
	panels, rows := panelsOf(read)
	assert.Equal(t, []string{"Overview", "Events by family", "Services", "DNS", "Connections", "Processes", "Security", "Pod networks", "etcd", "Agents"}, rows)
	ids := map[uint32]bool{}
	for _, panel := range panels {
		require.NotNil(t, panel.Title, "panel %d", *panel.Id)
		title := *panel.Title
		assert.False(t, ids[*panel.Id], "%s: its id is another panel's", title)
		ids[*panel.Id] = true
		assert.NotEmpty(t, panel.Description, title)
		assert.NotEmpty(t, panel.FieldConfig.Defaults.Unit, title)
		assert.NotEmpty(t, panel.Targets, title)
		assert.Equal(t, "${datasource}", *panel.Datasource.Uid, title)
		assert.LessOrEqual(t, panel.GridPos.X+panel.GridPos.W, uint32(24), title)
		for _, target := range panel.Targets {
			assert.Equal(t, "${datasource}", *target.(*grafana.Dataquery).Datasource.Uid, title)
		}
	}
	assert.ElementsMatch(t, []string{"job", "node", "namespace", "service"}, slices.Collect(maps.Keys(variableQueries(t, read))))
}

// TestPanelsDoNotOverlap: Grafana would move one of them. Those of a row that is closed have a plane of their own.
func TestPanelsDoNotOverlap(t *testing.T) {
	var open []dashboard.Panel
	for _, item := range readDashboard(t).Panels {
		if item.RowPanel != nil {
			requireApart(t, item.RowPanel.Panels)
		} else {
			open = append(open, *item.Panel)
		}
	}
	requireApart(t, open)
}

func requireApart(t *testing.T, panels []dashboard.Panel) {
	t.Helper()
	type place struct{ x, y uint32 }
	taken := map[place]string{}
	for _, panel := range panels {
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				require.Empty(t, taken[place{x, y}], "%s is over it", *panel.Title)
				taken[place{x, y}] = *panel.Title
			}
		}
	}
}

// TestGrafanaProvisioning: the example names the folder where the dashboard is.
func TestGrafanaProvisioning(t *testing.T) {
	var provisioning struct {
		Providers []struct {
			Options struct{ Path string }
		}
	}
	readYAML(t, filepath.Join("grafana", "provisioning.yaml"), &provisioning)
	require.Len(t, provisioning.Providers, 1)
	assert.NotEmpty(t, provisioning.Providers[0].Options.Path)
}

// filled has values in place of Grafana's variables.
func (q query) filled(values map[string]string) string { return inPlace(q.expression, values) }

func inPlace(text string, values map[string]string) string {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "$"+name, value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// everything is what Grafana puts in the place of variables where all is chosen.
func everything() map[string]string {
	return map[string]string{"job": ".+", "node": ".*", "namespace": ".*", "service": ".*", "__rate_interval": "1m", "__range": "1m"}
}
