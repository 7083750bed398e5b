// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fast path: reads and overwrites of what lies at a known place of the host's
 * disk go there, without the host's filesystem and without a worker.
 */
#include "ploop.h"

#include <linux/blk-cgroup.h>
#include <linux/slab.h>

/* Clones of a device that can be in flight however short memory is. */
#define CLONE_POOL_SIZE	64

/**
 * struct ploop_fast - a bio on its way to the host's disk
 * @plo: its device
 * @delta: where its cluster is; kept by @epoch
 * @bio: the bio
 * @start: for accounting
 * @pos: where it goes in the file
 * @gen: of the promise under which it goes
 * @epoch: epoch held
 * @work: begins anew, the slow way
 * @clone: what the host's disk gets
 */
struct ploop_fast {
	struct ploop_device *plo;
	struct ploop_delta *delta;
	struct bio *bio;
	unsigned long start;
	loff_t pos;
	int gen;
	int epoch;
	struct work_struct work;
	struct bio clone;
};

static struct kmem_cache *fast_cache;

/*
 * A write that says it is durable needs more than its data on the disk: what
 * leads there, too. Nothing has changed since the last flush, and none is half
 * way through.
 */
static bool may_skip_flush(struct ploop_device *plo)
{
	/* What is known of the file was noted as a change before it was known. */
	smp_rmb();
	if (READ_ONCE(plo->top->dirty) || plo->trans)
		return false;
	/* A flush takes the mutex before it forgets the changes. */
	smp_rmb();
	return !mutex_is_locked(&plo->flush_mutex);
}

static bool may_write(struct ploop_device *plo, const struct bio *bio, u64 entry)
{
	if (!ploop_entry_is_top(plo, entry) || plo->top->rdonly ||
	    test_bit(PLOOP_S_ABORT, &plo->state) || bio->bi_opf & REQ_PREFLUSH)
		return false;
	return !(bio->bi_opf & REQ_FUA) || may_skip_flush(plo);
}

static void fast_free(struct ploop_fast *f)
{
	bio_uninit(&f->clone);
	mempool_free(f, &f->plo->clones);
}

/* Carried out anew by a worker, from its lookup. */
static void slow_work(struct work_struct *work)
{
	struct ploop_fast *f = container_of(work, struct ploop_fast, work);
	unsigned int noio = memalloc_noio_save();

	ploop_request_slow(f->plo, f->bio, f->start);
	fast_free(f);
	memalloc_noio_restore(noio);
}

/* It stays so while the memory is in the cache. */
static void fast_construct(void *p)
{
	struct ploop_fast *f = p;

	INIT_WORK(&f->work, slow_work);
}

/**
 * ploop_fast_setup() - make the cache of all clones
 *
 * Return: 0 or -ENOMEM.
 */
int __init ploop_fast_setup(void)
{
	fast_cache = kmem_cache_create("ploop_fast", sizeof(struct ploop_fast),
				       __alignof__(struct ploop_fast), 0, fast_construct);
	return fast_cache ? 0 : -ENOMEM;
}

/**
 * ploop_fast_cleanup() - undo ploop_fast_setup()
 */
void ploop_fast_cleanup(void)
{
	kmem_cache_destroy(fast_cache);
}

/* As mempool_alloc_slab() and mempool_free_slab(), which do not want a constructor. */
static void *clone_alloc(gfp_t gfp, void *cache)
{
	return kmem_cache_alloc(cache, gfp);
}

static void clone_free(void *f, void *cache)
{
	kmem_cache_free(cache, f);
}

/**
 * ploop_fast_init() - make the reserve of clones of a device
 * @plo: the device
 *
 * Return: 0 or -ENOMEM.
 */
int ploop_fast_init(struct ploop_device *plo)
{
	return mempool_init(&plo->clones, CLONE_POOL_SIZE, clone_alloc, clone_free, fast_cache);
}

/**
 * ploop_fast_exit() - undo ploop_fast_init()
 * @plo: the device; may have none
 */
void ploop_fast_exit(struct ploop_device *plo)
{
	mempool_exit(&plo->clones);
}

/*
 * What was read may have been somebody else's by then, what was written may be
 * overwritten from a journal, and where a thin disk is full a write has to wait.
 */
static bool is_void(const struct ploop_fast *f, bool write)
{
	const struct ploop_stable *st = &f->delta->stable;

	if (write)
		return f->clone.bi_status == BLK_STS_NOSPC || !ploop_stable_unchanged(st);
	return atomic_read(&st->gen) != f->gen;
}

static void fast_end(struct bio *clone)
{
	struct ploop_fast *f = container_of(clone, struct ploop_fast, clone);
	struct ploop_device *plo = f->plo;
	struct bio *bio = f->bio;
	bool write = op_is_write(bio_op(bio));
	bool again = is_void(f, write);

	if (write) {
		struct super_block *sb = f->delta->stable.inode->i_sb;

		__sb_writers_acquired(sb, SB_FREEZE_WRITE);
		sb_end_write(sb);
		ploop_delta_wrote_fast(f->delta, f->pos, bio->bi_iter.bi_size);
	}
	/* Nobody stops a device that is open, as it is for who sent this. */
	again = again && percpu_ref_tryget_live(&plo->active);
	ploop_epoch_put(&plo->epoch, f->epoch);
	if (unlikely(again)) {
		/* Not data_wq: its workers wait for ios, and this makes one. */
		queue_work(plo->index_wq, &f->work);
		return;
	}
	ploop_stat_inc(plo, PLOOP_STAT_BIO_OUT);
	bio->bi_status = clone->bi_status;
	bio_end_io_acct(bio, f->start);
	fast_free(f);
	bio_endio(bio);
}

/* Not from a bioset, and past the reserve as long as that can be: both cost. */
static struct ploop_fast *fast_alloc(struct ploop_device *plo, struct block_device *bdev,
				     struct bio *bio)
{
	gfp_t gfp = ploop_bio_gfp(bio);
	struct ploop_fast *f = kmem_cache_alloc(fast_cache, GFP_NOWAIT | __GFP_NOWARN);

	f = f ?: mempool_alloc(&plo->clones, gfp);
	if (!f)
		return NULL;
	f->plo = plo;
	f->bio = bio;
	if (bio_init_clone(NULL, &f->clone, bio, gfp)) {
		fast_free(f);
		return NULL;
	}
	/* Given the disk at once, it would be charged to this task first. */
	f->clone.bi_bdev = bdev;
	bio_clone_blkg_association(&f->clone, bio);
	return f;
}

/**
 * ploop_fast_submit() - send a bio to the host's disk
 * @plo: the device
 * @bio: READ or WRITE within one cluster
 * @entry: map entry of the cluster
 * @epoch: epoch held since the lookup; given back when the bio is done
 *
 * Context: process, may sleep for memory unless the bio says NOWAIT.
 * Return: false: that cannot be done, and nothing has happened.
 */
bool ploop_fast_submit(struct ploop_device *plo, struct bio *bio, u64 entry, int epoch)
{
	struct ploop_delta *delta = plo->slot[ploop_entry_slot(entry)];
	u32 off = ploop_sector_off(plo, bio->bi_iter.bi_sector);
	struct ploop_stable *st = &delta->stable;
	int gen = atomic_read(&st->gen);
	bool write = op_is_write(bio_op(bio));
	struct ploop_fast *f;
	sector_t sector;

	/* Pairs with try_hold() in stable.c. */
	if (!smp_load_acquire(&st->on))
		return false;
	if (bio->bi_opf & REQ_NOWAIT && !st->nowait)
		return false;
	if (!ploop_hostmap_find(&st->map, ploop_entry_iblk(entry), off, bio->bi_iter.bi_size,
				&sector))
		return false;
	if (write && !may_write(plo, bio, entry))
		return false;
	if (unlikely(!ploop_stable_unchanged(st))) {
		ploop_stable_lose(delta, "the filesystem began to journal data");
		return false;
	}
	if (write && !sb_start_write_trylock(st->inode->i_sb))
		return false;
	f = fast_alloc(plo, st->bdev, bio);
	if (!f) {
		if (write)
			sb_end_write(st->inode->i_sb);
		return false;
	}
	f->delta = delta;
	f->gen = gen;
	f->epoch = epoch;
	f->pos = ploop_entry_pos(plo, entry) + off;
	f->start = bio_start_io_acct(bio);
	f->clone.bi_iter.bi_sector = sector;
	f->clone.bi_end_io = fast_end;
	ploop_stat_inc(plo, PLOOP_STAT_BIO_IN);
	ploop_stat_inc(plo, PLOOP_STAT_BIO_FAST);
	if (bio->bi_opf & REQ_FUA)
		ploop_stat_inc(plo, PLOOP_STAT_BIO_FUA_IN);
	if (write)
		/* It ends elsewhere. */
		__sb_writers_release(st->inode->i_sb, SB_FREEZE_WRITE);
	submit_bio_noacct(&f->clone);
	return true;
}
