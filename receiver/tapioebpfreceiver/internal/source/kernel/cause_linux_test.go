// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["front"] = frontWorkload
}

// --- a server with a back end --------------------------------------------------------------------

// front is a server that calls the back end at address args[0] and asks at the UDP address args[1]. It
// says where its threads serve, each from a socket that blocks, and where net/http does.
type front struct {
	backend  string
	resolver string
	others   chan func() // what another thread does
	park     atomic.Bool // the next connection is not read
	parked   chan int
}

func frontWorkload(args []string) error {
	f := &front{backend: args[0], resolver: args[1], others: make(chan func()), parked: make(chan int, 1)}
	go f.other()
	blocking, err := f.serveByThreads()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(listener, f) //nolint:gosec // its only client is the test
	fmt.Println(blocking, listener.Addr())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "park" {
			f.park.Store(true)
		} else {
			f.fetch("/alone")
		}
		fmt.Println("done")
	}
	return nil
}

func (f *front) other() {
	runtime.LockOSThread()
	for do := range f.others {
		do()
	}
}

func (f *front) onOther(do func()) {
	done := make(chan struct{})
	f.others <- func() { do(); close(done) }
	<-done
}

// ServeHTTP serves what any thread of the process may do.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/slow":
		f.fetch("/waits")
	case "/until-close":
		io.WriteString(w, "all of it")        //nolint:errcheck // the client would miss it
		http.NewResponseController(w).Flush() //nolint:errcheck // likewise
		f.fetch("/waits")
		return
	}
	f.fetch("/called")
	w.WriteHeader(http.StatusOK)
}

func (f *front) fetch(path string) {
	r, err := http.Get("http://" + f.backend + path)
	if err == nil {
		r.Body.Close()
	}
}

// serveByThreads returns the address of a server whose threads block.
func (f *front) serveByThreads() (netip.AddrPort, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return netip.AddrPort{}, err
	}
	if err := syscall.Listen(fd, 16); err != nil {
		return netip.AddrPort{}, err
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	go f.accept(fd)
	local := address.(*syscall.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(local.Addr), uint16(local.Port)), nil
}

func (f *front) accept(listener int) {
	for {
		fd, _, err := syscall.Accept(listener)
		if err != nil {
			return
		}
		if f.park.Swap(false) {
			f.parked <- fd
			continue
		}
		go f.serve(fd)
	}
}

const answered = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// serve one connection by a thread of its own, until it ends.
func (f *front) serve(fd int) {
	runtime.LockOSThread()
	defer syscall.Close(fd)
	for path := readPath(fd); path != ""; path = readPath(fd) {
		f.handle(fd, path)
	}
}

func (f *front) handle(fd int, path string) {
	answer := func() { write(fd, answered) }
	switch path {
	case "/call":
		f.ask()
		f.call("/called")
	case "/other":
		f.onOther(func() { f.call("/job") })
	case "/after":
		answer()
		f.call("/afterwards")
		return
	case "/hand-over":
		f.call("/handed")
		f.onOther(answer)
		return
	case "/mix":
		f.mix()
	}
	answer()
}

// mix reads another request before the first is answered.
func (f *front) mix() {
	second := <-f.parked
	readPath(second)
	f.call("/mixed")
	write(second, answered)
	syscall.Close(second)
	f.call("/mixed-for-good")
}

func readPath(fd int) string {
	buffer := make([]byte, 4096)
	n, err := syscall.Read(fd, buffer)
	if err != nil || n == 0 {
		return ""
	}
	return strings.Fields(string(buffer[:n]))[1]
}

func write(fd int, text string) { syscall.Write(fd, []byte(text)) } //nolint:errcheck // the client would miss it

// call the back end by a connection that blocks.
func (f *front) call(path string) {
	fd, err := connectTo(f.backend, syscall.SOCK_STREAM)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	write(fd, "GET "+path+" HTTP/1.1\r\nHost: backend\r\n\r\n")
	syscall.Read(fd, make([]byte, 4096)) //nolint:errcheck // it is the end of it, whatever comes
}

func (f *front) ask() {
	fd, err := connectTo(f.resolver, syscall.SOCK_DGRAM)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	write(fd, "a question")
}

func connectTo(address string, kind int) (int, error) {
	to := netip.MustParseAddrPort(address)
	fd, err := syscall.Socket(syscall.AF_INET, kind, 0)
	if err != nil {
		return 0, err
	}
	return fd, syscall.Connect(fd, &syscall.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}

// --- what is seen of it --------------------------------------------------------------------------

// theater is a front, and the test as its client and its back end, which are not in scope.
type theater struct {
	*world
	front    *talker
	blocking string // addresses
	pooled   string
	waiting  chan chan struct{} // calls of /waits
}

func newTheater(t *testing.T) *theater {
	h := &theater{waiting: make(chan chan struct{})}
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go server.Serve(backend) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
	resolver, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { resolver.Close() })
	port := netip.MustParseAddrPort(resolver.LocalAddr().String()).Port()
	h.world = newOwnWorld(t, func(o *Options) {
		withHTTP(o)
		o.Families, o.DNSPorts = []string{familyNetwork, familyDNS, familyHTTP}, []uint16{port}
	})
	h.front = startTalker(t, h.workload("front", backend.Addr().String(), resolver.LocalAddr().String()))
	addresses := strings.Fields(h.front.hear())
	h.blocking, h.pooled = addresses[0], addresses[1]
	return h
}

func (h *theater) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/waits" {
		goOn := make(chan struct{})
		h.waiting <- goOn
		<-goOn
	}
	w.WriteHeader(http.StatusOK)
}

// request of the blocking front by a connection that stays open until the test ends.
func (h *theater) request(path string) (answered func()) {
	h.t.Helper()
	return h.requestOn(h.connection(), path)
}

func (h *theater) connection() net.Conn {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.blocking)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

func (h *theater) requestOn(conn net.Conn, path string) (answered func()) {
	h.t.Helper()
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: front\r\n\r\n", path)
	require.NoError(h.t, err)
	return func() {
		require.NoError(h.t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = conn.Read(make([]byte, 4096))
		require.NoError(h.t, err)
	}
}

func (h *theater) get(path string) {
	h.t.Helper()
	r, err := http.Get("http://" + h.pooled + path)
	require.NoError(h.t, err)
	_, err = io.Copy(io.Discard, r.Body)
	require.NoError(h.t, err)
	require.NoError(h.t, r.Body.Close())
}

// exchangesFor are the records of the front's for a path, at least n.
func (h *theater) exchangesFor(path string, n int) (found []bpf.WireHttpExchange) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		found = nil
		for _, record := range h.ofType(event.TypeHTTPExchange) {
			if wire, e := decodeExchange(h.t, record); strings.HasPrefix(e.Request, "GET "+path+" ") {
				found = append(found, wire)
			}
		}
		return len(found) >= n
	}, patience, 5*time.Millisecond, "%d requests for %s", n, path)
	return found
}

func (h *theater) exchangeFor(path string) bpf.WireHttpExchange {
	h.t.Helper()
	return h.exchangesFor(path, 1)[0]
}

// requireFor says that the cause is that request.
func requireFor(t *testing.T, request bpf.WireHttpExchange, cause bpf.WireCause, flags uint32) {
	t.Helper()
	assert.Equal(t, flags, cause.Flags)
	assert.Equal(t, request.RequestSequence, cause.Sequence)
	assert.Equal(t, request.RequestAcknowledged, cause.Acknowledged)
	assert.NotZero(t, cause.Sequence)
}

// TestThreadsAndWhatTheySend shares one source: loading the programs takes most of the time.
func TestThreadsAndWhatTheySend(t *testing.T) {
	h := newTheater(t)
	for _, step := range []struct {
		name  string
		check func(*testing.T, *theater)
	}{
		{"a thread sends for the request that it serves", checkOwnRequest},
		{"others send for nobody", checkOtherThread},
		{"a request that is answered causes nothing", checkAfterwards},
		{"another thread answers", checkHandedOver},
		{"a thread mixes requests", checkMixed},
	} {
		t.Run(step.name, func(t *testing.T) { step.check(t, h) })
	}
}

func checkOwnRequest(t *testing.T, h *theater) {
	h.request("/call")()
	served, called := h.exchangeFor("/call"), h.exchangeFor("/called")
	assert.Equal(t, event.CauseDedicated|event.CauseAnswered, served.Cause.Flags)
	assert.NotZero(t, served.Cause.Thread)
	requireFor(t, served, called.Cause, event.CauseServer|event.CauseThread)
	assert.Equal(t, served.Cause.Thread, called.Cause.Thread)

	var connect bpf.WireConnectionConnect
	_, err := binary.Decode(h.await(event.TypeConnectionConnect, 1)[0], binary.LittleEndian, &connect)
	require.NoError(t, err)
	requireFor(t, served, connect.Cause, event.CauseServer|event.CauseThread)
	assert.Equal(t, called.RequestSequence, connect.Sequence, "the connection's first request has the numbers that it foretold")
	assert.Equal(t, called.RequestAcknowledged, connect.Acknowledged)

	var asked bpf.WireDnsMessage
	_, err = binary.Decode(h.await(event.TypeDNSMessage, 1)[0], binary.LittleEndian, &asked)
	require.NoError(t, err)
	requireFor(t, served, asked.Cause, event.CauseServer|event.CauseThread)
}

func checkOtherThread(t *testing.T, h *theater) {
	h.request("/other")()
	assert.Equal(t, event.CauseServer, h.exchangeFor("/job").Cause.Flags)
}

func checkAfterwards(t *testing.T, h *theater) {
	h.request("/after")()
	assert.Equal(t, event.CauseServer, h.exchangeFor("/afterwards").Cause.Flags)

	kept := h.connection() // for so long that it has a slot of its own
	for range 20 {
		h.requestOn(kept, "/")()
	}
	h.requestOn(kept, "/after")()
	assert.Equal(t, event.CauseServer, h.exchangesFor("/afterwards", 2)[1].Cause.Flags)
}

func checkHandedOver(t *testing.T, h *theater) {
	h.request("/hand-over")()
	assert.Equal(t, event.CauseDedicated, h.exchangeFor("/hand-over").Cause.Flags)
}

func checkMixed(t *testing.T, h *theater) {
	h.front.say("park")
	second := h.request("/mix-too")
	h.request("/mix")()
	second()
	for _, path := range []string{"/mixed", "/mixed-for-good"} {
		assert.Zero(t, h.exchangeFor(path).Cause.Flags&event.CauseThread, path)
	}
}

func TestTheOnlyRequestIsTheCause(t *testing.T) {
	setIdleWatch(t, 200*time.Millisecond)
	h := newTheater(t)
	h.get("/first")
	assert.Equal(t, event.CauseServer, h.exchangeFor("/called").Cause.Flags, "it has not been watched for long enough")
	var served, called bpf.WireHttpExchange
	asked := 0
	isSole := func() bool {
		before := len(h.exchangesFor("/called", 1))
		h.get("/again")
		served, called = h.exchangesFor("/again", asked+1)[asked], h.exchangesFor("/called", before+1)[before]
		asked++
		return called.Cause.Flags&event.CauseSole != 0
	}
	const pause = 500 * time.Millisecond // much longer than a request takes, also on a slow machine
	require.Eventually(t, isSole, patience, pause)
	requireFor(t, served, called.Cause, event.CauseServer|event.CauseSole)
	assert.Zero(t, served.Cause.Flags&event.CauseDedicated, "any thread may have served it")

	go h.get("/slow")
	release := <-h.waiting
	assert.False(t, isSole(), "there are two")
	close(release)
	require.Eventually(t, isSole, patience, pause)

	h.front.say("alone")
	assert.Equal(t, event.CauseServer, h.exchangeFor("/alone").Cause.Flags)
	for range 3 {
		time.Sleep(pause) // it is idle meanwhile, which is what is asked for: there is nothing to poll
		require.False(t, isSole(), "it sends by itself, too")
	}
}

// TestAServerThatHasNotClosedYetIsNotIdle: a response that ends with its connection is not over with its last byte. Until then
// its server serves it, and it is told then, however much was told meanwhile.
func TestAServerThatHasNotClosedYetIsNotIdle(t *testing.T) {
	const watch = 3 * time.Second
	setIdleWatch(t, watch)
	for range 3 {
		idle, cause := closeLate(t, watch)
		if idle < watch {
			assert.Zero(t, cause.Flags&event.CauseSole, "it was hardly idle")
			return
		}
		t.Logf("the server may have been idle for %s: once more, with another one", idle)
	}
	require.Fail(t, "this machine is too slow to tell")
}

// closeLate has a server close a connection long after the last byte of its response, and call for another request right then. The
// server was idle for so long at the most.
func closeLate(t *testing.T, watch time.Duration) (idle time.Duration, cause bpf.WireCause) {
	t.Helper()
	h := newTheater(t)
	conn, err := net.Dial("tcp", h.pooled)
	require.NoError(t, err)
	defer conn.Close()
	before := time.Now()
	h.get("/first")
	_, err = io.WriteString(conn, "GET /until-close HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	var goOn chan struct{}
	select {
	case goOn = <-h.waiting:
	case <-time.After(patience):
		require.Fail(t, "it is not served")
	}
	closeIt := sync.OnceFunc(func() { close(goOn) })
	defer closeIt()
	idle = time.Since(before)
	time.Sleep(watch)   // the server does not close
	h.get("/meanwhile") // is told, and paid for
	time.Sleep(watch / 2)
	before = time.Now()
	closeIt()
	require.NoError(t, conn.SetReadDeadline(before.Add(patience)))
	response, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(response), "all of it")
	h.get("/again")
	idle += time.Since(before)

	h.exchangeFor("/until-close")
	return idle, h.exchangesFor("/called", 3)[2].Cause
}

func setIdleWatch(t *testing.T, watch time.Duration) {
	before := idleWatch
	idleWatch = watch
	t.Cleanup(func() { idleWatch = before })
}
