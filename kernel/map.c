// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two-level, lock-free map of a device. Pure memory: nothing here does I/O.
 */
#include "map.h"

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

static u32 count_leaves(u32 clusters)
{
	return DIV_ROUND_UP_ULL((u64)clusters, PLOOP_LEAF_ENTRIES);
}

/**
 * ploop_map_leaves() - allocate the upper level of a map
 * @clusters: number of clusters it has to cover
 *
 * Context: process, may sleep.
 * Return: an empty table, or NULL when memory is short; for kvfree().
 */
struct ploop_leaf **ploop_map_leaves(u32 clusters)
{
	return kvcalloc(count_leaves(clusters), sizeof(struct ploop_leaf *), GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(ploop_map_leaves);

/**
 * ploop_map_alloc() - make a map without entries
 * @clusters: number of clusters it has to cover
 *
 * Context: process, may sleep.
 * Return: the map, or NULL when memory is short.
 */
struct ploop_map *ploop_map_alloc(u32 clusters)
{
	struct ploop_map *map = kzalloc(sizeof(*map), GFP_KERNEL);

	if (!map)
		return NULL;
	map->clusters = clusters;
	map->nr_leaves = count_leaves(clusters);
	map->leaves = ploop_map_leaves(clusters);
	if (!map->leaves) {
		kfree(map);
		return NULL;
	}
	return map;
}
EXPORT_SYMBOL_GPL(ploop_map_alloc);

/**
 * ploop_map_free() - free a map
 * @map: the map, which nobody reads any more; or NULL
 */
void ploop_map_free(struct ploop_map *map)
{
	u32 i;

	if (!map)
		return;
	for (i = 0; i < map->nr_leaves; i++)
		kfree(map->leaves[i]);
	kvfree(map->leaves);
	kfree(map);
}
EXPORT_SYMBOL_GPL(ploop_map_free);

/**
 * ploop_map_reserve() - make sure that an entry can be set without failing
 * @map: the map
 * @clu: the cluster
 * @gfp: how to allocate
 *
 * Separate from ploop_map_set() so that a writer finds out about missing
 * memory before it has written data, not after.
 *
 * Return: 0 or -ENOMEM.
 */
int ploop_map_reserve(struct ploop_map *map, u32 clu, gfp_t gfp)
{
	struct ploop_leaf **slot = &map->leaves[clu >> PLOOP_LEAF_SHIFT];
	struct ploop_leaf *leaf;

	if (READ_ONCE(*slot))
		return 0;
	leaf = kzalloc(sizeof(*leaf), gfp);
	if (!leaf)
		return -ENOMEM;
	/* Owners of two clusters of one leaf may race; the loser's is empty. */
	if (cmpxchg(slot, NULL, leaf))
		kfree(leaf);
	else
		atomic_inc(&map->used_leaves);
	return 0;
}
EXPORT_SYMBOL_GPL(ploop_map_reserve);

/**
 * ploop_map_set() - publish the place of a cluster
 * @map: the map
 * @clu: the cluster, reserved by ploop_map_reserve() or mapped before
 * @entry: ploop_entry() or 0
 *
 * Who sees the entry sees what was written before it.
 *
 * Context: any; the caller owns the cluster lock of @clu, or the map is not
 * yet in use.
 */
void ploop_map_set(struct ploop_map *map, u32 clu, u64 entry)
{
	struct ploop_leaf *leaf = READ_ONCE(map->leaves[clu >> PLOOP_LEAF_SHIFT]);

	if (WARN_ON_ONCE(!leaf))
		return;
	/* Pairs with the address dependency of ploop_map_lookup(). */
	smp_store_release(&leaf->entry[clu & (PLOOP_LEAF_ENTRIES - 1)], entry);
}
EXPORT_SYMBOL_GPL(ploop_map_set);

/**
 * ploop_map_replace() - exchange an entry, unless a writer was quicker
 * @map: the map
 * @clu: the cluster, reserved by ploop_map_reserve() or mapped before
 * @old: what ploop_map_lookup() returned
 * @entry: ploop_entry() or 0
 *
 * Context: any; no lock needed.
 * Return: true when the entry was @old and is @entry now.
 */
bool ploop_map_replace(struct ploop_map *map, u32 clu, u64 old, u64 entry)
{
	struct ploop_leaf *leaf = READ_ONCE(map->leaves[clu >> PLOOP_LEAF_SHIFT]);
	u64 word, *p;

	if (WARN_ON_ONCE(!leaf))
		return false;
	p = &leaf->entry[clu & (PLOOP_LEAF_ENTRIES - 1)];
	word = READ_ONCE(*p);
	if ((word ? word : ploop_map_default(map, clu)) != old)
		return false;
	return cmpxchg64(p, word, entry) == word;
}
EXPORT_SYMBOL_GPL(ploop_map_replace);

/**
 * ploop_map_extend() - have a map cover more clusters
 * @map: the map; nobody reads or writes it now
 * @clusters: new number, not below the old one
 * @leaves: from ploop_map_leaves() for @clusters
 *
 * Context: any.
 * Return: the old table, for kvfree().
 */
struct ploop_leaf **ploop_map_extend(struct ploop_map *map, u32 clusters,
				     struct ploop_leaf **leaves)
{
	struct ploop_leaf **old = map->leaves;

	memcpy(leaves, old, map->nr_leaves * sizeof(*leaves));
	map->leaves = leaves;
	map->clusters = clusters;
	map->nr_leaves = count_leaves(clusters);
	return old;
}
EXPORT_SYMBOL_GPL(ploop_map_extend);

/**
 * ploop_map_hole_end() - skip clusters that are mapped nowhere
 * @map: the map
 * @clu: an unmapped cluster
 *
 * Return: a cluster above @clu such that all from @clu to it are unmapped; not
 * always the last such one, so callers loop.
 */
u32 ploop_map_hole_end(const struct ploop_map *map, u32 clu)
{
	u32 i = clu >> PLOOP_LEAF_SHIFT;

	if (clu < map->raw_clusters || READ_ONCE(map->leaves[i]))
		return clu + 1;
	while (++i < map->nr_leaves && !READ_ONCE(map->leaves[i]))
		;
	return min_t(u64, (u64)i << PLOOP_LEAF_SHIFT, map->clusters);
}
EXPORT_SYMBOL_GPL(ploop_map_hole_end);

static void overlay_leaf(struct ploop_map *map, u32 i, struct ploop_leaf *upper)
{
	struct ploop_leaf *lower = map->leaves[i];
	u32 clu = i << PLOOP_LEAF_SHIFT;
	unsigned int k;

	for (k = 0; k < PLOOP_LEAF_ENTRIES; k++) {
		u64 below = lower && lower->entry[k] ? lower->entry[k] :
			    ploop_map_default(map, clu + k);

		if (!upper->entry[k])
			upper->entry[k] = lower ? lower->entry[k] : 0;
		else if (below)
			upper->entry[k] |= PLOOP_ENTRY_SHADOW;
	}
	map->leaves[i] = upper;
	kfree(lower);
}

/**
 * ploop_map_overlay() - put the entries of a new top delta over a map
 * @map: the map of the deltas below; not in use
 * @upper: the map of the new delta alone, at least as large; its leaves are
 *         taken over and it is freed, also when this fails
 *
 * Return: 0 or -ENOMEM, @map unchanged.
 */
int ploop_map_overlay(struct ploop_map *map, struct ploop_map *upper)
{
	struct ploop_leaf **leaves = ploop_map_leaves(upper->clusters);
	u32 i, used = 0;

	if (!leaves) {
		ploop_map_free(upper);
		return -ENOMEM;
	}
	kvfree(ploop_map_extend(map, upper->clusters, leaves));
	for (i = 0; i < upper->nr_leaves; i++) {
		if (upper->leaves[i])
			overlay_leaf(map, i, upper->leaves[i]);
		upper->leaves[i] = NULL;
		used += !!map->leaves[i];
	}
	atomic_set(&map->used_leaves, used);
	ploop_map_free(upper);
	return 0;
}
EXPORT_SYMBOL_GPL(ploop_map_overlay);

/**
 * ploop_map_bytes() - memory a map takes
 * @map: the map, or NULL
 *
 * Return: bytes.
 */
size_t ploop_map_bytes(const struct ploop_map *map)
{
	if (!map)
		return 0;
	return sizeof(*map) + map->nr_leaves * sizeof(*map->leaves) +
	       atomic_read(&map->used_leaves) * sizeof(struct ploop_leaf);
}
EXPORT_SYMBOL_GPL(ploop_map_bytes);
