// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

// unprivilegedID is a user and a group who own nothing: those of the image.
const unprivilegedID = 65532

// confined are the capabilities that are enough, as setpriv(1) names them.
var confined = map[string]int{"bpf": unix.CAP_BPF, "perfmon": unix.CAP_PERFMON, "net_admin": unix.CAP_NET_ADMIN}

// confinedBinary is a program that becomes the collector, as nobody in particular with these capabilities and no others,
// which it cannot get either.
func confinedBinary(t *testing.T, capabilities ...string) string {
	t.Helper()
	set := strings.Join(append([]string{"-all"}, capabilities...), ",+")
	id := fmt.Sprint(unprivilegedID)
	line := []string{
		"exec", tool(t, "setpriv"), "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs", "--pdeathsig", "KILL",
		"--inh-caps=" + set, "--ambient-caps=" + set, "--bounding-set=" + set, publicBinary(t), `"$@"`,
	}
	path := filepath.Join(publicDir(t), "confined")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+strings.Join(line, " ")+"\n"), 0o755))
	return path
}

func launchConfined(t *testing.T, capabilities []string, scope cgroup, overrides ...string) *collector {
	t.Helper()
	return launch(t, confinedBinary(t, capabilities...), nil, scope.path, overrides...)
}

// confinedFamilies are all, with what each needs to tell something soon.
func confinedFamilies(secret string) []string {
	return []string{
		secret,
		"receivers::tapioebpf::families::cni::enabled: true",
		"receivers::tapioebpf::families::etcd::slow: 0s",
		"receivers::tapioebpf::families::etcd::executables: [etcd]",
	}
}

// TestThreeCapabilities: with them and nothing else, every family tells as much as to root, and who it was is known, also of
// processes that are older.
func TestThreeCapabilities(t *testing.T) {
	requireBPF(t)
	requirePlugins(t)
	secret, sensitive := secretFile(t)
	scope := newCgroup(t)
	s := startTLSShop(t, scope)
	asks := s.startPython(t, "asks", fmt.Sprintf("back.%s:%d", shopDomain, s.slow.port))
	root := startCollector(t, scope, confinedFamilies(sensitive)...)
	wanted := root.stats().hooks()
	root.terminate()

	c := launchConfined(t, []string{"bpf", "perfmon", "net_admin"}, scope, confinedFamilies(sensitive)...)
	require.Eventually(t, func() bool { return c.hasExited() || c.isReady() }, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	requireConfined(t, c.command.Process.Pid)
	assert.Equal(t, wanted, c.stats().hooks(), "as root has them")

	s.actInAllFamilies(t, asks, secret)
	c.await("something of each family", func(o *output) bool {
		events := o.events()
		return len(o.exchanges(ptrace.SpanKindServer)) == 1 && len(named(o.spans, "tls.handshake")) == 1 &&
			len(named(o.spans, "dns.query")) > 0 && events["process"] > 0 && events["network"] > 0 && events["security"] > 0 && events["cni"] == 2 && events["etcd"] > 0
	})
	rows := c.stop()
	rows.requireNothingLost(t)
	checkConfinedOutput(t, &c.output, asks, secret)
}

// hooks are in the report of what the kernel lets the collector use.
func (s stats) hooks() []string {
	var hooks []string
	for _, c := range s.Capabilities {
		hook := c.Family + " " + c.Hook + ": " + c.State
		if c.Reason != "" {
			hook += ": " + c.Reason
		}
		hooks = append(hooks, hook)
	}
	slices.Sort(hooks)
	return hooks
}

// requireConfined asks the kernel what the process may do.
func requireConfined(t *testing.T, pid int) {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	status := string(content)
	var three uint64
	for _, bit := range confined {
		three |= 1 << bit
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		assert.Contains(t, status, fmt.Sprintf("\n%s:\t%016x\n", set, three))
	}
	assert.Contains(t, status, "\nNoNewPrivs:\t1\n")
	assert.Contains(t, status, fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", unprivilegedID))
	assert.Contains(t, status, fmt.Sprintf("\nGid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", unprivilegedID))
	assert.Contains(t, status, "\nGroups:\t \n")
}

// actInAllFamilies: an HTTP request whose server looks a name up and asks another one over TLS, a sensitive file, a plugin, and
// an etcd, which is dd by its name.
func (s *tlsShop) actInAllFamilies(t *testing.T, asks *server, secret string) {
	t.Helper()
	curl := s.within(s.scope.command(t, "curl", "-q", "-s", "--noproxy", "*", fmt.Sprintf("http://127.0.0.1:%d/", asks.port)))
	require.NoError(t, curl.Run())
	require.NoError(t, runScoped(s.scope, exec.Command("/bin/cat", secret)))

	plugin := exec.Command(filepath.Join(pluginDir, "loopback"))
	plugin.Env = []string{"CNI_COMMAND=VERSION"}
	plugin.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
	require.NoError(t, runScoped(s.scope, plugin))

	dir := publicDir(t)
	etcd := filepath.Join(dir, "etcd")
	require.NoError(t, copyFile("/bin/dd", etcd))
	require.NoError(t, runScoped(s.scope, exec.Command(etcd, "if=/dev/zero", "of="+filepath.Join(dir, "wal"), "count=1", "conv=fsync", "status=none")))
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

func checkConfinedOutput(t *testing.T, o *output, asks *server, secret string) {
	t.Helper()
	served := o.exchanges(ptrace.SpanKindServer)[0]
	assert.EqualValues(t, asks.command.Process.Pid, served.pid())
	python, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", asks.command.Process.Pid))
	require.NoError(t, err)
	assert.Equal(t, python, served.resource["process.executable.path"], "a process that is older than the collector")
	assert.Equal(t, "back."+shopDomain, named(o.spans, "tls.handshake")[0].text("server.address"))
	assert.NotEmpty(t, named(o.spans, "tcp.connect"))
	assert.NotEmpty(t, named(o.spans, "dns.query"))
	opens := named(o.logs, "tapio.security.file.sensitive_access")
	require.Len(t, opens, 1)
	assert.Equal(t, secret, opens[0].text("file.path"))
	assert.Equal(t, "cat", opens[0].text("process.executable.name"))
	assert.Len(t, named(o.spans, "cni.version"), 1)
	syncs := named(o.logs, "tapio.etcd.slow_sync")
	require.NotEmpty(t, syncs)
	assert.Equal(t, "etcd", syncs[0].text("process.executable.name"))
}

// TestTwoCapabilities: the one that is missing is named, with what it is for, and none of those that are there.
func TestTwoCapabilities(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	for missing, why := range map[string]string{
		"bpf": "CAP_BPF (to load eBPF programs)", "perfmon": "CAP_PERFMON (to attach them to kernel tracepoints)",
		"net_admin": "CAP_NET_ADMIN (to attach them to the traffic of cgroups)",
	} {
		t.Run(missing, func(t *testing.T) {
			var others []string
			for name := range confined {
				if name != missing {
					others = append(others, name)
				}
			}
			c := launchConfined(t, others, scope)
			requireFailure(t, c, "capabilities that this process does not have: "+why+"; run it as root")
		})
	}
}

// TestClosedCgroup: what could be seen only in part is refused.
func TestClosedCgroup(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	require.NoError(t, os.Chmod(scope.dir.Name(), 0o700))
	c := launchConfined(t, []string{"bpf", "perfmon", "net_admin"}, scope)
	requireFailure(t, c, "scope::cgroups", scope.dir.Name()+": permission denied", "let the collector's user read it")
}

// TestListensOnlyWhereConfigured: with the default configuration, in a network of its own, there are the three sockets that it
// names, on the loopback interface, and no other that anybody could send to.
func TestListensOnlyWhereConfigured(t *testing.T) {
	requireBPF(t)
	content, err := os.ReadFile(defaultConfig)
	require.NoError(t, err)
	scope := newCgroup(t)
	n := newNetwork(t)
	c := launchConfig(t, n.script(binary(t)), nil, scope.path, string(content), 8686, 8888, "service::telemetry::logs::encoding: json")
	require.Eventually(t, func() bool {
		return c.hasExited() || strings.Contains(c.stderr.String(), "Everything is ready")
	}, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasExited(), "the collector did not start:\n%s", c.stderr)
	wanted := []string{"tcp 127.0.0.1:8686", "tcp 127.0.0.1:8888", "tcp 127.0.0.1:8889"}
	assert.Equal(t, wanted, n.openSockets())
	assert.Never(t, func() bool { return !slices.Equal(wanted, n.openSockets()) }, 2*time.Second, 500*time.Millisecond, "not later either")
	c.terminate()
	assert.Empty(t, n.openSockets())
}

// script is a program that runs another in the network.
func (n *network) script(program string) string {
	n.t.Helper()
	line := strings.Join(append(append([]string{"exec"}, n.by()...), program, `"$@"`), " ")
	path := filepath.Join(publicDir(n.t), "within")
	require.NoError(n.t, os.WriteFile(path, []byte("#!/bin/sh\n"+line+"\n"), 0o755))
	return path
}

// openSockets are those in the network that listen, or take packets from anybody.
func (n *network) openSockets() []string {
	n.t.Helper()
	by := append(n.by(), tool(n.t, "ss"), "-Hnl", "--tcp", "--udp", "--raw", "--unix", "--packet")
	out, err := exec.Command(by[0], by[1:]...).Output()
	require.NoError(n.t, err)
	var sockets []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		sockets = append(sockets, fields[0]+" "+fields[4])
	}
	slices.Sort(sockets)
	return sockets
}
