// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

const second = uint64(1e9)

// query asks for the addresses of a name.
func query(id uint16, name string) dnsmessage.Message {
	return dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}},
	}
}

// answer to a query.
func answer(to dnsmessage.Message, bodies ...dnsmessage.ResourceBody) dnsmessage.Message {
	to.Response = true
	for _, body := range bodies {
		header := dnsmessage.ResourceHeader{Name: to.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
		to.Answers = append(to.Answers, dnsmessage.Resource{Header: header, Body: body})
	}
	return to
}

func address(text string) dnsmessage.ResourceBody {
	addr := netip.MustParseAddr(text)
	if addr.Is4() {
		return &dnsmessage.AResource{A: addr.As4()}
	}
	return &dnsmessage.AAAAResource{AAAA: addr.As16()}
}

func nameOf(text string) dnsmessage.Name { return dnsmessage.MustNewName(text) }

func pack(t testing.TB, m dnsmessage.Message) []byte {
	t.Helper()
	bytes, err := m.Pack()
	require.NoError(t, err)
	return bytes
}

// frames are messages as TCP carries them.
func frames(messages ...[]byte) (stream []byte) {
	for _, m := range messages {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(m))), m...)
	}
	return stream
}

func originAt(time uint64, sent bool) Origin {
	return Origin{
		Header: bpf.WireEventHeader{Time: time, StartTime: second, Pid: 10}, Ends: bpf.WireConnectionEnds{PeerPort: 53},
		Socket: 77, Sent: sent,
	}
}
