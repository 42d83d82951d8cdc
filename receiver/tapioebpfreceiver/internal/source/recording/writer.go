// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package recording // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
)

// writeBuffer is large enough that a turn's records are mostly one write.
const writeBuffer = 256 << 10

// Writer writes a recording. It belongs to one goroutine. An error stays: what comes after it is not
// written, and returns it again.
type Writer struct {
	out     *bufio.Writer
	written uint64
	scratch []byte
	err     error
}

// NewWriter begins a recording.
func NewWriter(to io.Writer, description Description) (*Writer, error) {
	w := &Writer{out: bufio.NewWriterSize(to, writeBuffer)}
	w.write(binary.LittleEndian.AppendUint32([]byte(magic), Version))
	w.WriteJSON(KindDescription, description)
	return w, w.err
}

// Size of what was written, in bytes.
func (w *Writer) Size() uint64 { return w.written }

// Err is the first error that there was.
func (w *Writer) Err() error { return w.err }

// WriteRecord adds a record.
func (w *Writer) WriteRecord(record []byte) { w.writeFrame(KindRecord, record) }

// WriteClock ends a turn.
func (w *Writer) WriteClock(clock Clock) {
	w.scratch = clock.append(w.scratch[:0])
	w.writeFrame(KindClock, w.scratch)
}

// WriteJSON adds a frame that is not a record.
func (w *Writer) WriteJSON(kind Kind, value any) {
	payload, err := json.Marshal(value)
	if err != nil {
		w.fail(fmt.Errorf("encode a frame of kind %d: %w", kind, err))
		return
	}
	w.writeFrame(kind, payload)
}

// Flush hands over what is in the buffer.
func (w *Writer) Flush() {
	if err := w.out.Flush(); err != nil {
		w.fail(err)
	}
}

// writeFrame writes nothing that a reader would take for damage.
func (w *Writer) writeFrame(kind Kind, payload []byte) {
	if len(payload) > maxFrame {
		w.fail(fmt.Errorf("write a frame of kind %d: it has %d bytes, the most that is read is %d", kind, len(payload), maxFrame))
		return
	}
	w.putFrame(kind, payload)
}

func (w *Writer) putFrame(kind Kind, payload []byte) {
	var header [frameHeader + headerSum]byte
	binary.LittleEndian.PutUint32(header[0:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(header[4:], checksum(kind, payload))
	header[8] = byte(kind)
	binary.LittleEndian.PutUint32(header[frameHeader:], crc32.Checksum(header[:frameHeader], castagnoli))
	w.write(header[:])
	w.write(payload)
}

func (w *Writer) write(bytes []byte) {
	if w.err != nil {
		return
	}
	n, err := w.out.Write(bytes)
	w.written += uint64(n)
	if err != nil {
		w.fail(err)
	}
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
