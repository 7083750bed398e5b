// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "backing.h"
#include "cancel.h"
#include "image.h"
#include "maintenance.h"
#include "node.h"
#include "report.h"
#include "size.h"

const char ploop_snapshot_usage[] =
	"Usage: ploop snapshot [-F] -d DEV NEWFILE\n"
	"\n"
	"Makes the new image NEWFILE the top of a running device; it must not exist.\n"
	"From then on only NEWFILE is written, and the images below can be backed up.\n"
	"\n"
	"  -F       freeze the filesystem on the device meanwhile: what is below is then\n"
	"           as after a clean unmount\n"
	"  -d DEV   the device, as /dev/ploop0\n"
	"  -h       show this help\n";

struct snapshot_args {
	int index;
	bool sync;
	const char *path;
};

static int parse_args(int argc, char *argv[], struct snapshot_args *args)
{
	const char *dev = NULL;
	int option;

	*args = (struct snapshot_args){ 0 };
	while ((option = getopt(argc, argv, "Fd:h")) != -1) {
		switch (option) {
		case 'F':
			args->sync = true;
			break;
		case 'd':
			dev = optarg;
			break;
		case 'h':
			return PLOOP_SHOW_HELP;
		default:
			return PLOOP_SHOW_USAGE;
		}
	}
	if (!dev || argc - optind != 1)
		return PLOOP_SHOW_USAGE;
	args->path = argv[optind];
	return ploop_node_parse(dev, &args->index);
}

/* the device would wait for itself */
static int lies_on_itself(const char *path, const struct ploop_info *info)
{
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "%s lies on a filesystem on this very device, %s: choose a directory elsewhere",
			  path, info->node);
}

static int check_place(const char *path, const struct ploop_info *info)
{
	bool on;
	int rc;

	rc = ploop_backing_dir_is_on(path, info->index, &on);
	return !rc && on ? lies_on_itself(path, info) : rc;
}

static int check_device(const struct ploop_info *info)
{
	const uint64_t size = info->size >> PLOOP_SECTOR_SHIFT;

	if (info->n_deltas >= PLOOP_MAX_LEVELS)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s has %u images, which is the limit: merge some",
				  info->node, PLOOP_MAX_LEVELS);
	if (info->deltas[info->n_deltas - 1].readonly)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is read-only: nothing changes on it; mount it without -r",
				  info->node);
	if (size % info->cluster_sectors)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s has %" PRIu64 " sectors, not whole clusters of %" PRIu32
				  ": grow it first with `ploop grow -s %" PRIu64 " -d %s`",
				  info->node, size, info->cluster_sectors,
				  ploop_round_up(size, info->cluster_sectors), info->node);
	return 0;
}

/* why the driver did not take the new image */
static int snapshot_failed(const struct ploop_info *info, const char *path, int error)
{
	switch (error) {
	case ELOOP:
		return lies_on_itself(path, info);
	case EBUSY:
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is busy with other work on its images, or %s is in use: see `ploop info %s`",
				  info->node, path, info->node);
	case EINVAL:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "the driver does not accept %s on top of %s: dmesg says why; the disk of its filesystem may have larger sectors than the device",
				  path, info->node);
	case EOPNOTSUPP:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "the filesystem of %s cannot do direct I/O: choose one on ext4, xfs or btrfs",
				  path);
	case EIO:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "I/O error: the top image of %s could not be closed, dmesg says why; see `ploop info %s`",
				  info->node, info->node);
	}
	errno = error;
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "cannot put %s on top of %s", path, info->node);
}

/* the driver may have failed after it took the image */
static bool is_attached(int index, const struct ploop_image *img)
{
	struct ploop_info info;
	bool found;

	if (ploop_sysfs_device(index, &info))
		return true;
	found = ploop_sysfs_find_delta(&info, img->dev, img->ino);
	ploop_sysfs_free(&info);
	return found;
}

static int add_image(struct ploop_maintenance_session *session, struct ploop_image *img, bool sync)
{
	const struct ploop_info *info = &session->info;
	int error = 0;
	int rc;

	if (ploop_cancelled())
		return ploop_fail_cancelled();
	rc = ploop_device_snapshot(&session->dev, img, info->cluster_sectors, sync, &error);
	if (!rc && error)
		rc = snapshot_failed(info, img->path, error);
	return rc;
}

static int make_snapshot(struct ploop_maintenance_session *session,
			 const struct snapshot_args *args)
{
	const struct ploop_info *info = &session->info;
	const struct ploop_image_params params = {
		.format = PLOOP_FMT_PLOOP1,
		.version = info->version ? info->version : PLOOP_IMAGE_V2,
		.cluster_sectors = info->cluster_sectors,
		.size = info->size >> PLOOP_SECTOR_SHIFT,
	};
	struct ploop_image img;
	int rc;

	rc = check_device(info);
	if (!rc)
		rc = check_place(args->path, info);
	if (!rc)
		rc = ploop_image_create(&img, args->path, &params);
	if (rc)
		return rc;
	rc = add_image(session, &img, args->sync);
	if (rc && !is_attached(info->index, &img))
		ploop_image_unlink(&img);
	if (!rc)
		printf("%s: level %zu, the top, is now %s\n", info->node, info->n_deltas, img.path);
	ploop_image_close(&img);
	return rc;
}

/**
 * ploop_cmd_snapshot() - ploop snapshot
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_snapshot(int argc, char *argv[])
{
	struct ploop_maintenance_session session;
	struct snapshot_args args;
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (!rc)
		rc = ploop_maintenance_begin(&session, args.index);
	if (rc)
		return rc;
	rc = make_snapshot(&session, &args);
	ploop_maintenance_end(&session);
	return rc;
}
