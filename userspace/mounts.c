// SPDX-License-Identifier: GPL-2.0-only
#include "mounts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <libmount.h>

#include "cancel.h"
#include "node.h"
#include "report.h"
#include "sysfs.h"

#define MOUNTINFO	"/proc/self/mountinfo"
/* room for a message of libmount */
#define MESSAGE_SIZE	1024

static struct libmnt_table *read_table(void)
{
	struct libmnt_table *table = mnt_new_table_from_file(MOUNTINFO);

	if (!table)
		ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot read %s", MOUNTINFO);
	return table;
}

/*
 * Index of the device a filesystem is on, or -1. Not every filesystem shows
 * its device's number (btrfs has one of its own), so the source counts too.
 */
static int fs_index(struct libmnt_fs *fs)
{
	const char *source;
	struct stat st;
	int index;

	index = ploop_node_index_of(mnt_fs_get_devno(fs));
	if (index >= 0)
		return index;
	source = mnt_fs_get_srcpath(fs);
	if (!source || stat(source, &st) || !S_ISBLK(st.st_mode))
		return -1;
	return ploop_node_index_of(st.st_rdev);
}

static int append_mount(struct ploop_mount_list *list, struct libmnt_fs *fs)
{
	const char *source = mnt_fs_get_source(fs);
	const char *type = mnt_fs_get_fstype(fs);
	struct ploop_mount mount, *more;

	more = realloc(list->mount, (list->n + 1) * sizeof(*more));
	if (!more)
		return ploop_fail_memory();
	list->mount = more;
	mount.source = strdup(source ? source : "none");
	mount.target = strdup(mnt_fs_get_target(fs));
	mount.fstype = strdup(type ? type : "none");
	list->mount[list->n++] = mount;
	if (!mount.source || !mount.target || !mount.fstype)
		return ploop_fail_memory();
	return 0;
}

/**
 * ploop_mounts_list() - find what is mounted from a device and its partitions
 * @index: N of ploopN
 * @list: out: the mounts of this mount namespace; freed by ploop_mounts_free()
 *
 * Return: 0 or an exit code.
 */
int ploop_mounts_list(int index, struct ploop_mount_list *list)
{
	struct libmnt_table *table;
	struct libmnt_iter *iter;
	struct libmnt_fs *fs;
	int rc = 0;

	memset(list, 0, sizeof(*list));
	table = read_table();
	if (!table)
		return PLOOP_EXIT_SYSTEM;
	iter = mnt_new_iter(MNT_ITER_FORWARD);
	if (!iter)
		rc = ploop_fail_memory();
	while (!rc && !mnt_table_next_fs(table, iter, &fs))
		if (fs_index(fs) == index)
			rc = append_mount(list, fs);
	mnt_free_iter(iter);
	mnt_unref_table(table);
	if (rc)
		ploop_mounts_free(list);
	return rc;
}

/**
 * ploop_mounts_free() - free what ploop_mounts_list() took
 * @list: the mounts
 */
void ploop_mounts_free(struct ploop_mount_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->mount[i].source);
		free(list->mount[i].target);
		free(list->mount[i].fstype);
	}
	free(list->mount);
	memset(list, 0, sizeof(*list));
}

/**
 * ploop_mounts_describe() - say in words where a device is mounted
 * @index: N of ploopN
 *
 * Return: the mount points with commas between, to be freed by
 * ploop_mounts_free_description(); NULL when there is none.
 */
char *ploop_mounts_describe(int index)
{
	struct ploop_mount_list list;
	char *text = NULL;
	size_t size;
	FILE *out;

	if (ploop_mounts_list(index, &list))
		return NULL;
	out = list.n ? open_memstream(&text, &size) : NULL;
	if (out) {
		for (size_t i = 0; i < list.n; i++)
			fprintf(out, "%s%s", i ? ", " : "", list.mount[i].target);
		if (fclose(out)) {
			free(text);
			text = NULL;
		}
	}
	ploop_mounts_free(&list);
	return text;
}

/**
 * ploop_mounts_free_description() - free what ploop_mounts_describe() made
 * @text: the description or NULL
 */
void ploop_mounts_free_description(char *text)
{
	free(text);
}

/**
 * ploop_mounts_device_of() - find the ploop device that is mounted on a directory
 * @dir: the mount point
 * @index: out: N of ploopN
 *
 * Return: 0 or an exit code.
 */
int ploop_mounts_device_of(const char *dir, int *index)
{
	struct libmnt_table *table;
	struct libmnt_fs *fs;
	int rc = 0;
	char *path;

	path = realpath(dir, NULL);
	if (!path)
		return ploop_fail_errno(PLOOP_EXIT_PARAM, "-m %s", dir);
	table = read_table();
	if (!table) {
		rc = PLOOP_EXIT_SYSTEM;
		goto out_free_path;
	}
	fs = mnt_table_find_target(table, path, MNT_ITER_BACKWARD);
	*index = fs ? fs_index(fs) : -1;
	if (*index < 0)
		rc = ploop_fail(PLOOP_EXIT_NOT_ATTACHED,
				"no ploop device is mounted on %s; see `ploop list`", path);
	mnt_unref_table(table);
out_free_path:
	free(path);
	return rc;
}

/**
 * ploop_mounts_find_device() - find the device of a command that has -d and -m
 * @dev: argument of -d, or NULL
 * @dir: argument of -m, or NULL; either is enough
 * @index: out: N of ploopN
 *
 * Return: 0 or an exit code.
 */
int ploop_mounts_find_device(const char *dev, const char *dir, int *index)
{
	int of_dir, rc = 0;

	if (dev)
		rc = ploop_node_parse(dev, index);
	if (rc || !dir)
		return rc;
	rc = ploop_mounts_device_of(dir, &of_dir);
	if (rc)
		return rc;
	if (dev && of_dir != *index)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s is mounted from /dev/ploop%d, not from %s",
				  dir, of_dir, dev);
	*index = of_dir;
	return 0;
}

/**
 * ploop_mounts_add() - mount a filesystem
 * @source: device node
 * @dir: mount point
 * @fstype: type, or NULL to find out
 * @options: as after mount -o, or NULL
 * @readonly: read-only
 *
 * Return: 0 or an exit code.
 */
int ploop_mounts_add(const char *source, const char *dir, const char *fstype,
		     const char *options, bool readonly)
{
	struct libmnt_context *context = mnt_new_context();
	char message[MESSAGE_SIZE] = "";
	int result, code;

	if (!context)
		return ploop_fail_memory();
	result = mnt_context_set_source(context, source);
	if (!result)
		result = mnt_context_set_target(context, dir);
	if (!result && fstype)
		result = mnt_context_set_fstype(context, fstype);
	if (!result && options)
		result = mnt_context_set_options(context, options);
	if (!result && readonly)
		result = mnt_context_append_options(context, "ro");
	if (result) {
		mnt_free_context(context);
		return ploop_fail_memory();
	}
	result = mnt_context_mount(context);
	code = mnt_context_get_excode(context, result, message, sizeof(message));
	mnt_free_context(context);
	if (code)
		return ploop_fail(PLOOP_EXIT_MOUNT, "cannot mount %s on %s: %s", source, dir,
				  message[0] ? message : "see dmesg");
	return 0;
}

static int remove_mount(const struct ploop_mount *mount)
{
	struct libmnt_context *context = mnt_new_context();
	char message[MESSAGE_SIZE] = "";
	int result, code, error;

	if (!context)
		return ploop_fail_memory();
	result = mnt_context_set_target(context, mount->target);
	if (!result)
		result = mnt_context_umount(context);
	error = mnt_context_syscall_called(context) ? mnt_context_get_syscall_errno(context) : 0;
	code = mnt_context_get_excode(context, result, message, sizeof(message));
	mnt_free_context(context);
	if (!code)
		return 0;
	if (error == EBUSY)
		return ploop_fail(PLOOP_EXIT_UMOUNT,
				  "%s is busy: end the programs that use it (see `fuser -vm %s`) and try again",
				  mount->target, mount->target);
	return ploop_fail(PLOOP_EXIT_UMOUNT, "cannot unmount %s: %s", mount->target,
			  message[0] ? message : "see dmesg");
}

/**
 * ploop_mounts_remove_all() - unmount everything of a device, the newest first
 * @index: N of ploopN
 *
 * Return: 0 or an exit code.
 */
int ploop_mounts_remove_all(int index)
{
	struct ploop_mount_list list;
	int rc;

	rc = ploop_mounts_list(index, &list);
	if (rc)
		return rc;
	for (size_t i = list.n; i > 0 && !rc; i--)
		rc = remove_mount(&list.mount[i - 1]);
	ploop_mounts_free(&list);
	return rc;
}
