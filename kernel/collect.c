// SPDX-License-Identifier: GPL-2.0-only
/*
 * Collected discards: a client has discards turned into a list of free blocks,
 * so that it can do with them what it does with a balloon. One discard at a
 * time; it is completed when its clusters are dealt with.
 */
#include "ploop.h"

#include <linux/mm.h>

/**
 * ploop_collect_start() - DISCARD_INIT: OFF becomes DISCARD
 * @plo: the device, with deltas
 *
 * Context: process, sleeps; ctl_mutex.
 * Return: 0 or as ploop_balloon_check_top().
 */
int ploop_collect_start(struct ploop_device *plo)
{
	int err = ploop_balloon_check_top(plo);

	if (err)
		return err;
	ploop_balloon_keep_mapped(plo);
	plo->maintenance = PLOOP_MNTN_DISCARD;
	set_bit(PLOOP_S_COLLECT, &plo->state);
	return 0;
}

/**
 * ploop_collect_complete() - forget the list; the discard it is from is done
 * @plo: the device
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_collect_complete(struct ploop_device *plo)
{
	struct ploop_balloon *b = &plo->balloon;
	struct ploop_io *io;

	lockdep_assert_held(&plo->ctl_mutex);
	mutex_lock(&b->mutex);
	io = b->io;
	WRITE_ONCE(b->io, NULL);
	kvfree(b->list);
	b->list = NULL;
	b->nr = 0;
	mutex_unlock(&b->mutex);
	if (io)
		ploop_io_end(io, 0);
}

/**
 * ploop_collect_end() - DISCARD_FINI
 * @plo: the device
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0, also when discards were not collected; -EBUSY a list is being
 * worked on: the state will be OFF after that.
 */
int ploop_collect_end(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	if (!test_and_clear_bit(PLOOP_S_COLLECT, &plo->state))
		return 0;
	/* Who did not see that has put its discard on the list, or has failed it. */
	ploop_epoch_flip(&plo->epoch);
	wake_up_all(&plo->balloon.wait);
	if (plo->maintenance != PLOOP_MNTN_DISCARD)
		return -EBUSY;
	ploop_balloon_leave(plo);
	return 0;
}

/**
 * ploop_collect_wait() - DISCARD_WAIT
 * @plo: the device
 *
 * Context: process, sleeps; ctl_mutex, which is dropped meanwhile.
 * Return: 1: there is a list; 0: discards are not, or no longer, collected;
 * -EINVAL the list is being worked on; -ERESTARTSYS.
 */
int ploop_collect_wait(struct ploop_device *plo)
{
	struct ploop_balloon *b = &plo->balloon;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	while (test_bit(PLOOP_S_COLLECT, &plo->state)) {
		if (plo->maintenance == PLOOP_MNTN_FBLOADED)
			return 1;
		if (plo->maintenance != PLOOP_MNTN_DISCARD)
			return -EINVAL;
		if (READ_ONCE(b->io))
			return 1;
		mutex_unlock(&plo->ctl_mutex);
		err = wait_event_interruptible(b->wait, READ_ONCE(b->io) ||
					       !test_bit(PLOOP_S_COLLECT, &plo->state));
		mutex_lock(&plo->ctl_mutex);
		if (err)
			return err;
	}
	return 0;
}

/**
 * ploop_collect_filter() - FBFILTER: forget short extents
 * @plo: the device
 * @min: clusters; extents with fewer are forgotten
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: number of clusters left, or INT_MAX; -EINVAL there is no collected
 * discard.
 */
int ploop_collect_filter(struct ploop_device *plo, unsigned long min)
{
	struct ploop_balloon *b = &plo->balloon;
	u64 clusters = 0;
	u32 i, n = 0;

	lockdep_assert_held(&plo->ctl_mutex);
	if (plo->maintenance != PLOOP_MNTN_DISCARD || !READ_ONCE(b->io))
		return -EINVAL;
	mutex_lock(&b->mutex);
	for (i = 0; i < b->nr; i++) {
		if (b->list[i].len < min)
			continue;
		clusters += b->list[i].len;
		b->list[n++] = b->list[i];
	}
	b->nr = n;
	mutex_unlock(&b->mutex);
	return min_t(u64, clusters, INT_MAX);
}

/*
 * The clusters that the discard covers and the top has, as extents. With a list
 * that is too short: only their number.
 */
static u32 list_clusters(struct ploop_io *io, struct ploop_freeblks_extent *list, u32 room)
{
	struct ploop_device *plo = io->plo;
	u64 from = io->bio->bi_iter.bi_sector;
	u64 end = (from + (io->bio->bi_iter.bi_size >> SECTOR_SHIFT)) >> plo->cluster_log;
	struct ploop_freeblks_extent ext = { };
	u32 n = 0;
	u64 clu;

	for (clu = round_up(from, 1ULL << plo->cluster_log) >> plo->cluster_log; clu < end; clu++) {
		u64 entry = ploop_map_lookup(plo->map, clu);
		u32 iblk = ploop_entry_iblk(entry);

		if (!ploop_entry_is_top(plo, entry))
			continue;
		if (ext.len && clu == ext.clu + ext.len && iblk == ext.iblk + ext.len) {
			ext.len++;
		} else {
			ext = (struct ploop_freeblks_extent) { .clu = clu, .iblk = iblk, .len = 1 };
			n++;
		}
		if (n && n <= room)
			list[n - 1] = ext;
		cond_resched();
	}
	return n;
}

static int collect(struct ploop_io *io)
{
	struct ploop_balloon *b = &io->plo->balloon;
	struct ploop_freeblks_extent *list;
	u32 n;

	lockdep_assert_held(&b->mutex);
	if (b->io)
		return -EBUSY;
	n = list_clusters(io, NULL, 0);
	if (!n)
		return 0;
	list = kvmalloc_array(n, sizeof(*list), GFP_KERNEL | __GFP_NOWARN);
	if (!list)
		return -ENOMEM;
	/* A copy-up meanwhile may have made it longer. */
	b->nr = min(n, list_clusters(io, list, n));
	ploop_balloon_sort(list, b->nr);
	b->list = list;
	WRITE_ONCE(b->io, io);
	return 0;
}

/**
 * ploop_collect_discard() - keep a discard for the client
 * @io: holds an epoch; a DISCARD
 *
 * Context: worker, memalloc_noio. Ends @io unless it is kept.
 */
void ploop_collect_discard(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	struct ploop_balloon *b = &plo->balloon;
	bool kept;
	int err;

	mutex_lock(&b->mutex);
	err = collect(io);
	kept = b->io == io;
	/* Nobody can end it yet, so it is still ours. */
	if (kept)
		ploop_io_leave(io);
	mutex_unlock(&b->mutex);
	if (kept)
		wake_up_all(&b->wait);
	else
		ploop_io_end(io, err);
}
