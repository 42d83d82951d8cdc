//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/* What a process does, or is refused, that matters for security. */
#include "security.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Set by the loader. */
const volatile bool opens_elsewhere =
	false; /* files are seen where they are opened, not at the calls */
const volatile bool mounts_elsewhere = false;	/* and mounts where they are made */
const volatile __u64 reported_capabilities = 0; /* bit by number */

/* Those that a call may be refused with for who asks, not for what is asked; 0: it was done. */
static __always_inline bool is_outcome(long result)
{
	return result >= 0 || result == -EPERM || result == -EACCES || result == -EKEYREJECTED;
}

static __always_inline __s32 error_of(long result)
{
	return result < 0 ? -result : 0;
}

/* A program that has one call to itself has a buffer to itself. */
static __always_inline __u32 buffer_of_call(void)
{
	return only_call ? only_buffer : BUFFER_CALLS;
}

/* --- files ----------------------------------------------------------------------------------- */

/* A file that has more than one name. A directory's links are those of what is in it. */
static __always_inline bool is_linked(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_nlink) > 1 &&
	       (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFDIR;
}

static __always_inline void report_sensitive(struct security_buffer *buffer, __u32 which,
					     struct task_struct *task, struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *mount = BPF_CORE_READ(file, f_path.mnt);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 number = sensitive_path(which, (__u64)dentry, (__u64)mount);
	bool has_links = number == NO_SENSITIVE_PATH && is_linked(inode);

	if (has_links)
		number = sensitive_link(which, (__u64)inode, (__u64)dentry, (__u64)mount);
	if (number == NO_SENSITIVE_PATH)
		return;
	begin_buffer(buffer, task, SECURITY_FILE_ACCESS, OPERATION_OPEN, 0);
	if (has_links)
		buffer->event.flags |= SECURITY_HARD_LINK;
	buffer->event.values[0] = BPF_CORE_READ(file, f_flags);
	buffer->event.values[1] = BPF_CORE_READ(inode, i_ino);
	buffer->event.values[2] = BPF_CORE_READ(inode, i_mode);
	buffer->event.values[3] = number;
	add_file(buffer, file);
	output_buffer(buffer);
}

/* Without the right to execute, the group's bit means something else. */
static __always_inline bool is_setuid(__u64 mode)
{
	return mode & S_ISUID || (mode & S_ISGID && mode & S_IXGRP);
}

/* A file that was made, with the bit set. */
static __always_inline void report_made_setuid(struct security_buffer *buffer,
					       struct task_struct *task, struct file *file)
{
	__u32 mode = BPF_CORE_READ(file, f_inode, i_mode);

	if (!is_setuid(mode))
		return;
	begin_buffer(buffer, task, SECURITY_SETUID_BIT, OPERATION_OPEN, 0);
	buffer->event.values[0] = mode & 07777;
	add_file(buffer, file);
	output_buffer(buffer);
}

static __always_inline bool is_mem(struct dentry *dentry)
{
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	char read[4] = {};

	bpf_probe_read_kernel(read, sizeof(read), name);
	return read[0] == 'm' && read[1] == 'e' && read[2] == 'm' && !read[3];
}

static __always_inline void set_target(struct security_action *action, struct task_struct *target)
{
	action->flags |= SECURITY_HAS_TARGET;
	action->target_pid = BPF_CORE_READ(target, tgid);
	action->target_start_time = start_time_of(target);
}

/* The thread that has the number; NULL once it has ended. */
static __always_inline struct task_struct *first_task(struct pid *pid)
{
	struct hlist_node *node = BPF_CORE_READ(pid, tasks[PIDTYPE_PID].first);

	return node ? (void *)node - bpf_core_field_offset(struct task_struct, pid_links) : NULL;
}

/* The memory of another process, opened to be written by /proc/PID/mem or one of its threads' files. */
static __always_inline void report_memory_open(struct security_buffer *buffer,
					       struct task_struct *task, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct proc_inode *proc =
		(void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	struct task_struct *target;

	if (BPF_CORE_READ(inode, i_sb, s_magic) != PROC_SUPER_MAGIC ||
	    !is_mem(BPF_CORE_READ(file, f_path.dentry)))
		return;
	target = first_task(BPF_CORE_READ(proc, pid));
	if (!target || BPF_CORE_READ(target, tgid) == BPF_CORE_READ(task, tgid))
		return;
	begin_buffer(buffer, task, SECURITY_MEMORY_WRITE, OPERATION_OPEN, 0);
	buffer->event.values[0] = BPF_CORE_READ(file, f_flags);
	set_target(&buffer->event, target);
	add_file(buffer, file);
	output_buffer(buffer);
}

/* What was really opened, whatever name led to it. */
__noinline int file_opened(__u32 which, __u64 opened)
{
	struct file *file = (void *)opened;
	struct task_struct *task = current_task();
	struct security_buffer *buffer = buffer_numbered(which);
	__u32 mode = BPF_CORE_READ(file, f_mode);

	if (!buffer || !file)
		return 0;
	if (mode & FMODE_EXEC || BPF_CORE_READ(file, f_flags) & O_PATH)
		return 0; /* neither read nor written: a program to run, or a place */
	if (is_enabled(SECURITY_FILE_ACCESS))
		report_sensitive(buffer, which, task, file);
	if (is_enabled(SECURITY_SETUID_BIT) && mode & FMODE_CREATED)
		report_made_setuid(buffer, task, file);
	if (is_enabled(SECURITY_MEMORY_WRITE) && mode & FMODE_WRITE)
		report_memory_open(buffer, task, file);
	return 0;
}

#define MAX_REFUSED_OPENS 256 /* of a process, a second */

struct budget {
	__u64 began; /* CLOCK_BOOTTIME, ns */
	__u64 used;
};

/* Of processes that were refused files of late, by pid. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct budget);
} refused_opens SEC(".maps");

/*
 * Anybody can be refused files, as often as they like: a process that is has no more than its share of the
 * ring. What is beyond it is in the account as lost.
 */
static __always_inline bool may_report_refusal(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct budget *budget = bpf_map_lookup_elem(&refused_opens, &pid);
	struct budget fresh = {.began = bpf_ktime_get_boot_ns(), .used = 1};

	if (!budget || fresh.began - budget->began > SECOND) {
		bpf_map_update_elem(&refused_opens, &pid, &fresh, BPF_ANY);
		return true;
	}
	__sync_fetch_and_add(&budget->used, 1);
	if (budget->used <= MAX_REFUSED_OPENS)
		return true;
	count_table_full(SECURITY_ACTION);
	return false;
}

/* Refused, so which file it would have been is not known: the receiver compares the name. */
static __always_inline void begin_refused_open(struct security_buffer *buffer,
					       struct task_struct *task, __s32 error, __u64 flags)
{
	begin_buffer(buffer, task, SECURITY_FILE_ACCESS, OPERATION_OPEN, error);
	buffer->event.values[0] = flags;
	buffer->event.values[3] = NO_SENSITIVE_PATH;
}

/* Where all opens come by, io_uring's too: what was opened is at hand, and the name is the kernel's copy. */
SEC("fexit/do_filp_open")
int BPF_PROG(file_open_done, int directory, struct filename *name, const struct open_flags *asked,
	     struct file *file)
{
	struct task_struct *task = current_task();
	__u64 opened = number_of(ctx, 3);
	long result = is_error(opened) ? (long)opened : 0;
	struct security_buffer *buffer;

	if (!is_outcome(result) || !current_in_scope())
		return 0;
	if (!result) {
		file_opened(BUFFER_OPEN, opened);
		return 0;
	}
	if (BPF_CORE_READ(asked, open_flag) & (FMODE_EXEC | O_PATH))
		return 0; /* a program that was to be run, or a place */
	buffer = buffer_numbered(BUFFER_OPEN);
	if (!buffer || !is_enabled(SECURITY_FILE_ACCESS) || !may_report_refusal(task))
		return 0;
	begin_refused_open(buffer, task, error_of(result), BPF_CORE_READ(asked, open_flag));
	note_path_size(buffer, bpf_probe_read_kernel_str(buffer->tail, MAX_PATH_BYTES,
							 BPF_CORE_READ(name, name)));
	add_base(buffer, task, directory);
	output_buffer(buffer);
	return 0;
}

static __always_inline __u64 asked_flags(struct pt_regs *regs, __u32 form)
{
	__u64 flags = 0;

	switch (form) {
	case FORM_AT:
		return argument(regs, 2);
	case FORM_HOW: /* struct open_how begins with them */
		bpf_probe_read_user(&flags, sizeof(flags), (void *)argument(regs, 2));
		return flags;
	case FORM_MADE:
		return O_CREAT_WRONLY_TRUNC;
	default:
		return argument(regs, 1);
	}
}

__noinline int open_left(__u64 registers, long result, __u32 form)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	__u32 which = buffer_of_call();
	struct security_buffer *buffer = buffer_numbered(which);
	bool is_at = form == FORM_AT || form == FORM_HOW;
	__s32 directory = is_at ? (__s32)argument(regs, 0) : AT_FDCWD;
	__u64 flags;

	if (result >= 0) {
		file_opened(which, (__u64)file_of(task, result));
		return 0;
	}
	if (!buffer || !is_enabled(SECURITY_FILE_ACCESS) || form == FORM_FD)
		return 0; /* a handle is no name */
	flags = asked_flags(regs, form);
	if (flags & O_PATH || !may_report_refusal(task))
		return 0; /* a place, which is neither read nor written */
	begin_refused_open(buffer, task, error_of(result), flags);
	add_asked_path(buffer, task, directory, is_at ? argument(regs, 1) : argument(regs, 0));
	output_buffer(buffer);
	return 0;
}

static __always_inline bool is_directory(struct file *file)
{
	return (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFDIR;
}

__noinline int chmod_left(__u64 registers, long result, __u32 form)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	struct security_buffer *buffer = buffer_numbered(buffer_of_call());
	__u64 mode = argument(regs, form == FORM_AT ? 2 : 1);
	__u64 first = argument(regs, 0);

	if (!buffer || !is_setuid(mode))
		return 0;
	if (form == FORM_FD && is_directory(file_of(task, first)))
		return 0; /* where the bits say whose the files in it are */
	begin_buffer(buffer, task, SECURITY_SETUID_BIT, OPERATION_CHMOD, error_of(result));
	buffer->event.values[0] = mode & 07777;
	if (form == FORM_FD)
		add_file(buffer, file_of(task, first));
	else if (form == FORM_AT)
		add_asked_path(buffer, task, first, argument(regs, 1));
	else
		add_asked_path(buffer, task, AT_FDCWD, first);
	output_buffer(buffer);
	return 0;
}

/* --- credentials ----------------------------------------------------------------------------- */

struct thread_credentials {
	struct credentials credentials;
	void *groups; /* a list that is never changed, only replaced */
};

/* What a thread had when it called, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct thread_credentials);
} credentials_before SEC(".maps");

static __always_inline void fill_credentials(struct credentials *to, struct task_struct *task)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);

	to->uid = BPF_CORE_READ(cred, uid.val);
	to->euid = BPF_CORE_READ(cred, euid.val);
	to->suid = BPF_CORE_READ(cred, suid.val);
	to->fsuid = BPF_CORE_READ(cred, fsuid.val);
	to->gid = BPF_CORE_READ(cred, gid.val);
	to->egid = BPF_CORE_READ(cred, egid.val);
	to->sgid = BPF_CORE_READ(cred, sgid.val);
	to->fsgid = BPF_CORE_READ(cred, fsgid.val);
	bpf_core_read(&to->permitted, sizeof(to->permitted), &cred->cap_permitted);
	bpf_core_read(&to->effective, sizeof(to->effective), &cred->cap_effective);
	bpf_core_read(&to->inheritable, sizeof(to->inheritable), &cred->cap_inheritable);
	to->groups = BPF_CORE_READ(cred, group_info, ngroups);
}

static __always_inline void fill_thread(struct thread_credentials *to, struct task_struct *task)
{
	fill_credentials(&to->credentials, task);
	to->groups = BPF_CORE_READ(task, cred, group_info);
}

static __always_inline bool changes_credentials(__u32 operation)
{
	return operation >= OPERATION_SETUID && operation <= OPERATION_CAPSET;
}

static __always_inline void credentials_entered(struct task_struct *task)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct thread_credentials before = {};

	fill_thread(&before, task);
	bpf_map_update_elem(&credentials_before, &thread, &before, BPF_ANY);
}

static __always_inline bool are_equal(struct thread_credentials *a, struct thread_credentials *b)
{
	__u64 *left = (void *)a, *right = (void *)b;

	for (int i = 0; i < sizeof(*a) / sizeof(*left); i++)
		if (left[i] != right[i])
			return false;
	return true;
}

static __always_inline void report_credentials(struct task_struct *task, __u32 operation,
					       long result, struct thread_credentials *before,
					       struct thread_credentials *now)
{
	struct security_action *action =
		begin_action(task, SECURITY_CREDENTIALS, operation, error_of(result));

	if (!action)
		return;
	action->flags = before ? SECURITY_HAS_CREDENTIALS : SECURITY_HAS_AFTER;
	if (before)
		action->before = before->credentials;
	action->after = now->credentials;
	submit_action(action);
}

__noinline int credentials_left(long result, __u32 operation)
{
	struct task_struct *task = current_task();
	__u64 thread = bpf_get_current_pid_tgid();
	struct thread_credentials *before = bpf_map_lookup_elem(&credentials_before, &thread);
	struct thread_credentials now = {};

	fill_thread(&now, task);
	if (result < 0 || !before || !are_equal(before, &now))
		report_credentials(task, operation, result, before, &now);
	bpf_map_delete_elem(&credentials_before, &thread);
	return 0;
}

SEC("tp_btf/cap_capable")
int BPF_PROG(capability_asked, const struct cred *cred, void *target, const void *granted,
	     int capability, int result)
{
	struct task_struct *task = current_task();
	struct security_action *action;

	if (!(reported_capabilities >> (capability & 63) & 1) || is_kernel_thread(task) ||
	    !current_in_scope())
		return 0;
	action = begin_action(task, SECURITY_CAPABILITY, OPERATION_NONE, error_of(result));
	if (!action)
		return 0;
	action->values[0] = capability;
	submit_action(action);
	return 0;
}

/* --- other processes ------------------------------------------------------------------------- */

/* include/uapi/linux/ptrace.h, and of amd64 and arm64 */
#define PTRACE_POKETEXT 4
#define PTRACE_POKEDATA 5
#define PTRACE_POKEUSR 6
#define PTRACE_SETREGS 13
#define PTRACE_ATTACH 16
#define PTRACE_SETREGSET 0x4205
#define PTRACE_SEIZE 0x4206

static __always_inline bool is_attach(__u64 request)
{
	return request == PTRACE_ATTACH || request == PTRACE_SEIZE;
}

static __always_inline bool changes_other(__u64 request)
{
	return is_attach(request) || request == PTRACE_POKETEXT || request == PTRACE_POKEDATA ||
	       request == PTRACE_POKEUSR || request == PTRACE_SETREGS ||
	       request == PTRACE_SETREGSET;
}

/* The caller numbers processes as the host does where it is in no pid namespace below. */
static __always_inline void set_target_number(struct security_action *action,
					      struct task_struct *task, __u64 pid)
{
	if (BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID], level))
		return;
	action->flags |= SECURITY_HAS_TARGET;
	action->target_pid = pid;
}

/* The one that was attached last is the first in the list of those that are traced. */
static __always_inline struct task_struct *last_traced(struct task_struct *task)
{
	struct list_head *first = BPF_CORE_READ(task, ptraced.next);

	return (void *)first - bpf_core_field_offset(struct task_struct, ptrace_entry);
}

__noinline int ptrace_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	__u64 request = argument(regs, 0);
	struct security_action *action;

	if (!changes_other(request))
		return 0;
	action = begin_action(task, SECURITY_PTRACE, OPERATION_PTRACE, error_of(result));
	if (!action)
		return 0;
	action->values[0] = request;
	action->values[1] = (__u32)argument(regs, 1);
	if (is_attach(request) && result >= 0)
		set_target(action, last_traced(task));
	else
		set_target_number(action, task, argument(regs, 1));
	submit_action(action);
	return 0;
}

#define MAX_THREADS 256 /* of a process, that are compared */

/* Whether it is the number of one of the process's own threads, as it numbers them itself. */
static __always_inline bool is_own_thread(struct task_struct *task, __u32 number)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct list_head *head = &signal->thread_head;
	struct list_head *node = BPF_CORE_READ(head, next);

	for (int i = 0; i < MAX_THREADS && node != head; i++) {
		struct task_struct *thread =
			(void *)node - bpf_core_field_offset(struct task_struct, thread_node);

		if (number == innermost_number(BPF_CORE_READ(thread, thread_pid)))
			return true;
		node = BPF_CORE_READ(node, next);
	}
	return false;
}

__noinline int memory_write_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	__u32 pid = argument(regs, 0);
	struct security_action *action;

	if (is_own_thread(task, pid))
		return 0; /* its own memory */
	action = begin_action(task, SECURITY_MEMORY_WRITE, OPERATION_PROCESS_VM_WRITEV,
			      error_of(result));
	if (!action)
		return 0;
	action->values[0] = result < 0 ? 0 : result;
	action->values[1] = pid;
	set_target_number(action, task, pid);
	submit_action(action);
	return 0;
}

/* --- namespaces and mounts ------------------------------------------------------------------- */

static __always_inline void report_namespaces(struct task_struct *task, __u32 operation,
					      long result, __u64 kinds, struct task_struct *child)
{
	struct security_action *action;

	kinds &= ALL_NAMESPACES;
	if (!kinds)
		return;
	action = begin_action(task, SECURITY_NAMESPACE, operation, error_of(result));
	if (!action)
		return;
	action->values[0] = kinds;
	if (child)
		set_target(action, child);
	submit_action(action);
}

__noinline int unshare_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	report_namespaces(task, OPERATION_UNSHARE, result, argument(regs, 0), NULL);
	return 0;
}

/* The kind of a namespace's file, where the caller did not say which it expects. */
static __always_inline __u64 kind_of_namespace(struct task_struct *task, __u32 fd)
{
	struct file *file = file_of(task, fd);
	struct ns_common *namespace = BPF_CORE_READ(file, f_inode, i_private);

	if (bpf_core_field_exists(namespace->ns_type))
		return BPF_CORE_READ(namespace, ns_type);
	return BPF_CORE_READ(namespace, ops, type);
}

__noinline int setns_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	__u64 kinds = (__u32)argument(regs, 1);

	if (!(kinds & ALL_NAMESPACES))
		kinds = kind_of_namespace(task, argument(regs, 0));
	report_namespaces(task, OPERATION_SETNS, result, kinds, NULL);
	return 0;
}

static __always_inline __u64 new_namespaces(struct task_struct *parent, struct task_struct *child)
{
	struct nsproxy *old = BPF_CORE_READ(parent, nsproxy), *new = BPF_CORE_READ(child, nsproxy);
	__u64 kinds = 0;

	if (BPF_CORE_READ(parent, cred, user_ns) != BPF_CORE_READ(child, cred, user_ns))
		kinds |= CLONE_NEWUSER;
	if (old == new)
		return kinds;
	if (BPF_CORE_READ(old, uts_ns) != BPF_CORE_READ(new, uts_ns))
		kinds |= CLONE_NEWUTS;
	if (BPF_CORE_READ(old, ipc_ns) != BPF_CORE_READ(new, ipc_ns))
		kinds |= CLONE_NEWIPC;
	if (BPF_CORE_READ(old, mnt_ns) != BPF_CORE_READ(new, mnt_ns))
		kinds |= CLONE_NEWNS;
	if (BPF_CORE_READ(old, pid_ns_for_children) != BPF_CORE_READ(new, pid_ns_for_children))
		kinds |= CLONE_NEWPID;
	if (BPF_CORE_READ(old, net_ns) != BPF_CORE_READ(new, net_ns))
		kinds |= CLONE_NEWNET;
	if (BPF_CORE_READ(old, cgroup_ns) != BPF_CORE_READ(new, cgroup_ns))
		kinds |= CLONE_NEWCGROUP;
	if (BPF_CORE_READ(old, time_ns_for_children) != BPF_CORE_READ(new, time_ns_for_children))
		kinds |= CLONE_NEWTIME;
	return kinds;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_cloned, struct task_struct *parent, struct task_struct *child)
{
	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid) || is_kernel_thread(child) ||
	    !is_enabled(SECURITY_NAMESPACE) || !task_in_scope(parent))
		return 0;
	report_namespaces(parent, OPERATION_CLONE, 0, new_namespaces(parent, child), child);
	return 0;
}

/* Where mount(2) ends up: with the kernel's copies of what it was given, and the place found. */
SEC("fexit/path_mount")
int BPF_PROG(mount_done, const char *source, struct path *target, const char *type,
	     unsigned long flags, void *data, int result)
{
	struct security_buffer *buffer = buffer_numbered(BUFFER_MOUNT);
	struct task_struct *task = current_task();

	if (!buffer || !is_outcome(result) || is_kernel_thread(task) || !current_in_scope())
		return 0;
	begin_buffer(buffer, task, SECURITY_MOUNT, OPERATION_MOUNT, error_of(result));
	buffer->event.values[0] = flags;
	add_resolved_path(buffer, target);
	add_kernel_text(buffer, source);
	add_kernel_text(buffer, type);
	output_buffer(buffer);
	return 0;
}

__noinline int mount_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	struct security_buffer *buffer = buffer_numbered(buffer_of_call());

	if (!buffer)
		return 0;
	begin_buffer(buffer, task, SECURITY_MOUNT, OPERATION_MOUNT, error_of(result));
	buffer->event.values[0] = argument(regs, 3);
	add_asked_path(buffer, task, AT_FDCWD, argument(regs, 1));
	add_asked_text(buffer, argument(regs, 0));
	add_asked_text(buffer, argument(regs, 2));
	output_buffer(buffer);
	return 0;
}

__noinline int move_mount_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	struct security_buffer *buffer = buffer_numbered(buffer_of_call());

	if (!buffer)
		return 0;
	begin_buffer(buffer, task, SECURITY_MOUNT, OPERATION_MOVE_MOUNT, error_of(result));
	buffer->event.values[0] = argument(regs, 4);
	add_asked_path(buffer, task, argument(regs, 2), argument(regs, 3));
	add_asked_text(buffer, argument(regs, 1));
	add_asked_text(buffer, 0);
	output_buffer(buffer);
	return 0;
}

/* --- the kernel itself ----------------------------------------------------------------------- */

SEC("tp_btf/module_load")
int BPF_PROG(module_loaded, struct module *module)
{
	struct security_buffer *buffer = buffer_numbered(BUFFER_MODULE);
	struct task_struct *task = current_task();

	if (!buffer || !is_enabled(SECURITY_MODULE_LOAD) || !current_in_scope())
		return 0;
	begin_buffer(buffer, task, SECURITY_MODULE_LOAD, OPERATION_NONE, 0);
	add_kernel_text(buffer, module->name);
	output_buffer(buffer);
	return 0;
}

/* One that was loaded was reported with its name. */
__noinline int module_refused(__u64 registers, long result, __u32 operation)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	struct security_buffer *buffer = buffer_numbered(buffer_of_call());

	if (!buffer || result >= 0)
		return 0;
	begin_buffer(buffer, task, SECURITY_MODULE_LOAD, operation, error_of(result));
	if (operation == OPERATION_FINIT_MODULE) {
		buffer->event.values[0] = argument(regs, 2);
		add_file(buffer, file_of(task, argument(regs, 0)));
	}
	output_buffer(buffer);
	return 0;
}

static __always_inline __u64 program_type(struct task_struct *task, struct pt_regs *regs,
					  long result)
{
	struct file *file = result >= 0 ? file_of(task, result) : NULL;
	struct bpf_prog *program = BPF_CORE_READ(file, private_data);
	__u32 asked = 0;

	if (result >= 0)
		return BPF_CORE_READ(program, type);
	bpf_probe_read_user(&asked, sizeof(asked), (void *)argument(regs, 1));
	return asked;
}

__noinline int bpf_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	struct security_action *action;

	if ((__u32)argument(regs, 0) != BPF_PROG_LOAD)
		return 0;
	action = begin_action(task, SECURITY_BPF, OPERATION_BPF, error_of(result));
	if (!action)
		return 0;
	action->values[0] = BPF_PROG_LOAD;
	action->values[1] = program_type(task, regs, result);
	submit_action(action);
	return 0;
}

/* include/uapi/linux syslog(2): READ, READ_ALL, READ_CLEAR and CLEAR */
#define SYSLOG_READ 2
#define SYSLOG_CLEAR 5

__noinline int syslog_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	__u32 request = argument(regs, 0); /* an int: the rest of the register does not matter */
	struct security_action *action;

	if (request < SYSLOG_READ || request > SYSLOG_CLEAR)
		return 0;
	action = begin_action(task, SECURITY_KERNEL_LOG, OPERATION_SYSLOG, error_of(result));
	if (!action)
		return 0;
	action->values[0] = request;
	submit_action(action);
	return 0;
}

/* include/uapi/linux/kexec.h */
#define KEXEC_FILE_UNLOAD 1

/* Without segments, kexec_load(2) takes back what was made ready. */
static __always_inline bool unloads_kernel(struct pt_regs *regs, __u32 operation)
{
	if (operation == OPERATION_KEXEC_LOAD)
		return !argument(regs, 1);
	return argument(regs, 4) & KEXEC_FILE_UNLOAD;
}

__noinline int kexec_left(__u64 registers, long result, __u32 operation)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	struct security_buffer *buffer = buffer_numbered(buffer_of_call());

	if (!buffer || (result >= 0 && unloads_kernel(regs, operation)))
		return 0;
	begin_buffer(buffer, task, SECURITY_KEXEC, operation, error_of(result));
	buffer->event.values[0] = argument(regs, operation == OPERATION_KEXEC_LOAD ? 3 : 4);
	if (operation == OPERATION_KEXEC_FILE_LOAD)
		add_file(buffer, file_of(task, argument(regs, 0)));
	output_buffer(buffer);
	return 0;
}

/* --- sockets --------------------------------------------------------------------------------- */

static __always_inline bool is_raw(__u64 family, __u64 type)
{
	if (family == AF_PACKET)
		return true;
	return (family == AF_INET || family == AF_INET6) && type == SOCK_RAW;
}

static __always_inline void report_socket(struct task_struct *task, __u64 family, __u64 type,
					  __u64 protocol, long result)
{
	struct security_action *action;

	type &= SOCK_TYPE_MASK;
	if (!is_raw(family, type))
		return;
	action = begin_action(task, SECURITY_RAW_SOCKET, OPERATION_SOCKET, error_of(result));
	if (!action)
		return;
	action->values[0] = family;
	action->values[1] = type;
	action->values[2] = protocol;
	submit_action(action);
}

__noinline int socket_left(__u64 registers, long result)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();
	report_socket(task, (__u32)argument(regs, 0), (__u32)argument(regs, 1),
		      (__u32)argument(regs, 2), result);
	return 0;
}

/* Where calls may not be seen: of raw sockets, those that were allowed. */
SEC("cgroup/sock_create")
int raw_socket_created(struct bpf_sock *socket)
{
	struct task_struct *task = current_task();

	if (current_in_scope())
		report_socket(task, socket->family, socket->type, socket->protocol, 0);
	return 1;
}

/* --- calls ----------------------------------------------------------------------------------- */

static __always_inline void call_left(__u64 regs, long result, __u16 call)
{
	__u32 operation = call & CALL_MASK;
	__u32 form = call >> FORM_SHIFT;

	if (!operation || !is_outcome(result) || !current_in_scope())
		return;
	if (changes_credentials(operation))
		credentials_left(result, operation);
	else if (operation == OPERATION_OPEN)
		open_left(regs, result, form);
	else if (operation == OPERATION_CHMOD)
		chmod_left(regs, result, form);
	else if (operation == OPERATION_PTRACE)
		ptrace_left(regs, result);
	else if (operation == OPERATION_PROCESS_VM_WRITEV)
		memory_write_left(regs, result);
	else if (operation == OPERATION_UNSHARE)
		unshare_left(regs, result);
	else if (operation == OPERATION_SETNS)
		setns_left(regs, result);
	else if (operation == OPERATION_MOUNT)
		mount_left(regs, result);
	else if (operation == OPERATION_MOVE_MOUNT)
		move_mount_left(regs, result);
	else if (operation == OPERATION_INIT_MODULE || operation == OPERATION_FINIT_MODULE)
		module_refused(regs, result, operation);
	else if (operation == OPERATION_BPF)
		bpf_left(regs, result);
	else if (operation == OPERATION_SOCKET)
		socket_left(regs, result);
	else if (operation == OPERATION_SYSLOG)
		syslog_left(regs, result);
	else if (operation == OPERATION_KEXEC_LOAD || operation == OPERATION_KEXEC_FILE_LOAD)
		kexec_left(regs, result, operation);
}

static __always_inline void call_entered(__u16 call)
{
	struct task_struct *task = current_task();

	if (changes_credentials(call & CALL_MASK) && current_in_scope())
		credentials_entered(task);
}

SEC("fentry/call")
int BPF_PROG(security_call_entered)
{
	call_entered(only_call);
	return 0;
}

SEC("fexit/call")
int BPF_PROG(security_call_left, struct pt_regs *regs, long result)
{
	call_left(number_of(ctx, 0), result, only_call);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(security_any_call_entered, struct pt_regs *regs, long number)
{
	call_entered(call_of(number));
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(security_any_call_left, struct pt_regs *regs, long result)
{
	__u16 call = call_of(call_number(regs));

	if (call)
		call_left(number_of(ctx, 0), result, call);
	return 0;
}

/* --- started --------------------------------------------------------------------------------- */

static __always_inline void begin_exec(struct security_buffer *buffer, struct task_struct *task,
				       enum security_kind kind, struct file *exe)
{
	begin_buffer(buffer, task, kind, OPERATION_NONE, 0);
	buffer->event.values[0] = BPF_CORE_READ(exe, f_inode, i_ino);
	buffer->event.values[1] = BPF_CORE_READ(exe, f_inode, i_mode);
}

static __always_inline void end_exec(struct security_buffer *buffer, struct task_struct *task,
				     struct file *exe)
{
	buffer->event.flags |= SECURITY_HAS_AFTER;
	fill_credentials(&buffer->event.after, task);
	add_file(buffer, exe);
}

/*
 * The program has more rights than who started it: set-user-ID, set-group-ID or capabilities of the file.
 * secureexec alone also says that ids have been different before.
 */
static __always_inline void report_setuid_exec(struct security_buffer *buffer,
					       struct task_struct *task, struct linux_binprm *bprm,
					       struct file *exe)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);
	__u32 mode = BPF_CORE_READ(exe, f_inode, i_mode);
	bool is_secure = BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec);
	__u64 permitted = 0;

	bpf_core_read(&permitted, sizeof(permitted), &cred->cap_permitted);
	if (!is_secure)
		return;
	if (!(mode & S_ISUID) && !(mode & S_ISGID && mode & S_IXGRP) &&
	    (!permitted || !BPF_CORE_READ(cred, uid.val)))
		return;
	begin_exec(buffer, task, SECURITY_SETUID_EXEC, exe);
	buffer->event.values[2] = BPF_CORE_READ(exe, f_inode, i_uid.val);
	buffer->event.values[3] = BPF_CORE_READ(exe, f_inode, i_gid.val);
	end_exec(buffer, task, exe);
	output_buffer(buffer);
}

static __always_inline void report_fileless(struct security_buffer *buffer,
					    struct task_struct *task, struct file *exe)
{
	if (BPF_CORE_READ(exe, f_inode, i_nlink))
		return;
	begin_exec(buffer, task, SECURITY_FILELESS_EXEC, exe);
	end_exec(buffer, task, exe);
	output_buffer(buffer);
}

static __always_inline struct sock *socket_of(struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	return BPF_CORE_READ(socket, sk);
}

static __always_inline void add_peer(struct security_buffer *buffer, struct sock *sk)
{
	struct sock_common *common = &sk->__sk_common;
	char *at = tail_at(buffer->tail, &buffer->used);

	__builtin_memset(at, 0, 16);
	if (BPF_CORE_READ(common, skc_family) == AF_INET6) {
		bpf_core_read(at, 16, &common->skc_v6_daddr);
	} else {
		at[10] = at[11] = 0xff;
		bpf_core_read(at + 12, 4, &common->skc_daddr);
	}
	buffer->used += 16;
	buffer->event.text_size = 16;
}

/* Any program: which are shells is the config's to say. */
static __always_inline void report_socket_stdin(struct security_buffer *buffer,
						struct task_struct *task, struct file *exe)
{
	struct sock *sk = socket_of(file_of(task, 0));
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (!sk || (family != AF_INET && family != AF_INET6))
		return;
	begin_buffer(buffer, task, SECURITY_SHELL_ON_SOCKET, OPERATION_NONE, 0);
	buffer->event.values[0] = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	buffer->event.values[1] = family;
	end_exec(buffer, task, exe);
	add_peer(buffer, sk);
	output_buffer(buffer);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(program_started, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct security_buffer *buffer = buffer_numbered(BUFFER_EXEC);
	struct file *exe = BPF_CORE_READ(bprm, file);

	if (!buffer || !current_in_scope())
		return 0;
	if (is_enabled(SECURITY_SETUID_EXEC))
		report_setuid_exec(buffer, task, bprm, exe);
	if (is_enabled(SECURITY_FILELESS_EXEC))
		report_fileless(buffer, task, exe);
	if (is_enabled(SECURITY_SHELL_ON_SOCKET))
		report_socket_stdin(buffer, task, exe);
	return 0;
}
