/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is on a device: filesystems and partition tables.
 */
#ifndef PLOOP_FILESYSTEMS_H
#define PLOOP_FILESYSTEMS_H

#include <stdbool.h>

#include "sysfs.h"

/**
 * typedef ploop_filesystem_fn - called for a filesystem
 * @node: its node
 * @type: its type
 * @data: the caller's
 */
typedef void (*ploop_filesystem_fn)(const char *node, const char *type, void *data);

void ploop_filesystems_each(const struct ploop_info *info, ploop_filesystem_fn fn, void *data);
bool ploop_filesystems_partitioned(const char *node);

#endif /* PLOOP_FILESYSTEMS_H */
