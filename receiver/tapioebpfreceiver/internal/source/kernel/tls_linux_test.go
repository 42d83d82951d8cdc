// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	tlshello "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func withTLS(o *Options) {
	o.Families = []string{familyNetwork}
	o.TLSHandshakes = true
}

func withTLSAndHTTP(o *Options) {
	withHTTP(o)
	o.Families = []string{familyNetwork, familyHTTP}
	o.TLSHandshakes = true
}

// handshake is a record, as far as it is the same each time.
type handshake struct {
	Role        string
	Name        string
	Version     uint16
	CipherSuite uint16
	Protocol    string
	Resumed     string // "", "yes", "no"
	Error       string
	AlertSender string
	Retried     bool
	Cut         bool // the ClientHello
}

// talkTLS returns what the ends know of each handshake, and the pid of the process that was both.
func (w *world) talkTLS(c handshakeCase) (pid uint32, truths []handshakeTruth) {
	w.t.Helper()
	text, err := json.Marshal(c)
	require.NoError(w.t, err)
	command := w.workload("tls", string(text))
	var out bytes.Buffer
	command.Stdout = &out
	require.NoError(w.t, command.Run())
	lines := bufio.NewScanner(&out)
	for lines.Scan() {
		var truth handshakeTruth
		require.NoError(w.t, json.Unmarshal(lines.Bytes(), &truth))
		truths = append(truths, truth)
	}
	return uint32(command.Process.Pid), truths
}

// handshakesOf a process, when the world is finished; each end's in the order of their beginnings.
func (w *world) handshakesOf(pid uint32) (events []event.TLSHandshake, found []handshake) {
	w.t.Helper()
	for _, record := range w.ofType(event.TypeTLSHandshake) {
		e, err := event.DecodeTLSHandshake(record)
		require.NoError(w.t, err)
		if e.Header.Pid != pid {
			continue
		}
		assert.NotZero(w.t, e.Header.CgroupId)
		assert.NotZero(w.t, e.Sequence)
		assert.Equal(w.t, e.IsServer(), e.Opened == 0)
		events, found = append(events, e), append(found, handshakeIn(e))
	}
	return events, found
}

func handshakeIn(e event.TLSHandshake) handshake {
	client, server := tlshello.ReadClientHello(e.ClientHello), tlshello.ReadServerHello(e.ServerHello)
	h := handshake{
		Role: "client", Name: client.ServerName, Version: server.Version, CipherSuite: server.CipherSuite, Protocol: server.Protocol,
		Error: e.ErrorType(), AlertSender: e.AlertSender(), Retried: e.Flags&event.TLSRetried != 0, Cut: e.Flags&event.TLSClientHelloCut != 0,
	}
	if e.IsServer() {
		h.Role = "server"
	}
	if resumed, known := tlshello.Resumed(&client, &server); known {
		h.Resumed = map[bool]string{false: "no", true: "yes"}[resumed]
	}
	return h
}

// atBoth ends the same is seen.
func atBoth(handshakes ...handshake) (all []handshake) {
	for _, h := range handshakes {
		for _, h.Role = range []string{"client", "server"} {
			all = append(all, h)
		}
	}
	return all
}

func (w *world) networkCounters() source.Counters {
	w.t.Helper()
	return w.counters()[uint8(event.FamilyNetwork)]
}

func assertHandshakeSlotsAreFree(t testing.TB, w *world) {
	t.Helper()
	assertAllFree(t, w, "tls_free")
}

// established handshakes are compared with what the two ends know of them.
var establishedCases = []struct {
	name string
	handshakeCase
	retried, cut bool
}{
	{"1.3", handshakeCase{}, false, false},
	{"1.2", handshakeCase{Version: tls.VersionTLS12}, false, false},
	{"1.0", handshakeCase{Version: tls.VersionTLS10}, false, false},
	{"protocols in 1.3", handshakeCase{Protocols: []string{"h2", "http/1.1"}}, false, false},
	{"protocols in 1.2", handshakeCase{Version: tls.VersionTLS12, Protocols: []string{"h2", "http/1.1"}}, false, false},
	{"another hello", handshakeCase{ClientCurves: []tls.CurveID{tls.X25519, tls.CurveP256}, ServerCurves: []tls.CurveID{tls.CurveP256}}, true, false},
	{"resumed 1.3", handshakeCase{Times: 3}, false, false},
	{"resumed 1.2", handshakeCase{Version: tls.VersionTLS12, Times: 3}, false, false},
	{"another hello and resumed", handshakeCase{ClientCurves: []tls.CurveID{tls.X25519, tls.CurveP256}, ServerCurves: []tls.CurveID{tls.CurveP256}, Times: 2}, true, false},
	{"client certificate 1.3", handshakeCase{ClientCertificate: true, WantCertificate: true}, false, false},
	{"client certificate 1.2", handshakeCase{Version: tls.VersionTLS12, ClientCertificate: true, WantCertificate: true}, false, false},
	{"IPv6", handshakeCase{Address: "[::1]:0"}, false, false},
	{"IPv4 in IPv6", handshakeCase{Address: "[::ffff:127.0.0.1]:0"}, false, false},
	{"byte by byte 1.3", handshakeCase{Split: 1}, false, false},
	{"byte by byte 1.2", handshakeCase{Split: 1, Version: tls.VersionTLS12}, false, false},
	{"a hello in segments", handshakeCase{Split: 600}, false, false},
	{"segments end within headers", handshakeCase{Split: 7, ClientCurves: []tls.CurveID{tls.X25519, tls.CurveP256}, ServerCurves: []tls.CurveID{tls.CurveP256}}, true, false},
	{"a large hello", handshakeCase{ManyProtocols: 20}, false, true},
	{"the largest key shares", handshakeCase{ClientCurves: []tls.CurveID{tls.SecP384r1MLKEM1024}}, false, false},
	{"the largest key shares, asked for", handshakeCase{ServerCurves: []tls.CurveID{tls.SecP384r1MLKEM1024}}, true, false},
	{"the largest key shares, resumed", handshakeCase{ServerCurves: []tls.CurveID{tls.SecP384r1MLKEM1024}, Times: 2}, true, false},
	{"client certificate, resumed", handshakeCase{ClientCertificate: true, WantCertificate: true, Times: 2}, false, false},
	{"accepted late", handshakeCase{Defer: true}, false, false},
	{"a slow server", handshakeCase{Slow: 300 * time.Millisecond}, false, false},
}

func TestTLSHandshakes(t *testing.T) {
	for name, options := range map[string]func(*Options){"alone": withTLS, "with HTTP": withTLSAndHTTP} {
		t.Run(name, func(t *testing.T) { testTLSHandshakes(t, options) })
	}
}

func testTLSHandshakes(t *testing.T, options func(*Options)) {
	w := newWorld(t, options)
	pids, truths := make([]uint32, len(establishedCases)), make([][]handshakeTruth, len(establishedCases))
	for i, c := range establishedCases {
		pids[i], truths[i] = w.talkTLS(c.handshakeCase)
	}
	w.finish()
	for i, c := range establishedCases {
		t.Run(c.name, func(t *testing.T) {
			events, found := w.handshakesOf(pids[i])
			var want []handshake
			for _, truth := range truths[i] {
				require.Empty(t, truth.Client)
				require.Empty(t, truth.Server)
				want = append(want, atBoth(wantOf(truth, c.retried, c.cut))...)
			}
			assert.ElementsMatch(t, want, found)
			assertTimes(t, c.handshakeCase, events, truths[i])
		})
	}
	assert.Zero(t, w.networkCounters().TableFull+w.networkCounters().Unreadable+w.networkCounters().RingFull)
	assertHandshakeSlotsAreFree(t, w)
}

func wantOf(truth handshakeTruth, retried, cut bool) handshake {
	h := handshake{
		Name: tlsName, Version: truth.Version, CipherSuite: truth.CipherSuite,
		Resumed: map[bool]string{false: "no", true: "yes"}[truth.Resumed], Retried: retried, Cut: cut,
	}
	if truth.Version < tls.VersionTLS13 { // later, it is encrypted
		h.Protocol = truth.Protocol
	}
	return h
}

func assertTimes(t *testing.T, c handshakeCase, events []event.TLSHandshake, truths []handshakeTruth) {
	t.Helper()
	connection := 0
	for _, e := range events {
		if e.IsServer() {
			continue
		}
		took := time.Duration(e.Header.Time - e.Start)
		require.Less(t, connection, len(truths))
		assert.GreaterOrEqual(t, took, c.Slow)
		assert.LessOrEqual(t, took, truths[connection].Took)
		assert.LessOrEqual(t, e.Opened, e.Start)
		connection++
	}
}

func TestFailedTLSHandshakes(t *testing.T) {
	cases := []struct {
		name string
		handshakeCase
		client, server handshake
	}{
		{"not trusted 1.2", handshakeCase{Version: tls.VersionTLS12, Distrust: true},
			handshake{Error: "bad_certificate", AlertSender: "client"}, handshake{Error: "bad_certificate", AlertSender: "client"}},
		{"not trusted 1.3", handshakeCase{Distrust: true},
			handshake{Error: "encrypted_alert", AlertSender: "client"}, handshake{Error: "encrypted_alert", AlertSender: "client"}},
		{"no common version", handshakeCase{Version: tls.VersionTLS12, ServerVersion: tls.VersionTLS13},
			handshake{Error: "protocol_version", AlertSender: "server"}, handshake{Error: "protocol_version", AlertSender: "server"}},
		{"no certificate of the client 1.2", handshakeCase{Version: tls.VersionTLS12, WantCertificate: true},
			handshake{Error: "handshake_failure", AlertSender: "server"}, handshake{Error: "handshake_failure", AlertSender: "server"}},
		{"a server that closes", handshakeCase{Server: "close"}, handshake{Error: "connection_closed"}, handshake{Error: "connection_closed"}},
		{"a server that resets", handshakeCase{Server: "reset"}, handshake{Error: "connection_reset"}, handshake{Error: "connection_reset"}},
		{"a server that never answers", handshakeCase{Server: "silent"}, handshake{Error: "canceled"}, handshake{Error: "connection_closed"}},
		{"a server that talks HTTP", handshakeCase{Server: "plain"}, handshake{Error: "invalid_response"}, handshake{Error: "invalid_response"}},
	}
	w := newWorld(t, withTLS)
	pids, truths := make([]uint32, len(cases)), make([][]handshakeTruth, len(cases))
	for i, c := range cases {
		pids[i], truths[i] = w.talkTLS(c.handshakeCase)
	}
	w.finish()
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.Len(t, truths[i], 1)
			t.Logf("client: %s; server: %s", truths[i][0].Client, truths[i][0].Server)
			require.NotEmpty(t, truths[i][0].Client)
			_, found := w.handshakesOf(pids[i])
			c.client.Role, c.server.Role = "client", "server"
			for j := range found { // how far they came differs
				found[j].Version, found[j].CipherSuite, found[j].Resumed = 0, 0, ""
				assert.Equal(t, tlsName, found[j].Name)
				found[j].Name = ""
			}
			assert.ElementsMatch(t, []handshake{c.client, c.server}, found)
		})
	}
	assert.Zero(t, w.networkCounters().TableFull+w.networkCounters().Unreadable)
	assertHandshakeSlotsAreFree(t, w)
}

// What comes in the clear before, or is not TLS, is no handshake.
func TestNoTLSHandshakes(t *testing.T) {
	w := newWorld(t, withTLSAndHTTP)
	var pids []uint32
	starttls, _ := w.talkTLS(handshakeCase{Preface: "STARTTLS\r\n"})
	pids = append(pids, starttls)
	for _, steps := range [][]step{
		{client(get), server(ok + "hello")},
		{client("\x16\x03\x01"), server("x")}, // no more of it
		{client("\x16"), client("\x16\x02"), server("\x06")},
		{client("\x16\x03\x01\x00\x05\x02hell"), server("x")},
		{{By: "client", Send: "\x16\x03\x01\x00\x05\x02hell", Split: 1}, server("x")},
		{client("\x16\x02\x01\x00\x05\x01hell"), server("x")},
		{client("CONNECT a:443 HTTP/1.1\r\n\r\n"), server("HTTP/1.1 200 Established\r\n\r\n"), client("\x16\x03\x01\x00\x05\x01hell")},
		{server("220 ready\r\n"), client("\x16\x03\x01\x00\x05\x01hell")},
		nil,
	} {
		pids = append(pids, w.play(script{Address: "127.0.0.1:0", Steps: steps}))
	}
	pids = append(pids, w.play(script{Address: "127.11.7.1:443", Steps: []step{client(get), server(ok + "hello")}}))
	w.finish()
	for i, pid := range pids {
		_, found := w.handshakesOf(pid)
		assert.Empty(t, found, "case %d", i)
	}
	_, exchanges := w.exchangesOf(pids[len(pids)-1])
	assert.Len(t, exchanges, 2)
	assert.Zero(t, w.networkCounters().Unreadable)
	assertHandshakeSlotsAreFree(t, w)
	assertSlotsAreFree(t, w)
}

const (
	// a ClientHello of TLS 1.2 without extensions, and answers to it; scripts are text, so all bytes are ASCII
	plainHello  = "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03" + "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr" + "\x00\x00\x02\x00\x2f\x01\x00"
	plainAnswer = "\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03" + "ssssssssssssssssssssssssssssssss" + "\x00\x00\x2f\x00"
	cipherSpec  = "\x14\x03\x03\x00\x01\x01"
	finished    = "\x16\x03\x03\x00\x28" + "ffffffffffffffffffffffffffffffffffffffff"
	data12      = "\x17\x03\x03\x00\x18" + "dddddddddddddddddddddddd"
	warning     = "\x15\x03\x03\x00\x02\x01\x70"
	handshakeOK = "\x0e\x00\x00\x00"
	// the same for TLS 1.3
	answer13 = "\x16\x03\x03\x00\x32\x02\x00\x00\x2e\x03\x03" + "ssssssssssssssssssssssssssssssss" + "\x00\x13\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04"
	data13   = "\x17\x03\x03\x00\x40" + "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
	alert13  = "\x17\x03\x03\x00\x13" + "aaaaaaaaaaaaaaaaaaa"
)

// Bytes that crypto/tls would not send.
func TestTLSRecords(t *testing.T) {
	done := handshake{Version: tls.VersionTLS12, CipherSuite: tls.TLS_RSA_WITH_AES_128_CBC_SHA, Resumed: "no"}
	failed := func(errorType, sender string) handshake {
		h := done
		h.Error, h.AlertSender = errorType, sender
		return h
	}
	done13 := handshake{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, Resumed: "no"}
	distrusted13, canceled13 := done13, done13
	distrusted13.Error, distrusted13.AlertSender = "unknown_ca", "client"
	canceled13.Error, canceled13.AlertSender = "close_notify", "client"
	refused13 := done13
	refused13.Error, refused13.AlertSender = "encrypted_alert", "server"
	unanswered := func(errorType, sender string) handshake { return handshake{Error: errorType, AlertSender: sender} }
	long := "\x16\x03\x03\x40\x00" + strings.Repeat("c", 0x4000)
	cases := []struct {
		name  string
		steps []step
		want  []handshake
	}{
		{"client first", []step{client(plainHello), server(plainAnswer + long), client(finished + cipherSpec + finished), server(cipherSpec + finished), client(data12)}, atBoth(done)},
		{"server first", []step{client(plainHello), server(plainAnswer + cipherSpec + finished), client(cipherSpec + finished), client(data12)}, atBoth(done)},
		{"False Start", []step{client(plainHello), server(plainAnswer), client(cipherSpec + finished + data12), server(cipherSpec + finished)}, atBoth(done)},
		{"warnings", []step{client(plainHello), server(warning + plainAnswer), client(warning + cipherSpec + finished), server(cipherSpec + finished)}, atBoth(done)},
		{"two messages in a record", []step{client(plainHello), server("\x16\x03\x03\x00\x2e" + plainAnswer[5:] + handshakeOK), client(cipherSpec), server(cipherSpec)}, atBoth(done)},
		{"a message that looks like extensions", []step{client(plainHello), server("\x16\x03\x03\x00\x59" + plainAnswer[5:] + "\x0b\x00\x00\x2b\x00\x02\x03\x04" + strings.Repeat("c", 0x27)), client(cipherSpec), server(cipherSpec)}, atBoth(done)},
		{"early data", []step{client(plainHello + cipherSpec + data13), server(answer13 + cipherSpec + data13), client(data13)}, atBoth(done13)},
		{"no middlebox", []step{client(plainHello), server(answer13 + data13 + data13), client(data13)}, atBoth(done13)},
		{"an encrypted alert of the server", []step{client(plainHello), server(answer13 + cipherSpec + data13 + alert13)}, atBoth(refused13)},
		{"what older versions would take for a warning", []step{client(plainHello), server(answer13 + cipherSpec + data13), client("\x15\x03\x03\x00\x02\x01\x30")}, atBoth(distrusted13)},
		{"a client whose user has canceled it", []step{client(plainHello), server(answer13 + cipherSpec + data13), client("\x15\x03\x03\x00\x02\x01\x5a\x15\x03\x03\x00\x02\x01\x00")}, atBoth(canceled13)},
		{"an encrypted alert instead of anything", []step{client(plainHello), server(answer13 + cipherSpec + alert13)}, atBoth(refused13)},
		{"a message in two records", []step{client("\x16\x03\x01\x00\x09" + plainHello[5:14] + "\x16\x03\x01\x00\x24" + plainHello[14:]), server(plainAnswer[:3] + "\x00\x01" + plainAnswer[5:6] + plainAnswer[:3] + "\x00\x29" + plainAnswer[6:]), client(cipherSpec), server(cipherSpec)}, atBoth(done)},
		{"everything byte by byte", []step{{By: "client", Send: plainHello, Split: 1}, {By: "server", Send: warning + plainAnswer + cipherSpec, Split: 1}, {By: "client", Send: cipherSpec, Split: 1}}, atBoth(done)},
		{"an alert byte by byte", []step{client(plainHello), {By: "server", Send: "\x15\x03\x03\x00\x02\x02\x28", Split: 1}}, atBoth(unanswered("handshake_failure", "server"))},
		{"the client closes it", []step{client(plainHello), server(plainAnswer), client("\x15\x03\x03\x00\x02\x01\x00")}, atBoth(failed("close_notify", "client"))},
		{"an alert without a name", []step{client(plainHello), server("\x15\x03\x03\x00\x02\x02\x7a")}, atBoth(unanswered("_OTHER", "server"))},
		{"an encrypted alert", []step{client(plainHello), server(plainAnswer), client(cipherSpec + finished), server("\x15\x03\x03\x00\x1a" + strings.Repeat("a", 26))}, atBoth(failed("encrypted_alert", "server"))},
		{"another message in answer", []step{client(plainHello), server("\x16\x03\x03\x00\x04\x0e\x00\x00\x00")}, atBoth(unanswered("invalid_response", ""))},
		{"data in answer", []step{client(plainHello), server(data12)}, atBoth(unanswered("invalid_response", ""))},
		{"a record that is too long", []step{client(plainHello), server("\x16\x03\x03\x7f\x7f")}, atBoth(unanswered("invalid_response", ""))},
		{"the server resets", []step{client(plainHello), {By: "server", Send: plainAnswer, Do: "reset"}, {By: "client", After: 20 * time.Millisecond}}, atBoth(failed("connection_reset", ""))},
		{"the client resets", []step{client(plainHello), {By: "client", Do: "reset"}, {By: "server", After: 20 * time.Millisecond}}, []handshake{{Role: "client", Error: "canceled"}, {Role: "server", Error: "connection_reset"}}},
		{"a reset within a record", []step{client(plainHello), {By: "server", Send: plainAnswer + long[:100], Do: "reset"}, {By: "client", After: 20 * time.Millisecond}}, atBoth(failed("connection_reset", ""))},
	}
	w := newWorld(t, withTLS)
	pids := make([]uint32, len(cases))
	for i, c := range cases {
		pids[i] = w.play(script{Steps: c.steps})
	}
	w.finish()
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, found := w.handshakesOf(pids[i])
			assert.ElementsMatch(t, c.want, found)
		})
	}
	assert.Zero(t, w.networkCounters().TableFull+w.networkCounters().Unreadable)
	assertHandshakeSlotsAreFree(t, w)
}

// What a hello says is read from it, not from one that was in the same place before.
func TestAShortHelloSaysNothing(t *testing.T) {
	w := newWorld(t, withTLS)
	before, _ := w.talkTLS(handshakeCase{Server: "retry"})
	pid, _ := w.talkTLS(handshakeCase{Server: "short"})
	w.finish()
	_, found := w.handshakesOf(before)
	require.Len(t, found, 2)
	assert.True(t, found[0].Retried && found[1].Retried)
	events, found := w.handshakesOf(pid)
	require.Len(t, found, 2)
	for i := range found {
		assert.Len(t, events[i].ServerHello, 4)
		assert.False(t, found[i].Retried)
	}
	assertHandshakeSlotsAreFree(t, w)
}

// More handshakes at a time than can be followed are counted, each end, and none is told in part.
func TestTooManyTLSHandshakesAreCounted(t *testing.T) {
	w := newWorld(t, withTLS)
	free := w.source.mapNamed("tls_free")
	var numbers []uint32
	for {
		var number uint32
		if free.LookupAndDelete(nil, &number) != nil {
			break
		}
		numbers = append(numbers, number)
	}
	require.Len(t, numbers, tlsHandshakes)
	lost, truths := w.talkTLS(handshakeCase{})
	require.Empty(t, truths[0].Client, "a connection that is not followed works")
	for _, number := range slices.Backward(numbers) {
		require.NoError(t, free.Put(nil, number))
	}
	told, _ := w.talkTLS(handshakeCase{})
	w.finish()
	_, found := w.handshakesOf(lost)
	assert.Empty(t, found)
	_, found = w.handshakesOf(told)
	assert.Len(t, found, 2)
	assert.Equal(t, uint64(2), w.networkCounters().TableFull)
	assert.Zero(t, w.networkCounters().Unreadable)
	assertHandshakeSlotsAreFree(t, w)
}

// loseConnection makes a handshake of a slot whose connection has gone unnoticed.
func loseConnection(t *testing.T, w *world, helloSize uint16) {
	t.Helper()
	slots := w.source.mapNamed("tls_slots")
	var number uint32
	require.NoError(t, w.source.mapNamed("tls_free").LookupAndDelete(nil, &number))
	slot := make([]byte, slots.ValueSize())
	binary.NativeEndian.PutUint16(slot[unsafe.Offsetof(bpf.WireTlsHandshake{}.ClientHelloSize):], helloSize)
	spec, err := bpf.LoadNetwork()
	require.NoError(t, err)
	for _, member := range spec.Maps["tls_slots"].Value.(*btf.Struct).Members {
		if member.Name == "socket" || member.Name == "live" { // any address, at the machine's start
			binary.NativeEndian.PutUint64(slot[member.Offset.Bytes():], 1)
		}
	}
	require.NoError(t, slots.Put(number, slot))
}

// The kernel leaves out a program's run in rare cases, and a connection's end may be among those.
func TestATLSHandshakeWhoseEndWasNotSeenIsCounted(t *testing.T) {
	w := newWorld(t, func(o *Options) { withTLS(o); o.ReportInterval = 600 * time.Millisecond })
	loseConnection(t, w, 40)
	loseConnection(t, w, 0) // it may not have been one
	open, truths := w.talkTLS(handshakeCase{Slow: 3 * time.Second})
	require.Empty(t, truths[0].Client)
	require.Eventually(t, func() bool { return w.networkCounters().Unreadable > 0 }, patience, 5*time.Millisecond)
	w.finish()
	_, found := w.handshakesOf(open)
	assert.Len(t, found, 2, "of a connection that is there, a handshake may take as long as it likes")
	assert.EqualValues(t, 1, w.networkCounters().Unreadable)
	assertHandshakeSlotsAreFree(t, w)
}

// A client whose bytes stop being TLS cannot be followed.
func TestATLSClientThatTalksNonsenseIsCounted(t *testing.T) {
	w := newOwnWorld(t, withTLS)
	pid := w.play(script{Steps: []step{client(plainHello), server(plainAnswer), client("nonsense")}})
	w.finish()
	_, found := w.handshakesOf(pid)
	assert.Empty(t, found)
	assert.Equal(t, uint64(2), w.networkCounters().Unreadable)
	assertHandshakeSlotsAreFree(t, w)
}

// drawnSteps begin with a ClientHello; what follows, and in which pieces, is drawn by chance.
func drawnSteps(random *rand.Rand) []step {
	pieces := []string{
		plainHello, plainAnswer, answer13, cipherSpec, finished, data12, data13, alert13, warning, handshakeOK, plainAnswer[:20], "\x16\x03\x03\x00\x00",
		"\x15\x03\x03\x00\x02\x02\x28", "\x18\x03\x03\x00\x05\x01\x00\x02hi", "\x17\x03\x03\x48\x00", "\x7f", "nonsense",
	}
	steps := []step{{By: "client", Send: plainHello[:10+random.IntN(len(plainHello)-9)]}}
	for range 1 + random.IntN(6) {
		s := step{By: []string{"client", "server"}[random.IntN(2)], Split: random.IntN(9)}
		for range 1 + random.IntN(4) {
			s.Send += pieces[random.IntN(len(pieces))]
		}
		steps = append(steps, s)
	}
	steps[len(steps)-1].Do = []string{"", "close", "reset", "shutdown"}[random.IntN(4)]
	return append(steps, step{By: "client", After: 5 * time.Millisecond}, step{By: "server"})
}

// Whatever the two ends say, each end of a handshake is told once, or counted.
func TestWhateverIsSaidATLSHandshakeIsToldOrCounted(t *testing.T) {
	const count = 60
	w := newWorld(t, withTLSAndHTTP)
	for seed := range uint64(count) {
		w.play(script{Steps: drawnSteps(rand.New(rand.NewPCG(seed, 7)))})
	}
	w.finish()
	told := uint64(len(w.ofType(event.TypeTLSHandshake)))
	counters := w.networkCounters()
	assert.Zero(t, counters.TableFull+counters.RingFull)
	assert.EqualValues(t, 2*count, told+counters.Unreadable)
	assert.Greater(t, told, counters.Unreadable)
	assertHandshakeSlotsAreFree(t, w)
	assertSlotsAreFree(t, w)
}

// A connection that is older may have begun with anything: what looks like a handshake on it is not told.
func TestNoTLSHandshakesOnOlderConnections(t *testing.T) {
	for name, options := range map[string]func(*Options){"alone": withTLS, "with HTTP": withTLSAndHTTP} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(handshakeCase{Asked: true})
			require.NoError(t, err)
			w := newWorld(t, options)
			k := startTalker(t, w.workload("tls", string(text)))
			require.Equal(t, "open", k.hear())
			other := w.another()
			require.Contains(t, k.say(""), `"Client":""`)
			k.end()
			other.finish()
			_, found := other.handshakesOf(k.pid())
			assert.Empty(t, found)
			assert.Zero(t, other.networkCounters().Unreadable)
			assertHandshakeSlotsAreFree(t, other)
		})
	}
}

// Without being asked for, no handshake is told.
func TestTLSIsOff(t *testing.T) {
	w := newWorld(t, func(o *Options) { withTLS(o); o.TLSHandshakes = false })
	pid, truths := w.talkTLS(handshakeCase{})
	w.finish()
	require.Len(t, truths, 1)
	require.Empty(t, truths[0].Client)
	_, found := w.handshakesOf(pid)
	assert.Empty(t, found)
	assert.Equal(t, 1, int(w.source.mapNamed("tls_slots").MaxEntries()))
}
