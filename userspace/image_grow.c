// SPDX-License-Identifier: GPL-2.0-only
/*
 * A larger disk may need a larger index, and that lies where data are. At
 * every moment the file is a good image of the old size, or of the new one:
 *
 *  1. the clusters in the way are copied to free places; durable
 *  2. their entries are changed, which is also where a second try goes on;
 *     durable
 *  3. zeros are written to the new part of the index; durable
 *  4. the header gets the new size, in one write; durable
 */
#include "image.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "copy.h"
#include "file.h"
#include "image_index.h"
#include "image_space.h"
#include "report.h"
#include "size.h"

/* a raw image ends on a border of this many bytes */
#define RAW_ALIGN	4096u

/**
 * struct grow - a ploop1 image that grows
 * @img: the image, of its old size until the end
 * @next: what it will be
 * @space: its clusters
 * @target: for each cluster of the file in the way where it goes, or 0
 * @map: clusters of the disk that were moved
 * @n_moved: number of @map
 */
struct grow {
	struct ploop_image *img;
	struct ploop_image next;
	struct ploop_space space;
	uint32_t *target;
	struct ploop_reloc_map *map;
	size_t n_moved;
};

/**
 * ploop_image_grown_size() - round a size up to what an image can have
 * @img: a loaded image
 * @size: the size in sectors
 *
 * Return: the size in sectors.
 */
uint64_t ploop_image_grown_size(const struct ploop_image *img, uint64_t size)
{
	const uint64_t step = img->format == PLOOP_FMT_RAW ? RAW_ALIGN >> PLOOP_SECTOR_SHIFT :
							     img->cluster_sectors;

	return ploop_round_up(size, step);
}

static int grow_raw(struct ploop_image *img, uint64_t size)
{
	const uint64_t bytes = ploop_image_grown_size(img, size) << PLOOP_SECTOR_SHIFT;

	if (bytes > INT64_MAX)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s: too big for a file", img->path);
	if (ftruncate(img->fd, (off_t)bytes))
		return ploop_fail_errno(PLOOP_EXIT_TRUNCATE,
					"cannot extend %s to %" PRIu64 " bytes", img->path, bytes);
	img->file_size = bytes;
	img->size = bytes >> PLOOP_SECTOR_SHIFT;
	return ploop_image_sync(img);
}

static int plan(struct grow *grow, uint64_t size)
{
	const struct ploop_image *img = grow->img;
	const struct ploop_image_params params = {
		.format = img->format,
		.version = img->version,
		.cluster_sectors = img->cluster_sectors,
		.size = size,
	};
	int rc;

	grow->next = *img;
	rc = ploop_image_plan(&grow->next, &params);
	if (rc)
		return rc;
	/* others may have left more room than needed */
	if (grow->next.first < img->first)
		grow->next.first = img->first;
	ploop_image_fill_geometry(&grow->next);
	return 0;
}

/* finds a place for every cluster in the way */
static int plan_move(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	const uint32_t iblk = entry / ploop_index_unit(img);
	struct grow *grow = data;
	uint32_t target;
	bool fresh;
	int rc;

	if (iblk >= grow->next.first)
		return 0;
	rc = ploop_space_take(&grow->space, img, &target, &fresh);
	if (rc)
		return rc;
	grow->target[iblk - img->first] = target;
	grow->map[grow->n_moved++] = (struct ploop_reloc_map){
		.req_cluster = cluster,
		.iblk = target,
	};
	return 0;
}

static int copy_clusters(struct grow *grow)
{
	const uint64_t cluster = ploop_image_cluster_bytes(grow->img);
	struct ploop_progress progress;
	struct ploop_copy_file file;
	struct ploop_copy copy;
	int rc = 0;

	ploop_copy_file_open(&file, grow->img);
	ploop_progress_begin(&progress, "moving clusters", grow->n_moved * cluster);
	ploop_copy_init(&copy, false, &progress);
	for (uint32_t i = 0; i < grow->next.first - grow->img->first && !rc; i++) {
		const struct ploop_copy_piece piece = {
			.from = &file,
			.from_offset = (grow->img->first + i) * cluster,
			.to = &file,
			.to_offset = grow->target[i] * cluster,
			.bytes = cluster,
			.fresh = grow->target[i] >= grow->space.in_file,
		};

		if (grow->target[i])
			rc = ploop_copy_add(&copy, &piece);
	}
	if (!rc)
		rc = ploop_copy_run(&copy);
	ploop_progress_clear();
	ploop_copy_free(&copy);
	ploop_copy_file_close(&file);
	return rc;
}

static void change_window(const struct grow *grow, struct ploop_window *window)
{
	const uint32_t unit = ploop_index_unit(grow->img);

	for (uint32_t i = window->base ? 0 : PLOOP1_INDEX_SKIP; i < window->words; i++) {
		const uint32_t iblk = ploop_window_get(window, i) / unit;

		if (iblk && iblk < grow->next.first)
			ploop_window_set(window, i, grow->target[iblk - grow->img->first] * unit);
	}
}

static int change_entries(struct grow *grow)
{
	const uint64_t end = ploop_index_words(grow->img);
	struct ploop_window window;
	int rc;

	rc = ploop_window_init(&window);
	for (uint64_t base = 0; base < end && !rc; base += PLOOP_WINDOW_WORDS) {
		rc = ploop_window_read(&window, grow->img, base);
		if (rc)
			break;
		change_window(grow, &window);
		rc = ploop_window_write(&window, grow->img);
	}
	ploop_window_free(&window);
	return rc ? rc : ploop_image_sync(grow->img);
}

static int move_clusters(struct grow *grow)
{
	const uint32_t in_the_way = grow->next.first - grow->img->first;
	int rc;

	grow->target = calloc(in_the_way, sizeof(*grow->target));
	grow->map = calloc(in_the_way, sizeof(*grow->map));
	if (!grow->target || !grow->map)
		return ploop_fail_memory();
	rc = ploop_index_walk(grow->img, plan_move, grow);
	if (!rc)
		rc = ploop_space_extend(&grow->space, grow->img);
	if (rc || !grow->n_moved)
		return rc;
	rc = copy_clusters(grow);
	if (!rc)
		rc = ploop_image_sync(grow->img);
	if (!rc)
		rc = change_entries(grow);
	return rc;
}

static int clear_index(struct grow *grow)
{
	const uint64_t cluster = ploop_image_cluster_bytes(grow->img);
	const uint64_t end = grow->next.first * cluster;
	int rc;

	rc = ploop_image_write_zeros(grow->img, grow->img->first * cluster, end, true);
	if (rc)
		return rc;
	if (grow->img->file_size < end)
		grow->img->file_size = end;
	return ploop_image_sync(grow->img);
}

static int enlarge_index(struct grow *grow, const struct ploop_moves *moves)
{
	struct ploop_image_usage usage;
	int rc;

	/* also behind the last entry there must be zeros: the new size brings it to life */
	if (grow->next.first == grow->img->first)
		return ploop_image_check(grow->img, &usage);
	rc = ploop_space_load(&grow->space, grow->img, grow->next.first);
	if (rc)
		return rc;
	rc = move_clusters(grow);
	/* whatever the reason, it is the driver that was not told */
	if (!rc && moves && moves->fn(moves->data, grow->img, grow->map, grow->n_moved))
		rc = PLOOP_EXIT_IOCTL;
	if (!rc)
		rc = clear_index(grow);
	free(grow->target);
	free(grow->map);
	ploop_space_free(&grow->space);
	return rc;
}

static int grow_ploop1(struct ploop_image *img, uint64_t size, const struct ploop_moves *moves)
{
	struct grow grow = { .img = img };
	int rc;

	rc = plan(&grow, size);
	if (!rc)
		rc = enlarge_index(&grow, moves);
	if (rc)
		return rc;
	grow.next.file_size = img->file_size;
	if (ploop_file_write(img->fd, &grow.next.header, sizeof(grow.next.header), 0))
		return ploop_fail_errno(PLOOP_EXIT_WRITE, "cannot write the header of %s",
					img->path);
	*img = grow.next;
	return ploop_image_sync(img);
}

/**
 * ploop_image_grow() - make the disk in an image larger
 * @img: a loaded image, writable and ours alone; ploop1: marked in use
 * @size: the new size in sectors; not smaller; rounded up
 * @moves: who must know about clusters that are moved, or NULL
 *
 * When this fails, the image is a good one of the old size, and can be grown
 * again.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_grow(struct ploop_image *img, uint64_t size, const struct ploop_moves *moves)
{
	if (img->format == PLOOP_FMT_RAW)
		return grow_raw(img, size);
	return grow_ploop1(img, size, moves);
}
