// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package tapioextension serves what the tapioebpf receiver knows about itself.
package tapioextension // import "github.com/tapio-io/otelcol-tapio/extension/tapioextension"

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/extension"

	"github.com/tapio-io/otelcol-tapio/extension/tapioextension/internal/metadata"
)

const defaultEndpoint = "localhost:8686"

// NewFactory creates the factory of the extension.
func NewFactory() extension.Factory {
	return extension.NewFactory(metadata.Type, createDefaultConfig, create, metadata.ExtensionStability)
}

func createDefaultConfig() component.Config {
	serverConfig := confighttp.NewDefaultServerConfig()
	serverConfig.NetAddr.Endpoint = defaultEndpoint
	return &Config{ServerConfig: serverConfig}
}

func create(_ context.Context, set extension.Settings, cfg component.Config) (extension.Extension, error) {
	return newExtension(cfg.(*Config), set.TelemetrySettings), nil
}
