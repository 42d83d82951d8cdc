// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestServiceUnit: what a service of systemd may do is what is tested to be enough, and systemd takes the unit.
func TestServiceUnit(t *testing.T) {
	text, err := os.ReadFile("../../deploy/systemd/otelcol-tapio.service")
	require.NoError(t, err)
	set := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			set[key] = value
		}
	}
	var enough []string
	for name := range maps.Keys(confined) {
		enough = append(enough, "CAP_"+strings.ToUpper(name))
	}
	assert.ElementsMatch(t, enough, strings.Fields(set["AmbientCapabilities"]))
	assert.ElementsMatch(t, enough, strings.Fields(set["CapabilityBoundingSet"]))
	assert.Equal(t, "TAPIO_DATA=/var/lib/"+set["StateDirectory"], set["Environment"])
	assert.Equal(t, "0700", set["StateDirectoryMode"])

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	const binary = "/usr/local/bin/otelcol-tapio"
	require.Contains(t, set["ExecStart"], binary+" --config ")
	path := filepath.Join(t.TempDir(), "otelcol-tapio.service")
	here := strings.ReplaceAll(string(text), binary, "/bin/true") // it is looked for
	require.NoError(t, os.WriteFile(path, []byte(here), 0o600))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Empty(t, string(out), "of keys that it does not know it warns only")
}
