/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright The otelcol-tapio Authors */

/*
 * When the programs of sockets look. They are attached and detached one by one, but begin and end at one moment: an
 * answer without its question, or an end of which not all bytes before were seen, would tell what did not happen.
 */
#ifndef TAPIO_WATCH_H
#define TAPIO_WATCH_H

#include "kernel.h"

#define WATCHING 1

/* Set by the receiver. */
struct watch {
	__u64 state; /* 0: not all are attached yet; WATCHING; else when that ended, CLOCK_BOOTTIME, ns */
	__u64 round; /* when the round of iterators that runs began, CLOCK_BOOTTIME, ns */
};

volatile struct watch watch = {};

static __always_inline bool is_watching(void)
{
	return watch.state == WATCHING;
}

static __always_inline bool has_ended(void)
{
	return watch.state > WATCHING;
}

/*
 * Whether nothing was heard for so long when the round began. Since then all that lives was visited; the machine may have
 * been suspended between that and now.
 */
static __always_inline bool is_silent(__u64 live, __u64 after)
{
	return (__s64)(watch.round - live) > (__s64)after;
}

#endif
