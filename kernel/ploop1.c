// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image format ploop1: validates an image at open, and writes its header and
 * index.
 */
#include "ploop.h"
#include "ploop1_layout.h"

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#define LOAD_PAGES	64
#define WORDS_PER_PAGE	(PLOOP1_PAGE / sizeof(__le32))

/**
 * struct ploop1 - an open image
 * @layout: its geometry [const]
 * @header: what the first 64 bytes of the file hold [flush_mutex, or the
 *          device is not running]
 * @page: buffer for page 0 of the file [as @header]
 */
struct ploop1 {
	struct ploop1_layout layout;
	struct ploop1_header header;
	struct page *page;
};

static int rw_page0(struct ploop_delta *delta, unsigned int dir)
{
	struct ploop1 *p = delta->format_priv;
	struct bio_vec bv;

	bvec_set_page(&bv, p->page, PLOOP1_PAGE, 0);
	return delta->io->rw(delta, dir, &bv, PLOOP1_PAGE, 0);
}

/* The image does not suit the stack: nothing is damaged. */
static const char *misfit(struct ploop_delta *delta, const struct ploop1_layout *l)
{
	struct ploop_device *plo = delta->plo;
	const struct ploop_delta *below, *above;

	below = delta->level ? plo->level[delta->level - 1] : NULL;
	above = delta->level + 1 < plo->nr_deltas ? plo->level[delta->level + 1] : NULL;
	if (l->cluster_log != plo->cluster_log)
		return "cluster size differs from the device's";
	if (plo->version && plo->version != l->version)
		return "version differs from that of the other deltas";
	if (below && below->size > l->size)
		return "disk is smaller than that of the delta below";
	if (above && above->size < l->size)
		return "disk is larger than that of the delta above";
	if (below && below->size & ((1ULL << l->cluster_log) - 1))
		return "disk size below is not a multiple of the cluster size";
	return NULL;
}

static bool is_marked(const struct ploop1 *p)
{
	return le32_to_cpu(p->header.in_use) == PLOOP1_IN_USE;
}

/*
 * Reads header and geometry, and keeps them when they are good. A mark of use
 * that we know is our own.
 */
static int read_header(struct ploop_delta *delta, bool may_be_marked)
{
	struct ploop1 *p = delta->format_priv;
	struct ploop1_header *hdr = page_address(p->page);
	struct ploop1_layout layout;
	const char *why;
	int err;

	err = rw_page0(delta, READ);
	if (err)
		return err;
	err = ploop1_layout_parse(hdr, delta->io->size(delta), &layout, &why);
	if (!err) {
		why = misfit(delta, &layout);
		err = why ? -EINVAL : 0;
	}
	if (!err && layout.in_use && !is_marked(p) && !may_be_marked) {
		why = "is marked in use: it was not closed, or is in use elsewhere";
		err = -EBUSY;
	}
	if (err) {
		ploop_err(delta->plo, "%pD4: header: %s\n", delta->file, why);
		return err;
	}
	p->header = *hdr;
	p->layout = layout;
	return 0;
}

/**
 * struct load - reading an index
 * @delta: the delta
 * @map: where its entries go
 * @owned: clusters of the file that have an owner
 */
struct load {
	struct ploop_delta *delta;
	struct ploop_map *map;
	struct ploop_bitmap owned;
};

static int load_entry(struct load *ld, u64 word, u32 raw)
{
	struct ploop_delta *delta = ld->delta;
	struct ploop1 *p = delta->format_priv;
	u64 clu = word - PLOOP1_INDEX_SKIP;
	u32 iblk = 0;
	const char *why;
	int err;

	why = "lies beyond the end of the disk";
	err = -EUCLEAN;
	if (clu >= p->layout.clusters)
		goto out_report;
	err = ploop1_entry_check(&p->layout, raw, &iblk, &why);
	if (err)
		goto out_report;
	err = ploop_bitmap_set(&ld->owned, iblk, GFP_KERNEL);
	if (err < 0)
		return err;
	if (err) {
		why = "points to a cluster that another entry owns";
		err = -EUCLEAN;
		goto out_report;
	}
	err = ploop_map_reserve(ld->map, clu, GFP_KERNEL);
	if (!err)
		ploop_map_set(ld->map, clu, ploop_entry(iblk, delta->slot, false));
	return err;

out_report:
	ploop_err(delta->plo, "%pD4: index entry %llu (value %u) %s\n", delta->file, clu,
		  raw, why);
	return err;
}

/* @word: number of the first word of the page in the file. */
static int load_page(struct load *ld, const __le32 *page, u64 word)
{
	unsigned int i = word ? 0 : PLOOP1_INDEX_SKIP;
	int err;

	if (!memchr_inv(page + i, 0, (WORDS_PER_PAGE - i) * sizeof(*page)))
		return 0;
	for (; i < WORDS_PER_PAGE; i++) {
		if (!page[i])
			continue;
		err = load_entry(ld, word + i, le32_to_cpu(page[i]));
		if (err)
			return err;
	}
	return 0;
}

static int load_pages(struct load *ld, struct bio_vec *bv)
{
	struct ploop_delta *delta = ld->delta;
	struct ploop1 *p = delta->format_priv;
	u64 end = (u64)p->layout.index_clusters << (p->layout.cluster_log + SECTOR_SHIFT);
	u64 pos, len, off;
	int err;

	/* Also behind the last entry: a grown image would bring it to life. */
	for (pos = 0; pos < end; pos += len) {
		len = min_t(u64, end - pos, LOAD_PAGES * PLOOP1_PAGE);
		err = delta->io->rw(delta, READ, bv, len, pos);
		if (err)
			return err;
		for (off = 0; off < len && !err; off += PLOOP1_PAGE)
			err = load_page(ld, page_address(bv[off / PLOOP1_PAGE].bv_page),
					(pos + off) / sizeof(__le32));
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int load_index(struct load *ld)
{
	struct bio_vec bv[LOAD_PAGES];
	int i, err = -ENOMEM;

	for (i = 0; i < LOAD_PAGES; i++) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			goto out_free_pages;
		bvec_set_page(&bv[i], page, PLOOP1_PAGE, 0);
	}
	ploop_bitmap_init(&ld->owned);
	err = load_pages(ld, bv);
	ploop_bitmap_destroy(&ld->owned);
out_free_pages:
	while (i--)
		__free_page(bv[i].bv_page);
	return err;
}

static void ploop1_close(struct ploop_delta *delta)
{
	struct ploop1 *p = delta->format_priv;

	__free_page(p->page);
	kfree(p);
	delta->format_priv = NULL;
}

static void use_layout(struct ploop_delta *delta)
{
	const struct ploop1_layout *l = &((struct ploop1 *)delta->format_priv)->layout;

	delta->version = l->version;
	delta->size = l->size;
	delta->index_clusters = l->index_clusters;
	delta->max_iblk = ploop1_max_iblk(l);
}

static int ploop1_load(struct ploop_delta *delta, struct ploop_map **map, bool at_work)
{
	struct ploop1 *p = delta->format_priv;
	struct load ld = { .delta = delta };
	int err;

	err = read_header(delta, at_work);
	if (err)
		return err;
	ld.map = ploop_map_alloc(p->layout.clusters);
	if (!ld.map)
		return -ENOMEM;
	err = load_index(&ld);
	if (err) {
		ploop_map_free(ld.map);
		return err;
	}
	use_layout(delta);
	*map = ld.map;
	return 0;
}

static int ploop1_open(struct ploop_delta *delta, struct ploop_map **map)
{
	struct ploop1 *p = kzalloc(sizeof(*p), GFP_KERNEL);
	int err = -ENOMEM;

	if (!p)
		return -ENOMEM;
	delta->format_priv = p;
	p->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!p->page)
		goto out_free_image;
	err = ploop1_load(delta, map, false);
	if (!err)
		return 0;
	__free_page(p->page);
out_free_image:
	kfree(p);
	delta->format_priv = NULL;
	return err;
}

/*
 * Puts the cached header on the disk. The rest of page 0 is read back, not
 * made from the map: the caller may be rolling back with no map at hand.
 */
static int write_header(struct ploop_delta *delta, u32 in_use)
{
	struct ploop1 *p = delta->format_priv;
	struct ploop1_header old = p->header;
	int err;

	err = ploop_delta_sync(delta, true);
	if (err)
		return err;
	err = rw_page0(delta, READ);
	if (err)
		return err;
	p->header.in_use = cpu_to_le32(in_use);
	/* What it describes changes; others follow it without a look at the mark. */
	p->header.extension = 0;
	if (delta->io->size(delta) > ploop_iblk_pos(delta->plo, p->layout.index_clusters))
		p->header.flags &= ~cpu_to_le32(PLOOP1_FLAG_EMPTY);
	memcpy(page_address(p->page), &p->header, sizeof(p->header));
	err = rw_page0(delta, WRITE);
	if (!err)
		err = ploop_delta_sync(delta, true);
	if (err)
		p->header = old;
	return err;
}

static int ploop1_start(struct ploop_delta *delta)
{
	return is_marked(delta->format_priv) ? 0 : write_header(delta, PLOOP1_IN_USE);
}

static int ploop1_stop(struct ploop_delta *delta)
{
	return is_marked(delta->format_priv) ? write_header(delta, PLOOP1_CLOSED) : 0;
}

static int ploop1_sync(struct ploop_delta *delta)
{
	return write_header(delta, PLOOP1_IN_USE);
}

static int ploop1_plan_grow(struct ploop_delta *delta, u64 size, u32 *index_clusters)
{
	const struct ploop1 *p = delta->format_priv;
	struct ploop1_layout l;
	int err;

	err = ploop1_layout_grow(&p->layout, size, &l);
	*index_clusters = l.index_clusters;
	return err;
}

static void ploop1_grow(struct ploop_delta *delta, u64 size, u32 index_clusters)
{
	struct ploop1 *p = delta->format_priv;
	struct ploop1_layout l;

	if (WARN_ON_ONCE(ploop1_layout_grow(&p->layout, size, &l)))
		return;
	p->layout = l;
	ploop1_layout_store(&l, &p->header);
	use_layout(delta);
}

static void ploop1_fill_page(struct ploop_delta *delta, const struct ploop_map *map,
			     u32 page, void *buf)
{
	struct ploop1 *p = delta->format_priv;
	__le32 *word = buf;
	u64 first = (u64)page * WORDS_PER_PAGE;
	unsigned int i;

	memset(buf, 0, PLOOP1_PAGE);
	if (!page)
		memcpy(buf, &p->header, sizeof(p->header));
	for (i = page ? 0 : PLOOP1_INDEX_SKIP; i < WORDS_PER_PAGE; i++) {
		u64 clu = first + i - PLOOP1_INDEX_SKIP;
		u64 entry;

		if (clu >= p->layout.clusters)
			break;
		entry = ploop_map_lookup(map, clu);
		if (entry && ploop_entry_slot(entry) == delta->slot)
			word[i] = cpu_to_le32(ploop1_entry_make(&p->layout,
								ploop_entry_iblk(entry)));
	}
}

static struct ploop_format_ops ploop1_ops = {
	.name		= "ploop1",
	.id		= PLOOP_FMT_PLOOP1,
	.stackable	= true,
	.owner		= THIS_MODULE,
	.open		= ploop1_open,
	.load		= ploop1_load,
	.close		= ploop1_close,
	.start		= ploop1_start,
	.stop		= ploop1_stop,
	.sync		= ploop1_sync,
	.plan_grow	= ploop1_plan_grow,
	.grow		= ploop1_grow,
	.index_page	= ploop1_fill_page,
};

static int __init ploop1_init(void)
{
	return ploop_format_register(&ploop1_ops);
}

static void __exit ploop1_exit(void)
{
	ploop_format_unregister(&ploop1_ops);
}

module_init(ploop1_init);
module_exit(ploop1_exit);
MODULE_DESCRIPTION("ploop image format: ploop1, versions 1 and 2");
MODULE_AUTHOR("ploop authors");
MODULE_VERSION(PLOOP_VERSION);
MODULE_LICENSE("GPL");
