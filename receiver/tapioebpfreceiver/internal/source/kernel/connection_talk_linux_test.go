// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	workloads["talks"] = talksWorkload
	workloads["hand"] = handWorkload
}

// heldTalk is what a workload says of a talk: the addresses of its sockets, by connection.
type heldTalk struct {
	Seed      uint64
	Addresses []map[string]string
	Hand      int // the other process
}

// talksWorkload has the talks from number args[0] on, args[1] of them, one after the other, in a network of its own.
func talksWorkload(args []string) error {
	if err := ownNetwork(); err != nil {
		return fmt.Errorf("make a network: %w", err)
	}
	other, err := startHand()
	if err != nil {
		return fmt.Errorf("start the other process: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	for seed := uint64(number(args[0])); seed < uint64(number(args[0])+number(args[1])); seed++ {
		h := &talkHolder{talk: drawTalk(seed), hand: other, sockets: map[string]int{}}
		if err := h.hold(); err != nil {
			return fmt.Errorf("talk %d: %w\n%s", seed, err, h.talk)
		}
		if err := out.Encode(heldTalk{Seed: seed, Addresses: h.addresses, Hand: other.command.Process.Pid}); err != nil {
			return err
		}
	}
	return other.end()
}

// ownNetwork has but lo, over which connections may begin with data.
func ownNetwork() error {
	const withoutCookies = "1543" // client, server, and neither asks for a cookie
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte(withoutCookies), 0); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// --- the other process -----------------------------------------------------------------------

// hand is another process, which does what it is told with sockets that it is handed.
type hand struct {
	command *exec.Cmd
	socket  int
}

func startHand() (*hand, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "hand")
	defer theirs.Close()
	h := &hand{socket: pair[0], command: exec.Command("/proc/self/exe")}
	h.command.Env = []string{workloadEnv + "=hand"}
	h.command.ExtraFiles, h.command.Stderr = []*os.File{theirs}, os.Stderr
	return h, h.command.Start()
}

func (h *hand) end() error {
	return errors.Join(unix.Close(h.socket), h.command.Wait())
}

// does a step with a socket, and says when it is done.
func (h *hand) does(s talkStep, fd int) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(h.socket, text, unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("hand a socket over: %w", err)
	}
	if s.Do == "close" {
		unix.Close(fd)
		if err := unix.Sendmsg(h.socket, []byte("{}"), nil, nil, 0); err != nil { // now it is the only one who has it
			return err
		}
	}
	answer := make([]byte, 1000)
	n, err := unix.Read(h.socket, answer)
	if err != nil || string(answer[:n]) != "done" {
		return fmt.Errorf("the other process: %q %w", answer[:max(n, 0)], err)
	}
	return nil
}

// handWorkload is the other process.
func handWorkload([]string) error {
	text, rights := make([]byte, 1000), make([]byte, unix.CmsgSpace(4))
	for {
		n, m, _, _, err := unix.Recvmsg(3, text, rights, 0)
		if err != nil || n == 0 {
			return err
		}
		var s talkStep
		if err := json.Unmarshal(text[:n], &s); err != nil {
			return err
		}
		if err := takeUp(s, rights[:m]); err != nil {
			return fmt.Errorf("%+v: %w", s, err)
		}
		if _, err := unix.Write(3, []byte("done")); err != nil {
			return err
		}
	}
}

func takeUp(s talkStep, rights []byte) error {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	if s.Do == "close" {
		if _, err := unix.Read(3, make([]byte, 10)); err != nil {
			return err
		}
		return unix.Close(fds[0])
	}
	return errors.Join(s.do(fds[0]), unix.Close(fds[0]))
}

// --- steps -----------------------------------------------------------------------------------

func (s talkStep) do(fd int) error {
	switch s.Do {
	case "send":
		return s.write(fd)
	case "send datagram":
		return s.writeDatagram(fd)
	case "read":
		return readAll(fd, s.Bytes)
	case "acknowledge": // what came, now
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	case "shutdown":
		return unix.Shutdown(fd, unix.SHUT_WR)
	case "reset":
		return errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(fd))
	case "close":
		return unix.Close(fd)
	}
	return fmt.Errorf("unknown step %q", s.Do)
}

func readAll(fd, bytes int) error {
	most := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &most); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for bytes > 0 {
		n, err := unix.Read(fd, buffer[:min(bytes, len(buffer))])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return fmt.Errorf("read, %d bytes to come: %w", bytes, err)
		}
		bytes -= n
	}
	return nil
}

func (s talkStep) write(fd int) error {
	piece := s.Split
	if piece == 0 {
		piece = s.Bytes
	}
	for left := s.Bytes; left > 0; left -= piece {
		if err := writeAll(fd, s.How, min(piece, left)); err != nil {
			return err
		}
	}
	if s.How == "more" { // what was kept back goes now
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return nil
}

func writeAll(fd int, how string, bytes int) error {
	data := make([]byte, bytes)
	for len(data) > 0 {
		n, err := writeOnce(fd, how, data)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s, %d bytes to go: %w", how, len(data), err)
		}
		data = data[n:]
	}
	return nil
}

func writeOnce(fd int, how string, data []byte) (int, error) {
	switch how {
	case "writev":
		return unix.Writev(fd, [][]byte{data[:len(data)/2], data[len(data)/2:]})
	case "sendfile":
		file, err := unix.MemfdCreate("data", 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(file)
		if err := unix.Ftruncate(file, int64(len(data))); err != nil {
			return 0, err
		}
		return unix.Sendfile(fd, file, nil, len(data))
	case "splice":
		return spliceOnce(fd, data)
	case "urgent":
		return unix.SendmsgN(fd, data, nil, nil, unix.MSG_OOB)
	case "more":
		return unix.SendmsgN(fd, data, nil, nil, unix.MSG_MORE)
	}
	return unix.Write(fd, data)
}

func spliceOnce(fd int, data []byte) (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], 0); err != nil {
		return 0, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	n, err := unix.Write(pipe[1], data[:min(len(data), 4096)])
	if err != nil {
		return 0, err
	}
	spliced, err := unix.Splice(pipe[0], nil, fd, nil, n, 0)
	return int(spliced), err
}

// --- a talk ----------------------------------------------------------------------------------

// talkHolder holds a talk.
type talkHolder struct {
	talk
	hand      *hand
	listener  int
	sockets   map[string]int
	addresses []map[string]string
	again     int // a client's socket that was disconnected
}

func (h *talkHolder) hold() error {
	h.listener, h.again = -1, -1
	defer func() {
		for _, fd := range h.sockets {
			unix.Close(fd)
		}
		unix.Close(h.listener)
		unix.Close(h.again)
	}()
	switch h.Kind {
	case talkRefused:
		return h.knock(0)
	case talkGivenUp:
		return h.knock(dropAll)
	case talkWithItself:
		return h.speakToItself()
	case talkUDP, talkUDPNobody:
		return h.sendDatagrams()
	}
	if err := h.listen(); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for _, s := range h.Steps {
		if err := h.take(s); err != nil {
			return fmt.Errorf("step %+v: %w", s, err)
		}
	}
	return nil
}

// socket for the server's address, or an IPv6 one for an IPv4 address.
func (h *talkHolder) socket(kind int, mapped bool) (int, unix.Sockaddr, error) {
	where := netip.MustParseAddr(h.Where)
	if where.Is4() && !mapped {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		return fd, &unix.SockaddrInet4{Addr: where.As4()}, err
	}
	fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC, 0)
	return fd, &unix.SockaddrInet6{Addr: where.As16()}, err
}

func withPort(to unix.Sockaddr, port int) unix.Sockaddr {
	switch to := to.(type) {
	case *unix.SockaddrInet4:
		return &unix.SockaddrInet4{Addr: to.Addr, Port: port}
	case *unix.SockaddrInet6:
		return &unix.SockaddrInet6{Addr: to.Addr, Port: port}
	}
	return nil
}

func addressOf(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)), err
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port)), err
	}
	return netip.AddrPort{}, err
}

func (h *talkHolder) listen() error {
	fd, to, err := h.socket(unix.SOCK_STREAM, false)
	h.listener = fd
	return errors.Join(err, unix.Bind(fd, to), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 5), unix.Listen(fd, 8))
}

func (h *talkHolder) take(s talkStep) error {
	fd := h.sockets[s.By]
	switch s.Do {
	case "open":
		return h.open(s.Bytes)
	case "wait":
		return h.awaitAcknowledged()
	case "stop listening":
		err := unix.Close(h.listener)
		h.listener = -1
		return err
	case "close both":
		return h.closeBoth()
	case "send":
		return h.send(s)
	case "disconnect":
		h.forget(s.By)
		if err := disconnect(fd); err != nil {
			return err
		}
		if s.By == "client" && h.again < 0 {
			h.again = fd
			return nil
		}
		return unix.Close(fd)
	case "acknowledge":
		return errors.Join(h.run(s, fd), h.awaitAcknowledged())
	case "close", "reset":
		h.forget(s.By)
	}
	return h.run(s, fd)
}

func (h *talkHolder) run(s talkStep, fd int) error {
	if s.Hand {
		return h.hand.does(s, fd)
	}
	return s.do(fd)
}

// awaitAcknowledged is until no end of a connection waits for the other side's kernel to have heard of it.
func (h *talkHolder) awaitAcknowledged() error {
	const waits = " 04 " // FIN_WAIT1
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(time.Millisecond) {
		v4, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		v6, err := os.ReadFile("/proc/thread-self/net/tcp6")
		if err != nil {
			return err
		}
		if !strings.Contains(string(v4)+string(v6), waits) {
			return nil
		}
	}
	return errors.New("an end is not acknowledged")
}

func (h *talkHolder) forget(end string) { delete(h.sockets, end) }

// disconnect undoes a socket's connect.
func disconnect(fd int) error {
	nothing := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nothing)), unsafe.Sizeof(nothing)); errno != 0 {
		return errno
	}
	return nil
}

// clientSocket is one that was used before, if there is one.
func (h *talkHolder) clientSocket() (int, unix.Sockaddr, error) {
	fd, to, err := h.socket(unix.SOCK_STREAM, h.Mapped)
	if err != nil {
		return -1, nil, err
	}
	if h.again >= 0 {
		unix.Close(fd)
		fd, h.again = h.again, -1
		return fd, to, nil
	}
	if h.Bound {
		err = unix.Bind(fd, to)
	}
	return fd, to, errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.SetNonblock(fd, h.NonBlocking))
}

// client is a socket, and where the listener is that it connects to.
func (h *talkHolder) client() (fd int, to unix.Sockaddr, server netip.AddrPort, err error) {
	if server, err = addressOf(h.listener); err != nil {
		return -1, nil, server, err
	}
	if fd, to, err = h.clientSocket(); err != nil {
		return -1, nil, server, err
	}
	h.sockets["client"] = fd
	return fd, withPort(to, int(server.Port())), server, nil
}

// connect to a port. With a socket that does not block the handshake is awaited.
func (h *talkHolder) connect(fd int, to unix.Sockaddr, bytes int) error {
	var err error
	if bytes > 0 {
		_, err = unix.SendmsgN(fd, make([]byte, bytes), nil, to, unix.MSG_FASTOPEN)
	} else {
		err = unix.Connect(fd, to)
	}
	if errors.Is(err, unix.EINPROGRESS) {
		if err = awaitWritable(fd); err != nil {
			return err
		}
		value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && value != 0 {
			err = unix.Errno(value)
		}
		return errors.Join(err, unix.SetNonblock(fd, false))
	}
	return errors.Join(err, unix.SetNonblock(fd, false))
}

func awaitWritable(fd int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(patience/time.Millisecond))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (h *talkHolder) open(bytes int) error {
	fd, to, server, err := h.client()
	if err != nil {
		return err
	}
	if err := h.connect(fd, to, bytes); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	client, err := addressOf(fd)
	if err != nil {
		return err
	}
	h.addresses = append(h.addresses, map[string]string{"client": client.String(), "server": server.String()})
	if h.Kind == talkNotAccepted {
		return nil
	}
	accepted, _, err := unix.Accept4(h.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	h.sockets["server"] = accepted
	return errors.Join(unix.SetsockoptInt(accepted, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), readAll(accepted, bytes))
}

// send has the other side read at the same time, unless it does not.
func (h *talkHolder) send(s talkStep) error {
	var all sync.WaitGroup
	errs := make([]error, 2)
	run := func(who int, s talkStep, fd int, byHand bool) {
		all.Go(func() {
			if byHand {
				errs[who] = h.hand.does(s, fd)
			} else {
				errs[who] = s.do(fd)
			}
		})
	}
	fd := h.sockets[other(s.By)]
	if s.How == "urgent" { // before it comes, or a byte is passed over
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1); err != nil {
			return err
		}
	}
	run(0, s, h.sockets[s.By], s.Hand)
	if !s.Unread {
		run(1, talkStep{Do: "read", Bytes: s.Bytes}, fd, s.Reader)
	}
	all.Wait()
	return errors.Join(errs...)
}

func (h *talkHolder) closeBoth() error {
	var all sync.WaitGroup
	for _, fd := range h.sockets {
		all.Go(func() { unix.Close(fd) })
	}
	all.Wait()
	clear(h.sockets)
	return nil
}

// dropAll is a filter that lets nothing through.
const dropAll = 1

// knock where nobody is, or where nobody hears.
func (h *talkHolder) knock(filter int) error {
	if err := h.listen(); err != nil {
		return err
	}
	fd, to, server, err := h.client()
	if err != nil {
		return err
	}
	if filter == dropAll {
		return h.giveUp(fd, to, server)
	}
	client, err := addressOf(fd)
	if err != nil {
		return err
	}
	unix.Close(h.listener)
	h.listener = -1
	err = h.connect(fd, to, 0)
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("want it refused, got: %w", err)
	}
	h.addresses = []map[string]string{{"server": server.String(), "client": client.String()}}
	return nil
}

func (h *talkHolder) giveUp(fd int, to unix.Sockaddr, server netip.AddrPort) error {
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	filter := unix.SockFprog{Len: 1, Filter: &nothing[0]}
	err := errors.Join(unix.SetsockoptSockFprog(h.listener, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &filter), unix.SetNonblock(fd, true))
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, to); !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("want nobody to hear it, got: %w", err)
	}
	client, err := addressOf(fd)
	h.addresses = []map[string]string{{"server": server.String(), "client": client.String()}}
	return err
}

func (h *talkHolder) speakToItself() error {
	fd, _, err := h.clientSocket()
	if err != nil {
		return err
	}
	h.sockets["client"] = fd
	own, err := addressOf(fd)
	if err != nil {
		return err
	}
	_, to, err := h.socket(unix.SOCK_STREAM, false)
	if err != nil {
		return err
	}
	if err := h.connect(fd, withPort(to, int(own.Port())), 0); err != nil {
		return err
	}
	h.addresses = []map[string]string{{"client": own.String()}}
	s := h.Steps[0]
	read := make(chan error, 1)
	go func() { read <- readAll(fd, s.Bytes) }()
	return errors.Join(s.write(fd), <-read)
}

// --- UDP -------------------------------------------------------------------------------------

func (h *talkHolder) sendDatagrams() error {
	h.addresses = []map[string]string{{}}
	for _, name := range []string{"server", "client", "another", "nobody"} {
		fd, to, err := h.socket(unix.SOCK_DGRAM, name != "server" && h.Mapped)
		if err != nil {
			return err
		}
		h.sockets[name] = fd
		if err := unix.Bind(fd, to); err != nil {
			return err
		}
		if h.Whole {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
				return err
			}
		}
		address, err := addressOf(fd)
		if err != nil {
			return err
		}
		h.addresses[0][name] = address.String()
	}
	unix.Close(h.sockets["nobody"])
	delete(h.sockets, "nobody")
	for _, name := range []string{"client", "another"} {
		if err := h.connectDatagrams(name); err != nil {
			return err
		}
	}
	for _, s := range h.Steps {
		fd := h.sockets[s.By]
		s.Do, s.Address = "send datagram", h.addresses[0][s.To]
		if err := h.run(s, fd); err != nil {
			return fmt.Errorf("%+v: %w", s, err)
		}
	}
	return nil
}

// connectDatagrams of one who has but one peer, if it is to.
func (h *talkHolder) connectDatagrams(name string) error {
	if !h.NonBlocking {
		return nil
	}
	to := "server"
	if h.Kind == talkUDPNobody {
		to = "nobody"
	}
	address, err := sockaddr(h.sockets[name], h.addresses[0][to])
	return errors.Join(err, unix.Connect(h.sockets[name], address))
}

// sockaddr of an address, as a socket has them.
func sockaddr(fd int, address string) (unix.Sockaddr, error) {
	to := netip.MustParseAddrPort(address)
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, err
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}, err
}

func (s talkStep) writeDatagram(fd int) error {
	data := make([]byte, s.Bytes)
	to, err := sockaddr(fd, s.Address)
	if err != nil {
		return err
	}
	switch {
	case s.How == "segments" && s.Split < s.Bytes:
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, s.Split); err != nil {
			return err
		}
		defer unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0)
	case s.How == "more": // in two calls that are one datagram
		if _, err := unix.SendmsgN(fd, data[:s.Bytes/2], nil, to, unix.MSG_MORE); err != nil {
			return err
		}
		data = data[s.Bytes/2:]
	}
	_, err = unix.SendmsgN(fd, data, nil, to, 0)
	return err
}
