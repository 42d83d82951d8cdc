// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package tls reads the two messages of a TLS handshake that are in the clear in all versions (RFC 8446, 4.1;
// RFC 5246, 7.4.1). Of one that is cut off, or is not what it should be, it says what stands before that.
package tls // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"

import (
	"bytes"
	"crypto/tls"

	"golang.org/x/crypto/cryptobyte"
)

// Types of handshake messages.
const (
	typeClientHello = 1
	typeServerHello = 2
)

// Types of extensions, as IANA numbers them.
const (
	extensionServerName        = 0
	extensionProtocols         = 16 // application_layer_protocol_negotiation
	extensionSessionTicket     = 35
	extensionPreSharedKey      = 41
	extensionSupportedVersions = 43
	extensionKeyShare          = 51
)

const (
	randomSize  = 32
	nameOfHost  = 0   // RFC 6066, section 3
	maxName     = 255 // of a domain name, RFC 1035
	maxProtocol = 255 // RFC 7301, section 3.1
)

// ClientHello is what a client asks for.
type ClientHello struct {
	ServerName string // that the client wants to talk to; empty: it does not say
	session    []byte
	hasTicket  bool
	ages       []uint32 // of its pre-shared keys, obfuscated; those from elsewhere have none
	whole      bool
}

// ServerHello is what a server has chosen.
type ServerHello struct {
	Version     uint16 // as crypto/tls has it; 0: not known
	CipherSuite uint16 // likewise
	Protocol    string // of the application; empty: none, or in an encrypted message
	Group       uint16 // of the key exchange, as IANA numbers them; 0: none, or in a later message, as before TLS 1.3
	session     []byte
	hasKey      bool
	key         uint16 // which of the client's pre-shared keys
	whole       bool
}

// ReadClientHello reads a message, or the beginning of one. The result refers to it.
func ReadClientHello(message []byte) (hello ClientHello) {
	body, whole := bodyOf(message, typeClientHello)
	var suites, compressions cryptobyte.String
	if !body.Skip(2+randomSize) || !readBytes(&body, &hello.session) ||
		!body.ReadUint16LengthPrefixed(&suites) || !body.ReadUint8LengthPrefixed(&compressions) {
		return hello
	}
	hello.whole = eachExtension(body, hello.readExtension) && whole
	return hello
}

// ReadServerHello reads a message, or the beginning of one. The result refers to it.
func ReadServerHello(message []byte) (hello ServerHello) {
	body, whole := bodyOf(message, typeServerHello)
	var version uint16
	if !body.ReadUint16(&version) || !body.Skip(randomSize) || !readBytes(&body, &hello.session) ||
		!body.ReadUint16(&hello.CipherSuite) || !body.Skip(1) {
		return hello
	}
	hello.whole = eachExtension(body, hello.readExtension) && whole
	if hello.Version == 0 && hello.whole { // TLS 1.3 would have said so
		hello.Version = version
	}
	return hello
}

// Resumed says whether both go on with an earlier session; known: that can be told.
func Resumed(client *ClientHello, server *ServerHello) (resumed, known bool) {
	switch {
	case server.Version == 0:
		return false, false
	case server.Version >= tls.VersionTLS13:
		return resumedByKey(client, server)
	case len(client.session) > 0:
		return bytes.Equal(client.session, server.session), true
	default: // with a ticket, only later messages tell (RFC 5077, section 3.4)
		return false, client.whole && !client.hasTicket
	}
}

// resumedByKey: the key may be one from elsewhere, which has no age (RFC 8446, section 4.2.11).
func resumedByKey(client *ClientHello, server *ServerHello) (resumed, known bool) {
	if !server.hasKey {
		return false, server.whole
	}
	isOld := int(server.key) < len(client.ages) && client.ages[server.key] != 0
	return isOld, isOld
}

// VersionOf a protocol in the conventions' words; empty for what is none.
func VersionOf(version uint16) (name, number string) {
	switch version {
	case tls.VersionSSL30: //nolint:staticcheck // what is seen is told, also what should be gone
		return "ssl", "3"
	case tls.VersionTLS10:
		return "tls", "1.0"
	case tls.VersionTLS11:
		return "tls", "1.1"
	case tls.VersionTLS12:
		return "tls", "1.2"
	case tls.VersionTLS13:
		return "tls", "1.3"
	default:
		return "", ""
	}
}

// bodyOf a message, as far as it is there; whole: that is all of it.
func bodyOf(message []byte, wanted uint8) (body cryptobyte.String, whole bool) {
	rest := cryptobyte.String(message)
	var kind uint8
	var length uint32
	if !rest.ReadUint8(&kind) || kind != wanted || !rest.ReadUint24(&length) {
		return nil, false
	}
	if len(rest) < int(length) {
		return rest, false
	}
	return rest[:length], true
}

func readBytes(s *cryptobyte.String, to *[]byte) bool {
	return s.ReadUint8LengthPrefixed((*cryptobyte.String)(to))
}

// eachExtension says whether it has seen all of them. Messages before TLS 1.3 may end without any.
func eachExtension(s cryptobyte.String, read func(kind uint16, data cryptobyte.String)) bool {
	if s.Empty() {
		return true
	}
	var length, kind uint16
	if !s.ReadUint16(&length) {
		return false
	}
	whole := int(length) == len(s)
	for !s.Empty() {
		var data cryptobyte.String
		if !s.ReadUint16(&kind) || !s.ReadUint16LengthPrefixed(&data) {
			return false
		}
		read(kind, data)
	}
	return whole
}

func (h *ClientHello) readExtension(kind uint16, data cryptobyte.String) {
	switch kind {
	case extensionServerName:
		h.ServerName = readServerName(data)
	case extensionSessionTicket:
		h.hasTicket = len(data) > 0
	case extensionPreSharedKey:
		h.ages = readAges(data)
	}
}

func (h *ServerHello) readExtension(kind uint16, data cryptobyte.String) {
	switch kind {
	case extensionSupportedVersions:
		data.ReadUint16(&h.Version)
	case extensionProtocols:
		h.Protocol = readProtocol(data)
	case extensionPreSharedKey:
		h.hasKey = data.ReadUint16(&h.key)
	case extensionKeyShare:
		data.ReadUint16(&h.Group)
	}
}

func readServerName(data cryptobyte.String) string {
	var names, name cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&names) {
		return ""
	}
	for !names.Empty() {
		var kind uint8
		if !names.ReadUint8(&kind) || !names.ReadUint16LengthPrefixed(&name) {
			return ""
		}
		if kind == nameOfHost {
			return textOf(name, maxName)
		}
	}
	return ""
}

func readAges(data cryptobyte.String) (ages []uint32) {
	var identities, identity cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&identities) {
		return nil
	}
	for !identities.Empty() {
		var age uint32
		if !identities.ReadUint16LengthPrefixed(&identity) || !identities.ReadUint32(&age) {
			return ages
		}
		ages = append(ages, age)
	}
	return ages
}

// readProtocol: a server names one.
func readProtocol(data cryptobyte.String) string {
	var protocols, protocol cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&protocols) || !protocols.ReadUint8LengthPrefixed(&protocol) {
		return ""
	}
	return textOf(protocol, maxProtocol)
}

// textOf is what can be shown: a name that has other bytes in it is none.
func textOf(name []byte, limit int) string {
	if len(name) > limit {
		return ""
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return string(name)
}
