/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_DELTA_H
#define PLOOP_DELTA_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/types.h>

#include "bitmap.h"
#include "stable.h"

struct file;
struct inode;
struct kobject;
struct page;
struct ploop_device;
struct ploop_format_ops;
struct ploop_io_ops;

/** PLOOP_INDEX_BATCH: index pages written between two syncs */
#define PLOOP_INDEX_BATCH	32

/** PLOOP_NO_CEILING: ploop_alloc.ceiling: above every cluster */
#define PLOOP_NO_CEILING	(1ULL << 32)

/**
 * struct ploop_image - attached image file, known to all devices
 * @list: registry [images_mutex]
 * @inode: the file's inode, pinned by the deltas that use it
 * @users: deltas that use it: many that read, or one that writes [images_mutex]
 * @written: the user writes [images_mutex]
 */
struct ploop_image {
	struct list_head list;
	struct inode *inode;
	struct list_head users;
	bool written;
};

/**
 * struct ploop_alloc - clusters of the file of a writable top delta
 * @mutex: see lock ranking
 * @clean: free clusters that read as zeros [mutex]
 * @reusable: free clusters with old content; used by dense devices only [mutex]
 * @head: next cluster at the end of the file [mutex]
 * @prealloc_end: clusters below this have space in the host [mutex]
 * @floor: clusters below this are not given out: the index grows there, or a
 *         client has listed what lies there [mutex]
 * @ceiling: holes from here on are not given out: the file is to end here, or
 *           PLOOP_NO_CEILING [mutex]
 * @cursor: where the search for a clean cluster starts [mutex]
 */
struct ploop_alloc {
	struct mutex mutex;
	struct ploop_bitmap clean;
	struct ploop_bitmap reusable;
	u64 head;
	u64 prealloc_end;
	u64 floor;
	u64 ceiling;
	u64 cursor;
};

/**
 * struct ploop_index - index of a writable top delta, on its way to the disk
 * @dirty: pages that differ from the disk [atomic bits]
 * @pages: number of pages; 0 for a delta without an index
 * @presync: an entry was published whose data must be durable before it
 *           [atomic bit 0]
 * @buf: pages a writeback uses [flush_mutex]
 */
struct ploop_index {
	unsigned long *dirty;
	u32 pages;
	unsigned long presync;
	struct page *buf[PLOOP_INDEX_BATCH];
};

/**
 * struct ploop_delta - one level of a device
 * @plo: its device [const]
 * @fmt: format of the image [const]
 * @io: how the file is read and written [const]
 * @format_priv: the format's own data
 * @file: opened by and for the driver alone [ctl_mutex; who holds an epoch
 *        may use what he read]
 * @path: where the file is; unlike @file it does not change [const]
 * @image: entry in the registry of attached images [const]
 * @kobj: sysfs pdelta/<level> [ctl_mutex]
 * @slot: stable name of the delta in map entries [const]
 * @level: place in the stack, 0 is the base [ctl_mutex]
 * @rdonly: the driver never writes to the file [ctl_mutex, quiesced]
 * @version: PLOOP1 version 1 or 2; 0 for raw [const]
 * @size: size of the virtual disk in this delta, sectors
 * @index_clusters: clusters of the file before the first data cluster
 * @max_iblk: highest cluster number the format can store [const]
 * @max_clusters: clusters the file may have by MAX_DELTA_SIZE
 * @block_size: what direct I/O on the file wants positions aligned to, bytes
 * @dma_alignment: mask of what it wants memory aligned to
 * @bounce: the host sums up data while writing, so pages must not change:
 *          payload is copied first [const]
 * @stable_writes: the host asks for stable pages [const]
 * @dirty: something was written since the last successful sync [atomic]
 * @fast_dirty: the same, by what bypassed its filesystem [atomic]
 * @times_due: the times of the file are older than what was written [flush_mutex]
 * @times_next: when they may be updated again, jiffies [flush_mutex]
 * @stable: the host's promise not to move its blocks
 * @io_priv: the engine's own data
 * @users: place among the users of @image [images_mutex]
 * @alloc: clusters of the file; of a top delta that runs
 * @index: its index
 * @freed: extents of the file that wait to become clean [free_lock]
 */
struct ploop_delta {
	struct ploop_device *plo;
	struct ploop_format_ops *fmt;
	struct ploop_io_ops *io;
	void *format_priv;
	struct file *file;
	struct path path;
	struct ploop_image *image;
	struct kobject *kobj;
	u8 slot;
	u8 level;
	bool rdonly;
	u8 version;
	u64 size;
	u32 index_clusters;
	u32 max_iblk;
	u64 max_clusters;
	u32 block_size;
	u32 dma_alignment;
	bool bounce;
	bool stable_writes;
	int dirty;
	int fast_dirty;
	bool times_due;
	unsigned long times_next;
	struct ploop_stable stable;
	void *io_priv;
	struct list_head users;
	struct ploop_alloc alloc;
	struct ploop_index index;
	struct list_head freed;
};

/**
 * struct ploop_freed - clusters of the image that nobody refers to any more
 * @list: ploop_delta.freed [free_lock]
 * @iblk: first cluster
 * @len: number of clusters
 */
struct ploop_freed {
	struct list_head list;
	u32 iblk;
	u32 len;
};

#endif /* PLOOP_DELTA_H */
