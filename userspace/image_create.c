// SPDX-License-Identifier: GPL-2.0-only
#include "image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "lock.h"
#include "report.h"
#include "size.h"

/* a raw image ends on a border of this many bytes */
#define RAW_ALIGN	4096u
/* the size of the index is rounded to this before it is rounded to clusters */
#define INDEX_ALIGN	512u

/* so much of a name is in that of the file while it is not whole; NAME_MAX is 255 */
#define UNFINISHED_NAME	200

/* the CHS geometry that old tools expect in between these sizes (sectors) */
#define CHS_CLASSIC_MIN		1032192u
#define CHS_CLASSIC_MAX		16777216u
#define CHS_CLASSIC_HEADS	16u
#define CHS_CLASSIC_SECTORS	63u

struct chs {
	uint32_t heads;
	uint32_t cylinders;
};

static uint32_t first_divisor(const uint32_t *list, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++)
		if (value % list[i] == 0)
			return list[i];
	return 0;
}

static uint32_t saturate(uint64_t value)
{
	return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static struct chs chs_of(uint64_t sectors)
{
	static const uint32_t sector_list[] = { CHS_CLASSIC_SECTORS, 32, 16, 8 };
	static const uint32_t head_list[] = { CHS_CLASSIC_HEADS, 8, 4, 2 };
	const struct chs flat = { .heads = 1, .cylinders = saturate(sectors) };
	uint32_t per_track, heads;

	if (sectors > CHS_CLASSIC_MIN && sectors < CHS_CLASSIC_MAX) {
		const uint32_t cylinder = CHS_CLASSIC_HEADS * CHS_CLASSIC_SECTORS;

		return (struct chs){ CHS_CLASSIC_HEADS, saturate(sectors / cylinder) };
	}
	per_track = first_divisor(sector_list, sizeof(sector_list) / sizeof(*sector_list), sectors);
	if (!per_track)
		return flat;
	sectors /= per_track;
	heads = first_divisor(head_list, sizeof(head_list) / sizeof(*head_list), sectors);
	if (!heads)
		return flat;
	return (struct chs){ heads, saturate(sectors / heads) };
}

/**
 * ploop_image_fill_geometry() - put the size of the disk into the header
 * @img: a ploop1 image that was planned; its file is not touched
 */
void ploop_image_fill_geometry(struct ploop_image *img)
{
	const struct chs chs = chs_of(img->size);
	struct ploop1_header *h = &img->header;

	h->heads = htole32(chs.heads);
	h->cylinders = htole32(chs.cylinders);
	h->clusters = htole32(img->clusters);
	h->size = htole64(img->size);
	h->first_block_offset = htole32(img->first * img->cluster_sectors);
}

static void fill_header(struct ploop_image *img)
{
	struct ploop1_header *h = &img->header;

	memset(h, 0, sizeof(*h));
	memcpy(h->signature,
	       img->version == PLOOP_IMAGE_V1 ? PLOOP1_SIGNATURE_V1 : PLOOP1_SIGNATURE_V2,
	       sizeof(h->signature));
	h->type = htole32(PLOOP1_TYPE);
	h->cluster_sectors = htole32(img->cluster_sectors);
	h->in_use = htole32(PLOOP1_CLOSED);
	h->flags = htole32(PLOOP1_FLAG_EMPTY);
	ploop_image_fill_geometry(img);
}

/**
 * ploop_image_plan() - find size, clusters and first of a ploop1 image
 * @img: out: these; its path is for the message
 * @p: what it shall be; the size is rounded up
 *
 * Return: 0, or PLOOP_EXIT_PARAM when this does not fit the format.
 */
int ploop_image_plan(struct ploop_image *img, const struct ploop_image_params *p)
{
	const uint64_t size = ploop_round_up(p->size, p->cluster_sectors);
	const uint64_t clusters = size / p->cluster_sectors;
	const uint64_t words = clusters + PLOOP1_INDEX_SKIP;
	const uint64_t cluster = (uint64_t)p->cluster_sectors << PLOOP_SECTOR_SHIFT;
	const uint64_t index = ploop_round_up(ploop_round_up(words * sizeof(uint32_t), INDEX_ALIGN),
					      cluster) / cluster;
	uint64_t limit = UINT32_MAX;

	/* v1 counts file offsets in sectors, v2 in clusters, both in 32 bits */
	if (p->version == PLOOP_IMAGE_V1)
		limit /= p->cluster_sectors;
	if (clusters + index > limit)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s: %" PRIu64 " sectors are too many for an image of version %u with clusters of %u sectors; one with %s can be bigger",
				  img->path, size, p->version, p->cluster_sectors,
				  p->version == PLOOP_IMAGE_V1 ? "version 2" : "bigger clusters");
	img->version = p->version;
	img->cluster_sectors = p->cluster_sectors;
	img->size = size;
	img->clusters = (uint32_t)clusters;
	img->first = (uint32_t)index;
	return 0;
}

static int write_ploop1(struct ploop_image *img)
{
	const uint64_t end = img->first * ploop_image_cluster_bytes(img);
	int rc;

	rc = ploop_image_write_zeros(img, 0, end, true);
	if (rc)
		return rc;
	fill_header(img);
	if (ploop_file_write(img->fd, &img->header, sizeof(img->header), 0))
		return ploop_fail_errno(PLOOP_EXIT_WRITE, "cannot write %s", img->path);
	img->file_size = end;
	return 0;
}

static int write_raw(struct ploop_image *img, const struct ploop_image_params *p)
{
	const uint64_t bytes = ploop_round_up(p->size << PLOOP_SECTOR_SHIFT, RAW_ALIGN);

	if (bytes > INT64_MAX)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s: too big for a file", img->path);
	img->cluster_sectors = p->cluster_sectors;
	img->size = bytes >> PLOOP_SECTOR_SHIFT;
	img->file_size = bytes;
	if (!fallocate(img->fd, 0, 0, (off_t)bytes))
		return 0;
	if (errno != EOPNOTSUPP)
		return ploop_fail_errno(PLOOP_EXIT_FALLOCATE, "cannot allocate %" PRIu64
					" bytes for %s", bytes, img->path);
	ploop_note("%s: this filesystem cannot allocate in advance, the image is sparse",
		   img->path);
	if (ftruncate(img->fd, (off_t)bytes))
		return ploop_fail_errno(PLOOP_EXIT_TRUNCATE,
					"cannot make %s %" PRIu64 " bytes long", img->path, bytes);
	return 0;
}

static int exists_already(const char *path)
{
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "%s exists already; remove it or choose another name", path);
}

/* a name of its own beside the final one, of which a long one gives its beginning */
static int open_unfinished(struct ploop_image *img, const char *dir)
{
	const char *slash = strrchr(img->path, '/');
	const char *name = slash ? slash + 1 : img->path;

	if (asprintf(&img->unfinished, "%s/.%.*s.XXXXXX", dir, UNFINISHED_NAME, name) < 0) {
		img->unfinished = NULL;
		return ploop_fail_memory();
	}
	img->fd = mkostemp(img->unfinished, O_CLOEXEC);
	return 0;
}

/* without a name where the filesystem can do that */
static int open_new(struct ploop_image *img)
{
	char *copy = strdup(img->path);
	const char *dir;
	int rc = 0;

	if (!copy)
		return ploop_fail_memory();
	dir = dirname(copy);
	img->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, PLOOP_IMAGE_MODE);
	if (img->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		rc = open_unfinished(img, dir);
	if (!rc && img->fd < 0)
		rc = ploop_fail_errno(PLOOP_EXIT_CREATE, "cannot create %s", img->path);
	free(copy);
	return rc;
}

/**
 * ploop_image_begin() - open a new file for an image
 * @img: its path; out: its file, to be closed by the caller also when this fails,
 *       and to be unlinked when anything fails from then on
 *
 * Return: 0, or an exit code.
 */
int ploop_image_begin(struct ploop_image *img)
{
	struct stat st;
	int rc;

	/* told before the work; what counts is ploop_image_publish() */
	if (!lstat(img->path, &st))
		return exists_already(img->path);
	rc = open_new(img);
	if (rc)
		return rc;
	if (fstat(img->fd, &st))
		return ploop_fail_errno(PLOOP_EXIT_STAT, "cannot examine %s", img->path);
	img->dev = st.st_dev;
	img->ino = st.st_ino;
	return 0;
}

/* who opened a file when it had no name is shown none, also by the driver in sysfs */
static int open_by_name(struct ploop_image *img)
{
	const int fd = open(img->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s", img->path);
	close(img->fd);
	img->fd = fd;
	if (fstat(fd, &st))
		return ploop_fail_errno(PLOOP_EXIT_STAT, "cannot examine %s", img->path);
	if (st.st_dev != img->dev || st.st_ino != img->ino)
		return ploop_fail(PLOOP_EXIT_CREATE, "%s was replaced by another file", img->path);
	return ploop_lock_image(img, true);
}

/**
 * ploop_image_publish() - make a whole image durable, and give it its name
 * @img: the image, from ploop_image_begin()
 *
 * What has a name is a whole image, durably, whenever the power goes.
 *
 * Return: 0, or an exit code.
 */
int ploop_image_publish(struct ploop_image *img)
{
	const bool nameless = !img->unfinished;
	char *path;
	int rc;

	rc = ploop_image_sync(img);
	if (rc)
		return rc;
	if (nameless ? ploop_file_link(img->fd, img->path)
		     : ploop_file_rename(img->unfinished, img->path)) {
		if (errno == EEXIST)
			return exists_already(img->path);
		return ploop_fail_errno(PLOOP_EXIT_CREATE, "cannot create %s", img->path);
	}
	free(img->unfinished);
	img->unfinished = NULL;
	path = realpath(img->path, NULL);
	if (!path)
		return ploop_fail_errno(PLOOP_EXIT_CREATE, "cannot resolve %s", img->path);
	free(img->path);
	img->path = path;
	rc = ploop_file_sync_dir(img->path);
	return rc || !nameless ? rc : open_by_name(img);
}

static int write_image(struct ploop_image *img, const struct ploop_image_params *params)
{
	int rc;

	rc = ploop_lock_image(img, true);
	if (rc)
		return rc;
	rc = img->format == PLOOP_FMT_RAW ? write_raw(img, params) : write_ploop1(img);
	return rc ? rc : ploop_image_publish(img);
}

/**
 * ploop_image_create() - make a new image, durably
 * @img: out: the image, open for writing and locked; to be closed by the caller
 *       when this succeeds
 * @path: the file; it must not exist
 * @params: what it shall be; sizes are rounded up
 *
 * Return: 0, or an exit code and no file was left.
 */
int ploop_image_create(struct ploop_image *img, const char *path,
		       const struct ploop_image_params *params)
{
	int rc;

	memset(img, 0, sizeof(*img));
	img->fd = -1;
	img->writable = true;
	img->format = params->format;
	img->path = strdup(path);
	if (!img->path)
		return ploop_fail_memory();
	rc = img->format == PLOOP_FMT_RAW ? 0 : ploop_image_plan(img, params);
	if (rc)
		goto out_close_image;
	rc = ploop_image_begin(img);
	if (rc && img->fd < 0)
		goto out_close_image;
	if (!rc)
		rc = write_image(img, params);
	if (rc)
		goto out_unlink_image;
	return 0;

out_unlink_image:
	ploop_image_unlink(img);
out_close_image:
	ploop_image_close(img);
	return rc;
}

/**
 * ploop_image_empty() - make an image hold nothing, durably: all below shows through
 * @img: a loaded ploop1 image, writable and ours alone; whatever it holds is
 *       below it too, so that it may be in the midst of this when power fails
 *
 * Return: 0 or an exit code.
 */
int ploop_image_empty(struct ploop_image *img)
{
	struct ploop1_header *h = &img->header;
	int rc;

	rc = ploop_image_write_zeros(img, sizeof(*h), img->first * ploop_image_cluster_bytes(img),
				     false);
	if (rc)
		return rc;
	h->flags = htole32(le32toh(h->flags) | PLOOP1_FLAG_EMPTY);
	return ploop_image_set_in_use(img, false, 0);
}

/**
 * ploop_image_unlink() - remove the file of an image that could not be finished
 * @img: the image
 *
 * The path may by now be somebody else's file: that one stays.
 */
void ploop_image_unlink(const struct ploop_image *img)
{
	const char *name = img->unfinished ? img->unfinished : img->path;
	struct stat st;

	if (!name || lstat(name, &st))
		return;
	if (st.st_dev != img->dev || st.st_ino != img->ino)
		return;
	if (unlink(name))
		ploop_note("cannot remove the unfinished %s; remove it yourself", name);
}
