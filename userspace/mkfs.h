/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A filesystem on a new disk.
 */
#ifndef PLOOP_MKFS_H
#define PLOOP_MKFS_H

#include <stdint.h>

int ploop_mkfs_check(const char *fstype);
int ploop_mkfs_make(const char *partition, const char *fstype, uint64_t bytes);

#endif /* PLOOP_MKFS_H */
