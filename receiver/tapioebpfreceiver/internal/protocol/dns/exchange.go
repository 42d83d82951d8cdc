// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"

import (
	"github.com/tapio-io/otelcol-tapio/bpf"
)

// maxPending queries wait for an answer.
const maxPending = 32768

// maxUnusedExchanges are kept to be used again.
const maxUnusedExchanges = 4096

// Exchange is a query and its answer.
type Exchange struct {
	Question Question
	Opcode   uint8
	// Header is that of the query, or of the answer if only that has a process;
	// Ends are those of the answer, or of the query that was sent last.
	Header bpf.WireEventHeader
	Ends   bpf.WireConnectionEnds
	Cause  bpf.WireCause // of the query that was sent first
	// Start is when the query was sent first; End when the answer came or was waited for no longer.
	Start, End uint64
	Retries    uint32
	// Events that end with the exchange.
	Events uint64

	// What the answer says; without one, TimedOut.
	TimedOut    bool
	Truncated   bool
	Code        uint16
	AnswerCount uint16
	Answers     []string
	TTL         uint32 // s; the least of the answers'

	id             uint16
	socket         uint64
	sent           uint64    // last
	older, younger *Exchange // in the order of when they were sent last
	next           *Exchange // of the same socket and id
}

// Failed says that nobody answered, or with an error.
func (x *Exchange) Failed() bool { return x.TimedOut || x.Code != NoError }

// ErrorTimeout is the error of a query that nobody answered in time.
const ErrorTimeout = "timeout"

// ErrorType is what went wrong; empty if nothing did. A name without records of the type that was
// asked for is no error.
func (x *Exchange) ErrorType() string {
	switch {
	case x.TimedOut:
		return ErrorTimeout
	case x.Code != NoError:
		return ResponseCodeName(x.Code)
	default:
		return ""
	}
}

// IsLookup says that something was looked up; other operations change or announce it.
func (x *Exchange) IsLookup() bool { return x.Opcode == OpcodeQuery }

type pairKey struct {
	socket uint64
	id     uint16
}

const (
	// ResendSlack is how much later than the timeout a query may be sent again, ns: glibc does so after as long as is the
	// usual timeout here, and it takes a moment. Nobody has given up then.
	ResendSlack = 100e6
	// maxTimeouts of a query, from when it was sent first: there are programs that never stop asking.
	maxTimeouts = 4
)

// Pairs find the answers of queries.
type Pairs struct {
	timeout uint64 // ns
	pending map[pairKey]*Exchange
	// oldest and youngest are the ends of a list of all that are pending.
	oldest, youngest *Exchange
	count            int
	unused           []*Exchange
}

// NewPairs returns Pairs that wait so many ns for an answer.
func NewPairs(timeout uint64) *Pairs {
	return &Pairs{timeout: timeout, pending: map[pairKey]*Exchange{}}
}

// Sent notes a query. One that is pending already is sent again: then the exchange is not new.
func (p *Pairs) Sent(m *Message, framed *Framed) (x *Exchange, isNew bool) {
	key := pairKey{framed.Socket, m.ID}
	for x = p.pending[key]; x != nil; x = x.next {
		if x.Question.equal(&m.Question) && x.Opcode == m.Opcode {
			x.Retries++
			x.Events += framed.Events
			x.Ends = framed.Ends
			p.waitAnew(x, framed.Began)
			return x, false
		}
	}
	x = p.fresh()
	*x = Exchange{
		Question: m.Question, Opcode: m.Opcode, Header: framed.Header, Ends: framed.Ends, Cause: framed.Cause, Start: framed.Began,
		Events: framed.Events, Answers: x.Answers[:0],
		id: m.ID, socket: framed.Socket, sent: framed.Began, next: p.pending[key],
	}
	p.pending[key] = x
	p.append(x)
	return x, true
}

// waitAnew for the answer of a query that is sent again.
func (p *Pairs) waitAnew(x *Exchange, now uint64) {
	if now > x.Start+(maxTimeouts-1)*p.timeout {
		return
	}
	x.sent = now
	p.unlist(x)
	p.list(x)
}

func (q *Question) equal(other *Question) bool {
	return q.Type == other.Type && q.Class == other.Class && q.Name.Folded == other.Name.Folded
}

func (p *Pairs) fresh() *Exchange {
	if n := len(p.unused); n > 0 {
		x := p.unused[n-1]
		p.unused = p.unused[:n-1]
		return x
	}
	return &Exchange{}
}

// Release lets an exchange be used for another query.
func (p *Pairs) Release(x *Exchange) {
	if len(p.unused) < maxUnusedExchanges {
		p.unused = append(p.unused, x)
	}
}

// Received finds the query that a message answers, which is then pending no more; nil if there is
// none. An answer after the timeout is none.
func (p *Pairs) Received(m *Message, framed *Framed) *Exchange {
	x := p.find(m, framed)
	if x == nil || framed.Ended > x.sent+p.timeout {
		return nil
	}
	p.remove(x)
	x.End, x.Ends = framed.Ended, framed.Ends
	if x.Header.Pid == 0 {
		x.Header = framed.Header
	}
	x.Events += framed.Events
	x.Code, x.Truncated, x.AnswerCount = m.Code, m.Truncated, m.AnswerCount
	x.Answers, x.TTL = append(x.Answers, m.Answers...), m.TTL
	return x
}

// find the query. Where the answer leaves out the question, the id must be enough.
func (p *Pairs) find(m *Message, framed *Framed) *Exchange {
	first := p.pending[pairKey{framed.Socket, m.ID}]
	if !m.Asked {
		if first == nil || first.next != nil || first.Opcode != m.Opcode {
			return nil
		}
		return first
	}
	for x := first; x != nil; x = x.next {
		if x.Question.equal(&m.Question) && x.Opcode == m.Opcode {
			return x
		}
	}
	return nil
}

// Overdue takes out a query whose answer is waited for no longer, and that was not sent again in ResendSlack; nil if there
// is none.
func (p *Pairs) Overdue(now uint64) *Exchange {
	x := p.oldest
	if x == nil || x.sent+p.timeout+ResendSlack >= now {
		return nil
	}
	return p.timeOut(x)
}

// Abandoned takes out a query whose answer is waited for no longer and whose process asks for something else now, which it
// does when it has given up; nil if there is none.
func (p *Pairs) Abandoned(framed *Framed) *Exchange {
	if framed.Header.Pid == 0 {
		return nil // nobody knows whose it is
	}
	for x := p.oldest; x != nil && x.sent+p.timeout < framed.Began; x = x.younger {
		if x.Header.Pid == framed.Header.Pid && x.Header.StartTime == framed.Header.StartTime {
			return p.timeOut(x)
		}
	}
	return nil
}

func (p *Pairs) timeOut(x *Exchange) *Exchange {
	p.remove(x)
	x.End, x.TimedOut = x.sent+p.timeout, true
	return x
}

// Excess takes out the oldest query if there are too many; nil if there are not.
func (p *Pairs) Excess() *Exchange {
	x := p.oldest
	if p.count <= maxPending {
		return nil
	}
	p.remove(x)
	return x
}

func (p *Pairs) append(x *Exchange) {
	p.count++
	p.list(x)
}

func (p *Pairs) list(x *Exchange) {
	x.older = p.youngest
	if p.youngest == nil {
		p.oldest = x
	} else {
		p.youngest.younger = x
	}
	p.youngest = x
}

func (p *Pairs) remove(x *Exchange) {
	p.count--
	p.unlist(x)
	p.unchain(x)
}

func (p *Pairs) unlist(x *Exchange) {
	if x.older == nil {
		p.oldest = x.younger
	} else {
		x.older.younger = x.younger
	}
	if x.younger == nil {
		p.youngest = x.older
	} else {
		x.younger.older = x.older
	}
	x.older, x.younger = nil, nil
}

// unchain takes it out of those with the same socket and id.
func (p *Pairs) unchain(x *Exchange) {
	key := pairKey{x.socket, x.id}
	first := p.pending[key]
	switch {
	case first != x:
		for first.next != x {
			first = first.next
		}
		first.next = x.next
	case x.next != nil:
		p.pending[key] = x.next
	default:
		delete(p.pending, key)
	}
	x.next = nil
}
