// SPDX-License-Identifier: GPL-2.0-only
/*
 * From "nobody refers to it" to "clean": what has to happen to a cluster of
 * the image before it may be given out again.
 *
 * Power loss: the index without the entry is durable before the cluster is
 * punched, the punch is durable before the cluster is reused. So at each
 * instant the disk shows one owner at most, and a crash in between leaves an
 * unused cluster, which the next start finds.
 */
#include "ploop.h"

#include <linux/list_sort.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

/* Frees come in bursts; one flush and one sync serve all of them. */
#define RECLAIM_DELAY	(HZ / 10)

/**
 * ploop_free_extent() - remember clusters that nobody refers to any more
 * @delta: whose file it is
 * @iblk: first cluster
 * @len: number of clusters
 * @gfp: how to allocate
 *
 * Context: any that suits @gfp.
 * Return: 0 or -ENOMEM.
 */
int ploop_free_extent(struct ploop_delta *delta, u32 iblk, u32 len, gfp_t gfp)
{
	struct ploop_device *plo = delta->plo;
	struct ploop_freed *last, *ext = NULL;

	spin_lock(&plo->free_lock);
	if (!list_empty(&delta->freed)) {
		last = list_last_entry(&delta->freed, struct ploop_freed, list);
		if ((u64)last->iblk + last->len == iblk) {
			last->len += len;
			spin_unlock(&plo->free_lock);
			return 0;
		}
	}
	spin_unlock(&plo->free_lock);
	ext = kmalloc(sizeof(*ext), gfp);
	if (!ext)
		return -ENOMEM;
	ext->iblk = iblk;
	ext->len = len;
	spin_lock(&plo->free_lock);
	list_add_tail(&ext->list, &delta->freed);
	spin_unlock(&plo->free_lock);
	return 0;
}

/**
 * ploop_reclaim_now() - have freed clusters made clean
 * @plo: running device
 *
 * Context: any.
 */
void ploop_reclaim_now(struct ploop_device *plo)
{
	queue_delayed_work(plo->index_wq, &plo->reclaim_work, RECLAIM_DELAY);
}

/**
 * ploop_reclaim_wait() - have freed clusters made clean, and wait for that
 * @plo: running device
 *
 * Context: process, sleeps; ctl_mutex.
 */
void ploop_reclaim_wait(struct ploop_device *plo)
{
	mod_delayed_work(plo->index_wq, &plo->reclaim_work, 0);
	flush_delayed_work(&plo->reclaim_work);
}

/**
 * ploop_reclaim_pause() - wait until no freed cluster is being made clean
 * @plo: the device
 *
 * Context: process, sleeps; ctl_mutex.
 */
void ploop_reclaim_pause(struct ploop_device *plo)
{
	set_bit(PLOOP_S_RECLAIM_PAUSED, &plo->state);
	cancel_delayed_work_sync(&plo->reclaim_work);
}

/**
 * ploop_reclaim_resume() - end of ploop_reclaim_pause()
 * @plo: the device
 *
 * Context: process; ctl_mutex.
 */
void ploop_reclaim_resume(struct ploop_device *plo)
{
	clear_bit(PLOOP_S_RECLAIM_PAUSED, &plo->state);
	if (test_bit(PLOOP_S_RUNNING, &plo->state))
		ploop_reclaim_now(plo);
}

static void drop(struct list_head *list)
{
	struct ploop_freed *ext, *next;

	list_for_each_entry_safe(ext, next, list, list)
		kfree(ext);
	INIT_LIST_HEAD(list);
}

/**
 * ploop_reclaim_drop() - forget freed clusters
 * @delta: delta whose freed clusters nobody reclaims now
 */
void ploop_reclaim_drop(struct ploop_delta *delta)
{
	drop(&delta->freed);
}

/**
 * ploop_reclaim_keep() - forget freed clusters at the beginning or end of a file
 * @delta: the top delta; reclaim is paused
 * @from: the first cluster to keep
 * @to: one past the last cluster to keep
 */
void ploop_reclaim_keep(struct ploop_delta *delta, u64 from, u64 to)
{
	struct ploop_device *plo = delta->plo;
	struct ploop_freed *ext, *next;

	spin_lock(&plo->free_lock);
	list_for_each_entry_safe(ext, next, &delta->freed, list) {
		u64 end = min_t(u64, (u64)ext->iblk + ext->len, to);
		u64 start = max_t(u64, ext->iblk, from);

		if (start >= end) {
			list_del(&ext->list);
			kfree(ext);
			continue;
		}
		ext->iblk = start;
		ext->len = end - start;
	}
	spin_unlock(&plo->free_lock);
}

static int by_iblk(void *priv, const struct list_head *a, const struct list_head *b)
{
	const struct ploop_freed *ea = list_entry(a, struct ploop_freed, list);
	const struct ploop_freed *eb = list_entry(b, struct ploop_freed, list);

	return ea->iblk < eb->iblk ? -1 : ea->iblk > eb->iblk;
}

/**
 * ploop_reclaim_punch() - give the space of freed clusters back to the host
 * @delta: the delta
 * @batch: list of struct ploop_freed; the index on the disk names none of them,
 *         and nobody knows them from an older lookup
 *
 * Context: process or worker, may sleep.
 * Return: 0 or a negative errno.
 */
int ploop_reclaim_punch(struct ploop_delta *delta, struct list_head *batch)
{
	struct ploop_device *plo = delta->plo;
	struct ploop_freed *ext;
	int err;

	list_for_each_entry(ext, batch, list) {
		loff_t pos = ploop_iblk_pos(plo, ext->iblk);
		loff_t len = ploop_iblk_pos(plo, ext->len);

		ploop_stable_forget(delta, pos, len);
		err = delta->io->punch(delta, pos, len);
		if (err)
			return err;
	}
	return 0;
}

/* Allocations may go on; nobody knows of these clusters but us. */
static void release_all(struct ploop_delta *top, struct list_head *batch,
			struct ploop_bitmap *to)
{
	struct ploop_freed *ext;
	u32 i;

	list_for_each_entry(ext, batch, list) {
		mutex_lock(&top->alloc.mutex);
		for (i = 0; i < ext->len; i++)
			/* Short of memory the cluster stays unused until restart. */
			ploop_bitmap_set(to, ext->iblk + i, GFP_NOIO | __GFP_NOWARN);
		mutex_unlock(&top->alloc.mutex);
		cond_resched();
	}
}

static int clean(struct ploop_device *plo, struct ploop_delta *top, struct list_head *batch)
{
	int err = ploop_reclaim_punch(top, batch);

	if (err || list_empty(batch))
		return err;
	ploop_flush_lock(plo);
	err = ploop_delta_sync(top, false);
	ploop_flush_unlock(plo);
	return err;
}

/**
 * ploop_reclaim_work() - make freed clusters allocatable
 * @work: ploop_device.reclaim_work
 *
 * The top delta does not change meanwhile: who changes it pauses us first.
 *
 * Context: worker of index_wq; bios go on.
 */
void ploop_reclaim_work(struct work_struct *work)
{
	struct ploop_device *plo = container_of(to_delayed_work(work),
						struct ploop_device, reclaim_work);
	bool dense = test_bit(PLOOP_S_DENSE, &plo->state);
	unsigned int noio = memalloc_noio_save();
	struct ploop_delta *top;
	LIST_HEAD(batch);

	if (test_bit(PLOOP_S_RECLAIM_PAUSED, &plo->state))
		goto out_restore;
	top = plo->top;
	spin_lock(&plo->free_lock);
	list_splice_init(&top->freed, &batch);
	spin_unlock(&plo->free_lock);
	list_sort(NULL, &batch, by_iblk);

	if (!list_empty(&batch)) {
		if (ploop_flush(plo))
			goto out_drop;
		ploop_epoch_flip(&plo->epoch);
	}
	/* A host that cannot punch: unused until the next start. */
	if (!dense && clean(plo, top, &batch))
		goto out_drop;
	release_all(top, &batch, dense ? &top->alloc.reusable : &top->alloc.clean);
	if (!dense && !test_bit(PLOOP_S_KEEP_MAPPED, &plo->state) &&
	    !test_bit(PLOOP_S_ABORT, &plo->state))
		ploop_alloc_trim(top);
out_drop:
	drop(&batch);
out_restore:
	memalloc_noio_restore(noio);
}
