// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"

import (
	"encoding/binary"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

const (
	// framePrefix is a message's size, which stands before it (RFC 1035, 4.2.2).
	framePrefix = 2
	// frameHead is what can be checked before the whole message is there.
	frameHead = framePrefix + headerSize
	// maxKept are kept of a message; what is longer is read in part. UDP is captured as far.
	maxKept = 16384
	// maxUnused room is kept for the next message.
	maxUnused = 2048
	// maxAhead segments of a stream wait for those before them.
	maxAhead = 64
	// maxJump is how far a sequence number can be from the one that is due: Linux's largest windows
	// are smaller. Beyond that it is another stream.
	maxJump = 64 << 20
)

// Bounds of all streams together.
const (
	maxStreams     = 4096
	maxStreamBytes = 8 << 20
)

const (
	// gapPatience is how long a segment is waited for. TCP itself sends it again within a second.
	gapPatience = 3e9
	// streamIdle is how long a stream is remembered that carries nothing. It comes back without loss
	// if it was between two messages.
	streamIdle = 60e9
	// sweepInterval is how often streams are looked through for these two.
	sweepInterval = 1e9
)

// Origin says where a message or segment comes from.
type Origin struct {
	Header bpf.WireEventHeader
	Ends   bpf.WireConnectionEnds
	Cause  bpf.WireCause
	Socket uint64
	Sent   bool // by this side
}

// Segment of a TCP connection.
type Segment struct {
	Origin
	Sequence uint32
	Size     uint32
	Payload  []byte // the first bytes of it, as far as they were captured
}

// Framed is a message that was found in a stream.
type Framed struct {
	*Origin        // of the last segment
	Bytes   []byte // valid during the call
	// Began and Ended are when the first and the last byte were seen.
	Began, Ended uint64
	// Events that end with the message: a segment's event goes with the first message that ends in it.
	Events uint64
}

// StreamEvents is who is told what becomes of segments.
type StreamEvents interface {
	// Framed is called for each message.
	Framed(m Framed)
	// Repeated segments had nothing new.
	Repeated(events uint64)
	// Lost segments cannot be made sense of.
	Lost(events uint64)
}

type streamKey struct {
	socket uint64
	sent   bool
}

// Streams finds messages in the segments of TCP connections.
type Streams struct {
	events    StreamEvents
	streams   map[streamKey]*stream
	kept      int // bytes, of all streams
	lastSweep uint64
}

// stream is one direction of a connection.
type stream struct {
	origin Origin
	next   uint32 // the sequence number that is due
	last   uint64 // when the last segment came
	ahead  []waiting

	// synced says that it is known where messages begin.
	synced bool
	// fresh says that all that was read since first is what is read now: bytes before first may come,
	// if the stream's first segment was not the first to arrive.
	fresh  bool
	first  uint32
	events uint64 // segments that no message has taken

	// The message that is being read, with its prefix. kept is less than read where bytes are missing.
	kept  []byte
	read  int
	began uint64
}

// waiting is a segment that came before its turn.
type waiting struct {
	sequence, size uint32
	payload        []byte
	time           uint64
}

// NewStreams returns Streams that tell what they find.
func NewStreams(events StreamEvents) *Streams {
	return &Streams{events: events, streams: map[streamKey]*stream{}}
}

// Add reads a segment.
func (s *Streams) Add(segment *Segment) {
	st := s.at(segment)
	st.origin, st.last = segment.Origin, segment.Header.Time
	w := waiting{segment.Sequence, segment.Size, segment.Payload, segment.Header.Time}
	switch distance := int32(w.sequence - st.next); {
	case distance > maxJump || distance < -maxJump:
		s.restart(st, w.sequence)
		s.take(st, w)
	case distance > 0:
		s.putAside(st, w)
	case st.fresh && int32(w.sequence-st.first) < 0:
		s.rewind(st, w.sequence)
		s.take(st, w)
		s.takeAhead(st)
	case st.isBeforeAll(w.sequence):
		s.takeBefore(st, w)
	default:
		s.take(st, w)
		s.takeAhead(st)
	}
}

// isBeforeAll says that it stands before the first segment that arrived. Who has read more than maxJump
// since cannot tell any more, and would have had it long ago.
func (st *stream) isBeforeAll(sequence uint32) bool {
	return st.next-st.first <= maxJump && int32(sequence-st.first) < 0
}

// takeBefore reads a segment that was overtaken by one in which messages were found already. So it is by
// itself, if it makes sense so.
func (s *Streams) takeBefore(st *stream, w waiting) {
	size := min(w.size, st.first-w.sequence)
	payload := w.payload[:min(int(size), len(w.payload))]
	st.first = w.sequence
	if !beginsMessages(payload, int(size), st.origin.Sent) {
		s.events.Lost(1)
		return
	}
	alone := &stream{origin: st.origin, next: w.sequence, synced: true}
	s.take(alone, waiting{w.sequence, size, payload, w.time})
	s.giveUp(alone)
}

// rewind has what was read so far wait for what stands before it.
func (s *Streams) rewind(st *stream, sequence uint32) {
	if st.read > 0 {
		payload := append([]byte(nil), st.kept...)
		s.kept += len(payload)
		st.ahead = append([]waiting{{st.first, uint32(st.read), payload, st.began}}, st.ahead...)
		st.events-- // it counts again when it is taken
		s.reset(st)
	}
	st.first, st.next = sequence, sequence
}

// at finds the segment's stream. A new one is believed to begin with a message until its bytes say
// otherwise.
func (s *Streams) at(segment *Segment) *stream {
	key := streamKey{segment.Socket, segment.Sent}
	if st, ok := s.streams[key]; ok {
		return st
	}
	if len(s.streams) >= maxStreams {
		s.dropAny()
	}
	st := &stream{next: segment.Sequence, synced: true, fresh: true, first: segment.Sequence}
	s.streams[key] = st
	return st
}

// dropAny makes room.
func (s *Streams) dropAny() {
	for key, st := range s.streams {
		s.drop(key, st)
		return
	}
}

func (s *Streams) drop(key streamKey, st *stream) {
	s.giveUp(st)
	s.loseAhead(st)
	delete(s.streams, key)
}

// restart forgets all that was read of a stream, and goes on at a sequence number.
func (s *Streams) restart(st *stream, sequence uint32) {
	s.giveUp(st)
	s.loseAhead(st)
	st.next, st.first = sequence, sequence
}

// giveUp loses the message that is being read: where the next one begins is not known any more.
func (s *Streams) giveUp(st *stream) {
	s.reset(st)
	st.synced, st.fresh = false, false
	s.lose(st)
}

func (s *Streams) lose(st *stream) {
	if st.events > 0 {
		s.events.Lost(st.events)
		st.events = 0
	}
}

func (s *Streams) loseAhead(st *stream) {
	for _, w := range st.ahead {
		s.kept -= len(w.payload)
		st.events++
	}
	st.ahead = nil
	s.lose(st)
}

func (s *Streams) reset(st *stream) {
	s.kept -= len(st.kept)
	st.kept, st.read = st.kept[:0], 0
	if cap(st.kept) > maxUnused {
		st.kept = nil
	}
}

// putAside keeps a segment until those before it are there. If too much waits, these are given up.
func (s *Streams) putAside(st *stream, w waiting) {
	at := len(st.ahead)
	for at > 0 && int32(st.ahead[at-1].sequence-w.sequence) > 0 {
		at--
	}
	w.payload = append([]byte(nil), w.payload...)
	s.kept += len(w.payload)
	st.ahead = append(st.ahead, waiting{})
	copy(st.ahead[at+1:], st.ahead[at:])
	st.ahead[at] = w
	if len(st.ahead) > maxAhead || s.kept > maxStreamBytes {
		s.skipGap(st)
	}
}

// skipGap goes on without the bytes that did not come.
func (s *Streams) skipGap(st *stream) {
	first := st.ahead[0]
	s.skip(st, int(first.sequence-st.next), first.time)
	st.next = first.sequence
	s.takeAhead(st)
}

// takeAhead reads the segments whose turn has come.
func (s *Streams) takeAhead(st *stream) {
	for len(st.ahead) > 0 && int32(st.ahead[0].sequence-st.next) <= 0 {
		w := st.ahead[0]
		st.ahead = st.ahead[1:]
		s.kept -= len(w.payload)
		s.take(st, w)
	}
	if len(st.ahead) == 0 {
		st.ahead = nil // let go of the array
	}
}

// take reads a segment of which nothing before is missing. What was read already is left out.
func (s *Streams) take(st *stream, w waiting) {
	old := st.next - w.sequence
	if old >= w.size {
		s.events.Repeated(1)
		return
	}
	payload := w.payload[min(int(old), len(w.payload)):]
	size := int(w.size - old)
	st.next = w.sequence + w.size
	if st.readsOther(payload) {
		s.giveUp(st)
	}
	st.events++
	if !st.synced && !beginsMessages(payload, size, st.origin.Sent) {
		s.lose(st)
		return
	}
	st.synced = true
	s.read(st, payload, w.time)
	s.skip(st, size-len(payload), w.time)
}

// readsOther says that what was read so far cannot be a message's beginning, in the light of what
// follows. That is not for the bytes that follow to suffer.
func (st *stream) readsOther(payload []byte) bool {
	if !st.synced || st.read == 0 || st.read >= frameHead || st.read+len(payload) < frameHead {
		return false
	}
	var head [frameHead]byte
	copy(head[copy(head[:], st.kept):], payload)
	return !isHeader(head[framePrefix:], st.origin.Sent)
}

// read takes messages from bytes, as long as these make sense.
func (s *Streams) read(st *stream, bytes []byte, time uint64) {
	for len(bytes) > 0 && st.synced {
		if st.read == 0 {
			st.began = time
		}
		n := min(st.due(), len(bytes))
		s.keep(st, bytes[:n])
		bytes = bytes[n:]
		s.advance(st, n, time)
	}
}

// due is how many bytes may be read without a look at what they are.
func (st *stream) due() int {
	switch {
	case st.read < framePrefix:
		return framePrefix - st.read
	case st.read < frameHead:
		return frameHead - st.read
	default:
		return st.frame() - st.read
	}
}

// frame is the size of the message that is being read, with its prefix.
func (st *stream) frame() int { return framePrefix + int(binary.BigEndian.Uint16(st.kept)) }

// keep bytes unless some before them are missing, or too much is kept already.
func (s *Streams) keep(st *stream, bytes []byte) {
	if len(st.kept) < st.read || st.read >= frameHead && s.kept+len(bytes) > maxStreamBytes {
		return
	}
	n := min(len(bytes), maxKept-len(st.kept))
	st.kept = append(st.kept, bytes[:n]...)
	s.kept += n
}

// advance after n bytes of the message were read or skipped.
func (s *Streams) advance(st *stream, n int, time uint64) {
	st.read += n
	switch {
	case st.read == framePrefix && st.frame() < frameHead,
		st.read == frameHead && !isHeader(st.kept[framePrefix:], st.origin.Sent):
		s.giveUp(st)
	case st.read >= frameHead && st.read == st.frame():
		s.finish(st, time)
	}
}

// skip passes over bytes that are missing. If they may hold a message's beginning, the stream is
// lost until one is found again.
func (s *Streams) skip(st *stream, n int, time uint64) {
	if n == 0 || !st.synced {
		return
	}
	if st.read < frameHead {
		s.giveUp(st)
		return
	}
	rest := st.frame() - st.read
	s.advance(st, min(n, rest), time)
	if n > rest {
		st.synced = false
	}
}

func (s *Streams) finish(st *stream, time uint64) {
	st.fresh = false
	events := st.events
	st.events = 0
	s.events.Framed(Framed{Origin: &st.origin, Bytes: st.kept[framePrefix:], Began: st.began, Ended: time, Events: events})
	s.reset(st)
}

// isHeader looks whether a message could begin so.
func isHeader(bytes []byte, sent bool) bool {
	const maxQuestions, maxOpcode = 16, 6
	isResponse := bytes[2]&0x80 != 0
	return isResponse != sent && bytes[2]>>3&0xf <= maxOpcode && binary.BigEndian.Uint16(bytes[4:]) <= maxQuestions
}

// beginsMessages says of a segment that whole messages begin and end with it: as far as they were
// captured, they look like some.
func beginsMessages(payload []byte, size int, sent bool) bool {
	at := 0
	for at+frameHead <= len(payload) {
		frame := framePrefix + int(binary.BigEndian.Uint16(payload[at:]))
		if frame < frameHead || !isHeader(payload[at+framePrefix:], sent) {
			return false
		}
		at += frame
	}
	return at > 0 && at == size
}

// Tick gives up what did not come in time.
func (s *Streams) Tick(now uint64) {
	if now < s.lastSweep+sweepInterval {
		return
	}
	s.lastSweep = now
	for key, st := range s.streams {
		for len(st.ahead) > 0 && st.ahead[0].time+gapPatience < now {
			s.skipGap(st)
		}
		if st.last+streamIdle < now {
			s.drop(key, st)
		}
	}
}
