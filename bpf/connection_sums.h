/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Connections and flows beyond the limit of their cgroup. */
#ifndef TAPIO_CONNECTION_SUMS_H
#define TAPIO_CONNECTION_SUMS_H

#include "event.h"
#include "kernel.h"
#include "ring.h"
#include "sums.h"

/* Set by the loader, which has them from where the metrics are made: see count_in_bucket(). */
const volatile __u64 handshake_bounds[CONNECTION_SUM_BUCKETS] = {}; /* ns */
const volatile __u64 lifetime_bounds[CONNECTION_SUM_BUCKETS] = {};  /* ns */
const volatile __u64 rtt_bounds[CONNECTION_SUM_BUCKETS] = {};	    /* us */

/* Sized by the loader. Filled by the programs; the receiver reads it each second, and takes out what rests. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct connection_sum_key);
	__type(value, struct connection_sums);
} connection_sums SEC(".maps");

/* What a key begins with. Nothing writes to it. */
const struct connection_sums no_connections = {};

/* Counts the event. NULL: there is no room for one more key; that is in the account then. */
static __always_inline struct connection_sums *
connection_sums_of(const struct connection_sum_key *key)
{
	struct connection_sums *sums = bpf_map_lookup_elem(&connection_sums, key);

	if (!sums) {
		bpf_map_update_elem(&connection_sums, key, &no_connections, BPF_NOEXIST);
		sums = bpf_map_lookup_elem(&connection_sums, key);
	}
	if (!sums) {
		count_throttled(key->type);
		return NULL;
	}
	count_seen(key->type);
	__sync_fetch_and_add(&sums->events, 1);
	return sums;
}

static __always_inline bool is_mapped_ipv4(const __u8 address[16])
{
	for (int i = 0; i < 10; i++)
		if (address[i])
			return false;
	return address[10] == 0xff && address[11] == 0xff;
}

static __always_inline void fill_sum_ends(struct connection_sum_key *key,
					  const struct connection_ends *ends)
{
	key->protocol = ends->protocol;
	key->role = ends->role;
	key->is_ipv4 = is_mapped_ipv4(ends->peer_address);
}

static __always_inline void add_duration(struct connection_sums *sums, const volatile __u64 *bounds,
					 __u64 began, __u64 ended)
{
	__u64 duration = ended > began ? ended - began : 0;

	__sync_fetch_and_add(&sums->duration, duration);
	count_in_bucket(sums->durations, CONNECTION_SUM_BUCKETS, bounds, duration, sums->zero);
}

static __always_inline void add_rtt(struct connection_sums *sums, __u32 rtt)
{
	__sync_fetch_and_add(&sums->rtt, rtt);
	count_in_bucket(sums->rtts, CONNECTION_SUM_BUCKETS, rtt_bounds, rtt, sums->zero);
}

static __always_inline void add_bytes(struct connection_sums *sums, __u64 sent, __u64 received)
{
	__sync_fetch_and_add(&sums->sent_bytes, sent);
	__sync_fetch_and_add(&sums->received_bytes, received);
}

static __always_inline void sum_up_connect(const struct connection_ends *ends, __u64 cgroup_id,
					   __u64 opened, __s32 error)
{
	struct connection_sum_key key = {
		.cgroup_id = cgroup_id, .type = CONNECTION_CONNECT, .error = error};
	struct connection_sums *sums;

	fill_sum_ends(&key, ends);
	sums = connection_sums_of(&key);
	if (sums)
		add_duration(sums, handshake_bounds, opened, bpf_ktime_get_boot_ns());
}

static __always_inline void sum_up_close(const struct connection_stats *event)
{
	struct connection_sum_key key = {
		.cgroup_id = event->header.cgroup_id,
		.type = CONNECTION_CLOSE,
		.error = event->error,
		.flags = event->flags & CONNECTION_ABORTED,
	};
	struct connection_sums *sums;

	fill_sum_ends(&key, &event->ends);
	sums = connection_sums_of(&key);
	if (!sums)
		return;
	add_bytes(sums, event->sent_bytes_delta, event->received_bytes_delta);
	__sync_fetch_and_add(&sums->retransmits, event->retransmits_delta);
	if (event->flags & CONNECTION_FIRST_RECORD)
		__sync_fetch_and_add(&sums->first_records, 1);
	if (event->flags & CONNECTION_HAS_RTT)
		add_rtt(sums, event->rtt);
	if (event->opened)
		add_duration(sums, lifetime_bounds, event->opened, bpf_ktime_get_boot_ns());
}

#endif
