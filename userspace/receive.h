/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The receiving side of `ploop copy`.
 */
#ifndef PLOOP_RECEIVE_H
#define PLOOP_RECEIVE_H

#include <stdbool.h>

int ploop_receive(int fd, const char *path, bool local);

#endif /* PLOOP_RECEIVE_H */
