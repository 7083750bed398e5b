// SPDX-License-Identifier: GPL-2.0-only
#include "sysfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/ploop.h>

#include "report.h"
#include "size.h"

#define DEVICE_PREFIX	"ploop"
#define DECIMAL		10

/**
 * ploop_sysfs_read() - read a file, without its last newline
 * @text: where to
 * @len: bytes of @text
 * @fmt: the path
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_sysfs_read(char *text, size_t len, const char *fmt, ...)
{
	char path[PLOOP_SYSFS_PATH];
	va_list args;
	ssize_t n;
	int fd;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, len - 1);
	close(fd);
	if (n < 0)
		return -1;
	if (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return 0;
}

/* a number of a device; 0 when it is not there: files may go at any time */
static unsigned long long read_number(int index, const char *name)
{
	char text[PLOOP_SYSFS_NAME];

	if (ploop_sysfs_read(text, sizeof(text), PLOOP_SYSFS_BLOCK "/ploop%d/%s", index, name))
		return 0;
	return strtoull(text, NULL, DECIMAL);
}

/**
 * ploop_sysfs_maintenance() - read what is done to the images of a device now
 * @index: N of ploopN
 *
 * Return: enum ploop_maintenance.
 */
unsigned int ploop_sysfs_maintenance(int index)
{
	return (unsigned int)read_number(index, "pstate/maintenance");
}

/**
 * ploop_sysfs_progress() - read how far that is
 * @index: N of ploopN
 * @done: out: clusters
 * @total: out: of so many; 0 when there is no progress
 */
void ploop_sysfs_progress(int index, uint64_t *done, uint64_t *total)
{
	char text[PLOOP_SYSFS_NAME * 2];

	if (ploop_sysfs_read(text, sizeof(text), PLOOP_SYSFS_BLOCK "/ploop%d/pstate/progress",
			     index) ||
	    sscanf(text, "%" SCNu64 " %" SCNu64, done, total) != 2)
		*done = *total = 0;
}

/* the inode of an image, where the driver tells it */
static void read_inode(const char *dir, struct ploop_delta *delta)
{
	char text[PLOOP_SYSFS_NAME * 4];
	unsigned int maj, min;
	unsigned long ino;

	if (ploop_sysfs_read(text, sizeof(text), "%s/image_info", dir))
		return;
	if (sscanf(text, "ino:%lu sdev:%u:%u", &ino, &maj, &min) != 3)
		return;
	delta->ino = ino;
	delta->dev = makedev(maj, min);
}

/* returns 1 when a delta was read, 0 when there is none at this level, or -1 */
static int read_delta(int index, unsigned int level, struct ploop_delta *delta)
{
	char dir[PLOOP_SYSFS_PATH / 2];
	char text[PATH_MAX + PLOOP_SYSFS_NAME];

	snprintf(dir, sizeof(dir), PLOOP_SYSFS_BLOCK "/ploop%d/pdelta/%u", index, level);
	if (ploop_sysfs_read(text, sizeof(text), "%s/image", dir))
		return 0;
	memset(delta, 0, sizeof(*delta));
	delta->level = level;
	delta->image = strdup(text);
	if (!delta->image)
		return -1;
	ploop_sysfs_read(delta->format, sizeof(delta->format), "%s/format", dir);
	ploop_sysfs_read(delta->io, sizeof(delta->io), "%s/io", dir);
	if (!ploop_sysfs_read(text, sizeof(text), "%s/ro", dir))
		delta->readonly = text[0] == '1';
	read_inode(dir, delta);
	return 1;
}

static int read_deltas(struct ploop_info *info)
{
	unsigned int level;

	for (level = 0; level < PLOOP_MAX_LEVELS; level++) {
		struct ploop_delta delta, *more;
		const int found = read_delta(info->index, level, &delta);

		if (found < 0)
			return ploop_fail_memory();
		if (!found)
			return 0;
		more = realloc(info->deltas, (info->n_deltas + 1) * sizeof(*more));
		if (!more) {
			free(delta.image);
			return ploop_fail_memory();
		}
		info->deltas = more;
		info->deltas[info->n_deltas++] = delta;
	}
	return 0;
}

/**
 * ploop_sysfs_device() - read all about a device
 * @index: N of ploopN; a device that is not there has no deltas
 * @info: out: the device; freed by ploop_sysfs_free()
 *
 * Return: 0 or an exit code.
 */
int ploop_sysfs_device(int index, struct ploop_info *info)
{
	int rc;

	memset(info, 0, sizeof(*info));
	info->index = index;
	snprintf(info->node, sizeof(info->node), "/dev/" DEVICE_PREFIX "%d", index);
	info->size = read_number(index, "size") << PLOOP_SECTOR_SHIFT;
	info->cluster_sectors = (uint32_t)read_number(index, "pstate/block_size");
	info->version = (unsigned int)read_number(index, "pstate/fmt_version");
	info->running = read_number(index, "pstate/running") != 0;
	info->aborted = read_number(index, "pstate/aborted") != 0;
	info->readonly = read_number(index, "ro") != 0;
	info->maintenance = ploop_sysfs_maintenance(index);
	ploop_sysfs_progress(index, &info->done, &info->total);
	rc = read_deltas(info);
	if (rc)
		ploop_sysfs_free(info);
	return rc;
}

/**
 * ploop_sysfs_free() - free what ploop_sysfs_device() took
 * @info: the device
 */
void ploop_sysfs_free(struct ploop_info *info)
{
	for (size_t i = 0; i < info->n_deltas; i++)
		free(info->deltas[i].image);
	free(info->deltas);
	info->deltas = NULL;
	info->n_deltas = 0;
}

/* N of "ploopN", else -1 */
static int index_of(const char *name)
{
	const size_t prefix = strlen(DEVICE_PREFIX);
	unsigned long index;
	char *end;

	if (strncmp(name, DEVICE_PREFIX, prefix) || !isdigit((unsigned char)name[prefix]))
		return -1;
	index = strtoul(name + prefix, &end, DECIMAL);
	return *end || index > INT_MAX ? -1 : (int)index;
}

static int compare_info(const void *a, const void *b)
{
	const struct ploop_info *left = a, *right = b;

	return (left->index > right->index) - (left->index < right->index);
}

static int append_device(struct ploop_info_list *list, int index)
{
	struct ploop_info *more;
	struct ploop_info info;
	int rc;

	rc = ploop_sysfs_device(index, &info);
	if (rc)
		return rc;
	if (!info.n_deltas)
		return 0;
	more = realloc(list->info, (list->n + 1) * sizeof(*more));
	if (!more) {
		ploop_sysfs_free(&info);
		return ploop_fail_memory();
	}
	list->info = more;
	list->info[list->n++] = info;
	return 0;
}

/**
 * ploop_sysfs_list() - read all about every device that has images
 * @list: out: the devices; freed by ploop_sysfs_free_list()
 *
 * Return: 0 or an exit code.
 */
int ploop_sysfs_list(struct ploop_info_list *list)
{
	struct dirent *entry;
	int rc = 0;
	DIR *dir;

	memset(list, 0, sizeof(*list));
	dir = opendir(PLOOP_SYSFS_BLOCK);
	if (!dir)
		return ploop_fail_errno(PLOOP_EXIT_SYSFS, "cannot read %s; is /sys mounted",
					PLOOP_SYSFS_BLOCK);
	while (!rc && (entry = readdir(dir))) {
		const int index = index_of(entry->d_name);

		if (index >= 0)
			rc = append_device(list, index);
	}
	closedir(dir);
	if (rc)
		ploop_sysfs_free_list(list);
	else if (list->n)
		qsort(list->info, list->n, sizeof(*list->info), compare_info);
	return rc;
}

/**
 * ploop_sysfs_free_list() - free what ploop_sysfs_list() took
 * @list: the devices
 */
void ploop_sysfs_free_list(struct ploop_info_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		ploop_sysfs_free(&list->info[i]);
	free(list->info);
	memset(list, 0, sizeof(*list));
}

static int compare_values(const void *a, const void *b)
{
	const struct ploop_value *left = a, *right = b;

	return strcmp(left->name, right->name);
}

static int append_value(struct ploop_values *values, int index, const char *dir, const char *name)
{
	struct ploop_value value, *more;

	snprintf(value.name, sizeof(value.name), "%s", name);
	if (ploop_sysfs_read(value.text, sizeof(value.text), PLOOP_SYSFS_BLOCK "/ploop%d/%s/%s",
			     index, dir, name))
		return 0;
	more = realloc(values->value, (values->n + 1) * sizeof(*more));
	if (!more)
		return ploop_fail_memory();
	values->value = more;
	values->value[values->n++] = value;
	return 0;
}

/**
 * ploop_sysfs_values() - read a directory of values
 * @index: N of ploopN
 * @dir: "pstate" or "pstat"
 * @values: out: the values; freed by ploop_sysfs_free_values()
 *
 * pstate/event is left out: reading it waits for an event.
 *
 * Return: 0 or an exit code.
 */
int ploop_sysfs_values(int index, const char *dir, struct ploop_values *values)
{
	char path[PLOOP_SYSFS_PATH];
	struct dirent *entry;
	int rc = 0;
	DIR *d;

	memset(values, 0, sizeof(*values));
	snprintf(path, sizeof(path), PLOOP_SYSFS_BLOCK "/ploop%d/%s", index, dir);
	d = opendir(path);
	if (!d)
		return ploop_fail_errno(PLOOP_EXIT_SYSFS, "cannot read %s", path);
	while (!rc && (entry = readdir(d)))
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "event"))
			rc = append_value(values, index, dir, entry->d_name);
	closedir(d);
	if (rc)
		ploop_sysfs_free_values(values);
	else if (values->n)
		qsort(values->value, values->n, sizeof(*values->value), compare_values);
	return rc;
}

/**
 * ploop_sysfs_free_values() - free what ploop_sysfs_values() took
 * @values: the values
 */
void ploop_sysfs_free_values(struct ploop_values *values)
{
	free(values->value);
	memset(values, 0, sizeof(*values));
}

static bool is_file(const struct ploop_delta *delta, dev_t dev, ino_t ino)
{
	struct stat st;

	/*
	 * Filesystems without a block device of their own number (btrfs) show
	 * another one in stat(): there the path must tell.
	 */
	if (delta->ino && major(delta->dev))
		return delta->dev == dev && delta->ino == ino;
	return !stat(delta->image, &st) && st.st_dev == dev && st.st_ino == ino;
}

/**
 * ploop_sysfs_find_delta() - find the level of a device that is a given file
 * @info: the device
 * @dev: device of the file's filesystem
 * @ino: inode of the file, so that it is found under any name
 *
 * Return: the delta, or NULL.
 */
const struct ploop_delta *ploop_sysfs_find_delta(const struct ploop_info *info, dev_t dev,
						 ino_t ino)
{
	for (size_t i = 0; i < info->n_deltas; i++)
		if (is_file(&info->deltas[i], dev, ino))
			return &info->deltas[i];
	return NULL;
}
