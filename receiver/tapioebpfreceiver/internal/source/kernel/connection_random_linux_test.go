// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const talksInAWorld = 250

// Connections and flows are drawn so that it is known by construction what must be told of both ends.
// TAPIO_CONNECTION_SEED=17 TAPIO_CONNECTION_TALKS=1 has one once more, and with TAPIO_CONNECTION_TALKS=20000 the test takes minutes.
func TestWhateverSocketsDoIsToldAsItIs(t *testing.T) {
	first, count := drawnFrom(t, "TAPIO_CONNECTION_SEED", "TAPIO_CONNECTION_TALKS", 120)
	for ; count > 0; first, count = first+min(count, talksInAWorld), count-min(count, talksInAWorld) {
		t.Run(fmt.Sprintf("from %d", first), func(t *testing.T) { requireTalksToldAsDrawn(t, first, min(count, talksInAWorld)) })
	}
}

func requireTalksToldAsDrawn(t *testing.T, first, count uint64) {
	t.Helper()
	w := newWorld(t, func(o *Options) {
		o.Families, o.RingSize, o.ReportInterval = []string{familyNetwork}, 16<<20, time.Second
	})
	command := w.workload("talks", strconv.FormatUint(first, 10), strconv.FormatUint(count, 10))
	command.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	var out bytes.Buffer
	command.Stdout = &out
	require.NoError(t, command.Run(), "talks from %d", first)
	held := decodeTalks(t, &out, count)
	ends := 0
	for _, h := range held {
		ends += h.talk.ends()
	}
	w.await(event.TypeConnectionClose, ends) // flows end when they have been silent for long
	w.finish()
	told := w.toldByEnds(uint32(command.Process.Pid), uint32(held[0].Hand))
	for _, h := range held {
		h.assertToldAsDrawn(t, told)
	}
	assert.Empty(t, told, "what nobody has done")
	assert.Equal(t, source.Counters{Seen: w.ofNetwork()}, w.counters()[uint8(event.FamilyNetwork)])
}

// talkAsHeld is one with the addresses that its sockets had.
type talkAsHeld struct {
	heldTalk
	talk talk
}

func decodeTalks(t *testing.T, out *bytes.Buffer, count uint64) (held []talkAsHeld) {
	t.Helper()
	for decoder := json.NewDecoder(out); decoder.More(); {
		var h talkAsHeld
		require.NoError(t, decoder.Decode(&h.heldTalk))
		h.talk = drawTalk(h.Seed)
		held = append(held, h)
	}
	require.Len(t, held, int(count))
	return held
}

// ends of connections and flows.
func (c talk) ends() int {
	n := 0
	for _, e := range c.want {
		if !e.failed {
			n++
		}
	}
	return n
}

// ofNetwork is how many records there are.
func (w *world) ofNetwork() uint64 {
	n := 0
	for _, kind := range []event.Type{event.TypeConnectionConnect, event.TypeConnectionReport, event.TypeConnectionClose} {
		n += len(w.ofType(kind))
	}
	return uint64(n)
}

// --- what is told ----------------------------------------------------------------------------

// twoEnds are the addresses of a socket and of its peer.
type twoEnds struct{ local, peer string }

// toldByEnds has what is told of each connection and flow as lines, in their order.
func (w *world) toldByEnds(mainPID, handPID uint32) map[twoEnds][]string {
	w.t.Helper()
	names := map[uint32]string{mainPID: byMain, handPID: byHand, 0: byNobody}
	told := map[twoEnds][]string{}
	for _, e := range decodeConnects(w.t, w.ofType(event.TypeConnectionConnect)) {
		key := twoEnds{local(&e.Ends), peer(&e.Ends)}
		told[key] = append(told[key], connectText(names[e.Header.Pid], e.Ends.Role, e.Error))
		assert.LessOrEqual(w.t, e.Opened, e.Header.Time)
		assert.NotZero(w.t, e.Opened)
	}
	type delta struct {
		sent, received uint64
		first          int
	}
	before := map[twoEnds]delta{}
	add := func(e *bpf.WireConnectionStats) delta {
		key := twoEnds{local(&e.Ends), peer(&e.Ends)}
		d := before[key]
		d.sent, d.received = d.sent+e.SentBytesDelta, d.received+e.ReceivedBytesDelta
		if e.Flags&event.ConnectionFirstRecord != 0 {
			d.first++
		}
		before[key] = d
		return d
	}
	for _, e := range decodeStats(w.t, w.ofType(event.TypeConnectionReport)) {
		add(e)
	}
	for _, e := range decodeStats(w.t, w.ofType(event.TypeConnectionClose)) {
		key := twoEnds{local(&e.Ends), peer(&e.Ends)}
		told[key] = append(told[key], closeText(names[e.Header.Pid], e.Ends.Role, e.SentBytes, e.ReceivedBytes, [2]uint64{e.SentPackets, e.ReceivedPackets}, e.Error, e.Flags&event.ConnectionAborted != 0))
		assert.Equal(w.t, delta{e.SentBytes, e.ReceivedBytes, 1}, add(e), "%v: each byte in one delta", key)
		delete(before, key)
		assert.LessOrEqual(w.t, e.Opened, e.Header.Time, "%v", key)
		assert.Equal(w.t, e.Ends.Role != 0, e.Opened != 0, "%v", key)
	}
	assert.Empty(w.t, before, "what has not ended")
	return told
}

func connectText(pid string, role uint8, err int32) string {
	return fmt.Sprintf("connect by %s role %d error %d", pid, role, err)
}

func closeText(pid string, role uint8, sent, received uint64, packets [2]uint64, err int32, aborted bool) string {
	return fmt.Sprintf("close of %s role %d sent %d received %d packets %d error %d aborted %t", pid, role, sent, received, packets, err, aborted)
}

// wanted of the talk, by ends. Each connection has two of them, in turn; other talks have one set of addresses.
func (h talkAsHeld) wanted() map[twoEnds][]string {
	want := map[twoEnds][]string{}
	for i, e := range h.talk.want {
		at := h.Addresses[0]
		if h.talk.Kind == talkTCP {
			at = h.Addresses[i/2]
		}
		key := twoEnds{at[e.by], at[e.peer]}
		if e.opened {
			want[key] = append(want[key], connectText(byMain, e.role, e.failure()))
		}
		if !e.failed {
			want[key] = append(want[key], closeText(e.pid, e.role, e.sent, e.received, e.packets, e.err, e.aborted))
		}
	}
	return want
}

// failure to connect; 0: it was established.
func (e toldEnd) failure() int32 {
	if e.failed {
		return e.err
	}
	return 0
}

// assertToldAsDrawn takes what is told of the talk out of all that is.
func (h talkAsHeld) assertToldAsDrawn(t *testing.T, told map[twoEnds][]string) {
	t.Helper()
	good := true
	for key, want := range h.wanted() {
		good = assert.Equal(t, want, told[key], "talk %d: of %v", h.Seed, key) && good
		delete(told, key)
	}
	if !good {
		t.Logf("talk %d is %s", h.Seed, h.talk)
	}
}
