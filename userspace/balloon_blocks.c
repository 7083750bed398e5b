// SPDX-License-Identifier: GPL-2.0-only
#include "balloon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/ploop.h>

#include "report.h"
#include "size.h"

/* so many extents are asked for at once */
#define EXTENTS		512
#define DECIMAL		10

/* where the filesystem begins on the device, bytes */
static int filesystem_start(const struct ploop_balloon *balloon, uint64_t *start)
{
	char text[PLOOP_SYSFS_NAME];

	*start = 0;
	if (balloon->dev == makedev(PLOOP_MAJOR, (unsigned int)balloon->index <<
				    PLOOP_MINOR_SHIFT))
		return 0;
	if (ploop_sysfs_read(text, sizeof(text), "/sys/dev/block/%u:%u/start",
			     major(balloon->dev), minor(balloon->dev)))
		return ploop_fail_errno(PLOOP_EXIT_SYSFS,
					"cannot find out where the filesystem on %s begins on its disk",
					balloon->dir);
	*start = strtoull(text, NULL, DECIMAL) << PLOOP_SECTOR_SHIFT;
	return 0;
}

/* only space that the filesystem knows to hold nothing, and whose place is sure */
static bool is_free(const struct fiemap_extent *extent)
{
	return (extent->fe_flags & ~FIEMAP_EXTENT_LAST) == FIEMAP_EXTENT_UNWRITTEN;
}

/* position: moved behind what was read; skipped: bytes that are not free */
static int take_extents(const struct fiemap *map, uint64_t start, struct ploop_ranges *ranges,
			uint64_t *position, uint64_t *skipped)
{
	int rc = 0;

	for (uint32_t i = 0; i < map->fm_mapped_extents && !rc; i++) {
		const struct fiemap_extent *extent = &map->fm_extents[i];

		*position = extent->fe_logical + extent->fe_length;
		if (extent->fe_flags & FIEMAP_EXTENT_LAST)
			*position = UINT64_MAX;
		if (is_free(extent))
			rc = ploop_ranges_add(ranges, start + extent->fe_physical,
					      extent->fe_length);
		else
			*skipped += extent->fe_length;
	}
	return rc;
}

static int read_extents(const struct ploop_balloon *balloon, struct fiemap *map, uint64_t start,
			struct ploop_ranges *ranges)
{
	uint64_t position = 0, skipped = 0;
	int rc = 0;

	while (position < balloon->size && !rc) {
		*map = (struct fiemap){
			.fm_start = position,
			.fm_length = balloon->size - position,
			.fm_flags = FIEMAP_FLAG_SYNC,
			.fm_extent_count = EXTENTS,
		};
		if (ioctl(balloon->fd, FS_IOC_FIEMAP, map))
			return ploop_fail_errno(PLOOP_EXIT_READ,
						"cannot read where the balloon in %s has its blocks",
						balloon->dir);
		if (!map->fm_mapped_extents)
			break;
		rc = take_extents(map, start, ranges, &position, &skipped);
	}
	if (skipped && !rc)
		ploop_note("%" PRIu64 " bytes of the balloon in %s hold data, and are left alone",
			   skipped, balloon->dir);
	return rc;
}

/**
 * ploop_balloon_blocks() - find the bytes of the device that the balloon takes
 * @balloon: the file, immutable and synced, so that it keeps them
 * @ranges: out: the bytes; freed by ploop_ranges_free() also when this fails
 *
 * Return: 0 or an exit code.
 */
int ploop_balloon_blocks(const struct ploop_balloon *balloon, struct ploop_ranges *ranges)
{
	struct fiemap *map = malloc(sizeof(*map) + EXTENTS * sizeof(*map->fm_extents));
	uint64_t start;
	int rc;

	*ranges = (struct ploop_ranges){ 0 };
	if (!map)
		return ploop_fail_memory();
	rc = filesystem_start(balloon, &start);
	if (!rc)
		rc = read_extents(balloon, map, start, ranges);
	free(map);
	return rc;
}
