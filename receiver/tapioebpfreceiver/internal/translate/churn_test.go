// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
)

// Pods that live for 200 ms, with a program that is started in each. The API server tells of a container some time
// after its end, and forgets it as the real names are forgotten.
const (
	podsASecond = 50
	toldAfter   = second
	forgetAfter = 61 * second
)

// churnNames are those of the pods of a simulated time.
type churnNames struct {
	fakeNames
	pods    map[string]*kube.Pod // by UID
	changed []string
}

func (n *churnNames) Pod(uid string) *kube.Pod { return n.pods[uid] }

func (n *churnNames) Container(id string) (*kube.Pod, *kube.Container) {
	if pod := n.pods["pod-"+id]; pod != nil {
		return pod, &pod.Containers[0]
	}
	return nil, nil
}

func (n *churnNames) Changes(visit func(string)) (isAny bool) {
	for _, id := range n.changed {
		visit(id)
	}
	n.changed = n.changed[:0]
	return false
}

func (n *churnNames) tell(id string) {
	uid := "pod-" + id
	n.pods[uid] = &kube.Pod{UID: uid, Name: uid, Namespace: "shop", Containers: []kube.Container{{ID: id, Name: "app"}}}
	n.changed = append(n.changed, uid, id)
	n.version++
}

func (n *churnNames) forget(id string) { delete(n.pods, "pod-"+id) }

// TestMemoryOfPodChurn has what the records of an hour leave behind, all the way to the batch.
func TestMemoryOfPodChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	names := &churnNames{pods: map[string]*kube.Pod{}}
	w := newWorldOfNames(names, 8192)
	var early int64
	const early10, hour = 600 * second, 3600 * second
	for now := second; now <= hour; now += second {
		w.churnSecond(names, now)
		if now == early10 {
			early = liveHeap()
		}
	}
	late := liveHeap()
	t.Logf("heap after 10 minutes %.1f MiB, after an hour %.1f MiB, %d pods", mib(early), mib(late), hour/second*podsASecond)
	assert.Less(t, mib(late), 1.1*mib(early)+1)
	assert.EqualValues(t, 2*podsASecond*(hour-toldAfter)/second, w.naming.WaitedNamed.Load(), "all but the last have their names")
	assert.Zero(t, w.naming.NoPod.Load()+w.naming.NoContainer.Load())
	assert.Equal(t, 2*podsASecond*int(toldAfter/second), w.Held())
	runtime.KeepAlive(w)
}

// churnSecond is one second of it, whose batch goes out.
func (w *world) churnSecond(names *churnNames, now uint64) {
	for n := range uint64(podsASecond) {
		at := now + n*second/podsASecond
		number := now/second*podsASecond + n
		w.live(number, at)
		if now > toldAfter {
			names.tell(churnID(number - toldAfter/second*podsASecond))
		}
		if now > forgetAfter {
			names.forget(churnID(number - forgetAfter/second*podsASecond))
		}
	}
	w.Refresh(now)
	w.Tick(now)
	w.index.Expire(now)
	w.Take()
	if now%(60*second) == 0 {
		w.Metrics(wallTime(now))
	}
}

func churnID(number uint64) string { return fmt.Sprintf("%064x", number) }

func (w *world) live(number, at uint64) {
	id, pid := churnID(number), uint32(number%30000)+2
	in := func(kind event.Type, after uint64) bpf.WireEventHeader {
		return bpf.WireEventHeader{Time: at + after, StartTime: at, CgroupId: 1000 + number, Pid: pid, Type: uint16(kind)}
	}
	end := 200 * second / 1000
	w.Handle(eventtest.CgroupChange(event.TypeCgroupMade, bpf.WireCgroupChange{Header: in(0, 0)}, "/kubepods/podpod-"+id+"/"+id, true))
	w.Handle(eventtest.Exec(bpf.WireProcessExec{Header: in(event.TypeProcessExec, 0)}, "/bin/app", "/", "app"))
	w.Handle(eventtest.Record(bpf.WireProcessExit{Header: in(event.TypeProcessExit, end)}))
	w.Handle(eventtest.CgroupChange(event.TypeCgroupRemoved, bpf.WireCgroupChange{Header: in(0, end)}, "/", true))
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
