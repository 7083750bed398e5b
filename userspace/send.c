// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies the file of a device's top while the device is in use. The driver
 * notes what is written behind the position up to which the file was read; that
 * is read once more, again and again, until little is left. Then I/O is stopped,
 * and the rest is read. The header comes last: until then the copy has none.
 */
#include "send.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cancel.h"
#include "copy.h"
#include "image.h"
#include "image_index.h"
#include "maintenance.h"
#include "mounts.h"
#include "process.h"
#include "progress.h"
#include "report.h"
#include "send_stream.h"
#include "size.h"

/* read and sent at once */
#define PIECE		(1u << 20)
/* so much of the header's sector is sent last */
#define HEADER_BYTES	512u
/* the end of a file is told to receivers that know no records by its last data */
#define TAIL_BYTES	4096u
/* passes over what was written meanwhile */
#define MAX_PASSES	10
/* another one is in vain when the last found more than so many eighths of the one before */
#define MOST_EIGHTHS	7
/* when nobody writes any more there is one; the driver may clean up behind it */
#define MAX_LAST_PASSES	3
#define MS_PER_S	1000
/* the longest sleep without a look at the stream */
#define PAUSE_MS	200

/**
 * struct sender - a device that is copied
 * @params: how
 * @session: the device
 * @img: file of its top
 * @file: the same
 * @stream: where it goes
 * @progress: in bytes
 * @position: what lies below was sent, and the driver notes writes there
 * @end: end of the file, as far as known
 * @tracking: the driver notes writes
 * @frozen: filesystems are frozen
 * @sent: bytes of data
 * @begin_ms: when it began
 * @stop_ms: when I/O was stopped; 0 before
 * @still_ms: how long the device stood still
 * @sent_running: bytes of data sent before that
 */
struct sender {
	const struct ploop_send_params *params;
	struct ploop_maintenance_session session;
	struct ploop_image img;
	struct ploop_copy_file file;
	struct ploop_send_stream stream;
	struct ploop_progress progress;
	uint64_t position;
	uint64_t end;
	bool tracking;
	bool frozen;
	uint64_t sent;
	long long begin_ms;
	long long stop_ms;
	long long still_ms;
	uint64_t sent_running;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int call_failed(const struct sender *s, const char *what)
{
	return ploop_fail_errno(PLOOP_EXIT_IOCTL, "%s: cannot %s; dmesg may say why",
				s->session.info.node, what);
}

static void find_end_of_file(struct sender *s)
{
	struct stat st;

	if (!fstat(s->img.fd, &st))
		s->img.file_size = (uint64_t)st.st_size;
}

/* the driver cuts off what is free at the end of the file */
static bool was_cut(struct sender *s, uint64_t end)
{
	find_end_of_file(s);
	return s->img.file_size < end;
}

/*
 * Beyond the end of the file there are zeros. It may have grown since that was
 * found, by what the driver does not note because it was not read yet.
 */
static int read_source(struct sender *s, char *buf, uint64_t pos, size_t len)
{
	size_t there;

	if (pos + len > s->img.file_size)
		find_end_of_file(s);
	do {
		there = 0;
		if (pos < s->img.file_size)
			there = (size_t)min_u64(len, s->img.file_size - pos);
		memset(buf + there, 0, len - there);
		if (!there || !ploop_copy_file_read(&s->file, buf, there, pos))
			return 0;
	} while (was_cut(s, pos + there));
	return ploop_fail_errno(PLOOP_EXIT_READ, "cannot read %s at byte %" PRIu64, s->img.path,
				pos);
}

static bool is_hole(const struct sender *s, uint64_t pos, uint64_t len)
{
	const off_t data = lseek(s->img.fd, (off_t)pos, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= pos + len;
}

/* no more bytes per second than the user wants, as long as nobody waits for us */
static void keep_rate(struct sender *s)
{
	const uint64_t rate = s->params->rate;
	struct pollfd pfd = { .fd = ploop_cancel_fd(), .events = POLLIN };

	while (rate && !s->stop_ms && !ploop_cancelled() && !ploop_ring_status(&s->stream.ring)) {
		const uint64_t due = s->sent / rate * MS_PER_S + s->sent % rate * MS_PER_S / rate;
		const uint64_t now = (uint64_t)(ploop_clock_ms() - s->begin_ms);

		if (now >= due)
			return;
		poll(&pfd, 1, (int)min_u64(due - now, PAUSE_MS));
	}
}

/* fresh: the receiver has nothing there yet, so that zeros need not be sent */
static int send_piece(struct sender *s, uint64_t pos, size_t len, bool fresh)
{
	struct ploop_slot *slot;
	int rc;

	if (fresh && is_hole(s, pos, len))
		return ploop_send_stream_put(&s->stream, PLOOP_RECORD_HOLE, pos, len);
	slot = ploop_ring_fill(&s->stream.ring);
	if (!slot)
		return ploop_ring_status(&s->stream.ring);
	rc = ploop_slot_fit(slot, PIECE);
	if (!rc)
		rc = read_source(s, slot->buf, pos, len);
	if (rc)
		return rc;
	slot->type = PLOOP_RECORD_DATA;
	if (fresh && ploop_is_zero(slot->buf, len))
		slot->type = PLOOP_RECORD_HOLE;
	slot->pos = pos;
	slot->len = len;
	if (slot->type == PLOOP_RECORD_DATA)
		s->sent += len;
	ploop_ring_filled(&s->stream.ring);
	keep_rate(s);
	return 0;
}

/* the position is moved before the data are read: what is written meanwhile is noted */
static int move_position(struct sender *s, uint64_t to)
{
	if (to <= s->position)
		return 0;
	if (ioctl(s->session.dev.fd, PLOOP_IOC_TRACK_SETPOS, &to))
		return call_failed(s, "track writes");
	s->position = to;
	return 0;
}

/* the file grows meanwhile; a raw image may end within a cluster */
static void found_end(struct sender *s, uint64_t end)
{
	find_end_of_file(s);
	if (s->img.format == PLOOP_FMT_RAW)
		end = min_u64(end, s->img.file_size);
	if (end > s->end)
		s->end = end;
	s->stream.size = s->end;
}

static int send_range(struct sender *s, uint64_t pos, uint64_t end)
{
	int rc = 0;

	found_end(s, end);
	ploop_progress_set(&s->progress, s->progress.done, s->progress.done + (end - pos));
	while (pos < end && !rc) {
		const uint64_t next = min_u64((pos | (PIECE - 1)) + 1, end);
		const bool fresh = pos >= s->position;

		rc = move_position(s, next);
		if (!rc && pos < s->end)
			rc = send_piece(s, pos, (size_t)(min_u64(next, s->end) - pos), fresh);
		ploop_progress_add(&s->progress, next - pos);
		pos = next;
	}
	return rc;
}

/* returns 0 with an empty extent when there is nothing now */
static int next_extent(struct sender *s, struct ploop_track_extent *ext)
{
	*ext = (struct ploop_track_extent){ 0 };
	if (!ioctl(s->session.dev.fd, PLOOP_IOC_TRACK_READ, ext))
		return 0;
	if (errno == EAGAIN)
		return 0;
	if (errno == ECONNABORTED)
		return ploop_fail(PLOOP_EXIT_IOCTL,
				  "%s: the driver could not note all writes, or was told to stop noting them: begin the copy again",
				  s->session.info.node);
	return call_failed(s, "track writes");
}

/*
 * What was written since it was read. Ends when there is nothing; before the
 * stop also when a pass found hardly less than the pass before it.
 */
static int send_written(struct sender *s)
{
	uint64_t bytes = 0, before = s->end, last = 0;
	struct ploop_track_extent ext;
	int passes = 1;
	int rc;

	for (;;) {
		rc = next_extent(s, &ext);
		if (rc || ext.start == ext.end)
			return rc;
		if (ext.start < last) {
			const bool vain = bytes / MOST_EIGHTHS > before / 8 || passes >= MAX_PASSES;

			if (s->stop_ms && passes >= MAX_LAST_PASSES)
				return ploop_fail(PLOOP_EXIT_LOOP,
						  "%s is still written to: stop that with -F COMMAND",
						  s->session.info.node);
			if (!s->stop_ms && vain)
				return send_range(s, ext.start, ext.end);
			before = bytes;
			bytes = 0;
			passes++;
		}
		rc = send_range(s, ext.start, ext.end);
		if (rc)
			return rc;
		bytes += ext.end - ext.start;
		last = ext.end;
	}
}

/* the filesystems write now what they would have to when they are frozen */
static void sync_filesystems(const struct sender *s)
{
	struct ploop_mount_list list;

	if (ploop_mounts_list(s->session.info.index, &list))
		return;
	for (size_t i = 0; i < list.n; i++) {
		const int fd = open(list.mount[i].target, O_RDONLY | O_CLOEXEC | O_DIRECTORY);

		if (fd < 0)
			continue;
		syncfs(fd);
		close(fd);
	}
	ploop_mounts_free(&list);
}

/* asks the receiver to do now what it would have to at the end */
static int send_sync(struct sender *s)
{
	struct ploop_slot *slot = ploop_ring_fill(&s->stream.ring);
	int rc;

	if (!slot)
		return ploop_ring_status(&s->stream.ring);
	rc = ploop_slot_fit(slot, PIECE);
	if (!rc)
		rc = read_source(s, slot->buf, 0, PLOOP_PACKET_SYNC);
	if (rc)
		return rc;
	slot->type = PLOOP_RECORD_DATA;
	slot->pos = 0;
	slot->len = PLOOP_PACKET_SYNC;
	ploop_ring_filled(&s->stream.ring);
	return 0;
}

static int send_running(struct sender *s)
{
	int rc;

	rc = send_range(s, 0, s->end);
	if (!rc)
		rc = send_written(s);
	if (!rc)
		rc = send_sync(s);
	if (rc)
		return rc;
	sync_filesystems(s);
	return send_written(s);
}

static int run_stop(const struct sender *s)
{
	char *argv[4] = { (char *)"/bin/sh", (char *)"-c", (char *)s->params->stop, NULL };
	int status, rc;

	if (!s->params->stop)
		return 0;
	ploop_progress_clear();
	rc = ploop_process_run(argv, &status);
	if (rc || !status)
		return rc;
	return ploop_fail(PLOOP_EXIT_SYSTEM,
			  "-F %s ended with status %d: the copy is given up, %s goes on",
			  s->params->stop, status, s->session.info.node);
}

static int freeze(struct sender *s)
{
	if (ioctl(s->session.dev.fd, PLOOP_IOC_FREEZE)) {
		if (errno == EBUSY)
			return ploop_fail(PLOOP_EXIT_BUSY,
					  "%s: its filesystem is frozen already: leave that to this command",
					  s->session.info.node);
		return call_failed(s, "freeze its filesystem");
	}
	s->frozen = true;
	if (ioctl(s->session.dev.fd, PLOOP_IOC_SYNC))
		return call_failed(s, "sync its image");
	return 0;
}

static int note_last(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	const uint64_t end = (uint64_t)(entry / ploop_index_unit(img)) + 1;
	uint64_t *last = data;

	(void)cluster;
	if (*last < end)
		*last = end;
	return 0;
}

/* what is free at the end of the file is cut when the device is detached */
static int find_size(struct sender *s, uint64_t *size)
{
	uint64_t clusters;
	int rc;

	*size = s->end;
	if (s->img.format == PLOOP_FMT_RAW)
		return 0;
	rc = ploop_image_load(&s->img, s->img.format);
	clusters = s->img.first;
	if (!rc)
		rc = ploop_index_walk(&s->img, note_last, &clusters);
	if (!rc)
		*size = min_u64(s->end, clusters * ploop_image_cluster_bytes(&s->img));
	return rc;
}

static int stop_tracking(struct sender *s)
{
	if (ioctl(s->session.dev.fd, PLOOP_IOC_TRACK_STOP)) {
		if (errno == EBUSY)
			return ploop_fail(PLOOP_EXIT_LOOP,
					  "%s is still written to: stop that with -F COMMAND",
					  s->session.info.node);
		return call_failed(s, "end tracking");
	}
	s->tracking = false;
	return 0;
}

/*
 * What comes last makes the copy an image, one that nobody uses. It is read
 * before the end of tracking: that is the last chance to find out that something
 * was written after all. From then on others may grow the image, say.
 * size: of the file
 */
static int send_header(struct sender *s, uint64_t size)
{
	struct ploop_slot *slot = ploop_ring_fill(&s->stream.ring);
	struct ploop1_header *header;
	int rc;

	if (!slot)
		return ploop_ring_status(&s->stream.ring);
	rc = ploop_slot_fit(slot, PIECE);
	if (!rc)
		rc = read_source(s, slot->buf, 0, HEADER_BYTES);
	if (!rc)
		rc = stop_tracking(s);
	if (rc)
		return rc;
	header = (struct ploop1_header *)slot->buf;
	if (s->img.format == PLOOP_FMT_PLOOP1)
		header->in_use = htole32(PLOOP1_CLOSED);
	slot->type = PLOOP_RECORD_END;
	slot->pos = 0;
	slot->len = HEADER_BYTES;
	slot->size = size;
	s->sent += HEADER_BYTES;
	ploop_ring_filled(&s->stream.ring);
	return 0;
}

static void thaw(struct sender *s)
{
	if (s->frozen && ioctl(s->session.dev.fd, PLOOP_IOC_THAW))
		call_failed(s, "thaw its filesystem");
	s->frozen = false;
	s->still_ms = ploop_clock_ms() - s->stop_ms;
}

/* nobody writes any more */
static int send_rest(struct sender *s)
{
	uint64_t size;
	int rc;

	rc = send_written(s);
	if (!rc)
		rc = find_size(s, &size);
	if (!rc && size > TAIL_BYTES)
		rc = send_piece(s, size - TAIL_BYTES, TAIL_BYTES, false);
	return rc ? rc : send_header(s, size);
}

static int send_all(struct sender *s)
{
	int rc;

	rc = send_running(s);
	if (rc)
		return rc;
	s->stop_ms = ploop_clock_ms();
	s->sent_running = s->sent;
	rc = run_stop(s);
	if (!rc)
		rc = freeze(s);
	if (!rc)
		rc = send_rest(s);
	return rc;
}

static int begin_tracking(struct sender *s)
{
	struct ploop_track_extent all;

	if (ioctl(s->session.dev.fd, PLOOP_IOC_TRACK_INIT, &all)) {
		if (errno == EBUSY)
			return ploop_fail(PLOOP_EXIT_BUSY,
					  "%s is busy with other work on its images: see `ploop info %s`",
					  s->session.info.node, s->session.info.node);
		return call_failed(s, "track writes");
	}
	s->tracking = true;
	s->end = 0;
	found_end(s, all.end);
	return 0;
}

static void summarize(const struct sender *s)
{
	const long long ms = ploop_clock_ms() - s->begin_ms;
	char all[PLOOP_SIZE_TEXT], rest[PLOOP_SIZE_TEXT];

	ploop_progress_clear();
	fprintf(s->params->local ? stdout : stderr,
		"%s: sent %s in %lld.%01lld s, %s of it after the stop, which took %lld ms\n",
		s->img.path, ploop_size_format(all, s->sent), ms / MS_PER_S,
		ms % MS_PER_S / (MS_PER_S / 10), ploop_size_format(rest, s->sent - s->sent_running),
		s->still_ms);
}

static int send_image(struct sender *s)
{
	int rc;

	rc = begin_tracking(s);
	if (rc)
		return rc;
	rc = ploop_send_stream_begin(&s->stream, s->params->fd, s->params->local, s->end);
	if (rc)
		goto out_stop_tracking;
	ploop_progress_begin(&s->progress, "copying", s->end);
	ploop_progress_show_rate(&s->progress);
	s->begin_ms = ploop_clock_ms();
	rc = send_all(s);
	thaw(s);
out_stop_tracking:
	if (s->tracking && ioctl(s->session.dev.fd, PLOOP_IOC_TRACK_ABORT))
		call_failed(s, "end tracking");
	if (s->begin_ms)
		rc = ploop_send_stream_end(&s->stream, rc);
	ploop_progress_clear();
	return rc;
}

/* the file of the top, and no other that has its name by now */
static int open_image(struct sender *s)
{
	const struct ploop_info *info = &s->session.info;
	const struct ploop_delta *top = &info->deltas[info->n_deltas - 1];
	int rc;

	rc = ploop_image_open(&s->img, top->image, false);
	if (rc)
		return rc;
	s->img.format = strcmp(top->format, "raw") ? PLOOP_FMT_PLOOP1 : PLOOP_FMT_RAW;
	if (ploop_sysfs_find_delta(info, s->img.dev, s->img.ino) != top) {
		ploop_image_close(&s->img);
		return ploop_fail(PLOOP_EXIT_OPEN,
				  "%s is not the image that %s has open: it was moved or replaced; give it back its name",
				  top->image, info->node);
	}
	ploop_copy_file_open(&s->file, &s->img);
	return 0;
}

/**
 * ploop_send() - send the image on top of a running device
 * @params: which, and where to
 * @receiver_gone: out: it failed because nobody receives
 *
 * Return: 0 or an exit code; the device is as before either way.
 */
int ploop_send(const struct ploop_send_params *params, bool *receiver_gone)
{
	struct sender s = { .params = params };
	int rc;

	rc = ploop_maintenance_begin(&s.session, params->index);
	if (rc)
		return rc;
	rc = open_image(&s);
	if (rc)
		goto out_end_session;
	rc = send_image(&s);
	*receiver_gone = s.stream.gone;
	if (!rc)
		summarize(&s);
	ploop_copy_file_close(&s.file);
	ploop_image_close(&s.img);
out_end_session:
	ploop_maintenance_end(&s.session);
	return rc;
}
