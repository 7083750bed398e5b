// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters on the move: what MERGE, GROW and RELOCBLKS do in the background. Each mover
 * takes the next cluster that has to go elsewhere, owns it, copies it and
 * publishes its new place, as a write does that carries nothing. Writes that
 * come to such a cluster first move it themselves.
 */
#include "ploop.h"

#include <linux/sched/mm.h>
#include <linux/slab.h>

/* Clusters moved between two flushes, bytes: what a crash makes us do again. */
#define FLUSH_BYTES	(256U << 20)

/**
 * struct ploop_mover - a worker with one cluster
 * @io: owner of the cluster
 * @clu: the cluster
 * @busy: @clu is not done yet
 */
struct ploop_mover {
	struct ploop_io io;
	u32 clu;
	bool busy;
};

static bool must_move(struct ploop_device *plo, u64 entry)
{
	return entry & PLOOP_ENTRY_MOVING || ploop_entry_is_trans(plo, entry);
}

static bool must_end(struct ploop_device *plo)
{
	return READ_ONCE(plo->move.err) || test_bit(PLOOP_S_ABORT, &plo->state);
}

/* The next cluster that has to move; false when there is none. */
static bool next_cluster(struct ploop_device *plo, u32 *clu)
{
	struct ploop_move *mv = &plo->move;
	bool found = false;

	mutex_lock(&mv->mutex);
	while (!found && mv->next < plo->map->clusters) {
		u64 entry = ploop_map_lookup(plo->map, mv->next);

		*clu = mv->next;
		found = must_move(plo, entry);
		mv->next = entry ? mv->next + 1 : ploop_map_hole_end(plo->map, mv->next);
	}
	mutex_unlock(&mv->mutex);
	return found;
}

static void end_mover(struct ploop_device *plo)
{
	if (atomic_dec_and_test(&plo->move.active))
		wake_up_all(&plo->move.wait);
}

static void count_moved(struct ploop_device *plo)
{
	u64 done = atomic64_inc_return(&plo->move.done);

	if (!(done & (max(FLUSH_BYTES / ploop_cluster_bytes(plo), 1U) - 1)))
		queue_work(plo->index_wq, &plo->flush_work);
}

/* Returns false when the mover waits; it is queued again then. */
static bool move_cluster(struct ploop_mover *m)
{
	struct ploop_device *plo = m->io.plo;
	u64 entry;
	int err = 0;

	if (!ploop_io_enter(&m->io) || !ploop_cluster_trylock(&m->io, m->clu))
		return false;
	entry = ploop_map_lookup(plo->map, m->clu);
	/* Without room it stays where it is. */
	if (must_move(plo, entry) && ploop_alloc_has_room(plo->top))
		err = ploop_write_new(&m->io, entry, 0, 0);
	ploop_cluster_unlock(&m->io);
	if (ploop_must_park(err)) {
		ploop_io_park(&m->io, err);
		return false;
	}
	ploop_io_leave(&m->io);
	m->busy = false;
	if (err)
		cmpxchg(&plo->move.err, 0, err);
	else
		count_moved(plo);
	return true;
}

static void mover_work(struct work_struct *work)
{
	struct ploop_mover *m = container_of(work, struct ploop_mover, io.work);
	struct ploop_device *plo = m->io.plo;
	unsigned int noio = memalloc_noio_save();

	current->flags |= PF_LOCAL_THROTTLE;
	if (must_end(plo) || (!m->busy && !next_cluster(plo, &m->clu))) {
		end_mover(plo);
	} else {
		m->busy = true;
		/* Behind the bios that came meanwhile. */
		if (move_cluster(m))
			ploop_io_queue(&m->io);
	}
	current->flags &= ~PF_LOCAL_THROTTLE;
	memalloc_noio_restore(noio);
}

/* Gives entries of the top in a part of its file another set of marks. */
static u64 change_marks(struct ploop_device *plo, u64 from, u64 end, u64 marks)
{
	struct ploop_map *map = plo->map;
	u64 n = 0;
	u32 clu;

	for (clu = 0; clu < map->clusters;) {
		u64 entry = ploop_map_lookup(map, clu);
		u64 new = (entry & ~PLOOP_ENTRY_MOVING) | marks;
		u32 next = entry ? clu + 1 : ploop_map_hole_end(map, clu);

		cond_resched();
		if (entry && ploop_entry_slot(entry) == plo->top->slot &&
		    ploop_entry_iblk(entry) >= from && ploop_entry_iblk(entry) < end) {
			/* A discard was quicker: look again. */
			if (new != entry && !ploop_map_replace(map, clu, entry, new))
				continue;
			n++;
		}
		clu = next;
	}
	return n;
}

/**
 * ploop_move_mark() - writes to a part of the top's file go elsewhere from now on
 * @plo: running device
 * @from: the first cluster of the file that is to be vacated
 * @end: one past the last
 *
 * Nobody writes there in place any more when this returns. Until then a write
 * that finds a mark waits: it would copy the cluster without what others, who
 * looked before, are about to write to it.
 *
 * Context: process, sleeps until the host has completed what was submitted;
 * ctl_mutex.
 * Return: how many clusters in use lie there.
 */
u64 ploop_move_mark(struct ploop_device *plo, u64 from, u64 end)
{
	u64 n;

	lockdep_assert_held(&plo->ctl_mutex);
	set_bit(PLOOP_S_MARKING, &plo->state);
	/* Before the marks: pairs with ploop_write_new(). */
	smp_mb__after_atomic();
	n = change_marks(plo, from, end, PLOOP_ENTRY_MOVING);
	if (n)
		ploop_epoch_flip(&plo->epoch);
	clear_bit(PLOOP_S_MARKING, &plo->state);
	return n;
}

/**
 * ploop_move_unmark() - what has not moved stays where it is
 * @plo: the device; nothing moves
 *
 * A write may be copying a cluster that had a mark. It finds that gone and gives
 * up; when this returns it has, so that a new mark cannot be taken for the old.
 *
 * Context: process, sleeps until the host has completed what was submitted;
 * ctl_mutex.
 */
void ploop_move_unmark(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	change_marks(plo, 0, PLOOP_NO_CEILING, 0);
	ploop_epoch_flip(&plo->epoch);
}

/**
 * ploop_move_prepare() - take the memory that moving needs
 * @plo: the device; nothing moves
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or -ENOMEM.
 */
int ploop_move_prepare(struct ploop_device *plo)
{
	int i, n = READ_ONCE(plo->fsync_max);
	struct ploop_mover *movers;

	lockdep_assert_held(&plo->ctl_mutex);
	movers = kcalloc(n, sizeof(*movers), GFP_KERNEL);
	if (!movers)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		ploop_io_init(&movers[i].io, plo, NULL, mover_work);
	plo->move.movers = movers;
	plo->move.nr_movers = n;
	plo->move.next = 0;
	plo->move.err = 0;
	atomic64_set(&plo->move.done, 0);
	return 0;
}

/**
 * ploop_move_start() - begin to move, or begin again after an error
 * @plo: the device, prepared; plo->trans is set or entries are marked as moving
 * @total: number of clusters to move, for those who watch
 *
 * Context: process; ctl_mutex.
 */
void ploop_move_start(struct ploop_device *plo, u64 total)
{
	struct ploop_move *mv = &plo->move;
	unsigned int i;

	lockdep_assert_held(&plo->ctl_mutex);
	WRITE_ONCE(mv->total, total);
	mv->next = 0;
	mv->err = 0;
	atomic_set(&mv->active, mv->nr_movers);
	for (i = 0; i < mv->nr_movers; i++) {
		mv->movers[i].busy = false;
		ploop_io_queue(&mv->movers[i].io);
	}
}

/**
 * ploop_move_active() - does anything move
 * @plo: the device
 *
 * Context: any.
 * Return: true while there are movers that have not ended.
 */
bool ploop_move_active(struct ploop_device *plo)
{
	return atomic_read(&plo->move.active);
}

/* While FREEZE has borrowed the state, it does not tell what the movers' one is. */
static bool may_judge(struct ploop_device *plo)
{
	return !ploop_move_active(plo) && READ_ONCE(plo->maintenance) != PLOOP_MNTN_SNAPSHOT;
}

/**
 * ploop_move_wait() - wait until nothing moves any more
 * @plo: the device
 * @state: maintenance state of the caller
 *
 * Context: process, sleeps; ctl_mutex, which is dropped meanwhile.
 * Return: 0: the caller carries on; -ERESTARTSYS a signal came, and moving goes
 * on; -EALREADY somebody else waited too, and has carried on; -EIO ABORT; or
 * what made moving end.
 */
int ploop_move_wait(struct ploop_device *plo, enum ploop_maintenance state)
{
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	/* Another waiter may have started the movers once more. */
	do {
		mutex_unlock(&plo->ctl_mutex);
		err = wait_event_interruptible(plo->move.wait, may_judge(plo));
		mutex_lock(&plo->ctl_mutex);
		if (plo->maintenance != state && plo->maintenance != PLOOP_MNTN_SNAPSHOT)
			return -EALREADY;
	} while (!err && !may_judge(plo));
	if (!may_judge(plo))
		return err;
	if (test_bit(PLOOP_S_ABORT, &plo->state))
		return -EIO;
	return READ_ONCE(plo->move.err);
}

/**
 * ploop_move_finish() - give back what ploop_move_prepare() took
 * @plo: the device; nothing moves
 *
 * Context: process; ctl_mutex.
 */
void ploop_move_finish(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	kfree(plo->move.movers);
	plo->move.movers = NULL;
	WRITE_ONCE(plo->move.total, 0);
	atomic64_set(&plo->move.done, 0);
}
