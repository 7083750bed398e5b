// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeping a host from moving the blocks of an image file. What moves blocks of an
 * open file, and what stops it:
 *
 *   write, truncate, fallocate, defragmentation (of ext4 and xfs), exchange of
 *   ranges, swapon: want the file open for writing. Of a file that we write nobody
 *   else may have it so, as of a program that runs; of one that we read, who opens
 *   it for writing breaks a lease, and waits for us
 *   clone from it, deduplication into it (xfs): are content with a file open for
 *   reading. They break a layout lease, the mechanism of pNFS block layouts
 *   chattr +j (ext4): nothing. Who uses the places compares the operations of the
 *   file, which change
 *   verity (ext4): nothing. A filesystem that has it is not used in this way
 *
 * DAX, encryption, data journals, realtime files, shared and unwritten blocks have
 * no places that could be used.
 */
#include "ploop.h"
#include "pin.h"

#include <linux/fsverity.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

static bool is_ext4(const struct inode *inode)
{
	return !strcmp(inode->i_sb->s_type->name, "ext4");
}

/* A file that this host would be asked to hold; NULL: it can. */
static const char *check_file(struct ploop_delta *delta)
{
	struct file *file = delta->file;
	struct inode *inode = file_inode(file);
	struct file_kattr fa = { .flags_valid = true };
	bool ext4 = is_ext4(inode);

	if (!ext4 && strcmp(inode->i_sb->s_type->name, "xfs"))
		return "not on ext4 or xfs";
	if (!ext4 && !IS_ENABLED(CONFIG_EXPORTFS_BLOCK_OPS))
		return "this kernel has no layout leases for xfs";
	if (!inode->i_sb->s_bdev || !inode->i_mapping->a_ops->bmap)
		return "the filesystem does not tell places";
	if (IS_DAX(inode) || IS_ENCRYPTED(inode) || IS_VERITY(inode) || IS_SWAPFILE(inode))
		return "the file is DAX, encrypted, verity or swap";
	if (i_blocksize(inode) > ploop_cluster_bytes(delta->plo))
		return "blocks of the filesystem are larger than clusters";
	if (!ext4)
		return NULL;
	if (vfs_fileattr_get(file->f_path.dentry, &fa))
		return "the filesystem does not tell attributes";
	if (fa.flags & FS_JOURNAL_DATA_FL)
		return "the filesystem journals data";
	if (!(fa.flags & FS_EXTENT_FL))
		return "the file has no extents";
	/* EOPNOTSUPP: the filesystem cannot, so it will not. Writes nothing to user space. */
	if (!delta->rdonly && file->f_op->unlocked_ioctl &&
	    file->f_op->unlocked_ioctl(file, FS_IOC_MEASURE_VERITY, 0) != -EOPNOTSUPP)
		return "the filesystem has verity";
	return NULL;
}

/**
 * ploop_pin_init() - nothing is held
 * @delta: delta whose file is open
 *
 * Return: 0 or -ENOMEM.
 */
int ploop_pin_init(struct ploop_delta *delta)
{
	struct ploop_pin *pin = kzalloc(sizeof(*pin), GFP_KERNEL);

	if (!pin)
		return -ENOMEM;
	pin->delta = delta;
	spin_lock_init(&pin->lock);
	INIT_LIST_HEAD(&pin->changers);
	delta->io_priv = pin;
	return 0;
}

/**
 * ploop_pin_exit() - undo ploop_pin_init()
 * @delta: the delta; nothing is held
 */
void ploop_pin_exit(struct ploop_delta *delta)
{
	kfree(delta->io_priv);
	delta->io_priv = NULL;
}

/**
 * ploop_pin_begin_change() - what this task does to the file it does for us
 * @delta: whose file
 * @c: memory that lives until ploop_pin_end_change()
 *
 * Context: process or worker.
 */
void ploop_pin_begin_change(struct ploop_delta *delta, struct ploop_changer *c)
{
	struct ploop_pin *pin = delta->io_priv;

	c->task = current;
	spin_lock(&pin->lock);
	list_add(&c->list, &pin->changers);
	spin_unlock(&pin->lock);
}

/**
 * ploop_pin_end_change() - end of ploop_pin_begin_change()
 * @delta: whose file
 * @c: the same
 *
 * Context: process or worker.
 */
void ploop_pin_end_change(struct ploop_delta *delta, struct ploop_changer *c)
{
	struct ploop_pin *pin = delta->io_priv;

	spin_lock(&pin->lock);
	list_del(&c->list);
	spin_unlock(&pin->lock);
}

/* The host's lock of leases is held: nothing sleeps here. */
static bool lease_break(ploop_lease_t *lease)
{
	struct ploop_lease *owner = PLOOP_FLC(lease, owner);

	ploop_stable_lose(owner->pin->delta, "others change the file");
	/* It goes when nobody uses the places any more. */
	return false;
}

static bool breaker_is_ours(ploop_lease_t *lease)
{
	struct ploop_pin *pin = ((struct ploop_lease *)PLOOP_FLC(lease, owner))->pin;
	struct ploop_changer *c;
	bool ours = false;

	spin_lock(&pin->lock);
	list_for_each_entry(c, &pin->changers, list)
		ours |= c->task == current;
	spin_unlock(&pin->lock);
	return ours;
}

/* Asked for either lease: whoever has the layout has kept writers out before. */
static int __maybe_unused open_conflict(struct file *file, int type)
{
	return inode_is_open_for_write(file_inode(file)) ? -EAGAIN : 0;
}

static const struct lease_manager_operations lease_ops = {
	.lm_break		= lease_break,
	.lm_change		= lease_modify,
	.lm_breaker_owns_lease	= breaker_is_ours,
	PLOOP_LM_OPEN_CONFLICT(open_conflict)
};

/* owner: the field of the pin that the lease goes to */
static int take_lease(struct ploop_pin *pin, struct ploop_lease *owner, unsigned int flags)
{
	ploop_lease_t *lease = ploop_lease_alloc();
	int err;

	if (!lease)
		return -ENOMEM;
	PLOOP_FLC(lease, flags) = flags;
	PLOOP_FLC(lease, type) = F_RDLCK;
	PLOOP_FLC(lease, owner) = owner;
	PLOOP_FLC(lease, file) = pin->file;
	PLOOP_FLC(lease, pid) = current->tgid;
	ploop_lease_whole(lease);
	lease->fl_lmops = &lease_ops;
	owner->pin = pin;
	err = vfs_setlease(pin->file, F_RDLCK, &lease, NULL);
	if (lease)
		ploop_lease_free(lease);
	owner->taken = !err;
	return err;
}

static void drop_lease(struct ploop_pin *pin, struct ploop_lease *owner)
{
	void *priv = owner;

	/* The host may have dropped it already, when we took too long. */
	if (owner->taken)
		vfs_setlease(pin->file, F_UNLCK, NULL, &priv);
	owner->taken = false;
}

/* As while a program runs; ours is the one opening for writing that there is. */
static int deny_writers(struct ploop_pin *pin)
{
	atomic_t *count = &file_inode(pin->file)->i_writecount;

	pin->denied = atomic_cmpxchg(count, 1, -1) == 1;
	return pin->denied ? 0 : -EAGAIN;
}

static int hold(struct ploop_pin *pin)
{
	struct inode *inode = file_inode(pin->file);
	int err;

	err = pin->delta->rdonly ? take_lease(pin, &pin->lease, FL_LEASE) : deny_writers(pin);
	if (err || is_ext4(inode))
		return err;
	err = take_lease(pin, &pin->layout, FL_LAYOUT);
	/* Who was past the point where he asks has the inode locked. */
	inode_lock_shared(inode);
	inode_unlock_shared(inode);
	return err;
}

/**
 * ploop_pin_release() - the engine's release
 * @delta: whose file
 *
 * Context: process or worker, may sleep; stable->mutex.
 */
void ploop_pin_release(struct ploop_delta *delta)
{
	struct ploop_pin *pin = delta->io_priv;

	drop_lease(pin, &pin->layout);
	drop_lease(pin, &pin->lease);
	/* Back to our own opening; others may deny writers by now, too. */
	if (pin->denied)
		atomic_add(2, &file_inode(pin->file)->i_writecount);
	pin->denied = false;
	pin->file = NULL;
}

/**
 * ploop_pin_hold() - the engine's hold
 * @delta: whose file
 *
 * Context: worker, may sleep; stable->mutex.
 * Return: NULL, or a literal that says why not.
 */
const char *ploop_pin_hold(struct ploop_delta *delta)
{
	struct ploop_pin *pin = delta->io_priv;
	struct ploop_stable *st = &delta->stable;
	struct inode *inode = file_inode(delta->file);
	const char *why;

	/* Before the attributes: what they say is not older than this. */
	st->aops = READ_ONCE(inode->i_mapping->a_ops);
	why = check_file(delta);
	if (why)
		return why;
	pin->file = delta->file;
	if (hold(pin)) {
		ploop_pin_release(delta);
		return "others have the file open for writing";
	}
	/* What others wrote before is on the disk. */
	if (filemap_write_and_wait(inode->i_mapping)) {
		ploop_pin_release(delta);
		return "the page cache cannot be written";
	}
	st->bdev = inode->i_sb->s_bdev;
	st->nowait = bdev_nowait(st->bdev);
	st->inode = inode;
	if (!ploop_stable_unchanged(st)) {
		ploop_pin_release(delta);
		return "the filesystem journals data";
	}
	return NULL;
}

/**
 * ploop_pin_check() - is the file still one that can be held
 * @delta: whose file
 *
 * Where an ext4 allocates late, chattr +j has no effect until it is mounted anew
 * otherwise; then no operation changes. So this is asked at each flush.
 *
 * Context: process or worker, may sleep.
 */
void ploop_pin_check(struct ploop_delta *delta)
{
	struct file_kattr fa = { .flags_valid = true };

	if (!READ_ONCE(delta->stable.held) || !is_ext4(file_inode(delta->file)))
		return;
	if (vfs_fileattr_get(delta->file->f_path.dentry, &fa) || fa.flags & FS_JOURNAL_DATA_FL)
		ploop_stable_lose(delta, "the filesystem journals data");
}

static bool place_of(struct inode *inode, loff_t pos, sector_t *sector)
{
	sector_t block = pos >> inode->i_blkbits;

	if (bmap(inode, &block) || !block)
		return false;
	*sector = (block << (inode->i_blkbits - SECTOR_SHIFT)) +
		  ((pos & (i_blocksize(inode) - 1)) >> SECTOR_SHIFT);
	return true;
}

/**
 * ploop_pin_locate() - the engine's locate
 * @delta: whose file
 * @pos: first byte of a unit
 * @sector: out: where it lies
 *
 * Context: worker, may sleep.
 * Return: false: it is not written, or not in one piece.
 */
bool ploop_pin_locate(struct ploop_delta *delta, loff_t pos, sector_t *sector)
{
	struct inode *inode = delta->stable.inode;
	u32 off, step = i_blocksize(inode);
	sector_t more;

	if (pos + PLOOP_UNIT_BYTES > i_size_read(inode) || !place_of(inode, pos, sector))
		return false;
	for (off = step; off < PLOOP_UNIT_BYTES; off += step)
		if (!place_of(inode, pos + off, &more) ||
		    more != *sector + (off >> SECTOR_SHIFT))
			return false;
	return true;
}
