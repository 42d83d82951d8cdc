// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/test/components"
)

// pluginDir has the reference plugins: Debian's containernetworking-plugins.
const pluginDir = "/usr/lib/cni"

// networks that the runner knows. Of the small one's addresses, one is the gateway's and one is left.
var networks = map[string]string{
	"chain": `{"cniVersion":"1.0.0","name":"chain","plugins":[
		{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.77.0.0/24"}]]}},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`,
	"small": `{"cniVersion":"1.0.0","name":"small","plugins":[
		{"type":"bridge","bridge":"cni1","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.78.0.0/30"}]]}}]}`,
	"lo": `{"cniVersion":"1.0.0","name":"lo","plugins":[{"type":"loopback"}]}`,
	"nomaster": `{"cniVersion":"1.0.0","name":"nomaster","plugins":[
		{"type":"loopback"},{"type":"macvlan","master":"nosuch0","ipam":{}},{"type":"portmap"}]}`,
	"badconfig": `{"cniVersion":"1.0.0","name":"badconfig","plugins":[{"type":"bridge","mtu":"large"}]}`,
}

// cniNode is where a runner sets up networks: with network and mount namespaces of its own, so that nothing of
// it is the machine's.
type cniNode struct {
	t         *testing.T
	scope     cgroup
	collector *collector
	runner    string // cnitool
	config    string // its directory
}

func newCNINode(t *testing.T, overrides ...string) *cniNode {
	t.Helper()
	requireBPF(t)
	requirePlugins(t)
	runner, err := components.Program{
		Name: "cnitool", Of: "cni", Package: "github.com/containernetworking/cni/cnitool",
		Module: "github.com/containernetworking/cni", Pins: "cni/components",
	}.Binary(t.Context())
	require.NoError(t, err)
	config := t.TempDir()
	for name, network := range networks {
		require.NoError(t, os.WriteFile(filepath.Join(config, name+".conflist"), []byte(network), 0o644))
	}
	scope := newCgroup(t)
	families := []string{"receivers::tapioebpf::families::cni::enabled: true"}
	for _, other := range []string{"network", "dns", "http", "security"} { // loading these takes its time
		families = append(families, "receivers::tapioebpf::families::"+other+"::enabled: false")
	}
	c := startCollector(t, scope, append(families, overrides...)...)
	return &cniNode{t: t, scope: scope, collector: c, runner: runner, config: config}
}

func requirePlugins(t *testing.T) {
	t.Helper()
	_, err := os.Stat(filepath.Join(pluginDir, "bridge"))
	if err == nil {
		return
	}
	if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
		require.NoError(t, err, "install containernetworking-plugins")
	}
	t.Skip(err)
}

// run a script, in which $CNITOOL is the runner. Its namespaces go with it.
func (n *cniNode) run(script string) (output string) {
	n.t.Helper()
	const prepare = `mount -t tmpfs tmpfs /var/lib; mount -t tmpfs tmpfs /run; ip link set lo up; `
	command := exec.Command("unshare", "--mount", "--net", "sh", "-euc", prepare+script)
	command.Env = append(os.Environ(), "CNITOOL="+n.runner, "CNI_PATH="+pluginDir, "NETCONFPATH="+n.config,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=0123-45")
	var told bytes.Buffer
	command.Stdout, command.Stderr = &told, &told
	require.NoError(n.t, runScoped(n.scope, command), told.String())
	return told.String()
}

// finish waits until n operations are told, and returns all spans by their ids.
func (n *cniNode) finish(operations int) map[pcommon.SpanID]item {
	n.t.Helper()
	n.collector.await("all operations", func(o *output) bool { return len(operationsOf(o)) >= operations })
	n.collector.stopWithoutLoss()
	require.Len(n.t, operationsOf(&n.collector.output), operations)
	spans := map[pcommon.SpanID]item{}
	for _, span := range n.collector.output.spans {
		spans[span.spanID] = span
	}
	return spans
}

func operationsOf(o *output) []item {
	return filter(o.spans, func(i item) bool { return strings.HasPrefix(i.name, "cni.") && i.has("tapio.cni.plugins") })
}

// plugin is the span of a plugin's only run for a command.
func (n *cniNode) plugin(command, name string) item {
	n.t.Helper()
	runs := filter(named(n.collector.output.spans, "cni.plugin"), func(i item) bool {
		return i.text("tapio.cni.command") == command && i.text("tapio.cni.plugin.name") == name
	})
	require.Len(n.t, runs, 1, "%s %s", command, name)
	return runs[0]
}

// operation is the only one of a command.
func (n *cniNode) operation(name string) item {
	n.t.Helper()
	spans := named(n.collector.output.spans, name)
	require.Len(n.t, spans, 1, name)
	return spans[0]
}

// TestCNI is a pod's network: set up, checked and removed by real plugins, for a real runner.
func TestCNI(t *testing.T) {
	n := newCNINode(t)
	inode := n.run(`
		ip netns add pod
		"$CNITOOL" add chain /run/netns/pod >/dev/null
		"$CNITOOL" check chain /run/netns/pod >/dev/null
		"$CNITOOL" del chain /run/netns/pod
		stat -c %i /run/netns/pod
		ip netns delete pod`)
	spans := n.finish(3)
	for command, name := range map[string]string{"ADD": "cni.add", "CHECK": "cni.check", "DEL": "cni.del"} {
		operation := n.operation(name)
		assert.Equal(t, ptrace.StatusCodeUnset, operation.status, "%v", operation.attributes)
		assert.Equal(t, ptrace.SpanKindInternal, operation.kind)
		assert.Equal(t, command, operation.text("tapio.cni.command"))
		assert.Equal(t, "cnitool", operation.text("process.executable.name"))
		assert.Equal(t, "cnitool", operation.resource["service.name"])
		assert.Equal(t, "process.exec", spans[operation.parentID].name)
		assert.Equal(t, operation.pid(), spans[operation.parentID].pid())
		chain := []any{"bridge", "portmap"}
		if command == "DEL" {
			chain = []any{"portmap", "bridge"}
		}
		assert.Equal(t, chain, operation.attributes["tapio.cni.plugins"])
		for plugin, parent := range map[string]pcommon.SpanID{
			"bridge": operation.spanID, "portmap": operation.spanID, "host-local": n.plugin(command, "bridge").spanID,
		} {
			run := n.plugin(command, plugin)
			assert.Equal(t, parent, run.parentID, "%s %s", command, plugin)
			assert.Equal(t, operation.traceID, run.traceID)
			assert.Equal(t, ptrace.StatusCodeUnset, run.status)
			assert.EqualValues(t, 0, run.number("process.exit.code"))
			assert.True(t, run.has("process.exit.code"))
			assert.Equal(t, plugin, run.text("process.executable.name"))
			assert.GreaterOrEqual(t, run.time, operation.time)
			assert.LessOrEqual(t, run.end, operation.end)
			program := only(t, filter(named(n.collector.output.spans, "process.exec"), func(i item) bool { return i.pid() == run.pid() }))
			assert.Equal(t, run.spanID, program.parentID, "%s %s", command, plugin)
			assert.Equal(t, run.traceID, program.traceID)
			n.checkPod(run)
		}
		n.checkPod(operation)
		assert.EqualValues(t, number(strings.TrimSpace(inode)), operation.number("tapio.cni.netns.inode"))
	}
	assert.Empty(t, named(n.collector.output.logs, "tapio.cni.failure"))
	n.checkNamespaces(number(strings.TrimSpace(inode)))
	assert.EqualValues(t, 9, total(n.collector.output.points("tapio.cni.plugin.duration")))
	assert.EqualValues(t, 3, total(n.collector.output.points("tapio.cni.operation.duration")))
	assert.Empty(t, n.collector.output.points("tapio.cni.plugin.failures"))
}

func only(t *testing.T, items []item) item {
	t.Helper()
	require.Len(t, items, 1)
	return items[0]
}

func (n *cniNode) checkPod(i item) {
	n.t.Helper()
	assert.Equal(n.t, "shop", i.text("k8s.namespace.name"))
	assert.Equal(n.t, "web-0", i.text("k8s.pod.name"))
	assert.Equal(n.t, "0123-45", i.text("k8s.pod.uid"))
	assert.Equal(n.t, "eth0", i.text("network.interface.name"))
	assert.Equal(n.t, "/run/netns/pod", i.text("tapio.cni.netns.path"))
	assert.True(n.t, strings.HasPrefix(i.text("container.id"), "cnitool-"), "%v", i.attributes)
}

// checkNamespaces: unshare makes one for the script, and ip one for the pod.
func (n *cniNode) checkNamespaces(pod int64) {
	n.t.Helper()
	created := map[string]item{}
	for _, span := range named(n.collector.output.spans, "cni.netns.create") {
		created[span.text("process.executable.name")] = span
		assert.Equal(n.t, span.time, span.end)
	}
	require.Len(n.t, created, 2)
	assert.Contains(n.t, created, "unshare")
	assert.EqualValues(n.t, pod, created["ip"].number("tapio.cni.netns.inode"))
}

// TestCNIFailures: what a plugin complains of is told, with where it was.
func TestCNIFailures(t *testing.T) {
	n := newCNINode(t)
	n.run(`
		for pod in a b; do ip netns add $pod; done
		"$CNITOOL" add small /run/netns/a >/dev/null
		if "$CNITOOL" add small /run/netns/b; then exit 9; fi
		if "$CNITOOL" add nomaster /run/netns/b; then exit 9; fi
		if "$CNITOOL" add badconfig /run/netns/b; then exit 9; fi
		for pod in a b; do ip netns delete $pod; done`)
	spans := n.finish(4)
	output := &n.collector.output

	byPlugins := map[string]item{}
	for _, operation := range filter(operationsOf(output), func(i item) bool { return i.status == ptrace.StatusCodeError }) {
		byPlugins[operation.text("tapio.cni.error.message")] = operation
	}
	require.Len(t, byPlugins, 3)
	var exhausted, noMaster, badConfig item
	for message, operation := range byPlugins {
		switch {
		case strings.Contains(message, "no IP addresses available"):
			exhausted = operation
		case strings.Contains(message, "Link not found"):
			noMaster = operation
		default:
			badConfig = operation
		}
	}
	assert.Equal(t, []any{"bridge"}, exhausted.attributes["tapio.cni.plugins"])
	assert.Equal(t, []any{"loopback", "macvlan"}, noMaster.attributes["tapio.cni.plugins"], "the chain ends where it fails")
	assert.Contains(t, badConfig.text("tapio.cni.error.message"), "mtu")
	for _, operation := range byPlugins {
		assert.Equal(t, "internal", operation.text("error.type"))
		assert.EqualValues(t, 999, operation.number("tapio.cni.error.code"))
	}

	logs := named(output.logs, "tapio.cni.failure")
	failed := map[string]int{}
	for _, log := range logs {
		failed[log.text("tapio.cni.plugin.name")]++
		run, ok := spans[log.spanID]
		require.True(t, ok)
		assert.Equal(t, run.attributes, log.attributes)
		assert.Equal(t, ptrace.StatusCodeError, run.status)
		assert.EqualValues(t, 1, log.number("process.exit.code"))
		assert.Equal(t, plog.SeverityNumberError, log.severity)
		assert.NotEmpty(t, log.text("tapio.cni.error.message"))
		assert.False(t, log.has("tapio.cni.error.unparsed"))
	}
	assert.Equal(t, map[string]int{"bridge": 2, "host-local": 1, "macvlan": 1}, failed)
	assert.EqualValues(t, 4, total(output.points("tapio.cni.plugin.failures")))
	for _, value := range results(output) {
		assert.NotContains(t, value, "10.78.0.2/30", "a result is the runner's alone")
	}
}

// results are all texts of the family.
func results(o *output) (texts []string) {
	for _, i := range append(filter(o.spans, func(i item) bool { return strings.HasPrefix(i.name, "cni.") }), o.logs...) {
		for key := range i.attributes {
			if strings.HasPrefix(key, "tapio.cni.") {
				texts = append(texts, i.text(key))
			}
		}
	}
	return texts
}

// TestCNIByHand: versions, loopback, repeated deletes, and what is no plugin of the node.
func TestCNIByHand(t *testing.T) {
	n := newCNINode(t)
	elsewhere := publicDir(t)
	plugin, err := os.ReadFile(filepath.Join(pluginDir, "loopback"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "loopback"), plugin, 0o755))
	n.run(`
		ip netns add pod
		echo '{"cniVersion":"1.0.0"}' | CNI_COMMAND=VERSION ` + pluginDir + `/bridge | cat
		echo '{"cniVersion":"1.0.0"}' | CNI_COMMAND=VERSION ` + elsewhere + `/loopback | cat
		"$CNITOOL" add lo /run/netns/pod >/dev/null
		"$CNITOOL" del lo /run/netns/pod
		"$CNITOOL" del lo /run/netns/pod
		ip netns delete pod`)
	n.finish(4)
	assert.Len(t, named(n.collector.output.spans, "cni.version"), 1)
	assert.Len(t, named(n.collector.output.spans, "cni.del"), 2)
	assert.Len(t, named(n.collector.output.spans, "cni.plugin"), 4)
	assert.NotContains(t, n.collector.output.events(), "other")
}

// TestCNIOffByDefault: without being asked for, plugins are programs as any other.
func TestCNIOffByDefault(t *testing.T) {
	n := newCNINode(t, "receivers::tapioebpf::families::cni::enabled: false")
	n.run(`ip netns add pod; "$CNITOOL" add lo /run/netns/pod >/dev/null; ip netns delete pod`)
	n.collector.await("the programs", func(o *output) bool { return len(named(o.spans, "process.exec")) >= 5 })
	n.collector.stopWithoutLoss()
	assert.Empty(t, filter(n.collector.output.spans, func(i item) bool { return strings.HasPrefix(i.name, "cni.") }))
}
