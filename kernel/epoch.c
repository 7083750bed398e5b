// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two alternating per-cpu reference counts that tell when all lookups made
 * before some moment have come to an end.
 */
#include "epoch.h"

static void epoch0_drained(struct percpu_ref *ref)
{
	complete(&container_of(ref, struct ploop_epoch, ref[0])->drained[0]);
}

static void epoch1_drained(struct percpu_ref *ref)
{
	complete(&container_of(ref, struct ploop_epoch, ref[1])->drained[1]);
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
	init_completion(&ep->drained[0]);
	init_completion(&ep->drained[1]);
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
	WRITE_ONCE(ep->current_epoch, 0);
	mutex_unlock(&ep->mutex);
}

static void drain(struct ploop_epoch *ep, int e)
{
	lockdep_assert_held(&ep->mutex);
	percpu_ref_kill(&ep->ref[e]);
	wait_for_completion(&ep->drained[e]);
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
		/* The next epoch is live before anybody is sent there. */
		percpu_ref_reinit(&ep->ref[!e]);
		WRITE_ONCE(ep->current_epoch, !e);
		drain(ep, e);
	}
	mutex_unlock(&ep->mutex);
}
