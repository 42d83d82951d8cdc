// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

func TestDecodeCgroupChange(t *testing.T) {
	for _, tt := range []struct{ name, path, want string }{
		{"a path", "/system.slice/a.service\x00", "/system.slice/a.service"},
		{"the root", "/\x00", "/"},
		{"one that could not be read", "", ""},
		{"one that was cut off", strings.Repeat("/a", 511) + "/\x00", ""},
		{"the longest", strings.Repeat("/a", 511) + "\x00", strings.Repeat("/a", 511)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := event.DecodeCgroupChange(eventtest.CgroupChange(event.TypeCgroupJoined, bpf.WireCgroupChange{
				Header: bpf.WireEventHeader{CgroupId: 7, Pid: 3}, Hierarchy: 2,
			}, strings.TrimSuffix(tt.path, "\x00"), strings.HasSuffix(tt.path, "\x00")))
			require.NoError(t, err)
			assert.Equal(t, tt.want, string(e.Path))
			assert.EqualValues(t, 7, e.Header.CgroupId)
			assert.EqualValues(t, 2, e.Hierarchy)
		})
	}
}

func TestDecodeCgroupChangeOfAnotherSize(t *testing.T) {
	whole := eventtest.CgroupChange(event.TypeCgroupMade, bpf.WireCgroupChange{}, "/a", true)
	for _, record := range [][]byte{nil, whole[:10], whole[:len(whole)-1], append(whole[:len(whole):len(whole)], 0)} {
		_, err := event.DecodeCgroupChange(eventtest.Aligned(record))
		assert.ErrorIs(t, err, event.ErrUndecodable)
	}
}
