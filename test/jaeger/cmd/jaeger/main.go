// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command jaeger builds Jaeger if need be, and runs it with deploy/jaeger/memory.yaml until it is interrupted.
// It is run in the root folder: "make jaeger".
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/tapio-io/otelcol-tapio/test/jaeger"
)

const (
	config = "deploy/jaeger/memory.yaml"
	ui     = "http://localhost:16686"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Println("Building Jaeger, unless that was done before: about 7 minutes on two cores.")
	binary, err := jaeger.Binary(ctx)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, binary, "--config", config)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	// An interrupt from the keyboard reaches Jaeger anyway.
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	if err := command.Start(); err != nil {
		return fmt.Errorf("start Jaeger: %w", err)
	}
	go announce(ctx)
	if err := command.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("run Jaeger: %w; is one running already?", err)
	}
	return nil
}

// announce says what to do once Jaeger can be asked.
func announce(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := jaeger.Server(ui).Services(ctx); err == nil {
			fmt.Println("Jaeger runs. In another terminal: make run TO=jaeger, or without privileges: make demo TO=jaeger")
			fmt.Printf("Then explore %s as docs/jaeger.md shows, by its API: this build has no pages. Ctrl-C ends Jaeger.\n", ui)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
