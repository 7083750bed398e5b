// SPDX-License-Identifier: GPL-2.0-only
/*
 * Control ioctls in any order from several threads, on a few devices with
 * small images, and I/O beside them; see fuzzsteps.h for what. Any answer is
 * right; but nothing may hang, all devices must let themselves be torn down,
 * and a device that nobody touched must be as it was. With one thread a seed
 * repeats the sequence exactly.
 */
static const char usage[] =
	"Usage: fuzzctl DIR SEED SECONDS THREADS [calls=N] [log=FILE]\n"
	"       DIR: an empty folder on the images' host; calls: of each thread, at most\n"
	"       log: each call, before it is made\n"
	"       prints how often each call was made and succeeded; exit 1: the driver was wrong\n";

#include "fuzzsteps.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* seconds without the end of a call: a signal, space, ABORT, defeat */
#define UNTIL_SIGNAL	0.3
#define UNTIL_SPACE	2
#define UNTIL_ABORT	6
#define UNTIL_HANG	240
#define TICK_US		100000
#define STILL_CLUSTERS	64

static struct thread threads[MAX_THREADS];
static unsigned int nr_threads;
static unsigned long long seed, most_calls = ~0ULL, releases, aborts;
static double end_time;
static _Atomic double teardown_since;
/* the device that nobody touches, and the files that stay as they are */
static int still = -1;

static _Noreturn void wrong_answer(const char *what, int dev)
{
	fprintf(stderr, "fuzzctl: seed %llu: %s (ploop%d: %s)\n", seed, what, dev,
		strerrorname_np(errno));
	exit(1);
}

/* --- what nobody touches */

static uint64_t hash_fd(int fd, uint64_t len)
{
	unsigned char *buffer = aligned(BUFFER_BYTES);
	uint64_t hash = 0;

	for (uint64_t pos = 0; pos < len; pos += BUFFER_BYTES) {
		ssize_t n = pread(fd, buffer, BUFFER_BYTES, pos);

		if (n <= 0)
			die("reading what must be as it was");
		for (ssize_t i = 0; i < n / 8; i++)
			hash = mix(hash ^ ((uint64_t *)buffer)[i]);
	}
	free(buffer);
	return hash;
}

static uint64_t hash_file(const char *name)
{
	char path[4096];
	struct stat st;
	uint64_t hash;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = xopen(path, O_RDONLY);
	if (fstat(fd, &st))
		die(path);
	hash = mix(st.st_size) ^ hash_fd(fd, st.st_size);
	close(fd);
	return hash;
}

static uint64_t hash_still(void)
{
	int fd = device_open(still, O_RDONLY | O_DIRECT);
	uint64_t size, hash;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
		wrong_answer("the untouched device does not open", still);
	hash = hash_fd(fd, size);
	close(fd);
	return hash;
}

static void write_image(const char *name, struct image *m)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = xopen(path, O_RDWR | O_CREAT | O_TRUNC);
	if (pwrite(fd, m->bytes, m->size, 0) != (ssize_t)m->size)
		die(path);
	close(fd);
}

static void make_still(int control_fd)
{
	struct rng r = { .state = mix(seed) };
	struct ploop_ctl_delta arg;
	struct image m = { };
	char path[4096];
	int fd, dev;

	make_image(&m, &r, 2, CL, STILL_CLUSTERS, STILL_CLUSTERS);
	write_image("still", &m);
	write_image("bystander", &m);
	free(m.bytes);
	still = device_control(control_fd, PLOOP_CTL_GET, PLOOP_CONTROL_ANY);
	dev = device_open(still, O_RDONLY);
	snprintf(path, sizeof(path), "%s/still", dir);
	fd = xopen(path, O_RDONLY);
	arg = delta_arg(fd, PLOOP_FMT_PLOOP1, CL, true);
	if (dev < 0 || ioctl(dev, PLOOP_IOC_ADD_DELTA, &arg) || ioctl(dev, PLOOP_IOC_START))
		die("the device that nobody touches");
	close(fd);
	close(dev);
}

/* --- the threads */

static void *run_thread(void *arg)
{
	static const int modes[] = { O_RDONLY, O_RDWR | O_DIRECT, O_RDWR | O_DIRECT, O_RDWR };
	struct thread *t = arg;
	uint64_t steps_done = 0;

	t->tid = gettid();
	while (now() < end_time && steps_done++ < most_calls) {
		int fd;

		t->dev = below(&t->r, DEVICES);
		begin_call(t, "open");
		fd = device_open(devices[t->dev], modes[below(&t->r, 4)]);
		if (fd < 0)
			fd = device_open(devices[t->dev], O_RDONLY);
		if (fd < 0) {
			/* somebody has removed it */
			device_control(t->control, PLOOP_CTL_GET, devices[t->dev]);
			continue;
		}
		one_step(t, fd);
		if (one_in(&t->r, 16)) {
			close(t->held);
			t->held = one_in(&t->r, 4) ? dup(fd) : -1;
		}
		begin_call(t, "close");
		close(fd);
	}
	close(t->held);
	close(t->control);
	t->ended = true;
	return NULL;
}

static void on_signal(int nr)
{
	(void)nr;
}

static void start_thread(unsigned int nr)
{
	struct thread *t = &threads[nr];
	const size_t room = 64 << 10;
	unsigned char *p = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + room, 4096, PROT_NONE))
		die("mmap");
	t->edge = p + room;
	t->buffer = aligned(BUFFER_BYTES);
	memset(t->buffer, 0, BUFFER_BYTES);
	t->nr = nr;
	t->held = -1;
	t->r.state = mix(seed) + mix(nr + 1);
	t->control = xopen(CONTROL_NODE, O_RDWR);
	begin_call(t, "images");
	for (unsigned int i = 0; !nr && i < IMAGES; i++)
		renew(t, i, false);
	if (pthread_create(&t->id, NULL, run_thread, t))
		die("thread");
}

/* --- the watch */

static bool abort_device(int index)
{
	char path[64];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "/sys/block/ploop%d/pstate/aborted", index);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, "1", 1) == 1;
	close(fd);
	return done;
}

/* what a client owes that made a list: a collected discard waits for it */
static void end_list(int fd)
{
	struct ploop_balloon_ctl state = { .keep_intact = 2 };
	struct ploop_relocblks_ctl again = { };

	ioctl(fd, PLOOP_IOC_DISCARD_FINI);
	ioctl(fd, PLOOP_IOC_FBDROP);
	if (ioctl(fd, PLOOP_IOC_BALLOON, &state) || state.mntn_type != PLOOP_MNTN_RELOC)
		return;
	again.alloc_head = state.alloc_head;
	again.level = state.level;
	ioctl(fd, PLOOP_IOC_RELOCBLKS, &again);
}

static void give_space(int index)
{
	__u64 sectors = ~0ULL;
	int fd = device_open(index, O_RDONLY);

	if (fd < 0)
		return;
	ioctl(fd, PLOOP_IOC_MAX_DELTA_SIZE, &sectors);
	ioctl(fd, PLOOP_IOC_THAW);
	end_list(fd);
	close(fd);
}

/* may itself have to wait, therefore not in the watch's own thread */
static void *release(void *arg)
{
	for (int i = 0; i < DEVICES; i++)
		if (arg)
			abort_device(devices[i]);
		else
			give_space(devices[i]);
	return NULL;
}

static void start_release(bool abort_too)
{
	pthread_t id;

	if (pthread_create(&id, NULL, release, abort_too ? (void *)1 : NULL))
		die("thread");
	pthread_detach(id);
}

/* where in the kernel a thread stands; once for each call */
static void show_stack(struct thread *t)
{
	char text[4096];
	ssize_t n;
	int fd;

	if (t->shown == t->calls || t->ended)
		return;
	t->shown = t->calls;
	snprintf(text, sizeof(text), "/proc/self/task/%d/stack", t->tid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = 0;
	if (fd >= 0)
		close(fd);
	fprintf(stderr, "thread %u stands in call %llu, %s of ploop%d:\n%s", t->nr,
		(unsigned long long)t->shown, t->what, devices[t->dev], text);
}

static void show_stacks(void)
{
	for (unsigned int i = 0; i < nr_threads; i++)
		show_stack(&threads[i]);
}

static void look_at(struct thread *t)
{
	double stands = now() - t->started / 1e3;
	static double last_release, last_abort;
	char text[120];

	if (t->ended || stands < UNTIL_SIGNAL)
		return;
	pthread_kill(t->id, SIGUSR1);
	if (stands > UNTIL_SPACE && now() - last_release > UNTIL_SPACE) {
		last_release = now();
		releases++;
		start_release(false);
	}
	if (stands > UNTIL_ABORT && now() - last_abort > UNTIL_ABORT) {
		last_abort = now();
		aborts++;
		show_stacks();
		start_release(true);
	}
	if (stands > UNTIL_HANG) {
		show_stacks();
		snprintf(text, sizeof(text), "fuzzctl: seed %llu: thread %u hangs in call %llu",
			 seed, t->nr, (unsigned long long)t->calls);
		report_hang(text);
	}
}

static void *watch(void *unused)
{
	struct statvfs st;

	(void)unused;
	for (;;) {
		usleep(TICK_US);
		for (unsigned int i = 0; i < nr_threads; i++)
			look_at(&threads[i]);
		if (!statvfs(dir, &st))
			host_low = st.f_bavail < st.f_blocks / 5;
		if (teardown_since && now() - teardown_since > UNTIL_HANG)
			report_hang("fuzzctl: the teardown hangs");
	}
	return NULL;
}

/* --- the end */

static void tear_down(int control_fd, int index)
{
	int fd = device_open(index, O_RDONLY);

	if (fd < 0)
		wrong_answer("the device does not open", index);
	/* what waits for space does not let STOP pass */
	if (index != still)
		give_space(index);
	if (patient(fd, PLOOP_IOC_STOP, UNTIL_HANG / 4) && errno != EINVAL)
		wrong_answer("STOP", index);
	if (ioctl(fd, PLOOP_IOC_CLEAR))
		wrong_answer("CLEAR", index);
	close(fd);
	if (patient_remove(control_fd, index, UNTIL_HANG / 4) < 0 && errno != ENODEV)
		wrong_answer("REMOVE", index);
}

static void tear_all_down(int control_fd)
{
	DIR *all = opendir("/sys/block");
	struct dirent *e;
	int index;

	if (!all)
		die("/sys/block");
	while ((e = readdir(all)))
		if (sscanf(e->d_name, "ploop%d", &index) == 1)
			tear_down(control_fd, index);
	closedir(all);
}

static void print_result(void)
{
	for (unsigned int i = 0; i < CALLS; i++)
		printf("%s made %llu succeeded %llu\n", calls[i].name,
		       (unsigned long long)made[i], (unsigned long long)succeeded[i]);
	printf("releases %llu aborts %llu\n", releases, aborts);
}

static void parse(int argc, char *argv[])
{
	if (argc < 5)
		bad_usage();
	dir = argv[1];
	seed = number(argv[2]);
	end_time = now() + number(argv[3]);
	nr_threads = number(argv[4]);
	if (!nr_threads || nr_threads > MAX_THREADS)
		bad_usage();
	for (int i = 5; i < argc; i++) {
		const char *file = value_of(argv[i], "log");

		if (file)
			log_fd = xopen(file, O_WRONLY | O_CREAT | O_TRUNC);
		else if (!set_number(argv[i], "calls", &most_calls))
			bad_usage();
	}
}

int main(int argc, char *argv[])
{
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t device_hash, file_hash, bystander_hash;
	int control_fd[DEVICES + 1];
	pthread_t watcher;

	parse(argc, argv);
	sigaction(SIGUSR1, &action, NULL);
	printf("seed %llu\n", seed);
	fflush(stdout);
	for (int i = 0; i <= DEVICES; i++)
		control_fd[i] = xopen(CONTROL_NODE, O_RDWR);
	make_still(control_fd[DEVICES]);
	device_hash = hash_still();
	file_hash = hash_file("still");
	bystander_hash = hash_file("bystander");
	for (int i = 0; i < DEVICES; i++)
		devices[i] = device_control(control_fd[i], PLOOP_CTL_GET, PLOOP_CONTROL_ANY);
	/* from now on others may reserve and remove them */
	for (int i = 0; i < DEVICES; i++)
		close(control_fd[i]);
	for (unsigned int i = 0; i < nr_threads; i++)
		start_thread(i);
	if (pthread_create(&watcher, NULL, watch, NULL))
		die("thread");
	for (unsigned int i = 0; i < nr_threads; i++)
		pthread_join(threads[i].id, NULL);
	teardown_since = now();
	print_result();
	fflush(stdout);
	if (hash_still() != device_hash)
		wrong_answer("the untouched device has changed", still);
	tear_all_down(control_fd[DEVICES]);
	if (hash_file("still") != file_hash || hash_file("bystander") != bystander_hash)
		wrong_answer("a file that nobody wrote to has changed", still);
	return 0;
}
