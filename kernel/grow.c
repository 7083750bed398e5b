// SPDX-License-Identifier: GPL-2.0-only
/*
 * GROW: the top delta becomes larger, while bios go on.
 *
 * A larger disk has a larger index, at the beginning of the file. Clusters that
 * lie there are marked as moving, so that writes to them go elsewhere at once,
 * and movers take the rest. What was vacated is zeroed, then the header says
 * that it is index.
 *
 * Power loss: until the header is written the image has its old size, with all
 * its clusters, moved ones included; what was vacated belongs to nobody. The
 * header is written after the zeros are durable.
 */
#include "ploop.h"

#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

static int check(struct ploop_device *plo, u64 size)
{
	if (size < plo->size)
		return -EINVAL;
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	if (!test_bit(PLOOP_S_RUNNING, &plo->state) || !plo->top->fmt->plan_grow)
		return -EINVAL;
	if (plo->top->rdonly)
		return -EROFS;
	return size << SECTOR_SHIFT & (queue_logical_block_size(plo->disk->queue) - 1) ?
	       -EINVAL : 0;
}

/*
 * Nobody is given a cluster below the new end of the index, nobody writes to
 * one in place, and none is on its way to be punched, when this returns.
 */
static u64 vacate(struct ploop_device *plo)
{
	u32 end = plo->grow.index_clusters;
	u64 n;

	ploop_alloc_limit(plo->top, end, PLOOP_NO_CEILING);
	/* Whoever allocated before has published his cluster after this. */
	ploop_epoch_flip(&plo->epoch);
	n = ploop_move_mark(plo, 0, end);
	ploop_reclaim_pause(plo);
	ploop_reclaim_keep(plo->top, end, PLOOP_NO_CEILING);
	ploop_reclaim_resume(plo);
	return n;
}

static void leave(struct ploop_device *plo)
{
	ploop_move_unmark(plo);
	ploop_alloc_unlimit(plo->top);
	ploop_move_finish(plo);
	plo->maintenance = PLOOP_MNTN_OFF;
}

/* It may be gigabytes: who is killed, or told of ABORT, need not wait for that. */
static int must_end(struct ploop_device *plo)
{
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/*
 * The space of the new index, which no bio knows any more, and no index on the
 * disk: flushes may go on beside this.
 */
static int zero_index(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;
	loff_t pos = ploop_iblk_pos(plo, top->index_clusters);
	loff_t end = ploop_iblk_pos(plo, plo->grow.index_clusters);
	u32 part;
	int err;

	for (; pos < end; pos += part) {
		part = min_t(loff_t, end - pos, PLOOP_MAX_IO_BYTES);
		err = must_end(plo);
		if (!err)
			err = ploop_write_zeros(top, pos, part);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

/* Makes tables of the new size, and the exchange. Old ones are freed. */
static int exchange_tables(struct ploop_device *plo, u32 clusters)
{
	struct ploop_delta *top = plo->top;
	struct ploop_index *ix = &top->index, bigger = { };
	struct ploop_leaf **leaves = ploop_map_leaves(clusters);
	int err = -ENOMEM;

	if (!leaves)
		return err;
	if (ix->pages && ploop_index_grow(&bigger, clusters))
		goto out_free_leaves;
	err = ploop_quiesce(plo);
	if (err)
		goto out_free_index;
	leaves = ploop_map_extend(plo->map, clusters, leaves);
	if (!ix->pages)
		plo->map->raw_clusters = clusters;
	else
		ploop_index_swap(top, &bigger);
	top->fmt->grow(top, plo->grow.size, plo->grow.index_clusters);
	plo->size = plo->grow.size;
	ploop_relax(plo);
out_free_index:
	kvfree(bigger.dirty);
out_free_leaves:
	kvfree(leaves);
	return err;
}

/* With flush_mutex, so that no index page is written before the header. */
static int enlarge(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;
	u32 clusters = DIV_ROUND_UP_ULL(plo->grow.size, 1U << plo->cluster_log);
	int err;

	ploop_flush_lock(plo);
	err = ploop_flush_locked(plo);
	if (!err)
		err = ploop_delta_sync(top, true);
	if (!err)
		err = exchange_tables(plo, clusters);
	if (!err && top->fmt->sync) {
		err = top->fmt->sync(top);
		if (err)
			ploop_abort(plo, "header of the grown image could not be written", err);
	}
	ploop_flush_unlock(plo);
	return err;
}

static int finish(struct ploop_device *plo)
{
	int err;

	/* Readers of the old places of clusters that have moved. */
	ploop_epoch_flip(&plo->epoch);
	err = ploop_flush(plo);
	if (!err)
		err = zero_index(plo);
	if (!err)
		err = enlarge(plo);
	leave(plo);
	if (!err)
		set_capacity_and_notify(plo->disk, plo->size);
	return err;
}

/**
 * ploop_grow_wait() - wait for a grow and carry it to its end
 * @plo: the device, PLOOP_MNTN_GROW
 *
 * Context: process, sleeps; ctl_mutex, which is dropped while waiting.
 * Return: as ploop_grow().
 */
int ploop_grow_wait(struct ploop_device *plo)
{
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	err = ploop_move_wait(plo, PLOOP_MNTN_GROW);
	if (!err)
		return finish(plo);
	if (plo->maintenance == PLOOP_MNTN_GROW && !ploop_move_active(plo))
		leave(plo);
	return err;
}

/**
 * ploop_grow() - make a running device larger
 * @plo: the device, no maintenance
 * @size: its new size, sectors
 *
 * Context: process, sleeps; ctl_mutex, which is dropped while waiting.
 * Return: 0; -EINVAL smaller, not a multiple of the cluster size, or not
 * running; -EFBIG more than the format can hold; -EROFS; -ERESTARTSYS a signal
 * ended the wait, not the work; -EALREADY somebody else finished it; -EINTR
 * killed; -EIO ABORT; errors of the host. On failure the size is the old one.
 */
int ploop_grow(struct ploop_device *plo, u64 size)
{
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	/* The tail of a raw disk takes part in direct I/O of whole blocks. */
	if (!plo->top->fmt->stackable)
		size = round_up(size, PLOOP_PHYSICAL_BLOCK >> SECTOR_SHIFT);
	if (size == plo->size)
		return 0;
	err = check(plo, size);
	if (err)
		return err;
	plo->grow.size = size;
	err = plo->top->fmt->plan_grow(plo->top, size, &plo->grow.index_clusters);
	if (!err)
		err = ploop_move_prepare(plo);
	if (err)
		return err;
	plo->maintenance = PLOOP_MNTN_GROW;
	if (plo->grow.index_clusters > plo->top->index_clusters)
		ploop_move_start(plo, vacate(plo));
	return ploop_grow_wait(plo);
}

/**
 * ploop_grow_stop() - leave a grow that has not ended, on a device that stops
 * @plo: the device; it serves no bio, and nothing moves
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_grow_stop(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	leave(plo);
}
