// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// ringHeader is what the kernel puts before a record (BPF_RINGBUF_HDR_SZ), ringAlign what both are
// rounded up to.
const (
	ringHeader = 8
	ringAlign  = 8
)

// behindShare: the reader is behind while less than this share of a ring is free.
const behindShare = 4

const noPoll = -1

// past is a deadline that makes a reader return what is there without waiting.
var past = time.Unix(1, 0)

// Read implements source.Source. Where the rings cannot be read any more, what is beyond limits is all the same, up to the end.
func (s *Source) Read(handle func(record []byte)) error {
	err := s.readRings(handle)
	if err != nil {
		err = errors.Join(err, s.Stop(handle))
	}
	now := s.Boot()
	return errors.Join(err, s.summing.read(now, s.stopped, handle), s.limits.read(now, s.stopped, handle))
}

func (s *Source) readRings(handle func(record []byte)) error {
	if !s.stopped {
		if err := s.awaitRecords(); err != nil {
			return err
		}
	}
	return s.drainRings(handle)
}

// drainRings hands out only traffic that was there before the lifecycle ring is read: what started the process that it belongs
// to is then known.
func (s *Source) drainRings(handle func(record []byte)) error {
	if s.lifecycle == nil || s.traffic == nil {
		return nil // it never started
	}
	pending := s.traffic.AvailableBytes()
	if err := s.drainLifecycle(handle); err != nil {
		return err
	}
	return s.drain(s.traffic, pending, handle)
}

func (s *Source) drainLifecycle(handle func(record []byte)) error {
	if s.lifecycle == nil {
		return nil // it never started
	}
	return s.drain(s.lifecycle, s.lifecycle.AvailableBytes(), handle)
}

// awaitRecords returns when a ring has some, and this was told or it had them at once, or after the flush interval.
func (s *Source) awaitRecords() error {
	var events [2]unix.EpollEvent
	_, err := unix.EpollWait(s.poll, events[:], int(s.options.FlushInterval.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) { // a signal: a turn more
		return fmt.Errorf("wait for records: %w", err)
	}
	return nil
}

// openPoll waits for both rings: the readers' own polls each wait for one.
func openPoll(rings ...*ebpf.Map) (poll int, err error) {
	poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return noPoll, fmt.Errorf("wait for records: %w", err)
	}
	for _, ring := range rings {
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, ring.FD(), &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return noPoll, errors.Join(fmt.Errorf("wait for records of %s: %w", ring, err), unix.Close(poll))
		}
	}
	return poll, nil
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
		s.behind = !s.stopped && s.record.Remaining > reader.BufferSize()/behindShare*(behindShare-1)
		handle(s.record.RawSample)
	}
	return nil
}
