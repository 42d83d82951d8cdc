// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

// TestOperator: the resource in deploy/operator has the fields, types and values that the operator's API has. Its types are
// those of an npm package that is generated from the operator's in Go, and TypeScript says what does not fit, also fields
// that are not known. TestCopies shows that the chart opentelemetry-kube-stack gets the same.
func TestOperator(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	folder := operatorTypes(t)
	collector := load(t, deploy+"/operator/collector.yaml").ToStringMap()
	require.Empty(t, checkCollector(t, folder, collector))

	spec := collector["spec"].(map[string]any)
	spec["hostPid"] = true
	assert.Contains(t, checkCollector(t, folder, collector), `'"hostPid"' does not exist in type`)

	delete(spec, "hostPid")
	spec["hostPID"] = "yes"
	spec["mode"] = "deamonset"
	spec["env"] = []any{map[string]any{"value": "1"}}
	complaints := checkCollector(t, folder, collector)
	assert.Contains(t, complaints, `Type 'string' is not assignable to type 'boolean`)
	assert.Contains(t, complaints, `Type '"deamonset"' is not assignable to type`)
	assert.Contains(t, complaints, `Property '"name"' is missing in type`)
}

// operatorTypes returns a folder with the packages that operator/package-lock.json pins.
func operatorTypes(t *testing.T) string {
	t.Helper()
	_, err := exec.LookPath("npm")
	require.NoError(t, err, "apt-get install nodejs npm")
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	folder := filepath.Join(cache, "otelcol-tapio", "operator", fmt.Sprintf("%x", sha256.Sum256([]byte(readFile(t, "operator/package-lock.json"))))[:12])
	if _, err := os.Stat(folder); err == nil {
		return folder
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(folder), 0o755))
	fresh, err := os.MkdirTemp(filepath.Dir(folder), "new-")
	require.NoError(t, err)
	defer os.RemoveAll(fresh)
	require.NoError(t, os.CopyFS(fresh, os.DirFS("operator")))
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = fresh
	output, err := install.CombinedOutput()
	require.NoError(t, err, "npm ci: %s", output)
	require.NoError(t, os.Rename(fresh, folder))
	return folder
}

// checkCollector returns what TypeScript says of it; nothing: it fits.
func checkCollector(t *testing.T, packages string, collector map[string]any) string {
	t.Helper()
	text, err := json.MarshalIndent(collector, "", "  ")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(folder, "node_modules")))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "tsconfig.json"), []byte(readFile(t, "operator/tsconfig.json")), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "collector.ts"), []byte(
		`import type {IOpenTelemetryCollector} from "@kubernetes-models/opentelemetry-operator/opentelemetry.io/v1beta1";
export const collector: IOpenTelemetryCollector = `+string(text)), 0o644))
	compiler := exec.CommandContext(t.Context(), "node", "node_modules/typescript/bin/tsc")
	compiler.Dir = folder
	output, err := compiler.CombinedOutput()
	if err != nil {
		require.NotEmpty(t, output, "%v", err)
	}
	return strings.TrimSpace(string(output))
}
