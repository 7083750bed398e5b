// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balloon.h"
#include "cancel.h"
#include "chain.h"
#include "device.h"
#include "image.h"
#include "mounts.h"
#include "node.h"
#include "report.h"
#include "size.h"

const char ploop_mount_usage[] =
	"Usage: ploop mount [-r] [-f FORMAT] [-b CLUSTER] [-d DEV]\n"
	"                   [-m DIR [-t FSTYPE] [-o OPTIONS]] BASE [... TOP]\n"
	"\n"
	"Attaches images to a device and prints its name. Several images make a stack,\n"
	"the base first, the top last; only the top is written. An image that a crash\n"
	"left in use is checked and recovered.\n"
	"\n"
	"  -r          read-only\n"
	"  -f FORMAT   format of BASE: ploop1 (default) or raw; others are ploop1\n"
	"  -b CLUSTER  cluster size of a raw BASE; default that of the others, or 2048\n"
	"  -d DEV      take this device, as /dev/ploop0, and no other\n"
	"  -m DIR      also mount the first partition, or the disk if it has none\n"
	"  -t FSTYPE   type of the filesystem; default: find out\n"
	"  -o OPTIONS  options of the filesystem, as for mount(8), and balloon_ino=N: the\n"
	"              file with inode N in its root directory is the balloon file\n"
	"  -h          show this help\n";

#define PARTITION	1

struct mount_args {
	struct ploop_chain_params chain;
	int index;
	const char *dir;
	const char *fstype;
	char *options;
	uint64_t balloon_ino;
};

static int parse_option(int option, const char *value, struct mount_args *args)
{
	switch (option) {
	case 'r':
		args->chain.readonly = true;
		return 0;
	case 'f':
		return ploop_format_parse("-f", value, &args->chain.base_format);
	case 'b':
		return ploop_cluster_parse("-b", value, &args->chain.cluster_sectors);
	case 'd':
		return ploop_node_parse(value, &args->index);
	case 'm':
		args->dir = value;
		return 0;
	case 't':
		args->fstype = value;
		return 0;
	case 'o':
		free(args->options);
		args->options = strdup(value);
		return args->options ? 0 : ploop_fail_memory();
	case 'h':
		return PLOOP_SHOW_HELP;
	}
	return PLOOP_SHOW_USAGE;
}

static int check_dir(const struct mount_args *args)
{
	struct stat st;

	if (!args->dir && (args->fstype || args->options))
		return ploop_fail(PLOOP_EXIT_PARAM, "-t and -o say how to mount: give -m DIR too");
	if (!args->dir)
		return 0;
	if (stat(args->dir, &st))
		return ploop_fail_errno(PLOOP_EXIT_PARAM, "-m %s", args->dir);
	if (!S_ISDIR(st.st_mode))
		return ploop_fail(PLOOP_EXIT_PARAM, "-m %s: not a directory", args->dir);
	return 0;
}

static int parse_args(int argc, char *argv[], struct mount_args *args)
{
	int option, rc;

	while ((option = getopt(argc, argv, "rf:b:d:m:t:o:h")) != -1) {
		rc = parse_option(option, optarg, args);
		if (rc)
			return rc;
	}
	if (optind == argc)
		return PLOOP_SHOW_USAGE;
	rc = check_dir(args);
	return rc ? rc : ploop_balloon_take_option(&args->options, &args->balloon_ino);
}

/*
 * Node to mount. Waits for the partition also when nothing will be mounted, so
 * that its node can be used as soon as this command has ended.
 */
static int find_filesystem(struct ploop_device *dev, char node[PLOOP_NODE_PATH])
{
	bool partition;
	int rc;

	snprintf(node, PLOOP_NODE_PATH, "%s", dev->node);
	rc = ploop_node_find_partition(dev->node, PARTITION, &partition);
	if (rc || !partition)
		return rc;
	return ploop_node_wait_partition(dev->fd, dev->index, PARTITION, node);
}

static int mount_filesystem(struct ploop_device *dev, const struct mount_args *args)
{
	char node[PLOOP_NODE_PATH];
	int rc;

	rc = find_filesystem(dev, node);
	/* a strange partition table is the user's business when nothing is mounted */
	if (!args->dir)
		return rc == PLOOP_EXIT_CANCELLED ? rc : 0;
	if (rc)
		return rc;
	if (ploop_cancelled())
		return ploop_fail_cancelled();
	rc = ploop_mounts_add(node, args->dir, args->fstype, args->options, args->chain.readonly);
	if (rc)
		return rc;
	if (!args->chain.readonly)
		ploop_balloon_protect(args->dir, args->balloon_ino);
	return 0;
}

static int attach(const struct mount_args *args, char *const paths[], size_t n)
{
	struct ploop_chain chain;
	struct ploop_device dev;
	int rc;

	rc = ploop_chain_open(&chain, paths, n, &args->chain);
	if (rc)
		return rc;
	rc = ploop_chain_attach(&chain, args->index, &dev);
	ploop_chain_close(&chain);
	if (rc)
		return rc;
	rc = mount_filesystem(&dev, args);
	if (rc)
		ploop_device_detach(&dev, false);
	else
		puts(dev.node);
	ploop_device_close(&dev);
	return rc;
}

/**
 * ploop_cmd_mount() - ploop mount
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_mount(int argc, char *argv[])
{
	struct mount_args args = {
		.chain = { .base_format = PLOOP_FMT_PLOOP1 },
		.index = PLOOP_DEVICE_ANY,
	};
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (!rc)
		rc = attach(&args, argv + optind, (size_t)(argc - optind));
	free(args.options);
	return rc;
}
