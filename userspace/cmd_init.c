// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "balloon.h"
#include "cancel.h"
#include "chain.h"
#include "device.h"
#include "gpt.h"
#include "image.h"
#include "mkfs.h"
#include "report.h"
#include "size.h"

const char ploop_init_usage[] =
	"Usage: ploop init -s SIZE [-f FORMAT] [-t FSTYPE] [-b CLUSTER] [-v VERSION] IMAGE\n"
	"\n"
	"Makes the new file IMAGE for a disk of SIZE; it must not exist.\n"
	"\n"
	"  -s SIZE     size of the disk, rounded up to clusters\n"
	"  -f FORMAT   ploop1 (default) or raw\n"
	"  -t FSTYPE   also make a GPT with one partition and this filesystem in it:\n"
	"              ext4 or ext3; none (default) makes an empty disk\n"
	"  -b CLUSTER  cluster size, 64 to 131072 sectors; default 2048 (1 MiB)\n"
	"  -v VERSION  version of the ploop1 format, 1 or 2 (default)\n"
	"  -h          show this help\n"
	"\n"
	"Sizes are numbers of 512-byte sectors, or have a letter: k, m, g or t.\n";

#define PARTITION	1
/* how long udev may look at the new device before we keep it away */
#define FLOCK_SECONDS	10

struct init_args {
	struct ploop_image_params image;
	const char *fstype;
	const char *path;
};

static int parse_version(const char *arg, unsigned int *version)
{
	if (!strcmp(arg, "1"))
		*version = PLOOP_IMAGE_V1;
	else if (!strcmp(arg, "2"))
		*version = PLOOP_IMAGE_V2;
	else
		return ploop_fail(PLOOP_EXIT_PARAM, "-v %s: unknown version; give 1 or 2", arg);
	return 0;
}

static int parse_fstype(const char *arg, const char **fstype)
{
	*fstype = NULL;
	if (!strcmp(arg, "none"))
		return 0;
	*fstype = arg;
	return ploop_mkfs_check(arg);
}

static int parse_option(int option, const char *value, struct init_args *args)
{
	switch (option) {
	case 's':
		return ploop_size_parse("-s", value, &args->image.size);
	case 'f':
		return ploop_format_parse("-f", value, &args->image.format);
	case 't':
		return parse_fstype(value, &args->fstype);
	case 'b':
		return ploop_cluster_parse("-b", value, &args->image.cluster_sectors);
	case 'v':
		return parse_version(value, &args->image.version);
	case 'h':
		return PLOOP_SHOW_HELP;
	}
	return PLOOP_SHOW_USAGE;
}

static int parse_args(int argc, char *argv[], struct init_args *args)
{
	int option, rc;

	*args = (struct init_args){
		.image = {
			.format = PLOOP_FMT_PLOOP1,
			.version = PLOOP_IMAGE_V2,
			.cluster_sectors = 1u << PLOOP_CLUSTER_LOG_DEFAULT,
		},
	};
	while ((option = getopt(argc, argv, "s:f:t:b:v:h")) != -1) {
		rc = parse_option(option, optarg, args);
		if (rc)
			return rc;
	}
	if (argc - optind != 1 || !args->image.size)
		return PLOOP_SHOW_USAGE;
	args->path = argv[optind];
	return 0;
}

/* with a partition the disk must be whole clusters, and more than two of them */
static int plan_filesystem(struct init_args *args)
{
	const uint32_t cluster = args->image.cluster_sectors;

	args->image.size = ploop_round_up(args->image.size, cluster);
	if (ploop_gpt_partition_sectors(cluster, args->image.size))
		return 0;
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "-s: the disk is too small for a partition: give at least 3 clusters of %u sectors, or smaller clusters with -b",
			  cluster);
}

/* while we hold this lock udev does not look at the disk, which would re-read its partitions */
static int keep_udev_away(struct ploop_device *dev)
{
	struct ploop_deadline wait = ploop_deadline_in(FLOCK_SECONDS, true);

	while (flock(dev->fd, LOCK_EX | LOCK_NB)) {
		if (errno == EWOULDBLOCK && ploop_deadline_pause(&wait))
			continue;
		if (ploop_cancelled())
			return ploop_fail_cancelled();
		return ploop_fail_errno(PLOOP_EXIT_LOCK, "cannot lock %s", dev->node);
	}
	return 0;
}

static int fill_device(struct ploop_device *dev, const struct init_args *args)
{
	const uint32_t cluster = args->image.cluster_sectors;
	const uint64_t sectors = ploop_gpt_partition_sectors(cluster, args->image.size);
	char partition[PLOOP_NODE_PATH];
	int rc;

	rc = keep_udev_away(dev);
	if (!rc)
		rc = ploop_gpt_make(dev->node, cluster, args->image.size);
	if (!rc)
		rc = ploop_node_wait_partition(dev->fd, dev->index, PARTITION, partition);
	if (!rc)
		rc = ploop_mkfs_make(partition, args->fstype, sectors << PLOOP_SECTOR_SHIFT);
	if (!rc)
		rc = ploop_balloon_make(partition);
	return rc;
}

/* img moves into a stack; its path and inode are kept by the caller */
static int make_filesystem(struct ploop_image *img, const struct init_args *args)
{
	struct ploop_chain chain;
	struct ploop_device dev;
	int rc, detached;

	rc = ploop_chain_from_image(&chain, img);
	if (rc)
		return rc;
	rc = ploop_chain_attach(&chain, PLOOP_DEVICE_ANY, &dev);
	if (rc)
		goto out_close_chain;
	rc = fill_device(&dev, args);
	detached = ploop_device_detach(&dev, false);
	ploop_device_close(&dev);
	if (!rc)
		rc = detached;
out_close_chain:
	ploop_chain_close(&chain);
	return rc;
}

/**
 * ploop_cmd_init() - ploop init
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_init(int argc, char *argv[])
{
	struct ploop_image img, kept;
	struct init_args args;
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc && args.fstype)
		rc = plan_filesystem(&args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (!rc)
		rc = ploop_image_create(&img, args.path, &args.image);
	if (rc)
		return rc;
	if (!args.fstype)
		goto out_close_image;
	kept = img;
	kept.path = strdup(img.path);
	rc = kept.path ? make_filesystem(&img, &args) : ploop_fail_memory();
	if (rc)
		ploop_image_unlink(&kept);
	free(kept.path);
out_close_image:
	ploop_image_close(&img);
	return rc;
}
