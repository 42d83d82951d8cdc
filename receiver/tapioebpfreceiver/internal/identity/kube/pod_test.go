// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const id1 = "4f2a7d1c9e8b0a6d5c4b3a29180f7e6d5c4b3a29180f7e6d5c4b3a29180f7e6d"

func addresses(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// fullPod has everything that is read.
func fullPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-0", Namespace: "shop", UID: "uid-1", ResourceVersion: "7",
			Labels:      map[string]string{"team": "blue", "tier": "front", "app.kubernetes.io/name": "web"},
			Annotations: map[string]string{"owner/contact": "x@example.com", "resource.opentelemetry.io/deployment.environment.name": "prod"},
		},
		Spec: corev1.PodSpec{
			NodeName:            "node-1",
			InitContainers:      []corev1.Container{{Name: "init", Image: "busybox:1"}},
			Containers:          []corev1.Container{{Name: "app", Image: "app:2"}, {Name: "side", Image: "side:3"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "sh:4"}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.1.2.3", PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}, {IP: "fd00::3"}},
			HostIP: "192.168.0.9", HostIPs: []corev1.HostIP{{IP: "192.168.0.9"}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", ContainerID: "containerd://init-id", ImageID: "sha256:1"}},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "side"}, // in any order, and not started
				{Name: "app", ContainerID: "containerd://" + id1, Image: "docker.io/library/app:other", ImageID: "docker.io/library/app@sha256:2", RestartCount: 3,
					LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://before"}}},
			},
			EphemeralContainerStatuses: []corev1.ContainerStatus{{Name: "debug", ContainerID: "cri-o://debug-id"}},
		},
	}
}

func TestPodIsReduced(t *testing.T) {
	reader := &podReader{labels: []string{"team", "absent"}, annotations: []string{"owner/contact"}, serviceNameLabels: []string{"app.kubernetes.io/name"}}
	got, err := reader.transform(fullPod())
	require.NoError(t, err)
	app := Container{ID: id1, Runtime: "containerd", Name: "app", Image: "app:2", ImageID: "docker.io/library/app@sha256:2", Restarts: 3}
	assert.Equal(t, &observedPod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "shop", UID: "uid-1", ResourceVersion: "7"},
		pod: &Pod{
			UID: "uid-1", Name: "web-0", Namespace: "shop", Node: "node-1",
			Addresses:   addresses("10.1.2.3", "fd00::3"),
			Labels:      []Attribute{{"k8s.pod.label.team", "blue"}},
			Annotations: []Attribute{{"k8s.pod.annotation.owner/contact", "x@example.com"}},
			Service:     Service{Name: "web", Others: []Attribute{{"deployment.environment.name", "prod"}}},
			Containers: []Container{
				{ID: "init-id", Runtime: "containerd", Name: "init", Image: "busybox:1", ImageID: "sha256:1"},
				app,
				{Name: "side", Image: "side:3"},
				{ID: "debug-id", Runtime: "cri-o", Name: "debug", Image: "sh:4"},
			},
		},
		former:        []Container{{ID: "before", Runtime: "containerd", Name: "app", Image: app.Image, Restarts: 2, ImageID: app.ImageID}},
		nodeAddresses: addresses("192.168.0.9"),
	}, got)
	again, err := reader.transform(got)
	require.NoError(t, err)
	assert.Same(t, got, again, "the informer may ask twice")
}

func TestBadPods(t *testing.T) {
	reader := &podReader{labels: []string{"huge"}, serviceNameLabels: []string{"app.kubernetes.io/name"}}
	observe := func(change func(*corev1.Pod)) *observedPod {
		pod := fullPod()
		change(pod)
		return reader.observe(pod)
	}
	t.Run("nothing but a name", func(t *testing.T) {
		got := reader.observe(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
		assert.Equal(t, &Pod{Name: "x"}, got.pod)
	})
	t.Run("addresses", func(t *testing.T) {
		got := observe(func(pod *corev1.Pod) {
			pod.Status.PodIP = "not-an-address"
			pod.Status.PodIPs = []corev1.PodIP{{IP: ""}, {IP: "0.0.0.0"}, {IP: "127.0.0.1"}, {IP: "::ffff:10.0.0.1"}, {IP: "10.0.0.1"}}
		})
		assert.Equal(t, addresses("10.0.0.1"), got.pod.Addresses)
	})
	t.Run("huge values", func(t *testing.T) {
		got := observe(func(pod *corev1.Pod) {
			huge := strings.Repeat("x", maxValueBytes+1)
			pod.Labels["huge"] = huge
			pod.Annotations = map[string]string{"resource.opentelemetry.io/service.name": huge, "resource.opentelemetry.io/a": huge[1:], "resource.opentelemetry.io/b": huge}
		})
		assert.Empty(t, got.pod.Labels)
		assert.Equal(t, "web", got.pod.Service.Name)
		assert.Equal(t, []Attribute{{"a", strings.Repeat("x", maxValueBytes)}}, got.pod.Service.Others)
	})
	t.Run("many annotations", func(t *testing.T) {
		got := observe(func(pod *corev1.Pod) {
			for i := range 1000 {
				pod.Annotations[fmt.Sprintf("resource.opentelemetry.io/k%04d", i)] = "v"
			}
		})
		require.Len(t, got.pod.Service.Others, maxOthers)
		assert.Equal(t, "deployment.environment.name", got.pod.Service.Others[0].Key)
		assert.Equal(t, "k0062", got.pod.Service.Others[63].Key, "the same ones each time")
	})
	t.Run("many containers", func(t *testing.T) {
		got := observe(func(pod *corev1.Pod) {
			pod.Spec.Containers = make([]corev1.Container, maxContainers+1)
		})
		assert.Len(t, got.pod.Containers, maxContainers)
	})
}

func TestContainerIDs(t *testing.T) {
	for text, want := range map[string][2]string{
		"containerd://" + id1: {"containerd", id1},
		"cri-o://" + id1:      {"cri-o", id1},
		"docker://" + id1:     {"docker", id1},
		"":                    {},
		id1:                   {},
		"containerd://":       {},
		"://" + id1:           {},
		"a://b://c":           {},
		"a:///etc/passwd":     {},
		"a://two words":       {},
		"a://" + strings.Repeat("f", maxIDBytes+1): {},
	} {
		runtime, id := parseContainerID(text)
		assert.Equal(t, want, [2]string{runtime, id}, text)
	}
}

func TestService(t *testing.T) {
	const prefix = "resource.opentelemetry.io/"
	labels := map[string]string{"app.kubernetes.io/name": "redis", "app.kubernetes.io/instance": "cache", "app.kubernetes.io/version": "7.2"}
	name := []string{"app.kubernetes.io/name"}
	for _, tt := range []struct {
		name                string
		labels, annotations map[string]string
		nameLabels          []string
		want                Service
	}{
		{"nothing", nil, nil, name, Service{}},
		{"labels", labels, nil, name, Service{Name: "redis", Version: "7.2"}},
		{"labels in the conventions' order", labels, nil, []string{"app.kubernetes.io/instance", "app.kubernetes.io/name"}, Service{Name: "cache", Version: "7.2"}},
		{"second label", labels, nil, []string{"absent", "app.kubernetes.io/name"}, Service{Name: "redis", Version: "7.2"}},
		{"labels not to be used", labels, nil, nil, Service{}},
		{"annotations before labels", labels, map[string]string{prefix + "service.name": "a", prefix + "service.version": "1"}, name, Service{Name: "a", Version: "1"}},
		{"every annotation", nil, map[string]string{
			prefix + "service.name": "a", prefix + "service.namespace": "b", prefix + "service.version": "c", prefix + "service.instance.id": "d",
			prefix + "z": "1", prefix + "deployment.environment.name": "prod", "other/service.name": "x",
		}, name, Service{Name: "a", Namespace: "b", Version: "c", InstanceID: "d", Others: []Attribute{{"deployment.environment.name", "prod"}, {"z", "1"}}}},
		{"what is not anybody's to say", labels, map[string]string{prefix: "x", prefix + "tapio.source": "ebpf", prefix + "service.name": ""}, name, Service{Name: "redis", Version: "7.2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: tt.labels, Annotations: tt.annotations}}
			assert.Equal(t, tt.want, serviceOf(pod, tt.nameLabels))
		})
	}
}
