// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

const (
	ms       = uint64(1e6)
	typeA    = uint16(1)
	typeAAAA = uint16(28)
)

// resolver asks as a program would, and notes what is told of it.
type resolver struct {
	*Lookups
	t       *testing.T
	now     uint64
	pid     uint32
	alone   []string
	lookups []string
	sent    int
	told    int
}

func newResolver(t *testing.T) *resolver {
	r := &resolver{t: t, now: 1000 * ms, pid: 10}
	r.Lookups = NewLookups(r)
	return r
}

func textOf(x *dns.Exchange) string {
	return fmt.Sprintf("%s %s", x.Question.Name.Text, dns.TypeName(x.Question.Type))
}

func (r *resolver) Alone(x *dns.Exchange) {
	r.told++
	r.alone = append(r.alone, textOf(x))
}

func (r *resolver) Searched(l *Lookup) {
	r.told += len(l.Queries)
	var queries []string
	for _, x := range l.Queries {
		queries = append(queries, textOf(x))
	}
	r.lookups = append(r.lookups, fmt.Sprintf("%s: %s (%d attempts, %d wasted, %d ms, %v, %q)",
		l.Name, strings.Join(queries, ", "), l.Attempts, l.Wasted, (l.End-l.Start)/ms, l.Answers, l.ErrorType))
}

// ask sends a query a millisecond later.
func (r *resolver) ask(name string, kind uint16) *dns.Exchange {
	r.now += ms
	x := &dns.Exchange{
		Question: dns.Question{Name: dns.Name{Text: name, Folded: strings.ToLower(name)}, Type: kind, Class: 1},
		Header:   bpf.WireEventHeader{Pid: r.pid, StartTime: 1e9}, Start: r.now, Events: 2,
	}
	r.sent++
	r.Begin(x)
	return x
}

const timeout = ^uint16(0)

// hear answers a query a millisecond later.
func (r *resolver) hear(x *dns.Exchange, code uint16, answers ...string) {
	r.now += ms
	x.End, x.Code, x.AnswerCount, x.Answers = r.now, code, uint16(len(answers)), answers
	if code == timeout {
		x.Code, x.TimedOut = 0, true
	}
	r.End(x)
}

// fail asks for both addresses of names, one after the other, and gets none.
func (r *resolver) fail(names ...string) {
	for _, name := range names {
		a, aaaa := r.ask(name, typeA), r.ask(name, typeAAAA)
		r.hear(a, dns.NameError)
		r.hear(aaaa, dns.NameError)
	}
}

// find asks for both addresses of a name, and gets one.
func (r *resolver) find(name string) {
	a, aaaa := r.ask(name, typeA), r.ask(name, typeAAAA)
	r.hear(aaaa, dns.NoError)
	r.hear(a, dns.NoError, "192.0.2.1")
}

// rest lets all that may follow be too late. All was told then.
func (r *resolver) rest() {
	r.t.Helper()
	for range maxSearches {
		r.now += 2 * searchGrace
		r.Tick(r.now)
	}
	assert.Equal(r.t, r.sent, r.told)
	assert.Empty(r.t, r.processes)
	assert.Zero(r.t, r.held)
}

var clusterNames = []string{"web.ns.svc.cluster.local", "web.svc.cluster.local", "web.cluster.local"}

func both(names ...string) string {
	var queries []string
	for _, name := range names {
		queries = append(queries, name+" A", name+" AAAA")
	}
	return strings.Join(queries, ", ")
}

func TestSearches(t *testing.T) {
	for _, tt := range []struct {
		name    string
		do      func(r *resolver)
		lookups []string
		alone   int
	}{
		{
			name: "the name itself has an answer",
			do: func(r *resolver) {
				r.fail(clusterNames...)
				r.find("web")
			},
			lookups: []string{"web: " + both(append(clusterNames, "web")...) + ` (4 attempts, 6 wasted, 15 ms, [192.0.2.1], "")`},
		},
		{
			name: "a suffix has an answer",
			do: func(r *resolver) {
				r.fail("web.prod.ns.svc.cluster.local")
				r.find("web.prod.svc.cluster.local")
			},
			lookups: []string{"web.prod: " + both("web.prod.ns.svc.cluster.local", "web.prod.svc.cluster.local") + ` (2 attempts, 2 wasted, 7 ms, [192.0.2.1], "")`},
		},
		{
			name: "none has an answer",
			do: func(r *resolver) {
				r.fail(clusterNames...)
				r.fail("web")
			},
			lookups: []string{"web: " + both(append(clusterNames, "web")...) + ` (4 attempts, 8 wasted, 15 ms, [], "NXDOMAIN")`},
		},
		{
			name: "in any case",
			do: func(r *resolver) {
				r.fail("Web.ns.svc.cluster.local")
				r.find("wEB.SVC.cluster.LOCAL")
			},
			lookups: []string{"Web: " + both("Web.ns.svc.cluster.local", "wEB.SVC.cluster.LOCAL") + ` (2 attempts, 2 wasted, 7 ms, [192.0.2.1], "")`},
		},
		{
			name: "the name itself first",
			do: func(r *resolver) {
				r.fail("web.prod", "web.prod.corp.example", "web.prod.example.org")
				r.find("web.prod.example.net")
			},
			lookups: []string{"web.prod: " + both("web.prod", "web.prod.corp.example", "web.prod.example.org", "web.prod.example.net") + ` (4 attempts, 6 wasted, 15 ms, [192.0.2.1], "")`},
		},
		{
			name: "suffixes that are no part of each other",
			do: func(r *resolver) {
				r.fail("web.corp.example", "web.example.org", "web.example.net")
				r.find("web")
			},
			lookups: []string{"web: " + both("web.corp.example", "web.example.org", "web.example.net", "web") + ` (4 attempts, 6 wasted, 15 ms, [192.0.2.1], "")`},
		},
		{
			name: "a list of which some are part of each other",
			do: func(r *resolver) {
				r.fail("web.corp.example", "web.eu.example.org", "web.example.org")
				r.find("web")
			},
			lookups: []string{"web: " + both("web.corp.example", "web.eu.example.org", "web.example.org", "web") + ` (4 attempts, 6 wasted, 15 ms, [192.0.2.1], "")`},
		},
		{
			name: "suffixes that are no part of each other, without the name itself",
			do: func(r *resolver) {
				r.fail("web.corp.example")
				r.find("web.example.org")
			},
			alone: 4,
		},
		{
			name: "a type whose server failed does not delay what the other one has found, and is asked for again by itself",
			do: func(r *resolver) {
				r.fail("web.ns.svc.cluster.local")
				a, aaaa := r.ask("web.svc.cluster.local", typeA), r.ask("web.svc.cluster.local", typeAAAA)
				r.hear(a, dns.NoError, "192.0.2.1")
				r.hear(aaaa, 2)
				r.hear(r.ask("web.svc.cluster.local", typeAAAA), dns.NoError)
			},
			lookups: []string{"web: " + both("web.ns.svc.cluster.local", "web.svc.cluster.local") + ` (2 attempts, 2 wasted, 7 ms, [192.0.2.1], "")`},
			alone:   1,
		},
		{
			name: "one type after the other",
			do: func(r *resolver) {
				for _, name := range []string{"web.ns.svc.cluster.local", "web.svc.cluster.local"} {
					r.hear(r.ask(name, typeA), dns.NameError)
					r.hear(r.ask(name, typeAAAA), dns.NameError)
				}
				r.hear(r.ask("web.cluster.local", typeA), dns.NoError, "192.0.2.1")
			},
			lookups: []string{"web: " + both("web.ns.svc.cluster.local", "web.svc.cluster.local") + `, web.cluster.local A (3 attempts, 4 wasted, 9 ms, [192.0.2.1], "")`},
		},
		{
			name: "the second type is asked for when the first has an answer",
			do: func(r *resolver) {
				r.fail("web.a.example")
				r.hear(r.ask("web.example", typeA), dns.NoError, "192.0.2.1")
				r.hear(r.ask("web.example", typeAAAA), dns.NoError, "2001:db8::1")
				r.find("other")
			},
			lookups: []string{"web: " + both("web.a.example", "web.example") + ` (2 attempts, 2 wasted, 7 ms, [192.0.2.1 2001:db8::1], "")`},
			alone:   2,
		},
		{
			name: "names without records of the type",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), dns.NoError)
				r.hear(r.ask("web.example", typeA), dns.NoError)
			},
			lookups: []string{`web: web.a.example A, web.example A (2 attempts, 2 wasted, 3 ms, [], "")`},
		},
		{
			name: "a server that fails is asked again",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), 2)
				r.hear(r.ask("web.a.example", typeA), dns.NameError)
				r.hear(r.ask("web.example", typeA), dns.NoError, "192.0.2.1")
			},
			lookups: []string{`web: web.a.example A, web.a.example A, web.example A (2 attempts, 2 wasted, 5 ms, [192.0.2.1], "")`},
		},
		{
			name: "the last one gets no answer",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), dns.NameError)
				r.hear(r.ask("web.example", typeA), timeout)
			},
			lookups: []string{`web: web.a.example A, web.example A (2 attempts, 2 wasted, 3 ms, [], "timeout")`},
		},
		{
			name: "one that gets no answer is followed by nothing",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), timeout)
				r.hear(r.ask("web.example", typeA), dns.NoError, "192.0.2.1")
			},
			alone: 2,
		},
		{
			name: "an answer that was cut off is asked for again",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), dns.NameError)
				x := r.ask("web.example", typeA)
				x.Truncated = true
				r.hear(x, dns.NoError)
				r.hear(r.ask("web.example", typeA), dns.NoError, "192.0.2.1")
			},
			lookups: []string{`web: web.a.example A, web.example A, web.example A (2 attempts, 1 wasted, 5 ms, [192.0.2.1], "")`},
		},
		{
			name: "one after the other",
			do: func(r *resolver) {
				for range 2 {
					r.fail("web.a.example")
					r.find("web.example")
				}
				r.fail("web.a.example", "web.example")
				r.fail("web.a.example", "web.example")
			},
			lookups: []string{
				"web: " + both("web.a.example", "web.example") + ` (2 attempts, 2 wasted, 7 ms, [192.0.2.1], "")`,
				"web: " + both("web.a.example", "web.example") + ` (2 attempts, 2 wasted, 7 ms, [192.0.2.1], "")`,
				"web: " + both("web.a.example", "web.example") + ` (2 attempts, 4 wasted, 7 ms, [], "NXDOMAIN")`,
				"web: " + both("web.a.example", "web.example") + ` (2 attempts, 4 wasted, 7 ms, [], "NXDOMAIN")`,
			},
		},
		{
			name: "the same name again and again",
			do: func(r *resolver) {
				r.fail("web.example", "web.example", "web.example")
			},
			alone: 6,
		},
		{
			name: "other names of the process",
			do: func(r *resolver) {
				r.fail("web.ns.svc.cluster.local", "api.svc.cluster.local", "db.cluster.local", "web.example.org")
				r.find("db.example.net")
			},
			alone: 10,
		},
		{
			name: "an answer is there already",
			do: func(r *resolver) {
				r.find("web.ns.svc.cluster.local")
				r.find("web.svc.cluster.local")
			},
			alone: 4,
		},
		{
			name: "an answer is there before the second type is asked for",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), dns.NoError, "192.0.2.1")
				r.hear(r.ask("web.a.example", typeAAAA), dns.NoError)
				r.find("web.example")
				r.hear(r.ask("web.example", typeA), dns.NameError)
				r.find("web")
			},
			lookups: []string{`web: web.example A, web A, web AAAA (2 attempts, 1 wasted, 5 ms, [192.0.2.1], "")`},
			alone:   4,
		},
		{
			name: "another type",
			do: func(r *resolver) {
				r.hear(r.ask("web.a.example", typeA), dns.NameError)
				r.hear(r.ask("web.example", 16), dns.NameError)
			},
			alone: 2,
		},
		{
			name: "too late",
			do: func(r *resolver) {
				r.fail("web.a.example")
				r.now += searchGrace
				r.find("web.example")
			},
			alone: 4,
		},
		{
			name: "before the other has failed",
			do: func(r *resolver) {
				first := r.ask("web.a.example", typeA)
				second := r.ask("web.example", typeA)
				r.hear(first, dns.NameError)
				r.hear(second, dns.NoError, "192.0.2.1")
			},
			alone: 2,
		},
		{
			name: "two processes",
			do: func(r *resolver) {
				r.fail("web.a.example")
				r.pid++
				r.find("web.example")
			},
			alone: 4,
		},
		{
			name: "two processes at a time",
			do: func(r *resolver) {
				one := r.ask("web.a.example", typeA)
				r.pid++
				two := r.ask("web.a.example", typeA)
				r.hear(two, dns.NameError)
				two = r.ask("web.example", typeA)
				r.hear(one, dns.NameError)
				r.pid--
				one = r.ask("web.example", typeA)
				r.hear(one, dns.NoError, "192.0.2.1")
				r.hear(two, dns.NoError, "192.0.2.2")
			},
			lookups: []string{
				`web: web.a.example A, web.example A (2 attempts, 1 wasted, 6 ms, [192.0.2.1], "")`,
				`web: web.a.example A, web.example A (2 attempts, 1 wasted, 6 ms, [192.0.2.2], "")`,
			},
		},
		{
			name: "a process that is not known",
			do: func(r *resolver) {
				r.pid = 0
				r.fail("web.a.example")
				r.find("web.example")
			},
			alone: 4,
		},
		{
			name: "two lookups of one process at a time",
			do: func(r *resolver) {
				one, two := r.ask("web.a.example", typeA), r.ask("api.a.example", typeA)
				r.hear(one, dns.NameError)
				r.hear(two, dns.NameError)
				two, one = r.ask("api.example", typeA), r.ask("web.example", typeA)
				r.hear(one, dns.NoError, "192.0.2.1")
				r.hear(two, dns.NoError, "192.0.2.2")
			},
			lookups: []string{
				`web: web.a.example A, web.example A (2 attempts, 1 wasted, 6 ms, [192.0.2.1], "")`,
				`api: api.a.example A, api.example A (2 attempts, 1 wasted, 6 ms, [192.0.2.2], "")`,
			},
		},
		{
			name: "two lookups of the same name at a time",
			do: func(r *resolver) {
				one, two := r.ask("web.a.example", typeA), r.ask("web.a.example", typeA)
				r.hear(one, dns.NameError)
				one = r.ask("web.example", typeA)
				r.hear(two, dns.NameError)
				two = r.ask("web.example", typeA)
				r.hear(one, dns.NoError, "192.0.2.1")
				r.hear(two, dns.NoError, "192.0.2.1")
			},
			alone: 4,
		},
		{
			name: "two lookups of the same name, one behind the other",
			do: func(r *resolver) {
				r.fail("web.a.b.example")
				one := r.ask("web.b.example", typeA)
				r.fail("web.a.b.example")
				r.hear(one, dns.NameError)
				r.fail("web.example", "web.example")
			},
			alone: 9,
		},
		{
			name: "a name that two may go on with",
			do: func(r *resolver) {
				one, two := r.ask("web.a.example", typeA), r.ask("web.b.example", typeA)
				r.hear(one, dns.NameError)
				r.hear(two, dns.NameError)
				r.find("web.example")
			},
			alone: 4,
		},
		{
			name: "something else between them",
			do: func(r *resolver) {
				r.fail("web.a.b.example")
				r.fail("web.other")
				r.find("web.b.example")
			},
			lookups: []string{"web: " + both("web.a.b.example", "web.b.example") + ` (2 attempts, 2 wasted, 11 ms, [192.0.2.1], "")`},
			alone:   2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newResolver(t)
			tt.do(r)
			r.rest()
			assert.ElementsMatch(t, tt.lookups, r.lookups)
			assert.Len(t, r.alone, tt.alone, r.alone)
		})
	}
}

func TestAnAnswerIsToldAtOnce(t *testing.T) {
	r := newResolver(t)
	a, aaaa := r.ask("web", typeA), r.ask("web", typeAAAA)
	r.hear(aaaa, dns.NoError)
	assert.Empty(t, r.alone, "it may be part of a search")
	r.hear(a, dns.NoError, "192.0.2.1")
	assert.Equal(t, []string{"web A", "web AAAA"}, r.alone)
	a, aaaa = r.ask("web", typeA), r.ask("web", typeAAAA)
	r.hear(a, dns.NoError, "192.0.2.1")
	assert.Len(t, r.alone, 3)
	r.hear(aaaa, dns.NoError)
	assert.Len(t, r.alone, 4)
	r.rest()
}

func TestAFailureIsHeldForTheGrace(t *testing.T) {
	r := newResolver(t)
	r.hear(r.ask("web", typeA), dns.NameError)
	r.Tick(r.now + searchGrace)
	assert.Empty(t, r.alone)
	r.Tick(r.now + searchGrace + 1)
	assert.Len(t, r.alone, 1)
}

func TestAFailureIsHeldWhileTheNextOneIsOnItsWay(t *testing.T) {
	r := newResolver(t)
	r.hear(r.ask("web.a.example", typeA), dns.NameError)
	x := r.ask("web.example.org", typeA)
	r.now += 10 * searchGrace
	r.Tick(r.now)
	assert.Empty(t, r.alone)
	r.hear(x, dns.NameError)
	r.hear(r.ask("web", typeA), dns.NoError, "192.0.2.1")
	assert.Len(t, r.lookups, 1)
	r.rest()
}

func TestWhatIsHeldIsToldAtTheEnd(t *testing.T) {
	r := newResolver(t)
	r.fail("web.a.example", "web.example")
	r.pid++
	r.fail("web.a.example")
	r.ask("web.example", typeA)
	r.Flush()
	assert.Len(t, r.lookups, 1)
	assert.Len(t, r.alone, 2, "a lookup that goes on has no end")
	assert.Zero(t, r.held)
}

func TestAQueryThatIsNotFollowedMakesItsSearchUnclear(t *testing.T) {
	r := newResolver(t)
	r.fail("web.a.example")
	x := r.ask("web.example", typeA)
	r.Drop(x)
	r.sent--
	r.Drop(x)
	assert.Len(t, r.alone, 2)
	r.find("web")
	r.rest()
	assert.Empty(t, r.lookups)
}

func TestOtherOperationsAreNoLookups(t *testing.T) {
	r := newResolver(t)
	x := &dns.Exchange{Opcode: 5, Question: dns.Question{Class: 1}, Header: bpf.WireEventHeader{Pid: 10}}
	r.Begin(x)
	r.hear(x, dns.NameError)
	assert.Len(t, r.alone, 1)
}

func TestSearchesAreBounded(t *testing.T) {
	r := newResolver(t)
	var pending []*dns.Exchange
	for i := range 10 * maxSearches {
		pending = append(pending, r.ask(fmt.Sprintf("web%d.example", i), typeA))
	}
	for _, process := range r.processes {
		assert.Len(t, process.open, maxSearches)
	}
	for _, x := range pending {
		r.hear(x, dns.NameError)
	}
	assert.Len(t, r.alone, 9*maxSearches)
	r.rest()

	r = newResolver(t)
	name := "example"
	for range 2 * maxAttempts {
		name = "a." + name
	}
	for range 2*maxAttempts - 1 {
		r.hear(r.ask("web."+name, typeA), dns.NameError)
		name = name[2:]
	}
	r.rest()
	assert.Len(t, r.lookups, 2)

	r = newResolver(t)
	for i := range 2 * maxHeld {
		r.pid = uint32(i + 1)
		r.hear(r.ask("web.example", typeA), dns.NameError)
	}
	assert.Len(t, r.alone, maxHeld)
	r.rest()
}

// TestOneNameWithoutEnd: what is noted of it does not grow.
func TestOneNameWithoutEnd(t *testing.T) {
	r := newResolver(t)
	var pending []*dns.Exchange
	for i := range 1000 {
		pending = append(pending, r.ask("web.example", typeA))
		if i >= 100 {
			r.hear(pending[0], dns.NameError)
			pending = pending[1:]
		}
	}
	for _, process := range r.processes {
		require.Len(t, process.open, 1)
		assert.LessOrEqual(t, cap(process.open[0].current().queries), 2*maxQueries)
	}
	for _, x := range pending {
		r.hear(x, dns.NameError)
	}
	r.rest()
	assert.Len(t, r.alone, 1000)

	r = newResolver(t)
	for i := range 1000 { // more names than are noted, all with an answer
		r.find(fmt.Sprintf("web%d.example", i))
	}
	r.fail("web.a.example")
	r.find("web.example")
	r.rest()
	assert.Len(t, r.lookups, 1)
}

// TestManyThatMayBelongTogether: names of one beginning without end do not hold each other for ever.
func TestManyThatMayBelongTogether(t *testing.T) {
	r := newResolver(t)
	for i := range 500 {
		r.hear(r.ask(fmt.Sprintf("www.example%d.com", i), typeA), dns.NameError)
		r.now += searchGrace / 2
		r.Tick(r.now)
		require.LessOrEqual(t, r.sent-r.told, maxSearches)
	}
	r.rest()
	assert.Empty(t, r.lookups)
}

func BenchmarkAnswerAtOnce(b *testing.B) {
	l := NewLookups(nobody{})
	x := &dns.Exchange{Question: dns.Question{Name: dns.Name{Text: "web", Folded: "web"}, Type: typeA, Class: 1}, Header: bpf.WireEventHeader{Pid: 10}, AnswerCount: 1}
	b.ReportAllocs()
	for b.Loop() {
		l.Begin(x)
		l.End(x)
	}
}

type nobody struct{}

func (nobody) Alone(*dns.Exchange) {}

func (nobody) Searched(*Lookup) {}
