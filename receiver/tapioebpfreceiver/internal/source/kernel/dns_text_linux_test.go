// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

const (
	headerOfDNS   = 12
	mostOfPointer = 0x3fff // of a message can be pointed at
	lengthOfName  = 255    // bytes at the most
	fullMessage   = 9000   // bytes, so that what follows is read, too
)

var drawnTypes = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS", 252: "AXFR", 255: "ANY",
	0: "TYPE0", 4711: "TYPE4711", 65535: "TYPE65535",
}

var drawnCodes = map[int]string{
	0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET", 8: "NXRRSET",
	9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 15: "15", 16: "BADVERS", 17: "BADKEY", 23: "BADCOOKIE", 24: "24", 4095: "4095", 3841: "3841",
}

var drawnOpcodes = map[int]string{1: "IQUERY", 2: "STATUS", 3: "3", 4: "NOTIFY", 5: "UPDATE", 7: "7", 15: "15"}

// nameText is a name as it is shown: without the dot at its end.
func nameText(wire string) string {
	if wire == "\x00" {
		return "."
	}
	var labels []string
	for at := 0; wire[at] != 0; at += 1 + int(wire[at]) {
		var label strings.Builder
		for _, b := range []byte(wire[at+1 : at+1+int(wire[at])]) {
			switch {
			case b == '.' || b == '\\':
				label.WriteString("\\" + string(rune(b)))
			case b < 0x21 || b > 0x7e:
				fmt.Fprintf(&label, "\\%03d", b)
			default:
				label.WriteByte(b)
			}
		}
		labels = append(labels, label.String())
	}
	return strings.Join(labels, ".")
}

func wireName(labels ...string) string {
	var wire strings.Builder
	for _, label := range labels {
		wire.WriteByte(byte(len(label)))
		wire.WriteString(label)
	}
	return wire.String() + "\x00"
}

// drawQuestion for a name that no other question of any conversation has in its first label, so that no search list is seen
// in them; or for one that was asked for before, or the root.
func (d *dnsDrawer) drawQuestion() drawnQuestion {
	q := drawnQuestion{class: oneOf[uint16](d, 1, 1, 1, 1, 1, 3, 255, 0x8001)}
	q.kind = oneOf[uint16](d, 1, 1, 28, 28, 2, 5, 6, 12, 15, 16, 33, 65, 252, 255, 0, 4711, 65535)
	if len(d.asked) > 0 && d.chance(20) {
		q.name = oneOf(d, d.asked...).name
		return q
	}
	if d.chance(3) {
		q.name = wireName()
		return q
	}
	d.names++
	q.name = d.drawName(fmt.Sprintf("q%d-%d", d.seed, d.names))
	return q
}

func (d *dnsDrawer) drawName(first string) string {
	labels := []string{first}
	switch d.IntN(9) {
	case 0:
	case 1: // as long as it may be
		for len(wireName(labels...)) < lengthOfName-1 {
			left := lengthOfName - 1 - len(wireName(labels...))
			labels = append(labels, d.label(min(63, left)))
		}
		if left := lengthOfName - len(wireName(labels...)); left > 0 {
			labels[0] += "x"
		}
	case 2:
		labels = append(labels, d.label(63), "test")
	case 3:
		labels = append(labels, oneOf(d, "a.b", ".", "\\", "\\.", "a b", "\x00", "\xff\xfe", "*", "_tcp", "Lab 2.0", "\"", "ä"), "test")
	case 4:
		labels = append(labels, "WWW", "Example", "COM")
	case 5:
		labels = append(labels, strings.Split(strings.Repeat("d.", d.IntN(60))+"test", ".")...)
	default:
		labels = append(labels, oneOf(d, "www", "db", "_ldap"), oneOf(d, "example", "corp"), "test")
	}
	return wireName(labels...)
}

func (d *dnsDrawer) label(size int) string {
	return strings.Repeat(oneOf(d, "a", "B", "1-"), size)[:size]
}

// otherCase of a name that is the same, as resolvers vary it against forgers.
func (d *dnsDrawer) otherCase(q drawnQuestion) drawnQuestion {
	if d.chance(50) {
		return q
	}
	name := []byte(q.name)
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		label := name[at+1 : at+1+int(name[at])]
		for i, b := range label {
			if isLetter := b|0x20 >= 'a' && b|0x20 <= 'z'; isLetter && d.chance(50) {
				label[i] ^= 0x20
			}
		}
	}
	q.name = string(name)
	return q
}

// dnsText is a message that is being written.
type dnsText struct {
	bytes []byte
	names map[string]int // where names stand that can be pointed at
}

func (t *dnsText) number(n int) { t.bytes = binary.BigEndian.AppendUint16(t.bytes, uint16(n)) }

// name with a pointer to the longest part of it that is there, if it is to have one.
func (t *dnsText) name(wire string, isShort bool) {
	for {
		if at, ok := t.names[wire]; ok && isShort {
			t.number(0xc000 | at)
			return
		}
		if _, ok := t.names[wire]; !ok && len(t.bytes) <= mostOfPointer {
			t.names[wire] = len(t.bytes)
		}
		size := 1 + int(wire[0])
		t.bytes = append(t.bytes, wire[:size]...)
		if wire = wire[size:]; wire == "" {
			return
		}
	}
}

// record whose data are written by another.
func (t *dnsText) record(name string, isShort bool, kind, class int, ttl uint32, data func()) {
	t.name(name, isShort)
	t.number(kind)
	t.number(class)
	t.bytes = binary.BigEndian.AppendUint32(t.bytes, ttl)
	at := len(t.bytes)
	t.number(0)
	data()
	binary.BigEndian.PutUint16(t.bytes[at:], uint16(len(t.bytes)-at-2))
}

func (t *dnsText) count(section, n int) { binary.BigEndian.PutUint16(t.bytes[4+2*section:], uint16(n)) }

const (
	sectionQuestion = iota
	sectionAnswer
	sectionAuthority
	sectionAdditional
)

// begin a message with its header, of which no bit is told that is drawn here.
func (d *dnsDrawer) begin(id uint16, opcode int) *dnsText {
	t := &dnsText{names: map[string]int{}}
	t.number(int(id))
	t.number(opcode<<11 | d.IntN(8)<<4 | d.IntN(2)<<8)
	t.bytes = append(t.bytes, make([]byte, 8)...)
	return t
}

func (t *dnsText) ask(q drawnQuestion) {
	t.name(q.name, false)
	t.number(int(q.kind))
	t.number(int(q.class))
}

func (d *dnsDrawer) questionText(id uint16, opcode int, q drawnQuestion) string {
	t := d.begin(id, opcode)
	if d.chance(10) { // a code and being truncated mean nothing in a question
		t.bytes[2] |= 2
		t.bytes[3] |= byte(d.IntN(16))
	}
	t.ask(q)
	t.count(sectionQuestion, 1)
	if d.chance(3) {
		t.ask(drawnQuestion{wireName("second", "test"), 1, 1})
		t.count(sectionQuestion, 2)
	}
	if d.chance(50) {
		t.option(0, d.padding())
		t.count(sectionAdditional, 1)
	}
	return string(t.bytes)
}

// option record of EDNS.
func (t *dnsText) option(upper byte, padding string) {
	const kind, pad = 41, 12
	t.record("\x00", false, kind, 1232, uint32(upper)<<24, func() {
		if padding != "" {
			t.number(pad)
			t.number(len(padding))
			t.bytes = append(t.bytes, padding...)
		}
	})
}

func (d *dnsDrawer) padding() string {
	if d.isShort {
		return ""
	}
	return strings.Repeat("\x00", oneOf(d, 0, 0, 1, d.IntN(200), d.IntN(600), d.IntN(5000)))
}

// answerText is a message, and what it says. without: the question is not repeated.
func (d *dnsDrawer) answerText(id uint16, opcode int, q drawnQuestion, without bool) (string, *drawnAnswer) {
	t := d.begin(id, opcode)
	a := &drawnAnswer{code: oneOf(d, 0, 0, 0, 0, 0, 3, 3, 2, 5, 1, 4, 6, 7, 8, 9, 10, 11, 15, 16, 17, 23, 24, 4095, 3841), truncated: d.chance(10)}
	t.bytes[2] |= 0x80
	t.bytes[3] |= byte(a.code & 0xf)
	if a.truncated {
		t.bytes[2] |= 2
	}
	if !without {
		t.ask(q)
		t.count(sectionQuestion, 1)
	}
	isLong := a.code < 16 && d.chance(6) && !d.isShort
	d.answerRecords(t, a, q, isLong)
	if isLong {
		return string(t.bytes), a
	}
	for n := range d.IntN(3) {
		d.authority(t, q)
		t.count(sectionAuthority, n+1)
	}
	d.additional(t, a)
	return string(t.bytes), a
}

// additional records, of which one says the upper bits of a code.
func (d *dnsDrawer) additional(t *dnsText, a *drawnAnswer) {
	all := 0
	for range d.IntN(3) {
		d.address(t, wireName("glue", "test"))
		all++
	}
	if a.code > 15 || d.chance(40) {
		t.option(byte(a.code>>4), d.padding())
		all++
	}
	for range d.IntN(2) {
		d.address(t, wireName("signed", "test"))
		all++
	}
	t.count(sectionAdditional, all)
}

func (d *dnsDrawer) address(t *dnsText, name string) {
	t.record(name, d.chance(70), 1, 1, 60, func() { t.bytes = append(t.bytes, 192, 0, 2, byte(d.IntN(256))) })
}

func (d *dnsDrawer) authority(t *dnsText, q drawnQuestion) {
	t.record(q.name, d.chance(70), 6, 1, 60, func() {
		t.name(wireName("ns", "test"), d.chance(70))
		t.name(wireName("root.of", "test"), d.chance(70))
		t.bytes = append(t.bytes, make([]byte, 20)...)
	})
}

// answerRecords: of a long message only what was read is told.
func (d *dnsDrawer) answerRecords(t *dnsText, a *drawnAnswer, q drawnQuestion, isLong bool) {
	count := oneOf(d, 0, 1, 1, 2, 3, 8, d.IntN(45))
	owner := q.name
	for i := range count {
		if len(t.bytes) > fullMessage || d.isShort && i > 5 {
			count = i
			break
		}
		var text string
		if text, owner = d.answerRecord(t, owner); text != "" && len(a.answers) < shownAnswers {
			a.answers = append(a.answers, text)
		}
	}
	if isLong {
		count += d.beyond(t, q.name)
	}
	t.count(sectionAnswer, count)
}

// beyond what is read of a message.
func (d *dnsDrawer) beyond(t *dnsText, owner string) (records int) {
	const text = 16
	for range 1 + d.IntN(3) {
		size := readOfMessage - len(t.bytes) + d.IntN(3000)
		if size < 0 {
			size = d.IntN(8000)
		}
		t.record(owner, true, text, 1, 60, func() { t.bytes = append(t.bytes, strings.Repeat("t", size)...) })
		d.address(t, owner)
		records += 2
	}
	return records
}

// answerRecord and how it is shown; what follows a CNAME is for its target.
func (d *dnsDrawer) answerRecord(t *dnsText, owner string) (text, next string) {
	record := func(kind int, data func()) {
		t.record(owner, d.chance(80), kind, 1, uint32(d.IntN(1000)), data)
	}
	target := func() string { return d.target() }
	switch d.IntN(9) {
	case 0, 1:
		address := [4]byte{192, 0, 2, byte(d.IntN(256))}
		record(1, func() { t.bytes = append(t.bytes, address[:]...) })
		return netip.AddrFrom4(address).String(), owner
	case 2:
		address := [16]byte{0x20, 1, 0xd, 0xb8, 15: byte(d.IntN(256))}
		if d.chance(20) {
			address = netip.MustParseAddr("::ffff:192.0.2.1").As16()
		}
		record(28, func() { t.bytes = append(t.bytes, address[:]...) })
		return netip.AddrFrom16(address).String(), owner
	case 3:
		name := target()
		record(5, func() { t.name(name, d.chance(70)) })
		return nameText(name), name
	case 4:
		name := target()
		record(oneOf(d, 2, 12), func() { t.name(name, d.chance(70)) })
		return nameText(name), owner
	case 5:
		name, preference := target(), d.IntN(1<<16)
		record(15, func() { t.number(preference); t.name(name, d.chance(70)) })
		return fmt.Sprintf("%d %s", preference, nameText(name)), owner
	case 6:
		name, priority, port := target(), d.IntN(1<<16), d.IntN(1<<16)
		record(33, func() { t.number(priority); t.number(7); t.number(port); t.name(name, d.chance(30)) })
		return fmt.Sprintf("%d 7 %d %s", priority, port, nameText(name)), owner
	default:
		record(oneOf(d, 16, 46, 65, 99, 4711), func() { t.bytes = append(t.bytes, strings.Repeat("\x07", d.IntN(60))...) })
		return "", owner
	}
}

// target is a name in an answer.
func (d *dnsDrawer) target() string {
	if d.chance(5) {
		return wireName()
	}
	return d.drawName(oneOf(d, "alias", "Mail 1.0", "a.b", "c\\d", "\x00"))
}
