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

/* Set by the receiver: 0: not all are attached yet; WATCHING; else when that ended, CLOCK_BOOTTIME, ns. */
volatile __u64 watch = 0;

static __always_inline bool is_watching(void)
{
	return watch == WATCHING;
}

static __always_inline bool has_ended(void)
{
	return watch > WATCHING;
}

#endif
