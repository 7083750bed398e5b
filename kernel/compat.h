/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only file that knows kernel versions. Each block names the release that
 * changed the interface; below it, what older kernels need to look like the
 * newest one.
 */
#ifndef PLOOP_COMPAT_H
#define PLOOP_COMPAT_H

#include <linux/blkdev.h>
#include <linux/fileattr.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/version.h>
#include <linux/workqueue.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "ploop needs Linux 6.1 or newer"
#endif

/* 6.5: open() takes the gendisk, release() lost its mode, blk_mode_t is new */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
typedef fmode_t blk_mode_t;
#define PLOOP_WRAP_DISK_OPEN(fn)					\
	static int fn##_bdev(struct block_device *bdev, fmode_t mode)	\
	{								\
		return fn(bdev->bd_disk, mode);				\
	}
#define PLOOP_DISK_OPEN(fn)	fn##_bdev
#define PLOOP_WRAP_DISK_RELEASE(fn)					\
	static void fn##_mode(struct gendisk *disk, fmode_t mode)	\
	{								\
		fn(disk);						\
	}
#define PLOOP_DISK_RELEASE(fn)	fn##_mode
#else
#define PLOOP_WRAP_DISK_OPEN(fn)
#define PLOOP_DISK_OPEN(fn)	fn
#define PLOOP_WRAP_DISK_RELEASE(fn)
#define PLOOP_DISK_RELEASE(fn)	fn
#endif

/* 6.9: struct file_lock keeps its common part in .c, names start with flc_; leases are of their own */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
#define PLOOP_FLC(fl, field)	((fl)->fl_##field)
typedef struct file_lock ploop_lease_t;
#define lease_manager_operations	lock_manager_operations
#define ploop_lease_alloc()	locks_alloc_lock()
#define ploop_lease_free(fl)	locks_free_lock(fl)
#define ploop_lease_whole(fl)	((fl)->fl_end = OFFSET_MAX)
#else
#include <linux/filelock.h>
#define PLOOP_FLC(fl, field)	((fl)->c.flc_##field)
typedef struct file_lease ploop_lease_t;
#define ploop_lease_alloc()	locks_alloc_lease()
#define ploop_lease_free(fl)	locks_free_lease(fl)
#define ploop_lease_whole(fl)	do { } while (0)
#endif

/* 6.19: the owner of a lease has to say whether others have the file open against it */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#define PLOOP_LM_OPEN_CONFLICT(fn)
#else
#define PLOOP_LM_OPEN_CONFLICT(fn)	.lm_open_conflict = (fn),
#endif

/* 6.3: the mapping of owners of a mount got a type of its own */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define mnt_idmap(mnt)	mnt_user_ns(mnt)
#endif

/* 6.9: blk_alloc_disk() takes the limits and returns an ERR_PTR */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
static inline struct gendisk *ploop_alloc_disk(void)
{
	struct gendisk *disk = blk_alloc_disk(NUMA_NO_NODE);

	return disk ? disk : ERR_PTR(-ENOMEM);
}
#else
static inline struct gendisk *ploop_alloc_disk(void)
{
	return blk_alloc_disk(NULL, NUMA_NO_NODE);
}
#endif

/* 6.5, 6.7, 6.9: opening a block device gave the device, a handle, now a file */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
typedef struct block_device *ploop_bdev_t;
#define ploop_bdev(b)	(b)
#else
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
typedef struct bdev_handle *ploop_bdev_t;
#define ploop_bdev(b)	((b)->bdev)
#else
typedef struct file *ploop_bdev_t;
#define ploop_bdev(b)	file_bdev(b)
#endif
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define ploop_bdev_open(dev)	blkdev_get_by_dev(dev, FMODE_READ, NULL)
#define ploop_bdev_close(b)	blkdev_put(b, FMODE_READ)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define ploop_bdev_open(dev)	blkdev_get_by_dev(dev, BLK_OPEN_READ, NULL, NULL)
#define ploop_bdev_close(b)	blkdev_put(b, NULL)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
#define ploop_bdev_open(dev)	bdev_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL)
#define ploop_bdev_close(b)	bdev_release(b)
#else
#define ploop_bdev_open(dev)	bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL)
#define ploop_bdev_close(b)	fput(b)
#endif

/* 6.8: names begin with bdev_ */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define bdev_freeze(bdev)	freeze_bdev(bdev)
#define bdev_thaw(bdev)		thaw_bdev(bdev)
#endif

/**
 * struct ploop_limits - what varies in the queue limits of a device
 * @block_size: logical block size in bytes
 * @dma_alignment: mask of the memory alignment that direct I/O needs
 * @stable_writes: pages must not change while they are written
 */
struct ploop_limits {
	unsigned int block_size;
	unsigned int dma_alignment;
	bool stable_writes;
};

/* Discards and zeroing are cut at clusters by the driver, not by limits. */
#define PLOOP_MAX_DISCARD_SECTORS	(UINT_MAX >> SECTOR_SHIFT)
#define PLOOP_PHYSICAL_BLOCK		4096u

/* 6.11: cache, NOWAIT and the rest became features; limits are committed whole */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline int ploop_set_limits(struct gendisk *disk,
				   const struct ploop_limits *l)
{
	struct request_queue *q = disk->queue;
	unsigned int granularity = max(PLOOP_PHYSICAL_BLOCK, l->block_size);

	blk_queue_logical_block_size(q, l->block_size);
	blk_queue_physical_block_size(q, granularity);
	blk_queue_io_min(q, granularity);
	blk_queue_dma_alignment(q, l->dma_alignment);
	q->limits.discard_granularity = granularity;
	blk_queue_max_discard_sectors(q, PLOOP_MAX_DISCARD_SECTORS);
	blk_queue_max_write_zeroes_sectors(q, PLOOP_MAX_DISCARD_SECTORS);
	blk_queue_write_cache(q, true, true);
	blk_queue_flag_set(QUEUE_FLAG_NOWAIT, q);
	blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	blk_queue_flag_set(QUEUE_FLAG_IO_STAT, q);
	blk_queue_flag_clear(QUEUE_FLAG_ADD_RANDOM, q);
	if (l->stable_writes)
		blk_queue_flag_set(QUEUE_FLAG_STABLE_WRITES, q);
	else
		blk_queue_flag_clear(QUEUE_FLAG_STABLE_WRITES, q);
	return 0;
}
#else
static inline int ploop_set_limits(struct gendisk *disk,
				   const struct ploop_limits *l)
{
	struct queue_limits lim = queue_limits_start_update(disk->queue);
	unsigned int granularity = max(PLOOP_PHYSICAL_BLOCK, l->block_size);

	lim.logical_block_size = l->block_size;
	lim.physical_block_size = granularity;
	lim.io_min = granularity;
	lim.dma_alignment = l->dma_alignment;
	lim.discard_granularity = granularity;
	lim.max_hw_discard_sectors = PLOOP_MAX_DISCARD_SECTORS;
	lim.max_write_zeroes_sectors = PLOOP_MAX_DISCARD_SECTORS;
	lim.features = BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA | BLK_FEAT_NOWAIT |
		       BLK_FEAT_IO_STAT;
	if (l->stable_writes)
		lim.features |= BLK_FEAT_STABLE_WRITES;
	return queue_limits_commit_update(disk->queue, &lim);
}
#endif

/* 6.11: a feature instead of a flag of the queue */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline bool ploop_stable_writes(struct request_queue *q)
{
	return test_bit(QUEUE_FLAG_STABLE_WRITES, &q->queue_flags);
}
#else
static inline bool ploop_stable_writes(struct request_queue *q)
{
	return q->limits.features & BLK_FEAT_STABLE_WRITES;
}
#endif

/* 6.13: the namespace of MODULE_IMPORT_NS() became a string */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define PLOOP_IMPORT_KUNIT_NS	MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING)
#else
#define PLOOP_IMPORT_KUNIT_NS	MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING")
#endif

/* 6.17: struct fileattr got its present name */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define file_kattr	fileattr
#endif

/* 6.17: what is not unbound says so; one has a new name, and warns when called by the old one */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define system_dfl_wq	system_unbound_wq
#define WQ_PERCPU		0
#endif

#endif /* PLOOP_COMPAT_H */
