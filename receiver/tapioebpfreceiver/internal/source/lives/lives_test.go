// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package lives

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func header(kind event.Type, pid uint32, start, time uint64) bpf.WireEventHeader {
	return bpf.WireEventHeader{Type: uint16(kind), Pid: pid, StartTime: start, Time: time, CgroupId: 7}
}

func fork(pid, parent uint32, time uint64) []byte {
	return eventtest.Record(bpf.WireProcessFork{
		Header: header(event.TypeProcessFork, pid, time, time), Process: bpf.WireProcessIdentity{ParentPid: parent, Vpid: 3, Uid: 1, Euid: 2},
	})
}

func exit(pid uint32, start, time uint64) []byte {
	return eventtest.Record(bpf.WireProcessExit{Header: header(event.TypeProcessExit, pid, start, time)})
}

func TestLives(t *testing.T) {
	l := New([]source.Process{{PID: 1, StartTicks: 4, Executable: "/sbin/init"}})
	const began, ended = 200 * nsPerTick, 300 * nsPerTick
	_, found := l.Process(9)
	assert.False(t, found)
	l.Learn(fork(9, 1, began))
	p, found := l.Process(9)
	assert.True(t, found)
	assert.Equal(t, source.Process{
		PID: 9, ParentPID: 1, VPID: 3, StartTicks: 200, UID: 1, EUID: 2, Executable: "/sbin/init", CgroupID: 7,
	}, p, "it runs what its parent does")
	assert.False(t, l.Gone(9, 200))

	l.Learn(exit(9, began+nsPerTick, ended))
	assert.False(t, l.Gone(9, 200), "it was another one's end")
	l.Learn(exit(9, began, ended))
	assert.True(t, l.Gone(9, 200))
	assert.False(t, l.Gone(9, 201), "one that came later is not known")
	_, found = l.Process(9)
	assert.True(t, found, "what it left may end later")

	l.Learn(fork(9, 1, ended+nsPerTick))
	assert.True(t, l.Gone(9, 200), "another one has its pid")
	l.Learn(fork(10, 1, ended+retention+1))
	assert.False(t, l.Gone(9, 301), "it was not forgotten with the one before")
	l.Learn(exit(9, ended+nsPerTick, ended+retention+1))
	l.Learn(fork(11, 1, ended+2*retention+2))
	_, found = l.Process(9)
	assert.False(t, found)
	assert.Empty(t, l.ended)

	l.Learn([]byte{1})
	assert.False(t, l.Gone(1, 4))
}
