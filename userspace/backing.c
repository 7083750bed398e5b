// SPDX-License-Identifier: GPL-2.0-only
#include "backing.h"

#include <dirent.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <libmount.h>

#include "node.h"
#include "report.h"
#include "sysfs.h"

#define SYS_DEV		"/sys/dev/block"
#define MOUNTINFO	"/proc/self/mountinfo"
/* nobody stacks deeper; ends the search also where sysfs goes in circles */
#define MAX_DEPTH	16

static bool file_is_on(const char *path, int index, int depth);
static bool device_is_on(dev_t dev, int index, int depth);

/* "MAJ:MIN" in a file of sysfs; 0 when there is none */
static dev_t read_dev(const char *dir, const char *name)
{
	char text[PLOOP_SYSFS_NAME];
	unsigned int maj, min;

	if (ploop_sysfs_read(text, sizeof(text), "%s/%s", dir, name) ||
	    sscanf(text, "%u:%u", &maj, &min) != 2)
		return 0;
	return makedev(maj, min);
}

/* device mapper, md, bcache: what sysfs calls slaves */
static bool slaves_are_on(const char *sys, int index, int depth)
{
	char path[PLOOP_SYSFS_PATH], name[sizeof("slaves//dev") + NAME_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/slaves", sys);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "slaves/%s/dev", entry->d_name);
		found = device_is_on(read_dev(sys, name), index, depth);
	}
	closedir(dir);
	return found;
}

/* another ploop device is on what its images are on */
static bool images_are_on(int other, int index, int depth)
{
	struct ploop_info info;
	bool found = false;

	if (ploop_sysfs_device(other, &info))
		return false;
	for (size_t i = 0; i < info.n_deltas && !found; i++)
		found = file_is_on(info.deltas[i].image, index, depth);
	ploop_sysfs_free(&info);
	return found;
}

static bool device_is_on(dev_t dev, int index, int depth)
{
	char sys[PLOOP_SYSFS_PATH / 2], text[PATH_MAX];
	const int other = ploop_node_index_of(dev);

	if (!dev || !depth)
		return false;
	if (other >= 0)
		return other == index || images_are_on(other, index, depth - 1);
	snprintf(sys, sizeof(sys), SYS_DEV "/%u:%u", major(dev), minor(dev));
	/* a partition is on its disk */
	if (!ploop_sysfs_read(text, sizeof(text), "%s/partition", sys))
		return device_is_on(read_dev(sys, "../dev"), index, depth - 1);
	if (!ploop_sysfs_read(text, sizeof(text), "%s/loop/backing_file", sys) &&
	    file_is_on(text, index, depth - 1))
		return true;
	return slaves_are_on(sys, index, depth - 1);
}

/* the device a path is mounted from, for filesystems with numbers of their own (btrfs) */
static dev_t mounted_from(const char *path)
{
	struct libmnt_table *table = mnt_new_table_from_file(MOUNTINFO);
	struct libmnt_fs *fs;
	const char *source;
	struct stat st;
	dev_t dev = 0;

	if (!table)
		return 0;
	fs = mnt_table_find_mountpoint(table, path, MNT_ITER_BACKWARD);
	source = fs ? mnt_fs_get_srcpath(fs) : NULL;
	if (source && !stat(source, &st) && S_ISBLK(st.st_mode))
		dev = st.st_rdev;
	mnt_unref_table(table);
	return dev;
}

static bool file_is_on(const char *path, int index, int depth)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	if (S_ISBLK(st.st_mode))
		return device_is_on(st.st_rdev, index, depth);
	return device_is_on(major(st.st_dev) ? st.st_dev : mounted_from(path), index, depth);
}

/**
 * ploop_backing_is_on() - does a file lie, in the end, on a certain ploop device
 * @path: the file or directory, by its canonical path
 * @index: N of ploopN
 *
 * Looks through partitions, loop devices, device mapper and other ploop devices,
 * as far as sysfs tells.
 *
 * Return: true when it surely does.
 */
bool ploop_backing_is_on(const char *path, int index)
{
	return file_is_on(path, index, MAX_DEPTH);
}

/**
 * ploop_backing_dir_is_on() - would a new file lie on a certain ploop device
 * @path: the file, which need not exist
 * @index: N of ploopN
 * @on: out: as ploop_backing_is_on() for its directory; false when there is none,
 *      which is reported by whoever makes the file
 *
 * Return: 0 or PLOOP_EXIT_MEMORY.
 */
int ploop_backing_dir_is_on(const char *path, int index, bool *on)
{
	char *copy = strdup(path);
	char *dir;

	if (!copy)
		return ploop_fail_memory();
	dir = realpath(dirname(copy), NULL);
	*on = dir && ploop_backing_is_on(dir, index);
	free(dir);
	free(copy);
	return 0;
}
