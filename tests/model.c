// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a block device, checked against a model in memory.
 *
 * Usage: model DEVICE SEED OPERATIONS THREADS STRIPE_KIB [REFERENCE]
 *
 * The device is cut into stripes that belong to the threads in turn, so that
 * several threads work in one cluster without ever touching each other's bytes.
 * Operations: direct writes, reads, fsync, BLKZEROOUT and BLKDISCARD. What was
 * discarded may read as before or as zeros, sector by sector; the model takes
 * over what it finds. With REFERENCE the model starts from that file and is
 * written back to it, so that the next run, or cmp, can check what is there
 * after a detach.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR	512u
#define BLOCK	4096u
#define MAX_IO	(256u << 10)

static int dev;
static uint64_t size, stripe;
static unsigned int threads, operations;
static uint8_t *model;

struct worker {
	pthread_t thread;
	unsigned int id;
	uint64_t state;
	uint8_t *buf;
};

static uint64_t next_random(struct worker *w)
{
	/* xorshift64*: the same sequence for the same seed, everywhere */
	w->state ^= w->state >> 12;
	w->state ^= w->state << 25;
	w->state ^= w->state >> 27;
	return w->state * 0x2545f4914f6cdd1dULL;
}

static void fail(const char *what, uint64_t pos, uint64_t len)
{
	fprintf(stderr, "model: %s at %llu, %llu bytes: %s\n", what,
		(unsigned long long)pos, (unsigned long long)len, strerror(errno));
	_exit(1);
}

static void mismatch(const char *what, uint64_t pos)
{
	fprintf(stderr, "model: %s: wrong data in the sector at %llu\n", what,
		(unsigned long long)pos);
	_exit(2);
}

/* A range within one stripe of this thread, aligned to @align. */
static void pick(struct worker *w, uint64_t align, uint64_t max, uint64_t *pos, uint64_t *len)
{
	uint64_t stripes = size / stripe / threads;
	uint64_t base = (next_random(w) % stripes * threads + w->id) * stripe;
	uint64_t off = next_random(w) % stripe / align * align;
	uint64_t room = stripe - off < max ? stripe - off : max;

	*pos = base + off;
	*len = (next_random(w) % (room / align) + 1) * align;
}

static void check(struct worker *w, const char *what, uint64_t pos, uint64_t len)
{
	uint64_t i;

	if (pread(dev, w->buf, len, pos) != (ssize_t)len)
		fail(what, pos, len);
	for (i = 0; i < len; i += SECTOR)
		if (memcmp(w->buf + i, model + pos + i, SECTOR))
			mismatch(what, pos + i);
}

static void do_write(struct worker *w)
{
	uint64_t pos, len, i, stamp = next_random(w);

	pick(w, next_random(w) % 4 ? BLOCK : SECTOR, MAX_IO, &pos, &len);
	for (i = 0; i < len; i += sizeof(stamp)) {
		uint64_t word = stamp ^ (pos + i);

		/* One in sixteen writes is of zeros, which the driver looks for. */
		if (stamp % 16 == 0)
			word = 0;
		memcpy(w->buf + i, &word, sizeof(word));
	}
	if (pwrite(dev, w->buf, len, pos) != (ssize_t)len)
		fail("write", pos, len);
	memcpy(model + pos, w->buf, len);
}

static void do_read(struct worker *w)
{
	uint64_t pos, len;

	pick(w, SECTOR, MAX_IO, &pos, &len);
	check(w, "read", pos, len);
}

static void do_zero(struct worker *w)
{
	uint64_t range[2];

	pick(w, next_random(w) % 2 ? BLOCK : SECTOR, stripe, &range[0], &range[1]);
	if (ioctl(dev, BLKZEROOUT, range))
		fail("BLKZEROOUT", range[0], range[1]);
	memset(model + range[0], 0, range[1]);
}

static void do_discard(struct worker *w)
{
	static const uint8_t zero[SECTOR];
	uint64_t range[2], pos, i, part;

	pick(w, next_random(w) % 2 ? BLOCK : SECTOR, stripe, &range[0], &range[1]);
	if (ioctl(dev, BLKDISCARD, range))
		fail("BLKDISCARD", range[0], range[1]);
	for (pos = range[0]; pos < range[0] + range[1]; pos += part) {
		part = range[0] + range[1] - pos;
		if (part > MAX_IO)
			part = MAX_IO;
		if (pread(dev, w->buf, part, pos) != (ssize_t)part)
			fail("read after discard", pos, part);
		for (i = 0; i < part; i += SECTOR) {
			if (memcmp(w->buf + i, model + pos + i, SECTOR) &&
			    memcmp(w->buf + i, zero, SECTOR))
				mismatch("read after discard", pos + i);
			memcpy(model + pos + i, w->buf + i, SECTOR);
		}
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned int i;

	for (i = 0; i < operations; i++) {
		unsigned int what = next_random(w) % 100;

		if (what < 50)
			do_write(w);
		else if (what < 75)
			do_read(w);
		else if (what < 85)
			do_zero(w);
		else if (what < 97)
			do_discard(w);
		else if (fsync(dev))
			fail("fsync", 0, 0);
	}
	return NULL;
}

static void load(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, size))
		fail(path, 0, size);
	model = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
}

static void check_all(struct worker *w)
{
	uint64_t pos, len;

	for (pos = 0; pos < size; pos += len) {
		len = size - pos < MAX_IO ? size - pos : MAX_IO;
		check(w, "final check", pos, len);
	}
}

int main(int argc, char **argv)
{
	struct worker *w;
	uint64_t seed;
	unsigned int i;

	if (argc < 6) {
		fprintf(stderr, "Usage: model DEVICE SEED OPERATIONS THREADS STRIPE_KIB [REFERENCE]\n");
		return 38;
	}
	seed = strtoull(argv[2], NULL, 0);
	operations = strtoul(argv[3], NULL, 0);
	threads = strtoul(argv[4], NULL, 0);
	stripe = strtoull(argv[5], NULL, 0) << 10;
	dev = open(argv[1], O_RDWR | O_DIRECT);
	if (dev < 0 || ioctl(dev, BLKGETSIZE64, &size))
		fail(argv[1], 0, 0);
	if (argc > 6)
		load(argv[6]);
	else
		model = mmap(NULL, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	w = calloc(threads, sizeof(*w));
	if (!w || model == MAP_FAILED)
		fail("memory", 0, size);
	printf("model: seed %llu, %u operations in each of %u threads\n",
	       (unsigned long long)seed, operations, threads);
	for (i = 0; i < threads; i++) {
		w[i].id = i;
		w[i].state = (seed * 1000003 + i + 1) * 0x9e3779b97f4a7c15ULL;
		if (posix_memalign((void **)&w[i].buf, BLOCK, MAX_IO) ||
		    pthread_create(&w[i].thread, NULL, work, &w[i]))
			fail("thread", 0, i);
	}
	for (i = 0; i < threads; i++)
		pthread_join(w[i].thread, NULL);
	check_all(&w[0]);
	return fsync(dev) ? 1 : 0;
}
