// SPDX-License-Identifier: GPL-2.0-only
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cancel.h"
#include "size.h"

#define DELAY_MS	1000
#define INTERVAL_MS	200
#define BAR_WIDTH	40
#define PERCENT		100
#define MS_PER_S	1000
#define ERASE_LINE	"\r\033[K"

/* there is a bar on the terminal now, and the cursor is at its end */
static atomic_bool shown;

/**
 * ploop_progress_begin() - begin some work
 * @progress: out: the work
 * @what: its name, as "merging"
 * @total: all of it, in any unit; 0 when that is not known yet
 */
void ploop_progress_begin(struct ploop_progress *progress, const char *what, uint64_t total)
{
	progress->what = what;
	atomic_init(&progress->total, total);
	atomic_init(&progress->done, 0);
	atomic_init(&progress->next_ms, ploop_clock_ms() + DELAY_MS);
	progress->visible = isatty(STDERR_FILENO);
	progress->start_ms = 0;
}

/**
 * ploop_progress_show_rate() - show speed and remaining time too
 * @progress: the work, counted in bytes, that begins now
 */
void ploop_progress_show_rate(struct ploop_progress *progress)
{
	progress->start_ms = ploop_clock_ms();
}

static void draw_rate(const struct ploop_progress *progress, uint64_t done, uint64_t total)
{
	const long long ms = ploop_clock_ms() - progress->start_ms;
	const uint64_t rate = ms > 0 ? (uint64_t)((double)done * MS_PER_S / (double)ms) : 0;
	char text[PLOOP_SIZE_TEXT];

	if (!progress->start_ms || !rate)
		return;
	fprintf(stderr, " %s/s, %" PRIu64 " s left", ploop_size_format(text, rate),
		(total - done) / rate);
}

static void draw(const struct ploop_progress *progress)
{
	const uint64_t total = progress->total;
	uint64_t done = progress->done;
	char bar[BAR_WIDTH + 1];
	int i;

	if (!total)
		return;
	if (done > total)
		done = total;
	for (i = 0; i < BAR_WIDTH; i++)
		bar[i] = (uint64_t)i < done * BAR_WIDTH / total ? '#' : '.';
	bar[i] = '\0';
	fprintf(stderr, ERASE_LINE "%s [%s] %3d%%", progress->what, bar,
		(int)(done * PERCENT / total));
	draw_rate(progress, done, total);
	fflush(stderr);
	shown = true;
}

/* any thread may come by: one of them draws */
static void draw_if_due(struct ploop_progress *progress)
{
	long long now, next = progress->next_ms;

	if (!progress->visible)
		return;
	now = ploop_clock_ms();
	if (now >= next &&
	    atomic_compare_exchange_strong(&progress->next_ms, &next, now + INTERVAL_MS))
		draw(progress);
}

/**
 * ploop_progress_add() - some more is done
 * @progress: the work
 * @done: how much more
 *
 * May be called by several threads.
 */
void ploop_progress_add(struct ploop_progress *progress, uint64_t done)
{
	progress->done += done;
	draw_if_due(progress);
}

/**
 * ploop_progress_set() - somebody else knows how much is done
 * @progress: the work
 * @done: how much
 * @total: of how much
 */
void ploop_progress_set(struct ploop_progress *progress, uint64_t done, uint64_t total)
{
	progress->done = done;
	progress->total = total;
	draw_if_due(progress);
}

/**
 * ploop_progress_clear() - remove a bar from the terminal, before anything else
 * is printed there
 */
void ploop_progress_clear(void)
{
	if (!atomic_exchange(&shown, false))
		return;
	fputs(ERASE_LINE, stderr);
	fflush(stderr);
}
