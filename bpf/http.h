/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * HTTP/1: requests and responses are found in the two byte streams of a TCP socket. Of a message
 * only what frames it is understood here (RFC 9112, section 6): where its head ends, and how long
 * its body is. What the heads say is for user space to read.
 */
#ifndef TAPIO_HTTP_H
#define TAPIO_HTTP_H

#include "atomic.h"
#include "event.h"
#include "http_sums.h"
#include "limit.h"
#include "kernel.h"
#include "packet.h"
#include "ring.h"
#include "scope.h"
#include "serving.h"
#include "socket.h"
#include "text.h"
#include "watch.h"

#define HTTP_WINDOW 256 /* bytes of a head that are looked at together, at the most */
#define HTTP_CARRY 64	/* bytes before them that stay at hand where a head is not kept */
#define MAX_REQUEST_HEAD 1536
#define MAX_RESPONSE_HEAD 512
#define MAX_HEADS (MAX_REQUEST_HEAD + MAX_RESPONSE_HEAD)
#define SCRATCH_SIZE (HTTP_CARRY + HTTP_WINDOW)
#define HEADS_SIZE (MAX_HEADS + 2 * SCRATCH_SIZE)
#define LINE_LOST 0xffffffff	 /* its beginning is no longer at hand */
#define MAX_FIRST_LINE 65536	 /* what has no line end until there is not HTTP */
#define MAX_SCANS 32		 /* words and lines of a window that are read together */
#define CONTENT_LENGTH_DIGITS 32 /* and spaces */
#define MAX_STEPS 2048		 /* parts of messages in a packet: a chunk is one */
#define STEPS_TOGETHER 256	 /* the verifier follows each of these but once */
#define STEP_ROUNDS (MAX_STEPS / STEPS_TOGETHER)
#define MAX_LOOKS 16   /* for a request, in the middle of a stream that may not have any */
#define FIRST_BYTES 32 /* of a request: among them its method ends */
#define CHUNK_LINE 32  /* bytes of a chunk's first line that are looked at together */
#define LINE_END 2     /* CR LF, behind a chunk's data */
#define MAX_BLANKS 8   /* behind a header's value */
/*
 * How far ahead a segment is taken for one, bytes: far more than is put aside. What is read is not checked by TCP yet, and may be
 * of an older connection, or forged.
 */
#define MAX_AHEAD (16 << 20)
#define LOCK_TRIES 512	     /* tens of microseconds: more than a packet takes to be read */
#define LOCK_TRIES_AT_END 32 /* with each, the verifier follows what comes then anew */

enum http_mode {
	MODE_NEW,    /* no byte was seen yet */
	MODE_SEARCH, /* in the middle of a stream: the next request is looked for */
	MODE_START,  /* the next byte is a message's first */
	MODE_HEAD,
	MODE_BODY,
	MODE_CHUNK_SIZE,
	MODE_CHUNK_DATA,
	MODE_TRAILER,
	MODE_UNTIL_CLOSE, /* a response's body that ends with the connection */
	MODE_OPAQUE,	  /* not HTTP/1, or not any more */
	/* a TLS handshake, see tls.h: */
	MODE_TLS_RECORD, /* the header of one */
	MODE_TLS_HELLO,
	MODE_TLS_ALERT,
	MODE_TLS_PASS, /* the rest of a record, of which only the size matters */
};

enum http_part { REQUEST, RESPONSE };

enum http_step_result { STEP_DONE, STEP_MORE };

enum http_method { METHOD_OTHER, METHOD_HEAD, METHOD_CONNECT };

/*
 * The reading of a head or trailer. Its bytes are read where they are kept, among the slot's heads;
 * when there is no room for more, in a scratch area behind them.
 */
struct http_message {
	__u64 length;	  /* Content-Length, or the size of the chunk */
	__u32 at;	  /* where the stream's next bytes go */
	__u32 limit;	  /* how far they may */
	__u32 end;	  /* of the bytes that are there */
	__u32 line;	  /* where the line begins */
	__u32 length_at;  /* where the value of a Content-Length begins; 0: nowhere in the window */
	__u32 coding_end; /* where a Transfer-Encoding ends; 0: nowhere in the window */
	__u32 size;	  /* bytes that were read */
	__u8 first_line;  /* was read */
	__u8 ended;	  /* the empty line was read */
	__u8 invalid;
	__u8 has_length;
	__u8 chunked;
	__u8 extension; /* of a chunk: the digits of its size are over */
	__u8 unkept;	/* the bytes are in the scratch area */
	__u8 reserved[5];
};

/* A request and its response, until they are sent. What is read at each packet stands together, and first. */
struct http_slot {
	__u64 socket;	   /* whose it is, as in struct http_stream; 0: not in use */
	__u64 server_born; /* as born in struct serving_process, of the one that serves it */
	__u64 live;	   /* when it was last known to belong to an open socket, ns */
	__u32 number; /* among the connection's requests; with socket, no other exchange has it */
	__u32 served_by;   /* pid of the process that serves it; 0: none has read it */
	__u8 method;	   /* enum http_method */
	__u8 heads_frozen; /* the response's head begins: the request's can become no longer */
	__u8 flags[2];	   /* by enum http_part */
	__u8 has_line;	   /* the request's first line was read: it is one */
	__u8 early;	   /* the connection has no socket of its own yet */
	__u8 expected;	   /* where the response begins is known */
	__u8 parked;	   /* its connection's own, and no exchange's now */
	__u8 pipelined;	   /* another request waited for its response when this one began */
	__u8 reserved[7];
	__u64 zero; /* always 0, which the verifier does not know: see unknown() */
	struct http_message messages[2]; /* by enum http_part */
	struct http_exchange event;
	/* right behind the event, as they are sent; two scratch areas; room for the verifier */
	__u8 heads[HEADS_SIZE + HTTP_WINDOW];
	struct http_sum_key sum_key; /* at its end; there is no stack left for it */
};

/* Set by the loader. */
const volatile bool http_enabled = false;
const volatile bool http_response_heads = false;
const volatile bool tls_enabled = false;

static __always_inline bool streams_enabled(void)
{
	return http_enabled || tls_enabled;
}

/* Set by the loader: how many exchanges are followed at a time, but for those in connections' own slots. */
const volatile __u32 max_in_flight = 0;

/* Sized by the loader. From number max_in_flight on, those that connections may have for their own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_slot);
} http_slots SEC(".maps");

/* The numbers of the slots that are not in use. Filled by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, __u32);
} http_free SEC(".maps");

/* Likewise, of those that connections may have for their own. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, __u32);
} http_own SEC(".maps");

#define MAX_EARLY_SEGMENT 2048
#define MAX_EARLY_PIECES 32   /* of a segment: 64 KiB */
#define MAX_KNOWN 32	      /* of them one behind the other, that come again as one */
#define MAX_EARLY_SEGMENTS 64 /* of a stream at a time, that are read one after the other */
#define EARLY_ROUNDS 3 /* of steps, for each: enough for chunks of a byte, with two steps each */

struct early_key {
	__u64 socket;
	__u32 sequence;
	__u32 direction;
};

static __always_inline struct early_key early_key(struct http_stream *stream, __u32 sequence)
{
	return (struct early_key){stream->socket, sequence, stream->direction};
}

struct early_segment {
	__u32 size;
	__u8 bytes[MAX_EARLY_SEGMENT];
};

/* Segments that came before their turn, where their bytes will be needed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct early_key);
	__type(value, struct early_segment);
} early_segments SEC(".maps");

/* What a new one is made of. Nothing writes to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct early_segment);
} empty_segment SEC(".maps");

/*
 * A connection of which a segment with payload is also what completes its handshake, as where a server
 * defers its accept, or what the client sent before was lost: the packet still belongs to the listening
 * socket. What is read of it is taken over when the connection's own socket is established, a moment
 * later on the same CPU. Only then it is known whether the stream begins with it; if not, it waits for
 * its turn.
 */
struct early_connection {
	struct socket_state state;
	__u32 sequence; /* of its first byte */
	__u16 port;	/* of the client; 0: nothing was read */
	__u16 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct early_connection);
} http_early SEC(".maps");

/* --- slots ----------------------------------------------------------------------------------- */

static __always_inline struct http_slot *http_slot(__u32 number)
{
	return bpf_map_lookup_elem(&http_slots, &number);
}

/* cause.h */
int http_note_sender(__u32 number);
int http_note_answer(__u32 number);

/* tls.h */
int tls_begin(struct __sk_buff *skb, __u32 direction);
int tls_step(struct __sk_buff *skb, __u32 direction);
static void send_handshake(struct socket_state *state, __u64 now, __u16 flags, __s32 error);
static void drop_handshake(struct http_connection *http, bool lost);
static void take_over_handshake(struct http_connection *http, __u64 socket);

static __always_inline bool is_tls_mode(__u8 mode)
{
	return mode >= MODE_TLS_RECORD;
}

static __always_inline bool is_tls(struct http_connection *http)
{
	return is_tls_mode(http->streams[INGRESS].mode);
}

static __always_inline __u64 slot_name(struct http_slot *slot)
{
	return request_name(slot->event.request_sequence, slot->event.request_acknowledged);
}

static __always_inline void end_service(struct http_slot *slot, __u64 now)
{
	if (slot->served_by)
		end_serving(slot->served_by, slot->server_born, slot_name(slot),
			    slot->flags[RESPONSE] & HTTP_RESPONSE_COMPLETE, now);
}

static __always_inline void give_back(struct http_slot *slot, __u32 number)
{
	slot->socket = 0;
	if (number < max_in_flight)
		bpf_map_push_elem(&http_free, &number, BPF_ANY);
	else
		bpf_map_push_elem(&http_own, &number, BPF_ANY);
}

/* Its exchange is over. A connection's own slot stays so. */
static __always_inline void free_slot(struct http_slot *slot, __u32 number, __u64 now)
{
	end_service(slot, now);
	if (number < max_in_flight)
		give_back(slot, number);
	else
		slot->parked = true;
}

static __always_inline __u32 slot_of(struct http_connection *http, __u32 exchange)
{
	return http->pending[exchange % MAX_PIPELINED];
}

/* NULL: it was taken away, and may be another one's by now. */
static __always_inline struct http_slot *slot_that_is(__u32 number, __u64 socket, __u32 exchange)
{
	struct http_slot *slot = http_slot(number);

	if (!slot || slot->socket != socket || slot->number != exchange || slot->parked)
		return NULL;
	return slot;
}

static __always_inline struct http_slot *exchange_slot(struct http_connection *http, __u32 exchange)
{
	return slot_that_is(slot_of(http, exchange), http->streams[INGRESS].socket, exchange);
}

/* --- a connection's own slot ----------------------------------------------------------------- */

/*
 * All CPUs take slots from one stack and put them back there, one CPU at a time. A connection with one
 * exchange after the other has a slot for its own after some, and does without.
 */
#define EXCHANGES_BEFORE_OWN 16

/* NULL: it has none, or it was taken away, and may be another one's by now. */
static __always_inline struct http_slot *own_slot(struct http_connection *http)
{
	struct http_slot *slot = http->has_own ? http_slot(http->own) : NULL;

	return slot && slot->socket == http->streams[INGRESS].socket ? slot : NULL;
}

static __always_inline bool may_have_own(struct http_connection *http)
{
	return http->begun && http->begun % EXCHANGES_BEFORE_OWN == 0 && !http->early;
}

static __always_inline bool take_slot(struct http_connection *http, __u32 *number)
{
	struct http_slot *own = own_slot(http);

	if (own && own->parked) {
		*number = http->own;
		return true;
	}
	if (!own && may_have_own(http) && !bpf_map_pop_elem(&http_own, number)) {
		http->own = *number;
		http->has_own = true;
		return true;
	}
	return !bpf_map_pop_elem(&http_free, number);
}

/* The connection is over, or idle. */
static __always_inline void give_back_own(struct http_connection *http)
{
	struct http_slot *own = own_slot(http);

	if (!own || !own->parked)
		return;
	give_back(own, http->own);
	http->has_own = false;
}

static __always_inline __u32 scratch_of(enum http_part part)
{
	return part == REQUEST ? MAX_HEADS : MAX_HEADS + SCRATCH_SIZE;
}

static __always_inline void reset_message(struct http_message *message, __u32 at, __u32 limit)
{
	__builtin_memset(message, 0, sizeof(*message));
	message->at = message->line = at;
	message->limit = limit;
}

/* What is read now is not part of a head, and not kept. */
static __always_inline void reset_unkept(struct http_message *message, enum http_part part)
{
	reset_message(message, scratch_of(part), scratch_of(part) + SCRATCH_SIZE);
	message->unkept = true;
}

/* But for what is filled in when it is sent; the response's message is reset when it begins. */
static __always_inline void reset_slot(struct http_slot *slot, __u64 now)
{
	const __u32 filled_later = __builtin_offsetof(struct http_exchange, request_start);

	__builtin_memset((void *)&slot->event + filled_later, 0,
			 sizeof(slot->event) - filled_later);
	reset_message(&slot->messages[REQUEST], 0, MAX_REQUEST_HEAD);
	slot->live = now;
	slot->served_by = 0;
	slot->method = METHOD_OTHER;
	slot->heads_frozen = slot->has_line = slot->early = slot->expected = slot->parked = false;
	slot->flags[REQUEST] = slot->flags[RESPONSE] = 0;
}

static __always_inline void forget_response(struct http_slot *slot)
{
	slot->event.status = 0;
	slot->event.response_start = slot->event.response_end = 0;
	slot->event.response_head_size = 0;
	slot->flags[RESPONSE] = 0;
}

/* --- sending --------------------------------------------------------------------------------- */

static __always_inline void fill_exchange(struct http_exchange *event, struct socket_state *state,
					  __u64 now, __u16 flags)
{
	remember_ends(state);
	event->header.time = now;
	event->header.type = HTTP_EXCHANGE;
	event->header.pid = state->owner.pid;
	event->header.start_time = state->owner.start_time;
	event->header.cgroup_id = state->cgroup_id;
	event->ends = state->ends;
	event->ends.role = state->http.role;
	event->flags = flags;
}

/* How it ended, as far as that has a name in the metrics: if the response is complete, nothing else has. */
static __always_inline void fill_sum_ending(struct http_sum_key *key,
					    const struct http_exchange *event)
{
	const __u16 ended = HTTP_RESPONSE_COMPLETE | HTTP_INVALID_RESPONSE;

	key->flags = event->flags & ended;
	if (key->flags)
		return;
	key->flags = event->flags & HTTP_ABORTED;
	if (event->ends.role == ROLE_CLIENT)
		key->flags |= event->flags & HTTP_CLOSED_HERE;
	key->error = event->error;
}

static __always_inline void fill_sum_key(struct http_slot *slot)
{
	struct http_sum_key *key = &slot->sum_key;
	struct http_exchange *event = &slot->event;

	__builtin_memset(key, 0, sizeof(*key));
	key->cgroup_id = event->header.cgroup_id;
	key->start_time = event->header.start_time;
	key->pid = event->header.pid;
	key->status = event->status;
	key->role = event->ends.role;
	key->method = method_number(in_order(*(__u64 *)slot->heads));
	fill_sum_ending(key, event);
	if (key->role != ROLE_CLIENT)
		return;
	__builtin_memcpy(key->peer_address, event->ends.peer_address, sizeof(key->peer_address));
	key->peer_port = event->ends.peer_port;
}

static __always_inline __u64 duration_of(const struct http_exchange *event)
{
	bool has_end = event->status && event->flags & HTTP_RESPONSE_COMPLETE;
	__u64 end = has_end ? event->response_end : event->header.time;

	return end > event->request_start ? end - event->request_start : 0;
}

/* The durations last, since by them the receiver knows how many they are. */
static __always_inline void add_exchange(struct http_sums *sums, const struct http_exchange *event,
					 __u64 zero)
{
	__u64 duration = duration_of(event);

	__sync_fetch_and_add(&sums->request_bytes, event->request_body_size);
	count_in_bucket(sums->request_sizes, HTTP_SUM_BUCKETS, body_bounds,
			event->request_body_size, zero);
	if (event->status) {
		__sync_fetch_and_add(&sums->response_bytes, event->response_body_size);
		count_in_bucket(sums->response_sizes, HTTP_SUM_BUCKETS, body_bounds,
				event->response_body_size, zero);
	}
	__sync_fetch_and_add(&sums->duration, duration);
	count_in_bucket(sums->durations, HTTP_SUM_BUCKETS, duration_bounds, duration, zero);
}

/* An exchange that is not told. A function by itself, so that the verifier follows it but once. */
__noinline int http_sum_up(__u32 number)
{
	struct http_slot *slot = http_slot(number);
	struct http_sums *sums;

	if (!slot)
		return 0;
	fill_sum_key(slot);
	sums = http_sums_of(&slot->sum_key);
	if (!sums) {
		count_throttled(HTTP_EXCHANGE);
		return 0;
	}
	count_seen(HTTP_EXCHANGE);
	add_exchange(sums, &slot->event, slot->zero);
	return 0;
}

static __always_inline void tell_exchange(struct socket_state *state, struct http_slot *slot,
					  __u32 number, __u32 size)
{
	if (is_throttled_at(state->http.now, state->cgroup_id, HTTP_EXCHANGE, 0)) {
		http_sum_up(number);
		return;
	}
	output_event(&traffic_ring, HTTP_EXCHANGE, &slot->event, sizeof(slot->event) + size);
}

/* Another response was to follow, so what came of this one is no answer; 101 is the last one. */
static __always_inline bool is_cut_interim(struct http_slot *slot)
{
	return slot->event.status / 100 == 1 && slot->event.status != 101;
}

static __noinline void send_exchange(struct socket_state *state, __u32 exchange, __u64 now,
				     __u16 flags, __s32 error)
{
	struct http_slot *slot = exchange_slot(&state->http, exchange);
	__u32 size;

	if (!slot)
		return;
	if (is_cut_interim(slot))
		forget_response(slot);
	slot->event.error = error;
	fill_exchange(&slot->event, state, now,
		      flags | slot->flags[REQUEST] | slot->flags[RESPONSE]);
	size = slot->event.request_head_size + slot->event.response_head_size;
	if (slot->has_line && size <= MAX_HEADS && !owned_by_self(state))
		tell_exchange(state, slot, slot_of(&state->http, exchange), size);
	free_slot(slot, slot_of(&state->http, exchange), state->http.now);
}

/* A function by itself, so that the verifier follows it but once. */
__noinline int http_drop(__u32 number, __u64 socket, __u32 exchange, __u32 lost)
{
	struct http_slot *slot = slot_that_is(number, socket, exchange);

	if (!slot)
		return 0;
	if (lost && slot->has_line)
		count_unreadable(HTTP_EXCHANGE);
	free_slot(slot, number, bpf_ktime_get_boot_ns());
	return 0;
}

static __always_inline void drop_exchange(struct http_connection *http, __u32 exchange, bool lost)
{
	http_drop(slot_of(http, exchange), http->streams[INGRESS].socket, exchange, lost);
}

static __always_inline bool waits_for_response(struct http_connection *http)
{
	return (__s32)(http->begun - http->answered) > 0;
}

/* Whether the newest request is still being read although its response is complete. */
static __always_inline bool answered_early(struct http_connection *http)
{
	return http->reading && !waits_for_response(http);
}

/* lost: bytes were not seen, so that what had begun cannot be followed any more. */
static __noinline void drop_exchanges(struct http_connection *http, bool lost)
{
	if (answered_early(http))
		drop_exchange(http, http->begun - 1, lost);
	for (int i = 0; i < MAX_PIPELINED && waits_for_response(http); i++) {
		drop_exchange(http, http->answered, lost);
		http->answered++;
	}
	http->reading = false;
}

/* The connection is over, or this side has let go of it. */
static __noinline void end_exchanges(struct socket_state *state, __u16 flags, __s32 error)
{
	struct http_connection *http = &state->http;
	__u64 now = bpf_ktime_get_boot_ns();

	http->now = now;
	if (answered_early(http))
		send_exchange(state, http->begun - 1, now, flags, error);
	for (int i = 0; i < MAX_PIPELINED && waits_for_response(http); i++) {
		send_exchange(state, http->answered, now, flags, error);
		http->answered++;
	}
	http->reading = false;
}

static __always_inline void become_opaque(struct http_connection *http)
{
	http->streams[INGRESS].mode = http->streams[EGRESS].mode = MODE_OPAQUE;
}

static __always_inline int forget_handshake(struct http_connection *http, bool lost)
{
	drop_handshake(http, lost);
	become_opaque(http);
	return STEP_DONE;
}

/* --- lines ----------------------------------------------------------------------------------- */

/* Bit 7 of each byte that is a line feed; the first byte is the lowest one. */
static __always_inline __u64 newlines_of(__u64 word)
{
	const __u64 low_bits = 0x7f7f7f7f7f7f7f7fULL;
	__u64 zeros = word ^ 0x0a0a0a0a0a0a0a0aULL;

	return ~(((zeros & low_bits) + low_bits) | zeros | low_bits);
}

/* The number of the first byte that is marked. */
static __always_inline __u32 first_marked(__u64 marks)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 first = marks & -marks;

	return (((first - 1) & ones) * ones >> 56) - 1;
}

#define LOWER_CASE 0x2020202020202020ULL

/* Eight bytes of the heads; 0 where there are none. */
static __always_inline __u64 word_at(struct http_slot *slot, __u64 at)
{
	/* of a member's bytes the compiler knows that they are not aligned, and would read one after the other */
	const __u8 *bytes = slot->heads;

	barrier_var(at); /* the pointer is made from what is checked here */
	if (at > HEADS_SIZE + HTTP_WINDOW - 8)
		return 0;
	bytes += at;
	barrier_var(bytes);
	return in_order(*(const __u64 *)bytes);
}

static __always_inline __u8 byte_at(struct http_slot *slot, __u64 at)
{
	if (at >= HEADS_SIZE + HTTP_WINDOW)
		return 0;
	return slot->heads[at];
}

static __always_inline bool is_digit(__u8 c)
{
	return c >= '0' && c <= '9';
}

static __always_inline bool is_space(__u8 c)
{
	return c == ' ' || c == '\t';
}

/* end: where the line feed, or the carriage return before it, is. */
static __always_inline bool is_request_line(struct http_slot *slot, __u64 end)
{
	return word_at(slot, end - 9) == TEXT8(' ', 'H', 'T', 'T', 'P', '/', '1', '.') &&
	       is_digit(byte_at(slot, end - 1));
}

static __always_inline void read_first_line(struct http_slot *slot, struct http_message *message,
					    __u32 end, enum http_part part)
{
	message->first_line = true;
	if (part == REQUEST && !is_request_line(slot, end))
		message->invalid = true;
}

/* "chunked" is the last of the codings, with nothing but white space behind it. */
static __always_inline bool ends_with_chunked(struct http_slot *slot, __u32 end)
{
	__u8 before;

	for (int i = 0; i < MAX_BLANKS && is_space(byte_at(slot, end - 1)); i++)
		end--;
	if ((word_at(slot, end - 7) | LOWER_CASE) << 8 !=
	    TEXT8(0, 'c', 'h', 'u', 'n', 'k', 'e', 'd'))
		return false;
	before = byte_at(slot, end - 8);
	return before == ':' || before == ',' || is_space(before);
}

/* Those two decide where a message ends; all others are for user space. */
static __always_inline bool is_content_length(struct http_slot *slot, __u64 line)
{
	return (word_at(slot, line) | LOWER_CASE) ==
		       TEXT8('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
	       (word_at(slot, line + 8) | LOWER_CASE) << 8 ==
		       TEXT8(0, 'l', 'e', 'n', 'g', 't', 'h', ':');
}

static __always_inline bool is_transfer_encoding(struct http_slot *slot, __u64 line)
{
	return (word_at(slot, line) | LOWER_CASE) ==
		       TEXT8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') &&
	       (word_at(slot, line + 8) | LOWER_CASE) ==
		       TEXT8('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
	       (byte_at(slot, line + 16) | 0x20) == 'g' && byte_at(slot, line + 17) == ':';
}

/* Of several such lines the last one says what the last coding is (RFC 9112, section 6.1). */
static __always_inline void read_coding(struct http_slot *slot, struct http_message *message)
{
	message->chunked = ends_with_chunked(slot, message->coding_end);
	message->coding_end = 0;
}

/*
 * The verifier follows a loop in which a position goes on for each value that it may have. Of one that was mixed with what
 * it does not know, it knows nothing, so that it need not.
 */
static __always_inline __u64 unknown(__u64 position, __u64 zero)
{
	barrier_var(zero);
	return position ^ zero;
}

/* Where what a line says ends: newline is where its line feed is. */
static __always_inline __u64 end_of_line(struct http_slot *slot, __u64 line, __u64 newline)
{
	return line != newline && byte_at(slot, newline - 1) == '\r' ? newline - 1 : newline;
}

static __always_inline void read_line(struct http_slot *slot, struct http_message *message,
				      __u64 line, __u64 newline, enum http_part part)
{
	if (newline - line <= 1 && end_of_line(slot, line, newline) == line)
		message->ended =
			message->first_line; /* empty lines before a message are let pass */
	else if (!message->first_line)
		read_first_line(slot, message, end_of_line(slot, line, newline), part);
	else if (is_content_length(slot, line))
		message->length_at = line + 15;
	else if (is_transfer_encoding(slot, line))
		message->coding_end = end_of_line(slot, line, newline);
}

/* The next word with a line feed in it; of those that have none, two are passed together. */
static __always_inline __u64 next_newlines(struct http_slot *slot, struct http_message *message,
					   __u64 *at)
{
	__u64 newlines = newlines_of(word_at(slot, *at));

	if (newlines || *at + 8 >= message->end)
		return newlines;
	*at = unknown(*at + 8, slot->zero);
	return newlines_of(word_at(slot, *at));
}

static __always_inline void read_content_length(struct http_slot *slot,
						struct http_message *message)
{
	__u32 at = message->length_at;
	__u64 length = 0;
	__u8 c;

	for (int i = 0; i < CONTENT_LENGTH_DIGITS; i++) {
		c = byte_at(slot, at + i);
		if (is_space(c))
			continue;
		if (!is_digit(c))
			break;
		length = length * 10 + c - '0';
	}
	message->length = length;
	message->has_length = true;
	message->length_at = 0;
}

/*
 * Reads the lines that have come. A function by itself, as are the others that are not static: the verifier checks it once,
 * and not for each way to it.
 */
__noinline int http_read_window(__u32 number, __u32 part)
{
	struct http_slot *slot = http_slot(number);
	__u64 at, line, newlines;
	struct http_message *message;

	if (!slot)
		return 0;
	message = &slot->messages[part & 1];
	at = message->at;
	line = message->line;
	for (int i = 0; i < MAX_SCANS && at < message->end && !message->ended; i++) {
		newlines = next_newlines(slot, message, &at);
		at += newlines ? first_marked(newlines) + 1 : 8;
		if (newlines && at <= message->end) {
			read_line(slot, message, line, unknown(at - 1, slot->zero), part);
			line = unknown(at, slot->zero);
		}
		at = unknown(at, slot->zero);
	}
	message->line = line;
	/* what is behind the last line end is the beginning of a line */
	message->at = at < message->end ? at : message->end;
	if (message->length_at)
		read_content_length(slot, message);
	if (message->coding_end)
		read_coding(slot, message);
	return 0;
}

/* --- a stream, step by step ------------------------------------------------------------------ */

static __always_inline struct early_segment *find_early(struct http_stream *stream, __u32 sequence)
{
	struct early_key key = early_key(stream, sequence);

	return bpf_map_lookup_elem(&early_segments, &key);
}

static __always_inline bool load_early(struct http_stream *stream, void *to, __s64 size,
				       const __s64 max)
{
	struct early_segment *early = find_early(stream, stream->early);
	__u64 from = stream->offset;

	barrier_var(size);
	barrier_var(from);
	if (!early || size <= 0 || size > max || from >= MAX_EARLY_SEGMENT)
		return false;
	return !bpf_probe_read_kernel(to, size, &early->bytes[from]);
}

/* The stream's next bytes, from the packet or from what was put aside. */
static __always_inline bool load_stream(struct __sk_buff *skb, struct http_stream *stream, void *to,
					__s64 size, const __s64 max)
{
	if (stream->reading_early)
		return load_early(stream, to, size, max);
	return load_bytes(skb, stream->offset, to, size, max);
}

static __always_inline void advance(struct http_stream *stream, __u32 bytes)
{
	stream->offset += bytes;
	stream->left -= bytes;
	stream->next += bytes;
}

/*
 * There is no room for more of the head. What follows goes to the scratch area, behind the last
 * bytes so far, so that a line that began there can still be read.
 */
static __noinline void stop_keeping(struct http_slot *slot, struct http_message *message,
				    enum http_part part)
{
	__u32 from = message->at > HTTP_CARRY ? message->at - HTTP_CARRY : 0;
	__u32 to = scratch_of(part);

	if (from > HEADS_SIZE - HTTP_CARRY)
		return;
	for (int i = 0; i < HTTP_CARRY; i += 8)
		*(__u64 *)&slot->heads[to + i] = *(__u64 *)&slot->heads[from + i];
	message->line = message->line >= from ? message->line - from + to : LINE_LOST;
	message->at = message->at - from + to;
	message->limit = to + SCRATCH_SIZE;
	if (!message->unkept)
		slot->flags[part] |=
			part == REQUEST ? HTTP_REQUEST_HEAD_CUT : HTTP_RESPONSE_HEAD_CUT;
	message->unkept = true;
}

static __always_inline bool load_window(struct __sk_buff *skb, struct http_stream *stream,
					struct http_slot *slot, struct http_message *message,
					enum http_part part)
{
	bool frozen = part == REQUEST && slot->heads_frozen && !message->unkept;
	__u32 size = stream->left;
	__u64 at;

	if (message->at >= message->limit || frozen)
		stop_keeping(slot, message, part);
	at = message->at;
	if (size > HTTP_WINDOW)
		size = HTTP_WINDOW;
	if (size > message->limit - at)
		size = message->limit - at;
	message->end = at + size;
	barrier_var(at);
	if (at >= HEADS_SIZE)
		return false;
	return load_stream(skb, stream, &slot->heads[at], size, HTTP_WINDOW);
}

/* What was read belongs to the head, as long as there is room. */
static __always_inline void keep_head(struct http_slot *slot, struct http_message *message,
				      enum http_part part)
{
	if (message->unkept)
		return;
	if (part == REQUEST)
		slot->event.request_head_size = message->at;
	else if (http_response_heads)
		slot->event.response_head_size = message->at - slot->event.request_head_size;
}

static __always_inline void touch(struct http_slot *slot, struct http_stream *stream,
				  enum http_part part)
{
	slot->live = stream->now;
	if (part == REQUEST)
		slot->event.request_end = stream->now;
	else
		slot->event.response_end = stream->now;
}

static __always_inline void request_complete(struct socket_state *state, struct http_stream *stream,
					     struct http_slot *slot)
{
	slot->flags[REQUEST] |= HTTP_REQUEST_COMPLETE;
	stream->mode = MODE_START;
	state->http.reading = false;
	if (slot->flags[RESPONSE] & HTTP_RESPONSE_COMPLETE)
		send_exchange(state, state->http.begun - 1, stream->now, 0, 0);
}

static __always_inline void response_complete(struct socket_state *state,
					      struct http_stream *stream, struct http_slot *slot,
					      __u16 flags)
{
	slot->flags[RESPONSE] |= HTTP_RESPONSE_COMPLETE | flags;
	stream->mode = MODE_START;
	state->http.answered++;
	if (slot->flags[REQUEST] & HTTP_REQUEST_COMPLETE)
		send_exchange(state, state->http.answered - 1, stream->now, 0, 0);
}

static __always_inline int message_complete(struct socket_state *state, struct http_stream *stream,
					    struct http_slot *slot, enum http_part part)
{
	if (part == REQUEST)
		request_complete(state, stream, slot);
	else
		response_complete(state, stream, slot, 0);
	return STEP_MORE;
}

static __always_inline int begin_body(struct socket_state *state, struct http_stream *stream,
				      struct http_slot *slot, enum http_part part)
{
	struct http_message *message = &slot->messages[part];

	if (message->chunked) {
		reset_unkept(message, part);
		stream->mode = MODE_CHUNK_SIZE;
		return STEP_MORE;
	}
	if (message->has_length && message->length) {
		stream->remaining = message->length;
		stream->mode = MODE_BODY;
		return STEP_MORE;
	}
	if (part == RESPONSE && !message->has_length) {
		stream->mode = MODE_UNTIL_CLOSE;
		return STEP_MORE;
	}
	return message_complete(state, stream, slot, part);
}

static __always_inline __u8 method_of(struct http_slot *slot)
{
	__u64 first = in_order(*(__u64 *)slot->heads);

	if ((__u32)first == ('H' | 'E' << 8 | 'A' << 16 | 'D' << 24) && slot->heads[4] == ' ')
		return METHOD_HEAD;
	if (first == TEXT8('C', 'O', 'N', 'N', 'E', 'C', 'T', ' '))
		return METHOD_CONNECT;
	return METHOD_OTHER;
}

static __always_inline bool is_tunnel(struct http_slot *slot)
{
	__u16 status = slot->event.status;

	return status == 101 || (slot->method == METHOD_CONNECT && status / 100 == 2);
}

static __always_inline bool has_no_body(struct http_slot *slot)
{
	__u16 status = slot->event.status;

	return slot->method == METHOD_HEAD || status == 204 || status == 304;
}

/* A response that another one follows for the same request. */
static __always_inline int forget_interim(struct http_stream *stream, struct http_slot *slot)
{
	forget_response(slot);
	stream->mode = MODE_START;
	return STEP_MORE;
}

static __always_inline int response_head_ended(struct socket_state *state,
					       struct http_stream *stream, struct http_slot *slot)
{
	if (is_tunnel(slot)) {
		response_complete(state, stream, slot, HTTP_TUNNEL);
		drop_exchanges(&state->http, true);
		become_opaque(&state->http);
		return STEP_DONE;
	}
	if (slot->event.status < 200)
		return forget_interim(stream, slot);
	if (has_no_body(slot))
		return message_complete(state, stream, slot, RESPONSE);
	return begin_body(state, stream, slot, RESPONSE);
}

/* A status line begins with "HTTP/1.1 200"; false: this one does not. */
static __always_inline bool read_status(struct http_slot *slot)
{
	struct http_message *message = &slot->messages[RESPONSE];
	__u32 line = message->line;
	__u8 a, b, c;

	if (slot->event.status || line == LINE_LOST || message->end < line + 12)
		return true; /* it is known, or not all there yet */
	if (word_at(slot, line) << 8 != TEXT8(0, 'H', 'T', 'T', 'P', '/', '1', '.'))
		return false;
	a = byte_at(slot, line + 9);
	b = byte_at(slot, line + 10);
	c = byte_at(slot, line + 11);
	if (a < '1' || a > '9' || !is_digit(b) || !is_digit(c))
		return false;
	slot->event.status = (a - '0') * 100 + (b - '0') * 10 + c - '0';
	return true;
}

/* What came is not a response to a request: an exchange is told, the rest is not ours. */
static __always_inline int invalid_response(struct socket_state *state, __u64 now)
{
	struct http_connection *http = &state->http;

	http->answered++;
	send_exchange(state, http->answered - 1, now, HTTP_INVALID_RESPONSE, 0);
	if (!waits_for_response(http))
		http->reading = false;
	drop_exchanges(http, true);
	become_opaque(http);
	return STEP_DONE;
}

/* How far a comes behind b in a stream's numbers, which wrap around; negative: before it. */
static __always_inline __s32 behind(__u32 a, __u32 b)
{
	return a - b;
}

static __always_inline bool is_ahead(__u32 a, __u32 b)
{
	return behind(a, b) > 0 && behind(a, b) <= MAX_AHEAD;
}

/* What was put aside of a stream was seen. */
static __always_inline void drop_aside(struct http_stream *stream)
{
	if (stream->early_segments && is_ahead(stream->early_end, stream->next))
		stream->next = stream->early_end;
	stream->early_segments = 0;
}

static __always_inline int search(struct http_connection *http)
{
	http->searching = true;
	drop_aside(&http->streams[INGRESS]);
	drop_aside(&http->streams[EGRESS]);
	http->streams[INGRESS].mode = http->streams[EGRESS].mode = MODE_SEARCH;
	return STEP_DONE;
}

/*
 * What was not seen may have had requests in it that wait for their responses. Of a client that does not
 * pipeline there are none once it sends the next one; else it is not known which response is whose.
 */
static __always_inline int stop_following(struct http_connection *http)
{
	drop_exchanges(http, true);
	become_opaque(http);
	return STEP_DONE;
}

/* Bytes were not seen: the next segment may be anything. */
static __always_inline int lose_framing(struct http_connection *http)
{
	if (is_tls(http))
		return forget_handshake(http, true);
	if (http->pipelined || (__s32)(http->begun - http->answered) > 1)
		return stop_following(http);
	drop_exchanges(http, true);
	http->last = 0;
	return search(http);
}

/*
 * A connection that never was HTTP costs this one look; in the middle of a stream it takes more, at
 * each turn one.
 */
static __always_inline int not_a_request(struct http_connection *http)
{
	if (http->searching && ++http->looks < MAX_LOOKS)
		return search(http);
	return stop_following(http);
}

/* It was no exchange, so none is lost. Those before it are answered all the same. */
static __always_inline int take_back_request(struct http_connection *http,
					     struct http_stream *stream)
{
	drop_exchange(http, http->begun - 1, false);
	http->reading = false;
	if (waits_for_response(http))
		http->begun--;
	if (!waits_for_response(http))
		return not_a_request(http);
	stream->mode = MODE_OPAQUE;
	return STEP_DONE;
}

/* A response may come, and end, before the rest of the head: what it has depends on the method. */
static __always_inline void recognise_request(struct http_connection *http, struct http_slot *slot)
{
	if (slot->pipelined)
		http->pipelined = true;
	http->searching = false;
	http->confirmed = true;
	http->looks = 0;
	slot->has_line = true;
	slot->method = method_of(slot);
}

static __always_inline int read_head(struct __sk_buff *skb, struct socket_state *state,
				     struct http_stream *stream, struct http_slot *slot,
				     __u32 number, enum http_part part)
{
	struct http_message *message = &slot->messages[part];
	__u32 before;

	if (!load_window(skb, stream, slot, message, part))
		return STEP_DONE;
	if (part == RESPONSE && !read_status(slot))
		return invalid_response(state, stream->now);
	before = message->at;
	http_read_window(number, part);
	if (part == RESPONSE && message->first_line && !slot->event.status)
		return invalid_response(state, stream->now); /* shorter than any status */
	if (message->invalid || (!message->first_line && message->size > MAX_FIRST_LINE))
		return part == REQUEST ? take_back_request(&state->http, stream)
				       : invalid_response(state, stream->now);
	if (part == REQUEST && message->first_line && !slot->has_line) {
		recognise_request(&state->http, slot);
		if (state->http.pipelined && state->http.found)
			return stop_following(&state->http);
	}
	keep_head(slot, message, part);
	message->size += message->at - before;
	advance(stream, message->at - before);
	touch(slot, stream, part);
	if (!message->ended)
		return STEP_MORE;
	if (part == REQUEST)
		return begin_body(state, stream, slot, REQUEST);
	return response_head_ended(state, stream, slot);
}

/* Empty lines before a request are let pass (RFC 9112, section 2.2). */
static __noinline bool skip_line_end(struct __sk_buff *skb, struct http_stream *stream)
{
	__u8 first = 0;

	if (!stream->left || !load_stream(skb, stream, &first, 1, 1) ||
	    (first != '\r' && first != '\n'))
		return false;
	advance(stream, 1);
	return true;
}

/* A method is a token, and a target follows it: no other protocol's first bytes are like that. */
static __noinline bool may_be_request(struct __sk_buff *skb, struct http_stream *stream)
{
	__u8 bytes[FIRST_BYTES] = {};
	__u32 size = stream->left;

	if (size > sizeof(bytes))
		size = sizeof(bytes);
	if (!load_stream(skb, stream, bytes, size, sizeof(bytes)))
		return false;
	for (int i = 0; i < FIRST_BYTES; i++) {
		if (bytes[i] == ' ')
			return i > 0;
		if (!bytes[i])
			return i > 0 && i == size; /* it goes on in the next packet */
		if (bytes[i] < '!' || bytes[i] > '~')
			return false;
	}
	return false;
}

/* There is no room for another exchange: it is not followed, and counted, once. */
static __always_inline int too_many(struct http_connection *http, struct http_stream *stream)
{
	if (!http->searching || http->confirmed)
		count_table_full(HTTP_EXCHANGE);
	if (waits_for_response(http))
		http->pipelined = true;
	lose_framing(http);
	http->last = stream->direction + 1; /* what follows is of the same request */
	return STEP_DONE;
}

/* Only the first bytes of a connection can be known to be that. */
static __always_inline bool is_untouched(struct http_connection *http)
{
	return !http->searching && !http->confirmed && !http->begun;
}

static __always_inline int begin_request(struct __sk_buff *skb, struct http_connection *http,
					 struct http_stream *stream)
{
	struct http_slot *slot;
	__u32 number;

	if (tls_enabled && is_untouched(http) && tls_begin(skb, stream->direction))
		return is_tls(http) ? STEP_MORE : STEP_DONE;
	if (!http_enabled)
		return not_a_request(http);
	if (skip_line_end(skb, stream))
		return STEP_MORE;
	if ((http->searching || !http->confirmed) && !may_be_request(skb, stream))
		return not_a_request(http);
	if (http->reading || http->begun - http->answered >= MAX_PIPELINED ||
	    !take_slot(http, &number))
		return too_many(http, stream);
	slot = http_slot(number);
	if (!slot)
		return STEP_DONE;
	reset_slot(slot, stream->now);
	slot->socket = stream->socket;
	slot->number = http->begun;
	slot->early = http->early;
	slot->pipelined = waits_for_response(http);
	slot->event.request_start = stream->now;
	slot->event.request_sequence = stream->next;
	slot->event.request_acknowledged = stream->acknowledged;
	if (causes_enabled && stream->direction == EGRESS)
		http_note_sender(number);
	http->pending[http->begun % MAX_PIPELINED] = number;
	http->begun++;
	http->reading = true;
	stream->mode = MODE_HEAD;
	return STEP_MORE;
}

/* The response's head is kept behind the request's. */
static __always_inline void reset_response(struct http_slot *slot)
{
	__u32 at = slot->event.request_head_size;

	reset_message(&slot->messages[RESPONSE], at, at + MAX_RESPONSE_HEAD);
}

/*
 * The response, also an interim one, begins where a request that is sent on its own acknowledges. One
 * that is pipelined may be sent again with another number: both ends go by the response then, which is
 * the same for both.
 */
static __always_inline void expect_response(struct http_slot *slot, struct http_stream *stream)
{
	if (!slot->expected)
		slot->event.request_acknowledged = stream->next;
	slot->expected = true;
}

static __always_inline int begin_response(struct http_connection *http, struct http_stream *stream)
{
	struct http_slot *slot;

	if (!waits_for_response(http)) /* a response to nothing that we saw */
		return http->confirmed ? lose_framing(http) : not_a_request(http);
	slot = exchange_slot(http, http->answered);
	if (!slot)
		return lose_framing(http);
	slot->heads_frozen = true;
	expect_response(slot, stream);
	if (slot->event.cause.flags & CAUSE_DEDICATED && stream->direction == EGRESS)
		http_note_answer(slot_of(http, http->answered));
	reset_response(slot);
	slot->event.response_start = stream->now;
	stream->mode = MODE_HEAD;
	return STEP_MORE;
}

static __always_inline void count_body(struct http_slot *slot, __u64 bytes, enum http_part part)
{
	if (part == REQUEST)
		slot->event.request_body_size += bytes;
	else
		slot->event.response_body_size += bytes;
}

static __always_inline int read_body(struct socket_state *state, struct http_stream *stream,
				     struct http_slot *slot, enum http_part part)
{
	__u32 bytes = stream->left;

	if (bytes > stream->remaining)
		bytes = stream->remaining;
	advance(stream, bytes);
	touch(slot, stream, part);
	count_body(slot, bytes, part);
	stream->remaining -= bytes;
	if (stream->remaining)
		return STEP_DONE;
	return message_complete(state, stream, slot, part);
}

static __always_inline int read_until_close(struct http_stream *stream, struct http_slot *slot)
{
	__u32 bytes = stream->left;

	advance(stream, bytes);
	touch(slot, stream, RESPONSE);
	count_body(slot, bytes, RESPONSE);
	return STEP_DONE;
}

static __always_inline int digit_value(__u8 c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static __always_inline int chunk_begins(struct http_stream *stream, struct http_message *message,
					enum http_part part)
{
	stream->remaining = message->length + LINE_END;
	stream->mode = message->length ? MODE_CHUNK_DATA : MODE_TRAILER;
	reset_unkept(message, part);
	message->first_line = true; /* a trailer has header lines only */
	return STEP_MORE;
}

/* "1a2b;name=value" CR LF, of which all but the digits is skipped. */
static __always_inline int read_chunk_size(struct __sk_buff *skb, struct http_stream *stream,
					   struct http_slot *slot, enum http_part part)
{
	struct http_message *message = &slot->messages[part];
	__u32 size = stream->left;
	__u8 bytes[CHUNK_LINE];
	int i, digit;

	if (size > sizeof(bytes))
		size = sizeof(bytes);
	if (!load_stream(skb, stream, bytes, size, sizeof(bytes)))
		return STEP_DONE;
	for (i = 0; i < CHUNK_LINE && i < size; i++) {
		if (bytes[i] == '\n') {
			advance(stream, i + 1);
			touch(slot, stream, part);
			return chunk_begins(stream, message, part);
		}
		digit = digit_value(bytes[i]);
		if (digit < 0)
			message->extension = true;
		if (!message->extension)
			message->length = message->length << 4 | digit;
	}
	advance(stream, size);
	touch(slot, stream, part);
	return STEP_MORE;
}

static __always_inline int read_chunk_data(struct http_stream *stream, struct http_slot *slot,
					   enum http_part part)
{
	__u64 data = stream->remaining > LINE_END ? stream->remaining - LINE_END : 0;
	__u32 bytes = stream->left;

	if (bytes > stream->remaining)
		bytes = stream->remaining;
	advance(stream, bytes);
	touch(slot, stream, part);
	count_body(slot, bytes < data ? bytes : data, part);
	stream->remaining -= bytes;
	if (stream->remaining)
		return STEP_DONE;
	stream->mode = MODE_CHUNK_SIZE;
	reset_unkept(&slot->messages[part], part);
	return STEP_MORE;
}

static __always_inline int read_trailer(struct __sk_buff *skb, struct socket_state *state,
					struct http_stream *stream, struct http_slot *slot,
					__u32 number, enum http_part part)
{
	struct http_message *message = &slot->messages[part];
	__u32 before;

	if (!load_window(skb, stream, slot, message, part))
		return STEP_DONE;
	before = message->at;
	http_read_window(number, part);
	advance(stream, message->at - before);
	touch(slot, stream, part);
	if (!message->ended)
		return STEP_MORE;
	return message_complete(state, stream, slot, part);
}

/* A chunk is one step, so that many small ones in a packet are read, too. */
static __always_inline int read_chunk(struct __sk_buff *skb, struct http_stream *stream,
				      struct http_slot *slot, enum http_part part)
{
	int result = STEP_MORE;

	if (stream->mode == MODE_CHUNK_SIZE)
		result = read_chunk_size(skb, stream, slot, part);
	if (stream->mode == MODE_CHUNK_DATA && stream->left)
		result = read_chunk_data(stream, slot, part);
	return result;
}

static __always_inline struct early_connection *early_connection(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&http_early, &first);
}

static __always_inline struct socket_state *state_of_packet(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	if (sk->state == TCP_LISTEN)
		return (void *)early_connection(); /* its first member */
	return socket_state(sk);
}

static __always_inline enum http_part part_of(struct http_connection *http, __u32 direction)
{
	return (http->role == ROLE_CLIENT) == (direction == EGRESS) ? REQUEST : RESPONSE;
}

static __always_inline int begin_message(struct __sk_buff *skb, struct http_connection *http,
					 struct http_stream *stream, enum http_part part)
{
	return part == REQUEST ? begin_request(skb, http, stream) : begin_response(http, stream);
}

static __always_inline __u32 exchange_being_read(struct http_connection *http, enum http_part part)
{
	return part == REQUEST ? http->begun - 1 : http->answered;
}

static __always_inline int read_part(struct __sk_buff *skb, struct socket_state *state,
				     struct http_stream *stream, enum http_part part)
{
	struct http_connection *http = &state->http;
	struct http_slot *slot;
	__u32 exchange, number;
	int result;

	if (stream->mode == MODE_START) {
		result = begin_message(skb, http, stream, part);
		if (stream->mode != MODE_HEAD)
			return result;
	}
	exchange = exchange_being_read(http, part);
	number = slot_of(http, exchange);
	slot = exchange_slot(http, exchange);
	if (!slot)
		return lose_framing(http);
	switch (stream->mode) {
	case MODE_HEAD:
		result = read_head(skb, state, stream, slot, number, part);
		if (stream->mode != MODE_BODY || !stream->left)
			return result;
		/* the body is often behind it in the same segment */
		return read_body(state, stream, slot, part);
	case MODE_BODY:
		return read_body(state, stream, slot, part);
	case MODE_CHUNK_SIZE:
	case MODE_CHUNK_DATA:
		return read_chunk(skb, stream, slot, part);
	case MODE_TRAILER:
		return read_trailer(skb, state, stream, slot, number, part);
	case MODE_UNTIL_CLOSE:
		return read_until_close(stream, slot);
	default:
		return STEP_DONE;
	}
}

/* Reads the next part of a message: the lines of a window, a body's bytes, a chunk's first line. */
static __noinline int step(struct __sk_buff *skb, struct socket_state *state, __u32 direction)
{
	struct http_stream *stream = &state->http.streams[direction & 1];
	int result;

	result = read_part(skb, state, stream, part_of(&state->http, direction));
	return stream->left ? result : STEP_DONE;
}

__noinline int http_step(struct __sk_buff *skb, __u32 direction)
{
	struct socket_state *state = state_of_packet(skb);

	return state ? step(skb, state, direction) : STEP_DONE;
}

__noinline int http_steps(struct __sk_buff *skb, __u32 direction)
{
	struct socket_state *state = state_of_packet(skb);
	struct http_stream *stream;
	int result = STEP_DONE;

	if (!state)
		return STEP_DONE;
	stream = &state->http.streams[direction & 1];
	for (int i = 0; i < STEPS_TOGETHER; i++) {
		/* not from within http_step: together they need more of the stack than there is */
		if (is_tls_mode(stream->mode))
			result = tls_step(skb, direction);
		else
			result = http_step(skb, direction);
		if (result == STEP_DONE)
			break;
	}
	return result;
}

/* Reads all of what was placed. */
static __always_inline void read_placed(struct __sk_buff *skb, enum direction direction,
					const int rounds)
{
	for (int i = 0; i < rounds; i++)
		if (http_steps(skb, direction) == STEP_DONE)
			break;
}

/* The same for a packet, which most often is one part of a message: with a step that has the state at hand. */
static __always_inline void read_placed_packet(struct __sk_buff *skb, struct socket_state *state,
					       struct http_stream *stream, enum direction direction)
{
	if (is_tls_mode(stream->mode) || step(skb, state, direction) == STEP_MORE)
		read_placed(skb, direction, STEP_ROUNDS);
}

/* --- packets --------------------------------------------------------------------------------- */

#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04

/* A TCP segment with payload, or the last one. */
struct segment {
	__u64 now;
	__u32 sequence;
	__u32 acknowledged;
	__u32 offset; /* of the payload, in the packet */
	__u32 size;   /* of the payload, bytes */
	__u16 source_port;
	bool fin;
};

static __always_inline bool read_segment(struct __sk_buff *skb, struct segment *segment)
{
	struct tcp_header tcp;
	__u32 offset = find_tcp(skb, &tcp);

	if (!offset)
		return false;
	offset += (tcp.data_offset >> 4) * 4;
	if (offset > skb->len)
		return false;
	segment->offset = offset;
	segment->size =
		tcp.flags & TCP_FLAG_RST ? 0 : skb->len - offset; /* a reset's is a remark */
	segment->fin = tcp.flags & TCP_FLAG_FIN;
	segment->sequence = bpf_ntohl(tcp.sequence);
	if (tcp.flags & TCP_FLAG_SYN)
		segment->sequence++; /* it has a number of its own */
	segment->acknowledged = bpf_ntohl(tcp.acknowledged);
	segment->source_port = bpf_ntohs(tcp.source);
	return segment->size || segment->fin;
}

/* After the other side has sent, a request may begin. */
static __always_inline void look_for_request(struct socket_state *state, struct http_stream *stream,
					     struct segment *segment, enum direction direction)
{
	struct http_connection *http = &state->http;
	__u8 role = direction == EGRESS ? ROLE_CLIENT : ROLE_SERVER;
	struct http_stream *other = &http->streams[!direction];
	bool turn = http->last != direction + 1;

	if (behind(segment->sequence, stream->next) < 0)
		return; /* it is sent again */
	http->last = direction + 1;
	if (!turn || (http->confirmed && http->role != role))
		return;
	if (behind(segment->acknowledged, other->next) < 0)
		return; /* something is on its way to this side, and may be taken for the response */
	http->role = role;
	http->found = true;
	stream->mode = other->mode = MODE_START;
	stream->next = segment->sequence;
	other->next = segment->acknowledged;
	stream->ahead = stream->ahead_end = other->ahead = other->ahead_end = 0;
	stream->early_segments = other->early_segments = 0;
	stream->socket = other->socket = state->address;
	stream->direction = direction;
	other->direction = !direction;
}

/* What was seen while a request is looked for is not looked at when it comes again. */
static __always_inline void pass_over(struct http_stream *stream, struct segment *segment)
{
	__u32 end = segment->sequence + segment->size;

	if (stream->mode == MODE_SEARCH && is_ahead(end, stream->next))
		stream->next = end;
}

/* In the middle of both streams, of which nothing was seen so far. */
static __always_inline void begin_search(struct http_connection *http, struct segment *segment,
					 enum direction direction)
{
	http->streams[direction].next = segment->sequence;
	http->streams[!direction].next = segment->acknowledged;
	search(http);
}

static __always_inline bool in_body(struct http_stream *stream, __u32 bytes)
{
	if (stream->mode == MODE_UNTIL_CLOSE)
		return true;
	return (stream->mode == MODE_BODY || stream->mode == MODE_CHUNK_DATA ||
		stream->mode == MODE_TLS_PASS) &&
	       stream->remaining >= bytes;
}

/* Bytes came before their turn. Which they are is noted, which is enough for those of a body. */
static __always_inline void note_ahead(struct http_stream *stream, struct segment *segment)
{
	__u32 end = segment->sequence + segment->size;

	if (stream->ahead == stream->ahead_end) {
		stream->ahead = segment->sequence;
		stream->ahead_end = end;
	} else if (segment->sequence == stream->ahead_end) {
		stream->ahead_end = end;
	} else if (end == stream->ahead) {
		stream->ahead = segment->sequence;
	}
}

static __always_inline bool take_place_aside(struct http_stream *stream, __u32 end)
{
	if (stream->early_segments >= MAX_EARLY_SEGMENTS)
		return false;
	if (!stream->early_segments || behind(end, stream->early_end) > 0)
		stream->early_end = end;
	return true;
}

/* The next bytes, size of them or as many as there is room for, at offset in the packet. */
__noinline int http_put_aside(struct __sk_buff *skb, __u32 direction, __u32 sequence, __u32 offset,
			      __u32 size)
{
	struct socket_state *state = state_of_packet(skb);
	struct early_segment *empty, *early;
	struct http_stream *stream;
	struct early_key key;
	__u32 first = 0, known;

	if (!state)
		return 0;
	stream = &state->http.streams[direction & 1];
	key = early_key(stream, sequence);
	if (size > MAX_EARLY_SEGMENT)
		size = MAX_EARLY_SEGMENT;
	/* what comes again may have what is behind it with it, which does not come by itself then */
	for (int i = 0; i < MAX_KNOWN; i++) {
		early = bpf_map_lookup_elem(&early_segments, &key);
		if (!early)
			break;
		known = early->size;
		if (!known || known >= size)
			return 0;
		key.sequence += known;
		offset += known;
		size -= known;
	}
	empty = bpf_map_lookup_elem(&empty_segment, &first);
	if (!empty || !take_place_aside(stream, key.sequence + size))
		return 0;
	/* before it can be found, and taken out, by who has the lock */
	__sync_fetch_and_add(&stream->early_segments, 1);
	if (bpf_map_update_elem(&early_segments, &key, empty, BPF_NOEXIST)) {
		__sync_fetch_and_add(&stream->early_segments, -1);
		return 0; /* it came before, too */
	}
	early = bpf_map_lookup_elem(&early_segments, &key);
	if (!early)
		return 0;
	load_bytes(skb, offset, early->bytes, size, MAX_EARLY_SEGMENT);
	early->size = size; /* now it is there */
	return 0;
}

/* Those of a head, or of chunks, will be needed. What was put together on its way may be large. */
static __always_inline void put_aside(struct __sk_buff *skb, struct segment *segment,
				      enum direction direction)
{
	__u32 from = 0;

	for (int i = 0; i < MAX_EARLY_PIECES && from < segment->size; i++) {
		http_put_aside(skb, direction, segment->sequence + from, segment->offset + from,
			       segment->size - from);
		from += MAX_EARLY_SEGMENT;
	}
}

/* Sets what the steps read: the part of the segment that is new. False: there is none. */
static __always_inline bool place_segment(struct __sk_buff *skb, struct http_stream *stream,
					  struct segment *segment, enum direction direction)
{
	__s32 missing = behind(segment->sequence, stream->next);

	if (missing > MAX_AHEAD)
		return false;
	if (missing > 0 && !in_body(stream, missing)) {
		note_ahead(stream, segment);
		put_aside(skb, segment, direction);
		return false;
	}
	/* before our turn: seen already; in a body, what is missing will come and is only counted */
	if (missing + (__s32)segment->size <= 0)
		return false;
	stream->offset = segment->offset - missing;
	stream->left = segment->size + missing;
	stream->now = segment->now;
	stream->acknowledged = segment->acknowledged;
	stream->reading_early = false;
	return true;
}

/* The segment that is next, if it came early. */
static __always_inline bool place_early(struct http_stream *stream)
{
	struct early_segment *early = find_early(stream, stream->next);

	if (!early || !early->size)
		return false;
	stream->early = stream->next;
	stream->reading_early = true;
	stream->offset = 0;
	stream->left = early->size;
	return true;
}

static __always_inline void forget_early(struct http_stream *stream)
{
	struct early_key key = early_key(stream, stream->early);

	bpf_map_delete_elem(&early_segments, &key);
	if (stream->early_segments) /* else a search has begun meanwhile */
		__sync_fetch_and_add(&stream->early_segments, -1);
}

/*
 * Segments that nobody will take out, as their bytes were read from another one, or counted in a body. One more may be put aside
 * in this moment, by who has no lock.
 */
static __always_inline void forget_passed(struct http_stream *stream)
{
	__u32 passed = stream->early_segments;

	if (passed && behind(stream->next, stream->early_end) >= 0)
		__sync_fetch_and_add(&stream->early_segments, -passed);
}

static __always_inline void read_early(struct __sk_buff *skb, struct http_stream *stream,
				       enum direction direction)
{
	for (int i = 0; i < MAX_EARLY_SEGMENTS && stream->early_segments; i++) {
		if (!place_early(stream))
			break;
		read_placed(skb, direction, EARLY_ROUNDS);
		forget_early(stream);
	}
	stream->reading_early = false;
	forget_passed(stream);
}

/* Bytes that came early, and were not put aside, are next: only a body can be read from them. */
static __always_inline bool place_ahead(struct http_stream *stream)
{
	__s32 left = behind(stream->ahead_end, stream->next);

	if (stream->ahead == stream->ahead_end || behind(stream->ahead, stream->next) > 0)
		return false;
	stream->ahead = stream->ahead_end = 0;
	if (left <= 0)
		return false;
	stream->left = left;
	return true;
}

static __always_inline bool has_framing(struct http_stream *stream)
{
	return stream->mode != MODE_SEARCH && stream->mode != MODE_OPAQUE;
}

static __always_inline void read_ahead(struct __sk_buff *skb, struct http_connection *http,
				       struct http_stream *stream, enum direction direction)
{
	if (stream->early_segments)
		read_early(skb, stream, direction);
	if (!has_framing(stream) || !place_ahead(stream))
		return;
	if (in_body(stream, stream->left))
		read_placed(skb, direction, STEP_ROUNDS);
	else
		lose_framing(http);
}

static __always_inline void end_of_stream(struct socket_state *state, struct http_stream *stream)
{
	struct http_slot *slot;

	if (is_tls(&state->http)) {
		send_handshake(state, bpf_ktime_get_boot_ns(),
			       stream->direction == EGRESS ? TLS_CLOSED_HERE : 0, 0);
		become_opaque(&state->http);
		return;
	}
	if (stream->mode != MODE_UNTIL_CLOSE)
		return;
	slot = exchange_slot(&state->http, state->http.answered);
	if (slot)
		response_complete(state, stream, slot, 0);
}

/* What one side acknowledges the other one has sent, and we have seen; if not, it is gone for us. */
static __always_inline void check_acknowledged(struct http_connection *http,
					       struct segment *segment, enum direction direction)
{
	struct http_stream *other = &http->streams[!direction];

	if (!has_framing(other))
		return;
	if (behind(segment->acknowledged, other->next) > 1 /* a FIN has a number, too */)
		lose_framing(http);
}

/* The connections that are being read, on kernels where the word for it cannot be exchanged. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64); /* as struct socket_state has the socket */
	__type(value, __u64);
} http_locks SEC(".maps");

/* Set by the loader, which has asked the kernel. */
const volatile bool has_exchange = true;

static __always_inline bool lock_by_word(struct http_connection *http, __u64 self, const int tries)
{
	__u64 holder;

	for (int i = 0; i < tries; i++) {
		holder = take_word(&http->busy, self);
		if (!holder)
			return true;
		if (holder == self)
			return false;
	}
	return false;
}

static __always_inline bool lock_by_map(struct socket_state *state, __u64 self, const int tries)
{
	__u64 *holder;

	for (int i = 0; i < tries; i++) {
		if (!(int)bpf_map_update_elem(&http_locks, &state->address, &self, BPF_NOEXIST))
			return true;
		holder = bpf_map_lookup_elem(&http_locks, &state->address);
		if (holder && *holder == self)
			return false;
	}
	return false;
}

/*
 * Packets of one connection may come on several CPUs at a time, and one may be received while
 * another is sent; none is read before the one that is being read is done with. False: it is this
 * CPU itself that was interrupted, or the other one takes too long. Then it is for whoever has the
 * lock to read what came.
 */
static __always_inline bool lock_connection(struct socket_state *state, const int tries)
{
	__u64 self = bpf_get_smp_processor_id() + 1;

	return has_exchange ? lock_by_word(&state->http, self, tries)
			    : lock_by_map(state, self, tries);
}

/* For packets. A function by itself, so that the verifier follows what comes then but once. */
__noinline int http_lock(struct __sk_buff *skb)
{
	struct socket_state *state = state_of_packet(skb);

	return state && lock_connection(state, LOCK_TRIES);
}

/* Nearly always the lock is free, and it takes no function to have it. */
static __always_inline bool lock_for_packet(struct __sk_buff *skb, struct socket_state *state)
{
	return (has_exchange && lock_by_word(&state->http, bpf_get_smp_processor_id() + 1, 1)) ||
	       http_lock(skb);
}

static __always_inline void unlock_connection(struct socket_state *state)
{
	if (has_exchange)
		release_word(&state->http.busy);
	else
		bpf_map_delete_elem(&http_locks, &state->address);
}

/* What was taken for a request, on a connection that is older than we are, was no such thing. */
static __always_inline void check_guess(struct http_connection *http, enum direction direction)
{
	if (!http->searching || !http->reading || part_of(http, direction) != RESPONSE)
		return;
	drop_exchanges(http, false);
	search(http);
}

static __always_inline void read_payload(struct __sk_buff *skb, struct socket_state *state,
					 struct segment *segment, enum direction direction)
{
	struct http_connection *http = &state->http;
	struct http_stream *stream = &http->streams[direction];

	if (stream->mode == MODE_NEW && !http_enabled) {
		become_opaque(
			http); /* the connection is older than we are: its handshake may be, too */
		return;
	}
	if (stream->mode == MODE_NEW)
		begin_search(http, segment, direction);
	check_guess(http, direction);
	check_acknowledged(http, segment, direction);
	if (stream->mode == MODE_SEARCH)
		look_for_request(state, stream, segment, direction);
	if (!has_framing(stream) || !place_segment(skb, stream, segment, direction))
		return;
	read_placed_packet(skb, state, stream, direction);
	if (stream->left && has_framing(stream))
		lose_framing(http); /* too many parts in one packet */
	read_ahead(skb, http, stream, direction);
}

static __always_inline void note_end(struct http_stream *stream, struct segment *segment)
{
	if (!segment->fin)
		return;
	stream->end = segment->sequence + segment->size;
	stream->has_end = true;
}

/* Reads what was put aside of one direction while another segment was read. */
__noinline int http_read_deferred(struct __sk_buff *skb, __u32 direction)
{
	struct socket_state *state = state_of_packet(skb);
	struct http_stream *stream;

	if (!state)
		return 0;
	stream = &state->http.streams[direction & 1];
	if (!has_framing(stream))
		return 0;
	state->http.now = bpf_ktime_get_boot_ns();
	if (stream->early_segments) {
		stream->now = state->http.now;
		read_early(skb, stream, direction & 1);
	}
	if (stream->has_end && stream->end == stream->next)
		end_of_stream(state, stream);
	return 0;
}

/* Whose turn it is: a response is sent for a request, and the next request after a response. */
static __always_inline __u32 direction_in_turn(struct http_connection *http)
{
	__u32 of_requests = http->role == ROLE_CLIENT ? EGRESS : INGRESS;

	return waits_for_response(http) && !http->reading ? !of_requests : of_requests;
}

/* One direction, the other one, and what follows that in the first. */
static __always_inline void read_deferred(struct __sk_buff *skb, struct http_connection *http)
{
	__u32 first = direction_in_turn(http);

	http->deferred = false;
	for (__u32 i = 0; i < 3; i++)
		http_read_deferred(skb, first ^ (i & 1));
}

static __always_inline void read_locked(struct __sk_buff *skb, struct socket_state *state,
					struct segment *segment, enum direction direction)
{
	struct http_connection *http = &state->http;
	struct http_stream *stream = &http->streams[direction];

	http->now = segment->now = bpf_ktime_get_boot_ns();
	if (owned_by_self(state)) {
		if (is_tls(http))
			drop_handshake(http, false);
		drop_exchanges(http, false);
		become_opaque(http);
		return;
	}
	if (http->deferred)
		read_deferred(skb, http);
	note_end(stream, segment);
	if (segment->size) {
		read_payload(skb, state, segment, direction);
		pass_over(stream, segment);
	}
	if (stream->has_end && stream->end == stream->next)
		end_of_stream(state, stream);
}

static __always_inline void defer_segment(struct __sk_buff *skb, struct http_connection *http,
					  struct segment *segment, enum direction direction)
{
	struct http_stream *stream = &http->streams[direction];

	if (stream->mode == MODE_NEW || !has_framing(stream))
		return; /* a request is looked for in what comes later */
	note_end(stream, segment);
	put_aside(skb, segment, direction);
	http->deferred = true;
}

static __always_inline void see_segment(struct __sk_buff *skb, struct socket_state *state,
					enum direction direction)
{
	struct http_connection *http = &state->http;
	struct segment segment;

	if (http->streams[direction].mode == MODE_OPAQUE || !read_segment(skb, &segment))
		return;
	if (lock_for_packet(skb, state)) {
		read_locked(skb, state, &segment, direction);
		if (http->deferred)
			read_deferred(skb, http);
		unlock_connection(state);
	} else {
		defer_segment(skb, http, &segment, direction);
	}
	/* It came a moment before that, or a moment after whoever had the lock has looked for the last time. */
	if (http->deferred && http_lock(skb)) {
		read_deferred(skb, http);
		unlock_connection(state);
	}
}

/* --- the ends of a connection ---------------------------------------------------------------- */

static __always_inline void start_streams(struct http_connection *http, __u64 address, __u8 role,
					  __u32 received, __u32 sent)
{
	http->role = role;
	http->streams[INGRESS].socket = http->streams[EGRESS].socket = address;
	http->streams[EGRESS].direction = EGRESS;
	http->streams[INGRESS].mode = http->streams[EGRESS].mode = MODE_START;
	http->streams[INGRESS].next = received;
	http->streams[EGRESS].next = sent;
}

/* What was put aside is that socket's now; 0: it is not needed. How many pieces are. */
static __noinline __u32 take_aside(struct early_connection *early, __u64 socket)
{
	struct early_key from = early_key(&early->state.http.streams[INGRESS], early->sequence);
	struct early_key to = from;
	struct early_segment *piece;
	__u32 taken = 0;

	to.socket = socket;
	for (int i = 0; i < MAX_EARLY_PIECES; i++) {
		piece = bpf_map_lookup_elem(&early_segments, &from);
		if (!piece)
			break;
		if (socket && !bpf_map_update_elem(&early_segments, &to, piece, BPF_ANY))
			taken++;
		bpf_map_delete_elem(&early_segments, &from);
		from.sequence += MAX_EARLY_SEGMENT;
		to.sequence = from.sequence;
	}
	return taken;
}

/* What came to nothing was no exchange. */
static __always_inline void forget_early_connection(struct early_connection *early)
{
	struct http_connection *http = &early->state.http;

	drop_exchanges(http, false);
	if (is_tls(http))
		drop_handshake(http, false);
	take_aside(early, 0);
	__builtin_memset(early, 0, sizeof(*early));
}

/* A segment with payload that belongs to a listening socket. */
static __noinline void see_early_segment(struct __sk_buff *skb)
{
	struct early_connection *early = early_connection();
	struct http_connection *http;
	struct segment segment;

	if (!early || !read_segment(skb, &segment) || !segment.size)
		return;
	http = &early->state.http;
	forget_early_connection(early);
	http->now = segment.now = bpf_ktime_get_boot_ns();
	http->early = true;
	/* the time will do for an address: none of the kernel's is as low */
	start_streams(http, segment.now, ROLE_SERVER, segment.sequence, segment.acknowledged);
	early->sequence = segment.sequence;
	early->port = segment.source_port;
	put_aside(skb, &segment, INGRESS);
	if (place_segment(skb, &http->streams[INGRESS], &segment, INGRESS))
		read_placed(skb, INGRESS, STEP_ROUNDS);
	pass_over(&http->streams[INGRESS], &segment);
}

/* The connection has a socket now: its exchanges are that socket's. */
static __always_inline void take_over(struct http_connection *http, __u64 socket)
{
	struct http_slot *slot;
	__u32 exchange = http->answered;

	for (int i = 0; i < MAX_PIPELINED && exchange != http->begun; i++, exchange++) {
		slot = exchange_slot(http, exchange);
		if (!slot)
			continue;
		slot->socket = socket;
		slot->early = false;
	}
	if (is_tls(http))
		take_over_handshake(http, socket);
	http->early = false;
	http->streams[INGRESS].socket = http->streams[EGRESS].socket = socket;
}

/* What was last read of a listening socket's, if it is of this connection, and begins there or later. */
static __always_inline struct early_connection *early_of(struct sock *sk)
{
	struct early_connection *early = early_connection();
	struct tcp_sock *tcp = (void *)sk;
	__u32 begin;

	if (!early || !early->port ||
	    early->port != bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) ||
	    early->state.http.streams[EGRESS].next != BPF_CORE_READ(tcp, snd_nxt))
		return NULL;
	begin = BPF_CORE_READ(tcp, rcv_nxt);
	return early->sequence == begin || is_ahead(early->sequence, begin) ? early : NULL;
}

/* Whether the connection begins with it. */
static __always_inline bool take_early(struct sock *sk, struct http_connection *http)
{
	struct early_connection *early = early_of(sk);
	struct tcp_sock *tcp = (void *)sk;

	if (!early)
		return false;
	if (early->sequence != BPF_CORE_READ(tcp, rcv_nxt)) {
		http->streams[INGRESS].early_end = early->state.http.streams[INGRESS].early_end;
		http->streams[INGRESS].early_segments = take_aside(early, (__u64)sk);
		forget_early_connection(early);
		return false;
	}
	take_aside(early, 0);
	*http = early->state.http;
	take_over(http, (__u64)sk);
	http->streams[INGRESS].early_segments = 0;
	__builtin_memset(early, 0, sizeof(*early));
	return true;
}

/*
 * The side that opened the connection sends the requests. The streams' first numbers are known
 * here, whatever order their first bytes come in.
 */
static __always_inline void begin_connection(struct sock *sk, struct socket_state *state)
{
	struct http_connection *http = &state->http;
	struct tcp_sock *tcp = (void *)sk;

	if (!streams_enabled())
		return;
	if (http->streams[EGRESS].mode != MODE_NEW) { /* a client's SYN had data in it */
		http->streams[INGRESS].next = BPF_CORE_READ(tcp, rcv_nxt);
		http->found = false;
		return;
	}
	if (state->role == ROLE_SERVER && take_early(sk, http))
		return;
	start_streams(http, state->address, state->role, BPF_CORE_READ(tcp, rcv_nxt),
		      BPF_CORE_READ(tcp, snd_nxt));
}

/* The kernel has received bytes that we have not: what is known of the exchange is not all. */
static __always_inline bool has_missed_bytes(struct socket_state *state)
{
	struct http_stream *received = &state->http.streams[INGRESS];
	struct tcp_sock *tcp = (void *)sock_of(state);

	return has_framing(received) && behind(BPF_CORE_READ(tcp, rcv_nxt), received->next) > 1;
}

static __always_inline __u16 tls_ending(__u16 flags)
{
	return (flags & HTTP_ABORTED ? TLS_ABORTED : 0) |
	       (flags & HTTP_CLOSED_HERE ? TLS_CLOSED_HERE : 0);
}

static __always_inline void end_handshake(struct socket_state *state, __u16 flags, __s32 error)
{
	if (has_missed_bytes(state))
		drop_handshake(&state->http, true);
	else
		send_handshake(state, bpf_ktime_get_boot_ns(), tls_ending(flags), error);
}

/* Where the lock cannot be had, what is under way is left to be reaped. */
static __always_inline void end_connection(struct socket_state *state, __u16 flags, __s32 error)
{
	struct http_connection *http = &state->http;

	if (!streams_enabled() || !lock_connection(state, LOCK_TRIES_AT_END))
		return;
	if (is_tls(http)) {
		end_handshake(state, flags, error);
	} else if (http->reading || waits_for_response(http)) {
		if (has_missed_bytes(state))
			drop_exchanges(http, true);
		else
			end_exchanges(state, flags, error);
	}
	give_back_own(http);
	become_opaque(http);
	unlock_connection(state);
}

/* --- at an interval: what no connection ended ------------------------------------------------ */

static __always_inline void keep_exchange(struct http_connection *http, __u32 exchange, __u64 now)
{
	struct http_slot *slot = exchange_slot(http, exchange);

	if (slot)
		slot->live = now;
}

/* How long ago it was; negative: it has become later meanwhile. */
static __always_inline __s64 behind_time(__u64 now, __u64 then)
{
	return now - then;
}

/* Connections that are idle leave their own slots to others. */
static __always_inline bool is_idle(struct http_slot *own, __u64 now, __u64 after)
{
	return own->parked && behind_time(now, own->event.header.time) > (__s64)after;
}

static __always_inline void keep_own_slot(struct socket_state *state, __u64 now, __u64 idle)
{
	struct http_slot *own = own_slot(&state->http);

	if (!own)
		return;
	own->live = now;
	if (!is_idle(own, now, idle) || !lock_connection(state, 1))
		return;
	/* a segment that comes in this moment is read with the next one */
	give_back_own(&state->http);
	unlock_connection(state);
}

/* Of an open socket, which is idle that long after an exchange. */
static __always_inline void keep_exchanges(struct socket_state *state, __u64 idle)
{
	struct http_connection *http = &state->http;
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 exchange = http->answered;

	keep_own_slot(state, now, idle);
	if (http->reading)
		keep_exchange(http, http->begun - 1, now);
	for (int i = 0; i < MAX_PIPELINED && exchange != http->begun; i++)
		keep_exchange(http, exchange++, now);
}

/* The kernel leaves out a program's run in rare cases, and a close may be among those. */
static __always_inline void reap_exchange(__u32 number, __u64 after)
{
	struct http_slot *slot = http_slot(number);

	if (!slot || !slot->socket || !is_silent(slot->live, after))
		return;
	if (!slot->parked) {
		if (slot->has_line && !slot->early)
			count_unreadable(HTTP_EXCHANGE);
		end_service(slot, bpf_ktime_get_boot_ns());
	}
	give_back(slot, number);
}

#endif
