// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is known of the places of a file's clusters:
 * - whole clusters join their neighbours in the file when these follow on the disk,
 *   at both ends of the 32-bit range, and come apart when one is forgotten;
 * - parts of a cluster are found, and only those; they become a whole;
 * - units that lie elsewhere are not known, and what contradicts is told;
 * - a barred cluster is not known, and nothing is learnt of it;
 * - random work against a plain array.
 *
 * Not tested: lack of memory; readers beside a change.
 */
#include "../hostmap.h"
#include "../compat.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/prandom.h>

#define LOG	6
#define UNITS	8
#define SECTORS	(1U << LOG)
#define BYTES	(SECTORS << SECTOR_SHIFT)
#define UNIT	PLOOP_UNIT_BYTES

static int hostmap_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct ploop_hostmap), GFP_KERNEL);
	if (!test->priv)
		return -ENOMEM;
	ploop_hostmap_init(test->priv, LOG);
	return 0;
}

static void hostmap_exit(struct kunit *test)
{
	if (test->priv)
		ploop_hostmap_clear(test->priv);
}

static unsigned int entries(struct ploop_hostmap *hm)
{
	MA_STATE(mas, &hm->tree, 0, 0);
	unsigned int n = 0;
	void *entry;

	rcu_read_lock();
	mas_for_each(&mas, entry, U32_MAX)
		n++;
	rcu_read_unlock();
	return n;
}

static void is_at(struct kunit *test, u32 iblk, u32 off, u32 len, sector_t want)
{
	sector_t sector = 0;

	KUNIT_ASSERT_TRUE(test, ploop_hostmap_find(test->priv, iblk, off, len, &sector));
	KUNIT_ASSERT_EQ(test, sector, want);
}

static void is_nowhere(struct kunit *test, u32 iblk, u32 off, u32 len)
{
	sector_t sector;

	KUNIT_ASSERT_FALSE(test, ploop_hostmap_find(test->priv, iblk, off, len, &sector));
}

static void add_whole(struct kunit *test, u32 iblk, sector_t start)
{
	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(test->priv, iblk, 0, UNITS, start));
}

static void whole_clusters_join(struct kunit *test)
{
	static const u32 firsts[] = { 0, 100, U32_MAX - 2 };
	unsigned int i, before;
	u32 first;

	for (i = 0; i < ARRAY_SIZE(firsts); i++) {
		first = firsts[i];
		before = entries(test->priv);
		add_whole(test, first, 1000);
		add_whole(test, first + 2, 1000 + 2 * SECTORS);
		KUNIT_EXPECT_EQ(test, entries(test->priv), before + 2);
		is_nowhere(test, first + 1, 0, UNIT);
		add_whole(test, first + 1, 1000 + SECTORS);
		KUNIT_EXPECT_EQ(test, entries(test->priv), before + 1);
		is_at(test, first, 0, BYTES, 1000);
		is_at(test, first + 1, 512, 512, 1000 + SECTORS + 1);
		is_at(test, first + 2, BYTES - 512, 512, 1000 + 3 * SECTORS - 1);
		/* Known already. */
		add_whole(test, first + 1, 1000 + SECTORS);
		KUNIT_EXPECT_EQ(test, entries(test->priv), before + 1);
	}
}

static void neighbours_elsewhere_stay_apart(struct kunit *test)
{
	add_whole(test, 5, 5000);
	add_whole(test, 6, 9000);
	add_whole(test, 4, 5000 - SECTORS - 8);
	KUNIT_EXPECT_EQ(test, entries(test->priv), 3U);
	is_at(test, 4, 0, 512, 5000 - SECTORS - 8);
	is_at(test, 5, 0, 512, 5000);
	is_at(test, 6, 0, 512, 9000);
}

static void forgotten_in_the_midst(struct kunit *test)
{
	u32 i;

	for (i = 10; i < 20; i++)
		add_whole(test, i, i * SECTORS);
	KUNIT_EXPECT_EQ(test, entries(test->priv), 1U);
	KUNIT_ASSERT_EQ(test, ploop_hostmap_forget(test->priv, 14, 15), 0);
	KUNIT_EXPECT_EQ(test, entries(test->priv), 2U);
	is_nowhere(test, 14, 0, 512);
	is_nowhere(test, 15, BYTES - 512, 512);
	is_at(test, 13, 0, 512, 13 * SECTORS);
	is_at(test, 16, 0, 512, 16 * SECTORS);
	KUNIT_ASSERT_EQ(test, ploop_hostmap_forget(test->priv, 0, U32_MAX), 0);
	KUNIT_EXPECT_EQ(test, entries(test->priv), 0U);
}

static void parts(struct kunit *test)
{
	struct ploop_hostmap *hm = test->priv;

	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(hm, 7, 2, 3, 700));
	is_at(test, 7, 2 * UNIT, 3 * UNIT, 700 + 16);
	is_at(test, 7, 3 * UNIT + 512, 512, 700 + 25);
	is_nowhere(test, 7, 2 * UNIT - 512, 1024);
	is_nowhere(test, 7, 4 * UNIT, UNIT + 512);
	is_nowhere(test, 7, 0, BYTES);
	/* Elsewhere: not known, and no contradiction. */
	KUNIT_EXPECT_TRUE(test, ploop_hostmap_add(hm, 7, 6, 1, 9000));
	is_nowhere(test, 7, 6 * UNIT, 512);
	/* What is known cannot be elsewhere. */
	KUNIT_EXPECT_FALSE(test, ploop_hostmap_add(hm, 7, 3, 1, 9000));
	/* A whole one joins its neighbour. */
	add_whole(test, 8, 700 + SECTORS);
	KUNIT_EXPECT_EQ(test, entries(hm), 2U);
	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(hm, 7, 0, 2, 700));
	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(hm, 7, 5, 3, 700));
	KUNIT_EXPECT_EQ(test, entries(hm), 1U);
	is_at(test, 7, 0, BYTES, 700);
	KUNIT_EXPECT_FALSE(test, ploop_hostmap_add(hm, 7, 0, UNITS, 9000));
}

/* The first unit that is known lies nearer to the disk's begin than to the cluster's. */
static void begins_before_the_disk(struct kunit *test)
{
	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(test->priv, 3, 6, 2, (sector_t)8 - 48));
	is_at(test, 3, 6 * UNIT, 2 * UNIT, 8);
}

static void barred(struct kunit *test)
{
	struct ploop_hostmap *hm = test->priv;
	u32 i;

	for (i = 0; i < 3; i++)
		add_whole(test, i, 64 + i * SECTORS);
	KUNIT_EXPECT_TRUE(test, ploop_hostmap_knows(hm, 1));
	KUNIT_ASSERT_EQ(test, ploop_hostmap_bar(hm, 1), 0);
	KUNIT_EXPECT_FALSE(test, ploop_hostmap_knows(hm, 1));
	is_nowhere(test, 1, 0, 512);
	add_whole(test, 1, 64 + SECTORS);
	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(hm, 1, 1, 1, 64 + SECTORS));
	is_nowhere(test, 1, UNIT, 512);
	ploop_hostmap_unbar(hm, 1);
	is_nowhere(test, 1, UNIT, 512);
	KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(hm, 1, 1, 1, 9000));
	is_at(test, 1, UNIT, 512, 9008);
	KUNIT_ASSERT_EQ(test, ploop_hostmap_bar(hm, 1), 0);
	is_nowhere(test, 1, UNIT, 512);
}

/* Runs and parts in turn: a tree of several levels, forgotten piece by piece and at once. */
static void many(struct kunit *test)
{
	struct ploop_hostmap *hm = test->priv;
	u32 round, i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 5000; i++)
			KUNIT_ASSERT_TRUE(test, ploop_hostmap_add(hm, i * 2, 0, i % 2 ? UNITS : 3,
								  i * 1000));
		KUNIT_EXPECT_EQ(test, entries(hm), 5000U);
		KUNIT_ASSERT_EQ(test, ploop_hostmap_forget(hm, 1000, 6999), 0);
		KUNIT_EXPECT_EQ(test, entries(hm), 2000U);
		is_at(test, 998, 0, BYTES, 499000);
		is_nowhere(test, 1002, 0, 512);
		is_at(test, 7002, 0, BYTES, 3501000);
		ploop_hostmap_clear(hm);
		is_nowhere(test, 998, 0, 512);
	}
}

#define PLAIN	40

struct plain {
	sector_t start[PLAIN];	/* 0: nothing is known */
	u8 known[PLAIN];	/* bits */
};

static void plain_add(struct kunit *test, struct plain *p, u32 i, u32 unit, u32 n, sector_t start)
{
	u8 mask = ((1U << n) - 1) << unit;
	bool agrees = !p->known[i] || p->start[i] == start || !(p->known[i] >> unit & 1);

	if (p->known[i] == 0xff)
		agrees = p->start[i] == start;
	KUNIT_ASSERT_EQ(test, ploop_hostmap_add(test->priv, i, unit, n, start), agrees);
	if (!p->known[i])
		p->start[i] = start;
	if (p->start[i] == start)
		p->known[i] |= mask;
}

static void plain_check(struct kunit *test, const struct plain *p)
{
	u32 i, unit;

	for (i = 0; i < PLAIN; i++) {
		for (unit = 0; unit < UNITS; unit++) {
			if (p->known[i] >> unit & 1)
				is_at(test, i, unit * UNIT, UNIT, p->start[i] + unit * 8);
			else
				is_nowhere(test, i, unit * UNIT, UNIT);
		}
	}
}

static void random_work(struct kunit *test)
{
	struct plain *p = kunit_kzalloc(test, sizeof(*p), GFP_KERNEL);
	struct rnd_state rnd;
	u32 n, i, unit, len;

	KUNIT_ASSERT_NOT_NULL(test, p);
	prandom_seed_state(&rnd, 3);
	for (n = 0; n < 3000; n++) {
		i = prandom_u32_state(&rnd) % PLAIN;
		if (prandom_u32_state(&rnd) % 16 == 0) {
			len = min(prandom_u32_state(&rnd) % 4, PLAIN - 1 - i);
			KUNIT_ASSERT_EQ(test, ploop_hostmap_forget(test->priv, i, i + len), 0);
			memset(&p->known[i], 0, len + 1);
		} else {
			unit = prandom_u32_state(&rnd) % UNITS;
			len = prandom_u32_state(&rnd) % (UNITS - unit) + 1;
			plain_add(test, p, i, unit, len, 10000 + i * SECTORS +
				  (prandom_u32_state(&rnd) % 8 ? 0 : 5000));
		}
		if (n % 50 == 0)
			plain_check(test, p);
	}
	plain_check(test, p);
}

static struct kunit_case hostmap_cases[] = {
	KUNIT_CASE(whole_clusters_join),
	KUNIT_CASE(neighbours_elsewhere_stay_apart),
	KUNIT_CASE(forgotten_in_the_midst),
	KUNIT_CASE(parts),
	KUNIT_CASE(begins_before_the_disk),
	KUNIT_CASE(barred),
	KUNIT_CASE(many),
	KUNIT_CASE(random_work),
	{}
};

static struct kunit_suite hostmap_suite = {
	.name = "ploop_hostmap",
	.init = hostmap_init,
	.exit = hostmap_exit,
	.test_cases = hostmap_cases,
};

kunit_test_suite(hostmap_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit suite of ploop: places of clusters on the host's disk");
MODULE_LICENSE("GPL");
