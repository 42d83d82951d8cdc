// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"

import "strings"

const (
	// maxName is how long a name may be on the wire (RFC 1035).
	maxName = 255
	// maxLabel is how long a label may be; what is more is a pointer or reserved.
	maxLabel = 63
	// maxTexts are remembered; then the memory is begun anew.
	maxTexts = 8192
)

// Name of a question.
type Name struct {
	// Text is the name in presentation form, without the dot at its end; the root is ".". A dot or
	// backslash within a label has a backslash before it, and a byte that is no printable ASCII is
	// written as \DDD.
	Text string
	// Folded is Text in lower case: names are equal in any case.
	Folded string
}

// texts remember names: the same few come again and again, and cost no allocation then.
type texts struct {
	names   map[string]Name // by the name as it is on the wire
	targets map[string]string
	scratch []byte
}

func newTexts() texts {
	return texts{names: map[string]Name{}, targets: map[string]string{}}
}

// name reads that of a question: the first name of a message, so it has no pointers, and one that was read before is
// found by its bytes.
func (t *texts) name(message []byte) (name Name, end int, ok bool) {
	end, ok = nameEnd(message)
	if !ok {
		return Name{}, 0, false
	}
	wire := message[:end]
	if name, ok = t.names[string(wire)]; ok {
		return name, end, true
	}
	if len(t.names) >= maxTexts {
		clear(t.names)
	}
	text := string(t.presentation(wire))
	name = Name{Text: text, Folded: strings.ToLower(text)}
	t.names[string(wire)] = name
	return name, end, true
}

func nameEnd(message []byte) (end int, ok bool) {
	for end < len(message) && end < maxName {
		size := int(message[end])
		end++
		if size == 0 {
			return end, true
		}
		if size > maxLabel {
			return 0, false
		}
		end += size
	}
	return 0, false
}

func (t *texts) presentation(wire []byte) []byte {
	text := t.scratch[:0]
	for len(wire) > 0 && wire[0] != 0 {
		if len(text) > 0 {
			text = append(text, '.')
		}
		label := wire[1 : 1+int(wire[0])]
		for _, b := range label {
			text = appendLiteral(text, b)
		}
		wire = wire[1+len(label):]
	}
	if len(text) == 0 {
		text = append(text, '.')
	}
	t.scratch = text
	return text
}

// appendLiteral adds a byte of a label.
func appendLiteral(text []byte, b byte) []byte {
	switch {
	case b == '\\' || b == '.':
		return append(text, '\\', b)
	case b > ' ' && b <= '~':
		return append(text, b)
	default:
		return append(text, '\\', '0'+b/100, '0'+b/10%10, '0'+b%10)
	}
}

// target adds a name to what stands before it, such as an MX's preference. The library escapes more bytes than these
// names do, and ends all with a dot. A record that ends before its name has none, and so no text.
func (t *texts) target(before []byte, name string) string {
	if name == "" {
		return ""
	}
	text := before
	if name != "." {
		name = strings.TrimSuffix(name, ".")
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && !isDigit(name[i+1]) {
			i++
			text = appendLiteral(text, name[i])
			continue
		}
		text = append(text, name[i])
	}
	t.scratch = text
	return t.keep(text)
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func (t *texts) keep(text []byte) string {
	if kept, ok := t.targets[string(text)]; ok {
		return kept
	}
	if len(t.targets) >= maxTexts {
		clear(t.targets)
	}
	kept := string(text)
	t.targets[kept] = kept
	return kept
}
