/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stack of images that makes one disk: base first, top last.
 */
#ifndef PLOOP_CHAIN_H
#define PLOOP_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device.h"
#include "image.h"

/**
 * struct ploop_chain - a stack of open, locked images that fit together
 * @images: base first
 * @n: number of @images
 * @cluster_sectors: cluster size of all
 * @readonly: nothing will be written, not even the top
 * @merge: the base will be written, and nothing else
 */
struct ploop_chain {
	struct ploop_image *images;
	size_t n;
	uint32_t cluster_sectors;
	bool readonly;
	bool merge;
};

/**
 * struct ploop_chain_params - how to understand a stack
 * @base_format: format of the base; all others are ploop1
 * @cluster_sectors: cluster size the user gave, or 0
 * @readonly: nothing will be written, except to recover from a crash
 * @merge: the base will be written, and nothing else
 */
struct ploop_chain_params {
	enum ploop_format_id base_format;
	uint32_t cluster_sectors;
	bool readonly;
	bool merge;
};

int ploop_chain_open(struct ploop_chain *chain, char *const paths[], size_t n,
		     const struct ploop_chain_params *params);
int ploop_chain_refuse_same(const struct ploop_image *one, const struct ploop_image *other);
int ploop_chain_fit(const struct ploop_image *lower, const struct ploop_image *upper);
int ploop_chain_from_image(struct ploop_chain *chain, struct ploop_image *img);
int ploop_chain_attach(struct ploop_chain *chain, int index, struct ploop_device *dev);
void ploop_chain_close(struct ploop_chain *chain);

#endif /* PLOOP_CHAIN_H */
