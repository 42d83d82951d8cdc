// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// maxCgroupPath is MAX_CGROUP_PATH_BYTES of bpf/event.h, with the NUL.
const maxCgroupPath = 1024

// CgroupChange is a cgroup that was made, removed, or joined by a process.
type CgroupChange struct {
	*bpf.WireCgroupChange
	// Path below its hierarchy's root; empty where it could not be read whole.
	Path []byte
}

// DecodeCgroupChange views a record as a CgroupChange.
func DecodeCgroupChange(record []byte) (CgroupChange, error) {
	fixed, err := view[bpf.WireCgroupChange](record, false)
	if err != nil {
		return CgroupChange{}, err
	}
	tail := record[unsafe.Sizeof(*fixed):]
	if int(fixed.PathSize) != len(tail) {
		return CgroupChange{}, fmt.Errorf("%w: a path of %d bytes in a cgroup_change tail of %d", ErrUndecodable, fixed.PathSize, len(tail))
	}
	e := CgroupChange{WireCgroupChange: fixed}
	if len(tail) < maxCgroupPath {
		e.Path = bytes.TrimSuffix(tail, []byte{0})
	}
	return e, nil
}
