// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Binary is a static Go test binary to run in a guest.
type Binary struct {
	Name     string
	File     string
	Testdata string // a folder, or a path where there is none
}

// Guest is one boot of a kernel that runs test binaries one after the other.
type Guest struct {
	Kernel   Kernel
	Init     string // from BuildInit
	Binaries []Binary
	Flags    []string      // for each test binary, next to -test.v
	Limit    time.Duration // for all of it
	Console  io.Writer     // sees the output as it comes; may be nil
	// CountInstructions makes the guest's clock go on by one nanosecond an instruction, on one CPU, so that
	// times are the same whatever else the machine does.
	CountInstructions bool
}

// machine is how QEMU has to be called for an architecture. There is no KVM in it: a virtual
// machine that runs the tests has none to offer most of the time, and emulation is fast enough.
type machine struct {
	qemu    string
	args    []string
	console string
}

var machines = map[string]machine{
	"amd64": {qemu: "qemu-system-x86_64", console: "ttyS0"},
	// The default way to emulate pointer authentication makes a guest several times slower.
	"arm64": {qemu: "qemu-system-aarch64", args: []string{"-M", "virt", "-cpu", "max,pauth-impdef=on"}, console: "ttyAMA0"},
}

// Emulator returns the path of the QEMU that boots the kernel.
func (k Kernel) Emulator() (string, error) {
	qemu, err := exec.LookPath(machines[k.Arch].qemu)
	if err != nil {
		return "", fmt.Errorf("kernel %s needs QEMU: %w", k.Name, err)
	}
	return qemu, nil
}

// Run boots the guest and returns what its console showed. It fails if the guest did not power off
// in time; what the tests found is in the output, for Parse.
func (g Guest) Run(ctx context.Context) (string, error) {
	qemu, err := g.Kernel.Emulator()
	if err != nil {
		return "", err
	}
	files, err := g.Kernel.Fetch(ctx)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "otelcol-tapio-guest-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the guest: %w", err)
	}
	defer os.RemoveAll(dir)
	initramfs, err := g.pack(ctx, dir, files)
	if err != nil {
		return "", fmt.Errorf("pack the initramfs of kernel %s: %w", g.Kernel.Name, err)
	}
	for boots := 1; ; boots++ {
		console, err := g.boot(ctx, qemu, files.Vmlinuz, initramfs)
		if boots == 1 && wasStuck(console) {
			if err := g.keep(console); err != nil {
				return console, err
			}
			continue
		}
		if boots == maxBoots || !diedOfEmulation(console) {
			return console, err
		}
	}
}

// A guest whose CPUs were all stuck has been seen once, in some hundred boots, and what for is not known. It is booted again
// once, unless eBPF is on the stack of any CPU: a lock that our programs do not give back must not pass for a mishap. What
// it showed is kept.
func wasStuck(console string) bool {
	_, trace, stuck := strings.Cut(console, "Kernel panic - not syncing: softlockup")
	return stuck && !bpfOnStack.MatchString(trace)
}

var bpfOnStack = regexp.MustCompile(`\b_*(bpf|htab|trie|ringbuf)_`)

func (g Guest) keep(console string) error {
	base, err := cacheFolder()
	if err != nil {
		return err
	}
	file := filepath.Join(base, "stuck-"+g.Kernel.Name+".log")
	if err := os.WriteFile(file, []byte(console), 0o644); err != nil {
		return fmt.Errorf("keep what a guest showed that was stuck: %w", err)
	}
	fmt.Fprintf(os.Stderr, "kernel %s was stuck, see %s; it is booted again\n", g.Kernel.Name, file)
	return nil
}

// maxBoots of a guest that dies of its emulation.
const maxBoots = 3

// A kernel that changes its own code puts a breakpoint (int3) there meanwhile. QEMU, emulating several
// CPUs at a time, may let one of them run into it when the kernel is done with it and knows nothing of
// it any more, and then the kernel dies. No program that it loads can bring that about.
var strayBreakpoint = regexp.MustCompile(`(?m)\bint3: 0000 \[#\d+\]`)

func diedOfEmulation(console string) bool { return strayBreakpoint.MatchString(console) }

// endsOnTrouble is for a kernel that panics, also by an oops or as a CPU was stuck for a minute: it says what all CPUs
// were at and reboots at once, and with -no-reboot QEMU ends then.
const endsOnTrouble = "panic=-1 oops=panic softlockup_panic=1 sysctl.kernel.watchdog_thresh=30 panic_print=0x40"

func (g Guest) boot(ctx context.Context, qemu, vmlinuz, initramfs string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, g.Limit)
	defer cancel()
	m := machines[g.Kernel.Arch]
	kernelArgs := "console=" + m.console + " rdinit=/init quiet " + endsOnTrouble
	cpus := []string{"-smp", "2", "-accel", "tcg,thread=multi"}
	if g.CountInstructions {
		cpus = []string{"-smp", "1", "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"}
	}
	args := slices.Concat([]string{
		"-m", "1024", "-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot",
		"-kernel", vmlinuz, "-initrd", initramfs, "-append", kernelArgs,
	}, cpus, m.args)
	cmd := exec.CommandContext(limited, qemu, args...)
	var console, complaints bytes.Buffer
	cmd.Stdout = &console
	if g.Console != nil {
		cmd.Stdout = io.MultiWriter(&console, g.Console)
	}
	cmd.Stderr = &complaints
	err := cmd.Run()
	text := strings.ReplaceAll(console.String(), "\r", "")
	if errors.Is(limited.Err(), context.DeadlineExceeded) {
		return text, fmt.Errorf("kernel %s did not power off within %s", g.Kernel.Name, g.Limit)
	}
	if err != nil {
		return text, fmt.Errorf("run QEMU for kernel %s: %w: %s", g.Kernel.Name, err, bytes.TrimSpace(complaints.Bytes()))
	}
	return text, nil
}

// pack writes the guest's root file system: init, busybox, modules and the tests.
func (g Guest) pack(ctx context.Context, dir string, files Files) (string, error) {
	box, err := busybox(ctx, g.Kernel.Arch)
	if err != nil {
		return "", err
	}
	root := filepath.Join(dir, "root")
	for _, sub := range []string{"bin", "etc", "modules", "tests"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			return "", fmt.Errorf("make the root folder: %w", err)
		}
	}
	content := map[string]string{"init": g.Init, "bin/busybox": box}
	for i, module := range files.Modules {
		// init loads them in name order.
		content[fmt.Sprintf("modules/%02d-%s", i, filepath.Base(module))] = module
	}
	for _, binary := range g.Binaries {
		content["tests/"+binary.Name] = binary.File
		if err := copyTree(filepath.Join(root, "tests", binary.Name+".dir", "testdata"), binary.Testdata); err != nil {
			return "", fmt.Errorf("copy test data: %w", err)
		}
	}
	for name, file := range content {
		if err := copyFile(filepath.Join(root, name), file); err != nil {
			return "", err
		}
	}
	flags := strings.Join(g.Flags, "\n")
	if err := os.WriteFile(filepath.Join(root, "etc", "test.flags"), []byte(flags), 0o644); err != nil {
		return "", fmt.Errorf("write the flags: %w", err)
	}
	return archive(ctx, root, filepath.Join(dir, "initramfs"))
}

// archive calls cpio for the one format that the kernel reads. Not compressed: emulation would
// make the guest unpack it slowly.
func archive(ctx context.Context, root, file string) (string, error) {
	var names strings.Builder
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		name, relErr := filepath.Rel(root, path)
		names.WriteString(name + "\x00")
		return errors.Join(err, relErr)
	})
	if err != nil {
		return "", fmt.Errorf("list %s: %w", root, err)
	}
	cmd := exec.CommandContext(ctx, "cpio", "--create", "--format=newc", "--null", "--quiet", "--owner=0:0", "--file="+file)
	cmd.Dir = root
	cmd.Stdin = strings.NewReader(names.String())
	_, err = output(cmd)
	return file, err
}

func copyTree(to, from string) error {
	if _, err := os.Stat(from); err != nil {
		return os.MkdirAll(filepath.Dir(to), 0o755)
	}
	return os.CopyFS(to, os.DirFS(from))
}

func copyFile(to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer f.Close()
	return writeFile(to, f, 0o755)
}
