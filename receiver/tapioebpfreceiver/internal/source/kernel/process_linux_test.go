// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["exit"] = func(args []string) error {
		os.Exit(number(args[0]))
		return nil
	}
	workloads["burn"] = burnWorkload
	workloads["leader-leaves"] = leaderLeavesWorkload
	workloads["thread-execs"] = threadExecsWorkload
	workloads["memfd"] = memfdWorkload
	workloads["hog"] = hogWorkload
	workloads["shrink"] = shrinkWorkload
	workloads["grow"] = growWorkload
}

// shrinkWorkload starts a small program in its place, in "/".
func shrinkWorkload([]string) error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return syscall.Exec("/bin/true", []string{"true"}, nil)
}

// growWorkload uses args[0] KiB of memory.
func growWorkload(args []string) error {
	memory := make([]byte, number(args[0])<<10)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	runtime.KeepAlive(memory)
	return nil
}

// burnWorkload uses 100 ms of CPU.
func burnWorkload([]string) error {
	for usage := (syscall.Rusage{}); usage.Utime.Nano() < 100e6; {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
	}
	return nil
}

// leaderLeavesWorkload ends its first thread while another one lives on and ends the process.
func leaderLeavesWorkload([]string) error {
	go func() {
		runtime.LockOSThread()
		time.Sleep(20 * time.Millisecond)
		os.Exit(5)
	}()
	// not RawSyscall, of which Go does not know, and whose end it would wait for before it collects garbage
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 9, 0, 0)
	return fmt.Errorf("the thread did not end")
}

// threadExecsWorkload starts a program from a thread that is not the first one.
func threadExecsWorkload([]string) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		failed <- syscall.Exec("/bin/sh", []string{"sh", "-c", "exit 6"}, nil)
	}()
	return <-failed
}

// memfdWorkload starts a program that is in memory only.
func memfdWorkload([]string) error {
	fd, err := unix.MemfdCreate("hidden", 0)
	if err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, self); err != nil {
		return err
	}
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"hidden", "3"}, []string{workloadEnv + "=exit"})
}

// hogWorkload takes memory until it is killed.
func hogWorkload([]string) error {
	for {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		hogged = append(hogged, block)
	}
}

var hogged [][]byte

type execution struct {
	event.ProcessExec
	exe, cwd string
	args     []string
}

func decodeExecs(t *testing.T, records [][]byte) map[uint32]execution {
	t.Helper()
	found := map[uint32]execution{}
	for _, record := range records {
		e, err := event.DecodeProcessExec(record)
		require.NoError(t, err)
		found[e.Header.Pid] = execution{
			ProcessExec: e,
			exe:         string(e.Exe.Append(nil, e.Flags&event.ExecExeTruncated != 0)),
			cwd:         string(e.Cwd.Append(nil, e.Flags&event.ExecCwdTruncated != 0)),
			args:        strings.Split(strings.TrimSuffix(string(e.Args), "\x00"), "\x00"),
		}
	}
	return found
}

func decodeExits(t *testing.T, records [][]byte) map[uint32]*bpf.WireProcessExit {
	t.Helper()
	found := map[uint32]*bpf.WireProcessExit{}
	for _, record := range records {
		e, err := event.DecodeProcessExit(record)
		require.NoError(t, err)
		require.NotContains(t, found, e.Header.Pid, "an end that was reported twice")
		found[e.Header.Pid] = e
	}
	return found
}

func resolved(t *testing.T, path string) string {
	t.Helper()
	target, err := filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return target
}

func TestExec(t *testing.T) {
	w := newWorld(t, nil)
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 200), strings.Repeat("e", 255), "f")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	long := strings.Repeat("x", 2000)

	for _, c := range []struct {
		name  string
		args  []string
		dir   string
		want  []string
		flags uint16
	}{
		{"plain", []string{"-c", "exit 0"}, "/", nil, 0},
		{"empty and odd arguments", []string{"-c", "exit 0", "", "a b", "ü€", "--x=\n"}, "/tmp", nil, 0},
		{"long names", []string{"-c", "exit 0"}, deep, nil, 0},
		{"arguments cut off", []string{"-c", "exit 0", long}, "/", []string{"/bin/sh", "-c", "exit 0", long[:1024-len("/bin/sh -c exit 0 ")]}, event.ExecArgsTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := w.command("/bin/sh", c.args...)
			command.Dir = c.dir
			before := len(w.ofType(event.TypeProcessExec))
			require.NoError(t, command.Run())
			got := decodeExecs(t, w.await(event.TypeProcessExec, before+1))[uint32(command.Process.Pid)]

			want := c.want
			if want == nil {
				want = append([]string{"/bin/sh"}, c.args...)
			}
			assert.Equal(t, want, got.args)
			assert.Equal(t, c.flags, got.Flags)
			assert.Equal(t, resolved(t, "/bin/sh"), got.exe)
			assert.Equal(t, resolved(t, c.dir), got.cwd)
			assert.EqualValues(t, os.Getpid(), got.Process.ParentPid)
			assert.EqualValues(t, command.Process.Pid, got.Process.Vpid)
			assert.Less(t, got.Header.StartTime, got.Header.Time)
			assert.NotZero(t, got.Header.CgroupId)
		})
	}
}

func TestExecAsAnotherUserInAnotherPIDNamespace(t *testing.T) {
	w := newWorld(t, nil)
	command := w.command("/bin/sh", "-c", "exit 0")
	command.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	command.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	require.NoError(t, command.Run())
	got := decodeExecs(t, w.await(event.TypeProcessExec, 1))[uint32(command.Process.Pid)]
	assert.EqualValues(t, 65534, got.Process.Uid)
	assert.EqualValues(t, 65534, got.Process.Euid)
	assert.EqualValues(t, 1, got.Process.Vpid)
}

func TestExecOfMemory(t *testing.T) {
	w := newWorld(t, nil)
	command := w.workload("memfd")
	assert.Error(t, command.Run())
	require.Equal(t, 3, command.ProcessState.ExitCode())
	got := decodeExecs(t, w.await(event.TypeProcessExec, 2)) // the last one of the pid
	assert.Equal(t, "/memfd:hidden", got[uint32(command.Process.Pid)].exe)
	assert.Equal(t, event.ExecExeUnlinked, got[uint32(command.Process.Pid)].Flags&event.ExecExeUnlinked)
}

func TestExecWithoutArguments(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) { o.Families, o.MaxArgumentBytes = []string{familyProcess}, 0 })
	command := w.command("/bin/sh", "-c", "exit 0")
	require.NoError(t, command.Run())
	got := decodeExecs(t, w.await(event.TypeProcessExec, 1))[uint32(command.Process.Pid)]
	assert.Empty(t, got.Args)
	assert.Zero(t, got.Flags)
}

func TestExit(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name   string
		script string
		code   int
		signal int
	}{
		{"success", "exit 0", 0, 0},
		{"failure", "exit 255", 255, 0},
		{"terminated", "kill -TERM $$", 0, int(unix.SIGTERM)},
		{"killed", "kill -KILL $$", 0, int(unix.SIGKILL)},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := w.command("/bin/sh", "-c", c.script)
			before := len(w.ofType(event.TypeProcessExit))
			_ = command.Run() // its error is what the test looks at
			got := decodeExits(t, w.await(event.TypeProcessExit, before+1))[uint32(command.Process.Pid)]
			require.NotNil(t, got)

			status := event.WaitStatus(got.Status)
			code, exited := status.ExitCode()
			assert.Equal(t, c.signal, status.Signal())
			assert.Equal(t, c.signal == 0, exited)
			if exited {
				assert.Equal(t, c.code, code)
			}
			assert.Equal(t, uint32(command.ProcessState.Sys().(syscall.WaitStatus)), got.Status)
			assert.EqualValues(t, command.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10, got.PeakMemory)
		})
	}
}

// TestPeakBefore: of who starts a program, and of what ran before in the same process, the kernel keeps the higher resident set.
func TestPeakBefore(t *testing.T) {
	w := newWorld(t, nil)
	small := w.workload("shrink") // starts a program that needs less in its place
	require.NoError(t, small.Run())
	var own syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	large := w.workload("grow", strconv.FormatInt(own.Maxrss+65536, 10))
	require.NoError(t, large.Run())
	exits, execs := decodeExits(t, w.await(event.TypeProcessExit, 2)), decodeExecs(t, w.ofType(event.TypeProcessExec))

	pid := uint32(small.Process.Pid)
	assert.Equal(t, "/", execs[pid].cwd, "the last one")
	assert.NotZero(t, execs[pid].Process.PeakBefore)
	assert.EqualValues(t, exits[pid].PeakMemory, uint64(execs[pid].Process.PeakBefore)<<10)
	pid = uint32(large.Process.Pid)
	assert.NotZero(t, execs[pid].Process.PeakBefore)
	assert.Greater(t, exits[pid].PeakMemory, uint64(execs[pid].Process.PeakBefore)<<10)
	assert.EqualValues(t, large.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10, exits[pid].PeakMemory)
}

func TestExitAccountsForCPUTimeOfAllThreads(t *testing.T) {
	w := newWorld(t, nil)
	var closest int64 = math.MaxInt64
	// the scheduler brings the running thread's time up to date at its ticks only, and a guest's CPU
	// may itself have to wait: so it is the best of some
	for n := 1; n <= 5 && closest > int64(30*time.Millisecond); n++ {
		command := w.workload("burn")
		require.NoError(t, command.Run())
		got := decodeExits(t, w.await(event.TypeProcessExit, n))[uint32(command.Process.Pid)]
		require.NotNil(t, got)
		usage := command.ProcessState.SysUsage().(*syscall.Rusage)
		off := usage.Utime.Nano() + usage.Stime.Nano() - int64(got.CpuTime)
		closest = min(closest, max(off, -off))
	}
	assert.LessOrEqual(t, time.Duration(closest), 30*time.Millisecond)
}

// The last threads often leave at the same moment, so it takes a few to see that just one of them
// reports the end.
func TestExitIsOfTheLastThread(t *testing.T) {
	const processes = 20
	w := newWorld(t, nil)
	for range processes {
		command := w.workload("leader-leaves")
		assert.Error(t, command.Run())
		require.Equal(t, 5, command.ProcessState.ExitCode())
	}
	got := decodeExits(t, w.await(event.TypeProcessExit, processes))
	require.Len(t, got, processes)
	for _, exit := range got {
		code, _ := event.WaitStatus(exit.Status).ExitCode()
		assert.Equal(t, 5, code)
	}
}

func TestExecByThreadKeepsTheProcess(t *testing.T) {
	w := newWorld(t, nil)
	command := w.workload("thread-execs")
	assert.Error(t, command.Run())
	execs := w.await(event.TypeProcessExec, 2)
	first, err := event.DecodeProcessExec(execs[0])
	require.NoError(t, err)
	second, err := event.DecodeProcessExec(execs[1])
	require.NoError(t, err)
	assert.Equal(t, first.Header.Pid, second.Header.Pid)
	assert.Equal(t, first.Header.StartTime, second.Header.StartTime)
	exit := decodeExits(t, w.await(event.TypeProcessExit, 1))[first.Header.Pid]
	assert.Equal(t, first.Header.StartTime, exit.Header.StartTime)
}

func TestForkWithoutExec(t *testing.T) {
	w := newWorld(t, nil)
	command := w.command("/bin/sh", "-c", "(exit 4) & wait $!")
	assert.Error(t, command.Run())
	exits := decodeExits(t, w.await(event.TypeProcessExit, 2))
	var child *bpf.WireProcessFork
	for _, record := range w.ofType(event.TypeProcessFork) {
		fork, err := event.DecodeProcessFork(record)
		require.NoError(t, err)
		if fork.Process.ParentPid == uint32(command.Process.Pid) {
			child = fork
		}
	}
	require.NotNil(t, child)
	code, _ := event.WaitStatus(exits[child.Header.Pid].Status).ExitCode()
	assert.Equal(t, 4, code)
	assert.Equal(t, exits[child.Header.Pid].Header.StartTime, child.Header.StartTime)
}

func TestOOMKill(t *testing.T) {
	w := newWorld(t, nil)
	command := w.workload("hog")
	enter := memoryLimit(t, w, 64<<20)
	enter(command)
	require.Error(t, command.Run())
	record := w.await(event.TypeProcessOOMKill, 1)[0]
	kill, err := event.DecodeProcessOOMKill(record)
	require.NoError(t, err)
	assert.EqualValues(t, command.Process.Pid, kill.Header.Pid)
	exit := decodeExits(t, w.await(event.TypeProcessExit, 1))[kill.Header.Pid]
	assert.Equal(t, int(unix.SIGKILL), event.WaitStatus(exit.Status).Signal())
}

// memoryLimit prepares a limit, in the v1 or the v2 hierarchy, whichever has the memory controller,
// and returns what puts a command under it.
func memoryLimit(t *testing.T, w *world, bytes int) func(*exec.Cmd) {
	t.Helper()
	limit := []byte(strconv.Itoa(bytes))
	const v1 = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(filepath.Join(v1, "memory.limit_in_bytes")); err == nil {
		dir := newCgroup(t, v1)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), limit, 0))
		return func(c *exec.Cmd) {
			// a shell enters the v1 cgroup and becomes the workload
			c.Args = append([]string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, dir, c.Path}, c.Args[1:]...)
			c.Path = "/bin/sh"
		}
	}
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	for _, parent := range []string{mount, filepath.Dir(w.cgroup)} {
		require.NoError(t, os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0))
	}
	require.NoError(t, os.WriteFile(filepath.Join(w.cgroup, "memory.max"), limit, 0))
	return func(*exec.Cmd) {}
}

func TestScope(t *testing.T) {
	w := newWorld(t, nil)
	outside, inside := newCgroup(t, ""), newCgroup(t, w.cgroup)
	stranger := commandIn(t, outside, "/bin/sh", "-c", "exit 1")
	require.Error(t, stranger.Run())
	nested := commandIn(t, inside, "/bin/sh", "-c", "exit 0")
	require.NoError(t, nested.Run())
	own := w.command("/bin/sh", "-c", "exit 0")
	require.NoError(t, own.Run())

	execs := decodeExecs(t, w.await(event.TypeProcessExec, 2))
	w.finish()
	assert.Len(t, w.ofType(event.TypeProcessExec), 2)
	assert.Contains(t, execs, uint32(nested.Process.Pid))
	assert.Contains(t, execs, uint32(own.Process.Pid))
}

func TestProcessesThatAreOlder(t *testing.T) {
	w := newWorld(t, nil)
	old := w.command("/bin/sleep", "100")
	require.NoError(t, old.Start())
	t.Cleanup(func() { old.Process.Kill(); old.Wait() })
	w.await(event.TypeProcessExec, 1)

	started := decodeExecs(t, w.ofType(event.TypeProcessExec))[uint32(old.Process.Pid)]
	known := w.source.Processes()
	require.Len(t, known, 1)
	assert.EqualValues(t, old.Process.Pid, known[0].PID)
	assert.EqualValues(t, os.Getpid(), known[0].ParentPID)
	assert.Equal(t, started.exe, known[0].Executable)
	assert.Equal(t, started.Header.StartTime/10_000_000, known[0].StartTicks, "both clocks name the process alike")

	one, ok := w.source.Process(uint32(old.Process.Pid))
	assert.True(t, ok)
	assert.Equal(t, known[0], one)
	_, ok = w.source.Process(1)
	assert.False(t, ok, "not in scope")
}

// TestABurstWakesTheReader: long before it would come by itself, and before the ring for processes is full. A reader that
// is woken may still have to wait for a CPU: so it is the best of some.
func TestABurstWakesTheReader(t *testing.T) {
	lost := lostOfBurst(t)
	for n := 1; n < 5 && lost > 0; n++ {
		lost = lostOfBurst(t)
	}
	assert.Zero(t, lost)
}

func lostOfBurst(t *testing.T) uint64 {
	t.Helper()
	w := newOwnWorld(t, func(o *Options) {
		o.Families, o.RingSize, o.FlushInterval = []string{familyProcess}, 64<<10, 10*time.Second
	})
	time.Sleep(100 * time.Millisecond) // it waits
	storm := w.command("/bin/sh", "-c", "i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done")
	require.NoError(t, storm.Run())
	w.finish()
	process := w.counters()[uint8(event.FamilyProcess)]
	assert.Greater(t, process.Seen, uint64(1000), "three times what the ring has room for")
	return process.RingFull
}

// TestAFullRingWakesTheReaderNowAndThen: while nobody reads, not every record of a ring that has much in it does. Of the
// thousand beyond a quarter of it, some ten do behind each of five marks.
func TestAFullRingWakesTheReaderNowAndThen(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) { o.Families, o.RingSize = []string{familyProcess}, 32<<20 })
	ring := w.source.mapNamed("lifecycle_ring")
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(poll)
	require.NoError(t, unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, ring.FD(), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}))

	storm := w.command("/bin/sh", "-c", "i=0; while [ $i -lt 1000 ]; do /bin/true "+strings.Repeat("x", 1000)+"; i=$((i+1)); done")
	require.NoError(t, storm.Start())
	ended := make(chan error, 1)
	go func() { ended <- storm.Wait() }()
	wakeUps := 0
	for isOver := false; !isOver; {
		select {
		case err := <-ended:
			require.NoError(t, err)
			isOver = true
		default:
		}
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(poll, events[:], 10)
		if !errors.Is(err, unix.EINTR) {
			require.NoError(t, err)
			wakeUps += n
		}
	}
	close(w.done)
	w.finish()
	bytes := 0
	for _, record := range w.records {
		bytes += len(record)
	}
	require.Greater(t, bytes, int(ring.MaxEntries())*5/16, "of %d, much more than a quarter", ring.MaxEntries())
	assert.Greater(t, wakeUps, 1, "the first may be for what was there before")
	assert.LessOrEqual(t, wakeUps, 100)
}

// TestNothingIsLostInSilence lets a small ring overflow: what was seen was read or is counted.
func TestNothingIsLostInSilence(t *testing.T) {
	w := newUnreadWorld(t, func(o *Options) { o.Families, o.RingSize = []string{familyProcess}, 64<<10 })
	storm := w.command("/bin/sh", "-c", "i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done")
	require.NoError(t, storm.Run())
	close(w.done) // nobody read meanwhile
	w.finish()
	process := w.counters()[uint8(event.FamilyProcess)]
	read := len(w.ofType(event.TypeProcessExec)) + len(w.ofType(event.TypeProcessFork)) + len(w.ofType(event.TypeProcessExit))
	assert.Positive(t, process.RingFull)
	assert.EqualValues(t, process.Seen, uint64(read)+process.RingFull)
	var missed uint64 // by a kernel that preempts programs
	for _, runs := range w.missedRuns() {
		missed += runs
	}
	assert.InDelta(t, 3*400+2+1, process.Seen, float64(missed), "exec, fork and exit of each, and of the shell all but its fork")
}

// TestNothingIsLeftOut has more processes at a time than CPUs, so that a kernel that preempts programs
// finds each of them running already now and then. What another program makes up for is most of it.
func TestNothingIsLeftOut(t *testing.T) {
	const shells, each = 8, 50
	w := newOwnWorld(t, func(o *Options) { o.Families, o.RingSize = []string{familyProcess}, 8<<20 })
	var running []*exec.Cmd
	for range shells {
		storm := w.command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done", each))
		require.NoError(t, storm.Start())
		running = append(running, storm)
	}
	for _, storm := range running {
		require.NoError(t, storm.Wait())
	}
	w.finish()
	missed := w.missedRuns()
	for hook, kind := range map[string]event.Type{
		"tp_btf/sched_process_fork": event.TypeProcessFork,
		"tp_btf/sched_process_exec": event.TypeProcessExec,
		"tp_btf/sched_process_exit": event.TypeProcessExit,
	} {
		lost := shells*(each+1) - len(w.ofType(kind))
		t.Logf("%s: %d of %d lost, at most %d by missed runs", hook, lost, shells*(each+1), missed[hook])
		assert.LessOrEqual(t, lost, 1+shells*each/100, hook)
		assert.LessOrEqual(t, uint64(lost), missed[hook], "what is lost is counted: %s", hook)
	}
}

func TestGone(t *testing.T) {
	w := newWorld(t, nil)
	process := w.command("/bin/sleep", "100")
	require.NoError(t, process.Start())
	pid := uint32(process.Process.Pid)
	known, ok := w.source.Process(pid)
	require.True(t, ok)
	assert.False(t, w.source.Gone(pid, known.StartTicks))
	assert.True(t, w.source.Gone(pid, known.StartTicks+1), "another process of the same pid")

	elsewhere := newCgroup(t, "")
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "cgroup.procs"), []byte(strconv.Itoa(int(pid))), 0))
	assert.True(t, w.source.Gone(pid, known.StartTicks), "out of scope")

	require.NoError(t, process.Process.Kill())
	assert.Error(t, process.Wait())
	assert.True(t, w.source.Gone(pid, known.StartTicks))
}

// TestForeignPIDs is a collector in a pid namespace of its own: the numbers in its /proc are not
// those that programs see.
func TestForeignPIDs(t *testing.T) {
	w := newWorld(t, nil)
	process := w.command("/bin/sleep", "100")
	require.NoError(t, process.Start())
	t.Cleanup(func() { process.Process.Kill(); process.Wait() })
	require.False(t, w.source.foreignPIDs)
	w.source.foreignPIDs = true
	t.Cleanup(func() { w.source.foreignPIDs = false })
	assert.Empty(t, w.source.Processes())
	_, ok := w.source.Process(uint32(process.Process.Pid))
	assert.False(t, ok)
	assert.False(t, w.source.Gone(uint32(process.Process.Pid), 1), "that cannot be told")
}
