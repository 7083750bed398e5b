// SPDX-License-Identifier: GPL-2.0-only
#include "extents.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "image_index.h"
#include "report.h"

/* lists have room for a power of two of elements: is this one full */
static bool is_full(size_t n)
{
	return !(n & (n - 1));
}

/**
 * ploop_ranges_add() - add a part
 * @ranges: the parts, in any order until ploop_ranges_to_clusters()
 * @start: its first byte
 * @len: its bytes
 *
 * Return: 0 or PLOOP_EXIT_MEMORY.
 */
int ploop_ranges_add(struct ploop_ranges *ranges, uint64_t start, uint64_t len)
{
	struct ploop_range *more = ranges->range;

	if (is_full(ranges->n))
		more = realloc(more, (ranges->n ? 2 * ranges->n : 1) * sizeof(*more));
	if (!more)
		return ploop_fail_memory();
	ranges->range = more;
	ranges->range[ranges->n++] = (struct ploop_range){ .start = start, .len = len };
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct ploop_range *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

/* those that touch become one */
static void join_ranges(struct ploop_ranges *ranges)
{
	size_t n = 0;

	qsort(ranges->range, ranges->n, sizeof(*ranges->range), compare_ranges);
	for (size_t i = 1; i < ranges->n; i++) {
		struct ploop_range *last = &ranges->range[n];

		if (last->start + last->len == ranges->range[i].start)
			last->len += ranges->range[i].len;
		else
			ranges->range[++n] = ranges->range[i];
	}
	ranges->n = n + 1;
}

/**
 * ploop_ranges_to_clusters() - find the clusters that are wholly inside
 * @ranges: parts in bytes, none twice; changed to parts in clusters
 * @cluster_bytes: cluster size
 */
void ploop_ranges_to_clusters(struct ploop_ranges *ranges, uint64_t cluster_bytes)
{
	size_t n = 0;

	if (!ranges->n)
		return;
	join_ranges(ranges);
	for (size_t i = 0; i < ranges->n; i++) {
		const struct ploop_range *range = &ranges->range[i];
		const uint64_t start = (range->start + cluster_bytes - 1) / cluster_bytes;
		const uint64_t end = (range->start + range->len) / cluster_bytes;

		if (start < end)
			ranges->range[n++] = (struct ploop_range){ start, end - start };
	}
	ranges->n = n;
}

/**
 * ploop_ranges_free() - free a list
 * @ranges: the list
 */
void ploop_ranges_free(struct ploop_ranges *ranges)
{
	free(ranges->range);
	memset(ranges, 0, sizeof(*ranges));
}

/* what is looked for in the index; clusters come in rising order */
struct search {
	struct ploop_extents *found;
	const struct ploop_range *range;
	const struct ploop_range *end;
};

static int add_extent(struct ploop_extents *extents, uint32_t clu, uint32_t iblk)
{
	struct ploop_freeblks_extent *more = extents->extent;
	const size_t n = extents->n;

	if (n && more[n - 1].clu + more[n - 1].len == clu &&
	    more[n - 1].iblk + more[n - 1].len == iblk) {
		more[n - 1].len++;
		return 0;
	}
	if (is_full(n))
		more = realloc(more, (n ? 2 * n : 1) * sizeof(*more));
	if (!more)
		return ploop_fail_memory();
	extents->extent = more;
	extents->extent[extents->n++] =
		(struct ploop_freeblks_extent){ .clu = clu, .iblk = iblk, .len = 1 };
	return 0;
}

static int visit(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	const uint32_t unit = ploop_index_unit(img);
	struct search *search = data;

	while (search->range < search->end &&
	       search->range->start + search->range->len <= cluster)
		search->range++;
	if (search->end && (search->range == search->end || cluster < search->range->start))
		return 0;
	if (entry % unit || entry / unit < img->first || cluster >= img->clusters)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s: the index is damaged: the entry of cluster %" PRIu32 " is %" PRIu32
				  "; detach the image and see `ploop check %s`",
				  img->path, cluster, entry, img->path);
	return add_extent(search->found, cluster, entry / unit);
}

static int compare_extents(const void *a, const void *b)
{
	const struct ploop_freeblks_extent *left = a, *right = b;

	return (left->iblk > right->iblk) - (left->iblk < right->iblk);
}

/**
 * ploop_extents_find() - find out which clusters an image has, and where
 * @extents: out: those it has; freed by ploop_extents_free() also when this fails
 * @img: the image
 * @ranges: look only at these clusters of the device; NULL: at all
 *
 * Return: 0 or an exit code.
 */
int ploop_extents_find(struct ploop_extents *extents, const struct ploop_image *img,
		       const struct ploop_ranges *ranges)
{
	struct search search = { .found = extents };
	int rc;

	memset(extents, 0, sizeof(*extents));
	if (ranges) {
		if (!ranges->n)
			return 0;
		search.range = ranges->range;
		search.end = ranges->range + ranges->n;
	}
	rc = ploop_index_walk(img, visit, &search);
	if (!rc && extents->n)
		qsort(extents->extent, extents->n, sizeof(*extents->extent), compare_extents);
	return rc;
}

/* the part of an extent that lies in a part of the file */
static struct ploop_freeblks_extent clip(const struct ploop_freeblks_extent *extent, uint32_t from,
					 uint32_t to)
{
	const uint64_t end = (uint64_t)extent->iblk + extent->len;
	const uint32_t start = extent->iblk > from ? extent->iblk : from;
	struct ploop_freeblks_extent part = {
		.clu = extent->clu + (start - extent->iblk),
		.iblk = start,
	};

	if (start < to && start < end)
		part.len = (uint32_t)(end < to ? end : to) - start;
	return part;
}

/**
 * ploop_extents_count() - count the clusters in a part of the file
 * @extents: the list
 * @from: first cluster of that part
 * @to: the one behind its last
 *
 * Return: their number.
 */
uint64_t ploop_extents_count(const struct ploop_extents *extents, uint32_t from, uint32_t to)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < extents->n; i++)
		sum += clip(&extents->extent[i], from, to).len;
	return sum;
}

static void add_window(struct ploop_relocblks_ctl *arg, const struct ploop_extents *extents,
		       bool free)
{
	const uint32_t from = arg->alloc_head - arg->n_scanned;

	for (size_t i = 0; i < extents->n; i++) {
		const struct ploop_freeblks_extent part = clip(&extents->extent[i], from,
							       arg->alloc_head);

		if (part.len)
			arg->extents[arg->n_extents++] = (struct ploop_relocblks_extent){
				.clu = part.clu, .iblk = part.iblk, .len = part.len, .free = free,
			};
	}
}

static int compare_window(const void *a, const void *b)
{
	const struct ploop_relocblks_extent *left = a, *right = b;

	return (left->iblk > right->iblk) - (left->iblk < right->iblk);
}

/**
 * ploop_extents_window() - describe the end of an image file for the driver
 * @mapped: all clusters that the image has
 * @loaded: those that were freed; not in @mapped
 * @first: first cluster of the file that holds data
 * @head: end of the file, clusters
 *
 * The window is as long as there are unused clusters anywhere in the file: that
 * much of its end can go when what is there is moved down.
 *
 * Return: the argument for RELOCBLKS but for its level, to be freed with free();
 * NULL without memory.
 */
struct ploop_relocblks_ctl *ploop_extents_window(const struct ploop_extents *mapped,
						 const struct ploop_extents *loaded,
						 uint32_t first, uint32_t head)
{
	struct ploop_relocblks_ctl *arg;

	arg = calloc(1, sizeof(*arg) + (mapped->n + loaded->n) * sizeof(*arg->extents));
	if (!arg)
		return NULL;
	arg->alloc_head = head;
	if (head > first)
		arg->n_scanned = head - first -
				 (uint32_t)ploop_extents_count(mapped, first, head);
	add_window(arg, mapped, false);
	add_window(arg, loaded, true);
	qsort(arg->extents, arg->n_extents, sizeof(*arg->extents), compare_window);
	return arg;
}

/**
 * ploop_extents_free() - free a list
 * @extents: the list
 */
void ploop_extents_free(struct ploop_extents *extents)
{
	free(extents->extent);
	memset(extents, 0, sizeof(*extents));
}
