// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package recording // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const readBuffer = 1 << 20

// Frame of a recording.
type Frame struct {
	Kind    Kind
	Payload []byte // valid until the next frame is read
}

// JSON decodes the frame's payload.
func (f Frame) JSON(into any) error {
	if err := json.Unmarshal(f.Payload, into); err != nil {
		return fmt.Errorf("%w: a frame of kind %d: %w", ErrDamaged, f.Kind, err)
	}
	return nil
}

// Clock of a frame of that kind.
func (f Frame) Clock() Clock { return clockOf(f.Payload) }

// Reader reads a recording from its beginning.
type Reader struct {
	in          *bufio.Reader
	version     uint32
	at          int64 // where the next frame begins
	payload     []byte
	ended       bool
	description Description
}

// NewReader reads as far as the description.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(from, readBuffer)}
	if err := r.readPreamble(); err != nil {
		return nil, err
	}
	first, err := r.Next()
	if err != nil {
		return nil, err
	}
	if first.Kind != KindDescription {
		return nil, fmt.Errorf("%w: it does not begin with its description", ErrDamaged)
	}
	return r, first.JSON(&r.description)
}

// Description of the recording.
func (r *Reader) Description() Description { return r.description }

func (r *Reader) readPreamble() error {
	var preamble [preambleSize]byte
	_, err := io.ReadFull(r.in, preamble[:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it is shorter than a preamble", ErrForeign)
	case err != nil:
		return err
	case string(preamble[:len(magic)]) != magic:
		return fmt.Errorf("%w: it does not begin with %s", ErrForeign, magic)
	}
	if r.version = binary.LittleEndian.Uint32(preamble[len(magic):]); r.version < OldestVersion || r.version > Version {
		return fmt.Errorf("%w: %d, this collector reads versions %d to %d", ErrVersion, r.version, OldestVersion, Version)
	}
	r.at = int64(preambleSize)
	return nil
}

// header of a frame.
type header struct {
	size, checksum uint32
	kind           Kind
}

// Next returns the next frame, or io.EOF behind the end, ErrCut where that is missing, or ErrDamaged.
func (r *Reader) Next() (Frame, error) {
	head, length, err := r.readHeader()
	if err != nil {
		return Frame{}, err
	}
	if uint32(cap(r.payload)) < head.size {
		r.payload = make([]byte, head.size)
	}
	frame := Frame{Kind: head.kind, Payload: r.payload[:head.size]}
	if n, err := io.ReadFull(r.in, frame.Payload); err != nil {
		return Frame{}, r.endWithin(head, frame.Payload[:n], err)
	}
	if checksum(frame.Kind, frame.Payload) != head.checksum {
		return Frame{}, r.damaged("its checksum does not fit")
	}
	if err := r.check(frame); err != nil {
		return Frame{}, err
	}
	r.at += int64(length) + int64(head.size)
	r.ended = frame.Kind == KindEnd
	return frame, nil
}

func (r *Reader) readHeader() (head header, length int, err error) {
	length = frameHeader
	if r.version >= headerSums {
		length += headerSum
	}
	var bytes [frameHeader + headerSum]byte
	if _, err := io.ReadFull(r.in, bytes[:length]); err != nil {
		return head, length, r.endOf(err)
	}
	if r.ended {
		return head, length, r.damaged("more follows behind its end")
	}
	if r.version >= headerSums && crc32.Checksum(bytes[:frameHeader], castagnoli) != binary.LittleEndian.Uint32(bytes[frameHeader:]) {
		return head, length, r.damaged("the checksum of a frame's header does not fit")
	}
	head = header{binary.LittleEndian.Uint32(bytes[0:]), binary.LittleEndian.Uint32(bytes[4:]), Kind(bytes[8])}
	if head.size > maxFrame {
		return head, length, r.damaged(fmt.Sprintf("a frame of %d bytes", head.size))
	}
	return head, length, nil
}

// endWithin is the end of the file within a frame. Where its size has no checksum, it may be that it is only the size
// which is wrong: then the frame is there, with less than that.
func (r *Reader) endWithin(head header, rest []byte, err error) error {
	if r.version < headerSums && isBegin(head, rest) {
		return r.damaged("the size of a frame does not fit")
	}
	return r.endOf(err)
}

// isBegin says whether some of the first bytes are all of the frame that has the header.
func isBegin(head header, bytes []byte) bool {
	sum := checksum(head.kind, nil)
	for i := range bytes {
		if sum == head.checksum {
			return true
		}
		sum = crc32.Update(sum, castagnoli, bytes[i:i+1])
	}
	return sum == head.checksum
}

// check that those who use the payload find what they expect.
func (r *Reader) check(frame Frame) error {
	switch frame.Kind {
	case KindClock:
		if len(frame.Payload) != clockSize {
			return r.damaged(fmt.Sprintf("a clock of %d bytes", len(frame.Payload)))
		}
	case KindRecord:
		if len(frame.Payload) < recordMinimum {
			return r.damaged(fmt.Sprintf("a record of %d bytes", len(frame.Payload)))
		}
	case KindDescription, KindProcesses, KindProcess, KindGone, KindEnd, KindCgroups, KindCgroup, KindNames:
	default:
		return r.damaged(fmt.Sprintf("a frame of the unknown kind %d", frame.Kind))
	}
	return nil
}

func (r *Reader) damaged(what string) error {
	return fmt.Errorf("%w: byte %d: %s", ErrDamaged, r.at, what)
}

func (r *Reader) endOf(err error) error {
	switch {
	case r.ended && errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w at byte %d", ErrCut, r.at)
	default:
		return fmt.Errorf("read at byte %d: %w", r.at, err)
	}
}
