// SPDX-License-Identifier: GPL-2.0-only
/*
 * The map of a device:
 * - an entry keeps its fields apart, up to the largest values;
 * - size of the leaf array, up to the largest disk, and memory accounting;
 * - set, overwrite and remove at the borders of leaves;
 * - clusters of the raw base, which have no entry;
 * - end of holes: all from the cluster to the end are unmapped.
 *
 * Not tested: lack of memory and races, which need more than one thread.
 */
#include "map_kunit.h"

#include <linux/module.h>
#include <linux/string.h>

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
