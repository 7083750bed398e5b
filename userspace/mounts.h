/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Filesystems that are mounted from ploop devices.
 */
#ifndef PLOOP_MOUNTS_H
#define PLOOP_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct ploop_mount - a mounted filesystem
 * @source: device node
 * @target: mount point
 * @fstype: type
 */
struct ploop_mount {
	char *source;
	char *target;
	char *fstype;
};

/**
 * struct ploop_mount_list - the mounted filesystems of a device
 * @mount: in the order they were mounted
 * @n: number of @mount
 */
struct ploop_mount_list {
	struct ploop_mount *mount;
	size_t n;
};

int ploop_mounts_list(int index, struct ploop_mount_list *list);
void ploop_mounts_free(struct ploop_mount_list *list);
char *ploop_mounts_describe(int index);
void ploop_mounts_free_description(char *text);
int ploop_mounts_device_of(const char *dir, int *index);
int ploop_mounts_find_device(const char *dev, const char *dir, int *index);
int ploop_mounts_add(const char *source, const char *dir, const char *fstype,
		     const char *options, bool readonly);
int ploop_mounts_remove_all(int index);

#endif /* PLOOP_MOUNTS_H */
