// SPDX-License-Identifier: GPL-2.0-only
#include "node.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <blkid.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <linux/ploop.h>

#include "cancel.h"
#include "report.h"
#include "sysfs.h"

#define DEV_DIR		"/dev/"
#define NAME_PREFIX	"ploop"
#define DECIMAL		10
/* minors are 20 bits wide */
#define MAX_INDEX	((1ul << 20 >> PLOOP_MINOR_SHIFT) - 1)
/* how long devtmpfs or udev may take */
#define WAIT_SECONDS	10
/* permissions of a node that nobody else makes */
#define NODE_MODE	(S_IFBLK | 0600)

/**
 * ploop_node_index_of() - find the device a device number belongs to
 * @dev: number of a disk or a partition
 *
 * Partitions behind the 15th have numbers of the block layer's own major; for
 * these sysfs knows the disk.
 *
 * Return: N of ploopN, or -1 when it is not a ploop device.
 */
int ploop_node_index_of(dev_t dev)
{
	char link[PLOOP_SYSFS_PATH], target[PATH_MAX];
	const char *name;
	ssize_t len;

	if (major(dev) == PLOOP_MAJOR)
		return (int)(minor(dev) >> PLOOP_MINOR_SHIFT);
	if (major(dev) != BLOCK_EXT_MAJOR)
		return -1;
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	len = readlink(link, target, sizeof(target) - 1);
	if (len < 0)
		return -1;
	target[len] = '\0';
	name = strstr(target, "/" NAME_PREFIX);
	if (!name || !isdigit((unsigned char)name[strlen("/" NAME_PREFIX)]))
		return -1;
	return (int)strtol(name + strlen("/" NAME_PREFIX), NULL, DECIMAL);
}

/* N of "ploopN" or "ploopNpM", with or without /dev/, else -1 */
static long name_index(const char *arg)
{
	const char *name = arg;
	unsigned long index;
	char *end;

	if (!strncmp(name, DEV_DIR, strlen(DEV_DIR)))
		name += strlen(DEV_DIR);
	if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)))
		return -1;
	name += strlen(NAME_PREFIX);
	if (!isdigit((unsigned char)*name))
		return -1;
	index = strtoul(name, &end, DECIMAL);
	if (*end == 'p' && isdigit((unsigned char)end[1]))
		strtoul(end + 1, &end, DECIMAL);
	return *end || index > MAX_INDEX ? -1 : (long)index;
}

/**
 * ploop_node_is_name() - does an argument mean a device, not an image
 * @arg: the argument
 *
 * Return: true for a block device, and for the name of a ploop device when no
 * file has that name.
 */
bool ploop_node_is_name(const char *arg)
{
	struct stat st;

	if (!stat(arg, &st))
		return S_ISBLK(st.st_mode);
	return name_index(arg) >= 0;
}

/**
 * ploop_node_parse() - find out which device an argument means
 * @arg: /dev/ploopN, ploopN, one of its partitions, or another node of it
 * @index: out: N
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_node_parse(const char *arg, int *index)
{
	const long by_name = name_index(arg);
	struct stat st;

	if (by_name >= 0) {
		*index = (int)by_name;
		return 0;
	}
	*index = -1;
	if (!stat(arg, &st) && S_ISBLK(st.st_mode))
		*index = ploop_node_index_of(st.st_rdev);
	if (*index < 0)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is not a ploop device; give one as /dev/ploop0", arg);
	return 0;
}

/* is there a node with the right number; one with a wrong number is an error */
static int node_exists(const char *node, dev_t dev, bool *exists)
{
	struct stat st;

	*exists = false;
	if (stat(node, &st)) {
		if (errno == ENOENT)
			return 0;
		return ploop_fail_errno(PLOOP_EXIT_DEVICE, "cannot examine %s", node);
	}
	if (!S_ISBLK(st.st_mode) || st.st_rdev != dev)
		return ploop_fail(PLOOP_EXIT_DEVICE,
				  "%s is not block device %u:%u; remove what is there",
				  node, major(dev), minor(dev));
	*exists = true;
	return 0;
}

static int make_node(const char *node, dev_t dev)
{
	bool exists;

	if (!mknod(node, NODE_MODE, dev))
		return 0;
	if (errno != EEXIST)
		return ploop_fail_errno(PLOOP_EXIT_MKNOD, "cannot make %s", node);
	return node_exists(node, dev, &exists);
}

/**
 * ploop_node_wait() - wait for the node of a device; make it if nobody does
 * @index: N of ploopN; the device exists
 * @node: out: its path
 *
 * Return: 0 or an exit code.
 */
int ploop_node_wait(int index, char node[PLOOP_NODE_PATH])
{
	const dev_t dev = makedev(PLOOP_MAJOR, (unsigned int)index << PLOOP_MINOR_SHIFT);
	struct ploop_deadline wait = ploop_deadline_in(WAIT_SECONDS, true);
	bool exists;
	int rc;

	snprintf(node, PLOOP_NODE_PATH, DEV_DIR NAME_PREFIX "%d", index);
	do {
		rc = node_exists(node, dev, &exists);
		if (rc || exists)
			return rc;
	} while (ploop_deadline_pause(&wait));
	if (ploop_cancelled())
		return ploop_fail_cancelled();
	return make_node(node, dev);
}

/**
 * ploop_node_find_partition() - read whether a disk has a certain partition
 * @disk: node of the disk
 * @partno: number of the partition
 * @found: out: the partition table on the disk, of any kind, has it
 *
 * Return: 0 or an exit code.
 */
int ploop_node_find_partition(const char *disk, int partno, bool *found)
{
	blkid_partlist list;
	blkid_probe probe;

	*found = false;
	probe = blkid_new_probe_from_filename(disk);
	if (!probe)
		return ploop_fail_errno(PLOOP_EXIT_DEVICE, "cannot read %s", disk);
	blkid_probe_enable_superblocks(probe, 0);
	blkid_probe_enable_partitions(probe, 1);
	list = blkid_probe_get_partitions(probe);
	for (int i = 0; list && i < blkid_partlist_numof_partitions(list); i++) {
		blkid_partition part = blkid_partlist_get_partition(list, i);

		if (part && blkid_partition_get_partno(part) == partno)
			*found = true;
	}
	blkid_free_probe(probe);
	return 0;
}

/* number of a partition that the kernel knows, or 0 */
static dev_t partition_dev(int index, int partno)
{
	unsigned int maj, min;
	char text[PLOOP_SYSFS_NAME];

	if (ploop_sysfs_read(text, sizeof(text), PLOOP_SYSFS_BLOCK "/ploop%d/ploop%dp%d/dev", index,
			     index, partno))
		return 0;
	if (sscanf(text, "%u:%u", &maj, &min) != 2)
		return 0;
	return makedev(maj, min);
}

/**
 * ploop_node_wait_partition() - wait for the node of a partition
 * @disk_fd: the disk, open; the kernel is asked to read the partition table
 *           when it does not know the partition
 * @index: N of ploopN
 * @partno: number of the partition
 * @node: out: its path
 *
 * Return: 0 or an exit code.
 */
int ploop_node_wait_partition(int disk_fd, int index, int partno, char node[PLOOP_NODE_PATH])
{
	struct ploop_deadline wait = ploop_deadline_in(WAIT_SECONDS, true);
	dev_t dev;

	snprintf(node, PLOOP_NODE_PATH, DEV_DIR NAME_PREFIX "%dp%d", index, partno);
	do {
		bool exists;
		int rc;

		dev = partition_dev(index, partno);
		if (!dev) {
			/* busy while udev looks at the partitions: then the next try does it */
			ioctl(disk_fd, BLKRRPART);
			continue;
		}
		rc = node_exists(node, dev, &exists);
		if (rc || exists)
			return rc;
	} while (ploop_deadline_pause(&wait));
	if (ploop_cancelled())
		return ploop_fail_cancelled();
	if (!dev)
		return ploop_fail(PLOOP_EXIT_DEVICE,
				  "the kernel did not find partition %d of ploop%d within %d seconds; see dmesg",
				  partno, index, WAIT_SECONDS);
	return make_node(node, dev);
}
