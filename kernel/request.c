// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bios: from submission to completion.
 *
 * submit_bio never enters a filesystem: it answers reads of holes itself and
 * hands everything else to a worker as a struct ploop_io. An io holds an epoch
 * from its lookup in the map to its completion; one that has to wait (for the
 * owner of a cluster, for space, for a flush) gives the epoch back first and
 * starts over from its lookup.
 */
#include "ploop.h"

#include <linux/blk-cgroup.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

/*
 * Ios of a device that can be in flight however short memory is. Not shared:
 * a device may lie on another one's filesystem and wait for its ios.
 */
#define IO_POOL_SIZE	16
#define PARK_NOSPC	HZ
#define PARK_OTHER	(HZ / 10)

static struct kmem_cache *io_cache;

static void io_work(struct work_struct *work);

/**
 * ploop_request_init() - make the cache of all ios
 *
 * Return: 0 or -ENOMEM.
 */
int __init ploop_request_init(void)
{
	io_cache = KMEM_CACHE(ploop_io, 0);
	return io_cache ? 0 : -ENOMEM;
}

/**
 * ploop_request_exit() - undo ploop_request_init()
 */
void ploop_request_exit(void)
{
	kmem_cache_destroy(io_cache);
}

/**
 * ploop_request_pool() - make the reserve of ios of a device
 * @plo: the device
 *
 * Return: 0 or -ENOMEM.
 */
int ploop_request_pool(struct ploop_device *plo)
{
	return mempool_init_slab_pool(&plo->io_pool, IO_POOL_SIZE, io_cache);
}

/**
 * ploop_io_init() - make an io
 * @io: the io
 * @plo: its device
 * @bio: what it carries out, or NULL
 * @fn: what its worker runs
 */
void ploop_io_init(struct ploop_io *io, struct ploop_device *plo, struct bio *bio,
		   work_func_t fn)
{
	io->plo = plo;
	io->bio = bio;
	io->epoch = PLOOP_EPOCH_NONE;
	io->clu = 0;
	io->preflush = bio && bio->bi_opf & REQ_PREFLUSH;
	io->fua = bio && bio->bi_opf & REQ_FUA;
	INIT_HLIST_NODE(&io->lock_node);
	INIT_LIST_HEAD(&io->waiters);
	INIT_LIST_HEAD(&io->list);
	INIT_WORK(&io->work, fn);
}

static struct ploop_io *io_alloc(struct ploop_device *plo, struct bio *bio)
{
	gfp_t gfp = ploop_bio_gfp(bio);
	/* Past the reserve, as long as that can be. */
	struct ploop_io *io = kmem_cache_alloc(io_cache, GFP_NOWAIT | __GFP_NOWARN);

	io = io ?: mempool_alloc(&plo->io_pool, gfp);
	if (io)
		ploop_io_init(io, plo, bio, io_work);
	return io;
}

/**
 * ploop_io_queue() - have a worker carry out an io, from its lookup
 * @io: the io; holds no epoch
 *
 * Context: any.
 */
void ploop_io_queue(struct ploop_io *io)
{
	queue_work(io->plo->data_wq, &io->work);
}

/**
 * ploop_io_end() - an io is done
 * @io: the io; owns no cluster. Freed, unless it still has to be flushed.
 * @err: 0 or a negative errno
 *
 * Context: any, also hard interrupt.
 */
void ploop_io_end(struct ploop_io *io, int err)
{
	struct ploop_device *plo = io->plo;
	struct bio *bio = io->bio;

	ploop_io_leave(io);
	if (io->fua && !err) {
		ploop_flush_queue(io);
		return;
	}
	ploop_stat_inc(plo, PLOOP_STAT_BIO_OUT);
	bio->bi_status = errno_to_blk_status(err == -EFBIG ? -ENOSPC : err);
	bio_end_io_acct(bio, io->start);
	mempool_free(io, &plo->io_pool);
	bio_endio(bio);
	percpu_ref_put(&plo->active);
}

/**
 * ploop_io_park() - an io waits for the host to have space, or memory
 * @io: the io; owns no cluster
 * @err: why, see ploop_must_park()
 *
 * Context: any, also hard interrupt.
 */
void ploop_io_park(struct ploop_io *io, int err)
{
	struct ploop_device *plo = io->plo;
	bool nospc = err == -ENOSPC || err == -EDQUOT;
	unsigned long flags;

	ploop_io_leave(io);
	ploop_stat_inc(plo, PLOOP_STAT_BIO_PARKED);
	spin_lock_irqsave(&plo->park_lock, flags);
	list_add_tail(&io->list, &plo->parked);
	spin_unlock_irqrestore(&plo->park_lock, flags);
	if (nospc && !test_and_set_bit(PLOOP_S_NOSPC, &plo->state)) {
		set_bit(PLOOP_S_EVENT_NOSPC, &plo->state);
		queue_work(plo->index_wq, &plo->event_work);
	}
	queue_delayed_work(plo->index_wq, &plo->unpark_work,
			   nospc ? PARK_NOSPC : PARK_OTHER);
}

/**
 * ploop_unpark_work() - try parked ios again
 * @work: ploop_device.unpark_work
 *
 * Context: worker of index_wq.
 */
void ploop_unpark_work(struct work_struct *work)
{
	struct ploop_device *plo = container_of(to_delayed_work(work),
						struct ploop_device, unpark_work);
	struct ploop_io *io, *next;
	LIST_HEAD(ios);

	spin_lock_irq(&plo->park_lock);
	list_splice_init(&plo->parked, &ios);
	spin_unlock_irq(&plo->park_lock);
	if (list_empty(&ios)) {
		clear_bit(PLOOP_S_NOSPC, &plo->state);
		return;
	}
	list_for_each_entry_safe(io, next, &ios, list) {
		list_del_init(&io->list);
		ploop_io_queue(io);
	}
	/* Who finds the host full again is back by then; else it is over. */
	if (test_bit(PLOOP_S_NOSPC, &plo->state))
		queue_delayed_work(plo->index_wq, &plo->unpark_work, PARK_NOSPC);
}

/**
 * ploop_abort() - stop writing to the images of a device
 * @plo: the device
 * @why: what happened, for the log
 * @err: errno, or 0
 *
 * What the index on the disk says is unknown from now on; only a check of the
 * image, after CLEAR, can tell.
 *
 * Context: any.
 */
void ploop_abort(struct ploop_device *plo, const char *why, int err)
{
	if (test_and_set_bit(PLOOP_S_ABORT, &plo->state))
		return;
	ploop_err(plo, "%s (error %d): writes are refused until the device is cleared\n",
		  why, err);
	wake_up_interruptible(&plo->event_wait);
	mod_delayed_work(plo->index_wq, &plo->unpark_work, 0);
}

/* The rest of a transfer, after a part of it. */
static void transferred_part(struct ploop_io *io, long ret)
{
	struct bio *bio = io->bio;

	bio_advance(bio, ret);
	if (!ret && bio_op(bio) == REQ_OP_READ) {
		/* The file ends here; behind its end the disk is zeros. */
		zero_fill_bio(bio);
		ploop_io_end(io, 0);
	} else if (!ret) {
		ploop_io_end(io, -EIO);
	} else {
		ploop_io_leave(io);
		ploop_io_queue(io);
	}
}

/**
 * ploop_io_transferred() - the engine is done with what it was given
 * @io: the io
 * @ret: number of bytes, or a negative errno
 *
 * Context: any, also hard interrupt.
 */
void ploop_io_transferred(struct ploop_io *io, long ret)
{
	bool is_write = op_is_write(bio_op(io->bio));

	/* Before anybody hears of it: the next flush must not skip it. */
	if (is_write && ret)
		ploop_delta_wrote(io->plo->top, io->pos, io->bio->bi_iter.bi_size);
	if (ret >= 0 && ret < io->bio->bi_iter.bi_size)
		transferred_part(io, ret);
	else if (ret >= 0)
		ploop_io_end(io, 0);
	else if (ploop_must_park(ret))
		ploop_io_park(io, ret);
	else
		ploop_io_end(io, ret);
}
EXPORT_SYMBOL_GPL(ploop_io_transferred);

static void io_read(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	sector_t sector = io->bio->bi_iter.bi_sector;
	u64 entry = ploop_map_lookup(plo->map, ploop_sector_clu(plo, sector));
	struct ploop_delta *delta;

	if (!entry) {
		zero_fill_bio(io->bio);
		ploop_io_end(io, 0);
		return;
	}
	delta = plo->slot[ploop_entry_slot(entry)];
	ploop_stable_touch(delta, ploop_entry_iblk(entry), ploop_sector_off(plo, sector),
			   io->bio->bi_iter.bi_size);
	delta->io->submit(delta, io, ploop_entry_pos(plo, entry) +
			  ploop_sector_off(plo, sector));
}

static void io_run(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	enum req_op op = bio_op(io->bio);

	if (!ploop_io_enter(io))
		return;
	if (op_is_write(op) && (test_bit(PLOOP_S_ABORT, &plo->state) || plo->top->rdonly))
		ploop_io_end(io, -EIO);
	else if (op == REQ_OP_READ)
		io_read(io);
	else if (op == REQ_OP_DISCARD || op == REQ_OP_WRITE_ZEROES)
		ploop_io_discard(io);
	else if (op == REQ_OP_WRITE && io->bio->bi_iter.bi_size)
		ploop_io_write(io);
	else
		ploop_io_end(io, op == REQ_OP_WRITE || op == REQ_OP_FLUSH ? 0 : -EOPNOTSUPP);
}

static void io_work(struct work_struct *work)
{
	struct ploop_io *io = container_of(work, struct ploop_io, work);
	unsigned int noio = memalloc_noio_save();

	/*
	 * Writeback of the host must not throttle us for pages that we clean,
	 * and memory must not come from writing to ourselves.
	 */
	current->flags |= PF_LOCAL_THROTTLE;
	kthread_associate_blkcg(bio_blkcg_css(io->bio));
	io_run(io);
	kthread_associate_blkcg(NULL);
	current->flags &= ~PF_LOCAL_THROTTLE;
	memalloc_noio_restore(noio);
}

/* One cluster, and no more than an engine is given at once. */
static u32 max_bytes(const struct ploop_device *plo, const struct bio *bio)
{
	return min(ploop_cluster_bytes(plo) - ploop_sector_off(plo, bio->bi_iter.bi_sector),
		   PLOOP_MAX_IO_BYTES);
}

/* The rest goes back to the block layer, which sends it to us when this call has returned. */
static struct bio *split(struct ploop_device *plo, struct bio *bio)
{
	u32 max = max_bytes(plo, bio);
	gfp_t gfp = ploop_bio_gfp(bio);
	struct bio *first;

	first = bio_split(bio, max >> SECTOR_SHIFT, gfp, &plo->disk->bio_split);
	if (IS_ERR_OR_NULL(first)) {
		bio_wouldblock_error(bio);
		return NULL;
	}
	bio_chain(first, bio);
	submit_bio_noacct(bio);
	ploop_stat_inc(plo, PLOOP_STAT_BIO_SPLITS);
	return first;
}

/* No memory, no worker. */
static void read_hole(struct ploop_device *plo, struct bio *bio)
{
	unsigned long start = bio_start_io_acct(bio);

	ploop_stat_inc(plo, PLOOP_STAT_BIO_IN);
	ploop_stat_inc(plo, PLOOP_STAT_BIO_RZERO);
	ploop_stat_inc(plo, PLOOP_STAT_BIO_OUT);
	zero_fill_bio(bio);
	bio_end_io_acct(bio, start);
	bio_endio(bio);
}

/*
 * A read of a hole, or what can go to the host's disk as it is; false for all else.
 * The epoch is reference enough: STOP waits for it, too.
 */
static bool serve_at_once(struct ploop_device *plo, struct bio *bio)
{
	int epoch;
	u64 entry;

	if (bio_op(bio) == REQ_OP_WRITE && !atomic_read(&plo->stable_deltas))
		return false;
	epoch = ploop_epoch_get(&plo->epoch);
	if (epoch == PLOOP_EPOCH_NONE)
		return false;
	if (!bio->bi_iter.bi_size || bio->bi_iter.bi_size > max_bytes(plo, bio))
		goto out_put_epoch;
	entry = ploop_map_lookup(plo->map, ploop_sector_clu(plo, bio->bi_iter.bi_sector));
	if (entry && ploop_fast_submit(plo, bio, entry, epoch))
		return true;
	if (entry || bio_op(bio) != REQ_OP_READ)
		goto out_put_epoch;
	ploop_epoch_put(&plo->epoch, epoch);
	read_hole(plo, bio);
	return true;

out_put_epoch:
	ploop_epoch_put(&plo->epoch, epoch);
	return false;
}

static void count_in(struct ploop_device *plo, struct bio *bio)
{
	ploop_stat_inc(plo, PLOOP_STAT_BIO_IN);
	if (bio->bi_opf & REQ_PREFLUSH)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_FLUSH_IN);
	if (bio->bi_opf & REQ_FUA)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_FUA_IN);
	if (bio_op(bio) == REQ_OP_DISCARD || bio_op(bio) == REQ_OP_WRITE_ZEROES)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_DISCARD);
}

/**
 * ploop_request_slow() - a bio that was submitted goes to a worker after all
 * @plo: its device; the caller holds a reference to active, which goes with the bio
 * @bio: the bio; not changed since it came
 * @start: for accounting
 *
 * Context: process, sleeps until there is memory; not a worker of data_wq.
 */
void ploop_request_slow(struct ploop_device *plo, struct bio *bio, unsigned long start)
{
	struct ploop_io *io = mempool_alloc(&plo->io_pool, GFP_NOIO);

	ploop_io_init(io, plo, bio, io_work);
	io->start = start;
	ploop_io_queue(io);
}

/**
 * ploop_submit_bio() - entry of the data path
 * @bio: from the block layer
 *
 * Context: process, may sleep for memory unless the bio says NOWAIT; never
 * enters a filesystem.
 */
void ploop_submit_bio(struct bio *bio)
{
	struct ploop_device *plo = bio->bi_bdev->bd_disk->private_data;
	bool is_data = bio_op(bio) == REQ_OP_READ || bio_op(bio) == REQ_OP_WRITE;
	struct ploop_io *io;

	if (is_data && serve_at_once(plo, bio))
		return;
	/* STOP waits for this reference, so the device stays as it is. */
	if (!percpu_ref_tryget_live(&plo->active)) {
		bio_io_error(bio);
		return;
	}
	if (is_data && bio->bi_iter.bi_size > max_bytes(plo, bio)) {
		bio = split(plo, bio);
		if (!bio || serve_at_once(plo, bio))
			goto out_put_active;
	}
	io = io_alloc(plo, bio);
	if (!io) {
		bio_wouldblock_error(bio);
		goto out_put_active;
	}
	count_in(plo, bio);
	io->start = bio_start_io_acct(bio);
	if (io->preflush)
		ploop_flush_queue(io);
	else
		ploop_io_queue(io);
	return;

out_put_active:
	percpu_ref_put(&plo->active);
}
