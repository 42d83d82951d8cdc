// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

const (
	// clientGrace is how long a server's side of a request waits for the client's, where that is on this
	// node: the client is done with it a moment after the server.
	clientGrace = 250e6 // ns
	// requestGrace is how long a connection, and a lookup, wait for what they may have been made for.
	requestGrace = 1e9 // ns
	// retention is how long it is known where a request's spans are, for what comes later.
	retention = 60e9 // ns
	// maxRequests of which this is known.
	maxRequests = 65536
	// maxChildren of a request in the process that served it.
	maxChildren = 1000
	// maxLookups of a process wait for their connection; those of a server are not its own.
	maxLookups = 64
)

// Options of Traces.
type Options struct {
	// MaxWait is how long a span waits for that of the request which its process was serving.
	MaxWait time.Duration
	// MaxHeld spans wait at a time.
	MaxHeld int
	// Peers are the addresses where other agents may see the client's side of a request.
	Peers []netip.Prefix
	// GivenUp counts what these limits cost; nil: nobody asks.
	GivenUp *GivenUp
}

// Place of a span in a trace.
type Place struct {
	TraceID          [16]byte
	SpanID, ParentID [8]byte
	Flags            uint32 // as of OTLP's span
	State            string // W3C tracestate
	// Link to show, so that the request's other end can be found; 0: none.
	Link Link
	// Linked says that the other end may be in the trace that its link leads to.
	Linked bool

	depth int // spans above it that this agent knows of
	// began is when a request that was received began, and since when the one did that the span is for;
	// CLOCK_BOOTTIME, ns; 0: not known, or there is none.
	began, since uint64
}

// The bits of a span's flags beyond W3C's (opentelemetry/proto/trace/v1/trace.proto).
const (
	flagSampled  = 1 << 0 // W3C Trace Context
	flagRandom   = 1 << 1 // W3C Trace Context Level 2: the trace id is random
	flagHas      = 1 << 8 // the next one is valid
	flagIsRemote = 1 << 9 // the parent is another process's

	ownFlags = flagSampled | flagRandom
)

// HasParent says that the span is another one's child.
func (p *Place) HasParent() bool { return p.ParentID != [8]byte{} }

// Cause is the request that a process was serving.
type Cause struct {
	Link     Link // 0: none is known
	ByThread bool // it takes that the same thread has sent the response
}

// Request is one side of an HTTP exchange.
type Request struct {
	Link    Link
	Header  Context // its headers name
	Cause   Cause   // of a client's
	Program *identity.Program
	// Answered says of a server's that the thread which read it sent the response.
	Answered bool
	Peer     netip.Addr
	Began    uint64 // CLOCK_BOOTTIME, ns, as all times
	Now      uint64
}

// Connection is one that this side has opened.
type Connection struct {
	Link    Link // of its first request, if there will be one; 0: it was not established
	Cause   Cause
	Program *identity.Program
	Process identity.Key
	Thread  uint32 // 0: not known
	Peer    string // address, as answers have it
	Opened  uint64 // CLOCK_BOOTTIME, ns
	Now     uint64
}

// NameLookup is a lookup that has ended.
type NameLookup struct {
	Cause   Cause
	Program *identity.Program
	Process identity.Key
	Thread  uint32
	Name    string
	Type    uint16 // 0: of several
	Answers []string
	// Start and End of it, CLOCK_BOOTTIME, ns.
	Start, End uint64
}

// Holder holds a span until its place is known. The Place is valid during the call.
type Holder interface{ Placed(*Place) }

// Unit is a span that waits for its place.
type Unit struct {
	holder  Holder
	kind    unitKind
	place   Place
	placed  bool
	own     *request // whose side it is
	waitsOn *request
	link    Link // of a connection's first request
	program *identity.Program
	cause   Cause
	peer    netip.Addr
	lookup  *NameLookup
	waiters []*Unit // lookups that wait for this connection
	began   uint64
	queued  bool
	listed  bool // among those that wait for a request
}

type unitKind uint8

const (
	unitServer unitKind = iota
	unitClient
	unitConnection
	unitLookup
	unitHandshake
)

// Traces finds the places of spans. Where that of another is needed first, a span is held for a while.
// It belongs to one goroutine.
type Traces struct {
	ids      *IDs
	options  Options
	requests requests
	local    map[netip.Addr]struct{}
	lookups  map[identity.Key][]*Unit // that wait for a connection
	queues   [queueCount]queue
	held     int
	free     []*Unit
	givenUp  *GivenUp
}

// queue of units that wait equally long, the oldest first.
type queue struct {
	units     []*Unit
	wait      uint64 // ns
	compacted int    // how many were left when those with a place were taken out
}

// minCompact units are left as they are.
const minCompact = 1024

const (
	queueClients  = iota // servers' sides wait for them
	queueRequests        // connections and lookups wait for them
	queueServed          // what was done for a request waits for it
	queueSeen            // what is waited for has come, and waits itself
	queueCount
)

// NewTraces returns Traces that know nothing yet.
func NewTraces(options Options, ids *IDs) *Traces {
	t := &Traces{
		ids: ids, options: options,
		requests: newRequests(),
		local:    map[netip.Addr]struct{}{},
		lookups:  map[identity.Key][]*Unit{},
		givenUp:  cmp.Or(options.GivenUp, &GivenUp{}),
	}
	t.queues[queueClients].wait = clientGrace
	t.queues[queueRequests].wait = requestGrace
	t.queues[queueServed].wait = uint64(options.MaxWait)
	t.queues[queueSeen].wait = 2*uint64(options.MaxWait) + requestGrace
	return t
}

// Held is how many spans wait.
func (t *Traces) Held() int { return t.held }

// --- a server's side -----------------------------------------------------------------------------

// Server finds the place of a request that was received. If it is not known yet, the unit is returned
// that is to be given a holder.
func (t *Traces) Server(r *Request) (Place, *Unit) {
	t.makeRoom()
	own := t.request(requestKey{r.Link, true}, r.Now)
	t.requests.use(own)
	defer t.requests.release(own)
	own.seen, own.answered = true, r.Answered
	place := Place{SpanID: r.Link.ServerID(), began: r.Began}
	if r.Header.IsValid() {
		place.inherit(&r.Header)
		return t.placeNow(own, place), nil
	}
	client := t.requests.find(requestKey{r.Link, false})
	switch {
	case client != nil && client.placed:
		above := t.requests.placeOf(client)
		place.below(&above, true)
		return t.placeNow(own, place), nil
	case t.isLocal(r.Peer) && t.hasRoom():
		unit := t.unit(Unit{kind: unitServer, place: place, own: own, peer: r.Peer, began: r.Now})
		t.requests.use(own)
		t.await(t.request(requestKey{r.Link, false}, r.Now), unit, queueClients)
		return Place{}, unit
	default:
		t.placeAlone(&place, r.Link, r.Peer)
		return t.placeNow(own, place), nil
	}
}

// placeAlone: the client's side was not seen. Where another agent may have seen it, that one knows the
// same ids.
func (t *Traces) placeAlone(place *Place, link Link, peer netip.Addr) {
	place.TraceID, place.Flags = link.TraceID(), ownFlags|flagHas
	if t.isLocal(peer) || !t.mayHaveAgent(peer) {
		return
	}
	place.ParentID, place.Link = link.ClientID(), link
	place.Flags |= flagIsRemote
}

func (t *Traces) mayHaveAgent(peer netip.Addr) bool {
	for _, prefix := range t.options.Peers {
		if prefix.Contains(peer) {
			return true
		}
	}
	return false
}

// --- a client's side -----------------------------------------------------------------------------

// Client finds the place of a request that was sent, as Server does.
func (t *Traces) Client(r *Request) (Place, *Unit) {
	t.makeRoom()
	own := t.request(requestKey{r.Link, false}, r.Now)
	t.requests.use(own)
	defer t.requests.release(own)
	own.seen = true
	place := Place{SpanID: r.Link.ClientID()}
	if r.Header.IsValid() {
		place.inherit(&r.Header)
		return t.placeNow(own, place), nil
	}
	if served := t.served(r.Cause, r.Now); served != nil {
		if !served.placed && t.hasRoom() {
			unit := t.unit(Unit{kind: unitClient, place: place, own: own, program: r.Program, cause: r.Cause, peer: r.Peer, began: r.Now})
			t.requests.use(own)
			t.await(served, unit, queueServed)
			return Place{}, unit
		}
		if t.isServedBy(served, r.Cause) {
			parent := t.requests.placeOf(served)
			t.placeClient(&place, &parent, own, r.Peer)
			return t.placeNow(own, place), nil
		}
	}
	t.placeByProgram(&place, r.Program, own, r.Peer, r.Now)
	return t.placeNow(own, place), nil
}

// served is the request that was the cause; nil if there is none.
func (t *Traces) served(cause Cause, now uint64) *request {
	if cause.Link == 0 {
		return nil
	}
	return t.request(requestKey{cause.Link, true}, now)
}

// isServedBy says that the cause is certain, and may have one more child.
func (t *Traces) isServedBy(served *request, cause Cause) bool {
	if !served.placed || cause.ByThread && !served.answered {
		return false
	}
	switch {
	case served.spot.depth >= maxDepth:
		t.givenUp.MaxDepth.Add(1)
		return false
	case served.children >= maxChildren:
		t.givenUp.MaxChildren.Add(1)
		return false
	}
	served.children++
	return true
}

// placeClient below what caused it. The other end, where this agent does not see it, is in the trace
// that the link leads to.
func (t *Traces) placeClient(place, parent *Place, own *request, peer netip.Addr) {
	place.below(parent, false)
	if !t.isLocal(peer) && !t.isAwaitedByServer(own) {
		place.Link, place.Linked = own.key.link, true
	}
}

func (t *Traces) isAwaitedByServer(r *request) bool {
	return slices.ContainsFunc(t.requests.waitersOf(r), func(unit *Unit) bool { return unit.kind == unitServer })
}

func (t *Traces) placeByProgram(place *Place, program *identity.Program, own *request, peer netip.Addr, now uint64) {
	if adopts(program, now) {
		parent := PlaceOf(program)
		t.placeClient(place, &parent, own, peer)
		return
	}
	place.TraceID, place.Flags = own.key.link.TraceID(), ownFlags|flagHas
}

// --- connections and lookups ---------------------------------------------------------------------

// Connection finds the place of a connection's opening: a sibling of the request that it was opened for.
func (t *Traces) Connection(c *Connection) (Place, *Unit) {
	t.makeRoom()
	if len(t.lookups[c.Process]) == 0 && c.Cause.Link == 0 && adopts(c.Program, c.Now) {
		return t.placeInProgram(c.Program), nil
	}
	unit := t.unit(Unit{kind: unitConnection, link: c.Link, place: Place{SpanID: t.ids.SpanID()}, program: c.Program, cause: c.Cause, began: c.Now})
	t.adoptLookups(unit, c)
	if !t.placeByCause(unit) && c.Link != 0 {
		t.placeByRequest(unit)
	}
	return t.settle(unit)
}

// UntoldConnection says that a connection has no span: the lookups that were made for it go without.
func (t *Traces) UntoldConnection(c *Connection) {
	var untold Unit
	t.adoptLookups(&untold, c)
	for _, unit := range untold.waiters {
		t.giveUp(unit)
	}
}

// Handshake finds the place of what the two ends of a connection agree on before they use it: beside that of
// its opening. Nothing that comes on the connection can be read then, so neither waits for a first request.
func (t *Traces) Handshake(c *Connection) (Place, *Unit) {
	t.makeRoom()
	unit := t.unit(Unit{kind: unitHandshake, link: c.Link, place: Place{SpanID: t.ids.SpanID()}, program: c.Program, cause: c.Cause, began: c.Now})
	if !t.placeByCause(unit) {
		t.endWaitOfOpening(c.Link)
	}
	return t.settle(unit)
}

func (t *Traces) endWaitOfOpening(link Link) {
	t.endWait(requestKey{link, false}, func(unit *Unit) bool { return unit.kind == unitConnection })
}

// Untold says that a request has no span on this side, server or client: what waits for its place goes without.
func (t *Traces) Untold(link Link, server bool) {
	t.endWait(requestKey{link, server}, func(*Unit) bool { return true })
}

// endWait of those that wait for a request and are meant.
func (t *Traces) endWait(key requestKey, isMeant func(*Unit) bool) {
	request := t.requests.find(key)
	if request == nil {
		return
	}
	t.requests.use(request)
	defer t.requests.release(request)
	for _, unit := range slices.Clone(t.requests.waitersOf(request)) { // the request may be dropped meanwhile, to make room
		if !unit.placed && isMeant(unit) {
			t.giveUp(unit)
		}
	}
}

// Lookup finds the place of a lookup: a sibling of what it was made for.
func (t *Traces) Lookup(l *NameLookup) (Place, *Unit) {
	t.makeRoom()
	if l.Cause.Link == 0 && adopts(l.Program, l.End) {
		return t.placeInProgram(l.Program), nil
	}
	unit := &Unit{kind: unitLookup, place: Place{SpanID: t.ids.SpanID()}, program: l.Program, cause: l.Cause, began: l.End}
	if !t.placeByCause(unit) && len(t.lookups[l.Process]) < maxLookups && t.hasRoom() {
		lookup := *l
		lookup.Answers = slices.Clone(l.Answers)
		unit.lookup = &lookup
		t.lookups[l.Process] = append(t.lookups[l.Process], unit)
		t.enqueue(unit, queueRequests)
	}
	return t.settle(unit)
}

// placeInProgram is the place of what needs to wait for nothing.
func (t *Traces) placeInProgram(program *identity.Program) Place {
	place, parent := Place{SpanID: t.ids.SpanID()}, PlaceOf(program)
	place.below(&parent, false)
	return place
}

// settle gives a unit that waits for nothing a trace of its own.
func (t *Traces) settle(unit *Unit) (Place, *Unit) {
	if unit.isQueued() {
		return Place{}, unit
	}
	if !unit.placed {
		t.giveUp(unit)
	}
	return unit.place, nil
}

// placeByCause says whether the unit has its place by what its process was doing, or waits for that.
func (t *Traces) placeByCause(unit *Unit) bool {
	if served := t.served(unit.cause, unit.began); served != nil {
		if !served.placed && t.hasRoom() {
			t.await(served, unit, queueServed)
			return true
		}
		if t.isServedBy(served, unit.cause) {
			parent := t.requests.placeOf(served)
			unit.place.below(&parent, false)
			t.finish(unit)
			return true
		}
	}
	return t.placeUnitByProgram(unit)
}

func (t *Traces) placeUnitByProgram(unit *Unit) bool {
	if !adopts(unit.program, unit.began) {
		return false
	}
	parent := PlaceOf(unit.program)
	unit.place.below(&parent, false)
	t.finish(unit)
	return true
}

// placeByRequest has a connection wait for its first request.
func (t *Traces) placeByRequest(unit *Unit) {
	first := t.request(requestKey{unit.link, false}, unit.began)
	if first.placed {
		sibling := t.requests.placeOf(first)
		unit.place.beside(&sibling)
		t.finish(unit)
	} else if t.hasRoom() {
		t.await(first, unit, queueRequests)
	}
}

// adoptLookups has those wait for the connection that must have been made for it: their answers have its
// address, and there is just one of each type.
func (t *Traces) adoptLookups(connection *Unit, c *Connection) {
	waiting := t.lookups[c.Process]
	name, ok := namedBy(waiting, c)
	if !ok {
		return
	}
	kept := waiting[:0]
	for _, unit := range waiting {
		if unit.placed {
			continue
		}
		if unit.lookup.mayLeadTo(c) && unit.lookup.Name == name {
			connection.waiters = append(connection.waiters, unit)
		} else {
			kept = append(kept, unit)
		}
	}
	t.keepLookups(c.Process, kept)
}

func (t *Traces) keepLookups(process identity.Key, kept []*Unit) {
	if len(kept) == 0 {
		delete(t.lookups, process)
		return
	}
	t.lookups[process] = kept
}

// namedBy is the name whose lookup led to the connection; false if that is not certain.
func namedBy(waiting []*Unit, c *Connection) (name string, ok bool) {
	for _, unit := range waiting {
		if unit.placed || !unit.lookup.mayLeadTo(c) || !unit.lookup.has(c.Peer) {
			continue
		}
		if ok && unit.lookup.Name != name {
			return "", false
		}
		name, ok = unit.lookup.Name, true
	}
	return name, ok && isOneLookup(waiting, name, c)
}

// isOneLookup says that no question for the name was asked twice: these would be two lookups.
func isOneLookup(waiting []*Unit, name string, c *Connection) bool {
	seen := map[uint16]bool{}
	for _, unit := range waiting {
		l := unit.lookup
		if unit.placed || l.Name != name || !l.mayLeadTo(c) {
			continue
		}
		if seen[l.Type] {
			return false
		}
		seen[l.Type] = true
	}
	return true
}

func (l *NameLookup) mayLeadTo(c *Connection) bool {
	return l.End <= c.Opened && (l.Thread == c.Thread || l.Thread == 0 || c.Thread == 0)
}

func (l *NameLookup) has(address string) bool {
	return slices.Contains(l.Answers, address)
}

// --- waiting -------------------------------------------------------------------------------------

// makeRoom for one more span by giving up on the one that has waited longest for a request to be told. That is soon in most
// cases, and never if the request was one too many for its container's limit: such must not take the room of all.
func (t *Traces) makeRoom() {
	if t.held < t.options.MaxHeld {
		return
	}
	for q := &t.queues[queueServed]; len(q.units) > 0; {
		unit := q.take()
		if !unit.placed {
			t.givenUp.MaxHeld.Add(1)
			t.giveUp(unit)
			return
		}
		t.reuse(unit)
	}
}

// hasRoom says whether one more span may wait, which needs to.
func (t *Traces) hasRoom() bool {
	if t.held < t.options.MaxHeld {
		return true
	}
	t.givenUp.MaxHeld.Add(1)
	return false
}

func (t *Traces) await(what *request, unit *Unit, queue int) {
	t.requests.addWaiter(what, unit)
	t.requests.use(what)
	unit.waitsOn, unit.listed = what, true
	t.enqueue(unit, queue)
}

func (t *Traces) enqueue(unit *Unit, number int) {
	t.queues[number].add(unit)
	unit.queued = true
	t.held++
}

// add a unit. Those that have their place are taken out when they are the most, so that one that waits long
// keeps no others.
func (q *queue) add(unit *Unit) {
	if len(q.units) >= minCompact && len(q.units) >= 2*q.compacted {
		q.units = slices.DeleteFunc(q.units, func(u *Unit) bool { return u.placed })
		q.compacted = max(len(q.units), minCompact/2)
	}
	q.units = append(q.units, unit)
}

func (u *Unit) isQueued() bool { return u.queued && !u.placed }

// SpanID that the unit's span has, wherever its place will be.
func (u *Unit) SpanID() [8]byte { return u.place.SpanID }

// HoldBy gives the unit the one who holds its span.
func (u *Unit) HoldBy(holder Holder) { u.holder = holder }

// placeNow notes where a request's side is, and places what waits for that.
func (t *Traces) placeNow(own *request, place Place) Place {
	t.requests.setPlace(own, &place)
	t.wake(own)
	return place
}

func (t *Traces) wake(what *request) {
	list := t.requests.takeWaiters(what)
	for _, unit := range t.requests.waiters[list] {
		unit.listed = false
		if !unit.placed {
			t.resume(unit, what)
		}
	}
	t.requests.reuse(list)
}

// resume places a unit, now that what it has waited for has its place.
func (t *Traces) resume(unit *Unit, what *request) {
	other := t.requests.placeOf(what)
	switch {
	case !what.key.server && unit.kind == unitServer:
		unit.place.below(&other, true)
	case !what.key.server:
		unit.place.beside(&other)
	case !t.isServedBy(what, unit.cause):
		t.giveUp(unit)
		return
	case unit.kind == unitClient:
		t.placeClient(&unit.place, &other, unit.own, unit.peer)
	default:
		unit.place.below(&other, false)
	}
	t.finish(unit)
}

// giveUp places a unit without what it has waited for.
func (t *Traces) giveUp(unit *Unit) {
	switch unit.kind {
	case unitServer:
		t.placeAlone(&unit.place, unit.own.key.link, unit.peer)
	case unitClient:
		t.placeByProgram(&unit.place, unit.program, unit.own, unit.peer, unit.began)
	default:
		t.placeUnitAlone(unit)
	}
	t.finish(unit)
}

// placeUnitAlone: a request that comes late has the same trace.
func (t *Traces) placeUnitAlone(unit *Unit) {
	if opening := t.openingOf(unit); opening != nil {
		unit.place.beside(opening)
		return
	}
	unit.place.TraceID, unit.place.Flags = t.ids.TraceID(), ownFlags|flagHas
	if unit.link == 0 {
		return
	}
	unit.place.TraceID = unit.link.TraceID()
	if unit.kind == unitConnection {
		opening := unit.place
		t.requests.rarely(t.request(requestKey{unit.link, false}, unit.began)).opening = &opening
	}
}

// openingOf the connection that a handshake was for, where that is known to be nobody's child.
func (t *Traces) openingOf(unit *Unit) *Place {
	if unit.kind != unitHandshake {
		return nil
	}
	if first := t.requests.find(requestKey{unit.link, false}); first != nil && first.rare {
		return t.requests.rarely(first).opening
	}
	return nil
}

// finish tells the place of a unit, and then those of what waits for it.
func (t *Traces) finish(unit *Unit) {
	unit.placed = true
	if unit.queued {
		t.held--
	}
	if unit.holder != nil {
		unit.holder.Placed(&unit.place)
	}
	for _, lookup := range unit.waiters {
		switch {
		case lookup.placed:
		case lookup.lookup.Start < unit.place.since: // nobody had asked yet for what the connection is for
			t.giveUp(lookup)
		default:
			lookup.place.together(&unit.place)
			t.finish(lookup)
		}
	}
	if unit.own != nil {
		t.placeNow(unit.own, unit.place)
	}
	t.requests.release(unit.own)
	t.requests.release(unit.waitsOn)
}

// Tick gives up on what has been waited for long enough, when all records older than now (CLOCK_BOOTTIME,
// ns) were handled.
func (t *Traces) Tick(now uint64) {
	for i := range t.queues {
		q := &t.queues[i]
		for len(q.units) > 0 && (q.units[0].placed || q.units[0].began+q.wait < now) {
			if t.expire(q.take(), i) && (i == queueServed || i == queueSeen) {
				t.givenUp.MaxWait.Add(1)
			}
		}
	}
	for t.requests.known() > 0 && t.requests.oldest().since+retention+t.queues[queueServed].wait < now {
		t.requests.forgetOldest()
	}
}

func (q *queue) take() *Unit {
	unit := q.units[0]
	q.units[0] = nil
	q.units = q.units[1:]
	if len(q.units) == 0 {
		q.units = nil // let go of the array
	}
	return unit
}

// expire gives up on what a unit waits for, unless that has come and will have its place. It says whether it
// did.
func (t *Traces) expire(unit *Unit, number int) bool {
	hasConnection := unit.kind == unitLookup && unit.waitsOn == nil && !t.forgetLookup(unit)
	switch {
	case unit.placed:
		t.reuse(unit)
	case number != queueSeen && (hasConnection || unit.waitsOn != nil && unit.waitsOn.seen):
		t.queues[queueSeen].add(unit)
	default:
		t.giveUp(unit)
		return true
	}
	return false
}

// Flush gives up on all, since nothing more will come.
func (t *Traces) Flush() {
	for i := range t.queues {
		for q := &t.queues[i]; len(q.units) > 0; {
			t.expire(q.take(), i)
		}
	}
}

// maxFreeUnits wait to be used again.
const maxFreeUnits = 1024

func (t *Traces) unit(of Unit) *Unit {
	last := len(t.free) - 1
	if last < 0 {
		made := of
		return &made
	}
	unit := t.free[last]
	t.free = t.free[:last]
	*unit = of
	return unit
}

// reuse a unit that has its place and was in a queue to the last, if it is nowhere else.
func (t *Traces) reuse(unit *Unit) {
	if unit.listed || unit.kind == unitLookup || len(t.free) >= maxFreeUnits {
		return
	}
	*unit = Unit{}
	t.free = append(t.free, unit)
}

// forgetLookup says whether the lookup was still waiting for a connection.
func (t *Traces) forgetLookup(unit *Unit) bool {
	process := unit.lookup.Process
	waiting := t.lookups[process]
	at := slices.Index(waiting, unit)
	if at < 0 {
		return false
	}
	t.keepLookups(process, slices.Delete(waiting, at, at+1))
	return true
}

// --- what is known -------------------------------------------------------------------------------

func (t *Traces) request(key requestKey, now uint64) *request {
	if known := t.requests.find(key); known != nil {
		return known
	}
	if t.requests.known() >= maxRequests {
		t.keepAwaited()
		t.requests.forgetOldest()
		t.givenUp.MaxRequests.Add(1)
	}
	return t.requests.add(key, now)
}

// keepAwaited puts those at the end that others wait for, which are no more than may be held. Those whose units
// have waited long enough are not awaited.
func (t *Traces) keepAwaited() {
	for range t.held {
		if !t.requests.dropPlaced(t.requests.oldest()) {
			return
		}
		t.requests.keepOldest()
	}
}

// maxLocal addresses of this node are known; then they are learned anew.
const maxLocal = 16384

// Local notes that an address is one of this node's.
func (t *Traces) Local(address netip.Addr) {
	if address.IsLoopback() {
		return // isLocal knows
	}
	if _, ok := t.local[address]; ok {
		return
	}
	if len(t.local) >= maxLocal {
		clear(t.local)
	}
	t.local[address] = struct{}{}
}

func (t *Traces) isLocal(address netip.Addr) bool {
	if address.IsLoopback() {
		return true
	}
	_, ok := t.local[address]
	return ok
}

// --- places --------------------------------------------------------------------------------------

// inherit what a request's headers say.
func (p *Place) inherit(header *Context) {
	p.TraceID, p.ParentID, p.State = header.TraceID, header.SpanID, header.State
	p.Flags = uint32(header.Flags) | flagHas | flagIsRemote
}

// below makes the span a child of another, which may be another process's.
func (p *Place) below(parent *Place, remote bool) {
	p.TraceID, p.ParentID, p.State = parent.TraceID, parent.SpanID, parent.State
	p.depth, p.since = parent.depth+1, parent.began
	p.Flags = parent.Flags&0xff | flagHas
	if remote {
		p.Flags |= flagIsRemote
	}
}

// together makes the span a sibling of another.
func (p *Place) together(other *Place) {
	p.TraceID, p.ParentID, p.State, p.Flags = other.TraceID, other.ParentID, other.State, other.Flags
	p.depth, p.since = other.depth, other.since
}

// beside makes the span a sibling of another; of one that is nobody's child, its child.
func (p *Place) beside(other *Place) {
	if other.HasParent() {
		p.together(other)
	} else {
		p.below(other, false)
	}
}
