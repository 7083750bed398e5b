// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cancel.h"
#include "chain.h"
#include "image.h"
#include "image_repair.h"
#include "json.h"
#include "lock.h"
#include "report.h"

const char ploop_check_usage[] =
	"Usage: ploop check [-f] [-r | [--repair] [--fill-holes]] [--json] IMAGE...\n"
	"\n"
	"Checks ploop1 images that are not attached: header, index, and the clusters of\n"
	"the file. Of several images, base first and top last, also whether they fit.\n"
	"\n"
	"  --repair  put right what can be: fill clusters behind the end of the file with\n"
	"            zeros, extend the file to whole clusters, copy clusters that share a\n"
	"            place, remove entries behind the disk, give back clusters without an\n"
	"            entry, and remove the mark that a crash left\n"
	"  --fill-holes\n"
	"            then write zeros to all holes of good images, for OpenVZ tools, which\n"
	"            take no image with holes on ext4; it takes the space of the whole file\n"
	"  -r        never write, as without --repair and --fill-holes\n"
	"  -f        check also what was closed cleanly, which is always done\n"
	"  --json    print JSON\n"
	"  -h        show this help\n"
	"\n"
	"Exit status: 0 good (or mended), 37 left in use by a crash, 11 damaged, 38 the\n"
	"images do not belong together. Clusters without an entry do no harm: 0.\n";

/*
 * repair: of what was asked for
 * fill: holes of what is good
 * json: the results, or NULL
 */
struct check_args {
	bool repair;
	bool fill;
	struct json_object *json;
};

/*
 * image: what was checked
 * loaded: its header is good
 * examined: there are findings
 * repaired: it was written to
 * filled: bytes of its holes that are zeros now
 * rc: the verdict
 */
struct checked {
	struct ploop_image image;
	struct ploop_findings findings;
	bool loaded;
	bool examined;
	bool repaired;
	uint64_t filled;
	int rc;
};

static int damaged(const struct ploop_image *img, const struct ploop_image_usage *usage)
{
	const uint64_t bad = usage->nowhere + usage->duplicates + usage->outside;

	if (usage->nowhere)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: %" PRIu64 " entries of the index are bad; restore the image from a backup",
				  img->path, bad);
	if (bad)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: %" PRIu64
				  " entries of the index are bad; restore the image from a backup, or run `ploop check --repair %s`",
				  img->path, bad, img->path);
	return 0;
}

/* the verdict on an image */
static int judge(const struct ploop_image *img, const struct ploop_findings *findings)
{
	const struct ploop_image_usage *usage = &findings->usage;
	int rc;

	rc = damaged(img, usage);
	if (rc)
		return rc;
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

/* what is not as it should be, but does no harm */
static void print_remarks(const struct ploop_image *img, const struct ploop_findings *findings)
{
	if (findings->lost)
		printf("%s: %" PRIu64 " clusters of the file have no entry, %" PRIu64
		       " of them at its end: `ploop check --repair %s` gives them back\n",
		       img->path, findings->lost, findings->tail, img->path);
	if (findings->false_empty)
		printf("%s: the header says that nothing is used: `ploop check --repair %s` changes that\n",
		       img->path, img->path);
}

static int examine(struct checked *checked)
{
	int rc;

	ploop_findings_free(&checked->findings);
	rc = ploop_image_examine(&checked->image, &checked->findings);
	checked->examined = !rc;
	return rc;
}

static int fill_holes(struct checked *checked, const struct check_args *args)
{
	const int rc = ploop_image_fill_holes(&checked->image, &checked->filled);

	if (!rc && !args->json)
		printf("%s: %" PRIu64 " bytes of holes filled with zeros\n", checked->image.path,
		       checked->filled);
	return rc;
}

static int check_image(struct checked *checked, const struct check_args *args)
{
	struct ploop_image *img = &checked->image;
	int rc;

	rc = ploop_lock_image(img, args->repair || args->fill);
	if (!rc)
		rc = ploop_image_load(img, PLOOP_FMT_PLOOP1);
	if (rc)
		return rc;
	checked->loaded = true;
	rc = examine(checked);
	if (!rc && args->repair && ploop_findings_need_repair(img, &checked->findings)) {
		rc = ploop_image_repair(img, &checked->findings);
		checked->repaired = !rc;
		/* the verdict is about what is there now */
		if (!rc)
			rc = examine(checked);
	}
	if (rc)
		return rc;
	if (!args->json) {
		printf("%s: %" PRIu64 " of %" PRIu32 " clusters used\n", img->path,
		       checked->findings.usage.used, img->clusters);
		print_remarks(img, &checked->findings);
	}
	rc = judge(img, &checked->findings);
	return rc || !args->fill ? rc : fill_holes(checked, args);
}

static void add_findings(struct json_object *object, const struct checked *checked)
{
	const struct ploop_findings *findings = &checked->findings;
	const struct ploop_image *img = &checked->image;

	ploop_json_add_number(object, "clusters", img->clusters);
	ploop_json_add_number(object, "clusters_used", findings->usage.used);
	ploop_json_add_bool(object, "in_use", ploop_image_is_dirty(img));
	ploop_json_add_bool(object, "ragged", ploop_image_is_ragged(img));
	ploop_json_add_bool(object, "false_empty", findings->false_empty);
	ploop_json_add_number(object, "beyond_end", findings->usage.beyond_eof);
	ploop_json_add_number(object, "duplicates", findings->usage.duplicates);
	ploop_json_add_number(object, "outside_disk", findings->usage.outside);
	ploop_json_add_number(object, "nowhere", findings->usage.nowhere);
	ploop_json_add_number(object, "lost", findings->lost);
	ploop_json_add_number(object, "tail", findings->tail);
}

static void add_json(struct json_object *array, const struct checked *checked, const char *path)
{
	struct json_object *object = json_object_new_object();

	ploop_json_add_string(object, "image", checked->image.path ? checked->image.path : path);
	ploop_json_add_number(object, "status", (uint64_t)checked->rc);
	ploop_json_add_bool(object, "repaired", checked->repaired);
	ploop_json_add_number(object, "filled", checked->filled);
	if (checked->examined)
		add_findings(object, checked);
	json_object_array_add(array, object);
}

/* i: the next one; those before are still open */
static int check_next(struct checked *all, size_t i, const char *path,
		      const struct check_args *args)
{
	struct checked *this = &all[i];

	this->rc = ploop_image_open(&this->image, path, args->repair || args->fill);
	for (size_t j = 0; j < i && !this->rc; j++)
		this->rc = ploop_chain_refuse_same(&all[j].image, &this->image);
	if (!this->rc)
		this->rc = check_image(this, args);
	if (i && this->loaded && all[i - 1].loaded) {
		const int rc = ploop_chain_fit(&all[i - 1].image, &this->image);

		if (!this->rc)
			this->rc = rc;
	}
	if (args->json)
		add_json(args->json, this, path);
	return this->rc;
}

/* each image is looked at, whatever is found in others; the first verdict counts */
static int check_all(char *const paths[], size_t n, const struct check_args *args)
{
	struct checked *all = calloc(n, sizeof(*all));
	int verdict = 0;
	int rc;

	if (!all)
		return ploop_fail_memory();
	for (size_t i = 0; i < n; i++)
		all[i].image.fd = -1;
	for (size_t i = 0; i < n && !ploop_cancelled(); i++) {
		rc = check_next(all, i, paths[i], args);
		if (!verdict)
			verdict = rc;
	}
	if (!verdict && ploop_cancelled())
		verdict = ploop_fail_cancelled();
	for (size_t i = 0; i < n; i++) {
		ploop_findings_free(&all[i].findings);
		ploop_image_close(&all[i].image);
	}
	free(all);
	return verdict;
}

static int parse_args(int argc, char *argv[], struct check_args *args)
{
	static const struct option longs[] = {
		{ "repair", no_argument, NULL, 'R' },
		{ "fill-holes", no_argument, NULL, 'F' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool readonly = false, json = false;
	int option;

	*args = (struct check_args){ 0 };
	while ((option = getopt_long(argc, argv, "frh", longs, NULL)) != -1) {
		if (option == 'h')
			return PLOOP_SHOW_HELP;
		if (option == 'R')
			args->repair = true;
		else if (option == 'F')
			args->fill = true;
		else if (option == 'r')
			readonly = true;
		else if (option == 'j')
			json = true;
		else if (option != 'f')
			return PLOOP_SHOW_USAGE;
	}
	if (optind == argc || (readonly && (args->repair || args->fill)))
		return PLOOP_SHOW_USAGE;
	if (json)
		args->json = json_object_new_array();
	return 0;
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
	struct check_args args;
	int rc, print = 0;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (rc)
		return rc;
	rc = check_all(argv + optind, (size_t)(argc - optind), &args);
	if (args.json)
		print = ploop_json_print(args.json);
	return rc ? rc : print;
}
