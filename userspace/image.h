/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Image files: the on-disk format, and nothing about devices.
 */
#ifndef PLOOP_IMAGE_H
#define PLOOP_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/ploop.h>
#include <linux/ploop1_image.h>

/** PLOOP_IMAGE_V1: file offsets in the index */
#define PLOOP_IMAGE_V1		1u
/** PLOOP_IMAGE_V2: cluster numbers in the index */
#define PLOOP_IMAGE_V2		2u
/** PLOOP_IMAGE_MODE: permissions of a new image */
#define PLOOP_IMAGE_MODE	0600

/**
 * struct ploop_image - an open image file
 * @path: canonical path
 * @unfinished: the name of a new file until it is whole; NULL when it needs none
 * @fd: the file, or -1
 * @writable: @fd is open for writing
 * @denied: or would be, but somebody denies that to all others
 * @dev: device of the file's filesystem
 * @ino: inode of the file
 * @format: raw or ploop1
 * @version: PLOOP_IMAGE_V1 or PLOOP_IMAGE_V2; 0 for raw
 * @cluster_sectors: cluster size; 0 for raw until somebody says it
 * @clusters: clusters of the virtual disk; 0 for raw
 * @first: clusters that header and index take: the first one for data; 0 for raw
 * @size: size of the virtual disk in sectors
 * @file_size: size of the file in bytes
 * @allocated: bytes the file takes on its filesystem
 * @header: the header as it is on disk; ploop1 only
 */
struct ploop_image {
	char *path;
	char *unfinished;
	int fd;
	bool writable;
	bool denied;
	dev_t dev;
	ino_t ino;
	enum ploop_format_id format;
	unsigned int version;
	uint32_t cluster_sectors;
	uint32_t clusters;
	uint32_t first;
	uint64_t size;
	uint64_t file_size;
	uint64_t allocated;
	struct ploop1_header header;
};

/**
 * struct ploop_image_params - what a new image shall be
 * @format: raw or ploop1
 * @version: PLOOP_IMAGE_V1 or PLOOP_IMAGE_V2; ploop1 only
 * @cluster_sectors: cluster size
 * @size: size of the virtual disk in sectors
 */
struct ploop_image_params {
	enum ploop_format_id format;
	unsigned int version;
	uint32_t cluster_sectors;
	uint64_t size;
};

/**
 * struct ploop_image_usage - what a walk over the index found
 * @used: clusters of the virtual disk that are mapped
 * @beyond_eof: of these, clusters that are not wholly inside the file
 * @duplicates: of these, clusters whose place in the file is that of one before
 * @outside: entries of clusters that the disk has not
 * @nowhere: entries that name no place where data can be
 * @file_clusters: clusters the file must hold for every entry to be inside
 */
struct ploop_image_usage {
	uint64_t used;
	uint64_t beyond_eof;
	uint64_t duplicates;
	uint64_t outside;
	uint64_t nowhere;
	uint64_t file_clusters;
};

/**
 * enum ploop_shared - does a file share blocks with others
 * @PLOOP_SHARED_NO: no
 * @PLOOP_SHARED_YES: yes, as after cp --reflink
 * @PLOOP_SHARED_UNKNOWN: its filesystem does not tell, or it is in too many pieces
 */
enum ploop_shared {
	PLOOP_SHARED_NO,
	PLOOP_SHARED_YES,
	PLOOP_SHARED_UNKNOWN,
};

/**
 * struct ploop_moves - somebody who must know where clusters went
 * @fn: called when they are at their new place, durably, and before the old
 *      places are overwritten; returns 0 or an exit code
 * @data: the first argument of @fn
 */
struct ploop_moves {
	int (*fn)(void *data, const struct ploop_image *img, const struct ploop_reloc_map *map,
		  size_t n);
	void *data;
};

/* image.c */
int ploop_format_parse(const char *what, const char *arg, enum ploop_format_id *format);
const char *ploop_format_name(enum ploop_format_id format);
int ploop_image_open(struct ploop_image *img, const char *path, bool writable);
int ploop_image_reopen(struct ploop_image *img, bool writable);
int ploop_image_load(struct ploop_image *img, enum ploop_format_id format);
int ploop_image_has_signature(const struct ploop_image *img, bool *found);
bool ploop_image_is_dirty(const struct ploop_image *img);
bool ploop_image_is_ragged(const struct ploop_image *img);
int ploop_image_set_in_use(struct ploop_image *img, bool in_use, uint64_t used);
int ploop_image_end_use(struct ploop_image *img, uint64_t used, int rc);
int ploop_image_sync(const struct ploop_image *img);
int ploop_image_write_zeros(const struct ploop_image *img, uint64_t from, uint64_t to,
			    bool cancellable);
uint64_t ploop_image_cluster_bytes(const struct ploop_image *img);
void ploop_image_close(struct ploop_image *img);

/* image_create.c */
int ploop_image_create(struct ploop_image *img, const char *path,
		       const struct ploop_image_params *params);
int ploop_image_begin(struct ploop_image *img);
int ploop_image_publish(struct ploop_image *img);
int ploop_image_plan(struct ploop_image *img, const struct ploop_image_params *params);
void ploop_image_fill_geometry(struct ploop_image *img);
int ploop_image_empty(struct ploop_image *img);
void ploop_image_unlink(const struct ploop_image *img);

/* image_check.c */
int ploop_image_count(const struct ploop_image *img, uint64_t *used);
int ploop_image_map(const struct ploop_image *img, struct ploop_image_usage *usage,
		    unsigned char **used);
int ploop_image_survey(const struct ploop_image *img, struct ploop_image_usage *usage,
		       unsigned char **used);
int ploop_image_check(const struct ploop_image *img, struct ploop_image_usage *usage);
int ploop_image_extend(struct ploop_image *img, const struct ploop_image_usage *usage);
int ploop_image_cut(struct ploop_image *img, const struct ploop_image_usage *usage);
int ploop_image_recover(struct ploop_image *img);

/* image_fill.c */
int ploop_image_fill_holes(const struct ploop_image *img, uint64_t *filled);

/* image_shared.c */
enum ploop_shared ploop_image_shared(const struct ploop_image *img);

/* image_grow.c */
uint64_t ploop_image_grown_size(const struct ploop_image *img, uint64_t size);
int ploop_image_grow(struct ploop_image *img, uint64_t size, const struct ploop_moves *moves);

#endif /* PLOOP_IMAGE_H */
