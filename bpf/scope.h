/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Who is in scope. Asked before anything of a task or socket but its cgroup is read. */
#ifndef TAPIO_SCOPE_H
#define TAPIO_SCOPE_H

#include "kernel.h"

/* How many levels of cgroups are climbed in search of one in scope. */
#define MAX_CGROUP_DEPTH 48

/* Set by the loader: no cgroup was named, so all are in scope. */
const volatile bool whole_node = false;

/* Set by the loader: the collector's own process, which is never in scope; 0: not known. */
const volatile __u32 self_pid = 0;

/* The ids of the cgroups that were named. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u8);
} scope_cgroups SEC(".maps");

/*
 * What climbing found, by cgroup id. Ids are never used twice and cgroups never move, so a verdict
 * stays true; LRU bounds the memory where cgroups come and go.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} scope_verdicts SEC(".maps");

static __always_inline __u64 cgroup_id_of(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline struct cgroup *parent_of_cgroup(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);

	if (!parent)
		return NULL;
	return (void *)parent - bpf_core_field_offset(struct cgroup, self);
}

static __always_inline __u8 climb_to_scope(struct cgroup *cgroup)
{
	for (int level = 0; level < MAX_CGROUP_DEPTH && cgroup; level++) {
		__u64 id = cgroup_id_of(cgroup);

		if (bpf_map_lookup_elem(&scope_cgroups, &id))
			return true;
		cgroup = parent_of_cgroup(cgroup);
	}
	return false;
}

static __always_inline bool find_verdict(__u64 id, struct cgroup *cgroup)
{
	__u8 verdict = climb_to_scope(cgroup);

	bpf_map_update_elem(&scope_verdicts, &id, &verdict, BPF_ANY);
	return verdict;
}

static __always_inline bool cgroup_in_scope(struct cgroup *cgroup)
{
	__u8 *known;
	__u64 id;

	if (whole_node)
		return true;
	if (!cgroup)
		return false;
	id = cgroup_id_of(cgroup);
	known = bpf_map_lookup_elem(&scope_verdicts, &id);
	return known ? *known : find_verdict(id, cgroup);
}

static __always_inline struct cgroup *cgroup_of_task(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp);
}

static __always_inline __u64 cgroup_id_of_task(struct task_struct *task)
{
	return cgroup_id_of(cgroup_of_task(task));
}

static __always_inline bool task_in_scope(struct task_struct *task)
{
	if (BPF_CORE_READ(task, tgid) == self_pid)
		return false;
	return cgroup_in_scope(cgroup_of_task(task));
}

/* task_in_scope of the current task, where that is often asked: the kernel's helpers read nothing. */
static __always_inline bool current_in_scope(void)
{
	__u64 id;
	__u8 *known;

	if (bpf_get_current_pid_tgid() >> 32 == self_pid)
		return false;
	if (whole_node)
		return true;
	id = bpf_get_current_cgroup_id();
	known = bpf_map_lookup_elem(&scope_verdicts, &id);
	return known ? *known : find_verdict(id, cgroup_of_task((void *)bpf_get_current_task()));
}

#endif
