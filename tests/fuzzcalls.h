/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What fuzzctl does: control ioctls in any order, with right, nearly right and
 * wrong arguments, and I/O between them.
 */
#ifndef PLOOP_TESTS_FUZZCALLS_H
#define PLOOP_TESTS_FUZZCALLS_H

#include "fuzz.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <linux/fs.h>

#define DEVICES		3
#define IMAGES		10
#define MAX_THREADS	16
#define CL		6
/* of most images, so that they fit on each other */
#define CLUSTERS	48
/* sectors that a disk may grow to: the index stays small */
#define MOST_SECTORS	(32 << 11)
#define MOST_EXTENTS	64
#define BUFFER_BYTES	(256 << 10)

/**
 * struct thread - one of those who call
 * @id: the thread
 * @tid: the kernel's number of it
 * @nr: its number
 * @what: what the last call was; the watch may see an older one
 * @r: its numbers
 * @control: its /dev/ploop-control
 * @calls: calls it has begun; read by the watch
 * @dev: index in devices[] of the last one
 * @held: another open file of a device
 * @started: when it began the last call, milliseconds; read by the watch
 * @shown: the last call whose stack was shown
 * @ended: it makes no more calls
 * @image: buffer for images
 * @buffer: for arguments and data, BUFFER_BYTES
 * @edge: the end of readable memory
 */
struct thread {
	pthread_t id;
	int tid;
	const char *what;
	unsigned int nr;
	struct rng r;
	int control;
	atomic_ullong calls;
	int dev, held;
	atomic_ullong started;
	unsigned long long shown;
	atomic_bool ended;
	struct image image;
	unsigned char *buffer, *edge;
};

/* numbers of the devices, and what their tops and bases may be */
static int devices[DEVICES];
static _Atomic int tops[DEVICES], bases[DEVICES];
static const char *dir;
/* the host has little space left */
static _Atomic bool host_low;
static int log_fd = -1;

/* --- counting and telling */

static const struct call {
	const char *name;
	unsigned long nr;
} calls[] = {
	{ "ADD_DELTA", PLOOP_IOC_ADD_DELTA }, { "CLEAR", PLOOP_IOC_CLEAR },
	{ "STOP", PLOOP_IOC_STOP }, { "START", PLOOP_IOC_START },
	{ "SNAPSHOT", PLOOP_IOC_SNAPSHOT }, { "DEL_DELTA", PLOOP_IOC_DEL_DELTA },
	{ "TRACK_INIT", PLOOP_IOC_TRACK_INIT }, { "TRACK_STOP", PLOOP_IOC_TRACK_STOP },
	{ "TRACK_ABORT", PLOOP_IOC_TRACK_ABORT }, { "TRACK_SETPOS", PLOOP_IOC_TRACK_SETPOS },
	{ "TRACK_READ", PLOOP_IOC_TRACK_READ }, { "SYNC", PLOOP_IOC_SYNC },
	{ "MERGE", PLOOP_IOC_MERGE }, { "REPLACE_DELTA", PLOOP_IOC_REPLACE_DELTA },
	{ "TRUNCATE", PLOOP_IOC_TRUNCATE }, { "UPDATE_INDEX", PLOOP_IOC_UPDATE_INDEX },
	{ "GROW", PLOOP_IOC_GROW }, { "FBGET", PLOOP_IOC_FBGET },
	{ "BALLOON", PLOOP_IOC_BALLOON }, { "FREEBLKS", PLOOP_IOC_FREEBLKS },
	{ "RELOCBLKS", PLOOP_IOC_RELOCBLKS }, { "GETDEVICE", PLOOP_IOC_GETDEVICE },
	{ "DISCARD_INIT", PLOOP_IOC_DISCARD_INIT }, { "DISCARD_FINI", PLOOP_IOC_DISCARD_FINI },
	{ "DISCARD_WAIT", PLOOP_IOC_DISCARD_WAIT }, { "FBDROP", PLOOP_IOC_FBDROP },
	{ "FBFILTER", PLOOP_IOC_FBFILTER }, { "MAX_DELTA_SIZE", PLOOP_IOC_MAX_DELTA_SIZE },
	{ "FREEZE", PLOOP_IOC_FREEZE }, { "THAW", PLOOP_IOC_THAW },
	{ "GET", PLOOP_CTL_GET }, { "REMOVE", PLOOP_CTL_REMOVE }, { "other", 0 },
};

#define CALLS	(sizeof(calls) / sizeof(calls[0]))

static _Atomic uint64_t made[CALLS], succeeded[CALLS];

static __attribute__((format(printf, 2, 3))) void
tell(struct thread *t, const char *format, ...)
{
	char text[256];
	va_list args;
	int n;

	if (log_fd < 0)
		return;
	n = snprintf(text, sizeof(text), "%u.%llu ", t->nr, (unsigned long long)t->calls);
	va_start(args, format);
	n += vsnprintf(text + n, sizeof(text) - n - 1, format, args);
	va_end(args);
	n = n < (int)sizeof(text) - 1 ? n : (int)sizeof(text) - 2;
	text[n++] = '\n';
	if (write(log_fd, text, n) != n)
		perror("log");
}

/* the watch times what comes now */
static void begin_call(struct thread *t, const char *what)
{
	t->what = what;
	t->started = now() * 1000;
	t->calls++;
}

static int issue(struct thread *t, int fd, unsigned long nr, void *arg)
{
	unsigned int i = 0;
	int ret;

	while (i < CALLS - 1 && calls[i].nr != nr)
		i++;
	begin_call(t, calls[i].name);
	tell(t, "%d %s %#lx", t->dev, calls[i].name, nr);
	ret = ioctl(fd, nr, arg);
	made[i]++;
	if (ret >= 0)
		succeeded[i]++;
	return ret;
}

/* --- images */

static void image_path(char *path, size_t len, unsigned int i)
{
	snprintf(path, len, "%s/image%u", dir, i);
}

/* the last ones are raw */
static bool is_raw(unsigned int i)
{
	return i >= IMAGES - 2;
}

/* a new file, often damaged; sometimes written into one that may be attached */
static void renew(struct thread *t, unsigned int i, bool empty)
{
	struct image *m = &t->image;
	uint64_t length;
	char path[4096];
	int fd;

	m->empty = empty;
	make_image(m, &t->r, is_raw(i) ? 0 : 2 - one_in(&t->r, 8), one_in(&t->r, 16) ? CL + 1 : CL,
		   one_in(&t->r, 8) ? 1 : CLUSTERS, one_in(&t->r, 8) ? MAX_CLUSTERS : CLUSTERS);
	length = m->size;
	if (!is_raw(i) && !empty && one_in(&t->r, 6))
		put32(m, 4 * below(&t->r, 16 + m->clusters), wrong(&t->r, 1));
	if (one_in(&t->r, 24))
		length = below(&t->r, length + 1);
	else if (!is_raw(i) && one_in(&t->r, 24))
		length += cluster_bytes(m) << below(&t->r, 18);
	image_path(path, sizeof(path), i);
	tell(t, "renew %u", i);
	if (!one_in(&t->r, 4))
		unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	/* who writes into an attached image may be refused */
	if (ftruncate(fd, length) || pwrite(fd, m->bytes, m->size < length ? m->size : length, 0) < 0)
		tell(t, "renew: %s", strerrorname_np(errno));
	close(fd);
}

/* --- arguments */

/* sometimes changes one word of it */
static void spoil(struct thread *t, void *arg, size_t len)
{
	uint32_t *word = (uint32_t *)arg + below(&t->r, len / 4);

	if (one_in(&t->r, 4))
		*word = wrong(&t->r, *word);
}

/* where the driver finds an argument: often right, sometimes cut off or nowhere */
static void *placed(struct thread *t, const void *arg, size_t len)
{
	switch (below(&t->r, 24)) {
	case 0:
		return NULL;
	case 1:
		return (void *)0xffff888000001000;
	case 2:
		len = below(&t->r, len + 1);
	}
	memcpy(t->edge - len, arg, len);
	return t->edge - len;
}

/* an open file: the image, seldom something that is none */
static int some_file(struct thread *t, unsigned int i, int mode)
{
	static const char *const others[] = {
		"/dev/null", "/", "/proc/self/mem", "/sys/block", CONTROL_NODE,
	};
	char path[4096];

	image_path(path, sizeof(path), i);
	if (!one_in(&t->r, 24))
		return open(path, mode | O_NONBLOCK | O_CLOEXEC);
	switch (below(&t->r, 6)) {
	case 0:
		return -1;
	case 1:
		return open(path, O_PATH | O_CLOEXEC);
	case 2:
		return device_open(devices[below(&t->r, DEVICES)], O_RDWR);
	case 3:
		return memfd_create("fuzz", MFD_CLOEXEC);
	default:
		return open(others[below(&t->r, sizeof(others) / sizeof(others[0]))],
			    O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
}

static int with_image(struct thread *t, int fd, unsigned long nr, bool rdonly)
{
	unsigned int i = below(&t->r, IMAGES);
	struct ploop_ctl_delta arg;
	int file, ret;

	if (nr == PLOOP_IOC_SNAPSHOT && !one_in(&t->r, 4))
		renew(t, i, true);
	file = some_file(t, i, rdonly ^ one_in(&t->r, 16) ? O_RDONLY : O_RDWR);
	arg = delta_arg(file, is_raw(i) ? PLOOP_FMT_RAW : PLOOP_FMT_PLOOP1, CL, rdonly);
	arg.ctl.flags |= one_in(&t->r, 8) ? PLOOP_CTLF_COOKIE : 0;
	arg.ctl.flags |= one_in(&t->r, 4) ? PLOOP_CTLF_FS_SYNC : 0;
	arg.ctl.level = nr == PLOOP_IOC_REPLACE_DELTA ? below(&t->r, 3) : 0;
	snprintf(arg.cookie, sizeof(arg.cookie), "fuzz%u", t->nr);
	spoil(t, &arg, sizeof(arg));
	tell(t, "image %u %s", i, rdonly ? "ro" : "rw");
	ret = issue(t, fd, nr, placed(t, &arg, sizeof(arg)));
	if (!ret && nr == PLOOP_IOC_ADD_DELTA && rdonly)
		bases[t->dev] = i;
	else if (!ret)
		tops[t->dev] = i;
	if (file >= 0)
		close(file);
	return ret;
}

/* a list of what an image has; 0 when its file cannot be read */
static unsigned int list_index(struct thread *t, unsigned int image,
			       struct ploop_relocblks_extent *list)
{
	struct ploop1_header h;
	uint32_t words[MAX_CLUSTERS];
	unsigned int n = 0, unit;
	char path[4096];
	ssize_t got;
	int fd;

	image_path(path, sizeof(path), image);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return 0;
	got = pread(fd, &h, sizeof(h), 0) == sizeof(h) ?
	      pread(fd, words, sizeof(words), sizeof(h)) : 0;
	close(fd);
	unit = !memcmp(h.signature, PLOOP1_SIGNATURE_V1, 16) ? 1u << CL : 1;
	for (uint32_t c = 0; c < got / 4 && n < MOST_EXTENTS; c++)
		if (words[c] && !one_in(&t->r, 8))
			list[n++] = (struct ploop_relocblks_extent){
				.clu = c, .iblk = le32toh(words[c]) / unit, .len = 1,
				.free = below(&t->r, 2),
			};
	return n;
}

static int freeblks(struct thread *t, int fd)
{
	struct ploop_relocblks_extent list[MOST_EXTENTS];
	struct ploop_freeblks_ctl *arg = (void *)t->buffer;
	unsigned int n = list_index(t, tops[t->dev], list), keep = 1 + below(&t->r, 4);
	size_t len;

	memset(arg, 0, sizeof(*arg));
	for (unsigned int i = 0; i < n; i += keep)
		arg->extents[arg->n_extents++] = (struct ploop_freeblks_extent){
			.clu = list[i].clu, .iblk = list[i].iblk, .len = 1,
		};
	arg->level = one_in(&t->r, 2) ? 0 : below(&t->r, 3);
	len = sizeof(*arg) + arg->n_extents * sizeof(arg->extents[0]);
	spoil(t, arg, len);
	return issue(t, fd, PLOOP_IOC_FREEBLKS, placed(t, arg, len));
}

static int by_iblk(const void *a, const void *b)
{
	const struct ploop_relocblks_extent *ea = a, *eb = b;

	return ea->iblk < eb->iblk ? -1 : ea->iblk > eb->iblk;
}

static int relocblks(struct thread *t, int fd)
{
	struct ploop_relocblks_ctl *arg = (void *)t->buffer;
	struct ploop_balloon_ctl state = { .keep_intact = 2 };
	unsigned int n;
	size_t len;

	memset(arg, 0, sizeof(*arg));
	if (issue(t, fd, PLOOP_IOC_BALLOON, &state))
		return -1;
	n = list_index(t, tops[t->dev], arg->extents);
	qsort(arg->extents, n, sizeof(arg->extents[0]), by_iblk);
	arg->n_extents = n;
	arg->alloc_head = state.alloc_head;
	arg->level = state.level;
	arg->n_scanned = one_in(&t->r, 4) ? below(&t->r, 64) : state.alloc_head;
	/* without a list the driver plans by itself */
	if (one_in(&t->r, 2))
		arg->n_extents = arg->n_scanned = 0;
	len = sizeof(*arg) + arg->n_extents * sizeof(arg->extents[0]);
	spoil(t, arg, len);
	return issue(t, fd, PLOOP_IOC_RELOCBLKS, placed(t, arg, len));
}

static int fbget(struct thread *t, int fd)
{
	struct ploop_freeblks_ctl *arg = (void *)t->buffer;

	memset(arg, 0, sizeof(*arg));
	arg->n_extents = one_in(&t->r, 2) ? MOST_EXTENTS : below(&t->r, 8);
	spoil(t, arg, sizeof(*arg));
	return issue(t, fd, PLOOP_IOC_FBGET,
		     placed(t, arg, sizeof(*arg) + MOST_EXTENTS * sizeof(arg->extents[0])));
}

static int update_index(struct thread *t, int fd)
{
	struct ploop_index_update_ctl *arg = (void *)t->buffer;
	struct ploop_relocblks_extent list[MOST_EXTENTS];
	size_t len;

	memset(arg, 0, sizeof(*arg));
	arg->n_maps = list_index(t, bases[t->dev], list);
	arg->level = below(&t->r, 3);
	for (unsigned int i = 0; i < arg->n_maps; i++)
		arg->reloc_map[i] = (struct ploop_reloc_map){ list[i].clu, list[i].iblk };
	len = sizeof(*arg) + arg->n_maps * sizeof(arg->reloc_map[0]);
	spoil(t, arg, len);
	return issue(t, fd, PLOOP_IOC_UPDATE_INDEX, placed(t, arg, len));
}

static int truncate_delta(struct thread *t, int fd)
{
	struct ploop_truncate_ctl arg = { .level = below(&t->r, 2) };
	int file = some_file(t, bases[t->dev], O_RDWR), ret;
	struct stat st;

	arg.fd = file;
	if (fstat(file, &st) || one_in(&t->r, 4))
		arg.alloc_head = below(&t->r, 64);
	else
		arg.alloc_head = st.st_size >> (CL + 9);
	spoil(t, &arg, sizeof(arg));
	ret = issue(t, fd, PLOOP_IOC_TRUNCATE, placed(t, &arg, sizeof(arg)));
	if (file >= 0)
		close(file);
	return ret;
}

static int grow(struct thread *t, int fd)
{
	struct ploop_ctl arg = { .cluster_log = CL, .size = (1 + below(&t->r, 256)) << CL };

	if (one_in(&t->r, 8)) {
		arg.flags = PLOOP_CTLF_CLUBLKS;
		arg.size >>= CL;
	}
	spoil(t, &arg, sizeof(arg));
	/* seldom one that fills the host with its index: zeroing that takes long */
	if (arg.flags & PLOOP_CTLF_CLUBLKS && !one_in(&t->r, 64))
		arg.size %= MOST_SECTORS >> CL;
	else if (!(arg.flags & PLOOP_CTLF_CLUBLKS) && arg.size > MOST_SECTORS)
		arg.size = MOST_SECTORS + 1;
	return issue(t, fd, PLOOP_IOC_GROW, placed(t, &arg, sizeof(arg)));
}

static int balloon(struct thread *t, int fd)
{
	struct ploop_balloon_ctl arg = { .inflate = below(&t->r, 2) };

	arg.keep_intact = arg.inflate ? 0 : below(&t->r, 3);
	spoil(t, &arg, sizeof(arg));
	return issue(t, fd, PLOOP_IOC_BALLOON, placed(t, &arg, sizeof(arg)));
}

static int control(struct thread *t)
{
	struct ploop_control_device arg = {
		.version = PLOOP_CONTROL_VERSION,
	};

	/* few numbers, so that there are few devices; one that the caller does not hold open */
	arg.index = devices[below(&t->r, DEVICES)];
	if (one_in(&t->r, 4))
		arg.index = below(&t->r, 8);
	if (one_in(&t->r, 8))
		arg.index = PLOOP_CONTROL_ANY;
	spoil(t, &arg, sizeof(arg));
	if (arg.index > 8)
		arg.index |= 1 << 30;
	return issue(t, t->control, one_in(&t->r, 2) ? PLOOP_CTL_GET : PLOOP_CTL_REMOVE,
		     placed(t, &arg, sizeof(arg)));
}

/* a command that there is not, or one with the wrong direction or size */
static int unknown(struct thread *t, int fd)
{
	uint32_t nr = _IOC(below(&t->r, 4), 'P', below(&t->r, 256), below(&t->r, 128));

	for (unsigned int i = 0; i < CALLS; i++)
		if (calls[i].nr == nr)
			return 0;
	return issue(t, one_in(&t->r, 8) ? t->control : fd, nr, t->buffer);
}

static int number_arg(struct thread *t, int fd, unsigned long nr)
{
	uint64_t value = below(&t->r, 4);

	if (nr == PLOOP_IOC_TRACK_SETPOS)
		value = (uint64_t)below(&t->r, 64) << 15;
	if (nr == PLOOP_IOC_MAX_DELTA_SIZE)
		value = one_in(&t->r, 4) ? below(&t->r, 4096) : ~0ULL;
	if (nr == PLOOP_IOC_FBFILTER)
		return issue(t, fd, nr, (void *)(one_in(&t->r, 4) ? next(&t->r) : value));
	spoil(t, &value, sizeof(value));
	return issue(t, fd, nr, placed(t, &value, sizeof(value)));
}

static int simple(struct thread *t, int fd)
{
	static const unsigned long nrs[] = {
		PLOOP_IOC_START, PLOOP_IOC_START, PLOOP_IOC_STOP, PLOOP_IOC_CLEAR, PLOOP_IOC_SYNC,
		PLOOP_IOC_MERGE, PLOOP_IOC_MERGE, PLOOP_IOC_FBDROP, PLOOP_IOC_DISCARD_INIT,
		PLOOP_IOC_DISCARD_FINI, PLOOP_IOC_TRACK_STOP, PLOOP_IOC_TRACK_ABORT,
		PLOOP_IOC_FREEZE, PLOOP_IOC_THAW, PLOOP_IOC_TRACK_INIT, PLOOP_IOC_TRACK_READ,
		PLOOP_IOC_GETDEVICE, PLOOP_IOC_DISCARD_WAIT,
	};
	unsigned long nr = nrs[below(&t->r, sizeof(nrs) / sizeof(nrs[0]))];

	/* it waits for somebody else */
	if (nr == PLOOP_IOC_DISCARD_WAIT && !one_in(&t->r, 4))
		return 0;
	return issue(t, fd, nr, placed(t, t->buffer, 16));
}

#endif /* PLOOP_TESTS_FUZZCALLS_H */
