// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attaches small images, most of them damaged on purpose, reads and writes the
 * device, stops it. Any answer is right for a damaged image, but a refused or
 * read-only one must stay as it is. One in four is good: it must be attached
 * and show what the index says. Each case follows from SEED and its number.
 */
static const char usage[] =
	"Usage: fuzzopen DIR SEED SECONDS [only=CASE] [verbose=1]\n"
	"       exit 1: the driver was wrong; the last case is in DIR/image and DIR/base\n";

#include "fuzz.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>

#include <linux/fs.h>

#define HANG_SECONDS	120
#define MOST_READ	(512 << 10)
#define WRITES		3
#define CASE_NONE	(~0ULL)

/**
 * struct run - a case and what came of those before
 * @r: numbers of this case
 * @nr: its number; read by the watch
 * @dev: the device's number
 * @image: the image to attach
 * @base: below it, if @stacked
 * @good: nothing was damaged
 * @rdonly: attached read-only
 * @stacked: on a base
 * @length: of the file, with a hole behind @image.size
 * @attached: cases the driver attached; @good_cases: cases with good images
 * @refused: cases it refused, by errno
 */
static struct run {
	struct rng r;
	atomic_ullong nr;
	int dev;
	struct image image, base;
	bool good, rdonly, stacked, verbose;
	uint64_t length, attached, good_cases, refused[256];
	unsigned char *buffer;
} run;

static char image_path[4096], base_path[4096];

static _Noreturn void wrong_answer(const char *what)
{
	fprintf(stderr, "fuzzopen: case %llu: %s (%s)\n", (unsigned long long)run.nr, what,
		strerrorname_np(errno));
	exit(1);
}

/* --- damage */

static void damage_header(struct image *m)
{
	size_t at = 4 * below(&run.r, sizeof(struct ploop1_header) / 4);

	put32(m, at, wrong(&run.r, get32(m, at)));
}

static void damage_entry(struct image *m)
{
	uint32_t c = below(&run.r, m->clusters + 4), other = below(&run.r, m->clusters);
	uint32_t value = get32(m, entry_offset(other));

	put32(m, entry_offset(c), one_in(&run.r, 2) ? value : wrong(&run.r, value));
}

static void damage_bytes(struct image *m)
{
	uint32_t n = 1 + below(&run.r, 16);

	while (n--)
		m->bytes[below(&run.r, one_in(&run.r, 2) ? 64 : 4096)] = next(&run.r);
}

static void damage_length(struct image *m)
{
	uint64_t cluster = cluster_bytes(m);

	switch (below(&run.r, 5)) {
	case 0:
		run.length = below(&run.r, m->size + 1);
		break;
	case 1:
		run.length = below(&run.r, m->size / cluster + 1) * cluster;
		break;
	case 2:
		run.length += 1 + below(&run.r, 4096);
		break;
	case 3:
		run.length += cluster * (1 + below(&run.r, 100));
		break;
	default:
		/* a hole that no host would fill */
		run.length += cluster << below(&run.r, 22);
	}
	if (m->size > run.length)
		m->size = run.length;
}

/* a disk much larger than the file's data, right in itself */
static void damage_scale(struct image *m)
{
	uint32_t clusters = 1u << below(&run.r, 21), unit = 1u << m->cl;
	uint64_t index = 64 + 4ULL * clusters;

	put32(m, offsetof(struct ploop1_header, clusters), clusters);
	put32(m, offsetof(struct ploop1_header, size), clusters * unit);
	put32(m, offsetof(struct ploop1_header, size) + 4, (uint64_t)clusters * unit >> 32);
	index = (index + cluster_bytes(m) - 1) / cluster_bytes(m);
	put32(m, offsetof(struct ploop1_header, first_block_offset), index * unit);
	run.length = (index + below(&run.r, 8)) * cluster_bytes(m);
	memset(m->bytes + 64, 0, m->first * cluster_bytes(m) - 64);
	if (m->size > run.length)
		m->size = run.length;
}

static void damage_marks(struct image *m)
{
	static const uint32_t marks[] = { PLOOP1_IN_USE, PLOOP1_CLOSED_EXT, 1 };

	put32(m, offsetof(struct ploop1_header, in_use), marks[below(&run.r, 3)]);
	put32(m, offsetof(struct ploop1_header, flags), next(&run.r));
	put32(m, offsetof(struct ploop1_header, extension), next(&run.r));
}

static void damage_page(struct image *m)
{
	size_t page = below(&run.r, m->first * cluster_bytes(m) / 4096) * 4096;

	if (one_in(&run.r, 2))
		memset(m->bytes + page, 0, 4096);
	else
		fill(m->bytes + page, 4096, next(&run.r));
}

static void damage_version(struct image *m)
{
	memcpy(m->bytes, m->version == 1 ? PLOOP1_SIGNATURE_V2 : PLOOP1_SIGNATURE_V1, 16);
}

static void damage(struct image *m)
{
	static void (*const ways[])(struct image *m) = {
		damage_header, damage_header, damage_entry, damage_entry, damage_bytes,
		damage_length, damage_scale, damage_marks, damage_page, damage_version,
	};
	uint32_t n = 1 + below(&run.r, 3);

	while (n--)
		ways[below(&run.r, sizeof(ways) / sizeof(ways[0]))](m);
}

/* --- a case */

static void write_file(const char *path, const struct image *m, uint64_t length)
{
	int fd = xopen(path, O_RDWR | O_CREAT | O_TRUNC);

	if (pwrite(fd, m->bytes, m->size, 0) != (ssize_t)m->size || ftruncate(fd, length))
		die(path);
	close(fd);
}

static void prepare(uint64_t seed)
{
	struct image *m = &run.image;
	unsigned int cl, version;

	run.r.state = mix(seed) ^ mix(run.nr) << 1;
	run.good = one_in(&run.r, 4);
	run.rdonly = one_in(&run.r, 4);
	run.stacked = one_in(&run.r, 4);
	cl = PLOOP_CLUSTER_LOG_MIN + one_in(&run.r, 4);
	version = 1 + below(&run.r, 2);
	make_image(m, &run.r, version, cl, 1, one_in(&run.r, 8) ? MAX_CLUSTERS : MAX_CLUSTERS / 4);
	if (run.stacked) {
		make_image(&run.base, &run.r, version, cl, 1, m->clusters);
		write_file(base_path, &run.base, run.base.size);
	}
	run.length = m->size;
	if (!run.good)
		damage(m);
	write_file(image_path, m, run.length);
}

static int add(int dev, const char *path, bool rdonly)
{
	struct ploop_ctl_delta arg;
	int fd = xopen(path, rdonly ? O_RDONLY : O_RDWR), ret;

	arg = delta_arg(fd, PLOOP_FMT_PLOOP1, run.image.cl, rdonly);
	ret = ioctl(dev, PLOOP_IOC_ADD_DELTA, &arg);
	close(fd);
	return ret;
}

static void verify_file_unchanged(void)
{
	const struct image *m = &run.image;
	int fd = xopen(image_path, O_RDONLY);
	struct stat st;

	if (fstat(fd, &st) || (uint64_t)st.st_size != run.length)
		wrong_answer("the image has another length now");
	for (uint64_t pos = 0; pos < m->size; pos += MOST_READ) {
		ssize_t n = pread(fd, run.buffer, MOST_READ, pos);
		size_t want = m->size - pos < MOST_READ ? m->size - pos : MOST_READ;

		if (n < (ssize_t)want || memcmp(run.buffer, m->bytes + pos, want))
			wrong_answer("the image was written to");
	}
	close(fd);
}

static bool shows(const struct image *m, uint32_t c, const unsigned char *data)
{
	size_t len = cluster_bytes(m);

	return !memcmp(data, m->bytes + m->at[c] * len, len);
}

/* of a good image: what its index says, and below it the base */
static void verify_cluster(uint32_t c, const unsigned char *data)
{
	const struct image *m = &run.image;
	bool right;

	if (m->at[c])
		right = shows(m, c, data);
	else if (run.stacked && c < run.base.clusters && run.base.at[c])
		right = shows(&run.base, c, data);
	else
		right = !data[0] && !memcmp(data, data + 1, cluster_bytes(m) - 1);
	if (!right)
		wrong_answer("a good image is shown wrongly");
}

static void read_all(int fd, uint64_t size)
{
	size_t len = cluster_bytes(&run.image);
	uint32_t n = size / len, reads = n < MOST_READ / len ? n : MOST_READ / len;
	bool all = run.good || reads == n;

	if (run.good)
		reads = n;
	for (uint32_t i = 0; i < reads; i++) {
		uint32_t c = all ? i : below(&run.r, n);
		bool right = pread(fd, run.buffer, len, c * (uint64_t)len) == (ssize_t)len;

		if (run.good && !right)
			wrong_answer("reading a good image");
		if (run.good)
			verify_cluster(c, run.buffer);
	}
}

static void write_some(int fd, uint64_t size)
{
	unsigned char *back = run.buffer + 4096;
	uint64_t range[2];

	for (int i = 0; i < WRITES && size >= 4096; i++) {
		uint64_t pos = next(&run.r) % (size / 4096) * 4096;

		fill(run.buffer, 4096, next(&run.r));
		if (pwrite(fd, run.buffer, 4096, pos) != 4096 ||
		    pread(fd, back, 4096, pos) != 4096) {
			if (run.good && !run.rdonly)
				wrong_answer("writing a good image");
		} else if (memcmp(run.buffer, back, 4096)) {
			wrong_answer("what was written is not there");
		}
	}
	range[0] = size >= 4096 ? next(&run.r) % (size / 4096) * 4096 : 0;
	range[1] = 4096;
	ioctl(fd, BLKDISCARD, range);
	if (fsync(fd) && run.good)
		wrong_answer("flush");
}

static void use(int dev)
{
	uint64_t size;
	int fd;

	if (ioctl(dev, PLOOP_IOC_START)) {
		if (run.good)
			wrong_answer("START");
		return;
	}
	fd = device_open(run.dev, O_DIRECT | (run.rdonly ? O_RDONLY : O_RDWR));
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
		wrong_answer("opening the device");
	if (run.good && size != disk_bytes(&run.image))
		wrong_answer("the size of a good image");
	read_all(fd, size);
	if (!run.rdonly)
		write_some(fd, size);
	close(fd);
	if (patient(dev, PLOOP_IOC_STOP, HANG_SECONDS / 2))
		wrong_answer("STOP");
}

static void one_case(void)
{
	int dev = device_open(run.dev, O_RDONLY), ret = 0;

	if (dev < 0)
		die("device");
	if (run.stacked && add(dev, base_path, true))
		wrong_answer("the base was refused");
	ret = add(dev, image_path, run.rdonly);
	if (ret) {
		run.refused[(unsigned char)errno]++;
		if (run.good)
			wrong_answer("a good image was refused");
	} else {
		run.attached++;
		use(dev);
	}
	if (run.verbose)
		printf("%llu %s%s%s: %s\n", (unsigned long long)run.nr, run.good ? "good " : "",
		       run.rdonly ? "ro " : "", run.stacked ? "stacked" : "", ret ? "refused" : "OK");
	if (ioctl(dev, PLOOP_IOC_CLEAR))
		wrong_answer("CLEAR");
	close(dev);
	if (ret || run.rdonly)
		verify_file_unchanged();
	run.good_cases += run.good;
}

/* --- all */

static void *watch(void *unused)
{
	uint64_t last = CASE_NONE;
	double since = now();
	char text[80];

	(void)unused;
	for (;;) {
		sleep(1);
		if (run.nr != last) {
			last = run.nr;
			since = now();
		} else if (now() - since > HANG_SECONDS) {
			snprintf(text, sizeof(text), "fuzzopen: case %llu hangs",
				 (unsigned long long)last);
			report_hang(text);
		}
	}
	return NULL;
}

static void print_result(void)
{
	printf("cases %llu good %llu attached %llu", (unsigned long long)run.nr,
	       (unsigned long long)run.good_cases, (unsigned long long)run.attached);
	for (int i = 0; i < 256; i++)
		if (run.refused[i])
			printf(" %s %llu", strerrorname_np(i), (unsigned long long)run.refused[i]);
	putchar('\n');
}

int main(int argc, char *argv[])
{
	unsigned long long seed, only = CASE_NONE, verbose = 0;
	pthread_t thread;
	double end;
	int control;

	if (argc < 4)
		bad_usage();
	seed = number(argv[2]);
	end = now() + number(argv[3]);
	for (int i = 4; i < argc; i++)
		if (!set_number(argv[i], "only", &only) && !set_number(argv[i], "verbose", &verbose))
			bad_usage();
	run.verbose = verbose;
	run.buffer = aligned(MOST_READ);
	snprintf(image_path, sizeof(image_path), "%s/image", argv[1]);
	snprintf(base_path, sizeof(base_path), "%s/base", argv[1]);
	control = xopen(CONTROL_NODE, O_RDWR);
	run.dev = device_control(control, PLOOP_CTL_GET, PLOOP_CONTROL_ANY);
	if (run.dev < 0)
		die("no device");
	printf("seed %llu\n", seed);
	fflush(stdout);
	if (pthread_create(&thread, NULL, watch, NULL))
		die("thread");
	for (run.nr = only == CASE_NONE ? 0 : only; now() < end; run.nr++) {
		prepare(seed);
		one_case();
		if (only != CASE_NONE)
			break;
	}
	print_result();
	if (device_control(control, PLOOP_CTL_REMOVE, run.dev) < 0 && errno != EBUSY)
		die("removing the device");
	return 0;
}
