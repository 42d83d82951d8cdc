/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Limits: no cgroup makes more events of a family than it may, so that one cannot blind the node. */
#ifndef TAPIO_LIMIT_H
#define TAPIO_LIMIT_H

#include "event.h"
#include "kernel.h"
#include "ring.h"
#include "scope.h"

#define SECOND 1000000000ULL

/* Set by the loader, by family: the time that one event takes of its cgroup's, ns; 0: no limit. */
const volatile __u64 limit_intervals[FAMILY_COUNT] = {};

/* Filled by the programs; the receiver reads it each second, and takes out who was silent for long. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct limit_key);
	__type(value, struct limit_state);
} limits SEC(".maps");

/* What a cgroup begins with. Nothing writes to it; the verifier asks for no stack then. */
const struct limit_state unlimited = {};

/* NULL: it has no limit: there are too many, or it is not known, and the limit would be that of many. */
static __always_inline struct limit_state *limit_state_of(const struct limit_key *key)
{
	struct limit_state *state;

	if (!key->cgroup_id)
		return NULL;
	state = bpf_map_lookup_elem(&limits, key);
	if (state)
		return state;
	bpf_map_update_elem(&limits, key, &unlimited, BPF_NOEXIST);
	return bpf_map_lookup_elem(&limits, key);
}

/* Of what was written by another CPU a moment later, none has passed. */
static __always_inline bool has_passed(__u64 now, __u64 since, __u64 time)
{
	return (__s64)(now - since) > (__s64)time;
}

/* What is summed up: see http_sums.h, connection_sums.h, tls_sums.h and process.bpf.c. */
static __always_inline bool has_sums(__u16 type)
{
	switch (type) {
	case PROCESS_EXEC:
	case PROCESS_EXIT:
	case CONNECTION_CONNECT:
	case CONNECTION_CLOSE:
	case TLS_HANDSHAKE:
	case HTTP_EXCHANGE:
		return true;
	default:
		return false;
	}
}

/* What is beyond the limit is in the account then, but for what is summed up: that is when it is. */
static __always_inline void account_throttled(__u16 type)
{
	if (!has_sums(type))
		count_throttled(type);
}

static __always_inline void note_throttled(struct limit_state *state, __u16 type, __u64 now)
{
	if (has_passed(now, state->last, SECOND))
		state->began = now;
	state->last = now;
	__sync_fetch_and_add(&state->throttled, 1);
	account_throttled(type);
}

static __always_inline bool may_pass(struct limit_state *state, __u64 interval, __u64 now,
				     __u64 ahead)
{
	if (state->due < now)
		state->due = now;
	else if (state->due - now > ahead)
		return false;
	__sync_fetch_and_add(&state->due, interval);
	return true;
}

static __always_inline __u64 interval_of(__u32 type)
{
	return limit_intervals[(type >> 8) &
			       (FAMILY_COUNT - 1)]; /* for the verifier: none is beyond */
}

/*
 * Whether what a cgroup has made is not to be told; it is counted then. ahead: how much may have passed that is not
 * paid for, ns. Once inlined, where there is no stack for a function.
 */
static __always_inline bool limit_by_key(const struct limit_key *key, __u32 type, __u64 ahead,
					 __u64 now)
{
	struct limit_state *state = limit_state_of(key);

	if (!state || may_pass(state, interval_of(type), now, ahead))
		return false;
	note_throttled(state, type, now);
	return true;
}

/* What belongs to something that is not told is not told either, although it may not be beyond the limit now. */
static __always_inline void leave_out_by_key(const struct limit_key *key, __u32 type)
{
	struct limit_state *state = limit_state_of(key);

	if (state)
		__sync_fetch_and_add(&state->throttled, 1);
	account_throttled(type);
}

/* Functions by themselves, verified once. */
__noinline int limit_event(__u64 cgroup_id, __u32 type, __u32 kind, __u64 ahead, __u64 now)
{
	struct limit_key key = {.cgroup_id = cgroup_id, .family = type >> 8, .kind = kind};

	return limit_by_key(&key, type, ahead, now);
}

__noinline int leave_out_event(__u64 cgroup_id, __u32 type)
{
	struct limit_key key = {.cgroup_id = cgroup_id, .family = type >> 8};

	leave_out_by_key(&key, type);
	return 0;
}

static __always_inline bool has_limit(__u16 type)
{
	return limit_intervals[type >> 8];
}

/*
 * Whether an event is beyond its cgroup's limit. It is in the account then, and is not to be told. now: the clock, as
 * it was in this run of the program.
 */
static __always_inline bool is_throttled_at(__u64 now, __u64 cgroup_id, __u16 type, __u32 kind)
{
	return has_limit(type) && limit_event(cgroup_id, type, kind, SECOND, now);
}

static __always_inline bool is_throttled(__u64 cgroup_id, __u16 type, __u32 kind)
{
	return has_limit(type) &&
	       limit_event(cgroup_id, type, kind, SECOND, bpf_ktime_get_boot_ns());
}

static __always_inline bool is_task_throttled(struct task_struct *task, __u16 type, __u32 kind)
{
	return has_limit(type) && is_throttled(cgroup_id_of_task(task), type, kind);
}

#endif
