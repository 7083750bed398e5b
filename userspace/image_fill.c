// SPDX-License-Identifier: GPL-2.0-only
#include "image.h"

#include "fiemap.h"
#include "progress.h"
#include "report.h"

/* between two looks at signals and at the clock */
#define STEP	((uint64_t)16 << 20)

/*
 * img: the image
 * dense: up to here it has no holes, bytes
 * filled: bytes that were written
 */
struct filling {
	const struct ploop_image *img;
	uint64_t dense;
	uint64_t filled;
	struct ploop_progress progress;
};

/* what is not data begins where the last data ended */
static int fill_up_to(struct filling *filling, uint64_t end)
{
	const struct ploop_image *img = filling->img;
	int rc = 0;

	if (end > img->file_size)
		end = img->file_size;
	while (filling->dense < end && !rc) {
		const uint64_t from = filling->dense;
		const uint64_t to = end - from < STEP ? end : from + STEP;

		rc = ploop_image_write_zeros(img, from, to, true);
		filling->dense = to;
		filling->filled += to - from;
		ploop_progress_set(&filling->progress, to, img->file_size);
	}
	return rc;
}

static int fill_before(const struct fiemap_extent *extent, void *data)
{
	struct filling *filling = data;
	int rc;

	if (extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN)
		return 0;
	rc = fill_up_to(filling, extent->fe_logical);
	filling->dense = extent->fe_logical + extent->fe_length;
	return rc;
}

/**
 * ploop_image_fill_holes() - write zeros to what is a hole, or allocated and not written
 * @img: a loaded image that is in order, writable and locked exclusively
 * @filled: out: bytes that were written, when this succeeds
 *
 * Old drivers on ext4 take no other files. The content does not change, so a
 * failure or a crash leaves a good image, with fewer holes.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_fill_holes(const struct ploop_image *img, uint64_t *filled)
{
	struct filling filling = { .img = img };
	int rc;

	ploop_progress_begin(&filling.progress, "filling holes", img->file_size);
	rc = ploop_fiemap_walk(img->fd, FIEMAP_FLAG_SYNC, fill_before, &filling);
	if (!rc)
		rc = fill_up_to(&filling, img->file_size);
	ploop_progress_clear();
	if (rc < 0)
		return ploop_fail_errno(PLOOP_EXIT_READ, "cannot look for holes in %s", img->path);
	if (rc)
		return rc;
	*filled = filling.filled;
	return filling.filled ? ploop_image_sync(img) : 0;
}
