// SPDX-License-Identifier: GPL-2.0-only
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "report.h"

struct proc_path {
	char text[64];
};

static struct proc_path proc_path(int fd)
{
	struct proc_path path;

	snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fd);
	return path;
}

/**
 * ploop_file_read() - read a whole range
 * @fd: an open file
 * @buf: where to
 * @len: bytes
 * @offset: where from
 *
 * Return: 0, or -1 with errno; the end of the file within the range is
 * ENODATA. Says nothing.
 */
int ploop_file_read(int fd, void *buf, size_t len, uint64_t offset)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0) {
			errno = ENODATA;
			return -1;
		}
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/**
 * ploop_file_write() - write a whole range
 * @fd: a file open for writing
 * @buf: what
 * @len: bytes
 * @offset: where to
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_file_write(int fd, const void *buf, size_t len, uint64_t offset)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/**
 * ploop_file_reopen() - open the inode of an open file once more
 * @fd: the file
 * @flags: for open()
 *
 * The inode cannot change on the way, even when the file was renamed.
 *
 * Return: a descriptor, or -1 with errno. Says nothing.
 */
int ploop_file_reopen(int fd, int flags)
{
	return open(proc_path(fd).text, flags);
}

/**
 * ploop_file_link() - give a name to a file that was opened with O_TMPFILE
 * @fd: the file
 * @path: the name; it must not exist
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_file_link(int fd, const char *path)
{
	return linkat(AT_FDCWD, proc_path(fd).text, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

/**
 * ploop_file_rename() - give a file another name, which nobody may have
 * @from: the name it has
 * @to: the new one; it must not exist
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_file_rename(const char *from, const char *to)
{
	if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
		return 0;
	/* a filesystem that cannot look and rename at once, as NFS: it has links */
	if (errno != EINVAL)
		return -1;
	if (link(from, to))
		return -1;
	unlink(from);
	return 0;
}

/**
 * ploop_file_sync_dir() - make the directory entry of a file durable
 * @path: the file
 *
 * Return: 0 or an exit code.
 */
int ploop_file_sync_dir(const char *path)
{
	char *copy = strdup(path);
	const char *dir;
	int rc = 0;
	int fd;

	if (!copy)
		return ploop_fail_memory();
	dir = dirname(copy);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		rc = ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot open directory %s", dir);
		goto out_free_copy;
	}
	/* EINVAL: this filesystem has no fsync for directories */
	if (fsync(fd) && errno != EINVAL)
		rc = ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync directory %s", dir);
	close(fd);
out_free_copy:
	free(copy);
	return rc;
}
