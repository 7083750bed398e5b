/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Puts what is in upper images into the one below them.
 */
#ifndef PLOOP_MERGE_H
#define PLOOP_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image.h"

/**
 * struct ploop_merge - what to merge
 * @image: the destination, then what is above it, the topmost last; loaded
 * @n: number of @image
 * @cluster_sectors: cluster size of all
 * @reflink: share blocks instead of copying them
 * @moves: who must know about clusters of the destination that are moved, or NULL
 */
struct ploop_merge {
	struct ploop_image *image;
	size_t n;
	uint32_t cluster_sectors;
	bool reflink;
	const struct ploop_moves *moves;
};

int ploop_merge_images(const struct ploop_merge *merge);

#endif /* PLOOP_MERGE_H */
