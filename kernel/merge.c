// SPDX-License-Identifier: GPL-2.0-only
/*
 * MERGE: the top delta moves into the one below it, while bios go on.
 *
 * The lower delta becomes the top that takes the writes; the former top is
 * transparent ("trans"): what it still has is read from it, and moves when it is
 * written to or when a mover comes by. The stack in the log and in sysfs stays
 * as it is until the end.
 *
 * Power loss: a cluster is in the index of the upper delta on the disk before the
 * lower one's is written without it (exchange_top()), and until the lower one
 * has data and index of it on the disk (flush_trans() in flush.c). So the stack
 * of before shows the same data at each instant, and another MERGE, also after
 * a new start, carries on with what is left.
 */
#include "ploop.h"

#include <linux/file.h>

static int check(struct ploop_device *plo)
{
	if (plo->nr_deltas < 2)
		return -ENOENT;
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EINVAL;
	return plo->top->rdonly ? -EROFS : 0;
}

/* The lower delta can be written to after this, by us only. */
static int open_lower(struct ploop_delta *lower)
{
	struct file *file = ploop_delta_reopen(lower, false);

	return IS_ERR(file) ? PTR_ERR(file) : ploop_delta_switch(lower, file, false);
}

static void close_lower(struct ploop_delta *lower)
{
	struct file *file = ploop_delta_reopen(lower, true);
	int err = IS_ERR(file) ? PTR_ERR(file) : ploop_delta_switch(lower, file, true);

	if (err)
		ploop_warn(lower->plo, "%pD4: still open for writing: error %d\n", lower->file,
			   err);
}

/* Reads what lies below the top, and makes the first of it ready for writes. */
static int prepare_lower(struct ploop_device *plo, struct ploop_delta *lower,
			 struct ploop_map **below)
{
	int err;

	err = open_lower(lower);
	if (err)
		return err;
	err = ploop_stack_load(plo->level, lower->level + 1, below);
	if (err)
		goto out_close_lower;
	err = -EINVAL;
	if (lower->size < plo->top->size) {
		ploop_err(plo, "%pD4: must be grown to the size of the delta above before a merge\n",
			  lower->file);
		goto out_free_map;
	}
	lower->rdonly = false;
	err = ploop_delta_arm(lower, *below);
	if (!err)
		return 0;
	if (lower->fmt->stop)
		lower->fmt->stop(lower);
	lower->rdonly = true;
out_free_map:
	ploop_map_free(*below);
out_close_lower:
	close_lower(lower);
	return err;
}

static void unprepare_lower(struct ploop_delta *lower, struct ploop_map *below)
{
	int err = ploop_delta_disarm(lower);

	if (err)
		ploop_err(lower->plo, "%pD4: could not be closed: error %d\n", lower->file, err);
	lower->rdonly = true;
	ploop_map_free(below);
	close_lower(lower);
}

static u64 count_entries(const struct ploop_map *map, u8 slot)
{
	u64 n = 0;
	u32 clu;

	for (clu = 0; clu < map->clusters;) {
		u64 entry = ploop_map_lookup(map, clu);

		if (entry && ploop_entry_slot(entry) == slot)
			n++;
		clu = entry ? clu + 1 : ploop_map_hole_end(map, clu);
		cond_resched();
	}
	return n;
}

/*
 * From here on writes go to @lower. Its index names nothing any more that the
 * former top hides, and may be written at the next flush: so what was copied up
 * a moment ago is durable before anybody can flush.
 */
static int exchange_top(struct ploop_device *plo, struct ploop_delta *lower,
			struct ploop_map *below)
{
	struct ploop_delta *trans = plo->top;
	struct xarray pages;
	int err;

	xa_init(&pages);
	ploop_reclaim_pause(plo);
	ploop_flush_lock(plo);
	err = ploop_index_write_most(plo);
	if (!err)
		err = ploop_quiesce(plo);
	if (err)
		goto out_unlock;
	err = ploop_index_copy(trans, &pages);
	if (!err) {
		plo->below = below;
		plo->trans = trans;
		plo->top = lower;
		/* A raw base may have been made longer to take the merge. */
		plo->map->raw_clusters = max(plo->map->raw_clusters, below->raw_clusters);
	}
	ploop_relax(plo);
	if (err)
		goto out_unlock;
	/* There is no way back any more; after ABORT nothing moves. */
	if (ploop_index_write_copy(trans, &pages))
		ploop_abort(plo, "index of the delta to merge could not be written", -EIO);
	/* Its file goes away: nothing in it is worth being reclaimed. */
	ploop_reclaim_drop(trans);
out_unlock:
	ploop_flush_unlock(plo);
	ploop_reclaim_resume(plo);
	ploop_index_free_copy(&pages);
	return err;
}

static int begin(struct ploop_device *plo)
{
	struct ploop_delta *lower = plo->level[plo->top->level - 1];
	struct ploop_map *below;
	int err;

	err = ploop_move_prepare(plo);
	if (err)
		return err;
	err = prepare_lower(plo, lower, &below);
	if (err)
		goto out_finish_move;
	err = ploop_flush(plo);
	if (!err)
		err = exchange_top(plo, lower, below);
	if (err)
		goto out_unprepare;
	return 0;

out_unprepare:
	unprepare_lower(lower, below);
out_finish_move:
	ploop_move_finish(plo);
	return err;
}

/* No entry refers to the former top any more. */
static int finish(struct ploop_device *plo)
{
	struct ploop_delta *trans = plo->trans;
	struct ploop_map *below = plo->below;
	int err;

	err = ploop_flush(plo);
	if (err)
		return err;
	ploop_flush_lock(plo);
	plo->trans = NULL;
	ploop_flush_unlock(plo);
	ploop_epoch_flip(&plo->epoch);
	plo->below = NULL;
	ploop_map_free(below);
	ploop_index_exit(trans);
	ploop_alloc_stop(trans);
	ploop_delta_drop(plo, trans);
	ploop_move_finish(plo);
	return 0;
}

/**
 * ploop_merge() - move the top delta into the one below it
 * @plo: the device; when a merge has begun: carry on, or wait for what goes on
 *
 * Context: process, sleeps; ctl_mutex, which is dropped while waiting.
 * Return: 0; -ENOENT fewer than two deltas; -EINVAL not running, or the lower
 * delta is smaller; -EROFS; -EBUSY the lower image is used elsewhere or marked
 * in use; -ERESTARTSYS a signal ended the wait, not the work; -EALREADY
 * somebody else finished it; -EIO ABORT; errors of the host. After an error of
 * moving the stack is as sound as before, with @plo->trans still in it, and
 * another call carries on; STOP puts it back on top.
 */
int ploop_merge(struct ploop_device *plo)
{
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (!plo->trans) {
		err = check(plo);
		if (!err)
			err = begin(plo);
		if (err)
			return err;
		ploop_move_start(plo, count_entries(plo->map, plo->trans->slot));
	} else if (!ploop_move_active(plo) && !test_bit(PLOOP_S_ABORT, &plo->state)) {
		/* It has ended, well or not: what is left, if anything, moves now. */
		ploop_move_start(plo, plo->move.total);
	}
	plo->maintenance = PLOOP_MNTN_MERGE;
	err = ploop_move_wait(plo, PLOOP_MNTN_MERGE);
	if (!err)
		err = finish(plo);
	/* Old clients wait for MERGE to end before they stop a device. */
	if (plo->maintenance == PLOOP_MNTN_MERGE && !ploop_move_active(plo))
		plo->maintenance = PLOOP_MNTN_OFF;
	return err;
}

/**
 * ploop_merge_stop() - leave a merge that has not ended, on a device that stops
 * @plo: the device; it serves no bio, nothing moves, and its indexes are durable
 *
 * The former top is the top again. What has moved stays moved.
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_merge_stop(struct ploop_device *plo)
{
	struct ploop_delta *lower = plo->top;

	lockdep_assert_held(&plo->ctl_mutex);
	plo->top = plo->trans;
	plo->trans = NULL;
	unprepare_lower(lower, plo->below);
	plo->below = NULL;
	ploop_move_finish(plo);
	plo->maintenance = PLOOP_MNTN_OFF;
}
