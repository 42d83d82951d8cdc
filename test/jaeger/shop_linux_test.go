// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// shop of real programs. Names and ports are those that its programs have in testdata.
type shop struct {
	*world
	folder string
	jobs   io.WriteCloser
	ends   *bufio.Reader // of the jobs
	all    []*process
}

const (
	storefrontPort, catalogPort, ordersPort = 8080, 8081, 8082
	// namePort is that of DNS over UDP, and of this name server over TCP.
	namePort = 53
)

// addresses of the shop's names. Nobody is at the last one.
var addresses = map[string]string{
	"storefront": "127.0.0.10", "catalog": "127.0.0.11", "orders": "127.0.0.12", "gifts": "127.0.0.13",
}

// openShop starts it, and returns when all of it listens.
func openShop(t *testing.T, w *world) *shop {
	t.Helper()
	s := &shop{world: w, folder: t.TempDir()}
	s.startNameServer(t)
	s.startStorefront(t)
	s.startCatalog(t)
	s.startOrders(t)
	s.startCron(t)
	return s
}

// command of a program in the shop. Its environment says nothing of this machine's proxies.
func (s *shop) command(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	if !filepath.IsAbs(path) {
		found, err := exec.LookPath(path)
		require.NoError(t, err, "install it")
		path = found
	}
	command := exec.Command(path, args...)
	command.Dir, command.Env = s.folder, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(s.cgroup.Fd())}
	return command
}

func (s *shop) serve(t *testing.T, command *exec.Cmd, port int) {
	t.Helper()
	server := s.start(t, command)
	require.Eventually(t, func() bool { return server.listens(port) }, patience, pollInterval, "%s does not listen", command)
}

func (s *shop) start(t *testing.T, command *exec.Cmd) *process {
	t.Helper()
	p := start(t, command, s.do)
	s.all = append(s.all, p)
	return p
}

// close ends all of it.
func (s *shop) close(t *testing.T) {
	t.Helper()
	require.NoError(t, s.jobs.Close()) // then cron ends
	for _, p := range s.all {
		p.end()
	}
}

func (s *shop) startNameServer(t *testing.T) {
	command := s.command(t, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root", "--no-resolv",
		"--no-hosts", "--local=/shop.test/", "--listen-address="+nameServer, "--bind-interfaces", "--log-facility=-")
	for name, address := range addresses {
		command.Args = append(command.Args, fmt.Sprintf("--host-record=%s.shop.test,%s", name, address))
	}
	s.serve(t, command, namePort)
}

func (s *shop) startStorefront(t *testing.T) {
	script, err := filepath.Abs("testdata/storefront.py")
	require.NoError(t, err)
	s.serve(t, s.command(t, python, script, addresses["storefront"], fmt.Sprint(storefrontPort)), storefrontPort)
}

// startCatalog has an nginx end by SIGTERM, which it does not survive with its worker.
func (s *shop) startCatalog(t *testing.T) {
	template, err := os.ReadFile("testdata/catalog.conf")
	require.NoError(t, err)
	file := filepath.Join(s.folder, "catalog.conf")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(template), "@DIR@", s.folder)), 0o644))
	s.serve(t, s.command(t, "nginx", "-p", s.folder, "-e", "stderr", "-c", file), catalogPort)
}

func (s *shop) startOrders(t *testing.T) {
	s.serve(t, s.workload(t, "orders", fmt.Sprintf("%s:%d", addresses["orders"], ordersPort)), ordersPort)
}

func (s *shop) startCron(t *testing.T) {
	content, err := os.ReadFile("testdata/restock.sh")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.folder, "restock.sh"), content, 0o755))
	command := s.workload(t, "cron", "restock.sh")
	s.jobs, err = command.StdinPipe()
	require.NoError(t, err)
	ends, writer, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { ends.Close() })
	command.Stdout, s.ends = writer, bufio.NewReader(ends)
	s.start(t, command)
	require.NoError(t, writer.Close())
}

// workload is this binary, under a name of its own.
func (s *shop) workload(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(s.folder, name)
	self, err := os.Executable()
	require.NoError(t, err)
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o755))
	command := s.command(t, path, args...)
	command.Env = append(command.Env, workloadEnv+"="+name)
	return command
}

// runJob has the cron job ask the shop for this, and returns how its shell has ended.
func (s *shop) runJob(t *testing.T, target string) string {
	t.Helper()
	_, err := fmt.Fprintln(s.jobs, target)
	require.NoError(t, err)
	said, err := s.ends.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(said)
}

// python is not the one of the PATH, which may be a script that looks for one.
const python = "/usr/bin/python3"

// programName is what a program's spans have as service.name: the file name behind all links.
func programName(t *testing.T, path string) string {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return filepath.Base(resolved)
}
