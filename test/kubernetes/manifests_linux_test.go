// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

const (
	deploy  = "../../deploy"
	variant = deploy + "/kubernetes/jaeger"
	readme  = deploy + "/kubernetes/README.md"
)

// TestManifests: a real API server takes all that is in deploy, and says what is wrong with what is wrong.
func TestManifests(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	plane := cluster.StartControlPlane(t)
	c := newClient(t, plane)
	c.kubectl("apply", "-f", deploy+"/kubernetes/base/namespace.yaml")
	folders := kustomizations(t)
	require.NotEmpty(t, folders)
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) {
			if folder == deploy+"/operator" { // this API server knows no OpenTelemetryCollector: see TestCopies
				assert.NotContains(t, c.in(t).kubectl("kustomize", folder), "kind: DaemonSet")
				return
			}
			c.in(t).kubectl("apply", "--dry-run=server", "--validate=strict", "-k", folder)
		})
	}
	for name, wrong := range map[string]struct{ patch, message string }{
		"unknown field":     {`{op: add, path: /spec/template/spec/hostPids, value: true}`, `unknown field "spec.template.spec.hostPids"`},
		"no quantity":       {`{op: replace, path: /spec/template/spec/containers/0/resources/limits/memory, value: plenty}`, `quantities must match`},
		"too little memory": {`{op: replace, path: /spec/template/spec/containers/0/resources/limits/memory, value: 100Mi}`, `must be less than or equal to memory limit`},
	} {
		t.Run(name, func(t *testing.T) {
			output, err := c.command(c.binary, "apply", "--dry-run=server", "-k", overlay(t, variant, patch(wrong.patch))).CombinedOutput()
			require.Error(t, err)
			assert.Contains(t, string(output), wrong.message)
		})
	}
	policy := regexp.MustCompile("(?s)```yaml\n([^`]*kind: NetworkPolicy\n.*?)```").FindStringSubmatch(readFile(t, readme))
	require.NotNil(t, policy)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(file, []byte(policy[1]), 0o600))
	c.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", file)
	c.requireUsage()
	c.requireCare()
}

// kustomizations are all that can be applied as they are.
func kustomizations(t *testing.T) (folders []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(deploy, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "kustomization.yaml" && !strings.Contains(readFile(t, path), "kind: Component") {
			folders = append(folders, filepath.Dir(path))
		}
		return err
	}))
	return folders
}

// overlay is a folder with a kustomization over that of another. Further folders that it names are COMPONENT in it.
func overlay(t *testing.T, base, more string, components ...string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	relative := func(to string) string {
		absolute, err := filepath.Abs(to)
		require.NoError(t, err)
		path, err := filepath.Rel(folder, absolute)
		require.NoError(t, err)
		return path
	}
	for _, component := range components {
		more = strings.Replace(more, "COMPONENT", relative(component), 1)
	}
	content := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + relative(base) + "]\n" + more + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(content), 0o600))
	return folder
}

// patch of the agents' DaemonSet, as a JSON patch.
func patch(change string) string {
	return "patches:\n  - target: {kind: DaemonSet, name: agent}\n    patch: |\n      - " + change
}

// TestComponents: each of those that some nodes need changes just what it is for.
func TestComponents(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	binary, err := cluster.Binary(t.Context(), "kubectl")
	require.NoError(t, err)
	c := client{t: t, binary: binary}
	plain := c.kubectl("kustomize", variant)
	for name, adds := range map[string][]string{
		"selinux":     {"seLinuxOptions:", "type: spc_t"},
		"kernel-5.10": {"- SYS_RESOURCE"},
	} {
		with := c.kubectl("kustomize", overlay(t, variant, "components: [COMPONENT]", deploy+"/kubernetes/components/"+name))
		for _, line := range adds {
			assert.Equal(t, strings.Count(plain, line)+1, strings.Count(with, line), "%s: %s", name, line)
		}
		assert.Equal(t, strings.Count(plain, "\n")+len(adds), strings.Count(with, "\n"), name)
	}
}

// requireUsage: mistakes at the command line are told, and change nothing.
func (c *client) requireUsage() {
	c.t.Helper()
	for arguments, message := range map[string]string{
		"nonsense":       "there is no command nonsense",
		"up nowhere":     "there is no nowhere/kustomization.yaml",
		"up a b":         "one variant at a time",
		"down --all a b": "one variant at a time",
		"up --all":       "there is no --all/kustomization.yaml",
		"status a":       "status takes no variant",
	} {
		c.refuses(message, strings.Fields(arguments)...)
	}
	assert.Contains(c.t, c.run(deploy+"/tapio"), "usage:")
	c.t.Setenv("TAPIO_IMAGE", "registry.example:5000/team/otelcol-tapio:2")
	rendered := c.run(deploy+"/tapio", "render", "simulator")
	assert.Equal(c.t, 2, strings.Count(rendered, "image: registry.example:5000/team/otelcol-tapio:2\n"))
	assert.NotContains(c.t, rendered, "image: otelcol-tapio")
}

// requireCare: what is not there is not called ready, and agents that send to a gateway go on with it.
func (c *client) requireCare() {
	c.t.Helper()
	c.refuses("nothing runs in the namespace tapio", "up", overlay(c.t, deploy+"/operator", `patches:
  - target: {kind: OpenTelemetryCollector}
    patch: |
      $patch: delete
      apiVersion: opentelemetry.io/v1beta1
      kind: OpenTelemetryCollector
      metadata: {name: agent}`)) // this API server does not know it
	c.kubectl("apply", "-k", deploy+"/kubernetes/base")
	c.refuses("the agents of the daemon set agent do not send to the Jaeger", "compare")
	c.refuses("If they may be: deploy/tapio up jaeger\n", "up")
	assert.NotContains(c.t, c.kubectl("-n", "tapio", "get", "daemonset", "agent", "-o", "yaml"), "jaeger")
	c.refuses("no agent runs in the namespace tapio", "status")
}
