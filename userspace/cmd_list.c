// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "json.h"
#include "maintenance.h"
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

#define PERCENT		100

static const char *describe_state(const struct ploop_info *info, char text[PLOOP_SYSFS_NAME])
{
	const char *name = ploop_maintenance_name(info->maintenance);

	if (!info->running)
		return "stopped";
	if (info->aborted)
		return "aborted";
	if (info->maintenance == PLOOP_MNTN_OFF)
		return "running";
	if (!info->total)
		return name;
	snprintf(text, PLOOP_SYSFS_NAME, "%s %" PRIu64 "%%", name, info->done * PERCENT / info->total);
	return text;
}

static void print_device(const struct ploop_info *info)
{
	char size[PLOOP_SIZE_TEXT], cluster[PLOOP_SIZE_TEXT];
	char version[PLOOP_SYSFS_NAME], state[PLOOP_SYSFS_NAME];
	char *where = ploop_mounts_describe(info->index);

	ploop_size_format(size, info->size);
	ploop_size_format(cluster, (uint64_t)info->cluster_sectors << PLOOP_SECTOR_SHIFT);
	snprintf(version, sizeof(version), info->version ? "v%u" : "raw", info->version);
	printf("%-13s %8s %8s %-7s %-9s %s\n", info->node, size, cluster, version, describe_state(info, state),
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
		printf("%-13s %8s %8s %-7s %-9s %s\n", "DEVICE", "SIZE", "CLUSTER", "FORMAT",
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
	struct ploop_info_list list;
	bool json;
	int rc;

	rc = ploop_json_parse_args(argc, argv, &json, NULL);
	if (rc)
		return rc;
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
