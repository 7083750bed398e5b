/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * On-disk format of ploop1 images (also known as Parallels "HDD" images).
 */
#ifndef _UAPI_LINUX_PLOOP1_IMAGE_H
#define _UAPI_LINUX_PLOOP1_IMAGE_H

#include <linux/types.h>

/**
 * DOC: ploop1 image file
 *
 * All fields are little-endian. The file is an array of clusters. Clusters
 * 0..N-1, N = first_block_offset / cluster size, hold the header (64 bytes)
 * followed by the index (BAT): one __le32 per cluster of the virtual disk.
 * Counted in __le32 words from byte 0 of the file, the entry of virtual
 * cluster c is word c + PLOOP1_INDEX_SKIP.
 *
 * An entry of 0 means: not in this delta. Else version 1 stores the file
 * offset in sectors, version 2 the number of the file's cluster.
 */

/** PLOOP1_SIGNATURE_V1: 16 bytes, no NUL */
#define PLOOP1_SIGNATURE_V1	"WithoutFreeSpace"
/** PLOOP1_SIGNATURE_V2: 16 bytes, no NUL */
#define PLOOP1_SIGNATURE_V2	"WithouFreSpacExt"
/** PLOOP1_TYPE: the only value of ploop1_header.type */
#define PLOOP1_TYPE		2
/** PLOOP1_IN_USE: ploop1_header.in_use while attached for writing, or after a crash */
#define PLOOP1_IN_USE		0x746f6e59u
/** PLOOP1_CLOSED: ploop1_header.in_use after a clean close */
#define PLOOP1_CLOSED		0u
/** PLOOP1_CLOSED_EXT: closed cleanly, with a format extension (vz7) */
#define PLOOP1_CLOSED_EXT	0x312e3276u
/** PLOOP1_FLAG_EMPTY: ploop1_header.flags: no cluster is allocated */
#define PLOOP1_FLAG_EMPTY	1u
/** PLOOP1_INDEX_SKIP: __le32 words the header takes before the index */
#define PLOOP1_INDEX_SKIP	16u
/** PLOOP1_PAGE: the index is written in units of this many bytes */
#define PLOOP1_PAGE		4096u

/**
 * struct ploop1_header - first 64 bytes of an image
 * @signature: PLOOP1_SIGNATURE_V1 or PLOOP1_SIGNATURE_V2
 * @type: PLOOP1_TYPE
 * @heads: CHS geometry, cosmetic
 * @cylinders: CHS geometry, cosmetic
 * @cluster_sectors: sectors per cluster, a power of two, 64..131072
 * @clusters: clusters of the virtual disk = entries of the index
 * @size: size of the virtual disk in sectors; version 1 uses the low half
 *        only and leaves the high half 0
 * @in_use: PLOOP1_IN_USE, PLOOP1_CLOSED or PLOOP1_CLOSED_EXT
 * @first_block_offset: sectors; where the first data cluster may be; a
 *        multiple of the cluster size
 * @flags: PLOOP1_FLAG_*
 * @extension: sector of the format extension; means something only with
 *        PLOOP1_CLOSED_EXT
 */
struct ploop1_header {
	__u8   signature[16];
	__le32 type;
	__le32 heads;
	__le32 cylinders;
	__le32 cluster_sectors;
	__le32 clusters;
	__le64 size;
	__le32 in_use;
	__le32 first_block_offset;
	__le32 flags;
	__le64 extension;
} __attribute__((packed));

#ifndef __cplusplus
#define PLOOP1_AT(field, offset) \
	_Static_assert(__builtin_offsetof(struct ploop1_header, field) == (offset), #field)
PLOOP1_AT(type, 16);
PLOOP1_AT(heads, 20);
PLOOP1_AT(cylinders, 24);
PLOOP1_AT(cluster_sectors, 28);
PLOOP1_AT(clusters, 32);
PLOOP1_AT(size, 36);
PLOOP1_AT(in_use, 44);
PLOOP1_AT(first_block_offset, 48);
PLOOP1_AT(flags, 52);
PLOOP1_AT(extension, 56);
#undef PLOOP1_AT
_Static_assert(sizeof(struct ploop1_header) == 64, "ploop1_header");
#endif

#endif /* _UAPI_LINUX_PLOOP1_IMAGE_H */
