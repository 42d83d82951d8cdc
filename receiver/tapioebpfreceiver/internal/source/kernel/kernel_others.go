// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux || !(amd64 || arm64)

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"fmt"
	"runtime"

	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// New says what the source needs, since this platform does not have it.
func New(Options, *zap.Logger) (source.Source, error) {
	return nil, fmt.Errorf("source ebpf needs Linux on amd64 or arm64, this is %s on %s; source: simulator works everywhere", runtime.GOOS, runtime.GOARCH)
}
