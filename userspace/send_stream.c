// SPDX-License-Identifier: GPL-2.0-only
#include "send_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cancel.h"
#include "crc32c.h"
#include "report.h"

/* our receiver answers HELLO at once; others never answer */
#define HELLO_MS	5000
/* how often to look for signals */
#define LOOK_MS		200
/* a pipe holds a piece, so that both ends have something to do */
#define PIPE_BYTES	(1 << 20)

/* a record with its packet, and what precedes the data after it */
struct head {
	struct ploop_packet packet;
	struct ploop_record record;
	struct ploop_packet data;
};

_Static_assert(sizeof(struct head) == 2 * sizeof(struct ploop_packet) + sizeof(struct ploop_record),
	       "head");

static int write_failed(struct ploop_send_stream *s)
{
	s->gone = errno == EPIPE || errno == ECONNRESET;
	if (s->gone && s->quiet)
		return PLOOP_EXIT_WRITE;
	if (s->gone)
		return ploop_fail(PLOOP_EXIT_WRITE,
				  "cannot write the stream: the receiver has ended; see what it says");
	return ploop_fail_errno(PLOOP_EXIT_WRITE, "cannot write the stream");
}

static int write_all(struct ploop_send_stream *s, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		const ssize_t n = write(s->fd, p, len);

		if (n < 0 && errno != EINTR)
			return write_failed(s);
		/* woken up because there is no need to go on */
		if (n < 0 && ploop_ring_status(&s->ring))
			return ploop_ring_status(&s->ring);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* with the data that it announces, if it does */
static int write_record(struct ploop_send_stream *s, struct ploop_record record, const void *data)
{
	struct head head = {
		.packet = { PLOOP_PACKET_MARKER, sizeof(head.record), 0 },
		.data = { PLOOP_PACKET_MARKER, (uint32_t)record.len, record.pos },
	};
	int rc;

	record.seq = s->seq++;
	if (data)
		record.data_crc = ploop_crc32c(data, record.len);
	ploop_record_seal(&record);
	head.record = record;
	rc = write_all(s, &head, data ? sizeof(head) : offsetof(struct head, data));
	if (!rc && data)
		rc = write_all(s, data, record.len);
	return rc;
}

static int write_hole(struct ploop_send_stream *s)
{
	const struct ploop_record record = {
		.type = PLOOP_RECORD_HOLE, .pos = s->hole_pos, .len = s->hole_len, .size = s->size,
	};

	if (!s->hole_len)
		return 0;
	s->hole_len = 0;
	return write_record(s, record, NULL);
}

static int write_slot(struct ploop_send_stream *s, const struct ploop_slot *slot)
{
	const struct ploop_packet end = { PLOOP_PACKET_MARKER, 0, 0 };
	struct ploop_record record = {
		.type = slot->type, .pos = slot->pos, .len = slot->len, .size = s->size,
	};
	int rc;

	if (slot->type == PLOOP_RECORD_HOLE && s->hole_len &&
	    s->hole_pos + s->hole_len == slot->pos) {
		s->hole_len += slot->len;
		return 0;
	}
	rc = write_hole(s);
	if (rc)
		return rc;
	switch (slot->type) {
	case PLOOP_RECORD_HOLE:
		s->hole_pos = slot->pos;
		s->hole_len = slot->len;
		return 0;
	case PLOOP_RECORD_HELLO:
		record.flags = s->answers ? PLOOP_HELLO_ANSWER : 0;
		return write_record(s, record, NULL);
	case PLOOP_RECORD_DATA:
		return write_record(s, record, slot->buf);
	case PLOOP_RECORD_END:
		record.size = slot->size;
		rc = write_record(s, record, slot->buf);
		return rc ? rc : write_all(s, &end, sizeof(end));
	}
	return write_record(s, record, NULL);
}

static void *write_stream(void *data)
{
	struct ploop_send_stream *s = data;
	struct ploop_slot *slot;
	int rc;

	while ((slot = ploop_ring_drain(&s->ring))) {
		rc = write_slot(s, slot);
		if (rc)
			ploop_ring_fail(&s->ring, rc);
		ploop_ring_drained(&s->ring);
	}
	return NULL;
}

/**
 * ploop_send_stream_begin() - begin a stream
 * @s: out: the stream; ended by ploop_send_stream_end() when this succeeds
 * @fd: where it goes
 * @local: the receiver is in this process
 * @size: of the file, as far as known
 *
 * Return: 0 or an exit code.
 */
int ploop_send_stream_begin(struct ploop_send_stream *s, int fd, bool local, uint64_t size)
{
	struct stat st;
	int rc;

	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->quiet = local;
	s->answers = !local && !fstat(fd, &st) && S_ISSOCK(st.st_mode);
	s->size = size;
	/* which fails when it is no pipe, or may not be larger */
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	rc = ploop_ring_start(&s->ring, true, write_stream, s);
	if (rc)
		return rc;
	/* a failure of the ring is seen by what comes next */
	ploop_send_stream_put(s, PLOOP_RECORD_HELLO, 0, 0);
	return 0;
}

/**
 * ploop_send_stream_put() - send something without data
 * @s: the stream
 * @type: what it is
 * @pos: its place
 * @len: bytes there
 *
 * Return: 0 or an exit code.
 */
int ploop_send_stream_put(struct ploop_send_stream *s, enum ploop_record_type type, uint64_t pos,
			  uint64_t len)
{
	struct ploop_slot *slot = ploop_ring_fill(&s->ring);

	if (!slot)
		return ploop_ring_status(&s->ring);
	slot->type = type;
	slot->pos = pos;
	slot->len = len;
	ploop_ring_filled(&s->ring);
	return 0;
}

/* returns 1, or 0 when there is none in time, -1 when there will be none */
static int read_answer(const struct ploop_send_stream *s, struct ploop_packet *answer, int ms)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLIN };
	size_t got = 0;

	while (got < sizeof(*answer) && ms > 0 && !ploop_cancelled()) {
		const int ready = poll(&pfd, 1, LOOK_MS);
		ssize_t n;

		if (!ready)
			ms -= LOOK_MS;
		if (ready <= 0)
			continue;
		n = read(s->fd, (char *)answer + got, sizeof(*answer) - got);
		if (n <= 0)
			return -1;
		got += (size_t)n;
	}
	if (got < sizeof(*answer))
		return 0;
	return answer->marker == PLOOP_PACKET_MARKER ? 1 : -1;
}

static int read_answers(const struct ploop_send_stream *s)
{
	struct ploop_packet answer;
	int found = 0;

	if (read_answer(s, &answer, HELLO_MS) <= 0) {
		if (ploop_cancelled())
			return ploop_fail_cancelled();
		ploop_note("the receiver does not tell whether it has succeeded: see what it says");
		return 0;
	}
	while (!found && !ploop_cancelled())
		found = read_answer(s, &answer, HELLO_MS);
	if (!found)
		return ploop_fail_cancelled();
	if (found < 0)
		return ploop_fail(PLOOP_EXIT_PROTOCOL,
				  "the receiver ended before it had the copy: see what it says");
	if (answer.size)
		return ploop_fail(PLOOP_EXIT_PROTOCOL,
				  "the receiver failed with exit code %u: see what it says",
				  answer.size);
	return 0;
}

/**
 * ploop_send_stream_end() - end a stream
 * @s: the stream
 * @rc: 0 when all was sent, END too, or why it was not
 *
 * Return: @rc; or an exit code when the rest cannot be sent, or the receiver
 * says that it failed.
 */
int ploop_send_stream_end(struct ploop_send_stream *s, int rc)
{
	int end;

	if (rc == PLOOP_EXIT_CANCELLED)
		ploop_ring_fail(&s->ring, rc);
	if (rc)
		ploop_send_stream_put(s, PLOOP_RECORD_ABORT, 0, 0);
	ploop_ring_end(&s->ring);
	end = ploop_ring_join(&s->ring);
	if (!rc)
		rc = end;
	return rc || !s->answers ? rc : read_answers(s);
}
