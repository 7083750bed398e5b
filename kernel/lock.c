// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cluster locks: one owner while a cluster is allocated, copied up or given
 * back. Who comes second does not sleep: it is put on the owner's list and
 * starts over, from its lookup, when the owner is done.
 */
#include "ploop.h"

#include <linux/hash.h>

static struct hlist_head *bucket(struct ploop_device *plo, u32 clu)
{
	return &plo->locks[hash_32(clu, ilog2(PLOOP_LOCK_BUCKETS))];
}

static struct ploop_io *owner_of(struct ploop_device *plo, u32 clu)
{
	struct ploop_io *io;

	lockdep_assert_held(&plo->cluster_lock);
	hlist_for_each_entry(io, bucket(plo, clu), lock_node)
		if (io->clu == clu)
			return io;
	return NULL;
}

/**
 * ploop_cluster_trylock() - become the owner of a cluster, or wait for it
 * @io: the io; owns no cluster
 * @clu: the cluster
 *
 * Context: worker. An io that waits holds no epoch.
 * Return: true: @io is the owner and must look up again. False: @io waits and
 * will be queued again; the caller must not touch it any more.
 */
bool ploop_cluster_trylock(struct ploop_io *io, u32 clu)
{
	struct ploop_device *plo = io->plo;
	struct ploop_io *owner;
	unsigned long flags;
	int epoch = io->epoch;

	spin_lock_irqsave(&plo->cluster_lock, flags);
	owner = owner_of(plo, clu);
	if (owner) {
		/* Before it is on the list: from then on it may run elsewhere. */
		io->epoch = PLOOP_EPOCH_NONE;
		list_add_tail(&io->list, &owner->waiters);
	} else {
		io->clu = clu;
		hlist_add_head(&io->lock_node, bucket(plo, clu));
	}
	spin_unlock_irqrestore(&plo->cluster_lock, flags);
	if (owner) {
		ploop_stat_inc(plo, PLOOP_STAT_BIO_LOCKOUTS);
		ploop_epoch_put(&plo->epoch, epoch);
	}
	return !owner;
}

/**
 * ploop_cluster_unlock() - end the ownership, let those who wait start over
 * @io: the owner
 *
 * Context: worker.
 */
void ploop_cluster_unlock(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	struct ploop_io *waiter, *next;
	unsigned long flags;
	LIST_HEAD(waiters);

	spin_lock_irqsave(&plo->cluster_lock, flags);
	hlist_del_init(&io->lock_node);
	list_splice_init(&io->waiters, &waiters);
	spin_unlock_irqrestore(&plo->cluster_lock, flags);
	list_for_each_entry_safe(waiter, next, &waiters, list) {
		list_del_init(&waiter->list);
		ploop_io_queue(waiter);
	}
}
