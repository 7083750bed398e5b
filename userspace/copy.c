// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks are not shared unless the user asks for it: an image with shared
 * blocks is slow to write and loses the driver's fast path. That rules out
 * copy_file_range(), which shares whatever it can. Direct reads and writes of
 * several threads are faster than it anyway.
 */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/fs.h>

#include "cancel.h"
#include "file.h"
#include "report.h"
#include "size.h"

/* so many pieces are under way at once */
#define THREADS		8
/* what a thread reads and writes at once */
#define BUFFER_BYTES	(1u << 20)
/* pieces are not joined beyond this size, so that all threads have some */
#define MAX_PIECE	(8u << 20)
/* direct I/O wants offsets, lengths and buffers to be multiples of this at most */
#define DIRECT_ALIGN	4096u

/**
 * ploop_copy_file_open() - get a file of an image ready
 * @file: out: the file; to be closed before the image
 * @img: an open image
 */
void ploop_copy_file_open(struct ploop_copy_file *file, const struct ploop_image *img)
{
	file->path = img->path;
	file->fd = img->fd;
	/* some filesystems cannot do that: then it is -1 */
	file->direct_fd = ploop_file_reopen(img->fd, (img->writable ? O_RDWR : O_RDONLY) |
						     O_DIRECT | O_CLOEXEC);
}

/**
 * ploop_copy_file_close() - end the use of a file
 * @file: the file
 */
void ploop_copy_file_close(struct ploop_copy_file *file)
{
	if (file->direct_fd >= 0)
		close(file->direct_fd);
	file->direct_fd = -1;
}

/**
 * ploop_copy_init() - begin to collect pieces
 * @copy: out: the collection
 * @reflink: share blocks where possible
 * @progress: counts bytes
 */
void ploop_copy_init(struct ploop_copy *copy, bool reflink, struct ploop_progress *progress)
{
	memset(copy, 0, sizeof(*copy));
	copy->reflink = reflink;
	copy->progress = progress;
}

/**
 * ploop_copy_free() - free what ploop_copy_add() took
 * @copy: the collection
 */
void ploop_copy_free(struct ploop_copy *copy)
{
	free(copy->piece);
	copy->piece = NULL;
	copy->n = 0;
	copy->room = 0;
}

static bool continues(const struct ploop_copy_piece *last, const struct ploop_copy_piece *piece)
{
	return last->from == piece->from && last->to == piece->to && last->fresh == piece->fresh &&
	       last->from_offset + last->bytes == piece->from_offset &&
	       last->to_offset + last->bytes == piece->to_offset &&
	       last->bytes + piece->bytes <= MAX_PIECE;
}

/**
 * ploop_copy_add() - collect a piece
 * @copy: the collection
 * @piece: the piece; joined with the one before where possible
 *
 * No piece may read or write what another one writes.
 *
 * Return: 0 or PLOOP_EXIT_MEMORY.
 */
int ploop_copy_add(struct ploop_copy *copy, const struct ploop_copy_piece *piece)
{
	const size_t first_room = 1024;

	if (copy->n && continues(&copy->piece[copy->n - 1], piece)) {
		copy->piece[copy->n - 1].bytes += piece->bytes;
		return 0;
	}
	if (copy->n == copy->room) {
		const size_t room = copy->room ? copy->room * 2 : first_room;
		struct ploop_copy_piece *more = realloc(copy->piece, room * sizeof(*more));

		if (!more)
			return ploop_fail_memory();
		copy->piece = more;
		copy->room = room;
	}
	copy->piece[copy->n++] = *piece;
	return 0;
}

/* a signal, or a failure of another thread */
static bool must_stop(struct ploop_copy *copy)
{
	int none = 0;

	if (!copy->rc && ploop_cancelled() &&
	    atomic_compare_exchange_strong(&copy->rc, &none, PLOOP_EXIT_CANCELLED))
		ploop_fail_cancelled();
	return copy->rc != 0;
}

static int read_failed(const struct ploop_copy_file *file, uint64_t offset)
{
	return ploop_fail_errno(PLOOP_EXIT_READ, "cannot read %s at byte %" PRIu64, file->path,
				offset);
}

static int write_failed(const struct ploop_copy_file *file, uint64_t offset)
{
	return ploop_fail_errno(PLOOP_EXIT_WRITE, "cannot write %s at byte %" PRIu64, file->path,
				offset);
}

/**
 * ploop_copy_file_read() - read a whole range, directly where that can be done
 * @file: the file
 * @buf: where to
 * @len: bytes
 * @offset: where from
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_copy_file_read(const struct ploop_copy_file *file, void *buf, size_t len,
			 uint64_t offset)
{
	if (file->direct_fd >= 0 && !ploop_file_read(file->direct_fd, buf, len, offset))
		return 0;
	/* what is wrong with direct I/O need not be wrong without it */
	return ploop_file_read(file->fd, buf, len, offset);
}

/**
 * ploop_copy_file_write() - write a whole range, directly where that can be done
 * @file: the file
 * @buf: what
 * @len: bytes
 * @offset: where to
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_copy_file_write(const struct ploop_copy_file *file, const void *buf, size_t len,
			  uint64_t offset)
{
	if (file->direct_fd >= 0) {
		if (!ploop_file_write(file->direct_fd, buf, len, offset))
			return 0;
		if (errno != EINVAL)
			return -1;
	}
	return ploop_file_write(file->fd, buf, len, offset);
}

static int copy_data(struct ploop_copy *copy, const struct ploop_copy_piece *piece, char *buf,
		     uint64_t from, uint64_t to)
{
	while (from < to) {
		const size_t len = to - from < BUFFER_BYTES ? (size_t)(to - from) : BUFFER_BYTES;

		if (must_stop(copy))
			return copy->rc;
		if (ploop_copy_file_read(piece->from, buf, len, piece->from_offset + from))
			return read_failed(piece->from, piece->from_offset + from);
		if (ploop_copy_file_write(piece->to, buf, len, piece->to_offset + from))
			return write_failed(piece->to, piece->to_offset + from);
		ploop_progress_add(copy->progress, len);
		from += len;
	}
	return 0;
}

/* buf is used for zeros where the filesystem cannot punch holes */
static int make_hole(struct ploop_copy *copy, const struct ploop_copy_piece *piece, char *buf,
		     uint64_t from, uint64_t to)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	ploop_progress_add(copy->progress, to - from);
	if (piece->fresh)
		return 0;
	if (!fallocate(piece->to->fd, punch, (off_t)(piece->to_offset + from), (off_t)(to - from)))
		return 0;
	if (errno != EOPNOTSUPP)
		return ploop_fail_errno(PLOOP_EXIT_FALLOCATE,
					"cannot make a hole in %s at byte %" PRIu64,
					piece->to->path, piece->to_offset + from);
	memset(buf, 0, BUFFER_BYTES);
	while (from < to) {
		const size_t len = to - from < BUFFER_BYTES ? (size_t)(to - from) : BUFFER_BYTES;

		if (ploop_copy_file_write(piece->to, buf, len, piece->to_offset + from))
			return write_failed(piece->to, piece->to_offset + from);
		from += len;
	}
	return 0;
}

/* where, from a place of the piece on, the next data or the next hole begin */
static uint64_t seek_in(const struct ploop_copy_piece *piece, uint64_t from, int whence)
{
	const off_t found = lseek(piece->from->fd, (off_t)(piece->from_offset + from), whence);
	uint64_t offset;

	if (found < 0)
		/* ENXIO: no data up to the end; else it cannot tell: all is data */
		return whence == SEEK_DATA && errno != ENXIO ? from : piece->bytes;
	offset = (uint64_t)found - piece->from_offset;
	return offset < piece->bytes ? offset : piece->bytes;
}

/* returns false when the blocks cannot be shared: then they are copied */
static bool share_blocks(struct ploop_copy *copy, const struct ploop_copy_piece *piece)
{
	struct file_clone_range range = {
		.src_fd = piece->from->fd,
		.src_offset = piece->from_offset,
		.src_length = piece->bytes,
		.dest_offset = piece->to_offset,
	};

	if (!ioctl(piece->to->fd, FICLONERANGE, &range)) {
		ploop_progress_add(copy->progress, piece->bytes);
		return true;
	}
	if (atomic_exchange(&copy->reflink, false))
		ploop_note("%s and %s cannot share blocks (%s): they are copied",
			   piece->from->path, piece->to->path, strerror(errno));
	return false;
}

static int copy_piece(struct ploop_copy *copy, const struct ploop_copy_piece *piece, char *buf)
{
	uint64_t at = 0;
	int rc = 0;

	if (copy->reflink && share_blocks(copy, piece))
		return 0;
	while (at < piece->bytes && !rc) {
		uint64_t data = seek_in(piece, at, SEEK_DATA);
		uint64_t hole = seek_in(piece, data, SEEK_HOLE);

		/* outward, as direct I/O wants it: what comes along are zeros */
		data &= ~(uint64_t)(DIRECT_ALIGN - 1);
		hole = ploop_round_up(hole, DIRECT_ALIGN);
		if (data > at)
			rc = make_hole(copy, piece, buf, at, data);
		if (!rc && data < hole)
			rc = copy_data(copy, piece, buf, data, hole);
		at = hole;
	}
	return rc;
}

static void *work(void *data)
{
	char *buf = aligned_alloc(DIRECT_ALIGN, BUFFER_BYTES);
	struct ploop_copy *copy = data;
	int rc, none = 0;
	size_t i;

	rc = buf ? 0 : ploop_fail_memory();
	while (!rc && !must_stop(copy) && (i = copy->next++) < copy->n)
		rc = copy_piece(copy, &copy->piece[i], buf);
	if (rc)
		atomic_compare_exchange_strong(&copy->rc, &none, rc);
	free(buf);
	return NULL;
}

/**
 * ploop_copy_run() - copy all pieces
 * @copy: the collection; empty afterwards
 *
 * Holes stay holes. Nothing is durable yet when this returns. A signal ends
 * the work early.
 *
 * Return: 0 or an exit code.
 */
int ploop_copy_run(struct ploop_copy *copy)
{
	pthread_t thread[THREADS - 1];
	size_t n = 0;

	copy->next = 0;
	copy->rc = 0;
	/* with fewer threads it takes longer, no more */
	while (n < THREADS - 1 && n + 1 < copy->n && !pthread_create(&thread[n], NULL, work, copy))
		n++;
	work(copy);
	while (n)
		pthread_join(thread[--n], NULL);
	copy->n = 0;
	return copy->rc;
}
