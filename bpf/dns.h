/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* DNS: the messages of clients go to user space as they are, which pairs and reads them. */
#ifndef TAPIO_DNS_H
#define TAPIO_DNS_H

#include "event.h"
#include "limit.h"
#include "kernel.h"
#include "packet.h"
#include "ring.h"
#include "scope.h"
#include "socket.h"

#define MAX_DNS_PORTS 16
#define MAX_DNS_CAPTURE 16384 /* bytes of a message or segment: more than EDNS asks for anywhere */

/* Set by the loader. */
const volatile bool dns_enabled = false;
const volatile __u32 dns_port_count = 0;
const volatile __u16 dns_ports[MAX_DNS_PORTS] = {};

static __always_inline bool is_dns_port(__u16 port)
{
	for (__u32 i = 0; i < MAX_DNS_PORTS && i < dns_port_count; i++)
		if (dns_ports[i] == port)
			return true;
	return false;
}

static __always_inline void fill_dns_message(struct dns_message *event, struct socket_state *state,
					     struct dns_message *message, __u32 captured)
{
	*event = *message;
	event->captured = captured;
	event->header.time = bpf_ktime_get_boot_ns();
	fill_socket_header(&event->header, sock_of(state), state);
	event->ends.role = ROLE_CLIENT;
	event->ends.netns = netns_of(sock_of(state));
}

/* room: for the payload; a constant, as the ring wants it. The rest of it is left as it was. */
static __always_inline void send_dns(struct __sk_buff *skb, struct socket_state *state,
				     struct dns_message *message, __u32 offset, const __u32 room)
{
	struct dns_message *event;
	__u32 size = message->size;

	if (size > room)
		size = room;
	event = bpf_ringbuf_reserve(&traffic_ring, sizeof(*event) + room, 0);
	count_seen(message->header.type);
	if (!event) {
		count_ring_full(message->header.type);
		return;
	}
	fill_dns_message(event, state, message, size);
	if (!load_bytes(skb, offset, event + 1, size, room))
		event->captured = 0;
	submit_event(&traffic_ring, event);
}

/* --- limits ---------------------------------------------------------------------------------- */

/* Set by the loader: how long a question may go unanswered, ns. */
const volatile __u64 dns_timeout = 0;

/* A question of a datagram by its id; over TCP all of a connection, of which no part may be missing. */
struct dns_exchange {
	__u64 socket; /* cookie */
	__u32 id;
	__u32 reserved;
};

enum { ALL_OF_STREAM = 1 << 16 }; /* an id has 16 bits */

#define IS_THROTTLED (1ULL << 63) /* beside the time when it was last asked, ns */

/* Of questions where there is a limit. Those that are asked again, and all answers, share it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct dns_exchange);
	__type(value, __u64);
} dns_fates SEC(".maps");

static __always_inline void find_exchange(struct dns_exchange *exchange, struct __sk_buff *skb,
					  struct dns_message *message, __u32 offset)
{
	exchange->socket = message->socket;
	if (message->header.type == DNS_SEGMENT)
		exchange->id = ALL_OF_STREAM;
	else
		bpf_skb_load_bytes(skb, offset, &exchange->id,
				   sizeof(__u16)); /* else all that are too short are one */
}

static __always_inline __u64 *known_fate(struct __sk_buff *skb, struct dns_message *message,
					 __u32 offset)
{
	struct dns_exchange exchange = {};

	find_exchange(&exchange, skb, message, offset);
	return bpf_map_lookup_elem(&dns_fates, &exchange);
}

static __always_inline void keep_fate(struct __sk_buff *skb, struct dns_message *message,
				      __u32 offset, __u64 fate)
{
	struct dns_exchange exchange = {};

	find_exchange(&exchange, skb, message, offset);
	bpf_map_update_elem(&dns_fates, &exchange, &fate, BPF_ANY);
}

/* A question that nobody waits for any more is another one with the same id. */
static __always_inline bool is_still_asked(struct dns_message *message, __u64 fate)
{
	if (message->header.type == DNS_SEGMENT && fate & IS_THROTTLED)
		return true;
	return bpf_ktime_get_boot_ns() - (fate & ~IS_THROTTLED) <= dns_timeout;
}

static __always_inline bool is_dns_limited(struct socket_state *state, struct dns_message *message,
					   __u64 ahead)
{
	struct limit_key key = {.cgroup_id = cgroup_id_of_socket(sock_of(state)),
				.family = FAMILY_DNS};

	return limit_by_key(&key, message->header.type, ahead);
}

/* The fate of a question is its answer's, so that none seems to have gone unanswered, or is answered unasked. */
static __always_inline bool is_dns_throttled(struct __sk_buff *skb, struct socket_state *state,
					     struct dns_message *message, __u32 offset)
{
	__u64 *known = known_fate(skb, message, offset), fate;

	if (known && is_still_asked(message, *known)) {
		fate = *known & IS_THROTTLED;
		if (message->flags & DNS_SENT)
			*known = fate | bpf_ktime_get_boot_ns();
		return fate && is_dns_limited(state, message, 0);
	}
	if (!(message->flags & DNS_SENT))
		return false; /* of a question that was told, and has been forgotten */
	fate = is_dns_limited(state, message, SECOND) ? IS_THROTTLED : 0;
	keep_fate(skb, message, offset, fate | bpf_ktime_get_boot_ns());
	return fate;
}

/* Nearly all messages are small; a record takes one of four sizes. */
static __noinline void send_dns_message(struct __sk_buff *skb, struct socket_state *state,
					struct dns_message *message, __u32 offset)
{
	if (has_limit(DNS_MESSAGE) && is_dns_throttled(skb, state, message, offset))
		return;
	if (message->size <= 128)
		send_dns(skb, state, message, offset, 128);
	else if (message->size <= 512)
		send_dns(skb, state, message, offset, 512);
	else if (message->size <= 4096)
		send_dns(skb, state, message, offset, 4096);
	else
		send_dns(skb, state, message, offset, MAX_DNS_CAPTURE);
}

#endif
