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

func TestDecodeCNIBegan(t *testing.T) {
	fixed := bpf.WireCniBegan{Header: header, Process: identity, Netns: math.MaxUint32, Flags: event.CNIVariableTruncated, PathSize: 4, EnvironmentSize: 5}
	got, err := event.DecodeCNIBegan(eventtest.Record(fixed, []byte("/x/\x00A=\xff\x00\x00")))
	require.NoError(t, err)
	assert.Equal(t, fixed, *got.WireCniBegan)
	assert.Equal(t, "/x/", string(got.Path))
	assert.Equal(t, "A=\xff\x00\x00", string(got.Environment))
	for _, tail := range []string{"", "12345678", "1234567890"} {
		_, err := event.DecodeCNIBegan(eventtest.Record(fixed, []byte(tail)))
		assert.ErrorIs(t, err, event.ErrUndecodable)
		assert.ErrorContains(t, err, "parts of 4 and 5 bytes in a cni_began tail of")
	}
}

func TestDecodeCNIEnded(t *testing.T) {
	fixed := bpf.WireCniEnded{Header: header, Began: 131, OutputSize: 3, Captured: 2, Status: 256, Netns: math.MaxUint32, Flags: event.CNIOutputMissed}
	got, err := event.DecodeCNIEnded(eventtest.Record(fixed, []byte("oh")))
	require.NoError(t, err)
	assert.Equal(t, fixed, *got.WireCniEnded)
	assert.Equal(t, "oh", string(got.Output))
	assert.True(t, got.OutputTruncated())
	fixed.Status, fixed.Captured = 0, 0
	got, err = event.DecodeCNIEnded(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.False(t, got.OutputTruncated(), "a result is not told")
	fixed.Status, fixed.OutputSize = 256, 0
	got, err = event.DecodeCNIEnded(eventtest.Record(fixed))
	require.NoError(t, err)
	assert.True(t, got.OutputTruncated(), "nothing was kept")
	fixed.Captured = math.MaxUint32
	_, err = event.DecodeCNIEnded(eventtest.Record(fixed, []byte("oh")))
	assert.ErrorIs(t, err, event.ErrUndecodable)
}
