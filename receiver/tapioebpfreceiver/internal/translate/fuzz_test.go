// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/binary"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"
)

// sequence writes records one after the other, each behind its size.
func sequence(records ...[]byte) (joined []byte) {
	for _, record := range records {
		joined = append(binary.LittleEndian.AppendUint16(joined, uint16(len(record))), record...)
	}
	return joined
}

// records takes a sequence apart. The last record is what is left, if it is less than its size.
func records(joined []byte) (parts [][]byte) {
	for len(joined) >= 2 && len(parts) < 100 {
		size := min(int(binary.LittleEndian.Uint16(joined)), len(joined)-2)
		parts = append(parts, joined[2:2+size])
		joined = joined[2+size:]
	}
	return parts
}

// FuzzHandle gives the translator any bytes as records: it takes them all, each comes to exactly one
// end, and what comes out is text where it must be.
func FuzzHandle(f *testing.F) {
	f.Add(sequence(
		forkRecord(10, second, 1, 0), curl(2*second), connectRecord(10, 3*second, 4*second, 111),
		statsRecord(event.TypeConnectionReport, 5*second, unchanged), statsRecord(event.TypeConnectionClose, 6*second, unchanged),
		oomKillRecord(10, 0, 6*second), exitRecord(10, second, 7*second, 9),
	), uint8(7))
	f.Add(sequence(curl(2*second), curl(3*second), exitRecord(10, second, 4*second, 0), oomKillRecord(99, 0, second)), uint8(1))
	f.Add(sequence(made(7, "/a"), throttlingRecord(event.FamilySecurity, event.SecurityMount, event.ThrottlingBegan|event.ThrottlingEnded, 3, 3)), uint8(7))
	f.Add(sequence(made(7, "/a"), sumRecord(ofServersSum), sumRecord(func(e *bpf.WireHttpSum) { e.Key.Error, e.Key.Flags = 104, 0 })), uint8(5))
	f.Add(sequence(tlsSumRecord(unchangedTLSSum)), uint8(7))
	f.Add(sequence(connectionSumRecord(ofConnectSum), connectionSumRecord(ofFlowSum), connectionSumRecord(func(*bpf.WireConnectionSum) {})), uint8(7))
	f.Add(sequence(processSumRecord(event.TypeProcessExec, 0, 5), processSumRecord(event.TypeProcessExit, 0xffffffff, 1)), uint8(3))
	f.Add(sequence(etcdStarted(), etcdCallRecord(event.EtcdFsync, "wal", walName, 3*second, second, 0, 5), etcdChangeRecord(event.EtcdMissed, 7, "/registry/pods/a/b")), uint8(7))
	f.Add(sequence(execRecord(10, 0, second, 0xffff, "/\xff\xfe/caf\xe9", "/\xc3", "\xff", "--token", "\xfe")), uint8(6))
	f.Add(sequence(nil, []byte("short"), make([]byte, 32), forkRecord(10, second, 10, 2*second), exitRecord(0, 0, 0, 0xffffffff)), uint8(4))
	f.Add(sequence(
		exchangeRecord("GET /a?token=b HTTP/1.1\r\nHost: c:80\r\nUser-Agent: \xff\r\nX-Forwarded-For: ::1, d\r\nA: b\r\n\r\n", "HTTP/1.1 200 OK\r\nB: \xfe\r\n\r\n", unchangedExchange),
		exchangeRecord("x\x01 http://u:p@h\xff/\xff", "", ofServer),
	), uint8(7))
	f.Add(sequence(
		curl(2*second), handshakeRecord(clientHello, serverHello, func(*bpf.WireTlsHandshake) {}), handshakeRecord("\x01\xff\xff\xff\xfe", "", refusedCertificate),
		handshakeRecord(clientHello, serverHello[:50], func(e *bpf.WireTlsHandshake) { e.Ends.Role, e.Flags = event.RoleServer, 0 }),
	), uint8(7))
	f.Add(sequence(append([][]byte{curl(2 * second)}, search(10, 3*second, clusterNames...)...)...), uint8(7))
	f.Add(sequence(
		datagramRecord(3*second, question(1, "a")), datagramRecord(3*second, question(1, "a")), datagramRecord(4*second, reply(1, "a", 3)),
		datagramRecord(4*second, reply(1, "a", 3)), datagramRecord(9*second, question(2, "b\xff")),
	), uint8(7))
	f.Add(sequence(
		segmentRecord(3*second, true, 100, framed(question(1, "a"))[:9]), segmentRecord(3*second, true, 120, []byte("late")),
		segmentRecord(3*second, true, 109, framed(question(1, "a"))[9:]), segmentRecord(4*second, false, 7, framed(reply(1, "a", 0, "192.0.2.1"))),
	), uint8(5))
	f.Add(sequence(
		curl(2*second), shadow(3*second), shadow(3*second), eventtest.Security(acting(event.SecurityMount, event.OperationMount, 4*second), "\xff", "/\xfe", "\xff\x00\xfe"),
		eventtest.Security(acting(event.SecurityShellOnSocket, 0, 4*second), "/bash", "", "0123456789abcdef"), exitRecord(10, second, 5*second, 0), shadow(6*second),
	), uint8(7))
	f.Add(sequence(
		curl(2*second), pluginBegan(20, 3*second, 10, second, "/opt/cni/bin/caf\xe9", addVariables...), execRecord(20, 3*second, 3*second, 0, "/opt/cni/bin/bridge", "/"),
		pluginBegan(21, 4*second, 20, 3*second, "/opt/cni/bin/host-local", "CNI_COMMAND=\xff"), pluginEnded(21, 4*second, 5*second, 1<<8, "\xff"),
		pluginEnded(20, 3*second, 6*second, 9, `{"code":7,"msg":"\xff"`), pluginEnded(99, second, 2*second, 0, ""),
		namespaceRecord(event.TypeCNINetnsMade, 10, second, 7*second, 4026532000, 28), namespaceRecord(event.TypeCNINetnsRemoved, 0, 0, 8*second, 4026532000, 0),
	), uint8(7))
	f.Fuzz(func(t *testing.T, joined []byte, combination uint8) {
		routes, err := http1.NewRoutes([]string{"/{a}/b"})
		require.NoError(t, err)
		w := newWorldWith(Signals{Traces: combination&1 != 0, Metrics: combination&2 != 0, Logs: combination&4 != 0}, 2, HTTPOptions{
			Query: combination&8 != 0, ForwardedFor: true, RequestHeaders: []string{"a"}, ResponseHeaders: []string{"b"}, Routes: routes,
		})
		w.security.options = everyRule()
		w.security.folds.interval = uint64(foldInterval)
		w.handle(records(joined)...)
		w.requireClosed(t)
		for at := uint64(0); at < 1<<62; at = 2*at + second {
			w.Tick(at)
		}
		w.Flush()
		w.requireClosed(t)

		events, carried := w.Events(), uint64(0)
		out := w.take(t)
		for _, n := range out.counts {
			carried += n
		}
		require.EqualValues(t, events, carried)
		for _, span := range out.spans {
			requireText(t, span.Resource, span.Attributes)
			require.LessOrEqual(t, span.Start, span.End)
		}
		for _, log := range out.logs {
			requireText(t, log.Resource, log.Attributes)
		}
		alive := 0
		w.index.Resources(func(r *identity.Resource) { alive += r.Alive() })
		require.Equal(t, w.index.Active(), alive)
		for _, resource := range w.collect(t, second).resources {
			requireText(t, resource)
		}
	})
}

// requireText refuses what OTLP refuses: strings that are no UTF-8.
func requireText(t *testing.T, maps ...attributes) {
	for _, attributes := range maps {
		raw := pcommon.NewMap()
		require.NoError(t, raw.FromRaw(attributes))
		for _, value := range raw.All() {
			if text := value.AsString(); !utf8.ValidString(text) {
				t.Fatalf("%q is not UTF-8", text)
			}
		}
		for _, value := range attributes {
			list, _ := value.([]any)
			for _, element := range list {
				if text := element.(string); !utf8.ValidString(text) {
					t.Fatalf("%q is not UTF-8", text)
				}
			}
		}
	}
}
