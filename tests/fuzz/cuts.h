/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is on disk when the power goes while a file is changed.
 */
#ifndef FUZZ_CUTS_H
#define FUZZ_CUTS_H

#include <stdbool.h>
#include <stddef.h>

bool cuts_begin(const char *path);
size_t cuts_end(void);
void cuts_make(const char *path, size_t at);
void cuts_free(void);

#endif /* FUZZ_CUTS_H */
