//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/* Cgroups: made, removed, joined. From their paths it is told whose a process is. */
#include "kernel.h"
#include "event.h"
#include "ring.h"
#include "scope.h"
#include "task.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct change_buffer {
	struct cgroup_change event;
	char path[MAX_CGROUP_PATH_BYTES];
};

/*
 * A record under construction, too large for the stack. Used by all programs here: the kernel runs
 * them while it holds the one lock under which it writes down the path.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct change_buffer);
} change_buffers SEC(".maps");

/* Ids of v1 hierarchies are numbers of their own: they mean nothing beside those of v2. */
static __always_inline int hierarchy_of(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, root, hierarchy_id);
}

static __always_inline struct change_buffer *begin_change(__u16 type, struct cgroup *cgroup)
{
	struct change_buffer *buffer;
	__u32 zero = 0;

	buffer = bpf_map_lookup_elem(&change_buffers, &zero);
	if (!buffer)
		return NULL; /* cannot happen: an array's element always exists */
	__builtin_memset(&buffer->event, 0, sizeof(buffer->event));
	buffer->event.header.time = bpf_ktime_get_boot_ns();
	buffer->event.header.type = type;
	buffer->event.hierarchy = hierarchy_of(cgroup);
	return buffer;
}

static __always_inline void end_change(struct change_buffer *buffer, const char *path)
{
	long size = bpf_probe_read_kernel_str(buffer->path, sizeof(buffer->path), path);

	if (size < 0)
		size = 0; /* the record still says that the cgroup is there */
	if (size > sizeof(buffer->path))
		size = sizeof(buffer->path); /* for the verifier */
	buffer->event.path_size = size;
	output_event(&lifecycle_ring, buffer->event.header.type, &buffer->event,
		     sizeof(buffer->event) + size);
}

static __always_inline void report_cgroup(__u16 type, struct cgroup *cgroup, const char *path)
{
	struct change_buffer *buffer;

	if (hierarchy_of(cgroup) || !cgroup_in_scope(cgroup))
		return;
	buffer = begin_change(type, cgroup);
	if (!buffer)
		return;
	buffer->event.header.cgroup_id = cgroup_id_of(cgroup);
	end_change(buffer, path);
}

/* Not tp_btf: older kernels do not let such a program have the path. */
SEC("raw_tp/cgroup_mkdir")
int cgroup_made(struct bpf_raw_tracepoint_args *ctx)
{
	report_cgroup(CGROUP_MADE, (void *)ctx->args[0], (void *)ctx->args[1]);
	return 0;
}

SEC("raw_tp/cgroup_rmdir")
int cgroup_removed(struct bpf_raw_tracepoint_args *ctx)
{
	report_cgroup(CGROUP_REMOVED, (void *)ctx->args[0], (void *)ctx->args[1]);
	return 0;
}

/*
 * A process that is born into a cgroup is not here, only one that is moved, as container runtimes and
 * service managers do. Where containers are only in v1 hierarchies nothing else says of a process
 * which is its own.
 */
SEC("raw_tp/cgroup_attach_task")
int cgroup_joined(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *cgroup = (void *)ctx->args[0];
	struct task_struct *task = (void *)ctx->args[2];
	struct change_buffer *buffer;

	if (BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		return 0; /* a thread is not a process */
	if (is_kernel_thread(task) || !task_in_scope(task))
		return 0;
	buffer = begin_change(CGROUP_JOINED, cgroup);
	if (!buffer)
		return 0;
	fill_header(&buffer->event.header, task);
	end_change(buffer, (void *)ctx->args[1]);
	return 0;
}
