// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package eventtest makes records as the kernel would send them.
package eventtest // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"

import (
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// Record is the bytes of a wire struct and what stands behind it, aligned as in a ring.
func Record[T any](fixed T, tail ...[]byte) []byte {
	head := unsafe.Slice((*byte)(unsafe.Pointer(&fixed)), unsafe.Sizeof(fixed))
	return Aligned(slices.Concat(append([][]byte{head}, tail...)...))
}

// Aligned is a copy of bytes that begins where a uint64 may.
func Aligned(bytes []byte) []byte {
	words := make([]uint64, len(bytes)/8+1)
	aligned := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(bytes))
	copy(aligned, bytes)
	return aligned
}

// Exec is the record of a program's start. The sizes are set here.
func Exec(fixed bpf.WireProcessExec, exe, cwd string, arguments ...string) []byte {
	exePath, cwdPath, args := ReversePath(exe), ReversePath(cwd), Arguments(arguments...)
	fixed.Header.Type = uint16(bpf.WireEventTypePROCESS_EXEC)
	fixed.ExeSize, fixed.CwdSize, fixed.ArgsSize = uint16(len(exePath)), uint16(len(cwdPath)), uint16(len(args))
	return Record(fixed, exePath, cwdPath, args)
}

// Security is the record of an action. The type and the sizes are set here; a path is in components where the
// flags say that it is resolved, and "" is none.
func Security(fixed bpf.WireSecurityAction, path, base, text string) []byte {
	pathBytes := append([]byte(path), 0)
	switch {
	case fixed.Flags&event.SecurityPathResolved != 0:
		pathBytes = ReversePath(path)
	case path == "":
		pathBytes = nil
	}
	basePath := ReversePath(base)
	fixed.Header.Type = uint16(bpf.WireEventTypeSECURITY_ACTION)
	fixed.PathSize, fixed.BaseSize, fixed.TextSize = uint16(len(pathBytes)), uint16(len(basePath)), uint16(len(text))
	return Record(fixed, pathBytes, basePath, []byte(text))
}

// EtcdChange is the record of one. The type and the sizes are set here.
func EtcdChange(fixed bpf.WireEtcdChange, key, endpoints string) []byte {
	fixed.Header.Type = uint16(bpf.WireEventTypeETCD_CHANGE)
	fixed.KeySize, fixed.EndpointsSize = uint16(len(key)), uint16(len(endpoints))
	return Record(fixed, []byte(key), []byte(endpoints))
}

// CgroupChange is the record of one. The type and the size are set here; the kernel ends the path with
// NUL, but for one that it could not read.
func CgroupChange(kind event.Type, fixed bpf.WireCgroupChange, path string, isRead bool) []byte {
	tail := []byte(path)
	if isRead {
		tail = append(tail, 0)
	}
	fixed.Header.Type, fixed.PathSize = uint16(kind), uint16(len(tail))
	return Record(fixed, tail)
}

// ReversePath is an absolute path as records have it; "" is one of which nothing could be told,
// which is the same as that of the root.
func ReversePath(path string) []byte {
	var reverse []byte
	components := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, component := range slices.Backward(components) {
		if component != "" {
			reverse = append(append(reverse, component...), 0)
		}
	}
	return reverse
}

// Arguments are as the kernel keeps them.
func Arguments(arguments ...string) []byte {
	var joined []byte
	for _, argument := range arguments {
		joined = append(append(joined, argument...), 0)
	}
	return joined
}

// Address is one in the record's form.
func Address(text string) [16]byte {
	return netip.MustParseAddr(text).As16()
}
