//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/* Processes: started, forked, gone, killed for memory. */
#include "kernel.h"
#include "event.h"
#include "limit.h"
#include "once.h"
#include "ring.h"
#include "scope.h"
#include "sums.h"
#include "task.h"

/* Both paths and the arguments, and room for the last write of each to overshoot. */
#define MAX_TAIL_BYTES 16384
#include "path.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define MAX_UNRELEASED_THREADS 256

/* Set by the loader. */
const volatile __u32 max_argument_bytes = 1024; /* 0: arguments are not read */
const volatile __u32 page_size = 4096;

struct exec_buffer {
	__u64 used; /* of the tail */
	struct process_exec event;
	char tail[MAX_TAIL_BYTES + MAX_ARGUMENT_BYTES];
};

/* Records under construction, too large for the stack: one for each program that makes them. */
enum { BUFFER_STARTED, BUFFER_MISSED, BUFFER_COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUFFER_COUNT);
	__type(key, __u32);
	__type(value, struct exec_buffer);
} exec_buffers SEC(".maps");

/* --- limits ---------------------------------------------------------------------------------- */

struct untold_process {
	__u64 start_time;
	__u64 cgroup_id; /* whose limit it was */
};

/* Processes that are not told, where there is a limit, by pid, until they end. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct untold_process);
} untold_processes SEC(".maps");

static __always_inline void leave_untold(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct untold_process untold = {
		.start_time = start_time_of(task),
		.cgroup_id = cgroup_id_of_task(task),
	};

	bpf_map_update_elem(&untold_processes, &pid, &untold, BPF_ANY);
}

static __always_inline struct untold_process *find_untold(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct untold_process *untold = bpf_map_lookup_elem(&untold_processes, &pid);

	return untold && untold->start_time == start_time_of(task) ? untold : NULL;
}

static __always_inline void forget_untold(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);

	bpf_map_delete_elem(&untold_processes, &pid);
}

/* Sized by the loader. */
struct process_sums_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct process_sum_key);
	__type(value, struct process_sums);
};

struct process_sums_map process_sums_0 SEC(".maps");
struct process_sums_map process_sums_1 SEC(".maps");

/* What a key begins with. Nothing writes to it. */
const struct process_sums no_processes = {};

static __always_inline struct process_sums *process_sums_of(const struct process_sum_key *key)
{
	if (is_turn_of_second())
		return sums_in(&process_sums_1, key, &no_processes);
	return sums_in(&process_sums_0, key, &no_processes);
}

/* Beyond the limit starts and ends are but counted, so that metrics have all of them. Of forks there is no metric. */
static __always_inline void sum_up(__u64 cgroup_id, __u16 type, __u32 status)
{
	struct process_sum_key key = {.cgroup_id = cgroup_id, .type = type, .status = status};
	struct process_sums *sums = process_sums_of(&key);

	if (!sums) {
		count_throttled(type); /* there is no room for one more */
		return;
	}
	count_seen(type);
	__sync_fetch_and_add(&sums->events, 1);
}

static __always_inline bool is_fork_throttled(struct task_struct *child)
{
	if (!is_task_throttled(child, PROCESS_FORK, 0))
		return false;
	leave_untold(child);
	return true;
}

/*
 * What a process that is told runs may go beyond the limit of forks, so that it is not left with another program's name:
 * sh, env and nice are one after the other. It is paid for all the same.
 */
#define EXEC_AHEAD (8 * SECOND)

/*
 * A process is told from its fork to its end, or not at all. But one that was made by another cgroup, as those of a
 * container are, is told from here on if its own cgroup may: who was beyond the limit was the other one.
 */
static __always_inline bool is_start_throttled(struct task_struct *task)
{
	struct untold_process *untold;
	__u64 cgroup_id;

	if (!has_limit(PROCESS_EXEC))
		return false;
	cgroup_id = cgroup_id_of_task(task);
	untold = find_untold(task);
	if (untold && untold->cgroup_id == cgroup_id) {
		leave_out_event(cgroup_id, PROCESS_EXEC);
		sum_up(cgroup_id, PROCESS_EXEC, 0);
		return true;
	}
	if (limit_event(cgroup_id, PROCESS_EXEC, 0, EXEC_AHEAD, bpf_ktime_get_boot_ns())) {
		leave_untold(task);
		sum_up(cgroup_id, PROCESS_EXEC, 0);
		return true;
	}
	if (untold)
		forget_untold(task);
	return false;
}

static __always_inline bool is_exit_throttled(struct task_struct *task)
{
	__u64 cgroup_id;

	if (!has_limit(PROCESS_EXIT) || !find_untold(task))
		return false;
	forget_untold(task);
	cgroup_id = cgroup_id_of_task(task);
	leave_out_event(cgroup_id, PROCESS_EXIT);
	sum_up(cgroup_id, PROCESS_EXIT, exit_status(task));
	return true;
}

/* The old form of the event names no cgroup: of a process that was not told it is told here which it is. */
static __always_inline void fill_untold_victim(struct event_header *header)
{
	struct untold_process *untold;

	if (!has_limit(PROCESS_FORK))
		return;
	untold = bpf_map_lookup_elem(&untold_processes, &header->pid);
	if (!untold)
		return;
	header->start_time = untold->start_time;
	header->cgroup_id = untold->cgroup_id;
}

/* --- started --------------------------------------------------------------------------------- */

/* The arguments as the kernel put them on the new stack; returns flags. */
static __always_inline __u16 append_arguments(struct exec_buffer *buffer, struct mm_struct *mm)
{
	unsigned long start = BPF_CORE_READ(mm, arg_start);
	unsigned long size = BPF_CORE_READ(mm, arg_end) - start;
	unsigned long limit = max_argument_bytes;
	__u16 flags = 0;

	if (!limit || !size)
		return 0;
	if (limit > MAX_ARGUMENT_BYTES)
		limit = MAX_ARGUMENT_BYTES;
	if (size > limit) {
		size = limit;
		flags = EXEC_ARGS_TRUNCATED;
	}
	if (bpf_probe_read_user(tail_at(buffer->tail, &buffer->used), size, (void *)start))
		return EXEC_ARGS_UNREADABLE;
	buffer->used += size;
	return flags;
}

static __always_inline void append_tail(struct exec_buffer *buffer, struct task_struct *task)
{
	struct process_exec *event = &buffer->event;
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct file *exe = BPF_CORE_READ(mm, exe_file);
	struct fs_struct *fs = BPF_CORE_READ(task, fs);

	buffer->used = 0;
	if (!BPF_CORE_READ(exe, f_inode, i_nlink))
		event->flags |= EXEC_EXE_UNLINKED;
	if (!append_path(buffer->tail, &buffer->used, &exe->f_path))
		event->flags |= EXEC_EXE_TRUNCATED;
	event->exe_size = buffer->used;
	if (!append_path(buffer->tail, &buffer->used, &fs->pwd))
		event->flags |= EXEC_CWD_TRUNCATED;
	event->cwd_size = buffer->used - event->exe_size;
	event->flags |= append_arguments(buffer, mm);
	event->args_size = buffer->used - event->exe_size - event->cwd_size;
}

/* Of those whose memory the process has let go of: at its start that is not its own yet. Bytes. */
static __always_inline __u64 peak_memory(struct task_struct *task)
{
	return BPF_CORE_READ(task, signal, maxrss) * page_size;
}

/* Not inlined, as the others that two programs share. */
static __noinline void report_start(struct task_struct *task, __u32 which)
{
	struct exec_buffer *buffer;
	__u64 tail;

	if (!task_in_scope(task) || !first_to_report(task, PROCESS_EXEC) ||
	    is_start_throttled(task))
		return;
	buffer = bpf_map_lookup_elem(&exec_buffers, &which);
	if (!buffer)
		return; /* cannot happen: an array's element always exists */

	__builtin_memset(&buffer->event, 0, sizeof(buffer->event));
	buffer->event.header.time = bpf_ktime_get_boot_ns();
	buffer->event.header.type = PROCESS_EXEC;
	fill_header(&buffer->event.header, task);
	fill_identity(&buffer->event.process, task);
	buffer->event.process.peak_before = peak_memory(task) >> 10;
	append_tail(buffer, task);
	tail = buffer->used & TAIL_MASK; /* for the verifier: two paths and arguments are less */
	output_event(&lifecycle_ring, PROCESS_EXEC, &buffer->event, sizeof(buffer->event) + tail);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_started, struct task_struct *task)
{
	report_start(task, BUFFER_STARTED);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_start_missed, struct task_struct *task)
{
	report_start(task, BUFFER_MISSED);
	return 0;
}

/* --- forked ---------------------------------------------------------------------------------- */

static __noinline void report_fork(struct task_struct *child)
{
	struct process_fork *event;

	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid))
		return; /* a thread is not a process */
	if (is_kernel_thread(child) || !task_in_scope(child) ||
	    !first_to_report(child, PROCESS_FORK) || is_fork_throttled(child))
		return;
	event = reserve_event(&lifecycle_ring, PROCESS_FORK, sizeof(*event));
	if (!event)
		return;
	fill_header(&event->header, child);
	fill_identity(&event->process, child);
	submit_event(&lifecycle_ring, event);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_forked, struct task_struct *parent, struct task_struct *child)
{
	report_fork(child);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork_missed, struct task_struct *parent, struct task_struct *child)
{
	report_fork(child);
	return 0;
}

/* --- gone ------------------------------------------------------------------------------------ */

struct usage {
	__u64 cpu_time;
	__u64 read_bytes;
	__u64 written_bytes;
};

static __always_inline void add_io(struct usage *usage, struct task_io_accounting *io)
{
	if (!bpf_core_field_exists(io->read_bytes))
		return; /* built without CONFIG_TASK_IO_ACCOUNTING */
	usage->read_bytes += BPF_CORE_READ(io, read_bytes);
	usage->written_bytes += BPF_CORE_READ(io, write_bytes);
}

static __always_inline void add_thread(struct usage *usage, struct task_struct *thread)
{
	usage->cpu_time += BPF_CORE_READ(thread, se.sum_exec_runtime);
	add_io(usage, &thread->ioac);
}

/*
 * Threads that were released have left what they used in the signal struct, those that have only
 * exited still have it themselves. False if there are too many of these.
 */
static __always_inline bool sum_usage(struct usage *usage, struct signal_struct *signal)
{
	struct list_head *head = &signal->thread_head;
	struct list_head *node = BPF_CORE_READ(head, next);

	*usage = (struct usage){.cpu_time = BPF_CORE_READ(signal, sum_sched_runtime)};
	add_io(usage, &signal->ioac);
	for (int i = 0; i < MAX_UNRELEASED_THREADS; i++) {
		if (!node || node == head)
			return true;
		add_thread(usage,
			   (void *)node - bpf_core_field_offset(struct task_struct, thread_node));
		node = BPF_CORE_READ(node, next);
	}
	return false;
}

/* Summed again if a thread was released meanwhile: it would be missing, or be there twice. */
static __always_inline bool usage_of(struct usage *usage, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);

	for (int attempt = 0; attempt < 3; attempt++) {
		int threads = BPF_CORE_READ(signal, nr_threads);
		bool complete = sum_usage(usage, signal);

		if (threads == BPF_CORE_READ(signal, nr_threads))
			return complete;
	}
	return false;
}

static __always_inline void fill_usage(struct process_exit *event, struct task_struct *task)
{
	struct usage usage;

	if (!usage_of(&usage, task) || !usage.cpu_time)
		return; /* not known, or the scheduler has not counted yet */
	event->flags |= EXIT_HAS_USAGE;
	event->cpu_time = usage.cpu_time;
	if (!bpf_core_field_exists(task->ioac.read_bytes))
		return;
	event->flags |= EXIT_HAS_IO;
	event->read_bytes = usage.read_bytes;
	event->written_bytes = usage.written_bytes;
}

static __noinline void report_exit(struct task_struct *task)
{
	struct process_exit *event;

	if (BPF_CORE_READ(task, signal, live.counter))
		return; /* other threads live on */
	if (is_kernel_thread(task) || !task_in_scope(task) ||
	    !first_to_report(task, PROCESS_EXIT) || is_exit_throttled(task))
		return;
	event = reserve_event(&lifecycle_ring, PROCESS_EXIT, sizeof(*event));
	if (!event)
		return;
	fill_header(&event->header, task);
	event->status = exit_status(task);
	event->peak_memory = peak_memory(task);
	fill_usage(event, task);
	submit_event(&lifecycle_ring, event);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exited, struct task_struct *task)
{
	report_exit(task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit_missed, struct task_struct *task)
{
	report_exit(task);
	return 0;
}

/* --- killed for memory ----------------------------------------------------------------------- */

/*
 * Not tp_btf: the argument is the task since Linux 6.8 and was its pid before, and a typed program
 * fits only one of the two. The old form names no cgroup; the receiver knows whether the process
 * is one of ours.
 */
SEC("raw_tp/mark_victim")
int process_oom_killed(struct bpf_raw_tracepoint_args *ctx)
{
	bool has_task = bpf_core_field_exists(struct trace_event_raw_mark_victim, uid);
	struct task_struct *task = (void *)ctx->args[0];
	struct process_oom_kill *event;

	if (has_task && !task_in_scope(task))
		return 0;
	event = reserve_event(&lifecycle_ring, PROCESS_OOM_KILL, sizeof(*event));
	if (!event)
		return 0;
	if (has_task)
		fill_header(&event->header, task);
	else {
		event->header.pid = ctx->args[0];
		fill_untold_victim(&event->header);
	}
	submit_event(&lifecycle_ring, event);
	return 0;
}
