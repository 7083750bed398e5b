// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory, and whatever else the kernel can be told to have fail, fails inside
 * each ioctl, at one place after the other (the fail-nth file of proc): the call
 * fails cleanly or succeeds, the data are right, and the same call made again
 * succeeds, unless the device is in ABORT: then it can be read. The first places
 * are all tried, of later ones fewer and fewer, until the time is over.
 */
static const char usage[] =
	"Usage: failnth DIR SECONDS [all=1] [only=NAME]   for each call; all: each place\n"
	"       exit 1: the driver was wrong\n";

#include "fuzz.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>

#include <linux/fs.h>

#define CL		6
#define CLUSTERS	40
#define SPREAD		3
#define MOST_PLACES	2000
/* the index does not fit where it is: clusters have to move */
#define GROWN_SECTORS	(10000 << CL)
#define PATIENCE	60
/* nobody else's number: GET makes it */
#define NEW_INDEX	200

/**
 * struct state - what a call finds
 * @m: level 0
 * @changed: clusters that do not show @m any more
 * @index: number of the device; @control: its reservation; @dev: it, open
 * @other: number of another device, or -1
 * @list: argument of FREEBLKS
 */
static struct state {
	struct image m;
	bool changed[MAX_CLUSTERS];
	int index, control, dev, other;
	struct ploop_freeblks_ctl *list;
	unsigned char *buffer;
} s;

static const char *dir, *name;
static unsigned long long place;

static _Noreturn void wrong_answer(const char *what)
{
	fprintf(stderr, "failnth: place %llu of %s: %s (%s)\n", place, name, what,
		strerrorname_np(errno));
	exit(1);
}

/* --- files */

static int image_file(const char *file, int flags)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return xopen(path, flags);
}

static void write_image(const char *file, const struct image *m)
{
	int fd = image_file(file, O_RDWR | O_CREAT | O_TRUNC);

	if (pwrite(fd, m->bytes, m->size, 0) != (ssize_t)m->size)
		die(file);
	close(fd);
}

static void make_files(void)
{
	struct rng r = { .state = 1 };
	struct image empty = { .empty = true };

	make_image(&s.m, &r, 2, CL, CLUSTERS, CLUSTERS);
	make_image(&empty, &r, 2, CL, CLUSTERS, CLUSTERS);
	write_image("a", &s.m);
	write_image("copy", &s.m);
	write_image("b", &empty);
	write_image("c", &empty);
	free(empty.bytes);
	memset(s.changed, 0, sizeof(s.changed));
}

/* --- the call in which something fails */

/* which place; 0: none */
static unsigned int armed;
/* what of that number was not reached */
static int left;

static int issue(int fd, unsigned long nr, void *arg)
{
	char text[16] = "";
	int control, ret, err;

	if (!armed)
		return ioctl(fd, nr, arg);
	snprintf(text, sizeof(text), "%u", armed);
	armed = 0;
	control = xopen("/proc/thread-self/fail-nth", O_RDWR);
	if (write(control, text, strlen(text)) < 0)
		die("fail-nth");
	ret = ioctl(fd, nr, arg);
	err = errno;
	memset(text, 0, sizeof(text));
	if (pread(control, text, sizeof(text) - 1, 0) < 0 || pwrite(control, "0", 1, 0) < 0)
		die("fail-nth");
	close(control);
	left = atoi(text);
	errno = err;
	return ret;
}

/* --- calls with a file */

static int with_file(unsigned long nr, const char *file, bool rdonly)
{
	int fd = image_file(file, rdonly ? O_RDONLY : O_RDWR), ret, err;
	struct ploop_ctl_delta arg = delta_arg(fd, PLOOP_FMT_PLOOP1, CL, rdonly);

	ret = issue(s.dev, nr, &arg);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

static int call_add(void) { return with_file(PLOOP_IOC_ADD_DELTA, "a", false); }
static int call_snapshot(void) { return with_file(PLOOP_IOC_SNAPSHOT, "b", false); }
static int call_replace(void) { return with_file(PLOOP_IOC_REPLACE_DELTA, "copy", true); }
static int call_start(void) { return issue(s.dev, PLOOP_IOC_START, NULL); }
static int call_sync(void) { return issue(s.dev, PLOOP_IOC_SYNC, NULL); }
static int call_merge(void) { return issue(s.dev, PLOOP_IOC_MERGE, NULL); }
static int call_collect(void) { return issue(s.dev, PLOOP_IOC_DISCARD_INIT, NULL); }
static int call_freeze(void) { return issue(s.dev, PLOOP_IOC_FREEZE, NULL); }
static int call_freeblks(void) { return issue(s.dev, PLOOP_IOC_FREEBLKS, s.list); }

static int call_stop(void)
{
	int ret = issue(s.dev, PLOOP_IOC_STOP, NULL);

	if (ret && errno == EBUSY)
		ret = patient(s.dev, PLOOP_IOC_STOP, PATIENCE);
	/* what could not be closed well is stopped all the same */
	return ret && errno == EINVAL ? 0 : ret;
}

static int call_del(void)
{
	uint32_t level = 1;

	return issue(s.dev, PLOOP_IOC_DEL_DELTA, &level);
}

static int call_grow(void)
{
	struct ploop_ctl arg = { .cluster_log = CL, .size = GROWN_SECTORS };

	return issue(s.dev, PLOOP_IOC_GROW, &arg);
}

static int call_balloon(void)
{
	struct ploop_balloon_ctl arg = { .inflate = 1 };

	return issue(s.dev, PLOOP_IOC_BALLOON, &arg);
}

static int call_relocblks(void)
{
	struct ploop_balloon_ctl state = { .keep_intact = 2 };
	struct ploop_relocblks_ctl arg = { };

	if (ioctl(s.dev, PLOOP_IOC_BALLOON, &state))
		return -1;
	/* "error -> OFF": there is nothing to call again */
	if (state.mntn_type == PLOOP_MNTN_OFF)
		return 0;
	arg.alloc_head = state.alloc_head;
	arg.level = state.level;
	return issue(s.dev, PLOOP_IOC_RELOCBLKS, &arg);
}

static int call_track(void)
{
	struct ploop_track_extent arg;

	return issue(s.dev, PLOOP_IOC_TRACK_INIT, &arg);
}

static int call_update_index(void)
{
	struct {
		struct ploop_index_update_ctl ctl;
		struct ploop_reloc_map map[CLUSTERS];
	} arg = { };

	for (uint32_t c = 0; c < CLUSTERS; c++)
		if (s.m.at[c])
			arg.map[arg.ctl.n_maps++] = (struct ploop_reloc_map){ c, s.m.at[c] };
	return issue(s.dev, PLOOP_IOC_UPDATE_INDEX, &arg);
}

static int call_get(void)
{
	struct ploop_control_device arg = {
		.version = PLOOP_CONTROL_VERSION, .index = NEW_INDEX,
	};
	int ret = issue(s.control, PLOOP_CTL_GET, &arg);

	s.other = ret ? -1 : (int)arg.index;
	return ret;
}

/* --- states, which are to succeed */

static void must(int ret, const char *what)
{
	if (ret)
		wrong_answer(what);
}

static void state_files(void)
{
}

static void state_added(void)
{
	must(call_add(), "ADD_DELTA");
}

static void state_running(void)
{
	state_added();
	must(call_start(), "START");
}

/* cluster 3 is in the upper level, 5 partly */
static void state_levels(void)
{
	int fd;

	state_running();
	must(call_snapshot(), "SNAPSHOT");
	fd = device_open(s.index, O_RDWR | O_DIRECT);
	if (fd < 0 || pwrite(fd, s.buffer, 512 << CL, 3 * 512 << CL) != 512 << CL ||
	    pwrite(fd, s.buffer, 4096, 5 * 512 << CL) != 4096)
		wrong_answer("write");
	close(fd);
	s.changed[3] = s.changed[5] = true;
}

static void state_three(void)
{
	must(with_file(PLOOP_IOC_ADD_DELTA, "a", true), "ADD_DELTA");
	must(with_file(PLOOP_IOC_ADD_DELTA, "b", true), "ADD_DELTA");
	must(with_file(PLOOP_IOC_ADD_DELTA, "c", false), "ADD_DELTA");
	must(call_start(), "START");
}

static void state_ballooned(void)
{
	state_running();
	must(call_balloon(), "BALLOON");
	s.list->n_extents = 0;
	for (uint32_t c = 0; c < CLUSTERS; c += 2)
		if (s.m.at[c]) {
			s.list->extents[s.list->n_extents++] = (struct ploop_freeblks_extent){
				.clu = c, .iblk = s.m.at[c], .len = 1,
			};
			s.changed[c] = true;
		}
}

static void state_freed(void)
{
	state_ballooned();
	must(call_freeblks(), "FREEBLKS");
}

static const struct call {
	const char *name;
	void (*state)(void);
	int (*fn)(void);
} calls[] = {
	{ "ADD_DELTA", state_files, call_add }, { "START", state_added, call_start },
	{ "STOP", state_running, call_stop }, { "SYNC", state_running, call_sync },
	{ "SNAPSHOT", state_running, call_snapshot }, { "MERGE", state_levels, call_merge },
	{ "GROW", state_running, call_grow }, { "REPLACE_DELTA", state_levels, call_replace },
	{ "DEL_DELTA", state_three, call_del }, { "UPDATE_INDEX", state_three, call_update_index },
	{ "BALLOON", state_running, call_balloon }, { "FREEBLKS", state_ballooned, call_freeblks },
	{ "RELOCBLKS", state_freed, call_relocblks }, { "TRACK_INIT", state_running, call_track },
	{ "DISCARD_INIT", state_running, call_collect }, { "FREEZE", state_running, call_freeze },
	{ "GET", state_files, call_get },
};

/* --- a place */

static bool is_set(const char *file)
{
	char path[64], text = '0';
	int fd;

	snprintf(path, sizeof(path), "/sys/block/ploop%d/pstate/%s", s.index, file);
	fd = xopen(path, O_RDONLY);
	if (read(fd, &text, 1) != 1)
		die(path);
	close(fd);
	return text == '1';
}

static void verify(void)
{
	const size_t len = 512 << CL;
	int fd = device_open(s.index, O_RDWR | O_DIRECT);

	if (fd < 0)
		wrong_answer("the device does not open");
	for (uint32_t c = 0; c < CLUSTERS; c++) {
		const unsigned char *want = s.m.bytes + s.m.at[c] * len;

		if (pread(fd, s.buffer, len, c * len) != (ssize_t)len)
			wrong_answer("read");
		if (!s.changed[c] && s.m.at[c] && memcmp(s.buffer, want, len))
			wrong_answer("wrong data");
		if (!s.changed[c] && !s.m.at[c] && (s.buffer[0] ||
						    memcmp(s.buffer, s.buffer + 1, len - 1)))
			wrong_answer("no zeros");
	}
	if (!is_set("aborted") && (pwrite(fd, s.buffer, 4096, 7 * len) != 4096 || fsync(fd)))
		wrong_answer("write");
	close(fd);
}

static void tear_down(void)
{
	if (is_set("running")) {
		ioctl(s.dev, PLOOP_IOC_THAW);
		verify();
		if (call_stop() && !is_set("aborted"))
			wrong_answer("STOP");
	}
	must(ioctl(s.dev, PLOOP_IOC_CLEAR), "CLEAR");
	if (s.other >= 0 && patient_remove(s.control, s.other, PATIENCE) < 0)
		wrong_answer("REMOVE");
	s.other = -1;
}

/* all places of a call, or those there is time for */
static void try_call(const struct call *c, double seconds, bool all)
{
	unsigned int n, tried = 0, failed = 0, aborted = 0;
	double end = now() + seconds;
	int ret;

	left = 0;
	name = c->name;
	for (n = 1; n < MOST_PLACES && now() < end && !left; n += 1 + (all ? 0 : n / SPREAD)) {
		place = n;
		make_files();
		c->state();
		armed = n;
		ret = c->fn();
		if (ret && left)
			wrong_answer("failed where nothing failed");
		tried += !left;
		failed += ret < 0;
		aborted += is_set("aborted");
		armed = 0;
		if (ret && !is_set("aborted") && c->fn())
			wrong_answer("not the second time either");
		tear_down();
	}
	printf("%s: %u places tried, %s %u, %u made it fail, %u ABORT\n", name, tried,
	       left ? "all below" : "the last one", (unsigned int)place, failed, aborted);
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	unsigned long long all = 0;
	const char *only = NULL;
	double seconds;

	if (argc < 3)
		bad_usage();
	dir = argv[1];
	seconds = number(argv[2]);
	for (int i = 3; i < argc; i++) {
		if (value_of(argv[i], "only"))
			only = value_of(argv[i], "only");
		else if (!set_number(argv[i], "all", &all))
			bad_usage();
	}
	s.buffer = aligned(512 << CL);
	s.list = calloc(1, sizeof(*s.list) + CLUSTERS * sizeof(s.list->extents[0]));
	s.other = -1;
	s.control = xopen(CONTROL_NODE, O_RDWR);
	s.index = device_control(s.control, PLOOP_CTL_GET, PLOOP_CONTROL_ANY);
	s.dev = s.index < 0 ? -1 : device_open(s.index, O_RDONLY);
	if (!s.list || s.dev < 0)
		die("device");
	for (unsigned int i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!only || !strcmp(only, calls[i].name))
			try_call(&calls[i], seconds, all);
	close(s.dev);
	if (patient_remove(s.control, s.index, PATIENCE) < 0)
		die("REMOVE");
	return 0;
}
