// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
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

// timeFormatter writes times as ISO 8601, which is the form that the conventions want.
type timeFormatter struct {
	buffer []byte
}

func (f *timeFormatter) format(t pcommon.Timestamp) string {
	f.buffer = t.AsTime().AppendFormat(f.buffer[:0], time.RFC3339Nano)
	return string(f.buffer)
}
