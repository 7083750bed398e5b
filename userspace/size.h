/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sizes on the command line and in output, and cluster sizes.
 */
#ifndef PLOOP_SIZE_H
#define PLOOP_SIZE_H

#include <stddef.h>
#include <stdint.h>

/** PLOOP_SECTOR_SHIFT: log2 of the bytes of a sector */
#define PLOOP_SECTOR_SHIFT	9
/** PLOOP_SIZE_TEXT: bytes that hold any text of ploop_size_format() */
#define PLOOP_SIZE_TEXT		32

int ploop_size_parse_any(const char *what, const char *arg, uint64_t *sectors);
int ploop_size_parse(const char *what, const char *arg, uint64_t *sectors);
int ploop_bytes_parse(const char *what, const char *arg, uint64_t *bytes);
int ploop_cluster_parse(const char *what, const char *arg, uint32_t *sectors);
const char *ploop_size_format(char text[PLOOP_SIZE_TEXT], uint64_t bytes);
unsigned int ploop_cluster_log(uint32_t sectors);

/**
 * ploop_round_up() - round up to a multiple
 * @value: what to round
 * @step: a power of two
 *
 * Return: the smallest multiple of @step that is not below @value.
 */
static inline uint64_t ploop_round_up(uint64_t value, uint64_t step)
{
	return (value + step - 1) & ~(step - 1);
}

#endif /* PLOOP_SIZE_H */
