// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	familiesInAWorld = 100
	familiesAtATime  = 3
)

// Families of processes are drawn so that it is known by construction what must be told of each of them.
// TAPIO_PROCESS_SEED=17 TAPIO_PROCESS_FAMILIES=1 has one live again, and with TAPIO_PROCESS_FAMILIES=5000 the test takes minutes.
func TestWhateverProcessesDoIsToldAsItIs(t *testing.T) {
	first, count := drawnFrom(t, "TAPIO_PROCESS_SEED", "TAPIO_PROCESS_FAMILIES", 40)
	for ; count > 0; first, count = first+min(count, familiesInAWorld), count-min(count, familiesInAWorld) {
		t.Run(fmt.Sprintf("from %d", first), func(t *testing.T) { requireFamiliesToldAsDrawn(t, first, min(count, familiesInAWorld)) })
	}
}

func requireFamiliesToldAsDrawn(t *testing.T, first, count uint64) {
	t.Helper()
	w := newWorld(t, func(o *Options) { o.Families, o.RingSize = []string{familyProcess}, 16<<20 })
	dir, cgroups := familyDirectory(t, w)
	lives := make([]*familyLife, count)
	places := make(chan struct{}, familiesAtATime)
	for i := range lives {
		places <- struct{}{}
		lives[i] = startFamily(t, w, first+uint64(i), dir)
		go func() {
			lives[i].await()
			<-places
		}()
	}
	for _, life := range lives {
		<-life.over
		require.NoError(t, life.err, "family %d: %s", life.seed, life.family)
	}
	w.finish()
	told := w.processMoments(cgroups)
	seen := uint64(len(told))
	for _, life := range lives {
		told = life.requireToldAsDrawn(t, told)
	}
	assert.Empty(t, told, "what nobody has done")
	assert.Equal(t, source.Counters{Seen: seen}, w.counters()[uint8(event.FamilyProcess)])
}

// familyDirectory has what families need, and under which names their cgroups are told.
func familyDirectory(t *testing.T, w *world) (dir string, cgroups map[uint64]string) {
	t.Helper()
	dir, cgroups = t.TempDir(), map[uint64]string{}
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // for others than root
	self, err := os.Executable()
	require.NoError(t, err)
	for name, text := range map[string]string{
		"script":         "#!" + self + " -one argument\n",
		"script-of-none": "#!/does/not/exist\n",
		"garbage":        "\x00\x01 garbage",
		"broken":         brokenProgram(),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "not-executable"), nil, 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "deep", strings.Repeat("d", 200)), 0o755))
	require.NoError(t, os.Symlink(self, filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	t.Cleanup(func() { killFamilies(t, dir) })
	for name, cgroup := range map[string]string{cgroupOfWorld: w.cgroup, cgroupInside: newCgroup(t, w.cgroup), cgroupOutside: newCgroup(t, "")} {
		require.NoError(t, os.Symlink(cgroup, filepath.Join(dir, name)))
		var stat unix.Stat_t
		require.NoError(t, unix.Stat(cgroup, &stat))
		cgroups[stat.Ino] = name
	}
	return dir, cgroups
}

// killFamilies that should have ended, and have not.
func killFamilies(t *testing.T, dir string) {
	t.Helper()
	if !t.Failed() {
		return
	}
	for _, name := range []string{cgroupOfWorld, cgroupOutside} {
		if err := os.WriteFile(filepath.Join(dir, name, "cgroup.kill"), []byte("1"), 0); err != nil {
			t.Logf("kill what is left in the cgroup %s: %v", name, err) // Linux 5.14 has this first
		}
	}
}

// brokenProgram is an executable whose only segment belongs where the kernel is, which is noticed when what was there before is gone.
func brokenProgram() string {
	var head, segment []byte
	machine := map[string]uint16{"amd64": 62, "arm64": 183}
	head = append(head, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	head = binary.LittleEndian.AppendUint16(head, 2) // ET_EXEC
	head = binary.LittleEndian.AppendUint16(head, machine[runtime.GOARCH])
	head = binary.LittleEndian.AppendUint32(head, 1)
	head = binary.LittleEndian.AppendUint64(head, 0x400000) // entry
	head = binary.LittleEndian.AppendUint64(head, 64)       // where the segments' headers are
	head = binary.LittleEndian.AppendUint64(head, 0)
	head = binary.LittleEndian.AppendUint32(head, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		head = binary.LittleEndian.AppendUint16(head, n)
	}
	segment = binary.LittleEndian.AppendUint32(segment, 1) // PT_LOAD
	segment = binary.LittleEndian.AppendUint32(segment, 5) // read, execute
	for _, n := range []uint64{0, 0xffff_8000_0000_0000, 0, 120, 120, 4096} {
		segment = binary.LittleEndian.AppendUint64(segment, n)
	}
	return string(head) + string(segment)
}

// familyLife is one that is lived.
type familyLife struct {
	*family
	command *exec.Cmd
	alive   *os.File
	over    chan struct{}
	err     error
}

func startFamily(t *testing.T, w *world, seed uint64, dir string) *familyLife {
	t.Helper()
	fd, err := unix.MemfdCreate("results", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	shared := os.NewFile(uintptr(fd), "results")
	defer shared.Close()
	require.NoError(t, shared.Truncate(resultCount*8))
	results, err := mapResults(shared)
	require.NoError(t, err)
	alive, theirs, err := os.Pipe()
	require.NoError(t, err)
	defer theirs.Close()
	life := &familyLife{family: drawFamily(seed, dir, results), alive: alive, over: make(chan struct{})}
	life.command = w.workload("family")
	life.command.Env = append(life.command.Env, familySeedEnv+"="+strconv.FormatUint(seed, 10), familyPlaceEnv+"=1", familyDirEnv+"="+dir, familyByEnv+"="+byTheFirstThread)
	life.command.Dir = dir
	life.command.ExtraFiles = []*os.File{shared, theirs}
	require.NoError(t, life.command.Start())
	return life
}

// await the end of the last of them.
func (l *familyLife) await() {
	defer close(l.over)
	l.alive.SetReadDeadline(time.Now().Add(2 * patience))
	if _, l.err = io.Copy(io.Discard, l.alive); l.err != nil {
		l.err = fmt.Errorf("wait for all to end: %w", l.err)
		l.command.Process.Kill()
	}
	l.command.Wait() // how it ends is drawn
	l.alive.Close()
}

// --- what is told ----------------------------------------------------------------------------

// toldMoment is something that is told of a process.
type toldMoment struct {
	header   bpf.WireEventHeader
	identity *bpf.WireProcessIdentity // nil: an end
	what     string
	exe, cwd string
	args     string
	flags    uint16
	exit     *bpf.WireProcessExit
	cgroup   string
}

func (w *world) processMoments(cgroups map[uint64]string) (all []toldMoment) {
	w.t.Helper()
	for _, record := range w.records {
		header, err := event.DecodeHeader(record)
		require.NoError(w.t, err)
		if header.Type>>8 != uint16(event.FamilyProcess) {
			continue
		}
		m := toldMoment{header: *header, cgroup: cgroups[header.CgroupId]}
		switch event.Type(header.Type) {
		case event.TypeProcessFork:
			e, err := event.DecodeProcessFork(record)
			require.NoError(w.t, err)
			m.what, m.identity = "fork", &e.Process
		case event.TypeProcessExec:
			e, err := event.DecodeProcessExec(record)
			require.NoError(w.t, err)
			m.what, m.identity, m.args, m.flags = "exec", &e.Process, string(e.Args), e.Flags
			m.exe, m.cwd = string(e.Exe.Append(nil, false)), string(e.Cwd.Append(nil, false))
		case event.TypeProcessExit:
			e, err := event.DecodeProcessExit(record)
			require.NoError(w.t, err)
			m.what, m.exit = "exit", e
		default:
			w.t.Errorf("a record of type %#x", header.Type)
		}
		all = append(all, m)
	}
	return all
}

// requireToldAsDrawn takes what was told of a family out of all that was told.
func (l *familyLife) requireToldAsDrawn(t *testing.T, told []toldMoment) (rest []toldMoment) {
	t.Helper()
	names := l.nameAll(told)
	byName := map[string][]toldMoment{}
	for _, m := range told {
		if name, ours := names[m.header.Pid]; ours {
			byName[name] = append(byName[name], m)
		} else {
			rest = append(rest, m)
		}
	}
	good := true
	for _, m := range l.members {
		good = assert.Equal(t, l.wanted(m, byName[m.name]), l.texts(m, byName[m.name], names), "family %d: process %s", l.seed, m.name) && good
		good = good && l.assertAgree(t, m, byName)
	}
	if !good {
		t.Log(l.family)
	}
	return rest
}

// nameAll finds the host's number of each: of those in a namespace of their own it is told when they are made.
func (l *familyLife) nameAll(told []toldMoment) map[uint32]string {
	names, numbers := map[uint32]string{}, map[*member]uint32{}
	for _, m := range l.members {
		number := uint32(l.command.Process.Pid)
		if m.maker != nil {
			number = uint32(l.results[m.pid])
		}
		if m.maker != nil && m.maker.namespace != nil {
			parent := numbers[m.told[0].of.parent]
			i := slices.IndexFunc(told, func(f toldMoment) bool {
				return f.what == "fork" && f.identity.ParentPid == parent && f.identity.Vpid == number
			})
			if i < 0 {
				continue
			}
			number = told[i].header.Pid
		}
		names[number], numbers[m] = m.name, number
	}
	return names
}

func (l *familyLife) vpid(m *member) uint32 {
	switch {
	case m.maker == nil:
		return uint32(l.command.Process.Pid)
	case m.namespace == m:
		return 1
	}
	return uint32(l.results[m.pid])
}

const byTheTest = "the test"

func (l *familyLife) wanted(m *member, told []toldMoment) []string {
	lines := []string{}
	for i, want := range m.told {
		if want.what == "exit" {
			lines = append(lines, fmt.Sprintf("exit %#x in %s", l.status(m, want.status), want.of.cgroup))
			continue
		}
		comm := want.of.comm
		if number := strconv.Itoa(want.byFD); want.byFD != 0 && i < len(told) && told[i].identity != nil && commOf(told[i].identity) == number {
			comm = number
		}
		session := byTheTest
		if want.of.session != nil {
			session = want.of.session.name
		}
		lines = append(lines, identityText(want.what, l.parent(m, want), l.vpid(m), want.of.uid, want.of.euid, session, comm, want.of.cgroup)+
			programText(want.what, want.exe, want.of.cwd, want.args, want.flags))
	}
	return lines
}

// status with the bit that says that there is a core, where a parent was told it.
func (l *familyLife) status(m *member, drawn uint32) uint32 {
	if m.waited != 0 && drawn&0x7f != 0 {
		drawn |= uint32(l.results[m.waited]) & coreDumped
	}
	return drawn
}

const coreDumped = 0x80

func (l *familyLife) parent(m *member, want moment) string {
	switch {
	case want.of.parent != nil:
		return want.of.parent.name
	case m.maker == nil:
		return byTheTest
	case m.namespace != nil:
		return m.namespace.name
	}
	return fmt.Sprint(l.results[want.reaper])
}

func commOf(p *bpf.WireProcessIdentity) string {
	text, _, _ := strings.Cut(string(p.Comm[:]), "\x00")
	return text
}

func identityText(what, parent string, vpid, uid, euid uint32, session, comm, cgroup string) string {
	return fmt.Sprintf("%s by %s vpid %d uid %d euid %d session %s comm %q in %s", what, parent, vpid, uid, euid, session, comm, cgroup)
}

func programText(what, exe, cwd, args string, flags uint16) string {
	if what != "exec" {
		return ""
	}
	return fmt.Sprintf(" of %s at %s flags %#x arguments %d %s", exe, cwd, flags, len(args), shortened(args))
}

func (l *familyLife) texts(m *member, told []toldMoment, names map[uint32]string) []string {
	lines := []string{}
	for _, got := range told {
		if got.what == "exit" {
			status := got.exit.Status
			if m.waited == 0 {
				status &^= coreDumped
			}
			lines = append(lines, fmt.Sprintf("exit %#x in %s", status, got.cgroup))
			continue
		}
		p := got.identity
		lines = append(lines, identityText(got.what, nameIn(names, p.ParentPid), p.Vpid, p.Uid, p.Euid, nameIn(names, p.Session), commOf(p), got.cgroup)+
			programText(got.what, got.exe, got.cwd, got.args, got.flags))
	}
	return lines
}

func nameIn(names map[uint32]string, pid uint32) string {
	session, _ := unix.Getsid(0)
	switch name, ours := names[pid]; {
	case ours:
		return name
	case pid == uint32(os.Getpid()) || pid == uint32(session):
		return byTheTest
	}
	return fmt.Sprint(pid)
}

// assertAgree on when processes were started and when things happened, and on what was used.
func (l *familyLife) assertAgree(t *testing.T, m *member, byName map[string][]toldMoment) bool {
	t.Helper()
	told, good := byName[m.name], true
	for i, got := range told {
		good = assert.Equal(t, told[0].header.StartTime, got.header.StartTime, "family %d: %s has begun once", l.seed, m.name) && good
		good = assert.LessOrEqual(t, told[max(0, i-1)].header.Time, got.header.Time, "family %d: %s has an order", l.seed, m.name) && good
		good = assert.LessOrEqual(t, got.header.StartTime, got.header.Time) && good
		if parent := m.told[i].of.parent; got.identity != nil && parent != nil && len(byName[parent.name]) > 0 {
			good = assert.Equal(t, byName[parent.name][0].header.StartTime, got.identity.ParentStartTime, "family %d: the parent of %s", l.seed, m.name) && good
		}
	}
	if m.waited == 0 || len(told) == 0 || told[len(told)-1].exit == nil {
		return good
	}
	status := uint32(l.results[m.waited])
	good = assert.Equal(t, status, told[len(told)-1].exit.Status, "family %d: as the parent of %s is told it", l.seed, m.name) && good
	if m.children > 0 { // whose use is their parent's, too
		return good
	}
	usage := (*syscall.Rusage)(unsafe.Pointer(&l.results[m.usage]))
	return assert.EqualValues(t, usage.Maxrss<<10, told[len(told)-1].exit.PeakMemory, "family %d: %s", l.seed, m.name) && good
}
