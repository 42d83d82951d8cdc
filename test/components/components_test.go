// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package components

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	for content, want := range map[string]string{
		"require example.com/a/b v1.2.3 // indirect\n":                             "1.2.3",
		"require (\n\texample.com/a/bc v9.9.9\n\texample.com/a/b v1.2.3-rc.1\n)\n": "1.2.3-rc.1",
	} {
		pins := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(pins, "go.mod"), []byte(content), 0o600))
		version, err := Program{Module: "example.com/a/b"}.version(pins)
		require.NoError(t, err)
		assert.Equal(t, want, version)
	}
}

func TestVersionIsNotThere(t *testing.T) {
	pins := t.TempDir()
	program := Program{Module: "example.com/a/b", Pins: "pins"}
	_, err := program.version(pins)
	assert.ErrorContains(t, err, "read the version of example.com/a/b: ")
	require.NoError(t, os.WriteFile(filepath.Join(pins, "go.mod"), []byte("require example.com/a/bc v1.0.0\n"), 0o600))
	_, err = program.version(pins)
	assert.EqualError(t, err, "pins/go.mod does not require example.com/a/b")
}
