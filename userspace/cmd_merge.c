// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cancel.h"
#include "chain.h"
#include "merge.h"
#include "merge_online.h"
#include "node.h"
#include "report.h"

const char ploop_merge_usage[] =
	"Usage: ploop merge [-f FORMAT] [--reflink] TOPMOST [...] BASE\n"
	"       ploop merge -d DEV [-l LEVEL[..LEVEL]]\n"
	"\n"
	"Puts the data of upper images into the one below them. Then the upper ones are\n"
	"not needed any more; they are not removed, but emptied when the top of a device\n"
	"is merged. A merge that was interrupted is completed by running it again.\n"
	"\n"
	"Images that are not attached: the topmost first, the base, which is written, last.\n"
	"  -f FORMAT   format of BASE: ploop1 (default) or raw; others are ploop1\n"
	"  --reflink   let the images share blocks, where their filesystem can do that,\n"
	"              instead of copying; as long as an image shares blocks, a device on\n"
	"              it is slower (on xfs it loses the fast path); see `ploop info`\n"
	"\n"
	"A running device:\n"
	"  -d DEV      the device, as /dev/ploop0\n"
	"  -l A..B     merge levels A+1 to B into level A; the base is level 0;\n"
	"              A alone means A..A+1; default: all levels\n"
	"\n"
	"  -h          show this help\n";

#define DECIMAL		10

struct merge_args {
	enum ploop_format_id format;
	bool format_given;
	bool reflink;
	const char *dev;
	struct ploop_levels levels;
};

/* a number at *text, which is moved behind it */
static bool take_level(const char **text, int *level)
{
	unsigned long value;
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	value = strtoul(*text, &end, DECIMAL);
	*text = end;
	*level = value < PLOOP_MAX_LEVELS ? (int)value : PLOOP_MAX_LEVELS;
	return true;
}

static int parse_levels(const char *arg, struct ploop_levels *levels)
{
	const char *p = arg;
	bool good;

	good = take_level(&p, &levels->low);
	levels->high = levels->low + 1;
	if (good && p[0] == '.' && p[1] == '.') {
		p += 2;
		good = take_level(&p, &levels->high);
	}
	if (!good || *p)
		return ploop_fail(PLOOP_EXIT_PARAM, "-l %s: give levels as 0..2, or as 0", arg);
	if (levels->low >= levels->high)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "-l %s: the first level must be below the second one", arg);
	return 0;
}

static int parse_option(int option, const char *value, struct merge_args *args)
{
	switch (option) {
	case 'f':
		args->format_given = true;
		return ploop_format_parse("-f", value, &args->format);
	case 'R':
		args->reflink = true;
		return 0;
	case 'd':
		args->dev = value;
		return 0;
	case 'l':
		return parse_levels(value, &args->levels);
	case 'h':
		return PLOOP_SHOW_HELP;
	}
	return PLOOP_SHOW_USAGE;
}

static int parse_args(int argc, char *argv[], struct merge_args *args)
{
	static const struct option longs[] = {
		{ "reflink", no_argument, NULL, 'R' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option, rc, files;

	*args = (struct merge_args){
		.format = PLOOP_FMT_PLOOP1,
		.levels = { .low = PLOOP_LEVELS_ALL },
	};
	while ((option = getopt_long(argc, argv, "f:d:l:h", longs, NULL)) != -1) {
		rc = parse_option(option, optarg, args);
		if (rc)
			return rc;
	}
	files = argc - optind;
	if (args->dev)
		return files || args->format_given || args->reflink ? PLOOP_SHOW_USAGE : 0;
	return files < 2 || args->levels.low != PLOOP_LEVELS_ALL ? PLOOP_SHOW_USAGE : 0;
}

static void print_leftovers(const struct ploop_chain *chain)
{
	printf("merged into %s; not needed any more:\n", chain->images[0].path);
	for (size_t i = chain->n - 1; i > 0; i--)
		printf("  %s\n", chain->images[i].path);
}

/* paths: base first */
static int merge_files(char *const paths[], size_t n, const struct merge_args *args)
{
	const struct ploop_chain_params params = { .base_format = args->format, .merge = true };
	struct ploop_merge merge = { .reflink = args->reflink };
	struct ploop_chain chain;
	int rc;

	rc = ploop_chain_open(&chain, paths, n, &params);
	if (rc)
		return rc;
	merge.image = chain.images;
	merge.n = chain.n;
	merge.cluster_sectors = chain.cluster_sectors;
	rc = ploop_merge_images(&merge);
	if (rc == PLOOP_EXIT_CANCELLED)
		ploop_note("nothing is lost: run the same command again to complete the merge");
	if (!rc)
		print_leftovers(&chain);
	ploop_chain_close(&chain);
	return rc;
}

static int merge_offline(char *argv[], size_t n, const struct merge_args *args)
{
	char **paths = calloc(n, sizeof(*paths));
	int rc;

	if (!paths)
		return ploop_fail_memory();
	for (size_t i = 0; i < n; i++)
		paths[i] = argv[n - 1 - i];
	rc = merge_files(paths, n, args);
	free(paths);
	return rc;
}

static int merge_online(const struct merge_args *args)
{
	int index, rc;

	rc = ploop_node_parse(args->dev, &index);
	return rc ? rc : ploop_merge_online(index, &args->levels);
}

/**
 * ploop_cmd_merge() - ploop merge
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_merge(int argc, char *argv[])
{
	struct merge_args args;
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (rc)
		return rc;
	if (args.dev)
		return merge_online(&args);
	return merge_offline(argv + optind, (size_t)(argc - optind), &args);
}
