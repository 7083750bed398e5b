// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random sequences of I/O, snapshots, merges, grows and remounts by the ploop
 * program, checked against a model of the disk in memory.
 *
 * Usage: property PLOOP DIR v1|v2|raw SEED OPERATIONS
 *
 * One line is printed for each operation before it begins; the same seed makes
 * the same sequence. While an operation of the ploop program is under way on the
 * running device, two threads go on with I/O in stripes of their own; theirs
 * depends on time and is not repeated. What was discarded may read as before or
 * as zeros, sector by sector; the model takes over what it finds.
 *
 * Clusters are 32 KiB and the disk grows over the size (255.5 MiB) at which the
 * index needs one more cluster, so that data have to move. Files are in DIR,
 * the device is /dev/ploop0.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE		"/dev/ploop0"
#define SECTOR		512u
#define BLOCK		4096u
#define KIB		1024u
#define MIB		(1024ull * KIB)
#define CLUSTER		(32 * KIB)
/* five clusters and a half: threads share clusters, and have some for themselves */
#define STRIPE		(176 * KIB)
#define UNIT		(64 * KIB)
#define MAX_IO		(1024 * KIB)
#define MAX_SIZE	(700 * MIB)
#define FIRST_SIZE	(230 * MIB)
#define MAX_LEVELS	7
#define MAX_PATH	256
#define MAX_ARGS	(MAX_LEVELS + 8)
#define THREADS		2
/* I/O of each thread beside an operation, at least */
#define BESIDE		6

extern char **environ;

enum op {
	OP_WRITE, OP_READ, OP_ZERO, OP_DISCARD, OP_FSYNC,
	OP_SNAPSHOT, OP_MERGE, OP_MERGE_OFFLINE, OP_GROW, OP_GROW_OFFLINE, OP_REMOUNT,
	N_OPS
};

/* of 1000 operations; those of I/O come first */
static const struct {
	const char *name;
	unsigned int weight;
} ops[N_OPS] = {
	[OP_WRITE] = { "write", 380 },
	[OP_READ] = { "read", 120 },
	[OP_ZERO] = { "zero", 90 },
	[OP_DISCARD] = { "discard", 130 },
	[OP_FSYNC] = { "fsync", 50 },
	[OP_SNAPSHOT] = { "snapshot", 85 },
	[OP_MERGE] = { "merge", 50 },
	[OP_MERGE_OFFLINE] = { "merge offline", 25 },
	[OP_GROW] = { "grow", 25 },
	[OP_GROW_OFFLINE] = { "grow offline", 15 },
	[OP_REMOUNT] = { "remount", 30 },
};

struct worker {
	uint64_t state;
	uint8_t *buf;
	unsigned int id;
};

static const char *ploop, *dir, *variant;
static unsigned long long seed;
static unsigned int sequence, files, n_levels;
static char level[MAX_LEVELS][MAX_PATH];
static int dev = -1;
static uint64_t size;
static uint8_t *model, *touched;
static struct worker self;
static atomic_bool stop_beside;

static _Noreturn void fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "property: %s, seed %llu, operation %u: ", variant, seed, sequence);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

/* xorshift64*: the same sequence for the same seed, everywhere */
static uint64_t next_random(struct worker *w)
{
	w->state ^= w->state >> 12;
	w->state ^= w->state << 25;
	w->state ^= w->state >> 27;
	return w->state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(struct worker *w, uint64_t limit)
{
	return next_random(w) % limit;
}

static void worker_init(struct worker *w, unsigned int id, uint64_t from)
{
	w->id = id;
	w->state = (from * 1000003 + id + 1) * 0x9e3779b97f4a7c15ULL;
	if (!w->buf && posix_memalign((void **)&w->buf, BLOCK, MAX_IO))
		fail("memory");
}

static bool raw_base(void)
{
	return !strcmp(variant, "raw");
}

/* --- I/O and the model */

static void check(struct worker *w, const char *what, uint64_t pos, uint64_t len)
{
	if (pread(dev, w->buf, len, pos) != (ssize_t)len)
		fail("%s: read of %llu bytes at %llu: %s", what, (unsigned long long)len,
		     (unsigned long long)pos, strerror(errno));
	if (!memcmp(w->buf, model + pos, len))
		return;
	for (uint64_t i = 0; i < len; i++)
		if (w->buf[i] != model[pos + i])
			fail("%s: wrong byte at %llu (cluster %llu): %02x instead of %02x", what,
			     (unsigned long long)(pos + i),
			     (unsigned long long)((pos + i) / CLUSTER), w->buf[i],
			     model[pos + i]);
}

/* where the index, and the disk, begin and end, the same clusters are met again */
static uint64_t pick_place(struct worker *w)
{
	const uint64_t places[] = { 0, 1 * MIB, 60 * MIB, 254 * MIB + 512 * KIB, size - 2 * MIB };
	uint64_t what = below(w, 12), start;

	if (what >= 2 * (sizeof(places) / sizeof(places[0])))
		return below(w, size / SECTOR) * SECTOR;
	start = places[what / 2];
	if (start > size - 2 * MIB)
		start = size - 2 * MIB;
	return start + below(w, 2 * MIB / SECTOR) * SECTOR;
}

/* A range aligned to @align; within one stripe of its own for a thread. */
static void pick(struct worker *w, uint64_t align, uint64_t *pos, uint64_t *len)
{
	uint64_t place = pick_place(w) / align * align, end = size, stripe = place / STRIPE;

	if (w->id) {
		if (stripe % THREADS != w->id - 1)
			stripe = stripe ? stripe - 1 : stripe + 1;
		place = stripe * STRIPE + place % STRIPE / align * align;
		end = (stripe + 1) * STRIPE;
		if (end > size || place >= size) {
			end = w->id * STRIPE;
			place = end - STRIPE;
		}
	}
	if (end - place > MAX_IO)
		end = place + MAX_IO;
	*pos = place;
	/* mostly short */
	*len = (below(w, (end - place) / align) >> below(w, 6)) * align + align;
	if (*len > end - place)
		*len = end - place;
	memset(touched + place / UNIT, 1, (place + *len - 1) / UNIT - place / UNIT + 1);
}

static void do_write(struct worker *w, uint64_t pos, uint64_t len)
{
	/* One in sixteen is of zeros, which the driver looks for. */
	uint64_t stamp = next_random(w);
	bool zeros = stamp % 16 == 0;

	for (uint64_t i = 0; i < len; i += sizeof(stamp)) {
		uint64_t word = zeros ? 0 : stamp ^ (pos + i);

		memcpy(w->buf + i, &word, sizeof(word));
	}
	if (pwrite(dev, w->buf, len, pos) != (ssize_t)len)
		fail("write of %llu bytes at %llu: %s", (unsigned long long)len,
		     (unsigned long long)pos, strerror(errno));
	memcpy(model + pos, w->buf, len);
}

static void do_discard(struct worker *w, uint64_t pos, uint64_t len)
{
	static const uint8_t zero[SECTOR];
	uint64_t range[2] = { pos, len };

	if (ioctl(dev, BLKDISCARD, range))
		fail("discard: %s", strerror(errno));
	if (pread(dev, w->buf, len, pos) != (ssize_t)len)
		fail("read after discard: %s", strerror(errno));
	for (uint64_t i = 0; i < len; i += SECTOR) {
		if (memcmp(w->buf + i, model + pos + i, SECTOR) &&
		    memcmp(w->buf + i, zero, SECTOR))
			fail("after discard: wrong data in the sector at %llu",
			     (unsigned long long)(pos + i));
		memcpy(model + pos + i, w->buf + i, SECTOR);
	}
}

static void do_zero(uint64_t pos, uint64_t len)
{
	uint64_t range[2] = { pos, len };

	if (ioctl(dev, BLKZEROOUT, range))
		fail("zeroout: %s", strerror(errno));
	memset(model + pos, 0, len);
}

static void do_io(struct worker *w, enum op op)
{
	uint64_t pos, len;

	pick(w, below(w, 4) ? BLOCK : SECTOR, &pos, &len);
	if (!w->id)
		printf("%u %s %llu %llu\n", sequence, ops[op].name, (unsigned long long)pos,
		       (unsigned long long)len);
	if (op == OP_WRITE)
		do_write(w, pos, len);
	else if (op == OP_ZERO)
		do_zero(pos, len);
	else if (op == OP_DISCARD)
		do_discard(w, pos, len);
	else if (op == OP_FSYNC && fsync(dev))
		fail("fsync: %s", strerror(errno));
	check(w, ops[op].name, pos, len);
}

static enum op pick_op(struct worker *w, enum op end)
{
	unsigned int total = 0, at;
	enum op op;

	for (op = 0; op < end; op++)
		total += ops[op].weight;
	at = below(w, total);
	for (op = 0; at >= ops[op].weight; op++)
		at -= ops[op].weight;
	return op;
}

/* everything (untouched: zeros), or all that was ever written to, or samples of that */
static void check_all(const char *what)
{
	for (uint64_t pos = 0; pos < size; pos += MAX_IO)
		check(&self, what, pos, size - pos < MAX_IO ? size - pos : MAX_IO);
}

static void check_unit(const char *what, uint64_t unit)
{
	uint64_t pos = unit * UNIT;

	check(&self, what, pos, size - pos < UNIT ? size - pos : UNIT);
}

static void check_touched(const char *what)
{
	for (uint64_t unit = 0; unit * UNIT < size; unit++)
		if (touched[unit])
			check_unit(what, unit);
}

static void check_samples(const char *what)
{
	for (unsigned int i = 0; i < 6; i++) {
		uint64_t unit = below(&self, size / UNIT);

		/* the next that was touched, or none: the end of the disk */
		while ((unit + 1) * UNIT < size && !touched[unit])
			unit++;
		check_unit(what, unit);
	}
}

/* --- the ploop program */

static void run(const char *command, ...)
{
	char *argv[MAX_ARGS] = { (char *)ploop, (char *)command };
	unsigned int argc = 2;
	va_list args;
	int status;
	pid_t pid;

	va_start(args, command);
	while ((argv[argc] = va_arg(args, char *)))
		/* an empty argument stands for none */
		argc += argv[argc][0] != 0;
	va_end(args);
	fflush(stdout);
	errno = posix_spawn(&pid, ploop, NULL, NULL, argv, environ);
	if (errno)
		fail("%s: %s", ploop, strerror(errno));
	if (waitpid(pid, &status, 0) != pid || status)
		fail("ploop %s: wait status %#x", command, (unsigned int)status);
}

/* levels @from down to @to, or up, as arguments behind those that are given */
static void run_on_files(const char *const words[], unsigned int n_words, unsigned int from,
			 unsigned int to)
{
	const char *a[MAX_ARGS] = { };
	unsigned int n = 0;

	for (unsigned int i = 0; i < n_words; i++)
		a[n++] = words[i];
	for (unsigned int l = from;; l += from < to ? 1 : -1) {
		a[n++] = level[l];
		if (l == to)
			break;
	}
	run(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12],
	    a[13], NULL);
}

static uint64_t device_size(void)
{
	uint64_t bytes;

	if (ioctl(dev, BLKGETSIZE64, &bytes))
		fail("%s: %s", DEVICE, strerror(errno));
	return bytes;
}

static void mount_disk(void)
{
	const char *const ploop1[] = { "mount", "-d", DEVICE };
	const char *const raw[] = { "mount", "-d", DEVICE, "-f", "raw", "-b", "64" };

	if (raw_base())
		run_on_files(raw, 7, 0, n_levels - 1);
	else
		run_on_files(ploop1, 3, 0, n_levels - 1);
	dev = open(DEVICE, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (dev < 0)
		fail("%s: %s", DEVICE, strerror(errno));
	if (device_size() != size)
		fail("the device has %llu bytes instead of %llu",
		     (unsigned long long)device_size(), (unsigned long long)size);
}

static void umount_disk(void)
{
	close(dev);
	run("umount", "-d", DEVICE, NULL);
	for (unsigned int l = raw_base(); l < n_levels; l++)
		run("check", level[l], NULL);
}

static void *io_beside(void *arg)
{
	struct worker *w = arg;

	for (unsigned int n = 0; n < BESIDE || !stop_beside; n++)
		do_io(w, pick_op(w, OP_SNAPSHOT));
	return NULL;
}

static struct worker beside[THREADS];
static pthread_t threads[THREADS];

static void begin_beside(void)
{
	stop_beside = false;
	for (unsigned int i = 0; i < THREADS; i++) {
		worker_init(&beside[i], i + 1, seed ^ sequence);
		errno = pthread_create(&threads[i], NULL, io_beside, &beside[i]);
		if (errno)
			fail("thread: %s", strerror(errno));
	}
}

static void end_beside(void)
{
	stop_beside = true;
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* --- operations of the ploop program; false: not possible now */

static void new_name(char name[MAX_PATH])
{
	snprintf(name, MAX_PATH, "%s/%u", dir, files++);
}

static bool snapshot(void)
{
	const char *freeze = below(&self, 4) ? "" : "-F";

	if (n_levels == MAX_LEVELS)
		return false;
	new_name(level[n_levels]);
	printf("%u snapshot %s level %u\n", sequence, freeze, n_levels);
	begin_beside();
	run("snapshot", freeze, "-d", DEVICE, level[n_levels], NULL);
	end_beside();
	n_levels++;
	check_samples("snapshot");
	return true;
}

/* levels @low + 1 to @high are no more */
static void drop_levels(unsigned int low, unsigned int high)
{
	for (unsigned int l = low + 1; l <= high; l++)
		if (unlink(level[l]))
			fail("%s: %s", level[l], strerror(errno));
	memmove(level[low + 1], level[high + 1], (n_levels - high - 1) * sizeof(level[0]));
	n_levels -= high - low;
}

static bool merge(bool online)
{
	const char *const raw[] = { "merge", "-f", "raw" };
	unsigned int low, high;
	char range[32];

	if (n_levels < 2)
		return false;
	low = below(&self, n_levels - 1);
	high = low + 1 + below(&self, n_levels - low - 1);
	snprintf(range, sizeof(range), "%u..%u", low, high);
	printf("%u %s %s of %u levels\n", sequence, ops[online ? OP_MERGE : OP_MERGE_OFFLINE].name,
	       range, n_levels);
	if (online) {
		begin_beside();
		run("merge", "-d", DEVICE, "-l", range, NULL);
		end_beside();
	} else {
		umount_disk();
		run_on_files(raw, raw_base() && !low ? 3 : 1, high, low);
	}
	drop_levels(low, high);
	if (!online)
		mount_disk();
	check_touched(range);
	return true;
}

static bool grow(bool online)
{
	static const unsigned int steps[] = { 1, 100, 1000, 3000 };
	uint64_t to = size + (below(&self, steps[below(&self, 4)]) + 1) * CLUSTER;
	char sectors[32];

	if (to > MAX_SIZE)
		return false;
	snprintf(sectors, sizeof(sectors), "%llu", (unsigned long long)(to / SECTOR));
	printf("%u %s from %llu to %s sectors\n", sequence,
	       ops[online ? OP_GROW : OP_GROW_OFFLINE].name, (unsigned long long)(size / SECTOR),
	       sectors);
	if (online) {
		begin_beside();
		run("grow", "-s", sectors, "-d", DEVICE, NULL);
		end_beside();
		if (device_size() != to)
			fail("the device has %llu bytes", (unsigned long long)device_size());
		size = to;
	} else {
		umount_disk();
		size = to;
		if (raw_base() && n_levels == 1)
			run("grow", "-s", sectors, "-f", "raw", level[0], NULL);
		else
			run("grow", "-s", sectors, level[n_levels - 1], NULL);
		mount_disk();
	}
	/* what came is zeros; the model knows nothing else */
	memset(touched + (size - 2 * MIB) / UNIT, 1, 2 * MIB / UNIT);
	check_touched("grow");
	return true;
}

static void remount(void)
{
	printf("%u remount\n", sequence);
	umount_disk();
	mount_disk();
	check_all("remount");
}

static bool operation(enum op op)
{
	switch (op) {
	case OP_SNAPSHOT:
		return snapshot();
	case OP_MERGE:
	case OP_MERGE_OFFLINE:
		return merge(op == OP_MERGE);
	case OP_GROW:
	case OP_GROW_OFFLINE:
		return grow(op == OP_GROW);
	case OP_REMOUNT:
		remount();
		return true;
	default:
		do_io(&self, op);
		return true;
	}
}

/* --- */

static void make_disk(void)
{
	char sectors[32];

	size = FIRST_SIZE;
	n_levels = 1;
	new_name(level[0]);
	snprintf(sectors, sizeof(sectors), "%llu", (unsigned long long)(size / SECTOR));
	if (raw_base()) {
		int fd = open(level[0], O_RDWR | O_CREAT | O_EXCL, 0600);

		if (fd < 0 || ftruncate(fd, size) || close(fd))
			fail("%s: %s", level[0], strerror(errno));
	} else {
		run("init", "-s", sectors, "-b", "64", "-v", variant + 1, level[0], NULL);
	}
	mount_disk();
}

int main(int argc, char *argv[])
{
	unsigned int operations;

	if (argc != 6) {
		fprintf(stderr, "Usage: property PLOOP DIR v1|v2|raw SEED OPERATIONS\n");
		return 38;
	}
	ploop = argv[1];
	dir = argv[2];
	variant = argv[3];
	seed = strtoull(argv[4], NULL, 0);
	operations = strtoul(argv[5], NULL, 0);
	worker_init(&self, 0, seed);
	model = mmap(NULL, MAX_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	touched = calloc(MAX_SIZE / UNIT + 1, 1);
	if (model == MAP_FAILED || !touched)
		fail("memory");
	printf("property: %s, seed %llu, %u operations\n", variant, seed, operations);
	make_disk();
	for (sequence = 1; sequence <= operations; sequence++) {
		if (!operation(pick_op(&self, N_OPS)))
			do_io(&self, OP_WRITE);
		if (sequence % 8 == 0)
			check_samples("later");
	}
	remount();
	umount_disk();
	printf("property: %u levels, %llu MiB in the end\n", n_levels,
	       (unsigned long long)(size / MIB));
	return 0;
}
