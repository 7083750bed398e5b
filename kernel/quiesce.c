// SPDX-License-Identifier: GPL-2.0-only
/*
 * Quiesce: a moment in which no bio holds an epoch, so that the stack can be
 * changed below the feet of all of them. Bios that arrive are held, without a
 * worker, and start from their lookup afterwards. What is slow (opening,
 * syncing, waiting for RCU) is done before and after it.
 */
#include "ploop.h"

#include <linux/sched/mm.h>

/* The epochs are open again. */
static void release_held(struct ploop_device *plo)
{
	struct ploop_io *io, *next;
	LIST_HEAD(ios);

	/* Who found them closed is on the list by now, or looks again. */
	spin_lock_irq(&plo->park_lock);
	list_splice_init(&plo->held, &ios);
	spin_unlock_irq(&plo->park_lock);
	list_for_each_entry_safe(io, next, &ios, list) {
		list_del_init(&io->list);
		ploop_io_queue(io);
	}
}

/**
 * ploop_quiesce() - let no bio in, and wait for those inside
 * @plo: the device; one that does not run is quiet as it is
 *
 * Until ploop_relax() nothing may wait for I/O to this device, so memory does
 * not come from writeback.
 *
 * Context: process, sleeps until the host has completed what was submitted;
 * ctl_mutex and, where the top changes, flush_mutex.
 * Return: 0, or -EINTR: the caller was killed, and nothing has changed.
 */
int ploop_quiesce(struct ploop_device *plo)
{
	int err = 0;

	lockdep_assert_held(&plo->ctl_mutex);
	plo->quiesced = test_bit(PLOOP_S_RUNNING, &plo->state);
	if (plo->quiesced)
		err = ploop_epoch_quiesce(&plo->epoch);
	if (err) {
		plo->quiesced = false;
		release_held(plo);
		return err;
	}
	plo->noio = memalloc_noio_save();
	return 0;
}

/**
 * ploop_relax() - end of a quiesce
 * @plo: the device
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_relax(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	memalloc_noio_restore(plo->noio);
	if (!plo->quiesced)
		return;
	plo->quiesced = false;
	ploop_epoch_open(&plo->epoch);
	release_held(plo);
}

/**
 * ploop_io_enter() - take an epoch for an io
 * @io: the io; holds no epoch
 *
 * Context: worker.
 * Return: true: @io holds an epoch. False: the device is quiesced; @io will be
 * queued again, and the caller must not touch it any more.
 */
bool ploop_io_enter(struct ploop_io *io)
{
	struct ploop_device *plo = io->plo;
	bool held;

	for (;;) {
		io->epoch = ploop_epoch_get(&plo->epoch);
		if (likely(io->epoch != PLOOP_EPOCH_NONE))
			return true;
		spin_lock_irq(&plo->park_lock);
		held = READ_ONCE(plo->epoch.current_epoch) == PLOOP_EPOCH_NONE;
		if (held)
			list_add_tail(&io->list, &plo->held);
		spin_unlock_irq(&plo->park_lock);
		if (held)
			return false;
	}
}

/**
 * ploop_io_leave() - give the epoch of an io back
 * @io: the io; may hold none
 *
 * Context: any, also hard interrupt.
 */
void ploop_io_leave(struct ploop_io *io)
{
	if (io->epoch != PLOOP_EPOCH_NONE)
		ploop_epoch_put(&io->plo->epoch, io->epoch);
	io->epoch = PLOOP_EPOCH_NONE;
}
