/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Which request a process reads, answers, or sends something for. The rules are in serving.h. */
#ifndef TAPIO_CAUSE_H
#define TAPIO_CAUSE_H

#include "event.h"
#include "http.h"
#include "kernel.h"
#include "serving.h"
#include "socket.h"

/* --- a request is read ----------------------------------------------------------------------- */

/* Others wait for it by epoll. Before Linux 5.11 that cannot be told. */
static __always_inline bool is_polled(struct file *file)
{
	return bpf_core_field_exists(file->f_ep) && BPF_CORE_READ(file, f_ep);
}

static __always_inline bool uses_io_uring(struct task_struct *task)
{
	return bpf_core_field_exists(task->io_uring) && BPF_CORE_READ(task, io_uring);
}

/*
 * A read waits for this socket's bytes, and for nothing else. The socket is one that a program was given, from which the
 * kernel lets it read without a function.
 */
static __always_inline bool blocks(struct task_struct *task, struct sock *sk)
{
	struct file *file = sk->sk_socket->file;

	return file && !(file->f_flags & O_NONBLOCK) && !is_polled(file) && !uses_io_uring(task);
}

/*
 * The request that the thread works on; NULL: it is answered, or given up. A later connection's may
 * have the same slot, and a socket at the same address.
 */
static __always_inline struct http_slot *slot_of_thread(struct serving_thread *thread)
{
	struct http_slot *slot = http_slot(thread->slot);

	if (!slot || !slot->socket || slot->parked || slot->event.request_start != thread->request)
		return NULL;
	return slot;
}

static __always_inline bool is_unanswered(struct serving_thread *thread)
{
	struct http_slot *slot = slot_of_thread(thread);

	return slot && !slot->event.response_start;
}

/* From now on the thread works on this request. One that has not begun to answer another mixes them. */
static __always_inline void dedicate_thread(struct task_struct *task, struct http_slot *slot,
					    __u32 number, bool several)
{
	__u32 id = current_thread();
	struct serving_thread *before = bpf_map_lookup_elem(&serving_threads, &id);
	struct serving_thread now = {
		.start_time = BPF_CORE_READ(task, start_boottime),
		.request = slot->event.request_start,
		.slot = number,
		.mixes = several,
	};

	if (before && before->start_time == now.start_time)
		now.mixes |= before->mixes | is_unanswered(before);
	bpf_map_update_elem(&serving_threads, &id, &now, BPF_ANY);
	slot->event.cause.flags = CAUSE_DEDICATED;
}

static __always_inline void join_process(struct process_ref *ref, struct http_slot *slot,
					 bool dedicated, bool several)
{
	struct serving_process *process = serving_process(ref);

	if (!process)
		process = make_serving_process(ref);
	if (!process)
		return;
	slot->served_by = ref->pid;
	slot->server_born = process->born;
	if (dedicated)
		process->dedicates = true;
	if (several)
		process->by_itself = true; /* not all that it serves are counted */
	add_request(process, slot_name(slot));
}

/*
 * A process has read from a connection, which is its own by that, and whose newest request it had
 * not read from yet.
 */
static __noinline void begin_serving(struct sock *sk, struct socket_state *state)
{
	struct http_connection *http = &state->http;
	struct http_slot *slot = exchange_slot(http, http->begun - 1);
	bool several = http->begun - http->answered > 1;
	struct task_struct *task;
	bool dedicated;

	if (!slot || slot->event.cause.thread)
		return;
	if (!several)
		expect_response(slot, &http->streams[EGRESS]);
	task = (void *)bpf_get_current_task();
	dedicated = blocks(task, sk);
	slot->event.cause.thread = current_thread();
	if (dedicated)
		dedicate_thread(task, slot, slot_of(http, http->begun - 1), several);
	join_process(&state->owner, slot, dedicated, several);
}

/* In process context, where the socket is owned by the process. */
static __always_inline void note_read(struct sock *sk, struct socket_state *state)
{
	struct http_connection *http = &state->http;

	if (!causes_enabled || !http_enabled || http->role != ROLE_SERVER || !http->confirmed)
		return;
	if (waits_for_response(http))
		begin_serving(sk, state);
}

/* --- something is sent ----------------------------------------------------------------------- */

/* Whether the thread sends for the request that it works on. */
static __always_inline bool is_of_thread(struct task_struct *task, struct cause *cause)
{
	struct serving_thread *thread = bpf_map_lookup_elem(&serving_threads, &cause->thread);
	struct http_slot *slot;

	if (!thread || thread->mixes || thread->start_time != BPF_CORE_READ(task, start_boottime))
		return false;
	slot = slot_of_thread(thread);
	if (!slot || slot->served_by != BPF_CORE_READ(task, tgid))
		return false;
	cause->sequence = slot->event.request_sequence;
	cause->acknowledged = slot->event.request_acknowledged;
	return slot_of_thread(thread); /* it was still that one's */
}

/* In process context only. */
static __noinline void find_cause(struct cause *cause)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 pid = current_pid();
	struct serving_process *process;

	if (!causes_enabled)
		return;
	cause->thread = current_thread();
	process = bpf_map_lookup_elem(&serving_processes, &pid);
	if (!process || process->start_time != start_time_of(task))
		return;
	cause->flags = CAUSE_SERVER;
	if (is_of_thread(task, cause))
		cause->flags |= CAUSE_THREAD;
	else if (is_sole(process, cause))
		cause->flags |= CAUSE_SOLE;
	note_sending(process);
}

/* Where it may also be softirq. */
static __always_inline void find_cause_if_held(struct sock *sk, struct cause *cause)
{
	if (held_by_process(sk))
		find_cause(cause);
}

/* A client's request begins. */
__noinline int http_note_sender(__u32 number)
{
	struct http_slot *slot = http_slot(number);

	if (slot)
		find_cause_if_held((void *)slot->socket, &slot->event.cause);
	return 0;
}

/* A server's response begins. */
__noinline int http_note_answer(__u32 number)
{
	struct http_slot *slot = http_slot(number);

	if (slot && slot->event.cause.thread == current_thread() &&
	    held_by_process((void *)slot->socket))
		slot->event.cause.flags |= CAUSE_ANSWERED;
	return 0;
}

#endif
