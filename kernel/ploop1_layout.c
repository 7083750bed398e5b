// SPDX-License-Identifier: GPL-2.0-only
/*
 * Geometry of ploop1 images and the checks of everything read from one. Pure:
 * no I/O, no allocation, so that KUnit can feed it anything.
 */
#include "ploop1_layout.h"

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/ploop.h>
#include <linux/string.h>
#include <kunit/visibility.h>

#define SECTOR_BITS	9

static int parse_version(const struct ploop1_header *hdr)
{
	if (!memcmp(hdr->signature, PLOOP1_SIGNATURE_V1, sizeof(hdr->signature)))
		return 1;
	if (!memcmp(hdr->signature, PLOOP1_SIGNATURE_V2, sizeof(hdr->signature)))
		return 2;
	return 0;
}

static const char *check_cluster_size(u32 sectors)
{
	if (!is_power_of_2(sectors) || sectors < 1U << PLOOP_CLUSTER_LOG_MIN ||
	    sectors > 1U << PLOOP_CLUSTER_LOG_MAX)
		return "cluster size is not a power of two from 64 to 131072 sectors";
	return NULL;
}

static const char *check_sizes(const struct ploop1_header *hdr,
			       const struct ploop1_layout *l)
{
	u64 size_mask = (1ULL << l->cluster_log) - 1;

	if (!l->clusters)
		return "disk size is 0";
	if (l->size & size_mask)
		return "disk size is not a multiple of the cluster size";
	if (l->size >> l->cluster_log != l->clusters)
		return "disk size and number of index entries disagree";
	if (l->version == 1 && le64_to_cpu(hdr->size) >> 32)
		return "disk size is over the limit of version 1";
	return NULL;
}

static const char *check_index_area(const struct ploop1_header *hdr,
				    const struct ploop1_layout *l, u64 file_size)
{
	u32 first = le32_to_cpu(hdr->first_block_offset);
	u64 cluster = 1ULL << (l->cluster_log + SECTOR_BITS);
	u64 need = sizeof(*hdr) + (u64)l->clusters * sizeof(__le32);

	if (first & ((1U << l->cluster_log) - 1))
		return "first block offset is not a multiple of the cluster size";
	if ((u64)first << SECTOR_BITS < need)
		return "first block offset is inside the index";
	if (file_size & (cluster - 1))
		return "file size is not a multiple of the cluster size";
	if ((u64)first << SECTOR_BITS > file_size)
		return "file is shorter than its index";
	return NULL;
}

/**
 * ploop1_layout_parse() - check a header
 * @hdr: header as read from the file, untrusted
 * @file_size: size of the file, bytes
 * @l: out: what the header says; valid when 0 is returned
 * @why: out: what is wrong, when an error is returned
 *
 * Context: any.
 * Return: 0, or -EINVAL: not a ploop1 image, or fields that contradict each
 * other or the size of the file.
 */
int ploop1_layout_parse(const struct ploop1_header *hdr, u64 file_size,
			struct ploop1_layout *l, const char **why)
{
	u32 in_use = le32_to_cpu(hdr->in_use);

	l->version = parse_version(hdr);
	*why = "signature is not that of a ploop1 image";
	if (!l->version)
		return -EINVAL;
	*why = "image type is unknown";
	if (le32_to_cpu(hdr->type) != PLOOP1_TYPE)
		return -EINVAL;
	*why = check_cluster_size(le32_to_cpu(hdr->cluster_sectors));
	if (*why)
		return -EINVAL;
	l->cluster_log = ilog2(le32_to_cpu(hdr->cluster_sectors));
	l->in_use = in_use != PLOOP1_CLOSED && in_use != PLOOP1_CLOSED_EXT;
	l->clusters = le32_to_cpu(hdr->clusters);
	l->size = le64_to_cpu(hdr->size);
	*why = check_sizes(hdr, l);
	if (*why)
		return -EINVAL;
	*why = check_index_area(hdr, l, file_size);
	if (*why)
		return -EINVAL;
	l->index_clusters = le32_to_cpu(hdr->first_block_offset) >> l->cluster_log;
	l->file_clusters = file_size >> (l->cluster_log + SECTOR_BITS);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop1_layout_parse);

/**
 * ploop1_max_iblk() - the last cluster of a file that an entry can name
 * @l: layout of the image
 *
 * Version 1 stores the offset in sectors in 32 bits. The last value is left
 * out in both versions, so that the number of clusters fits as well.
 *
 * Return: cluster number.
 */
u32 ploop1_max_iblk(const struct ploop1_layout *l)
{
	if (l->version == 1)
		return (U32_MAX >> l->cluster_log) - 1;
	return U32_MAX - 1;
}
EXPORT_SYMBOL_IF_KUNIT(ploop1_max_iblk);

/**
 * ploop1_entry_check() - check an entry of the index
 * @l: layout of the image
 * @raw: the entry as stored, host byte order, not 0
 * @iblk: out: cluster of the file it points to
 * @why: out: what is wrong, when an error is returned
 *
 * Context: any.
 * Return: 0 or -EUCLEAN.
 */
int ploop1_entry_check(const struct ploop1_layout *l, u32 raw, u32 *iblk,
		       const char **why)
{
	*why = "is not aligned to a cluster";
	if (l->version == 1 && raw & ((1U << l->cluster_log) - 1))
		return -EUCLEAN;
	*iblk = l->version == 1 ? raw >> l->cluster_log : raw;
	*why = "points into the index area";
	if (*iblk < l->index_clusters)
		return -EUCLEAN;
	*why = "points beyond the end of the file";
	if (*iblk >= l->file_clusters || *iblk > ploop1_max_iblk(l))
		return -EUCLEAN;
	*why = NULL;
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop1_entry_check);

/**
 * ploop1_entry_make() - what the index stores for a cluster of the file
 * @l: layout of the image
 * @iblk: the cluster, at most ploop1_max_iblk()
 *
 * Return: the entry, host byte order.
 */
u32 ploop1_entry_make(const struct ploop1_layout *l, u32 iblk)
{
	return l->version == 1 ? iblk << l->cluster_log : iblk;
}
EXPORT_SYMBOL_IF_KUNIT(ploop1_entry_make);

/**
 * ploop1_layout_grow() - how an image looks when it has become larger
 * @old: its layout
 * @size: new size, sectors
 * @l: out: its new layout; valid when 0 is returned
 *
 * Context: any.
 * Return: 0; -EINVAL: @size is not a multiple of the cluster size, or smaller;
 * -EFBIG: more than the format can hold when every cluster is in use.
 */
int ploop1_layout_grow(const struct ploop1_layout *old, u64 size,
		       struct ploop1_layout *l)
{
	unsigned int cluster_bits = old->cluster_log + SECTOR_BITS;
	u64 clusters = size >> old->cluster_log;
	u64 bytes = sizeof(struct ploop1_header) + clusters * sizeof(__le32);
	u64 index = (bytes + (1ULL << cluster_bits) - 1) >> cluster_bits;

	*l = *old;
	if (size < old->size || size & ((1ULL << old->cluster_log) - 1))
		return -EINVAL;
	/* An image may have more room for its index than it needs. */
	index = max_t(u64, index, old->index_clusters);
	if (clusters > U32_MAX || index + clusters > (u64)ploop1_max_iblk(old) + 1)
		return -EFBIG;
	if (old->version == 1 && size > U32_MAX)
		return -EFBIG;
	l->size = size;
	l->clusters = clusters;
	l->index_clusters = index;
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop1_layout_grow);

/*
 * Geometry of cylinders, heads and sectors, for tools that look at it. Between
 * 504 MiB and 8 GiB disks have 16 heads of 63 sectors; else the sectors of a
 * track are the first of a list that divides the size, and so are the heads.
 */
static void make_chs(u64 size, u32 *heads, u32 *cylinders)
{
	static const u8 tracks[] = { 63, 32, 16, 8 }, sides[] = { 16, 8, 4, 2 };
	unsigned int t, h;
	u32 rem;
	u64 rest;

	if (size > 1032192 && size < 16777216) {
		*heads = 16;
		*cylinders = div_u64(size, 16 * 63);
		return;
	}
	*heads = 1;
	*cylinders = min_t(u64, size, U32_MAX);
	for (t = 0; t < ARRAY_SIZE(tracks); t++) {
		rest = div_u64_rem(size, tracks[t], &rem);
		if (!rem)
			break;
	}
	if (t == ARRAY_SIZE(tracks))
		return;
	for (h = 0; h < ARRAY_SIZE(sides); h++) {
		if (rest & (sides[h] - 1))
			continue;
		*heads = sides[h];
		*cylinders = min_t(u64, div_u64(rest, sides[h]), U32_MAX);
		return;
	}
}

/**
 * ploop1_layout_store() - put what changes with the size into a header
 * @l: the layout
 * @hdr: the header of the image
 *
 * Context: any.
 */
void ploop1_layout_store(const struct ploop1_layout *l, struct ploop1_header *hdr)
{
	u32 heads, cylinders;

	make_chs(l->size, &heads, &cylinders);
	hdr->heads = cpu_to_le32(heads);
	hdr->cylinders = cpu_to_le32(cylinders);
	hdr->clusters = cpu_to_le32(l->clusters);
	hdr->size = cpu_to_le64(l->size);
	hdr->first_block_offset = cpu_to_le32(l->index_clusters << l->cluster_log);
}
EXPORT_SYMBOL_IF_KUNIT(ploop1_layout_store);
