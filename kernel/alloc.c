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

/* Which clusters of the file the top delta uses, as the map has it. */
static int collect_used(struct ploop_device *plo, struct ploop_bitmap *used, u64 *head)
{
	u32 clu;
	int err;

	for (clu = 0; clu < plo->map->clusters;) {
		u64 entry = ploop_map_lookup(plo->map, clu);

		if (!entry) {
			clu = ploop_map_hole_end(plo->map, clu);
			continue;
		}
		clu++;
		if (!ploop_entry_is_top(plo, entry))
			continue;
		err = ploop_bitmap_set(used, ploop_entry_iblk(entry), GFP_KERNEL);
		if (err < 0)
			return err;
		*head = max_t(u64, *head, (u64)ploop_entry_iblk(entry) + 1);
		cond_resched();
	}
	return 0;
}

/*
 * What nobody refers to may hold data that were never flushed: dirty. More free
 * clusters than the disk has need not be remembered, whatever the image says.
 */
static int free_holes(struct ploop_device *plo, struct ploop_bitmap *used)
{
	u64 from = plo->top->index_clusters, end = plo->alloc.head;
	u64 left = plo->map->clusters;
	int err;

	while (left && (from = ploop_bitmap_next_clear(used, from, end)) < end) {
		u64 to = ploop_bitmap_next_set(used, from, min(end, from + left));

		left -= to - from;

		err = ploop_free_extent(plo, from, to - from, GFP_KERNEL);
		if (err)
			return err;
		from = to;
	}
	return 0;
}

/**
 * ploop_alloc_start() - learn the free clusters of the top delta
 * @plo: device about to run
 *
 * Cuts what lies behind the last used cluster off the file: it reads as zeros
 * when it comes back.
 *
 * Context: process, may sleep; ctl_mutex; no bio is served.
 * Return: 0 or a negative errno.
 */
int ploop_alloc_start(struct ploop_device *plo)
{
	struct ploop_alloc *a = &plo->alloc;
	struct ploop_delta *top = plo->top;
	struct ploop_bitmap used;
	int err;

	ploop_bitmap_init(&a->clean);
	ploop_bitmap_init(&a->reusable);
	a->cursor = 0;
	if (top->rdonly || !top->fmt->stackable)
		return 0;
	a->head = top->index_clusters;
	ploop_bitmap_init(&used);
	err = collect_used(plo, &used, &a->head);
	if (!err)
		err = free_holes(plo, &used);
	ploop_bitmap_destroy(&used);
	if (err)
		goto out_drop;
	a->prealloc_end = a->head;
	if (top->io->size(top) > ploop_iblk_pos(plo, a->head))
		err = top->io->truncate(top, ploop_iblk_pos(plo, a->head));
	if (!err)
		return 0;
out_drop:
	ploop_reclaim_drop(plo);
	return err;
}

/**
 * ploop_alloc_stop() - cut the space allocated ahead, forget the free clusters
 * @plo: device that served its last bio; its index is durable
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or a negative errno; the file is then longer than needed.
 */
int ploop_alloc_stop(struct ploop_device *plo)
{
	struct ploop_alloc *a = &plo->alloc;
	struct ploop_delta *top = plo->top;
	int err = 0;

	if (!top->rdonly && top->fmt->stackable && !test_bit(PLOOP_S_ABORT, &plo->state)) {
		while (a->head > top->index_clusters &&
		       (ploop_bitmap_test(&a->clean, a->head - 1) ||
			ploop_bitmap_test(&a->reusable, a->head - 1)))
			a->head--;
		err = top->io->truncate(top, ploop_iblk_pos(plo, a->head));
	}
	ploop_bitmap_destroy(&a->clean);
	ploop_bitmap_destroy(&a->reusable);
	ploop_reclaim_drop(plo);
	return err;
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

static int prealloc(struct ploop_device *plo, u64 clusters)
{
	struct ploop_alloc *a = &plo->alloc;
	struct ploop_delta *top = plo->top;
	int err;

	err = top->io->prealloc(top, ploop_iblk_pos(plo, a->prealloc_end),
				ploop_iblk_pos(plo, clusters));
	if (!err)
		a->prealloc_end += clusters;
	else
		/* A full host keeps what it could allocate: others need it more. */
		top->io->truncate(top, ploop_iblk_pos(plo, a->prealloc_end));
	return err;
}

/* Doubles the file, in steps of at most PREALLOC_MAX_BYTES. */
static int extend(struct ploop_device *plo)
{
	struct ploop_alloc *a = &plo->alloc;
	u64 step = max(PREALLOC_MAX_BYTES / ploop_cluster_bytes(plo), 1U);
	u64 limit = min_t(u64, (u64)plo->top->max_iblk + 1, plo->top->max_clusters);
	int err;

	if (a->head >= limit)
		return -EFBIG;
	if (a->head < a->prealloc_end)
		return 0;
	step = min3(step, max_t(u64, a->head, 1), limit - a->head);
	err = prealloc(plo, step);
	if (ploop_must_park(err) && step > 1)
		err = prealloc(plo, 1);
	return err;
}

/**
 * ploop_alloc_cluster() - take a free cluster of the top delta's file
 * @plo: the device; its top is writable and stackable
 * @iblk: out: the cluster
 * @clean: out: it reads as zeros; else the caller must fill it
 *
 * Context: worker, may sleep in the host filesystem.
 * Return: 0; -ENOSPC or -EDQUOT: the host is full now; -EFBIG: the image has
 * reached its limit; other errors of the host.
 */
int ploop_alloc_cluster(struct ploop_device *plo, u32 *iblk, bool *clean)
{
	struct ploop_alloc *a = &plo->alloc;
	int err = 0;

	mutex_lock(&a->mutex);
	*clean = true;
	if (take_from(a, &a->clean, iblk))
		goto out_unlock;
	if (take_from(a, &a->reusable, iblk)) {
		*clean = false;
		goto out_unlock;
	}
	err = extend(plo);
	if (!err)
		*iblk = a->head++;
out_unlock:
	mutex_unlock(&a->mutex);
	return err;
}

/**
 * ploop_free_cluster() - give back a cluster
 * @plo: the device
 * @iblk: the cluster; no entry of the map refers to it any more
 *
 * It becomes allocatable when no bio can know it any more, the index that does
 * not name it is durable, and its content is gone. When memory is too short to
 * remember it, it stays unused until the device is started again.
 *
 * Context: worker.
 */
void ploop_free_cluster(struct ploop_device *plo, u32 iblk)
{
	ploop_stat_inc(plo, PLOOP_STAT_CLUSTERS_FREED);
	if (!ploop_free_extent(plo, iblk, 1, GFP_NOIO | __GFP_NOWARN))
		ploop_reclaim_now(plo);
}
