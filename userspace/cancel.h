/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SIGINT, SIGTERM and SIGHUP as a question that is asked at safe points.
 */
#ifndef PLOOP_CANCEL_H
#define PLOOP_CANCEL_H

#include <stdbool.h>

/** PLOOP_POLL_MIN_MS: first pause of a loop that waits for somebody else */
#define PLOOP_POLL_MIN_MS	10
/** PLOOP_POLL_MAX_MS: its longest pause */
#define PLOOP_POLL_MAX_MS	500

/**
 * struct ploop_deadline - a wait with growing pauses and a limit
 * @end_ms: end of the wait on the monotonic clock
 * @pause_ms: next pause
 * @cancellable: a signal ends the wait
 */
struct ploop_deadline {
	long long end_ms;
	int pause_ms;
	bool cancellable;
};

int ploop_cancel_hold(void);
bool ploop_cancelled(void);
int ploop_cancel_fd(void);
void ploop_cancel_release_child(void);

long long ploop_clock_ms(void);
struct ploop_deadline ploop_deadline_in(int seconds, bool cancellable);
bool ploop_deadline_pause(struct ploop_deadline *deadline);

#endif /* PLOOP_CANCEL_H */
