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

/* Index pages that may be left for a quiesce, and how often to try. */
#define FEW_PAGES	32
#define WRITE_ROUNDS	4

/**
 * ploop_flush_lock() - nobody else writes an index, or changes the top
 * @plo: the device
 *
 * Bios wait for whoever holds this, so his memory does not come from writeback.
 *
 * Context: process or worker, sleeps; takes flush_mutex.
 */
void ploop_flush_lock(struct ploop_device *plo)
{
	mutex_lock(&plo->flush_mutex);
	plo->flush_noio = memalloc_noio_save();
}

/**
 * ploop_flush_unlock() - end of ploop_flush_lock()
 * @plo: the device
 *
 * Context: process or worker.
 */
void ploop_flush_unlock(struct ploop_device *plo)
{
	unsigned int noio = plo->flush_noio;

	mutex_unlock(&plo->flush_mutex);
	memalloc_noio_restore(noio);
}

/**
 * ploop_index_init() - prepare the index of a delta for writing
 * @delta: delta about to become the top of a running device
 * @clusters: clusters of the device
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or -ENOMEM.
 */
int ploop_index_init(struct ploop_delta *delta, u32 clusters)
{
	struct ploop_index *ix = &delta->index;
	unsigned int i;

	memset(ix, 0, sizeof(*ix));
	if (delta->rdonly || !delta->fmt->stackable)
		return 0;
	ix->pages = ploop1_index_pages(clusters);
	ix->dirty = kvcalloc(BITS_TO_LONGS(ix->pages), sizeof(*ix->dirty), GFP_KERNEL);
	if (!ix->dirty)
		goto out_exit;
	for (i = 0; i < PLOOP_INDEX_BATCH; i++) {
		ix->buf[i] = alloc_page(GFP_KERNEL);
		if (!ix->buf[i])
			goto out_exit;
	}
	return 0;

out_exit:
	ploop_index_exit(delta);
	return -ENOMEM;
}

/**
 * ploop_index_exit() - undo ploop_index_init()
 * @delta: delta that is not written to any more
 */
void ploop_index_exit(struct ploop_delta *delta)
{
	struct ploop_index *ix = &delta->index;
	unsigned int i;

	for (i = 0; i < PLOOP_INDEX_BATCH; i++)
		if (ix->buf[i])
			__free_page(ix->buf[i]);
	kvfree(ix->dirty);
	memset(ix, 0, sizeof(*ix));
}

/**
 * ploop_index_grow() - make the table of a larger index
 * @bigger: out: the table, for ploop_index_swap(); its dirty is for kvfree()
 * @clusters: clusters of the device
 *
 * Context: process, may sleep.
 * Return: 0 or -ENOMEM.
 */
int ploop_index_grow(struct ploop_index *bigger, u32 clusters)
{
	bigger->pages = ploop1_index_pages(clusters);
	bigger->dirty = kvcalloc(BITS_TO_LONGS(bigger->pages), sizeof(*bigger->dirty),
				 GFP_KERNEL);
	return bigger->dirty ? 0 : -ENOMEM;
}

/**
 * ploop_index_swap() - use a larger table
 * @delta: the top delta; the device is quiesced
 * @bigger: from ploop_index_grow(); has the old table afterwards
 *
 * Context: process; flush_mutex.
 */
void ploop_index_swap(struct ploop_delta *delta, struct ploop_index *bigger)
{
	struct ploop_index *ix = &delta->index;

	lockdep_assert_held(&delta->plo->flush_mutex);
	bitmap_copy(bigger->dirty, ix->dirty, ix->pages);
	swap(ix->dirty, bigger->dirty);
	swap(ix->pages, bigger->pages);
}

/**
 * ploop_index_mark() - the map entry of a cluster changed
 * @delta: the delta whose index has to follow
 * @clu: the cluster; its new entry is in the map
 *
 * Context: any; the caller owns the cluster.
 */
void ploop_index_mark(struct ploop_delta *delta, u32 clu)
{
	/* A raw image has no index. */
	if (!delta->index.pages)
		return;
	/* The entry before the bit: who clears the bit sees the entry. */
	smp_mb__before_atomic();
	set_bit(ploop1_index_page(clu), delta->index.dirty);
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
	if (xchg(&delta->fast_dirty, 0))
		WRITE_ONCE(delta->times_due, true);
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

/* See publish_trans() in write.c. */
static void make_page(struct ploop_delta *delta, u32 page, void *buf)
{
	struct ploop_device *plo = delta->plo;

	if (delta != plo->trans) {
		delta->fmt->index_page(delta, plo->map, page, buf);
		return;
	}
	spin_lock(&plo->trans_lock);
	delta->fmt->index_page(delta, plo->map, page, buf);
	spin_unlock(&plo->trans_lock);
}

/* Takes up to PLOOP_INDEX_BATCH dirty pages from @from on; makes their content. */
static unsigned int collect(struct ploop_delta *delta, u32 *from, u32 *page)
{
	struct ploop_index *ix = &delta->index;
	unsigned int n = 0;

	lockdep_assert_held(&delta->plo->flush_mutex);
	while (n < PLOOP_INDEX_BATCH) {
		*from = find_next_bit(ix->dirty, ix->pages, *from);
		if (*from >= ix->pages)
			break;
		clear_bit(*from, ix->dirty);
		/* Pairs with ploop_index_mark(). */
		smp_mb__after_atomic();
		make_page(delta, *from, page_address(ix->buf[n]));
		page[n++] = (*from)++;
	}
	return n;
}

static int write_pages(struct ploop_delta *delta, const u32 *page, unsigned int n)
{
	struct bio_vec bv[PLOOP_INDEX_BATCH];
	unsigned int i, run;
	int err;

	for (i = 0; i < n; i++)
		bvec_set_page(&bv[i], delta->index.buf[i], PLOOP1_PAGE, 0);
	for (i = 0; i < n; i += run) {
		for (run = 1; i + run < n && page[i + run] == page[i] + run; run++)
			;
		err = delta->io->rw(delta, WRITE, &bv[i], run * PLOOP1_PAGE,
				    (loff_t)page[i] * PLOOP1_PAGE);
		if (err) {
			ploop_abort(delta->plo, "index could not be written", err);
			return err;
		}
	}
	ploop_stat_add(delta->plo, PLOOP_STAT_MAP_SINGLE_WRITES, n);
	return 0;
}

/*
 * Before index pages are written. The flag was set before an entry that needs
 * it showed up in the map, so what was just put in these pages is covered.
 */
static int presync(struct ploop_delta *delta)
{
	return test_and_clear_bit(0, &delta->index.presync) ?
	       ploop_delta_sync(delta, false) : 0;
}

static int write_index(struct ploop_delta *delta)
{
	u32 page[PLOOP_INDEX_BATCH];
	u32 from = 0;
	unsigned int n;
	int err;

	while ((n = collect(delta, &from, page))) {
		err = presync(delta);
		if (!err)
			err = write_pages(delta, page, n);
		if (err)
			return err;
	}
	return 0;
}

/* All syncs of a running device are made under flush_mutex: none is under way. */
static int sync_if_dirty(struct ploop_delta *delta)
{
	if (READ_ONCE(delta->dirty) || READ_ONCE(delta->fast_dirty))
		return ploop_delta_sync(delta, false);
	ploop_stat_inc(delta->plo, PLOOP_STAT_BIO_FLUSH_SKIP);
	return 0;
}

static int flush_delta(struct ploop_delta *delta)
{
	int err = write_index(delta);

	return err ? err : sync_if_dirty(delta);
}

/*
 * The delta that is merged away stays valid whatever the instant: a cluster is
 * taken out of its index on the disk only after the delta below has data and
 * index of it on the disk. So its pages are made first and written last.
 */
static int flush_trans(struct ploop_device *plo)
{
	struct ploop_delta *trans = plo->trans;
	u32 page[PLOOP_INDEX_BATCH];
	u32 from = 0;
	unsigned int n;
	int err;

	do {
		n = collect(trans, &from, page);
		/* Copied up just before the merge began. */
		err = presync(trans);
		if (!err)
			err = flush_delta(plo->top);
		if (!err)
			err = write_pages(trans, page, n);
		if (err)
			return err;
	} while (n == PLOOP_INDEX_BATCH);
	return sync_if_dirty(trans);
}

/**
 * ploop_flush_locked() - make everything acknowledged so far durable
 * @plo: device with a top delta; running, or about to stop
 *
 * Context: process or worker, may sleep; flush_mutex.
 * Return: 0 or a negative errno; the device is in ABORT then.
 */
int ploop_flush_locked(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->flush_mutex);
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	return plo->trans ? flush_trans(plo) : flush_delta(plo->top);
}

/**
 * ploop_index_write() - write dirty index pages, without making them durable
 * @plo: running device
 *
 * Context: process, may sleep; flush_mutex.
 * Return: 0 or a negative errno; the device is in ABORT then.
 */
int ploop_index_write(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->flush_mutex);
	return test_bit(PLOOP_S_ABORT, &plo->state) ? -EIO : write_index(plo->top);
}

/**
 * ploop_index_write_most() - write dirty index pages of the top until few are left
 * @plo: running device, soon to be quiesced for ploop_index_copy()
 *
 * Bios go on meanwhile, so the last of them are never written.
 *
 * Context: process, may sleep; flush_mutex.
 * Return: 0 or a negative errno; the device is in ABORT then.
 */
int ploop_index_write_most(struct ploop_device *plo)
{
	const struct ploop_index *ix = &plo->top->index;
	int round, err = 0;

	for (round = 0; round < WRITE_ROUNDS && !err; round++) {
		if (bitmap_weight(ix->dirty, ix->pages) <= FEW_PAGES)
			break;
		err = ploop_index_write(plo);
	}
	return err;
}

/**
 * ploop_index_copy() - keep what the index of the top has to become
 * @delta: the top delta; the device is quiesced
 * @pages: out: struct page by page number, for ploop_index_write_copy(); given
 *         back by ploop_index_free_copy() also when this fails
 *
 * Context: process, memalloc_noio; flush_mutex.
 * Return: 0 or -ENOMEM; the index is as dirty as before in any case.
 */
int ploop_index_copy(struct ploop_delta *delta, struct xarray *pages)
{
	struct ploop_index *ix = &delta->index;
	unsigned long i;
	int err;

	for_each_set_bit(i, ix->dirty, ix->pages) {
		struct page *page = alloc_page(GFP_NOIO);

		if (!page)
			return -ENOMEM;
		make_page(delta, i, page_address(page));
		err = xa_err(xa_store(pages, i, page, GFP_NOIO));
		if (err) {
			__free_page(page);
			return err;
		}
	}
	return 0;
}

/**
 * ploop_index_write_copy() - write what ploop_index_copy() kept, durably
 * @delta: the delta; not the top any more
 * @pages: the pages
 *
 * Context: process, may sleep; flush_mutex.
 * Return: 0 or a negative errno.
 */
int ploop_index_write_copy(struct ploop_delta *delta, struct xarray *pages)
{
	struct bio_vec bv;
	struct page *page;
	unsigned long i;
	int err;

	err = presync(delta);
	if (err)
		return err;
	xa_for_each(pages, i, page) {
		bvec_set_page(&bv, page, PLOOP1_PAGE, 0);
		err = delta->io->rw(delta, WRITE, &bv, PLOOP1_PAGE, (loff_t)i * PLOOP1_PAGE);
		if (err)
			return err;
		ploop_stat_inc(delta->plo, PLOOP_STAT_MAP_SINGLE_WRITES);
	}
	return ploop_delta_sync(delta, false);
}

/**
 * ploop_index_free_copy() - free what ploop_index_copy() took
 * @pages: the pages
 *
 * Context: any that may free memory.
 */
void ploop_index_free_copy(struct xarray *pages)
{
	struct page *page;
	unsigned long i;

	xa_for_each(pages, i, page)
		__free_page(page);
	xa_destroy(pages);
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

	ploop_flush_lock(plo);
	err = ploop_flush_locked(plo);
	ploop_flush_unlock(plo);
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

	ploop_flush_lock(plo);
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		err = ploop_flush_locked(plo);
	if (!err && top->fmt->sync)
		err = top->fmt->sync(top);
	ploop_flush_unlock(plo);
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
