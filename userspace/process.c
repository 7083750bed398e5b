// SPDX-License-Identifier: GPL-2.0-only
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cancel.h"
#include "report.h"

/* where mkfs.ext4 and modprobe are, also when the user's PATH lacks it */
#define SYSTEM_PATH	"/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
/* output is copied in pieces of this many bytes */
#define OUTPUT_PIECE	4096

extern char **environ;

/**
 * ploop_process_set_path() - make sure that system programs are found
 */
void ploop_process_set_path(void)
{
	const char *old = getenv("PATH");
	char *path;

	if (asprintf(&path, "%s%s" SYSTEM_PATH, old ? old : "", old ? ":" : "") < 0)
		return;
	setenv("PATH", path, 1);
	free(path);
}

/**
 * ploop_process_wait() - wait for a child; a signal to us ends it
 * @pid: the child
 * @status: out: its exit status, or 128 + signal
 *
 * Return: 0 or an exit code.
 */
int ploop_process_wait(pid_t pid, int *status)
{
	struct pollfd pfd[2] = { { .events = POLLIN }, { .events = POLLIN } };
	bool killed_by_us = false;
	const int signal_base = 128;
	int wstatus;

	pfd[0].fd = (int)syscall(SYS_pidfd_open, pid, 0);
	pfd[1].fd = ploop_cancel_fd();
	if (pfd[0].fd >= 0) {
		while (poll(pfd, 2, -1) < 0 && errno == EINTR)
			;
		if (!pfd[0].revents) {
			killed_by_us = true;
			kill(pid, SIGTERM);
		}
		close(pfd[0].fd);
	}
	while (waitpid(pid, &wstatus, 0) < 0)
		if (errno != EINTR)
			return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot wait for a child");
	if (killed_by_us)
		return ploop_fail_cancelled();
	*status = WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : signal_base + WTERMSIG(wstatus);
	return 0;
}

/* stdin from nowhere; all output to a file */
static int child_files(posix_spawn_file_actions_t *files, int output)
{
	int rc;

	rc = posix_spawn_file_actions_init(files);
	if (rc)
		return rc;
	rc = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(files, output, STDERR_FILENO);
	if (rc)
		posix_spawn_file_actions_destroy(files);
	return rc;
}

static int child_signals(posix_spawnattr_t *attr)
{
	sigset_t none;
	int rc;

	rc = posix_spawnattr_init(attr);
	if (rc)
		return rc;
	sigemptyset(&none);
	rc = posix_spawnattr_setsigmask(attr, &none);
	/* which some of our commands ignore, and no other program expects that */
	sigaddset(&none, SIGPIPE);
	if (!rc)
		rc = posix_spawnattr_setsigdefault(attr, &none);
	if (!rc)
		rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (rc)
		posix_spawnattr_destroy(attr);
	return rc;
}

/* returns 0 or an errno */
static int spawn(char *const argv[], int output, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int error;

	error = child_files(&files, output);
	if (error)
		return error;
	error = child_signals(&attr);
	if (error)
		goto out_destroy_files;
	error = posix_spawnp(pid, argv[0], &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
out_destroy_files:
	posix_spawn_file_actions_destroy(&files);
	return error;
}

static void show_output(int output)
{
	char piece[OUTPUT_PIECE];
	off_t offset = 0;
	ssize_t n;

	while ((n = pread(output, piece, sizeof(piece), offset)) > 0) {
		fwrite(piece, 1, (size_t)n, stderr);
		offset += n;
	}
}

/**
 * ploop_process_run() - run a program to its end
 * @argv: its name, found by PATH, and arguments
 * @status: out: its exit status, or 128 + signal
 *
 * What it prints is shown on stderr when it fails, and not at all when it does
 * not. A signal to us ends the program too.
 *
 * Return: 0 when it ran, whatever its status, or an exit code.
 */
int ploop_process_run(char *const argv[], int *status)
{
	int output, error, rc;
	pid_t pid;

	if (ploop_cancelled())
		return ploop_fail_cancelled();
	output = memfd_create("output", MFD_CLOEXEC);
	if (output < 0)
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot keep the output of %s", argv[0]);
	error = spawn(argv, output, &pid);
	if (error)
		rc = ploop_fail(PLOOP_EXIT_SYSTEM, "cannot run %s: %s", argv[0], strerror(error));
	else
		rc = ploop_process_wait(pid, status);
	if (!rc && *status)
		show_output(output);
	close(output);
	return rc;
}
