// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shape is what a trace has that is the same each time: its titles, indented below their parents', in the
// order of the alphabet.
func shape(t *Trace) string {
	var text strings.Builder
	for _, root := range t.Trees() {
		writeShape(&text, root, "")
	}
	return text.String()
}

func writeShape(to *strings.Builder, node *Node, indent string) {
	mark := ""
	if node.Failed() {
		mark = "! "
	}
	to.WriteString(indent + mark + node.Title() + "\n")
	children := slices.Clone(node.Children)
	slices.SortFunc(children, func(a, b *Node) int { return strings.Compare(a.Title(), b.Title()) })
	for _, child := range children {
		writeShape(to, child, indent+"  ")
	}
}

// awaitTrace waits for a trace that the search finds and that has the shape.
func awaitTrace(t *testing.T, jaeger *backend, search Search, want string) Trace {
	t.Helper()
	var traces []Trace
	var found int
	met := func() bool {
		var err error
		traces, err = jaeger.Traces(t.Context(), search)
		require.NoError(t, err)
		found = slices.IndexFunc(traces, func(trace Trace) bool { return shape(&trace) == want })
		return found >= 0
	}
	if !eventually(met) {
		shapes := []string{}
		for _, trace := range traces {
			shapes = append(shapes, shape(&trace))
		}
		require.Fail(t, "no trace has the shape", "%+v finds:\n%s\nand not:\n%s", search, strings.Join(shapes, "---\n"), want)
	}
	return traces[found]
}

// keepPicture draws the trace for docs, if that is asked for.
func keepPicture(t *testing.T, trace Trace, name string) {
	t.Helper()
	if !*update {
		return
	}
	folder := filepath.Join(root, "docs", "jaeger")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	file, err := os.Create(filepath.Join(folder, name+".svg"))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, trace.WriteSVG(file))
}
