// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocation of clusters in the top delta's file.
 *
 * A free cluster is clean (known to read as zeros, also after power loss) or
 * dirty. Only clean ones are given out, except on dense devices, which fill
 * each new cluster from end to end.
 */
#include "ploop.h"

#include <linux/slab.h>

#define PREALLOC_MAX_BYTES	(128U << 20)

/* Which clusters of the file the delta uses, as the map has it. */
static int collect_used(struct ploop_delta *delta, const struct ploop_map *map,
			struct ploop_bitmap *used)
{
	struct ploop_alloc *a = &delta->alloc;
	u32 clu;
	int err;

	for (clu = 0; clu < map->clusters;) {
		u64 entry = ploop_map_lookup(map, clu);

		if (!entry) {
			clu = ploop_map_hole_end(map, clu);
			continue;
		}
		clu++;
		if (ploop_entry_slot(entry) != delta->slot)
			continue;
		err = ploop_bitmap_set(used, ploop_entry_iblk(entry), GFP_KERNEL);
		if (err < 0)
			return err;
		a->head = max_t(u64, a->head, (u64)ploop_entry_iblk(entry) + 1);
		cond_resched();
	}
	return 0;
}

/*
 * What nobody refers to may hold data that were never flushed: dirty. More free
 * clusters than the disk has need not be remembered, whatever the image says.
 */
static int free_holes(struct ploop_delta *delta, const struct ploop_map *map,
		      struct ploop_bitmap *used)
{
	u64 from = delta->index_clusters, end = delta->alloc.head;
	u64 left = map->clusters;
	int err;

	while (left && (from = ploop_bitmap_next_clear(used, from, end)) < end) {
		u64 to = ploop_bitmap_next_set(used, from, min(end, from + left));

		left -= to - from;
		err = ploop_free_extent(delta, from, to - from, GFP_KERNEL);
		if (err)
			return err;
		from = to;
	}
	return 0;
}

/**
 * ploop_alloc_start() - learn the free clusters of a delta
 * @delta: writable delta that is about to become the top of a running device
 * @map: map in which all clusters of the delta are found
 *
 * Cuts what lies behind the last used cluster off the file: it reads as zeros
 * when it comes back.
 *
 * Context: process, may sleep; ctl_mutex; nobody writes to the delta.
 * Return: 0 or a negative errno.
 */
int ploop_alloc_start(struct ploop_delta *delta, const struct ploop_map *map)
{
	struct ploop_device *plo = delta->plo;
	struct ploop_alloc *a = &delta->alloc;
	struct ploop_bitmap used;
	int err;

	ploop_bitmap_init(&a->clean);
	ploop_bitmap_init(&a->reusable);
	a->cursor = 0;
	a->floor = 0;
	if (delta->rdonly || !delta->fmt->stackable)
		return 0;
	a->head = delta->index_clusters;
	ploop_bitmap_init(&used);
	err = collect_used(delta, map, &used);
	if (!err)
		err = free_holes(delta, map, &used);
	ploop_bitmap_destroy(&used);
	if (err)
		goto out_drop;
	a->prealloc_end = a->head;
	if (delta->io->size(delta) > ploop_iblk_pos(plo, a->head))
		err = delta->io->truncate(delta, ploop_iblk_pos(plo, a->head));
	if (!err)
		return 0;
out_drop:
	ploop_reclaim_drop(delta);
	return err;
}

/**
 * ploop_alloc_stop() - cut the space allocated ahead, forget the free clusters
 * @delta: delta that served its last write; its index is durable
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or a negative errno; the file is then longer than needed.
 */
int ploop_alloc_stop(struct ploop_delta *delta)
{
	struct ploop_device *plo = delta->plo;
	struct ploop_alloc *a = &delta->alloc;
	int err = 0;

	if (!delta->rdonly && delta->fmt->stackable && !test_bit(PLOOP_S_ABORT, &plo->state)) {
		while (a->head > delta->index_clusters &&
		       (ploop_bitmap_test(&a->clean, a->head - 1) ||
			ploop_bitmap_test(&a->reusable, a->head - 1)))
			a->head--;
		err = delta->io->truncate(delta, ploop_iblk_pos(plo, a->head));
	}
	ploop_bitmap_destroy(&a->clean);
	ploop_bitmap_destroy(&a->reusable);
	ploop_reclaim_drop(delta);
	return err;
}

static void clear_below(struct ploop_bitmap *set, u64 floor)
{
	u64 bit = 0;

	while (set->weight && (bit = ploop_bitmap_next_set(set, bit, floor)) < floor)
		ploop_bitmap_clear(set, bit++);
}

/**
 * ploop_alloc_set_floor() - keep the beginning of a file free of new clusters
 * @delta: top delta of a running device
 * @floor: no cluster below this is given out; 0: no limit
 *
 * An allocation made before may still not be in the map when this returns.
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_alloc_set_floor(struct ploop_delta *delta, u32 floor)
{
	struct ploop_alloc *a = &delta->alloc;

	mutex_lock(&a->mutex);
	a->floor = floor;
	a->head = max_t(u64, a->head, floor);
	a->prealloc_end = max(a->prealloc_end, a->head);
	clear_below(&a->clean, floor);
	clear_below(&a->reusable, floor);
	mutex_unlock(&a->mutex);
}

static bool take_from(struct ploop_alloc *a, struct ploop_bitmap *set, u32 *iblk)
{
	u64 found;

	if (!set->weight)
		return false;
	found = ploop_bitmap_next_set(set, a->cursor, a->head);
	if (found == a->head)
		found = ploop_bitmap_next_set(set, 0, a->cursor);
	ploop_bitmap_clear(set, found);
	a->cursor = found + 1;
	*iblk = found;
	return true;
}

static int prealloc(struct ploop_delta *delta, u64 clusters)
{
	struct ploop_device *plo = delta->plo;
	struct ploop_alloc *a = &delta->alloc;
	int err;

	err = delta->io->prealloc(delta, ploop_iblk_pos(plo, a->prealloc_end),
				  ploop_iblk_pos(plo, clusters));
	if (!err)
		a->prealloc_end += clusters;
	else
		/* A full host keeps what it could allocate: others need it more. */
		delta->io->truncate(delta, ploop_iblk_pos(plo, a->prealloc_end));
	return err;
}

/* Doubles the file, in steps of at most PREALLOC_MAX_BYTES. */
static int extend(struct ploop_delta *delta)
{
	struct ploop_alloc *a = &delta->alloc;
	u64 step = max(PREALLOC_MAX_BYTES / ploop_cluster_bytes(delta->plo), 1U);
	u64 limit = min_t(u64, (u64)delta->max_iblk + 1, delta->max_clusters);
	int err;

	if (a->head >= limit)
		return -EFBIG;
	if (a->head < a->prealloc_end)
		return 0;
	step = min3(step, max_t(u64, a->head, 1), limit - a->head);
	err = prealloc(delta, step);
	if (ploop_must_park(err) && step > 1)
		err = prealloc(delta, 1);
	return err;
}

/**
 * ploop_alloc_cluster() - take a free cluster of the top delta's file
 * @delta: the top delta, writable and stackable
 * @iblk: out: the cluster
 * @clean: out: it reads as zeros; else the caller must fill it
 *
 * Context: worker, may sleep in the host filesystem.
 * Return: 0; -ENOSPC or -EDQUOT: the host is full now; -EFBIG: the image has
 * reached its limit; other errors of the host.
 */
int ploop_alloc_cluster(struct ploop_delta *delta, u32 *iblk, bool *clean)
{
	struct ploop_alloc *a = &delta->alloc;
	int err = 0;

	mutex_lock(&a->mutex);
	*clean = true;
	if (take_from(a, &a->clean, iblk))
		goto out_unlock;
	if (take_from(a, &a->reusable, iblk)) {
		*clean = false;
		goto out_unlock;
	}
	err = extend(delta);
	if (!err)
		*iblk = a->head++;
out_unlock:
	mutex_unlock(&a->mutex);
	return err;
}

/**
 * ploop_free_cluster() - give back a cluster
 * @delta: the top delta
 * @iblk: the cluster; no entry of the map refers to it any more
 *
 * It becomes allocatable when no bio can know it any more, the index that does
 * not name it is durable, and its content is gone. When memory is too short to
 * remember it, it stays unused until the device is started again.
 *
 * Context: worker.
 */
void ploop_free_cluster(struct ploop_delta *delta, u32 iblk)
{
	ploop_stat_inc(delta->plo, PLOOP_STAT_CLUSTERS_FREED);
	if (!ploop_free_extent(delta, iblk, 1, GFP_NOIO | __GFP_NOWARN))
		ploop_reclaim_now(delta->plo);
}
