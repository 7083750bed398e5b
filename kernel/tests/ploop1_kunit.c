// SPDX-License-Identifier: GPL-2.0-only
/*
 * Header of ploop1 images, where everything read from a file is checked:
 * - byte offsets and byte order of the header, from literal bytes;
 * - each rule for the header by itself, on both sides of its limit: signature,
 *   type, cluster size, disk size, version 1's 32 bits, first block offset,
 *   file size, and the largest values that must not wrap;
 * - marks that mean "in use".
 */
#include "../ploop1_layout.h"

#include "../compat.h"

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/string.h>

/* Headers */

enum field { END, TYPE, CLUSTER, CLUSTERS, SIZE, IN_USE, FIRST, FILE };

/**
 * struct change - a deviation from the good image
 * @field: what differs; END ends a list
 * @value: new value
 */
struct change {
	enum field field;
	u64 value;
};

/**
 * struct image - what ploop1_layout_parse() looks at
 * @hdr: the header
 * @file_size: bytes
 */
struct image {
	struct ploop1_header hdr;
	u64 file_size;
};

#define CHANGES	5

/* Clusters of 1 MiB; 1024 in the disk, 1 + 9 in the file. */
static struct image good_image(int version)
{
	struct image img = {
		.hdr = {
			.type = cpu_to_le32(2),
			.cluster_sectors = cpu_to_le32(2048),
			.clusters = cpu_to_le32(1024),
			.size = cpu_to_le64(1024 * 2048),
			.first_block_offset = cpu_to_le32(2048),
		},
		.file_size = 10 << 20,
	};

	memcpy(img.hdr.signature, version == 1 ? "WithoutFreeSpace" : "WithouFreSpacExt", 16);
	return img;
}

static void apply(struct image *img, const struct change *c)
{
	for (; c->field != END; c++) {
		if (c->field == TYPE)
			img->hdr.type = cpu_to_le32(c->value);
		else if (c->field == CLUSTER)
			img->hdr.cluster_sectors = cpu_to_le32(c->value);
		else if (c->field == CLUSTERS)
			img->hdr.clusters = cpu_to_le32(c->value);
		else if (c->field == SIZE)
			img->hdr.size = cpu_to_le64(c->value);
		else if (c->field == IN_USE)
			img->hdr.in_use = cpu_to_le32(c->value);
		else if (c->field == FIRST)
			img->hdr.first_block_offset = cpu_to_le32(c->value);
		else
			img->file_size = c->value;
	}
}

static int parse(const struct image *img, struct ploop1_layout *l, const char **why)
{
	memset(l, 0xa5, sizeof(*l));
	*why = "not set";
	return ploop1_layout_parse(&img->hdr, img->file_size, l, why);
}

static void expect_bad(struct kunit *test, const struct image *img, const char *reason)
{
	struct ploop1_layout l;
	const char *why;

	KUNIT_EXPECT_EQ(test, parse(img, &l, &why), -EINVAL);
	KUNIT_ASSERT_NOT_NULL(test, why);
	KUNIT_EXPECT_TRUE_MSG(test, strstr(why, reason), "reason is \"%s\", not \"%s\"",
			      why, reason);
}

static void expect_good(struct kunit *test, const struct image *img, struct ploop1_layout *l)
{
	const char *why;
	int err = parse(img, l, &why);

	KUNIT_ASSERT_EQ_MSG(test, err, 0, "%s", why);
	KUNIT_EXPECT_NULL(test, why);
}

/* Offsets and byte order as in the format's description, not as the struct has them. */
static const u8 v2_bytes[64] = {
	'W', 'i', 't', 'h', 'o', 'u', 'F', 'r', 'e', 'S', 'p', 'a', 'c', 'E', 'x', 't',
	2, 0, 0, 0,				/* type */
	16, 0, 0, 0, 0, 4, 0, 0,		/* heads, cylinders */
	0, 2, 0, 0,				/* sectors per cluster: 512 */
	4, 3, 2, 0,				/* entries: 131844 */
	0, 8, 6, 4, 0, 0, 0, 0,			/* disk size: 131844 * 512 */
	0x76, 0x32, 0x2e, 0x31,			/* closed, with extension */
	0, 6, 0, 0,				/* first block offset: 3 clusters */
	1, 0, 0, 0,				/* flags */
	0, 8, 0, 0, 0, 0, 0, 0,			/* extension */
};

static void header_bytes(struct kunit *test)
{
	struct image img = { .file_size = 5 * 512 * 512 };
	struct ploop1_layout l;

	memcpy(&img.hdr, v2_bytes, sizeof(img.hdr));
	expect_good(test, &img, &l);
	KUNIT_EXPECT_EQ(test, l.version, 2);
	KUNIT_EXPECT_EQ(test, l.cluster_log, 9);
	KUNIT_EXPECT_FALSE(test, l.in_use);
	KUNIT_EXPECT_EQ(test, l.clusters, 0x20304U);
	KUNIT_EXPECT_EQ(test, l.size, 0x4060800ULL);
	KUNIT_EXPECT_EQ(test, l.index_clusters, 3U);
	KUNIT_EXPECT_EQ(test, l.file_clusters, 5ULL);
	img.hdr.in_use = cpu_to_le32(0x746f6e59);
	KUNIT_EXPECT_EQ(test, memcmp(&img.hdr.in_use, "Ynot", 4), 0);
	expect_good(test, &img, &l);
	KUNIT_EXPECT_TRUE(test, l.in_use);
}

/**
 * struct good_case - an image that must be accepted
 * @name: description
 * @version: of the format
 * @change: deviations from good_image()
 * @index_clusters: expected, as the following
 * @file_clusters: expected
 */
struct good_case {
	const char *name;
	int version;
	struct change change[CHANGES + 1];
	u32 index_clusters;
	u64 file_clusters;
};

static const struct good_case good_cases[] = {
	{ "version 1", 1, { }, 1, 10 },
	{ "version 2", 2, { }, 1, 10 },
	{ "one cluster", 2, { { CLUSTERS, 1 }, { SIZE, 2048 } }, 1, 10 },
	{ "no data cluster", 2, { { FILE, 1 << 20 } }, 1, 1 },
	{ "index area larger than needed", 2, { { FIRST, 5 * 2048 } }, 5, 10 },
	{ "index area is the whole file", 2, { { FIRST, 10 * 2048 } }, 10, 10 },
	{ "index fills its cluster", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, 8176 }, { SIZE, 8176 * 64 }, { FIRST, 64 } }, 1, 320 },
	{ "index one over a cluster", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, 8177 }, { SIZE, 8177 * 64 }, { FIRST, 128 } }, 2, 320 },
	{ "version 1 just below 2^32 sectors", 1,
	  { { CLUSTERS, 0x1fffff }, { SIZE, 0xfffff800 }, { FIRST, 9 * 2048 } }, 9, 10 },
	{ "version 2 of 2^32 sectors", 2,
	  { { CLUSTERS, 0x200000 }, { SIZE, 1ULL << 32 }, { FIRST, 9 * 2048 } }, 9, 10 },
	{ "most entries", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, U32_MAX }, { SIZE, (u64)U32_MAX << 6 },
	    { FIRST, 0x2000040 }, { FILE, 0x2000040ULL << 9 } }, 0x80001, 0x80001 },
	{ "most and largest clusters", 2,
	  { { CLUSTER, 1 << 17 }, { CLUSTERS, U32_MAX }, { SIZE, (u64)U32_MAX << 17 },
	    { FIRST, 257 << 17 }, { FILE, 1000ULL << 26 } }, 257, 1000 },
	{ "largest first block offset", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, 1 }, { SIZE, 64 }, { FIRST, 0xffffffc0 },
	    { FILE, 0xffffffc0ULL << 9 } }, 0x3ffffff, 0x3ffffff },
	{ "file of 2^32 clusters", 2, { { FILE, 1ULL << 52 } }, 1, 1ULL << 32 },
};

static void good_desc(const struct good_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(good, good_cases, good_desc);

static void header_accepted(struct kunit *test)
{
	const struct good_case *c = test->param_value;
	struct image img = good_image(c->version);
	struct ploop1_layout l;

	apply(&img, c->change);
	expect_good(test, &img, &l);
	KUNIT_EXPECT_EQ(test, l.version, c->version);
	KUNIT_EXPECT_EQ(test, 1U << l.cluster_log, le32_to_cpu(img.hdr.cluster_sectors));
	KUNIT_EXPECT_FALSE(test, l.in_use);
	KUNIT_EXPECT_EQ(test, l.clusters, le32_to_cpu(img.hdr.clusters));
	KUNIT_EXPECT_EQ(test, l.size, le64_to_cpu(img.hdr.size));
	KUNIT_EXPECT_EQ(test, l.index_clusters, c->index_clusters);
	KUNIT_EXPECT_EQ(test, l.file_clusters, c->file_clusters);
}

#define S_TYPE		"type"
#define S_CLUSTER	"power of two"
#define S_ZERO		"size is 0"
#define S_UNEVEN	"disk size is not a multiple"
#define S_DISAGREE	"disagree"
#define S_VERSION1	"limit of version 1"
#define S_ALIGN		"offset is not a multiple"
#define S_INSIDE	"inside the index"
#define S_RAGGED	"file size is not a multiple"
#define S_SHORT		"shorter than its index"

/**
 * struct bad_case - an image that must be refused
 * @name: description
 * @version: of the format
 * @change: deviations from good_image()
 * @reason: part of the message
 */
struct bad_case {
	const char *name;
	int version;
	struct change change[CHANGES + 1];
	const char *reason;
};

static const struct bad_case bad_cases[] = {
	{ "type 0", 2, { { TYPE, 0 } }, S_TYPE },
	{ "type 1", 1, { { TYPE, 1 } }, S_TYPE },
	{ "type 3", 2, { { TYPE, 3 } }, S_TYPE },
	{ "type in the other byte order", 2, { { TYPE, 0x02000000 } }, S_TYPE },
	{ "type with a high bit", 2, { { TYPE, 0x80000002 } }, S_TYPE },
	{ "no entries", 2, { { CLUSTERS, 0 }, { SIZE, 0 } }, S_ZERO },
	{ "no entries but a size", 2, { { CLUSTERS, 0 } }, S_ZERO },
	{ "entries but no size", 2, { { SIZE, 0 } }, S_DISAGREE },
	{ "half a cluster more", 2, { { SIZE, 1024 * 2048 + 1024 } }, S_UNEVEN },
	{ "a sector more", 1, { { SIZE, 1024 * 2048 + 1 } }, S_UNEVEN },
	{ "a sector less", 2, { { SIZE, 1024 * 2048 - 1 } }, S_UNEVEN },
	{ "largest size", 2, { { SIZE, U64_MAX } }, S_UNEVEN },
	{ "a cluster more", 2, { { SIZE, 1025 * 2048 } }, S_DISAGREE },
	{ "a cluster less", 1, { { SIZE, 1023 * 2048 } }, S_DISAGREE },
	{ "an entry more", 2, { { CLUSTERS, 1025 } }, S_DISAGREE },
	{ "an entry less", 1, { { CLUSTERS, 1023 } }, S_DISAGREE },
	{ "most entries for a small disk", 2, { { CLUSTERS, U32_MAX } }, S_DISAGREE },
	{ "2^32 clusters more", 2, { { SIZE, (1024 + (1ULL << 32)) * 2048 } }, S_DISAGREE },
	{ "sign bit of the size", 2, { { SIZE, 1024 * 2048 | 1ULL << 63 } }, S_DISAGREE },
	{ "dirt above version 1's size", 1,
	  { { SIZE, 1024 * 2048 | 1ULL << 32 } }, S_DISAGREE },
	{ "version 1 of 2^32 sectors", 1,
	  { { CLUSTERS, 0x200000 }, { SIZE, 1ULL << 32 }, { FIRST, 9 * 2048 } }, S_VERSION1 },
	{ "version 1 of most clusters", 1,
	  { { CLUSTERS, U32_MAX }, { SIZE, (u64)U32_MAX << 11 } }, S_VERSION1 },
	{ "first block offset of one sector more", 2, { { FIRST, 2049 } }, S_ALIGN },
	{ "first block offset of one sector less", 1, { { FIRST, 2047 } }, S_ALIGN },
	{ "first block offset of half a cluster", 2, { { FIRST, 1024 } }, S_ALIGN },
	{ "first block offset of all ones", 2, { { FIRST, U32_MAX } }, S_ALIGN },
	{ "first block offset aligned to smaller clusters", 2,
	  { { FIRST, 3 * 2048 + 64 } }, S_ALIGN },
	{ "first block offset 0", 2, { { FIRST, 0 } }, S_INSIDE },
	{ "first block offset 0, one cluster", 1,
	  { { CLUSTERS, 1 }, { SIZE, 2048 }, { FIRST, 0 } }, S_INSIDE },
	{ "first block offset one entry short", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, 8177 }, { SIZE, 8177 * 64 }, { FIRST, 64 } }, S_INSIDE },
	{ "first block offset one cluster short", 1,
	  { { CLUSTERS, 0x1fffff }, { SIZE, 0xfffff800 }, { FIRST, 8 * 2048 } }, S_INSIDE },
	{ "first block offset short of most entries", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, U32_MAX }, { SIZE, (u64)U32_MAX << 6 },
	    { FIRST, 0x2000000 }, { FILE, 1ULL << 40 } }, S_INSIDE },
	{ "first block offset behind the file", 2, { { FIRST, 11 * 2048 } }, S_SHORT },
	{ "largest first block offset behind the file", 2,
	  { { FIRST, 0xfffff800 } }, S_SHORT },
	{ "largest first block offset, file a cluster short", 2,
	  { { CLUSTER, 64 }, { CLUSTERS, 1 }, { SIZE, 64 }, { FIRST, 0xffffffc0 },
	    { FILE, 0xffffff80ULL << 9 } }, S_SHORT },
	{ "empty file", 2, { { FILE, 0 } }, S_SHORT },
	{ "file of the header", 2, { { FILE, 64 } }, S_RAGGED },
	{ "file a byte longer", 2, { { FILE, (10 << 20) + 1 } }, S_RAGGED },
	{ "file a byte shorter", 1, { { FILE, (10 << 20) - 1 } }, S_RAGGED },
	{ "file a sector longer", 2, { { FILE, (10 << 20) + 512 } }, S_RAGGED },
	{ "file half a cluster longer", 1, { { FILE, (10 << 20) + (1 << 19) } }, S_RAGGED },
	{ "file of all ones", 2, { { FILE, U64_MAX } }, S_RAGGED },
};

static void bad_desc(const struct bad_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(bad, bad_cases, bad_desc);

static void header_refused(struct kunit *test)
{
	const struct bad_case *c = test->param_value;
	struct image img = good_image(c->version);

	apply(&img, c->change);
	expect_bad(test, &img, c->reason);
}

static const char * const signatures[] = {
	"WithoutFreSpacEx",
	"withoutfreespace",
	"WITHOUFRESPACEXT",
	"WithouFreSpacEx\0",
	"\0ithoutFreeSpace",
	"ecapSeerFtuohtiW",
	"QFI\xfb............",
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
};

static void signature_refused(struct kunit *test)
{
	struct image img = good_image(2);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(signatures); i++) {
		memcpy(img.hdr.signature, signatures[i], 16);
		expect_bad(test, &img, "signature");
	}
	for (i = 0; i < 16; i++) {
		img = good_image(1);
		img.hdr.signature[i] ^= 1;
		expect_bad(test, &img, "signature");
		img = good_image(2);
		img.hdr.signature[i] ^= 0x80;
		expect_bad(test, &img, "signature");
	}
}

static const u32 bad_cluster_sizes[] = {
	0, 1, 3, 8, 32, 63, 65, 96, 2047, 2049, 0x1ffff, 0x20001, 0x30000, 262144,
	0x80000000, 0x80000040, U32_MAX,
};

static void cluster_size_refused(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad_cluster_sizes); i++) {
		u32 sectors = bad_cluster_sizes[i];
		struct image img = good_image(2);
		struct change change[] = {
			{ CLUSTER, sectors }, { CLUSTERS, 1 }, { SIZE, sectors },
			{ FIRST, sectors }, { FILE, (u64)sectors << 9 }, { END },
		};

		apply(&img, change);
		expect_bad(test, &img, S_CLUSTER);
	}
}

static void cluster_size_accepted(struct kunit *test)
{
	struct ploop1_layout l;
	unsigned int log;

	for (log = 6; log <= 17; log++) {
		u32 sectors = 1 << log;
		struct image img = good_image(1 + log % 2);
		struct change change[] = {
			{ CLUSTER, sectors }, { CLUSTERS, 7 }, { SIZE, 7 * sectors },
			{ FIRST, sectors }, { FILE, 3ULL * sectors << 9 }, { END },
		};

		apply(&img, change);
		expect_good(test, &img, &l);
		KUNIT_EXPECT_EQ(test, l.cluster_log, log);
		KUNIT_EXPECT_EQ(test, l.index_clusters, 1U);
		KUNIT_EXPECT_EQ(test, l.file_clusters, 3ULL);
	}
}

/* Geometry for the BIOS, flags and extension decide nothing. */
static void cosmetics_ignored(struct kunit *test)
{
	struct image img = good_image(2);
	struct ploop1_layout l;

	img.hdr.heads = cpu_to_le32(U32_MAX);
	img.hdr.cylinders = cpu_to_le32(U32_MAX);
	img.hdr.flags = cpu_to_le32(U32_MAX);
	img.hdr.extension = cpu_to_le64(U64_MAX);
	expect_good(test, &img, &l);
}

/* In use */

struct use_case {
	const char *name;
	u32 mark;
	bool in_use;
};

static const struct use_case use_cases[] = {
	{ "closed", 0, false },
	{ "closed with extension", 0x312e3276, false },
	{ "in use", 0x746f6e59, true },
	{ "in use in the other byte order", 0x596e6f74, true },
	{ "extension in the other byte order", 0x76322e31, true },
	{ "1", 1, true },
	{ "sign bit", 0x80000000, true },
	{ "closed with extension but one bit", 0x312e3277, true },
	{ "all ones", U32_MAX, true },
};

static void use_desc(const struct use_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(use, use_cases, use_desc);

/* Not an error here: who only looks must be able to. */
static void in_use_mark(struct kunit *test)
{
	const struct use_case *c = test->param_value;
	struct change change[] = { { IN_USE, c->mark }, { END } };
	struct ploop1_layout l;
	int version;

	for (version = 1; version <= 2; version++) {
		struct image img = good_image(version);

		apply(&img, change);
		expect_good(test, &img, &l);
		KUNIT_EXPECT_EQ(test, l.in_use, c->in_use);
	}
}

static struct kunit_case ploop1_cases[] = {
	KUNIT_CASE(header_bytes),
	KUNIT_CASE_PARAM(header_accepted, good_gen_params),
	KUNIT_CASE_PARAM(header_refused, bad_gen_params),
	KUNIT_CASE(signature_refused),
	KUNIT_CASE(cluster_size_refused),
	KUNIT_CASE(cluster_size_accepted),
	KUNIT_CASE(cosmetics_ignored),
	KUNIT_CASE_PARAM(in_use_mark, use_gen_params),
	{}
};

static struct kunit_suite ploop1_suite = {
	.name = "ploop_ploop1",
	.test_cases = ploop1_cases,
};

kunit_test_suite(ploop1_suite);

PLOOP_IMPORT_KUNIT_NS;
MODULE_DESCRIPTION("KUnit suite of ploop: header of ploop1 images");
MODULE_LICENSE("GPL");
