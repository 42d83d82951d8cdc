// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

func decode(t *testing.T, bytes []byte) Message {
	t.Helper()
	var m Message
	require.NoError(t, NewDecoder().Decode(bytes, &m))
	return m
}

func TestDecodeQuery(t *testing.T) {
	m := decode(t, pack(t, query(0x1234, "WWW.Example.com.")))
	assert.Equal(t, Message{
		ID: 0x1234, Asked: true,
		Question: Question{Name: Name{Text: "WWW.Example.com", Folded: "www.example.com"}, Type: 1, Class: 1},
	}, m)
}

func TestDecodeAnswers(t *testing.T) {
	bodies := []dnsmessage.ResourceBody{
		&dnsmessage.CNAMEResource{CNAME: nameOf("web.example.net.")},
		address("192.0.2.1"),
		address("2001:db8::1"),
		&dnsmessage.TXTResource{TXT: []string{"secret"}},
		&dnsmessage.NSResource{NS: nameOf("ns.example.net.")},
		&dnsmessage.PTRResource{PTR: nameOf("host.example.net.")},
		&dnsmessage.MXResource{Pref: 10, MX: nameOf("mail.example.net.")},
		&dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 5060, Target: nameOf("sip.example.net.")},
		&dnsmessage.SOAResource{NS: nameOf("ns.example.net."), MBox: nameOf("m.example.net.")},
		&dnsmessage.UnknownResource{Type: 65, Data: []byte{0, 1, 0}},
		&dnsmessage.MXResource{Pref: 0, MX: nameOf(".")},
	}
	m := decode(t, pack(t, answer(query(7, "www.example.com."), bodies...)))
	assert.True(t, m.Response)
	assert.Equal(t, NoError, m.Code)
	assert.EqualValues(t, len(bodies), m.AnswerCount)
	assert.Equal(t, []string{
		"web.example.net", "192.0.2.1", "2001:db8::1", "ns.example.net", "host.example.net",
		"10 mail.example.net", "1 2 5060 sip.example.net", "0 .",
	}, m.Answers)
}

func TestDecodeResponseCodes(t *testing.T) {
	for code, want := range map[uint16]string{
		0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 12: "12",
		16: "BADVERS", 22: "BADTRUNC", 23: "BADCOOKIE", 24: "24", 4095: "4095",
	} {
		message := answer(query(7, "example.com."), address("192.0.2.1"))
		message.RCode = dnsmessage.RCode(code & 0xf)
		header := dnsmessage.ResourceHeader{Name: nameOf("."), Type: dnsmessage.TypeOPT, Class: 1232}
		header.TTL = uint32(code>>4) << 24
		message.Additionals = append(message.Additionals,
			dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: nameOf("a."), Class: 1}, Body: address("192.0.2.2")},
			dnsmessage.Resource{Header: header, Body: &dnsmessage.OPTResource{}})
		message.Authorities = append(message.Authorities,
			dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: nameOf("a."), Class: 1}, Body: &dnsmessage.NSResource{NS: nameOf("b.")}})
		m := decode(t, pack(t, message))
		assert.Equal(t, code, m.Code)
		assert.Equal(t, want, ResponseCodeName(m.Code))
	}
}

func TestNamesOfCodes(t *testing.T) {
	for kind, want := range map[uint16]string{1: "A", 28: "AAAA", 16: "TXT", 65: "HTTPS", 255: "ANY", 257: "CAA", 4711: "TYPE4711", 0: "TYPE0"} {
		assert.Equal(t, want, TypeName(kind))
	}
	for opcode, want := range map[uint8]string{0: "QUERY", 4: "NOTIFY", 5: "UPDATE", 3: "3", 15: "15"} {
		assert.Equal(t, want, OpcodeName(opcode))
	}
}

func TestDecodeHeaderBits(t *testing.T) {
	message := query(7, "example.com.")
	message.Truncated, message.OpCode = true, 5
	m := decode(t, pack(t, message))
	assert.True(t, m.Truncated)
	assert.EqualValues(t, 5, m.Opcode)
	assert.False(t, m.Response)
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tt := range []struct{ wire, text string }{
		{"\x00", "."},
		{"\x01a\x00", "a"},
		{"\x05hello\x03Com\x00", "hello.Com"},
		{"\x05a.b c\x05local\x00", `a\.b\032c.local`},
		{"\x03\\\xff\x00\x00", `\\\255\000`},
		{"\x04\xc3\xa9\"(\x00", `\195\169"(`},
		{"\x3f" + long + "\x3f" + long + "\x3f" + long + "\x3d" + long[:61] + "\x00", long + "." + long + "." + long + "." + long[:61]},
	} {
		names := newTexts()
		for range 2 { // read, and remembered
			name, end, ok := names.name([]byte(tt.wire + "\x00\x01\x00\x01"))
			require.True(t, ok, tt.text)
			assert.Equal(t, tt.text, name.Text)
			assert.Equal(t, strings.ToLower(tt.text), name.Folded)
			assert.Len(t, tt.wire, end)
		}
	}
	for name, wire := range map[string]string{
		"empty": "", "no end": "\x01a", "label cut off": "\x05ab", "pointer": "\xc0\x0c", "reserved": "\x40a\x00",
		"too long": strings.Repeat("\x3f"+long, 4) + "\x00",
	} {
		names := newTexts()
		_, _, ok := names.name([]byte(wire))
		assert.False(t, ok, name)
	}
}

func TestTargetsAreText(t *testing.T) {
	message := pack(t, answer(query(7, "a."), &dnsmessage.CNAMEResource{CNAME: nameOf("x\xff y.b\\.")}))
	assert.Equal(t, []string{`x\255\032y.b\\`}, decode(t, message).Answers)
}

// TestLabelsWithADot: DNS-SD's instances are named by people. What stands behind such a name is read, too.
func TestLabelsWithADot(t *testing.T) {
	message := "\x00\x07\x81\x80\x00\x01\x00\x03\x00\x00\x00\x01" +
		"\x07Lab 2.0\x04_ipp\x04_tcp\x04test\x00\x00\x21\x00\x01" +
		"\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x09\x00\x0c\x00\x00\x00\x01\x02\x77\x03a.b\xc0\x1e" +
		"\xc0\x14\x00\x0c\x00\x01\x00\x00\x00\x09\x00\x02\xc0\x0c" +
		"\x03c.d\x00\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xc0\x00\x02\x01" +
		"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"
	m := decode(t, []byte(message))
	assert.Equal(t, `Lab\0322\.0._ipp._tcp.test`, m.Question.Name.Text)
	assert.Equal(t, []string{`0 1 631 a\.b.test`, `Lab\0322\.0._ipp._tcp.test`, "192.0.2.1"}, m.Answers)
	assert.Equal(t, "BADVERS", ResponseCodeName(m.Code))
}

// TestNamesThatPoint anywhere but to what stands before are none.
func TestNamesThatPoint(t *testing.T) {
	const before = "\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x05\x00\x01\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x09"
	long := "\x3f" + strings.Repeat("l", 63)
	for _, tt := range []struct {
		name, data string
		answers    []string
	}{
		{"to the question", "\x01b\xc0\x0c", []string{"b.a"}},
		{"to the root", "\x01b\xc0\x0e", []string{"b"}},
		{"to itself", "\xc0\x1f", nil},
		{"to itself by a label", "\x01b\xc0\x1f", nil},
		{"to what follows", "\xc0\x21\x01b\x00", nil},
		{"behind the end", "\xff\xff", nil},
		{"half", "\xc0", nil},
		{"reserved", "\x80\x0c", nil},
		{"with 255 bytes", long + long + long + "\x3d" + strings.Repeat("l", 61) + "\xc0\x0e", []string{strings.Repeat(long[1:]+".", 3) + long[1:62]}},
		{"with 256 bytes", long + long + long + "\x3e" + strings.Repeat("l", 62) + "\xc0\x0e", nil},
		{"with more than its record has", "\x01b", nil},
		{"cut off", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			message := binary.BigEndian.AppendUint16([]byte(before), uint16(len(tt.data)))
			m := decode(t, append(message, tt.data...))
			assert.Equal(t, tt.answers, append([]string(nil), m.Answers...))
		})
	}
}

func TestMemoryOfNamesIsBounded(t *testing.T) {
	d := NewDecoder()
	var m Message
	for i := range maxTexts + 10 {
		name := fmt.Sprintf("%d.example.com.", i)
		require.NoError(t, d.Decode(pack(t, answer(query(7, name), &dnsmessage.CNAMEResource{CNAME: nameOf("x" + name)})), &m))
		require.Equal(t, name[:len(name)-1], m.Question.Name.Text)
		require.Equal(t, []string{"x" + name[:len(name)-1]}, m.Answers)
	}
	assert.LessOrEqual(t, len(d.texts.names), maxTexts)
	assert.LessOrEqual(t, len(d.texts.targets), maxTexts)
}

func TestAnswersAreBounded(t *testing.T) {
	var bodies []dnsmessage.ResourceBody
	for i := range 40 {
		bodies = append(bodies, address(fmt.Sprintf("192.0.2.%d", i)))
	}
	message := answer(query(7, "a."), bodies...)
	message.Additionals = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: nameOf("."), Type: dnsmessage.TypeOPT, TTL: 1 << 24}, Body: &dnsmessage.OPTResource{},
	}}
	m := decode(t, pack(t, message))
	assert.Len(t, m.Answers, maxAnswers)
	assert.Equal(t, "192.0.2.31", m.Answers[31])
	assert.EqualValues(t, 40, m.AnswerCount)
	assert.Equal(t, "BADVERS", ResponseCodeName(m.Code), "what follows is read")
}

func TestDecodeInPart(t *testing.T) {
	whole := pack(t, answer(query(7, "www.example.com."), address("192.0.2.1"), address("192.0.2.2")))
	d := NewDecoder()
	for size := range whole {
		var m Message
		err := d.Decode(whole[:size], &m)
		if size < headerSize+len("\x03www\x07example\x03com\x00")+4 {
			assert.ErrorIs(t, err, ErrNoMessage, size)
			continue
		}
		require.NoError(t, err, size)
		assert.Equal(t, "www.example.com", m.Question.Name.Text)
		assert.EqualValues(t, 2, m.AnswerCount)
		assert.Less(t, len(m.Answers), 2)
	}
}

func TestDecodeWithoutQuestion(t *testing.T) {
	message := dnsmessage.Message{Header: dnsmessage.Header{ID: 9, Response: true, RCode: 1}}
	m := decode(t, pack(t, message))
	assert.Equal(t, Message{ID: 9, Response: true, Code: 1}, Message{ID: m.ID, Response: m.Response, Code: m.Code})
	assert.False(t, m.Asked)
}

func TestDecodeFirstOfSeveralQuestions(t *testing.T) {
	message := query(7, "a.")
	message.Questions = append(message.Questions, query(7, "b.").Questions...)
	m := decode(t, pack(t, answer(message, address("192.0.2.1"))))
	assert.Equal(t, "a", m.Question.Name.Text)
	assert.Equal(t, []string{"192.0.2.1"}, m.Answers)
}

func TestNothingOfTheMessageBeforeIsLeft(t *testing.T) {
	d := NewDecoder()
	var m Message
	require.NoError(t, d.Decode(pack(t, answer(query(7, "a."), address("192.0.2.1"))), &m))
	require.NoError(t, d.Decode(pack(t, query(8, "b.")), &m))
	assert.Empty(t, m.Answers)
	assert.Zero(t, m.AnswerCount)
	assert.False(t, m.Response)
	assert.ErrorIs(t, d.Decode(nil, &m), ErrNoMessage)
}

// FuzzDecode gives the decoder any bytes.
func FuzzDecode(f *testing.F) {
	f.Add(pack(f, query(7, "www.example.com.")))
	f.Add(pack(f, answer(query(7, "www.example.com."), address("192.0.2.1"), address("2001:db8::1"))))
	f.Add(pack(f, answer(query(7, "a."), &dnsmessage.MXResource{Pref: 1, MX: nameOf("x.")}, &dnsmessage.SRVResource{Target: nameOf("y.")})))
	f.Add(pack(f, answer(query(7, "a."), &dnsmessage.TXTResource{TXT: []string{"t"}}, &dnsmessage.CNAMEResource{CNAME: nameOf("\xff.")})))
	f.Add([]byte("\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x01\x01a\x00\x00\x01\x00\x01\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x02\xc0\x0c"))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		d := NewDecoder()
		var m Message
		if err := d.Decode(bytes, &m); err != nil {
			require.ErrorIs(t, err, ErrNoMessage)
			return
		}
		require.LessOrEqual(t, len(m.Answers), maxAnswers)
		for _, text := range append(m.Answers, m.Question.Name.Text, m.Question.Name.Folded) {
			require.LessOrEqual(t, len(text), 4*maxName+20)
			for _, b := range []byte(text) {
				require.True(t, b >= ' ' && b <= '~', "%q", text)
			}
		}
		answers := strings.Join(m.Answers, " ")
		var again Message
		require.NoError(t, d.Decode(bytes, &again))
		require.Equal(t, answers, strings.Join(again.Answers, " "))
	})
}

func BenchmarkDecode(b *testing.B) {
	bytes := pack(b, answer(query(7, "www.example.com."), &dnsmessage.CNAMEResource{CNAME: nameOf("web.example.net.")}, address("192.0.2.1"), address("192.0.2.2")))
	d := NewDecoder()
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(bytes, &m); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRecordsThatMakeNoSense are left out, and what stands behind them is read. What was cut off between two records has no
// more than it has.
func TestRecordsThatMakeNoSense(t *testing.T) {
	const (
		before  = "\x00\x07\x81\x80\x00\x01\x00\x03\x00\x00\x00\x01\x01a\x00\x00\x01\x00\x01"
		address = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x08\x00\x04\xc0\x00\x02\x01"
		options = "\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x05\x00\x08\x00\x01\xff" // a client subnet without a family
	)
	for name, data := range map[string]string{
		"text":       "\x00\x10\x00\x01\x00\x00\x00\x09\x00\x02\x07x",
		"address":    "\x00\x01\x00\x01\x00\x00\x00\x09\x00\x03\xc0\x00\x02",
		"exchange":   "\x00\x0f\x00\x01\x00\x00\x00\x09\x00\x00",
		"preference": "\x00\x0f\x00\x01\x00\x00\x00\x09\x00\x02\x00\x0a",
		"service":    "\x00\x21\x00\x01\x00\x00\x00\x09\x00\x04\x00\x0a\x00\x0a",
	} {
		t.Run(name, func(t *testing.T) {
			second := strings.Replace(address, "\x02\x01", "\x02\x02", 1)
			m := decode(t, []byte(before+address+"\xc0\x0c"+data+second+options))
			assert.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, m.Answers)
			assert.EqualValues(t, 8, m.TTL)
			assert.Equal(t, "BADVERS", ResponseCodeName(m.Code))
			last := decode(t, []byte(before+address+second+"\xc0\x0c"+data))
			assert.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, last.Answers)
		})
	}
	cut := decode(t, []byte(before+address))
	assert.Equal(t, []string{"192.0.2.1"}, cut.Answers)
	assert.EqualValues(t, 8, cut.TTL)
}

// TestTTLIsTheLeast of all answers, also of those that are not shown, such as the DNAME of an alias.
func TestTTLIsTheLeast(t *testing.T) {
	const before = "\x00\x07\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"
	m := decode(t, []byte(before+"\xc0\x0c\x00\x27\x00\x01\x00\x00\x00\x0a\x00\x01\x00"+"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x01"))
	assert.Equal(t, []string{"192.0.2.1"}, m.Answers)
	assert.EqualValues(t, 10, m.TTL)
}
