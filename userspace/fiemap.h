/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which parts of a file its filesystem has blocks for.
 */
#ifndef PLOOP_FIEMAP_H
#define PLOOP_FIEMAP_H

#include <stdint.h>

#include <linux/fiemap.h>

/** ploop_fiemap_fn: looks at an extent; anything but 0 ends the walk */
typedef int (*ploop_fiemap_fn)(const struct fiemap_extent *extent, void *data);

int ploop_fiemap_walk(int fd, uint32_t flags, ploop_fiemap_fn fn, void *data);

#endif /* PLOOP_FIEMAP_H */
