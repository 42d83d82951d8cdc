// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// workloads are what this binary does when it is started to be observed. What they find out about
// themselves they print, a line each.
var workloads = map[string]func(args []string) error{
	"exit":     exitWith,
	"become":   become,
	"serve":    serve,
	"fetch":    fetch,
	"drip":     drip,
	"serveUDP": serveUDP,
	"fetchUDP": fetchUDP,
	"refused":  refused,
	"slam":     slam,
	"slammed":  slammed,
	"storm":    storm,
}

const workloadEnv = "TAPIO_E2E_WORKLOAD"

// transfer is what one end of a connection or flow knows of it.
type transfer struct {
	Local, Peer                  netip.AddrPort
	Sent, Received               int64
	SentPackets, ReceivedPackets int64 // UDP only
}

// exitWith CODE [ARGUMENT...]
func exitWith(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// become PROGRAM ARGUMENT... runs another program in the place of this one, from a thread that is not
// the first: the kernel ends all others and gives the pid to this one.
func become(args []string) error {
	failed := make(chan error)
	runtime.LockOSThread() // the first thread stays here
	go func() {
		runtime.LockOSThread()
		failed <- syscall.Exec(args[0], args[1:], nil)
	}()
	return <-failed
}

// serve NETWORK COUNT SEND WHEN prints its address, then takes COUNT connections, sends SEND bytes
// on each and receives until there is no more. It ends its own side at once if WHEN is "eager", or
// after the peer has.
func serve(args []string) error {
	network, count, send, eager := args[0], number(args[1]), number(args[2]), args[3] == "eager"
	listener, err := net.Listen(network, loopback(network))
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Println(listener.Addr())
	return times(count, func() error {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		return exchange(conn.(*net.TCPConn), send, eager)
	})
}

// fetch NETWORK ADDRESS COUNT SEND makes COUNT connections at once and sends SEND bytes on each.
func fetch(args []string) error {
	network, address, count, send := args[0], args[1], number(args[2]), number(args[3])
	return times(count, func() error {
		conn, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		return exchange(conn.(*net.TCPConn), send, true)
	})
}

// drip NETWORK ADDRESS SIZE PIECES INTERVAL sends in pieces, and prints a line after each. With the
// interval 0 it waits for a line before each but the first.
func drip(args []string) error {
	network, address, size, pieces := args[0], args[1], number(args[2]), number(args[3])
	interval, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	lines := bufio.NewReader(os.Stdin)
	for piece := range pieces {
		if piece > 0 {
			pause(lines, interval)
		}
		if _, err := io.CopyN(conn, zeros{}, size); err != nil {
			return err
		}
		fmt.Println("sent", piece)
	}
	return finish(conn.(*net.TCPConn), size*pieces)
}

func pause(lines *bufio.Reader, interval time.Duration) {
	if interval > 0 {
		time.Sleep(interval)
		return
	}
	_, _ = lines.ReadString('\n')
}

// exchange sends while it receives.
func exchange(conn *net.TCPConn, send int64, eager bool) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(conn, zeros{}, send)
		if eager {
			err = errors.Join(err, conn.CloseWrite())
		}
		sent <- err
	}()
	received, err := io.Copy(io.Discard, conn)
	return errors.Join(err, <-sent, end(conn, send, received))
}

// finish ends the own side and receives what the other has to say.
func finish(conn *net.TCPConn, sent int64) error {
	err := conn.CloseWrite()
	received, receiveErr := io.Copy(io.Discard, conn)
	return errors.Join(err, receiveErr, end(conn, sent, received))
}

func end(conn net.Conn, sent, received int64) error {
	err := conn.Close()
	tell(transfer{Local: addrPort(conn.LocalAddr()), Peer: addrPort(conn.RemoteAddr()), Sent: sent, Received: received})
	return err
}

// serveUDP NETWORK PACKETS prints its address and answers as many packets, whoever sent them.
func serveUDP(args []string) error {
	network, packets := args[0], number(args[1])
	conn, err := net.ListenPacket(network, loopback(network))
	if err != nil {
		return err
	}
	fmt.Println(conn.LocalAddr())
	peers := map[netip.AddrPort]transfer{}
	buffer := make([]byte, 1<<16)
	for range packets {
		n, peer, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		sent, err := conn.WriteTo(make([]byte, answerTo(n)), peer)
		if err != nil {
			return err
		}
		flow := peers[addrPort(peer)]
		flow.Local, flow.Peer = addrPort(conn.LocalAddr()), addrPort(peer)
		flow.countPackets(sent, n)
		peers[flow.Peer] = flow
	}
	err = conn.Close()
	for _, flow := range peers {
		tell(flow)
	}
	return err
}

// answerTo is the size of the answer to a packet of n bytes.
func answerTo(n int) int { return 2*n + 1 }

func (t *transfer) countPackets(sent, received int) {
	t.Sent += int64(sent)
	t.Received += int64(received)
	t.SentPackets++
	t.ReceivedPackets++
}

// fetchUDP NETWORK ADDRESS PACKETS sends packets of growing size, the first of them empty, each
// after the answer to the one before.
func fetchUDP(args []string) error {
	network, address, packets := args[0], args[1], number(args[2])
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	flow := transfer{Local: addrPort(conn.LocalAddr()), Peer: addrPort(conn.RemoteAddr())}
	buffer := make([]byte, 1<<16)
	for packet := range packets {
		sent, err := conn.Write(make([]byte, 97*packet))
		if err != nil {
			return err
		}
		received, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		flow.countPackets(sent, received)
	}
	err = conn.Close()
	tell(flow)
	return err
}

// refused NETWORK ADDRESS COUNT connects to where nobody listens.
func refused(args []string) error {
	network, address, count := args[0], args[1], number(args[2])
	for range count {
		if _, err := net.Dial(network, address); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("the connection to %s was not refused: %w", address, err)
		}
	}
	return nil
}

// slam NETWORK prints its address, takes a connection, receives a byte and resets it.
func slam(args []string) error {
	listener, err := net.Listen(args[0], loopback(args[0]))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, 1); err != nil {
		return err
	}
	return errors.Join(conn.(*net.TCPConn).SetLinger(0), end(conn, 0, 1), listener.Close())
}

// slammed NETWORK ADDRESS sends a byte and expects a reset.
func slammed(args []string) error {
	conn, err := net.Dial(args[0], args[1])
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte{0}); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the connection was not reset: %w", err)
	}
	return end(conn, 1, 0)
}

// storm connects to itself again and again until it is ended.
func storm([]string) error {
	listener, err := net.Listen("tcp4", loopback("tcp4"))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	for {
		if err := connectOnce(listener); err != nil {
			return err
		}
	}
}

func connectOnce(listener net.Listener) error {
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		return err
	}
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	_, err = client.Write([]byte("hello"))
	return errors.Join(err, client.Close(), server.Close())
}

// times runs the function count times at once and waits for all.
func times(count int64, run func() error) error {
	var group sync.WaitGroup
	errs := make([]error, count)
	for i := range errs {
		group.Go(func() { errs[i] = run() })
	}
	group.Wait()
	return errors.Join(errs...)
}

func tell(t transfer) {
	line, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

// number of an argument that this package's tests wrote themselves.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// loopback is where to listen.
func loopback(network string) string {
	if network[len(network)-1] == '6' {
		return "[::1]:0"
	}
	return "127.0.0.1:0"
}

func addrPort(address net.Addr) netip.AddrPort {
	return netip.MustParseAddrPort(address.String())
}

// zeros are read without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
