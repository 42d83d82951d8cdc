/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* TLS handshakes beyond the limit of their cgroup. What only their hellos say in text is not known of them. */
#ifndef TAPIO_TLS_SUMS_H
#define TAPIO_TLS_SUMS_H

#include "event.h"
#include "http_sums.h"
#include "kernel.h"
#include "ring.h"
#include "sums.h"

/* Of the versions that have a name: SSL 3.0 and TLS 1.3. */
#define VERSION_SSL_3 0x0300
#define VERSION_1_3 0x0304

/* Sized by the loader. */
struct tls_sums_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct tls_sum_key);
	__type(value, struct tls_sums);
};

struct tls_sums_map tls_sums_0 SEC(".maps");
struct tls_sums_map tls_sums_1 SEC(".maps");

/* What the others have no room for: by cgroup, whichever process it is. */
struct tls_sums_map tls_cgroup_sums_0 SEC(".maps");
struct tls_sums_map tls_cgroup_sums_1 SEC(".maps");

/* What a key begins with. Nothing writes to it. */
const struct tls_sums no_handshakes = {};

/* The key may be less precise after it. */
static __always_inline struct tls_sums *tls_sums_of(struct tls_sum_key *key)
{
	bool is_second = is_turn_of_second();
	struct tls_sums *sums;

	if (is_second)
		sums = sums_in(&tls_sums_1, key, &no_handshakes);
	else
		sums = sums_in(&tls_sums_0, key, &no_handshakes);
	if (sums)
		return sums;
	key->start_time = 0;
	key->pid = 0;
	if (is_second)
		return sums_in(&tls_cgroup_sums_1, key, &no_handshakes);
	return sums_in(&tls_cgroup_sums_0, key, &no_handshakes);
}

/* What decides how it ended, and nothing else, so that what is alike is one sum. */
static __always_inline void fill_handshake_ending(struct tls_sum_key *key,
						  const struct tls_handshake *event)
{
	__u16 flags = event->flags;

	if (flags & TLS_ESTABLISHED) {
		key->flags = TLS_ESTABLISHED;
	} else if (flags & TLS_ALERT) {
		key->flags = TLS_ALERT;
		key->alert = event->alert;
	} else if (flags & TLS_ENCRYPTED_ALERT) {
		key->flags = TLS_ENCRYPTED_ALERT;
	} else if (flags & TLS_NOT_TLS) {
		key->flags = TLS_NOT_TLS;
	} else {
		key->flags = flags & (TLS_ABORTED | TLS_CLOSED_HERE);
		key->error = event->error;
	}
}

/* A peer may choose any of 65536, of which five have a name. */
static __always_inline __u16 named_version(__u16 version)
{
	return version >= VERSION_SSL_3 && version <= VERSION_1_3 ? version : 0;
}

static __always_inline void fill_handshake_key(struct tls_sum_key *key,
					       const struct tls_handshake *event, __u16 version)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cgroup_id = event->header.cgroup_id;
	key->start_time = event->header.start_time;
	key->pid = event->header.pid;
	key->role = event->ends.role;
	key->version = named_version(version);
	fill_handshake_ending(key, event);
}

/* The durations last, since by them the receiver knows how many they are. */
static __always_inline void add_handshake(struct tls_sums *sums, const struct tls_handshake *event,
					  __u64 zero)
{
	__u64 duration = event->header.time > event->start ? event->header.time - event->start : 0;

	__sync_fetch_and_add(&sums->duration, duration);
	count_in_bucket(sums->durations, HTTP_SUM_BUCKETS, duration_bounds, duration, zero);
}

#endif
