/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_MAP_KUNIT_H
#define PLOOP_MAP_KUNIT_H

/* What the suites of the map share. */

#include "../map.h"

#include <kunit/test.h>

/* Independent of ploop_entry(), and constant. */
#define ENTRY(iblk, slot)	(1ULL << 40 | (u64)(slot) << 32 | (u32)(iblk))
#define SHADOW			(1ULL << 41)

/* Three leaves, of which the last one has only 44 clusters. */
#define CLUSTERS		300
#define RAW_SLOT		9

/**
 * struct fixture - what .exit has to free
 * @map: the map under test
 * @upper: a map not yet put over it
 */
struct fixture {
	struct ploop_map *map;
	struct ploop_map *upper;
};

static inline int map_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct fixture), GFP_KERNEL);
	return test->priv ? 0 : -ENOMEM;
}

static inline void map_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	if (!f)
		return;
	ploop_map_free(f->map);
	ploop_map_free(f->upper);
}

static inline struct ploop_map *new_map(struct kunit *test, u32 clusters)
{
	struct fixture *f = test->priv;

	ploop_map_free(f->map);
	f->map = ploop_map_alloc(clusters);
	KUNIT_ASSERT_NOT_NULL(test, f->map);
	return f->map;
}

static inline void set_raw(struct ploop_map *map, u32 clusters)
{
	map->raw_clusters = clusters;
	map->raw_slot = RAW_SLOT;
}

static inline void reserve(struct kunit *test, struct ploop_map *map, u32 clu)
{
	KUNIT_ASSERT_EQ(test, ploop_map_reserve(map, clu, GFP_KERNEL), 0);
}

static inline void put(struct kunit *test, struct ploop_map *map, u32 clu, u64 entry)
{
	reserve(test, map, clu);
	ploop_map_set(map, clu, entry);
}

static inline void reserve_leaves(struct kunit *test, struct ploop_map *map, u32 mask)
{
	u32 i;

	for (i = 0; i < 32; i++)
		if (mask & (1U << i))
			reserve(test, map, i << PLOOP_LEAF_SHIFT);
}

/* All others must read as if the map were empty. */
static inline void expect_only(struct kunit *test, struct ploop_map *map, u32 clu, u64 entry)
{
	u32 i;

	for (i = 0; i < map->clusters; i++)
		KUNIT_ASSERT_EQ_MSG(test, ploop_map_lookup(map, i),
				    i == clu ? entry : ploop_map_default(map, i),
				    "cluster %u", i);
}

#endif /* PLOOP_MAP_KUNIT_H */
