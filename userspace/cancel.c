// SPDX-License-Identifier: GPL-2.0-only
#include "cancel.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <time.h>

#include "report.h"

#define MS_PER_S	1000
#define NS_PER_MS	1000000

static int signal_fd = -1;

static void cancel_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

/**
 * ploop_cancel_hold() - from now on signals wait until they are asked for
 *
 * The signals stay blocked and pending: no handler runs, and none gets lost
 * between a question and a wait.
 *
 * Return: 0 or an exit code.
 */
int ploop_cancel_hold(void)
{
	sigset_t set;

	cancel_signals(&set);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot block signals");
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (signal_fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot watch for signals");
	return 0;
}

/**
 * ploop_cancelled() - did a signal ask to stop
 *
 * Return: true once one did.
 */
bool ploop_cancelled(void)
{
	sigset_t set;

	if (signal_fd < 0 || sigpending(&set))
		return false;
	return sigismember(&set, SIGINT) || sigismember(&set, SIGTERM) || sigismember(&set, SIGHUP);
}

/**
 * ploop_cancel_fd() - descriptor that polls readable once a signal came
 *
 * Return: the descriptor, not to be read from, or -1.
 */
int ploop_cancel_fd(void)
{
	return signal_fd;
}

/**
 * ploop_cancel_release_child() - let signals end this process again
 *
 * For a forked child that works on its own.
 */
void ploop_cancel_release_child(void)
{
	sigset_t set;

	cancel_signals(&set);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/**
 * ploop_clock_ms() - read the clock that only goes forward
 *
 * Return: milliseconds since some moment.
 */
long long ploop_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * MS_PER_S + ts.tv_nsec / NS_PER_MS;
}

/**
 * ploop_deadline_in() - begin to wait
 * @seconds: how long at most
 * @cancellable: a signal ends the wait; false in roll-backs
 *
 * Return: the wait.
 */
struct ploop_deadline ploop_deadline_in(int seconds, bool cancellable)
{
	return (struct ploop_deadline){
		.end_ms = ploop_clock_ms() + (long long)seconds * MS_PER_S,
		.pause_ms = PLOOP_POLL_MIN_MS,
		.cancellable = cancellable,
	};
}

/**
 * ploop_deadline_pause() - sleep a little before the next try
 * @deadline: the wait
 *
 * Return: false when time is up, or a signal came and the wait is cancellable.
 */
bool ploop_deadline_pause(struct ploop_deadline *deadline)
{
	struct pollfd pfd = { .fd = deadline->cancellable ? signal_fd : -1, .events = POLLIN };

	if (ploop_clock_ms() >= deadline->end_ms)
		return false;
	poll(&pfd, 1, deadline->pause_ms);
	deadline->pause_ms *= 2;
	if (deadline->pause_ms > PLOOP_POLL_MAX_MS)
		deadline->pause_ms = PLOOP_POLL_MAX_MS;
	return !(deadline->cancellable && ploop_cancelled());
}
