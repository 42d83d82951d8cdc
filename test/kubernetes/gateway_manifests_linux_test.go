// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

// TestGatewayManifests: a real API server takes what a real kubectl makes of each folder, in a namespace that allows
// no privileges at all.
func TestGatewayManifests(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	plane := cluster.StartControlPlane(t)
	kubectl, err := cluster.Binary(t.Context(), "kubectl")
	require.NoError(t, err)
	run := func(input string, arguments ...string) string {
		command := exec.CommandContext(t.Context(), kubectl, arguments...)
		command.Env = append(os.Environ(), "KUBECONFIG="+plane.Kubeconfig(t, cluster.Admin))
		command.Stdin = strings.NewReader(input)
		var stderr bytes.Buffer
		command.Stderr = &stderr
		output, err := command.Output()
		require.NoError(t, err, "kubectl %s: %s", arguments, &stderr)
		assert.NotContains(t, stderr.String(), "Warning", "of the policy, or of what is deprecated")
		return string(output)
	}
	run(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tapio", "labels": {"pod-security.kubernetes.io/enforce": "restricted",
		"pod-security.kubernetes.io/warn": "restricted"}}}`, "create", "-f", "-")
	for folder, want := range map[string][]string{
		gatewayFolder + "base": {
			"deployment.apps/gateway-router", "statefulset.apps/gateway-sampler", "service/gateway", "service/gateway-samplers",
			"horizontalpodautoscaler.autoscaling/gateway-router", "horizontalpodautoscaler.autoscaling/gateway-sampler",
			"poddisruptionbudget.policy/gateway-router", "poddisruptionbudget.policy/gateway-sampler",
		},
		gatewayFolder + "joined": {
			"deployment.apps/gateway-router",
			"horizontalpodautoscaler.autoscaling/gateway-router", "horizontalpodautoscaler.autoscaling/gateway-sampler",
		},
		gatewayFolder + "kafka": {"deployment.apps/gateway-router", "horizontalpodautoscaler.autoscaling/gateway-router"},
		"../../deploy/jaeger":   {"statefulset.apps/jaeger", "service/jaeger"},
	} {
		manifests := run("", "kustomize", folder)
		made := run(manifests, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
		for _, object := range want {
			assert.Contains(t, made, object+" ", folder)
		}
		if strings.HasSuffix(folder, "joined") {
			assert.Contains(t, objectIn(manifests, "HorizontalPodAutoscaler", "gateway-router"), "\n  maxReplicas: 1\n")
			assert.Contains(t, objectIn(manifests, "Deployment", "gateway-router"), "\n  replicas: 1\n")
		}
	}
}

// objectIn manifests, by kind and name.
func objectIn(manifests, kind, name string) string {
	for object := range strings.SplitSeq(manifests, "\n---\n") {
		if strings.Contains(object, "kind: "+kind+"\n") && strings.Contains(object, "\n  name: "+name+"\n") {
			return object
		}
	}
	return ""
}
