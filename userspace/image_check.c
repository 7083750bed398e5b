// SPDX-License-Identifier: GPL-2.0-only
#include "image.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image_index.h"
#include "report.h"
#include "size.h"

/*
 * Data never lies further behind the index than this many times the disk:
 * grown images move clusters to the end, so once is not enough.
 */
#define MAX_SPREAD	2u
#define BITS		8u
/* of many bad entries so many are named */
#define MAX_NAMED	10u

static uint64_t entry_offset(uint32_t cluster)
{
	return ((uint64_t)cluster + PLOOP1_INDEX_SKIP) * sizeof(uint32_t);
}

static int bad_entry(const struct ploop_image *img, uint32_t cluster, uint32_t entry,
		     const char *why)
{
	return ploop_fail(PLOOP_EXIT_FORMAT,
			  "%s is damaged: the index entry of cluster %" PRIu32 " (byte %" PRIu64
			  " of the file) is %" PRIu32 ", %s",
			  img->path, cluster, entry_offset(cluster), entry, why);
}

static int count_visit(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	uint64_t *used = data;

	(void)entry;
	if (cluster < img->clusters)
		(*used)++;
	return 0;
}

/**
 * ploop_image_count() - count mapped clusters, without judging them
 * @img: a loaded ploop1 image
 * @used: out: the count
 *
 * Return: 0 or an exit code.
 */
int ploop_image_count(const struct ploop_image *img, uint64_t *used)
{
	*used = 0;
	return ploop_index_walk(img, count_visit, used);
}

struct owner_search {
	uint32_t entry;
	uint32_t cluster;
};

static int owner_visit(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	struct owner_search *search = data;

	(void)img;
	if (entry != search->entry)
		return 0;
	search->cluster = cluster;
	return -1;
}

static int bad_duplicate(const struct ploop_image *img, uint32_t cluster, uint32_t entry)
{
	struct owner_search search = { .entry = entry, .cluster = cluster };
	int rc;

	rc = ploop_index_walk(img, owner_visit, &search);
	if (rc > 0)
		return rc;
	return ploop_fail(PLOOP_EXIT_FORMAT,
			  "%s is damaged: clusters %" PRIu32 " and %" PRIu32
			  " (index entries at bytes %" PRIu64 " and %" PRIu64
			  " of the file) are both at %" PRIu32
			  ", so one of them has lost its data; restore the image from a backup, or see `ploop check --repair %s`",
			  img->path, search.cluster, cluster, entry_offset(search.cluster),
			  entry_offset(cluster), entry, img->path);
}

/*
 * seen: one bit for each cluster the file may have
 * limit: number of these
 * strict: the first bad entry ends the walk
 * named: bad entries that somebody was told about
 */
struct check {
	struct ploop_image_usage *usage;
	unsigned char *seen;
	uint64_t limit;
	bool strict;
	unsigned int named;
};

/* what is wrong with an entry that cannot be right, or NULL; counts it */
static const char *judge_entry(const struct ploop_image *img, struct check *check,
			       uint32_t cluster, uint32_t entry)
{
	const uint32_t unit = ploop_index_unit(img);
	const char *why = NULL;

	if (cluster >= img->clusters) {
		check->usage->outside++;
		return "but the disk ends before this cluster; see `ploop check --repair`";
	}
	if (entry % unit)
		why = "which is not the start of a cluster; restore the image from a backup";
	else if (entry / unit < img->first)
		why = "which is inside the index; restore the image from a backup";
	else if (entry / unit >= check->limit)
		why = "which is far behind the end of the file; restore the image from a backup";
	if (why)
		check->usage->nowhere++;
	return why;
}

static void count_entry(const struct ploop_image *img, struct check *check, uint32_t iblk)
{
	check->usage->used++;
	if (((uint64_t)iblk + 1) * ploop_image_cluster_bytes(img) > img->file_size)
		check->usage->beyond_eof++;
	if (check->usage->file_clusters <= iblk)
		check->usage->file_clusters = (uint64_t)iblk + 1;
}

static int check_visit(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	const uint32_t iblk = entry / ploop_index_unit(img);
	const unsigned char bit = (unsigned char)(1u << iblk % BITS);
	struct check *check = data;
	bool twice = false;
	const char *why;
	int rc = 0;

	why = judge_entry(img, check, cluster, entry);
	if (!why) {
		count_entry(img, check, iblk);
		twice = check->seen[iblk / BITS] & bit;
		check->seen[iblk / BITS] |= bit;
	}
	if (twice)
		check->usage->duplicates++;
	if ((why || twice) && check->named++ < MAX_NAMED)
		rc = why ? bad_entry(img, cluster, entry, why) : bad_duplicate(img, cluster, entry);
	return check->strict || rc != PLOOP_EXIT_FORMAT ? rc : 0;
}

static int map_image(const struct ploop_image *img, struct ploop_image_usage *usage,
		     unsigned char **used, bool strict)
{
	const uint64_t cluster = ploop_image_cluster_bytes(img);
	const uint64_t in_file = ploop_round_up(img->file_size, cluster) / cluster;
	struct check check = { .usage = usage, .strict = strict };
	int rc;

	memset(usage, 0, sizeof(*usage));
	usage->file_clusters = img->first;
	check.limit = (uint64_t)img->first + (uint64_t)img->clusters * MAX_SPREAD;
	if (check.limit < in_file)
		check.limit = in_file;
	if (check.limit > UINT32_MAX)
		check.limit = UINT32_MAX;
	check.seen = calloc(check.limit / BITS + 1, 1);
	if (!check.seen)
		return ploop_fail_memory();
	rc = ploop_index_walk(img, check_visit, &check);
	if (rc)
		free(check.seen);
	else
		*used = check.seen;
	return rc;
}

/**
 * ploop_image_map() - check the whole index, and find out which clusters it uses
 * @img: a loaded ploop1 image
 * @usage: out: what was found
 * @used: out: a bit for each cluster of the file, and for some behind it, that
 *        an entry names; to be freed by the caller when this succeeds
 *
 * Entries behind the end of the file are counted, not refused: a crash leaves
 * them. Entries for clusters the disk has not, inside the index, not at the
 * start of a cluster, or with the same cluster as another are damage.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_map(const struct ploop_image *img, struct ploop_image_usage *usage,
		    unsigned char **used)
{
	return map_image(img, usage, used, true);
}

/**
 * ploop_image_survey() - the same, but count damage instead of refusing it
 * @img: a loaded ploop1 image
 * @usage: out: what was found
 * @used: out: as for ploop_image_map()
 *
 * The first bad entries are named on stderr.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_survey(const struct ploop_image *img, struct ploop_image_usage *usage,
		       unsigned char **used)
{
	return map_image(img, usage, used, false);
}

/**
 * ploop_image_check() - check the whole index
 * @img: a loaded ploop1 image
 * @usage: out: what was found, as by ploop_image_map()
 *
 * Return: 0 or an exit code.
 */
int ploop_image_check(const struct ploop_image *img, struct ploop_image_usage *usage)
{
	unsigned char *used;
	int rc;

	rc = ploop_image_map(img, usage, &used);
	if (!rc)
		free(used);
	return rc;
}

/**
 * ploop_image_extend() - give the file whole clusters, up to the last one that is named
 * @img: a loaded ploop1 image, writable and locked exclusively
 * @usage: what its index names
 *
 * Durable when this returns.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_extend(struct ploop_image *img, const struct ploop_image_usage *usage)
{
	const uint64_t cluster = ploop_image_cluster_bytes(img);
	uint64_t size = ploop_round_up(img->file_size, cluster);

	if (size < usage->file_clusters * cluster)
		size = usage->file_clusters * cluster;
	if (size == img->file_size)
		return 0;
	if (ftruncate(img->fd, (off_t)size))
		return ploop_fail_errno(PLOOP_EXIT_TRUNCATE,
					"cannot extend %s to %" PRIu64 " bytes", img->path, size);
	/* the index must not be called good before the clusters it names exist */
	img->file_size = size;
	return ploop_image_sync(img);
}

/**
 * ploop_image_cut() - cut off what is behind the last cluster in use
 * @img: the image, writable
 * @usage: of its index, which is in order
 *
 * A shorter file stays as it is. Not durable by itself.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_cut(struct ploop_image *img, const struct ploop_image_usage *usage)
{
	const uint64_t size = usage->file_clusters * ploop_image_cluster_bytes(img);

	if (img->file_size <= size)
		return 0;
	if (ftruncate(img->fd, (off_t)size))
		return ploop_fail_errno(PLOOP_EXIT_TRUNCATE, "cannot cut %s to %" PRIu64 " bytes",
					img->path, size);
	img->file_size = size;
	return 0;
}

/* what was allocated ahead, or written and never named: nobody would use it below another image */
static int cut_tail(struct ploop_image *img, const struct ploop_image_usage *usage)
{
	int rc;

	if (img->file_size <= usage->file_clusters * ploop_image_cluster_bytes(img))
		return 0;
	/* the index may be somebody's last writes, and not durable */
	rc = ploop_image_sync(img);
	if (rc)
		return rc;
	return ploop_image_cut(img, usage);
}

/**
 * ploop_image_recover() - make an image that a crash left behind usable
 * @img: a loaded ploop1 image, writable and locked exclusively
 *
 * Checks the index; when it is good, makes the file as long as the index
 * reaches, with zeros where it was shorter, then removes the mark of use. One
 * that no crash left behind is extended to whole clusters only. A damaged image
 * is left as it is.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_recover(struct ploop_image *img)
{
	const bool dirty = ploop_image_is_dirty(img);
	const bool ragged = ploop_image_is_ragged(img);
	struct ploop_image_usage usage;
	int rc;

	rc = ploop_image_check(img, &usage);
	if (rc)
		return rc;
	rc = ploop_image_extend(img, &usage);
	if (rc)
		return rc;
	if (dirty)
		rc = cut_tail(img, &usage);
	if (!rc && dirty)
		rc = ploop_image_set_in_use(img, false, usage.used);
	if (rc)
		return rc;
	ploop_note("%s: recovered%s: %" PRIu64 " clusters checked, %" PRIu64
		   " behind the end of the file filled with zeros%s",
		   img->path, dirty ? " after a crash" : "", usage.used, usage.beyond_eof,
		   ragged ? ", file extended to whole clusters" : "");
	return 0;
}
