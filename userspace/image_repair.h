/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is wrong with a ploop1 image, and how to put it right.
 */
#ifndef PLOOP_IMAGE_REPAIR_H
#define PLOOP_IMAGE_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"

/**
 * struct ploop_findings - what was found in an image
 * @usage: what its index names
 * @used: a bit for each cluster of the file that is named
 * @lost: clusters of the file that take space, but have no entry
 * @tail: clusters of the file behind the last one that is named
 * @false_empty: the header says that nothing is allocated, which is not so
 */
struct ploop_findings {
	struct ploop_image_usage usage;
	unsigned char *used;
	uint64_t lost;
	uint64_t tail;
	bool false_empty;
};

int ploop_image_examine(const struct ploop_image *img, struct ploop_findings *findings);
bool ploop_findings_need_repair(const struct ploop_image *img,
				const struct ploop_findings *findings);
void ploop_findings_free(struct ploop_findings *findings);
int ploop_image_repair(struct ploop_image *img, struct ploop_findings *findings);

#endif /* PLOOP_IMAGE_REPAIR_H */
