// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package recording writes a source's records to a file, with the facts that are needed to understand
// them without the machine that they are from, and reads such files.
//
// A file begins with a preamble: eight bytes of magic, then the version as a 32-bit number. What
// follows are frames:
//
//	size      uint32  of the payload, bytes
//	checksum  uint32  CRC-32C of kind and payload
//	kind      uint8
//	header    uint32  CRC-32C of what stands before it; since version 4
//	payload
//
// Without the header's own checksum, a size that was damaged would look as if the file were cut off. All numbers
// are little endian, as those of the records are. The first frame is the description, the
// last one, of a recording that was ended and not cut off, the end. A clock frame ends each turn of
// the source's reader: what stands before it was there at that time.
package recording // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Version of the format, and of the records' layout in bpf/event.h. It is raised when either changes
// such that what was written before cannot be read as before, or such that who reads the version before would
// misunderstand what is new, instead of saying which version it takes.
//
//	2  cgroups and their records
//	3  records of the family security, which a reader of version 2 would count as undecodable
//	4  a checksum of a frame's header; records of the families cni and etcd, likewise
//	5  records of what was beyond the rate limits, likewise
//	6  records of what was summed up beyond them, likewise
//	7  those of TLS handshakes, likewise
//
// What was written since OldestVersion is read as ever.
const (
	Version       = 7
	OldestVersion = 2
)

// headerSums is the first version in which a frame's header has its own checksum.
const headerSums = 4

const (
	magic         = "TAPIOREC"
	preambleSize  = len(magic) + 4
	frameHeader   = 9       // bytes: size, checksum, kind
	headerSum     = 4       // bytes, behind those, of versions from headerSums on
	maxFrame      = 1 << 24 // bytes of a payload; a description of all of a node's processes fits in
	clockSize     = 16
	recordMinimum = 32 // bytes: struct event_header, bpf/event.h
)

// Kind of a frame.
type Kind uint8

// The kinds of frames. Their numbers stay as they are.
const (
	KindDescription Kind = 1 // JSON: Description
	KindProcesses   Kind = 2 // JSON: []source.Process, those that were older than the source
	KindRecord      Kind = 3 // as bpf/event.h has it
	KindClock       Kind = 4 // CLOCK_BOOTTIME, ns, uint64; when that was 0, ns since 1970, int64
	KindProcess     Kind = 5 // JSON: Answer, to a question that the record before it led to
	KindGone        Kind = 6 // JSON: Gone
	KindEnd         Kind = 7 // JSON: End
	KindCgroups     Kind = 8 // JSON: []source.Cgroup, those that were older than the source
	KindCgroup      Kind = 9 // JSON: CgroupAnswer, to a question that the record before it led to

	// KindNames is JSON: what was known of a pod, a container or an address when it was asked for, by the record
	// or at the end of the turn before it, and was not known so before. Its form is its user's. Recordings from
	// before there was this kind have none, and are read as ever.
	KindNames Kind = 10
)

// Description of a recording.
type Description struct {
	Source    string   `json:"source"`
	HostName  string   `json:"host_name"`
	Families  []string `json:"families"`
	Collector string   `json:"collector"` // the version that wrote it
	// Node is the host's name in Kubernetes; empty: it is in none, or nobody was asked for names.
	Node    string    `json:"node,omitempty"`
	Started time.Time `json:"started"`
}

// Answer is what was known of a process when it was asked for.
type Answer struct {
	PID     uint32          `json:"pid"`
	Process *source.Process `json:"process"` // nil: nothing
}

// CgroupAnswer is the path of a cgroup when it was asked for; empty: it could not be told.
type CgroupAnswer struct {
	ID   uint64 `json:"id"`
	Path string `json:"path"`
}

// Gone is a process of which it was found out that it had ended.
type Gone struct {
	PID        uint32 `json:"pid"`
	StartTicks uint64 `json:"start_ticks"`
}

// End is what the source had counted, by the number of the family.
type End struct {
	Counters map[uint8]source.Counters `json:"counters"`
	Full     bool                      `json:"full"` // the file became as large as it may
}

// Clock is a time, in the two ways that it is told in.
type Clock struct {
	Boot     uint64 // CLOCK_BOOTTIME, ns
	BootTime int64  // when that was 0, ns since 1970
}

// Wall is the clock's time since 1970.
func (c Clock) Wall() time.Time { return time.Unix(0, c.BootTime+int64(c.Boot)) }

func (c Clock) append(to []byte) []byte {
	to = binary.LittleEndian.AppendUint64(to, c.Boot)
	return binary.LittleEndian.AppendUint64(to, uint64(c.BootTime))
}

func clockOf(payload []byte) Clock {
	return Clock{
		Boot:     binary.LittleEndian.Uint64(payload),
		BootTime: int64(binary.LittleEndian.Uint64(payload[8:])),
	}
}

// What a file can be that is no whole recording of a version that is read.
var (
	ErrForeign = errors.New("not a recording of tapioebpf")
	ErrVersion = errors.New("a recording of another version")
	ErrDamaged = errors.New("a damaged recording")
	// ErrCut is the end of a recording that was not ended, as when the collector was killed. All that
	// was read before is whole.
	ErrCut = errors.New("a recording that was cut off")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(kind Kind, payload []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, []byte{byte(kind)}), castagnoli, payload)
}
