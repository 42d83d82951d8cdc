/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* What several CPUs may do at a time. */
#ifndef TAPIO_ATOMIC_H
#define TAPIO_ATOMIC_H

#include "kernel.h"

/*
 * Takes a word that is 0 for a value, in one step, and returns what was there: 0 if it was taken.
 * The compiler has this only for instruction sets that our oldest kernels do not know, so it is
 * written out (Linux 5.12; on arm64 5.18). Kernels that do not know it refuse it also where it is
 * never reached: for these the loader has r0 = 0 in its place, and says that it must not be used.
 */
static __always_inline __u64 take_word(__u64 *word, __u64 value)
{
	__u64 found;

	asm volatile("r1 = %[word]\n\t"
		     "r2 = %[value]\n\t"
		     "r0 = 0\n\t"
		     "r0 = cmpxchg_64(r1 + 0, r0, r2)\n\t"
		     "%[found] = r0"
		     : [found] "=r"(found)
		     : [word] "r"(word), [value] "r"(value)
		     : "r0", "r1", "r2", "memory");
	return found;
}

/* Everything that was written while it was taken is seen before this by whoever takes it next. */
static __always_inline void release_word(__u64 *word)
{
	asm volatile("r1 = %[word]\n\t"
		     "r0 = 0\n\t"
		     "r0 = xchg_64(r1 + 0, r0)"
		     :
		     : [word] "r"(word)
		     : "r0", "r1", "memory");
}

#endif
