/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The index of ploop1 images, in pieces that do not depend on its size.
 *
 * Word w of the file is the entry of cluster w - PLOOP1_INDEX_SKIP in every
 * image, so the same window fits all images of a stack.
 */
#ifndef PLOOP_IMAGE_INDEX_H
#define PLOOP_IMAGE_INDEX_H

#include <stdint.h>

#include "image.h"

/**
 * PLOOP_WINDOW_WORDS: words of a window: 1 MiB of the index, a whole number of
 * pages
 */
#define PLOOP_WINDOW_WORDS	(1u << 18)

/**
 * struct ploop_window - a piece of the index of an image
 * @base: number of its first word in the file
 * @words: words that the image has here; those behind read as 0
 * @word: PLOOP_WINDOW_WORDS of them, as they are on disk
 * @dirty: for each page of the file whether it was changed
 */
struct ploop_window {
	uint64_t base;
	uint32_t words;
	uint32_t *word;
	unsigned char *dirty;
};

/**
 * typedef ploop_index_fn - visitor of the index
 * @img: the image
 * @cluster: cluster of the disk
 * @entry: its entry, not 0
 * @data: the caller's
 *
 * Return: 0 to go on, anything else to stop.
 */
typedef int (*ploop_index_fn)(const struct ploop_image *img, uint32_t cluster, uint32_t entry,
			      void *data);

uint64_t ploop_index_words(const struct ploop_image *img);
uint32_t ploop_index_unit(const struct ploop_image *img);
int ploop_index_walk(const struct ploop_image *img, ploop_index_fn fn, void *data);

int ploop_window_init(struct ploop_window *window);
void ploop_window_free(struct ploop_window *window);
int ploop_window_read(struct ploop_window *window, const struct ploop_image *img, uint64_t base);
uint32_t ploop_window_get(const struct ploop_window *window, uint32_t i);
void ploop_window_set(struct ploop_window *window, uint32_t i, uint32_t entry);
int ploop_window_write(struct ploop_window *window, const struct ploop_image *img);

#endif /* PLOOP_IMAGE_INDEX_H */
