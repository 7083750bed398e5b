// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the fuzzers put in the place of report.c, and of the lock: messages are
 * made, so that their arguments are looked at, but nobody reads them.
 */
#include "quiet.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lock.h"
#include "report.h"

static void make_message(const char *fmt, va_list args)
{
	char text[4096];

	vsnprintf(text, sizeof(text), fmt, args);
}

int ploop_fail(int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	make_message(fmt, args);
	va_end(args);
	return code;
}

int ploop_fail_errno(int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	make_message(fmt, args);
	va_end(args);
	return code;
}

int ploop_fail_memory(void)
{
	return PLOOP_EXIT_MEMORY;
}

int ploop_fail_cancelled(void)
{
	return PLOOP_EXIT_CANCELLED;
}

void ploop_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	make_message(fmt, args);
	va_end(args);
}

/* no device has our files; to look for one takes longer than all the rest */
int __wrap_ploop_lock_image(const struct ploop_image *img, bool exclusive);

int __wrap_ploop_lock_image(const struct ploop_image *img, bool exclusive)
{
	(void)img;
	(void)exclusive;
	return 0;
}

/**
 * fuzz_must() - what must be true for every input
 * @truth: it is
 * @what: it, in words
 *
 * Does not return when it is not.
 */
void fuzz_must(bool truth, const char *what)
{
	if (truth)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

static char dir[40];

static void remove_dir(void)
{
	for (char name = 'a'; name <= 'z'; name++) {
		struct fuzz_path path = fuzz_path(name);

		unlink(path.text);
	}
	rmdir(dir);
}

/**
 * fuzz_path() - name of a file that only this process has
 * @name: a letter
 *
 * Return: the name.
 */
struct fuzz_path fuzz_path(char name)
{
	const char *parent = getenv("TMPDIR");
	static bool made;
	struct fuzz_path path;

	if (!made) {
		snprintf(dir, sizeof(dir), "%s/XXXXXX", parent ? parent : "/dev/shm");
		fuzz_must(mkdtemp(dir), "there is a directory for files");
		atexit(remove_dir);
		made = true;
	}
	snprintf(path.text, sizeof(path.text), "%s/%c", dir, name);
	return path;
}
