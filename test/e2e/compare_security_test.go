// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const nobody = 65534

func init() {
	workloads["shellOnSocket"] = shellOnSocket
	workloads["attach"] = attach
	workloads["act"] = func(args []string) error {
		runtime.LockOSThread() // credentials are a thread's
		for _, name := range args[1:] {
			err := securityActions[name](args[0])
			if rule := mayBeMissing[name]; rule != "" && errors.Is(err, unix.ENOSYS) {
				fmt.Println(rule)
			} else if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
}

// securityActions are told by the rules of the family security. Each may use the folder that it is given, and none
// changes anything outside of it: what would is refused, or done in namespaces of its own.
var securityActions = map[string]func(dir string) error{
	"read key":         func(dir string) error { return openAndClose(dir + keyFile) },
	"read key refused": asNobody(func(dir string) error { return shouldFail(openAndClose(dir+keyFile), unix.EACCES) }),
	"set setuid bit":   func(dir string) error { return unix.Chmod(dir+"/program", 0o4755) },
	"run setuid":       asNobody(func(dir string) error { return unix.Exec(dir+"/setuid", []string{"setuid"}, nil) }),
	"attach":           func(dir string) error { return runInMemory("attach", dir) },
	"become root":      becomeRoot,
	"become root refused": asNobody(func(string) error {
		return errors.Join(shouldFail(systemCall(unix.SYS_SETUID, 0), unix.EPERM), shouldFail(systemCall(unix.SYS_SETGID, 0), unix.EPERM))
	}),
	"raw socket":    func(string) error { return socketAndClose(unix.AF_INET, unix.IPPROTO_ICMP) },
	"packet socket": func(string) error { return socketAndClose(unix.AF_PACKET, 0) },
	"unshare":       func(string) error { return unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWIPC) },
	"setns":         enterOwnNamespace,
	"clone":         cloneIntoNamespaces,
	"mount":         mountPrivately,
	"mount refused": asNobody(func(dir string) error {
		return shouldFail(unix.Mount("tapio", dir, "tmpfs", 0, ""), unix.EPERM)
	}),
	"bpf":                 func(string) error { return loadDeviceProgram() },
	"bpf refused":         asNobody(func(string) error { return shouldFail(loadDeviceProgram(), unix.EPERM) }),
	"kernel log refused":  asNobody(func(string) error { return shouldFail(readKernelLog(), unix.EPERM) }),
	"load module refused": asNobody(func(string) error { return shouldFail(systemCall(unix.SYS_INIT_MODULE, 0, 0, 0), unix.EPERM) }),
	"kexec refused":       asNobody(func(string) error { return shouldFail(systemCall(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0), unix.EPERM) }),
}

// inPods are what the simulated attack does, each by a program of its own. Those of the node do less.
var (
	inPods = []string{
		"read key", "read key refused", "attach", "become root", "become root refused", "run setuid", "set setuid bit",
		"packet socket", "mount refused", "load module refused", "bpf refused", "kernel log refused", "kexec refused", "unshare", "setns", "clone", "mount",
	}
	inUnit = []string{"read key refused", "run setuid", "unshare", "setns", "clone", "mount"}
	// byRuntime is allowed by default, by the name of who does it, and so not told.
	byRuntime = []string{"setns", "bpf", "raw socket", "unshare", "mount"}
)

// mayBeMissing are the rules of actions that a kernel can be built without.
var mayBeMissing = map[string]string{"load module refused": "kernel.module_load", "kexec refused": "kernel.kexec"}

// keyFile is one of the sensitive paths by default, at any depth.
const keyFile = "/.ssh/id_ed25519"

// securityFolder has the files that the actions are about.
func securityFolder(t *testing.T) string {
	t.Helper()
	dir := publicDir(t)
	program, err := os.ReadFile(realPath(t, "/bin/true"))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Dir(dir+keyFile), 0o755))
	for name, content := range map[string][]byte{keyFile: nil, "/program": nil, "/setuid": program, "/runc": nil} {
		require.NoError(t, os.WriteFile(dir+name, content, 0o600))
	}
	require.NoError(t, unix.Chmod(dir+"/setuid", 0o4755))
	return dir
}

// securityActs are those of a shell on a socket in a pod, of one in the unit, and of what looks like a container
// runtime there. It returns the rules of what this kernel was not built to do.
func (w *comparedWorkload) securityActs(t *testing.T) (missing []string) {
	t.Helper()
	dir := securityFolder(t)
	asInContainer := []string{tool(t, "unshare"), "--pid", "--fork", "--kill-child", "sh", "-ec", `"$0" "$@"; echo done`}
	for _, pod := range w.pods[comparedPods-2:] { // of a Deployment, and of a StatefulSet
		attack := pod.startBy(t, asInContainer, "shellOnSocket", append([]any{dir}, anyOf(inPods)...)...)
		for rule := attack.line(); rule != "done"; rule = attack.line() {
			missing = append(missing, rule)
		}
		attack.wait()
	}
	for _, p := range w.older {
		p.obey([]string{"act", dir, "read key", "read key"})
	}
	w.unit.startBy(t, []string{tool(t, "sh"), "-ec", actEach}, "act", append([]any{dir}, anyOf(inUnit)...)...).wait()
	asRuntime := []string{tool(t, "unshare"), "--mount", "sh", "-ec", `mount --bind "$1" /usr/local/bin; shift; mount --bind "$0" /usr/local/bin/runc; exec /usr/local/bin/runc "$@"`}
	w.unit.startBy(t, asRuntime, "act", append([]any{dir, dir}, anyOf(byRuntime)...)...).wait()
	return missing
}

func anyOf(texts []string) (list []any) {
	for _, text := range texts {
		list = append(list, text)
	}
	return list
}

// actEach is a script that has this program act, once for each action.
const actEach = `dir=$1; shift; for action in "$@"; do "$0" "$dir" "$action"; done`

// shellOnSocket FOLDER ACTION... becomes a shell whose standard input is a connection, and which runs the actions.
func shellOnSocket(args []string) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		return err
	}
	if _, err := listener.Accept(); err != nil {
		return err
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	if err := unix.Dup3(int(file.Fd()), 0, 0); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec("/bin/sh", append([]string{"sh", "-ec", actEach, self}, args...), append(os.Environ(), workloadEnv+"=act"))
}

func systemCall(number uintptr, args ...uintptr) error {
	args = append(args, 0, 0, 0, 0)
	if _, _, errno := unix.RawSyscall6(number, args[0], args[1], args[2], args[3], 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// shouldFail is as it should be.
func shouldFail(err, wanted error) error {
	switch {
	case errors.Is(err, wanted):
		return nil
	case err == nil:
		return errors.New("it was allowed")
	default:
		return err
	}
}

// asNobody makes the thread an ordinary user's before it acts.
func asNobody(act func(dir string) error) func(dir string) error {
	return func(dir string) error {
		if err := systemCall(unix.SYS_SETRESGID, nobody, nobody, nobody); err != nil {
			return err
		}
		if err := systemCall(unix.SYS_SETRESUID, nobody, nobody, nobody); err != nil {
			return err
		}
		return act(dir)
	}
}

// becomeRoot is what somebody does who is not root, but may be by a capability.
func becomeRoot(string) error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	return asNobody(func(string) error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SETUID, Permitted: 1 << unix.CAP_SETUID}}
		if err := unix.Capset(&header, &data[0]); err != nil {
			return err
		}
		return systemCall(unix.SYS_SETUID, 0)
	})("")
}

func openAndClose(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func socketAndClose(family, protocol int) error {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// runInMemory has another workload run in the place of this one, by a copy of this program that is in no file.
func runInMemory(name, dir string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("agent", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, program); err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"[kworker/0:2]", dir}, []string{workloadEnv + "=" + name})
}

var memoryToWrite [8]byte

// attach to a child, and write what is there already: of the same program, the place is known. It writes again and
// again, which is told as one.
func attach([]string) error {
	runtime.LockOSThread() // it is the thread that is attached

	child := exec.Command("/proc/self/exe")
	child.Env = []string{workloadEnv + "=onCommand"}
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	_, err = out.Read(make([]byte, len("ready\n")))
	return errors.Join(err, writeMemory(child.Process.Pid), in.Close(), child.Wait())
}

func writeMemory(pid int) error {
	if err := unix.PtraceAttach(pid); err != nil {
		return err
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		return err
	}
	remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&memoryToWrite)), Len: len(memoryToWrite)}}
	local := []unix.Iovec{{Base: &memoryToWrite[0], Len: uint64(len(memoryToWrite))}}
	var errs []error
	for range 3 {
		_, err := unix.ProcessVMWritev(pid, local, remote, 0)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, unix.PtraceDetach(pid))...)
}

func enterOwnNamespace(string) error {
	fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Setns(fd, unix.CLONE_NEWUTS), unix.Close(fd))
}

func cloneIntoNamespaces(string) error {
	child := exec.Command("/proc/self/exe", "0")
	child.Env = []string{workloadEnv + "=exit"}
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	return child.Run()
}

func mountPrivately(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tapio", dir, "tmpfs", 0, "")
}

// loadDeviceProgram loads one that a runtime would attach to a container's cgroup. It is gone with this process.
func loadDeviceProgram() error {
	license := []byte("GPL\x00")
	instructions := []uint64{0x0000_0001_0000_00b7, 0x0000_0000_0000_0095} // r0 = 1; exit
	attributes := struct {
		kind, count           uint32
		instructions, license uint64
		rest                  [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(instructions)),
		instructions: uint64(uintptr(unsafe.Pointer(&instructions[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	err := error(unix.EAGAIN)
	for err == unix.EAGAIN { // a signal, as the runtime's own, ends the verifier's work
		err = systemCall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	}
	runtime.KeepAlive(instructions)
	runtime.KeepAlive(license)
	return err
}

// readKernelLog as nobody but a privileged user may, whatever kernel.dmesg_restrict says.
func readKernelLog() error {
	_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ, make([]byte, 1))
	return err
}
