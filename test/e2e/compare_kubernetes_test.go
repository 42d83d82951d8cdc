// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	comparedNode = "node-1" // as the simulated one
	comparedUID  = "2c48913c-b29f-11e7-9350-02096814779"
)

// comparedPod is what a kubelet would have told of the pod whose cgroup has the number: those of a Deployment, and,
// the last, of a StatefulSet.
func comparedPod(n int) corev1.Pod {
	name, hash := fmt.Sprintf("app-%d", n), "7d9c6b5f4"
	controller := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name + "-" + hash, UID: "a-replica-set"}
	labels := map[string]string{"pod-template-hash": hash}
	podName := controller.Name + "-x2x4z"
	if n == comparedPods-1 {
		controller = metav1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: name, UID: "a-stateful-set"}
		labels, podName = nil, name+"-0"
	}
	isController := true
	controller.Controller = &isController
	image := "registry.example/shop/" + name + ":1.4.2"
	return corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: podName, Namespace: "shop", UID: types.UID(fmt.Sprintf("%s%d", comparedUID, n)), ResourceVersion: "7",
			Labels: labels, OwnerReferences: []metav1.OwnerReference{controller},
		},
		Spec: corev1.PodSpec{NodeName: comparedNode, Containers: []corev1.Container{{Name: name, Image: image}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: name, Image: image, ContainerID: "containerd://" + hexID(n)},
		}},
	}
}

// comparedKubernetes stands for an API server that knows the pods, and returns the configuration of the collector
// for it. What a real one says is compared with the kubelet's cgroups in test/kubernetes.
func comparedKubernetes(t *testing.T) string {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var pods []corev1.Pod
		if r.URL.Path == "/api/v1/pods" {
			for n := range comparedPods {
				pods = append(pods, comparedPod(n))
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			assert.NoError(t, json.NewEncoder(w).Encode(listOf(r.URL.Path, pods)))
			return
		}
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			sendInitialEvents(t, w, r.URL.Path, pods)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // nothing ever changes
	}))
	t.Cleanup(func() {
		api.CloseClientConnections()
		api.Close()
	})
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a,
clusters: [{name: a, cluster: {server: %q}}], contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {}}]}`, api.URL), 0o600))
	return fmt.Sprintf("receivers::tapioebpf::kubernetes: {auth_type: kubeConfig, kubeconfig: %s, node_name: %s}", file, comparedNode)
}

// listOf pods, or an empty one of Services.
func listOf(path string, pods []corev1.Pod) any {
	meta := metav1.ListMeta{ResourceVersion: "7"}
	if path == "/api/v1/pods" {
		return corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: meta, Items: pods}
	}
	return corev1.ServiceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceList"}, ListMeta: meta}
}

// sendInitialEvents is a list as Kubernetes 1.34 streams it: all that there is, and a bookmark.
func sendInitialEvents(t *testing.T, w http.ResponseWriter, path string, pods []corev1.Pod) {
	send := func(kind watch.EventType, object any) {
		raw, err := json.Marshal(object)
		assert.NoError(t, err)
		assert.NoError(t, json.NewEncoder(w).Encode(metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}))
	}
	for _, pod := range pods {
		send(watch.Added, pod)
	}
	end := metav1.ObjectMeta{ResourceVersion: "7", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
	if path == "/api/v1/pods" {
		send(watch.Bookmark, corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: end})
		return
	}
	send(watch.Bookmark, corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: end})
}
