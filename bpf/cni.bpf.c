//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/* How pods get their network: plugins that run, and network namespaces that come and go. */
#include "cni.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* --- plugins --------------------------------------------------------------------------------- */

static __always_inline void output_began(struct began_buffer *buffer, struct task_struct *task,
					 __u64 now)
{
	__u64 tail = buffer->used & TAIL_MASK; /* for the verifier: there is always room */

	buffer->event.header.time = now;
	buffer->event.header.type = CNI_BEGAN;
	fill_header(&buffer->event.header, task);
	fill_identity(&buffer->event.process, task);
	buffer->event.netns = netns_of(task);
	buffer->event.environment_size = buffer->used - buffer->event.path_size;
	output_event(&lifecycle_ring, CNI_BEGAN, &buffer->event, sizeof(buffer->event) + tail);
}

/* A plugin that starts another program in its own place goes on as what it was. */
static __always_inline bool is_running(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct run *run = bpf_map_lookup_elem(&runs, &pid);

	return run && run->start_time == start_time_of(task);
}

static __always_inline void report_began(struct task_struct *task, struct linux_binprm *bprm,
					 __u32 which)
{
	struct began_buffer *buffer = buffer_numbered(which);
	const char *filename = BPF_CORE_READ(bprm, filename);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!buffer || !task_in_scope(task) || !is_in_plugin_dir(which, (__u64)filename))
		return;
	if (is_running(task) || !first_to_report(task, CNI_BEGAN))
		return;
	__builtin_memset(&buffer->event, 0, sizeof(buffer->event));
	buffer->event.path_size = buffer->used;
	begin_environment(buffer, task);
	if (!read_environment(which) && !buffer->has_command) {
		count_unreadable(CNI_BEGAN);
		return;
	}
	if (!buffer->has_command)
		return; /* it is there, but not run as a plugin */
	if (!begin_run(task, now)) {
		count_table_full(CNI_BEGAN);
		return;
	}
	output_began(buffer, task, now);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(plugin_started, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	report_began(task, bprm, BUFFER_STARTED);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(plugin_start_missed, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	report_began(task, bprm, BUFFER_MISSED);
	return 0;
}

static __always_inline void fill_ended(struct cni_ended *event, struct task_struct *task,
				       struct run *run)
{
	event->header.time = bpf_ktime_get_boot_ns();
	event->header.type = CNI_ENDED;
	fill_header(&event->header, task);
	event->began = run->began;
	event->status = exit_status(task);
	event->netns = run->netns;
}

/* What a plugin prints that has done its work is the result, which is the runner's alone. */
static __always_inline void output_ended(struct output *output, struct task_struct *task,
					 struct run *run)
{
	__u64 captured = 0;

	__builtin_memset(&output->event, 0, sizeof(output->event));
	fill_ended(&output->event, task, run);
	output->event.output_size = output->total;
	if (output->event.status)
		captured = output->kept;
	if (captured > MAX_OUTPUT_BYTES)
		captured = MAX_OUTPUT_BYTES; /* for the verifier */
	output->event.captured = captured;
	output_event(&lifecycle_ring, CNI_ENDED, &output->event, sizeof(output->event) + captured);
}

static __always_inline void output_ended_without(struct task_struct *task, struct run *run)
{
	struct cni_ended event = {.flags = CNI_OUTPUT_MISSED};

	fill_ended(&event, task, run);
	output_event(&lifecycle_ring, CNI_ENDED, &event, sizeof(event));
}

static __noinline void report_ended(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct run *run = bpf_map_lookup_elem(&runs, &pid);
	struct output *output;

	if (!run || BPF_CORE_READ(task, signal, live.counter))
		return; /* no plugin, or other threads live on */
	if (run->start_time != start_time_of(task) || !first_to_report(task, CNI_ENDED))
		return;
	output = bpf_map_lookup_elem(&outputs, &pid);
	if (output)
		output_ended(output, task, run);
	else
		output_ended_without(task, run);
	forget_run(pid);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(plugin_exited, struct task_struct *task)
{
	report_ended(task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(plugin_exit_missed, struct task_struct *task)
{
	report_ended(task);
	return 0;
}

/*
 * One whose end both programs have missed is forgotten, and in the account. When it really ended nobody knows
 * any more. No other task gets in the way of this program: the kernel runs it in softirq.
 */
SEC("tp_btf/sched_process_free")
int BPF_PROG(plugin_freed, struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, pid);
	struct run *run = bpf_map_lookup_elem(&runs, &pid);

	if (!run || run->start_time != BPF_CORE_READ(task, start_boottime))
		return 0;
	count_unreadable(CNI_ENDED);
	forget_run(pid);
	return 0;
}

/* --- network namespaces ---------------------------------------------------------------------- */

struct namespace
{
	__u64 made; /* CLOCK_BOOTTIME, ns */
	__u64 cgroup_id;
};

/* Those that were made in scope, by the kernel's address. Put here when made, taken out when removed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct namespace);
} namespaces SEC(".maps");

/* One that could not be made for want of room is told, too; others are refused before it is tried. */
static __always_inline bool is_told(long result)
{
	return result >= 0 || result == -ENOMEM || result == -ENOSPC;
}

static __always_inline void report_made(struct task_struct *task, __u32 inode, long result)
{
	struct cni_namespace *event =
		reserve_event(&lifecycle_ring, CNI_NAMESPACE_MADE, sizeof(*event));

	if (!event)
		return;
	fill_header(&event->header, task);
	fill_identity(&event->process, task);
	event->inode = inode;
	event->error = result < 0 ? -result : 0;
	submit_event(&lifecycle_ring, event);
}

static __always_inline void note_namespace(struct task_struct *task, __u64 net)
{
	struct namespace namespace = {
		.made = bpf_ktime_get_boot_ns(),
		.cgroup_id = cgroup_id_of_task(task),
	};

	bpf_map_update_elem(&namespaces, &net, &namespace, BPF_ANY);
}

SEC("fexit/copy_net_ns")
int BPF_PROG(namespace_made, __u64 flags, void *user_ns, void *old, void *made)
{
	struct task_struct *task = current_task();
	__u64 net = number_of(ctx, 3);
	long result = is_error(net) ? (long)net : 0;

	if (!(number_of(ctx, 0) & CLONE_NEWNET) || !is_told(result) || !task_in_scope(task))
		return 0;
	if (!result)
		note_namespace(task, net);
	report_made(task, result ? 0 : netns_number((void *)net), result);
	return 0;
}

/* Where the functions of the kernel cannot be watched: of what is made with a process. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(namespace_cloned, struct task_struct *parent, struct task_struct *child)
{
	__u32 inode = netns_of(child);

	if (inode == netns_of(parent) || is_kernel_thread(child) || !task_in_scope(parent))
		return 0;
	report_made(parent, inode, 0);
	return 0;
}

/* The last reference has gone. Whose that was says nothing: it may be a packet's. */
SEC("fentry/__put_net")
int BPF_PROG(namespace_removed)
{
	__u64 net = number_of(ctx, 0);
	struct namespace *namespace = bpf_map_lookup_elem(&namespaces, &net);
	struct cni_namespace *event;

	if (!namespace && !whole_node)
		return 0;
	event = reserve_event(&lifecycle_ring, CNI_NAMESPACE_REMOVED, sizeof(*event));
	if (event) {
		event->inode = netns_number((void *)net);
		event->made = namespace ? namespace->made : 0;
		event->header.cgroup_id = namespace ? namespace->cgroup_id : 0;
		submit_event(&lifecycle_ring, event);
	}
	bpf_map_delete_elem(&namespaces, &net);
	return 0;
}

/* --- calls ----------------------------------------------------------------------------------- */

/* What calls do; the loader has the same numbers. */
enum { CALL_WRITE = 1, CALL_WRITEV = 2, CALL_SETNS = 3, CALL_UNSHARE = 4 };

static __always_inline void write_left(struct task_struct *task, struct pt_regs *regs, long result,
				       bool is_vector)
{
	struct output *output;
	__u32 pid;

	if (result <= 0)
		return;
	pid = plugin_of(task, (__u64)file_of(task, argument(regs, 0)));
	output = pid ? bpf_map_lookup_elem(&outputs, &pid) : NULL;
	if (!output)
		return;
	if (is_vector)
		keep_vectors(output, argument(regs, 1), argument(regs, 2), result);
	else
		keep_output(output, argument(regs, 1), result);
}

/* The namespace that a plugin goes into to do its work is the pod's. */
static __always_inline void setns_left(struct task_struct *task, long result)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct run *run = bpf_map_lookup_elem(&runs, &pid);
	__u32 netns = netns_of(task);

	if (result == 0 && run && netns != run->own_netns)
		run->netns = netns;
}

/* Of several namespaces it is not known which could not be made. */
static __always_inline void unshare_left(struct task_struct *task, struct pt_regs *regs,
					 long result)
{
	__u64 kinds = argument(regs, 0) & ALL_NAMESPACES;

	if (!(kinds & CLONE_NEWNET) || !is_told(result) || (result && kinds != CLONE_NEWNET))
		return;
	report_made(task, result ? 0 : netns_of(task), result);
}

__noinline int call_left(__u64 registers, long result, __u32 call)
{
	struct pt_regs *regs = (void *)registers;
	struct task_struct *task = current_task();

	if (!call || (call != CALL_UNSHARE && none_runs()) || !task_in_scope(task))
		return 0;
	if (call == CALL_WRITE || call == CALL_WRITEV)
		write_left(task, regs, result, call == CALL_WRITEV);
	else if (call == CALL_SETNS)
		setns_left(task, result);
	else if (call == CALL_UNSHARE)
		unshare_left(task, regs, result);
	return 0;
}

SEC("fexit/call")
int BPF_PROG(cni_call_left, struct pt_regs *regs, long result)
{
	call_left(number_of(ctx, 0), result, only_call);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(cni_any_call_left, struct pt_regs *regs, long result)
{
	__u16 call = call_of(call_number(regs));

	if (call)
		call_left(number_of(ctx, 0), result, call);
	return 0;
}
