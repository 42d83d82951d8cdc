// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Context is the span that a request's headers name as its parent. The zero Context is none.
type Context struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   uint8
	State   string // as in tracestate
}

// IsValid says that there is one.
func (c *Context) IsValid() bool { return c.TraceID != [16]byte{} }

// ParseContext reads the values of the headers traceparent and tracestate (W3C Trace Context). What is
// invalid is no parent; an invalid state is left out. There may be several states, which are one list,
// but only one parent.
func ParseContext(parents []string, states string) Context {
	if len(parents) != 1 {
		return Context{}
	}
	carrier := propagation.MapCarrier{"traceparent": parents[0], "tracestate": states}
	found := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if !found.IsValid() {
		return Context{}
	}
	return Context{TraceID: found.TraceID(), SpanID: found.SpanID(), Flags: uint8(found.TraceFlags()), State: found.TraceState().String()}
}
