//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/* How long etcd waits for its disk: what it writes to its files, and what it syncs. */
#include "kernel.h"
#include "call.h"
#include "event.h"
#include "limit.h"
#include "once.h"
#include "ring.h"
#include "scope.h"
#include "task.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define MAX_ETCDS 1024
#define MAX_CALLS_UNDER_WAY 4096
#define MAX_EXECUTABLE_BYTES 64 /* with the NUL */

/* --- who is etcd ----------------------------------------------------------------------------- */

struct executable {
	char name[MAX_EXECUTABLE_BYTES]; /* filled up with NULs */
};

/* File names of programs that are etcd. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct executable);
	__type(value, __u8);
} etcd_executables SEC(".maps");

/*
 * Processes that run etcd, by pid, and when they began, since a pid is used again. Put in when a program is
 * started, or at the start of the receiver; taken out when the process runs another one, or ends.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ETCDS);
	__type(key, __u32);
	__type(value, __u64);
} etcds SEC(".maps");

/* How many there are: where there are none, no call has to be looked at. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __s64);
} etcd_count SEC(".maps");

static __always_inline __s64 *count_of_etcds(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&etcd_count, &first);
}

static __always_inline void add_to_count(__s64 change)
{
	__s64 *count = count_of_etcds();

	if (count)
		__sync_fetch_and_add(count, change);
}

/* One that there is no room for is in the account, once: its calls are not seen. */
static __always_inline void note_etcd(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	__u64 start_time = start_time_of(task);
	/* before Linux 6.4 only the lower half of what a map's operation returns is defined */
	int error = bpf_map_update_elem(&etcds, &pid, &start_time, BPF_NOEXIST);

	if (!error)
		add_to_count(1);
	else if ((error != -EEXIST || bpf_map_update_elem(&etcds, &pid, &start_time, BPF_EXIST)) &&
		 first_to_report(task, ETCD_CALL))
		count_table_full(ETCD_CALL);
}

static __always_inline void forget_etcd(__u32 pid)
{
	int error = bpf_map_delete_elem(&etcds, &pid);

	if (!error)
		add_to_count(-1);
}

static __always_inline bool runs_etcd(struct task_struct *task)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	struct dentry *dentry = BPF_CORE_READ(exe, f_path.dentry);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	struct executable executable = {};

	if (bpf_probe_read_kernel_str(executable.name, sizeof(executable.name), name) <= 0)
		return false; /* it has no executable: it is on its way out */
	return bpf_map_lookup_elem(&etcd_executables, &executable);
}

static __always_inline void look_at(struct task_struct *task)
{
	if (task_in_scope(task) && runs_etcd(task))
		note_etcd(task);
	else
		forget_etcd(BPF_CORE_READ(task, tgid));
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(etcd_started, struct task_struct *task)
{
	look_at(task);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(etcd_start_missed, struct task_struct *task)
{
	look_at(task);
	return 0;
}

static __always_inline void look_at_end(struct task_struct *task)
{
	if (!BPF_CORE_READ(task, signal, live.counter)) /* no other threads live on */
		forget_etcd(BPF_CORE_READ(task, tgid));
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(etcd_ended, struct task_struct *task)
{
	look_at_end(task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(etcd_end_missed, struct task_struct *task)
{
	look_at_end(task);
	return 0;
}

/* Run once by the loader: those that are older than the receiver. */
SEC("iter/task")
int find_etcds(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (!task || task->pid != task->tgid)
		return 0; /* the end, or a thread */
	if (task_in_scope(task) && runs_etcd(task))
		note_etcd(task);
	return 0;
}

/* --- calls ----------------------------------------------------------------------------------- */

/* A call under way, and the file: when it has ended, another thread may have closed that. */
struct call_begun {
	__u64 time; /* CLOCK_BOOTTIME, ns */
	__u64 inode;
	__u32 device;
	__u32 reserved;
	__u8 name[MAX_ETCD_NAME_BYTES];
	__u8 directory[MAX_ETCD_DIRECTORY_BYTES];
};

/* By thread. LRU: the end of a call may be missed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CALLS_UNDER_WAY);
	__type(key, __u64);
	__type(value, struct call_begun);
} calls_begun SEC(".maps");

static __always_inline bool is_any_etcd(void)
{
	__s64 *count = count_of_etcds();

	return count && *count > 0;
}

static __always_inline bool is_etcd(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	__u64 *start_time = bpf_map_lookup_elem(&etcds, &pid);

	return start_time && *start_time == start_time_of(task) && task_in_scope(task);
}

static __always_inline void fill_file(struct call_begun *begun, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	const unsigned char *directory = BPF_CORE_READ(dentry, d_parent, d_name.name);

	begun->inode = BPF_CORE_READ(inode, i_ino);
	begun->device = BPF_CORE_READ(inode, i_sb, s_dev);
	bpf_probe_read_kernel_str(begun->name, sizeof(begun->name), name);
	bpf_probe_read_kernel_str(begun->directory, sizeof(begun->directory), directory);
}

static __always_inline bool is_regular(struct file *file)
{
	return file && (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFREG;
}

static __always_inline void call_entered(struct task_struct *task, struct pt_regs *regs)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call_begun begun = {};
	struct file *file;

	if (!is_etcd(task))
		return;
	file = file_of(task, argument(regs, 0)); /* of all these calls it is the first argument */
	if (!is_regular(file)) {
		bpf_map_delete_elem(&calls_begun, &thread); /* of a call whose end was missed */
		return;
	}
	fill_file(&begun, file);
	begun.time = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(&calls_begun, &thread, &begun, BPF_ANY);
}

static __always_inline bool is_write(__u16 operation)
{
	return operation >= ETCD_WRITE;
}

static __always_inline void fill_call(struct etcd_call *event, struct task_struct *task,
				      struct call_begun *begun, long result, __u16 operation)
{
	fill_header(&event->header, task);
	event->began = begun->time;
	event->bytes = result > 0 && is_write(operation) ? result : 0;
	event->error = result < 0 ? -result : 0;
	event->inode = begun->inode;
	event->device = begun->device;
	event->thread = BPF_CORE_READ(task, pid);
	event->operation = operation;
	__builtin_memcpy(event->name, begun->name, sizeof(event->name));
	__builtin_memcpy(event->directory, begun->directory, sizeof(event->directory));
}

static __always_inline void report_call(struct task_struct *task, struct call_begun *begun,
					long result, __u16 operation)
{
	struct etcd_call *event = reserve_event(&traffic_ring, ETCD_CALL, sizeof(*event));

	if (!event)
		return;
	fill_call(event, task, begun, result, operation);
	submit_event(&traffic_ring, event);
}

static __always_inline void call_left(struct task_struct *task, long result, __u16 operation)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call_begun *begun = bpf_map_lookup_elem(&calls_begun, &thread);

	if (!begun)
		return; /* not etcd's, no file, or it began before we looked */
	if (!is_task_throttled(task, ETCD_CALL, 0))
		report_call(task, begun, result, operation);
	bpf_map_delete_elem(&calls_begun, &thread);
}

SEC("fentry/call")
int BPF_PROG(etcd_call_entered, struct pt_regs *regs)
{
	if (is_any_etcd())
		call_entered(current_task(), regs);
	return 0;
}

SEC("fexit/call")
int BPF_PROG(etcd_call_left, struct pt_regs *regs, long result)
{
	if (is_any_etcd())
		call_left(current_task(), result, only_call & CALL_MASK);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(etcd_any_call_entered, struct pt_regs *regs, long number)
{
	if (is_any_etcd() && call_of(number))
		call_entered(current_task(), regs);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(etcd_any_call_left, struct pt_regs *regs, long result)
{
	__u16 call = is_any_etcd() ? call_of(call_number(regs)) : 0;

	if (call)
		call_left(current_task(), result, call & CALL_MASK);
	return 0;
}
