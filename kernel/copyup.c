// SPDX-License-Identifier: GPL-2.0-only
/*
 * Synchronous transfers inside the driver: copying from a lower delta, and
 * writing zeros.
 */
#include "ploop.h"

#include <linux/highmem.h>
#include <linux/slab.h>

/* One page is enough to make progress; more are taken when they are there. */
#define COPY_POOL_PAGES	2
#define ZERO_SEGS	64

/**
 * struct copy_buf - pages for one copy
 * @bv: the pages
 * @nr: how many there are
 * @reserve: there were none; the only page comes from the pool
 */
struct copy_buf {
	struct bio_vec bv[PLOOP_COPY_PAGES];
	unsigned int nr;
	bool reserve;
};

/*
 * The last buffer is kept, one for all devices: a kernel that clears pages when
 * they are allocated spends a quarter of a copy on that.
 */
static struct copy_buf *spare;

/**
 * ploop_copy_init() - take the memory that lets copies make progress
 * @plo: the device
 *
 * Return: 0 or -ENOMEM.
 */
int ploop_copy_init(struct ploop_device *plo)
{
	return mempool_init_page_pool(&plo->copy_pool, COPY_POOL_PAGES, 0);
}

/**
 * ploop_copy_exit() - undo ploop_copy_init()
 * @plo: the device
 */
void ploop_copy_exit(struct ploop_device *plo)
{
	mempool_exit(&plo->copy_pool);
}

static struct copy_buf *buf_get(struct ploop_device *plo, u32 len)
{
	unsigned int want = min_t(u32, DIV_ROUND_UP(len, PAGE_SIZE), PLOOP_COPY_PAGES);
	struct copy_buf *buf = xchg(&spare, NULL);
	struct page *page;

	if (buf)
		return buf;
	buf = kmalloc(sizeof(*buf), GFP_NOIO | __GFP_NOWARN);
	if (!buf)
		return NULL;
	for (buf->nr = 0; buf->nr < want; buf->nr++) {
		page = alloc_page(GFP_NOWAIT | __GFP_NOWARN);
		if (!page)
			break;
		bvec_set_page(&buf->bv[buf->nr], page, PAGE_SIZE, 0);
	}
	buf->reserve = !buf->nr;
	if (buf->reserve) {
		page = mempool_alloc(&plo->copy_pool, GFP_NOIO);
		bvec_set_page(&buf->bv[buf->nr++], page, PAGE_SIZE, 0);
	}
	return buf;
}

static void buf_free(struct copy_buf *buf)
{
	if (!buf)
		return;
	while (buf->nr)
		__free_page(buf->bv[--buf->nr].bv_page);
	kfree(buf);
}

static void buf_put(struct ploop_device *plo, struct copy_buf *buf)
{
	if (buf->nr == PLOOP_COPY_PAGES)
		buf = xchg(&spare, buf);
	if (buf && buf->reserve)
		mempool_free(buf->bv[--buf->nr].bv_page, &plo->copy_pool);
	buf_free(buf);
}

/**
 * ploop_copy_cleanup() - give back what all devices share
 *
 * Context: process; there is no device.
 */
void ploop_copy_cleanup(void)
{
	buf_free(xchg(&spare, NULL));
}

static bool buf_is_zero(const struct copy_buf *buf, u32 len)
{
	unsigned int i;

	for (i = 0; len; i++) {
		u32 part = min_t(u32, len, PAGE_SIZE);

		if (memchr_inv(page_address(buf->bv[i].bv_page), 0, part))
			return false;
		len -= part;
	}
	return true;
}

/**
 * ploop_copy_range() - copy part of a cluster from a lower delta to the top
 * @plo: the device
 * @from: map entry of the source
 * @to: cluster of the top delta's file
 * @off: first byte in the cluster, aligned to the device's block size
 * @len: number of bytes, aligned likewise; may be 0
 * @skip_zeros: @to reads as zeros, so zeros need not be written
 *
 * Context: worker, memalloc_noio. The caller owns the cluster and an epoch.
 * Return: 0 or a negative errno; -ENOMEM may be tried again later.
 */
int ploop_copy_range(struct ploop_device *plo, u64 from, u32 to, u32 off, u32 len,
		     bool skip_zeros)
{
	struct ploop_delta *src = plo->slot[ploop_entry_slot(from)], *top = plo->top;
	loff_t src_pos = ploop_entry_pos(plo, from) + off;
	loff_t dst_pos = ploop_iblk_pos(plo, to) + off;
	struct copy_buf *buf;
	int err = 0;

	if (!len)
		return 0;
	buf = buf_get(plo, len);
	if (!buf)
		return -ENOMEM;
	while (len && !err) {
		u32 part = min_t(u32, len, buf->nr * PAGE_SIZE);

		err = src->io->rw(src, READ, buf->bv, part, src_pos);
		if (!err && !(skip_zeros && buf_is_zero(buf, part)))
			err = top->io->rw(top, WRITE, buf->bv, part, dst_pos);
		src_pos += part;
		dst_pos += part;
		len -= part;
	}
	buf_put(plo, buf);
	return err;
}

/**
 * ploop_write_zeros() - write zeros, as data
 * @delta: the delta
 * @pos: byte offset in its file, aligned to its block size
 * @len: number of bytes, aligned likewise; may be 0
 *
 * Context: worker, memalloc_noio.
 * Return: 0 or a negative errno.
 */
int ploop_write_zeros(struct ploop_delta *delta, loff_t pos, u32 len)
{
	struct bio_vec bv[ZERO_SEGS];
	int i, err = 0;

	for (i = 0; i < ZERO_SEGS; i++)
		bvec_set_page(&bv[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	while (len && !err) {
		u32 part = min_t(u32, len, ZERO_SEGS * PAGE_SIZE);

		err = delta->io->rw(delta, WRITE, bv, part, pos);
		pos += part;
		len -= part;
	}
	return err;
}
