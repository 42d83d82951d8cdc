// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"strconv"
	"strings"
)

// Names of the kernel's numbers as amd64 and arm64 have them. Not those of package unix: records are
// translated on other systems too.

// nameIn a table; a number that has none is told as a number.
func nameIn(names []string, number uint64) string {
	if number < uint64(len(names)) && names[number] != "" {
		return names[number]
	}
	return strconv.FormatUint(number, 10)
}

const capabilityPrefix = "CAP_"

// capabilityNames by number: include/uapi/linux/capability.h.
var capabilityNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// CapabilityName of a number, as "CAP_SYS_ADMIN".
func CapabilityName(number uint64) string { return nameIn(capabilityNames[:], number) }

// CapabilityNumber of a name, in any case and with or without CAP_; false if there is none.
func CapabilityNumber(name string) (number uint8, ok bool) {
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, capabilityPrefix) {
		upper = capabilityPrefix + upper
	}
	for i, known := range capabilityNames {
		if known == upper {
			return uint8(i), true
		}
	}
	return 0, false
}

// CapabilityNames of a set.
func CapabilityNames(set uint64) (names []string) {
	for number := uint64(0); set != 0; number, set = number+1, set>>1 {
		if set&1 != 0 {
			names = append(names, CapabilityName(number))
		}
	}
	return names
}

// bpfCommands by number: enum bpf_cmd, include/uapi/linux/bpf.h.
var bpfCommands = [...]string{
	"BPF_MAP_CREATE", "BPF_MAP_LOOKUP_ELEM", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM", "BPF_MAP_GET_NEXT_KEY",
	"BPF_PROG_LOAD", "BPF_OBJ_PIN", "BPF_OBJ_GET", "BPF_PROG_ATTACH", "BPF_PROG_DETACH",
	"BPF_PROG_TEST_RUN", "BPF_PROG_GET_NEXT_ID", "BPF_MAP_GET_NEXT_ID", "BPF_PROG_GET_FD_BY_ID", "BPF_MAP_GET_FD_BY_ID",
	"BPF_OBJ_GET_INFO_BY_FD", "BPF_PROG_QUERY", "BPF_RAW_TRACEPOINT_OPEN", "BPF_BTF_LOAD", "BPF_BTF_GET_FD_BY_ID",
	"BPF_TASK_FD_QUERY", "BPF_MAP_LOOKUP_AND_DELETE_ELEM", "BPF_MAP_FREEZE", "BPF_BTF_GET_NEXT_ID", "BPF_MAP_LOOKUP_BATCH",
	"BPF_MAP_LOOKUP_AND_DELETE_BATCH", "BPF_MAP_UPDATE_BATCH", "BPF_MAP_DELETE_BATCH", "BPF_LINK_CREATE", "BPF_LINK_UPDATE",
	"BPF_LINK_GET_FD_BY_ID", "BPF_LINK_GET_NEXT_ID", "BPF_ENABLE_STATS", "BPF_ITER_CREATE", "BPF_LINK_DETACH",
	"BPF_PROG_BIND_MAP", "BPF_TOKEN_CREATE",
}

// BPFCommand of bpf(2), as "BPF_PROG_LOAD".
func BPFCommand(number uint64) string { return nameIn(bpfCommands[:], number) }

// bpfProgramTypes by number: enum bpf_prog_type, include/uapi/linux/bpf.h.
var bpfProgramTypes = [...]string{
	"BPF_PROG_TYPE_UNSPEC", "BPF_PROG_TYPE_SOCKET_FILTER", "BPF_PROG_TYPE_KPROBE", "BPF_PROG_TYPE_SCHED_CLS", "BPF_PROG_TYPE_SCHED_ACT",
	"BPF_PROG_TYPE_TRACEPOINT", "BPF_PROG_TYPE_XDP", "BPF_PROG_TYPE_PERF_EVENT", "BPF_PROG_TYPE_CGROUP_SKB", "BPF_PROG_TYPE_CGROUP_SOCK",
	"BPF_PROG_TYPE_LWT_IN", "BPF_PROG_TYPE_LWT_OUT", "BPF_PROG_TYPE_LWT_XMIT", "BPF_PROG_TYPE_SOCK_OPS", "BPF_PROG_TYPE_SK_SKB",
	"BPF_PROG_TYPE_CGROUP_DEVICE", "BPF_PROG_TYPE_SK_MSG", "BPF_PROG_TYPE_RAW_TRACEPOINT", "BPF_PROG_TYPE_CGROUP_SOCK_ADDR", "BPF_PROG_TYPE_LWT_SEG6LOCAL",
	"BPF_PROG_TYPE_LIRC_MODE2", "BPF_PROG_TYPE_SK_REUSEPORT", "BPF_PROG_TYPE_FLOW_DISSECTOR", "BPF_PROG_TYPE_CGROUP_SYSCTL", "BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE",
	"BPF_PROG_TYPE_CGROUP_SOCKOPT", "BPF_PROG_TYPE_TRACING", "BPF_PROG_TYPE_STRUCT_OPS", "BPF_PROG_TYPE_EXT", "BPF_PROG_TYPE_LSM",
	"BPF_PROG_TYPE_SK_LOOKUP", "BPF_PROG_TYPE_SYSCALL", "BPF_PROG_TYPE_NETFILTER",
}

// BPFProgramType of BPF_PROG_LOAD, as "BPF_PROG_TYPE_KPROBE".
func BPFProgramType(number uint64) string { return nameIn(bpfProgramTypes[:], number) }

// BPFProgramLoad is the command whose second value is a program's type.
const BPFProgramLoad = 5

// syslogActions by number: include/linux/syslog.h.
var syslogActions = [...]string{
	"close", "open", "read", "read_all", "read_clear",
	"clear", "console_off", "console_on", "console_level", "size_unread",
	"size_buffer",
}

// SyslogAction of syslog(2), as "read_all".
func SyslogAction(number uint64) string { return nameIn(syslogActions[:], number) }

// ptraceRequests by number: include/uapi/linux/ptrace.h, and those of amd64 that other platforms lack.
var ptraceRequests = map[uint64]string{
	0:      "PTRACE_TRACEME",
	1:      "PTRACE_PEEKTEXT",
	2:      "PTRACE_PEEKDATA",
	3:      "PTRACE_PEEKUSR",
	4:      "PTRACE_POKETEXT",
	5:      "PTRACE_POKEDATA",
	6:      "PTRACE_POKEUSR",
	7:      "PTRACE_CONT",
	8:      "PTRACE_KILL",
	9:      "PTRACE_SINGLESTEP",
	12:     "PTRACE_GETREGS",
	13:     "PTRACE_SETREGS",
	14:     "PTRACE_GETFPREGS",
	15:     "PTRACE_SETFPREGS",
	16:     "PTRACE_ATTACH",
	17:     "PTRACE_DETACH",
	24:     "PTRACE_SYSCALL",
	0x4200: "PTRACE_SETOPTIONS",
	0x4201: "PTRACE_GETEVENTMSG",
	0x4202: "PTRACE_GETSIGINFO",
	0x4203: "PTRACE_SETSIGINFO",
	0x4204: "PTRACE_GETREGSET",
	0x4205: "PTRACE_SETREGSET",
	0x4206: "PTRACE_SEIZE",
	0x4207: "PTRACE_INTERRUPT",
	0x4208: "PTRACE_LISTEN",
	0x4209: "PTRACE_PEEKSIGINFO",
	0x420a: "PTRACE_GETSIGMASK",
	0x420b: "PTRACE_SETSIGMASK",
	0x420c: "PTRACE_SECCOMP_GET_FILTER",
	0x420d: "PTRACE_SECCOMP_GET_METADATA",
	0x420e: "PTRACE_GET_SYSCALL_INFO",
	0x420f: "PTRACE_GET_RSEQ_CONFIGURATION",
}

// PtraceRequest of ptrace(2), as "PTRACE_ATTACH".
func PtraceRequest(number uint64) string {
	if name, ok := ptraceRequests[number]; ok {
		return name
	}
	return strconv.FormatUint(number, 10)
}

// flagName is a bit and what it is called.
type flagName struct {
	flag uint64
	name string
}

func flagNames(names []flagName, flags uint64) (set []string) {
	for _, n := range names {
		if flags&n.flag != 0 {
			set = append(set, n.name)
		}
	}
	return set
}

// namespaceFlags are CLONE_NEW* (include/uapi/linux/sched.h), named as in /proc/PID/ns.
var namespaceFlags = []flagName{
	{0x02000000, "cgroup"}, {0x08000000, "ipc"}, {0x00020000, "mnt"}, {0x40000000, "net"},
	{0x20000000, "pid"}, {0x00000080, "time"}, {0x10000000, "user"}, {0x04000000, "uts"},
}

// Namespaces of CLONE_NEW* flags.
func Namespaces(flags uint64) []string { return flagNames(namespaceFlags, flags) }

// mountFlags are MS_* (include/uapi/linux/mount.h), named as mount(8) does.
var mountFlags = []flagName{
	{1 << 0, "ro"}, {1 << 1, "nosuid"}, {1 << 2, "nodev"}, {1 << 3, "noexec"}, {1 << 4, "sync"},
	{1 << 5, "remount"}, {1 << 6, "mand"}, {1 << 7, "dirsync"}, {1 << 8, "nosymfollow"}, {1 << 10, "noatime"},
	{1 << 11, "nodiratime"}, {1 << 12, "bind"}, {1 << 13, "move"}, {1 << 14, "rec"}, {1 << 15, "silent"},
	{1 << 17, "unbindable"}, {1 << 18, "private"}, {1 << 19, "slave"}, {1 << 20, "shared"}, {1 << 21, "relatime"},
	{1 << 24, "strictatime"}, {1 << 25, "lazytime"},
}

// What older programs set in all flags of mount(2), and the kernel takes off (MS_MGC_VAL, include/uapi/linux/mount.h).
const (
	mountMagic     = 0xC0ED0000
	mountMagicMask = 0xffff0000
)

// MountFlags of mount(2).
func MountFlags(flags uint64) []string {
	if flags&mountMagicMask == mountMagic {
		flags &^= mountMagicMask
	}
	return flagNames(mountFlags, flags)
}

// Families of sockets: include/linux/socket.h.
const (
	FamilyInet   = 2
	FamilyInet6  = 10
	FamilyPacket = 17
)

var socketFamilies = map[uint64]string{FamilyInet: "inet", FamilyInet6: "inet6", FamilyPacket: "packet"}

// SocketFamily of socket(2), as "inet6".
func SocketFamily(number uint64) string {
	if name, ok := socketFamilies[number]; ok {
		return name
	}
	return strconv.FormatUint(number, 10)
}

// socketTypes by number: include/linux/net.h.
var socketTypes = [...]string{1: "stream", 2: "dgram", 3: "raw", 4: "rdm", 5: "seqpacket", 6: "dccp", 10: "packet"}

// SocketType of socket(2), as "raw".
func SocketType(number uint64) string { return nameIn(socketTypes[:], number) }

// Modes of open(2): include/uapi/asm-generic/fcntl.h. O_PATH is the same on amd64 and arm64.
const (
	openAccess = 3
	openPath   = 0x200000
)

// OpenAccess of open(2)'s flags: "read", "write" or "read_write", and "path" for what is only a name of it.
func OpenAccess(flags uint64) string {
	if flags&openPath != 0 {
		return "path"
	}
	return [...]string{"read", "write", "read_write", "ioctl"}[flags&openAccess]
}

// OpensToWrite says that what is opened can be changed.
func OpensToWrite(flags uint64) bool {
	access := flags & openAccess
	return flags&openPath == 0 && (access == 1 || access == 2)
}

// errnoNames by number: asm-generic/errno-base.h and errno.h.
var errnoNames = [...]string{
	1:   "EPERM",
	2:   "ENOENT",
	3:   "ESRCH",
	4:   "EINTR",
	5:   "EIO",
	6:   "ENXIO",
	7:   "E2BIG",
	8:   "ENOEXEC",
	9:   "EBADF",
	10:  "ECHILD",
	11:  "EAGAIN",
	12:  "ENOMEM",
	13:  "EACCES",
	14:  "EFAULT",
	15:  "ENOTBLK",
	16:  "EBUSY",
	17:  "EEXIST",
	18:  "EXDEV",
	19:  "ENODEV",
	20:  "ENOTDIR",
	21:  "EISDIR",
	22:  "EINVAL",
	23:  "ENFILE",
	24:  "EMFILE",
	25:  "ENOTTY",
	26:  "ETXTBSY",
	27:  "EFBIG",
	28:  "ENOSPC",
	29:  "ESPIPE",
	30:  "EROFS",
	31:  "EMLINK",
	32:  "EPIPE",
	33:  "EDOM",
	34:  "ERANGE",
	35:  "EDEADLK",
	36:  "ENAMETOOLONG",
	37:  "ENOLCK",
	38:  "ENOSYS",
	39:  "ENOTEMPTY",
	40:  "ELOOP",
	42:  "ENOMSG",
	43:  "EIDRM",
	44:  "ECHRNG",
	45:  "EL2NSYNC",
	46:  "EL3HLT",
	47:  "EL3RST",
	48:  "ELNRNG",
	49:  "EUNATCH",
	50:  "ENOCSI",
	51:  "EL2HLT",
	52:  "EBADE",
	53:  "EBADR",
	54:  "EXFULL",
	55:  "ENOANO",
	56:  "EBADRQC",
	57:  "EBADSLT",
	59:  "EBFONT",
	60:  "ENOSTR",
	61:  "ENODATA",
	62:  "ETIME",
	63:  "ENOSR",
	64:  "ENONET",
	65:  "ENOPKG",
	66:  "EREMOTE",
	67:  "ENOLINK",
	68:  "EADV",
	69:  "ESRMNT",
	70:  "ECOMM",
	71:  "EPROTO",
	72:  "EMULTIHOP",
	73:  "EDOTDOT",
	74:  "EBADMSG",
	75:  "EOVERFLOW",
	76:  "ENOTUNIQ",
	77:  "EBADFD",
	78:  "EREMCHG",
	79:  "ELIBACC",
	80:  "ELIBBAD",
	81:  "ELIBSCN",
	82:  "ELIBMAX",
	83:  "ELIBEXEC",
	84:  "EILSEQ",
	85:  "ERESTART",
	86:  "ESTRPIPE",
	87:  "EUSERS",
	88:  "ENOTSOCK",
	89:  "EDESTADDRREQ",
	90:  "EMSGSIZE",
	91:  "EPROTOTYPE",
	92:  "ENOPROTOOPT",
	93:  "EPROTONOSUPPORT",
	94:  "ESOCKTNOSUPPORT",
	95:  "EOPNOTSUPP",
	96:  "EPFNOSUPPORT",
	97:  "EAFNOSUPPORT",
	98:  "EADDRINUSE",
	99:  "EADDRNOTAVAIL",
	100: "ENETDOWN",
	101: "ENETUNREACH",
	102: "ENETRESET",
	103: "ECONNABORTED",
	104: "ECONNRESET",
	105: "ENOBUFS",
	106: "EISCONN",
	107: "ENOTCONN",
	108: "ESHUTDOWN",
	109: "ETOOMANYREFS",
	110: "ETIMEDOUT",
	111: "ECONNREFUSED",
	112: "EHOSTDOWN",
	113: "EHOSTUNREACH",
	114: "EALREADY",
	115: "EINPROGRESS",
	116: "ESTALE",
	117: "EUCLEAN",
	118: "ENOTNAM",
	119: "ENAVAIL",
	120: "EISNAM",
	121: "EREMOTEIO",
	122: "EDQUOT",
	123: "ENOMEDIUM",
	124: "EMEDIUMTYPE",
	125: "ECANCELED",
	126: "ENOKEY",
	127: "EKEYEXPIRED",
	128: "EKEYREVOKED",
	129: "EKEYREJECTED",
	130: "EOWNERDEAD",
	131: "ENOTRECOVERABLE",
	132: "ERFKILL",
	133: "EHWPOISON",
}

// ErrnoName of a number, as "EACCES"; empty for 0.
func ErrnoName(errno int32) string {
	if errno == 0 {
		return ""
	}
	if errno > 0 {
		return nameIn(errnoNames[:], uint64(errno))
	}
	return ErrorOther
}
