// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package dns gives a client's DNS traffic its meaning: it finds the messages in TCP streams, reads
// them, and pairs questions with their answers.
//
// It belongs to the one goroutine that reads the records; nothing in it is locked.
package dns // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

const (
	headerSize = 12
	// maxAnswers are shown of a message.
	maxAnswers = 32
	// maxRecords of a section are walked through in search of the OPT record; no honest response has more.
	maxRecords = 512
)

// ErrNoMessage says that bytes are no DNS message.
var ErrNoMessage = errors.New("no DNS message")

// Question that a message asks or answers.
type Question struct {
	Name        Name
	Type, Class uint16
}

// Message is what a message says. Texts in it stay valid, Answers until the next message is read.
type Message struct {
	ID        uint16
	Response  bool
	Opcode    uint8
	Truncated bool
	// Code is the response code, with its upper bits from the OPT record if there is one.
	Code uint16
	// Asked says that there is a question. A server that could not read the query may leave it out.
	Asked    bool
	Question Question // the first: servers support no more
	// AnswerCount is how many records the answer has, also of those that are not in Answers.
	AnswerCount uint16
	// Answers are addresses and names, in the order of the message.
	Answers []string
	TTL     uint32 // s; the least of the answers'; 0 without answers
}

// Decoder reads messages.
type Decoder struct {
	texts   texts
	records records
	answers []string
	ttl     uint32
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{texts: newTexts()} }

// Decode reads a message. One of which only the first part was captured gives what is in there.
func (d *Decoder) Decode(bytes []byte, m *Message) error {
	if len(bytes) < headerSize {
		return ErrNoMessage
	}
	d.readHeader(bytes, m)
	if questions := binary.BigEndian.Uint16(bytes[4:]); questions > 0 && !d.readQuestion(bytes[headerSize:], m) {
		return ErrNoMessage
	}
	if m.Response {
		d.readResponse(bytes, m)
	}
	return nil
}

// readHeader leaves no trace of the message before.
func (d *Decoder) readHeader(bytes []byte, m *Message) {
	*m = Message{
		ID:          binary.BigEndian.Uint16(bytes),
		Response:    bytes[2]&0x80 != 0,
		Opcode:      bytes[2] >> 3 & 0xf,
		Truncated:   bytes[2]&0x02 != 0,
		Code:        uint16(bytes[3] & 0xf),
		AnswerCount: binary.BigEndian.Uint16(bytes[6:]),
	}
}

func (d *Decoder) readQuestion(bytes []byte, m *Message) bool {
	name, end, ok := d.texts.name(bytes)
	if !ok || len(bytes) < end+4 {
		return false
	}
	m.Asked = true
	m.Question = Question{
		Name:  name,
		Type:  binary.BigEndian.Uint16(bytes[end:]),
		Class: binary.BigEndian.Uint16(bytes[end+2:]),
	}
	return true
}

func (d *Decoder) readResponse(bytes []byte, m *Message) {
	d.records = records{message: bytes, at: headerSize}
	if !d.records.skipQuestions(binary.BigEndian.Uint16(bytes[4:])) {
		return
	}
	d.answers, d.ttl = d.answers[:0], 0
	complete := d.readAnswers(m.AnswerCount)
	m.Answers, m.TTL = d.answers, d.ttl
	if complete && d.records.skip(binary.BigEndian.Uint16(bytes[8:])) {
		m.Code |= d.extendedCode(binary.BigEndian.Uint16(bytes[10:]))
	}
}

// readAnswers says whether it came to their end.
func (d *Decoder) readAnswers(count uint16) bool {
	for range min(count, maxRecords) {
		r, ok := d.records.next()
		if !ok {
			return false
		}
		text, ok := d.answer(r)
		if !ok {
			return false
		}
		if d.ttl = min(d.ttl, r.ttl); len(d.answers) == 0 {
			d.ttl = r.ttl
		}
		if text != "" && len(d.answers) < maxAnswers {
			d.answers = append(d.answers, text)
		}
	}
	return count <= maxRecords
}

// answer as text; empty for types that are neither address nor name. TXT is among these: it may hold
// anything, secrets too.
func (d *Decoder) answer(r record) (string, bool) {
	switch r.kind {
	case typeA, typeAAAA:
		return d.address(r)
	case typeCNAME, typeNS, typePTR:
		return d.target(r, 0)
	case typeMX:
		return d.target(r, 1)
	case typeSRV:
		return d.target(r, 3)
	default:
		return "", true
	}
}

func (d *Decoder) address(r record) (string, bool) {
	address, ok := netip.AddrFromSlice(d.records.message[r.data:r.end])
	if !ok || address.Is4() != (r.kind == typeA) {
		return "", false
	}
	d.texts.scratch = address.AppendTo(d.texts.scratch[:0])
	return d.texts.keep(d.texts.scratch), true
}

// target is a name, with the numbers that stand before it.
func (d *Decoder) target(r record, numbers int) (string, bool) {
	at := r.data + 2*numbers
	if at > r.end {
		return "", false
	}
	name, end, ok := d.records.name(at)
	if !ok || end > r.end {
		return "", false
	}
	text := d.texts.scratch[:0]
	for ; r.data < at; r.data += 2 {
		text = strconv.AppendUint(text, uint64(binary.BigEndian.Uint16(d.records.message[r.data:])), 10)
		text = append(text, ' ')
	}
	d.texts.scratch = appendName(text, name)
	return d.texts.keep(d.texts.scratch), true
}

// extendedCode is the response code's upper bits (RFC 6891).
func (d *Decoder) extendedCode(count uint16) uint16 {
	for range min(count, maxRecords) {
		r, ok := d.records.next()
		if !ok {
			return 0
		}
		if r.kind == typeOPT {
			return uint16(r.ttl>>24) << 4
		}
	}
	return 0
}
