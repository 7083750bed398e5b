// SPDX-License-Identifier: GPL-2.0-only
#include "json.h"

#include <getopt.h>
#include <stdio.h>

#include "commands.h"
#include "maintenance.h"
#include "report.h"
#include "size.h"

/**
 * ploop_json_parse_args() - read the options of a command that prints JSON too
 * @argc: number of arguments
 * @argv: the arguments; optind is moved behind the options
 * @json: out: --json was given
 * @dev: out: the argument of -d, or NULL; NULL when the command has no -d
 *
 * Return: 0, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_json_parse_args(int argc, char *argv[], bool *json, const char **dev)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	*json = false;
	if (dev)
		*dev = NULL;
	while ((option = getopt_long(argc, argv, dev ? "d:h" : "h", longs, NULL)) != -1) {
		if (option == 'h')
			return PLOOP_SHOW_HELP;
		if (option == 'd')
			*dev = optarg;
		else if (option == 'j')
			*json = true;
		else
			return PLOOP_SHOW_USAGE;
	}
	return 0;
}

/**
 * ploop_json_add_string() - add a text to an object
 * @object: the object
 * @key: its key
 * @value: the text; NULL becomes null
 */
void ploop_json_add_string(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, value ? json_object_new_string(value) : NULL);
}

/**
 * ploop_json_add_number() - add a number to an object
 * @object: the object
 * @key: its key
 * @value: the number
 */
void ploop_json_add_number(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

/**
 * ploop_json_add_bool() - add a truth value to an object
 * @object: the object
 * @key: its key
 * @value: the value
 */
void ploop_json_add_bool(struct json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

static struct json_object *deltas_of(const struct ploop_info *info)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < info->n_deltas; i++) {
		const struct ploop_delta *delta = &info->deltas[i];
		struct json_object *object = json_object_new_object();

		ploop_json_add_number(object, "level", delta->level);
		ploop_json_add_string(object, "image", delta->image);
		ploop_json_add_string(object, "format", delta->format);
		ploop_json_add_string(object, "io", delta->io);
		ploop_json_add_bool(object, "readonly", delta->readonly);
		json_object_array_add(array, object);
	}
	return array;
}

/* how far the work on the images is; null when that is not known */
static struct json_object *progress_of(const struct ploop_info *info)
{
	struct json_object *object;

	if (info->maintenance == PLOOP_MNTN_OFF || !info->total)
		return NULL;
	object = json_object_new_object();
	ploop_json_add_number(object, "done", info->done);
	ploop_json_add_number(object, "total", info->total);
	return object;
}

static struct json_object *mounts_of(const struct ploop_mount_list *mounts)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < mounts->n; i++) {
		struct json_object *object = json_object_new_object();

		ploop_json_add_string(object, "source", mounts->mount[i].source);
		ploop_json_add_string(object, "target", mounts->mount[i].target);
		ploop_json_add_string(object, "fstype", mounts->mount[i].fstype);
		json_object_array_add(array, object);
	}
	return array;
}

/**
 * ploop_json_device() - describe a device
 * @info: the device
 * @mounts: what is mounted from it
 *
 * Return: a new object.
 */
struct json_object *ploop_json_device(const struct ploop_info *info,
				      const struct ploop_mount_list *mounts)
{
	struct json_object *object = json_object_new_object();

	ploop_json_add_string(object, "device", info->node);
	ploop_json_add_number(object, "index", (uint64_t)info->index);
	ploop_json_add_number(object, "size", info->size);
	ploop_json_add_number(object, "cluster_size",
			      (uint64_t)info->cluster_sectors << PLOOP_SECTOR_SHIFT);
	ploop_json_add_number(object, "version", info->version);
	ploop_json_add_bool(object, "running", info->running);
	ploop_json_add_bool(object, "aborted", info->aborted);
	ploop_json_add_bool(object, "readonly", info->readonly);
	ploop_json_add_string(object, "maintenance", ploop_maintenance_name(info->maintenance));
	json_object_object_add(object, "progress", progress_of(info));
	json_object_object_add(object, "deltas", deltas_of(info));
	json_object_object_add(object, "mounts", mounts_of(mounts));
	return object;
}

/**
 * ploop_json_print() - print an object on stdout and free it
 * @object: the object
 *
 * Return: 0 or PLOOP_EXIT_WRITE.
 */
int ploop_json_print(struct json_object *object)
{
	const int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE;
	int written;

	written = puts(json_object_to_json_string_ext(object, flags));
	json_object_put(object);
	if (written < 0)
		return ploop_fail_errno(PLOOP_EXIT_WRITE, "cannot write to standard output");
	return 0;
}
