// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sparse set of cluster numbers behind image validation and allocation:
 * - add, ask, remove at the borders of words, chunks and of the 32-bit range,
 *   twice, and without hitting a number that differs in one bit;
 * - next member and next non-member: both ends of the range, empty and absent
 *   chunks, ranges up to 1 << 32;
 * - destroy leaves an empty, usable set;
 * - random work against a plain array, at both ends of the 32-bit range.
 *
 * Not tested: lack of memory.
 */
#include "../bitmap.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/string.h>

#define CHUNK	4096ULL
#define TOP	(1ULL << 32)

static int bitmap_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct ploop_bitmap), GFP_KERNEL);
	if (!test->priv)
		return -ENOMEM;
	ploop_bitmap_init(test->priv);
	return 0;
}

static void bitmap_exit(struct kunit *test)
{
	if (test->priv)
		ploop_bitmap_destroy(test->priv);
}

static void add_run(struct kunit *test, u64 from, u64 len)
{
	u64 bit;

	for (bit = from; bit < from + len; bit++)
		KUNIT_ASSERT_EQ(test, ploop_bitmap_set(test->priv, bit, GFP_KERNEL), 0);
}

/* Single numbers */

struct bit_case {
	const char *name;
	u32 bit;
};

static const struct bit_case bit_cases[] = {
	{ "0", 0 },
	{ "1", 1 },
	{ "end of a word", 63 },
	{ "start of a word", 64 },
	{ "end of the first chunk", 4095 },
	{ "start of the second chunk", 4096 },
	{ "second of the second chunk", 4097 },
	{ "end of the second chunk", 8191 },
	{ "largest positive int", 0x7fffffff },
	{ "sign bit", 0x80000000 },
	{ "end of the last chunk but one", 0xffffefff },
	{ "start of the last chunk", 0xfffff000 },
	{ "last number but one", 0xfffffffe },
	{ "last number", 0xffffffff },
};

static void bit_desc(const struct bit_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(bit, bit_cases, bit_desc);

/* A slip in the split of a number would show in one that differs in one bit. */
static void expect_only(struct kunit *test, struct ploop_bitmap *b, u32 bit)
{
	unsigned int i;

	KUNIT_EXPECT_EQ(test, b->weight, 1ULL);
	KUNIT_EXPECT_TRUE(test, ploop_bitmap_test(b, bit));
	KUNIT_EXPECT_FALSE(test, ploop_bitmap_test(b, bit - 1));
	KUNIT_EXPECT_FALSE(test, ploop_bitmap_test(b, bit + 1));
	for (i = 0; i < 32; i++)
		KUNIT_EXPECT_FALSE_MSG(test, ploop_bitmap_test(b, bit ^ 1U << i),
				       "bit %u flipped", i);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_set(b, 0, TOP), (u64)bit);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_set(b, bit + 1ULL, TOP), TOP);
}

static void set_and_clear(struct kunit *test)
{
	const struct bit_case *c = test->param_value;
	struct ploop_bitmap *b = test->priv;

	KUNIT_EXPECT_FALSE(test, ploop_bitmap_test(b, c->bit));
	KUNIT_EXPECT_EQ(test, ploop_bitmap_set(b, c->bit, GFP_KERNEL), 0);
	expect_only(test, b, c->bit);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_set(b, c->bit, GFP_KERNEL), 1);
	expect_only(test, b, c->bit);
	ploop_bitmap_clear(b, c->bit ^ 1);
	ploop_bitmap_clear(b, c->bit ^ 1U << 31);
	expect_only(test, b, c->bit);
	ploop_bitmap_clear(b, c->bit);
	KUNIT_EXPECT_EQ(test, b->weight, 0ULL);
	KUNIT_EXPECT_FALSE(test, ploop_bitmap_test(b, c->bit));
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_set(b, 0, TOP), TOP);
	ploop_bitmap_clear(b, c->bit);
	KUNIT_EXPECT_EQ(test, b->weight, 0ULL);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_set(b, c->bit, GFP_KERNEL), 0);
	expect_only(test, b, c->bit);
}

static void clear_of_absent(struct kunit *test)
{
	const struct bit_case *c = test->param_value;
	struct ploop_bitmap *b = test->priv;

	ploop_bitmap_clear(b, c->bit);
	KUNIT_EXPECT_EQ(test, b->weight, 0ULL);
	KUNIT_EXPECT_FALSE(test, ploop_bitmap_test(b, c->bit));
	KUNIT_EXPECT_TRUE(test, xa_empty(&b->chunks));
}

static void destroy_empties(struct kunit *test)
{
	const struct bit_case *c = test->param_value;
	struct ploop_bitmap *b = test->priv;

	add_run(test, 10000, 5000);
	ploop_bitmap_set(b, c->bit, GFP_KERNEL);
	ploop_bitmap_destroy(b);
	KUNIT_EXPECT_EQ(test, b->weight, 0ULL);
	KUNIT_EXPECT_TRUE(test, xa_empty(&b->chunks));
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_set(b, 0, TOP), TOP);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_set(b, c->bit, GFP_KERNEL), 0);
	expect_only(test, b, c->bit);
}

static void weight_counts(struct kunit *test)
{
	struct ploop_bitmap *b = test->priv;
	u32 bit;

	add_run(test, 4000, 5000);
	KUNIT_EXPECT_EQ(test, b->weight, 5000ULL);
	for (bit = 3900; bit < 4100; bit++)
		ploop_bitmap_set(b, bit, GFP_KERNEL);
	KUNIT_EXPECT_EQ(test, b->weight, 5100ULL);
	for (bit = 0; bit < 20000; bit += 2)
		ploop_bitmap_clear(b, bit);
	KUNIT_EXPECT_EQ(test, b->weight, 2550ULL);
	add_run(test, TOP - 10, 10);
	KUNIT_EXPECT_EQ(test, b->weight, 2560ULL);
}

/* Searches */

struct run {
	u64 from;
	u64 len;
};

/**
 * struct find_case - a search in a set of up to three runs
 * @name: description
 * @run: the members
 * @from: first number to look at
 * @end: where to give up
 * @set: the next member
 * @clear: the next number that is not a member
 */
struct find_case {
	const char *name;
	struct run run[3];
	u64 from;
	u64 end;
	u64 set;
	u64 clear;
};

static const struct find_case find_cases[] = {
	{ "empty set", { }, 0, TOP, TOP, 0 },
	{ "empty set, from inside a chunk", { }, 5000, 6000, 6000, 5000 },
	{ "empty set, last number", { }, TOP - 1, TOP, TOP, TOP - 1 },
	{ "no range at 0", { { 0, 1 } }, 0, 0, 0, 0 },
	{ "no range on a member", { { 5, 1 } }, 5, 5, 5, 5 },
	{ "no range at a chunk border", { { 4095, 2 } }, CHUNK, CHUNK, CHUNK, CHUNK },
	{ "no range at the top", { { TOP - 1, 1 } }, TOP, TOP, TOP, TOP },
	{ "range backwards", { { 0, 100 } }, 50, 40, 40, 40 },
	{ "range backwards over a chunk border", { { 4000, 200 } }, 4100, 4000, 4000, 4000 },
	{ "starts on a member", { { 5, 1 } }, 5, 10, 5, 6 },
	{ "starts behind a member", { { 5, 1 } }, 6, 10, 10, 6 },
	{ "starts before a member", { { 5, 1 } }, 4, 10, 5, 4 },
	{ "ends behind a member", { { 5, 1 } }, 0, 6, 5, 0 },
	{ "ends on a member", { { 5, 1 } }, 0, 5, 5, 0 },
	{ "member far behind the end", { { 50, 1 } }, 0, 10, 10, 0 },
	{ "one member is the range", { { 5, 1 } }, 5, 6, 5, 6 },
	{ "one non-member is the range", { { 4, 1 }, { 6, 1 } }, 5, 6, 6, 5 },
	{ "run ends behind the end", { { 5, 50 } }, 5, 20, 5, 20 },
	{ "starts in a run", { { 5, 50 } }, 30, 100, 30, 55 },
	{ "first of three runs is over", { { 5, 5 }, { 20, 5 }, { 40, 5 } }, 10, 100, 20, 10 },
	{ "run to a word border", { { 0, 64 } }, 0, 100, 0, 64 },
	{ "run to a chunk border, chunk absent behind", { { 4000, 96 } }, 4000, 9000, 4000, CHUNK },
	{ "run to a chunk border, chunk present behind", { { 4000, 96 }, { 5000, 1 } },
	  4000, 9000, 4000, CHUNK },
	{ "run over a chunk border", { { 4000, 100 } }, 4000, 9000, 4000, 4100 },
	{ "run over a chunk border, ends on it", { { 4000, 100 } }, 4000, CHUNK, 4000, CHUNK },
	{ "run over a chunk border, ends behind it", { { 4000, 100 } },
	  4000, CHUNK + 1, 4000, CHUNK + 1 },
	{ "full chunk", { { CHUNK, CHUNK } }, 0, TOP, CHUNK, 0 },
	{ "from inside a full chunk", { { CHUNK, CHUNK } }, 5000, TOP, 5000, 2 * CHUNK },
	{ "two full chunks", { { 0, 2 * CHUNK } }, 0, 3 * CHUNK, 0, 2 * CHUNK },
	{ "two full chunks, ends on their end", { { 0, 2 * CHUNK } },
	  0, 2 * CHUNK, 0, 2 * CHUNK },
	{ "two full chunks, ends before their end", { { 0, 2 * CHUNK } }, 0, 8000, 0, 8000 },
	{ "next chunk's first", { { CHUNK, 1 } }, 4095, 9000, CHUNK, 4095 },
	{ "chunk with only earlier members", { { CHUNK, 5 }, { 3 * CHUNK, 1 } },
	  CHUNK + 5, TOP, 3 * CHUNK, CHUNK + 5 },
	{ "chunks absent between", { { 7, 1 }, { 0x80000000, 1 } },
	  8, TOP, 0x80000000, 8 },
	{ "next chunk begins at the end", { { 2 * CHUNK, 1 } },
	  0, 2 * CHUNK, 2 * CHUNK, 0 },
	{ "next chunk begins before the end", { { 2 * CHUNK, 1 } },
	  0, 2 * CHUNK + 1, 2 * CHUNK, 0 },
	{ "last number", { { TOP - 1, 1 } }, 0, TOP, TOP - 1, 0 },
	{ "last number excluded", { { TOP - 1, 1 } }, 0, TOP - 1, TOP - 1, 0 },
	{ "only the last number", { { TOP - 1, 1 } }, TOP - 1, TOP, TOP - 1, TOP },
	{ "run to the top", { { TOP - 16, 16 } }, TOP - 8, TOP, TOP - 8, TOP },
	{ "full chunk at the top", { { TOP - CHUNK, CHUNK } }, TOP - CHUNK, TOP,
	  TOP - CHUNK, TOP },
	{ "full chunk at the top, ends before", { { TOP - CHUNK, CHUNK } },
	  TOP - CHUNK, TOP - 1, TOP - CHUNK, TOP - 1 },
	{ "0 is not behind the last number", { { 0, 1 } }, TOP - 1, TOP, TOP, TOP - 1 },
};

static void find_desc(const struct find_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(find, find_cases, find_desc);

static void find_next(struct kunit *test)
{
	const struct find_case *c = test->param_value;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(c->run); i++)
		add_run(test, c->run[i].from, c->run[i].len);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_set(test->priv, c->from, c->end), c->set);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_clear(test->priv, c->from, c->end), c->clear);
}

/* Same set, but all chunks of the range exist and hold cleared bits. */
static void find_next_after_clear(struct kunit *test)
{
	const struct find_case *c = test->param_value;
	struct ploop_bitmap *b = test->priv;
	u64 from = round_down(c->from, CHUNK);
	u64 end = min(from + 3 * CHUNK, TOP);
	u64 bit;

	for (bit = from; bit < end; bit++)
		ploop_bitmap_set(b, bit, GFP_KERNEL);
	for (bit = from; bit < end; bit++)
		ploop_bitmap_clear(b, bit);
	KUNIT_EXPECT_EQ(test, b->weight, 0ULL);
	find_next(test);
}

/* Random work */

#define SPAN	(5 * 4096 + 100)

struct random_case {
	const char *name;
	u64 base;
};

static const struct random_case random_cases[] = {
	{ "from 0", 0 },
	{ "off the chunk borders", 1000001 },
	{ "around the sign bit", 0x80000000 - SPAN / 2 },
	{ "up to the last number", TOP - SPAN },
};

static void random_desc(const struct random_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(random, random_cases, random_desc);

/**
 * struct model - plain array beside the set
 * @base: number of the first element
 * @weight: true elements
 * @rnd: source of all choices
 * @has: the elements
 */
struct model {
	u64 base;
	u64 weight;
	struct rnd_state rnd;
	bool has[SPAN];
};

/* Runs of up to 300, so that also whole words are set and cleared. */
static void change_run(struct kunit *test, struct model *m)
{
	u32 i = prandom_u32_state(&m->rnd) % SPAN;
	u32 end = min_t(u32, SPAN, i + prandom_u32_state(&m->rnd) % 300);
	bool add = prandom_u32_state(&m->rnd) % 2;

	for (; i < end; i++) {
		if (add)
			KUNIT_ASSERT_EQ(test, ploop_bitmap_set(test->priv, m->base + i, GFP_KERNEL),
					(int)m->has[i]);
		else
			ploop_bitmap_clear(test->priv, m->base + i);
		m->weight += add - m->has[i];
		m->has[i] = add;
	}
}

static u32 model_next(const struct model *m, u32 from, u32 end, bool value)
{
	while (from < end && m->has[from] != value)
		from++;
	return end < from ? end : from;
}

static void compare_search(struct kunit *test, struct model *m)
{
	u32 from = prandom_u32_state(&m->rnd) % (SPAN + 1);
	u32 end = prandom_u32_state(&m->rnd) % (SPAN + 1);

	KUNIT_ASSERT_EQ(test, ploop_bitmap_next_set(test->priv, m->base + from, m->base + end),
			m->base + model_next(m, from, end, true));
	KUNIT_ASSERT_EQ(test, ploop_bitmap_next_clear(test->priv, m->base + from, m->base + end),
			m->base + model_next(m, from, end, false));
}

/* Walks the extents as allocation does when a device starts. */
static void compare_extents(struct kunit *test, struct model *m)
{
	u64 end = m->base + SPAN, from, to = m->base, members = 0;

	while ((from = ploop_bitmap_next_set(test->priv, to, end)) < end) {
		to = ploop_bitmap_next_clear(test->priv, from, end);
		KUNIT_ASSERT_GT(test, to, from);
		members += to - from;
		for (; from < to; from++)
			KUNIT_ASSERT_TRUE(test, m->has[from - m->base]);
	}
	KUNIT_ASSERT_EQ(test, members, m->weight);
}

static void random_against_array(struct kunit *test)
{
	const struct random_case *c = test->param_value;
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct ploop_bitmap *b = test->priv;
	u32 i, round;

	KUNIT_ASSERT_NOT_NULL(test, m);
	m->base = c->base;
	prandom_seed_state(&m->rnd, 19);
	for (round = 0; round < 300; round++) {
		change_run(test, m);
		compare_search(test, m);
		KUNIT_ASSERT_EQ(test, b->weight, m->weight);
	}
	compare_extents(test, m);
	for (i = 0; i < SPAN; i++)
		KUNIT_ASSERT_EQ_MSG(test, ploop_bitmap_test(b, m->base + i), m->has[i],
				    "number %u", i);
	KUNIT_EXPECT_EQ(test, ploop_bitmap_next_set(b, 0, TOP),
			m->base + model_next(m, 0, SPAN, true));
}

static struct kunit_case bitmap_cases[] = {
	KUNIT_CASE_PARAM(set_and_clear, bit_gen_params),
	KUNIT_CASE_PARAM(clear_of_absent, bit_gen_params),
	KUNIT_CASE_PARAM(destroy_empties, bit_gen_params),
	KUNIT_CASE(weight_counts),
	KUNIT_CASE_PARAM(find_next, find_gen_params),
	KUNIT_CASE_PARAM(find_next_after_clear, find_gen_params),
	KUNIT_CASE_PARAM(random_against_array, random_gen_params),
	{}
};

static struct kunit_suite bitmap_suite = {
	.name = "ploop_bitmap",
	.init = bitmap_init,
	.exit = bitmap_exit,
	.test_cases = bitmap_cases,
};

kunit_test_suite(bitmap_suite);

MODULE_DESCRIPTION("KUnit suite of ploop: the sparse set of clusters");
MODULE_LICENSE("GPL");
