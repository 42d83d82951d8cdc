/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * What a process serves, so that what it sends meanwhile can be told to be for that. There are two
 * rules, and where neither holds nothing is said: a wrong cause is worse than none.
 *
 * By thread: it read the request from a socket that blocks, so that it waits for that connection
 * alone, and has read no other request since. User space checks that it also sent the response.
 *
 * By exclusion: it is the only request that the process has read and not answered, and the process
 * has been watched for long while it served nothing, right before, too, and has sent nothing then.
 */
#ifndef TAPIO_SERVING_H
#define TAPIO_SERVING_H

#include "event.h"
#include "kernel.h"
#include "socket.h"
#include "task.h"

#define IDLE_SHARE 10	/* how much longer it must have been idle before than it is busy now */
#define WATCH_SHARE 100 /* of the watch, it must have been idle right before */

/* Set by the loader. */
const volatile bool causes_enabled = false;
const volatile __u64 idle_watch = 10000000000ULL; /* ns a process must have been seen idle in all */

/* What is known of a process since it listened, or read its first request. */
struct serving_process {
	__u64 start_time; /* of the process, ns */
	__u64 born;	  /* when this was made, ns */
	__u64 served;	  /* requests that were read and not answered yet */
	__u64 requests;	  /* the sum of their names; of one, its name */
	__u64 idle_since; /* when the last one was answered, ns; 0: none was, or one is served */
	__u64 idle;	  /* how long it served none in all, ns */
	__u64 last_idle;  /* how long before those that are served now, ns */
	__u64 busy_since; /* when the first of these was read, ns */
	__u8 by_itself;	  /* it has sent something while it served none */
	__u8 dedicates;	  /* it has threads that serve one request at a time */
	__u8 reserved[6];
};

/* By thread group id. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* sized by the loader */
	__type(key, __u32);
	__type(value, struct serving_process);
} serving_processes SEC(".maps");

/* The request that a thread has read last, from a socket that blocks. */
struct serving_thread {
	__u64 start_time; /* of the thread, ns */
	__u64 request;	  /* when it began to arrive, ns: with slot, no other one has it */
	__u32 slot;
	__u8 mixes; /* it has read a request before it began to answer another: never again */
	__u8 reserved[3];
};

/* By thread id. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* sized by the loader */
	__type(key, __u32);
	__type(value, struct serving_thread);
} serving_threads SEC(".maps");

static __always_inline __u64 request_name(__u32 sequence, __u32 acknowledged)
{
	return (__u64)sequence << 32 | acknowledged;
}

/* --- a process ------------------------------------------------------------------------------- */

static __always_inline struct serving_process *serving_process(struct process_ref *ref)
{
	struct serving_process *process = bpf_map_lookup_elem(&serving_processes, &ref->pid);

	if (!process || process->start_time != ref->start_time)
		return NULL;
	return process;
}

static __noinline struct serving_process *make_serving_process(struct process_ref *ref)
{
	struct serving_process fresh = {.start_time = ref->start_time};

	fresh.born = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(&serving_processes, &ref->pid, &fresh, BPF_ANY);
	return serving_process(ref);
}

static __always_inline struct process_ref current_process(struct task_struct *task)
{
	return (struct process_ref){
		.start_time = start_time_of(task),
		.pid = BPF_CORE_READ(task, tgid),
	};
}

/* A process that listens is a server, also before it has served anybody. */
static __noinline void note_listening(void)
{
	struct process_ref self = current_process((void *)bpf_get_current_task());

	if (causes_enabled && !serving_process(&self))
		make_serving_process(&self);
}

static __always_inline void end_idleness(struct serving_process *process)
{
	__u64 since = process->idle_since;
	__u64 now;

	if (process->served)
		return;
	now = bpf_ktime_get_boot_ns();
	process->busy_since = now;
	process->last_idle = since ? now - since : 0;
	process->idle += process->last_idle;
	process->idle_since = 0; /* used up: another CPU may be about to begin one anew */
}

/* The name first, so that where it is the only one its name is there. */
static __always_inline void add_request(struct serving_process *process, __u64 name)
{
	end_idleness(process);
	__sync_fetch_and_add(&process->requests, name);
	__sync_fetch_and_add(&process->served, 1);
}

static __always_inline void take_request(struct serving_process *process, __u64 name, __u64 now)
{
	__sync_fetch_and_add(&process->served, -1);
	__sync_fetch_and_add(&process->requests, -name);
	if (!process->served)
		process->idle_since = now;
}

/*
 * A request is answered. If it is given up, the process may go on with it and nobody sees. born: it may
 * be another process's entry by now.
 */
static __noinline void end_serving(__u32 pid, __u64 born, __u64 name, bool answered, __u64 now)
{
	struct serving_process *process = bpf_map_lookup_elem(&serving_processes, &pid);

	if (!process || process->born != born)
		return;
	if (!answered)
		process->by_itself = true;
	take_request(process, name, now);
}

/* --- what is sent ---------------------------------------------------------------------------- */

/*
 * What a process does by itself, it may begin to do at any time. That it comes just now, for the first
 * time, and not in the idle time before, must be unlikely.
 */
static __always_inline bool was_idle_for_long(struct serving_process *process)
{
	__u64 busy = bpf_ktime_get_boot_ns() - process->busy_since;

	return process->idle >= idle_watch && process->last_idle >= idle_watch / WATCH_SHARE &&
	       process->last_idle / IDLE_SHARE >= busy;
}

/* Whether it sends for the only request that there is. */
static __always_inline bool is_sole(struct serving_process *process, struct cause *cause)
{
	__u64 name;

	if (process->by_itself || process->dedicates || process->served != 1 ||
	    !was_idle_for_long(process))
		return false;
	name = process->requests;
	barrier();
	if (process->served != 1 || process->requests != name)
		return false;
	cause->sequence = name >> 32;
	cause->acknowledged = name;
	return true;
}

/* What it sends while it serves nothing, it sends by itself. At its start it may, to get ready. */
static __always_inline void note_sending(struct serving_process *process)
{
	if (process->served)
		return;
	if (process->idle_since || bpf_ktime_get_boot_ns() - process->born > idle_watch)
		process->by_itself = true;
}

#endif
