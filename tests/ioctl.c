// SPDX-License-Identifier: GPL-2.0-only
/*
 * Issues one control ioctl and prints its outcome: OK or a value on success,
 * the name of the errno on failure (exit status 1). Arguments are passed to
 * the driver as given, however wrong; exit status 2 means that the program
 * itself was called wrongly or could not prepare the call.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/ploop.h>

static const char usage[] =
	"Usage: ioctl DEV add|snapshot FILE [ro|rw] [NAME=VALUE...]   format cl flags type offset start len\n"
	"                      cflags chunks fd cookie times; open=ro|rw|wo; edge=BYTES that are readable\n"
	"       ioctl DEV replace LEVEL FILE [ro|rw] [NAME=VALUE...]\n"
	"       ioctl DEV start|stop|clear|sync|getdevice\n"
	"       ioctl DEV merge                   SIGUSR1 ends the wait, also that of grow\n"
	"       ioctl DEV grow SECTORS [NAME=VALUE...]   format cl flags chunks edge\n"
	"       ioctl DEV grow null\n"
	"       ioctl DEV del LEVEL\n"
	"       ioctl DEV truncate FILE CLUSTERS LEVEL [fd=N]\n"
	"       ioctl DEV update-index LEVEL [CLUSTER:BLOCK...]\n"
	"       ioctl DEV maxsize SECTORS\n"
	"       ioctl DEV balloon INFLATE KEEP [MBZ]   prints STATE ALLOC_HEAD LEVEL\n"
	"       ioctl DEV freeblks LEVEL [CLU:IBLK:LEN...] [NAME=VALUE...]   prints ALLOC_HEAD\n"
	"                      n=EXTENTS it claims to have\n"
	"       ioctl DEV fbget [ROOM]            prints EXTENTS ALLOC_HEAD LEVEL [CLU:IBLK:LEN...]; ROOM 0: only count\n"
	"       ioctl DEV fbdrop|discard-init|discard-fini\n"
	"       ioctl DEV fbfilter CLUSTERS       prints the clusters left\n"
	"       ioctl DEV relocblks LEVEL ALLOC_HEAD SCANNED [CLU:IBLK:LEN:FREE...] [NAME=VALUE...]\n"
	"                      prints the clusters cut; n mbz1 mbz2; SIGUSR1 ends the wait\n"
	"       ioctl DEV discard-wait            prints 1 or 0; SIGUSR1 ends the wait\n"
	"       ioctl DEV raw NUMBER [ARGUMENT]   without ARGUMENT: a zeroed buffer\n"
	"       ioctl DEV hold [excl]             keep it open until stdin ends\n"
	"       ioctl control get|remove INDEX|any [version=N] [flags=N] [reserved=N] [hold]\n"
	"       ioctl control raw NUMBER [ARGUMENT]\n"
	"       ioctl FILE lock ro|rw             keep an OFD lock until stdin ends\n"
	"       ioctl FILE getlk                  who locks it: UNLCK, RDLCK or WRLCK\n";

#include "util.h"

#define CONTROL_NODE	"/dev/ploop-control"
#define BUFFER_BYTES	4096

/*
 * The call itself. With FAIL_NTH=N in the environment the N-th thing that can
 * fail in it does, on a kernel with fault injection; what is left of N goes to
 * the file FAIL_NTH_LEFT: not 0, there was no such thing.
 */
static int issue(int fd, unsigned long nr, void *arg)
{
	const char *nth = getenv("FAIL_NTH"), *left = getenv("FAIL_NTH_LEFT");
	int control, report, ret, err;
	char text[16];
	ssize_t n;

	if (!nth)
		return ioctl(fd, nr, arg);
	if (!left)
		bad_usage();
	control = xopen("/proc/thread-self/fail-nth", O_RDWR);
	report = xopen(left, O_WRONLY | O_CREAT | O_TRUNC);
	if (write(control, nth, strlen(nth)) < 0)
		die("fail-nth");
	ret = ioctl(fd, nr, arg);
	err = errno;
	n = pread(control, text, sizeof(text), 0);
	if (n < 0 || pwrite(control, "0", 1, 0) < 0 || write(report, text, n) != n)
		die("fail-nth");
	errno = err;
	return ret;
}

static int outcome_value(int ret, unsigned long long value)
{
	if (ret < 0)
		return outcome(ret);
	printf("%llu\n", value);
	return 0;
}

/* a copy of data of which only the first bytes can be read */
static void *at_edge(const void *data, size_t readable)
{
	const size_t room = (readable + BUFFER_BYTES - 1) / BUFFER_BYTES * BUFFER_BYTES;
	char *page = mmap(NULL, room + BUFFER_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start = page + room - readable;

	if (page == MAP_FAILED || mprotect(page + room, BUFFER_BYTES, PROT_NONE))
		die("mmap");
	memcpy(start, data, readable);
	return start;
}

struct add_args {
	unsigned long long format, cl, flags, type, offset, start, len, cflags, chunks, fd, edge,
			   times;
	bool has_fd;
	const char *cookie;
	int mode;
};

static bool set_numbers(struct add_args *a, const char *arg)
{
	const struct {
		const char *name;
		unsigned long long *to;
	} numbers[] = {
		{ "format", &a->format }, { "cl", &a->cl }, { "flags", &a->flags },
		{ "type", &a->type }, { "offset", &a->offset }, { "start", &a->start },
		{ "len", &a->len }, { "cflags", &a->cflags }, { "chunks", &a->chunks },
		{ "fd", &a->fd }, { "edge", &a->edge }, { "times", &a->times },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (set_number(arg, numbers[i].name, numbers[i].to))
			return true;
	return false;
}

static void parse_add(struct add_args *a, const char *arg)
{
	const char *mode = value_of(arg, "open"), *cookie = value_of(arg, "cookie");

	if (!strcmp(arg, "ro")) {
		a->flags |= PLOOP_CTLF_RDONLY;
		a->mode = O_RDONLY;
	} else if (!strcmp(arg, "rw")) {
		a->mode = O_RDWR;
	} else if (mode) {
		a->mode = !strcmp(mode, "ro") ? O_RDONLY : !strcmp(mode, "wo") ? O_WRONLY : O_RDWR;
	} else if (cookie) {
		a->cookie = cookie;
		a->flags |= PLOOP_CTLF_COOKIE;
	} else if (!set_numbers(a, arg)) {
		bad_usage();
	}
	a->has_fd |= !!value_of(arg, "fd");
}

/* ADD_DELTA, SNAPSHOT and REPLACE_DELTA */
static int with_delta(int dev, unsigned long nr, unsigned int level, int argc, char *argv[])
{
	struct add_args a = {
		.format = PLOOP_FMT_PLOOP1, .cl = PLOOP_CLUSTER_LOG_DEFAULT, .chunks = 1,
		.times = 1, .edge = sizeof(struct ploop_ctl_delta), .mode = O_RDWR,
	};
	struct ploop_ctl_delta arg = { };
	void *at;
	int ret = 0;

	if (argc < 1)
		bad_usage();
	for (int i = 1; i < argc; i++)
		parse_add(&a, argv[i]);
	arg.ctl = (struct ploop_ctl){
		.format = a.format, .flags = a.flags, .cluster_log = a.cl, .chunks = a.chunks,
		.level = level,
	};
	arg.chunk = (struct ploop_ctl_chunk){
		.fd = a.has_fd ? (int)a.fd : xopen(argv[0], a.mode), .type = a.type,
		.flags = a.cflags, .offset = a.offset, .start = a.start, .len = a.len,
	};
	/* not terminated when it fills the field: the driver must cut it */
	if (a.cookie)
		memcpy(arg.cookie, a.cookie, strnlen(a.cookie, sizeof(arg.cookie)));
	at = at_edge(&arg, a.edge);
	while (!ret && a.times--)
		ret = issue(dev, nr, at);
	return outcome(ret);
}

static int replace(int dev, int argc, char *argv[])
{
	if (argc < 2)
		bad_usage();
	return with_delta(dev, PLOOP_IOC_REPLACE_DELTA, number(argv[0]), argc - 1, argv + 1);
}

static int grow(int dev, int argc, char *argv[])
{
	struct add_args a = {
		.cl = PLOOP_CLUSTER_LOG_DEFAULT, .edge = sizeof(struct ploop_ctl),
	};
	struct ploop_ctl arg;

	if (argc < 1)
		bad_usage();
	if (!strcmp(argv[0], "null"))
		return outcome(issue(dev, PLOOP_IOC_GROW, NULL));
	for (int i = 1; i < argc; i++)
		if (!set_numbers(&a, argv[i]))
			bad_usage();
	arg = (struct ploop_ctl){
		.format = a.format, .flags = a.flags, .cluster_log = a.cl, .chunks = a.chunks,
		.size = number(argv[0]),
	};
	return outcome(issue(dev, PLOOP_IOC_GROW, at_edge(&arg, a.edge)));
}

static int del(int dev, int argc, char *argv[])
{
	__u32 level;

	if (argc < 1)
		bad_usage();
	level = number(argv[0]);
	return outcome(issue(dev, PLOOP_IOC_DEL_DELTA, &level));
}

static int truncate_delta(int dev, int argc, char *argv[])
{
	struct ploop_truncate_ctl arg = { };
	unsigned long long fd;

	if (argc < 3)
		bad_usage();
	arg.fd = argc > 3 && set_number(argv[3], "fd", &fd) ? (int)fd : xopen(argv[0], O_RDWR);
	arg.alloc_head = number(argv[1]);
	arg.level = number(argv[2]);
	return outcome(issue(dev, PLOOP_IOC_TRUNCATE, &arg));
}

static int update_index(int dev, int argc, char *argv[])
{
	struct ploop_index_update_ctl *arg;

	if (argc < 1)
		bad_usage();
	arg = calloc(1, sizeof(*arg) + argc * sizeof(arg->reloc_map[0]));
	if (!arg)
		die("memory");
	arg->level = number(argv[0]);
	for (int i = 1; i < argc; i++) {
		struct ploop_reloc_map *map = &arg->reloc_map[arg->n_maps++];

		if (sscanf(argv[i], "%u:%u", &map->req_cluster, &map->iblk) != 2)
			bad_usage();
	}
	/* the list ends where memory ends: one element too many is EFAULT */
	return outcome(issue(dev, PLOOP_IOC_UPDATE_INDEX,
			     at_edge(arg, sizeof(*arg) + arg->n_maps * sizeof(arg->reloc_map[0]))));
}

static int raw(int fd, int argc, char *argv[])
{
	static char buffer[BUFFER_BYTES];

	if (argc < 1)
		bad_usage();
	return outcome(issue(fd, number(argv[0]), argc > 1 ? (void *)number(argv[1]) : buffer));
}

static int get_device(int fd)
{
	struct ploop_getdevice_ctl get = { };
	int ret = issue(fd, PLOOP_IOC_GETDEVICE, &get);

	return outcome_value(ret, get.minor);
}

static int max_size(int dev, int argc, char *argv[])
{
	__u64 sectors;

	if (argc < 1)
		bad_usage();
	sectors = number(argv[0]);
	return outcome(issue(dev, PLOOP_IOC_MAX_DELTA_SIZE, &sectors));
}

/* --- balloon */

static const char *state_name(__u32 state)
{
	static const struct {
		const char *name;
		__u32 state;
	} names[] = {
		{ "OFF", PLOOP_MNTN_OFF }, { "BALLOON", PLOOP_MNTN_BALLOON },
		{ "FBLOADED", PLOOP_MNTN_FBLOADED }, { "SNAPSHOT", PLOOP_MNTN_SNAPSHOT },
		{ "TRACK", PLOOP_MNTN_TRACK }, { "DISCARD", PLOOP_MNTN_DISCARD },
		{ "MERGE", PLOOP_MNTN_MERGE }, { "GROW", PLOOP_MNTN_GROW },
		{ "RELOC", PLOOP_MNTN_RELOC },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].state == state)
			return names[i].name;
	return "unknown";
}

/* in fields that only answers come to, and in those that nobody reads */
#define UNSET	0xeeeeeeeeu

static int balloon(int dev, int argc, char *argv[])
{
	struct ploop_balloon_ctl *arg, init = { .mntn_type = UNSET, .alloc_head = UNSET };

	if (argc < 2)
		bad_usage();
	init.inflate = number(argv[0]);
	init.keep_intact = number(argv[1]);
	init.mbz = argc > 2 ? number(argv[2]) : 0;
	init.pad = UNSET;
	arg = at_edge(&init, sizeof(init));
	if (issue(dev, PLOOP_IOC_BALLOON, arg))
		return outcome(-1);
	printf("%s %u %u\n", state_name(arg->mntn_type), arg->alloc_head, arg->level);
	return 0;
}

/* what a list of extents is called with, beside the list */
struct list_args {
	unsigned long long n, mbz1, mbz2;
};

#define AS_GIVEN	(~0ULL)

static bool parse_list_args(struct list_args *a, const char *arg)
{
	return set_number(arg, "n", &a->n) || set_number(arg, "mbz1", &a->mbz1) ||
	       set_number(arg, "mbz2", &a->mbz2);
}

static int freeblks(int dev, int argc, char *argv[])
{
	struct list_args a = { .n = AS_GIVEN };
	struct ploop_freeblks_ctl *arg;
	size_t bytes;
	int ret;

	if (argc < 1)
		bad_usage();
	arg = calloc(1, sizeof(*arg) + argc * sizeof(arg->extents[0]));
	if (!arg)
		die("memory");
	for (int i = 1; i < argc; i++) {
		struct ploop_freeblks_extent *e = &arg->extents[arg->n_extents];

		if (parse_list_args(&a, argv[i]))
			continue;
		if (sscanf(argv[i], "%u:%u:%u", &e->clu, &e->iblk, &e->len) != 3)
			bad_usage();
		arg->n_extents++;
	}
	bytes = sizeof(*arg) + arg->n_extents * sizeof(arg->extents[0]);
	if (a.n != AS_GIVEN)
		arg->n_extents = a.n;
	arg->alloc_head = UNSET;
	arg->level = number(argv[0]);
	memset(arg->pad, UNSET, sizeof(arg->pad));
	arg = at_edge(arg, bytes);
	ret = issue(dev, PLOOP_IOC_FREEBLKS, arg);
	return outcome_value(ret, arg->alloc_head);
}

/* room 0: only the head of the answer */
static int get_freeblks(int dev, __u32 room, struct ploop_freeblks_ctl **answer)
{
	const size_t bytes = sizeof(**answer) + room * sizeof((*answer)->extents[0]);
	struct ploop_freeblks_ctl *arg = calloc(1, bytes);

	if (!arg)
		die("memory");
	arg->n_extents = room;
	arg->alloc_head = UNSET;
	memset(arg->pad, UNSET, sizeof(arg->pad));
	/* one element too many is EFAULT */
	*answer = at_edge(arg, bytes);
	free(arg);
	return issue(dev, PLOOP_IOC_FBGET, *answer);
}

static int fbget(int dev, int argc, char *argv[])
{
	struct ploop_freeblks_ctl *arg;
	unsigned long long room = 0;
	int ret;

	if (argc)
		room = number(argv[0]);
	ret = get_freeblks(dev, room, &arg);
	if (!ret && argc == 0) {
		room = arg->n_extents;
		ret = get_freeblks(dev, room, &arg);
	}
	if (ret)
		return outcome(ret);
	printf("%u %u %u", arg->n_extents, arg->alloc_head, arg->level);
	for (__u32 i = 0; i < arg->n_extents && i < room; i++)
		printf(" %u:%u:%u", arg->extents[i].clu, arg->extents[i].iblk, arg->extents[i].len);
	putchar('\n');
	return 0;
}

static int fbfilter(int dev, int argc, char *argv[])
{
	int ret;

	if (argc < 1)
		bad_usage();
	ret = issue(dev, PLOOP_IOC_FBFILTER, (void *)number(argv[0]));
	return outcome_value(ret, ret);
}

static int relocblks(int dev, int argc, char *argv[])
{
	struct list_args a = { .n = AS_GIVEN };
	struct ploop_relocblks_ctl *arg;
	size_t bytes;
	int ret;

	if (argc < 3)
		bad_usage();
	arg = calloc(1, sizeof(*arg) + argc * sizeof(arg->extents[0]));
	if (!arg)
		die("memory");
	for (int i = 3; i < argc; i++) {
		struct ploop_relocblks_extent *e = &arg->extents[arg->n_extents];

		if (parse_list_args(&a, argv[i]))
			continue;
		if (sscanf(argv[i], "%u:%u:%u:%u", &e->clu, &e->iblk, &e->len, &e->free) != 4)
			bad_usage();
		arg->n_extents++;
	}
	bytes = sizeof(*arg) + arg->n_extents * sizeof(arg->extents[0]);
	if (a.n != AS_GIVEN)
		arg->n_extents = a.n;
	arg->level = number(argv[0]);
	arg->alloc_head = number(argv[1]);
	arg->n_scanned = number(argv[2]);
	arg->mbz1 = a.mbz1;
	arg->mbz2 = a.mbz2;
	arg = at_edge(arg, bytes);
	ret = issue(dev, PLOOP_IOC_RELOCBLKS, arg);
	return outcome_value(ret, arg->alloc_head);
}

static void on_signal(int nr)
{
	(void)nr;
}

/* SIGUSR1 ends a call that waits: without SA_RESTART it is not issued again */
static void catch_signal(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
}

static int device_op(int dev, const char *op, int argc, char *argv[])
{
	static const struct {
		const char *name;
		unsigned long nr;
	} plain[] = {
		{ "start", PLOOP_IOC_START }, { "stop", PLOOP_IOC_STOP },
		{ "clear", PLOOP_IOC_CLEAR }, { "sync", PLOOP_IOC_SYNC },
		{ "merge", PLOOP_IOC_MERGE }, { "fbdrop", PLOOP_IOC_FBDROP },
		{ "discard-init", PLOOP_IOC_DISCARD_INIT },
		{ "discard-fini", PLOOP_IOC_DISCARD_FINI },
	};
	static const struct {
		const char *name;
		int (*fn)(int dev, int argc, char *argv[]);
	} others[] = {
		{ "replace", replace }, { "grow", grow }, { "del", del }, { "raw", raw },
		{ "truncate", truncate_delta }, { "update-index", update_index },
		{ "maxsize", max_size }, { "balloon", balloon }, { "freeblks", freeblks },
		{ "fbget", fbget }, { "fbfilter", fbfilter }, { "relocblks", relocblks },
	};
	int ret;

	if (!strcmp(op, "add"))
		return with_delta(dev, PLOOP_IOC_ADD_DELTA, 0, argc, argv);
	if (!strcmp(op, "snapshot"))
		return with_delta(dev, PLOOP_IOC_SNAPSHOT, 0, argc, argv);
	if (!strcmp(op, "getdevice"))
		return get_device(dev);
	if (!strcmp(op, "discard-wait")) {
		ret = issue(dev, PLOOP_IOC_DISCARD_WAIT, NULL);
		return outcome_value(ret, ret);
	}
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (!strcmp(op, plain[i].name))
			return outcome(issue(dev, plain[i].nr, NULL));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strcmp(op, others[i].name))
			return others[i].fn(dev, argc, argv);
	bad_usage();
}

static int control(int argc, char *argv[])
{
	struct ploop_control_device arg = { .version = PLOOP_CONTROL_VERSION };
	unsigned long long version = PLOOP_CONTROL_VERSION, flags = 0, reserved = 0;
	bool get, keep = false;
	int fd, rc;

	if (argc < 2)
		bad_usage();
	fd = xopen(CONTROL_NODE, O_RDWR);
	if (!strcmp(argv[0], "raw"))
		return raw(fd, argc - 1, argv + 1);
	get = !strcmp(argv[0], "get");
	if (!get && strcmp(argv[0], "remove"))
		bad_usage();
	arg.index = strcmp(argv[1], "any") ? atoi(argv[1]) : PLOOP_CONTROL_ANY;
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "hold"))
			keep = true;
		else if (!set_number(argv[i], "version", &version) &&
			 !set_number(argv[i], "flags", &flags) &&
			 !set_number(argv[i], "reserved", &reserved))
			bad_usage();
	}
	arg.version = version;
	arg.flags = flags;
	arg.reserved[sizeof(arg.reserved) / sizeof(arg.reserved[0]) - 1] = reserved;
	rc = issue(fd, get ? PLOOP_CTL_GET : PLOOP_CTL_REMOVE, &arg);
	rc = outcome_value(rc, arg.index);
	return !rc && keep ? hold() : rc;
}

static int lock_file(const char *path, bool exclusive)
{
	struct flock lock = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
	int fd = xopen(path, exclusive ? O_RDWR : O_RDONLY);

	if (fcntl(fd, F_OFD_SETLK, &lock))
		return outcome(-1);
	return hold();
}

static int show_lock(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = xopen(path, O_RDWR);

	if (fcntl(fd, F_OFD_GETLK, &lock))
		return outcome(-1);
	puts(lock.l_type == F_UNLCK ? "UNLCK" : lock.l_type == F_RDLCK ? "RDLCK" : "WRLCK");
	return 0;
}

int main(int argc, char *argv[])
{
	const char *path, *op;

	if (argc < 3)
		bad_usage();
	path = argv[1];
	op = argv[2];
	catch_signal();
	if (!strcmp(path, "control"))
		return control(argc - 2, argv + 2);
	if (!strcmp(op, "lock") && argc == 4)
		return lock_file(path, !strcmp(argv[3], "rw"));
	if (!strcmp(op, "getlk"))
		return show_lock(path);
	if (!strcmp(op, "hold")) {
		xopen(path, O_RDONLY | (argc > 3 ? O_EXCL : 0));
		return hold();
	}
	return device_op(xopen(path, O_RDONLY), op, argc - 3, argv + 3);
}
