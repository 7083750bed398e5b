// SPDX-License-Identifier: GPL-2.0-only
/*
 * How short a file can become, ploop_alloc_plan(): maps of small files, drawn as
 * text, and random ones against the definition: from the answer on each used
 * cluster has a hole below it, and one cluster less would be too few.
 */
#include "../ploop.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/prandom.h>

/* U used, c clean, r reusable, . neither: freed, and not clean yet */
struct plan_case {
	const char *file;
	u64 window;
	u64 end;
};

static const struct plan_case plan_cases[] = {
	{ "", 0, 0 },
	{ "U", 0, 1 },
	{ "c", 0, 0 },
	{ "UUUU", 0, 4 },
	{ "cU", 0, 1 },
	{ "Uc", 0, 1 },
	{ "ccUU", 0, 2 },
	{ "cUUU", 0, 3 },
	{ "rcUUU", 0, 3 },
	{ "c.UU", 0, 3 },
	{ "cU.U", 0, 2 },
	{ "UcUcUcUc", 0, 4 },
	{ "ccccUUUU", 6, 6 },
	{ "ccccUUUU", 8, 8 },
	{ "ccccUUUU....", 0, 4 },
	{ "UUUUcccc", 0, 4 },
};

static void plan_case_name(const struct plan_case *c, char *text)
{
	snprintf(text, KUNIT_PARAM_DESC_SIZE, "%s from %llu", c->file, c->window);
}

KUNIT_ARRAY_PARAM(plan, plan_cases, plan_case_name);

struct fixture {
	struct ploop_delta delta;
	struct ploop_bitmap used;
};

static int alloc_init(struct kunit *test)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	if (!f)
		return -ENOMEM;
	mutex_init(&f->delta.alloc.mutex);
	ploop_bitmap_init(&f->delta.alloc.clean);
	ploop_bitmap_init(&f->delta.alloc.reusable);
	ploop_bitmap_init(&f->used);
	test->priv = f;
	return 0;
}

static void alloc_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	if (!f)
		return;
	ploop_bitmap_destroy(&f->delta.alloc.clean);
	ploop_bitmap_destroy(&f->delta.alloc.reusable);
	ploop_bitmap_destroy(&f->used);
}

static void draw(struct kunit *test, const char *file)
{
	struct fixture *f = test->priv;
	struct ploop_bitmap *set;
	u32 i;

	for (i = 0; file[i]; i++) {
		set = file[i] == 'U' ? &f->used :
		      file[i] == 'c' ? &f->delta.alloc.clean :
		      file[i] == 'r' ? &f->delta.alloc.reusable : NULL;
		if (set)
			KUNIT_ASSERT_EQ(test, ploop_bitmap_set(set, i, GFP_KERNEL), 0);
	}
	f->delta.alloc.head = i;
}

static void plan_of_a_drawing(struct kunit *test)
{
	const struct plan_case *c = test->param_value;
	struct fixture *f = test->priv;

	draw(test, c->file);
	KUNIT_EXPECT_EQ(test, ploop_alloc_plan(&f->delta, &f->used, c->window), c->end);
}

/* Used ones from @end on, less the holes below it. */
static int missing(const char *file, u64 end)
{
	int n = 0;
	u64 i;

	for (i = 0; file[i]; i++)
		n += i < end ? -(file[i] == 'c' || file[i] == 'r') : file[i] == 'U';
	return n;
}

static void plan_of_random_files(struct kunit *test)
{
	static const char kinds[] = "UUUccr..";
	struct fixture *f = test->priv;
	struct rnd_state rnd;
	char file[200];
	u64 end;
	int round, i, len;

	prandom_seed_state(&rnd, 1);
	for (round = 0; round < 200; round++) {
		len = prandom_u32_state(&rnd) % (sizeof(file) - 1);
		for (i = 0; i < len; i++)
			file[i] = kinds[prandom_u32_state(&rnd) % (sizeof(kinds) - 1)];
		file[len] = 0;
		draw(test, file);
		end = ploop_alloc_plan(&f->delta, &f->used, 0);
		KUNIT_ASSERT_LE(test, missing(file, end), 0);
		if (end)
			KUNIT_ASSERT_GT(test, missing(file, end - 1), 0);
		alloc_exit(test);
	}
}

static struct kunit_case alloc_tests[] = {
	KUNIT_CASE_PARAM(plan_of_a_drawing, plan_gen_params),
	KUNIT_CASE(plan_of_random_files),
	{ }
};

static struct kunit_suite alloc_suite = {
	.name = "ploop_alloc",
	.init = alloc_init,
	.exit = alloc_exit,
	.test_cases = alloc_tests,
};

kunit_test_suite(alloc_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit tests of the end of image files");
MODULE_LICENSE("GPL");
