/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Moves clusters from file to file, many at once.
 */
#ifndef PLOOP_COPY_H
#define PLOOP_COPY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image.h"
#include "progress.h"

/**
 * struct ploop_copy_file - a file to copy from or to
 * @path: its name
 * @fd: the file; belongs to the image
 * @direct_fd: the same, opened for direct I/O; or -1
 */
struct ploop_copy_file {
	const char *path;
	int fd;
	int direct_fd;
};

/**
 * struct ploop_copy_piece - a range that is in one piece in both files
 * @from: file to read
 * @from_offset: where, a multiple of the cluster size
 * @to: file to write
 * @to_offset: where, a multiple of the cluster size
 * @bytes: how many, a multiple of the cluster size
 * @fresh: the range of @to reads as zeros now: holes need not be made
 */
struct ploop_copy_piece {
	const struct ploop_copy_file *from;
	uint64_t from_offset;
	const struct ploop_copy_file *to;
	uint64_t to_offset;
	uint64_t bytes;
	bool fresh;
};

/**
 * struct ploop_copy - pieces that are copied together
 * @piece: the pieces
 * @n: number of @piece
 * @room: number of @piece that fit
 * @reflink: let both files share the blocks, where their filesystem can do that
 * @progress: counts bytes
 * @next: the piece that the next free thread takes
 * @rc: the first failure
 */
struct ploop_copy {
	struct ploop_copy_piece *piece;
	size_t n;
	size_t room;
	atomic_bool reflink;
	struct ploop_progress *progress;
	atomic_size_t next;
	atomic_int rc;
};

void ploop_copy_file_open(struct ploop_copy_file *file, const struct ploop_image *img);
void ploop_copy_file_close(struct ploop_copy_file *file);
int ploop_copy_file_read(const struct ploop_copy_file *file, void *buf, size_t len,
			 uint64_t offset);
int ploop_copy_file_write(const struct ploop_copy_file *file, const void *buf, size_t len,
			  uint64_t offset);

void ploop_copy_init(struct ploop_copy *copy, bool reflink, struct ploop_progress *progress);
void ploop_copy_free(struct ploop_copy *copy);
int ploop_copy_add(struct ploop_copy *copy, const struct ploop_copy_piece *piece);
int ploop_copy_run(struct ploop_copy *copy);

#endif /* PLOOP_COPY_H */
