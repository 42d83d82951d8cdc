// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

const second = uint64(1e9)

var (
	local  = netip.MustParseAddr("10.0.0.1")
	peer   = netip.MustParseAddr("10.0.0.2") // on another node
	public = netip.MustParseAddr("192.0.2.1")
)

// scene has spans placed, and remembers where, by the names that it gives them.
type scene struct {
	*Traces
	t      *testing.T
	places map[string]Place
}

func newScene(t *testing.T) *scene {
	options := Options{MaxWait: 30 * time.Second, MaxHeld: 100, Peers: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	s := &scene{t: t, Traces: NewTraces(options, NewIDs()), places: map[string]Place{}}
	s.Local(local)
	return s
}

// held notes a place that was waited for.
type held struct {
	scene *scene
	name  string
}

func (h held) Placed(place *Place) {
	require.NotContains(h.scene.t, h.scene.places, h.name, "a span is placed once")
	h.scene.places[h.name] = *place
}

func (s *scene) note(name string, place Place, unit *Unit) {
	if unit != nil {
		unit.HoldBy(held{s, name})
		return
	}
	held{s, name}.Placed(&place)
}

func (s *scene) server(name string, r Request) {
	r.Answered = true
	place, unit := s.Server(&r)
	s.note(name, place, unit)
}

func (s *scene) client(name string, r Request) {
	place, unit := s.Client(&r)
	s.note(name, place, unit)
}

func (s *scene) connection(name string, c Connection) {
	place, unit := s.Connection(&c)
	s.note(name, place, unit)
}

func (s *scene) handshake(name string, c Connection) {
	place, unit := s.Handshake(&c)
	s.note(name, place, unit)
}

func (s *scene) lookup(name string, l NameLookup) {
	place, unit := s.Lookup(&l)
	s.note(name, place, unit)
}

func (s *scene) waits(names ...string) {
	s.t.Helper()
	for _, name := range names {
		assert.NotContains(s.t, s.places, name)
	}
	assert.Equal(s.t, len(names), s.Held())
}

// requireChild of another span; empty: of none.
func (s *scene) requireChild(name, parent string) {
	s.t.Helper()
	require.Contains(s.t, s.places, name)
	place := s.places[name]
	if parent == "" {
		assert.False(s.t, place.HasParent(), name)
		return
	}
	require.Contains(s.t, s.places, parent)
	above := s.places[parent]
	assert.Equal(s.t, above.SpanID, place.ParentID, "%s is a child of %s", name, parent)
	assert.Equal(s.t, above.TraceID, place.TraceID, "%s is in the trace of %s", name, parent)
	assert.Equal(s.t, above.Flags&0xff, place.Flags&0xff)
	assert.Equal(s.t, above.State, place.State)
}

func program(pid uint32, started uint64) *identity.Program {
	return &identity.Program{Owner: identity.Key{PID: pid}, Started: started, TraceID: [16]byte{1, byte(pid)}, SpanID: [8]byte{1, byte(pid)}}
}

// --- requests ------------------------------------------------------------------------------------

func TestTwoAgentsAgree(t *testing.T) {
	here, there := newScene(t), newScene(t)
	here.client("client", Request{Link: 7, Peer: peer})
	there.server("server", Request{Link: 7, Peer: peer})
	client, server := here.places["client"], there.places["server"]
	assert.Equal(t, client.TraceID, server.TraceID)
	assert.Equal(t, client.SpanID, server.ParentID)
	assert.NotEqual(t, client.SpanID, server.SpanID)
	assert.False(t, client.HasParent())
	assert.Zero(t, client.Link, "it is where the other end looks for it")
	assert.Equal(t, Link(7), server.Link)
	assert.False(t, server.Linked)
	assert.EqualValues(t, flagSampled|flagRandom|flagHas, client.Flags)
	assert.EqualValues(t, flagSampled|flagRandom|flagHas|flagIsRemote, server.Flags)
}

func TestAClientThatNoAgentSeesIsNoParent(t *testing.T) {
	s := newScene(t)
	s.server("public", Request{Link: 1, Peer: public})
	s.requireChild("public", "")
	assert.Zero(t, s.places["public"].Link)
	s.server("local", Request{Link: 2, Peer: local, Now: second})
	s.waits("local")
	s.Tick(second + clientGrace)
	s.waits("local")
	s.Tick(second + clientGrace + 1)
	s.requireChild("local", "")
	s.waits()
}

func TestBothEndsOnThisNode(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1", "10.0.0.1"} {
		for _, serverFirst := range []bool{true, false} {
			t.Run(fmt.Sprint(address, serverFirst), func(t *testing.T) {
				s, r := newScene(t), Request{Link: 1, Peer: netip.MustParseAddr(address)}
				if serverFirst {
					s.server("server", r)
					s.waits("server")
				}
				s.client("client", r)
				if !serverFirst {
					s.server("server", r)
				}
				s.requireChild("client", "")
				s.requireChild("server", "client")
				assert.Zero(t, s.places["server"].Link)
				s.waits()
			})
		}
	}
}

func TestAProgramsRequestTakesItsServerAlong(t *testing.T) {
	s := newScene(t)
	curl := program(10, 0)
	s.places["exec"] = PlaceOf(curl)
	s.server("server", Request{Link: 1, Peer: local})
	s.client("client", Request{Link: 1, Peer: local, Program: curl})
	s.requireChild("client", "exec")
	s.requireChild("server", "client")
	assert.False(t, s.places["client"].Linked)
}

func TestARequestOfAnotherTraceIsLinked(t *testing.T) {
	s, there := newScene(t), newScene(t)
	s.client("client", Request{Link: 1, Peer: peer, Program: program(10, 0)})
	there.server("server", Request{Link: 1, Peer: peer})
	client, server := s.places["client"], there.places["server"]
	assert.NotEqual(t, client.TraceID, server.TraceID)
	assert.True(t, client.Linked)
	assert.Equal(t, client.Link.TraceID(), server.TraceID)
	assert.Equal(t, client.Link.ServerID(), server.SpanID)
	assert.Equal(t, client.SpanID, server.ParentID, "who joins the two need change no id but the trace's")
}

func TestHeadersWin(t *testing.T) {
	s := newScene(t)
	header := Context{TraceID: [16]byte{9}, SpanID: [8]byte{9}, Flags: 0, State: "a=b"}
	s.server("server", Request{Link: 1, Peer: local, Header: header})
	s.client("client", Request{Link: 1, Peer: local, Header: header, Program: program(10, 0)})
	for _, name := range []string{"server", "client"} {
		place := s.places[name]
		assert.Equal(t, header.TraceID, place.TraceID)
		assert.Equal(t, header.SpanID, place.ParentID)
		assert.Equal(t, "a=b", place.State)
		assert.EqualValues(t, flagHas|flagIsRemote, place.Flags, "not sampled, and nobody said that it is random")
	}
}

// --- what a server sends -------------------------------------------------------------------------

func TestAChainIsOneTrace(t *testing.T) {
	s := newScene(t)
	// the innermost ends first
	s.server("3 server", Request{Link: 3, Peer: local})
	s.client("3 client", Request{Link: 3, Peer: local, Cause: Cause{Link: 2, ByThread: true}})
	s.server("2 server", Request{Link: 2, Peer: local})
	s.client("2 client", Request{Link: 2, Peer: local, Cause: Cause{Link: 1}})
	s.waits("3 server", "3 client", "2 server", "2 client")
	s.server("1 server", Request{Link: 1, Peer: public})
	s.requireChild("1 server", "")
	s.requireChild("2 client", "1 server")
	s.requireChild("2 server", "2 client")
	s.requireChild("3 client", "2 server")
	s.requireChild("3 server", "3 client")
	s.waits()
}

func TestAThreadThatDidNotAnswerIsNoCause(t *testing.T) {
	s := newScene(t)
	s.client("before", Request{Link: 2, Peer: peer, Cause: Cause{Link: 1, ByThread: true}})
	place, unit := s.Server(&Request{Link: 1, Peer: public, Answered: false})
	s.note("server", place, unit)
	s.client("after", Request{Link: 3, Peer: peer, Cause: Cause{Link: 1, ByThread: true}})
	s.client("sole", Request{Link: 4, Peer: peer, Cause: Cause{Link: 1}})
	s.requireChild("before", "")
	s.requireChild("after", "")
	s.requireChild("sole", "server")
}

func TestARequestThatLastsLongIsNotWaitedFor(t *testing.T) {
	s := newScene(t)
	s.client("client", Request{Link: 2, Peer: peer, Cause: Cause{Link: 1}, Now: second})
	s.Tick(31 * second)
	s.waits("client")
	s.Tick(31*second + 1)
	s.requireChild("client", "")
	assert.Equal(t, Link(2).TraceID(), s.places["client"].TraceID, "where its other end looks for it")
	assert.EqualValues(t, 1, s.givenUp.MaxWait.Load())
	s.server("server", Request{Link: 1, Peer: public, Now: 32 * second})
	s.client("late", Request{Link: 3, Peer: peer, Cause: Cause{Link: 1}, Now: 33 * second})
	s.requireChild("late", "server")
}

func TestARequestHasNoMoreThanItsShareOfChildren(t *testing.T) {
	s := newScene(t)
	s.server("server", Request{Link: 1, Peer: public})
	for i := range maxChildren + 1 {
		s.client(fmt.Sprint(i), Request{Link: Link(i + 2), Peer: peer, Cause: Cause{Link: 1}})
	}
	s.requireChild(fmt.Sprint(maxChildren-1), "server")
	s.requireChild(fmt.Sprint(maxChildren), "")
	assert.EqualValues(t, 1, s.givenUp.MaxChildren.Load())
}

// A chain of requests, each of which the one before has caused, ends somewhere, and another trace begins.
func TestTracesAreNoDeeperThanMayBe(t *testing.T) {
	s := newScene(t)
	s.server("0", Request{Link: 1, Peer: public})
	for i := range maxDepth {
		s.client(fmt.Sprint("c", i+1), Request{Link: Link(i + 2), Peer: local, Cause: Cause{Link: Link(i + 1)}})
		s.server(fmt.Sprint(i+1), Request{Link: Link(i + 2), Peer: local})
	}
	const half = maxDepth / 2 // a request is two spans
	for i := range half {
		s.requireChild(fmt.Sprint("c", i+1), fmt.Sprint(i))
		s.requireChild(fmt.Sprint(i+1), fmt.Sprint("c", i+1))
	}
	s.requireChild(fmt.Sprint("c", half+1), "")
	assert.NotEqual(t, s.places["0"].TraceID, s.places[fmt.Sprint("c", half+1)].TraceID)
	s.requireChild(fmt.Sprint("c", half+2), fmt.Sprint(half+1))
	assert.EqualValues(t, 1, s.givenUp.MaxDepth.Load())

	deep := program(10, 0)
	deep.Depth = maxDepth - 1
	s.client("of a deep program", Request{Link: 1001, Peer: local, Program: deep})
	s.server("its server", Request{Link: 1001, Peer: local})
	s.client("beyond", Request{Link: 1002, Peer: local, Cause: Cause{Link: 1001}})
	s.requireChild("its server", "of a deep program")
	s.requireChild("beyond", "")
}

// --- connections and lookups ---------------------------------------------------------------------

func TestAConnectionIsWithItsRequest(t *testing.T) {
	for _, parent := range []*identity.Program{nil, program(10, 0)} {
		for _, requestFirst := range []bool{true, false} {
			s := newScene(t)
			c := Connection{Link: 1, Peer: peer.String()}
			if !requestFirst {
				s.connection("connection", c)
				s.waits("connection")
			}
			s.client("client", Request{Link: 1, Peer: peer, Program: parent})
			if requestFirst {
				s.connection("connection", c)
			}
			if parent == nil {
				s.requireChild("connection", "client")
				continue
			}
			s.places["exec"] = PlaceOf(parent)
			s.requireChild("connection", "exec")
		}
	}
}

func TestAConnectionWithoutARequest(t *testing.T) {
	s := newScene(t)
	s.connection("connection", Connection{Link: 1, Peer: peer.String(), Now: second})
	s.Tick(second + requestGrace + 1)
	s.requireChild("connection", "")
	s.client("client", Request{Link: 1, Peer: peer, Now: 9 * second})
	assert.Equal(t, s.places["client"].TraceID, s.places["connection"].TraceID, "a request that comes late is in its trace")
	s.connection("failed", Connection{Peer: peer.String()})
	s.requireChild("failed", "")
}

func TestAHandshakeIsWithItsConnection(t *testing.T) {
	c := Connection{Link: 1, Peer: peer.String(), Now: second}
	later := func(c Connection) Connection { c.Now += second / 2; return c }
	t.Run("of a program", func(t *testing.T) {
		s := newScene(t)
		c := c
		c.Program = program(10, 0)
		s.places["exec"] = PlaceOf(c.Program)
		s.connection("connection", c)
		s.handshake("handshake", later(c))
		s.requireChild("connection", "exec")
		s.requireChild("handshake", "exec")
	})
	t.Run("of a request that is served", func(t *testing.T) {
		s := newScene(t)
		c := c
		c.Cause = Cause{Link: 7, ByThread: true}
		s.connection("connection", c)
		s.handshake("handshake", later(c))
		s.waits("connection", "handshake")
		s.server("server", Request{Link: 7, Peer: public, Now: 2 * second})
		s.requireChild("connection", "server")
		s.requireChild("handshake", "server")
	})
	t.Run("of nobody", func(t *testing.T) {
		s := newScene(t)
		s.connection("connection", c)
		s.waits("connection")
		s.handshake("handshake", later(c))
		s.requireChild("connection", "")
		s.requireChild("handshake", "connection")
	})
	t.Run("of nobody, and late", func(t *testing.T) {
		s := newScene(t)
		s.connection("connection", c)
		s.Tick(second + requestGrace + 1)
		late := c
		late.Now += 2 * requestGrace
		s.handshake("handshake", late)
		s.requireChild("handshake", "connection")
	})
	t.Run("of nobody that is known", func(t *testing.T) {
		s := newScene(t)
		s.handshake("handshake", c)
		s.requireChild("handshake", "")
		assert.Equal(t, Link(1).TraceID(), s.places["handshake"].TraceID)
	})
	t.Run("of a thread that did not answer", func(t *testing.T) {
		s := newScene(t)
		c := c
		c.Cause = Cause{Link: 7, ByThread: true}
		s.connection("connection", c)
		s.handshake("handshake", later(c))
		place, unit := s.Server(&Request{Link: 7, Peer: public, Now: 2 * second})
		s.note("server", place, unit)
		s.requireChild("connection", "")
		s.requireChild("handshake", "connection")
	})
	t.Run("with a lookup before", func(t *testing.T) {
		s := newScene(t)
		s.lookup("lookup", NameLookup{Thread: 10, Name: "web", Type: 1, Answers: []string{peer.String()}, End: 1})
		c := c
		c.Thread, c.Opened = 10, 2
		s.connection("connection", c)
		s.handshake("handshake", later(c))
		s.requireChild("handshake", "connection")
		assert.Equal(t, s.places["connection"].TraceID, s.places["lookup"].TraceID)
	})
}

func TestALookupIsWithItsConnection(t *testing.T) {
	process := identity.Key{PID: 10}
	s := newScene(t)
	s.lookup("A", NameLookup{Process: process, Thread: 10, Name: "web", Type: 1, Answers: []string{"alias", peer.String()}, End: 1})
	s.lookup("AAAA", NameLookup{Process: process, Thread: 10, Name: "web", Type: 28, End: 2})
	s.lookup("other name", NameLookup{Process: process, Thread: 10, Name: "db", Type: 1, Answers: []string{public.String()}, End: 2})
	s.lookup("other thread", NameLookup{Process: process, Thread: 11, Name: "web", Type: 1, Answers: []string{peer.String()}, End: 2})
	s.connection("connection", Connection{Link: 1, Process: process, Thread: 10, Peer: peer.String(), Opened: 3, Now: 4})
	s.client("client", Request{Link: 1, Peer: peer, Now: 5})
	s.requireChild("connection", "client")
	s.requireChild("A", "client")
	s.requireChild("AAAA", "client")
	s.waits("other name", "other thread")
	s.Tick(2 * second)
	s.requireChild("other name", "")
	s.requireChild("other thread", "")
	assert.Empty(t, s.lookups)
}

// TestALookupDoesNotWaitForAConnectionThatIsUntold, nor is it another one's later.
func TestALookupDoesNotWaitForAConnectionThatIsUntold(t *testing.T) {
	process := identity.Key{PID: 10}
	s := newScene(t)
	s.lookup("A", NameLookup{Process: process, Thread: 10, Name: "web", Type: 1, Answers: []string{peer.String()}, End: 1})
	s.lookup("other name", NameLookup{Process: process, Thread: 10, Name: "db", Type: 1, Answers: []string{public.String()}, End: 2})
	s.UntoldConnection(&Connection{Link: 1, Process: process, Thread: 10, Peer: peer.String(), Opened: 3, Now: 4})
	s.requireChild("A", "")
	s.waits("other name")
	s.connection("later", Connection{Link: 2, Process: process, Thread: 10, Peer: peer.String(), Opened: 5, Now: 6})
	s.client("client", Request{Link: 2, Peer: peer, Now: 7})
	s.requireChild("later", "client")
	assert.NotEqual(t, s.places["later"].TraceID, s.places["A"].TraceID)
	s.waits("other name")
}

func TestALookupThatMayBeOfAnotherIsNotDrawn(t *testing.T) {
	process := identity.Key{PID: 10}
	answered := NameLookup{Process: process, Thread: 10, Name: "web", Type: 1, Answers: []string{peer.String()}, End: 1}
	alias := answered
	alias.Name = "www"
	for name, second := range map[string]NameLookup{"asked twice": answered, "two names": alias} {
		s := newScene(t)
		s.lookup("first", answered)
		s.lookup("second", second)
		s.connection("connection", Connection{Link: 1, Process: process, Thread: 10, Peer: peer.String(), Opened: 3, Now: 4})
		s.client("client", Request{Link: 1, Peer: peer, Now: 5})
		s.waits("first", "second")
		s.Flush()
		s.requireChild("first", "")
		s.requireChild("second", "")
		assert.NotEqual(t, s.places["first"].TraceID, s.places["second"].TraceID, name)
	}
}

// TestALookupBeforeTheRequestIsNotForIt: what is known already when a request comes was not looked up for it.
func TestALookupBeforeTheRequestIsNotForIt(t *testing.T) {
	process := identity.Key{PID: 10}
	for _, start := range []uint64{19, 20} {
		s := newScene(t)
		s.lookup("lookup", NameLookup{Process: process, Thread: 11, Name: "web", Type: 1, Answers: []string{peer.String()}, Start: start, End: 21})
		s.connection("connection", Connection{Link: 2, Cause: Cause{Link: 1}, Process: process, Peer: peer.String(), Opened: 22, Now: 23})
		s.server("server", Request{Link: 1, Peer: public, Began: 20, Now: 30})
		s.requireChild("connection", "server")
		s.requireChild("lookup", map[uint64]string{19: "", 20: "server"}[start])
	}
}

func TestALookupAfterTheConnectionIsNotForIt(t *testing.T) {
	process := identity.Key{PID: 10}
	s := newScene(t)
	s.lookup("lookup", NameLookup{Process: process, Name: "web", Type: 1, Answers: []string{peer.String()}, End: 9})
	s.connection("connection", Connection{Link: 1, Process: process, Peer: peer.String(), Opened: 3, Now: 10})
	s.waits("lookup", "connection")
}

func TestWhatAServerLooksUpAndConnectsTo(t *testing.T) {
	s, cause := newScene(t), Cause{Link: 1, ByThread: true}
	s.lookup("lookup", NameLookup{Cause: cause, Name: "db", Answers: []string{peer.String()}})
	s.connection("connection", Connection{Cause: cause, Link: 2, Peer: peer.String()})
	s.client("client", Request{Cause: cause, Link: 2, Peer: peer})
	s.waits("lookup", "connection", "client")
	s.server("server", Request{Link: 1, Peer: public})
	for _, name := range []string{"lookup", "connection", "client"} {
		s.requireChild(name, "server")
	}
	assert.True(t, s.places["client"].Linked)
}

// --- bounds --------------------------------------------------------------------------------------

func TestNoMoreAreHeldThanMay(t *testing.T) {
	s := newScene(t)
	s.options.MaxHeld = 2
	s.server("1", Request{Link: 1, Peer: local})
	s.client("2", Request{Link: 2, Peer: peer, Cause: Cause{Link: 9}})
	s.server("3", Request{Link: 3, Peer: local})
	s.client("4", Request{Link: 4, Peer: peer, Cause: Cause{Link: 9}})
	s.connection("5", Connection{Link: 5, Peer: peer.String()})
	s.lookup("6", NameLookup{})
	s.waits("1", "3")
	for _, name := range []string{"2", "4", "5", "6"} {
		s.requireChild(name, "")
	}
	assert.Equal(t, Link(5).TraceID(), s.places["5"].TraceID)
	assert.EqualValues(t, 4, s.givenUp.MaxHeld.Load())
	s.Flush()
	s.waits()
	assert.Zero(t, s.givenUp.MaxWait.Load(), "the end is no limit")
}

func TestLookupsOfAProcessAreBounded(t *testing.T) {
	s := newScene(t)
	for i := range maxLookups + 1 {
		s.lookup(fmt.Sprint(i), NameLookup{Name: fmt.Sprint(i)})
	}
	assert.Equal(t, maxLookups, s.Held())
	s.requireChild(fmt.Sprint(maxLookups), "")
}

func TestRequestsAreForgotten(t *testing.T) {
	s := newScene(t)
	for i := range maxRequests + 10 {
		s.Client(&Request{Link: Link(i + 1), Peer: peer, Now: uint64(i)})
	}
	assert.Equal(t, maxRequests, s.requests.known())
	assert.Equal(t, maxRequests, s.requests.index.used)
	assert.EqualValues(t, 10, s.givenUp.MaxRequests.Load())
	s.Tick(1000 * second)
	assert.Zero(t, s.requests.known())
	assert.Zero(t, s.requests.index.used)
}

// TestRequestsThatNobodyWaitsForAreForgotten: those whose waiters have given up are no longer kept before others.
func TestRequestsThatNobodyWaitsForAreForgotten(t *testing.T) {
	s := newScene(t)
	const never = 50
	for i := range never {
		s.client(fmt.Sprint(i), Request{Link: Link(100 + i), Peer: peer, Cause: Cause{Link: Link(i + 1)}, Now: 1})
	}
	assert.Equal(t, never, s.Held())
	s.Tick(40 * second)
	assert.Zero(t, s.Held())
	for i := range never {
		s.client(fmt.Sprint("later ", i), Request{Link: Link(300 + i), Peer: peer, Cause: Cause{Link: Link(200 + i)}, Now: 41 * second})
	}
	for i := range maxRequests {
		s.Client(&Request{Link: Link(1000 + i), Peer: peer, Now: 41 * second})
	}
	assert.Equal(t, never, s.Held())
	for i := range never {
		assert.Nil(t, s.requests.find(requestKey{Link(i + 1), true}))
	}
}

func TestLocalAddressesAreBounded(t *testing.T) {
	s := newScene(t)
	for i := range maxLocal + 1 {
		s.Local(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	assert.LessOrEqual(t, len(s.local), maxLocal)
}

func TestNothingWaitsAfterAll(t *testing.T) {
	s := newScene(t)
	for i := range 20 {
		s.client(fmt.Sprint("c", i), Request{Link: Link(100 + i), Peer: local, Cause: Cause{Link: Link(i + 1)}})
		s.server(fmt.Sprint("s", i), Request{Link: Link(100 + i), Peer: local})
	}
	s.Flush()
	assert.Zero(t, s.Held())
	assert.Len(t, s.places, 40)
	for i := range 20 {
		s.requireChild(fmt.Sprint("s", i), fmt.Sprint("c", i))
	}
}

// What waits for one that waits itself has as much time as that.
func TestAServersSideWaitsAsLongAsItsClients(t *testing.T) {
	s := newScene(t)
	s.lookup("lookup", NameLookup{Process: identity.Key{PID: 10}, Name: "web", Answers: []string{local.String()}})
	s.connection("connection", Connection{Link: 2, Process: identity.Key{PID: 10}, Peer: local.String()})
	s.client("client", Request{Link: 2, Peer: local, Cause: Cause{Link: 1}})
	s.server("server", Request{Link: 2, Peer: local})
	s.Tick(29 * second)
	s.waits("lookup", "connection", "client", "server")
	s.server("cause", Request{Link: 1, Peer: public, Now: 29 * second})
	s.requireChild("client", "cause")
	s.requireChild("server", "client")
	s.requireChild("connection", "cause")
	s.requireChild("lookup", "cause")
	s.waits()
	s.Tick(1000 * second)
	for _, q := range s.queues {
		assert.Empty(t, q.units)
	}
}

// Records may say anything: that two were the cause of each other, too.
func TestACircleIsBroken(t *testing.T) {
	for name, end := range map[string]func(*scene){
		"in time": func(s *scene) { s.Tick(31 * second); s.Tick(62 * second) }, "at the end": func(s *scene) { s.Flush() },
	} {
		s := newScene(t)
		s.client("client", Request{Link: 1, Peer: local, Cause: Cause{Link: 1}})
		s.server("server", Request{Link: 1, Peer: local})
		s.waits("client", "server")
		end(s)
		s.waits()
		s.requireChild("server", "")
		assert.Contains(t, s.places, "client", name)
	}
}

// TestWhatWaitsForNothingMakesRoom: requests beyond a container's limit are not told, and what was done for them waits in vain.
func TestWhatWaitsForNothingMakesRoom(t *testing.T) {
	s := newScene(t)
	for i := range 400 {
		now := uint64(i) * second / 1000
		inVain, told := Link(3*i+1), Link(3*i+2)
		s.client(fmt.Sprint("in vain ", i), Request{Link: inVain, Peer: peer, Cause: Cause{Link: inVain + 100_000}, Now: now})
		s.client(fmt.Sprint("child ", i), Request{Link: told, Peer: peer, Cause: Cause{Link: told + 100_000}, Now: now})
		if at := i - 10; at >= 0 {
			s.server(fmt.Sprint("parent ", at), Request{Link: Link(3*at+2) + 100_000, Peer: public, Now: now})
			s.requireChild(fmt.Sprint("child ", at), fmt.Sprint("parent ", at))
		}
	}
	assert.LessOrEqual(t, s.Held(), 100)
	for i := range 300 {
		s.requireChild(fmt.Sprint("in vain ", i), "")
	}
	assert.InDelta(t, 400+10-100, s.givenUp.MaxHeld.Load(), 10, "with what did not need the room that was made for it")
}

// A lookup whose connection waits for longer than all may wait.
func TestALookupDoesNotOutliveItsConnectionsWait(t *testing.T) {
	for _, wait := range []time.Duration{0, 100 * time.Millisecond} {
		s := newScene(t)
		s.Traces = NewTraces(Options{MaxWait: wait, MaxHeld: 100}, NewIDs())
		process := identity.Key{PID: 10}
		s.lookup("lookup", NameLookup{Process: process, Name: "web", Answers: []string{peer.String()}, End: 1})
		s.connection("connection", Connection{Link: 1, Process: process, Peer: peer.String(), Opened: 2, Now: second / 2})
		s.waits("lookup", "connection")
		for now := second; now < 10*second; now += second / 10 {
			s.Tick(now)
		}
		s.waits()
		assert.Contains(t, s.places, "lookup")
		assert.Contains(t, s.places, "connection")
	}
}

// One that waits long keeps no others that have their place.
func TestWhatHasItsPlaceIsLetGo(t *testing.T) {
	s := newScene(t)
	s.client("long", Request{Link: 1, Peer: peer, Cause: Cause{Link: 2}})
	for i := range 20_000 {
		link := Link(10 + 2*i)
		_, unit := s.Client(&Request{Link: link, Peer: peer, Cause: Cause{Link: link + 1}})
		unit.HoldBy(unread{})
		s.Server(&Request{Link: link + 1, Peer: public, Answered: true})
	}
	s.waits("long")
	assert.LessOrEqual(t, len(s.queues[queueServed].units), 2*minCompact)
}

func TestRequestsThatAreWaitedForAreNotForgotten(t *testing.T) {
	s := newScene(t)
	s.client("client", Request{Link: 1, Peer: peer, Cause: Cause{Link: 2}})
	for i := range 2 * maxRequests {
		s.Client(&Request{Link: Link(i + 10), Peer: peer})
	}
	assert.Equal(t, maxRequests, s.requests.known())
	s.server("server", Request{Link: 2, Peer: public})
	s.requireChild("client", "server")
}

// TestWhatWaitsIsGivenUpWhileRoomIsMade: the request that several wait for is dropped as the first of them goes without.
func TestWhatWaitsIsGivenUpWhileRoomIsMade(t *testing.T) {
	s := newScene(t)
	cause := Cause{Link: LinkOf(1, 1)}
	for i := range uint32(3) { // a server opens three connections for one request that it serves
		_, unit := s.Connection(&Connection{Link: LinkOf(100+i, 7), Cause: cause, Opened: second, Now: second})
		require.NotNil(t, unit)
		unit.HoldBy(unread{})
	}
	for i := uint32(0); s.requests.known() < maxRequests-1; i++ { // as many others come meanwhile
		s.Server(&Request{Link: LinkOf(10000+i, 9), Peer: peer, Now: 2 * second})
	}
	s.Untold(cause.Link, true) // it ends while the reader is in a hurry
	assert.Zero(t, s.Held())
}
