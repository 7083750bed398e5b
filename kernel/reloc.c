// SPDX-License-Identifier: GPL-2.0-only
/*
 * RELOCBLKS: the image file becomes shorter. Clusters at its end move into holes
 * below (move.c), then what is free at the end is cut off. All of that goes by
 * the driver's own map: what the client says is only checked.
 *
 * Bios go on: writes take holes too, and when there are none left they make the
 * file longer. So it is done in rounds, as long as there is something to gain.
 *
 * Power loss: a moved cluster has its data at the new place before the index
 * names that; its old place is cut off after the index is durable. So each has
 * one owner at each instant, and a crash leaves an image that is longer than
 * needed.
 */
#include "ploop.h"

#include <linux/mm.h>
#include <linux/uaccess.h>
#include <kunit/visibility.h>

/* Each round begins with the holes that the one before has left. */
#define MAX_ROUNDS	4
/* All but the last leave a part of them for writes, which would make the file longer. */
#define SLACK_SHIFT	3
/* The file becomes longer while we look for its end. */
#define MAX_TRIES	5

static bool is_at(struct ploop_device *plo, u32 clu, u32 iblk)
{
	u64 entry = clu < plo->map->clusters ? ploop_map_lookup(plo->map, clu) : 0;

	return ploop_entry_is_top(plo, entry) && ploop_entry_iblk(entry) == iblk;
}

/* Takes the clusters of an extent out of @used. */
static int check_extent(struct ploop_device *plo, const struct ploop_relocblks_extent *ext,
			struct ploop_bitmap *used)
{
	u32 i;

	if (ext->free > 1 || (u64)ext->clu + ext->len > plo->map->clusters)
		return -EINVAL;
	for (i = 0; i < ext->len; i++) {
		u32 clu = ext->clu + i, iblk = ext->iblk + i;

		if (ext->free ? !ploop_balloon_has(&plo->balloon, clu, iblk) :
				!is_at(plo, clu, iblk))
			return -EINVAL;
		if (!ext->free)
			ploop_bitmap_clear(used, iblk);
		cond_resched();
	}
	return 0;
}

/**
 * ploop_reloc_check() - do extents lie in the window, in order, none left out
 * @plo: the device, with its list of free blocks
 * @list: what a client says that lies there; untrusted
 * @nr: number of elements
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -EINVAL they do not, or the top has something else there, or
 * uses a cluster between them; -ENOMEM.
 */
int ploop_reloc_check(struct ploop_device *plo, const struct ploop_relocblks_extent *list,
		      u32 nr)
{
	const struct ploop_balloon *b = &plo->balloon;
	struct ploop_bitmap used;
	u64 end, next = b->window;
	u32 i;
	int err;

	ploop_bitmap_init(&used);
	err = ploop_alloc_used(plo->top, plo->map, &used, &end);
	for (i = 0; !err && i < nr; i++) {
		if (!list[i].len || list[i].iblk < next ||
		    (u64)list[i].iblk + list[i].len > b->head)
			err = -EINVAL;
		else
			err = check_extent(plo, &list[i], &used);
		next = (u64)list[i].iblk + list[i].len;
	}
	if (!err && ploop_bitmap_next_set(&used, b->window, b->head) < b->head)
		err = -EINVAL;
	ploop_bitmap_destroy(&used);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_reloc_check);

static int check(struct ploop_device *plo, const struct ploop_relocblks_ctl *ctl,
		 const struct ploop_relocblks_extent __user *extents)
{
	struct ploop_balloon *b = &plo->balloon;
	struct ploop_relocblks_extent *list;
	int err;

	if (ctl->n_scanned > b->head - plo->top->index_clusters ||
	    ctl->n_extents > ctl->n_scanned)
		return -EINVAL;
	b->window = b->head - ctl->n_scanned;
	list = kvmalloc_array(ctl->n_extents + 1ULL, sizeof(*list), GFP_KERNEL | __GFP_NOWARN);
	if (!list)
		return -ENOMEM;
	err = copy_from_user(list, extents, ctl->n_extents * sizeof(*list)) ? -EFAULT : 0;
	if (!err)
		err = ploop_reloc_check(plo, list, ctl->n_extents);
	kvfree(list);
	return err;
}

/* Holes are given out below the target only: nothing comes between that and the end. */
static int find_end(struct ploop_device *plo, u64 *end)
{
	int err;

	/* Who allocated below the end of the file has published it after this. */
	ploop_epoch_flip(&plo->epoch);
	err = ploop_alloc_used(plo->top, plo->map, NULL, end);
	*end = max(*end, plo->balloon.target);
	return err;
}

/* With reclaim paused. */
static int cut_tail(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;
	u64 head, end;
	int i, err;

	for (i = 0; i < MAX_TRIES; i++) {
		head = ploop_alloc_head(top);
		err = find_end(plo, &end);
		if (err || end >= head)
			return err;
		ploop_flush_lock(plo);
		err = ploop_alloc_cut(top, head, end);
		ploop_flush_unlock(plo);
		if (!err) {
			ploop_reclaim_keep(top, 0, end);
			plo->balloon.cut += head - end;
		}
		if (err != -EAGAIN)
			return err;
	}
	return 0;
}

/* What has moved becomes durable, its old places free, the file shorter. */
static int settle(struct ploop_device *plo)
{
	int err;

	ploop_move_unmark(plo);
	err = ploop_flush(plo);
	if (err)
		return err;
	ploop_reclaim_pause(plo);
	err = cut_tail(plo);
	ploop_reclaim_resume(plo);
	if (!err)
		ploop_reclaim_wait(plo);
	return err;
}

/* How short the file is to become; returns 0 when there is nothing to gain. */
static int plan(struct ploop_device *plo)
{
	struct ploop_balloon *b = &plo->balloon;
	u64 gain, end, head = ploop_alloc_head(plo->top);
	struct ploop_bitmap used;
	int err;

	ploop_bitmap_init(&used);
	err = ploop_alloc_used(plo->top, plo->map, &used, &end);
	if (err)
		goto out_destroy;
	b->target = min(ploop_alloc_plan(plo->top, &used, b->window), head);
	gain = head - b->target;
	if (b->rounds < MAX_ROUNDS)
		b->target += gain >> SLACK_SHIFT;
	err = gain > 0;
out_destroy:
	ploop_bitmap_destroy(&used);
	return err;
}

/* Returns 1 when a round has begun, 0 when there is nothing to gain. */
static int start_round(struct ploop_device *plo)
{
	u64 total;
	int err;

	if (plo->balloon.rounds++ == MAX_ROUNDS)
		return 0;
	err = plan(plo);
	if (err <= 0)
		return err;
	ploop_alloc_limit(plo->top, 0, plo->balloon.target);
	total = ploop_move_mark(plo, plo->balloon.target, PLOOP_NO_CEILING);
	if (!total)
		return 1;
	ploop_reclaim_pause(plo);
	ploop_move_start(plo, total);
	return 1;
}

static void leave(struct ploop_device *plo)
{
	ploop_move_unmark(plo);
	ploop_move_finish(plo);
	ploop_reclaim_resume(plo);
	ploop_balloon_leave(plo);
}

/* Waits for a round, begins the next. */
static int carry_on(struct ploop_device *plo)
{
	int err;

	do {
		err = ploop_move_wait(plo, PLOOP_MNTN_RELOC);
		if (plo->maintenance != PLOOP_MNTN_RELOC || ploop_move_active(plo))
			return err;
		if (!err)
			err = settle(plo);
		if (!err)
			err = start_round(plo);
	} while (err > 0);
	/* "error -> OFF", kernel-abi.md §3. */
	if (err)
		clear_bit(PLOOP_S_COLLECT, &plo->state);
	leave(plo);
	return err;
}

static int begin(struct ploop_device *plo)
{
	int err = ploop_move_prepare(plo);

	if (err)
		return err;
	/* Nothing is cut before the first plan. */
	plo->balloon.target = PLOOP_NO_CEILING;
	plo->balloon.rounds = 0;
	plo->balloon.cut = 0;
	plo->maintenance = PLOOP_MNTN_RELOC;
	return 0;
}

/**
 * ploop_reloc() - RELOCBLKS: make the image file shorter
 * @plo: the device, in FBLOADED; in RELOC: wait for what goes on
 * @ctl: the argument, untrusted; out: alloc_head
 * @extents: what follows it; untrusted
 *
 * Context: process, sleeps; ctl_mutex, which is dropped while waiting.
 * Return: 0; -EINVAL wrong state, or the list is not what the driver has;
 * -EFAULT; -ENOMEM: up to here nothing has changed; -ERESTARTSYS a signal ended
 * the wait, not the work; -EALREADY somebody else finished it; -EIO ABORT;
 * errors of the host: the state is OFF then.
 */
int ploop_reloc(struct ploop_device *plo, struct ploop_relocblks_ctl *ctl,
		const struct ploop_relocblks_extent __user *extents)
{
	struct ploop_balloon *b = &plo->balloon;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (ctl->level != b->level || ctl->alloc_head != b->head || ctl->mbz1 || ctl->mbz2)
		return -EINVAL;
	if (plo->maintenance == PLOOP_MNTN_FBLOADED) {
		err = check(plo, ctl, extents);
		if (!err)
			err = begin(plo);
		if (err)
			return err;
	}
	err = carry_on(plo);
	ctl->alloc_head = b->cut;
	return err;
}

/**
 * ploop_reloc_stop() - leave a relocation that has not ended, on a device that
 * stops
 * @plo: the device; nothing moves
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_reloc_stop(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	leave(plo);
}
