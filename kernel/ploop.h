/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_H
#define PLOOP_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/ploop.h>
#include <linux/ploop1_image.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "compat.h"
#include "balloon.h"
#include "delta.h"
#include "epoch.h"
#include "format.h"
#include "io.h"
#include "map.h"
#include "stats.h"

/*
 * Lock ranking, outer first:
 *
 *   ploop_devices_mutex        the set of devices, reservations
 *     plo->ctl_mutex           one control operation at a time; deltas, levels
 *       disk->open_mutex       (block layer) openers, partitions
 *       images_mutex           registry.c: attached images by inode
 *       formats_lock, engines_lock   registry.c: plug-ins
 *     plo->flush_mutex         one index writeback at a time
 *       stable->mutex          the host's promise begins or ends
 *       plo->epoch.mutex       one flip, quiesce, open or close at a time
 *       delta->alloc.mutex     image clusters; held over fallocate
 *         plo->free_lock       freed extents
 *       hostmap->mutex         one change of what is known of a file
 *     plo->move.mutex          the next cluster to move
 *     plo->balloon.mutex       a discard is collected
 *   plo->owner_lock            who tracks writes or froze filesystems
 *   plo->trans_lock            a move from the delta that is merged away
 *   plo->cluster_lock          owners of clusters and who waits for them [irq]
 *   plo->park_lock             parked, held and flushing bios [irq]
 *
 * The data path takes none of the mutexes but alloc.mutex, and that only to
 * allocate. No lock is held while a bio is completed. Quiesced means: no bio
 * holds an epoch and none gets one. What is marked so below changes only then,
 * or while the device does not run; who holds an epoch may read it.
 */

/** PLOOP_FSYNC_MAX_DEFAULT: clusters that MERGE, GROW or RELOCBLKS move at the same time */
#define PLOOP_FSYNC_MAX_DEFAULT	32
/** PLOOP_FSYNC_MAX_LIMIT: ... and the most that ptune/fsync_max takes */
#define PLOOP_FSYNC_MAX_LIMIT	1024
/** PLOOP_COPY_PAGES: pages a copy-up uses when memory is plenty */
#define PLOOP_COPY_PAGES	64
/** PLOOP_MAX_IO_BYTES: longest transfer handed to an engine at once */
#define PLOOP_MAX_IO_BYTES	(1U << 20)

/**
 * enum ploop_state - bits of ploop_device.state
 * @PLOOP_S_RUNNING: started; bios are served
 * @PLOOP_S_STOPPING: STOP has begun; nobody may open the device
 * @PLOOP_S_ABORT: an index write or sync failed; writes fail, reads go on
 * @PLOOP_S_NOSPC: the host is full and somebody was told
 * @PLOOP_S_EVENT_NOSPC: an ENOSPC event waits for a reader of pstate/event
 * @PLOOP_S_RECLAIM_PAUSED: freed clusters have to wait
 * @PLOOP_S_DENSE: clusters of the image get no holes
 * @PLOOP_S_KEEP_MAPPED: a client works with the index of the top: discards give
 *                       space back, but leave entries as they are
 * @PLOOP_S_COLLECT: discards are collected for the client
 * @PLOOP_S_MARKING: clusters are being marked as moving: writes to such have to
 *                   wait, because others may still be under way to the old place
 * @PLOOP_S_SLOW: all I/O goes through the filesystem of the host
 * @PLOOP_S_DEAD: the device is being removed
 */
enum ploop_state {
	PLOOP_S_RUNNING,
	PLOOP_S_STOPPING,
	PLOOP_S_ABORT,
	PLOOP_S_NOSPC,
	PLOOP_S_EVENT_NOSPC,
	PLOOP_S_RECLAIM_PAUSED,
	PLOOP_S_DENSE,
	PLOOP_S_KEEP_MAPPED,
	PLOOP_S_COLLECT,
	PLOOP_S_MARKING,
	PLOOP_S_SLOW,
	PLOOP_S_DEAD,
};

#define PLOOP_LOCK_BUCKETS	64

/**
 * struct ploop_move - clusters that a MERGE or GROW moves in the background
 * @mutex: see lock ranking
 * @next: where to look for the next cluster [mutex]
 * @movers: workers, each with one cluster [ctl_mutex]
 * @nr_movers: number of @movers [ctl_mutex]
 * @active: movers that have not ended [atomic]
 * @err: first error; the others end then [atomic]
 * @done: clusters moved [atomic]
 * @total: clusters there were to move [const while active]
 * @wait: woken when @active becomes 0
 */
struct ploop_move {
	struct mutex mutex;
	u32 next;
	struct ploop_mover *movers;
	unsigned int nr_movers;
	atomic_t active;
	int err;
	atomic64_t done;
	u64 total;
	wait_queue_head_t wait;
};

/**
 * struct ploop_grow - what a GROW wants
 * @size: sectors of the device
 * @index_clusters: clusters of the file that header and index will take
 */
struct ploop_grow {
	u64 size;
	u32 index_clusters;
};

/**
 * struct ploop_device - a device
 * @index: N of ploopN [const]
 * @disk: the block device [const]
 * @state: enum ploop_state bits [atomic]
 * @ctl_mutex: see lock ranking
 * @maintenance: enum ploop_maintenance [ctl_mutex]
 * @cluster_log: log2 of sectors per cluster, from the first delta [ctl_mutex]
 * @version: PLOOP1 version of all deltas above a raw base, 0: none [ctl_mutex]
 * @size: sectors [ctl_mutex]
 * @cookie: name given by the user [ctl_mutex]
 * @reserved: a control file handed the device out [ploop_devices_mutex]
 * @nr_deltas: levels in use [ctl_mutex; read without it for sysfs]
 * @level: deltas by level [ctl_mutex]
 * @slot: deltas by slot; one more than levels, for a delta that replaces one of a
 *        full stack [a delta's goes when no epoch knows it any more]
 * @top: where writes go: the highest delta, or while merging the one below
 *       [quiesced]
 * @map: where each cluster is; NULL on a stopped device: START reads it
 *       [quiesced]
 * @stable_deltas: deltas whose host promises not to move blocks; without any, a
 *                 write need not look for them [atomic]
 * @trans: the delta that is merged away, or NULL [quiesced]
 * @below: while merging, the map of the deltas below @trans at the beginning;
 *         used for clusters that are still in @trans [quiesced]
 * @trans_lock: a cluster moves from @trans in the map, and both indexes know it,
 *              at once
 * @move: what moves in the background
 * @grow: what the GROW under way wants [ctl_mutex]
 * @balloon: free blocks and what RELOCBLKS does with them
 * @track: notes of the write tracker, or NULL [ctl_mutex; RCU]
 * @frozen: filesystems that FREEZE has frozen, or NULL [ctl_mutex]
 * @owner_lock: protects @owner
 * @owner: process that tracks writes or has frozen filesystems, or NULL
 * @owner_work: lets go what a dead owner held
 * @noio: what to give to memalloc_noio_restore() [ctl_mutex]
 * @flush_noio: the same [flush_mutex]
 * @quiesced: ploop_quiesce() closed the epoch [ctl_mutex]
 * @epoch: bios from lookup to completion
 * @active: bios from submission to completion, that became a struct ploop_io
 * @active_drained: @active reached 0
 * @cluster_lock: protects @locks and the waiters lists behind it
 * @locks: owners of clusters, by hash
 * @park_lock: see lock ranking
 * @parked: ios that wait for space or memory [park_lock]
 * @flushing: ios that wait for a flush [park_lock]
 * @held: ios that wait for the end of a quiesce [park_lock]
 * @free_lock: protects the freed extents of the deltas
 * @flush_mutex: one index writeback at a time; the top changes under it
 * @io_pool: ios that guarantee that bios make progress
 * @copy_pool: pages that guarantee that a copy-up makes progress
 * @clones: bios on their way to the disks of the host
 * @data_wq: runs ios
 * @index_wq: runs flushes and reclaim; never waited for by @data_wq
 * @flush_work: serves @flushing
 * @reclaim_work: serves the freed extents of @top
 * @unpark_work: retries @parked
 * @event_work: tells the world about @PLOOP_S_NOSPC
 * @event_wait: sleepers in pstate/event
 * @stats: counters
 * @stat_base: what pstat shows as 0 [atomic]
 * @kobj_state: sysfs pstate
 * @kobj_stat: sysfs pstat
 * @kobj_tune: sysfs ptune
 * @kobj_delta: sysfs pdelta
 * @fsync_max: clusters that are moved at the same time [atomic]
 * @check_zeros: writes of zeros to holes allocate nothing [atomic]
 */
struct ploop_device {
	int index;
	struct gendisk *disk;
	unsigned long state;

	struct mutex ctl_mutex;
	enum ploop_maintenance maintenance;
	u8 cluster_log;
	u8 version;
	u64 size;
	char cookie[PLOOP_COOKIE_SIZE];
	bool reserved;

	unsigned int nr_deltas;
	struct ploop_delta *level[PLOOP_MAX_LEVELS];
	struct ploop_delta *slot[PLOOP_MAX_LEVELS + 1];
	struct ploop_delta *top;
	struct ploop_map *map;
	atomic_t stable_deltas;
	struct ploop_delta *trans;
	struct ploop_map *below;
	spinlock_t trans_lock;
	struct ploop_move move;
	struct ploop_grow grow;
	struct ploop_balloon balloon;
	struct ploop_track __rcu *track;
	struct ploop_freeze *frozen;
	spinlock_t owner_lock;
	struct pid *owner;
	struct work_struct owner_work;
	unsigned int noio;
	unsigned int flush_noio;
	bool quiesced;

	struct ploop_epoch epoch;
	struct percpu_ref active;
	struct completion active_drained;

	spinlock_t cluster_lock;
	struct hlist_head locks[PLOOP_LOCK_BUCKETS];
	spinlock_t park_lock;
	struct list_head parked;
	struct list_head flushing;
	struct list_head held;
	spinlock_t free_lock;

	struct mutex flush_mutex;
	mempool_t io_pool;
	mempool_t copy_pool;
	mempool_t clones;

	struct workqueue_struct *data_wq;
	struct workqueue_struct *index_wq;
	struct work_struct flush_work;
	struct delayed_work reclaim_work;
	struct delayed_work unpark_work;
	struct work_struct event_work;
	wait_queue_head_t event_wait;

	struct ploop_stats __percpu *stats;
	u64 stat_base[PLOOP_NR_STATS];
	struct kobject *kobj_state;
	struct kobject *kobj_stat;
	struct kobject *kobj_tune;
	struct kobject *kobj_delta;
	int fsync_max;
	int check_zeros;
};

/**
 * struct ploop_io - a bio on its way
 * @plo: its device
 * @bio: the bio; data bios lie within one cluster. NULL for a mover
 * @start: for accounting
 * @epoch: epoch held, or PLOOP_EPOCH_NONE
 * @clu: the cluster being worked on
 * @pos: where in the top's file a write in place goes
 * @preflush: the bio still asks for a flush before its data
 * @fua: the bio still asks for a flush after its data
 * @lock_node: place among the owners [cluster_lock]
 * @waiters: ios that wait for the owner [cluster_lock]
 * @list: place on a list of waiters, parked or flushing ios
 * @work: runs the io on data_wq
 * @iocb: the engine's
 * @iocb_ref: the engine's: submission and completion
 * @iocb_ret: the engine's: result of the transfer
 */
struct ploop_io {
	struct ploop_device *plo;
	struct bio *bio;
	unsigned long start;
	int epoch;
	u32 clu;
	loff_t pos;
	bool preflush;
	bool fua;
	struct hlist_node lock_node;
	struct list_head waiters;
	struct list_head list;
	struct work_struct work;
	struct kiocb iocb;
	atomic_t iocb_ref;
	long iocb_ret;
};

#define ploop_err(plo, fmt, ...) \
	pr_err("%s: " fmt, (plo)->disk->disk_name, ##__VA_ARGS__)
#define ploop_warn(plo, fmt, ...) \
	pr_warn("%s: " fmt, (plo)->disk->disk_name, ##__VA_ARGS__)
#define ploop_info(plo, fmt, ...) \
	pr_info("%s: " fmt, (plo)->disk->disk_name, ##__VA_ARGS__)

/* Bytes per cluster; at most 64 MiB. */
static inline u32 ploop_cluster_bytes(const struct ploop_device *plo)
{
	return 1U << (plo->cluster_log + SECTOR_SHIFT);
}

/* Byte offset of a cluster in an image file: 64 bits, whatever @iblk. */
static inline loff_t ploop_iblk_pos(const struct ploop_device *plo, u64 iblk)
{
	return iblk << (plo->cluster_log + SECTOR_SHIFT);
}

/* Sector of a cluster on the device. */
static inline u32 ploop_sector_clu(const struct ploop_device *plo, sector_t s)
{
	return s >> plo->cluster_log;
}

/* Bytes from the start of its cluster to a sector of the device. */
static inline u32 ploop_sector_off(const struct ploop_device *plo, sector_t s)
{
	return (s & ((1U << plo->cluster_log) - 1)) << SECTOR_SHIFT;
}

/* Where an entry points to in its delta's file. */
static inline loff_t ploop_entry_pos(const struct ploop_device *plo, u64 entry)
{
	return ploop_iblk_pos(plo, ploop_entry_iblk(entry));
}

/* Is this entry's cluster held by the top delta, so that writes go in place? */
static inline bool ploop_entry_is_top(const struct ploop_device *plo, u64 entry)
{
	return entry && ploop_entry_slot(entry) == plo->top->slot &&
	       !(entry & PLOOP_ENTRY_MOVING);
}

/* Is it in the delta that is merged away? */
static inline bool ploop_entry_is_trans(const struct ploop_device *plo, u64 entry)
{
	return entry && plo->trans && ploop_entry_slot(entry) == plo->trans->slot;
}

/* main.c: module parameter, ptune/dense of new devices */
extern bool ploop_dense_default;

/* device.c: life of a device, start and stop in start.c */
extern struct mutex ploop_devices_mutex;
int ploop_devices_init(void);
void ploop_devices_exit(void);
struct ploop_device *ploop_device_find(int index);
struct ploop_device *ploop_device_find_free(void);
struct ploop_device *ploop_device_add(int index);
int ploop_device_remove(struct ploop_device *plo);
int ploop_start(struct ploop_device *plo);
int ploop_stop(struct ploop_device *plo, struct block_device *bdev);
int ploop_delta_fits_limits(const struct ploop_delta *delta);

/* control.c: ioctls of a device; ctldev.c: /dev/ploop-control and /proc/vz */
int ploop_ioctl(struct block_device *bdev, blk_mode_t mode, unsigned int cmd,
		unsigned long arg);
int ploop_ctldev_init(void);
void ploop_ctldev_exit(void);

/* delta.c */
struct ploop_delta *ploop_delta_open(struct ploop_device *plo, const struct ploop_ctl *ctl,
				     const struct ploop_ctl_chunk *chunk, unsigned int level,
				     struct ploop_map **map);
void ploop_delta_close(struct ploop_delta *delta);
void ploop_delta_push(struct ploop_device *plo, struct ploop_delta *delta);
void ploop_delta_drop(struct ploop_device *plo, struct ploop_delta *delta);
int ploop_delta_add(struct ploop_device *plo, const struct ploop_ctl *ctl,
		    const struct ploop_ctl_chunk *chunk);
void ploop_delta_clear(struct ploop_device *plo);
struct file *ploop_delta_reopen(struct ploop_delta *delta, bool rdonly);
int ploop_delta_switch(struct ploop_delta *delta, struct file *file, bool rdonly);
int ploop_delta_arm(struct ploop_delta *delta, const struct ploop_map *map);
int ploop_delta_disarm(struct ploop_delta *delta);

/* stack.c: changes of the stack that keep what the disk shows */
int ploop_stack_load(struct ploop_delta *const *level, unsigned int n, struct ploop_map **map);
int ploop_stack_delete(struct ploop_device *plo, u32 level);
int ploop_stack_replace(struct ploop_device *plo, const struct ploop_ctl *ctl,
			const struct ploop_ctl_chunk *chunk);
int ploop_stack_update_index(struct ploop_device *plo, const struct ploop_index_update_ctl *ctl,
			     const struct ploop_reloc_map __user *list);
int ploop_stack_truncate(struct ploop_device *plo, const struct ploop_truncate_ctl *ctl);

/* snapshot.c */
int ploop_snapshot(struct ploop_device *plo, const struct ploop_ctl *ctl,
		   const struct ploop_ctl_chunk *chunk);

/* track.c: what is written while a client copies the top's file */
int ploop_track_start(struct ploop_device *plo, struct ploop_track_extent *ext);
void ploop_track_stop(struct ploop_device *plo);
int ploop_track_set_pos(struct ploop_device *plo, u64 pos);
int ploop_track_read(struct ploop_device *plo, struct ploop_track_extent *ext);
int ploop_track_finish(struct ploop_device *plo);
void ploop_track_lose(struct ploop_device *plo);
void ploop_track_wrote(struct ploop_device *plo, u64 pos, u64 len);

/* owner.c: the process that tracks or has frozen */
void ploop_owner_take(struct ploop_device *plo);
void ploop_owner_drop(struct ploop_device *plo);
void ploop_owner_release(struct ploop_device *plo);
void ploop_owner_check(struct ploop_device *plo);
void ploop_owner_work(struct work_struct *work);

/* freeze.c: what is mounted from a device */
int ploop_fs_freeze(struct ploop_device *plo);
void ploop_fs_thaw(struct ploop_device *plo);
struct ploop_freeze *ploop_freeze(struct ploop_device *plo);
void ploop_thaw(struct ploop_freeze *f);

/* merge.c */
int ploop_merge(struct ploop_device *plo);
void ploop_merge_stop(struct ploop_device *plo);

/* grow.c */
int ploop_grow(struct ploop_device *plo, u64 size);
int ploop_grow_wait(struct ploop_device *plo);
void ploop_grow_stop(struct ploop_device *plo);

/* move.c: clusters on the move, for merge.c, grow.c and reloc.c */
u64 ploop_move_mark(struct ploop_device *plo, u64 from, u64 end);
void ploop_move_unmark(struct ploop_device *plo);
int ploop_move_prepare(struct ploop_device *plo);
void ploop_move_start(struct ploop_device *plo, u64 total);
int ploop_move_wait(struct ploop_device *plo, enum ploop_maintenance state);
void ploop_move_finish(struct ploop_device *plo);
bool ploop_move_active(struct ploop_device *plo);

/* quiesce.c */
int ploop_quiesce(struct ploop_device *plo);
void ploop_relax(struct ploop_device *plo);
bool ploop_io_enter(struct ploop_io *io);
void ploop_io_leave(struct ploop_io *io);

/* registry.c: images; plug-ins are in format.h and io.h */
int ploop_image_claim(struct ploop_delta *delta, struct inode *inode);
int ploop_image_set_written(struct ploop_delta *delta, bool written);
void ploop_image_release(struct ploop_delta *delta);

/* request.c */
int ploop_request_init(void);
void ploop_request_exit(void);
int ploop_request_pool(struct ploop_device *plo);
void ploop_io_init(struct ploop_io *io, struct ploop_device *plo, struct bio *bio,
		   work_func_t fn);
void ploop_request_slow(struct ploop_device *plo, struct bio *bio, unsigned long start);
void ploop_submit_bio(struct bio *bio);
void ploop_io_queue(struct ploop_io *io);
void ploop_io_end(struct ploop_io *io, int err);
void ploop_io_park(struct ploop_io *io, int err);
void ploop_io_transferred(struct ploop_io *io, long ret);
void ploop_unpark_work(struct work_struct *work);
void ploop_abort(struct ploop_device *plo, const char *why, int err);

/* fast.c */
int ploop_fast_setup(void);
void ploop_fast_cleanup(void);
int ploop_fast_init(struct ploop_device *plo);
void ploop_fast_exit(struct ploop_device *plo);
bool ploop_fast_submit(struct ploop_device *plo, struct bio *bio, u64 entry, int epoch);

/* lock.c: cluster locks */
bool ploop_cluster_trylock(struct ploop_io *io, u32 clu);
void ploop_cluster_unlock(struct ploop_io *io);

/* write.c */
void ploop_io_write(struct ploop_io *io);
int ploop_write_new(struct ploop_io *io, u64 entry, u32 off, u32 len);
bool ploop_must_park(int err);

/* discard.c */
void ploop_io_discard(struct ploop_io *io);

/* copyup.c: transfers of whole clusters */
int ploop_copy_init(struct ploop_device *plo);
void ploop_copy_exit(struct ploop_device *plo);
void ploop_copy_cleanup(void);
int ploop_copy_range(struct ploop_device *plo, u64 from, u32 to, u32 off, u32 len,
		     bool skip_zeros);
int ploop_write_zeros(struct ploop_delta *delta, loff_t pos, u32 len);

/* alloc.c, reclaim.c */
int ploop_alloc_start(struct ploop_delta *delta, const struct ploop_map *map);
int ploop_alloc_stop(struct ploop_delta *delta);
int ploop_alloc_used(const struct ploop_delta *delta, const struct ploop_map *map,
		     struct ploop_bitmap *used, u64 *end);
void ploop_alloc_limit(struct ploop_delta *delta, u64 floor, u64 ceiling);
void ploop_alloc_unlimit(struct ploop_delta *delta);
u64 ploop_alloc_freeze(struct ploop_delta *delta);
u64 ploop_alloc_head(struct ploop_delta *delta);
bool ploop_alloc_has_room(struct ploop_delta *delta);
u64 ploop_alloc_plan(struct ploop_delta *delta, struct ploop_bitmap *used, u64 window);
void ploop_alloc_trim(struct ploop_delta *delta);
int ploop_alloc_cut(struct ploop_delta *delta, u64 head, u64 end);
int ploop_alloc_cluster(struct ploop_delta *delta, u32 *iblk, bool *clean);
void ploop_free_cluster(struct ploop_delta *delta, u32 iblk);
int ploop_free_extent(struct ploop_delta *delta, u32 iblk, u32 len, gfp_t gfp);
void ploop_reclaim_now(struct ploop_device *plo);
void ploop_reclaim_pause(struct ploop_device *plo);
void ploop_reclaim_resume(struct ploop_device *plo);
int ploop_reclaim_punch(struct ploop_delta *delta, struct list_head *batch);
void ploop_reclaim_drop(struct ploop_delta *delta);
void ploop_reclaim_keep(struct ploop_delta *delta, u64 from, u64 to);
void ploop_reclaim_wait(struct ploop_device *plo);
void ploop_reclaim_work(struct work_struct *work);

/* flush.c */
int ploop_index_init(struct ploop_delta *delta, u32 clusters);
void ploop_index_exit(struct ploop_delta *delta);
int ploop_index_grow(struct ploop_index *bigger, u32 clusters);
void ploop_index_swap(struct ploop_delta *delta, struct ploop_index *bigger);
void ploop_index_mark(struct ploop_delta *delta, u32 clu);
int ploop_index_write_most(struct ploop_device *plo);
int ploop_index_copy(struct ploop_delta *delta, struct xarray *pages);
int ploop_index_write_copy(struct ploop_delta *delta, struct xarray *pages);
void ploop_index_free_copy(struct xarray *pages);
int ploop_index_write(struct ploop_device *plo);
int ploop_flush(struct ploop_device *plo);
int ploop_flush_locked(struct ploop_device *plo);
int ploop_sync(struct ploop_device *plo);
void ploop_flush_lock(struct ploop_device *plo);
void ploop_flush_unlock(struct ploop_device *plo);
void ploop_flush_queue(struct ploop_io *io);
void ploop_flush_work(struct work_struct *work);
int ploop_delta_sync(struct ploop_delta *delta, bool full);

/* sysfs.c */
void ploop_sysfs_init(void);
int ploop_sysfs_add(struct ploop_device *plo);
void ploop_sysfs_remove(struct ploop_device *plo);
int ploop_sysfs_add_delta(struct ploop_delta *delta);
void ploop_sysfs_remove_delta(struct ploop_delta *delta);
void ploop_sysfs_rename_delta(struct ploop_delta *delta);
void ploop_event_work(struct work_struct *work);

/* How to find memory for a bio on its way in. */
static inline gfp_t ploop_bio_gfp(const struct bio *bio)
{
	return bio->bi_opf & REQ_NOWAIT ? GFP_NOWAIT | __GFP_NOWARN : GFP_NOIO;
}

/*
 * Is the host frozen? Asked before calls that would hold a worker, and perhaps
 * the allocator's mutex, until it thaws. It may freeze right after: then they do.
 */
static inline bool ploop_host_frozen(struct ploop_delta *delta)
{
	if (!file_start_write_trylock(delta->file))
		return true;
	file_end_write(delta->file);
	return false;
}

/* A note for every completed write, before it is acknowledged. */
static inline void ploop_delta_dirty(struct ploop_delta *delta)
{
	/* Test first: the line stays shared while the delta is dirty. */
	if (!READ_ONCE(delta->dirty))
		xchg(&delta->dirty, 1);
}

/* A note for the client that copies the top's file meanwhile. */
static inline void ploop_delta_track(struct ploop_delta *delta, u64 pos, u64 len)
{
	if (unlikely(rcu_access_pointer(delta->plo->track)) && delta == delta->plo->top)
		ploop_track_wrote(delta->plo, pos, len);
}

/* The same for engines and who completes their work, with what was written. */
static inline void ploop_delta_wrote(struct ploop_delta *delta, u64 pos, u64 len)
{
	ploop_delta_dirty(delta);
	ploop_delta_track(delta, pos, len);
}

/* For what went to the host's disk without its filesystem. */
static inline void ploop_delta_wrote_fast(struct ploop_delta *delta, u64 pos, u64 len)
{
	if (!READ_ONCE(delta->fast_dirty))
		xchg(&delta->fast_dirty, 1);
	ploop_delta_track(delta, pos, len);
}

#endif /* PLOOP_H */
