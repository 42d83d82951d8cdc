/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* What is kept for a socket, and who owns it. */
#ifndef TAPIO_SOCKET_H
#define TAPIO_SOCKET_H

#include "event.h"
#include "kernel.h"
#include "packet.h"
#include "scope.h"
#include "task.h"

/* A UDP socket's traffic with one peer. */
struct flow_key {
	__u64 socket; /* socket cookie */
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port; /* host byte order */
	__u16 peer_port;
	__u32 reserved;
};

struct process_ref {
	__u64 start_time;
	__u32 pid; /* 0: not known */
	__u32 reserved;
};

enum direction { INGRESS, EGRESS };

#define MAX_PIPELINED 32 /* requests of a connection that wait for their response */

/* The reading of one direction of a connection. */
struct http_stream {
	__u64 socket;	    /* its address; of one that has none yet, a number that no other has */
	__u64 remaining;    /* of the body, or of the chunk and the line end behind it */
	__u64 now;	    /* when the payload came that is being read, ns */
	__u32 next;	    /* sequence number of the first byte that was not read yet */
	__u32 offset;	    /* where that is in the packet */
	__u32 left;	    /* how many bytes of the packet follow from there */
	__u32 acknowledged; /* by the packet: the other direction's next byte */
	__u32 ahead;	    /* sequence numbers of bytes that came before their turn */
	__u32 ahead_end;
	__u32 early; /* sequence number of the early segment that is read instead of the packet */
	__u32 end;   /* sequence number behind the stream's last byte, with has_end */
	__u32 early_segments; /* that were put aside, also by who has no lock */
	__u32 early_end;      /* sequence number behind the last of their bytes */
	__u32 reserved;
	__u8 mode;	    /* enum http_mode, http.h */
	__u8 reading_early; /* it is */
	__u8 direction;
	__u8 has_end; /* a FIN has come, maybe before what stands before it */
};

/* What is kept of a connection between two packets; what is kept of an exchange is in http.h. */
struct http_connection {
	__u64 busy; /* the CPU that reads it now, plus one; 0: none; see lock_connection */
	__u64 now; /* the clock, as it was read for what is being read, ns: also for a packet without payload */
	__u32 begun;	/* requests */
	__u32 answered; /* of these, those whose response is complete */
	__u32 reading;	/* the newest request is not complete */
	__u8 role;	/* enum connection_role, by the direction of the requests */
	__u8 last;	/* direction of the last payload, plus one */
	__u8 searching; /* no request was recognised since bytes were missed */
	__u8 confirmed; /* a request was recognised: role is certain */
	__u8 looks;	/* how often a request was looked for in vain */
	__u8 deferred;	/* a segment was put aside, as another one was being read */
	__u8 early;	/* it has no socket of its own yet */
	__u8 has_own;
	__u16 own;	/* number of a slot that stays this connection's between exchanges */
	__u8 found;	/* in its middle: requests may have been waiting that we have not seen */
	__u8 pipelined; /* a request has begun while another one waited for its response */
	struct http_stream streams[2]; /* by enum direction */
	__u16 pending[MAX_PIPELINED];  /* slots of those between answered and begun, by number */
};

struct socket_state {
	/*
	 * The socket, as a number: the packet programs are given it as a pointer that they may not
	 * read through, and a pointer that was stored and loaded again is one that they may.
	 */
	__u64 address;
	struct process_ref owner; /* who last read or wrote; before that: who created it */
	struct http_connection http;
	__u64 cgroup_id;	     /* together with ends */
	struct connection_ends ends; /* TCP, once it is established; read when first needed */
	__u64 opened;		     /* TCP client: SYN sent; ns; 0: before the start */
	__u64 connected;	     /* TCP: established; ns; 0: not yet, or before the start */
	__u64 reported;		     /* when the last report was sent; 0: none yet */
	__u64 sent_bytes_reported;
	__u64 received_bytes_reported;
	__u32 retransmits_reported;
	__u8 role;		   /* enum connection_role; UDP: by the first packet */
	__u8 seen_creation;	   /* UDP: the first packet tells who began */
	__u8 followed;		   /* TCP: the *_reported fields are what it had when we met it */
	__u8 tcp_state;		   /* that it was last seen to enter */
	struct flow_key last_flow; /* UDP: ended together with the socket */
	struct cause cause;	   /* TCP client: of the connection */
};

/* The first choice: goes with the socket, by itself. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_state);
} sockets SEC(".maps");

/*
 * The fall-back for kernels (before 5.11) where tracing programs may not use socket storage: by
 * the socket's address. Deleted when TCP is closed or UDP released; LRU bounds what is missed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct socket_state);
} sockets_by_address SEC(".maps");

/* Set by the loader, which has asked the kernel. */
const volatile bool has_socket_storage = true;

static __always_inline struct socket_state *socket_state(void *sk)
{
	__u64 address = (__u64)sk;

	if (has_socket_storage)
		return bpf_sk_storage_get(&sockets, sk, NULL, 0);
	return bpf_map_lookup_elem(&sockets_by_address, &address);
}

/*
 * Two states that are too large for the stack: a new one, which nothing writes to, and one for
 * sockets for which there is no memory.
 */
enum { STATE_EMPTY, STATE_UNKNOWN, STATE_COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STATE_COUNT);
	__type(key, __u32);
	__type(value, struct socket_state);
} spare_states SEC(".maps");

static __always_inline struct socket_state *create_socket_by_address(__u64 address)
{
	struct socket_state *empty;
	__u32 which = STATE_EMPTY;

	empty = bpf_map_lookup_elem(&spare_states, &which);
	if (!empty)
		return NULL;
	bpf_map_update_elem(&sockets_by_address, &address, empty, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sockets_by_address, &address);
}

static __always_inline struct socket_state *create_socket_state(void *sk)
{
	struct socket_state *state;

	if (has_socket_storage)
		state = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	else
		state = create_socket_by_address((__u64)sk);
	if (state)
		state->address = (__u64)sk;
	return state;
}

static __always_inline void reset_socket_state(struct socket_state *state, void *sk)
{
	__builtin_memset(state, 0, sizeof(*state));
	state->address = (__u64)sk;
}

/* For as long as a program runs, and as long as no other runs into the same lack of memory. */
static __always_inline struct socket_state *unknown_state(void *sk)
{
	__u32 which = STATE_UNKNOWN;
	struct socket_state *state = bpf_map_lookup_elem(&spare_states, &which);

	if (state)
		reset_socket_state(state, sk);
	return state;
}

static __always_inline struct sock *sock_of(struct socket_state *state)
{
	return (void *)state->address;
}

static __always_inline void forget_socket(void *sk)
{
	__u64 address = (__u64)sk;

	if (!has_socket_storage)
		bpf_map_delete_elem(&sockets_by_address, &address);
}

static __always_inline struct cgroup *cgroup_of_socket(struct sock *sk)
{
	struct sock___before_5_15 *old = (void *)sk;
	__u64 val;

	if (bpf_core_field_exists(sk->sk_cgrp_data.cgroup))
		return BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	val = BPF_CORE_READ(old, sk_cgrp_data.val);
	return val & 3 ? NULL : (void *)val; /* the low bits say: no pointer, but net_cls ids */
}

static __always_inline __u64 cgroup_id_of_socket(struct sock *sk)
{
	return cgroup_id_of(cgroup_of_socket(sk));
}

static __always_inline bool socket_in_scope(struct sock *sk)
{
	return cgroup_in_scope(cgroup_of_socket(sk));
}

/*
 * A process holds the socket's lock: we are in its system call. In softirq, where the current task
 * is whoever was interrupted, the lock is never held like this: the kernel puts packets for a
 * socket that is held aside, and the holder works them off itself.
 */
static __always_inline bool held_by_process(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_lock.owned);
}

/* For use in process context only. */
static __always_inline void own_by_current(struct socket_state *state)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 pid = BPF_CORE_READ(task, tgid);

	if (pid == state->owner.pid || BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return;
	state->owner.pid = pid;
	state->owner.start_time = start_time_of(task);
}

/*
 * Where it may also be softirq. Nearly always the owner is the one that it was, which is the
 * cheapest of the questions and holds in any context. pid: the current process.
 */
static __always_inline void own_if_held(struct socket_state *state, __u32 pid)
{
	if (pid != state->owner.pid && held_by_process(sock_of(state)))
		own_by_current(state);
}

static __always_inline bool owned_by_self(struct socket_state *state)
{
	return self_pid && state->owner.pid == self_pid;
}

/* --- what a socket says of itself ------------------------------------------------------------ */

static __always_inline bool is_tcp(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP;
}

static __always_inline __u32 netns_of(struct sock *sk)
{
	if (!bpf_core_field_exists(sk->__sk_common.skc_net.net))
		return 0; /* built without CONFIG_NET_NS */
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline void fill_addresses(struct connection_ends *ends, struct sock *sk)
{
	if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr) && /* CONFIG_IPV6 */
	    BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&ends->local_address, sk,
				   __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&ends->peer_address, sk,
				   __sk_common.skc_v6_daddr.in6_u.u6_addr8);
		return;
	}
	map_ipv4(ends->local_address, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	map_ipv4(ends->peer_address, BPF_CORE_READ(sk, __sk_common.skc_daddr));
}

static __always_inline void fill_tcp_ends(struct connection_ends *ends, struct sock *sk,
					  struct socket_state *state)
{
	struct inet_sock *inet = (void *)sk;

	fill_addresses(ends, sk);
	/* not skc_num: at the close the kernel has put the port back, and only inet_sport is left */
	ends->local_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	ends->peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	ends->protocol = IPPROTO_TCP;
	ends->role = state->role;
	ends->netns = netns_of(sk);
}

/* The same, and the header's part that never changes, for records that come in great numbers. */
static __always_inline void remember_ends(struct socket_state *state)
{
	struct sock *sk = sock_of(state);

	if (state->cgroup_id)
		return;
	fill_tcp_ends(&state->ends, sk, state);
	state->cgroup_id = cgroup_id_of_socket(sk);
}

static __always_inline void fill_socket_header(struct event_header *header, struct sock *sk,
					       struct socket_state *state)
{
	header->pid = state->owner.pid;
	header->start_time = state->owner.start_time;
	header->cgroup_id = cgroup_id_of_socket(sk);
}

#endif
