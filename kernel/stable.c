// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise of the host that the blocks of an image file stay where they are,
 * and what is known under it. The engine is asked for it when somebody could use
 * it, and tells when it ends.
 *
 * Beginning: the engine holds the file; changes that did not know of that are
 * waited for; only then anything is learnt. End: nobody begins to use the map any
 * more; who does is waited for; the map is cleared; the engine lets go. Who uses
 * the map, and who learns, holds an epoch.
 */
#include "ploop.h"

#include <linux/sched/mm.h>

/* It is not asked for again for so long after it was refused, */
#define RETRY		HZ
/*
 * and for so long after it has ended: who made us let go wakes up, and looks again.
 * If he found the next promise then, he would wait for its end, and not tell us.
 */
#define RETRY_AFTER	(10 * HZ)
/* So much is learnt around what was asked for: that costs less than a second detour. */
#define WINDOW_BYTES	(64U << 10)

static const char NOT_YET[] = "nothing was read or written yet";

static bool may_hold(const struct ploop_stable *st)
{
	return !st->paused && !test_bit(PLOOP_S_SLOW, &st->delta->plo->state);
}

static void let_go(struct ploop_stable *st)
{
	struct ploop_delta *delta = st->delta;

	lockdep_assert_held(&st->mutex);
	WRITE_ONCE(st->on, false);
	atomic_inc(&st->gen);
	WRITE_ONCE(st->retry, jiffies + RETRY_AFTER);
	ploop_epoch_flip(&delta->plo->epoch);
	ploop_hostmap_clear(&st->map);
	delta->io->release(delta);
	atomic_dec(&delta->plo->stable_deltas);
	WRITE_ONCE(st->held, false);
	WRITE_ONCE(st->lost, false);
}

static void try_hold(struct ploop_stable *st)
{
	struct ploop_delta *delta = st->delta;
	const char *why;

	lockdep_assert_held(&st->mutex);
	WRITE_ONCE(st->retry, jiffies + RETRY);
	WRITE_ONCE(st->lost, false);
	why = delta->io->hold(delta);
	WRITE_ONCE(st->why, why);
	if (why)
		return;
	WRITE_ONCE(st->held, true);
	atomic_inc(&delta->plo->stable_deltas);
	/* A change under way does not know yet that it has to keep us from learning. */
	ploop_epoch_flip(&delta->plo->epoch);
	/* What the engine has set up comes before: pairs with ploop_fast_submit(). */
	smp_store_release(&st->on, true);
	/* Pairs with ploop_stable_lose(): it saw this, or we see that. */
	smp_mb();
	if (READ_ONCE(st->lost))
		WRITE_ONCE(st->on, false);
}

static void stable_work(struct work_struct *work)
{
	struct ploop_stable *st = container_of(work, struct ploop_stable, work);
	unsigned int noio = memalloc_noio_save();

	mutex_lock(&st->mutex);
	if (st->held && (READ_ONCE(st->lost) || !may_hold(st)))
		let_go(st);
	else if (!st->held && may_hold(st) && time_after_eq(jiffies, st->retry))
		try_hold(st);
	mutex_unlock(&st->mutex);
	memalloc_noio_restore(noio);
}

/**
 * ploop_stable_init() - there is no promise
 * @delta: delta whose device knows its clusters
 */
void ploop_stable_init(struct ploop_delta *delta)
{
	struct ploop_stable *st = &delta->stable;

	st->delta = delta;
	st->why = NOT_YET;
	st->retry = jiffies;
	atomic_set(&st->gen, 0);
	mutex_init(&st->mutex);
	INIT_WORK(&st->work, stable_work);
	ploop_hostmap_init(&st->map, delta->plo->cluster_log);
}

/**
 * ploop_stable_pause() - end the promise, and do not ask for it
 * @delta: the delta
 *
 * Context: process, sleeps until bios that use the map are done; ctl_mutex.
 */
void ploop_stable_pause(struct ploop_delta *delta)
{
	struct ploop_stable *st = &delta->stable;

	mutex_lock(&st->mutex);
	st->paused = true;
	if (st->held)
		let_go(st);
	WRITE_ONCE(st->why, NOT_YET);
	mutex_unlock(&st->mutex);
	cancel_work_sync(&st->work);
}

/**
 * ploop_stable_resume() - end of ploop_stable_pause()
 * @delta: the delta
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_stable_resume(struct ploop_delta *delta)
{
	struct ploop_stable *st = &delta->stable;

	mutex_lock(&st->mutex);
	st->paused = false;
	WRITE_ONCE(st->retry, jiffies);
	mutex_unlock(&st->mutex);
}

/**
 * ploop_stable_lose() - the promise ends
 * @delta: the delta; the engine holds its file, or is about to
 * @why: the reason, for sysfs; a literal
 *
 * The file is let go when all who use the map are done.
 *
 * Context: any; not after ploop_stable_pause() has returned.
 */
void ploop_stable_lose(struct ploop_delta *delta, const char *why)
{
	struct ploop_stable *st = &delta->stable;

	WRITE_ONCE(st->why, why);
	WRITE_ONCE(st->lost, true);
	/* Pairs with try_hold(). */
	smp_mb();
	WRITE_ONCE(st->on, false);
	atomic_inc(&st->gen);
	queue_work(delta->plo->index_wq, &st->work);
}
EXPORT_SYMBOL_GPL(ploop_stable_lose);

/**
 * ploop_stable_end() - end all promises; who could use them asks anew
 * @plo: the device
 *
 * Context: process, sleeps as ploop_stable_pause(); ctl_mutex.
 */
void ploop_stable_end(struct ploop_device *plo)
{
	unsigned int i;

	lockdep_assert_held(&plo->ctl_mutex);
	for (i = 0; i < plo->nr_deltas; i++) {
		ploop_stable_pause(plo->level[i]);
		ploop_stable_resume(plo->level[i]);
	}
}

/**
 * ploop_stable_show() - what sysfs says
 * @delta: the delta
 *
 * Context: any.
 * Return: "direct", or the reason why not.
 */
const char *ploop_stable_show(const struct ploop_delta *delta)
{
	const struct ploop_stable *st = &delta->stable;
	const char *why = READ_ONCE(st->why);

	if (READ_ONCE(st->on))
		return "direct";
	if (test_bit(PLOOP_S_SLOW, &delta->plo->state))
		return "switched off by ptune/fast";
	return why ?: NOT_YET;
}

/*
 * Learns units that follow each other; returns how many are in one piece. start:
 * where the cluster begins if it is as these are.
 */
static u32 locate(struct ploop_delta *delta, u32 iblk, u32 unit, u32 end, sector_t *start)
{
	loff_t pos = ploop_iblk_pos(delta->plo, iblk);
	sector_t sector;
	u32 n;

	for (n = 0; unit + n < end; n++) {
		u32 off = (unit + n) << PLOOP_UNIT_SHIFT;

		if (!delta->io->locate(delta, pos + off, &sector))
			break;
		/* The disk may begin later than the cluster would: it wraps, and back. */
		sector -= off >> SECTOR_SHIFT;
		if (n && sector != *start)
			break;
		*start = sector;
	}
	return n;
}

static void learn(struct ploop_delta *delta, u32 iblk, u32 unit, u32 end)
{
	struct ploop_stable *st = &delta->stable;
	sector_t start;
	u32 n;

	for (; unit < end; unit += n) {
		n = locate(delta, iblk, unit, end, &start);
		if (!n) {
			n = 1;
			continue;
		}
		if (!delta->rdonly)
			ploop_delta_dirty(delta);
		/* They may be written since a moment ago: may_skip_flush() must not think that durable. */
		smp_wmb();
		if (!ploop_hostmap_add(&st->map, iblk, unit, n, start))
			ploop_stable_lose(delta, "blocks of the file have moved");
	}
}

/**
 * ploop_stable_touch() - a part of a cluster is read or written the slow way
 * @delta: delta that has it
 * @iblk: cluster of its file
 * @off: first byte in the cluster
 * @len: number of bytes, at least 1
 *
 * The next one need not, if that can be. What was never written is not found.
 *
 * Context: worker, memalloc_noio, may sleep; holds an epoch.
 */
void ploop_stable_touch(struct ploop_delta *delta, u32 iblk, u32 off, u32 len)
{
	struct ploop_stable *st = &delta->stable;
	u32 from = round_down(off, WINDOW_BYTES);
	u32 to = min(round_up(off + len, WINDOW_BYTES), ploop_cluster_bytes(delta->plo));
	loff_t pos = ploop_iblk_pos(delta->plo, iblk);
	sector_t sector;

	/* Pairs with try_hold(): what it has set up is seen. */
	if (!smp_load_acquire(&st->on)) {
		if (time_after_eq(jiffies, READ_ONCE(st->retry)) && may_hold(st))
			queue_work(delta->plo->index_wq, &st->work);
		return;
	}
	/* Whoever reads what was never written comes again and again. */
	if (!ploop_hostmap_find(&st->map, iblk, off, len, &sector) &&
	    delta->io->locate(delta, pos + round_down(off, PLOOP_UNIT_BYTES), &sector))
		learn(delta, iblk, from >> PLOOP_UNIT_SHIFT, to >> PLOOP_UNIT_SHIFT);
}

/**
 * ploop_stable_begin_change() - blocks of a cluster in use are about to change
 * @io: owner of the cluster; holds an epoch, afterwards another one
 * @delta: delta that has it
 * @iblk: cluster of its file
 *
 * Until ploop_stable_end_change() all who use it go through the filesystem.
 *
 * Context: worker, memalloc_noio; sleeps until the host has completed what was
 * submitted.
 * Return: true: go on; the entry of the cluster may have changed meanwhile. False:
 * the device was quiesced, @io holds no epoch, and nothing has begun.
 */
bool ploop_stable_begin_change(struct ploop_io *io, struct ploop_delta *delta, u32 iblk)
{
	struct ploop_stable *st = &delta->stable;
	bool known;

	if (!READ_ONCE(st->held))
		return true;
	known = ploop_hostmap_knows(&st->map, iblk);
	if (ploop_hostmap_bar(&st->map, iblk)) {
		ploop_stable_lose(delta, "no memory");
		known = true;
	}
	if (!known)
		return true;
	if (ploop_epoch_flip_from(&delta->plo->epoch, &io->epoch))
		return true;
	ploop_stable_end_change(delta, iblk);
	return false;
}

/**
 * ploop_stable_end_change() - end of ploop_stable_begin_change()
 * @delta: the delta
 * @iblk: the cluster
 *
 * Context: worker, memalloc_noio, may sleep.
 */
void ploop_stable_end_change(struct ploop_delta *delta, u32 iblk)
{
	if (READ_ONCE(delta->stable.held))
		ploop_hostmap_unbar(&delta->stable.map, iblk);
}

/**
 * ploop_stable_forget() - blocks that are not in use go elsewhere
 * @delta: whose file it is
 * @pos: first byte of its file, on the border of a cluster
 * @len: number of bytes, whole clusters or to the end
 *
 * Context: process or worker, memalloc_noio, may sleep; nobody knows of these
 * clusters from an older lookup.
 */
void ploop_stable_forget(struct ploop_delta *delta, loff_t pos, loff_t len)
{
	u32 shift = delta->plo->cluster_log + SECTOR_SHIFT;
	u64 first = pos >> shift, last = (pos + len - 1) >> shift;

	if (!READ_ONCE(delta->stable.held) || first > U32_MAX)
		return;
	if (ploop_hostmap_forget(&delta->stable.map, first, min_t(u64, last, U32_MAX)))
		ploop_stable_lose(delta, "no memory");
}
EXPORT_SYMBOL_GPL(ploop_stable_forget);
