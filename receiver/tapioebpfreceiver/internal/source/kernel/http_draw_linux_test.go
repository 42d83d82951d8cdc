// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

const (
	keptOfRequest   = 1536 // bytes of a head
	keptOfResponse  = 512
	pipelinedAtMost = 32
	chunksAtMost    = 800  // of a conversation: many small ones in one packet are beyond what is read of it
	sentUnread      = 4096 // bytes that TCP takes although nobody reads them
	connectionReset = 104
)

// conversation is a connection's script, and what is told of it.
type conversation struct {
	seed   uint64
	script script
	pairs  []*pair
	want   []exchange
	told   []start // of the pairs of which something is told
}

// pair is a request and its response.
type pair struct {
	request, response message
	method            string
	status            int
	tunnel            bool // another protocol follows
	invalid           bool // what comes instead of a response
}

// message is what one side sends of a pair.
type message struct {
	at         int      // where it begins in the side's stream
	lead       string   // line ends before it, which are let pass
	interims   []string // heads of responses before the last one
	head       string
	framed     string // the body with its framing
	spans      []span // of the body, in framed
	untilClose bool
}

// span is a piece of framed that is payload.
type span struct{ from, to int }

func (m *message) text() string   { return m.lead + m.before() + m.head + m.framed }
func (m *message) before() string { return strings.Join(m.interims, "") }
func (m *message) begin() int     { return m.at + len(m.lead) }
func (m *message) headAt() int    { return m.begin() + len(m.before()) }
func (m *message) lineEnd() int   { return m.headAt() + strings.Index(m.head, "\n") + 1 }
func (m *message) bodyAt() int    { return m.headAt() + len(m.head) }
func (m *message) end() int       { return m.bodyAt() + len(m.framed) }

// payload that was sent when the stream has come to a place.
func (m *message) payload(sent int) int {
	bytes := 0
	for _, s := range m.spans {
		bytes += max(0, min(s.to, sent-m.bodyAt())-s.from)
	}
	return bytes
}

// start is where a pair that is told begins in both streams.
type start struct {
	request, response int
	answered          bool
}

func (c *conversation) of(role string) (exchanges []exchange) {
	for _, e := range c.want {
		if e.Role == role {
			exchanges = append(exchanges, e)
		}
	}
	return exchanges
}

// drawer draws a conversation.
type drawer struct {
	*rand.Rand
	conversation
	chunks int
	sent   map[string]int // bytes of each stream, by side
	stream map[string]string
	// frozen is where the request's stream was when the response to a pair began.
	frozen map[*pair]int
	// inOrder: nothing is reset.
	inOrder bool
	half    bool // the client sends no more, and has said so
}

// drawConversation by its number. Over a bad way nothing is reset: a reset that overtakes others undoes them.
func drawConversation(seed uint64, overABadWay bool) conversation {
	d := &drawer{Rand: rand.New(rand.NewPCG(seed, 21)), sent: map[string]int{}, stream: map[string]string{}, frozen: map[*pair]int{}}
	d.seed, d.inOrder = seed, overABadWay
	d.drawPairs()
	d.place()
	d.drawScript()
	return d.conversation
}

func (d *drawer) chance(percent int) bool { return d.IntN(100) < percent }

func oneOf[T any](d interface{ IntN(n int) int }, values ...T) T { return values[d.IntN(len(values))] }

// --- messages --------------------------------------------------------------------------------

func (d *drawer) drawPairs() {
	count := oneOf(d, 1, 1, 2, 3, 5, 8, 20)
	if d.chance(8) {
		count = 41 + d.IntN(80)
	}
	small := count > 8
	for i := range count {
		d.pairs = append(d.pairs, d.drawPair(i, i == count-1, small))
	}
}

func (d *drawer) drawPair(number int, last, small bool) *pair {
	p := &pair{method: oneOf(d, "GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "get", "x-Y!z", "HEADER", "HEA", "CONNECTED", "A")}
	if last && d.chance(10) {
		p.method = "CONNECT"
	}
	p.status = oneOf(d, 200, 200, 200, 201, 204, 205, 206, 301, 304, 400, 404, 500, 599, 999)
	if last && d.chance(8) && p.method != "CONNECT" {
		p.status = 101
	}
	if p.method == "CONNECT" && d.chance(30) {
		p.status = 407
	}
	p.tunnel = p.status == 101 || p.method == "CONNECT" && p.status/100 == 2
	p.invalid = last && d.chance(4)
	p.request = d.drawRequest(p, number, small)
	p.response = d.drawResponse(p, last, small)
	return p
}

func (d *drawer) newline() string { return oneOf(d, "\r\n", "\r\n", "\r\n", "\n") }

func (d *drawer) drawRequest(p *pair, number int, small bool) message {
	target := fmt.Sprintf("/seed-%d-/%d?a=b", d.seed, number)
	switch d.IntN(12) {
	case 0:
		target = "http://user:word@a.test:80" + target
	case 1:
		target += strings.Repeat("l", d.IntN(4000))
	case 2:
		target += " HTTP/1.1 c"
	}
	m := message{head: p.method + " " + target + " HTTP/1." + oneOf(d, "1", "1", "1", "0") + d.newline()}
	if d.chance(8) {
		m.lead = strings.Repeat(d.newline(), 1+d.IntN(3))
	}
	hasBody := d.chance(30) || d.chance(80) && (p.method == "POST" || p.method == "PUT")
	d.finish(&m, hasBody, false, false, small)
	return m
}

func (d *drawer) drawResponse(p *pair, last, small bool) message {
	var m message
	if p.invalid {
		m.head = oneOf(d, "+OK\r\n", "HTTP/2 200 OK\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\x7f and more", "HTTP/1.1 0200 OK\r\n\r\n", "HTTP/1.1\r\n\r\n", "http/1.1 200 OK\r\n\r\n")
		return m
	}
	for d.chance(10) {
		m.interims = append(m.interims, "HTTP/1.1 "+oneOf(d, "100 Continue", "102 Processing", "103 Early Hints", "199")+d.newline()+d.fields(3)+d.newline())
	}
	m.head = fmt.Sprintf("HTTP/1.%s %d%s%s", oneOf(d, "1", "1", "1", "0"), p.status, oneOf(d, " OK", "", " ", " Any "+strings.Repeat("r", d.IntN(700))), d.newline())
	without := p.method == "HEAD" || p.status == 204 || p.status == 304 || p.tunnel
	d.finish(&m, true, without, last, small)
	return m
}

// finish draws the fields and the body of a message; without: what its fields say of a body does not follow.
func (d *drawer) finish(m *message, hasBody, without, mayEndByClose, small bool) {
	m.head += d.fields(6)
	isResponse := strings.HasPrefix(m.head, "HTTP/")
	switch kind := d.IntN(10); {
	case !hasBody:
		if d.chance(10) {
			m.head += d.field("Content-Length", "0")
		}
	case without && kind < 4:
	case isResponse && mayEndByClose && kind < 3:
		m.untilClose = true
		m.head += oneOf(d, "", d.field("Connection", "close"), d.field("Transfer-Encoding", "gzip"), d.field("Transfer-Encoding", "chunked, gzip"))
		m.add(d.bytes(d.size(small)), true)
	case kind < 7:
		body := d.bytes(d.size(small))
		m.head += d.field("Content-Length", strings.Repeat("0", d.IntN(3))+fmt.Sprint(len(body)))
		m.add(body, true)
	default:
		d.chunk(m, small)
	}
	m.head += d.fields(4) + d.newline()
	if without {
		m.framed, m.spans, m.untilClose = "", nil, false
	}
}

func (m *message) add(text string, isPayload bool) {
	if isPayload && text != "" {
		m.spans = append(m.spans, span{len(m.framed), len(m.framed) + len(text)})
	}
	m.framed += text
}

func (d *drawer) chunk(m *message, small bool) {
	if d.chance(10) {
		m.head += d.field("Content-Length", "3") // Transfer-Encoding goes before it
	}
	switch d.IntN(8) {
	case 0:
		m.head += d.field("Transfer-Encoding", "gzip") + d.fields(2)
		m.head += d.field("Transfer-Encoding", "chunked")
	case 1:
		m.head += d.field("Transfer-Encoding", "gzip, chunked")
	case 2:
		m.head += d.field("Transfer-Encoding", "deflate,chunked")
	default:
		m.head += d.field("Transfer-Encoding", "chunked")
	}
	for left := d.size(small); left > 0; d.chunks++ {
		size := min(left, 1+d.IntN(oneOf(d, 3, 40, 400, 70000)))
		if d.chunks >= chunksAtMost {
			size = left
		}
		hex := fmt.Sprintf(oneOf(d, "%x", "%X", "0%x", "00000000%x"), size)
		m.add(hex+d.extension()+"\r\n", false)
		m.add(d.bytes(size), true)
		m.add("\r\n", false)
		left -= size
	}
	m.add(oneOf(d, "0", "0", "000")+d.extension()+"\r\n", false)
	if d.chance(20) {
		m.add(d.fields(5)+d.field("Content-Length", "9")+d.fields(1), false)
	}
	m.add("\r\n", false)
}

func (d *drawer) extension() string {
	if d.chance(75) {
		return ""
	}
	return oneOf(d, ";a", ";a=b", " ; a = \"f00 ; c\"", ";"+strings.Repeat("e", d.IntN(100)), " ", ";a=1;b=2")
}

func (d *drawer) size(small bool) int {
	if small {
		return oneOf(d, 0, 1, 7, d.IntN(300))
	}
	return oneOf(d, 0, 1, 2, 7, d.IntN(300), d.IntN(3000), d.IntN(20000), d.IntN(100000))
}

// bytes of a body that look like what they are not.
func (d *drawer) bytes(size int) string {
	filler := oneOf(d, "x", "\r\n", "\n", "0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "GET /none HTTP/1.1\r\n\r\n", "abc def\x00\x01")
	return strings.Repeat(filler, size/len(filler)+1)[:size]
}

func (d *drawer) fields(most int) string {
	var all strings.Builder
	for range d.IntN(most + 1) {
		name := oneOf(d, "A", "Host", "X-Content-Length", "Content-Lengths", "Content-Lengt", "Transfer-Encodings", "Content-Type", "Cookie", "Te", "Trailer")
		all.WriteString(d.field(name, oneOf(d, "", "b", "chunked", "Content-Length: 5", "7", "a, b;c=\"d\"", strings.Repeat("v", d.IntN(60)), strings.Repeat("w", d.IntN(oneOf(d, 100, 900, 3000))))))
		if d.chance(10) { // obsolete folding
			all.WriteString(oneOf(d, " ", "\t", "   ") + oneOf(d, "Content-Length: 5", "Transfer-Encoding: chunked", "more", ":") + d.newline())
		}
	}
	return all.String()
}

// field in any case, with white space around its value.
func (d *drawer) field(name, value string) string {
	name = oneOf(d, name, name, strings.ToLower(name), strings.ToUpper(name))
	blank := func() string { return oneOf(d, "", " ", " ", " ", "\t", "  \t ") }
	return name + ":" + blank() + value + oneOf(d, "", "", "", blank()) + d.newline()
}

// --- streams ---------------------------------------------------------------------------------

// place puts the messages one behind the other.
func (d *drawer) place() {
	for _, p := range d.pairs {
		p.request.at = len(d.stream["client"])
		d.stream["client"] += p.request.text()
		p.response.at = len(d.stream["server"])
		d.stream["server"] += p.response.text()
	}
	last := d.pairs[len(d.pairs)-1]
	switch {
	case last.invalid:
	case d.chance(8): // a tunnel's first bytes, or a body that is longer than it should be
		d.stream["client"] += oneOf(d, "\x16\x03\x01\x02\x00\x01", "{\"a\":1}\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", strings.Repeat("z", d.IntN(500))+"\r\n\r\n")
		d.unasked(last)
	case !last.tunnel && d.chance(10):
		d.stream["client"] += strings.Repeat(d.newline(), 1+d.IntN(3))
	case d.chance(5):
		d.unasked(last)
	}
}

// unasked is a response that no request was sent for, as when a server is tired of waiting for one.
func (d *drawer) unasked(last *pair) {
	if !last.tunnel && !last.response.untilClose && d.chance(50) {
		d.stream["server"] += "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\nlate"
	}
}

func (d *drawer) drawScript() {
	d.script.Address = oneOf(d, "127.0.0.1:0", "127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0")
	if d.chance(20) && !d.inOrder {
		d.script.MaxSegment = 88 + d.IntN(1400)
	}
	if d.chance(20) {
		d.script.ReceiveBuffer = 2304 + d.IntN(30000)
	}
	d.script.Steps = d.play(oneOf(d, polite, polite, pipelined, wild))
	for i := range d.script.Steps {
		d.script.Steps[i].Awaited = true
	}
	first := &d.script.Steps[0]
	switch beginsWithBytes := first.By == "client" && first.Send != "" && first.Do == ""; {
	case !beginsWithBytes:
	case d.inOrder:
		d.script.Early = len(first.Send) <= sentUnread && d.chance(50)
	case d.chance(10):
		d.script.Defer, first.Split = true, 0
	}
}

// A manner is how far a side goes on when it is its turn.
type manner int

const (
	polite    manner = iota // each waits for the end of what the other one says
	pipelined               // a client sends several requests, and a server answers those that it likes
	wild                    // both stop anywhere
)

// play draws who sends when, until all is sent or the connection is cut.
func (d *drawer) play(how manner) (steps []step) {
	cut := -1
	if total := len(d.stream["client"]) + len(d.stream["server"]); d.chance(25) {
		cut = d.IntN(total + 1)
	}
	for {
		by, until := d.turn(how)
		if by == "" {
			return append(steps, d.end()...)
		}
		if sent := d.sent["client"] + d.sent["server"]; cut >= 0 && sent+until-d.sent[by] >= cut {
			until = d.sent[by] + cut - sent
			return append(append(steps, d.send(by, until)), d.cut()...)
		}
		steps = append(steps, d.send(by, until))
	}
}

// turn says who sends next, and up to where in its stream; nobody: all was sent.
func (d *drawer) turn(how manner) (by string, until int) {
	client, server := d.clientMay(how), d.serverMay(how)
	switch {
	case client > d.sent["client"] && (server <= d.sent["server"] || d.chance(50) || how == polite):
		by, until = "client", client
	case server > d.sent["server"]:
		by, until = "server", server
	default:
		return "", 0
	}
	if how == wild {
		until = d.sent[by] + 1 + d.IntN(until-d.sent[by])
	}
	return by, until
}

// answered are the pairs whose response was sent.
func (d *drawer) answered() int {
	for i, p := range d.pairs {
		if d.sent["server"] < p.response.end() {
			return i
		}
	}
	return len(d.pairs)
}

func (d *drawer) clientMay(how manner) int {
	waiting := 1
	switch how {
	case pipelined:
		waiting = 1 + d.IntN(pipelinedAtMost)
	case wild:
		waiting = pipelinedAtMost
	}
	last := d.answered() + waiting
	if last >= len(d.pairs) {
		return len(d.stream["client"])
	}
	return d.pairs[last].request.at
}

// serverMay answer a request when it has its first line, and, if it is polite, all of it.
func (d *drawer) serverMay(how manner) int {
	may := 0
	for _, p := range d.pairs {
		has := p.request.end()
		if how == wild && !p.tunnel && !p.invalid { // a tunnel begins behind the request (RFC 9110, 7.8)
			has = p.request.lineEnd()
		}
		if d.sent["client"] < has {
			break
		}
		may = p.response.end()
	}
	if d.sent["client"] == len(d.stream["client"]) {
		return len(d.stream["server"])
	}
	return may
}

func (d *drawer) send(by string, until int) step {
	s := step{By: by, Send: d.stream[by][d.sent[by]:until]}
	if by == "server" {
		for _, p := range d.pairs {
			if d.sent["server"] <= p.response.begin() && until > p.response.begin() {
				d.frozen[p] = d.sent["client"]
			}
		}
	}
	d.sent[by] = until
	switch size := len(s.Send); d.IntN(8) {
	case 0:
		s.Split = 1 + size/2000
	case 1:
		s.Split, s.Seed = 2+size/500, 1+d.IntN(1000)
	case 2:
		s.Split = 1448
	case 3:
		s.Split, s.Seed = 9+size/100, 1+d.IntN(1000)
	}
	if d.inOrder && s.Split > 0 { // more pieces than that are not put aside
		s.Split, s.Seed = max(s.Split, 1+len(s.Send)/40), 0
	}
	if by == "client" && until == len(d.stream[by]) && !d.pairs[len(d.pairs)-1].tunnel && d.chance(10) {
		s.Do, d.half = "shutdown", true
	}
	if d.chance(2) {
		s.After = time.Duration(d.IntN(3)) * time.Millisecond
	}
	return s
}

// --- what is told ----------------------------------------------------------------------------

const (
	requestIn  = bpf.WireHttpFlagsHTTP_REQUEST_COMPLETE
	responseIn = bpf.WireHttpFlagsHTTP_RESPONSE_COMPLETE
	closedHere = bpf.WireHttpFlagsHTTP_CLOSED_HERE
	wasAborted = bpf.WireHttpFlagsHTTP_ABORTED
)

func (d *drawer) ending(ways ...string) string {
	if way := oneOf(d, ways...); way != "reset" || !d.inOrder {
		return way
	}
	return "close"
}

// end is for when all was sent.
func (d *drawer) end() (steps []step) {
	last := d.pairs[len(d.pairs)-1]
	ending := step{By: "server"}
	switch {
	case last.response.untilClose:
		ending.Do = oneOf(d, "close", "shutdown")
	case last.tunnel:
		return d.tunnel()
	case !d.half && d.chance(20):
		ending = step{By: oneOf(d, "client", "server"), Do: d.ending("close", "shutdown", "reset")}
	}
	for _, p := range d.pairs {
		d.tell(p, ending)
	}
	return append(steps, ending)
}

func (d *drawer) tunnel() []step {
	for _, p := range d.pairs {
		d.tell(p, step{})
	}
	return []step{
		{By: "client", Send: "GET /none HTTP/1.1\r\n\r\n" + d.bytes(d.IntN(50))},
		{By: "server", Send: "HTTP/1.1 200 OK\r\n\r\n" + d.bytes(d.IntN(50))},
		{By: oneOf(d, "client", "server"), Do: d.ending("close", "reset")},
	}
}

// cut is for when not all was sent.
func (d *drawer) cut() []step {
	ending := step{By: oneOf(d, "client", "server"), Do: d.ending("close", "reset")}
	if d.half {
		ending.By = "server"
	}
	for _, p := range d.pairs {
		d.tell(p, ending)
	}
	return []step{ending}
}

// tell what both ends say of a pair.
func (d *drawer) tell(p *pair, ending step) {
	client, server := d.sent["client"], d.sent["server"]
	if client < p.request.lineEnd() {
		return
	}
	e := exchange{RequestBody: p.request.payload(client)}
	headSent := min(client, p.request.bodyAt()) - p.request.headAt()
	kept := keptOfRequest
	if at, ok := d.frozen[p]; ok {
		kept = min(kept, at-p.request.headAt())
	}
	if e.Request = p.request.head[:min(kept, headSent)]; headSent > kept {
		e.Flags |= bpf.WireHttpFlagsHTTP_REQUEST_HEAD_CUT
	}
	if client >= p.request.end() {
		e.Flags |= requestIn
	}
	answered := server > p.response.begin()
	d.tellResponse(p, &e)
	for _, role := range []string{"client", "server"} {
		e.Role = role
		d.want = append(d.want, d.endedBy(e, ending, p.endsBy(server, ending, role)))
	}
	d.told = append(d.told, start{p.request.begin(), p.response.begin(), answered})
}

func (d *drawer) tellResponse(p *pair, e *exchange) {
	sent := d.sent["server"]
	headSent := min(sent, p.response.bodyAt()) - p.response.headAt()
	if headSent <= 0 {
		e.Response = p.response.interimBegun(sent)
		return
	}
	if p.invalid {
		d.tellInvalid(p, e, headSent)
		return
	}
	if headSent > keptOfResponse {
		e.Flags |= bpf.WireHttpFlagsHTTP_RESPONSE_HEAD_CUT
	}
	e.Response = p.response.head[:min(keptOfResponse, headSent)]
	if headSent >= len("HTTP/1.1 200") {
		e.Status = p.status
	}
	e.ResponseBody = p.response.payload(sent)
	if sent >= p.response.end() && !p.response.untilClose {
		e.Flags |= responseIn
	}
	if p.tunnel && e.Flags&responseIn != 0 {
		e.Flags |= bpf.WireHttpFlagsHTTP_TUNNEL
	}
}

// interimBegun is what has come of a response that cannot be told from the last one yet.
func (m *message) interimBegun(sent int) string {
	at := m.begin()
	for _, interim := range m.interims {
		if begun := sent - at; begun > 0 && begun < len("HTTP/1.1 103") {
			return interim[:begun]
		}
		at += len(interim)
	}
	return ""
}

// tellInvalid: what is no status line is recognised when it is over, or as long as any.
func (d *drawer) tellInvalid(p *pair, e *exchange, sent int) {
	recognised := len("HTTP/1.1 200")
	if line := strings.Index(p.response.head, "\n") + 1; line > 0 {
		recognised = min(recognised, line)
	}
	if sent >= recognised {
		e.Flags |= bpf.WireHttpFlagsHTTP_INVALID_RESPONSE
	} else {
		e.Response = p.response.head[:sent]
	}
}

// endsBy says whether an ending is also that of the response, as one end sees it: a server that closes after its client did
// has sent all that it wanted to.
func (p *pair) endsBy(sent int, ending step, role string) bool {
	if !p.response.untilClose || sent < p.response.bodyAt() || ending.Do == "reset" {
		return false
	}
	return ending.By == "server" || role == "server"
}

// endedBy an ending, unless both messages are complete.
func (d *drawer) endedBy(e exchange, ending step, isEnd bool) exchange {
	if isEnd {
		e.Flags |= responseIn
	}
	if e.Flags&complete == complete || e.Flags&bpf.WireHttpFlagsHTTP_INVALID_RESPONSE != 0 || e.Flags&bpf.WireHttpFlagsHTTP_TUNNEL != 0 {
		return e
	}
	switch {
	case d.half && ending.Do == "close": // the client's end came first, and it has not let go
	case d.half && e.Role == "server":
		e.Flags |= wasAborted
	case d.half:
		e.Error = connectionReset
	case ending.Do == "reset" && ending.By == e.Role:
		e.Flags |= wasAborted | closedHere
	case ending.Do == "reset":
		e.Flags |= closedHere
		e.Error = connectionReset
	case ending.By == e.Role:
		e.Flags |= closedHere
	}
	return e
}

func (c conversation) String() string {
	var all strings.Builder
	fmt.Fprintf(&all, "%s, deferred %t, early %t, segments %d, receive buffer %d\n", c.script.Address, c.script.Defer, c.script.Early, c.script.MaxSegment, c.script.ReceiveBuffer)
	for _, s := range c.script.Steps {
		fmt.Fprintf(&all, "%s split %d seed %d after %v %s: %s\n", s.By, s.Split, s.Seed, s.After, s.Do, shortened(s.Send))
	}
	return all.String()
}

func shortened(text string) string {
	const most = 400
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q … %q (%d bytes)", text[:most/2], text[len(text)-most/2:], len(text))
}
