/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The balloon file inside the filesystem of an image.
 */
#ifndef PLOOP_BALLOON_H
#define PLOOP_BALLOON_H

#include <stdint.h>

/** PLOOP_BALLOON_NAME: its name in the root directory */
#define PLOOP_BALLOON_NAME	".balloon-c3a5ae3d-ce7f-43c4-a1ea-c61e2b4504e8"
/** PLOOP_BALLOON_MODE: its permissions */
#define PLOOP_BALLOON_MODE	0600

int ploop_balloon_make(const char *partition);
int ploop_balloon_take_option(char **options, uint64_t *ino);
void ploop_balloon_protect(const char *dir, uint64_t ino);

#endif /* PLOOP_BALLOON_H */
