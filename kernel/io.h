/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_IO_H
#define PLOOP_IO_H

#include <linux/bvec.h>
#include <linux/list.h>
#include <linux/types.h>

struct bio;
struct file;
struct module;
struct ploop_delta;
struct ploop_io;

/**
 * struct ploop_io_ops - an I/O engine: how image files are read and written
 * @name: what sysfs shows; the module is called pio_<name>
 * @id: enum ploop_io_id
 * @owner: the module
 * @list: registry [registry.c engines_lock]
 *
 * Unless stated otherwise calls may sleep, come from a process or worker with
 * memalloc_noio in force once the device runs, take byte offsets and lengths,
 * and return 0 or a negative errno. ENOSPC and EDQUOT mean the host has no
 * room now; EAGAIN means try again a little later.
 *
 * @open: take over @client: open the file anew for the driver alone, learn its
 *        block size and alignment, lock it. Sets @delta->file and path.
 * @close: undo @open. Never fails.
 * @reopen: open the file once more, read-only or writable, without a lock.
 *        Returns the file or an ERR_PTR.
 * @adopt: make @file @delta's file: lock it in place of the old one, which the
 *        caller puts when nobody uses it any more, and see to it that nothing of
 *        the file is in the page cache. EBUSY: somebody else has it locked.
 * @submit: start the transfer of the rest of @io's bio from or to @pos. Calls
 *        ploop_io_transferred() exactly once, from any context. Worker only.
 * @rw: transfer @len bytes now; reads past the end of the file give zeros.
 * @write_bio: write the rest of a bio now; does not advance it.
 * @prealloc: make [@pos, @pos + @len), at the end of the file, allocated and
 *        reading as zeros.
 * @punch: give the range back to the host; it reads as zeros then.
 * @zero: make the range read as zeros and keep it allocated. EOPNOTSUPP where
 *        the host cannot.
 * @truncate: set the file's size.
 * @size: size of the file in bytes. Never fails.
 * @sync: make data and what is needed to find them durable; with @full all
 *        metadata too.
 *
 * @hold: keep the host from moving blocks of the file, and set bdev, nowait, inode
 *        and aops of @delta->stable. Returns NULL, or a literal that says why that
 *        cannot be, now or ever. From its call on it may call ploop_stable_lose().
 * @release: undo @hold: nobody uses the places of the blocks any more.
 * @locate: find the sector of bdev where the unit (PLOOP_UNIT_BYTES) at @pos lies,
 *        in one piece and written. Returns false when it does not. While held.
 */
struct ploop_io_ops {
	const char *name;
	u32 id;
	struct module *owner;
	struct list_head list;

	int (*open)(struct ploop_delta *delta, struct file *client);
	void (*close)(struct ploop_delta *delta);
	struct file *(*reopen)(struct ploop_delta *delta, bool rdonly);
	int (*adopt)(struct ploop_delta *delta, struct file *file, bool rdonly);
	void (*submit)(struct ploop_delta *delta, struct ploop_io *io, loff_t pos);
	int (*rw)(struct ploop_delta *delta, unsigned int dir,
		  const struct bio_vec *bvec, size_t len, loff_t pos);
	int (*write_bio)(struct ploop_delta *delta, struct bio *bio, loff_t pos);
	int (*prealloc)(struct ploop_delta *delta, loff_t pos, loff_t len);
	int (*punch)(struct ploop_delta *delta, loff_t pos, loff_t len);
	int (*zero)(struct ploop_delta *delta, loff_t pos, loff_t len);
	int (*truncate)(struct ploop_delta *delta, loff_t size);
	loff_t (*size)(struct ploop_delta *delta);
	int (*sync)(struct ploop_delta *delta, bool full);
	const char *(*hold)(struct ploop_delta *delta);
	void (*release)(struct ploop_delta *delta);
	bool (*locate)(struct ploop_delta *delta, loff_t pos, sector_t *sector);
};

int ploop_engine_register(struct ploop_io_ops *ops);
void ploop_engine_unregister(struct ploop_io_ops *ops);
struct ploop_io_ops *ploop_engine_get(u32 id);
void ploop_engine_put(struct ploop_io_ops *ops);

#endif /* PLOOP_IO_H */
