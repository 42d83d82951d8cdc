// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension // import "github.com/tapio-io/otelcol-tapio/extension/tapioextension"

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
)

// Config of the extension. It has what every HTTP server of the Collector has.
type Config struct {
	confighttp.ServerConfig `mapstructure:",squash"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ component.Config = (*Config)(nil)

// Validate checks what would otherwise fail only when the extension starts.
func (cfg *Config) Validate() error {
	if cfg.NetAddr.Endpoint == "" {
		return errors.New("endpoint: must not be empty")
	}
	switch cfg.NetAddr.Transport {
	case confignet.TransportTypeTCP, confignet.TransportTypeTCP4, confignet.TransportTypeTCP6:
		return validateHostPort(cfg.NetAddr.Endpoint)
	case confignet.TransportTypeUnix, confignet.TransportTypeNpipe:
		return nil
	default:
		return fmt.Errorf("transport: must be tcp, tcp4, tcp6, unix or npipe, but is %q", cfg.NetAddr.Transport)
	}
}

// validateHostPort accepts names of services, such as "http", as a port.
func validateHostPort(endpoint string) error {
	_, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: must be host:port: %w", err)
	}
	if number, err := strconv.Atoi(port); port == "" || err == nil && (number < 0 || number > math.MaxUint16) {
		return fmt.Errorf("endpoint: %q must have a port from 0 to %d", endpoint, math.MaxUint16)
	}
	return nil
}
