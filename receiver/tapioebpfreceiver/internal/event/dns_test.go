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

func TestDecodeDNSMessage(t *testing.T) {
	for _, tt := range []struct {
		name           string
		size, captured uint32
		tail           string
		payload        string
		refused        bool
	}{
		{name: "exact", size: 3, captured: 3, tail: "abc", payload: "abc"},
		{name: "padded", size: 3, captured: 3, tail: "abc\x00\x00\x00\x00\x00", payload: "abc"},
		{name: "captured in part", size: 9, captured: 3, tail: "abc", payload: "abc"},
		{name: "not captured", size: 9, tail: "\x00\x00\x00"},
		{name: "nothing there", size: 0, captured: 0},
		{name: "more captured than it has", size: 2, captured: 3, tail: "abc", refused: true},
		{name: "more captured than is there", size: 4, captured: 4, tail: "abc", refused: true},
		{name: "most captured", size: math.MaxUint32, captured: math.MaxUint32, tail: "abc", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wire := bpf.WireDnsMessage{
				Header: header, Ends: ends, Socket: 81, Sequence: 82, Size: tt.size, Captured: tt.captured, Flags: event.DNSSent,
			}
			got, err := event.DecodeDNSMessage(eventtest.Record(wire, []byte(tt.tail)))
			if tt.refused {
				assert.ErrorIs(t, err, event.ErrUndecodable)
				assert.ErrorContains(t, err, "captured in a dns_message tail of 3")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, wire, *got.WireDnsMessage)
			assert.Equal(t, tt.payload, string(got.Payload))
		})
	}
}
