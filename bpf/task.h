/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* What identifies a process, wherever a program meets one. */
#ifndef TAPIO_TASK_H
#define TAPIO_TASK_H

#include "event.h"
#include "kernel.h"
#include "scope.h"

/* Set by the loader, which has asked the kernel: before Linux 6.10 programs of packets may not ask for the ids. */
const volatile bool has_current_ids = false;

/* In softirq those of whoever was interrupted. */
static __always_inline __u32 current_pid(void)
{
	if (has_current_ids)
		return bpf_get_current_pid_tgid() >> 32;
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), tgid);
}

static __always_inline __u32 current_thread(void)
{
	if (has_current_ids)
		return bpf_get_current_pid_tgid();
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), pid);
}

static __always_inline __u64 start_time_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

static __always_inline bool is_kernel_thread(struct task_struct *task)
{
	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

static __always_inline void fill_header(struct event_header *header, struct task_struct *task)
{
	header->pid = BPF_CORE_READ(task, tgid);
	header->start_time = start_time_of(task);
	header->cgroup_id = cgroup_id_of_task(task);
}

/* In the pid namespace that it was made in. */
static __always_inline __u32 innermost_number(struct pid *pid)
{
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid upid = {};

	bpf_core_read(&upid, sizeof(upid),
		      (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			      level * bpf_core_type_size(struct upid));
	return upid.nr;
}

static __always_inline __u32 innermost_pid(struct task_struct *task)
{
	return innermost_number(BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]));
}

/* The session's leader, as the host numbers it. */
static __always_inline __u32 session_of(struct task_struct *task)
{
	struct pid *leader = BPF_CORE_READ(task, signal, pids[PIDTYPE_SID]);

	return BPF_CORE_READ(leader, numbers[0].nr);
}

/* What wait(2) will tell the parent. */
static __always_inline __u32 exit_status(struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);

	if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

static __always_inline void fill_identity(struct process_identity *process,
					  struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	process->parent_pid = BPF_CORE_READ(parent, tgid);
	process->parent_start_time = start_time_of(parent);
	process->vpid = innermost_pid(task);
	process->uid = BPF_CORE_READ(task, cred, uid.val);
	process->euid = BPF_CORE_READ(task, cred, euid.val);
	process->session = session_of(task);
	BPF_CORE_READ_STR_INTO(&process->comm, task, comm);
}

#endif
