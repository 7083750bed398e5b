// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write tracker: which blocks of the top's image file were written since a client
 * has read them, so that it can copy the file while the device is in use. Blocks
 * are pages and not clusters: random writes would soon have touched all of these.
 *
 * The client moves a cursor ahead of what it reads. A write behind the cursor is
 * noted after it has reached the file and before it is acknowledged; a note is
 * taken away before the client reads the block again. So whatever the order,
 * the client reads what was written, or finds a note.
 */
#include "ploop.h"

#include <linux/mm.h>
#include <linux/pid.h>
#include <kunit/visibility.h>

/* 128 MiB of notes; larger disks have larger blocks */
#define MAX_NOTES	(1ULL << 30)

/**
 * struct ploop_track - notes of a tracker
 * @end: the client has read, or will read next, what lies below; bytes [atomic]
 * @next: block where the client looks for notes [ctl_mutex]
 * @lost: a write could not be noted [atomic]
 * @shift: log2 of the bytes of a block, at most a cluster
 * @nr: blocks that can be noted
 * @written: the notes [atomic bits]
 */
struct ploop_track {
	u64 end;
	u64 next;
	bool lost;
	unsigned int shift;
	u64 nr;
	unsigned long written[];
};

/**
 * ploop_track_wrote() - note that a part of the top's file was written
 * @plo: the device
 * @pos: first byte
 * @len: number of bytes
 *
 * Context: any, also hard interrupt; the write is in the file, and not yet
 * acknowledged.
 */
void ploop_track_wrote(struct ploop_device *plo, u64 pos, u64 len)
{
	struct ploop_track *t;
	u64 end, i;

	/* The data before the cursor and the notes; see ioctls below. */
	smp_mb();
	rcu_read_lock();
	t = rcu_dereference(plo->track);
	end = t ? min(pos + len, READ_ONCE(t->end)) : 0;
	for (i = t ? pos >> t->shift : 0; t && i << t->shift < end; i++) {
		if (i >= t->nr)
			WRITE_ONCE(t->lost, true);
		else if (!test_bit(i, t->written))
			set_bit(i, t->written);
		if (i >= t->nr)
			break;
	}
	rcu_read_unlock();
}
EXPORT_SYMBOL_GPL(ploop_track_wrote);

static struct ploop_track *tracker(struct ploop_device *plo)
{
	return rcu_dereference_protected(plo->track, lockdep_is_held(&plo->ctl_mutex));
}

/* End of what is used in the file of the top, bytes. */
static u64 file_end(struct ploop_device *plo)
{
	struct ploop_delta *top = plo->top;

	if (top->rdonly || !top->fmt->stackable)
		return round_up(top->io->size(top), ploop_cluster_bytes(plo));
	return ploop_iblk_pos(plo, ploop_alloc_head(top));
}

/**
 * ploop_track_stop() - end of tracking, whatever was not read
 * @plo: the device
 *
 * Context: process, sleeps; ctl_mutex.
 */
void ploop_track_stop(struct ploop_device *plo)
{
	struct ploop_track *t = tracker(plo);

	if (!t)
		return;
	rcu_assign_pointer(plo->track, NULL);
	synchronize_rcu();
	kvfree(t);
	plo->maintenance = PLOOP_MNTN_OFF;
	ploop_owner_drop(plo);
}

/**
 * ploop_track_start() - TRACK_INIT
 * @plo: the device, no maintenance
 * @ext: out: what is to be copied, bytes of the top's file
 *
 * Context: process, sleeps; ctl_mutex.
 * Return: 0; -EINVAL not running; -ENOMEM; -EIO ABORT.
 */
int ploop_track_start(struct ploop_device *plo, struct ploop_track_extent *ext)
{
	unsigned int shift = PAGE_SHIFT;
	struct ploop_track *t;
	u64 nr;
	int err;

	lockdep_assert_held(&plo->ctl_mutex);
	if (!test_bit(PLOOP_S_RUNNING, &plo->state))
		return -EINVAL;
	/* Twice, because freed clusters are not used again at once. */
	nr = 2ULL * plo->map->clusters + (file_end(plo) >> (plo->cluster_log + SECTOR_SHIFT));
	while (shift < plo->cluster_log + SECTOR_SHIFT &&
	       nr << (plo->cluster_log + SECTOR_SHIFT - shift) > MAX_NOTES)
		shift++;
	nr <<= plo->cluster_log + SECTOR_SHIFT - shift;
	t = kvzalloc(struct_size(t, written, BITS_TO_LONGS(nr)), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	t->shift = shift;
	t->nr = nr;
	plo->maintenance = PLOOP_MNTN_TRACK;
	rcu_assign_pointer(plo->track, t);
	ploop_owner_take(plo);
	err = plo->top->rdonly ? 0 : ploop_flush(plo);
	if (err)
		ploop_track_stop(plo);
	ext->start = 0;
	ext->end = file_end(plo);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_track_start);

/**
 * ploop_track_set_pos() - TRACK_SETPOS: the client is about to read up to here
 * @plo: the device
 * @pos: end of what it reads, bytes; 0: it starts over
 *
 * Context: process; ctl_mutex.
 * Return: 0; -EINVAL not tracking, or backwards.
 */
int ploop_track_set_pos(struct ploop_device *plo, u64 pos)
{
	struct ploop_track *t = tracker(plo);

	if (!t || (pos && pos < t->end))
		return -EINVAL;
	WRITE_ONCE(t->end, pos);
	if (!pos) {
		/* Who saw the old cursor has made its note after this. */
		synchronize_rcu();
		bitmap_zero(t->written, t->nr);
		t->next = 0;
		WRITE_ONCE(t->lost, false);
	}
	/* The cursor before the client's read: pairs with ploop_track_wrote(). */
	smp_mb();
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_track_set_pos);

static u64 find_note(struct ploop_track *t, u64 from)
{
	return find_next_bit(t->written, t->nr, from);
}

/* Takes notes of consecutive blocks away. */
static void take_notes(struct ploop_track *t, u64 from, struct ploop_track_extent *ext)
{
	u64 i = from;

	while (i < t->nr && test_and_clear_bit(i, t->written))
		i++;
	t->next = i;
	ext->start = from << t->shift;
	ext->end = i << t->shift;
	/* The notes before the client's read: pairs with ploop_track_wrote(). */
	smp_mb();
}

/**
 * ploop_track_read() - TRACK_READ: what has to be copied once more, or next
 * @plo: the device
 * @ext: out: bytes of the top's file
 *
 * Context: process, may sleep; ctl_mutex.
 * Return: 0; -EAGAIN nothing now; -ECONNABORTED notes were lost, and all are
 * gone: start over; -EINVAL not tracking.
 */
int ploop_track_read(struct ploop_device *plo, struct ploop_track_extent *ext)
{
	struct ploop_track *t = tracker(plo);
	u64 file, note;

	if (!t)
		return -EINVAL;
	if (READ_ONCE(t->lost)) {
		bitmap_zero(t->written, t->nr);
		return -ECONNABORTED;
	}
	file = file_end(plo);
	note = find_note(t, t->next);
	if (note >= t->nr && t->end >= file && t->next)
		note = find_note(t, 0);
	if (note < t->nr) {
		take_notes(t, note, ext);
		return 0;
	}
	t->next = 0;
	if (t->end >= file)
		return -EAGAIN;
	ext->start = t->end;
	ext->end = file;
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_track_read);

/**
 * ploop_track_finish() - TRACK_STOP
 * @plo: the device
 *
 * Context: process, sleeps; ctl_mutex.
 * Return: 0, also when not tracking; -EBUSY there are notes, and tracking goes
 * on; -ECONNABORTED notes were lost, tracking has ended.
 */
int ploop_track_finish(struct ploop_device *plo)
{
	struct ploop_track *t = tracker(plo);
	bool lost;

	if (!t)
		return 0;
	lost = READ_ONCE(t->lost);
	if (!lost && find_note(t, 0) < t->nr)
		return -EBUSY;
	ploop_track_stop(plo);
	return lost ? -ECONNABORTED : 0;
}
EXPORT_SYMBOL_IF_KUNIT(ploop_track_finish);

/**
 * ploop_track_lose() - an answer did not reach the client
 * @plo: the device
 *
 * Context: ctl_mutex.
 */
void ploop_track_lose(struct ploop_device *plo)
{
	struct ploop_track *t = tracker(plo);

	if (t)
		WRITE_ONCE(t->lost, true);
}
EXPORT_SYMBOL_IF_KUNIT(ploop_track_lose);
