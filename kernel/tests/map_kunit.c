// SPDX-License-Identifier: GPL-2.0-only
/*
 * The map of a device:
 * - an entry keeps its fields apart, up to the largest values;
 * - size of the leaf array, up to the largest disk, and memory accounting;
 * - set, overwrite and remove at the borders of leaves;
 * - clusters of the raw base, which have no entry;
 * - end of holes: all from the cluster to the end are unmapped;
 * - overlay of a new top delta: whose entry wins, the shadow flag, growth,
 *   number of leaves; many levels against a plain array.
 *
 * Not tested: lack of memory and races, which need more than one thread.
 */
#include "../map.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/string.h>

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

static int map_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct fixture), GFP_KERNEL);
	return test->priv ? 0 : -ENOMEM;
}

static void map_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	if (!f)
		return;
	ploop_map_free(f->map);
	ploop_map_free(f->upper);
}

static struct ploop_map *new_map(struct kunit *test, u32 clusters)
{
	struct fixture *f = test->priv;

	ploop_map_free(f->map);
	f->map = ploop_map_alloc(clusters);
	KUNIT_ASSERT_NOT_NULL(test, f->map);
	return f->map;
}

static struct ploop_map *new_upper(struct kunit *test, u32 clusters)
{
	struct fixture *f = test->priv;

	f->upper = ploop_map_alloc(clusters);
	KUNIT_ASSERT_NOT_NULL(test, f->upper);
	return f->upper;
}

static void set_raw(struct ploop_map *map, u32 clusters)
{
	map->raw_clusters = clusters;
	map->raw_slot = RAW_SLOT;
}

static void reserve(struct kunit *test, struct ploop_map *map, u32 clu)
{
	KUNIT_ASSERT_EQ(test, ploop_map_reserve(map, clu, GFP_KERNEL), 0);
}

static void put(struct kunit *test, struct ploop_map *map, u32 clu, u64 entry)
{
	reserve(test, map, clu);
	ploop_map_set(map, clu, entry);
}

static void reserve_leaves(struct kunit *test, struct ploop_map *map, u32 mask)
{
	u32 i;

	for (i = 0; i < 32; i++)
		if (mask & (1U << i))
			reserve(test, map, i << PLOOP_LEAF_SHIFT);
}

static void overlay(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct ploop_map *upper = f->upper;

	f->upper = NULL;
	KUNIT_ASSERT_EQ(test, ploop_map_overlay(f->map, upper), 0);
}

/* Packing */

struct entry_case {
	const char *name;
	u32 iblk;
	u8 slot;
	bool shadow;
	u64 want;
};

static const struct entry_case entry_cases[] = {
	{ "all zero is still mapped", 0, 0, false, 0x0000010000000000 },
	{ "only shadow", 0, 0, true, 0x0000030000000000 },
	{ "first cluster, first slot", 1, 1, false, 0x0000010100000001 },
	{ "sign bit of iblk", 0x80000000, 0, false, 0x0000010080000000 },
	{ "largest iblk", U32_MAX, 0, false, 0x00000100ffffffff },
	{ "sign bit of slot", 0, 0x80, false, 0x0000018000000000 },
	{ "largest slot", 0, 0xff, false, 0x000001ff00000000 },
	{ "largest slot, shadow", 0, 0xff, true, 0x000003ff00000000 },
	{ "all at their largest", U32_MAX, 0xff, true, 0x000003ffffffffff },
	{ "different in all bytes", 0x12345678, 0x9a, true, 0x0000039a12345678 },
};

static void entry_desc(const struct entry_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(entry, entry_cases, entry_desc);

static void entry_packs(struct kunit *test)
{
	const struct entry_case *c = test->param_value;
	u64 entry = ploop_entry(c->iblk, c->slot, c->shadow);

	KUNIT_EXPECT_EQ(test, entry, c->want);
	KUNIT_EXPECT_EQ(test, ploop_entry_iblk(entry), c->iblk);
	KUNIT_EXPECT_EQ(test, ploop_entry_slot(entry), c->slot);
	KUNIT_EXPECT_TRUE(test, entry & PLOOP_ENTRY_MAPPED);
	KUNIT_EXPECT_EQ(test, !!(entry & PLOOP_ENTRY_SHADOW), c->shadow);
}

/* A leaf must stay what its readers rely on: naturally aligned 64-bit words. */
static void leaf_is_words(struct kunit *test)
{
	struct ploop_map *map = new_map(test, CLUSTERS);

	put(test, map, 0, ENTRY(1, 1));
	KUNIT_EXPECT_EQ(test, sizeof(struct ploop_leaf), (size_t)1024);
	KUNIT_EXPECT_EQ(test, sizeof(map->leaves[0]->entry[0]), sizeof(u64));
	KUNIT_EXPECT_EQ(test, (unsigned long)map->leaves[0] % sizeof(u64), 0UL);
}

/* Geometry */

struct alloc_case {
	const char *name;
	u32 clusters;
	u32 leaves;
};

static const struct alloc_case alloc_cases[] = {
	{ "no cluster", 0, 0 },
	{ "one cluster", 1, 1 },
	{ "one short of a leaf", 127, 1 },
	{ "a leaf", 128, 1 },
	{ "one more than a leaf", 129, 2 },
	{ "three leaves, the last partial", CLUSTERS, 3 },
	{ "2^20 clusters", 1 << 20, 1 << 13 },
};

static void alloc_desc(const struct alloc_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(alloc, alloc_cases, alloc_desc);

static void alloc_sizes(struct kunit *test)
{
	const struct alloc_case *c = test->param_value;
	struct ploop_map *map = new_map(test, c->clusters);

	KUNIT_EXPECT_EQ(test, map->clusters, c->clusters);
	KUNIT_ASSERT_EQ(test, map->nr_leaves, c->leaves);
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves), 0);
	KUNIT_EXPECT_EQ(test, ploop_map_bytes(map),
			sizeof(*map) + c->leaves * sizeof(void *));
	if (!c->clusters)
		return;
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 0), 0ULL);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, c->clusters - 1), 0ULL);
	KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, 0), c->clusters);
}

/* Takes 256 MiB: the rounding to leaves must not wrap at 32 bits. */
static void largest_disk(struct kunit *test)
{
	struct ploop_map *map = new_map(test, U32_MAX);
	u32 last = U32_MAX - 1;

	KUNIT_ASSERT_EQ(test, map->nr_leaves, 1U << 25);
	set_raw(map, 1000);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, last), 0ULL);
	KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, 1000), U32_MAX);
	KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, last), U32_MAX);
	put(test, map, last, ENTRY(U32_MAX, 0xff));
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, last), ENTRY(U32_MAX, 0xff));
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, last - 1), 0ULL);
	KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, 1000), last & ~127U);
	KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, last - 1), last);
	set_raw(map, U32_MAX);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, last - 1), ENTRY(last - 1, RAW_SLOT));
}

static void null_map(struct kunit *test)
{
	ploop_map_free(NULL);
	KUNIT_EXPECT_EQ(test, ploop_map_bytes(NULL), (size_t)0);
}

/* Set and look up */

struct place_case {
	const char *name;
	u32 clu;
};

static const struct place_case place_cases[] = {
	{ "first cluster", 0 },
	{ "last of the first leaf", 127 },
	{ "first of the second leaf", 128 },
	{ "inside the second leaf", 200 },
	{ "last of the second leaf", 255 },
	{ "first of the partial leaf", 256 },
	{ "last cluster", CLUSTERS - 1 },
};

static void place_desc(const struct place_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(place, place_cases, place_desc);

/* All others must read as if the map were empty. */
static void expect_only(struct kunit *test, struct ploop_map *map, u32 clu, u64 entry)
{
	u32 i;

	for (i = 0; i < map->clusters; i++)
		KUNIT_ASSERT_EQ_MSG(test, ploop_map_lookup(map, i),
				    i == clu ? entry : ploop_map_default(map, i),
				    "cluster %u", i);
}

static void set_is_looked_up(struct kunit *test)
{
	const struct place_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);
	size_t bytes = ploop_map_bytes(map);

	put(test, map, c->clu, ENTRY(5, 2));
	expect_only(test, map, c->clu, ENTRY(5, 2));
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves), 1);
	KUNIT_EXPECT_EQ(test, ploop_map_bytes(map), bytes + 1024);
	ploop_map_set(map, c->clu, ENTRY(U32_MAX, 3) | SHADOW);
	expect_only(test, map, c->clu, ENTRY(U32_MAX, 3) | SHADOW);
	ploop_map_set(map, c->clu, 0);
	expect_only(test, map, c->clu, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves), 1);
}

static void reserve_again_keeps(struct kunit *test)
{
	const struct place_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);
	struct ploop_leaf *leaf;

	reserve(test, map, c->clu);
	expect_only(test, map, c->clu, 0);
	leaf = map->leaves[c->clu >> PLOOP_LEAF_SHIFT];
	ploop_map_set(map, c->clu, ENTRY(5, 2));
	reserve(test, map, c->clu);
	reserve(test, map, c->clu & ~127U);
	KUNIT_EXPECT_PTR_EQ(test, map->leaves[c->clu >> PLOOP_LEAF_SHIFT], leaf);
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves), 1);
	expect_only(test, map, c->clu, ENTRY(5, 2));
}

/* The raw base */

struct raw_case {
	const char *name;
	u32 raw;
};

static const struct raw_case raw_cases[] = {
	{ "one cluster", 1 },
	{ "one short of a leaf", 127 },
	{ "a leaf", 128 },
	{ "one more than a leaf", 129 },
	{ "inside the partial leaf", 270 },
	{ "the whole disk", CLUSTERS },
};

static void raw_desc(const struct raw_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(raw, raw_cases, raw_desc);

static void expect_raw(struct kunit *test, struct ploop_map *map, u32 raw)
{
	u32 i;

	for (i = 0; i < map->clusters; i++)
		KUNIT_ASSERT_EQ_MSG(test, ploop_map_lookup(map, i),
				    i < raw ? ENTRY(i, RAW_SLOT) : 0, "cluster %u", i);
}

static void raw_base_shows(struct kunit *test)
{
	const struct raw_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);

	set_raw(map, c->raw);
	expect_raw(test, map, c->raw);
	if (c->raw < CLUSTERS)
		KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, c->raw), (u32)CLUSTERS);
	/* A leaf without entries hides nothing. */
	reserve_leaves(test, map, 7);
	expect_raw(test, map, c->raw);
	put(test, map, c->raw - 1, ENTRY(7, 1) | SHADOW);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, c->raw - 1), ENTRY(7, 1) | SHADOW);
	ploop_map_set(map, c->raw - 1, 0);
	expect_raw(test, map, c->raw);
}

/* Holes */

struct hole_case {
	const char *name;
	u32 clusters;
	u32 raw;
	u32 leaves;
	u32 clu;
	u32 end;
};

static const struct hole_case hole_cases[] = {
	{ "one cluster", 1, 0, 0, 0, 1 },
	{ "partial leaf from its start", 5, 0, 0, 0, 5 },
	{ "partial leaf from its end", 5, 0, 0, 4, 5 },
	{ "exactly one leaf", 128, 0, 0, 0, 128 },
	{ "one more than a leaf", 129, 0, 0, 0, 129 },
	{ "one more than a leaf, from its end", 129, 0, 0, 128, 129 },
	{ "empty map", 300, 0, 0, 0, 300 },
	{ "empty map, from inside", 300, 0, 0, 130, 300 },
	{ "up to a leaf, from its start", 300, 0, 0x2, 0, 128 },
	{ "up to a leaf, from inside", 300, 0, 0x2, 5, 128 },
	{ "up to a leaf, from its end", 300, 0, 0x2, 127, 128 },
	{ "up to the partial leaf", 300, 0, 0x4, 0, 256 },
	{ "up to the partial leaf, from the one before", 300, 0, 0x4, 255, 256 },
	{ "over many leaves", 4000, 0, 0x80000001, 128, 31 * 128 },
	{ "inside a leaf one by one", 300, 0, 0x2, 130, 131 },
	{ "out of a leaf", 300, 0, 0x2, 255, 256 },
	{ "behind the last leaf", 300, 0, 0x2, 256, 300 },
	{ "last cluster without a leaf", 300, 0, 0x3, 299, 300 },
	{ "inside the partial leaf one by one", 300, 0, 0x4, 298, 299 },
	{ "last cluster inside the partial leaf", 300, 0, 0x4, 299, 300 },
	{ "behind the raw base", 300, 200, 0, 200, 300 },
	{ "behind the raw base up to a leaf", 300, 100, 0x4, 100, 256 },
	{ "behind the raw base in a leaf", 300, 100, 0x1, 100, 101 },
	{ "raw base of a leaf", 300, 128, 0x1, 128, 300 },
};

static void hole_desc(const struct hole_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(hole, hole_cases, hole_desc);

static void hole_ends(struct kunit *test)
{
	const struct hole_case *c = test->param_value;
	struct ploop_map *map = new_map(test, c->clusters);

	set_raw(map, c->raw);
	reserve_leaves(test, map, c->leaves);
	KUNIT_ASSERT_EQ(test, ploop_map_lookup(map, c->clu), 0ULL);
	KUNIT_EXPECT_EQ(test, ploop_map_hole_end(map, c->clu), c->end);
}

/* Walks a map as its users do; must meet exactly the clusters of @want. */
static void expect_walk(struct kunit *test, struct ploop_map *map, const u64 *want)
{
	u32 clu = 0, end;

	while (clu < map->clusters) {
		u64 entry = ploop_map_lookup(map, clu);

		KUNIT_ASSERT_EQ_MSG(test, entry, want[clu], "cluster %u", clu);
		if (entry) {
			clu++;
			continue;
		}
		end = ploop_map_hole_end(map, clu);
		KUNIT_ASSERT_GT(test, end, clu);
		KUNIT_ASSERT_LE(test, end, map->clusters);
		for (; clu < end; clu++)
			KUNIT_ASSERT_EQ_MSG(test, want[clu], 0ULL, "skipped cluster %u", clu);
	}
}

/* Overlay */

/**
 * struct overlay_case - one cluster through an overlay
 * @name: description
 * @clu: the cluster
 * @raw: the raw base holds all clusters
 * @lower_leaf: the lower map has a leaf there, even if @lower is 0
 * @upper_leaf: same of the upper map
 * @lower: entry of the lower map
 * @upper: entry of the upper map
 * @want: what is to be found afterwards
 */
struct overlay_case {
	const char *name;
	u32 clu;
	bool raw;
	bool lower_leaf;
	bool upper_leaf;
	u64 lower;
	u64 upper;
	u64 want;
};

#define LOWER	ENTRY(11, 1)
#define UPPER	ENTRY(U32_MAX, 2)

static const struct overlay_case overlay_cases[] = {
	{ "nothing over nothing", 5, false, false, false, 0, 0, 0 },
	{ "nothing over an empty leaf", 5, false, true, false, 0, 0, 0 },
	{ "empty leaf over nothing", 5, false, false, true, 0, 0, 0 },
	{ "empty leaf over an empty leaf", 5, false, true, true, 0, 0, 0 },
	{ "entry over nothing", 5, false, false, true, 0, UPPER, UPPER },
	{ "entry over an empty leaf", 5, false, true, true, 0, UPPER, UPPER },
	{ "nothing over an entry", 5, false, true, false, LOWER, 0, LOWER },
	{ "empty leaf over an entry", 5, false, true, true, LOWER, 0, LOWER },
	{ "empty leaf over a shadowing entry", 5, false, true, true,
	  LOWER | SHADOW, 0, LOWER | SHADOW },
	{ "entry over an entry", 5, false, true, true, LOWER, UPPER, UPPER | SHADOW },
	{ "entry over a shadowing entry", 5, false, true, true,
	  LOWER | SHADOW, UPPER, UPPER | SHADOW },
	{ "entry over cluster 0 of slot 0", 5, false, true, true,
	  ENTRY(0, 0), UPPER, UPPER | SHADOW },
	{ "cluster 0 of slot 0 over an entry", 5, false, true, true,
	  LOWER, ENTRY(0, 0), ENTRY(0, 0) | SHADOW },
	{ "end of a leaf", 127, false, true, true, LOWER, UPPER, UPPER | SHADOW },
	{ "start of a leaf", 128, false, true, true, LOWER, UPPER, UPPER | SHADOW },
	{ "start of a leaf, nothing below", 128, false, false, true, 0, UPPER, UPPER },
	{ "last cluster", 299, false, true, true, LOWER, UPPER, UPPER | SHADOW },
	{ "last cluster, nothing below", 299, false, false, true, 0, UPPER, UPPER },
	{ "nothing over the raw base", 5, true, false, false, 0, 0, ENTRY(5, RAW_SLOT) },
	{ "empty leaf over the raw base", 5, true, false, true, 0, 0, ENTRY(5, RAW_SLOT) },
	{ "empty leaf over an empty leaf over the raw base", 5, true, true, true,
	  0, 0, ENTRY(5, RAW_SLOT) },
	{ "entry over the raw base", 5, true, false, true, 0, UPPER, UPPER | SHADOW },
	{ "entry over an empty leaf over the raw base", 5, true, true, true,
	  0, UPPER, UPPER | SHADOW },
	{ "entry over cluster 0 of the raw base", 0, true, false, true,
	  0, UPPER, UPPER | SHADOW },
	{ "entry over the last cluster of the raw base", 299, true, false, true,
	  0, UPPER, UPPER | SHADOW },
	{ "empty leaf over an entry over the raw base", 5, true, true, true,
	  LOWER | SHADOW, 0, LOWER | SHADOW },
	{ "entry over an entry over the raw base", 5, true, true, true,
	  LOWER | SHADOW, UPPER, UPPER | SHADOW },
};

static void overlay_desc(const struct overlay_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(overlay, overlay_cases, overlay_desc);

static void overlay_merges(struct kunit *test)
{
	const struct overlay_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);
	struct ploop_map *upper = new_upper(test, CLUSTERS);

	if (c->raw)
		set_raw(map, CLUSTERS);
	if (c->lower_leaf)
		put(test, map, c->clu, c->lower);
	if (c->upper_leaf)
		put(test, upper, c->clu, c->upper);
	overlay(test);
	expect_only(test, map, c->clu, c->want);
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves),
			c->lower_leaf || c->upper_leaf);
}

struct grow_case {
	const char *name;
	u32 from;
	u32 to;
};

static const struct grow_case grow_cases[] = {
	{ "same size", 100, 100 },
	{ "same size, exactly a leaf", 128, 128 },
	{ "from nothing", 0, 1 },
	{ "by one in a leaf", 100, 101 },
	{ "to the end of a leaf", 100, 128 },
	{ "from one short of a leaf over it", 127, 129 },
	{ "from the end of a leaf", 128, 129 },
	{ "by several leaves", 100, 300 },
	{ "from a partial leaf to another", 300, 1000 },
};

static void grow_desc(const struct grow_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(grow, grow_cases, grow_desc);

/* Last cluster of both maps set, nothing else. */
static void overlay_grows(struct kunit *test)
{
	const struct grow_case *c = test->param_value;
	struct ploop_map *map = new_map(test, c->from);
	struct ploop_map *upper = new_upper(test, c->to);
	bool grown = c->to > c->from;
	u32 leaves = DIV_ROUND_UP(c->to, 128), i;

	if (c->from)
		put(test, map, c->from - 1, LOWER);
	put(test, upper, c->to - 1, UPPER);
	overlay(test);
	KUNIT_EXPECT_EQ(test, map->clusters, c->to);
	KUNIT_ASSERT_EQ(test, map->nr_leaves, leaves);
	for (i = 0; i < c->to; i++) {
		u64 want = 0;

		if (i == c->to - 1)
			want = grown ? UPPER : UPPER | SHADOW;
		else if (c->from && i == c->from - 1)
			want = LOWER;
		KUNIT_ASSERT_EQ_MSG(test, ploop_map_lookup(map, i), want, "cluster %u", i);
	}
}

/* What is behind the end of the raw base belongs to nobody. */
static void overlay_grows_over_raw(struct kunit *test)
{
	const struct grow_case *c = test->param_value;
	struct ploop_map *map = new_map(test, c->from);
	struct ploop_map *upper = new_upper(test, c->to);
	u32 i;

	set_raw(map, c->from);
	for (i = 0; i < c->to; i += 2)
		put(test, upper, i, ENTRY(i, 1));
	overlay(test);
	KUNIT_EXPECT_EQ(test, map->raw_clusters, c->from);
	for (i = 0; i < c->to; i++) {
		u64 want = i < c->from ? ENTRY(i, RAW_SLOT) : 0;

		if (i % 2 == 0)
			want = ENTRY(i, 1) | (i < c->from ? SHADOW : 0);
		KUNIT_ASSERT_EQ_MSG(test, ploop_map_lookup(map, i), want, "cluster %u", i);
	}
}

struct leaves_case {
	const char *name;
	u32 lower;
	u32 upper;
	int want;
};

static const struct leaves_case leaves_cases[] = {
	{ "none", 0, 0, 0 },
	{ "only below", 0x5, 0, 2 },
	{ "only above", 0, 0x7, 3 },
	{ "same", 0x5, 0x5, 2 },
	{ "disjoint", 0x2, 0x9, 3 },
	{ "overlapping", 0x3, 0x6, 3 },
	{ "above only behind the lower map", 0x7, 0x8, 4 },
};

static void leaves_desc(const struct leaves_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(leaves, leaves_cases, leaves_desc);

static void overlay_counts_leaves(struct kunit *test)
{
	const struct leaves_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);
	struct ploop_map *upper = new_upper(test, 512);

	reserve_leaves(test, map, c->lower);
	reserve_leaves(test, upper, c->upper);
	overlay(test);
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves), c->want);
	KUNIT_EXPECT_EQ(test, ploop_map_bytes(map),
			sizeof(*map) + 4 * sizeof(void *) + c->want * 1024);
}

/* The middle delta does not map the cluster; the bottom one still counts. */
static void shadow_through_levels(struct kunit *test)
{
	struct ploop_map *map = new_map(test, CLUSTERS);

	put(test, map, 5, ENTRY(1, 0));
	put(test, new_upper(test, CLUSTERS), 6, ENTRY(1, 1));
	overlay(test);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 5), ENTRY(1, 0));
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 6), ENTRY(1, 1));
	put(test, new_upper(test, CLUSTERS), 5, ENTRY(1, 2));
	overlay(test);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 5), ENTRY(1, 2) | SHADOW);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 6), ENTRY(1, 1));
	put(test, new_upper(test, CLUSTERS), 6, ENTRY(1, 3));
	overlay(test);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 5), ENTRY(1, 2) | SHADOW);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 6), ENTRY(1, 3) | SHADOW);
}

/* Some leaves dense, some sparse, some absent. */
static void fill_random(struct kunit *test, struct rnd_state *rnd,
			struct ploop_map *upper, u8 slot, u64 *model)
{
	u32 clu, chance = 0;

	for (clu = 0; clu < upper->clusters; clu++) {
		if (clu % PLOOP_LEAF_ENTRIES == 0)
			chance = prandom_u32_state(rnd) % 3 * 30;
		if (prandom_u32_state(rnd) % 100 < chance) {
			u64 entry = ENTRY(prandom_u32_state(rnd), slot);

			put(test, upper, clu, entry);
			model[clu] = entry | (model[clu] ? SHADOW : 0);
		}
	}
}

#define LEVELS		20
#define GROWTH		150
#define RAW		333

static void random_levels(struct kunit *test)
{
	u64 *model = kunit_kcalloc(test, LEVELS * GROWTH + RAW, sizeof(*model), GFP_KERNEL);
	struct ploop_map *map = new_map(test, RAW + 1);
	struct rnd_state rnd;
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, model);
	prandom_seed_state(&rnd, 20);
	set_raw(map, RAW);
	for (i = 0; i < RAW; i++)
		model[i] = ENTRY(i, RAW_SLOT);
	for (i = 1; i < LEVELS; i++) {
		struct ploop_map *upper = new_upper(test, RAW + i / 2 * GROWTH + 1);

		fill_random(test, &rnd, upper, RAW_SLOT + i, model);
		overlay(test);
		expect_walk(test, map, model);
	}
}

static struct kunit_case map_cases[] = {
	KUNIT_CASE_PARAM(entry_packs, entry_gen_params),
	KUNIT_CASE(leaf_is_words),
	KUNIT_CASE_PARAM(alloc_sizes, alloc_gen_params),
	KUNIT_CASE(largest_disk),
	KUNIT_CASE(null_map),
	KUNIT_CASE_PARAM(set_is_looked_up, place_gen_params),
	KUNIT_CASE_PARAM(reserve_again_keeps, place_gen_params),
	KUNIT_CASE_PARAM(raw_base_shows, raw_gen_params),
	KUNIT_CASE_PARAM(hole_ends, hole_gen_params),
	KUNIT_CASE_PARAM(overlay_merges, overlay_gen_params),
	KUNIT_CASE_PARAM(overlay_grows, grow_gen_params),
	KUNIT_CASE_PARAM(overlay_grows_over_raw, grow_gen_params),
	KUNIT_CASE_PARAM(overlay_counts_leaves, leaves_gen_params),
	KUNIT_CASE(shadow_through_levels),
	KUNIT_CASE(random_levels),
	{}
};

static struct kunit_suite map_suite = {
	.name = "ploop_map",
	.init = map_init,
	.exit = map_exit,
	.test_cases = map_cases,
};

kunit_test_suite(map_suite);

MODULE_DESCRIPTION("KUnit suite of ploop: the map");
MODULE_LICENSE("GPL");
