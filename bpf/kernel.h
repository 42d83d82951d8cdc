/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * The kernel types that we read, and of each just the fields that we read, so that one look tells
 * what we depend on. Offsets and sizes come from the running kernel's BTF (CO-RE); a field that
 * some supported kernel lacks has a ___flavour here and a fall-back where it is read.
 */
#ifndef TAPIO_KERNEL_H
#define TAPIO_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define PF_KTHREAD 0x00200000	     /* include/linux/sched.h */
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */
#define PIDTYPE_PID 0		     /* include/linux/pid_types.h */
#define PIDTYPE_TGID 1
#define PIDTYPE_SID 3
#define O_NONBLOCK 04000 /* include/uapi/asm-generic/fcntl.h; of amd64 and arm64 */
#define S_IFMT 00170000
#define S_IFIFO 0010000
#define S_IFSOCK 0140000
#define S_IFDIR 0040000
#define S_IFREG 0100000
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define SOCK_DEAD_BIT 0 /* enum sock_flags, include/net/sock.h: no process has it open any more */
#define SEND_SHUTDOWN 2 /* include/net/sock.h: writes no more */
#define SHUTDOWN_MASK 3 /* include/net/sock.h: neither reads nor writes any more: close(2) */
#define SOCK_DONE_BIT 1 /* a FIN was received in order */
#define EPERM 1
#define ENOMEM 12
#define EACCES 13
#define EEXIST 17
#define ENOSPC 28
#define ECANCELED 125
#define EKEYREJECTED 129
#define MAX_ERRNO 4095
#define S_ISUID 04000
#define S_ISGID 02000
#define S_IXGRP 00010
#define AT_FDCWD (-100)
#define AF_PACKET 17
#define SOCK_RAW 3
#define SOCK_TYPE_MASK 0xf
#define O_ACCMODE 3
#define O_CREAT_WRONLY_TRUNC 01101 /* what creat(2) asks for */
#define O_PATH 010000000	   /* of amd64 and arm64 */
#define FMODE_WRITE 0x2		   /* include/linux/fs.h */
#define FMODE_EXEC 0x20		   /* the file is opened to be run */
#define FMODE_CREATED 0x100000	   /* the file was made by this open */
#define PROC_SUPER_MAGIC 0x9fa0	   /* include/uapi/linux/magic.h */
#define TS_COMPAT 0x2		   /* arch/x86/include/asm/thread_info.h: a 32-bit system call */
#define TIF_32BIT (1 << 22)	   /* arch/arm64/include/asm/thread_info.h */
#define CLONE_NEWTIME 0x00000080   /* include/uapi/linux/sched.h */
#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
#define ALL_NAMESPACES                                                                             \
	(CLONE_NEWTIME | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |             \
	 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* include/net/tcp_states.h */
enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* cgroups */
struct kernfs_node {
	__u64 id;
};

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

struct cgroup_root {
	int hierarchy_id; /* 0: the v2 hierarchy */
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

/* processes */
typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

/* Two words of 32 bits before Linux 6.3, one of 64 since: the same bytes where these are little endian. */
typedef struct {
	__u64 val;
} kernel_cap_t;

struct group_info {
	int ngroups;
};

struct user_namespace;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
	kernel_cap_t cap_inheritable;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
	struct group_info *group_info;
};

/* Before Linux 6.18. */
struct proc_ns_operations {
	int type; /* CLONE_NEW* */
};

struct ns_common {
	const struct proc_ns_operations *ops;
	unsigned int inum;
	__u32 ns_type; /* CLONE_NEW*, Linux 6.18 and newer */
};

struct nsproxy {
	void *uts_ns;
	void *ipc_ns;
	void *mnt_ns;
	void *pid_ns_for_children;
	void *net_ns;
	void *time_ns_for_children;
	void *cgroup_ns;
};

struct upid {
	int nr;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[4];
	struct upid numbers[1];
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct inode {
	unsigned short i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	struct hlist_head i_dentry;
	void *i_private;
};

struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

union dentry_list {
	struct hlist_node d_alias;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	union dentry_list d_u;
};

struct dentry___flat { /* Linux 7 and newer */
	struct hlist_node d_alias;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
	unsigned int f_flags;
	void *private_data;
	void *f_ep; /* Linux 5.11 and newer */
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

/* A path's text, copied from the caller. */
struct filename {
	const char *name;
};

struct open_flags {
	int open_flag;
};

struct linux_binprm {
	unsigned int secureexec : 1;
	struct file *file;
	const char *
		filename; /* as execve(2) was given it: of a script its own, not its interpreter's */
};

struct module {
	char name[56]; /* MODULE_NAME_LEN */
};

struct bpf_prog {
	enum bpf_prog_type type;
};

struct fs_struct {
	struct path pwd;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
};

typedef struct {
	int counter;
} atomic_t;

struct list_head {
	struct list_head *next;
};

struct task_io_accounting {
	__u64 read_bytes;
	__u64 write_bytes;
};

struct signal_struct {
	atomic_t live;
	int nr_threads;
	struct list_head thread_head;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4];
	unsigned long maxrss;
	unsigned long long sum_sched_runtime;
	struct task_io_accounting ioac;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct thread_info {
	unsigned long flags;
};

struct thread_info___x86 {
	unsigned int status;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	__u64 start_boottime;
	__u64 self_exec_id;
	const struct cred *cred;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct list_head ptraced;
	struct list_head ptrace_entry;
	struct signal_struct *signal;
	struct sched_entity se;
	struct task_io_accounting ioac;
	struct list_head thread_node;
	struct pid *thread_pid;
	struct hlist_node pid_links[4];
	struct css_set *cgroups;
	void *io_uring; /* with CONFIG_IO_URING */
	char comm[16];
};

/* A system call's registers. What is left in orig_ax and syscallno is its number. */
struct pt_regs___x86 {
	unsigned long di, si, dx, r10, r8, r9;
	unsigned long orig_ax;
};

struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 orig_x0; /* the first argument, which the result takes the place of */
	__s32 syscallno;
};

/* Linux 6.8 and newer: mark_victim is given the task, older ones its pid. */
struct trace_event_raw_mark_victim {
	__u32 uid;
};

/* sockets */
struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

typedef struct {
	int owned;
} socket_lock_t;

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

/* Before Linux 5.15: the pointer shares a word with the net_cls and net_prio ids. */
struct sock_cgroup_data___before_5_15 {
	__u64 val;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	socket_lock_t sk_lock;
	__u16 sk_protocol;
	int sk_err;
	__u8 sk_shutdown;
	struct sock_cgroup_data sk_cgrp_data;
};

struct sock___before_5_15 {
	struct sock_cgroup_data___before_5_15 sk_cgrp_data;
};

struct inet_sock {
	__be16 inet_sport;
};

struct tcp_sock {
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
	__u32 srtt_us;
	__u32 total_retrans;
	__u32 rcv_nxt;
	__u32 snd_nxt;
};

struct socket {
	struct file *file;
	struct sock *sk;
};

/* iterators */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
};

struct bpf_map;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop

#endif
