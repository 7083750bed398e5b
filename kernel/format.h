/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_FORMAT_H
#define PLOOP_FORMAT_H

#include <linux/list.h>
#include <linux/types.h>

struct module;
struct ploop_delta;
struct ploop_map;

/**
 * struct ploop_format_ops - an image format, a module of its own
 * @name: what sysfs shows; the module is called pfmt_<name>
 * @id: enum ploop_format_id
 * @stackable: may lie above other deltas and allocates clusters
 * @owner: the module
 * @list: registry [registry.c formats_lock]
 *
 * All calls come under ctl_mutex, may sleep, and return 0 or a negative errno,
 * unless stated otherwise. What a call reads from the image is untrusted.
 *
 * @open: validate the image and set @delta's size, version, index_clusters,
 *        max_iblk and format_priv. A stackable format returns in @map the
 *        entries of this delta alone, each with @delta's slot. Must not write
 *        to the image. EBUSY: in use. EINVAL: not such an image, or one that
 *        does not fit the device. EUCLEAN: damaged. One log line says what is
 *        wrong where.
 * @load: read the image anew, as @open; the client has worked on it. With
 *        @at_work it still does, and the mark of use does not matter.
 * @close: free format_priv; the image is not touched. Never fails.
 * @start: mark the image in use, durably, before its first write. Optional.
 * @stop: the index is durable: mark the image closed, durably. Optional.
 * @sync: the index is durable: rewrite the header, still in use. Optional.
 * @plan_grow: how would the image look with @size sectors? EINVAL: not a
 *        multiple of the cluster size. EFBIG: over the limit of the format. Sets
 *        @index_clusters. A format without it cannot grow.
 * @grow: use the new size from now on; @sync puts it on the disk. Called while
 *        the device is quiesced; must not fail or do I/O.
 * @index_page: fill @buf with PLOOP1_PAGE bytes of the index as @map has it.
 *        Called under flush_mutex; must not fail. Stackable formats only.
 */
struct ploop_format_ops {
	const char *name;
	u32 id;
	bool stackable;
	struct module *owner;
	struct list_head list;

	int (*open)(struct ploop_delta *delta, struct ploop_map **map);
	int (*load)(struct ploop_delta *delta, struct ploop_map **map, bool at_work);
	void (*close)(struct ploop_delta *delta);
	int (*start)(struct ploop_delta *delta);
	int (*stop)(struct ploop_delta *delta);
	int (*sync)(struct ploop_delta *delta);
	int (*plan_grow)(struct ploop_delta *delta, u64 size, u32 *index_clusters);
	void (*grow)(struct ploop_delta *delta, u64 size, u32 index_clusters);
	void (*index_page)(struct ploop_delta *delta, const struct ploop_map *map,
			   u32 page, void *buf);
};

int ploop_format_register(struct ploop_format_ops *ops);
void ploop_format_unregister(struct ploop_format_ops *ops);
struct ploop_format_ops *ploop_format_get(u32 id);
void ploop_format_put(struct ploop_format_ops *ops);

#endif /* PLOOP_FORMAT_H */
