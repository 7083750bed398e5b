// SPDX-License-Identifier: GPL-2.0-only
/*
 * Geometry of a ploop1 image that becomes larger:
 * - how many clusters the index takes, on both sides of each border;
 * - sizes that are refused: smaller, ragged, over the limits of both versions;
 * - what the header says afterwards, geometry of cylinders included.
 *
 * The numbers are those of kernel-abi.md §2.5 and userspace.md §2.2-2.5.
 */
#include "../ploop1_layout.h"

#include "../compat.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/string.h>

static struct ploop1_layout small(u8 version, u8 cluster_log)
{
	return (struct ploop1_layout) {
		.version = version,
		.cluster_log = cluster_log,
		.clusters = 8,
		.size = 8ULL << cluster_log,
		.index_clusters = 1,
		.file_clusters = 1,
	};
}

struct grow_case {
	const char *name;
	u8 version;
	u8 cluster_log;
	u64 clusters;
	int err;
	u32 index;
};

/* Clusters of 64 sectors: the first index cluster maps 8176, each other 8192. */
static const struct grow_case grow_cases[] = {
	{ "equal", 2, 6, 8, 0, 1 },
	{ "smaller", 2, 6, 7, -EINVAL, 0 },
	{ "the first index cluster is full", 2, 6, 8176, 0, 1 },
	{ "one more", 2, 6, 8177, 0, 2 },
	{ "the second is full", 2, 6, 8176 + 8192, 0, 2 },
	{ "one more again", 2, 6, 8176 + 8192 + 1, 0, 3 },
	{ "8000 to 30000", 2, 6, 30000, 0, 4 },
	{ "256 GiB with 1 MiB", 2, 11, 262128, 0, 1 },
	{ "one more with 1 MiB", 2, 11, 262129, 0, 2 },
	{ "version 1 below 2 TiB", 1, 11, (U32_MAX >> 11) - 9, 0, 9 },
	{ "version 1, file offsets do not fit", 1, 11, (U32_MAX >> 11) - 8, -EFBIG, 0 },
	{ "version 1 beyond 2 TiB", 1, 11, 1ULL << 22, -EFBIG, 0 },
	{ "version 2 beyond 2 TiB", 2, 11, 1ULL << 22, 0, 17 },
	{ "version 2, clusters do not fit", 2, 11, U32_MAX, -EFBIG, 0 },
	{ "more than 32 bits", 2, 11, 1ULL << 32, -EFBIG, 0 },
};

static void grow_desc(const struct grow_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(grow, grow_cases, grow_desc);

static void grow_plans(struct kunit *test)
{
	const struct grow_case *c = test->param_value;
	struct ploop1_layout old = small(c->version, c->cluster_log), l;
	u64 size = c->clusters << c->cluster_log;

	KUNIT_ASSERT_EQ(test, ploop1_layout_grow(&old, size, &l), c->err);
	if (c->err)
		return;
	KUNIT_EXPECT_EQ(test, l.size, size);
	KUNIT_EXPECT_EQ(test, (u64)l.clusters, c->clusters);
	KUNIT_EXPECT_EQ(test, l.index_clusters, c->index);
	KUNIT_EXPECT_EQ(test, l.version, c->version);
}

static void grow_refuses_ragged(struct kunit *test)
{
	struct ploop1_layout old = small(2, 6), l;

	KUNIT_EXPECT_EQ(test, ploop1_layout_grow(&old, old.size + 1, &l), -EINVAL);
	KUNIT_EXPECT_EQ(test, ploop1_layout_grow(&old, old.size + 63, &l), -EINVAL);
	KUNIT_EXPECT_EQ(test, ploop1_layout_grow(&old, old.size + 64, &l), 0);
}

/* An image may have been made with room for more. */
static void grow_keeps_room(struct kunit *test)
{
	struct ploop1_layout old = small(2, 6), l;

	old.index_clusters = 5;
	KUNIT_ASSERT_EQ(test, ploop1_layout_grow(&old, 8177 << 6, &l), 0);
	KUNIT_EXPECT_EQ(test, l.index_clusters, 5u);
}

struct store_case {
	const char *name;
	u64 size;
	u32 heads;
	u32 cylinders;
};

static const struct store_case store_cases[] = {
	{ "1 GiB", 2097152, 16, 2080 },
	{ "32 GiB", 67108864, 16, 131072 },
	{ "2000 GiB", 4194304000, 16, 8192000 },
	{ "1001472 sectors", 1001472, 16, 0x7a4 },
	{ "no divisor", 17000003, 1, 17000003 },
	{ "more than 32 bits without a divisor", (1ULL << 40) + 1, 1, U32_MAX },
};

static void store_desc(const struct store_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(store, store_cases, store_desc);

static void header_follows(struct kunit *test)
{
	const struct store_case *c = test->param_value;
	struct ploop1_layout l = small(2, 11);
	struct ploop1_header hdr = { .flags = cpu_to_le32(1), .in_use = cpu_to_le32(7) };

	l.size = c->size;
	l.clusters = 4711;
	l.index_clusters = 3;
	ploop1_layout_store(&l, &hdr);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr.heads), c->heads);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr.cylinders), c->cylinders);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(hdr.size), c->size);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr.clusters), 4711u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr.first_block_offset), 3u * 2048);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr.flags), 1u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr.in_use), 7u);
}

static struct kunit_case ploop1_grow_cases[] = {
	KUNIT_CASE_PARAM(grow_plans, grow_gen_params),
	KUNIT_CASE(grow_refuses_ragged),
	KUNIT_CASE(grow_keeps_room),
	KUNIT_CASE_PARAM(header_follows, store_gen_params),
	{}
};

static struct kunit_suite ploop1_grow_suite = {
	.name = "ploop_ploop1_grow",
	.test_cases = ploop1_grow_cases,
};

kunit_test_suite(ploop1_grow_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit suite of ploop: ploop1 images that grow");
MODULE_LICENSE("GPL");
