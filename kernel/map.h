/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_MAP_H
#define PLOOP_MAP_H

#include <linux/atomic.h>
#include <linux/types.h>

/**
 * DOC: the map
 *
 * One entry for each cluster of the device says which delta holds it and
 * where, whatever the number of levels: one lookup, no lock. An entry is one
 * 64-bit word, so that a reader never sees half of a change:
 *
 *   bits 0-31   cluster number inside the image file (iblk)
 *   bits 32-39  slot of the delta
 *   bit  40     mapped; a word of 0 means: in no delta
 *   bit  41     shadow: a lower delta maps the cluster too
 *   bit  42     moving: the cluster has to go elsewhere in the top's file, so
 *               writes do not go in place
 *
 * Slots are stable names of deltas; levels are derived from them, so that
 * renumbering levels rewrites no entry.
 */
#define PLOOP_ENTRY_MAPPED	(1ULL << 40)
#define PLOOP_ENTRY_SHADOW	(1ULL << 41)
#define PLOOP_ENTRY_MOVING	(1ULL << 42)

/** PLOOP_LEAF_SHIFT: a leaf maps 1 << PLOOP_LEAF_SHIFT clusters in 1 KiB */
#define PLOOP_LEAF_SHIFT	7
#define PLOOP_LEAF_ENTRIES	(1U << PLOOP_LEAF_SHIFT)

/**
 * struct ploop_leaf - run of map entries
 * @entry: PLOOP_LEAF_ENTRIES words
 */
struct ploop_leaf {
	u64 entry[PLOOP_LEAF_ENTRIES];
};

/**
 * struct ploop_map - which delta holds each cluster of a device
 * @clusters: number of entries [quiesced]
 * @raw_clusters: clusters below this that have no entry are held by the raw
 *                base, one to one [atomic]
 * @raw_slot: slot of the raw base [atomic]
 * @nr_leaves: size of @leaves [quiesced]
 * @used_leaves: leaves present [atomic]
 * @leaves: a leaf, or NULL where all entries are 0; a leaf is never freed
 *          while the device runs [atomic]
 *
 * Concurrency: any number of readers; one writer for each cluster (the owner
 * of its cluster lock); writers of one leaf need not know of each other. An
 * operation that moves what an entry points to, and not what it stands for,
 * needs no lock: it exchanges the entry it knows for another and lets a writer
 * win. [quiesced] is explained at the top of ploop.h.
 */
struct ploop_map {
	u32 clusters;
	u32 raw_clusters;
	u8 raw_slot;
	u32 nr_leaves;
	atomic_t used_leaves;
	struct ploop_leaf **leaves;
};

static inline u64 ploop_entry(u32 iblk, u8 slot, bool shadow)
{
	return PLOOP_ENTRY_MAPPED | (u64)slot << 32 | iblk |
	       (shadow ? PLOOP_ENTRY_SHADOW : 0);
}

static inline u32 ploop_entry_iblk(u64 entry)
{
	return (u32)entry;
}

static inline u8 ploop_entry_slot(u64 entry)
{
	return (u8)(entry >> 32);
}

/* The entry of a cluster that no leaf knows: the raw base, or a hole. */
static inline u64 ploop_map_default(const struct ploop_map *map, u32 clu)
{
	return clu < READ_ONCE(map->raw_clusters) ?
	       ploop_entry(clu, READ_ONCE(map->raw_slot), false) : 0;
}

/* Context: any; @clu < @map->clusters. The hot path of the driver. */
static inline u64 ploop_map_lookup(const struct ploop_map *map, u32 clu)
{
	struct ploop_leaf *leaf = READ_ONCE(map->leaves[clu >> PLOOP_LEAF_SHIFT]);
	u64 entry = 0;

	if (leaf)
		entry = READ_ONCE(leaf->entry[clu & (PLOOP_LEAF_ENTRIES - 1)]);
	return likely(entry) ? entry : ploop_map_default(map, clu);
}

struct ploop_map *ploop_map_alloc(u32 clusters);
void ploop_map_free(struct ploop_map *map);
int ploop_map_reserve(struct ploop_map *map, u32 clu, gfp_t gfp);
void ploop_map_set(struct ploop_map *map, u32 clu, u64 entry);
bool ploop_map_replace(struct ploop_map *map, u32 clu, u64 old, u64 entry);
u32 ploop_map_hole_end(const struct ploop_map *map, u32 clu);
int ploop_map_overlay(struct ploop_map *map, struct ploop_map *upper);
struct ploop_leaf **ploop_map_leaves(u32 clusters);
struct ploop_leaf **ploop_map_extend(struct ploop_map *map, u32 clusters,
				     struct ploop_leaf **leaves);
size_t ploop_map_bytes(const struct ploop_map *map);

#endif /* PLOOP_MAP_H */
