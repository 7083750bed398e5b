// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O engine: direct I/O on a file of a local filesystem, issued by workers.
 */
#include "ploop.h"
#include "pin.h"

#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/stat.h>
#include <linux/uio.h>

static bool is_checksummed(struct file *file)
{
	struct file_kattr fa = { .flags_valid = true };

	if (file_inode(file)->i_sb->s_magic != BTRFS_SUPER_MAGIC)
		return false;
	return vfs_fileattr_get(file->f_path.dentry, &fa) ||
	       !(fa.flags & FS_NOCOW_FL);
}

/* Where the host does not say what it wants, 512 bytes is what loop assumes. */
static int learn_alignment(struct ploop_delta *delta, struct file *file)
{
	struct inode *inode = file_inode(file);
	struct kstat stat;
	int err;

	delta->block_size = SECTOR_SIZE;
	delta->dma_alignment = SECTOR_SIZE - 1;
	delta->stable_writes = inode->i_sb->s_iflags & SB_I_STABLE_WRITES;
	delta->bounce = is_checksummed(file);
	if (!(file->f_mode & FMODE_CAN_ODIRECT))
		return -EOPNOTSUPP;
	err = vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT);
	if (err || !(stat.result_mask & STATX_DIOALIGN))
		return err;
	if (!stat.dio_offset_align || !stat.dio_mem_align)
		return -EOPNOTSUPP;
	if (!is_power_of_2(stat.dio_offset_align) || stat.dio_offset_align > PAGE_SIZE ||
	    !is_power_of_2(stat.dio_mem_align) || stat.dio_mem_align > PAGE_SIZE)
		return -EOPNOTSUPP;
	delta->block_size = max_t(u32, delta->block_size, stat.dio_offset_align);
	delta->dma_alignment = max_t(u32, delta->dma_alignment, stat.dio_mem_align - 1);
	return 0;
}

/*
 * An OFD lock on our own file: tools that work on the image offline take the
 * same lock, so the two never meet. Goes away with the file.
 */
static int lock_file(struct file *file, unsigned char type)
{
	struct file_lock fl;

	locks_init_lock(&fl);
	PLOOP_FLC(&fl, flags) = FL_POSIX | FL_OFDLCK;
	PLOOP_FLC(&fl, type) = type;
	PLOOP_FLC(&fl, owner) = file;
	PLOOP_FLC(&fl, file) = file;
	PLOOP_FLC(&fl, pid) = -1;
	fl.fl_start = 0;
	fl.fl_end = OFFSET_MAX;
	return vfs_lock_file(file, F_SETLK, &fl, NULL);
}

static struct file *open_file(const struct path *path, bool rdonly)
{
	return dentry_open(path, O_DIRECT | O_LARGEFILE | (rdonly ? O_RDONLY : O_RDWR),
			   current_cred());
}

/* What the page cache holds would hide, or overwrite, what we do. */
static int drop_page_cache(struct file *file)
{
	int err = vfs_fsync(file, 0);

	if (!err)
		invalidate_inode_pages2(file->f_mapping);
	return err;
}

static int direct_open(struct ploop_delta *delta, struct file *client)
{
	struct file *file = open_file(&client->f_path, delta->rdonly);
	int err;

	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		if (err == -EINVAL)
			ploop_err(delta->plo, "%pD4: host filesystem without direct I/O\n", client);
		return err == -EINVAL ? -EOPNOTSUPP : err;
	}
	err = learn_alignment(delta, file);
	if (err) {
		ploop_err(delta->plo, "%pD4: host filesystem gives no direct I/O on this file\n",
			  file);
		goto out_put_file;
	}
	err = lock_file(file, delta->rdonly ? F_RDLCK : F_WRLCK);
	if (err) {
		/* The errno tells who came to whom, as in ploop_image_claim(). */
		if (err == -EAGAIN || err == -EACCES)
			err = delta->rdonly ? -ETXTBSY : -EBUSY;
		goto out_put_file;
	}
	err = drop_page_cache(file);
	if (err)
		goto out_put_file;
	err = ploop_pin_init(delta);
	if (err)
		goto out_put_file;
	delta->file = file;
	delta->path = file->f_path;
	path_get(&delta->path);
	return 0;

out_put_file:
	fput(file);
	return err;
}

static struct file *direct_reopen(struct ploop_delta *delta, bool rdonly)
{
	return open_file(&delta->path, rdonly);
}

#define RELOCK_TRIES	100
#define RELOCK_MS	10

/*
 * Our two openings are strangers to each other, so an exclusive lock has to be
 * let go by one and taken by the other. Tools that look at the file in between
 * find it attached, and go away.
 */
static int relock(struct file *old, struct file *file)
{
	int i, err;

	lock_file(old, F_UNLCK);
	for (i = 0; i < RELOCK_TRIES; i++) {
		err = lock_file(file, F_WRLCK);
		if (err != -EAGAIN)
			break;
		msleep(RELOCK_MS);
	}
	if (err)
		lock_file(old, F_RDLCK);
	return err == -EAGAIN ? -EBUSY : err;
}

static int direct_adopt(struct ploop_delta *delta, struct file *file, bool rdonly)
{
	struct file *old = delta->file;
	int err;

	err = drop_page_cache(file);
	if (err)
		return err;
	if (rdonly) {
		/* Weakening our own lock, and sharing it then, cannot be refused. */
		lock_file(old, F_RDLCK);
		err = lock_file(file, F_RDLCK);
	} else {
		err = relock(old, file);
	}
	if (!err)
		WRITE_ONCE(delta->file, file);
	return err;
}

static void direct_close(struct ploop_delta *delta)
{
	/* What was written went past the page cache, and perhaps past the file. */
	invalidate_inode_pages2(delta->file->f_mapping);
	ploop_pin_exit(delta);
	path_put(&delta->path);
	fput(delta->file);
	delta->file = NULL;
}

/* The last of submission and completion reports: only then is the iocb free. */
static void transfer_put(struct ploop_io *io)
{
	if (atomic_dec_and_test(&io->iocb_ref))
		ploop_io_transferred(io, io->iocb_ret);
}

static void transfer_done(struct kiocb *iocb, long ret)
{
	struct ploop_io *io = container_of(iocb, struct ploop_io, iocb);

	if (op_is_write(bio_op(io->bio)))
		kiocb_end_write(iocb);
	io->iocb_ret = ret;
	transfer_put(io);
}

static void bio_iter(struct bio *bio, unsigned int dir, struct iov_iter *iter)
{
	const struct bio_vec *first = __bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter);
	struct bio_vec bv;
	struct bvec_iter bi;
	unsigned int segs = 0;

	bio_for_each_bvec(bv, bio, bi)
		segs++;
	/* A split bio starts anywhere in the table, perhaps within an element. */
	iov_iter_bvec(iter, dir, first, segs, bio->bi_iter.bi_size);
	iter->iov_offset = mp_bvec_iter_offset(bio->bi_io_vec, bio->bi_iter) - first->bv_offset;
}

/* Who asks others before he changes the file finds that it is us. */
static ssize_t write_iter(struct ploop_delta *delta, struct kiocb *iocb, struct iov_iter *iter)
{
	struct ploop_changer changer;
	ssize_t ret;

	ploop_pin_begin_change(delta, &changer);
	ret = iocb->ki_filp->f_op->write_iter(iocb, iter);
	ploop_pin_end_change(delta, &changer);
	return ret;
}

static int rw_sync(struct ploop_delta *delta, unsigned int dir, struct iov_iter *iter,
		   loff_t pos)
{
	struct file *file = READ_ONCE(delta->file);
	struct kiocb iocb;
	loff_t start = pos;
	ssize_t ret;

	while (iov_iter_count(iter)) {
		init_sync_kiocb(&iocb, file);
		iocb.ki_pos = pos;
		iocb.ki_flags |= IOCB_DIRECT;
		if (dir == WRITE) {
			file_start_write(file);
			ret = write_iter(delta, &iocb, iter);
			file_end_write(file);
		} else {
			ret = file->f_op->read_iter(&iocb, iter);
		}
		if (ret < 0)
			return ret;
		if (!ret && dir == WRITE)
			return -EIO;
		if (!ret)
			iov_iter_zero(iov_iter_count(iter), iter);
		pos += ret;
	}
	if (dir == WRITE)
		ploop_delta_wrote(delta, start, pos - start);
	return 0;
}

static int direct_rw(struct ploop_delta *delta, unsigned int dir, const struct bio_vec *bvec,
		     size_t len, loff_t pos)
{
	struct iov_iter iter;
	unsigned int segs = 0;
	size_t sum = 0;

	while (sum < len)
		sum += bvec[segs++].bv_len;
	iov_iter_bvec(&iter, dir, bvec, segs, len);
	return rw_sync(delta, dir, &iter, pos);
}

#define BOUNCE_PAGES	32

/* Copies the next part of a bio to fresh pages; returns how many, 0: no memory. */
static unsigned int bounce_fill(struct bio *bio, struct bvec_iter *bi,
				struct bio_vec *copy, u32 *len)
{
	unsigned int n;

	for (n = 0, *len = 0; n < BOUNCE_PAGES && bi->bi_size; n++) {
		struct bio_vec bv = bio_iter_iovec(bio, *bi);
		struct page *page = alloc_page(GFP_NOIO | __GFP_NOWARN);

		if (!page)
			break;
		memcpy_from_bvec(page_address(page), &bv);
		bvec_set_page(&copy[n], page, bv.bv_len, 0);
		bio_advance_iter(bio, bi, bv.bv_len);
		*len += bv.bv_len;
	}
	return n;
}

/*
 * A host that sums up data (btrfs) would store a sum that does not match when
 * the submitter changes its pages under direct I/O. Write a copy instead.
 */
static int write_bounced(struct ploop_delta *delta, struct bio *bio, loff_t pos)
{
	struct bvec_iter bi = bio->bi_iter;
	struct bio_vec copy[BOUNCE_PAGES];
	unsigned int n;
	int err = 0;
	u32 len;

	while (bi.bi_size && !err) {
		n = bounce_fill(bio, &bi, copy, &len);
		if (!n)
			return -EAGAIN;
		err = direct_rw(delta, WRITE, copy, len, pos);
		while (n--)
			__free_page(copy[n].bv_page);
		pos += len;
	}
	return err;
}

static int direct_write_bio(struct ploop_delta *delta, struct bio *bio, loff_t pos)
{
	struct iov_iter iter;

	if (delta->bounce)
		return write_bounced(delta, bio, pos);
	bio_iter(bio, WRITE, &iter);
	return rw_sync(delta, WRITE, &iter, pos);
}

static void direct_submit(struct ploop_delta *delta, struct ploop_io *io, loff_t pos)
{
	bool is_write = op_is_write(bio_op(io->bio));
	struct file *file = READ_ONCE(delta->file);
	struct iov_iter iter;
	long ret;

	if (is_write && delta->bounce) {
		ret = write_bounced(delta, io->bio, pos);
		ploop_io_transferred(io, ret ? ret : io->bio->bi_iter.bi_size);
		return;
	}
	/* A frozen host: do not hold a worker, the io is parked by its caller. */
	if (is_write && !file_start_write_trylock(file)) {
		ploop_io_transferred(io, -EAGAIN);
		return;
	}
	bio_iter(io->bio, is_write ? WRITE : READ, &iter);
	io->iocb = (struct kiocb) {
		.ki_filp = file,
		.ki_pos = pos,
		.ki_flags = IOCB_DIRECT,
		.ki_ioprio = io->bio->bi_ioprio,
		.ki_complete = transfer_done,
	};
	atomic_set(&io->iocb_ref, 2);
	if (is_write) {
		/* The completion may come from another task or an interrupt. */
		__sb_writers_release(file_inode(file)->i_sb, SB_FREEZE_WRITE);
		ret = write_iter(delta, &io->iocb, &iter);
	} else {
		ret = file->f_op->read_iter(&io->iocb, &iter);
	}
	if (ret != -EIOCBQUEUED)
		transfer_done(&io->iocb, ret);
	transfer_put(io);
}

/*
 * Not vfs_truncate(): that would want to open the file for writing, which we may
 * have denied to all.
 */
static int set_size(struct ploop_delta *delta, loff_t size)
{
	struct iattr attr = { .ia_valid = ATTR_SIZE | ATTR_FORCE, .ia_size = size };
	struct dentry *dentry = delta->path.dentry;
	struct ploop_changer changer;
	int err;

	err = mnt_want_write(delta->path.mnt);
	if (err)
		return err;
	ploop_pin_begin_change(delta, &changer);
	err = break_lease(d_inode(dentry), O_WRONLY);
	if (!err) {
		inode_lock(d_inode(dentry));
		err = notify_change(mnt_idmap(delta->path.mnt), dentry, &attr, NULL);
		inode_unlock(d_inode(dentry));
	}
	ploop_pin_end_change(delta, &changer);
	mnt_drop_write(delta->path.mnt);
	return err;
}

static int direct_truncate(struct ploop_delta *delta, loff_t size)
{
	int err;

	ploop_stable_forget(delta, round_up(size, ploop_cluster_bytes(delta->plo)), OFFSET_MAX - size);
	err = set_size(delta, size);
	ploop_delta_dirty(delta);
	return err;
}

static loff_t direct_size(struct ploop_delta *delta)
{
	return i_size_read(file_inode(delta->file));
}

static int allocate(struct ploop_delta *delta, int mode, loff_t pos, loff_t len)
{
	struct ploop_changer changer;
	int err;

	ploop_pin_begin_change(delta, &changer);
	err = vfs_fallocate(delta->file, mode, pos, len);
	ploop_pin_end_change(delta, &changer);
	return err;
}

static int direct_prealloc(struct ploop_delta *delta, loff_t pos, loff_t len)
{
	int err = allocate(delta, 0, pos, len);

	ploop_delta_dirty(delta);
	if (err != -EOPNOTSUPP || direct_size(delta) >= pos + len)
		return err;
	return direct_truncate(delta, pos + len);
}

static int direct_punch(struct ploop_delta *delta, loff_t pos, loff_t len)
{
	int err = allocate(delta, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len);

	ploop_delta_wrote(delta, pos, len);
	return err;
}

static int direct_zero(struct ploop_delta *delta, loff_t pos, loff_t len)
{
	int err = allocate(delta, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, pos, len);

	ploop_delta_wrote(delta, pos, len);
	return err;
}

/* Or what looks for files that have changed would not see this one. */
static void update_times(struct ploop_delta *delta)
{
	if (!file_start_write_trylock(delta->file))
		return;
	if (!file_update_time(delta->file)) {
		delta->times_due = false;
		delta->times_next = jiffies + HZ;
	}
	file_end_write(delta->file);
}

static int direct_sync(struct ploop_delta *delta, bool full)
{
	/* An ext4 that errors made read-only would report success here. */
	if (sb_rdonly(file_inode(delta->file)->i_sb))
		return -EROFS;
	if (delta->times_due && (full || time_after_eq(jiffies, delta->times_next)))
		update_times(delta);
	ploop_pin_check(delta);
	return vfs_fsync(delta->file, !full);
}

static struct ploop_io_ops direct_ops = {
	.name		= "direct",
	.id		= PLOOP_IO_DIRECT,
	.owner		= THIS_MODULE,
	.open		= direct_open,
	.close		= direct_close,
	.reopen		= direct_reopen,
	.adopt		= direct_adopt,
	.submit		= direct_submit,
	.rw		= direct_rw,
	.write_bio	= direct_write_bio,
	.prealloc	= direct_prealloc,
	.punch		= direct_punch,
	.zero		= direct_zero,
	.truncate	= direct_truncate,
	.size		= direct_size,
	.sync		= direct_sync,
	.hold		= ploop_pin_hold,
	.release	= ploop_pin_release,
	.locate		= ploop_pin_locate,
};

static int __init direct_init(void)
{
	return ploop_engine_register(&direct_ops);
}

static void __exit direct_exit(void)
{
	ploop_engine_unregister(&direct_ops);
}

module_init(direct_init);
module_exit(direct_exit);
MODULE_DESCRIPTION("ploop I/O engine: direct I/O on local files");
MODULE_AUTHOR("ploop authors");
MODULE_VERSION(PLOOP_VERSION);
MODULE_LICENSE("GPL");
