// SPDX-License-Identifier: GPL-2.0-only
#include "crc32c.h"

#include <pthread.h>
#include <string.h>

/* the polynomial, lowest power first */
#define POLYNOMIAL	0x82f63b78u
#define WORD		8u

/* table[n][b]: what a byte b with n zero bytes behind it makes of the sum */
static uint32_t table[WORD][UINT8_MAX + 1];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make_table(void)
{
	for (uint32_t b = 0; b <= UINT8_MAX; b++) {
		uint32_t sum = b;

		for (int bit = 0; bit < 8; bit++)
			sum = sum >> 1 ^ (sum & 1 ? POLYNOMIAL : 0);
		table[0][b] = sum;
	}
	for (size_t n = 1; n < WORD; n++)
		for (size_t b = 0; b <= UINT8_MAX; b++)
			table[n][b] = table[n - 1][b] >> 8 ^ table[0][table[n - 1][b] & UINT8_MAX];
}

/**
 * ploop_crc32c() - sum of some data
 * @data: the data
 * @len: bytes
 *
 * Return: the sum.
 */
uint32_t ploop_crc32c(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint32_t sum = UINT32_MAX;

	pthread_once(&made, make_table);
	for (; len >= WORD; len -= WORD, p += WORD) {
		const uint32_t low = sum ^ (p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24);

		sum = table[7][low & UINT8_MAX] ^ table[6][low >> 8 & UINT8_MAX] ^
		      table[5][low >> 16 & UINT8_MAX] ^ table[4][low >> 24] ^
		      table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
	}
	for (; len; len--, p++)
		sum = sum >> 8 ^ table[0][(sum ^ *p) & UINT8_MAX];
	return ~sum;
}
