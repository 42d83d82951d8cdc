// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapio-io/otelcol-tapio/test/etcdserver"
)

// collector is the built one, with the default pipeline and an exporter that Prometheus asks.
type collector struct {
	own, data string // host:port of its own metrics, and of those of what it sees
}

// startCollector returns when it is ready. What is different is in testdata.
func startCollector(t *testing.T, different string, environment ...string) collector {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join(root, "bin", "otelcol-tapio"))
	require.NoError(t, err)
	require.FileExists(t, binary, "run make build first")
	own, data, stats := freePort(t), freePort(t), freePort(t)
	command := exec.Command(binary, "--config", filepath.Join(root, "otelcol-config.yaml"), "--config", filepath.Join("testdata", different))
	command.Env = append(os.Environ(), "TAPIO_DATA="+t.TempDir(), "TAPIO_OWN_PORT="+own, "TAPIO_DATA_PORT="+data, "TAPIO_STATS_PORT="+stats,
		"TAPIO_OTLP_PORT="+freePort(t), "TAPIO_NOBODYS_PORT="+freePort(t))
	command.Env = append(command.Env, environment...)
	hasEnded := start(t, command)
	require.True(t, eventually(func() bool { return isReady(stats) || hasEnded() }), "the collector of %s is not ready", different)
	require.False(t, hasEnded(), "the collector of %s has ended", different)
	return collector{own: "127.0.0.1:" + own, data: "127.0.0.1:" + data}
}

func isReady(port string) bool {
	response, err := http.Get("http://127.0.0.1:" + port + "/readyz")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// startSimulated has all that a simulator can tell, two nodes, and exporters whose other side does not take anything.
func startSimulated(t *testing.T) collector {
	return startCollector(t, "simulated.yaml", "TAPIO_SCOPE=")
}

// node is this machine, as far as it is in a cgroup of the test's own: with an etcd and plugins.
type node struct {
	t      *testing.T
	cgroup *os.File
	etcd   *etcdserver.Server
	client *clientv3.Client
}

// startNode has what only a kernel can tell, again and again until the test ends.
func startNode(t *testing.T) collector {
	t.Helper()
	n := &node{t: t}
	scope := n.makeCgroup()
	plugins := n.writePlugins()
	client, peer, absent := freePort(t), freePort(t), freePort(t)
	n.etcd = etcdserver.Start(t, etcdserver.Options{Client: "127.0.0.1:" + client, Peer: "127.0.0.1:" + peer, Prepare: n.place})
	c := startCollector(t, "node.yaml", "TAPIO_SCOPE="+scope, "TAPIO_PLUGINS="+plugins,
		"TAPIO_ETCD_CLIENT_PORT="+client, "TAPIO_ETCD_PEER_PORT="+peer, "TAPIO_ETCD_ABSENT_PORT="+absent)
	n.client = n.etcd.NewClient()
	_, err := n.client.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:" + absent})
	require.NoError(t, err)
	n.live(plugins)
	return c
}

// live until the test ends.
func (n *node) live(plugins string) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	n.t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
				n.act(plugins, i)
			}
		}
	}()
}

// act once. What goes wrong is seen in what is missing.
func (n *node) act(plugins string, i int) {
	for _, plugin := range []string{"works", "fails"} {
		command := exec.Command(filepath.Join(plugins, plugin))
		command.Env = []string{"CNI_COMMAND=ADD", fmt.Sprintf("CNI_CONTAINERID=%s-%d", plugin, i), "CNI_NETNS=/run/netns/none", "CNI_IFNAME=eth0"}
		n.run(command)
	}
	n.run(exec.Command("unshare", "--net", "true"))
	_, _ = n.client.Put(n.t.Context(), fmt.Sprintf("/registry/configmaps/shop/%d", i%3), "value")
}

func (n *node) run(command *exec.Cmd) {
	n.place(command)
	_ = command.Run()
}

// place has the process begin its life in the node's cgroup.
func (n *node) place(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(n.cgroup.Fd())}
}

// writePlugins of the container network interface, one of which fails.
func (n *node) writePlugins() (folder string) {
	folder = n.t.TempDir()
	for name, script := range map[string]string{
		"works": `echo '{"cniVersion":"1.0.0"}'`,
		"fails": `echo '{"cniVersion":"1.0.0","code":11,"msg":"not yet"}'; exit 1`,
	} {
		require.NoError(n.t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	return folder
}

func (n *node) makeCgroup() (scope string) {
	mount, err := cgroup2Mount()
	require.NoError(n.t, err)
	folder, err := os.MkdirTemp(mount, "tapio-prometheus-")
	require.NoError(n.t, err)
	n.t.Cleanup(func() {
		require.True(n.t, eventually(func() bool { return syscall.Rmdir(folder) == nil }), "remove %s", folder)
	})
	n.cgroup, err = os.Open(folder)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { n.cgroup.Close() })
	return strings.TrimPrefix(folder, mount)
}

func cgroup2Mount() (string, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted")
}
