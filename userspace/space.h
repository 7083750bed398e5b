/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the space of a device goes: in its image files, and in the filesystems on it.
 */
#ifndef PLOOP_SPACE_H
#define PLOOP_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "mounts.h"
#include "sysfs.h"

/**
 * struct ploop_space_use - space, in bytes
 * @file: size of all images
 * @allocated: what they take on their filesystems
 * @mounted: filesystems of the device are mounted
 * @used: what these use, balloon included
 * @has_balloon: there is a balloon file
 * @balloon: its size
 */
struct ploop_space_use {
	uint64_t file;
	uint64_t allocated;
	bool mounted;
	uint64_t used;
	bool has_balloon;
	uint64_t balloon;
};

void ploop_space_of_images(const struct ploop_info *info, struct ploop_space_use *use);
int ploop_space_use(const struct ploop_info *info, const struct ploop_mount_list *mounts,
		    struct ploop_space_use *use);
bool ploop_space_seen(const struct ploop_mount_list *mounts, size_t i);

#endif /* PLOOP_SPACE_H */
