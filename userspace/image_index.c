// SPDX-License-Identifier: GPL-2.0-only
#include "image_index.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cancel.h"
#include "file.h"
#include "report.h"

#define PAGE_WORDS	(PLOOP1_PAGE / sizeof(uint32_t))
#define WINDOW_PAGES	(PLOOP_WINDOW_WORDS / PAGE_WORDS)

/**
 * ploop_index_words() - size of the index
 * @img: a loaded ploop1 image
 *
 * Return: words of the file that header and index take.
 */
uint64_t ploop_index_words(const struct ploop_image *img)
{
	return img->first * ploop_image_cluster_bytes(img) / sizeof(uint32_t);
}

/**
 * ploop_index_unit() - what an entry counts
 * @img: a loaded ploop1 image
 *
 * Return: the difference between the entries of neighbours in the file.
 */
uint32_t ploop_index_unit(const struct ploop_image *img)
{
	return img->version == PLOOP_IMAGE_V1 ? img->cluster_sectors : 1;
}

/**
 * ploop_window_init() - make a window
 * @window: out: the window; freed by ploop_window_free() also when this fails
 *
 * Return: 0 or PLOOP_EXIT_MEMORY.
 */
int ploop_window_init(struct ploop_window *window)
{
	memset(window, 0, sizeof(*window));
	/* of whole pages, for those who read the file directly */
	window->word = aligned_alloc(PLOOP1_PAGE, PLOOP_WINDOW_WORDS * sizeof(*window->word));
	window->dirty = calloc(WINDOW_PAGES, 1);
	return window->word && window->dirty ? 0 : ploop_fail_memory();
}

/**
 * ploop_window_free() - free what ploop_window_init() took
 * @window: the window
 */
void ploop_window_free(struct ploop_window *window)
{
	free(window->word);
	free(window->dirty);
	memset(window, 0, sizeof(*window));
}

/**
 * ploop_window_read() - fill a window
 * @window: the window; what was not written is forgotten
 * @img: a loaded ploop1 image
 * @base: number of the first word in the file, a multiple of PLOOP_WINDOW_WORDS
 *
 * Return: 0 or an exit code.
 */
int ploop_window_read(struct ploop_window *window, const struct ploop_image *img, uint64_t base)
{
	const uint64_t all = ploop_index_words(img);
	uint64_t words = all > base ? all - base : 0;

	if (words > PLOOP_WINDOW_WORDS)
		words = PLOOP_WINDOW_WORDS;
	window->base = base;
	window->words = (uint32_t)words;
	memset(window->dirty, 0, WINDOW_PAGES);
	memset(window->word + words, 0, (PLOOP_WINDOW_WORDS - words) * sizeof(*window->word));
	if (words && ploop_file_read(img->fd, window->word, words * sizeof(*window->word),
				     base * sizeof(*window->word)))
		return ploop_fail_errno(PLOOP_EXIT_READ,
					"cannot read the index of %s at byte %" PRIu64, img->path,
					base * sizeof(*window->word));
	return 0;
}

/**
 * ploop_window_get() - read an entry
 * @window: the window
 * @i: word of the window, not one of the header
 *
 * Return: the entry; 0 for none.
 */
uint32_t ploop_window_get(const struct ploop_window *window, uint32_t i)
{
	return le32toh(window->word[i]);
}

/**
 * ploop_window_set() - change an entry
 * @window: the window
 * @i: word of the window that the image has, not one of the header
 * @entry: its new value
 */
void ploop_window_set(struct ploop_window *window, uint32_t i, uint32_t entry)
{
	window->word[i] = htole32(entry);
	window->dirty[i / PAGE_WORDS] = 1;
}

static int write_pages(struct ploop_window *window, const struct ploop_image *img, uint32_t page,
		       uint32_t n)
{
	const uint64_t offset = (window->base / PAGE_WORDS + page) * PLOOP1_PAGE;

	/* these bytes of the first page are not ours: they stay what the header is */
	if (!offset)
		memcpy(window->word, &img->header, sizeof(img->header));
	if (ploop_file_write(img->fd, window->word + page * PAGE_WORDS, n * PLOOP1_PAGE, offset))
		return ploop_fail_errno(PLOOP_EXIT_WRITE,
					"cannot write the index of %s at byte %" PRIu64,
					img->path, offset);
	memset(window->dirty + page, 0, n);
	return 0;
}

/**
 * ploop_window_write() - write the pages that were changed
 * @window: the window
 * @img: the image it was read from
 *
 * What the entries point to must be durable already. The pages are not yet
 * durable when this returns.
 *
 * Return: 0 or an exit code.
 */
int ploop_window_write(struct ploop_window *window, const struct ploop_image *img)
{
	uint32_t page = 0;

	while (page < WINDOW_PAGES) {
		uint32_t n = 0;
		int rc;

		while (page + n < WINDOW_PAGES && window->dirty[page + n])
			n++;
		rc = n ? write_pages(window, img, page, n) : 0;
		if (rc)
			return rc;
		page += n + 1;
	}
	return 0;
}

static int walk_window(const struct ploop_window *window, const struct ploop_image *img,
		       ploop_index_fn fn, void *data)
{
	int rc = 0;

	for (uint32_t i = window->base ? 0 : PLOOP1_INDEX_SKIP; i < window->words && !rc; i++)
		if (window->word[i])
			rc = fn(img, (uint32_t)(window->base + i - PLOOP1_INDEX_SKIP),
				ploop_window_get(window, i), data);
	return rc;
}

/**
 * ploop_index_walk() - call a function for every entry that is not 0
 * @img: a loaded ploop1 image
 * @fn: the function
 * @data: passed to @fn
 *
 * Return: 0, an exit code, or what @fn returned.
 */
int ploop_index_walk(const struct ploop_image *img, ploop_index_fn fn, void *data)
{
	const uint64_t end = ploop_index_words(img);
	struct ploop_window window;
	uint64_t base;
	int rc;

	rc = ploop_window_init(&window);
	for (base = 0; base < end && !rc; base += PLOOP_WINDOW_WORDS) {
		if (ploop_cancelled())
			rc = ploop_fail_cancelled();
		else
			rc = ploop_window_read(&window, img, base);
		if (!rc)
			rc = walk_window(&window, img, fn, data);
	}
	ploop_window_free(&window);
	return rc;
}
