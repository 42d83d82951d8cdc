// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// What a process_exec record says of its own limits.
const (
	ExecArgsTruncated  = uint16(bpf.WireProcessExecFlagsEXEC_ARGS_TRUNCATED)
	ExecArgsUnreadable = uint16(bpf.WireProcessExecFlagsEXEC_ARGS_UNREADABLE)
	ExecExeTruncated   = uint16(bpf.WireProcessExecFlagsEXEC_EXE_TRUNCATED)
	ExecCwdTruncated   = uint16(bpf.WireProcessExecFlagsEXEC_CWD_TRUNCATED)
	ExecExeUnlinked    = uint16(bpf.WireProcessExecFlagsEXEC_EXE_UNLINKED)
)

// What a process_exit record has.
const (
	ExitHasUsage = uint32(bpf.WireProcessExitFlagsEXIT_HAS_USAGE)
	ExitHasIO    = uint32(bpf.WireProcessExitFlagsEXIT_HAS_IO)
)

// ProcessExec is a program that was started.
type ProcessExec struct {
	*bpf.WireProcessExec
	Exe  ReversePath
	Cwd  ReversePath
	Args []byte // each argument ends with NUL, but for a last one that was cut off
}

// DecodeProcessExec views a record as a ProcessExec.
func DecodeProcessExec(record []byte) (ProcessExec, error) {
	fixed, err := view[bpf.WireProcessExec](record, false)
	if err != nil {
		return ProcessExec{}, err
	}
	tail := record[unsafe.Sizeof(*fixed):]
	exe, cwd, args := int(fixed.ExeSize), int(fixed.CwdSize), int(fixed.ArgsSize)
	if exe+cwd+args != len(tail) {
		return ProcessExec{}, fmt.Errorf("%w: parts of %d, %d and %d bytes in a process_exec tail of %d", ErrUndecodable, exe, cwd, args, len(tail))
	}
	return ProcessExec{
		WireProcessExec: fixed,
		Exe:             tail[:exe],
		Cwd:             tail[exe : exe+cwd],
		Args:            tail[exe+cwd:],
	}, nil
}

// DecodeProcessFork views a record as a new process.
func DecodeProcessFork(record []byte) (*bpf.WireProcessFork, error) {
	return view[bpf.WireProcessFork](record, true)
}

// DecodeProcessExit views a record as a process's end.
func DecodeProcessExit(record []byte) (*bpf.WireProcessExit, error) {
	return view[bpf.WireProcessExit](record, true)
}

// DecodeProcessOOMKill views a record as the choice of a process to be killed for memory.
func DecodeProcessOOMKill(record []byte) (*bpf.WireProcessOomKill, error) {
	return view[bpf.WireProcessOomKill](record, true)
}

// ReversePath is a path as the kernel walks it: components from the last to the first, each ending
// with NUL.
type ReversePath []byte

// Append adds the path in its usual form to dst. A path that was cut off lacks its beginning and is
// given without a leading slash.
func (p ReversePath) Append(dst []byte, truncated bool) []byte {
	if len(p) == 0 && !truncated {
		return append(dst, '/')
	}
	for rest := bytes.TrimSuffix(p, []byte{0}); len(rest) > 0; {
		start := bytes.LastIndexByte(rest, 0) + 1
		if !truncated {
			dst = append(dst, '/')
		}
		truncated = false
		dst = append(dst, rest[start:]...)
		rest = rest[:max(start-1, 0)]
	}
	return dst
}

// WaitStatus is a process's end as wait(2) has it.
type WaitStatus uint32

// Signal that ended the process; 0: none did.
func (s WaitStatus) Signal() int { return int(s & 0x7f) }

// ExitCode that the process gave; ok is false where a signal ended it.
func (s WaitStatus) ExitCode() (code int, ok bool) { return int(s >> 8 & 0xff), s.Signal() == 0 }
