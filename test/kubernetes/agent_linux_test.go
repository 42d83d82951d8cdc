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
	pollInterval = 20 * time.Millisecond

	podsPath = "/api/v1/namespaces/default/pods"
)

//go:embed testdata/config.yaml
var config string

// TestAgent: the collector observes the pods of a node, and knows the API server, also one that dies.
func TestAgent(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	node := cluster.StartNode(t)
	agent := startAgent(t, node)
	runPod(t, node, "before")
	agent.awaitExec(t, "before")
	agent.requireNames(t, "before")
	require.Eventually(t, func() bool { return agent.stats(t).Kubernetes.Pods == 1 }, patience, pollInterval)

	node.Kill()
	require.Eventually(t, func() bool { return agent.stats(t).Kubernetes.Error != "" }, patience, pollInterval)
	assert.Equal(t, 1, agent.stats(t).Kubernetes.Pods, "what was known stays")
	code, body := agent.get(t, "/readyz")
	assert.Equal(t, http.StatusOK, code, body)

	node.Restart(t)
	runPod(t, node, "after")
	agent.awaitExec(t, "after")
	agent.requireNames(t, "after")
	require.Eventually(t, func() bool {
		kubernetes := agent.stats(t).Kubernetes
		return kubernetes.Error == "" && kubernetes.Pods == 2 && kubernetes.Synced
	}, patience, pollInterval)
	agent.stop(t)
}

// runPod has a process that can be told from others by its arguments.
func runPod(t *testing.T, node *cluster.Node, name string) {
	node.Do(t, http.MethodPost, podsPath, fmt.Sprintf(`{"metadata": {"name": %q, "labels": {"team": "blue"}}, "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
		"containers": [{"name": "app", "image": %q, "imagePullPolicy": "Never", "command": ["sh", "-c", "echo %s; sleep 1000"]}]}}`, name, cluster.Image, name))
}

type agent struct {
	command  *exec.Cmd
	log      bytes.Buffer
	ended    chan struct{}
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
	binary, err := filepath.Abs("../../bin/otelcol-tapio")
	require.NoError(t, err)
	require.FileExists(t, binary, "make build")
	data, port := t.TempDir(), freePort(t)
	file := filepath.Join(data, "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	a := &agent{
		command: exec.Command(binary, "--config", file), ended: make(chan struct{}),
		output: filepath.Join(data, "data.jsonl"), statsURL: "http://127.0.0.1:" + strconv.Itoa(port),
	}
	a.command.Env = append(os.Environ(), "TAPIO_SCOPE="+node.Scope, "TAPIO_DATA="+data, "TAPIO_STATS_PORT="+strconv.Itoa(port),
		"TAPIO_KUBECONFIG="+node.Kubeconfig(t, cluster.Admin))
	a.command.Stderr = &a.log
	a.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, a.command.Start())
	go func() {
		defer close(a.ended)
		_ = a.command.Wait()
	}()
	t.Cleanup(func() { a.end(t) })
	require.Eventually(t, func() bool { return a.isReady() && a.stats(t).Kubernetes.Synced }, patience, pollInterval, "the collector does not become ready")
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

// awaitExec waits for the event of a pod's process in what is exported.
func (a *agent) awaitExec(t *testing.T, pod string) {
	t.Helper()
	require.Eventually(t, func() bool {
		output, err := os.ReadFile(a.output)
		return err == nil && strings.Contains(string(output), "echo "+pod+"; sleep 1000")
	}, patience, pollInterval, "%s is not observed", pod)
}

// requireNames: the pod's process has the pod's names, and what was asked for of its labels.
func (a *agent) requireNames(t *testing.T, pod string) {
	t.Helper()
	var resource map[string]any
	require.Eventually(t, func() bool {
		resource = a.resourceOf(t, "echo "+pod+"; sleep 1000")
		return resource != nil
	}, patience, pollInterval, "a whole line of %s", pod)
	for key, want := range map[string]any{
		"k8s.pod.name": pod, "k8s.namespace.name": "default", "k8s.node.name": cluster.NodeName, "k8s.pod.label.team": "blue",
		"service.name": pod, "service.namespace": "default", "container.runtime.name": "containerd", "host.name": cluster.NodeName,
	} {
		assert.Equal(t, want, resource[key], key)
	}
	assert.Len(t, resource["container.id"], 64)
	assert.NotEmpty(t, resource["k8s.pod.uid"])
	if name, ok := resource["k8s.container.name"]; ok { // the kubelet may tell the container's id too late
		assert.Equal(t, "app", name)
	}
}

// resourceOf the log record of an exec with this in its arguments; nil: it is not written, or not whole.
func (a *agent) resourceOf(t *testing.T, argument string) map[string]any {
	t.Helper()
	output, err := os.ReadFile(a.output)
	require.NoError(t, err)
	for line := range bytes.Lines(output) {
		if !bytes.HasPrefix(line, []byte(`{"resourceLogs"`)) || !bytes.Contains(line, []byte(argument)) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(line)
		require.NoError(t, err)
		for _, of := range logs.ResourceLogs().All() {
			for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
				if arguments, ok := record.Attributes().Get("process.command_args"); ok && strings.Contains(arguments.AsString(), argument) {
					return of.Resource().Attributes().AsRaw()
				}
			}
		}
	}
	return nil
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
