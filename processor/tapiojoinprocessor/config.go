// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
)

// Config of the processor.
type Config struct {
	// MaxWait is how long the spans and log records of a trace wait for the client's span of the request
	// that it began with.
	MaxWait time.Duration `mapstructure:"max_wait"`
	// MaxHeld spans and log records wait at a time.
	MaxHeld int `mapstructure:"max_held"`
	// Remember is how long it is known where a trace belongs after something of it came.
	Remember time.Duration `mapstructure:"remember"`
	// MaxRemembered traces of which this is known; beyond, those of which nothing came for the longest time
	// are forgotten.
	MaxRemembered int `mapstructure:"max_remembered"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ component.Config = (*Config)(nil)

func createDefaultConfig() component.Config {
	return &Config{MaxWait: 10 * time.Second, MaxHeld: 100_000, Remember: 5 * time.Minute, MaxRemembered: 200_000}
}

// Validate checks that there are bounds, and that what is decided is known for as long as it may be needed.
func (cfg *Config) Validate() error {
	var errs []error
	if cfg.MaxWait < time.Millisecond { // such as a number without a unit, which is of ns
		errs = append(errs, fmt.Errorf("max_wait: must be at least 1ms, but is %s", cfg.MaxWait))
	}
	if cfg.MaxHeld < 1 {
		errs = append(errs, fmt.Errorf("max_held: must be at least 1, but is %d", cfg.MaxHeld))
	}
	if cfg.Remember < cfg.MaxWait {
		errs = append(errs, fmt.Errorf("remember: must be at least max_wait (%s), but is %s", cfg.MaxWait, cfg.Remember))
	}
	if cfg.MaxRemembered < 1 {
		errs = append(errs, fmt.Errorf("max_remembered: must be at least 1, but is %d", cfg.MaxRemembered))
	}
	return errors.Join(errs...)
}
