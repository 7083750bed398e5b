// SPDX-License-Identifier: GPL-2.0-only
/*
 * The plain stream of `ploop copy`, made and read by hand from the facts about
 * the format, as OpenVZ ploop 1.x does it; and a TCP server, because not every
 * machine has one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
	"Usage: stream make FILE CHUNK [OPTION...] >STREAM    the header comes last; options:\n"
	"                twice     all is sent once more, after other bytes in its place\n"
	"                sync      packets that ask for fsync\n"
	"                endless   the end is missing\n"
	"                far       a packet beyond what any file can have\n"
	"                huge      a packet of 1 GiB\n"
	"       stream parse FILE <STREAM                     write it to the new FILE\n"
	"       stream serve PORT COMMAND [ARG...]            a connection as standard input\n"
	"Numbers may end in k, m, g or t.\n";

#include "util.h"

#define MARKER		0x4cc0ac3du
#define HEADER		512u
#define SYNC		4u

struct packet {
	uint32_t marker;
	uint32_t size;
	uint64_t pos;
};

static void put(const void *data, size_t len)
{
	if (fwrite(data, 1, len, stdout) != len)
		die("stdout");
}

static void put_packet(uint64_t pos, const void *data, uint32_t size)
{
	const struct packet packet = { MARKER, size, pos };

	put(&packet, sizeof(packet));
	put(data, size);
}

static bool has_option(int argc, char *argv[], const char *name)
{
	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return false;
}

static void put_file(int fd, char *buf, size_t chunk, bool other)
{
	uint64_t pos = 0;
	ssize_t n;

	while ((n = pread(fd, buf, chunk, pos)) > 0) {
		if (other)
			memset(buf, 0x5a, n);
		put_packet(pos, buf, n);
		pos += n;
	}
}

static int make(const char *path, size_t chunk, int argc, char *argv[])
{
	char *buf = aligned(chunk < HEADER ? HEADER : chunk);
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die(path);
	if (has_option(argc, argv, "twice"))
		put_file(fd, buf, chunk, true);
	put_file(fd, buf, chunk, false);
	if (has_option(argc, argv, "sync"))
		put_packet(0, "junk", SYNC);
	if (has_option(argc, argv, "far"))
		put_packet(INT64_MAX - 1, buf, HEADER);
	if (has_option(argc, argv, "huge"))
		put(&(struct packet){ MARKER, 1u << 30, 0 }, sizeof(struct packet));
	if (pread(fd, buf, HEADER, 0) != HEADER)
		die(path);
	put_packet(0, buf, HEADER);
	if (!has_option(argc, argv, "endless"))
		put_packet(0, NULL, 0);
	return fflush(stdout) ? 1 : 0;
}

/* what an old receiver does: everything is written */
static int parse(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	struct packet packet;
	char *buf = NULL;

	if (fd < 0)
		die(path);
	while (fread(&packet, sizeof(packet), 1, stdin) == 1) {
		if (packet.marker != MARKER) {
			fprintf(stderr, "bad marker %x\n", packet.marker);
			return 1;
		}
		if (!packet.size && !packet.pos)
			return 0;
		buf = realloc(buf, packet.size);
		if (!buf || fread(buf, packet.size, 1, stdin) != 1)
			break;
		if (pwrite(fd, buf, packet.size, packet.pos) != packet.size)
			die(path);
	}
	fputs("no end\n", stderr);
	return 1;
}

static int serve(int port, char *argv[])
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = INADDR_ANY,
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, peer;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		die("listen");
	peer = accept(fd, NULL, NULL);
	if (peer < 0 || dup2(peer, STDIN_FILENO) < 0)
		die("accept");
	close(peer);
	execvp(argv[0], argv);
	die(argv[0]);
}

int main(int argc, char *argv[])
{
	if (argc < 3)
		bad_usage();
	if (!strcmp(argv[1], "make") && argc > 3)
		return make(argv[2], number(argv[3]), argc - 4, argv + 4);
	if (!strcmp(argv[1], "parse"))
		return parse(argv[2]);
	if (!strcmp(argv[1], "serve") && argc > 3)
		return serve(number(argv[2]), argv + 3);
	bad_usage();
}
