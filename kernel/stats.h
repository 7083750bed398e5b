/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_STATS_H
#define PLOOP_STATS_H

#include <linux/percpu.h>
#include <linux/types.h>

/**
 * enum ploop_stat - counters of a device, sysfs pstat/<name>
 * @PLOOP_STAT_BIO_IN: bios submitted, after splitting
 * @PLOOP_STAT_BIO_OUT: bios completed
 * @PLOOP_STAT_BIO_SPLITS: bios cut at a cluster border
 * @PLOOP_STAT_BIO_RZERO: reads of holes
 * @PLOOP_STAT_BIO_WZERO: writes of zeros to holes
 * @PLOOP_STAT_BIO_ALLOC: writes that allocated a cluster
 * @PLOOP_STAT_BIO_ALLOC_WHOLE: ... and filled it
 * @PLOOP_STAT_BIO_COWS: copy-ups from a lower delta
 * @PLOOP_STAT_BIO_WHOLE_COWS: ... that needed no read
 * @PLOOP_STAT_BIO_LOCKOUTS: waits for the owner of a cluster
 * @PLOOP_STAT_BIO_FLUSH_IN: flushes asked for
 * @PLOOP_STAT_BIO_FUA_IN: FUA writes asked for
 * @PLOOP_STAT_BIO_FSYNC: syncs of image files
 * @PLOOP_STAT_BIO_FLUSH_SKIP: flushes with nothing to do
 * @PLOOP_STAT_BIO_DISCARD: discards and zeroings
 * @PLOOP_STAT_BIO_PARKED: waits for space or memory
 * @PLOOP_STAT_MAP_SINGLE_WRITES: index pages written
 * @PLOOP_STAT_CLUSTERS_FREED: clusters given back
 * @PLOOP_STAT_BIO_FAST: bios that bypassed the host's filesystem; not in the original
 * @PLOOP_NR_STATS: number of counters
 *
 * The names are the original's; those that count something this driver does
 * not have are absent.
 */
enum ploop_stat {
	PLOOP_STAT_BIO_IN,
	PLOOP_STAT_BIO_OUT,
	PLOOP_STAT_BIO_SPLITS,
	PLOOP_STAT_BIO_RZERO,
	PLOOP_STAT_BIO_WZERO,
	PLOOP_STAT_BIO_ALLOC,
	PLOOP_STAT_BIO_ALLOC_WHOLE,
	PLOOP_STAT_BIO_COWS,
	PLOOP_STAT_BIO_WHOLE_COWS,
	PLOOP_STAT_BIO_LOCKOUTS,
	PLOOP_STAT_BIO_FLUSH_IN,
	PLOOP_STAT_BIO_FUA_IN,
	PLOOP_STAT_BIO_FSYNC,
	PLOOP_STAT_BIO_FLUSH_SKIP,
	PLOOP_STAT_BIO_DISCARD,
	PLOOP_STAT_BIO_PARKED,
	PLOOP_STAT_MAP_SINGLE_WRITES,
	PLOOP_STAT_CLUSTERS_FREED,
	PLOOP_STAT_BIO_FAST,
	PLOOP_NR_STATS
};

/**
 * struct ploop_stats - counters of one CPU
 * @count: by enum ploop_stat
 */
struct ploop_stats {
	u64 count[PLOOP_NR_STATS];
};

#define ploop_stat_add(plo, id, n)	this_cpu_add((plo)->stats->count[id], n)
#define ploop_stat_inc(plo, id)		ploop_stat_add(plo, id, 1)

#endif /* PLOOP_STATS_H */
