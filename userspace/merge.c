// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sources are only read, so a merge that was interrupted is simply done
 * again: what is in the destination already is overwritten with the same.
 * Until the end the sources still hide it.
 */
#include "merge.h"

#include <inttypes.h>
#include <stdlib.h>

#include "copy.h"
#include "image_index.h"
#include "image_space.h"
#include "report.h"
#include "size.h"

/**
 * struct work - a merge that is under way
 * @merge: what to merge
 * @dest: the destination
 * @cluster: cluster size in bytes
 * @space: clusters of a ploop1 destination
 * @window: for each image the same piece of the index; a raw one has none
 * @file: for each image its file
 * @copy: clusters to be copied
 * @progress: bytes of the sources
 */
struct work {
	const struct ploop_merge *merge;
	struct ploop_image *dest;
	uint64_t cluster;
	struct ploop_space space;
	struct ploop_window *window;
	struct ploop_copy_file *file;
	struct ploop_copy copy;
	struct ploop_progress progress;
};

static bool has_index(const struct ploop_image *img)
{
	return img->format == PLOOP_FMT_PLOOP1;
}

/* where a ploop1 destination has a cluster, or shall have it */
static int place(struct work *work, uint32_t i, struct ploop_copy_piece *piece)
{
	const uint32_t unit = ploop_index_unit(work->dest);
	uint32_t iblk = ploop_window_get(&work->window[0], i) / unit;
	int rc;

	piece->fresh = false;
	if (!iblk) {
		rc = ploop_space_take(&work->space, work->dest, &iblk, &piece->fresh);
		if (rc)
			return rc;
		ploop_window_set(&work->window[0], i, iblk * unit);
	}
	piece->to_offset = iblk * work->cluster;
	return 0;
}

/* word i of the window: the topmost image that has it wins */
static int plan_cluster(struct work *work, uint32_t i)
{
	struct ploop_copy_piece piece = { .to = &work->file[0], .bytes = work->cluster };
	int rc;

	for (size_t level = work->merge->n - 1; level > 0; level--) {
		const uint32_t entry = ploop_window_get(&work->window[level], i);

		if (!entry)
			continue;
		if (piece.from) {
			/* hidden: done by leaving it out */
			ploop_progress_add(&work->progress, work->cluster);
			continue;
		}
		piece.from = &work->file[level];
		piece.from_offset = entry / ploop_index_unit(&work->merge->image[level]) *
				    work->cluster;
	}
	if (!piece.from)
		return 0;
	if (has_index(work->dest)) {
		rc = place(work, i, &piece);
		if (rc)
			return rc;
	} else {
		piece.to_offset = (work->window[1].base + i - PLOOP1_INDEX_SKIP) * work->cluster;
	}
	return ploop_copy_add(&work->copy, &piece);
}

/* data, durably, then the entries that point to them */
static int merge_window(struct work *work, uint64_t base)
{
	const struct ploop_merge *merge = work->merge;
	int rc = 0;

	for (size_t i = has_index(work->dest) ? 0 : 1; i < merge->n && !rc; i++)
		rc = ploop_window_read(&work->window[i], &merge->image[i], base);
	for (uint32_t i = base ? 0 : PLOOP1_INDEX_SKIP; i < PLOOP_WINDOW_WORDS && !rc; i++)
		rc = plan_cluster(work, i);
	if (rc || !work->copy.n)
		return rc;
	if (has_index(work->dest))
		rc = ploop_space_extend(&work->space, work->dest);
	if (!rc)
		rc = ploop_copy_run(&work->copy);
	if (!rc)
		rc = ploop_image_sync(work->dest);
	if (!rc && has_index(work->dest))
		rc = ploop_window_write(&work->window[0], work->dest);
	if (!rc)
		work->space.kept = work->dest->file_size;
	return rc;
}

static int merge_all(struct work *work)
{
	const struct ploop_image *top = &work->merge->image[work->merge->n - 1];
	const uint64_t end = ploop_index_words(top);
	int rc = 0;

	if (has_index(work->dest))
		rc = ploop_space_load(&work->space, work->dest, work->dest->first);
	for (uint64_t base = 0; base < end && !rc; base += PLOOP_WINDOW_WORDS)
		rc = merge_window(work, base);
	return rc;
}

/* damage is found before anything is written; counts what there is to do */
static int check_images(struct work *work)
{
	struct ploop_image_usage usage;
	uint64_t clusters = 0;
	int rc;

	for (size_t i = has_index(work->dest) ? 0 : 1; i < work->merge->n; i++) {
		const struct ploop_image *img = &work->merge->image[i];

		rc = ploop_image_check(img, &usage);
		if (rc)
			return rc;
		if (usage.beyond_eof)
			return ploop_fail(PLOOP_EXIT_FORMAT,
					  "%s: %" PRIu64
					  " clusters are behind the end of the file: see `ploop check %s`",
					  img->path, usage.beyond_eof, img->path);
		if (i > 0)
			clusters += usage.used;
	}
	ploop_progress_begin(&work->progress, "merging", clusters * work->cluster);
	return 0;
}

static int fill_destination(struct work *work)
{
	const struct ploop_image *top = &work->merge->image[work->merge->n - 1];
	int rc = 0;

	if (has_index(work->dest))
		rc = ploop_image_set_in_use(work->dest, true, 0);
	if (!rc && work->dest->size < top->size)
		rc = ploop_image_grow(work->dest, top->size, work->merge->moves);
	if (!rc)
		rc = merge_all(work);
	if (rc && has_index(work->dest))
		ploop_space_trim(&work->space, work->dest);
	return ploop_image_end_use(work->dest, work->space.mapped, rc);
}

static int alloc_work(struct work *work)
{
	const struct ploop_merge *merge = work->merge;
	int rc = 0;

	work->window = calloc(merge->n, sizeof(*work->window));
	work->file = calloc(merge->n, sizeof(*work->file));
	if (!work->window || !work->file)
		return ploop_fail_memory();
	for (size_t i = 0; i < merge->n; i++) {
		ploop_copy_file_open(&work->file[i], &merge->image[i]);
		if (!rc)
			rc = ploop_window_init(&work->window[i]);
	}
	return rc;
}

static void free_work(struct work *work)
{
	for (size_t i = 0; i < work->merge->n; i++) {
		if (!work->file || !work->window)
			break;
		ploop_copy_file_close(&work->file[i]);
		ploop_window_free(&work->window[i]);
	}
	free(work->file);
	free(work->window);
	ploop_space_free(&work->space);
	ploop_copy_free(&work->copy);
}

/**
 * ploop_merge_images() - merge images into the lowest of them
 * @merge: what to merge; the destination is ours alone, the sources are not
 *         written by anybody
 *
 * Makes the destination as large as the topmost source. A failure leaves
 * everything in a state where the same can be done again.
 *
 * Return: 0 or an exit code.
 */
int ploop_merge_images(const struct ploop_merge *merge)
{
	struct work work = {
		.merge = merge,
		.dest = &merge->image[0],
		.cluster = (uint64_t)merge->cluster_sectors << PLOOP_SECTOR_SHIFT,
	};
	int rc;

	ploop_copy_init(&work.copy, merge->reflink, &work.progress);
	rc = check_images(&work);
	if (!rc)
		rc = alloc_work(&work);
	if (!rc)
		rc = fill_destination(&work);
	ploop_progress_clear();
	free_work(&work);
	return rc;
}
