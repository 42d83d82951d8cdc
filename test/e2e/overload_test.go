// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// maxBusyMemory is what the collector may take at its worst here, bytes resident.
const maxBusyMemory = 512 << 20

func init() {
	workloads["hold"] = hold
	workloads["samePID"] = samePID
	workloads["samePort"] = samePort
}

// heavy is how much of an overload there is: CI has little time, make test-overload has more.
func heavy(inCI, otherwise int) int {
	if os.Getenv("TAPIO_OVERLOAD") == "1" {
		return otherwise
	}
	return inCI
}

// hold COUNT opens COUNT connections to itself, prints a line, and closes them all when it is given one.
func hold(args []string) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var held []net.Conn
	for range number(args[0]) {
		client, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			return err
		}
		server, err := listener.Accept()
		if err != nil {
			return err
		}
		held = append(held, client, server)
	}
	fmt.Println("open")
	pause(bufio.NewReader(os.Stdin), 0)
	for _, conn := range held {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// requireSeen waits for events of connections, of which only those may be missing that the kernel has left out.
func (c *collector) requireSeen(connections int) {
	c.t.Helper()
	row := c.quietFor("network", time.Second)
	missed := uint64(0)
	for _, hook := range c.stats().Capabilities {
		if hook.Family == "network" {
			missed += hook.MissedRuns
		}
	}
	require.InDelta(c.t, connections, row.Seen, float64(missed), "%+v", row)
}

// maxHeld connections of a process are below the usual hard limit of open files.
const maxHeld = 8000

// holdConnections in as many processes as it takes, each in a network namespace of its own, and returns what closes them.
func holdConnections(t *testing.T, scope cgroup, connections int) (closeAll func()) {
	t.Helper()
	var holders []*process
	for ; connections > 0; connections -= maxHeld {
		holders = append(holders, scope.startBy(t, inOwnNetwork(t), "hold", min(connections, maxHeld)))
	}
	for _, holder := range holders {
		require.Equal(t, "open", holder.line())
	}
	return func() {
		for _, holder := range holders {
			holder.proceed()
		}
	}
}

// TestManySockets: what is open is in the kernel's maps, and all of it is told when it closes, or counted as lost.
func TestManySockets(t *testing.T) {
	requireBPF(t)
	connections := heavy(2000, 50000)
	scope := newCgroup(t)
	c := startCollector(t, scope)
	before := c.residentMemory()
	closeAll := holdConnections(t, scope, connections)
	c.requireSeen(connections)
	t.Logf("%d sockets are open: the collector has grown by %.1f MiB", 2*connections, float64(c.residentMemory()-before)/(1<<20))
	closeAll()
	c.requireSeen(3 * connections)
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	peak := c.statusBytes("VmHWM")
	rows := c.stop()
	t.Logf("at most %.0f MiB resident; %+v", float64(peak)/(1<<20), rows["network"])
	assert.Less(t, peak, int64(maxBusyMemory))
	assert.Equal(t, c.output.events(), rows.exported())
}

// bomb has ten generations, of which the last would be 1024 shells. Without an end to them, what the limit lets live at a time
// can go on for minutes on a busy machine.
const bomb = `b() { [ "$1" = 0 ] && return; /bin/true; b $(($1 - 1)) & b $(($1 - 1)) & wait; }; b 10`

// TestForkBomb in scope: the limit of its cgroup keeps the machine alive, and the collector keeps account.
func TestForkBomb(t *testing.T) {
	requireBPF(t)
	rounds := heavy(1, 30)
	scope := newCgroup(t)
	limit := limitProcesses(t, scope, 256)
	c := startCollector(t, scope)
	for range rounds {
		refusedBefore := limit.refused()
		command := exec.Command(tool(t, "sh"), "-c", bomb)
		limit.put(command)
		scope.place(command)
		command.SysProcAttr.Pdeathsig = syscall.SIGKILL
		require.NoError(t, command.Start())
		_ = command.Wait() // which of its shells cannot fork is chance
		require.Eventually(t, limit.isFree, longPatience, pollInterval)
		assert.Greater(t, limit.refused(), refusedBefore, "it has reached the limit")
	}
	c.quietFor("process", time.Second)
	stats := c.stats()
	requireJSON(t, c.statsURL+"/readyz", `{"status":"ready"}`)
	peak := c.statusBytes("VmHWM")
	rows := c.stop()
	t.Logf("at most %.0f MiB resident; %+v", float64(peak)/(1<<20), rows["process"])
	assert.Less(t, peak, int64(maxBusyMemory))
	assert.Greater(t, rows["process"].Seen, uint64(rounds*500))
	assert.Equal(t, c.output.events()["process"], rows["process"].Exported)
	if len(rows["process"].Lost) == 0 {
		assert.Zero(t, stats.ActiveProcesses)
		assert.Len(t, named(c.output.logs, "tapio.process.exit"), len(named(c.output.logs, "tapio.process.fork")), "what is forked ends")
	}
}

// quietFor waits until no event of a family has been seen for so long, and none is on its way.
func (c *collector) quietFor(family string, pause time.Duration) (r row) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		before := c.stats().Ledger[family].Seen
		time.Sleep(pause)
		r = c.stats().Ledger[family]
		return r.Seen == before && r.InFlight == 0
	}, longPatience, pollInterval)
	return r
}

// processLimit is a cgroup with a limit of processes, in the v1 or the v2 hierarchy, whichever has the controller.
type processLimit struct {
	t    *testing.T
	dir  string
	isV1 bool
}

// limitProcesses of a scope.
func limitProcesses(t *testing.T, scope cgroup, limit int) processLimit {
	t.Helper()
	const v1 = "/sys/fs/cgroup/pids"
	l := processLimit{t: t, dir: scope.dir.Name()}
	if _, err := os.Stat(filepath.Join(v1, "cgroup.procs")); err == nil {
		l.isV1 = true
		l.dir, err = os.MkdirTemp(v1, "tapio-e2e-")
		require.NoError(t, err)
		t.Cleanup(func() {
			require.Eventually(t, func() bool { return syscall.Rmdir(l.dir) == nil }, patience, pollInterval, "remove %s", l.dir)
		})
	} else {
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(l.dir), "cgroup.subtree_control"), []byte("+pids"), 0))
	}
	require.NoError(t, os.WriteFile(filepath.Join(l.dir, "pids.max"), []byte(strconv.Itoa(limit)), 0))
	return l
}

// put a command that is in the scope, and all that it starts, under the limit.
func (l processLimit) put(c *exec.Cmd) {
	l.t.Helper()
	if l.isV1 { // a shell enters the cgroup and becomes the command
		c.Args = append([]string{"sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, l.dir, c.Path}, c.Args[1:]...)
		c.Path = tool(l.t, "sh")
	}
}

// isFree says that nothing counts against the limit any more, as those do that have ended and were not waited for.
func (l processLimit) isFree() bool {
	current, err := os.ReadFile(filepath.Join(l.dir, "pids.current"))
	return err == nil && strings.TrimSpace(string(current)) == "0"
}

var refusedForks = regexp.MustCompile(`(?m)^max (\d+)$`)

// refused is how many forks the limit has refused.
func (l processLimit) refused() int {
	l.t.Helper()
	events, err := os.ReadFile(filepath.Join(l.dir, "pids.events"))
	require.NoError(l.t, err)
	match := refusedForks.FindSubmatch(events)
	require.NotNil(l.t, match, "%s", events)
	return int(number(string(match[1])))
}

// cloneArgs are struct clone_args of linux/sched.h, as of Linux 5.5.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize uint64
}

// samePID COUNT has as many children with one pid, one after the other, each of which exits with its number.
func samePID(args []string) error {
	first := exec.Command("/bin/true")
	if err := first.Run(); err != nil {
		return err
	}
	pid := int32(first.Process.Pid)
	for number := range number(args[0]) {
		if err := runAs(pid, fmt.Sprintf("exit %d", number)); err != nil {
			return err
		}
	}
	fmt.Println(pid)
	return nil
}

// runAs runs a shell as the process of a pid that nobody has, and waits for it.
func runAs(pid int32, script string) error {
	path, argv, err := shell(script)
	if err != nil {
		return err
	}
	clone := cloneArgs{exitSignal: uint64(unix.SIGCHLD), setTID: uint64(uintptr(unsafe.Pointer(&pid))), setTIDSize: 1}
	env := []*byte{nil}
	child, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&clone)), unsafe.Sizeof(clone), 0)
	if errno != 0 {
		return fmt.Errorf("begin a process with pid %d: %w", pid, errno)
	}
	if child == 0 { // a copy of this process with this thread only: no more than these calls may be made in it
		syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
		syscall.RawSyscall(unix.SYS_EXIT, 127, 0, 0)
	}
	_, err = syscall.Wait4(int(child), nil, 0, nil)
	return err
}

func shell(script string) (path *byte, argv []*byte, err error) {
	for _, arg := range []string{"sh", "-c", script} {
		pointer, err := unix.BytePtrFromString(arg)
		if err != nil {
			return nil, nil, err
		}
		argv = append(argv, pointer)
	}
	path, err = unix.BytePtrFromString("/bin/sh")
	return path, append(argv, nil), err
}

// samePort COUNT PORT makes as many connections from this port to one other, one after the other. The first carries one
// byte, the next two, and so on.
func samePort(args []string) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	dialer := from(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(number(args[1]))})
	for number := range number(args[0]) {
		client, err := dialer.Dial("tcp4", listener.Addr().String())
		if err != nil {
			return err
		}
		if err := carry(client, listener, number+1); err != nil {
			return err
		}
	}
	return nil
}

func from(address net.Addr) net.Dialer {
	return net.Dialer{LocalAddr: address, Control: func(_, _ string, c syscall.RawConn) error {
		var setErr error
		err := c.Control(func(fd uintptr) {
			setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		})
		return errors.Join(err, setErr)
	}}
}

// carry so many bytes. The server is first to close, so that it is the one that keeps the connection for a while.
func carry(client net.Conn, listener net.Listener, bytes int64) error {
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	_, sendErr := io.CopyN(client, zeros{}, bytes)
	_, receiveErr := io.CopyN(io.Discard, server, bytes)
	serverErr := server.Close()
	_, endErr := io.Copy(io.Discard, client)
	return errors.Join(sendErr, receiveErr, serverErr, endErr, client.Close())
}

// TestUsedAgain: a pid is given to the next process, and a connection between the same ports follows the one before.
func TestUsedAgain(t *testing.T) {
	requireBPF(t)
	const processes, connections = 20, 50
	scope := newCgroup(t)
	c := startCollector(t, scope)
	forker := scope.start(t, "samePID", processes)
	pid := number(forker.line())
	forker.wait()
	port := int64(porttest.Free(t)) // of those that the kernel gives to nobody while none of the connections has it
	scope.start(t, "samePort", connections, port).wait()
	c.await("both ends of each connection", func(o *output) bool { return len(o.closes()) >= 2*connections })
	c.quiet()
	c.stopWithoutLoss()

	var codes []int64
	times := map[any]bool{}
	for _, span := range named(c.output.spans, "process.exec") {
		if span.pid() == pid && span.text("process.executable.name") != "true" {
			codes = append(codes, span.number("process.exit.code"))
			times[span.attributes["process.creation.time"]] = true
			assert.Equal(t, []any{"sh", "-c", fmt.Sprintf("exit %d", span.number("process.exit.code"))}, span.attributes["process.command_args"])
		}
	}
	assert.Equal(t, numbersFrom(0, processes), slices.Sorted(slices.Values(codes)))
	assert.Len(t, times, processes, "each began at another time")

	var sent, received []int64
	for _, record := range c.output.closes() {
		switch port {
		case record.number("network.local.port"):
			sent = append(sent, record.number("tapio.network.sent_bytes"))
		case record.number("network.peer.port"):
			received = append(received, record.number("tapio.network.received_bytes"))
		}
	}
	assert.Equal(t, numbersFrom(1, connections), slices.Sorted(slices.Values(sent)))
	assert.Equal(t, numbersFrom(1, connections), slices.Sorted(slices.Values(received)))
}

func numbersFrom(first, count int64) (numbers []int64) {
	for i := range count {
		numbers = append(numbers, first+i)
	}
	return numbers
}
