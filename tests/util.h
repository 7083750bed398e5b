/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the test programs share. A program includes this after it has defined
 * its usage text. Status 2: it was called wrongly, or could not do its work.
 */
#ifndef PLOOP_TESTS_UTIL_H
#define PLOOP_TESTS_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static inline int xopen(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		die(path);
	return fd;
}

/* prints how a call went and makes an exit status of it */
static inline int outcome(int ret)
{
	if (ret >= 0)
		puts("OK");
	else
		puts(strerrorname_np(errno));
	return ret < 0;
}

/* until the standard input ends */
static inline int hold(void)
{
	char c;

	puts("held");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}

/* NAME=VALUE: the value when the argument has this name */
static inline const char *value_of(const char *arg, const char *name)
{
	size_t len = strlen(name);

	return !strncmp(arg, name, len) && arg[len] == '=' ? arg + len + 1 : NULL;
}

static inline bool set_number(const char *arg, const char *name, unsigned long long *to)
{
	const char *value = value_of(arg, name);

	if (value)
		*to = number(value);
	return value;
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
