// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// EtcdOperation is what etcd called on a file.
type EtcdOperation uint16

// Operations, as bpf/event.h has them.
const (
	EtcdFsync     = EtcdOperation(bpf.WireEtcdOperationETCD_FSYNC)
	EtcdFdatasync = EtcdOperation(bpf.WireEtcdOperationETCD_FDATASYNC)
	EtcdWrite     = EtcdOperation(bpf.WireEtcdOperationETCD_WRITE)
	EtcdPwrite    = EtcdOperation(bpf.WireEtcdOperationETCD_PWRITE)
	EtcdWritev    = EtcdOperation(bpf.WireEtcdOperationETCD_WRITEV)
	EtcdPwritev   = EtcdOperation(bpf.WireEtcdOperationETCD_PWRITEV)
)

var etcdOperationNames = [...]string{
	EtcdFsync:     "fsync",
	EtcdFdatasync: "fdatasync",
	EtcdWrite:     "write",
	EtcdPwrite:    "pwrite",
	EtcdWritev:    "writev",
	EtcdPwritev:   "pwritev",
}

// String is the call's name; empty for a number that is none.
func (o EtcdOperation) String() string {
	if int(o) >= len(etcdOperationNames) {
		return ""
	}
	return etcdOperationNames[o]
}

// IsSync says that it waits for the disk, and writes nothing new.
func (o EtcdOperation) IsSync() bool { return o == EtcdFsync || o == EtcdFdatasync }

// EtcdFile is what a file is to etcd.
type EtcdFile uint8

// Kinds of files.
const (
	EtcdFileOther EtcdFile = iota
	EtcdFileWAL
	EtcdFileSnapshot
	EtcdFileBackend
	etcdFileCount
)

var etcdFileNames = [etcdFileCount]string{
	EtcdFileOther:    "other",
	EtcdFileWAL:      "wal",
	EtcdFileSnapshot: "snapshot",
	EtcdFileBackend:  "backend",
}

// String is the kind's name.
func (f EtcdFile) String() string { return etcdFileNames[f] }

// EtcdCall is a call that has ended.
type EtcdCall struct {
	*bpf.WireEtcdCall
	// Name of the file, and of the directory that it is in. A file that has none any more has the last one.
	Name, Directory []byte
}

// DecodeEtcdCall views a record as an EtcdCall.
func DecodeEtcdCall(record []byte) (EtcdCall, error) {
	e, err := view[bpf.WireEtcdCall](record, true)
	if err != nil {
		return EtcdCall{}, err
	}
	if EtcdOperation(e.Operation).String() == "" {
		return EtcdCall{}, fmt.Errorf("%w: an etcd_call of operation %d", ErrUndecodable, e.Operation)
	}
	return EtcdCall{WireEtcdCall: e, Name: untilNUL(e.Name[:]), Directory: untilNUL(e.Directory[:])}, checkOrder(e.Began, e.Header.Time)
}

func untilNUL(text []byte) []byte {
	text, _, _ = bytes.Cut(text, []byte{0})
	return text
}

// File is what the file is to etcd, by its name: the directories may be elsewhere, but for snap, where
// etcd also has its database, and what it has received of another member's. server/storage/ of etcd has the
// names.
func (e *EtcdCall) File() EtcdFile {
	inSnap := string(e.Directory) == "snap"
	switch {
	case bytes.HasSuffix(e.Name, []byte(".wal")), bytes.HasPrefix(e.Directory, []byte("wal")):
		return EtcdFileWAL
	case bytes.HasSuffix(e.Name, []byte(".snap")), bytes.HasSuffix(e.Name, []byte(".snap.db")), inSnap && bytes.HasPrefix(e.Name, []byte("tmp")):
		return EtcdFileSnapshot
	case string(e.Name) == "db", inSnap && bytes.HasPrefix(e.Name, []byte("db.tmp.")):
		return EtcdFileBackend
	default:
		return EtcdFileOther
	}
}

// EtcdChangeKind is what became of a key.
type EtcdChangeKind uint16

// Kinds, as bpf/event.h has them.
const (
	EtcdCreated = EtcdChangeKind(bpf.WireEtcdChangeKindETCD_CREATED)
	EtcdUpdated = EtcdChangeKind(bpf.WireEtcdChangeKindETCD_UPDATED)
	EtcdDeleted = EtcdChangeKind(bpf.WireEtcdChangeKindETCD_DELETED)
	EtcdMissed  = EtcdChangeKind(bpf.WireEtcdChangeKindETCD_MISSED)
)

var etcdChangeNames = [...]string{
	EtcdCreated: "create",
	EtcdUpdated: "update",
	EtcdDeleted: "delete",
	EtcdMissed:  "missed",
}

// String is the kind's name; empty for a number that is none.
func (k EtcdChangeKind) String() string {
	if int(k) >= len(etcdChangeNames) {
		return ""
	}
	return etcdChangeNames[k]
}

// EtcdKeyTruncated says that the key was cut off.
const EtcdKeyTruncated = uint16(bpf.WireEtcdChangeFlagsETCD_KEY_TRUNCATED)

// EtcdChange is a change of a key, or that some were missed.
type EtcdChange struct {
	*bpf.WireEtcdChange
	Key       []byte
	Endpoints []byte // of the cluster, with commas between them
}

// DecodeEtcdChange views a record as an EtcdChange.
func DecodeEtcdChange(record []byte) (EtcdChange, error) {
	fixed, err := view[bpf.WireEtcdChange](record, false)
	if err != nil {
		return EtcdChange{}, err
	}
	if EtcdChangeKind(fixed.Kind).String() == "" {
		return EtcdChange{}, fmt.Errorf("%w: an etcd_change of kind %d", ErrUndecodable, fixed.Kind)
	}
	tail := record[unsafe.Sizeof(*fixed):]
	if key, endpoints := int(fixed.KeySize), int(fixed.EndpointsSize); key+endpoints != len(tail) {
		return EtcdChange{}, fmt.Errorf("%w: parts of %d and %d bytes in an etcd_change tail of %d", ErrUndecodable, key, endpoints, len(tail))
	}
	return EtcdChange{WireEtcdChange: fixed, Key: tail[:fixed.KeySize], Endpoints: tail[fixed.KeySize:]}, nil
}
