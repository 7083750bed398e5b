// SPDX-License-Identifier: GPL-2.0-only
#include "space.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "balloon.h"

/* unit of st_blocks */
#define STAT_BLOCK	512

/**
 * ploop_space_of_images() - add up the image files of a device
 * @info: the device
 * @use: out: only @file and @allocated are set
 *
 * Files of other mount namespaces count as nothing.
 */
void ploop_space_of_images(const struct ploop_info *info, struct ploop_space_use *use)
{
	memset(use, 0, sizeof(*use));
	for (size_t i = 0; i < info->n_deltas; i++) {
		struct stat st;

		if (stat(info->deltas[i].image, &st) ||
		    ploop_sysfs_find_delta(info, st.st_dev, st.st_ino) != &info->deltas[i])
			continue;
		use->file += (uint64_t)st.st_size;
		use->allocated += (uint64_t)st.st_blocks * STAT_BLOCK;
	}
}

/**
 * ploop_space_seen() - is a filesystem mounted at an earlier place of a list too
 * @mounts: the list
 * @i: place in the list
 *
 * Return: true also when that cannot be found out.
 */
bool ploop_space_seen(const struct ploop_mount_list *mounts, size_t i)
{
	struct stat st, other;

	if (stat(mounts->mount[i].target, &st))
		return true;
	for (size_t j = 0; j < i; j++)
		if (!stat(mounts->mount[j].target, &other) && other.st_dev == st.st_dev)
			return true;
	return false;
}

/**
 * ploop_space_use() - find out where the space of a device goes
 * @info: the device
 * @mounts: what is mounted from it
 * @use: out: the space
 *
 * Return: 0 or an exit code.
 */
int ploop_space_use(const struct ploop_info *info, const struct ploop_mount_list *mounts,
		    struct ploop_space_use *use)
{
	struct ploop_balloon balloon;
	struct statvfs fs;
	int rc;

	ploop_space_of_images(info, use);
	for (size_t i = 0; i < mounts->n; i++) {
		if (ploop_space_seen(mounts, i) || statvfs(mounts->mount[i].target, &fs))
			continue;
		use->mounted = true;
		use->used += (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
	}
	rc = ploop_balloon_find(&balloon, info->index, NULL);
	use->has_balloon = !rc && balloon.fd >= 0;
	use->balloon = balloon.size;
	ploop_balloon_close(&balloon);
	return rc;
}
