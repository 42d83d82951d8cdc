// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	workloads["getppid"] = getppidWorkload
	workloads["connect"] = connectWorkload
}

// getppidWorkload makes a million system calls and prints how many ns they took.
func getppidWorkload([]string) error {
	begin := time.Now()
	for range 1_000_000 {
		syscall.Getppid()
	}
	fmt.Println(time.Since(begin).Nanoseconds())
	return nil
}

// connectWorkload fetches args[1] times from a server.
func connectWorkload(args []string) error {
	for range number(args[1]) {
		if err := fetchWorkload([]string{args[0], "1000"}); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkSyscalls shows what the source costs system calls that it has nothing to do with, as the
// ratio of the medians with and without it, of interleaved runs.
func BenchmarkSyscalls(b *testing.B) {
	const rounds = 9
	var with, without []float64
	for range rounds {
		w := newWorld(b, nil)
		with = append(with, nsOf(b, w))
		w.finish()
		without = append(without, nsOf(b, w))
	}
	slices.Sort(with)
	slices.Sort(without)
	b.ReportMetric(with[rounds/2]/without[rounds/2], "with/without")
	b.ReportMetric(without[rounds/2]/1e6, "ns/syscall")
	b.ReportMetric(0, "ns/op")
}

func nsOf(b *testing.B, w *world) float64 {
	k := startTalker(b, w.workload("getppid"))
	ns, err := strconv.ParseFloat(k.hear(), 64)
	require.NoError(b, err)
	k.end()
	return ns
}

// BenchmarkPrograms shows what each program costs a run, as the kernel counts it (bpf_stats), over
// connections that each send 1000 bytes and get 1000 back, and the processes that make them.
func BenchmarkPrograms(b *testing.B) {
	w := newWorld(b, nil)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	require.NoError(b, err)
	defer stats.Close()
	server := startTalker(b, w.workload("serve", "127.0.0.1:0", "1000"))
	address := server.hear()
	const processes, connections = 20, 50
	for range processes {
		require.NoError(b, w.workload("connect", address, strconv.Itoa(connections)).Run())
	}
	server.end()
	var perConnection float64
	for _, o := range w.source.loader.opened {
		program, ok := o.(*ebpf.Program)
		if !ok {
			continue
		}
		info, err := program.Info()
		require.NoError(b, err)
		s, err := program.Stats()
		require.NoError(b, err)
		if s.RunCount > 0 {
			b.ReportMetric(float64(s.Runtime.Nanoseconds())/float64(s.RunCount), "ns/"+info.Name)
		}
		if program.Type() != ebpf.RawTracepoint && info.Name[:7] != "process" {
			perConnection += float64(s.Runtime.Nanoseconds()) / (processes * connections)
		}
	}
	b.ReportMetric(perConnection, "ns/connection")
	b.ReportMetric(0, "ns/op")
}
