/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Some buffers between a thread that fills them and one that drains them. One
 * of the two is the caller; the other one is started here, and may be blocked
 * in a system call when it has to end.
 */
#ifndef PLOOP_RING_H
#define PLOOP_RING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** PLOOP_RING_SLOTS: so many buffers */
#define PLOOP_RING_SLOTS	4u
/** PLOOP_RING_ALIGN: alignment of buffers, for direct I/O */
#define PLOOP_RING_ALIGN	4096u

/**
 * struct ploop_slot - a buffer
 * @type: what it is, in the words of the two threads
 * @pos: place of the data in a file
 * @len: bytes; may be more than @room when nothing is in @buf
 * @size: size of the file, where the type needs it
 * @buf: the data
 * @room: size of @buf
 */
struct ploop_slot {
	unsigned int type;
	uint64_t pos;
	uint64_t len;
	uint64_t size;
	char *buf;
	size_t room;
};

/**
 * struct ploop_ring - the buffers
 * @lock: protects all that follows, but not the slots
 * @changed: wakes the other thread
 * @slot: the buffers: those from @drained to @filled - 1 are full, or being drained
 * @filled: count of buffers that were filled
 * @drained: count of buffers that were drained
 * @ended: no more are filled
 * @cancellable: a signal is a failure
 * @rc: why both stop early; 0 when they do not
 * @thread: the other thread
 */
struct ploop_ring {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ploop_slot slot[PLOOP_RING_SLOTS];
	unsigned int filled;
	unsigned int drained;
	bool ended;
	bool cancellable;
	int rc;
	pthread_t thread;
};

int ploop_ring_start(struct ploop_ring *ring, bool cancellable, void *(*fn)(void *), void *arg);
int ploop_ring_join(struct ploop_ring *ring);
int ploop_slot_fit(struct ploop_slot *slot, size_t len);

struct ploop_slot *ploop_ring_fill(struct ploop_ring *ring);
void ploop_ring_filled(struct ploop_ring *ring);
void ploop_ring_end(struct ploop_ring *ring);

struct ploop_slot *ploop_ring_drain(struct ploop_ring *ring);
void ploop_ring_drained(struct ploop_ring *ring);

void ploop_ring_fail(struct ploop_ring *ring, int rc);
int ploop_ring_status(struct ploop_ring *ring);

#endif /* PLOOP_RING_H */
