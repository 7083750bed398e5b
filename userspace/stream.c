// SPDX-License-Identifier: GPL-2.0-only
#include "stream.h"

#include <string.h>

#include "crc32c.h"

_Static_assert(sizeof(struct ploop_packet) == 16, "ploop_packet");
_Static_assert(sizeof(struct ploop_record) == 64, "ploop_record");

/**
 * ploop_record_seal() - fill in what all records have
 * @record: a record; all else is filled in
 */
void ploop_record_seal(struct ploop_record *record)
{
	memcpy(record->magic, PLOOP_RECORD_MAGIC, sizeof(record->magic));
	record->version = PLOOP_RECORD_VERSION;
	record->pad = 0;
	record->crc = ploop_crc32c(record, offsetof(struct ploop_record, crc));
}

/**
 * ploop_record_has_magic() - look whether data are meant to be a record
 * @data: data of a packet at 0
 * @len: bytes
 *
 * Return: true when they are; it may be damaged.
 */
bool ploop_record_has_magic(const void *data, size_t len)
{
	const struct ploop_record *record = data;

	return len == sizeof(*record) &&
	       !memcmp(record->magic, PLOOP_RECORD_MAGIC, sizeof(record->magic));
}

/**
 * ploop_record_is_sound() - look whether this is the record that the sender sent
 * @record: the record
 * @seq: number of records before it
 *
 * Return: false when it was changed, or others were lost or came twice.
 */
bool ploop_record_is_sound(const struct ploop_record *record, uint64_t seq)
{
	return ploop_record_has_magic(record, sizeof(*record)) && record->seq == seq &&
	       record->crc == ploop_crc32c(record, offsetof(struct ploop_record, crc));
}

/**
 * ploop_is_zero() - look whether all is zero
 * @data: the data
 * @len: bytes, at least one
 *
 * Return: true when it is.
 */
bool ploop_is_zero(const char *data, size_t len)
{
	/* each byte is like the one before it, and the first one is 0 */
	return !data[0] && !memcmp(data, data + 1, len - 1);
}
