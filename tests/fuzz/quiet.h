/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the fuzzers have in common.
 */
#ifndef FUZZ_QUIET_H
#define FUZZ_QUIET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct fuzz_path - name of a file
 * @text: the name
 */
struct fuzz_path {
	char text[64];
};

struct fuzz_path fuzz_path(char name);
void fuzz_must(bool truth, const char *what);

/* libFuzzer's, and what it calls */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* FUZZ_QUIET_H */
