// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command guest is the first process of a test guest. It sets the machine up, runs every test
// binary in /tests and powers off.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// The host looks for lines that begin so; vm.Parse is the other side.
const (
	readyMark  = "@@READY"
	resultMark = "@@RESULT"
	fatalMark  = "@@FATAL"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is the first process of a test guest; it does nothing elsewhere")
		os.Exit(2)
	}
	defer powerOff()
	if err := run(); err != nil {
		fmt.Println(fatalMark, err)
	}
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := exec.Command("/bin/busybox", "--install", "-s", "/bin").Run(); err != nil {
		return fmt.Errorf("install busybox: %w", err)
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	fmt.Printf("%s kernel=%s\n", readyMark, unix.ByteSliceToString(system.Release[:]))
	return runTests()
}

func mountAll() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"tmpfs", "/dev/shm"},
		{"bpf", "/sys/fs/bpf"},
		{"tracefs", "/sys/kernel/tracing"},
		{"debugfs", "/sys/kernel/debug"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return fmt.Errorf("make a mount point: %w", err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.kind, m.at, err)
		}
	}
	return nil
}

func loadModules() error {
	files, err := filepath.Glob("/modules/*")
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	for _, file := range files {
		if err := loadModule(file); err != nil {
			return fmt.Errorf("load module %s: %w", file, err)
		}
	}
	return nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if filepath.Ext(file) != ".ko" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), "", flags)
}

// loopbackUp brings lo up, which gives it both of its addresses, and checks that they can be used.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return errors.Join(connect("127.0.0.1:0"), connect("[::1]:0"))
}

func connect(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("try the loopback: %w", err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return fmt.Errorf("try the loopback: %w", err)
	}
	return conn.Close()
}

func runTests() error {
	text, err := os.ReadFile("/etc/test.flags")
	if err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	args := append([]string{"-test.v"}, strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })...)
	entries, err := os.ReadDir("/tests")
	if err != nil {
		return fmt.Errorf("list the tests: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		code, err := runTest(filepath.Join("/tests", entry.Name()), args)
		if err != nil {
			return err
		}
		fmt.Printf("\n%s %s exit=%d\n", resultMark, entry.Name(), code)
	}
	return nil
}

// runTest runs a test binary as go test does, in a folder that has its testdata.
func runTest(file string, args []string) (int, error) {
	none, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer none.Close()
	child, err := os.StartProcess(file, append([]string{file}, args...), &os.ProcAttr{
		Dir: file + ".dir",
		Env: []string{"PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp", "TAPIO_REQUIRE_BPF=1", "TAPIO_GUEST=1"},
		// The console, for what the test prints must be out when the kernel panics.
		Files: []*os.File{none, os.Stdout, os.Stdout},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", file, err)
	}
	code, err := reapUntil(child.Pid)
	if err != nil {
		return 0, fmt.Errorf("wait for %s: %w", file, err)
	}
	// The next binary finds no process of this one.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return 0, fmt.Errorf("kill what %s left: %w", file, err)
	}
	return code, nil
}

// reapUntil waits for a child, and for any orphan that ends before it: they are init's to reap.
func reapUntil(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		reaped, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if reaped != pid || !status.Exited() && !status.Signaled() {
			continue
		}
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
}

// powerOff also runs when main panics: a first process that ends is a kernel panic, whose text
// would hide this one's.
func powerOff() {
	if r := recover(); r != nil {
		fmt.Printf("%s panic: %v\n%s\n", fatalMark, r, debug.Stack())
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println(fatalMark, "power off:", err)
	}
}
