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
	"net"
	"net/netip"
	"strconv"

	"github.com/miekg/dns"
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
	answers []string
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
	at, ok := afterQuestions(bytes)
	if !ok {
		return
	}
	d.answers = d.answers[:0]
	isFirst := true
	at, ok = eachRecord(bytes, at, m.AnswerCount, func(head dns.RR_Header, data int) {
		if isFirst || head.Ttl < m.TTL {
			m.TTL = head.Ttl
		}
		isFirst = false
		d.addAnswer(bytes, head, data)
	})
	m.Answers = d.answers
	if ok {
		at, ok = eachRecord(bytes, at, binary.BigEndian.Uint16(bytes[8:]), func(dns.RR_Header, int) {})
	}
	if ok {
		m.Code |= extendedCode(bytes, at)
	}
}

func afterQuestions(bytes []byte) (at int, ok bool) {
	count := binary.BigEndian.Uint16(bytes[4:])
	at = headerSize
	for range min(count, maxRecords) {
		_, end, err := dns.UnpackDomainName(bytes, at)
		if err != nil {
			return 0, false
		}
		at = end + 4 // type and class
	}
	return at, count <= maxRecords
}

// eachRecord of a section, the first of which is there: what stands before its data, and where they begin. It says where the
// records end, and whether all are there.
func eachRecord(bytes []byte, at int, count uint16, do func(head dns.RR_Header, data int)) (end int, ok bool) {
	for range min(count, maxRecords) {
		head, data, ok := headOf(bytes, at)
		if !ok {
			return 0, false
		}
		do(head, data)
		if at = data + int(head.Rdlength); at > len(bytes) {
			return 0, false
		}
	}
	return at, count <= maxRecords
}

// headOf a record (RFC 1035, 3.2.1), without its name. The library reads it only together with the data, which of most types
// are not wanted, may be long, and may be such that it refuses the record.
func headOf(bytes []byte, at int) (head dns.RR_Header, data int, ok bool) {
	const size = 10 // type, class, TTL, and the data's size
	_, at, err := dns.UnpackDomainName(bytes, at)
	if err != nil || at+size > len(bytes) {
		return head, 0, false
	}
	fields := bytes[at:]
	head.Rrtype, head.Class = binary.BigEndian.Uint16(fields), binary.BigEndian.Uint16(fields[2:])
	head.Ttl, head.Rdlength = binary.BigEndian.Uint32(fields[4:]), binary.BigEndian.Uint16(fields[8:])
	return head, at + size, true
}

// addAnswer if its data make sense.
func (d *Decoder) addAnswer(bytes []byte, head dns.RR_Header, data int) {
	switch head.Rrtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeNS, dns.TypePTR, dns.TypeMX, dns.TypeSRV:
	default:
		return
	}
	r, _, err := dns.UnpackRRWithHeader(head, bytes, data)
	if err != nil || len(d.answers) == maxAnswers {
		return
	}
	if text := d.answer(r); text != "" {
		d.answers = append(d.answers, text)
	}
}

// extendedCode is the response code's upper bits (RFC 6891), which the first OPT record has in place of a TTL.
func extendedCode(bytes []byte, at int) (code uint16) {
	found := false
	eachRecord(bytes, at, binary.BigEndian.Uint16(bytes[10:]), func(head dns.RR_Header, _ int) {
		if head.Rrtype == dns.TypeOPT && !found {
			found, code = true, uint16(head.Ttl>>24)<<4
		}
	})
	return code
}

// answer as text; empty for types that are neither address nor name. TXT is among these: it may hold
// anything, secrets too.
func (d *Decoder) answer(r dns.RR) string {
	scratch := d.texts.scratch[:0]
	switch r := r.(type) {
	case *dns.A:
		return d.address(r.A)
	case *dns.AAAA:
		return d.address(r.AAAA)
	case *dns.CNAME:
		return d.texts.target(scratch, r.Target)
	case *dns.NS:
		return d.texts.target(scratch, r.Ns)
	case *dns.PTR:
		return d.texts.target(scratch, r.Ptr)
	case *dns.MX:
		return d.texts.target(appendNumbers(scratch, r.Preference), r.Mx)
	case *dns.SRV:
		return d.texts.target(appendNumbers(scratch, r.Priority, r.Weight, r.Port), r.Target)
	default:
		return ""
	}
}

// address of which the library has an IPv4 one in 4 bytes, and any other in 16; none where there was no data.
func (d *Decoder) address(ip net.IP) string {
	address, ok := netip.AddrFromSlice(ip)
	if !ok {
		return ""
	}
	d.texts.scratch = address.AppendTo(d.texts.scratch[:0])
	return d.texts.keep(d.texts.scratch)
}

// appendNumbers as they stand before a name in presentation form.
func appendNumbers(text []byte, numbers ...uint16) []byte {
	for _, n := range numbers {
		text = append(strconv.AppendUint(text, uint64(n), 10), ' ')
	}
	return text
}
