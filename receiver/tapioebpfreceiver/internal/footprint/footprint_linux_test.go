// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package footprint

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const program = "/opt/tapio/otelcol-tapio"

// entry is one of smaps, with the keys around those that matter.
func entry(first, anonymous string) string {
	return first + "\nSize:   12 kB\nRss:    12 kB\nPrivate_Dirty:  0 kB\nAnonymous:      " + anonymous + "\nAnonHugePages:  0 kB\nVmFlags: rd ex mr mw me\n"
}

func TestUntouched(t *testing.T) {
	smaps := entry("00400000-00403000 r--p 00000000 fd:01 42                         "+program, "0 kB") +
		entry("00403000-00500000 r-xp 00003000 fd:01 42                         "+program, "0 kB") +
		entry("00500000-00600000 r--p 00100000 fd:01 42                         "+program, "4 kB") + // relocated, or a breakpoint
		entry("00600000-00610000 rw-p 00200000 fd:01 42                         "+program, "0 kB") + // its variables
		entry("00610000-00620000 rw-p 00000000 00:00 0 ", "64 kB") +
		entry("00620000-00630000 r--p 00000000 00:00 0", "0 kB") +
		entry("7f0000000000-7f0000001000 r-xp 00000000 fd:01 43                 /usr/lib/libc.so.6", "0 kB") +
		entry("7f0000001000-7f0000002000 r-xp 00000000 fd:01 44                 "+program+".so", "0 kB") +
		entry("7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                  [stack]", "8 kB") +
		entry("7ffe00100000-7ffe00102000 r-xp 00000000 00:00 0                  [vdso]", "0 kB") +
		entry("7f0000002000-7f0000003000 r--s 00000000 fd:01 42                 "+program, "0 kB")
	found, err := untouched(strings.NewReader(smaps), program)
	require.NoError(t, err)
	assert.Equal(t, []mapping{{0x400000, 0x403000}, {0x403000, 0x500000}, {0x7f0000002000, 0x7f0000003000}}, found)
}

// What stands in front of a mapping without a file must not be taken for it.
func TestUntouchedBeforeAMappingWithoutFile(t *testing.T) {
	smaps := entry("00400000-00403000 r-xp 00000000 fd:01 42   "+program, "4 kB") +
		entry("00403000-00404000 ---p 00000000 00:00 0 ", "0 kB")
	found, err := untouched(strings.NewReader(smaps), program)
	require.NoError(t, err)
	assert.Empty(t, found)
}

func TestUntouchedOfNothing(t *testing.T) {
	for _, smaps := range []string{
		"",
		"Anonymous: 0 kB\n",
		"nonsense\n00400000 r-xp\n",
		"00400000-00403000 r-xp 00000000 fd:01 42 " + program + "\n", // how much is private is not said
	} {
		found, err := untouched(strings.NewReader(smaps), program)
		require.NoError(t, err)
		assert.Empty(t, found, "%q", smaps)
	}
}

func TestUntouchedOfAPathWithBlanks(t *testing.T) {
	const path = "/opt/my tapio/otelcol tapio"
	smaps := entry("00400000-00403000 r-xp 00000000 fd:01 42   "+path, "0 kB") +
		entry("00403000-00404000 r-xp 00000000 fd:01 42   /opt/my", "0 kB")
	found, err := untouched(strings.NewReader(smaps), path)
	require.NoError(t, err)
	assert.Equal(t, []mapping{{0x400000, 0x403000}}, found)
	found, err = untouched(strings.NewReader(smaps), "/opt/my")
	require.NoError(t, err)
	assert.Equal(t, []mapping{{0x403000, 0x404000}}, found, "it is not the longer path's")
}

func TestUntouchedOfAFileThatWasReplaced(t *testing.T) {
	smaps := entry("00400000-00403000 r-xp 00000000 fd:01 42   "+program+" (deleted)", "0 kB")
	found, err := untouched(strings.NewReader(smaps), program+" (deleted)") // as /proc/self/exe has it
	require.NoError(t, err)
	assert.Equal(t, []mapping{{0x400000, 0x403000}}, found)
}

func TestUntouchedTellsOfWhatCannotBeRead(t *testing.T) {
	broken := errors.New("broken")
	_, err := untouched(iotest.ErrReader(broken), program)
	assert.ErrorIs(t, err, broken)
}

func TestParseMapping(t *testing.T) {
	for _, line := range []string{"", "Rss:          4 kB", "VmFlags: rd ex mr mw me sd", "xyz-00403000 r-xp 0 0 0 /a", "00400000-00403000 r-xp"} {
		_, _, _, ok := parseMapping(line)
		assert.False(t, ok, line)
	}
	m, permissions, path, ok := parseMapping("00400000-00403000 rw-p 00000000 00:00 0")
	assert.True(t, ok)
	assert.Equal(t, mapping{0x400000, 0x403000}, m)
	assert.Equal(t, "rw-p", permissions)
	assert.Empty(t, path)
}

var ballast = bytes.Repeat([]byte("a variable that must not change"), 1000)

// Trim unmaps what is running just then: all of the program must still be there.
func TestTrimDoesNoHarm(t *testing.T) {
	heap := slices.Clone(ballast)
	want := sha256.Sum256(ballast)
	for range 3 {
		require.NoError(t, Trim())
		assert.Equal(t, want, sha256.Sum256(ballast))
		assert.Equal(t, want, sha256.Sum256(heap))
		assert.Equal(t, []string{"a", "b"}, regexp.MustCompile(`\w`).FindAllString("a b", -1))
	}
}

func TestTrimUnmapsTheProgramsFile(t *testing.T) {
	touched := touchProgram(t)
	require.Greater(t, touched, int64(2<<20), "a test binary has as much code")
	require.NoError(t, Trim())
	assert.Less(t, ofProgram(t), touched-(1<<20)) // what goes on running is mapped again at once
}

// touchProgram reads every page of this program's mappings that Trim may unmap.
func touchProgram(t *testing.T) int64 {
	path, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	smaps, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer smaps.Close()
	mappings, err := untouched(smaps, path)
	require.NoError(t, err)
	sum := byte(0)
	for _, m := range mappings {
		pages := m.pages()
		for i := 0; i < len(pages); i += os.Getpagesize() {
			sum += pages[i]
		}
	}
	t.Log("sum", sum) // so that the reads are not optimised away
	return ofProgram(t)
}

// ofProgram is RssFile: resident pages of files.
func ofProgram(t *testing.T) int64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	match := regexp.MustCompile(`(?m)^RssFile:\s+(\d+) kB$`).FindSubmatch(status)
	require.NotNil(t, match)
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	require.NoError(t, err)
	return kilobytes << 10
}
