// SPDX-License-Identifier: GPL-2.0-only
#include "ring.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cancel.h"
#include "report.h"
#include "size.h"

/* how often to look for signals, or to wake a thread that shall not wait any more */
#define LOOK_NS		50000000L
#define NS_PER_S	1000000000L

/* its only purpose is to end a system call */
static void wake_up(int signo)
{
	(void)signo;
}

static struct timespec soon(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += LOOK_NS;
	if (ts.tv_nsec >= NS_PER_S) {
		ts.tv_sec++;
		ts.tv_nsec -= NS_PER_S;
	}
	return ts;
}

/**
 * ploop_ring_start() - make a ring, and the thread at its other end
 * @ring: out: the ring; ended by ploop_ring_join() when this succeeds
 * @cancellable: a signal makes it fail
 * @fn: what the thread does
 * @arg: argument of @fn
 *
 * Return: 0 or an exit code.
 */
int ploop_ring_start(struct ploop_ring *ring, bool cancellable, void *(*fn)(void *), void *arg)
{
	const struct sigaction action = { .sa_handler = wake_up };

	memset(ring, 0, sizeof(*ring));
	ring->cancellable = cancellable;
	pthread_mutex_init(&ring->lock, NULL);
	pthread_cond_init(&ring->changed, NULL);
	sigaction(SIGUSR1, &action, NULL);
	errno = pthread_create(&ring->thread, NULL, fn, arg);
	return errno ? ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot make a thread") : 0;
}

/* with the lock; the caller of the ring, and nobody else, says that a signal came */
static void look_for_signals(struct ploop_ring *ring)
{
	if (!ring->cancellable || ring->rc || !ploop_cancelled())
		return;
	ring->rc = ploop_fail_cancelled();
	pthread_cond_broadcast(&ring->changed);
}

static void wait_for_change(struct ploop_ring *ring)
{
	const struct timespec end = soon();

	pthread_cond_timedwait(&ring->changed, &ring->lock, &end);
	look_for_signals(ring);
}

/**
 * ploop_ring_join() - wait until the other thread has done its work, and free the ring
 * @ring: the ring; its filler has ended it, or it has failed
 *
 * Return: 0, or why it failed.
 */
int ploop_ring_join(struct ploop_ring *ring)
{
	struct timespec end;
	int rc;

	do {
		pthread_mutex_lock(&ring->lock);
		look_for_signals(ring);
		rc = ring->rc;
		pthread_mutex_unlock(&ring->lock);
		/* again and again: one that comes before the system call is lost */
		if (rc)
			pthread_kill(ring->thread, SIGUSR1);
		end = soon();
	} while (pthread_timedjoin_np(ring->thread, NULL, &end));
	for (size_t i = 0; i < PLOOP_RING_SLOTS; i++)
		free(ring->slot[i].buf);
	return ring->rc;
}

/**
 * ploop_slot_fit() - make a buffer large enough
 * @slot: the buffer; what it holds is lost
 * @len: bytes
 *
 * Return: 0 or an exit code.
 */
int ploop_slot_fit(struct ploop_slot *slot, size_t len)
{
	if (len <= slot->room)
		return 0;
	free(slot->buf);
	slot->room = 0;
	len = ploop_round_up(len, PLOOP_RING_ALIGN);
	slot->buf = aligned_alloc(PLOOP_RING_ALIGN, len);
	if (!slot->buf)
		return ploop_fail_memory();
	slot->room = len;
	return 0;
}

/**
 * ploop_ring_fill() - wait for a buffer that is free
 * @ring: the ring
 *
 * Return: the buffer; NULL when the ring has failed.
 */
struct ploop_slot *ploop_ring_fill(struct ploop_ring *ring)
{
	struct ploop_slot *slot = NULL;

	pthread_mutex_lock(&ring->lock);
	look_for_signals(ring);
	while (!ring->rc && ring->filled - ring->drained == PLOOP_RING_SLOTS)
		wait_for_change(ring);
	if (!ring->rc)
		slot = &ring->slot[ring->filled % PLOOP_RING_SLOTS];
	pthread_mutex_unlock(&ring->lock);
	return slot;
}

/**
 * ploop_ring_filled() - the buffer from ploop_ring_fill() can be drained
 * @ring: the ring
 */
void ploop_ring_filled(struct ploop_ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->filled++;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

/**
 * ploop_ring_end() - no more buffers will be filled
 * @ring: the ring
 */
void ploop_ring_end(struct ploop_ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->ended = true;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

/**
 * ploop_ring_drain() - wait for a buffer that is full
 * @ring: the ring
 *
 * Return: the buffer; NULL when there will be none, or the ring has failed.
 */
struct ploop_slot *ploop_ring_drain(struct ploop_ring *ring)
{
	struct ploop_slot *slot = NULL;

	pthread_mutex_lock(&ring->lock);
	look_for_signals(ring);
	while (!ring->rc && !ring->ended && ring->filled == ring->drained)
		wait_for_change(ring);
	if (!ring->rc && ring->filled != ring->drained)
		slot = &ring->slot[ring->drained % PLOOP_RING_SLOTS];
	pthread_mutex_unlock(&ring->lock);
	return slot;
}

/**
 * ploop_ring_drained() - the buffer from ploop_ring_drain() is free again
 * @ring: the ring
 */
void ploop_ring_drained(struct ploop_ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->drained++;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

/**
 * ploop_ring_fail() - make both threads stop
 * @ring: the ring
 * @rc: why: an exit code; one that came earlier stays
 */
void ploop_ring_fail(struct ploop_ring *ring, int rc)
{
	pthread_mutex_lock(&ring->lock);
	if (!ring->rc)
		ring->rc = rc;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

/**
 * ploop_ring_status() - look whether the ring has failed
 * @ring: the ring
 *
 * Return: 0, or why it failed.
 */
int ploop_ring_status(struct ploop_ring *ring)
{
	int rc;

	pthread_mutex_lock(&ring->lock);
	rc = ring->rc;
	pthread_mutex_unlock(&ring->lock);
	return rc;
}
