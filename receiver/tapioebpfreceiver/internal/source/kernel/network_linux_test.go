// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func init() {
	workloads["serve"] = serveWorkload
	workloads["serve-by-child"] = serveByChildWorkload
	workloads["serve-inherited"] = serveInheritedWorkload
	workloads["fetch"] = fetchWorkload
	workloads["abort"] = abortWorkload
	workloads["time-out"] = timeOutWorkload
	workloads["echo"] = echoWorkload
	workloads["converse"] = converseWorkload
	workloads["connect-twice"] = connectTwiceWorkload
	workloads["udp-echo"] = udpEchoWorkload
	workloads["udp-ask"] = udpAskWorkload
	workloads["unreachable"] = unreachableWorkload
	workloads["half-closed"] = halfClosedWorkload
	workloads["udp-late"] = udpLateWorkload
}

// serveWorkload takes what each connection sends, to its end, and answers with args[1] bytes.
func serveWorkload(args []string) error {
	listener, err := listen(args[0])
	if err != nil {
		return err
	}
	reply := number(args[1])
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(connection, reply)
		}
	}()
	return untilEndOfInput()
}

func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err == nil {
		fmt.Println(listener.Addr())
	}
	return listener, err
}

func serve(connection net.Conn, reply int) {
	defer connection.Close()
	if _, err := io.Copy(io.Discard, connection); err == nil {
		connection.Write(make([]byte, reply))
	}
}

func untilEndOfInput() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// serveByChildWorkload accepts, and lets another process serve. With a third argument it is the last one to close the connection.
func serveByChildWorkload(args []string) error {
	listener, err := listen(args[0])
	if err != nil {
		return err
	}
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	file, err := connection.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe", args[1])
	child.Env = []string{workloadEnv + "=serve-inherited"}
	child.ExtraFiles = []*os.File{file}
	if err := child.Start(); err != nil {
		return err
	}
	letGo := func() error { return errors.Join(connection.Close(), file.Close()) }
	fmt.Println(child.Process.Pid)
	if len(args) > 2 {
		return errors.Join(child.Wait(), letGo())
	}
	return errors.Join(letGo(), child.Wait())
}

func serveInheritedWorkload(args []string) error {
	connection, err := net.FileConn(os.NewFile(3, "connection"))
	if err != nil {
		return err
	}
	serve(connection, number(args[0]))
	return nil
}

// fetchWorkload sends args[1] bytes, reads the answer to its end, and prints its own address and
// what it got.
func fetchWorkload(args []string) error {
	connection, err := net.Dial("tcp", args[0])
	if err != nil {
		return nil // that it is refused is what the test wants to see
	}
	defer connection.Close()
	if _, err := connection.Write(make([]byte, number(args[1]))); err != nil {
		return err
	}
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	received, err := io.Copy(io.Discard, connection)
	fmt.Println(connection.LocalAddr(), received)
	return err
}

// abortWorkload ends a connection with a reset.
func abortWorkload(args []string) error {
	connection, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	return errors.Join(connection.(*net.TCPConn).SetLinger(0), connection.Close())
}

// timeOutWorkload knocks at a server of its own that has no room for one more connection.
func timeOutWorkload([]string) error {
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Bind(server, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(server, 0)); err != nil {
		return err
	}
	address, err := unix.Getsockname(server)
	if err != nil {
		return err
	}
	for range 3 { // the first one or two fill the backlog
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500); err != nil {
			return err
		}
		if errors.Is(unix.Connect(client, address), unix.ETIMEDOUT) {
			return nil
		}
	}
	return errors.New("no connection timed out")
}

// echoWorkload sends back what it gets.
func echoWorkload(args []string) error {
	listener, err := listen(args[0])
	if err != nil {
		return err
	}
	go serveEchoes(listener)
	return untilEndOfInput()
}

// serveEchoes sends back what each connection brings, until it is closed.
func serveEchoes(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(connection, connection)
			connection.Close()
		}()
	}
}

// converseWorkload sends as many bytes as each line says and waits until they are back.
func converseWorkload(args []string) error {
	connection, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Println(connection.LocalAddr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		message := make([]byte, number(lines.Text()))
		if _, err := connection.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(connection, message); err != nil {
			return err
		}
		fmt.Println("ok")
	}
	return nil
}

func udpEchoWorkload(args []string) error {
	socket, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return err
	}
	fmt.Println(socket.LocalAddr())
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			socket.WriteTo(buffer[:n], from)
		}
	}()
	defer socket.Close()
	return untilEndOfInput()
}

// udpAskWorkload sends datagrams of the sizes given, waits for each to come back, and ends with its
// input.
func udpAskWorkload(args []string) error {
	socket, err := net.Dial("udp", args[0])
	if err != nil {
		return err
	}
	defer socket.Close()
	buffer := make([]byte, 65536)
	for _, size := range args[1:] {
		if _, err := socket.Write(buffer[:number(size)]); err != nil {
			return err
		}
		if _, err := socket.Read(buffer); err != nil {
			return err
		}
	}
	fmt.Println(socket.LocalAddr())
	return untilEndOfInput()
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func decodeStats(t testing.TB, records [][]byte) []*bpf.WireConnectionStats {
	t.Helper()
	var found []*bpf.WireConnectionStats
	for _, record := range records {
		e, err := event.DecodeConnectionStats(record)
		require.NoError(t, err)
		found = append(found, e)
	}
	return found
}

func decodeConnects(t testing.TB, records [][]byte) []*bpf.WireConnectionConnect {
	t.Helper()
	var found []*bpf.WireConnectionConnect
	for _, record := range records {
		e, err := event.DecodeConnectionConnect(record)
		require.NoError(t, err)
		found = append(found, e)
	}
	return found
}

// byRole finds a connection's two sides.
func byRole(t *testing.T, all []*bpf.WireConnectionStats) (client, server *bpf.WireConnectionStats) {
	t.Helper()
	require.Len(t, all, 2)
	for _, e := range all {
		switch e.Ends.Role {
		case event.RoleClient:
			client = e
		case event.RoleServer:
			server = e
		}
	}
	require.NotNil(t, client)
	require.NotNil(t, server)
	return client, server
}

func local(e *bpf.WireConnectionEnds) string {
	return netip.AddrPortFrom(event.Address(e.LocalAddress), e.LocalPort).String()
}

func peer(e *bpf.WireConnectionEnds) string {
	return netip.AddrPortFrom(event.Address(e.PeerAddress), e.PeerPort).String()
}

func TestTransfer(t *testing.T) {
	for _, c := range []struct {
		name, listen string
		up, down     int
	}{
		{"IPv4", "127.0.0.1:0", 100_000, 3},
		{"IPv6", "[::1]:0", 1, 20 << 20},
		{"IPv4 on an IPv6 socket", ":0", 20 << 20, 70_000},
		{"nothing", "127.0.0.1:0", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			server := startTalker(t, w.workload("serve", c.listen, strconv.Itoa(c.down)))
			address := server.hear()
			if c.listen == ":0" {
				_, port, err := net.SplitHostPort(address)
				require.NoError(t, err)
				address = "127.0.0.1:" + port
			}
			client := startTalker(t, w.workload("fetch", address, strconv.Itoa(c.up)))
			var from string
			var received int
			_, err := fmt.Sscan(client.hear(), &from, &received)
			require.NoError(t, err)
			require.Equal(t, c.down, received)
			client.end()

			atClient, atServer := byRole(t, decodeStats(t, w.await(event.TypeConnectionClose, 2)))
			assert.Equal(t, from, local(&atClient.Ends))
			assert.Equal(t, address, peer(&atClient.Ends))
			assert.Equal(t, address, local(&atServer.Ends))
			assert.Equal(t, from, peer(&atServer.Ends))
			assert.Equal(t, client.pid(), atClient.Header.Pid)
			assert.Equal(t, server.pid(), atServer.Header.Pid)
			assert.EqualValues(t, c.up, atClient.SentBytes)
			assert.EqualValues(t, c.up, atServer.ReceivedBytes)
			assert.EqualValues(t, c.down, atClient.ReceivedBytes)
			assert.EqualValues(t, c.down, atServer.SentBytes)
			for _, e := range []*bpf.WireConnectionStats{atClient, atServer} {
				assert.Equal(t, e.SentBytes, e.SentBytesDelta)
				assert.Equal(t, e.ReceivedBytes, e.ReceivedBytesDelta)
				assert.Zero(t, e.Error)
				assert.Equal(t, event.ConnectionFirstRecord, e.Flags&^event.ConnectionHasRTT)
				assert.Equal(t, event.ProtocolTCP, e.Ends.Protocol)
				assert.NotZero(t, e.Ends.Netns)
				assert.NotZero(t, e.Header.CgroupId)
				assert.Less(t, e.Opened, e.Header.Time)
			}
			connects := decodeConnects(t, w.await(event.TypeConnectionConnect, 1))
			require.Len(t, connects, 1)
			assert.Equal(t, atClient.Ends, connects[0].Ends)
			assert.Equal(t, client.pid(), connects[0].Header.Pid)
			assert.Zero(t, connects[0].Error)
			assert.Less(t, connects[0].Opened, connects[0].Header.Time)
			server.end()
		})
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, nil)
	address := porttest.Closed(t, "tcp4")
	client := w.workload("fetch", address, "0")
	require.NoError(t, client.Run())

	connect := decodeConnects(t, w.await(event.TypeConnectionConnect, 1))[0]
	assert.EqualValues(t, unix.ECONNREFUSED, connect.Error)
	assert.Equal(t, address, peer(&connect.Ends))
	assert.EqualValues(t, client.Process.Pid, connect.Header.Pid)
	w.finish()
	assert.Empty(t, w.ofType(event.TypeConnectionClose), "it was never a connection")
}

func TestTimedOut(t *testing.T) {
	w := newWorld(t, nil)
	require.NoError(t, w.workload("time-out").Run())
	require.Eventually(t, func() bool {
		for _, connect := range decodeConnects(t, w.ofType(event.TypeConnectionConnect)) {
			if connect.Error == int32(unix.ETIMEDOUT) {
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond)
}

func TestReset(t *testing.T) {
	w := newWorld(t, nil)
	server := startTalker(t, w.workload("serve", "127.0.0.1:0", "0"))
	client := w.workload("abort", server.hear())
	require.NoError(t, client.Run())
	atClient, atServer := byRole(t, decodeStats(t, w.await(event.TypeConnectionClose, 2)))
	assert.Equal(t, event.ConnectionAborted, atClient.Flags&event.ConnectionAborted)
	assert.EqualValues(t, unix.ECONNRESET, atServer.Error)
	assert.Zero(t, atServer.Flags&event.ConnectionAborted)
	server.end()
}

func TestServerThatHandsTheConnectionOver(t *testing.T) {
	w := newWorld(t, nil)
	server := startTalker(t, w.workload("serve-by-child", "127.0.0.1:0", "5"))
	client := startTalker(t, w.workload("fetch", server.hear(), "5000"))
	child := server.hear()
	client.end()
	_, atServer := byRole(t, decodeStats(t, w.await(event.TypeConnectionClose, 2)))
	assert.Equal(t, child, strconv.Itoa(int(atServer.Header.Pid)), "the process that read it")
	server.end()
}

// TestWhoOnlyClosesHasNotWritten: a server whose other process has served still has the connection open when that has ended.
func TestWhoOnlyClosesHasNotWritten(t *testing.T) {
	w := newWorld(t, nil)
	server := startTalker(t, w.workload("serve-by-child", "127.0.0.1:0", "5", "closes last"))
	client := startTalker(t, w.workload("fetch", server.hear(), "5000"))
	child := server.hear()
	client.end()
	_, atServer := byRole(t, decodeStats(t, w.await(event.TypeConnectionClose, 2)))
	assert.Equal(t, child, strconv.Itoa(int(atServer.Header.Pid)), "the process that wrote to it")
	server.end()
}

func TestConnectionThatLasts(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.ReportInterval = time.Second })
	server := startTalker(t, w.workload("echo", "127.0.0.1:0"))
	client := startTalker(t, w.workload("converse", server.hear()))
	client.hear()
	client.say("1000")
	w.await(event.TypeConnectionReport, 2)
	client.say("500")
	w.await(event.TypeConnectionReport, 4)
	client.end()

	closes := decodeStats(t, w.await(event.TypeConnectionClose, 2))
	reports := decodeStats(t, w.ofType(event.TypeConnectionReport))
	for _, end := range closes {
		assert.EqualValues(t, 1500, end.SentBytes)
		assert.EqualValues(t, 1500, end.ReceivedBytes)
		assert.Zero(t, end.Flags&event.ConnectionFirstRecord)
		sent, received, first := end.SentBytesDelta, end.ReceivedBytesDelta, 0
		for _, report := range reports {
			if report.Ends != end.Ends {
				continue
			}
			sent += report.SentBytesDelta
			received += report.ReceivedBytesDelta
			if report.Flags&event.ConnectionFirstRecord != 0 {
				first++
			}
			assert.Equal(t, end.Header.Pid, report.Header.Pid)
		}
		assert.EqualValues(t, 1500, sent, "each byte in one delta")
		assert.EqualValues(t, 1500, received)
		assert.Equal(t, 1, first)
	}
	server.end()
}

// TestConnectThatFailsAtOnce is not one that was given up. The kernel keeps no errno of it.
func TestConnectThatFailsAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	server := startTalker(t, w.workload("echo", "127.0.0.1:0"))
	twice := startTalker(t, w.workload("connect-twice", server.hear()))
	twice.hear()
	twice.end()
	server.end()
	errors := []int32{}
	for _, e := range decodeConnects(t, w.await(event.TypeConnectionConnect, 2)) {
		assert.Equal(t, twice.pid(), e.Header.Pid)
		errors = append(errors, e.Error)
	}
	assert.ElementsMatch(t, []int32{0, event.NoErrno}, errors)
}

// connectTwiceWorkload connects from one port to one address a second time, which must fail.
func connectTwiceWorkload(args []string) error {
	reuse := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(err, controlErr)
	}}
	reuse.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	first, err := reuse.Dial("tcp4", args[0])
	if err != nil {
		return err
	}
	defer first.Close()
	reuse.LocalAddr = first.LocalAddr()
	if _, err := reuse.Dial("tcp4", args[0]); !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("connect once more from %s: %w", first.LocalAddr(), err)
	}
	fmt.Println("ready")
	return untilEndOfInput()
}

func TestConnectionThatIsOlder(t *testing.T) {
	before := newWorld(t, nil)
	server := startTalker(t, before.workload("echo", "127.0.0.1:0"))
	client := startTalker(t, before.workload("converse", server.hear()))
	client.hear()
	client.say("1000")

	w := before.another()
	client.say("24")
	client.end()
	all := decodeStats(t, w.await(event.TypeConnectionClose, 2))
	require.Len(t, all, 2)
	owners := []uint32{all[0].Header.Pid, all[1].Header.Pid}
	assert.ElementsMatch(t, []uint32{client.pid(), server.pid()}, owners)
	for _, e := range all {
		assert.EqualValues(t, 1024, e.SentBytes, "since the connection began")
		assert.EqualValues(t, 1024, e.ReceivedBytes)
		assert.EqualValues(t, 24, e.SentBytesDelta, "since the source began")
		assert.EqualValues(t, 24, e.ReceivedBytesDelta)
		assert.Equal(t, event.RoleUnknown, e.Ends.Role)
		assert.Zero(t, e.Opened)
	}
	server.end()
}

func TestUDP(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(listen, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.ReportInterval = time.Second })
			server := startTalker(t, w.workload("udp-echo", listen))
			address := server.hear()
			client := startTalker(t, w.workload("udp-ask", address, "0", "1", "1400", "60000"))
			from := client.hear()
			client.end()
			server.end()

			atClient, atServer := byRole(t, decodeStats(t, w.await(event.TypeConnectionClose, 2)))
			assert.Equal(t, from, local(&atClient.Ends))
			assert.Equal(t, address, peer(&atClient.Ends))
			assert.Equal(t, address, local(&atServer.Ends))
			assert.Equal(t, from, peer(&atServer.Ends))
			assert.Equal(t, client.pid(), atClient.Header.Pid)
			assert.Equal(t, server.pid(), atServer.Header.Pid)
			for _, e := range []*bpf.WireConnectionStats{atClient, atServer} {
				assert.Equal(t, event.ProtocolUDP, e.Ends.Protocol)
				assert.EqualValues(t, 61401, e.SentBytes)
				assert.EqualValues(t, 61401, e.ReceivedBytes)
				assert.EqualValues(t, 4, e.SentPackets)
				assert.EqualValues(t, 4, e.ReceivedPackets)
			}
		})
	}
}

// TestUDPFlowsThatFallSilent has a server with several peers: their flows end by themselves.
func TestUDPFlowsThatFallSilent(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.ReportInterval = time.Second })
	server := startTalker(t, w.workload("udp-echo", "127.0.0.1:0"))
	address := server.hear()
	for range 3 {
		client := startTalker(t, w.workload("udp-ask", address, "10"))
		client.hear()
		client.end()
	}
	var ofServer []*bpf.WireConnectionStats
	for _, e := range decodeStats(t, w.await(event.TypeConnectionClose, 6)) {
		if e.Header.Pid == server.pid() {
			ofServer = append(ofServer, e)
		}
	}
	require.Len(t, ofServer, 3)
	for _, e := range ofServer {
		assert.EqualValues(t, 10, e.SentBytes)
		assert.EqualValues(t, 10, e.ReceivedBytes)
	}
	server.end()
}

func TestTrafficOutsideTheScope(t *testing.T) {
	w := newWorld(t, nil)
	outside := newCgroup(t, "")
	server := startTalker(t, workloadIn(t, outside, "serve", "127.0.0.1:0", "10"))
	address := server.hear()
	stranger := workloadIn(t, outside, "fetch", address, "10")
	require.NoError(t, stranger.Run())
	own := w.workload("fetch", address, "10")
	require.NoError(t, own.Run())

	w.await(event.TypeConnectionClose, 1)
	w.finish()
	closes := decodeStats(t, w.ofType(event.TypeConnectionClose))
	require.Len(t, closes, 1, "the own client's side, not its server's")
	assert.EqualValues(t, own.Process.Pid, closes[0].Header.Pid)
	server.end()
}

// TestOwnTrafficIsLeftOut has this very process in scope.
func TestOwnTrafficIsLeftOut(t *testing.T) {
	requireBPF(t)
	w := newOwnWorld(t, func(o *Options) { o.Families, o.Cgroups = []string{familyNetwork}, []string{ownCgroup(t)} })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	address := listener.Addr().String()
	connection, err := net.Dial("tcp", address)
	require.NoError(t, err)
	accepted, err := listener.Accept()
	require.NoError(t, err)
	require.NoError(t, connection.Close())
	require.NoError(t, accepted.Close())
	w.finish()
	for _, e := range decodeConnects(t, w.ofType(event.TypeConnectionConnect)) {
		assert.NotEqual(t, address, peer(&e.Ends))
	}
	for _, e := range decodeStats(t, w.ofType(event.TypeConnectionClose)) {
		assert.NotEqual(t, address, peer(&e.Ends))
		assert.NotEqual(t, address, local(&e.Ends))
	}
}

func TestEveryHookIsThere(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range w.source.Capabilities() {
		assert.Equal(t, source.Attached, c.State, "%s: %s", c.Hook, c.Reason)
	}
	want := 17
	if !w.source.features.mapIterators {
		want-- // one program does what two do otherwise
	}
	assert.Len(t, w.source.Capabilities(), want)
}

func TestCgroupThatDoesNotExist(t *testing.T) {
	requireBPF(t)
	_, err := New(Options{Families: []string{"process"}, Cgroups: []string{"no/such"}, RingSize: 1 << 20, FlushInterval: time.Millisecond}, zapNop())
	require.ErrorIs(t, err, syscall.ENOENT)
	assert.ErrorContains(t, err, `scope::cgroups: cgroup "/no/such"`)
}

// TestHostUnreachable has a neighbour that does not answer: the kernel gives up after three seconds.
func TestHostUnreachable(t *testing.T) {
	if version, err := exec.Command("ip", "-V").CombinedOutput(); err != nil || !strings.Contains(string(version), "iproute2") {
		t.Skip("needs ip of iproute2")
	}
	w := newWorld(t, nil)
	client := w.workload("unreachable")
	client.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	require.NoError(t, client.Run())
	connect := decodeConnects(t, w.await(event.TypeConnectionConnect, 1))[0]
	assert.EqualValues(t, unix.EHOSTUNREACH, connect.Error)
	assert.Equal(t, "10.9.0.2:80", peer(&connect.Ends))
	assert.Greater(t, time.Duration(connect.Header.Time-connect.Opened), time.Second)
}

// unreachableWorkload has a network namespace of its own, which goes with it. The kernel tells itself
// of the unreachable host by ICMP, over lo.
func unreachableWorkload([]string) error {
	for _, command := range []string{"link set lo up", "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up", "addr add 10.9.0.1/24 dev v0"} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	if _, err := net.DialTimeout("tcp", "10.9.0.2:80", 10*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("want no route to host, got: %w", err)
	}
	return nil
}

// halfClosedWorkload says that it will send no more, and then ends the connection with a reset: by
// leaving unread what came, or by force.
func halfClosedWorkload(args []string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, server); err != nil {
		return err
	}
	if args[0] == "by force" {
		err = client.(*net.TCPConn).SetLinger(0)
	} else {
		_, err = server.Write([]byte("nobody reads this"))
	}
	return errors.Join(err, client.Close())
}

func TestResetOfAHalfClosedConnection(t *testing.T) {
	for _, how := range []string{"by force", "unread"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, nil)
			require.NoError(t, w.workload("half-closed", how).Run())
			client, server := byRole(t, decodeStats(t, w.await(event.TypeConnectionClose, 2)))
			assert.Equal(t, event.ConnectionAborted, client.Flags&event.ConnectionAborted)
			assert.NotZero(t, server.Error)
		})
	}
}

// udpLateWorkload is a server that answers when the flow has been given up long ago.
func udpLateWorkload([]string) error {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	client, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		return err
	}
	buffer := make([]byte, 10)
	if _, err := client.Write(buffer); err != nil {
		return err
	}
	_, from, err := server.ReadFrom(buffer)
	if err != nil {
		return err
	}
	fmt.Println(server.LocalAddr())
	if err := untilEndOfInput(); err != nil {
		return err
	}
	_, err = server.WriteTo(buffer, from)
	return errors.Join(err, client.Close(), server.Close())
}

func TestUDPAnswerAfterSilenceTurnsNobodyAround(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.ReportInterval = time.Second })
	k := startTalker(t, w.workload("udp-late"))
	server := k.hear()
	for _, e := range decodeStats(t, w.await(event.TypeConnectionClose, 2)) {
		if local(&e.Ends) == server {
			assert.Equal(t, event.RoleServer, e.Ends.Role)
		} else {
			assert.Equal(t, event.RoleClient, e.Ends.Role)
		}
	}
	k.end()
	for _, e := range decodeStats(t, w.await(event.TypeConnectionClose, 4))[2:] {
		assert.Equal(t, event.RoleUnknown, e.Ends.Role, "who began cannot be told from the answer")
	}
}
