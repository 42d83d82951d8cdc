// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// Of TLS 1.2, for shop.example, resumed, with h2.
var (
	clientHello = "\x01\x00\x00\x41\x03\x03" + strings.Repeat("r", 32) + "\x01s\x00\x02\xc0\x2b\x01\x00" +
		"\x00\x15" + "\x00\x00\x00\x11\x00\x0f\x00\x00\x0cshop.example"
	serverHello = "\x02\x00\x00\x32\x03\x03" + strings.Repeat("r", 32) + "\x01s\xc0\x2b\x00" +
		"\x00\x09" + "\x00\x10\x00\x05\x00\x03\x02h2"
)

// handshakeRecord is one of process 10, a client whose handshake took the fourth second after boot; change
// makes another of it.
func handshakeRecord(client, server string, change func(*bpf.WireTlsHandshake)) []byte {
	e := bpf.WireTlsHandshake{
		Header: headerOf(event.TypeTLSHandshake, 10, second, 5*second), Ends: tcpEnds(event.RoleClient), Opened: 3 * second, Start: 4 * second,
		Flags: event.TLSEstablished, ClientHelloSize: uint16(len(client)), ServerHelloSize: uint16(len(server)),
	}
	change(&e)
	return eventtest.Record(e, []byte(client), []byte(server))
}

func refusedCertificate(e *bpf.WireTlsHandshake) { e.Flags, e.Alert = event.TLSAlert, 48 }

func ofHandshakesServer(e *bpf.WireTlsHandshake) { e.Ends.Role, e.Opened = event.RoleServer, 0 }

var (
	tlsNames  = attributes{"server.address": "shop.example"}
	tlsChoice = attributes{
		"tls.protocol.name": "tls", "tls.protocol.version": "1.2", "tls.cipher": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
		"tls.next_protocol": "h2", "tls.resumed": true,
	}
	established    = attributes{"tls.established": true}
	notEstablished = attributes{"tls.established": false}
	unknownCA      = merge(notEstablished, attributes{"error.type": "unknown_ca", "tapio.tls.alert.code": int64(48)})
	byTheClient    = attributes{"tapio.tls.alert.sender": "client"}
	inASecond      = attributes{"tapio.tls.duration": 1.0}
)

func tlsTranslations() []translation {
	both := func(changes ...func(*bpf.WireTlsHandshake)) func(*bpf.WireTlsHandshake) {
		return func(e *bpf.WireTlsHandshake) {
			for _, change := range changes {
				change(e)
			}
		}
	}
	span := func(status ptrace.StatusCode, parts ...attributes) []gotSpan {
		return []gotSpan{{
			Resource: curlResource, Attributes: merge(parts...), Name: "tls.handshake", Kind: ptrace.SpanKindClient,
			Start: wallTime(4 * second), End: wallTime(5 * second), Status: status,
		}}
	}
	log := func(inTrace bool, parts ...attributes) []gotLog {
		return []gotLog{logOf("tapio.tls.failure", curlResource, merge(append(parts, inASecond)...), 5*second, plog.SeverityNumberWarn, inTrace)}
	}
	same := func(*bpf.WireTlsHandshake) {}
	cases := []struct {
		name           string
		client, server string
		change         func(*bpf.WireTlsHandshake)
		spans          []gotSpan
		logs           []gotLog
	}{
		{"a handshake", clientHello, serverHello, same, span(ptrace.StatusCodeUnset, owner10, tcp, client, tlsNames, established, tlsChoice), nil},
		{"a handshake of a server", clientHello, serverHello, ofHandshakesServer, nil, nil},
		{"a cipher suite that crypto/tls does not have", clientHello, strings.Replace(serverHello, "\xc0\x2b", "\x00\x9e", 1), same,
			span(ptrace.StatusCodeUnset, owner10, tcp, client, tlsNames, established, tlsChoice, attributes{"tls.cipher": "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"}), nil},
		{"a handshake of TLS 1.3", clientHello, "\x02\x00\x00\x38\x03\x03" + strings.Repeat("r", 32) + "\x00\x13\x01\x00" + "\x00\x10" + "\x00\x2b\x00\x02\x03\x04" + "\x00\x33\x00\x06\x11\xec\x00\x02ks", same,
			span(ptrace.StatusCodeUnset, owner10, tcp, client, tlsNames, established, attributes{
				"tls.protocol.name": "tls", "tls.protocol.version": "1.3", "tls.cipher": "TLS_AES_128_GCM_SHA256", "tls.curve": "X25519MLKEM768", "tls.resumed": false,
			}), nil},
		{"a handshake without hellos", "", "", same, span(ptrace.StatusCodeUnset, owner10, tcp, client, established), nil},
		{"a handshake with a second hello", clientHello, "", func(e *bpf.WireTlsHandshake) { e.Flags |= event.TLSRetried },
			span(ptrace.StatusCodeUnset, owner10, tcp, client, tlsNames, established, attributes{"tapio.tls.hello_retry": true}), nil},
		{"a client that does not trust", clientHello, serverHello, refusedCertificate,
			span(ptrace.StatusCodeError, owner10, tcp, client, tlsNames, tlsChoice, unknownCA, byTheClient),
			log(true, owner10, tcp, client, tlsNames, tlsChoice, unknownCA, byTheClient)},
		{"the same at the server", clientHello, serverHello, both(ofHandshakesServer, refusedCertificate, func(e *bpf.WireTlsHandshake) { e.Flags |= event.TLSAlertReceived }),
			nil, log(false, owner10, tcp, server, tlsNames, tlsChoice, unknownCA, byTheClient)},
		{"a server that does not answer", clientHello, "", func(e *bpf.WireTlsHandshake) { e.Flags = event.TLSClosedHere },
			span(ptrace.StatusCodeError, owner10, tcp, client, tlsNames, notEstablished, attributes{"error.type": "canceled"}),
			log(true, owner10, tcp, client, tlsNames, notEstablished, attributes{"error.type": "canceled"})},
		{"an encrypted alert", clientHello, serverHello, func(e *bpf.WireTlsHandshake) { e.Flags = event.TLSEncryptedAlert },
			span(ptrace.StatusCodeError, owner10, tcp, client, tlsNames, tlsChoice, notEstablished, byTheClient, attributes{"error.type": "encrypted_alert"}),
			log(true, owner10, tcp, client, tlsNames, tlsChoice, notEstablished, byTheClient, attributes{"error.type": "encrypted_alert"})},
	}
	var all []translation
	for _, c := range cases {
		all = append(all, translation{
			name: c.name, before: [][]byte{curl(2 * second)}, record: func() []byte { return handshakeRecord(c.client, c.server, c.change) },
			spans: c.spans, logs: c.logs, family: event.FamilyNetwork,
		})
	}
	return all
}

func TestAFailedHandshakeAndItsLogAreOfOneTrace(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), handshakeRecord(clientHello, serverHello, refusedCertificate))
	out := w.take(t)
	require.Len(t, out.spanIDs, 1)
	assert.Equal(t, out.spanIDs[0], out.logIDs[1])
}

// The spans of a connection that nobody is the parent of wait no longer than until its handshake is over.
func TestAHandshakeTakesItsConnectionAlong(t *testing.T) {
	w := newWaitingWorld(allSignals)
	connect := eventtest.Record(bpf.WireConnectionConnect{
		Header: headerOf(event.TypeConnectionConnect, 10, second, 4*second), Ends: tcpEnds(event.RoleClient), Opened: 3 * second, Sequence: 7, Acknowledged: 8,
	})
	w.handle(connect)
	assert.Equal(t, 1, w.Held())
	w.handle(handshakeRecord(clientHello, serverHello, func(e *bpf.WireTlsHandshake) { e.Sequence, e.Acknowledged = 7, 8 }))
	assert.Zero(t, w.Held())
	w.requireClosed(t)
	out := w.take(t)
	spans := byName(out)
	require.Len(t, spans, 2)
	assert.Equal(t, out.spanIDs[spans["tcp.connect"]].span, out.parents[spans["tls.handshake"]])
	assert.Equal(t, out.spanIDs[spans["tcp.connect"]].trace, out.spanIDs[spans["tls.handshake"]].trace)
}

// What fails while a server serves a request is told with its log when that is over.
func TestAHandshakeWaitsForTheRequestThatItWasFor(t *testing.T) {
	w := newWaitingWorld(allSignals)
	w.handle(handshakeRecord(clientHello, serverHello, func(e *bpf.WireTlsHandshake) {
		refusedCertificate(e)
		e.Cause = causedBy(5)
	}))
	assert.Equal(t, 1, w.Held())
	w.handle(exchangeRecord(getHead, okHead, both(ofServer, numberedAs(5))))
	assert.Zero(t, w.Held())
	w.requireClosed(t)
	out := w.take(t)
	spans := byName(out)
	assert.Equal(t, out.spanIDs[spans["GET server"]].span, out.parents[spans["tls.handshake"]])
	require.Len(t, out.logIDs, 1)
	assert.Equal(t, out.spanIDs[spans["tls.handshake"]], out.logIDs[0])
}

const (
	tlsClientPoint  = `{"tapio.network.role":"client","tls.protocol.name":"tls","tls.protocol.version":"1.2"}`
	tlsServerPoint  = `{"tapio.network.role":"server","tls.protocol.name":"tls","tls.protocol.version":"1.2"}`
	tlsRefusedPoint = `{"error.type":"unknown_ca","tapio.network.role":"client"}`
)

func TestHandshakeMetrics(t *testing.T) {
	same := func(*bpf.WireTlsHandshake) {}
	w := newWorld(Signals{Metrics: true}, 3)
	w.handle(
		handshakeRecord(clientHello, serverHello, same),
		handshakeRecord(clientHello, serverHello, func(e *bpf.WireTlsHandshake) { e.Start += second / 2 }),
		handshakeRecord(clientHello, serverHello, ofHandshakesServer),
		handshakeRecord(clientHello, "", refusedCertificate),
		handshakeRecord(clientHello, serverHello, refusedCertificate), // one series too many
	)
	const name = "- tapio.tls.handshake.duration "
	points := w.collect(t, 10*second).points
	assert.Equal(t, point{count: 2, sum: 1.5, buckets: map[float64]uint64{0.5: 1, 1: 1}}, points[name+tlsClientPoint])
	assert.EqualValues(t, 1, points[name+tlsServerPoint].count)
	assert.EqualValues(t, 1, points[name+tlsRefusedPoint].count)
	assert.EqualValues(t, 1, points[name+overflow].count)
	assert.NotEmpty(t, w.collect(t, 905*second).metrics["tapio.tls.handshake.duration"])
	assert.NotContains(t, w.collect(t, 906*second).metrics, "tapio.tls.handshake.duration")
}

// A version that has no name is told as none, and so is counted as none: two points with the same attributes would
// be one series twice.
func TestHandshakeMetricsOfNamelessVersions(t *testing.T) {
	same := func(*bpf.WireTlsHandshake) {}
	w := newWorld(Signals{Metrics: true}, 100)
	for _, version := range []string{"\x7f\x1c", "\x05\x05", "\x02\x00"} {
		w.handle(handshakeRecord(clientHello, strings.Replace(serverHello, "\x03\x03", version, 1), same))
	}
	w.handle(handshakeRecord(clientHello, "", same))
	const name = "- tapio.tls.handshake.duration "
	points := w.collect(t, 10*second).points
	assert.EqualValues(t, 4, points[name+`{"tapio.network.role":"client"}`].count)
}
