/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the two fuzzers of the kernel share: a generator that a seed repeats,
 * small images, devices, and a watch over threads that stand still.
 */
#ifndef PLOOP_TESTS_FUZZ_H
#define PLOOP_TESTS_FUZZ_H

#include "util.h"

#include <endian.h>
#include <sys/ioctl.h>
#include <time.h>

#include <linux/ploop.h>
#include <linux/ploop1_image.h>

#define CONTROL_NODE	"/dev/ploop-control"

/* --- numbers */

struct rng {
	uint64_t state;
};

static inline uint64_t next(struct rng *r)
{
	return mix(r->state++);
}

static inline uint32_t below(struct rng *r, uint32_t n)
{
	return n ? next(r) % n : 0;
}

/* true once in n times */
static inline bool one_in(struct rng *r, uint32_t n)
{
	return !below(r, n);
}

/* a wrong value that is likely to matter where old was right */
static inline uint32_t wrong(struct rng *r, uint32_t old)
{
	static const uint32_t values[] = {
		0, 1, 2, 0x7f, 0x80, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe,
		0xffffffff, 0xffffffc0, 4096, 64, 63,
	};

	switch (below(r, 6)) {
	case 0:
		return values[below(r, sizeof(values) / sizeof(values[0]))];
	case 1:
		return old + 1;
	case 2:
		return old - 1;
	case 3:
		return old ^ 1u << below(r, 32);
	case 4:
		return below(r, 256);
	default:
		return next(r);
	}
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* --- images */

#define MAX_CLUSTERS	96
/* MAX_CLUSTERS of 64 KiB, as raw images may have */
#define IMAGE_BYTES	(8 << 20)

/**
 * struct image - an image in memory
 * @version: 1, 2, or 0: raw
 * @cl: log2 of the sectors of a cluster
 * @clusters: clusters of the disk
 * @first: clusters of the index
 * @at: where each cluster is in the file; 0: nowhere
 * @size: bytes of the file, at most IMAGE_BYTES
 * @empty: in: no cluster gets a place
 * @bytes: the file
 */
struct image {
	unsigned int version, cl;
	uint32_t clusters, first, at[MAX_CLUSTERS];
	uint64_t size;
	bool empty;
	unsigned char *bytes;
};

static inline size_t cluster_bytes(const struct image *m)
{
	return (size_t)512 << m->cl;
}

static inline uint64_t disk_bytes(const struct image *m)
{
	return (uint64_t)m->clusters * cluster_bytes(m);
}

static inline void put32(struct image *m, size_t offset, uint32_t value)
{
	value = htole32(value);
	memcpy(m->bytes + offset, &value, sizeof(value));
}

static inline uint32_t get32(const struct image *m, size_t offset)
{
	uint32_t value;

	memcpy(&value, m->bytes + offset, sizeof(value));
	return le32toh(value);
}

static inline size_t entry_offset(uint32_t cluster)
{
	return sizeof(struct ploop1_header) + 4 * (size_t)cluster;
}

static inline void make_header(struct image *m)
{
	struct ploop1_header h = {
		.type = htole32(PLOOP1_TYPE), .heads = htole32(16),
		.cluster_sectors = htole32(1u << m->cl), .clusters = htole32(m->clusters),
		.size = htole64((uint64_t)m->clusters << m->cl),
		.first_block_offset = htole32(m->first << m->cl),
	};

	memcpy(h.signature, m->version == 1 ? PLOOP1_SIGNATURE_V1 : PLOOP1_SIGNATURE_V2,
	       sizeof(h.signature));
	memcpy(m->bytes, &h, sizeof(h));
}

/* what the file's clusters hold; cheap, and no two alike */
static inline void fill(void *to, size_t len, uint64_t key)
{
	uint64_t *word = to;

	for (size_t i = 0; i < len / sizeof(*word); i++) {
		if (!(i % 64))
			key = mix(key);
		word[i] = key + i;
	}
}

/* gives some clusters a place in the file, in any order */
static inline void make_index(struct image *m, struct rng *r)
{
	uint32_t unit = m->version == 1 ? 1u << m->cl : 1, used = 0, place[MAX_CLUSTERS];
	uint32_t share = 1 + below(r, 8);

	for (uint32_t c = 0; c < m->clusters; c++)
		if (!m->empty && one_in(r, share) &&
		    (used + m->first + 1) * cluster_bytes(m) <= IMAGE_BYTES / 8)
			place[used++] = c;
	for (uint32_t i = 0; i < used; i++) {
		uint32_t j = i + below(r, used - i), c = place[j];

		place[j] = place[i];
		m->at[c] = m->first + i;
		put32(m, entry_offset(c), m->at[c] * unit);
	}
	m->size = (m->first + used) * cluster_bytes(m);
	fill(m->bytes + m->first * cluster_bytes(m), used * cluster_bytes(m), next(r));
}

/* version 0, 1 or 2; a good image with clusters of 1 << cl sectors, so many of them */
static inline void make_image(struct image *m, struct rng *r, unsigned int version,
			      unsigned int cl, uint32_t least, uint32_t most)
{
	if (!m->bytes)
		m->bytes = aligned(IMAGE_BYTES);
	m->version = version;
	m->cl = cl;
	m->clusters = least + below(r, most - least + 1);
	m->first = 1 + one_in(r, 4);
	memset(m->at, 0, sizeof(m->at));
	if (!version) {
		m->size = disk_bytes(m);
		fill(m->bytes, m->size, next(r));
		return;
	}
	memset(m->bytes, 0, m->first * cluster_bytes(m));
	make_header(m);
	make_index(m, r);
}

/* --- devices */

static inline int device_open(int index, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/ploop%d", index);
	return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

static inline int device_control(int fd, unsigned long nr, int index)
{
	struct ploop_control_device arg = { .version = PLOOP_CONTROL_VERSION, .index = index };

	return ioctl(fd, nr, &arg) ? -1 : arg.index;
}

static inline struct ploop_ctl_delta delta_arg(int fd, unsigned int format, unsigned int cl,
					       bool rdonly)
{
	return (struct ploop_ctl_delta){
		.ctl = { .format = format, .flags = rdonly ? PLOOP_CTLF_RDONLY : 0,
			 .cluster_log = cl, .chunks = 1 },
		.chunk = { .fd = fd },
	};
}

/* repeats a call while somebody, udev perhaps, has the device open */
static inline int patient(int dev, unsigned long nr, double seconds)
{
	double end = now() + seconds;
	int ret;

	while ((ret = ioctl(dev, nr, 0)) && errno == EBUSY && now() < end)
		usleep(2000);
	return ret;
}

/* the same for making it go away */
static inline int patient_remove(int control, int index, double seconds)
{
	double end = now() + seconds;
	int ret;

	while ((ret = device_control(control, PLOOP_CTL_REMOVE, index)) < 0 && errno == EBUSY &&
	       now() < end)
		usleep(2000);
	return ret;
}

/* the log, beside what the kernel says */
static inline void note(const char *text)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (write(fd, text, strlen(text)) < 0)
			perror("/dev/kmsg");
		close(fd);
	}
	fprintf(stderr, "%s\n", text);
}

/* nothing has moved for too long: who stands where */
static inline _Noreturn void report_hang(const char *what)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);

	note(what);
	if (fd >= 0 && write(fd, "w", 1) < 0)
		perror("/proc/sysrq-trigger");
	_exit(1);
}

#endif /* PLOOP_TESTS_FUZZ_H */
