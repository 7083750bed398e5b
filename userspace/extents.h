/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lists of clusters, as the driver wants them to make an image file shorter.
 */
#ifndef PLOOP_EXTENTS_H
#define PLOOP_EXTENTS_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"

/**
 * struct ploop_range - consecutive bytes of a device, or clusters of it
 * @start: the first
 * @len: how many
 */
struct ploop_range {
	uint64_t start;
	uint64_t len;
};

/**
 * struct ploop_ranges - parts of a device
 * @range: they rise, and do not touch each other
 * @n: number of @range
 */
struct ploop_ranges {
	struct ploop_range *range;
	size_t n;
};

/**
 * struct ploop_extents - clusters, and where they are in the top image
 * @extent: by their place in the file
 * @n: number of @extent
 */
struct ploop_extents {
	struct ploop_freeblks_extent *extent;
	size_t n;
};

int ploop_ranges_add(struct ploop_ranges *ranges, uint64_t start, uint64_t len);
void ploop_ranges_to_clusters(struct ploop_ranges *ranges, uint64_t cluster_bytes);
void ploop_ranges_free(struct ploop_ranges *ranges);

int ploop_extents_find(struct ploop_extents *extents, const struct ploop_image *img,
		       const struct ploop_ranges *ranges);
uint64_t ploop_extents_count(const struct ploop_extents *extents, uint32_t from, uint32_t to);
struct ploop_relocblks_ctl *ploop_extents_window(const struct ploop_extents *mapped,
						 const struct ploop_extents *loaded,
						 uint32_t first, uint32_t head);
void ploop_extents_free(struct ploop_extents *extents);

#endif /* PLOOP_EXTENTS_H */
