// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices: made when their node is opened or by /dev/ploop-control, found by
 * index, removed by /dev/ploop-control or with the module.
 */
#include "ploop.h"

#include <linux/module.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#define MINORS		(1U << PLOOP_MINOR_SHIFT)
#define MAX_INDEX	(MINORMASK >> PLOOP_MINOR_SHIFT)

/** ploop_devices_mutex: see lock ranking in ploop.h */
DEFINE_MUTEX(ploop_devices_mutex);
static DEFINE_XARRAY(devices);
/* How many devices were removed, and which was the last [ploop_devices_mutex] */
static unsigned int removals;
static int last_removed;

static int device_open(struct gendisk *disk, blk_mode_t mode)
{
	struct ploop_device *plo = disk->private_data;

	/* The block layer holds open_mutex: STOP and REMOVE see us, or we them. */
	if (test_bit(PLOOP_S_DEAD, &plo->state))
		return -ENXIO;
	return test_bit(PLOOP_S_STOPPING, &plo->state) ? -EBUSY : 0;
}

PLOOP_WRAP_DISK_OPEN(device_open)

static void device_release(struct gendisk *disk)
{
	ploop_owner_release(disk->private_data);
}

PLOOP_WRAP_DISK_RELEASE(device_release)

static void free_parts(struct ploop_device *plo)
{
	mempool_exit(&plo->io_pool);
	ploop_copy_exit(plo);
	ploop_fast_exit(plo);
	free_percpu(plo->stats);
	if (plo->index_wq)
		destroy_workqueue(plo->index_wq);
	if (plo->data_wq)
		destroy_workqueue(plo->data_wq);
}

/* The last reference to the disk is gone. */
static void device_free(struct gendisk *disk)
{
	struct ploop_device *plo = disk->private_data;

	ploop_epoch_destroy(&plo->epoch);
	percpu_ref_exit(&plo->active);
	free_parts(plo);
	kfree(plo);
}

static const struct block_device_operations device_fops = {
	.owner		= THIS_MODULE,
	.submit_bio	= ploop_submit_bio,
	.open		= PLOOP_DISK_OPEN(device_open),
	.release	= PLOOP_DISK_RELEASE(device_release),
	.ioctl		= ploop_ioctl,
	.compat_ioctl	= ploop_ioctl,
	.free_disk	= device_free,
};

static void active_drained(struct percpu_ref *ref)
{
	complete(&container_of(ref, struct ploop_device, active)->active_drained);
}

static int alloc_parts(struct ploop_device *plo)
{
	/* On the CPU that sends a bio: a worker that is busy there goes on with it, and none is woken. */
	plo->data_wq = alloc_workqueue("ploop%d", WQ_MEM_RECLAIM | WQ_PERCPU, 0, plo->index);
	plo->index_wq = alloc_workqueue("ploop%d_index", WQ_MEM_RECLAIM | WQ_PERCPU, 0, plo->index);
	plo->stats = alloc_percpu(struct ploop_stats);
	if (!plo->data_wq || !plo->index_wq || !plo->stats)
		return -ENOMEM;
	if (ploop_request_pool(plo) || ploop_copy_init(plo) || ploop_fast_init(plo))
		return -ENOMEM;
	return 0;
}

static struct ploop_device *device_alloc(int index)
{
	struct ploop_device *plo = kzalloc(sizeof(*plo), GFP_KERNEL);

	if (!plo)
		return NULL;
	plo->index = index;
	plo->check_zeros = 1;
	plo->fsync_max = PLOOP_FSYNC_MAX_DEFAULT;
	assign_bit(PLOOP_S_DENSE, &plo->state, READ_ONCE(ploop_dense_default));
	mutex_init(&plo->ctl_mutex);
	mutex_init(&plo->flush_mutex);
	mutex_init(&plo->move.mutex);
	init_waitqueue_head(&plo->move.wait);
	mutex_init(&plo->balloon.mutex);
	init_waitqueue_head(&plo->balloon.wait);
	spin_lock_init(&plo->owner_lock);
	INIT_WORK(&plo->owner_work, ploop_owner_work);
	spin_lock_init(&plo->trans_lock);
	spin_lock_init(&plo->cluster_lock);
	spin_lock_init(&plo->park_lock);
	spin_lock_init(&plo->free_lock);
	INIT_LIST_HEAD(&plo->parked);
	INIT_LIST_HEAD(&plo->flushing);
	INIT_LIST_HEAD(&plo->held);
	INIT_WORK(&plo->flush_work, ploop_flush_work);
	INIT_WORK(&plo->event_work, ploop_event_work);
	INIT_DELAYED_WORK(&plo->reclaim_work, ploop_reclaim_work);
	INIT_DELAYED_WORK(&plo->unpark_work, ploop_unpark_work);
	init_waitqueue_head(&plo->event_wait);
	init_completion(&plo->active_drained);
	return plo;
}

static int add_node(struct ploop_device *plo)
{
	struct gendisk *disk = plo->disk;
	int err;

	disk->major = PLOOP_MAJOR;
	disk->first_minor = plo->index << PLOOP_MINOR_SHIFT;
	disk->minors = MINORS;
	disk->fops = &device_fops;
	snprintf(disk->disk_name, DISK_NAME_LEN, "ploop%d", plo->index);
	err = add_disk(disk);
	if (err)
		return err;
	err = ploop_sysfs_add(plo);
	if (err)
		del_gendisk(disk);
	return err;
}

static int device_build(struct ploop_device *plo)
{
	const unsigned int flags = PERCPU_REF_INIT_DEAD | PERCPU_REF_ALLOW_REINIT;
	int err;

	err = alloc_parts(plo);
	if (err)
		goto out_free_parts;
	err = ploop_epoch_init(&plo->epoch);
	if (err)
		goto out_free_parts;
	err = percpu_ref_init(&plo->active, active_drained, flags, GFP_KERNEL);
	if (err)
		goto out_destroy_epoch;
	plo->disk = ploop_alloc_disk();
	if (IS_ERR(plo->disk)) {
		err = PTR_ERR(plo->disk);
		goto out_exit_active;
	}
	plo->disk->private_data = plo;
	return 0;

out_exit_active:
	percpu_ref_exit(&plo->active);
out_destroy_epoch:
	ploop_epoch_destroy(&plo->epoch);
out_free_parts:
	free_parts(plo);
	return err;
}

/* Before add_disk() succeeded, put_disk() does not call device_free(). */
static void device_put_new(struct ploop_device *plo)
{
	struct gendisk *disk = plo->disk;
	bool added = test_bit(GD_ADDED, &disk->state);

	if (!added)
		device_free(disk);
	put_disk(disk);
}

/**
 * ploop_device_add() - make a device
 * @index: N of ploopN; no device has it
 *
 * Context: process, may sleep; ploop_devices_mutex.
 * Return: the device or an ERR_PTR: -ERANGE no such minor, -ENOMEM, errors of
 * the block layer.
 */
struct ploop_device *ploop_device_add(int index)
{
	struct ploop_device *plo;
	int err;

	lockdep_assert_held(&ploop_devices_mutex);
	if (index < 0 || index > MAX_INDEX)
		return ERR_PTR(-ERANGE);
	plo = device_alloc(index);
	if (!plo)
		return ERR_PTR(-ENOMEM);
	err = device_build(plo);
	if (err) {
		kfree(plo);
		return ERR_PTR(err);
	}
	err = xa_insert(&devices, index, plo, GFP_KERNEL);
	if (err)
		goto out_put;
	err = add_node(plo);
	if (!err)
		return plo;
	xa_erase(&devices, index);
out_put:
	device_put_new(plo);
	return ERR_PTR(err);
}

static void destroy(struct ploop_device *plo)
{
	lockdep_assert_held(&ploop_devices_mutex);
	last_removed = plo->index;
	xa_erase(&devices, plo->index);
	cancel_work_sync(&plo->owner_work);
	ploop_sysfs_remove(plo);
	del_gendisk(plo->disk);
	put_disk(plo->disk);
	/* Last: until the node is gone, device_probe() must find an older count. */
	WRITE_ONCE(removals, removals + 1);
}

static bool mark_dead(struct ploop_device *plo)
{
	struct gendisk *disk = plo->disk;
	bool idle;

	mutex_lock(&disk->open_mutex);
	idle = !disk_openers(disk);
	if (idle)
		set_bit(PLOOP_S_DEAD, &plo->state);
	mutex_unlock(&disk->open_mutex);
	return idle;
}

/**
 * ploop_device_remove() - remove a device without deltas
 * @plo: the device
 *
 * Context: process, may sleep; ploop_devices_mutex.
 * Return: 0, or -EBUSY: it has deltas or is open.
 */
int ploop_device_remove(struct ploop_device *plo)
{
	bool idle;

	lockdep_assert_held(&ploop_devices_mutex);
	mutex_lock(&plo->ctl_mutex);
	idle = !plo->nr_deltas && mark_dead(plo);
	mutex_unlock(&plo->ctl_mutex);
	if (!idle)
		return -EBUSY;
	destroy(plo);
	return 0;
}

/**
 * ploop_device_find() - look up a device
 * @index: N of ploopN
 *
 * Context: process; ploop_devices_mutex.
 * Return: the device or NULL.
 */
struct ploop_device *ploop_device_find(int index)
{
	lockdep_assert_held(&ploop_devices_mutex);
	return xa_load(&devices, index);
}

/**
 * ploop_device_find_free() - find the device with the lowest index that is free
 *
 * Free means: without deltas and not reserved. Made when there is none.
 *
 * Context: process, may sleep; ploop_devices_mutex.
 * Return: the device, or an ERR_PTR as ploop_device_add().
 */
struct ploop_device *ploop_device_find_free(void)
{
	struct ploop_device *plo;
	int index;

	lockdep_assert_held(&ploop_devices_mutex);
	for (index = 0; (plo = xa_load(&devices, index)); index++)
		if (!plo->reserved && !READ_ONCE(plo->nr_deltas))
			return plo;
	return ploop_device_add(index);
}

/*
 * A node was opened that no device belongs to. Not one that was found just
 * before its device was removed, as udev does: that would make the device
 * again and leave it behind.
 */
static void device_probe(dev_t devt)
{
	int index = MINOR(devt) >> PLOOP_MINOR_SHIFT;
	unsigned int before = READ_ONCE(removals), since;

	mutex_lock(&ploop_devices_mutex);
	since = removals - before;
	if (!xa_load(&devices, index) && since < 2 && !(since && last_removed == index))
		ploop_device_add(index);
	mutex_unlock(&ploop_devices_mutex);
}

/**
 * ploop_devices_init() - take the block major
 *
 * Context: module init.
 * Return: 0 or a negative errno.
 */
int __init ploop_devices_init(void)
{
	return __register_blkdev(PLOOP_MAJOR, "ploop", device_probe);
}

/**
 * ploop_devices_exit() - give the major back and remove all devices
 *
 * The module is going: no device has deltas or is open, since either keeps the
 * module in memory.
 *
 * Context: module exit.
 */
void ploop_devices_exit(void)
{
	struct ploop_device *plo;
	unsigned long index;

	/* First: no probe makes a device behind our back. */
	unregister_blkdev(PLOOP_MAJOR, "ploop");
	mutex_lock(&ploop_devices_mutex);
	xa_for_each(&devices, index, plo)
		destroy(plo);
	mutex_unlock(&ploop_devices_mutex);
	xa_destroy(&devices);
}
