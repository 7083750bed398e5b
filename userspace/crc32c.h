/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CRC32C (Castagnoli), as iSCSI, ext4 and btrfs use it.
 */
#ifndef PLOOP_CRC32C_H
#define PLOOP_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t ploop_crc32c(const void *data, size_t len);

#endif /* PLOOP_CRC32C_H */
