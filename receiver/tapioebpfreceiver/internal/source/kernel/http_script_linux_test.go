// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
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
	Do    string        // then: "", "close", "reset", "shutdown" (of its writing)
	After time.Duration // waited before
	// Unread: the other side does not read it.
	Unread bool
}

func client(send string) step { return step{By: "client", Send: send} }
func server(send string) step { return step{By: "server", Send: send} }

// script is a connection's whole life.
type script struct {
	Address string // the server's, with port 0
	Steps   []step
	// Times the script is played, one connection after the other.
	Times int
}

// scriptWorkload is both ends of connections; it prints the server's address first.
func scriptWorkload(args []string) error {
	var s script
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.Address)
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Println(listener.Addr())
	for range max(1, s.Times) {
		if err := play(listener, s.Steps); err != nil {
			return err
		}
	}
	return nil
}

func play(listener net.Listener, steps []step) error {
	ends := map[string]*net.TCPConn{}
	accepted := make(chan net.Conn, 1)
	go func() {
		connection, _ := listener.Accept()
		accepted <- connection
	}()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	ends["client"], ends["server"] = dialled.(*net.TCPConn), (<-accepted).(*net.TCPConn)
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
		return from.Close()
	case "shutdown":
		return from.CloseWrite()
	}
	return nil
}

func (s step) transfer(from, to *net.TCPConn) error {
	data := s.Send + strings.Repeat("x", s.Bytes)
	total := int64(len(data))
	read := make(chan error, 1)
	go func() {
		if s.Unread {
			read <- nil
			return
		}
		_, err := io.CopyN(io.Discard, to, total)
		read <- err
	}()
	size := s.Split
	if size == 0 {
		size = max(1, len(data))
	}
	for len(data) > 0 {
		n := min(size, len(data))
		if _, err := from.Write([]byte(data[:n])); err != nil {
			return err
		}
		data = data[n:]
	}
	return <-read
}

// converseHTTPWorkload is both ends of one connection, opened first; each line of its input is a
// request.
func converseHTTPWorkload([]string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	server := make(chan net.Conn, 1)
	go func() {
		connection, _ := listener.Accept()
		server <- connection
	}()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	ends := map[string]*net.TCPConn{"client": connection.(*net.TCPConn), "server": (<-server).(*net.TCPConn)}
	fmt.Println("open")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		for _, s := range []step{client(get), server200} {
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

var server200 = step{By: "server", Send: ok + "hello"}
