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

	"golang.org/x/net/dns/dnsmessage"
)

const (
	headerSize = 12
	// maxAnswers are shown of a message.
	maxAnswers = 32
	// maxRecords are walked through in search of the OPT record; no honest response has more.
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
	parser  dnsmessage.Parser
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
	if _, err := d.parser.Start(bytes); err != nil {
		return
	}
	if d.parser.SkipAllQuestions() != nil {
		return
	}
	d.answers, d.ttl = d.answers[:0], 0
	complete := d.readAnswers()
	m.Answers, m.TTL = d.answers, d.ttl
	if complete && d.parser.SkipAllAuthorities() == nil {
		m.Code |= d.extendedCode()
	}
}

// readAnswers says whether it came to their end.
func (d *Decoder) readAnswers() bool {
	for range maxRecords {
		header, err := d.parser.AnswerHeader()
		if err != nil {
			return errors.Is(err, dnsmessage.ErrSectionDone)
		}
		text, err := d.answer(header.Type)
		if err != nil {
			return false
		}
		if d.ttl = min(d.ttl, header.TTL); len(d.answers) == 0 {
			d.ttl = header.TTL
		}
		if text != "" && len(d.answers) < maxAnswers {
			d.answers = append(d.answers, text)
		}
	}
	return false
}

// answer as text; empty for types that are neither address nor name. TXT is among these: it may hold
// anything, secrets too.
func (d *Decoder) answer(kind dnsmessage.Type) (string, error) {
	scratch := d.texts.scratch[:0]
	switch kind {
	case dnsmessage.TypeA:
		r, err := d.parser.AResource()
		return d.address(netip.AddrFrom4(r.A), err)
	case dnsmessage.TypeAAAA:
		r, err := d.parser.AAAAResource()
		return d.address(netip.AddrFrom16(r.AAAA), err)
	case dnsmessage.TypeCNAME:
		r, err := d.parser.CNAMEResource()
		return d.target(scratch, &r.CNAME, err)
	case dnsmessage.TypeNS:
		r, err := d.parser.NSResource()
		return d.target(scratch, &r.NS, err)
	case dnsmessage.TypePTR:
		r, err := d.parser.PTRResource()
		return d.target(scratch, &r.PTR, err)
	case dnsmessage.TypeMX:
		r, err := d.parser.MXResource()
		return d.target(appendNumbers(scratch, r.Pref), &r.MX, err)
	case dnsmessage.TypeSRV:
		r, err := d.parser.SRVResource()
		return d.target(appendNumbers(scratch, r.Priority, r.Weight, r.Port), &r.Target, err)
	default:
		return "", d.parser.SkipAnswer()
	}
}

func (d *Decoder) address(address netip.Addr, err error) (string, error) {
	if err != nil {
		return "", err
	}
	d.texts.scratch = address.AppendTo(d.texts.scratch[:0])
	return d.texts.keep(d.texts.scratch), nil
}

func (d *Decoder) target(before []byte, name *dnsmessage.Name, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return d.texts.target(before, name.Data[:name.Length]), nil
}

// appendNumbers as they stand before a name in presentation form.
func appendNumbers(text []byte, numbers ...uint16) []byte {
	for _, n := range numbers {
		text = append(strconv.AppendUint(text, uint64(n), 10), ' ')
	}
	return text
}

// extendedCode is the response code's upper bits (RFC 6891).
func (d *Decoder) extendedCode() uint16 {
	for range maxRecords {
		header, err := d.parser.AdditionalHeader()
		if err != nil {
			return 0
		}
		if header.Type == dnsmessage.TypeOPT {
			return uint16(header.ExtendedRCode(0))
		}
		if d.parser.SkipAdditional() != nil {
			return 0
		}
	}
	return 0
}
