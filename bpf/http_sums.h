/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * HTTP exchanges beyond the limit of their cgroup: they are in no ring, but in histograms, so that metrics have all of
 * them. What only their heads say in text is not known of them.
 */
#ifndef TAPIO_HTTP_SUMS_H
#define TAPIO_HTTP_SUMS_H

#include "event.h"
#include "kernel.h"
#include "ring.h"
#include "sums.h"
#include "text.h"

/* Set by the loader, which has them from where the metrics are made: the most that a bucket counts; ascending. */
const volatile __u64 duration_bounds[HTTP_SUM_BUCKETS] = {}; /* ns */
const volatile __u64 body_bounds[HTTP_SUM_BUCKETS] = {};     /* bytes */

/* Sized by the loader. */
struct http_sums_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct http_sum_key);
	__type(value, struct http_sums);
};

struct http_sums_map http_sums_0 SEC(".maps");
struct http_sums_map http_sums_1 SEC(".maps");

/* What the others have no room for: by cgroup, whichever process and peer it is. */
struct http_sums_map http_cgroup_sums_0 SEC(".maps");
struct http_sums_map http_cgroup_sums_1 SEC(".maps");

/* What a key begins with. Nothing writes to it. */
const struct http_sums no_exchanges = {};

static __always_inline void leave_out_process_and_peer(struct http_sum_key *key)
{
	key->start_time = 0;
	key->pid = 0;
	__builtin_memset(key->peer_address, 0, sizeof(key->peer_address));
	key->peer_port = 0;
}

/* The key may be less precise after it. */
static __always_inline struct http_sums *http_sums_of(struct http_sum_key *key)
{
	bool is_second = is_turn_of_second();
	struct http_sums *sums;

	if (is_second)
		sums = sums_in(&http_sums_1, key, &no_exchanges);
	else
		sums = sums_in(&http_sums_0, key, &no_exchanges);
	if (sums)
		return sums;
	leave_out_process_and_peer(key);
	if (is_second)
		return sums_in(&http_cgroup_sums_1, key, &no_exchanges);
	return sums_in(&http_cgroup_sums_0, key, &no_exchanges);
}

/* The first word of a head is a method and the space behind it. */
#define IS_METHOD(word, size, text) (((word) << (64 - 8 * (size))) == (text) << (64 - 8 * (size)))

static __always_inline __u8 method_number(__u64 word)
{
	if (IS_METHOD(word, 4, TEXT8('G', 'E', 'T', ' ', 0, 0, 0, 0)))
		return HTTP_METHOD_GET;
	if (IS_METHOD(word, 5, TEXT8('P', 'O', 'S', 'T', ' ', 0, 0, 0)))
		return HTTP_METHOD_POST;
	if (IS_METHOD(word, 4, TEXT8('P', 'U', 'T', ' ', 0, 0, 0, 0)))
		return HTTP_METHOD_PUT;
	if (IS_METHOD(word, 7, TEXT8('D', 'E', 'L', 'E', 'T', 'E', ' ', 0)))
		return HTTP_METHOD_DELETE;
	if (IS_METHOD(word, 5, TEXT8('H', 'E', 'A', 'D', ' ', 0, 0, 0)))
		return HTTP_METHOD_HEAD;
	if (IS_METHOD(word, 6, TEXT8('P', 'A', 'T', 'C', 'H', ' ', 0, 0)))
		return HTTP_METHOD_PATCH;
	if (word == TEXT8('O', 'P', 'T', 'I', 'O', 'N', 'S', ' '))
		return HTTP_METHOD_OPTIONS;
	if (word == TEXT8('C', 'O', 'N', 'N', 'E', 'C', 'T', ' '))
		return HTTP_METHOD_CONNECT;
	if (IS_METHOD(word, 6, TEXT8('T', 'R', 'A', 'C', 'E', ' ', 0, 0)))
		return HTTP_METHOD_TRACE;
	if (IS_METHOD(word, 6, TEXT8('Q', 'U', 'E', 'R', 'Y', ' ', 0, 0)))
		return HTTP_METHOD_QUERY;
	return 0;
}

#endif
