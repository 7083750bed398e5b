/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the driver says about its devices in /sys/block/ploopN.
 */
#ifndef PLOOP_SYSFS_H
#define PLOOP_SYSFS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** PLOOP_SYSFS_BLOCK: directory of all block devices */
#define PLOOP_SYSFS_BLOCK	"/sys/block"
/** PLOOP_SYSFS_PATH: bytes that hold any path in the directory of a device */
#define PLOOP_SYSFS_PATH	512
/** PLOOP_SYSFS_NAME: bytes of names and short values */
#define PLOOP_SYSFS_NAME	32

/**
 * struct ploop_delta - one image of a device
 * @level: 0 is the base
 * @image: path, as the kernel sees it
 * @format: "ploop1" or "raw"
 * @io: I/O engine
 * @readonly: attached read-only
 * @dev: device of the file's filesystem, as far as the driver knows
 * @ino: inode of the file; 0 when the driver does not say
 */
struct ploop_delta {
	unsigned int level;
	char *image;
	char format[PLOOP_SYSFS_NAME];
	char io[PLOOP_SYSFS_NAME];
	bool readonly;
	dev_t dev;
	ino_t ino;
};

/**
 * struct ploop_info - a device
 * @index: N of ploopN
 * @node: path of its node
 * @size: bytes
 * @cluster_sectors: cluster size
 * @version: version of the ploop1 format; 0 for raw
 * @running: it was started
 * @aborted: writes fail since an index write failed
 * @readonly: the block device is read-only
 * @maintenance: enum ploop_maintenance: what is done to its images now
 * @done: clusters for which that is done
 * @total: of so many; 0 when it has no progress
 * @deltas: its images, base first
 * @n_deltas: number of @deltas
 */
struct ploop_info {
	int index;
	char node[PLOOP_SYSFS_NAME];
	uint64_t size;
	uint32_t cluster_sectors;
	unsigned int version;
	bool running;
	bool aborted;
	bool readonly;
	unsigned int maintenance;
	uint64_t done;
	uint64_t total;
	struct ploop_delta *deltas;
	size_t n_deltas;
};

/**
 * struct ploop_info_list - several devices
 * @info: the devices by rising index
 * @n: number of @info
 */
struct ploop_info_list {
	struct ploop_info *info;
	size_t n;
};

/**
 * struct ploop_value - a line of pstate or pstat
 * @name: file
 * @text: its content
 */
struct ploop_value {
	char name[NAME_MAX + 1];
	char text[PLOOP_SYSFS_NAME * 4];
};

/**
 * struct ploop_values - a directory of values
 * @value: sorted by name
 * @n: number of @value
 */
struct ploop_values {
	struct ploop_value *value;
	size_t n;
};

int ploop_sysfs_read(char *text, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int ploop_sysfs_device(int index, struct ploop_info *info);
void ploop_sysfs_free(struct ploop_info *info);
unsigned int ploop_sysfs_maintenance(int index);
void ploop_sysfs_progress(int index, uint64_t *done, uint64_t *total);
int ploop_sysfs_list(struct ploop_info_list *list);
void ploop_sysfs_free_list(struct ploop_info_list *list);
int ploop_sysfs_values(int index, const char *dir, struct ploop_values *values);
void ploop_sysfs_free_values(struct ploop_values *values);
const struct ploop_delta *ploop_sysfs_find_delta(const struct ploop_info *info, dev_t dev,
						 ino_t ino);

#endif /* PLOOP_SYSFS_H */
