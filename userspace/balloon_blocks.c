// SPDX-License-Identifier: GPL-2.0-only
#include "balloon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/ploop.h>

#include "fiemap.h"
#include "report.h"
#include "size.h"

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

/*
 * size: of the balloon, bytes
 * start: where the filesystem begins on the device
 * ranges: what was found
 * skipped: bytes that are not free
 */
struct search {
	uint64_t size;
	uint64_t start;
	struct ploop_ranges *ranges;
	uint64_t skipped;
};

static int take(const struct fiemap_extent *extent, void *data)
{
	struct search *search = data;

	if (extent->fe_logical >= search->size)
		return 0;
	if (is_free(extent))
		return ploop_ranges_add(search->ranges, search->start + extent->fe_physical,
					extent->fe_length);
	search->skipped += extent->fe_length;
	return 0;
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
	struct search search = { .size = balloon->size, .ranges = ranges };
	int rc;

	*ranges = (struct ploop_ranges){ 0 };
	rc = filesystem_start(balloon, &search.start);
	if (!rc)
		rc = ploop_fiemap_walk(balloon->fd, FIEMAP_FLAG_SYNC, take, &search);
	if (rc < 0)
		return ploop_fail_errno(PLOOP_EXIT_READ,
					"cannot read where the balloon in %s has its blocks",
					balloon->dir);
	if (search.skipped && !rc)
		ploop_note("%" PRIu64 " bytes of the balloon in %s hold data, and are left alone",
			   search.skipped, balloon->dir);
	return rc;
}
