//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/*
 * Executables of processes that are older than the receiver. /proc shows them only to who could trace the process,
 * which takes CAP_SYS_PTRACE.
 */
#include "kernel.h"
#include "event.h"
#include "scope.h"
#include "task.h"

/* One path, and room for its last write to overshoot. */
#define MAX_TAIL_BYTES 8192
#include "path.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct executable_buffer {
	__u64 used; /* of the tail */
	struct running_executable record;
	char tail[MAX_TAIL_BYTES + MAX_NAME_BYTES];
};

/* A record under construction, too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct executable_buffer);
} executable_buffers SEC(".maps");

static __always_inline void fill_executable(struct executable_buffer *buffer,
					    struct task_struct *task, struct file *exe)
{
	struct running_executable *record = &buffer->record;

	buffer->used = 0;
	record->start_time = start_time_of(task);
	record->pid = BPF_CORE_READ(task, tgid);
	record->flags = 0;
	if (!append_path(buffer->tail, &buffer->used, &exe->f_path))
		record->flags |= EXEC_EXE_TRUNCATED;
	record->exe_size = buffer->used;
}

/* What it writes is what reading the iterator yields: each record, then the executable's components. */
SEC("iter/task")
int list_executables(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct executable_buffer *buffer;
	struct file *exe;
	__u32 zero = 0;

	if (!task || task->pid != task->tgid || !task_in_scope(task))
		return 0; /* the end, a thread, or none of ours */
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!exe)
		return 0; /* the kernel's, or on its way out */
	buffer = bpf_map_lookup_elem(&executable_buffers, &zero);
	if (!buffer)
		return 0; /* cannot happen: an array's element always exists */
	fill_executable(buffer, task, exe);
	bpf_seq_write(ctx->meta->seq, &buffer->record, sizeof(buffer->record));
	bpf_seq_write(ctx->meta->seq, buffer->tail, buffer->used & TAIL_MASK);
	return 0;
}
