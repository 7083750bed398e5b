// SPDX-License-Identifier: GPL-2.0-only
#include "image.h"

#include "fiemap.h"

/* after so many extents it is not cheap any more */
#define MAX_EXTENTS	(512u << 10)

static int look(const struct fiemap_extent *extent, void *data)
{
	unsigned int *n = data;

	if (extent->fe_flags & FIEMAP_EXTENT_SHARED)
		return PLOOP_SHARED_YES;
	return ++*n < MAX_EXTENTS ? PLOOP_SHARED_NO : PLOOP_SHARED_UNKNOWN;
}

/**
 * ploop_image_shared() - does the file of an image share blocks with others
 * @img: an open image
 *
 * Return: the answer.
 */
enum ploop_shared ploop_image_shared(const struct ploop_image *img)
{
	unsigned int n = 0;
	const int shared = ploop_fiemap_walk(img->fd, 0, look, &n);

	return shared < 0 ? PLOOP_SHARED_UNKNOWN : (enum ploop_shared)shared;
}
