// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image format raw: the file is the disk. Only as level 0, written in place.
 */
#include "ploop.h"

#include <linux/module.h>

static int check_size(struct ploop_delta *delta, loff_t size)
{
	const char *why = NULL;

	if (!size)
		why = "file is empty";
	else if (size & (SECTOR_SIZE - 1))
		why = "file size is not a multiple of 512 bytes";
	else if (DIV_ROUND_UP_ULL(size, ploop_cluster_bytes(delta->plo)) > U32_MAX)
		why = "file has more clusters than 32 bits can count; use larger ones";
	if (why)
		ploop_err(delta->plo, "%pD4: %s\n", delta->file, why);
	return why ? -EINVAL : 0;
}

static int raw_load(struct ploop_delta *delta, struct ploop_map **map, bool at_work)
{
	loff_t size = delta->io->size(delta);
	int err = check_size(delta, size);
	u32 clusters;

	if (err)
		return err;
	clusters = DIV_ROUND_UP_ULL(size, ploop_cluster_bytes(delta->plo));
	*map = ploop_map_alloc(clusters);
	if (!*map)
		return -ENOMEM;
	(*map)->raw_clusters = clusters;
	(*map)->raw_slot = delta->slot;
	delta->size = size >> SECTOR_SHIFT;
	return 0;
}

static int raw_open(struct ploop_delta *delta, struct ploop_map **map)
{
	return raw_load(delta, map, false);
}

/* The file is made longer at once: a crash leaves a longer disk, not a broken one. */
static int raw_plan_grow(struct ploop_delta *delta, u64 size, u32 *index_clusters)
{
	loff_t old = delta->io->size(delta), new = size << SECTOR_SHIFT;
	int err = check_size(delta, new);

	if (err)
		return -EFBIG;
	*index_clusters = 0;
	if (new <= old)
		return 0;
	err = delta->io->prealloc(delta, old, new - old);
	if (err)
		delta->io->truncate(delta, old);
	return err;
}

static void raw_grow(struct ploop_delta *delta, u64 size, u32 index_clusters)
{
	delta->size = size;
}

static void raw_close(struct ploop_delta *delta)
{
}

static struct ploop_format_ops raw_ops = {
	.name		= "raw",
	.id		= PLOOP_FMT_RAW,
	.owner		= THIS_MODULE,
	.open		= raw_open,
	.load		= raw_load,
	.close		= raw_close,
	.plan_grow	= raw_plan_grow,
	.grow		= raw_grow,
};

static int __init raw_init(void)
{
	return ploop_format_register(&raw_ops);
}

static void __exit raw_exit(void)
{
	ploop_format_unregister(&raw_ops);
}

module_init(raw_init);
module_exit(raw_exit);
MODULE_DESCRIPTION("ploop image format: raw");
MODULE_AUTHOR("ploop authors");
MODULE_VERSION(PLOOP_VERSION);
MODULE_LICENSE("GPL");
