/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * TLS handshakes: what of them is in the clear. The two byte streams of a connection are those of
 * http.h, which has their segments in order; here the records in them are walked (RFC 8446, section 5;
 * RFC 5246, section 6), and the two hellos kept, until the handshake is over. What the hellos say is
 * for user space to read.
 *
 * In TLS 1.3 the server encrypts all that follows its hello, and the handshake ends with the client's
 * first encrypted record behind that, which is, or leads to, its Finished. In earlier versions it ends
 * when both sides have changed the cipher.
 */
#ifndef TAPIO_TLS_H
#define TAPIO_TLS_H

#include "event.h"
#include "http.h"
#include "limit.h"
#include "kernel.h"
#include "ring.h"
#include "socket.h"
#include "tls_sums.h"
#include "watch.h"

#define RECORD_HEADER 5
#define HANDSHAKE_HEADER 4
#define ALERT_SIZE 2
#define MAX_RECORD (16384 + 2048) /* TLSCiphertext.length of TLS 1.2, the longest of all */
#define ENCRYPTED_ALERT 19 /* in TLS 1.3: an alert, its type and the tag; no message is as long */
#define ENCRYPTED_ALERT_CCM_8 11 /* with a shorter tag */
#define TLS_WINDOW 256		 /* bytes of a hello that are loaded together, at the most */
#define MAX_CLIENT_HELLO 4096 /* a ticket that has a client's certificate in it stands at its end */
#define MAX_SERVER_HELLO 1792 /* its key share alone may have 1665 bytes, with others behind it */
#define MAX_HELLOS (MAX_CLIENT_HELLO + MAX_SERVER_HELLO)
#define HELLO_RANDOM 6	  /* where it is in a hello */
#define HELLO_SESSION 38  /* the length of the session id */
#define BEHIND_SESSION 3  /* cipher suite and compression method of a ServerHello */
#define MAX_EXTENSIONS 16 /* of a ServerHello; there are about a dozen that it may have */
#define SUPPORTED_VERSIONS 43

enum tls_record {
	RECORD_CHANGE_CIPHER_SPEC = 20,
	RECORD_ALERT = 21,
	RECORD_HANDSHAKE = 22,
	RECORD_APPLICATION_DATA = 23,
	RECORD_HEARTBEAT = 24,
};

enum tls_message { CLIENT_HELLO = 1, SERVER_HELLO = 2 };

enum { ALERT_FATAL = 2, ALERT_CLOSE_NOTIFY = 0, ALERT_USER_CANCELED = 90 };

/* The reading of one side's records. */
struct tls_reader {
	__u8 bytes[16]; /* of a record's header, or of an alert */
	__u32 have;	/* how many of them are there; fewer than eight */
	__u32 begin;	/* of the hello, in the slot */
	__u32 at;	/* where its next bytes go */
	__u32 limit;	/* how far they may */
	__u8 has_hello; /* it is complete, or as long as it may be */
	__u8 changed;	/* it has changed its cipher, in answer to the ServerHello or with it */
	__u8 reserved[6];
};

/* A handshake, until it is sent. */
struct tls_slot {
	struct tls_handshake event;
	/* right behind the event, as they are sent; room for the verifier */
	__u8 hellos[MAX_HELLOS + TLS_WINDOW];
	struct tls_reader readers[2]; /* by enum http_part */
	__u64 socket;		      /* whose it is, as in struct http_stream; 0: not in use */
	__u64 live;		      /* when it was last known to belong to an open socket, ns */
	__u64 zero;		      /* always 0, which the verifier does not know */
	struct tls_sum_key sum_key;   /* has no room on the stack */
	__u8 early;		      /* the connection has no socket of its own yet */
	__u8 is_1_3;		      /* the server has chosen TLS 1.3 */
	__u16 version;		      /* that it has chosen; 0: not known */
	__u32 extension;	      /* of the ServerHello: where the next one stands */
};

/* Sized by the loader: how many handshakes are followed at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tls_slot);
} tls_slots SEC(".maps");

/* The numbers of the slots that are not in use. Filled by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, __u32);
} tls_free SEC(".maps");

/* --- slots ----------------------------------------------------------------------------------- */

static __always_inline struct tls_slot *tls_slot(__u32 number)
{
	return bpf_map_lookup_elem(&tls_slots, &number);
}

static __always_inline void free_handshake(struct tls_slot *slot, __u32 number)
{
	slot->socket = 0;
	bpf_map_push_elem(&tls_free, &number, BPF_ANY);
}

/* A connection has one handshake, and no exchanges then: its slot is where that of the first would be. */
static __always_inline __u32 handshake_number(struct http_connection *http)
{
	return http->pending[0];
}

/* NULL: it was taken away, and may be another one's by now. */
static __always_inline struct tls_slot *handshake_of(struct http_connection *http)
{
	struct tls_slot *slot = tls_slot(handshake_number(http));

	if (!slot || slot->socket != http->streams[INGRESS].socket)
		return NULL;
	return slot;
}

/* Before the first byte of a ClientHello it may be anything. */
static __always_inline bool is_handshake(struct tls_slot *slot)
{
	return slot->event.client_hello_size;
}

static __always_inline bool has_begun(struct tls_reader *reader)
{
	return reader->at > reader->begin;
}

/* But for what is filled in when it is sent. */
static __always_inline void reset_handshake(struct tls_slot *slot, struct http_stream *stream)
{
	__builtin_memset(&slot->event, 0, sizeof(slot->event));
	__builtin_memset(slot->readers, 0, sizeof(slot->readers));
	slot->readers[REQUEST].limit = MAX_CLIENT_HELLO;
	slot->event.start = stream->now;
	slot->event.sequence = stream->next;
	slot->event.acknowledged = stream->acknowledged;
	slot->live = stream->now;
	slot->is_1_3 = false;
	slot->version = 0;
	slot->socket = stream->socket;
}

/* --- what a ServerHello says ----------------------------------------------------------------- */

static __always_inline __u8 hello_byte(struct tls_slot *slot, __u32 at)
{
	if (at >= MAX_HELLOS)
		return 0;
	return slot->hellos[at];
}

static __always_inline __u32 hello_number(struct tls_slot *slot, __u32 at)
{
	return hello_byte(slot, at) << 8 | hello_byte(slot, at + 1);
}

/* How long the message is, with its header; as long as that is not there, more than there is. */
static __always_inline __u32 hello_length(struct tls_slot *slot, struct tls_reader *reader)
{
	__u32 at = reader->begin;

	if (reader->at - at < HANDSHAKE_HEADER)
		return HANDSHAKE_HEADER + 1;
	return HANDSHAKE_HEADER + (hello_byte(slot, at + 1) << 16 | hello_byte(slot, at + 2) << 8 |
				   hello_byte(slot, at + 3));
}

/* Nothing is missing, neither of the message nor of its extensions, of which all that there are have been read. */
static __always_inline bool is_whole_hello(struct tls_slot *slot, __u32 extensions)
{
	struct tls_reader *reader = &slot->readers[RESPONSE];
	__u32 end = reader->begin + slot->event.server_hello_size;

	if (slot->event.server_hello_size != hello_length(slot, reader))
		return false;
	if (extensions == end)
		return true;
	return slot->extension == end && extensions + 2 + hello_number(slot, extensions) == end;
}

/*
 * An extension that is there, up to the end. Where it stands is kept in the slot, and not where the verifier would follow it: for
 * it, each one is as the one before.
 */
static __always_inline bool read_extension(struct tls_slot *slot, __u32 end)
{
	__u32 at = slot->extension, size;

	if (at + 4 > end)
		return false;
	size = hello_number(slot, at + 2);
	if (at + 4 + size > end)
		return false;
	if (hello_number(slot, at) == SUPPORTED_VERSIONS && size >= 2)
		slot->version = hello_number(slot, at + 4);
	slot->extension = at + 4 + size;
	barrier();
	return true;
}

/*
 * A ServerHello names TLS 1.3 in an extension, and an older version in its old place, which means that one only if there is no such
 * extension. A function by itself: the verifier checks it once.
 */
__noinline int tls_note_version(__u32 number)
{
	struct tls_slot *slot = tls_slot(number);
	__u32 begin, end, extensions;

	if (!slot)
		return 0;
	begin = slot->readers[RESPONSE].begin;
	end = begin + slot->event.server_hello_size;
	extensions = begin + HELLO_SESSION;
	extensions += 1 + hello_byte(slot, extensions) + BEHIND_SESSION;
	slot->version = 0;
	slot->extension = extensions + 2;
	barrier();
	for (int i = 0; i < MAX_EXTENSIONS && read_extension(slot, end); i++)
		;
	slot->is_1_3 = slot->version == VERSION_1_3;
	if (!slot->version && is_whole_hello(slot, extensions))
		slot->version = hello_number(slot, begin + HANDSHAKE_HEADER);
	return 0;
}

/* --- sending --------------------------------------------------------------------------------- */

static __always_inline void fill_handshake(struct tls_handshake *event, struct socket_state *state,
					   __u64 now, __u16 flags, __s32 error)
{
	remember_ends(state);
	event->header.time = now;
	event->header.type = TLS_HANDSHAKE;
	event->header.pid = state->owner.pid;
	event->header.start_time = state->owner.start_time;
	event->header.cgroup_id = state->cgroup_id;
	event->ends = state->ends;
	event->ends.role = state->http.role;
	event->opened = state->opened;
	event->cause = state->cause;
	event->flags |= flags;
	event->error = error;
}

/* A handshake that is not told. A function by itself, so that the verifier follows it but once. */
__noinline int tls_sum_up(__u32 number)
{
	struct tls_slot *slot = tls_slot(number);
	struct tls_sums *sums;

	if (!slot)
		return 0;
	fill_handshake_key(&slot->sum_key, &slot->event, slot->version);
	sums = tls_sums_of(&slot->sum_key);
	if (!sums) {
		count_throttled(TLS_HANDSHAKE);
		return 0;
	}
	count_seen(TLS_HANDSHAKE);
	add_handshake(sums, &slot->event, slot->zero);
	return 0;
}

/* size: of its hellos. */
static __always_inline void tell_handshake(struct tls_slot *slot, __u32 number, __u32 size)
{
	if (is_throttled_at(slot->event.header.time, slot->event.header.cgroup_id, TLS_HANDSHAKE,
			    0)) {
		tls_note_version(number); /* its hello may be there in part */
		tls_sum_up(number);
		return;
	}
	output_event(&traffic_ring, TLS_HANDSHAKE, slot, sizeof(slot->event) + size);
}

static __noinline void send_handshake(struct socket_state *state, __u64 now, __u16 flags,
				      __s32 error)
{
	struct tls_slot *slot = handshake_of(&state->http);
	__u32 size;

	if (!slot)
		return;
	fill_handshake(&slot->event, state, now, flags, error);
	size = slot->event.client_hello_size + slot->event.server_hello_size;
	if (is_handshake(slot) && size <= MAX_HELLOS && !slot->early && !owned_by_self(state))
		tell_handshake(slot, handshake_number(&state->http), size);
	free_handshake(slot, handshake_number(&state->http));
}

/* lost: it was one, but its bytes were not all seen. */
static __noinline void drop_handshake(struct http_connection *http, bool lost)
{
	struct tls_slot *slot = handshake_of(http);

	if (!slot)
		return;
	if (lost && is_handshake(slot))
		count_unreadable(TLS_HANDSHAKE);
	free_handshake(slot, handshake_number(http));
}

/* What follows is not ours to read. */
static __always_inline int handshake_ended(struct socket_state *state, __u64 now, __u16 flags)
{
	send_handshake(state, now, flags, 0);
	become_opaque(&state->http);
	return STEP_DONE;
}

/* --- the first look -------------------------------------------------------------------------- */

/* A record of a handshake message, of any version since SSL 3.0, which is a ClientHello. */
static __always_inline bool begins_handshake(struct __sk_buff *skb, struct http_stream *stream)
{
	__u8 bytes[RECORD_HEADER + 1] = {RECORD_HANDSHAKE, 3, 0, 0, 0, CLIENT_HELLO};
	__u32 size = stream->left;

	if (size > sizeof(bytes))
		size = sizeof(bytes);
	if (!load_stream(skb, stream, bytes, size, sizeof(bytes)))
		return false;
	return bytes[0] == RECORD_HANDSHAKE && bytes[1] == 3 && bytes[2] <= 4 &&
	       bytes[5] == CLIENT_HELLO;
}

/* A function by itself: the verifier checks it once. Whether the client's first bytes are TLS. */
__noinline int tls_begin(struct __sk_buff *skb, __u32 direction)
{
	struct socket_state *state = state_of_packet(skb);
	struct http_connection *http;
	struct http_stream *stream;
	struct tls_slot *slot;
	__u32 number;

	if (!state)
		return false;
	http = &state->http;
	stream = &http->streams[direction & 1];
	if (!begins_handshake(skb, stream))
		return false;
	if (bpf_map_pop_elem(&tls_free, &number)) {
		count_table_full(TLS_HANDSHAKE);
		become_opaque(http);
		return true;
	}
	slot = tls_slot(number);
	if (!slot)
		return false;
	reset_handshake(slot, stream);
	slot->early = http->early;
	http->pending[0] = number;
	http->streams[INGRESS].mode = http->streams[EGRESS].mode = MODE_TLS_RECORD;
	return true;
}

/* --- records --------------------------------------------------------------------------------- */

/* Bytes that are few, and may come one by one. True: all of them are there. */
static __always_inline bool collect(struct __sk_buff *skb, struct http_stream *stream,
				    struct tls_reader *reader, __u32 wanted)
{
	__u32 size = stream->left;
	__u64 have = reader->have;

	if (have >= wanted)
		return true;
	if (size > wanted - have)
		size = wanted - have;
	barrier_var(have);
	if (have > sizeof(reader->bytes) - RECORD_HEADER)
		return false;
	if (!load_stream(skb, stream, &reader->bytes[have], size, RECORD_HEADER))
		return false;
	advance(stream, size);
	reader->have += size;
	return reader->have >= wanted;
}

static __always_inline int pass_record(struct http_stream *stream)
{
	stream->mode = stream->remaining ? MODE_TLS_PASS : MODE_TLS_RECORD;
	return STEP_MORE;
}

static __always_inline __u16 sender_of_alert(struct http_stream *stream)
{
	return stream->direction == INGRESS ? TLS_ALERT_RECEIVED : 0;
}

static __always_inline bool is_alert_size(__u64 size)
{
	return size == ENCRYPTED_ALERT || size == ENCRYPTED_ALERT_CCM_8;
}

static __always_inline int encrypted_alert(struct socket_state *state, struct http_stream *stream)
{
	return handshake_ended(state, stream->now, TLS_ENCRYPTED_ALERT | sender_of_alert(stream));
}

/* Those before the ServerHello are TLS 1.3's, for middleboxes that want to see some. */
static __always_inline int cipher_changed(struct socket_state *state, struct http_stream *stream,
					  struct tls_slot *slot, enum http_part part)
{
	if (!slot->readers[RESPONSE].has_hello)
		return pass_record(stream);
	slot->readers[part].changed = true;
	if (slot->readers[REQUEST].changed && slot->readers[RESPONSE].changed && !slot->is_1_3 &&
	    !(slot->event.flags & TLS_ENCRYPTED))
		return handshake_ended(state, stream->now, TLS_ESTABLISHED);
	return pass_record(stream);
}

static __always_inline int alert_begins(struct socket_state *state, struct http_stream *stream)
{
	if (stream->remaining != ALERT_SIZE)
		return encrypted_alert(state, stream);
	stream->mode = MODE_TLS_ALERT;
	return STEP_MORE;
}

static __always_inline void mark_cut(struct tls_slot *slot, enum http_part part)
{
	slot->event.flags |= part == REQUEST ? TLS_CLIENT_HELLO_CUT : TLS_SERVER_HELLO_CUT;
}

static __always_inline void freeze_client_hello(struct tls_slot *slot)
{
	if (!slot->readers[REQUEST].has_hello)
		mark_cut(slot, REQUEST);
	slot->readers[REQUEST].has_hello = true;
}

static __always_inline int message_begins(struct http_stream *stream, struct tls_slot *slot,
					  enum http_part part)
{
	struct tls_reader *reader = &slot->readers[part & 1];

	if (reader->has_hello || !stream->remaining)
		return pass_record(stream);
	if (part == RESPONSE && !has_begun(reader)) { /* behind the client's, which grows no more */
		freeze_client_hello(slot);
		reader->begin = reader->at = slot->event.client_hello_size;
		reader->limit = reader->begin + MAX_SERVER_HELLO;
	}
	stream->mode = MODE_TLS_HELLO;
	return STEP_MORE;
}

static __always_inline int server_data_begins(struct socket_state *state,
					      struct http_stream *stream, struct tls_slot *slot)
{
	if (!slot->readers[RESPONSE].has_hello)
		return handshake_ended(state, stream->now, TLS_NOT_TLS);
	if (is_alert_size(stream->remaining))
		return encrypted_alert(state, stream);
	slot->event.flags |= TLS_ENCRYPTED;
	return pass_record(stream);
}

/* Before the server has encrypted anything it is early data, or that of a False Start (RFC 7918). */
static __always_inline int client_data_begins(struct socket_state *state,
					      struct http_stream *stream, struct tls_slot *slot)
{
	if (!slot->readers[RESPONSE].has_hello)
		slot->event.flags |= TLS_EARLY_DATA;
	if (!(slot->event.flags & TLS_ENCRYPTED))
		return pass_record(stream);
	if (is_alert_size(stream->remaining) && !(slot->event.flags & TLS_EARLY_DATA))
		return encrypted_alert(state, stream);
	return handshake_ended(state, stream->now, TLS_ESTABLISHED);
}

static __always_inline bool is_record(struct tls_reader *reader, __u32 length)
{
	return reader->bytes[0] >= RECORD_CHANGE_CIPHER_SPEC &&
	       reader->bytes[0] <= RECORD_HEARTBEAT && reader->bytes[1] == 3 &&
	       length <= MAX_RECORD;
}

static __always_inline int record_begins(struct socket_state *state, struct http_stream *stream,
					 struct tls_slot *slot, enum http_part part)
{
	struct tls_reader *reader = &slot->readers[part & 1];
	__u32 length = reader->bytes[3] << 8 | reader->bytes[4];

	reader->have = 0;
	if (!is_record(reader, length)) {
		if (part == RESPONSE)
			return handshake_ended(state, stream->now, TLS_NOT_TLS);
		return forget_handshake(&state->http, true);
	}
	stream->remaining = length;
	switch (reader->bytes[0]) {
	case RECORD_CHANGE_CIPHER_SPEC:
		return cipher_changed(state, stream, slot, part);
	case RECORD_ALERT:
		return alert_begins(state, stream);
	case RECORD_HANDSHAKE:
		return message_begins(stream, slot, part);
	case RECORD_APPLICATION_DATA:
		return part == RESPONSE ? server_data_begins(state, stream, slot)
					: client_data_begins(state, stream, slot);
	default:
		return pass_record(stream);
	}
}

static __always_inline int read_record(struct __sk_buff *skb, struct socket_state *state,
				       struct http_stream *stream, struct tls_slot *slot,
				       enum http_part part)
{
	if (!collect(skb, stream, &slot->readers[part & 1], RECORD_HEADER))
		return STEP_DONE;
	return record_begins(state, stream, slot, part);
}

/*
 * A warning is no end, but for the one that says that nothing more will come. In TLS 1.3 the level
 * says nothing, and there is one warning left (RFC 8446, section 6).
 */
static __always_inline bool is_warning(struct tls_slot *slot, __u8 level, __u8 alert)
{
	if (alert == ALERT_CLOSE_NOTIFY)
		return false;
	return slot->is_1_3 ? alert == ALERT_USER_CANCELED : level != ALERT_FATAL;
}

static __always_inline int read_alert(struct __sk_buff *skb, struct socket_state *state,
				      struct http_stream *stream, struct tls_slot *slot,
				      enum http_part part)
{
	struct tls_reader *reader = &slot->readers[part & 1];

	if (!collect(skb, stream, reader, ALERT_SIZE))
		return STEP_DONE;
	reader->have = 0;
	stream->mode = MODE_TLS_RECORD;
	if (is_warning(slot, reader->bytes[0], reader->bytes[1]))
		return STEP_MORE;
	slot->event.alert = reader->bytes[1];
	return handshake_ended(state, stream->now, TLS_ALERT | sender_of_alert(stream));
}

/* All of the record that has come. */
static __always_inline int pass(struct http_stream *stream)
{
	__u32 bytes = stream->left;

	if (bytes > stream->remaining)
		bytes = stream->remaining;
	advance(stream, bytes);
	stream->remaining -= bytes;
	return pass_record(stream);
}

/* --- hellos ---------------------------------------------------------------------------------- */

/* SHA-256 of "HelloRetryRequest" (RFC 8446, section 4.1.3): the random bytes of a hello that is none. */
static __always_inline bool asks_for_another(struct tls_slot *slot, struct tls_reader *reader)
{
	const __u8 random[] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
			       0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
			       0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
	__u32 at = reader->begin + HELLO_RANDOM;

	if (slot->event.server_hello_size < HELLO_SESSION)
		return false; /* behind it is what was there before */
	for (int i = 0; i < sizeof(random); i++)
		if (hello_byte(slot, at + i) != random[i])
			return false;
	return true;
}

static __always_inline int hello_complete(struct socket_state *state, struct http_stream *stream,
					  struct tls_slot *slot, struct tls_reader *reader,
					  enum http_part part)
{
	if (part == RESPONSE && asks_for_another(slot, reader)) {
		slot->event.flags |= TLS_RETRIED;
		reader->at = reader->begin;
		slot->event.server_hello_size = 0;
		return pass_record(stream);
	}
	reader->has_hello = true;
	if (part == RESPONSE)
		tls_note_version(handshake_number(&state->http));
	return pass_record(stream);
}

/* A client's was looked at, but for one whose first bytes came one by one. */
static __always_inline int not_a_hello(struct socket_state *state, struct http_stream *stream,
				       enum http_part part)
{
	if (part == REQUEST)
		return forget_handshake(&state->http, false);
	return handshake_ended(state, stream->now, TLS_NOT_TLS);
}

static __always_inline void keep_hello(struct tls_slot *slot, struct tls_reader *reader,
				       __u32 length, enum http_part part)
{
	__u32 size = reader->at - reader->begin;

	if (size > length)
		size = length; /* another message follows in the same record */
	if (part == REQUEST)
		slot->event.client_hello_size = size;
	else
		slot->event.server_hello_size = size;
}

/* The next bytes of a hello, which may have several records. */
static __always_inline int read_hello(struct __sk_buff *skb, struct socket_state *state,
				      struct http_stream *stream, struct tls_slot *slot,
				      enum http_part part)
{
	struct tls_reader *reader = &slot->readers[part & 1];
	__u32 size = stream->left;
	__u64 at = reader->at;
	__u32 length;

	if (reader->has_hello) /* the server has not waited for all of it */
		return pass_record(stream);
	if (size > TLS_WINDOW)
		size = TLS_WINDOW;
	if (size > stream->remaining)
		size = stream->remaining;
	if (size > reader->limit - at)
		size = reader->limit - at;
	barrier_var(at);
	if (at >= MAX_HELLOS || !load_stream(skb, stream, &slot->hellos[at], size, TLS_WINDOW))
		return STEP_DONE;
	advance(stream, size);
	stream->remaining -= size;
	reader->at += size;
	if (hello_byte(slot, reader->begin) != (part == REQUEST ? CLIENT_HELLO : SERVER_HELLO))
		return not_a_hello(state, stream, part);
	length = hello_length(slot, reader);
	keep_hello(slot, reader, length, part);
	if (reader->at - reader->begin >= length)
		return hello_complete(state, stream, slot, reader, part);
	if (reader->at == reader->limit) {
		mark_cut(slot, part);
		return hello_complete(state, stream, slot, reader, part);
	}
	if (!stream->remaining)
		stream->mode = MODE_TLS_RECORD;
	return STEP_MORE;
}

static __always_inline int read_record_part(struct __sk_buff *skb, struct socket_state *state,
					    struct http_stream *stream, enum http_part part)
{
	struct tls_slot *slot = handshake_of(&state->http);

	if (!slot)
		return forget_handshake(&state->http, false); /* it was reaped, and counted */
	slot->live = stream->now;
	switch (stream->mode) {
	case MODE_TLS_RECORD:
		return read_record(skb, state, stream, slot, part);
	case MODE_TLS_HELLO:
		return read_hello(skb, state, stream, slot, part);
	case MODE_TLS_ALERT:
		return read_alert(skb, state, stream, slot, part);
	case MODE_TLS_PASS:
		return pass(stream);
	default:
		return STEP_DONE;
	}
}

/* Reads the next part of a record. */
__noinline int tls_step(struct __sk_buff *skb, __u32 direction)
{
	struct socket_state *state = state_of_packet(skb);
	struct http_stream *stream;
	int result;

	if (!state)
		return STEP_DONE;
	stream = &state->http.streams[direction & 1];
	result = read_record_part(skb, state, stream, part_of(&state->http, direction));
	return stream->left ? result : STEP_DONE;
}

/* --- with the connection ---------------------------------------------------------------------- */

/* The connection has a socket now: its handshake is that socket's. */
static __always_inline void take_over_handshake(struct http_connection *http, __u64 socket)
{
	struct tls_slot *slot = handshake_of(http);

	if (!slot)
		return;
	slot->socket = socket;
	slot->early = false;
}

/* Of an open socket. */
static __always_inline void keep_handshake(struct http_connection *http)
{
	struct tls_slot *slot = is_tls(http) ? handshake_of(http) : NULL;

	if (slot)
		slot->live = bpf_ktime_get_boot_ns();
}

static __always_inline void reap_handshake(__u32 number, __u64 after)
{
	struct tls_slot *slot = tls_slot(number);

	if (!slot || !slot->socket || !is_silent(slot->live, after))
		return;
	if (is_handshake(slot) && !slot->early)
		count_unreadable(TLS_HANDSHAKE);
	free_handshake(slot, number);
}

#endif
