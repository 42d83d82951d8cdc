/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* What several programs may see, and one reports. */
#ifndef TAPIO_ONCE_H
#define TAPIO_ONCE_H

#include "event.h"
#include "kernel.h"
#include "task.h"

struct report_key {
	__u64 start_time;
	__u64 exec_id; /* how many programs the process has run */
	__u32 pid;
	__u32 type; /* enum event_type */
};

/*
 * What was reported a moment ago. There are two programs at each hook, since the kernel leaves one
 * out where it is running on that CPU already: from Linux 7 on, in another task that was preempted in
 * the middle of it. And when the last threads of a process leave at the same moment, each finds
 * itself the last.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct report_key);
	__type(value, __u8);
} reported SEC(".maps");

static __always_inline bool first_to_report(struct task_struct *task, enum event_type type)
{
	struct report_key key = {
		.start_time = start_time_of(task),
		.exec_id = BPF_CORE_READ(task, self_exec_id),
		.pid = BPF_CORE_READ(task, tgid),
		.type = type,
	};
	__u8 yes = 1;
	/* before Linux 6.4 only the lower half of what a map's operation returns is defined */
	int error = bpf_map_update_elem(&reported, &key, &yes, BPF_NOEXIST);

	return error != -EEXIST;
}

#endif
