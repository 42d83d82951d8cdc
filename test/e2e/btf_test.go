// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	noBTF         = "this kernel does not describe its types (BTF)"
	unreadableBTF = "this kernel's description of its types (BTF) may not be read"
	damagedBTF    = "decode this kernel's description of its types (BTF)"
)

// TestWithoutBTF: without the kernel's own description of its types the collector does not start. It says what is missing, how
// to check that, and what can be tried without, and looks for no other file that may be of another kernel.
func TestWithoutBTF(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	confined := confinedBinary(t, "bpf", "perfmon", "net_admin") // root may read what others may not
	for name, test := range map[string]struct {
		hide    string // what is done to /sys/kernel/btf, an empty folder now; "$kept" has what was there
		message []string
	}{
		"absent":     {"true", []string{noBTF, "no such file", "CONFIG_DEBUG_INFO_BTF=y", "ls /sys/kernel/btf/vmlinux"}},
		"unreadable": {`cp "$kept" vmlinux; chmod 600 vmlinux`, []string{unreadableBTF, "permission denied", "ls -l /sys/kernel/btf/vmlinux"}},
		"empty":      {"true >vmlinux", []string{damagedBTF, "grep btf /proc/self/mountinfo"}},
		"cut off":    {`head -c 100000 "$kept" >vmlinux`, []string{damagedBTF, "string table is out of bounds", "bpftool btf dump"}},
		"foreign":    {"echo This is no BTF at all, and long enough for its header. >vmlinux", []string{damagedBTF}},
	} {
		t.Run(name, func(t *testing.T) {
			c := launch(t, hidingBTF(t, test.hide, confined), nil, scope.path)
			requireFailure(t, c, append(test.message, "/sys/kernel/btf/vmlinux", "set source: simulator")...)
			assert.Equal(t, 1, strings.Count(lastWords(c), "(BTF)"), "one error")
		})
	}
	t.Run("simulator", func(t *testing.T) {
		c := launch(t, hidingBTF(t, "true", confined), nil, "", "receivers::tapioebpf::source: simulator")
		require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, pollInterval, "the collector is not ready")
		require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
		c.terminate()
	})
}

// hidingBTF is a program that becomes another one in a mount namespace of its own, after what is to be done to /sys/kernel/btf.
// In /boot is what the eBPF library would find in its place.
func hidingBTF(t *testing.T, hide, program string) string {
	t.Helper()
	var system unix.Utsname
	require.NoError(t, unix.Uname(&system))
	kept := filepath.Join(publicDir(t), "vmlinux-"+unix.ByteSliceToString(system.Release[:]))
	require.NoError(t, copyFile("/sys/kernel/btf/vmlinux", kept))
	script := "#!/bin/sh\nset -e\nkept=" + kept + `
mount -t tmpfs -o mode=755 none /boot
cp "$kept" /boot/
mount -t tmpfs -o mode=755 none /sys/kernel/btf
(cd /sys/kernel/btf; ` + hide + `)
exec ` + program + ` "$@"
`
	within := filepath.Join(publicDir(t), "within")
	require.NoError(t, os.WriteFile(within, []byte(script), 0o755))
	path := filepath.Join(publicDir(t), "hiding-btf")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexec "+tool(t, "unshare")+" --mount "+within+` "$@"`+"\n"), 0o755))
	return path
}
