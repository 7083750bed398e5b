// SPDX-License-Identifier: GPL-2.0-only
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cancel.h"
#include "maintenance.h"
#include "mounts.h"
#include "report.h"

static int in_use_by(const struct ploop_image *img, const struct ploop_info *info)
{
	char *where = ploop_mounts_describe(info->index);

	ploop_fail(PLOOP_EXIT_IN_USE, "%s is in use by %s%s%s%s: run `ploop umount -d %s` first",
		   img->path, info->node, where ? " (mounted on " : "", where ? where : "",
		   where ? ")" : "", info->node);
	ploop_mounts_free_description(where);
	return PLOOP_EXIT_IN_USE;
}

/* an image may be attached several times, as long as everybody only reads it */
static int refuse_attached(const struct ploop_image *img, bool exclusive)
{
	struct ploop_info_list list;
	int rc;

	rc = ploop_sysfs_list(&list);
	if (rc)
		return rc;
	for (size_t i = 0; i < list.n && !rc; i++) {
		const struct ploop_delta *delta;

		delta = ploop_sysfs_find_delta(&list.info[i], img->dev, img->ino);
		if (delta && (exclusive || !delta->readonly))
			rc = in_use_by(img, &list.info[i]);
	}
	ploop_sysfs_free_list(&list);
	return rc;
}

static int set_lock(const struct ploop_image *img, bool exclusive)
{
	struct flock lock = {
		.l_type = exclusive ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
	};

	if (img->denied) {
		errno = EAGAIN;
		return -1;
	}
	return fcntl(img->fd, F_OFD_SETLK, &lock);
}

/**
 * ploop_lock_image() - lock an image against other users, or say who they are
 * @img: an open image; writable when @exclusive
 * @exclusive: nobody else may have it; else nobody may write it
 *
 * The lock belongs to the open file and ends when that is closed. A lock held
 * already is changed. The driver takes the same lock on attached images.
 *
 * Return: 0; PLOOP_EXIT_IN_USE when a device has the image; PLOOP_EXIT_BUSY
 * when somebody else locked it; another exit code when this failed.
 */
int ploop_lock_image(const struct ploop_image *img, bool exclusive)
{
	int error;
	int rc;

	error = set_lock(img, exclusive) ? errno : 0;
	if (error && error != EAGAIN && error != EACCES) {
		errno = error;
		return ploop_fail_errno(PLOOP_EXIT_LOCK,
					"cannot lock %s; its filesystem must support file locks",
					img->path);
	}
	rc = refuse_attached(img, exclusive || error);
	if (rc)
		return rc;
	if (error)
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is locked by another program, and no ploop device of this system has it: wait for it to end (see `lslocks` or `fuser -v %s`)",
				  img->path, img->path);
	return 0;
}

static int open_base(const struct ploop_info *info, int *fd)
{
	const struct ploop_delta *base = &info->deltas[0];
	struct stat st;

	*fd = open(base->image, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s, the base of %s",
					base->image, info->node);
	if (!fstat(*fd, &st) && ploop_sysfs_find_delta(info, st.st_dev, st.st_ino) == base)
		return 0;
	close(*fd);
	*fd = -1;
	return ploop_fail(PLOOP_EXIT_OPEN,
			  "%s is not the file that %s has as its base: it was replaced, or is in another mount namespace",
			  base->image, info->node);
}

/**
 * ploop_lock_device() - keep other commands away from a device that has images
 * @info: the device
 * @seconds: how long to wait for another command
 * @fd: out: holds the lock as long as it is open
 *
 * The lock is a flock() on the base. That is another kind of lock than the
 * driver's own, and the base remains the base whatever is done above it.
 *
 * Return: 0; PLOOP_EXIT_BUSY when another command has the device; another exit
 * code when this failed.
 */
int ploop_lock_device(const struct ploop_info *info, int seconds, int *fd)
{
	struct ploop_deadline wait = ploop_deadline_in(seconds, true);
	int rc;

	rc = open_base(info, fd);
	if (rc)
		return rc;
	while (flock(*fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			rc = ploop_fail_errno(PLOOP_EXIT_LOCK, "cannot lock %s",
					      info->deltas[0].image);
		else if (ploop_deadline_pause(&wait))
			continue;
		else if (ploop_cancelled())
			rc = ploop_fail_cancelled();
		else
			rc = ploop_fail(PLOOP_EXIT_BUSY,
					"another ploop command works on the images of %s (state %s): wait for it to end (see `fuser -v %s`)",
					info->node,
					ploop_maintenance_name(ploop_sysfs_maintenance(info->index)),
					info->deltas[0].image);
		close(*fd);
		*fd = -1;
		return rc;
	}
	return 0;
}
