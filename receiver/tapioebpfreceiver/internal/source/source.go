// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package source is where records come from. What stands behind it in the data's way does not
// know whether a kernel wrote them.
package source // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"

import "time"

// Source hands out binary records in the layout of bpf/event.h.
//
// Name, HostName, Patient, Counters and Capabilities may be called from any goroutine; the other
// methods belong to the one that reads.
type Source interface {
	// Name is the value of the resource attribute tapio.source.
	Name() string
	// HostName is that of the host that the records are of.
	HostName() (string, error)
	// Patient says that records can wait: whoever reads may take their time, and loses none.
	Patient() bool
	// Behind says, while a record is handed out, that so many more wait that there will soon be no room: whoever
	// reads should do less for each. Always false where records can wait.
	Behind() bool
	// Read waits for records, no longer than the source's flush interval, and calls handle for
	// each that is there: records of process lifecycles before those of the traffic that came
	// after them. A record is valid only during the call. An error is final.
	Read(handle func(record []byte)) error
	// Stop ends the making of records. It calls handle for those that are there meanwhile; what was made before
	// can still be read.
	Stop(handle func(record []byte)) error
	// Close gives back what the source holds.
	Close() error
	// Counters are the source's own counts by family, the high byte of a record's type.
	Counters() (map[uint8]Counters, error)
	// Capabilities say of each hook whether it is in use, as of now.
	Capabilities() []Capability
	// Boot is the time up to which there are records, or none are to come, in ns of CLOCK_BOOTTIME, which
	// nobody can set: now, but where the records are of another time.
	Boot() uint64
	// Wall is the same in time since 1970, by a clock that can be set.
	Wall() time.Time
	// BootTime is when CLOCK_BOOTTIME was 0, in ns since 1970, measured anew at each call.
	BootTime() (int64, error)
	// Cgroups are those of the v2 hierarchy that are older than the source, as far as they are in
	// scope. Later ones come as records. Empty where that has no meaning.
	Cgroups() []Cgroup
	// Cgroup is the path, below its hierarchy's root, of a v2 cgroup of which no record was seen; pid
	// is a process that was in it. False where it cannot be told any more.
	Cgroup(id uint64, pid uint32) (path string, ok bool)
	// Processes are those that are older than the source. Empty where that has no meaning.
	Processes() []Process
	// Process is what is known now of one process of which no record was seen.
	Process(pid uint32) (Process, bool)
	// Gone says for certain that a process has ended or is not in scope any more. It is asked of
	// those of whose end nothing was heard.
	Gone(pid uint32, startTicks uint64) bool
}

// Counters start a family's row in the ledger.
type Counters struct {
	Seen     uint64 `json:"seen"`      // events that a program decided to report
	RingFull uint64 `json:"ring_full"` // of these, those for which the ring had no room
	// TableFull is how many of these could not be followed since there were too many at a time.
	TableFull uint64 `json:"table_full"`
	// Unreadable is how many of these were begun but could not be followed to their end: bytes of
	// the stream were not seen.
	Unreadable uint64 `json:"unreadable"`
	// Throttled is how many of these were beyond the limit of their cgroup.
	Throttled uint64 `json:"throttled,omitempty"`
	// QueueFull is how many of these, that no program but the source itself has seen, came faster than they were
	// read.
	QueueFull uint64 `json:"queue_full,omitempty"`
}

// State of a hook.
const (
	Attached    = "attached"
	Unsupported = "unsupported" // this kernel does not have it
	Denied      = "denied"      // this kernel has it and does not let us use it
)

// Capability is a hook in the kernel and whether it is in use.
type Capability struct {
	Family string
	Hook   string // program type and target, as "tp_btf/sched_process_exec"
	State  string
	Reason string // why it is not attached
	// MissedRuns are those that the kernel left out since it was running the program on that CPU
	// already. Not each of them would have been an event.
	MissedRuns uint64
}

// Process is what a source knows of a process without a record of its start.
type Process struct {
	PID        uint32 `json:"pid"`
	ParentPID  uint32 `json:"parent_pid"`
	VPID       uint32 `json:"vpid"`        // in its innermost pid namespace; 0: not known
	StartTicks uint64 `json:"start_ticks"` // since boot, in units of 10 ms as /proc has it
	UID        uint32 `json:"uid"`
	EUID       uint32 `json:"euid"`
	Executable string `json:"executable"` // path; empty: not known
	// CgroupID of the v2 hierarchy; 0: not known.
	CgroupID uint64 `json:"cgroup_id,omitempty"`
	// Cgroups are the paths of its cgroups below their hierarchies' roots, v2 first, each once.
	Cgroups []string `json:"cgroups,omitempty"`
}

// Cgroup of the v2 hierarchy.
type Cgroup struct {
	ID   uint64 `json:"id"`
	Path string `json:"path"` // below the root: "/system.slice/a.service"
}
