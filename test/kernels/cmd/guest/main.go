// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command guest runs a static test binary on a Debian kernel in QEMU and shows the console.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/tapio-io/otelcol-tapio/test/kernels/internal/vm"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	name := flag.String("kernel", "6.12", "the kernel to boot")
	limit := flag.Duration("limit", 4*time.Minute, "how long the guest may run")
	count := flag.Bool("count-instructions", false, "let the guest's clock count instructions, a nanosecond each, on one CPU")
	flag.Parse()
	if flag.NArg() == 0 {
		return errors.New("usage: guest [-kernel 6.12] [-limit 4m] [-count-instructions] test-binary [-test.run=… …]")
	}
	kernel, err := vm.Lookup(*name)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "otelcol-tapio-init-")
	if err != nil {
		return fmt.Errorf("make a folder for init: %w", err)
	}
	defer os.RemoveAll(dir)
	initBinary, err := vm.BuildInit(ctx, dir, kernel.Arch)
	if err != nil {
		return err
	}
	console, err := vm.Guest{
		Kernel:   kernel,
		Init:     initBinary,
		Binaries: []vm.Binary{{Name: filepath.Base(flag.Arg(0)), File: flag.Arg(0), Testdata: "testdata"}},
		Flags:    flag.Args()[1:],
		Limit:    *limit,
		Console:  os.Stdout,

		CountInstructions: *count,
	}.Run(ctx)
	if err != nil {
		return err
	}
	return check(console)
}

func check(console string) error {
	results, err := vm.Parse(console)
	if err != nil {
		return err
	}
	if len(results) != 1 || results[0].Exit != "0" {
		return errors.New("the test binary failed")
	}
	return nil
}
