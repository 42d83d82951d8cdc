// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// client sends queries of one socket, and gets answers.
type client struct {
	*Pairs
	t       *testing.T
	decoder *Decoder
	socket  uint64
}

func newClient(t *testing.T) *client {
	return &client{t: t, Pairs: NewPairs(5 * second), decoder: NewDecoder(), socket: 77}
}

func (c *client) framed(time uint64, sent bool) *Framed {
	origin := originAt(time, sent)
	origin.Socket = c.socket
	return &Framed{Origin: &origin, Began: time, Ended: time, Events: 1}
}

func (c *client) read(m dnsmessage.Message) *Message {
	c.t.Helper()
	var read Message
	require.NoError(c.t, c.decoder.Decode(pack(c.t, m), &read))
	return &read
}

func (c *client) ask(m dnsmessage.Message, time uint64) (*Exchange, bool) {
	return c.Sent(c.read(m), c.framed(time, true))
}

func (c *client) hear(m dnsmessage.Message, time uint64) *Exchange {
	return c.Received(c.read(m), c.framed(time, false))
}

// pendingCount looks at all three places where a query is noted.
func (c *client) pendingCount() int {
	chained, listed := 0, 0
	for _, x := range c.pending {
		for ; x != nil; x = x.next {
			chained++
		}
	}
	for x := c.oldest; x != nil; x = x.younger {
		listed++
	}
	require.Equal(c.t, chained, listed)
	require.Equal(c.t, chained, c.count)
	return chained
}

func TestPairing(t *testing.T) {
	c := newClient(t)
	x, isNew := c.ask(query(1, "a."), 2*second)
	assert.True(t, isNew)
	heard := c.hear(answer(query(1, "a."), address("192.0.2.1")), 3*second)
	require.Same(t, x, heard)
	assert.Equal(t, []uint64{2 * second, 3 * second, 2}, []uint64{x.Start, x.End, x.Events})
	assert.Equal(t, []string{"192.0.2.1"}, x.Answers)
	assert.False(t, x.Failed())
	assert.Empty(t, x.ErrorType())
	assert.Nil(t, c.hear(answer(query(1, "a."), address("192.0.2.1")), 3*second), "it was answered")
	assert.Zero(t, c.pendingCount())
}

func TestPairingInAnyOrder(t *testing.T) {
	c := newClient(t)
	for id := range uint16(50) {
		c.ask(query(id/2, []string{"a.", "b."}[id%2]), 2*second) // two of each id
	}
	assert.Equal(t, 50, c.pendingCount())
	for _, name := range []string{"b.", "A."} { // names are equal in any case
		for id := uint16(24); ; id-- {
			x := c.hear(answer(query(id, name)), 3*second)
			require.NotNil(t, x)
			assert.Equal(t, map[string]string{"b.": "b", "A.": "a"}[name], x.Question.Name.Text)
			if id == 0 {
				break
			}
		}
	}
	assert.Zero(t, c.pendingCount())
}

func TestNoPair(t *testing.T) {
	c := newClient(t)
	c.ask(query(1, "a."), 2*second)
	other := query(1, "a.")
	other.Questions[0].Type = dnsmessage.TypeAAAA
	assert.Nil(t, c.hear(answer(query(2, "a.")), 3*second), "another id")
	assert.Nil(t, c.hear(answer(query(1, "b.")), 3*second), "another name")
	assert.Nil(t, c.hear(answer(other), 3*second), "another type")
	other = query(1, "a.")
	other.OpCode = 5
	assert.Nil(t, c.hear(answer(other), 3*second), "another operation")
	c.socket++
	assert.Nil(t, c.hear(answer(query(1, "a.")), 3*second), "another socket")
	c.socket--
	assert.Nil(t, c.hear(answer(query(1, "a.")), 8*second), "too late")
	assert.NotNil(t, c.hear(answer(query(1, "a.")), 7*second))
}

func TestAnAnswerWithoutQuestion(t *testing.T) {
	bare := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, Response: true, RCode: dnsmessage.RCodeFormatError}}
	c := newClient(t)
	assert.Nil(t, c.hear(bare, 2*second))
	c.ask(query(1, "a."), 2*second)
	c.ask(query(1, "b."), 2*second)
	assert.Nil(t, c.hear(bare, 3*second), "it may be either's")
	c.hear(answer(query(1, "b.")), 3*second)
	x := c.hear(bare, 3*second)
	require.NotNil(t, x)
	assert.Equal(t, "FORMERR", x.ErrorType())
	assert.True(t, x.Failed())
}

func TestRetries(t *testing.T) {
	c := newClient(t)
	first, _ := c.ask(query(1, "a."), 2*second)
	for range 2 {
		again, isNew := c.ask(query(1, "a."), 3*second)
		assert.False(t, isNew)
		require.Same(t, first, again)
	}
	x := c.hear(answer(query(1, "a.")), 4*second)
	assert.Equal(t, []uint64{2 * second, 4 * second, 4, 2}, []uint64{x.Start, x.End, x.Events, uint64(x.Retries)})
}

func TestTimeouts(t *testing.T) {
	c := newClient(t)
	c.ask(query(1, "a."), 2*second)
	c.ask(query(2, "b."), 3*second)
	assert.Nil(t, c.Overdue(7*second+ResendSlack))
	x := c.Overdue(7*second + ResendSlack + 1)
	require.NotNil(t, x)
	assert.Equal(t, "a", x.Question.Name.Text)
	assert.Equal(t, []uint64{2 * second, 7 * second}, []uint64{x.Start, x.End})
	assert.Equal(t, "timeout", x.ErrorType())
	assert.Nil(t, c.Overdue(7*second+ResendSlack+1))
	assert.Equal(t, 1, c.pendingCount())
}

// TestARetryIsWaitedFor: glibc sends a query again when it has waited for 5 s, which is the timeout here, too.
func TestARetryIsWaitedFor(t *testing.T) {
	c := newClient(t)
	c.ask(query(1, "a."), 2*second)
	c.ask(query(2, "b."), 4*second)
	assert.Nil(t, c.Overdue(7*second+ResendSlack))
	_, isNew := c.ask(query(1, "a."), 7*second+ResendSlack/2)
	require.False(t, isNew)
	x := c.Overdue(9*second + ResendSlack + 1)
	require.NotNil(t, x)
	assert.Equal(t, "b", x.Question.Name.Text, "it is the older one now")
	assert.Nil(t, c.Overdue(9*second+ResendSlack+1))
	x = c.hear(answer(query(1, "a.")), 11*second)
	require.NotNil(t, x)
	assert.Equal(t, []uint64{2 * second, 11 * second, 1}, []uint64{x.Start, x.End, uint64(x.Retries)})
}

// TestWhoNeverStopsAskingHasFailed after four timeouts.
func TestWhoNeverStopsAskingHasFailed(t *testing.T) {
	c := newClient(t)
	for at := uint64(2 * second); at < 40*second; at += second {
		if x := c.Overdue(at); x != nil {
			assert.Equal(t, []uint64{2 * second, 22 * second, 20}, []uint64{x.Start, x.End, uint64(x.Retries)})
			return
		}
		c.ask(query(1, "a."), at)
	}
	t.Error("it is waited for still")
}

func TestTheOldestOfTooManyIsGivenUp(t *testing.T) {
	c := newClient(t)
	for i := range maxPending {
		c.socket = uint64(i)
		c.ask(query(1, "a."), 2*second)
		require.Nil(t, c.Excess())
	}
	c.socket = maxPending
	c.ask(query(1, "a."), 2*second)
	x := c.Excess()
	require.NotNil(t, x)
	assert.EqualValues(t, 0, x.socket)
	assert.Nil(t, c.Excess())
	assert.Equal(t, maxPending, c.pendingCount())
}

func TestWhoAskedIsKnownFromTheAnswer(t *testing.T) {
	c := newClient(t)
	framed := c.framed(2*second, true)
	framed.Header = bpf.WireEventHeader{}
	c.Sent(c.read(query(1, "a.")), framed)
	x := c.hear(answer(query(1, "a.")), 3*second)
	assert.EqualValues(t, 10, x.Header.Pid)
}

func TestExchangesAreUsedAgain(t *testing.T) {
	c := newClient(t)
	first, _ := c.ask(query(1, "a."), 2*second)
	c.ask(query(1, "a."), 2*second)
	c.hear(answer(query(1, "a."), address("192.0.2.1")), 3*second)
	c.Release(first)
	second, isNew := c.ask(query(2, "b."), 4*second)
	require.Same(t, first, second)
	assert.True(t, isNew)
	assert.Equal(t, Exchange{
		Question: Question{Name: Name{"b", "b"}, Type: 1, Class: 1}, Header: second.Header, Ends: second.Ends,
		Start: 4e9, Events: 1, Answers: []string{}, id: 2, socket: 77, sent: 4e9,
	}, *second)
}
