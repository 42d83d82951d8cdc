// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package http1 // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"

import (
	"bytes"
	"strconv"
	"strings"
)

// Target is what a request asks for, in the parts of a URL. Parts that it does not have are empty.
type Target struct {
	Scheme    []byte // "http", "https"; only where the whole URL was sent, as to a proxy
	Authority []byte // host and port, without credentials; likewise, and of CONNECT
	Path      []byte
	Query     []byte // without the question mark
	HasQuery  bool   // also if it is empty
}

// SplitTarget takes a request's target apart, in each of the forms of RFC 9112, 3.2.
func SplitTarget(method, target []byte) Target {
	if string(method) == "CONNECT" {
		return Target{Authority: WithoutCredentials(target)}
	}
	var t Target
	if len(target) > 0 && target[0] != '/' {
		t.Scheme, t.Authority, target = splitAbsolute(target)
	}
	t.Path, t.Query, t.HasQuery = bytes.Cut(target, []byte("?"))
	return t
}

// splitAbsolute takes scheme and authority off an absolute URL; of anything else, what may be credentials.
func splitAbsolute(target []byte) (scheme, authority, rest []byte) {
	scheme, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok || !isScheme(scheme) {
		return nil, nil, withoutWhatMayBeCredentials(target)
	}
	end := endOfAuthority(rest)
	authority, rest = WithoutCredentials(rest[:end]), rest[end:]
	if len(rest) == 0 || rest[0] != '/' {
		return scheme, authority, append([]byte("/"), rest...) // RFC 9112, 3.2.2
	}
	return scheme, authority, rest
}

// withoutWhatMayBeCredentials is a target of no known form, from behind a user and password on.
func withoutWhatMayBeCredentials(target []byte) []byte {
	authority := target
	if _, rest, ok := bytes.Cut(target, []byte("://")); ok {
		authority = rest
	}
	if at := bytes.LastIndexByte(authority[:endOfAuthority(authority)], '@'); at >= 0 {
		return authority[at+1:]
	}
	return target
}

func endOfAuthority(text []byte) int {
	if end := bytes.IndexAny(text, "/?#"); end >= 0 {
		return end
	}
	return len(text)
}

func isScheme(text []byte) bool {
	for _, c := range text {
		if letter := c | 0x20; (letter < 'a' || letter > 'z') && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return len(text) > 0
}

// WithoutCredentials is an authority without user and password (RFC 3986, 3.2.1), as they may also stand in Host.
func WithoutCredentials(authority []byte) []byte {
	return authority[bytes.LastIndexByte(authority, '@')+1:]
}

// SplitHost takes an authority apart: "example.com:8080", "[::1]:8080", "example.com". The address
// comes without brackets. Port is 0 where there is none that makes sense.
func SplitHost(authority string) (address string, port uint16) {
	address, text := authority, ""
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		address, text = authority[:colon], authority[colon+1:]
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		port = uint16(n)
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), port
}
