// SPDX-License-Identifier: GPL-2.0-only
/*
 * START and STOP.
 */
#include "ploop.h"

#include <linux/module.h>

/**
 * ploop_delta_fits_limits() - can a delta join a running device
 * @delta: the delta
 *
 * What users of a running device rely on does not become stricter.
 *
 * Context: process.
 * Return: 0 or -EINVAL, and the log says why.
 */
int ploop_delta_fits_limits(const struct ploop_delta *delta)
{
	struct request_queue *q = delta->plo->disk->queue;
	const char *why = NULL;

	if (delta->block_size > queue_logical_block_size(q))
		why = "has larger blocks than the running device";
	else if (delta->dma_alignment & ~queue_dma_alignment(q))
		why = "wants memory aligned more than the running device";
	else if (delta->stable_writes && !ploop_stable_writes(q))
		why = "needs stable pages, unlike the running device";
	if (!why)
		return 0;
	ploop_err(delta->plo, "%pD4: its host %s: attach it offline\n", delta->file, why);
	return -EINVAL;
}

/* The strictest of all deltas: any of them may serve any read. */
static int set_limits(struct ploop_device *plo)
{
	struct ploop_limits l = {
		.block_size = SECTOR_SIZE,
		.dma_alignment = SECTOR_SIZE - 1,
	};
	unsigned int i;

	for (i = 0; i < plo->nr_deltas; i++) {
		l.block_size = max(l.block_size, plo->level[i]->block_size);
		l.dma_alignment |= plo->level[i]->dma_alignment;
		l.stable_writes |= plo->level[i]->stable_writes;
	}
	if (plo->size << SECTOR_SHIFT & (l.block_size - 1)) {
		ploop_err(plo, "disk size is not a multiple of the %u-byte blocks of the host\n",
			  l.block_size);
		return -EINVAL;
	}
	return ploop_set_limits(plo->disk, &l);
}

/*
 * Tells everybody. Partitions are scanned here, with the device running and no
 * lock of ours but ctl_mutex, which bios do not take.
 */
static void announce(struct ploop_device *plo)
{
	struct gendisk *disk = plo->disk;

	mutex_lock(&disk->open_mutex);
	set_capacity(disk, plo->size);
	bdev_disk_changed(disk, false);
	mutex_unlock(&disk->open_mutex);
	kobject_uevent(&disk_to_dev(disk)->kobj, KOBJ_CHANGE);
}

/**
 * ploop_start() - run a device
 * @plo: the device
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -EBUSY running; -ENOENT no deltas; -ENOMEM; errors of the image.
 */
int ploop_start(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EBUSY;
	if (!top)
		return -ENOENT;
	/* The stack was changed: read it anew. */
	if (!plo->map) {
		err = ploop_stack_load(plo->level, plo->nr_deltas, &plo->map);
		if (err)
			return err;
		plo->size = top->size;
	}
	err = set_limits(plo);
	if (err)
		return err;
	err = ploop_delta_arm(top, plo->map);
	if (err)
		return err;
	set_disk_ro(plo->disk, top->rdonly);
	clear_bit(PLOOP_S_NOSPC, &plo->state);
	clear_bit(PLOOP_S_EVENT_NOSPC, &plo->state);
	set_bit(PLOOP_S_RUNNING, &plo->state);
	ploop_epoch_open(&plo->epoch);
	percpu_ref_reinit(&plo->active);
	announce(plo);
	if (!list_empty(&top->freed))
		ploop_reclaim_now(plo);
	return 0;
}

/* Makes sure that nobody but the caller has the device open, or can open it. */
static int shut_out_openers(struct ploop_device *plo)
{
	struct gendisk *disk = plo->disk;
	int err = 0;

	mutex_lock(&disk->open_mutex);
	if (disk_openers(disk) > 1)
		err = -EBUSY;
	else
		set_bit(PLOOP_S_STOPPING, &plo->state);
	mutex_unlock(&disk->open_mutex);
	return err;
}

static bool has_parked(struct ploop_device *plo)
{
	bool parked;

	spin_lock_irq(&plo->park_lock);
	parked = !list_empty(&plo->parked);
	spin_unlock_irq(&plo->park_lock);
	return parked;
}

/*
 * Takes the disk away while it still serves bios: the page cache is written
 * back, partitions go, then the capacity.
 */
static int retire_disk(struct ploop_device *plo)
{
	struct gendisk *disk = plo->disk;
	int err;

	err = sync_blockdev(disk->part0);
	if (has_parked(plo))
		return -EBUSY;
	if (err)
		ploop_warn(plo, "page cache of the device could not be written: error %d\n", err);
	mutex_lock(&disk->open_mutex);
	err = bdev_disk_changed(disk, true);
	mutex_unlock(&disk->open_mutex);
	return err;
}

static void drain(struct ploop_device *plo)
{
	percpu_ref_kill(&plo->active);
	wait_for_completion(&plo->active_drained);
	/* Before the epochs close: reclaim waits for one to drain. */
	flush_delayed_work(&plo->reclaim_work);
	ploop_epoch_close(&plo->epoch);
	cancel_delayed_work_sync(&plo->unpark_work);
	/* Movers ask for flushes that no bio waits for. */
	flush_work(&plo->flush_work);
	flush_work(&plo->event_work);
}

/* After ABORT nothing more is written, so there is nothing to flush. */
static int close_images(struct ploop_device *plo)
{
	int err = 0;

	if (!plo->top->rdonly && !test_bit(PLOOP_S_ABORT, &plo->state))
		err = ploop_flush(plo);
	clear_bit(PLOOP_S_RUNNING, &plo->state);
	if (plo->maintenance == PLOOP_MNTN_GROW)
		ploop_grow_stop(plo);
	if (plo->trans)
		ploop_merge_stop(plo);
	if (err) {
		ploop_alloc_stop(plo->top);
		ploop_index_exit(plo->top);
		return err;
	}
	return ploop_delta_disarm(plo->top);
}

/**
 * ploop_stop() - stop a device; its deltas stay attached
 * @plo: the device
 * @bdev: what the caller has open
 *
 * Context: process, sleeps until all bios are served; ctl_mutex.
 * Return: 0; -ENODEV @bdev is a partition; -EBUSY somebody else has it open,
 * claims it, a MERGE or GROW is at work, or a bio waits for space; -EINVAL not
 * running. After another error the device is stopped and the image still marked
 * in use.
 */
int ploop_stop(struct ploop_device *plo, struct block_device *bdev)
{
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (bdev_is_partition(bdev))
		return -ENODEV;
	if (READ_ONCE(bdev->bd_holders))
		return -EBUSY;
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EINVAL;
	if (ploop_move_active(plo))
		return -EBUSY;
	err = shut_out_openers(plo);
	if (err)
		return err;
	err = retire_disk(plo);
	if (err)
		goto out_let_openers_in;
	ploop_balloon_stop(plo);
	ploop_track_stop(plo);
	drain(plo);
	/* Others may have the files of a stopped device: nothing asks for their places. */
	ploop_stable_end(plo);
	err = close_images(plo);
	if (err)
		ploop_err(plo, "stopped, but the image could not be closed: error %d\n", err);
	wake_up_interruptible(&plo->event_wait);
out_let_openers_in:
	clear_bit(PLOOP_S_STOPPING, &plo->state);
	return err;
}
