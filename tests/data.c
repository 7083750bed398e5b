// SPDX-License-Identifier: GPL-2.0-only
/*
 * Data whose every sector can be told from every other, and what the suites
 * need to look at image files: pattern, words, extents, a journal of fsynced
 * files.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/ploop1_image.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
	"Usage: data write|verify FILE OFFSET LENGTH SEED [BLOCK]  stamped sectors by direct I/O; seed 0: zeros\n"
	"       data write-every FILE STEP COUNT SEED              4 KiB at each multiple of STEP\n"
	"       data verify-every FILE STEP COUNT SEED\n"
	"       data poke FILE OFFSET 32|64 VALUE                  little-endian; for images\n"
	"       data peek FILE OFFSET 32|64\n"
	"       data image FILE VERSION CLUSTER-LOG SECTORS        a new empty image\n"
	"       data map FILE [clu|iblk FROM TO]                   CLU:IBLK:LEN of what the index has, by IBLK; from FROM below TO\n"
	"       data disk FILE                                     the clusters of the disk that are not zeros, numbered\n"
	"       data dense FILE FROM TO                            no hole, no unwritten extent\n"
	"       data scribble FILE OFFSET LENGTH SECONDS           direct writes of pages that change meanwhile\n"
	"       data record DIR JOURNAL SEED                       fsync files, note each, until killed\n"
	"       data replay DIR JOURNAL                            is each noted file there, and right?\n"
	"       data files DIR SEED COUNT                          that many files, up to 256 KiB, 128 on average\n"
	"       data check-files DIR SEED COUNT                    are those right that are there? prints how many\n"
	"Numbers may end in k, m, g or t.\n";

#include "util.h"

#define SECTOR		512
#define PAGE		4096
#define WORDS		(SECTOR / sizeof(uint64_t))
#define MAX_BLOCK	(1u << 20)
#define MAX_FILE	(256 * 1024)
#define NAME_BYTES	64

/* each word depends on the seed, the sector and its place in it */
static void stamp(void *buf, uint64_t offset, size_t len, uint64_t seed)
{
	uint64_t *word = buf, sector = offset / SECTOR;

	if (!seed) {
		memset(buf, 0, len);
		return;
	}
	for (; len; len -= SECTOR, sector++) {
		uint64_t x = mix(seed ^ mix(sector));

		for (size_t i = 0; i < WORDS; i++)
			*word++ = htole64(x + i * 0x9e3779b97f4a7c15);
	}
}

static void write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
	ssize_t done = pwrite(fd, buf, len, offset);

	if (done < 0)
		die("write");
	if ((size_t)done != len) {
		errno = EIO;
		die("short write");
	}
}

static void compare(int fd, const void *want, void *got, size_t len, uint64_t offset)
{
	ssize_t done = pread(fd, got, len, offset);
	const char *w = want, *g = got;

	if (done < 0)
		die("read");
	if ((size_t)done == len && !memcmp(want, got, len))
		return;
	for (size_t i = 0; i < len; i++)
		if (i >= (size_t)done || w[i] != g[i]) {
			printf("wrong byte at %llu: %02x instead of %02x\n",
			       (unsigned long long)(offset + i),
			       i < (size_t)done ? g[i] & 0xff : 0x100, w[i] & 0xff);
			exit(1);
		}
}

static int pattern(int fd, bool writing, uint64_t offset, uint64_t len, uint64_t seed,
		   size_t block)
{
	void *want, *got;

	if (!block || block > MAX_BLOCK || (offset | len | block) % SECTOR)
		bad_usage();
	want = aligned(block);
	got = aligned(block);
	while (len) {
		size_t n = len < block ? len : block;

		stamp(want, offset, n, seed);
		if (writing)
			write_at(fd, want, n, offset);
		else
			compare(fd, want, got, n, offset);
		offset += n;
		len -= n;
	}
	free(want);
	free(got);
	return 0;
}

static int every(int fd, bool writing, uint64_t step, uint64_t count, uint64_t seed)
{
	for (uint64_t i = 0; i < count; i++)
		pattern(fd, writing, i * step, PAGE, seed, PAGE);
	return 0;
}

static int poke(int fd, uint64_t offset, unsigned int bits, uint64_t value)
{
	uint64_t le64 = htole64(value);
	uint32_t le32 = htole32(value);

	write_at(fd, bits == 64 ? (void *)&le64 : &le32, bits / 8, offset);
	return fsync(fd);
}

static int peek(int fd, uint64_t offset, unsigned int bits)
{
	uint64_t value = 0;

	if (pread(fd, &value, bits / 8, offset) != bits / 8)
		die("read");
	printf("%llu\n", (unsigned long long)le64toh(value));
	return 0;
}

static int dense(int fd, uint64_t from, uint64_t to)
{
	struct fiemap *map = calloc(1, sizeof(*map) + sizeof(map->fm_extents[0]));

	if (!map)
		die("memory");
	while (from < to) {
		const struct fiemap_extent *extent = &map->fm_extents[0];

		map->fm_start = from;
		map->fm_length = to - from;
		map->fm_flags = FIEMAP_FLAG_SYNC;
		map->fm_extent_count = 1;
		if (ioctl(fd, FS_IOC_FIEMAP, map))
			die("FIEMAP");
		if (!map->fm_mapped_extents || extent->fe_logical > from) {
			printf("hole at %llu\n", (unsigned long long)from);
			return 1;
		}
		if (extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN) {
			printf("unwritten at %llu\n", (unsigned long long)from);
			return 1;
		}
		from = extent->fe_logical + extent->fe_length;
	}
	free(map);
	return 0;
}

/* a fresh image, as the format's page describes it; nothing of the CLI's code */
static int image(const char *path, unsigned int version, unsigned int cluster_log,
		 uint64_t sectors)
{
	const uint64_t cluster = (uint64_t)SECTOR << cluster_log, clusters = sectors >> cluster_log;
	const uint64_t index = (64 + 4 * clusters + cluster - 1) & ~(cluster - 1);
	int fd = xopen(path, O_RDWR | O_CREAT | O_EXCL);
	struct ploop1_header header = {
		.type = htole32(PLOOP1_TYPE),
		.heads = htole32(16),
		.cylinders = htole32(sectors / 1008),
		.cluster_sectors = htole32(1u << cluster_log),
		.clusters = htole32(clusters),
		.size = htole64(sectors),
		.first_block_offset = htole32(index / SECTOR),
		.flags = htole32(PLOOP1_FLAG_EMPTY),
	};

	memcpy(header.signature, version == 1 ? PLOOP1_SIGNATURE_V1 : PLOOP1_SIGNATURE_V2,
	       sizeof(header.signature));
	if (ftruncate(fd, index))
		die(path);
	write_at(fd, &header, sizeof(header), 0);
	return fsync(fd);
}

struct mapping {
	uint32_t clu, iblk;
};

static int by_iblk(const void *a, const void *b)
{
	const struct mapping *x = a, *y = b;

	return x->iblk < y->iblk ? -1 : x->iblk > y->iblk;
}

/* consecutive clusters of disk and file in one line */
static void print_map(const struct mapping *m, size_t n)
{
	for (size_t i = 0, len; i < n; i += len) {
		for (len = 1; i + len < n && m[i + len].clu == m[i].clu + len &&
		     m[i + len].iblk == m[i].iblk + len; len++)
			;
		printf("%u:%u:%zu\n", m[i].clu, m[i].iblk, len);
	}
}

/* what is mapped, by number of the disk's cluster */
static size_t read_map(int fd, struct ploop1_header *header, struct mapping **m)
{
	uint32_t clusters, unit, *entry;
	size_t n = 0;

	if (pread(fd, header, sizeof(*header), 0) != sizeof(*header))
		die("header");
	clusters = le32toh(header->clusters);
	unit = memcmp(header->signature, PLOOP1_SIGNATURE_V1, sizeof(header->signature)) ?
		1 : le32toh(header->cluster_sectors);
	entry = calloc(clusters, sizeof(*entry));
	*m = calloc(clusters, sizeof(**m));
	if (!entry || !*m ||
	    pread(fd, entry, clusters * sizeof(*entry), sizeof(*header)) !=
	    (ssize_t)(clusters * sizeof(*entry)))
		die("index");
	for (uint32_t clu = 0; clu < clusters; clu++) {
		uint32_t iblk = le32toh(entry[clu]) / unit;

		if (iblk)
			(*m)[n++] = (struct mapping) { .clu = clu, .iblk = iblk };
	}
	free(entry);
	return n;
}

static int map(int fd, bool by_clu, uint64_t from, uint64_t to)
{
	struct ploop1_header header;
	struct mapping *m;
	size_t all = read_map(fd, &header, &m), n = 0;

	for (size_t i = 0; i < all; i++) {
		uint32_t key = by_clu ? m[i].clu : m[i].iblk;

		if (key >= from && key < to)
			m[n++] = m[i];
	}
	qsort(m, n, sizeof(*m), by_iblk);
	print_map(m, n);
	return 0;
}

/* small however large the disk is; what lies behind the end of the file reads as zeros */
static int disk(int fd)
{
	struct ploop1_header header;
	struct mapping *m;
	size_t n = read_map(fd, &header, &m);
	size_t cluster = (size_t)le32toh(header.cluster_sectors) * SECTOR;
	unsigned char *buf = malloc(cluster);

	if (!buf)
		die("memory");
	printf("%u clusters\n", le32toh(header.clusters));
	for (size_t i = 0; i < n; i++) {
		memset(buf, 0, cluster);
		if (pread(fd, buf, cluster, m[i].iblk * (off_t)cluster) < 0)
			die("cluster");
		if (!buf[0] && !memcmp(buf, buf + 1, cluster - 1))
			continue;
		printf("%u\n", m[i].clu);
		fwrite(buf, cluster, 1, stdout);
	}
	return fflush(stdout);
}

static _Noreturn void *flip(void *arg)
{
	uint64_t *word = arg;

	for (uint64_t i = 1;; i++)
		for (size_t w = 0; w < PAGE * 16 / sizeof(*word); w += 61)
			__atomic_store_n(&word[w], mix(i + w), __ATOMIC_RELAXED);
}

static int scribble(int fd, uint64_t offset, uint64_t len, uint64_t seconds)
{
	const size_t block = PAGE * 16;
	void *buf = aligned(block);
	time_t end = time(NULL) + seconds;
	unsigned long writes = 0;
	pthread_t thread;

	if (len < block)
		bad_usage();
	errno = pthread_create(&thread, NULL, flip, buf);
	if (errno)
		die("thread");
	while (time(NULL) < end || writes < len / block) {
		write_at(fd, buf, block, offset + writes % (len / block) * block);
		writes++;
	}
	if (fsync(fd))
		die("fsync");
	printf("%lu writes\n", writes);
	return 0;
}

static size_t file_len(uint64_t seed)
{
	return (mix(seed) % (MAX_FILE / SECTOR) + 1) * SECTOR;
}

static void file_name(char name[NAME_BYTES], uint64_t seed)
{
	snprintf(name, NAME_BYTES, "d%u/%016llx", (unsigned int)(seed % 4),
		 (unsigned long long)mix(~seed));
}

static void sync_dir(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd))
		die(name);
	close(fd);
}

static void make_dir(int dir, const char *name)
{
	if (mkdirat(dir, name, 0700) && errno != EEXIST)
		die(name);
}

static int files(int dir, uint64_t seed, uint64_t count)
{
	void *buf = aligned(MAX_FILE);
	char name[NAME_BYTES], sub[] = "d0";

	for (uint64_t i = 0; i < count; i++) {
		size_t len = file_len(seed + i);
		int fd;

		sub[1] = '0' + (seed + i) % 4;
		make_dir(dir, sub);
		file_name(name, seed + i);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0)
			die(name);
		stamp(buf, 0, len, seed + i);
		write_at(fd, buf, len, 0);
		close(fd);
	}
	free(buf);
	return 0;
}

static int check_files(int dir, uint64_t seed, uint64_t count)
{
	void *want = aligned(MAX_FILE), *got = aligned(MAX_FILE);
	uint64_t found = 0, bad = 0;
	char name[NAME_BYTES];

	for (uint64_t i = 0; i < count; i++) {
		size_t len = file_len(seed + i);
		int fd;

		file_name(name, seed + i);
		fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		found++;
		stamp(want, 0, len, seed + i);
		if (pread(fd, got, MAX_FILE, 0) != (ssize_t)len || memcmp(want, got, len)) {
			fprintf(stderr, "%s: wrong\n", name);
			bad++;
		}
		close(fd);
	}
	printf("%llu\n", (unsigned long long)found);
	free(want);
	free(got);
	return bad != 0;
}

/* a name is noted only when the file and its directory entry are durable */
static _Noreturn void record(int dir, const char *journal, uint64_t seed)
{
	int log = xopen(journal, O_WRONLY | O_CREAT | O_APPEND);
	void *buf = aligned(MAX_FILE);
	char name[NAME_BYTES], sub[] = "d0";

	for (;; seed++) {
		size_t len = file_len(seed);
		int fd;

		sub[1] = '0' + seed % 4;
		make_dir(dir, sub);
		file_name(name, seed);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0)
			die(name);
		stamp(buf, 0, len, seed);
		write_at(fd, buf, len, 0);
		if (fsync(fd))
			die("fsync");
		close(fd);
		sync_dir(dir, sub);
		sync_dir(dir, ".");
		if (dprintf(log, "%llu\n", (unsigned long long)seed) < 0)
			die(journal);
	}
}

static int replay(int dir, const char *journal)
{
	void *want = aligned(MAX_FILE), *got = aligned(MAX_FILE);
	FILE *log = fopen(journal, "re");
	unsigned long long seed, files = 0, bad = 0;
	char name[NAME_BYTES];

	if (!log)
		die(journal);
	while (fscanf(log, "%llu\n", &seed) == 1) {
		size_t len = file_len(seed);
		int fd;

		file_name(name, seed);
		fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
		stamp(want, 0, len, seed);
		if (fd < 0 || pread(fd, got, MAX_FILE, 0) != (ssize_t)len ||
		    memcmp(want, got, len)) {
			printf("%s (seed %llu): %s\n", name, seed, fd < 0 ? "missing" : "wrong");
			bad++;
		}
		if (fd >= 0)
			close(fd);
		files++;
	}
	printf("%llu files, %llu bad\n", files, bad);
	return bad != 0;
}

int main(int argc, char *argv[])
{
	const char *op = argc > 1 ? argv[1] : "";
	bool writing = !strncmp(op, "write", strlen("write"));
	int direct = (writing ? O_RDWR : O_RDONLY) | O_DIRECT;

	if ((!strcmp(op, "write") || !strcmp(op, "verify")) &&
	    (argc == 6 || argc == 7))
		return pattern(xopen(argv[2], direct), writing, number(argv[3]), number(argv[4]),
			       number(argv[5]), argc == 7 ? number(argv[6]) : MAX_BLOCK);
	if ((!strcmp(op, "write-every") || !strcmp(op, "verify-every")) && argc == 6)
		return every(xopen(argv[2], direct), writing, number(argv[3]), number(argv[4]),
			     number(argv[5]));
	if (!strcmp(op, "poke") && argc == 6)
		return poke(xopen(argv[2], O_RDWR), number(argv[3]), number(argv[4]),
			    number(argv[5]));
	if (!strcmp(op, "peek") && argc == 5)
		return peek(xopen(argv[2], O_RDONLY), number(argv[3]), number(argv[4]));
	if (!strcmp(op, "image") && argc == 6)
		return image(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
	if (!strcmp(op, "map") && argc == 3)
		return map(xopen(argv[2], O_RDONLY), true, 0, UINT64_MAX);
	if (!strcmp(op, "map") && argc == 6)
		return map(xopen(argv[2], O_RDONLY), !strcmp(argv[3], "clu"), number(argv[4]),
			   number(argv[5]));
	if (!strcmp(op, "disk") && argc == 3)
		return disk(xopen(argv[2], O_RDONLY));
	if (!strcmp(op, "dense") && argc == 5)
		return dense(xopen(argv[2], O_RDONLY), number(argv[3]), number(argv[4]));
	if (!strcmp(op, "scribble") && argc == 6)
		return scribble(xopen(argv[2], O_RDWR | O_DIRECT), number(argv[3]), number(argv[4]),
				number(argv[5]));
	if (!strcmp(op, "record") && argc == 5)
		record(xopen(argv[2], O_RDONLY | O_DIRECTORY), argv[3], number(argv[4]));
	if (!strcmp(op, "files") && argc == 5)
		return files(xopen(argv[2], O_RDONLY | O_DIRECTORY), number(argv[3]),
			     number(argv[4]));
	if (!strcmp(op, "check-files") && argc == 5)
		return check_files(xopen(argv[2], O_RDONLY | O_DIRECTORY), number(argv[3]),
				   number(argv[4]));
	if (!strcmp(op, "replay") && argc == 4)
		return replay(xopen(argv[2], O_RDONLY | O_DIRECTORY), argv[3]);
	bad_usage();
}
