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
#include <kunit/visibility.h>

#define PREALLOC_MAX_BYTES	(128U << 20)

/**
 * ploop_alloc_used() - find out which clusters of its file a delta uses
 * @delta: the delta
 * @map: map in which all its clusters are found
 * @used: out: they are added to this set; may be NULL
 * @end: out: one past the last of them, or the end of the index
 *
 * Of clusters that are moved or allocated meanwhile either state may be seen.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or -ENOMEM.
 */
int ploop_alloc_used(const struct ploop_delta *delta, const struct ploop_map *map,
		     struct ploop_bitmap *used, u64 *end)
{
	u32 clu;
	int err;

	*end = delta->index_clusters;
	for (clu = 0; clu < map->clusters;) {
		u64 entry = ploop_map_lookup(map, clu);

		if (!entry) {
			clu = ploop_map_hole_end(map, clu);
			continue;
		}
		clu++;
		if (ploop_entry_slot(entry) != delta->slot)
			continue;
		err = used ? ploop_bitmap_set(used, ploop_entry_iblk(entry), GFP_KERNEL) : 0;
		if (err < 0)
			return err;
		*end = max_t(u64, *end, (u64)ploop_entry_iblk(entry) + 1);
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
	a->ceiling = PLOOP_NO_CEILING;
	if (delta->rdonly || !delta->fmt->stackable)
		return 0;
	ploop_bitmap_init(&used);
	err = ploop_alloc_used(delta, map, &used, &a->head);
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

/* Free clusters at the end of the file are not part of it. */
static void lower_head(struct ploop_alloc *a, u64 end)
{
	while (a->head > end && (ploop_bitmap_test(&a->clean, a->head - 1) ||
				 ploop_bitmap_test(&a->reusable, a->head - 1))) {
		a->head--;
		ploop_bitmap_clear(&a->clean, a->head);
		ploop_bitmap_clear(&a->reusable, a->head);
	}
}

/**
 * ploop_alloc_trim() - give back what is free at the end of the file
 * @delta: top delta of a running device
 *
 * Space allocated ahead too: new clusters find holes first. All of that reads as
 * zeros, also when the file has its old size again after power loss.
 *
 * Context: worker, may sleep; not while a client works with the index: it knows
 * where the file ends.
 */
void ploop_alloc_trim(struct ploop_delta *delta)
{
	struct ploop_alloc *a = &delta->alloc;

	if (delta->rdonly || !delta->fmt->stackable)
		return;
	mutex_lock(&a->mutex);
	lower_head(a, max_t(u64, a->floor, delta->index_clusters));
	if (a->prealloc_end > a->head &&
	    !delta->io->truncate(delta, ploop_iblk_pos(delta->plo, a->head)))
		a->prealloc_end = a->head;
	mutex_unlock(&a->mutex);
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
		lower_head(a, delta->index_clusters);
		err = delta->io->truncate(delta, ploop_iblk_pos(plo, a->head));
	}
	ploop_bitmap_destroy(&a->clean);
	ploop_bitmap_destroy(&a->reusable);
	ploop_reclaim_drop(delta);
	return err;
}

static void clear_bits(struct ploop_bitmap *set, u64 from, u64 end)
{
	while (set->weight && (from = ploop_bitmap_next_set(set, from, end)) < end)
		ploop_bitmap_clear(set, from++);
}

/**
 * ploop_alloc_limit() - say where new clusters may lie
 * @delta: top delta of a running device
 * @floor: no cluster below this is given out
 * @ceiling: no hole from this on is given out, but the end of the file is
 *
 * An allocation made before may still not be in the map when this returns.
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_alloc_limit(struct ploop_delta *delta, u64 floor, u64 ceiling)
{
	struct ploop_alloc *a = &delta->alloc;

	mutex_lock(&a->mutex);
	a->floor = floor;
	a->ceiling = ceiling;
	/* The lowest holes first. */
	a->cursor = 0;
	a->head = max(a->head, floor);
	a->prealloc_end = max(a->prealloc_end, a->head);
	mutex_unlock(&a->mutex);
}

/**
 * ploop_alloc_unlimit() - end of ploop_alloc_limit()
 * @delta: the delta; its index may have grown over free clusters
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_alloc_unlimit(struct ploop_delta *delta)
{
	struct ploop_alloc *a = &delta->alloc;

	mutex_lock(&a->mutex);
	a->floor = 0;
	a->ceiling = PLOOP_NO_CEILING;
	clear_bits(&a->clean, 0, delta->index_clusters);
	clear_bits(&a->reusable, 0, delta->index_clusters);
	mutex_unlock(&a->mutex);
}

/**
 * ploop_alloc_freeze() - from now on new clusters lie at the end of the file only
 * @delta: top delta of a running device
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: the end of the file, clusters.
 */
u64 ploop_alloc_freeze(struct ploop_delta *delta)
{
	struct ploop_alloc *a = &delta->alloc;
	u64 head;

	mutex_lock(&a->mutex);
	head = a->floor = a->head;
	mutex_unlock(&a->mutex);
	return head;
}

/**
 * ploop_alloc_head() - where the file ends
 * @delta: top delta of a running device
 *
 * Context: process, may sleep.
 * Return: the end of the file, clusters; what is allocated ahead is behind it.
 */
u64 ploop_alloc_head(struct ploop_delta *delta)
{
	struct ploop_alloc *a = &delta->alloc;
	u64 head;

	mutex_lock(&a->mutex);
	head = a->head;
	mutex_unlock(&a->mutex);
	return head;
}

/**
 * ploop_alloc_has_room() - can a cluster move down
 * @delta: top delta of a running device
 *
 * Context: worker, may sleep.
 * Return: false when holes only are wanted, and there is none.
 */
bool ploop_alloc_has_room(struct ploop_delta *delta)
{
	struct ploop_alloc *a = &delta->alloc;
	bool room;

	mutex_lock(&a->mutex);
	room = a->ceiling == PLOOP_NO_CEILING ||
	       ploop_bitmap_next_set(&a->clean, a->floor, a->ceiling) < a->ceiling ||
	       ploop_bitmap_next_set(&a->reusable, a->floor, a->ceiling) < a->ceiling;
	mutex_unlock(&a->mutex);
	return room;
}

/**
 * ploop_alloc_plan() - how short can the file become
 * @delta: top delta of a running device
 * @used: clusters in use
 * @window: the file does not become shorter than this, clusters
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: the lowest cluster such that all used ones from it on have a hole
 * below it to move to.
 */
u64 ploop_alloc_plan(struct ploop_delta *delta, struct ploop_bitmap *used, u64 window)
{
	struct ploop_alloc *a = &delta->alloc;
	u64 end, holes, above = 0;

	mutex_lock(&a->mutex);
	holes = a->clean.weight + a->reusable.weight;
	for (end = a->head; end > window; end--) {
		holes -= ploop_bitmap_test(&a->clean, end - 1) ||
			 ploop_bitmap_test(&a->reusable, end - 1);
		above += ploop_bitmap_test(used, end - 1);
		if (above > holes)
			break;
	}
	mutex_unlock(&a->mutex);
	return end;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_alloc_plan);

/**
 * ploop_alloc_cut() - cut free clusters off the end of the file
 * @delta: top delta of a running device
 * @head: end of the file when the caller found out that they are free
 * @end: clusters that the file keeps; the index on the disk names none from it
 *       on, nobody knows one from an older lookup, and none is given out
 *
 * Durable when this returns, so that what comes there next reads as zeros.
 *
 * Context: process, sleeps; flush_mutex.
 * Return: 0; -EAGAIN the file has become longer; errors of the host.
 */
int ploop_alloc_cut(struct ploop_delta *delta, u64 head, u64 end)
{
	struct ploop_alloc *a = &delta->alloc;
	int err = -EAGAIN;

	lockdep_assert_held(&delta->plo->flush_mutex);
	mutex_lock(&a->mutex);
	if (a->head != head)
		goto out_unlock;
	err = delta->io->truncate(delta, ploop_iblk_pos(delta->plo, end));
	if (!err)
		err = ploop_delta_sync(delta, true);
	if (err)
		goto out_unlock;
	a->head = end;
	a->prealloc_end = end;
	clear_bits(&a->clean, end, head);
	clear_bits(&a->reusable, end, head);
out_unlock:
	mutex_unlock(&a->mutex);
	return err;
}

static bool take_from(struct ploop_alloc *a, struct ploop_bitmap *set, u32 *iblk)
{
	u64 end = min(a->head, a->ceiling), from, found;

	if (!set->weight || a->floor >= end)
		return false;
	from = clamp(a->cursor, a->floor, end);
	found = ploop_bitmap_next_set(set, from, end);
	if (found == end) {
		found = ploop_bitmap_next_set(set, a->floor, from);
		if (found == from)
			return false;
	}
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
