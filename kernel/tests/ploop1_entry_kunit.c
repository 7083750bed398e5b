// SPDX-License-Identifier: GPL-2.0-only
/*
 * Index of ploop1 images:
 * - entries as read: alignment, index area, end of file, and clusters above
 *   the last one that can be named;
 * - entries made are entries accepted, up to the largest one;
 * - in which page of the index an entry is.
 */
#include "../ploop1_layout.h"

#include "../compat.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/string.h>

/* Entries */

#define E_ALIGN		"aligned"
#define E_INDEX		"index area"
#define E_EOF		"end of the file"

/**
 * struct raw_case - an entry as stored
 * @name: description
 * @version: of the format
 * @log: cluster_log
 * @index: clusters of the index area
 * @file: clusters of the file
 * @raw: the entry
 * @iblk: expected, if @reason is NULL
 * @reason: part of the message
 */
struct raw_case {
	const char *name;
	u8 version;
	u8 log;
	u32 index;
	u64 file;
	u32 raw;
	u32 iblk;
	const char *reason;
};

static const struct raw_case raw_cases[] = {
	{ "v2 first data cluster", 2, 11, 3, 10, 3, 3, NULL },
	{ "v2 last cluster", 2, 11, 3, 10, 9, 9, NULL },
	{ "v2 needs no alignment", 2, 17, 3, 10, 5, 5, NULL },
	{ "v2 only data cluster", 2, 6, 1, 2, 1, 1, NULL },
	{ "v2 sign bit", 2, 6, 1, 1ULL << 32, 0x80000000, 0x80000000, NULL },
	{ "v2 last that can be named", 2, 6, 1, U32_MAX, U32_MAX - 1, U32_MAX - 1, NULL },
	{ "v2 last index cluster", 2, 11, 3, 10, 2, 0, E_INDEX },
	{ "v2 cluster 1 in a long index", 2, 11, 3, 10, 1, 0, E_INDEX },
	{ "v2 below the largest index area", 2, 6, U32_MAX, 1ULL << 32, U32_MAX - 1, 0, E_INDEX },
	{ "v2 just behind the end", 2, 11, 3, 10, 10, 0, E_EOF },
	{ "v2 no data cluster", 2, 11, 3, 3, 3, 0, E_EOF },
	{ "v2 sector number as of version 1", 2, 11, 3, 10, 3 << 11, 0, E_EOF },
	{ "v2 sign bit beyond the end", 2, 11, 3, 10, 0x80000003, 0, E_EOF },
	{ "v2 all ones", 2, 11, 3, 10, U32_MAX, 0, E_EOF },
	{ "v2 all ones in a long file", 2, 6, 1, U32_MAX, U32_MAX, 0, E_EOF },
	{ "v2 last that can be named, longer file", 2, 6, 1, 1ULL << 32,
	  U32_MAX - 1, U32_MAX - 1, NULL },
	{ "v2 last that can be named, just behind the end", 2, 6, 1, U32_MAX - 1,
	  U32_MAX - 1, 0, E_EOF },
	{ "v2 above what can be named", 2, 6, 1, 1ULL << 32, U32_MAX, 0, E_EOF },
	{ "v2 above what can be named, largest file", 2, 17, 1, U64_MAX, U32_MAX, 0, E_EOF },
	{ "v1 first data cluster", 1, 11, 3, 10, 3 << 11, 3, NULL },
	{ "v1 last cluster", 1, 11, 3, 10, 9 << 11, 9, NULL },
	{ "v1 smallest clusters", 1, 6, 1, 2, 64, 1, NULL },
	{ "v1 largest clusters", 1, 17, 1, 3, 2 << 17, 2, NULL },
	{ "v1 sign bit", 1, 11, 3, 1ULL << 32, 0x80000000, 0x100000, NULL },
	{ "v1 last that can be named", 1, 11, 3, 1ULL << 32, 0x1ffffe << 11, 0x1ffffe, NULL },
	{ "v1 one sector above", 1, 11, 3, 10, (4 << 11) + 1, 0, E_ALIGN },
	{ "v1 one sector below", 1, 11, 3, 10, (4 << 11) - 1, 0, E_ALIGN },
	{ "v1 half a cluster", 1, 11, 3, 10, 9 << 10, 0, E_ALIGN },
	{ "v1 half of the smallest cluster", 1, 6, 1, 10, 96, 0, E_ALIGN },
	{ "v1 half of the largest cluster", 1, 17, 1, 10, 3 << 16, 0, E_ALIGN },
	{ "v1 cluster number as of version 2", 1, 11, 3, 10, 5, 0, E_ALIGN },
	{ "v1 all ones", 1, 11, 3, 1ULL << 32, U32_MAX, 0, E_ALIGN },
	{ "v1 last index cluster", 1, 11, 3, 10, 2 << 11, 0, E_INDEX },
	{ "v1 cluster 1 in a long index", 1, 11, 3, 10, 1 << 11, 0, E_INDEX },
	{ "v1 just behind the end", 1, 11, 3, 10, 10 << 11, 0, E_EOF },
	{ "v1 no data cluster", 1, 11, 3, 3, 3 << 11, 0, E_EOF },
	{ "v1 highest aligned", 1, 11, 3, 10, 0xfffff800, 0, E_EOF },
	{ "v1 last that can be named, last of the file", 1, 11, 3, 0x1fffff,
	  0xfffff000, 0x1ffffe, NULL },
	{ "v1 last that can be named, just behind the end", 1, 11, 3, 0x1ffffe,
	  0xfffff000, 0, E_EOF },
	{ "v1 above what can be named", 1, 11, 3, 0x200000, 0xfffff800, 0, E_EOF },
	{ "v1 above what can be named, smallest clusters", 1, 6, 1, 1ULL << 32,
	  0xffffffc0, 0, E_EOF },
	{ "v1 above what can be named, largest clusters", 1, 17, 1, U64_MAX,
	  0xfffe0000, 0, E_EOF },
};

static void raw_desc(const struct raw_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(raw, raw_cases, raw_desc);

static void entry_checked(struct kunit *test)
{
	const struct raw_case *c = test->param_value;
	struct ploop1_layout l = {
		.version = c->version, .cluster_log = c->log,
		.index_clusters = c->index, .file_clusters = c->file,
	};
	const char *why = "not set";
	u32 iblk = 12345;
	int err = ploop1_entry_check(&l, c->raw, &iblk, &why);

	if (!c->reason) {
		KUNIT_EXPECT_EQ(test, err, 0);
		KUNIT_EXPECT_NULL(test, why);
		KUNIT_EXPECT_EQ(test, iblk, c->iblk);
		KUNIT_EXPECT_EQ(test, ploop1_entry_make(&l, iblk), c->raw);
		return;
	}
	KUNIT_EXPECT_EQ(test, err, -EUCLEAN);
	KUNIT_ASSERT_NOT_NULL(test, why);
	KUNIT_EXPECT_TRUE_MSG(test, strstr(why, c->reason), "reason is \"%s\", not \"%s\"",
			      why, c->reason);
}

struct limit_case {
	const char *name;
	u8 version;
	u8 log;
	u32 max;
};

static const struct limit_case limit_cases[] = {
	{ "v1 of smallest clusters", 1, 6, 0x3fffffe },
	{ "v1 of default clusters", 1, 11, 0x1ffffe },
	{ "v1 of largest clusters", 1, 17, 0x7ffe },
	{ "v2 of smallest clusters", 2, 6, 0xfffffffe },
	{ "v2 of default clusters", 2, 11, 0xfffffffe },
	{ "v2 of largest clusters", 2, 17, 0xfffffffe },
};

static void limit_desc(const struct limit_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(limit, limit_cases, limit_desc);

/* What the driver writes it must accept; nothing wraps, and 0 and all ones are no entries. */
static void entry_made_is_accepted(struct kunit *test)
{
	const struct limit_case *c = test->param_value;
	struct ploop1_layout l = {
		.version = c->version, .cluster_log = c->log,
		.index_clusters = 1, .file_clusters = 1ULL << 32,
	};
	u32 places[] = { 1, 2, 3, 0x7ffd, c->max / 2, c->max - 1, c->max };
	unsigned int i;

	KUNIT_EXPECT_EQ(test, ploop1_max_iblk(&l), c->max);
	for (i = 0; i < ARRAY_SIZE(places); i++) {
		u32 raw = ploop1_entry_make(&l, places[i]), iblk = 0;
		const char *why;

		KUNIT_EXPECT_NE(test, raw, 0U);
		KUNIT_EXPECT_NE(test, raw, U32_MAX);
		KUNIT_EXPECT_EQ(test, ploop1_entry_check(&l, raw, &iblk, &why), 0);
		KUNIT_EXPECT_EQ(test, iblk, places[i]);
	}
}

/* However long the file is. */
static void entry_above_limit_refused(struct kunit *test)
{
	const struct limit_case *c = test->param_value;
	static const u64 files[] = { 1ULL << 32, 1ULL << 40, U64_MAX };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		struct ploop1_layout l = {
			.version = c->version, .cluster_log = c->log,
			.index_clusters = 1, .file_clusters = files[i],
		};
		u32 raw = ploop1_entry_make(&l, c->max + 1), iblk;
		const char *why = NULL;

		KUNIT_EXPECT_EQ(test, ploop1_entry_check(&l, raw, &iblk, &why), -EUCLEAN);
		KUNIT_ASSERT_NOT_NULL(test, why);
		KUNIT_EXPECT_TRUE_MSG(test, strstr(why, E_EOF), "reason is \"%s\"", why);
	}
}

/* Pages of the index */

struct page_case {
	const char *name;
	u32 clusters;
	u32 pages;
};

static const struct page_case page_cases[] = {
	{ "one entry", 1, 1 },
	{ "one short of a page", 1007, 1 },
	{ "a page", 1008, 1 },
	{ "one more than a page", 1009, 2 },
	{ "two pages", 2032, 2 },
	{ "one more than two pages", 2033, 3 },
	{ "sum wraps at 32 bits", 0xfffffff0, 0x400000 },
	{ "sum wraps at 32 bits into another page", 0xfffffff1, 0x400001 },
	{ "most entries", U32_MAX, 0x400001 },
};

static void page_desc(const struct page_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(page, page_cases, page_desc);

static void index_pages(struct kunit *test)
{
	const struct page_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, ploop1_index_page(0), 0U);
	KUNIT_EXPECT_EQ(test, ploop1_index_pages(c->clusters), c->pages);
	KUNIT_EXPECT_EQ(test, ploop1_index_page(c->clusters - 1), c->pages - 1);
}

/* By the definition: entry c is word c + 16 of the file. */
static void index_page_of_entry(struct kunit *test)
{
	u32 clu;

	for (clu = 0; clu < 4000; clu++)
		KUNIT_ASSERT_EQ(test, ploop1_index_page(clu), (64 + clu * 4) / 4096);
	/* The header alone takes a page. */
	KUNIT_EXPECT_EQ(test, ploop1_index_pages(0), 1U);
	KUNIT_EXPECT_EQ(test, ploop1_index_page(U32_MAX), 0x400000U);
}

static struct kunit_case ploop1_entry_cases[] = {
	KUNIT_CASE_PARAM(entry_checked, raw_gen_params),
	KUNIT_CASE_PARAM(entry_made_is_accepted, limit_gen_params),
	KUNIT_CASE_PARAM(entry_above_limit_refused, limit_gen_params),
	KUNIT_CASE_PARAM(index_pages, page_gen_params),
	KUNIT_CASE(index_page_of_entry),
	{}
};

static struct kunit_suite ploop1_entry_suite = {
	.name = "ploop_ploop1_entry",
	.test_cases = ploop1_entry_cases,
};

kunit_test_suite(ploop1_entry_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit suite of ploop: index of ploop1 images");
MODULE_LICENSE("GPL");
