/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_BITMAP_H
#define PLOOP_BITMAP_H

#include <linux/types.h>
#include <linux/xarray.h>

/**
 * struct ploop_bitmap - sparse set of 32-bit cluster numbers
 * @chunks: words of the set, in chunks that exist only where a bit was set
 * @weight: number of members
 *
 * Memory follows the number of distinct chunks, not the range, so that a
 * hostile image with one entry at the far end costs one chunk. The caller
 * serialises.
 */
struct ploop_bitmap {
	struct xarray chunks;
	u64 weight;
};

void ploop_bitmap_init(struct ploop_bitmap *b);
void ploop_bitmap_destroy(struct ploop_bitmap *b);
int ploop_bitmap_set(struct ploop_bitmap *b, u32 bit, gfp_t gfp);
void ploop_bitmap_clear(struct ploop_bitmap *b, u32 bit);
bool ploop_bitmap_test(struct ploop_bitmap *b, u32 bit);
u64 ploop_bitmap_next_set(struct ploop_bitmap *b, u64 from, u64 end);
u64 ploop_bitmap_next_clear(struct ploop_bitmap *b, u64 from, u64 end);

#endif /* PLOOP_BITMAP_H */
