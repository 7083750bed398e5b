/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The stream of `ploop copy`: packets that are written to a file one after the
 * other, as OpenVZ ploop 1.x speaks it, in the byte order of the machine. The
 * end is a packet without data at 0.
 *
 * Our sender puts records between them, packets of 64 bytes at 0. A receiver
 * that does not know them writes them to the file, where the true header comes
 * last. One that does knows by the first packet, and requires them from then
 * on: a DATA record before each other packet, with the sum of its bytes; an END
 * record before the last one, which is the header. A hole is a HOLE record and
 * nothing else, since the file is new; zeros in the place of older data are sent
 * as data.
 *
 * A packet of 4 bytes, the first ones of the file, asks the receiver to make
 * durable what it has.
 *
 * Only where the stream is a socket is there a way back. HELLO asks for answers
 * with PLOOP_HELLO_ANSWER: an answer is a struct ploop_packet at 0 for HELLO,
 * and one at 1, with an exit code for its size, when all is over.
 */
#ifndef PLOOP_STREAM_H
#define PLOOP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** PLOOP_PACKET_MARKER: begin of a packet */
#define PLOOP_PACKET_MARKER	0x4cc0ac3du
/** PLOOP_PACKET_MAX: no sender has more data in a packet: the largest cluster */
#define PLOOP_PACKET_MAX	(64u << 20)
/** PLOOP_PACKET_SYNC: size of a packet that means: make it durable */
#define PLOOP_PACKET_SYNC	4u

/** PLOOP_RECORD_MAGIC: begin of a record */
#define PLOOP_RECORD_MAGIC	"ploopRec"
/** PLOOP_RECORD_VERSION: of the extension */
#define PLOOP_RECORD_VERSION	1u
/** PLOOP_HELLO_ANSWER: flag of HELLO: the sender listens */
#define PLOOP_HELLO_ANSWER	1u

/**
 * struct ploop_packet - what precedes the data of a packet
 * @marker: PLOOP_PACKET_MARKER
 * @size: bytes of data
 * @pos: their place in the file
 */
struct ploop_packet {
	uint32_t marker;
	uint32_t size;
	uint64_t pos;
};

/**
 * enum ploop_record_type - what a record says
 * @PLOOP_RECORD_HELLO: first packet: records follow
 * @PLOOP_RECORD_DATA: the next packet has @len bytes for @pos, with @data_crc
 * @PLOOP_RECORD_HOLE: there are zeros, @len bytes at @pos
 * @PLOOP_RECORD_END: as DATA, and what follows is the header and the end
 * @PLOOP_RECORD_ABORT: the sender has failed; it has told its own user why
 */
enum ploop_record_type {
	PLOOP_RECORD_HELLO	= 1,
	PLOOP_RECORD_DATA	= 2,
	PLOOP_RECORD_HOLE	= 3,
	PLOOP_RECORD_END	= 4,
	PLOOP_RECORD_ABORT	= 5,
};

/**
 * struct ploop_record - data of a packet that is a record
 * @magic: PLOOP_RECORD_MAGIC
 * @version: PLOOP_RECORD_VERSION
 * @type: enum ploop_record_type
 * @seq: number of the record, from 0
 * @pos: place in the file
 * @len: bytes there
 * @size: size of the file as far as known, nothing lies beyond; END: final size
 * @flags: HELLO: PLOOP_HELLO_*
 * @data_crc: DATA, END: CRC32C of the data of the next packet
 * @pad: 0
 * @crc: CRC32C of what is above
 */
struct ploop_record {
	char magic[8];
	uint32_t version;
	uint32_t type;
	uint64_t seq;
	uint64_t pos;
	uint64_t len;
	uint64_t size;
	uint32_t flags;
	uint32_t data_crc;
	uint32_t pad;
	uint32_t crc;
};

void ploop_record_seal(struct ploop_record *record);
bool ploop_record_has_magic(const void *data, size_t len);
bool ploop_record_is_sound(const struct ploop_record *record, uint64_t seq);
bool ploop_is_zero(const char *data, size_t len);

#endif /* PLOOP_STREAM_H */
