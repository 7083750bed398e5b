// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lists that a client gives with FREEBLKS and RELOCBLKS, checked against the map:
 * right ones in any order, and each way to be wrong, with numbers around 2^32.
 *
 * The file of the top has, by its clusters (0 is index):
 *   1 2 3   clusters 0 1 2 of the disk
 *   4       cluster 9
 *   5       nothing
 *   6 7     clusters 20 21
 *   8       cluster 30, which is about to move
 * and cluster 40 of the disk is in the delta below, at 6.
 */
#include "map_kunit.h"
#include "../ploop.h"

#include <linux/module.h>

#define TOP		1
#define END		9

struct lists {
	struct fixture maps;
	struct ploop_device plo;
	struct ploop_delta top;
};

static struct ploop_device *device(struct kunit *test)
{
	struct lists *l = test->priv;

	return &l->plo;
}

static int lists_init(struct kunit *test)
{
	static const u8 places[] = { 0, 1, 2, 9, 255, 20, 21 };
	struct lists *l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);
	u32 i;

	if (!l)
		return -ENOMEM;
	test->priv = l;
	l->top = (struct ploop_delta) { .plo = &l->plo, .slot = TOP, .index_clusters = 1 };
	l->plo.top = &l->top;
	l->plo.map = new_map(test, CLUSTERS);
	for (i = 0; i < ARRAY_SIZE(places); i++)
		if (places[i] != 255)
			put(test, l->plo.map, places[i], ENTRY(i + 1, TOP));
	put(test, l->plo.map, 30, ENTRY(8, TOP) | PLOOP_ENTRY_MOVING);
	put(test, l->plo.map, 40, ENTRY(6, TOP - 1));
	return 0;
}

/* FREEBLKS */

struct free_case {
	const char *name;
	struct ploop_freeblks_extent list[3];
	u32 nr;
	int err;
};

static const struct free_case free_cases[] = {
	{ "nothing", { }, 0, 0 },
	{ "empty extents", { { 0, 7, 0 }, { ~0U, ~0U, 0 } }, 2, 0 },
	{ "all", { { 0, 1, 3 }, { 9, 4, 1 }, { 20, 6, 2 } }, 3, 0 },
	{ "in another order", { { 20, 6, 2 }, { 0, 1, 3 }, { 9, 4, 1 } }, 3, 0 },
	{ "a part", { { 1, 2, 1 } }, 1, 0 },
	{ "neighbours", { { 1, 2, 1 }, { 0, 1, 1 }, { 2, 3, 1 } }, 3, 0 },
	{ "another place", { { 0, 2, 1 } }, 1, -EINVAL },
	{ "too long", { { 0, 1, 4 } }, 1, -EINVAL },
	{ "a hole", { { 10, 5, 1 } }, 1, -EINVAL },
	{ "below", { { 40, 6, 1 } }, 1, -EINVAL },
	{ "moving", { { 30, 8, 1 } }, 1, -EINVAL },
	{ "twice", { { 0, 1, 3 }, { 0, 1, 3 } }, 2, -EINVAL },
	{ "overlap", { { 1, 2, 2 }, { 0, 1, 2 } }, 2, -EINVAL },
	{ "one of three wrong", { { 0, 1, 3 }, { 9, 4, 1 }, { 20, 7, 1 } }, 3, -EINVAL },
	{ "behind the disk", { { CLUSTERS, 1, 1 } }, 1, -EINVAL },
	{ "up to behind the disk", { { 0, 1, CLUSTERS + 1 } }, 1, -EINVAL },
	{ "sum above 2^32", { { 1, 2, ~0U } }, 1, -EINVAL },
	{ "sum 2^32", { { ~0U, 2, 1 } }, 1, -EINVAL },
	{ "place above 2^32", { { 0, ~0U, 3 } }, 1, -EINVAL },
};

static void free_case_name(const struct free_case *c, char *text)
{
	strscpy(text, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(free, free_cases, free_case_name);

static void free_list(struct kunit *test)
{
	const struct free_case *c = test->param_value;
	struct ploop_freeblks_extent list[ARRAY_SIZE(c->list)];
	u32 i, nr = c->nr, want = 0;

	memcpy(list, c->list, sizeof(list));
	KUNIT_ASSERT_EQ(test, ploop_balloon_check(device(test), list, &nr), c->err);
	if (c->err)
		return;
	for (i = 0; i < c->nr; i++)
		want += c->list[i].len > 0;
	KUNIT_EXPECT_EQ(test, nr, want);
	for (i = 1; i < nr; i++)
		KUNIT_EXPECT_LT(test, list[i - 1].iblk, list[i].iblk);
}

/* RELOCBLKS, when FREEBLKS had clusters 9 and 20; these have left the map. */

struct reloc_case {
	const char *name;
	u64 window;
	struct ploop_relocblks_extent list[4];
	u32 nr;
	int err;
};

static const struct reloc_case reloc_cases[] = {
	{ "all", 1, { { 0, 1, 3, 0 }, { 9, 4, 1, 1 }, { 20, 6, 1, 1 }, { 21, 7, 1, 0 } }, 4, 0 },
	{ "free ones not named", 1, { { 0, 1, 3, 0 }, { 21, 7, 1, 0 } }, 2, 0 },
	{ "the end", 7, { { 21, 7, 1, 0 } }, 1, 0 },
	{ "no window", 8, { }, 0, 0 },
	{ "in pieces", 2, { { 1, 2, 1, 0 }, { 2, 3, 1, 0 }, { 21, 7, 1, 0 } }, 3, 0 },
	{ "one left out", 3, { { 2, 3, 1, 0 } }, 1, -EINVAL },
	{ "all left out", 7, { }, 0, -EINVAL },
	{ "below the window", 3, { { 1, 2, 2, 0 }, { 21, 7, 1, 0 } }, 2, -EINVAL },
	{ "behind the end", 7, { { 21, 7, 2, 0 } }, 1, -EINVAL },
	{ "empty", 7, { { 21, 7, 0, 0 } }, 1, -EINVAL },
	{ "another order", 3, { { 21, 7, 1, 0 }, { 2, 3, 1, 0 } }, 2, -EINVAL },
	{ "overlap", 2, { { 1, 2, 2, 0 }, { 2, 3, 1, 0 }, { 21, 7, 1, 0 } }, 3, -EINVAL },
	{ "used, not free", 7, { { 21, 7, 1, 1 } }, 1, -EINVAL },
	{ "free, not used", 6, { { 20, 6, 2, 0 } }, 1, -EINVAL },
	{ "free, elsewhere", 6, { { 9, 6, 1, 1 }, { 21, 7, 1, 0 } }, 2, -EINVAL },
	{ "neither", 7, { { 21, 7, 1, 2 } }, 1, -EINVAL },
	{ "sum 2^32", 7, { { ~0U, 7, 1, 0 } }, 1, -EINVAL },
	{ "place above 2^32", 7, { { 21, 7, ~0U, 0 } }, 1, -EINVAL },
};

static void reloc_case_name(const struct reloc_case *c, char *text)
{
	strscpy(text, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(reloc, reloc_cases, reloc_case_name);

static void reloc_list(struct kunit *test)
{
	static struct ploop_freeblks_extent given[] = { { 9, 4, 1 }, { 20, 6, 1 } };
	const struct reloc_case *c = test->param_value;
	struct ploop_device *plo = device(test);

	ploop_map_set(plo->map, 9, 0);
	ploop_map_set(plo->map, 20, 0);
	ploop_map_set(plo->map, 30, 0);
	plo->balloon.list = given;
	plo->balloon.nr = ARRAY_SIZE(given);
	plo->balloon.head = END - 1;
	plo->balloon.window = c->window;
	KUNIT_EXPECT_EQ(test, ploop_reloc_check(plo, c->list, c->nr), c->err);
}

static struct kunit_case lists_cases[] = {
	KUNIT_CASE_PARAM(free_list, free_gen_params),
	KUNIT_CASE_PARAM(reloc_list, reloc_gen_params),
	{ }
};

static struct kunit_suite lists_suite = {
	.name = "ploop_lists",
	.init = lists_init,
	.exit = map_exit,
	.test_cases = lists_cases,
};

kunit_test_suite(lists_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit suite of ploop: lists of FREEBLKS and RELOCBLKS");
MODULE_LICENSE("GPL");
