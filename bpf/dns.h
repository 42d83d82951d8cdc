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

/* A question in a datagram by its id; over TCP all of a connection, of which no part may be missing. */
struct dns_exchange {
	__u64 socket; /* cookie */
	__u32 id;
	__u32 reserved;
};

enum { ALL_OF_STREAM = 1 << 16 }; /* an id has 16 bits */

#define IS_THROTTLED (1ULL << 63) /* of a stream; beside the time when it last asked, ns */

/*
 * Where there is a limit: questions that are told, until they are answered, and streams, told or not. No question then
 * seems to have gone unanswered, and no answer not to have been asked for.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct dns_exchange);
	__type(value, __u64);
} dns_fates SEC(".maps");

static __always_inline bool is_question(struct dns_message *message)
{
	return message->flags & DNS_SENT;
}

static __always_inline bool is_of_stream(struct dns_message *message)
{
	return message->header.type == DNS_SEGMENT;
}

static __always_inline void find_exchange(struct dns_exchange *exchange, struct __sk_buff *skb,
					  struct dns_message *message, __u32 offset)
{
	exchange->socket = message->socket;
	if (is_of_stream(message))
		exchange->id = ALL_OF_STREAM;
	else /* else all that are too short are one */
		bpf_skb_load_bytes(skb, offset, &exchange->id, sizeof(__u16));
}

/* NULL: none is known, or it is that of a question that nobody waits for any more. */
static __always_inline __u64 *fate_of(struct __sk_buff *skb, struct dns_message *message,
				      __u32 offset)
{
	struct dns_exchange exchange = {};
	__u64 *fate;

	find_exchange(&exchange, skb, message, offset);
	fate = bpf_map_lookup_elem(&dns_fates, &exchange);
	if (!fate || has_passed(bpf_ktime_get_boot_ns(), *fate & ~IS_THROTTLED, dns_timeout))
		return NULL;
	return fate;
}

static __always_inline void keep_fate(struct __sk_buff *skb, struct dns_message *message,
				      __u32 offset, __u64 is_throttled)
{
	struct dns_exchange exchange = {};
	__u64 fate = is_throttled | bpf_ktime_get_boot_ns();

	find_exchange(&exchange, skb, message, offset);
	bpf_map_update_elem(&dns_fates, &exchange, &fate, BPF_ANY);
}

static __always_inline void forget_fate(struct __sk_buff *skb, struct dns_message *message,
					__u32 offset)
{
	struct dns_exchange exchange = {};

	find_exchange(&exchange, skb, message, offset);
	bpf_map_delete_elem(&dns_fates, &exchange);
}

#define LIMIT_KEY_OF_DNS(state)                                                                    \
	{.cgroup_id = cgroup_id_of_socket(sock_of(state)), .family = FAMILY_DNS}

static __always_inline bool is_dns_limited(struct socket_state *state, __u32 type)
{
	struct limit_key key = LIMIT_KEY_OF_DNS(state);

	return limit_by_key(&key, type, SECOND, bpf_ktime_get_boot_ns());
}

static __always_inline void leave_out_dns(struct socket_state *state, __u32 type)
{
	struct limit_key key = LIMIT_KEY_OF_DNS(state);

	leave_out_by_key(&key, type);
}

/* What is told in any case is paid for all the same, so that there is less for others; but not for ever. */
static __always_inline void charge_dns(struct socket_state *state)
{
	struct limit_key key = LIMIT_KEY_OF_DNS(state);
	struct limit_state *limit = limit_state_of(&key);

	if (limit)
		may_pass(limit, interval_of(DNS_SEGMENT), bpf_ktime_get_boot_ns(), 2 * SECOND);
}

/* It may be the answer to a question that was not told, if there were such of late; else it counts as any event. */
static __always_inline bool is_unknown_answer_throttled(struct socket_state *state, __u32 type)
{
	struct limit_key key = LIMIT_KEY_OF_DNS(state);
	struct limit_state *limit = limit_state_of(&key);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!limit || !limit->last || has_passed(now, limit->last, dns_timeout))
		return limit_by_key(&key, type, SECOND, now);
	leave_out_by_key(&key, type);
	return true;
}

/* A question that is told may be asked again, and an answer is told with it. */
static __always_inline bool is_datagram_throttled(struct __sk_buff *skb, struct socket_state *state,
						  struct dns_message *message, __u32 offset)
{
	__u64 *told = fate_of(skb, message, offset);

	if (is_question(message)) {
		if (is_dns_limited(state, DNS_MESSAGE))
			return true;
		keep_fate(skb, message, offset, 0);
		return false;
	}
	if (!told)
		return is_unknown_answer_throttled(state, DNS_MESSAGE);
	forget_fate(skb, message, offset);
	return false;
}

/* Until nothing was asked for as long as an answer may take, all of it has the fate of the first question. */
static __always_inline bool is_segment_throttled(struct __sk_buff *skb, struct socket_state *state,
						 struct dns_message *message, __u32 offset)
{
	__u64 *known = fate_of(skb, message, offset), is_throttled;

	if (!known && !is_question(message))
		return is_unknown_answer_throttled(state, DNS_SEGMENT);
	if (!known) {
		is_throttled = is_dns_limited(state, DNS_SEGMENT) ? IS_THROTTLED : 0;
		keep_fate(skb, message, offset, is_throttled);
		return is_throttled;
	}
	is_throttled = *known & IS_THROTTLED;
	if (is_question(message))
		*known = is_throttled | bpf_ktime_get_boot_ns();
	if (is_throttled)
		leave_out_dns(state, DNS_SEGMENT);
	else
		charge_dns(state);
	return is_throttled;
}

static __always_inline bool is_dns_throttled(struct __sk_buff *skb, struct socket_state *state,
					     struct dns_message *message, __u32 offset)
{
	if (is_of_stream(message))
		return is_segment_throttled(skb, state, message, offset);
	return is_datagram_throttled(skb, state, message, offset);
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
