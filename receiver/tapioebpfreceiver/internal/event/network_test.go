// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

func TestErrorType(t *testing.T) {
	for errno, want := range map[int32]string{
		0:             "",
		event.NoErrno: "_OTHER",
		32:            "connection_reset",
		104:           "connection_reset",
		111:           "connection_refused",
		110:           "timed_out",
		113:           "host_unreachable",
		101:           "network_unreachable",
		125:           "canceled",
		1:             "_OTHER",
		math.MinInt32: "_OTHER",
		math.MaxInt32: "_OTHER",
	} {
		assert.Equal(t, want, event.ErrorType(errno), errno)
	}
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		bytes [16]byte
		want  string
		is4   bool
	}{
		{[16]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: 1}, "192.0.2.1", true},
		{[16]byte{10: 0xff, 11: 0xff}, "0.0.0.0", true},
		{[16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1}, "2001:db8::1", false},
		{[16]byte{15: 1}, "::1", false},
		{[16]byte{}, "::", false},
		{[16]byte{0: 0xfe, 1: 0x80, 15: 2}, "fe80::2", false},
	} {
		assert.Equal(t, tt.want, event.Address(tt.bytes).String())
		assert.Equal(t, tt.is4, event.Address(tt.bytes).Is4(), tt.want)
	}
}

func TestDecodeRefusesAConnectionThatEndsBeforeItBegins(t *testing.T) {
	connect, stats := connect, stats
	for _, opened := range []uint64{0, header.Time - 1, header.Time} {
		connect.Opened, stats.Opened = opened, opened
		_, err := event.DecodeConnectionConnect(eventtest.Record(connect))
		assert.NoError(t, err)
		_, err = event.DecodeConnectionStats(eventtest.Record(stats))
		assert.NoError(t, err)
	}
	for _, opened := range []uint64{header.Time + 1, math.MaxUint64} {
		connect.Opened, stats.Opened = opened, opened
		_, err := event.DecodeConnectionConnect(eventtest.Record(connect))
		assert.ErrorIs(t, err, event.ErrUndecodable)
		_, err = event.DecodeConnectionStats(eventtest.Record(stats))
		assert.ErrorIs(t, err, event.ErrUndecodable)
	}
}
