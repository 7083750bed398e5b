/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_EPOCH_H
#define PLOOP_EPOCH_H

#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/wait.h>

/** PLOOP_EPOCH_NONE: no epoch is open, or none is held */
#define PLOOP_EPOCH_NONE	(-1)

/**
 * struct ploop_epoch - who may still use what an older lookup returned
 * @ref: users of epoch 0 and 1; at most one of them takes new users
 * @wait: woken when the last user of a killed epoch is gone
 * @current_epoch: the one that takes new users, or PLOOP_EPOCH_NONE [atomic;
 *                 written under @mutex]
 * @mutex: one flip, quiesce, open or close at a time
 * @flips: how many flips have begun [written under @mutex]
 *
 * Every bio holds a reference from its lookup in the map to its completion.
 * Whoever gives away clusters unmaps them, flips, and thereby waits for all
 * that may have looked before; new bios go on meanwhile in the other epoch.
 */
struct ploop_epoch {
	struct percpu_ref ref[2];
	wait_queue_head_t wait;
	int current_epoch;
	struct mutex mutex;
	unsigned long flips;
};

int ploop_epoch_init(struct ploop_epoch *ep);
void ploop_epoch_destroy(struct ploop_epoch *ep);
void ploop_epoch_open(struct ploop_epoch *ep);
void ploop_epoch_close(struct ploop_epoch *ep);
int ploop_epoch_quiesce(struct ploop_epoch *ep);
void ploop_epoch_flip(struct ploop_epoch *ep);
bool ploop_epoch_flip_from(struct ploop_epoch *ep, int *held);

/* Context: any. Return: the epoch held, or PLOOP_EPOCH_NONE when closed. */
static inline int ploop_epoch_get(struct ploop_epoch *ep)
{
	int e;

	/*
	 * An epoch is killed only after current_epoch left it, so this ends
	 * after as many rounds as there are flips in between.
	 */
	do {
		e = READ_ONCE(ep->current_epoch);
		if (e < 0)
			return PLOOP_EPOCH_NONE;
	} while (!percpu_ref_tryget_live(&ep->ref[e]));
	return e;
}

/* Context: any, also hard interrupt. */
static inline void ploop_epoch_put(struct ploop_epoch *ep, int e)
{
	percpu_ref_put(&ep->ref[e]);
}

#endif /* PLOOP_EPOCH_H */
