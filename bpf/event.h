/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * The wire format: every record that the kernel side can send, and the one definition of it.
 * The Go types are generated from this file (see gen.go), so what is changed here is changed
 * there. All numbers are little endian and naturally aligned, without implicit padding.
 */
#ifndef TAPIO_EVENT_H
#define TAPIO_EVENT_H

/* The family is the high byte of an event's type: counters and the ledger are kept by family. */
enum event_family {
	FAMILY_PROCESS = 1,
	FAMILY_NETWORK = 2,
	FAMILY_DNS = 3,
	FAMILY_HTTP = 4,
	FAMILY_SECURITY = 5,
	FAMILY_CNI = 6,
	FAMILY_ETCD = 7,
	FAMILY_THROTTLE = 8,
	FAMILY_CGROUP = 15, /* facts that identity needs: no events for the user */
	FAMILY_COUNT = 16,  /* room in the counters, not the number of families */
};

enum event_type {
	PROCESS_EXEC = 0x0101,
	PROCESS_FORK = 0x0102,
	PROCESS_EXIT = 0x0103,
	PROCESS_OOM_KILL = 0x0104,
	CONNECTION_CONNECT = 0x0201,
	CONNECTION_CLOSE = 0x0202,
	CONNECTION_REPORT = 0x0203,
	TLS_HANDSHAKE = 0x0204,
	DNS_MESSAGE = 0x0301,
	DNS_SEGMENT = 0x0302,
	HTTP_EXCHANGE = 0x0401,
	SECURITY_ACTION = 0x0501,
	CNI_BEGAN = 0x0601,
	CNI_ENDED = 0x0602,
	CNI_NAMESPACE_MADE = 0x0603,
	CNI_NAMESPACE_REMOVED = 0x0604,
	ETCD_CALL = 0x0701,
	ETCD_CHANGE = 0x0702,
	THROTTLING = 0x0801,
	HTTP_SUM = 0x0802,
	CONNECTION_SUM = 0x0803,
	PROCESS_SUM = 0x0804,
	TLS_SUM = 0x0805,
	CGROUP_MADE = 0x0f01,
	CGROUP_REMOVED = 0x0f02,
	CGROUP_JOINED = 0x0f03,
};

/* What every record starts with. The process is the one that acted, or that owns the socket. */
struct event_header {
	__u64 time;	  /* CLOCK_BOOTTIME, ns */
	__u64 start_time; /* of the process, CLOCK_BOOTTIME, ns; with pid it is never reused */
	__u64 cgroup_id;  /* cgroup v2 id of the process or of the socket; 0: not known */
	__u32 pid;	  /* thread group id in the host's pid namespace; 0: process not known */
	__u16 type;	  /* enum event_type */
	__u16 reserved;
};

/* Who a process is: the part that exec and fork share. */
struct process_identity {
	__u64 parent_start_time; /* CLOCK_BOOTTIME, ns */
	__u32 parent_pid;
	__u32 vpid;    /* the pid in the process's own, innermost pid namespace */
	__u32 uid;     /* real user id, host's user namespace */
	__u32 euid;    /* effective user id */
	__u32 session; /* pid of its leader in the host's pid namespace */
	/* The highest resident set size of what ran before in it, or in who started it, KiB; a fork's is 0. */
	__u32 peak_before;
	__u8 comm[16]; /* NUL-terminated */
};

#define MAX_ARGUMENT_BYTES 4096 /* what max_argument_bytes may ask for at the most */
#define MAX_PATH_BYTES 4096	/* PATH_MAX: what the kernel itself accepts */

enum process_exec_flags {
	EXEC_ARGS_TRUNCATED = 1 << 0,
	EXEC_ARGS_UNREADABLE = 1 << 1, /* the page was not in memory */
	EXEC_EXE_TRUNCATED = 1 << 2,
	EXEC_CWD_TRUNCATED = 1 << 3,
	EXEC_EXE_UNLINKED = 1 << 4, /* the file has no name any more: deleted, or a memfd */
};

/*
 * A program was started. Behind the fixed part stand, without gaps and with the sizes given:
 * the executable's path and the working directory, each as its components from the last to the
 * first, each ending with NUL ("sh\0bin\0usr\0" is /usr/bin/sh), then the arguments as the kernel
 * keeps them, each ending with NUL.
 */
struct process_exec {
	struct event_header header;
	struct process_identity process;
	__u16 exe_size;
	__u16 cwd_size;
	__u16 args_size;
	__u16 flags; /* enum process_exec_flags */
};

/*
 * A process that runs already. No event: it is written to whoever reads the iterator. Behind it stands the executable's
 * path, in components as above.
 */
struct running_executable {
	__u64 start_time; /* CLOCK_BOOTTIME, ns */
	__u32 pid;
	__u16 exe_size;
	__u16 flags; /* enum process_exec_flags */
};

struct process_fork {
	struct event_header header; /* the child's */
	struct process_identity process;
};

enum process_exit_flags {
	EXIT_HAS_USAGE = 1 << 0, /* cpu_time is there; not if too many threads left together */
	EXIT_HAS_IO = 1 << 1, /* read_bytes and written_bytes are, too: this kernel counts them */
};

/* The last thread of a process has gone. */
struct process_exit {
	struct event_header header;
	__u64 cpu_time;	     /* ns, user and system, all threads */
	__u64 peak_memory;   /* bytes, the highest resident set size */
	__u64 read_bytes;    /* from storage */
	__u64 written_bytes; /* to storage */
	__u32 status; /* as wait(2) has it: bits 0-6 signal, bit 7 core dumped, bits 8-15 exit code */
	__u32 flags; /* enum process_exit_flags */
};

/* The kernel chose this process to free memory. Before Linux 6.8 only its pid is known. */
struct process_oom_kill {
	struct event_header header;
};

enum connection_role {
	ROLE_UNKNOWN = 0, /* it was open before the start: who opened it cannot be told */
	ROLE_CLIENT = 1,
	ROLE_SERVER = 2,
};

/* The two ends of a connection or flow, seen from this side. */
struct connection_ends {
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 peer_address[16];
	__u16 local_port; /* host byte order */
	__u16 peer_port;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 role;     /* enum connection_role */
	__u16 reserved;
	__u32 netns; /* inode number of the network namespace; 0: not known */
	__u32 reserved2;
};

enum cause_flags {
	CAUSE_SERVER = 1 << 0, /* the process listens, or has served requests */
	CAUSE_THREAD = 1 << 1, /* it is the request that the thread was working on */
	CAUSE_SOLE = 1 << 2,   /* it was the only one, of a process that sends nothing by itself */
	/* of a request that was received: */
	CAUSE_DEDICATED = 1 << 3, /* thread read it from a socket that blocks */
	CAUSE_ANSWERED = 1 << 4,  /* thread sent the response, too */
};

/*
 * What this side was doing when it sent or connected: the request that it was serving, as
 * struct http_exchange names one. Of a request that was received, it is just the thread that read it.
 */
struct cause {
	__u32 sequence;
	__u32 acknowledged;
	__u32 thread; /* host's pid namespace; 0: not known */
	__u32 flags; /* enum cause_flags; sequence and acknowledged are there with THREAD or SOLE */
};

/* A TCP handshake that this side began has ended: established, or failed with an errno. */
struct connection_connect {
	struct event_header header;
	struct connection_ends ends;
	__u64 opened; /* when the SYN was sent, CLOCK_BOOTTIME, ns */
	struct cause cause;
	__u32 sequence;	    /* that a first request will have, as in struct http_exchange: */
	__u32 acknowledged; /* where it is established */
	__s32 error;	    /* errno; 0: established; -1: failed without an errno */
	__u32 reserved;
};

enum connection_flags {
	CONNECTION_FIRST_RECORD = 1 << 0, /* no report of this connection came before */
	CONNECTION_ABORTED = 1 << 1,	  /* this side ended it with a reset */
	CONNECTION_HAS_RTT = 1 << 2,
};

/* What a connection or flow carried so far (CONNECTION_REPORT) or in all (CONNECTION_CLOSE). */
struct connection_stats {
	struct event_header header;
	struct connection_ends ends;
	__u64 opened;	      /* established, or a flow's first packet; ns; 0: before the start */
	__u64 sent_bytes;     /* payload, each byte once */
	__u64 received_bytes; /* payload, each byte once */
	__u64 sent_packets;   /* UDP only */
	__u64 received_packets;
	__u64 sent_bytes_delta; /* since the report before */
	__u64 received_bytes_delta;
	__u32 retransmits; /* segments, TCP only */
	__u32 retransmits_delta;
	__u32 rtt;   /* smoothed round-trip time, us; valid with CONNECTION_HAS_RTT */
	__s32 error; /* errno that ended it; 0: none */
	__u32 flags; /* enum connection_flags */
	__u32 reserved;
};

enum tls_flags {
	TLS_ESTABLISHED = 1 << 0,
	TLS_ALERT = 1 << 1,	      /* an alert ended it: alert says which */
	TLS_ENCRYPTED_ALERT = 1 << 2, /* one ended it that only the two ends can read */
	TLS_ALERT_RECEIVED = 1 << 3,  /* the other side sent the alert */
	TLS_NOT_TLS = 1 << 4,	      /* what came in answer is not TLS */
	TLS_RETRIED = 1 << 5,	      /* the server asked for another ClientHello */
	TLS_ENCRYPTED = 1 << 6,	 /* the server has encrypted its part of the handshake: TLS 1.3 */
	TLS_EARLY_DATA = 1 << 7, /* the client sent data before it had an answer */
	TLS_CLIENT_HELLO_CUT = 1 << 8, /* the message is longer than what is here of it */
	TLS_SERVER_HELLO_CUT = 1 << 9,
	TLS_ABORTED = 1 << 10,	   /* this side ended the connection with a reset */
	TLS_CLOSED_HERE = 1 << 11, /* this side closed the connection first */
};

/*
 * A TLS handshake, seen from one end; whether that is the client's or the server's tells ends.role.
 * Behind the fixed part stand the ClientHello, then the ServerHello, each with the header of its
 * handshake message (RFC 8446, section 4) and without those of records, or the beginning of it.
 * header.time is when the handshake ended: established, or what made it fail.
 */
struct tls_handshake {
	struct event_header header;
	struct connection_ends ends;
	__u64 opened; /* as of struct connection_connect; 0: the other side opened the connection */
	__u64 start;  /* the ClientHello's first byte, CLOCK_BOOTTIME, ns */
	struct cause cause; /* of the connection */
	__u32 sequence;	    /* of the ClientHello's first byte, as in struct connection_connect */
	__u32 acknowledged;
	__s32 error; /* errno that ended the connection before; 0: none */
	__u16 flags; /* enum tls_flags */
	__u16 client_hello_size;
	__u16 server_hello_size;
	__u8 alert; /* RFC 8446, section 6 */
	__u8 reserved[5];
};

enum dns_flags {
	DNS_SENT = 1 << 0, /* this side sent it; else it was received */
};

/*
 * A DNS message over UDP (DNS_MESSAGE), or a TCP segment's payload (DNS_SEGMENT), sent by a client
 * or received by it. Behind the fixed part stand the first captured bytes of it, and after those
 * maybe padding.
 */
struct dns_message {
	struct event_header header;
	struct connection_ends ends;
	struct cause cause; /* of what was sent */
	__u64 socket;	    /* socket cookie: the same for all messages of a socket */
	__u32 sequence;	    /* TCP: the first byte's sequence number */
	__u32 size;	    /* of the message or segment, bytes */
	__u32 captured;	    /* of these, those that follow */
	__u32 flags;	    /* enum dns_flags */
};

enum http_flags {
	HTTP_REQUEST_COMPLETE = 1 << 0,
	HTTP_RESPONSE_COMPLETE = 1 << 1,
	HTTP_REQUEST_HEAD_CUT = 1 << 2, /* the head is longer than what is here of it */
	HTTP_RESPONSE_HEAD_CUT = 1 << 3,
	HTTP_ABORTED = 1 << 4,		/* this side ended the connection with a reset */
	HTTP_CLOSED_HERE = 1 << 5,	/* this side closed the connection first */
	HTTP_INVALID_RESPONSE = 1 << 6, /* what came in answer is not HTTP/1 */
	HTTP_TUNNEL = 1 << 7, /* the connection goes on as another protocol: 101, CONNECT */
};

/*
 * A request and its response, seen from one end; whether that is the client's or the server's tells
 * ends.role. Behind the fixed part stand the first request_head_size bytes of the request, then
 * the first response_head_size bytes of the response, neither beyond its head's empty line.
 * header.time is when the exchange ended: the response's last byte, or what cut it off.
 */
struct http_exchange {
	struct event_header header;
	struct connection_ends ends;
	__u64 request_start;	 /* the request's first byte, CLOCK_BOOTTIME, ns */
	__u64 request_end;	 /* its last byte so far */
	__u64 response_start;	 /* first byte of the final response, ns; 0: none came */
	__u64 response_end;	 /* its last byte so far; 0: none came */
	__u64 request_body_size; /* payload that was seen, without the framing of chunks, bytes */
	__u64 response_body_size;
	/*
	 * TCP sequence and acknowledgment number of the first byte: both ends see the same, also through
	 * NAT. The second is where the response begins, if one came: a pipelined request may have been
	 * sent earlier.
	 */
	__u32 request_sequence;
	__u32 request_acknowledged;
	struct cause cause;
	__s32 error;  /* errno that ended the connection; 0: none */
	__u16 status; /* of the final response; 0: none came */
	__u16 flags;  /* enum http_flags */
	__u16 request_head_size;
	__u16 response_head_size;
	__u32 reserved;
};

/* What was done, or tried. The values of each: see struct security_action. */
enum security_kind {
	SECURITY_FILE_ACCESS = 1,
	SECURITY_SETUID_BIT = 2,
	SECURITY_CREDENTIALS = 3,
	SECURITY_CAPABILITY = 4,
	SECURITY_PTRACE = 5,
	SECURITY_MEMORY_WRITE = 6,
	SECURITY_FILELESS_EXEC = 7,
	SECURITY_SHELL_ON_SOCKET = 8,
	SECURITY_SETUID_EXEC = 9,
	SECURITY_NAMESPACE = 10,
	SECURITY_MOUNT = 11,
	SECURITY_MODULE_LOAD = 12,
	SECURITY_BPF = 13,
	SECURITY_RAW_SOCKET = 14,
	SECURITY_KERNEL_LOG = 15,
	SECURITY_KEXEC = 16,
};

/* What was called. One name for all calls that differ in nothing but their arguments' form. */
enum security_operation {
	OPERATION_NONE =
		0, /* no call of its own: seen when a program is started, a process is forked */
	OPERATION_OPEN = 1,
	OPERATION_CHMOD = 2,
	OPERATION_SETUID = 3,
	OPERATION_SETREUID = 4,
	OPERATION_SETRESUID = 5,
	OPERATION_SETFSUID = 6,
	OPERATION_SETGID = 7,
	OPERATION_SETREGID = 8,
	OPERATION_SETRESGID = 9,
	OPERATION_SETFSGID = 10,
	OPERATION_SETGROUPS = 11,
	OPERATION_CAPSET = 12,
	OPERATION_PTRACE = 13,
	OPERATION_PROCESS_VM_WRITEV = 14,
	OPERATION_UNSHARE = 15,
	OPERATION_SETNS = 16,
	OPERATION_CLONE = 17,
	OPERATION_MOUNT = 18,
	OPERATION_MOVE_MOUNT = 19,
	OPERATION_INIT_MODULE = 20,
	OPERATION_FINIT_MODULE = 21,
	OPERATION_BPF = 22,
	OPERATION_SOCKET = 23,
	OPERATION_SYSLOG = 24,
	OPERATION_KEXEC_LOAD = 25,
	OPERATION_KEXEC_FILE_LOAD = 26,
	OPERATION_COUNT = 27,
};

enum security_flags {
	SECURITY_PATH_RESOLVED = 1 << 0, /* path is what was really opened, in components */
	SECURITY_PATH_TRUNCATED = 1 << 1,
	SECURITY_BASE_TRUNCATED = 1 << 2,
	SECURITY_TEXT_TRUNCATED = 1 << 3,
	SECURITY_UNLINKED = 1 << 4,	   /* the file has no name any more */
	SECURITY_HAS_CREDENTIALS = 1 << 5, /* before and after are there */
	SECURITY_HAS_AFTER = 1 << 6,	   /* only after is */
	SECURITY_HAS_TARGET = 1 << 7,
	SECURITY_PATH_UNREADABLE = 1 << 8, /* the page with the name was not in memory */
	SECURITY_HARD_LINK = 1 << 9,	   /* path is another name of the sensitive file */
};

#define NO_SENSITIVE_PATH 0xffffffff

/* Of a thread: include/linux/cred.h. All ids are of the host's user namespace. */
struct credentials {
	__u32 uid, euid, suid, fsuid;
	__u32 gid, egid, sgid, fsgid;
	__u64 permitted; /* capabilities, bit by number: include/uapi/linux/capability.h */
	__u64 effective;
	__u64 inheritable;
	__u32 groups; /* how many supplementary groups */
	__u32 reserved;
};

/*
 * An action that matters for security, tried or done: one record for both the attempt and its result.
 *
 * values, by kind:
 *   FILE_ACCESS      the flags of open(2); the file's inode number (0: not opened); its st_mode;
 *                    the number of the path in the configured list that it fits (NO_SENSITIVE_PATH:
 *                    refused before it was known which file it is; whether its text fits is still to see)
 *   SETUID_BIT       the mode that was asked for
 *   CREDENTIALS      -
 *   CAPABILITY       the capability's number
 *   PTRACE           the request; the other process's id as the caller numbers it
 *   MEMORY_WRITE     OPERATION_PROCESS_VM_WRITEV: bytes written, 0 where it was refused; the other process's
 *                    id as the caller numbers it. OPERATION_OPEN, of /proc/PID/mem: flags of open(2)
 *   FILELESS_EXEC    inode number; st_mode
 *   SHELL_ON_SOCKET  the peer's port, the socket's family
 *   SETUID_EXEC      inode number; st_mode; owner's user id; owner's group id
 *   NAMESPACE        the CLONE_NEW* flags of the kinds that were asked for, or changed (OPERATION_CLONE)
 *   MOUNT            flags
 *   MODULE_LOAD      flags
 *   BPF              the command; the type of the program (BPF_PROG_LOAD)
 *   RAW_SOCKET       family; type without flags; protocol
 *   KERNEL_LOG       the action of syslog(2)
 *   KEXEC            flags
 *
 * Behind the fixed part stand, without gaps and with the sizes given:
 * path: of the file, the mount's target, the module or the program. With SECURITY_PATH_RESOLVED its components
 *   from the last to the first, each ending with NUL, as in struct process_exec; without, the text that
 *   the caller gave, with its NUL. Nothing (0) where there is no file;
 * base: the directory that a path not resolved starts at, in components; nothing where the path is absolute;
 * text: with its NUL, by kind: MOUNT "source\0type\0"; MODULE_LOAD the module's name; else nothing. SHELL_ON_SOCKET:
 *   the peer's address, 16 bytes, IPv4 as ::ffff:a.b.c.d.
 */
struct security_action {
	struct event_header header;
	struct process_identity process;
	__u32 thread;	 /* host's pid namespace */
	__u16 kind;	 /* enum security_kind */
	__u16 operation; /* enum security_operation */
	__s32 error;	 /* errno that it was refused with; 0: allowed */
	__u32 flags;	 /* enum security_flags */
	__u64 values[4];
	__u64 target_start_time; /* of the other process, CLOCK_BOOTTIME, ns */
	__u32 target_pid;	 /* host's pid namespace */
	__u16 path_size;
	__u16 base_size;
	__u16 text_size;
	__u16 reserved;
	__u32 reserved2;
	struct credentials before; /* this action */
	struct credentials after;
};

enum cni_began_flags {
	CNI_VARIABLE_TRUNCATED = 1 << 0,    /* one of the variables is longer than what is here */
	CNI_ENVIRONMENT_TRUNCATED = 1 << 1, /* there are more variables than were looked at */
};

/*
 * A program was started from a directory of CNI plugins with a command for it in its environment. The
 * process is the header's. Behind the fixed part stand, without gaps and with the sizes given: the
 * path by which it was started, with its NUL, then those of its variables that say what it is to do, as
 * "CNI_COMMAND=ADD", each with its NUL.
 */
struct cni_began {
	struct event_header header;
	struct process_identity process;
	__u32 netns; /* inode number of the network namespace that it was started in */
	__u32 flags; /* enum cni_began_flags */
	__u16 path_size;
	__u16 environment_size;
	__u32 reserved;
};

enum cni_ended_flags {
	CNI_OUTPUT_MISSED =
		1 << 0, /* too many plugins ran at a time to keep what each of them printed */
};

/*
 * The last thread of such a process has gone. Of one that did not end with exit code 0, the first bytes that
 * it wrote to its standard output, where the runner reads what has failed, stand behind the fixed part.
 */
struct cni_ended {
	struct event_header header;
	__u64 began;	   /* CLOCK_BOOTTIME, ns */
	__u64 output_size; /* of all that it wrote there, bytes */
	__u32 captured;	   /* of these, those that follow */
	__u32 status;	   /* as in struct process_exit */
	__u32 netns; /* inode number of the other network namespace that it was in last; 0: none */
	__u32 flags; /* enum cni_ended_flags */
};

/*
 * A network namespace was made, or could not be: the process is the one that asked for it. Or the last reference
 * to one has gone: there is no process then, and the cgroup is that of the one that made it, if that was seen.
 */
struct cni_namespace {
	struct event_header header;
	struct process_identity process;
	__u64 made;  /* of one that is removed: when it was made, CLOCK_BOOTTIME, ns; 0: not seen */
	__u32 inode; /* its number; 0: it was not made */
	__s32 error; /* errno; 0: done */
};

/* A call of etcd on one of its files. */
enum etcd_operation {
	ETCD_FSYNC = 1,
	ETCD_FDATASYNC = 2,
	ETCD_WRITE = 3,
	ETCD_PWRITE = 4,
	ETCD_WRITEV = 5,
	ETCD_PWRITEV = 6,
};

#define MAX_ETCD_NAME_BYTES 64	    /* those of etcd's own files have up to 42, and a NUL */
#define MAX_ETCD_DIRECTORY_BYTES 32 /* member, wal, snap */

/* The call has ended: header.time is when. */
struct etcd_call {
	struct event_header header;
	__u64 began; /* CLOCK_BOOTTIME, ns */
	__u64 bytes; /* that were written; 0: none, or it was no write */
	__u64 inode;
	__u32 device;	 /* as the kernel has it: major << 20 | minor */
	__u32 thread;	 /* host's pid namespace */
	__s32 error;	 /* errno; 0: none */
	__u16 operation; /* enum etcd_operation */
	__u16 reserved;
	/* NUL-terminated; what is longer was cut off */
	__u8 name[MAX_ETCD_NAME_BYTES];
	__u8 directory[MAX_ETCD_DIRECTORY_BYTES]; /* the name of the one that it is in */
};

/* What became of a key. */
enum etcd_change_kind {
	ETCD_CREATED = 1,
	ETCD_UPDATED = 2,
	ETCD_DELETED = 3,
	ETCD_MISSED = 4, /* nobody can tell any more: etcd has forgotten these revisions */
};

enum etcd_change_flags {
	ETCD_KEY_TRUNCATED = 1 << 0,
};

/*
 * A change of a key, as etcd tells it to those who watch. Not from a kernel: the receiver makes these
 * records itself. Behind the fixed part stand the key, then the endpoints of the cluster that was watched,
 * with commas between them.
 */
struct etcd_change {
	struct event_header header; /* of no process */
	__u64 revision;		    /* of the change; ETCD_MISSED: the first one that was missed */
	__u64 last_revision;	    /* ETCD_MISSED: the last one; else 0 */
	__u64 cluster_id;
	__u16 kind;  /* enum etcd_change_kind */
	__u16 flags; /* enum etcd_change_flags */
	__u16 key_size;
	__u16 endpoints_size;
};

enum throttling_flags {
	THROTTLING_BEGAN = 1 << 0,
	THROTTLING_ENDED = 1 << 1, /* a second without, or the collector ends */
};

/*
 * Events of a cgroup that were beyond its limit and so were not told: made by the receiver, each second and for each
 * cgroup and family of which there are some. The header's time is that of the last of them; of those that belong to
 * what was not told before, and come when nothing is beyond the limit any more, it is when they are told.
 */
struct throttling {
	struct event_header header; /* of no process */
	__u64 began;  /* CLOCK_BOOTTIME, ns: when the first of them was; they may go on */
	__u64 events; /* since the last of these records */
	__u64 total;  /* since the one that says that it began */
	__u64 limit;  /* events a second */
	__u32 flags;  /* enum throttling_flags */
	__u16 family; /* enum event_family */
	__u16 kind;   /* enum security_kind; 0: any */
};

/* Methods that the conventions list (http.request.method), compared with case; 0: any other. */
enum http_method_number {
	HTTP_METHOD_GET = 1,
	HTTP_METHOD_HEAD = 2,
	HTTP_METHOD_POST = 3,
	HTTP_METHOD_PUT = 4,
	HTTP_METHOD_PATCH = 5,
	HTTP_METHOD_DELETE = 6,
	HTTP_METHOD_CONNECT = 7,
	HTTP_METHOD_OPTIONS = 8,
	HTTP_METHOD_TRACE = 9,
	HTTP_METHOD_QUERY = 10,
};

/* What the exchanges have in common that are summed up together. */
struct http_sum_key {
	__u64 cgroup_id;
	__u64 start_time; /* of the process, as in struct event_header; 0, as pid and peer: any */
	__u32 pid;
	__s32 error;	       /* errno that ended the connection; 0: none */
	__u8 peer_address[16]; /* of a client's: as in struct connection_ends; else 0 */
	__u16 peer_port;       /* likewise */
	__u16 status;
	__u16 flags; /* enum http_flags: those that tell how it ended */
	__u8 role;   /* enum connection_role */
	__u8 method; /* enum http_method_number */
};

#define HTTP_SUM_BUCKETS 16 /* not all are in use: see the bounds in http_sums.h */

/* HTTP exchanges that are not told one by one. */
struct http_sums {
	__u64 duration; /* of all, ns */
	__u64 request_bytes;
	__u64 response_bytes; /* of those that have a response */
	__u64 durations[HTTP_SUM_BUCKETS];
	__u64 request_sizes[HTTP_SUM_BUCKETS];
	__u64 response_sizes[HTTP_SUM_BUCKETS];
};

/*
 * HTTP exchanges of a cgroup that were beyond its limit, and what they have in common: made by the receiver, each second
 * and for each key of which there are some since the last of these records. The header's time is when it is told.
 */
struct http_sum {
	struct event_header header; /* of the key's process */
	struct http_sum_key key;
	struct http_sums sums;
};

/* What the connections and flows have in common that are summed up together. */
struct connection_sum_key {
	__u64 cgroup_id;
	__u64 start_time; /* of the process, as in struct event_header; 0, as pid: any */
	__u32 pid;
	__s32 error;   /* as in struct connection_connect or struct connection_stats */
	__u16 flags;   /* CONNECTION_ABORTED, or none */
	__u16 type;    /* CONNECTION_CONNECT or CONNECTION_CLOSE */
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 role;     /* enum connection_role */
	__u8 is_ipv4;
	__u8 reserved[5];
};

#define CONNECTION_SUM_BUCKETS 17

/* Events of them that are not told one by one; a CONNECTION_CONNECT has but events and durations. */
struct connection_sums {
	__u64 events;
	__u64 sent_bytes;     /* that no report has told */
	__u64 received_bytes; /* likewise */
	__u64 retransmits;    /* likewise */
	__u64 first_records;  /* of the events, those with CONNECTION_FIRST_RECORD */
	__u64 rtt;	      /* of all that are in rtts, us */
	__u64 duration;	      /* of all that are in durations, ns */
	__u64 zero;	      /* always 0, which the verifier does not know */
	__u64 rtts[CONNECTION_SUM_BUCKETS];
	__u64 durations
		[CONNECTION_SUM_BUCKETS]; /* of handshakes, or from the establishment to the end */
};

/* Connections and flows of a cgroup that were beyond its limit, as struct http_sum. */
struct connection_sum {
	struct event_header header; /* of the key's process */
	struct connection_sum_key key;
	struct connection_sums sums;
};

/* What the starts of programs, and the ends of processes, have in common that are summed up together. */
struct process_sum_key {
	__u64 cgroup_id;
	__u32 status; /* as in struct process_exit; of starts 0 */
	__u16 type;   /* PROCESS_EXEC or PROCESS_EXIT */
	__u16 reserved;
};

struct process_sums {
	__u64 events;
};

/* Processes of a cgroup that were beyond its limit, as struct http_sum. */
struct process_sum {
	struct event_header header; /* of no process */
	struct process_sum_key key;
	struct process_sums sums;
};

/* What the TLS handshakes have in common that are summed up together. */
struct tls_sum_key {
	__u64 cgroup_id;
	__u64 start_time; /* of the process, as in struct event_header; 0, as pid: any */
	__u32 pid;
	__s32 error; /* errno that ended the connection before, where no flag says why it ended; else 0 */
	__u16 flags; /* enum tls_flags: those that tell how it ended */
	__u16 version; /* that the server has chosen, SSL 3.0 to TLS 1.3; 0: none of these, or not known */
	__u8 role;  /* enum connection_role */
	__u8 alert; /* with TLS_ALERT */
	__u8 reserved[2];
};

/* TLS handshakes that are not told one by one. */
struct tls_sums {
	__u64 duration; /* of all, ns */
	__u64 durations[HTTP_SUM_BUCKETS];
};

/* TLS handshakes of a cgroup that were beyond its limit, as struct http_sum. */
struct tls_sum {
	struct event_header header; /* of the key's process */
	struct tls_sum_key key;
	struct tls_sums sums;
};

#define MAX_CGROUP_PATH_BYTES 1024 /* TRACE_CGROUP_PATH_LEN, kernel/cgroup/cgroup-internal.h */

/*
 * A cgroup of the v2 hierarchy was made or removed (its id is header.cgroup_id, there is no process),
 * or a process was moved to a cgroup of any hierarchy (the process is the header's). Behind the fixed
 * part stands the cgroup's path below its hierarchy's root, with its NUL. One of the full
 * MAX_CGROUP_PATH_BYTES was cut off.
 */
struct cgroup_change {
	struct event_header header;
	__u32 hierarchy; /* 0: v2 */
	__u16 path_size;
	__u16 reserved;
};

/* Kept per CPU and family; what the ledger starts from. */
struct event_counters {
	__u64 seen;	  /* events that a program decided to report */
	__u64 ring_full;  /* of these, those that the ring had no room for */
	__u64 table_full; /* of these, those that could not be followed: too many at a time */
	__u64 unreadable; /* of these, those whose bytes could not be followed to the end */
	__u64 throttled;  /* of these, those beyond the limit of their cgroup */
};

/* What has a limit of its own. */
struct limit_key {
	__u64 cgroup_id;
	__u32 family; /* enum event_family */
	__u32 kind;   /* enum security_kind, so that none of them hides the others; else 0 */
};

/* Not exact where CPUs write to it at the same time, but for what is counted. */
struct limit_state {
	__u64 due;	 /* ns: when all that has passed is paid for; it may be seconds ahead */
	__u64 throttled; /* events, ever; those that are not told */
	__u64 began;	 /* ns: the first of these since a second without */
	__u64 last;	 /* ns: the last of these */
};

#endif
