// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images that are wrong, against what reads and changes images without the
 * driver: info, check, recovery, repair, grow, merge.
 *
 * An input is a struct plan, and the beginning of one file or, for a merge, of
 * two of half the length. Each cluster of the file that has one begins with its
 * own number, so that it can be told where each cluster of the disk comes from.
 * What was changed is also looked at as it is when the power goes meanwhile.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "cuts.h"
#include "file.h"
#include "image.h"
#include "image_index.h"
#include "image_repair.h"
#include "merge.h"
#include "quiet.h"
#include "report.h"
#include "size.h"

/* so that all inputs are quick: of files, of clusters that are numbered */
#define MAX_FILE	(32ull << 20)
#define MAX_NUMBERED	1024u
/* an image with larger clusters is only read */
#define MAX_CLUSTER	2048u
/* power failures of each change */
#define CUTS		6u
/* of what an entry leads to, whatever is there */
#define MAPPED		(1ull << 63)

enum op { OP_READ, OP_RECOVER, OP_REPAIR, OP_GROW, OP_MERGE, N_OPS };

/*
 * op: what to do
 * top: number of the first cluster of the upper image of a merge, so that both differ
 * grow: by how many clusters
 * sectors: size of the file
 */
struct plan {
	uint8_t op;
	uint8_t pad;
	uint16_t grow;
	uint32_t sectors;
};

/*
 * owner: for each cluster of the disk a number that its data begin with; 0 for none
 * n: clusters of the disk that are looked at
 */
struct disk {
	uint64_t owner[MAX_NUMBERED];
	uint32_t n;
};

static bool open_image(struct ploop_image *img, char name, bool writable)
{
	struct fuzz_path path = fuzz_path(name);

	if (ploop_image_open(img, path.text, writable))
		return false;
	if (!ploop_image_load(img, PLOOP_FMT_PLOOP1))
		return true;
	ploop_image_close(img);
	return false;
}

/* the numbers of the clusters of the file, where data may be */
static void number_clusters(const struct ploop_image *img, uint64_t base)
{
	const uint64_t cluster = ploop_image_cluster_bytes(img);

	for (uint64_t i = img->first; i < MAX_NUMBERED; i++) {
		const uint64_t number = base + i;

		if ((i + 1) * cluster > img->file_size)
			break;
		fuzz_must(!ploop_file_write(img->fd, &number, sizeof(number), i * cluster), "write");
	}
}

static void make_file(char name, const uint8_t *data, size_t size, uint64_t file_size,
		      uint64_t base)
{
	struct fuzz_path path = fuzz_path(name);
	struct ploop_image img;
	int fd;

	fd = open(path.text, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	fuzz_must(fd >= 0, "open");
	fuzz_must(!ploop_file_write(fd, data, size, 0), "write");
	fuzz_must(!ftruncate(fd, (off_t)file_size), "truncate");
	close(fd);
	if (!open_image(&img, name, true))
		return;
	number_clusters(&img, base);
	ploop_image_close(&img);
}

static int read_visit(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	const uint64_t offset = entry / ploop_index_unit(img) * ploop_image_cluster_bytes(img);
	struct disk *disk = data;

	if (cluster >= img->clusters || cluster >= MAX_NUMBERED)
		return 0;
	/* behind the end: zeros */
	disk->owner[cluster] = 0;
	if (offset + sizeof(uint64_t) <= img->file_size)
		fuzz_must(!ploop_file_read(img->fd, &disk->owner[cluster], sizeof(uint64_t), offset),
			  "read");
	disk->owner[cluster] |= MAPPED;
	return 0;
}

static void read_disk(const struct ploop_image *img, struct disk *disk)
{
	disk->n = img->clusters < MAX_NUMBERED ? img->clusters : MAX_NUMBERED;
	ploop_index_walk(img, read_visit, disk);
}

static bool same_disk(const struct disk *old, const struct disk *now)
{
	return now->n >= old->n && !memcmp(old->owner, now->owner, old->n * sizeof(*old->owner));
}

/* closed, nothing wrong with it, and the same data */
static void must_be_good(char name, const struct disk *old)
{
	struct ploop_image_usage usage;
	struct disk now = { 0 };
	struct ploop_image img;

	fuzz_must(open_image(&img, name, false), "what was changed can be opened");
	fuzz_must(!ploop_image_is_dirty(&img), "it is closed");
	fuzz_must(!ploop_image_check(&img, &usage) && !usage.beyond_eof, "its index is in order");
	read_disk(&img, &now);
	fuzz_must(same_disk(old, &now), "its data is what it was");
	ploop_image_close(&img);
}

static void only_read(void)
{
	struct ploop_findings findings;
	struct ploop_image img;
	uint64_t used;

	if (!open_image(&img, 'a', false))
		return;
	ploop_image_count(&img, &used);
	ploop_image_shared(&img);
	if (!ploop_image_examine(&img, &findings)) {
		ploop_findings_need_repair(&img, &findings);
		ploop_findings_free(&findings);
	}
	ploop_image_close(&img);
}

static int repair(struct ploop_image *img, bool again)
{
	struct ploop_findings findings;
	int rc;

	rc = ploop_image_examine(img, &findings);
	if (rc)
		return rc;
	rc = again ? 0 : PLOOP_EXIT_FORMAT;
	if (ploop_findings_need_repair(img, &findings))
		rc = ploop_image_repair(img, &findings);
	ploop_findings_free(&findings);
	if (rc)
		return rc;
	fuzz_must(!ploop_image_examine(img, &findings), "a repaired image can be examined");
	fuzz_must(!ploop_findings_need_repair(img, &findings), "a repaired image is good");
	ploop_findings_free(&findings);
	return 0;
}

static int grow(struct ploop_image *img, const struct plan *plan)
{
	const uint64_t more = (uint64_t)plan->grow * img->cluster_sectors;
	struct ploop_image_usage usage;
	int rc;

	rc = ploop_image_check(img, &usage);
	if (rc || usage.beyond_eof)
		return PLOOP_EXIT_FORMAT;
	rc = ploop_image_set_in_use(img, true, usage.used);
	if (!rc)
		rc = ploop_image_grow(img, img->size + more, NULL);
	return ploop_image_end_use(img, usage.used, rc);
}

/* the data as before, above what upper has, and nothing that a repair cannot put right */
static void must_be_no_worse(const struct disk *old, const struct disk *upper, bool in_order)
{
	struct ploop_image_usage usage;
	struct disk now = { 0 };
	struct ploop_image img;

	fuzz_must(open_image(&img, 'd', true), "what is left can be opened");
	read_disk(&img, &now);
	for (uint32_t i = 0; upper && i < upper->n; i++)
		if (upper->owner[i])
			now.owner[i] = upper->owner[i];
	if (upper && now.n < upper->n)
		now.n = upper->n;
	fuzz_must(same_disk(old, &now), "no data is lost with the power");
	if (in_order)
		fuzz_must(!ploop_image_check(&img, &usage), "the index stays in order");
	else
		fuzz_must(!repair(&img, true), "it can be repaired again");
	ploop_image_close(&img);
}

/* as it may be when the power goes at some moments of what was noted */
static void cut_power(const struct disk *old, const struct disk *upper, bool in_order)
{
	const size_t moments = cuts_end();
	const struct fuzz_path path = fuzz_path('d');

	for (size_t i = 0; moments && i < CUTS; i++) {
		cuts_make(path.text, (size_t)rand() % (moments + 1));
		must_be_no_worse(old, upper, in_order);
	}
	cuts_free();
}

static void change(const struct plan *plan)
{
	struct fuzz_path path = fuzz_path('a');
	struct disk old = { 0 };
	struct ploop_image img;
	int rc = PLOOP_EXIT_FORMAT;

	if (!open_image(&img, 'a', true))
		return;
	if (img.cluster_sectors <= MAX_CLUSTER) {
		read_disk(&img, &old);
		cuts_begin(path.text);
		if (plan->op == OP_RECOVER)
			rc = ploop_image_recover(&img);
		else if (plan->op == OP_REPAIR)
			rc = repair(&img, false);
		else
			rc = grow(&img, plan);
	}
	if (!rc) {
		cut_power(&old, NULL, plan->op != OP_REPAIR);
		must_be_good('a', &old);
	}
	cuts_end();
	cuts_free();
	ploop_image_close(&img);
}

static void merge(void)
{
	struct ploop_image images[2];
	struct ploop_merge merge = { .image = images, .n = 2 };
	struct fuzz_path path = fuzz_path('a');
	struct disk both = { 0 }, upper = { 0 };
	int rc = PLOOP_EXIT_FORMAT;

	if (!open_image(&images[0], 'a', true))
		return;
	if (!open_image(&images[1], 'b', false))
		goto out_close_lower;
	merge.cluster_sectors = images[0].cluster_sectors;
	if (merge.cluster_sectors <= MAX_CLUSTER && !ploop_chain_fit(&images[0], &images[1])) {
		read_disk(&images[0], &both);
		read_disk(&images[1], &both);
		read_disk(&images[1], &upper);
		cuts_begin(path.text);
		rc = ploop_merge_images(&merge);
	}
	if (!rc) {
		cut_power(&both, &upper, true);
		must_be_good('a', &both);
	}
	cuts_end();
	cuts_free();
	ploop_image_close(&images[1]);
out_close_lower:
	ploop_image_close(&images[0]);
}

/* so that the same input is always cut at the same moments */
static unsigned int hash_of(const uint8_t *data, size_t size)
{
	unsigned int hash = 5381;

	while (size--)
		hash = hash * 33 + *data++;
	return hash;
}

/**
 * LLVMFuzzerTestOneInput() - what libFuzzer calls
 * @data: the input
 * @size: bytes
 *
 * Return: 0.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct plan plan;
	uint64_t bytes;
	size_t half;

	if (size < sizeof(plan))
		return 0;
	srand(hash_of(data, size));
	memcpy(&plan, data, sizeof(plan));
	data += sizeof(plan);
	size -= sizeof(plan);
	plan.op %= N_OPS;
	bytes = (uint64_t)plan.sectors << PLOOP_SECTOR_SHIFT;
	if (bytes > MAX_FILE)
		bytes %= MAX_FILE;
	half = plan.op == OP_MERGE ? size / 2 : size;
	make_file('a', data, half, bytes, 0);
	if (plan.op == OP_MERGE)
		make_file('b', data + half, half, bytes, 1u << 20);
	if (plan.op == OP_READ)
		only_read();
	else if (plan.op == OP_MERGE)
		merge();
	else
		change(&plan);
	return 0;
}

/* numbers that are near a limit of this image */
static uint32_t telling_number(const struct ploop1_header *h, const struct plan *plan)
{
	const uint32_t bs = le32toh(h->cluster_sectors) ? le32toh(h->cluster_sectors) : 1;
	const uint32_t first = le32toh(h->first_block_offset);
	const uint32_t numbers[] = {
		0, 1, first / bs, first / bs + 1, first, plan->sectors / bs, plan->sectors,
		le32toh(h->clusters), le32toh(h->clusters) * 2, 0x7fffffff, 0xffffffff,
		bs, bs * 2, PLOOP1_IN_USE, PLOOP1_CLOSED_EXT, (uint32_t)rand() % 64 * bs,
	};

	return numbers[(size_t)rand() % (sizeof(numbers) / sizeof(*numbers))] + (uint32_t)rand() % 3 - 1;
}

/* a word of the header or of the index becomes something that it could be, or another one */
static void change_word(uint8_t *data, size_t size, const struct plan *plan)
{
	uint8_t *file = data + sizeof(*plan);
	const size_t words = (size - sizeof(*plan)) / sizeof(uint32_t);
	struct ploop1_header header;
	uint32_t value;
	size_t at;

	memcpy(&header, file, sizeof(header));
	value = telling_number(&header, plan);
	at = (size_t)rand() % words;
	if (rand() % 4 == 0)
		at %= sizeof(header) / sizeof(uint32_t);
	if (rand() % 2)
		memcpy(&value, file + (size_t)rand() % words * sizeof(value), sizeof(value));
	memcpy(file + at * sizeof(value), &value, sizeof(value));
}

/**
 * LLVMFuzzerCustomMutator() - what libFuzzer calls to change an input
 * @data: the input
 * @size: bytes
 * @max_size: bytes that it may have
 * @seed: of this change
 *
 * Return: bytes of the changed input.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	struct plan plan;

	srand(seed);
	if (size < sizeof(plan) + sizeof(struct ploop1_header) || rand() % 4 == 0)
		return LLVMFuzzerMutate(data, size, max_size);
	memcpy(&plan, data, sizeof(plan));
	switch (rand() % 6) {
	case 0:
		plan.op = (uint8_t)(rand() % N_OPS);
		break;
	case 1:
		plan.sectors = (uint32_t)rand() % (MAX_FILE >> PLOOP_SECTOR_SHIFT);
		break;
	case 2:
		plan.sectors -= plan.sectors % 64;
		plan.grow = (uint16_t)rand();
		break;
	}
	memcpy(data, &plan, sizeof(plan));
	for (int i = rand() % 4; i >= 0; i--)
		change_word(data, size, &plan);
	return size;
}
