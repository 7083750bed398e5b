/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_STATS_H
#define PLOOP_STATS_H

#include <linux/percpu.h>
#include <linux/types.h>

/*
 * Counters of a device, sysfs pstat/<name>. The names are the original's; those
 * that count something this driver does not have are absent.
 */
#define PLOOP_STATS(X)							\
	X(bio_in)		/* bios submitted, after splitting */	\
	X(bio_out)		/* bios completed */			\
	X(bio_splits)		/* bios cut at a cluster border */	\
	X(bio_rzero)		/* reads of holes */			\
	X(bio_wzero)		/* writes of zeros to holes */		\
	X(bio_alloc)		/* writes that allocated a cluster */	\
	X(bio_alloc_whole)	/* ... and filled it */			\
	X(bio_cows)		/* copy-ups from a lower delta */	\
	X(bio_whole_cows)	/* ... that needed no read */		\
	X(bio_lockouts)		/* waits for the owner of a cluster */	\
	X(bio_flush_in)		/* flushes asked for */			\
	X(bio_fua_in)		/* FUA writes asked for */		\
	X(bio_fsync)		/* syncs of image files */		\
	X(bio_flush_skip)	/* flushes with nothing to do */	\
	X(bio_discard)		/* discards and zeroings */		\
	X(bio_parked)		/* waits for space or memory */		\
	X(map_single_writes)	/* index pages written */		\
	X(clusters_freed)	/* clusters given back */

/**
 * struct ploop_stats - counters of one CPU
 */
struct ploop_stats {
#define X(name) u64 name;
	PLOOP_STATS(X)
#undef X
};

#define ploop_stat_inc(plo, name)	this_cpu_inc((plo)->stats->name)
#define ploop_stat_add(plo, name, n)	this_cpu_add((plo)->stats->name, n)

#endif /* PLOOP_STATS_H */
