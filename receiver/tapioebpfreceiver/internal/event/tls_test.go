// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

var handshake = bpf.WireTlsHandshake{
	Header: header, Ends: ends, Opened: 81, Start: 82, Cause: bpf.WireCause{Sequence: 83, Acknowledged: 84, Thread: 85, Flags: 86},
	Sequence: 87, Acknowledged: math.MaxUint32, Error: -88, Flags: 89, Alert: math.MaxUint8,
}

func TestDecodeTLSHandshake(t *testing.T) {
	for _, hellos := range [][2]string{{"", ""}, {"\x01hello", ""}, {"\x01", "\x02hello"}} {
		want := handshake
		want.ClientHelloSize, want.ServerHelloSize = uint16(len(hellos[0])), uint16(len(hellos[1]))
		e, err := event.DecodeTLSHandshake(eventtest.Record(want, []byte(hellos[0]), []byte(hellos[1])))
		require.NoError(t, err)
		assert.Equal(t, hellos[0], string(e.ClientHello))
		assert.Equal(t, hellos[1], string(e.ServerHello))
		assert.Equal(t, want, *e.WireTlsHandshake)
		assert.True(t, e.IsServer())
	}
}

func TestDecodeTLSHandshakeRefuses(t *testing.T) {
	for name, change := range map[string]func(*bpf.WireTlsHandshake){
		"a hello that is not there":          func(e *bpf.WireTlsHandshake) { e.ClientHelloSize = 1 },
		"a server's hello that is not there": func(e *bpf.WireTlsHandshake) { e.ServerHelloSize = 0xffff },
		"no role":                            func(e *bpf.WireTlsHandshake) { e.Ends.Role = event.RoleUnknown },
		"another role":                       func(e *bpf.WireTlsHandshake) { e.Ends.Role = 3 },
		"an end before its begin":            func(e *bpf.WireTlsHandshake) { e.Start = e.Header.Time + 1 },
		"a begin before the connection's":    func(e *bpf.WireTlsHandshake) { e.Opened = e.Start + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			changed := handshake
			change(&changed)
			_, err := event.DecodeTLSHandshake(eventtest.Record(changed))
			assert.ErrorIs(t, err, event.ErrUndecodable)
		})
	}
	_, err := event.DecodeTLSHandshake(eventtest.Record(handshake, []byte{0}))
	assert.ErrorIs(t, err, event.ErrUndecodable, "more than the hellos")
}

func TestEndOfATLSHandshake(t *testing.T) {
	const (
		client, server = event.RoleClient, event.RoleServer
		alert, sealed  = event.TLSAlert, event.TLSEncryptedAlert
		received       = event.TLSAlertReceived
		here, aborted  = event.TLSClosedHere, event.TLSAborted
	)
	for _, c := range []struct {
		name   string
		role   uint8
		flags  uint16
		alert  uint8
		errno  int32
		want   string
		sender string
	}{
		{"established", client, event.TLSEstablished, 0, 0, "", ""},
		{"a client that does not trust", client, alert, 48, 0, "unknown_ca", "client"},
		{"the same at the server", server, alert | received, 48, 0, "unknown_ca", "client"},
		{"a server that refuses", client, alert | received, 70, 0, "protocol_version", "server"},
		{"the same at the server", server, alert, 70, 0, "protocol_version", "server"},
		{"closed by an alert", client, alert | received, 0, 0, "close_notify", "server"},
		{"a client whose hello could not be decrypted", client, alert, 121, 0, "ech_required", "client"},
		{"an alert without a name", client, alert | received, 250, 0, "_OTHER", "server"},
		{"an encrypted alert", client, sealed, 0, 0, "encrypted_alert", "client"},
		{"the same at the server", server, sealed | received, 0, 0, "encrypted_alert", "client"},
		{"an answer that is not TLS", client, event.TLSNotTLS, 0, 0, "invalid_response", ""},
		{"reset by the server", client, 0, 0, 104, "connection_reset", ""},
		{"timed out", client, here, 0, 110, "timed_out", ""},
		{"a client that gives up", client, here, 0, 0, "canceled", ""},
		{"a client that gives up by a reset", client, here | aborted, 0, 0, "canceled", ""},
		{"a server that resets", server, here | aborted, 0, 0, "connection_reset", ""},
		{"a server that closes", server, here, 0, 0, "connection_closed", ""},
		{"a client whose server closes", client, 0, 0, 0, "connection_closed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := event.TLSHandshake{WireTlsHandshake: &bpf.WireTlsHandshake{Flags: c.flags, Alert: c.alert, Error: c.errno}}
			e.Ends.Role = c.role
			assert.Equal(t, c.want, e.ErrorType())
			assert.Equal(t, c.sender, e.AlertSender())
			assert.Equal(t, c.want == "", e.IsEstablished())
		})
	}
}
