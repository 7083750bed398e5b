// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "balloon.h"
#include "cancel.h"
#include "extents.h"
#include "json.h"
#include "maintenance.h"
#include "mounts.h"
#include "node.h"
#include "reloc.h"
#include "report.h"
#include "size.h"

const char ploop_balloon_usage[] =
	"Usage: ploop balloon change -s SIZE [-d DEV] [-m DIR]\n"
	"       ploop balloon show|status [--json] [-d DEV] [-m DIR]\n"
	"       ploop balloon clear|complete|check|repair [-d DEV] [-m DIR]\n"
	"\n"
	"A balloon is a file in an ext4 filesystem that takes space away from it. The\n"
	"clusters it gets are taken out of the top image, and the image becomes shorter.\n"
	"\n"
	"  change      make the balloon as large as SIZE; smaller: the filesystem gets\n"
	"              space back\n"
	"  show        print the size of the balloon\n"
	"  status      print what is done to the images of the device now: OFF, BALLOON,\n"
	"              FBLOADED (also known as FBLOAD), RELOC, MERGE, GROW, SNAPSHOT, TRACK\n"
	"              or DISCARD\n"
	"  clear       leave state BALLOON, which a command that was killed left behind\n"
	"  complete    complete a change that was killed in state FBLOADED or RELOC, and\n"
	"              leave state DISCARD\n"
	"  check       count clusters of the balloon that the image still has, as when a\n"
	"              change was killed, and status is OFF or BALLOON\n"
	"  repair      give these clusters back; as change, but the size stays\n"
	"\n"
	"  -s SIZE     the new size of the balloon, rounded up to blocks\n"
	"  -d DEV      the device, as /dev/ploop0\n"
	"  -m DIR      where the filesystem is mounted; -d or -m is enough\n"
	"  -f          of show and status: no effect; for old scripts\n"
	"  --json      print JSON\n"
	"  -h, --help  show this help\n"
	"\n"
	"Sizes are numbers of 512-byte sectors, or have a letter: k, m, g or t.\n";

/*
 * What a command works on: session only for those that change something, balloon
 * with fd -1 where none is needed.
 */
struct job {
	struct ploop_maintenance_session session;
	struct ploop_balloon balloon;
	uint64_t size;
};

struct balloon_args {
	int index;
	const char *dir;
	uint64_t size;
	bool size_given;
	bool json;
};

static void print_truncated(const struct job *job, uint32_t clusters)
{
	const uint64_t cluster = (uint64_t)job->session.info.cluster_sectors << PLOOP_SECTOR_SHIFT;

	printf("TRUNCATED: %" PRIu32 " cluster-blocks (%" PRIu64 " bytes)\n", clusters,
	       clusters * cluster);
}

/* clusters of the top image that hold nothing but the balloon; state BALLOON */
static int find_unused(struct job *job, struct ploop_extents *extents)
{
	const uint64_t cluster = (uint64_t)job->session.info.cluster_sectors << PLOOP_SECTOR_SHIFT;
	struct ploop_ranges ranges;
	int rc;

	memset(extents, 0, sizeof(*extents));
	rc = ploop_balloon_blocks(&job->balloon, &ranges);
	if (!rc) {
		ploop_ranges_to_clusters(&ranges, cluster);
		rc = ploop_reloc_find(&job->session, &ranges, extents);
	}
	ploop_ranges_free(&ranges);
	return rc;
}

static int give_back(struct job *job, const struct ploop_extents *extents)
{
	uint32_t cut;
	int rc;

	rc = ploop_reloc_load(&job->session, extents);
	if (!rc)
		rc = ploop_reloc_run(&job->session, &cut);
	if (!rc)
		print_truncated(job, cut);
	return rc;
}

/* everything that the balloon has, so that nothing is left of a change that was killed */
static int process(struct job *job)
{
	struct ploop_extents extents;
	int rc;

	rc = find_unused(job, &extents);
	if (!rc && extents.n)
		rc = give_back(job, &extents);
	else if (!rc)
		puts("No unused cluster-blocks found");
	ploop_extents_free(&extents);
	return rc;
}

/* only a state that a command which was killed left behind is taken over */
static int refuse_busy(const struct job *job)
{
	const struct ploop_info *info = &job->session.info;

	if (info->maintenance == PLOOP_MNTN_OFF || info->maintenance == PLOOP_MNTN_BALLOON)
		return 0;
	return ploop_maintenance_refuse(info);
}

/* fn: works in state BALLOON */
static int with_balloon_state(struct job *job, int (*fn)(struct job *job))
{
	int rc, end_rc;

	rc = ploop_reloc_begin(&job->session);
	if (rc)
		return rc;
	rc = fn(job);
	if (job->session.info.maintenance != PLOOP_MNTN_BALLOON)
		return rc;
	end_rc = ploop_reloc_end(&job->session);
	return rc ? rc : end_rc;
}

static int inflate(struct job *job)
{
	const uint64_t old = job->balloon.size;
	int rc;

	rc = ploop_balloon_resize(&job->balloon, job->size);
	if (rc)
		return rc;
	rc = process(job);
	/* all or nothing, until the driver has the list */
	if (rc && job->session.info.maintenance == PLOOP_MNTN_BALLOON) {
		ploop_balloon_resize(&job->balloon, old);
		return rc;
	}
	if (!rc)
		printf("Successfully inflated balloon from %" PRIu64 " to %" PRIu64 " bytes\n",
		       old, job->size);
	return rc;
}

static int deflate(struct job *job)
{
	const uint64_t old = job->balloon.size;
	int rc = 0;

	if (job->session.info.maintenance == PLOOP_MNTN_BALLOON)
		rc = ploop_reloc_end(&job->session);
	if (!rc)
		rc = ploop_balloon_resize(&job->balloon, job->size);
	if (!rc)
		printf("Successfully truncated balloon from %" PRIu64 " to %" PRIu64 " bytes\n",
		       old, job->size);
	return rc;
}

static int change(struct job *job)
{
	int rc;

	rc = refuse_busy(job);
	if (rc)
		return rc;
	job->size = ploop_round_up(job->size, job->balloon.block);
	if (job->size > job->balloon.size)
		return with_balloon_state(job, inflate);
	if (job->size < job->balloon.size)
		return deflate(job);
	printf("Nothing to do: the balloon has %" PRIu64 " bytes\n", job->size);
	return 0;
}

static int clear(struct job *job)
{
	int rc;

	rc = refuse_busy(job);
	if (!rc)
		rc = ploop_reloc_end(&job->session);
	if (rc)
		return rc;
	/* it may have become another one meanwhile */
	if (job->session.info.maintenance != PLOOP_MNTN_OFF)
		return ploop_maintenance_refuse(&job->session.info);
	puts("Current state of in-kernel maintenance is OFF now");
	return 0;
}

static int complete_reloc(struct job *job)
{
	uint32_t cut;
	int error;

	error = ploop_reloc_wait(&job->session, &cut);
	if (error)
		return ploop_maintenance_failed(&job->session.dev, PLOOP_MNTN_RELOC, error);
	print_truncated(job, cut);
	return 0;
}

static int complete_list(struct job *job)
{
	uint32_t cut;
	int rc;

	rc = ploop_reloc_run(&job->session, &cut);
	if (!rc)
		print_truncated(job, cut);
	return rc;
}

/* discards may be collected in each of the three states */
static int complete(struct job *job)
{
	const unsigned int state = job->session.info.maintenance;
	int rc;

	switch (state) {
	case PLOOP_MNTN_FBLOADED:
		rc = ploop_reloc_end_discard(&job->session);
		return rc ? rc : complete_list(job);
	case PLOOP_MNTN_RELOC:
		rc = ploop_reloc_end_discard(&job->session);
		return rc ? rc : complete_reloc(job);
	case PLOOP_MNTN_DISCARD:
		rc = ploop_reloc_end_discard(&job->session);
		if (!rc)
			puts("Discards are not collected any more");
		return rc;
	}
	printf("Nothing to complete: the state of in-kernel maintenance is %s\n",
	       ploop_maintenance_name(state));
	return 0;
}

static int count_unused(struct job *job)
{
	struct ploop_extents extents;
	uint64_t n;
	int rc;

	rc = find_unused(job, &extents);
	n = ploop_extents_count(&extents, 0, UINT32_MAX);
	if (!rc && n)
		printf("Found %" PRIu64 " free blocks; give them back with `ploop balloon repair -m %s`\n",
		       n, job->balloon.dir);
	else if (!rc)
		puts("No free blocks found");
	ploop_extents_free(&extents);
	return rc;
}

/* an empty balloon has nothing to look at */
static int examine(struct job *job, int (*fn)(struct job *job))
{
	int rc;

	rc = refuse_busy(job);
	if (rc)
		return rc;
	if (job->balloon.size)
		return with_balloon_state(job, fn);
	puts("The balloon is empty: no free blocks");
	if (job->session.info.maintenance == PLOOP_MNTN_BALLOON)
		rc = ploop_reloc_end(&job->session);
	return rc;
}

static int check(struct job *job)
{
	return examine(job, count_unused);
}

static int repair(struct job *job)
{
	return examine(job, process);
}

static int show(const struct balloon_args *args)
{
	struct ploop_balloon balloon;
	struct json_object *object;
	int rc;

	rc = ploop_balloon_find(&balloon, args->index, args->dir);
	if (!rc)
		rc = ploop_balloon_require(&balloon);
	if (!rc && args->json) {
		object = json_object_new_object();
		ploop_json_add_string(object, "mount", balloon.dir);
		ploop_json_add_number(object, "balloon", balloon.size);
		rc = ploop_json_print(object);
	} else if (!rc) {
		printf("Current size of hidden balloon is %" PRIu64 " bytes\n", balloon.size);
	}
	ploop_balloon_close(&balloon);
	return rc;
}

/* only reads: asking never changes the state, and never waits for it */
static int status(const struct balloon_args *args)
{
	struct json_object *object;
	struct ploop_info info;
	int rc;

	rc = ploop_sysfs_device(args->index, &info);
	if (rc)
		return rc;
	if (!info.n_deltas) {
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED, "%s has no images; see `ploop list`",
				info.node);
	} else if (args->json) {
		object = json_object_new_object();
		ploop_json_add_string(object, "device", info.node);
		ploop_json_add_string(object, "maintenance",
				      ploop_maintenance_name(info.maintenance));
		rc = ploop_json_print(object);
	} else {
		printf("Current state of in-kernel maintenance: %s\n",
		       ploop_maintenance_name(info.maintenance));
	}
	ploop_sysfs_free(&info);
	return rc;
}

/*
 * name: the word after balloon
 * query: only reads
 * job: works on a device that nobody else has
 * needs_balloon: a filesystem with a balloon file must be mounted
 */
struct subcommand {
	const char *name;
	int (*query)(const struct balloon_args *args);
	int (*job)(struct job *job);
	bool needs_balloon;
};

static const struct subcommand subcommands[] = {
	{ .name = "change", .job = change, .needs_balloon = true },
	{ .name = "show", .query = show },
	{ .name = "status", .query = status },
	{ .name = "clear", .job = clear },
	{ .name = "complete", .job = complete },
	{ .name = "check", .job = check, .needs_balloon = true },
	{ .name = "repair", .job = repair, .needs_balloon = true },
};

static const struct subcommand *find_subcommand(const char *name)
{
	for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
		if (!strcmp(name, subcommands[i].name))
			return &subcommands[i];
	return NULL;
}

static int run_job(const struct subcommand *subcommand, const struct balloon_args *args)
{
	struct job job = { .size = args->size << PLOOP_SECTOR_SHIFT };
	int rc;

	rc = ploop_maintenance_open(&job.session, args->index);
	if (rc)
		return rc;
	rc = ploop_balloon_find(&job.balloon, args->index, args->dir);
	if (!rc && subcommand->needs_balloon)
		rc = ploop_balloon_require(&job.balloon);
	if (!rc && job.balloon.fd >= 0)
		rc = ploop_balloon_lock(&job.balloon);
	if (!rc)
		rc = subcommand->job(&job);
	ploop_balloon_close(&job.balloon);
	ploop_maintenance_end(&job.session);
	return rc;
}

static int parse_args(int argc, char *argv[], const struct subcommand *subcommand,
		      struct balloon_args *args)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *dev = NULL;
	bool force = false;
	int option, rc;

	while ((option = getopt_long(argc, argv, "s:d:m:fh", longs, NULL)) != -1) {
		switch (option) {
		case 's':
			rc = ploop_size_parse_any("-s", optarg, &args->size);
			if (rc)
				return rc;
			args->size_given = true;
			break;
		case 'd':
			dev = optarg;
			break;
		case 'm':
			args->dir = optarg;
			break;
		case 'j':
			args->json = true;
			break;
		case 'f':
			force = true;
			break;
		case 'h':
			return PLOOP_SHOW_HELP;
		default:
			return PLOOP_SHOW_USAGE;
		}
	}
	if (optind != argc || (!dev && !args->dir) || ((args->json || force) && !subcommand->query) ||
	    args->size_given != (subcommand->job == change))
		return PLOOP_SHOW_USAGE;
	return ploop_mounts_find_device(dev, args->dir, &args->index);
}

/**
 * ploop_cmd_balloon() - ploop balloon
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_balloon(int argc, char *argv[])
{
	const struct subcommand *subcommand;
	struct balloon_args args = { 0 };
	int rc;

	if (argc < 2)
		return PLOOP_SHOW_USAGE;
	if (!strcmp(argv[1], "-h"))
		return PLOOP_SHOW_HELP;
	subcommand = find_subcommand(argv[1]);
	if (!subcommand)
		return PLOOP_SHOW_USAGE;
	rc = parse_args(argc - 1, argv + 1, subcommand, &args);
	if (rc)
		return rc;
	if (subcommand->query)
		return subcommand->query(&args);
	rc = ploop_cancel_hold();
	return rc ? rc : run_job(subcommand, &args);
}
