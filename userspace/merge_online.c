// SPDX-License-Identifier: GPL-2.0-only
/*
 * Levels below the top are only read by the driver: they are merged here, and
 * then it is told to forget the upper ones. The top is merged by the driver.
 *
 * A level is made larger only when all levels above it are as large: so the
 * stack can be mounted again after a crash at any time.
 *
 * While the driver merges the top, this loses one cluster after the other to the
 * level below. A file that was taken out before would hide them, should a user
 * mount all files he had once more after a crash: it is emptied.
 */
#include "merge_online.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cancel.h"
#include "image.h"
#include "image_index.h"
#include "lock.h"
#include "maintenance.h"
#include "merge.h"
#include "report.h"
#include "size.h"

/**
 * struct online - a merge of levels of a device
 * @session: the device
 * @low: level that gets the data
 * @high: topmost level that is still to be merged into it
 * @with_top: this is the top
 * @name: paths of the images that are merged
 * @names: number of @name
 */
struct online {
	struct ploop_maintenance_session *session;
	unsigned int low;
	unsigned int high;
	bool with_top;
	char **name;
	size_t names;
};

/* an image may be the base of several devices, but then nobody may write it */
static int refuse_shared(const struct online *online, const struct ploop_image *img)
{
	struct ploop_info_list list;
	int rc;

	rc = ploop_sysfs_list(&list);
	if (rc)
		return rc;
	for (size_t i = 0; i < list.n && !rc; i++) {
		const struct ploop_info *info = &list.info[i];

		if (info->index != online->session->info.index &&
		    ploop_sysfs_find_delta(info, img->dev, img->ino))
			rc = ploop_fail(PLOOP_EXIT_IN_USE,
					"%s cannot be written: %s uses it too; run `ploop umount -d %s` first",
					img->path, info->node, info->node);
	}
	ploop_sysfs_free_list(&list);
	return rc;
}

static int tell_moves(void *data, const struct ploop_image *img,
		      const struct ploop_reloc_map *map, size_t n)
{
	struct online *online = data;

	(void)img;
	return ploop_maintenance_update_index(online->session, online->low, map, n);
}

struct places {
	struct ploop_reloc_map *map;
	size_t n;
};

static int note_place(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	struct places *places = data;

	places->map[places->n++] = (struct ploop_reloc_map){
		.req_cluster = cluster,
		.iblk = entry / ploop_index_unit(img),
	};
	return 0;
}

/*
 * A command was killed while it worked on the level. It may have moved clusters
 * without telling the driver, which still reads their old places: they must not
 * be used for anything else before it knows.
 */
static int tell_all_places(struct online *online, const struct ploop_image *img)
{
	struct places places = { 0 };
	uint64_t used;
	int rc;

	rc = ploop_image_count(img, &used);
	if (rc || !used)
		return rc;
	places.map = calloc(used, sizeof(*places.map));
	if (!places.map)
		return ploop_fail_memory();
	rc = ploop_index_walk(img, note_place, &places);
	if (!rc)
		rc = tell_moves(online, img, places.map, places.n);
	free(places.map);
	return rc;
}

/* the level that gets the data; nobody but us and the driver, which reads it, has it */
static int open_low(struct online *online, struct ploop_image *img)
{
	struct ploop_image_usage usage;
	int rc;

	rc = ploop_maintenance_open_level(online->session, online->low, true, img);
	if (rc)
		return rc;
	rc = refuse_shared(online, img);
	if (!rc && img->format == PLOOP_FMT_PLOOP1)
		rc = ploop_image_check(img, &usage);
	if (!rc && ploop_image_is_dirty(img))
		rc = tell_all_places(online, img);
	if (rc)
		ploop_image_close(img);
	return rc;
}

/* the driver has forgotten it */
static int empty_image(struct ploop_image *img)
{
	int rc;

	rc = ploop_image_reopen(img, true);
	if (!rc)
		rc = ploop_lock_image(img, true);
	if (!rc)
		rc = ploop_image_empty(img);
	if (rc)
		ploop_note("%s is merged and detached, but not emptied: do not mount it together with the others again",
			   img->path);
	return rc;
}

/* levels above the lowest, n images with that one, are in it now: they go */
static int take_out(struct online *online, struct ploop_image *image, size_t n)
{
	int rc = 0;

	for (size_t i = 1; i < n && !rc; i++) {
		rc = ploop_maintenance_delete(online->session, online->low + 1);
		if (rc)
			break;
		online->high--;
		if (online->with_top)
			rc = empty_image(&image[i]);
	}
	return rc;
}

/*
 * Merges some levels above the lowest: those that have the size of the next one.
 * image: room for all of them
 */
static int merge_group(struct online *online, struct ploop_image *image, size_t max)
{
	const struct ploop_moves moves = { .fn = tell_moves, .data = online };
	struct ploop_merge merge = {
		.image = image,
		.cluster_sectors = online->session->info.cluster_sectors,
		.moves = &moves,
	};
	int rc;

	rc = open_low(online, &image[0]);
	if (rc)
		return rc;
	for (merge.n = 1; merge.n < max && !rc; merge.n++) {
		rc = ploop_maintenance_open_level(online->session, online->low + merge.n, false,
						  &image[merge.n]);
		if (rc)
			break;
		if (image[merge.n].size != image[1].size) {
			ploop_image_close(&image[merge.n]);
			break;
		}
	}
	if (!rc)
		rc = ploop_merge_images(&merge);
	if (!rc)
		rc = take_out(online, image, merge.n);
	for (size_t i = 0; i < merge.n; i++)
		ploop_image_close(&image[i]);
	return rc ? rc : ploop_maintenance_refresh(online->session);
}

/* the next n levels, which the driver only reads */
static int merge_lower(struct online *online, unsigned int n)
{
	struct ploop_image *image;
	int rc = 0;

	while (n && !rc) {
		const unsigned int before = online->high;

		if (ploop_cancelled())
			return ploop_fail_cancelled();
		image = calloc(n + 1, sizeof(*image));
		if (!image)
			return ploop_fail_memory();
		rc = merge_group(online, image, n + 1);
		free(image);
		n -= before - online->high;
	}
	return rc;
}

/* the driver wants the level below the top closed, and not smaller than the device */
static int prepare_low(struct online *online)
{
	const uint64_t size = online->session->info.size >> PLOOP_SECTOR_SHIFT;
	const struct ploop_moves moves = { .fn = tell_moves, .data = online };
	struct ploop_image img;
	int rc;

	rc = open_low(online, &img);
	if (rc)
		return rc;
	if (img.size < size || ploop_image_is_dirty(&img)) {
		if (img.format == PLOOP_FMT_PLOOP1)
			rc = ploop_image_set_in_use(&img, true, 0);
		if (!rc && img.size < size)
			rc = ploop_image_grow(&img, size, &moves);
		rc = ploop_image_end_use(&img, 0, rc);
	}
	ploop_image_close(&img);
	return rc;
}

static int merge_top(struct online *online)
{
	int rc;

	if (ploop_cancelled())
		return ploop_fail_cancelled();
	rc = prepare_low(online);
	if (!rc)
		rc = ploop_maintenance_merge_top(online->session);
	if (!rc)
		online->high--;
	return rc;
}

static int keep_names(struct online *online)
{
	const struct ploop_info *info = &online->session->info;

	online->name = calloc(online->high - online->low, sizeof(*online->name));
	if (!online->name)
		return ploop_fail_memory();
	for (unsigned int level = online->high; level > online->low; level--) {
		online->name[online->names] = strdup(info->deltas[level].image);
		if (!online->name[online->names++])
			return ploop_fail_memory();
	}
	return 0;
}

static void print_leftovers(const struct online *online)
{
	printf("merged into %s; not needed any more:\n",
	       online->session->info.deltas[online->low].image);
	for (size_t i = 0; i < online->names; i++)
		printf("  %s\n", online->name[i]);
}

static int merge_levels(struct online *online)
{
	const struct ploop_info *info = &online->session->info;
	const unsigned int before = online->high;
	int rc;

	online->with_top = online->high == info->n_deltas - 1;
	rc = keep_names(online);
	if (!rc)
		rc = merge_lower(online, online->high - online->low - online->with_top);
	if (!rc && online->with_top)
		rc = merge_top(online);
	if (!rc)
		rc = ploop_maintenance_refresh(online->session);
	if (!rc)
		print_leftovers(online);
	else if (online->high != before)
		ploop_note("some levels are merged already, and the others have new numbers: what was asked for is now `ploop merge -d %s -l %u..%u`",
			   info->node, online->low, online->high);
	else if (rc == PLOOP_EXIT_CANCELLED &&
		 ploop_sysfs_maintenance(info->index) == PLOOP_MNTN_OFF)
		ploop_note("nothing is lost: run the same command again to complete the merge");
	for (size_t i = 0; i < online->names; i++)
		free(online->name[i]);
	free(online->name);
	return rc;
}

/* which levels: what the user wants against what there is */
static int choose_levels(struct online *online, const struct ploop_levels *levels, bool *nothing)
{
	const struct ploop_info *info = &online->session->info;
	const int top = (int)info->n_deltas - 1;
	const bool all = levels->low == PLOOP_LEVELS_ALL;
	const int high = all ? top : levels->high;

	/* the top was merged by the driver just now: that is how this command ends */
	*nothing = online->session->finished == PLOOP_MNTN_MERGE && (high > top || !top);
	if (*nothing)
		return 0;
	if (!top)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s has one image: there is nothing to merge",
				  info->node);
	if (high > top)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "-l %d..%d: %s has levels 0..%d, see `ploop info %s`",
				  levels->low, levels->high, info->node, top, info->node);
	if (high == top && info->deltas[top].readonly)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is read-only, so its top, level %d, stays: merge levels below it, or mount it without -r",
				  info->node, top);
	online->low = all ? 0 : (unsigned int)levels->low;
	online->high = (unsigned int)high;
	return 0;
}

/**
 * ploop_merge_online() - merge levels of a running device
 * @index: N of ploopN
 * @levels: the levels
 *
 * Return: 0 or an exit code.
 */
int ploop_merge_online(int index, const struct ploop_levels *levels)
{
	struct ploop_maintenance_session session;
	struct online online = { .session = &session };
	bool nothing;
	int rc;

	rc = ploop_maintenance_begin(&session, index);
	if (rc)
		return rc;
	rc = choose_levels(&online, levels, &nothing);
	if (!rc && !nothing)
		rc = merge_levels(&online);
	ploop_maintenance_end(&session);
	return rc;
}
