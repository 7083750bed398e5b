// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a file of a stream. A thread reads packets; they are written as they
 * come. The file gets its name when it is whole and durable, and not before.
 */
#include "receive.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy.h"
#include "crc32c.h"
#include "file.h"
#include "image.h"
#include "lock.h"
#include "report.h"
#include "ring.h"
#include "stream.h"

/* zeros are left out in units of this many bytes */
#define UNIT		(64u << 10)

/**
 * struct receiver - a file that comes
 * @fd: the stream
 * @local: the sender is in this process, and says itself what is wrong with it
 * @ring: packets
 * @img: the file
 * @file: the same
 * @started: a packet has come
 * @records: the sender sends records
 * @answers: it listens to answers
 * @ended: the end has come
 * @seq: number of the next record
 * @next: the record that announces the next packet
 * @announced: there is one
 * @size: of the file, as far as known
 * @covered: the stream has told about everything below
 * @written: the file holds zeros from here on
 */
struct receiver {
	int fd;
	bool local;
	struct ploop_ring ring;
	struct ploop_image img;
	struct ploop_copy_file file;
	bool started;
	bool records;
	bool answers;
	bool ended;
	uint64_t seq;
	struct ploop_record next;
	bool announced;
	uint64_t size;
	uint64_t covered;
	uint64_t written;
};

static int bad_stream(const struct receiver *r, const char *what)
{
	return ploop_fail(PLOOP_EXIT_PROTOCOL,
			  "the stream for %s %s: nothing was kept of it; begin the copy again",
			  r->img.path, what);
}

static int cut_stream(const struct receiver *r)
{
	if (r->local)
		return PLOOP_EXIT_READ;
	return ploop_fail(PLOOP_EXIT_READ,
			  "the stream ends before %s is complete: nothing was kept of it; see what the sender says, and begin the copy again",
			  r->img.path);
}

/* --- the thread that reads */

static int read_all(struct receiver *r, void *data, size_t len)
{
	char *p = data;

	while (len) {
		const ssize_t n = read(r->fd, p, len);

		if (n < 0 && errno != EINTR)
			return ploop_fail_errno(PLOOP_EXIT_READ, "cannot read the stream for %s",
						r->img.path);
		/* woken up because there is no need to go on */
		if (n < 0 && ploop_ring_status(&r->ring))
			return ploop_ring_status(&r->ring);
		if (n == 0)
			return cut_stream(r);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int read_packet(struct receiver *r, struct ploop_slot *slot)
{
	struct ploop_packet packet;
	int rc;

	rc = read_all(r, &packet, sizeof(packet));
	if (rc)
		return rc;
	if (packet.marker != PLOOP_PACKET_MARKER)
		return bad_stream(r, "is not one of `ploop copy`, or is damaged");
	if (packet.size > PLOOP_PACKET_MAX || packet.pos > (uint64_t)INT64_MAX - packet.size ||
	    (!packet.size && packet.pos))
		return bad_stream(r, "is damaged: a packet is out of range");
	rc = ploop_slot_fit(slot, packet.size);
	if (!rc && packet.size)
		rc = read_all(r, slot->buf, packet.size);
	slot->pos = packet.pos;
	slot->len = packet.size;
	return rc;
}

static void *read_stream(void *data)
{
	struct receiver *r = data;
	struct ploop_slot *slot;
	bool last = false;
	int rc;

	while (!last && (slot = ploop_ring_fill(&r->ring))) {
		rc = read_packet(r, slot);
		if (rc) {
			ploop_ring_fail(&r->ring, rc);
			break;
		}
		last = !slot->len;
		ploop_ring_filled(&r->ring);
	}
	ploop_ring_end(&r->ring);
	return NULL;
}

/* --- the file */

static int write_failed(const struct receiver *r, uint64_t pos)
{
	return ploop_fail_errno(PLOOP_EXIT_WRITE,
				"cannot write %s at byte %" PRIu64 ", nothing was kept of it",
				r->img.path, pos);
}

static int write_data(struct receiver *r, const char *buf, uint64_t pos, size_t len)
{
	if (ploop_copy_file_write(&r->file, buf, len, pos))
		return write_failed(r, pos);
	if (r->written < pos + len)
		r->written = pos + len;
	return 0;
}

/* what an earlier packet wrote goes away; buf holds the zeros */
static int write_zeros(struct receiver *r, const char *buf, uint64_t pos, size_t len)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (pos >= r->written)
		return 0;
	if (len > r->written - pos)
		len = (size_t)(r->written - pos);
	if (!fallocate(r->img.fd, punch, (off_t)pos, (off_t)len))
		return 0;
	return write_data(r, buf, pos, len);
}

static size_t unit(size_t at, size_t len)
{
	return len - at < UNIT ? len - at : UNIT;
}

/* sparse, as far as it is worth it */
static int write_packet(struct receiver *r, const char *buf, uint64_t pos, size_t len)
{
	size_t at = 0, end;
	int rc = 0;

	while (at < len && !rc) {
		const bool zero = ploop_is_zero(buf + at, unit(at, len));

		end = at + unit(at, len);
		while (end < len && ploop_is_zero(buf + end, unit(end, len)) == zero)
			end += unit(end, len);
		if (zero)
			rc = write_zeros(r, buf + at, pos + at, end - at);
		else
			rc = write_data(r, buf + at, pos + at, end - at);
		at = end;
	}
	return rc;
}

/* --- what the packets say */

/* what this side thinks of the copy; who does not listen is none of our business */
static void answer(const struct receiver *r, uint64_t pos, int rc)
{
	const struct ploop_packet packet = { PLOOP_PACKET_MARKER, (uint32_t)rc, pos };

	if (r->answers && send(r->fd, &packet, sizeof(packet), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		ploop_note("the sender does not want to know");
}

static bool is_socket(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISSOCK(st.st_mode);
}

static int take_hello(struct receiver *r, const struct ploop_record *record)
{
	if (record->version != PLOOP_RECORD_VERSION)
		return ploop_fail(PLOOP_EXIT_PROTOCOL,
				  "the sender speaks version %u of our extension of the stream, and not %u: use the same version of ploop on both sides",
				  record->version, PLOOP_RECORD_VERSION);
	r->records = true;
	r->answers = record->flags & PLOOP_HELLO_ANSWER && is_socket(r->fd);
	answer(r, 0, 0);
	return 0;
}

/* all below a place was told about: without this, what got lost reads as zeros */
static int cover(struct receiver *r, uint64_t pos, uint64_t len)
{
	if (pos > r->covered)
		return bad_stream(r, "is damaged: something is missing");
	if (r->covered < pos + len)
		r->covered = pos + len;
	return 0;
}

static int take_record(struct receiver *r, const struct ploop_record *record)
{
	const uint64_t size = record->size;

	if (r->announced || r->ended || !ploop_record_is_sound(record, r->seq))
		return bad_stream(r, "is damaged");
	r->seq++;
	if (record->type == PLOOP_RECORD_HELLO && record->seq == 0)
		return take_hello(r, record);
	if (size > INT64_MAX || record->len > size || record->pos > size - record->len)
		return bad_stream(r, "is damaged: data is beyond the size of the file");
	switch (record->type) {
	case PLOOP_RECORD_DATA:
		r->next = *record;
		r->announced = true;
		return 0;
	case PLOOP_RECORD_HOLE:
		/* only where nothing was before */
		if (record->pos != r->covered)
			return bad_stream(r, "is damaged: something is missing");
		return cover(r, record->pos, record->len);
	case PLOOP_RECORD_END:
		r->next = *record;
		r->announced = true;
		r->ended = true;
		r->size = size;
		return cover(r, size, 0);
	case PLOOP_RECORD_ABORT:
		return cut_stream(r);
	}
	return bad_stream(r, "has records that are not known here");
}

static int take_end(struct receiver *r)
{
	if (!r->started)
		return bad_stream(r, "is empty");
	if (r->records && (!r->ended || r->announced))
		return cut_stream(r);
	r->ended = true;
	return 0;
}

static int take_announced(struct receiver *r, const struct ploop_slot *slot)
{
	const struct ploop_record *next = &r->next;

	if (!r->announced || next->pos != slot->pos || next->len != slot->len ||
	    next->data_crc != ploop_crc32c(slot->buf, slot->len))
		return bad_stream(r, "is damaged: data has another sum than it should");
	r->announced = false;
	return cover(r, slot->pos, slot->len);
}

static int take_packet(struct receiver *r, const struct ploop_slot *slot)
{
	const bool first = !r->started;
	int rc = 0;

	if (!slot->len)
		return take_end(r);
	r->started = true;
	if (!slot->pos && ploop_record_has_magic(slot->buf, slot->len)) {
		if (!first && !r->records)
			return bad_stream(r, "is damaged at its beginning");
		return take_record(r, (const struct ploop_record *)slot->buf);
	}
	if (r->records)
		rc = take_announced(r, slot);
	else if (r->size < slot->pos + slot->len)
		r->size = slot->pos + slot->len;
	if (rc)
		return rc;
	if (slot->len == PLOOP_PACKET_SYNC)
		return ploop_image_sync(&r->img);
	return write_packet(r, slot->buf, slot->pos, slot->len);
}

static int take_stream(struct receiver *r)
{
	struct ploop_slot *slot;
	int rc = 0;
	int end;

	if (ploop_ring_start(&r->ring, !r->local, read_stream, r))
		return PLOOP_EXIT_SYSTEM;
	while (!rc && (slot = ploop_ring_drain(&r->ring))) {
		rc = take_packet(r, slot);
		ploop_ring_drained(&r->ring);
	}
	if (rc)
		ploop_ring_fail(&r->ring, rc);
	end = ploop_ring_join(&r->ring);
	return rc ? rc : end;
}

static int fill_image(struct receiver *r)
{
	int rc;

	rc = ploop_lock_image(&r->img, true);
	if (rc)
		return rc;
	ploop_copy_file_open(&r->file, &r->img);
	rc = take_stream(r);
	if (!rc && ftruncate(r->img.fd, (off_t)r->size))
		rc = ploop_fail_errno(PLOOP_EXIT_TRUNCATE, "cannot make %s %" PRIu64 " bytes long",
				      r->img.path, r->size);
	ploop_copy_file_close(&r->file);
	return rc ? rc : ploop_image_publish(&r->img);
}

/**
 * ploop_receive() - make an image of a stream
 * @fd: the stream
 * @path: the image; it must not exist
 * @local: the sender is in this process, and says itself what is wrong with it
 *
 * Return: 0, or an exit code and no file was left.
 */
int ploop_receive(int fd, const char *path, bool local)
{
	struct receiver r = {
		.fd = fd, .local = local, .img = { .fd = -1, .writable = true },
	};
	int rc;

	r.img.path = strdup(path);
	if (!r.img.path)
		return ploop_fail_memory();
	rc = ploop_image_begin(&r.img);
	if (rc && r.img.fd < 0)
		goto out_close_image;
	if (!rc)
		rc = fill_image(&r);
	if (rc)
		ploop_image_unlink(&r.img);
	answer(&r, 1, rc);
out_close_image:
	ploop_image_close(&r.img);
	return rc;
}
