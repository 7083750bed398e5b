/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which calls fuzzctl makes after each other, and how often.
 */
#ifndef PLOOP_TESTS_FUZZSTEPS_H
#define PLOOP_TESTS_FUZZSTEPS_H

#include "fuzzcalls.h"

#define STOP_SECONDS	0.05
/* until a discard is likely to be collected */
#define COLLECT_US	10000

/* --- a device as it is used, so that there is something to disturb */

/* others have the device open for moments */
static void stop_device(struct thread *t, int fd)
{
	if (issue(t, fd, PLOOP_IOC_STOP, NULL) && errno == EBUSY)
		patient(fd, PLOOP_IOC_STOP, STOP_SECONDS);
}

static void set_up(struct thread *t, int fd)
{
	unsigned int n = below(&t->r, 3);

	stop_device(t, fd);
	issue(t, fd, PLOOP_IOC_CLEAR, NULL);
	while (n--)
		with_image(t, fd, PLOOP_IOC_ADD_DELTA, true);
	for (int tries = 0; tries < 4; tries++)
		if (!with_image(t, fd, PLOOP_IOC_ADD_DELTA, false))
			break;
	issue(t, fd, PLOOP_IOC_START, NULL);
}

static void inflate(struct thread *t, int fd)
{
	struct ploop_balloon_ctl arg = { .inflate = 1 };

	issue(t, fd, PLOOP_IOC_BALLOON, &arg);
	freeblks(t, fd);
	fbget(t, fd);
	relocblks(t, fd);
}

static void io(struct thread *t, int fd)
{
	static const unsigned long zeroing[] = { BLKDISCARD, BLKZEROOUT };
	uint64_t size = 0, range[2], len = 4096ULL << below(&t->r, 6);
	uint32_t what = below(&t->r, 8);

	begin_call(t, "I/O");
	if (ioctl(fd, BLKGETSIZE64, &size) || size < len)
		return;
	range[0] = next(&t->r) % ((size - len) / 4096 + 1) * 4096;
	range[1] = len;
	tell(t, "%d io %u at %llu", t->dev, what, (unsigned long long)range[0]);
	if (what < 2)
		ioctl(fd, zeroing[what], range);
	else if (what == 2)
		fsync(fd);
	else if (what < 5)
		len = pread(fd, t->buffer, len, range[0]);
	else
		len = pwrite(fd, t->buffer, len, range[0]);
}

/* --- a step */

static int step_io(struct thread *t, int fd)
{
	io(t, fd);
	return 0;
}

static int step_set_up(struct thread *t, int fd)
{
	set_up(t, fd);
	return 0;
}

static int step_inflate(struct thread *t, int fd)
{
	inflate(t, fd);
	return 0;
}

static int step_renew(struct thread *t, int fd)
{
	(void)fd;
	renew(t, below(&t->r, IMAGES), one_in(&t->r, 4));
	return 0;
}

static int step_control(struct thread *t, int fd)
{
	(void)fd;
	return control(t);
}

static int step_add(struct thread *t, int fd)
{
	return with_image(t, fd, PLOOP_IOC_ADD_DELTA, one_in(&t->r, 2));
}

static int step_snapshot(struct thread *t, int fd)
{
	return with_image(t, fd, PLOOP_IOC_SNAPSHOT, one_in(&t->r, 16));
}

static int step_replace(struct thread *t, int fd)
{
	return with_image(t, fd, PLOOP_IOC_REPLACE_DELTA, !one_in(&t->r, 4));
}

/* a running device lets a level in the middle go, a stopped one each */
static int step_delete(struct thread *t, int fd)
{
	uint32_t level = 1;

	if (one_in(&t->r, 2)) {
		stop_device(t, fd);
		level = below(&t->r, 2);
	}
	issue(t, fd, PLOOP_IOC_DEL_DELTA, &level);
	return issue(t, fd, PLOOP_IOC_START, NULL);
}

/* one that waits until what is collected is dealt with */
static void *discard_all(void *arg)
{
	uint64_t range[2] = { };
	int fd = device_open(devices[*(int *)arg], O_RDWR);

	if (fd >= 0 && !ioctl(fd, BLKGETSIZE64, &range[1]))
		ioctl(fd, BLKDISCARD, range);
	if (fd >= 0)
		close(fd);
	return NULL;
}

static int step_collect(struct thread *t, int fd)
{
	struct ploop_balloon_ctl load = { };
	pthread_t id;

	if (issue(t, fd, PLOOP_IOC_DISCARD_INIT, NULL))
		return -1;
	if (pthread_create(&id, NULL, discard_all, &t->dev))
		die("thread");
	usleep(COLLECT_US);
	issue(t, fd, PLOOP_IOC_FBFILTER, (void *)(uintptr_t)below(&t->r, 3));
	fbget(t, fd);
	if (one_in(&t->r, 2) && !issue(t, fd, PLOOP_IOC_BALLOON, &load))
		relocblks(t, fd);
	issue(t, fd, PLOOP_IOC_DISCARD_FINI, NULL);
	issue(t, fd, PLOOP_IOC_FBDROP, NULL);
	begin_call(t, "end of a collected discard");
	pthread_join(id, NULL);
	return 0;
}

static int step_number(struct thread *t, int fd)
{
	static const unsigned long nrs[] = {
		PLOOP_IOC_DEL_DELTA, PLOOP_IOC_DEL_DELTA, PLOOP_IOC_TRACK_SETPOS,
		PLOOP_IOC_MAX_DELTA_SIZE, PLOOP_IOC_FBFILTER,
	};

	return number_arg(t, fd, nrs[below(&t->r, sizeof(nrs) / sizeof(nrs[0]))]);
}

/* what to do, and how often of all */
static const struct step {
	int (*fn)(struct thread *t, int fd);
	unsigned int weight;
} steps[] = {
	{ step_io, 28 }, { step_set_up, 6 }, { simple, 14 }, { step_add, 5 },
	{ step_snapshot, 5 }, { step_replace, 3 }, { step_number, 6 }, { truncate_delta, 2 },
	{ step_delete, 3 }, { step_collect, 2 },
	{ update_index, 2 }, { grow, 3 }, { balloon, 3 }, { step_inflate, 2 }, { freeblks, 2 },
	{ relocblks, 2 }, { fbget, 1 }, { step_control, 2 }, { unknown, 2 }, { step_renew, 7 },
};

static void one_step(struct thread *t, int fd)
{
	unsigned int i = 0, what = below(&t->r, 100);

	if (host_low) {
		issue(t, fd, PLOOP_IOC_STOP, NULL);
		issue(t, fd, PLOOP_IOC_CLEAR, NULL);
		renew(t, below(&t->r, IMAGES), one_in(&t->r, 4));
		return;
	}
	while (what >= steps[i].weight)
		what -= steps[i++].weight;
	steps[i].fn(t, fd);
}

#endif /* PLOOP_TESTS_FUZZSTEPS_H */
