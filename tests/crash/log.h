/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What dm-log-writes recorded. The format is that of drivers/md/dm-log-writes.c:
 * a super block, then for each write a sector that describes it and its data.
 * What a flush made durable stands before the flush, a FUA write where it
 * completed.
 */
#ifndef PLOOP_TESTS_CRASH_LOG_H
#define PLOOP_TESTS_CRASH_LOG_H

#include <endian.h>
#include <errno.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../util.h"

#define LOG_MAGIC	0x6a736677736872ull
#define LOG_VERSION	1
#define FLAG_FLUSH	1u
#define FLAG_FUA	2u
#define FLAG_DISCARD	4u
#define FLAG_MARK	8u

#define MARK_BYTES	64

struct entry {
	uint64_t offset, len, flags, data;	/* in bytes; data: where in the log */
	char mark[MARK_BYTES];
};

struct log {
	int fd;
	uint64_t n;
	struct entry *entry;
};

static inline _Noreturn void bad_log(const char *what)
{
	fprintf(stderr, "%s: the log %s\n", program_invocation_short_name, what);
	exit(2);
}

static inline void log_read(const struct log *log, void *buf, size_t len, uint64_t offset)
{
	ssize_t got = pread(log->fd, buf, len, offset);

	if (got < 0)
		die("log");
	if ((size_t)got != len)
		bad_log("ends too early");
}

static inline uint64_t log_read_entry(const struct log *log, struct entry *e, uint64_t offset,
				      uint32_t sector)
{
	uint64_t raw[(sizeof(uint64_t) * 4 + MARK_BYTES) / sizeof(uint64_t)];

	log_read(log, raw, sizeof(raw), offset);
	e->offset = le64toh(raw[0]) * sector;
	e->len = le64toh(raw[1]) * sector;
	e->flags = le64toh(raw[2]);
	e->data = offset + sector;
	if (e->flags & FLAG_MARK) {
		memcpy(e->mark, &raw[4], MARK_BYTES - 1);
		if (le64toh(raw[3]) < MARK_BYTES)
			e->mark[le64toh(raw[3])] = 0;
	}
	return e->data + (e->flags & FLAG_DISCARD ? 0 : e->len);
}

static inline struct log log_open(const char *path)
{
	struct log log = { .fd = xopen(path, O_RDONLY) };
	uint64_t super[4], offset;
	uint32_t sector;

	log_read(&log, super, sizeof(super), 0);
	if (le64toh(super[0]) != LOG_MAGIC || le64toh(super[1]) != LOG_VERSION)
		bad_log("is none of dm-log-writes");
	log.n = le64toh(super[2]);
	sector = le64toh(super[3]) & UINT32_MAX;
	if (!log.n || sector < 512)
		bad_log("is empty");
	log.entry = calloc(log.n, sizeof(*log.entry));
	if (!log.entry)
		die("memory");
	offset = sector;
	for (uint64_t i = 0; i < log.n; i++)
		offset = log_read_entry(&log, &log.entry[i], offset, sector);
	return log;
}

static inline void log_print(const struct log *log)
{
	for (uint64_t i = 0; i < log->n; i++) {
		const struct entry *e = &log->entry[i];

		printf("%llu %s%s%s%s%s %llu %llu %s\n", (unsigned long long)i,
		       e->flags & FLAG_FLUSH ? "F" : "", e->flags & FLAG_FUA ? "U" : "",
		       e->flags & FLAG_DISCARD ? "D" : "", e->flags & FLAG_MARK ? "M" : "",
		       e->len ? "W" : "", (unsigned long long)e->offset / 512,
		       (unsigned long long)e->len / 512, e->mark);
	}
}

static inline uint64_t log_find_mark(const struct log *log, const char *mark)
{
	for (uint64_t i = 0; i < log->n; i++)
		if (log->entry[i].flags & FLAG_MARK && !strcmp(log->entry[i].mark, mark))
			return i;
	fprintf(stderr, "%s: no mark %s in the log\n", program_invocation_short_name, mark);
	exit(2);
}

/* the first entry before the end that the last flush before the end does not cover */
static inline uint64_t log_flushed(const struct log *log, uint64_t to)
{
	while (to && !(log->entry[to - 1].flags & FLAG_FLUSH))
		to--;
	/* a flush makes durable what is before it, not what it carries */
	return to && log->entry[to - 1].len ? to - 1 : to;
}

/* can power loss take it away, when no flush covers it */
static inline bool log_may_lose(const struct entry *e)
{
	return e->len && !(e->flags & (FLAG_FUA | FLAG_MARK));
}

/* the first bytes of an entry onto a device */
static inline void log_apply(const struct log *log, const struct entry *e, int dev, uint64_t len)
{
	uint64_t range[2] = { e->offset, len };
	void *buf;

	if (!len)
		return;
	if (e->flags & FLAG_DISCARD) {
		if (ioctl(dev, BLKZEROOUT, range))
			die("zeroing");
		return;
	}
	buf = aligned(len);
	log_read(log, buf, len, e->data);
	if (pwrite(dev, buf, len, e->offset) != (ssize_t)len)
		die("write");
	free(buf);
}

#endif /* PLOOP_TESTS_CRASH_LOG_H */
