// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// The runner is process 10, which began a second after boot.

var addVariables = []string{
	"CNI_COMMAND=ADD", "CNI_CONTAINERID=abc", "CNI_NETNS=/run/netns/x", "CNI_IFNAME=eth0",
	"CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=1-2",
}

// withCommand are the same for another command.
func withCommand(command string) []string {
	return append([]string{"CNI_COMMAND=" + command}, addVariables[1:]...)
}

func pluginBegan(pid uint32, at uint64, parent uint32, parentSince uint64, path string, variables ...string) []byte {
	return pluginBeganIn(pid, at, at, parent, parentSince, path, variables...)
}

// pluginBeganIn a process that is older.
func pluginBeganIn(pid uint32, since, at uint64, parent uint32, parentSince uint64, path string, variables ...string) []byte {
	environment := eventtest.Arguments(variables...)
	return eventtest.Record(bpf.WireCniBegan{
		Header:   headerOf(event.TypeCNIBegan, pid, since, at),
		Process:  bpf.WireProcessIdentity{ParentPid: parent, ParentStartTime: parentSince, Vpid: pid},
		PathSize: uint16(len(path) + 1), EnvironmentSize: uint16(len(environment)),
	}, append([]byte(path), 0), environment)
}

func pluginEnded(pid uint32, began, at uint64, status uint32, output string) []byte {
	return pluginEndedIn(pid, began, at, status, output, 0)
}

func pluginEndedIn(pid uint32, began, at uint64, status uint32, output string, netns uint32) []byte {
	return eventtest.Record(bpf.WireCniEnded{
		Header: headerOf(event.TypeCNIEnded, pid, began, at), Began: began, Status: status, Netns: netns,
		OutputSize: uint64(len(output)), Captured: uint32(len(output)),
	}, []byte(output))
}

func namespaceRecord(kind event.Type, pid uint32, since, at uint64, inode uint32, errno int32) []byte {
	e := bpf.WireCniNamespace{Header: headerOf(kind, pid, since, at), Inode: inode, Error: errno}
	if kind == event.TypeCNINetnsRemoved {
		e.Made = at - second
	}
	return eventtest.Record(e)
}

// ranFrom is a plugin that the runner starts, from its beginning to its end.
func ranFrom(pid uint32, began, ended uint64, name string, variables []string, status uint32, output string) [][]byte {
	return [][]byte{
		pluginBegan(pid, began, 10, second, "/opt/cni/bin/"+name, variables...),
		pluginEnded(pid, began, ended, status, output),
	}
}

func succeed(pid uint32, began, ended uint64, name string, variables []string) [][]byte {
	return ranFrom(pid, began, ended, name, variables, 0, "")
}

const failed = uint32(1 << 8)

// tree has the spans by name and plugin: "cni.plugin bridge" with the id of its parent.
type treeSpan struct {
	gotSpan
	ids
	parent pcommon.SpanID
}

func treeOf(out output) map[string]treeSpan {
	tree := map[string]treeSpan{}
	for i, span := range out.spans {
		name := span.Name
		if plugin, ok := span.Attributes["tapio.cni.plugin.name"].(string); ok {
			name += " " + plugin
		}
		if span.Name == "process.exec" {
			name += " " + span.Attributes["process.executable.name"].(string)
		}
		tree[name] = treeSpan{span, out.spanIDs[i], out.parents[i]}
	}
	return tree
}

var podAttributes = attributes{
	"tapio.cni.command": "ADD", "container.id": "abc", "network.interface.name": "eth0", "tapio.cni.netns.path": "/run/netns/x",
	"k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": "1-2",
}

func withPod(more attributes) attributes {
	for key, value := range podAttributes {
		more[key] = value
	}
	return more
}

// A chain of two plugins, of which the first has another one do a part of its work.
func TestCNIChain(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		execRecord(10, second, second, 0, "/usr/bin/runner", "/", "runner"),
		pluginBegan(20, 3*second, 10, second, "/opt/cni/bin/bridge", addVariables...),
		forkRecord(20, 3*second, 10, second),
		execRecord(20, 3*second, 3*second, 0, "/opt/cni/bin/bridge", "/", "bridge"),
		pluginBegan(21, 3*second+100*ms, 20, 3*second, "/opt/cni/bin/host-local", addVariables...),
		execRecord(21, 3*second+100*ms, 3*second+100*ms, 0, "/opt/cni/bin/host-local", "/", "host-local"),
		pluginEnded(21, 3*second+100*ms, 3*second+200*ms, 0, ""),
	)
	w.requireClosed(t)
	w.Tick(8 * second) // bridge runs for long
	w.handle(
		pluginEndedIn(20, 3*second, 9*second, 0, "", 4026532000),
		pluginBegan(22, 9*second+900*ms, 10, second, "/opt/cni/bin/portmap", addVariables...),
		pluginEnded(22, 9*second+900*ms, 10*second, 0, ""),
		exitRecord(21, 3*second+100*ms, 10*second, 0), exitRecord(20, 3*second, 10*second, 0), exitRecord(10, second, 10*second, 0),
	)
	w.requireClosed(t)
	before := w.take(t)
	assert.NotContains(t, treeOf(before), "cni.add")
	w.Tick(11 * second)
	assert.True(t, w.Empty(), "the next plugin may still come")
	w.Tick(11*second + 1)
	w.requireClosed(t)
	after := w.take(t)
	require.Len(t, after.spans, 1)
	assert.EqualValues(t, 6, before.counts[event.FamilyCNI]+after.counts[event.FamilyCNI])
	assert.Zero(t, w.Held())

	tree, add := treeOf(before), treeOf(after)["cni.add"]
	runner := tree["process.exec runner"]
	assert.Equal(t, withPod(attributes{
		"process.pid": int64(10), "process.executable.name": "runner", "tapio.cni.plugins": []any{"bridge", "portmap"}, "tapio.cni.netns.inode": int64(4026532000),
	}), attributes(add.Attributes))
	assert.Equal(t, "runner", add.Resource["service.name"])
	assert.Equal(t, wallTime(3*second), add.Start)
	assert.Equal(t, wallTime(10*second), add.End)
	assert.Equal(t, ptrace.SpanKindInternal, add.Kind)
	assert.Equal(t, ptrace.StatusCodeUnset, add.Status)
	assert.Equal(t, runner.span, add.parent)
	for name, parent := range map[string]pcommon.SpanID{
		"cni.plugin bridge":       add.span,
		"cni.plugin host-local":   tree["cni.plugin bridge"].span,
		"cni.plugin portmap":      add.span,
		"process.exec bridge":     tree["cni.plugin bridge"].span,
		"process.exec host-local": tree["cni.plugin host-local"].span,
	} {
		require.Contains(t, tree, name)
		assert.Equal(t, parent, tree[name].parent, name)
		assert.Equal(t, runner.trace, tree[name].trace, name)
	}
	bridge := tree["cni.plugin bridge"]
	assert.Equal(t, withPod(attributes{
		"process.pid": int64(20), "process.executable.name": "bridge", "process.parent_pid": int64(1), "process.vpid": int64(5),
		"process.user.id": int64(70000), "process.real_user.id": int64(1000), "process.creation.time": "2023-11-14T22:13:23Z",
		"tapio.cni.plugin.name": "bridge", "process.exit.code": int64(0), "tapio.cni.netns.inode": int64(4026532000),
	}), attributes(bridge.Attributes))
	assert.Equal(t, wallTime(3*second), bridge.Start)
	assert.Equal(t, wallTime(9*second), bridge.End)
	for _, log := range append(before.logs, after.logs...) {
		assert.NotEqual(t, "tapio.cni.failure", log.Name)
	}
}

// A program that a plugin starts in its own place is no plugin's first one.
func TestCNIPluginThatRunsAnotherProgramInItsPlace(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		pluginBegan(20, 3*second, 10, second, "/opt/cni/bin/script", withCommand("VERSION")...),
		execRecord(20, 3*second, 3*second, 0, "/bin/sh", "/", "sh"),
		execRecord(20, 3*second, 4*second, 0, "/bin/real", "/", "real"),
		pluginEnded(20, 3*second, 5*second, 0, ""), exitRecord(20, 3*second, 5*second, 0),
	)
	tree := treeOf(w.take(t))
	assert.Equal(t, tree["cni.version"].span, tree["cni.plugin script"].parent)
	assert.Equal(t, tree["cni.plugin script"].span, tree["process.exec sh"].parent)
	assert.Equal(t, tree["process.exec sh"].span, tree["process.exec real"].parent)
}

// A shell that a runner starts may run the plugin in its own place.
func TestCNIPluginInTheShellsPlace(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		execRecord(20, second, second, 0, "/bin/sh", "/", "sh"),
		pluginBeganIn(20, second, 3*second, 10, second, "/opt/cni/bin/real", withCommand("VERSION")...),
		execRecord(20, second, 3*second, 0, "/opt/cni/bin/real", "/", "real"),
		pluginEnded(20, second, 5*second, 0, ""), exitRecord(20, second, 5*second, 0),
	)
	tree := treeOf(w.take(t))
	require.Contains(t, tree, "cni.plugin real")
	assert.Equal(t, tree["cni.version"].span, tree["cni.plugin real"].parent)
	assert.Equal(t, tree["cni.plugin real"].span, tree["process.exec real"].parent)
}

// The first failure ends a chain, and its error is told at the plugin, at the operation and in a record.
func TestCNIFailure(t *testing.T) {
	const complaint = `{"cniVersion":"1.0.0","code":11,"msg":"no address, ask http://u:p@ipam/","details":"all taken"}`
	for _, tt := range []struct {
		name, output string
		status       uint32
		want         attributes
	}{
		{"by an error", complaint, failed, attributes{
			"process.exit.code": int64(1), "error.type": "try_again_later", "tapio.cni.error.code": int64(11),
			"tapio.cni.error.message": "no address, ask http://REDACTED:REDACTED@ipam/", "tapio.cni.error.details": "all taken",
		}},
		{"with the reason behind a colon", `{"code":999,"msg":"load service account token: open /run/token: no such file","details":"tried token=x twice"}`, failed, attributes{
			"process.exit.code": int64(1), "error.type": "internal", "tapio.cni.error.code": int64(999),
			"tapio.cni.error.message": "load service account token: open /run/token: no such file", "tapio.cni.error.details": "tried token=REDACTED twice",
		}},
		{"by text", "panic", 2 << 8, attributes{
			"process.exit.code": int64(2), "error.type": "exit_2", "tapio.cni.error.message": "panic", "tapio.cni.error.unparsed": true,
		}},
		{"without a word", "", 9, attributes{"tapio.process.exit.signal": "SIGKILL", "error.type": "SIGKILL"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(allSignals, 100)
			w.handle(succeed(20, 3*second, 4*second, "first", addVariables)...)
			w.handle(ranFrom(21, 4*second, 5*second, "second", addVariables, tt.status, tt.output)...)
			w.requireClosed(t)
			out := w.take(t)
			assert.Zero(t, w.Held(), "nothing is waited for")
			assert.EqualValues(t, 4, out.counts[event.FamilyCNI])
			tree := treeOf(out)
			add, second := tree["cni.add"], tree["cni.plugin second"]
			assert.Equal(t, ptrace.StatusCodeError, add.Status)
			assert.Equal(t, ptrace.StatusCodeError, second.Status)
			assert.Equal(t, ptrace.StatusCodeUnset, tree["cni.plugin first"].Status)
			assert.Equal(t, []any{"first", "second"}, add.Attributes["tapio.cni.plugins"])
			for key, value := range tt.want {
				assert.Equal(t, value, second.Attributes[key], key)
				if !strings.Contains(key, "exit") {
					assert.Equal(t, value, add.Attributes[key], key)
				}
			}
			require.Len(t, out.logs, 1)
			log := out.logs[0]
			assert.Equal(t, "tapio.cni.failure", log.Name)
			assert.Equal(t, plog.SeverityNumberError, log.Severity)
			assert.Equal(t, second.Attributes, log.Attributes)
			assert.Equal(t, second.ids, out.logIDs[0])
			assert.Equal(t, second.End, log.Time)
		})
	}
}

// A delegate that fails is not the end of what its plugin does.
func TestCNIDelegateFails(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		pluginBegan(20, 3*second, 10, second, "/opt/cni/bin/bridge", addVariables...),
		pluginBegan(21, 3*second, 20, 3*second, "/opt/cni/bin/host-local", addVariables...),
		pluginEnded(21, 3*second, 4*second, failed, ""),
		pluginEnded(20, 3*second, 5*second, 0, ""),
	)
	w.Tick(7 * second)
	out := w.take(t)
	tree := treeOf(out)
	assert.Equal(t, ptrace.StatusCodeError, tree["cni.plugin host-local"].Status)
	assert.Equal(t, ptrace.StatusCodeUnset, tree["cni.add"].Status)
	assert.NotContains(t, tree["cni.add"].Attributes, "error.type")
	assert.Len(t, out.logs, 1)
}

// What is one operation, and what is several.
func TestCNIOperations(t *testing.T) {
	add, del := withCommand("ADD"), withCommand("DEL")
	otherInterface := append(append([]string{}, add[:3]...), "CNI_IFNAME=eth1")
	for _, tt := range []struct {
		name    string
		records [][]byte
		want    []string // "command plugins"
	}{
		{"a chain", inTurn(succeed(20, 3*second, 4*second, "a", add), succeed(21, 4*second, 5*second, "b", add)), []string{"ADD [a b]"}},
		{"too late for the chain", inTurn(succeed(20, 3*second, 4*second, "a", add), succeed(21, 5*second+1, 6*second, "b", add)), []string{"ADD [a]", "ADD [b]"}},
		{"the same again", inTurn(succeed(20, 3*second, 4*second, "a", del), succeed(21, 4*second, 5*second, "a", del)), []string{"DEL [a]", "DEL [a]"}},
		{"after a failure", inTurn(ranFrom(20, 3*second, 4*second, "a", add, failed, ""), succeed(21, 4*second, 5*second, "b", add)), []string{"ADD [a]", "ADD [b]"}},
		{"another command", inTurn(succeed(20, 3*second, 4*second, "a", add), succeed(21, 4*second, 5*second, "b", del)), []string{"ADD [a]", "DEL [b]"}},
		{"another interface", inTurn(succeed(20, 3*second, 4*second, "a", add), succeed(21, 4*second, 5*second, "b", otherInterface)), []string{"ADD [a]", "ADD [b]"}},
		{"at the same time", [][]byte{
			pluginBegan(20, 3*second, 10, second, "/a", add...), pluginBegan(21, 3*second, 10, second, "/b", add...),
			pluginEnded(20, 3*second, 4*second, 0, ""), pluginEnded(21, 3*second, 4*second, 0, ""),
		}, []string{"ADD [a]", "ADD [b]"}},
		{"of other runners", [][]byte{
			pluginBegan(20, 3*second, 10, second, "/a", add...), pluginEnded(20, 3*second, 4*second, 0, ""),
			pluginBegan(21, 4*second, 11, second, "/b", add...), pluginEnded(21, 4*second, 4*second, 0, ""),
		}, []string{"ADD [a]", "ADD [b]"}},
		{"for no container", inTurn(succeed(20, 3*second, 4*second, "a", add[:1]), succeed(21, 4*second, 5*second, "b", add[:1])), []string{"ADD [a]", "ADD [b]"}},
		{"status", inTurn(succeed(20, 3*second, 4*second, "a", withCommand("STATUS")), succeed(21, 4*second, 5*second, "b", withCommand("STATUS"))), []string{"STATUS [a]", "STATUS [b]"}},
		{"versions", inTurn(succeed(20, 3*second, 4*second, "a", withCommand("VERSION")), succeed(21, 4*second, 5*second, "b", withCommand("VERSION"))), []string{"VERSION [a]", "VERSION [b]"}},
		{"what is no command", succeed(20, 3*second, 4*second, "a", withCommand("EXPLODE")), []string{"EXPLODE [a]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(allSignals, 100)
			w.handle(tt.records...)
			w.requireClosed(t)
			w.Tick(20 * second)
			w.requireClosed(t)
			assert.Zero(t, w.Held())
			var got []string
			traces := map[pcommon.TraceID]bool{}
			out := w.take(t)
			for i, span := range out.spans {
				if plugins, ok := span.Attributes["tapio.cni.plugins"]; ok {
					got = append(got, fmt.Sprintf("%v %v", span.Attributes["tapio.cni.command"], plugins))
					traces[out.spanIDs[i].trace] = true
					assert.True(t, out.parents[i].IsEmpty(), "nobody knows the runner")
				}
			}
			assert.ElementsMatch(t, tt.want, got)
			assert.Len(t, traces, len(tt.want))
			assert.Empty(t, w.cni.open)
			assert.Empty(t, w.cni.queue)
			assert.Empty(t, w.cni.runs)
		})
	}
}

func inTurn(a, b [][]byte) [][]byte { return append(append([][]byte{}, a...), b...) }

func TestCNISpanNames(t *testing.T) {
	for command, want := range map[string]string{
		"ADD": "cni.add", "DEL": "cni.del", "CHECK": "cni.check", "STATUS": "cni.status", "GC": "cni.gc", "VERSION": "cni.version",
		"add": "cni.other", "": "cni.other", "\xff": "cni.other",
	} {
		w := newWorld(allSignals, 100)
		w.handle(succeed(20, 3*second, 4*second, "a", []string{"CNI_COMMAND=" + command})...)
		assert.Contains(t, treeOf(w.take(t)), want, "%q", command)
	}
}

// Whether it is told depends on the signals that are wired; all is in the account.
func TestCNISignals(t *testing.T) {
	for _, tt := range []struct {
		name                           string
		signals                        Signals
		exported, aggregated, filtered uint64
		spans, logs                    int
	}{
		{"traces", Signals{Traces: true}, 5, 0, 0, 5, 0},
		{"logs", Signals{Logs: true}, 2, 0, 3, 0, 1},
		{"logs and metrics", Signals{Logs: true, Metrics: true}, 2, 3, 0, 0, 1},
		{"metrics", Signals{Metrics: true}, 0, 5, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.signals, 100)
			w.handle(
				pluginBegan(20, 3*second, 10, second, "/a", addVariables...), pluginBegan(21, 3*second, 20, 3*second, "/b", addVariables...),
				pluginEnded(21, 3*second, 4*second, failed, ""), pluginEnded(20, 3*second, 4*second, 0, ""),
				namespaceRecord(event.TypeCNINetnsMade, 10, second, 5*second, 7, 0),
			)
			w.Tick(20 * second)
			w.requireClosed(t)
			ended := w.ended(t)
			assert.EqualValues(t, tt.exported, w.Events())
			assert.Equal(t, tt.aggregated, ended.Aggregated)
			assert.Equal(t, tt.filtered, ended.Filtered)
			out := w.take(t)
			assert.Len(t, out.spans, tt.spans-boolToInt(tt.spans > 0))
			assert.Len(t, out.logs, tt.logs)
		})
	}
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// At the end, what has ended is told; what still runs is not.
func TestCNIFlush(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(succeed(20, 3*second, 4*second, "a", addVariables)...)
	w.handle(
		pluginBegan(21, 4*second, 10, second, "/b", addVariables...),
		pluginBegan(30, 4*second, 10, second, "/c", withCommand("CHECK")...),
	)
	w.Flush()
	w.requireClosed(t)
	tree := treeOf(w.take(t))
	assert.Contains(t, tree, "cni.add")
	assert.NotContains(t, tree, "cni.check")
	assert.Equal(t, 2, w.Held(), "these are lost with the shutdown")
}

// Ends that are never heard of, and more plugins than can be followed.
func TestCNIPluginsThatAreLost(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		pluginBegan(20, 3*second, 10, second, "/a", addVariables...), pluginBegan(21, 3*second, 20, 3*second, "/b", addVariables...),
		pluginBegan(20, 3*second, 10, second, "/a", withCommand("DEL")...), // the same process once more
	)
	w.requireClosed(t)
	w.Tick(3*second + 3600*second + 1)
	w.requireClosed(t)
	assert.Zero(t, w.Held())
	assert.Equal(t, map[string]uint64{"unreadable": 3}, w.ended(t).Lost)
	assert.Empty(t, w.cni.open)
	assert.Empty(t, w.cni.queue)

	for pid := uint32(100); pid < 100+maxRuns+2; pid++ {
		w.handle(pluginBegan(pid, 4000*second+uint64(pid), 10, second, "/a", addVariables...))
	}
	w.requireClosed(t)
	assert.Equal(t, maxRuns, w.Held())
	assert.EqualValues(t, 2, w.ended(t).Lost["table_full"])
}

func TestCNIManyOperationsThatWait(t *testing.T) {
	w := newWorld(allSignals, 100)
	for i := range uint32(maxOperations + 1) {
		variables := append([]string{fmt.Sprintf("CNI_CONTAINERID=%d", i)}, addVariables[:1]...)
		w.handle(succeed(100+i, 3*second, 3*second, "a", variables)...)
	}
	w.requireClosed(t)
	assert.Equal(t, 1, w.Held(), "all but the last were told early")
}

// An end whose beginning was lost tells what it can.
func TestCNIEndWithoutABeginning(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(pluginEnded(20, 3*second, 4*second, failed, "oh"))
	w.requireClosed(t)
	out := w.take(t)
	require.Len(t, out.spans, 1)
	assert.Equal(t, attributes{
		"process.pid": int64(20), "process.exit.code": int64(1), "error.type": "exit_1", "tapio.cni.error.message": "oh", "tapio.cni.error.unparsed": true,
	}, attributes(out.spans[0].Attributes))
	assert.Equal(t, wallTime(3*second), out.spans[0].Start)
	assert.True(t, out.parents[0].IsEmpty())
	assert.Len(t, out.logs, 1)
}

func TestCNITruncated(t *testing.T) {
	w := newWorld(allSignals, 100)
	cut := eventtest.Record(bpf.WireCniEnded{Header: headerOf(event.TypeCNIEnded, 20, second, 2*second), Began: second, Status: failed, OutputSize: 9, Captured: 2}, []byte("oh"))
	missed := func(status uint32) []byte {
		return eventtest.Record(bpf.WireCniEnded{Header: headerOf(event.TypeCNIEnded, 20, second, 2*second), Began: second, Status: status, Flags: event.CNIOutputMissed})
	}
	for _, record := range [][]byte{cut, missed(failed), pluginEnded(20, second, 2*second, failed, `{"code":5,"msg":"di`)} {
		w.handle(record)
		assert.Equal(t, true, w.take(t).spans[0].Attributes["tapio.cni.truncated"])
	}
	w.handle(missed(0))
	assert.NotContains(t, w.take(t).spans[0].Attributes, "tapio.cni.truncated")
}

func TestCNINamespaces(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(
		execRecord(10, second, second, 0, "/usr/bin/runner", "/", "runner"),
		namespaceRecord(event.TypeCNINetnsMade, 10, second, 2*second, 4026532000, 0),
		namespaceRecord(event.TypeCNINetnsMade, 10, second, 3*second, 0, 28),
		pluginBegan(20, 3*second, 10, second, "/a", addVariables...),
		pluginEndedIn(20, 3*second, 4*second, 0, "", 4026532000),
		namespaceRecord(event.TypeCNINetnsRemoved, 0, 0, 5*second, 4026532000, 0),
		namespaceRecord(event.TypeCNINetnsRemoved, 0, 0, 6*second, 4026532000, 0),
		exitRecord(10, second, 7*second, 0),
	)
	w.requireClosed(t)
	out := w.take(t)
	var created, deleted []treeSpan
	for i, span := range out.spans {
		s := treeSpan{span, out.spanIDs[i], out.parents[i]}
		switch span.Name {
		case "cni.netns.create":
			created = append(created, s)
		case "cni.netns.delete":
			deleted = append(deleted, s)
		}
	}
	require.Len(t, created, 2)
	require.Len(t, deleted, 2)
	runner := treeOf(out)["process.exec runner"]
	assert.Equal(t, runner.span, created[0].parent)
	assert.EqualValues(t, int64(4026532000), created[0].Attributes["tapio.cni.netns.inode"])
	assert.Equal(t, "runner", created[0].Attributes["process.executable.name"])
	assert.Equal(t, created[0].Start, created[0].End)
	assert.Equal(t, ptrace.StatusCodeError, created[1].Status)
	assert.Equal(t, "ENOSPC", created[1].Attributes["error.type"])
	assert.NotContains(t, created[1].Attributes, "tapio.cni.netns.inode")
	assert.Equal(t, attributes{"tapio.cni.netns.inode": int64(4026532000), "tapio.cni.netns.path": "/run/netns/x", "tapio.cni.netns.age": 1.0}, attributes(deleted[0].Attributes))
	assert.NotContains(t, deleted[1].Attributes, "tapio.cni.netns.path", "it is another one's by now")
	failures := 0
	for i, log := range out.logs {
		if log.Name == "tapio.cni.netns.failure" {
			failures++
			assert.Equal(t, created[1].ids, out.logIDs[i])
			assert.Equal(t, created[1].Attributes, log.Attributes)
		}
	}
	assert.Equal(t, 1, failures)
}

func TestCNIMetrics(t *testing.T) {
	w := newWorld(Signals{Metrics: true}, 100)
	w.handle(succeed(20, 3*second, 3*second+300*ms, "a", addVariables)...)
	w.handle(ranFrom(21, 4*second, 6*second, "b", withCommand("EXPLODE"), failed, `{"code":7}`)...)
	w.handle(namespaceRecord(event.TypeCNINetnsMade, 10, second, 2*second, 4026532000, 0))
	w.Tick(20 * second)
	metrics, ok := w.Metrics(wallTime(20 * second))
	require.True(t, ok)
	got := map[string]float64{}
	for _, of := range metrics.ResourceMetrics().All() {
		for _, metric := range of.ScopeMetrics().At(0).Metrics().All() {
			if !strings.HasPrefix(metric.Name(), "tapio.cni.") {
				continue
			}
			if metric.Type() == pmetric.MetricTypeSum {
				for _, point := range metric.Sum().DataPoints().All() {
					got[fmt.Sprint(metric.Name(), " ", point.Attributes().AsRaw())] = float64(point.IntValue())
				}
				continue
			}
			for _, point := range metric.Histogram().DataPoints().All() {
				got[fmt.Sprint(metric.Name(), " ", point.Attributes().AsRaw())] = point.Sum()
			}
		}
	}
	assert.Equal(t, map[string]float64{
		"tapio.cni.plugin.duration map[tapio.cni.command:ADD tapio.cni.plugin.name:a]":                                      0.3,
		"tapio.cni.plugin.duration map[error.type:invalid_network_config tapio.cni.command:_OTHER tapio.cni.plugin.name:b]": 2,
		"tapio.cni.plugin.failures map[error.type:invalid_network_config tapio.cni.command:_OTHER tapio.cni.plugin.name:b]": 1,
		"tapio.cni.operation.duration map[tapio.cni.command:ADD]":                                                           0.3,
		"tapio.cni.operation.duration map[error.type:invalid_network_config tapio.cni.command:_OTHER]":                      2,
		"tapio.cni.netns.changes map[tapio.cni.netns.change:create]":                                                        1,
	}, got)
}
