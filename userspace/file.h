/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whole reads and writes, other ways to a file that is open, and durable directory
 * entries.
 */
#ifndef PLOOP_FILE_H
#define PLOOP_FILE_H

#include <stddef.h>
#include <stdint.h>

int ploop_file_read(int fd, void *buf, size_t len, uint64_t offset);
int ploop_file_write(int fd, const void *buf, size_t len, uint64_t offset);
int ploop_file_reopen(int fd, int flags);
int ploop_file_link(int fd, const char *path);
int ploop_file_rename(const char *from, const char *to);
int ploop_file_sync_dir(const char *path);

#endif /* PLOOP_FILE_H */
