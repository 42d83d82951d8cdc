/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Records of actions that matter for security, and the paths that are sensitive. */
#ifndef TAPIO_SECURITY_H
#define TAPIO_SECURITY_H

#include "kernel.h"
#include "call.h"
#include "event.h"
#include "limit.h"
#include "ring.h"
#include "scope.h"
#include "task.h"

#define MAX_TEXT_BYTES 256
/* Two paths and texts; room for the last write of each to overshoot. */
#define MAX_TAIL_BYTES 8192
#include "path.h"

#define MAX_SENSITIVE_DEPTH 32 /* components of a path that is sensitive */
#define MAX_TAIL_DEPTH 4       /* of one that is looked for at any depth */
#define COMPONENT_MASK (MAX_PATH_COMPONENTS - 1)
#define BLOOM_WORDS 256
#define ENDS_WORDS 64

/* Set by the loader. */
const volatile __u32 enabled_kinds = 0; /* bit by enum security_kind */

/* --- records --------------------------------------------------------------------------------- */

/*
 * A dentry, from its d_parent on. So it lies in memory (include/linux/dcache.h) since before Linux 5.10,
 * and a name of less than NEAR_NAME bytes mostly right behind it.
 */
struct entry {
	struct dentry *parent;
	__u32 hash; /* the kernel's own */
	__u32 size; /* of the name */
	const unsigned char *name;
	void *inode;
	char text[MAX_NAME_BYTES + 8]; /* the name, and what fills its last word up */
};

#define NEAR_NAME 32

struct security_buffer {
	__u32 which; /* of the buffers it is */
	__u64 used;  /* of the tail */
	struct security_action event;
	char tail[MAX_TAIL_BYTES + 2 * MAX_TEXT_BYTES];
	/* of the path that is compared: its components' hashes, from the last one, and the one at hand */
	__u64 hashes[MAX_PATH_COMPONENTS];
	__u64 from_root;    /* the chain from the root so far */
	__u32 count;	    /* of hashes */
	struct entry entry; /* its component that is looked at */
};

/*
 * Records under construction, too large for the stack: one for each program that makes them, since one
 * may be interrupted by another. Those that have one call to themselves are numbered by the loader, from
 * BUFFER_COUNT on.
 */
enum {
	BUFFER_CALLS, /* the one program for all calls */
	BUFFER_EXEC,
	BUFFER_OPEN,
	BUFFER_MOUNT,
	BUFFER_MODULE,
	BUFFER_COUNT,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUFFER_COUNT); /* and of calls: set by the loader */
	__type(key, __u32);
	__type(value, struct security_buffer);
} security_buffers SEC(".maps");

static __always_inline bool is_enabled(enum security_kind kind)
{
	return enabled_kinds & (1 << kind);
}

static __always_inline void fill_action(struct security_action *action, struct task_struct *task,
					enum security_kind kind, enum security_operation operation,
					__s32 error)
{
	action->header.time = bpf_ktime_get_boot_ns();
	action->header.type = SECURITY_ACTION;
	fill_header(&action->header, task);
	fill_identity(&action->process, task);
	action->thread = BPF_CORE_READ(task, pid);
	action->kind = kind;
	action->operation = operation;
	action->error = error;
}

/* For a record without a tail. NULL: the ring was full, or there were too many of the kind. */
static __always_inline struct security_action *begin_action(struct task_struct *task,
							    enum security_kind kind,
							    enum security_operation operation,
							    __s32 error)
{
	struct security_action *action;

	if (is_task_throttled(task, SECURITY_ACTION, kind))
		return NULL;
	action = reserve_event(&lifecycle_ring, SECURITY_ACTION, sizeof(*action));
	if (action)
		fill_action(action, task, kind, operation, error);
	return action;
}

static __always_inline void submit_action(struct security_action *action)
{
	submit_event(&lifecycle_ring, action);
}

static __always_inline struct security_buffer *buffer_numbered(__u32 which)
{
	struct security_buffer *buffer = bpf_map_lookup_elem(&security_buffers, &which);

	if (buffer)
		buffer->which = which;
	return buffer;
}

/* For a record with a tail; path, base and text are then added in this order. */
static __always_inline void begin_buffer(struct security_buffer *buffer, struct task_struct *task,
					 enum security_kind kind, enum security_operation operation,
					 __s32 error)
{
	buffer->used = 0;
	__builtin_memset(&buffer->event, 0, sizeof(buffer->event));
	fill_action(&buffer->event, task, kind, operation, error);
}

static __always_inline void output_buffer(struct security_buffer *buffer)
{
	__u64 tail = buffer->used & TAIL_MASK; /* for the verifier: all parts are less */

	if (is_throttled(buffer->event.header.cgroup_id, SECURITY_ACTION, buffer->event.kind))
		return;
	output_event(&lifecycle_ring, SECURITY_ACTION, &buffer->event,
		     sizeof(buffer->event) + tail);
}

/*
 * Adds the components of a path to the tail; 0 where a limit cut it off. Functions that are not static are
 * verified once, not at every call; what they are given are numbers.
 */
__noinline __u32 add_components(__u32 which, __u64 dentry, __u64 mount)
{
	struct security_buffer *buffer = buffer_numbered(which);

	if (!buffer)
		return 0;
	return append_steps(buffer->tail, &buffer->used, step_at((void *)dentry, (void *)mount));
}

static __always_inline bool add_path(struct security_buffer *buffer, struct path *path)
{
	struct dentry *dentry = BPF_CORE_READ(path, dentry);
	struct vfsmount *mount = BPF_CORE_READ(path, mnt);

	return add_components(buffer->which, (__u64)dentry, (__u64)mount);
}

static __always_inline void add_resolved_path(struct security_buffer *buffer, struct path *path)
{
	buffer->event.flags |= SECURITY_PATH_RESOLVED;
	if (!add_path(buffer, path))
		buffer->event.flags |= SECURITY_PATH_TRUNCATED;
	buffer->event.path_size = buffer->used;
}

static __always_inline void add_file(struct security_buffer *buffer, struct file *file)
{
	if (!file)
		return; /* no such descriptor */
	if (!BPF_CORE_READ(file, f_inode, i_nlink))
		buffer->event.flags |= SECURITY_UNLINKED;
	add_resolved_path(buffer, &file->f_path);
}

/* The directory that a path which is not absolute starts at. */
static __always_inline void add_base(struct security_buffer *buffer, struct task_struct *task,
				     __s32 directory)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct file *file = directory == AT_FDCWD ? NULL : file_of(task, directory);
	struct path *path = directory == AT_FDCWD ? &fs->pwd : &file->f_path;
	__u64 before = buffer->used;

	if (buffer->event.flags & SECURITY_PATH_UNREADABLE)
		return;
	if (before && buffer->tail[0] == '/')
		return;
	if (!add_path(buffer, path))
		buffer->event.flags |= SECURITY_BASE_TRUNCATED;
	buffer->event.base_size = buffer->used - before;
}

static __always_inline void note_path_size(struct security_buffer *buffer, long size)
{
	if (size < 0) {
		buffer->event.flags |= SECURITY_PATH_UNREADABLE;
		return;
	}
	if (size == MAX_PATH_BYTES)
		buffer->event.flags |= SECURITY_PATH_TRUNCATED;
	buffer->used = size;
	buffer->event.path_size = size;
}

/* A path as the caller gave it, first in the tail. */
static __always_inline void add_asked_path(struct security_buffer *buffer, struct task_struct *task,
					   __s32 directory, __u64 path)
{
	note_path_size(buffer, bpf_probe_read_user_str(buffer->tail, MAX_PATH_BYTES, (void *)path));
	add_base(buffer, task, directory);
}

static __always_inline void note_text_size(struct security_buffer *buffer, long size)
{
	char *at = tail_at(buffer->tail, &buffer->used);

	if (size <= 0) {
		*at = 0; /* none was given */
		size = 1;
	}
	if (size == MAX_TEXT_BYTES)
		buffer->event.flags |= SECURITY_TEXT_TRUNCATED;
	buffer->used += size;
	buffer->event.text_size += size;
}

static __always_inline void add_asked_text(struct security_buffer *buffer, __u64 text)
{
	note_text_size(buffer, bpf_probe_read_user_str(tail_at(buffer->tail, &buffer->used),
						       MAX_TEXT_BYTES, (void *)text));
}

static __always_inline void add_kernel_text(struct security_buffer *buffer, const char *text)
{
	note_text_size(buffer, bpf_probe_read_kernel_str(tail_at(buffer->tail, &buffer->used),
							 MAX_TEXT_BYTES, text));
}

/* --- sensitive paths -------------------------------------------------------------------------- */

/*
 * A path is compared by hashes: of each component's name, chained from the root on (or from a component
 * somewhere, for paths at any depth). The loader chains those that are sensitive in the same way. What
 * happens to be in no bit of the filter is not looked up.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* set by the loader */
	__type(key, __u64);	/* the chain's hash */
	__type(value, __u32);	/* number in the config's list */
} sensitive_paths SEC(".maps");

const volatile __u64 sensitive_filter[BLOOM_WORDS] = {};
/* What most components are told by, before anything is looked up: */
const volatile __u64 sensitive_lengths[MAX_NAME_BYTES / 64] = {}; /* bit by a component's length */
const volatile __u64 sensitive_ends[ENDS_WORDS] = {}; /* bit by the hash of a last component */
/* Of those at any depth, bit by how many components they have: of files, and of directories. */
const volatile __u32 tail_depths = 0;
const volatile __u32 below_depths = 0;
const volatile bool entries_at_once = true; /* false: as if dentries were laid out in another way */

#define CHAIN_FROM_ROOT 0x2f2f2f2f2f2f2f2fULL
#define CHAIN_FROM_ANYWHERE 0x2a2a2a2a2a2a2a2aULL
#define CHAIN_BELOW 0x6c6c6c6c6c6c6c6cULL  /* what is below the directory, not itself */
#define CHAIN_FACTOR 0x9e3779b97f4a7c15ULL /* 2^64 divided by the golden ratio: Knuth, TAOCP 6.4 */

static __always_inline __u64 chain(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * CHAIN_FACTOR;
	return hash ^ hash >> 32;
}

#define NO_COMPONENT 0 /* in the place of a hash: of a name that is in no sensitive path */

/* Of the entry's name, by words of eight bytes, the last one filled up with NUL. */
__noinline __u64 hash_text(__u32 which, __u32 size)
{
	struct security_buffer *buffer = buffer_numbered(which);
	__u64 hash = 0;

	if (!buffer)
		return NO_COMPONENT;
	*(__u64 *)&buffer->entry.text[size & (MAX_NAME_BYTES - 1)] = 0;
	for (int i = 0; i < MAX_NAME_BYTES / 8 && i * 8 < size; i++)
		hash = chain(hash, *(__u64 *)&buffer->entry.text[i * 8]);
	return hash;
}

/* Whether all that is wanted of a dentry can be read at once. */
static __always_inline bool is_in_one_piece(void)
{
	__u32 parent = bpf_core_field_offset(struct dentry, d_parent);

	return entries_at_once && bpf_core_field_offset(struct dentry, d_name) == parent + 8 &&
	       bpf_core_field_offset(struct dentry, d_inode) == parent + 24;
}

static __always_inline const void *near_name_of(struct dentry *dentry)
{
	return (void *)dentry + bpf_core_field_offset(struct dentry, d_parent) +
	       __builtin_offsetof(struct entry, text);
}

/* Returns false where the name is still to be read. */
static __always_inline bool read_entry(struct entry *entry, struct dentry *dentry)
{
	if (is_in_one_piece()) {
		bpf_core_read(entry, __builtin_offsetof(struct entry, text) + NEAR_NAME,
			      &dentry->d_parent);
		return entry->size < NEAR_NAME && entry->name == near_name_of(dentry);
	}
	entry->parent = BPF_CORE_READ(dentry, d_parent);
	entry->size = BPF_CORE_READ(dentry, d_name.len);
	entry->name = BPF_CORE_READ(dentry, d_name.name);
	return false;
}

static __always_inline __u64 hash_entry(struct security_buffer *buffer, bool has_name)
{
	struct entry *entry = &buffer->entry;
	__u32 size = entry->size & (MAX_NAME_BYTES - 1);

	if (!(sensitive_lengths[size >> 6] >> (size & 63) & 1))
		return NO_COMPONENT;
	if (!has_name && bpf_probe_read_kernel(entry->text, size, entry->name))
		return NO_COMPONENT;
	return hash_text(buffer->which, size);
}

/* The hashes of a path's components; 0 where there are too many. */
__noinline __u32 hash_components(__u32 which, __u64 dentry, __u64 mount)
{
	struct security_buffer *buffer = buffer_numbered(which);
	struct step at = step_at((void *)dentry, (void *)mount);

	if (!buffer)
		return 0;
	buffer->count = 0;
	for (int i = 0; i < 2 * MAX_PATH_COMPONENTS && buffer->count < MAX_PATH_COMPONENTS; i++) {
		bool has_name;

		if (is_mount_root(&at)) {
			if (!leave_mount(&at))
				return 1;
			continue;
		}
		has_name = read_entry(&buffer->entry, at.dentry);
		buffer->hashes[buffer->count & COMPONENT_MASK] = hash_entry(buffer, has_name);
		buffer->count++;
		if (!step_up(&at, buffer->entry.parent))
			return 1;
	}
	return 0;
}

/* The number of the path with this chain; NO_SENSITIVE_PATH if there is none. */
static __always_inline __u32 find_chain(__u64 hash)
{
	__u64 word = sensitive_filter[hash >> 56 & (BLOOM_WORDS - 1)];
	__u32 *number;

	if (!(word >> (hash >> 50 & 63) & 1))
		return NO_SENSITIVE_PATH;
	number = bpf_map_lookup_elem(&sensitive_paths, &hash);
	return number ? *number : NO_SENSITIVE_PATH;
}

/* A chain that ends with the path's last component is of this file, another of a directory above it. */
static __always_inline __u32 find_end(__u64 hash, bool is_last)
{
	return find_chain(is_last ? hash : chain(hash, CHAIN_BELOW));
}

/* The chain of depth components down to the one numbered at. */
__noinline __u64 chain_of_tail(__u32 which, __u32 at, __u32 depth)
{
	struct security_buffer *buffer = buffer_numbered(which);
	__u64 hash = CHAIN_FROM_ANYWHERE;

	if (!buffer)
		return 0;
	for (__u32 i = MAX_TAIL_DEPTH; i > 0; i--)
		if (i <= depth)
			hash = chain(hash, buffer->hashes[(at + i - 1) & COMPONENT_MASK]);
	return hash;
}

static __always_inline __u32 find_tail(__u32 which, __u32 at, __u32 count)
{
	__u32 depths = at ? below_depths : tail_depths;

	for (__u32 depth = 1; depth <= MAX_TAIL_DEPTH; depth++) {
		__u32 number;

		if (!(depths >> depth & 1) || at + depth > count)
			continue;
		number = find_end(chain_of_tail(which, at, depth), at == 0);
		if (number != NO_SENSITIVE_PATH)
			return number;
	}
	return NO_SENSITIVE_PATH;
}

/* Looks for what ends with the component numbered at. */
__noinline __u32 find_component(__u32 which, __u32 at)
{
	struct security_buffer *buffer = buffer_numbered(which);
	__u32 number;

	if (!buffer)
		return NO_SENSITIVE_PATH;
	number = find_end(buffer->from_root, at == 0);
	if (number != NO_SENSITIVE_PATH)
		return number;
	return find_tail(which, at, buffer->count);
}

/* Whether a sensitive path may end with a component of this hash. */
static __always_inline bool may_end(__u64 hash)
{
	return sensitive_ends[hash >> 58] >> (hash >> 52 & 63) & 1;
}

/* The number of the sensitive path that a file is, or is below; NO_SENSITIVE_PATH: none. */
__noinline __u32 sensitive_path(__u32 which, __u64 dentry, __u64 mount)
{
	struct security_buffer *buffer = buffer_numbered(which);

	if (!buffer || !hash_components(which, dentry, mount))
		return NO_SENSITIVE_PATH;
	buffer->from_root = CHAIN_FROM_ROOT;
	/* from the root on */
	for (__u32 done = 0; done < MAX_PATH_COMPONENTS && done < buffer->count; done++) {
		__u32 at = buffer->count - 1 - done;
		__u64 hash = buffer->hashes[at & COMPONENT_MASK];
		__u32 number = NO_SENSITIVE_PATH;

		buffer->from_root = chain(buffer->from_root, hash);
		if (may_end(hash))
			number = find_component(which, at);
		if (number != NO_SENSITIVE_PATH)
			return number;
	}
	return NO_SENSITIVE_PATH;
}

#define MAX_HARD_LINKS 16 /* of a file, that are compared */

/* Where an inode's list of names hangs a name's dentry up. */
static __always_inline __u32 alias_offset(void)
{
	struct dentry___flat *flat = NULL;

	if (bpf_core_field_exists(flat->d_alias))
		return bpf_core_field_offset(struct dentry___flat, d_alias);
	return bpf_core_field_offset(struct dentry, d_u);
}

/*
 * The number of the sensitive path that one of a file's other names is. Only names that the kernel has in
 * memory can be compared: those that were used, or linked, of late.
 */
__noinline __u32 sensitive_link(__u32 which, __u64 inode, __u64 opened, __u64 mount)
{
	struct hlist_node *node = BPF_CORE_READ((struct inode *)inode, i_dentry.first);

	for (int i = 0; i < MAX_HARD_LINKS && node; i++) {
		__u64 dentry = (__u64)node - alias_offset();
		__u32 number = NO_SENSITIVE_PATH;

		if (dentry != opened)
			number = sensitive_path(which, dentry, mount);
		if (number != NO_SENSITIVE_PATH)
			return number;
		node = BPF_CORE_READ(node, next);
	}
	return NO_SENSITIVE_PATH;
}

#endif
