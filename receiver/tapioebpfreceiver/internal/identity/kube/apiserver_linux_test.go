// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

const (
	podsPath     = "/api/v1/namespaces/default/pods"
	servicesPath = "/api/v1/namespaces/default/services"

	await = 90 * time.Second // the informer waits up to a minute between attempts
	poll  = time.Millisecond
)

// TestKubernetes watches a real API server.
func TestKubernetes(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	lab := &apiServer{ControlPlane: cluster.StartControlPlane(t)}
	t.Run("RBAC", lab.testRBAC)
	t.Run("bad token", lab.testBadToken)
	lab.fill(t)
	t.Run("many", lab.testMany)
	t.Run("heap", lab.testHeap)
	t.Run("endpoints", lab.testEndpoints)
	t.Run("visible soon", lab.testVisibleSoon)
	t.Run("churn", lab.testChurn)
	t.Run("cut off", lab.testCutOff)
	t.Run("slow", lab.testSlow)
	t.Run("killed under load", lab.testKilled)
}

// The cluster. What a watcher costs depends on its own node's pods and on all Services, but hardly on
// the other nodes.
const (
	localPods   = 250
	foreignPods = 3000
	otherNodes  = 300
	allServices = 10_000
)

type apiServer struct{ *cluster.ControlPlane }

// fill makes pods and Services, many at a time.
func (a *apiServer) fill(t *testing.T) {
	begin := time.Now()
	parallel(t, foreignPods, func(i int) error {
		_, err := a.CreatePod(fmt.Sprintf("foreign-%d", i), fmt.Sprintf("node-%d", 2+i%otherNodes))
		return err
	})
	parallel(t, localPods, func(i int) error { return a.run(fmt.Sprintf("local-%d", i)) })
	a.MakeServices(t, allServices)
	t.Logf("%d pods and %d Services took %s", foreignPods+localPods, allServices, time.Since(begin).Round(time.Second))
}

func parallel(t *testing.T, n int, act func(i int) error) {
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := act(i); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	require.Zero(t, failed.Load())
}

// run makes a pod of node-1 whose container has started, as a kubelet would. Its id is containerID(name).
func (a *apiServer) run(name string) error {
	if _, err := a.CreatePod(name, "node-1"); err != nil {
		return err
	}
	return a.ReportRunning(name, containerID(name))
}

func containerID(pod string) string { return strings.Repeat("0", 64-len(pod)) + pod }

// newWatcher starts a watcher, until the test ends.
func newWatcher(t *testing.T, kubeconfig string, change ...func(*Options)) *Watcher {
	options := Options{AuthType: AuthKubeConfig, Kubeconfig: kubeconfig, NodeName: "node-1", Services: true, UserAgent: "otelcol-tapio/test"}
	for _, c := range change {
		c(&options)
	}
	w, err := New(options, zaptest.NewLogger(t))
	require.NoError(t, err)
	w.Start()
	t.Cleanup(w.Shutdown)
	return w
}

func awaitSynced(t *testing.T, w *Watcher) {
	t.Helper()
	require.Eventually(t, func() bool { return w.Status().Synced && w.Status().Err == nil }, await, poll)
}

func knows(w *Watcher, pod string) bool {
	found, container := w.Container(containerID(pod))
	return found != nil && found.Name == pod && container.Name == "app"
}

func (a *apiServer) testMany(t *testing.T) {
	told := make(chan error, 2)
	w := newWatcher(t, a.Kubeconfig(t, cluster.Agent), func(o *Options) { o.OnSynced = func() { told <- nil } })
	awaitSynced(t, w)
	require.NoError(t, receive(t, told))
	for i := range localPods {
		assert.True(t, knows(w, fmt.Sprintf("local-%d", i)), i)
	}
	assert.Equal(t, localPods, w.Status().Pods, "no pod of another node")
	assert.GreaterOrEqual(t, w.Status().ServiceAddresses, allServices)
	assert.Equal(t, Peer{Kind: PeerService, Name: "kubernetes", Namespace: "default"}, w.Peer(netip.MustParseAddr("10.96.0.1")))
	assert.Equal(t, Peer{Kind: PeerNode, Name: "node-1"}, w.Peer(netip.MustParseAddr("192.168.0.9")))
}

func (a *apiServer) testHeap(t *testing.T) {
	kubeconfig := a.Kubeconfig(t, cluster.Agent)
	before := liveHeap()
	peak, stop := watchPeak()
	w := newWatcher(t, kubeconfig)
	awaitSynced(t, w)
	stop()
	held := liveHeap() - before
	t.Logf("heap of the watcher with %d pods and %d Services: %.1f MiB, at its peak %.1f MiB",
		localPods, allServices, mib(held), mib(peak.Load()-before))
	assert.Less(t, mib(held), 40.0)
	assert.Less(t, mib(peak.Load()-before), 40.0)
	assert.Equal(t, localPods, w.Status().Pods)
}

// testEndpoints has the role in the README, which allows EndpointSlices only if they are asked for.
func (a *apiServer) testEndpoints(t *testing.T) {
	const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
	slice := func(name, labels, address string) {
		a.Do(t, http.MethodPost, slicesPath, fmt.Sprintf(`{"metadata": {"name": %q, "labels": {%s}},
			"addressType": "IPv4", "ports": [], "endpoints": [{"addresses": [%q]}]}`, name, labels, address))
	}
	slice("db-1", `"kubernetes.io/service-name": "db", "service.kubernetes.io/headless": ""`, "10.1.0.1")
	slice("web-1", `"kubernetes.io/service-name": "web"`, "10.1.0.2")
	w := newWatcher(t, a.Kubeconfig(t, cluster.Agent), func(o *Options) { o.EndpointSlices = true })
	require.Eventually(t, func() bool { return w.Status().Err != nil }, await, poll)
	assert.ErrorContains(t, w.Status().Err, ` endpointslices: endpointslices.discovery.k8s.io is forbidden`)
	assert.ErrorContains(t, w.Status().Err, `the agent's ClusterRole must allow the verbs list and watch on endpointslices`)

	w = newWatcher(t, a.Kubeconfig(t, cluster.Admin), func(o *Options) { o.EndpointSlices = true })
	awaitSynced(t, w)
	assert.Equal(t, Peer{Kind: PeerService, Name: "db", Namespace: "default"}, w.Peer(netip.MustParseAddr("10.1.0.1")))
	assert.Equal(t, PeerNone, w.Peer(netip.MustParseAddr("10.1.0.2")).Kind, "its Service has an address of its own")
	slice("db-2", `"kubernetes.io/service-name": "db", "service.kubernetes.io/headless": ""`, "10.1.0.3")
	require.Eventually(t, func() bool { return w.Peer(netip.MustParseAddr("10.1.0.3")).Name == "db" }, await, poll)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	return heap()
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// watchPeak has the most that the heap had, garbage included.
func watchPeak() (peak *atomic.Int64, stop func()) {
	peak = &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			peak.Store(max(peak.Load(), heap()))
			<-ticker.C
		}
	})
	return peak, func() { cancel(); running.Wait() }
}

func (a *apiServer) testVisibleSoon(t *testing.T) {
	w := newWatcher(t, a.Kubeconfig(t, cluster.Agent))
	awaitSynced(t, w)
	var delays []time.Duration
	for i := range 100 {
		name := fmt.Sprintf("soon-%d", i)
		require.NoError(t, a.run(name))
		begin := time.Now() // the API server has answered
		require.Eventually(t, func() bool { return knows(w, name) }, await, 100*time.Microsecond)
		delays = append(delays, time.Since(begin))
		require.NoError(t, a.DeletePod(name))
	}
	slices.Sort(delays)
	t.Logf("a container is known after its status was posted: median %s, p99 %s", delays[50], delays[98])
	assert.Less(t, delays[50], 100*time.Millisecond)
}

// testChurn has 50 pods a second that live for 200 ms.
func (a *apiServer) testChurn(t *testing.T) {
	w := newWatcher(t, a.Kubeconfig(t, cluster.Agent))
	awaitSynced(t, w)
	const n = 500
	made := a.churn(t, n, "churn")
	for _, name := range made {
		require.Eventually(t, func() bool { return knows(w, name) }, await, poll, name)
	}
	assert.Len(t, made, n)
	assert.NoError(t, w.Status().Err)
}

// churn makes pods, 50 a second, each of which ends 200 ms after it was made, and returns the names of
// those that the API server took.
func (a *apiServer) churn(t *testing.T, n int, prefix string) (made []string) {
	var mu sync.Mutex
	var lives sync.WaitGroup
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	begin := time.Now()
	for i := range n {
		<-ticker.C
		name := fmt.Sprintf("%s-%d", prefix, i)
		lives.Go(func() {
			end := time.After(200 * time.Millisecond)
			err := a.run(name)
			<-end
			if err == nil && a.DeletePod(name) == nil {
				mu.Lock()
				defer mu.Unlock()
				made = append(made, name)
			}
		})
	}
	lives.Wait()
	t.Logf("%d pods in %s", len(made), time.Since(begin).Round(100*time.Millisecond))
	return made
}

// testKilled kills the API server while pods come and go, and starts it again.
func (a *apiServer) testKilled(t *testing.T) {
	told := make(chan error, 100)
	w := newWatcher(t, a.Kubeconfig(t, cluster.Agent), func(o *Options) { o.OnStatus = func(err error) { told <- err } })
	awaitSynced(t, w)
	var load sync.WaitGroup
	load.Go(func() { a.churn(t, 300, "during") })
	require.Eventually(t, func() bool { return knows(w, "during-20") }, await, poll)
	a.Kill()
	require.Error(t, receive(t, told))
	assert.True(t, knows(w, "local-7"), "what was known stays")
	assert.Equal(t, PeerService, w.Peer(netip.MustParseAddr("10.96.0.1")).Kind)
	load.Wait()
	a.Restart(t)
	require.NoError(t, a.run("after"))
	require.Eventually(t, func() bool { return knows(w, "after") && w.Status().Err == nil }, await, poll)
	assert.True(t, knows(w, "local-7"))
	for err := range told { // one resource at a time
		if err == nil {
			break
		}
	}
}

func receive(t *testing.T, told <-chan error) error {
	t.Helper()
	select {
	case err := <-told:
		return err
	case <-time.After(await):
		require.Fail(t, "nothing was told")
		return nil
	}
}

// testCutOff has the watcher miss what happens, as in a network that is down.
func (a *apiServer) testCutOff(t *testing.T) {
	gate := newGate(t, a.Port)
	require.NoError(t, a.run("removed-meanwhile"))
	w := newWatcher(t, gate.kubeconfig(t, a))
	awaitSynced(t, w)
	require.True(t, knows(w, "removed-meanwhile"))
	gate.shut()
	require.Eventually(t, func() bool { return w.Status().Err != nil }, await, poll)
	require.NoError(t, a.run("made-meanwhile"))
	require.NoError(t, a.DeletePod("removed-meanwhile"))
	before := gate.attempts.Load()
	const outage = 10 * time.Second
	<-time.After(outage)
	attempts := gate.attempts.Load() - before
	t.Logf("%d attempts in %s without an API server", attempts, outage)
	assert.LessOrEqual(t, attempts, int64(40), "no hot loop")
	assert.False(t, knows(w, "made-meanwhile"))
	gate.open()
	require.Eventually(t, func() bool { return knows(w, "made-meanwhile") && w.Status().Err == nil }, await, poll)
	require.Eventually(t, func() bool { return len(w.pods.leaving()) > 0 }, await, poll, "that a pod was removed is noticed")
	require.NoError(t, a.DeletePod("made-meanwhile"))
}

// leaving are the departures of names.
func (p *pods) leaving() []departure {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.names.queue)
}

func (a *apiServer) testSlow(t *testing.T) {
	gate := newGate(t, a.Port)
	gate.delay.Store(int64(20 * time.Millisecond)) // for each 32 KiB: the Services take seconds
	w := newWatcher(t, gate.kubeconfig(t, a))
	require.Eventually(t, func() bool { return knows(w, "local-7") }, await, poll)
	assert.False(t, w.Status().Synced, "pods are known before the Services have come")
	awaitSynced(t, w)
}

// gate stands between a watcher and the API server.
type gate struct {
	listener net.Listener
	port     int
	attempts atomic.Int64
	delay    atomic.Int64

	mu          sync.Mutex
	closed      bool
	connections []net.Conn
}

func newGate(t *testing.T, port int) *gate {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{listener: listener, port: port}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			g.attempts.Add(1)
			serving.Go(func() { g.serve(connection) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		g.shut()
		serving.Wait()
	})
	return g
}

func (g *gate) kubeconfig(t *testing.T, a *apiServer) string {
	original, err := os.ReadFile(a.Kubeconfig(t, cluster.Agent))
	require.NoError(t, err)
	file := t.TempDir() + "/kubeconfig"
	changed := strings.ReplaceAll(string(original), a.URL(), "https://"+g.listener.Addr().String())
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	return file
}

func (g *gate) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.port))
	if err != nil {
		return
	}
	defer server.Close()
	if !g.admit(client, server) {
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		time.Sleep(time.Duration(g.delay.Load()))
		if _, writeErr := client.Write(buffer[:n]); err != nil || writeErr != nil {
			break
		}
	}
	client.Close()
	copying.Wait()
}

func (g *gate) admit(connections ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.connections = append(g.connections, connections...)
	return !g.closed
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, connection := range g.connections {
		connection.Close()
	}
	g.connections = nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}

// testRBAC shows that the role in the README is enough, and that less is not and how that is told.
func (a *apiServer) testRBAC(t *testing.T) {
	w := newWatcher(t, a.Kubeconfig(t, cluster.Agent))
	says := func(message string) {
		t.Helper()
		require.Eventually(t, func() bool { return w.Status().Err != nil && strings.Contains(w.Status().Err.Error(), message) }, await, poll)
	}
	says(`list pods: pods is forbidden: User "agent" cannot list resource "pods" in API group "" at the cluster scope: the agent's ClusterRole must allow the verbs list and watch on pods`)
	says(`list services: services is forbidden: User "agent" cannot list resource "services"`)
	assert.False(t, w.Status().Synced)

	a.Bind(t, cluster.Agent, readmeRole(t))
	awaitSynced(t, w)
}

func readmeRole(t *testing.T) string {
	readme, err := os.ReadFile("../../../README.md")
	require.NoError(t, err)
	for _, block := range strings.Split(string(readme), "```yaml\n")[1:] {
		if yaml, _, _ := strings.Cut(block, "```"); strings.Contains(yaml, "kind: ClusterRole\n") {
			return yaml
		}
	}
	require.Fail(t, "the README has no ClusterRole")
	return ""
}

func (a *apiServer) testBadToken(t *testing.T) {
	kubeconfig, err := os.ReadFile(a.Kubeconfig(t, cluster.Agent))
	require.NoError(t, err)
	file := t.TempDir() + "/kubeconfig"
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(kubeconfig), "token: agent", "token: wrong")), 0o600))
	w := newWatcher(t, file)
	require.Eventually(t, func() bool { return w.Status().Err != nil }, await, poll)
	assert.Contains(t, w.Status().Err.Error(), "the API server does not accept the agent's token or certificate")
}
