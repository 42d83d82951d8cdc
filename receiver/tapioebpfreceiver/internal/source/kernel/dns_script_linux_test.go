// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

func init() { workloads["dns-scripts"] = dnsScriptsWorkload }

// A dnsStep is what one socket does; the next step follows when the other end has it.
type dnsStep struct {
	Do     string   // "ask", "answer", "wait", or a client's end: "close", "reset", "shutdown"
	Client int      // its number
	Server int      // whom it asks, or who answers; over TCP the one that it is connected to
	Send   []string // datagrams; over TCP one behind the other
	Pieces int      // over TCP: bytes of a segment; 0: all at once
	Seed   int      // pieces of 1 to Pieces bytes, drawn by chance; 0: all of that size
	Corked bool     // a datagram is put together from two calls
	// Unread: nobody is there to read it.
	Unread bool
	For    time.Duration // that is waited
}

// dnsSocket is a client's.
type dnsSocket struct {
	Network string // "udp" or "tcp"
	Mapped  bool   // a socket of IPv6 that talks to servers of IPv4
	Server  int    // it is connected to; -1: to none
	Local   string // it is bound to; empty: to any
	Options bool   // its packets have some, and extension headers
	Fast    bool   // the first bytes go with the SYN
}

// dnsScript is what the sockets of a conversation do.
type dnsScript struct {
	Servers []string // addresses with ports
	Deaf    []bool   // nobody listens there
	Options bool     // as of sockets
	Sockets []dnsSocket
	Steps   []dnsStep
}

// dnsPlayed is what only those who played a script know of it.
type dnsPlayed struct {
	Clients, Servers []uint64    // cookies of sockets
	Times            [][2]uint64 // of each step: before it began and after it was over, ns since boot
	Addresses        []string    // of each step: the client's, as the server has seen it; empty: it has not
}

// dnsScriptsAtATime mostly wait.
const dnsScriptsAtATime = 24

// dnsScriptsWorkload plays all scripts of its input in its own network namespace, and prints what became of them.
func dnsScriptsWorkload([]string) error {
	var scripts []dnsScript
	if err := gob.NewDecoder(os.Stdin).Decode(&scripts); err != nil {
		return err
	}
	if err := prepareLoopback(scripts); err != nil {
		return err
	}
	places := make(chan struct{}, dnsScriptsAtATime)
	played, failures := make([]dnsPlayed, len(scripts)), make([]error, len(scripts))
	var all sync.WaitGroup
	for i, s := range scripts {
		places <- struct{}{}
		all.Go(func() {
			played[i], failures[i] = s.play()
			<-places
		})
	}
	all.Wait()
	return errors.Join(errors.Join(failures...), gob.NewEncoder(os.Stdout).Encode(played))
}

// prepareLoopback of a namespace that nobody else uses.
func prepareLoopback(scripts []dnsScript) error {
	const allOfFastOpen = "1543" // clients and servers, without cookies and socket options
	control, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for loopback: %w", err)
	}
	defer unix.Close(control)
	device, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	device.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, device); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	for _, s := range scripts {
		for _, server := range s.Servers {
			if err := addToLoopback(control, netip.MustParseAddrPort(server).Addr()); err != nil {
				return err
			}
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte(allOfFastOpen), 0)
}

// addToLoopback an address of IPv6; those of IPv4 are there.
func addToLoopback(control int, address netip.Addr) error {
	if address.Is4() {
		return nil
	}
	request := struct {
		address [16]byte
		prefix  uint32
		device  int32
	}{address.As16(), 128, 1}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(control), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 && errno != unix.EEXIST {
		return fmt.Errorf("add %s to loopback: %w", address, errno)
	}
	return awaitAddress(address)
}

// awaitAddress that was added: the kernel takes a moment to find out that nobody else can have it.
func awaitAddress(address netip.Addr) error {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		if err == nil {
			return socket.Close()
		}
		if time.Since(began) > patience {
			return fmt.Errorf("use %s: %w", address, err)
		}
	}
}

// dnsStage is where a script is played.
type dnsStage struct {
	dnsScript
	played    dnsPlayed
	servers   []*net.UDPConn
	listeners []*net.TCPListener
	clients   []net.Conn // *net.UDPConn or *net.TCPConn
	accepted  []*net.TCPConn
	seenAt    []map[int]netip.AddrPort
	buffer    []byte
}

func (s dnsScript) play() (dnsPlayed, error) {
	stage := &dnsStage{dnsScript: s, buffer: make([]byte, 1<<16)}
	defer stage.close()
	if err := stage.open(); err != nil {
		return stage.played, err
	}
	for i, step := range s.Steps {
		before := sinceBoot()
		if err := stage.run(step); err != nil {
			return stage.played, fmt.Errorf("step %d of %d of a conversation with %v, %s: %w", i, len(s.Steps), s.Servers, step.Do, err)
		}
		stage.played.Times = append(stage.played.Times, [2]uint64{before, sinceBoot()})
		stage.noteAddress(step)
	}
	return stage.played, nil
}

func (g *dnsStage) noteAddress(s dnsStep) {
	text := ""
	if where, ok := g.whereIs(s.Client, s.Server); ok && s.Do != "wait" && !s.Unread {
		text = where.String()
	}
	g.played.Addresses = append(g.played.Addresses, text)
}

// whereIs a client, as a server has seen it, else as another one has.
func (g *dnsStage) whereIs(client, server int) (where netip.AddrPort, ok bool) {
	if where, ok = g.seenAt[client][server]; ok {
		return where, true
	}
	for other := range g.Servers {
		if where, ok = g.seenAt[client][other]; ok {
			return where, true
		}
	}
	return netip.AddrPort{}, false
}

func sinceBoot() uint64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return uint64(now.Nano())
}

func (g *dnsStage) close() {
	for _, server := range g.servers {
		if server != nil {
			server.Close()
		}
	}
	for _, listener := range g.listeners {
		if listener != nil {
			listener.Close()
		}
	}
	for i := range g.clients {
		g.clients[i].Close()
		if g.accepted[i] != nil {
			g.accepted[i].Close()
		}
	}
}

func (g *dnsStage) open() error {
	for i, address := range g.Servers {
		if err := g.listen(address, g.Deaf[i]); err != nil {
			return fmt.Errorf("listen at %s: %w", address, err)
		}
	}
	for i, s := range g.Sockets {
		g.seenAt, g.accepted = append(g.seenAt, map[int]netip.AddrPort{}), append(g.accepted, nil)
		fd, err := g.openClient(s)
		if err != nil {
			return fmt.Errorf("open socket %d %+v: %w", i, s, err)
		}
		if s.Network == "tcp" && !s.Fast {
			if err := g.accept(i); err != nil {
				return err
			}
		}
		cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			return err
		}
		g.played.Clients = append(g.played.Clients, cookie)
	}
	return nil
}

func (g *dnsStage) listen(address string, deaf bool) error {
	if deaf {
		g.servers, g.listeners, g.played.Servers = append(g.servers, nil), append(g.listeners, nil), append(g.played.Servers, 0)
		return nil
	}
	where := netip.MustParseAddrPort(address)
	server, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(where))
	if err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(where))
	if err != nil {
		return err
	}
	g.servers, g.listeners = append(g.servers, server), append(g.listeners, listener)
	cookie, err := controlled(server, func(fd int) (uint64, error) {
		if g.Options {
			if err := setPacketOptions(fd, where.Addr().Is4()); err != nil {
				return 0, err
			}
		}
		return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	})
	g.played.Servers = append(g.played.Servers, cookie)
	return err
}

func controlled[T any](c syscall.Conn, f func(fd int) (T, error)) (value T, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return value, err
	}
	var errInside error
	err = raw.Control(func(fd uintptr) { value, errInside = f(int(fd)) })
	return value, errors.Join(err, errInside)
}

// setPacketOptions: each packet has one that says nothing.
func setPacketOptions(fd int, isIPv4 bool) error {
	if isIPv4 {
		return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x00")
	}
	const nothing = "\x00\x00\x01\x04\x00\x00\x00\x00"
	return errors.Join(unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, nothing),
		unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, nothing))
}

// openClient is done by hand, as not all that a socket can be is to be had otherwise. fd stays open with the client.
func (g *dnsStage) openClient(s dnsSocket) (fd int, err error) {
	isIPv4 := netip.MustParseAddrPort(g.Servers[max(s.Server, 0)]).Addr().Is4()
	family, kind := unix.AF_INET6, unix.SOCK_DGRAM
	if isIPv4 && !s.Mapped {
		family = unix.AF_INET
	}
	if s.Network == "tcp" {
		kind = unix.SOCK_STREAM
	}
	if fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close()
	if err := g.prepareClient(fd, s, isIPv4, family); err != nil {
		return 0, err
	}
	var client net.Conn
	if s.Network == "tcp" {
		client, err = net.FileConn(file)
	} else {
		var packets net.PacketConn
		if packets, err = net.FilePacketConn(file); err == nil {
			client = packets.(*net.UDPConn)
		}
	}
	if err != nil {
		return 0, err
	}
	g.clients = append(g.clients, client)
	return controlled(client.(syscall.Conn), func(fd int) (int, error) { return fd, nil })
}

func (g *dnsStage) prepareClient(fd int, s dnsSocket, isIPv4 bool, family int) error {
	if s.Options {
		if err := setPacketOptions(fd, isIPv4 && !s.Mapped); err != nil {
			return fmt.Errorf("set options: %w", err)
		}
	}
	if s.Fast {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
			return fmt.Errorf("set fast open: %w", err)
		}
	}
	if s.Local != "" {
		if err := unix.Bind(fd, sockaddrOf(netip.MustParseAddrPort(s.Local), family)); err != nil {
			return fmt.Errorf("bind to %s: %w", s.Local, err)
		}
	}
	if s.Server < 0 {
		return nil
	}
	return unix.Connect(fd, sockaddrOf(netip.MustParseAddrPort(g.Servers[s.Server]), family))
}

func sockaddrOf(a netip.AddrPort, family int) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (g *dnsStage) accept(client int) error {
	listener := g.listeners[g.Sockets[client].Server]
	listener.SetDeadline(time.Now().Add(patience))
	accepted, err := listener.AcceptTCP()
	if err != nil {
		return err
	}
	g.accepted[client] = accepted
	g.seenAt[client][g.Sockets[client].Server] = accepted.RemoteAddr().(*net.TCPAddr).AddrPort()
	return nil
}

func (g *dnsStage) run(s dnsStep) error {
	isTCP := s.Do != "wait" && g.Sockets[s.Client].Network == "tcp"
	switch {
	case s.Do == "wait":
		time.Sleep(s.For)
		return nil
	case s.Do == "ask" && isTCP:
		return g.askStream(s)
	case s.Do == "answer" && isTCP:
		return transferPieces(g.accepted[s.Client], g.clients[s.Client], s)
	case s.Do == "ask":
		return g.askDatagrams(s)
	case s.Do == "answer":
		return g.answerDatagrams(s)
	default:
		return g.endStream(s)
	}
}

// askStream: where the first bytes go with the SYN, there is nothing to accept before.
func (g *dnsStage) askStream(s dnsStep) error {
	if g.accepted[s.Client] != nil {
		return transferPieces(g.clients[s.Client], g.accepted[s.Client], s)
	}
	text := joined(s.Send)
	if _, err := io.WriteString(g.clients[s.Client], text); err != nil {
		return err
	}
	if err := g.accept(s.Client); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	return awaitBytes(g.accepted[s.Client], len(text))
}

func joined(texts []string) (all string) {
	for _, text := range texts {
		all += text
	}
	return all
}

// awaitBytes that were sent.
func awaitBytes(from net.Conn, size int) error {
	from.SetReadDeadline(time.Now().Add(patience))
	n, err := io.CopyN(io.Discard, from, int64(size))
	if err != nil {
		return fmt.Errorf("read %d of %d bytes: %w", n, size, err)
	}
	return nil
}

func transferPieces(from, to net.Conn, s dnsStep) error {
	text := joined(s.Send)
	total := len(text)
	random := rand.New(rand.NewPCG(uint64(s.Seed), 0))
	read := make(chan error, 1)
	go func() { read <- awaitBytes(to, total) }()
	for len(text) > 0 {
		n := len(text)
		if s.Pieces > 0 {
			n = min(n, s.Pieces)
		}
		if s.Seed > 0 {
			n = 1 + random.IntN(n)
		}
		if _, err := io.WriteString(from, text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return <-read
}

func (g *dnsStage) endStream(s dnsStep) error {
	client := g.clients[s.Client].(*net.TCPConn)
	switch s.Do {
	case "shutdown":
		return client.CloseWrite()
	case "reset":
		client.SetLinger(0)
	}
	return client.Close()
}

// --- datagrams -------------------------------------------------------------------------------

func (g *dnsStage) askDatagrams(s dnsStep) error {
	client := g.clients[s.Client].(*net.UDPConn)
	if err := g.sendDatagrams(client, s); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if s.Unread {
		return nil
	}
	for range s.Send {
		g.servers[s.Server].SetReadDeadline(time.Now().Add(patience))
		_, from, err := g.servers[s.Server].ReadFromUDPAddrPort(g.buffer)
		if err != nil {
			return fmt.Errorf("read a question: %w", err)
		}
		g.seenAt[s.Client][s.Server] = from
	}
	return nil
}

// againIfRefused: an error of a datagram before is told instead of sending the next one.
func againIfRefused(send func() error) error {
	for {
		if err := send(); !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
}

func (g *dnsStage) sendDatagrams(client *net.UDPConn, s dnsStep) error {
	var to net.Addr // nil: whom the socket is connected to
	if g.Sockets[s.Client].Server < 0 {
		to = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(g.Servers[s.Server]))
	}
	if s.Corked {
		return sendCorked(client, to, s.Send[0])
	}
	if len(s.Send) == 1 {
		return againIfRefused(func() error { return sendOne(client, to, s.Send[0]) })
	}
	messages := make([]ipv4.Message, len(s.Send))
	for i, text := range s.Send {
		messages[i] = ipv4.Message{Buffers: [][]byte{[]byte(text)}, Addr: to}
	}
	write := ipv4.NewPacketConn(client).WriteBatch
	if client.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Is6() {
		write = ipv6.NewPacketConn(client).WriteBatch
	}
	for len(messages) > 0 {
		err := againIfRefused(func() error {
			n, err := write(messages, 0)
			messages = messages[max(n, 0):]
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func sendOne(client *net.UDPConn, to net.Addr, text string) error {
	if to == nil {
		_, err := client.Write([]byte(text))
		return err
	}
	_, err := client.WriteTo([]byte(text), to)
	return err
}

func sendCorked(client *net.UDPConn, to net.Addr, text string) error {
	cork := func(value int) error {
		_, err := controlled(client, func(fd int) (int, error) {
			return 0, unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_CORK, value)
		})
		return err
	}
	half := len(text) / 2
	return errors.Join(cork(1), sendOne(client, to, text[:half]), sendOne(client, to, text[half:]), cork(0))
}

// answerDatagrams goes to where the client was seen, by any server.
func (g *dnsStage) answerDatagrams(s dnsStep) error {
	to, _ := g.whereIs(s.Client, s.Server)
	for _, text := range s.Send {
		if _, err := g.servers[s.Server].WriteToUDPAddrPort([]byte(text), to); err != nil {
			return fmt.Errorf("answer %s: %w", to, err)
		}
	}
	if s.Unread {
		return nil
	}
	client := g.clients[s.Client].(*net.UDPConn)
	for range s.Send {
		client.SetReadDeadline(time.Now().Add(patience))
		if err := againIfRefused(func() error { _, _, err := client.ReadFrom(g.buffer); return err }); err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
	}
	return nil
}
