// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func init() {
	workloads["end-and-close"] = endAndCloseWorkload
}

// endAndCloseWorkload is both ends of a connection with a response that ends with it. It prints the client's descriptor when the
// response is read; then, after a line each, the server ends it, and the client sends a last packet before both close.
func endAndCloseWorkload([]string) error {
	ends, err := bothEnds()
	if err != nil {
		return err
	}
	for _, s := range []step{client(get), server(untilClose + "hello")} {
		if err := s.run(ends); err != nil {
			return err
		}
	}
	raw, err := ends["client"].SyscallConn()
	if err != nil {
		return err
	}
	var controlErr error
	if err := raw.Control(func(fd uintptr) { _, controlErr = fmt.Println(fd) }); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	if err := ends["server"].CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, ends["client"]); err != nil { // its end has come
		return err
	}
	fmt.Println("ended")
	lines.Scan()
	if err := client("\r\n").run(ends); err != nil { // what one may send behind a request
		return err
	}
	return errors.Join(controlErr, ends["client"].Close(), ends["server"].Close(), lines.Err())
}

// TestAnEndThatCameWhileTheConnectionWasRead: whoever has the connection's lock next reads it for the one that had not, also where
// it has no payload.
func TestAnEndThatCameWhileTheConnectionWasRead(t *testing.T) {
	w := newWorld(t, withHTTP)
	talker := startTalker(t, w.workload("end-and-close"))
	var number int
	_, err := fmt.Sscan(talker.hear(), &number)
	require.NoError(t, err)
	socket := descriptorOf(t, int(talker.pid()), number)
	letGo := w.hold(socket)
	ended := talker.say("")
	letGo()
	require.NoError(t, unix.Close(socket)) // else it would stay open
	require.Equal(t, "ended", ended)
	_, err = fmt.Fprintln(talker.in)
	require.NoError(t, err)
	require.NoError(t, talker.command.Wait())
	w.finish()
	_, found := w.exchangesOf(talker.pid())
	assert.ElementsMatch(t, both(exchange{Request: get, Response: untilClose, Status: 200, ResponseBody: 5}), found)
	assert.Zero(t, w.httpCounters().Unreadable)
}

// TestWhatCameWhileTheConnectionWasRead is read in the order in which one has sent it for the other.
func TestWhatCameWhileTheConnectionWasRead(t *testing.T) {
	w := newWorld(t, withHTTP)
	k, letGo := startHeld(t, w, "client")
	letGo()
	k.converse(exchangeOf(get, noBody)...)
	k.end()
	w.finish()
	_, found := w.exchangesOf(k.pid())
	answered := exchange{Request: get, Response: noBody, Status: 204}
	assert.ElementsMatch(t, both(answered, answered, answered), found)
	assert.Equal(t, source.Counters{Seen: 6}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

// startHeld has both ends of a connection, an exchange that was told, and one that came while another CPU read the connection at one
// end. letGo is to be called then.
func startHeld(t *testing.T, w *world, end string) (k *talker, letGo func()) {
	t.Helper()
	k = startTalker(t, w.workload("converse-http"))
	var server, client int
	_, err := fmt.Sscanf(k.hear(), "open %d %d", &server, &client)
	require.NoError(t, err)
	socket := descriptorOf(t, int(k.pid()), map[string]int{"server": server, "client": client}[end])
	k.converse(exchangeOf(get, noBody)...)
	release := w.hold(socket)
	k.converse(exchangeOf(get, noBody)...)
	return k, func() {
		release()
		require.NoError(t, unix.Close(socket)) // else it would stay open
	}
}

func exchangeOf(request, response string) []step { return []step{client(request), server(response)} }

// TestAResponseThatWasNotSeen costs its exchange, and no other one.
func TestAResponseThatWasNotSeen(t *testing.T) {
	w := newWorld(t, withHTTP)
	k, letGo := startHeld(t, w, "server")
	w.loseWhatWasPutAside(egress, noBody)
	letGo()
	for range 3 {
		k.converse(exchangeOf(get, noBody)...)
	}
	k.end()
	w.finish()
	_, found := w.exchangesOf(k.pid())
	answered := exchange{Request: get, Response: noBody, Status: 204}
	want := both(answered, answered, answered, answered, answered)
	assert.ElementsMatch(t, want[:len(want)-1], found, "all but one of the server's")
	assert.Equal(t, source.Counters{Seen: 10, Unreadable: 1}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

const egress = 1 // of enum direction

// loseWhatWasPutAside of one direction, and is that text, as where there is no room.
func (w *world) loseWhatWasPutAside(direction uint32, text string) {
	w.t.Helper()
	aside := w.source.mapNamed("early_segments")
	type earlyKey struct {
		Socket              uint64
		Sequence, Direction uint32
	}
	entries, key, segment, lost := aside.Iterate(), earlyKey{}, make([]byte, aside.ValueSize()), []earlyKey{}
	for entries.Next(&key, &segment) {
		if key.Direction == direction && bytes.HasPrefix(segment[4:], []byte(text)) { // behind its size
			lost = append(lost, key)
		}
	}
	require.NoError(w.t, entries.Err())
	require.NotEmpty(w.t, lost)
	for _, key := range lost {
		require.NoError(w.t, aside.Delete(key))
	}
}

// descriptorOf another process's, as one of this process.
func descriptorOf(t *testing.T, pid, number int) int {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(process)
	own, err := unix.PidfdGetfd(process, number, 0)
	require.NoError(t, err)
	return own
}

// anotherCPU, plus one, of which no machine has as many.
const anotherCPU uint64 = 1 << 20

// hold has another CPU read the connection of a socket, until it is let go of.
func (w *world) hold(socket int) (letGo func()) {
	w.t.Helper()
	if w.source.features.exchange {
		at := busyAt(w.t)
		w.setBusy(socket, at, anotherCPU)
		return func() { w.setBusy(socket, at, 0) }
	}
	locks, held := w.source.mapNamed("http_locks"), w.addressesOf(socket)
	for _, address := range held {
		require.NoError(w.t, locks.Put(address, anotherCPU))
	}
	return func() {
		for _, address := range held {
			require.NoError(w.t, locks.Delete(address))
		}
	}
}

// setBusy says which CPU reads the connection, plus one; 0: none. It stands at that place of what is kept of the socket.
func (w *world) setBusy(socket int, at uint32, cpu uint64) {
	w.t.Helper()
	state := w.keptOf(socket)
	binary.NativeEndian.PutUint64(state[at:], cpu)
	require.NoError(w.t, w.source.mapNamed("sockets").Put(uint32(socket), state))
}

func (w *world) keptOf(socket int) []byte {
	w.t.Helper()
	sockets := w.source.mapNamed("sockets")
	state := make([]byte, sockets.ValueSize())
	require.NoError(w.t, sockets.Lookup(uint32(socket), &state))
	return state
}

// addressesOf the socket in the kernel; where sockets have no storage, of all that are known.
func (w *world) addressesOf(socket int) (addresses []uint64) {
	w.t.Helper()
	if w.source.features.socketStorage {
		return []uint64{binary.NativeEndian.Uint64(w.keptOf(socket))} // its first member
	}
	known := w.source.mapNamed("sockets_by_addr") // the kernel keeps 15 bytes of a name
	entries, address, state := known.Iterate(), uint64(0), make([]byte, known.ValueSize())
	for entries.Next(&address, &state) {
		addresses = append(addresses, address)
	}
	require.NoError(w.t, entries.Err())
	require.NotEmpty(w.t, addresses)
	return addresses
}

// busyAt is where that is in what is kept of a socket, bytes.
func busyAt(t testing.TB) uint32 {
	t.Helper()
	spec, err := bpf.LoadNetwork()
	require.NoError(t, err)
	kept := spec.Maps["sockets"].Value
	offset := btf.Bits(0)
	for _, name := range []string{"http", "busy"} {
		members := kept.(*btf.Struct).Members
		i := slices.IndexFunc(members, func(m btf.Member) bool { return m.Name == name })
		require.NotEqual(t, -1, i, name)
		offset += members[i].Offset
		kept = members[i].Type
	}
	return offset.Bytes()
}
