// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Package footprint gives memory back that only the start needed.
package footprint // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/footprint"

import "runtime/debug"

// Trim frees what the heap does not use any more.
func Trim() error {
	debug.FreeOSMemory()
	return nil
}
