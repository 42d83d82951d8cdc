// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/io_uring.h.
const (
	ringOpenat      = 18
	ringGetEvents   = 1
	ringOffSQ       = 0
	ringOffCQ       = 0x8000000
	ringOffEntries  = 0x10000000
	ringEntrySize   = 64
	ringResultSize  = 16
	ringParamsSize  = 120
	ringParamsSQOff = 40
	ringParamsCQOff = 80
)

// openByRing opens a file to read it, by io_uring and no other call.
func openByRing(path string) error {
	var params [ringParamsSize]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return fmt.Errorf("io_uring_setup: %w", errno)
	}
	defer unix.Close(int(fd))
	number := func(at int) uint32 { return binary.NativeEndian.Uint32(params[at:]) }
	sq, err := mapRing(int(fd), ringOffSQ)
	if err != nil {
		return err
	}
	cq, err := mapRing(int(fd), ringOffCQ)
	if err != nil {
		return err
	}
	entries, err := mapRing(int(fd), ringOffEntries)
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	entry := entries[:ringEntrySize]
	entry[0] = ringOpenat
	directory := int32(unix.AT_FDCWD)
	binary.NativeEndian.PutUint32(entry[4:], uint32(directory))
	binary.NativeEndian.PutUint64(entry[16:], uint64(uintptr(unsafe.Pointer(name))))
	binary.NativeEndian.PutUint32(entry[28:], unix.O_RDONLY)
	array, tail := number(ringParamsSQOff+24), number(ringParamsSQOff+4)
	binary.NativeEndian.PutUint32(sq[array:], 0)
	atomic.AddUint32((*uint32)(unsafe.Pointer(&sq[tail])), 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, ringGetEvents, 0, 0); errno != 0 {
		return fmt.Errorf("io_uring_enter: %w", errno)
	}
	result := cq[number(ringParamsCQOff+20):][:ringResultSize]
	if opened := int32(binary.NativeEndian.Uint32(result[8:])); opened < 0 {
		return fmt.Errorf("openat by io_uring: %w", unix.Errno(-opened))
	}
	return nil
}

func mapRing(fd int, offset int64) ([]byte, error) {
	ring, err := unix.Mmap(fd, offset, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map a ring of io_uring: %w", err)
	}
	return ring, nil
}
