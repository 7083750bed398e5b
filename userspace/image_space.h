/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Free clusters of ploop1 image files.
 */
#ifndef PLOOP_IMAGE_SPACE_H
#define PLOOP_IMAGE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"

/**
 * struct ploop_space - the clusters of an image file
 * @used: a bit for each that the index names
 * @next: none below is free
 * @in_file: those that the file had at first; what is behind was new
 * @limit: those that entries can name
 * @mapped: how many are in use
 * @kept: bytes of the file that must stay when the work is given up
 */
struct ploop_space {
	unsigned char *used;
	uint64_t next;
	uint64_t in_file;
	uint64_t limit;
	uint64_t mapped;
	uint64_t kept;
};

void ploop_space_begin(struct ploop_space *space, const struct ploop_image *img,
		       const struct ploop_image_usage *usage, unsigned char *used, uint64_t from);
int ploop_space_load(struct ploop_space *space, const struct ploop_image *img, uint64_t from);
void ploop_space_free(struct ploop_space *space);
int ploop_space_take(struct ploop_space *space, const struct ploop_image *img, uint32_t *iblk,
		     bool *fresh);
int ploop_space_extend(struct ploop_space *space, struct ploop_image *img);

void ploop_space_trim(const struct ploop_space *space, struct ploop_image *img);

#endif /* PLOOP_IMAGE_SPACE_H */
