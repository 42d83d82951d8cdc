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
	"net/http"
	"net/http/httptrace"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

func init() {
	workloads["serveHTTP"] = serveHTTP
	workloads["askHTTP"] = askHTTP
	workloads["pipeline"] = pipeline
	workloads["upgrade"] = upgrade
	workloads["hammer"] = hammer
}

// goServer serves what the last parts of a path say, and logs it.
type goServer struct {
	mu  sync.Mutex
	log *json.Encoder
}

// serveHTTP NETWORK LOG [ADDRESS] prints its address, and serves until it is ended.
func serveHTTP(args []string) error {
	log, err := os.OpenFile(args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	address := loopback(args[0])
	if len(args) > 2 {
		address = args[2]
	}
	listener, err := net.Listen(args[0], address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, &goServer{log: json.NewEncoder(log)})
}

func (s *goServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, port, _ := net.SplitHostPort(r.RemoteAddr)
	c := call{
		PID: int64(os.Getpid()), ClientPort: number(port), Method: r.Method, Target: r.RequestURI,
		Version: r.Proto, Status: http.StatusOK, Agent: r.UserAgent(),
	}
	what, argument := path.Split(r.URL.Path)
	n, _ := strconv.ParseInt(argument, 10, 64)
	if what == "/early/" { // of the body only so much is read
		_, _ = io.CopyN(io.Discard, r.Body, n)
	} else {
		c.RequestBody, _ = io.Copy(io.Discard, r.Body)
	}
	s.answer(w, &c, path.Base(what), n)
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.log.Encode(c)
}

func (s *goServer) answer(w http.ResponseWriter, c *call, what string, n int64) {
	switch what {
	case "size":
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		c.send(w, n)
	case "chunked":
		_ = http.NewResponseController(w).Flush() // the length is not known then
		c.send(w, n)
	case "slow":
		time.Sleep(time.Duration(n) * time.Millisecond)
		c.send(w, 5)
	case "status":
		c.Status = n
		w.WriteHeader(int(n))
	case "early":
		c.Status = http.StatusRequestEntityTooLarge
		w.Header().Set("Connection", "close")
		w.WriteHeader(int(c.Status))
	case "upgrade", "cut", "reset", "drop":
		c.takeOver(w, what, n)
	default:
		c.send(w, 2)
	}
}

func (c *call) send(w io.Writer, n int64) {
	sent, _ := io.CopyN(w, zeros{}, n)
	if c.Method != http.MethodHead {
		c.ResponseBody = sent
	}
}

// takeOver has the connection to itself: it speaks another protocol, or does not keep its word.
func (c *call) takeOver(w http.ResponseWriter, what string, n int64) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	if what == "upgrade" {
		c.Status = http.StatusSwitchingProtocols
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffered) // an echo
		conn.Close()
		return
	}
	if what == "drop" {
		c.Status = 0
	} else {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n+1)
		c.ResponseBody, _ = io.CopyN(conn, zeros{}, n)
	}
	if what == "reset" || what == "drop" {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	conn.Close()
}

// question is a request to be made.
type question struct {
	Method, Target string
	Body           int64
	Chunked        bool // the body's size is not said
	Close          bool
	Wait           bool // for a line
}

// askHTTP ADDRESS QUESTIONS asks one after the other, and prints what it knows of each.
func askHTTP(args []string) error {
	var questions []question
	if err := json.Unmarshal([]byte(args[1]), &questions); err != nil {
		return err
	}
	lines := bufio.NewReader(os.Stdin)
	for _, q := range questions {
		if q.Wait {
			pause(lines, 0)
		}
		if err := q.ask(args[0]); err != nil {
			return fmt.Errorf("%s %s: %w", q.Method, q.Target, err)
		}
	}
	return nil
}

const goAgent = "Go client"

func (q question) ask(address string) error {
	c := call{PID: int64(os.Getpid()), Method: q.Method, Target: q.Target, Version: "HTTP/1.1", Agent: goAgent, RequestBody: q.Body}
	request, err := http.NewRequest(q.Method, "http://"+address+q.Target, nil)
	if err != nil {
		return err
	}
	if q.Body > 0 {
		request.Body = io.NopCloser(io.LimitReader(zeros{}, q.Body))
		request.ContentLength = q.Body
	}
	if q.Chunked {
		request.ContentLength = -1
	}
	request.Close = q.Close
	request.Header.Set("User-Agent", goAgent)
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { c.ClientPort = int64(addrPort(info.Conn.LocalAddr()).Port()) },
	}))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return c.finish(response)
}

func (c *call) finish(response *http.Response) (err error) {
	c.Status = int64(response.StatusCode)
	c.ResponseBody, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	tellCall(*c)
	return err
}

func tellCall(c call) {
	line, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

// calls are what a workload printed, when it has ended.
func (p *process) calls() []call {
	p.t.Helper()
	var calls []call
	for line := range p.lines {
		var c call
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			p.t.Errorf("%s: %v", line, err)
		}
		calls = append(calls, c)
	}
	p.wait()
	return calls
}

// pipeline ADDRESS COUNT sends all requests before it reads a response.
func pipeline(args []string) error {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	var requests strings.Builder
	var calls []call
	for i := range number(args[1]) {
		c := call{PID: int64(os.Getpid()), ClientPort: int64(addrPort(conn.LocalAddr()).Port()), Method: "GET", Target: fmt.Sprintf("/n/pipelined/%d", i), Version: "HTTP/1.1", Agent: goAgent}
		fmt.Fprintf(&requests, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n", c.Target, args[0], goAgent)
		calls = append(calls, c)
	}
	if _, err := io.WriteString(conn, requests.String()); err != nil {
		return err
	}
	responses := bufio.NewReader(conn)
	for _, c := range calls {
		response, err := http.ReadResponse(responses, nil)
		if err != nil {
			return err
		}
		if err := c.finish(response); err != nil {
			return err
		}
	}
	return nil
}

// upgrade ADDRESS becomes another protocol, in which it says what looks like HTTP.
func upgrade(args []string) error {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	c := call{PID: int64(os.Getpid()), ClientPort: int64(addrPort(conn.LocalAddr()).Port()), Method: "GET", Target: "/upgrade/1", Version: "HTTP/1.1", Agent: goAgent}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", c.Target, args[0], goAgent)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	c.Status = int64(response.StatusCode)
	const message = "GET /not/http HTTP/1.1\r\nHost: x\r\n\r\n"
	echoed := make([]byte, len(message))
	for range 3 {
		_, writeErr := io.WriteString(conn, message)
		_, readErr := io.ReadFull(reader, echoed)
		if err := errors.Join(writeErr, readErr); err != nil {
			return err
		}
	}
	tellCall(c)
	return conn.Close()
}

// hammer ADDRESS CONNECTIONS REQUESTS BODY makes as many requests on each of the connections at once.
// Each is for a target of its own; every second one has a body of up to BODY bytes.
func hammer(args []string) error {
	i := int64(-1)
	var mu sync.Mutex
	return times(number(args[1]), func() error {
		mu.Lock()
		i++
		connection := i
		mu.Unlock()
		return hammerOn(args[0], connection, number(args[2]), number(args[3]))
	})
}

func hammerOn(address string, connection, requests, maxBody int64) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	reader, writer := bufio.NewReader(conn), bufio.NewWriter(conn)
	for request := range requests {
		c := hammered(connection, request, maxBody)
		fmt.Fprintf(writer, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Length: %d\r\n\r\n", c.Method, c.Target, address, c.Agent, c.RequestBody)
		if _, err := io.CopyN(writer, zeros{}, c.RequestBody); err != nil {
			return err
		}
		if err := writer.Flush(); err != nil {
			return err
		}
		if err := c.expect(reader); err != nil {
			return fmt.Errorf("%s %s: %w", c.Method, c.Target, err)
		}
	}
	return nil
}

// hammered is a call that goes as it should, to a server that sends the target and a line feed, and
// keeps what it is given.
func hammered(connection, request, maxBody int64) call {
	c := call{Method: "GET", Target: fmt.Sprintf("/n/%d/%d", connection, request), Version: "HTTP/1.1", Status: http.StatusOK, Agent: goAgent}
	c.ResponseBody = int64(len(c.Target)) + 1
	if maxBody > 0 && request%2 == 1 {
		c.Method, c.Target, c.Status, c.ResponseBody = "PUT", fmt.Sprintf("/up/%d-%d", connection, request), http.StatusCreated, 0
		c.RequestBody = (connection*7919+request*104729)%maxBody + 1
	}
	return c
}

func (c call) expect(reader *bufio.Reader) error {
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	size, err := io.Copy(io.Discard, response.Body)
	if err == nil && (int64(response.StatusCode) != c.Status || size != c.ResponseBody) {
		err = fmt.Errorf("status %d with %d bytes", response.StatusCode, size)
	}
	return err
}
