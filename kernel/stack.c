// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of the stack below its top: a delta goes away or is exchanged for
 * another file, clusters were moved within one. Clients do the copying; the
 * driver reads the indexes anew and lets the map follow, while bios go on: an
 * entry is exchanged for one that stands for the same data, and nothing is
 * closed before all who may know the old one are gone.
 */
#include "ploop.h"

#include <linux/file.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

/**
 * ploop_stack_load() - read the indexes of some deltas anew
 * @level: the deltas, base first
 * @n: number of deltas, at least 1
 * @map: out: their map
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0, or a negative errno as ploop_format_ops.load().
 */
int ploop_stack_load(struct ploop_delta *const *level, unsigned int n, struct ploop_map **map)
{
	struct ploop_map *lower = NULL, *own;
	unsigned int i;
	int err;

	for (i = 0; i < n; i++) {
		err = level[i]->fmt->load(level[i], &own, false);
		if (err)
			goto out_free_map;
		if (!lower) {
			lower = own;
			continue;
		}
		err = ploop_map_overlay(lower, own);
		if (err)
			goto out_free_map;
	}
	*map = lower;
	return 0;

out_free_map:
	ploop_map_free(lower);
	return err;
}

static u64 lookup_within(const struct ploop_map *map, u32 clu)
{
	return clu < map->clusters ? ploop_map_lookup(map, clu) : 0;
}

/* Memory first: there is no way back in the middle. */
static int reserve_all(struct ploop_map *map, const struct ploop_map *lower)
{
	u64 clu;
	int err;

	for (clu = 0; clu < lower->clusters; clu += PLOOP_LEAF_ENTRIES) {
		if (!lower->leaves[clu >> PLOOP_LEAF_SHIFT])
			continue;
		err = ploop_map_reserve(map, clu, GFP_KERNEL);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Entries of deltas up to @level become what @lower says; a writer that is
 * quicker, with an entry of the top, wins.
 */
static void follow(struct ploop_device *plo, const struct ploop_map *lower, unsigned int level)
{
	struct ploop_map *map = plo->map;
	u64 old, new;
	u32 clu;

	for (clu = 0; clu < map->clusters; clu++) {
		if (!map->leaves[clu >> PLOOP_LEAF_SHIFT]) {
			clu = (clu | (PLOOP_LEAF_ENTRIES - 1));
			continue;
		}
		old = ploop_map_lookup(map, clu);
		new = lookup_within(lower, clu);
		if (old && plo->slot[ploop_entry_slot(old)]->level > level)
			new = old | (new ? PLOOP_ENTRY_SHADOW : 0);
		if (old != new)
			ploop_map_replace(map, clu, old, new);
		if (!(clu % PLOOP_LEAF_ENTRIES))
			cond_resched();
	}
}

/* @lower: of the deltas up to @level as they will be, reserved; freed. */
static void change_below(struct ploop_device *plo, struct ploop_map *lower, unsigned int level)
{
	struct ploop_map *map = plo->map;

	/* Another raw base has the same data; what is longer has zeros there. */
	if (lower->raw_clusters) {
		WRITE_ONCE(map->raw_slot, lower->raw_slot);
		WRITE_ONCE(map->raw_clusters, lower->raw_clusters);
	}
	follow(plo, lower, level);
	/* A base with an index in its place: entries name what it has by now. */
	if (!lower->raw_clusters)
		WRITE_ONCE(map->raw_clusters, 0);
	ploop_epoch_flip(&plo->epoch);
	ploop_map_free(lower);
}

static void forget_map(struct ploop_device *plo)
{
	ploop_map_free(plo->map);
	plo->map = NULL;
}

/**
 * ploop_stack_delete() - take a delta out of the stack
 * @plo: the device, no maintenance
 * @level: the delta; neither the base nor the top of a running device
 *
 * What only this delta had is not on the device any more.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -ENOENT no such level; -EBUSY base or top of a running device, or
 * the delta below is marked in use; -ENOMEM; errors of reading the indexes.
 */
int ploop_stack_delete(struct ploop_device *plo, u32 level)
{
	bool running = test_bit(PLOOP_S_RUNNING, &plo->state);
	struct ploop_map *lower;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (!level && running)
		return -EBUSY;
	if (level >= plo->nr_deltas)
		return -ENOENT;
	if (running && level == plo->nr_deltas - 1)
		return -EBUSY;
	if (running) {
		err = ploop_stack_load(plo->level, level, &lower);
		if (err)
			return err;
		err = reserve_all(plo->map, lower);
		if (err) {
			ploop_map_free(lower);
			return err;
		}
		change_below(plo, lower, level);
	} else {
		forget_map(plo);
	}
	ploop_delta_drop(plo, plo->level[level]);
	if (!running)
		plo->size = plo->top ? plo->top->size : 0;
	if (!plo->nr_deltas)
		plo->cookie[0] = 0;
	return 0;
}

/* @delta takes the place of @old, which is closed. */
static void exchange(struct ploop_device *plo, struct ploop_delta *old,
		     struct ploop_delta *delta)
{
	plo->level[delta->level] = delta;
	plo->slot[old->slot] = NULL;
	ploop_sysfs_remove_delta(old);
	if (ploop_sysfs_add_delta(delta))
		ploop_warn(plo, "no memory to show level %u in sysfs\n", delta->level);
	ploop_delta_close(old);
}

/* Also a read-only top: nobody may find the old one there when it is closed. */
static int exchange_top(struct ploop_device *plo, struct ploop_delta *delta)
{
	struct ploop_delta *old = plo->top;
	int err;

	err = ploop_delta_arm(delta, plo->map);
	if (err)
		return err;
	ploop_reclaim_pause(plo);
	ploop_flush_lock(plo);
	err = ploop_quiesce(plo);
	if (!err) {
		plo->top = delta;
		ploop_relax(plo);
	}
	ploop_delta_disarm(err ? delta : old);
	ploop_flush_unlock(plo);
	ploop_reclaim_resume(plo);
	return err;
}

/* A read-only level of a running device. */
static int replace_below(struct ploop_device *plo, struct ploop_delta *delta,
			 struct ploop_map *own)
{
	unsigned int level = delta->level;
	struct ploop_delta *old = plo->level[level];
	struct ploop_map *lower = own;
	int err;

	if (level) {
		err = ploop_stack_load(plo->level, level, &lower);
		if (err) {
			ploop_map_free(own);
			return err;
		}
		err = ploop_map_overlay(lower, own);
		if (err) {
			ploop_map_free(lower);
			return err;
		}
	}
	/* Before an entry names it. */
	plo->slot[delta->slot] = delta;
	/* Now, so that nothing fails any more once it is the top. */
	err = reserve_all(plo->map, lower);
	if (!err && plo->top == old)
		err = exchange_top(plo, delta);
	if (err) {
		ploop_map_free(lower);
		plo->slot[delta->slot] = NULL;
		return err;
	}
	change_below(plo, lower, level);
	exchange(plo, old, delta);
	return 0;
}

/* Any level of a stopped device; START reads the map. */
static int replace_stopped(struct ploop_device *plo, struct ploop_delta *delta,
			   struct ploop_map *own)
{
	struct ploop_delta *old = plo->level[delta->level];
	int err = 0;

	ploop_map_free(own);
	if (!delta->rdonly && delta->fmt->start)
		err = delta->fmt->start(delta);
	if (err)
		return err;
	forget_map(plo);
	plo->slot[delta->slot] = delta;
	if (plo->top == old) {
		plo->top = delta;
		plo->size = delta->size;
	}
	exchange(plo, old, delta);
	return 0;
}

static int check_replace(struct ploop_device *plo, const struct ploop_ctl *ctl)
{
	const struct ploop_delta *old;

	if (ctl->level >= plo->nr_deltas)
		return -ENOENT;
	old = plo->level[ctl->level];
	if (old->rdonly != !!(ctl->flags & PLOOP_CTLF_RDONLY))
		return -EINVAL;
	/* Its writes would have to reach both files at the same time. */
	if (!old->rdonly && test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EBUSY;
	return 0;
}

static int check_running(struct ploop_device *plo, const struct ploop_delta *delta)
{
	if (delta->level == plo->top->level && delta->size != plo->size) {
		ploop_err(plo, "%pD4: the new top must have the size of the device\n", delta->file);
		return -EINVAL;
	}
	return ploop_delta_fits_limits(delta);
}

/**
 * ploop_stack_replace() - exchange the file of a level for a copy of it
 * @plo: the device, no maintenance
 * @ctl: what the client asks for, untrusted
 * @chunk: its file, untrusted
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -ENOENT no such level; -EINVAL other mode, or a read-only top of
 * another size; -EBUSY the writable top of a running device; -EINTR killed; else
 * as ploop_delta_open().
 */
int ploop_stack_replace(struct ploop_device *plo, const struct ploop_ctl *ctl,
			const struct ploop_ctl_chunk *chunk)
{
	bool running = test_bit(PLOOP_S_RUNNING, &plo->state);
	struct ploop_delta *delta;
	struct ploop_map *own;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	err = check_replace(plo, ctl);
	if (err)
		return err;
	delta = ploop_delta_open(plo, ctl, chunk, ctl->level, &own);
	if (IS_ERR(delta))
		return PTR_ERR(delta);
	err = running ? check_running(plo, delta) : 0;
	if (err)
		ploop_map_free(own);
	else if (running)
		err = replace_below(plo, delta, own);
	else
		err = replace_stopped(plo, delta, own);
	if (err)
		ploop_delta_close(delta);
	return err;
}

/* One element of the list against the index on the disk, or into the map. */
static int update_entry(struct ploop_device *plo, struct ploop_delta *delta,
			const struct ploop_map *own, const struct ploop_reloc_map *m, bool apply)
{
	u64 old, new = lookup_within(own, m->req_cluster);

	if (!new || ploop_entry_iblk(new) != m->iblk)
		return -EINVAL;
	if (!apply || !plo->map || m->req_cluster >= plo->map->clusters)
		return 0;
	do {
		old = ploop_map_lookup(plo->map, m->req_cluster);
		if (!old || ploop_entry_slot(old) != delta->slot)
			return 0;
	} while (!ploop_map_replace(plo->map, m->req_cluster, old,
				    new | (old & PLOOP_ENTRY_SHADOW)));
	return 0;
}

static int update_entries(struct ploop_device *plo, struct ploop_delta *delta,
			  const struct ploop_map *own, const struct ploop_reloc_map __user *list,
			  u32 n, bool apply)
{
	struct ploop_reloc_map m;
	u32 i;
	int err;

	for (i = 0; i < n; i++) {
		if (copy_from_user(&m, &list[i], sizeof(m)))
			return -EFAULT;
		err = update_entry(plo, delta, own, &m, apply);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/**
 * ploop_stack_update_index() - clusters of a delta were moved within its file
 * @plo: the device
 * @ctl: level and number of clusters, untrusted
 * @list: where they are now, untrusted
 *
 * The client has moved them in the file, index included; when this returns
 * nobody reads their old places. The index on the disk decides, so a wrong list
 * cannot make the device show anything else than the file has.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -ENOENT no such level; -EBUSY the delta is writable; -EOPNOTSUPP
 * it is raw; -EINVAL the index on the disk says otherwise; -EFAULT; errors of reading the index.
 */
int ploop_stack_update_index(struct ploop_device *plo, const struct ploop_index_update_ctl *ctl,
			     const struct ploop_reloc_map __user *list)
{
	struct ploop_delta *delta;
	struct ploop_map *own;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (!ctl->n_maps)
		return 0;
	if (ctl->level >= plo->nr_deltas)
		return -ENOENT;
	delta = plo->level[ctl->level];
	if (!delta->rdonly)
		return -EBUSY;
	/* A raw image has no index that could change. */
	if (!delta->fmt->stackable)
		return -EOPNOTSUPP;
	err = delta->fmt->load(delta, &own, true);
	if (err)
		return err;
	err = update_entries(plo, delta, own, list, ctl->n_maps, false);
	if (!err)
		err = update_entries(plo, delta, own, list, ctl->n_maps, true);
	ploop_epoch_flip(&plo->epoch);
	ploop_map_free(own);
	/* Old clients read the index of the top from its file. */
	if (!err && test_bit(PLOOP_S_RUNNING, &plo->state) && !plo->top->rdonly)
		err = ploop_flush(plo);
	return err;
}

static u64 used_end(const struct ploop_delta *delta, const struct ploop_map *own)
{
	u64 end = delta->index_clusters;
	u32 clu;

	for (clu = 0; clu < own->clusters; clu++) {
		u64 entry = ploop_map_lookup(own, clu);

		if (entry)
			end = max_t(u64, end, (u64)ploop_entry_iblk(entry) + 1);
	}
	return end;
}

/**
 * ploop_stack_truncate() - cut the unused tail off the file of a delta
 * @plo: the device
 * @ctl: the delta and what it keeps, untrusted
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -EBADF, -EINVAL @ctl->fd is not the delta's file, or clusters that
 * are in use would go; -ENOENT no such level; -EBUSY the delta is writable;
 * -EOPNOTSUPP it is raw; errors of the host.
 */
int ploop_stack_truncate(struct ploop_device *plo, const struct ploop_truncate_ctl *ctl)
{
	struct ploop_delta *delta;
	struct ploop_map *own;
	struct file *file;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (ctl->fd < 0)
		return -EBADF;
	if (ctl->level >= plo->nr_deltas)
		return -ENOENT;
	delta = plo->level[ctl->level];
	if (!delta->rdonly)
		return -EBUSY;
	if (!delta->fmt->stackable)
		return -EOPNOTSUPP;
	file = fget(ctl->fd);
	if (!file)
		return -EBADF;
	err = -EINVAL;
	if (file_inode(file) != file_inode(delta->file) || !(file->f_mode & FMODE_WRITE))
		goto out_put_file;
	err = delta->fmt->load(delta, &own, true);
	if (err)
		goto out_put_file;
	err = -EINVAL;
	if (ctl->alloc_head >= used_end(delta, own) &&
	    ploop_iblk_pos(plo, ctl->alloc_head) <= delta->io->size(delta))
		err = delta->io->truncate(delta, ploop_iblk_pos(plo, ctl->alloc_head));
	if (!err)
		err = delta->io->sync(delta, true);
	ploop_map_free(own);
out_put_file:
	fput(file);
	return err;
}
