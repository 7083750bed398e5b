/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a ring of buffers to a stream.
 */
#ifndef PLOOP_SEND_STREAM_H
#define PLOOP_SEND_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring.h"
#include "stream.h"

/**
 * struct ploop_send_stream - a stream that is written by a thread
 * @ring: buffers; their type is enum ploop_record_type
 * @fd: where the stream goes
 * @quiet: somebody else says why the receiver is gone
 * @answers: there is a way back
 * @size: of the file, as far as known [atomic]
 * @seq: number of the next record
 * @hole_pos: a hole that was not sent yet: it may become longer
 * @hole_len: its bytes
 * @gone: nobody reads the stream any more [after the thread]
 */
struct ploop_send_stream {
	struct ploop_ring ring;
	int fd;
	bool quiet;
	bool answers;
	atomic_ullong size;
	uint64_t seq;
	uint64_t hole_pos;
	uint64_t hole_len;
	bool gone;
};

int ploop_send_stream_begin(struct ploop_send_stream *s, int fd, bool local, uint64_t size);
int ploop_send_stream_put(struct ploop_send_stream *s, enum ploop_record_type type, uint64_t pos,
			  uint64_t len);
int ploop_send_stream_end(struct ploop_send_stream *s, int rc);

#endif /* PLOOP_SEND_STREAM_H */
