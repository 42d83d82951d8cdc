// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package identity says who did it: it knows processes from their start to a while after their
// end, the containers, pods and units that they are in, and the resource that each belongs to.
//
// It belongs to the one goroutine that reads the records; nothing in it is locked.
package identity // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

import (
	"strings"
	"time"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// nsPerTick is the unit in which /proc/PID/stat has a process's start: USER_HZ is 100 on amd64 and
// arm64 (proc_pid_stat(5)).
const nsPerTick = 10_000_000

// Key names a process for good. Within one tick a pid is not given out twice: the kernel hands out
// all others before it returns to one.
type Key struct {
	PID        uint32
	StartTicks uint64
}

// KeyOf a record's process.
func KeyOf(pid uint32, startTime uint64) Key {
	return Key{PID: pid, StartTicks: startTime / nsPerTick}
}

// Process is what is known of a process.
type Process struct {
	Key
	StartTime uint64 // CLOCK_BOOTTIME, ns; of processes older than the source to a tick
	VPID      uint32 // in its innermost pid namespace; 0: not known
	ParentPID uint32
	UID, EUID uint32
	// ParentStart is when the parent began, CLOCK_BOOTTIME, ns; 0: not known.
	ParentStart uint64
	Resource    *Resource
	Directory   string
	Arguments   []string // redacted; nil: not known

	// Exec is the program that runs now; zero where its start was not seen.
	Exec Exec
	// Program that runs now, also of those that were forked from where it was started; nil if that was
	// not seen.
	Program *Program

	exitedAt uint64 // CLOCK_BOOTTIME, ns; 0: it lives
	isGone   bool   // it was only found gone: its end was not read
	cgroup   uint64 // of the v2 hierarchy; 0: not known
	group    *group
	joined   *group // by a v1 hierarchy; nil: none says anything
}

// Exec is the start of a program by the process itself.
type Exec struct {
	Time  uint64 // CLOCK_BOOTTIME, ns; 0: not seen
	Flags uint16 // event.Exec*
	// PeakBefore is the highest resident set size of what ran before in the process, or of who started it, KiB.
	PeakBefore uint32
}

// Program is a program from its start on, and the span that will tell of it when it has ended. It is
// shared by the process and those that are forked from it.
type Program struct {
	Owner            Key    // the process that started it
	Session          uint32 // pid of its leader at the start
	Started          uint64 // CLOCK_BOOTTIME, ns
	TraceID          [16]byte
	SpanID, ParentID [8]byte
	Depth            int  // spans of programs above it
	Spans            int  // children so far
	Serves           bool // it has received requests
	IsFirst          bool // of its pid namespace
	Contained        bool // it was started in a container, and so from the container's files
	LooksLikeDaemon  bool // init, or the first one of a container, has started it, or it is one
}

// Limits. Where a cache is full it is begun anew: what is still in use comes back by itself.
const (
	maxExited    = 32768 // processes that are remembered after their end
	maxLive      = 131072
	maxResources = 16384
	maxStrings   = 4096 // directories, and command lines, which may be 4 KiB each
	maxStrangers = 16384

	// retention is how long an ended process is remembered. Its connections may outlive it: a FIN
	// that nobody answers is given up after a minute (tcp_fin_timeout).
	retention = 90e9 // ns
)

// Index finds processes.
type Index struct {
	live   map[uint32]*Process
	ended  map[Key]*Process
	queue  []*Process // the ended ones, oldest first
	unused []*Process // to be used again

	groups
	executables map[string]string // path, by path as the record has it
	resources   int               // of all groups, but for the one of no executable that each has
	dropAt      int               // resources
	directories map[string]string
	arguments   map[string][]string
	strangers   map[Key]struct{}
	unknown     *Resource

	path []byte // scratch
}

// Options of an Index.
type Options struct {
	Resolver Resolver
	Names    Names // nil: no Kubernetes
	// Wait is how long the records of a pod of which nothing is known may wait for its names.
	Wait time.Duration
}

// NewIndex returns an index that knows nothing yet.
func NewIndex(options Options) *Index {
	x := &Index{
		groups:      newGroups(options),
		live:        map[uint32]*Process{},
		ended:       map[Key]*Process{},
		executables: map[string]string{},
		directories: map[string]string{},
		arguments:   map[string][]string{},
		strangers:   map[Key]struct{}{},
		dropAt:      maxResources,
	}
	x.unknown = x.nobody.unnamed
	return x
}

// Unknown is the resource of what no process is known for.
func (x *Index) Unknown() *Resource { return x.unknown }

// Active is the number of processes that are known to live.
func (x *Index) Active() int { return len(x.live) }

// Load adds processes that are older than the source.
func (x *Index) Load(processes []source.Process) {
	for i := range processes {
		x.add(&processes[i])
	}
}

func (x *Index) add(known *source.Process) *Process {
	p := x.begin(Key{PID: known.PID, StartTicks: known.StartTicks}, known.StartTicks*nsPerTick)
	p.ParentPID, p.VPID = known.ParentPID, known.VPID
	p.UID, p.EUID = known.UID, known.EUID
	x.locate(p, known)
	x.settle(p, validUTF8(known.Executable))
	return p
}

// locate notes the cgroups of a process that is older than the source.
func (x *Index) locate(p *Process, known *source.Process) {
	p.cgroup = known.CgroupID
	if len(known.Cgroups) == 0 {
		return
	}
	if _, ok := x.byCgroup[p.cgroup]; !ok && p.cgroup != 0 {
		x.learn(p.cgroup, known.Cgroups[0])
	}
	if p.cgroup == 0 { // in a namespace whose beginning is not known: names in the path tell all the same
		x.join(p, PlaceOf(known.Cgroups[0]))
	}
	for _, path := range known.Cgroups[1:] {
		x.join(p, PlaceOf(path))
	}
}

// begin makes the entry of a process that lives now. Another one of the same pid has ended, even
// if nothing was heard of that.
func (x *Index) begin(key Key, startTime uint64) *Process {
	if old := x.live[key.PID]; old != nil {
		if old.Key == key {
			return old
		}
		x.end(old, startTime)
	}
	if len(x.live) >= maxLive {
		x.giveUpOne(startTime)
	}
	p := x.fresh()
	p.Key, p.StartTime, p.Resource = key, startTime, x.unknown
	if before := x.ended[key]; before != nil { // it was found gone while its records waited
		p.joined = before.joined
	}
	x.unknown.line.alive++
	x.live[key.PID] = p
	return p
}

// giveUpOne takes any process for one that has gone. In a pid namespace of the collector's own nothing tells of those whose end
// was lost, until their pid is used again.
func (x *Index) giveUpOne(now uint64) {
	for _, p := range x.live {
		x.end(p, now)
		p.isGone = true
		return
	}
}

func (x *Index) fresh() *Process {
	if n := len(x.unused); n > 0 {
		p := x.unused[n-1]
		x.unused = x.unused[:n-1]
		return p
	}
	return new(Process)
}

func (x *Index) setResource(p *Process, r *Resource) {
	p.Resource.line.alive--
	p.Resource = r
	r.line.alive++
}

// Started notes a program's start and returns its process. What the process ran before is replaced.
func (x *Index) Started(e *event.ProcessExec) *Process {
	key := KeyOf(e.Header.Pid, e.Header.StartTime)
	var joined *group
	if known := x.live[key.PID]; known == nil || known.Key != key {
		joined = x.joinedBy(&e.Process) // before it begins: to find its parent may end whoever has the parent's pid
	}
	p := x.begin(key, e.Header.StartTime)
	if p.joined == nil {
		p.joined = joined
	}
	setIdentity(p, &e.Process)
	p.cgroup = e.Header.CgroupId
	x.settle(p, x.internExecutable(e.Exe, e.Flags&event.ExecExeTruncated != 0))
	p.Directory = x.internDirectory(e.Cwd, e.Flags&event.ExecCwdTruncated != 0)
	p.Arguments = x.internArguments(e.Args)
	p.Exec = Exec{Time: e.Header.Time, Flags: e.Flags, PeakBefore: e.Process.PeakBefore}
	return p
}

// joinedBy is the place of the parent of a process whose fork was not seen, so that it is not lost for all
// that come after it.
func (x *Index) joinedBy(identity *bpf.WireProcessIdentity) *group {
	if !x.hasJoined {
		return nil // there are no v1 hierarchies that say anything
	}
	if parent := x.Find(identity.ParentPid, identity.ParentStartTime); parent != nil {
		return parent.joined
	}
	return nil
}

// Forked notes a new process, which runs what its parent runs. One that was found before its fork is read, and whose parent was
// not, stays what it was found to be.
func (x *Index) Forked(e *bpf.WireProcessFork) *Process {
	found := x.live[e.Header.Pid]
	var inherited Process // a copy: the parent's entry may be the one that is used again for the child
	if parent := x.Find(e.Process.ParentPid, e.Process.ParentStartTime); parent != nil {
		inherited = *parent
	}
	p := x.begin(KeyOf(e.Header.Pid, e.Header.StartTime), e.Header.StartTime)
	if p == found && p.Exec.Time != 0 {
		return p // a recording that is not in order: what its program told is newer
	}
	setIdentity(p, &e.Process)
	p.cgroup = e.Header.CgroupId
	executable := ""
	switch {
	case inherited.Resource != nil:
		p.joined, executable = inherited.joined, inherited.Resource.Path
		p.Directory, p.Arguments = inherited.Directory, inherited.Arguments
		p.Program = inherited.Program
	case p == found:
		executable = p.Resource.Path
	}
	x.settle(p, executable)
	return p
}

func setIdentity(p *Process, identity *bpf.WireProcessIdentity) {
	p.ParentPID, p.ParentStart, p.VPID = identity.ParentPid, identity.ParentStartTime, identity.Vpid
	p.UID, p.EUID = identity.Uid, identity.Euid
}

// Find returns the process, or nil if nothing is known of it. It asks the source once for one that
// it does not know, and remembers also that nothing was found.
func (x *Index) Find(pid uint32, startTime uint64) *Process {
	if pid == 0 {
		return nil
	}
	key := KeyOf(pid, startTime)
	if p := x.live[pid]; p != nil && p.Key == key {
		return p.follow()
	}
	if p := x.ended[key]; p != nil {
		return p.follow()
	}
	return x.ask(key)
}

// Parent of a process; nil if it is not known.
func (x *Index) Parent(p *Process) *Process {
	if p.ParentStart != 0 {
		return x.Find(p.ParentPID, p.ParentStart)
	}
	// one that is older than the source: its pid is its parent's unless whoever has it now is younger
	if parent := x.live[p.ParentPID]; parent != nil && parent.StartTime <= p.StartTime && parent != p {
		return parent.follow()
	}
	return nil
}

// FindByPID returns the process that has the pid now, or had it last.
func (x *Index) FindByPID(pid uint32) *Process {
	if p := x.live[pid]; p != nil {
		return p.follow()
	}
	for i := len(x.queue) - 1; i >= 0; i-- {
		if x.queue[i].PID == pid {
			return x.queue[i].follow()
		}
	}
	return nil
}

// ask looks a process up at the source. One that it does not know, or that is not in scope, is a
// stranger from then on, so that each is asked for once.
func (x *Index) ask(key Key) *Process {
	if _, ok := x.strangers[key]; ok {
		return nil
	}
	if known, ok := x.resolver.Process(key.PID); ok && known.StartTicks == key.StartTicks {
		return x.add(&known)
	}
	if len(x.strangers) >= maxStrangers {
		clear(x.strangers)
	}
	x.strangers[key] = struct{}{}
	return nil
}

// Ended notes a process's end. It is still found for a while: what it left behind, such as
// connections, may end later.
func (x *Index) Ended(p *Process, now uint64) {
	if p.exitedAt == 0 {
		x.end(p, now)
	}
	p.isGone = false
}

// revive a process that was found gone: it had left the scope, or this was before its end is read.
func (x *Index) revive(p *Process) *Process {
	was := *p // a copy: to make room, what has ended may be forgotten, and its entry used again
	again := x.begin(was.Key, was.StartTime)
	executable := was.Resource.Path
	was.Resource, was.group, was.exitedAt, was.isGone = again.Resource, nil, 0, false
	*again = was
	x.settle(again, executable)
	return again
}

func (x *Index) end(p *Process, now uint64) {
	p.exitedAt = max(now, 1)
	p.Resource.line.alive--
	delete(x.live, p.PID)
	x.ended[p.Key] = p
	x.queue = append(x.queue, p)
	if len(x.queue)-maxExited > 0 {
		x.forget(1)
	}
}

// Expire forgets processes that ended long before now (CLOCK_BOOTTIME, ns).
func (x *Index) Expire(now uint64) {
	n := 0
	for n < len(x.queue) && x.queue[n].exitedAt+retention < now {
		n++
	}
	x.forget(n)
	x.expireCgroups(now)
}

func (x *Index) forget(n int) {
	for _, p := range x.queue[:n] {
		if x.ended[p.Key] == p { // it may have begun anew
			delete(x.ended, p.Key)
		}
		*p = Process{}
		x.unused = append(x.unused, p)
	}
	x.queue = x.queue[n:]
	if len(x.queue) == 0 {
		x.queue = nil // let go of the array
	}
}

// Resources are those that a process runs now.
func (x *Index) Resources(visit func(*Resource)) {
	for _, g := range x.byPlace {
		for _, r := range g.resources {
			if r.Alive() > 0 {
				visit(r)
			}
		}
	}
}

// internExecutable keeps no path that was cut off: its components may be those of one that is whole.
func (x *Index) internExecutable(exe event.ReversePath, truncated bool) string {
	if truncated {
		return validUTF8(string(exe.Append(nil, true)))
	}
	if executable, ok := x.executables[string(exe)]; ok {
		return executable
	}
	if len(exe) == 0 {
		return ""
	}
	x.path = exe.Append(x.path[:0], false)
	if len(x.executables) >= maxResources {
		clear(x.executables)
	}
	executable := validUTF8(string(x.path))
	x.executables[string(exe)] = executable
	return executable
}

// resource of a group and an executable.
func (x *Index) resource(g *group, executable string) *Resource {
	if r, ok := g.resources[executable]; ok {
		return r
	}
	if x.resources >= x.dropAt {
		x.dropUnusedResources()
	}
	r := g.make(executable)
	g.resources[executable] = r
	x.resources++
	return r
}

// dropUnusedResources looks through all; where all are in use, not again at the next one.
func (x *Index) dropUnusedResources() {
	x.resources = 0
	for _, g := range x.byPlace {
		for executable, r := range g.resources {
			if r.Alive() == 0 && r != g.unnamed {
				delete(g.resources, executable)
			}
		}
		x.resources += g.counted()
	}
	x.dropAt = max(maxResources, 2*x.resources)
}

func (x *Index) internDirectory(cwd event.ReversePath, truncated bool) string {
	if truncated {
		return validUTF8(string(cwd.Append(nil, true)))
	}
	if directory, ok := x.directories[string(cwd)]; ok {
		return directory
	}
	x.path = cwd.Append(x.path[:0], false)
	if len(x.directories) >= maxStrings {
		clear(x.directories)
	}
	directory := validUTF8(string(x.path))
	x.directories[string(cwd)] = directory
	return directory
}

func (x *Index) internArguments(raw []byte) []string {
	if len(raw) == 0 {
		return nil
	}
	if arguments, ok := x.arguments[string(raw)]; ok {
		return arguments
	}
	if len(x.arguments) >= maxStrings {
		clear(x.arguments)
	}
	arguments := Redact(splitArguments(raw))
	if isCutOff := raw[len(raw)-1] != 0; isCutOff {
		arguments[len(arguments)-1] = redactCutOff(arguments[len(arguments)-1])
	}
	x.arguments[string(raw)] = arguments
	return arguments
}

// validUTF8 replaces what is none: names in the kernel are bytes, but OTLP has text.
func validUTF8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
