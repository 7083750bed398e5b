// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the clusters of an image file lie on the host's disk: what is known is
 * added, and forgotten before it changes.
 */
#include "hostmap.h"

#include <linux/bitmap.h>
#include <linux/slab.h>
#include <kunit/visibility.h>

#define GFP		(GFP_NOIO | __GFP_NOWARN)
/* As trees of memory areas have them; others under RCU are seldom met. */
#define TREE_FLAGS	(MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU)

/* Units of a cluster. */
static u32 units(const struct ploop_hostmap *hm)
{
	return 1U << (hm->cluster_log + SECTOR_SHIFT - PLOOP_UNIT_SHIFT);
}

/**
 * ploop_hostmap_init() - make an empty host map
 * @hm: the host map
 * @cluster_log: log2 of the sectors of a cluster; at least a unit
 */
void ploop_hostmap_init(struct ploop_hostmap *hm, u8 cluster_log)
{
	mt_init_flags(&hm->tree, TREE_FLAGS);
	mutex_init(&hm->mutex);
	hm->cluster_log = cluster_log;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_init);

static bool ploop_partial_knows(const struct ploop_partial *p, u32 off, u32 len)
{
	u32 unit = off >> PLOOP_UNIT_SHIFT, last = (off + len - 1) >> PLOOP_UNIT_SHIFT;

	for (; unit <= last; unit++)
		if (!test_bit(unit, p->known))
			return false;
	return true;
}

static struct ploop_partial *partial_of(void *entry)
{
	return entry && !xa_is_value(entry) ? entry : NULL;
}

/**
 * ploop_hostmap_find_part() - ploop_hostmap_find() for a cluster that is in no run
 * @hm: the host map
 * @iblk: cluster of the file
 * @off: first byte in the cluster
 * @len: number of bytes, at least 1, within the cluster
 * @sector: out: where the first byte lies
 *
 * Context: any.
 * Return: false: not all of it is known.
 */
bool ploop_hostmap_find_part(struct ploop_hostmap *hm, u32 iblk, u32 off, u32 len,
			     sector_t *sector)
{
	const struct ploop_partial *p;
	bool found;

	rcu_read_lock();
	p = partial_of(mtree_load(&hm->tree, iblk));
	found = p && ploop_partial_knows(p, off, len);
	if (found)
		*sector = p->start + (off >> SECTOR_SHIFT);
	rcu_read_unlock();
	return found;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_find_part);

static void free_partials(struct ploop_hostmap *hm, u32 first, u32 last)
{
	MA_STATE(mas, &hm->tree, first, first);
	struct ploop_partial *p;
	void *entry;

	lockdep_assert_held(&hm->mutex);
	mtree_lock(&hm->tree);
	mas_for_each(&mas, entry, last) {
		p = partial_of(entry);
		/* Its place stays until the caller overwrites it: nobody else is here. */
		if (p)
			kfree_rcu(p, rcu);
	}
	mtree_unlock(&hm->tree);
}

/**
 * ploop_hostmap_clear() - forget all
 * @hm: the host map; nobody searches it
 *
 * Context: process, may sleep.
 */
void ploop_hostmap_clear(struct ploop_hostmap *hm)
{
	mutex_lock(&hm->mutex);
	free_partials(hm, 0, U32_MAX);
	/* A tree under RCU frees nodes twice: seen on 6.1 and 6.12. Nobody searches this one. */
	mt_clear_in_rcu(&hm->tree);
	mtree_destroy(&hm->tree);
	mt_init_flags(&hm->tree, TREE_FLAGS);
	mutex_unlock(&hm->mutex);
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_clear);

/* Adds a cluster to the runs beside it that go on in it, or makes one of it alone. */
static int store_run(struct ploop_hostmap *hm, u32 iblk, sector_t start)
{
	MA_STATE(mas, &hm->tree, 0, 0);
	void *run = xa_mk_value(start + PLOOP_HOSTMAP_BIAS - ((u64)iblk << hm->cluster_log));
	unsigned long first = iblk, last = iblk;

	lockdep_assert_held(&hm->mutex);
	rcu_read_lock();
	if (iblk) {
		mas_set(&mas, iblk - 1);
		if (mas_walk(&mas) == run)
			first = mas.index;
	}
	if (iblk < U32_MAX) {
		mas_set(&mas, iblk + 1);
		if (mas_walk(&mas) == run)
			last = mas.last;
	}
	rcu_read_unlock();
	return mtree_store_range(&hm->tree, first, last, run, GFP);
}

/* A cluster of which nothing was known. */
static void add_new(struct ploop_hostmap *hm, u32 iblk, u32 unit, u32 n, sector_t start)
{
	struct ploop_partial *p;

	if (n == units(hm)) {
		store_run(hm, iblk, start);
		return;
	}
	p = kzalloc(struct_size(p, known, BITS_TO_LONGS(units(hm))), GFP);
	if (!p)
		return;
	p->start = start;
	bitmap_set(p->known, unit, n);
	if (mtree_store_range(&hm->tree, iblk, iblk, p, GFP))
		kfree(p);
}

static void add_more(struct ploop_hostmap *hm, struct ploop_partial *p, u32 iblk, u32 unit, u32 n)
{
	u32 i;

	for (i = unit; i < unit + n; i++)
		set_bit(i, p->known);
	if (bitmap_full(p->known, units(hm)) && !store_run(hm, iblk, p->start))
		kfree_rcu(p, rcu);
}

/**
 * ploop_hostmap_add() - note where units of a cluster lie
 * @hm: the host map
 * @iblk: cluster of the file
 * @unit: the first of the units
 * @n: number of units, within the cluster
 * @start: sector where the first unit of the cluster lies, or would if it were in
 *         one piece with these
 *
 * Without memory it is not known, as before.
 *
 * Context: process or worker, memalloc_noio; may sleep.
 * Return: false: it contradicts what is known, so that something is wrong with
 * the promise that nothing moves.
 */
bool ploop_hostmap_add(struct ploop_hostmap *hm, u32 iblk, u32 unit, u32 n, sector_t start)
{
	struct ploop_partial *p;
	bool agrees = true;
	void *entry;

	mutex_lock(&hm->mutex);
	entry = mtree_load(&hm->tree, iblk);
	p = partial_of(entry);
	if (!entry)
		add_new(hm, iblk, unit, n, start);
	else if (p && p->start == start)
		add_more(hm, p, iblk, unit, n);
	else if (p)
		agrees = !ploop_partial_knows(p, unit << PLOOP_UNIT_SHIFT, 1);
	else if (entry != PLOOP_HOSTMAP_BARRED)
		agrees = ploop_hostmap_run_start(hm, entry, iblk) == start;
	mutex_unlock(&hm->mutex);
	return agrees;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_add);

static int forget(struct ploop_hostmap *hm, u32 first, u32 last, void *instead)
{
	MA_STATE(mas, &hm->tree, first, first);
	struct ploop_partial *p;
	void *entry;
	int err = 0;

	lockdep_assert_held(&hm->mutex);
	rcu_read_lock();
	entry = mas_find(&mas, last);
	rcu_read_unlock();
	if (!entry && !instead)
		return 0;
	/* One by one: whatever fails, what was freed is not in the tree any more. */
	while (entry && !err) {
		p = partial_of(entry);
		if (p) {
			err = mtree_store_range(&hm->tree, mas.index, mas.last, NULL, GFP);
			if (!err)
				kfree_rcu(p, rcu);
		}
		if (mas.last >= last)
			break;
		mas_set(&mas, mas.last + 1);
		rcu_read_lock();
		entry = mas_find(&mas, last);
		rcu_read_unlock();
	}
	return err ? err : mtree_store_range(&hm->tree, first, last, instead, GFP);
}

/**
 * ploop_hostmap_forget() - clusters are not where they were, or not for long
 * @hm: the host map
 * @first: the first cluster of the file
 * @last: the last
 *
 * Who has searched before may still know.
 *
 * Context: process or worker, memalloc_noio; may sleep.
 * Return: 0 or -ENOMEM: they are not forgotten.
 */
int ploop_hostmap_forget(struct ploop_hostmap *hm, u32 first, u32 last)
{
	int err;

	mutex_lock(&hm->mutex);
	err = forget(hm, first, last, NULL);
	mutex_unlock(&hm->mutex);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_forget);

/**
 * ploop_hostmap_bar() - forget a cluster, and learn nothing of it for now
 * @hm: the host map
 * @iblk: cluster of the file; not barred, and nobody else bars it
 *
 * Context: process or worker, memalloc_noio; may sleep.
 * Return: 0 or -ENOMEM: it is as before.
 */
int ploop_hostmap_bar(struct ploop_hostmap *hm, u32 iblk)
{
	int err;

	mutex_lock(&hm->mutex);
	err = forget(hm, iblk, iblk, PLOOP_HOSTMAP_BARRED);
	mutex_unlock(&hm->mutex);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_bar);

/**
 * ploop_hostmap_unbar() - end of ploop_hostmap_bar()
 * @hm: the host map
 * @iblk: cluster of the file
 *
 * Without memory nothing more is learnt of it.
 *
 * Context: process or worker, memalloc_noio; may sleep.
 */
void ploop_hostmap_unbar(struct ploop_hostmap *hm, u32 iblk)
{
	mutex_lock(&hm->mutex);
	mtree_store_range(&hm->tree, iblk, iblk, NULL, GFP);
	mutex_unlock(&hm->mutex);
}
EXPORT_SYMBOL_IF_KUNIT(ploop_hostmap_unbar);
