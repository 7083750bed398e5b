// SPDX-License-Identifier: GPL-2.0-only
/*
 * Overlay of a new top delta on the map of a device:
 * - whose entry wins, and the shadow flag;
 * - growth of the disk, also behind the raw base;
 * - number of leaves;
 * - many levels against a plain array.
 *
 * Not tested: lack of memory and races, which need more than one thread.
 */
#include "map_kunit.h"

#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/string.h>

static struct ploop_map *new_upper(struct kunit *test, u32 clusters)
{
	struct fixture *f = test->priv;

	f->upper = ploop_map_alloc(clusters);
	KUNIT_ASSERT_NOT_NULL(test, f->upper);
	return f->upper;
}

static void overlay(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct ploop_map *upper = f->upper;

	f->upper = NULL;
	KUNIT_ASSERT_EQ(test, ploop_map_overlay(f->map, upper), 0);
}

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

static struct kunit_case map_overlay_cases[] = {
	KUNIT_CASE_PARAM(overlay_merges, overlay_gen_params),
	KUNIT_CASE_PARAM(overlay_grows, grow_gen_params),
	KUNIT_CASE_PARAM(overlay_grows_over_raw, grow_gen_params),
	KUNIT_CASE_PARAM(overlay_counts_leaves, leaves_gen_params),
	KUNIT_CASE(shadow_through_levels),
	KUNIT_CASE(random_levels),
	{}
};

static struct kunit_suite map_overlay_suite = {
	.name = "ploop_map_overlay",
	.init = map_init,
	.exit = map_exit,
	.test_cases = map_overlay_cases,
};

kunit_test_suite(map_overlay_suite);

MODULE_DESCRIPTION("KUnit suite of ploop: overlay of maps");
MODULE_LICENSE("GPL");
