// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

func init() {
	workloads["end-and-close"] = endAndCloseWorkload
}

// endAndCloseWorkload is both ends of a connection with a response that ends with it. It prints the client's descriptor when the
// response is read; then, after a line each, the server ends it, and the client sends a last packet before both close.
func endAndCloseWorkload([]string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	accepted, err := listener.Accept()
	if err != nil {
		return err
	}
	ends := map[string]*net.TCPConn{"client": connection.(*net.TCPConn), "server": accepted.(*net.TCPConn)}
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
	if _, err := io.Copy(io.Discard, connection); err != nil { // its end has come
		return err
	}
	fmt.Println("ended")
	lines.Scan()
	if err := client("\r\n").run(ends); err != nil { // what one may send behind a request
		return err
	}
	return errors.Join(controlErr, connection.Close(), accepted.Close(), lines.Err())
}

// TestAnEndThatCameWhileTheConnectionWasRead: whoever has the connection's lock next reads it for the one that had not, also where
// it has no payload.
func TestAnEndThatCameWhileTheConnectionWasRead(t *testing.T) {
	w := newWorld(t, withHTTP)
	if features := w.source.features; !features.socketStorage || !features.exchange {
		t.Skip("what is kept of a socket has no lock of its own on this kernel")
	}
	talker := startTalker(t, w.workload("end-and-close"))
	var number int
	_, err := fmt.Sscan(talker.hear(), &number)
	require.NoError(t, err)
	socket := descriptorOf(t, int(talker.pid()), number)
	release := sync.OnceFunc(func() { unix.Close(socket) })
	defer release()
	const anotherCPU = 1 << 20
	at := busyAt(t)
	w.setBusy(socket, at, anotherCPU)
	require.Equal(t, "ended", talker.say(""))
	w.setBusy(socket, at, 0)
	release() // else it would stay open
	_, err = fmt.Fprintln(talker.in)
	require.NoError(t, err)
	require.NoError(t, talker.command.Wait())
	w.finish()
	_, found := w.exchangesOf(talker.pid())
	assert.ElementsMatch(t, both(exchange{Request: get, Response: untilClose, Status: 200, ResponseBody: 5}), found)
	assert.Zero(t, w.httpCounters().Unreadable)
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

// setBusy says which CPU reads the connection, plus one; 0: none. It stands at that place of what is kept of the socket.
func (w *world) setBusy(socket int, at uint32, cpu uint64) {
	w.t.Helper()
	sockets := w.source.mapNamed("sockets")
	state := make([]byte, sockets.ValueSize())
	require.NoError(w.t, sockets.Lookup(uint32(socket), &state))
	binary.NativeEndian.PutUint64(state[at:], cpu)
	require.NoError(w.t, sockets.Put(uint32(socket), state))
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
