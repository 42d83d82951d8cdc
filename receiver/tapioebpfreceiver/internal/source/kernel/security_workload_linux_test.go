// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const nobody = 65534

func init() {
	workloads["security"] = func(args []string) error {
		runtime.LockOSThread() // credentials are a thread's
		return securityActions[args[0]](args[1])
	}
	workloads["sleep"] = func([]string) error {
		fmt.Println("asleep")
		_, err := os.Stdin.Read(make([]byte, 1))
		return err
	}
}

// securityActions of a process, each of which may use the folder that it is given.
var securityActions = map[string]func(dir string) error{
	"open":                 func(dir string) error { return open(dir+"/secret", unix.O_RDONLY) },
	"open to write":        func(dir string) error { return open(dir+"/secret", unix.O_WRONLY|unix.O_APPEND) },
	"open symlink":         func(dir string) error { return open(dir+"/link", unix.O_RDONLY) },
	"open below":           func(dir string) error { return open(dir+"/keys/a/b", unix.O_RDONLY) },
	"open any depth":       func(dir string) error { return open(dir+"/home/.tapio/id", unix.O_RDONLY) },
	"open below any depth": func(dir string) error { return open(dir+"/home/deep/er/a/b", unix.O_RDONLY) },
	"open beside":          func(dir string) error { return open(dir+"/home/deep/a", unix.O_RDONLY) },
	"open dotdot":          func(dir string) error { return open(dir+"/keys/../secret", unix.O_RDONLY) },
	"open relative": func(dir string) error {
		if err := os.Chdir(dir); err != nil {
			return err
		}
		return open("secret", unix.O_RDONLY)
	},
	"openat":      openatAction,
	"openat2":     openat2Action,
	"open denied": asNobody(func(dir string) error { return refused(open(dir+"/secret", unix.O_RDONLY), unix.EACCES) }),
	"open denied relative": asNobody(func(dir string) error {
		if err := os.Chdir(dir); err != nil {
			return err
		}
		return refused(open("secret", unix.O_RDONLY), unix.EACCES)
	}),
	"openat2 denied": asNobody(func(dir string) error {
		_, err := unix.Openat2(unix.AT_FDCWD, dir+"/secret", &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_APPEND})
		return refused(err, unix.EACCES)
	}),
	"openat denied": asNobody(func(dir string) error { return refused(open(dir+"/secret", unix.O_RDWR), unix.EACCES) }),
	"open denied often": asNobody(func(dir string) error {
		for range manyRefusals {
			if err := refused(open(dir+"/secret", unix.O_RDONLY), unix.EACCES); err != nil {
				return err
			}
		}
		return nil
	}),
	"open by io_uring":    func(dir string) error { return openByRing(dir + "/secret") },
	"open odd name":       func(dir string) error { return open(dir+"/keys/\xff\xfe\n", unix.O_RDONLY) },
	"open long path":      openLongPath,
	"open by handle":      openByHandle,
	"open another denied": asNobody(func(dir string) error { return refused(open(dir+"/secret2", unix.O_RDONLY), unix.EACCES) }),
	"run denied": asNobody(func(dir string) error {
		return refused(syscall.Exec(dir+"/secret2", []string{"secret2"}, nil), syscall.EACCES)
	}),
	"open hard link": func(dir string) error { return open(dir+"/hard", unix.O_RDONLY) },
	"open hard link below": func(dir string) error {
		return open(dir+"/hardkey", unix.O_RDONLY)
	},
	"open another hard link": func(dir string) error { return open(dir+"/hard2", unix.O_RDONLY) },
	"open another":           func(dir string) error { return open(dir+"/secret2", unix.O_RDONLY) },
	"open directory":         func(dir string) error { return open(dir+"/keys", unix.O_RDONLY|unix.O_DIRECTORY) },
	"open path":              func(dir string) error { return open(dir+"/secret", unix.O_PATH) },
	"open path denied": asNobody(func(dir string) error {
		return refused(open(dir+"/locked/secret", unix.O_PATH), unix.EACCES)
	}),
	"open missing": func(dir string) error { return refused(open(dir+"/keys/none", unix.O_RDONLY), unix.ENOENT) },

	"chmod":    func(dir string) error { return unix.Chmod(dir+"/program", 0o4755) },
	"fchmod":   fchmodAction,
	"fchmodat": fchmodatAction,
	"chmod denied": asNobody(func(dir string) error {
		return refused(unix.Chmod(dir+"/program", 0o4755), unix.EPERM)
	}),
	"chmod plain":           func(dir string) error { return unix.Chmod(dir+"/program", 0o755) },
	"setuid made":           func(dir string) error { return create(dir+"/made", 0o4755) },
	"plain made":            func(dir string) error { return create(dir+"/plain", 0o755) },
	"setgid made":           func(dir string) error { return create(dir+"/group", 0o2755) },
	"setgid made for locks": func(dir string) error { return create(dir+"/locks", 0o2644) }, // Linux's mandatory ones, once
	"fchmod directory": func(dir string) error {
		keys, err := os.Open(dir + "/keys")
		if err != nil {
			return err
		}
		defer keys.Close()
		return keys.Chmod(0o755 | os.ModeSetgid)
	},

	"setuid":        func(string) error { return raw(unix.SYS_SETUID, nobody) },
	"setgid":        func(string) error { return raw(unix.SYS_SETGID, nobody) },
	"setuid denied": setuidDeniedAction,
	"setuid same":   func(string) error { return raw(unix.SYS_SETUID, 0) },
	"setreuid":      func(string) error { return raw(unix.SYS_SETREUID, nobody, nobody) },
	"setresuid":     func(string) error { return raw(unix.SYS_SETRESUID, nobody, nobody, nobody) },
	"setfsuid":      func(string) error { return raw(unix.SYS_SETFSUID, nobody) },
	"setregid":      func(string) error { return raw(unix.SYS_SETREGID, nobody, nobody) },
	"setresgid":     func(string) error { return raw(unix.SYS_SETRESGID, nobody, nobody, nobody) },
	"setfsgid":      func(string) error { return raw(unix.SYS_SETFSGID, nobody) },
	"setgroups":     setgroupsAction,
	"capset":        capsetAction,

	"ptrace":        ptraceAction,
	"ptrace denied": ptraceDeniedAction,
	"ptrace none":   func(string) error { return refused(raw(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1<<22), unix.ESRCH) },
	"write memory":  func(string) error { return withChild(func(pid int) error { return writeMemory(pid) }) },
	"write own memory": func(string) error {
		return writeMemory(os.Getpid())
	},
	"open memory": func(string) error {
		return withChild(func(pid int) error { return open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDWR) })
	},
	"read memory": func(string) error {
		return withChild(func(pid int) error { return open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDONLY) })
	},
	"write own thread's memory": func(string) error { return withThread(writeMemory) },
	"open own thread's memory": func(string) error {
		return withThread(func(tid int) error { return open(fmt.Sprintf("/proc/self/task/%d/mem", tid), unix.O_RDWR) })
	},
	"open thread's memory": func(string) error {
		return withChild(func(pid int) error {
			tid, err := otherThread(pid)
			if err != nil {
				return err
			}
			return open(fmt.Sprintf("/proc/%d/task/%d/mem", pid, tid), unix.O_RDWR)
		})
	},
	"open own memory": func(string) error { return open("/proc/self/mem", unix.O_RDWR) },

	"memfd": func(string) error { return memfdWorkload(nil) },
	"setuid program": asNobody(func(dir string) error {
		return syscall.Exec(dir+"/setuid", []string{"setuid", "0"}, []string{workloadEnv + "=exit"})
	}),
	"capable program": asNobody(func(dir string) error {
		return syscall.Exec(dir+"/capable", []string{"capable", "0"}, []string{workloadEnv + "=exit"})
	}),
	"plain program": asNobody(func(dir string) error {
		return syscall.Exec(dir+"/ordinary", []string{"ordinary", "0"}, []string{workloadEnv + "=exit"})
	}),
	"shell on socket": shellOnSocketAction,
	"shell on pair":   shellOnPairAction,

	"unshare":        func(string) error { return raw(unix.SYS_UNSHARE, unix.CLONE_NEWUTS|unix.CLONE_NEWIPC) },
	"unshare denied": asNobody(func(string) error { return refused(raw(unix.SYS_UNSHARE, unix.CLONE_NEWUTS), unix.EPERM) }),
	"unshare files":  func(string) error { return raw(unix.SYS_UNSHARE, unix.CLONE_FILES) },
	"setns":          setnsAction,
	"clone":          cloneAction,
	"mount": func(dir string) error {
		return privately(func() error { return unix.Mount("tapio", dir+"/keys", "tmpfs", unix.MS_NOSUID, "") })
	},
	"move mount": moveMountAction,
	"mount denied": asNobody(func(dir string) error {
		return refused(unix.Mount("tapio", dir+"/keys", "tmpfs", unix.MS_NOSUID, ""), unix.EPERM)
	}),
	"mount missing": func(dir string) error {
		return refused(unix.Mount("tapio", dir+"/none", "tmpfs", 0, ""), unix.ENOENT)
	},

	"load program": loadProgramAction,
	"load program denied": asNobody(func(dir string) error {
		if err := loadProgramAction(dir); err == nil {
			return fmt.Errorf("it was allowed")
		}
		return nil
	}),
	"load program high bits": func(string) error { return loadProgram(unix.BPF_PROG_LOAD | 1<<32) },
	"kernel log high bits": func(string) error {
		text := make([]byte, 64)
		return raw(unix.SYS_SYSLOG, unix.SYSLOG_ACTION_READ_ALL|1<<32, uintptr(unsafe.Pointer(&text[0])), 64)
	},
	"make map":    makeMapAction,
	"load module": loadModuleAction,
	"load module denied": asNobody(func(dir string) error {
		file, err := os.Open(dir + "/ordinary")
		if err != nil {
			return err
		}
		defer file.Close()
		return refused(unix.FinitModule(int(file.Fd()), "", 0), unix.EPERM)
	}),
	"kexec":         kexecAction,
	"kexec unload":  func(string) error { return kexecUnload() },
	"kexec denied":  asNobody(func(string) error { return refused(kexecUnload(), unix.EPERM) }),
	"raw socket":    func(string) error { return socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP) },
	"raw socket 6":  func(string) error { return socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6) },
	"packet socket": func(string) error { return socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0) },
	"raw socket denied": asNobody(func(string) error {
		return refused(socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), unix.EPERM)
	}),
	"netlink socket": func(string) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, 0) },
	"plain socket":   func(string) error { return socket(unix.AF_INET, unix.SOCK_DGRAM, 0) },
	"kernel log":     func(string) error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 64)); return err },
	// there is nothing at this path
	"use capability":        func(dir string) error { return refused(unix.Acct(dir+"/none"), unix.ENOENT) },
	"use capability denied": asNobody(func(dir string) error { return refused(unix.Acct(dir+"/none"), unix.EPERM) }),
	"kernel log size": func(string) error {
		_, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
		return err
	},
}

func raw(number uintptr, args ...uintptr) error {
	args = append(args, 0, 0, 0, 0)
	if _, _, errno := unix.RawSyscall6(number, args[0], args[1], args[2], args[3], 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func refused(err, wanted error) error {
	if err != wanted {
		return fmt.Errorf("got %v, wanted %w", err, wanted)
	}
	return nil
}

// drop makes the thread an ordinary user's, and keeps its process one that may be looked at.
func drop() error {
	if err := raw(unix.SYS_SETRESGID, nobody, nobody, nobody); err != nil {
		return err
	}
	return raw(unix.SYS_SETRESUID, nobody, nobody, nobody)
}

func asNobody(action func(dir string) error) func(dir string) error {
	return func(dir string) error {
		if err := drop(); err != nil {
			return err
		}
		return action(dir)
	}
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func create(path string, mode uint32) error {
	unix.Umask(0)
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, mode)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

const (
	manyRefusals = 20_000
	longDepth    = 15
)

// longName makes a path that is nearly as long as one may be.
var longName = strings.Repeat("n", 250)

func openLongPath(dir string) error {
	if err := os.Chdir(dir + "/keys"); err != nil {
		return err
	}
	for range longDepth {
		if err := os.Chdir(longName); err != nil {
			return err
		}
	}
	return open("end", unix.O_RDONLY)
}

func openByHandle(dir string) error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir+"/secret", 0)
	if err != nil {
		return err
	}
	mount, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	_, err = unix.OpenByHandleAt(mount, handle, unix.O_RDONLY)
	return err
}

func openatAction(dir string) error {
	fd, err := unix.Open(dir+"/keys", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	_, err = unix.Openat(fd, "../secret", unix.O_RDONLY, 0)
	return err
}

func openat2Action(dir string) error {
	_, err := unix.Openat2(unix.AT_FDCWD, dir+"/secret", &unix.OpenHow{Flags: unix.O_RDONLY})
	return err
}

func fchmodAction(dir string) error {
	file, err := os.Open(dir + "/program")
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Fchmod(int(file.Fd()), 0o2755)
}

func fchmodatAction(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return unix.Fchmodat(fd, "program", 0o4700, 0)
}

func setuidDeniedAction(string) error {
	if err := raw(unix.SYS_SETUID, nobody); err != nil {
		return err
	}
	return refused(raw(unix.SYS_SETUID, 0), unix.EPERM)
}

func setgroupsAction(string) error {
	groups := []uint32{7, 8}
	return raw(unix.SYS_SETGROUPS, 2, uintptr(unsafe.Pointer(&groups[0])))
}

func capsetAction(string) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_NET_RAW
	return unix.Capset(&header, &data[0])
}

// withChild has a process of its own to do something with.
func withChild(do func(pid int) error) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), workloadEnv+"=sleep")
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
	if _, err := out.Read(make([]byte, 8)); err != nil {
		return err
	}
	err = do(child.Process.Pid)
	if _, writeErr := in.Write([]byte("\n")); writeErr != nil && err == nil {
		err = writeErr
	}
	if waitErr := child.Wait(); waitErr != nil && err == nil {
		err = waitErr
	}
	return err
}

// withThread has a thread of this process, other than the one that asks, to do something with.
func withThread(do func(tid int) error) error {
	tid := make(chan int)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		<-done
	}()
	defer close(done)
	return do(<-tid)
}

// otherThread is one that the process was not started with.
func otherThread(pid int) (int, error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	for _, thread := range threads {
		if tid, err := strconv.Atoi(thread.Name()); err == nil && tid != pid {
			return tid, nil
		}
	}
	return 0, fmt.Errorf("process %d has one thread", pid)
}

func ptraceAction(string) error {
	return withChild(func(pid int) error {
		if err := unix.PtraceAttach(pid); err != nil {
			return err
		}
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			return err
		}
		return unix.PtraceDetach(pid)
	})
}

func ptraceDeniedAction(string) error {
	return withChild(func(pid int) error {
		if err := drop(); err != nil {
			return err
		}
		return refused(unix.PtraceAttach(pid), unix.EPERM)
	})
}

var memoryToWrite = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}

// writeMemory writes what is there already: of the same program, the same place is known.
func writeMemory(pid int) error {
	at := uintptr(unsafe.Pointer(&memoryToWrite))
	remote := []unix.RemoteIovec{{Base: at, Len: len(memoryToWrite)}}
	local := []unix.Iovec{{Base: &memoryToWrite[0], Len: uint64(len(memoryToWrite))}}
	_, err := unix.ProcessVMWritev(pid, local, remote, 0)
	return err
}

func shellOnSocketAction(string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	return execShell(int(file.Fd()))
}

func shellOnPairAction(string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return execShell(pair[0])
}

func execShell(stdin int) error {
	if err := unix.Dup3(stdin, 0, 0); err != nil && stdin != 0 {
		return err
	}
	return syscall.Exec("/bin/sh", []string{"sh", "-c", "exit 0"}, nil)
}

func privately(do func() error) error {
	if err := raw(unix.SYS_UNSHARE, unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return do()
}

func moveMountAction(dir string) error {
	return privately(func() error {
		if err := unix.Mount("tapio", dir+"/keys", "tmpfs", 0, ""); err != nil {
			return err
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, dir+"/keys", unix.OPEN_TREE_CLONE)
		if err != nil {
			return err
		}
		return unix.MoveMount(tree, "", unix.AT_FDCWD, dir+"/home", unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}

func setnsAction(string) error {
	fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return unix.Setns(fd, 0)
}

func cloneAction(string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "0")
	child.Env = append(os.Environ(), workloadEnv+"=exit")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS}
	return child.Run()
}

// loadProgramAction loads one of two instructions, with no library that tries out more.
func loadProgramAction(string) error { return loadProgram(unix.BPF_PROG_LOAD) }

func loadProgram(command uintptr) error {
	license := []byte("GPL\x00")
	instructions := []uint64{0x00000000000000b7, 0x0000000000000095} // r0 = 0; exit
	attributes := struct {
		kind, count           uint32
		instructions, license uint64
		rest                  [96]byte
	}{kind: unix.BPF_PROG_TYPE_TRACEPOINT, count: 2, instructions: uint64(uintptr(unsafe.Pointer(&instructions[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	return bpfCall(command, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
}

func makeMapAction(string) error {
	attributes := struct{ kind, key, value, entries, flags uint32 }{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0}
	return bpfCall(unix.BPF_MAP_CREATE, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
}

func bpfCall(command uintptr, attributes unsafe.Pointer, size uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size); errno != 0 {
		return errno
	}
	return nil
}

// testModule is one that a guest's first process has loaded already, and that nothing uses.
func testModule() (string, error) {
	files, err := filepath.Glob("/modules/*-dummy.ko*")
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("no module to load: %w", unix.ENOSYS)
	}
	return files[0], nil
}

func loadModuleAction(string) error {
	path, err := testModule()
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.DeleteModule("dummy", 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("unload module: %w", err)
	}
	flags := 0
	if filepath.Ext(path) != ".ko" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(file.Fd()), "", flags)
}

// kexecAction makes ready, and takes back, a kernel of one empty page: it is never run.
func kexecAction(string) error {
	const at = 32 << 20 // memory that every machine has
	page := make([]byte, os.Getpagesize())
	segment := struct {
		from   unsafe.Pointer
		size   uintptr
		to     uintptr
		toSize uintptr
	}{unsafe.Pointer(&page[0]), uintptr(len(page)), at, uintptr(len(page))}
	if err := raw(unix.SYS_KEXEC_LOAD, at, 1, uintptr(unsafe.Pointer(&segment))); err != nil {
		return err
	}
	return kexecUnload()
}

func kexecUnload() error { return raw(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }

func socket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// fileCapability is struct vfs_cap_data (include/uapi/linux/capability.h) with one capability, permitted and effective.
func fileCapability(capability uint) []byte {
	const revision2, effective = 0x02000000, 1
	data := binary.LittleEndian.AppendUint32(nil, revision2|effective)
	data = binary.LittleEndian.AppendUint32(data, 1<<capability)
	return append(data, make([]byte, 12)...)
}

// securityFolder has the files that the actions are about.
func securityFolder(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"secret": nil, "secret2": nil, "shared": nil, "keys/a/b": nil, "home/.tapio/id": nil, "home/deep/er/a/b": nil, "home/deep/a": nil, "program": nil, "keys/\xff\xfe\n": nil,
		filepath.Join("keys", strings.Repeat(longName+"/", longDepth), "end"): nil, "setuid": program, "ordinary": program, "capable": program,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "locked"), 0o700); err != nil {
		return err
	}
	for name, mode := range map[string]uint32{"setuid": 0o4755, "ordinary": 0o755, "capable": 0o755} {
		if err := unix.Chmod(filepath.Join(dir, name), mode); err != nil {
			return err
		}
	}
	if err := unix.Setxattr(filepath.Join(dir, "capable"), "security.capability", fileCapability(unix.CAP_NET_RAW), 0); err != nil {
		return fmt.Errorf("set file capability: %w", err)
	}
	for name, link := range map[string]string{"shared": "hard", "keys/a/b": "hardkey", "secret2": "hard2"} {
		if err := os.Link(filepath.Join(dir, name), filepath.Join(dir, link)); err != nil {
			return err
		}
	}
	return os.Symlink("secret", dir+"/link")
}
