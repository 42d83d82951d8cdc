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

// shop of real programs, or the part of it that is on one node. Names and ports are those that its programs
// have in testdata.
type shop struct {
	*world
	addresses map[string]string // by name
	folder    string
	jobs      io.WriteCloser
	ends      *bufio.Reader // of the jobs
	all       []*process
}

const (
	storefrontPort, catalogPort, ordersPort = 8080, 8081, 8082
	// namePort is that of DNS over UDP, and of this name server over TCP.
	namePort = 53
)

// addresses of the shop's names on one node. Nobody is at the last one.
var addresses = map[string]string{
	"storefront": "127.0.0.10", "catalog": "127.0.0.11", "orders": "127.0.0.12", "gifts": "127.0.0.13",
}

// openShop starts it, and returns when all of it listens.
func openShop(t *testing.T, w *world) *shop {
	t.Helper()
	s := &shop{world: w, addresses: addresses, folder: t.TempDir()}
	s.openFront(t)
	s.openBack(t)
	return s
}

func (s *shop) openFront(t *testing.T) {
	t.Helper()
	s.startNameServer(t)
	s.startStorefront(t)
	s.jobs, s.ends = s.startRunner(t, s.workload(t, "cron", s.copyOf(t, "restock.sh")))
}

func (s *shop) openBack(t *testing.T) {
	t.Helper()
	s.startCatalog(t)
	s.startOrders(t)
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
	require.NoError(t, s.jobs.Close())
	for _, p := range s.all {
		p.end()
	}
}

func (s *shop) startNameServer(t *testing.T) {
	command := s.command(t, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root", "--no-resolv",
		"--no-hosts", "--local=/shop.test/", "--listen-address="+nameServer, "--bind-interfaces", "--log-facility=-")
	for name, address := range s.addresses {
		command.Args = append(command.Args, fmt.Sprintf("--host-record=%s.shop.test,%s", name, address))
	}
	s.serve(t, command, namePort)
}

func (s *shop) startStorefront(t *testing.T) {
	s.serve(t, s.command(t, python, s.copyOf(t, "storefront.py"), s.addresses["storefront"], fmt.Sprint(storefrontPort)), storefrontPort)
}

// startCatalog has an nginx end by SIGTERM, which it does not survive with its worker.
func (s *shop) startCatalog(t *testing.T) {
	template, err := os.ReadFile("testdata/catalog.conf")
	require.NoError(t, err)
	file := filepath.Join(s.folder, "catalog.conf")
	require.NoError(t, os.WriteFile(file, []byte(strings.NewReplacer("@DIR@", s.folder, "@ADDRESS@", s.addresses["catalog"]).Replace(string(template))), 0o644))
	s.serve(t, s.command(t, "nginx", "-p", s.folder, "-e", "stderr", "-c", file), catalogPort)
}

func (s *shop) startOrders(t *testing.T) {
	s.serve(t, s.workload(t, "orders", fmt.Sprintf("%s:%d", s.addresses["orders"], ordersPort)), ordersPort)
}

// copyOf a file of testdata in the shop's folder, where programs are started.
func (s *shop) copyOf(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.folder, name), content, 0o755))
	return name
}

// startRunner starts what does something for each line that it is given, and says how that went.
func (s *shop) startRunner(t *testing.T, command *exec.Cmd) (io.WriteCloser, *bufio.Reader) {
	t.Helper()
	lines, err := command.StdinPipe()
	require.NoError(t, err)
	said, writer, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { said.Close() })
	command.Stdout = writer
	s.start(t, command)
	require.NoError(t, writer.Close())
	return lines, bufio.NewReader(said)
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
	return tell(t, s.jobs, s.ends, target)
}

// tell a runner a line, and return what it says.
func tell(t *testing.T, lines io.Writer, said *bufio.Reader, line string) string {
	t.Helper()
	_, err := fmt.Fprintln(lines, line)
	require.NoError(t, err)
	answer, err := said.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(answer)
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
