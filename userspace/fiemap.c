// SPDX-License-Identifier: GPL-2.0-only
#include "fiemap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include <linux/fs.h>

/* extents that are asked for at once */
#define BATCH	512u

/* from: moved behind what was read, to the end behind the last one */
static int walk_batch(const struct fiemap *map, uint64_t *from, ploop_fiemap_fn fn, void *data)
{
	int rc = 0;

	if (!map->fm_mapped_extents)
		*from = FIEMAP_MAX_OFFSET;
	for (uint32_t i = 0; i < map->fm_mapped_extents && !rc; i++) {
		const struct fiemap_extent *extent = &map->fm_extents[i];

		*from = extent->fe_logical + extent->fe_length;
		if (extent->fe_flags & FIEMAP_EXTENT_LAST)
			*from = FIEMAP_MAX_OFFSET;
		rc = fn(extent, data);
	}
	return rc;
}

/**
 * ploop_fiemap_walk() - look at the extents of a file
 * @fd: the file
 * @flags: FIEMAP_FLAG_SYNC: write back first what has no blocks yet; or 0
 * @fn: called for each extent, in the order of the file
 * @data: for it
 *
 * Return: 0, what @fn returned, or -1 with errno when the filesystem does not
 * tell (EOPNOTSUPP) or memory is short.
 */
int ploop_fiemap_walk(int fd, uint32_t flags, ploop_fiemap_fn fn, void *data)
{
	struct fiemap *map = malloc(sizeof(*map) + BATCH * sizeof(map->fm_extents[0]));
	uint64_t from = 0;
	int error, rc = map ? 0 : -1;

	while (!rc && from < FIEMAP_MAX_OFFSET) {
		*map = (struct fiemap){
			.fm_start = from,
			.fm_length = FIEMAP_MAX_OFFSET - from,
			.fm_flags = flags,
			.fm_extent_count = BATCH,
		};
		rc = ioctl(fd, FS_IOC_FIEMAP, map);
		if (!rc)
			rc = walk_batch(map, &from, fn, data);
	}
	error = errno;
	free(map);
	errno = error;
	return rc;
}
