// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

// loadConfig reads testdata into the default config, as the Collector does.
func loadConfig(t *testing.T, file string) (component.Config, error) {
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", file))
	require.NoError(t, err)
	cfg := NewFactory().CreateDefaultConfig()
	if err := conf.Unmarshal(&cfg); err != nil {
		return nil, err
	}
	return cfg, confmap.Validate(cfg)
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		file string
		want *Config
	}{
		{"default.yaml", &Config{MaxWait: 10 * time.Second, MaxHeld: 100_000, Remember: 5 * time.Minute, MaxRemembered: 200_000}},
		{"full.yaml", &Config{MaxWait: 35 * time.Second, MaxHeld: 7, Remember: time.Hour, MaxRemembered: 9}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			cfg, err := loadConfig(t, tt.file)
			require.NoError(t, err)
			assert.Equal(t, tt.want, cfg)
		})
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		file string
		want []string
	}{
		{"no_wait.yaml", []string{"max_wait: must be at least 1ms, but is 0s"}},
		{"no_room.yaml", []string{"max_held: must be at least 1, but is 0"}},
		{"forgetful.yaml", []string{"remember: must be at least max_wait (1m0s), but is 59s"}},
		{"no_memory.yaml", []string{"max_remembered: must be at least 1, but is -1"}},
		{"unknown_key.yaml", []string{"invalid keys: max_waits"}},
		{"all_wrong.yaml", []string{
			"max_wait: must be at least 1ms, but is -1s", "max_held: must be at least 1, but is -1",
			"remember: must be at least max_wait (-1s), but is -2s", "max_remembered: must be at least 1, but is 0",
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			_, err := loadConfig(t, tt.file)
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}
