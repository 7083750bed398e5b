// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of the map that go on beside writers:
 * - an entry is exchanged only for the one that was looked up, flags included;
 * - clusters of the raw base, which have no entry, are exchanged like others;
 * - a map that covers more clusters keeps its entries, and what is new is empty.
 *
 * Not tested: races, which need more than one thread.
 */
#include "map_kunit.h"

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>

#define MOVING	(1ULL << 42)

struct replace_case {
	const char *name;
	u64 there;
	u64 old;
	u64 new;
	bool done;
};

static const struct replace_case replace_cases[] = {
	{ "same entry", ENTRY(5, 1), ENTRY(5, 1), ENTRY(6, 1), true },
	{ "to nothing", ENTRY(5, 1), ENTRY(5, 1), 0, true },
	{ "from nothing", 0, 0, ENTRY(6, 1), true },
	{ "mark as moving", ENTRY(5, 1), ENTRY(5, 1), ENTRY(5, 1) | MOVING, true },
	{ "take the mark back", ENTRY(5, 1) | MOVING, ENTRY(5, 1) | MOVING, ENTRY(5, 1), true },
	{ "other cluster", ENTRY(7, 1), ENTRY(5, 1), ENTRY(6, 1), false },
	{ "other slot", ENTRY(5, 2), ENTRY(5, 1), ENTRY(6, 1), false },
	{ "a shadow came", ENTRY(5, 1) | SHADOW, ENTRY(5, 1), ENTRY(6, 1), false },
	{ "a mark came", ENTRY(5, 1) | MOVING, ENTRY(5, 1), ENTRY(6, 1), false },
	{ "was discarded", 0, ENTRY(5, 1), ENTRY(6, 1), false },
	{ "was written", ENTRY(5, 1), 0, ENTRY(6, 1), false },
};

static void replace_desc(const struct replace_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(replace, replace_cases, replace_desc);

static void replace_only_known(struct kunit *test)
{
	const struct replace_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);

	put(test, map, 130, c->there);
	put(test, map, 131, ENTRY(99, 3));
	KUNIT_EXPECT_EQ(test, ploop_map_replace(map, 130, c->old, c->new), c->done);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 130), c->done ? c->new : c->there);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 131), ENTRY(99, 3));
}

static void replace_raw_base(struct kunit *test)
{
	struct ploop_map *map = new_map(test, CLUSTERS);

	set_raw(map, 200);
	reserve(test, map, 150);
	KUNIT_EXPECT_FALSE(test, ploop_map_replace(map, 150, 0, ENTRY(6, 1)));
	KUNIT_EXPECT_FALSE(test, ploop_map_replace(map, 150, ENTRY(151, RAW_SLOT), ENTRY(6, 1)));
	KUNIT_EXPECT_TRUE(test, ploop_map_replace(map, 150, ENTRY(150, RAW_SLOT), ENTRY(6, 1)));
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 150), ENTRY(6, 1));
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 151), ENTRY(151, RAW_SLOT));
	/* Behind the raw base nothing is nothing. */
	reserve(test, map, 200);
	KUNIT_EXPECT_TRUE(test, ploop_map_replace(map, 200, 0, ENTRY(7, 1)));
}

struct extend_case {
	const char *name;
	u32 clusters;
	u32 leaves;
};

static const struct extend_case extend_cases[] = {
	{ "not at all", CLUSTERS, 3 },
	{ "within the partial leaf", CLUSTERS + 1, 3 },
	{ "to the end of the partial leaf", 384, 3 },
	{ "by a leaf", 385, 4 },
	{ "by many leaves", 100000, 782 },
};

static void extend_desc(const struct extend_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(extend, extend_cases, extend_desc);

static void extend_keeps(struct kunit *test)
{
	const struct extend_case *c = test->param_value;
	struct ploop_map *map = new_map(test, CLUSTERS);
	struct ploop_leaf **leaves = ploop_map_leaves(c->clusters), **old = map->leaves;
	u32 clu;

	KUNIT_ASSERT_NOT_NULL(test, leaves);
	put(test, map, 0, ENTRY(1, 1));
	put(test, map, CLUSTERS - 1, ENTRY(2, 1));
	KUNIT_EXPECT_PTR_EQ(test, ploop_map_extend(map, c->clusters, leaves), old);
	kvfree(old);
	KUNIT_EXPECT_EQ(test, map->clusters, c->clusters);
	KUNIT_EXPECT_EQ(test, map->nr_leaves, c->leaves);
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, 0), ENTRY(1, 1));
	KUNIT_EXPECT_EQ(test, ploop_map_lookup(map, CLUSTERS - 1), ENTRY(2, 1));
	for (clu = CLUSTERS; clu < c->clusters; clu++)
		KUNIT_ASSERT_EQ(test, ploop_map_lookup(map, clu), 0ULL);
	KUNIT_EXPECT_EQ(test, atomic_read(&map->used_leaves), 2);
}

static struct kunit_case map_change_cases[] = {
	KUNIT_CASE_PARAM(replace_only_known, replace_gen_params),
	KUNIT_CASE(replace_raw_base),
	KUNIT_CASE_PARAM(extend_keeps, extend_gen_params),
	{}
};

static struct kunit_suite map_change_suite = {
	.name = "ploop_map_change",
	.init = map_init,
	.exit = map_exit,
	.test_cases = map_change_cases,
};

kunit_test_suite(map_change_suite);

MODULE_DESCRIPTION("KUnit suite of ploop: changes of the map beside writers");
MODULE_LICENSE("GPL");
