// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nothing is repaired where the right way is not known: with an entry that
 * points nowhere the header may be wrong as well, and the image is left alone.
 * Else, after each of these steps, each of which is durable before the next one
 * begins, and at any moment within one of them, the disk holds:
 *
 *  1. the mark of use is written: the image as it was; nobody takes it without
 *     a look at its index
 *  2. the file is extended to all that the index names: the image as it was,
 *     with zeros where there was nothing
 *  3. clusters that share a place are copied, to places that no entry names:
 *     the image as it was, and what nobody sees
 *  4. the pages of the index that change are written: each entry is the old one
 *     or the new one, and leads to the same data; some clusters may share no
 *     more. Entries of clusters that the disk has not are gone, or not
 *  5. the file is cut behind the last cluster, and holes are punched in what no
 *     entry names: a good image. The index that is durable names none of it
 *  6. the mark of use is removed: a good image
 *
 * So a repair that was cut short is begun again, and finds less to do.
 */
#include "image_repair.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/falloc.h>

#include "copy.h"
#include "image_index.h"
#include "image_space.h"
#include "report.h"
#include "size.h"

#define BITS	8u

/*
 * A cluster of the disk that gets a place of its own.
 * from: where it is in the file
 * to: where it will be
 */
struct move {
	uint32_t cluster;
	uint32_t from;
	uint32_t to;
};

/**
 * struct repair - a repair that is under way
 * @img: the image
 * @space: its clusters
 * @seen: a bit for each cluster of the file that has an owner
 * @move: what moves, by cluster
 * @n: number of @move
 */
struct repair {
	struct ploop_image *img;
	struct ploop_space space;
	unsigned char *seen;
	struct move *move;
	size_t n;
};

static bool is_used(const unsigned char *used, uint64_t iblk)
{
	return used[iblk / BITS] >> iblk % BITS & 1;
}

static uint64_t in_file(const struct ploop_image *img)
{
	const uint64_t cluster = ploop_image_cluster_bytes(img);

	return ploop_round_up(img->file_size, cluster) / cluster;
}

/* what an extension occupies has no entry, but an owner */
static bool has_extension(const struct ploop_image *img)
{
	return le32toh(img->header.in_use) == PLOOP1_CLOSED_EXT;
}

/*
 * Calls fn for each run of clusters of the file that no entry names, up to the
 * last one that is named.
 */
static int each_gap(const struct ploop_image *img, const struct ploop_findings *findings,
		    int (*fn)(const struct ploop_image *img, uint64_t from, uint64_t to,
			      void *data),
		    void *data)
{
	uint64_t end = in_file(img);
	uint64_t from = img->first;
	int rc = 0;

	if (end > findings->usage.file_clusters)
		end = findings->usage.file_clusters;
	while (from < end && !rc) {
		uint64_t to = from;

		while (to < end && !is_used(findings->used, to))
			to++;
		if (to > from)
			rc = fn(img, from, to, data);
		from = to + 1;
	}
	return rc;
}

/* clusters of a run that are more than a hole; who cannot tell has none */
static int count_data(const struct ploop_image *img, uint64_t from, uint64_t to, void *data)
{
	const uint64_t cluster = ploop_image_cluster_bytes(img);
	uint64_t *lost = data;

	while (from < to) {
		const off_t found = lseek(img->fd, (off_t)(from * cluster), SEEK_DATA);

		if (found < 0 || (uint64_t)found >= to * cluster)
			return 0;
		(*lost)++;
		from = (uint64_t)found / cluster + 1;
	}
	return 0;
}

/**
 * ploop_image_examine() - find out all that is wrong with an image
 * @img: a loaded ploop1 image
 * @findings: out: what was found; freed by ploop_findings_free() when this succeeds
 *
 * Bad entries are named on stderr.
 *
 * Return: 0, whatever was found, or an exit code.
 */
int ploop_image_examine(const struct ploop_image *img, struct ploop_findings *findings)
{
	int rc;

	memset(findings, 0, sizeof(*findings));
	rc = ploop_image_survey(img, &findings->usage, &findings->used);
	if (rc)
		return rc;
	findings->false_empty = findings->usage.used &&
				le32toh(img->header.flags) & PLOOP1_FLAG_EMPTY;
	if (has_extension(img))
		return 0;
	if (in_file(img) > findings->usage.file_clusters)
		findings->tail = in_file(img) - findings->usage.file_clusters;
	findings->lost = findings->tail;
	return each_gap(img, findings, count_data, &findings->lost);
}

/**
 * ploop_findings_free() - free what ploop_image_examine() took
 * @findings: the findings
 */
void ploop_findings_free(struct ploop_findings *findings)
{
	free(findings->used);
	findings->used = NULL;
}

/**
 * ploop_findings_need_repair() - look whether a repair has anything to do
 * @img: the image
 * @findings: what was found in it
 *
 * Return: true when there is something, harmless or not.
 */
bool ploop_findings_need_repair(const struct ploop_image *img,
				const struct ploop_findings *findings)
{
	const struct ploop_image_usage *usage = &findings->usage;

	return usage->beyond_eof || usage->duplicates || usage->outside || usage->nowhere ||
	       findings->lost || findings->false_empty || ploop_image_is_dirty(img) ||
	       ploop_image_is_ragged(img);
}

/* the first owner keeps the place, every other one gets a new one */
static int plan_move(const struct ploop_image *img, uint32_t cluster, uint32_t entry, void *data)
{
	const uint32_t iblk = entry / ploop_index_unit(img);
	struct repair *repair = data;
	struct move *move = &repair->move[repair->n];
	bool fresh;

	if (cluster >= img->clusters)
		return 0;
	if (!is_used(repair->seen, iblk)) {
		repair->seen[iblk / BITS] |= (unsigned char)(1u << iblk % BITS);
		return 0;
	}
	repair->n++;
	move->cluster = cluster;
	move->from = iblk;
	return ploop_space_take(&repair->space, img, &move->to, &fresh);
}

static int copy_clusters(struct repair *repair)
{
	const uint64_t cluster = ploop_image_cluster_bytes(repair->img);
	struct ploop_progress progress;
	struct ploop_copy_file file;
	struct ploop_copy copy;
	int rc = 0;

	ploop_copy_file_open(&file, repair->img);
	ploop_progress_begin(&progress, "copying clusters", repair->n * cluster);
	ploop_copy_init(&copy, false, &progress);
	for (size_t i = 0; i < repair->n && !rc; i++) {
		const struct ploop_copy_piece piece = {
			.from = &file,
			.from_offset = repair->move[i].from * cluster,
			.to = &file,
			.to_offset = repair->move[i].to * cluster,
			.bytes = cluster,
			.fresh = repair->move[i].to >= repair->space.in_file,
		};

		rc = ploop_copy_add(&copy, &piece);
	}
	if (!rc)
		rc = ploop_copy_run(&copy);
	ploop_progress_clear();
	ploop_copy_free(&copy);
	ploop_copy_file_close(&file);
	return rc ? rc : ploop_image_sync(repair->img);
}

/* i: the next of the moves; they are in the order of the index */
static void change_window(const struct repair *repair, struct ploop_window *window, size_t *i)
{
	const struct ploop_image *img = repair->img;
	const uint64_t skip = PLOOP1_INDEX_SKIP;

	for (uint32_t word = window->base ? 0 : PLOOP1_INDEX_SKIP; word < window->words; word++) {
		const uint64_t cluster = window->base + word - skip;
		const struct move *move = &repair->move[*i];

		if (cluster >= img->clusters && ploop_window_get(window, word))
			ploop_window_set(window, word, 0);
		if (*i < repair->n && move->cluster == cluster) {
			ploop_window_set(window, word, move->to * ploop_index_unit(img));
			(*i)++;
		}
	}
}

static int change_index(const struct repair *repair)
{
	const uint64_t end = ploop_index_words(repair->img);
	struct ploop_window window;
	size_t i = 0;
	int rc;

	rc = ploop_window_init(&window);
	for (uint64_t base = 0; base < end && !rc; base += PLOOP_WINDOW_WORDS) {
		rc = ploop_window_read(&window, repair->img, base);
		if (rc)
			break;
		change_window(repair, &window, &i);
		rc = ploop_window_write(&window, repair->img);
	}
	ploop_window_free(&window);
	return rc ? rc : ploop_image_sync(repair->img);
}

/* steps 3 and 4 */
static int repair_index(struct ploop_image *img, struct ploop_findings *findings)
{
	const struct ploop_image_usage *usage = &findings->usage;
	struct repair repair = { .img = img };
	int rc = 0;

	ploop_space_begin(&repair.space, img, usage, findings->used, img->first);
	findings->used = NULL;
	/* extended: the file has all that is named */
	repair.seen = calloc(in_file(img) / BITS + 1, 1);
	/* one more: the plan is made one place ahead */
	repair.move = calloc(usage->duplicates + 1, sizeof(*repair.move));
	if (!repair.seen || !repair.move)
		rc = ploop_fail_memory();
	if (!rc && usage->duplicates)
		rc = ploop_index_walk(img, plan_move, &repair);
	if (!rc)
		rc = ploop_space_extend(&repair.space, img);
	if (!rc && repair.n)
		rc = copy_clusters(&repair);
	if (rc)
		ploop_space_trim(&repair.space, img);
	else
		rc = change_index(&repair);
	free(repair.move);
	free(repair.seen);
	ploop_space_free(&repair.space);
	return rc;
}

static int punch(const struct ploop_image *img, uint64_t from, uint64_t to, void *data)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const uint64_t cluster = ploop_image_cluster_bytes(img);

	(void)data;
	if (!fallocate(img->fd, mode, (off_t)(from * cluster), (off_t)((to - from) * cluster)))
		return 0;
	/* it stays free, and is reused */
	if (errno == EOPNOTSUPP)
		return 0;
	return ploop_fail_errno(PLOOP_EXIT_FALLOCATE, "cannot make a hole in %s at byte %" PRIu64,
				img->path, from * cluster);
}

/* step 5; durable with what follows */
static int trim(struct ploop_image *img)
{
	struct ploop_findings left;
	int rc;

	/* nothing is given away on the word of an index that is not in order */
	rc = ploop_image_map(img, &left.usage, &left.used);
	if (rc)
		return rc;
	rc = ploop_image_cut(img, &left.usage);
	if (!rc)
		rc = each_gap(img, &left, punch, NULL);
	ploop_findings_free(&left);
	return rc;
}

static int do_repair(struct ploop_image *img, struct ploop_findings *findings)
{
	const bool bad_index = findings->usage.duplicates || findings->usage.outside;
	int rc = 0;

	if (has_extension(img))
		ploop_note("%s: its extension, a list of changed blocks for backups, is dropped",
			   img->path);
	if (!ploop_image_is_dirty(img))
		rc = ploop_image_set_in_use(img, true, 0);
	else
		/* what we read may be somebody's last writes, and not durable */
		rc = ploop_image_sync(img);
	if (!rc)
		rc = ploop_image_extend(img, &findings->usage);
	if (!rc && bad_index)
		rc = repair_index(img, findings);
	return rc ? rc : trim(img);
}

static void say_done(const struct ploop_image *img, uint64_t clusters, const char *what)
{
	if (clusters)
		ploop_note("%s: %" PRIu64 " clusters %s", img->path, clusters, what);
}

/**
 * ploop_image_repair() - put right what was found
 * @img: a loaded ploop1 image, writable and locked exclusively
 * @findings: what ploop_image_examine() found in it; still to be freed
 *
 * An image that this cannot put right is not written to. A failure or a crash
 * leaves one that is as good as before.
 *
 * Return: 0 or an exit code.
 */
int ploop_image_repair(struct ploop_image *img, struct ploop_findings *findings)
{
	const struct ploop_image_usage usage = findings->usage;
	const bool dirty = ploop_image_is_dirty(img);
	const bool ragged = ploop_image_is_ragged(img);
	int rc;

	if (usage.nowhere)
		return ploop_fail(PLOOP_EXIT_FORMAT,
				  "%s cannot be repaired and was not changed: %" PRIu64
				  " index entries point to where no data can be; restore the image from a backup",
				  img->path, usage.nowhere);
	rc = do_repair(img, findings);
	/* who finds the mark looks at the image first */
	if (rc && dirty)
		return rc;
	rc = ploop_image_end_use(img, usage.used, rc);
	if (rc)
		return rc;
	ploop_note("%s: repaired%s%s", img->path, dirty ? ", mark of use removed" : "",
		   ragged ? ", file ends with a whole cluster" : "");
	say_done(img, usage.beyond_eof, "behind the end of the file filled with zeros");
	say_done(img, usage.duplicates, "that shared a place with another copied");
	say_done(img, usage.outside, "that the disk does not have taken out of the index");
	say_done(img, findings->lost, "of the file that had no entry given back");
	return 0;
}
