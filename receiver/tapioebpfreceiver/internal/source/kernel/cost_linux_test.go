// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["getppid"] = getppidWorkload
	workloads["open"] = openWorkload
	workloads["connect"] = connectWorkload
}

// printCPUTime of this process in ns, for what is done.
func printCPUTime(do func() error) error {
	begin := cpuTime()
	if err := do(); err != nil {
		return err
	}
	fmt.Println(cpuTime() - begin)
	return nil
}

func cpuTime() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

const (
	getppids = 1_000_000
	opens    = 50_000
)

// getppidWorkload makes many system calls that nobody looks at.
func getppidWorkload([]string) error {
	return printCPUTime(func() error {
		for range getppids {
			syscall.Getppid()
		}
		return nil
	})
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

// openWorkload opens and closes a file that is not sensitive.
func openWorkload([]string) error {
	return printCPUTime(func() error {
		for range opens {
			if err := open("/proc/self/stat", unix.O_RDONLY); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkSyscalls shows what the source costs system calls that it reports nothing of, as the
// ratio of the medians of their CPU time with and without it, of b.N interleaved runs.
func BenchmarkSyscalls(b *testing.B) {
	security := func(o *Options) {
		o.Families = []string{familySecurity}
		o.Security = securityOptions("/etc/shadow", "/etc/kubernetes/pki/", "**/.ssh/")
	}
	for _, test := range []struct {
		name, workload string
		calls          float64
		change         func(*Options)
	}{
		{"traffic/getppid", "getppid", getppids, nil},
		{"security/getppid", "getppid", getppids, security},
		{"security/open", "open", opens, security},
	} {
		b.Run(test.name, func(b *testing.B) {
			var with, without []float64
			for range b.N {
				w := newOwnWorld(b, test.change)
				with = append(with, nsOf(b, w, test.workload))
				w.finish()
				without = append(without, nsOf(b, w, test.workload))
			}
			slices.Sort(with)
			slices.Sort(without)
			b.ReportMetric(with[b.N/2]/without[b.N/2], "with/without")
			b.ReportMetric(with[b.N/2]/test.calls, "ns/call")
			b.ReportMetric(without[b.N/2]/test.calls, "ns/call-without")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func nsOf(b *testing.B, w *world, workload string) float64 {
	k := startTalker(b, w.workload(workload))
	ns, err := strconv.ParseFloat(k.hear(), 64)
	require.NoError(b, err)
	k.end()
	return ns
}

// BenchmarkPrograms shows what each program costs a run, as the kernel counts it (bpf_stats), over
// connections that each send 1000 bytes and get 1000 back, and the processes that make them.
func BenchmarkPrograms(b *testing.B) {
	w := newOwnWorld(b, nil)
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

// BenchmarkTLSPrograms shows what following handshakes of TLS costs connections, with both ends in scope: the
// median of what all programs took for one, with it and without, of b.N interleaved runs.
func BenchmarkTLSPrograms(b *testing.B) {
	text := func(v any) string {
		encoded, err := json.Marshal(v)
		require.NoError(b, err)
		return string(encoded)
	}
	const connections = 200
	for _, families := range [][]string{{familyNetwork}, {familyNetwork, familyHTTP}} {
		worlds := map[bool]*world{}
		for _, followed := range []bool{false, true} {
			worlds[followed] = newOwnWorld(b, func(o *Options) {
				withHTTP(o)
				o.RateLimits = nil
				o.Families, o.Causes, o.TLSHandshakes, o.RingSize = families, false, followed, 64<<20
			})
		}
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		require.NoError(b, err)
		for _, load := range []struct {
			name, workload, argument string
			connections              float64
		}{
			{"HTTP", "script", text(script{Times: connections, Address: "127.0.0.1:0", Steps: []step{client(get), server(ok + "hello")}}), connections},
			{"other", "script", text(script{Times: connections, Address: "127.0.0.1:0", Steps: []step{client("not HTTP"), server("hello")}}), connections},
			{"bulk", "script", text(script{Address: "127.0.0.1:0", Steps: []step{client("not HTTP"), {By: "server", Bytes: 200 << 20}}}), 1},
			{"TLS", "tls", text(handshakeCase{Times: connections}), connections},
		} {
			b.Run(strings.Join(families, "+")+"/"+load.name, func(b *testing.B) {
				took := map[bool][]float64{}
				for range b.N {
					for followed, w := range worlds {
						before := w.runtime(b)
						require.NoError(b, w.workload(load.workload, load.argument).Run())
						took[followed] = append(took[followed], float64(w.runtime(b)-before))
					}
				}
				slices.Sort(took[true])
				slices.Sort(took[false])
				b.ReportMetric(took[true][b.N/2]/took[false][b.N/2], "with/without")
				b.ReportMetric(took[true][b.N/2]/load.connections, "ns/connection")
				b.ReportMetric(took[false][b.N/2]/load.connections, "ns/connection-without")
				b.ReportMetric(0, "ns/op")
			})
		}
		require.NoError(b, stats.Close())
	}
}

// runtime of all the world's programs so far.
func (w *world) runtime(b *testing.B) (total time.Duration) {
	b.Helper()
	for _, o := range w.source.loader.opened {
		if program, ok := o.(*ebpf.Program); ok {
			s, err := program.Stats()
			require.NoError(b, err)
			total += s.Runtime
		}
	}
	return total
}

// BenchmarkHTTPPrograms shows what the programs cost an HTTP request with both its ends in scope:
// wrk and nginx, 64 connections, keep-alive.
func BenchmarkHTTPPrograms(b *testing.B) {
	for _, c := range []struct {
		families []string
		causes   bool
	}{{[]string{familyNetwork}, false}, {[]string{familyHTTP}, false}, {[]string{familyHTTP}, true}, {[]string{familyNetwork, familyHTTP}, true}} {
		b.Run(fmt.Sprintf("%s/causes=%t", strings.Join(c.families, "+"), c.causes), func(b *testing.B) {
			w := newOwnWorld(b, func(o *Options) {
				withHTTP(o)
				o.RateLimits = nil
				o.Families, o.Causes, o.ResponseHeads, o.RingSize = c.families, c.causes, false, 64<<20
			})
			address := startNginx(b, w)
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			require.NoError(b, err)
			defer stats.Close()
			requests := runWrk(b, w, address)
			w.finish()
			reportRuntime(b, w, requests)
		})
	}
}

func reportRuntime(b *testing.B, w *world, requests int) {
	var total time.Duration
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
			b.ReportMetric(float64(s.RunCount)/float64(requests), "runs/"+info.Name)
		}
		total += s.Runtime
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(requests), "ns/request")
	b.ReportMetric(0, "ns/op")
	row := w.httpCounters()
	b.Logf("requests %d, counted %+v, read %d", requests, row, len(w.ofType(event.Type(bpf.WireEventTypeHTTP_EXCHANGE))))
}

const nginxConf = `daemon off;
worker_processes 1;
error_log stderr error;
pid %[1]s/pid;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  keepalive_requests 1000000;
  server { listen 127.0.0.1:%[2]d; location / { return 200 "hello\n"; } }
}
`

// requireTool finds a program, also where only root looks for it.
func requireTool(b *testing.B, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		b.Skip("needs ", name)
	}
	return path
}

func startNginx(b *testing.B, w *world) string {
	path := requireTool(b, "nginx")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	address := listener.Addr().String()
	dir := b.TempDir()
	require.NoError(b, os.Chmod(dir, 0o755))
	conf := filepath.Join(dir, "nginx.conf")
	require.NoError(b, os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, listener.Addr().(*net.TCPAddr).Port), 0o644))
	require.NoError(b, listener.Close())
	command := w.command(path, "-c", conf, "-e", "stderr")
	require.NoError(b, command.Start())
	b.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		command.Wait()
	})
	require.Eventually(b, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
		}
		return err == nil
	}, 5*time.Second, 10*time.Millisecond)
	return address
}

func runWrk(b *testing.B, w *world, address string) (requests int) {
	command := w.command(requireTool(b, "wrk"), "-t1", "-c64", "-d3s", "http://"+address+"/")
	out, err := command.Output()
	require.NoError(b, err)
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, " requests in ") {
			_, err := fmt.Sscan(line, &requests)
			require.NoError(b, err)
		}
	}
	b.Log(string(out))
	return requests
}
