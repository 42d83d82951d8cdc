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

/* Sized by the loader. */
struct connection_sums_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct connection_sum_key);
	__type(value, struct connection_sums);
};

struct connection_sums_map connection_sums_0 SEC(".maps");
struct connection_sums_map connection_sums_1 SEC(".maps");

/* What the others have no room for: by cgroup, whichever process it is. */
struct connection_sums_map connection_cgroup_sums_0 SEC(".maps");
struct connection_sums_map connection_cgroup_sums_1 SEC(".maps");

/* What a key begins with. Nothing writes to it. */
const struct connection_sums no_connections = {};

/* The key may be less precise after it. */
static __always_inline struct connection_sums *find_connection_sums(struct connection_sum_key *key)
{
	bool is_second = is_turn_of_second();
	struct connection_sums *sums;

	if (is_second)
		sums = sums_in(&connection_sums_1, key, &no_connections);
	else
		sums = sums_in(&connection_sums_0, key, &no_connections);
	if (sums)
		return sums;
	key->start_time = 0;
	key->pid = 0;
	if (is_second)
		return sums_in(&connection_cgroup_sums_1, key, &no_connections);
	return sums_in(&connection_cgroup_sums_0, key, &no_connections);
}

/* The event is in the account then. NULL: there is no room for one more key. */
static __always_inline struct connection_sums *connection_sums_of(struct connection_sum_key *key)
{
	struct connection_sums *sums = find_connection_sums(key);

	if (sums)
		count_seen(key->type);
	else
		count_throttled(key->type);
	return sums;
}

/* Last, since by it the receiver knows how many they are. */
static __always_inline void count_event(struct connection_sums *sums)
{
	__sync_fetch_and_add(&sums->events, 1);
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

static __always_inline void sum_up_connect(const struct event_header *header,
					   const struct connection_ends *ends, __u64 opened,
					   __s32 error)
{
	struct connection_sum_key key = {
		.cgroup_id = header->cgroup_id,
		.start_time = header->start_time,
		.pid = header->pid,
		.type = CONNECTION_CONNECT,
		.error = error,
	};
	struct connection_sums *sums;

	fill_sum_ends(&key, ends);
	sums = connection_sums_of(&key);
	if (!sums)
		return;
	add_duration(sums, handshake_bounds, opened, bpf_ktime_get_boot_ns());
	count_event(sums);
}

static __always_inline void sum_up_close(const struct connection_stats *event)
{
	struct connection_sum_key key = {
		.cgroup_id = event->header.cgroup_id,
		.start_time = event->header.start_time,
		.pid = event->header.pid,
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
	count_event(sums);
}

#endif
