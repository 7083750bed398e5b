// SPDX-License-Identifier: GPL-2.0-only
/*
 * DISCARD and WRITE_ZEROES. A whole cluster that hides nothing is unmapped and
 * its space reclaimed; anything else becomes a hole in the image file. The bio
 * is advanced cluster by cluster, so that it can wait and start over anywhere.
 */
#include "ploop.h"

/**
 * struct part - the part of a bio that lies in one cluster
 * @clu: the cluster
 * @off: first byte in the cluster
 * @len: number of bytes
 * @whole: it is all of the cluster
 */
struct part {
	u32 clu;
	u32 off;
	u32 len;
	bool whole;
};

static struct part part_of(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	struct bvec_iter *bi = &io->bio->bi_iter;
	u32 cluster = ploop_cluster_bytes(plo);
	struct part r = {
		.clu = ploop_sector_clu(plo, bi->bi_sector),
		.off = ploop_sector_off(plo, bi->bi_sector),
	};

	r.len = min(bi->bi_size, cluster - r.off);
	r.whole = r.len == cluster;
	return r;
}

static bool must_be_zero(struct ploop_io *io)
{
	return bio_op(io->bio) == REQ_OP_WRITE_ZEROES;
}

/*
 * Blocks of the file become others, or none: nobody knows where they are. Whole
 * ones only: the host clears a part of one in its page cache, which may be older
 * than what is on the disk. A zeroing writes the edges as data.
 */
static int change_blocks(struct ploop_io *io, struct ploop_delta *top, loff_t pos, u32 len)
{
	u32 block = max(PLOOP_PHYSICAL_BLOCK, i_blocksize(file_inode(top->file)));
	loff_t from = round_up(pos, block), to = round_down(pos + len, block);
	int err;

	if (from >= to)
		return must_be_zero(io) ? ploop_write_zeros(top, pos, len) : 0;
	if (must_be_zero(io) && io->bio->bi_opf & REQ_NOUNMAP)
		err = top->io->zero(top, from, to - from);
	else
		err = top->io->punch(top, from, to - from);
	if (err || !must_be_zero(io))
		return err;
	err = ploop_write_zeros(top, pos, from - pos);
	return err ? err : ploop_write_zeros(top, to, pos + len - to);
}

/* The top delta keeps the cluster; the range in it becomes zeros, or a hole. */
static int clear_in_place(struct ploop_io *io, u64 entry, const struct part *r)
{
	struct ploop_device *plo = io->plo;
	struct ploop_delta *top = plo->top;
	loff_t pos = ploop_entry_pos(plo, entry) + r->off;
	int err = -EOPNOTSUPP;

	if (ploop_host_frozen(top))
		return -EAGAIN;
	if (!test_bit(PLOOP_S_DENSE, &plo->state)) {
		if (!ploop_stable_begin_change(io, top, ploop_entry_iblk(entry)))
			return -ERESTART;
		/* It has waited, and held no epoch. */
		if (ploop_map_lookup(plo->map, r->clu) == entry && plo->top == top)
			err = change_blocks(io, top, pos, r->len);
		else
			err = -ERESTART;
		ploop_stable_end_change(top, ploop_entry_iblk(entry));
	}
	if (err != -EOPNOTSUPP)
		return err;
	return must_be_zero(io) ? ploop_write_zeros(top, pos, r->len) : 0;
}

/*
 * The cluster leaves the map now, the index at the next flush; until that is
 * durable and all who may have looked are gone, nobody gets its space.
 */
static void unmap(struct ploop_io *io, u64 entry)
{
	struct ploop_device *plo = io->plo;

	ploop_map_set(plo->map, io->clu, 0);
	ploop_delta_dirty(plo->top);
	ploop_index_mark(plo->top, io->clu);
	ploop_free_cluster(plo->top, ploop_entry_iblk(entry));
}

/* Is unmapping allowed, and does it leave zeros? */
static bool can_unmap(struct ploop_io *io, u64 entry, const struct part *r)
{
	struct ploop_device *plo = io->plo;

	return r->whole && plo->top->fmt->stackable && !(entry & PLOOP_ENTRY_SHADOW) &&
	       !(io->bio->bi_opf & REQ_NOUNMAP) && !test_bit(PLOOP_S_KEEP_MAPPED, &plo->state);
}

/* Under the cluster lock. */
static int clear_cluster(struct ploop_io *io, const struct part *r)
{
	struct ploop_device *plo = io->plo;
	u64 entry = ploop_map_lookup(plo->map, r->clu);

	if (!entry)
		return 0;
	if (!ploop_entry_is_top(plo, entry))
		return must_be_zero(io) ? ploop_write_new(io, entry, r->off, r->len) : 0;
	if (!can_unmap(io, entry, r))
		return clear_in_place(io, entry, r);
	unmap(io, entry);
	return 0;
}

/* Skips what is mapped nowhere; false when the bio is done. */
static bool skip_holes(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;

	while (io->bio->bi_iter.bi_size) {
		struct bvec_iter *bi = &io->bio->bi_iter;
		u32 clu = ploop_sector_clu(plo, bi->bi_sector);
		u64 end;

		if (ploop_map_lookup(plo->map, clu))
			return true;
		end = (u64)ploop_map_hole_end(plo->map, clu) << plo->cluster_log;
		bio_advance(io->bio, min_t(u64, bi->bi_size,
					   (end - bi->bi_sector) << SECTOR_SHIFT));
	}
	return false;
}

/**
 * ploop_io_discard() - carry out a DISCARD or WRITE_ZEROES
 * @io: holds an epoch; its bio may span any number of clusters
 *
 * Context: worker, memalloc_noio. Ends, parks or hands over @io.
 */
void ploop_io_discard(struct ploop_io *io)
{
	struct part r;
	int err = 0;

	if (test_bit(PLOOP_S_COLLECT, &io->plo->state) && !must_be_zero(io)) {
		ploop_collect_discard(io);
		return;
	}
	while (!err && skip_holes(io)) {
		r = part_of(io);
		if (!ploop_cluster_trylock(io, r.clu))
			return;
		err = clear_cluster(io, &r);
		ploop_cluster_unlock(io);
		if (!err)
			bio_advance(io->bio, r.len);
		cond_resched();
	}
	if (err == -ERESTART) {
		ploop_io_leave(io);
		ploop_io_queue(io);
	} else if (ploop_must_park(err)) {
		ploop_io_park(io, err);
	} else {
		ploop_io_end(io, err);
	}
}
