/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * Sums of events beyond the limit of their cgroup: they are in no ring, but in histograms, so that metrics have all of them.
 * Of each kind there are two maps, which take turns: one of them is filled, and what was filled before is read when no program that
 * runs can still add to it.
 */
#ifndef TAPIO_SUMS_H
#define TAPIO_SUMS_H

#include "kernel.h"

/* Whose turn it is to be filled, 0 or 1. Set by the receiver, each second. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sums_turn SEC(".maps");

static __always_inline bool is_turn_of_second(void)
{
	__u32 key = 0;
	__u32 *turn = bpf_map_lookup_elem(&sums_turn, &key);

	return turn && *turn;
}

/* NULL: there is no room for one more. nothing: what a key begins with. */
static __always_inline void *sums_in(void *map, const void *key, const void *nothing)
{
	void *sums = bpf_map_lookup_elem(map, key);

	if (sums)
		return sums;
	bpf_map_update_elem(map, key, nothing, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

/*
 * bounds: the most that each bucket counts, ascending; what is beyond all of them is in the last bucket, behind them. Searched
 * step by step, which takes no stack, of which some programs have none left. zero: 0, which the verifier does not know, so that
 * it follows what comes then but once.
 */
static __always_inline void count_in_bucket(__u64 *buckets, __u32 size,
					    const volatile __u64 *bounds, __u64 value, __u64 zero)
{
	__u64 bucket = 0;

#pragma clang loop unroll(disable)
	while (bucket < size - 1 && value > bounds[bucket])
		bucket++;
	barrier_var(zero);
	bucket ^= zero;
	if (bucket < size)
		__sync_fetch_and_add(&buckets[bucket], 1);
}

#endif
