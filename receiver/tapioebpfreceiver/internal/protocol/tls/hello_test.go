// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tls_test

import (
	"bytes"
	cryptotls "crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

// clientHello is what crypto/tls sends first, without the record's header.
func clientHello(t testing.TB, config *cryptotls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		_ = cryptotls.Client(client, config).Handshake() // it is never answered
	}()
	header := make([]byte, 5)
	_, err := io.ReadFull(server, header)
	require.NoError(t, err)
	hello := make([]byte, int(header[3])<<8|int(header[4]))
	_, err = io.ReadFull(server, hello)
	require.NoError(t, err)
	require.NoError(t, server.Close())
	return hello
}

// extension of a hello, by its number.
type extension struct {
	kind uint16
	data string
}

func addExtensions(b *cryptobyte.Builder, extensions []extension) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, e := range extensions {
			b.AddUint16(e.kind)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.data)) })
		}
	})
}

func message(kind uint8, body func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddUint8(kind)
	b.AddUint24LengthPrefixed(body)
	return b.BytesOrPanic()
}

func client(session string, extensions ...extension) []byte {
	return message(1, func(b *cryptobyte.Builder) {
		b.AddUint16(cryptotls.VersionTLS12)
		b.AddBytes(make([]byte, 32))
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(session)) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(cryptotls.TLS_AES_128_GCM_SHA256) })
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) })
		if extensions != nil {
			addExtensions(b, extensions)
		}
	})
}

func server(version uint16, session string, extensions ...extension) []byte {
	return message(2, func(b *cryptobyte.Builder) {
		b.AddUint16(version)
		b.AddBytes(make([]byte, 32))
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(session)) })
		b.AddUint16(cryptotls.TLS_AES_128_GCM_SHA256)
		b.AddUint8(0)
		if extensions != nil {
			addExtensions(b, extensions)
		}
	})
}

func serverName(kind byte, name string) extension {
	entry := string([]byte{kind, 0, byte(len(name))}) + name
	return extension{0, string([]byte{0, byte(len(entry))}) + entry}
}

func protocol(name string) extension {
	return extension{16, string([]byte{0, byte(len(name) + 1), byte(len(name))}) + name}
}

// keys are pre-shared ones with these ages.
func keys(ages ...byte) extension {
	var identities string
	for _, age := range ages {
		identities += "\x00\x03key\x00\x00\x00" + string([]byte{age})
	}
	return extension{41, string([]byte{0, byte(len(identities))}) + identities + "\x00\x21\x20" + strings.Repeat("b", 32)}
}

var (
	isTLS13   = extension{43, "\x03\x04"}
	firstKey  = extension{41, "\x00\x00"}
	secondKey = extension{41, "\x00\x01"}
)

func TestClientHelloOfCryptoTLS(t *testing.T) {
	for _, name := range []string{"shop.example", strings.Repeat("a", 60) + ".example", ""} {
		hello := tls.ReadClientHello(clientHello(t, &cryptotls.Config{ServerName: name, InsecureSkipVerify: true}))
		assert.Equal(t, name, hello.ServerName)
	}
}

func TestServerName(t *testing.T) {
	for name, tt := range map[string]struct {
		extensions []extension
		want       string
	}{
		"none":            {nil, ""},
		"no extension":    {[]extension{}, ""},
		"one":             {[]extension{{10, "x"}, serverName(0, "a.example")}, "a.example"},
		"of another kind": {[]extension{serverName(1, "a.example")}, ""},
		"empty":           {[]extension{serverName(0, "")}, ""},
		"with a blank":    {[]extension{serverName(0, "a b")}, ""},
		"with a NUL":      {[]extension{serverName(0, "a\x00b")}, ""},
		"not ASCII":       {[]extension{serverName(0, "caf\xc3\xa9")}, ""},
		"cut":             {[]extension{{0, "\x00\x0c\x00\x00\x09a.exam"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.want, tls.ReadClientHello(client("", tt.extensions...)).ServerName)
		})
	}
}

// What is there of a hello that is cut off is read; nothing else is.
func TestCutHellos(t *testing.T) {
	sent := client("session", extension{10, "x"}, serverName(0, "a.example"), extension{21, strings.Repeat("p", 100)})
	at := bytes.Index(sent, []byte("a.example")) + len("a.example")
	for size := range sent {
		hello := tls.ReadClientHello(sent[:size])
		assert.Equal(t, map[bool]string{true: "a.example"}[size >= at], hello.ServerName, size)
	}
	answer := server(cryptotls.VersionTLS12, "session", isTLS13, extension{21, strings.Repeat("p", 100)})
	at = bytes.Index(answer, []byte("\x03\x04")) + 2
	for size := range answer {
		hello := tls.ReadServerHello(answer[:size])
		assert.Equal(t, map[bool]uint16{true: cryptotls.VersionTLS13}[size >= at], hello.Version, size)
	}
}

func TestOtherMessages(t *testing.T) {
	assert.Zero(t, tls.ReadClientHello(server(cryptotls.VersionTLS12, "")))
	assert.Zero(t, tls.ReadServerHello(client("")))
	assert.Zero(t, tls.ReadClientHello(nil))
	assert.Zero(t, tls.ReadServerHello(nil))
}

func TestServerHello(t *testing.T) {
	old := tls.ReadServerHello(server(cryptotls.VersionTLS12, "", protocol("h2")))
	assert.EqualValues(t, cryptotls.VersionTLS12, old.Version)
	assert.Equal(t, "h2", old.Protocol)
	assert.Equal(t, cryptotls.TLS_AES_128_GCM_SHA256, old.CipherSuite)
	assert.Zero(t, old.Group)
	newest := tls.ReadServerHello(server(cryptotls.VersionTLS12, "", extension{51, "\x00\x1d\x00\x03key"}, isTLS13))
	assert.EqualValues(t, cryptotls.VersionTLS13, newest.Version)
	assert.EqualValues(t, cryptotls.X25519, newest.Group)
	assert.Zero(t, tls.ReadServerHello(server(cryptotls.VersionTLS12, "", extension{51, "\x00"}, isTLS13)).Group)
	assert.EqualValues(t, cryptotls.VersionTLS10, tls.ReadServerHello(server(cryptotls.VersionTLS10, "")).Version)
}

func TestResumed(t *testing.T) {
	const yes, no, unknown = "yes", "no", "unknown"
	old, ticket := uint16(cryptotls.VersionTLS12), extension{35, "ticket"}
	for name, tt := range map[string]struct {
		client, server []byte
		want           string
	}{
		"1.2, the same session":               {client("s"), server(old, "s"), yes},
		"1.2, another session":                {client("s"), server(old, "t"), no},
		"1.2, no session":                     {client("s"), server(old, ""), no},
		"1.2, nothing to resume":              {client(""), server(old, "t"), no},
		"1.2, an empty ticket":                {client("", extension{35, ""}), server(old, ""), no},
		"1.2, a ticket without a session":     {client("", ticket), server(old, ""), unknown},
		"1.2, a ticket and a session":         {client("s", ticket), server(old, "s"), yes},
		"1.2, the client's hello is cut":      {client("", ticket)[:50], server(old, ""), unknown},
		"1.3, no key":                         {client("s", keys(1)), server(old, "s", isTLS13), no},
		"1.3, a session's key":                {client("s", keys(1)), server(old, "s", isTLS13, firstKey), yes},
		"1.3, a key from elsewhere":           {client("s", keys(0)), server(old, "s", isTLS13, firstKey), unknown},
		"1.3, the second key":                 {client("s", keys(0, 1)), server(old, "s", isTLS13, secondKey), yes},
		"1.3, a key that the client has not":  {client("s", keys(1)), server(old, "s", isTLS13, secondKey), unknown},
		"1.3, the server's hello is cut":      {client("s"), server(old, "s", isTLS13, extension{51, "k"})[:50], unknown},
		"no answer":                           {client("s"), nil, unknown},
		"1.3, cut behind the version":         {client("s"), slices.Clip(server(old, "s", isTLS13, extension{51, "k"}))[:len(server(old, "s", isTLS13))], unknown},
		"1.3, the client's keys are not here": {client("s", keys(1))[:60], server(old, "s", isTLS13, firstKey), unknown},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := tls.ReadClientHello(tt.client), tls.ReadServerHello(tt.server)
			resumed, known := tls.Resumed(&client, &server)
			got := unknown
			if known {
				got = map[bool]string{true: yes, false: no}[resumed]
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestVersionOf(t *testing.T) {
	for version, want := range map[uint16][2]string{
		0: {}, 0x0200: {}, 0x0300: {"ssl", "3"}, 0x0301: {"tls", "1.0"}, 0x0302: {"tls", "1.1"}, 0x0303: {"tls", "1.2"}, 0x0304: {"tls", "1.3"}, 0x0305: {}, 0x7f1c: {},
	} {
		name, number := tls.VersionOf(version)
		assert.Equal(t, want, [2]string{name, number}, hex.EncodeToString([]byte{byte(version >> 8), byte(version)}))
	}
}

// FuzzHellos gives both readers any bytes: what they make of them is text, and of crypto/tls's own hello the name.
func FuzzHellos(f *testing.F) {
	f.Add(clientHello(f, &cryptotls.Config{ServerName: "shop.example"}), server(cryptotls.VersionTLS12, "s", isTLS13, firstKey))
	f.Add(client("s", keys(0, 1), serverName(0, "a"), extension{35, "t"}), server(cryptotls.VersionTLS12, "s", protocol("h2")))
	f.Add([]byte{1, 0xff, 0xff, 0xff}, []byte{2})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		client, server := tls.ReadClientHello(first), tls.ReadServerHello(second)
		require.True(t, utf8.ValidString(client.ServerName))
		require.True(t, utf8.ValidString(server.Protocol))
		require.LessOrEqual(t, len(client.ServerName), 255)
		resumed, known := tls.Resumed(&client, &server)
		require.False(t, resumed && !known)
		name, number := tls.VersionOf(server.Version)
		require.Equal(t, name == "", number == "")
		require.NotEmpty(t, tls.SuiteName(server.CipherSuite))
		if client.ServerName != "" {
			require.Contains(t, string(first), client.ServerName)
		}
	})
}
