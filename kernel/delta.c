// SPDX-License-Identifier: GPL-2.0-only
/*
 * Deltas: opening image files, attaching them to a stopped device, making them
 * writable and closed again, letting them go.
 */
#include "ploop.h"

#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>

static int check_ctl(struct ploop_device *plo, const struct ploop_ctl *ctl,
		     const struct ploop_format_ops *fmt, unsigned int level)
{
	if (ctl->flags & ~(PLOOP_CTLF_RDONLY | PLOOP_CTLF_COOKIE | PLOOP_CTLF_FS_SYNC))
		return -EINVAL;
	if (ctl->cluster_log < PLOOP_CLUSTER_LOG_MIN ||
	    ctl->cluster_log > PLOOP_CLUSTER_LOG_MAX)
		return -EINVAL;
	if (!plo->nr_deltas)
		return 0;
	if (level == PLOOP_MAX_LEVELS || ctl->cluster_log != plo->cluster_log ||
	    (level && !fmt->stackable))
		return -EINVAL;
	return 0;
}

/* The client's file says what it allows; the flag must agree exactly. */
static int check_file(struct file *file, bool rdonly)
{
	if (!S_ISREG(file_inode(file)->i_mode))
		return -EINVAL;
	if (IS_SWAPFILE(file_inode(file)))
		return -EBUSY;
	if (!(file->f_mode & FMODE_READ))
		return -EINVAL;
	return !(file->f_mode & FMODE_WRITE) == rdonly ? 0 : -EINVAL;
}

static struct ploop_delta *delta_alloc(struct ploop_device *plo, unsigned int level,
				       bool rdonly)
{
	struct ploop_delta *delta = kzalloc(sizeof(*delta), GFP_KERNEL);
	unsigned int slot = 0;

	if (!delta)
		return NULL;
	while (plo->slot[slot])
		slot++;
	delta->plo = plo;
	delta->slot = slot;
	delta->level = level;
	delta->rdonly = rdonly;
	delta->max_clusters = U64_MAX;
	mutex_init(&delta->alloc.mutex);
	INIT_LIST_HEAD(&delta->freed);
	INIT_LIST_HEAD(&delta->users);
	return delta;
}

/* Claims the image and opens it through the engine. */
static int open_image(struct ploop_delta *delta, const struct ploop_ctl_chunk *chunk)
{
	struct file *client;
	int err;

	if (chunk->offset || chunk->start || chunk->len || chunk->flags)
		return -EINVAL;
	client = fget(chunk->fd);
	if (!client)
		return -EBADF;
	delta->io = ploop_engine_get(chunk->type);
	err = -EOPNOTSUPP;
	if (!delta->io)
		goto out_put_client;
	err = check_file(client, delta->rdonly);
	if (err)
		goto out_put_engine;
	err = ploop_image_claim(delta, file_inode(client));
	if (err)
		goto out_put_engine;
	ploop_stable_init(delta);
	err = delta->io->open(delta, client);
	if (err)
		goto out_release_image;
	fput(client);
	return 0;

out_release_image:
	ploop_image_release(delta);
out_put_engine:
	ploop_engine_put(delta->io);
out_put_client:
	fput(client);
	return err;
}

static void close_image(struct ploop_delta *delta)
{
	ploop_stable_pause(delta);
	delta->io->close(delta);
	ploop_image_release(delta);
	ploop_engine_put(delta->io);
}

/**
 * ploop_delta_open() - open an image; the device does not change
 * @plo: the device
 * @ctl: what the client asks for, untrusted
 * @chunk: its file, untrusted
 * @level: where the delta will be; the number of deltas, or one to replace
 * @map: out: the entries of this delta alone
 *
 * The image is not written to.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: the delta, or an ERR_PTR as kernel-abi.md §1.5 has them: EINVAL bad
 * argument or image, EBADF, EOPNOTSUPP no engine for the file, EBUSY and
 * ETXTBSY image in use, ELOOP the file lies on the device itself, EUCLEAN
 * damaged image, I/O errors.
 */
struct ploop_delta *ploop_delta_open(struct ploop_device *plo, const struct ploop_ctl *ctl,
				     const struct ploop_ctl_chunk *chunk, unsigned int level,
				     struct ploop_map **map)
{
	struct ploop_format_ops *fmt;
	struct ploop_delta *delta;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	fmt = ploop_format_get(ctl->format);
	if (!fmt)
		return ERR_PTR(-EINVAL);
	err = check_ctl(plo, ctl, fmt, level);
	if (err)
		goto out_put_format;
	if (!plo->nr_deltas)
		plo->cluster_log = ctl->cluster_log;
	err = -ENOMEM;
	delta = delta_alloc(plo, level, ctl->flags & PLOOP_CTLF_RDONLY);
	if (!delta)
		goto out_put_format;
	delta->fmt = fmt;
	err = open_image(delta, chunk);
	if (err)
		goto out_free_delta;
	err = fmt->open(delta, map);
	if (err)
		goto out_close_image;
	return delta;

out_close_image:
	close_image(delta);
out_free_delta:
	kfree(delta);
out_put_format:
	ploop_format_put(fmt);
	return ERR_PTR(err);
}

/**
 * ploop_delta_close() - let go of an image
 * @delta: delta that is not in use any more; its index is durable, if the
 *         device is not in ABORT
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_delta_close(struct ploop_delta *delta)
{
	struct ploop_format_ops *fmt = delta->fmt;

	/* Attached but never started, or stopped: STOP closed what it could. */
	if (!delta->rdonly && fmt->stop && !test_bit(PLOOP_S_ABORT, &delta->plo->state))
		fmt->stop(delta);
	ploop_sysfs_remove_delta(delta);
	fmt->close(delta);
	ploop_format_put(fmt);
	close_image(delta);
	kfree(delta);
}

/**
 * ploop_delta_push() - make a delta the top of the stack
 * @plo: the device; quiesced, or not running
 * @delta: its new top, which overlays the map
 *
 * Context: process; ctl_mutex.
 */
void ploop_delta_push(struct ploop_device *plo, struct ploop_delta *delta)
{
	lockdep_assert_held(&plo->ctl_mutex);
	/* The first delta keeps the module in memory, the last lets it go. */
	if (!plo->nr_deltas)
		__module_get(THIS_MODULE);
	plo->slot[delta->slot] = delta;
	plo->level[delta->level] = delta;
	plo->top = delta;
	plo->size = delta->size;
	if (delta->version)
		plo->version = delta->version;
	WRITE_ONCE(plo->nr_deltas, plo->nr_deltas + 1);
}

/**
 * ploop_delta_drop() - take a delta out of the stack and close it
 * @plo: the device
 * @delta: the delta; not @plo->top of a running device, and no bio knows it
 *
 * The levels above move down by one.
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_delta_drop(struct ploop_device *plo, struct ploop_delta *delta)
{
	unsigned int i, n = plo->nr_deltas - 1;

	lockdep_assert_held(&plo->ctl_mutex);
	ploop_sysfs_remove_delta(delta);
	for (i = delta->level; i < n; i++) {
		plo->level[i] = plo->level[i + 1];
		plo->level[i]->level = i;
		ploop_sysfs_rename_delta(plo->level[i]);
	}
	plo->level[n] = NULL;
	plo->slot[delta->slot] = NULL;
	if (plo->top == delta)
		plo->top = n ? plo->level[n - 1] : NULL;
	/* A raw image has no version; it is alone then. The next first one brings its own. */
	plo->version = n ? plo->level[n - 1]->version : 0;
	WRITE_ONCE(plo->nr_deltas, n);
	ploop_delta_close(delta);
	if (!n)
		module_put(THIS_MODULE);
}

static int add(struct ploop_device *plo, struct ploop_delta *delta)
{
	int err;

	/* Before anything is written: only the top may be writable. */
	if (plo->top && !plo->top->rdonly)
		return -EINVAL;
	/* Marked before anything can be written: a crash must not go unseen. */
	if (!delta->rdonly && delta->fmt->start) {
		err = delta->fmt->start(delta);
		if (err)
			return err;
	}
	return ploop_sysfs_add_delta(delta);
}

/* START reads the map when there is none. Takes over @upper. */
static int add_to_map(struct ploop_device *plo, struct ploop_map *upper)
{
	if (plo->map)
		return ploop_map_overlay(plo->map, upper);
	if (plo->nr_deltas)
		ploop_map_free(upper);
	else
		plo->map = upper;
	return 0;
}

/**
 * ploop_delta_add() - attach an image as the new top of a stopped device
 * @plo: the device, stopped, no maintenance
 * @ctl: what the client asks for, untrusted
 * @chunk: its file, untrusted
 *
 * On failure the device is as before and the image was not written to.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or a negative errno, see ploop_delta_open().
 */
int ploop_delta_add(struct ploop_device *plo, const struct ploop_ctl *ctl,
		    const struct ploop_ctl_chunk *chunk)
{
	struct ploop_delta *delta;
	struct ploop_map *map;
	int err;

	delta = ploop_delta_open(plo, ctl, chunk, plo->nr_deltas, &map);
	if (IS_ERR(delta))
		return PTR_ERR(delta);
	err = add(plo, delta);
	if (err)
		ploop_map_free(map);
	else
		err = add_to_map(plo, map);
	if (err) {
		ploop_delta_close(delta);
		return err;
	}
	ploop_delta_push(plo, delta);
	return 0;
}

/**
 * ploop_delta_clear() - detach all deltas of a stopped device
 * @plo: the device, stopped, no maintenance
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_delta_clear(struct ploop_device *plo)
{
	lockdep_assert_held(&plo->ctl_mutex);
	while (plo->nr_deltas)
		ploop_delta_drop(plo, plo->level[plo->nr_deltas - 1]);
	ploop_map_free(plo->map);
	plo->map = NULL;
	plo->size = 0;
	plo->version = 0;
	plo->cluster_log = 0;
	plo->cookie[0] = 0;
	clear_bit(PLOOP_S_ABORT, &plo->state);
}

/**
 * ploop_delta_reopen() - open a delta's file once more
 * @delta: the delta
 * @rdonly: for reading only
 *
 * The host promises nothing about the file until ploop_delta_switch() is done: to
 * open it for writing would break the promise of one that is read.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: the file, for ploop_delta_switch(), or an ERR_PTR and nothing changed.
 */
struct file *ploop_delta_reopen(struct ploop_delta *delta, bool rdonly)
{
	struct file *file;

	ploop_stable_pause(delta);
	file = delta->io->reopen(delta, rdonly);
	if (IS_ERR(file))
		ploop_stable_resume(delta);
	return file;
}

/**
 * ploop_delta_switch() - use another opening of a delta's file
 * @delta: the delta
 * @file: from ploop_delta_reopen(); taken over, also when this fails
 * @rdonly: the driver will only read
 *
 * Bios may go on, except writes to @delta.
 *
 * Context: process, sleeps until bios that use the old opening are done;
 * ctl_mutex.
 * Return: 0, or a negative errno and nothing has changed: -EBUSY others use the
 * file.
 */
int ploop_delta_switch(struct ploop_delta *delta, struct file *file, bool rdonly)
{
	struct file *old = delta->file;
	int err;

	if (!rdonly) {
		err = ploop_image_set_written(delta, true);
		if (err)
			goto out_put_file;
	}
	err = delta->io->adopt(delta, file, rdonly);
	if (err)
		goto out_set_read;
	if (rdonly)
		ploop_image_set_written(delta, false);
	ploop_epoch_flip(&delta->plo->epoch);
	fput(old);
	ploop_stable_resume(delta);
	return 0;

out_set_read:
	if (!rdonly)
		ploop_image_set_written(delta, false);
out_put_file:
	fput(file);
	ploop_stable_resume(delta);
	return err;
}

/**
 * ploop_delta_arm() - prepare a delta for writes
 * @delta: delta about to become the top of a running device; when it is
 *         read-only there is nothing to do
 * @map: map in which all clusters of the delta are found
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0 or a negative errno; the image may then be marked in use.
 */
int ploop_delta_arm(struct ploop_delta *delta, const struct ploop_map *map)
{
	int err;

	/* STOP closed the image; nothing is written before it is marked again. */
	if (!delta->rdonly && delta->fmt->start) {
		err = delta->fmt->start(delta);
		if (err)
			return err;
	}
	err = ploop_index_init(delta, map->clusters);
	if (err)
		return err;
	err = ploop_alloc_start(delta, map);
	if (err)
		ploop_index_exit(delta);
	return err;
}

/**
 * ploop_delta_disarm() - close an image after its last write
 * @delta: delta that served its last write; its index is durable
 *
 * The order is what makes a crash in between harmless: see flush.c. After ABORT
 * nothing more is written; the image stays marked in use, to be checked.
 *
 * Context: process, may sleep; ctl_mutex, and flush_mutex while the device runs.
 * Return: 0 or a negative errno; the image is still marked in use then.
 */
int ploop_delta_disarm(struct ploop_delta *delta)
{
	int err = ploop_alloc_stop(delta);

	ploop_index_exit(delta);
	if (err || delta->rdonly || test_bit(PLOOP_S_ABORT, &delta->plo->state))
		return err;
	return delta->fmt->stop ? delta->fmt->stop(delta) : ploop_delta_sync(delta, true);
}
