// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

const (
	// patience is how long anything that must come about may take, on a machine with other work.
	patience = 30 * time.Second
	// pollInterval is how often it is looked for.
	pollInterval = 50 * time.Millisecond

	workloadEnv = "TAPIO_JAEGER_WORKLOAD"
)

// update has the pictures in docs drawn anew, of what the tests see.
var update = flag.Bool("update", false, "write docs/jaeger")

// workloads are what this binary does as one of the shop's programs.
var workloads = map[string]func(args []string) error{
	"cron":   cron,
	"orders": takeOrders,
}

// TestMain keeps the process's first thread: tests take threads into other namespaces, and what the
// system tells of the process is of its first.
func TestMain(m *testing.M) {
	runtime.LockOSThread()
	if name := os.Getenv(workloadEnv); name != "" {
		if err := workloads[name](os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "workload %s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// requireJaeger skips unless these tests are asked for.
func requireJaeger(t *testing.T) {
	t.Helper()
	if os.Getenv("TAPIO_JAEGER") != "1" {
		t.Skip("set TAPIO_JAEGER=1 to run; it needs root, nginx, dnsmasq, curl and python3, and some minutes to build Jaeger once")
	}
}

// eventually says whether the condition is met in time.
func eventually(met func() bool) bool { return within(patience, met) }

func within(limit time.Duration, met func() bool) bool {
	for deadline := time.Now().Add(limit); !met(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
