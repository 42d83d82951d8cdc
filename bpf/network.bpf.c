//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/*
 * Sockets. TCP connections and UDP flows: opened, refused, reported while they last, closed; and
 * what http.h and dns.h make of their packets.
 */
#include "kernel.h"
#include "cause.h"
#include "connection_sums.h"
#include "dns.h"
#include "event.h"
#include "http.h"
#include "limit.h"
#include "packet.h"
#include "ring.h"
#include "scope.h"
#include "serving.h"
#include "socket.h"
#include "tls.h"
#include "watch.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define ALLOW 1 /* what a cgroup_skb program returns to leave a packet alone */

/* Set by the loader: whether connections and flows are reported. */
const volatile bool network_enabled = true;

/* Set by the loader: how often a connection that lasts is reported, ns. */
const volatile __u64 report_interval = 60000000000ULL;

/* A UDP socket's traffic with one peer. */
struct flow {
	struct process_ref owner;
	__u64 cgroup_id;
	__u64 first; /* the first packet that we saw, ns */
	__u64 last;  /* the last packet, ns */
	__u64 reported;
	__u64 sent_bytes;
	__u64 received_bytes;
	__u64 sent_packets;
	__u64 received_packets;
	__u64 sent_bytes_reported;
	__u64 received_bytes_reported;
	__u32 netns;
	__u8 role;
	__u8 reserved[3];
};

/* Made at a flow's first packet; deleted when its socket is released or it was silent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* --- what a TCP socket says of itself -------------------------------------------------------- */

/*
 * Payload that was sent, each byte once: bytes_sent counts what was sent again, too. Segments that
 * this host itself refuses (a full queue, a firewall) are in it each time that they are tried.
 */
static __always_inline __u64 sent_bytes_of(struct tcp_sock *tcp)
{
	__u64 sent = BPF_CORE_READ(tcp, bytes_sent);
	__u64 again = BPF_CORE_READ(tcp, bytes_retrans);

	return sent > again ? sent - again : 0;
}

/* Payload that arrived: the kernel counts sequence numbers, and a FIN has one of its own. */
static __always_inline __u64 received_bytes_of(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;
	bool fin_received = BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE_BIT & 1;

	return BPF_CORE_READ(tcp, bytes_received) - fin_received;
}

static __always_inline void fill_tcp_stats(struct connection_stats *event, struct sock *sk,
					   struct socket_state *state)
{
	struct tcp_sock *tcp = (void *)sk;
	__u32 srtt = BPF_CORE_READ(tcp, srtt_us) >> 3; /* kept in eighths */

	event->opened = state->connected;
	event->sent_bytes = sent_bytes_of(tcp);
	event->received_bytes = received_bytes_of(sk);
	event->retransmits = BPF_CORE_READ(tcp, total_retrans);
	if (state->followed) {
		event->sent_bytes_delta = event->sent_bytes - state->sent_bytes_reported;
		event->received_bytes_delta =
			event->received_bytes - state->received_bytes_reported;
		event->retransmits_delta = event->retransmits - state->retransmits_reported;
	}
	if (!state->reported)
		event->flags |= CONNECTION_FIRST_RECORD;
	if (srtt) {
		event->rtt = srtt;
		event->flags |= CONNECTION_HAS_RTT;
	}
}

static __always_inline bool is_socket_throttled(struct sock *sk, __u16 type)
{
	return has_limit(type) && is_throttled(cgroup_id_of_socket(sk), type, 0);
}

/* --- TCP: opened, refused, closed ------------------------------------------------------------ */

/* Its first byte will have the numbers that are next now. */
static __always_inline void fill_first_request(struct connection_connect *event,
					       struct tcp_sock *tcp)
{
	event->sequence = BPF_CORE_READ(tcp, snd_nxt);
	event->acknowledged = BPF_CORE_READ(tcp, rcv_nxt);
}

/* Functions by themselves, so that the others need not have room for what stands on their stack. */
static __noinline void leave_out_connect(struct sock *sk, struct socket_state *state, __s32 error)
{
	struct event_header header = {};
	struct connection_ends ends = {};

	fill_socket_header(&header, sk, state);
	fill_tcp_ends(&ends, sk, state);
	sum_up_connect(&header, &ends, state->opened, error);
}

/* error: 0 if the connection is established. */
static __always_inline void send_connect(struct sock *sk, struct socket_state *state, __s32 error)
{
	struct connection_connect *event;

	if (!network_enabled || owned_by_self(state) || !state->opened)
		return; /* not ours to tell, or the SYN was not seen, or not sent by this side */
	if (is_socket_throttled(sk, CONNECTION_CONNECT)) {
		leave_out_connect(sk, state, error);
		return;
	}
	event = reserve_event(&traffic_ring, CONNECTION_CONNECT, sizeof(*event));
	if (!event)
		return;
	fill_socket_header(&event->header, sk, state);
	fill_tcp_ends(&event->ends, sk, state);
	event->opened = state->opened;
	event->cause = state->cause;
	event->error = error;
	if (!error)
		fill_first_request(event, (void *)sk);
	submit_event(&traffic_ring, event);
}

static __always_inline void send_connect_failure(struct sock *sk, struct socket_state *state)
{
	__s32 error = BPF_CORE_READ(sk, sk_err);

	if (!error) /* the process itself has let go of it, or no errno was kept */
		error = BPF_CORE_READ(sk, sk_shutdown) == SHUTDOWN_MASK ? ECANCELED : -1;
	send_connect(sk, state, error);
}

static __always_inline void fill_close(struct connection_stats *event, struct sock *sk,
				       struct socket_state *state, bool aborted)
{
	fill_socket_header(&event->header, sk, state);
	fill_tcp_ends(&event->ends, sk, state);
	fill_tcp_stats(event, sk, state);
	event->error = BPF_CORE_READ(sk, sk_err);
	if (aborted && !event->error)
		event->flags |= CONNECTION_ABORTED;
}

static __noinline void leave_out_close(struct sock *sk, struct socket_state *state, bool aborted)
{
	struct connection_stats event = {};

	fill_close(&event, sk, state, aborted);
	sum_up_close(&event);
}

static __always_inline void send_close(struct sock *sk, struct socket_state *state, bool aborted)
{
	struct connection_stats *event;

	if (!network_enabled || owned_by_self(state))
		return;
	if (is_socket_throttled(sk, CONNECTION_CLOSE)) {
		leave_out_close(sk, state, aborted);
		return;
	}
	event = reserve_event(&traffic_ring, CONNECTION_CLOSE, sizeof(*event));
	if (!event)
		return;
	fill_close(event, sk, state, aborted);
	submit_event(&traffic_ring, event);
}

static __always_inline void connecting(struct sock *sk)
{
	struct socket_state *state = create_socket_state(sk);

	if (!state)
		return;
	reset_socket_state(state, sk); /* a socket can connect again */
	state->opened = bpf_ktime_get_boot_ns();
	state->role = ROLE_CLIENT;
	state->followed = true;
	own_by_current(state);
	find_cause(&state->cause);
}

static __always_inline void established(struct sock *sk, int old_state)
{
	struct socket_state *state = create_socket_state(sk);

	if (!state)
		return;
	if (old_state == TCP_SYN_RECV && !state->opened)
		reset_socket_state(state, sk); /* nothing of a socket that had the address before */
	if (state->role == ROLE_UNKNOWN)
		state->role = old_state == TCP_SYN_RECV ? ROLE_SERVER : ROLE_CLIENT;
	state->followed = true;
	state->connected = bpf_ktime_get_boot_ns();
	begin_connection(sk, state);
	if (state->role == ROLE_CLIENT)
		send_connect(sk, state, 0);
}

/*
 * An orderly end goes through FIN_WAIT or CLOSE_WAIT and LAST_ACK; without them it was a reset. In
 * FIN_WAIT it goes on only after the peer's FIN has come or the process has let go of the socket.
 */
static __always_inline bool is_abort(struct sock *sk, int old_state)
{
	unsigned long flags = BPF_CORE_READ(sk, __sk_common.skc_flags);

	if (old_state == TCP_FIN_WAIT1 || old_state == TCP_FIN_WAIT2)
		return !(flags & (1 << SOCK_DEAD_BIT | 1 << SOCK_DONE_BIT));
	return old_state == TCP_ESTABLISHED || old_state == TCP_CLOSE_WAIT;
}

/* A close that throws away what was not read ends the connection before it says that nobody has it any more. */
static __always_inline bool is_let_go(struct sock *sk)
{
	unsigned long flags = BPF_CORE_READ(sk, __sk_common.skc_flags);

	return flags & 1 << SOCK_DEAD_BIT ||
	       (BPF_CORE_READ(sk, sk_shutdown) == SHUTDOWN_MASK && !(flags & 1 << SOCK_DONE_BIT));
}

/* One that only said that it sends no more has not let go: then it is the other side that ends the rest. */
static __always_inline bool is_half_closed(struct sock *sk, int old_state)
{
	return (old_state == TCP_FIN_WAIT1 || old_state == TCP_FIN_WAIT2 ||
		old_state == TCP_CLOSING) &&
	       !is_let_go(sk);
}

static __always_inline __u16 ending_of(struct sock *sk, int old_state)
{
	__u16 flags = 0;

	if (is_abort(sk, old_state) && !BPF_CORE_READ(sk, sk_err))
		flags |= HTTP_ABORTED;
	if (old_state != TCP_CLOSE_WAIT && old_state != TCP_LAST_ACK &&
	    !is_half_closed(sk, old_state))
		flags |= HTTP_CLOSED_HERE;
	return flags;
}

static __noinline void tell_end(struct sock *sk, struct socket_state *state, int old_state)
{
	if (held_by_process(sk) && !state->owner.pid)
		own_by_current(state);
	if (old_state == TCP_SYN_SENT || old_state == TCP_SYN_RECV)
		send_connect_failure(sk, state);
	else
		send_close(sk, state, is_abort(sk, old_state));
}

static __always_inline void closed(struct sock *sk, int old_state)
{
	struct socket_state *state = create_socket_state(sk);

	if (!state)
		state = unknown_state(sk); /* no memory: the record goes without owner and role */
	if (!state)
		return;
	tell_end(sk, state, old_state);
	end_connection(state, ending_of(sk, old_state), BPF_CORE_READ(sk, sk_err));
	forget_socket(sk);
}

/* After the watch: what was followed until then is told, since the kernel itself has counted what it carried. */
static __always_inline void closed_late(struct sock *sk, int old_state)
{
	struct socket_state *state = socket_state(sk);

	if (!state)
		return;
	tell_end(sk, state, old_state);
	forget_socket(sk);
}

/*
 * A client that has closed its end waits for no response. A server may have, with what it wrote
 * still to be sent.
 */
static __always_inline void give_up(struct sock *sk, struct socket_state *state, int new_state)
{
	if (state->http.role == ROLE_CLIENT && BPF_CORE_READ(sk, sk_shutdown) == SHUTDOWN_MASK)
		end_connection(state, new_state == TCP_FIN_WAIT1 ? HTTP_CLOSED_HERE : 0, 0);
}

/* A process began to close it: for one that never read or wrote, the only time that it is seen. */
static __always_inline void closing(struct sock *sk, int new_state)
{
	struct socket_state *state = create_socket_state(sk);

	if (!state)
		return;
	if (!state->owner.pid && held_by_process(sk))
		own_by_current(state);
	if (streams_enabled())
		give_up(sk, state, new_state);
}

static __noinline void change_state(struct sock *sk, int old_state, int new_state)
{
	bool ends = new_state == TCP_CLOSE && old_state != TCP_LISTEN && old_state != TCP_CLOSE;

	if (!is_watching()) {
		if (ends)
			closed_late(sk, old_state);
		return;
	}
	if (new_state == TCP_LISTEN)
		note_listening();
	else if (new_state == TCP_SYN_SENT)
		connecting(sk);
	else if (new_state == TCP_ESTABLISHED)
		established(sk, old_state);
	else if (new_state == TCP_FIN_WAIT1 || new_state == TCP_LAST_ACK)
		closing(sk, new_state);
	else if (ends)
		closed(sk, old_state);
}

static __always_inline void note_state(struct sock *sk, int new_state)
{
	struct socket_state *state = socket_state(sk);

	if (state)
		state->tcp_state = new_state;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_changed, struct sock *sk, int old_state, int new_state)
{
	if (!is_tcp(sk) || !socket_in_scope(sk))
		return 0;
	change_state(sk, old_state, new_state);
	note_state(sk, new_state);
	return 0;
}

/* Whether the first of the two has run. At a socket's end nobody can tell without its state. */
static __always_inline bool is_noted(struct sock *sk, int new_state)
{
	struct socket_state *state = socket_state(sk);

	return state ? state->tcp_state == new_state : new_state == TCP_CLOSE;
}

/*
 * The same once more. The kernel leaves a program out where it is running on that CPU already: in
 * what was interrupted, or, since kernels preempt programs, in another task. Here is made up for it.
 * It takes socket storage to tell; kernels without leave nothing out.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_missed, struct sock *sk, int old_state, int new_state)
{
	if (!has_socket_storage || !is_tcp(sk) || !socket_in_scope(sk))
		return 0;
	if (is_noted(sk, new_state))
		return 0;
	change_state(sk, old_state, new_state);
	note_state(sk, new_state);
	return 0;
}

/* A process has read from the socket. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_read, struct sock *sk)
{
	struct socket_state *state = socket_state(sk);

	if (!state)
		return 0;
	own_if_held(state, bpf_get_current_pid_tgid() >> 32);
	note_read(sk, state);
	return 0;
}

/* --- UDP flows ------------------------------------------------------------------------------- */

static __always_inline bool make_flow_key(struct flow_key *key, struct __sk_buff *skb,
					  struct packet *packet, enum direction direction)
{
	struct udp_header udp;

	if (bpf_skb_load_bytes(skb, packet->transport_offset, &udp, sizeof(udp)))
		return false;
	__builtin_memset(key, 0, sizeof(*key));
	key->socket = bpf_get_socket_cookie(skb);
	if (direction == EGRESS) {
		__builtin_memcpy(key->local_address, packet->source, 16);
		__builtin_memcpy(key->peer_address, packet->destination, 16);
		key->local_port = bpf_ntohs(udp.source);
		key->peer_port = bpf_ntohs(udp.destination);
	} else {
		__builtin_memcpy(key->local_address, packet->destination, 16);
		__builtin_memcpy(key->peer_address, packet->source, 16);
		key->local_port = bpf_ntohs(udp.destination);
		key->peer_port = bpf_ntohs(udp.source);
	}
	return true;
}

static __always_inline void count_packet(struct flow *flow, __u64 bytes, enum direction direction)
{
	if (direction == EGRESS) {
		__sync_fetch_and_add(&flow->sent_bytes, bytes);
		__sync_fetch_and_add(&flow->sent_packets, 1);
	} else {
		__sync_fetch_and_add(&flow->received_bytes, bytes);
		__sync_fetch_and_add(&flow->received_packets, 1);
	}
}

/*
 * Who sent the first packet of a socket tells whether it is a client's or a server's. A flow that
 * begins the other way round may be one that was silent for long and goes on: nobody can tell.
 */
static __always_inline __u8 role_of_flow(struct socket_state *state, enum direction direction)
{
	__u8 role = direction == EGRESS ? ROLE_CLIENT : ROLE_SERVER;

	if (!state->seen_creation)
		return ROLE_UNKNOWN;
	if (state->role == ROLE_UNKNOWN)
		state->role = role;
	return state->role == role ? role : ROLE_UNKNOWN;
}

static __always_inline void begin_flow(struct flow *flow, struct socket_state *state,
				       enum direction direction)
{
	struct sock *sk = sock_of(state);

	flow->first = flow->last = bpf_ktime_get_boot_ns();
	flow->cgroup_id = cgroup_id_of_socket(sk);
	flow->netns = netns_of(sk);
	flow->role = role_of_flow(state, direction);
}

static __always_inline void fill_flow_event(struct connection_stats *event,
					    const struct flow_key *key, const struct flow *flow)
{
	event->header.pid = flow->owner.pid;
	event->header.start_time = flow->owner.start_time;
	event->header.cgroup_id = flow->cgroup_id;
	__builtin_memcpy(event->ends.local_address, key->local_address, 16);
	__builtin_memcpy(event->ends.peer_address, key->peer_address, 16);
	event->ends.local_port = key->local_port;
	event->ends.peer_port = key->peer_port;
	event->ends.protocol = IPPROTO_UDP;
	event->ends.role = flow->role;
	event->ends.netns = flow->netns;
	if (flow->role != ROLE_UNKNOWN)
		event->opened = flow->first; /* else the flow may be older */
	event->sent_bytes = flow->sent_bytes;
	event->received_bytes = flow->received_bytes;
	event->sent_packets = flow->sent_packets;
	event->received_packets = flow->received_packets;
	event->sent_bytes_delta = flow->sent_bytes - flow->sent_bytes_reported;
	event->received_bytes_delta = flow->received_bytes - flow->received_bytes_reported;
	if (!flow->reported)
		event->flags |= CONNECTION_FIRST_RECORD;
}

/* Of flows, metrics have what was carried. */
static __noinline void leave_out_flow(const struct flow_key *key, const struct flow *flow)
{
	struct connection_sum_key sum_key = {
		.cgroup_id = flow->cgroup_id,
		.start_time = flow->owner.start_time,
		.pid = flow->owner.pid,
		.type = CONNECTION_CLOSE,
		.protocol = IPPROTO_UDP,
		.role = flow->role,
		.is_ipv4 = is_mapped_ipv4(key->peer_address),
	};
	struct connection_sums *sums = connection_sums_of(&sum_key);

	if (!sums)
		return;
	add_bytes(sums, flow->sent_bytes - flow->sent_bytes_reported,
		  flow->received_bytes - flow->received_bytes_reported);
	count_event(sums);
}

static __always_inline bool send_flow(__u16 type, const struct flow_key *key,
				      const struct flow *flow)
{
	struct connection_stats *event;

	/* reports are as many as there are flows: who makes too many is not known by them */
	if (type == CONNECTION_CLOSE && is_throttled(flow->cgroup_id, type, 0)) {
		leave_out_flow(key, flow);
		return false;
	}
	event = reserve_event(&traffic_ring, type, sizeof(*event));
	if (!event)
		return false;
	fill_flow_event(event, key, flow);
	if (type == CONNECTION_CLOSE)
		event->header.time = flow->last; /* a flow ended with its last packet */
	submit_event(&traffic_ring, event);
	return true;
}

/* The table is full: the packet is reported by itself rather than not at all. */
static __always_inline void send_single_packet(const struct flow_key *key, struct flow *flow,
					       struct socket_state *state)
{
	flow->owner = state->owner;
	send_flow(CONNECTION_CLOSE, key, flow);
}

static __always_inline struct flow *make_flow(const struct flow_key *key,
					      struct socket_state *state, enum direction direction,
					      struct flow *fresh)
{
	struct flow *flow;

	begin_flow(fresh, state, direction);
	bpf_map_update_elem(&flows, key, fresh, BPF_NOEXIST);
	flow = bpf_map_lookup_elem(&flows, key);
	return flow;
}

static __always_inline void count_flow(const struct flow_key *key, struct socket_state *state,
				       __u64 bytes, enum direction direction)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	if (!flow) {
		struct flow fresh = {};

		flow = make_flow(key, state, direction, &fresh);
		if (!flow) {
			count_packet(&fresh, bytes, direction);
			send_single_packet(key, &fresh, state);
			return;
		}
	}
	flow->owner = state->owner;
	flow->last = bpf_ktime_get_boot_ns();
	count_packet(flow, bytes, direction);
	state->last_flow = *key;
}

/* --- packets --------------------------------------------------------------------------------- */

static __always_inline void see_dns_datagram(struct __sk_buff *skb, struct socket_state *state,
					     const struct flow_key *key, __u32 offset,
					     enum direction direction)
{
	struct dns_message message = {};

	message.header.type = DNS_MESSAGE;
	__builtin_memcpy(message.ends.local_address, key->local_address, 16);
	__builtin_memcpy(message.ends.peer_address, key->peer_address, 16);
	message.ends.local_port = key->local_port;
	message.ends.peer_port = key->peer_port;
	message.ends.protocol = IPPROTO_UDP;
	message.socket = key->socket;
	message.size = skb->len - offset;
	if (direction == EGRESS) {
		message.flags = DNS_SENT;
		find_cause(&message.cause);
	}
	send_dns_message(skb, state, &message, offset);
}

/* Not inlined, as what follows it, so that they do not share a stack of 512 bytes. */
static __noinline void see_udp(struct __sk_buff *skb, struct bpf_sock *sk, enum direction direction)
{
	struct socket_state *state = create_socket_state(sk);
	struct packet packet = {};
	struct flow_key key;
	__u32 payload;

	if (!state || !parse_packet(skb, &packet) || packet.protocol != IPPROTO_UDP)
		return;
	if (!make_flow_key(&key, skb, &packet, direction))
		return;
	if (direction == EGRESS)
		own_by_current(state);
	if (owned_by_self(state))
		return;
	payload = packet.transport_offset + sizeof(struct udp_header);
	if (network_enabled)
		count_flow(&key, state, skb->len - payload, direction);
	if (dns_enabled && is_dns_port(key.peer_port))
		see_dns_datagram(skb, state, &key, payload, direction);
}

static __noinline void see_dns_segment(struct __sk_buff *skb, struct socket_state *state,
				       enum direction direction)
{
	struct dns_message message = {};
	struct segment segment;

	if (owned_by_self(state) || !read_segment(skb, &segment) || !segment.size)
		return;
	message.header.type = DNS_SEGMENT;
	fill_tcp_ends(&message.ends, sock_of(state), state);
	message.socket = bpf_get_socket_cookie(skb);
	message.sequence = segment.sequence;
	message.size = segment.size;
	if (direction == EGRESS) {
		message.flags = DNS_SENT;
		find_cause_if_held(sock_of(state), &message.cause);
	}
	send_dns_message(skb, state, &message, segment.offset);
}

/* Who closes the socket of another one sends its end, and has not written. pid: the current process. */
static __always_inline void own_by_writer(struct socket_state *state, __u32 pid)
{
	if (pid != state->owner.pid &&
	    !(BPF_CORE_READ(sock_of(state), sk_shutdown) & SEND_SHUTDOWN))
		own_if_held(state, pid);
}

static __always_inline void see_tcp(struct __sk_buff *skb, struct bpf_sock *sk,
				    enum direction direction)
{
	struct socket_state *state;

	if (sk->state == TCP_LISTEN) {
		if (streams_enabled() && direction == INGRESS)
			see_early_segment(skb);
		return;
	}
	state = socket_state(sk);
	if (!state && (http_enabled || dns_enabled))
		state = create_socket_state(sk); /* its beginning was not seen */
	if (!state)
		return;
	if (direction == EGRESS)
		own_by_writer(state, current_pid());
	if (dns_enabled && is_dns_port(bpf_ntohs(sk->dst_port)))
		see_dns_segment(skb, state, direction);
	else if (streams_enabled())
		see_segment(skb, state, direction);
}

static __always_inline int see_packet(struct __sk_buff *skb, enum direction direction)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || !is_watching())
		return ALLOW;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return ALLOW; /* a handshake or a TIME_WAIT, which have no socket of their own */
	if (sk->protocol == IPPROTO_TCP)
		see_tcp(skb, sk, direction);
	else if (sk->protocol == IPPROTO_UDP)
		see_udp(skb, sk, direction);
	return ALLOW;
}

SEC("cgroup_skb/egress")
int packet_sent(struct __sk_buff *skb)
{
	return see_packet(skb, EGRESS);
}

SEC("cgroup_skb/ingress")
int packet_received(struct __sk_buff *skb)
{
	return see_packet(skb, INGRESS);
}

/* --- UDP sockets ----------------------------------------------------------------------------- */

static __always_inline bool is_udp(struct bpf_sock *sk)
{
	return sk->protocol == IPPROTO_UDP;
}

SEC("cgroup/sock_create")
int socket_created(struct bpf_sock *sk)
{
	struct socket_state *state;

	if (!is_watching() || !is_udp(sk))
		return ALLOW;
	state = create_socket_state(sk);
	if (!state)
		return ALLOW;
	state->seen_creation = true;
	own_by_current(state);
	return ALLOW;
}

static __always_inline void end_flow(struct flow_key *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);
	struct flow last;

	if (!flow)
		return;
	last = *flow;
	if (!bpf_map_delete_elem(&flows, key))
		send_flow(CONNECTION_CLOSE, key, &last);
}

/* The last flow ends with the socket; others of the same socket when they have been silent. */
SEC("cgroup/sock_release")
int socket_released(struct bpf_sock *sk)
{
	struct socket_state *state;
	struct flow_key key;

	if (!is_udp(sk))
		return ALLOW;
	state = socket_state(sk);
	if (!state)
		return ALLOW;
	key = state->last_flow;
	end_flow(&key);
	forget_socket(sk);
	return ALLOW;
}

/* --- at an interval, and at the start -------------------------------------------------------- */

static __always_inline bool is_due(__u64 since)
{
	return bpf_ktime_get_boot_ns() - since >= report_interval;
}

static __always_inline bool is_open(struct sock *sk)
{
	unsigned char state = BPF_CORE_READ(sk, __sk_common.skc_state);

	return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT || state == TCP_FIN_WAIT1 ||
	       state == TCP_FIN_WAIT2;
}

/*
 * What lasts at the end is told in rounds, as there is room: nothing is to be counted as lost that the next round tells.
 * since: when it was told last, or its beginning. is_new: there is something to tell; it matters only at the end.
 */
static __always_inline bool must_tell(__u64 since, bool is_new)
{
	if (!has_ended())
		return is_due(since);
	return since < watch.state && (is_new || is_due(since)) &&
	       bpf_ringbuf_query(&traffic_ring, BPF_RB_AVAIL_DATA) <
		       bpf_ringbuf_query(&traffic_ring, BPF_RB_RING_SIZE) / 2;
}

static __always_inline bool has_news(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = (void *)sk;

	return !state->reported || sent_bytes_of(tcp) != state->sent_bytes_reported ||
	       received_bytes_of(sk) != state->received_bytes_reported ||
	       BPF_CORE_READ(tcp, total_retrans) != state->retransmits_reported;
}

static __always_inline void report_connection(struct sock *sk, struct socket_state *state)
{
	struct connection_stats *event;

	if (!network_enabled || !is_tcp(sk) || !is_open(sk) || owned_by_self(state))
		return;
	if (!must_tell(state->reported ? state->reported : state->connected,
		       has_ended() && has_news(sk, state)))
		return;
	event = reserve_event(&traffic_ring, CONNECTION_REPORT, sizeof(*event));
	if (!event)
		return; /* what it would have said is in the next one */
	fill_socket_header(&event->header, sk, state);
	fill_tcp_ends(&event->ends, sk, state);
	fill_tcp_stats(event, sk, state);
	state->reported = event->header.time;
	state->sent_bytes_reported = event->sent_bytes;
	state->received_bytes_reported = event->received_bytes;
	state->retransmits_reported = event->retransmits;
	submit_event(&traffic_ring, event);
}

/* What is done at each round for a socket that is open. */
static __always_inline void visit_connection(struct sock *sk, struct socket_state *state)
{
	if (http_enabled)
		keep_exchanges(state, report_interval);
	if (tls_enabled)
		keep_handshake(&state->http);
	report_connection(sk, state);
}

SEC("iter/bpf_sk_storage_map")
int report_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct socket_state *state;

	if (!sk)
		return 0; /* the end */
	state = socket_state(sk);
	if (state)
		visit_connection(sk, state);
	return 0;
}

/* The fall-back's sockets have only addresses; an entry goes when its socket closes. */
SEC("iter/bpf_map_elem")
int report_sockets_by_address(struct bpf_iter__bpf_map_elem *ctx)
{
	struct socket_state *state;
	__u64 *key = ctx->key;
	__u64 address;

	if (!key)
		return 0; /* the end */
	address = *key;
	state = bpf_map_lookup_elem(&sockets_by_address, &address);
	if (state && socket_in_scope((void *)address))
		visit_connection((void *)address, state);
	return 0;
}

static __always_inline bool has_flow_news(struct flow *flow)
{
	return !flow->reported || flow->sent_bytes != flow->sent_bytes_reported ||
	       flow->received_bytes != flow->received_bytes_reported;
}

static __always_inline void report_flow(struct flow_key *key, struct flow *flow)
{
	struct flow now = *flow;

	if (!must_tell(now.reported ? now.reported : now.first, has_flow_news(&now)))
		return;
	if (!send_flow(CONNECTION_REPORT, key, &now))
		return;
	flow->reported = bpf_ktime_get_boot_ns();
	flow->sent_bytes_reported = now.sent_bytes;
	flow->received_bytes_reported = now.received_bytes;
}

static __always_inline void visit_flow(struct flow_key *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	if (!flow)
		return;
	if (is_due(flow->last))
		end_flow(key);
	else
		report_flow(key, flow);
}

SEC("iter/bpf_map_elem")
int report_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	struct flow_key *found = ctx->key;
	struct flow_key key;

	if (!found)
		return 0; /* the end */
	key = *found;
	visit_flow(&key);
	return 0;
}

SEC("iter/bpf_map_elem")
int reap_exchanges(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *found = ctx->key;
	__u32 number;

	if (!found)
		return 0; /* the end */
	number = *found;
	reap_exchange(number, 2 * report_interval); /* sockets are visited six times in one */
	return 0;
}

SEC("iter/bpf_map_elem")
int reap_handshakes(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *found = ctx->key;
	__u32 number;

	if (!found)
		return 0; /* the end */
	number = *found;
	reap_handshake(number, 2 * report_interval); /* as exchanges */
	return 0;
}

static __always_inline void follow_from_now(struct sock *sk, struct socket_state *state)
{
	state->sent_bytes_reported = sent_bytes_of((void *)sk);
	state->received_bytes_reported = received_bytes_of(sk);
	state->retransmits_reported = BPF_CORE_READ((struct tcp_sock *)sk, total_retrans);
	state->followed = true;
}

static __always_inline struct sock *socket_of_file(struct file *file)
{
	struct socket *socket;

	if (has_socket_storage) {
		socket = bpf_sock_from_file(file);
		return socket ? socket->sk : NULL;
	}
	/* bpf_sock_from_file came with socket storage for tracing programs */
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* Run once: who has which socket open, for connections that are older than we are. */
SEC("iter/task_file")
int find_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket_state *state;
	struct sock *sk;

	if (!task || !file)
		return 0;
	sk = socket_of_file(file);
	if (!sk || !socket_in_scope(sk))
		return 0;
	if (is_tcp(sk) ? !is_open(sk) : BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP)
		return 0;
	state = create_socket_state(sk);
	if (!state)
		return 0;
	if (is_tcp(sk) && !state->followed)
		follow_from_now(sk, state);
	if (state->owner.pid)
		return 0; /* it has sent or received something meanwhile */
	state->owner.pid = task->tgid;
	state->owner.start_time = start_time_of(task);
	return 0;
}

/* --- at an interval, on kernels that refuse iterators over maps ------------------------------ */

static long visit_flow_element(void *map, struct flow_key *found, struct flow *flow, void *unused)
{
	struct flow_key key = *found;

	visit_flow(&key);
	return 0;
}

static long visit_slot_element(void *map, __u32 *found, struct http_slot *slot, void *unused)
{
	reap_exchange(*found, 2 * report_interval);
	return 0;
}

static long visit_handshake_element(void *map, __u32 *found, struct tls_slot *slot, void *unused)
{
	reap_handshake(*found, 2 * report_interval);
	return 0;
}

/*
 * Hardened kernels have been seen to refuse them. Then all open files are visited in search of
 * sockets: slower, and a socket that several processes have open is met several times.
 */
SEC("iter/task_file")
int report_by_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket_state *state;
	struct sock *sk;

	if (!task || !file) { /* the end */
		bpf_for_each_map_elem(&flows, visit_flow_element, NULL, 0);
		if (http_enabled)
			bpf_for_each_map_elem(&http_slots, visit_slot_element, NULL, 0);
		if (tls_enabled)
			bpf_for_each_map_elem(&tls_slots, visit_handshake_element, NULL, 0);
		return 0;
	}
	sk = socket_of_file(file);
	if (!sk || !socket_in_scope(sk))
		return 0;
	state = socket_state(sk);
	if (state)
		visit_connection(sk, state);
	return 0;
}
