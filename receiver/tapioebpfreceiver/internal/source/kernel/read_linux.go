// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// ringHeader is what the kernel puts before a record (BPF_RINGBUF_HDR_SZ), ringAlign what both are
// rounded up to.
const (
	ringHeader = 8
	ringAlign  = 8
)

// past is a deadline that makes a reader return what is there without waiting.
var past = time.Unix(1, 0)

// Read implements source.Source. Only traffic that was there before the lifecycle ring is read is
// handed out in this turn: what started the process that it belongs to is then known.
func (s *Source) Read(handle func(record []byte)) error {
	first, err := s.waitForTraffic()
	if err != nil {
		return err
	}
	pending := s.traffic.AvailableBytes()
	if err := s.drain(s.lifecycle, s.lifecycle.AvailableBytes(), handle); err != nil {
		return err
	}
	if first != nil {
		handle(first)
	}
	return s.drain(s.traffic, pending, handle)
}

// waitForTraffic returns the first record of the traffic ring, or nil if none came in time. It has
// a buffer of its own, since lifecycle records are read before it is handled.
func (s *Source) waitForTraffic() ([]byte, error) {
	deadline := past
	if !s.stopped {
		deadline = time.Now().Add(s.options.FlushInterval)
	}
	s.traffic.SetDeadline(deadline)
	err := s.traffic.ReadInto(&s.first)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ring for traffic records: %w", err)
	}
	return s.first.RawSample, nil
}

// drain reads as many bytes as were in the ring when the turn began, so that a flood in one ring
// does not keep the other waiting.
func (s *Source) drain(reader *ringbuf.Reader, pending int, handle func(record []byte)) error {
	reader.SetDeadline(past)
	for pending > 0 {
		err := reader.ReadInto(&s.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read ring: %w", err)
		}
		pending -= ringHeader + (len(s.record.RawSample)+ringAlign-1)/ringAlign*ringAlign
		handle(s.record.RawSample)
	}
	return nil
}
