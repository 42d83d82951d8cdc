// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	"slices"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

const (
	// searchGrace is how long after an answer a resolver may ask for the next name of its search
	// list. It does so at once, but may have to wait for the CPU.
	searchGrace = 250e6
	// maxSearches of a process at a time. One with more is a server's, whose questions are not its own.
	maxSearches = 32
	// maxAttempts of a search: resolvers' lists are shorter.
	maxAttempts = 32
	// maxQueries for a name at a time are noted.
	maxQueries = 64
	// maxBefore searches may be the beginning of one.
	maxBefore = 8
	// maxUnused searches are kept to be used again.
	maxUnused = 1024
	// maxHeld queries wait for what follows; beyond that nothing does.
	maxHeld = 8192

	classInternet = 1
)

// Lookup is a name that was asked for with the suffixes of a search list, until one had an answer.
type Lookup struct {
	// Queries are all of it, in the order in which they were sent.
	Queries []*dns.Exchange
	// Name that was looked up, without a suffix.
	Name string
	// Attempts are the names that were tried, Wasted the queries for those that had no answer.
	Attempts, Wasted int
	Start, End       uint64
	Answers          []string
	// ErrorType is that of the last query that failed, if no attempt had an answer.
	ErrorType string
}

// LookupEvents is who is told of finished queries.
type LookupEvents interface {
	// Alone is a query that is part of no Lookup.
	Alone(x *dns.Exchange)
	// Searched is a Lookup of more than one attempt. It is valid during the call.
	Searched(l *Lookup)
}

// Lookups find out which queries belong to one lookup. Queries are told when that is certain: those
// that fail are held for a while, as the next one may belong to them.
type Lookups struct {
	events    LookupEvents
	processes map[identity.Key]*searches
	held      int
	unused    []*search
	lookup    Lookup
}

// searches of one process.
type searches struct{ open []*search }

// search is a lookup as it goes on: each attempt begins after the one before has failed.
type search struct {
	attempts []attempt
	bases    lengths // that the name may have
	// unclear says that two lookups may be mixed here, or that it is clear already that there is no
	// more than one attempt: nothing of it is held or joined.
	unclear bool
	// before is a search that may turn out to be the beginning of this one. It is held as long.
	before *search
	after  int // searches that this one may be the beginning of
	depth  int // searches before this one
}

// attempt is one name.
type attempt struct {
	name      string // in lower case
	queries   []query
	pending   int
	ended     uint64 // the last answer so far
	succeeded bool
	timedOut  bool
}

type query struct {
	exchange *dns.Exchange // nil once it was told
	kind     uint16
	done     bool
	final    bool // nobody needs to ask the same again
}

// NewLookups returns Lookups that tell what they find.
func NewLookups(events LookupEvents) *Lookups {
	return &Lookups{events: events, processes: map[identity.Key]*searches{}}
}

// Begin notes a query that was sent.
func (l *Lookups) Begin(x *dns.Exchange) {
	if x.Header.Pid == 0 || !x.IsLookup() || x.Question.Class != classInternet {
		return
	}
	process := l.processOf(x)
	if s := process.asking(x); s == nil {
		l.finishRepeated(process, x)
		l.next(process, x)
	} else if s.accepts(x) {
		s.addQuery(x)
	} else {
		l.repeated(process, s, x)
	}
}

func (l *Lookups) processOf(x *dns.Exchange) *searches {
	key := identity.KeyOf(x.Header.Pid, x.Header.StartTime)
	process := l.processes[key]
	if process == nil {
		process = &searches{}
		l.processes[key] = process
	}
	return process
}

// asking is the search whose present attempt is for the name.
func (p *searches) asking(x *dns.Exchange) *search {
	for _, s := range p.open {
		last := s.current()
		if last.name == x.Question.Name.Folded && (last.pending > 0 || x.Start <= last.ended+searchGrace) {
			return s
		}
	}
	return nil
}

func (s *search) current() *attempt { return &s.attempts[len(s.attempts)-1] }

func (s *search) rests() bool { return s.current().pending == 0 }

// accepts says whether a query can be one more of the present attempt: of another type, or again
// where a server failed or its answer was cut off.
func (s *search) accepts(x *dns.Exchange) bool {
	return !slices.ContainsFunc(s.current().queries, func(q query) bool {
		return q.kind == x.Question.Type && (!q.done || q.final)
	})
}

// repeated: the same question again. If the search rests, it is over and another begins, else two go
// on at a time. Where that was so before, any of them may go on.
func (l *Lookups) repeated(process *searches, s *search, x *dns.Exchange) {
	if s.rests() && (!s.unclear || s.current().succeeded) {
		l.finish(process, s)
		l.begin(process, x, nil)
		return
	}
	l.giveUp(s)
	s.addQuery(x)
}

// finishRepeated ends the searches that have asked for the name before: they begin anew.
func (l *Lookups) finishRepeated(process *searches, x *dns.Exchange) {
	for i := len(process.open) - 1; i >= 0; i-- {
		if s := process.open[i]; s.rests() && s.hasAsked(x.Question.Name.Folded) {
			l.finish(process, s)
		}
	}
}

func (s *search) hasAsked(name string) bool {
	return slices.ContainsFunc(s.attempts, func(a attempt) bool { return a.name == name })
}

// next finds the search that the query goes on with. Of more than one, none is certain.
func (l *Lookups) next(process *searches, x *dns.Exchange) {
	var sure, possible []*search
	for _, s := range process.open {
		if !s.mayGoOn(x) {
			continue
		}
		switch s.link(x.Question.Name.Folded) {
		case linkSure:
			sure = append(sure, s)
		case linkPossible:
			possible = append(possible, s)
		}
	}
	sure, possible = withoutBeginnings(sure), withoutBeginnings(possible)
	switch {
	case len(sure) == 1:
		l.goOn(process, sure[0], x)
	case len(sure) > 1:
		for _, s := range sure {
			l.giveUp(s)
		}
		sure[0].add(x)
	case len(possible) == 1:
		l.begin(process, x, possible[0])
	default:
		l.begin(process, x, nil)
	}
}

// withoutBeginnings leaves out searches that others of them may have gone on with.
func withoutBeginnings(found []*search) []*search {
	if len(found) < 2 {
		return found
	}
	return slices.DeleteFunc(slices.Clone(found), func(s *search) bool {
		return slices.ContainsFunc(found, func(other *search) bool { return other.begunBy(s) })
	})
}

func (s *search) begunBy(other *search) bool {
	for before := s.before; before != nil; before = before.before {
		if before == other {
			return true
		}
	}
	return false
}

// mayGoOn says that the query comes when the search's next one would.
func (s *search) mayGoOn(x *dns.Exchange) bool {
	last := s.current()
	return s.rests() && !last.succeeded && !last.timedOut && len(s.attempts) < maxAttempts &&
		x.Start >= last.ended && x.Start <= last.ended+searchGrace &&
		last.hasAsked(x.Question.Type)
}

type link uint8

const (
	linkNone link = iota
	linkPossible
	linkSure
)

// link between the search and a name.
func (s *search) link(name string) link {
	sure, possible := relation(s.current().name, name)
	switch {
	case sure&s.bases != 0, s.isBaseAsked() && possible&s.bases != 0:
		return linkSure
	case possible != 0:
		return linkPossible
	default:
		return linkNone
	}
}

// isBaseAsked says that the name itself was asked for, so that it is known.
func (s *search) isBaseAsked() bool {
	return s.bases.isOne() && slices.ContainsFunc(s.attempts, func(a attempt) bool {
		return countLabels(a.name) == s.bases.shortest()
	})
}

// goOn adds the next attempt. Where it is the name itself, searches that could not be told to belong
// to this one before are its beginning.
func (l *Lookups) goOn(process *searches, s *search, x *dns.Exchange) {
	s.narrow(s.current().name, x.Question.Name.Folded)
	s.add(x)
	for s.before != nil && s.before.mayBegin(s) {
		l.join(process, s.before, s)
	}
}

// narrow the bases to those that a further name allows.
func (s *search) narrow(last, name string) {
	sure, possible := relation(last, name)
	if sure&s.bases != 0 {
		s.bases &= sure
	} else {
		s.bases &= possible
	}
	for _, whole := range []string{last, name} {
		if n := countLabels(whole); n <= maxLabels && s.bases.has(n) {
			s.bases = 1 << n
		}
	}
}

// mayBegin says that the name is known, that all attempts are that name with a suffix, and that
// nothing else has come of them.
func (s *search) mayBegin(other *search) bool {
	if !other.isBaseAsked() || s.unclear || s.after != 1 || len(s.attempts)+len(other.attempts) > maxAttempts {
		return false
	}
	name := firstLabels(other.current().name, other.bases.shortest())
	return !slices.ContainsFunc(s.attempts, func(a attempt) bool {
		sure, _ := relation(a.name, name)
		return sure&other.bases == 0
	})
}

// join puts the attempts of a search before those of another.
func (l *Lookups) join(process *searches, first, second *search) {
	second.attempts = append(first.attempts, second.attempts...)
	second.before = first.before // which counts on
	first.attempts, first.before = nil, nil
	process.remove(first)
}

// begin a search.
func (l *Lookups) begin(process *searches, x *dns.Exchange, before *search) {
	if len(process.open) >= maxSearches && !l.finishAnswered(process) {
		return
	}
	s := l.fresh()
	if before != nil && before.depth < maxBefore && !before.unclear {
		s.before, s.depth = before, before.depth+1
		before.after++
	}
	s.add(x)
	process.open = append(process.open, s)
}

// finishAnswered makes room.
func (l *Lookups) finishAnswered(process *searches) bool {
	for _, s := range process.open {
		if s.rests() && s.current().succeeded {
			l.finish(process, s)
			return true
		}
	}
	return false
}

func (l *Lookups) fresh() *search {
	s := &search{}
	if n := len(l.unused); n > 0 {
		s = l.unused[n-1]
		l.unused = l.unused[:n-1]
	}
	s.bases = ^lengths(0)
	return s
}

func (l *Lookups) release(s *search) {
	if len(l.unused) < maxUnused {
		*s = search{attempts: s.attempts[:0]}
		l.unused = append(l.unused, s)
	}
}

// add an attempt, in the room of one that was there before.
func (s *search) add(x *dns.Exchange) {
	n := len(s.attempts)
	if n < cap(s.attempts) {
		s.attempts = s.attempts[:n+1]
	} else {
		s.attempts = append(s.attempts, attempt{})
	}
	a := &s.attempts[n]
	*a = attempt{name: x.Question.Name.Folded, queries: a.queries[:0]}
	a.add(x)
}

func (a *attempt) add(x *dns.Exchange) {
	a.queries = append(a.queries, query{exchange: x, kind: x.Question.Type})
	a.pending++
}

// addQuery to the present attempt. Where nothing is held, it takes the place of one that was told,
// and of too many at a time some are not noted.
func (s *search) addQuery(x *dns.Exchange) {
	a := s.current()
	if !s.unclear {
		a.add(x)
		return
	}
	told := slices.IndexFunc(a.queries, func(q query) bool { return q.done && q.kind == x.Question.Type })
	if told >= 0 {
		a.queries[told] = query{exchange: x, kind: x.Question.Type}
		a.pending++
	} else if len(a.queries) < maxQueries {
		a.add(x)
	}
}

// End notes that a query has its answer, or will have none. It is told now or later.
func (l *Lookups) End(x *dns.Exchange) {
	process, s, q := l.find(x)
	if s == nil {
		l.events.Alone(x)
		return
	}
	a := s.current()
	a.end(x, q)
	if s.unclear {
		q.exchange = nil
		l.events.Alone(x)
	} else {
		l.held++
	}
	switch {
	case a.succeeded && len(s.attempts) == 1: // it stays, for the types that follow
		l.giveUp(s)
	case a.pending == 0 && (a.succeeded && s.isComplete() || a.timedOut || l.held > maxHeld):
		l.finish(process, s)
	}
}

// isComplete says that the present attempt has had all types that the one before had: a fast server
// answers the first before the second is sent. One whose server failed may be asked for once more, but the connection
// that the other one's answer is for would come first, and find no name.
func (s *search) isComplete() bool {
	for _, q := range s.attempts[max(len(s.attempts)-2, 0)].queries {
		if !s.current().hasAsked(q.kind) {
			return false
		}
	}
	return true
}

func (a *attempt) hasAsked(kind uint16) bool {
	return slices.ContainsFunc(a.queries, func(q query) bool { return q.kind == kind })
}

func (a *attempt) end(x *dns.Exchange, q *query) {
	q.done = true
	q.final = !x.Truncated && !x.TimedOut && (x.Code == dns.NoError || x.Code == dns.NameError)
	a.pending--
	a.ended = max(a.ended, x.End)
	a.timedOut = a.timedOut || x.TimedOut
	a.succeeded = a.succeeded || q.final && x.Code == dns.NoError && x.AnswerCount > 0
}

// find a query that is pending.
func (l *Lookups) find(x *dns.Exchange) (*searches, *search, *query) {
	process := l.processes[identity.KeyOf(x.Header.Pid, x.Header.StartTime)]
	if process == nil {
		return nil, nil, nil
	}
	for _, s := range process.open {
		a := s.current()
		for i := range a.queries {
			if a.queries[i].exchange == x {
				return process, s, &a.queries[i]
			}
		}
	}
	return nil, nil, nil
}

// Drop forgets a query that is not followed any more. What it belongs to cannot be told then.
func (l *Lookups) Drop(x *dns.Exchange) {
	if _, s, q := l.find(x); s != nil {
		l.giveUp(s)
		q.exchange, q.done = nil, true
		s.current().pending--
	}
}

// giveUp tells what a search has held, and holds nothing any more.
func (l *Lookups) giveUp(s *search) {
	s.unclear = true
	s.leave()
	l.tellAlone(s)
}

func (s *search) leave() {
	if s.before != nil {
		s.before.after--
		s.before, s.depth = nil, 0
	}
}

func (l *Lookups) tellAlone(s *search) {
	for i := range s.attempts {
		queries := s.attempts[i].queries
		for j := range queries {
			if q := &queries[j]; q.done && q.exchange != nil {
				x := q.exchange
				q.exchange = nil
				l.held--
				l.events.Alone(x)
			}
		}
	}
}

// finish tells a search that rests.
func (l *Lookups) finish(process *searches, s *search) {
	process.remove(s)
	s.leave()
	for _, other := range process.open {
		if other.before == s {
			other.leave()
		}
	}
	if s.unclear || len(s.attempts) == 1 {
		l.tellAlone(s)
	} else {
		l.tellSearched(s)
	}
	l.release(s)
}

func (p *searches) remove(s *search) {
	p.open = slices.DeleteFunc(p.open, func(other *search) bool { return other == s })
}

func (l *Lookups) tellSearched(s *search) {
	first := s.attempts[0].queries[0].exchange
	l.lookup = Lookup{
		Name:     firstLabels(first.Question.Name.Text, s.bases.shortest()),
		Attempts: len(s.attempts),
		Start:    first.Start,
		Queries:  l.lookup.Queries[:0],
		Answers:  l.lookup.Answers[:0],
	}
	for i := range s.attempts {
		l.lookup.add(&s.attempts[i])
	}
	l.held -= len(l.lookup.Queries)
	l.events.Searched(&l.lookup)
}

func (l *Lookup) add(a *attempt) {
	if a.succeeded {
		l.ErrorType = ""
	} else {
		l.Wasted += len(a.queries)
	}
	for i := range a.queries {
		x := a.queries[i].exchange
		l.Queries = append(l.Queries, x)
		l.Start, l.End = min(l.Start, x.Start), max(l.End, x.End)
		if a.succeeded {
			l.Answers = append(l.Answers, x.Answers...)
		} else if failure := x.ErrorType(); failure != "" {
			l.ErrorType = failure
		}
	}
}

// Tick tells what nothing can follow any more.
func (l *Lookups) Tick(now uint64) {
	for key, process := range l.processes {
		for i := len(process.open) - 1; i >= 0; i-- {
			if s := process.open[i]; s.rests() && s.after == 0 && s.current().ended+searchGrace < now {
				l.finish(process, s)
			}
		}
		if len(process.open) == 0 {
			delete(l.processes, key)
		}
	}
}

// Flush tells what is held, since nothing more will come. A search that is not at its end is none.
func (l *Lookups) Flush() {
	for _, process := range l.processes {
		for i := len(process.open) - 1; i >= 0; i-- {
			if s := process.open[i]; s.rests() {
				l.finish(process, s)
			} else {
				l.giveUp(s)
			}
		}
	}
}
