/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The partition table of a new disk.
 */
#ifndef PLOOP_GPT_H
#define PLOOP_GPT_H

#include <stdint.h>

int ploop_gpt_make(const char *disk, uint32_t cluster_sectors, uint64_t sectors);
uint64_t ploop_gpt_partition_sectors(uint32_t cluster_sectors, uint64_t sectors);

#endif /* PLOOP_GPT_H */
