// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ballooning: a client takes space from the filesystem on the device, finds out
 * which clusters of the image that space is, gives them up with FREEBLKS, and
 * has the image cut with RELOCBLKS (reloc.c).
 *
 * What is given up leaves the map at once, as with a discard: a write that comes
 * there later gets a new cluster, whatever the client believes. So the list is
 * kept only to answer FBGET and to check what RELOCBLKS is told.
 *
 * Power loss: the index that does not name the clusters is durable before they
 * are punched or cut off (reclaim.c).
 */
#include "ploop.h"

#include <linux/bsearch.h>
#include <linux/mm.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <kunit/visibility.h>

/**
 * ploop_balloon_check_top() - is there an image from which clusters can be taken
 * @plo: the device, with deltas
 *
 * Context: ctl_mutex.
 * Return: 0; -EOPNOTSUPP a raw image; -EINVAL not running; -EROFS; -EIO ABORT.
 */
int ploop_balloon_check_top(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	if (!plo->top->fmt->stackable)
		return -EOPNOTSUPP;
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EINVAL;
	if (plo->top->rdonly)
		return -EROFS;
	return test_bit(PLOOP_S_ABORT, &plo->state) ? -EIO : 0;
}

/**
 * ploop_balloon_keep_mapped() - from now on a cluster of the top stays where it is
 * @plo: running device
 *
 * Context: process, sleeps; ctl_mutex.
 */
void ploop_balloon_keep_mapped(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	set_bit(PLOOP_S_KEEP_MAPPED, &plo->state);
	/* Discards that did not see it. */
	ploop_epoch_flip(&plo->epoch);
}

/**
 * ploop_balloon_leave() - end of BALLOON, FBLOADED, RELOC or DISCARD
 * @plo: the device; nothing moves
 *
 * The next state is OFF, or DISCARD while discards are collected.
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_balloon_leave(struct ploop_device *plo)
{
	struct ploop_balloon *b = &plo->balloon;

	lockdep_assert_held(&plo->ctl_mutex);
	ploop_alloc_unlimit(plo->top);
	ploop_collect_complete(plo);
	if (test_bit(PLOOP_S_COLLECT, &plo->state)) {
		plo->maintenance = PLOOP_MNTN_DISCARD;
	} else {
		plo->maintenance = PLOOP_MNTN_OFF;
		clear_bit(PLOOP_S_KEEP_MAPPED, &plo->state);
	}
	wake_up_all(&b->wait);
	/* What became free meanwhile at the end of the file. */
	ploop_reclaim_now(plo);
}

/*
 * Takes what is still mapped as listed out of the top. What the deltas below have
 * shows through: a zeroing that comes next has to know of it.
 */
static void give_up(struct ploop_device *plo, const struct ploop_freeblks_extent *ext,
		    const struct ploop_map *below)
{
	struct ploop_delta *top = plo->top;
	u32 i;

	for (i = 0; i < ext->len; i++) {
		u32 clu = ext->clu + i, iblk = ext->iblk + i;
		u64 entry = ploop_map_lookup(plo->map, clu);
		u64 lower = below && clu < below->clusters ? ploop_map_lookup(below, clu) : 0;

		if (!ploop_entry_is_top(plo, entry) || ploop_entry_iblk(entry) != iblk ||
		    !ploop_map_replace(plo->map, clu, entry, lower))
			continue;
		ploop_delta_dirty(top);
		ploop_index_mark(top, clu);
		ploop_free_cluster(top, iblk);
		cond_resched();
	}
}

/* With plo->balloon.list: to FBLOADED. On failure the state is as before. */
static int load(struct ploop_device *plo)
{
	struct ploop_balloon *b = &plo->balloon;
	struct ploop_map *below = NULL;
	u32 i;
	int err;

	if (plo->top->level) {
		err = ploop_stack_load(plo->level, plo->top->level, &below);
		if (err)
			return err;
	}
	b->head = ploop_alloc_freeze(plo->top);
	b->level = plo->top->level;
	/* Who got a hole before has published it after this. */
	ploop_epoch_flip(&plo->epoch);
	for (i = 0; i < b->nr; i++)
		give_up(plo, &b->list[i], below);
	ploop_map_free(below);
	err = ploop_flush(plo);
	if (err)
		ploop_alloc_unlimit(plo->top);
	else
		plo->maintenance = PLOOP_MNTN_FBLOADED;
	return err;
}

static int start(struct ploop_device *plo)
{
	int err = ploop_balloon_check_top(plo);

	if (err)
		return err;
	ploop_balloon_keep_mapped(plo);
	err = ploop_flush(plo);
	if (err)
		ploop_balloon_leave(plo);
	else
		plo->maintenance = PLOOP_MNTN_BALLOON;
	return err;
}

static int change_state(struct ploop_device *plo, const struct ploop_balloon_ctl *ctl)
{
	switch (plo->maintenance) {
	case PLOOP_MNTN_OFF:
		return ctl->inflate && !plo->trans ? start(plo) : 0;
	case PLOOP_MNTN_BALLOON:
		if (!ctl->inflate && !ctl->keep_intact)
			ploop_balloon_leave(plo);
		return 0;
	case PLOOP_MNTN_DISCARD:
		return ploop_balloon_has_list(plo) && ctl->keep_intact < 2 ? load(plo) : 0;
	default:
		return 0;
	}
}

/**
 * ploop_balloon() - answer BALLOON: ask for the maintenance state, or change it
 * @plo: the device, with deltas
 * @ctl: in: what to do; out: the answer
 *
 * States and answers: kernel-abi.md §2.8.
 *
 * Context: process, sleeps; ctl_mutex.
 * Return: 0; -EINVAL bad argument; as ploop_balloon_check_top() when ballooning
 * was to start.
 */
int ploop_balloon(struct ploop_device *plo, struct ploop_balloon_ctl *ctl)
{
	const struct ploop_balloon *b = &plo->balloon;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (ctl->inflate > 1 || ctl->keep_intact > 2 || ctl->mbz ||
	    (ctl->inflate && ctl->keep_intact))
		return -EINVAL;
	err = change_state(plo, ctl);
	if (err)
		return err;
	/* A merge that has failed is still one. */
	ctl->mntn_type = plo->trans ? PLOOP_MNTN_MERGE : plo->maintenance;
	ctl->alloc_head = 0;
	ctl->level = 0;
	if (ctl->mntn_type == PLOOP_MNTN_FBLOADED || ctl->mntn_type == PLOOP_MNTN_RELOC) {
		ctl->alloc_head = b->head;
		ctl->level = b->level;
	}
	return 0;
}

static int by_iblk(const void *a, const void *b)
{
	const struct ploop_freeblks_extent *ea = a, *eb = b;

	return ea->iblk < eb->iblk ? -1 : ea->iblk > eb->iblk;
}

/* Is this extent what the top has? Nothing unmaps meanwhile. */
static bool is_right(struct ploop_device *plo, const struct ploop_freeblks_extent *ext)
{
	u32 i;

	if ((u64)ext->clu + ext->len > plo->map->clusters)
		return false;
	for (i = 0; i < ext->len; i++) {
		u64 entry = ploop_map_lookup(plo->map, ext->clu + i);

		if (!ploop_entry_is_top(plo, entry) ||
		    ploop_entry_iblk(entry) != (u64)ext->iblk + i)
			return false;
		cond_resched();
	}
	return true;
}

/**
 * ploop_balloon_sort() - bring a list into the order that clients expect
 * @list: the list
 * @nr: number of elements
 *
 * Context: any.
 */
void ploop_balloon_sort(struct ploop_freeblks_extent *list, u32 nr)
{
	sort(list, nr, sizeof(*list), by_iblk, NULL);
}

/**
 * ploop_balloon_check() - sort a list, and check all of it
 * @plo: the device
 * @list: what a client says that the top has; untrusted
 * @nr: number of elements; out: without empty ones
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0, or -EINVAL when the top has something else there, or two overlap.
 */
int ploop_balloon_check(struct ploop_device *plo, struct ploop_freeblks_extent *list, u32 *nr)
{
	u32 i, n = 0;

	for (i = 0; i < *nr; i++)
		if (list[i].len)
			list[n++] = list[i];
	ploop_balloon_sort(list, n);
	for (i = 0; i < n; i++) {
		if (!is_right(plo, &list[i]))
			return -EINVAL;
		if (i && (u64)list[i - 1].iblk + list[i - 1].len > list[i].iblk)
			return -EINVAL;
	}
	*nr = n;
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_balloon_check);

/**
 * ploop_balloon_load() - FREEBLKS: clusters whose content nobody needs
 * @plo: the device, in BALLOON
 * @ctl: the argument; untrusted
 * @extents: what follows it; untrusted
 *
 * Context: process, sleeps; ctl_mutex.
 * Return: 0; -EINVAL the list is not what the top has, or nonsense; -EFAULT;
 * -ENOMEM; -EIO ABORT. On failure nothing was given up, but by ABORT.
 */
int ploop_balloon_load(struct ploop_device *plo, const struct ploop_freeblks_ctl *ctl,
		       const struct ploop_freeblks_extent __user *extents)
{
	struct ploop_balloon *b = &plo->balloon;
	struct ploop_freeblks_extent *list;
	u32 nr = ctl->n_extents;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (ctl->level != plo->top->level || nr > plo->map->clusters)
		return -EINVAL;
	/* One more: an empty list is a list too. */
	list = kvmalloc_array(nr + 1, sizeof(*list), GFP_KERNEL | __GFP_NOWARN);
	if (!list)
		return -ENOMEM;
	err = copy_from_user(list, extents, nr * sizeof(*list)) ? -EFAULT : 0;
	if (!err)
		err = ploop_balloon_check(plo, list, &nr);
	if (err)
		goto out_free_list;
	b->list = list;
	b->nr = nr;
	err = load(plo);
	if (!err)
		return 0;
	b->list = NULL;
	b->nr = 0;
out_free_list:
	kvfree(list);
	return err;
}

/**
 * ploop_balloon_has_list() - is there a list of free blocks
 * @plo: the device
 *
 * Context: ctl_mutex, without which a list does not go away.
 * Return: true in FBLOADED, and in DISCARD when a discard was collected.
 */
bool ploop_balloon_has_list(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	return plo->maintenance == PLOOP_MNTN_FBLOADED ||
	       (plo->maintenance == PLOOP_MNTN_DISCARD && READ_ONCE(plo->balloon.io));
}

/**
 * ploop_balloon_get() - FBGET: the list of free blocks
 * @plo: the device, with a list
 * @ctl: in: how many extents there is room for, 0: only count them; out: the
 *       list's number, level and end of the file
 * @extents: out: the list
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -ENOSPC too little room, and @ctl is unchanged; -EFAULT.
 */
int ploop_balloon_get(struct ploop_device *plo, struct ploop_freeblks_ctl *ctl,
		      struct ploop_freeblks_extent __user *extents)
{
	struct ploop_balloon *b = &plo->balloon;
	bool loaded = plo->maintenance == PLOOP_MNTN_FBLOADED;
	int err = 0;

	lockdep_assert_held(&plo->ctl_mutex);
	mutex_lock(&b->mutex);
	if (ctl->n_extents && ctl->n_extents < b->nr)
		err = -ENOSPC;
	else if (ctl->n_extents && copy_to_user(extents, b->list, b->nr * sizeof(*extents)))
		err = -EFAULT;
	if (!err) {
		ctl->n_extents = b->nr;
		ctl->alloc_head = loaded ? b->head : 0;
		ctl->level = loaded ? b->level : plo->top->level;
	}
	mutex_unlock(&b->mutex);
	return err;
}

struct pair {
	u32 clu;
	u32 iblk;
};

static int find_pair(const void *key, const void *elt)
{
	const struct ploop_freeblks_extent *ext = elt;
	const struct pair *p = key;

	if (p->iblk < ext->iblk)
		return -1;
	return p->iblk - ext->iblk >= ext->len;
}

/**
 * ploop_balloon_has() - is a cluster in the list of free blocks
 * @b: the list
 * @clu: the cluster
 * @iblk: where the file had it
 *
 * Context: any; ctl_mutex, the state is FBLOADED.
 * Return: true if it is, with this place.
 */
bool ploop_balloon_has(const struct ploop_balloon *b, u32 clu, u32 iblk)
{
	struct pair p = { .clu = clu, .iblk = iblk };
	const struct ploop_freeblks_extent *ext;

	ext = bsearch(&p, b->list, b->nr, sizeof(*b->list), find_pair);
	return ext && clu - ext->clu == iblk - ext->iblk;
}

/**
 * ploop_balloon_drop() - FBDROP: forget the list
 * @plo: the device
 *
 * Clusters given up by FREEBLKS stay so; a collected discard is completed, and
 * what it was about keeps its space.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0, or -EINVAL when there is no list.
 */
int ploop_balloon_drop(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	if (!ploop_balloon_has_list(plo))
		return -EINVAL;
	ploop_balloon_leave(plo);
	return 0;
}

/**
 * ploop_balloon_stop() - leave BALLOON, FBLOADED, DISCARD or RELOC on a device
 * that stops
 * @plo: the device, still running; nothing moves
 *
 * Context: process, sleeps; ctl_mutex.
 */
void ploop_balloon_stop(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	ploop_collect_end(plo);
	if (plo->maintenance == PLOOP_MNTN_RELOC)
		ploop_reloc_stop(plo);
	else if (plo->maintenance == PLOOP_MNTN_BALLOON ||
		 plo->maintenance == PLOOP_MNTN_FBLOADED)
		ploop_balloon_leave(plo);
}
