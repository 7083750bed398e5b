// SPDX-License-Identifier: GPL-2.0-only
/*
 * SNAPSHOT: an empty delta becomes the top of a running device.
 *
 * What bios wait for is the change of one pointer. The new delta is ready
 * before; what the old one still has to write is kept in memory at that
 * moment, and written after it, while bios go to the new one. A flush that
 * comes in between waits until the old one is durable, so it covers both.
 *
 * Power loss: until the old top's index is durable both are marked in use, and
 * the new one holds what was written since. A flush was acknowledged after the
 * old one's was durable, or not at all.
 */
#include "ploop.h"

#include <linux/file.h>

static int check(struct ploop_device *plo)
{
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	return plo->top->rdonly ? -EROFS : 0;
}

/* What the running device cannot take in. */
static int check_new(struct ploop_device *plo, const struct ploop_delta *delta,
		     const struct ploop_map *map)
{
	const char *why = NULL;

	if (delta->rdonly)
		why = "must be writable";
	else if (atomic_read(&map->used_leaves))
		why = "must be empty";
	else if (delta->size != plo->size)
		why = "must have the size of the device";
	if (!why)
		return ploop_delta_fits_limits(delta);
	ploop_err(plo, "%pD4: the new top %s\n", delta->file, why);
	return -EINVAL;
}

static int prepare(struct ploop_device *plo, struct ploop_delta *delta, struct ploop_map *map)
{
	int err = check_new(plo, delta, map);

	if (!err)
		err = ploop_delta_arm(delta, map);
	if (err)
		return err;
	err = ploop_sysfs_add_delta(delta);
	if (err)
		ploop_delta_disarm(delta);
	return err;
}

/* The moment itself. */
static int exchange_top(struct ploop_device *plo, struct ploop_delta *delta,
			struct xarray *pages)
{
	int err = ploop_quiesce(plo);

	if (err)
		return err;
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		err = -EIO;
	else if (plo->top->index.pages)
		err = ploop_index_copy(plo->top, pages);
	if (!err) {
		plo->top->rdonly = true;
		ploop_delta_push(plo, delta);
	}
	ploop_relax(plo);
	return err;
}

/*
 * Closes the old top for good. Nobody writes to it any more, and its index on
 * the disk names only what the map did at the moment of the exchange.
 */
static int retire(struct ploop_delta *old, struct xarray *pages)
{
	struct file *file;
	int err, closed;

	old->rdonly = false;
	err = ploop_index_write_copy(old, pages);
	/* Best effort: what stays is unused space. */
	if (!err && !test_bit(PLOOP_S_DENSE, &old->plo->state))
		ploop_reclaim_punch(old, &old->freed);
	if (err)
		ploop_abort(old->plo, "index below the snapshot could not be written", err);
	/* Frees its tables in any case; writes nothing after ABORT. */
	closed = ploop_delta_disarm(old);
	old->rdonly = true;
	if (closed && !err)
		ploop_abort(old->plo, "image below the snapshot could not be closed", closed);
	if (err || closed)
		return -EIO;
	file = ploop_delta_reopen(old, true);
	err = IS_ERR(file) ? PTR_ERR(file) : ploop_delta_switch(old, file, true);
	if (err)
		ploop_warn(old->plo, "%pD4: still open for writing: error %d\n", old->file, err);
	return 0;
}

static int take(struct ploop_device *plo, struct ploop_delta *delta)
{
	struct ploop_delta *old = plo->top;
	struct xarray pages;
	int err;

	xa_init(&pages);
	/* The bulk, with bios going on and nobody else waiting. */
	err = ploop_flush(plo);
	if (err)
		return err;
	ploop_reclaim_pause(plo);
	ploop_flush_lock(plo);
	err = ploop_index_write_most(plo);
	if (!err)
		err = exchange_top(plo, delta, &pages);
	if (!err)
		err = retire(old, &pages);
	ploop_flush_unlock(plo);
	ploop_reclaim_resume(plo);
	ploop_index_free_copy(&pages);
	return err;
}

/**
 * ploop_snapshot() - put an empty delta on top of a running device
 * @plo: the device, running, no maintenance
 * @ctl: what the client asks for, untrusted
 * @chunk: its file, untrusted
 *
 * When this returns the old top is closed, durable, opened read-only, and
 * nothing of it is in the page cache.
 *
 * Context: process, sleeps; ctl_mutex, which PLOOP_CTLF_FS_SYNC drops while the
 * filesystems on the device freeze.
 * Return: 0; -EIO ABORT; -EROFS the device is read-only; -EINTR killed; else as
 * ploop_delta_open().
 */
int ploop_snapshot(struct ploop_device *plo, const struct ploop_ctl *ctl,
		   const struct ploop_ctl_chunk *chunk)
{
	struct ploop_freeze *freeze = NULL;
	struct ploop_delta *delta;
	struct ploop_map *map;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	err = check(plo);
	if (err)
		return err;
	delta = ploop_delta_open(plo, ctl, chunk, plo->nr_deltas, &map);
	if (IS_ERR(delta))
		return PTR_ERR(delta);
	err = prepare(plo, delta, map);
	ploop_map_free(map);
	if (err)
		goto out_close_delta;
	if (ctl->flags & PLOOP_CTLF_FS_SYNC)
		freeze = ploop_freeze(plo);
	err = PTR_ERR_OR_ZERO(freeze);
	if (err)
		goto out_disarm;
	err = take(plo, delta);
	ploop_thaw(freeze);
	/* There is no way back once it is the top, not even after ABORT. */
	if (plo->top == delta)
		return err;
out_disarm:
	ploop_delta_disarm(delta);
out_close_delta:
	ploop_delta_close(delta);
	return err;
}
