/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A bar on the terminal for work that takes more than a second.
 */
#ifndef PLOOP_PROGRESS_H
#define PLOOP_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct ploop_progress - how far some work is
 * @what: the work, as "merging"
 * @total: all of it; 0 when that is not known
 * @done: the part that is done
 * @next_ms: when to draw again, on the clock of ploop_clock_ms()
 * @visible: somebody can see it
 * @start_ms: when it began, if bytes per second are shown; else 0
 */
struct ploop_progress {
	const char *what;
	atomic_ullong total;
	atomic_ullong done;
	atomic_llong next_ms;
	bool visible;
	long long start_ms;
};

void ploop_progress_begin(struct ploop_progress *progress, const char *what, uint64_t total);
void ploop_progress_show_rate(struct ploop_progress *progress);
void ploop_progress_add(struct ploop_progress *progress, uint64_t done);
void ploop_progress_set(struct ploop_progress *progress, uint64_t done, uint64_t total);
void ploop_progress_clear(void);

#endif /* PLOOP_PROGRESS_H */
