// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger // import "github.com/tapio-io/otelcol-tapio/test/jaeger"

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Node is a span with what it is the parent of, in the order of time.
type Node struct {
	*Span
	Service  string
	Children []*Node
}

// Trees of the trace: one, if no span's parent is missing.
func (t *Trace) Trees() []*Node {
	nodes := make(map[string]*Node, len(t.Spans))
	for i := range t.Spans {
		span := &t.Spans[i]
		nodes[span.ID] = &Node{Span: span, Service: t.Processes[span.Process].Service}
	}
	var roots []*Node
	for i := range t.Spans {
		node := nodes[t.Spans[i].ID]
		if parent, ok := nodes[node.parentID()]; ok {
			parent.Children = append(parent.Children, node)
		} else {
			roots = append(roots, node)
		}
	}
	for _, node := range nodes {
		slices.SortFunc(node.Children, inTime)
	}
	slices.SortFunc(roots, inTime)
	return roots
}

// inTime is by name where two began in the same microsecond, so that the order is always the same.
func inTime(a, b *Node) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Title(), b.Title()), strings.Compare(a.ID, b.ID))
}

func (s *Span) parentID() string {
	for _, reference := range s.References {
		if reference.Type == "CHILD_OF" {
			return reference.SpanID
		}
	}
	return ""
}

// Title is a line on the span: who, what, and of what.
func (n *Node) Title() string {
	parts := []string{n.Service, n.Operation}
	if kind := n.Tag("span.kind"); kind != "" && kind != "internal" {
		parts = append(parts, "("+kind+")")
	}
	for _, detail := range n.details() {
		if detail != "" {
			parts = append(parts, detail)
		}
	}
	if failure := n.Tag("error.type"); failure != "" && failure != n.Tag("http.response.status_code") {
		parts = append(parts, failure)
	}
	return strings.Join(parts, " ")
}

func (n *Node) details() []string {
	switch {
	case n.Operation == "process.exec":
		return []string{n.commandLine()}
	case n.Operation == "tcp.connect":
		return []string{n.Tag("network.peer.address") + ":" + n.Tag("network.peer.port")}
	case strings.HasPrefix(n.Operation, "dns."):
		return []string{n.Tag("dns.question.name"), n.Tag("tapio.dns.question.type")}
	default:
		return []string{cmp.Or(n.Tag("url.full"), n.Tag("url.path")), n.Tag("http.response.status_code")}
	}
}

// commandLine of a program. Jaeger has a list as its JSON.
func (s *Span) commandLine() string {
	var arguments []string
	if json.Unmarshal([]byte(s.Tag("process.command_args")), &arguments) != nil {
		return s.Tag("process.command_args")
	}
	return strings.Join(arguments, " ")
}

// Failed says whether the span's status is an error.
func (s *Span) Failed() bool { return s.Tag("error") == "true" }

// Walk visits the node and all below, from the top, with their depths.
func (n *Node) Walk(visit func(node *Node, depth int)) { n.walk(visit, 0) }

func (n *Node) walk(visit func(*Node, int), depth int) {
	visit(n, depth)
	for _, child := range n.Children {
		child.walk(visit, depth+1)
	}
}

// begin is when the first span began. That need not be the root: what a request needed comes before it.
func (t *Trace) begin() int64 {
	first := int64(math.MaxInt64)
	for _, span := range t.Spans {
		first = min(first, span.Start)
	}
	return first
}

// Text is the trace as indented lines, each with the time since the trace's begin, the span's length and
// its title.
func (t *Trace) Text() string {
	var text strings.Builder
	begin := t.begin()
	for _, root := range t.Trees() {
		root.Walk(func(node *Node, depth int) {
			mark := ""
			if node.Failed() {
				mark = "! "
			}
			fmt.Fprintf(&text, "%9s %9s  %s%s%s\n", milliseconds(node.Start-begin), milliseconds(node.Duration),
				strings.Repeat("  ", depth), mark, node.Title())
		})
	}
	return text.String()
}

func milliseconds(us int64) string { return fmt.Sprintf("%d.%02d ms", us/1000, us%1000/10) }
