// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/extensiontest"
)

func TestFactory(t *testing.T) {
	factory := NewFactory()
	assert.Equal(t, component.StabilityLevelAlpha, factory.Stability())

	ext, err := factory.Create(t.Context(), extensiontest.NewNopSettings(factory.Type()), factory.CreateDefaultConfig())
	require.NoError(t, err)
	assert.IsType(t, &tapioExtension{}, ext)
}

func TestDefaultConfigsAreIndependent(t *testing.T) {
	factory := NewFactory()
	changed := factory.CreateDefaultConfig().(*Config)
	changed.NetAddr.Endpoint = "0.0.0.0:1"
	assert.Equal(t, "localhost:8686", factory.CreateDefaultConfig().(*Config).NetAddr.Endpoint)
}
