/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The balloon file inside the filesystem of an image.
 *
 * It takes space away from the filesystem, so that nobody else does. Its data is
 * never written. Nobody may touch it: it is immutable but for the moments in which
 * its size changes.
 */
#ifndef PLOOP_BALLOON_H
#define PLOOP_BALLOON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "extents.h"
#include "sysfs.h"

/** PLOOP_BALLOON_NAME: its name in the root directory */
#define PLOOP_BALLOON_NAME	".balloon-c3a5ae3d-ce7f-43c4-a1ea-c61e2b4504e8"
/** PLOOP_BALLOON_MODE: its permissions */
#define PLOOP_BALLOON_MODE	0600

/**
 * struct ploop_balloon - the balloon file of a device
 * @index: N of ploopN
 * @dir: where the filesystem is mounted; NULL: nowhere
 * @fstype: its type
 * @fd: the balloon file, read-only; -1 when there is none
 * @dev: device of the filesystem
 * @size: bytes of the file
 * @block: size of a block of the filesystem
 * @locked: nobody else changes it
 */
struct ploop_balloon {
	int index;
	char *dir;
	char fstype[PLOOP_SYSFS_NAME];
	int fd;
	dev_t dev;
	uint64_t size;
	uint64_t block;
	bool locked;
};

/* balloon.c: how it comes into being */
int ploop_balloon_make(const char *partition);
int ploop_balloon_take_option(char **options, uint64_t *ino);

/* balloon_file.c: finding, protecting and changing it */
int ploop_balloon_set_immutable(int fd, bool immutable);
void ploop_balloon_protect(const char *dir, uint64_t ino);
int ploop_balloon_find(struct ploop_balloon *balloon, int index, const char *dir);
int ploop_balloon_require(const struct ploop_balloon *balloon);
int ploop_balloon_lock(struct ploop_balloon *balloon);
int ploop_balloon_resize(struct ploop_balloon *balloon, uint64_t size);
void ploop_balloon_close(struct ploop_balloon *balloon);

/* balloon_blocks.c */
int ploop_balloon_blocks(const struct ploop_balloon *balloon, struct ploop_ranges *ranges);

#endif /* PLOOP_BALLOON_H */
