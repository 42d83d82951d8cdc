// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import "sync/atomic"

// GivenUp counts parents that may have been missed, by the limit that was the reason. It may be used from any
// goroutine.
type GivenUp struct {
	// MaxWait: spans whose process was serving a request for longer than they may wait.
	MaxWait atomic.Uint64
	// MaxHeld: times that a span could not wait, since as many did as may.
	MaxHeld atomic.Uint64
	// MaxRequests: sides of requests whose place was forgotten before its time.
	MaxRequests atomic.Uint64
	// MaxDepth and MaxChildren: spans that could not be below the request that they were for.
	MaxDepth, MaxChildren atomic.Uint64
}
