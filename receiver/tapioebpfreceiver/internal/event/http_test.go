// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

func httpRecord(fixed bpf.WireHttpExchange, request, response string) []byte {
	fixed.RequestHeadSize, fixed.ResponseHeadSize = uint16(len(request)), uint16(len(response))
	return eventtest.Record(fixed, []byte(request), []byte(response))
}

func TestDecodeHTTPExchange(t *testing.T) {
	for _, heads := range [][2]string{{"", ""}, {"GET / HTTP/1.1\r\n", ""}, {"a", "HTTP/1.1 200\r\n"}} {
		e, err := event.DecodeHTTPExchange(httpRecord(exchange, heads[0], heads[1]))
		require.NoError(t, err)
		assert.Equal(t, heads[0], string(e.Request))
		assert.Equal(t, heads[1], string(e.Response))
		want := exchange
		want.RequestHeadSize, want.ResponseHeadSize = uint16(len(heads[0])), uint16(len(heads[1]))
		assert.Equal(t, want, *e.WireHttpExchange)
		assert.True(t, e.IsServer())
	}
}

func TestDecodeHTTPExchangeRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*bpf.WireHttpExchange)
	}{
		{"heads that are not there", func(e *bpf.WireHttpExchange) { e.RequestHeadSize = 1 }},
		{"a response's head that is not there", func(e *bpf.WireHttpExchange) { e.ResponseHeadSize = 0xffff }},
		{"no role", func(e *bpf.WireHttpExchange) { e.Ends.Role = event.RoleUnknown }},
		{"another role", func(e *bpf.WireHttpExchange) { e.Ends.Role = 3 }},
		{"an end before its begin", func(e *bpf.WireHttpExchange) { e.Status, e.RequestStart = 0, e.Header.Time+1 }},
		{"a response before its request", func(e *bpf.WireHttpExchange) { e.RequestStart = e.ResponseStart + 1 }},
		{"a response that ends before it begins", func(e *bpf.WireHttpExchange) { e.ResponseStart = e.ResponseEnd + 1 }},
		{"a response after the end", func(e *bpf.WireHttpExchange) { e.ResponseEnd = e.Header.Time + 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := exchange
			c.change(&changed)
			_, err := event.DecodeHTTPExchange(eventtest.Record(changed))
			assert.ErrorIs(t, err, event.ErrUndecodable)
		})
	}
	_, err := event.DecodeHTTPExchange(append(httpRecord(exchange, "a", "b"), 0))
	assert.ErrorIs(t, err, event.ErrUndecodable, "more than the heads")
}

func TestEndOfAnExchange(t *testing.T) {
	const done, here, aborted = event.HTTPRequestComplete | event.HTTPResponseComplete, event.HTTPClosedHere, event.HTTPAborted
	for _, c := range []struct {
		name   string
		role   uint8
		flags  uint16
		status uint16
		errno  int32
		cutBy  string
		end    uint64
	}{
		{"complete", event.RoleServer, done, 200, 0, "", 84},
		{"answered before the request was there", event.RoleServer, event.HTTPResponseComplete | here, 413, 0, "", 84},
		{"a client that gives up", event.RoleClient, here, 0, 0, "canceled", 100},
		{"a client that gives up by a reset", event.RoleClient, here | aborted, 200, 0, "canceled", 100},
		{"a client whose server closes", event.RoleClient, event.HTTPRequestComplete, 0, 0, "connection_closed", 100},
		{"a client whose server resets", event.RoleClient, here, 0, 104, "connection_reset", 100},
		{"a server whose client is gone", event.RoleServer, event.HTTPRequestComplete, 0, 0, "connection_closed", 100},
		{"a server that closes", event.RoleServer, here, 0, 0, "connection_closed", 100},
		{"a server that resets", event.RoleServer, here | aborted, 0, 0, "connection_reset", 100},
		{"timed out", event.RoleServer, here, 200, 110, "timed_out", 100},
		{"no response, but something", event.RoleClient, event.HTTPRequestComplete | event.HTTPInvalidResponse, 0, 0, "invalid_response", 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := exchange
			changed.Ends.Role, changed.Flags, changed.Status, changed.Error = c.role, c.flags, c.status, c.errno
			e, err := event.DecodeHTTPExchange(eventtest.Record(changed))
			require.NoError(t, err)
			assert.Equal(t, c.cutBy, e.CutBy())
			assert.Equal(t, c.end, e.End())
			assert.Equal(t, c.status != 0, e.HasResponse())
		})
	}
}
