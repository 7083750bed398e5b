// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <unistd.h>

#include "cancel.h"
#include "device.h"
#include "image.h"
#include "lock.h"
#include "mounts.h"
#include "node.h"
#include "report.h"
#include "sysfs.h"

const char ploop_umount_usage[] =
	"Usage: ploop umount -d DEV | -m DIR | IMAGE\n"
	"\n"
	"Unmounts the filesystems of a device, stops it and detaches its images.\n"
	"\n"
	"  -d DEV   the device, as /dev/ploop0\n"
	"  -m DIR   the device that is mounted on DIR\n"
	"  IMAGE    the device that has this image, at any level\n"
	"  -h       show this help\n";

/* how long another command may take before we give up */
#define LOCK_SECONDS	10

static int device_of_image(const char *path, int *index)
{
	struct ploop_info_list list;
	struct ploop_image img;
	int rc;

	rc = ploop_image_open(&img, path, false);
	if (rc)
		return rc;
	rc = ploop_sysfs_list(&list);
	if (rc)
		goto out_close_image;
	*index = -1;
	for (size_t i = 0; i < list.n && !rc; i++) {
		const struct ploop_info *info = &list.info[i];

		if (!ploop_sysfs_find_delta(info, img.dev, img.ino))
			continue;
		if (*index >= 0)
			rc = ploop_fail(PLOOP_EXIT_PARAM,
					"%s is part of /dev/ploop%d and %s: choose one with -d",
					img.path, *index, info->node);
		*index = info->index;
	}
	if (!rc && *index < 0)
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED,
				"%s is not attached to any device; see `ploop list`", img.path);
	ploop_sysfs_free_list(&list);
out_close_image:
	ploop_image_close(&img);
	return rc;
}

static int parse_args(int argc, char *argv[], int *index)
{
	const char *dev = NULL, *dir = NULL;
	int option;

	while ((option = getopt(argc, argv, "d:m:h")) != -1) {
		switch (option) {
		case 'd':
			dev = optarg;
			break;
		case 'm':
			dir = optarg;
			break;
		case 'h':
			return PLOOP_SHOW_HELP;
		default:
			return PLOOP_SHOW_USAGE;
		}
	}
	if (!!dev + !!dir + (argc - optind) != 1)
		return PLOOP_SHOW_USAGE;
	if (dev || dir)
		return ploop_mounts_find_device(dev, dir, index);
	return device_of_image(argv[optind], index);
}

/*
 * Waits for commands that work on the images. A base that is not there any more
 * must not keep the device from being detached.
 */
static int lock_device(const struct ploop_info *info, int *lock_fd)
{
	const int rc = ploop_lock_device(info, LOCK_SECONDS, lock_fd);

	if (rc != PLOOP_EXIT_OPEN && rc != PLOOP_EXIT_LOCK)
		return rc;
	ploop_note("%s is detached without a lock", info->node);
	return 0;
}

/* the driver gives these states up by itself: no cluster is lost, but the rest is not done */
static void note_unfinished(const struct ploop_info *info)
{
	switch (ploop_sysfs_maintenance(info->index)) {
	case PLOOP_MNTN_BALLOON:
	case PLOOP_MNTN_FBLOADED:
		ploop_note("a change of the balloon of %s was killed: nothing is lost; run `ploop balloon repair` when it is mounted again (`ploop balloon complete` would have completed it)",
			   info->node);
	}
}

static int lock_attached(int index, int *lock_fd)
{
	struct ploop_info info;
	int rc;

	rc = ploop_sysfs_device(index, &info);
	if (rc)
		return rc;
	if (info.n_deltas)
		rc = lock_device(&info, lock_fd);
	else
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED, "%s has no images; see `ploop list`",
				info.node);
	if (!rc)
		note_unfinished(&info);
	ploop_sysfs_free(&info);
	return rc;
}

static int detach(int index)
{
	struct ploop_device dev;
	int rc;

	rc = ploop_mounts_remove_all(index);
	if (!rc)
		rc = ploop_device_open(&dev, index);
	if (rc)
		return rc;
	rc = ploop_device_detach(&dev, true);
	ploop_device_close(&dev);
	return rc;
}

/**
 * ploop_cmd_umount() - ploop umount
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_umount(int argc, char *argv[])
{
	int lock_fd = -1;
	int index, rc;

	rc = parse_args(argc, argv, &index);
	if (!rc)
		rc = ploop_cancel_hold();
	if (!rc)
		rc = lock_attached(index, &lock_fd);
	if (rc)
		return rc;
	rc = detach(index);
	if (lock_fd >= 0)
		close(lock_fd);
	return rc;
}
