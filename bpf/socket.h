/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* What is kept for a socket, and who owns it. */
#ifndef TAPIO_SOCKET_H
#define TAPIO_SOCKET_H

#include "event.h"
#include "kernel.h"
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

struct socket_state {
	/*
	 * The socket, as a number: the packet programs are given it as a pointer that they may not
	 * read through, and a pointer that was stored and loaded again is one that they may.
	 */
	__u64 address;
	struct process_ref owner; /* who last read or wrote; before that: who created it */
	__u64 opened;		  /* TCP client: SYN sent; ns; 0: before the start */
	__u64 connected;	  /* TCP: established; ns; 0: not yet, or before the start */
	__u64 reported;		  /* when the last report was sent; 0: none yet */
	__u64 sent_bytes_reported;
	__u64 received_bytes_reported;
	__u32 retransmits_reported;
	__u8 role;	    /* enum connection_role; UDP: by the first packet */
	__u8 seen_creation; /* UDP: the first packet tells who began */
	__u8 followed;	    /* TCP: the *_reported fields are what it had when we met it */
	__u8 reserved;
	struct flow_key last_flow; /* UDP: ended together with the socket */
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

static __always_inline struct socket_state *create_socket_by_address(__u64 address)
{
	struct socket_state empty = {};

	bpf_map_update_elem(&sockets_by_address, &address, &empty, BPF_NOEXIST);
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

static __always_inline bool owned_by_self(struct socket_state *state)
{
	return self_pid && state->owner.pid == self_pid;
}

#endif
