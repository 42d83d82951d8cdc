/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * Paths, as the kernel keeps them: dentries and mounts, walked from the last component to the first.
 * MAX_TAIL_BYTES, a power of two, is set before: how long a record's tail may become.
 */
#ifndef TAPIO_PATH_H
#define TAPIO_PATH_H

#include "event.h"
#include "kernel.h"

#define MAX_PATH_COMPONENTS 64
#define MAX_NAME_BYTES 256 /* NAME_MAX and its NUL */
#define TAIL_MASK (MAX_TAIL_BYTES - 1)

static __always_inline struct mount *mount_of(struct vfsmount *vfsmount)
{
	return (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
}

static __always_inline struct vfsmount *vfsmount_of(struct mount *mount)
{
	return (void *)mount + bpf_core_field_offset(struct mount, mnt);
}

/*
 * How much of the tail is used stands in memory and not in a register: the verifier then forgets
 * its exact range at every step, and the many ways through a path's loop become one to it.
 */
static __always_inline char *tail_at(char *tail, __u64 *used)
{
	return &tail[*used & TAIL_MASK];
}

static __always_inline void append_component(char *tail, __u64 *used, struct dentry *dentry)
{
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	long size = bpf_probe_read_kernel_str(tail_at(tail, used), MAX_NAME_BYTES, name);

	if (size > 0)
		*used += size;
}

/* Where a walk stands. */
struct step {
	struct dentry *dentry;
	struct vfsmount *mount;
	struct dentry *root; /* of the mount */
};

static __always_inline struct step step_at(struct dentry *dentry, struct vfsmount *mount)
{
	return (struct step){dentry, mount, BPF_CORE_READ(mount, mnt_root)};
}

/*
 * The kernel's d_path may not be called from here, so its way is walked: dentries up to the mount's root,
 * then on from where that is mounted.
 */
static __always_inline bool is_mount_root(struct step *at)
{
	return at->dentry == at->root;
}

/* False: nothing is above. */
static __always_inline bool leave_mount(struct step *at)
{
	struct mount *mount = mount_of(at->mount);
	struct mount *mounted_on = BPF_CORE_READ(mount, mnt_parent);

	if (mounted_on == mount)
		return false;
	*at = step_at(BPF_CORE_READ(mount, mnt_mountpoint), vfsmount_of(mounted_on));
	return true;
}

/* False: nothing is above, and no mount either, as with a memfd. */
static __always_inline bool step_up(struct step *at, struct dentry *parent)
{
	bool is_top = parent == at->dentry;

	at->dentry = parent;
	return !is_top;
}

/* The components of a path from the last to the first; returns false where a limit cut it off. */
static __always_inline bool append_steps(char *tail, __u64 *used, struct step at)
{
	__u64 limit = *used + MAX_PATH_BYTES - MAX_NAME_BYTES;

	for (int i = 0; i < MAX_PATH_COMPONENTS && *used < limit; i++) {
		struct dentry *dentry = at.dentry;

		if (is_mount_root(&at)) {
			if (!leave_mount(&at))
				return true;
			continue;
		}
		append_component(tail, used, dentry);
		if (!step_up(&at, BPF_CORE_READ(dentry, d_parent)))
			return true;
	}
	return false;
}

static __always_inline bool append_path(char *tail, __u64 *used, struct path *path)
{
	struct dentry *dentry = BPF_CORE_READ(path, dentry);
	struct vfsmount *mount = BPF_CORE_READ(path, mnt);

	return append_steps(tail, used, step_at(dentry, mount));
}

#endif
