// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

// leastChecked is how often each must have been compared: what was not looked at has no contradictions.
var leastChecked = map[string]int{"pods": 500, "processes": 200, "owners": 200, "connections": 50, "requests": 20}

// requireBelonging: nothing contradicts itself or what is known, and enough was looked at.
func requireBelonging(t *testing.T, o *output, known truth) {
	t.Helper()
	b := belongingOf(o, known)
	assert.Empty(t, b.contradictions())
	for what, least := range leastChecked {
		assert.GreaterOrEqual(t, b.checked[what], least, "%s that were compared: %v", what, b.checked)
	}
	if known.ownNetwork {
		assert.GreaterOrEqual(t, b.checked["addresses"], 500)
		assert.GreaterOrEqual(t, b.checked["names"], 20)
	} else {
		assert.GreaterOrEqual(t, b.checked["servers"], 50)
	}
}

// mistake is something that could be said wrong. It takes two items that say different things of it.
type mistake struct {
	name string
	// of says what an item says; empty: it is not one that could be mistaken.
	of func(b *belonging, i item) string
	// swap what the two say.
	swap func(a, b *item)
}

func swapAttributes(keys ...string) func(a, b *item) {
	return func(a, b *item) {
		a.attributes, b.attributes = maps.Clone(a.attributes), maps.Clone(b.attributes)
		swapKeys(a.attributes, b.attributes, keys...)
	}
}

func swapOfResources(keys ...string) func(a, b *item) {
	return func(a, b *item) {
		a.resource, b.resource = maps.Clone(a.resource), maps.Clone(b.resource)
		swapKeys(a.resource, b.resource, keys...)
	}
}

func swapKeys(a, b map[string]any, keys ...string) {
	for _, key := range keys {
		a[key], b[key] = b[key], a[key]
	}
}

// end of a connection with that role, which is checked.
func endOf(b *belonging, i item, role string) bool {
	if !isEnd(i) || i.text("tapio.network.role") != role {
		return false
	}
	if role == "client" {
		_, isKnown := b.truth.servers[peerOf(i)]
		return isKnown
	}
	return i.has("tapio.peer.k8s.pod.name") || b.truth.servers[localOf(i)] != ""
}

var mistakes = []mistake{
	{
		"a pod's name and id", func(_ *belonging, i item) string { return textOf(i.resource["k8s.pod.name"]) },
		swapOfResources("k8s.pod.name", "k8s.pod.uid", "k8s.namespace.name"),
	},
	{
		"a container's id", func(_ *belonging, i item) string { return textOf(i.resource["container.id"]) },
		swapOfResources("container.id"),
	},
	{
		"a process's id", func(_ *belonging, i item) string {
			if i.pid() == 0 || i.has("process.creation.time") || i.resource["container.id"] == nil {
				return ""
			}
			return textOf(i.resource["container.id"])
		},
		swapAttributes("process.pid"),
	},
	{
		"the address of a server", func(b *belonging, i item) string {
			if !endOf(b, i, "server") {
				return ""
			}
			return localOf(i).address + textOf(localOf(i).port)
		},
		swapAttributes("network.local.address", "network.local.port", "server.address", "server.port"),
	},
	{
		"the address that a client has connected to", func(b *belonging, i item) string {
			if !endOf(b, i, "client") {
				return ""
			}
			return peerOf(i).address + textOf(peerOf(i).port)
		},
		swapAttributes("network.peer.address", "network.peer.port", "server.address", "server.port"),
	},
	{
		"the address of a client", func(b *belonging, i item) string {
			if !endOf(b, i, "client") {
				return ""
			}
			return localOf(i).address + textOf(localOf(i).port)
		},
		swapAttributes("network.local.address", "network.local.port"),
	},
	{
		"the address of a server's client", func(b *belonging, i item) string {
			if !endOf(b, i, "server") || len(b.clients[peerOf(i)]) == 0 {
				return "" // nobody knows its client
			}
			return localOf(i).address + textOf(localOf(i).port)
		},
		swapAttributes("network.peer.address", "network.peer.port", "client.address", "client.port"),
	},
	{
		"the name of a peer", func(_ *belonging, i item) string { return i.text("tapio.peer.k8s.pod.name") },
		swapAttributes("tapio.peer.k8s.pod.name"),
	},
	{
		"the name that was looked up", func(_ *belonging, i item) string {
			if i.name != "tcp.connect" || i.text("server.address") == i.text("network.peer.address") {
				return ""
			}
			return i.text("network.peer.address")
		},
		swapAttributes("server.address"),
	},
}

const mistakesOfAKind = 6

// requireTeeth: whichever two items are mistaken for each other, it is found.
func requireTeeth(t *testing.T, o *output, known truth) {
	t.Helper()
	right := belongingOf(o, known)
	random := rand.New(rand.NewPCG(1, 2))
	for _, m := range mistakes {
		candidates := candidatesOf(right, o, m)
		for range min(mistakesOfAKind, len(candidates)) {
			a, b := twoOf(random, candidates)
			if a == nil {
				break // all say the same
			}
			wasA, wasB := *a, *b
			m.swap(a, b)
			assert.NotEmpty(t, belongingOf(o, known).contradictions(), "%s: %+v and %+v", m.name, wasA, wasB)
			*a, *b = wasA, wasB
		}
	}
	swapped := swapPods(o)
	assert.NotEmpty(t, belongingOf(&swapped, known).contradictions(), "two pods in all that is said of them")
}

type candidate struct {
	*item
	says string
}

func candidatesOf(b *belonging, o *output, m mistake) (found []candidate) {
	for _, items := range [][]item{o.logs, o.spans} {
		for n := range items {
			if says := m.of(b, items[n]); says != "" {
				found = append(found, candidate{&items[n], says})
			}
		}
	}
	return found
}

// twoOf the items that say different things.
func twoOf(random *rand.Rand, of []candidate) (a, b *item) {
	for range 100 {
		first, second := of[random.IntN(len(of))], of[random.IntN(len(of))]
		if first.says != second.says {
			return first.item, second.item
		}
	}
	return nil, nil
}

// swapPods has two pods of the same namespace and all of their names the other way round, wherever they are told as
// those of a resource.
func swapPods(o *output) output {
	swapped := output{logs: slices.Clone(o.logs), spans: slices.Clone(o.spans)}
	var two []map[string]any
	for _, items := range [][]item{swapped.logs, swapped.spans} {
		for n := range items {
			resource := items[n].resource
			if resource["k8s.pod.name"] == nil || items[n].text("tapio.network.role") == "" {
				continue
			}
			if len(two) == 0 || len(two) == 1 && two[0]["k8s.pod.name"] != resource["k8s.pod.name"] {
				two = append(two, resource)
			}
		}
	}
	keys := []string{"k8s.pod.name", "k8s.pod.uid", "k8s.namespace.name", "k8s.deployment.name", "k8s.replicaset.uid", "k8s.node.name", "service.namespace"}
	for _, items := range [][]item{swapped.logs, swapped.spans} {
		for n := range items {
			for i := range two {
				if items[n].resource["k8s.pod.name"] == two[i]["k8s.pod.name"] {
					resource := maps.Clone(items[n].resource)
					for _, key := range keys {
						resource[key] = two[1-i][key]
					}
					items[n].resource = resource
					break
				}
			}
		}
	}
	return swapped
}

// TestBelongingOfTheSimulator has nothing wrong in it, and what is made wrong in it is found.
func TestBelongingOfTheSimulator(t *testing.T) {
	factory := tapioebpfreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig().(*tapioebpfreceiver.Config)
	cfg.Source, cfg.Simulator.Rate = "simulator", 0
	traces, logs := &consumertest.TracesSink{}, &consumertest.LogsSink{}
	set := receivertest.NewNopSettings(factory.Type())
	r, err := factory.CreateTraces(t.Context(), set, cfg, traces)
	require.NoError(t, err)
	_, err = factory.CreateLogs(t.Context(), set, cfg, logs)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	require.Eventually(t, func() bool { return traces.SpanCount() > 3000 }, time.Minute, time.Millisecond)
	require.NoError(t, r.Shutdown(t.Context()))
	var o output
	for _, batch := range traces.AllTraces() {
		o.addTraces(batch)
	}
	for _, batch := range logs.AllLogs() {
		o.addLogs(batch)
	}
	requireBelonging(t, &o, truth{ownNetwork: true})
	requireTeeth(t, &o, truth{ownNetwork: true})
}
