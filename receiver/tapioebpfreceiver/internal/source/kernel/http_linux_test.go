// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// withHTTP has a limit that nobody reaches: with one, the programs are larger and take more stack, which not every kernel may take.
func withHTTP(o *Options) {
	o.Families = []string{familyHTTP}
	o.RateLimits = map[string]uint64{familyHTTP: 1_000_000}
	o.MaxInFlight = 1024
	o.ResponseHeads = true
	o.Causes = true
}

func TestEveryHookOfHTTPIsAttached(t *testing.T) {
	w := newWorld(t, withHTTP)
	for _, c := range w.source.Capabilities() {
		assert.Equal(t, source.Attached, c.State, "%s: %s", c.Hook, c.Reason)
		assert.Contains(t, []string{familyHTTP, familyCgroup}, c.Family)
	}
}

// exchange is a record, as far as it is the same each time.
type exchange struct {
	Role                      string
	Request, Response         string // heads
	Status                    int
	RequestBody, ResponseBody int
	Flags                     bpf.WireHttpFlags
	Error                     int32
}

const complete = bpf.WireHttpFlagsHTTP_REQUEST_COMPLETE | bpf.WireHttpFlagsHTTP_RESPONSE_COMPLETE

func decodeExchange(t testing.TB, record []byte) (bpf.WireHttpExchange, exchange) {
	t.Helper()
	var wire bpf.WireHttpExchange
	size := int(unsafe.Sizeof(wire))
	_, err := binary.Decode(record, binary.LittleEndian, &wire)
	require.NoError(t, err)
	heads := record[size:]
	require.LessOrEqual(t, int(wire.RequestHeadSize)+int(wire.ResponseHeadSize), len(heads))
	role := "server"
	if wire.Ends.Role == uint8(bpf.WireConnectionRoleROLE_CLIENT) {
		role = "client"
	}
	return wire, exchange{
		Role: role, Request: string(heads[:wire.RequestHeadSize]), Response: string(heads[wire.RequestHeadSize:][:wire.ResponseHeadSize]),
		Status: int(wire.Status), RequestBody: int(wire.RequestBodySize), ResponseBody: int(wire.ResponseBodySize),
		Flags: bpf.WireHttpFlags(wire.Flags), Error: wire.Error,
	}
}

// both is what each end of an exchange that went well says.
func both(exchanges ...exchange) []exchange {
	var all []exchange
	for _, e := range exchanges {
		if e.Flags == 0 {
			e.Flags = complete
		}
		for _, role := range []string{"client", "server"} {
			e.Role = role
			all = append(all, e)
		}
	}
	return all
}

// play returns the pid of the process that was both ends, when it is over.
func (w *world) play(s script) uint32 {
	w.t.Helper()
	if s.Address == "" {
		s.Address = "127.0.0.1:0"
	}
	steps, err := json.Marshal(s)
	require.NoError(w.t, err)
	command := w.workload("script", string(steps))
	require.NoError(w.t, command.Run())
	return uint32(command.Process.Pid)
}

// exchangesOf a process, when the world is finished.
func (w *world) exchangesOf(pid uint32) (wires []bpf.WireHttpExchange, found []exchange) {
	w.t.Helper()
	for _, record := range w.ofType(event.Type(bpf.WireEventTypeHTTP_EXCHANGE)) {
		wire, e := decodeExchange(w.t, record)
		if wire.Header.Pid != pid {
			continue
		}
		assert.NotZero(w.t, wire.Header.CgroupId)
		assert.LessOrEqual(w.t, wire.RequestStart, wire.RequestEnd)
		if e.Status != 0 {
			assert.LessOrEqual(w.t, wire.RequestStart, wire.ResponseStart)
			assert.LessOrEqual(w.t, wire.ResponseStart, wire.ResponseEnd)
			assert.LessOrEqual(w.t, wire.ResponseEnd, wire.Header.Time)
		}
		wires, found = append(wires, wire), append(found, e)
	}
	return wires, found
}

func (w *world) httpCounters() source.Counters {
	w.t.Helper()
	return w.counters()[uint8(bpf.WireEventFamilyFAMILY_HTTP)]
}

// httpCase is a script and what is recorded of it.
type httpCase struct {
	name  string
	steps []step
	want  []exchange
}

// playAll plays them in one world, since loading takes long in an emulated machine.
func playAll(t *testing.T, cases []httpCase) {
	w := newWorld(t, withHTTP)
	pids := make([]uint32, len(cases))
	for i, c := range cases {
		pids[i] = w.play(script{Steps: c.steps})
	}
	w.finish()
	total := 0
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, found := w.exchangesOf(pids[i])
			assert.ElementsMatch(t, c.want, found)
		})
		total += len(c.want)
	}
	assert.Equal(t, source.Counters{Seen: uint64(total)}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

const (
	get    = "GET /a?b=c HTTP/1.1\r\nHost: example.test\r\n\r\n"
	ok     = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n"
	noBody = "HTTP/1.1 204 No Content\r\n\r\n"

	untilClose = "HTTP/1.0 200 OK\r\n\r\n"
)

func TestHTTPExchanges(t *testing.T) { playAll(t, httpCases()) }

func httpCases() []httpCase {
	chunks := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	post := "POST /p HTTP/1.1\r\ncontent-length:  7\r\n\r\n"
	head := "HEAD /h HTTP/1.1\r\n\r\n"
	long := "GET /" + strings.Repeat("l", 5000) + " HTTP/1.1\r\nCookie: " + strings.Repeat("c", 3000) + "\r\n\r\n"
	farCodings := "PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nX: " + strings.Repeat("x", 300) + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	shortLines := "POST /s HTTP/1.1\r\n" + strings.Repeat("a:\n", 150) + "content-length: 7\r\n" + strings.Repeat("b:\r\n", 100) + "\r\n"
	plain := exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5}
	empty := exchange{Request: get, Response: noBody, Status: 204}
	return []httpCase{
		{"one", []step{client(get), server(ok + "hello")}, both(plain)},
		{"keep-alive", []step{client(get), server(ok + "hello"), client(get), server(noBody), client(get), server(ok + "hello")},
			both(plain, empty, plain)},
		{"byte by byte", []step{{By: "client", Send: get, Split: 1}, {By: "server", Send: ok + "hello", Split: 1}}, both(plain)},
		{"head and body apart", []step{client(post), client("1234567"), server(ok), server("he"), server("llo")},
			both(exchange{Request: post, Response: ok, Status: 200, RequestBody: 7, ResponseBody: 5})},
		{"expect 100", []step{client(post), server("HTTP/1.1 100 Continue\r\n\r\n"), client("1234567"), server(ok + "hello")},
			both(exchange{Request: post, Response: ok, Status: 200, RequestBody: 7, ResponseBody: 5})},
		{"several interim responses", []step{client(get), server("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), server(ok + "hello")}, both(plain)},
		{"head", []step{client(head), server(ok), client(get), server(ok + "hello")},
			both(exchange{Request: head, Response: ok, Status: 200}, plain)},
		{"not modified", []step{client(get), server("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), client(get), server(ok + "hello")},
			both(exchange{Request: get, Response: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Status: 304}, plain)},
		{"chunked", []step{client(get), server(chunks + "5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n"), client(get), server(noBody)},
			both(exchange{Request: get, Response: chunks, Status: 200, ResponseBody: 15}, empty)},
		{"chunked byte by byte with trailer", []step{client(get), {By: "server", Send: chunks + "005\r\nhello\r\na\r\n0123456789\r\n0\r\nContent-Length: 3\r\nT: u\r\n\r\n", Split: 1}, client(get), server(noBody)},
			both(exchange{Request: get, Response: chunks, Status: 200, ResponseBody: 15}, empty)},
		{"chunked request", []step{client("PUT / HTTP/1.1\r\nTRANSFER-ENCODING: gzip, Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), server(noBody)},
			both(exchange{Request: "PUT / HTTP/1.1\r\nTRANSFER-ENCODING: gzip, Chunked\r\n\r\n", Response: noBody, Status: 204, RequestBody: 3})},
		{"until close", []step{client(get), server(untilClose), {By: "server", Bytes: 100000, Do: "close"}},
			both(exchange{Request: get, Response: untilClose, Status: 200, ResponseBody: 100000})},
		{"large bodies", []step{client("POST / HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n"), {By: "client", Bytes: 5000000}, server("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n"), {By: "server", Bytes: 20000000}},
			both(exchange{Request: "POST / HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n", Response: "HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n", Status: 200, RequestBody: 5000000, ResponseBody: 20000000})},
		{"pipelined", []step{client(get + post + "1234567" + get), server(ok + "hello" + noBody), server(noBody)},
			both(plain, exchange{Request: post, Response: noBody, Status: 204, RequestBody: 7}, empty)},
		{"early response", []step{client(post), client("123"), server(ok + "hello"), client("4567"), client(get), server(noBody)},
			both(exchange{Request: post, Response: ok, Status: 200, RequestBody: 7, ResponseBody: 5}, empty)},
		{"HEAD that is answered before its head ends", []step{client("HEAD /h HTTP/1.1\r\nCookie: "), server(ok), client("c\r\n\r\n"), client(get), server(noBody)},
			both(exchange{Request: "HEAD /h HTTP/1.1\r\nCookie: ", Response: ok, Status: 200, Flags: complete | bpf.WireHttpFlagsHTTP_REQUEST_HEAD_CUT}, empty)},
		{"a body that is longer than it should be", []step{client(post + "1234567 and\r\nmore\r\n"), server(ok + "hello" + "HTTP/1.1 400 Bad Request\r\n\r\n"), client(get), server(noBody)},
			both(exchange{Request: post, Response: ok, Status: 200, RequestBody: 7, ResponseBody: 5}, empty)},
		{"connect with the first bytes of what follows", []step{client("CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03\x01\x00\x02\n\x00"), server("HTTP/1.1 200 Established\r\n\r\n"), client(get)},
			both(exchange{Request: "CONNECT a:443 HTTP/1.1\r\n\r\n", Response: "HTTP/1.1 200 Established\r\n\r\n", Status: 200, Flags: complete | bpf.WireHttpFlagsHTTP_TUNNEL})},
		{"upgrade", []step{client("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), server("HTTP/1.1 101 Switching Protocols\r\n\r\n"), client(get), server("\x81\x05hello")},
			both(exchange{Request: "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", Response: "HTTP/1.1 101 Switching Protocols\r\n\r\n", Status: 101, Flags: complete | bpf.WireHttpFlagsHTTP_TUNNEL})},
		{"connect", []step{client("CONNECT a:443 HTTP/1.1\r\n\r\n"), server("HTTP/1.1 200 Established\r\n\r\n"), client(get), server(ok + "hello")},
			both(exchange{Request: "CONNECT a:443 HTTP/1.1\r\n\r\n", Response: "HTTP/1.1 200 Established\r\n\r\n", Status: 200, Flags: complete | bpf.WireHttpFlagsHTTP_TUNNEL})},
		{"connect refused by a proxy", []step{client("CONNECT a:443 HTTP/1.1\r\n\r\n"), server(ok + "hello"), client(get), server(noBody)},
			both(exchange{Request: "CONNECT a:443 HTTP/1.1\r\n\r\n", Response: ok, Status: 200, Flags: complete | bpf.WireHttpFlagsHTTP_TUNNEL})},
		{"any method", []step{client("x-Y!z /a HTTP/1.1\r\n\r\n"), server(noBody)},
			both(exchange{Request: "x-Y!z /a HTTP/1.1\r\n\r\n", Response: noBody, Status: 204})},
		{"empty line before a request", []step{client("\r\n" + get), server(noBody)},
			both(exchange{Request: get, Response: noBody, Status: 204})},
		{"an empty line before HEAD", []step{client("\r\n" + head), server(ok), client("\r\n\n"), client(get), server(noBody)},
			both(exchange{Request: head, Response: ok, Status: 200}, empty)},
		{"a coding with blanks behind it", []step{client(get), server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \t\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), client(get), server(noBody)},
			both(exchange{Request: get, Response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \t\r\n\r\n", Status: 200, ResponseBody: 3}, empty)},
		{"the last of several codings", []step{client(get), server("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\nTransfer-Encodings: x\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), client(get), server(noBody)},
			both(exchange{Request: get, Response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\nTransfer-Encodings: x\r\n\r\n", Status: 200, ResponseBody: 3}, empty)},
		{"the last of codings far from each other", []step{client(farCodings + "3\r\nabc\r\n0\r\n\r\n"), server(noBody), client(get), server(noBody)},
			both(exchange{Request: farCodings, Response: noBody, Status: 204, RequestBody: 3}, empty)},
		{"a request with many short lines", []step{client(shortLines + "1234567"), server(noBody), client(get), server(noBody)},
			both(exchange{Request: shortLines, Response: noBody, Status: 204, RequestBody: 7}, empty)},
		{"line ends behind a body", []step{client(post + "1234567\r\n" + post + "1234567\r\n" + get), server(noBody + noBody + noBody), client("\r\n"), client(get), server(noBody)},
			both(exchange{Request: post, Response: noBody, Status: 204, RequestBody: 7}, exchange{Request: post, Response: noBody, Status: 204, RequestBody: 7}, empty, empty)},
		{"another coding that ends like it", []step{client("PUT / HTTP/1.1\r\nTransfer-Encoding: notchunked\r\n\r\n"), server(noBody)},
			both(exchange{Request: "PUT / HTTP/1.1\r\nTransfer-Encoding: notchunked\r\n\r\n", Response: noBody, Status: 204})},
		{"many small chunks", []step{client(get), server(chunks + strings.Repeat("20\r\n"+strings.Repeat("c", 32)+"\r\n", 3000) + "0\r\n\r\n"), client(get), server(noBody)},
			both(exchange{Request: get, Response: chunks, Status: 200, ResponseBody: 96000}, empty)},
		{"bare line feeds", []step{client("GET / HTTP/1.1\nHost: a\n\n"), server("HTTP/1.1 200\nContent-Length: 2\n\nok")},
			both(exchange{Request: "GET / HTTP/1.1\nHost: a\n\n", Response: "HTTP/1.1 200\nContent-Length: 2\n\n", Status: 200, ResponseBody: 2})},
		{"long head", []step{client(long), server(noBody), client(get), server(noBody)},
			both(exchange{Request: long[:1536], Response: noBody, Status: 204, Flags: complete | bpf.WireHttpFlagsHTTP_REQUEST_HEAD_CUT}, empty)},
		{"an endless status line", []step{client(get), {By: "server", Send: "HTTP/1.1 200 ", Bytes: 70000}, client(get), server(noBody)},
			both(exchange{Request: get, Response: ("HTTP/1.1 200 " + strings.Repeat("x", 512))[:512], Status: 200,
				Flags: bpf.WireHttpFlagsHTTP_REQUEST_COMPLETE | bpf.WireHttpFlagsHTTP_INVALID_RESPONSE | bpf.WireHttpFlagsHTTP_RESPONSE_HEAD_CUT})},
		{"not HTTP", []step{client("\x16\x03\x01\x02\x00\x01\x00"), server("x"), client(get), server(ok + "hello")}, nil},
		{"nearly HTTP", []step{client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), server("x"), client(get)}, nil},
		{"a line like a request's", []step{client("GET key\r\n"), server("+OK\r\n"), client(get), server(ok + "hello")}, nil},
		{"the server speaks first", []step{server("220 ready\r\n"), client(get), server(ok + "hello")}, nil},
		{"nothing", nil, nil},
	}
}

// Every slot that was used is back.
func assertSlotsAreFree(t testing.TB, w *world) {
	t.Helper()
	assertAllFree(t, w, "http_free")
	assertAllFree(t, w, "http_own")
}

func assertAllFree(t testing.TB, w *world, name string) {
	t.Helper()
	free := w.source.mapNamed(name)
	seen := map[uint32]bool{}
	var numbers []uint32
	for {
		var number uint32
		if free.LookupAndDelete(nil, &number) != nil {
			break
		}
		assert.False(t, seen[number], "slot %d is free twice", number)
		seen[number] = true
		numbers = append(numbers, number)
	}
	assert.Len(t, seen, int(free.MaxEntries()))
	for _, number := range slices.Backward(numbers) { // they are for the next world
		require.NoError(t, free.Put(nil, number))
	}
}

func (s *Source) mapNamed(name string) *ebpf.Map {
	for _, o := range s.loader.opened {
		m, ok := o.(*ebpf.Map)
		if !ok {
			continue
		}
		if info, err := m.Info(); err == nil && info.Name == name {
			return m
		}
	}
	return nil
}

// Without being asked for, no causes are told.
func TestHTTPAddresses(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) { withHTTP(o); o.Causes = false })
	pids := map[string]uint32{}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"} {
		pids[address] = w.play(script{Address: address, Steps: []step{client(get), server(ok + "hello")}})
	}
	w.finish()
	for address, pid := range pids {
		wires, found := w.exchangesOf(pid)
		assert.ElementsMatch(t, both(exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5}), found, address)
		require.Len(t, wires, 2)
		a, b := wires[0], wires[1]
		assert.Equal(t, a.Ends.LocalAddress, b.Ends.PeerAddress)
		assert.Equal(t, a.Ends.LocalPort, b.Ends.PeerPort)
		assert.Equal(t, a.Ends.Netns, b.Ends.Netns)
		assert.NotZero(t, a.Ends.Netns)
		assert.Equal(t, a.RequestSequence, b.RequestSequence)
		assert.Equal(t, a.RequestAcknowledged, b.RequestAcknowledged)
		assert.Zero(t, a.Cause)
		assert.Zero(t, b.Cause)
	}
}

// The heads are cut in two at each byte.
func TestHTTPHeadsCutEverywhere(t *testing.T) {
	w := newWorld(t, withHTTP)
	var steps []step
	var want []exchange
	response := ok + "hello"
	for cut := 1; cut < len(get); cut++ {
		at := min(cut, len(response)-1)
		steps = append(steps, client(get[:cut]), client(get[cut:]), server(response[:at]), server(response[at:]))
		want = append(want, both(exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5})...)
	}
	pid := w.play(script{Steps: steps})
	w.finish()
	_, found := w.exchangesOf(pid)
	assert.ElementsMatch(t, want, found)
}

// The response's head is longer than what is kept of it: the lines behind that are read all the same,
// wherever their ends are.
func TestHTTPLinesBeyondWhatIsKept(t *testing.T) {
	w := newWorld(t, withHTTP)
	var steps []step
	var want []exchange
	for padding := 738; padding < 762; padding++ {
		response := "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", padding) + "\r\nContent-Length: 5\r\n\r\n"
		for _, split := range []int{0, 1, 516} {
			steps = append(steps, client(get), step{By: "server", Send: response + "hello", Split: split})
			want = append(want, both(exchange{Request: get, Response: response[:512], Status: 200, ResponseBody: 5,
				Flags: complete | bpf.WireHttpFlagsHTTP_RESPONSE_HEAD_CUT})...)
		}
	}
	pid := w.play(script{Steps: steps})
	w.finish()
	_, found := w.exchangesOf(pid)
	assert.ElementsMatch(t, want, found)
	assert.Equal(t, source.Counters{Seen: uint64(len(want))}, w.httpCounters())
}

// Several requests and responses of a connection, cut into pieces by chance, so that pieces end
// within and across all of their parts.
func TestHTTPCutByChance(t *testing.T) {
	w := newWorld(t, withHTTP)
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	post := "POST /p HTTP/1.1\r\nContent-Length: 7\r\n\r\n"
	var steps []step
	var want []exchange
	for seed := 1; seed <= 150; seed++ {
		piece := func(by, send string) step { return step{By: by, Send: send, Split: 1 + seed%9, Seed: seed} }
		steps = append(steps,
			piece("client", get), piece("server", chunked+"5\r\nhello\r\n00A;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n"),
			piece("client", post+"1234567"), piece("server", "HTTP/1.1 100 Continue\r\n\r\n"+ok+"hello"))
		want = append(want, both(exchange{Request: get, Response: chunked, Status: 200, ResponseBody: 15},
			exchange{Request: post, Response: ok, Status: 200, RequestBody: 7, ResponseBody: 5})...)
	}
	pid := w.play(script{Steps: steps})
	w.finish()
	_, found := w.exchangesOf(pid)
	assert.ElementsMatch(t, want, found)
	assert.Equal(t, source.Counters{Seen: uint64(len(want))}, w.httpCounters())
}

func TestHTTPTimes(t *testing.T) {
	w := newWorld(t, withHTTP)
	const pause = 50 * time.Millisecond
	began := time.Now()
	pid := w.play(script{Steps: []step{client(get[:9]), {By: "client", Send: get[9:], After: pause},
		{By: "server", Send: ok, After: 2 * pause}, {By: "server", Send: "hello", After: 3 * pause}}})
	all := time.Since(began)
	w.finish()
	wires, _ := w.exchangesOf(pid)
	require.Len(t, wires, 2)
	for _, e := range wires {
		for i, d := range []uint64{e.RequestEnd - e.RequestStart, e.ResponseStart - e.RequestEnd, e.ResponseEnd - e.ResponseStart} {
			assert.GreaterOrEqual(t, time.Duration(d), time.Duration(i+1)*pause)
		}
		assert.Less(t, time.Duration(e.ResponseEnd-e.RequestStart), all)
	}
}

func TestHTTPCutExchanges(t *testing.T) { playAll(t, cutHTTPCases()) }

// cutHTTPCases are what a client and a server say of an exchange that was cut.
func cutHTTPCases() []httpCase {
	const (
		requestOnly = bpf.WireHttpFlagsHTTP_REQUEST_COMPLETE
		responseIn  = bpf.WireHttpFlagsHTTP_RESPONSE_COMPLETE
		here        = bpf.WireHttpFlagsHTTP_CLOSED_HERE
		aborted     = bpf.WireHttpFlagsHTTP_ABORTED
		connReset   = 104
		brokenPipe  = 32
	)
	post := "POST /p HTTP/1.1\r\nContent-Length: 7\r\n\r\n"
	ending := func(by, send, do string) step { return step{By: by, Send: send, Do: do} }
	cut := func(name string, steps []step, c, s exchange) httpCase {
		c.Role, s.Role = "client", "server"
		return httpCase{name, steps, []exchange{c, s}}
	}
	return []httpCase{
		cut("the server closes without a response", []step{client(get), ending("server", "", "close")},
			exchange{Request: get, Flags: requestOnly}, exchange{Request: get, Flags: requestOnly | here}),
		cut("the server resets without a response", []step{client(get), ending("server", "", "reset")},
			exchange{Request: get, Flags: requestOnly | here, Error: connReset}, exchange{Request: get, Flags: requestOnly | aborted | here}),
		cut("the server resets in the body", []step{client(get), ending("server", ok+"hel", "reset")},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 3, Flags: requestOnly | here, Error: connReset},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 3, Flags: requestOnly | aborted | here}),
		cut("the server closes in the body", []step{client(get), ending("server", ok+"hel", "close")},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 3, Flags: requestOnly},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 3, Flags: requestOnly | here}),
		cut("the server closes in the head", []step{client(get), ending("server", ok[:20], "close")},
			exchange{Request: get, Response: ok[:20], Status: 200, Flags: requestOnly},
			exchange{Request: get, Response: ok[:20], Status: 200, Flags: requestOnly | here}),
		cut("the client gives up", []step{ending("client", get, "close"), ending("server", "", "close")},
			exchange{Request: get, Flags: requestOnly | here}, exchange{Request: get, Flags: requestOnly}),
		cut("the client resets in the request", []step{ending("client", post+"123", "reset")},
			exchange{Request: post, RequestBody: 3, Flags: aborted | here}, exchange{Request: post, RequestBody: 3, Flags: here, Error: connReset}),
		cut("the client sends no more, but waits", []step{ending("client", get, "shutdown"), server(ok + "hello")},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5, Flags: complete},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5, Flags: complete}),
		cut("the client sends no more, and the server closes without a response", []step{ending("client", get, "shutdown"), ending("server", "", "close")},
			exchange{Request: get, Flags: requestOnly}, exchange{Request: get, Flags: requestOnly}),
		cut("the client sends no more, and resets in the body", []step{ending("client", get, "shutdown"), server(ok + "hel"), ending("client", "", "reset")},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 3, Flags: requestOnly | aborted | here},
			exchange{Request: get, Response: ok, Status: 200, ResponseBody: 3, Flags: requestOnly, Error: brokenPipe}),
		cut("the server closes in an interim response", []step{client(get), ending("server", "HTTP/1.1 103 Early Hints\r\nLink: x", "close")},
			exchange{Request: get, Flags: requestOnly}, exchange{Request: get, Flags: requestOnly | here}),
		cut("the response comes before the request ends, and then the end", []step{client(post + "123"), ending("server", ok+"hello", "close")},
			exchange{Request: post, Response: ok, Status: 200, RequestBody: 3, ResponseBody: 5, Flags: responseIn},
			exchange{Request: post, Response: ok, Status: 200, RequestBody: 3, ResponseBody: 5, Flags: responseIn | here}),
		{"the client closes in the request's first line", []step{ending("client", get[:9], "close")}, nil},
		cut("what comes is no response", []step{client(get), server("+OK what?\r\n"), client(get)},
			exchange{Request: get, Response: "", Flags: requestOnly | bpf.WireHttpFlagsHTTP_INVALID_RESPONSE},
			exchange{Request: get, Response: "", Flags: requestOnly | bpf.WireHttpFlagsHTTP_INVALID_RESPONSE}),
	}
}

// The older world's connection is met by the newer one in its middle.
func TestHTTPOnOlderConnections(t *testing.T) {
	requireExchangesOnOlderConnections(t, newWorld(t, withHTTP))
}

// So it is where the kernel has left out the run that would have told of the connection's beginning.
func TestHTTPOnConnectionsThatWereNotMet(t *testing.T) {
	w := newWorld(t, withHTTP) // others use its source
	uses := objects[objectOf(familyNetwork)].usedBy
	finders := uses["find_sockets"]
	uses["find_sockets"] = nil
	defer func() { uses["find_sockets"] = finders }()
	requireExchangesOnOlderConnections(t, w)
}

func requireExchangesOnOlderConnections(t *testing.T, w *world) {
	t.Helper()
	k := startTalker(t, w.workload("converse-http"))
	k.hear()
	other := w.another()
	for range 3 {
		k.converse(client(get), server(ok+"hello"))
	}
	k.end()
	other.finish()
	_, found := other.exchangesOf(k.pid())
	e := exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5}
	assert.ElementsMatch(t, both(e, e, e), found)
}

// converse has a talker of converse-http do steps.
func (k *talker) converse(steps ...step) {
	k.t.Helper()
	text, err := json.Marshal(steps)
	require.NoError(k.t, err)
	require.Equal(k.t, "done", k.say(string(text)))
}

// TestHTTPPipelinedWithoutRoom: where the second of two requests finds no slot, it is known that there was one.
func TestHTTPPipelinedWithoutRoom(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) { withHTTP(o); o.MaxInFlight = 3 }) // two for the client, and one for the server
	pid := w.play(script{Steps: []step{
		client(numberedRequests(1, 2)), server(numberedResponses(1, 1)), client(numberedRequests(3, 3)), server(numberedResponses(2, 3)),
	}})
	w.finish()
	_, found := w.exchangesOf(pid)
	assert.Equal(t, 3, requireNumbered(t, found))
	for _, e := range found {
		assert.Equal(t, "client", e.Role)
	}
	assert.Equal(t, source.Counters{Seen: 3 + 2, Unreadable: 1, TableFull: 1}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

// numbered requests and responses tell by themselves which belong together.
func numberedRequests(from, to int) (text string) {
	for i := from; i <= to; i++ {
		text += fmt.Sprintf("GET /%d HTTP/1.1\r\n\r\n", i)
	}
	return text
}

func numberedResponses(from, to int) (text string) {
	for i := from; i <= to; i++ {
		text += fmt.Sprintf("HTTP/1.1 %d Number\r\nContent-Length: 0\r\n\r\n", 200+i)
	}
	return text
}

// requireNumbered wants each response to be told with its request, and says how many are.
func requireNumbered(t *testing.T, found []exchange) int {
	t.Helper()
	for _, e := range found {
		require.True(t, strings.HasPrefix(e.Request, fmt.Sprintf("GET /%d ", e.Status-200)), "%d for %q", e.Status, e.Request)
	}
	return len(found)
}

// TestHTTPBeyondWhatIsPipelined: of what a client pipelines beyond what is followed, it would not be known which response is whose.
func TestHTTPBeyondWhatIsPipelined(t *testing.T) {
	const followed = 32
	w := newWorld(t, withHTTP)
	steps := []step{client(get), server(noBody), client(numberedRequests(1, followed)), server(numberedResponses(1, followed))}
	within := w.play(script{Steps: append(steps, client(numberedRequests(1, 1)), server(numberedResponses(1, 1)))})
	beyond := w.play(script{Steps: []step{
		client(numberedRequests(1, followed+8)), server(numberedResponses(1, 20)),
		client(numberedRequests(41, 41)), server(numberedResponses(21, 41)),
		client(numberedRequests(42, 42)), server(numberedResponses(42, 42)),
	}})
	w.finish()
	_, found := w.exchangesOf(within)
	found = slices.DeleteFunc(found, func(e exchange) bool { return e.Request == get })
	assert.Equal(t, 2*(followed+1), requireNumbered(t, found))
	_, found = w.exchangesOf(beyond)
	assert.Zero(t, requireNumbered(t, found))
	assert.Equal(t, source.Counters{Seen: 2 * (1 + followed + 1 + followed + 1), TableFull: 2, Unreadable: 2 * followed}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

// TestHTTPPipelinedOnOlderConnections: requests that came before are waiting, for all that is known.
func TestHTTPPipelinedOnOlderConnections(t *testing.T) {
	w := newWorld(t, withHTTP)
	k := startTalker(t, w.workload("converse-http"))
	k.hear()
	k.converse(client(numberedRequests(1, 3)), server(numberedResponses(1, 1)))
	other := w.another()
	k.converse(client(numberedRequests(4, 5)), server(numberedResponses(2, 3)))
	k.converse(client(numberedRequests(6, 6)), server(numberedResponses(4, 6)))
	k.end()
	other.finish()
	_, found := other.exchangesOf(k.pid())
	assert.Zero(t, requireNumbered(t, found))
	assert.Equal(t, source.Counters{Seen: 4, Unreadable: 4}, other.httpCounters())
	assertSlotsAreFree(t, other)
}

func TestHTTPTooManyInFlight(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) { withHTTP(o); o.MaxInFlight = 4 })
	w.play(script{Steps: []step{client(strings.Repeat(get, 10)), server(strings.Repeat(noBody, 10)), client(get), server(noBody)}})
	w.finish()
	row := w.httpCounters()
	assert.NotZero(t, row.TableFull)
	assert.Equal(t, row.Seen, row.TableFull+row.Unreadable+uint64(len(w.ofType(event.Type(bpf.WireEventTypeHTTP_EXCHANGE)))))
	assertSlotsAreFree(t, w)
}

// slotsInUse are those for exchanges, from a number on.
func (w *world) slotsInUse(slots *ebpf.Map, first uint32) map[uint32][]byte {
	w.t.Helper()
	used := map[uint32][]byte{}
	for number := first; number < slots.MaxEntries(); number++ {
		slot, err := slots.LookupBytes(number)
		require.NoError(w.t, err)
		if binary.NativeEndian.Uint64(slot) != 0 { // its socket
			used[number] = slot
		}
	}
	return used
}

// many exchanges, one after the other.
func many(count int) (steps []step) {
	for range count {
		steps = append(steps, client(get), server(noBody))
	}
	return steps
}

func TestHTTPOwnSlots(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) { withHTTP(o); o.MaxInFlight, o.ReportInterval = 64, 3*time.Second })
	slots, own := w.source.mapNamed("http_slots"), w.source.mapNamed("http_own")
	go w.read()
	w.play(script{Steps: many(16)})
	assert.Empty(t, w.slotsInUse(slots, w.source.options.MaxInFlight), "of a connection with few exchanges")

	steps, err := json.Marshal(script{Address: "127.0.0.1:0", Steps: append(many(40), step{By: "client", Send: get, After: time.Hour})})
	require.NoError(t, err)
	connection := startTalker(t, w.workload("script", string(steps)))
	var parked map[uint32][]byte // as they were last
	require.Eventually(t, func() bool {
		inUse := w.slotsInUse(slots, w.source.options.MaxInFlight)
		if len(inUse) == 2 {
			parked = inUse
		}
		return parked != nil && len(inUse) == 0
	}, time.Minute, 20*time.Millisecond, "each end of a connection with many exchanges has one, until it is idle")
	require.NoError(t, connection.command.Process.Kill())
	connection.command.Wait()

	// As where a close was not seen.
	for range parked {
		var number uint32
		require.NoError(t, own.LookupAndDelete(nil, &number))
		require.Contains(t, parked, number)
		require.NoError(t, slots.Put(number, parked[number]))
	}
	require.Eventually(t, func() bool { return len(w.slotsInUse(slots, w.source.options.MaxInFlight)) == 0 }, time.Minute, 20*time.Millisecond, "a connection that is no more leaves it")

	pipelined := append(many(40), client(strings.Repeat(get, 20)), server(strings.Repeat(noBody, 20)))
	w.play(script{Steps: append(pipelined, many(40)...), Times: 5})
	w.play(script{Address: "[::1]:0", Steps: append(many(20), client(get), step{By: "server", Send: noBody[:9], Do: "reset"})})
	w.finish()
	assert.Equal(t, source.Counters{Seen: 2 * (16 + 40 + 5*100 + 21)}, w.httpCounters())
	assert.Len(t, w.ofType(event.TypeHTTPExchange), 2*(16+40+5*100+21))
	assertSlotsAreFree(t, w)
}

// TestBehind: whoever reads is told to do less while three quarters of the ring and more are full, and not at the end,
// when nothing more is to come.
func TestBehind(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) { withHTTP(o); o.RingSize = 64 << 10 })
	close(w.done) // it is read here
	w.play(script{Steps: many(150)})
	require.Positive(t, w.httpCounters().RingFull)
	count := map[bool]int{}
	take := func(record []byte) {
		if header, err := event.DecodeHeader(record); assert.NoError(t, err) && event.Type(header.Type) == event.TypeHTTPExchange {
			count[w.source.Behind()]++
		}
	}
	require.NoError(t, w.source.Read(take))
	assert.Positive(t, count[true])
	assert.InEpsilon(t, 3*count[true], count[false], 0.1, "%v", count)

	w.play(script{Steps: many(150)})
	clear(count)
	require.NoError(t, w.source.Stop(take))
	require.NoError(t, w.source.Read(take))
	assert.Zero(t, count[true])
	assert.Positive(t, count[false])
}

func TestHTTPFewOwnSlots(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) { withHTTP(o); o.MaxInFlight = 8 })
	require.EqualValues(t, 1, w.source.mapNamed("http_own").MaxEntries())
	go w.read()
	pid := w.play(script{Steps: many(50), Times: 3})
	w.finish()
	_, found := w.exchangesOf(pid)
	assert.Len(t, found, 2*150)
	assert.Equal(t, source.Counters{Seen: 2 * 150}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

func TestHTTPOnDeferredAccept(t *testing.T) {
	w := newWorld(t, withHTTP)
	steps := []step{client(get), server(ok + "hello"), client(get), server(noBody)}
	first := w.play(script{Defer: true, Times: 20, Steps: steps})
	notHTTP := w.play(script{Defer: true, Steps: []step{client("\x16\x03"), server("x"), client(get)}})
	halfHead := w.play(script{Defer: true, Steps: []step{client(get[:9]), client(get[9:]), server(noBody)}})
	w.finish()
	var want []exchange
	for range 20 {
		want = append(want, both(exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5}, exchange{Request: get, Response: noBody, Status: 204})...)
	}
	_, found := w.exchangesOf(first)
	assert.ElementsMatch(t, want, found)
	_, found = w.exchangesOf(notHTTP)
	assert.Empty(t, found)
	_, found = w.exchangesOf(halfHead)
	assert.ElementsMatch(t, both(exchange{Request: get, Response: noBody, Status: 204}), found)
	assert.Equal(t, source.Counters{Seen: 82}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

// playOver a way has the exchanges of scripts whose packets the test carries.
func (w *world) playOver(way string, scripts ...script) ([]bpf.WireHttpExchange, []exchange) {
	w.t.Helper()
	if !canMakeDevices(w.t) {
		w.t.Skip("packets cannot be carried by a test here: there is no /dev/net/tun")
	}
	text, err := json.Marshal(scripts)
	require.NoError(w.t, err)
	command := w.workload("scripts", way)
	command.Stdin = bytes.NewReader(text)
	require.NoError(w.t, command.Run())
	w.finish()
	return w.exchangesOf(uint32(command.Process.Pid))
}

// assertTold is for a script of which all that is told is wanted.
func assertTold(t *testing.T, way string, steps []step, want []exchange) {
	t.Helper()
	w := newWorld(t, withHTTP)
	_, found := w.playOver(way, script{Steps: steps})
	assert.ElementsMatch(t, want, found)
	assert.Equal(t, source.Counters{Seen: uint64(len(want))}, w.httpCounters())
	assertSlotsAreFree(t, w)
}

// TestHTTPWhereTheFirstSegmentComesLater: what ends the handshake is then not what the connection begins with.
func TestHTTPWhereTheFirstSegmentComesLater(t *testing.T) {
	w := newWorld(t, withHTTP)
	post := "POST /p HTTP/1.1\r\nContent-Length: 3000\r\n\r\n"
	posts := strings.Repeat(post+strings.Repeat("b", 3000), 2)
	wires, found := w.playOver(overALosingWay,
		script{Early: true, Steps: []step{{By: "client", Send: strings.Repeat(get, 6), Split: 3 * len(get)}, server(strings.Repeat(ok+"hello", 6))}},
		script{Early: true, Steps: []step{{By: "client", Send: get, Split: 9}, server(noBody), client(get), server(noBody)}}, // in its first line
		script{Early: true, Steps: []step{client(posts), server(noBody + noBody)}},
	)
	assert.Equal(t, source.Counters{Seen: 20}, w.httpCounters())
	answered := exchange{Request: get, Response: ok, Status: 200, ResponseBody: 5}
	empty := exchange{Request: get, Response: noBody, Status: 204}
	posted := exchange{Request: post, Response: noBody, Status: 204, RequestBody: 3000}
	assert.ElementsMatch(t, both(answered, answered, answered, answered, answered, answered, empty, empty, posted, posted), found)
	places := map[string][][2]uint32{}
	for i, wire := range wires {
		role := found[i].Role
		places[role] = append(places[role], [2]uint32{wire.RequestSequence, wire.RequestAcknowledged})
	}
	assert.ElementsMatch(t, places["client"], places["server"], "where requests and their responses begin")
	assertSlotsAreFree(t, w)
}

// unasked is what a server says that is tired of waiting for a request. What is whose response is not known then.
const unasked = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"

// TestHTTPSentAgain: a request that comes again while the next one is looked for is not another one.
func TestHTTPSentAgain(t *testing.T) {
	answered := exchange{Request: get, Response: noBody, Status: 204}
	assertTold(t, overAnEchoingWay, []step{client(get), server(noBody + unasked), client(get), server(noBody)}, both(answered, answered))
}

// TestHTTPWhileSomethingIsOnItsWay: the client takes for the response what was sent before its request.
func TestHTTPWhileSomethingIsOnItsWay(t *testing.T) {
	steps := []step{client(get), server(noBody), {By: "server", Send: unasked, Unread: true}, client(get), server(noBody)}
	answered := exchange{Request: get, Response: noBody, Status: 204}
	timedOut := exchange{Role: "client", Request: get, Response: unasked, Status: 408, Flags: complete}
	assertTold(t, overACrossingWay, steps, append(both(answered), timedOut))
}

// TestHTTPSegmentsThatAreNotTakenOut: of a body it is enough that its segments are counted. Those that were put aside, as the head
// had not come, leave their places to others.
func TestHTTPSegmentsThatAreNotTakenOut(t *testing.T) {
	const size, bodies = 50, 15 // more than there are places, with five of each that are put aside
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", (inGroup-1)*size)
	head = strings.Replace(head, "OK", "OK"+strings.Repeat("k", size-len(head)), 1)
	long := "HTTP/1.1 204 No\r\nA: \r\n\r\n"
	long = strings.Replace(long, "A: ", "A: "+strings.Repeat("a", inGroup*size-len(long)), 1)
	var steps []step
	var want []exchange
	for range bodies {
		steps = append(steps, client(get), step{By: "server", Send: head, Bytes: (inGroup - 1) * size, Split: size})
		want = append(want, exchange{Request: get, Response: head, Status: 200, ResponseBody: (inGroup - 1) * size})
	}
	steps = append(steps, client(get), step{By: "server", Send: long, Split: size})
	want = append(want, exchange{Request: get, Response: long, Status: 204})
	assertTold(t, overAGroupingWay, steps, both(want...))
}

// TestHTTPSegmentsThatAreSentAgainAsOne: what was put aside comes once more, with what is behind it, which does not come by itself.
func TestHTTPSegmentsThatAreSentAgainAsOne(t *testing.T) {
	response := "HTTP/1.1 204 No\r\nA:b\r\n\r\n"
	inFour := step{By: "server", Send: response, Split: len(response) / 4}
	answered := exchange{Request: get, Response: response, Status: 204}
	assertTold(t, overAMergingWay, []step{client(get), inFour, client(get), inFour}, both(answered, answered))
}

// TestHTTPForgedSegments: what TCP would not take does not hide what comes then.
func TestHTTPForgedSegments(t *testing.T) {
	steps := []step{client(get), server(noBody + unasked), client(get), server(noBody), client(get), server(noBody)}
	answered := exchange{Request: get, Response: noBody, Status: 204}
	assertTold(t, overAForgingWay, steps, both(answered, answered, answered))
}
