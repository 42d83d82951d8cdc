/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* DNS: the messages of clients go to user space as they are, which pairs and reads them. */
#ifndef TAPIO_DNS_H
#define TAPIO_DNS_H

#include "event.h"
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

/* Nearly all messages are small; a record takes one of four sizes. */
static __noinline void send_dns_message(struct __sk_buff *skb, struct socket_state *state,
					struct dns_message *message, __u32 offset)
{
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
