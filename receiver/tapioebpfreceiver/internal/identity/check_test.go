// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func TestCheckEndsWhatIsGone(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{{PID: 1, StartTicks: 10, Executable: "/a"}, {PID: 2, StartTicks: 20, Executable: "/b"}})
	gone := func(pid uint32, startTicks uint64) bool { return pid == 2 && startTicks == 20 }
	x.Check(2, gone, 1e9)
	assert.Equal(t, 1, x.Active())
	assert.NotNil(t, x.Find(2, 20*nsPerTick), "what it left behind still finds it")
	assert.Zero(t, x.Find(2, 20*nsPerTick).Resource.Alive())
}

func TestCheckAsksNoMoreThanItMay(t *testing.T) {
	x := newIndex(nil)
	for pid := range uint32(100) {
		x.Load([]source.Process{{PID: pid + 1}})
	}
	asked := 0
	x.Check(7, func(uint32, uint64) bool { asked++; return false }, 1)
	assert.Equal(t, 7, asked)
	assert.Equal(t, 100, x.Active())
}
