// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

func init() {
	workloads["answer"] = answer
	workloads["relay"] = relay
	workloads["load"] = load
	workloads["spawn"] = spawn
}

// truthHeader has what no rule may know: which request this is, or which one it was made for.
const truthHeader = "X-Truth"

// answer NETWORK ADDRESS prints its address, and answers each request after up to 4 ms.
func answer(args []string) error {
	return serveAt(args[0], args[1], func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		linger()
		fmt.Fprintln(w, r.URL.Path)
	})
}

func serveAt(network, address string, handle http.HandlerFunc) error {
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, handle)
}

// linger is work that takes its time.
func linger() { time.Sleep(rand.N(4 * time.Millisecond)) }

// relay BACKEND JOB gets three things from the back end, and then listens. It asks it before each answer, and, if
// JOB is "job", also on its own account.
func relay(args []string) error {
	client := &relayClient{backend: args[0]}
	for n := range 3 {
		if err := client.get("/start", fmt.Sprintf("start-%d-%d", os.Getpid(), n)); err != nil {
			return err
		}
	}
	if args[1] == "job" {
		go client.work()
	}
	return serveAt("tcp4", loopback("tcp4"), func(w http.ResponseWriter, r *http.Request) {
		linger()
		if err := client.get(r.URL.Path, r.Header.Get(truthHeader)); err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, r.URL.Path)
	})
}

type relayClient struct{ backend string }

func (c *relayClient) get(path, truth string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+c.backend+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set(truthHeader, truth)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return err
}

func (c *relayClient) work() {
	for n := 0; ; n++ {
		time.Sleep(50*time.Millisecond + rand.N(50*time.Millisecond))
		_ = c.get("/job", fmt.Sprintf("job-%d-%d", os.Getpid(), n))
	}
}

// round of requests to one server.
type round struct {
	Network, Address      string
	Connections, Requests int64  // Requests on each of the connections
	Truth                 string // the beginning of each request's
	Depth                 int64  // how many are on the way at a time; 0: each has a connection of its own
	MaxBody               int64
	Pause                 time.Duration // before each request of a connection
}

// load prints a line, then does each round that it is given on a line, and prints a line after it.
func load([]string) error {
	fmt.Println("ready")
	for rounds := json.NewDecoder(os.Stdin); ; {
		var r round
		if err := rounds.Decode(&r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := r.run(); err != nil {
			return fmt.Errorf("%+v: %w", r, err)
		}
		fmt.Println("done")
	}
}

func (r round) run() error {
	var mu sync.Mutex
	next := int64(-1)
	return times(r.Connections, func() error {
		mu.Lock()
		next++
		connection := next
		mu.Unlock()
		return r.runOn(connection)
	})
}

func (r round) runOn(connection int64) error {
	conn, err := net.Dial(r.Network, r.Address)
	if err != nil {
		return err
	}
	defer func() { conn.Close() }()
	responses := bufio.NewReader(conn)
	for sent, received := int64(0), int64(0); received < r.Requests; received++ {
		if r.Depth == 0 && received > 0 {
			conn.Close()
			if conn, err = net.Dial(r.Network, r.Address); err != nil {
				return err
			}
			responses.Reset(conn)
		}
		time.Sleep(r.Pause)
		ahead := min(received+max(r.Depth, 1), r.Requests)
		if _, err := io.WriteString(conn, r.messages(connection, sent, ahead)); err != nil {
			return err
		}
		sent = ahead
		if err := expectOK(responses); err != nil {
			return err
		}
	}
	return nil
}

// messages are the requests from the first to before the last. Each third one has a body.
func (r round) messages(connection, first, last int64) string {
	var text strings.Builder
	for n := first; n < last; n++ {
		truth, method, body := fmt.Sprintf("%s-%d-%d", r.Truth, connection, n), http.MethodGet, int64(0)
		if r.MaxBody > 0 && n%3 == 2 {
			method, body = http.MethodPost, (connection*7919+n*104729)%r.MaxBody+1
		}
		fmt.Fprintf(&text, "%s /%s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
			method, truth, r.Address, truthHeader, truth, body, strings.Repeat("x", int(body)))
	}
	return text.String()
}

func expectOK(responses *bufio.Reader) error {
	response, err := http.ReadResponse(responses, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", response.Status)
	}
	return err
}

// do has the load do a round.
func (p *process) do(r round) {
	p.t.Helper()
	require.NoError(p.t, json.NewEncoder(p.in).Encode(r))
	select {
	case line, ok := <-p.lines:
		require.True(p.t, ok && line == "done", "the load ended early: %+v", r)
	case <-time.After(longPatience):
		require.Fail(p.t, "the load does not end", "%+v", r)
	}
}

// spawn COMMAND... has a shell run each command in a session of its own, as cron does, one after the other.
func spawn(args []string) error {
	for _, script := range args {
		command := exec.Command("/bin/sh", "-c", script)
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := command.Run(); err != nil {
			return fmt.Errorf("%s: %w", script, err)
		}
	}
	return nil
}
