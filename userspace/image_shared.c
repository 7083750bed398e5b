// SPDX-License-Identifier: GPL-2.0-only
#include "image.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

/* extents that are read at once */
#define BATCH		512u
/* after so many batches it is not cheap any more */
#define MAX_BATCHES	1024u

/* one batch from an offset on, which is moved behind it; *last: there is no more */
static enum ploop_shared look(int fd, struct fiemap *map, uint64_t *offset, bool *last)
{
	*last = false;
	map->fm_start = *offset;
	map->fm_length = FIEMAP_MAX_OFFSET - *offset;
	map->fm_flags = 0;
	map->fm_extent_count = BATCH;
	if (ioctl(fd, FS_IOC_FIEMAP, map))
		return PLOOP_SHARED_UNKNOWN;
	*last = !map->fm_mapped_extents;
	for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
		const struct fiemap_extent *extent = &map->fm_extents[i];

		if (extent->fe_flags & FIEMAP_EXTENT_SHARED)
			return PLOOP_SHARED_YES;
		*offset = extent->fe_logical + extent->fe_length;
		*last = extent->fe_flags & FIEMAP_EXTENT_LAST;
	}
	return PLOOP_SHARED_NO;
}

/**
 * ploop_image_shared() - does the file of an image share blocks with others
 * @img: an open image
 *
 * Return: the answer.
 */
enum ploop_shared ploop_image_shared(const struct ploop_image *img)
{
	struct fiemap *map = calloc(1, sizeof(*map) + BATCH * sizeof(map->fm_extents[0]));
	enum ploop_shared shared = PLOOP_SHARED_UNKNOWN;
	uint64_t offset = 0;
	bool last = !map;

	for (unsigned int i = 0; !last && i < MAX_BATCHES; i++) {
		shared = look(img->fd, map, &offset, &last);
		if (shared != PLOOP_SHARED_NO)
			break;
	}
	if (!last && shared == PLOOP_SHARED_NO)
		shared = PLOOP_SHARED_UNKNOWN;
	free(map);
	return shared;
}
