// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package kubernetes runs the built collector on a real node of Kubernetes.
package kubernetes

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

const (
	patience     = 90 * time.Second // the receiver waits up to a minute between attempts
	pollInterval = 100 * time.Millisecond

	podsPath = "/api/v1/namespaces/default/pods"
)

//go:embed testdata/config.yaml
var config string

// TestAgent: the collector observes the pods of a node, and knows the API server. That dies while events are
// under way, and comes back: nothing is lost, what has a name keeps it, what began meanwhile gets one.
func TestAgent(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	node := cluster.StartNode(t)
	agent := startAgent(t, node)
	node.Do(t, http.MethodPost, podsPath, manifestOf("before"))
	agent.awaitExecutions(t, "before", 10)
	agent.requireNames(t, "before")
	require.Eventually(t, func() bool { return agent.stats(t).Kubernetes.Pods == 1 }, patience, pollInterval)

	node.Kill()
	killed := len(agent.executions(t, "before"))
	require.Eventually(t, func() bool { return agent.stats(t).Kubernetes.Error != "" }, patience, pollInterval)
	assert.Equal(t, 1, agent.stats(t).Kubernetes.Pods, "what was known stays")
	code, body := agent.get(t, "/readyz")
	assert.Equal(t, http.StatusOK, code, body)
	node.RunStatic(t, "meanwhile", manifestOf("meanwhile"))
	agent.awaitExecutions(t, "meanwhile", 20)
	agent.awaitExecutions(t, "before", killed+20)

	node.Restart(t)
	require.Eventually(t, func() bool { return agent.stats(t).Kubernetes.Error == "" }, patience, pollInterval, "it does not watch again")
	node.Do(t, http.MethodPost, podsPath, manifestOf("after"))
	agent.awaitExecutions(t, "after", 10)
	agent.requireNames(t, "after")
	require.Eventually(t, func() bool {
		kubernetes := agent.stats(t).Kubernetes
		return kubernetes.Error == "" && kubernetes.Pods == 3 && kubernetes.Synced
	}, patience, pollInterval)
	require.Eventually(t, func() bool {
		all := agent.executions(t, "meanwhile")
		return all[len(all)-1].resource["k8s.pod.name"] != nil
	}, patience, pollInterval, "its name is known at last")
	agent.stop(t)

	agent.requireAll(t, "before", "before", 1)
	agent.requireAll(t, "after", "after", 1)
	inTheDark := agent.unnamed(t, "meanwhile")
	assert.GreaterOrEqual(t, inTheDark, 20, "there was nobody to ask")
	agent.requireAll(t, "meanwhile", "meanwhile-"+cluster.NodeName, inTheDark+1)
	agent.requireReplay(t)
}

// manifestOf a pod that begins to count, some dozens of programs a second, each with its number as an argument.
func manifestOf(name string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "namespace": "default", "labels": {"team": "blue"}},
		"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": %q, "imagePullPolicy": "Never",
		"command": ["sh", "-c", "n=0; while :; do n=$((n+1)); /bin/echo %s-$n; sleep 0.03; done"]}]}}`, name, cluster.Image, name)
}

type agent struct {
	command  *exec.Cmd
	log      bytes.Buffer
	ended    chan struct{}
	data     string // folder
	output   string
	statsURL string
}

type stats struct {
	Ledger map[string]struct {
		Seen, Exported uint64
		Lost           map[string]uint64
	}
	Kubernetes struct {
		Synced bool
		Pods   int
		Error  string
	}
}

// startAgent has the node's containers in scope, and waits until it is ready and knows its pods.
func startAgent(t *testing.T, node *cluster.Node) *agent {
	t.Helper()
	a := start(t, []string{"TAPIO_SCOPE=" + node.Scope, "TAPIO_KUBECONFIG=" + node.Kubeconfig(t, cluster.Admin)})
	require.Eventually(t, func() bool { return a.isReady() && a.stats(t).Kubernetes.Synced }, patience, pollInterval, "the collector does not become ready")
	return a
}

// start runs the collector with the config, and changes to it as the flag --config takes them.
func start(t *testing.T, environment []string, changes ...string) *agent {
	t.Helper()
	return startWith(t, config, environment, changes...)
}

// startWith another config. What begins as a flag is one.
func startWith(t *testing.T, config string, environment []string, changes ...string) *agent {
	t.Helper()
	binary, err := filepath.Abs("../../bin/otelcol-tapio")
	require.NoError(t, err)
	require.FileExists(t, binary, "make build")
	data, port := t.TempDir(), freePort(t)
	file := filepath.Join(data, "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	arguments := []string{"--config", file}
	for _, change := range changes {
		if !strings.HasPrefix(change, "--") {
			change = "--config=yaml:" + change
		}
		arguments = append(arguments, change)
	}
	a := &agent{
		command: exec.Command(binary, arguments...), ended: make(chan struct{}),
		data: data, output: filepath.Join(data, "data.jsonl"), statsURL: "http://127.0.0.1:" + strconv.Itoa(port),
	}
	a.command.Env = append(append(os.Environ(), "TAPIO_DATA="+data, "TAPIO_STATS_PORT="+strconv.Itoa(port)), environment...)
	a.command.Stderr = &a.log
	a.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, a.command.Start())
	go func() {
		defer close(a.ended)
		_ = a.command.Wait()
	}()
	t.Cleanup(func() { a.end(t) })
	return a
}

func freePort(t *testing.T) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (a *agent) end(t *testing.T) {
	_ = a.command.Process.Kill()
	<-a.ended
	if t.Failed() {
		t.Logf("the collector's log:\n%s", &a.log)
	}
}

func (a *agent) isReady() bool {
	response, err := http.Get(a.statsURL + "/readyz")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (a *agent) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get(a.statsURL + path)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func (a *agent) stats(t *testing.T) (s stats) {
	t.Helper()
	_, body := a.get(t, "/stats")
	require.NoError(t, json.Unmarshal([]byte(body), &s), body)
	return s
}

// execution is the event of one of a pod's programs.
type execution struct {
	number   int
	resource map[string]any
}

// awaitExecutions waits until as many of a pod are exported.
func (a *agent) awaitExecutions(t *testing.T, pod string, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(a.executions(t, pod)) >= n }, patience, pollInterval, "%s is not observed", pod)
}

// executions of a pod that are exported, by their numbers.
func (a *agent) executions(t *testing.T, pod string) (found []execution) {
	t.Helper()
	output, err := os.ReadFile(a.output)
	if err != nil {
		return nil // it is not there yet
	}
	for line := range bytes.Lines(output) {
		isWhole := bytes.HasSuffix(line, []byte("\n"))
		if !isWhole || !bytes.HasPrefix(line, []byte(`{"resourceLogs"`)) || !bytes.Contains(line, []byte(`"`+pod+"-")) {
			continue
		}
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(line)
		require.NoError(t, err)
		for _, of := range logs.ResourceLogs().All() {
			for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
				if number, ok := numberOf(record, pod); ok {
					found = append(found, execution{number, of.Resource().Attributes().AsRaw()})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b execution) int { return a.number - b.number })
	return found
}

func numberOf(record plog.LogRecord, pod string) (int, bool) {
	arguments, ok := record.Attributes().Get("process.command_args")
	if !ok || record.EventName() != "tapio.process.exec" || arguments.Slice().Len() != 2 {
		return 0, false
	}
	number, ok := strings.CutPrefix(arguments.Slice().At(1).Str(), pod+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil
}

// requireNames: the pod's processes have the pod's names, and what was asked for of its labels.
func (a *agent) requireNames(t *testing.T, pod string) {
	t.Helper()
	resource := a.executions(t, pod)[0].resource
	for key, want := range map[string]any{
		"k8s.pod.name": pod, "k8s.namespace.name": "default", "k8s.node.name": cluster.NodeName, "k8s.pod.label.team": "blue",
		"service.name": pod, "service.namespace": "default", "container.runtime.name": "containerd", "host.name": cluster.NodeName,
	} {
		assert.Equal(t, want, resource[key], key)
	}
	assert.Len(t, resource["container.id"], 64)
	assert.NotEmpty(t, resource["k8s.pod.uid"])
	require.Eventually(t, func() bool {
		all := a.executions(t, pod)
		resource = all[len(all)-1].resource
		return resource["k8s.container.name"] != nil
	}, patience, pollInterval, "the kubelet tells the container's id some time after its start")
	assert.Equal(t, "app", resource["k8s.container.name"])
	image, tag, _ := strings.Cut(cluster.Image, ":")
	assert.Equal(t, image, resource["container.image.name"])
	assert.Equal(t, []any{tag}, resource["container.image.tags"])
}

// unnamed is how many of a pod's programs went out before its name was known.
func (a *agent) unnamed(t *testing.T, pod string) (n int) {
	for _, e := range a.executions(t, pod) {
		if e.resource["k8s.pod.name"] == nil {
			assert.NotEmpty(t, e.resource["k8s.pod.uid"])
			assert.Len(t, e.resource["container.id"], 64)
			n++
		}
	}
	return n
}

// requireAll: no execution of the pod is missing, and from one number on all have its name.
func (a *agent) requireAll(t *testing.T, pod, name string, named int) {
	t.Helper()
	all := a.executions(t, pod)
	for i, e := range all {
		require.Equal(t, i+1, e.number, "%s: each is there, once", pod)
		if e.number >= named {
			require.Equal(t, name, e.resource["k8s.pod.name"], "%s: number %d", pod, e.number)
		}
	}
	t.Logf("%s: %d executions, all of them exported, named from number %d on", pod, len(all), named)
}

// requireReplay plays what was recorded, without a kernel and without an API server: each execution has the names
// that it had.
func (a *agent) requireReplay(t *testing.T) {
	t.Helper()
	played := start(t, []string{"TAPIO_SCOPE=", "TAPIO_KUBECONFIG="}, "receivers::tapioebpf::source: replay", `receivers::tapioebpf::recording::file: ""`,
		fmt.Sprintf("receivers::tapioebpf::replay: {file: %s, speed: 0}", filepath.Join(a.data, "recording")))
	for _, pod := range []string{"before", "meanwhile", "after"} {
		want := a.executions(t, pod)
		played.awaitExecutions(t, pod, len(want))
		got := played.executions(t, pod)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, "replay", got[i].resource["tapio.source"])
			got[i].resource["tapio.source"] = got[i].resource["tapio.replay.source"] // what was recorded
			delete(got[i].resource, "tapio.replay.source")
			require.Equal(t, want[i], got[i], pod)
		}
	}
}

// stop also sees to it that nothing was lost.
func (a *agent) stop(t *testing.T) {
	for family, row := range a.stats(t).Ledger {
		assert.Empty(t, row.Lost, family)
	}
	require.NoError(t, a.command.Process.Signal(syscall.SIGTERM))
	<-a.ended
	assert.True(t, a.command.ProcessState.Success(), a.command.ProcessState)
}
