// SPDX-License-Identifier: GPL-2.0-only
#include "filesystems.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include <blkid.h>

#include "node.h"

/* name of the filesystem on a node, or false */
static bool find_type(const char *node, char type[PLOOP_SYSFS_NAME])
{
	blkid_probe probe = blkid_new_probe_from_filename(node);
	const char *value;
	bool found = false;

	if (!probe)
		return false;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE);
	if (!blkid_do_safeprobe(probe) && !blkid_probe_lookup_value(probe, "TYPE", &value, NULL)) {
		snprintf(type, PLOOP_SYSFS_NAME, "%s", value);
		found = true;
	}
	blkid_free_probe(probe);
	return found;
}

/**
 * ploop_filesystems_each() - call a function for the disk and each partition that
 * has a filesystem
 * @info: the device
 * @fn: the function
 * @data: passed to @fn
 */
void ploop_filesystems_each(const struct ploop_info *info, ploop_filesystem_fn fn, void *data)
{
	char pattern[PLOOP_SYSFS_PATH], node[PLOOP_NODE_PATH], type[PLOOP_SYSFS_NAME];
	glob_t found;

	if (find_type(info->node, type))
		fn(info->node, type, data);
	snprintf(pattern, sizeof(pattern), PLOOP_SYSFS_BLOCK "/ploop%d/ploop%dp*", info->index,
		 info->index);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *slash = strrchr(found.gl_pathv[i], '/');

		snprintf(node, sizeof(node), "/dev/%s", slash + 1);
		if (find_type(node, type))
			fn(node, type, data);
	}
	globfree(&found);
}

/**
 * ploop_filesystems_partitioned() - look whether a disk has a partition table
 * @node: the disk
 *
 * Return: true when it has one, of any kind.
 */
bool ploop_filesystems_partitioned(const char *node)
{
	blkid_probe probe = blkid_new_probe_from_filename(node);
	bool found;

	if (!probe)
		return false;
	blkid_probe_enable_superblocks(probe, 0);
	blkid_probe_enable_partitions(probe, 1);
	found = blkid_probe_get_partitions(probe) != NULL;
	blkid_free_probe(probe);
	return found;
}
