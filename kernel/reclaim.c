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
 * @plo: the device
 * @iblk: first cluster
 * @len: number of clusters
 * @gfp: how to allocate
 *
 * Context: any that suits @gfp.
 * Return: 0 or -ENOMEM.
 */
int ploop_free_extent(struct ploop_device *plo, u32 iblk, u32 len, gfp_t gfp)
{
	struct ploop_freed *last, *ext = NULL;

	spin_lock(&plo->free_lock);
	if (!list_empty(&plo->freed)) {
		last = list_last_entry(&plo->freed, struct ploop_freed, list);
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
	list_add_tail(&ext->list, &plo->freed);
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

static void drop(struct list_head *list)
{
	struct ploop_freed *ext, *next;

	list_for_each_entry_safe(ext, next, list, list)
		kfree(ext);
	INIT_LIST_HEAD(list);
}

/**
 * ploop_reclaim_drop() - forget freed clusters
 * @plo: device whose reclaim work does not run
 */
void ploop_reclaim_drop(struct ploop_device *plo)
{
	drop(&plo->freed);
}

static int by_iblk(void *priv, const struct list_head *a, const struct list_head *b)
{
	const struct ploop_freed *ea = list_entry(a, struct ploop_freed, list);
	const struct ploop_freed *eb = list_entry(b, struct ploop_freed, list);

	return ea->iblk < eb->iblk ? -1 : ea->iblk > eb->iblk;
}

static int punch_all(struct ploop_device *plo, struct list_head *batch)
{
	struct ploop_delta *top = plo->top;
	struct ploop_freed *ext;
	int err;

	list_for_each_entry(ext, batch, list) {
		err = top->io->punch(top, ploop_iblk_pos(plo, ext->iblk),
				     ploop_iblk_pos(plo, ext->len));
		if (err)
			return err;
	}
	mutex_lock(&plo->flush_mutex);
	err = ploop_delta_sync(top, false);
	mutex_unlock(&plo->flush_mutex);
	return err;
}

/* Allocations may go on; nobody knows of these clusters but us. */
static void release_all(struct ploop_device *plo, struct list_head *batch,
			struct ploop_bitmap *to)
{
	struct ploop_freed *ext;
	u32 i;

	list_for_each_entry(ext, batch, list) {
		mutex_lock(&plo->alloc.mutex);
		for (i = 0; i < ext->len; i++)
			/* Short of memory the cluster stays unused until restart. */
			ploop_bitmap_set(to, ext->iblk + i, GFP_NOIO | __GFP_NOWARN);
		mutex_unlock(&plo->alloc.mutex);
		cond_resched();
	}
}

/**
 * ploop_reclaim_work() - make freed clusters allocatable
 * @work: ploop_device.reclaim_work
 *
 * Context: worker of index_wq; bios go on.
 */
void ploop_reclaim_work(struct work_struct *work)
{
	struct ploop_device *plo = container_of(to_delayed_work(work),
						struct ploop_device, reclaim_work);
	bool dense = test_bit(PLOOP_S_DENSE, &plo->state);
	unsigned int noio = memalloc_noio_save();
	LIST_HEAD(batch);
	int err;

	spin_lock(&plo->free_lock);
	list_splice_init(&plo->freed, &batch);
	spin_unlock(&plo->free_lock);
	if (list_empty(&batch))
		goto out_restore;
	list_sort(NULL, &batch, by_iblk);

	err = ploop_flush(plo);
	if (err)
		goto out_drop;
	ploop_epoch_flip(&plo->epoch);
	if (!dense) {
		err = punch_all(plo, &batch);
		/* A host that cannot punch: unused until the next start. */
		if (err)
			goto out_drop;
	}
	release_all(plo, &batch, dense ? &plo->alloc.reusable : &plo->alloc.clean);
out_drop:
	drop(&batch);
out_restore:
	memalloc_noio_restore(noio);
}
