/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Sums of events beyond the limit of their cgroup: they are in no ring, but in histograms, so that metrics have all of them. */
#ifndef TAPIO_SUMS_H
#define TAPIO_SUMS_H

#include "kernel.h"

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
