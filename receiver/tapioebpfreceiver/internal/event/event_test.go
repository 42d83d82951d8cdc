// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

// Every field has a value of its own, so that one that is read from a wrong place is seen.
var (
	header = bpf.WireEventHeader{Time: 100, StartTime: 12, CgroupId: 13, Pid: 14, Type: 15, Reserved: 16}

	identity = bpf.WireProcessIdentity{
		ParentStartTime: 21, ParentPid: 22, Vpid: 23, Uid: 24, Euid: math.MaxUint32, Comm: [16]byte{'s', 'h'},
	}

	ends = bpf.WireConnectionEnds{
		LocalAddress: eventtest.Address("127.0.0.1"), PeerAddress: eventtest.Address("2001:db8::1"),
		LocalPort: 31, PeerPort: math.MaxUint16, Protocol: event.ProtocolUDP, Role: event.RoleServer, Netns: 33,
	}

	fork = bpf.WireProcessFork{Header: header, Process: identity}

	exit = bpf.WireProcessExit{
		Header: header, CpuTime: 41, PeakMemory: 42, ReadBytes: 43, WrittenBytes: math.MaxUint64, Status: 45, Flags: 46,
	}

	oomKill = bpf.WireProcessOomKill{Header: header}

	connect = bpf.WireConnectionConnect{Header: header, Ends: ends, Opened: 51, Error: event.NoErrno}

	stats = bpf.WireConnectionStats{
		Header: header, Ends: ends, Opened: 61, SentBytes: 62, ReceivedBytes: 63, SentPackets: 64,
		ReceivedPackets: 65, SentBytesDelta: 66, ReceivedBytesDelta: 67, Retransmits: 68, RetransmitsDelta: 69,
		Rtt: 70, Error: -71, Flags: 72,
	}

	exchange = bpf.WireHttpExchange{
		Header: header, Ends: ends, RequestStart: 81, RequestEnd: 82, ResponseStart: 83, ResponseEnd: 84,
		RequestBodySize: 85, ResponseBodySize: math.MaxUint64, RequestSequence: 86, RequestAcknowledged: math.MaxUint32,
		Error: -87, Status: 200, Flags: 88,
	}
)

var namespace = bpf.WireCniNamespace{Header: header, Process: identity, Made: 141, Inode: math.MaxUint32, Error: -142}

// decoder is one of the package without its types.
type decoder struct {
	name   string
	record []byte // one that it can decode
	want   any
	decode func([]byte) (any, error)
}

func decoderOf[T any](name string, fixed T, decode func([]byte) (*T, error)) decoder {
	return decoder{name: name, record: eventtest.Record(fixed), want: &fixed, decode: func(record []byte) (any, error) {
		decoded, err := decode(record)
		return decoded, err
	}}
}

// fixedDecoders are those of records that have one size.
var fixedDecoders = []decoder{
	decoderOf("process_fork", fork, event.DecodeProcessFork),
	decoderOf("process_exit", exit, event.DecodeProcessExit),
	decoderOf("process_oom_kill", oomKill, event.DecodeProcessOOMKill),
	decoderOf("connection_connect", connect, event.DecodeConnectionConnect),
	decoderOf("connection_stats", stats, event.DecodeConnectionStats),
	decoderOf("cni_namespace", namespace, event.DecodeCNINamespace),
	decoderOf("process_sum", bpf.WireProcessSum{Key: bpf.WireProcessSumKey{Type: uint16(event.TypeProcessExit), Status: 151}}, event.DecodeProcessSum),
}

// decoders are all.
var decoders = append([]decoder{
	decoderOf("header", header, event.DecodeHeader),
	{name: "process_exec", record: eventtest.Record(bpf.WireProcessExec{}), decode: func(record []byte) (any, error) {
		return event.DecodeProcessExec(record)
	}},
	{name: "http_exchange", record: eventtest.Record(exchange), decode: func(record []byte) (any, error) {
		return event.DecodeHTTPExchange(record)
	}},
	{name: "tls_handshake", record: eventtest.Record(handshake), decode: func(record []byte) (any, error) {
		return event.DecodeTLSHandshake(record)
	}},
	{name: "dns_message", record: eventtest.Record(bpf.WireDnsMessage{}), decode: func(record []byte) (any, error) {
		return event.DecodeDNSMessage(record)
	}},
	{name: "security_action", record: eventtest.Record(bpf.WireSecurityAction{Kind: uint16(event.SecurityMount)}), decode: func(record []byte) (any, error) {
		return event.DecodeSecurityAction(record)
	}},
	{name: "cni_began", record: eventtest.Record(bpf.WireCniBegan{}), decode: func(record []byte) (any, error) {
		return event.DecodeCNIBegan(record)
	}},
	{name: "cni_ended", record: eventtest.Record(bpf.WireCniEnded{}), decode: func(record []byte) (any, error) {
		return event.DecodeCNIEnded(record)
	}},
	{name: "http_sum", record: eventtest.Record(bpf.WireHttpSum{Key: bpf.WireHttpSumKey{Role: event.RoleServer}}), decode: func(record []byte) (any, error) {
		return event.DecodeHTTPSum(record)
	}},
	{name: "connection_sum", record: eventtest.Record(bpf.WireConnectionSum{Key: bpf.WireConnectionSumKey{Type: uint16(event.TypeConnectionClose)}}), decode: func(record []byte) (any, error) {
		return event.DecodeConnectionSum(record)
	}},
	{name: "tls_sum", record: eventtest.Record(bpf.WireTlsSum{Key: bpf.WireTlsSumKey{Role: event.RoleServer}}), decode: func(record []byte) (any, error) {
		return event.DecodeTLSSum(record)
	}},
	{name: "throttling", record: eventtest.Record(bpf.WireThrottling{Family: uint16(event.FamilyDNS)}), decode: func(record []byte) (any, error) {
		return event.DecodeThrottling(record)
	}},
}, fixedDecoders...)

func TestDecodeGivesWhatWasSent(t *testing.T) {
	for _, d := range fixedDecoders {
		t.Run(d.name, func(t *testing.T) {
			got, err := d.decode(d.record)
			require.NoError(t, err)
			assert.Equal(t, d.want, got)
		})
	}
}

func TestDecodeHeaderOfALongerRecord(t *testing.T) {
	got, err := event.DecodeHeader(eventtest.Record(stats))
	require.NoError(t, err)
	assert.Equal(t, header, *got)
}

func TestDecodeRefusesOtherSizes(t *testing.T) {
	for _, d := range fixedDecoders {
		for _, size := range []int{0, 1, 8, len(d.record) - 8, len(d.record) - 1, len(d.record) + 1, len(d.record) + 8} {
			t.Run(fmt.Sprintf("%s of %d", d.name, size), func(t *testing.T) {
				record := eventtest.Aligned(append(d.record[:len(d.record):len(d.record)], make([]byte, 8)...))[:size]
				_, err := d.decode(record)
				assert.ErrorIs(t, err, event.ErrUndecodable)
				assert.ErrorContains(t, err, fmt.Sprintf("%d bytes, want %d for bpf.Wire", size, len(d.record)))
			})
		}
	}
}

func TestDecodeRefusesARecordThatIsTooShort(t *testing.T) {
	for _, d := range decoders {
		t.Run(d.name, func(t *testing.T) {
			for size := range d.record {
				_, err := d.decode(d.record[:size])
				require.ErrorIs(t, err, event.ErrUndecodable, "%d bytes", size)
			}
			_, err := d.decode(nil)
			assert.ErrorIs(t, err, event.ErrUndecodable)
		})
	}
}

func TestDecodeRefusesWhatIsNotAligned(t *testing.T) {
	for _, d := range decoders {
		for offset := 1; offset < 8; offset++ {
			t.Run(fmt.Sprintf("%s at %d", d.name, offset), func(t *testing.T) {
				shifted := eventtest.Aligned(append(make([]byte, offset), d.record...))[offset:]
				_, err := d.decode(shifted)
				assert.ErrorIs(t, err, event.ErrUndecodable)
				assert.ErrorContains(t, err, "not aligned")
			})
		}
	}
}

func TestTypesAndFamilies(t *testing.T) {
	for _, tt := range []struct {
		kind event.Type
		want event.Family
		name string
	}{
		{event.TypeProcessExec, event.FamilyProcess, "process"},
		{event.TypeProcessFork, event.FamilyProcess, "process"},
		{event.TypeProcessExit, event.FamilyProcess, "process"},
		{event.TypeProcessOOMKill, event.FamilyProcess, "process"},
		{event.TypeConnectionConnect, event.FamilyNetwork, "network"},
		{event.TypeConnectionClose, event.FamilyNetwork, "network"},
		{event.TypeConnectionReport, event.FamilyNetwork, "network"},
		{event.TypeThrottling, event.FamilyThrottle, "throttle"},
		{event.TypeHTTPSum, event.FamilyThrottle, "throttle"},
		{event.TypeConnectionSum, event.FamilyThrottle, "throttle"},
		{event.TypeProcessSum, event.FamilyThrottle, "throttle"},
		{event.TypeTLSSum, event.FamilyThrottle, "throttle"},
		{0x01ff, event.FamilyProcess, "process"}, // a type to come
		{0x0000, event.FamilyOther, "other"},
		{event.TypeDNSMessage, event.FamilyDNS, "dns"},
		{event.TypeDNSSegment, event.FamilyDNS, "dns"},
		{event.TypeHTTPExchange, event.FamilyHTTP, "http"},
		{event.TypeSecurityAction, event.FamilySecurity, "security"},
		{event.TypeCgroupMade, event.FamilyCgroup, "cgroup"},
		{0x0e01, event.FamilyOther, "other"}, // room in the counters, but no family
		{0x1001, event.FamilyOther, "other"},
		{0xffff, event.FamilyOther, "other"},
	} {
		assert.Equal(t, tt.want, tt.kind.Family(), "%#x", tt.kind)
		assert.Equal(t, tt.name, tt.kind.Family().String(), "%#x", tt.kind)
	}
}

func TestFamilyWithoutName(t *testing.T) {
	for _, family := range []event.Family{14, event.FamilyCount, math.MaxUint8} {
		assert.Empty(t, family.String())
	}
}

// FuzzDecode gives every decoder any bytes: each takes them or says why not, and what it takes can
// be walked through.
func FuzzDecode(f *testing.F) {
	for _, d := range decoders {
		f.Add(d.record)
	}
	f.Add(eventtest.Exec(bpf.WireProcessExec{Header: header, Process: identity}, "/usr/bin/sh", "/", "sh", "-c", ""))
	f.Add(eventtest.Record(bpf.WireProcessExec{ExeSize: 3, CwdSize: math.MaxUint16}, []byte("a\x00b")))
	f.Add(httpRecord(exchange, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"))
	f.Add(eventtest.Record(bpf.WireDnsMessage{Header: header, Ends: ends, Size: 3, Captured: 2}, []byte("abc")))
	f.Add(eventtest.Record(bpf.WireDnsMessage{Size: math.MaxUint32, Captured: math.MaxUint32}, []byte("abc")))
	f.Add(eventtest.Security(bpf.WireSecurityAction{Kind: 1, Flags: event.SecurityPathResolved}, "/etc/shadow", "", ""))
	f.Add(eventtest.Security(bpf.WireSecurityAction{Kind: 11, Flags: event.SecurityBaseTruncated}, "a/../b", "/srv", "a\x00b\x00"))
	f.Add(eventtest.Record(bpf.WireSecurityAction{Kind: 8, PathSize: math.MaxUint16, TextSize: 3}, []byte("abc")))
	f.Fuzz(func(t *testing.T, record []byte) {
		record = eventtest.Aligned(record)
		if message, err := event.DecodeDNSMessage(record); err == nil {
			require.Len(t, message.Payload, int(message.Captured))
		}
		if action, err := event.DecodeSecurityAction(record); err == nil {
			requireWalkable(t, &action, len(record))
		}
		for _, d := range decoders {
			if _, err := d.decode(record); err != nil {
				require.ErrorIs(t, err, event.ErrUndecodable)
			}
		}
		exec, err := event.DecodeProcessExec(record)
		if err != nil {
			return
		}
		require.Len(t, record, len(eventtest.Record(*exec.WireProcessExec))+len(exec.Exe)+len(exec.Cwd)+len(exec.Args))
		for _, truncated := range []bool{false, true} {
			require.LessOrEqual(t, len(exec.Exe.Append(nil, truncated)), len(exec.Exe)+1)
			require.LessOrEqual(t, len(exec.Cwd.Append(nil, truncated)), len(exec.Cwd)+1)
		}
	})
}

func requireWalkable(t *testing.T, action *event.SecurityAction, size int) {
	require.LessOrEqual(t, len(action.AppendPath(nil)), size)
	first, second := action.Strings()
	require.LessOrEqual(t, len(first)+len(second), len(action.Text))
	require.LessOrEqual(t, len(action.AppendObject(nil)), size)
	if _, ok := action.Peer(); ok {
		require.Len(t, action.Text, 16)
	}
	require.NotEmpty(t, event.SecurityKind(action.Kind).String())
}
