// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	workloads["script"] = scriptWorkload
	workloads["converse-http"] = converseHTTPWorkload
}

// A step is what one side of a connection does; the next step follows when the other side has read
// it all.
type step struct {
	By    string        // "client" or "server"
	Send  string        // as it is
	Bytes int           // then so many bytes
	Split int           // sent in pieces of this size; 0: as one
	Seed  int           // pieces of 1 to Split bytes, drawn by chance; 0: all of that size
	Do    string        // then: "", "close", "reset", "shutdown" (of its writing)
	After time.Duration // waited before
	// Unread: the other side does not read it.
	Unread bool
	// Awaited: the other side goes on when it has read the end that this one has made.
	Awaited bool
}

func client(send string) step { return step{By: "client", Send: send} }
func server(send string) step { return step{By: "server", Send: send} }

// script is a connection's whole life.
type script struct {
	Address string // the server's, with port 0
	Steps   []step
	// Times the script is played, one connection after the other.
	Times int
	// Defer has the kernel accept a connection when its first bytes come, not before. With Early they are sent before it is accepted.
	Defer, Early bool
	// MaxSegment is how many bytes a segment has at the most, and ReceiveBuffer how many wait to be read; 0: as the
	// kernel likes.
	MaxSegment, ReceiveBuffer int

	way *badWay // between its ends; nil: packets come as they are sent
}

// scriptWorkload is both ends of connections; it prints the server's address first.
func scriptWorkload(args []string) error {
	var s script
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	listener, err := s.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	for range max(1, s.Times) {
		if err := s.play(listener); err != nil {
			return err
		}
	}
	return nil
}

func (s script) listen() (net.Listener, error) {
	config := net.ListenConfig{Control: s.setOptions}
	return config.Listen(context.Background(), "tcp", s.Address)
}

func (s script) dial(address string) (net.Conn, error) {
	dialer := net.Dialer{Control: s.setOptions}
	if s.way != nil {
		return s.way.dial(dialer, address)
	}
	return dialer.Dial("tcp", address)
}

// setOptions of the listener, which the client has, too.
func (s script) setOptions(_, _ string, c syscall.RawConn) error {
	var errs []error
	set := func(fd uintptr, level, option, value int) {
		if value != 0 {
			errs = append(errs, unix.SetsockoptInt(int(fd), level, option, value))
		}
	}
	errs = append(errs, c.Control(func(fd uintptr) {
		set(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, s.MaxSegment)
		set(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, s.ReceiveBuffer)
		if s.Defer {
			set(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5)
		}
	}))
	return errors.Join(errs...)
}

func (s script) play(listener net.Listener) error {
	client, err := s.dial(listener.Addr().String())
	if err != nil {
		return err
	}
	ends := map[string]*net.TCPConn{"client": client.(*net.TCPConn)}
	steps := s.Steps
	early := s.Early || s.Defer // else there is nothing to accept
	if early {
		if err := steps[0].send(client); err != nil {
			return err
		}
	}
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	ends["server"] = server.(*net.TCPConn)
	if early {
		if _, err := io.CopyN(io.Discard, server, steps[0].size()); err != nil {
			return err
		}
		steps = steps[1:]
	}
	for _, s := range steps {
		if err := s.run(ends); err != nil {
			return fmt.Errorf("step %+v: %w", s, err)
		}
	}
	time.Sleep(20 * time.Millisecond) // what is on its way arrives before the ends go
	ends["client"].Close()
	ends["server"].Close()
	return nil
}

func (s step) run(ends map[string]*net.TCPConn) error {
	time.Sleep(s.After)
	from, to := ends[s.By], ends["server"]
	if s.By == "server" {
		to = ends["client"]
	}
	if err := s.transfer(from, to); err != nil {
		return err
	}
	switch s.Do {
	case "reset":
		from.SetLinger(0)
		return from.Close()
	case "close":
		return errors.Join(from.Close(), s.awaitEnd(to))
	case "shutdown":
		return errors.Join(from.CloseWrite(), s.awaitEnd(to))
	}
	return nil
}

func (s step) awaitEnd(to *net.TCPConn) error {
	if !s.Awaited {
		return nil
	}
	_, err := io.Copy(io.Discard, to)
	return err
}

func (s step) transfer(from, to *net.TCPConn) error {
	read := make(chan error, 1)
	go func() {
		if s.Unread {
			read <- nil
			return
		}
		_, err := io.CopyN(io.Discard, to, s.size())
		read <- err
	}()
	if err := s.send(from); err != nil {
		return err
	}
	return <-read
}

func (s step) size() int64 { return int64(len(s.Send) + s.Bytes) }

func (s step) send(from io.Writer) error {
	data := s.Send + strings.Repeat("x", s.Bytes)
	size := s.Split
	if size == 0 {
		size = max(1, len(data))
	}
	random := rand.New(rand.NewPCG(uint64(s.Seed), 0))
	for len(data) > 0 {
		n := min(size, len(data))
		if s.Seed != 0 {
			n = 1 + random.IntN(n)
		}
		if _, err := from.Write([]byte(data[:n])); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// bothEnds of a connection, for steps.
func bothEnds() (map[string]*net.TCPConn, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	return map[string]*net.TCPConn{"client": client.(*net.TCPConn), "server": server.(*net.TCPConn)}, nil
}

// converseHTTPWorkload is both ends of one connection, opened first, when it prints the server's descriptor and the client's; each
// line of its input has steps.
func converseHTTPWorkload([]string) error {
	ends, err := bothEnds()
	if err != nil {
		return err
	}
	var numbers []any
	for _, end := range []string{"server", "client"} {
		raw, err := ends[end].SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { numbers = append(numbers, fd) }); err != nil {
			return err
		}
	}
	fmt.Println(append([]any{"open"}, numbers...)...)
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var steps []step
		if err := json.Unmarshal(input.Bytes(), &steps); err != nil {
			return err
		}
		for _, s := range steps {
			if err := s.run(ends); err != nil {
				return err
			}
		}
		fmt.Println("done")
	}
	time.Sleep(20 * time.Millisecond)
	ends["client"].Close()
	ends["server"].Close()
	return input.Err()
}
