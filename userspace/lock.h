/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who uses an image: locks of offline users, and attached devices.
 */
#ifndef PLOOP_LOCK_H
#define PLOOP_LOCK_H

#include <stdbool.h>

#include "image.h"
#include "sysfs.h"

int ploop_lock_image(const struct ploop_image *img, bool exclusive);
int ploop_lock_device(const struct ploop_info *info, int seconds, int *fd);

#endif /* PLOOP_LOCK_H */
