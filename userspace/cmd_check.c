// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "cancel.h"
#include "image.h"
#include "lock.h"
#include "report.h"

const char ploop_check_usage[] =
	"Usage: ploop check [--repair] IMAGE\n"
	"\n"
	"Checks a ploop1 image that is not attached.\n"
	"\n"
	"  --repair  fill clusters behind the end of the file with zeros, extend the file\n"
	"            to whole clusters, and remove the mark that a crash left\n"
	"  -h        show this help\n"
	"\n"
	"Exit status: 0 good (or mended), 37 left in use by a crash, 11 damaged.\n";

/* the verdict on an image whose index is in order */
static int judge(const struct ploop_image *img, const struct ploop_image_usage *usage)
{
	printf("%s: %" PRIu64 " of %" PRIu32 " clusters used\n", img->path, usage->used,
	       img->clusters);
	if (ploop_image_is_dirty(img))
		return ploop_fail(PLOOP_EXIT_IN_USE,
				  "%s was left in use by a crash: run `ploop check --repair %s`, or just mount it",
				  img->path, img->path);
	if (usage->beyond_eof)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: %" PRIu64
				  " clusters are behind the end of the file, as after an interrupted copy: their data are lost; `ploop check --repair %s` makes them zeros",
				  img->path, usage->beyond_eof, img->path);
	if (ploop_image_is_ragged(img))
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: the file ends within a cluster: run `ploop check --repair %s`",
				  img->path, img->path);
	return 0;
}

static int check(const char *path, bool repair)
{
	struct ploop_image_usage usage;
	struct ploop_image img;
	int rc;

	rc = ploop_image_open(&img, path, repair);
	if (rc)
		return rc;
	rc = ploop_lock_image(&img, repair);
	if (!rc)
		rc = ploop_image_load(&img, PLOOP_FMT_PLOOP1);
	if (!rc)
		rc = ploop_image_check(&img, &usage);
	if (!rc && repair &&
	    (ploop_image_is_dirty(&img) || ploop_image_is_ragged(&img) || usage.beyond_eof)) {
		rc = ploop_image_recover(&img);
		if (!rc)
			usage.beyond_eof = 0;
	}
	if (!rc)
		rc = judge(&img, &usage);
	ploop_image_close(&img);
	return rc;
}

/**
 * ploop_cmd_check() - ploop check
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_check(int argc, char *argv[])
{
	static const struct option longs[] = {
		{ "repair", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool repair = false;
	int option, rc;

	while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (option == 'h')
			return PLOOP_SHOW_HELP;
		if (option != 'r')
			return PLOOP_SHOW_USAGE;
		repair = true;
	}
	if (argc - optind != 1)
		return PLOOP_SHOW_USAGE;
	rc = ploop_cancel_hold();
	return rc ? rc : check(argv[optind], repair);
}
