/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the test programs share. A program includes this after it has defined
 * its usage text. Status 2: it was called wrongly, or could not do its work.
 */
#ifndef PLOOP_TESTS_UTIL_H
#define PLOOP_TESTS_UTIL_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline _Noreturn void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(2);
}

static inline _Noreturn void bad_usage(void)
{
	fputs(usage, stderr);
	exit(2);
}

static inline uint64_t number(const char *text)
{
	static const char units[] = "kmgt";
	const char *unit;
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (end == text)
		bad_usage();
	if (!*end)
		return value;
	unit = strchr(units, *end);
	if (!unit || end[1])
		bad_usage();
	return value << (10 * (unit - units + 1));
}

/* memory for direct I/O */
static inline void *aligned(size_t len)
{
	void *p;

	errno = posix_memalign(&p, 4096, len);
	if (errno)
		die("memory");
	return p;
}

/* splitmix64 */
static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

#endif /* PLOOP_TESTS_UTIL_H */
