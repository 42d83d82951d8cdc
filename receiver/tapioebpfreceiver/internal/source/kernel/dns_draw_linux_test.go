// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

const (
	// drawnTimeout is how long a question may go unanswered. All between two waits takes less.
	drawnTimeout = time.Second
	// waitForDNS is so much longer that a question is another query then.
	waitForDNS  = drawnTimeout + dns.ResendSlack + 50*time.Millisecond
	waitsAtMost = 2 // of a conversation, so that the test does not take long

	drawnPort, otherDrawnPort = 53, 5300 // that are observed
	unseenPort                = 5301

	readOfMessage = 16384 // bytes
	shownAnswers  = 32
)

// dnsConversation is what some sockets of a process say to each other, and what is told of it.
type dnsConversation struct {
	seed    uint64
	script  dnsScript
	said    []*said
	queries []*toldQuery
	retries int  // that a metric counts
	hasLost bool // of a stream, where messages begin
}

// said is a message, or what is none, that the kernel has seen.
type said struct {
	socket   dnsEnd
	sent     bool // by this socket
	server   int  // the other end, or of a server's own socket this end
	step     int
	text     string // as it is in the datagram or the stream
	fate     saidFate
	query    *toldQuery
	isStream bool
}

// dnsEnd is a client's number, or a server's that is asked from a port that is observed.
type dnsEnd struct {
	isServer bool
	number   int
}

type saidFate int

const (
	inQuery saidFate = iota
	isUnmatched
	isNoClients // or asks for nothing
	isNoneAtAll // no message of DNS
)

// toldQuery is a question and its answer.
type toldQuery struct {
	client     int
	id         uint16
	opcode     int
	question   drawnQuestion
	server     int // that answered, or was asked last
	retries    int
	pending    bool
	start, end int // steps; an end of -1: the timeout
	sent       int // step; when it was asked last
	answer     *drawnAnswer
}

// drawnQuestion has its name as it is on the wire.
type drawnQuestion struct {
	name        string
	kind, class uint16
}

func (q drawnQuestion) isAsked(other drawnQuestion) bool {
	return strings.EqualFold(q.name, other.name) && q.kind == other.kind && q.class == other.class
}

func (q drawnQuestion) wire() string {
	return q.name + string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, q.kind), q.class))
}

// drawnAnswer is what an answer says.
type drawnAnswer struct {
	code      int
	truncated bool
	answers   []string
}

// dnsDrawer draws a conversation.
type dnsDrawer struct {
	*rand.Rand
	dnsConversation
	names     int
	waits     int
	asked     []drawnQuestion
	streams   []drawnStream // by client
	answering []bool        // servers that can answer
	known     []bool        // clients of which a server knows the address
	isShort   bool          // what is said now
	// saysNonsense: what is said now is no message.
	saysNonsense bool
}

// drawnStream is how far a client's connection is.
type drawnStream struct {
	isAsked, shut, closed bool
	isLost                [2]bool // where messages begin, by who sends
}

func drawDNSConversation(seed uint64) dnsConversation {
	d := &dnsDrawer{Rand: rand.New(rand.NewPCG(seed, 53))}
	d.seed = seed
	d.drawServers()
	d.drawSockets()
	for range oneOf(d, 3, 8, 20, 20, 60) {
		d.drawStep()
	}
	return d.dnsConversation
}

func (d *dnsDrawer) chance(percent int) bool { return d.IntN(100) < percent }

// --- ends ------------------------------------------------------------------------------------

// drawServers whose addresses nobody else has.
func (d *dnsDrawer) drawServers() {
	isIPv6 := d.chance(35)
	for i := range 1 + d.IntN(3) {
		address := netip.AddrFrom4([4]byte{127, byte(1 + d.seed>>14&0x7f), byte(d.seed >> 6), byte(1 + i + int(d.seed<<2&0xfc))})
		if isIPv6 {
			text := fmt.Sprintf("fd77::%x:%x:%x", d.seed>>16, d.seed&0xffff, 1+i)
			address = netip.MustParseAddr(text)
		}
		port := oneOf[uint16](d, drawnPort, drawnPort, drawnPort, drawnPort, otherDrawnPort, unseenPort)
		d.script.Servers = append(d.script.Servers, netip.AddrPortFrom(address, port).String())
		d.script.Deaf = append(d.script.Deaf, i > 0 && d.chance(15))
		d.answering = append(d.answering, !d.script.Deaf[i])
	}
	d.script.Options = d.chance(10)
}

func (d *dnsDrawer) port(server int) int {
	return int(netip.MustParseAddrPort(d.script.Servers[server]).Port())
}

func (d *dnsDrawer) isSeen(server int) bool { return d.port(server) != unseenPort }

func (d *dnsDrawer) isIPv4() bool { return netip.MustParseAddrPort(d.script.Servers[0]).Addr().Is4() }

func (d *dnsDrawer) drawSockets() {
	hasFixedPort := false
	for i := range 1 + d.IntN(4) {
		s := dnsSocket{Network: oneOf(d, "udp", "udp", "tcp"), Server: -1, Options: d.chance(10)}
		s.Mapped = d.isIPv4() && d.chance(25)
		if s.Network == "tcp" || d.chance(50) {
			s.Server = d.IntN(len(d.script.Servers))
		}
		if s.Network == "tcp" && d.script.Deaf[s.Server] {
			s.Server = 0
		}
		if s.Network == "tcp" {
			s.Fast = d.chance(15)
		} else if d.isIPv4() && !s.Mapped && !hasFixedPort && d.chance(10) {
			first := netip.MustParseAddrPort(d.script.Servers[0]).Addr().As4()
			first[3] += 3 // that of no server
			s.Local, hasFixedPort = netip.AddrPortFrom(netip.AddrFrom4(first), drawnPort).String(), true
		}
		d.script.Sockets = append(d.script.Sockets, s)
		d.streams = append(d.streams, drawnStream{})
		d.known = append(d.known, i < 0)
	}
}

func (d *dnsDrawer) socket(client int) dnsSocket { return d.script.Sockets[client] }

func (d *dnsDrawer) isTCP(client int) bool { return d.socket(client).Network == "tcp" }

// serverOf a client's question.
func (d *dnsDrawer) serverOf(client int) int {
	if s := d.socket(client).Server; s >= 0 {
		return s
	}
	return d.IntN(len(d.script.Servers))
}

// --- steps -----------------------------------------------------------------------------------

func (d *dnsDrawer) drawStep() {
	switch choice := d.IntN(100); {
	case choice < 38:
		d.ask()
	case choice < 48:
		d.askAgain()
	case choice < 80:
		d.answerAny()
	case choice < 85:
		d.answerUnasked()
	case choice < 90:
		d.sayNonsense()
	case choice < 94:
		d.sayWhatIsNoClients()
	case choice < 96:
		d.endAny()
	case d.waits < waitsAtMost && choice < 98:
		d.wait()
	}
}

func (d *dnsDrawer) now() int { return len(d.script.Steps) }

func (d *dnsDrawer) wait() {
	d.waits++
	d.script.Steps = append(d.script.Steps, dnsStep{Do: "wait", For: waitForDNS})
	for _, q := range d.queries {
		q.pending = false
	}
}

// mayAsk says whether a client can say something.
func (d *dnsDrawer) mayAsk(client int) bool {
	return !d.streams[client].shut && !d.streams[client].closed
}

func (d *dnsDrawer) anyClient() (client int, ok bool) {
	client = d.IntN(len(d.script.Sockets))
	return client, d.mayAsk(client)
}

// ask some questions at once.
func (d *dnsDrawer) ask() {
	client, ok := d.anyClient()
	if !ok {
		return
	}
	server := d.serverOf(client)
	d.keepShort(client)
	var all []string
	count := oneOf(d, 1, 1, 1, 2, 4)
	d.isShort = d.isShort || d.isTCP(client) && count > 1
	for range count {
		opcode := oneOf(d, 0, 0, 0, 0, 0, 0, 1, 2, 4, 5)
		if !d.isTCP(client) && d.chance(3) {
			opcode = oneOf(d, 3, 7, 15)
		}
		all = append(all, d.question(client, server, d.drawID(), opcode, d.drawQuestion()))
	}
	d.send("ask", client, server, all)
}

// keepShort what is said where each segment has to be read whole, as also several messages have to be: TCP may put them all
// in one.
func (d *dnsDrawer) keepShort(client int) {
	d.isShort = d.streams[client].isLost[0] || d.streams[client].isLost[1]
}

// drawID of which there are few, so that they are the same now and then.
func (d *dnsDrawer) drawID() uint16 { return oneOf(d, 0, 1, 2, 0xffff, uint16(d.IntN(1<<16))) }

// askAgain what waits for an answer, over the same socket, maybe another server.
func (d *dnsDrawer) askAgain() {
	q := d.anyPending()
	if q == nil || !d.mayAsk(q.client) {
		return
	}
	server := d.serverOf(q.client)
	d.keepShort(q.client)
	d.send("ask", q.client, server, []string{d.question(q.client, server, q.id, q.opcode, d.otherCase(q.question))})
}

func (d *dnsDrawer) anyPending() *toldQuery {
	var pending []*toldQuery
	for _, q := range d.queries {
		if q.pending {
			pending = append(pending, q)
		}
	}
	if len(pending) == 0 {
		return nil
	}
	return oneOf(d, pending...)
}

// question of a client, and what is told of it.
func (d *dnsDrawer) question(client, server int, id uint16, opcode int, q drawnQuestion) string {
	text := d.questionText(id, opcode, q)
	d.asked = append(d.asked, q)
	d.say(client, server, true, text, func(s *said) { s.query = d.noteAsked(client, server, id, opcode, q) })
	return text
}

// noteAsked: a question that was asked already, and is not answered, is the same query.
func (d *dnsDrawer) noteAsked(client, server int, id uint16, opcode int, q drawnQuestion) *toldQuery {
	if told := d.find(client, id, opcode, &q); told != nil {
		told.retries++
		told.server, told.sent = server, d.now()
		d.retries++
		return told
	}
	told := &toldQuery{client: client, id: id, opcode: opcode, question: q, server: server, pending: true, start: d.now(), sent: d.now(), end: -1}
	d.queries = append(d.queries, told)
	return told
}

// find the query that waits for an answer; q nil: what the id alone says, if that is enough.
func (d *dnsDrawer) find(client int, id uint16, opcode int, q *drawnQuestion) (found *toldQuery) {
	same := 0
	for _, told := range d.queries {
		if !told.pending || told.client != client || told.id != id {
			continue
		}
		if same++; told.opcode == opcode && (q == nil || told.question.isAsked(*q)) {
			found = told
		}
	}
	if q == nil && same > 1 {
		return nil
	}
	return found
}

// answerAny question that waits, or one that does no more.
func (d *dnsDrawer) answerAny() {
	q := d.anyPending()
	if len(d.queries) > 0 && (q == nil || d.chance(15)) {
		q = oneOf(d, d.queries...)
	}
	if q == nil {
		return
	}
	server := q.server
	d.keepShort(q.client)
	if !d.isTCP(q.client) && d.chance(15) {
		server = d.IntN(len(d.script.Servers))
	}
	var all []string
	if d.mayAnswer(q.client, server) {
		all = append(all, d.answer(q.client, server, q.id, q.opcode, d.otherCase(q.question)))
	}
	for len(all) > 0 && len(joined(all)) < readOfMessage/4 && d.chance(15) {
		d.isShort = true
		if other := d.anyPending(); other != nil && other.client == q.client {
			all = append(all, d.answer(q.client, server, other.id, other.opcode, d.otherCase(other.question)))
		}
	}
	if len(all) > 0 {
		d.send("answer", q.client, server, all)
	}
}

// mayAnswer says whether a server can say something to a client.
func (d *dnsDrawer) mayAnswer(client, server int) bool {
	if d.isTCP(client) {
		return d.streams[client].isAsked && !d.streams[client].closed && server == d.socket(client).Server
	}
	return d.answering[server] && d.known[client]
}

// arrives: a socket that is connected hears nobody else.
func (d *dnsDrawer) arrives(client, server int) bool {
	connected := d.socket(client).Server
	return connected < 0 || connected == server
}

// answerUnasked is one that differs from what was asked in one thing, or in all.
func (d *dnsDrawer) answerUnasked() {
	if len(d.queries) == 0 {
		return
	}
	q := *oneOf(d, d.queries...)
	d.keepShort(q.client)
	switch d.IntN(5) {
	case 0:
		q.id ^= 1 << d.IntN(16)
	case 1:
		q.opcode = (q.opcode + 1) % 5 // not a stateful one, which nobody has to answer
	case 2:
		q.question = d.drawQuestion()
	case 3:
		q.question.kind ^= 1
	case 4:
		q.question.class ^= 2
	}
	if d.mayAnswer(q.client, q.server) {
		d.send("answer", q.client, q.server, []string{d.answer(q.client, q.server, q.id, q.opcode, q.question)})
	}
}

// answer to a client, and what is told of it.
func (d *dnsDrawer) answer(client, server int, id uint16, opcode int, q drawnQuestion) string {
	without := d.chance(5)
	text, answer := d.answerText(id, opcode, q, without)
	d.say(client, server, false, text, func(s *said) {
		asked := &q
		if without {
			asked = nil
		}
		s.query, s.fate = d.find(client, id, opcode, asked), isUnmatched
		if s.query != nil {
			s.fate = inQuery
			s.query.pending, s.query.answer, s.query.end, s.query.server = false, answer, d.now(), server
		}
	})
	return text
}

// say a message in the next step, if it is one that is seen.
func (d *dnsDrawer) say(client, server int, sent bool, text string, judge func(*said)) {
	if d.isTCP(client) {
		text = string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text
	}
	s := &said{socket: dnsEnd{number: client}, sent: sent, server: server, step: d.now(), text: text, isStream: d.isTCP(client)}
	switch isSeen := d.isSeen(server) && (sent || d.arrives(client, server)); {
	case isSeen:
		judge(s)
		d.said = append(d.said, s)
	case d.saysNonsense:
		s.fate = isNoneAtAll
	}
	if d.socket(client).Local != "" && (!sent || !d.script.Deaf[server]) {
		d.sayAtServer(s)
	}
}

// sayAtServer what its socket has seen, as the client's port is one that is observed.
func (d *dnsDrawer) sayAtServer(client *said) {
	s := *client
	s.socket, s.sent, s.query = dnsEnd{true, s.server}, !s.sent, nil
	if s.fate != isNoneAtAll {
		s.fate = isNoClients
	}
	d.said = append(d.said, &s)
}

// send what was said.
func (d *dnsDrawer) send(do string, client, server int, texts []string) {
	s := dnsStep{Do: do, Client: client, Server: server, Send: texts}
	sender := 1
	if do == "ask" {
		sender = 0
	}
	if stream := &d.streams[client]; d.isTCP(client) {
		for i, text := range texts {
			s.Send[i] = string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text
		}
		if !stream.isLost[sender] {
			d.split(&s)
		}
		stream.isAsked = true
	} else {
		s.Unread = do == "ask" && d.script.Deaf[server] || do == "answer" && !d.arrives(client, server)
		s.Corked = do == "ask" && !s.Unread && len(texts) == 1 && len(texts[0]) > 1 && d.chance(5)
		d.known[client] = d.known[client] || !s.Unread
	}
	d.script.Steps = append(d.script.Steps, s)
}

func (d *dnsDrawer) split(s *dnsStep) {
	size := len(joined(s.Send))
	switch d.IntN(6) {
	case 0:
		s.Pieces = 1 + size/200
	case 1:
		s.Pieces = 2 + size/200
	case 2:
		s.Pieces, s.Seed = 1+d.IntN(40)+size/50, 1+d.IntN(1000)
	case 3:
		s.Pieces = 1448
	}
}

// --- what is not as it should be -------------------------------------------------------------

// sayNonsense: what is no message.
func (d *dnsDrawer) sayNonsense() {
	client, ok := d.anyClient()
	if !ok {
		return
	}
	server := d.serverOf(client)
	judge := func(s *said) { s.fate = isNoneAtAll }
	do, sent := "ask", true
	if d.chance(40) && d.mayAnswer(client, server) {
		do, sent = "answer", false
	}
	if d.isTCP(client) {
		d.sayNonsenseInStream(client, server, do, sent)
		return
	}
	text := d.nonsense(sent)
	d.saysNonsense = true
	d.say(client, server, sent, text, judge)
	d.saysNonsense = false
	d.send(do, client, server, []string{text})
}

// nonsense that is in a datagram, or in a stream in the place of a message.
func (d *dnsDrawer) nonsense(sent bool) string {
	question := d.drawQuestion()
	whole := d.questionText(d.drawID(), 0, question)[:headerOfDNS+len(question.wire())]
	if !sent {
		whole = asResponse(whole)
	}
	switch d.IntN(4) {
	case 0:
		return whole[:d.IntN(headerOfDNS)]
	case 1:
		return whole[:headerOfDNS+d.IntN(len(whole)-headerOfDNS)]
	case 2:
		return whole[:headerOfDNS] + oneOf(d, "\x40", "\x80", "\xff", "\xc0\x0c") + strings.Repeat("\x00", d.IntN(9))
	default:
		return whole[:headerOfDNS] + strings.Repeat("\x3f"+strings.Repeat("n", 63), 4) + "\x00\x00\x01\x00\x01" // a name of 257 bytes
	}
}

func asResponse(message string) string {
	bytes := []byte(message)
	bytes[2] |= 0x80
	return string(bytes)
}

// sayNonsenseInStream: where the next message begins is known if it has a size and looks like one.
func (d *dnsDrawer) sayNonsenseInStream(client, server int, do string, sent bool) {
	judge := func(s *said) { s.fate = isNoneAtAll }
	text := d.nonsense(sent)
	sender := 1
	if sent {
		sender = 0
	}
	if len(text) >= headerOfDNS && !d.streams[client].isLost[sender] && d.chance(60) {
		d.say(client, server, sent, text, judge)
		d.send(do, client, server, []string{text})
		return
	}
	d.streams[client].isLost[sender], d.hasLost = true, true
	text = oneOf(d, "\x00\x0b short, not a message", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", strings.Repeat("\xff", 14+d.IntN(99)))
	if !d.isSeen(server) {
		return
	}
	d.said = append(d.said, &said{socket: dnsEnd{number: client}, sent: sent, server: server, step: d.now(), text: text, fate: isNoneAtAll, isStream: true})
	d.streams[client].isAsked = true
	d.script.Steps = append(d.script.Steps, dnsStep{Do: do, Client: client, Server: server, Send: []string{text}})
}

// sayWhatIsNoClients: what servers say from their port, and what asks for nothing.
func (d *dnsDrawer) sayWhatIsNoClients() {
	const stateful = 6
	client, ok := d.anyClient()
	if !ok {
		return
	}
	server := d.serverOf(client)
	d.keepShort(client)
	judge := func(s *said) { s.fate = isNoClients }
	text := d.questionText(d.drawID(), stateful, d.drawQuestion())
	if d.chance(50) {
		text = text[:4] + strings.Repeat("\x00", 8) // no question
	}
	do, sent := "ask", true
	switch {
	case d.isTCP(client) || d.socket(client).Local != "": // where it is no server's, and where both ends are like servers'
	case d.chance(40):
		text, _ = d.answerText(d.drawID(), 0, d.drawQuestion(), false)
	case d.chance(40) && d.mayAnswer(client, server):
		do, sent = "answer", false
		text = d.questionText(d.drawID(), 0, d.drawQuestion())
	}
	d.say(client, server, sent, text, judge)
	d.send(do, client, server, []string{text})
}

// endAny connection, maybe within a message.
func (d *dnsDrawer) endAny() {
	client, ok := d.anyClient()
	if !ok || !d.isTCP(client) || !d.streams[client].isAsked {
		return
	}
	server := d.socket(client).Server
	if d.chance(60) {
		d.cut(client, server)
	}
	stream := &d.streams[client]
	do := oneOf(d, "close", "reset", "shutdown")
	stream.shut, stream.closed = true, do != "shutdown"
	d.script.Steps = append(d.script.Steps, dnsStep{Do: do, Client: client, Server: server})
}

// cut a message anywhere.
func (d *dnsDrawer) cut(client, server int) {
	text := d.questionText(d.drawID(), 0, d.drawQuestion())
	text = string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text
	text = text[:1+d.IntN(len(text)-1)]
	if d.isSeen(server) {
		d.said = append(d.said, &said{socket: dnsEnd{number: client}, sent: true, server: server, step: d.now(), text: text, fate: isNoneAtAll, isStream: true})
	}
	s := dnsStep{Do: "ask", Client: client, Server: server, Send: []string{text}}
	if !d.streams[client].isLost[0] {
		d.split(&s)
	}
	d.script.Steps = append(d.script.Steps, s)
}

func (c dnsConversation) String() string {
	var all strings.Builder
	fmt.Fprintf(&all, "servers %v, deaf %v, options %t\n", c.script.Servers, c.script.Deaf, c.script.Options)
	for i, s := range c.script.Sockets {
		fmt.Fprintf(&all, "client %d: %+v\n", i, s)
	}
	for i, s := range c.script.Steps {
		var texts []string
		for _, text := range s.Send {
			texts = append(texts, shortened(text))
		}
		fmt.Fprintf(&all, "%d: %s client %d server %d pieces %d seed %d corked %t unread %t: %s\n", i, s.Do, s.Client, s.Server, s.Pieces, s.Seed, s.Corked, s.Unread, strings.Join(texts, " + "))
	}
	return all.String()
}

// ofSocket is all that a socket has said or heard, in order.
func (c dnsConversation) ofSocket(end dnsEnd) []*said {
	return slices.DeleteFunc(slices.Clone(c.said), func(s *said) bool { return s.socket != end })
}
