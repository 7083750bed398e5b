// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "filesystems.h"
#include "image.h"
#include "json.h"
#include "maintenance.h"
#include "mounts.h"
#include "node.h"
#include "report.h"
#include "size.h"
#include "space.h"
#include "sysfs.h"

const char ploop_info_usage[] =
	"Usage: ploop info [--json] IMAGE|DEV\n"
	"\n"
	"Describes an image, attached or not, or a device.\n"
	"\n"
	"  --json   print JSON, with sizes in bytes\n"
	"  -h       show this help\n";

/*
 * Where an image is attached.
 * space: of the device; all zero when it is not attached
 */
struct place {
	char device[PLOOP_SYSFS_NAME];
	unsigned int level;
	bool readonly;
	struct ploop_space_use space;
};

static int read_space(const struct ploop_info *info, struct ploop_space_use *space)
{
	struct ploop_mount_list mounts;
	int rc;

	rc = ploop_mounts_list(info->index, &mounts);
	if (rc)
		return rc;
	rc = ploop_space_use(info, &mounts, space);
	ploop_mounts_free(&mounts);
	return rc;
}

static int find_place(const struct ploop_image *img, struct place *place)
{
	struct ploop_info_list list;
	int rc;

	*place = (struct place){ 0 };
	rc = ploop_sysfs_list(&list);
	if (rc)
		return rc;
	for (size_t i = 0; i < list.n && !place->device[0] && !rc; i++) {
		const struct ploop_delta *delta;

		delta = ploop_sysfs_find_delta(&list.info[i], img->dev, img->ino);
		if (!delta)
			continue;
		snprintf(place->device, sizeof(place->device), "%s", list.info[i].node);
		place->level = delta->level;
		place->readonly = delta->readonly;
		rc = read_space(&list.info[i], &place->space);
	}
	ploop_sysfs_free_list(&list);
	return rc;
}

static const char *state_of(const struct ploop_image *img, const struct place *place)
{
	if (place->device[0])
		return "attached";
	return ploop_image_is_dirty(img) ? "crashed" : "closed";
}

/*
 * image: what is described
 * place: where it is attached
 * used: clusters that are mapped; ploop1 only
 * shared: whether it shares blocks with other files
 */
struct description {
	struct ploop_image image;
	struct place place;
	uint64_t used;
	enum ploop_shared shared;
};

/* null: not mounted, no balloon file */
static void add_filesystem_use(struct json_object *object, const struct ploop_space_use *space)
{
	json_object_object_add(object, "filesystem_used",
			       space->mounted ? json_object_new_uint64(space->used) : NULL);
	json_object_object_add(object, "balloon",
			       space->has_balloon ? json_object_new_uint64(space->balloon) : NULL);
}

static int print_image_json(const struct description *description)
{
	const struct ploop_image *img = &description->image;
	const struct place *place = &description->place;
	struct json_object *object = json_object_new_object();

	ploop_json_add_string(object, "image", img->path);
	ploop_json_add_string(object, "format", ploop_format_name(img->format));
	ploop_json_add_number(object, "size", img->size << PLOOP_SECTOR_SHIFT);
	ploop_json_add_number(object, "file_size", img->file_size);
	ploop_json_add_number(object, "allocated", img->allocated);
	add_filesystem_use(object, &place->space);
	ploop_json_add_string(object, "state", state_of(img, place));
	ploop_json_add_string(object, "device", place->device[0] ? place->device : NULL);
	if (place->device[0])
		ploop_json_add_number(object, "level", place->level);
	if (img->format == PLOOP_FMT_PLOOP1) {
		ploop_json_add_number(object, "version", img->version);
		ploop_json_add_number(object, "cluster_size", ploop_image_cluster_bytes(img));
		ploop_json_add_number(object, "clusters", img->clusters);
		ploop_json_add_number(object, "clusters_used", description->used);
	}
	if (description->shared == PLOOP_SHARED_UNKNOWN)
		json_object_object_add(object, "shares_blocks", NULL);
	else
		ploop_json_add_bool(object, "shares_blocks",
				    description->shared == PLOOP_SHARED_YES);
	return ploop_json_print(object);
}

static void print_size(const char *name, uint64_t bytes)
{
	char text[PLOOP_SIZE_TEXT];

	printf("%-14s %" PRIu64 " (%s)\n", name, bytes, ploop_size_format(text, bytes));
}

static void print_filesystem_use(const struct ploop_space_use *space)
{
	if (space->mounted)
		print_size("fs use:", space->used);
	if (space->has_balloon)
		print_size("balloon:", space->balloon);
}

static void print_image(const struct description *description)
{
	const struct ploop_image *img = &description->image;
	const struct place *place = &description->place;

	printf("%-14s %s\n", "image:", img->path);
	printf("%-14s %s\n", "format:", ploop_format_name(img->format));
	if (img->format == PLOOP_FMT_PLOOP1)
		printf("%-14s %u\n", "version:", img->version);
	print_size("size:", img->size << PLOOP_SECTOR_SHIFT);
	print_size("file size:", img->file_size);
	print_size("allocated:", img->allocated);
	print_filesystem_use(&place->space);
	if (img->format == PLOOP_FMT_PLOOP1) {
		print_size("cluster size:", ploop_image_cluster_bytes(img));
		printf("%-14s %" PRIu64 " of %" PRIu32 "\n", "clusters used:",
		       description->used, img->clusters);
	}
	if (description->shared == PLOOP_SHARED_YES)
		printf("%-14s with other files: the image is slower until it is copied\n",
		       "shares blocks:");
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
	struct description description = { 0 };
	struct ploop_image *img = &description.image;
	int rc;

	rc = ploop_image_open(img, path, false);
	if (rc)
		return rc;
	description.shared = ploop_image_shared(img);
	rc = load_any(img);
	if (!rc && img->format == PLOOP_FMT_PLOOP1)
		rc = ploop_image_count(img, &description.used);
	if (!rc)
		rc = find_place(img, &description.place);
	if (!rc && json)
		rc = print_image_json(&description);
	else if (!rc)
		print_image(&description);
	ploop_image_close(img);
	return rc;
}

static void add_filesystem_json(const char *node, const char *type, void *data)
{
	struct json_object *object = json_object_new_object();

	ploop_json_add_string(object, "node", node);
	ploop_json_add_string(object, "fstype", type);
	json_object_array_add(data, object);
}

static int print_device_json(const struct ploop_info *info, const struct ploop_mount_list *mounts,
			     const struct ploop_space_use *space)
{
	struct json_object *object = ploop_json_device(info, mounts);
	struct json_object *filesystems = json_object_new_array();

	ploop_filesystems_each(info, add_filesystem_json, filesystems);
	json_object_object_add(object, "filesystems", filesystems);
	ploop_json_add_number(object, "file_size", space->file);
	ploop_json_add_number(object, "allocated", space->allocated);
	add_filesystem_use(object, space);
	return ploop_json_print(object);
}

static void print_filesystem(const char *node, const char *type, void *data)
{
	(void)data;
	printf("%-14s %s on %s\n", "filesystem:", type, node);
}

static void print_maintenance(const struct ploop_info *info)
{
	if (info->maintenance == PLOOP_MNTN_OFF)
		return;
	printf("%-14s %s", "maintenance:", ploop_maintenance_name(info->maintenance));
	if (info->total)
		printf(", %" PRIu64 " of %" PRIu64 " clusters", info->done, info->total);
	putchar('\n');
}

static void print_device(const struct ploop_info *info, const struct ploop_mount_list *mounts,
			 const struct ploop_space_use *space)
{
	printf("%-14s %s\n", "device:", info->node);
	print_size("size:", info->size);
	print_size("cluster size:", (uint64_t)info->cluster_sectors << PLOOP_SECTOR_SHIFT);
	printf("%-14s %s%s%s\n", "state:", info->running ? "running" : "stopped",
	       info->readonly ? ", read-only" : "", info->aborted ? ", aborted" : "");
	print_maintenance(info);
	if (info->version)
		printf("%-14s %u\n", "version:", info->version);
	for (size_t i = 0; i < info->n_deltas; i++) {
		const struct ploop_delta *delta = &info->deltas[i];

		printf("level %-8u %s (%s, %s, %s)\n", delta->level, delta->image, delta->format,
		       delta->io, delta->readonly ? "ro" : "rw");
	}
	print_size("file size:", space->file);
	print_size("allocated:", space->allocated);
	print_filesystem_use(space);
	ploop_filesystems_each(info, print_filesystem, NULL);
	for (size_t i = 0; i < mounts->n; i++)
		printf("%-14s %s on %s\n", "mounted:", mounts->mount[i].source,
		       mounts->mount[i].target);
}

static int show_device(const char *arg, bool json)
{
	struct ploop_mount_list mounts;
	struct ploop_space_use space;
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
	rc = ploop_space_use(&info, &mounts, &space);
	if (!rc && json)
		rc = print_device_json(&info, &mounts, &space);
	else if (!rc)
		print_device(&info, &mounts, &space);
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
	bool json;
	int rc;

	rc = ploop_json_parse_args(argc, argv, &json, NULL);
	if (rc)
		return rc;
	if (argc - optind != 1)
		return PLOOP_SHOW_USAGE;
	if (ploop_node_is_name(argv[optind]))
		return show_device(argv[optind], json);
	return show_image(argv[optind], json);
}
