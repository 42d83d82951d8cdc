// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

const (
	podsPath     = "/api/v1/namespaces/default/pods"
	servicesPath = "/api/v1/namespaces/default/services"
)

// CreatePod makes a pod of a node, as a scheduler leaves it, and returns its UID. It has one container, "app".
func (c *ControlPlane) CreatePod(name, node string) (uid string, err error) {
	object := fmt.Sprintf(`{"metadata": {"name": %q, "labels": {"app.kubernetes.io/name": "shop"},
		"annotations": {"config.example.com/filler": %q}},
		"spec": {"nodeName": %q, "containers": [{"name": "app", "image": "app:1"}]}}`, name, strings.Repeat("x", 2000), node)
	code, body, err := c.try(http.MethodPost, podsPath, object)
	if err == nil && code != http.StatusCreated {
		err = fmt.Errorf("create pod %s: %d: %s", name, code, body)
	}
	if err != nil {
		return "", err
	}
	var made struct {
		Metadata struct{ UID string }
	}
	return made.Metadata.UID, json.Unmarshal(body, &made)
}

// ReportRunning says that the pod's container has started, as a kubelet does.
func (c *ControlPlane) ReportRunning(name, containerID string) error {
	return c.Try(http.MethodPatch, podsPath+"/"+name+"/status", fmt.Sprintf(`{"status": {"phase": "Running", "hostIP": "192.168.0.9",
		"containerStatuses": [{"name": "app", "image": "app:1", "imageID": "sha256:1", "ready": true, "restartCount": 0, "containerID": "containerd://%s",
		"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}}`, containerID))
}

// DeletePod removes it at once, as a kubelet does when all has ended.
func (c *ControlPlane) DeletePod(name string) error {
	return c.Try(http.MethodDelete, podsPath+"/"+name, `{"gracePeriodSeconds": 0}`)
}
