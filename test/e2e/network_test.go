// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// network is a network namespace, with a mount namespace of its own. A process holds them, and they go
// with it: nothing has a name that would stay.
type network struct {
	t      *testing.T
	holder *exec.Cmd
}

// newNetwork has its loopback up, and nothing else.
func newNetwork(t *testing.T) *network {
	t.Helper()
	for _, name := range []string{"ip", "nft", "nsenter", "sleep"} {
		tool(t, name)
	}
	n := &network{t: t, holder: exec.Command(tool(t, "sleep"), "infinity")}
	n.holder.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:    syscall.SIGKILL,
		Cloneflags:   syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS, // which also makes the mounts private
	}
	require.NoError(t, n.holder.Start())
	t.Cleanup(func() {
		_ = n.holder.Process.Kill()
		_ = n.holder.Wait()
	})
	n.run("ip link set lo up")
	return n
}

// by is the program, with its arguments, that runs another in the network.
func (n *network) by() []string {
	pid := n.holder.Process.Pid
	return []string{tool(n.t, "nsenter"), fmt.Sprintf("--net=/proc/%d/ns/net", pid), fmt.Sprintf("--mount=/proc/%d/ns/mnt", pid)}
}

// run a shell script in the network.
func (n *network) run(script string) {
	n.t.Helper()
	by := n.by()
	command := exec.Command(by[0], append(by[1:], "sh", "-ec", script)...)
	out, err := command.CombinedOutput()
	require.NoError(n.t, err, "%s\n%s", script, out)
}

// connect lays a cable to another network, both of whose ends have addresses.
func (n *network) connect(device string, addresses []string, other *network, otherDevice string, otherAddresses []string) {
	n.t.Helper()
	n.run(fmt.Sprintf("ip link add %s type veth peer name %s netns %d", device, otherDevice, other.holder.Process.Pid))
	n.address(device, addresses)
	other.address(otherDevice, otherAddresses)
}

// address gives a device its addresses. Nobody else could have one of IPv6, so it need not be asked for.
func (n *network) address(device string, addresses []string) {
	n.t.Helper()
	for _, address := range addresses {
		n.run(fmt.Sprintf("ip address add %s dev %s %s", address, device, map[bool]string{true: "nodad"}[strings.Contains(address, ":")]))
	}
	n.run("ip link set " + device + " up")
}

// resolve has the programs in the network ask a name server on its loopback, at the port 53. names are
// domains, each with the one address that all names below it have.
func (n *network) resolve(names map[string]string) {
	n.t.Helper()
	file := publicDir(n.t) + "/resolv.conf"
	require.NoError(n.t, os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644))
	n.run("mount --bind " + file + " /etc/resolv.conf")
	by := append(n.by(), tool(n.t, "dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts", "--local=/test/")
	for name, address := range names {
		by = append(by, fmt.Sprintf("--address=/%s/%s", name, address))
	}
	command := exec.Command(by[0], by[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	startServer(n.t, &server{command: command, port: 53})
}
