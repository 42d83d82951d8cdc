// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package recording // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
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
	if version := binary.LittleEndian.Uint32(preamble[len(magic):]); version < OldestVersion || version > Version {
		return fmt.Errorf("%w: %d, this collector reads versions %d to %d", ErrVersion, version, OldestVersion, Version)
	}
	r.at = int64(preambleSize)
	return nil
}

// Next returns the next frame, or io.EOF behind the end, ErrCut where that is missing, or ErrDamaged.
func (r *Reader) Next() (Frame, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r.in, header[:]); err != nil {
		return Frame{}, r.endOf(err)
	}
	if r.ended {
		return Frame{}, r.damaged("more follows behind its end")
	}
	size := binary.LittleEndian.Uint32(header[0:])
	if size > maxFrame {
		return Frame{}, r.damaged(fmt.Sprintf("a frame of %d bytes", size))
	}
	if uint32(cap(r.payload)) < size {
		r.payload = make([]byte, size)
	}
	frame := Frame{Kind: Kind(header[8]), Payload: r.payload[:size]}
	if _, err := io.ReadFull(r.in, frame.Payload); err != nil {
		return Frame{}, r.endOf(err)
	}
	if checksum(frame.Kind, frame.Payload) != binary.LittleEndian.Uint32(header[4:]) {
		return Frame{}, r.damaged("its checksum does not fit")
	}
	if err := r.check(frame); err != nil {
		return Frame{}, err
	}
	r.at += int64(frameHeader) + int64(size)
	r.ended = frame.Kind == KindEnd
	return frame, nil
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
