// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package http1 reads the heads of HTTP/1 messages (RFC 9112). It takes bytes and gives views of
// them: nothing is copied, and nothing is kept.
//
// net/http has a parser, too. It builds maps and strings of all that a head has, at many times the
// price, refuses what servers accept, and cannot read a head that was cut off; the tests hold this
// one against it.
package http1 // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"

import (
	"bytes"
	"errors"
	"iter"
	"strings"
)

// ErrNoRequest is returned for what does not begin with a request line.
var ErrNoRequest = errors.New("no request line")

// Request is the first line of a request, and its header lines.
type Request struct {
	Method []byte
	Target []byte // as sent; see SplitTarget
	// TargetCut says that the line was cut off: Target is the beginning of it, and Version empty.
	TargetCut bool
	Version   []byte // "1.1"
	Fields    Fields
}

const versionPrefix = " HTTP/"

// ParseRequest reads a request's head, or as much as there is of it. An error says that there is no
// request line. One that only has a version is a request, too, without a target or with a method that is none: servers
// answer 400 to that.
func ParseRequest(head []byte) (Request, error) {
	head = skipEmptyLines(head)
	line, rest, whole := cutLine(head)
	r := Request{Fields: Fields(rest), TargetCut: !whole}
	if whole {
		version := findVersion(line)
		if version < 0 {
			return Request{}, ErrNoRequest
		}
		line, r.Version = line[:version], line[version+len(versionPrefix):]
	}
	var ok bool
	r.Method, r.Target, ok = bytes.Cut(line, []byte(" "))
	if !whole && (!ok || !isToken(r.Method)) {
		return Request{}, ErrNoRequest
	}
	return r, nil
}

// findVersion returns where it begins behind the target, which may have spaces; -1 if there is none. It nearly always
// has three characters.
func findVersion(line []byte) int {
	if at := len(line) - len(versionPrefix) - len("1.1"); at >= 0 && string(line[at:at+len(versionPrefix)]) == versionPrefix {
		return at
	}
	return bytes.LastIndex(line, []byte(versionPrefix))
}

// ResponseFields are the header lines of a response's head.
func ResponseFields(head []byte) Fields {
	_, rest, _ := cutLine(head)
	return Fields(rest)
}

// skipEmptyLines is for what clients send behind a body that they did not count (RFC 9112, 2.2).
func skipEmptyLines(head []byte) []byte {
	return bytes.TrimLeft(head, "\r\n")
}

// cutLine takes the first line off, without its end; whole is false if the end is missing.
func cutLine(text []byte) (line, rest []byte, whole bool) {
	line, rest, whole = bytes.Cut(text, []byte("\n"))
	if whole {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	return line, rest, whole
}

// isToken is less strict than RFC 9110, 5.6.2: servers accept more methods than may be sent.
func isToken(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(text) > 0
}

// IsMethod says whether a method is one that may be sent (a token of RFC 9110, 5.6.2).
func IsMethod(method []byte) bool {
	for _, c := range method {
		isAlphanumeric := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !isAlphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return len(method) > 0
}

// Fields are header lines, up to the empty line or to where they were cut off.
type Fields []byte

// All are the fields' names and values, without the white space around them. A line that goes on as
// another one (obsolete folding) has its first line's value, and lines without a name are passed
// over, as is a last line that was cut off.
func (f Fields) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for rest := []byte(f); ; {
			var line []byte
			var whole bool
			line, rest, whole = cutLine(rest)
			if !whole || len(line) == 0 {
				return
			}
			colon := bytes.IndexByte(line, ':')
			if colon <= 0 || !isToken(line[:colon]) {
				continue
			}
			if !yield(line[:colon], trimSpace(line[colon+1:])) {
				return
			}
		}
	}
}

// trimSpace is for spaces and tabs only, the white space of RFC 9110, 5.6.3.
func trimSpace(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
		text = text[1:]
	}
	for n := len(text); n > 0 && (text[n-1] == ' ' || text[n-1] == '\t'); n = len(text) {
		text = text[:n-1]
	}
	return text
}

// Is compares a field's name without case; lower is in lower case.
func Is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
