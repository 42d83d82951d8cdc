// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

const drawnConversations = 3000

// Lookups of some processes are drawn so that it is known by construction which queries are one.
func TestWhateverIsSearchedForIsToldAsItIs(t *testing.T) {
	for seed := range uint64(drawnConversations) {
		d := &searchDrawer{Rand: rand.New(rand.NewPCG(seed, 53)), resolver: newResolver(t)}
		for range 1 + d.IntN(12) {
			d.drawSearch()
		}
		d.play()
		slices.Sort(d.lookups)
		slices.Sort(d.want)
		if !assert.Equal(t, d.want, d.lookups, "seed %d", seed) {
			t.Logf("seed %d:\n%s", seed, d)
			return
		}
	}
}

// searchDrawer draws lookups, each with a name of its own, so that it is certain what belongs to it.
type searchDrawer struct {
	*rand.Rand
	*resolver
	steps []searchStep
	names int
	want  []string
	log   strings.Builder
}

// searchStep is a query that is sent, or its answer.
type searchStep struct {
	at   uint64
	text string
	do   func()
}

// drawnSearch is what a resolver does for one name.
type drawnSearch struct {
	pid      uint32
	base     string
	names    []string // in the order of the search
	kinds    []uint16
	inTurn   bool // one type after the other
	found    int  // the attempt that has an answer; as many as there are names: none
	timesOut bool // the last one does, instead
	attempts []drawnAttempt
}

type drawnAttempt struct {
	queries []*dns.Exchange
	late    bool // it comes too late to belong to the one before
}

func (d *searchDrawer) chance(percent int) bool { return d.IntN(100) < percent }

func oneOf[T any](d *searchDrawer, values ...T) T { return values[d.IntN(len(values))] }

func (d *searchDrawer) drawSearch() {
	s := d.drawNames()
	began := uint64(1000+d.IntN(3000)) * ms
	for range oneOf(d, 1, 1, 1, 2) { // once more when it is over
		again := *s
		again.attempts = nil
		if again.found = d.IntN(len(s.names) + 1); again.found == len(s.names) {
			again.timesOut = d.chance(10)
		}
		end := d.drawAttempts(&again, began)
		d.expect(&again)
		began = end + uint64(1+d.IntN(500))*ms
		if slices.ContainsFunc(again.attempts, func(a drawnAttempt) bool { return a.late }) {
			began += searchGrace // else it could be the rest of what seems to have begun late
		}
	}
}

func (d *searchDrawer) drawNames() *drawnSearch {
	d.names++
	s := &drawnSearch{pid: uint32(10 + d.IntN(3)), base: fmt.Sprintf("web%d", d.names), inTurn: d.chance(30)}
	s.kinds = oneOf(d, []uint16{typeA}, []uint16{typeA, typeAAAA}, []uint16{typeAAAA, typeA})
	for range oneOf(d, 0, 0, 1, 2) {
		s.base += oneOf(d, ".prod", ".a", `.x\.y`)
	}
	suffixes := oneOf(d,
		[]string{"ns1.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		[]string{"eu.corp.example", "corp.example", "example"},
		[]string{"deep.dept.eu.corp.example", "corp.example"},
		[]string{"corp.example"})
	for _, suffix := range suffixes {
		s.names = append(s.names, s.base+"."+suffix)
	}
	switch d.IntN(4) {
	case 0: // the name as it is goes first, and others are no part of each other
		s.names = []string{s.base, s.base + ".corp.example", s.base + ".example.org", s.base + ".example.net"}
	case 1: // it is not tried
	default:
		s.names = append(s.names, s.base)
	}
	return s
}

// mayBeLate says that the rest of the names is certain to belong together, too.
func (s *drawnSearch) mayBeLate() bool { return s.names[0] != s.base }

// drawAttempts until one has an answer, and say when that is.
func (d *searchDrawer) drawAttempts(s *drawnSearch, now uint64) uint64 {
	for i, name := range s.names {
		var a drawnAttempt
		if i > 0 {
			if a.late = s.mayBeLate() && d.chance(5); a.late {
				now += searchGrace + uint64(1+d.IntN(400))*ms
			} else {
				now += uint64(d.IntN(200)) * ms
			}
		}
		now = d.drawAttempt(s, &a, name, i, now)
		s.attempts = append(s.attempts, a)
		if i == s.found {
			break
		}
	}
	return now
}

func (d *searchDrawer) drawAttempt(s *drawnSearch, a *drawnAttempt, name string, number int, now uint64) (ended uint64) {
	answered := d.IntN(len(s.kinds)) // the type that has an answer, if one has
	ended = now
	for i, kind := range s.kinds {
		begin := now + uint64(i)*ms/8
		if s.inTurn {
			begin = ended
		}
		// A server that fails is asked once more, or another one. Where the other type has found the name meanwhile, that is
		// no part of the search any more.
		if number != s.found && d.chance(8) {
			failed := d.query(s.pid, name, kind)
			a.queries = append(a.queries, failed)
			begin = d.schedule(failed, begin, 2, false)
		}
		x := d.query(s.pid, name, kind)
		a.queries = append(a.queries, x)
		code := oneOf(d, dns.NameError, dns.NameError, dns.NoError)
		if s.timesOut && number == len(s.names)-1 && i == len(s.kinds)-1 { // then nothing more is asked for
			code = timeout
		}
		ended = max(ended, d.schedule(x, begin, code, number == s.found && i == answered))
	}
	slices.SortStableFunc(a.queries, func(x, y *dns.Exchange) int { return cmp.Compare(x.Start, y.Start) })
	return ended
}

// query of which the name is in any case.
func (d *searchDrawer) query(pid uint32, name string, kind uint16) *dns.Exchange {
	text := name
	if d.chance(30) {
		text = strings.ToUpper(name[:1]) + name[1:]
	}
	return &dns.Exchange{
		Question: dns.Question{Name: dns.Name{Text: text, Folded: strings.ToLower(text)}, Type: kind, Class: 1},
		Header:   bpf.WireEventHeader{Pid: pid, StartTime: 1e9}, Events: 2,
	}
}

// schedule a query and its end.
func (d *searchDrawer) schedule(x *dns.Exchange, at uint64, code uint16, hasAnswer bool) (end uint64) {
	const answerTimeout = 5000 * ms
	x.Start, x.End, x.Code = at, at+ms/4+uint64(d.IntN(100))*ms/2, code
	switch {
	case code == timeout:
		x.Code, x.TimedOut, x.End = 0, true, at+answerTimeout
	case hasAnswer:
		x.Code, x.AnswerCount, x.Answers = dns.NoError, 1, []string{"192.0.2.1"}
	}
	d.sent++
	d.steps = append(d.steps,
		searchStep{x.Start, "asks for " + textOf(x), func() { d.Begin(x) }},
		searchStep{x.End, fmt.Sprintf("hears of %s: %q %v", textOf(x), x.ErrorType(), x.Answers), func() { d.End(x) }})
	return x.End
}

// expect the attempts as one lookup, or as more where one came late.
func (d *searchDrawer) expect(s *drawnSearch) {
	from := 0
	for i := range s.attempts {
		if i > 0 && s.attempts[i].late {
			d.expectLookup(s, s.attempts[from:i])
			from = i
		}
	}
	d.expectLookup(s, s.attempts[from:])
}

func (d *searchDrawer) expectLookup(s *drawnSearch, attempts []drawnAttempt) {
	if len(attempts) < 2 {
		return
	}
	var queries, answers []string
	wasted, failure, end := 0, "", uint64(0)
	for _, a := range attempts {
		found := false
		for _, x := range a.queries {
			queries = append(queries, textOf(x))
			found = found || x.AnswerCount > 0
			end = max(end, x.End)
		}
		if !found {
			wasted += len(a.queries)
		}
		for _, x := range a.queries {
			answers = append(answers, x.Answers...)
			if failed := x.ErrorType(); failed != "" && !found {
				failure = failed
			}
		}
		if found {
			failure = ""
		}
	}
	first := attempts[0].queries[0]
	name := first.Question.Name.Text[:len(s.base)]
	d.want = append(d.want, fmt.Sprintf("%s: %s (%d attempts, %d wasted, %d ms, %v, %q)",
		name, strings.Join(queries, ", "), len(attempts), wasted, (end-first.Start)/ms, answers, failure))
}

// play what was drawn in the order of time.
func (d *searchDrawer) play() {
	slices.SortStableFunc(d.steps, func(a, b searchStep) int { return cmp.Compare(a.at, b.at) })
	for _, step := range d.steps {
		d.now = step.at
		if d.chance(50) {
			d.Tick(d.now)
		}
		fmt.Fprintf(&d.log, "%d ms: %s\n", d.now/ms, step.text)
		step.do()
	}
	d.rest()
}

func (d *searchDrawer) String() string { return d.log.String() }
