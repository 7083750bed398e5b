// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

#include "json.h"
#include "mounts.h"
#include "report.h"
#include "size.h"
#include "sysfs.h"

const char ploop_list_usage[] =
	"Usage: ploop list [--json]\n"
	"\n"
	"Lists the devices that have images: a line for each device, and below it a\n"
	"line for each image, the base first.\n"
	"\n"
	"  --json   print JSON, with sizes in bytes\n"
	"  -h       show this help\n";

static const char *state_of(const struct ploop_info *info)
{
	if (!info->running)
		return "stopped";
	return info->aborted ? "aborted" : "running";
}

static void print_device(const struct ploop_info *info)
{
	char size[PLOOP_SIZE_TEXT], cluster[PLOOP_SIZE_TEXT], version[PLOOP_SYSFS_NAME];
	char *where = ploop_mounts_describe(info->index);

	ploop_size_format(size, info->size);
	ploop_size_format(cluster, (uint64_t)info->cluster_sectors << PLOOP_SECTOR_SHIFT);
	snprintf(version, sizeof(version), info->version ? "v%u" : "raw", info->version);
	printf("%-13s %8s %8s %-7s %-8s %s\n", info->node, size, cluster, version, state_of(info),
	       where ? where : "-");
	for (size_t i = 0; i < info->n_deltas; i++) {
		const struct ploop_delta *delta = &info->deltas[i];

		printf("  %3u %-6s %s %s\n", delta->level, delta->format,
		       delta->readonly ? "ro" : "rw", delta->image);
	}
	ploop_mounts_free_description(where);
}

static void print_text(const struct ploop_info_list *list)
{
	if (list->n)
		printf("%-13s %8s %8s %-7s %-8s %s\n", "DEVICE", "SIZE", "CLUSTER", "FORMAT",
		       "STATE", "MOUNTED ON");
	for (size_t i = 0; i < list->n; i++)
		print_device(&list->info[i]);
}

static int print_json(const struct ploop_info_list *list)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < list->n; i++) {
		struct ploop_mount_list mounts;
		const int rc = ploop_mounts_list(list->info[i].index, &mounts);

		if (rc) {
			json_object_put(array);
			return rc;
		}
		json_object_array_add(array, ploop_json_device(&list->info[i], &mounts));
		ploop_mounts_free(&mounts);
	}
	return ploop_json_print(array);
}

/**
 * ploop_cmd_list() - ploop list
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_list(int argc, char *argv[])
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct ploop_info_list list;
	bool json = false;
	int option, rc;

	while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (option == 'h')
			return PLOOP_SHOW_HELP;
		if (option != 'j')
			return PLOOP_SHOW_USAGE;
		json = true;
	}
	if (optind != argc)
		return PLOOP_SHOW_USAGE;
	rc = ploop_sysfs_list(&list);
	if (rc)
		return rc;
	if (json)
		rc = print_json(&list);
	else
		print_text(&list);
	ploop_sysfs_free_list(&list);
	return rc;
}
