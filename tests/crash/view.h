/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stack of image files as the disk that it is, read by the format code of
 * userspace/ and without a driver.
 */
#ifndef PLOOP_TESTS_CRASH_VIEW_H
#define PLOOP_TESTS_CRASH_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

#include "image.h"
#include "image_index.h"

#define MAX_LAYERS	8

/* an image; place: the cluster of the file for each cluster of the disk, 0: none */
struct layer {
	struct ploop_image img;
	uint32_t *place;
};

/* base first */
struct view {
	struct layer layer[MAX_LAYERS];
	unsigned int n;
	uint64_t bytes;		/* size of the disk */
};

static inline int note_place(const struct ploop_image *img, uint32_t cluster, uint32_t entry,
			     void *data)
{
	uint32_t *place = data;

	if (cluster < img->clusters)
		place[cluster] = entry / ploop_index_unit(img);
	return 0;
}

/* Return: what `ploop check` has against it: nothing, or only that it was in use */
static inline bool layer_is_good(const struct ploop_image *img)
{
	struct ploop_image_usage usage;

	if (ploop_image_check(img, &usage))
		return false;
	if (!ploop_image_is_dirty(img) && (usage.beyond_eof || ploop_image_is_ragged(img))) {
		printf("%s: not in use, but its file is too short\n", img->path);
		return false;
	}
	return true;
}

/* Return: false when the image is damaged, which it has said then */
static inline bool layer_open(struct layer *layer, const char *path)
{
	const char *dot = strrchr(path, '.');
	struct ploop_image *img = &layer->img;

	layer->place = NULL;
	if (ploop_image_open(img, path, false)) {
		img->fd = -1;
		return false;
	}
	if (dot && !strcmp(dot, ".raw"))
		return !ploop_image_load(img, PLOOP_FMT_RAW);
	if (ploop_image_load(img, PLOOP_FMT_PLOOP1) || !layer_is_good(img))
		return false;
	if (ploop_image_cluster_bytes(img) != CLUSTER) {
		printf("%s: clusters of another size\n", path);
		return false;
	}
	layer->place = calloc(img->clusters, sizeof(*layer->place));
	if (!layer->place)
		die("memory");
	return !ploop_index_walk(img, note_place, layer->place);
}

static inline void layer_close(struct layer *layer)
{
	free(layer->place);
	layer->place = NULL;
	ploop_image_close(&layer->img);
}

static inline void view_close(struct view *view)
{
	while (view->n)
		layer_close(&view->layer[--view->n]);
}

/* paths: separated by spaces; Return: false when one is damaged */
static inline bool view_open(struct view *view, const char *dir, const char *names)
{
	char path[256], name[64];
	int len;

	view->n = 0;
	for (; sscanf(names, " %63s%n", name, &len) == 1; names += len) {
		if (view->n == MAX_LAYERS)
			bad_usage();
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		if (!layer_open(&view->layer[view->n++], path)) {
			view_close(view);
			return false;
		}
	}
	view->bytes = view->layer[view->n - 1].img.size << 9;
	return true;
}

static inline void read_place(const struct layer *layer, void *buf, uint64_t offset)
{
	ssize_t got = pread(layer->img.fd, buf, CLUSTER, offset);

	if (got < 0)
		die(layer->img.path);
	/* behind the end of the file are zeros */
	memset((char *)buf + got, 0, CLUSTER - got);
}

/* Return: false when no image has this cluster, so that it is zeros */
static inline bool view_read(const struct view *view, uint32_t cluster, void *buf)
{
	for (unsigned int i = view->n; i-- > 0;) {
		const struct layer *layer = &view->layer[i];

		if (layer->img.format == PLOOP_FMT_RAW) {
			read_place(layer, buf, (uint64_t)cluster * CLUSTER);
			return true;
		}
		if (cluster < layer->img.clusters && layer->place[cluster]) {
			read_place(layer, buf, (uint64_t)layer->place[cluster] * CLUSTER);
			return true;
		}
	}
	return false;
}

/* Return: wrong sectors and holes, counted up to a limit */
static inline unsigned int view_compare(const struct view *view, const struct model *m,
					unsigned int limit, bool quiet)
{
	const uint64_t clusters = m->blocks * BLOCK / CLUSTER;
	unsigned int wrong = 0;
	char *buf = aligned(CLUSTER);

	for (uint64_t c = 0; c < clusters && wrong < limit; c++) {
		if (!view_read(view, c, buf)) {
			wrong += !hole_is_right(m, c * CLUSTER / BLOCK, CLUSTER / BLOCK, quiet);
			continue;
		}
		for (uint32_t i = 0; i < CLUSTER && wrong < limit; i += SECTOR)
			wrong += !sector_is_right(m, (uint64_t *)(buf + i),
						  (c * CLUSTER + i) / SECTOR, quiet);
	}
	free(buf);
	return wrong;
}

#endif /* PLOOP_TESTS_CRASH_VIEW_H */
