// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
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

func defaultServerConfig(change func(*confighttp.ServerConfig)) *Config {
	serverConfig := confighttp.NewDefaultServerConfig()
	serverConfig.NetAddr.Endpoint = "localhost:8686"
	change(&serverConfig)
	return &Config{ServerConfig: serverConfig}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		file string
		want *Config
	}{
		{file: "default.yaml", want: defaultServerConfig(func(*confighttp.ServerConfig) {})},
		{file: "endpoint.yaml", want: defaultServerConfig(func(sc *confighttp.ServerConfig) {
			sc.NetAddr.Endpoint = "10.0.0.7:8686"
		})},
		{file: "full.yaml", want: defaultServerConfig(func(sc *confighttp.ServerConfig) {
			sc.NetAddr.Endpoint = "/run/otelcol-tapio/tapio.sock"
			sc.NetAddr.Transport = confignet.TransportTypeUnix
			sc.ReadTimeout = 3 * time.Second
			sc.ReadHeaderTimeout = 2 * time.Second
			sc.WriteTimeout = 4 * time.Second
			sc.IdleTimeout = 5 * time.Second
			sc.KeepAlivesEnabled = false
			sc.ResponseHeaders = configopaque.MapList{{Name: "Cache-Control", Value: "no-store"}}
			sc.Auth = configoptional.Some(confighttp.AuthConfig{
				Config: configauth.Config{AuthenticatorID: component.MustNewID("basicauth")},
			})
			tls := configtls.NewDefaultServerConfig()
			tls.CertFile, tls.KeyFile = "server.crt", "server.key"
			sc.TLS = configoptional.Some(tls)
		})},
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
		want string
	}{
		{file: "empty_endpoint.yaml", want: "endpoint: must not be empty"},
		{file: "endpoint_without_port.yaml", want: "endpoint: must be host:port: address localhost: missing port in address"},
		{file: "endpoint_with_empty_port.yaml", want: `endpoint: "localhost:" must have a port from 0 to 65535`},
		{file: "endpoint_with_too_large_port.yaml", want: `endpoint: "localhost:86860" must have a port from 0 to 65535`},
		{file: "datagram_transport.yaml", want: `transport: must be tcp, tcp4, tcp6, unix or npipe, but is "udp"`},
		{file: "tls_without_certificate.yaml", want: "tls: TLS configuration must include both certificate and key"},
		{file: "unknown_key.yaml", want: "invalid keys: endpiont"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			_, err := loadConfig(t, tt.file)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestValidateTransportsAndPorts(t *testing.T) {
	for _, tt := range []struct {
		transport confignet.TransportType
		endpoint  string
	}{
		{confignet.TransportTypeTCP, "localhost:0"},
		{confignet.TransportTypeTCP, ":8686"},
		{confignet.TransportTypeTCP4, "127.0.0.1:65535"},
		{confignet.TransportTypeTCP6, "[::1]:8686"},
		{confignet.TransportTypeTCP, "localhost:http"},
		{confignet.TransportTypeTCP, "[10.0.0.7]:8686"},
		{confignet.TransportTypeTCP, "[fd00::12]:8686"},
		{confignet.TransportTypeUnix, "/run/tapio.sock"},
		{confignet.TransportTypeNpipe, `\\.\pipe\tapio`},
	} {
		t.Run(string(tt.transport)+" "+tt.endpoint, func(t *testing.T) {
			cfg := defaultServerConfig(func(sc *confighttp.ServerConfig) {
				sc.NetAddr.Transport, sc.NetAddr.Endpoint = tt.transport, tt.endpoint
			})
			assert.NoError(t, confmap.Validate(cfg))
		})
	}
}
