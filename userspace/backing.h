/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What filesystems and block devices lie on.
 */
#ifndef PLOOP_BACKING_H
#define PLOOP_BACKING_H

#include <stdbool.h>

bool ploop_backing_is_on(const char *path, int index);
int ploop_backing_dir_is_on(const char *path, int index, bool *on);

#endif /* PLOOP_BACKING_H */
