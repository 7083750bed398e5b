// SPDX-License-Identifier: GPL-2.0-only
/*
 * Streams that are wrong, against the receiver of `ploop copy`.
 *
 * An input is a byte that says how to read the rest: the stream itself, or steps
 * that a stream is made of, so that sums and numbers are right unless a step
 * says otherwise.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "file.h"
#include "quiet.h"
#include "receive.h"
#include "stream.h"

/* of a stream, so that all inputs are quick and fit into a socket */
#define MAX_STREAM	(192u << 10)
#define MAX_DATA	(32u << 10)

/* bits of the first byte */
#define HOW_RAW		1u
#define HOW_SOCKET	2u

/* bits of a step's flags */
#define STEP_BAD_SUM	1u
#define STEP_BAD_SEQ	2u
#define STEP_FAR	4u
#define STEP_NO_DATA	8u
#define STEP_ZEROS	16u
#define STEP_SYNC	32u

/*
 * type: enum ploop_record_type; 0: data without a record; larger: the end
 * flags: STEP_*
 * len: of data
 * pos: in KiB; with STEP_FAR near the end of what a file can be
 * size: of the file, in KiB
 */
struct step {
	uint8_t type;
	uint8_t flags;
	uint16_t len;
	uint32_t pos;
	uint32_t size;
};

struct stream {
	char buf[MAX_STREAM];
	size_t len;
	uint64_t seq;
};

static void add(struct stream *stream, const void *data, size_t len)
{
	if (len > sizeof(stream->buf) - stream->len)
		len = sizeof(stream->buf) - stream->len;
	if (len)
		memcpy(stream->buf + stream->len, data, len);
	stream->len += len;
}

static void add_packet(struct stream *stream, uint64_t pos, const void *data, uint32_t len)
{
	const struct ploop_packet packet = { PLOOP_PACKET_MARKER, len, pos };

	add(stream, &packet, sizeof(packet));
	add(stream, data, len);
}

static void add_record(struct stream *stream, const struct step *step, uint64_t pos, uint32_t crc)
{
	struct ploop_record record = {
		.type = step->type,
		.seq = stream->seq,
		.pos = pos,
		.len = step->len,
		.size = (uint64_t)step->size << 10,
		.flags = step->type == PLOOP_RECORD_HELLO ? PLOOP_HELLO_ANSWER : 0,
		.data_crc = crc,
	};

	stream->seq++;
	if (step->flags & STEP_BAD_SEQ)
		record.seq++;
	ploop_record_seal(&record);
	if (step->flags & STEP_BAD_SUM)
		record.crc ^= 1;
	add_packet(stream, 0, &record, sizeof(record));
}

static void take_step(struct stream *stream, struct step *step)
{
	uint64_t pos = (uint64_t)step->pos << 10;
	static char data[MAX_DATA];
	const char *from = data;

	step->len %= MAX_DATA + 1;
	if (step->flags & STEP_SYNC)
		step->len = PLOOP_PACKET_SYNC;
	if (step->flags & STEP_FAR)
		pos = INT64_MAX - pos;
	memset(data, step->flags & STEP_ZEROS ? 0 : step->len | 1, sizeof(data));
	if (step->type > PLOOP_RECORD_ABORT + 1) {
		add_packet(stream, 0, from, 0);
		return;
	}
	if (step->type)
		add_record(stream, step, pos, ploop_crc32c(data, step->len));
	if (!step->type || step->type == PLOOP_RECORD_DATA || step->type == PLOOP_RECORD_END)
		if (!(step->flags & STEP_NO_DATA) && step->len)
			add_packet(stream, pos, from, step->len);
}

static void make_stream(struct stream *stream, uint8_t how, const uint8_t *data, size_t size)
{
	struct step step;

	stream->len = 0;
	stream->seq = 0;
	if (how & HOW_RAW) {
		add(stream, data, size);
		return;
	}
	for (; size >= sizeof(step); data += sizeof(step), size -= sizeof(step)) {
		memcpy(&step, data, sizeof(step));
		take_step(stream, &step);
	}
}

/* a file, or a socket whose other end was closed by the sender */
static int open_stream(const struct stream *stream, bool socket)
{
	struct fuzz_path path = fuzz_path('s');
	int room = MAX_STREAM * 2;
	int fds[2];

	if (!socket) {
		fds[0] = open(path.text, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		fuzz_must(fds[0] >= 0, "open");
		fuzz_must(!ploop_file_write(fds[0], stream->buf, stream->len, 0), "write");
		return fds[0];
	}
	fuzz_must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), "socket");
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	/* a short one is a stream that is cut */
	if (send(fds[1], stream->buf, stream->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		fuzz_must(!stream->len || fds[1] >= 0, "send");
	close(fds[1]);
	return fds[0];
}

/**
 * LLVMFuzzerTestOneInput() - what libFuzzer calls
 * @data: the input
 * @size: bytes
 *
 * Return: 0.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_path path = fuzz_path('r');
	static struct stream stream;
	struct stat st;
	int fd, rc;

	if (!size)
		return 0;
	make_stream(&stream, data[0], data + 1, size - 1);
	fd = open_stream(&stream, data[0] & HOW_SOCKET);
	rc = ploop_receive(fd, path.text, false);
	close(fd);
	fuzz_must(!stat(path.text, &st) == !rc, "there is a file if, and only if, all went well");
	unlink(path.text);
	return 0;
}

/**
 * LLVMFuzzerCustomMutator() - what libFuzzer calls to change an input
 * @data: the input
 * @size: bytes
 * @max_size: bytes that it may have
 * @seed: of this change
 *
 * Return: bytes of the changed input.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	const size_t steps = size / sizeof(struct step);
	uint8_t *step;

	srand(seed);
	if (!steps || rand() % 2)
		return LLVMFuzzerMutate(data, size, max_size);
	step = data + 1 + (size_t)rand() % steps * sizeof(struct step);
	if (step + sizeof(struct step) > data + size)
		return LLVMFuzzerMutate(data, size, max_size);
	step[0] = (uint8_t)(rand() % 8);
	if (rand() % 2)
		step[1] = (uint8_t)(1 << rand() % 6);
	return size;
}
