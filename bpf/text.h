/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/* Text, eight characters at a time. */
#ifndef TAPIO_TEXT_H
#define TAPIO_TEXT_H

#include "kernel.h"

/* Eight bytes of which the first is the lowest. */
static __always_inline __u64 in_order(__u64 word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return word;
#else
	return __builtin_bswap64(word);
#endif
}

/* Eight characters as a word in which the first is the lowest byte. */
#define TEXT8(a, b, c, d, e, f, g, h)                                                              \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

#endif
