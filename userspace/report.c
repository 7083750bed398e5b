// SPDX-License-Identifier: GPL-2.0-only
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "progress.h"

/* results that were printed before come first, also when both go to one file */
static void begin(void)
{
	ploop_progress_clear();
	fflush(stdout);
	fputs("ploop: ", stderr);
}

/**
 * ploop_fail() - say on stderr what went wrong
 * @code: exit code of the failure
 * @fmt: what, which file, and what to do about it
 *
 * Return: @code, so that a caller can report and return in one statement.
 */
int ploop_fail(int code, const char *fmt, ...)
{
	va_list args;

	begin();
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

/**
 * ploop_fail_errno() - as ploop_fail(), with the text of errno at the end
 * @code: exit code of the failure
 * @fmt: what failed, and with which file
 *
 * Return: @code.
 */
int ploop_fail_errno(int code, const char *fmt, ...)
{
	const int error = errno;
	va_list args;

	begin();
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	return code;
}

/**
 * ploop_fail_memory() - report that memory is exhausted
 *
 * Return: PLOOP_EXIT_MEMORY.
 */
int ploop_fail_memory(void)
{
	return ploop_fail(PLOOP_EXIT_MEMORY, "out of memory");
}

/**
 * ploop_fail_cancelled() - report that a signal ended the work
 *
 * Return: PLOOP_EXIT_CANCELLED.
 */
int ploop_fail_cancelled(void)
{
	return ploop_fail(PLOOP_EXIT_CANCELLED, "cancelled by a signal");
}

/**
 * ploop_note() - tell the user something that is not a failure, on stderr
 * @fmt: the message
 */
void ploop_note(const char *fmt, ...)
{
	va_list args;

	begin();
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}
