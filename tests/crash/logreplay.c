// SPDX-License-Identifier: GPL-2.0-only
/*
 * Replays what dm-log-writes recorded, up to any point, as it is or as a disk
 * with a volatile cache would have it after power loss: of what no flush
 * covered, some writes are lost and some are torn.
 *
 * The format is that of drivers/md/dm-log-writes.c: a super block, then for
 * each write a sector that describes it and its data. What a flush made durable
 * stands before the flush, a FUA write where it completed.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char usage[] =
	"Usage: logreplay list LOG\n"
	"         each entry: number, flags, sector, sectors, mark\n"
	"       logreplay apply LOG DEV FROM TO [SEED]\n"
	"         entries FROM to TO - 1 onto DEV; with SEED (not 0) lose some of what was not flushed\n"
	"       logreplay points LOG FIRST-MARK LAST-MARK COUNT SEED\n"
	"         COUNT moments between two marks, in order: FLUSHED TO SEED EPOCH MARK, where FLUSHED is the\n"
	"         first entry after the last flush before TO, SEED is for apply, EPOCH the last mark eN before\n"
	"         TO (or 0), MARK the last other one\n";

#include "../util.h"

#define LOG_MAGIC	0x6a736677736872ull
#define LOG_VERSION	1
#define FLAG_FLUSH	1u
#define FLAG_FUA	2u
#define FLAG_DISCARD	4u
#define FLAG_MARK	8u

#define TEAR		4096u	/* what a disk writes as one */
#define ALIGN		4096u
#define MARK_BYTES	64

struct entry {
	uint64_t offset, len, flags, data;	/* in bytes; data: where in the log */
	char mark[MARK_BYTES];
};

static struct entry *entries;
static uint64_t n_entries;
static int log_fd;

static _Noreturn void bad_log(const char *what)
{
	fprintf(stderr, "logreplay: the log %s\n", what);
	exit(2);
}

static uint64_t random_state;

/* xorshift64*: the same choice for the same seed */
static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1dull >> 16) % limit;
}

static void random_seed(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15ull + 1;
	random_below(2);
}

/* --- the log */

static void read_log(void *buf, size_t len, uint64_t offset)
{
	ssize_t got = pread(log_fd, buf, len, offset);

	if (got < 0)
		die("log");
	if ((size_t)got != len)
		bad_log("ends too early");
}

static uint64_t read_entry(struct entry *e, uint64_t offset, uint32_t sector)
{
	uint64_t raw[(sizeof(uint64_t) * 4 + MARK_BYTES) / sizeof(uint64_t)];

	read_log(raw, sizeof(raw), offset);
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

static void open_log(const char *path)
{
	uint64_t super[4], offset;
	uint32_t sector;

	log_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (log_fd < 0)
		die(path);
	read_log(super, sizeof(super), 0);
	if (le64toh(super[0]) != LOG_MAGIC || le64toh(super[1]) != LOG_VERSION)
		bad_log("is none of dm-log-writes");
	n_entries = le64toh(super[2]);
	sector = le64toh(super[3]) & UINT32_MAX;
	if (!n_entries || sector < 512)
		bad_log("is empty");
	entries = calloc(n_entries, sizeof(*entries));
	if (!entries)
		die("memory");
	offset = sector;
	for (uint64_t i = 0; i < n_entries; i++)
		offset = read_entry(&entries[i], offset, sector);
}

/* --- list */

static int list(void)
{
	for (uint64_t i = 0; i < n_entries; i++) {
		const struct entry *e = &entries[i];

		printf("%llu %s%s%s%s%s %llu %llu %s\n", (unsigned long long)i,
		       e->flags & FLAG_FLUSH ? "F" : "", e->flags & FLAG_FUA ? "U" : "",
		       e->flags & FLAG_DISCARD ? "D" : "", e->flags & FLAG_MARK ? "M" : "",
		       e->len ? "W" : "", (unsigned long long)e->offset / 512,
		       (unsigned long long)e->len / 512, e->mark);
	}
	return 0;
}

/* --- apply */

/* the first entry that the last flush before the end does not cover */
static uint64_t flushed(uint64_t from, uint64_t to)
{
	while (to > from && !(entries[to - 1].flags & FLAG_FLUSH))
		to--;
	/* a flush makes durable what is before it, not what it carries */
	return to > from && entries[to - 1].len ? to - 1 : to;
}

/* how much of a write is on the disk when the power has gone: all, nothing, or some */
static uint64_t survives(const struct entry *e)
{
	switch (random_below(6)) {
	case 0:
	case 1:
		return 0;
	case 2:
		return random_below(e->len / TEAR + 1) * TEAR;
	default:
		return e->len;
	}
}

static void apply_entry(int dev, const struct entry *e, uint64_t len)
{
	uint64_t range[2] = { e->offset, len };
	void *buf;

	if (e->flags & FLAG_DISCARD) {
		if (ioctl(dev, BLKZEROOUT, range))
			die("zeroing");
		return;
	}
	errno = posix_memalign(&buf, ALIGN, len);
	if (errno)
		die("memory");
	read_log(buf, len, e->data);
	if (pwrite(dev, buf, len, e->offset) != (ssize_t)len)
		die("write");
	free(buf);
}

static int apply(const char *path, uint64_t from, uint64_t to, uint64_t seed)
{
	int dev = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	uint64_t safe;

	if (dev < 0)
		die(path);
	if (to > n_entries || from > to)
		bad_usage();
	random_seed(seed);
	safe = seed ? flushed(from, to) : to;
	for (uint64_t i = from; i < to; i++) {
		const struct entry *e = &entries[i];
		uint64_t len = e->len;

		if (len && i >= safe && !(e->flags & FLAG_FUA))
			len = survives(e);
		if (len)
			apply_entry(dev, e, len);
	}
	if (fsync(dev))
		die(path);
	return 0;
}

/* --- points */

static uint64_t find_mark(const char *mark)
{
	for (uint64_t i = 0; i < n_entries; i++)
		if (entries[i].flags & FLAG_MARK && !strcmp(entries[i].mark, mark))
			return i;
	fprintf(stderr, "logreplay: no mark %s in the log\n", mark);
	exit(2);
}

static bool is_boundary(uint64_t i)
{
	return entries[i].flags & (FLAG_FLUSH | FLAG_FUA);
}

static bool is_epoch(const char *mark)
{
	return mark[0] == 'e' && mark[1] >= '0' && mark[1] <= '9';
}

static void print_point(uint64_t to, uint64_t seed)
{
	const char *epoch = "e0", *mark = "none";

	for (uint64_t i = 0; i < to; i++) {
		if (!(entries[i].flags & FLAG_MARK))
			continue;
		*(is_epoch(entries[i].mark) ? &epoch : &mark) = entries[i].mark;
	}
	printf("%llu %llu %llu %s %s\n", (unsigned long long)flushed(0, to),
	       (unsigned long long)to, (unsigned long long)seed, epoch + 1, mark);
}

/*
 * The moment right after a flush or FUA write, any moment, and the moment before
 * a flush, when the most can be lost, in turn.
 */
static void choose(uint64_t *point, bool *lossy, uint64_t turn, uint64_t first, uint64_t last)
{
	uint64_t i = first + random_below(last - first);

	*lossy = turn % 3 == 2;
	if (turn % 3 != 1) {
		while (i < last && !is_boundary(i))
			i++;
		if (i < last && turn % 3 == 0)
			i++;
	}
	*point = i;
}

static int by_place(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int points(const char *first_mark, const char *last_mark, uint64_t count, uint64_t seed)
{
	const uint64_t first = find_mark(first_mark), last = find_mark(last_mark) + 1;
	uint64_t boundaries = 0, *point;
	bool lossy;

	for (uint64_t i = first; i < last; i++)
		boundaries += is_boundary(i);
	point = calloc(count + boundaries, sizeof(*point));
	if (!point || first >= last)
		die("points");
	random_seed(seed);
	if (boundaries > count)
		boundaries = 0;
	for (uint64_t i = first, k = 0; k < boundaries; i++)
		if (is_boundary(i))
			point[k++] = (i + 1) << 1;
	for (uint64_t k = boundaries; k < count; k++) {
		choose(&point[k], &lossy, k, first, last);
		point[k] = point[k] << 1 | lossy;
	}
	qsort(point, count, sizeof(*point), by_place);
	for (uint64_t k = 0; k < count; k++)
		print_point(point[k] >> 1, point[k] & 1 ? random_below(UINT32_MAX) + 1 : 0);
	free(point);
	return 0;
}

int main(int argc, char *argv[])
{
	const char *op = argc > 1 ? argv[1] : "";

	if (argc < 3)
		bad_usage();
	open_log(argv[2]);
	if (!strcmp(op, "list") && argc == 3)
		return list();
	if (!strcmp(op, "apply") && (argc == 6 || argc == 7))
		return apply(argv[3], number(argv[4]), number(argv[5]),
			     argc == 7 ? number(argv[6]) : 0);
	if (!strcmp(op, "points") && argc == 7)
		return points(argv[3], argv[4], number(argv[5]), number(argv[6]));
	bad_usage();
}
