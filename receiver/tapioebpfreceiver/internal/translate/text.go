// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"bytes"
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

// Texts up to a size are remembered, up to a number; then the memory is begun anew.
const (
	maxTexts    = 8192
	maxTextSize = 256 // bytes
)

// texts remember what is sent again and again, such as hosts and paths.
type texts map[string]string

// of bytes, which come as text that is valid UTF-8.
func (t texts) of(text []byte) string {
	if known, ok := t[string(text)]; ok {
		return known
	}
	key := string(text)
	valid := strings.ToValidUTF8(key, "\uFFFD")
	if len(text) > maxTextSize {
		return valid
	}
	if len(t) >= maxTexts {
		clear(t)
	}
	t[key] = valid
	return valid
}

// textChunk is how much room for times is taken at once. Their texts share it, so that a record
// costs no allocation; it goes when the last batch that uses it has gone.
const textChunk = 32 << 10

// timeFormatter writes times as ISO 8601, which is the form that the conventions want.
type timeFormatter struct {
	scratch []byte
	chunk   *strings.Builder

	// The second that was formatted last: most events are close to each other.
	second int64
	prefix []byte
	// The two times that were formatted last: a process's end is told by a span and by a log record,
	// each with the times of its start and its end.
	recent [2]formatted
}

type formatted struct {
	time pcommon.Timestamp
	text string
}

func (f *timeFormatter) format(t pcommon.Timestamp) string {
	for i := range f.recent {
		if f.recent[i].time == t && f.recent[i].text != "" {
			return f.recent[i].text
		}
	}
	text := f.keep(f.write(t))
	f.recent[0], f.recent[1] = f.recent[1], formatted{t, text}
	return text
}

// write is time.RFC3339Nano in UTC, for one second after the other at a third of the price.
func (f *timeFormatter) write(t pcommon.Timestamp) []byte {
	second, ns := int64(t/1e9), int(t%1e9)
	if second != f.second || f.prefix == nil {
		f.second = second
		f.prefix = time.Unix(second, 0).UTC().AppendFormat(f.prefix[:0], "2006-01-02T15:04:05")
	}
	f.scratch = append(f.scratch[:0], f.prefix...)
	if ns > 0 {
		digits := len(f.scratch) + len(".")
		f.scratch = append(f.scratch, ".000000000"...)
		for i := digits + 8; ns > 0; i, ns = i-1, ns/10 {
			f.scratch[i] = byte('0' + ns%10)
		}
		f.scratch = bytes.TrimRight(f.scratch, "0")
	}
	return append(f.scratch, 'Z')
}

// keep makes a string of it in the chunk.
func (f *timeFormatter) keep(text []byte) string {
	if f.chunk == nil || f.chunk.Len()+len(text) > f.chunk.Cap() {
		f.chunk = &strings.Builder{}
		f.chunk.Grow(textChunk)
	}
	start := f.chunk.Len()
	f.chunk.Write(text)
	return f.chunk.String()[start:]
}
