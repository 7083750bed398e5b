// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backing.h"
#include "cancel.h"
#include "node.h"
#include "receive.h"
#include "report.h"
#include "send.h"
#include "size.h"

const char ploop_copy_usage[] =
	"Usage: ploop copy -s DEV -d FILE [-F COMMAND] [--limit-rate BYTES]\n"
	"       ploop copy -s DEV [-F COMMAND] [--limit-rate BYTES]\n"
	"       ploop copy -d FILE\n"
	"\n"
	"Copies the image on top of a device while the device is in use: what is written\n"
	"meanwhile is copied again. At last COMMAND ends all I/O, the filesystem on the\n"
	"device is frozen for a moment, and the rest is copied.\n"
	"\n"
	"With -s alone the data goes to the standard output, with -d alone it comes from\n"
	"the standard input: connect the two by a pipe or a socket, and check the exit\n"
	"status of both.\n"
	"\n"
	"  -s DEV      the device, as /dev/ploop0\n"
	"  -d FILE     the copy; it must not exist, and comes into being when it is whole\n"
	"  -F COMMAND  run by /bin/sh; when it fails, so does the copy\n"
	"  --limit-rate BYTES\n"
	"              bytes per second at most, until COMMAND is run; k, m, g and t work\n"
	"  -h          show this help\n";

struct copy_args {
	const char *source;
	const char *dest;
	const char *stop;
	uint64_t rate;
};

static int parse_option(int option, const char *value, struct copy_args *args)
{
	switch (option) {
	case 's':
		args->source = value;
		return 0;
	case 'd':
		args->dest = value;
		return 0;
	case 'F':
		args->stop = value;
		return 0;
	case 'R':
		return ploop_bytes_parse("--limit-rate", value, &args->rate);
	case 'h':
		return PLOOP_SHOW_HELP;
	}
	return PLOOP_SHOW_USAGE;
}

static int parse_args(int argc, char *argv[], struct copy_args *args)
{
	static const struct option longs[] = {
		{ "limit-rate", required_argument, NULL, 'R' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option, rc;

	*args = (struct copy_args){ 0 };
	while ((option = getopt_long(argc, argv, "s:d:F:h", longs, NULL)) != -1) {
		rc = parse_option(option, optarg, args);
		if (rc)
			return rc;
	}
	if (argc != optind || (!args->source && !args->dest))
		return PLOOP_SHOW_USAGE;
	return !args->source && (args->stop || args->rate) ? PLOOP_SHOW_USAGE : 0;
}

/* a file there would wait for the frozen device */
static int check_place(const char *path, int index, bool local)
{
	struct stat st;
	bool on;
	int rc;

	/* told before anybody is stopped; what counts is the receiver */
	if (local && !lstat(path, &st))
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s exists already; remove it or choose another name", path);
	rc = ploop_backing_dir_is_on(path, index, &on);
	if (!rc && on)
		rc = ploop_fail(PLOOP_EXIT_PARAM,
				"%s lies on a filesystem on the very device that is copied: choose a directory elsewhere",
				path);
	return rc;
}

/* data are for a pipe, a socket, or a file that keeps the stream */
static int check_stream(int fd, const char *name)
{
	struct stat st;

	if (fstat(fd, &st))
		return ploop_fail_errno(PLOOP_EXIT_PARAM, "%s", name);
	if (isatty(fd) || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISREG(st.st_mode)))
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is not a pipe, a socket or a file: connect it with the other `ploop copy`, or give both -s and -d",
				  name);
	return 0;
}

static int send_only(int index, const struct copy_args *args)
{
	const struct ploop_send_params params = {
		.index = index, .fd = STDOUT_FILENO, .stop = args->stop, .rate = args->rate,
	};
	char path[PATH_MAX] = "";
	bool gone;
	int rc;

	rc = check_stream(STDOUT_FILENO, "the standard output");
	if (rc)
		return rc;
	if (readlink("/proc/self/fd/1", path, sizeof(path) - 1) > 0 && path[0] == '/')
		rc = check_place(path, index, false);
	return rc ? rc : ploop_send(&params, &gone);
}

static int receive_only(const char *path)
{
	int rc;

	rc = check_stream(STDIN_FILENO, "the standard input");
	return rc ? rc : ploop_receive(STDIN_FILENO, path, false);
}

struct local_receiver {
	int fd;
	const char *path;
	int rc;
};

static void *receive_locally(void *data)
{
	struct local_receiver *r = data;

	r->rc = ploop_receive(r->fd, r->path, true);
	/* the sender sees that nobody reads */
	close(r->fd);
	return NULL;
}

static int copy_locally(int index, const struct copy_args *args)
{
	struct ploop_send_params params = {
		.index = index, .stop = args->stop, .rate = args->rate, .local = true,
	};
	struct local_receiver receiver = { .path = args->dest };
	pthread_t thread;
	bool gone = false;
	int fd[2];
	int rc;

	rc = check_place(args->dest, index, true);
	if (rc)
		return rc;
	if (pipe2(fd, O_CLOEXEC))
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot make a pipe");
	params.fd = fd[1];
	receiver.fd = fd[0];
	errno = pthread_create(&thread, NULL, receive_locally, &receiver);
	if (errno) {
		close(fd[0]);
		close(fd[1]);
		return ploop_fail_errno(PLOOP_EXIT_SYSTEM, "cannot make a thread");
	}
	rc = ploop_send(&params, &gone);
	close(fd[1]);
	pthread_join(thread, NULL);
	return rc && !gone ? rc : receiver.rc;
}

/**
 * ploop_cmd_copy() - ploop copy
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_copy(int argc, char *argv[])
{
	struct copy_args args;
	int index = -1;
	int rc;

	rc = parse_args(argc, argv, &args);
	if (!rc)
		rc = ploop_cancel_hold();
	if (!rc && args.source)
		rc = ploop_node_parse(args.source, &index);
	if (rc)
		return rc;
	/* a receiver that ends is an error of write() */
	signal(SIGPIPE, SIG_IGN);
	if (!args.source)
		return receive_only(args.dest);
	return args.dest ? copy_locally(index, &args) : send_only(index, &args);
}
