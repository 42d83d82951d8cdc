// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Addresses of two nodes.
const frontNode, backNode = "10.98.0.1", "10.98.0.2"

// TestTwoNodes: the shop's front is on one node, its back ends are on another one. Each has a collector of its
// own that knows nothing of the other's.
func TestTwoNodes(t *testing.T) {
	requireJaeger(t)
	a, b := newWorld(t), newWorld(t)
	connect(t, a, b, frontNode, backNode)
	jaeger := startJaeger(t)
	where := maps.Clone(addresses)
	where["catalog"], where["orders"] = backNode, backNode
	front := &shop{world: a, addresses: where, folder: t.TempDir()}
	back := &shop{world: b, addresses: where, folder: t.TempDir()}
	urls, statuses := front.startRunner(t, front.command(t, python, front.copyOf(t, "browser.py"))) // before there is a collector
	startCollector(t, jaeger.endpoint, a.scope)
	startCollector(t, jaeger.endpoint, b.scope)
	back.openBack(t)
	front.openFront(t)

	assert.Equal(t, "200", tell(t, urls, statuses, "http://catalog.shop.test:8081/items/9.json"))
	trace := awaitTrace(t, jaeger, Search{Service: "nginx", Operation: "GET"}, named(t, oneTrace))
	keepPicture(t, trace, "two-nodes")
	assert.Equal(t, "exit status 0", front.runJob(t, "/orders/7"))
	storefront := programName(t, python)
	for server, title := range map[string]string{
		"nginx":  storefront + " GET (client) http://catalog.shop.test:8081/items/7.json 200",
		"orders": storefront + " POST (client) http://orders.shop.test:8082/orders/7 200",
	} {
		path := []string{programName(t, "/bin/sh") + " process.exec", "curl process.exec", "curl GET (client)", storefront + " GET (server) /orders/7", title}
		trace := awaitPath(t, jaeger, Search{Service: storefront, Tags: map[string]string{"url.path": "/orders/7"}}, path)
		requireSound(t, trace)
		requireLinked(t, jaeger, spanTitled(t, trace, title), server)
	}
}

// oneTrace: a request that nothing on its node is known to have caused is one trace with what it led to.
const oneTrace = `python GET (client) http://catalog.shop.test:8081/items/9.json 200
  nginx GET (server) /items/9.json 200
  python dns.query (client) catalog.shop.test A
  python dns.query (client) catalog.shop.test AAAA
  python tcp.connect (client) 10.98.0.2:8081
`

// TestGateway: with a gateway between the two nodes and Jaeger, of a router that joins and two samplers, a job is one
// trace, from its process to the server that failed on the other node.
func TestGateway(t *testing.T) {
	requireJaeger(t)
	a, b := newWorld(t), newWorld(t)
	connect(t, a, b, frontNode, backNode)
	jaeger := startJaeger(t)
	gateway := startJoining(t, jaeger)
	where := maps.Clone(addresses)
	where["catalog"], where["orders"] = backNode, backNode
	front := &shop{world: a, addresses: where, folder: t.TempDir()}
	back := &shop{world: b, addresses: where, folder: t.TempDir()}
	startCollector(t, gateway.endpoint, a.scope)
	startCollector(t, gateway.endpoint, b.scope)
	back.openBack(t)
	front.openFront(t)

	elsewhere := strings.NewReplacer(addresses["catalog"], backNode, addresses["orders"], backNode)
	for _, order := range orders[:2] { // the others go nowhere
		assert.Equal(t, order.status, front.runJob(t, order.target))
		search := Search{Service: "curl", Tags: map[string]string{"url.full": "http://storefront:8080" + order.target}}
		trace := awaitTrace(t, jaeger, search, named(t, elsewhere.Replace(order.shape)))
		requireSound(t, trace)
		requireNoLinks(t, trace)
		keepPicture(t, trace, "joined")
	}
}

// requireNoLinks: what is in one trace needs none.
func requireNoLinks(t *testing.T, trace Trace) {
	t.Helper()
	for _, span := range trace.Spans {
		for _, reference := range span.References {
			require.Equal(t, "CHILD_OF", reference.Type)
			require.Equal(t, trace.ID, reference.TraceID)
		}
	}
}

func spanTitled(t *testing.T, trace Trace, title string) *Span {
	t.Helper()
	var found *Span
	for _, root := range trace.Trees() {
		root.Walk(func(node *Node, _ int) {
			if node.Title() == title {
				found = node.Span
			}
		})
	}
	require.NotNil(t, found, title)
	return found
}

// requireLinked: the span's link leads to the server's span, and both have what it can be searched by.
func requireLinked(t *testing.T, jaeger *backend, client *Span, server string) {
	t.Helper()
	at := slices.IndexFunc(client.References, func(reference Reference) bool { return reference.Type == "FOLLOWS_FROM" })
	require.GreaterOrEqual(t, at, 0, "no link: %+v", client.References)
	link := client.References[at]
	search := Search{Service: server, Tags: map[string]string{"tapio.link": client.Tag("tapio.link")}}
	require.NotEmpty(t, search.Tags["tapio.link"])
	trace := await(t, jaeger, search, "any", func(*Trace) bool { return true })
	require.Equal(t, link.TraceID, trace.ID)
	require.Len(t, trace.Spans, 1)
	assert.Equal(t, link.SpanID, trace.Spans[0].ID)
	assert.Equal(t, "server", trace.Spans[0].Tag("span.kind"))
	assert.True(t, strings.HasSuffix(client.Tag("url.full"), trace.Spans[0].Tag("url.path")))
}
