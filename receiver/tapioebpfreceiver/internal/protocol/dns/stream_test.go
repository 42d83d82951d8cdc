// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listener notes what it is told.
type listener struct {
	messages       [][]byte
	began, ended   []uint64
	events         []uint64
	repeated, lost uint64
}

func (l *listener) Framed(m Framed) {
	l.messages = append(l.messages, bytes.Clone(m.Bytes))
	l.began, l.ended, l.events = append(l.began, m.Began), append(l.ended, m.Ended), append(l.events, m.Events)
}

func (l *listener) Repeated(events uint64) { l.repeated += events }

func (l *listener) Lost(events uint64) { l.lost += events }

func (l *listener) total() uint64 {
	sum := l.repeated + l.lost
	for _, n := range l.events {
		sum += n
	}
	return sum
}

// connection sends one direction of a connection to Streams.
type connection struct {
	listener
	*Streams
	first uint32 // sequence number of the first byte
	added uint64
	time  uint64
}

func newConnection(first uint32) *connection {
	c := &connection{first: first, time: second}
	c.Streams = NewStreams(&c.listener)
	return c
}

// segment sends the bytes from an offset on, of which only some may have been captured.
func (c *connection) segment(stream []byte, from, to, captured int) {
	c.time++
	c.added++
	c.Add(&Segment{
		Origin: originAt(c.time, true), Sequence: c.first + uint32(from), Size: uint32(to - from),
		Payload: stream[from : from+captured],
	})
}

func (c *connection) send(stream []byte, from, to int) { c.segment(stream, from, to, to-from) }

// requireClosed says that every segment is told of once, or still held.
func (c *connection) requireClosed(t testing.TB) {
	t.Helper()
	held, kept := uint64(0), 0
	for _, st := range c.streams {
		held += st.events + uint64(len(st.ahead))
		kept += len(st.kept)
		for _, w := range st.ahead {
			kept += len(w.payload)
		}
	}
	require.Equal(t, c.added, c.total()+held)
	require.Equal(t, kept, c.kept)
}

func someMessages(t testing.TB) [][]byte {
	return [][]byte{pack(t, query(1, "a.example.com.")), pack(t, query(2, "b.")), pack(t, query(3, "www.c.example.org."))}
}

var firstNumbers = []uint32{0, 1, 1 << 31, math.MaxUint32 - 20, math.MaxUint32}

func TestStreamCutAnywhere(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	for _, first := range firstNumbers {
		for one := 1; one < len(stream); one++ {
			for _, two := range []int{one, one + 1, one + 2, len(stream) - 1} {
				two = min(max(one, two), len(stream))
				c := newConnection(first)
				for _, cut := range [][2]int{{0, one}, {one, two}, {two, len(stream)}} {
					if cut[0] < cut[1] {
						c.send(stream, cut[0], cut[1])
					}
				}
				require.Equal(t, messages, c.messages, "cut at %d and %d", one, two)
				require.Zero(t, c.lost+c.repeated)
				c.requireClosed(t)
				require.Equal(t, c.added, c.total(), "nothing is held")
			}
		}
	}
}

func TestStreamByteByByte(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	c := newConnection(math.MaxUint32 - 30)
	for i := range stream {
		c.send(stream, i, i+1)
	}
	assert.Equal(t, messages, c.messages)
	assert.EqualValues(t, len(messages[0])+2, c.listener.events[0])
	assert.Equal(t, second+1, c.began[0])
	assert.Equal(t, second+uint64(len(messages[0]))+2, c.ended[0])
	assert.Equal(t, c.ended[0]+1, c.began[1])
	c.requireClosed(t)
}

func TestStreamRepeated(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	for cut := 1; cut < len(stream); cut++ {
		c := newConnection(math.MaxUint32 - 5)
		c.send(stream, 0, cut)
		c.send(stream, 0, cut)             // nothing new
		c.send(stream, cut/2, len(stream)) // some of it is old
		c.send(stream, 0, len(stream))
		require.Equal(t, messages, c.messages)
		require.EqualValues(t, 2, c.repeated)
		c.requireClosed(t)
	}
}

func TestStreamOutOfOrder(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	for cut := 2; cut < len(stream)-1; cut++ {
		c := newConnection(math.MaxUint32 - 5)
		c.send(stream, 0, 1)
		c.send(stream, cut+1, len(stream))
		c.send(stream, cut, len(stream)) // overlaps what waits
		c.send(stream, cut, cut+1)
		c.send(stream, 1, cut)
		require.Equal(t, messages, c.messages, cut)
		require.Zero(t, c.lost)
		c.requireClosed(t)
		require.Zero(t, c.kept)
	}
}

func TestStreamGapWithinAMessage(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	c := newConnection(100)
	c.send(stream, 0, 20)
	c.send(stream, 25, len(stream))
	assert.Empty(t, c.messages)
	c.Tick(c.time + gapPatience + 2)
	require.Len(t, c.messages, 3)
	assert.Equal(t, messages[0][:18], c.messages[0], "what was there of it")
	assert.Equal(t, messages[1:], c.messages[1:])
	assert.Zero(t, c.lost)
	c.requireClosed(t)
}

func TestStreamGapAcrossABeginning(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	end := len(messages[0]) + 2
	c := newConnection(100)
	c.send(stream, 0, 20)
	c.send(stream, end+5, len(stream))
	c.Tick(c.time + gapPatience + 2)
	require.Len(t, c.messages, 1)
	assert.EqualValues(t, 1, c.lost, "where it goes on is not known")
	c.requireClosed(t)

	further := append(stream, frames(messages[1])...)
	c.send(further, len(stream), len(further))
	assert.Equal(t, messages[1], c.messages[1], "a segment that is one message is known again")
	c.requireClosed(t)
}

func TestStreamOfWhichNotAllIsCaptured(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages[0], messages[1])
	c := newConnection(100)
	c.segment(stream, 0, len(messages[0])+2, 20)
	c.send(stream, len(messages[0])+2, len(stream))
	assert.Equal(t, [][]byte{messages[0][:18], messages[1]}, c.messages)
	c = newConnection(100)
	c.segment(stream, 0, len(messages[0])+2, 0) // not even the beginning
	c.send(stream, len(messages[0])+2, len(stream))
	assert.Equal(t, [][]byte{messages[1]}, c.messages)
	assert.EqualValues(t, 1, c.lost)
	c.requireClosed(t)
}

func TestStreamThatIsNoDNS(t *testing.T) {
	for name, stream := range map[string]string{
		"text":     "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"small":    "\x00\x05hello and more of it",
		"response": string(frames(pack(t, answer(query(1, "a."), address("192.0.2.1"))))),
	} {
		c := newConnection(100)
		c.send([]byte(stream), 0, len(stream))
		assert.Empty(t, c.messages, name)
		assert.EqualValues(t, 1, c.lost, name)
		c.requireClosed(t)
	}
}

func TestStreamThatWasOpenBefore(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	c := newConnection(100)
	c.send(stream, 20, len(messages[0])+2)
	c.send(stream, len(messages[0])+2, len(stream))
	assert.Equal(t, messages[1:], c.messages)
	assert.EqualValues(t, 1, c.lost)
	c.requireClosed(t)
}

func TestStreamThatJumps(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages[0])
	c := newConnection(100)
	c.send(stream, 0, 20)
	c.first += 1 << 30
	c.send(stream, 0, len(stream))
	assert.Equal(t, messages[:1], c.messages)
	assert.EqualValues(t, 1, c.lost)
	c.requireClosed(t)
}

func TestTooManySegmentsAhead(t *testing.T) {
	stream := frames(bytes.Repeat([]byte{0}, 4000))
	copy(stream[2:], pack(t, query(1, "a.")))
	c := newConnection(100)
	c.send(stream, 0, 100)
	for i := range maxAhead + 1 {
		from := len(stream) - 20*(i+1)
		c.send(stream, from, from+20)
	}
	require.Len(t, c.messages, 1, "the gap is given up")
	c.requireClosed(t)
}

func TestStreamsAreBounded(t *testing.T) {
	stream := frames(someMessages(t)...)
	c := newConnection(100)
	for i := range maxStreams + 100 {
		c.added++
		origin := originAt(second, true)
		origin.Socket = uint64(i)
		c.Add(&Segment{Origin: origin, Size: 20, Payload: stream[:20]})
	}
	assert.Len(t, c.streams, maxStreams)
	assert.EqualValues(t, 100, c.lost)
	c.requireClosed(t)
	c.Tick(second + streamIdle + 1)
	assert.Empty(t, c.streams)
	assert.EqualValues(t, c.added, c.lost)
	assert.Zero(t, c.kept)
}

func TestBytesOfStreamsAreBounded(t *testing.T) {
	payload := make([]byte, 16000)
	c := newConnection(100)
	for i := range 2000 {
		origin := originAt(second, true)
		origin.Socket = uint64(i)
		c.added++
		c.Add(&Segment{Origin: origin, Size: 1, Payload: payload[:1]})
		c.added++
		c.Add(&Segment{Origin: origin, Sequence: 10, Size: 16000, Payload: payload})
		require.LessOrEqual(t, c.kept, maxStreamBytes+len(payload))
	}
	c.requireClosed(t)
}

func TestAnIdleStreamComesBackWithoutLoss(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	c := newConnection(100)
	c.send(stream, 0, len(messages[0])+2)
	c.time += streamIdle + 1
	c.Tick(c.time)
	assert.Empty(t, c.streams)
	c.send(stream, len(messages[0])+2, len(stream))
	assert.Equal(t, messages, c.messages)
	assert.Zero(t, c.lost)
}

func TestAStreamWhoseFirstSegmentsComeInAnotherOrder(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	first := len(messages[0]) + framePrefix
	for cut := 1; cut < first; cut++ {
		c := newConnection(100)
		c.send(stream, cut, first)
		c.send(stream, 0, cut)
		c.send(stream, first, len(stream))
		if c.lost == 0 { // what came first may look like something else
			assert.Equal(t, messages, c.messages, "cut at %d", cut)
		}
		c.requireClosed(t)
	}
	c := newConnection(100)
	c.send(stream, first-3, first)
	c.send(stream, 0, first-3)
	assert.Equal(t, messages[:1], c.messages)
}

// The second of a stream's messages may come first, whole. The first one is not lost for that.
func TestAStreamWhoseFirstMessagesComeInAnotherOrder(t *testing.T) {
	messages := someMessages(t)
	stream := frames(messages...)
	first, second := len(messages[0])+framePrefix, len(messages[0])+len(messages[1])+2*framePrefix
	for _, start := range []uint32{100, math.MaxUint32 - uint32(first)} {
		c := newConnection(start)
		c.send(stream, first, second)
		c.send(stream, 0, first)
		c.send(stream, 0, first)
		c.send(stream, second, len(stream))
		assert.Equal(t, append([][]byte{messages[1], messages[0]}, messages[2:]...), c.messages)
		assert.Zero(t, c.lost)
		c.requireClosed(t)
	}
}

// FuzzStreams cuts a stream of messages and other bytes in any way: all segments are accounted for,
// and of nothing but messages all are found.
func FuzzStreams(f *testing.F) {
	messages := frames(someMessages(f)...)
	f.Add(messages, []byte{1, 2, 3}, uint32(math.MaxUint32-3))
	f.Add(messages, []byte{200, 10, 255, 7}, uint32(0))
	f.Add([]byte("\x00\x0cnot any DNS at all"), []byte{3}, uint32(9))
	f.Add(bytes.Repeat(messages, 20), []byte{0x41, 0x82, 0xc3}, uint32(1<<31))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, first uint32) {
		if len(stream) > 1<<16 || len(cuts) == 0 {
			return
		}
		whole, cut := newConnection(first), newConnection(first)
		if len(stream) > 0 {
			whole.send(stream, 0, len(stream))
		}
		for at, i := 0, 0; at < len(stream); i++ {
			size := min(int(cuts[i%len(cuts)]&0x3f)+1, len(stream)-at)
			switch cuts[i%len(cuts)] >> 6 {
			case 1: // twice
				cut.send(stream, at, at+size)
			case 2: // the next one before this one
				next := min(size, len(stream)-at-size)
				if next > 0 {
					cut.send(stream, at+size, at+size+next)
				}
			}
			cut.send(stream, at, at+size)
			at += size
		}
		whole.requireClosed(t)
		cut.requireClosed(t)
		found := 0
		for _, message := range whole.messages {
			found += framePrefix + len(message)
		}
		if found == len(stream) && cut.lost == 0 { // what is between messages may hide those that follow
			require.ElementsMatch(t, whole.messages, cut.messages) // what comes first may be found first
		}
		cut.Tick(cut.time + streamIdle + gapPatience + 2)
		require.Empty(t, cut.streams)
		require.Equal(t, cut.added, cut.total())
	})
}
