// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// nodes are two of them, each a network, with a router between. What is sent to the address of the Service
// goes to the other node and has the router's address as its source, as kube-proxy does it; and so does
// what is sent to the address of the local Service, which is for what kube-proxy does on the client's own
// node.
type nodes struct{ a, b, router *network }

const (
	serviceV4, serviceV6           = "10.96.77.1:80", "[fd96:77::1]:80"
	localServiceV4, localServiceV6 = "10.96.77.2:80", "[fd96:77::2]:80"
	backendV4, backendV6           = "10.77.2.2:8080", "[fd77:2::2]:8080"
)

func connectNodes(t *testing.T) nodes {
	t.Helper()
	n := nodes{a: newNetwork(t), b: newNetwork(t), router: newNetwork(t)}
	n.router.connect("to-a", []string{"10.77.1.1/24", "fd77:1::1/64"}, n.a, "eth0", []string{"10.77.1.2/24", "fd77:1::2/64"})
	n.router.connect("to-b", []string{"10.77.2.1/24", "fd77:2::1/64"}, n.b, "eth0", []string{"10.77.2.2/24", "fd77:2::2/64"})
	// what is lost is sent again soon: the way is short
	n.a.run("ip route add default via 10.77.1.1 rto_min 10ms; ip route add default via fd77:1::1 rto_min 10ms")
	n.b.run("ip route add default via 10.77.2.1 rto_min 10ms; ip route add default via fd77:2::1 rto_min 10ms")
	n.router.run("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	for _, translating := range []*network{n.a, n.router} { // also what comes again, or late
		translating.run("echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
	}
	n.router.run(natOf("prerouting", "dstnat", "10.96.77.1", "fd96:77::1"))
	n.a.run(natOf("output", "-100", "10.96.77.2", "fd96:77::2"))
	return n
}

// natOf is a script that has the addresses of a Service replaced by those of its one back end, and the
// source of what is sent there by another address and port.
func natOf(hook, priority, v4, v6 string) string {
	return fmt.Sprintf(`nft -f - <<'END'
table inet service {
  chain destination {
    type nat hook %s priority %s
    ip daddr %s tcp dport 80 dnat ip to %s
    ip6 daddr %s tcp dport 80 dnat ip6 to %s
  }
  chain source {
    type nat hook postrouting priority srcnat
    masquerade fully-random
  }
}
END`, hook, priority, v4, backendV4, v6, backendV6)
}

// loseSome has the router lose each tenth packet of connections, both ways. It is sent again, and those
// behind it come before it. What opens a connection is spared, since TCP waits for seconds there.
func (n nodes) loseSome() {
	n.router.run(`nft -f - <<'END'
table inet lossy {
  chain forward {
    type filter hook forward priority filter
    tcp flags & syn == 0 numgen inc mod 10 0 drop
  }
}
END`)
}

// twoAgents are the collectors of two nodes, each with its cgroup as scope.
type twoAgents struct {
	nodes
	groups [2]cgroup
	agents [2]*collector
	client *process
}

// startAgents has a server on node b, and on node a a client that is older than the agent, or younger.
func startAgents(t *testing.T, older bool, overrides ...string) *twoAgents {
	t.Helper()
	two := &twoAgents{nodes: connectNodes(t), groups: [2]cgroup{newCgroup(t), newCgroup(t)}}
	for network, address := range map[string]string{"tcp4": backendV4, "tcp6": backendV6} {
		server := two.groups[1].startBy(t, two.b.by(), "answer", network, address)
		server.line()
	}
	startClient := func() {
		two.client = two.groups[0].startBy(t, two.a.by(), "load")
		require.Equal(t, "ready", two.client.line())
	}
	if older {
		startClient()
	}
	for i := range two.agents {
		two.agents[i] = startCollector(t, two.groups[i], append(overrides, showTruth)...)
	}
	if !older {
		startClient()
	}
	return two
}

// ask does rounds of all kinds through each of the addresses, and returns the spans of clients on node a
// and of servers on node b.
func (two *twoAgents) ask(t *testing.T) (clients, servers map[string]item) {
	t.Helper()
	count := 0
	for i, address := range []string{serviceV4, serviceV6, localServiceV4, localServiceV6} {
		for _, r := range kindsOfRound("tcp", address) {
			r.Truth = fmt.Sprintf("%d%s", i, r.Truth)
			two.client.do(r)
			count += int(r.Connections * r.Requests)
		}
	}
	two.client.end()
	a, b := two.agents[0], two.agents[1]
	a.stopWithLittleLoss(count)
	b.stopWithLittleLoss(count)
	assert.Empty(t, a.output.exchanges(ptrace.SpanKindServer), "node a only asks")
	assert.Empty(t, b.output.exchanges(ptrace.SpanKindClient), "node b only answers")
	clients, servers = both(byTruth(t, a.output.exchanges(ptrace.SpanKindClient), ""), byTruth(t, b.output.exchanges(ptrace.SpanKindServer), ""))
	assert.GreaterOrEqual(t, len(clients), count*94/100, "requests of which both ends were told")
	return clients, servers
}

// checkTranslated wants the two ends of all requests to know each other by other addresses.
func checkTranslated(t *testing.T, clients, servers map[string]item) {
	t.Helper()
	sources := map[string]bool{}
	for truth, server := range servers {
		assert.Contains(t, []any{"10.77.2.1", "fd77:2::1"}, server.attributes["client.address"], "it is the router's")
		assert.Contains(t, []any{int64(80), int64(8080)}, clients[truth].attributes["network.peer.port"])
		sources[server.text("client.address")] = true
	}
	assert.Len(t, sources, 2, "IPv4 and IPv6")
}

// TestRequestBetweenNodes: two agents that do not talk with each other agree on each request's trace,
// through address translation and with packets that are lost.
func TestRequestBetweenNodes(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		t.Run(map[bool]string{false: "clean", true: "lossy"}[lossy], func(t *testing.T) {
			requireBPF(t)
			two := startAgents(t, true)
			if lossy {
				two.loseSome()
			}
			clients, servers := two.ask(t)
			checkPairs(t, clients, servers, len(clients))
			checkAlone(t, clients)
			checkTranslated(t, clients, servers)
			if lossy {
				checkLost(t, two.agents[0])
			}
		})
	}
}

func checkLost(t *testing.T, c *collector) {
	t.Helper()
	retransmitted := int64(0)
	for _, record := range c.output.closes() {
		retransmitted += record.number("tapio.tcp.retransmits")
	}
	assert.Positive(t, retransmitted, "segments that were sent again")
}

// TestLinkBetweenNodes: a client that was started for its requests has them in its own trace, which the
// other node's agent cannot know. The two are told apart from others by a link.
func TestLinkBetweenNodes(t *testing.T) {
	requireBPF(t)
	two := startAgents(t, false)
	clients, servers := two.ask(t)
	started := named(two.agents[0].output.spans, "process.exec")
	load := filter(started, func(i item) bool { return i.text("process.executable.path") == self(t) })
	require.Len(t, load, 1)
	checkChildren(t, load[0], clients)
	checkEach(t, clients, "linked to the server's span", func(truth string, client item) bool {
		return slices.Equal(client.links, []link{{servers[truth].traceID, servers[truth].spanID}})
	})
	// the server's span names its parent all the same: it is in another trace, where a gateway can find it
	checkEach(t, servers, "in a trace of its own, child of the client's span", func(truth string, server item) bool {
		return server.traceID != clients[truth].traceID && server.parentID == clients[truth].spanID
	})
	checkLinkNames(t, clients, servers)
}

// checkLinkNames wants the two ends of each request, and of no other, to have one name for what links them.
func checkLinkNames(t *testing.T, clients, servers map[string]item) {
	t.Helper()
	requests := map[string]int{}
	for _, client := range clients {
		requests[client.text("tapio.link")]++
	}
	wanted := regexp.MustCompile("^[0-9a-f]{16}$")
	checkEach(t, clients, "known by a link of its own", func(truth string, client item) bool {
		name := client.text("tapio.link")
		return wanted.MatchString(name) && requests[name] == 1 && servers[truth].text("tapio.link") == name
	})
}

// TestPeersWithoutAgent: where no peer has an agent, servers' spans are roots.
func TestPeersWithoutAgent(t *testing.T) {
	requireBPF(t)
	two := startAgents(t, true, `receivers::tapioebpf::correlation::peers: ["192.0.2.0/24"]`)
	_, servers := two.ask(t)
	checkAlone(t, servers)
}
