// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes: in place where the top delta has the cluster, else by allocation or
 * copy-up. Order: space, data, map entry in memory, acknowledgment. The index
 * on the disk follows at the next flush.
 */
#include "ploop.h"

#include <linux/highmem.h>

/**
 * ploop_must_park() - is this a reason to wait and try again
 * @err: negative errno or 0
 *
 * Return: true when the host is full, frozen, or memory is short.
 */
bool ploop_must_park(int err)
{
	return err == -ENOSPC || err == -EDQUOT || err == -EAGAIN || err == -ENOMEM;
}

static bool bio_is_zero(struct bio *bio)
{
	struct bvec_iter bi;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, bi) {
		void *p = bvec_kmap_local(&bv);
		bool zero = !memchr_inv(p, 0, bv.bv_len);

		kunmap_local(p);
		if (!zero)
			return false;
	}
	return true;
}

/**
 * struct place - where a cluster goes that the top cannot overwrite in place
 * @iblk: cluster of the top's file
 * @clean: it reads as zeros
 * @owned: the top's index names it already, so it is not given back on failure
 * @shadow: a delta below the top maps the cluster
 */
struct place {
	u32 iblk;
	bool clean;
	bool owned;
	bool shadow;
};

/*
 * A cluster that moves out of the delta being merged away may have a place in
 * the one below, where its old content is hidden until the move is published.
 */
static int take_place(struct ploop_io *io, u64 entry, struct place *p)
{
	struct ploop_device *plo = io->plo;
	u64 below;

	*p = (struct place) { .shadow = entry };
	if (entry & PLOOP_ENTRY_MOVING)
		p->shadow = entry & PLOOP_ENTRY_SHADOW;
	if (ploop_entry_is_trans(plo, entry)) {
		below = io->clu < plo->below->clusters ?
			ploop_map_lookup(plo->below, io->clu) : 0;
		p->owned = ploop_entry_is_top(plo, below);
		p->shadow = p->owned ? below & PLOOP_ENTRY_SHADOW : below;
		p->iblk = ploop_entry_iblk(below);
	}
	return p->owned ? 0 : ploop_alloc_cluster(plo->top, &p->iblk, &p->clean);
}

/* The payload of a WRITE, now. A zeroing bio's payload is zeros. */
static int write_payload(struct ploop_io *io, loff_t pos, u32 len, bool zeros_there)
{
	struct ploop_delta *top = io->plo->top;

	if (!len)
		return 0;
	if (bio_op(io->bio) == REQ_OP_WRITE)
		return top->io->write_bio(top, io->bio, pos);
	return zeros_there ? 0 : ploop_write_zeros(top, pos, len);
}

/* Everything of a cluster at its new place but the payload. */
static int write_rest(struct ploop_io *io, u64 entry, const struct place *p, u32 off, u32 len)
{
	struct ploop_device *plo = io->plo;
	u32 end = off + len, cluster = ploop_cluster_bytes(plo);
	bool fill = !p->clean || test_bit(PLOOP_S_DENSE, &plo->state);
	loff_t pos = ploop_iblk_pos(plo, p->iblk);
	int err;

	if (entry) {
		err = ploop_copy_range(plo, entry, p->iblk, 0, off, !fill);
		return err ? err : ploop_copy_range(plo, entry, p->iblk, end, cluster - end,
						    !fill);
	}
	if (!fill)
		return 0;
	err = ploop_write_zeros(plo->top, pos, off);
	return err ? err : ploop_write_zeros(plo->top, pos + end, cluster - end);
}

/*
 * Whoever writes the index of the delta that is merged away must not see the
 * cluster gone before the index of the top is known to need writing: flush.c
 * writes the top's first.
 */
static void publish_trans(struct ploop_io *io, u64 entry)
{
	struct ploop_device *plo = io->plo;

	spin_lock(&plo->trans_lock);
	ploop_map_set(plo->map, io->clu, entry);
	ploop_index_mark(plo->top, io->clu);
	ploop_index_mark(plo->trans, io->clu);
	spin_unlock(&plo->trans_lock);
}

/*
 * A virgin cluster (in no delta, and the space reads as zeros) may be named by
 * the index before its data are durable: a crash then shows the zeros of
 * before. So may one that moves out of the delta being merged away, which hides
 * it until both are durable. Any other needs its data on the disk first.
 *
 * The mark of a cluster that moves is taken away without its lock. From then on
 * others write to it in place, so it stays where it is: -EAGAIN.
 */
static int publish(struct ploop_io *io, u64 old, const struct place *p)
{
	struct ploop_device *plo = io->plo;
	struct ploop_delta *top = plo->top;
	u64 entry = ploop_entry(p->iblk, top->slot, p->shadow);

	ploop_delta_dirty(top);
	if (ploop_entry_is_trans(plo, old)) {
		publish_trans(io, entry);
		return 0;
	}
	if (old || !p->clean)
		set_bit(0, &top->index.presync);
	if (!(old & PLOOP_ENTRY_MOVING))
		ploop_map_set(plo->map, io->clu, entry);
	else if (!ploop_map_replace(plo->map, io->clu, old, entry))
		return -EAGAIN;
	ploop_index_mark(top, io->clu);
	return 0;
}

static void count_alloc(struct ploop_device *plo, u64 entry, bool whole)
{
	if (entry && whole)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_WHOLE_COWS);
	else if (entry)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_COWS);
	else
		ploop_stat_inc(plo, PLOOP_STAT_BIO_ALLOC);
	if (whole)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_ALLOC_WHOLE);
}

/**
 * ploop_write_new() - give a cluster a place in the top delta, and write to it
 * @io: owner of the cluster io->clu; holds an epoch
 * @entry: its map entry: 0, in another delta, or moving
 * @off: first byte of the payload in the cluster
 * @len: bytes of payload: the rest of a WRITE's bio, or zeros; 0: only move it
 *
 * Nothing is acknowledged here. On failure the map is as before.
 *
 * Context: worker, memalloc_noio.
 * Return: 0 or a negative errno; see ploop_must_park().
 */
int ploop_write_new(struct ploop_io *io, u64 entry, u32 off, u32 len)
{
	struct ploop_device *plo = io->plo;
	bool dense = test_bit(PLOOP_S_DENSE, &plo->state);
	struct ploop_delta *top = plo->top;
	struct place p;
	int err;

	if (ploop_host_frozen(top))
		return -EAGAIN;
	/* The entry before the bit: pairs with ploop_move_mark(). */
	smp_rmb();
	if (entry & PLOOP_ENTRY_MOVING && test_bit(PLOOP_S_MARKING, &plo->state))
		return -EAGAIN;
	err = ploop_map_reserve(plo->map, io->clu, GFP_NOIO | __GFP_NOWARN);
	if (err)
		return err;
	err = take_place(io, entry, &p);
	if (err)
		return err;
	err = write_rest(io, entry, &p, off, len);
	if (!err)
		err = write_payload(io, ploop_iblk_pos(plo, p.iblk) + off, len,
				    p.clean && !dense);
	if (!err)
		err = publish(io, entry, &p);
	if (err) {
		if (!p.owned)
			ploop_free_cluster(top, p.iblk);
		return err;
	}
	if (len && bio_op(io->bio) == REQ_OP_WRITE)
		ploop_stable_touch(top, p.iblk, off, len);
	if (len)
		count_alloc(plo, entry, len == ploop_cluster_bytes(plo));
	/* Where the index grows the old place is nobody's. */
	if (entry & PLOOP_ENTRY_MOVING && ploop_entry_iblk(entry) >= READ_ONCE(top->alloc.floor))
		ploop_free_cluster(top, ploop_entry_iblk(entry));
	return 0;
}

static void write_in_place(struct ploop_io *io, u64 entry)
{
	struct ploop_device *plo = io->plo;
	u32 off = ploop_sector_off(plo, io->bio->bi_iter.bi_sector);
	struct ploop_delta *top = plo->top;

	io->pos = ploop_entry_pos(plo, entry) + off;
	ploop_stable_touch(top, ploop_entry_iblk(entry), off, io->bio->bi_iter.bi_size);
	top->io->submit(top, io, io->pos);
}

static bool is_noop(struct ploop_io *io, u64 entry)
{
	struct ploop_device *plo = io->plo;

	if (entry || !READ_ONCE(plo->check_zeros) || !bio_is_zero(io->bio))
		return false;
	ploop_stat_inc(plo, PLOOP_STAT_BIO_WZERO);
	return true;
}

/**
 * ploop_io_write() - carry out a WRITE
 * @io: holds an epoch; its bio lies within one cluster
 *
 * Context: worker, memalloc_noio. Ends, parks or hands over @io.
 */
void ploop_io_write(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	sector_t sector = io->bio->bi_iter.bi_sector;
	u32 clu = ploop_sector_clu(plo, sector);
	u64 entry = ploop_map_lookup(plo->map, clu);
	int err;

	if (ploop_entry_is_top(plo, entry)) {
		write_in_place(io, entry);
		return;
	}
	if (is_noop(io, entry)) {
		ploop_io_end(io, 0);
		return;
	}
	if (!ploop_cluster_trylock(io, clu))
		return;
	/* Again, now that nobody else changes it. */
	entry = ploop_map_lookup(plo->map, clu);
	if (ploop_entry_is_top(plo, entry)) {
		ploop_cluster_unlock(io);
		write_in_place(io, entry);
		return;
	}
	err = ploop_write_new(io, entry, ploop_sector_off(plo, sector),
			      io->bio->bi_iter.bi_size);
	ploop_cluster_unlock(io);
	if (ploop_must_park(err))
		ploop_io_park(io, err);
	else
		ploop_io_end(io, err);
}
