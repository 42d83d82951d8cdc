// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// maxAddresses are remembered as text; then the memory is begun anew.
const maxAddresses = 16384

// addressNames remember addresses as text: the same few peers come again and again.
type addressNames map[[16]byte]string

func (a addressNames) of(address [16]byte) string {
	if name, ok := a[address]; ok {
		return name
	}
	if len(a) >= maxAddresses {
		clear(a)
	}
	name := event.Address(address).String()
	a[address] = name
	return name
}

// textChunk is how much room for times is taken at once. Their texts share it, so that a record
// costs no allocation; it goes when the last batch that uses it has gone.
const textChunk = 32 << 10

// timeFormatter writes times as ISO 8601, which is the form that the conventions want.
type timeFormatter struct {
	scratch []byte
	chunk   *strings.Builder
}

func (f *timeFormatter) format(t pcommon.Timestamp) string {
	f.scratch = t.AsTime().AppendFormat(f.scratch[:0], time.RFC3339Nano)
	if f.chunk == nil || f.chunk.Len()+len(f.scratch) > f.chunk.Cap() {
		f.chunk = &strings.Builder{}
		f.chunk.Grow(textChunk)
	}
	start := f.chunk.Len()
	f.chunk.Write(f.scratch)
	return f.chunk.String()[start:]
}
