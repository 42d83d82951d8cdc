// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// What a cni_began record says of its own limits.
const (
	CNIVariableTruncated    = uint32(bpf.WireCniBeganFlagsCNI_VARIABLE_TRUNCATED)
	CNIEnvironmentTruncated = uint32(bpf.WireCniBeganFlagsCNI_ENVIRONMENT_TRUNCATED)
)

// CNIOutputMissed says of a cni_ended record that what the plugin printed was not kept.
const CNIOutputMissed = uint32(bpf.WireCniEndedFlagsCNI_OUTPUT_MISSED)

// CNIBegan is a plugin that was started.
type CNIBegan struct {
	*bpf.WireCniBegan
	Path []byte // by which it was started
	// Environment are its variables that are for plugins, as NAME=value, each ending with NUL.
	Environment []byte
}

// DecodeCNIBegan views a record as a CNIBegan.
func DecodeCNIBegan(record []byte) (CNIBegan, error) {
	fixed, err := view[bpf.WireCniBegan](record, false)
	if err != nil {
		return CNIBegan{}, err
	}
	tail := record[unsafe.Sizeof(*fixed):]
	path, environment := int(fixed.PathSize), int(fixed.EnvironmentSize)
	if path+environment != len(tail) {
		return CNIBegan{}, fmt.Errorf("%w: parts of %d and %d bytes in a cni_began tail of %d", ErrUndecodable, path, environment, len(tail))
	}
	return CNIBegan{WireCniBegan: fixed, Path: bytes.TrimSuffix(tail[:path], []byte{0}), Environment: tail[path:]}, nil
}

// CNIEnded is a plugin that has ended.
type CNIEnded struct {
	*bpf.WireCniEnded
	Output []byte // the first bytes that it printed, if it did not end with exit code 0
}

// DecodeCNIEnded views a record as a CNIEnded.
func DecodeCNIEnded(record []byte) (CNIEnded, error) {
	fixed, err := view[bpf.WireCniEnded](record, false)
	if err != nil {
		return CNIEnded{}, err
	}
	output := record[unsafe.Sizeof(*fixed):]
	if int64(fixed.Captured) != int64(len(output)) {
		return CNIEnded{}, fmt.Errorf("%w: %d bytes in a cni_ended tail of %d", ErrUndecodable, fixed.Captured, len(output))
	}
	return CNIEnded{WireCniEnded: fixed, Output: output}, nil
}

// OutputTruncated says that a plugin which failed printed more than is here, or may have.
func (e *CNIEnded) OutputTruncated() bool {
	return e.Status != 0 && (uint64(e.Captured) < e.OutputSize || e.Flags&CNIOutputMissed != 0)
}

// DecodeCNINamespace views a record as a network namespace that was made or removed.
func DecodeCNINamespace(record []byte) (*bpf.WireCniNamespace, error) {
	return view[bpf.WireCniNamespace](record, true)
}
