/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exit codes and messages.
 *
 * A function that can fail returns 0 or an exit code, and has said why on
 * stderr before it returns: callers only clean up and pass the code on.
 */
#ifndef PLOOP_REPORT_H
#define PLOOP_REPORT_H

/**
 * enum ploop_exit - exit codes; the numbers are those of OpenVZ ploop
 * @PLOOP_EXIT_OK: success
 * @PLOOP_EXIT_CREATE: an image cannot be created
 * @PLOOP_EXIT_DEVICE: a device, its node or the driver is not there
 * @PLOOP_EXIT_IOCTL: the driver refused a command
 * @PLOOP_EXIT_OPEN: a file cannot be opened
 * @PLOOP_EXIT_MEMORY: out of memory
 * @PLOOP_EXIT_READ: a file cannot be read
 * @PLOOP_EXIT_WRITE: a file cannot be written
 * @PLOOP_EXIT_SYSFS: sysfs cannot be read
 * @PLOOP_EXIT_FORMAT: an image is not what it should be, or damaged
 * @PLOOP_EXIT_SYSTEM: another system call or program failed
 * @PLOOP_EXIT_PROTOCOL: what the other side sends makes no sense, or is damaged
 * @PLOOP_EXIT_LOOP: writes do not end though they should
 * @PLOOP_EXIT_STAT: a file cannot be examined
 * @PLOOP_EXIT_FSYNC: a file cannot be made durable
 * @PLOOP_EXIT_BUSY: a device or image is busy
 * @PLOOP_EXIT_TRUNCATE: the size of a file cannot be changed
 * @PLOOP_EXIT_FALLOCATE: no space can be allocated
 * @PLOOP_EXIT_MOUNT: a filesystem cannot be mounted
 * @PLOOP_EXIT_UMOUNT: a filesystem cannot be unmounted
 * @PLOOP_EXIT_LOCK: a file cannot be locked
 * @PLOOP_EXIT_MKFS: a filesystem cannot be made
 * @PLOOP_EXIT_MKDIR: a directory cannot be made
 * @PLOOP_EXIT_GPT: a partition table cannot be made
 * @PLOOP_EXIT_CANCELLED: a signal ended the work
 * @PLOOP_EXIT_MKNOD: a device node cannot be made
 * @PLOOP_EXIT_IN_USE: an image is attached, or marked in use
 * @PLOOP_EXIT_PARAM: wrong arguments
 * @PLOOP_EXIT_NOT_ATTACHED: the image or device is not attached
 */
enum ploop_exit {
	PLOOP_EXIT_OK		= 0,
	PLOOP_EXIT_CREATE	= 1,
	PLOOP_EXIT_DEVICE	= 2,
	PLOOP_EXIT_IOCTL	= 3,
	PLOOP_EXIT_OPEN		= 4,
	PLOOP_EXIT_MEMORY	= 5,
	PLOOP_EXIT_READ		= 6,
	PLOOP_EXIT_WRITE	= 7,
	PLOOP_EXIT_SYSFS	= 9,
	PLOOP_EXIT_FORMAT	= 11,
	PLOOP_EXIT_SYSTEM	= 12,
	PLOOP_EXIT_PROTOCOL	= 13,
	PLOOP_EXIT_LOOP		= 14,
	PLOOP_EXIT_STAT		= 15,
	PLOOP_EXIT_FSYNC	= 16,
	PLOOP_EXIT_BUSY		= 17,
	PLOOP_EXIT_TRUNCATE	= 19,
	PLOOP_EXIT_FALLOCATE	= 20,
	PLOOP_EXIT_MOUNT	= 21,
	PLOOP_EXIT_UMOUNT	= 22,
	PLOOP_EXIT_LOCK		= 23,
	PLOOP_EXIT_MKFS		= 24,
	PLOOP_EXIT_MKDIR	= 27,
	PLOOP_EXIT_GPT		= 33,
	PLOOP_EXIT_CANCELLED	= 34,
	PLOOP_EXIT_MKNOD	= 36,
	PLOOP_EXIT_IN_USE	= 37,
	PLOOP_EXIT_PARAM	= 38,
	PLOOP_EXIT_NOT_ATTACHED	= 40,
};

int ploop_fail(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int ploop_fail_errno(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int ploop_fail_memory(void);
int ploop_fail_cancelled(void);
void ploop_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* PLOOP_REPORT_H */
