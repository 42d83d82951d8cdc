// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

func TestDecodeHTTPSum(t *testing.T) {
	fixed := bpf.WireHttpSum{
		Header: bpf.WireEventHeader{CgroupId: 7, Time: 9, Type: uint16(event.TypeHTTPSum)},
		Key: bpf.WireHttpSumKey{
			CgroupId: 7, PeerAddress: eventtest.Address("192.0.2.1"), PeerPort: 80, Status: 404, Flags: event.HTTPResponseComplete,
			Role: event.RoleClient, Method: uint8(bpf.WireHttpMethodNumberHTTP_METHOD_PATCH),
		},
	}
	fixed.Sums.Durations[0], fixed.Sums.Durations[len(event.DurationBounds)] = 3, 4
	e, err := event.DecodeHTTPSum(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.Equal(t, fixed, *e.WireHttpSum)
	assert.EqualValues(t, 7, e.Events())
	assert.Equal(t, "PATCH", e.Method())
	assert.False(t, e.IsServer())
	assert.Empty(t, e.CutBy())
}

// TestHTTPSumsAreCutAsExchangesAre.
func TestHTTPSumsAreCutAsExchangesAre(t *testing.T) {
	for flags := range uint16(1 << 8) {
		for _, errno := range []int32{0, 104} {
			for _, role := range []uint8{event.RoleClient, event.RoleServer} {
				sum, err := event.DecodeHTTPSum(eventtest.Record(bpf.WireHttpSum{Key: bpf.WireHttpSumKey{Flags: flags, Error: errno, Role: role}}))
				require.NoError(t, err)
				x, err := event.DecodeHTTPExchange(eventtest.Record(bpf.WireHttpExchange{Flags: flags, Error: errno, Ends: bpf.WireConnectionEnds{Role: role}}))
				require.NoError(t, err)
				assert.Equal(t, x.CutBy(), sum.CutBy())
				assert.Equal(t, x.IsServer(), sum.IsServer())
			}
		}
	}
}

func TestMethodsOfHTTPSums(t *testing.T) {
	named := map[string]int{}
	for method := range 1 << 8 {
		e, err := event.DecodeHTTPSum(eventtest.Record(bpf.WireHttpSum{Key: bpf.WireHttpSumKey{Method: uint8(method), Role: event.RoleServer}}))
		require.NoError(t, err)
		if e.Method() != "" {
			named[e.Method()] = method
		}
	}
	assert.Equal(t, bpfMethods(t), named)
	assert.Len(t, named, 10)
}

// bpfMethods are read from bpf/event.h.
func bpfMethods(t *testing.T) map[string]int {
	t.Helper()
	header, err := os.ReadFile("../../../../bpf/event.h")
	require.NoError(t, err)
	methods := map[string]int{}
	for _, found := range regexp.MustCompile(`HTTP_METHOD_([A-Z]+) = ([0-9]+),`).FindAllStringSubmatch(string(header), -1) {
		methods[found[1]], err = strconv.Atoi(found[2])
		require.NoError(t, err)
	}
	return methods
}

func TestHTTPSumsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*bpf.WireHttpSum){
		"no end":                      func(e *bpf.WireHttpSum) { e.Key.Role = 0 },
		"another end":                 func(e *bpf.WireHttpSum) { e.Key.Role = 3 },
		"too many":                    func(e *bpf.WireHttpSum) { e.Sums.Durations[2] = 1<<48 + 1 },
		"too many requests' sizes":    func(e *bpf.WireHttpSum) { e.Sums.RequestSizes[2] = 1<<48 + 1 },
		"too many responses' sizes":   func(e *bpf.WireHttpSum) { e.Sums.ResponseSizes[2] = 1<<48 + 1 },
		"a duration behind all":       func(e *bpf.WireHttpSum) { e.Sums.Durations[len(event.DurationBounds)+1] = 1 },
		"a request's size behind all": func(e *bpf.WireHttpSum) { e.Sums.RequestSizes[len(event.BodyBounds)+1] = 1 },
		"a response's":                func(e *bpf.WireHttpSum) { e.Sums.ResponseSizes[len(event.BodyBounds)+1] = 1 },
	} {
		fixed := bpf.WireHttpSum{Key: bpf.WireHttpSumKey{Role: event.RoleClient}}
		change(&fixed)
		_, err := event.DecodeHTTPSum(eventtest.Record(fixed))
		assert.ErrorIs(t, err, event.ErrUndecodable, name)
	}
}

func TestDecodeConnectionSum(t *testing.T) {
	fixed := bpf.WireConnectionSum{
		Header: bpf.WireEventHeader{CgroupId: 7, Time: 9, Type: uint16(event.TypeConnectionSum)},
		Key:    bpf.WireConnectionSumKey{CgroupId: 7, Type: uint16(event.TypeConnectionConnect), Protocol: event.ProtocolUDP, Role: event.RoleClient, IsIpv4: 1},
	}
	fixed.Sums.Events, fixed.Sums.Durations[len(event.RoundTripBounds)] = 3, 3
	e, err := event.DecodeConnectionSum(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.Equal(t, fixed, *e.WireConnectionSum)
	assert.True(t, e.IsConnect())
	assert.Equal(t, event.RoundTripBounds, e.DurationBounds())
	ends := e.Ends()
	assert.True(t, event.Address(ends.PeerAddress).Is4())
	ends.PeerAddress = [16]byte{}
	assert.Equal(t, bpf.WireConnectionEnds{Protocol: event.ProtocolUDP, Role: event.RoleClient}, ends)

	fixed.Key.Type, fixed.Key.IsIpv4, fixed.Sums.Durations = uint16(event.TypeConnectionClose), 0, [event.ConnectionSumBuckets]uint64{}
	e, err = event.DecodeConnectionSum(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.False(t, e.IsConnect())
	assert.Equal(t, event.LifetimeBounds, e.DurationBounds())
	ends = e.Ends()
	assert.True(t, event.Address(ends.PeerAddress).Is6())
}

func TestConnectionSumsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*bpf.WireConnectionSum){
		"of no type":                func(e *bpf.WireConnectionSum) { e.Key.Type = 0 },
		"of another type":           func(e *bpf.WireConnectionSum) { e.Key.Type = uint16(event.TypeConnectionReport) },
		"too many":                  func(e *bpf.WireConnectionSum) { e.Sums.Events = 1<<48 + 1 },
		"too many durations":        func(e *bpf.WireConnectionSum) { e.Sums.Durations[1] = 1<<48 + 1 },
		"too many round trips":      func(e *bpf.WireConnectionSum) { e.Sums.Rtts[1] = 1<<48 + 1 },
		"a lifetime behind all":     func(e *bpf.WireConnectionSum) { e.Sums.Durations[len(event.LifetimeBounds)+1] = 1 },
		"more of it than there are": func(e *bpf.WireConnectionSum) { e.Sums.Durations[16] = 1 },
	} {
		fixed := bpf.WireConnectionSum{Key: bpf.WireConnectionSumKey{Type: uint16(event.TypeConnectionClose)}}
		change(&fixed)
		_, err := event.DecodeConnectionSum(eventtest.Record(fixed))
		assert.ErrorIs(t, err, event.ErrUndecodable, name)
	}
}

func TestDecodeProcessSum(t *testing.T) {
	for _, tt := range []struct {
		kind   event.Type
		events uint64
		valid  bool
	}{
		{event.TypeProcessExec, 7, true}, {event.TypeProcessExit, 1 << 48, true},
		{event.TypeProcessExit, 1<<48 + 1, false}, {event.TypeProcessFork, 7, false}, {0, 7, false},
	} {
		fixed := bpf.WireProcessSum{Key: bpf.WireProcessSumKey{Type: uint16(tt.kind), Status: 9, CgroupId: 7}, Sums: bpf.WireProcessSums{Events: tt.events}}
		e, err := event.DecodeProcessSum(eventtest.Record(fixed))
		if !tt.valid {
			assert.ErrorIs(t, err, event.ErrUndecodable)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, fixed, *e)
	}
}

func TestDecodeTLSSum(t *testing.T) {
	fixed := bpf.WireTlsSum{
		Header: bpf.WireEventHeader{CgroupId: 7, Time: 9, Type: uint16(event.TypeTLSSum)},
		Key:    bpf.WireTlsSumKey{CgroupId: 7, Version: 0x0304, Role: event.RoleClient, Flags: event.TLSAlert, Alert: 48},
	}
	fixed.Sums.Durations[0], fixed.Sums.Durations[len(event.DurationBounds)] = 3, 4
	e, err := event.DecodeTLSSum(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.Equal(t, fixed, *e.WireTlsSum)
	assert.EqualValues(t, 7, e.Events())
	assert.Equal(t, "unknown_ca", e.ErrorType())
}

// TestTLSSumsHaveFailedAsHandshakesHave.
func TestTLSSumsHaveFailedAsHandshakesHave(t *testing.T) {
	for flags := range uint16(1 << 12) {
		for _, errno := range []int32{0, 104} {
			for _, role := range []uint8{event.RoleClient, event.RoleServer} {
				sum, err := event.DecodeTLSSum(eventtest.Record(bpf.WireTlsSum{Key: bpf.WireTlsSumKey{Flags: flags, Error: errno, Role: role, Alert: 70}}))
				require.NoError(t, err)
				h, err := event.DecodeTLSHandshake(eventtest.Record(bpf.WireTlsHandshake{Flags: flags, Error: errno, Alert: 70, Ends: bpf.WireConnectionEnds{Role: role}}))
				require.NoError(t, err)
				assert.Equal(t, h.ErrorType(), sum.ErrorType())
			}
		}
	}
}

func TestTLSSumsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*bpf.WireTlsSum){
		"no end":                func(e *bpf.WireTlsSum) { e.Key.Role = 0 },
		"another end":           func(e *bpf.WireTlsSum) { e.Key.Role = 3 },
		"too many":              func(e *bpf.WireTlsSum) { e.Sums.Durations[2] = 1<<48 + 1 },
		"a duration behind all": func(e *bpf.WireTlsSum) { e.Sums.Durations[len(event.DurationBounds)+1] = 1 },
	} {
		fixed := bpf.WireTlsSum{Key: bpf.WireTlsSumKey{Role: event.RoleClient}}
		change(&fixed)
		_, err := event.DecodeTLSSum(eventtest.Record(fixed))
		assert.ErrorIs(t, err, event.ErrUndecodable, name)
	}
}
