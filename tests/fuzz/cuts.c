// SPDX-License-Identifier: GPL-2.0-only
/*
 * Notes what is done to a file, and makes the file anew as it may be after a
 * power failure at some moment: what was done before the last fsync is there;
 * of what was done since, each sector of each write, each change of the size and
 * each hole is there or not.
 */
#include "cuts.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quiet.h"

#define SECTOR		512u
/* larger files, and those of which more is written, are left out */
#define MAX_BASE	(2u << 20)
#define MAX_WRITTEN	(8u << 20)
#define MAX_STEPS	4096u

enum kind { WRITE, RESIZE, HOLE, SYNC };

/*
 * data: of a write
 * len: bytes; of a RESIZE nothing
 */
struct step {
	enum kind kind;
	off_t offset;
	size_t len;
	char *data;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char base[MAX_BASE];
static size_t base_len;
static struct step steps[MAX_STEPS];
static size_t n_steps, written;
static bool recording, complete;
static dev_t dev;
static ino_t ino;

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t offset);
int __real_ftruncate64(int fd, off_t size);
int __real_fallocate64(int fd, int mode, off_t offset, off_t len);
int __real_fsync(int fd);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset);
int __wrap_ftruncate64(int fd, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len);
int __wrap_fsync(int fd);

static void note(int fd, enum kind kind, off_t offset, size_t len, const void *data)
{
	struct stat st;

	if (!recording || fstat(fd, &st) || st.st_dev != dev || st.st_ino != ino)
		return;
	pthread_mutex_lock(&lock);
	if (n_steps == MAX_STEPS || (data && written + len > MAX_WRITTEN)) {
		complete = false;
	} else {
		struct step *step = &steps[n_steps++];

		*step = (struct step) { kind, offset, len, NULL };
		if (data) {
			step->data = malloc(len);
			memcpy(step->data, data, len);
			written += len;
		}
	}
	pthread_mutex_unlock(&lock);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	const ssize_t n = __real_pwrite64(fd, buf, len, offset);

	if (n > 0)
		note(fd, WRITE, offset, (size_t)n, buf);
	return n;
}

int __wrap_ftruncate64(int fd, off_t size)
{
	const int rc = __real_ftruncate64(fd, size);

	if (!rc)
		note(fd, RESIZE, size, 0, NULL);
	return rc;
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len)
{
	const int rc = __real_fallocate64(fd, mode, offset, len);

	if (!rc)
		note(fd, HOLE, offset, (size_t)len, NULL);
	return rc;
}

int __wrap_fsync(int fd)
{
	note(fd, SYNC, 0, 0, NULL);
	return __real_fsync(fd);
}

/**
 * cuts_begin() - note from now on what is done to a file
 * @path: the file
 *
 * Return: false when it is too large.
 */
bool cuts_begin(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	bool fits;

	fuzz_must(fd >= 0 && !fstat(fd, &st), "open");
	fits = st.st_size <= (off_t)sizeof(base);
	if (fits) {
		base_len = (size_t)st.st_size;
		fuzz_must(pread(fd, base, base_len, 0) == (ssize_t)base_len, "read");
		dev = st.st_dev;
		ino = st.st_ino;
		complete = true;
		recording = true;
	}
	close(fd);
	return fits;
}

/**
 * cuts_end() - note no more
 *
 * Return: the number of moments between which there is something to cut, or 0.
 */
size_t cuts_end(void)
{
	recording = false;
	return complete ? n_steps : 0;
}

static void do_write(int fd, const struct step *step, bool whole)
{
	for (size_t at = 0; at < step->len; at += SECTOR) {
		const size_t len = step->len - at < SECTOR ? step->len - at : SECTOR;

		if (whole || rand() % 2)
			__real_pwrite64(fd, step->data + at, len, step->offset + (off_t)at);
	}
}

static void do_step(int fd, const struct step *step, bool durable)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int rc = 0;

	if (step->kind == WRITE)
		do_write(fd, step, durable);
	else if (step->kind == RESIZE && (durable || rand() % 2))
		rc = __real_ftruncate64(fd, step->offset);
	else if (step->kind == HOLE && (durable || rand() % 2))
		rc = __real_fallocate64(fd, punch, step->offset, (off_t)step->len);
	fuzz_must(!rc, "what could be done once can be done again");
}

/**
 * cuts_make() - make the file as it may be when the power goes
 * @path: where to
 * @at: after so many of the moments that cuts_end() counted
 */
void cuts_make(const char *path, size_t at)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t synced = 0;

	fuzz_must(fd >= 0, "open");
	fuzz_must(__real_pwrite64(fd, base, base_len, 0) == (ssize_t)base_len, "write");
	for (size_t i = 0; i < at; i++)
		if (steps[i].kind == SYNC)
			synced = i;
	for (size_t i = 0; i < at; i++)
		do_step(fd, &steps[i], i < synced);
	close(fd);
}

/**
 * cuts_free() - forget what was noted
 */
void cuts_free(void)
{
	while (n_steps)
		free(steps[--n_steps].data);
	written = 0;
}
