// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/ploop.h>

#include "cancel.h"
#include "device.h"
#include "json.h"
#include "maintenance.h"
#include "mounts.h"
#include "node.h"
#include "progress.h"
#include "report.h"
#include "size.h"
#include "space.h"

const char ploop_discard_usage[] =
	"Usage: ploop discard [--min SIZE] [--json] -d DEV | -m DIR\n"
	"\n"
	"Gives the free space of mounted filesystems to the host: the image files need\n"
	"less space then, with and without snapshots.\n"
	"\n"
	"  -d DEV      all filesystems of the device, as /dev/ploop0\n"
	"  -m DIR      the one that is mounted on DIR\n"
	"  --min SIZE  leave free pieces alone that are smaller\n"
	"  --json      print JSON, with sizes in bytes\n"
	"  -h          show this help\n"
	"\n"
	"Sizes are numbers of 512-byte sectors, or have a letter: k, m, g or t.\n";

/*
 * So much at a time: a multiple of every block group of ext4, which it remembers
 * to have been trimmed only when all of it was.
 */
#define PIECE		(1ull << 30)
/* the driver gives space back in the background; when to look, and when that is over */
#define LOOK_SECONDS	10
#define LOOKS		3
#define DECIMAL		10

struct discard_args {
	int index;
	const char *dir;
	uint64_t min;
	bool json;
};

/* trimmed: bytes that the filesystems had free, and told the device */
struct result {
	uint64_t trimmed;
	struct ploop_space_use before;
	struct ploop_space_use after;
};

static int trim_failed(const char *dir)
{
	if (errno == EOPNOTSUPP)
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "the filesystem on %s cannot discard its free space", dir);
	if (errno == EROFS)
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "%s is mounted read-only: free space is discarded through a writable mount",
				  dir);
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "cannot discard the free space of %s", dir);
}

/* bytes of the device of a filesystem; 0 when its addresses are not those of a device */
static uint64_t trimmed_size(const struct ploop_mount *mount, dev_t dev)
{
	char text[PLOOP_SYSFS_NAME];

	if (strncmp(mount->fstype, "ext", strlen("ext")) && strcmp(mount->fstype, "xfs"))
		return 0;
	if (ploop_sysfs_read(text, sizeof(text), "/sys/dev/block/%u:%u/size", major(dev),
			     minor(dev)))
		return 0;
	return strtoull(text, NULL, DECIMAL) << PLOOP_SECTOR_SHIFT;
}

/* the kernel changes what it is given: each piece has an argument of its own */
static int trim_pieces(int fd, const char *dir, uint64_t size, uint64_t min, uint64_t *trimmed)
{
	struct ploop_progress progress;
	int rc = 0;

	ploop_progress_begin(&progress, "discarding", size);
	for (uint64_t start = 0; start < size && !rc; start += PIECE) {
		struct fstrim_range range = { .start = start, .len = PIECE, .minlen = min };

		if (ploop_cancelled()) {
			rc = ploop_fail_cancelled();
		} else if (!ioctl(fd, FITRIM, &range)) {
			*trimmed += range.len;
			ploop_progress_add(&progress, PIECE);
		} else {
			/* EINVAL: the filesystem is smaller than its device */
			rc = errno == EINVAL && start ? 0 : trim_failed(dir);
			size = start;
		}
	}
	ploop_progress_clear();
	return rc;
}

static int trim_all(int fd, const char *dir, uint64_t min, uint64_t *trimmed)
{
	struct fstrim_range range = { .len = UINT64_MAX, .minlen = min };

	if (ioctl(fd, FITRIM, &range))
		return trim_failed(dir);
	*trimmed += range.len;
	return 0;
}

static int trim(const struct ploop_mount *mount, uint64_t min, uint64_t *trimmed)
{
	struct stat st;
	uint64_t size;
	int fd, rc;

	fd = open(mount->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		rc = ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s", mount->target);
		goto out_close_dir;
	}
	/* what was deleted a moment ago is free only then */
	if (syncfs(fd)) {
		rc = ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync %s", mount->target);
		goto out_close_dir;
	}
	size = trimmed_size(mount, st.st_dev);
	if (size)
		rc = trim_pieces(fd, mount->target, size, min, trimmed);
	else
		rc = trim_all(fd, mount->target, min, trimmed);
out_close_dir:
	if (fd >= 0)
		close(fd);
	return rc;
}

static int trim_mounts(const struct ploop_info *info, const struct discard_args *args,
		       struct result *result)
{
	char *dir = args->dir ? realpath(args->dir, NULL) : NULL;
	struct ploop_mount_list list;
	bool found = false;
	int rc;

	rc = ploop_mounts_list(info->index, &list);
	/* the newest is the one that is seen */
	for (size_t i = list.n; i > 0 && !rc; i--) {
		if (dir ? found || strcmp(dir, list.mount[i - 1].target) :
			  ploop_space_seen(&list, i - 1))
			continue;
		found = true;
		rc = trim(&list.mount[i - 1], args->min, &result->trimmed);
	}
	if (!rc && !found)
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED,
				"no filesystem of %s is mounted here: mount one first, or see blkdiscard(8)",
				info->node);
	ploop_mounts_free(&list);
	free(dir);
	return rc;
}

/* until the files do not become smaller any more */
static int wait_for_driver(const struct ploop_info *info, struct ploop_space_use *use)
{
	struct ploop_deadline wait = ploop_deadline_in(LOOK_SECONDS, true);
	struct ploop_device dev;
	int same = 0;
	int rc;

	rc = ploop_device_open(&dev, info->index);
	if (rc)
		return rc;
	if (ioctl(dev.fd, PLOOP_IOC_SYNC))
		rc = ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync %s", dev.node);
	ploop_space_of_images(info, use);
	while (!rc && same < LOOKS && ploop_deadline_pause(&wait)) {
		const uint64_t last = use->allocated;

		ploop_space_of_images(info, use);
		same = use->allocated < last ? 0 : same + (wait.pause_ms == PLOOP_POLL_MAX_MS);
	}
	ploop_device_close(&dev);
	return rc;
}

static int print_result(const struct ploop_info *info, const struct discard_args *args,
			const struct result *result)
{
	const uint64_t before = result->before.allocated, after = result->after.allocated;
	const uint64_t freed = before > after ? before - after : 0;
	struct json_object *object;

	if (!args->json) {
		printf("%s: discarded %" PRIu64 " bytes of free space\n", info->node,
		       result->trimmed);
		printf("FREED: %" PRIu64 " bytes; the images have %" PRIu64 " bytes now\n", freed,
		       after);
		return 0;
	}
	object = json_object_new_object();
	ploop_json_add_string(object, "device", info->node);
	ploop_json_add_number(object, "discarded", result->trimmed);
	ploop_json_add_number(object, "freed", freed);
	ploop_json_add_number(object, "allocated", after);
	return ploop_json_print(object);
}

static int discard(const struct discard_args *args)
{
	struct result result = { 0 };
	struct ploop_info info;
	int rc;

	rc = ploop_sysfs_device(args->index, &info);
	if (rc)
		return rc;
	if (!info.n_deltas)
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED, "%s has no images; see `ploop list`",
				info.node);
	/* somebody collects discards: ours would wait for him */
	else if (info.maintenance == PLOOP_MNTN_DISCARD)
		rc = ploop_maintenance_refuse(&info);
	ploop_space_of_images(&info, &result.before);
	if (!rc)
		rc = trim_mounts(&info, args, &result);
	if (!rc)
		rc = wait_for_driver(&info, &result.after);
	if (!rc)
		rc = print_result(&info, args, &result);
	ploop_sysfs_free(&info);
	return rc;
}

static int parse_min(const char *value, uint64_t *min)
{
	const int rc = ploop_size_parse("--min", value, min);

	*min <<= PLOOP_SECTOR_SHIFT;
	return rc;
}

static int parse_args(int argc, char *argv[], struct discard_args *args)
{
	static const struct option longs[] = {
		{ "min", required_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *dev = NULL;
	int option, rc = 0;

	*args = (struct discard_args){ 0 };
	while (!rc && (option = getopt_long(argc, argv, "d:m:h", longs, NULL)) != -1) {
		switch (option) {
		case 'd':
			dev = optarg;
			break;
		case 'm':
			args->dir = optarg;
			break;
		case 'n':
			rc = parse_min(optarg, &args->min);
			break;
		case 'j':
			args->json = true;
			break;
		case 'h':
			return PLOOP_SHOW_HELP;
		default:
			return PLOOP_SHOW_USAGE;
		}
	}
	if (rc)
		return rc;
	if (optind != argc || (!dev && !args->dir))
		return PLOOP_SHOW_USAGE;
	return ploop_mounts_find_device(dev, args->dir, &args->index);
}

/**
 * ploop_cmd_discard() - ploop discard
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_discard(int argc, char *argv[])
{
	struct discard_args args;
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	return rc ? rc : discard(&args);
}
