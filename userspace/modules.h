/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel modules.
 */
#ifndef PLOOP_MODULES_H
#define PLOOP_MODULES_H

#include <stdbool.h>

int ploop_modules_load(bool ploop1, bool raw);

#endif /* PLOOP_MODULES_H */
