// SPDX-License-Identifier: GPL-2.0-only
#include "balloon.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libmount.h>

#include "cancel.h"
#include "process.h"
#include "report.h"

#define INO_OPTION	"balloon_ino"
#define DECIMAL		10

static int create_file(const char *dir)
{
	int root, fd, rc = 0;

	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return ploop_fail_errno(PLOOP_EXIT_OPEN, "cannot open the new filesystem");
	fd = openat(root, PLOOP_BALLOON_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    PLOOP_BALLOON_MODE);
	if (fd < 0) {
		rc = ploop_fail_errno(PLOOP_EXIT_CREATE, "cannot create the balloon file");
		goto out_close_root;
	}
	if (ploop_balloon_set_immutable(fd, true))
		rc = ploop_fail_errno(PLOOP_EXIT_CREATE, "cannot protect the balloon file");
	else if (fsync(fd) || fsync(root))
		rc = ploop_fail_errno(PLOOP_EXIT_FSYNC, "cannot sync the balloon file");
	close(fd);
out_close_root:
	close(root);
	return rc;
}

/*
 * In a child with a mount namespace of its own: nobody sees the mount, and it
 * goes away with the child whatever happens.
 */
static int create_in_namespace(const char *partition, const char *dir)
{
	int rc;

	if (unshare(CLONE_NEWNS))
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot make a mount namespace");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot make the mounts private");
	/* noinit_itable: nothing must go on in the background when we are done */
	if (mount(partition, dir, "ext4", MS_NOSUID | MS_NODEV | MS_NOEXEC, "noinit_itable"))
		return ploop_fail_errno(PLOOP_EXIT_MOUNT, "cannot mount the new filesystem of %s",
					partition);
	rc = create_file(dir);
	if (umount(dir) && !rc)
		rc = ploop_fail_errno(PLOOP_EXIT_UMOUNT, "cannot unmount the new filesystem of %s",
				      partition);
	return rc;
}

static int run_child(const char *partition, const char *dir)
{
	int status, rc;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot make a child process");
	if (!pid) {
		ploop_cancel_release_child();
		rc = create_in_namespace(partition, dir);
		fflush(NULL);
		_exit(rc);
	}
	rc = ploop_process_wait(pid, &status);
	return rc ? rc : status;
}

/**
 * ploop_balloon_make() - create the empty balloon file in a new filesystem
 * @partition: node of the partition, not mounted
 *
 * Return: 0 or an exit code.
 */
int ploop_balloon_make(const char *partition)
{
	const char *tmp = getenv("TMPDIR");
	char dir[PATH_MAX];
	int rc;

	snprintf(dir, sizeof(dir), "%s/ploop-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return ploop_fail_errno(PLOOP_EXIT_MKDIR, "cannot make the directory %s", dir);
	rc = run_child(partition, dir);
	if (rmdir(dir))
		ploop_note("cannot remove the directory %s: %s", dir, strerror(errno));
	return rc;
}

/**
 * ploop_balloon_take_option() - take balloon_ino=N out of mount options
 * @options: the options, allocated; changed in place; set to NULL when nothing is left
 * @ino: out: N, or 0 without such an option
 *
 * OpenVZ's ext4 had this option; stock kernels refuse it, so it ends here.
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_balloon_take_option(char **options, uint64_t *ino)
{
	size_t len = 0;
	char *value, *end;

	*ino = 0;
	if (!*options || mnt_optstr_get_option(*options, INO_OPTION, &value, &len))
		return 0;
	if (!len || !isdigit((unsigned char)*value))
		goto bad_value;
	*ino = strtoull(value, &end, DECIMAL);
	if (end != value + len || !*ino)
		goto bad_value;
	mnt_optstr_remove_option(options, INO_OPTION);
	if (*options && !**options) {
		free(*options);
		*options = NULL;
	}
	return 0;

bad_value:
	return ploop_fail(PLOOP_EXIT_PARAM, "-o %s: " INO_OPTION " needs an inode number",
			  *options);
}
