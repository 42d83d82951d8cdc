// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMirrorFor(t *testing.T) {
	for name, test := range map[string]struct {
		file, text, variable string
		main, security       string
		wantErr              string
	}{
		"deb822 with two archives": {
			file: "sources.list.d/debian.sources",
			text: "Types: deb\n# a remark\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\n" +
				"Types: deb\nURIs: http://security.example/debian-security\nSuites: bookworm-security\n",
			main:     "http://mirror.example/debian",
			security: "http://security.example/debian-security",
		},
		"one line, without security": {
			file:     "sources.list",
			text:     "# deb http://old.example/debian bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bookworm main\n",
			main:     "http://mirror.example/debian",
			security: "http://mirror.example/debian-security",
		},
		"the variable wins": {
			file:     "sources.list",
			text:     "deb http://mirror.example/debian bookworm main\n",
			variable: "http://other.example/debian",
			main:     "http://other.example/debian",
			security: "http://other.example/debian-security",
		},
		"another distribution": {
			file:    "sources.list.d/third.list",
			text:    "deb https://third.example/apt stable main\n",
			wantErr: "set TAPIO_KERNELS_MIRROR",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(mirrorVariable, test.variable)
			etc := t.TempDir()
			file := filepath.Join(etc, test.file)
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte(test.text), 0o600))
			main, err := mirrorFor("trixie-backports", etc)
			if test.wantErr != "" {
				require.ErrorContains(t, err, test.wantErr)
				return
			}
			require.NoError(t, err)
			security, err := mirrorFor("trixie-security", etc)
			require.NoError(t, err)
			assert.Equal(t, test.main, main)
			assert.Equal(t, test.security, security)
		})
	}
}
