// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	second = uint64(1e9)
	tick   = second / 100
)

// proc is the source as far as an index asks it.
type proc struct {
	known   map[uint32]source.Process
	asked   []uint32
	cgroups map[uint64]string
	// askedFor are the cgroups.
	askedFor []uint64
}

func (p *proc) Cgroup(id uint64, _ uint32) (string, bool) {
	p.askedFor = append(p.askedFor, id)
	path, ok := p.cgroups[id]
	return path, ok
}

func (p *proc) Process(pid uint32) (source.Process, bool) {
	p.asked = append(p.asked, pid)
	known, ok := p.known[pid]
	return known, ok
}

// newIndex has a source that knows the given processes.
func newIndex(known map[uint32]source.Process) *Index {
	return NewIndex(Options{Resolver: &proc{known: known}})
}

// started is a program's start at a time, in a process that has the given pid since a time.
func started(t testing.TB, x *Index, pid uint32, since, at uint64, exe string, arguments ...string) *Process {
	return startedWith(t, x, bpf.WireProcessExec{
		Header:  bpf.WireEventHeader{Pid: pid, StartTime: since, Time: at},
		Process: bpf.WireProcessIdentity{ParentPid: 1, Vpid: pid + 1000, Uid: 500, Euid: 501},
	}, exe, "/srv", arguments...)
}

func startedWith(t testing.TB, x *Index, fixed bpf.WireProcessExec, exe, cwd string, arguments ...string) *Process {
	record := eventtest.Exec(fixed, exe, cwd, arguments...)
	e, err := event.DecodeProcessExec(record)
	require.NoError(t, err)
	p := x.Started(&e)
	clear(record) // it is valid only during the call
	return p
}

func forked(x *Index, pid uint32, since uint64, parent *Process) *Process {
	return x.Forked(&bpf.WireProcessFork{
		Header: bpf.WireEventHeader{Pid: pid, StartTime: since, Time: since},
		Process: bpf.WireProcessIdentity{
			ParentPid: parent.PID, ParentStartTime: parent.StartTime, Vpid: 7, Uid: 500, Euid: 501,
		},
	})
}

// requireSound checks what is always so: who lives is counted once, and at one resource.
func requireSound(t testing.TB, x *Index) {
	t.Helper()
	counted := map[*Resource]int{}
	for pid, p := range x.live {
		require.Equal(t, pid, p.PID)
		require.Zero(t, p.exitedAt)
		counted[p.Resource.line.latest]++
	}
	sum := 0
	x.Resources(func(r *Resource) {
		require.Positive(t, r.Alive())
		require.Equal(t, counted[r], r.Alive(), r.Path)
		require.Same(t, r, r.line.latest)
		sum += r.Alive()
	})
	require.Equal(t, x.Active(), sum)
	resources, ids := 0, 0
	for _, g := range x.byPlace {
		resources += g.counted()
		for _, id := range []string{g.PodUID, g.ContainerID} {
			if id != "" && x.names != nil {
				require.Contains(t, x.byID[id], g)
				ids++
			}
		}
	}
	require.Equal(t, resources, x.resources)
	for _, groups := range x.byID {
		ids -= len(groups)
	}
	require.Zero(t, ids, "of groups that are forgotten")
	for key, p := range x.ended {
		require.Equal(t, key, p.Key)
		require.NotZero(t, p.exitedAt)
	}
	inUse := map[*Process]string{}
	for _, p := range x.unused {
		require.Empty(t, inUse[p], "twice unused")
		require.Equal(t, Process{}, *p)
		inUse[p] = "unused"
	}
	for _, p := range x.queue {
		require.Empty(t, inUse[p], "%d is in the queue and %s", p.PID, inUse[p])
		inUse[p] = "in the queue"
	}
	for _, p := range x.live {
		require.Empty(t, inUse[p], "%d lives and is %s", p.PID, inUse[p])
	}
}

// onlyOf is the resource of an executable that one process runs.
func onlyOf(executable, name string) *Resource {
	r := &Resource{Name: name, Path: executable, Key: ResourceKey{path: executable}}
	r.line = &lineage{latest: r, alive: 1}
	return r
}

func TestStartedTellsAll(t *testing.T) {
	x := newIndex(nil)
	p := startedWith(t, x, bpf.WireProcessExec{
		Header:  bpf.WireEventHeader{Pid: 10, StartTime: second + 1, Time: 2 * second},
		Process: bpf.WireProcessIdentity{ParentPid: 4, Vpid: 1, Uid: 500, Euid: 0},
		Flags:   event.ExecExeUnlinked,
	}, "/usr/bin/curl", "/home/me", "curl", "-u", "me:hunter2")

	assert.Equal(t, &Process{
		Key:       Key{PID: 10, StartTicks: 100},
		StartTime: second + 1,
		VPID:      1,
		ParentPID: 4,
		UID:       500,
		Resource:  onlyOf("/usr/bin/curl", "curl"),
		group:     x.nobody,
		Directory: "/home/me",
		Arguments: []string{"curl", "-u", "me:REDACTED"},
		Exec:      Exec{Time: 2 * second, Flags: event.ExecExeUnlinked},
	}, p)
	requireSound(t, x)
}

func TestStartedAgainReplacesTheProgram(t *testing.T) {
	x := newIndex(nil)
	first := started(t, x, 10, second, second, "/bin/sh", "sh")
	first.Exec.Flags = 1
	shell := first.Resource
	second := started(t, x, 10, second, 2*second, "/bin/sleep", "sleep", "1")

	assert.Same(t, first, second, "it is the same process")
	assert.Equal(t, "/bin/sleep", second.Resource.Path)
	assert.Equal(t, []string{"sleep", "1"}, second.Arguments)
	assert.Equal(t, Exec{Time: 2e9}, second.Exec)
	assert.Zero(t, shell.Alive())
	requireSound(t, x)
}

func TestStartedWithoutArguments(t *testing.T) {
	x := newIndex(nil)
	started(t, x, 10, second, second, "/bin/sh", "sh")
	assert.Nil(t, started(t, x, 10, second, 2*second, "/bin/sh").Arguments)
}

func TestNamesAreMadeUTF8(t *testing.T) {
	x := newIndex(nil)
	p := startedWith(t, x, bpf.WireProcessExec{Header: bpf.WireEventHeader{Pid: 10}}, "/opt\xff/caf\xe9", "/a\xc3/b", "\xfe")
	assert.Equal(t, "/opt\uFFFD/caf\uFFFD", p.Resource.Path)
	assert.Equal(t, "caf\uFFFD", p.Resource.Name)
}

func TestNamesOfOlderProcessesAreMadeUTF8(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{{PID: 1, Executable: "/opt\xff/caf\xe9"}})
	p := x.FindByPID(1)
	assert.Equal(t, "/opt\uFFFD/caf\uFFFD", p.Resource.Path)
	assert.Equal(t, "caf\uFFFD", p.Resource.Name)
}

func TestATruncatedPathIsNotTakenForAWholeOne(t *testing.T) {
	const truncated = event.ExecExeTruncated | event.ExecCwdTruncated
	for _, flags := range [][]uint16{{0, truncated}, {truncated, 0}} {
		x := newIndex(nil)
		for i, f := range flags {
			p := startedWith(t, x, bpf.WireProcessExec{Header: bpf.WireEventHeader{Pid: uint32(i)}, Flags: f}, "/a/b", "/c/d")
			if f == truncated {
				assert.Equal(t, "a/b", p.Resource.Path)
				assert.Equal(t, "c/d", p.Directory)
			} else {
				assert.Equal(t, "/a/b", p.Resource.Path)
				assert.Equal(t, "/c/d", p.Directory)
			}
		}
	}
}

func TestExecutablesOfOneNameShareAResource(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{{PID: 1, Executable: "/bin/sh"}})
	a := started(t, x, 10, second, second, "/bin/sh")
	b := started(t, x, 11, second, second, "/bin/sh")
	assert.Same(t, a.Resource, b.Resource)
	assert.Same(t, a.Resource, x.FindByPID(1).Resource)
	assert.Equal(t, 3, a.Resource.Alive())
	requireSound(t, x)
}

func TestProgramWithoutPathIsOfTheUnknownResource(t *testing.T) {
	x := newIndex(nil)
	p := started(t, x, 10, second, second, "")
	assert.Same(t, x.Unknown(), p.Resource)
	assert.Equal(t, onlyOf("", ""), p.Resource)
	requireSound(t, x)
}

func TestForkRunsWhatItsParentRuns(t *testing.T) {
	x := newIndex(nil)
	parent := started(t, x, 10, second, second, "/bin/sh", "sh")
	child := forked(x, 11, 2*second, parent)

	assert.Equal(t, &Process{
		Key:         Key{PID: 11, StartTicks: 200},
		StartTime:   2 * second,
		VPID:        7,
		ParentPID:   10,
		UID:         500,
		EUID:        501,
		ParentStart: 1_000_000_000,
		group:       x.nobody,
		Resource:    parent.Resource,
		Directory:   "/srv",
		Arguments:   []string{"sh"},
	}, child, "its span is not the parent's")
	assert.Equal(t, 2, parent.Resource.Alive())
	requireSound(t, x)
}

func TestForkOfAnEndedParent(t *testing.T) {
	x := newIndex(nil)
	parent := started(t, x, 10, second, second, "/bin/sh", "sh")
	x.Ended(parent, 2*second)
	child := forked(x, 11, 2*second, parent)
	assert.Equal(t, "/bin/sh", child.Resource.Path)
	assert.Equal(t, 1, child.Resource.Alive())
	requireSound(t, x)
}

func TestForkOfAnEndedParentWhoseResourceIsGone(t *testing.T) {
	x := newIndex(nil)
	parent := started(t, x, 10, second, second, "/bin/sh", "sh")
	x.Ended(parent, 2*second)
	x.dropUnusedResources()
	child := forked(x, 11, 2*second, parent)
	other := started(t, x, 12, 3*second, 3*second, "/bin/sh")
	assert.Same(t, child.Resource, other.Resource)
	requireSound(t, x)
}

func TestForkOfAParentWhoseEntryIsUsedAgainForTheChild(t *testing.T) {
	x := newIndex(nil)
	parent := *started(t, x, 10, second, second, "/bin/sh", "sh")
	x.Ended(x.FindByPID(10), 2*second) // the oldest of a full queue
	for pid := uint32(100); len(x.queue) < maxExited; pid++ {
		x.Ended(started(t, x, pid, second, second, "/bin/true"), 2*second)
	}
	started(t, x, 11, second, second, "/bin/true") // its end was not seen; the child has its pid
	child := forked(x, 11, 3*second, &parent)
	assert.Equal(t, "/bin/sh", child.Resource.Path)
	assert.Equal(t, []string{"sh"}, child.Arguments)
	requireSound(t, x)
}

// TestForkOfWhoRunsAProgramAlready: a recording that is not in order tells of a program before it tells of its process.
func TestForkOfWhoRunsAProgramAlready(t *testing.T) {
	x := newIndex(nil)
	parent := started(t, x, 10, second, second, "/bin/sh", "sh")
	program := &Program{}
	started(t, x, 11, 2*second, 2*second, "/bin/true", "true").Program = program
	child := forked(x, 11, 2*second, parent)
	assert.Equal(t, "/bin/true", child.Resource.Path)
	assert.Equal(t, []string{"true"}, child.Arguments)
	assert.Same(t, program, child.Program)
	assert.EqualValues(t, 1011, child.VPID, "as its program told")
	requireSound(t, x)
}

func TestForkOfAnUnknownParent(t *testing.T) {
	x := newIndex(nil)
	child := forked(x, 11, 2*second, &Process{Key: Key{PID: 10}, StartTime: second})
	assert.Same(t, x.Unknown(), child.Resource)
	assert.Equal(t, uint32(10), child.ParentPID)
	assert.Equal(t, 1, x.Active(), "the parent may be out of scope, and is none of ours then")
	requireSound(t, x)
}

func TestForkOfNoParent(t *testing.T) {
	x := newIndex(nil)
	child := forked(x, 1, 0, &Process{})
	assert.Same(t, x.Unknown(), child.Resource)
	requireSound(t, x)
}

func TestEnded(t *testing.T) {
	x := newIndex(nil)
	p := started(t, x, 10, second, second, "/bin/sh")
	x.Ended(p, 2*second)
	assert.Zero(t, x.Active())
	assert.Zero(t, p.Resource.Alive())
	x.Ended(p, 3*second) // again
	assert.Zero(t, p.Resource.Alive())
	requireSound(t, x)
}

func TestAnEndedProcessIsFoundUntilRetention(t *testing.T) {
	x := newIndex(nil)
	p := started(t, x, 10, second, second, "/bin/sh")
	x.Ended(p, 2*second)

	x.Expire(2*second + retention)
	assert.Same(t, p, x.Find(10, second), "a connection of it may end late")
	assert.Same(t, p, x.FindByPID(10))

	x.Expire(2*second + retention + 1)
	assert.Empty(t, x.ended)
	assert.Empty(t, x.queue)
	assert.Nil(t, x.FindByPID(10))
	requireSound(t, x)
}

func TestExpireForgetsOnlyTheOld(t *testing.T) {
	x := newIndex(nil)
	for pid := uint32(1); pid <= 10; pid++ {
		x.Ended(started(t, x, pid, second, second, "/bin/sh"), uint64(pid)*second)
	}
	living := started(t, x, 11, second, second, "/bin/sh")
	x.Expire(5*second + retention)
	assert.Len(t, x.ended, 6)
	assert.Same(t, living, x.Find(11, second))
	requireSound(t, x)
}

func TestAPIDIsUsedAgain(t *testing.T) {
	for _, seen := range []bool{true, false} {
		t.Run(fmt.Sprintf("end seen: %t", seen), func(t *testing.T) {
			x := newIndex(nil)
			older := started(t, x, 10, second, second, "/bin/old")
			if seen {
				x.Ended(older, 2*second)
			}
			newer := started(t, x, 10, 3*second, 3*second, "/bin/new")

			assert.Same(t, older, x.Find(10, second))
			assert.Same(t, newer, x.Find(10, 3*second))
			assert.Same(t, newer, x.FindByPID(10))
			assert.Equal(t, "/bin/old", older.Resource.Path)
			assert.Zero(t, older.Resource.Alive())
			assert.Equal(t, 1, x.Active())
			requireSound(t, x)

			x.Ended(newer, 4*second)
			assert.Same(t, newer, x.FindByPID(10), "the last one that had it")
			x.Expire(3*second + retention + 1)
			assert.Same(t, newer, x.Find(10, 3*second))
			requireSound(t, x)
		})
	}
}

func TestFindAsksTheSource(t *testing.T) {
	known := source.Process{
		PID: 10, ParentPID: 4, VPID: 1, StartTicks: 100, UID: 500, EUID: 501,
		Executable: "/bin/sh",
	}
	asked := &proc{known: map[uint32]source.Process{10: known}}
	x := NewIndex(Options{Resolver: asked})
	p := x.Find(10, second+tick-1)

	assert.Equal(t, &Process{
		Key: Key{PID: 10, StartTicks: 100}, StartTime: second, VPID: 1, ParentPID: 4, UID: 500, EUID: 501,
		Resource: onlyOf("/bin/sh", "sh"), group: x.nobody,
	}, p)
	assert.Same(t, p, x.Find(10, second))
	assert.Len(t, asked.asked, 1)
	requireSound(t, x)
}

func TestFindRemembersThatNothingIsKnown(t *testing.T) {
	asked := &proc{}
	x := NewIndex(Options{Resolver: asked})
	assert.Nil(t, x.Find(10, second))
	assert.Nil(t, x.Find(10, second))
	assert.Len(t, asked.asked, 1)
	assert.Nil(t, x.Find(10, 2*second), "another process")
	assert.Len(t, asked.asked, 2)
	assert.Zero(t, x.Active(), "nobody knows whether they live")
	assert.Nil(t, x.FindByPID(10), "nobody knows whether they are in scope")
	requireSound(t, x)
}

func TestFindDoesNotTakeANewProcessForAnOldOne(t *testing.T) {
	x := newIndex(map[uint32]source.Process{10: {PID: 10, StartTicks: 300, Executable: "/bin/new"}})
	assert.Nil(t, x.Find(10, second))
	assert.Equal(t, "/bin/new", x.Find(10, 3*second).Resource.Path)
	requireSound(t, x)
}

func TestFindOfAnOldProcessWhosePIDHasANewOwner(t *testing.T) {
	x := newIndex(nil)
	newer := started(t, x, 10, 3*second, 3*second, "/bin/new")
	assert.Nil(t, x.Find(10, second))
	assert.Same(t, newer, x.Find(10, 3*second))
	requireSound(t, x)
}

func TestFindNoProcess(t *testing.T) {
	asked := &proc{}
	x := NewIndex(Options{Resolver: asked})
	assert.Nil(t, x.Find(0, 0))
	assert.Nil(t, x.FindByPID(0))
	assert.Empty(t, asked.asked)
}

func TestAProcessThatWasUnknownStarts(t *testing.T) {
	x := newIndex(nil)
	x.Find(10, second)
	p := started(t, x, 10, second, 6*second, "/bin/sh")
	assert.Same(t, p, x.Find(10, second))
	assert.Same(t, p, x.FindByPID(10))
	assert.Equal(t, 1, x.Active())
	requireSound(t, x)
}

func TestAProcessThatStartsAfterItsEnd(t *testing.T) {
	x := newIndex(nil)
	x.Ended(started(t, x, 10, second, second, "/bin/sh"), 2*second)
	p := started(t, x, 10, second, 3*second, "/bin/sleep")
	assert.Same(t, p, x.Find(10, second))
	requireSound(t, x)
	x.Ended(p, 4*second)

	x.Expire(2*second + retention + 1) // forgets the first entry
	assert.Same(t, p, x.Find(10, second))
	requireSound(t, x)
}

func TestLoadAfterARecordOfTheSameProcess(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{{PID: 10, StartTicks: 100, Executable: "/bin/sh"}})
	p := started(t, x, 10, second, 2*second, "/bin/sleep")
	assert.Equal(t, 1, x.Active())
	assert.Equal(t, "/bin/sleep", p.Resource.Path)
	requireSound(t, x)
}

func TestManyShortProcesses(t *testing.T) {
	const processes = 100_000
	x := newIndex(nil)
	shell := started(t, x, 1, 0, 0, "/bin/sh", "sh")
	for i := range uint64(processes) {
		now := second + i*second/2000 // 120,000 a minute
		pid := uint32(2 + i%30000)
		forked(x, pid, now, shell)
		name := fmt.Sprintf("/bin/%d", i)
		p := startedWith(t, x, bpf.WireProcessExec{Header: bpf.WireEventHeader{Pid: pid, StartTime: now, Time: now}}, name, name, name)
		x.Ended(p, now+tick)
		if i%1000 == 0 {
			x.Expire(now)
			requireBounded(t, x)
		}
	}
	requireBounded(t, x)
	requireSound(t, x)
	assert.Equal(t, 1, x.Active())
	assert.Equal(t, "/bin/sh", shell.Resource.Path)
	assert.Same(t, shell, x.Find(1, 0))

	x.Expire(1e6 * second)
	assert.Empty(t, x.ended)
	assert.Nil(t, x.queue, "its array is let go of")
	requireSound(t, x)
}

// requireBounded also says that Process objects are used again: those that live, those that ended
// and those that wait for use are all that there are.
func requireBounded(t *testing.T, x *Index) {
	t.Helper()
	require.LessOrEqual(t, len(x.queue), maxExited)
	require.LessOrEqual(t, cap(x.queue), 3*maxExited)
	require.LessOrEqual(t, len(x.ended), maxExited)
	require.LessOrEqual(t, len(x.live), maxLive)
	require.LessOrEqual(t, len(x.queue)+len(x.unused), maxExited+1)
	require.LessOrEqual(t, x.resources, maxResources)
	require.LessOrEqual(t, len(x.executables), maxResources)
	require.LessOrEqual(t, len(x.byCgroup), maxCgroups)
	require.LessOrEqual(t, len(x.byPlace), 2*maxCgroups)
	require.LessOrEqual(t, len(x.directories), maxStrings)
	require.LessOrEqual(t, len(x.arguments), maxStrings)
}

// TestProcessesWhoseEndIsNeverTold are kept up to a limit.
func TestProcessesWhoseEndIsNeverTold(t *testing.T) {
	x := newIndex(nil)
	parent := started(t, x, 1, second, second, "/bin/sh")
	for pid := uint32(2); pid <= maxLive+100; pid++ {
		child := forked(x, pid, second+uint64(pid), parent)
		require.Same(t, child, x.FindByPID(pid))
	}
	assert.Equal(t, maxLive, x.Active())
	requireBounded(t, x)
	requireSound(t, x)
}

// TestComesBackWhileRoomIsMade: to begin again may end another one, and to end it may forget the oldest that has ended.
func TestComesBackWhileRoomIsMade(t *testing.T) {
	x := newIndex(nil)
	started(t, x, 1, second, second, "/bin/sh", "sh")
	x.Check(1, func(uint32, uint64) bool { return true }, second)
	pid := uint32(2)
	for ; len(x.queue) < maxExited; pid++ {
		x.Ended(forked(x, pid, 2*second, &Process{}), 2*second)
	}
	for ; x.Active() < maxLive; pid++ {
		forked(x, pid, 2*second, &Process{})
	}
	x.CgroupJoined(&event.CgroupChange{
		WireCgroupChange: &bpf.WireCgroupChange{Header: bpf.WireEventHeader{Pid: 1, StartTime: second, CgroupId: 9}},
		Path:             []byte("/docker/" + idA),
	})
	back := x.FindByPID(1)
	require.NotNil(t, back)
	assert.Equal(t, KeyOf(1, second), back.Key)
	assert.Equal(t, "/bin/sh", back.Resource.Path)
	assert.Equal(t, idA, back.Resource.ContainerID)
	assert.Equal(t, []string{"sh"}, back.Arguments)
	assert.Equal(t, maxLive, x.Active())
	requireBounded(t, x)
	requireSound(t, x)
}

func TestUnknownProcessesAreBounded(t *testing.T) {
	x := newIndex(nil)
	for pid := range uint32(2*maxStrangers + 1) {
		x.Find(pid+1, second)
	}
	assert.LessOrEqual(t, len(x.strangers), maxStrangers)
	requireBounded(t, x)
	requireSound(t, x)
	assert.Zero(t, x.Active())
}

// TestStartBelowWhoHasItsPIDNow: to look for the parent asks the source, which may say that another has the process's own pid.
func TestStartBelowWhoHasItsPIDNow(t *testing.T) {
	x := newIndex(map[uint32]source.Process{20: {PID: 20, StartTicks: 100, Executable: "/bin/init"}})
	forked(x, 10, second, &Process{})
	x.CgroupJoined(&event.CgroupChange{
		WireCgroupChange: &bpf.WireCgroupChange{Header: bpf.WireEventHeader{Pid: 10, StartTime: second, CgroupId: 3}, Hierarchy: 1},
		Path:             []byte("/docker/" + idA),
	})
	p := startedWith(t, x, bpf.WireProcessExec{
		Header:  bpf.WireEventHeader{Pid: 20, StartTime: 2 * second, Time: 2 * second},
		Process: bpf.WireProcessIdentity{ParentPid: 20, ParentStartTime: second},
	}, "/bin/a", "/")
	requireSound(t, x)
	assert.Same(t, p, x.FindByPID(20))
	assert.Equal(t, 1, p.Resource.Alive())
}

func TestProcessesWhoseEndWasNotSeenGoWithTheirPID(t *testing.T) {
	x := newIndex(nil)
	for i := range uint64(5000) {
		started(t, x, uint32(1+i%100), i*second, i*second, "/bin/sh")
	}
	assert.Equal(t, 100, x.Active())
	assert.Equal(t, 100, x.FindByPID(1).Resource.Alive())
	requireSound(t, x)
}

// FuzzIndex does anything in any order.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1, 1, 2, 2, 1, 0, 3, 1, 1, 4, 0, 0})
	f.Add([]byte{3, 1, 1, 0, 1, 1, 3, 1, 1, 4, 9, 9, 5, 1, 1, 2, 1, 1, 1, 1, 0x11})
	f.Add([]byte("770X77Z91"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		x := newIndex(map[uint32]source.Process{
			1: {PID: 1, StartTicks: 0, Executable: "/bin/init"},
			2: {PID: 2, StartTicks: 200, Executable: "/bin/a"},
		})
		now := second
		for steps = steps[:min(len(steps), 300)]; len(steps) >= 3; steps = steps[3:] {
			pid, since := uint32(steps[1]%4), uint64(steps[1]/4%4)*second
			parent := &Process{Key: Key{PID: uint32(steps[2] % 4)}, StartTime: uint64(steps[2]/4%4) * second}
			now += uint64(steps[2]) * second / 4
			switch steps[0] % 9 {
			case 0:
				started(t, x, pid, since, now, []string{"", "/bin/a", "/bin/b", "/bin/c"}[steps[2]%4])
			case 1:
				forked(x, pid, since, parent)
			case 2:
				if p := x.Find(pid, since); p != nil {
					x.Ended(p, now)
				}
			case 3:
				x.FindByPID(pid)
			case 4:
				x.Expire(now)
			case 5:
				x.dropUnusedResources()
			case 6:
				x.Check(2, func(pid uint32, _ uint64) bool { return pid%2 == 0 }, now)
			case 7:
				x.CgroupJoined(&event.CgroupChange{
					WireCgroupChange: &bpf.WireCgroupChange{Header: bpf.WireEventHeader{Pid: pid, StartTime: since, CgroupId: uint64(steps[2] % 4)}, Hierarchy: uint32(steps[2] / 4 % 2)},
					Path:             []byte([]string{"/docker/" + idA, "/system.slice/a.service"}[steps[2]/8%2]),
				})
			case 8:
				if p := x.Find(pid, since); p != nil {
					x.Moved(p, uint64(steps[2]%4))
				}
			}
			requireSound(t, x)
		}
	})
}

func TestParent(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{
		{PID: 1, StartTicks: 0},
		{PID: 20, ParentPID: 1, StartTicks: 200},
		{PID: 30, ParentPID: 40, StartTicks: 200}, // its parent has gone, and another got the pid
		{PID: 40, StartTicks: 300},
		{PID: 50, ParentPID: 50, StartTicks: 300},
	})
	forked := x.Forked(&bpf.WireProcessFork{
		Header: bpf.WireEventHeader{Pid: 60, StartTime: 6 * second}, Process: bpf.WireProcessIdentity{ParentPid: 20, ParentStartTime: 2*second + 1},
	})
	orphan := x.Forked(&bpf.WireProcessFork{
		Header: bpf.WireEventHeader{Pid: 70, StartTime: 7 * second}, Process: bpf.WireProcessIdentity{ParentPid: 20, ParentStartTime: second},
	})
	assert.Same(t, x.FindByPID(20), x.Parent(forked))
	assert.Same(t, x.FindByPID(1), x.Parent(x.FindByPID(20)))
	for _, p := range []*Process{x.FindByPID(1), x.FindByPID(30), x.FindByPID(50), orphan} {
		assert.Nil(t, x.Parent(p), p.PID)
	}
	x.Ended(x.FindByPID(20), 8*second)
	assert.EqualValues(t, 20, x.Parent(forked).PID, "also one that has ended")
}

// A record of a process that has ended changes nothing of who is alive.
func TestMovedAfterItsEnd(t *testing.T) {
	x := newIndex(nil)
	p := x.Forked(&bpf.WireProcessFork{Header: bpf.WireEventHeader{Pid: 60, StartTime: second, CgroupId: 7}})
	x.Ended(p, 2*second)
	x.Moved(p, 8)
	assert.Zero(t, p.Resource.Alive())
}

// TestJoinedAfterItsEnd: a process that left the scope was taken for one that has gone, until it comes back.
func TestJoinedAfterItsEnd(t *testing.T) {
	x := newIndex(nil)
	p := started(t, x, 60, second, second, "/bin/sh", "sh", "-l")
	x.Check(1, func(uint32, uint64) bool { return true }, 2*second)
	requireSound(t, x)
	back := &event.CgroupChange{
		WireCgroupChange: &bpf.WireCgroupChange{Header: bpf.WireEventHeader{Pid: 60, StartTime: second, CgroupId: 9}},
		Path:             []byte("/docker/" + idA),
	}
	x.CgroupJoined(back)
	requireSound(t, x)
	now := x.FindByPID(60)
	assert.NotSame(t, p, now)
	assert.Equal(t, "/bin/sh", now.Resource.Path)
	assert.Equal(t, idA, now.Resource.ContainerID)
	assert.Equal(t, []string{"sh", "-l"}, now.Arguments)
	assert.Equal(t, 1, now.Resource.Alive())
	x.Ended(now, 3*second)
	x.CgroupJoined(back)
	assert.Zero(t, now.Resource.Alive(), "its end was read: a zombie can be moved, too")
	requireSound(t, x)

	// found gone before its end was read
	late := started(t, x, 61, second, second, "/bin/sh")
	x.Check(1, func(uint32, uint64) bool { return true }, 4*second)
	x.Ended(late, 4*second)
	x.CgroupJoined(&event.CgroupChange{
		WireCgroupChange: &bpf.WireCgroupChange{Header: bpf.WireEventHeader{Pid: 61, StartTime: second, CgroupId: 9}},
		Path:             []byte("/docker/" + idA),
	})
	assert.Zero(t, x.Active())

	other := started(t, x, 60, 4*second, 4*second, "/bin/true")
	x.CgroupJoined(back)
	assert.Same(t, other, x.FindByPID(60), "another has its pid")
	requireSound(t, x)
	x.Expire(1000 * second)
	requireSound(t, x)
}

// TestForkThatIsReadAfterItsProcessWasFound: at the start the list of processes may be read before the fork of one of them, whose
// parent has ended.
func TestForkThatIsReadAfterItsProcessWasFound(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{{PID: 11, StartTicks: 200, Executable: "/usr/sbin/daemon"}})
	stranger := &Process{Key: Key{PID: 10}, StartTime: second}
	child := forked(x, 11, 2*second, stranger)
	assert.Equal(t, "/usr/sbin/daemon", child.Resource.Path)
	assert.Equal(t, 2*second, child.StartTime)
	requireSound(t, x)
}
