// SPDX-License-Identifier: GPL-2.0-only
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cancel.h"
#include "file.h"
#include "report.h"
#include "size.h"
#include "sysfs.h"

#define CONTROL_NODE	"/dev/ploop-control"
#define CONTROL_DEV	"/sys/class/misc/ploop-control/dev"
#define CONTROL_MODE	(S_IFCHR | 0600)

/* how long the node of a freshly loaded module may take */
#define CONTROL_SECONDS	5
/* udev and blkid open devices for moments; how long to try again */
#define STOP_SECONDS	60
#define REMOVE_SECONDS	10

/* nobody made the node: the kernel knows its number */
static void make_control_node(void)
{
	char text[PLOOP_SYSFS_NAME];
	unsigned int maj, min;

	if (ploop_sysfs_read(text, sizeof(text), CONTROL_DEV))
		return;
	if (sscanf(text, "%u:%u", &maj, &min) == 2 &&
	    mknod(CONTROL_NODE, CONTROL_MODE, makedev(maj, min)) && errno != EEXIST)
		ploop_note("cannot make %s: %s", CONTROL_NODE, strerror(errno));
}

static int open_control(struct ploop_device *dev)
{
	struct ploop_deadline wait = ploop_deadline_in(CONTROL_SECONDS, true);

	do {
		dev->control_fd = open(CONTROL_NODE, O_RDWR | O_CLOEXEC);
	} while (dev->control_fd < 0 && errno == ENOENT && ploop_deadline_pause(&wait));
	if (dev->control_fd < 0 && errno == ENOENT) {
		make_control_node();
		dev->control_fd = open(CONTROL_NODE, O_RDWR | O_CLOEXEC);
	}
	if (dev->control_fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_DEVICE,
					"cannot open %s; is the ploop module loaded", CONTROL_NODE);
	return 0;
}

static int open_node(struct ploop_device *dev)
{
	int rc;

	rc = ploop_node_wait(dev->index, dev->node);
	if (rc)
		return rc;
	dev->fd = open(dev->node, O_RDONLY | O_CLOEXEC);
	if (dev->fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_DEVICE, "cannot open %s", dev->node);
	return 0;
}

static int get_device(struct ploop_device *dev, int index)
{
	struct ploop_control_device arg = {
		.version = PLOOP_CONTROL_VERSION,
		.index = index,
	};

	if (!ioctl(dev->control_fd, PLOOP_CTL_GET, &arg)) {
		dev->index = arg.index;
		return 0;
	}
	if (errno == EBUSY)
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "/dev/ploop%d is in use: choose another device, or none (see `ploop list`)",
				  index);
	return ploop_fail_errno(PLOOP_EXIT_DEVICE, "the driver has no device for us");
}

/* remove a device without images; a failure leaves it for the next user */
static void remove_device(struct ploop_device *dev)
{
	struct ploop_control_device arg = {
		.version = PLOOP_CONTROL_VERSION,
		.index = dev->index,
	};
	struct ploop_deadline wait = ploop_deadline_in(REMOVE_SECONDS, false);

	if (dev->fd >= 0)
		close(dev->fd);
	dev->fd = -1;
	if (dev->control_fd < 0)
		return;
	while (ioctl(dev->control_fd, PLOOP_CTL_REMOVE, &arg)) {
		if (errno == ENODEV)
			return;
		if (errno == EBUSY && ploop_deadline_pause(&wait))
			continue;
		ploop_note("/dev/ploop%d is free, but its node stays: %s", dev->index,
			   strerror(errno));
		return;
	}
}

/**
 * ploop_device_reserve() - get a device without images for ourselves
 * @dev: out: the device, open; it stays reserved until ploop_device_close()
 * @index: N of ploopN, or PLOOP_DEVICE_ANY
 *
 * Return: 0 or an exit code.
 */
int ploop_device_reserve(struct ploop_device *dev, int index)
{
	int rc;

	*dev = (struct ploop_device){ .index = index, .control_fd = -1, .fd = -1 };
	rc = open_control(dev);
	if (rc)
		return rc;
	rc = get_device(dev, index);
	if (rc)
		goto out_close_device;
	rc = open_node(dev);
	if (rc)
		goto out_remove_device;
	return 0;

out_remove_device:
	remove_device(dev);
out_close_device:
	ploop_device_close(dev);
	return rc;
}

/**
 * ploop_device_open() - open a device that has images
 * @dev: out: the device
 * @index: N of ploopN
 *
 * Return: 0 or an exit code.
 */
int ploop_device_open(struct ploop_device *dev, int index)
{
	int rc;

	*dev = (struct ploop_device){ .index = index, .control_fd = -1, .fd = -1 };
	rc = open_node(dev);
	if (rc)
		return rc;
	rc = open_control(dev);
	if (rc)
		ploop_device_close(dev);
	return rc;
}

/**
 * ploop_device_close() - close a device; what is attached stays so
 * @dev: the device
 */
void ploop_device_close(struct ploop_device *dev)
{
	if (dev->fd >= 0)
		close(dev->fd);
	if (dev->control_fd >= 0)
		close(dev->control_fd);
	dev->fd = -1;
	dev->control_fd = -1;
}

/* why the driver did not take an image */
static int add_failed(const struct ploop_device *dev, const struct ploop_image *img, int error)
{
	switch (error) {
	case EBUSY:
	case ETXTBSY:
	case EAGAIN:
		return ploop_fail(PLOOP_EXIT_IN_USE,
				  "%s is in use by another device or program: see `ploop list` and `fuser -v %s`",
				  img->path, img->path);
	case EUCLEAN:
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s is damaged: dmesg says where; see `ploop check %s`",
				  img->path, img->path);
	case EINVAL:
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "the driver does not accept %s: dmesg says why; see `ploop check %s`",
				  img->path, img->path);
	case EOPNOTSUPP:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "the filesystem of %s cannot do direct I/O: move the image to ext4, xfs or btrfs",
				  img->path);
	case EROFS:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "the filesystem of %s is read-only: mount with -r", img->path);
	case EPERM:
	case EACCES:
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "not allowed to attach %s: this needs root outside of any container",
				  img->path);
	}
	errno = error;
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "cannot attach %s to %s", img->path, dev->node);
}

/* the descriptor that the driver gets: the inode that was checked, opened as it wants it */
static int open_for_driver(const struct ploop_image *img, bool readonly)
{
	const int flags = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	int fd;

	fd = ploop_file_reopen(img->fd, flags | O_DIRECT);
	if (fd < 0 && errno == EINVAL)
		fd = ploop_file_reopen(img->fd, flags);
	return fd;
}

/* error: out: the driver's answer, 0 or an errno */
static int give_image(struct ploop_device *dev, struct ploop_image *img, unsigned long request,
		      const struct ploop_ctl *ctl, int *error)
{
	struct ploop_ctl_delta arg = { .ctl = *ctl, .chunk = { .type = PLOOP_IO_AUTO } };

	arg.ctl.format = img->format;
	arg.ctl.chunks = 1;
	arg.chunk.fd = open_for_driver(img, ctl->flags & PLOOP_CTLF_RDONLY);
	if (arg.chunk.fd < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open %s", img->path);
	close(img->fd);
	img->fd = -1;
	*error = ioctl(dev->fd, request, &arg) ? errno : 0;
	close(arg.chunk.fd);
	return 0;
}

/**
 * ploop_device_add() - put an image on top of a stopped device
 * @dev: the device
 * @img: the image; its descriptor is closed, and with it our lock ends, because
 *       the driver takes a lock of its own
 * @cluster_sectors: cluster size of the device
 * @readonly: it will not be written
 *
 * Return: 0 or an exit code.
 */
int ploop_device_add(struct ploop_device *dev, struct ploop_image *img, uint32_t cluster_sectors,
		     bool readonly)
{
	const struct ploop_ctl ctl = {
		.flags = readonly ? PLOOP_CTLF_RDONLY : 0,
		.cluster_log = ploop_cluster_log(cluster_sectors),
	};
	int error, rc;

	rc = give_image(dev, img, PLOOP_IOC_ADD_DELTA, &ctl, &error);
	if (rc)
		return rc;
	return error ? add_failed(dev, img, error) : 0;
}

/**
 * ploop_device_snapshot() - make an empty image the top of a running device
 * @dev: the device
 * @img: the image; as for ploop_device_add()
 * @cluster_sectors: cluster size of the device
 * @sync: freeze the filesystem on the device meanwhile
 * @error: out: the driver's answer, 0 or an errno
 *
 * Return: 0 or an exit code.
 */
int ploop_device_snapshot(struct ploop_device *dev, struct ploop_image *img,
			  uint32_t cluster_sectors, bool sync, int *error)
{
	const struct ploop_ctl ctl = {
		.flags = sync ? PLOOP_CTLF_FS_SYNC : 0,
		.cluster_log = ploop_cluster_log(cluster_sectors),
	};

	return give_image(dev, img, PLOOP_IOC_SNAPSHOT, &ctl, error);
}

/**
 * ploop_device_start() - run a device; its partitions appear
 * @dev: a device with images
 *
 * Return: 0 or an exit code.
 */
int ploop_device_start(struct ploop_device *dev)
{
	if (ioctl(dev->fd, PLOOP_IOC_START))
		return ploop_fail_errno(PLOOP_EXIT_IOCTL, "cannot start %s", dev->node);
	return 0;
}

/* a device mapper or md device on top never goes away by waiting */
static bool find_holder(int index, char name[PLOOP_SYSFS_NAME])
{
	char pattern[PLOOP_SYSFS_PATH];
	glob_t found;
	bool any;

	snprintf(pattern, sizeof(pattern), PLOOP_SYSFS_BLOCK "/ploop%d/holders/*", index);
	if (glob(pattern, 0, NULL, &found) == GLOB_NOMATCH) {
		snprintf(pattern, sizeof(pattern), PLOOP_SYSFS_BLOCK "/ploop%d/ploop%dp*/holders/*",
			 index, index);
		globfree(&found);
		glob(pattern, 0, NULL, &found);
	}
	any = found.gl_pathc > 0;
	if (any) {
		const char *slash = strrchr(found.gl_pathv[0], '/');

		snprintf(name, PLOOP_SYSFS_NAME, "%s", slash ? slash + 1 : found.gl_pathv[0]);
	}
	globfree(&found);
	return any;
}

static int stop_device(struct ploop_device *dev, bool cancellable)
{
	struct ploop_deadline wait = ploop_deadline_in(STOP_SECONDS, cancellable);
	char holder[PLOOP_SYSFS_NAME];

	while (ioctl(dev->fd, PLOOP_IOC_STOP)) {
		/* it does not run, or has no images */
		if (errno == EINVAL || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return ploop_fail_errno(PLOOP_EXIT_IOCTL, "cannot stop %s", dev->node);
		if (find_holder(dev->index, holder))
			return ploop_fail(PLOOP_EXIT_BUSY,
					  "%s is in use by /dev/%s: stop that first", dev->node, holder);
		if (ploop_deadline_pause(&wait))
			continue;
		if (cancellable && ploop_cancelled())
			return ploop_fail_cancelled();
		if (ploop_sysfs_maintenance(dev->index) != PLOOP_MNTN_OFF)
			return ploop_fail(PLOOP_EXIT_BUSY,
					  "the driver still moves data of %s: `ploop info %s` shows how far it is",
					  dev->node, dev->node);
		return ploop_fail(PLOOP_EXIT_BUSY,
				  "%s is still open after %d seconds: see `fuser -v %s*`, swap, and mounts in other containers",
				  dev->node, STOP_SECONDS, dev->node);
	}
	return 0;
}

/**
 * ploop_device_detach() - stop a device, take its images away, remove it
 * @dev: the device, in any state; closed afterwards when this succeeds
 * @cancellable: a signal ends the wait for other users; false in roll-backs
 *
 * Return: 0 or an exit code.
 */
int ploop_device_detach(struct ploop_device *dev, bool cancellable)
{
	int rc;

	rc = stop_device(dev, cancellable);
	/* stopped, but the top image is not closed: a second STOP has nothing to do */
	if (rc == PLOOP_EXIT_IOCTL && ioctl(dev->fd, PLOOP_IOC_STOP) && errno == EINVAL)
		ploop_note("the top image of %s stays marked in use: its next mount will check it",
			   dev->node);
	else if (rc)
		return rc;
	if (ioctl(dev->fd, PLOOP_IOC_CLEAR))
		return ploop_fail_errno(PLOOP_EXIT_IOCTL,
					"%s is stopped, but its images cannot be taken away",
					dev->node);
	remove_device(dev);
	ploop_device_close(dev);
	return rc;
}
