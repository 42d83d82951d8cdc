/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* The ways out: two ring buffers, and the counters of what went in and what had no room. */
#ifndef TAPIO_RING_H
#define TAPIO_RING_H

#include "event.h"
#include "kernel.h"

/*
 * Lifecycle (and later security) records have a ring of their own, so that a flood of traffic
 * cannot push them out. Filled by the programs, read by the receiver's one reader. The loader sets
 * the real sizes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} lifecycle_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} traffic_ring SEC(".maps");

/* By family. Written by the programs, read by the receiver's ledger. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FAMILY_COUNT);
	__type(key, __u32);
	__type(value, struct event_counters);
} event_counts SEC(".maps");

/* The fill levels above which the reader is woken; below them, it comes by itself at its interval. */
const volatile __u64 traffic_wakeup_bytes = 1024;
const volatile __u64 lifecycle_wakeup_bytes = 1024;

/*
 * Waking the reader costs as much as the rest of a program, or more: an interrupt of this CPU. So it is done only
 * when there is much to read, and then not at every record until that is read, since the reader may be busy, or
 * wait for a CPU itself. It is woken by what is written behind a mark; what is much has some of these.
 */
#define MARKS 8
#define BEHIND_MARK 4096 /* bytes: hardly a record has more, so that one begins in these */

static __always_inline bool is_behind_mark(void *ring, __u64 distance)
{
	return bpf_ringbuf_query(ring, BPF_RB_PROD_POS) % distance < BEHIND_MARK;
}

static __always_inline __u64 wakeup_flags(void *ring)
{
	__u64 enough = ring == &lifecycle_ring ? lifecycle_wakeup_bytes : traffic_wakeup_bytes;

	if (bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= enough &&
	    is_behind_mark(ring, enough / MARKS))
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline struct event_counters *counters_of(__u16 type)
{
	__u32 family = type >> 8;

	return bpf_map_lookup_elem(&event_counts, &family);
}

/* Atomic although per CPU: a program in softirq may interrupt one in process context. */
static __always_inline void count_seen(__u16 type)
{
	struct event_counters *counters = counters_of(type);

	if (counters)
		__sync_fetch_and_add(&counters->seen, 1);
}

static __always_inline void count_ring_full(__u16 type)
{
	struct event_counters *counters = counters_of(type);

	if (counters)
		__sync_fetch_and_add(&counters->ring_full, 1);
}

static __always_inline void count_table_full(__u16 type)
{
	struct event_counters *counters = counters_of(type);

	if (!counters)
		return;
	__sync_fetch_and_add(&counters->seen, 1);
	__sync_fetch_and_add(&counters->table_full, 1);
}

static __always_inline void count_unreadable(__u16 type)
{
	struct event_counters *counters = counters_of(type);

	if (!counters)
		return;
	__sync_fetch_and_add(&counters->seen, 1);
	__sync_fetch_and_add(&counters->unreadable, 1);
}

static __always_inline void count_throttled(__u16 type)
{
	struct event_counters *counters = counters_of(type);

	if (!counters)
		return;
	__sync_fetch_and_add(&counters->seen, 1);
	__sync_fetch_and_add(&counters->throttled, 1);
}

/* From here on the event is in the ledger, whatever becomes of it. NULL: the ring was full. */
static __always_inline void *reserve_event(void *ring, __u16 type, __u64 size)
{
	struct event_header *header = bpf_ringbuf_reserve(ring, size, 0);

	count_seen(type);
	if (!header) {
		count_ring_full(type);
		return NULL;
	}
	__builtin_memset(header, 0, size);
	header->time = bpf_ktime_get_boot_ns();
	header->type = type;
	return header;
}

static __always_inline void submit_event(void *ring, void *event)
{
	bpf_ringbuf_submit(event, wakeup_flags(ring));
}

/* For records of variable size, which cannot be reserved: copied from a buffer. */
static __always_inline void output_event(void *ring, __u16 type, void *event, __u64 size)
{
	count_seen(type);
	if (bpf_ringbuf_output(ring, event, size, wakeup_flags(ring)))
		count_ring_full(type);
}

#endif
