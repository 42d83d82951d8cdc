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

func TestDecodeThrottling(t *testing.T) {
	fixed := bpf.WireThrottling{
		Header: bpf.WireEventHeader{CgroupId: 7, Time: 9, Type: uint16(event.TypeThrottling)}, Began: 5, Events: 3, Total: 4, Limit: 10,
		Family: uint16(event.FamilySecurity), Kind: uint16(event.SecurityMount), Flags: event.ThrottlingBegan | event.ThrottlingEnded,
	}
	e, err := event.DecodeThrottling(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.Equal(t, fixed, *e.WireThrottling)
	assert.Equal(t, event.FamilySecurity, e.Limited())
	assert.Equal(t, event.SecurityMount, e.SecurityKind())
}

// TestOnlySomeFamiliesHaveLimits, and only of these can something be missing for them.
func TestOnlySomeFamiliesHaveLimits(t *testing.T) {
	limited := 0
	for family := range uint16(1 << 9) {
		e, err := event.DecodeThrottling(eventtest.Record(bpf.WireThrottling{Family: family}))
		if err != nil {
			assert.ErrorIs(t, err, event.ErrUndecodable)
			continue
		}
		limited++
		assert.EqualValues(t, family, e.Limited())
		assert.NotEmpty(t, e.Limited().String())
	}
	assert.Len(t, event.LimitedFamilies, limited)
	assert.NotContains(t, event.LimitedFamilies, event.FamilyCgroup)
	assert.NotContains(t, event.LimitedFamilies, event.FamilyThrottle)
}

func TestDecodeThrottlingOfAnotherSize(t *testing.T) {
	record := eventtest.Record(bpf.WireThrottling{Family: uint16(event.FamilyHTTP)})
	_, err := event.DecodeThrottling(eventtest.Aligned(append(record[:len(record):len(record)], 0)))
	assert.ErrorIs(t, err, event.ErrUndecodable)
}
