// SPDX-License-Identifier: GPL-2.0-only
#include "image_space.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image_index.h"
#include "report.h"

#define BITS		8u

/**
 * ploop_space_begin() - find the free clusters of an image whose index is known
 * @space: out: the clusters; freed by ploop_space_free()
 * @img: a loaded ploop1 image
 * @usage: what its index names
 * @used: a bit for each cluster that the index names; belongs to @space from now on
 * @from: leave clusters below this one alone; at least the image's first
 */
void ploop_space_begin(struct ploop_space *space, const struct ploop_image *img,
		       const struct ploop_image_usage *usage, unsigned char *used, uint64_t from)
{
	*space = (struct ploop_space) {
		.used = used,
		.next = from,
		.in_file = img->file_size / ploop_image_cluster_bytes(img),
		/* the last value is left out, so that the number of clusters fits as well */
		.limit = UINT32_MAX / ploop_index_unit(img),
		.mapped = usage->used,
		.kept = img->file_size,
	};
}

/**
 * ploop_space_load() - check the index of an image and find its free clusters
 * @space: out: the clusters; freed by ploop_space_free() when this succeeds
 * @img: a loaded ploop1 image
 * @from: leave clusters below this one alone; at least the image's first
 *
 * Whatever moves clusters must come before this, not between this and
 * ploop_space_take().
 *
 * Return: 0 or an exit code.
 */
int ploop_space_load(struct ploop_space *space, const struct ploop_image *img, uint64_t from)
{
	struct ploop_image_usage usage;
	unsigned char *used;
	int rc;

	memset(space, 0, sizeof(*space));
	rc = ploop_image_map(img, &usage, &used);
	if (rc)
		return rc;
	if (usage.beyond_eof) {
		free(used);
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: %" PRIu64
				  " clusters are behind the end of the file: see `ploop check %s`",
				  img->path, usage.beyond_eof, img->path);
	}
	ploop_space_begin(space, img, &usage, used, from);
	return 0;
}

/**
 * ploop_space_free() - free what ploop_space_load() took
 * @space: the clusters
 */
void ploop_space_free(struct ploop_space *space)
{
	free(space->used);
	space->used = NULL;
}

static bool is_used(const struct ploop_space *space, uint64_t iblk)
{
	return space->used[iblk / BITS] >> iblk % BITS & 1;
}

/**
 * ploop_space_take() - take a free cluster, or a new one behind the end
 * @space: the clusters
 * @img: the image
 * @iblk: out: the cluster of the file
 * @fresh: out: it is new; else it has old contents
 *
 * Return: 0 or PLOOP_EXIT_FORMAT when no entry can name another cluster.
 */
int ploop_space_take(struct ploop_space *space, const struct ploop_image *img, uint32_t *iblk,
		     bool *fresh)
{
	while (space->next < space->in_file && space->next < space->limit &&
	       is_used(space, space->next))
		space->next++;
	if (space->next >= space->limit)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: its format, version %u with clusters of %u sectors, cannot address a file of more than %" PRIu64
				  " clusters", img->path, img->version, img->cluster_sectors,
				  space->limit);
	*iblk = (uint32_t)space->next;
	*fresh = space->next >= space->in_file;
	space->next++;
	space->mapped++;
	return 0;
}

/**
 * ploop_space_extend() - make the file as long as what was taken needs
 * @space: the clusters
 * @img: the image, writable
 *
 * Return: 0 or an exit code.
 */
int ploop_space_extend(struct ploop_space *space, struct ploop_image *img)
{
	const uint64_t bytes = space->next * ploop_image_cluster_bytes(img);

	if (bytes <= img->file_size)
		return 0;
	if (ftruncate(img->fd, (off_t)bytes))
		return ploop_fail_errno(PLOOP_EXIT_TRUNCATE,
					"cannot extend %s to %" PRIu64 " bytes", img->path, bytes);
	img->file_size = bytes;
	return 0;
}

/**
 * ploop_space_trim() - give back what was taken, but is in no entry yet
 * @space: the clusters, or all zero bytes when they were not loaded
 * @img: the image, writable
 *
 * A failure leaves clusters that the next user of the image finds free.
 */
void ploop_space_trim(const struct ploop_space *space, struct ploop_image *img)
{
	if (!space->used || img->file_size <= space->kept)
		return;
	if (!ftruncate(img->fd, (off_t)space->kept))
		img->file_size = space->kept;
}
