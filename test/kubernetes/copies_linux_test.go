// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

// TestCopies: operator and chart want the configuration, and what the pod is, in their own files. These say the same.
func TestCopies(t *testing.T) {
	agent := load(t, deploy+"/kubernetes/base/agent.yaml")
	operator := load(t, deploy+"/operator/collector.yaml")
	chart := load(t, deploy+"/helm/opentelemetry-collector.yaml")

	assert.Equal(t, agent.ToStringMap(), sub(t, chart, "alternateConfig"))
	withProbe := confmap.NewFromStringMap(agent.ToStringMap())
	require.NoError(t, withProbe.Merge(confmap.NewFromStringMap(map[string]any{
		"extensions": map[string]any{"health_check": map[string]any{"endpoint": ":13133"}},
		"service":    map[string]any{"extensions": []any{"health_check", "tapio"}},
	})))
	assert.Equal(t, withProbe.ToStringMap(), sub(t, operator, "spec::config"))

	// the stack's collector is the operator's, with the image in two
	stack := sub(t, load(t, deploy+"/helm/opentelemetry-kube-stack.yaml"), "collectors::tapio")
	assert.Equal(t, operator.Get("metadata::labels"), stack["labels"])
	for key, value := range sub(t, operator, "spec") {
		if key != "image" {
			assert.Equal(t, value, stack[key], key)
		}
	}
	assert.Equal(t, map[string]any{"repository": chart.Get("image::repository"), "tag": chart.Get("image::tag")}, stack["image"])

	daemonSet := load(t, deploy+"/kubernetes/base/daemonset.yaml")
	labels := daemonSet.Get("spec::template::metadata::labels")
	assert.Equal(t, labels, operator.Get("metadata::labels"))
	assert.Equal(t, labels, map[string]any{"app.kubernetes.io/name": chart.Get("nameOverride")})
	assert.Equal(t, daemonSet.Get("spec::updateStrategy::rollingUpdate"), operator.Get("spec::daemonSetUpdateStrategy::rollingUpdate"))
	assert.Equal(t, daemonSet.Get("spec::updateStrategy::rollingUpdate"), chart.Get("rollout::rollingUpdate"))
	pod := sub(t, daemonSet, "spec::template::spec")
	container := pod["containers"].([]any)[0].(map[string]any)
	for _, key := range []string{"hostPID", "priorityClassName", "tolerations", "affinity", "terminationGracePeriodSeconds"} {
		assert.Equal(t, pod[key], operator.Get("spec::"+key), key)
		assert.Equal(t, pod[key], chart.Get(key), key)
	}
	for _, key := range []string{"resources", "securityContext"} {
		assert.Equal(t, container[key], operator.Get("spec::"+key), key)
		assert.Equal(t, container[key], chart.Get(key), key)
	}
	for _, key := range []string{"livenessProbe", "readinessProbe"} { // the operator makes its own
		probe := sub(t, chart, key)
		probe["httpGet"].(map[string]any)["port"] = "stats" // the chart has no such name
		assert.Equal(t, container[key], probe, key)
		assert.Equal(t, 8686, chart.Get(key+"::httpGet::port"), key)
	}
	assert.Equal(t, container["env"], operator.Get("spec::env"))
	assert.Equal(t, container["env"], chart.Get("extraEnvs"))
	assert.Equal(t, container["image"], operator.Get("spec::image"))
	assert.Equal(t, container["image"], chart.Get("image::repository").(string)+":"+chart.Get("image::tag").(string))
	assert.Equal(t, pod["securityContext"], operator.Get("spec::podSecurityContext"))
	assert.Equal(t, pod["securityContext"], chart.Get("podSecurityContext"))
	assert.Equal(t, roleOf(t), chart.Get("clusterRole::rules"))
	assert.Contains(t, pod["volumes"], operator.Get("spec::volumes").([]any)[0])
	assert.Contains(t, pod["volumes"], chart.Get("extraVolumes").([]any)[0])
	assert.Contains(t, container["volumeMounts"], operator.Get("spec::volumeMounts").([]any)[0])
	assert.Contains(t, container["volumeMounts"], chart.Get("extraVolumeMounts").([]any)[0])
}

// TestTwoJaegers: the Service of the one that stays takes the place of that of the one to try it, and sends to its own only.
func TestTwoJaegers(t *testing.T) {
	stays := documents(t, deploy+"/jaeger/statefulset.yaml")
	forgets := documents(t, deploy+"/kubernetes/jaeger/deployment.yaml")
	require.Len(t, stays, 2)
	require.Len(t, forgets, 2)
	for _, jaeger := range [][]*confmap.Conf{stays, forgets} {
		assert.Equal(t, jaeger[0].Get("spec::template::metadata::labels"), jaeger[1].Get("spec::selector"))
	}
	assert.Equal(t, stays[1].Get("metadata"), forgets[1].Get("metadata"))
	assert.NotEqual(t, stays[1].Get("spec::selector"), forgets[1].Get("spec::selector"))
}

// documents of a file with more than one.
func documents(t *testing.T, file string) (all []*confmap.Conf) {
	t.Helper()
	for text := range strings.SplitSeq(readFile(t, file), "\n---\n") {
		document, err := confmap.NewRetrievedFromYAML([]byte(text))
		require.NoError(t, err, file)
		conf, err := document.AsConf()
		require.NoError(t, err, file)
		all = append(all, conf)
	}
	return all
}

func load(t *testing.T, file string) *confmap.Conf {
	t.Helper()
	conf, err := confmaptest.LoadConf(file)
	require.NoError(t, err, file)
	return conf
}

func sub(t *testing.T, conf *confmap.Conf, key string) map[string]any {
	t.Helper()
	found, err := conf.Sub(key)
	require.NoError(t, err, key)
	require.NotEmpty(t, found.AllKeys(), key)
	return found.ToStringMap()
}

func roleOf(t *testing.T) any {
	return load(t, deploy+"/kubernetes/base/clusterrole.yaml").Get("rules")
}
