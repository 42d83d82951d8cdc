// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

// Pods come at this rate, and their containers live so long.
const (
	churnPods     = 1000
	churnInterval = 20 * time.Millisecond // 50 a second
	churnLife     = 200 * time.Millisecond
	churnPrograms = 3 // in each container: two log records and a span each

	// churnPatience is how long events wait for names here: so long that a machine that stands still meanwhile takes none.
	churnPatience = 15 * time.Second
)

// kubeletDelays are how long after a container's start its id is told: at once, at the median and at the most of
// what a real node needed (see TestNode), and never, as the pod is deleted before.
var kubeletDelays = [...]time.Duration{0, 1800 * time.Millisecond, 3200 * time.Millisecond, never}

const never = -1

// TestKubernetes has the whole receiver name what short-lived pods do. The API server is real; the records are
// made as the kernel makes them, since no node of this size starts 50 pods a second.
func TestKubernetes(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	lab := newChurn(t, cluster.StartControlPlane(t))
	var lives sync.WaitGroup
	ticker := time.NewTicker(churnInterval)
	defer ticker.Stop()
	for i := range churnPods {
		<-ticker.C
		lives.Go(func() { lab.live(t, i) })
	}
	lives.Wait()
	lab.awaitAll(t)
	lab.requireNames(t)
}

type churn struct {
	*cluster.ControlPlane
	source   *fakeSource
	receiver *tapioReceiver
	spans    *consumertest.TracesSink
	logs     *consumertest.LogsSink
}

func newChurn(t *testing.T, plane *cluster.ControlPlane) *churn {
	lab := &churn{ControlPlane: plane, source: &fakeSource{}, spans: &consumertest.TracesSink{}, logs: &consumertest.LogsSink{}}
	cfg := createDefaultConfig().(*Config)
	withKubernetes(plane.Kubeconfig(t, cluster.Admin))(cfg)
	require.Greater(t, cfg.Identity.PodTimeout, slices.Max(kubeletDelays[:]), "by default events wait for longer than a kubelet needs")
	cfg.Identity.PodTimeout = churnPatience
	var err error
	lab.receiver, err = newReceiver(receivertest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	lab.receiver.next.traces, lab.receiver.next.logs = lab.spans, lab.logs
	lab.receiver.openSource = func(*Config, receiver.Settings) (source.Source, error) { return lab.source, nil }
	require.NoError(t, lab.receiver.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, lab.receiver.Shutdown(context.Background())) })
	require.Eventually(t, func() bool { return lab.receiver.stats().Kubernetes.Synced }, time.Minute, time.Millisecond)
	return lab
}

func podName(i int) string { return fmt.Sprintf("churn-%d", i) }

// live is one pod's life, with the records of it and what its kubelet says.
func (c *churn) live(t *testing.T, i int) {
	name, id := podName(i), fmt.Sprintf("%064x", i+1)
	uid, err := c.CreatePod(name, "node-1")
	if !assert.NoError(t, err) {
		return
	}
	var kubelet sync.WaitGroup
	told := make(chan struct{})
	kubelet.Go(func() { c.report(t, name, id, kubeletDelays[i%len(kubeletDelays)], told) })
	cgroup := uint64(1000 + i)
	c.give(0, eventtest.CgroupChange(event.TypeCgroupMade, bpf.WireCgroupChange{Header: headerNow(cgroup, 0)}, "/kubepods/besteffort/pod"+uid+"/"+id, true))
	for n := range churnPrograms {
		c.give(1, eventtest.Exec(bpf.WireProcessExec{Header: headerNow(cgroup, churnPID(i, n))}, "/bin/app", "/", "app", name))
	}
	<-time.After(churnLife)
	for n := range churnPrograms {
		c.give(1, eventtest.Record(bpf.WireProcessExit{Header: headerOfType(bpf.WireEventTypePROCESS_EXIT, headerNow(cgroup, churnPID(i, n)))}))
	}
	c.give(0, eventtest.CgroupChange(event.TypeCgroupRemoved, bpf.WireCgroupChange{Header: headerNow(cgroup, 0)}, "/", true))
	close(told)
	kubelet.Wait()
	assert.NoError(t, c.DeletePod(name))
}

// report is what a kubelet says of the container, if it says anything before all is over.
func (c *churn) report(t *testing.T, name, id string, delay time.Duration, over <-chan struct{}) {
	if delay == never {
		<-over
		return
	}
	<-time.After(delay)
	assert.NoError(t, c.ReportRunning(name, id))
}

func churnPID(pod, program int) uint32 { return uint32(1000 + pod*churnPrograms + program) }

// headerNow is of a process that started at the same moment for all of its records: its pid tells when.
func headerNow(cgroup uint64, pid uint32) bpf.WireEventHeader {
	const bootTime = 1_700_000_000e9 // of the fakeSource
	return bpf.WireEventHeader{Time: uint64(time.Now().UnixNano() - bootTime), StartTime: uint64(pid) * 1e9, Pid: pid, CgroupId: cgroup}
}

func headerOfType(kind bpf.WireEventType, header bpf.WireEventHeader) bpf.WireEventHeader {
	header.Type = uint16(kind)
	return header
}

// give hands a record over, and counts it as an event, or as the kernel's word of a cgroup.
func (c *churn) give(events uint64, record []byte) {
	c.source.mu.Lock()
	defer c.source.mu.Unlock()
	c.source.seen += events
	c.source.cgroups += 1 - events
	c.source.waiting = append(c.source.waiting, record)
}

// awaitAll waits until every record is out, the last ones when they have waited long enough.
func (c *churn) awaitAll(t *testing.T) {
	t.Helper()
	const events = churnPods * churnPrograms * 2
	require.Eventually(t, func() bool { return c.receiver.stats().Ledger["process"].Exported == events }, churnPatience+patience, 10*time.Millisecond)
	assert.Empty(t, c.receiver.stats().Ledger["process"].Lost)
	assert.Equal(t, events, c.logs.LogRecordCount())
	assert.Equal(t, churnPods*churnPrograms, c.spans.SpanCount())
}

// names are those on what was exported.
type names struct{ total, pod, container int }

func (c *churn) requireNames(t *testing.T) {
	var got names
	for _, logs := range c.logs.AllLogs() {
		for _, of := range logs.ResourceLogs().All() {
			for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
				got.add(t, of.Resource(), record.Attributes())
			}
		}
	}
	for _, traces := range c.spans.AllTraces() {
		for _, of := range traces.ResourceSpans().All() {
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				got.add(t, of.Resource(), span.Attributes())
			}
		}
	}
	naming := &c.receiver.naming
	t.Logf("of %d spans and log records of %d pods, %.2f %% have the pod's name, %.2f %% the container's",
		got.total, churnPods, percent(got.pod, got.total), percent(got.container, got.total))
	t.Logf("%d events waited for all names, %d for the pod's, %d in vain",
		naming.WaitedNamed.Load(), naming.WaitedPodNamed.Load(), naming.WaitedUnnamed.Load())
	assert.Equal(t, churnPods*churnPrograms*3, got.total)
	assert.GreaterOrEqual(t, percent(got.pod, got.total), 99.0)
	assert.GreaterOrEqual(t, percent(got.container, got.total), 74.0, "a quarter cannot: the kubelet has not told of it")
}

// add fails where a record has the name of another pod, or only some of its own.
func (n *names) add(t *testing.T, resource pcommon.Resource, record pcommon.Map) {
	n.total++
	pid, ok := record.Get("process.pid")
	require.True(t, ok)
	want := podName((int(pid.Int()) - 1000) / churnPrograms)
	pod, ok := resource.Attributes().Get("k8s.pod.name")
	if !ok {
		return
	}
	require.Equal(t, want, pod.Str())
	n.pod++
	if _, ok := resource.Attributes().Get("k8s.container.name"); !ok {
		return
	}
	n.container++
	id, _ := resource.Attributes().Get("container.id")
	require.Equal(t, fmt.Sprintf("%064x", (pid.Int()-1000)/churnPrograms+1), id.Str())
	instance, _ := resource.Attributes().Get("service.instance.id")
	require.Equal(t, strings.Join([]string{"default", want, "app"}, "."), instance.Str())
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(of) }
