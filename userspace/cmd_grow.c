// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cancel.h"
#include "chain.h"
#include "filesystems.h"
#include "image.h"
#include "maintenance.h"
#include "node.h"
#include "report.h"
#include "size.h"

const char ploop_grow_usage[] =
	"Usage: ploop grow -s SIZE [-f FORMAT] IMAGE\n"
	"       ploop grow -s SIZE -d DEV\n"
	"\n"
	"Makes a disk larger: in an image that is not attached, or of a running device.\n"
	"A grow that was interrupted is completed by running it again.\n"
	"\n"
	"  -s SIZE     the new size, rounded up to clusters; a raw image's to 4 KiB\n"
	"  -f FORMAT   format of IMAGE: ploop1 (default) or raw\n"
	"  -d DEV      the device, as /dev/ploop0\n"
	"  -h          show this help\n"
	"\n"
	"Partitions and filesystems keep their size: see growpart(1) and resize2fs(8).\n"
	"Sizes are numbers of 512-byte sectors, or have a letter: k, m, g or t.\n";

/* how the names of ext2, ext3 and ext4 begin */
#define EXT	"ext"

struct grow_args {
	uint64_t size;
	enum ploop_format_id format;
	bool format_given;
	const char *dev;
};

static int parse_option(int option, const char *value, struct grow_args *args)
{
	switch (option) {
	case 's':
		return ploop_size_parse("-s", value, &args->size);
	case 'f':
		args->format_given = true;
		return ploop_format_parse("-f", value, &args->format);
	case 'd':
		args->dev = value;
		return 0;
	case 'h':
		return PLOOP_SHOW_HELP;
	}
	return PLOOP_SHOW_USAGE;
}

static int parse_args(int argc, char *argv[], struct grow_args *args)
{
	int option, rc;

	*args = (struct grow_args){ .format = PLOOP_FMT_PLOOP1 };
	while ((option = getopt(argc, argv, "s:f:d:h")) != -1) {
		rc = parse_option(option, optarg, args);
		if (rc)
			return rc;
	}
	if (!args->size || !!args->dev + (argc - optind) != 1)
		return PLOOP_SHOW_USAGE;
	return args->dev && args->format_given ? PLOOP_SHOW_USAGE : 0;
}

/*
 * Whether there is anything to do: wanted, which the user gave, is rounded up
 * to size.
 */
static int compare_size(const char *what, uint64_t wanted, uint64_t size, uint64_t old)
{
	char text[PLOOP_SIZE_TEXT];

	if (size < old)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s has %" PRIu64 " sectors (%s), more than %" PRIu64
				  ": it can only grow", what, old,
				  ploop_size_format(text, old << PLOOP_SECTOR_SHIFT), wanted);
	if (size != wanted && size != old)
		ploop_note("-s: %" PRIu64 " sectors are rounded up to %" PRIu64, wanted, size);
	return 0;
}

static void print_size(const char *what, uint64_t size, bool changed)
{
	char text[PLOOP_SIZE_TEXT];

	printf("%s: %s%" PRIu64 " sectors (%s)\n", what, changed ? "" : "is already ", size,
	       ploop_size_format(text, size << PLOOP_SECTOR_SHIFT));
}

static int grow_marked(struct ploop_image *img, uint64_t size)
{
	int rc = 0;

	if (img->format == PLOOP_FMT_PLOOP1)
		rc = ploop_image_set_in_use(img, true, 0);
	if (!rc)
		rc = ploop_image_grow(img, size, NULL);
	return ploop_image_end_use(img, 0, rc);
}

static int grow_image(struct ploop_image *img, uint64_t wanted)
{
	const uint64_t size = ploop_image_grown_size(img, wanted);
	const bool changed = size != img->size;
	int rc;

	rc = compare_size(img->path, wanted, size, img->size);
	if (!rc && changed)
		rc = grow_marked(img, size);
	if (rc == PLOOP_EXIT_CANCELLED)
		ploop_note("nothing is lost: run the same command again to complete the grow");
	if (!rc)
		print_size(img->path, img->size, changed);
	return rc;
}

static int grow_offline(char *path, const struct grow_args *args)
{
	const struct ploop_chain_params params = { .base_format = args->format };
	struct ploop_chain chain;
	int rc;

	rc = ploop_chain_open(&chain, &path, 1, &params);
	if (rc)
		return rc;
	rc = grow_image(&chain.images[0], args->size);
	ploop_chain_close(&chain);
	return rc;
}

static void print_hint(const char *node, const char *type, void *data)
{
	(void)data;
	if (!strncmp(type, EXT, strlen(EXT)))
		printf("the filesystem on %s has its old size: run `resize2fs %s`\n", node, node);
	else
		printf("the filesystem on %s (%s) has its old size\n", node, type);
}

/* what a device of these images can have; a raw disk need not be whole clusters */
static uint64_t device_size(const struct ploop_info *info, uint64_t wanted)
{
	const uint64_t raw_step = 8;
	const bool raw = info->n_deltas == 1 && !info->version;

	return ploop_round_up(wanted, raw ? raw_step : info->cluster_sectors);
}

static int grow_device(struct ploop_maintenance_session *session, uint64_t wanted)
{
	const uint64_t size = device_size(&session->info, wanted);
	const uint64_t old = session->info.size >> PLOOP_SECTOR_SHIFT;
	int rc;

	rc = compare_size(session->info.node, wanted, size, old);
	if (!rc && size != old)
		rc = ploop_maintenance_grow(session, size);
	if (rc)
		return rc;
	print_size(session->info.node, size, size != old);
	if (size == old)
		return 0;
	if (ploop_filesystems_partitioned(session->info.node))
		printf("the partitions have their old sizes: run `growpart %s 1` or sfdisk(8) first\n",
		       session->info.node);
	ploop_filesystems_each(&session->info, print_hint, NULL);
	return 0;
}

static int grow_online(const struct grow_args *args)
{
	struct ploop_maintenance_session session;
	int index, rc;

	rc = ploop_node_parse(args->dev, &index);
	if (!rc)
		rc = ploop_maintenance_begin(&session, index);
	if (rc)
		return rc;
	rc = grow_device(&session, args->size);
	ploop_maintenance_end(&session);
	return rc;
}

/**
 * ploop_cmd_grow() - ploop grow
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_grow(int argc, char *argv[])
{
	struct grow_args args;
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (rc)
		return rc;
	return args.dev ? grow_online(&args) : grow_offline(argv[optind], &args);
}
