// SPDX-License-Identifier: GPL-2.0-only
/*
 * Flushes and the index on the disk.
 *
 * The index is volatile between flushes. A flush makes durable what was
 * acknowledged before it: data, index pages, and the host's own metadata.
 *
 * Power loss: an index page reaches the disk whole or by sectors, each entry
 * old or new. A new entry of a virgin cluster may come before its data: the
 * cluster reads as the zeros it read before. All others follow their data,
 * because these were synced between making the page and writing it.
 */
#include "ploop.h"
#include "ploop1_layout.h"

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

/**
 * ploop_index_init() - prepare the index of the top delta for writing
 * @plo: device about to run
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or -ENOMEM.
 */
int ploop_index_init(struct ploop_device *plo)
{
	plo->index_pages = plo->top->fmt->stackable && !plo->top->rdonly ?
			   ploop1_index_pages(plo->map->clusters) : 0;
	plo->index_dirty = kvcalloc(BITS_TO_LONGS(plo->index_pages) + 1,
				    sizeof(*plo->index_dirty), GFP_KERNEL);
	clear_bit(PLOOP_S_PRESYNC, &plo->state);
	return plo->index_dirty ? 0 : -ENOMEM;
}

/**
 * ploop_index_exit() - undo ploop_index_init()
 * @plo: device that does not run any more
 */
void ploop_index_exit(struct ploop_device *plo)
{
	kvfree(plo->index_dirty);
	plo->index_dirty = NULL;
	plo->index_pages = 0;
}

/**
 * ploop_index_mark() - the map entry of a cluster changed
 * @plo: the device
 * @clu: the cluster; its new entry is in the map
 *
 * Context: any; the caller owns the cluster.
 */
void ploop_index_mark(struct ploop_device *plo, u32 clu)
{
	/* The entry before the bit: who clears the bit sees the entry. */
	smp_mb__before_atomic();
	set_bit(ploop1_index_page(clu), plo->index_dirty);
}

/**
 * ploop_delta_sync() - make what was written to an image durable
 * @delta: the delta
 * @full: all metadata, not only what is needed to find the data
 *
 * A failed sync is never tried again as if nothing had happened: the host may
 * report success next time for data that are lost. So it is ABORT.
 *
 * Context: process or worker, may sleep; flush_mutex while the device runs: a
 * flush that finds nothing dirty must know that nobody is half way through.
 * Return: 0 or a negative errno.
 */
int ploop_delta_sync(struct ploop_delta *delta, bool full)
{
	struct ploop_device *plo = delta->plo;
	int err;

	xchg(&delta->dirty, 0);
	ploop_stat_inc(plo, PLOOP_STAT_BIO_FSYNC);
	err = delta->io->sync(delta, full);
	if (err) {
		ploop_delta_dirty(delta);
		if (test_bit(PLOOP_S_RUNNING, &plo->state))
			ploop_abort(plo, "image could not be synced", err);
	}
	return err;
}
EXPORT_SYMBOL_GPL(ploop_delta_sync);

/* Takes up to PLOOP_INDEX_BATCH dirty pages from @from on; makes their content. */
static unsigned int collect(struct ploop_device *plo, u32 *from, u32 *page)
{
	unsigned int n = 0;

	while (n < PLOOP_INDEX_BATCH) {
		*from = find_next_bit(plo->index_dirty, plo->index_pages, *from);
		if (*from >= plo->index_pages)
			break;
		clear_bit(*from, plo->index_dirty);
		/* Pairs with ploop_index_mark(). */
		smp_mb__after_atomic();
		plo->top->fmt->index_page(plo->top, plo->map, *from,
					  page_address(plo->index_buf[n]));
		page[n++] = (*from)++;
	}
	return n;
}

static int write_pages(struct ploop_device *plo, const u32 *page, unsigned int n)
{
	struct bio_vec bv[PLOOP_INDEX_BATCH];
	struct ploop_delta *top = plo->top;
	unsigned int i, run;
	int err;

	for (i = 0; i < n; i++)
		bvec_set_page(&bv[i], plo->index_buf[i], PLOOP1_PAGE, 0);
	for (i = 0; i < n; i += run) {
		for (run = 1; i + run < n && page[i + run] == page[i] + run; run++)
			;
		err = top->io->rw(top, WRITE, &bv[i], run * PLOOP1_PAGE,
				  (loff_t)page[i] * PLOOP1_PAGE);
		if (err)
			return err;
	}
	ploop_stat_add(plo, PLOOP_STAT_MAP_SINGLE_WRITES, n);
	return 0;
}

static int write_index(struct ploop_device *plo)
{
	u32 page[PLOOP_INDEX_BATCH];
	u32 from = 0;
	unsigned int n;
	int err;

	lockdep_assert_held(&plo->flush_mutex);
	while ((n = collect(plo, &from, page))) {
		/*
		 * The flag is set before an entry that needs it shows up in
		 * the map, so what we just put in our pages is covered.
		 */
		if (test_and_clear_bit(PLOOP_S_PRESYNC, &plo->state)) {
			err = ploop_delta_sync(plo->top, false);
			if (err)
				return err;
		}
		err = write_pages(plo, page, n);
		if (err) {
			ploop_abort(plo, "index could not be written", err);
			return err;
		}
	}
	return 0;
}

static int flush_locked(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;
	int err;

	lockdep_assert_held(&plo->flush_mutex);
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	err = write_index(plo);
	if (err)
		return err;
	/* All syncs of a running device are made under our mutex: none is under way. */
	if (!READ_ONCE(top->dirty)) {
		ploop_stat_inc(plo, PLOOP_STAT_BIO_FLUSH_SKIP);
		return 0;
	}
	return ploop_delta_sync(top, false);
}

/**
 * ploop_flush() - make everything acknowledged so far durable
 * @plo: device with a top delta; running, or about to stop
 *
 * Context: process or worker, may sleep; takes flush_mutex.
 * Return: 0 or a negative errno; the device is in ABORT then.
 */
int ploop_flush(struct ploop_device *plo)
{
	int err;

	mutex_lock(&plo->flush_mutex);
	err = flush_locked(plo);
	mutex_unlock(&plo->flush_mutex);
	return err;
}

/**
 * ploop_sync() - flush, and bring the image's header up to date
 * @plo: device with a writable top delta
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or a negative errno.
 */
int ploop_sync(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;
	int err = 0;

	mutex_lock(&plo->flush_mutex);
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		err = flush_locked(plo);
	if (!err && top->fmt->sync)
		err = top->fmt->sync(top);
	mutex_unlock(&plo->flush_mutex);
	return err;
}

/**
 * ploop_flush_queue() - have an io wait for the next flush
 * @io: the io; holds no epoch. Goes on with its data, or ends, after it.
 *
 * Context: any, also hard interrupt.
 */
void ploop_flush_queue(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	unsigned long flags;

	spin_lock_irqsave(&plo->park_lock, flags);
	list_add_tail(&io->list, &plo->flushing);
	spin_unlock_irqrestore(&plo->park_lock, flags);
	queue_work(plo->index_wq, &plo->flush_work);
}

static void flushed(struct ploop_io *io, int err)
{
	bool preflush = io->preflush;

	if (preflush)
		io->preflush = false;
	else
		io->fua = false;
	if (preflush && !err && io->bio->bi_iter.bi_size) {
		ploop_io_queue(io);
		return;
	}
	if (preflush)
		io->fua = false;
	ploop_io_end(io, err);
}

/**
 * ploop_flush_work() - one flush for all ios that wait for one
 * @work: ploop_device.flush_work
 *
 * An io that arrives while the flush runs is served by the next one: the flush
 * covers only what was acknowledged before it began.
 *
 * Context: worker of index_wq.
 */
void ploop_flush_work(struct work_struct *work)
{
	struct ploop_device *plo = container_of(work, struct ploop_device, flush_work);
	unsigned int noio = memalloc_noio_save();
	struct ploop_io *io, *next;
	LIST_HEAD(ios);
	int err;

	spin_lock_irq(&plo->park_lock);
	list_splice_init(&plo->flushing, &ios);
	spin_unlock_irq(&plo->park_lock);
	current->flags |= PF_LOCAL_THROTTLE;
	err = ploop_flush(plo);
	current->flags &= ~PF_LOCAL_THROTTLE;
	list_for_each_entry_safe(io, next, &ios, list) {
		list_del_init(&io->list);
		flushed(io, err);
	}
	memalloc_noio_restore(noio);
}
