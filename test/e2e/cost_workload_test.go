// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

const (
	// costDuration of a workload that can end when it should. Those that have a number of things to do take about as long.
	costDuration  = 2 * time.Second
	redisRequests = 80_000
	compiledFiles = 30
	forkedInEach  = 1000
)

func init() {
	workloads["calls"] = makeCalls
	workloads["drain"] = drain
	workloads["pour"] = pour
}

// costWorkload is what an application does, as fast as it can, in a cgroup of its own.
type costWorkload struct {
	name, unit string
	rateUnit   string
	run        func() (units float64, took time.Duration)
	missing    string // what it would take; empty: it can run
	goal       goal   // for its rate with the collector, as a part of that without
	bpfGoal    goal   // for what all programs take for a unit, ns
}

// costWorkloads are all, or those that TAPIO_BENCH_WORKLOADS names. Servers run until the test ends.
func costWorkloads(t *testing.T, scope cgroup) []*costWorkload {
	t.Helper()
	all := []struct {
		key   string
		tools []string
		costWorkload
		start func(*testing.T, cgroup) func() (float64, time.Duration)
	}{
		{"http", []string{"nginx", "wrk"}, costWorkload{name: "HTTP", unit: "request", rateUnit: "requests/s", goal: atLeast(0.92), bpfGoal: atMost(1500)}, startHTTPLoad},
		{"redis", []string{"redis-server", "redis-benchmark"}, costWorkload{name: "Redis", unit: "request", rateUnit: "requests/s"}, startRedisLoad},
		{"compile", []string{"gcc"}, costWorkload{name: "compile", unit: "file", rateUnit: "files/s"}, startCompile},
		{"fork", nil, costWorkload{name: "fork storm", unit: "program", rateUnit: "programs/s"}, startForks},
		{"syscalls", nil, costWorkload{name: "system calls", unit: "call", rateUnit: "calls/s"}, startCalls},
		{"bulk", nil, costWorkload{name: "bulk TCP", unit: "MiB", rateUnit: "MiB/s", goal: atLeast(0.98)}, startBulk},
	}
	chosen := strings.FieldsFunc(os.Getenv("TAPIO_BENCH_WORKLOADS"), func(r rune) bool { return r == ',' })
	var found []*costWorkload
	for _, w := range all {
		if len(chosen) > 0 && !slices.Contains(chosen, w.key) {
			continue
		}
		if w.missing = missingTools(w.tools); w.missing == "" {
			w.run = w.start(t, scope.below(t, w.key))
		}
		found = append(found, &w.costWorkload)
	}
	require.NotEmpty(t, found, "TAPIO_BENCH_WORKLOADS names no workload: %s", chosen)
	return found
}

func missingTools(names []string) string {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if _, err := os.Stat("/usr/sbin/" + name); err != nil {
				missing = append(missing, name)
			}
		}
	}
	if missing == nil {
		return ""
	}
	return "not there: " + strings.Join(missing, ", ")
}

// startHTTPLoad has wrk ask nginx, both at saturation, on connections that are kept.
func startHTTPLoad(t *testing.T, g cgroup) func() (float64, time.Duration) {
	nginx := g.startNginx(t, noUpstream)
	return func() (float64, time.Duration) {
		began := time.Now()
		requests := g.wrk(t, "-t2", "-c64", "-d"+costDuration.String(), nginx.url("/load"))
		return float64(requests), time.Since(began)
	}
}

var redisRate = regexp.MustCompile(`"GET","([0-9.]+)"`)

// startRedisLoad has a Redis that keeps nothing answer GETs.
func startRedisLoad(t *testing.T, g cgroup) func() (float64, time.Duration) {
	port := porttest.Free(t)
	command := g.command(t, "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	startServer(t, newServer(command, "", port))
	return func() (float64, time.Duration) {
		out, err := g.command(t, "redis-benchmark", "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-t", "get", "-c", "50", "-n", strconv.Itoa(redisRequests), "--csv").Output()
		require.NoError(t, err)
		match := redisRate.FindSubmatch(out)
		require.NotNil(t, match, "%s", out)
		rate, err := strconv.ParseFloat(string(match[1]), 64)
		require.NoError(t, err)
		return redisRequests, time.Duration(redisRequests / rate * float64(time.Second))
	}
}

// startCompile has gcc compile files, two at a time.
func startCompile(t *testing.T, g cgroup) func() (float64, time.Duration) {
	dir := t.TempDir()
	names := ""
	for i := range compiledFiles {
		name := fmt.Sprintf("%d.c", i)
		names += name + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(sourceToCompile()), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "names"), []byte(names), 0o600))
	return g.timed(t, dir, compiledFiles, "exec xargs -a names -n 1 -P 2 gcc -O1 -c")
}

func sourceToCompile() string {
	source := strings.Builder{}
	source.WriteString("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
	for i := range 10 {
		fmt.Fprintf(&source, "int sum%d(const int *v, int n) { int s = %d; for (int i = 0; i < n; i++) s += v[i] * v[n - 1 - i]; printf(\"%%d\\n\", s); return s; }\n", i, i)
	}
	return source.String()
}

// startForks has two shells start programs, one after the other.
func startForks(t *testing.T, g cgroup) func() (float64, time.Duration) {
	loop := fmt.Sprintf("(i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done)", forkedInEach)
	return g.timed(t, "/", 2*forkedInEach, loop+" & "+loop+"; wait")
}

// timed runs a script that does so much.
func (g cgroup) timed(t *testing.T, dir string, units float64, script string) func() (float64, time.Duration) {
	return func() (float64, time.Duration) {
		command := g.command(t, "sh", "-c", script)
		command.Dir = dir
		began := time.Now()
		require.NoError(t, command.Run())
		return units, time.Since(began)
	}
}

func startCalls(t *testing.T, g cgroup) func() (float64, time.Duration) {
	return func() (float64, time.Duration) { return g.start(t, "calls", costDuration).did() }
}

func startBulk(t *testing.T, g cgroup) func() (float64, time.Duration) {
	return func() (float64, time.Duration) {
		drain := g.start(t, "drain")
		bytes, took := g.start(t, "pour", drain.line(), costDuration).did()
		drain.wait()
		return bytes / (1 << 20), took
	}
}

// did waits for what a workload says to have done, and in which time.
func (p *process) did() (units float64, took time.Duration) {
	p.t.Helper()
	fields := strings.Fields(p.line())
	p.wait()
	return float64(number(fields[0])), time.Duration(number(fields[1]))
}

func tellDone(units int64, took time.Duration) {
	fmt.Println(units, took.Nanoseconds())
}

// makeCalls DURATION makes system calls on two threads: every second one reads.
func makeCalls(args []string) error {
	duration, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(zero)
	var calls atomic.Int64
	began := time.Now()
	err = times(2, func() error {
		runtime.LockOSThread()
		buffer := make([]byte, 64)
		for time.Since(began) < duration {
			const atATime = 1000
			for range atATime {
				syscall.Getppid()
				if _, err := unix.Read(zero, buffer); err != nil {
					return err
				}
			}
			calls.Add(2 * atATime)
		}
		return nil
	})
	tellDone(calls.Load(), time.Since(began))
	return err
}

// bulkBuffer is as large as iperf's.
const bulkBuffer = 128 << 10

// drain prints its address, and receives what one connection brings.
func drain([]string) error {
	listener, err := net.Listen("tcp4", loopback("tcp4"))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	buffer := make([]byte, bulkBuffer)
	for err == nil {
		_, err = conn.Read(buffer)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, conn.Close(), listener.Close())
}

// pour ADDRESS DURATION sends as much as it can, and waits until all is received.
func pour(args []string) error {
	duration, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp4", args[0])
	if err != nil {
		return err
	}
	buffer := make([]byte, bulkBuffer)
	sent, began := int64(0), time.Now()
	for err == nil && time.Since(began) < duration {
		_, err = conn.Write(buffer)
		sent += bulkBuffer
	}
	err = errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	_, readErr := io.Copy(io.Discard, conn)
	tellDone(sent, time.Since(began))
	return errors.Join(err, readErr, conn.Close())
}
