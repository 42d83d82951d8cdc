// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// workloads are what this test binary does when it is started as a program to be observed.
var workloads = map[string]func(args []string) error{}

const workloadEnv = "TAPIO_TEST_WORKLOAD"

func TestMain(m *testing.M) {
	if name := os.Getenv(workloadEnv); name != "" {
		if err := workloads[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := leaveAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := closePool(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// leaveAtOnce is for the workloads: with the race detector in it, a program would wait for a second before it ends.
func leaveAtOnce() error {
	return os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
}

// requireBPF skips where eBPF cannot be had, or fails where it must be.
func requireBPF(t testing.TB) {
	t.Helper()
	err := checkPrivileges()
	if err == nil {
		return
	}
	if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
		t.Fatalf("TAPIO_REQUIRE_BPF=1: %v", err)
	}
	t.Skip(err)
}

// patience is how long anything that must come about may take, on a machine with other work.
const patience = 30 * time.Second

// world is a cgroup of its own and a source that has it in scope.
type world struct {
	t      testing.TB
	cgroup string // its directory
	source *Source
	shared *sharedSource // where others have used that before; nil: it is the world's own

	// What the source had counted when the world began.
	countedBefore map[uint8]source.Counters
	missedBefore  []source.Capability

	mu      sync.Mutex
	records [][]byte

	stop chan struct{}
	done chan struct{}
}

func defaultOptions() Options {
	return Options{
		Families:         []string{familyProcess, familyNetwork},
		RingSize:         1 << 20,
		FlushInterval:    5 * time.Millisecond,
		MaxArgumentBytes: 1024,
		ReportInterval:   time.Minute,
	}
}

// newWorld has a source that worlds with the same options share, one after the other: loading the
// programs takes seconds in an emulated machine. Its cgroup is made when the source runs already.
func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	requireBPF(t)
	options := defaultOptions()
	if change != nil {
		change(&options)
	}
	if options.Cgroups != nil {
		return newOwnWorld(t, func(o *Options) { *o = options })
	}
	shared := takeSource(t, options)
	w := &world{t: t, source: shared.source, shared: shared, stop: make(chan struct{}), done: make(chan struct{})}
	t.Cleanup(func() { shared.release(t) }) // when nothing is left in the world's cgroup
	w.cgroup = newCgroup(t, shared.cgroup)
	shared.begin(t, w.cgroup)
	w.noteCounts()
	t.Cleanup(w.end)
	go w.read()
	return w
}

// objectOf is where a family's object stands.
func objectOf(family string) int {
	return slices.IndexFunc(objects, func(o object) bool { return o.name == family })
}

// newOwnWorld has a source of its own, for tests that change it, that leave something in its maps, or
// that look at how it begins or ends. The options that are changed have the world's cgroup.
func newOwnWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := newUnreadWorld(t, change)
	go w.read()
	return w
}

// newUnreadWorld is one of its own whose records are read only when it is finished; read must be
// started by the caller otherwise.
func newUnreadWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	requireBPF(t)
	cgroup := newCgroup(t, "")
	options := defaultOptions()
	options.Cgroups = []string{scopeOf(t, cgroup)}
	if change != nil {
		change(&options)
	}
	return openWorld(t, cgroup, options)
}

// openWorld loads a source for a cgroup.
func openWorld(t testing.TB, cgroup string, options Options) *world {
	t.Helper()
	opened, err := New(options, zaptest.NewLogger(t))
	require.NoError(t, err)
	w := &world{t: t, cgroup: cgroup, source: opened.(*Source), stop: make(chan struct{}), done: make(chan struct{})}
	t.Cleanup(func() {
		w.end()
		require.NoError(t, w.source.Close())
	})
	return w
}

// another is a second source for the same cgroup, started later. What the first one reads then is
// nobody's.
func (w *world) another() *world {
	w.finish()
	options := w.source.options
	options.Cgroups = []string{scopeOf(w.t, w.cgroup)}
	options.Families = slices.DeleteFunc(slices.Clone(options.Families), func(family string) bool { return family == familyCgroup })
	other := openWorld(w.t, w.cgroup, options)
	go other.read()
	return other
}

func scopeOf(t testing.TB, cgroup string) string {
	t.Helper()
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	scope, err := filepath.Rel(mount, cgroup)
	require.NoError(t, err)
	return scope
}

func (w *world) noteCounts() {
	w.t.Helper()
	var err error
	w.countedBefore, err = w.source.Counters()
	require.NoError(w.t, err)
	w.missedBefore = w.source.Capabilities()
}

// counters are those of the world's time.
func (w *world) counters() map[uint8]source.Counters {
	w.t.Helper()
	now, err := w.source.Counters()
	require.NoError(w.t, err)
	for family, before := range w.countedBefore {
		c := now[family]
		c.Seen -= before.Seen
		c.RingFull -= before.RingFull
		c.TableFull -= before.TableFull
		c.Unreadable -= before.Unreadable
		c.Throttled -= before.Throttled
		if now[family] = c; c == (source.Counters{}) {
			delete(now, family)
		}
	}
	return now
}

// missedRuns are those of the world's time, by hook.
func (w *world) missedRuns() map[string]uint64 {
	missed := map[string]uint64{}
	for i, c := range w.source.Capabilities() {
		missed[c.Hook] += c.MissedRuns
		if w.missedBefore != nil {
			missed[c.Hook] -= w.missedBefore[i].MissedRuns
		}
	}
	return missed
}

func (w *world) end() {
	w.finish()
	w.tellMissedRuns()
}

// tellMissedRuns says of a test that failed what the kernel has left out.
func (w *world) tellMissedRuns() {
	if !w.t.Failed() {
		return
	}
	for hook, missed := range w.missedRuns() {
		if missed > 0 {
			w.t.Logf("the kernel left out %d runs at %s", missed, hook)
		}
	}
}

// newCgroup makes a cgroup below parent (the mount if empty), removed when the test ends.
func newCgroup(t testing.TB, parent string) string {
	t.Helper()
	if parent == "" {
		mount, err := cgroup2Mount()
		require.NoError(t, err)
		parent = mount
	}
	dir, err := os.MkdirTemp(parent, "tapio-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		// its last process may still be on its way out
		require.Eventually(t, func() bool { return syscall.Rmdir(dir) == nil }, patience, 10*time.Millisecond)
	})
	return dir
}

func (w *world) read() {
	defer close(w.done)
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		if err := w.source.Read(w.keep); err != nil {
			w.t.Errorf("read: %v", err)
			return
		}
	}
}

func (w *world) keep(record []byte) {
	if w.shared != nil && !w.shared.isOfWorld(w.t, record) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, slices.Clone(record))
}

// finish stops reading; what is still in the rings is read. A source that is not shared ends.
func (w *world) finish() {
	select {
	case <-w.stop:
		return
	default:
	}
	close(w.stop)
	<-w.done
	if w.shared != nil {
		require.NoError(w.t, w.shared.readAll(w.keep))
		return
	}
	require.NoError(w.t, w.source.Stop(w.keep))
	require.NoError(w.t, w.source.Read(w.keep))
}

// ofType returns copies of the records of one type so far.
func (w *world) ofType(wanted event.Type) [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found [][]byte
	for _, record := range w.records {
		header, err := event.DecodeHeader(record)
		require.NoError(w.t, err)
		if event.Type(header.Type) == wanted {
			found = append(found, record)
		}
	}
	return found
}

// await waits until there are n records of a type.
func (w *world) await(wanted event.Type, n int) [][]byte {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return len(w.ofType(wanted)) >= n }, patience, 5*time.Millisecond,
		"%d records of type %#x", n, wanted)
	return w.ofType(wanted)
}

// command is a program that starts inside the world's cgroup.
func (w *world) command(name string, args ...string) *exec.Cmd {
	return commandIn(w.t, w.cgroup, name, args...)
}

func commandIn(t testing.TB, cgroup, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(cgroup)
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	command := exec.Command(name, args...)
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	command.Stderr = os.Stderr
	return command
}

// workload is this test binary as one of its workloads.
func (w *world) workload(name string, args ...string) *exec.Cmd {
	return workloadIn(w.t, w.cgroup, name, args...)
}

func workloadIn(t testing.TB, cgroup, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command := commandIn(t, cgroup, self, args...)
	command.Env = append(os.Environ(), workloadEnv+"="+name)
	return command
}

// talker is a workload that goes on step by step: each line that it is sent is answered by one.
type talker struct {
	t       testing.TB
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startTalker(t testing.TB, command *exec.Cmd) *talker {
	t.Helper()
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	return &talker{t: t, command: command, in: in, out: bufio.NewReader(out)}
}

// say sends a line and returns the answer.
func (k *talker) say(line string) string {
	k.t.Helper()
	_, err := fmt.Fprintln(k.in, line)
	require.NoError(k.t, err)
	return k.hear()
}

func (k *talker) hear() string {
	k.t.Helper()
	answer, err := k.out.ReadString('\n')
	require.NoError(k.t, err)
	return strings.TrimSpace(answer)
}

// end lets the workload come to its end.
func (k *talker) end() {
	k.t.Helper()
	require.NoError(k.t, k.in.Close())
	require.NoError(k.t, k.command.Wait())
}

func (k *talker) pid() uint32 { return uint32(k.command.Process.Pid) }

func zapNop() *zap.Logger { return zap.NewNop() }

// ownCgroup is a cgroup that this process is in until the test ends.
func ownCgroup(t testing.TB) string {
	t.Helper()
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	self, err := procfs.Self()
	require.NoError(t, err)
	cgroups, err := self.Cgroups()
	require.NoError(t, err)
	before := "/"
	for _, c := range cgroups {
		if c.HierarchyID == 0 {
			before = c.Path
		}
	}
	dir := newCgroup(t, "")
	enter := func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0))
	}
	enter(dir)
	t.Cleanup(func() { enter(filepath.Join(mount, before)) })
	return scopeOf(t, dir)
}
