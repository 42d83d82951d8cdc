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
	return await(t, jaeger, search, want, func(trace *Trace) bool { return shape(trace) == want })
}

// awaitPath waits for one with spans, each the parent of the next, whose titles begin so.
func awaitPath(t *testing.T, jaeger *backend, search Search, path []string) Trace {
	t.Helper()
	return await(t, jaeger, search, strings.Join(path, " > "), func(trace *Trace) bool {
		found := false
		for _, root := range trace.Trees() {
			root.Walk(func(node *Node, _ int) { found = found || hasPath(node, path) })
		}
		return found
	})
}

func hasPath(node *Node, path []string) bool {
	if !strings.HasPrefix(node.Title(), path[0]) {
		return false
	}
	return len(path) == 1 || slices.ContainsFunc(node.Children, func(child *Node) bool { return hasPath(child, path[1:]) })
}

func await(t *testing.T, jaeger *backend, search Search, want string, met func(*Trace) bool) Trace {
	t.Helper()
	var traces []Trace
	found := -1
	if !eventually(func() bool {
		var err error
		traces, err = jaeger.Traces(t.Context(), search)
		require.NoError(t, err)
		found = slices.IndexFunc(traces, func(trace Trace) bool { return met(&trace) })
		return found >= 0
	}) {
		const enough = 20
		var shapes []string
		for _, trace := range traces[:min(len(traces), enough)] {
			shapes = append(shapes, shape(&trace))
		}
		require.Fail(t, "no such trace", "%+v finds:\n%s\nand not:\n%s", search, strings.Join(shapes, "---\n"), want)
	}
	return traces[found]
}

// requireSound looks at each span and its parent: whether this can be the cause of that, by what both say of
// themselves.
func requireSound(t *testing.T, trace Trace) {
	t.Helper()
	for _, root := range trace.Trees() {
		root.Walk(func(parent *Node, _ int) {
			for _, child := range parent.Children {
				require.True(t, mayCause(parent, child), "%s is no parent of %s in\n%s", parent.Title(), child.Title(), shape(&trace))
			}
		})
	}
}

func mayCause(parent, child *Node) bool {
	sameProcess := parent.Tag("process.pid") == child.Tag("process.pid")
	isServer, isHTTP := child.Tag("span.kind") == "server", child.Tag("http.request.method") != ""
	switch {
	case child.Operation == "process.exec":
		return parent.Operation == "process.exec"
	case isHTTP && isServer:
		return parent.Tag("span.kind") == "client" && parent.Operation == child.Operation &&
			parent.Tag("url.path") == child.Tag("url.path") && parent.Start <= child.Start
	case parent.Tag("span.kind") == "server":
		return sameProcess && parent.Start <= child.Start && child.Start <= parent.Start+parent.Duration
	default:
		return sameProcess
	}
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
