// SPDX-License-Identifier: GPL-2.0-only
#include "chain.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cancel.h"
#include "lock.h"
#include "modules.h"
#include "report.h"

static bool is_top(const struct ploop_chain *chain, const struct ploop_image *img)
{
	return img == &chain->images[chain->n - 1];
}

static bool is_written(const struct ploop_chain *chain, const struct ploop_image *img)
{
	return !chain->readonly && (chain->merge ? img == chain->images : is_top(chain, img));
}

/* a crash left it in use: nobody else may have it while that is mended */
static int recover(struct ploop_image *img, bool readonly)
{
	int rc;

	if (readonly) {
		rc = ploop_image_reopen(img, true);
		if (!rc)
			rc = ploop_lock_image(img, true);
		if (!rc)
			rc = ploop_image_load(img, img->format);
		if (rc)
			return rc;
	}
	/* somebody may have been quicker */
	if (ploop_image_is_dirty(img)) {
		rc = ploop_image_recover(img);
		if (rc)
			return rc;
	}
	return readonly ? ploop_lock_image(img, false) : 0;
}

/**
 * ploop_chain_refuse_same() - look whether two images are the same file
 * @one: an open image
 * @other: an open image, not locked: our own lock on @one would look like
 *         somebody else's
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_chain_refuse_same(const struct ploop_image *one, const struct ploop_image *other)
{
	if (one->dev == other->dev && one->ino == other->ino)
		return ploop_fail(PLOOP_EXIT_PARAM, "%s is given twice", other->path);
	return 0;
}

static int open_image(const struct ploop_chain *chain, struct ploop_image *img, const char *path,
		      enum ploop_format_id format)
{
	const bool readonly = !is_written(chain, img);
	int rc;

	rc = ploop_image_open(img, path, !readonly);
	if (rc)
		return rc;
	for (const struct ploop_image *other = chain->images; other < img && !rc; other++)
		rc = ploop_chain_refuse_same(other, img);
	if (!rc)
		rc = ploop_lock_image(img, !readonly);
	if (!rc)
		rc = ploop_image_load(img, format);
	if (!rc && ploop_image_is_dirty(img))
		rc = recover(img, readonly);
	if (!rc && ploop_image_is_ragged(img))
		rc = ploop_fail(PLOOP_EXIT_FORMAT,
				"%s: the file ends within a cluster, as after an interrupted copy: check that it is whole, then run `ploop check --repair %s`",
				img->path, img->path);
	if (rc)
		ploop_image_close(img);
	return rc;
}

/*
 * Above a base that an interrupted merge has made larger there may be a smaller
 * image: for the next try of the same merge only the top counts.
 */
static int check_merge_sizes(const struct ploop_chain *chain, const struct ploop_image *lower)
{
	const struct ploop_image *top = &chain->images[chain->n - 1];
	const struct ploop_image *upper = lower == chain->images ? top : lower + 1;

	if (upper->size >= lower->size)
		return 0;
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "%s (%" PRIu64 " sectors) is smaller than %s (%" PRIu64
			  " sectors) below it: give the topmost first and the base last; if the lower one was grown on its own, grow the other too",
			  upper->path, upper->size, lower->path, lower->size);
}

static int check_sizes(const struct ploop_image *lower, const struct ploop_image *upper)
{
	if (upper->size >= lower->size)
		return 0;
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "%s (%" PRIu64 " sectors) is smaller than %s (%" PRIu64
			  " sectors) below it: give the base first and the top last; if a `ploop merge` of these was interrupted, run it again first",
			  upper->path, upper->size, lower->path, lower->size);
}

/* what else must hold between an image and the one below it */
static int check_pair(const struct ploop_image *lower, const struct ploop_image *upper)
{
	if (lower->format == PLOOP_FMT_RAW)
		return 0;
	if (upper->cluster_sectors != lower->cluster_sectors)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s has clusters of %u sectors, but %s has %u: they do not belong together",
				  upper->path, upper->cluster_sectors, lower->path,
				  lower->cluster_sectors);
	if (upper->version != lower->version)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "%s is of version %u, but %s is of version %u: they do not belong together",
				  upper->path, upper->version, lower->path, lower->version);
	return 0;
}

/**
 * ploop_chain_fit() - look whether an image can be the one above another
 * @lower: a loaded image
 * @upper: a loaded ploop1 image
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_chain_fit(const struct ploop_image *lower, const struct ploop_image *upper)
{
	int rc;

	rc = check_sizes(lower, upper);
	return rc ? rc : check_pair(lower, upper);
}

/* the cluster size comes from the ploop1 images; a lone raw image has the user's */
static int check_cluster(struct ploop_chain *chain, uint32_t wanted)
{
	const struct ploop_image *top = &chain->images[chain->n - 1];

	if (top->format == PLOOP_FMT_PLOOP1 && wanted && top->cluster_sectors != wanted)
		return ploop_fail(PLOOP_EXIT_PARAM,
				  "-b %" PRIu32 ": %s has clusters of %u sectors; leave out -b",
				  wanted, top->path, top->cluster_sectors);
	if (top->format == PLOOP_FMT_PLOOP1)
		chain->cluster_sectors = top->cluster_sectors;
	else
		chain->cluster_sectors = wanted ? wanted : 1u << PLOOP_CLUSTER_LOG_DEFAULT;
	return 0;
}

static int check_chain(struct ploop_chain *chain, const struct ploop_chain_params *params)
{
	int rc = 0;

	for (size_t i = 1; i < chain->n && !rc; i++) {
		const struct ploop_image *lower = &chain->images[i - 1];

		rc = chain->merge ? check_merge_sizes(chain, lower) : check_sizes(lower, lower + 1);
		if (!rc)
			rc = check_pair(lower, lower + 1);
	}
	return rc ? rc : check_cluster(chain, params->cluster_sectors);
}

static int alloc_images(struct ploop_chain *chain, size_t n)
{
	chain->n = n;
	chain->images = calloc(n, sizeof(*chain->images));
	if (!chain->images)
		return ploop_fail_memory();
	for (size_t i = 0; i < n; i++)
		chain->images[i].fd = -1;
	return 0;
}

/**
 * ploop_chain_open() - open images, lock them, recover them, check that they fit
 * @chain: out: the stack; closed by the caller when this succeeds
 * @paths: base first, top last
 * @n: number of @paths
 * @params: how to understand them
 *
 * Return: 0 or an exit code.
 */
int ploop_chain_open(struct ploop_chain *chain, char *const paths[], size_t n,
		     const struct ploop_chain_params *params)
{
	int rc;

	memset(chain, 0, sizeof(*chain));
	chain->readonly = params->readonly;
	chain->merge = params->merge;
	if (n > PLOOP_MAX_LEVELS)
		return ploop_fail(PLOOP_EXIT_PARAM, "%zu images are too many: %u is the limit", n,
				  PLOOP_MAX_LEVELS);
	rc = alloc_images(chain, n);
	for (size_t i = 0; i < n && !rc; i++) {
		struct ploop_image *img = &chain->images[i];

		if (ploop_cancelled())
			rc = ploop_fail_cancelled();
		else
			rc = open_image(chain, img, paths[i],
					i ? PLOOP_FMT_PLOOP1 : params->base_format);
	}
	if (!rc)
		rc = check_chain(chain, params);
	if (rc)
		ploop_chain_close(chain);
	return rc;
}

/**
 * ploop_chain_from_image() - a stack of one image that is open already
 * @chain: out: the stack; closed by the caller when this succeeds
 * @img: a writable, locked image that knows its cluster size; it moves into
 *       the stack when this succeeds
 *
 * Return: 0 or an exit code.
 */
int ploop_chain_from_image(struct ploop_chain *chain, struct ploop_image *img)
{
	int rc;

	memset(chain, 0, sizeof(*chain));
	rc = alloc_images(chain, 1);
	if (rc)
		return rc;
	chain->cluster_sectors = img->cluster_sectors;
	chain->images[0] = *img;
	img->fd = -1;
	img->path = NULL;
	return 0;
}

/**
 * ploop_chain_close() - close all images of a stack
 * @chain: the stack
 */
void ploop_chain_close(struct ploop_chain *chain)
{
	for (size_t i = 0; chain->images && i < chain->n; i++)
		ploop_image_close(&chain->images[i]);
	free(chain->images);
	chain->images = NULL;
	chain->n = 0;
}

/**
 * ploop_chain_attach() - make a running device of a stack
 * @chain: the stack; its images are closed one by one as the driver takes them
 * @index: N of ploopN, or PLOOP_DEVICE_ANY
 * @dev: out: the device, open; to be closed by the caller when this succeeds
 *
 * Loads the modules.
 *
 * Return: 0, or an exit code and nothing is left.
 */
int ploop_chain_attach(struct ploop_chain *chain, int index, struct ploop_device *dev)
{
	const bool raw = chain->images[0].format == PLOOP_FMT_RAW;
	int rc;

	rc = ploop_modules_load(!raw || chain->n > 1, raw);
	if (!rc)
		rc = ploop_device_reserve(dev, index);
	if (rc)
		return rc;
	for (size_t i = 0; i < chain->n && !rc; i++) {
		struct ploop_image *img = &chain->images[i];

		if (ploop_cancelled())
			rc = ploop_fail_cancelled();
		else
			rc = ploop_device_add(dev, img, chain->cluster_sectors,
					      !is_written(chain, img));
	}
	if (!rc)
		rc = ploop_device_start(dev);
	if (rc) {
		ploop_device_detach(dev, false);
		ploop_device_close(dev);
	}
	return rc;
}
