/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP1_LAYOUT_H
#define PLOOP1_LAYOUT_H

#include <linux/ploop1_image.h>
#include <linux/types.h>

/**
 * struct ploop1_layout - what a valid header says
 * @version: 1 or 2
 * @cluster_log: log2 of sectors per cluster
 * @in_use: the image is marked in use
 * @clusters: entries of the index
 * @size: sectors of the virtual disk
 * @index_clusters: clusters of the file that hold header and index
 * @file_clusters: clusters of the file
 */
struct ploop1_layout {
	u8 version;
	u8 cluster_log;
	bool in_use;
	u32 clusters;
	u64 size;
	u32 index_clusters;
	u64 file_clusters;
};

int ploop1_layout_parse(const struct ploop1_header *hdr, u64 file_size,
			struct ploop1_layout *l, const char **why);
int ploop1_entry_check(const struct ploop1_layout *l, u32 raw, u32 *iblk,
		       const char **why);
u32 ploop1_entry_make(const struct ploop1_layout *l, u32 iblk);
int ploop1_layout_grow(const struct ploop1_layout *old, u64 size,
		       struct ploop1_layout *l);
void ploop1_layout_store(const struct ploop1_layout *l, struct ploop1_header *hdr);
u32 ploop1_max_iblk(const struct ploop1_layout *l);

/* Number of 4 KiB pages the header and @clusters entries take. */
static inline u32 ploop1_index_pages(u32 clusters)
{
	u64 words = (u64)clusters + PLOOP1_INDEX_SKIP;

	return (words + PLOOP1_PAGE / sizeof(__le32) - 1) /
	       (PLOOP1_PAGE / sizeof(__le32));
}

/* Page of the index that holds the entry of cluster @clu. */
static inline u32 ploop1_index_page(u32 clu)
{
	return ((u64)clu + PLOOP1_INDEX_SKIP) / (PLOOP1_PAGE / sizeof(__le32));
}

#endif /* PLOOP1_LAYOUT_H */
