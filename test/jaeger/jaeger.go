// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package jaeger has a real Jaeger, for tests and for users: it builds it, asks its query API, and draws
// the traces that it answers with.
package jaeger // import "github.com/tapio-io/otelcol-tapio/test/jaeger"

import (
	"context"

	"github.com/tapio-io/otelcol-tapio/test/components"
)

// Binary is Jaeger in the version that components/go.mod has. It is built once, into the user's cache,
// which takes some minutes.
func Binary(ctx context.Context) (string, error) {
	const module = "github.com/jaegertracing/jaeger"
	return components.Program{
		Name: "jaeger", Of: "jaeger", Package: module + "/cmd/jaeger", Module: module, Pins: "jaeger/components",
	}.Binary(ctx)
}
