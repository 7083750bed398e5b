// SPDX-License-Identifier: GPL-2.0-only
#include "balloon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <linux/fs.h>

#include "cancel.h"
#include "file.h"
#include "mounts.h"
#include "node.h"
#include "report.h"
#include "size.h"

/* inode of the root directory of ext4 */
#define ROOT_INO	2
#define PERMISSIONS	07777
/* space is asked for in pieces, so that a signal is noticed between them */
#define PIECE		(1ull << 30)

/**
 * ploop_balloon_set_immutable() - let nobody change a file, or somebody again
 * @fd: the file
 * @immutable: nobody
 *
 * Return: 0, or -1 with errno. Says nothing.
 */
int ploop_balloon_set_immutable(int fd, bool immutable)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return -1;
	if (!!(flags & FS_IMMUTABLE_FL) == immutable)
		return 0;
	flags ^= FS_IMMUTABLE_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* the balloon file in a directory, or -1 with errno */
static int open_balloon(int root, const char *name, struct stat *st)
{
	const int fd = openat(root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (!fstat(fd, st) && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	errno = ENOENT;
	return -1;
}

static int protect_file(int fd, const struct stat *st)
{
	if ((st->st_mode & PERMISSIONS) != PLOOP_BALLOON_MODE) {
		/* it is not immutable forever: the mode must change too */
		if (ploop_balloon_set_immutable(fd, false) || fchmod(fd, PLOOP_BALLOON_MODE))
			return -1;
	}
	return ploop_balloon_set_immutable(fd, true);
}

/* an empty file that has the balloon's name makes room for another one */
static int remove_empty(int root)
{
	struct stat st;
	int fd, failed;

	fd = open_balloon(root, PLOOP_BALLOON_NAME, &st);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (st.st_size) {
		close(fd);
		errno = EEXIST;
		return -1;
	}
	failed = ploop_balloon_set_immutable(fd, false) ||
		 unlinkat(root, PLOOP_BALLOON_NAME, 0);
	close(fd);
	return failed ? -1 : 0;
}

/* the name by which it is found from now on, whoever mounts the filesystem next */
static int give_name(int root, const char *name, int fd, const struct stat *st)
{
	struct stat named;

	if (!fstatat(root, PLOOP_BALLOON_NAME, &named, AT_SYMLINK_NOFOLLOW) &&
	    named.st_ino == st->st_ino)
		return 0;
	if (remove_empty(root) || ploop_balloon_set_immutable(fd, false))
		return -1;
	return linkat(root, name, root, PLOOP_BALLOON_NAME, 0);
}

/* makes a file of the root directory the balloon file; a read-only one is left as it is */
static void adopt(const char *dir, int root, const char *name)
{
	struct stat st;
	int fd;

	fd = open_balloon(root, name, &st);
	if (fd < 0) {
		ploop_note("%s: %s cannot be the balloon file: %s", dir, name, strerror(errno));
		return;
	}
	if (give_name(root, name, fd, &st) && errno != EROFS)
		ploop_note("%s: %s cannot become the balloon file " PLOOP_BALLOON_NAME ": %s", dir,
			   name, strerror(errno));
	if (protect_file(fd, &st) && errno != EROFS)
		ploop_note("%s: cannot protect the balloon file %s: %s", dir, name,
			   strerror(errno));
	close(fd);
}

static const char *name_of_inode(DIR *root, uint64_t ino)
{
	struct dirent *entry;

	while ((entry = readdir(root)))
		if (entry->d_ino == ino && entry->d_type == DT_REG)
			return entry->d_name;
	return NULL;
}

/**
 * ploop_balloon_protect() - keep users of a filesystem away from its balloon file
 * @dir: where the filesystem is mounted
 * @ino: inode of the balloon file, as after balloon_ino=: it gets the usual name
 *       in addition; 0: the file that has that name, if there is one
 */
void ploop_balloon_protect(const char *dir, uint64_t ino)
{
	const char *name = PLOOP_BALLOON_NAME;
	DIR *root = opendir(dir);

	if (!root) {
		ploop_note("cannot read %s: %s", dir, strerror(errno));
		return;
	}
	if (ino)
		name = name_of_inode(root, ino);
	else if (faccessat(dirfd(root), name, F_OK, AT_SYMLINK_NOFOLLOW))
		goto out_close_root;
	if (name)
		adopt(dir, dirfd(root), name);
	else
		ploop_note("%s: no balloon file with inode %" PRIu64 " in the root directory", dir,
			   ino);
out_close_root:
	closedir(root);
}

/* a mount of the device: does it show the root of an ext4 with a balloon file */
static int look_at(struct ploop_balloon *balloon, const struct ploop_mount *mount)
{
	struct stat root_st, st;
	int root;

	free(balloon->dir);
	balloon->dir = strdup(mount->target);
	if (!balloon->dir)
		return ploop_fail_memory();
	snprintf(balloon->fstype, sizeof(balloon->fstype), "%s", mount->fstype);
	if (strcmp(mount->fstype, "ext4"))
		return 0;
	root = open(mount->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s", mount->target);
	if (!fstat(root, &root_st) && root_st.st_ino == ROOT_INO &&
	    ploop_node_index_of(root_st.st_dev) == balloon->index)
		balloon->fd = open_balloon(root, PLOOP_BALLOON_NAME, &st);
	close(root);
	if (balloon->fd < 0)
		return 0;
	balloon->dev = st.st_dev;
	balloon->size = (uint64_t)st.st_size;
	balloon->block = (uint64_t)st.st_blksize;
	return 0;
}

/* the newest mount is the one that is seen at a mount point */
static int look_for(struct ploop_balloon *balloon, const char *dir)
{
	struct ploop_mount_list list;
	int rc;

	rc = ploop_mounts_list(balloon->index, &list);
	if (rc)
		return rc;
	for (size_t i = list.n; i > 0 && balloon->fd < 0 && !rc; i--) {
		if (dir && strcmp(dir, list.mount[i - 1].target))
			continue;
		rc = look_at(balloon, &list.mount[i - 1]);
		if (dir)
			break;
	}
	ploop_mounts_free(&list);
	return rc;
}

/**
 * ploop_balloon_find() - find the balloon file of a device
 * @balloon: out: the file, or why there is none; closed by ploop_balloon_close()
 *           also when this fails
 * @index: N of ploopN
 * @dir: where its filesystem is mounted, or NULL: anywhere
 *
 * Return: 0, also without a balloon file, or an exit code.
 */
int ploop_balloon_find(struct ploop_balloon *balloon, int index, const char *dir)
{
	char *path = NULL;
	int rc;

	*balloon = (struct ploop_balloon){ .index = index, .fd = -1 };
	if (dir) {
		path = realpath(dir, NULL);
		if (!path)
			return ploop_fail_errno(PLOOP_EXIT_PARAM, "-m %s", dir);
	}
	rc = look_for(balloon, path);
	free(path);
	return rc;
}

/**
 * ploop_balloon_require() - say why there is no balloon file
 * @balloon: what ploop_balloon_find() found
 *
 * Return: 0 when there is one, or an exit code.
 */
int ploop_balloon_require(const struct ploop_balloon *balloon)
{
	if (balloon->fd >= 0)
		return 0;
	if (!balloon->dir)
		return ploop_fail(PLOOP_EXIT_NOT_ATTACHED,
				  "no filesystem of /dev/ploop%d is mounted here: mount the one with the balloon first",
				  balloon->index);
	if (strcmp(balloon->fstype, "ext4"))
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is %s, and only ext4 can have a balloon: give space back with `ploop discard -m %s`",
				  balloon->dir, balloon->fstype, balloon->dir);
	return ploop_fail(PLOOP_EXIT_OPEN,
			  "no balloon file in %s: make one with `touch %s/" PLOOP_BALLOON_NAME
			  "`, or mount with -o balloon_ino=N if it has another name",
			  balloon->dir, balloon->dir);
}

/**
 * ploop_balloon_lock() - get the balloon file for ourselves
 * @balloon: the file
 *
 * Return: 0 or an exit code.
 */
int ploop_balloon_lock(struct ploop_balloon *balloon)
{
	struct stat st;

	if (flock(balloon->fd, LOCK_EX | LOCK_NB)) {
		if (errno == EWOULDBLOCK)
			return ploop_fail(PLOOP_EXIT_BUSY,
					  "another program works on the balloon file in %s: wait for it to end (see `lslocks`)",
					  balloon->dir);
		return ploop_fail_errno(PLOOP_EXIT_LOCK, "cannot lock the balloon file in %s",
					balloon->dir);
	}
	balloon->locked = true;
	if (fstat(balloon->fd, &st))
		return ploop_fail_errno(PLOOP_EXIT_STAT, "cannot examine the balloon file in %s",
					balloon->dir);
	balloon->size = (uint64_t)st.st_size;
	return 0;
}

static int inflate_failed(const struct ploop_balloon *balloon, uint64_t size)
{
	char wanted[PLOOP_SIZE_TEXT], now[PLOOP_SIZE_TEXT], room[PLOOP_SIZE_TEXT];
	const int error = errno;
	struct statvfs fs = { 0 };

	if (error == ENOSPC && !fstatvfs(balloon->fd, &fs))
		return ploop_fail(PLOOP_EXIT_FALLOCATE,
				  "no room for a balloon of %s in %s: it keeps its size of %s, and the filesystem has %s free",
				  ploop_size_format(wanted, size), balloon->dir,
				  ploop_size_format(now, balloon->size),
				  ploop_size_format(room, (uint64_t)fs.f_bfree * fs.f_frsize));
	errno = error;
	return ploop_fail_errno(PLOOP_EXIT_FALLOCATE,
				"cannot allocate space for the balloon in %s, it keeps its size",
				balloon->dir);
}

/* on failure it has its old size again */
static int inflate(const struct ploop_balloon *balloon, int fd, uint64_t size)
{
	uint64_t from = 0;
	int error = 0;

	while (from < size && !error && !ploop_cancelled()) {
		const uint64_t len = size - from < PIECE ? size - from : PIECE;

		if (fallocate(fd, 0, (off_t)from, (off_t)len))
			error = errno;
		from += len;
	}
	if (!error && from == size)
		return 0;
	if (ftruncate(fd, (off_t)balloon->size))
		ploop_note("the balloon in %s cannot get its old size again: %s", balloon->dir,
			   strerror(errno));
	errno = error;
	return error ? inflate_failed(balloon, size) : ploop_fail_cancelled();
}

static int resize_open(struct ploop_balloon *balloon, int fd, uint64_t size)
{
	int rc = 0;

	if (size > balloon->size)
		rc = inflate(balloon, fd, size);
	else if (ftruncate(fd, (off_t)size))
		rc = ploop_fail_errno(PLOOP_EXIT_TRUNCATE, "cannot deflate the balloon in %s",
				      balloon->dir);
	if (!rc && fsync(fd))
		rc = ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync the balloon in %s",
				      balloon->dir);
	if (!rc)
		balloon->size = size;
	return rc;
}

/**
 * ploop_balloon_resize() - change the size of a locked balloon
 * @balloon: the file
 * @size: bytes; when it becomes larger, the filesystem gives it blocks, which are
 *        not written
 *
 * Return: 0 or an exit code; without space it keeps its old size.
 */
int ploop_balloon_resize(struct ploop_balloon *balloon, uint64_t size)
{
	int fd, rc;

	if (ploop_balloon_set_immutable(balloon->fd, false))
		return ploop_fail_errno(PLOOP_EXIT_TRUNCATE,
					"cannot change the balloon file in %s", balloon->dir);
	fd = ploop_file_reopen(balloon->fd, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		rc = ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot write to the balloon file in %s",
				      balloon->dir);
	} else {
		rc = resize_open(balloon, fd, size);
		close(fd);
	}
	/* before anybody relies on where its blocks are */
	if (ploop_balloon_set_immutable(balloon->fd, true) && !rc)
		rc = ploop_fail_errno(PLOOP_EXIT_TRUNCATE,
				      "cannot protect the balloon file in %s", balloon->dir);
	return rc;
}

/**
 * ploop_balloon_close() - let others have the balloon file
 * @balloon: the file; may be closed already
 *
 * It is immutable afterwards, whatever a command that was killed did to it.
 */
void ploop_balloon_close(struct ploop_balloon *balloon)
{
	if (balloon->locked && ploop_balloon_set_immutable(balloon->fd, true) && errno != EROFS)
		ploop_note("cannot protect the balloon file in %s: %s", balloon->dir,
			   strerror(errno));
	if (balloon->fd >= 0)
		close(balloon->fd);
	balloon->fd = -1;
	balloon->locked = false;
	free(balloon->dir);
	balloon->dir = NULL;
}
