// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <blkid.h>

#include "image.h"
#include "json.h"
#include "mounts.h"
#include "node.h"
#include "report.h"
#include "size.h"
#include "sysfs.h"

const char ploop_info_usage[] =
	"Usage: ploop info [--json] IMAGE|DEV\n"
	"\n"
	"Describes an image, attached or not, or a device.\n"
	"\n"
	"  --json   print JSON, with sizes in bytes\n"
	"  -h       show this help\n";

/* where an image is attached */
struct place {
	char device[PLOOP_SYSFS_NAME];
	unsigned int level;
	bool readonly;
};

static int find_place(const struct ploop_image *img, struct place *place)
{
	struct ploop_info_list list;
	int rc;

	place->device[0] = '\0';
	rc = ploop_sysfs_list(&list);
	if (rc)
		return rc;
	for (size_t i = 0; i < list.n && !place->device[0]; i++) {
		const struct ploop_delta *delta;

		delta = ploop_sysfs_find_delta(&list.info[i], img->dev, img->ino);
		if (!delta)
			continue;
		snprintf(place->device, sizeof(place->device), "%s", list.info[i].node);
		place->level = delta->level;
		place->readonly = delta->readonly;
	}
	ploop_sysfs_free_list(&list);
	return 0;
}

static const char *state_of(const struct ploop_image *img, const struct place *place)
{
	if (place->device[0])
		return "attached";
	return ploop_image_is_dirty(img) ? "crashed" : "closed";
}

static int print_image_json(const struct ploop_image *img, const struct place *place, uint64_t used)
{
	struct json_object *object = json_object_new_object();

	ploop_json_add_string(object, "image", img->path);
	ploop_json_add_string(object, "format", ploop_format_name(img->format));
	ploop_json_add_number(object, "size", img->size << PLOOP_SECTOR_SHIFT);
	ploop_json_add_number(object, "file_size", img->file_size);
	ploop_json_add_number(object, "allocated", img->allocated);
	ploop_json_add_string(object, "state", state_of(img, place));
	ploop_json_add_string(object, "device", place->device[0] ? place->device : NULL);
	if (place->device[0])
		ploop_json_add_number(object, "level", place->level);
	if (img->format == PLOOP_FMT_PLOOP1) {
		ploop_json_add_number(object, "version", img->version);
		ploop_json_add_number(object, "cluster_size", ploop_image_cluster_bytes(img));
		ploop_json_add_number(object, "clusters", img->clusters);
		ploop_json_add_number(object, "clusters_used", used);
	}
	return ploop_json_print(object);
}

static void print_size(const char *name, uint64_t bytes)
{
	char text[PLOOP_SIZE_TEXT];

	printf("%-14s %" PRIu64 " (%s)\n", name, bytes, ploop_size_format(text, bytes));
}

static void print_image(const struct ploop_image *img, const struct place *place, uint64_t used)
{
	printf("%-14s %s\n", "image:", img->path);
	printf("%-14s %s\n", "format:", ploop_format_name(img->format));
	if (img->format == PLOOP_FMT_PLOOP1)
		printf("%-14s %u\n", "version:", img->version);
	print_size("size:", img->size << PLOOP_SECTOR_SHIFT);
	print_size("file size:", img->file_size);
	print_size("allocated:", img->allocated);
	if (img->format == PLOOP_FMT_PLOOP1) {
		print_size("cluster size:", ploop_image_cluster_bytes(img));
		printf("%-14s %" PRIu64 " of %" PRIu32 "\n", "clusters used:", used, img->clusters);
	}
	printf("%-14s %s\n", "state:", state_of(img, place));
	if (place->device[0])
		printf("%-14s %s, level %u, %s\n", "device:", place->device, place->level,
		       place->readonly ? "read-only" : "writable");
}

static int load_any(struct ploop_image *img)
{
	bool ploop1;
	int rc;

	rc = ploop_image_has_signature(img, &ploop1);
	return rc ? rc : ploop_image_load(img, ploop1 ? PLOOP_FMT_PLOOP1 : PLOOP_FMT_RAW);
}

static int show_image(const char *path, bool json)
{
	struct ploop_image img;
	struct place place;
	uint64_t used = 0;
	int rc;

	rc = ploop_image_open(&img, path, false);
	if (rc)
		return rc;
	rc = load_any(&img);
	if (!rc && img.format == PLOOP_FMT_PLOOP1)
		rc = ploop_image_count(&img, &used);
	if (!rc)
		rc = find_place(&img, &place);
	if (!rc && json)
		rc = print_image_json(&img, &place, used);
	else if (!rc)
		print_image(&img, &place, used);
	ploop_image_close(&img);
	return rc;
}

/* name of the filesystem on a node, or false */
static bool find_type(const char *node, char type[PLOOP_SYSFS_NAME])
{
	blkid_probe probe = blkid_new_probe_from_filename(node);
	const char *value;
	bool found = false;

	if (!probe)
		return false;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE);
	if (!blkid_do_safeprobe(probe) && !blkid_probe_lookup_value(probe, "TYPE", &value, NULL)) {
		snprintf(type, PLOOP_SYSFS_NAME, "%s", value);
		found = true;
	}
	blkid_free_probe(probe);
	return found;
}

/* calls for the disk and each partition that has a filesystem */
static void each_filesystem(const struct ploop_info *info,
			    void (*fn)(const char *node, const char *type, void *data), void *data)
{
	char pattern[PLOOP_SYSFS_PATH], node[PLOOP_NODE_PATH], type[PLOOP_SYSFS_NAME];
	glob_t found;

	if (find_type(info->node, type))
		fn(info->node, type, data);
	snprintf(pattern, sizeof(pattern), PLOOP_SYSFS_BLOCK "/ploop%d/ploop%dp*", info->index,
		 info->index);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *slash = strrchr(found.gl_pathv[i], '/');

		snprintf(node, sizeof(node), "/dev/%s", slash + 1);
		if (find_type(node, type))
			fn(node, type, data);
	}
	globfree(&found);
}

static void add_filesystem_json(const char *node, const char *type, void *data)
{
	struct json_object *object = json_object_new_object();

	ploop_json_add_string(object, "node", node);
	ploop_json_add_string(object, "fstype", type);
	json_object_array_add(data, object);
}

static int print_device_json(const struct ploop_info *info, const struct ploop_mount_list *mounts)
{
	struct json_object *object = ploop_json_device(info, mounts);
	struct json_object *filesystems = json_object_new_array();

	each_filesystem(info, add_filesystem_json, filesystems);
	json_object_object_add(object, "filesystems", filesystems);
	return ploop_json_print(object);
}

static void print_filesystem(const char *node, const char *type, void *data)
{
	(void)data;
	printf("%-14s %s on %s\n", "filesystem:", type, node);
}

static void print_device(const struct ploop_info *info, const struct ploop_mount_list *mounts)
{
	printf("%-14s %s\n", "device:", info->node);
	print_size("size:", info->size);
	print_size("cluster size:", (uint64_t)info->cluster_sectors << PLOOP_SECTOR_SHIFT);
	printf("%-14s %s%s%s\n", "state:", info->running ? "running" : "stopped",
	       info->readonly ? ", read-only" : "", info->aborted ? ", aborted" : "");
	if (info->version)
		printf("%-14s %u\n", "version:", info->version);
	for (size_t i = 0; i < info->n_deltas; i++) {
		const struct ploop_delta *delta = &info->deltas[i];

		printf("level %-8u %s (%s, %s, %s)\n", delta->level, delta->image, delta->format,
		       delta->io, delta->readonly ? "ro" : "rw");
	}
	each_filesystem(info, print_filesystem, NULL);
	for (size_t i = 0; i < mounts->n; i++)
		printf("%-14s %s on %s\n", "mounted:", mounts->mount[i].source,
		       mounts->mount[i].target);
}

static int show_device(const char *arg, bool json)
{
	struct ploop_mount_list mounts;
	struct ploop_info info;
	int index, rc;

	rc = ploop_node_parse(arg, &index);
	if (!rc)
		rc = ploop_sysfs_device(index, &info);
	if (rc)
		return rc;
	if (!info.n_deltas) {
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED, "%s has no images; see `ploop list`",
				info.node);
		goto out_free_info;
	}
	rc = ploop_mounts_list(index, &mounts);
	if (rc)
		goto out_free_info;
	if (json)
		rc = print_device_json(&info, &mounts);
	else
		print_device(&info, &mounts);
	ploop_mounts_free(&mounts);
out_free_info:
	ploop_sysfs_free(&info);
	return rc;
}

/**
 * ploop_cmd_info() - ploop info
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_info(int argc, char *argv[])
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (option == 'h')
			return PLOOP_SHOW_HELP;
		if (option != 'j')
			return PLOOP_SHOW_USAGE;
		json = true;
	}
	if (argc - optind != 1)
		return PLOOP_SHOW_USAGE;
	if (ploop_node_is_name(argv[optind]))
		return show_device(argv[optind], json);
	return show_image(argv[optind], json);
}
