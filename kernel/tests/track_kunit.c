// SPDX-License-Identifier: GPL-2.0-only
/*
 * The notes of the write tracker, on a device that is nothing but a cursor, a map
 * and the size of a file:
 * - what is noted of a write: its blocks up to that of the cursor, whole ones;
 * - the order in which they are given: onwards from the last, then from the start;
 * - a write that cannot be noted, notes that are left, a cursor that goes back;
 * - random work against an array.
 *
 * Not tested: who owns it, several writers at once (tracker.bats).
 */
#include "map_kunit.h"
#include "../ploop.h"

#include <linux/module.h>
#include <linux/prandom.h>

#define BLOCK		4096ULL
/* With 32 KiB each; a disk of as many has notes for thrice that. */
#define FILE_CLUSTERS	16
#define FILE_BYTES	(FILE_CLUSTERS * 32768ULL)
#define FILE_BLOCKS	(FILE_BYTES / BLOCK)

static loff_t file_size(struct ploop_delta *delta)
{
	return FILE_BYTES;
}

static struct ploop_io_ops sized = { .size = file_size };
static struct ploop_format_ops flat = { };

struct tracked {
	struct fixture maps;
	struct ploop_device plo;
	struct ploop_delta top;
};

static struct ploop_device *device(struct kunit *test)
{
	struct tracked *t = test->priv;

	return &t->plo;
}

/* The ioctls, under the lock that they have. */

static int start(struct kunit *test, struct ploop_track_extent *ext)
{
	int err;

	mutex_lock(&device(test)->ctl_mutex);
	err = ploop_track_start(device(test), ext);
	mutex_unlock(&device(test)->ctl_mutex);
	return err;
}

static int set_pos(struct kunit *test, u64 pos)
{
	int err;

	mutex_lock(&device(test)->ctl_mutex);
	err = ploop_track_set_pos(device(test), pos);
	mutex_unlock(&device(test)->ctl_mutex);
	return err;
}

static int read_note(struct kunit *test, struct ploop_track_extent *ext)
{
	int err;

	mutex_lock(&device(test)->ctl_mutex);
	err = ploop_track_read(device(test), ext);
	mutex_unlock(&device(test)->ctl_mutex);
	return err;
}

static int finish(struct kunit *test)
{
	int err;

	mutex_lock(&device(test)->ctl_mutex);
	err = ploop_track_finish(device(test));
	mutex_unlock(&device(test)->ctl_mutex);
	return err;
}

static void lose(struct kunit *test)
{
	mutex_lock(&device(test)->ctl_mutex);
	ploop_track_lose(device(test));
	mutex_unlock(&device(test)->ctl_mutex);
}

/* The fixture of the maps is the first member. */
static int track_init(struct kunit *test)
{
	struct tracked *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct ploop_track_extent ext;

	if (!t)
		return -ENOMEM;
	test->priv = t;
	t->top = (struct ploop_delta) { .plo = &t->plo, .fmt = &flat, .io = &sized, .rdonly = true };
	t->plo.map = new_map(test, FILE_CLUSTERS);
	t->plo.top = &t->top;
	t->plo.cluster_log = 6;
	set_bit(PLOOP_S_RUNNING, &t->plo.state);
	spin_lock_init(&t->plo.owner_lock);
	mutex_init(&t->plo.ctl_mutex);
	KUNIT_ASSERT_EQ(test, start(test, &ext), 0);
	KUNIT_EXPECT_EQ(test, ext.start, 0ULL);
	KUNIT_EXPECT_EQ(test, ext.end, FILE_BYTES);
	return 0;
}

static void track_exit(struct kunit *test)
{
	struct tracked *t = test->priv;

	if (!t)
		return;
	lose(test);
	finish(test);
	map_exit(test);
}

static void expect_note(struct kunit *test, u64 start, u64 end)
{
	struct ploop_track_extent ext = { };

	KUNIT_ASSERT_EQ(test, read_note(test, &ext), 0);
	KUNIT_EXPECT_EQ(test, ext.start, start);
	KUNIT_EXPECT_EQ(test, ext.end, end);
}

static void expect_nothing(struct kunit *test)
{
	struct ploop_track_extent ext;

	KUNIT_EXPECT_EQ(test, read_note(test, &ext), -EAGAIN);
}

static void all_is_read(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, set_pos(test, FILE_BYTES), 0);
}

struct write_case {
	const char *name;
	u64 cursor, pos, len;
	/* Both 0: nothing is noted. */
	u64 start, end;
};

static const struct write_case write_cases[] = {
	{ "a block", FILE_BYTES, BLOCK, BLOCK, BLOCK, 2 * BLOCK },
	{ "the first byte", FILE_BYTES, 0, 1, 0, BLOCK },
	{ "the last byte", FILE_BYTES, FILE_BYTES - 1, 1, FILE_BYTES - BLOCK, FILE_BYTES },
	{ "two bytes of two blocks", FILE_BYTES, BLOCK - 1, 2, 0, 2 * BLOCK },
	{ "nothing at a border", FILE_BYTES, BLOCK, 0, 0, 0 },
	{ "all", FILE_BYTES, 0, FILE_BYTES, 0, FILE_BYTES },
	{ "ahead of the cursor", BLOCK, BLOCK, BLOCK, 0, 0 },
	{ "before the cursor moves", 0, 0, BLOCK, 0, 0 },
	{ "on both sides of the cursor", 2 * BLOCK, BLOCK, 4 * BLOCK, BLOCK, 2 * BLOCK },
	{ "a cursor within a block", BLOCK + 512, BLOCK, BLOCK, BLOCK, 2 * BLOCK },
	{ "from there on", BLOCK + 512, BLOCK + 512, 512, BLOCK, 2 * BLOCK },
};

static void write_case_name(const struct write_case *c, char *text)
{
	strscpy(text, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(write, write_cases, write_case_name);

static void what_is_noted(struct kunit *test)
{
	const struct write_case *c = test->param_value;

	KUNIT_ASSERT_EQ(test, set_pos(test, c->cursor), 0);
	ploop_track_wrote(device(test), c->pos, c->len);
	if (c->end)
		expect_note(test, c->start, c->end);
	if (c->cursor == FILE_BYTES)
		expect_nothing(test);
	else
		expect_note(test, c->cursor, FILE_BYTES);
}

static void notes_go_onwards(struct kunit *test)
{
	all_is_read(test);
	ploop_track_wrote(device(test), 8 * BLOCK, BLOCK);
	ploop_track_wrote(device(test), 3 * BLOCK, BLOCK);
	ploop_track_wrote(device(test), 4 * BLOCK, 2 * BLOCK);
	expect_note(test, 3 * BLOCK, 6 * BLOCK);
	/* Behind the last one: its turn comes after those ahead. */
	ploop_track_wrote(device(test), 0, BLOCK);
	expect_note(test, 8 * BLOCK, 9 * BLOCK);
	expect_note(test, 0, BLOCK);
	expect_nothing(test);
}

static void a_note_is_taken_once(struct kunit *test)
{
	all_is_read(test);
	ploop_track_wrote(device(test), 0, BLOCK);
	ploop_track_wrote(device(test), 0, BLOCK);
	expect_note(test, 0, BLOCK);
	expect_nothing(test);
	ploop_track_wrote(device(test), 0, BLOCK);
	expect_note(test, 0, BLOCK);
	expect_nothing(test);
}

static void the_cursor_goes_on(struct kunit *test)
{
	struct ploop_device *plo = device(test);

	KUNIT_EXPECT_EQ(test, set_pos(test, 2 * BLOCK), 0);
	KUNIT_EXPECT_EQ(test, set_pos(test, 2 * BLOCK), 0);
	KUNIT_EXPECT_EQ(test, set_pos(test, BLOCK), -EINVAL);
	expect_note(test, 2 * BLOCK, FILE_BYTES);
	ploop_track_wrote(plo, 0, BLOCK);
	/* It starts over: what was noted will be read anyway. */
	KUNIT_EXPECT_EQ(test, set_pos(test, 0), 0);
	expect_note(test, 0, FILE_BYTES);
	all_is_read(test);
	expect_nothing(test);
}

static void a_write_without_room(struct kunit *test)
{
	struct ploop_device *plo = device(test);
	struct ploop_track_extent ext;

	KUNIT_ASSERT_EQ(test, set_pos(test, U64_MAX), 0);
	ploop_track_wrote(plo, BLOCK, BLOCK);
	ploop_track_wrote(plo, 1000 * FILE_BYTES, BLOCK);
	KUNIT_EXPECT_EQ(test, read_note(test, &ext), -ECONNABORTED);
	KUNIT_EXPECT_EQ(test, read_note(test, &ext), -ECONNABORTED);
	KUNIT_EXPECT_EQ(test, set_pos(test, 0), 0);
	expect_note(test, 0, FILE_BYTES);
	lose(test);
	KUNIT_EXPECT_EQ(test, finish(test), -ECONNABORTED);
	KUNIT_EXPECT_EQ(test, finish(test), 0);
	KUNIT_EXPECT_EQ(test, read_note(test, &ext), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_pos(test, 0), -EINVAL);
}

static void notes_that_are_left(struct kunit *test)
{
	struct ploop_device *plo = device(test);

	all_is_read(test);
	ploop_track_wrote(plo, 0, BLOCK);
	KUNIT_EXPECT_EQ(test, finish(test), -EBUSY);
	expect_note(test, 0, BLOCK);
	KUNIT_EXPECT_EQ(test, finish(test), 0);
	KUNIT_EXPECT_EQ(test, plo->maintenance, PLOOP_MNTN_OFF);
	KUNIT_EXPECT_NULL(test, plo->owner);
}

/* Takes out of @written what is given, which must be in it. */
static void take(struct kunit *test, bool *written, const struct ploop_track_extent *ext)
{
	u64 i;

	KUNIT_ASSERT_LT(test, ext->start, ext->end);
	for (i = ext->start / BLOCK; i < ext->end / BLOCK; i++) {
		KUNIT_ASSERT_TRUE(test, written[i]);
		written[i] = false;
	}
}

static void random_work(struct kunit *test)
{
	struct ploop_device *plo = device(test);
	struct ploop_track_extent ext;
	bool written[FILE_BLOCKS] = { };
	struct rnd_state rnd;
	u64 first, n, i;
	int round;

	prandom_seed_state(&rnd, 1);
	all_is_read(test);
	for (round = 0; round < 2000; round++) {
		first = prandom_u32_state(&rnd) % FILE_BLOCKS;
		n = 1 + prandom_u32_state(&rnd) % min(8ULL, FILE_BLOCKS - first);
		if (prandom_u32_state(&rnd) % 2) {
			ploop_track_wrote(plo, first * BLOCK + 512, n * BLOCK - 512);
			for (i = first; i < first + n; i++)
				written[i] = true;
		} else if (!read_note(test, &ext)) {
			take(test, written, &ext);
		}
	}
	while (!read_note(test, &ext))
		take(test, written, &ext);
	for (i = 0; i < FILE_BLOCKS; i++)
		KUNIT_ASSERT_FALSE_MSG(test, written[i], "block %llu", i);
}

static struct kunit_case track_cases[] = {
	KUNIT_CASE_PARAM(what_is_noted, write_gen_params),
	KUNIT_CASE(notes_go_onwards),
	KUNIT_CASE(a_note_is_taken_once),
	KUNIT_CASE(the_cursor_goes_on),
	KUNIT_CASE(a_write_without_room),
	KUNIT_CASE(notes_that_are_left),
	KUNIT_CASE(random_work),
	{ }
};

static struct kunit_suite track_suite = {
	.name = "ploop_track",
	.init = track_init,
	.exit = track_exit,
	.test_cases = track_cases,
};

kunit_test_suite(track_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit suite of ploop: notes of the write tracker");
MODULE_LICENSE("GPL");
