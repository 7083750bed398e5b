// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two alternating per-cpu reference counts that tell when all lookups made
 * before some moment have come to an end.
 */
#include "epoch.h"

#include <linux/sched/signal.h>

static void epoch0_drained(struct percpu_ref *ref)
{
	wake_up_all(&container_of(ref, struct ploop_epoch, ref[0])->wait);
}

static void epoch1_drained(struct percpu_ref *ref)
{
	wake_up_all(&container_of(ref, struct ploop_epoch, ref[1])->wait);
}

/**
 * ploop_epoch_init() - make both epochs, closed
 * @ep: zeroed memory
 *
 * Context: process, may sleep.
 * Return: 0 or -ENOMEM.
 */
int ploop_epoch_init(struct ploop_epoch *ep)
{
	const unsigned int flags = PERCPU_REF_INIT_DEAD | PERCPU_REF_ALLOW_REINIT;
	int err;

	err = percpu_ref_init(&ep->ref[0], epoch0_drained, flags, GFP_KERNEL);
	if (err)
		return err;
	err = percpu_ref_init(&ep->ref[1], epoch1_drained, flags, GFP_KERNEL);
	if (err) {
		percpu_ref_exit(&ep->ref[0]);
		return err;
	}
	init_waitqueue_head(&ep->wait);
	mutex_init(&ep->mutex);
	ep->current_epoch = PLOOP_EPOCH_NONE;
	return 0;
}

/**
 * ploop_epoch_destroy() - free what ploop_epoch_init() took
 * @ep: closed epochs
 */
void ploop_epoch_destroy(struct ploop_epoch *ep)
{
	/* Who made an epoch drain may still be about to wake us, under RCU. */
	synchronize_rcu();
	percpu_ref_exit(&ep->ref[0]);
	percpu_ref_exit(&ep->ref[1]);
}

/**
 * ploop_epoch_open() - let bios in
 * @ep: closed epochs
 *
 * Context: process, may sleep.
 */
void ploop_epoch_open(struct ploop_epoch *ep)
{
	mutex_lock(&ep->mutex);
	percpu_ref_reinit(&ep->ref[0]);
	/* After a quiesce it would stay one counter for all CPUs. */
	percpu_ref_switch_to_percpu(&ep->ref[0]);
	WRITE_ONCE(ep->current_epoch, 0);
	mutex_unlock(&ep->mutex);
}

static void drain(struct ploop_epoch *ep, int e)
{
	lockdep_assert_held(&ep->mutex);
	percpu_ref_kill(&ep->ref[e]);
	wait_event(ep->wait, percpu_ref_is_zero(&ep->ref[e]));
}

/**
 * ploop_epoch_close() - let no bio in and wait for those inside
 * @ep: open epochs
 *
 * Context: process, sleeps until the host has completed what was submitted;
 * parked bios hold no epoch and are not waited for.
 */
void ploop_epoch_close(struct ploop_epoch *ep)
{
	int e;

	mutex_lock(&ep->mutex);
	e = ep->current_epoch;
	WRITE_ONCE(ep->current_epoch, PLOOP_EPOCH_NONE);
	if (e >= 0)
		drain(ep, e);
	mutex_unlock(&ep->mutex);
}

/**
 * ploop_epoch_quiesce() - as ploop_epoch_close(), with bios waiting as briefly
 * as possible, and giving up when the caller is killed
 * @ep: open epochs
 *
 * Context: process, may sleep.
 * Return: 0, or -EINTR and the epochs are as before.
 */
int ploop_epoch_quiesce(struct ploop_epoch *ep)
{
	struct percpu_ref *ref;
	int e, err;

	if (mutex_lock_killable(&ep->mutex))
		return -EINTR;
	e = ep->current_epoch;
	ref = &ep->ref[e];
	/* Waits for an RCU grace period: while bios still go in, not after. */
	percpu_ref_switch_to_atomic_sync(ref);
	WRITE_ONCE(ep->current_epoch, PLOOP_EPOCH_NONE);
	percpu_ref_kill(ref);
	err = wait_event_killable(ep->wait, percpu_ref_is_zero(ref)) ? -EINTR : 0;
	if (err) {
		percpu_ref_resurrect(ref);
		percpu_ref_switch_to_percpu(ref);
		WRITE_ONCE(ep->current_epoch, e);
	}
	mutex_unlock(&ep->mutex);
	return err;
}

/* All who come from now on are told apart from those who came before. */
static void turn(struct ploop_epoch *ep, int e)
{
	lockdep_assert_held(&ep->mutex);
	WRITE_ONCE(ep->flips, ep->flips + 1);
	/* The next epoch is live before anybody is sent there. */
	percpu_ref_reinit(&ep->ref[!e]);
	percpu_ref_switch_to_percpu(&ep->ref[!e]);
	WRITE_ONCE(ep->current_epoch, !e);
}

/**
 * ploop_epoch_flip() - wait for everybody who may have looked before this call
 * @ep: epochs; when closed there is nobody to wait for
 *
 * Context: process, sleeps as ploop_epoch_close(); bios go on in the other
 * epoch. The caller holds no epoch.
 */
void ploop_epoch_flip(struct ploop_epoch *ep)
{
	int e;

	mutex_lock(&ep->mutex);
	e = ep->current_epoch;
	if (e >= 0) {
		turn(ep, e);
		drain(ep, e);
	}
	mutex_unlock(&ep->mutex);
}

/**
 * ploop_epoch_flip_from() - ploop_epoch_flip() for one who is inside
 * @ep: epochs
 * @held: the epoch that the caller holds; out: the one he holds then
 *
 * In between he holds none: what he knows from a lookup is void. Many who call
 * this at a time share a flip.
 *
 * Context: process, sleeps as ploop_epoch_close().
 * Return: false: the epochs are closed, and the caller holds none.
 */
bool ploop_epoch_flip_from(struct ploop_epoch *ep, int *held)
{
	unsigned long flips;
	int e;

	/* Whoever flips now waits for us, too. */
	smp_mb();
	flips = READ_ONCE(ep->flips);
	ploop_epoch_put(ep, *held);
	*held = PLOOP_EPOCH_NONE;
	mutex_lock(&ep->mutex);
	e = ep->current_epoch;
	if (e >= 0 && ep->flips == flips) {
		turn(ep, e);
		drain(ep, e);
		e = !e;
	}
	if (e >= 0) {
		/* It stays the current one until the mutex is free. */
		percpu_ref_get(&ep->ref[e]);
		*held = e;
	}
	mutex_unlock(&ep->mutex);
	return e >= 0;
}
