// SPDX-License-Identifier: GPL-2.0-only
/*
 * Freezing what is mounted from a device, so that a snapshot finds filesystems
 * in a clean state.
 */
#include "ploop.h"

#include <linux/slab.h>

/**
 * struct ploop_freeze - block devices that are frozen
 * @dev: the disk and its partitions
 * @found: number of @dev
 * @bdev: those that are open and frozen
 * @nr: number of @bdev
 */
struct ploop_freeze {
	dev_t dev[DISK_MAX_PARTS];
	unsigned int found;
	ploop_bdev_t bdev[DISK_MAX_PARTS];
	unsigned int nr;
};

static void list_parts(struct ploop_device *plo, struct ploop_freeze *f)
{
	struct block_device *part;
	unsigned long i;

	rcu_read_lock();
	xa_for_each(&plo->disk->part_tbl, i, part)
		if (f->found < DISK_MAX_PARTS)
			f->dev[f->found++] = part->bd_dev;
	rcu_read_unlock();
}

static int freeze_one(struct ploop_freeze *f, dev_t dev)
{
	ploop_bdev_t bdev = ploop_bdev_open(dev);
	int err;

	if (IS_ERR(bdev)) {
		/* A partition without a size, or one that went away. */
		err = PTR_ERR(bdev);
		return err == -ENXIO || err == -ENODEV ? 0 : err;
	}
	err = bdev_freeze(ploop_bdev(bdev));
	if (err)
		ploop_bdev_close(bdev);
	else
		f->bdev[f->nr++] = bdev;
	return err;
}

static void thaw_all(struct ploop_freeze *f)
{
	while (f->nr--) {
		bdev_thaw(ploop_bdev(f->bdev[f->nr]));
		ploop_bdev_close(f->bdev[f->nr]);
	}
	kfree(f);
}

/**
 * ploop_freeze() - freeze the filesystems on a device
 * @plo: the device, running
 *
 * Freezing waits for I/O, and may take long: ctl_mutex is dropped, in the state
 * PLOOP_MNTN_SNAPSHOT, which keeps all other commands out. What goes on in the
 * background goes on.
 *
 * Context: process, sleeps; ctl_mutex.
 * Return: for ploop_thaw(); or an ERR_PTR and nothing is frozen.
 */
struct ploop_freeze *ploop_freeze(struct ploop_device *plo)
{
	struct ploop_freeze *f = kzalloc(sizeof(*f), GFP_KERNEL);
	enum ploop_maintenance state = plo->maintenance;
	unsigned int i;
	int err = 0;

	lockdep_assert_held(&plo->ctl_mutex);
	if (!f)
		return ERR_PTR(-ENOMEM);
	WRITE_ONCE(plo->maintenance, PLOOP_MNTN_SNAPSHOT);
	mutex_unlock(&plo->ctl_mutex);
	list_parts(plo, f);
	for (i = 0; i < f->found && !err; i++)
		err = freeze_one(f, f->dev[i]);
	if (err)
		thaw_all(f);
	mutex_lock(&plo->ctl_mutex);
	WRITE_ONCE(plo->maintenance, state);
	/* Those who have to know the state waited for it. */
	wake_up_all(&plo->move.wait);
	ploop_owner_check(plo);
	return err ? ERR_PTR(err) : f;
}

/**
 * ploop_thaw() - undo ploop_freeze()
 * @f: from ploop_freeze(), or NULL
 *
 * Context: process, sleeps.
 */
void ploop_thaw(struct ploop_freeze *f)
{
	if (f)
		thaw_all(f);
}

/**
 * ploop_fs_freeze() - FREEZE
 * @plo: the device
 *
 * Context: process, sleeps; ctl_mutex, which is dropped meanwhile.
 * Return: 0, also when it is frozen; -EINVAL not running; errors of freezing.
 */
int ploop_fs_freeze(struct ploop_device *plo)
{
	struct ploop_freeze *f;

	lockdep_assert_held(&plo->ctl_mutex);
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EINVAL;
	if (plo->frozen)
		return 0;
	f = ploop_freeze(plo);
	if (IS_ERR(f))
		return PTR_ERR(f);
	plo->frozen = f;
	ploop_owner_take(plo);
	return 0;
}

/**
 * ploop_fs_thaw() - THAW
 * @plo: the device
 *
 * Context: process, sleeps; ctl_mutex.
 */
void ploop_fs_thaw(struct ploop_device *plo)
{
	struct ploop_freeze *f = plo->frozen;

	lockdep_assert_held(&plo->ctl_mutex);
	plo->frozen = NULL;
	ploop_thaw(f);
	ploop_owner_drop(plo);
}
