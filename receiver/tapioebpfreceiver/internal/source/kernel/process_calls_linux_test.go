// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	workloads["family"] = familyWorkload
	if os.Getenv(workloadEnv) == "family" {
		runtime.LockOSThread() // main stays on the process's first thread
	}
}

// familyCall is a system call of a family's life. Its result is kept, in memory that all processes of the family share, under the
// number that the call has in the list: each is made by one process only.
type familyCall struct {
	number    uintptr
	args      [6]uintptr
	ofResult  int  // whose result is the first argument; 0: none
	child     int  // where a process goes on that this call made; 0: it makes none
	keptIn    int  // where its result is kept, too; 0: nowhere
	again     wait // until when it is made again
	againThan int  // whose result it is compared with
}

// wait says when a call is made again, after a moment.
type wait uint8

const (
	never wait = iota
	whileTheSame
	whilePositive
	forever
)

// awaitResult is no system call: it is made again until another call has a result.
const awaitResult = ^uintptr(0)

// makeCalls from a place of the list on, as whoever is in it. A process that was forked has one thread of Go's runtime and
// no other: there is nothing here that allocates memory, grows the stack, or can be preempted.
//
//go:norace
//go:nosplit
func makeCalls(calls []familyCall, results *[resultCount]int64, at int) {
	moment := syscall.Timespec{Nsec: 500_000}
	for at < len(calls) {
		c := &calls[at]
		first := c.args[0]
		if c.ofResult != 0 {
			first = uintptr(results[c.ofResult])
		}
		result := results[c.args[1]%resultCount]
		if c.number != awaitResult {
			value, _, errno := syscall.RawSyscall6(c.number, first, c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
			if result = int64(value); errno != 0 {
				result = -int64(errno)
			}
		}
		if c.again == forever || c.again == whileTheSame && result == results[c.againThan] || c.again == whilePositive && result > 0 {
			syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&moment)), 0, 0)
			continue
		}
		if c.child != 0 && result == 0 {
			at = c.child
			continue
		}
		if results[at] = result; c.keptIn != 0 {
			results[c.keptIn] = result
		}
		at++
	}
}

const resultCount = 4096

// results are in memory that all who have the file share.
func mapResults(file *os.File) (*[resultCount]int64, error) {
	memory, err := unix.Mmap(int(file.Fd()), 0, resultCount*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map results: %w", err)
	}
	return (*[resultCount]int64)(unsafe.Pointer(&memory[0])), nil
}

// Which thread makes the calls of a process that runs a program.
const (
	byTheFirstThread   = "first"
	byAnotherThread    = "another"
	whenTheFirstIsGone = "alone"
)

const (
	familySeedEnv  = "TAPIO_TEST_FAMILY"
	familyPlaceEnv = "TAPIO_TEST_PLACE"
	familyDirEnv   = "TAPIO_TEST_DIRECTORY"
	familyByEnv    = "TAPIO_TEST_THREAD"
)

// What a family's processes have inherited.
const (
	resultsFD = 3
	aliveFD   = 4 // a pipe's end, by which the test knows that all are gone
)

// familyWorkload goes on with a family's life where the program before has left it.
func familyWorkload([]string) error {
	debug.SetGCPercent(-1) // nothing moves, and no thread is started, while it is forked
	seed, err := strconv.ParseUint(os.Getenv(familySeedEnv), 10, 64)
	if err != nil {
		return err
	}
	place, err := strconv.Atoi(os.Getenv(familyPlaceEnv))
	if err != nil {
		return err
	}
	results, err := mapResults(os.NewFile(resultsFD, "results"))
	if err != nil {
		return err
	}
	f := drawFamily(seed, os.Getenv(familyDirEnv), results)
	live := func() { makeCalls(f.calls, results, place) }
	switch os.Getenv(familyByEnv) {
	case byTheFirstThread:
		live()
	case byAnotherThread:
		go onAThread(live)
		time.Sleep(patience)
	case whenTheFirstIsGone:
		go onAThread(func() {
			time.Sleep(2 * time.Millisecond)
			live()
		})
		syscall.RawSyscall(syscall.SYS_EXIT, 9, 0, 0)
	}
	return fmt.Errorf("family %d: a process has lived on at %d", seed, place)
}

func onAThread(live func()) {
	runtime.LockOSThread()
	live()
}
