// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// maxHops is how many requests between nodes one trace is joined of, so that none grows without bound.
const maxHops = 64

// traceContext is what a span says of its trace, and has in common with those below it.
type traceContext struct {
	traceID pcommon.TraceID
	flags   uint32 // of W3C Trace Context
	state   string // W3C tracestate
}

// fate is what became of a trace whose id is made of a link. Something of it came last when used says.
type fate struct {
	traceContext
	isJoined bool // it is a part of that trace; false: it stays as it is
	hops     int  // between this trace and the first one
	used     time.Time
}

// below is the fate of a trace whose client's span is in a trace with this fate.
func (f *fate) below(client traceContext) (*fate, outcome) {
	joined := &fate{traceContext: client, isJoined: true, hops: f.hops + 1}
	if joined.hops > maxHops {
		return &fate{}, outcomeOverflow
	}
	if f.isJoined {
		joined.traceContext = client.in(f.traceContext)
	}
	return joined, outcomeJoined
}

// in is what a span says that is moved to another trace. A tracestate of its own stays: a sampler on its
// node has put its threshold there.
func (c traceContext) in(other traceContext) traceContext {
	if c.state != "" {
		other.state = c.state
	}
	return other
}

// outcome is why a trace has its fate, as the attribute says it.
type outcome int

const (
	outcomeJoined outcome = iota
	outcomeAlone
	outcomeExpired
	outcomeOverflow
	outcomeShutdown
	outcomeCount
)

// signal of a pipeline, as the attribute says it.
type signal int

const (
	signalTraces signal = iota
	signalLogs
	signalCount
)
