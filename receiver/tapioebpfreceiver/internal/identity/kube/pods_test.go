// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// world is a watcher whose informers are the test, and whose clock stands still.
type world struct {
	*Watcher
	clock time.Time
}

func newWorld() *world {
	w := &world{Watcher: &Watcher{health: &health{}}, clock: time.Unix(1_700_000_000, 0)}
	w.pods = newPods("node-1", w.changed)
	w.pods.now = func() time.Time { return w.clock }
	w.services, w.endpoints = newServices(w.changed), newServices(w.changed)
	return w
}

func (w *world) pass(d time.Duration) {
	w.clock = w.clock.Add(d)
	w.pods.forget()
}

// podOf has one container, whose id is that of the pod with "c" before it.
func podOf(uid, address string, change ...func(*corev1.Pod)) *observedPod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod-" + uid, Namespace: "ns", UID: types.UID(uid)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: address,
			ContainerStatuses: []corev1.ContainerStatus{{Name: "app", ContainerID: "containerd://c" + uid}},
		},
	}
	for _, c := range change {
		c(pod)
	}
	return (&podReader{}).observe(pod)
}

func (w *world) container(id string) (pod, container string) {
	if p, c := w.Container(id); p != nil {
		return p.Name, c.Name
	}
	return "", ""
}

func (w *world) at(address string) string {
	peer := w.Peer(netip.MustParseAddr(address))
	return fmt.Sprint(peer.Kind, " ", peer.Namespace, "/", peer.Name)
}

const nobody = "0 /"

func TestPodComesAndGoes(t *testing.T) {
	w := newWorld()
	assert.Nil(t, w.Pod("1"))
	pod := podOf("1", "10.0.0.1")
	w.pods.OnAdd(pod, false)
	assert.Equal(t, "pod-1", w.Pod("1").Name)
	name, container := w.container("c1")
	assert.Equal(t, []string{"pod-1", "app"}, []string{name, container})
	assert.Equal(t, "1 ns/pod-1", w.at("10.0.0.1"))
	assert.Equal(t, "1 ns/pod-1", w.at("::ffff:10.0.0.1"), "as a socket of both families has it")

	w.pods.OnDelete(cache.DeletedFinalStateUnknown{Obj: pod}) // it went while nobody watched
	w.pass(addressesGrace - 1)
	assert.Equal(t, "1 ns/pod-1", w.at("10.0.0.1"))
	w.pass(1)
	assert.Equal(t, nobody, w.at("10.0.0.1"))
	w.pass(namesGrace - addressesGrace - 1)
	assert.NotNil(t, w.Pod("1"))
	name, _ = w.container("c1")
	assert.Equal(t, "pod-1", name)
	w.pass(1)
	assert.Nil(t, w.Pod("1"))
	name, _ = w.container("c1")
	assert.Empty(t, name)
	assert.Zero(t, w.Status().Pods)
}

func TestPodComesBack(t *testing.T) {
	w := newWorld()
	w.pods.OnAdd(podOf("1", "10.0.0.1"), true)
	w.pods.OnDelete(podOf("1", "10.0.0.1"))
	w.pods.OnAdd(podOf("1", "10.0.0.1"), true)
	w.pass(2 * namesGrace)
	assert.NotNil(t, w.Pod("1"))
	name, _ := w.container("c1")
	assert.Equal(t, "pod-1", name)
	assert.Equal(t, "1 ns/pod-1", w.at("10.0.0.1"))
}

// A StatefulSet gives its pod's name to the next one.
func TestPodIsReplaced(t *testing.T) {
	w := newWorld()
	old, next := podOf("1", "10.0.0.1"), podOf("2", "10.0.0.2")
	next.Name, next.pod.Name = old.Name, old.pod.Name
	w.pods.OnAdd(old, true)
	w.pods.OnUpdate(old, next)
	assert.Equal(t, "1", w.Pod("1").UID)
	assert.Equal(t, "2", w.Pod("2").UID)
	w.pass(namesGrace)
	assert.Nil(t, w.Pod("1"))
	assert.NotNil(t, w.Pod("2"))
	assert.Equal(t, nobody, w.at("10.0.0.1"))
}

func TestAddressGoesToAnotherPod(t *testing.T) {
	w := newWorld()
	first := podOf("1", "10.0.0.1")
	w.pods.OnAdd(first, true)
	over := podOf("1", "10.0.0.1", func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded })
	w.pods.OnUpdate(first, over)
	assert.Equal(t, "1 ns/pod-1", w.at("10.0.0.1"), "for records under way")
	w.pods.OnAdd(podOf("2", "10.0.0.1"), false)
	assert.Equal(t, "1 ns/pod-2", w.at("10.0.0.1"))
	w.pods.OnDelete(over)
	w.pass(namesGrace)
	assert.Equal(t, "1 ns/pod-2", w.at("10.0.0.1"))
}

func TestContainerIsRestarted(t *testing.T) {
	w := newWorld()
	restarted := func(id, last string, restarts int32) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			status := &pod.Status.ContainerStatuses[0]
			status.ContainerID, status.RestartCount = "containerd://"+id, restarts
			status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: "containerd://" + last}
		}
	}
	first := podOf("1", "10.0.0.1")
	second := podOf("1", "10.0.0.1", restarted("second", "c1", 1))
	// the third ran so shortly that its status was never posted
	fourth := podOf("1", "10.0.0.1", restarted("fourth", "third", 3))
	w.pods.OnAdd(first, true)
	w.pods.OnUpdate(first, second)
	w.pods.OnUpdate(second, fourth)
	restarts := func(id string) int {
		_, container := w.Container(id)
		require.NotNil(t, container, id)
		return container.Restarts
	}
	assert.Equal(t, []int{0, 1, 2, 3}, []int{restarts("c1"), restarts("second"), restarts("third"), restarts("fourth")})
	w.pass(namesGrace)
	for id, want := range map[string]string{"c1": "", "second": "", "third": "pod-1", "fourth": "pod-1"} {
		name, _ := w.container(id)
		assert.Equal(t, want, name, id)
	}
}

func TestStaticPod(t *testing.T) {
	w := newWorld()
	mirror := podOf("1", "10.0.0.1", func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{"kubernetes.io/config.mirror": "0123456789abcdef"}
	})
	w.pods.OnAdd(mirror, true)
	assert.Equal(t, "1", w.Pod("0123456789abcdef").UID)
	assert.Equal(t, "1", w.Pod("1").UID)
	assert.EqualValues(t, 1, w.pods.byUID.size.Load(), "it is one pod")
	assert.Subset(t, w.changes(), []string{"1", "0123456789abcdef"})
	w.pods.OnDelete(mirror)
	w.pass(namesGrace)
	assert.Nil(t, w.Pod("0123456789abcdef"))
	assert.Nil(t, w.Pod("1"))
}

// changes are the ids that are handed over.
func (w *world) changes() (ids []string) {
	w.Changes(func(id string) { ids = append(ids, id) })
	return ids
}

func TestOnlyWhatChangedIsHandedOver(t *testing.T) {
	w := newWorld()
	pod := podOf("1", "10.0.0.1")
	w.pods.OnAdd(pod, true)
	w.pods.OnAdd(podOf("2", "10.0.0.2"), true)
	assert.ElementsMatch(t, []string{"1", "c1", "2", "c2"}, w.changes())
	w.pods.OnUpdate(pod, podOf("1", "10.0.0.1"))
	assert.Empty(t, w.changes())
	w.pods.OnUpdate(pod, podOf("1", "10.0.0.1", func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].RestartCount = 1 }))
	assert.ElementsMatch(t, []string{"1", "c1"}, w.changes())
}

func TestNodeAddress(t *testing.T) {
	w := newWorld()
	inHostNetwork := func(pod *corev1.Pod) {
		pod.Spec.HostNetwork = true
		pod.Status.HostIPs = []corev1.HostIP{{IP: "192.168.0.9"}, {IP: "fd00::9"}}
	}
	assert.Equal(t, nobody, w.at("192.168.0.9"))
	w.pods.OnAdd(podOf("1", "192.168.0.9", inHostNetwork), true)
	w.pods.OnAdd(podOf("2", "192.168.0.9", inHostNetwork), true)
	assert.Equal(t, "3 /node-1", w.at("192.168.0.9"), "which of the pods, nobody knows")
	assert.Equal(t, "3 /node-1", w.at("fd00::9"))
	w.pods.OnAdd(podOf("3", "10.0.0.1", func(pod *corev1.Pod) {
		pod.Status.Phase, pod.Status.HostIP = corev1.PodFailed, "192.168.0.1"
	}), true)
	assert.Equal(t, nobody, w.at("192.168.0.1"), "what the node had long ago")
}

func TestVersionChangesWithWhatIsKnown(t *testing.T) {
	w := newWorld()
	changes := func(act func()) bool {
		before := w.Version()
		act()
		return w.Version() != before
	}
	pod := podOf("1", "10.0.0.1")
	same := podOf("1", "10.0.0.1", func(pod *corev1.Pod) {
		pod.ResourceVersion = "8"
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}}
	})
	assert.True(t, changes(func() { w.pods.OnAdd(pod, true) }))
	known := w.Pod("1")
	assert.False(t, changes(func() { w.pods.OnUpdate(pod, same) }))
	assert.Same(t, known, w.Pod("1"))
	other := podOf("1", "10.0.0.2")
	assert.True(t, changes(func() { w.pods.OnUpdate(same, other) }))
	assert.False(t, changes(func() { w.pods.OnDelete(other) }), "it stays for a while")
	assert.True(t, changes(func() { w.pass(namesGrace) }))
	assert.False(t, changes(func() { w.pass(namesGrace) }))
}

// A node may make pods faster than a minute's grace has room for.
func TestDeparturesAreBounded(t *testing.T) {
	w := newWorld()
	const n = maxDepartures
	for i := range n {
		pod := podOf(fmt.Sprint(i), "10.0.0.1")
		w.pods.OnAdd(pod, false)
		w.pods.OnDelete(pod)
	}
	// each is two: pod and container
	assert.Len(t, w.pods.names.queue, maxDepartures)
	assert.Equal(t, maxDepartures/2, w.Status().Pods)
	assert.Nil(t, w.Pod("0"))
	assert.NotNil(t, w.Pod(fmt.Sprint(n-1)))
	w.pass(namesGrace)
	assert.Zero(t, w.Status().Pods)
}

func BenchmarkLookup(b *testing.B) {
	w := newWorld()
	for i := range 250 {
		w.pods.OnAdd(podOf(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d", i)), true)
	}
	address := netip.MustParseAddr("10.0.0.77")
	b.Run("container", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Container("c77")
		}
	})
	b.Run("peer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Peer(address)
		}
	})
}

// BenchmarkChurn is one pod's life beside 250 others, with a minute of departed ones.
func BenchmarkChurn(b *testing.B) {
	w := newWorld()
	for i := range 250 {
		w.pods.OnAdd(podOf(fmt.Sprint("old-", i), fmt.Sprintf("10.0.0.%d", i)), true)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		pending := podOf(fmt.Sprint(i), "")
		running := podOf(fmt.Sprint(i), "10.0.1.1")
		w.pods.OnAdd(pending, false)
		w.pods.OnUpdate(pending, running)
		w.pods.OnDelete(running)
		w.pass(20 * time.Millisecond) // 50 a second
	}
}
