// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// talk is what is done with one connection, or with some UDP sockets, and what is told of it.
type talk struct {
	Seed  uint64
	Kind  string
	Where string // the server's address
	Mapped,
	Bound bool // the client has an IPv6 socket for IPv4; it was bound before it connected
	NonBlocking bool
	Whole       bool // UDP: segments that came as one are read as one
	Steps       []talkStep
	want        []toldEnd
}

// talkStep is what is done with a socket, by one of two processes.
type talkStep struct {
	By     string // whose socket
	To     string // UDP: who is sent to
	Do     string
	Bytes  int
	Split  int    // sent in pieces of this size
	Unread bool   // the other side does not read it
	Hand   bool   // the other process does it, which is handed the socket
	Reader bool   // the other process reads it
	How    string // by which call it is sent
	// Address of To, which is known when the sockets are there.
	Address string
}

// toldEnd is what is told of a connection's end, in the order in which it is.
type toldEnd struct {
	by, peer       string
	failed         bool // it was never a connection
	opened         bool // a connect is told
	pid            string
	role           uint8
	sent, received uint64
	packets        [2]uint64
	err            int32
	aborted        bool
}

const (
	byMain   = "main"
	byHand   = "hand"
	byNobody = "nobody"
)

// Kinds of talks.
const (
	talkTCP         = "TCP"
	talkRefused     = "refused"
	talkGivenUp     = "given up while it is connected"
	talkNotAccepted = "not accepted"
	talkWithItself  = "with itself"
	talkAtOnce      = "both close at once"
	talkUDP         = "UDP"
	talkUDPNobody   = "UDP with nobody"
)

type talkDrawer struct {
	*rand.Rand
	talk
	ends map[string]*drawnEnd
}

// drawnEnd is one end of a connection as it stands.
type drawnEnd struct {
	toldEnd
	isOpen, saysNoMore, heardEnd bool
	unread                       bool
	over                         bool // the kernel has closed it
}

func drawTalk(seed uint64) talk {
	d := &talkDrawer{Rand: rand.New(rand.NewPCG(seed, 23))}
	d.Seed = seed
	d.Kind = pick(d, talkTCP, talkTCP, talkTCP, talkTCP, talkTCP, talkTCP, talkRefused,
		talkGivenUp, talkNotAccepted, talkWithItself, talkAtOnce, talkUDP, talkUDP, talkUDPNobody)
	d.Where = pick(d, "127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.8.7")
	d.Mapped = !strings.HasPrefix(d.Where, "::1") && d.chance(30)
	d.Bound, d.NonBlocking = d.chance(30), d.chance(30)
	switch d.Kind {
	case talkTCP:
		for range pick(d, 1, 1, 1, 2, 3) {
			d.drawConnection()
		}
	case talkAtOnce:
		d.begin()
		d.exchange(3)
		d.step(talkStep{Do: "close both"})
		if d.ends["server"].pid == byNobody {
			d.ends["server"].pid = byMain
		}
		d.over()
	case talkRefused:
		d.Bound = true // else its port is not known
		d.want = append(d.want, toldEnd{by: "client", peer: "server", failed: true, opened: true, pid: byMain, role: 1, err: int32(unix.ECONNREFUSED)})
	case talkGivenUp:
		d.want = append(d.want, toldEnd{by: "client", peer: "server", failed: true, opened: true, pid: byMain, role: 1, err: int32(unix.ECANCELED)})
	case talkNotAccepted:
		d.drawNotAccepted()
	case talkWithItself:
		d.drawWithItself()
	default:
		d.drawDatagrams()
	}
	return d.talk
}

func (d *talkDrawer) chance(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d *talkDrawer, values ...T) T { return values[d.IntN(len(values))] }

func (d *talkDrawer) step(s talkStep) { d.Steps = append(d.Steps, s) }

func (d *talkDrawer) size() int {
	return pick(d, 0, 1, 2, d.IntN(1500), d.IntN(20_000), d.IntN(200_000))
}

// --- TCP -------------------------------------------------------------------------------------

func other(end string) string {
	if end == "client" {
		return "server"
	}
	return "client"
}

func (d *talkDrawer) begin() {
	d.ends = map[string]*drawnEnd{
		"client": {isOpen: true, toldEnd: toldEnd{by: "client", peer: "server", opened: true, pid: byMain, role: 1}},
		"server": {isOpen: true, toldEnd: toldEnd{by: "server", peer: "client", pid: byNobody, role: 2}},
	}
	s := talkStep{Do: "open"}
	if d.Kind == talkTCP && d.chance(15) { // with the first bytes in the SYN
		s.Bytes = 1 + d.IntN(1000)
		d.ends["client"].sent, d.ends["server"].received = uint64(s.Bytes), uint64(s.Bytes)
		d.ends["server"].pid = byMain
	}
	d.step(s)
}

// over is when both ends are told.
func (d *talkDrawer) over() {
	for _, end := range []string{"client", "server"} {
		d.want = append(d.want, d.ends[end].toldEnd)
	}
}

func (d *talkDrawer) drawConnection() {
	d.begin()
	d.exchange(6)
	for d.ends["client"].isOpen || d.ends["server"].isOpen {
		by := pick(d, "client", "server")
		if !d.ends[by].isOpen {
			by = other(by)
		}
		d.drawEnding(by)
	}
	d.over()
}

func (d *talkDrawer) exchange(most int) {
	for range d.IntN(most + 1) {
		d.send(pick(d, "client", "server"))
	}
}

func (d *talkDrawer) drawEnding(by string) {
	switch e := d.ends[by]; d.IntN(6) {
	case 0:
		d.send(by)
	case 1:
		if !e.saysNoMore && !e.over {
			d.step(talkStep{By: by, Do: "shutdown", Hand: d.hand(e, false)})
			d.sayNoMore(by)
		}
	case 2:
		d.settle(by)
		d.step(talkStep{By: by, Do: "reset"})
		d.abort(by)
	case 3:
		if d.chance(50) {
			d.settle(by)
			d.step(talkStep{By: by, Do: "disconnect"})
			d.abort(by)
		}
	default:
		if e.unread {
			d.settle(by)
		}
		d.step(talkStep{By: by, Do: "close", Hand: d.hand(e, false)})
		d.close(by)
	}
}

// hand says whether the other process does something. Who does the first thing of a socket that nobody has is its process.
func (d *talkDrawer) hand(e *drawnEnd, moves bool) bool {
	is := d.chance(20)
	if moves || e.pid == byNobody && !e.over {
		if e.pid = byMain; is {
			e.pid = byHand
		}
	}
	return is
}

func (d *talkDrawer) send(by string) {
	from, to := d.ends[by], d.ends[other(by)]
	if !from.isOpen || from.saysNoMore || from.over {
		return
	}
	s := talkStep{By: by, Do: "send", Bytes: d.size(), How: pick(d, "write", "write", "writev", "sendfile", "splice", "urgent", "more")}
	isLost := !to.isOpen
	mayStayUnread := d.Kind != talkAtOnce // else it is by chance who ends the connection, and how
	if s.Unread = isLost || to.unread || mayStayUnread && d.chance(15); s.Unread {
		s.Bytes, s.How = min(s.Bytes, 3000), "write"
	} else if d.chance(30) && s.Bytes > 0 {
		s.Split = 1 + d.IntN(s.Bytes) + s.Bytes/20
	}
	if s.Bytes == 0 {
		return
	}
	s.Hand = d.hand(from, true)
	from.sent += uint64(s.Bytes)
	switch {
	case isLost: // the kernel of who has gone answers with a reset
		from.over, from.err = true, int32(unix.EPIPE)
	case s.Unread:
		to.unread = true
		to.received += uint64(s.Bytes)
	default:
		if s.Reader = !s.Hand && d.hand(to, true); !s.Reader {
			to.pid = byMain
		}
		to.received += uint64(s.Bytes)
	}
	d.step(s)
}

// sayNoMore is the end of what one side sends.
func (d *talkDrawer) sayNoMore(by string) {
	e, o := d.ends[by], d.ends[other(by)]
	e.saysNoMore, o.heardEnd = true, true
	if o.saysNoMore {
		e.over, o.over = true, true
	}
}

// settle has the kernel of who has closed know that the other side has heard of it. A reset that came before would end what waits
// for that.
func (d *talkDrawer) settle(by string) {
	switch e := d.ends[by]; {
	case e.over || d.ends[other(by)].isOpen:
	case e.pid == byNobody:
		d.step(talkStep{Do: "wait"})
	default:
		d.step(talkStep{By: by, Do: "acknowledge", Hand: e.pid == byHand})
	}
}

func (d *talkDrawer) close(by string) {
	e := d.ends[by]
	switch {
	case e.over:
	case e.unread:
		d.abort(by)
	default:
		if !e.saysNoMore {
			d.sayNoMore(by)
		}
		e.over = true
	}
	e.isOpen = false
}

func (d *talkDrawer) abort(by string) {
	e, o := d.ends[by], d.ends[other(by)]
	e.isOpen = false
	if e.over {
		return
	}
	if e.over, e.aborted = true, true; e.pid == byNobody {
		e.pid = byMain
	}
	if o.over {
		return
	}
	if o.over, o.err = true, int32(unix.ECONNRESET); o.heardEnd {
		o.err = int32(unix.EPIPE)
	}
}

// drawNotAccepted is a connection that waits for somebody to take it when who listens goes.
func (d *talkDrawer) drawNotAccepted() {
	d.begin()
	client, server := d.ends["client"], d.ends["server"]
	if bytes := min(d.size(), 3000); bytes > 0 {
		d.step(talkStep{By: "client", Do: "send", Bytes: bytes, Unread: true, How: "write"})
		client.sent, server.received = uint64(bytes), uint64(bytes)
	}
	server.aborted = true
	if d.chance(50) {
		d.step(talkStep{By: "client", Do: "close"})
		d.step(talkStep{Do: "wait"})
		d.step(talkStep{Do: "stop listening"})
	} else {
		d.step(talkStep{Do: "stop listening"})
		d.step(talkStep{By: "client", Do: "close"})
		client.err = int32(unix.ECONNRESET)
	}
	d.over()
}

func (d *talkDrawer) drawWithItself() {
	bytes := d.size()
	d.Bound, d.Mapped, d.NonBlocking = true, false, false
	d.Steps = []talkStep{{By: "client", Do: "send", Bytes: bytes, How: "write"}}
	d.want = []toldEnd{{by: "client", peer: "client", opened: true, pid: byMain, role: 1, sent: uint64(bytes), received: uint64(bytes)}}
}

// --- UDP -------------------------------------------------------------------------------------

// drawnFlow is what a socket has exchanged with another one.
type drawnFlow struct{ end, peer string }

const longestDatagram = 9000

func (d *talkDrawer) drawDatagrams() {
	owners := map[string]string{"server": byMain, "client": byMain, "another": byMain}
	roles := map[string]uint8{}
	flows, order := map[drawnFlow]*toldEnd{}, []drawnFlow{}
	count := func(end, peer string, direction, packets, bytes int) {
		key := drawnFlow{end, peer}
		e := flows[key]
		role := uint8(2 - direction)
		if roles[end] == 0 {
			roles[end] = role
		}
		if e == nil {
			e = &toldEnd{by: end, peer: peer}
			if flows[key], order = e, append(order, key); roles[end] == role {
				e.role = role
			}
		}
		e.pid = owners[end]
		e.packets[1-direction] += uint64(packets)
		if direction == 1 {
			e.sent += uint64(bytes)
		} else {
			e.received += uint64(bytes)
		}
	}
	clients := []string{"client", "another"}
	d.Whole = d.chance(30)
	for range 1 + d.IntN(8) {
		s := talkStep{By: pick(d, clients...), To: "server", Do: "send", Bytes: d.IntN(pick(d, 1, 100, longestDatagram)), Hand: d.chance(20), How: pick(d, "write", "write", "more", "segments")}
		if d.Kind == talkUDPNobody {
			s.By, s.To, s.How = "client", "nobody", "write"
		} else if len(order) > 0 && d.chance(40) {
			s.By, s.To = s.To, s.By
		}
		if owners[s.By] = byMain; s.Hand {
			owners[s.By] = byHand
		}
		packets := 1
		if s.How == "segments" {
			s.Split = 1 + s.Bytes/(1+d.IntN(20))
			if packets = max(1, (s.Bytes+s.Split-1)/s.Split); d.Whole {
				packets = 1
			}
		}
		d.step(s)
		count(s.By, s.To, 1, 1, s.Bytes)
		if s.To == "nobody" {
			break // the next one may be refused
		}
		count(s.To, s.By, 0, packets, s.Bytes)
	}
	for _, key := range order {
		d.want = append(d.want, *flows[key])
	}
}

func (t talk) String() string {
	var all strings.Builder
	fmt.Fprintf(&all, "%s at %s, mapped %t bound %t non-blocking %t\n", t.Kind, t.Where, t.Mapped, t.Bound, t.NonBlocking)
	for _, s := range t.Steps {
		fmt.Fprintf(&all, "%+v\n", s)
	}
	return all.String()
}
