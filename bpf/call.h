/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * System calls, seen in one of two ways by the same code: a program of its own at each call that matters
 * (fentry and fexit; no other call is slower), or one program at all calls of the node (tp_btf/sys_enter
 * and sys_exit) where a kernel has no fentry.
 */
#ifndef TAPIO_CALL_H
#define TAPIO_CALL_H

#include "kernel.h"

/* How a call names a file; the high byte of what the loader says of a call. */
enum call_form {
	FORM_PATH = 0, /* a path is its first argument, or it names none */
	FORM_AT = 1,   /* a directory's descriptor comes before the path */
	FORM_FD = 2,   /* by a descriptor, its first argument */
	FORM_HOW = 3,  /* as FORM_AT, and how to open it is a struct open_how */
	FORM_MADE = 4, /* as FORM_PATH, and the file is made or emptied, to be written */
};

#define MAX_CALLS 512 /* numbers are below it on amd64 and arm64 */
#define FORM_SHIFT 8
#define CALL_MASK ((1 << FORM_SHIFT) - 1)

/*
 * Set by the loader. A call is what it does (a number of the family's own; 0: of no interest) and its
 * enum call_form. A program that has one call to itself has it in only_call, and all that is for others
 * is no part of it any more.
 */
const volatile __u16 only_call = 0;
const volatile __u32 only_buffer = 0; /* that it has to itself */
const volatile __u16 calls[MAX_CALLS] = {};

static __always_inline struct task_struct *current_task(void)
{
	return (void *)bpf_get_current_task();
}

static __always_inline __u64 argument(struct pt_regs *regs, int n)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm64 = (void *)regs;

	if (!bpf_core_field_exists(x86->orig_ax))
		return n ? BPF_CORE_READ(arm64, regs[n]) : BPF_CORE_READ(arm64, orig_x0);
	switch (n) {
	case 0:
		return BPF_CORE_READ(x86, di);
	case 1:
		return BPF_CORE_READ(x86, si);
	case 2:
		return BPF_CORE_READ(x86, dx);
	case 3:
		return BPF_CORE_READ(x86, r10);
	case 4:
		return BPF_CORE_READ(x86, r8);
	default:
		return BPF_CORE_READ(x86, r9);
	}
}

/* An argument that is a pointer, as the number that functions which are verified by themselves take. */
static __always_inline __u64 number_of(unsigned long long *ctx, int n)
{
	__u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &ctx[n]);
	return number;
}

static __always_inline bool is_error(__u64 pointer)
{
	return pointer >= (__u64)-MAX_ERRNO;
}

/* The numbers of 32-bit calls are others. */
static __always_inline bool is_compat(struct task_struct *task)
{
	struct thread_info___x86 *x86 = (void *)&task->thread_info;

	if (bpf_core_field_exists(x86->status))
		return BPF_CORE_READ(x86, status) & TS_COMPAT;
	return BPF_CORE_READ(task, thread_info.flags) & TIF_32BIT;
}

/*
 * The number of the call that a tracepoint's registers are of. Read as the verifier knows them, not copied:
 * this is what every call of the node costs.
 */
static __always_inline __u64 call_number(struct pt_regs *regs)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm64 = (void *)regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return (__u32)x86->orig_ax; /* all that the kernel goes by, since Linux 5.14 */
	return (__u32)arm64->syscallno;
}

/* What is called, where it is one of those that matter; else 0. */
static __always_inline __u16 call_of(__u64 number)
{
	__u16 call;

	if (number >= MAX_CALLS)
		return 0;
	call = calls[number];
	return call && !is_compat(current_task()) ? call : 0;
}

/* Descriptors are of 32 bits, whatever else is in the register. */
static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (fd < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

#endif
