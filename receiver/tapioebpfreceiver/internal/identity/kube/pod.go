// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// The kubelet names the cgroup of a static pod after this hash, since the pod has no UID before
	// the API server has its mirror.
	mirrorAnnotation = "kubernetes.io/config.mirror"

	maxContainers = 256 // of a pod; the API server lets through what fits into its 1.5 MiB
)

// observedPod is all that is kept of a pod.
type observedPod struct {
	metav1.ObjectMeta

	pod *Pod
	// staticUID is what the kubelet has in place of the UID; empty where the pod is not static.
	staticUID string
	// former are the containers that ran before the last restart.
	former []Container
	// over says that all containers have ended for good, so that the addresses may be another's.
	over          bool
	nodeAddresses []netip.Addr
}

// podReader takes from pods what the configuration asks for.
type podReader struct {
	labels            []string
	annotations       []string
	serviceNameLabels []string
}

// transform implements cache.TransformFunc. It is called twice for some objects.
func (r *podReader) transform(object any) (any, error) {
	if pod, ok := object.(*corev1.Pod); ok {
		return r.observe(pod), nil
	}
	return object, nil
}

// observe takes strings only, each of which the decoder allocated for itself: the rest of the pod is
// free.
func (r *podReader) observe(pod *corev1.Pod) *observedPod {
	containers := containersOf(pod)
	return &observedPod{
		ObjectMeta: keptMeta(&pod.ObjectMeta),
		pod: &Pod{
			UID:         string(pod.UID),
			Name:        pod.Name,
			Namespace:   pod.Namespace,
			Node:        pod.Spec.NodeName,
			HostNetwork: pod.Spec.HostNetwork,
			Addresses:   podAddresses(&pod.Status),
			Owners:      ownersOf(pod),
			Labels:      chosen(pod.Labels, r.labels, "k8s.pod.label."),
			Annotations: chosen(pod.Annotations, r.annotations, "k8s.pod.annotation."),
			Service:     serviceOf(pod, r.serviceNameLabels),
			Containers:  containers,
		},
		staticUID:     bounded(pod.Annotations[mirrorAnnotation]),
		former:        formerContainers(&pod.Status, containers),
		over:          pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
		nodeAddresses: nodeAddresses(&pod.Status),
	}
}

// keptMeta is what the informer itself needs.
func keptMeta(meta *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: meta.Name, Namespace: meta.Namespace, UID: meta.UID, ResourceVersion: meta.ResourceVersion,
	}
}

func podAddresses(status *corev1.PodStatus) (addresses []netip.Addr) {
	for _, ip := range status.PodIPs {
		addresses = appendAddress(addresses, ip.IP)
	}
	return appendAddress(addresses, status.PodIP)
}

func nodeAddresses(status *corev1.PodStatus) (addresses []netip.Addr) {
	for _, ip := range status.HostIPs {
		addresses = appendAddress(addresses, ip.IP)
	}
	return appendAddress(addresses, status.HostIP)
}

// appendAddress leaves out what is not the address of one host, and what is there already.
func appendAddress(addresses []netip.Addr, text string) []netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil || address.IsUnspecified() || address.IsLoopback() {
		return addresses
	}
	if address = address.Unmap(); slices.Contains(addresses, address) {
		return addresses
	}
	return append(addresses, address)
}

// chosen are the attributes for those keys that the pod has.
func chosen(values map[string]string, keys []string, prefix string) (attributes []Attribute) {
	for _, key := range keys {
		if value, ok := values[key]; ok && len(value) <= maxValueBytes {
			attributes = append(attributes, Attribute{Key: prefix + key, Value: value})
		}
	}
	return attributes
}

// containersOf joins specification and status by the containers' names, which are unique in a pod.
func containersOf(pod *corev1.Pod) (containers []Container) {
	statuses := map[string]*corev1.ContainerStatus{}
	for _, list := range statusesOf(&pod.Status) {
		for i := range list {
			statuses[list[i].Name] = &list[i]
		}
	}
	add := func(name, image string) {
		if len(containers) < maxContainers {
			containers = append(containers, newContainer(name, image, statuses[name]))
		}
	}
	for i := range pod.Spec.InitContainers {
		add(pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		add(pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Image)
	}
	for i := range pod.Spec.EphemeralContainers {
		add(pod.Spec.EphemeralContainers[i].Name, pod.Spec.EphemeralContainers[i].Image)
	}
	return containers
}

func statusesOf(status *corev1.PodStatus) [3][]corev1.ContainerStatus {
	return [3][]corev1.ContainerStatus{
		status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses,
	}
}

func newContainer(name, image string, status *corev1.ContainerStatus) Container {
	container := Container{Name: name, Image: image}
	if status == nil {
		return container
	}
	container.Runtime, container.ID = parseContainerID(status.ContainerID)
	container.ImageID = status.ImageID
	container.Restarts = int(status.RestartCount)
	return container
}

// formerContainers are those whose records may still be under way, as their successors' status tells. Their image is the
// specification's, as that of those that run is: a runtime may have another name for it.
func formerContainers(status *corev1.PodStatus, present []Container) (former []Container) {
	images := map[string]string{}
	for i := range present {
		images[present[i].Name] = present[i].Image
	}
	for _, list := range statusesOf(status) {
		for i := range list {
			last := list[i].LastTerminationState.Terminated
			if last == nil || last.ContainerID == list[i].ContainerID || len(former) >= maxContainers {
				continue
			}
			container := newContainer(list[i].Name, images[list[i].Name], &list[i])
			container.Runtime, container.ID = parseContainerID(last.ContainerID)
			container.Restarts = max(0, container.Restarts-1)
			if container.ID != "" {
				former = append(former, container)
			}
		}
	}
	return former
}

// parseContainerID splits runtime and id, as in containerd://4f2a…. What has another form is not
// known.
func parseContainerID(text string) (runtime, id string) {
	runtime, id, ok := strings.Cut(text, "://")
	if !ok || runtime == "" || id == "" || len(id) > maxIDBytes || strings.ContainsAny(id, "/: \t\n") {
		return "", ""
	}
	return runtime, id
}
