// SPDX-License-Identifier: GPL-2.0-only
/*
 * Deltas: attaching image files to a stopped device and letting them go.
 */
#include "ploop.h"

#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>

static int check_ctl(struct ploop_device *plo, const struct ploop_ctl *ctl,
		     const struct ploop_format_ops *fmt)
{
	if (ctl->flags & ~(PLOOP_CTLF_RDONLY | PLOOP_CTLF_COOKIE))
		return -EINVAL;
	if (ctl->cluster_log < PLOOP_CLUSTER_LOG_MIN ||
	    ctl->cluster_log > PLOOP_CLUSTER_LOG_MAX)
		return -EINVAL;
	if (!plo->nr_deltas)
		return 0;
	if (plo->nr_deltas == PLOOP_MAX_LEVELS || ctl->cluster_log != plo->cluster_log ||
	    !fmt->stackable)
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

static struct ploop_delta *delta_alloc(struct ploop_device *plo, bool rdonly)
{
	struct ploop_delta *delta = kzalloc(sizeof(*delta), GFP_KERNEL);
	u8 slot = 0;

	if (!delta)
		return NULL;
	while (plo->slot[slot])
		slot++;
	delta->plo = plo;
	delta->slot = slot;
	delta->level = plo->nr_deltas;
	delta->rdonly = rdonly;
	delta->max_clusters = U64_MAX;
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
	delta->io->close(delta);
	ploop_image_release(delta);
	ploop_engine_put(delta->io);
}

/* Takes over @upper, also when it fails; the device changes only on success. */
static int publish(struct ploop_device *plo, struct ploop_delta *delta,
		   struct ploop_map *upper)
{
	int err;

	if (plo->map) {
		err = ploop_map_overlay(plo->map, upper);
		if (err)
			return err;
	} else {
		plo->map = upper;
	}
	plo->slot[delta->slot] = delta;
	plo->level[delta->level] = delta;
	plo->top = delta;
	plo->size = delta->size;
	if (delta->version)
		plo->version = delta->version;
	WRITE_ONCE(plo->nr_deltas, plo->nr_deltas + 1);
	return 0;
}

static int open_format(struct ploop_device *plo, struct ploop_delta *delta)
{
	struct ploop_map *upper;
	int err;

	err = delta->fmt->open(delta, &upper);
	if (err)
		return err;
	/* Marked before anything can be written: a crash must not go unseen. */
	if (!delta->rdonly && delta->fmt->start) {
		err = delta->fmt->start(delta);
		if (err)
			goto out_free_map;
	}
	err = ploop_sysfs_add_delta(delta);
	if (err)
		goto out_stop_format;
	err = publish(plo, delta, upper);
	if (err) {
		upper = NULL;
		goto out_remove_sysfs;
	}
	return 0;

out_remove_sysfs:
	ploop_sysfs_remove_delta(delta);
out_stop_format:
	if (!delta->rdonly && delta->fmt->stop)
		delta->fmt->stop(delta);
out_free_map:
	ploop_map_free(upper);
	delta->fmt->close(delta);
	return err;
}

static int add(struct ploop_device *plo, struct ploop_format_ops *fmt,
	       const struct ploop_ctl *ctl, const struct ploop_ctl_chunk *chunk)
{
	struct ploop_delta *delta;
	int err;

	delta = delta_alloc(plo, ctl->flags & PLOOP_CTLF_RDONLY);
	if (!delta)
		return -ENOMEM;
	delta->fmt = fmt;
	err = open_image(delta, chunk);
	if (err)
		goto out_free_delta;
	/* Before the format may write: only the top may be writable. */
	err = -EINVAL;
	if (plo->top && !plo->top->rdonly)
		goto out_close_image;
	err = open_format(plo, delta);
	if (err)
		goto out_close_image;
	return 0;

out_close_image:
	close_image(delta);
out_free_delta:
	kfree(delta);
	return err;
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
 * Return: 0, or a negative errno as kernel-abi.md §1.5 has them: EINVAL bad
 * argument or image, EBADF, EOPNOTSUPP no engine for the file, EBUSY and
 * ETXTBSY image in use, EUCLEAN damaged image, I/O errors.
 */
int ploop_delta_add(struct ploop_device *plo, const struct ploop_ctl *ctl,
		    const struct ploop_ctl_chunk *chunk)
{
	struct ploop_format_ops *fmt;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	fmt = ploop_format_get(ctl->format);
	if (!fmt)
		return -EINVAL;
	err = check_ctl(plo, ctl, fmt);
	if (err)
		goto out_put_format;
	/* The first delta keeps the module in memory, the last lets it go. */
	if (!plo->nr_deltas) {
		__module_get(THIS_MODULE);
		plo->cluster_log = ctl->cluster_log;
	}
	err = add(plo, fmt, ctl, chunk);
	if (!err)
		return 0;
	if (!plo->nr_deltas)
		module_put(THIS_MODULE);
out_put_format:
	ploop_format_put(fmt);
	return err;
}

static void delta_destroy(struct ploop_device *plo, struct ploop_delta *delta)
{
	/* Attached but never started, or stopped: STOP closed what it could. */
	if (!delta->rdonly && delta->fmt->stop && !test_bit(PLOOP_S_ABORT, &plo->state))
		delta->fmt->stop(delta);
	ploop_sysfs_remove_delta(delta);
	delta->fmt->close(delta);
	ploop_format_put(delta->fmt);
	close_image(delta);
	kfree(delta);
}

/**
 * ploop_delta_clear() - detach all deltas of a stopped device
 * @plo: the device, stopped, no maintenance
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_delta_clear(struct ploop_device *plo)
{
	unsigned int level = plo->nr_deltas;

	lockdep_assert_held(&plo->ctl_mutex);
	WRITE_ONCE(plo->nr_deltas, 0);
	plo->top = NULL;
	while (level--) {
		struct ploop_delta *delta = plo->level[level];

		plo->level[level] = NULL;
		plo->slot[delta->slot] = NULL;
		delta_destroy(plo, delta);
		if (!level)
			module_put(THIS_MODULE);
	}
	ploop_map_free(plo->map);
	plo->map = NULL;
	plo->size = 0;
	plo->version = 0;
	plo->cluster_log = 0;
	plo->cookie[0] = 0;
	clear_bit(PLOOP_S_ABORT, &plo->state);
}
