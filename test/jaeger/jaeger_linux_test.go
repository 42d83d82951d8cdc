// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestShop: what Jaeger shows of a shop of real programs, whose only client is a cron job.
func TestShop(t *testing.T) {
	requireJaeger(t)
	w := newWorld(t)
	jaeger := startJaeger(t)
	startCollector(t, jaeger.endpoint, w.scope)
	shop := openShop(t, w)
	for _, order := range orders {
		assert.Equal(t, order.status, shop.runJob(t, order.target))
	}
	t.Run("traces", func(t *testing.T) { testTraces(t, jaeger) })
	t.Run("services", func(t *testing.T) { testServices(t, jaeger) })
	t.Run("dependencies", func(t *testing.T) { testDependencies(t, jaeger) })
	t.Run("searches", func(t *testing.T) { testSearches(t, jaeger) })
	shop.close(t)
	t.Run("daemons", func(t *testing.T) { testDaemons(t, jaeger) })
}

// order is what the cron job asks for, how its shell ends, and the trace that this leaves. What is
// sh, python or the storefront's lookup of a name there is put in its place by names.
type order struct {
	target, status, picture, shape string
}

var orders = []order{
	{target: "/orders/7", status: "exit status 0", picture: "order", shape: `sh process.exec sh restock.sh /orders/7
  curl process.exec curl -fsS -o /dev/null http://storefront:8080/orders/7
    curl GET (client) http://storefront:8080/orders/7 200
      python GET (server) /orders/7 200
        python GET (client) http://catalog.shop.test:8081/items/7.json 200
          nginx GET (server) /items/7.json 200
        python POST (client) http://orders.shop.test:8082/orders/7 200
          orders POST (server) /orders/7 200
        python dns.query (client) catalog.shop.test A
        python dns.query (client) catalog.shop.test AAAA
        python dns.query (client) orders.shop.test A
        python dns.query (client) orders.shop.test AAAA
        python tcp.connect (client) 127.0.0.11:8081
        python tcp.connect (client) 127.0.0.12:8082
` + curlReaches},
	{target: "/orders/" + soldOut, status: "exit status 22", picture: "failure", shape: `! sh process.exec sh restock.sh /orders/13 exit_22
  ! curl process.exec curl -fsS -o /dev/null http://storefront:8080/orders/13 exit_22
    ! curl GET (client) http://storefront:8080/orders/13 502
      ! python GET (server) /orders/13 502
        python GET (client) http://catalog.shop.test:8081/items/13.json 200
          nginx GET (server) /items/13.json 200
        ! python POST (client) http://orders.shop.test:8082/orders/13 500
          ! orders POST (server) /orders/13 500
        python dns.query (client) catalog.shop.test A
        python dns.query (client) catalog.shop.test AAAA
        python dns.query (client) orders.shop.test A
        python dns.query (client) orders.shop.test AAAA
        python tcp.connect (client) 127.0.0.11:8081
        python tcp.connect (client) 127.0.0.12:8082
` + curlReaches},
	{target: "/gifts/7", status: "exit status 22", picture: "refused", shape: `! sh process.exec sh restock.sh /gifts/7 exit_22
  ! curl process.exec curl -fsS -o /dev/null http://storefront:8080/gifts/7 exit_22
    ! curl GET (client) http://storefront:8080/gifts/7 503
      ! python GET (server) /gifts/7 503
        python dns.query (client) gifts.shop.test A
        python dns.query (client) gifts.shop.test AAAA
        ! python tcp.connect (client) 127.0.0.13:8083 connection_refused
` + curlReaches},
	{target: "/reviews/7", status: "exit status 22", picture: "unknown-name", shape: `! sh process.exec sh restock.sh /reviews/7 exit_22
  ! curl process.exec curl -fsS -o /dev/null http://storefront:8080/reviews/7 exit_22
    ! curl GET (client) http://storefront:8080/reviews/7 503
      ! python GET (server) /reviews/7 503
        ! python dns.lookup reviews.shop.test NXDOMAIN
          ! python dns.query (client) reviews.shop.test A NXDOMAIN
          ! python dns.query (client) reviews.shop.test AAAA NXDOMAIN
          ! python dns.query (client) reviews.shop.test.prod.shop.test A NXDOMAIN
          ! python dns.query (client) reviews.shop.test.prod.shop.test AAAA NXDOMAIN
          ! python dns.query (client) reviews.shop.test.shop.test A NXDOMAIN
          ! python dns.query (client) reviews.shop.test.shop.test AAAA NXDOMAIN
` + curlReaches},
}

// curlReaches the storefront by the second suffix of its search list.
const curlReaches = `    curl dns.lookup storefront
      ! curl dns.query (client) storefront.prod.shop.test A NXDOMAIN
      ! curl dns.query (client) storefront.prod.shop.test AAAA NXDOMAIN
      curl dns.query (client) storefront.shop.test A
      curl dns.query (client) storefront.shop.test AAAA
    curl tcp.connect (client) 127.0.0.10:8080
`

// testTraces: each job is one trace, from its process to the server that failed, with nothing of the others.
func testTraces(t *testing.T, jaeger *backend) {
	for _, order := range orders {
		search := Search{Service: "curl", Tags: map[string]string{"url.full": "http://storefront:8080" + order.target}}
		trace := awaitTrace(t, jaeger, search, named(t, order.shape))
		require.Len(t, trace.Trees(), 1)
		requireSound(t, trace)
		keepPicture(t, trace, order.picture)
	}
}

// named has the names of this machine's shell and Python.
func named(t *testing.T, text string) string {
	sh, interpreter := programName(t, "/bin/sh"), programName(t, python)
	return strings.NewReplacer("sh process.exec", sh+" process.exec", "python ", interpreter+" ").Replace(text)
}

func testServices(t *testing.T, jaeger *backend) {
	sh, storefront := programName(t, "/bin/sh"), programName(t, python)
	services, err := jaeger.Services(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{sh, "curl", storefront, "nginx", "orders"}, services)
	for service, want := range map[string][]Operation{
		sh:         {{"process.exec", "internal"}},
		"curl":     {{"process.exec", "internal"}, {"dns.lookup", "internal"}, {"dns.query", "client"}, {"tcp.connect", "client"}, {"GET", "client"}},
		storefront: {{"dns.lookup", "internal"}, {"dns.query", "client"}, {"tcp.connect", "client"}, {"GET", "client"}, {"POST", "client"}, {"GET", "server"}},
		"nginx":    {{"GET", "server"}},
		"orders":   {{"POST", "server"}},
	} {
		operations, err := jaeger.Operations(t.Context(), service)
		require.NoError(t, err)
		assert.ElementsMatch(t, want, operations, service)
	}
}

// testDependencies: who calls whom, and how often.
func testDependencies(t *testing.T, jaeger *backend) {
	sh, storefront := programName(t, "/bin/sh"), programName(t, python)
	links, err := jaeger.Dependencies(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []Dependency{
		{sh, "curl", len(orders)},
		{"curl", storefront, len(orders)},
		{storefront, "nginx", 2},
		{storefront, "orders", 2},
	}, between(links))
}

// between leaves out what services are to themselves.
func between(links []Dependency) []Dependency {
	return slices.DeleteFunc(links, func(link Dependency) bool { return link.Parent == link.Child })
}

// testSearches are those that docs/jaeger.md lists.
func testSearches(t *testing.T, jaeger *backend) {
	sh, storefront := programName(t, "/bin/sh"), programName(t, python)
	targets := func(of ...string) map[string]bool {
		set := map[string]bool{}
		for _, target := range of {
			set[target] = true
		}
		return set
	}
	all := targets("/orders/7", "/orders/13", "/gifts/7", "/reviews/7")
	failed := targets("/orders/13", "/gifts/7", "/reviews/7")
	for _, c := range []struct {
		search Search
		want   map[string]bool
	}{
		{Search{Service: storefront}, all},
		{Search{Service: storefront, Operation: "GET"}, all},
		{Search{Service: sh, Tags: map[string]string{"process.exit.code": "22"}}, failed},
		{Search{Service: "curl", Tags: map[string]string{"url.path": "/orders/13"}}, targets("/orders/13")},
		{Search{Service: storefront, Tags: map[string]string{"http.response.status_code": "502"}}, targets("/orders/13")},
		{Search{Service: storefront, Operation: "tcp.connect", Tags: map[string]string{"error.type": "connection_refused"}}, targets("/gifts/7")},
		{Search{Service: storefront, Operation: "dns.query", Tags: map[string]string{"error.type": "NXDOMAIN"}}, targets("/reviews/7")},
		{Search{Service: storefront, Tags: map[string]string{"network.peer.address": addresses["gifts"]}}, targets("/gifts/7")},
		{Search{Service: "orders", Tags: map[string]string{"tapio.source": "ebpf"}}, targets("/orders/7", "/orders/13")},
		{Search{Service: "orders", MinDuration: time.Hour}, targets()},
	} {
		traces, err := jaeger.Traces(t.Context(), c.search)
		require.NoError(t, err)
		assert.Equal(t, c.want, pathsServed(traces, storefront), "%+v", c.search)
	}
}

// pathsServed by the service, in any of the traces.
func pathsServed(traces []Trace, service string) map[string]bool {
	paths := map[string]bool{}
	for _, trace := range traces {
		for _, span := range trace.Spans {
			if trace.Processes[span.Process].Service == service && span.Tag("span.kind") == "server" {
				paths[span.Tag("url.path")] = true
			}
		}
	}
	return paths
}

// testDaemons: a server's own span, which goes out when it ends, is the parent of nothing that it did.
func testDaemons(t *testing.T, jaeger *backend) {
	for service, command := range map[string]string{
		programName(t, python): "storefront.py", "nginx": "catalog.conf", "orders": "orders", "dnsmasq": "--keep-in-foreground", "cron": "cron",
	} {
		var found []Trace
		assert.True(t, eventually(func() bool {
			traces, err := jaeger.Traces(t.Context(), Search{Service: service, Operation: "process.exec"})
			require.NoError(t, err)
			found = slices.DeleteFunc(traces, func(trace Trace) bool {
				return !slices.ContainsFunc(trace.Spans, func(span Span) bool { return strings.Contains(span.commandLine(), command) })
			})
			return len(found) > 0
		}), "%s's own span", service)
		for _, trace := range found {
			assert.Len(t, trace.Spans, 1, "%s: %s", service, shape(&trace))
		}
	}
}

// TestSimulator: the simulated shop, as "make demo TO=jaeger" shows it. Its cron job is the one thing there
// that has a whole story.
func TestSimulator(t *testing.T) {
	requireJaeger(t)
	jaeger := startJaeger(t)
	startCollector(t, jaeger.endpoint, "", "receivers::tapioebpf::source: simulator", "receivers::tapioebpf::simulator: {rate: 300, scenarios: {attack: 0.02}}")
	job := Search{Service: "curl", Operation: "process.exec"}
	for _, path := range [][]string{
		{"dash process.exec /bin/sh -c", "curl process.exec curl -sf", "curl dns."},
		{"dash process.exec /bin/sh -c", "curl process.exec curl -sf", "curl tcp.connect"},
		{"dash process.exec /bin/sh -c", "curl process.exec curl -sf", "curl GET (client) http://frontend.shop:8080/", "frontend GET (server) /"},
		{"frontend GET (server) /", "frontend dns."},
		{"frontend GET (server) /", "frontend tcp.connect"},
		{"frontend GET (server) /", "frontend GET (client) http://catalog.shop:8080/", "catalog GET (server) /"},
	} {
		trace := awaitPath(t, jaeger, job, path)
		keepPicture(t, trace, "simulator")
	}
	// what an attacker did is below the programs that did it
	for operation, path := range map[string][]string{
		"security.process.setuid_exec": {"cart process.exec bash -i", "cart process.exec sudo", "cart security.process.setuid_exec"},
		"security.network.raw_socket":  {"cart process.exec python3", "cart security.network.raw_socket"},
		"security.file.sensitive_access": {
			"cart process.exec python3", "cart process.exec bash -i", "cart process.exec cat", "cart security.file.sensitive_access",
		},
	} {
		trace := awaitPath(t, jaeger, Search{Service: "cart", Operation: operation}, path)
		keepPicture(t, trace, "attack")
	}
	awaitServices(t, jaeger, "frontend", "catalog", "cart", "checkout", "payment")
	links, err := jaeger.Dependencies(t.Context())
	require.NoError(t, err)
	for _, want := range [][2]string{{"dash", "curl"}, {"curl", "frontend"}, {"frontend", "catalog"}} {
		assert.True(t, slices.ContainsFunc(links, func(link Dependency) bool { return link.Parent == want[0] && link.Child == want[1] }), "%s in %+v", want, links)
	}
	var traces []Trace
	require.True(t, eventually(func() bool { // the rest of some is on its way
		traces = awaitTraces(t, jaeger, Search{Service: "frontend"}, 200)
		return wholeOf(traces) > len(traces)*9/10
	}), "%d of %d traces are whole; of some the programs run on", wholeOf(traces), len(traces))
	for _, trace := range traces {
		requireSound(t, trace)
		for _, process := range trace.Processes {
			require.Equal(t, "simulator", process.Tag("tapio.source"))
		}
	}
}

func wholeOf(traces []Trace) (whole int) {
	for _, trace := range traces {
		if len(trace.Trees()) == 1 {
			whole++
		}
	}
	return whole
}

func awaitTraces(t *testing.T, jaeger *backend, search Search, count int) (traces []Trace) {
	t.Helper()
	require.True(t, eventually(func() bool {
		var err error
		traces, err = jaeger.Traces(t.Context(), search)
		require.NoError(t, err)
		return len(traces) >= count
	}), "%d traces", len(traces))
	return traces
}

func awaitServices(t *testing.T, jaeger *backend, wanted ...string) {
	t.Helper()
	var services []string
	require.True(t, eventually(func() bool {
		var err error
		services, err = jaeger.Services(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(wanted, func(service string) bool { return !slices.Contains(services, service) })
	}), "services: %s", services)
}
