// SPDX-License-Identifier: GPL-2.0-only
#include "image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cancel.h"
#include "file.h"
#include "report.h"
#include "size.h"

/* zeros are written in pieces of this many bytes */
#define ZERO_PIECE	(1u << 20)
/* st_blocks counts these, whatever the block size of the filesystem */
#define STAT_BLOCK	512u

/**
 * ploop_format_parse() - read the name of an image format
 * @what: the argument's name for messages, as "-f"
 * @arg: "ploop1", "raw", or "expanded", which is an old name of ploop1
 * @format: out: the format
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_format_parse(const char *what, const char *arg, enum ploop_format_id *format)
{
	if (!strcmp(arg, "raw"))
		*format = PLOOP_FMT_RAW;
	else if (!strcmp(arg, "ploop1") || !strcmp(arg, "expanded"))
		*format = PLOOP_FMT_PLOOP1;
	else
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s %s: unknown image format; give ploop1 or raw", what, arg);
	return 0;
}

/**
 * ploop_format_name() - name of an image format, as sysfs has it
 * @format: the format
 *
 * Return: the name.
 */
const char *ploop_format_name(enum ploop_format_id format)
{
	return format == PLOOP_FMT_RAW ? "raw" : "ploop1";
}

static int stat_file(struct ploop_image *img)
{
	struct stat st;

	if (fstat(img->fd, &st))
		return ploop_fail_errno(PLOOP_EXIT_STAT, "cannot examine %s", img->path);
	if (!S_ISREG(st.st_mode))
		return ploop_fail(PLOOP_EXIT_OPEN, "%s is not a regular file; an image must be one",
				  img->path);
	img->dev = st.st_dev;
	img->ino = st.st_ino;
	img->file_size = (uint64_t)st.st_size;
	img->allocated = (uint64_t)st.st_blocks * STAT_BLOCK;
	return 0;
}

/*
 * O_NONBLOCK: do not hang on a FIFO. A file that has a lease, as the driver takes
 * on what it reads, then says EAGAIN: it goes while we wait.
 */
static int open_path(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 && errno == EAGAIN ? open(path, flags | O_CLOEXEC) : fd;
}

/**
 * ploop_image_open() - open an image file; its content is not looked at
 * @img: the image, to be closed by the caller when this succeeds
 * @path: the file
 * @writable: open it for writing too
 *
 * Return: 0 or an exit code.
 */
int ploop_image_open(struct ploop_image *img, const char *path, bool writable)
{
	int rc;

	memset(img, 0, sizeof(*img));
	img->writable = writable;
	img->fd = open_path(path, writable ? O_RDWR : O_RDONLY);
	/* then ploop_lock_image() says who it is */
	img->denied = img->fd < 0 && errno == ETXTBSY;
	if (img->denied)
		img->fd = open_path(path, O_RDONLY);
	if (img->fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s%s", path,
					writable ? " for writing" : "");
	img->path = realpath(path, NULL);
	if (!img->path) {
		rc = ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot resolve %s", path);
		goto out_close_image;
	}
	rc = stat_file(img);
	if (rc)
		goto out_close_image;
	return 0;

out_close_image:
	ploop_image_close(img);
	return rc;
}

/**
 * ploop_image_reopen() - open the same inode once more, in another mode
 * @img: an open image; its old descriptor, and the lock on it, are given up
 * @writable: open it for writing too
 *
 * The inode cannot change on the way, even when the file was renamed.
 *
 * Return: 0 or an exit code; @img is still to be closed either way.
 */
int ploop_image_reopen(struct ploop_image *img, bool writable)
{
	int fd;

	fd = ploop_file_reopen(img->fd, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	img->denied = fd < 0 && errno == ETXTBSY;
	if (img->denied)
		return 0;
	if (fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s%s", img->path,
					writable ? " for writing" : "");
	close(img->fd);
	img->fd = fd;
	img->writable = writable;
	return stat_file(img);
}

/**
 * ploop_image_close() - release everything of an image
 * @img: the image; may be closed already, or all zero bytes with fd -1
 */
void ploop_image_close(struct ploop_image *img)
{
	if (img->fd >= 0)
		close(img->fd);
	img->fd = -1;
	free(img->path);
	img->path = NULL;
	free(img->unfinished);
	img->unfinished = NULL;
}

/**
 * ploop_image_has_signature() - look whether a file begins like a ploop1 image
 * @img: an open image
 * @found: out: it does
 *
 * Return: 0 or PLOOP_EXIT_READ.
 */
int ploop_image_has_signature(const struct ploop_image *img, bool *found)
{
	struct ploop1_header header;

	*found = false;
	if (ploop_file_read(img->fd, &header, sizeof(header), 0)) {
		if (errno == ENODATA)
			return 0;
		return ploop_fail_errno(PLOOP_EXIT_READ, "cannot read %s", img->path);
	}
	*found = !memcmp(header.signature, PLOOP1_SIGNATURE_V1, sizeof(header.signature)) ||
		 !memcmp(header.signature, PLOOP1_SIGNATURE_V2, sizeof(header.signature));
	return 0;
}

static int load_raw(struct ploop_image *img)
{
	bool ploop1;
	int rc;

	rc = ploop_image_has_signature(img, &ploop1);
	if (rc)
		return rc;
	if (ploop1)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is a ploop1 image, not a raw one: leave out -f raw", img->path);
	img->size = img->file_size >> PLOOP_SECTOR_SHIFT;
	if (!img->size)
		return ploop_fail(PLOOP_EXIT_FORMAT, "%s is empty: no disk fits into it",
				  img->path);
	return 0;
}

static int bad_header(const struct ploop_image *img, const char *what, uint64_t value)
{
	return ploop_fail(PLOOP_EXIT_FORMAT,
			  "%s: the header is damaged: %s is %" PRIu64
			  "; restore the image from a backup",
			  img->path, what, value);
}

/* the fields of the header against each other and the size of the file */
static int check_geometry(const struct ploop_image *img)
{
	const struct ploop1_header *h = &img->header;
	const uint64_t words = (uint64_t)img->clusters + PLOOP1_INDEX_SKIP;
	const uint32_t offset = le32toh(h->first_block_offset);
	const uint64_t cluster = ploop_image_cluster_bytes(img);

	if (!img->size || img->size % img->cluster_sectors)
		return bad_header(img, "the size of the disk in sectors", img->size);
	if (img->clusters != img->size / img->cluster_sectors)
		return bad_header(img, "the number of clusters", img->clusters);
	if (offset % img->cluster_sectors ||
	    (uint64_t)offset << PLOOP_SECTOR_SHIFT < words * sizeof(uint32_t))
		return bad_header(img, "the offset of the first data cluster in sectors", offset);
	if (img->file_size < img->first * cluster)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: the file ends at byte %" PRIu64 ", inside its index of %" PRIu64
				  " bytes; restore the image from a backup",
				  img->path, img->file_size, img->first * cluster);
	return 0;
}

static int load_ploop1(struct ploop_image *img)
{
	const struct ploop1_header *h = &img->header;
	const uint32_t min = 1u << PLOOP_CLUSTER_LOG_MIN;
	const uint32_t max = 1u << PLOOP_CLUSTER_LOG_MAX;
	uint32_t bs;

	if (ploop_file_read(img->fd, &img->header, sizeof(img->header), 0)) {
		if (errno != ENODATA)
			return ploop_fail_errno(PLOOP_EXIT_READ, "cannot read %s", img->path);
		return ploop_fail(PLOOP_EXIT_READ, "%s is too short for a ploop1 image", img->path);
	}
	if (!memcmp(h->signature, PLOOP1_SIGNATURE_V1, sizeof(h->signature)))
		img->version = PLOOP_IMAGE_V1;
	else if (!memcmp(h->signature, PLOOP1_SIGNATURE_V2, sizeof(h->signature)))
		img->version = PLOOP_IMAGE_V2;
	else
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s is not a ploop1 image; give -f raw if it is a plain disk image",
				  img->path);
	if (le32toh(h->type) != PLOOP1_TYPE)
		return bad_header(img, "the type", le32toh(h->type));
	bs = le32toh(h->cluster_sectors);
	if (bs < min || bs > max || (bs & (bs - 1)))
		return bad_header(img, "the cluster size in sectors", bs);
	img->cluster_sectors = bs;
	img->clusters = le32toh(h->clusters);
	img->size = le64toh(h->size);
	if (img->version == PLOOP_IMAGE_V1)
		img->size &= UINT32_MAX;
	img->first = le32toh(h->first_block_offset) / bs;
	return check_geometry(img);
}

/**
 * ploop_image_load() - read and check what an image says about itself
 * @img: an open image
 * @format: what it must be
 *
 * The index is not looked at.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_load(struct ploop_image *img, enum ploop_format_id format)
{
	img->format = format;
	return format == PLOOP_FMT_RAW ? load_raw(img) : load_ploop1(img);
}

/**
 * ploop_image_is_dirty() - does the header say that the image is in use
 * @img: a loaded image
 *
 * Return: true when it is attached for writing, or a crash left it so.
 */
bool ploop_image_is_dirty(const struct ploop_image *img)
{
	uint32_t in_use;

	if (img->format == PLOOP_FMT_RAW)
		return false;
	in_use = le32toh(img->header.in_use);
	return in_use != PLOOP1_CLOSED && in_use != PLOOP1_CLOSED_EXT;
}

/**
 * ploop_image_is_ragged() - does the file end within a cluster
 * @img: a loaded image
 *
 * Return: true when it does, which an interrupted extension or copy leaves.
 */
bool ploop_image_is_ragged(const struct ploop_image *img)
{
	if (img->format == PLOOP_FMT_RAW)
		return false;
	return img->file_size % ploop_image_cluster_bytes(img) != 0;
}

/**
 * ploop_image_sync() - make everything written to an image durable
 * @img: the image
 *
 * Return: 0 or PLOOP_EXIT_FSYNC.
 */
int ploop_image_sync(const struct ploop_image *img)
{
	if (fsync(img->fd))
		return ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync %s", img->path);
	return 0;
}

/**
 * ploop_image_set_in_use() - set or remove the mark of use, durably
 * @img: a loaded ploop1 image, writable
 * @in_use: set it; else remove it, what was written before being durable already
 * @used: clusters that are mapped; the image does not count as empty any more
 *        when there is one
 *
 * Return: 0 or an exit code.
 */
int ploop_image_set_in_use(struct ploop_image *img, bool in_use, uint64_t used)
{
	struct ploop1_header *h = &img->header;

	h->in_use = htole32(in_use ? PLOOP1_IN_USE : PLOOP1_CLOSED);
	/* what it describes is about to change; others follow it without a look at the mark */
	h->extension = 0;
	if (used)
		h->flags = htole32(le32toh(h->flags) & ~PLOOP1_FLAG_EMPTY);
	if (ploop_file_write(img->fd, h, sizeof(*h), 0))
		return ploop_fail_errno(PLOOP_EXIT_WRITE, "cannot write the header of %s",
					img->path);
	return ploop_image_sync(img);
}

/**
 * ploop_image_end_use() - remove the mark of use after some work
 * @img: a loaded image, writable
 * @used: as for ploop_image_set_in_use()
 * @rc: how the work ended: 0 or an exit code
 *
 * After a failed write nobody knows what is in the file: then the mark stays,
 * and whoever uses the image next checks it. So it does when the driver could
 * not be told where clusters are now: the next one has to tell it. After other
 * failures, and when a signal ended the work, the image is in order.
 *
 * Return: @rc, or an exit code when this fails.
 */
int ploop_image_end_use(struct ploop_image *img, uint64_t used, int rc)
{
	int end;

	if (rc == PLOOP_EXIT_WRITE || rc == PLOOP_EXIT_FSYNC || rc == PLOOP_EXIT_TRUNCATE ||
	    rc == PLOOP_EXIT_IOCTL)
		return rc;
	end = ploop_image_sync(img);
	if (!end && img->format == PLOOP_FMT_PLOOP1)
		end = ploop_image_set_in_use(img, false, used);
	return rc ? rc : end;
}

/**
 * ploop_image_write_zeros() - fill a range of the file with zeros, not with a hole
 * @img: an image, writable
 * @from: its first byte
 * @to: the byte behind it
 * @cancellable: a signal ends the work early
 *
 * For the index, where old drivers want blocks.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_write_zeros(const struct ploop_image *img, uint64_t from, uint64_t to,
			    bool cancellable)
{
	char *zeros = calloc(1, ZERO_PIECE);
	int rc = 0;

	if (!zeros)
		return ploop_fail_memory();
	while (from < to && !rc) {
		const size_t len = to - from < ZERO_PIECE ? (size_t)(to - from) : ZERO_PIECE;

		if (cancellable && ploop_cancelled())
			rc = ploop_fail_cancelled();
		else if (ploop_file_write(img->fd, zeros, len, from))
			rc = ploop_fail_errno(PLOOP_EXIT_WRITE,
					      "cannot write %s at byte %" PRIu64, img->path, from);
		from += len;
	}
	free(zeros);
	return rc;
}

/**
 * ploop_image_cluster_bytes() - cluster size in bytes
 * @img: an image that knows its cluster size
 *
 * Return: the size.
 */
uint64_t ploop_image_cluster_bytes(const struct ploop_image *img)
{
	return (uint64_t)img->cluster_sectors << PLOOP_SECTOR_SHIFT;
}
