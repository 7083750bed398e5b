// SPDX-License-Identifier: GPL-2.0-only
#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/ploop.h>

#include "report.h"

#define SIZE_UNITS "kmgt"

/* log2 of the sectors of a unit letter, or -1 */
static int unit_shift(char letter)
{
	static const char units[] = SIZE_UNITS;
	const char *unit;

	if (letter == '\0')
		return -1;
	unit = strchr(units, tolower((unsigned char)letter));
	if (!unit)
		return -1;
	return 10 * (int)(unit - units + 1) - PLOOP_SECTOR_SHIFT;
}

/**
 * ploop_size_parse_any() - read a size that may be 0
 * @what: the argument's name for messages, as "-s"
 * @arg: a number and at most one letter of kmgt; without letter it counts sectors
 * @sectors: out: the size in sectors
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_size_parse_any(const char *what, const char *arg, uint64_t *sectors)
{
	unsigned long long number;
	int shift = 0;
	char *end;

	if (!isdigit((unsigned char)arg[0]))
		goto junk;
	errno = 0;
	number = strtoull(arg, &end, 0);
	if (errno == ERANGE)
		goto too_big;
	if (*end) {
		shift = unit_shift(*end);
		if (shift < 0 || end[1])
			goto junk;
	}
	if (number > (UINT64_MAX >> PLOOP_SECTOR_SHIFT) >> shift)
		goto too_big;
	*sectors = (uint64_t)number << shift;
	return 0;

junk:
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "%s %s: not a size; give a number of sectors, or a number with k, m, g or t",
			  what, arg);
too_big:
	return ploop_fail(PLOOP_EXIT_PARAM, "%s %s: the size is too big", what, arg);
}

/**
 * ploop_size_parse() - read a size that must not be 0
 * @what: as for ploop_size_parse_any()
 * @arg: the text
 * @sectors: out: the size in sectors
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_size_parse(const char *what, const char *arg, uint64_t *sectors)
{
	int rc;

	rc = ploop_size_parse_any(what, arg, sectors);
	if (!rc && !*sectors)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s %s: the size must not be 0", what, arg);
	return rc;
}

/**
 * ploop_bytes_parse() - read a number of bytes, with at most one letter of kmgt
 * @what: the argument's name for messages, as "--limit-rate"
 * @arg: the text
 * @bytes: out: the number, not zero
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_bytes_parse(const char *what, const char *arg, uint64_t *bytes)
{
	unsigned long long number;
	int shift = 0;
	char *end;

	errno = 0;
	number = isdigit((unsigned char)arg[0]) ? strtoull(arg, &end, 0) : 0;
	if (number && *end) {
		shift = unit_shift(*end++);
		shift = shift < 0 ? -1 : shift + PLOOP_SECTOR_SHIFT;
	}
	if (!number || errno || shift < 0 || *end || number > UINT64_MAX >> shift)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s %s: give a number of bytes, or a number with k, m, g or t",
				  what, arg);
	*bytes = (uint64_t)number << shift;
	return 0;
}

/**
 * ploop_cluster_parse() - read a cluster size
 * @what: the argument's name for messages, as "-b"
 * @arg: the text, as for ploop_size_parse()
 * @sectors: out: the cluster size in sectors
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_cluster_parse(const char *what, const char *arg, uint32_t *sectors)
{
	const uint64_t min = 1u << PLOOP_CLUSTER_LOG_MIN;
	const uint64_t max = 1u << PLOOP_CLUSTER_LOG_MAX;
	uint64_t value;
	int rc;

	rc = ploop_size_parse(what, arg, &value);
	if (rc)
		return rc;
	if (value < min || value > max || (value & (value - 1)))
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s %s: the cluster size must be a power of two from %" PRIu64
				  " to %" PRIu64 " sectors (32k to 64m)",
				  what, arg, min, max);
	*sectors = (uint32_t)value;
	return 0;
}

/**
 * ploop_size_format() - write a size for people
 * @text: room for the result
 * @bytes: the size
 *
 * Return: @text, as "512", "32K", "1G" or "1.5G".
 */
const char *ploop_size_format(char text[PLOOP_SIZE_TEXT], uint64_t bytes)
{
	static const char units[] = "BKMGTPE";
	const uint64_t kilo = 1024;
	uint64_t unit = 1;
	int i = 0;

	while (bytes / unit >= kilo) {
		unit *= kilo;
		i++;
	}
	if (i == 0)
		snprintf(text, PLOOP_SIZE_TEXT, "%" PRIu64, bytes);
	else if (bytes % unit == 0)
		snprintf(text, PLOOP_SIZE_TEXT, "%" PRIu64 "%c", bytes / unit, units[i]);
	else
		snprintf(text, PLOOP_SIZE_TEXT, "%.1f%c", (double)bytes / (double)unit, units[i]);
	return text;
}

/**
 * ploop_cluster_log() - log2 of a cluster size
 * @sectors: a power of two
 *
 * Return: the logarithm, what the driver calls cluster_log.
 */
unsigned int ploop_cluster_log(uint32_t sectors)
{
	return (unsigned int)__builtin_ctz(sectors);
}
