// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registries: image formats, I/O engines, and the image files attached to any
 * device of this module.
 */
#include "ploop.h"

#include <linux/kmod.h>
#include <linux/module.h>
#include <linux/rwsem.h>
#include <linux/slab.h>

static DECLARE_RWSEM(formats_lock);
static LIST_HEAD(formats);
static DECLARE_RWSEM(engines_lock);
static LIST_HEAD(engines);
static DEFINE_MUTEX(images_mutex);
static LIST_HEAD(images);

static struct ploop_format_ops *format_find(u32 id)
{
	struct ploop_format_ops *ops;

	list_for_each_entry(ops, &formats, list)
		if (ops->id == id)
			return ops;
	return NULL;
}

static struct ploop_format_ops *format_try_get(u32 id)
{
	struct ploop_format_ops *ops;

	down_read(&formats_lock);
	ops = format_find(id);
	if (ops && !try_module_get(ops->owner))
		ops = NULL;
	up_read(&formats_lock);
	return ops;
}

/**
 * ploop_format_register() - make an image format known
 * @ops: the format; stays valid until it is unregistered
 *
 * Context: process, may sleep.
 * Return: 0, or -EEXIST when its id is taken.
 */
int ploop_format_register(struct ploop_format_ops *ops)
{
	int err = 0;

	down_write(&formats_lock);
	if (format_find(ops->id))
		err = -EEXIST;
	else
		list_add(&ops->list, &formats);
	up_write(&formats_lock);
	return err;
}
EXPORT_SYMBOL_GPL(ploop_format_register);

/**
 * ploop_format_unregister() - forget an image format
 * @ops: the format; nobody uses it, since users hold its module
 */
void ploop_format_unregister(struct ploop_format_ops *ops)
{
	down_write(&formats_lock);
	list_del(&ops->list);
	up_write(&formats_lock);
}
EXPORT_SYMBOL_GPL(ploop_format_unregister);

/**
 * ploop_format_get() - find a format, loading its module when needed
 * @id: enum ploop_format_id, untrusted
 *
 * Context: process, may sleep and run modprobe.
 * Return: the format with a module reference, or NULL.
 */
struct ploop_format_ops *ploop_format_get(u32 id)
{
	struct ploop_format_ops *ops = format_try_get(id);

	if (ops)
		return ops;
	if (id == PLOOP_FMT_RAW)
		request_module("pfmt_raw");
	else if (id == PLOOP_FMT_PLOOP1)
		request_module("pfmt_ploop1");
	else
		return NULL;
	return format_try_get(id);
}

/**
 * ploop_format_put() - give back a reference
 * @ops: from ploop_format_get()
 */
void ploop_format_put(struct ploop_format_ops *ops)
{
	module_put(ops->owner);
}

static struct ploop_io_ops *engine_find(u32 id)
{
	struct ploop_io_ops *ops;

	list_for_each_entry(ops, &engines, list)
		if (ops->id == id)
			return ops;
	return NULL;
}

static struct ploop_io_ops *engine_try_get(u32 id)
{
	struct ploop_io_ops *ops;

	down_read(&engines_lock);
	ops = engine_find(id);
	if (ops && !try_module_get(ops->owner))
		ops = NULL;
	up_read(&engines_lock);
	return ops;
}

/**
 * ploop_engine_register() - make an I/O engine known
 * @ops: the engine; stays valid until it is unregistered
 *
 * Context: process, may sleep.
 * Return: 0, or -EEXIST when its id is taken.
 */
int ploop_engine_register(struct ploop_io_ops *ops)
{
	int err = 0;

	down_write(&engines_lock);
	if (engine_find(ops->id))
		err = -EEXIST;
	else
		list_add(&ops->list, &engines);
	up_write(&engines_lock);
	return err;
}
EXPORT_SYMBOL_GPL(ploop_engine_register);

/**
 * ploop_engine_unregister() - forget an I/O engine
 * @ops: the engine; nobody uses it, since users hold its module
 */
void ploop_engine_unregister(struct ploop_io_ops *ops)
{
	down_write(&engines_lock);
	list_del(&ops->list);
	up_write(&engines_lock);
}
EXPORT_SYMBOL_GPL(ploop_engine_unregister);

/**
 * ploop_engine_get() - find an engine, loading its module when needed
 * @id: enum ploop_io_id, untrusted; AUTO is DIRECT here
 *
 * Context: process, may sleep and run modprobe.
 * Return: the engine with a module reference, or NULL.
 */
struct ploop_io_ops *ploop_engine_get(u32 id)
{
	struct ploop_io_ops *ops;

	if (id == PLOOP_IO_AUTO)
		id = PLOOP_IO_DIRECT;
	ops = engine_try_get(id);
	if (ops || id != PLOOP_IO_DIRECT)
		return ops;
	request_module("pio_direct");
	return engine_try_get(id);
}

/**
 * ploop_engine_put() - give back a reference
 * @ops: from ploop_engine_get()
 */
void ploop_engine_put(struct ploop_io_ops *ops)
{
	module_put(ops->owner);
}

static struct ploop_image *image_find(struct inode *inode)
{
	struct ploop_image *image;

	lockdep_assert_held(&images_mutex);
	list_for_each_entry(image, &images, list)
		if (image->inode == inode)
			return image;
	return NULL;
}

/*
 * Is the host filesystem of an image on a device, or on one whose images are on
 * it? Then writing to the device would wait for itself. What lies between them
 * (loop, dm) is not seen from here; the tools look at that.
 */
static bool lies_on(struct inode *inode, struct ploop_device *plo, unsigned int depth)
{
	struct block_device *host = inode->i_sb->s_bdev;
	struct ploop_device *lower;
	struct ploop_image *image;
	struct ploop_delta *delta;

	lockdep_assert_held(&images_mutex);
	if (!host || MAJOR(disk_devt(host->bd_disk)) != PLOOP_MAJOR)
		return false;
	lower = host->bd_disk->private_data;
	if (lower == plo || !depth)
		return true;
	list_for_each_entry(image, &images, list)
		list_for_each_entry(delta, &image->users, users)
			if (delta->plo == lower && lies_on(image->inode, plo, depth - 1))
				return true;
	return false;
}

#define MAX_NESTING	4

static int image_share(struct ploop_image *image, struct ploop_delta *delta)
{
	if (!delta->rdonly)
		return -EBUSY;
	if (image->written)
		return -ETXTBSY;
	list_add_tail(&delta->users, &image->users);
	return 0;
}

/**
 * ploop_image_claim() - note that a delta uses an image file
 * @delta: the delta; rdonly is set
 * @inode: the file's inode; the delta's file keeps it alive
 *
 * Many read-only users or one writer. The same errors tell an old client what
 * holds the file: EBUSY a writer came to a used image, ETXTBSY a reader came
 * to a written one.
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0, -EBUSY, -ETXTBSY, -ENOMEM, or -ELOOP: the file lies on the device.
 */
int ploop_image_claim(struct ploop_delta *delta, struct inode *inode)
{
	struct ploop_image *image;
	int err = 0;

	mutex_lock(&images_mutex);
	if (lies_on(inode, delta->plo, MAX_NESTING)) {
		err = -ELOOP;
		goto out_unlock;
	}
	image = image_find(inode);
	if (image) {
		err = image_share(image, delta);
		goto out_unlock;
	}
	image = kzalloc(sizeof(*image), GFP_KERNEL);
	if (!image) {
		err = -ENOMEM;
		goto out_unlock;
	}
	image->inode = inode;
	image->written = !delta->rdonly;
	INIT_LIST_HEAD(&image->users);
	list_add_tail(&delta->users, &image->users);
	list_add(&image->list, &images);
out_unlock:
	if (!err)
		delta->image = image;
	mutex_unlock(&images_mutex);
	return err;
}

/**
 * ploop_image_set_written() - a reader becomes a writer, or a writer a reader
 * @delta: the delta
 * @written: it writes from now on
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0, or -EBUSY: others use the image too.
 */
int ploop_image_set_written(struct ploop_delta *delta, bool written)
{
	struct ploop_image *image = delta->image;
	int err = 0;

	mutex_lock(&images_mutex);
	if (written && !list_is_singular(&image->users))
		err = -EBUSY;
	else
		image->written = written;
	mutex_unlock(&images_mutex);
	return err;
}

/**
 * ploop_image_release() - undo ploop_image_claim()
 * @delta: the delta
 *
 * Context: process, may sleep; ctl_mutex.
 */
void ploop_image_release(struct ploop_delta *delta)
{
	struct ploop_image *image = delta->image;

	mutex_lock(&images_mutex);
	list_del_init(&delta->users);
	if (list_empty(&image->users)) {
		list_del(&image->list);
		kfree(image);
	}
	mutex_unlock(&images_mutex);
	delta->image = NULL;
}
