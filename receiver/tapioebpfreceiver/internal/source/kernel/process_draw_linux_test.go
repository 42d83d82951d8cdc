// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// family is a tree of processes: what they do, and what is told of them.
type family struct {
	seed    uint64
	calls   []familyCall
	members []*member // the first one is started by the test
	text    []string  // of what they do
	results *[resultCount]int64
	keep    []any // what the kernel is given the addresses of
}

// member is one process.
type member struct {
	name      string
	pid       int            // whose result is its pid, as the process that made it numbers it; 0: the first one
	maker     *member        // who made it
	namespace *member        // the first one of its pid namespace; nil: the host's
	killed    syscall.Signal // by its parent
	waited    int            // where its status is, as its parent was told it; 0: it was not
	usage     int            // where what it used is, likewise
	children  int
	told      []moment
	state
}

// state is what a process inherits.
type state struct {
	parent    *member // nil: it has none of the family any more
	comm      string
	uid, euid uint32
	session   *member // nil: the test's
	cgroup    string
	cwd       string
	thread    string // that makes the calls; "": it was forked and has one
}

// moment is something that is told of a process.
type moment struct {
	what   string
	of     state
	reaper int // whose result is its parent, if that is none of the family
	exe    string
	args   string
	flags  uint16
	status uint32
	byFD   int // a program that was started by its number has that as its name, before Linux 6.14; 0: it was not
}

// Where a process is. Nothing is told of one while it is outside.
const (
	cgroupOfWorld = "world"
	cgroupInside  = "inside"
	cgroupOutside = "outside"
)

const (
	membersAtMost = 14
	extraResults  = 2048 // results that are no call's begin there
)

type familyDrawer struct {
	*rand.Rand
	family
	dir     string // with the files that a family needs
	extra   int
	pending []func()
}

func drawFamily(seed uint64, dir string, results *[resultCount]int64) *family {
	d := &familyDrawer{Rand: rand.New(rand.NewPCG(seed, 22)), dir: dir, extra: extraResults}
	d.seed, d.results = seed, results
	d.calls = []familyCall{{number: syscall.SYS_GETPID}} // so that no number is 0
	root := &member{name: "0", state: state{cgroup: cgroupOfWorld, cwd: dir, thread: byTheFirstThread, comm: d.programName()}}
	d.members = []*member{root}
	root.tell(moment{what: "fork"})
	root.tell(moment{what: "exec", exe: d.program(), args: d.program() + "\x00"})
	d.begin()
	d.live(root, role{caring: true})
	for len(d.pending) > 0 {
		next := d.pending[0]
		d.pending = d.pending[1:]
		next()
	}
	return &d.family
}

// tell a moment as it is now. Of a process that is made by the test the state before is not known.
func (m *member) tell(what moment) {
	if what.of = m.state; m.cgroup != cgroupOutside {
		m.told = append(m.told, what)
	}
}

func (d *familyDrawer) chance(percent int) bool { return d.IntN(100) < percent }

func choose[T any](d *familyDrawer, values ...T) T { return values[d.IntN(len(values))] }

// --- calls -----------------------------------------------------------------------------------

func (d *familyDrawer) call(number uintptr, args ...uintptr) int {
	c := familyCall{number: number}
	copy(c.args[:], args)
	d.calls = append(d.calls, c)
	return len(d.calls) - 1
}

func (d *familyDrawer) last() *familyCall { return &d.calls[len(d.calls)-1] }

func (d *familyDrawer) note(m *member, format string, args ...any) {
	d.text = append(d.text, fmt.Sprintf("%3d %s: ", len(d.calls), m.name)+fmt.Sprintf(format, args...))
}

// result that is no call's own.
func (d *familyDrawer) result(words int) (number int, address uintptr) {
	number = d.extra
	if d.extra += words; d.results != nil {
		address = uintptr(unsafe.Pointer(&d.results[number]))
	}
	return number, address
}

func (d *familyDrawer) bytes(text string) uintptr {
	b := append([]byte(text), 0)
	d.keep = append(d.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

func (d *familyDrawer) words(words ...uintptr) uintptr {
	d.keep = append(d.keep, words)
	return uintptr(unsafe.Pointer(&words[0]))
}

func (d *familyDrawer) strings(all []string) uintptr {
	words := make([]uintptr, 0, len(all)+1)
	for _, one := range all {
		words = append(words, d.bytes(one))
	}
	return d.words(append(words, 0)...)
}

func (d *familyDrawer) pause() {
	d.call(syscall.SYS_PPOLL, 0, 0, 0, 0)
	d.last().again = forever // Go's runtime sends its threads signals, too
}

// reset what a signal does: Go's runtime has handlers, which a forked process cannot run.
func (d *familyDrawer) reset(signal syscall.Signal) {
	d.call(syscall.SYS_RT_SIGACTION, uintptr(signal), d.words(0, 0, 0, 0), 0, 8)
}

// --- a life ----------------------------------------------------------------------------------

// role is how a process stands to who made it.
type role struct {
	caring   bool // it waits for all whom it makes
	orphan   bool // it begins when its parent has gone
	alone    bool // nobody waits for it, and its parent goes some time
	killed   bool // its parent kills it, when it is ready
	ready    int  // whose result says so
	parentID int  // whose result is the parent's pid
	adopted  bool // its parent is who made its maker
	spare    bool // it is the first of its pid namespace, and immune to signals
}

func (d *familyDrawer) live(m *member, r role) {
	if r.orphan {
		d.note(m, "waits until it is an orphan")
		d.call(syscall.SYS_GETPPID)
		d.last().again, d.last().againThan = whileTheSame, r.parentID
		m.parent = nil
	}
	orphaned := len(d.calls) - 1
	for range d.IntN(5) {
		d.act(m, r, orphaned)
	}
	if r.caring {
		d.call(syscall.SYS_WAIT4, ^uintptr(0), 0, unix.WALL, 0)
		d.last().again = whilePositive
	}
	d.end(m, r, orphaned)
}

func (d *familyDrawer) act(m *member, r role, orphaned int) {
	switch d.IntN(13) {
	case 0, 1, 2, 3:
		d.fork(m, r)
	case 4:
		d.rename(m)
	case 5:
		d.changeUser(m)
	case 6:
		d.note(m, "setsid")
		d.call(syscall.SYS_SETSID)
		m.session = m
	case 7:
		m.cwd = choose(d, "/", "/usr", d.dir, filepath.Join(d.dir, "deep", strings.Repeat("d", 200)))
		d.note(m, "chdir %s", m.cwd)
		d.call(syscall.SYS_CHDIR, d.bytes(m.cwd))
	case 8:
		d.move(m)
	case 9, 10:
		d.failToExec(m)
	case 11, 12:
		if !r.alone && m.euid == 0 {
			d.exec(m, orphaned)
		}
	}
}

func (d *familyDrawer) rename(m *member) {
	name := choose(d, "", "a", "fifteen-bytes-x", "more-than-sixteen-bytes", "ü€", "a b\nc", "(x) y", "\xff\xfe", "kworker/0:1")
	d.note(m, "is called %q", name)
	d.call(syscall.SYS_PRCTL, unix.PR_SET_NAME, d.bytes(name))
	m.comm = name[:min(len(name), 15)]
}

func (d *familyDrawer) changeUser(m *member) {
	if m.euid != 0 {
		return
	}
	if m.uid = choose[uint32](d, 0, 1234, 65534, 4_000_000_000); d.chance(30) {
		m.euid = choose[uint32](d, 4321, 65534)
	}
	d.note(m, "setresuid %d %d 0", m.uid, m.euid)
	d.call(syscall.SYS_SETRESUID, uintptr(m.uid), uintptr(m.euid), 0)
}

func (d *familyDrawer) move(m *member) {
	if m.euid != 0 {
		return
	}
	m.cgroup = d.drawCgroup(m)
	d.note(m, "moves to the cgroup %s", m.cgroup)
	file := d.call(unix.SYS_OPENAT, atCWD, d.bytes(filepath.Join(d.dir, m.cgroup, "cgroup.procs")), syscall.O_WRONLY)
	d.call(syscall.SYS_WRITE, 0, d.bytes("0"), 1)
	d.last().ofResult = file
	d.call(syscall.SYS_CLOSE)
	d.last().ofResult = file
}

// --- others are made -------------------------------------------------------------------------

func (d *familyDrawer) fork(m *member, r role) {
	if len(d.members) >= membersAtMost {
		return
	}
	m.children++
	child := &member{name: fmt.Sprint(len(d.members)), maker: m, namespace: m.namespace, state: m.state}
	child.parent, child.thread = m, ""
	how := role{caring: d.chance(70)}
	flags := choose[uintptr](d, 0, 0, unix.CLONE_VFORK, unix.CLONE_UNTRACED, unix.CLONE_SYSVSEM|unix.CLONE_IO, unix.CLONE_NEWIPC)
	if m.euid != 0 {
		flags &^= unix.CLONE_NEWIPC
	}
	signal := choose[uintptr](d, uintptr(syscall.SIGCHLD), uintptr(syscall.SIGCHLD), 0, uintptr(syscall.SIGWINCH))
	switch {
	case !r.caring:
		how.orphan = flags&unix.CLONE_VFORK == 0 && d.chance(60)
		how.alone = !how.orphan
	case r.parentIsThere(m) && d.chance(15):
		flags |= unix.CLONE_PARENT
		child.parent, how.adopted = m.parent, true
	case m.namespace == nil && m.cgroup != cgroupOutside && m.euid == 0 && d.chance(15):
		flags |= unix.CLONE_NEWPID
		child.namespace, how.caring, how.spare = child, true, true
	case d.chance(20) && flags&unix.CLONE_VFORK == 0:
		how.killed = true
	}
	if how.orphan {
		how.parentID = d.call(syscall.SYS_GETPID)
	}
	d.clone(m, child, flags, signal)
	d.members = append(d.members, child)
	child.tell(moment{what: "fork"})
	if how.killed {
		how.ready, _ = d.result(1)
	}
	at := child.pid
	d.pending = append(d.pending, func() {
		d.calls[at].child = len(d.calls)
		d.live(child, how)
	})
	d.attend(m, child, r, how)
}

// parentIsThere as long as the process is.
func (r role) parentIsThere(m *member) bool {
	return m.parent != nil && !r.orphan && !r.alone && !r.adopted && !r.spare && m.maker != nil
}

func (d *familyDrawer) clone(m, child *member, flags, signal uintptr) {
	if !d.chance(30) || m.euid != 0 {
		d.note(m, "clone %#x signal %d makes %s", flags, signal, child.name)
		child.pid = d.call(syscall.SYS_CLONE, flags|signal, 0, 0, 0, 0)
		return
	}
	if flags&unix.CLONE_PARENT != 0 {
		signal = 0 // it is its maker's
	}
	child.cgroup = d.drawCgroup(child)
	d.note(m, "clone3 %#x signal %d into the cgroup %s makes %s", flags, signal, child.cgroup, child.name)
	dir := d.call(unix.SYS_OPENAT, atCWD, d.bytes(filepath.Join(d.dir, child.cgroup)), syscall.O_RDONLY)
	d.call(syscall.SYS_DUP3, 0, cgroupFD, 0)
	d.last().ofResult = dir
	args := d.words(flags|unix.CLONE_INTO_CGROUP, 0, 0, 0, signal, 0, 0, 0, 0, 0, cgroupFD) // struct clone_args
	child.pid = d.call(unix.SYS_CLONE3, args, 11*unsafe.Sizeof(args))
}

const (
	cgroupFD = 200 // where the directory of a cgroup is put
	atCWD    = ^uintptr(0) - 99
)

// drawCgroup of one of which the test finds the number also if nothing is told of it.
func (d *familyDrawer) drawCgroup(m *member) string {
	if m.namespace != nil {
		return choose(d, cgroupOfWorld, cgroupInside)
	}
	return choose(d, cgroupOfWorld, cgroupInside, cgroupOutside)
}

// attend to a child, now or never: who is caring waits for the rest at its end.
func (d *familyDrawer) attend(m, child *member, r, how role) {
	if how.killed {
		signal := choose(d, syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR2, syscall.Signal(40))
		d.note(m, "kills %s with %d when it is ready", child.name, signal)
		d.call(awaitResult, 0, uintptr(how.ready))
		d.last().again = whileTheSame
		d.call(syscall.SYS_KILL, 0, uintptr(signal))
		d.last().ofResult = child.pid
		child.killed = signal
	}
	if how.adopted || !r.caring || d.chance(40) && !how.killed {
		return
	}
	d.note(m, "waits for %s", child.name)
	status, statusAt := d.result(1)
	usage, usageAt := d.result(int(unsafe.Sizeof(syscall.Rusage{}) / 8))
	d.call(syscall.SYS_WAIT4, 0, statusAt, unix.WALL, usageAt)
	d.last().ofResult = child.pid
	child.waited, child.usage = status, usage
}

// --- programs --------------------------------------------------------------------------------

func (d *familyDrawer) program() string {
	self, _ := os.Executable() // where it is not known nothing that is told is right
	return self
}

func (d *familyDrawer) programName() string { return programCalled(d.program()) }

// programCalled is the name that a program has which is started by its path.
func programCalled(path string) string {
	name := filepath.Base(path)
	return name[:min(len(name), 15)]
}

// begin is what each program of a family does first.
func (d *familyDrawer) begin() {
	d.reset(syscall.SIGCHLD)
	d.reset(syscall.SIGWINCH)
}

// exec is the start of the workload once more, which goes on where the program before has left it.
func (d *familyDrawer) exec(m *member, orphaned int) {
	thread := choose(d, byTheFirstThread, byTheFirstThread, byAnotherThread, whenTheFirstIsGone)
	argv := d.drawArguments()
	what := moment{what: "exec", exe: d.program(), reaper: orphaned}
	path := choose(d, d.program(), filepath.Join(d.dir, "link"), filepath.Join(d.dir, "script"), "/proc/thread-self/exe", "")
	d.note(m, "exec %q %.60q, and goes on by the thread %s", path, argv, thread)
	if what.args = keptArguments(argv); filepath.Base(path) == "script" {
		what.args = keptArguments(append([]string{d.program(), "-one argument", path}, argv[min(1, len(argv)):]...))
	}
	file := 0
	if path == "" {
		what.byFD = programFD
		file = d.open(d.program(), programFD)
	}
	at := len(d.calls)
	environment := []string{workloadEnv + "=family", familySeedEnv + "=" + strconv.FormatUint(d.seed, 10), familyPlaceEnv + "=" + strconv.Itoa(at+1),
		familyDirEnv + "=" + d.dir, familyByEnv + "=" + thread}
	d.execute(file, path, argv, environment)
	if m.comm = programCalled(path); path == "" {
		m.comm = programCalled(d.program())
	}
	m.thread = thread
	m.tell(what.cut())
	d.begin()
	if path == "" {
		d.rename(m)
	}
}

// programFD is where a program is put that is started by its number.
const programFD = 201

func (d *familyDrawer) open(path string, fd uintptr) int {
	file := d.call(unix.SYS_OPENAT, atCWD, d.bytes(path), syscall.O_RDONLY)
	d.call(syscall.SYS_DUP3, 0, fd, 0)
	d.last().ofResult = file
	return file
}

func (d *familyDrawer) execute(file int, path string, argv, environment []string) {
	if file == 0 {
		d.call(syscall.SYS_EXECVE, d.bytes(path), d.strings(argv), d.strings(environment))
		return
	}
	d.call(unix.SYS_EXECVEAT, programFD, d.bytes(""), d.strings(argv), d.strings(environment), unix.AT_EMPTY_PATH)
}

func (d *familyDrawer) drawArguments() []string {
	switch d.IntN(6) {
	case 0:
		return nil
	case 1:
		return []string{""}
	case 2:
		return []string{"", "", "\xff\xfe\x01", "", "ü€", "a\nb", ""}
	case 3:
		return []string{strings.Repeat("long", 500), "b"}
	case 4:
		return slices.Repeat([]string{"many"}, 1+d.IntN(300))
	}
	return []string{"name", fmt.Sprint(d.IntN(100)), strings.Repeat("x", 1024-8-d.IntN(3))}
}

// keptArguments are as the kernel keeps them; of a program that is started without any it has an empty one.
func keptArguments(argv []string) string {
	if len(argv) == 0 {
		return "\x00"
	}
	return strings.Join(argv, "\x00") + "\x00"
}

// cut is what is told if arguments are long.
func (m moment) cut() moment {
	if most := int(defaultOptions().MaxArgumentBytes); len(m.args) > most {
		m.args = m.args[:most]
		m.flags |= event.ExecArgsTruncated
	}
	return m
}

// failToExec is nothing that is told: the process goes on as it was.
func (d *familyDrawer) failToExec(m *member) {
	argv := []string{"none"}
	path := choose(d, "/does/not/exist", filepath.Join(d.dir, "not-executable"), filepath.Join(d.dir, "garbage"), filepath.Join(d.dir, "garbage", "below"),
		filepath.Join(d.dir, "loop"), filepath.Join(d.dir, "script-of-none"), "/", "", strings.Repeat("p", 5000))
	if d.chance(15) {
		path, argv = "/bin/true", []string{strings.Repeat("too long", 20_000)}
	}
	d.note(m, "fails to exec %.60q", path)
	d.execute(0, path, argv, nil)
}

// --- the end ---------------------------------------------------------------------------------

func (d *familyDrawer) end(m *member, r role, orphaned int) {
	if r.killed {
		d.awaitDeath(m, r)
		return
	}
	switch kind := d.IntN(10); {
	case kind < 3:
		d.exit(m, syscall.SYS_EXIT_GROUP)
	case kind < 4 && m.thread == "":
		d.exit(m, syscall.SYS_EXIT)
	case kind < 6 && !r.spare:
		d.raise(m)
	case kind < 7 && !r.spare && m.euid == 0:
		d.breakDown(m)
	case kind < 9 && !r.alone:
		d.becomeAnother(m, r, orphaned)
	default:
		d.exit(m, syscall.SYS_EXIT_GROUP)
	}
}

func (d *familyDrawer) exit(m *member, number uintptr) {
	code := choose(d, 0, 0, 1, 2, 127, 128, 255, 256+7, -1)
	d.note(m, "exit %d by call %d", code, number)
	d.call(number, uintptr(code))
	m.tell(moment{what: "exit", status: uint32(code&0xff) << 8})
}

// fatal signals, by default.
var fatal = []syscall.Signal{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, 32, 33, 34, 50, 64}

func (d *familyDrawer) raise(m *member) {
	signal := choose(d, fatal...)
	d.note(m, "is ended by its own signal %d", signal)
	if m.cwd == d.dir && d.chance(15) {
		d.note(m, "with a core dump")
		d.call(syscall.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, d.words(1<<30, 1<<30), 0)
	}
	d.reset(signal)
	pid := d.call(syscall.SYS_GETPID)
	d.call(syscall.SYS_KILL, 0, uintptr(signal))
	d.last().ofResult = pid
	d.pause() // another thread may be the one that has the signal
	m.tell(moment{what: "exit", status: uint32(signal)})
}

// breakDown is an exec that fails when there is no way back.
func (d *familyDrawer) breakDown(m *member) {
	d.note(m, "breaks down in an exec")
	d.execute(0, filepath.Join(d.dir, "broken"), []string{"broken"}, nil)
	m.tell(moment{what: "exit", status: uint32(syscall.SIGSEGV)})
}

func (d *familyDrawer) awaitDeath(m *member, r role) {
	d.note(m, "is ready to be killed")
	d.reset(m.killed)
	d.call(syscall.SYS_GETPID)
	d.last().keptIn = r.ready
	d.pause()
	m.tell(moment{what: "exit", status: uint32(m.killed)})
}

// becomeAnother is an exec of a program that is none of ours.
func (d *familyDrawer) becomeAnother(m *member, r role, orphaned int) {
	what := moment{what: "exec", reaper: orphaned}
	switch kind := d.IntN(6); {
	case kind == 0 && m.euid == 0:
		d.becomeDeleted(m, what)
	case kind == 1:
		d.becomeMemory(m, what)
	case kind == 2 && !r.spare:
		signal := choose(d, 9, 15, 6)
		d.becomeShell(m, what, uint32(signal), fmt.Sprintf("kill -%d $$", signal))
	case kind == 3:
		d.becomeOneAfterTheOther(m, what, 1+d.IntN(12))
	case kind == 4:
		d.becomeShell(m, what, 7<<8, "exit 7")
	default:
		name := choose(d, "/bin/true", "/bin/false")
		d.note(m, "exec %s", name)
		what.exe, what.args = target(name), keptArguments([]string{name})
		d.execute(0, name, []string{name}, nil)
		m.comm = programCalled(name)
		m.tell(what)
		m.tell(moment{what: "exit", status: map[string]uint32{"/bin/false": 1 << 8}[name]})
	}
}

// target of a path that may be a symbolic link.
func target(path string) string {
	found, _ := filepath.EvalSymlinks(path) // where it is not known nothing that is told is right
	return found
}

func (d *familyDrawer) becomeShell(m *member, what moment, status uint32, script string) {
	d.note(m, "exec sh -c %q", script)
	argv := []string{"sh", "-c", script}
	what.exe, what.args = target("/bin/sh"), keptArguments(argv)
	d.execute(0, "/bin/sh", argv, nil)
	m.comm = "sh"
	m.tell(what)
	m.tell(moment{what: "exit", status: status})
}

func (d *familyDrawer) becomeOneAfterTheOther(m *member, what moment, times int) {
	d.note(m, "exec %d programs in a row", times+1)
	const script = `[ "$1" -gt 0 ] || exit 3; exec /bin/sh -c "$0" "$0" $(($1-1))`
	what.exe, m.comm = target("/bin/sh"), "sh"
	for left := times; left >= 0; left-- {
		argv := []string{"/bin/sh", "-c", script, script, strconv.Itoa(left)}
		if left == times {
			d.execute(0, "/bin/sh", argv, nil)
		}
		what.args = keptArguments(argv)
		m.tell(what)
		m.euid = m.uid // as shells do, for which one cannot give them the rights of somebody else
	}
	m.tell(moment{what: "exit", status: 3 << 8})
}

// becomeMemory is an exec of what no file system has.
func (d *familyDrawer) becomeMemory(m *member, what moment) {
	d.note(m, "exec of a memfd")
	to := d.call(unix.SYS_MEMFD_CREATE, d.bytes("a name"), 0)
	d.copyProgram(to)
	d.call(syscall.SYS_DUP3, 0, programFD, 0)
	d.last().ofResult = to
	d.becomeUnlinked(m, what, to, "/memfd:a name")
}

func (d *familyDrawer) becomeDeleted(m *member, what moment) {
	path := filepath.Join(d.dir, fmt.Sprintf("deleted-%d-%s", d.seed, m.name))
	d.note(m, "exec of the deleted file %s", path)
	to := d.call(unix.SYS_OPENAT, atCWD, d.bytes(path), syscall.O_CREAT|syscall.O_WRONLY|syscall.O_EXCL, 0o755)
	d.copyProgram(to)
	d.call(syscall.SYS_CLOSE)
	d.last().ofResult = to
	file := d.open(path, programFD)
	d.call(unix.SYS_UNLINKAT, atCWD, d.bytes(path), 0)
	d.becomeUnlinked(m, what, file, path)
}

func (d *familyDrawer) copyProgram(to int) {
	from := d.call(unix.SYS_OPENAT, atCWD, d.bytes("/bin/true"), syscall.O_RDONLY)
	d.call(syscall.SYS_DUP3, 0, programFD, 0)
	d.last().ofResult = from
	d.call(syscall.SYS_SENDFILE, 0, programFD, 0, 1<<30)
	d.last().ofResult = to
}

func (d *familyDrawer) becomeUnlinked(m *member, what moment, file int, path string) {
	what.exe, what.args, what.flags, what.byFD = path, keptArguments([]string{"unlinked"}), event.ExecExeUnlinked, programFD
	d.execute(file, "", []string{"unlinked"}, nil)
	m.comm = programCalled(path)
	m.tell(what)
	m.tell(moment{what: "exit"})
}

func (f *family) String() string {
	return fmt.Sprintf("family %d:\n%s", f.seed, strings.Join(f.text, "\n"))
}
