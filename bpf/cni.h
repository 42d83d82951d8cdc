/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Which programs are CNI plugins, what they are told to do, and what they print. */
#ifndef TAPIO_CNI_H
#define TAPIO_CNI_H

#include "kernel.h"
#include "call.h"
#include "event.h"
#include "once.h"
#include "ring.h"
#include "scope.h"
#include "task.h"

#define MAX_PLUGIN_PATH 512 /* a directory of 255 bytes and a name of NAME_MAX */
#define MAX_VARIABLE_BYTES 1024
#define MAX_TAIL_BYTES 8192 /* a power of two: a path, and each of the variables several times */
#define TAIL_MASK (MAX_TAIL_BYTES - 1)
#define MAX_ENVIRONMENT_STEPS 512 /* strings, and pieces of long ones */
#define MAX_OUTPUT_BYTES 2048	  /* a power of two */
#define OUTPUT_MASK (MAX_OUTPUT_BYTES - 1)
#define MAX_VECTORS 8	/* pieces of what writev(2) writes at once */
#define MAX_ANCESTORS 4 /* processes between a plugin and one that writes for it */

/* --- where plugins are ----------------------------------------------------------------------- */

struct plugin_dir {
	char path[MAX_PLUGIN_PATH]; /* the rest is NUL */
};

/* The directories of the config. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct plugin_dir);
	__type(value, __u8);
} plugin_dirs SEC(".maps");

/* --- plugins that run ------------------------------------------------------------------------ */

struct run {
	__u64 start_time; /* of the process */
	__u64 began;
	__u64 output; /* the open file that its standard output was at the start, where that is a pipe */
	__u32 own_netns;
	__u32 netns; /* the last other one that it was in; 0: none */
};

/* By process. Put here at its start, and taken out at its end. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct run);
} runs SEC(".maps");

struct output {
	__u64 kept;  /* bytes of text */
	__u64 total; /* bytes that were written */
	struct cni_ended event;
	char text
		[2 *
		 MAX_OUTPUT_BYTES]; /* for the verifier: a piece that begins at the last byte has room */
};

/* What it has written so far, by process, likewise. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct output);
} outputs SEC(".maps");

/* How many run: while none does, all other programs' calls are let go at once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} running SEC(".maps");

/* An output without anything in it, too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct output);
} no_output SEC(".maps");

static __always_inline __u64 *running_plugins(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&running, &zero);
}

static __always_inline bool none_runs(void)
{
	__u64 *count = running_plugins();

	return !count || !*count;
}

static __always_inline void count_running(__s64 change)
{
	__u64 *count = running_plugins();

	if (count)
		__sync_fetch_and_add(count, change);
}

static __always_inline __u32 netns_number(void *net)
{
	return BPF_CORE_READ((struct net *)net, ns.inum);
}

static __always_inline __u32 netns_of(struct task_struct *task)
{
	return netns_number(BPF_CORE_READ(task, nsproxy, net_ns));
}

/* The pipe that a runner reads the result from; 0: it is something else, which others may write to, too. */
static __always_inline __u64 output_of(struct task_struct *task)
{
	struct file *file = file_of(task, 1);

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFIFO)
		return 0;
	return (__u64)file;
}

static __always_inline void begin_output(__u32 pid)
{
	__u32 zero = 0;
	struct output *empty = bpf_map_lookup_elem(&no_output, &zero);

	if (empty)
		bpf_map_update_elem(&outputs, &pid, empty, BPF_ANY); /* no room: told at its end */
}

/* False where there are too many. One that is in the way is of a process before, whose end was missed. */
static __always_inline bool begin_run(struct task_struct *task, __u64 now)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct run run = {
		.start_time = start_time_of(task),
		.began = now,
		.output = output_of(task),
		.own_netns = netns_of(task),
	};
	bool is_stale = bpf_map_lookup_elem(&runs, &pid);
	int error = bpf_map_update_elem(&runs, &pid, &run, BPF_ANY);

	if (error)
		return false;
	if (!is_stale)
		count_running(1);
	begin_output(pid);
	return true;
}

static __always_inline void forget_run(__u32 pid)
{
	bpf_map_delete_elem(&outputs, &pid);
	if (!bpf_map_delete_elem(&runs, &pid))
		count_running(-1);
}

/* The first eight bytes of a name, enough to tell ours from each other. */
#define BEGINNING(text)                                                                            \
	({                                                                                         \
		__u64 word;                                                                        \
		__builtin_memcpy(&word, text, sizeof(word));                                       \
		word;                                                                              \
	})

/* --- what it is told to do ------------------------------------------------------------------- */

struct began_buffer {
	__u64 used; /* of the tail */
	struct cni_began event;
	char tail[MAX_TAIL_BYTES + MAX_VARIABLE_BYTES];
	struct plugin_dir dir;
	__u32 slash;	 /* where the directory ends */
	__u64 at, end;	 /* of the environment, where it is read */
	__u64 is_within; /* a string of which a piece was read */
	__u64 has_command;
};

/* Records under construction, too large for the stack: one for each program that makes them. */
enum { BUFFER_STARTED, BUFFER_MISSED, BUFFER_COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUFFER_COUNT);
	__type(key, __u32);
	__type(value, struct began_buffer);
} began_buffers SEC(".maps");

static __always_inline struct began_buffer *buffer_numbered(__u32 which)
{
	return bpf_map_lookup_elem(&began_buffers, &which);
}

static __always_inline char *tail_at(struct began_buffer *buffer)
{
	return &buffer->tail[buffer->used & TAIL_MASK];
}

/*
 * Whether the path that a program was started by is right below one of the directories. It becomes the
 * beginning of the tail. Functions that are not static are verified once, not at every call.
 */
__noinline int is_in_plugin_dir(__u32 which, __u64 filename)
{
	struct began_buffer *buffer = buffer_numbered(which);
	long size;

	if (!buffer)
		return 0;
	buffer->slash = 0;
	__builtin_memset(&buffer->dir, 0, sizeof(buffer->dir));
	size = bpf_probe_read_kernel_str(buffer->tail, MAX_PLUGIN_PATH, (void *)filename);
	if (size <= 0 || size == MAX_PLUGIN_PATH)
		return 0; /* longer than a plugin's can be */
	buffer->used = size;
	for (__u32 i = 0; i < MAX_PLUGIN_PATH && buffer->tail[i]; i++)
		if (buffer->tail[i] == '/')
			buffer->slash = i;
	for (__u32 i = 0; i < MAX_PLUGIN_PATH && i < buffer->slash; i++)
		buffer->dir.path[i] = buffer->tail[i];
	return bpf_map_lookup_elem(&plugin_dirs, &buffer->dir) != NULL;
}

/* 1 or 0, without a branch, since the verifier goes all ways at each string of an environment. */
static __always_inline __u64 is_same(__u64 a, __u64 b)
{
	__u64 difference = a ^ b, same = ~(difference | -difference);

	asm volatile("" : "+r"(same)); /* else the compiler would find out, and branch */
	return same >> 63;
}

/* 1 for a variable that says what a plugin is to do. No other one is kept. */
static __always_inline __u64 is_for_plugin(__u64 name)
{
	return is_same(name, BEGINNING("CNI_COMMAND")) |
	       is_same(name, BEGINNING("CNI_CONTAINERID")) | is_same(name, BEGINNING("CNI_NETNS")) |
	       is_same(name, BEGINNING("CNI_IFNAME")) | is_same(name, BEGINNING("CNI_ARGS"));
}

/*
 * Goes on by one string, or a piece of a long one; 0 where it cannot be read. It is read to the end of the
 * tail, and stays there if it is one of ours; else the next one takes its place.
 */
static __always_inline long read_step(struct began_buffer *buffer)
{
	long size =
		bpf_probe_read_user_str(tail_at(buffer), MAX_VARIABLE_BYTES, (void *)buffer->at);
	__u64 name = 0, ours, is_full, is_piece;

	if (size < 0)
		return 0;
	size += is_same(size, 0); /* of an empty string, before Linux 6.12 */
	bpf_probe_read_kernel(&name, sizeof(name), tail_at(buffer));
	/* a piece ends with a NUL in the place of its next byte */
	is_piece = is_same(size, MAX_VARIABLE_BYTES);
	is_full = buffer->used / (MAX_TAIL_BYTES - MAX_VARIABLE_BYTES); /* 1 or 0 */
	ours = is_for_plugin(name) & ~buffer->is_within;
	buffer->event.flags |= (ours & is_full) * CNI_ENVIRONMENT_TRUNCATED;
	buffer->event.flags |= (ours & is_piece) * CNI_VARIABLE_TRUNCATED;
	ours &= ~is_full;
	buffer->has_command |= ours & is_same(name, BEGINNING("CNI_COMMAND"));
	buffer->used += ours * size;
	buffer->at += size - is_piece;
	buffer->is_within = is_piece;
	return size;
}

/* Adds the variables to the tail; 0 where the environment cannot be read. */
__noinline int read_environment(__u32 which)
{
	struct began_buffer *buffer = buffer_numbered(which);
	long size = 1;

	if (!buffer)
		return 0;
	for (int i = 0; i < MAX_ENVIRONMENT_STEPS && buffer->at < buffer->end; i++) {
		size = read_step(buffer);
		if (!size)
			break;
	}
	if (buffer->at < buffer->end)
		buffer->event.flags |= CNI_ENVIRONMENT_TRUNCATED;
	/* what is left there of a variable that is not ours */
	__builtin_memset(tail_at(buffer), 0, MAX_VARIABLE_BYTES);
	return size != 0;
}

static __always_inline void begin_environment(struct began_buffer *buffer, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	buffer->at = BPF_CORE_READ(mm, env_start);
	buffer->end = BPF_CORE_READ(mm, env_end);
	buffer->is_within = false;
	buffer->has_command = false;
}

/* --- what it prints -------------------------------------------------------------------------- */

/* As writev(2) is given them: include/uapi/linux/uio.h. */
struct vector {
	__u64 base;
	__u64 size;
};

/* The plugin that a process writes for, if it is one or was started by one: the first of those that share the pipe. */
static __always_inline __u32 plugin_of(struct task_struct *task, __u64 file)
{
	__u32 found = 0;

	for (int i = 0; i <= MAX_ANCESTORS; i++) {
		__u32 pid = BPF_CORE_READ(task, tgid);
		struct run *run = bpf_map_lookup_elem(&runs, &pid);

		if (run && run->output == file)
			found = pid;
		task = BPF_CORE_READ(task, real_parent);
	}
	return found;
}

/* Keeps the first bytes. */
static __always_inline void keep_output(struct output *output, __u64 from, __u64 size)
{
	__u64 at = output->kept & OUTPUT_MASK;
	__u64 room = output->kept < MAX_OUTPUT_BYTES ? MAX_OUTPUT_BYTES - output->kept : 0;

	output->total += size;
	if (size > room)
		size = room;
	if (!size)
		return;
	asm volatile(
		""
		: "+r"(size)); /* else the compiler would know that the next line changes nothing */
	size = ((size - 1) & OUTPUT_MASK) + 1;
	if (!bpf_probe_read_user(&output->text[at], size, (void *)from))
		output->kept += size;
}

static __always_inline void keep_vectors(struct output *output, __u64 vectors, __u64 count,
					 __u64 written)
{
	for (__u64 i = 0; i < MAX_VECTORS && i < count && written; i++) {
		struct vector vector = {};
		__u64 size;

		if (bpf_probe_read_user(&vector, sizeof(vector),
					(void *)(vectors + i * sizeof(vector))))
			return;
		size = vector.size < written ? vector.size : written;
		keep_output(output, vector.base, size);
		written -= size;
	}
	output->total += written;
}

#endif
