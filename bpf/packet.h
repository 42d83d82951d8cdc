/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* The headers of a packet, as a cgroup_skb program finds them: it starts at the IP header. */
#ifndef TAPIO_PACKET_H
#define TAPIO_PACKET_H

#include "kernel.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

/* More IPv6 extension headers than this before UDP are not met outside of attacks. */
#define MAX_EXTENSION_HEADERS 6

struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 source;
	__be32 destination;
};

struct ipv6_header {
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u8 source[16];
	__u8 destination[16];
};

#define NEXT_HEADER_OFFSET __builtin_offsetof(struct ipv6_header, next_header)

struct extension_header {
	__u8 next_header;
	__u8 length; /* in units of 8 bytes, the first not counted */
};

struct udp_header {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 check;
};

/*
 * Copies up to max bytes of a packet. The barrier keeps the compiler from checking one register and
 * passing another one, of which the verifier then knows nothing; the size is signed since verifiers
 * before Linux 6.8 do not conclude from "not zero" that there is at least one.
 */
static __always_inline bool load_bytes(struct __sk_buff *skb, __u32 offset, void *to, __s64 size,
				       const __s64 max)
{
	barrier_var(size);
	if (size <= 0 || size > max)
		return false;
	return !bpf_skb_load_bytes(skb, offset, to, size);
}

struct packet {
	__u8 source[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 destination[16];
	__u32 transport_offset;
	__u8 protocol;
};

static __always_inline void map_ipv4(__u8 *address, __be32 ipv4)
{
	__builtin_memset(address, 0, 10);
	address[10] = address[11] = 0xff;
	__builtin_memcpy(&address[12], &ipv4, 4);
}

static __always_inline bool parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv4_header ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return false;
	map_ipv4(packet->source, ip.source);
	map_ipv4(packet->destination, ip.destination);
	packet->protocol = ip.protocol;
	packet->transport_offset = (ip.version_ihl & 0xf) * 4;
	return true;
}

static __always_inline bool is_extension_header(__u8 protocol)
{
	return protocol == 0 /* hop by hop */ || protocol == 43 /* routing */ ||
	       protocol == 60 /* destination options */;
}

static __always_inline bool parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct extension_header extension;
	__u32 offset = sizeof(struct ipv6_header);
	struct ipv6_header ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return false;
	__builtin_memcpy(packet->source, ip.source, 16);
	__builtin_memcpy(packet->destination, ip.destination, 16);
	packet->protocol = ip.next_header;
	for (int i = 0; i < MAX_EXTENSION_HEADERS && is_extension_header(packet->protocol); i++) {
		if (bpf_skb_load_bytes(skb, offset, &extension, sizeof(extension)))
			return false;
		packet->protocol = extension.next_header;
		offset += (extension.length + 1) * 8;
	}
	packet->transport_offset = offset;
	return true;
}

static __always_inline bool parse_packet(struct __sk_buff *skb, struct packet *packet)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, packet);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, packet);
	return false;
}

struct tcp_header {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledged;
	__u8 data_offset; /* high four bits, in units of four bytes */
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
};

/* An IPv4 header without options, as they nearly all are, and what follows it. */
struct ipv4_tcp_headers {
	struct ipv4_header ip;
	struct tcp_header tcp;
};

#define PLAIN_IPV4 0x45 /* version 4, five words */

static __always_inline __u32 find_tcp_ipv4(struct __sk_buff *skb, struct tcp_header *tcp)
{
	const struct ipv4_tcp_headers *headers = (void *)(long)skb->data;
	struct ipv4_header ip;
	__u32 offset;

	if ((void *)(headers + 1) <= (void *)(long)skb->data_end &&
	    headers->ip.version_ihl == PLAIN_IPV4) {
		*tcp = headers->tcp;
		return headers->ip.protocol == IPPROTO_TCP ? sizeof(headers->ip) : 0;
	}
	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP)
		return 0; /* what IPsec has made of it */
	offset = (ip.version_ihl & 0xf) * 4;
	return bpf_skb_load_bytes(skb, offset, tcp, sizeof(*tcp)) ? 0 : offset;
}

/* A function by itself, as what it needs of the stack is rarely needed. 0: not found. */
static __noinline __u32 find_tcp_behind_extensions(struct __sk_buff *skb)
{
	struct packet packet = {};

	if (!parse_ipv6(skb, &packet) || packet.protocol != IPPROTO_TCP)
		return 0;
	return packet.transport_offset;
}

static __always_inline __u32 find_tcp_ipv6(struct __sk_buff *skb, struct tcp_header *tcp)
{
	__u32 offset = sizeof(struct ipv6_header);
	__u8 next;

	if (bpf_skb_load_bytes(skb, NEXT_HEADER_OFFSET, &next, sizeof(next)))
		return 0;
	if (next != IPPROTO_TCP)
		offset = find_tcp_behind_extensions(skb);
	if (!offset || bpf_skb_load_bytes(skb, offset, tcp, sizeof(*tcp)))
		return 0;
	return offset;
}

/* Reads the TCP header of a packet of a TCP socket. Where it begins; 0: not found. */
static __always_inline __u32 find_tcp(struct __sk_buff *skb, struct tcp_header *tcp)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return find_tcp_ipv4(skb, tcp);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return find_tcp_ipv6(skb, tcp);
	return 0;
}

#endif
