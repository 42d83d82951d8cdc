// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

func TestDecodeProcessExec(t *testing.T) {
	for _, tt := range []struct {
		name           string
		exe, cwd, args string
	}{
		{"all parts", "sh\x00bin\x00usr\x00", "me\x00home\x00", "sh\x00-c\x00exit 7\x00"},
		{"no tail", "", "", ""},
		{"working directory is the root", "sh\x00bin\x00", "", "sh\x00"},
		{"no executable", "", "tmp\x00", "x\x00"},
		{"no arguments", "sh\x00", "tmp\x00", ""},
		{"arguments cut off", "sh\x00", "", "sh\x00-c\x00ex"},
		{"largest", strings.Repeat("e", 4096), strings.Repeat("c", 4096), strings.Repeat("a", 4096)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fixed := bpf.WireProcessExec{
				Header: header, Process: identity, Flags: event.ExecCwdTruncated,
				ExeSize: uint16(len(tt.exe)), CwdSize: uint16(len(tt.cwd)), ArgsSize: uint16(len(tt.args)),
			}
			got, err := event.DecodeProcessExec(eventtest.Record(fixed, []byte(tt.exe), []byte(tt.cwd), []byte(tt.args)))
			require.NoError(t, err)
			assert.Equal(t, fixed, *got.WireProcessExec)
			assert.Equal(t, tt.exe, string(got.Exe))
			assert.Equal(t, tt.cwd, string(got.Cwd))
			assert.Equal(t, tt.args, string(got.Args))
		})
	}
}

func TestDecodeProcessExecRefusesPartsThatDoNotAddUp(t *testing.T) {
	for _, tt := range []struct {
		exe, cwd, args uint16
		tail           int
	}{
		{1, 1, 1, 2},
		{1, 1, 1, 4},
		{0, 0, 0, 1},
		{1, 0, 0, 0},
		{0, 0, math.MaxUint16, 8},
		{math.MaxUint16, 1, 0, 0}, // 0 in 16 bits
		{math.MaxUint16, math.MaxUint16, math.MaxUint16, math.MaxUint16 - 2},
	} {
		t.Run(fmt.Sprintf("%d+%d+%d=%d", tt.exe, tt.cwd, tt.args, tt.tail), func(t *testing.T) {
			fixed := bpf.WireProcessExec{ExeSize: tt.exe, CwdSize: tt.cwd, ArgsSize: tt.args}
			_, err := event.DecodeProcessExec(eventtest.Record(fixed, make([]byte, tt.tail)))
			assert.ErrorIs(t, err, event.ErrUndecodable)
			assert.ErrorContains(t, err, fmt.Sprintf("parts of %d, %d and %d bytes in a process_exec tail of %d", tt.exe, tt.cwd, tt.args, tt.tail))
		})
	}
}

func TestReversePath(t *testing.T) {
	deep := strings.Repeat("d\x00", 64)
	for _, tt := range []struct {
		name      string
		path      string
		truncated bool
		want      string
	}{
		{"root", "", false, "/"},
		{"one component", "init\x00", false, "/init"},
		{"some components", "sh\x00bin\x00usr\x00", false, "/usr/bin/sh"},
		{"deep", deep, false, strings.Repeat("/d", 64)},
		{"truncated", "sh\x00bin\x00usr\x00", true, "usr/bin/sh"},
		{"truncated, one component", "sh\x00", true, "sh"},
		{"truncated, deep", deep, true, strings.TrimPrefix(strings.Repeat("/d", 64), "/")},
		{"truncated, nothing left", "", true, ""},
		{"bytes that are no UTF-8", "\xff\xfe\x00caf\xe9\x00", false, "/caf\xe9/\xff\xfe"},
		{"blanks and line ends", "a b\x00c\nd\x00", false, "/c\nd/a b"},
		{"last NUL missing", "sh\x00bin", false, "/bin/sh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, string(event.ReversePath(tt.path).Append(nil, tt.truncated)))
			assert.Equal(t, "before"+tt.want, string(event.ReversePath(tt.path).Append([]byte("before"), tt.truncated)))
		})
	}
}

func TestWaitStatus(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status event.WaitStatus
		code   int
		exited bool
		signal int
	}{
		{"success", 0x0000, 0, true, 0},
		{"exit 1", 0x0100, 1, true, 0},
		{"exit 255", 0xff00, 255, true, 0},
		{"SIGKILL", 9, 0, false, 9},
		{"SIGSEGV with core", 0x80 | 11, 0, false, 11},
		{"last real-time signal", 64, 0, false, 64},
		{"bits beyond", 0xffff0000, 0, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, exited := tt.status.ExitCode()
			assert.Equal(t, tt.code, code)
			assert.Equal(t, tt.exited, exited)
			assert.Equal(t, tt.signal, tt.status.Signal())
		})
	}
}

func TestSignalName(t *testing.T) {
	for number, want := range map[int]string{
		-1: "", 0: "", 1: "SIGHUP", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM", 31: "SIGSYS",
		32: "SIGRTMIN+0", 34: "SIGRTMIN+2", 64: "SIGRTMIN+32", 127: "SIGRTMIN+95",
	} {
		assert.Equal(t, want, event.SignalName(number), number)
	}
}
