// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

// TestNode watches a real node: what a kubelet says, and when.
func TestNode(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	lab := &realNode{cluster.StartNode(t)}
	w := newWatcher(t, lab.Kubeconfig(t, cluster.Admin))
	awaitSynced(t, w)
	t.Run("workloads", func(t *testing.T) { lab.testWorkloads(t, w) })
	t.Run("short-lived pods", func(t *testing.T) { lab.testShortLived(t, w) })
}

type realNode struct{ *cluster.Node }

func podTemplate(command string) string {
	return fmt.Sprintf(`"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": %q, "imagePullPolicy": "Never", "command": ["sh", "-c", %q]}]`,
		cluster.Image, command)
}

func (n *realNode) testWorkloads(t *testing.T, w *Watcher) {
	n.Do(t, http.MethodPost, "/apis/apps/v1/namespaces/default/deployments", fmt.Sprintf(`{"metadata": {"name": "web"}, "spec": {"replicas": 1,
		"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {%s}}}}`, podTemplate("sleep 1000")))
	n.Do(t, http.MethodPost, "/apis/batch/v1/namespaces/default/cronjobs", fmt.Sprintf(`{"metadata": {"name": "tick"}, "spec": {"schedule": "* * * * *",
		"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", %s}}}}}}`, podTemplate("sleep 1")))
	n.Do(t, http.MethodPost, servicesPath, `{"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.77", "selector": {"app": "web"}, "ports": [{"port": 80}]}}`)

	pod := awaitPod(t, w, func(pod *Pod) bool {
		return strings.HasPrefix(pod.Name, "web-") && pod.Containers[0].ID != "" && len(pod.Addresses) > 0
	})
	require.Len(t, pod.Owners, 2)
	assert.Equal(t, "ReplicaSet", pod.Owners[0].Kind)
	assert.Equal(t, Owner{Kind: "Deployment", Name: "web"}, pod.Owners[1])
	assert.Equal(t, "containerd", pod.Containers[0].Runtime)
	assert.Contains(t, n.containers(t), pod.Containers[0].ID, "the same id as in its cgroup")
	assert.Equal(t, Peer{Kind: PeerPod, Name: pod.Name, Namespace: "default", Pod: pod}, w.Peer(pod.Addresses[0]))
	assert.Equal(t, Peer{Kind: PeerNode, Name: cluster.NodeName}, w.Peer(netip.MustParseAddr("10.99.0.1")))
	require.Eventually(t, func() bool {
		return w.Peer(netip.MustParseAddr("10.96.0.77")) == Peer{Kind: PeerService, Name: "web", Namespace: "default"}
	}, await, poll)

	tick := awaitPod(t, w, func(pod *Pod) bool { return strings.HasPrefix(pod.Name, "tick-") })
	require.Len(t, tick.Owners, 2)
	assert.Equal(t, Owner{Kind: "CronJob", Name: "tick"}, tick.Owners[1])
}

func awaitPod(t *testing.T, w *Watcher, fits func(*Pod) bool) (found *Pod) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, object := range w.informers[0].GetStore().List() {
			if pod := object.(*observedPod).pod; fits(pod) {
				found = w.Pod(pod.UID)
			}
		}
		return found != nil
	}, await, 10*time.Millisecond)
	return found
}

// testShortLived measures how long after its start a container gets its name. All get one.
func (n *realNode) testShortLived(t *testing.T, w *Watcher) {
	const pods, inFlight = 40, 4
	uids := map[string]string{}
	started := map[string]time.Time{} // by container
	known := map[string]time.Time{}   // likewise
	for len(known) < pods {
		if len(uids)-len(known) < inFlight && len(uids) < pods {
			name := fmt.Sprintf("short-%d", len(uids))
			uids[n.runPod(t, name)] = name
		}
		for id := range n.containers(t) {
			if _, seen := started[id]; !seen {
				started[id] = time.Now()
			}
		}
		for id := range started {
			if pod, _ := w.Container(id); pod != nil && uids[pod.UID] != "" && known[id].IsZero() {
				known[id] = time.Now()
			}
		}
		require.Less(t, time.Since(oldest(started)), 3*await, "%d of %d containers got a name", len(known), pods)
	}
	var late []time.Duration
	for id, at := range known {
		late = append(late, at.Sub(started[id]))
	}
	slices.Sort(late)
	t.Logf("a container of 200 ms has its name after: median %s, p99 %s, at most %s", late[len(late)/2], late[len(late)*99/100], late[len(late)-1])
}

func oldest(times map[string]time.Time) time.Time {
	first := time.Now()
	for _, at := range times {
		if at.Before(first) {
			first = at
		}
	}
	return first
}

func (n *realNode) runPod(t *testing.T, name string) (uid string) {
	answer := n.Do(t, http.MethodPost, podsPath, fmt.Sprintf(`{"metadata": {"name": %q}, "spec": {"restartPolicy": "Never", %s}}`, name, podTemplate("sleep 0.2")))
	var pod struct {
		Metadata struct{ UID string }
	}
	require.NoError(t, json.Unmarshal(answer, &pod))
	return pod.Metadata.UID
}

var containerFolder = regexp.MustCompile(`^(?:cri-containerd-)?([0-9a-f]{64})(?:\.scope)?$`)

// containers are those that have a cgroup now, sandboxes among them.
func (n *realNode) containers(t *testing.T) map[string]bool {
	found := map[string]bool{}
	err := filepath.WalkDir(n.PodCgroups(), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			if match := containerFolder.FindStringSubmatch(entry.Name()); match != nil {
				found[match[1]] = true
			}
		}
		return nil // one that goes meanwhile is none
	})
	require.NoError(t, err)
	return found
}
