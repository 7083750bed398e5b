// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sparse bitmap over 32-bit cluster numbers: owners of an image's clusters
 * while it is validated, and its free clusters while the device runs.
 */
#include "bitmap.h"

#include <linux/bitmap.h>
#include <linux/module.h>
#include <linux/slab.h>

#define CHUNK_SHIFT	12
#define CHUNK_BITS	(1UL << CHUNK_SHIFT)

static unsigned long *chunk_of(struct ploop_bitmap *b, u32 bit)
{
	return xa_load(&b->chunks, bit >> CHUNK_SHIFT);
}

/**
 * ploop_bitmap_init() - make an empty set
 * @b: the set
 */
void ploop_bitmap_init(struct ploop_bitmap *b)
{
	xa_init(&b->chunks);
	b->weight = 0;
}
EXPORT_SYMBOL_GPL(ploop_bitmap_init);

/**
 * ploop_bitmap_destroy() - free the memory of a set; leaves it empty
 * @b: the set
 */
void ploop_bitmap_destroy(struct ploop_bitmap *b)
{
	unsigned long index;
	void *chunk;

	xa_for_each(&b->chunks, index, chunk)
		kfree(chunk);
	xa_destroy(&b->chunks);
	b->weight = 0;
}
EXPORT_SYMBOL_GPL(ploop_bitmap_destroy);

/**
 * ploop_bitmap_set() - add a number to the set
 * @b: the set
 * @bit: the number
 * @gfp: how to allocate a missing chunk
 *
 * Return: 0; 1 if it was in the set already; -ENOMEM.
 */
int ploop_bitmap_set(struct ploop_bitmap *b, u32 bit, gfp_t gfp)
{
	unsigned long *chunk = chunk_of(b, bit);
	int err;

	if (!chunk) {
		chunk = kzalloc(CHUNK_BITS / BITS_PER_BYTE, gfp);
		if (!chunk)
			return -ENOMEM;
		err = xa_err(xa_store(&b->chunks, bit >> CHUNK_SHIFT, chunk, gfp));
		if (err) {
			kfree(chunk);
			return err;
		}
	}
	if (__test_and_set_bit(bit & (CHUNK_BITS - 1), chunk))
		return 1;
	b->weight++;
	return 0;
}
EXPORT_SYMBOL_GPL(ploop_bitmap_set);

/**
 * ploop_bitmap_clear() - take a number out of the set
 * @b: the set
 * @bit: the number
 */
void ploop_bitmap_clear(struct ploop_bitmap *b, u32 bit)
{
	unsigned long *chunk = chunk_of(b, bit);

	if (chunk && __test_and_clear_bit(bit & (CHUNK_BITS - 1), chunk))
		b->weight--;
}
EXPORT_SYMBOL_GPL(ploop_bitmap_clear);

/**
 * ploop_bitmap_test() - ask whether a number is in the set
 * @b: the set
 * @bit: the number
 *
 * Return: true if it is.
 */
bool ploop_bitmap_test(struct ploop_bitmap *b, u32 bit)
{
	unsigned long *chunk = chunk_of(b, bit);

	return chunk && test_bit(bit & (CHUNK_BITS - 1), chunk);
}
EXPORT_SYMBOL_GPL(ploop_bitmap_test);

/**
 * ploop_bitmap_next_set() - find the next member
 * @b: the set
 * @from: first number to look at
 * @end: one past the last number to look at, at most 1 << 32
 *
 * Return: the lowest member in [@from, @end), or @end.
 */
u64 ploop_bitmap_next_set(struct ploop_bitmap *b, u64 from, u64 end)
{
	unsigned long index = from >> CHUNK_SHIFT;
	unsigned long *chunk;

	if (from >= end)
		return end;
	xa_for_each_range(&b->chunks, index, chunk, from >> CHUNK_SHIFT,
			  (end - 1) >> CHUNK_SHIFT) {
		u64 base = (u64)index << CHUNK_SHIFT;
		unsigned long start = from > base ? from - base : 0;
		unsigned long bit = find_next_bit(chunk, CHUNK_BITS, start);

		if (bit < CHUNK_BITS)
			return min(base + bit, end);
	}
	return end;
}
EXPORT_SYMBOL_GPL(ploop_bitmap_next_set);

/**
 * ploop_bitmap_next_clear() - find the next number that is not a member
 * @b: the set
 * @from: first number to look at
 * @end: one past the last number to look at, at most 1 << 32
 *
 * Return: the lowest number in [@from, @end) outside the set, or @end.
 */
u64 ploop_bitmap_next_clear(struct ploop_bitmap *b, u64 from, u64 end)
{
	while (from < end) {
		u64 base = round_down(from, (u64)CHUNK_BITS);
		unsigned long *chunk = chunk_of(b, from);
		unsigned long bit;

		if (!chunk)
			return from;
		bit = find_next_zero_bit(chunk, CHUNK_BITS, from - base);
		from = base + bit;
		if (bit < CHUNK_BITS)
			return min(from, end);
	}
	return end;
}
EXPORT_SYMBOL_GPL(ploop_bitmap_next_clear);
