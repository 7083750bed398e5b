/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_HOSTMAP_H
#define PLOOP_HOSTMAP_H

#include <linux/bitops.h>
#include <linux/blk_types.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/types.h>
#include <linux/xarray.h>

/**
 * DOC: the host map
 *
 * Where the clusters of an image file lie on the host's disk, as far as that is
 * known. A cluster that lies there in one piece and is written from end to end
 * is part of a run: all that follow each other in the file and on the disk take
 * one entry. Of any other cluster a bitmap tells which units are written, and
 * lie where they would if it were in one piece; the others are not known. So a
 * file that was allocated well takes next to nothing, and the worst one a bit
 * for each unit.
 */

/** PLOOP_UNIT_SHIFT: a unit is 4 KiB */
#define PLOOP_UNIT_SHIFT	12
#define PLOOP_UNIT_BYTES	(1U << PLOOP_UNIT_SHIFT)

/**
 * struct ploop_hostmap - where clusters of a file lie
 * @tree: by cluster of the file: a run, a struct ploop_partial, or
 *        PLOOP_HOSTMAP_BARRED [@mutex; RCU]
 * @mutex: one change at a time
 * @cluster_log: log2 of the sectors of a cluster; at least a unit [const]
 */
struct ploop_hostmap {
	struct maple_tree tree;
	struct mutex mutex;
	u8 cluster_log;
};

/**
 * struct ploop_partial - a cluster of which not all is known
 * @rcu: frees it
 * @start: sector where its first unit lies, or would
 * @known: a bit for each unit: it is written, and lies in its place [atomic bits]
 */
struct ploop_partial {
	struct rcu_head rcu;
	sector_t start;
	unsigned long known[];
};

/*
 * A run is the distance in sectors from a place in the file to the place on the
 * disk, so that neighbours have the same. The disk may begin before the file:
 * the bias keeps it positive, and above the value of a cluster that is barred.
 */
#define PLOOP_HOSTMAP_BIAS	(1ULL << 50)
#define PLOOP_HOSTMAP_BARRED	xa_mk_value(0)

static inline u64 ploop_hostmap_run_start(const struct ploop_hostmap *hm, const void *run,
					  u32 iblk)
{
	return xa_to_value(run) - PLOOP_HOSTMAP_BIAS + ((u64)iblk << hm->cluster_log);
}

bool ploop_hostmap_find_part(struct ploop_hostmap *hm, u32 iblk, u32 off, u32 len,
			     sector_t *sector);

/**
 * ploop_hostmap_find() - where does a part of a cluster lie
 * @hm: the host map
 * @iblk: cluster of the file
 * @off: first byte in the cluster
 * @len: number of bytes, at least 1, within the cluster
 * @sector: out: where the first byte lies
 *
 * Context: any.
 * Return: false: not all of it is known.
 */
static inline bool ploop_hostmap_find(struct ploop_hostmap *hm, u32 iblk, u32 off, u32 len,
				      sector_t *sector)
{
	void *entry = mtree_load(&hm->tree, iblk);

	if (!entry || entry == PLOOP_HOSTMAP_BARRED)
		return false;
	if (!xa_is_value(entry))
		return ploop_hostmap_find_part(hm, iblk, off, len, sector);
	*sector = ploop_hostmap_run_start(hm, entry, iblk) + (off >> SECTOR_SHIFT);
	return true;
}

void ploop_hostmap_init(struct ploop_hostmap *hm, u8 cluster_log);
void ploop_hostmap_clear(struct ploop_hostmap *hm);
bool ploop_hostmap_add(struct ploop_hostmap *hm, u32 iblk, u32 unit, u32 n, sector_t start);
int ploop_hostmap_forget(struct ploop_hostmap *hm, u32 first, u32 last);
int ploop_hostmap_bar(struct ploop_hostmap *hm, u32 iblk);
void ploop_hostmap_unbar(struct ploop_hostmap *hm, u32 iblk);

/* Is anything of a cluster known? Context: any. */
static inline bool ploop_hostmap_knows(struct ploop_hostmap *hm, u32 iblk)
{
	void *entry = mtree_load(&hm->tree, iblk);

	return entry && entry != PLOOP_HOSTMAP_BARRED;
}

#endif /* PLOOP_HOSTMAP_H */
