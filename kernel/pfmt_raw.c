// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image format raw: the file is the disk. Only as level 0, written in place.
 */
#include "ploop.h"

#include <linux/module.h>

static int raw_open(struct ploop_delta *delta, struct ploop_map **map)
{
	struct ploop_device *plo = delta->plo;
	loff_t size = delta->io->size(delta);
	u64 clusters = DIV_ROUND_UP_ULL(size, ploop_cluster_bytes(plo));
	const char *why = NULL;

	if (!size)
		why = "file is empty";
	else if (size & (SECTOR_SIZE - 1))
		why = "file size is not a multiple of 512 bytes";
	else if (clusters > U32_MAX)
		why = "file has more clusters than 32 bits can count; use larger ones";
	if (why) {
		ploop_err(plo, "%pD4: %s\n", delta->file, why);
		return -EINVAL;
	}
	*map = ploop_map_alloc(clusters);
	if (!*map)
		return -ENOMEM;
	(*map)->raw_clusters = clusters;
	(*map)->raw_slot = delta->slot;
	delta->size = size >> SECTOR_SHIFT;
	return 0;
}

static void raw_close(struct ploop_delta *delta)
{
}

static struct ploop_format_ops raw_ops = {
	.name	= "raw",
	.id	= PLOOP_FMT_RAW,
	.owner	= THIS_MODULE,
	.open	= raw_open,
	.close	= raw_close,
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
