// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package footprint gives memory back that only the start needed.
package footprint // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/footprint"

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Trim frees what the heap does not use any more, and unmaps the pages of the program's own file: a
// collector has many components, whose initialisation touches about half of a large binary, and the
// kernel maps 16 pages around each that is touched (fault_around_bytes). What runs on is mapped
// again from the page cache at its next use, which costs a minor fault each. How much that is depends on the
// page cache: Linux 6.18 maps all of a large page, up to 2 MiB, also with MADV_NOHUGEPAGE.
func Trim() error {
	debug.FreeOSMemory()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read this process's mappings: %w", err)
	}
	defer smaps.Close()
	mappings, err := untouched(smaps, self)
	if err != nil {
		return fmt.Errorf("read this process's mappings: %w", err)
	}
	var errs []error
	for _, m := range mappings {
		errs = append(errs, m.release())
	}
	return errors.Join(errs...)
}

type mapping struct {
	start, end uintptr
}

func (m mapping) pages() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(nil, m.start)), m.end-m.start)
}

func (m mapping) release() error {
	if err := unix.Madvise(m.pages(), unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("release mapping %x-%x: %w", m.start, m.end, err)
	}
	return nil
}

// untouched are the file's mappings that hold nothing but the file: they cannot be written, and no
// page was made private, as a debugger or uprobe does to set a breakpoint.
func untouched(smaps io.Reader, file string) ([]mapping, error) {
	var found []mapping
	var current mapping
	candidate := false
	scanner := bufio.NewScanner(smaps)
	for scanner.Scan() {
		line := scanner.Text()
		if m, permissions, path, ok := parseMapping(line); ok {
			current, candidate = m, path == file && !strings.Contains(permissions, "w")
			continue
		}
		if private, ok := strings.CutPrefix(line, "Anonymous:"); ok && candidate && strings.TrimSpace(private) == "0 kB" {
			found = append(found, current)
		}
	}
	return found, scanner.Err()
}

// parseMapping reads the line that begins a mapping's entry (proc_pid_smaps(5)): addresses,
// permissions, offset, device, inode and, if it has one, the file's path, which may have blanks.
func parseMapping(line string) (m mapping, permissions, path string, ok bool) {
	columns := strings.SplitN(line, " ", 6)
	if len(columns) < 5 {
		return mapping{}, "", "", false
	}
	if n, _ := fmt.Sscanf(columns[0], "%x-%x", &m.start, &m.end); n != 2 {
		return mapping{}, "", "", false
	}
	if len(columns) == 6 {
		path = strings.TrimLeft(columns[5], " ")
	}
	return m, columns[1], path, true
}
